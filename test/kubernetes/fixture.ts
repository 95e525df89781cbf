import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import type { Cluster } from '../../src/deliver/kubernetes/cluster.ts'
import { certgen, temporaryDirectory } from '../program.ts'
import type { JsonReport, Outcome } from '../program.ts'
import type { Service } from '../rotation/fleet.ts'
import { ApiServer } from './server/api-server.ts'

/** The Envoy Gateway example in a cluster of its own, with the rights of its RBAC manifest and no others. */

export const namespace = 'envoy-gateway-system'
export const leaves = ['envoy', 'envoy-gateway', 'envoy-rate-limit'] as const
export type Leaf = (typeof leaves)[number]
export const authority = 'envoy-gateway-authority'
export const webhook = `envoy-gateway-topology-injector.${namespace}`
export const serviceAccount = `system:serviceaccount:${namespace}:certgen`
export const rbac = readFileSync('examples/kubernetes/envoy-gateway-rbac.yaml', 'utf8')
export const variables = { NAMESPACE: namespace, CLUSTER_DOMAIN: 'cluster.local' }
export const exampleConfig = resolve('examples/envoy-gateway.yaml')

/** What is not answered is tried again at once: nobody else has to be spared. */
export const impatient = { timeout: 30_000, attempts: 3, backoff: 1 }

export interface TestCluster {
  server: ApiServer
  /** With the rights of the example. */
  readonly kubeconfig: string
  /** Where runs are started. */
  readonly directory: string
}

/** A server for the tests of a suite, with everything in it that the example finds in a cluster. */
export function useCluster(): TestCluster {
  const directory = temporaryDirectory()
  const cluster = { kubeconfig: join(directory, 'kubeconfig'), directory } as TestCluster
  beforeAll(async () => {
    cluster.server = await startCluster(cluster.kubeconfig)
  })
  afterAll(() => cluster.server.close())
  return cluster
}

async function startCluster(kubeconfig: string): Promise<ApiServer> {
  const server = await ApiServer.start()
  server.apply(rbac, rateLimit, injector)
  server.kubeconfig(kubeconfig, serviceAccount)
  return server
}

export const rateLimit = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'envoy-ratelimit', namespace },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'envoy-ratelimit' } },
    template: {
      metadata: { labels: { app: 'envoy-ratelimit' } },
      spec: { containers: [{ name: 'ratelimit', image: 'ratelimit', env: [{ name: 'USE_STATSD', value: 'false' }] }] },
    },
  },
}

export const injector = {
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind: 'MutatingWebhookConfiguration',
  metadata: { name: webhook },
  webhooks: ['topology.webhook.gateway', 'other.webhook.gateway'].map((name) => {
    const service = { name: 'envoy-gateway', namespace, path: '/inject-pod-topology', port: 9443 }
    const clientConfig = { service }
    return { name, clientConfig, sideEffects: 'None', admissionReviewVersions: ['v1'], failurePolicy: 'Ignore' }
  }),
}

/** The built program on the example. */
export function runExample(cluster: TestCluster, args: readonly string[] = []): Promise<Outcome> {
  const { kubeconfig, directory } = cluster
  return certgen(['rotate', '--config', exampleConfig, '--kubeconfig', kubeconfig, ...args], {
    cwd: directory,
    env: variables,
  })
}

/** A run that must succeed, as its JSON report. */
export async function rotateExample(cluster: TestCluster, args: readonly string[] = []): Promise<JsonReport> {
  const { code, stdout, stderr } = await runExample(cluster, [...args, '--json'])
  if (code !== 0) throw new Error(`certgen ${args.join(' ')} exited with ${String(code)}: ${stderr}`)
  return JSON.parse(stdout) as JsonReport
}

/** The cluster as certgen's own code sees it, without much patience. */
export function openImpatiently(kubeconfig: string): Cluster {
  return openCluster({ kubeconfig, patience: impatient })
}

export function dataOf(server: ApiServer, name: string, of = namespace): Readonly<Record<string, Buffer>> {
  const data = (server.get('secrets', name, of)?.['data'] ?? {}) as Record<string, string>
  return Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text, 'base64')]))
}

/** What a pod loads that mounts the Secret now. */
export function loadSecret(server: ApiServer, name: string, of = namespace): Service {
  const { 'ca.crt': bundle, 'tls.crt': chain, 'tls.key': key } = dataOf(server, name, of)
  if (!bundle || !chain || !key) throw new Error(`${name} is not whole`)
  return { identity: { chain, key }, bundle }
}

export type Services = Readonly<Record<Leaf, Service>>

export function loadAll(server: ApiServer): Services {
  return Object.fromEntries(leaves.map((name) => [name, loadSecret(server, name)])) as Services
}

/** The caBundles of the webhooks, PEM. */
export function caBundles(server: ApiServer): string[] {
  const { webhooks } = server.get('mutatingwebhookconfigurations', webhook) as unknown as {
    webhooks: { clientConfig: { caBundle?: string } }[]
  }
  return webhooks.map(({ clientConfig: { caBundle = '' } }) => Buffer.from(caBundle, 'base64').toString())
}

export function blocksOf(pem: Buffer | string | undefined): string[] {
  return (pem ?? '').toString().match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
}

export function restartedAt(server: ApiServer): string | undefined {
  const { spec } = server.get('deployments', 'envoy-ratelimit', namespace) as unknown as {
    spec: { template: { metadata: { annotations?: Record<string, string> } } }
  }
  return spec.template.metadata.annotations?.['kubectl.kubernetes.io/restartedAt']
}
