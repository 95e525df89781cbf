import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CertgenError } from '../../src/errors.ts'
import { makeAuthority } from '../../src/pki/authority.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { createSigner } from '../../src/pki/issue.ts'
import { makeLeaf } from '../../src/pki/leaf.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName, emailName, formatName, ipName, parseName, sameNames, uriName } from '../../src/pki/names.ts'
import type { Name } from '../../src/pki/names.ts'
import { errorOf } from '../failure.ts'

function refusal(parse: (input: string) => Name, input: string): string {
  const error = errorOf(() => parse(input))
  expect(error.code).toBe('usage')
  expect(error.hints).toHaveLength(1)
  return `${error.message}; ${error.hints[0]}`
}

describe('dnsName', () => {
  test.each([
    ['localhost', 'localhost'],
    ['Envoy.Gateway.SVC', 'envoy.gateway.svc'],
    ['_sip._tcp.example.org', '_sip._tcp.example.org'],
    ['1.example.org', '1.example.org'],
    ['1a', '1a'],
    ['*.example.org', '*.example.org'],
    ['*.local', '*.local'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['BÜCHER.example', 'xn--bcher-kva.example'],
    ['bu\u0308cher.example', 'xn--bcher-kva.example'],
    ['straße.example', 'xn--strae-oqa.example'],
    ['*.日本語.jp', '*.xn--wgv71a119e.jp'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['a'.repeat(63), 'a'.repeat(63)],
  ])('%s is %s', (input, value) => expect(dnsName(input)).toEqual({ type: 'dns', value }))

  test.each([
    ['10.0.0.1', 'write --ip 10.0.0.1'],
    ['::1', 'write --ip ::1'],
    ['[::1]', 'write --ip ::1'],
    ['127.1', 'not a number'],
    ['10', 'not a number'],
    ['0x7f.0x1', 'not a number'],
    ['*.10', 'not a number'],
    ['example.org.', 'leave out the dot'],
    ['.', 'leave out the dot'],
    ['localhost:8443', 'leave out the port'],
    ['https://example.org', 'write the host alone'],
    ['a@example.org', 'write the host alone'],
    ['*', 'whole first label'],
    ['*.', 'leave out the dot'],
    ['f*.example.org', 'whole first label'],
    ['*.*.example.org', 'whole first label'],
    ['a.*.example.org', 'whole first label'],
    ['', '1 to 63'],
    ['a..b', '1 to 63'],
    ['.a', '1 to 63'],
    ['-a.b', '1 to 63'],
    ['a-.b', '1 to 63'],
    ['a b', '1 to 63'],
    [' a', '1 to 63'],
    ['a\n', '1 to 63'],
    ['a%41.com', '1 to 63'],
    ['ü%41.com', '1 to 63'],
    ['a/b', '1 to 63'],
    ['a'.repeat(64), '1 to 63'],
    [`${'ü'.repeat(63)}.de`, '1 to 63'],
    ['ＡＢＣ.de', '1 to 63'],
    ['１２７.de', '1 to 63'],
    ['a。b', '1 to 63'],
    ['ex\u00adample.de', '1 to 63'],
    ['\u200bx.de', '1 to 63'],
    ['ﬁ.de', '1 to 63'],
    ['xn--zzzzzz.de', 'does not decode'],
    ['xn--a', 'does not decode'],
    [`${'a.'.repeat(126)}ab`, '253 characters'],
  ])('%j is refused: %s', (input, hint) => expect(refusal(dnsName, input)).toContain(hint))

  test('253 characters are allowed', () => {
    expect(dnsName(`${'a.'.repeat(126)}a`).value).toHaveLength(253)
  })

  test('a message is one line of plain characters, whatever was typed', () => {
    const error = errorOf(() => dnsName('a\x1b[31m\u0085\u2028\u202eb\n\x7f'))
    expect(error.message).toBe('"a\\u001b[31m\\u0085\\u2028\\u202eb\\n\\u007f" is not a DNS name')
    expect(errorOf(() => dnsName('x '.repeat(10_000))).message.length).toBeLessThan(200)
  })
})

describe('ipName', () => {
  test.each([
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '::1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['::', '::'],
  ])('%s is %s', (input, value) => expect(ipName(input)).toEqual({ type: 'ip', value }))

  test.each([
    ['10.0.0', '"10.0.0" is not an IP address; write all four numbers, as in --ip 10.0.0.1'],
    ['010.0.0.1', 'without leading zeros'],
    ['256.0.0.1', '0 to 255'],
    ['fe80::1%eth0', 'leave out the zone: --ip fe80::1'],
    ['10.0.0.0/8', 'single addresses'],
    ['[::1]', 'leave out the brackets: --ip ::1'],
    ['localhost', 'goes with --dns'],
    ['', 'goes with --dns'],
    [' 10.0.0.1', 'goes with --dns'],
    ['::1\n', 'goes with --dns'],
    ['1::2::3', 'goes with --dns'],
  ])('%j is refused: %s', (input, hint) => expect(refusal(ipName, input)).toContain(hint))
})

describe('uriName', () => {
  test.each([
    ['spiffe://acme/envoy', 'spiffe://acme/envoy'],
    ['spiffe://acme', 'spiffe://acme'],
    ['SPIFFE://acme.org/ns/a_b/sa/c-D.1', 'spiffe://acme.org/ns/a_b/sa/c-D.1'],
    ['HTTPS://example.org:8443/a%20b?c=d#e', 'https://example.org:8443/a%20b?c=d#e'],
    ['urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6', 'urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6'],
  ])('%s is %s', (input, value) => expect(uriName(input)).toEqual({ type: 'uri', value }))

  test.each([
    ['example.org/a', 'write scheme'],
    ['', 'write scheme'],
    ['urn:', 'write scheme'],
    ['https://a b', 'write scheme'],
    ['https://a/%4', 'write scheme'],
    ['https://a\n', 'write scheme'],
    ['https://bücher.de', 'percent-encode'],
    ['https://', 'host or port'],
    ['https://a:99999', 'host or port'],
    ['spiffe:acme/x', 'no query and no fragment'],
    ['spiffe://acme/x?y', 'no query and no fragment'],
    ['spiffe://acme/x#y', 'no query and no fragment'],
    ['spiffe:///x', 'a trust domain'],
    ['spiffe://Acme/x', 'a trust domain'],
    ['spiffe://acme:443/x', 'a trust domain'],
    ['spiffe://user@acme/x', 'a trust domain'],
    ['spiffe://acme/', 'each part of its path'],
    ['spiffe://acme/x/', 'each part of its path'],
    ['spiffe://acme//x', 'each part of its path'],
    ['spiffe://acme/a/../b', 'each part of its path'],
    ['spiffe://acme/%61', 'each part of its path'],
    [`spiffe://acme/${'x'.repeat(2048)}`, 'at most 2048'],
  ])('%j is refused: %s', (input, hint) => expect(refusal(uriName, input)).toContain(hint))
})

describe('emailName', () => {
  test.each([
    ['Ops.Team+tls@Example.ORG', 'Ops.Team+tls@example.org'],
    ['a@bücher.de', 'a@xn--bcher-kva.de'],
  ])('%s is %s', (input, value) => expect(emailName(input)).toEqual({ type: 'email', value }))

  test.each([
    ['example.org', 'as in --email'],
    ['@example.org', 'as in --email'],
    ['a b@example.org', 'as in --email'],
    ['a..b@example.org', 'as in --email'],
    ['a@b@example.org', 'as in --email'],
    ['ü@example.org', 'as in --email'],
    ['a@', 'is not a DNS name'],
    ['a@10.0.0.1', 'is not a DNS name but an IP address'],
    ['a@example.org\n', 'is not a DNS name'],
    ['a@*.example.org', 'wildcard'],
  ])('%j is refused: %s', (input, hint) => expect(refusal(emailName, input)).toContain(hint))
})

describe('parseName', () => {
  test.each(['DNS:localhost', 'IP:::1', 'IP:127.0.0.1', 'URI:spiffe://acme/x', 'email:a@b.c'])(
    'reads %s and formatName writes it',
    (text) => expect(formatName(parseName(text))).toBe(text),
  )

  test.each(['localhost', '', 'dns:localhost', 'IP Address:127.0.0.1'])('refuses %j', (text) => {
    expect(refusal(parseName, text)).toContain('as in DNS:localhost')
  })
})

describe('names', () => {
  const label = fc.stringMatching(/^[A-Za-z0-9_äöüßé日本-]{1,20}$/u)
  const inputs: [string, (input: string) => Name, fc.Arbitrary<string>][] = [
    [
      'DNS',
      dnsName,
      fc.oneof(
        fc.domain(),
        fc.array(label, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.')),
      ),
    ],
    ['IP', ipName, fc.oneof(fc.ipV4(), fc.ipV6())],
    ['URI', uriName, fc.webUrl()],
    ['e-mail', emailName, fc.emailAddress()],
    ['any text as DNS', dnsName, fc.string({ unit: 'binary' })],
    ['any text as URI', uriName, fc.string().map((text) => `x:${text}`)],
    ['any text as e-mail', emailName, fc.string().map((text) => `${text}@example.org`)],
  ]
  test.each(inputs)('of type %s in canonical form are ASCII and stay as they are', (_, parse, input) => {
    fc.assert(
      fc.property(input, (text) => {
        let name: Name
        try {
          name = parse(text)
        } catch (error) {
          if (error instanceof CertgenError && error.code === 'usage') return
          throw error
        }
        expect(name.value).toMatch(/^[\x21-\x7e]+$/)
        expect(parse(name.value)).toEqual(name)
        expect(parseName(formatName(name))).toEqual(name)
      }),
      { numRuns: 500 },
    )
  })

  test('of all types come back from a certificate as they went in, to certgen and to node:crypto', async () => {
    const request = { subject: 'T', keyType: 'ed25519', lifetime: parseDuration('1d') } as const
    const now = new Date()
    const root = await makeAuthority(request, now)
    const signer = createSigner(root.key)
    const name = fc.oneof(
      ...inputs.slice(0, 4).map(([, parse, input]) =>
        input.map((text): Name | null => {
          try {
            return parse(text)
          } catch {
            return null
          }
        }),
      ),
    )
    const names = fc.array(name, { minLength: 1, maxLength: 12 }).map((list) => list.filter((one) => one !== null))
    await fc.assert(
      fc.asyncProperty(
        names.filter((list) => list.length > 0),
        async (list) => {
          const leaf = { ...request, commonName: null, names: list, usages: ['server'] as const }
          const { certificate } = await makeLeaf(leaf, root.certificate, signer, now)
          expect(certificate.names).toEqual(list)
          expect(readCertificate(certificate.der).names).toEqual(list)
          for (const { type, value } of list) {
            const { x509 } = certificate
            if (type === 'ip') expect(x509.checkIP(value)).toBe(value)
            if (type === 'email') expect(x509.checkEmail(value)).toBe(value)
            if (type === 'dns' && !/[*_]/.test(value)) expect(x509.checkHost(value)).toBeDefined()
          }
        },
      ),
      { numRuns: 50 },
    )
  })

  test('are the same as sets', () => {
    const [a, b] = [dnsName('a'), ipName('::1')]
    expect(sameNames([a, b], [b, a, a])).toBe(true)
    expect(sameNames([], [])).toBe(true)
    expect(sameNames([a], [a, b])).toBe(false)
    expect(sameNames([a], [b])).toBe(false)
    expect(sameNames([{ type: 'dns', value: 'x' }], [{ type: 'email', value: 'x' }])).toBe(false)
  })
})
