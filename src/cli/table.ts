import { fit, widthOf } from './terminal.ts'
import type { Screen } from './terminal.ts'

/** A column of a table in a terminal. */
export interface Column<T> {
  readonly title: string
  readonly cell: (row: T) => string
  /** Colours a cell that has its final width. */
  readonly paint?: (text: string, row: T) => string
  /** It may be cut to so many columns; without it, it is shown whole or not at all. */
  readonly least?: number
  /** Where it is cut; in the middle unless it says otherwise. */
  readonly cut?: 'end'
  /** It stands at the end, and only where the others have all the room they want. */
  readonly spare?: boolean
}

const gap = 2

/**
 * Draws a table in the width of the screen. Columns stand in the order of their importance: those that find no room are
 * left out and given to `below`, which says what stands under each row, in the width that is left there.
 */
export function drawTable<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  below: (row: T, hidden: readonly Column<T>[], width: number) => readonly string[],
  screen: Screen,
): string[] {
  const { shown, hidden } = layOut(rows, columns, screen.width)
  const line = (cells: readonly string[]): string => cells.join(' '.repeat(gap)).trimEnd()
  const indent = (shown[0]?.width ?? 0) + gap
  return [
    screen.paint.dim(line(shown.map(({ column, width }) => fit(column.title, width, screen)))),
    ...rows.flatMap((row) => [
      line(
        shown.map(({ column, width }) => {
          const cell = fit(column.cell(row), width, screen, column.cut)
          return column.paint ? column.paint(cell, row) : cell
        }),
      ),
      ...below(row, hidden, screen.width - indent).map((text) => ' '.repeat(indent) + text),
    ]),
  ]
}

interface Placed<T> {
  readonly column: Column<T>
  /** Of its widest cell. */
  readonly whole: number
  width: number
}

/** What is left goes to columns that were cut, the most important first, and only then to spare ones. */

function layOut<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  width: number,
): { readonly shown: readonly Placed<T>[]; readonly hidden: readonly Column<T>[] } {
  const wholeWidth = (column: Column<T>): number =>
    rows.reduce((most, row) => Math.max(most, widthOf(column.cell(row))), column.title.length)
  const shown: Placed<T>[] = []
  const hidden: Column<T>[] = []
  let left = width + gap
  const place = (column: Column<T>): void => {
    const whole = wholeWidth(column)
    const least = Math.min(whole, column.least ?? whole)
    if (least + gap > left) {
      hidden.push(column)
      return
    }
    shown.push({ column, whole, width: least })
    left -= least + gap
  }
  const widen = (): void => {
    for (const placed of shown) {
      const more = Math.min(placed.whole - placed.width, left)
      placed.width += more
      left -= more
    }
  }
  for (const column of columns.filter(({ spare }) => !spare)) place(column)
  widen()
  for (const column of columns.filter(({ spare }) => spare)) place(column)
  widen()
  return { shown, hidden }
}
