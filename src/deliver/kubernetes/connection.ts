import { KubeConfig } from '@kubernetes/client-node'
import { Agent } from 'node:https'
import type { RequestOptions } from 'node:https'
import { CertgenError } from '../../errors.ts'

/** Which cluster, and as whom; what is left out is found as kubectl finds it. */
export interface ConnectionOptions {
  /** A kubeconfig file. */
  readonly kubeconfig?: string
  readonly context?: string
}

/** An API server, and how certgen makes itself known to it. */
export interface Connection {
  readonly server: URL
  /** For the next call. `fresh`: the last ones were refused, so they are to be had anew. */
  readonly credentials: (fresh: boolean) => Promise<Credentials>
}

export type Credentials = Pick<RequestOptions, 'agent' | 'headers' | 'auth'>

/** Milliseconds. A service account's token is replaced in its file long before it ends; client-go looks as often. */
const credentialsAge = 60_000
/** The API server has other clients. */
const connectionsAtOnce = 8

/**
 * The cluster of a kubeconfig file: the one named, else KUBECONFIG, else ~/.kube/config; else the cluster that certgen
 * runs in. null when there is none of them. Throws CertgenError `unreadable` for a file that cannot be used, `usage` for
 * a context that is not in it.
 */
export function loadConnection(options: ConnectionOptions): Connection | null {
  const config = loadConfig(options)
  const cluster = config.getCurrentCluster()
  if (!cluster || cluster.server === nowhere) return null
  const server = new URL(cluster.server)
  if (server.protocol !== 'https:') {
    throw new CertgenError('unreadable', `the API server ${cluster.server} is not reached by https`, {
      hints: ['private keys are sent to it: give its https address in the kubeconfig file'],
    })
  }
  let current: { readonly credentials: Credentials; readonly since: number } | null = null
  const credentials = async (fresh: boolean): Promise<Credentials> => {
    if (fresh || !current || performance.now() - current.since > credentialsAge) {
      current = { credentials: await obtain(fresh ? loadConfig(options) : config), since: performance.now() }
    }
    return current.credentials
  }
  return { server, credentials }
}

/** What KubeConfig gives when there is no configuration at all. */
const nowhere = 'http://localhost:8080'

function loadConfig({ kubeconfig, context }: ConnectionOptions): KubeConfig {
  const config = new KubeConfig()
  const source = kubeconfig ?? process.env['KUBECONFIG'] ?? '~/.kube/config'
  try {
    if (kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(kubeconfig)
  } catch (error) {
    throw new CertgenError('unreadable', `cannot read the kubeconfig file ${source}: ${messageOf(error)}`, {
      cause: error,
      hints: ['name another one with --kubeconfig FILE, or mend it: kubectl config view shows what is in it'],
    })
  }
  if (context !== undefined) config.setCurrentContext(context)
  const current = config.getCurrentContext()
  if (config.getContextObject(current)) return config
  const known = config.getContexts().map(({ name }) => name)
  throw new CertgenError('usage', `there is no context ${JSON.stringify(current)} in the kubeconfig file ${source}`, {
    hints: [known.length === 0 ? 'it has none at all' : `it has ${known.join(', ')}`],
  })
}

/** One agent for all calls that are made with them, so that these share connections. */
async function obtain(config: KubeConfig): Promise<Credentials> {
  const options: RequestOptions = {}
  try {
    await config.applyToHTTPSOptions(options)
  } catch (error) {
    throw new CertgenError('unreadable', `cannot get credentials for the cluster: ${messageOf(error)}`, {
      cause: error,
      hints: ['see whether kubectl can, with the same kubeconfig file and context'],
    })
  }
  const { headers = {}, auth, ca, cert, key, rejectUnauthorized = true, servername } = options
  const shared = { ca, cert, key, servername, rejectUnauthorized, keepAlive: true, maxSockets: connectionsAtOnce }
  // What goes through a proxy is connected by an agent of its own kind.
  const throughProxy = config.getCurrentCluster()?.proxyUrl !== undefined
  const agent = throughProxy && options.agent ? options.agent : new Agent(shared)
  return { headers, agent, ...(typeof auth === 'string' ? { auth } : {}) }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim()
}
