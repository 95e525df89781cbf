import { lstat, mkdir, realpath, symlink } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import type { KeyObject } from 'node:crypto'
import { CertgenError } from '../errors.ts'
import { hasErrors } from '../findings.ts'
import type { Finding } from '../findings.ts'
import { isIssuedBy, sameCertificate } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { readCertificates } from '../pki/certificate-file.ts'
import type { PemFile } from '../pki/certificate-file.ts'
import { isAuthority } from '../pki/check.ts'
import type { CheckedSet } from '../pki/check.ts'
import { judgeKey, readKey } from '../pki/key.ts'
import { isValidAt } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import { encodeCertificates } from '../pki/pem.ts'
import type { AuthorityStore, StoredAuthority } from '../store/authority-store.ts'
import { findSet, splitCombined } from '../store/found-set.ts'
import { errnoOf, writeError } from '../store/system-errors.ts'
import { defaultFileNames, directoryTarget } from '../store/target-store.ts'
import type { TargetContents, TargetFileNames, TargetStore } from '../store/target-store.ts'
import type { CertificateSketch, ConfigSketch } from './config-writer.ts'
import { refuseClash } from './places.ts'
import type { Warning } from './plan.ts'
import { sketchAuthority, sketchTarget } from './sketch.ts'
import { checkTarget } from './snapshot.ts'

export interface AdoptRequest {
  /** The root directory; a target elsewhere gets a link in it. */
  readonly dir: string
  readonly authority: AuthorityStore
  /** The root first; one more certificate behind it is the carry-over. */
  readonly ca: PemFile
  /** null: it cannot sign any more, so that the next rotation goes the staged way. */
  readonly caKey: (PemFile & { readonly passphrase?: string }) | null
  readonly targets: readonly string[]
  readonly lockTimeout: Duration
}

export interface AdoptReport {
  readonly changed: boolean
  readonly authority: { readonly path: string; readonly certificate: Certificate; readonly hasKey: boolean }
  readonly targets: readonly AdoptedTarget[]
  /** What a configuration has to say so that the targets are known again; null: they are known without one. */
  readonly sketch: Omit<ConfigSketch, 'dir'> | null
  readonly warnings: readonly Warning[]
}

export interface AdoptedTarget {
  readonly name: string
  readonly directory: string
  readonly files: TargetFileNames
  readonly leaf: Certificate
  /** Whether it had no bundle, and got one. */
  readonly bundleAdded: boolean
}

/**
 * Takes over an authority and targets that another tool made. Nothing that is served changes: chains and keys stay the
 * octets that they are, and a target without a bundle gets one beside them. Everything is read and judged before the
 * first write. Throws CertgenError `unusable` with findings, `usage` where another authority is there, `write-failed`.
 */
export async function adopt(request: AdoptRequest, now: Date): Promise<AdoptReport> {
  const root = readRoot(request, now)
  const targets: Taken[] = []
  for (const directory of request.targets) targets.push(await readTaken(directory, root.certificate, now))
  refuseShared(request, targets)
  refuseTwins(targets)
  const lock = await request.authority.lock({ timeoutMs: request.lockTimeout * 1000 })
  try {
    const options = { now, ...(lock ? { beforeSwap: () => lock.assertHeld() } : {}) }
    refuseShared(request, targets)
    const kept = await keepRoot(root, request.authority, options)
    const warnings: Warning[] = [...(kept ?? [])]
    let changed = kept !== null
    for (const taken of targets) {
      if (taken.contents.ca === null) {
        const ca = Buffer.from(encodeCertificates([root.certificate.der]))
        warnings.push(...(await taken.store.write({ ca, cert: taken.cert, key: taken.key }, options)))
        changed = true
      }
      if (isDefault(taken.files) && (await linkInto(request.dir, taken))) changed = true
    }
    const done = report(request, root, targets, changed)
    return { ...done, warnings: [...done.warnings, ...warnings] }
  } finally {
    await lock?.release()
  }
}

// ------------------------------------------------------------------------------------------------------------ reading

interface Root {
  readonly certificate: Certificate
  readonly key: KeyObject | null
  readonly previous: Certificate | null
}

function readRoot({ ca, caKey }: AdoptRequest, now: Date): Root {
  const [certificate, previous] = readCertificates(ca.data, ca.path)
  if (!certificate) throw new Error('a file of certificates has one')
  const { subject } = certificate
  const findings: Finding[] = judgeKey(certificate.x509.publicKey, ca.path)
  const find = (code: Finding['code'], path: string, facts: Finding['facts']): void => {
    findings.push({ code, severity: 'error', path, facts })
  }
  if (!isAuthority(certificate) || !certificate.selfIssued) find('not-a-ca', ca.path, { subject })
  if (certificate.notAfter < now) find('expired', ca.path, { subject, notAfter: certificate.notAfter.toISOString() })
  const read = caKey ? readKey(caKey.data, caKey.path, caKey.passphrase) : { key: null, findings: [] }
  findings.push(...read.findings)
  if (caKey && read.key && !certificate.x509.checkPrivateKey(read.key)) {
    find('key-mismatch', caKey.path, { certificate: ca.path, subject })
  }
  if (hasErrors(findings)) {
    throw new CertgenError('unusable', `the authority in ${ca.path} cannot be adopted; nothing was written`, {
      findings,
      hints: ['give the root certificate, which signed itself, and the private key that belongs to it'],
    })
  }
  return { certificate, key: read.key, previous: previous && isValidAt(previous, now) ? previous : null }
}

/** A target as it is taken over. */
interface Taken {
  readonly name: string
  /** As --target names it. */
  readonly given: string
  readonly directory: string
  readonly files: TargetFileNames
  readonly store: TargetStore
  readonly contents: TargetContents
  readonly cert: Buffer
  readonly key: Buffer
  readonly set: CheckedSet
  readonly leaf: Certificate
}

async function readTaken(path: string, root: Certificate, now: Date): Promise<Taken> {
  const directory = await realpath(path).catch((error: unknown) => {
    throw new CertgenError('unreadable', `there is no directory ${path}`, {
      cause: error,
      hints: ['--target names the directory that the service reads'],
    })
  })
  const files = await findSet(directory)
  const store = directoryTarget({ directory, files })
  const contents = await readFound(directory, files)
  const { cert, key } = contents
  if (!cert || !key) throw new Error('what was found can be read')
  const set = checkTarget(store, { ...contents, ca: contents.ca ?? Buffer.from(encodeCertificates([root.der])) }, now)
  const [leaf] = set.chain
  const findings = set.findings.filter(({ code }) => !['expired', 'expires-soon'].includes(code))
  if (leaf && !isIssuedBy(leaf, root)) {
    const facts = { subject: leaf.subject, issuer: leaf.issuer }
    findings.push({ code: 'chain-incomplete', severity: 'error', path: store.pathOf('cert'), facts })
  }
  if (!leaf || hasErrors(findings)) {
    throw new CertgenError('unusable', `the target ${path} cannot be adopted; nothing was written`, {
      findings,
      hints: ['a target is adopted with the authority that issued its leaf'],
    })
  }
  return { name: basename(directory), given: path, directory, files, store, contents, cert, key, set, leaf }
}

/** A file that is key and chain in one is both of them. */
async function readFound(directory: string, files: TargetFileNames): Promise<TargetContents> {
  const { combined } = files
  const shown = { ...files, cert: files.cert ?? combined, key: files.key ?? combined, combined: null }
  const contents = await directoryTarget({ directory, files: shown }).read()
  if (!contents) throw new Error('what was found can be read')
  if (combined === null || (files.cert !== null && files.key !== null)) return contents
  return { ...contents, ...splitCombined(contents.cert ?? Buffer.alloc(0)) }
}

/** Two targets in one place, or one where the authority is to be. */
function refuseShared({ authority }: AdoptRequest, targets: readonly Taken[]): void {
  refuseClash([
    { place: authority.place, what: `the authority ${authority.path}` },
    ...targets.map(({ given, directory }) => ({ place: { directory }, what: `the target ${given}` })),
  ])
}

function refuseTwins(targets: readonly Taken[]): void {
  const seen = new Map<string, string>()
  for (const { name, directory } of targets) {
    const other = seen.get(name)
    if (other !== undefined) {
      throw new CertgenError('usage', `${other} and ${directory} would both be called ${name}`, {
        hints: ['adopt one of them alone, and write the other into certgen.yaml with another name'],
      })
    }
    seen.set(name, directory)
  }
}

// ------------------------------------------------------------------------------------------------------------ writing

/** Writes the root where there is none yet. Returns what is to be said of that; null where it was there. */
async function keepRoot(
  root: Root,
  store: AuthorityStore,
  options: Parameters<AuthorityStore['write']>[1],
): Promise<readonly Warning[] | null> {
  const stored = await store.read()
  if (stored && !sameCertificate(stored.certificate, root.certificate)) throw anotherAuthority(store, stored)
  if (stored && (stored.key || !root.key)) return null
  return store.write({ ...root, previous: stored?.previous ?? root.previous, cross: null, next: null }, options)
}

function anotherAuthority({ path }: AuthorityStore, { certificate }: StoredAuthority): CertgenError {
  return new CertgenError('usage', `${path} holds another authority already: ${certificate.subject}`, {
    hints: ['adopt into a directory of its own with --dir DIR'],
  })
}

function isDefault({ ca, cert, key }: TargetFileNames): boolean {
  return ca === defaultFileNames.ca && cert === defaultFileNames.cert && key === defaultFileNames.key
}

/** A link in `dir`, by which every later run finds a target elsewhere. Returns whether one was made. */
async function linkInto(dir: string, { name, directory }: Taken): Promise<boolean> {
  const link = join(dir, name)
  if ((await realpath(link).catch(() => '')) === directory) return false
  try {
    await mkdir(dir, { recursive: true })
    await symlink(resolve(directory), link)
    return true
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw writeError(dir, error, [])
    const found = await lstat(link)
    const what = found.isDirectory() ? 'a directory' : 'something else'
    throw new CertgenError('usage', `${link} is ${what} already, so ${directory} cannot be called ${name}`, {
      hints: [`write ${directory} into certgen.yaml with another name`],
    })
  }
}

// ---------------------------------------------------------------------------------------------------------- reporting

function report(request: AdoptRequest, root: Root, targets: readonly Taken[], changed: boolean): AdoptReport {
  const warnings = targets
    .filter(
      ({ contents, set }) =>
        contents.ca !== null && !set.bundle.some((entry) => sameCertificate(entry, root.certificate)),
    )
    .map(({ store }) => ({
      code: 'bundle-differs',
      message: `${store.pathOf('ca')} does not hold this authority; the next run adds it and carries one of its certificates over`,
    }))
  if (!root.key) {
    warnings.push({
      code: 'no-key',
      message: 'without its key the authority issues nothing: the next rotation takes two runs (staged)',
    })
  }
  const needsConfig = targets.some(({ files }) => !isDefault(files))
  return {
    changed,
    authority: { path: request.authority.path, certificate: root.certificate, hasKey: root.key !== null },
    targets: targets.map(({ name, directory, files, leaf, contents }) => {
      return { name, directory, files, leaf, bundleAdded: contents.ca === null }
    }),
    sketch: needsConfig ? sketch(root.certificate, targets) : null,
    warnings,
  }
}

function sketch(root: Certificate, targets: readonly Taken[]): Omit<ConfigSketch, 'dir'> {
  return {
    authority: sketchAuthority(root),
    certificates: targets.map(({ name, store, contents, set, files, directory }): CertificateSketch => {
      const target = { name, store, contents, set, asked: null, issuer: 'current' } as const
      return { ...sketchTarget(target, root), files, target: relative('.', directory) }
    }),
  }
}
