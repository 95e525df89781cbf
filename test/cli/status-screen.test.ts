import { Chalk } from 'chalk'
import { describe, expect, it } from 'vitest'
import { drawStatus } from '../../src/cli/status-screen.ts'
import type { FleetStatus } from '../../src/cli/status-report.ts'
import { checkLines } from '../../src/cli/status-report.ts'
import { roughly } from '../../src/cli/status-words.ts'
import { widthOf } from '../../src/cli/terminal.ts'
import type { Screen } from '../../src/cli/terminal.ts'
import { CertgenError } from '../../src/errors.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { Issuer } from '../reload/issuer.ts'
import { authority, certificate, due, endpoint, fleet, now, target } from './fleet-status.ts'

const ascii: Screen = { width: 80, height: null, unicode: false, paint: new Chalk({ level: 0 }) }

function draw(status: FleetStatus, screen: Partial<Screen> = {}, all = false): string {
  return drawStatus(status, { ...ascii, ...screen }, { all, command: 'certgen' })
}

function services(count: number): FleetStatus['targets'] {
  return Array.from({ length: count }, (_, index) => target(`service-${String(index).padStart(4, '0')}`))
}

const [many, few] = [services(1000), services(30)]

describe('a status on a screen', () => {
  it('is short where all is well, and says what is due next', () => {
    expect(draw(fleet()).split('\n')).toEqual([
      'all is well: the authority, 1 target',
      'next due: certs/server on 2026-04-30, in 45d',
      '',
      'STATE  AUTHORITY  ENDS        LEFT  DUE         KEY         SHA256',
      'ok     certs/ca   2031-01-01  4y    2030-10-03  ecdsa-p256  0123456789abcdef',
      '       subject CN=Acme CA 2026-01-01 0a1b2c3d',
      '',
      'STATE  TARGET        ENDS        LEFT  DUE         KEY         SHA256',
      'ok     certs/server  2026-05-30  75d   2026-04-30  ecdsa-p256  0123456789abcdef',
      '       names DNS:localhost, IP:127.0.0.1, subject CN=localhost',
      '',
      '                2026-03              2026-04             2026-05',
      '              --+--------------------+-------------------+--------------------+-',
      'certs/ca      <===========|====================================================>',
      'certs/server    ==========|==============================D--------------------',
      '              | today, 2026-03-15   D due   --- due until it ends',
    ])
  })

  it('says first that something needs attention, why at its row, and last what to run', () => {
    const status = fleet({
      authorities: [
        authority({
          previous: { ...certificate('2021-01-01', '2026-06-01'), presentedBy: 1, trustedBy: 4 },
        }),
      ],
      targets: [
        target('broken', {
          leaf: null,
          dueAt: null,
          attention: [
            {
              code: 'damaged',
              message: null,
              findings: [
                {
                  code: 'key-mismatch',
                  severity: 'error',
                  path: 'certs/broken/tls.key',
                  facts: { certificate: 'certs/broken/tls.crt', subject: 'CN=broken' },
                },
              ],
            },
          ],
        }),
        target('behind', { attention: [{ code: 'unfinished', part: 'earlier-authority' }] }),
        target('hooked', { attention: [{ code: 'undelivered', followUps: ['exec nginx -s reload'] }] }),
        target('old', {
          leaf: certificate('2026-01-01', '2026-04-01'),
          dueAt: new Date('2026-03-01'),
          attention: [due],
        }),
        target('theirs', { state: 'foreign', dueAt: null }),
      ],
    })
    expect(draw(status).split('\n')).toEqual([
      'needs attention: 4 of 5 targets',
      '',
      'STATE  AUTHORITY  ENDS        LEFT  DUE         KEY         SHA256',
      'ok     certs/ca   2031-01-01  4y    2030-10-03  ecdsa-p256  0123456789abcdef',
      '       subject CN=Acme CA 2026-01-01 0a1b2c3d',
      '       old CA: 1 target still presents it, 4 trust it; it ends on 2026-06-01',
      '',
      'STATE        TARGET        ENDS        LEFT  DUE         KEY',
      'damaged      certs/broken  -           -     -           -',
      '             it cannot be read back: certs/broken/tls.key: the key does not',
      '             belong to the certificate certs/broken/tls.crt (CN=broken)',
      'unfinished   certs/behind  2026-05-30  75d   2026-04-30  ecdsa-p256',
      '             an interrupted rotation left it with a leaf of the earlier',
      '             authority',
      'undelivered  certs/hooked  2026-05-30  75d   2026-04-30  ecdsa-p256',
      '             written, but not followed up yet: exec nginx -s reload',
      'due          certs/old     2026-04-01  16d   2026-03-01  ecdsa-p256',
      'foreign      certs/theirs  2026-05-30  75d   -           ecdsa-p256',
      '',
      '               2026-01                  2026-03                   2026-05',
      '              -+------------------------+-------------------------+-------------',
      'certs/ca       ===============================|================================>',
      'certs/behind                            ======|==================D-------------',
      'certs/hooked                            ======|==================D-------------',
      'certs/old      =========================D-----|-------',
      'certs/theirs                            ======|================================',
      '              | today, 2026-03-15   D due   --- due until it ends',
      '',
      'certgen rollback broken  back to the generation before, if any',
      'certgen --renew          renews what is due, missing or not as configured',
      'certgen                  finishes what is unfinished, and follows up',
    ])
  })

  it.each([40, 60, 80, 100, 120, 160])('fits %i columns', (width) => {
    const status = fleet({ targets: many.slice(0, 50) })
    for (const unicode of [true, false]) {
      for (const line of draw(status, { width, unicode }).split('\n')) expect(widthOf(line)).toBeLessThanOrEqual(width)
    }
  })

  it('shows more in a wider terminal', () => {
    expect(draw(fleet(), { width: 80 })).not.toMatch(/SHA256.*NAMES/)
    expect(draw(fleet(), { width: 120 })).toMatch(
      /SHA256 +NAMES\n.*0123456789abcdef {2}DNS:localhost, IP:127\.0\.0\.1\n/,
    )
  })

  it('shows the first of a thousand targets, and counts the others by what they are', () => {
    const status = fleet({
      targets: [...few.map((row) => ({ ...row, state: 'due' as const, attention: [due] })), ...many],
    })
    const text = draw(status)
    expect(text.match(/^due +certs\/service-/gm)).toHaveLength(20)
    expect(text).toContain('and 1010 more targets (10 due, 1000 ok): see --all')
    expect(text.split('\n').length).toBeLessThan(60)
    expect(draw(status, {}, true).match(/^(due|ok) +certs\/service-/gm)).toHaveLength(1030)
  })

  it('says the verdict again above the prompt where the first line has scrolled away', () => {
    const status = fleet({ targets: [target('old', { attention: [due] }), ...few] })
    const verdicts = (height: number | null): number => draw(status, { height }).match(/needs attention: /g)!.length
    expect([verdicts(null), verdicts(24), verdicts(100)]).toEqual([1, 2, 1])
  })

  it('colours by gravity, and says the same without', () => {
    const status = fleet({ targets: [target('old', { attention: [due] }), target('server')] })
    const coloured = draw(status, { paint: new Chalk({ level: 1 }) })
    expect(coloured).toContain('\u001b[33mdue  \u001b[39m')
    expect(coloured).toContain('\u001b[32mok   \u001b[39m')
    // eslint-disable-next-line no-control-regex -- the escapes that chalk writes
    expect(coloured.replaceAll(/\u001b\[\d+m/g, '').replaceAll(/ +$/gm, '')).toBe(draw(status).replaceAll(/ +$/gm, ''))
  })

  it('lets nothing from a certificate or a directory steer the terminal', () => {
    const hostile = '\u001b]0;owned\u0007\u202e\n'
    const status = fleet({
      authorities: [
        authority({ path: hostile, certificate: certificate('2026-01-01', '2031-01-01', { subject: hostile }) }),
      ],
      targets: [
        target(hostile, {
          path: hostile,
          leaf: certificate('2026-03-01', '2026-05-30', { names: [hostile], subject: hostile }),
          attention: [
            { code: 'unreadable', error: new CertgenError('unreadable', hostile, { hints: [hostile] }) },
            { code: 'undelivered', followUps: [hostile] },
          ],
        }),
      ],
      endpoints: [
        endpoint({ target: hostile, endpoint: hostile, findings: [{ code: 'unreachable', detail: hostile }] }),
      ],
    })
    for (const unicode of [true, false]) {
      // eslint-disable-next-line no-control-regex -- what must not be there
      expect(draw(status, { unicode, width: 160 })).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f\u202e]/)
    }
  })

  it('says of endpoints what they serve, those that serve something else first', async () => {
    const issuer = new Issuer()
    const set = await issuer.set(await issuer.authority())
    const pem = set.cert.toString()
    const leaf = readCertificate(Buffer.from(pem.replaceAll(/-----[^-]+-----/g, ''), 'base64'))
    const status = fleet({
      endpoints: [
        endpoint({ chain: [leaf] }),
        endpoint({
          endpoint: 'db:5432',
          address: '10.0.0.1',
          chain: [leaf],
          findings: [{ code: 'old-leaf', detail: '' }],
        }),
      ],
    })
    const text = draw(status)
    expect(text).toMatch(/needs attention: 1 of 2 endpoints/)
    expect(text).toMatch(
      /STATE +ENDPOINT +TARGET.*\nold-leaf {2}db:5432 \(10\.0\.0\.1\) +server .*\n +it still serves the leaf from before the last change\ncurrent {3}localhost:8443 \(127\.0\.0\.1\) /,
    )
    expect(text).toContain('reload the server at db:5432: its files are newer than what it serves')
    expect(checkLines(status)).toEqual(['db:5432 (10.0.0.1): it still serves the leaf from before the last change'])
  })

  it('tells short lives to the minute', () => {
    const leaf = certificate('2026-03-15T00:00:00Z', '2026-03-16T00:00:00Z')
    expect(draw(fleet({ targets: [target('job', { leaf, dueAt: new Date('2026-03-15T16:00:00Z') })] }))).toMatch(
      /ok +certs\/job +2026-03-16 00:00Z +12h +2026-03-15 16:00Z/,
    )
  })

  it('advises to restore an authority that is gone, and to make one where nothing is', () => {
    const missing = authority({ state: 'missing', attention: [{ code: 'missing' }], certificate: null, dueAt: null })
    expect(draw(fleet({ authorities: [missing] }))).toMatch(/restore the authority from a backup/)
    const empty = draw(fleet({ authorities: [missing], targets: [] }))
    expect(empty).toMatch(/no targets/)
    expect(empty).toMatch(/^certgen {2}makes an authority; or name the right directory with --dir$/m)
  })

  it('advises commands for the same fleet, with a name quoted as a shell needs it', () => {
    const damaged = { code: 'damaged', message: null, findings: [] } as const
    const status = fleet({ targets: [target("it's", { attention: [damaged] }), target('old', { attention: [due] })] })
    const text = drawStatus(status, ascii, { all: false, command: 'certgen --dir /srv/tls' })
    expect(text).toContain("certgen rollback --dir /srv/tls 'it'\\''s'")
    expect(text).toMatch(/^certgen --dir \/srv\/tls --renew$/m)
  })
})

it.each([
  [0, '0m'],
  [59_000, '0m'],
  [119 * 60_000, '119m'],
  [120 * 60_000, '2h'],
  [47 * 3_600_000, '47h'],
  [48 * 3_600_000, '2d'],
  [729 * 86_400_000, '729d'],
  [730 * 86_400_000, '2y'],
  [-3 * 86_400_000, '-3d'],
])('%i ms are roughly %s', (length, text) => {
  expect(roughly(length)).toBe(text)
})

it('gives a line for each reason', () => {
  const row = target('x', { attention: [due, { code: 'drift', part: 'leaf' }] })
  expect(checkLines(fleet({ targets: [row] }))).toEqual([
    'certs/x: due since 2026-03-10 (5d ago)',
    'certs/x: the leaf is not as the configuration asks',
  ])
  expect(now.getTime()).toBe(Date.UTC(2026, 2, 15, 12))
})
