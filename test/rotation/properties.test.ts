import { X509Certificate } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { CertgenError } from '../../src/errors.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import type { RotationReport } from '../../src/rotation/report.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { fingerprintTree, output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import { failingCells, loadPreviousSet, loadSet, requestFor } from './fleet.ts'

// Any run after any other, on a real directory. What is planned is told by a dry run; what holds after a run holds
// whatever came before it.

const full = process.env['CERTGEN_FULL_FUZZ'] === '1'
const scratch = temporaryDirectory()
const prepared = join(scratch, 'prepared')
const names = ['client', 'server']
let copies = 0

beforeAll(async () => {
  for (const name of names) await rotateJson(['--dir', prepared, '--name', name])
})

/** Seconds between two runs. All of a row together are less than certificates are backdated, for handshakes have a clock. */
const run = fc.record({
  mode: fc.constantFrom('ensure', 'renew', 'overwrite', 'overwrite'),
  scope: fc.constantFrom('fleet', 'fleet', 'fleet', 'authority'),
  keepAuthority: fc.boolean(),
  strategy: fc.constantFrom('auto', 'auto', 'cross-sign', 'staged', 'replace'),
  renewBefore: fc.constantFrom('1d', '89d', '91d', '6y'),
  settle: fc.constantFrom('1s', '20s'),
  seconds: fc.integer({ min: 1, max: 40 }),
} as const)
type Run = typeof run extends fc.Arbitrary<infer T> ? T : never

type Result = { readonly report: RotationReport } | { readonly code: string }

async function attempt(dir: string, asked: Run, now: Date, dryRun: boolean): Promise<Result> {
  const { mode, scope, strategy, keepAuthority, renewBefore, settle } = asked
  const request = requestFor(dir, {
    mode,
    scope,
    strategy,
    keepAuthority: mode === 'overwrite' && scope === 'fleet' && keepAuthority,
    ...(mode === 'renew' ? { renewBefore: parseDuration(renewBefore) } : {}),
    settle: parseDuration(settle),
    dryRun,
  })
  try {
    return { report: await rotate(request, () => now) }
  } catch (error) {
    if (error instanceof CertgenError) return { code: error.code }
    throw error
  }
}

/** What a run does, as far as it can be known before. */
function intention(result: Result): object {
  if ('code' in result) return result
  const { strategy, stage, authority, leaves, preflight, warnings } = result.report
  return {
    strategy,
    stage,
    authority: [authority.changed, authority.crossSigned],
    leaves: leaves.map(({ name, changed, reason, key, names: own }) => ({ name, changed, reason, key, own })),
    preflight: preflight.map(({ profile, server, client, ok }) => ({ profile, server, client, ok })),
    warnings: warnings.map(({ code }) => code),
  }
}

const changes = (result: Result): boolean =>
  'report' in result && (result.report.authority.changed || result.report.leaves.some(({ changed }) => changed))
const sha256 = (path: string): string =>
  new X509Certificate(readFileSync(path)).fingerprint256.replaceAll(':', '').toLowerCase()

describe('any row of runs', { timeout: 3_600_000 }, () => {
  it('does what its dry runs say, keeps every set whole and every handshake, and comes to rest', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(run, { minLength: 2, maxLength: 6 }), async (runs) => {
        const dir = join(scratch, `copy-${++copies}`)
        output('cp', '-a', prepared, dir)
        let now = new Date()
        for (const asked of runs) {
          now = new Date(now.getTime() + asked.seconds * 1000)
          await judgeRun(dir, asked, now)
        }
        await judgeRest(dir, now)
        rmSync(dir, { recursive: true })
      }),
      { numRuns: full ? 300 : 12 },
    )
  })
})

async function judgeRun(dir: string, asked: Run, now: Date): Promise<void> {
  const before = fingerprintTree(dir)
  const dry = await attempt(dir, asked, now, true)
  // A dry run writes nothing, and says what the run will do.
  expect(fingerprintTree(dir)).toEqual(before)
  const real = await attempt(dir, asked, now, false)
  const withoutHaste = ({ warnings, ...rest }: { warnings?: string[] }): object => ({
    ...rest,
    warnings: warnings?.filter((code) => code !== 'not-settled'),
  })
  expect(withoutHaste(intention(real))).toEqual(withoutHaste(intention(dry)))
  if ('code' in real) {
    expect(real.code).toBe('refused')
    // Nothing was written (I4), but the lock came and went.
    expect({ ...fingerprintTree(dir), ca: '' }).toEqual({ ...before, ca: '' })
    return
  }
  if (!changes(real)) expect(fingerprintTree(dir)).toEqual(before)
  const { report } = real
  expect(report.changed).toBe(changes(real))
  if (asked.mode === 'ensure') {
    expect(
      report.leaves.map(({ reason }) => reason).filter((reason) => !['kept', 'unfinished'].includes(reason)),
    ).toEqual([])
  }
  expect(report.preflight.filter(({ ok }) => !ok)).toEqual([])
  expect(report.authority.sha256).toBe(sha256(join(dir, 'ca/ca.crt')))
  for (const { name, sha256: leaf } of report.leaves) expect(sha256(join(dir, name, 'tls.crt'))).toBe(leaf)
  // Never more than one carry-over (I6), and no peer that has loaded this or the one before refuses another (I2).
  for (const name of names) expect(pemBlocks(join(dir, name, 'ca.crt')).length).toBeLessThanOrEqual(2)
  if (asked.scope === 'fleet' && report.changed) expect(await cells(dir)).toEqual([])
}

async function cells(dir: string): Promise<string[]> {
  const versions = await Promise.all(
    names.map(async (name) => {
      const current = loadSet(join(dir, name))
      const previous = await loadPreviousSet(join(dir, name)).catch(() => current)
      return { old: previous, new: current }
    }),
  )
  return failingCells(versions[1]!, versions[0])
}

/** However it was left, one plain run finishes it, and the next has nothing to do (I5, I7). */
async function judgeRest(dir: string, now: Date): Promise<void> {
  const plain: Run = {
    mode: 'ensure',
    scope: 'fleet',
    keepAuthority: false,
    strategy: 'auto',
    renewBefore: '1d',
    settle: '1s',
    seconds: 1,
  }
  const first = await attempt(dir, plain, now, false)
  expect(first).toHaveProperty('report')
  const tree = fingerprintTree(dir)
  const second = await attempt(dir, plain, now, false)
  expect(changes(second)).toBe(false)
  expect(fingerprintTree(dir)).toEqual(tree)
  const [root] = pemBlocks(join(dir, 'ca/ca.crt'))
  for (const name of names) {
    expect(pemBlocks(join(dir, name, 'ca.crt'))[0]).toBe(root)
    const [leaf] = pemBlocks(join(dir, name, 'tls.crt'))
    expect(new X509Certificate(leaf!).verify(new X509Certificate(root!).publicKey)).toBe(true)
  }
}
