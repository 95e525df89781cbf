import { describe, expect, it } from 'vitest'
import { statusPage } from '../../src/cli/status-page.ts'
import type { FleetStatus } from '../../src/cli/status-report.ts'
import { CertgenError } from '../../src/errors.ts'
import { missing } from '../requirements.ts'
import { measureInChromium } from './chromium.ts'
import { authority, certificate, due, endpoint, fleet, target } from './fleet-status.ts'

const long = `${'averylongnameofaservice'.repeat(8)}.test`

/** Everything that a page can show, and everything of it too long. */
const everything: FleetStatus = fleet({
  authorities: [
    authority({
      previous: { ...certificate('2021-01-01', '2026-06-01'), presentedBy: 1, trustedBy: 4 },
      successor: { ...certificate('2026-03-01', '2031-03-01'), resumesAt: new Date('2026-03-15T13:00:00Z') },
    }),
    authority({
      path: `/srv/${long}/ca`,
      state: 'missing',
      attention: [{ code: 'missing' }],
      certificate: null,
      dueAt: null,
    }),
  ],
  targets: [
    target(long, {
      leaf: certificate('2026-01-01', '2026-04-01', {
        subject: `CN=${long}`,
        names: [`DNS:${long}`, `URI:spiffe://${long}`],
      }),
      attention: [due, { code: 'undelivered', followUps: [`exec ${long}`] }],
      authority: 'internal',
    }),
    target('gone', {
      leaf: null,
      dueAt: null,
      attention: [{ code: 'unreadable', error: new CertgenError('unreadable', `cannot read /srv/${long}`) }],
    }),
    target('ended', {
      leaf: certificate('2025-12-01', '2026-03-01'),
      attention: [{ code: 'expired', since: new Date() }],
    }),
    target('job', { leaf: certificate('2026-03-15T00:00:00Z', '2026-03-16T00:00:00Z') }),
    target('many', {
      leaf: certificate('2026-03-01', '2026-05-30', {
        names: Array.from({ length: 60 }, (_, index) => `DNS:service-${index}.gateway.svc.cluster.local`),
      }),
    }),
    target('theirs', { state: 'foreign', dueAt: null }),
  ],
  endpoints: [
    endpoint(),
    endpoint({
      endpoint: `${long}:443`,
      target: long,
      findings: [{ code: 'unreachable', detail: `no answer: ${long}` }],
    }),
  ],
})

const payload = `"><script>window.owned = 1</script><img src=x onerror="window.owned = 1">'&amp;\u202e`
const hostile: FleetStatus = fleet({
  authorities: [
    authority({
      path: payload,
      name: payload,
      certificate: certificate('2026-01-01', '2031-01-01', { subject: payload }),
    }),
  ],
  targets: [
    target(payload, {
      path: payload,
      authority: payload,
      leaf: certificate('2026-03-01', '2026-05-30', {
        subject: payload,
        names: [payload],
        key: payload,
        sha256: payload,
      }),
      attention: [{ code: 'undelivered', followUps: [payload] }],
    }),
  ],
  endpoints: [
    endpoint({
      endpoint: payload,
      target: payload,
      protocol: payload,
      findings: [{ code: 'unreachable', detail: payload }],
    }),
  ],
})

describe('the page of a status', () => {
  it('holds all that it needs: no script, and nothing from anywhere else', () => {
    const page = statusPage(everything)
    expect(page).not.toMatch(/<script|<iframe|<object|<embed|@import|url\(|srcset|\bsrc=/i)
    expect([...page.matchAll(/href="([^"]*)"/g)].map(([, href]) => href)).toEqual(['data:,'])
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`)
    expect(page).toMatch(/^<!doctype html>\n<html lang="en">/)
  })

  it('says what the screen says: states, ends, due dates and reasons', () => {
    const page = statusPage(everything)
    for (const text of ['unreadable', 'expired', 'due since 2026-03-10', 'foreign', 'of the authority internal']) {
      expect(page).toContain(text)
    }
    expect(page).toContain(
      '<strong class="bad">needs attention</strong>: 1 of 2 authorities, 3 of 6 targets, 1 of 2 endpoints',
    )
    expect(page).toContain(
      '<time datetime="2026-04-01T00:00:00.000Z"><span>2026-04-01</span></time> <small>16d</small>',
    )
    expect(page).toContain('<span>2026-03-16</span> <span>00:00Z</span>')
    expect(statusPage(fleet())).toContain(
      '<strong class="good">all is well</strong>: the authority, 1 target; next due: certs/server on 2026-04-30, in 45d',
    )
  })

  it('tells a screen reader what a bar shows, and which cell is a head', () => {
    const page = statusPage(fleet())
    expect(page).toContain(
      '<div class="bar" role="img" aria-label="valid from 2026-03-01 to 2026-05-30, due on 2026-04-30; today is 2026-03-15"',
    )
    expect(page).toContain('<th role="rowheader" scope="row">certs/server')
    expect(page.match(/<th role="columnheader" scope="col">/g)).toHaveLength(16)
    expect(page.match(/<tr role="row">/g)).toHaveLength(4)
  })

  it('escapes whatever a certificate, a path or an endpoint says', () => {
    const page = statusPage(hostile)
    expect(page).not.toContain('<script>')
    expect(page).not.toContain('<img')
    expect(page).not.toContain('\u202e')
    expect(page.match(/&#34;&#62;&#60;script&#62;window\.owned = 1&#60;\/script&#62;/g)!.length).toBeGreaterThan(10)
  })
})

describe.skipIf(missing('chromium'))('the page in Chromium', () => {
  /** What stands out of the page on its right, but for what is cut where it stands. */
  const overflow = `{
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    out: [...document.querySelectorAll('body *:not(thead, thead *, .bar *)')]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5)
      .map((element) => element.tagName + ' ' + element.textContent.slice(0, 40)),
    cards: getComputedStyle(document.querySelector('tbody td[data-label]')).display === 'grid',
    requests: performance.getEntriesByType('resource').map(({ name }) => name),
  }`

  it.each([
    [390, true],
    [320, true],
    [1280, false],
    [1160, false],
  ])('fits %i pixels without a scroll to the side, and asks for nothing', async (width, cards) => {
    expect(await measureInChromium(statusPage(everything), width, overflow)).toEqual({
      width,
      scroll: width,
      out: [],
      cards,
      requests: [],
    })
  })

  it('runs nothing of a hostile subject, and shows it as the text that it is', async () => {
    const seen = `{
      owned: 'owned' in window,
      elements: document.querySelectorAll('img, script').length,
      shown: document.querySelector('tbody th').firstChild.textContent,
    }`
    expect(await measureInChromium(statusPage(hostile), 390, seen)).toEqual({
      owned: false,
      // The one that measures.
      elements: 1,
      shown: payload.replace('\u202e', '\\u202e'),
    })
  })
})
