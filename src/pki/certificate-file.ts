import { CertgenError } from '../errors.ts'
import type { Finding } from '../findings.ts'
import { readCertificate } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import { mostDamage, readPem } from './pem.ts'
import type { PemBlock } from './pem.ts'

/** A file's octets and the name by which findings speak of it. */
export interface PemFile {
  readonly path: string
  readonly data: string | Buffer
}

/** Labels that OpenSSL reads as a certificate. */
const certificateLabels = new Set(['CERTIFICATE', 'X509 CERTIFICATE'])

/**
 * The certificates of a PEM file in file order, and a `pem-damaged` finding (facts `block`, `line`, `reason`) for every
 * block that is damaged or no certificate, up to a hundred or so; one `pem-empty` finding when there is neither.
 */
export function readCertificateFile({ path, data }: PemFile): { certificates: Certificate[]; findings: Finding[] } {
  const { blocks, damage } = readPem(data)
  const certificates: Certificate[] = []
  const faults: { block: number; line: number; reason: string; label?: string }[] = damage.map(
    ({ number, line, reason }) => ({ block: number, line, reason }),
  )
  for (const block of blocks) {
    if (faults.length >= 2 * mostDamage) break
    const { label, number, line } = block
    const certificate = certificateLabels.has(label) ? readBlock(block) : null
    if (certificate) certificates.push(certificate)
    else if (certificateLabels.has(label)) faults.push({ block: number, line, reason: 'not-a-certificate' })
    else faults.push({ block: number, line, reason: 'unexpected-label', label })
  }
  const findings: Finding[] = faults
    .sort((a, b) => a.block - b.block || a.line - b.line)
    .map((facts) => ({ code: 'pem-damaged', severity: 'error', path, facts }))
  if (blocks.length === 0 && findings.length === 0) {
    findings.push({ code: 'pem-empty', severity: 'error', path, facts: {} })
  }
  return { certificates, findings }
}

/**
 * A fleet's bundles and chains repeat the same few CA certificates in every target, and OpenSSL takes a tenth of a
 * millisecond to parse one. They are immutable, so one object can stand for all; leaves are seen once and not kept.
 */
const knownAuthorities = new Map<string, Certificate>()
const mostKnown = 64

/** null when OpenSSL cannot read it. */
function readBlock({ der }: PemBlock): Certificate | null {
  const key = der.toString('latin1')
  const known = knownAuthorities.get(key)
  if (known) return known
  let certificate: Certificate
  try {
    certificate = readCertificate(der)
  } catch {
    return null
  }
  if (certificate.isCa) {
    if (knownAuthorities.size >= mostKnown) knownAuthorities.clear()
    knownAuthorities.set(key, certificate)
  }
  return certificate
}

/**
 * Every certificate of a PEM file, in file order, at least one. Throws CertgenError `unusable` with all findings when
 * any block is damaged or no certificate, or when there is none.
 */
export function readCertificates(data: string | Buffer, path: string): Certificate[] {
  const { certificates, findings } = readCertificateFile({ path, data })
  if (findings.length === 0) return certificates
  const message = `${path} is not a whole file of certificates`
  throw new CertgenError('unusable', message, { hints: hintsFor(findings), findings })
}

function hintsFor(findings: readonly Finding[]): string[] {
  const reasons = new Set(findings.map(({ code, facts }) => facts['reason'] ?? code))
  const hints: string[] = []
  if (reasons.has('pem-empty') || reasons.has('binary')) {
    hints.push('certificates are read as PEM; openssl x509 -inform DER converts one from DER')
  }
  if (reasons.has('unexpected-label')) hints.push('this file may hold certificates only, in CERTIFICATE blocks')
  if (hints.length === 0) hints.push('write the file again from its source: a reader may skip the block in silence')
  return hints
}
