import { isIP } from 'node:net'
import { domainToASCII, domainToUnicode } from 'node:url'
import { CertgenError } from '../errors.ts'

/** A subject alternative name of a leaf (RFC 5280 section 4.2.1.6). */
export interface Name {
  readonly type: 'dns' | 'ip' | 'uri' | 'email'
  /** In canonical form and ASCII: the same name is the same string. */
  readonly value: string
}

/** On one line, with escapes for the characters that steer a terminal or turn the order of letters around. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  )
}

/** A value as a message shows it: in quotes, and printable. */
export function quote(value: string): string {
  const shown = value.length > 100 ? `${value.slice(0, 100)}...` : value
  return printable(JSON.stringify(shown))
}

function refuse(input: string, what: string, ...hints: string[]): never {
  throw new CertgenError('usage', `${quote(input)} is not ${what}`, { hints })
}

const dnsLabel = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/
/** A last label that makes URL parsers, and so browsers, take the name for an IPv4 address. */
const numericLabel = /^(?:[0-9]+|0x[0-9a-f]*)$/

/**
 * A host name, or a wildcard for one label (`*.example.org`), in lower case; labels beyond ASCII become A-labels.
 * Throws CertgenError `usage` for anything else, and for a name that IDNA (UTS #46) would quietly turn into another.
 */
export function dnsName(input: string): Name {
  const what = 'a DNS name'
  if (isIP(input.replace(/^\[(.*)\]$/, '$1')) !== 0) {
    refuse(input, `${what} but an IP address`, `write --ip ${input.replace(/^\[(.*)\]$/, '$1')}`)
  }
  if (input.includes('://')) refuse(input, what, 'write the host alone; a URI goes with --uri')
  if (input.includes('@')) refuse(input, what, 'write the host alone; an e-mail address goes with --email')
  if (/:[0-9]+$/.test(input)) refuse(input, what, 'leave out the port: a certificate is for all ports')
  if (input.endsWith('.')) refuse(input, what, 'leave out the dot at the end: certificates name hosts without it')

  const wildcard = input.startsWith('*.')
  const labels = (wildcard ? input.slice(2) : input).split('.').map(asciiLabel)
  if (input.includes('*') && (!wildcard || labels.some((label) => label?.includes('*')))) {
    refuse(input, what, 'a wildcard stands for the whole first label, as in *.example.org')
  }
  if (labels.some((label) => label === null || !dnsLabel.test(label))) {
    refuse(input, what, 'each part has 1 to 63 letters, digits, hyphens or underscores, and no hyphen at its ends')
  }
  if (numericLabel.test(labels.at(-1) ?? '')) {
    refuse(input, what, 'the last part of a name is not a number; an IP address goes with --ip')
  }
  const host = labels.join('.')
  const value = wildcard ? `*.${host}` : host
  if (value.length > 253) refuse(input, what, `a name has at most 253 characters; this one has ${value.length}`)
  if (/(?:^|\.)xn--/.test(host) && domainToASCII(host) !== host) refuse(input, what, 'an xn-- part does not decode')
  return { type: 'dns', value }
}

/** The label in lower-case ASCII, null when it has no ASCII form that means exactly the same. */
function asciiLabel(label: string): string | null {
  // eslint-disable-next-line no-control-regex -- all of ASCII
  if (/^[\x00-\x7f]*$/.test(label)) return label.toLowerCase()
  // domainToASCII decodes %41, takes 1 for 0.0.0.1 and full-width letters for ASCII: only a round trip proves the label.
  if (!/^[A-Za-z0-9_\u0080-\u{10ffff}-]*$/u.test(label)) return null
  const lower = Array.from(label, (character) => character.toLowerCase())
    .join('')
    .normalize('NFC')
  const ascii = domainToASCII(label)
  return ascii !== '' && domainToUnicode(ascii) === lower ? ascii : null
}

/** An IPv4 or IPv6 address; IPv6 in its canonical text (RFC 5952, but IPv4-mapped ones stay in groups). Throws CertgenError `usage`. */
export function ipName(input: string): Name {
  const what = 'an IP address'
  const version = isIP(input)
  if (version === 4) return { type: 'ip', value: input }
  if (version === 6 && !input.includes('%')) {
    return { type: 'ip', value: new URL(`http://[${input}]`).hostname.slice(1, -1) }
  }
  return refuse(input, what, ipHint(input))
}

function ipHint(input: string): string {
  const [address = ''] = input.split(/[%/]/)
  if (input.includes('%') && isIP(address) === 6) return `leave out the zone: --ip ${address}`
  if (input.includes('/') && isIP(address) !== 0) return `a certificate names single addresses, as in --ip ${address}`
  const bracketed = /^\[(.*)\]$/.exec(input)?.[1]
  if (bracketed !== undefined && isIP(bracketed) === 6) return `leave out the brackets: --ip ${bracketed}`
  if (/^[0-9]{1,3}(?:\.[0-9]{1,3}){3}$/.test(input)) {
    return 'each number is 0 to 255, without leading zeros, as in --ip 10.0.0.1'
  }
  if (/^[0-9.]+$/.test(input)) return 'write all four numbers, as in --ip 10.0.0.1'
  return 'write it as in --ip 10.0.0.1 or --ip ::1; a host name goes with --dns'
}

/** RFC 3986: scheme, then unreserved, reserved and percent-encoded characters. */
const absoluteUri = /^([A-Za-z][A-Za-z0-9+.-]*):((?:[\w.~:/?#[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)$/

/** An absolute URI, its scheme in lower case; a `spiffe:` one must be a SPIFFE ID. Throws CertgenError `usage`. */
export function uriName(input: string): Name {
  const what = 'an absolute URI'
  const [, scheme, rest] = absoluteUri.exec(input) ?? []
  if (scheme === undefined || rest === undefined) {
    // eslint-disable-next-line no-control-regex -- all of ASCII
    if (/[^\x00-\x7f]/.test(input)) refuse(input, what, 'percent-encode what is not ASCII; write a host as xn--...')
    return refuse(input, what, 'write scheme and path without blanks, as in --uri spiffe://example.org/service')
  }
  const value = `${scheme.toLowerCase()}:${rest}`
  if (value.startsWith('spiffe:')) checkSpiffeId(input, rest)
  else if (!URL.canParse(value)) refuse(input, what, 'its host or port is not valid')
  return { type: 'uri', value }
}

/** SPIFFE-ID section 2: trust domain and path, at most 2048 octets; no user, port, query or fragment. */
function checkSpiffeId(input: string, rest: string): void {
  const what = 'a SPIFFE ID'
  const [, trustDomain, path = ''] = /^\/\/([^/?#]*)([^?#]*)$/.exec(rest) ?? []
  if (trustDomain === undefined) refuse(input, what, 'it has a trust domain and a path, no query and no fragment')
  if (!/^[a-z0-9._-]{1,255}$/.test(trustDomain)) {
    refuse(input, what, 'a trust domain has lower-case letters, digits, dots, hyphens and underscores, and no port')
  }
  const segments = path.split('/').slice(1)
  if (segments.some((segment) => !/^[A-Za-z0-9._-]+$/.test(segment) || segment === '.' || segment === '..')) {
    refuse(input, what, 'each part of its path has letters, digits, dots, hyphens or underscores; no slash at the end')
  }
  if (input.length > 2048) refuse(input, what, 'it has at most 2048 characters')
}

/** RFC 5322's dot-atom: the form of a local part that needs no quotes. */
const localPart = /^[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*$/

/** An ASCII mailbox (RFC 5280's rfc822Name), its domain in canonical form. Throws CertgenError `usage`. */
export function emailName(input: string): Name {
  const what = 'an e-mail address'
  const at = input.lastIndexOf('@')
  const local = input.slice(0, Math.max(at, 0))
  if (at < 1 || local.length > 64 || !localPart.test(local)) {
    refuse(input, what, 'write it in ASCII without blanks, as in --email ops@example.org')
  }
  const domain = mailDomain(input, what, input.slice(at + 1))
  if (domain.startsWith('*')) refuse(input, what, 'its domain cannot be a wildcard')
  return { type: 'email', value: `${local}@${domain}` }
}

function mailDomain(input: string, what: string, domain: string): string {
  try {
    return dnsName(domain).value
  } catch (error) {
    if (!(error instanceof CertgenError)) throw error
    return refuse(input, what, error.message)
  }
}

const prefixes = { dns: 'DNS:', ip: 'IP:', uri: 'URI:', email: 'email:' } as const
const parsers = { dns: dnsName, ip: ipName, uri: uriName, email: emailName } as const
const types = ['dns', 'ip', 'uri', 'email'] as const

/** Reads what formatName writes: `DNS:localhost`, `IP:::1`, `URI:spiffe://acme/x`, `email:a@b.c`. Throws CertgenError `usage`. */
export function parseName(text: string): Name {
  const type = types.find((candidate) => text.startsWith(prefixes[candidate]))
  if (!type) refuse(text, 'a name', 'write DNS:, IP:, URI: or email: before it, as in DNS:localhost')
  return parsers[type](text.slice(prefixes[type].length))
}

/** The name with its type, as OpenSSL writes subject alternative names: `DNS:localhost`. */
export function formatName(name: Name): string {
  return prefixes[name.type] + name.value
}

/** Whether both hold the same names, in whatever order and however often. */
export function sameNames(a: readonly Name[], b: readonly Name[]): boolean {
  const left = new Set(a.map(formatName))
  const right = new Set(b.map(formatName))
  return left.size === right.size && [...left].every((name) => right.has(name))
}
