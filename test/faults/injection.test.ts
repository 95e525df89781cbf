import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import pMap from 'p-map'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { judge } from './fleet.ts'
import { rehearse } from './rehearsal.ts'
import type { Rehearsal } from './rehearsal.ts'
import { inject, traceCalls } from './trace.ts'
import type { Fault, Point } from './trace.ts'

// All points take many minutes: `npm run test:faults`. Otherwise a sample that is the same every time.
const full = process.env['CERTGEN_FULL_FAULTS'] === '1'
const faults: readonly Fault[] = ['ENOSPC', 'EIO', 'EACCES', 'SIGKILL']
// On two cores, more at once only makes each slower.
const atOnce = 2

/** Every k-th point of each kind of call, at least one; each fault begins at another. */
function choose(points: readonly Point[], fault: Fault): readonly Point[] {
  if (full) return points
  const calls = [...new Set(points.map(({ call }) => call))]
  return calls.flatMap((call) => {
    const alike = points.filter((point) => point.call === call)
    // Renames are few, and everything hangs on them.
    const step = Math.min(call === 'rename' ? 2 : 12, alike.length)
    return alike.filter((_, index) => index % step === (faults.indexOf(fault) * 5) % step)
  })
}

describe.skipIf(missing('strace', 'openssl'))('a rotation that is refused or killed at a system call (I4)', () => {
  const root = temporaryDirectory()
  const counts = new Map<string, number>()
  const count = (what: string, times = 1): void => void counts.set(what, (counts.get(what) ?? 0) + times)
  let rehearsal: Rehearsal

  beforeAll(async () => {
    rehearsal = await rehearse(root)
    count('points', rehearsal.points.length)
  })

  afterAll(() => {
    const figures = [...counts].map(([what, times]) => `${what} ${times}`).join(', ')
    console.log(`faults (${full ? 'full sweep' : 'sample'}): ${figures}`)
  })

  it('is traced whole: the lock, the authority and each target, by every kind of call', () => {
    const { points } = rehearsal
    const kinds = [...new Set(points.map(({ call }) => call))].sort()
    expect(kinds).toEqual([
      ...['fchmod', 'fchown', 'fsync', 'mkdir', 'openat', 'rename', 'rmdir', 'symlink', 'unlink', 'write'],
    ])
    const renamed = points.filter(({ call }) => call === 'rename').map(({ path }) => path)
    const swapped = renamed.filter((path) => !/\/\.\.(?:wake|link)\./.test(path))
    expect(swapped.map((path) => path.replace(/\.[0-9a-f]+$/, ''))).toEqual([
      'ca/..lock',
      ...['ca', 'alpha', 'beta', 'gamma'].map((name) => `${name}/..data_tmp`),
    ])
    // Each file of the generation before and each visible link, for those who watch them; of the authority no key.
    const woken = renamed.filter((path) => !swapped.includes(path))
    const files = (name: string): string[] =>
      woken.filter((path) => path.startsWith(`${name}/`)).map((path) => path.replace(/^.*\.\.(\w+)\.\w+\./, '$1 '))
    const visible = ['ca.crt', 'tls.crt', 'tls.key', 'tls.pem']
    for (const name of ['alpha', 'beta', 'gamma']) {
      expect(files(name).sort()).toEqual([
        ...visible.map((file) => `link ${file}`),
        ...visible.map((file) => `wake ${file}`),
      ])
    }
    const certificates = ['ca.crt', 'cross.crt', 'previous.crt']
    expect(
      files('ca')
        .filter((file) => file.startsWith('wake'))
        .sort(),
    ).toEqual(certificates.map((file) => `wake ${file}`))
  })

  it('makes every file durable before it can be seen, and the authority before its leaves', () => {
    const { points } = rehearsal
    const find = (call: string, path: string, from = 0): number =>
      points.findIndex((point, index) => index >= from && point.call === call && point.path === path)
    const swapOf = (name: string): number =>
      points.findIndex(({ call, path }) => call === 'rename' && path.startsWith(`${name}/..data_tmp.`))
    for (const name of ['ca', 'alpha', 'beta', 'gamma']) {
      const swap = swapOf(name)
      const created = points.filter(
        ({ call, path }) => call === 'openat' && path.startsWith(`${name}/..2`) && !path.includes('/..wake.'),
      )
      expect(created).toHaveLength(5)
      const generation = created[0]!.path.split('/').slice(0, 2).join('/')
      for (const { path } of created) {
        const written = find('write', path)
        expect(written).toBeGreaterThan(-1)
        expect(find('fsync', path, written)).toBeGreaterThan(written)
        expect(find('fsync', path, written)).toBeLessThan(find('fsync', generation))
      }
      expect(find('fsync', generation)).toBeLessThan(swap)
      expect(find('fsync', name, swap)).toBeGreaterThan(swap)
      if (name !== 'ca') expect(find('fsync', 'ca', swapOf('ca'))).toBeLessThan(swap)
    }
  })

  it('makes the authority durable before its leaves also when an earlier run was killed before it could', async () => {
    const run = rehearsal.copy()
    const { hit } = await inject(run, { call: 'fsync', path: 'ca', nth: 1 }, 'SIGKILL')
    const finishing = { ...run, args: [], instant: new Date(run.instant.getTime() + 1000) }
    const points = await traceCalls(finishing)
    const swap = points.findIndex(({ call, path }) => call === 'rename' && path.startsWith('alpha/..data_tmp.'))
    expect({ hit, swapped: swap !== -1 }).toEqual({ hit: true, swapped: true })
    expect(points.slice(0, swap)).toContainEqual({ call: 'fsync', path: 'ca', nth: 1 })
  })

  it.each(faults)(
    '%s leaves every directory whole and every two peers able to shake hands, and the next run finishes',
    async (fault) => {
      const chosen = choose(rehearsal.points, fault)
      const missed: string[] = []
      const results = await pMap(
        chosen,
        async (point) => {
          const run = rehearsal.copy()
          const { outcome, hit } = await inject(run, point, fault)
          const name = `${fault} at ${point.call} ${point.path} (${point.nth})`
          if (!hit) missed.push(name)
          const tidied = outcome.code !== null && !['unlink', 'rmdir'].includes(point.call)
          const { violations, left } = await judge(run.dir, rehearsal.before, outcome, tidied)
          rmSync(dirname(run.dir), { recursive: true })
          count(hit ? 'injected' : 'missed')
          count(`${outcome.code === null ? 'killed' : `exit ${outcome.code}`} with ${left}`)
          count('violations', violations.length)
          return violations.map((violation) => `${name}: ${violation}`)
        },
        { concurrency: atOnce },
      )
      expect(results.flat()).toEqual([])
      // A point that was not hit proves nothing.
      expect(missed.length, missed.join('; ')).toBeLessThanOrEqual(Math.floor(chosen.length / 50))
    },
    full ? 3_600_000 : 300_000,
  )
})
