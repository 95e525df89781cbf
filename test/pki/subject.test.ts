import { X509Certificate, createPrivateKey } from 'node:crypto'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { makeAuthority } from '../../src/pki/authority.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { commonNameOf, longestSubject, unmarkedSubject } from '../../src/pki/subject.ts'
import { readCorpus } from '../corpus/corpus.ts'
import { forge, nameOf } from '../der/certificate.ts'

const { files } = readCorpus(join(import.meta.dirname, '../corpus')).find(({ name }) => name === 'crossed')!
const key = createPrivateKey(files.get('ca/ca.key')!)
const root = new X509Certificate(files.get('ca/ca.crt')!).raw
const named = (commonName: string): Certificate =>
  readCertificate(forge(root, key, ({ subject }) => void Object.assign(subject, nameOf(commonName))))

/** What people call their authorities, and what nobody would. */
const text = fc.oneof(
  fc.string({ minLength: 1, maxLength: longestSubject, unit: 'grapheme' }),
  fc.constantFrom(
    'Acme, Inc.',
    'a + CN=b',
    'O=x, CN=y',
    '#cafe',
    ' blanks ',
    'back\\slash',
    '"quoted"',
    'new\nline',
    '<;>',
  ),
)

describe('a common name', () => {
  // Read from OpenSSL's text, "Acme\, Inc." would end at its comma, and the successor be called "Acme\".
  it('is read as it was meant, whatever is in it', () => {
    fc.assert(
      fc.property(text, (commonName) => {
        expect(commonNameOf(named(commonName))).toBe(commonName)
      }),
    )
  })

  it('is found beside others in one RDN, and is null where there is none', () => {
    const foreign = readCorpus(join(import.meta.dirname, '../corpus')).find(({ name }) => name === 'foreign')!
    expect(commonNameOf(readCertificate(new X509Certificate(foreign.files.get('ca/ca.crt')!).raw))).toBe('Acme Root')
    const nameless = forge(root, key, ({ subject }) => void (subject.content = []))
    expect(commonNameOf(readCertificate(nameless))).toBeNull()
    expect(commonNameOf(named(''))).toBeNull()
  })

  it('of an authority is taken over by its successors, each with a mark of its own', async () => {
    const request = { keyType: 'ed25519', lifetime: parseDuration('1y') } as const
    await fc.assert(
      fc.asyncProperty(text, async (commonName) => {
        const subject = unmarkedSubject(named(commonName))
        const first = await makeAuthority({ ...request, subject }, new Date())
        const second = await makeAuthority({ ...request, subject: unmarkedSubject(first.certificate) }, new Date())
        expect(subject).toBe(commonName)
        expect(unmarkedSubject(second.certificate)).toBe(subject)
        expect(commonNameOf(second.certificate)).not.toBe(commonNameOf(first.certificate))
      }),
      { numRuns: 30 },
    )
  })

  it('that is too long is cut between two characters, not in one', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 30, maxLength: 80, unit: 'grapheme-composite' }), (commonName) => {
        const subject = unmarkedSubject(named(commonName))
        expect(subject.length).toBeLessThanOrEqual(longestSubject)
        expect(commonName.startsWith(subject)).toBe(true)
        expect(Buffer.from(subject).toString()).toBe(subject)
      }),
    )
  })
})
