import type { KeyObject } from 'node:crypto'
import { constants } from 'node:fs'
import { join } from 'node:path'
import { CertgenError } from '../errors.ts'
import type { Certificate } from '../pki/certificate.ts'
import { encodeKey, readKey } from '../pki/key.ts'
import { encodeCertificates, readPem } from '../pki/pem.ts'
import { settleDelivery } from './generation/delivery.ts'
import type { FileContent, Owner } from './generation/fill.ts'
import { generationTime, hiddenPrefix } from './generation/name.ts'
import { readGeneration, readOrStandIn, readPrevious } from './generation/read.ts'
import type { Generation } from './generation/read.ts'
import { repair } from './generation/repair.ts'
import type { Repair } from './generation/repair.ts'
import { assertReplaceable, writeGeneration } from './generation/write.ts'
import type { WriteOptions, WriteWarning } from './generation/write.ts'
import { refuseAuthority } from './occupied.ts'
import type { Place } from './place.ts'
import { access } from './system-calls.ts'
import { errnoOf } from './system-errors.ts'

/**
 * The names of a target's files; `combined` is key and chain in one, so that a reader gets both in one open. null: no
 * file of that kind is shown.
 */
export type TargetFileNames = Readonly<Record<SetPart | 'combined', string | null>>

export const defaultFileNames = {
  ca: 'ca.crt',
  cert: 'tls.crt',
  key: 'tls.key',
  combined: 'tls.pem',
} as const satisfies TargetFileNames

/** What is not shown is kept in the generation all the same: the next run has to know it. */
const hiddenNames = { ca: `${hiddenPrefix}kept-ca`, cert: `${hiddenPrefix}kept-cert`, key: `${hiddenPrefix}kept-key` }

function fileName({ files }: TargetLocation, part: SetPart): string {
  return files[part] ?? hiddenNames[part]
}

/** The directory that a leaf is written to, and how. */
export interface TargetLocation {
  readonly directory: string
  readonly files: TargetFileNames
  /** The mode of the files that hold the key; 0600 where it is left out. */
  readonly keyMode?: number
  /** Whose the files and a directory that is made are; -1, and what is left out, is whoever runs certgen. */
  readonly owner?: Owner
  /** A PKCS#12 file beside the others; null takes one away that is there. */
  readonly pkcs12?: { readonly name: string; readonly passphrase: string } | null
}

export const defaultPkcs12Name = 'tls.p12'

export function targetAt(directory: string): TargetLocation & { readonly files: typeof defaultFileNames } {
  return { directory, files: defaultFileNames }
}

/** The octets of one generation of a target, as a service reads them. Files that are missing are null. */
export interface TargetContents {
  readonly ca: Buffer | null
  readonly cert: Buffer | null
  readonly key: Buffer | null
  /** The generation's name; empty for what certgen has not written yet. */
  readonly generation: string
  /** null where that is not known. */
  readonly writtenAt: Date | null
  /** What has to follow the write and has not been settled yet. */
  readonly undelivered: readonly string[]
  /** Whether every file is there, with the mode and the owner that were asked for. */
  readonly conforms: boolean
  /** false: a copy of it elsewhere holds something else, for a run was interrupted between the two. */
  readonly copiesAgree: boolean
  /** Whether what the place leads to is gone, and this, the newest whole generation, stands in for it until `repair`. */
  readonly standsIn: boolean
}

/** Where a leaf is published, whatever keeps it: a directory, or something else that is written as a whole. */
export interface TargetStore {
  /** What people know it by: the directory's path. */
  readonly path: string
  /** Where it is written; the first is what it is read from. */
  readonly places: readonly Place[]
  /** How findings speak of one of its files. */
  readonly pathOf: (part: SetPart) => string
  /** The current generation; null when there is none. Throws CertgenError `unreadable`. */
  readonly read: () => Promise<TargetContents | null>
  /** The generation before the current one; null when there is none. */
  readonly readPrevious: () => Promise<TargetContents | null>
  /** false: it never has a generation to go back to. */
  readonly keepsPrevious: boolean
  /** Refuses what is known to be refused later, before anything is written. Throws CertgenError `write-failed`. */
  readonly assertWritable: () => Promise<void>
  /**
   * Swaps a set in, in place of what was read last. Throws CertgenError `write-failed`, and `conflict` where another run
   * has written since then; a complete generation is there in either case.
   */
  readonly write: (set: EncodedSet, options: TargetWriteOptions) => Promise<readonly WriteWarning[]>
  /** Mends what a crash left around the current generation. Returns what there was. */
  readonly repair: (current: TargetContents) => Promise<readonly Repair[]>
  /** Notes what of this generation has still to follow. Throws CertgenError `write-failed`. */
  readonly settle: (current: TargetContents, left: readonly string[]) => Promise<void>
}

export type SetPart = 'ca' | 'cert' | 'key'
export type TargetWriteOptions = Pick<WriteOptions, 'now' | 'beforeSwap' | 'undelivered'>

export function directoryTarget(location: TargetLocation): TargetStore {
  const { directory } = location
  /** What the plan was made from, and so what a write may replace; undefined: nobody has looked. */
  let upon: string | null | undefined
  return {
    path: directory,
    places: [{ directory }],
    pathOf: (part) => join(directory, fileName(location, part)),
    read: async () => {
      const found = await readOrStandIn(directory, payloadNames(location), payloadNames(location))
      upon = found.link
      return contents(location, found.generation, found.standsIn)
    },
    readPrevious: () => readPreviousTarget(location),
    keepsPrevious: true,
    assertWritable: () => assertWritable(location),
    write: (set, options) => writeTarget(location, set, { ...options, ...(upon === undefined ? {} : { upon }) }),
    repair: (current) => repairTarget(location, current),
    settle: ({ generation }, left) => settleDelivery(directory, generation, left),
  }
}

/**
 * One leaf in several places: what the first one holds is what it is, and a copy that differs is to be written again. What
 * has to follow a write is noted in the first.
 */
export function mirroredTarget(first: TargetStore, copies: readonly TargetStore[]): TargetStore {
  if (copies.length === 0) return first
  const all = [first, ...copies]
  return {
    ...first,
    path: all.map(({ path }) => path).join(' and '),
    places: all.flatMap(({ places }) => places),
    read: async () => {
      const contents = await Promise.all(all.map((store) => store.read()))
      const current = contents.find((each) => each !== null)
      if (!current) return null
      return {
        ...current,
        conforms: contents.every((each) => each?.conforms === true),
        copiesAgree: contents.every((each) => sameContents(each, current)),
      }
    },
    assertWritable: async () => {
      await Promise.all(all.map((store) => store.assertWritable()))
    },
    write: async (set, options) => {
      const warnings: WriteWarning[] = []
      for (const store of all) warnings.push(...(await store.write(set, options)))
      return warnings
    },
    repair: async () => {
      const repairs: Repair[] = []
      for (const store of all) {
        const contents = await store.read()
        if (contents) repairs.push(...(await store.repair(contents)))
      }
      return repairs
    },
  }
}

/** What a target is to hold. */
export interface TargetSet {
  readonly chain: readonly Certificate[]
  readonly bundle: readonly Certificate[]
  readonly key: KeyObject
}

/** The PEM octets of a set, exactly as writeTarget writes them. */
export interface EncodedSet {
  readonly ca: Buffer
  readonly cert: Buffer
  readonly key: Buffer
}

export function encodeSet(set: TargetSet): EncodedSet {
  return {
    ca: Buffer.from(encodeCertificates(set.bundle.map(({ der }) => der))),
    cert: Buffer.from(encodeCertificates(set.chain.map(({ der }) => der))),
    key: Buffer.from(encodeKey(set.key)),
  }
}

/** The target's current generation; null when there is none of its files. Throws CertgenError `unreadable`. */
export async function readTarget(location: TargetLocation): Promise<TargetContents | null> {
  return contents(location, await readGeneration(location.directory, payloadNames(location)))
}

/** The generation before the current one; null when there is none. */
export async function readPreviousTarget(location: TargetLocation): Promise<TargetContents | null> {
  return contents(location, await readPrevious(location.directory, payloadNames(location)))
}

function contents(location: TargetLocation, generation: Generation | null, standsIn = false): TargetContents | null {
  if (!generation) return null
  const read = (part: SetPart): Buffer | null => generation.files.get(fileName(location, part)) ?? null
  const { name, undelivered } = generation
  const [ca, cert, key] = [read('ca'), read('cert'), read('key')]
  const conforms = name === '' || conform(location, generation.access)
  return {
    ...{ ca, cert, key, undelivered, conforms },
    generation: name,
    writtenAt: generationTime(name),
    copiesAgree: true,
    standsIn,
  }
}

function conform(location: TargetLocation, access: Generation['access']): boolean {
  const { files, keyMode, owner } = location
  return payloadNames(location).every((name) => {
    const found = access.get(name)
    if (!found) return false
    const holdsKey = [fileName(location, 'key'), files.combined, location.pkcs12?.name].includes(name)
    if (holdsKey && keyMode !== undefined && found.mode !== keyMode) return false
    return owner === undefined || (isOr(found.uid, owner.uid) && isOr(found.gid, owner.gid))
  })
}

/** -1 leaves an owner or a group as it is (chown(2)). */
function isOr(found: number, wanted: number): boolean {
  return wanted === -1 || found === wanted
}

/**
 * Sets as they are kept by the thousand: the bundle that a fleet has in common once, and nothing that keeps the block of
 * memory alive from which Node cuts small Buffers.
 */
export function compacting(): <T extends TargetOctets>(set: T) => T {
  let bundle: Buffer = Buffer.alloc(0)
  return (set) => {
    if (set.ca && !set.ca.equals(bundle)) bundle = ownBlock(set.ca)
    return { ...set, ca: set.ca && bundle, cert: set.cert && ownBlock(set.cert), key: set.key && ownBlock(set.key) }
  }
}

function ownBlock(data: Buffer): Buffer {
  const own = Buffer.allocUnsafeSlow(data.length)
  data.copy(own)
  return own
}

/** Whether both hold the same octets. */
export function sameContents(a: TargetOctets | null, b: TargetOctets | null): boolean {
  const same = (part: SetPart): boolean => {
    const [one, other] = [a?.[part] ?? null, b?.[part] ?? null]
    return one === null || other === null ? one === other : one.equals(other)
  }
  return same('ca') && same('cert') && same('key')
}

type TargetOctets = Pick<TargetContents, 'ca' | 'cert' | 'key'>

/** Refuses before the first octet is written what the system would refuse in the midst. Throws CertgenError `write-failed`. */
async function assertWritable(location: TargetLocation): Promise<void> {
  const { directory, pkcs12 } = location
  try {
    await access(directory, constants.W_OK)
    await refuseAuthority(directory)
    await assertReplaceable(directory, payloadNames(location))
    if (pkcs12 === undefined) await refuseToDrop(directory)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    if (error instanceof CertgenError) throw error
    throw new CertgenError('write-failed', `cannot write ${directory}; nothing was written`, {
      cause: error,
      hints: ['make the directory writable for the user who runs certgen'],
    })
  }
}

/** As TargetStore.write. */
export async function writeTarget(
  location: TargetLocation,
  set: EncodedSet,
  options: TargetWriteOptions & Pick<WriteOptions, 'upon'>,
): Promise<readonly WriteWarning[]> {
  const { files, keyMode = 0o600, owner } = location
  const payload: FileContent[] = [
    { name: fileName(location, 'ca'), data: set.ca, mode: 0o644 },
    { name: fileName(location, 'cert'), data: set.cert, mode: 0o644 },
    { name: fileName(location, 'key'), data: set.key, mode: keyMode },
  ]
  if (files.combined !== null) {
    payload.push({ name: files.combined, data: Buffer.concat([set.key, set.cert]), mode: keyMode })
  }
  if (location.pkcs12) {
    payload.push({ name: location.pkcs12.name, data: await pkcs12Of(set, location.pkcs12), mode: keyMode })
  }
  const ownership = owner ? { owner } : {}
  const written = await writeGeneration(location.directory, payload, {
    ...options,
    ...ownership,
    directoryMode: 0o755,
  })
  return written.warnings
}

/** Repairs what is around the generation of a target that certgen has written; touches nothing else. */
async function repairTarget(location: TargetLocation, current: TargetContents): Promise<readonly Repair[]> {
  if (current.generation === '') return []
  const names = payloadNames(location)
  return repair(location.directory, { names, essential: names })
}

/** Loaded only when used: what makes PKCS#12 is larger than all the rest. */
async function pkcs12Of(set: EncodedSet, { passphrase }: NonNullable<TargetLocation['pkcs12']>): Promise<Buffer> {
  const { encodePkcs12 } = await import('../pki/pkcs12.ts')
  const key = readKey(set.key, '').key
  const chain = readPem(set.cert).blocks.map(({ der }) => der)
  if (!key) throw new Error('a set has a key')
  return encodePkcs12({ key, chain, friendlyName: 'certgen' }, passphrase)
}

/** A service may read the file that this run has no passphrase for. */
async function refuseToDrop(directory: string): Promise<void> {
  const path = join(directory, defaultPkcs12Name)
  await access(path)
  throw new CertgenError('usage', `${path} would be lost: this run has no passphrase for it; nothing was written`, {
    hints: [
      'give the file with its passphrase: --pkcs12 FILE, or pkcs12 in the configuration',
      'or take it away on purpose: --no-pkcs12, or pkcs12: null in the configuration',
    ],
  })
}

function payloadNames(location: TargetLocation): string[] {
  const parts = (['ca', 'cert', 'key'] as const).map((part) => fileName(location, part))
  return [...parts, location.files.combined, location.pkcs12?.name ?? null].filter((name) => name !== null)
}
