import { spawnSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { CertgenError } from '../../src/errors.ts'
import {
  closestKeyType,
  describeKey,
  encodeKey,
  generateKey,
  isConsistent,
  judgeKey,
  keyTypes,
  parseKeyType,
  readKey,
} from '../../src/pki/key.ts'
import { encodePem, readPem } from '../../src/pki/pem.ts'
import { allNodes, encodeDer, leafNode, parseDer } from '../der/tree.ts'
import { output } from '../program.ts'
import { missing } from '../requirements.ts'

const directory = mkdtempSync(join(tmpdir(), 'certgen-key-'))
afterAll(() => {
  rmSync(directory, { recursive: true })
})
let files = 0
function write(text: string): string {
  const path = join(directory, `key-${files++}`)
  writeFileSync(path, text)
  return path
}
const openssl = (...args: string[]): string => output('openssl', ...args)
const passphrase = 'open sesame'
const locked = ['-passout', `pass:${passphrase}`]

const ec = (curve: string): string[] => ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`]
const rsa = (bits: number): string[] => ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${bits}`]
const generate = (...algorithm: string[]): string => write(openssl('genpkey', ...algorithm))

/** Everything a program might print, log or send of a value. */
const shown = (value: unknown): string =>
  JSON.stringify(value) + inspect(value, { depth: Infinity, showHidden: true, getters: true })

function expectNoKeyMaterial(value: unknown, text: string): void {
  const body = text.split('\n').filter((line) => /^[A-Za-z0-9+/=]{16,}$/.test(line))
  const parts = body.flatMap((line) => line.match(/.{16}/g) ?? [])
  expect(parts.length).toBeGreaterThan(0)
  const told = shown(value)
  expect(parts.filter((part) => told.includes(part))).toEqual([])
  expect(told).not.toContain(passphrase)
}

interface Form {
  readonly name: string
  readonly write: (path: string) => string
  readonly kind: string
  readonly algorithm: readonly string[]
}

// prettier-ignore
const forms: Form[] = [
  { name: 'PKCS#8 of EC', algorithm: ec('P-256'), kind: 'ecdsa-p256', write: (path) => openssl('pkey', '-in', path) },
  { name: 'PKCS#8 of RSA', algorithm: rsa(2048), kind: 'rsa-2048', write: (path) => openssl('pkey', '-in', path) },
  { name: 'PKCS#8 of Ed25519', algorithm: ['-algorithm', 'ED25519'], kind: 'ed25519', write: (path) => openssl('pkey', '-in', path) },
  { name: 'SEC1', algorithm: ec('P-384'), kind: 'ecdsa-p384', write: (path) => openssl('ec', '-in', path) },
  { name: "SEC1 after 'EC PARAMETERS'", algorithm: ec('P-256'), kind: 'ecdsa-p256', write: (path) => openssl('ecparam', '-name', 'prime256v1') + openssl('ec', '-in', path) },
  { name: 'PKCS#1', algorithm: rsa(3072), kind: 'rsa-3072', write: (path) => openssl('rsa', '-in', path, '-traditional') },
  { name: 'PKCS#8 with text before it', algorithm: ec('P-256'), kind: 'ecdsa-p256', write: (path) => openssl('pkcs12', '-in', pkcs12(path), '-passin', 'pass:', '-nocerts', '-nodes') },
]

// prettier-ignore
const encryptedForms: Form[] = [
  { name: 'PKCS#8, PBES2', algorithm: ec('P-256'), kind: 'ecdsa-p256', write: (path) => openssl('pkcs8', '-topk8', '-in', path, '-v2', 'aes256', ...locked) },
  { name: 'PKCS#8, scrypt', algorithm: ['-algorithm', 'ED25519'], kind: 'ed25519', write: (path) => openssl('pkcs8', '-topk8', '-in', path, '-scrypt', ...locked) },
  { name: 'SEC1 with DEK-Info', algorithm: ec('P-384'), kind: 'ecdsa-p384', write: (path) => openssl('ec', '-in', path, '-aes128', ...locked) },
  { name: 'PKCS#1 with DEK-Info', algorithm: rsa(2048), kind: 'rsa-2048', write: (path) => openssl('rsa', '-in', path, '-traditional', '-aes256', ...locked) },
  { name: "SEC1 with DEK-Info after 'EC PARAMETERS'", algorithm: ec('P-256'), kind: 'ecdsa-p256', write: (path) => openssl('ecparam', '-name', 'prime256v1') + openssl('ec', '-in', path, '-aes128', ...locked) },
]

/** A PKCS#12 file of the key, out of which openssl writes "Bag Attributes" before the block. */
function pkcs12(path: string): string {
  const out = join(directory, `key-${files++}`)
  openssl('pkcs12', '-export', '-nocerts', '-inkey', path, '-out', out, '-passout', 'pass:')
  return out
}

describe.skipIf(missing('openssl'))('a key that openssl wrote', () => {
  it.each(forms)('is read: $name', ({ algorithm, kind, write: encode }) => {
    const path = generate(...algorithm)
    const text = encode(path)
    const result = readKey(text, 'tls.key')
    expect(result.findings).toEqual([])
    expect(describeKey(result.key)).toBe(kind)
    // openssl finds the same public key in what certgen writes of it.
    expect(openssl('pkey', '-in', write(encodeKey(result.key!)), '-pubout')).toBe(
      openssl('pkey', '-in', path, '-pubout'),
    )
    expectNoKeyMaterial(result, text)
    expectNoKeyMaterial(result, encodeKey(result.key!))
  })

  it.each(encryptedForms)(
    'and encrypted is read with its passphrase only: $name',
    ({ algorithm, kind, write: encode }) => {
      const path = generate(...algorithm)
      const text = encode(path)
      const opened = readKey(text, 'tls.key', passphrase)
      expect(opened.findings).toEqual([])
      expect(describeKey(opened.key)).toBe(kind)
      expect(opened.key!.equals(createPrivateKey(openssl('pkey', '-in', path)))).toBe(true)

      const wrong = readKey(text, 'tls.key', 'open barley')
      expect(wrong).toEqual({
        key: null,
        findings: [
          { code: 'key-encrypted', severity: 'error', path: 'tls.key', facts: { reason: 'wrong passphrase' } },
        ],
      })
      const none = readKey(text, 'tls.key')
      expect(none.findings).toEqual([
        { code: 'key-encrypted', severity: 'error', path: 'tls.key', facts: { reason: 'no passphrase' } },
      ])
      for (const result of [opened, wrong, none]) {
        expectNoKeyMaterial(result, text)
        expectNoKeyMaterial(result, openssl('pkey', '-in', path))
      }
      expect(shown(wrong)).not.toContain('open barley')
    },
  )

  it('is read with a passphrase that it does not need', () => {
    expect(readKey(openssl('genpkey', ...ec('P-256')), 'tls.key', passphrase).findings).toEqual([])
  })

  it('is refused when an encrypted block is cut, for that is not a question of the passphrase', () => {
    const text = openssl('pkcs8', '-topk8', '-in', generate(...ec('P-256')), '-v2', 'aes256', ...locked)
    const cut = text.split('\n').slice(0, 2).join('\n') + '\n-----END ENCRYPTED PRIVATE KEY-----\n'
    expect(readKey(cut, 'tls.key', passphrase).findings).toMatchObject([
      { code: 'pem-damaged', facts: { block: 1, line: 1 } },
    ])
  })

  it('is refused when its number is beyond its curve, for OpenSSL reads that and cannot write it', () => {
    const { der, label } = readPem(openssl('genpkey', ...ec('P-256'))).blocks[0]!
    const tree = parseDer(der)!
    const { node } = allNodes(tree).find((found) => found.node.tag === 4 && found.node.content.length === 32)!
    node.content = Buffer.alloc(40, 0xff)
    const { key, findings } = readKey(encodePem(label, encodeDer(tree)), 'tls.key')
    expect([key, findings]).toMatchObject([null, [{ code: 'pem-damaged', facts: { reason: 'not-a-key' } }]])
  })

  // The file says how long a passphrase takes to try: with 2 to the 31 rounds it would be a quarter of an hour. openssl
  // would take as long to write one, so that it writes a quick one, whose number is then raised.
  it.each([
    ['PBKDF2', ['-v2', 'aes256', '-iter', '2147'], Buffer.from([8, 0x63])],
    ['PKCS#12', ['-v1', 'PBE-SHA1-3DES', '-iter', '2147'], Buffer.from([8, 0x63])],
    ['scrypt', ['-scrypt', '-scrypt_N', '16384', '-scrypt_p', '16'], Buffer.from([16])],
  ])('whose passphrase takes too long to try is not tried: %s', (_name, scheme, quick) => {
    const encrypted = openssl('pkcs8', '-topk8', '-in', generate(...ec('P-256')), ...scheme, ...locked)
    const { der, label } = readPem(encrypted).blocks[0]!
    const tree = parseDer(der)!
    const { node } = allNodes(tree).find((found) => encodeDer(found.node).equals(encodeDer(leafNode(2, quick))))!
    node.content = Buffer.from([0x7f, 0xff, 0xff, 0xff])
    const start = process.cpuUsage()
    const { findings } = readKey(encodePem(label, encodeDer(tree)), 'tls.key', passphrase)
    expect(findings).toMatchObject([
      { code: 'key-encrypted', facts: { reason: expect.stringMatching(/more than 2000000 rounds/) as string } },
    ])
    expect(process.cpuUsage(start).user).toBeLessThan(1_000_000)
  })

  it.each([
    ['RSA 1024', rsa(1024), 'key-weak', { key: 'rsa-1024', bits: 1024 }],
    ['secp256k1', ec('secp256k1'), 'key-type', { key: 'ec-secp256k1' }],
    ['X25519', ['-algorithm', 'X25519'], 'key-type', { key: 'x25519' }],
  ])('is judged: %s', (_name, algorithm, code, facts) => {
    const { key } = readKey(openssl('genpkey', ...algorithm), 'tls.key')
    expect(judgeKey(key, 'tls.key')).toEqual([{ code, severity: 'error', path: 'tls.key', facts }])
  })
})

describe('a key that certgen makes', () => {
  it.each(keyTypes)('%s: is of that type, in PKCS#8, and judged good', async (type) => {
    const key = await generateKey(type)
    const text = encodeKey(key)
    expect(text).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
    expect([describeKey(key), closestKeyType(describeKey(key)), judgeKey(key, 'tls.key')]).toEqual([type, type, []])
    expect(readKey(text, 'tls.key').key?.equals(key)).toBe(true)
    expectNoKeyMaterial(key, text)
  })

  it.skipIf(missing('openssl'))('is encrypted with a passphrase, and openssl opens it', async () => {
    const key = await generateKey('ecdsa-p256')
    const text = encodeKey(key, passphrase)
    expect(text).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----\n/)
    const opened = openssl('pkey', '-in', write(text), '-passin', `pass:${passphrase}`)
    expect(createPrivateKey(opened).equals(key)).toBe(true)
    expectNoKeyMaterial(key, text)
  })

  it('comes back from its text with whatever passphrase, to certgen and to node:crypto, and with no other', async () => {
    const keys = await Promise.all((['ecdsa-p256', 'ecdsa-p384', 'ed25519', 'rsa-2048'] as const).map(generateKey))
    const phrase = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
      fc.constantFrom(' ', '\n', 'a\0b', '\'"`$'),
    )
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.option(phrase, { nil: undefined }), phrase, (key, own, other) => {
        const text = encodeKey(key, own)
        const opened = readKey(text, 'tls.key', own)
        expect([opened.findings, opened.key?.equals(key), isConsistent(opened.key!)]).toEqual([[], true, true])
        const options = own === undefined ? {} : { passphrase: own }
        expect(createPrivateKey({ key: text, ...options }).equals(key)).toBe(true)
        if (own === undefined || own === other) return
        expect(readKey(text, 'tls.key', other).findings).toMatchObject([{ code: 'key-encrypted' }])
      }),
      { numRuns: 60 },
    )
  })

  it.skipIf(missing('openssl'))('is opened by openssl with a passphrase of any letters', async () => {
    const key = await generateKey('ed25519')
    for (const phrase of ['correct horse', 'päßword 🔒', '\'"$(id)`', ' blanks ', 'x'.repeat(500)]) {
      const { stdout } = spawnSync('openssl', ['pkey', '-in', write(encodeKey(key, phrase)), '-passin', 'env:PHRASE'], {
        env: { ...process.env, PHRASE: phrase },
        encoding: 'utf8',
      })
      expect(createPrivateKey(stdout).equals(key)).toBe(true)
    }
  })

  it('is asked for by a type that exists', () => {
    expect(parseKeyType('ECDSA-P256')).toBe('ecdsa-p256')
    for (const text of ['', 'rsa', 'rsa-1024', 'p256', 'toString']) {
      expect(() => parseKeyType(text)).toThrow(expect.objectContaining({ code: 'usage' }) as CertgenError)
    }
  })
})

it('is read from PKCS#8, whole or damaged, as OpenSSL reads it: the same key, or none', async () => {
  const opensslReads = (pem: string): KeyObject | null => {
    try {
      const key = createPrivateKey(pem)
      key.export({ type: 'pkcs8', format: 'der' })
      return key
    } catch {
      return null
    }
  }
  for (const type of ['ecdsa-p256', 'ecdsa-p384'] as const) {
    const der = (await generateKey(type)).export({ type: 'pkcs8', format: 'der' })
    const position = fc.nat({ max: der.length - 1 })
    const counts = { read: 0, refused: 0 }
    fc.assert(
      fc.property(fc.option(fc.tuple(position, fc.integer({ min: 1, max: 255 }))), (damage) => {
        const octets = Buffer.from(der)
        if (damage) octets[damage[0]]! ^= damage[1]
        const pem = encodePem('PRIVATE KEY', octets)
        const expected = opensslReads(pem)
        const { key } = readKey(pem, 'tls.key')
        expect(key === null).toBe(expected === null)
        if (key && expected) expect(key.equals(expected)).toBe(true)
        counts[key ? 'read' : 'refused']++
      }),
      { numRuns: 400 },
    )
    expect(counts.read).toBeGreaterThan(20)
    expect(counts.refused).toBeGreaterThan(20)
  }
})
