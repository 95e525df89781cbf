import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import pMap from 'p-map'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { judgeConvergence } from '../faults/fleet.ts'
import { rehearse } from '../faults/rehearsal.ts'
import type { Rehearsal } from '../faults/rehearsal.ts'
import { output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { describeCase, encounters, lateAnswers, wakings } from './cases.ts'
import type { Case } from './cases.ts'
import { age } from './judgement.ts'
import { play } from './scenes.ts'
import type { Played } from './scenes.ts'
import { compileShim, elsewhere, endAll, recordCalls, underLock } from './stall.ts'
import type { StallPoint } from './stall.ts'

// Every point, in every scene, takes the better part of an hour: `npm run test:stalls`. Otherwise a choice that is the same
// every time, of which most is known to have gone wrong once (issue 12).
const full = process.env['CERTGEN_FULL_STALLS'] === '1'
// Most of the time they wait for a lease of 15 seconds, so that many are under way at once.
const atOnce = full ? { wakings: 24, encounters: 6, late: 8 } : { wakings: 10, encounters: 10, late: 10 }
const bound = full ? 7_200_000 : 300_000

describe.skipIf(missing('cc', 'unshare', 'strace', 'openssl') || cannotUnshare())(
  'a certgen that stands still (I8)',
  () => {
    const root = temporaryDirectory()
    const counts = new Map<string, number>()
    const count = (what: string, times = 1): void => void counts.set(what, (counts.get(what) ?? 0) + times)
    let shim = ''
    let rehearsal: Rehearsal
    let points: readonly StallPoint[]

    beforeAll(async () => {
      shim = compileShim(root)
      rehearsal = await rehearse(root, (dir) => age(dir, 2))
      points = underLock(await recordCalls(rehearsal.copy(), shim))
      count('points', points.length)
    })

    afterAll(() => {
      endAll()
      const figures = [...counts].map(([what, times]) => `${what} ${times}`).join(', ')
      console.log(`stalls (${full ? 'full sweep' : 'choice'}): ${figures}`)
    })

    it('is seen at every call that has an effect', () => {
      const effects = (calls: readonly { call: string; path: string }[]): string[] =>
        calls.map(({ call, path }) => `${call} ${path.replace(/\.\.[\d?]{4}(?:_[\d?]{2}){5}\./, '..')}`).sort()
      expect(effects(points.filter(({ changes }) => changes))).toEqual(effects(rehearsal.points))
    })

    async function run(one: Case): Promise<{ readonly missed: string[]; readonly violations: string[] }> {
      const name = describeCase(one)
      const { hit, outcomes, violations } = await playOut(one).catch((error: unknown) => {
        return { hit: true, outcomes: [], violations: [`failed: ${String(error)}`] }
      })
      count(hit ? 'hit' : 'missed')
      for (const outcome of outcomes) count(outcome)
      count('violations', violations.length)
      for (const violation of violations) count(`(${violation.split(':')[0] ?? ''})`)
      return { missed: hit ? [] : [name], violations: violations.map((violation) => `${name}: ${violation}`) }
    }

    async function playOut({ scene, place }: Case): Promise<Played> {
      const stalled = rehearsal.copy()
      const played = await play(scene, stalled, shim, place)
      const next = await judgeConvergence(stalled.dir)
      rmSync(dirname(stalled.dir), { recursive: true })
      return { ...played, violations: [...played.violations, ...next.map((violation) => `next: ${violation}`)] }
    }

    async function sweep(cases: readonly Case[], concurrency: number): Promise<void> {
      const results = await pMap(cases, run, { concurrency })
      const missed = results.flatMap((result) => result.missed)
      expect(results.flatMap(({ violations }) => violations)).toEqual([])
      // A point that was not hit proves nothing.
      expect(missed.length, missed.join('; ')).toBeLessThanOrEqual(Math.floor(cases.length / 50))
    }

    it.concurrent(
      'destroys nothing when it wakes up, however often another has rotated, or while that is at it',
      () => sweep(wakings(points, full), atOnce.wakings),
      bound,
    )

    it.concurrent(
      'destroys nothing when it wakes up in a swap that another is in, too',
      () => sweep(encounters(points, full), atOnce.encounters),
      bound,
    )

    it.concurrent(
      'destroys nothing when a single call is answered late, and its other threads go on',
      () => sweep(lateAnswers(points, full), atOnce.late),
      bound,
    )
  },
)

/** It takes privileges that a container may lack even for root, so it is tried. */
function cannotUnshare(): boolean {
  try {
    const [program = '', ...args] = elsewhere
    output(program, ...args, 'true')
    return false
  } catch {
    process.stderr.write('\n!!! SKIPPED: tests of stalls need the privilege to make PID namespaces\n\n')
    return true
  }
}
