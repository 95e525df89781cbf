import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Patience } from '../../src/deliver/kubernetes/api.ts'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import { CertgenError } from '../../src/errors.ts'
import { start } from '../program.ts'
import { expectConverged, expectRestarted, expectWhole, failingMeetings } from './converged.ts'
import { exampleConfig, impatient, injector, loadAll, useCluster, variables } from './fixture.ts'
import { runInProcess } from './in-process.ts'
import type { Fault } from './server/api-server.ts'

// Issue 6, shown by 2. A run is made to fail at each call that a whole rotation makes.

const { CERTGEN_FULL_FAULTS: full } = process.env

/** Of `kinds` kinds of fault, each is tried at other calls; all at all of them with `npm run test:faults`. */
function isTried(point: number, kind: number, kinds: number): boolean {
  return full !== undefined || point % kinds === kind % kinds
}

const faults: readonly [string, Fault][] = [
  ['an internal error', { status: 500 }],
  ['too many requests', { status: 429, reason: 'TooManyRequests', retryAfter: 0 }],
  ['a connection that is cut before the call has an effect', { cut: 'before' }],
  ['a connection that is cut after it, so that the answer is lost', { cut: 'after' }],
  ['no answer', { hang: true }],
]

describe('a rotation in a cluster', () => {
  const cluster = useCluster()
  /** How many calls a whole rotation makes. */
  let calls = 0
  const open = (patience: Partial<Patience> = {}) =>
    openCluster({ kubeconfig: cluster.kubeconfig, patience: { ...impatient, ...patience } })
  /** Faults the n-th call from now, and those after it while `lasting`. */
  const failAt = (n: number, fault: Fault, lasting = false): void => {
    const first = cluster.server.calls.length + n
    cluster.server.fault = ({ number }) => (number === first || (lasting && number > first) ? fault : null)
  }
  const points = (): number[] => Array.from({ length: calls }, (_, index) => index + 1)

  beforeAll(async () => {
    await runInProcess(open(), 'ensure')
    const before = cluster.server.calls.length
    await runInProcess(open(), 'overwrite')
    calls = cluster.server.calls.length - before
    expectConverged(cluster.server)
  })
  afterEach(() => {
    cluster.server.fault = () => null
  })

  it.each(faults)('is not stopped by %s at any call', async (what, fault) => {
    let tried = 0
    const kind = faults.findIndex(([name]) => name === what)
    for (const point of points().filter((each) => isTried(each, kind, faults.length))) {
      const before = loadAll(cluster.server)
      failAt(point, fault)
      const { report, actions } = await runInProcess(
        // So often is a slow machine forgiven.
        open('hang' in fault ? { timeout: 150, attempts: 20 } : {}),
        'overwrite',
      )
      expect(report.changed, `call ${point}`).toBe(true)
      expect(actions.every(({ ok }) => ok)).toBe(true)
      expectConverged(cluster.server)
      expectRestarted(cluster.server)
      expect(await failingMeetings(before, loadAll(cluster.server))).toEqual([])
      tried++
    }
    console.log(`one fault at a call, ${tried} of ${calls} points: ${JSON.stringify(fault)}`)
  })

  it.each(faults.filter(([, fault]) => !('hang' in fault)))(
    'leaves every Secret whole when there is nothing but %s from any call on, and the next run finishes it',
    async (what, fault) => {
      let failed = 0
      const kind = faults.findIndex(([name]) => name === what)
      for (const point of points().filter((each) => isTried(each, kind, faults.length - 1))) {
        const before = loadAll(cluster.server)
        failAt(point, fault, true)
        const outcome = await runInProcess(open(), 'overwrite').then(
          ({ actions }) => (actions.every(({ ok }) => ok) ? 'done' : 'not followed'),
          (error: unknown) => {
            if (error instanceof CertgenError) return error.code
            throw error
          },
        )
        expect(['unreadable', 'write-failed', 'not followed'], `call ${point}: ${outcome}`).toContain(outcome)
        failed++
        expectWhole(cluster.server)
        const broken = loadAll(cluster.server)
        cluster.server.fault = () => null
        await runInProcess(open(), 'ensure')
        expectConverged(cluster.server)
        // Before a call that writes nothing has changed, and nothing new meets anything.
        if (JSON.stringify(broken) === JSON.stringify(before)) continue
        expectRestarted(cluster.server)
        expect(await failingMeetings(before, broken)).toEqual([])
        expect(await failingMeetings(broken, loadAll(cluster.server))).toEqual([])
      }
      console.log(`no API server from a call on, ${failed} points: ${JSON.stringify(fault)}`)
    },
  )

  it('leaves every Secret whole when it is killed at any call, and the next run finishes it', async () => {
    const tried = points().filter((point) => isTried(point, 0, 3))
    for (const point of tried) {
      const before = loadAll(cluster.server)
      const run = start(['rotate', '--overwrite', '--config', exampleConfig, '--kubeconfig', cluster.kubeconfig], {
        cwd: cluster.directory,
        env: variables,
      })
      const ended = once(run, 'exit')
      failAt(point, { then: () => void run.kill('SIGKILL') })
      expect(await ended, `call ${point}`).toEqual([null, 'SIGKILL'])
      cluster.server.fault = () => null
      expectWhole(cluster.server)
      const broken = loadAll(cluster.server)
      expect(await failingMeetings(before, broken)).toEqual([])
      await runInProcess(open(), 'ensure')
      expectConverged(cluster.server)
    }
    console.log(`killed at a call: ${tried.length} of ${calls} points`)
  })
})

describe('a first run in a cluster', () => {
  const cluster = useCluster()

  it('is finished by the next run wherever it was killed', async () => {
    let points = 0
    for (let killed = true; killed; points++) {
      const run = start(['rotate', '--config', exampleConfig, '--kubeconfig', cluster.kubeconfig], {
        cwd: cluster.directory,
        env: variables,
      })
      const ended = once(run, 'exit') as Promise<[number | null, string | null]>
      const last = cluster.server.calls.length + points * (full ? 1 : 3) + 1
      cluster.server.fault = ({ number }) => (number === last ? { then: () => void run.kill('SIGKILL') } : null)
      const [, signal] = await ended
      killed = signal === 'SIGKILL'
      cluster.server.fault = () => null
      const kubeconfig = join(cluster.directory, 'kubeconfig')
      await runInProcess(openCluster({ kubeconfig }), 'ensure')
      expectConverged(cluster.server)
      for (const { metadata } of cluster.server.all('secrets', 'envoy-gateway-system')) {
        cluster.server.remove('secrets', metadata.name, 'envoy-gateway-system')
      }
      cluster.server.apply(injector)
    }
    console.log(`first run killed at a call: ${points - 1} points`)
    expect(points).toBeGreaterThan(full ? 18 : 6)
  })
})
