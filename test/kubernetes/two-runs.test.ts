import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { failure } from '../failure.ts'
import { Issuer } from '../reload/issuer.ts'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import type { Cluster } from '../../src/deliver/kubernetes/cluster.ts'
import { authority, blocksOf, dataOf, injector, loadAll, namespace, runExample, useCluster } from './fixture.ts'
import { expectConverged, expectRestarted, failingMeetings } from './converged.ts'
import { runInProcess } from './in-process.ts'
import { admin } from './server/api-server.ts'

// Issue 6, shown by 3. No lock keeps two runs in a cluster apart: whoever writes the authority first wins, and the other
// joins it.

describe('two rotations in a cluster at once', () => {
  const cluster = useCluster()
  let first: Cluster
  let second: Cluster
  /** How many calls a whole rotation makes. */
  let calls = 0

  beforeAll(async () => {
    first = openCluster({ kubeconfig: cluster.kubeconfig })
    second = openCluster({ kubeconfig: cluster.server.kubeconfig(join(cluster.directory, 'admin')) })
    await runInProcess(first, 'ensure')
    const before = cluster.server.calls.length
    await runInProcess(first, 'overwrite')
    calls = cluster.server.calls.length - before
  })
  afterEach(() => {
    cluster.server.fault = () => null
  })

  /** Runs `meanwhile` before the n-th call of the first cluster's user. */
  const interrupt = (n: number, meanwhile: () => Promise<unknown>): void => {
    let count = 0
    cluster.server.fault = ({ user }) => {
      if (user === admin || ++count !== n) return null
      return {
        first: async () => {
          await meanwhile()
        },
      }
    }
  }
  const root = (): string => dataOf(cluster.server, authority)['ca.crt']!.toString()

  it('make one authority, wherever in one of them the whole of the other comes in between', async () => {
    const outcomes = { one: 0, two: 0 }
    for (let point = 1; point <= calls; point++) {
      const [before, old] = [loadAll(cluster.server), root()]
      let between = ''
      interrupt(point, async () => {
        expect((await runInProcess(second, 'overwrite')).report.changed).toBe(true)
        between = root()
      })
      const { report } = await runInProcess(first, 'overwrite')
      expect(between, `call ${point}`).not.toBe('')
      // Where the other has done it all, this one says why it has changed nothing.
      const joined = report.warnings.some(({ code }) => code === 'joined')
      expect(report.changed || joined, `call ${point}`).toBe(true)
      expectConverged(cluster.server)
      const [, carriedOver] = blocksOf(dataOf(cluster.server, 'envoy')['ca.crt'])
      // Where one had written all its leaves before the other began, there were two rotations, one after the other.
      const rotations = carriedOver === blocksOf(old)[0] ? 'one' : 'two'
      outcomes[rotations]++
      if (rotations === 'two') continue
      expectRestarted(cluster.server)
      expect(await failingMeetings(before, loadAll(cluster.server)), `call ${point}`).toEqual([])
    }
    console.log(
      `one run within another at ${calls} calls: ${outcomes.one} times one rotation, ${outcomes.two} times two`,
    )
    expect(outcomes.one).toBeGreaterThan(calls / 2)
  })

  it('report what they have written also where the other finished it', async () => {
    const authorityWrite = cluster.server.calls.length
    interrupt(1, () => Promise.resolve())
    await runInProcess(first, 'overwrite')
    const position = cluster.server
      .callsAfter(authorityWrite)
      .findIndex(({ verb, name, dryRun }) => verb === 'patch' && name === authority && !dryRun)
    // The first has written the authority, and the second all the leaves.
    interrupt(position + 2, () => runInProcess(second, 'overwrite'))
    const { report } = await runInProcess(first, 'overwrite')
    expect(report).toMatchObject({ changed: true, authority: { changed: true, crossSigned: true } })
  })

  it('keeps nothing of an authority that one of them distrusts', async () => {
    const leaked = root()
    for (const point of [1, 4, 8, 12]) {
      const before = root()
      // Halfway, the other could only finish what breaks peers, for which it was not given consent.
      interrupt(point, () =>
        runInProcess(second, 'overwrite').catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'refused' })
        }),
      )
      await runInProcess(first, 'overwrite', { distrustPrevious: true })
      expectConverged(cluster.server)
      for (const bundle of Object.values(loadAll(cluster.server)).map((service) => service.bundle.toString())) {
        expect(blocksOf(bundle)).not.toContain(blocksOf(leaked)[0])
        expect(blocksOf(bundle)).not.toContain(blocksOf(before)[0])
      }
    }
  })

  it('give up with a word when somebody changes a Secret before every write', async () => {
    cluster.server.fault = ({ verb, name, dryRun, user }) => {
      if (user === admin || verb !== 'patch' || name !== 'envoy' || dryRun) return null
      const longer = Buffer.concat([dataOf(cluster.server, 'envoy')['ca.crt']!, Buffer.from('\n')]).toString('base64')
      return { first: () => void cluster.server.change('secrets', 'envoy', namespace, { data: { 'ca.crt': longer } }) }
    }
    const error = await failure(runInProcess(first, 'overwrite'))
    expect(error).toMatchObject({
      code: 'conflict',
      message: `secret/${namespace}/envoy was changed by another run`,
      hints: [expect.stringContaining('run certgen again')],
    })
    cluster.server.fault = () => null
    await runInProcess(first, 'overwrite')
    expectConverged(cluster.server)
  })

  it('do not take for their own what another program puts in place of it', async () => {
    const issuer = new Issuer()
    const { ca, cert, key } = await issuer.set(await issuer.authority())
    const data = { 'ca.crt': ca, 'tls.crt': cert, 'tls.key': key }
    const encoded = Object.fromEntries(Object.entries(data).map(([name, octets]) => [name, octets.toString('base64')]))
    let written = false
    cluster.server.fault = ({ verb, name, dryRun, user }) => {
      if (user === admin || name !== 'envoy' || dryRun) return null
      if (verb === 'patch') written = true
      if (verb !== 'get' || !written) return null
      return { first: () => void cluster.server.change('secrets', 'envoy', namespace, { data: encoded }) }
    }
    const before = dataOf(cluster.server, 'envoy')
    const error = await failure(runInProcess(first, 'overwrite'))
    expect(error).toMatchObject({
      code: 'write-failed',
      message: `secret/${namespace}/envoy does not hold what was written to it`,
    })
    const restored = Object.fromEntries(
      Object.entries(before).map(([name, octets]) => [name, octets.toString('base64')]),
    )
    cluster.server.fault = () => null
    cluster.server.change('secrets', 'envoy', namespace, { data: restored })
    await runInProcess(first, 'ensure')
    expectConverged(cluster.server)
  })

  it('do not meet in labels and data of others: those stay, and cost no second plan', async () => {
    const left = new Set(['envoy', authority])
    cluster.server.fault = ({ verb, name, dryRun, user }) => {
      if (user === admin || verb !== 'patch' || dryRun || !left.delete(name ?? '')) return null
      const change = { metadata: { labels: { team: 'edge' } }, data: { 'notes.txt': 'aGVsbG8=' } }
      return { first: () => void cluster.server.change('secrets', name!, namespace, change) }
    }
    const before = cluster.server.calls.length
    await runInProcess(first, 'overwrite')
    expect(left.size).toBe(0)
    expectConverged(cluster.server)
    for (const name of ['envoy', authority]) {
      expect(cluster.server.get('secrets', name, namespace)!.metadata.labels).toMatchObject({ team: 'edge' })
      expect(dataOf(cluster.server, name)['notes.txt']?.toString()).toBe('hello')
    }
    // Two conflicts cost a read and a write each.
    expect(cluster.server.calls.length - before).toBe(calls + 4)
  })
})

describe('three jobs at once', () => {
  const cluster = useCluster()

  it('are no orphans to one that looked for the authority just before another made it and its leaves', async () => {
    const own = openCluster({ kubeconfig: cluster.kubeconfig })
    const other = openCluster({ kubeconfig: cluster.server.kubeconfig(join(cluster.directory, 'admin')) })
    let looked = false
    cluster.server.fault = ({ user, name }) => {
      if (user === admin) return null
      if (!looked) {
        looked = name === authority
        return null
      }
      cluster.server.fault = () => null
      return {
        first: async () => {
          await runInProcess(other, 'ensure')
        },
      }
    }
    const { report } = await runInProcess(own, 'ensure')
    expect(report).toMatchObject({ changed: false, authority: { changed: false } })
    expectConverged(cluster.server)
    for (const { metadata } of cluster.server.all('secrets', namespace)) {
      cluster.server.remove('secrets', metadata.name, namespace)
    }
    cluster.server.apply(injector)
  })

  it('make the first set together: one authority, one HMAC secret, no mixed CAs', async () => {
    for (let round = 0; round < 2; round++) {
      const outcomes = await Promise.all([1, 2, 3].map(() => runExample(cluster)))
      expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0])
      const talk = outcomes.map(({ stderr }) => stderr).join('')
      expect(talk.replaceAll(/certgen: warning: another run wrote at the same time; .*\n/g, '')).toBe('')
      expectConverged(cluster.server)
      expect(dataOf(cluster.server, 'envoy-oidc-hmac')['hmac-secret']).toHaveLength(32)
      expect(blocksOf(dataOf(cluster.server, 'envoy')['ca.crt'])).toHaveLength(1)
      for (const { metadata } of cluster.server.all('secrets', namespace)) {
        cluster.server.remove('secrets', metadata.name, namespace)
      }
      cluster.server.apply(injector)
    }
  })
})
