import { day } from './status-words.ts'
import { fit, widthOf } from './terminal.ts'
import type { Screen } from './terminal.ts'
import { axisFor, placeOf, ticksOf } from './timeline.ts'
import type { Axis, Life } from './timeline.ts'

/** A bar of the timeline. */
export interface LabelledLife extends Life {
  readonly label: string
  /** Of an authority: it may leave the axis, which is made for leaves. */
  readonly root: boolean
}

interface Glyphs {
  readonly life: string
  /** From when it is due to its end. */
  readonly late: string
  readonly due: string
  readonly today: string
  readonly before: string
  readonly after: string
  readonly rule: string
  readonly tick: string
}

const unicodeGlyphs: Glyphs = {
  life: '━',
  late: '╌',
  due: '◆',
  today: '┃',
  before: '◀',
  after: '▶',
  rule: '─',
  tick: '┬',
}
const asciiGlyphs: Glyphs = {
  life: '=',
  late: '-',
  due: 'D',
  today: '|',
  before: '<',
  after: '>',
  rule: '-',
  tick: '+',
}

/** Columns that a tick's label needs at least. */
const tickWidth = 14
const gap = 2

/** Draws validities as bars under an axis of time, today and the due dates as marks. Nothing without any. */
export function drawTimeline(lives: readonly LabelledLife[], now: Date, screen: Screen): string[] {
  if (lives.length === 0) return []
  const glyphs = screen.unicode ? unicodeGlyphs : asciiGlyphs
  const leaves = lives.filter(({ root }) => !root)
  const axis = axisFor(leaves.length > 0 ? leaves : lives, now)
  const longest = lives.reduce((most, { label }) => Math.max(most, widthOf(label)), 0)
  const labelWidth = Math.min(longest, Math.floor(screen.width * 0.3))
  const width = screen.width - labelWidth - gap
  const indent = ' '.repeat(labelWidth + gap)
  const drawing = { axis, width, now, glyphs, screen }
  return [
    ...drawAxis(axis, width, glyphs).map((line) => screen.paint.dim((indent + line).trimEnd())),
    ...lives.map((life) => `${fit(life.label, labelWidth, screen)}${' '.repeat(gap)}${drawLife(life, drawing)}`),
    ...drawLegend(now, glyphs, width).map((line) => screen.paint.dim(indent + line)),
  ]
}

function drawLegend(now: Date, { today, due, late }: Glyphs, width: number): string[] {
  const entries = [`${today} today, ${day(now)}`, `${due} due`, `${late.repeat(3)} due until it ends`]
  const line = entries.join('   ')
  return widthOf(line) <= width ? [line] : entries
}

/** Labels, each beginning where its instant is, and a rule with a mark at every one. */
function drawAxis(axis: Axis, width: number, { rule, tick }: Glyphs): string[] {
  let labels = ''
  const marks = Array.from({ length: width }, () => rule)
  for (const { at, label } of ticksOf(axis, Math.max(Math.floor(width / tickWidth), 1))) {
    const column = columnOf(axis, at, width)
    marks[column] = tick
    const fits = column + label.length <= width && (labels === '' || column > labels.length)
    if (fits) labels = labels.padEnd(column) + label
  }
  return [labels, marks.join('')]
}

function columnOf(axis: Axis, at: Date, width: number): number {
  return Math.min(Math.max(Math.floor(placeOf(axis, at) * width), 0), width - 1)
}

interface Drawing {
  readonly axis: Axis
  readonly width: number
  readonly now: Date
  readonly glyphs: Glyphs
  readonly screen: Screen
}

function drawLife(life: LabelledLife, { axis, width, now, glyphs, screen }: Drawing): string {
  const { paint } = screen
  const today = columnOf(axis, now, width)
  const cells = barOf(life, axis, width, glyphs)
  const colour = life.notAfter < now ? paint.red : life.dueAt && life.dueAt <= now ? paint.yellow : paint.green
  const [before, after] = [
    cells.slice(0, today).join(''),
    cells
      .slice(today + 1)
      .join('')
      .trimEnd(),
  ]
  return `${colour(before)}${paint.bold(glyphs.today)}${colour(after)}`
}

function barOf({ notBefore, notAfter, dueAt }: LabelledLife, axis: Axis, width: number, glyphs: Glyphs): string[] {
  const cells = Array.from({ length: width }, () => ' ')
  const isInside = (at: Date): boolean => placeOf(axis, at) >= 0 && placeOf(axis, at) < 1
  const [first, last] = [columnOf(axis, notBefore, width), columnOf(axis, notAfter, width)]
  const due = dueAt === null ? width : columnOf(axis, dueAt, width)
  for (let column = first; column <= last; column++) cells[column] = column < due ? glyphs.life : glyphs.late
  if (dueAt !== null && isInside(dueAt)) cells[due] = glyphs.due
  if (placeOf(axis, notBefore) < 0) cells[0] = glyphs.before
  if (placeOf(axis, notAfter) >= 1) cells[width - 1] = glyphs.after
  return cells
}
