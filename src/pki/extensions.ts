import type { KeyUsage, Usage } from './certificate.ts'
import { keyUsageBits } from './certificate.ts'
import { derTag } from './der.ts'
import { encodeElement, encodeUnsigned } from './der-writer.ts'
import type { Name } from './names.ts'

// The extensions of a certificate (RFC 5280 section 4.2.1), each as the DER of an Extension.

// id-ce and id-kp, as the octets of an OBJECT IDENTIFIER.
const extensionId = (last: number): Buffer => Buffer.from([0x55, 0x1d, last])
const purposeId = (last: number): Buffer => Buffer.from([0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, last])
const purposes: Readonly<Record<Usage, Buffer>> = { server: purposeId(1), client: purposeId(2) }

function encodeExtension(id: Buffer, value: Buffer, critical: boolean): Buffer {
  return encodeElement(
    derTag.sequence,
    encodeElement(derTag.objectIdentifier, id),
    ...(critical ? [encodeElement(derTag.boolean, Uint8Array.of(0xff))] : []),
    encodeElement(derTag.octetString, value),
  )
}

/** Critical. `pathLength`: of a CA; null: no CA, and DER leaves out the FALSE that is the default (section 4.2.1.9). */
export function basicConstraints(pathLength: number | null): Buffer {
  const parts =
    pathLength === null
      ? []
      : [encodeElement(derTag.boolean, Uint8Array.of(0xff)), encodeUnsigned(Uint8Array.of(pathLength))]
  return encodeExtension(extensionId(19), encodeElement(derTag.sequence, ...parts), true)
}

/** Critical. A list of named bits, so without the zeros at its end (section 4.2.1.3, X.690 section 11.2.2). */
export function keyUsage(...usages: readonly KeyUsage[]): Buffer {
  const octet = usages.reduce((bits, usage) => bits | (0x80 >> keyUsageBits[usage]), 0)
  const unused = 31 - Math.clz32(octet & -octet)
  return encodeExtension(extensionId(15), encodeElement(derTag.bitString, Uint8Array.of(unused, octet)), true)
}

/** Section 4.2.1.12. */
export function extendedKeyUsage(usages: readonly Usage[]): Buffer {
  const ids = usages.map((usage) => encodeElement(derTag.objectIdentifier, purposes[usage]))
  return encodeExtension(extensionId(37), encodeElement(derTag.sequence, ...ids), false)
}

/** `critical`: when there is no subject (section 4.2.1.6). */
export function subjectAlternativeName(names: readonly Name[], critical: boolean): Buffer {
  return encodeExtension(extensionId(17), encodeElement(derTag.sequence, ...names.map(generalName)), critical)
}

/** `keyId`: hexadecimal (section 4.2.1.2). */
export function subjectKeyIdentifier(keyId: string): Buffer {
  return encodeExtension(extensionId(14), encodeElement(derTag.octetString, Buffer.from(keyId, 'hex')), false)
}

/** By key id alone (section 4.2.1.1). `keyId`: hexadecimal. */
export function authorityKeyIdentifier(keyId: string): Buffer {
  const value = encodeElement(derTag.sequence, encodeElement(0x80, Buffer.from(keyId, 'hex')))
  return encodeExtension(extensionId(35), value, false)
}

/** GeneralName, by its context tag. All but addresses are IA5String: a Name's value is ASCII. */
function generalName({ type, value }: Name): Buffer {
  switch (type) {
    case 'email':
      return encodeElement(0x81, Buffer.from(value, 'latin1'))
    case 'dns':
      return encodeElement(0x82, Buffer.from(value, 'latin1'))
    case 'uri':
      return encodeElement(0x86, Buffer.from(value, 'latin1'))
    case 'ip':
      return encodeElement(0x87, addressOctets(value))
  }
}

/** Of an address in the text that ipName makes: an IPv6 one has groups only. */
function addressOctets(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number))
  const [before = [], after = []] = address.split('::').map((half) => half.split(':').filter((group) => group !== ''))
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0')
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex')
}
