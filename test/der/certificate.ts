import { sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { encodeDer, leafNode, parseDer } from './tree.ts'
import type { DerNode } from './tree.ts'

/** Certificates that no tool would make: another's, with any field changed, under a signature that holds. */

/** The parts of a certificate's body (RFC 5280 section 4.1). */
export interface Fields {
  readonly serialNumber: DerNode
  readonly algorithm: DerNode
  readonly issuer: DerNode
  readonly validity: DerNode
  readonly subject: DerNode
  readonly publicKey: DerNode
  readonly extensions: DerNode[]
}

/** null when it has not the shape of a certificate. */
export function fieldsOf(certificate: DerNode): Fields | null {
  const tbs = Array.isArray(certificate.content) ? certificate.content[0] : undefined
  const parts = Array.isArray(tbs?.content) ? tbs.content.slice() : []
  if (parts[0]?.tag === 0xa0) parts.shift()
  const [serialNumber, algorithm, issuer, validity, subject, publicKey, ...optional] = parts
  const list = optional.find(({ tag }) => tag === 0xa3)?.content
  const extensions = Array.isArray(list) ? list[0]?.content : []
  if (!serialNumber || !algorithm || !issuer || !validity || !subject || !publicKey) return null
  return Array.isArray(extensions)
    ? { serialNumber, algorithm, issuer, validity, subject, publicKey, extensions }
    : null
}

/** The certificate with what `change` makes of its fields, signed with `key`. */
export function forge(der: Buffer, key: KeyObject, change: (fields: Fields) => void): Buffer {
  const certificate = parseDer(der)
  const fields = certificate && fieldsOf(certificate)
  if (!certificate || !fields) throw new Error('not a certificate')
  change(fields)
  signAgain(certificate, fields, key)
  return encodeDer(certificate)
}

const weakHashes: Readonly<Record<string, string>> = {
  '2a864886f70d010104': 'md5',
  '2a864886f70d010105': 'sha1',
  '2a8648ce3d0401': 'sha1',
}

/** The algorithm stays what it says it is: where that does not fit the key, it is one more thing that is wrong. */
export function signAgain(certificate: DerNode, { algorithm }: Fields, key: KeyObject): void {
  const [tbs, outer, signature] = Array.isArray(certificate.content) ? certificate.content : []
  if (!tbs || !outer || !signature) return
  outer.content = algorithm.content
  const identifier = Array.isArray(algorithm.content) ? algorithm.content[0]?.content : undefined
  const weak = Buffer.isBuffer(identifier) ? weakHashes[identifier.toString('hex')] : undefined
  const strong = key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'sha384' : 'sha256'
  const hash = key.asymmetricKeyType === 'ed25519' ? null : (weak ?? strong)
  Object.assign(signature, leafNode(3, Buffer.concat([Buffer.from([0]), sign(hash, encodeDer(tbs), key)])))
}

/** A name of one common name. */
export function nameOf(commonName: string | Buffer, stringTag = 0x0c): DerNode {
  const attribute = sequence(leafNode(6, Buffer.from('550403', 'hex')), leafNode(stringTag, Buffer.from(commonName)))
  return sequence({ ...leafNode(0x31, Buffer.alloc(0)), content: [attribute] })
}

/** An extension with this DER for its value; `id` and `value` in hexadecimal. */
export function extensionOf(id: string, value: string): DerNode {
  return sequence(leafNode(6, Buffer.from(id, 'hex')), leafNode(4, Buffer.from(value, 'hex')))
}

export function extensionId({ content }: DerNode): string {
  const id = Array.isArray(content) ? content[0]?.content : undefined
  return Buffer.isBuffer(id) ? id.toString('hex') : ''
}

function sequence(...content: DerNode[]): DerNode {
  return { ...leafNode(0x30, Buffer.alloc(0)), content }
}
