import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { formatMetrics, writeMetrics } from '../../src/deliver/metrics.ts'
import type { FleetMetrics, MeasuredCertificate } from '../../src/deliver/metrics.ts'
import { failure } from '../failure.ts'
import { output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const now = new Date('2026-03-15T12:00:00.900Z')
const unixNow = 1_773_576_000

const leaf: MeasuredCertificate = {
  path: '/srv/certs/server/tls.crt',
  subject: 'C=DE, O=Acme\\, Inc., OU=a, OU=b, CN=localhost',
  issuer: 'CN=Acme CA 2026-01-01 0a1b2c3d',
  serialNumber: '0123456789ABCDEF0123',
  notBefore: new Date('2026-01-01T00:00:00Z'),
  notAfter: new Date('2026-04-01T00:00:00Z'),
}

function fleet(changes: Partial<FleetMetrics> = {}): FleetMetrics {
  return {
    certificates: [leaf],
    authorities: [
      { name: null, path: '/srv/certs/ca', dueAt: new Date('2030-01-01'), unusable: false, unfinished: false },
    ],
    targets: [
      {
        name: 'server',
        authority: null,
        path: '/srv/certs/server',
        dueAt: new Date('2026-03-02'),
        unusable: false,
        unfinished: true,
        drift: false,
        undelivered: 2,
      },
    ],
    now,
    run: { command: 'rotate', ok: true },
    ...changes,
  }
}

const scratch = temporaryDirectory()

/** What Prometheus says of a file of metrics: nothing, when it is good; throws otherwise. */
function promtool(text: string): string {
  const path = join(scratch, 'checked.prom')
  writeFileSync(path, text)
  return output('sh', '-c', `promtool check metrics < ${path}`)
}

const lines = (text: string, name: string): string[] => text.split('\n').filter((line) => line.startsWith(`${name}{`))

describe('metrics', () => {
  it('have the names and labels of the exporter whose dashboards read them', () => {
    const labels =
      'filename="tls.crt",filepath="/srv/certs/server/tls.crt",issuer_CN="Acme CA 2026-01-01 0a1b2c3d",' +
      'serial_number="5373003642731685151011",subject_C="DE",subject_O="Acme, Inc.",subject_OU="a",subject_CN="localhost"'
    const text = formatMetrics(fleet())
    expect(lines(text, 'x509_cert_not_before')).toEqual([`x509_cert_not_before{${labels}} 1767225600`])
    expect(lines(text, 'x509_cert_not_after')).toEqual([`x509_cert_not_after{${labels}} 1775001600`])
    expect(lines(text, 'x509_cert_expired')).toEqual([`x509_cert_expired{${labels}} 0`])
    const ended = formatMetrics(fleet({ certificates: [{ ...leaf, notAfter: new Date('2026-03-15T12:00:00Z') }] }))
    expect(lines(ended, 'x509_cert_expired')[0]).toMatch(/} 1$/)
  })

  it('tell of each target when it is due and what is left to do, as instants and counts', () => {
    const text = formatMetrics(fleet())
    const labels = 'name="server",path="/srv/certs/server"'
    expect(lines(text, 'certgen_target_due_timestamp_seconds')).toEqual([
      `certgen_target_due_timestamp_seconds{${labels}} 1772409600`,
    ])
    expect(lines(text, 'certgen_target_unfinished')).toEqual([`certgen_target_unfinished{${labels}} 1`])
    expect(lines(text, 'certgen_target_undelivered')).toEqual([`certgen_target_undelivered{${labels}} 2`])
    expect(lines(text, 'certgen_target_unusable')).toEqual([`certgen_target_unusable{${labels}} 0`])
    expect(lines(text, 'certgen_target_drift')).toEqual([`certgen_target_drift{${labels}} 0`])
    expect(lines(text, 'certgen_authority_due_timestamp_seconds')).toEqual([
      'certgen_authority_due_timestamp_seconds{path="/srv/certs/ca"} 1893456000',
    ])
    expect(text).not.toMatch(/seconds_left|remaining|expires_in/)
  })

  it('tell when a command last ran, and when it last ended well; of other commands what was told before', () => {
    const first = formatMetrics(fleet())
    const run = `certgen_last_run_timestamp_seconds{command="rotate"} ${unixNow}`
    const success = `certgen_last_success_timestamp_seconds{command="rotate"} ${unixNow}`
    expect(first).toContain(`${run}\n`)
    expect(first).toContain(`${success}\n`)
    const later = new Date(now.getTime() + 60_000)
    const failed = formatMetrics(fleet({ now: later, run: { command: 'rotate', ok: false } }), first)
    expect(lines(failed, 'certgen_last_run_timestamp_seconds')).toEqual([
      `certgen_last_run_timestamp_seconds{command="rotate"} ${unixNow + 60}`,
    ])
    expect(lines(failed, 'certgen_last_success_timestamp_seconds')).toEqual([success])
    const looked = formatMetrics(fleet({ now: later, run: { command: 'status', ok: true } }), first)
    expect(lines(looked, 'certgen_last_run_timestamp_seconds')).toEqual([
      run,
      `certgen_last_run_timestamp_seconds{command="status"} ${unixNow + 60}`,
    ])
  })

  it('leave out what is not known, and take whatever serial number there is', () => {
    const text = formatMetrics(
      fleet({
        certificates: [{ ...leaf, serialNumber: '-0A', subject: '' }],
        authorities: [{ name: 'a', path: '/ca', dueAt: null, unusable: true, unfinished: false }],
        targets: [],
      }),
    )
    expect(text).not.toContain('certgen_target_')
    expect(text).not.toContain('certgen_authority_due_timestamp_seconds')
    expect(text).toContain('certgen_authority_unusable{authority="a",path="/ca"} 1')
    expect(text).toContain('serial_number="-10"}')
  })
})

describe.skipIf(missing('promtool'))('metrics, as Prometheus reads them', () => {
  it.each([
    ['a fleet', fleet()],
    ['nothing at all', fleet({ certificates: [], authorities: [], targets: [] })],
    [
      'names with all that has to be escaped',
      fleet({
        certificates: [{ ...leaf, path: '/srv/"a\\b\n/tls.crt', subject: 'CN=\\"\\\\ \\0A\\09 \\, é 日本 {}=#' }],
        targets: [{ ...fleet().targets[0]!, name: '"\\\n{}', authority: 'ä"' }],
      }),
    ],
  ])('are valid: %s', (_what, metrics) => {
    const text = formatMetrics(metrics)
    expect(text.endsWith('\n')).toBe(true)
    expect(promtool(text)).toBe('')
  })

  it('would not be without what ends or escapes them, which promtool finds', () => {
    expect(() => promtool(formatMetrics(fleet()).trimEnd())).toThrow()
    expect(() => promtool(formatMetrics(fleet()).replace('name="server"', 'name="ser"ver"'))).toThrow()
  })
})

describe('the metrics file', () => {
  it('is replaced whole, readable for the collector, and leaves nothing beside it', async () => {
    const directory = temporaryDirectory()
    const path = join(directory, 'certgen.prom')
    expect(await writeMetrics(path, fleet())).toBe(true)
    const { ino, mode } = statSync(path)
    expect((mode & 0o777).toString(8)).toBe('644')
    expect(await writeMetrics(path, fleet({ now: new Date(now.getTime() + 1000) }))).toBe(true)
    expect(statSync(path).ino).not.toBe(ino)
    expect(readdirSync(directory)).toEqual(['certgen.prom'])
  })

  it('is left alone when there is nothing new to say', async () => {
    const path = join(temporaryDirectory(), 'certgen.prom')
    await writeMetrics(path, fleet())
    const { ino, mtimeMs } = statSync(path)
    expect(await writeMetrics(path, fleet())).toBe(false)
    expect(statSync(path)).toMatchObject({ ino, mtimeMs })
  })

  it('keeps nothing of a file that was something else', async () => {
    const path = join(temporaryDirectory(), 'certgen.prom')
    writeFileSync(path, 'certgen_last_run_timestamp_seconds{command="x\\"} 1\nnode_load1 0.5\n')
    await writeMetrics(path, fleet())
    expect(readFileSync(path, 'utf8')).toBe(formatMetrics(fleet()))
  })

  it('is refused where it cannot be written', async () => {
    const directory = temporaryDirectory()
    mkdirSync(join(directory, 'a'))
    expect((await failure(writeMetrics(join(directory, 'a'), fleet()))).code).toBe('write-failed')
    expect((await failure(writeMetrics(join(directory, 'b/c.prom'), fleet()))).code).toBe('write-failed')
  })
})
