import { spawnSync } from 'node:child_process'
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { hasErrors } from '../../src/findings.ts'
import { checkSet } from '../../src/pki/check.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { extensionId, extensionOf, forge, nameOf } from '../der/certificate.ts'
import type { Fields } from '../der/certificate.ts'
import { encodeDer, leafNode, parseDer } from '../der/tree.ts'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import {
  OpensslIssuer,
  after,
  caExtensions,
  curve,
  keyIds,
  lazy,
  leafExtensions,
  now,
  p256,
  rsa,
} from './openssl-issuer.ts'
import type { Entity, Issuance } from './openssl-issuer.ts'

// Three judges of the same files: `openssl verify`, `certtool --verify` and certgen. Where the first two agree, certgen
// says the same, or the case says why not. `npm run test:fuzz` prints the table.

const full = process.env['CERTGEN_FULL_FUZZ'] === '1'

const issuer = new OpensslIssuer(temporaryDirectory())
const root = lazy(() => issuer.root())
const otherRoot = lazy(() => issuer.root({ subject: 'Other root' }))
const middle = lazy(() => issuer.intermediate(root()))
const lower = lazy(() => issuer.intermediate(middle(), { subject: 'Lower' }))
const direct = lazy(() => issuer.leaf(root()))
const leaf = lazy(() => issuer.leaf(middle()))
const rsaRoot = lazy(() => issuer.root({ subject: 'RSA root', key: rsa(2048) }))

interface Set {
  /** Leaf first. */
  readonly chain: readonly Entity[]
  readonly bundle: readonly Entity[]
}

interface Case {
  readonly name: string
  readonly set: () => Set
  /** Not now: also by the clock of the other two. */
  readonly at?: Date
  /** Why certgen says otherwise than both of the others. */
  readonly because?: string
}

const below = (top: Entity, extra: Partial<Issuance> = {}): Set => ({ chain: [issuer.leaf(top, extra)], bundle: [top] })
const through = (extra: Partial<Issuance>, top: Entity = root()): Set => {
  const intermediate = issuer.intermediate(top, extra)
  return { chain: [issuer.leaf(intermediate), intermediate], bundle: [top] }
}
const withLeaf = (extensions: readonly string[]): Set => below(root(), { extensions })
const withRoot = (extra: Partial<Issuance>): Set => below(issuer.root(extra))

/** The same certificate with other fields, under the signature of `signer`. */
function changed(entity: Entity, signer: Entity, change: (fields: Fields) => void): Entity {
  const der = forge(new X509Certificate(entity.certificate).raw, createPrivateKey(signer.key), change)
  return { ...entity, certificate: encodeCertificates([der]) }
}
const leafWith = (change: (fields: Fields) => void): Set => ({
  chain: [changed(direct(), root(), change)],
  bundle: [root()],
})
const middleWith = (change: (fields: Fields) => void): Set => ({
  chain: [leaf(), changed(middle(), root(), change)],
  bundle: [root()],
})
const rootWith = (change: (fields: Fields) => void): Set => ({
  chain: [direct()],
  bundle: [changed(root(), root(), change)],
})
const drop =
  (...ids: string[]) =>
  ({ extensions }: Fields): void => {
    extensions.splice(0, Infinity, ...extensions.filter((extension) => !ids.includes(extensionId(extension))))
  }
const replace =
  (id: string, value: string) =>
  (fields: Fields): void => {
    drop(id)(fields)
    fields.extensions.push(extensionOf(id, value))
  }
const ids = { ski: '551d0e', keyUsage: '551d0f', san: '551d11', constraints: '551d13', aki: '551d23', eku: '551d25' }
const flipSignature = (entity: Entity): Entity => {
  const der = new X509Certificate(entity.certificate).raw
  der[der.length - 1]! ^= 1
  return { ...entity, certificate: encodeCertificates([der]) }
}
/** CA:TRUE, a usage, and whatever else; without the key ids where asked. */
const ca = (constraint: string, ...more: string[]): string[] => [...caExtensions(constraint), ...more]
const plainCa = ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign']
const names = (value: string): string[] => [
  ...leafExtensions().filter((line) => !line.startsWith('subjectAlt')),
  `subjectAltName = ${value}`,
]
const second = (date: Date, by: number): Date => new Date(date.getTime() + by * 1000)
const order = 'peers that do not sort exist (RFC 5246 demands the order), so that it is an error of its own'

const noCurve = 'a certificate is fine, but no TLS peer offers this curve to be signed with (RFC 8446 section 4.2.3)'

/** A chain of this many intermediates. */
function deep(count: number): Set {
  const chain: Entity[] = []
  let above = root()
  for (let index = 0; index < count; index++) {
    above = issuer.intermediate(above, { subject: `Level ${index}`, key: middle() })
    chain.unshift(above)
  }
  return { chain: [issuer.leaf(above), ...chain], bundle: [root()] }
}

// prettier-ignore
const cases: Case[] = [
  // Shapes.
  { name: 'a leaf below a root', set: () => ({ chain: [direct()], bundle: [root()] }) },
  { name: 'three levels', set: () => ({ chain: [leaf(), middle()], bundle: [root()] }) },
  { name: 'four levels', set: () => ({ chain: [issuer.leaf(lower()), lower(), middle()], bundle: [root()] }) },
  { name: 'the root in the chain too', set: () => ({ chain: [leaf(), middle(), root()], bundle: [root()] }) },
  { name: 'the intermediate in the bundle only', set: () => ({ chain: [leaf()], bundle: [root(), middle()] }) },
  { name: 'the intermediate in the bundle without its root', set: () => ({ chain: [leaf(), middle()], bundle: [middle()] }) },
  { name: 'the leaf in the bundle without its root', set: () => ({ chain: [direct()], bundle: [direct()] }) },
  { name: 'a self-signed leaf that is its own bundle', set: () => { const self = issuer.issue({ subject: 'self', issuer: null, extensions: leafExtensions() }); return { chain: [self], bundle: [self] } } },
  { name: 'a self-signed CA as leaf and bundle', set: () => { const self = issuer.root({ extensions: [...caExtensions('CA:TRUE', 'keyUsage = critical, keyCertSign, digitalSignature'), 'extendedKeyUsage = serverAuth, clientAuth'] }); return { chain: [self], bundle: [self] } } },
  { name: 'a missing intermediate', set: () => ({ chain: [leaf()], bundle: [root()] }) },
  { name: 'the upper of two intermediates missing', set: () => ({ chain: [issuer.leaf(lower()), lower()], bundle: [root()] }) },
  { name: 'another root', set: () => ({ chain: [direct()], bundle: [otherRoot()] }) },
  { name: 'ten intermediates', set: () => deep(10) },
  { name: 'twenty intermediates', set: () => deep(20) },

  // Order and duplicates.
  { name: 'intermediates in the wrong order', set: () => ({ chain: [issuer.leaf(lower()), middle(), lower()], bundle: [root()] }), because: order },
  { name: 'an unrelated certificate at the end of the chain', set: () => ({ chain: [direct(), otherRoot()], bundle: [root()] }), because: order },
  { name: 'the leaf twice', set: () => ({ chain: [direct(), direct()], bundle: [root()] }), because: order },
  { name: 'the intermediate twice', set: () => ({ chain: [leaf(), middle(), middle()], bundle: [root()] }), because: order },
  { name: 'the root twice in the bundle', set: () => ({ chain: [direct()], bundle: [root(), otherRoot(), root()] }) },

  // Dates.
  { name: 'an expired leaf', set: () => below(root(), { from: after(-20), to: after(-10) }) },
  { name: 'a leaf that is not valid yet', set: () => below(root(), { from: after(10) }) },
  { name: 'an expired intermediate', set: () => through({ to: after(-2) }) },
  { name: 'an intermediate that is not valid yet', set: () => through({ from: after(2) }) },
  { name: 'an expired root', set: () => withRoot({ to: after(-1) }) },
  { name: 'a root that is not valid yet', set: () => withRoot({ from: after(1) }) },
  { name: 'the second before the leaf begins', set: () => ({ chain: [direct()], bundle: [root()] }), at: second(after(-1), -1) },
  { name: 'the second in which the leaf begins', set: () => ({ chain: [direct()], bundle: [root()] }), at: after(-1) },
  { name: 'the second in which the leaf ends', set: () => ({ chain: [direct()], bundle: [root()] }), at: after(90) },
  { name: 'the second after the leaf has ended', set: () => ({ chain: [direct()], bundle: [root()] }), at: second(after(90), 1) },
  { name: 'a leaf that ends before it begins', set: () => below(root(), { from: after(2), to: after(1) }) },
  { name: 'a leaf that outlives its issuer', set: () => through({ to: after(30) }) },
  { name: 'an expired root and its renewal, of one name and key', set: () => { const renewed = issuer.root({ key: root() }); const old = issuer.root({ key: root(), to: after(-1) }); return { chain: [direct()], bundle: [old, renewed] } } },
  { name: 'a renewal and its expired root, of one name and key', set: () => { const renewed = issuer.root({ key: root() }); const old = issuer.root({ key: root(), to: after(-1) }); return { chain: [direct()], bundle: [renewed, old] } } },
  { name: 'an expired intermediate in the chain, its renewal in the bundle', set: () => { const old = issuer.intermediate(root(), { key: middle(), to: after(-2) }); return { chain: [leaf(), old], bundle: [root(), middle()] } } },
  { name: 'a GeneralizedTime where a UTCTime belongs', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x18, Buffer.from('20200101000000Z')), leafNode(0x18, Buffer.from('20490101000000Z'))])) },
  { name: 'a time without seconds', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x17, Buffer.from('2001010000Z')), leafNode(0x17, Buffer.from('490101000000Z'))])) },
  { name: 'a time with an offset', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x17, Buffer.from('200101000000+0000')), leafNode(0x17, Buffer.from('490101000000Z'))])) },
  { name: 'a time with fractions', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x18, Buffer.from('20200101000000.5Z')), leafNode(0x18, Buffer.from('20490101000000Z'))])) },
  { name: 'the year 49', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x18, Buffer.from('00200101000000Z')), leafNode(0x18, Buffer.from('00490101000000Z'))])) },
  { name: 'the end of time', set: () => leafWith(({ validity }) => void (validity.content = [leafNode(0x17, Buffer.from('200101000000Z')), leafNode(0x18, Buffer.from('99991231235959Z'))])) },

  // Signatures.
  { name: 'a signature that is wrong by a bit', set: () => ({ chain: [flipSignature(direct())], bundle: [root()] }) },
  { name: "an intermediate's signature that is wrong by a bit", set: () => ({ chain: [leaf(), flipSignature(middle())], bundle: [root()] }) },
  { name: "a root's own signature that is wrong by a bit", set: () => ({ chain: [direct()], bundle: [flipSignature(root())] }) },
  { name: "the signature of a root without key ids that is wrong by a bit", set: () => { const top = issuer.root({ extensions: plainCa }); return { chain: [issuer.leaf(top, { extensions: leafExtensions().slice(0, -2) })], bundle: [flipSignature(top)] } } },
  { name: 'a root of the same name that did not sign', set: () => ({ chain: [direct()], bundle: [issuer.root()] }) },
  { name: 'two roots of one name, of which the second signed', set: () => ({ chain: [direct()], bundle: [issuer.root(), root()] }) },
  { name: 'two roots of one name without key ids, of which the second signed', set: () => { const top = issuer.root({ extensions: plainCa }); return { chain: [issuer.leaf(top, { extensions: leafExtensions().slice(0, -2) })], bundle: [issuer.root({ extensions: plainCa }), top] } } },
  { name: 'an intermediate of the same name that did not sign', set: () => ({ chain: [leaf(), issuer.intermediate(root())], bundle: [root()] }) },
  { name: 'SHA-1 under a leaf', set: () => below(root(), { hash: 'sha1' }) },
  { name: 'SHA-1 under an intermediate', set: () => through({ hash: 'sha1' }) },
  { name: 'SHA-1 under a root', set: () => withRoot({ hash: 'sha1' }) },
  { name: 'SHA-1 by RSA', set: () => below(rsaRoot(), { hash: 'sha1' }) },
  { name: 'MD5 by RSA', set: () => below(rsaRoot(), { hash: 'md5' }) },
  { name: 'SHA-224', set: () => below(root(), { hash: 'sha224' }) },
  { name: 'SHA-512', set: () => below(root(), { hash: 'sha512' }) },
  { name: 'RSA-PSS under a leaf', set: () => below(rsaRoot(), { hash: 'sha256', signature: ['rsa_padding_mode:pss'] }) },
  { name: 'RSA-PSS with SHA-1 under a leaf', set: () => below(rsaRoot(), { hash: 'sha1', signature: ['rsa_padding_mode:pss'] }) },
  { name: 'two algorithms that differ', set: () => { const { certificate, key } = direct(); const tree = parseDer(new X509Certificate(certificate).raw)!; const [, outer] = tree.content as ReturnType<typeof leafNode>[]; outer!.content = [leafNode(6, Buffer.from('2a8648ce3d040303', 'hex'))]; return { chain: [{ key, certificate: encodeCertificates([encodeDer(tree)]) }], bundle: [root()] } } },

  // Keys.
  { name: 'RSA 1024 in a leaf', set: () => below(root(), { key: rsa(1024) }) },
  { name: 'RSA 1024 in an intermediate', set: () => through({ key: rsa(1024) }) },
  { name: 'RSA 2048', set: () => below(root(), { key: rsa(2048) }) },
  { name: 'P-521', set: () => below(root(), { key: curve('P-521') }) },
  { name: 'Ed25519 all over', set: () => { const top = issuer.root({ key: ['-algorithm', 'ED25519'] }); return below(top, { key: ['-algorithm', 'ED25519'] }) } },
  { name: 'Ed448 in a leaf', set: () => below(root(), { key: ['-algorithm', 'ED448'] }) },
  { name: 'an RSASSA-PSS key', set: () => below(root(), { key: ['-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'] }) },
  { name: 'secp256k1', set: () => below(root(), { key: curve('secp256k1') }), because: noCurve },
  { name: 'brainpoolP256r1', set: () => below(root(), { key: curve('brainpoolP256r1') }), because: noCurve },
  { name: 'an EC key with its parameters spelt out', set: () => below(root(), { key: [...p256, '-pkeyopt', 'ec_param_enc:explicit'] }) },
  { name: 'a CA with its parameters spelt out', set: () => through({ key: [...p256, '-pkeyopt', 'ec_param_enc:explicit'] }) },

  // What a CA may do.
  { name: 'an issuer with CA:FALSE', set: () => through({ extensions: caExtensions('CA:FALSE', '') }) },
  { name: 'an issuer without basicConstraints', set: () => through({ extensions: keyIds }) },
  { name: 'an issuer without basicConstraints that may sign', set: () => through({ extensions: ['keyUsage = critical, keyCertSign', ...keyIds] }) },
  { name: 'an issuer without keyCertSign', set: () => through({ extensions: caExtensions('CA:TRUE', 'keyUsage = critical, digitalSignature') }) },
  { name: 'an issuer without keyUsage', set: () => through({ extensions: caExtensions('CA:TRUE', '') }) },
  { name: 'a root without keyUsage', set: () => withRoot({ extensions: caExtensions('CA:TRUE', '') }) },
  { name: 'a root without keyCertSign', set: () => withRoot({ extensions: caExtensions('CA:TRUE', 'keyUsage = critical, digitalSignature') }) },
  { name: 'a root with CA:FALSE', set: () => withRoot({ extensions: caExtensions('CA:FALSE', '') }) },
  { name: 'a root without basicConstraints', set: () => withRoot({ extensions: keyIds }) },
  { name: 'a root whose basicConstraints are not critical', set: () => withRoot({ extensions: ['basicConstraints = CA:TRUE', ...keyIds] }) },
  { name: 'a leaf as issuer', set: () => ({ chain: [issuer.leaf(direct()), direct()], bundle: [root()] }) },
  { name: 'a root of version 1', set: () => { const top = rootWith(({ extensions }) => void extensions.splice(0)).bundle[0]!; return { chain: [direct()], bundle: [versionOne(top, root())] } }, because: 'it cannot say that it is a CA, and a strict verifier (Python 3.13 by default) refuses it' },
  { name: 'an intermediate of version 1', set: () => ({ chain: [leaf(), versionOne(middle(), root())], bundle: [root()] }) },
  { name: 'a leaf of version 1', set: () => ({ chain: [versionOne(direct(), root())], bundle: [root()] }) },
  { name: 'a leaf that is a CA', set: () => below(root(), { extensions: [...caExtensions('CA:TRUE', 'keyUsage = critical, keyCertSign, digitalSignature'), 'extendedKeyUsage = serverAuth, clientAuth'] }) },

  // Path length.
  { name: 'pathlen:0 over a leaf', set: () => withRoot({ extensions: caExtensions('CA:TRUE, pathlen:0') }) },
  { name: 'pathlen:0 over an intermediate', set: () => through({}, issuer.root({ extensions: caExtensions('CA:TRUE, pathlen:0') })) },
  { name: 'pathlen:1 over an intermediate', set: () => through({}, issuer.root({ extensions: caExtensions('CA:TRUE, pathlen:1') })) },
  { name: 'pathlen:1 over two', set: () => { const top = issuer.root({ extensions: caExtensions('CA:TRUE, pathlen:1') }); const one = issuer.intermediate(top); const two = issuer.intermediate(one, { subject: 'Two' }); return { chain: [issuer.leaf(two), two, one], bundle: [top] } } },
  { name: 'pathlen:0 of an intermediate over another', set: () => { const one = issuer.intermediate(root(), { extensions: caExtensions('CA:TRUE, pathlen:0') }); const two = issuer.intermediate(one, { subject: 'Two' }); return { chain: [issuer.leaf(two), two, one], bundle: [root()] } } },
  { name: 'pathlen:0 over a self-issued certificate', set: () => { const top = issuer.root({ extensions: caExtensions('CA:TRUE, pathlen:0') }); return through({ subject: 'Root' }, top) } },
  { name: 'a negative path length', set: () => middleWith(replace(ids.constraints, '30060101ff0201ff')) },
  { name: 'a path length of 2 to the 40', set: () => middleWith(replace(ids.constraints, '300b0101ff0206010000000000')) },
  { name: 'a path length of 9 octets', set: () => middleWith(replace(ids.constraints, '300e0101ff0209010000000000000000')) },
  { name: 'a path length in a leaf', set: () => leafWith(replace(ids.constraints, '3003020100')) },
  { name: 'a path length of an issuer that is no CA', set: () => middleWith(replace(ids.constraints, '3003020105')) },
  { name: 'CA:TRUE that is not 0xff', set: () => middleWith(replace(ids.constraints, '3003010101')) },

  // Purposes.
  { name: 'a leaf for servers', set: () => withLeaf(leafExtensions('serverAuth')) },
  { name: 'a leaf for e-mail', set: () => withLeaf(leafExtensions('emailProtection')) },
  { name: 'a leaf for everything', set: () => withLeaf(leafExtensions('anyExtendedKeyUsage')) },
  { name: 'a leaf without extendedKeyUsage', set: () => leafWith(drop(ids.eku)) },
  { name: 'a leaf without keyUsage', set: () => leafWith(drop(ids.keyUsage)) },
  { name: 'a leaf without any extension', set: () => leafWith(({ extensions }) => void extensions.splice(0)) },
  { name: 'a leaf that may only agree on keys', set: () => withLeaf(leafExtensions('serverAuth, clientAuth', 'keyAgreement')), because: 'a TLS 1.3 peer signs with its key (RFC 8446 section 4.4.2.2), and this one may not' },
  { name: 'an intermediate for e-mail', set: () => through({ extensions: ca('CA:TRUE', 'extendedKeyUsage = emailProtection') }) },
  { name: 'an intermediate for servers and clients', set: () => through({ extensions: ca('CA:TRUE', 'extendedKeyUsage = serverAuth, clientAuth') }) },
  { name: 'a root for e-mail', set: () => withRoot({ extensions: ca('CA:TRUE', 'extendedKeyUsage = emailProtection') }) },
  { name: 'a root for servers and clients', set: () => withRoot({ extensions: ca('CA:TRUE', 'extendedKeyUsage = serverAuth, clientAuth') }) },

  // Name constraints.
  { name: 'names that are permitted', set: () => through({ extensions: ca('CA:TRUE', 'nameConstraints = critical, permitted;DNS:localhost, permitted;DNS:example.org, permitted;IP:0.0.0.0/0.0.0.0, permitted;IP:::/::, permitted;email:example.org, permitted;URI:acme') }) },
  { name: 'a DNS name that is not permitted', set: () => through({ extensions: ca('CA:TRUE', 'nameConstraints = critical, permitted;DNS:example.com') }) },
  { name: 'a DNS name that is excluded', set: () => through({ extensions: ca('CA:TRUE', 'nameConstraints = critical, excluded;DNS:localhost') }) },
  { name: 'an address that is excluded', set: () => through({ extensions: ca('CA:TRUE', 'nameConstraints = critical, excluded;IP:10.0.0.0/255.0.0.0') }) },
  { name: 'constraints of a root', set: () => withRoot({ extensions: ca('CA:TRUE', 'nameConstraints = critical, permitted;DNS:example.com') }) },
  { name: 'constraints that are not critical', set: () => through({ extensions: ca('CA:TRUE', 'nameConstraints = permitted;DNS:example.com') }) },

  // Extensions.
  { name: 'an unknown critical extension of a leaf', set: () => withLeaf([...leafExtensions(), '1.2.3.4 = critical, ASN1:UTF8:x']) },
  { name: 'an unknown critical extension of an intermediate', set: () => through({ extensions: ca('CA:TRUE', '1.2.3.4 = critical, ASN1:UTF8:x') }) },
  { name: 'an unknown critical extension of a root', set: () => withRoot({ extensions: ca('CA:TRUE', '1.2.3.4 = critical, ASN1:UTF8:x') }) },
  { name: 'an unknown extension', set: () => withLeaf([...leafExtensions(), '1.2.3.4 = ASN1:UTF8:x']) },
  { name: 'two subjectAltNames', set: () => leafWith(({ extensions }) => void extensions.push(extensionOf(ids.san, '30038201' + '61'))) },
  { name: 'two basicConstraints of an intermediate', set: () => middleWith(({ extensions }) => void extensions.push(extensionOf(ids.constraints, '3000'))) },
  { name: 'basicConstraints that are damaged', set: () => middleWith(replace(ids.constraints, '0500')) },
  { name: 'a keyUsage of no bits', set: () => middleWith(replace(ids.keyUsage, '030100')) },
  { name: 'a policy that is asked for', set: () => through({ extensions: ca('CA:TRUE', 'policyConstraints = critical, requireExplicitPolicy:0') }) },

  // Key ids.
  { name: 'a leaf without an authority key id', set: () => leafWith(drop(ids.aki)) },
  { name: "a leaf with another authority's key id", set: () => leafWith(replace(ids.aki, '30048002aabb')) },
  { name: "a leaf with its issuer's issuer and another serial number", set: () => leafWith(replace(ids.aki, '3003820105')) },
  { name: 'no key ids at all', set: () => { const top = issuer.root({ extensions: plainCa }); return { chain: [issuer.leaf(top, { extensions: leafExtensions().slice(0, -2) })], bundle: [top] } } },

  // Names.
  { name: 'a CA without a name', set: () => { const top = changed(root(), root(), ({ subject, issuer: own }) => { subject.content = []; own.content = [] }); return { chain: [changed(direct(), root(), ({ issuer: own }) => void (own.content = []))], bundle: [top] } } },
  { name: "an issuer's name in other letters", set: () => ({ chain: [changed(direct(), root(), ({ issuer: own }) => void Object.assign(own, nameOf('ROOT')))], bundle: [root()] }) },
  { name: "an issuer's name in another encoding", set: () => ({ chain: [changed(direct(), root(), ({ issuer: own }) => void Object.assign(own, nameOf('Root', 0x13)))], bundle: [root()] }) },
  { name: 'a leaf without subject and names', set: () => leafWith((fields) => { drop(ids.san)(fields); fields.subject.content = [] }) },
  { name: 'a leaf named as its issuer', set: () => below(root(), { subject: 'Root' }) },
  { name: 'an address of five octets', set: () => leafWith(replace(ids.san, '300787050102030405')) },
  { name: 'a DNS name with a NUL', set: () => leafWith(replace(ids.san, '3005820361' + '0062')) },
  { name: 'a wildcard alone', set: () => withLeaf(names('DNS:*')) },

  // Serial numbers.
  { name: 'the serial number 0', set: () => leafWith(({ serialNumber }) => void (serialNumber.content = Buffer.from([0]))) },
  { name: 'a negative serial number', set: () => leafWith(({ serialNumber }) => void (serialNumber.content = Buffer.from([0xff]))) },
  { name: 'a serial number of 40 octets', set: () => leafWith(({ serialNumber }) => void (serialNumber.content = Buffer.alloc(40, 0x11))) },

  // Cross-certificates.
  { name: 'a path to either of two roots, both trusted', set: () => crossed([root(), otherRoot()]) },
  { name: 'a path to either of two roots, the first trusted', set: () => crossed([root()]) },
  { name: 'a path to either of two roots, the second trusted', set: () => crossed([otherRoot()]) },
  { name: 'two CAs that certified each other, and no root', set: () => { const a = issuer.root({ subject: 'A' }); const b = issuer.root({ subject: 'B' }); const [ab, ba] = [issuer.intermediate(b, { subject: 'A', key: a }), issuer.intermediate(a, { subject: 'B', key: b })]; return { chain: [issuer.leaf(a), ab, ba], bundle: [root()] } } },
  { name: 'two CAs that certified each other, and a root above one', set: () => { const a = issuer.root({ subject: 'A' }); const b = issuer.root({ subject: 'B' }); const [ab, ba] = [issuer.intermediate(b, { subject: 'A', key: a }), issuer.intermediate(a, { subject: 'B', key: b })]; return { chain: [issuer.leaf(a), ab, ba], bundle: [a] } } },
  { name: 'an expired cross-certificate beside a root that is trusted', set: () => crossed([otherRoot()], { to: after(-1) }) },
  { name: 'an expired cross-certificate to the only root that is trusted', set: () => crossed([root()], { to: after(-1) }) },
]

/** A leaf below `otherRoot`, and `otherRoot` certified by `root`, as in a rotation. */
function crossed(bundle: readonly Entity[], extra: Partial<Issuance> = {}): Set {
  const cross = issuer.intermediate(root(), { subject: 'Other root', key: otherRoot(), ...extra })
  return { chain: [issuer.leaf(otherRoot()), cross], bundle }
}

/** Version 1 has neither extensions nor a version number. */
function versionOne(entity: Entity, signer: Entity): Entity {
  const tree = parseDer(new X509Certificate(entity.certificate).raw)!
  const [tbs] = tree.content as ReturnType<typeof leafNode>[]
  tbs!.content = (tbs!.content as ReturnType<typeof leafNode>[]).filter(({ tag }) => tag !== 0xa0 && tag !== 0xa3)
  const der = forge(encodeDer(tree), createPrivateKey(signer.key), () => undefined)
  return { ...entity, certificate: encodeCertificates([der]) }
}

type Verdict = 'yes' | 'no'
const pem = (entities: readonly Entity[]): string => entities.map(({ certificate }) => certificate).join('')

async function verdictOfCertgen({ chain, bundle }: Set, at: Date): Promise<{ verdict: Verdict; codes: string }> {
  const { findings } = await checkSet(
    {
      cert: { path: 'tls.crt', data: pem(chain) },
      key: { path: 'tls.key', data: chain[0]!.key },
      ca: { path: 'ca.crt', data: pem(bundle) },
    },
    { at },
  )
  const codes = findings.map(({ code, facts }) => (code === 'handshake' ? String(facts['reason']) : code))
  return { verdict: hasErrors(findings) ? 'no' : 'yes', codes: codes.join(' ') }
}

/** As a TLS client at Debian's level of security would ask. */
function verdictOfOpenssl({ chain, bundle }: Set, at: Date): Verdict {
  const [first, ...rest] = chain
  const untrusted = rest.length > 0 ? ['-untrusted', issuer.write(pem(rest))] : []
  const time = ['-attime', String(Math.floor(at.getTime() / 1000))]
  const policy = ['-auth_level', '2', '-purpose', 'sslserver', '-no-CApath', '-no-CAstore', ...time]
  return run('openssl', [
    'verify',
    ...policy,
    '-CAfile',
    issuer.write(pem(bundle)),
    ...untrusted,
    issuer.write(pem([first!])),
  ])
}

function verdictOfGnutls({ chain, bundle }: Set, at: Date): Verdict {
  const files = ['--load-ca-certificate', issuer.write(pem(bundle)), '--infile', issuer.write(pem(chain))]
  const args = ['--verify', '--verify-purpose', '1.3.6.1.5.5.7.3.1', ...files]
  // certtool knows no other instant than now.
  return at === now
    ? run('certtool', args)
    : run('faketime', ['-f', `@${at.toISOString().slice(0, 19).replace('T', ' ')}`, 'certtool', ...args], { TZ: 'UTC' })
}

function run(program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Verdict {
  const { status, error } = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, ...environment } })
  if (error) throw error
  return status === 0 ? 'yes' : 'no'
}

describe.skipIf(missing('openssl', 'certtool', 'faketime'))('openssl, certtool and certgen', () => {
  const table: string[] = []
  afterAll(() => {
    if (full) console.log(['openssl certtool certgen', ...table].join('\n'))
  })

  it.each(cases)('judge alike: $name', async ({ name, set, at = now, because }) => {
    const made = set()
    const { verdict, codes } = await verdictOfCertgen(made, at)
    const [ofOpenssl, ofGnutls] = [verdictOfOpenssl(made, at), verdictOfGnutls(made, at)]
    table.push(
      `${ofOpenssl.padEnd(7)} ${ofGnutls.padEnd(8)} ${verdict.padEnd(7)} ${name}${codes === '' ? '' : ` (${codes})`}`,
    )
    const alone = ofOpenssl === ofGnutls && verdict !== ofOpenssl
    if (alone) expect(because, 'certgen alone').toBeDefined()
  })
})
