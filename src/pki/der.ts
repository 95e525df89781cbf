/**
 * The little of DER (X.690) that reading a certificate's fields takes. OpenSSL, through node:crypto, has parsed the
 * certificate before this code sees it; what is here answers what node:crypto does not tell: extensions by their parts.
 */

export interface DerElement {
  readonly tag: number
  /** The value octets. */
  readonly content: Buffer
  /** Tag, length and value octets. */
  readonly raw: Buffer
}

export const derTag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const

/** The element that starts at `offset`. Throws RangeError when it does not fit into `data`. */
export function readElement(data: Buffer, offset = 0): DerElement {
  const tag = data.readUInt8(offset)
  const first = data.readUInt8(offset + 1)
  let header = 2
  let length = first
  if (first > 0x80) {
    const octets = first & 0x7f
    length = data.readUIntBE(offset + 2, octets)
    header += octets
  }
  const end = offset + header + length
  if (first === 0x80 || end > data.length) throw new RangeError(`DER element at ${offset} has no valid length`)
  return { tag, content: data.subarray(offset + header, end), raw: data.subarray(offset, end) }
}

/** The elements that the value octets of a constructed element hold. */
export function readElements(content: Buffer): DerElement[] {
  const elements: DerElement[] = []
  for (let offset = 0; offset < content.length;) {
    const element = readElement(content, offset)
    elements.push(element)
    offset += element.raw.length
  }
  return elements
}

/** The dotted form of an OBJECT IDENTIFIER's value octets. */
export function readObjectIdentifier(content: Buffer): string {
  const arcs: number[] = []
  let arc = 0
  for (const octet of content) {
    arc = arc * 128 + (octet & 0x7f)
    if (octet < 0x80) {
      arcs.push(arc)
      arc = 0
    }
  }
  const [first = 0, ...rest] = arcs
  const root = Math.min(2, Math.floor(first / 40))
  return [root, first - root * 40, ...rest].join('.')
}

/** The text of a DirectoryString (RFC 5280 section 4.1.2.4), or of another kind of string, whose octets are Latin-1. */
export function readText({ tag, content }: DerElement): string {
  switch (tag) {
    case derTag.utf8String:
      return content.toString('utf8')
    case derTag.bmpString:
      return readWideText(content, 2)
    case derTag.universalString:
      return readWideText(content, 4)
    default:
      return content.toString('latin1')
  }
}

/** What is no character, such as half of one, becomes the replacement character. */
function readWideText(content: Buffer, width: 2 | 4): string {
  const count = Math.floor(content.length / width)
  const codes = Array.from({ length: count }, (_, index) => content.readUIntBE(index * width, width))
  const text = codes.map((code) => (code > 0x10ffff ? '\ufffd' : String.fromCodePoint(code))).join('')
  return Buffer.from(text).toString()
}

/**
 * The instant of a UTCTime or GeneralizedTime in the one form that a certificate may have (RFC 5280 section 4.1.2.5): to
 * the second, in Zulu. Throws RangeError for any other, as OpenSSL's verifier refuses it.
 */
export function readTime({ tag, content }: DerElement): Date {
  const text = content.toString('latin1')
  const yearDigits = tag === derTag.utcTime ? 2 : tag === derTag.generalizedTime ? 4 : null
  const year = text.slice(0, yearDigits ?? 0)
  const [, month, day, hour, minute, second] = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text.slice(year.length)) ?? []
  // A UTCTime's years are 1950 to 2049.
  const century = yearDigits === 4 ? '' : Number(year) < 50 ? '20' : '19'
  const iso = `${century}${year}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}.000Z`
  const time = new Date(iso)
  // `0230` would roll over to March.
  if (yearDigits !== null && !Number.isNaN(time.getTime()) && time.toISOString() === iso) return time
  throw new RangeError('not the time of a certificate')
}
