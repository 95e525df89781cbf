import { Chalk } from 'chalk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { drawTimeline } from '../../src/cli/timeline-screen.ts'
import type { LabelledLife } from '../../src/cli/timeline-screen.ts'
import { axisFor, placeOf, ticksOf } from '../../src/cli/timeline.ts'
import { widthOf } from '../../src/cli/terminal.ts'
import { now } from './fleet-status.ts'

const day = 86_400_000

function life(label: string, from: string, to: string, dueAt: string | null, root = false): LabelledLife {
  const due = dueAt === null ? null : new Date(dueAt)
  return { label, root, notBefore: new Date(from), notAfter: new Date(to), dueAt: due }
}

const lives = [
  life('certs/ca', '2026-01-01', '2031-01-01', '2030-10-03', true),
  life('certs/due', '2026-01-01', '2026-04-01', '2026-03-01'),
  life('certs/server', '2026-03-01', '2026-05-30', '2026-04-30'),
  life('certs/ended', '2025-12-01', '2026-03-01', '2026-01-30'),
  life('certs/foreign', '2026-02-01', '2026-05-02', null),
]

const plain = new Chalk({ level: 0 })

describe('the axis of a timeline', () => {
  it('is made for most lives, and one that is much longer leaves it on both sides', () => {
    const long = life('long', '2020-01-01', '2040-01-01', null)
    const axis = axisFor([lives[1]!, lives[2]!, lives[3]!, long], now)
    for (const { notBefore, notAfter } of lives.slice(1, 4)) {
      expect(placeOf(axis, notBefore)).toBeGreaterThan(-0.1)
      expect(placeOf(axis, notAfter)).toBeLessThan(1)
    }
    expect(placeOf(axis, long.notBefore)).toBeLessThan(-5)
    expect(placeOf(axis, long.notAfter)).toBeGreaterThan(5)
  })

  it('always has today on it', () => {
    const instant = fc.integer({ min: Date.UTC(1990, 0), max: Date.UTC(2090, 0) })
    fc.assert(
      fc.property(fc.array(fc.tuple(instant, instant), { minLength: 1 }), instant, (spans, at) => {
        const drawn = spans.map(([a, b]) => {
          return { notBefore: new Date(Math.min(a, b)), notAfter: new Date(Math.max(a, b)), dueAt: null }
        })
        const place = placeOf(axisFor(drawn, new Date(at)), new Date(at))
        expect(place).toBeGreaterThan(0)
        expect(place).toBeLessThan(1)
      }),
    )
  })

  it.each([
    ['2026-03-15T10:00:00Z', '2026-03-15T13:00:00Z', 4, ['03-15 10:00', '03-15 11:00', '03-15 12:00', '03-15 13:00']],
    ['2026-03-14T22:00:00Z', '2026-03-18T02:00:00Z', 4, ['2026-03-15', '2026-03-16', '2026-03-17', '2026-03-18']],
    ['2025-12-10T00:00:00Z', '2026-06-10T00:00:00Z', 4, ['2026-01', '2026-03', '2026-05']],
    ['2024-05-01T00:00:00Z', '2033-01-01T00:00:00Z', 5, ['2026', '2028', '2030', '2032']],
  ])('from %s to %s has marks at round instants', (start, end, most, labels) => {
    const ticks = ticksOf({ start: Date.parse(start), end: Date.parse(end) }, most)
    expect(ticks.map(({ label }) => label)).toEqual(labels)
  })

  it('has a handful of marks on any stretch of time, all of them on it', () => {
    const start = fc.integer({ min: Date.UTC(1990, 0), max: Date.UTC(2090, 0) })
    fc.assert(
      fc.property(start, fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 3, max: 12 }), (from, length, most) => {
        const axis = { start: from, end: from + length * day }
        const ticks = ticksOf(axis, most)
        expect(ticks.length).toBeLessThanOrEqual(most + 2)
        for (const { at } of ticks) {
          expect(placeOf(axis, at)).toBeGreaterThanOrEqual(0)
          expect(placeOf(axis, at)).toBeLessThanOrEqual(1)
        }
      }),
    )
  })
})

describe('a timeline in a terminal', () => {
  it('has bars, today and due dates, in characters that stand for themselves without colour', () => {
    const screen = { width: 80, height: null, unicode: true, paint: plain }
    expect(drawTimeline(lives, now, screen)).toEqual([
      '                      2026-01               2026-03                2026-05',
      '               ───────┬─────────────────────┬──────────────────────┬────────────',
      'certs/ca              ━━━━━━━━━━━━━━━━━━━━━━━━━━━━┃━━━━━━━━━━━━━━━━━━━━━━━━━━━━▶',
      'certs/due             ━━━━━━━━━━━━━━━━━━━━━━◆╌╌╌╌╌┃╌╌╌╌╌╌',
      'certs/server                                ━━━━━━┃━━━━━━━━━━━━━━━━◆╌╌╌╌╌╌╌╌╌╌╌',
      'certs/ended    ◀━━━━━━━━━━━━━━━━━◆╌╌╌╌╌╌╌╌╌╌╌     ┃',
      'certs/foreign                     ━━━━━━━━━━━━━━━━┃━━━━━━━━━━━━━━━━━━',
      '               ┃ today, 2026-03-15   ◆ due   ╌╌╌ due until it ends',
    ])
  })

  it('is ASCII where there is only that', () => {
    const screen = { width: 60, height: null, unicode: false, paint: plain }
    expect(drawTimeline(lives, now, screen)).toEqual([
      '                    2026-01        2026-03         2026-05',
      '               -----+--------------+---------------+--------',
      'certs/ca            ===================|===================>',
      'certs/due           ===============D---|----',
      'certs/server                       ====|===========D--------',
      'certs/ended    <===========D--------   |',
      'certs/foreign               ===========|============',
      '               | today, 2026-03-15',
      '               D due',
      '               --- due until it ends',
    ])
  })

  it('fits every width, whatever the labels are', () => {
    const labelled = [...lives, life('certs/' + '証明書'.repeat(20), '2026-03-01', '2026-05-30', null)]
    for (let width = 40; width <= 160; width++) {
      for (const unicode of [true, false]) {
        for (const line of drawTimeline(labelled, now, { width, height: null, unicode, paint: plain })) {
          expect(widthOf(line)).toBeLessThanOrEqual(width)
        }
      }
    }
  })

  it('is nothing without any certificate', () => {
    expect(drawTimeline([], now, { width: 80, height: null, unicode: true, paint: plain })).toEqual([])
  })
})
