import { createHash, createPublicKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { AuthorityKeyIdentifierExtension, Name as DistinguishedName, SubjectKeyIdentifierExtension } from './x509.ts'
import type { Extension } from './x509.ts'
import { CertgenError } from '../errors.ts'
import { readCertificate } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import type { Crypto } from './crypto.ts'
import { encodeBits, encodeElement, encodeTime, encodeUnsigned } from './der-writer.ts'
import { derTag, readElement, readElements } from './der.ts'
import { describeKey } from './key.ts'
import type { Validity } from './lifetime.ts'

type SubtleKey = Awaited<ReturnType<Crypto['subtle']['importKey']>>

/** A private key made ready to sign certificates: importing one takes longer than signing with it. */
export interface Signer {
  readonly crypto: Crypto
  readonly key: SubtleKey
  readonly algorithm: SignatureAlgorithm
}

interface SignatureAlgorithm {
  readonly name: string
  readonly hash?: string
  readonly namedCurve?: string
  /** Its AlgorithmIdentifier in DER, hexadecimal. */
  readonly identifier: string
}

/**
 * The signature that fits the key: a hash as strong as the curve (FIPS 186-5 section 6.1.1). Identifiers: RFC 5758
 * section 3.2, RFC 8410 section 3 and, with its NULL, RFC 4055 section 5.
 */
const signatureOfKey: Readonly<Record<string, SignatureAlgorithm>> = {
  'ecdsa-p256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256', identifier: '300a06082a8648ce3d040302' },
  'ecdsa-p384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384', identifier: '300a06082a8648ce3d040303' },
  'ecdsa-p521': { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512', identifier: '300a06082a8648ce3d040304' },
  ed25519: { name: 'Ed25519', identifier: '300506032b6570' },
}
const rsaSignature: SignatureAlgorithm = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  identifier: '300d06092a864886f70d01010b0500',
}

/** Throws CertgenError `unusable` for a key of a type that certgen does not sign with. */
export async function createSigner(key: KeyObject, crypto: Crypto): Promise<Signer> {
  const kind = describeKey(key)
  const algorithm = kind.startsWith('rsa-') ? rsaSignature : signatureOfKey[kind]
  if (!algorithm || kind.startsWith('rsa-pss')) {
    throw new CertgenError('unusable', `cannot sign with a key of type ${kind}`)
  }
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' })
  return { crypto, algorithm, key: await crypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']) }
}

export interface CertificateContent {
  /** A name to encode, or the DER of one to repeat to the octet. */
  readonly subject: { readonly commonName: string | null } | Buffer
  readonly issuer: { readonly commonName: string } | Buffer
  readonly publicKey: KeyObject
  readonly validity: Validity
  /** Lower-case hexadecimal. */
  readonly subjectKeyId: string
  readonly authorityKeyId: string
  readonly extensions: readonly Extension[]
}

/**
 * Signs a certificate: version 3, a serial number of 128 random bits, SKI, and AKI by key id alone, for an AKI with
 * issuer and serial ties a certificate to one of several issuers of the same name and key, and so breaks cross-signing.
 *
 * Put together here and not by x509's generator, which parses each part again that it has just encoded, and then the
 * whole: that was most of the time that a leaf took. Names, extensions and the signature are the libraries' work.
 */
export async function signCertificate(content: CertificateContent, signer: Signer): Promise<Certificate> {
  const { validity, publicKey, subjectKeyId, authorityKeyId } = content
  const algorithm = Buffer.from(signer.algorithm.identifier, 'hex')
  const extensions = [
    ...content.extensions,
    new SubjectKeyIdentifierExtension(subjectKeyId),
    new AuthorityKeyIdentifierExtension(authorityKeyId),
  ].map(({ rawData }) => new Uint8Array(rawData))
  // TBSCertificate (RFC 5280 section 4.1): version, serial, signature, issuer, validity, subject, key, extensions.
  const toBeSigned = encodeElement(
    derTag.sequence,
    encodeElement(0xa0, encodeUnsigned(Uint8Array.of(2))),
    encodeUnsigned(randomSerialNumber(signer.crypto)),
    algorithm,
    encodeName(content.issuer),
    encodeElement(derTag.sequence, encodeTime(validity.notBefore), encodeTime(validity.notAfter)),
    encodeName(content.subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    encodeElement(0xa3, encodeElement(derTag.sequence, ...extensions)),
  )
  const signature = encodeBits(await sign(toBeSigned, signer))
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

/** WebCrypto gives an ECDSA signature as r and s side by side; a certificate has them as INTEGERs (RFC 5758). */
async function sign(data: Buffer, { crypto, key, algorithm }: Signer): Promise<Buffer> {
  const signature = Buffer.from(await crypto.subtle.sign(algorithm, key, Uint8Array.from(data)))
  if (algorithm.name !== 'ECDSA') return signature
  const half = signature.length / 2
  return encodeElement(
    derTag.sequence,
    encodeUnsigned(signature.subarray(0, half)),
    encodeUnsigned(signature.subarray(half)),
  )
}

/** Leftmost 160 bits of the SHA-256 of the key's BIT STRING (RFC 7093 section 2, method 1). Lower-case hexadecimal. */
export function keyIdOf(key: KeyObject): string {
  const spki = createPublicKeyOf(key).export({ type: 'spki', format: 'der' })
  const bits = readElements(readElement(spki).content).find((part) => part.tag === derTag.bitString)
  return createHash('sha256')
    .update(bits?.content.subarray(1) ?? spki)
    .digest('hex')
    .slice(0, 40)
}

export function createPublicKeyOf(key: KeyObject): KeyObject {
  return key.type === 'public' ? key : createPublicKey(key)
}

/**
 * 16 octets: 128 random bits, less the sign bit, which must be clear (RFC 5280 section 4.1.2.2), and with the one below
 * it set, so that the number is never zero and its DER never has a leading zero octet.
 */
function randomSerialNumber(crypto: Crypto): Buffer {
  const octets = crypto.getRandomValues(Buffer.alloc(16))
  octets[0] = ((octets[0] ?? 0) & 0x7f) | 0x40
  return octets
}

/** A name that is given is repeated to the octet: verifiers that compare octets find an issuer by nothing else. */
function encodeName(name: CertificateContent['subject']): Uint8Array {
  if (Buffer.isBuffer(name)) return name
  // As an object: of a text, quotes and backslashes would be taken for escapes, and a # in front for hexadecimal.
  const parts = name.commonName === null ? [] : [{ CN: [{ utf8String: name.commonName }] }]
  return new Uint8Array(new DistinguishedName(parts).toArrayBuffer())
}
