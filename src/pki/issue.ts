import { createHash, createPublicKey, randomBytes, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { CertgenError } from '../errors.ts'
import { readCertificate } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import { encodeBits, encodeElement, encodeTime, encodeUnsigned } from './der-writer.ts'
import { derTag, readElement, readElements } from './der.ts'
import { authorityKeyIdentifier, subjectKeyIdentifier } from './extensions.ts'
import { describeKey } from './key.ts'
import type { Validity } from './lifetime.ts'

const signAsync = promisify(sign)

/** A private key and how it signs certificates. */
export interface Signer {
  readonly key: KeyObject
  readonly algorithm: SignatureAlgorithm
}

interface SignatureAlgorithm {
  /** null: the algorithm has one of its own. */
  readonly hash: string | null
  /** Its AlgorithmIdentifier in DER, hexadecimal. */
  readonly identifier: string
}

/**
 * The signature that fits the key: a hash as strong as the curve (FIPS 186-5 section 6.1.1). Identifiers: RFC 5758
 * section 3.2, RFC 8410 section 3 and, with its NULL, RFC 4055 section 5.
 */
const signatureOfKey: Readonly<Record<string, SignatureAlgorithm>> = {
  'ecdsa-p256': { hash: 'sha256', identifier: '300a06082a8648ce3d040302' },
  'ecdsa-p384': { hash: 'sha384', identifier: '300a06082a8648ce3d040303' },
  'ecdsa-p521': { hash: 'sha512', identifier: '300a06082a8648ce3d040304' },
  ed25519: { hash: null, identifier: '300506032b6570' },
}
const rsaSignature: SignatureAlgorithm = { hash: 'sha256', identifier: '300d06092a864886f70d01010b0500' }

/** Throws CertgenError `unusable` for a key of a type that certgen does not sign with. */
export function createSigner(key: KeyObject): Signer {
  const kind = describeKey(key)
  const algorithm = kind.startsWith('rsa-') ? rsaSignature : signatureOfKey[kind]
  if (!algorithm || kind.startsWith('rsa-pss')) {
    throw new CertgenError('unusable', `cannot sign with a key of type ${kind}`)
  }
  return { key, algorithm }
}

export interface CertificateContent {
  /** A name to encode, or the DER of one to repeat to the octet. */
  readonly subject: { readonly commonName: string | null } | Buffer
  readonly issuer: { readonly commonName: string } | Buffer
  /** Of the key that is certified: see publicKeyInfo. */
  readonly publicKeyInfo: Buffer
  readonly validity: Validity
  /** Lower-case hexadecimal. */
  readonly subjectKeyId: string
  readonly authorityKeyId: string
  /** Each the DER of an Extension. */
  readonly extensions: readonly Buffer[]
}

/**
 * Signs a certificate: version 3, a serial number of 128 random bits, SKI, and AKI by key id alone, for an AKI with
 * issuer and serial ties a certificate to one of several issuers of the same name and key, and so breaks cross-signing.
 *
 * Put together here: a library's generator parses each part again that it has just encoded, and then the whole, and its
 * schemas take longer to load than Node to start (docs/performance.md). The signature is OpenSSL's.
 */
export async function signCertificate(content: CertificateContent, signer: Signer): Promise<Certificate> {
  const { validity, subjectKeyId, authorityKeyId } = content
  const algorithm = Buffer.from(signer.algorithm.identifier, 'hex')
  const extensions = [...content.extensions, subjectKeyIdentifier(subjectKeyId), authorityKeyIdentifier(authorityKeyId)]
  // TBSCertificate (RFC 5280 section 4.1): version, serial, signature, issuer, validity, subject, key, extensions.
  const toBeSigned = encodeElement(
    derTag.sequence,
    encodeElement(0xa0, encodeUnsigned(Uint8Array.of(2))),
    encodeUnsigned(randomSerialNumber()),
    algorithm,
    encodeName(content.issuer),
    encodeElement(derTag.sequence, encodeTime(validity.notBefore), encodeTime(validity.notAfter)),
    encodeName(content.subject),
    content.publicKeyInfo,
    encodeElement(0xa3, encodeElement(derTag.sequence, ...extensions)),
  )
  const signature = encodeBits(await signAsync(signer.algorithm.hash, toBeSigned, signer.key))
  return readBack(encodeElement(derTag.sequence, toBeSigned, algorithm, signature))
}

/** A name of somebody else's making, repeated to the octet, may be one that OpenSSL does not read. */
function readBack(der: Buffer): Certificate {
  try {
    return readCertificate(der)
  } catch (cause) {
    throw new CertgenError('authority-unusable', "the authority's name is encoded in a way that cannot be repeated", {
      hints: ['rotate to an authority of another name with: certgen --overwrite --strategy staged'],
      cause,
    })
  }
}

/** The SubjectPublicKeyInfo of a key (RFC 5280 section 4.1.2.7) in DER. */
export function publicKeyInfo(key: KeyObject): Buffer {
  const publicKey = key.type === 'public' ? key : createPublicKey(key)
  const header = curveHeaders[describeKey(publicKey)]
  if (header === undefined) return publicKey.export({ type: 'spki', format: 'der' })
  // OpenSSL 3 takes as long as four signatures to put together what is the same but for the point.
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  return Buffer.concat([Buffer.from(header, 'hex'), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
}

/** All that comes before the two coordinates of an uncompressed point (RFC 5480 section 2). */
const curveHeaders: Readonly<Record<string, string>> = {
  'ecdsa-p256': '3059301306072a8648ce3d020106082a8648ce3d03010703420004',
  'ecdsa-p384': '3076301006072a8648ce3d020106052b8104002203620004',
}

/** Leftmost 160 bits of the SHA-256 of the key's BIT STRING (RFC 7093 section 2, method 1). Lower-case hexadecimal. */
export function keyIdOf(spki: Buffer): string {
  const bits = readElements(readElement(spki).content).find((part) => part.tag === derTag.bitString)
  return createHash('sha256')
    .update(bits?.content.subarray(1) ?? spki)
    .digest('hex')
    .slice(0, 40)
}

/**
 * 16 octets: 128 random bits, less the sign bit, which must be clear (RFC 5280 section 4.1.2.2), and with the one below
 * it set, so that the number is never zero and its DER never has a leading zero octet.
 */
function randomSerialNumber(): Buffer {
  const octets = randomBytes(16)
  octets[0] = ((octets[0] ?? 0) & 0x7f) | 0x40
  return octets
}

/** A name that is given is repeated to the octet: verifiers that compare octets find an issuer by nothing else. */
function encodeName(name: CertificateContent['subject']): Uint8Array {
  if (Buffer.isBuffer(name)) return name
  if (name.commonName === null) return encodeElement(derTag.sequence)
  const attribute = encodeElement(
    derTag.sequence,
    encodeElement(derTag.objectIdentifier, commonNameId),
    encodeElement(derTag.utf8String, Buffer.from(name.commonName)),
  )
  return encodeElement(derTag.sequence, encodeElement(derTag.set, attribute))
}

/** id-at-commonName, 2.5.4.3, as the octets of an OBJECT IDENTIFIER. */
const commonNameId = Uint8Array.of(0x55, 0x04, 0x03)
