import { execFile, execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import type { Nights } from './fixtures/cron-nights.ts'

// Acceptance 4 of issue 5.
describe.skipIf(missing('faketime', 'promtool'))('two years of nights', { timeout: 300_000 }, () => {
  it('deliver every change in the end, let nothing expire, and leave metrics that Prometheus reads', async () => {
    const cwd = temporaryDirectory()
    const certificates = ['web', 'db'].map((name) => {
      const hook = `test ! -e hooks-fail && sha256sum < certs/${name}/tls.crt | cut -c1-64 >> ${name}.delivered`
      return `  - { name: ${name}, dns: ${name}.test, exec: '${hook}' }`
    })
    const config = ['authority: { validity: 1y }', 'metrics: certgen.prom', 'certificates:', ...certificates, '']
    writeFileSync(join(cwd, 'certgen.yaml'), config.join('\n'))
    const program = join(cwd, 'cron-nights.mjs')
    await build({
      entryPoints: [join(import.meta.dirname, 'fixtures/cron-nights.ts')],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'node20.19',
      banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
    })
    const clock = join(cwd, 'clock')
    const faked = ['env', '-u', 'FAKETIME', `FAKETIME_TIMESTAMP_FILE=${clock}`, 'FAKETIME_NO_CACHE=1', 'TZ=UTC']
    const nights = [process.execPath, program, 'certgen.yaml', clock, '730']
    const { stdout } = await promisify(execFile)('faketime', ['--exclude-monotonic', '-f', '+0', ...faked, ...nights], {
      cwd,
    })
    const seen = JSON.parse(stdout) as Nights
    expect(seen.failed).toEqual([])
    expect(Object.keys(seen.codes)).toEqual(['0', '7'])
    expect(seen.late).toBeGreaterThan(0)
    expect(seen.delivered).toBeGreaterThan(1400)
    const metrics = readFileSync(join(cwd, 'certgen.prom'))
    expect(execFileSync('promtool', ['check', 'metrics'], { input: metrics, encoding: 'utf8' })).toBe('')
  })
})
