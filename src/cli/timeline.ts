import type { Validity } from '../pki/lifetime.ts'

/** Where validities stand on a common axis of time. Pure, for every form that a timeline is shown in. */

/** A certificate's life; `dueAt` null: it is not renewed. */
export interface Life extends Validity {
  readonly dueAt: Date | null
}

/** The stretch of time that is shown. */
export interface Axis {
  /** Unix time in milliseconds. */
  readonly start: number
  readonly end: number
}

export interface Tick {
  readonly at: Date
  readonly label: string
}

/** How much of a life's length is left empty on either side. */
const margin = 0.04

/**
 * An axis on which most lives can be read: as long as all but the longest quarter of them before `now` and after it, but no
 * longer than there is something to show. What lives longer, as a root does, leaves it on both sides.
 */
export function axisFor(lives: readonly Life[], now: Date): Axis {
  const lengths = lives.map(({ notBefore, notAfter }) => notAfter.getTime() - notBefore.getTime()).sort((a, b) => a - b)
  const length = Math.max(lengths[Math.floor((lengths.length - 1) * 0.75)] ?? 0, 60_000)
  const begin = lives.reduce((first, { notBefore }) => Math.min(first, notBefore.getTime()), Infinity)
  const end = lives.reduce((last, { notAfter }) => Math.max(last, notAfter.getTime()), -Infinity)
  const at = now.getTime()
  const pad = length * margin
  return {
    start: Math.min(Math.max(begin, at - length), at) - pad,
    end: Math.max(Math.min(end, at + length), at) + pad,
  }
}

/** 0 at the start of the axis and 1 at its end; less and more beyond. */
export function placeOf({ start, end }: Axis, at: Date): number {
  return (at.getTime() - start) / (end - start)
}

interface Step {
  readonly months?: number
  readonly milliseconds?: number
  readonly label: (date: Date) => string
}

const hour = 3_600_000
const day = 24 * hour
const month = 30.4 * day
const minutes = (date: Date): string => date.toISOString().slice(5, 16).replace('T', ' ')
const days = (date: Date): string => date.toISOString().slice(0, 10)
const months = (date: Date): string => date.toISOString().slice(0, 7)
const years = (date: Date): string => date.toISOString().slice(0, 4)

const steps: readonly Step[] = [
  ...[1 / 12, 1 / 4, 1, 3, 6, 12].map((hours) => ({ milliseconds: hours * hour, label: minutes })),
  ...[1, 2, 7, 14].map((count) => ({ milliseconds: count * day, label: days })),
  ...[1, 2, 3, 6].map((count) => ({ months: count, label: months })),
  ...[1, 2, 5, 10, 20, 50].map((count) => ({ months: count * 12, label: years })),
]

/** Round instants (UTC) on the axis, about `most` of them at most where there is a step that wide. */
export function ticksOf(axis: Axis, most: number): Tick[] {
  const length = axis.end - axis.start
  const wide = steps.find((step) => length / (step.milliseconds ?? (step.months ?? 0) * month) <= most)
  const step = wide ?? steps.at(-1)
  if (!step) throw new Error('there are steps')
  const ticks: Tick[] = []
  for (let at = firstAfter(axis.start, step); at.getTime() <= axis.end; at = nextAfter(at, step)) {
    ticks.push({ at, label: step.label(at) })
  }
  return ticks
}

function firstAfter(start: number, step: Step): Date {
  const { milliseconds, months: count = 1 } = step
  if (milliseconds !== undefined) return new Date(Math.ceil(start / milliseconds) * milliseconds)
  const begin = new Date(start)
  const whole = begin.getUTCFullYear() * 12 + begin.getUTCMonth()
  const at = monthAt(Math.floor(whole / count) * count)
  return at.getTime() < start ? nextAfter(at, step) : at
}

function nextAfter(at: Date, { milliseconds, months: count = 1 }: Step): Date {
  if (milliseconds !== undefined) return new Date(at.getTime() + milliseconds)
  return monthAt(at.getUTCFullYear() * 12 + at.getUTCMonth() + count)
}

/** The first instant of a month, by its number since the year 0. */
function monthAt(number: number): Date {
  const date = new Date(0)
  date.setUTCFullYear(Math.floor(number / 12), number % 12, 1)
  return date
}
