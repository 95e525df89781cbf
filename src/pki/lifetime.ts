import { CertgenError } from '../errors.ts'
import { quote } from './names.ts'

/** Whole seconds, more than 0. */
export type Duration = number & { readonly __brand: 'seconds' }

/** Seconds per unit, largest first. A year is 365 days. */
const units = { y: 31_536_000, w: 604_800, d: 86_400, h: 3_600, m: 60, s: 1 } as const

const durationText = /^(?:(?<y>\d+)y)?(?:(?<w>\d+)w)?(?:(?<d>\d+)d)?(?:(?<h>\d+)h)?(?:(?<m>\d+)m)?(?:(?<s>\d+)s)?$/
const longest = 100 * units.y

/**
 * Reads `90d`, `12h`, `5y`, `30m`, `45s`, `2w`, or a sum with the larger unit first: `1d12h`. Throws CertgenError
 * `usage` for anything else, for nothing (`0d`), and for more than 100 years.
 */
export function parseDuration(text: string): Duration {
  const counts = durationText.exec(text)?.groups
  const seconds = counts
    ? Object.entries(units).reduce((sum, [unit, size]) => sum + Number(counts[unit] ?? 0) * size, 0)
    : 0
  if (seconds === 0) {
    throw new CertgenError('usage', `${quote(text)} is not a duration`, {
      hints: ['write a number and a unit: 45s, 30m, 12h, 90d, 2w or 5y'],
    })
  }
  if (seconds > longest) {
    throw new CertgenError('usage', `${quote(text)} is too long`, { hints: ['the longest duration is 100y'] })
  }
  return seconds as Duration
}

/** The shortest text that people say: `5y` for whole years, else days, hours, minutes and seconds: `90d`, `1d12h`, `0s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.trunc(seconds)
  if (whole === 0) return '0s'
  if (whole < 0) return `-${formatDuration(-whole)}`
  if (whole % units.y === 0) return `${whole / units.y}y`
  let rest = whole
  let text = ''
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const count = Math.floor(rest / units[unit])
    rest -= count * units[unit]
    if (count > 0) text += `${count}${unit}`
  }
  return text
}

/** When a certificate holds: both instants are within (RFC 5280 section 4.1.2.5). */
export interface Validity {
  readonly notBefore: Date
  readonly notAfter: Date
}

/** How long before its making a certificate begins: peers' clocks may be behind. */
export const BACKDATE: Duration = 300 as Duration

/** GeneralizedTime ends here (RFC 5280 section 4.1.2.5). */
const endOfTime = Date.UTC(9999, 11, 31, 23, 59, 59)

/**
 * The validity of a certificate that is made at `now`, in whole seconds: from BACKDATE before it to `lifetime` after it,
 * but no later than `cap`, the issuer's end; `capped` says that this cut it. Throws CertgenError `authority-unusable`
 * when `cap` is not after `now`, `usage` when the end is beyond the year 9999.
 */
export function validityFrom(now: Date, lifetime: Duration, cap?: Date): Validity & { readonly capped: boolean } {
  const start = wholeSeconds(now)
  const asked = start + lifetime * 1000
  const limit = cap === undefined ? Infinity : wholeSeconds(cap)
  if (limit <= start) {
    throw new CertgenError('authority-unusable', `the authority ended at ${isoSeconds(limit)}`, {
      hints: ['make a new authority: certgen --overwrite'],
    })
  }
  const end = Math.min(asked, limit)
  if (!(end <= endOfTime)) {
    throw new CertgenError('usage', `a certificate cannot end after ${isoSeconds(endOfTime)}`, {
      hints: ['ask for a shorter validity'],
    })
  }
  return { notBefore: new Date(start - BACKDATE * 1000), notAfter: new Date(end), capped: limit < asked }
}

function wholeSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000) * 1000
}

function isoSeconds(time: number): string {
  return new Date(time).toISOString().replace('.000', '')
}

/** The lifetime that validityFrom was given, so that a reissue keeps the window's length; at least a second. */
export function lifetimeOf(validity: Validity): Duration {
  return Math.max(1, Math.floor(wholeLife(validity) / 1000) - BACKDATE) as Duration
}

/** Milliseconds. */
function wholeLife({ notBefore, notAfter }: Validity): number {
  return notAfter.getTime() - notBefore.getTime()
}

export function isValidAt({ notBefore, notAfter }: Validity, at: Date): boolean {
  return notBefore.getTime() <= at.getTime() && at.getTime() <= notAfter.getTime()
}

/** When it should be renewed: past two thirds of its life, or `renewBefore` before its end, but not before it began. */
export function dueAt(validity: Validity, renewBefore?: Duration): Date {
  const begin = validity.notBefore.getTime()
  if (renewBefore === undefined) return new Date(begin + Math.floor((wholeLife(validity) * 2) / 3000) * 1000)
  return new Date(Math.max(begin, validity.notAfter.getTime() - renewBefore * 1000))
}

export function isDue(validity: Validity, at: Date, renewBefore?: Duration): boolean {
  return at.getTime() >= dueAt(validity, renewBefore).getTime()
}
