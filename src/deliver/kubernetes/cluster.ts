import { CertgenError } from '../../errors.ts'
import type { AuthorityLocation, AuthorityStore } from '../../store/authority-store.ts'
import type { BundleStore } from '../../store/bundle-store.ts'
import type { TargetStore } from '../../store/target-store.ts'
import type { Restarter } from '../action.ts'
import type { ActionReport } from '../delivery.ts'
import { defaultPatience, openApi } from './api.ts'
import type { Api, Patience } from './api.ts'
import { bundleHolder } from './bundle-holder.ts'
import type { ConnectionOptions } from './connection.ts'
import { makeRandomSecrets } from './random-secret.ts'
import type { RandomOptions, RandomSecret } from './random-secret.ts'
import { refOf, resources } from './resource.ts'
import { tryRestart } from './restart.ts'
import { secretAuthority } from './secret-authority.ts'
import { SecretReader } from './secret-reader.ts'
import { secretTarget } from './secret-target.ts'
import { parseWorkload } from './workload.ts'

export interface ClusterOptions extends ConnectionOptions {
  readonly patience?: Patience
  /** Write nothing to the cluster, but keep what would be written. */
  readonly render?: boolean
}

/** A cluster as a place for authorities, targets and bundles. Nothing is asked of it before it is needed. */
export interface Cluster extends Restarter {
  readonly api: () => Promise<Api>
  /** `name`s are NAMESPACE/NAME here. */
  readonly target: (name: string) => TargetStore
  readonly authority: (name: string, opening: Omit<AuthorityLocation, 'directory'>) => AuthorityStore
  /** KIND/NAME, or configmap/NAMESPACE/NAME. */
  readonly bundle: (place: string) => BundleStore
  readonly makeRandom: (secrets: readonly RandomSecret[], options: RandomOptions) => Promise<ActionReport[]>
  /** What would have been written; nothing unless it was asked to be rendered. */
  readonly rendered: () => Rendered
}

export interface Rendered {
  /** A YAML stream; empty when nothing would have been written. */
  readonly manifests: string
  /** There was no cluster to read. */
  readonly blind: boolean
}

export function openCluster(options: ClusterOptions): Cluster {
  let opened: Promise<Api> | null = null
  let rendered = (): Rendered => ({ manifests: '', blind: false })
  const api = (): Promise<Api> => {
    opened ??= connect(options).then(async (cluster) => {
      if (!options.render) return cluster ?? nowhere()
      const { renderingApi } = await import('./rendering.ts')
      const rendering = renderingApi(cluster)
      rendered = () => ({ manifests: rendering.manifests(), blind: cluster === null })
      return rendering
    })
    return opened
  }
  const reader = new SecretReader(api)
  return {
    api,
    target: (name) => secretTarget(refOf(resources.secret, name), api, reader),
    authority: (name, opening) => secretAuthority(refOf(resources.secret, name), api, opening),
    bundle: (place) => bundleHolder(place, api),
    makeRandom: async (secrets, random) => makeRandomSecrets(await api(), secrets, random),
    restart: (workload, now, change) => tryRestart(api, parseWorkload(workload), now, change),
    rendered: () => rendered(),
  }
}

/** null when no cluster is configured. */
async function connect({ patience = defaultPatience, ...options }: ClusterOptions): Promise<Api | null> {
  // What reads a kubeconfig file takes longer to load than a run with nothing to do takes in all.
  const { loadConnection } = await import('./connection.ts')
  const connection = loadConnection(options)
  return connection && openApi(connection, patience)
}

function nowhere(): never {
  throw new CertgenError('unreadable', 'there is no cluster: no kubeconfig file, and no service account', {
    hints: ['name a kubeconfig file with --kubeconfig FILE or KUBECONFIG', 'in a pod: mount its service account token'],
  })
}
