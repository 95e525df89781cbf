import { execFileSync } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import 'reflect-metadata'
import { Crypto as WebCrypto } from '@peculiar/webcrypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
} from '@peculiar/x509'
import type { Extension } from '@peculiar/x509'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { crossSign, makeAuthority } from '../../src/pki/authority.ts'
import { createSigner, keyIdOf, publicKeyInfo, signCertificate } from '../../src/pki/issue.ts'
import { encodeKey, generateKey, keyTypes } from '../../src/pki/key.ts'
import type { KeyType } from '../../src/pki/key.ts'
import { makeLeaf } from '../../src/pki/leaf.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName, emailName, formatName, ipName, uriName } from '../../src/pki/names.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { encodeDer, leafNode } from '../der/tree.ts'
import type { DerNode } from '../der/tree.ts'
import { failure } from '../failure.ts'
import { missing } from '../requirements.ts'

const now = new Date()
const names = [
  dnsName('localhost'),
  dnsName('*.example.org'),
  dnsName('bücher.example'),
  ipName('10.1.2.3'),
  ipName('2001:db8::1'),
  uriName('spiffe://acme/envoy'),
  emailName('ops@example.org'),
]

let dir = ''
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'certgen-issuing-'))
})
afterAll(() => {
  rmSync(dir, { recursive: true })
})

/** A root of one key type and a leaf of another, as files for programs that are not ours. */
async function issue(rootType: KeyType, leafType: KeyType): Promise<{ ca: string; leaf: string; key: string }> {
  const root = await makeAuthority({ subject: 'Test CA', keyType: rootType, lifetime: parseDuration('5y') }, now)
  const request = {
    commonName: 'localhost',
    names,
    keyType: leafType,
    usages: ['server', 'client'] as const,
    lifetime: parseDuration('90d'),
  }
  const leaf = await makeLeaf(request, root.certificate, createSigner(root.key), now)
  const write = (name: string, text: string): string => {
    const path = join(dir, `${rootType}-${leafType}-${name}`)
    writeFileSync(path, text)
    return path
  }
  return {
    ca: write('ca.crt', encodeCertificates([root.certificate.der])),
    leaf: write('tls.crt', encodeCertificates([leaf.certificate.der])),
    key: write('tls.key', encodeKey(leaf.key)),
  }
}

function output(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function openssl(...args: string[]): string {
  return output('openssl', ...args)
}

const pythonStrict = `
import ssl, sys
ca, cert, key = sys.argv[1:4]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
for context in (server, client):
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    context.verify_flags |= 0x20  # VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
s = server.wrap_bio(a, b, server_side=True)
k = client.wrap_bio(c, d, server_hostname='localhost')
def step(end):
    try:
        end.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False
done = False
for _ in range(10):
    one = step(k); a.write(d.read())
    two = step(s); c.write(b.read())
    if one and two:
        done = True
        break
sys.exit(0 if done else 1)
`

const pairs = keyTypes.flatMap((root) => keyTypes.map((leaf) => [root, leaf] as const))

describe('roots and leaves of every combination of key types', () => {
  describe.skipIf(missing('openssl', 'certtool', 'python3'))('are accepted', () => {
    it.each(pairs)(
      'a %s root with a %s leaf: by OpenSSL, GnuTLS and Python, each at its strictest',
      async (root, type) => {
        const { ca, leaf, key } = await issue(root, type)
        for (const purpose of ['sslserver', 'sslclient']) {
          expect(openssl('verify', '-x509_strict', '-purpose', purpose, '-CAfile', ca, leaf)).toContain(': OK')
        }
        const verdict = output('certtool', '--verify', '--load-ca-certificate', ca, '--infile', leaf)
        expect(verdict).toContain('Verified. The certificate is trusted.')
        output('python3', '-c', pythonStrict, ca, leaf, key)
      },
    )
  })
})

describe('what @peculiar/x509 reads with WebCrypto, another reader and another writer of DER', () => {
  const webCrypto = new WebCrypto()
  const keyIdIn = ({ extensions }: X509Certificate): string => {
    const found = extensions.find((extension) => extension instanceof SubjectKeyIdentifierExtension)
    if (!found) throw new Error('no subject key id')
    return found.keyId
  }

  it.each(pairs)('under a %s root in a %s leaf: signature, extensions and names, to the octet', async (root, type) => {
    const files = await issue(root, type)
    const read = (path: string): X509Certificate => new X509Certificate(readFileSync(path, 'utf8'))
    const [ca, leaf] = [read(files.ca), read(files.leaf)]
    for (const certificate of [ca, leaf]) {
      expect(await certificate.verify({ publicKey: ca, date: now }, webCrypto)).toBe(true)
    }
    const { digitalSignature, keyEncipherment, keyCertSign, cRLSign } = KeyUsageFlags
    const usages = type.startsWith('rsa-') ? [digitalSignature, keyEncipherment] : [digitalSignature]
    const general = names.map(({ type, value }) => ({ type: type === 'uri' ? ('url' as const) : type, value }))
    const keyId = keyIdIn(ca)
    // What it writes for the same content is what was written here.
    const expected = {
      ca: [
        new BasicConstraintsExtension(true, 1, true),
        new KeyUsagesExtension(keyCertSign | cRLSign, true),
        new SubjectKeyIdentifierExtension(keyId),
        new AuthorityKeyIdentifierExtension(keyId),
      ],
      leaf: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(
          usages.reduce((all, usage) => all | usage),
          true,
        ),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension(general),
        new SubjectKeyIdentifierExtension(keyIdIn(leaf)),
        new AuthorityKeyIdentifierExtension(keyId),
      ],
    }
    const octets = (extensions: readonly Extension[]): string[] =>
      extensions.map(({ rawData }) => Buffer.from(rawData).toString('hex'))
    expect(octets(ca.extensions)).toEqual(octets(expected.ca))
    expect(octets(leaf.extensions)).toEqual(octets(expected.leaf))
    expect(leaf.subjectName.toString()).toBe('CN=localhost')
  })
})

describe.skipIf(missing('openssl'))('what OpenSSL reads in a leaf', () => {
  it('is every name as it was asked for, in its own form', async () => {
    const { leaf } = await issue('ecdsa-p256', 'ecdsa-p256')
    const text = openssl('x509', '-in', leaf, '-noout', '-ext', 'subjectAltName')
    expect(text).toContain(
      'DNS:localhost, DNS:*.example.org, DNS:xn--bcher-kva.example, IP Address:10.1.2.3, ' +
        'IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe://acme/envoy, email:ops@example.org',
    )
    expect(names.map(formatName)).toHaveLength(7)
  })

  it('is a signature hash that fits the P-384 key of its root', async () => {
    const { leaf } = await issue('ecdsa-p384', 'ecdsa-p256')
    expect(openssl('x509', '-in', leaf, '-noout', '-text')).toContain('Signature Algorithm: ecdsa-with-SHA384')
  })

  it('is key encipherment for RSA keys alone, and an authority key id without issuer and serial', async () => {
    const rsa = openssl('x509', '-in', (await issue('ecdsa-p256', 'rsa-2048')).leaf, '-noout', '-text')
    const ec = openssl('x509', '-in', (await issue('rsa-2048', 'ecdsa-p256')).leaf, '-noout', '-text')
    expect(rsa).toContain('X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment')
    expect(ec).toMatch(/X509v3 Key Usage: critical\n +Digital Signature\n/)
    for (const text of [rsa, ec]) expect(text).not.toMatch(/DirName|serial:/)
  })
})

describe.skipIf(missing('openssl'))('a root, as OpenSSL reads it', () => {
  it('has critical constraints with pathlen 1, keyCertSign and cRLSign, an SKI, and starts 5 minutes back', async () => {
    const { ca } = await issue('ecdsa-p256', 'ed25519')
    const text = openssl('x509', '-in', ca, '-noout', '-text')
    expect(text).toContain('X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:1')
    expect(text).toContain('X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign')
    expect(text).toContain('X509v3 Subject Key Identifier')
    const start = openssl('x509', '-in', ca, '-noout', '-startdate').replace('notBefore=', '')
    expect(new Date(start).getTime()).toBe(Math.floor(now.getTime() / 1000) * 1000 - 300_000)
  })

  it('has a subject and a serial number of its own in every generation, the serial of 128 bits', async () => {
    const make = async (): Promise<string[]> => {
      const { ca } = await issue('ecdsa-p256', 'ecdsa-p256')
      return openssl('x509', '-in', ca, '-noout', '-subject', '-serial').trim().split('\n')
    }
    const [one, two] = [await make(), await make()]
    expect(one[0]).toMatch(/^subject=CN = Test CA \d{4}-\d\d-\d\d [0-9a-f]{8}$/)
    expect(one[0]).not.toBe(two[0])
    expect(one[1]).toMatch(/^serial=[4-7][0-9A-F]{31}$/)
    expect(one[1]).not.toBe(two[1])
  })
})

describe('a leaf', () => {
  const lifetime = parseDuration('90d')
  const request = { commonName: null, names, keyType: 'ecdsa-p256', usages: ['server'], lifetime } as const

  it('ends with its authority when that ends first, and says so', async () => {
    const root = await makeAuthority({ subject: 'T', keyType: 'ecdsa-p256', lifetime: parseDuration('30d') }, now)
    const leaf = await makeLeaf(request, root.certificate, createSigner(root.key), now)
    expect(leaf.capped).toBe(true)
    expect(leaf.certificate.x509.validTo).toBe(root.certificate.x509.validTo)
  })

  it('has no common name when that does not fit, and then critical names', async () => {
    const root = await makeAuthority({ subject: 'T', keyType: 'ecdsa-p256', lifetime }, now)
    const long = { ...request, commonName: `${'a'.repeat(60)}.example` }
    const leaf = await makeLeaf(long, root.certificate, createSigner(root.key), now)
    const path = join(dir, 'long.crt')
    writeFileSync(path, encodeCertificates([leaf.certificate.der]))
    const text = openssl('x509', '-in', path, '-noout', '-text')
    expect(text).toMatch(/Subject: *\n/)
    expect(text).toContain('X509v3 Subject Alternative Name: critical')
  })
})

it.each(keyTypes)("a key's SubjectPublicKeyInfo is what OpenSSL writes: %s", async (type) => {
  const key = createPublicKey(await generateKey(type))
  expect(publicKeyInfo(key).equals(key.export({ type: 'spki', format: 'der' }))).toBe(true)
})

describe("an authority's name", () => {
  const sequence = (tag: number, ...content: DerNode[]): DerNode => ({ ...leafNode(tag, Buffer.alloc(0)), content })
  const attribute = (id: string, tag: number, value: Buffer): DerNode =>
    sequence(0x30, leafNode(6, Buffer.from(id, 'hex')), leafNode(tag, value))
  const rdn = (...attributes: DerNode[]): DerNode => sequence(0x31, ...attributes)
  const commonName = '550403'
  const serialNumber = '550405'
  const organization = '55040a'
  const issueUnder = async (name: Buffer): Promise<Buffer> => {
    const key = await generateKey('ed25519')
    const spki = publicKeyInfo(key)
    const content = {
      subject: { commonName: 'x' },
      issuer: name,
      publicKeyInfo: spki,
      validity: { notBefore: now, notAfter: now },
      subjectKeyId: keyIdOf(spki),
      authorityKeyId: keyIdOf(spki),
      extensions: [],
    }
    return (await signCertificate(content, createSigner(key))).issuerDer
  }

  it.each([
    ['UTF8String', [rdn(attribute(commonName, 0x0c, Buffer.from('Zürich')))]],
    ['PrintableString', [rdn(attribute(commonName, 0x13, Buffer.from('Zurich')))]],
    ['TeletexString', [rdn(attribute(commonName, 0x14, Buffer.from('Z\xfcrich', 'latin1')))]],
    ['BMPString', [rdn(attribute(commonName, 0x1e, Buffer.from('Zürich', 'utf16le').swap16()))]],
    ['UniversalString', [rdn(attribute(commonName, 0x1c, Buffer.from([0, 0, 0, 0x5a])))]],
    [
      'two attributes in one',
      [rdn(attribute(commonName, 0x13, Buffer.from('x')), attribute(serialNumber, 0x13, Buffer.from('7')))],
    ],
    [
      'two of one kind',
      [rdn(attribute(organization, 0x0c, Buffer.from('a'))), rdn(attribute(organization, 0x0c, Buffer.from('b')))],
    ],
    ['an attribute that nobody knows', [rdn(attribute('2a0304', 0x0c, Buffer.from('x')))]],
    ['nothing', []],
  ])('is repeated in what it issues to the octet: %s', async (_name, rdns) => {
    const name = encodeDer(sequence(0x30, ...rdns))
    expect((await issueUnder(name)).equals(name)).toBe(true)
  })

  it.each([
    ['UTF-8 that is none', 0x0c, 'Z\xfcrich'],
    ['half a character', 0x1e, 'abc'],
    ['a bit string', 0x03, 'x'],
  ])('that cannot be repeated is refused, with a way out: %s', async (_name, tag, text) => {
    const name = encodeDer(sequence(0x30, rdn(attribute(commonName, tag, Buffer.from(text, 'latin1')))))
    const error = await failure(issueUnder(name))
    expect(error).toMatchObject({ code: 'authority-unusable', hints: [expect.stringContaining('--strategy staged')] })
  })
})

describe.skipIf(missing('openssl', 'certtool'))('a cross-certificate', () => {
  it.each(keyTypes)('lets a peer that trusts only the previous %s root accept a leaf of the new one', async (type) => {
    const root = { subject: 'T', keyType: type, lifetime: parseDuration('5y') }
    const previous = await makeAuthority(root, now)
    const current = await makeAuthority({ ...root, lifetime: parseDuration('9y') }, now)
    const cross = await crossSign(current.certificate, previous, now)
    const asked = { commonName: null, names, keyType: type, usages: ['server'] as const, lifetime: parseDuration('1d') }
    const leaf = await makeLeaf(asked, current.certificate, createSigner(current.key), now)
    const write = (name: string, ...ders: Buffer[]): string => {
      const path = join(dir, `${type}-${name}`)
      writeFileSync(path, encodeCertificates(ders))
      return path
    }
    const old = write('old.crt', previous.certificate.der)
    const chain = write('chain.crt', leaf.certificate.der, cross.der)
    expect(openssl('verify', '-x509_strict', '-CAfile', old, '-untrusted', chain, chain)).toContain(': OK')
    const verdict = output('certtool', '--verify', '--load-ca-certificate', old, '--infile', chain)
    expect(verdict).toContain('Verified. The certificate is trusted.')
    expect(cross.subjectDer.equals(current.certificate.subjectDer)).toBe(true)
    expect(cross.subjectKeyId).toBe(current.certificate.subjectKeyId)
    expect(cross.authorityKeyId).toBe(previous.certificate.subjectKeyId)
    expect(cross.serialNumber).not.toBe(current.certificate.serialNumber)
    expect(cross.notAfter).toEqual(previous.certificate.notAfter)
  })
})
