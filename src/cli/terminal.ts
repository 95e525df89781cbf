import type { ChalkInstance } from 'chalk'
import stringWidth from 'string-width'

/** What a screen is drawn for. */
export interface Screen {
  /** Columns. */
  readonly width: number
  /** Lines; null where nothing scrolls away. */
  readonly height: number | null
  /** false: only ASCII can be shown. */
  readonly unicode: boolean
  readonly paint: ChalkInstance
}

/** What a pipe, a file and a terminal that does not say its size get. */
const defaultWidth = 80
const narrowest = 40
/** On wider screens the eye loses the row. */
const widest = 160

export function createScreen(
  paint: ChalkInstance,
  stream: Pick<NodeJS.WriteStream, 'isTTY'> & { readonly columns?: number; readonly rows?: number },
  environment: Readonly<Record<string, string | undefined>>,
): Screen {
  const columns = stream.isTTY && stream.columns ? stream.columns : defaultWidth
  return {
    height: stream.isTTY && stream.rows ? stream.rows : null,
    width: Math.min(Math.max(columns, narrowest), widest),
    unicode: environment['TERM'] !== 'dumb' && isUtf8(environment),
    paint,
  }
}

/** The first of the variables that is set and not empty decides (POSIX, section 8.2). */
function isUtf8(environment: Readonly<Record<string, string | undefined>>): boolean {
  const locale = ['LC_ALL', 'LC_CTYPE', 'LANG'].map((name) => environment[name]).find((value) => value)
  return /utf-?8/i.test(locale ?? '')
}

/** Text from elsewhere, on one line and without characters that steer a terminal; in ASCII where there is only that. */
export function printable(text: string, { unicode }: Pick<Screen, 'unicode'>): string {
  return text.replace(unicode ? /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu : /[^\x20-\x7e]/gu, (character) => {
    const code = (character.codePointAt(0) ?? 0).toString(16)
    return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, '0')}`
  })
}

/** Columns that the text takes; a wide character takes two. */
export function widthOf(text: string): number {
  return stringWidth(text)
}

/**
 * The text in exactly so many columns: filled up with blanks, or cut, in the middle unless asked otherwise, for paths
 * differ at either end.
 */
export function fit(
  text: string,
  width: number,
  screen: Pick<Screen, 'unicode'>,
  where: 'middle' | 'end' = 'middle',
): string {
  const fitted = widthOf(text) > width ? cut(text, width, screen.unicode ? '…' : '..', where) : text
  return fitted + ' '.repeat(Math.max(width - widthOf(fitted), 0))
}

function cut(text: string, width: number, ellipsis: string, where: 'middle' | 'end'): string {
  const characters = [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment)
  const room = width - ellipsis.length
  if (room < 2) return takeWhileFits(characters, width)
  const atEnd = where === 'middle' ? Math.floor(room / 2) : 0
  const head = takeWhileFits(characters, room - atEnd)
  const tail = takeWhileFits(characters.toReversed(), atEnd, (taken, next) => next + taken)
  return head + ellipsis + tail
}

function takeWhileFits(
  characters: readonly string[],
  width: number,
  join: (taken: string, next: string) => string = (taken, next) => taken + next,
): string {
  let taken = ''
  for (const next of characters) {
    const more = join(taken, next)
    if (widthOf(more) > width) break
    taken = more
  }
  return taken
}

/** Breaks between words, so that each line fits; a word that does not stays whole, for it may be a path to be copied. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && widthOf(last) + 1 + widthOf(word) <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
