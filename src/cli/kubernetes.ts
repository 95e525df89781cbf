import type { ActionReport } from '../deliver/delivery.ts'
import { CertgenError } from '../errors.ts'
import type { Fleet } from './fleet.ts'
import type { Output } from './output.ts'
import type { Asked, RotateOptions } from './rotation-request.ts'

/** What a run does in a cluster besides publishing leaves and bundles. */

/** Makes the random secrets of the configuration that are missing, and those that --rotate-random names. */
export async function makeRandom(
  { config, openCluster }: Fleet,
  { rotateRandom: renewed = [], dryRun = false }: RotateOptions,
  { scope }: Asked,
  now: Date,
): Promise<ActionReport[]> {
  const secrets = config?.random ?? []
  if (scope !== 'fleet' || secrets.length === 0) return []
  const cluster = await openCluster()
  return cluster.makeRandom(secrets, { renewed, dryRun, now })
}

/** Before anything is done. Throws CertgenError `usage`. */
export function checkRandomNames({ config }: Fleet, { rotateRandom = [] }: RotateOptions): void {
  const known = (config?.random ?? []).map(({ name }) => name)
  const unknown = rotateRandom.find((name) => !known.includes(name))
  if (unknown === undefined) return
  throw new CertgenError('usage', `there is no random secret ${JSON.stringify(unknown)} in the configuration`, {
    hints: [known.length === 0 ? 'it has none: see random: in certgen config schema' : `it has ${known.join(', ')}`],
  })
}

/** Before anything is done. Throws CertgenError `usage`. */
export function checkRender({ render, json, dryRun, wait }: RotateOptions): void {
  const other = json ? '--json' : dryRun ? '--dry-run' : wait ? '--wait' : null
  if (!render || other === null) return
  throw new CertgenError('usage', `--render and ${other} exclude each other`, {
    hints: ['--render prints manifests on standard output, and writes nothing to the cluster'],
  })
}

export async function printManifests({ openCluster }: Fleet, output: Output): Promise<void> {
  const { manifests, blind } = (await openCluster()).rendered()
  if (blind) output.warn('there is no cluster to read: this is a first set, and must not be applied over another one')
  if (manifests === '') output.warn('there is nothing to apply: the cluster has it all')
  else if (process.stdout.isTTY) output.warn('private keys are in what follows, and stay on this terminal')
  output.result(manifests.trimEnd())
}
