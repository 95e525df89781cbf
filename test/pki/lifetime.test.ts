import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BACKDATE,
  dueAt,
  formatDuration,
  isDue,
  isValidAt,
  lifetimeOf,
  parseDuration,
  validityFrom,
} from '../../src/pki/lifetime.ts'
import type { Duration } from '../../src/pki/lifetime.ts'
import { errorOf } from '../failure.ts'

const day = 86_400
const centuryInSeconds = 100 * 365 * day
const duration = fc.integer({ min: 1, max: centuryInSeconds }).map((seconds) => seconds as Duration)
const instant = fc.date({ min: new Date('1990-01-01'), max: new Date('2200-01-01'), noInvalidDate: true })

describe('parseDuration', () => {
  test.each([
    ['45s', 45],
    ['30m', 1_800],
    ['12h', 43_200],
    ['90d', 90 * day],
    ['2w', 14 * day],
    ['5y', 5 * 365 * day],
    ['1d12h', 1.5 * day],
    ['1y2w3d4h5m6s', 365 * day + 17 * day + 4 * 3_600 + 5 * 60 + 6],
    ['100y', centuryInSeconds],
  ])('%s is %d seconds', (text, seconds) => expect(parseDuration(text)).toBe(seconds))

  test.each([
    '5x',
    '',
    '-1d',
    '0d',
    '0d0h',
    '1.5h',
    '90',
    'd',
    ' 1d',
    '1d ',
    '1d\n',
    '1D',
    '12h1d',
    '1d1d',
    '1e3s',
    '٣d',
  ])('%j is not a duration', (text) => {
    const error = errorOf(() => parseDuration(text))
    expect(error.code).toBe('usage')
    expect(error.message).toBe(`${JSON.stringify(text)} is not a duration`)
    expect(error.hints).toEqual(['write a number and a unit: 45s, 30m, 12h, 90d, 2w or 5y'])
  })

  test.each(['101y', '100y1s', `${'9'.repeat(40)}d`])('%j is too long', (text) => {
    const error = errorOf(() => parseDuration(text))
    expect(error.code).toBe('usage')
    expect(error.message).toContain('is too long')
  })
})

describe('any text', () => {
  const count = fc.option(fc.nat(400), { nil: undefined })
  const parts = fc.record({ y: count, w: count, d: count, h: count, m: count, s: count })
  const sizes = { y: 365 * day, w: 7 * day, d: day, h: 3_600, m: 60, s: 1 }
  const units = ['y', 'w', 'd', 'h', 'm', 's'] as const

  test('that is a sum with the larger unit first is that many seconds, unless it is nothing or more than a century', () => {
    fc.assert(
      fc.property(parts, (counts) => {
        const used = units.filter((unit) => counts[unit] !== undefined)
        const text = used.map((unit) => `${counts[unit]}${unit}`).join('')
        const seconds = used.reduce((sum, unit) => sum + (counts[unit] ?? 0) * sizes[unit], 0)
        if (seconds > 0 && seconds <= centuryInSeconds) expect(parseDuration(text)).toBe(seconds)
        else expect(errorOf(() => parseDuration(text)).code).toBe('usage')
      }),
    )
  })

  test('with its units in another order, or one of them twice, is no duration', () => {
    const shuffled = fc.shuffledSubarray([...units, ...units], { minLength: 2, maxLength: 5 })
    fc.assert(
      fc.property(shuffled, fc.integer({ min: 1, max: 9 }), (order, count) => {
        const sorted = order.every(
          (unit, index) => index === 0 || units.indexOf(order[index - 1]!) < units.indexOf(unit),
        )
        const parse = (): number => parseDuration(order.map((unit) => `${count}${unit}`).join(''))
        if (sorted) expect(parse()).toBeGreaterThan(0)
        else expect(errorOf(parse).code).toBe('usage')
      }),
    )
  })

  test('is a duration or an error of usage on one line, and a duration is the same however it is written', () => {
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[0-9ywdhmse. -]{0,12}$/))
    fc.assert(
      fc.property(text, (input) => {
        let seconds: Duration
        try {
          seconds = parseDuration(input)
        } catch (error) {
          expect(error).toMatchObject({ name: 'CertgenError', code: 'usage' })
          expect((error as Error).message).not.toContain('\n')
          return
        }
        expect(input).toMatch(/^[0-9ywdhms]+$/)
        expect(parseDuration(formatDuration(seconds))).toBe(seconds)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('formatDuration', () => {
  test.each([
    [90 * day, '90d'],
    [14 * day, '14d'],
    [1.5 * day, '1d12h'],
    [5 * 365 * day, '5y'],
    [400 * day, '400d'],
    [3_661, '1h1m1s'],
    [0, '0s'],
    [-90, '-1m30s'],
    [1.9, '1s'],
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text))

  test('is read back by parseDuration', () => {
    fc.assert(
      fc.property(duration, (seconds) => {
        expect(parseDuration(formatDuration(seconds))).toBe(seconds)
      }),
    )
  })
})

describe('validityFrom', () => {
  const now = new Date('2025-06-01T12:00:00.789Z')

  test('begins five minutes ago and ends a lifetime from now, in whole seconds', () => {
    expect(validityFrom(now, parseDuration('90d'))).toEqual({
      notBefore: new Date('2025-06-01T11:55:00Z'),
      notAfter: new Date('2025-08-30T12:00:00Z'),
      capped: false,
    })
  })

  test('ends no later than its issuer', () => {
    const cap = new Date('2025-07-01T00:00:00Z')
    expect(validityFrom(now, parseDuration('90d'), cap)).toMatchObject({ notAfter: cap, capped: true })
    const exact = new Date('2025-08-30T12:00:00Z')
    expect(validityFrom(now, parseDuration('90d'), exact)).toMatchObject({ notAfter: exact, capped: false })
  })

  test('is refused when the issuer has ended', () => {
    const error = errorOf(() => validityFrom(now, parseDuration('1h'), new Date('2025-06-01T12:00:00Z')))
    expect(error.code).toBe('authority-unusable')
    expect(error.message).toBe('the authority ended at 2025-06-01T12:00:00Z')
  })

  test('is refused beyond the year 9999, and reaches to its last second', () => {
    const late = new Date('9999-12-31T23:59:58Z')
    expect(validityFrom(late, 1 as Duration).notAfter).toEqual(new Date('9999-12-31T23:59:59Z'))
    expect(errorOf(() => validityFrom(late, 2 as Duration)).code).toBe('usage')
    expect(errorOf(() => validityFrom(new Date(NaN), 2 as Duration)).code).toBe('usage')
  })

  test('gives its lifetime back through lifetimeOf, so a reissue is as long', () => {
    fc.assert(
      fc.property(instant, instant, duration, (made, reissued, lifetime) => {
        const validity = validityFrom(made, lifetime)
        expect(lifetimeOf(validity)).toBe(lifetime)
        expect(lifetimeOf(validityFrom(reissued, lifetimeOf(validity)))).toBe(lifetime)
        expect(isValidAt(validity, made)).toBe(true)
      }),
    )
  })
})

describe('lifetimeOf', () => {
  test('is at least a second', () => {
    const notBefore = new Date('2025-06-01T12:00:00Z')
    expect(lifetimeOf({ notBefore, notAfter: notBefore })).toBe(1)
    expect(lifetimeOf({ notBefore, notAfter: new Date(notBefore.getTime() + BACKDATE * 1000) })).toBe(1)
  })
})

describe('isValidAt', () => {
  // RFC 5280 section 4.1.2.5: from notBefore through notAfter, inclusive.
  test('includes both ends', () => {
    const validity = { notBefore: new Date('2025-01-01T00:00:00Z'), notAfter: new Date('2025-02-01T00:00:00Z') }
    expect(isValidAt(validity, validity.notBefore)).toBe(true)
    expect(isValidAt(validity, validity.notAfter)).toBe(true)
    expect(isValidAt(validity, new Date('2024-12-31T23:59:59Z'))).toBe(false)
    expect(isValidAt(validity, new Date('2025-02-01T00:00:01Z'))).toBe(false)
  })
})

describe('dueAt', () => {
  const validity = { notBefore: new Date('2025-01-01T00:00:00Z'), notAfter: new Date('2025-04-01T00:00:00Z') }

  test('is two thirds of the life after its begin', () => {
    expect(dueAt(validity)).toEqual(new Date('2025-03-02T00:00:00Z'))
  })

  test('is renewBefore before its end', () => {
    expect(dueAt(validity, parseDuration('1d'))).toEqual(new Date('2025-03-31T00:00:00Z'))
  })

  test('is its begin when renewBefore is longer than its life', () => {
    expect(dueAt(validity, parseDuration('90d'))).toEqual(validity.notBefore)
    expect(dueAt(validity, parseDuration('5y'))).toEqual(validity.notBefore)
  })

  test('lies within the life, on a whole second, and from it on the certificate is due', () => {
    fc.assert(
      fc.property(instant, duration, fc.option(duration, { nil: undefined }), (now, lifetime, renewBefore) => {
        const made = validityFrom(now, lifetime)
        const due = dueAt(made, renewBefore)
        expect(due >= made.notBefore && due < made.notAfter).toBe(true)
        expect(due.getTime() % 1000).toBe(0)
        expect(isDue(made, due, renewBefore)).toBe(true)
        expect(isDue(made, new Date(due.getTime() - 1), renewBefore)).toBe(false)
        expect(isDue(made, made.notAfter, renewBefore)).toBe(true)
      }),
    )
  })
})
