import { derTag, readElement } from './der.ts'

/** One intact block of a PEM file. */
export interface PemBlock {
  readonly label: string
  readonly der: Buffer
  /** Which block of the file it is, from 1; damaged blocks count. */
  readonly number: number
  /** The line of its BEGIN, from 1. */
  readonly line: number
  /** The block as it stands in the file, from its BEGIN to its END: what OpenSSL takes to decrypt a legacy key. */
  readonly text: string
  /** RFC 1421 headers, which encrypted keys in the legacy form have (`Proc-Type`, `DEK-Info`); else empty. */
  readonly headers: ReadonlyMap<string, string>
}

/** What is wrong with a block, or with a line that was to be a part of one. */
export type PemDamageReason =
  /** BEGIN, and then the next BEGIN or the end of the file. */
  | 'no-end'
  /** END, and no BEGIN before it. */
  | 'no-begin'
  /** END names something else than BEGIN. */
  | 'label-mismatch'
  /** A line that was meant as BEGIN or END: indented, after a byte order mark, short of a dash. */
  | 'malformed-boundary'
  /** Nothing between BEGIN and END. */
  | 'empty-body'
  /** A blank line within the base64. */
  | 'blank-line'
  /** A character outside base64, or wrong padding. */
  | 'base64'
  /** Headers where only an encrypted legacy key has some, or headers that do not end. */
  | 'headers'
  /** The bytes are no DER SEQUENCE of exactly their length. */
  | 'der-length'
  /** Control characters: this is DER, PKCS#12 or UTF-16, not PEM. */
  | 'binary'

export interface PemDamage {
  /** The block it is about, from 1; outside of blocks, the one that would have come next. */
  readonly number: number
  /** The line where it shows, from 1: of a block without END, and of one that is wrong as a whole, the line of BEGIN. */
  readonly line: number
  readonly reason: PemDamageReason
}

const boundary = /^-----(BEGIN|END) ([\x21-\x2c\x2e-\x7e](?:[- ]?[\x21-\x2c\x2e-\x7e])*)-----$/

// Lines that were meant as boundaries. Text is read as Latin-1, so a dash that a word processor made longer is three
// characters. Every repetition is bounded: these run over lines of any length.
const dash = '(?:-|\\xe2\\x80[\\x90-\\x95])'
const damagedBoundaries = [
  new RegExp(`${dash}${dash}[ \\t]{0,8}(BEGIN|END)\\b`),
  new RegExp(`\\b(BEGIN|END) [A-Z0-9 ]{1,64}${dash}${dash}`),
  /-----(BEGIN|END)/i,
  /^-----(B|BE|BEG|BEGI|E|EN)$/, // the file ends here
]

// eslint-disable-next-line no-control-regex -- control characters are what it looks for
const controlCharacter = /[\x00-\x08\x0e-\x1f\x7f]/
const base64Line = /^[A-Za-z0-9+/]+={0,2}$/
const headerLine = /^([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)$/

/** Labels whose content is one DER SEQUENCE. TRUSTED CERTIFICATE is none: it has OpenSSL's own data after it. */
const sequenceLabels = new Set([
  'CERTIFICATE',
  'X509 CERTIFICATE',
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'EC PRIVATE KEY',
  'RSA PRIVATE KEY',
  'DSA PRIVATE KEY',
  'PUBLIC KEY',
  'RSA PUBLIC KEY',
])

interface OpenBlock {
  readonly label: string
  readonly number: number
  readonly line: number
  readonly start: number
  readonly body: string[]
  /** Damage was reported: the rest of it, up to its END, is passed over. */
  broken: boolean
}

/** What is damaged in more places is another kind of file, and each place costs its reader a line. */
export const mostDamage = 100

/**
 * Reads every block of a PEM file (RFC 7468) in file order. Nothing is skipped in silence: what is not an intact block
 * and not text between blocks is damage; what follows the hundredth damage is not read. CRLF and blanks at the ends of lines are accepted. Never throws; takes time in
 * proportion to the size of `input`.
 */
export function readPem(input: string | Uint8Array): { blocks: PemBlock[]; damage: PemDamage[] } {
  const text = (typeof input === 'string' ? Buffer.from(input) : asBuffer(input)).toString('latin1')
  const blocks: PemBlock[] = []
  const damage: PemDamage[] = []
  let count = 0
  let open: OpenBlock | null = null
  let binary = false

  const breakBlock = (block: OpenBlock, line: number, reason: PemDamageReason): void => {
    if (!block.broken) damage.push({ number: block.number, line, reason })
    block.broken = true
  }
  const begin = (label: string, line: number, start: number): OpenBlock => {
    if (open) breakBlock(open, open.line, 'no-end')
    count += 1
    return { label, number: count, line, start, body: [], broken: false }
  }

  for (let start = 0, line = 1; start < text.length && damage.length < mostDamage; line += 1) {
    const newline = text.indexOf('\n', start)
    const next = newline === -1 ? text.length : newline + 1
    const content = trimLineEnd(text.slice(start, next))
    // Nothing to look at: a file may hold millions of these.
    if (content === '') {
      if (open && !open.broken) open.body.push(content)
      start = next
      continue
    }
    const [, kind, label] = boundary.exec(content) ?? []
    const damagedKind = kind === undefined ? damagedBoundary(content) : null

    if (kind === 'BEGIN' && label !== undefined) {
      open = begin(label, line, start)
    } else if (kind === 'END' && open) {
      if (label !== open.label) breakBlock(open, line, 'label-mismatch')
      if (!open.broken) {
        const result = decodeBlock(open, text.slice(open.start, next))
        if ('reason' in result) breakBlock(open, result.line, result.reason)
        else blocks.push(result)
      }
      open = null
    } else if (kind === 'END') {
      count += 1
      damage.push({ number: count, line, reason: 'no-begin' })
    } else if (damagedKind === 'BEGIN') {
      open = begin('', line, start)
      breakBlock(open, line, 'malformed-boundary')
    } else if (damagedKind === 'END') {
      open ??= begin('', line, start)
      breakBlock(open, line, 'malformed-boundary')
      open = null
    } else if (controlCharacter.test(content)) {
      if (open) breakBlock(open, line, 'binary')
      else if (!binary) damage.push({ number: count + 1, line, reason: 'binary' })
      binary = true
    } else if (open && !open.broken) {
      open.body.push(content)
    }
    start = next
  }
  if (open && damage.length < mostDamage) breakBlock(open, open.line, 'no-end')
  return { blocks, damage }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Without the line's end and the blanks before it. A regular expression would take quadratic time over blanks. */
function trimLineEnd(line: string): string {
  let end = line.length
  while (end > 0 && ' \t\r\n'.includes(line.charAt(end - 1))) end -= 1
  return line.slice(0, end)
}

function damagedBoundary(line: string): 'BEGIN' | 'END' | null {
  for (const pattern of damagedBoundaries) {
    const kind = pattern.exec(line)?.[1]
    if (kind !== undefined) return /^b/i.test(kind) ? 'BEGIN' : 'END'
  }
  return null
}

function decodeBlock(open: OpenBlock, text: string): PemBlock | { line: number; reason: PemDamageReason } {
  const fault = (reason: PemDamageReason, line = open.line): { line: number; reason: PemDamageReason } => ({
    line,
    reason,
  })
  const headers = readHeaders(open.body)
  if (!headers || (headers.length > 0 && !open.label.endsWith('PRIVATE KEY'))) return fault('headers', open.line + 1)
  const lines = open.body.slice(headers.length)
  if (lines.length === 0) return fault('empty-body')
  const wrong = lines.findIndex((line) => !base64Line.test(line))
  if (wrong !== -1) {
    return fault(lines[wrong] === '' ? 'blank-line' : 'base64', open.line + 1 + headers.length + wrong)
  }
  const base64 = lines.join('')
  const der = Buffer.from(base64, 'base64')
  // Node decodes what it can; only the canonical form, padding and unused bits included, encodes back to itself.
  if (der.toString('base64') !== base64) return fault('base64')
  const encrypted = headers.fields.has('DEK-Info')
  if (sequenceLabels.has(open.label) && !encrypted && !isWholeSequence(der)) return fault('der-length')
  return { label: open.label, der, number: open.number, line: open.line, text, headers: headers.fields }
}

/** The headers and how many lines they take, their blank line included; null when they are damaged. */
function readHeaders(body: readonly string[]): { fields: Map<string, string>; length: number } | null {
  const fields = new Map<string, string>()
  if (!body[0]?.includes(':')) return { fields, length: 0 }
  let name = ''
  for (const [index, line] of body.entries()) {
    if (line === '') return { fields, length: index + 1 }
    const [, field, value] = headerLine.exec(line) ?? []
    if (field !== undefined && value !== undefined && !fields.has(field)) {
      name = field
      fields.set(name, value)
    } else if (/^[ \t]/.test(line) && name !== '') {
      fields.set(name, (fields.get(name) ?? '') + line.trim()) // RFC 1421 section 4.4: folded
    } else {
      return null
    }
  }
  return null
}

/** Whether `der` is one SEQUENCE with a definite length in its shortest form (X.690 section 10.1), and nothing after it. */
function isWholeSequence(der: Buffer): boolean {
  try {
    const { tag, content, raw } = readElement(der)
    let header = 2
    if (content.length >= 0x80) for (let rest = content.length; rest > 0; rest = Math.floor(rest / 256)) header += 1
    return tag === derTag.sequence && raw.length === der.length && der.length === header + content.length
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}

/** One block: 64 columns, LF, ends in a newline (RFC 7468 section 2). */
export function encodePem(label: string, der: Uint8Array): string {
  const lines =
    asBuffer(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}

/** One CERTIFICATE block each, in order. */
export function encodeCertificates(ders: readonly Uint8Array[]): string {
  return ders.map((der) => encodePem('CERTIFICATE', der)).join('')
}
