import { execFileSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readCertificateFile, readCertificates as readCertificatesOf } from '../../src/pki/certificate-file.ts'
import { encodeCertificates, encodePem, readPem } from '../../src/pki/pem.ts'
import { errorOf } from '../failure.ts'

const readCertificates = (data: string | Buffer, path: string): Buffer[] =>
  readCertificatesOf(data, path).map(({ der }) => der)

let directory: string
/** Two certificates and the key of the first, as openssl wrote them. */
let first: string
let second: string
let key: string

function openssl(args: string[], input?: string): string {
  return execFileSync('openssl', args, {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'ignore'],
    ...(input === undefined ? {} : { input }),
  })
}

function issue(name: string): { certificate: string; key: string } {
  const [keyFile, certificateFile] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(['req', '-x509', ...curve, '-keyout', keyFile, '-out', certificateFile, '-days', '2', '-subj', `/CN=${name}`])
  return { certificate: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'certgen-pem-'))
  const one = issue('first')
  first = one.certificate
  key = one.key
  second = issue('second').certificate
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function damageOf(text: string | Uint8Array): string[] {
  return readPem(text).damage.map(({ number, line, reason }) => `${number}:${line} ${reason}`)
}

/** A DER SEQUENCE around `content`. */
function sequence(content: Uint8Array): Buffer {
  const { length } = content
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([0x30, ...header]), content])
}

/** Lines of `text` with line `number` (from 1) replaced. */
function withLine(text: string, number: number, change: (line: string) => string): string {
  return text
    .split('\n')
    .map((line, index) => (index + 1 === number ? change(line) : line))
    .join('\n')
}

describe('readPem', () => {
  test('gives every block with its number, label and line', () => {
    const { blocks, damage } = readPem(`# root\n${first}${key}`)
    expect(damage).toEqual([])
    expect(blocks.map(({ label, number }) => [label, number])).toEqual([
      ['CERTIFICATE', 1],
      ['PRIVATE KEY', 2],
    ])
    expect(blocks[0]?.line).toBe(2)
    expect(blocks[1]?.line).toBe(1 + first.split('\n').length)
    expect(blocks[0]?.der.equals(new X509Certificate(first).raw)).toBe(true)
    expect(blocks[1]?.text).toBe(key)
  })

  test('reads bytes as it reads text', () => {
    const bytes = new Uint8Array(Buffer.from(`xx${first}yy`)).subarray(2, 2 + first.length)
    expect(readPem(bytes)).toEqual(readPem(first))
  })

  test('reads what `openssl x509 -text` prints, whatever the names in it', () => {
    const text = openssl(['x509', '-text'], first)
    expect(text).toContain('Certificate:')
    expect(readPem(text).blocks).toHaveLength(1)
    expect(damageOf(`subject=O = FRONT-END SERVICES, CN = back-end\n--- chain ---\n-----\n${text}`)).toEqual([])
  })

  test('reads text in Latin-1 and UTF-8 between blocks', () => {
    expect(
      damageOf(Buffer.concat([Buffer.from('# Stra\xdfe\n', 'latin1'), Buffer.from(`# Straße\n${first}`)])),
    ).toEqual([])
  })

  test.each([
    ['CRLF', (text: string) => text.replaceAll('\n', '\r\n')],
    ['blanks at the ends of lines', (text: string) => text.replaceAll('\n', ' \t \n')],
    ['no newline at the end', (text: string) => text.trimEnd()],
    ['lines of 76 characters', (text: string) => rewrap(text, 76)],
    ['one long line', (text: string) => rewrap(text, 100_000)],
  ])('accepts %s, as OpenSSL does', (_, change) => {
    const changed = change(first)
    expect(readCertificates(changed, 'ca.crt')).toEqual([new X509Certificate(first).raw])
    expect(new X509Certificate(changed).raw).toEqual(new X509Certificate(first).raw)
  })

  function rewrap(text: string, width: number): string {
    const lines = text.trimEnd().split('\n')
    const body = lines.slice(1, -1).join('')
    return [lines[0], ...(body.match(new RegExp(`.{1,${width}}`, 'g')) ?? []), lines.at(-1), ''].join('\n')
  }

  test('keeps the headers and the text of a legacy encrypted key, so that OpenSSL can decrypt it', () => {
    const legacy = openssl(['ec', '-aes128', '-passout', 'pass:secret'], key)
    const [block] = readPem(legacy).blocks
    expect(block?.label).toBe('EC PRIVATE KEY')
    expect(block?.headers.get('Proc-Type')).toBe('4,ENCRYPTED')
    expect(block?.headers.get('DEK-Info')).toMatch(/^AES-128-CBC,/)
    expect(createPrivateKey({ key: block?.text ?? '', passphrase: 'secret' }).equals(createPrivateKey(key))).toBe(true)
  })

  test('names the line where the damage shows', () => {
    const lines = first.trimEnd().split('\n').length
    const cases: [string, string, string[]][] = [
      ['no END', first.replace(/-----END.*\n/, ''), ['1:1 no-end']],
      ['BEGIN within a block', first.replace(/-----END.*\n/, '') + second, ['1:1 no-end']],
      ['no BEGIN', first.replace(/-----BEGIN.*\n/, ''), [`1:${lines - 1} no-begin`]],
      ['another label', first.replace('END CERTIFICATE', 'END X509 CRL'), [`1:${lines} label-mismatch`]],
      ['indented BEGIN', ` ${first}`, ['1:1 malformed-boundary']],
      ['indented END', first.replace('-----END', '  -----END'), [`1:${lines} malformed-boundary`]],
      ['byte order mark', `\ufeff${first}`, ['1:1 malformed-boundary']],
      ['four dashes', first.slice(1), ['1:1 malformed-boundary']],
      ['four dashes at the end', first.replace('E-----', 'E----'), ['1:1 malformed-boundary']],
      ['no dashes before', first.slice(5), ['1:1 malformed-boundary']],
      ['long dashes', first.replace('-----BEGIN', '——BEGIN'), ['1:1 malformed-boundary']],
      ['lower case', first.replace('BEGIN CERTIFICATE', 'begin certificate'), ['1:1 malformed-boundary']],
      ['END after text', first.replace('\n-----END', '-----END'), [`1:${lines - 1} malformed-boundary`]],
      ['old Mac line ends', first.replaceAll('\n', '\r'), ['1:1 malformed-boundary']],
      ['a blank line in the base64', first.replace('\n', '\n\n'), ['1:2 blank-line']],
      ['a character outside base64', withLine(first, 3, (line) => line.replace(/.$/, '*')), ['1:3 base64']],
      ['base64url', withLine(first, 3, (line) => line.replace(/.$/, '_')), ['1:3 base64']],
      ['a blank in the base64', withLine(first, 3, (line) => ` ${line}`), ['1:3 base64']],
      ['padding in the middle', withLine(first, 3, (line) => line.replace(/..$/, '==')), ['1:1 base64']],
      ['an empty body', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n', ['1:1 empty-body']],
      ['a lost line', first.split('\n').toSpliced(3, 1).join('\n'), ['1:1 der-length']],
      ['a repeated line', withLine(first, 3, (line) => `${line}\n${line}`), ['1:1 der-length']],
      ['headers on a certificate', first.replace('\n', '\nX-Owner: me\n\n'), ['1:2 headers']],
      ['headers without end', key.replace('\n', '\nProc-Type: 4,ENCRYPTED\n'), ['1:2 headers']],
      ['a NUL in a block', withLine(first, 3, (line) => `${line}\0`), ['1:3 binary']],
      ['a NUL after a block', `${first}\0\0\n`, [`2:${lines + 1} binary`]],
    ]
    for (const [name, text, expected] of cases) expect([name, damageOf(text)]).toEqual([name, expected])
  })

  test('goes on after damage: the other blocks are read and numbered as they stand', () => {
    const broken = withLine(first, 3, (line) => `${line}*`)
    const { blocks, damage } = readPem(second + broken + second)
    expect(blocks.map(({ number }) => number)).toEqual([1, 3])
    expect(damage.map(({ number }) => number)).toEqual([2])
  })

  test('wants a definite length in its shortest form', () => {
    const content = Buffer.alloc(40, 5)
    const cases: [Buffer, string[]][] = [
      [sequence(content), []],
      [sequence(Buffer.alloc(0x80)), []],
      [sequence(Buffer.alloc(0x100)), []],
      [Buffer.concat([Buffer.from([0x30, 0x80]), content, Buffer.from([0, 0])]), ['1:1 der-length']],
      [Buffer.concat([Buffer.from([0x30, 0x81, 40]), content]), ['1:1 der-length']],
      [Buffer.concat([Buffer.from([0x30, 0x82, 0, 40]), content]), ['1:1 der-length']],
      [Buffer.concat([Buffer.from([0x31, 40]), content]), ['1:1 der-length']],
      [Buffer.concat([sequence(content), Buffer.from([0])]), ['1:1 der-length']],
      [sequence(content).subarray(0, -1), ['1:1 der-length']],
      [Buffer.from([0x30]), ['1:1 der-length']],
      [Buffer.from([0x30, 0xff, 1]), ['1:1 der-length']],
    ]
    for (const [der, expected] of cases) expect(damageOf(encodePem('PRIVATE KEY', der))).toEqual(expected)
    expect(damageOf(encodePem('DH PARAMETERS', Buffer.from([1, 2, 3])))).toEqual([])
  })

  test('reads back what encodePem wrote', () => {
    const label = fc.constantFrom('CERTIFICATE', 'PRIVATE KEY', 'X509 CRL', 'A-B C')
    const block = fc.record({ label, der: fc.uint8Array({ maxLength: 300 }).map(sequence) })
    fc.assert(
      fc.property(fc.array(block), fc.constantFrom('', 'text\n', '\r\n'), (made, between) => {
        const { blocks, damage } = readPem(made.map(({ label, der }) => encodePem(label, der)).join(between))
        expect(damage).toEqual([])
        expect(blocks.map(({ label, der }) => ({ label, der }))).toEqual(made)
      }),
    )
  })

  test('gives the same blocks whatever text stands between them and however the lines end', () => {
    const line = fc.stringMatching(/^[ A-Za-z0-9=:#,.+/äöü-]{0,40}$/).filter((text) => !/--|BEGIN|END/i.test(text))
    const text = fc.array(line, { maxLength: 4 }).map((lines) => lines.map((one) => `${one}\n`).join(''))
    const ends = fc.constantFrom('\n', '\r\n', ' \n', '\t \r\n')
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(first, second, key), { maxLength: 5 }),
        text,
        ends,
        (blocks, between, end) => {
          const file = [between, ...blocks.map((block) => block + between)].join('').replaceAll('\n', end)
          const { blocks: read, damage } = readPem(file)
          expect(damage).toEqual([])
          expect(read.map(({ label, der }) => encodePem(label, der))).toEqual(blocks)
          expect(read.map(({ number }) => number)).toEqual(blocks.map((_, index) => index + 1))
          // A block's text is a file of its own, and node:crypto reads the same in it.
          for (const { text: own, der, label } of read) {
            expect(readPem(own).blocks.map((block) => block.der)).toEqual([der])
            if (label === 'CERTIFICATE') expect(new X509Certificate(own).raw.equals(der)).toBe(true)
            else expect(createPrivateKey(own).export({ type: 'pkcs8', format: 'der' }).equals(der)).toBe(true)
          }
        },
      ),
    )
  })

  test('counts what openssl counts, in any file of blocks that are whole, cut or missing an end', () => {
    const piece = fc.constantFrom(
      first,
      second,
      key,
      first.replace(/-----END.*\n/, ''),
      second.slice(0, 200),
      'text\n',
      '\n',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
        const file = pieces.join('')
        const { certificates, findings } = readCertificateFile({ path: 'ca.crt', data: file })
        // Only where certgen calls the whole file sound is it a question.
        if (findings.length > 0) return
        const path = join(directory, 'counted.pem')
        writeFileSync(path, file)
        const listed = openssl(['storeutl', '-noout', '-text', '-certs', path])
        expect(listed).toContain(`Total found: ${certificates.length}`)
      }),
      { numRuns: 60 },
    )
  })

  test('never reads a file cut at any byte as whole', () => {
    const whole = first + second
    const blocksAt = (length: number): number => {
      const { blocks, damage } = readPem(whole.slice(0, length))
      return damage.length > 0 ? -1 : blocks.length
    }
    const silent = Array.from({ length: whole.length + 1 }, (_, length) => [length, blocksAt(length)]).filter(
      ([, count]) => count !== -1,
    )
    for (const [length = 0, count] of silent) {
      // Without damage: only where a block ends, and up to five dashes later, which may be a line of text.
      expect(count).toBe(length >= whole.length - 1 ? 2 : length >= first.length - 1 ? 1 : 0)
      if (length < first.length - 1) expect(length).toBeLessThan(6)
      else if (count === 1) expect(length).toBeLessThan(first.length + 6)
    }
  })

  test('reads a file with any byte changed as OpenSSL does, or calls it damaged', () => {
    const position = fc.nat({ max: first.length - 1 })
    fc.assert(
      fc.property(position, fc.integer({ min: 0, max: 255 }), (at, octet) => {
        const changed = Buffer.from(first)
        changed[at] = octet
        const { certificates, findings } = readCertificateFile({ path: 'ca.crt', data: changed })
        if (findings.length > 0) return
        expect(certificates.map(({ der }) => der)).toEqual([new X509Certificate(changed).raw])
      }),
      { numRuns: 2_000 },
    )
  })

  test('never throws', () => {
    const piece = fc.constantFrom(
      '-----BEGIN ',
      '-----END ',
      'CERTIFICATE',
      '-----',
      '\n',
      'MAA=',
      'A: b',
      ' ',
      '\0',
      '',
    )
    fc.assert(
      fc.property(
        fc.array(piece).map((pieces) => pieces.join('')),
        (text) => void readPem(text),
      ),
    )
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void readPem(bytes)))
  })

  test.each([
    ['dashes', () => '-'.repeat(10_000_000)],
    ['blanks', () => ' '.repeat(10_000_000) + 'x'],
    ['line ends', () => '\n'.repeat(10_000_000)],
    ['carriage returns', () => '\r'.repeat(10_000_000) + 'x'],
    ['the word END', () => 'END '.repeat(2_500_000)],
    ['half a boundary', () => '-----BEGIN '.repeat(900_000)],
    ['a long label', () => '-----BEGIN ' + 'A '.repeat(5_000_000)],
    ['BEGIN lines', () => '-----BEGIN X-----\n'.repeat(550_000)],
    ['a block of blank lines', () => '-----BEGIN X-----\n' + '\n'.repeat(10_000_000)],
    ['folded headers', () => '-----BEGIN X-----\nA: b\n' + ' c\n'.repeat(3_000_000) + '-----END X-----\n'],
    ['one line of base64', () => '-----BEGIN X-----\n' + 'A'.repeat(10_000_000) + '\n-----END X-----\n'],
    ['10,000 blocks', () => encodePem('PRIVATE KEY', sequence(Buffer.alloc(700))).repeat(10_000)],
  ])('takes linear time over 10 MB of %s', (_, make) => {
    const text = make()
    const start = process.cpuUsage()
    readPem(text)
    const { user } = process.cpuUsage(start)
    expect(user).toBeLessThan(15_000_000) // microseconds; quadratic time is hours
  })
})

describe('a file that is damaged all over', () => {
  const nothing = '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n'
  test.each([
    ['BEGIN lines', '-----BEGIN X-----\n'],
    ['END lines', '-----END X-----\n'],
    ['empty blocks', '-----BEGIN X-----\n-----END X-----\n'],
    ['blocks of no certificate', nothing],
  ])('is told of as far as somebody will read: %s', (_, part) => {
    const file = { path: 'ca.crt', data: part.repeat(10_000) }
    const { findings } = readCertificateFile(file)
    expect(findings.length).toBeGreaterThanOrEqual(100)
    expect(findings.length).toBeLessThanOrEqual(200)
    expect(readPem(file.data).damage.length).toBeLessThanOrEqual(100)
  })

  test('is never taken for whole because of that', () => {
    for (let damaged = 95; damaged < 105; damaged++) {
      const { damage } = readPem('-----END X-----\n'.repeat(damaged) + first)
      expect(damage).toHaveLength(Math.min(damaged, 100))
    }
  })
})

describe('readCertificates', () => {
  test('gives the DER of every certificate in order', () => {
    expect(readCertificates(first + second, 'ca.crt')).toEqual([
      new X509Certificate(first).raw,
      new X509Certificate(second).raw,
    ])
  })

  test('takes X509 CERTIFICATE for a certificate, as OpenSSL does', () => {
    const old = first.replaceAll('CERTIFICATE', 'X509 CERTIFICATE')
    expect(readCertificates(old, 'ca.crt')).toEqual([new X509Certificate(old).raw])
  })

  test('names file, block and line, and reports all findings', () => {
    const broken = withLine(second, 3, (line) => `${line}*`)
    const error = errorOf(() => readCertificates(first + broken + key, 'certs/ca.crt'))
    const line = first.split('\n').length + 2
    expect(error.code).toBe('unusable')
    expect(error.message).toBe('certs/ca.crt is not a whole file of certificates')
    expect(error.hints.length).toBeGreaterThan(0)
    expect(error.findings.map(({ code, path }) => [code, path])).toEqual([
      ['pem-damaged', 'certs/ca.crt'],
      ['pem-damaged', 'certs/ca.crt'],
    ])
    expect(error.findings[0]?.facts).toEqual({ block: 2, line, reason: 'base64' })
    expect(error.findings[1]?.facts).toMatchObject({ block: 3, reason: 'unexpected-label', label: 'PRIVATE KEY' })
  })

  test('says nothing of what is in a key', () => {
    const error = errorOf(() => readCertificates(key, 'tls.pem'))
    const said = JSON.stringify([error.message, error.hints, error.findings])
    for (const line of key.split('\n').slice(1, -2)) expect(said).not.toContain(line)
    expect(error.message).toBe('tls.pem is not a whole file of certificates')
  })

  test('refuses a TRUSTED CERTIFICATE', () => {
    const trusted = openssl(['x509', '-trustout', '-addtrust', 'serverAuth'], first)
    const error = errorOf(() => readCertificates(first + trusted, 'ca.crt'))
    expect(error.findings.map(({ facts }) => facts)).toEqual([
      { block: 2, line: first.split('\n').length, reason: 'unexpected-label', label: 'TRUSTED CERTIFICATE' },
    ])
  })

  test('refuses a CERTIFICATE that holds something else', () => {
    const { certificates, findings } = readCertificateFile({
      path: 'x',
      data: first + encodePem('CERTIFICATE', sequence(Buffer.alloc(9))),
    })
    expect(certificates).toHaveLength(1)
    expect(findings.map(({ facts }) => facts['reason'])).toEqual(['not-a-certificate'])
  })

  test.each([
    ['an empty file', '', 'pem-empty'],
    ['text alone', 'nothing here\n', 'pem-empty'],
    ['DER', null, 'pem-damaged'],
  ])('refuses %s', (_, text, code) => {
    const error = errorOf(() => readCertificates(text ?? new X509Certificate(first).raw, 'ca.crt'))
    expect(error.code).toBe('unusable')
    expect(error.message).toMatch(/^ca\.crt /)
    expect(error.findings.map((finding) => finding.code)).toEqual([code])
    expect(error.hints.join()).toContain('PEM')
  })
})

describe('encodeCertificates', () => {
  test('writes what openssl writes', () => {
    expect(encodeCertificates([new X509Certificate(first).raw, new X509Certificate(second).raw])).toBe(first + second)
  })

  test('is read by openssl, every block of it', () => {
    const file = join(directory, 'chain.crt')
    writeFileSync(file, encodeCertificates(readCertificates(first + second, 'ca.crt')))
    const listed = openssl(['crl2pkcs7', '-nocrl', '-certfile', file])
    const names = openssl(['pkcs7', '-print_certs', '-noout'], listed)
    expect(names.match(/subject=.*/g)).toHaveLength(2)
  })
})
