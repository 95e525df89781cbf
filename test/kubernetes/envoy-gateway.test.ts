import { X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { failingCells } from '../rotation/fleet.ts'
import {
  authority,
  blocksOf,
  caBundles,
  dataOf,
  leaves,
  loadAll,
  namespace,
  restartedAt,
  rotateExample,
  useCluster,
} from './fixture.ts'
import type { Leaf, Services } from './fixture.ts'

// Issue 6, shown by 1 and 4: the set of Envoy Gateway, with the rights that the example ships.
describe('certgen on the Envoy Gateway example', () => {
  const cluster = useCluster()
  /** What the pods run with that were started after each change. */
  const generations: Services[] = []
  let hmac: Buffer | undefined

  const versions = (): string[] =>
    cluster.server
      .all('secrets', namespace)
      .map(({ metadata: { name, resourceVersion } }) => `${name} ${resourceVersion}`)
  /** What was written after a call, by names. */
  const writesAfter = (number: number): string[] =>
    cluster.server
      .callsAfter(number)
      .filter(({ verb, dryRun }) => !dryRun && ['create', 'patch', 'update', 'delete'].includes(verb))
      .map(({ verb, name }) => `${verb} ${name ?? ''}`)

  it('makes the set on its first run: the authority, then the caBundles, three TLS Secrets and the HMAC secret', async () => {
    const report = await rotateExample(cluster)
    expect(report).toMatchObject({
      changed: true,
      authority: { changed: true, path: `secret/${namespace}/${authority}` },
      leaves: leaves.map((name) => ({ name, target: `secret/${namespace}/${name}`, reason: 'missing', changed: true })),
      bundles: [{ changed: true, detail: null }],
      actions: [{ kind: 'secret', subject: `${namespace}/envoy-oidc-hmac`, ok: true, detail: 'made' }],
    })
    const [first, second, ...rest] = writesAfter(0)
    expect([first, second]).toEqual([`create ${authority}`, `patch envoy-gateway-topology-injector.${namespace}`])
    expect(rest.slice(0, 3).sort()).toEqual(leaves.map((name) => `create ${name}`))
    expect(rest.slice(3)).toEqual(['create envoy-oidc-hmac'])
    const names = leaves.map((name) => new X509Certificate(dataOf(cluster.server, name)['tls.crt']!).subjectAltName)
    const service = (name: string): string =>
      ['', `.${namespace}`, `.${namespace}.svc`, `.${namespace}.svc.cluster.local`]
        .map((suffix) => `DNS:${name}${suffix}`)
        .join(', ')
    expect(names).toEqual([`DNS:*.${namespace}`, service('envoy-gateway'), service('envoy-ratelimit')])
    for (const name of leaves) {
      expect(cluster.server.get('secrets', name, namespace)).toMatchObject({
        type: 'kubernetes.io/tls',
        metadata: { labels: { 'app.kubernetes.io/managed-by': 'certgen' } },
      })
      expect(Object.keys(dataOf(cluster.server, name)).sort()).toEqual(['ca.crt', 'tls.crt', 'tls.key'])
    }
    hmac = dataOf(cluster.server, 'envoy-oidc-hmac')['hmac-secret']
    expect(hmac).toHaveLength(32)
    const bundle = dataOf(cluster.server, 'envoy')['ca.crt']!.toString()
    expect(caBundles(cluster.server)).toEqual([bundle, bundle])
    generations.push(loadAll(cluster.server))
  })

  it('restarts nothing on the first run: pods that waited for the Secret start with it', () => {
    expect(restartedAt(cluster.server)).toBeUndefined()
  })

  it('keeps the key of the authority in its own Secret alone, and all keys out of annotations (I3)', () => {
    const keys = [authority, ...leaves].map((name) => dataOf(cluster.server, name))
    const authorityKey = keys[0]!['ca.key']!.toString('base64')
    expect(keys[0]!['ca.key']!.toString()).toContain('PRIVATE KEY')
    for (const secret of cluster.server.all('secrets', namespace)) {
      expect(JSON.stringify(secret.metadata)).not.toContain('PRIVATE KEY')
      if (secret.metadata.name !== authority) expect(JSON.stringify(secret)).not.toContain(authorityKey)
    }
  })

  it('writes nothing on its second run (I5)', async () => {
    const [before, calls] = [versions(), cluster.server.calls.length]
    expect(await rotateExample(cluster)).toMatchObject({ changed: false, actions: [], bundles: [{ changed: false }] })
    expect(versions()).toEqual(before)
    expect(writesAfter(calls)).toEqual([])
  })

  it('rotates with --overwrite: bundles, cross-certificates, the HMAC secret kept, Rate Limit restarted once', async () => {
    const calls = cluster.server.calls.length
    const report = await rotateExample(cluster, ['--overwrite'])
    expect(report).toMatchObject({
      changed: true,
      strategy: 'cross-sign',
      authority: { changed: true, crossSigned: true },
      leaves: leaves.map((name) => ({ name, reason: 'overwrite', changed: true })),
      actions: [{ kind: 'restart', subject: `deployment/${namespace}/envoy-ratelimit`, ok: true, detail: null }],
    })
    generations.push(loadAll(cluster.server))
    const [old, current] = generations.map((services) => blocksOf(services.envoy.bundle))
    expect(current).toEqual([current![0], old![0]])
    for (const name of leaves) {
      expect(blocksOf(dataOf(cluster.server, name)['ca.crt'])).toEqual(current)
      expect(blocksOf(dataOf(cluster.server, name)['tls.crt'])).toHaveLength(2)
    }
    expect(caBundles(cluster.server).map(blocksOf)).toEqual([current, current])
    expect(dataOf(cluster.server, 'envoy-oidc-hmac')['hmac-secret']).toEqual(hmac)
    expect(restartedAt(cluster.server)).toBeDefined()
    // The authority first, then the bundles, then the leaves and the restart; what was left to do is then settled.
    const [first, second, ...rest] = writesAfter(calls)
    expect([first, second]).toEqual([`patch ${authority}`, `patch envoy-gateway-topology-injector.${namespace}`])
    expect(rest.slice(0, 3).sort()).toEqual(leaves.map((name) => `patch ${name}`))
    expect(rest.slice(3)).toEqual(['patch envoy-ratelimit', 'patch envoy-rate-limit'])
  })

  it('does not restart again with the run after that', async () => {
    const before = restartedAt(cluster.server)
    expect(await rotateExample(cluster)).toMatchObject({ changed: false, actions: [] })
    expect(restartedAt(cluster.server)).toBe(before)
  })

  it('makes the HMAC secret anew only when that is asked for by name', async () => {
    const report = await rotateExample(cluster, ['--rotate-random', 'oidc-hmac'])
    expect(report).toMatchObject({ changed: true, actions: [{ kind: 'secret', ok: true, detail: 'made anew' }] })
    const { 'hmac-secret': now } = dataOf(cluster.server, 'envoy-oidc-hmac')
    expect(now).toHaveLength(32)
    expect(now).not.toEqual(hmac)
  })

  it('breaks no handshake between old and new pods of any two services, in three generations (I2)', async () => {
    await rotateExample(cluster, ['--overwrite'])
    generations.push(loadAll(cluster.server))
    let handshakes = 0
    const failing: string[] = []
    for (const [index, after] of generations.slice(1).entries()) {
      const before = generations[index]!
      for (const [server, client] of leaves.flatMap((one) => leaves.map((other): [Leaf, Leaf] => [one, other]))) {
        const ofServer = { old: before[server], new: after[server] }
        failing.push(...(await failingCells(ofServer, { old: before[client], new: after[client] })))
        handshakes += 4
      }
    }
    console.log(`old and new Secret contents: ${handshakes} mutual handshakes, ${failing.length} failed`)
    expect(failing).toEqual([])
    expect(handshakes).toBe(2 * 9 * 4)
  })
})
