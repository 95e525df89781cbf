import { cpSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

describe.skipIf(missing('promtool'))('--metrics', () => {
  const valid = (path: string): void => {
    output('sh', '-c', `promtool check metrics < ${path}`)
  }
  const sample = (path: string, name: string): number => {
    const [, value] = new RegExp(`^${name}\\{[^\\n]*\\} (\\d+)$`, 'm').exec(readFileSync(path, 'utf8')) ?? []
    if (value === undefined) throw new Error(`there is no ${name}`)
    return Number(value)
  }

  it('of status writes the fleet as it is, for Prometheus', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const path = join(cwd, 'certgen.prom')
    expect((await certgen(['status', '--metrics', path], { cwd })).code).toBe(0)
    valid(path)
    const {
      authority,
      leaves: [leaf],
    } = await rotateJson([], { cwd })
    const ends = readFileSync(path, 'utf8').match(/^x509_cert_not_after.*$/gm)
    expect(ends).toEqual([
      expect.stringMatching(
        new RegExp(`filename="ca.crt",filepath="${cwd}/certs/ca/ca.crt",.* ${Date.parse(authority.notAfter) / 1000}$`),
      ),
      expect.stringMatching(
        new RegExp(
          `filename="tls.crt",filepath="${cwd}/certs/server/tls.crt",.* ${Date.parse(leaf!.notAfter) / 1000}$`,
        ),
      ),
    ])
  })

  it('is written after every run of rotate: one that changes, one that does not, one that fails', async () => {
    const cwd = temporaryDirectory()
    const path = join(cwd, 'certgen.prom')
    await rotateJson(['--metrics', path], { cwd })
    valid(path)
    expect(sample(path, 'certgen_target_unusable')).toBe(0)
    const lastRun = sample(path, 'certgen_last_run_timestamp_seconds')
    const before = fingerprintTree(join(cwd, 'certs'))
    rmSync(path)
    expect(await rotateJson(['--metrics', path], { cwd })).toMatchObject({ changed: false })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
    expect(sample(path, 'certgen_last_run_timestamp_seconds')).toBeGreaterThanOrEqual(lastRun)
    const succeeded = sample(path, 'certgen_last_success_timestamp_seconds')
    writeFileSync(join(cwd, 'certs/server', readlinkSync(join(cwd, 'certs/server/..data')), 'tls.crt'), 'damaged\n')
    expect((await certgen(['--metrics', path], { cwd })).code).toBe(3)
    valid(path)
    expect(sample(path, 'certgen_target_unusable')).toBe(1)
    expect(sample(path, 'certgen_last_success_timestamp_seconds')).toBe(succeeded)
  })

  it('is what the configuration says, counts what was not delivered, and is not written by a dry run', async () => {
    const cwd = temporaryDirectory()
    const path = join(cwd, 'metrics/certgen.prom')
    writeFileSync(
      join(cwd, 'certgen.yaml'),
      `metrics: metrics/certgen.prom\ncertificates: [{ name: server, exec: "exit 1" }]\n`,
    )
    const unwritten = await certgen(['--json'], { cwd })
    expect(unwritten.code).toBe(7)
    expect(JSON.parse(unwritten.stdout)).toMatchObject({ changed: true, warnings: [{ code: 'metrics-not-written' }] })
    expect(unwritten.stderr).toMatch(/certgen: warning: cannot write .*metrics\/certgen\.prom: ENOENT/)
    cpSync(join(cwd, 'certs/server'), join(cwd, 'metrics'), { recursive: true })
    expect((await certgen(['--dry-run'], { cwd })).code).toBe(0)
    expect(() => statSync(path)).toThrow()
    expect((await certgen([], { cwd })).code).toBe(7)
    valid(path)
    expect(sample(path, 'certgen_target_undelivered')).toBe(1)
    rmSync(path)
    // Who looks may not be allowed to write there.
    expect((await certgen(['status'], { cwd })).code).toBe(0)
    expect(() => statSync(path)).toThrow()
  })

  it('is written after a rollback, too', async () => {
    const cwd = temporaryDirectory()
    writeFileSync(join(cwd, 'certgen.yaml'), 'metrics: certgen.prom\ncertificates: [{ name: server }]\n')
    await rotateJson([], { cwd })
    await rotateJson(['--overwrite', '--keep-ca'], { cwd })
    expect((await certgen(['rollback', 'server'], { cwd })).code).toBe(0)
    const text = readFileSync(join(cwd, 'certgen.prom'), 'utf8')
    expect(text).toMatch(/^certgen_last_run_timestamp_seconds\{command="rollback"\} \d+$/m)
    expect(text).toMatch(/^certgen_last_run_timestamp_seconds\{command="rotate"\} \d+$/m)
  })
})
