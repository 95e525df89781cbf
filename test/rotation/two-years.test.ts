import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'
import { output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import type { Observations } from './fixtures/daily-renewal.ts'

/** Acceptance 6 of issue 3: leaves of 90 days and authorities of a year, renewed for two years. */

const dayMs = 86_400_000
const run = promisify(execFile)

/** Runs the fixture in a process whose clock is a file that it sets itself: two years pass in seconds. */
async function renewDaily(days: number): Promise<Observations> {
  const scratch = temporaryDirectory()
  const program = join(scratch, 'daily-renewal.mjs')
  await build({
    entryPoints: [join(import.meta.dirname, 'fixtures/daily-renewal.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    // As scripts/build.js does: CommonJS dependencies call require() for Node's own modules.
    banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
  })
  const clock = join(scratch, 'clock')
  // faketime sets FAKETIME, which would come before the file. Timers go on by the real, monotonic clock.
  const faked = ['env', '-u', 'FAKETIME', `FAKETIME_TIMESTAMP_FILE=${clock}`, 'FAKETIME_NO_CACHE=1', 'TZ=UTC']
  const { stdout } = await run('faketime', [
    ...['--exclude-monotonic', '-f', '+0', ...faked, process.execPath, program],
    ...[join(scratch, 'certs'), clock, String(days)],
  ])
  return JSON.parse(stdout) as Observations
}

describe.skipIf(missing('faketime', 'openssl'))('certgen --renew', { timeout: 300_000 }, () => {
  it('daily for two years lets no leaf expire, rotates the authority in time, and fails no handshake', async () => {
    const seen = await renewDaily(730)
    expect(seen.failed).toEqual([])
    expect(seen.days).toBe(710)
    // A year less the 90 days that a new leaf needs: the authority is replaced on days 275 and 550.
    expect(seen.authorities).toHaveLength(3)
    expect(seen.largestBundle).toBe(2)
    // Each of the two leaves every 60 days or so: not every day, and not never.
    expect(seen.leavesIssued).toBeGreaterThanOrEqual(2 * 12)
    expect(seen.leavesIssued).toBeLessThan(2 * 24)
    expect(seen.cellsTried).toBe(8 * (seen.changes - 2))
  })

  it('as the real program every 80 days: old and new chains verify against old and new bundles', async () => {
    const cwd = temporaryDirectory()
    const authorities = new Set<string>()
    const begin = Date.now()
    const keep = (run: number): string => {
      const directory = join(cwd, `run-${run}`)
      mkdirSync(directory)
      for (const name of ['ca.crt', 'tls.crt']) copyFileSync(join(cwd, 'certs/server', name), join(directory, name))
      return directory
    }
    await rotateJson(['--validity', '90d', '--ca-validity', '1y'], { cwd })
    let old = keep(0)
    for (let run = 1; run <= 9; run++) {
      const through = ['faketime', '-f', `+${run * 80}d`]
      const report = await rotateJson(['--renew'], { cwd, through })
      expect(report).toMatchObject({ changed: true, warnings: [] })
      authorities.add(report.authority.sha256)
      const current = keep(run)
      const now = Date.now() + run * 80 * dayMs
      for (const chain of [old, current]) {
        for (const bundle of [old, current]) {
          const [ca, cert] = [join(bundle, 'ca.crt'), join(chain, 'tls.crt')]
          const at = ['-attime', String(Math.floor(now / 1000))]
          const verdict = output(
            'openssl',
            ...['verify', '-x509_strict', '-no-CApath', ...at],
            '-CAfile',
            ca,
            '-untrusted',
            cert,
            cert,
          )
          expect(verdict).toContain(': OK')
        }
      }
      expect(pemBlocks(join(current, 'ca.crt')).length).toBeLessThanOrEqual(2)
      const leaf = new X509Certificate(readFileSync(join(current, 'tls.crt')))
      expect(Date.parse(leaf.validTo)).toBeGreaterThan(begin + (run + 1) * 80 * dayMs)
      old = current
    }
    expect(authorities.size).toBeGreaterThanOrEqual(3)
  })
})
