import type { KeyObject } from 'node:crypto'
import { constants } from 'node:fs'
import { join } from 'node:path'
import { CertgenError } from '../errors.ts'
import type { Finding } from '../findings.ts'
import { hasErrors } from '../findings.ts'
import { isIssuedBy } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { readCertificateFile } from '../pki/certificate-file.ts'
import { isAuthority } from '../pki/check.ts'
import { encodeKey, isConsistent, judgeKey, noPassphrase, readKey } from '../pki/key.ts'
import { encodeCertificates } from '../pki/pem.ts'
import { syncDirectory } from './directory.ts'
import type { FileContent } from './generation/fill.ts'
import { generationTime } from './generation/name.ts'
import { readOrStandIn, readPrevious } from './generation/read.ts'
import type { Found, Generation } from './generation/read.ts'
import { repair } from './generation/repair.ts'
import type { Repair } from './generation/repair.ts'
import { writeGeneration } from './generation/write.ts'
import type { WriteOptions, WriteWarning } from './generation/write.ts'
import { acquireLock } from './lock.ts'
import type { Lock, LockOptions } from './lock.ts'
import { refuseTarget } from './occupied.ts'
import { readRegularFile } from './regular-file.ts'
import { writeError } from './system-errors.ts'
import type { Place } from './place.ts'

/** The directory of an authority, and what opens its key. */
export interface AuthorityLocation {
  readonly directory: string
  readonly passphrase?: string
  /** Asked for the passphrase of an encrypted key where none is given; undefined: nobody can say. */
  readonly askPassphrase?: () => Promise<string | undefined>
}

/** What DIR/ca holds. */
export interface StoredAuthority {
  readonly certificate: Certificate
  /** null: adopted without its key, so it issues nothing. */
  readonly key: KeyObject | null
  /** The carry-over. */
  readonly previous: Certificate | null
  readonly cross: Certificate | null
  /** The staged successor, between the two runs of the staged strategy. */
  readonly next: { readonly certificate: Certificate; readonly key: KeyObject } | null
  /** The name of the generation that holds it; empty for what certgen has not written yet. */
  readonly generation: string
  /** null where that is not known. */
  readonly writtenAt: Date | null
  /** As TargetContents.standsIn. */
  readonly standsIn: boolean
}

/** What can be told of an authority without its passphrase, however damaged it is. */
export interface AuthorityView extends Omit<StoredAuthority, 'certificate' | 'key' | 'next'> {
  /** null: it is missing or damaged. */
  readonly certificate: Certificate | null
  /** `encrypted`: nothing at hand opens it, so nobody has looked whether it belongs to the certificate. */
  readonly key: 'usable' | 'encrypted' | 'damaged' | 'absent'
  readonly next: { readonly certificate: Certificate } | null
  /** What `read` would fail with for any other reason than the passphrase; null when nothing is wrong. */
  readonly fault: CertgenError | null
}

/** An authority as it is to be written. */
export type NewAuthority = Omit<StoredAuthority, 'generation' | 'writtenAt' | 'standsIn'>

/** Where an authority is kept, whatever keeps it: a directory, or something else that is written as a whole. */
export interface AuthorityStore {
  /** What people know it by: the directory's path. */
  readonly path: string
  readonly place: Place
  /**
   * The authority; null when there is none. Throws CertgenError `authority-unusable` when there is something that is
   * incomplete or damaged: it is never taken for nothing.
   */
  readonly read: () => Promise<StoredAuthority | null>
  /** The generation before the current one; null when there is none. */
  readonly readPrevious: () => Promise<StoredAuthority | null>
  /**
   * A generation, for those who only look: no passphrase is asked for, and damage is part of the answer. null when there
   * is none. Throws CertgenError `unreadable`.
   */
  readonly inspect: (generation: 'current' | 'previous') => Promise<AuthorityView | null>
  /** false: of the generation before, no more than the certificate is known, and nothing can go back to it. */
  readonly keepsPrevious: boolean
  /** Swaps an authority in. Throws CertgenError `write-failed`, and `conflict` as TargetStore.write. */
  readonly write: (authority: NewAuthority, options: AuthorityWriteOptions) => Promise<readonly WriteWarning[]>
  /**
   * Makes durable an authority that is to be used as it stands: the run that wrote it may have been killed before it
   * could. Throws CertgenError `write-failed`, and `conflict` when it is another one by now.
   */
  readonly sync: () => Promise<void>
  /** As TargetStore.repair. */
  readonly repair: (authority: StoredAuthority) => Promise<readonly Repair[]>
  /** Keeps other runs out; null: nothing does, and a write finds out about them. Throws CertgenError `lock-held`. */
  readonly lock: (options: LockOptions) => Promise<Lock | null>
}

export interface AuthorityWriteOptions extends Pick<WriteOptions, 'now' | 'beforeSwap'> {
  /** Every leaf in sight: the key of an authority that one of them is of is kept, however old it is. Left out: all are. */
  readonly leaves?: readonly Certificate[]
}

export function directoryAuthority(location: AuthorityLocation): AuthorityStore {
  const { directory } = location
  let { passphrase } = location
  /** What the plan was made from, and so what a write may replace; undefined: nobody has looked. */
  let upon: string | null | undefined
  const readCurrent = (): Promise<Found> => readOrStandIn(directory, authorityFileNames, [names.certificate])
  const stored = async (generation: Generation | null, standsIn: boolean): Promise<StoredAuthority | null> => {
    if (!generation) return null
    // Only a target has certificates of an authority without any key of one: its bundle.
    if (!generation.files.has(names.key)) await refuseTarget(directory, authorityFileNames)
    if (passphrase === undefined && isEncrypted(generation.files)) passphrase = await location.askPassphrase?.()
    return { ...parseAuthority(generation.files, originOf(directory, passphrase)), ...placeIn(generation, standsIn) }
  }
  return {
    path: directory,
    place: { directory },
    read: async () => {
      const { link, generation, standsIn } = await readCurrent()
      upon = link
      return stored(generation, standsIn)
    },
    readPrevious: async () => stored(await readPrevious(directory, authorityFileNames), false),
    keepsPrevious: true,
    inspect: async (which) => {
      const { generation, standsIn } =
        which === 'current'
          ? await readCurrent()
          : { generation: await readPrevious(directory, authorityFileNames), standsIn: false }
      if (!generation) return null
      return { ...viewAuthority(generation.files, originOf(directory, passphrase)), ...placeIn(generation, standsIn) }
    },
    write: (authority, options) =>
      writeAuthority(directory, encodeAuthority(authority, passphrase), {
        ...options,
        ...(upon === undefined ? {} : { upon }),
      }),
    sync: () => syncAuthority(directory),
    repair: (authority) => repairAuthority(directory, authority),
    lock: (options) => acquireLock(directory, options),
  }
}

const names = {
  key: 'ca.key',
  certificate: 'ca.crt',
  previous: 'previous.crt',
  cross: 'cross.crt',
  nextKey: 'next.key',
  nextCertificate: 'next.crt',
} as const
/** The files that an authority may have. */
export const authorityFileNames: readonly string[] = Object.values(names)

/** Whether a passphrase opens the keys that are among the files of an authority. */
export function isEncrypted(files: ReadonlyMap<string, Buffer>): boolean {
  return [names.key, names.nextKey].some((name) => files.get(name)?.includes('ENCRYPTED') === true)
}

function placeIn(
  { name }: Generation,
  standsIn: boolean,
): Pick<StoredAuthority, 'generation' | 'writtenAt' | 'standsIn'> {
  return { generation: name, writtenAt: generationTime(name), standsIn }
}

function originOf(path: string, passphrase: string | undefined): AuthorityOrigin {
  return { path, pathOf: (file) => join(path, file), ...(passphrase ? { passphrase } : {}) }
}

/** How the files of an authority are spoken of, and what opens its key. */
export interface AuthorityOrigin {
  readonly path: string
  readonly pathOf: (file: string) => string
  readonly passphrase?: string
}

/** Reads what encodeAuthority makes. Throws CertgenError `authority-unusable`. */
export function parseAuthority(files: ReadonlyMap<string, Buffer>, origin: AuthorityOrigin): NewAuthority {
  const parts = readParts(files, origin)
  const fault = faultOf(parts, origin)
  const { certificate, key, previous, cross, next } = parts
  if (fault) throw fault
  if (!certificate) throw new Error('what has no fault has a certificate')
  return {
    certificate,
    key,
    previous,
    cross,
    next: next.certificate && next.key ? { certificate: next.certificate, key: next.key } : null,
  }
}

/** As parseAuthority, but it takes what it finds, and a key that nothing at hand opens is no fault. */
export function viewAuthority(
  files: ReadonlyMap<string, Buffer>,
  origin: AuthorityOrigin,
): Omit<AuthorityView, 'generation' | 'writtenAt' | 'standsIn'> {
  const parts = readParts(files, origin)
  const isClosed = ({ code, facts }: Finding): boolean => code === 'key-encrypted' && facts['reason'] === noPassphrase
  const { certificate, key, previous, cross, next, findings } = parts
  const keyPath = origin.pathOf(names.key)
  const encrypted = findings.some((finding) => finding.path === keyPath && isClosed(finding))
  return {
    certificate,
    key: key ? 'usable' : encrypted ? 'encrypted' : files.has(names.key) ? 'damaged' : 'absent',
    previous,
    cross,
    next: next.certificate ? { certificate: next.certificate } : null,
    fault: faultOf({ ...parts, findings: findings.filter((finding) => !isClosed(finding)) }, origin),
  }
}

interface Pair {
  readonly certificate: Certificate | null
  readonly key: KeyObject | null
}

interface Parts extends Pair, Pick<NewAuthority, 'previous' | 'cross'> {
  readonly next: Pair
  readonly findings: readonly Finding[]
}

function readParts(files: ReadonlyMap<string, Buffer>, { pathOf, passphrase }: AuthorityOrigin): Parts {
  const findings: Finding[] = []
  const certificate = (name: string): Certificate | null => {
    const data = files.get(name)
    if (!data) return null
    const file = readCertificateFile({ path: pathOf(name), data })
    findings.push(...file.findings)
    return file.certificates[0] ?? null
  }
  const key = (name: string): KeyObject | null => {
    const data = files.get(name)
    if (!data) return null
    const file = readKey(data, pathOf(name), passphrase)
    findings.push(...file.findings)
    return file.key
  }
  const pair = (certificateName: string, keyName: string): Pair => {
    const read = { certificate: certificate(certificateName), key: key(keyName) }
    if (read.certificate) {
      findings.push(...judgePair(read.certificate, read.key, pathOf(certificateName), pathOf(keyName)))
    }
    return read
  }
  const current = pair(names.certificate, names.key)
  const next = pair(names.nextCertificate, names.nextKey)
  return { ...current, next, previous: certificate(names.previous), cross: certificate(names.cross), findings }
}

function faultOf({ certificate, findings }: Parts, { path }: AuthorityOrigin): CertgenError | null {
  if (hasErrors(findings)) return unusable(path, 'cannot be used', findings)
  if (!certificate) return unusable(path, 'has a key, but its certificate is missing', findings)
  return null
}

function judgePair(certificate: Certificate, key: KeyObject | null, path: string, keyPath: string): Finding[] {
  const findings = judgeKey(certificate.publicKey, path)
  const { subject } = certificate
  if (!isAuthority(certificate)) findings.push({ code: 'not-a-ca', severity: 'error', path, facts: { subject } })
  if (key && !(certificate.x509.checkPrivateKey(key) && isConsistent(key))) {
    findings.push({ code: 'key-mismatch', severity: 'error', path: keyPath, facts: { certificate: path, subject } })
  }
  return findings
}

function unusable(path: string, what: string, findings: readonly Finding[]): CertgenError {
  const encrypted = findings.some(({ code }) => code === 'key-encrypted')
  return new CertgenError('authority-unusable', `the authority in ${path} ${what}`, {
    findings,
    hints: [
      encrypted
        ? 'its key is encrypted: give its passphrase with --ca-passphrase-file FILE'
        : `restore ${path} from a backup, or go back with: certgen rollback`,
    ],
  })
}

/** The files of an authority, by name; those that hold a key are for the owner alone. */
export function encodeAuthority(authority: NewAuthority, passphrase: string | undefined): FileContent[] {
  const certificateFile = (name: string, certificate: Certificate | null): FileContent[] =>
    certificate ? [{ name, data: encodeCertificates([certificate.der]), mode: 0o644 }] : []
  const keyFile = (name: string, key: KeyObject | null): FileContent[] =>
    key ? [{ name, data: encodeKey(key, passphrase), mode: 0o600 }] : []
  return [
    ...keyFile(names.key, authority.key),
    ...certificateFile(names.certificate, authority.certificate),
    ...certificateFile(names.previous, authority.previous),
    ...certificateFile(names.cross, authority.cross),
    ...keyFile(names.nextKey, authority.next?.key ?? null),
    ...certificateFile(names.nextCertificate, authority.next?.certificate ?? null),
  ]
}

/** How long the key of an authority is kept at least after another has taken its place. */
const keptMs = 24 * 3_600_000

async function writeAuthority(
  directory: string,
  files: readonly FileContent[],
  { leaves, ...options }: AuthorityWriteOptions & Pick<WriteOptions, 'upon'>,
): Promise<readonly WriteWarning[]> {
  const isNeeded = async (generation: string): Promise<boolean> =>
    leaves === undefined || (await issuedAny(join(generation, names.certificate), leaves))
  const retention = { supersededMs: keptMs, isNeeded }
  // A directory that lets nobody but its owner in.
  const { warnings } = await writeGeneration(directory, files, {
    ...{ ...options, retention },
    directoryMode: 0o700,
    isWatched: isCertificate,
  })
  return warnings
}

/** Who verifies with the root may watch its file; nobody watches the authority's key, of which there are to be few copies. */
function isCertificate(name: string): boolean {
  return name.endsWith('.crt')
}

/** Whether the authority whose certificate is in this file issued any of the leaves; what cannot be told counts as yes. */
async function issuedAny(path: string, leaves: readonly Certificate[]): Promise<boolean> {
  const file = await readRegularFile(path, constants.O_NOFOLLOW)
  const [authority] = file ? readCertificateFile({ path, data: file.data }).certificates : []
  return authority === undefined || leaves.some((leaf) => isIssuedBy(leaf, authority))
}

async function syncAuthority(directory: string): Promise<void> {
  try {
    await syncDirectory(directory)
  } catch (error) {
    throw writeError(directory, error, [])
  }
}

/** Repairs what is around the generation of an authority that certgen has written. */
async function repairAuthority(directory: string, authority: StoredAuthority): Promise<readonly Repair[]> {
  if (authority.generation === '') return []
  const present = [
    names.certificate,
    ...(authority.key ? [names.key] : []),
    ...(authority.previous ? [names.previous] : []),
    ...(authority.cross ? [names.cross] : []),
    ...(authority.next ? [names.nextKey, names.nextCertificate] : []),
  ]
  return repair(directory, { names: present, essential: [names.certificate], isWatched: isCertificate })
}
