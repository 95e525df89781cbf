import { join } from 'node:path'
import { CertgenError } from '../errors.ts'
import { hasErrors } from '../findings.ts'
import type { Finding } from '../findings.ts'
import type { Certificate, Usage } from '../pki/certificate.ts'
import { readCertificateFile } from '../pki/certificate-file.ts'
import type { PemFile } from '../pki/certificate-file.ts'
import { checkSet, permits } from '../pki/check.ts'
import type { Reading } from './directory-watcher.ts'
import { summarizeCertificate } from './events.ts'
import type { SetPart, SetSummary } from './events.ts'

/** The names of the files, where they are not `tls.crt`, `tls.key` and `ca.crt`. */
export interface SetFileNames {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

export const defaultSetFileNames: SetFileNames = { cert: 'tls.crt', key: 'tls.key', ca: 'ca.crt' }

/** A chain and its key: the exact octets that were found good. */
export interface Pair {
  readonly cert: Buffer
  readonly key: Buffer
}

/** A set that was found good. */
export interface LoadedSet {
  readonly hash: string
  /** null: a bundle alone. */
  readonly pair: Pair | null
  readonly ca: Buffer | null
  readonly chain: readonly Certificate[]
  readonly bundle: readonly Certificate[]
  readonly summary: SetSummary
}

export interface LoadRequest {
  readonly directory: string
  readonly files: SetFileNames
  readonly passphrase?: string
  readonly at: Date
}

/** Judges what a server serves. Throws CertgenError `unusable` with all findings, and what the reading failed with. */
export async function loadServerSet(
  reading: Reading,
  request: LoadRequest,
  usages: readonly Usage[],
): Promise<LoadedSet> {
  if (reading.error) throw reading.error
  const { cert, key, ca } = pemFiles(reading, request)
  return judgePair(
    reading,
    request,
    { cert: cert ?? empty(request, 'cert'), key: key ?? empty(request, 'key'), ca },
    usages,
  )
}

/**
 * Judges what a client trusts and, where the directory has a chain and a key, presents. A pair whose leaf does not permit
 * the client's end is judged but not presented. Throws CertgenError `unusable` with all findings.
 */
export async function loadTrustSet(reading: Reading, request: LoadRequest): Promise<LoadedSet> {
  if (reading.error) throw reading.error
  const { cert, key, ca } = pemFiles(reading, request)
  if (!ca) throw unusable(request, [missingFile(request, 'ca')])
  if (cert ?? key) {
    const pair = { cert: cert ?? empty(request, 'cert'), key: key ?? empty(request, 'key'), ca }
    const set = await judgePair(reading, request, pair, [])
    requireLivingRoot(set.bundle, ca, request)
    const leaf = set.chain[0]
    if (leaf && permits(leaf, 'client')) return set
    return { ...set, pair: null, chain: [], summary: { ...set.summary, leaf: null, chain: [] } }
  }
  const { certificates: bundle, findings } = readCertificateFile(ca)
  if (hasErrors(findings)) throw unusable(request, findings)
  requireLivingRoot(bundle, ca, request)
  return makeSet(reading, { pair: null, ca, chain: [], bundle })
}

async function judgePair(
  reading: Reading,
  request: LoadRequest,
  files: { readonly cert: PemFile; readonly key: PemFile; readonly ca: PemFile | null },
  usages: readonly Usage[],
): Promise<LoadedSet> {
  const { passphrase, at } = request
  const { findings, chain, bundle } = await checkSet(
    { ...files, ...(passphrase === undefined ? {} : { passphrase }) },
    { at, ...(usages.length > 0 ? { usages } : {}) },
  )
  if (hasErrors(findings)) throw unusable(request, findings)
  const pair = { cert: bytes(files.cert), key: bytes(files.key) }
  return makeSet(reading, { pair, ca: files.ca, chain, bundle })
}

function makeSet(
  { hash, generation }: Reading,
  { pair, ca, chain, bundle }: Pick<LoadedSet, 'pair' | 'chain' | 'bundle'> & { readonly ca: PemFile | null },
): LoadedSet {
  const [leaf] = chain
  const summary: SetSummary = {
    generation,
    leaf: leaf ? summarizeCertificate(leaf) : null,
    chain: chain.map(({ sha256 }) => sha256),
    bundle: bundle.map(summarizeCertificate),
  }
  return { hash, pair, ca: ca && bytes(ca), chain, bundle, summary }
}

/** What differs, for an event. */
export function changedParts(old: LoadedSet, current: LoadedSet): SetPart[] {
  const changed: SetPart[] = []
  const prints = (certificates: readonly Certificate[]): string => certificates.map(({ sha256 }) => sha256).join()
  const keyOf = ({ chain: [leaf] }: LoadedSet): string =>
    leaf?.publicKey?.export({ type: 'spki', format: 'der' }).toString('hex') ?? ''
  if (old.chain[0]?.sha256 !== current.chain[0]?.sha256) changed.push('leaf')
  if (prints(old.chain.slice(1)) !== prints(current.chain.slice(1))) changed.push('chain')
  if (keyOf(old) !== keyOf(current)) changed.push('key')
  if (prints(old.bundle) !== prints(current.bundle)) changed.push('bundle')
  return changed.length > 0 ? changed : ['files']
}

/** Whether a root that was trusted no longer is. */
export function trustShrank(old: LoadedSet, current: LoadedSet): boolean {
  return old.bundle.some(({ sha256 }) => !current.bundle.some((certificate) => certificate.sha256 === sha256))
}

function pemFiles(
  { files }: Reading,
  { directory, files: names }: LoadRequest,
): { cert: PemFile | null; key: PemFile | null; ca: PemFile | null } {
  const file = (name: string): PemFile | null => {
    const data = files.get(name)
    return data ? { path: join(directory, name), data } : null
  }
  return { cert: file(names.cert), key: file(names.key), ca: file(names.ca) }
}

/** A file that is missing is judged as an empty one: `pem-empty`. */
function empty({ directory, files }: LoadRequest, which: keyof SetFileNames): PemFile {
  return { path: join(directory, files[which]), data: Buffer.alloc(0) }
}

function missingFile(request: LoadRequest, which: keyof SetFileNames): Finding {
  return { code: 'pem-empty', severity: 'error', path: empty(request, which).path, facts: { reason: 'missing' } }
}

/** A server that had a bundle and has none would verify its clients with the public roots. */
export function requireBundleKept(old: LoadedSet, current: LoadedSet, request: LoadRequest): void {
  if (old.ca && !current.ca) throw unusable(request, [missingFile(request, 'ca')])
}

/** Nothing can be verified with roots that have all ended. */
function requireLivingRoot(bundle: readonly Certificate[], { path }: PemFile, request: LoadRequest): void {
  if (bundle.some(({ notAfter }) => notAfter >= request.at)) return
  const findings = bundle.map(({ subject }, index): Finding => {
    return { code: 'bundle-expired', severity: 'error', path, facts: { position: index + 1, subject } }
  })
  throw unusable(request, findings)
}

function unusable({ directory }: LoadRequest, findings: readonly Finding[]): CertgenError {
  const codes = [...new Set(findings.filter(({ severity }) => severity === 'error').map(({ code }) => code))]
  return new CertgenError('unusable', `the set in ${directory} cannot be used: ${codes.join(', ')}`, { findings })
}

function bytes({ data }: PemFile): Buffer {
  return typeof data === 'string' ? Buffer.from(data) : data
}
