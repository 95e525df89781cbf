import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { makeAuthority } from '../../src/pki/authority.ts'
import { makeBundle } from '../../src/pki/bundle.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { openssl } from './openssl-issuer.ts'

const made = new Date('2026-01-01T00:00:00Z')
const directory = temporaryDirectory()
const lifetimes = ['1d', '2d', '2d', '30d', '1y', '5y']

/** Real roots, of which two end at the same instant. */
let pool: Certificate[] = []
beforeAll(async () => {
  pool = await Promise.all(
    lifetimes.map(async (lifetime, index) => {
      const request = { subject: `Root ${index}`, keyType: 'ed25519', lifetime: parseDuration(lifetime) } as const
      return (await makeAuthority(request, made)).certificate
    }),
  )
})

const index = fc.nat({ max: lifetimes.length - 1 })
/** A certificate read anew each time, as from another file: the same octets, not the same object. */
const read = (indices: readonly number[]): Certificate[] =>
  indices.map((position) => readCertificate(Buffer.from(pool[position]!.der)))
/** Instants at, just before and just after the ends, where the rule turns. */
const instant = fc.tuple(index, fc.constantFrom(-1000, -1, 0, 1, 1000)).map(
  ([position, offset]) =>
    () =>
      new Date(pool[position]!.notAfter.getTime() + offset),
)

const bundles = fc.record({
  current: fc.array(index, { minLength: 1, maxLength: 4 }),
  old: fc.array(index, { maxLength: 5 }),
  at: instant,
})
const prints = (certificates: readonly Certificate[]): string[] => certificates.map(({ sha256 }) => sha256)

describe('the bundle rule (I6)', () => {
  it('keeps every new certificate in order, then at most one, and it is an old one', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const [news, olds] = [read(current), read(old)]
        const { certificates, carriedOver } = makeBundle(news, olds, at())
        expect(prints(certificates.slice(0, news.length))).toEqual(prints(news))
        expect(certificates.slice(news.length)).toEqual(carriedOver ? [carriedOver] : [])
        if (carriedOver) expect(prints(olds)).toContain(carriedOver.sha256)
      }),
    )
  })

  it('never carries over what has expired at that instant, or what the new authority has already', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const [news, olds] = [read(current), read(old)]
        const { carriedOver } = makeBundle(news, olds, at())
        if (!carriedOver) return
        expect(carriedOver.notAfter.getTime()).toBeGreaterThanOrEqual(at().getTime())
        expect(prints(news)).not.toContain(carriedOver.sha256)
      }),
    )
  })

  it('carries over the first that can be, and none only when none can', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const [news, olds] = [read(current), read(old)]
        const { carriedOver } = makeBundle(news, olds, at())
        const passedOver = carriedOver ? olds.slice(0, olds.indexOf(carriedOver)) : olds
        for (const { sha256, notAfter } of passedOver) {
          expect(notAfter < at() || prints(news).includes(sha256)).toBe(true)
        }
      }),
    )
  })

  it('is the rule as it is written down, word for word', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const [news, olds, instant] = [read(current), read(old), at()]
        // I6, without any of the means by which it is kept fast.
        const expected = prints(news)
        for (const candidate of olds) {
          const expired = candidate.notAfter.getTime() < instant.getTime()
          const present = news.some(({ der }) => Buffer.compare(der, candidate.der) === 0)
          if (expired || present) continue
          expected.push(candidate.sha256)
          break
        }
        expect(prints(makeBundle(news, olds, instant).certificates)).toEqual(expected)
      }),
      { numRuns: 500 },
    )
  })

  it.skipIf(missing('openssl'))('gives a file that openssl reads in the same order, every certificate of it', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const { certificates } = makeBundle(read(current), read(old), at())
        const pem = encodeCertificates(certificates.map(({ der }) => der))
        writeFileSync(join(directory, 'bundle.crt'), pem)
        const bag = openssl('crl2pkcs7', '-nocrl', '-certfile', join(directory, 'bundle.crt'))
        writeFileSync(join(directory, 'bag'), bag)
        const listed = openssl('pkcs7', '-print_certs', '-in', join(directory, 'bag'))
        const ders = listed.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? []
        expect(
          ders.map((block) => new X509Certificate(block).fingerprint256.replaceAll(':', '').toLowerCase()),
        ).toEqual(prints(certificates))
      }),
      { numRuns: 10 },
    )
  })

  it('run again over its own result changes nothing (I5), and never grows by a second carry-over', () => {
    fc.assert(
      fc.property(bundles, ({ current, old, at }) => {
        const news = read(current)
        const once = makeBundle(news, read(old), at())
        const twice = makeBundle(news, once.certificates, at())
        expect(prints(twice.certificates)).toEqual(prints(once.certificates))
      }),
    )
  })

  it('over a row of new authorities holds the newest and the one before it, never more', () => {
    fc.assert(
      fc.property(fc.uniqueArray(index, { minLength: 2 }), (order) => {
        let bundle: readonly Certificate[] = []
        for (const [run, position] of order.entries()) {
          bundle = makeBundle(read([position]), bundle, made).certificates
          const before = order[run - 1]
          expect(prints(bundle)).toEqual(prints(read(before === undefined ? [position] : [position, before])))
        }
      }),
    )
  })

  it('takes a certificate as valid at its last instant, and as expired a millisecond later', () => {
    const [current, old] = [pool[5]!, pool[0]!]
    const end = old.notAfter.getTime()
    expect(makeBundle([current], [old], new Date(end - 1)).carriedOver).toBe(old)
    expect(makeBundle([current], [old], new Date(end)).carriedOver).toBe(old)
    expect(makeBundle([current], [old], new Date(end + 1)).carriedOver).toBeNull()
  })

  it('does not look at the new certificates: an expired one stays, for its owner asked for it', () => {
    const [expired, old] = [pool[0]!, pool[5]!]
    const at = new Date(expired.notAfter.getTime() + 1)
    expect(makeBundle([expired], [old], at).certificates).toEqual([expired, old])
    expect(makeBundle([old], [expired], at).certificates).toEqual([old])
  })
})
