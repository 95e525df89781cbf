import { X509Certificate, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { makeBundle } from '../../src/pki/bundle.ts'
import { readCertificateFile } from '../../src/pki/certificate-file.ts'
import { isSignedBy } from '../../src/pki/certificate.ts'
import { checkContents, checkSet } from '../../src/pki/check.ts'
import type { CheckedSet, SetFiles } from '../../src/pki/check.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { instant, readCorpus } from '../corpus/corpus.ts'
import { extensionId, extensionOf, forge, nameOf } from '../der/certificate.ts'
import type { Fields } from '../der/certificate.ts'
import { encodeDer, leafNode, parseDer } from '../der/tree.ts'
import type { DerNode } from '../der/tree.ts'

// What is much takes long, but not longer than it is much: sets that no operator makes, and somebody may send.

/** All of 10,000 certificates is for `npm run test:fuzz`; making them takes longest. */
const full = process.env['CERTGEN_FULL_FUZZ'] === '1'
const [few, many] = full ? [1250, 10_000] : [150, 1200]
/** Eight times as much may take eight times as long; at sixty-four, what is quadratic begins. */
const mostGrowth = 24

const { files } = readCorpus(join(import.meta.dirname, '../corpus')).find(({ name }) => name === 'crossed')!
const key = createPrivateKey(files.get('ca/ca.key')!)
const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
const otherPublicKey = parseDer(createPublicKey(otherKey).export({ type: 'spki', format: 'der' }))!
const rootTemplate = new X509Certificate(files.get('ca/ca.crt')!).raw
const leafTemplate = new X509Certificate(files.get('server/tls.crt')!).raw
const keyIds = ['551d0e', '551d23']
const basicConstraints = '551d13'

function drop(extensions: Fields['extensions'], ids: readonly string[]): void {
  extensions.splice(0, Infinity, ...extensions.filter((extension) => !ids.includes(extensionId(extension))))
}

/** A CA without key ids, so that by its looks it may have signed whatever names it. All have one key. */
function authority(subject: string, issuer: string, number: number): Buffer {
  return forge(rootTemplate, key, (fields) => {
    Object.assign(fields.subject, nameOf(subject))
    Object.assign(fields.issuer, nameOf(issuer))
    fields.serialNumber.content = Buffer.from((0x10000000 + number).toString(16), 'hex')
    drop(fields.extensions, [...keyIds, basicConstraints])
    fields.extensions.push(extensionOf(basicConstraints, '30030101ff'))
  })
}

function leaf(issuer: string, signer = key): Buffer {
  return forge(leafTemplate, signer, ({ issuer: name, extensions }) => {
    Object.assign(name, nameOf(issuer))
    drop(extensions, keyIds)
  })
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index)
/** Some fifty names, each of which has certified each other: more paths than atoms. */
const loops = (count: number): Buffer[] => {
  const side = Math.ceil(Math.sqrt(count))
  const pairs = numbers(side * side).map((index) => [index % side, Math.floor(index / side)] as const)
  return pairs.filter(([a, b]) => a !== b).map(([a, b], index) => authority(`Loop ${a}`, `Loop ${b}`, index))
}

interface Shape {
  readonly chain: readonly Buffer[]
  readonly bundle: readonly Buffer[]
}

const shapes: [string, (count: number) => Shape, string[]][] = [
  [
    'roots of one name and key',
    (count) => ({ chain: [leaf('Root')], bundle: numbers(count).map((index) => authority('Root', 'Root', index)) }),
    [],
  ],
  [
    'roots of one name, none of which signed',
    (count) => ({
      chain: [leaf('Root', otherKey)],
      bundle: numbers(count).map((index) => authority('Root', 'Root', index)),
    }),
    ['chain-signature'],
  ],
  [
    'roots of their own names',
    (count) => ({
      chain: [leaf('Root 0')],
      bundle: numbers(count).map((index) => authority(`Root ${index}`, `Root ${index}`, index)),
    }),
    [],
  ],
  [
    'a chain that has no end',
    (count) => ({
      chain: [leaf('CA 0'), ...numbers(count).map((index) => authority(`CA ${index}`, `CA ${index + 1}`, index))],
      bundle: [authority('Root', 'Root', 0)],
    }),
    ['chain-incomplete'],
  ],
  [
    'a path through the bundle that has no end',
    (count) => ({
      chain: [leaf('CA 0')],
      bundle: numbers(count).map((index) => authority(`CA ${index}`, `CA ${index + 1}`, index)),
    }),
    ['chain-signature'],
  ],
  [
    'loops of cross-certificates in the bundle',
    (count) => ({ chain: [leaf('Loop 0')], bundle: loops(count) }),
    ['chain-signature'],
  ],
  [
    'loops of cross-certificates in the chain',
    (count) => ({ chain: [leaf('Loop 0'), ...loops(count)], bundle: [authority('Root', 'Root', 0)] }),
    ['chain-incomplete', 'order'],
  ],
  [
    'loops, and roots of each name that signed nothing',
    (count) => ({
      chain: [leaf('Loop 0')],
      bundle: [...numbers(count / 2).map((index) => impostor(`Loop ${index % 5}`, index)), ...loops(count / 2)],
    }),
    ['chain-signature'],
  ],
]

/** Self-signed, by another key than everybody's. */
function impostor(name: string, number: number): Buffer {
  return forge(
    authority(name, name, number),
    otherKey,
    ({ publicKey }) => void Object.assign(publicKey, otherPublicKey),
  )
}

function setOf({ chain, bundle }: Shape): SetFiles {
  return {
    cert: { path: 'tls.crt', data: encodeCertificates(chain) },
    key: { path: 'tls.key', data: files.get('server/tls.key')! },
    ca: { path: 'ca.crt', data: encodeCertificates(bundle) },
  }
}

/** Microseconds of this process, whatever else the machine does; and what came of it. */
function cost<T>(run: () => T): { readonly time: number; readonly result: T } {
  const start = process.cpuUsage()
  const result = run()
  const { user, system } = process.cpuUsage(start)
  return { time: user + system, result }
}

function codesOf({ findings }: CheckedSet): string[] {
  return [...new Set(findings.map(({ code }) => code))].sort()
}

describe('eight times as much takes no more than its share longer', () => {
  it.each(shapes)('of %s', (_name, make, codes) => {
    const [small, large] = [setOf(make(few)), setOf(make(many))]
    const first = cost(() => checkContents(small, { at: instant }))
    const second = cost(() => checkContents(large, { at: instant }))
    expect(codesOf(first.result)).toEqual(codes)
    expect(codesOf(second.result)).toEqual(codes)
    expect(second.time / first.time).toBeLessThan(mostGrowth)
  })

  it('of certificates that are in both bundles already', () => {
    const certificates = (count: number): ReturnType<typeof readCertificateFile>['certificates'] => {
      const ders = numbers(count).map((index) => authority(`Root ${index}`, `Root ${index}`, index))
      return readCertificateFile({ path: 'ca.crt', data: encodeCertificates(ders) }).certificates
    }
    const [small, large] = [certificates(few), certificates(many)]
    // Short of what can be measured, it is done a few times over.
    const repeat = (list: typeof small): number =>
      cost(() => numbers(20).forEach(() => makeBundle(list, list.toReversed(), instant))).time
    repeat(small)
    expect(repeat(large) / repeat(small)).toBeLessThan(mostGrowth)
  })
})

/** RSA with an exponent as long as its modulus: each verification takes as long as a signature. Nobody has its private key. */
const slowKey = (() => {
  const [modulus, exponent] = [Buffer.alloc(384, 0xa7), Buffer.alloc(384, 0xa5)]
  const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: exponent.toString('base64url') }
  return parseDer(createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'der' }))!
})()
const rsaSignature = leafNode(6, Buffer.from('2a864886f70d01010b', 'hex'))

describe('signatures that take long to verify', () => {
  const slowRoot = (index: number): Buffer =>
    forge(authority('Root', 'Root', index), key, ({ publicKey }) => void Object.assign(publicKey, slowKey))
  const slowLeaf = forge(leaf('Root'), key, ({ algorithm }) => void (algorithm.content = [rsaSignature]))
  // As long as the modulus, or it is refused unseen.
  const signed = parseDer(slowLeaf)!
  const [, , signature] = signed.content as DerNode[]
  Object.assign(signature!, leafNode(3, Buffer.alloc(385).fill(0x55, 1)))

  it('are not verified by the thousand', () => {
    const set = setOf({ chain: [encodeDer(signed)], bundle: numbers(1000).map(slowRoot) })
    const { time: reading, result } = cost(() => readCertificateFile(set.ca!).certificates)
    const [certificate] = readCertificateFile(set.cert).certificates
    const sample = result.slice(0, 50)
    const { time: verifying } = cost(() => sample.forEach((root) => expect(isSignedBy(certificate!, root)).toBe(false)))
    const { time, result: checked } = cost(() => checkContents(set, { at: instant }))
    expect(codesOf(checked)).toEqual(['chain-signature'])
    // A verification takes longer than anything else here, or this would prove nothing.
    expect(verifying / sample.length).toBeGreaterThan((2 * reading) / result.length)
    expect(time - reading).toBeLessThan((verifying / sample.length) * 500)
  })
})

describe('what is more than any peer takes', () => {
  const root = authority('Root', 'Root', 0)
  const reasons = async (shape: Shape): Promise<unknown[]> => {
    const { findings } = await checkSet(setOf(shape), { at: instant })
    return findings.filter(({ code }) => code === 'handshake').map(({ facts }) => facts['reason'])
  }

  it('is not tried in a handshake: loading it takes time that grows with the square', async () => {
    const [bundle, chain] = [numbers(1001).map(() => root), [leaf('Root'), ...numbers(1000).map(() => root)]]
    expect(await reasons({ chain: [leaf('Root')], bundle })).toEqual(['a bundle of more than 1000'])
    expect(await reasons({ chain, bundle: [root] })).toEqual(['a chain of more than 1000'])
    expect(await reasons({ chain: [leaf('Root')], bundle: [root] })).toEqual([])
  })
})
