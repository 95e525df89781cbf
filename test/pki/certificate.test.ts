import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readCertificate } from '../../src/pki/certificate.ts'
import { readCertificateFile } from '../../src/pki/certificate-file.ts'
import { checkContents } from '../../src/pki/check.ts'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { instant, readCorpus } from '../corpus/corpus.ts'
import { forge } from '../der/certificate.ts'
import type { Fields } from '../der/certificate.ts'
import { leafNode } from '../der/tree.ts'
import { output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const corpus = readCorpus(join(import.meta.dirname, '../corpus'))
const { files, signers } = corpus.find(({ name }) => name === 'crossed')!
const file = (path: string): Buffer => files.get(path)!
const leaf = new X509Certificate(file('server/tls.crt')).raw
const root = new X509Certificate(file('ca/ca.crt')).raw
const change = (der: Buffer, make: (fields: Fields) => void): Buffer => forge(der, signers[0]!, make)

const utcTime = 0x17
const generalizedTime = 0x18
function withTimes(der: Buffer, tag: number, ...texts: readonly string[]): Buffer {
  return change(der, ({ validity }) => {
    validity.content = texts.map((text) => leafNode(tag, Buffer.from(text)))
  })
}
const codesOf = (chain: Buffer, bundle: Buffer = root): string[] =>
  checkContents(
    {
      cert: { path: 'tls.crt', data: encodeCertificates([chain]) },
      key: { path: 'tls.key', data: file('server/tls.key') },
      ca: { path: 'ca.crt', data: encodeCertificates([bundle]) },
    },
    { at: instant },
  ).findings.map(({ code }) => code)

describe('a certificate', () => {
  it('is read as node:crypto reads it, whoever made it', () => {
    const pems = corpus.flatMap((fleet) => [...fleet.files].filter(([path]) => path.endsWith('.crt')))
    const ders = pems.flatMap(([path, data]) => readCertificateFile({ path, data }).certificates.map(({ der }) => der))
    expect(ders.length).toBeGreaterThan(15)
    for (const der of ders) {
      const [read, seen] = [readCertificate(der), new X509Certificate(der)]
      expect(read.notBefore).toEqual(new Date(seen.validFrom))
      expect(read.notAfter).toEqual(new Date(seen.validTo))
      expect([read.isCa, read.serialNumber]).toEqual([seen.ca, seen.serialNumber])
      expect(read.publicKey?.equals(seen.publicKey)).toBe(true)
      expect(read.names.filter(({ type }) => type === 'dns').map(({ value }) => `DNS:${value}`)).toEqual(
        seen.subjectAltName?.split(', ').filter((name) => name.startsWith('DNS:')) ?? [],
      )
    }
  })

  it('begins and ends at the instants that its times say, to the second', () => {
    const within = (min: string, max: string): fc.Arbitrary<string> =>
      fc
        .date({ min: new Date(min), max: new Date(max), noInvalidDate: true })
        .map((date) => date.toISOString().slice(0, 19))
    const digits = (iso: string): string => iso.replace(/[-:T]/g, '')
    fc.assert(
      fc.property(within('1950-01-01', '2049-12-31T23:59:59Z'), within('1950-01-01', '9999-12-31'), (utc, any) => {
        const short = readCertificate(withTimes(leaf, utcTime, `${digits(utc).slice(2)}Z`, '491231235959Z'))
        expect(short.notBefore).toEqual(new Date(`${utc}Z`))
        const long = readCertificate(withTimes(leaf, generalizedTime, '19500101000000Z', `${digits(any)}Z`))
        expect(long.notAfter).toEqual(new Date(`${any}Z`))
      }),
      { numRuns: 50 },
    )
  })

  // By its text, "Jan  1 00:00:00 49 GMT", Date would take it for 2049.
  it('that ended in the first century has ended', () => {
    const ancient = withTimes(leaf, generalizedTime, '00010101000000Z', '00491231235959Z')
    expect(readCertificate(ancient).notAfter.toISOString()).toBe('0049-12-31T23:59:59.000Z')
    expect(codesOf(ancient)).toEqual(['expired'])
  })

  it.skipIf(missing('openssl')).each([
    [generalizedTime, '20300230000000Z'],
    [generalizedTime, '20301301000000Z'],
    [generalizedTime, '20300101000060Z'],
    [generalizedTime, '20300101000000.5Z'],
    [generalizedTime, '20300101000000+0100'],
    [generalizedTime, '203001010000Z'],
    [generalizedTime, '20300101000000'],
    [generalizedTime, ''],
    [utcTime, '3001010000Z'],
    [utcTime, '300101000000+0100'],
    [0x0c, '20300101000000Z'],
  ])('whose time has tag %i and is %j is refused, as OpenSSL refuses it', (tag, text) => {
    const broken = withTimes(leaf, tag, '20200101000000Z', text)
    expect(codesOf(broken)).toEqual(['pem-damaged'])
    expect(codesOf(leaf, withTimes(root, tag, '20200101000000Z', text))).toContain('pem-damaged')
    expect(verify(broken)).toMatch(/error|Unable|unable/)
  })

  it('with a public key that OpenSSL cannot read is one whose key is of no known type, and nothing is thrown', () => {
    const spoil = ({ publicKey }: Fields): void => {
      const algorithm = { ...leafNode(0x30, Buffer.alloc(0)), content: [leafNode(6, Buffer.from('2a030405', 'hex'))] }
      publicKey.content = [algorithm, leafNode(3, Buffer.from([0, 1, 2, 3]))]
    }
    const unreadable = change(leaf, spoil)
    expect(readCertificate(unreadable).publicKey).toBeNull()
    expect(codesOf(unreadable)).toEqual(['key-type', 'key-mismatch'])
    expect(codesOf(leaf, change(root, spoil))).toEqual(['chain-signature'])
  })
})

const directory = temporaryDirectory()
let count = 0
/** What openssl prints when it verifies the certificate under the root, at the instant of the corpus. */
function verify(der: Buffer): string {
  const [ca, certificate] = [join(directory, 'ca.crt'), join(directory, `${count++}.crt`)]
  writeFileSync(ca, encodeCertificates([root]))
  writeFileSync(certificate, encodeCertificates([der]))
  try {
    return output('openssl', 'verify', '-attime', String(instant.getTime() / 1000), '-CAfile', ca, certificate)
  } catch (error) {
    return String(error)
  }
}
