/** The little of DER (X.690) that putting a certificate together takes. */

/** One element: tag, length in its shortest form, and the parts one after the other. */
export function encodeElement(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([Buffer.from([tag, ...lengthOctets(length)]), ...parts])
}

function lengthOctets(length: number): number[] {
  if (length < 0x80) return [length]
  const octets: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  return [0x80 | octets.length, ...octets]
}

/** A number that is not negative, big-endian, as an INTEGER: without zeros in front but the one that keeps it positive. */
export function encodeUnsigned(octets: Uint8Array): Buffer {
  const start = Math.max(
    octets.findIndex((octet) => octet !== 0),
    0,
  )
  const value = octets.subarray(start)
  return encodeElement(0x02, ...((value[0] ?? 0) >= 0x80 ? [Uint8Array.of(0), value] : [value]))
}

/** UTCTime until 2049 and GeneralizedTime after it (RFC 5280 section 4.1.2.5), in whole seconds. */
export function encodeTime(time: Date): Buffer {
  const digits = time
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:T]/g, '')
  const isUtc = time.getUTCFullYear() >= 1950 && time.getUTCFullYear() < 2050
  return encodeElement(isUtc ? 0x17 : 0x18, Buffer.from(isUtc ? digits.slice(2) : digits, 'latin1'))
}

/** A BIT STRING of whole octets. */
export function encodeBits(octets: Uint8Array): Buffer {
  return encodeElement(0x03, Uint8Array.of(0), octets)
}
