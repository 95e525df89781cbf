import { mkdirSync, rmSync, statfsSync, watch } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { certgen, output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { compare, judge, readFleet } from './fleet.ts'
import { cannotMount, mount, unmount } from './mounts.ts'
import { rehearse } from './rehearsal.ts'
import type { Rehearsal } from './rehearsal.ts'
import { pause } from './trace.ts'
import type { Point } from './trace.ts'

const full = process.env['CERTGEN_FULL_FAULTS'] === '1'
const noPrograms = missing('strace', 'openssl')

let rehearsal: Rehearsal
const root = temporaryDirectory()

beforeAll(async () => {
  if (!noPrograms) rehearsal = await rehearse(root)
})

/** The one call of this name on a path of this form. */
function pointAt(call: string, pattern: RegExp): Point {
  const found = rehearsal.points.filter((point) => point.call === call && pattern.test(point.path))
  expect(found).toHaveLength(1)
  return found[0]!
}

/** Resolves when an entry of this name comes into the directory. */
function appearance(directory: string, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(directory, (_event, entry) => {
      if (entry !== name) return
      watcher.close()
      resolve()
    })
    watcher.on('error', reject)
  })
}

describe.skipIf(noPrograms)('a target that is removed half-way (I4)', () => {
  it.each([
    ['as its generation is begun', 'after', 'mkdir', /^beta\/\.\.2/],
    ['before its swap', 'after', 'symlink', /^beta\/\.\.data_tmp\.\w+$/],
    ['after its swap', 'before', 'fsync', /^beta$/],
  ] as const)('%s, does no harm to the others and is reported', async (_name, when, call, pattern) => {
    const run = rehearsal.copy()
    const beta = join(run.dir, 'beta')
    const point = pointAt(call, pattern)
    // What the run has made last before it stands still.
    const sign = call === 'fsync' ? '..data' : point.path.slice('beta/'.length)
    const removed = appearance(beta, sign).then(() => rmSync(beta, { recursive: true }))
    const outcome = await pause(run, point, when)
    await removed
    expect(outcome.code).toBe(5)
    const { violations, left } = await judge(run.dir, rehearsal.before, outcome, true)
    expect(violations).toEqual([])
    expect(left).toBe('all new')
    expect([...readFleet(run.dir).targets.keys()]).toEqual(['alpha', 'gamma'])
  })
})

describe.skipIf(noPrograms || cannotMount())('a file system', () => {
  afterEach(unmount)

  const page = 4096
  // From no room at all to more than is needed: a rotation writes five files to each of four directories.
  const rooms = Array.from({ length: 28 }, (_, pages) => pages).filter((pages) => full || pages % 4 === 0)
  const seen = new Set<string>()

  it.each(rooms)(
    'that is full after %i more pages leaves every directory whole, and room mends it (I4)',
    async (room) => {
      const disk = join(root, `disk-${room}`)
      mkdirSync(disk)
      mount('-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk)
      const { dir, args } = rehearsal.copy(disk)
      const { blocks, bfree, bsize } = statfsSync(disk)
      const used = (blocks - bfree) * bsize
      output('mount', '-o', `remount,size=${used + room * page}`, disk)
      const outcome = await certgen([...args, '--dir', dir])
      seen.add(`exit ${String(outcome.code)} with ${compare(rehearsal.before, readFleet(dir))}`)
      // With no room there is no room for the next run either, and still nothing is lost.
      expect((await certgen(['--dir', dir])).code).toBeOneOf([0, 5])
      output('mount', '-o', 'remount,size=16m', disk)
      expect((await judge(dir, rehearsal.before, outcome, true)).violations).toEqual([])
    },
  )

  it('was full before anything was written, half-way and not at all', () => {
    expect([...seen].sort()).toEqual(['exit 0 with all new', 'exit 5 with all old', 'exit 5 with part new'])
  })

  it('that is read-only at one target stops the run before anything is written', async () => {
    const { dir, args } = rehearsal.copy()
    const beta = join(dir, 'beta')
    mount('--bind', beta, beta)
    output('mount', '-o', 'remount,bind,ro', beta)
    const outcome = await certgen([...args, '--dir', dir])
    unmount()
    expect(outcome.code).toBe(5)
    expect(outcome.stderr).toContain(beta)
    expect(await judge(dir, rehearsal.before, outcome, true)).toEqual({ violations: [], left: 'all old' })
  })

  it('that becomes read-only at one target half-way keeps its old set, while the others go on', async () => {
    const run = rehearsal.copy()
    const beta = join(run.dir, 'beta')
    mount('--bind', beta, beta)
    const point = pointAt('rename', /^ca\/\.\.data_tmp\.\w+$/)
    const sealed = appearance(join(run.dir, 'ca'), point.path.slice('ca/'.length)).then(() => {
      output('mount', '-o', 'remount,bind,ro', beta)
    })
    const outcome = await pause(run, point, 'before')
    await sealed
    expect(outcome.code).toBe(5)
    expect(outcome.stderr).toContain(beta)
    const { targets } = readFleet(run.dir)
    const unchanged = [...targets].filter(([name, files]) => {
      return files.get('tls.key')!.equals(rehearsal.before.targets.get(name)!.get('tls.key')!)
    })
    expect(unchanged.map(([name]) => name)).toEqual(['beta'])
    expect((await certgen(['--dir', run.dir])).code).toBe(5)
    unmount()
    expect(await judge(run.dir, rehearsal.before, outcome, true)).toEqual({ violations: [], left: 'part new' })
    rmSync(dirname(run.dir), { recursive: true })
  })
})
