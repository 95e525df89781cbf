import { X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { derTag, readElement, readElements, readObjectIdentifier, readText, readTime } from './der.ts'
import type { DerElement } from './der.ts'
import { describeKey } from './key.ts'
import type { Validity } from './lifetime.ts'
import type { Name } from './names.ts'

/** What a leaf may be used for: the TLS server's or the TLS client's end (RFC 5280 section 4.2.1.12). */
export type Usage = 'server' | 'client'

/** The bits of the keyUsage extension that certgen looks at (RFC 5280 section 4.2.1.3), by their bit number. */
export const keyUsageBits = { digitalSignature: 0, keyEncipherment: 2, keyCertSign: 5, cRLSign: 6 } as const
export type KeyUsage = keyof typeof keyUsageBits

const usageOfPurpose: Readonly<Record<string, Usage>> = {
  '1.3.6.1.5.5.7.3.1': 'server',
  '1.3.6.1.5.5.7.3.2': 'client',
}
const anyPurpose = '2.5.29.37.0'

/** A certificate as certgen reads it, whoever made it. */
export interface Certificate extends Validity {
  readonly der: Buffer
  readonly x509: X509Certificate
  /** null when OpenSSL cannot read it: damaged, or of a kind that it does not know. */
  readonly publicKey: KeyObject | null
  /** describeKey of it. */
  readonly keyKind: string
  /** `CN=a, O=b`, for people and JSON. */
  readonly subject: string
  readonly issuer: string
  /** The exact DER of the names: a successor's certificates must repeat them to the octet. */
  readonly subjectDer: Buffer
  readonly issuerDer: Buffer
  /** Upper-case hexadecimal, as `openssl x509 -serial` prints it. */
  readonly serialNumber: string
  /** SHA-256 of the DER, lower-case hexadecimal. */
  readonly sha256: string
  /** The subject's first common name, as it was meant, without the escapes of `subject`; null without one. */
  readonly commonName: string | null
  readonly selfIssued: boolean
  /** basicConstraints' cA (RFC 5280 section 4.2.1.9). */
  readonly isCa: boolean
  /** basicConstraints' pathLenConstraint; null without one. */
  readonly pathLength: number | null
  /** null: the certificate has no keyUsage extension and so no restriction. */
  readonly keyUsage: ReadonlySet<KeyUsage> | null
  /** The TLS usages that extendedKeyUsage permits; null: no restriction. */
  readonly usages: ReadonlySet<Usage> | null
  readonly names: readonly Name[]
  /** Lower-case hexadecimal, null without the extension. */
  readonly subjectKeyId: string | null
  readonly authorityKeyId: string | null
  /** The dotted identifier of the signature's algorithm, and whether it hashes with MD2, MD5 or SHA-1. */
  readonly signatureAlgorithm: string
  readonly weakSignature: boolean
}

/** Reads one certificate. Throws what node:crypto throws when `der` is none, RangeError when its validity or an extension is damaged. */
export function readCertificate(der: Buffer): Certificate {
  const x509 = new X509Certificate(der)
  const [tbs, algorithm] = readElements(readElement(x509.raw).content)
  if (!tbs || !algorithm) throw new RangeError('not a certificate')
  const fields = readElements(tbs.content)
  if (fields[0]?.tag === 0xa0) fields.shift()
  const [, , issuer, validity, subject, , ...optional] = fields
  const [notBefore, notAfter] = validity ? readElements(validity.content) : []
  if (!issuer || !subject || !notBefore || !notAfter) throw new RangeError('not a certificate')
  const extensions = readExtensions(optional.find((field) => field.tag === 0xa3))
  const subjectText = oneLine(x509.subject)
  const issuerText = oneLine(x509.issuer)
  const keyId = extensions.get('2.5.29.14')
  const { isCa, pathLength } = readBasicConstraints(extensions.get('2.5.29.19'))
  const certificate = Object.assign(new Openable(x509.raw), {
    keyKind: describeKey(readPublicKey(x509)),
    subject: subjectText,
    issuer: issuerText,
    subjectDer: subject.raw,
    issuerDer: issuer.raw,
    serialNumber: x509.serialNumber,
    sha256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
    notBefore: readTime(notBefore),
    notAfter: readTime(notAfter),
    commonName: readCommonName(subject),
    selfIssued: subject.raw.equals(issuer.raw),
    isCa,
    pathLength,
    keyUsage: readKeyUsage(extensions.get('2.5.29.15')),
    usages: readExtendedKeyUsage(extensions.get('2.5.29.37')),
    names: readSubjectAlternativeNames(extensions.get('2.5.29.17')),
    subjectKeyId: keyId ? readElement(keyId).content.toString('hex') : null,
    authorityKeyId: readAuthorityKeyId(extensions.get('2.5.29.35')),
    signatureAlgorithm: readObjectIdentifier(readElement(algorithm.content).content),
    weakSignature: isWeakSignature(algorithm),
  })
  opened.set(certificate, x509)
  return certificate
}

/** Asks OpenSSL for what it is not told yet, or no longer. */
class Openable {
  readonly der: Buffer

  constructor(der: Buffer) {
    this.der = der
  }

  get x509(): X509Certificate {
    return opened.get(this) ?? open(this)
  }

  get publicKey(): KeyObject | null {
    return readPublicKey(this.x509)
  }
}

function open(certificate: Pick<Certificate, 'der'>): X509Certificate {
  const x509 = new X509Certificate(certificate.der)
  opened.set(certificate, x509)
  return x509
}

/** What OpenSSL holds of certificates. */
const opened = new WeakMap<Pick<Certificate, 'der'>, X509Certificate>()

/**
 * Lets go of what OpenSSL holds of a certificate, several times its size, and of who signed it; both are found out again
 * when they are asked for. For who keeps thousands and has judged them.
 */
export function setAside(certificate: Certificate): void {
  opened.delete(certificate)
  verdicts.delete(certificate)
}

/** Whether `issuer`'s name and key issued `certificate`. Names are compared as OpenSSL prints them, for encodings differ. */
export function isIssuedBy(certificate: Certificate, issuer: Certificate): boolean {
  return certificate.issuer === issuer.subject && isSignedBy(certificate, issuer)
}

const verdicts = new WeakMap<Certificate, WeakMap<Certificate, boolean>>()

/** Whether the signature of `certificate` was made by the key of `issuer`. A pair is asked about once. */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  const known = verdicts.get(certificate) ?? new WeakMap<Certificate, boolean>()
  const verdict = known.get(issuer) ?? verifySignature(certificate, issuer)
  verdicts.set(certificate, known.set(issuer, verdict))
  return verdict
}

function verifySignature(certificate: Certificate, issuer: Certificate): boolean {
  if (!issuer.publicKey) return false
  try {
    return certificate.x509.verify(issuer.publicKey)
  } catch {
    return false // OpenSSL throws for keys and signatures of types that do not go together: that is a no.
  }
}

export function sameCertificate(a: Certificate, b: Certificate): boolean {
  return a.der.equals(b.der)
}

/** The getter throws what OpenSSL says of a key that it cannot read. */
function readPublicKey(x509: X509Certificate): KeyObject | null {
  try {
    return x509.publicKey
  } catch {
    return null
  }
}

function oneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ')
}

/** X.520's attribute, in whichever RDN it stands. */
function readCommonName(name: DerElement): string | null {
  const attributes = readElements(name.content).flatMap(({ content }) => readElements(content))
  for (const { content } of attributes) {
    const [id, value] = readElements(content)
    if (id && value && readObjectIdentifier(id.content) === '2.5.4.3') return readText(value) || null
  }
  return null
}

function readExtensions(field: DerElement | undefined): Map<string, Buffer> {
  const values = new Map<string, Buffer>()
  if (!field) return values
  for (const extension of readElements(readElement(field.content).content)) {
    const [id, ...parts] = readElements(extension.content)
    const value = parts.at(-1)
    if (id && value) values.set(readObjectIdentifier(id.content), value.content)
  }
  return values
}

function readBasicConstraints(value: Buffer | undefined): { isCa: boolean; pathLength: number | null } {
  if (!value) return { isCa: false, pathLength: null }
  const parts = readElements(readElement(value).content)
  const flag = parts.find((part) => part.tag === derTag.boolean)
  const length = parts.find((part) => part.tag === derTag.integer)
  return {
    isCa: flag !== undefined && flag.content[0] !== 0,
    // Longer than six octets is more than any path: as good as no limit.
    pathLength: length && length.content.length <= 6 ? length.content.readUIntBE(0, length.content.length) : null,
  }
}

function readKeyUsage(value: Buffer | undefined): Set<KeyUsage> | null {
  if (!value) return null
  const bits = readElement(value).content.subarray(1)
  const has = (bit: number): boolean => ((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0
  const names = Object.keys(keyUsageBits) as KeyUsage[]
  return new Set(names.filter((name) => has(keyUsageBits[name])))
}

function readExtendedKeyUsage(value: Buffer | undefined): Set<Usage> | null {
  if (!value) return null
  const purposes = readElements(readElement(value).content).map((purpose) => readObjectIdentifier(purpose.content))
  if (purposes.includes(anyPurpose)) return null
  return new Set(purposes.flatMap((purpose) => usageOfPurpose[purpose] ?? []))
}

/** GeneralName's context tags (RFC 5280 section 4.2.1.6). Kinds that certgen does not issue are left out. */
function readSubjectAlternativeNames(value: Buffer | undefined): Name[] {
  if (!value) return []
  return readElements(readElement(value).content).flatMap(({ tag, content }): Name[] => {
    switch (tag) {
      case 0x81:
        return [{ type: 'email', value: content.toString('latin1') }]
      case 0x82:
        return [{ type: 'dns', value: content.toString('latin1') }]
      case 0x86:
        return [{ type: 'uri', value: content.toString('latin1') }]
      case 0x87:
        return formatAddress(content).map((value) => ({ type: 'ip', value }))
      default:
        return []
    }
  })
}

/** None where it is neither IPv4 nor IPv6: other verifiers pass it over. */
function formatAddress(octets: Buffer): string[] {
  if (octets.length === 4) return [octets.join('.')]
  if (octets.length !== 16) return []
  const groups = octets.toString('hex').match(/.{4}/g) ?? []
  return [new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)]
}

function readAuthorityKeyId(value: Buffer | undefined): string | null {
  if (!value) return null
  const keyId = readElements(readElement(value).content).find((part) => part.tag === 0x80)
  return keyId ? keyId.content.toString('hex') : null
}

const weakSignatureAlgorithms = new Set([
  '1.2.840.113549.1.1.2', // md2WithRSAEncryption
  '1.2.840.113549.1.1.4', // md5WithRSAEncryption
  '1.2.840.113549.1.1.5', // sha1WithRSAEncryption
  '1.3.14.3.2.29', // sha1WithRSASignature
  '1.2.840.10045.4.1', // ecdsa-with-SHA1
  '1.2.840.10040.4.3', // dsa-with-sha1
])
const rsaPss = '1.2.840.113549.1.1.10'
const weakHashes = new Set(['1.2.840.113549.2.2', '1.2.840.113549.2.5', '1.3.14.3.2.26'])

function isWeakSignature(algorithm: DerElement): boolean {
  const [id, parameters] = readElements(algorithm.content)
  const oid = id ? readObjectIdentifier(id.content) : ''
  if (oid !== rsaPss) return weakSignatureAlgorithms.has(oid)
  // RSASSA-PSS names its hash in the parameters' [0]; its default is SHA-1 (RFC 4055 section 3.1).
  const hash = parameters && readElements(parameters.content).find((part) => part.tag === 0xa0)
  if (!hash) return true
  return weakHashes.has(readObjectIdentifier(readElement(readElement(hash.content).content).content))
}
