import { X509Certificate } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { Finding } from '../../src/findings.ts'
import { crossSign, makeAuthority } from '../../src/pki/authority.ts'
import { checkContents, checkSet } from '../../src/pki/check.ts'
import type { CheckOptions, SetFiles } from '../../src/pki/check.ts'
import { createSigner } from '../../src/pki/issue.ts'
import { encodeKey } from '../../src/pki/key.ts'
import { makeLeaf } from '../../src/pki/leaf.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName, emailName, ipName, uriName } from '../../src/pki/names.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
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
  openssl,
  p256,
  rsa,
  sans,
} from './openssl-issuer.ts'
import type { Entity, Issuance } from './openssl-issuer.ts'

const issuer = new OpensslIssuer(temporaryDirectory())
const write = (text: string | Buffer): string => issuer.write(text)
const issue = (request: Issuance): Entity => issuer.issue(request)
const makeRoot = (extra?: Partial<Issuance>): Entity => issuer.root(extra)
const makeIntermediate = (above: Entity, extra?: Partial<Issuance>): Entity => issuer.intermediate(above, extra)
const issueLeaf = (above: Entity, extra?: Partial<Issuance>): Entity => issuer.leaf(above, extra)

const root = lazy(() => makeRoot())
const otherRoot = lazy(() => makeRoot({ subject: 'Other root' }))
const namesake = lazy(() => makeRoot())
const intermediate = lazy(() => makeIntermediate(root()))
const lower = lazy(() => makeIntermediate(intermediate(), { subject: 'Lower intermediate' }))
const leaf = lazy(() => issueLeaf(intermediate()))
const direct = lazy(() => issueLeaf(root()))
const expiredRoot = lazy(() => makeRoot({ subject: 'Expired root', to: after(-1) }))

/** A root of version 1: no extensions at all. Newer releases of openssl have an option for what was the default. */
const oldFashionedRoot = lazy((): Entity => {
  const key = openssl('genpkey', ...p256)
  const common = ['-key', write(key), '-subj', '/CN=Version 1', '-days', '365']
  const certificate = openssl('version').startsWith('OpenSSL 3.0')
    ? openssl('x509', '-req', '-days', '365', '-signkey', common[1]!, '-in', write(openssl('req', '-new', ...common)))
    : openssl('req', '-x509', '-x509v1', ...common)
  return { certificate, key }
})
const dsaKey = lazy(() => {
  const parameters = write(openssl('genpkey', '-genparam', '-algorithm', 'DSA', '-pkeyopt', 'dsa_paramgen_bits:1024'))
  return ['-paramfile', parameters]
})

/** A set in which everything that is not given is in order. */
interface Set {
  readonly chain?: readonly Entity[] | string
  readonly key?: string
  readonly bundle?: readonly Entity[] | string | null
  readonly passphrase?: string
}

interface Fixture extends Omit<CheckOptions, 'at'> {
  readonly name: string
  readonly set: () => Set
  readonly at?: Date
  /** Codes; warnings are marked as such. */
  readonly codes: readonly string[]
  /** Whether the last check, the handshake, adds its finding. `any`: OpenSSL's releases differ. */
  readonly handshake?: 'refused' | 'any'
  /** What `openssl verify -x509_strict` says of the same files; not asked where it has no opinion. */
  readonly openssl?: 'OK' | RegExp
}

const pem = (entities: readonly Entity[] | string): string =>
  typeof entities === 'string' ? entities : entities.map(({ certificate }) => certificate).join('')

function setFiles({ chain = [direct()], key, bundle = [root()], passphrase }: Set): SetFiles {
  const ownKey = key ?? (typeof chain === 'string' ? direct().key : chain[0]!.key)
  return {
    cert: { path: 'tls.crt', data: pem(chain) },
    key: { path: 'tls.key', data: ownKey },
    ca: bundle === null ? null : { path: 'ca.crt', data: pem(bundle) },
    ...(passphrase === undefined ? {} : { passphrase }),
  }
}

const cut = (text: string, lines: number): string => text.split('\n').slice(0, -lines).join('\n') + '\n'
const encrypted = lazy(() => openssl('pkey', '-in', write(direct().key), '-aes256', '-passout', 'pass:open sesame'))
const throughLower = (extra: Partial<Issuance>): Set => {
  const middle = makeIntermediate(root(), extra)
  return { chain: [issueLeaf(middle), middle] }
}
const throughRoot = (extra: Partial<Issuance>): Set => {
  const top = makeRoot(extra)
  return { chain: [issueLeaf(top)], bundle: [top] }
}
const withLeaf = (extra: Partial<Issuance>): Set => ({ chain: [issueLeaf(root(), extra)] })

// prettier-ignore
const fixtures: Fixture[] = [
  // Sets that serve.
  { name: 'a leaf below a root', set: () => ({}), codes: [], openssl: 'OK' },
  { name: 'three levels', set: () => ({ chain: [leaf(), intermediate()] }), codes: [], openssl: 'OK' },
  { name: 'three levels, the root in the chain too', set: () => ({ chain: [leaf(), intermediate(), root()] }), codes: [], openssl: 'OK' },
  { name: 'four levels', set: () => ({ chain: [issueLeaf(lower()), lower(), intermediate()] }), codes: [], openssl: 'OK' },
  { name: 'an intermediate that stands in the bundle with its root', set: () => ({ chain: [leaf()], bundle: [root(), intermediate()] }), codes: [], openssl: 'OK' },
  { name: 'a bundle that begins with another root', set: () => ({ bundle: [otherRoot(), root()] }), codes: [], openssl: 'OK' },
  { name: 'no bundle at hand', set: () => ({ chain: [leaf()], bundle: null }), codes: [] },
  { name: 'pathlen:1 over one intermediate', set: () => { const top = makeRoot({ extensions: caExtensions('CA:TRUE, pathlen:1') }); const middle = makeIntermediate(top, { extensions: caExtensions('CA:TRUE, pathlen:0') }); return { chain: [issueLeaf(middle), middle], bundle: [top] } }, codes: [], openssl: 'OK' },
  { name: 'pathlen:0 over a self-issued certificate, which does not count (RFC 5280 6.1.4 l)', set: () => { const top = makeRoot({ extensions: caExtensions('CA:TRUE, pathlen:0') }); const rekeyed = makeIntermediate(top, { subject: 'Root' }); return { chain: [issueLeaf(rekeyed), rekeyed], bundle: [top] } }, codes: [], openssl: 'OK' },
  { name: 'a CA without keyUsage may do everything', set: () => throughLower({ extensions: caExtensions('CA:TRUE', '') }), codes: [], openssl: /CA cert does not include key usage extension/ },
  { name: 'RSA 2048 signed with PSS', set: () => throughRoot({ key: rsa(2048), hash: 'sha256', signature: ['rsa_padding_mode:pss'] }), codes: [], openssl: 'OK' },
  { name: 'P-521', set: () => withLeaf({ key: curve('P-521') }), codes: [], openssl: 'OK' },
  { name: 'Ed25519', set: () => withLeaf({ key: ['-algorithm', 'ED25519'] }), codes: [], openssl: 'OK' },
  { name: 'an RSASSA-PSS key', set: () => withLeaf({ key: ['-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'] }), codes: [], openssl: 'OK' },
  { name: 'an encrypted key and its passphrase', set: () => ({ key: encrypted(), passphrase: 'open sesame' }), codes: [] },
  { name: 'CRLF ends of lines and text between the blocks', set: () => ({ chain: `subject=leaf\r\n${direct().certificate.replaceAll('\n', '\r\n')}` }), codes: [] },
  { name: 'two roots of one name, of which only the second signed', set: () => ({ bundle: [namesake(), root()] }), codes: [], openssl: 'OK' },

  // Keys.
  { name: 'the key of another certificate', set: () => ({ key: leaf().key }), codes: ['key-mismatch'] },
  { name: 'a key of another type', set: () => ({ key: openssl('genpkey', ...rsa(2048)) }), codes: ['key-mismatch'] },
  { name: 'a weak key of another certificate', set: () => ({ key: openssl('genpkey', ...rsa(1024)) }), codes: ['key-mismatch', 'key-weak'] },
  { name: 'RSA 1024', set: () => withLeaf({ key: rsa(1024) }), codes: ['key-weak'], handshake: 'any', openssl: /EE certificate key too weak/ },
  { name: 'an intermediate with RSA 1024', set: () => throughLower({ key: rsa(1024) }), codes: ['key-weak'], handshake: 'any', openssl: /CA certificate key too weak/ },
  { name: 'DSA', set: () => withLeaf({ key: dsaKey() }), codes: ['key-type'], handshake: 'refused' },
  { name: 'secp256k1', set: () => withLeaf({ key: curve('secp256k1') }), codes: ['key-type'], handshake: 'refused' },
  { name: 'brainpoolP256r1', set: () => withLeaf({ key: curve('brainpoolP256r1') }), codes: ['key-type'], handshake: 'any' },
  { name: 'an encrypted key without its passphrase', set: () => ({ key: encrypted() }), codes: ['key-encrypted'] },
  { name: 'an encrypted key and another passphrase', set: () => ({ key: encrypted(), passphrase: 'open barley' }), codes: ['key-encrypted'] },

  // Files.
  { name: 'a chain file with nothing in it', set: () => ({ chain: '' }), codes: ['pem-empty'] },
  { name: 'a key file with nothing in it', set: () => ({ key: '' }), codes: ['pem-empty'] },
  { name: 'a bundle with nothing in it', set: () => ({ bundle: '' }), codes: ['pem-empty'] },
  { name: 'three empty files', set: () => ({ chain: '', key: '', bundle: '\n' }), codes: ['pem-empty', 'pem-empty', 'pem-empty'] },
  { name: 'text that is no PEM', set: () => ({ chain: 'no certificate\n' }), codes: ['pem-empty'] },
  { name: 'a chain cut in its last block', set: () => ({ chain: cut(leaf().certificate + intermediate().certificate, 3), key: leaf().key }), codes: ['chain-incomplete', 'pem-damaged'] },
  { name: 'a chain with a damaged character', set: () => ({ chain: direct().certificate.replace(/^(MI.{20})./m, '$1*') }), codes: ['pem-damaged'] },
  { name: 'a bundle whose first block is damaged', set: () => ({ bundle: otherRoot().certificate.replace(/\n.{30}/, '\n') + root().certificate }), codes: ['pem-damaged'] },
  { name: 'a bundle cut in its only block', set: () => ({ bundle: cut(root().certificate, 2) }), codes: ['pem-damaged'] },
  { name: 'a key cut in the middle', set: () => ({ key: cut(direct().key, 3) }), codes: ['pem-damaged'] },
  { name: 'a key with a damaged character', set: () => ({ key: direct().key.replace(/(\nM.{20})./, '$1*') }), codes: ['pem-damaged'] },
  { name: 'a key whose DER is whole, but no key', set: () => ({ key: openssl('pkey', '-in', write(direct().key), '-pubout').replaceAll('PUBLIC', 'PRIVATE') }), codes: ['pem-damaged'] },
  { name: 'a public key in the place of the private one', set: () => ({ key: openssl('pkey', '-in', write(direct().key), '-pubout') }), codes: ['pem-damaged'] },
  { name: 'a certificate in the place of the key', set: () => ({ key: direct().certificate }), codes: ['pem-damaged'] },
  { name: 'two keys', set: () => ({ key: direct().key + leaf().key }), codes: ['pem-damaged'] },
  { name: 'a key in the chain file', set: () => ({ chain: direct().key + direct().certificate, key: direct().key }), codes: ['pem-damaged'] },
  { name: 'a request in the chain file', set: () => ({ chain: direct().certificate + issuer.request(write(direct().key), 'leaf') }), codes: ['pem-damaged'] },

  // Dates.
  { name: 'an expired leaf', set: () => ({}), at: after(91), codes: ['expired'], openssl: /certificate has expired/ },
  { name: 'a leaf that is not valid yet', set: () => ({}), at: after(-2), codes: ['not-yet-valid'], openssl: /certificate is not yet valid/ },
  { name: 'a leaf that expired by the clock too', set: () => withLeaf({ from: after(-20), to: after(-10) }), codes: ['expired'], openssl: /certificate has expired/ },
  { name: 'a leaf that is not valid yet by the clock either', set: () => withLeaf({ from: after(10) }), codes: ['not-yet-valid'], openssl: /certificate is not yet valid/ },
  { name: 'an expired leaf, judged while it was valid', set: () => withLeaf({ from: after(-20), to: after(-10) }), at: after(-15), codes: [], openssl: 'OK' },
  { name: 'an expired intermediate', set: () => throughLower({ to: after(-2) }), codes: ['expired'], openssl: /certificate has expired/ },
  { name: 'an intermediate that is not valid yet', set: () => throughLower({ from: after(2) }), codes: ['not-yet-valid'], openssl: /certificate is not yet valid/ },
  { name: 'an expired root', set: () => ({ chain: [issueLeaf(expiredRoot())], bundle: [expiredRoot()] }), codes: ['expired', 'warning bundle-expired'], openssl: /certificate has expired/ },
  { name: 'an expired root above an intermediate in the bundle', set: () => { const middle = makeIntermediate(expiredRoot(), { from: after(-300) }); return { chain: [issueLeaf(middle)], bundle: [middle, expiredRoot()] } }, codes: ['expired', 'warning bundle-expired'], openssl: /certificate has expired/ },
  { name: 'a leaf that ends soon', set: () => ({}), at: after(61), expiresWithin: parseDuration('30d'), codes: ['expires-soon'] },
  { name: 'a leaf that ends later', set: () => ({}), at: after(59), expiresWithin: parseDuration('30d'), codes: [] },
  { name: 'a leaf that has ended does not end soon', set: () => ({}), at: after(91), expiresWithin: parseDuration('30d'), codes: ['expired'] },

  // The path.
  { name: 'a missing intermediate', set: () => ({ chain: [leaf()] }), codes: ['chain-incomplete'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'the upper of two intermediates missing', set: () => ({ chain: [issueLeaf(lower()), lower()] }), codes: ['chain-incomplete'], handshake: 'refused', openssl: /unable to get/ },
  { name: 'a bundle with another root only', set: () => ({ bundle: [otherRoot()] }), codes: ['chain-incomplete'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'an intermediate in the bundle and its root nowhere', set: () => ({ chain: [leaf(), intermediate()], bundle: [intermediate()] }), codes: ['chain-incomplete'], handshake: 'refused', openssl: /unable to get issuer certificate/ },
  { name: 'the lower of two intermediates missing, the upper there', set: () => ({ chain: [issueLeaf(lower()), intermediate()] }), codes: ['chain-incomplete', 'order'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'the intermediate missing, the root there', set: () => ({ chain: [leaf(), root()] }), codes: ['chain-incomplete', 'order'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'intermediates in the wrong order', set: () => ({ chain: [issueLeaf(lower()), intermediate(), lower()] }), codes: ['order', 'order'] },
  { name: 'the root before the intermediate', set: () => ({ chain: [leaf(), root(), intermediate()] }), codes: ['order', 'order'] },
  { name: 'the leaf last', set: () => ({ chain: [intermediate(), leaf()], key: leaf().key }), codes: ['key-mismatch', 'order', 'usage'] },
  { name: 'the leaf twice', set: () => ({ chain: [direct(), direct()] }), codes: ['order'] },
  { name: 'a certificate that has nothing to do with it, at the end', set: () => ({ chain: [direct(), otherRoot()] }), codes: ['order'] },
  { name: 'a root of the same name that did not sign', set: () => ({ bundle: [namesake()] }), codes: ['chain-signature'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'an intermediate of the same name that did not sign', set: () => ({ chain: [leaf(), makeIntermediate(root())] }), codes: ['chain-signature'], handshake: 'refused', openssl: /unable to get local issuer/ },
  { name: 'a signature that is wrong by a bit', set: () => ({ chain: flipLastBit(direct().certificate) }), codes: ['chain-signature'], handshake: 'refused', openssl: /certificate signature failure/ },
  { name: 'an issuer with CA:FALSE', set: () => throughLower({ extensions: caExtensions('CA:FALSE', '') }), codes: ['not-a-ca'], handshake: 'refused', openssl: /invalid CA certificate/ },
  { name: 'an issuer without basicConstraints', set: () => throughLower({ extensions: keyIds }), codes: ['not-a-ca'], handshake: 'refused', openssl: /invalid CA certificate/ },
  { name: 'an issuer without keyCertSign', set: () => throughLower({ extensions: caExtensions('CA:TRUE', 'keyUsage = critical, digitalSignature') }), codes: ['not-a-ca'], handshake: 'refused', openssl: /invalid CA certificate/ },
  { name: 'a leaf as issuer', set: () => ({ chain: [issueLeaf(direct()), direct()] }), codes: ['not-a-ca'], handshake: 'refused', openssl: /invalid CA certificate/ },
  { name: 'a root of version 1', set: () => ({ chain: [issueLeaf(oldFashionedRoot(), { extensions: leafExtensions().slice(0, -2) })], bundle: [oldFashionedRoot()] }), at: after(1), codes: ['not-a-ca', 'warning not-a-ca'], handshake: 'any', openssl: /error/ },
  { name: 'pathlen:0 over an intermediate', set: () => { const top = makeRoot({ extensions: caExtensions('CA:TRUE, pathlen:0') }); const middle = makeIntermediate(top); return { chain: [issueLeaf(middle), middle], bundle: [top] } }, codes: ['pathlen'], handshake: 'refused', openssl: /path length constraint exceeded/ },
  { name: 'pathlen:0 of an intermediate over another', set: () => { const top = makeIntermediate(root(), { extensions: caExtensions('CA:TRUE, pathlen:0') }); const middle = makeIntermediate(top, { subject: 'Low' }); return { chain: [issueLeaf(middle), middle, top] } }, codes: ['pathlen'], handshake: 'refused', openssl: /path length constraint exceeded/ },
  { name: 'name constraints, which only the handshake judges', set: () => throughLower({ extensions: [...caExtensions(), 'nameConstraints = critical, permitted;DNS:example.com'] }), codes: [], handshake: 'refused', openssl: /permitted subtree violation/ },

  // Signatures.
  { name: 'a leaf signed with SHA-1', set: () => withLeaf({ hash: 'sha1' }), codes: ['signature-weak'], handshake: 'refused', openssl: /CA signature digest algorithm too weak/ },
  { name: 'a leaf signed with MD5', set: () => { const top = rsaRoot(); return { chain: [issueLeaf(top, { hash: 'md5' })], bundle: [top] } }, codes: ['signature-weak'], handshake: 'refused', openssl: /CA signature digest algorithm too weak/ },
  { name: 'a leaf signed with SHA-1 by PSS', set: () => { const top = rsaRoot(); return { chain: [issueLeaf(top, { hash: 'sha1', signature: ['rsa_padding_mode:pss'] })], bundle: [top] } }, codes: ['signature-weak'], handshake: 'refused', openssl: /CA signature digest algorithm too weak/ },
  { name: 'an intermediate signed with SHA-1', set: () => throughLower({ hash: 'sha1' }), codes: ['signature-weak'], handshake: 'refused', openssl: /CA signature digest algorithm too weak/ },
  { name: 'a root signed with SHA-1: nobody needs its signature', set: () => throughRoot({ hash: 'sha1' }), codes: ['warning signature-weak'], openssl: 'OK' },

  // Names.
  { name: 'names that the leaf has', set: () => ({}), names: [dnsName('localhost'), dnsName('LOCALHOST'), dnsName('a.example.org'), dnsName('*.example.org'), ipName('10.0.0.1'), ipName('2001:db8::1'), uriName('spiffe://acme/a'), emailName('ops@example.org')], codes: [] },
  { name: 'another DNS name', set: () => ({}), names: [dnsName('other')], codes: ['name-mismatch'] },
  { name: 'a name two labels below the wildcard', set: () => ({}), names: [dnsName('a.b.example.org')], codes: ['name-mismatch'] },
  { name: 'the domain of the wildcard itself', set: () => ({}), names: [dnsName('example.org')], codes: ['name-mismatch'] },
  { name: 'a wildcard where the leaf has one name', set: () => ({}), names: [dnsName('*.localhost')], codes: ['name-mismatch'] },
  { name: 'the common name, which does not count (RFC 6125 6.4.4)', set: () => ({}), names: [dnsName('leaf')], codes: ['name-mismatch'] },
  { name: 'another IP address', set: () => ({}), names: [ipName('10.0.0.2')], codes: ['name-mismatch'] },
  { name: 'an IP address that stands there as a DNS name', set: () => withLeaf({ extensions: leafExtensions().map((line) => line.replace(sans, 'DNS:10.0.0.1')) }), names: [ipName('10.0.0.1')], codes: ['name-mismatch'] },
  { name: 'another URI and another mailbox', set: () => ({}), names: [uriName('spiffe://acme/b'), emailName('dev@example.org')], codes: ['name-mismatch', 'name-mismatch'] },

  // Usages.
  { name: 'a leaf for e-mail only', set: () => withLeaf({ extensions: leafExtensions('emailProtection') }), codes: ['usage'] },
  { name: 'a leaf for clients only', set: () => withLeaf({ extensions: leafExtensions('clientAuth') }), codes: [] },
  { name: 'a leaf for clients only, asked to serve', set: () => withLeaf({ extensions: leafExtensions('clientAuth') }), usages: ['server'], codes: ['usage'] },
  { name: 'a leaf for servers only, asked for both', set: () => withLeaf({ extensions: leafExtensions('serverAuth') }), usages: ['server', 'client'], codes: ['usage'] },
  { name: 'anyExtendedKeyUsage', set: () => withLeaf({ extensions: leafExtensions('anyExtendedKeyUsage') }), usages: ['server', 'client'], codes: [], handshake: 'any' },
  { name: 'a key that may not sign', set: () => withLeaf({ extensions: leafExtensions('serverAuth, clientAuth', 'keyAgreement') }), codes: ['usage'], handshake: 'any' },
  { name: 'an intermediate for e-mail only, which only the handshake judges', set: () => throughLower({ extensions: [...caExtensions(), 'extendedKeyUsage = emailProtection'] }), codes: [], handshake: 'refused' },

  // The bundle.
  { name: 'a root twice', set: () => ({ bundle: [root(), otherRoot(), root()] }), codes: ['warning bundle-duplicate'], openssl: 'OK' },
  { name: 'an expired root beside the one that counts', set: () => ({ bundle: [root(), expiredRoot()] }), codes: ['warning bundle-expired'], openssl: 'OK' },
  { name: 'a leaf in the bundle', set: () => ({ bundle: [root(), direct()] }), codes: ['warning not-a-ca'] },
  { name: 'a self-signed leaf that is its own bundle', set: () => { const self = issue({ subject: 'self', issuer: null, extensions: leafExtensions() }); return { chain: [self], bundle: [self] } }, codes: ['warning not-a-ca'], handshake: 'any' },

  // Several at once: all of them are found.
  { name: 'everything at once', set: () => ({ chain: [issueLeaf(root(), { hash: 'sha1', key: rsa(1024) })], key: leaf().key, bundle: [otherRoot(), otherRoot(), expiredRoot()] }), at: after(100), names: [dnsName('other')], codes: ['chain-incomplete', 'expired', 'key-mismatch', 'key-weak', 'name-mismatch', 'signature-weak', 'warning bundle-duplicate', 'warning bundle-expired'] },
]

const rsaRoot = lazy(() => makeRoot({ subject: 'RSA root', key: rsa(2048) }))

/** The last octets of a certificate are its signature's. */
function flipLastBit(certificate: string): string {
  const der = new X509Certificate(certificate).raw
  der[der.length - 1]! ^= 1
  return encodeCertificates([der])
}

const codesOf = (findings: readonly Finding[]): string[] =>
  findings.map(({ code, severity }) => (severity === 'warning' ? `warning ${code}` : code)).sort()

/** Every stretch of 20 characters of the key's own base64 that begins a line or follows another. */
function keyMaterial(text: string): string[] {
  const body = text.split('\n').filter((line) => /^[A-Za-z0-9+/=*]{20,}$/.test(line))
  return body.flatMap((line) => line.match(/.{20}/g) ?? [])
}

/** What openssl says of the first certificate, the rest being untrusted, at the same instant and Debian's level. */
function verdictOf(set: SetFiles, at: Date): string {
  const [first = '', ...rest] = set.cert.data.toString().split(/(?=-----BEGIN)/)
  const args = ['verify', '-x509_strict', '-auth_level', '2', '-attime', String(at.getTime() / 1000), '-no-CApath']
  const untrusted = rest.length > 0 ? ['-untrusted', write(rest.join(''))] : []
  const { status, stdout, stderr } = spawnSync(
    'openssl',
    [...args, '-CAfile', write(set.ca!.data.toString()), ...untrusted, write(first)],
    { encoding: 'utf8' },
  )
  return status === 0 ? 'OK' : `${stdout}${stderr}`
}

describe.skipIf(missing('openssl'))('a set', () => {
  it.each(fixtures)('$name', async ({ set, at = now, codes, handshake, openssl: verdict, ...options }) => {
    const made = setFiles(set())
    const { findings } = checkContents(made, { at, ...options })
    expect(codesOf(findings)).toEqual([...codes])

    const checked = await checkSet(made, { at, ...options })
    const added = checked.findings.slice(findings.length).map(({ code }) => code)
    expect(checked.findings.slice(0, findings.length)).toEqual(findings)
    if (handshake !== 'any') expect(added).toEqual(handshake === 'refused' ? ['handshake'] : [])

    if (verdict !== undefined) {
      expect(verdictOf(made, at)).toEqual(verdict === 'OK' ? 'OK' : expect.stringMatching(verdict))
    }
    const told = JSON.stringify(checked) + inspect(checked, { depth: Infinity, showHidden: true })
    const secrets = keyMaterial(made.key.data.toString()).filter((part) => !made.cert.data.toString().includes(part))
    expect(secrets.filter((part) => told.includes(part))).toEqual([])
    expect(told).not.toContain('open sesame')
    expect(told).not.toContain('open barley')
  })

  it('is told apart by file, and by block and line where it is damaged', () => {
    const chain = cut(leaf().certificate + intermediate().certificate, 3)
    const line = leaf().certificate.split('\n').length
    const made = setFiles({ chain, key: leaf().key, bundle: [root(), root()] })
    expect(checkContents(made, { at: now }).findings).toMatchObject([
      { code: 'pem-damaged', path: 'tls.crt', facts: { block: 2, line } },
      { code: 'chain-incomplete', path: 'tls.crt', facts: { subject: 'CN=leaf', issuer: 'CN=Intermediate' } },
      { code: 'bundle-duplicate', path: 'ca.crt', facts: { position: 2 } },
    ])
  })

  it('is valid at both of its instants, and not a second beyond', () => {
    const codesAt = (at: Date): string[] => codesOf(checkContents(setFiles({}), { at }).findings)
    const second = 1000
    expect(codesAt(after(-1))).toEqual([])
    expect(codesAt(new Date(after(-1).getTime() - second))).toEqual(['not-yet-valid'])
    expect(codesAt(after(90))).toEqual([])
    expect(codesAt(new Date(after(90).getTime() + second))).toEqual(['expired'])
  })
})

describe('a set of certgen', () => {
  it('has no findings under the old root, the new one, and both, thanks to the cross-certificate', async () => {
    const request = { subject: 'Test CA', keyType: 'ecdsa-p256', lifetime: parseDuration('5y') } as const
    const [old, current] = [await makeAuthority(request, now), await makeAuthority(request, now)]
    const cross = await crossSign(current.certificate, old, now)
    const { certificate, key } = await makeLeaf(
      {
        commonName: 'localhost',
        names: [dnsName('localhost')],
        keyType: 'ecdsa-p256',
        usages: ['server', 'client'],
        lifetime: parseDuration('90d'),
      },
      current.certificate,
      createSigner(current.key),
      now,
    )
    const findings = async (bundle: readonly Buffer[], chain: readonly Buffer[]): Promise<string[]> => {
      const made = {
        cert: { path: 'tls.crt', data: encodeCertificates(chain) },
        key: { path: 'tls.key', data: encodeKey(key) },
        ca: { path: 'ca.crt', data: encodeCertificates(bundle) },
      }
      return codesOf((await checkSet(made, { at: now, names: [dnsName('localhost')] })).findings)
    }
    const [oldDer, newDer] = [old.certificate.der, current.certificate.der]
    const chain = [certificate.der, cross.der]
    expect(await findings([oldDer], chain)).toEqual([])
    expect(await findings([newDer], chain)).toEqual([])
    expect(await findings([newDer, oldDer], chain)).toEqual([])
    expect(await findings([oldDer], [certificate.der])).toEqual(['chain-incomplete', 'handshake'])
  })
})
