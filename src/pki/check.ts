import type { KeyObject } from 'node:crypto'
import type { Finding, FindingCode, Severity } from '../findings.ts'
import { readCertificateFile } from './certificate-file.ts'
import type { PemFile } from './certificate-file.ts'
import { isSignedBy, sameCertificate } from './certificate.ts'
import type { Certificate, Usage } from './certificate.ts'
import { handshake } from './handshake.ts'
import type { HandshakeResult, Peer } from './handshake.ts'
import { encodeKey, judgeKey, readKey } from './key.ts'
import { isValidAt } from './lifetime.ts'
import type { Duration } from './lifetime.ts'
import { formatName } from './names.ts'
import type { Name } from './names.ts'

/** A set as a service loads it: chain, key and bundle. */
export interface SetFiles {
  readonly cert: PemFile
  readonly key: PemFile
  /** null: no bundle is at hand, so no path to a root is looked for. */
  readonly ca: PemFile | null
  readonly passphrase?: string
}

export interface CheckOptions {
  readonly at: Date
  /** Report a leaf that ends within this time of `at`. */
  readonly expiresWithin?: Duration
  /** Names that the leaf must hold, as RFC 6125 matches them. */
  readonly names?: readonly Name[]
  /** Usages that the leaf must permit. */
  readonly usages?: readonly Usage[]
}

export interface CheckedSet {
  readonly findings: readonly Finding[]
  /** Leaf first, as it stands in the file; empty when the file is damaged. */
  readonly chain: readonly Certificate[]
  readonly key: KeyObject | null
  readonly bundle: readonly Certificate[]
}

/** Every check but the handshake: parsing, key, order, signatures, path, dates, names, usages, bundle. */
export function checkContents(files: SetFiles, options: CheckOptions): CheckedSet {
  const chainFile = readCertificateFile(files.cert)
  const bundleFile = files.ca ? readCertificateFile(files.ca) : { certificates: [], findings: [] }
  const { key, findings: keyFindings } = readKey(files.key.data, files.key.path, files.passphrase)
  const set = { chain: chainFile.certificates, key, bundle: bundleFile.certificates }
  const findings = [...chainFile.findings, ...keyFindings, ...bundleFile.findings, ...judgeSet(set, files, options)]
  return { ...set, findings }
}

/** checkContents of what has been parsed; `files` are what it was parsed from. */
export function judgeSet(
  { chain, key, bundle }: Omit<CheckedSet, 'findings'>,
  files: SetFiles,
  options: CheckOptions,
): Finding[] {
  const findings: Finding[] = []
  const [leaf] = chain
  if (leaf) {
    findings.push(
      ...checkKey(leaf, key, files),
      ...checkLeaf(leaf, files.cert.path, options),
      ...checkOrder(chain, files.cert.path),
    )
    if (bundle.length > 0) findings.push(...checkPath([leaf, ...chain.slice(1)], bundle, files, options.at))
  } else if (key) {
    findings.push(...judgeKey(key, files.key.path))
  }
  if (files.ca) findings.push(...checkBundle(bundle, files.ca.path, options.at))
  return findings
}

/** checkContents, and last a real handshake in memory with exactly these octets: what passes here serves. */
export async function checkSet(files: SetFiles, options: CheckOptions): Promise<CheckedSet> {
  const checked = checkContents(files, options)
  const [leaf] = checked.chain
  const unusable: readonly FindingCode[] = ['pem-damaged', 'pem-empty', 'key-encrypted', 'key-mismatch']
  if (!leaf || !checked.key || checked.findings.some(({ code }) => unusable.includes(code))) return checked
  const findings = await checkHandshake(files, leaf, checked.key)
  return { ...checked, findings: [...checked.findings, ...findings] }
}

function finding(code: FindingCode, path: string, facts: Finding['facts'], severity: Severity = 'error'): Finding {
  return { code, severity, path, facts }
}

function checkKey(leaf: Certificate, key: KeyObject | null, files: SetFiles): Finding[] {
  const findings = judgeKey(leaf.publicKey, files.cert.path)
  if (!key || leaf.x509.checkPrivateKey(key)) return findings
  const mismatch = finding('key-mismatch', files.key.path, { certificate: files.cert.path, subject: leaf.subject })
  return [...findings, mismatch, ...judgeKey(key, files.key.path)]
}

function checkLeaf(leaf: Certificate, path: string, options: CheckOptions): Finding[] {
  const { at, expiresWithin, names = [], usages } = options
  const findings = checkDates(leaf, path, at)
  if (leaf.weakSignature) findings.push(weakSignature(leaf, path))
  const remaining = (leaf.notAfter.getTime() - at.getTime()) / 1000
  if (expiresWithin !== undefined && remaining >= 0 && remaining < expiresWithin) {
    findings.push(finding('expires-soon', path, { subject: leaf.subject, notAfter: leaf.notAfter.toISOString() }))
  }
  for (const name of names) {
    if (!matchesName(leaf, name)) findings.push(finding('name-mismatch', path, { name: formatName(name) }))
  }
  const permitted = usages ?? (['server', 'client'] as const).filter((usage) => permits(leaf, usage))
  const missing = permitted.filter((usage) => !permits(leaf, usage))
  if (permitted.length === 0) findings.push(finding('usage', path, { missing: 'server or client' }))
  findings.push(...missing.map((usage) => finding('usage', path, { missing: usage })))
  if (leaf.keyUsage && !leaf.keyUsage.has('digitalSignature')) {
    findings.push(finding('usage', path, { missing: 'digitalSignature' }))
  }
  return findings
}

/** Whether the leaf may stand at this end of a handshake. */
export function permits(leaf: Certificate, usage: Usage): boolean {
  return leaf.usages === null || leaf.usages.has(usage)
}

function matchesName(leaf: Certificate, { type, value }: Name): boolean {
  switch (type) {
    case 'dns':
      return leaf.x509.checkHost(value, { subject: 'never', partialWildcards: false }) !== undefined
    case 'ip':
      return leaf.x509.checkIP(value) !== undefined
    case 'email':
      return leaf.x509.checkEmail(value, { subject: 'never' }) !== undefined
    case 'uri':
      return leaf.names.some((name) => name.type === 'uri' && name.value === value)
  }
}

function checkDates(certificate: Certificate, path: string, at: Date): Finding[] {
  if (isValidAt(certificate, at)) return []
  const { subject, notBefore, notAfter } = certificate
  if (at < notBefore) return [finding('not-yet-valid', path, { subject, notBefore: notBefore.toISOString() })]
  return [finding('expired', path, { subject, notAfter: notAfter.toISOString() })]
}

/** Each certificate of the chain must be followed by its issuer (RFC 8446 section 4.4.2 lets go of it; peers do not). */
function checkOrder(chain: readonly Certificate[], path: string): Finding[] {
  return chain.slice(1).flatMap((issuer, index) => {
    const issued = chain[index]
    if (!issued) return []
    const facts = { position: index + 2, subject: issuer.subject, issues: issued.subject }
    if (issued.issuer !== issuer.subject) return [finding('order', path, facts)]
    // So many are more than a peer takes, whoever signed them: that is the handshake's finding.
    if (index >= mostSignatures || isSignedBy(issued, issuer)) return []
    return [finding('chain-signature', path, facts)]
  })
}

/**
 * Looks for a path from the leaf to a root of the bundle, as OpenSSL does: through the chain's certificates in whatever
 * order, for checkOrder judges that, and through those of the bundle that are no roots themselves. The findings are
 * those of the best path: a chain with a cross-certificate has one to either root, and one is enough.
 */
function checkPath(
  chain: readonly [Certificate, ...Certificate[]],
  bundle: readonly Certificate[],
  files: SetFiles,
  at: Date,
): Finding[] {
  let best: Finding[] | null = null
  let longest: readonly Certificate[] = [chain[0]]
  let tried = 0
  const effort = { signatures: mostSignatures }
  for (const path of pathsFrom([chain[0]], chain, bundle, effort)) {
    if (path.length > longest.length) longest = path
    if (isRootOf(bundle, path.at(-1))) {
      const findings = checkIssuers(path, bundle, files, at)
      if (findings.length === 0) return []
      if (best === null || findings.length < best.length) best = findings
    }
    if (++tried === mostPaths) break
  }
  if (best) return best
  const end = longest.at(-1) ?? chain[0]
  const facts = { subject: end.subject, issuer: end.issuer }
  const namesake = bundle.some((anchor) => end.issuer === anchor.subject)
  return [finding(namesake ? 'chain-signature' : 'chain-incomplete', files.cert.path, facts)]
}

/** CAs that cross-certify each other in circles make more paths than can be walked; a peer gives up sooner. */
const mostPaths = 256
/** OpenSSL's; GnuTLS takes as many. */
const longestPath = 100
/** So do hundreds of CAs of one name, each of which may have signed: with a key made for it, one takes milliseconds. */
const mostSignatures = 200

/**
 * The paths that begin with `path`, each as far as there are issuers, one after the other as they are asked for; where
 * `effort` is used up, no further than it.
 */
function* pathsFrom(
  path: readonly Certificate[],
  chain: readonly Certificate[],
  bundle: readonly Certificate[],
  effort: { signatures: number },
): Generator<readonly Certificate[]> {
  const last = path.at(-1)
  if (!last || isSelfSigned(last) || path.length === longestPath) {
    yield path
    return
  }
  const successor = chain.includes(last) ? chain[chain.indexOf(last) + 1] : undefined
  let ended = true
  for (const candidate of [...bundle, ...chain]) {
    if (last.issuer !== candidate.subject || path.some((passed) => sameCertificate(passed, candidate))) continue
    if (--effort.signatures < 0) break
    // A wrong signature between neighbours of the chain is checkOrder's finding: the path goes on behind it.
    if (candidate !== successor && !isSignedBy(last, candidate)) continue
    ended = false
    yield* pathsFrom([...path, candidate], chain, bundle, effort)
  }
  if (ended) yield path
}

function isRootOf(bundle: readonly Certificate[], certificate: Certificate | undefined): boolean {
  if (!certificate || !isSelfSigned(certificate)) return false
  return bundle.some((anchor) => sameCertificate(anchor, certificate))
}

/**
 * By its names and key ids, as OpenSSL tells a root: nobody looks at the signature of what he trusts anyway. A CA that
 * was certified anew by its own old key has other ids.
 */
function isSelfSigned({ selfIssued, subjectKeyId, authorityKeyId }: Certificate): boolean {
  return selfIssued && (subjectKeyId === null || authorityKeyId === null || subjectKeyId === authorityKeyId)
}

/** Judges every issuer of a path: dates, CA bit, keyCertSign, path length (RFC 5280 section 6.1.4), key and signature. */
function checkIssuers(
  path: readonly Certificate[],
  bundle: readonly Certificate[],
  files: SetFiles,
  at: Date,
): Finding[] {
  return path.flatMap((certificate, position) => {
    const inBundle = bundle.some((anchor) => sameCertificate(anchor, certificate))
    const where = inBundle && files.ca ? files.ca.path : files.cert.path
    const findings: Finding[] = []
    const { subject, pathLength } = certificate
    if (position === 0) return findings
    if (certificate.weakSignature && position < path.length - 1) findings.push(weakSignature(certificate, where))
    findings.push(...checkDates(certificate, where, at), ...judgeKey(certificate.publicKey, where))
    if (!isAuthority(certificate)) findings.push(finding('not-a-ca', where, { subject }))
    const below = path.slice(1, position).filter((issuer) => !issuer.selfIssued).length
    if (pathLength !== null && below > pathLength) {
      findings.push(finding('pathlen', where, { subject, pathLength, below }))
    }
    return findings
  })
}

/** Whether a certificate may issue others: the CA bit, and keyCertSign unless it has no keyUsage at all. */
export function isAuthority(certificate: Certificate): boolean {
  return certificate.isCa && (certificate.keyUsage === null || certificate.keyUsage.has('keyCertSign'))
}

function checkBundle(bundle: readonly Certificate[], path: string, at: Date): Finding[] {
  const seen = new Set<string>()
  return bundle.flatMap((entry, index) => {
    const facts = { position: index + 1, subject: entry.subject }
    const findings: Finding[] = []
    if (seen.has(entry.sha256)) findings.push(finding('bundle-duplicate', path, facts, 'warning'))
    seen.add(entry.sha256)
    if (entry.notAfter < at) findings.push(finding('bundle-expired', path, facts, 'warning'))
    if (!isAuthority(entry)) findings.push(finding('not-a-ca', path, facts, 'warning'))
    // A root's own signature protects nothing, but a verifier that looks at it will say no.
    if (entry.weakSignature) findings.push({ ...weakSignature(entry, path), severity: 'warning' })
    return findings
  })
}

function weakSignature({ subject, signatureAlgorithm }: Certificate, path: string): Finding {
  return finding('signature-weak', path, { subject, algorithm: signatureAlgorithm })
}

/** What OpenSSL says of dates by the process's clock; they are judged above, at the instant that was asked for. */
const dateVerdicts = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

async function checkHandshake(files: SetFiles, leaf: Certificate, key: KeyObject): Promise<Finding[]> {
  // A passphrase is made to take long to try, and has been tried.
  const identity = { chain: files.cert.data, key: files.passphrase === undefined ? files.key.data : encodeKey(key) }
  const bundle = files.ca?.data ?? null
  const server: Peer = { identity, bundle }
  const client: Peer = {
    identity: permits(leaf, 'client') ? identity : null,
    bundle: permits(leaf, 'server') ? bundle : null,
  }
  const reason = refusal(await handshake(server, client))
  return reason === null ? [] : [finding('handshake', files.cert.path, { reason })]
}

function refusal(result: HandshakeResult): string | null {
  const verdicts = [result.failure, result.serverRefused, result.clientRefused]
  return verdicts.find((verdict) => verdict !== null && !dateVerdicts.has(verdict)) ?? null
}
