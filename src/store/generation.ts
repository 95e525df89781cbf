import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import type { Dirent, Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { CertgenError } from '../errors.ts'
import { writeFileAtomically } from './file.ts'
import {
  directCalls,
  lstat,
  mkdir,
  open,
  readEntries,
  readlink,
  remove,
  rename,
  rmdir,
  stat,
  symlink,
  unlink,
} from './system-calls.ts'
import type { OpenFile, ReadableFile, ReadingCalls } from './system-calls.ts'

/** One file of a generation. */
export interface FileContent {
  /**
   * A plain file name: no slash, and not `..` in front, which is kept for what makes the swap. With `hiddenPrefix` the
   * file is in the generation only, and no link in the directory shows it.
   */
  readonly name: string
  readonly data: Uint8Array | string
  /** The final permission bits, whatever the umask. */
  readonly mode: number
}

export interface WriteOptions {
  /** The instant that names the generation. */
  readonly now: Date
  /** Of generation directories, and of the directory itself where it is created: 0o700 for `ca`, 0o755 for targets. */
  readonly directoryMode: number
  readonly owner?: { readonly uid: number; readonly gid: number }
  /** Asked before every swap; when it throws, nothing is swapped. The lock's fence. */
  readonly beforeSwap?: () => Promise<void>
  /** What has to follow the swap, published with it: see Generation. */
  readonly undelivered?: readonly string[]
}

/** Permission bits and owner of a file. */
export interface Access {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** One complete version of a directory's files, as a reader that resolves `..data` once gets it. */
export interface Generation {
  /** Empty for a plain directory, without `..data`. */
  readonly name: string
  /** The files asked for that exist. */
  readonly files: ReadonlyMap<string, Buffer>
  /** Who may read those files. */
  readonly access: ReadonlyMap<string, Access>
  /** The name of the generation that was current when this one was written. */
  readonly previous: string | null
  /** What had to follow the swap and has not been settled yet: a run may be killed before it could. */
  readonly undelivered: readonly string[]
}

const current = '..data'
const nextCurrent = '..data_tmp'
const linkPrefix = '..link.'
export const hiddenPrefix = '..hidden.'
// Inside a generation, so that it is published by the same rename: no moment has the one without the other.
const previousFile = '..previous'
const undeliveredFile = '..undelivered'
// The random end is hexadecimal from certgen and decimal from Kubernetes.
const generationPattern = /^\.\.(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)\.[0-9a-zA-Z]+$/
const readAttempts = 5

/** The instant in a generation's name; null when it is not the name of one. */
export function generationTime(name: string): Date | null {
  const match = generationPattern.exec(name)
  if (!match) return null
  const [year, month, day, hour, minute, second] = match.slice(1)
  const iso = `${year ?? ''}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}.000Z`
  const time = new Date(iso)
  // `02_31` would roll over to March.
  return !Number.isNaN(time.getTime()) && time.toISOString() === iso ? time : null
}

function makeName(now: Date): string {
  return `..${now.toISOString().slice(0, 19).replaceAll(/[-T:]/g, '_')}.${randomBytes(4).toString('hex')}`
}

// ---------------------------------------------------------------------------------------------------------- reading

/**
 * The current generation's files of these names; null when none of them exists. Without `..data` the directory's
 * ordinary files are read, through symbolic links if need be. `calls`: those of node:fs/promises where nothing may stand still meanwhile. Throws CertgenError `unreadable`, also for anything that
 * is not a regular file, and for a `..data` that points to nothing: it is never taken for an empty directory.
 */
export async function readGeneration(
  directory: string,
  names: readonly string[],
  calls: ReadingCalls = directCalls,
): Promise<Generation | null> {
  const generation = await readStable(directory, calls, async (name) =>
    name === null ? readPlain(directory, names, calls) : readNamed(directory, name, names, calls),
  )
  if (generation !== 'missing') return generation
  throw new CertgenError(
    'unreadable',
    `cannot read ${directory}: the generation that ${current} points to is missing`,
    {
      hints: [`restore it from a backup, or remove ${join(directory, current)} to start afresh`],
    },
  )
}

/**
 * The generation that was current when the current one was written; null when there was none, or it is gone.
 * Throws CertgenError `unreadable`.
 */
export async function readPrevious(directory: string, names: readonly string[]): Promise<Generation | null> {
  const generation = await readStable(directory, directCalls, async (name) => {
    const previous = name === null ? null : await readPreviousName(directory, name, directCalls)
    return previous === null ? null : readNamed(directory, previous, names, directCalls)
  })
  return generation === 'missing' ? null : generation
}

/**
 * Reads until `..data` was the same before and after: in between a writer may have removed files, or have taken over a
 * plain directory, and what was read would be from two generations.
 */
async function readStable<T>(
  directory: string,
  calls: ReadingCalls,
  read: (name: string | null) => Promise<T>,
): Promise<T> {
  try {
    for (let attempt = 0; attempt < readAttempts; attempt++) {
      const name = await readCurrentName(directory, calls)
      const result = await read(name)
      if ((await readCurrentName(directory, calls)) === name) return result
    }
  } catch (error) {
    if (error instanceof CertgenError) throw error
    const hint = readHints[errnoOf(error) ?? '']
    const hints = hint === undefined ? [] : [hint]
    throw new CertgenError('unreadable', `cannot read ${directory}: ${reasonOf(error)}`, { cause: error, hints })
  }
  throw new CertgenError('unreadable', `cannot read ${directory}: it changes all the time`, {
    hints: ['look for another program that writes there'],
  })
}

function oddity(path: string, what: string): CertgenError {
  return new CertgenError('unreadable', `${path} ${what}`, {
    hints: ['certgen has not made it so: restore the directory from a backup, or move it away to start afresh'],
  })
}

/** What `..data` points to; null without one. Throws CertgenError `unreadable`. */
async function readCurrentName(directory: string, { readlink }: ReadingCalls = directCalls): Promise<string | null> {
  const path = join(directory, current)
  const target = await readlink(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    if (errnoOf(error) === 'EINVAL') throw oddity(path, 'is not a symbolic link')
    throw error
  })
  if (target === '.' || target === '..' || target?.includes('/')) {
    throw oddity(path, 'points outside of its directory')
  }
  return target
}

async function readNamed(
  directory: string,
  name: string,
  names: readonly string[],
  calls: ReadingCalls,
): Promise<Generation | null | 'missing'> {
  const path = join(directory, name)
  const found = await orNull(calls.lstat(path))
  if (!found) return 'missing'
  if (!found.isDirectory()) throw oddity(path, 'is not a directory')
  const { files, access } = await readFiles(path, names, constants.O_NOFOLLOW, calls)
  if (files.size === 0) return null
  const previous = await readPreviousName(directory, name, calls)
  const undelivered = await readUndelivered(path, calls)
  return { name, files, access, previous, undelivered }
}

async function readPlain(directory: string, names: readonly string[], calls: ReadingCalls): Promise<Generation | null> {
  const { files, access } = await readFiles(directory, names, 0, calls)
  return files.size === 0 ? null : { name: '', files, access, previous: null, undelivered: [] }
}

async function readPreviousName(directory: string, name: string, calls: ReadingCalls): Promise<string | null> {
  const file = await readRegularFile(join(directory, name, previousFile), constants.O_NOFOLLOW, calls)
  const previous = file?.data.toString('latin1') ?? ''
  return generationPattern.test(previous) ? previous : null
}

/** What is damaged counts as settled: what had to follow is lost, but is no reason to stop. */
async function readUndelivered(generation: string, calls: ReadingCalls): Promise<readonly string[]> {
  const file = await readRegularFile(join(generation, undeliveredFile), constants.O_NOFOLLOW, calls)
  if (!file) return []
  try {
    const list: unknown = JSON.parse(file.data.toString('utf8'))
    return Array.isArray(list) ? list.filter((entry) => typeof entry === 'string') : []
  } catch {
    return []
  }
}

async function readFiles(
  directory: string,
  names: readonly string[],
  flags: number,
  calls: ReadingCalls,
): Promise<Pick<Generation, 'files' | 'access'>> {
  const files = new Map<string, Buffer>()
  const access = new Map<string, Access>()
  for (const name of names) {
    const file = await readRegularFile(join(directory, name), flags, calls)
    if (!file) continue
    files.set(name, file.data)
    access.set(name, file.access)
  }
  return { files, access }
}

/** More than any key, chain or bundle has: what is larger is something else, and is not taken into memory. */
export const mostOctets = 64 * 1024 * 1024

export function tooLarge(path: string): CertgenError {
  const hints = ['keys, certificates and bundles are at most 64 MB: check that it is the right file']
  return new CertgenError('unreadable', `${path} is too large`, { hints })
}

function notRegular(path: string, cause?: unknown): CertgenError {
  const hints = ['look what it is with ls -l, and put a file in its place']
  return new CertgenError('unreadable', `${path} is not a regular file`, { cause, hints })
}

/**
 * A file whole, with what the system says of the very file that was read, whatever its name has become since; null when
 * there is none. Never waits for anybody. Throws CertgenError `unreadable` for what is no regular file, or larger than
 * 64 MB, and the system's errors as they are.
 */
export async function readRegularFile(
  path: string,
  flags: number,
  { open }: ReadingCalls = directCalls,
): Promise<{ data: Buffer; access: Access } | null> {
  let handle: ReadableFile | undefined
  try {
    // O_NONBLOCK: opening a named pipe would wait for its writer for ever.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | flags)
    const found = await handle.stat()
    if (!found.isFile()) throw notRegular(path)
    if (found.size > mostOctets) throw tooLarge(path)
    const { mode, uid, gid } = found
    return { data: await handle.readFile(), access: { mode: mode & 0o777, uid, gid } }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    // ELOOP: a symbolic link, refused by O_NOFOLLOW; ENXIO: a socket, or a device without a driver.
    throw errnoOf(error) === 'ELOOP' || errnoOf(error) === 'ENXIO' ? notRegular(path, error) : error
  } finally {
    await handle?.close()
  }
}

// ---------------------------------------------------------------------------------------------------------- writing

/** What is known of the directory while it is written. */
interface Target {
  readonly directory: string
  readonly files: readonly FileContent[]
  readonly options: WriteOptions
}

/**
 * Swaps a new generation in: the algorithm of Kubernetes' AtomicWriter, made durable.
 *
 * 1. Refuse what cannot be written over, then make the directory.
 * 2. Take over: files that are no links of certgen's yet become links to a generation with copies of them.
 * 3. Write the files, durably and with their final modes, into a fresh generation directory.
 * 4. Swap: rename a new symbolic link over `..data`.
 * 5. Make the visible links; remove those of names that are no longer there.
 * 6. Remove every generation but this one and the one before.
 *
 * `leftovers` are the entries that step 6 could not remove; the next write tries again. Throws CertgenError
 * `write-failed`: the directory then holds its old generation, and nothing of the new one, or, when step 4 was done, the
 * complete new one, and says which. A CertgenError of `beforeSwap` is passed on as it is. Writers of one directory must
 * keep each other out: see lock.ts.
 */
export async function writeGeneration(
  directory: string,
  files: readonly FileContent[],
  options: WriteOptions,
): Promise<{ readonly name: string; readonly leftovers: readonly string[] }> {
  requirePlainNames(files)
  const target: Target = { directory, files, options }
  const name = makeName(options.now)
  const created: string[] = []
  try {
    await refuseOddities(target) // 1
    created.push(...(await makeDirectory(directory, options.directoryMode))) // 1
    await settleMode(directory, options, created.length > 0) // 1
    const previous = await settlePresent(target) // 2
    await fillGeneration(target, name, files, previous, options.undelivered ?? []) // 3
    await publish(target, name) // 4
    await makeLinks(directory, names(files)) // 5
    const entries = await readEntries(directory)
    await removeDroppedLinks(target, entries) // 5
    return { name, leftovers: await removeStale(directory, entries, [name, previous]) } // 6
  } catch (error) {
    throw await abandon(target, name, created, error)
  }
}

function names(files: readonly FileContent[]): string[] {
  return files.map(({ name }) => name)
}

function requirePlainNames(files: readonly FileContent[]): void {
  for (const name of names(files)) {
    const plain = name.startsWith(hiddenPrefix) ? name.slice(hiddenPrefix.length) : name
    if (!/^[^/\0]+$/.test(plain) || plain === '.' || plain.startsWith('..')) {
      throw new CertgenError('usage', `not a plain file name: ${JSON.stringify(name)}`)
    }
  }
  if (new Set(names(files)).size < files.length) {
    throw new CertgenError('usage', `two files of one name: ${names(files).join(', ')}`)
  }
}

/** Step 1: whatever a rename could not replace, or must not, before anything is written. */
async function refuseOddities({ directory, files }: Target): Promise<void> {
  await assertReplaceable(directory, names(files))
}

/** Throws CertgenError `write-failed` when something stands in a directory that a write could not replace, or must not. */
export async function assertReplaceable(directory: string, names: readonly string[]): Promise<void> {
  const data = await lstatOrNull(join(directory, current))
  if (data && !data.isSymbolicLink()) {
    throw new CertgenError('write-failed', `cannot write ${directory}: ${current} is not a symbolic link`, {
      hints: [`move ${join(directory, current)} away`],
    })
  }
  for (const name of names) {
    const found = await visibleFile(directory, name)
    if (found?.isFile()) await refuseMount(directory, name)
    if (!found || found.isFile()) continue
    throw new CertgenError('write-failed', `cannot write ${directory}: ${name} is there and is no file`, {
      hints: [`move ${join(directory, name)} away, or give another directory`],
    })
  }
}

/** Of another file system than its directory, it is mounted there by itself: found out now, and not half-way. */
async function refuseMount(directory: string, name: string): Promise<void> {
  const [own, around] = [await lstat(join(directory, name)), await stat(directory)]
  if (own.isSymbolicLink() || own.dev === around.dev) return
  throw new CertgenError('write-failed', `cannot write ${directory}: ${name} is a mount of its own`, {
    hints: [singleMountHint],
  })
}

const singleMountHint =
  'a file that is a mount of its own cannot be replaced: mount the directory in place of the single file'

/** What stands at a visible name, seen through foreign links; null when it is nothing or certgen's own link. */
async function visibleFile(directory: string, name: string): Promise<Stats | null> {
  if (await isOwnLink(directory, name)) return null
  return orNull(stat(join(directory, name)))
}

/** Step 1: what a directory is opened to is its owner's choice, but for a new one, and for an authority's. */
async function settleMode(directory: string, options: WriteOptions, isNew: boolean): Promise<void> {
  await withDirectory(directory, 0, async (handle) => {
    const mode = (await handle.stat()).mode & 0o777
    if (isNew) {
      if (options.owner) await handle.chown(options.owner.uid, options.owner.gid)
      await handle.chmod(options.directoryMode)
    } else if (options.directoryMode === 0o700 && (mode & 0o077) !== 0) {
      // A directory of the authority lets nobody else in (I3).
      await handle.chmod(0o700)
    }
  })
}

/**
 * Step 2: brings what is there into the shape that a single rename can swap, without a change to what any name reads
 * as. Returns the name of the generation that is then current.
 */
async function settlePresent(target: Target): Promise<string | null> {
  const { directory } = target
  const name = await readCurrentName(directory)
  if (name === null) return takeOver(target)
  const present = await orNull(readEntries(join(directory, name)))
  if (!present) return null
  // Links that a crash left out, or an interrupted take-over, are made before the swap: a name that is still an ordinary
  // file would not go with it.
  await makeLinks(directory, names(target.files))
  return name
}

/** Step 2, for a directory that has no `..data` yet. */
async function takeOver(target: Target): Promise<string | null> {
  const { directory } = target
  const copies: PresentFile[] = []
  for (const file of target.files) {
    const copy = await readPresent(directory, file)
    if (copy) copies.push(copy)
  }
  if (copies.length === 0) return null
  const name = makeName(target.options.now)
  try {
    await fillGeneration(target, name, copies, null, [])
    await publish(target, name)
    await makeLinks(directory, names(copies))
    return name
  } catch (error) {
    // Unless some names go through `..data` already, the directory becomes the plain one again that it was.
    const linked = await Promise.all(copies.map((copy) => isOwnLink(directory, copy.name)))
    if (!linked.includes(true)) await discard(directory, name)
    throw error
  }
}

/** A file that was there before certgen, with the owner it had. */
interface PresentFile extends FileContent {
  readonly owner: { readonly uid: number; readonly gid: number }
}

async function readPresent(directory: string, file: FileContent): Promise<PresentFile | null> {
  const found = await visibleFile(directory, file.name)
  const present = found && (await readRegularFile(join(directory, file.name), 0))
  if (!present) return null
  // Of the file that was read: whoever may write here could have another's secret copied with the mode of his own.
  const { mode, uid, gid } = present.access
  const asRoot = process.geteuid?.() === 0
  // Who could read it still can, and nobody else: only root can give a copy to another user or group, so that without
  // root the group that the copy would have gets nothing unless it is the same.
  const sameGroup = asRoot || gid === process.getegid?.()
  const owner = asRoot ? { uid, gid } : { uid: -1, gid: -1 }
  return { name: file.name, data: present.data, mode: mode & file.mode & (sameGroup ? 0o777 : 0o707), owner }
}

/** Step 3. */
async function fillGeneration(
  { directory, options }: Target,
  name: string,
  files: readonly (FileContent | PresentFile)[],
  previous: string | null,
  follows: readonly string[],
): Promise<void> {
  const path = join(directory, name)
  // Exclusive, and closed to everybody else until all is in it (I3).
  await mkdir(path, 0o700)
  const all = [...files, { name: previousFile, data: previous ?? '', mode: 0o644 }]
  if (follows.length > 0) all.push({ name: undeliveredFile, data: JSON.stringify(follows), mode: 0o644 })
  await writeNewFiles(path, all, options.owner)
  await withDirectory(path, constants.O_NOFOLLOW, async (handle) => {
    if (options.owner) await handle.chown(options.owner.uid, options.owner.gid)
    await handle.chmod(options.directoryMode)
    await syncHandle(handle)
  })
}

/** The files one after the other, then durable all at once: what one of them waits for serves the others. */
async function writeNewFiles(
  directory: string,
  files: readonly (FileContent & Partial<Pick<PresentFile, 'owner'>>)[],
  owner: WriteOptions['owner'],
): Promise<void> {
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_WRONLY
  const handles: OpenFile[] = []
  try {
    for (const file of files) {
      const handle = await open(join(directory, file.name), flags, file.mode)
      handles.push(handle)
      // Owner, then mode, which the umask may have narrowed, then the secret: it is never anybody else's to read (I3).
      const owning = file.owner ?? owner
      if (owning) await handle.chown(owning.uid, owning.gid)
      await handle.chmod(file.mode)
      await handle.writeFile(file.data)
    }
    const synced = await Promise.allSettled(handles.map((handle) => handle.sync()))
    const failed = synced.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  } finally {
    for (const handle of handles) await handle.close()
  }
}

/** Step 4. */
async function publish({ directory, options }: Target, name: string): Promise<void> {
  await options.beforeSwap?.()
  const temporary = join(directory, nextCurrent)
  // What a killed run left there would make symlink() fail for ever.
  await remove(temporary)
  await symlink(name, temporary)
  await rename(temporary, join(directory, current))
  await syncDirectory(directory)
}

/** Step 5: a link to a file that the generation no longer has reads as damage. */
async function removeDroppedLinks({ directory, files }: Target, entries: readonly Dirent[]): Promise<void> {
  const kept = new Set(names(files))
  let removed = false
  for (const entry of entries) {
    if (!entry.isSymbolicLink() || kept.has(entry.name) || !(await isOwnLink(directory, entry.name))) continue
    await unlink(join(directory, entry.name))
    removed = true
  }
  if (removed) await syncDirectory(directory)
}

/** Step 6: returns what could not be removed. */
async function removeStale(
  directory: string,
  entries: readonly Dirent[],
  kept: readonly (string | null)[],
): Promise<string[]> {
  const stale = entries.filter((entry) => {
    if (entry.isDirectory()) return generationPattern.test(entry.name) && !kept.includes(entry.name)
    return entry.isSymbolicLink() && (entry.name === nextCurrent || entry.name.startsWith(linkPrefix))
  })
  const leftovers: string[] = []
  for (const { name } of stale) {
    // The new generation is in place and complete: what is in its way here is worth a word, but no failure.
    await remove(join(directory, name)).catch(() => leftovers.push(name))
  }
  return leftovers
}

/** After a failure: removes what is not published, and returns the error that says what the directory holds. */
async function abandon(target: Target, name: string, created: readonly string[], error: unknown): Promise<unknown> {
  const { directory } = target
  // The link is asked and not our memory of the rename: over a network one may fail and yet have happened.
  // Where it cannot be asked, nothing is removed: that may be what everybody reads.
  const published = await orNull(readlink(join(directory, current))).catch(() => undefined)
  if (published === name) {
    return writeError(directory, error, ['the new generation is complete and in use, but may not survive a power cut'])
  }
  if (published !== undefined) {
    // The error that led here says more than one of the cleaning would, and the next write cleans again.
    await discard(directory, name).catch(() => undefined)
    for (const path of created.toReversed()) await rmdir(path).catch(() => undefined)
  }
  if (error instanceof CertgenError && error.code !== 'unreadable') return error
  return writeError(directory, error, [])
}

/** Removes a generation, and `..data` with it if that points to it, and the link that was to become `..data`. */
async function discard(directory: string, name: string): Promise<void> {
  for (const link of [current, nextCurrent]) {
    const target = await orNull(readlink(join(directory, link)))
    if (target === name) await unlink(join(directory, link))
  }
  await remove(join(directory, name))
}

// --------------------------------------------------------------------------------------------------------- delivery

/**
 * Notes what of the current generation has still to follow its swap; nothing is left when `left` is empty. Does nothing
 * when another generation is current by now: what has to follow is that one's. Throws CertgenError `write-failed`.
 */
export async function settleDelivery(directory: string, generation: string, left: readonly string[]): Promise<void> {
  try {
    const path = join(directory, generation)
    if ((await readCurrentName(directory)) !== generation) return
    if (left.length > 0) {
      await writeFileAtomically(join(path, undeliveredFile), JSON.stringify(left), 0o644)
    } else {
      await remove(join(path, undeliveredFile))
      await syncDirectory(path)
    }
  } catch (error) {
    throw error instanceof CertgenError ? error : writeError(directory, error, [])
  }
}

// ------------------------------------------------------------------------------------------------------------ links

/**
 * Makes the visible links that are missing or wrong, of those names that the current generation has. Returns whether
 * there were any; otherwise nothing is touched. Throws CertgenError `write-failed`.
 */
export async function repairLinks(directory: string, names: readonly string[]): Promise<boolean> {
  try {
    return await makeLinks(directory, names)
  } catch (error) {
    throw writeError(directory, error, [])
  }
}

async function makeLinks(directory: string, names: readonly string[]): Promise<boolean> {
  let made = false
  for (const name of names) {
    if (name.startsWith(hiddenPrefix) || (await isOwnLink(directory, name))) continue
    // A link to nothing helps nobody (kubernetes 93686).
    if (!(await lstatOrNull(join(directory, current, name)))) continue
    await replaceByLink(directory, name)
    made = true
  }
  if (made) await syncDirectory(directory)
  return made
}

/** By rename, so that the name is never missing. */
async function replaceByLink(directory: string, name: string): Promise<void> {
  const temporary = join(directory, `${linkPrefix}${randomBytes(6).toString('hex')}`)
  await symlink(`${current}/${name}`, temporary)
  try {
    await rename(temporary, join(directory, name))
  } catch (error) {
    await remove(temporary)
    throw error
  }
}

async function isOwnLink(directory: string, name: string): Promise<boolean> {
  const target = await readlink(join(directory, name)).catch((error: unknown) => {
    if (errnoOf(error) === 'EINVAL' || errnoOf(error) === 'ENOENT') return null
    throw error
  })
  return target === `${current}/${name}`
}

// ------------------------------------------------------------------------------------------------------ directories

/**
 * `mkdir -p`, durable. Returns the directories that were created, outermost first. Those on the way are made 0755: the
 * directory's own mode may be too narrow for what else goes there, and a umask of 0 too wide for what lies below.
 */
export async function makeDirectory(path: string, mode: number): Promise<string[]> {
  try {
    return await makeOneDirectory(path, mode)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error
    return [...(await makeDirectory(dirname(path), 0o755)), ...(await makeOneDirectory(path, mode))]
  }
}

async function makeOneDirectory(path: string, mode: number): Promise<string[]> {
  try {
    await mkdir(path, mode)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    if ((await orNull(stat(path)))?.isDirectory()) return []
    // Neither there nor in the way: another run has just taken it back.
    if (!(await lstatOrNull(path))) return makeOneDirectory(path, mode)
    throw new CertgenError('write-failed', `cannot make ${path}: there is something else of that name`, {
      hints: [`move ${path} away, or give another directory`],
    })
  }
  await syncDirectory(dirname(path))
  return [path]
}

/** Makes the entries of a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  await withDirectory(path, 0, syncHandle)
}

async function withDirectory(path: string, flags: number, use: (handle: OpenFile) => Promise<void>): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | flags)
  try {
    await use(handle)
  } finally {
    await handle.close()
  }
}

async function syncHandle(handle: OpenFile): Promise<void> {
  await handle.sync().catch((error: unknown) => {
    // Some file systems (FUSE, CIFS) have no fsync for directories; there is nothing else to be done there.
    if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP'].includes(errnoOf(error) ?? '')) throw error
  })
}

function lstatOrNull(path: string): Promise<Stats | null> {
  return orNull(lstat(path))
}

async function orNull<T>(promise: Promise<T>): Promise<T | null> {
  return promise.catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
}

// ----------------------------------------------------------------------------------------------------------- errors

/** The system's name of an error, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

const readHints: Readonly<Record<string, string>> = {
  EACCES: 'run as the owner of the directory, or let this user read it',
  ENOTDIR: 'a part of its path is no directory',
  ELOOP: 'a part of its path is a symbolic link that leads to itself',
  EIO: "its disk fails: look at the kernel's log",
}

const errnoHints: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space on its file system',
  EDQUOT: 'free some space, or have the quota raised',
  EIO: "its disk fails: look at the kernel's log",
  EROFS: 'its file system is mounted read-only: mount it read-write',
  EACCES: 'run as the owner of the directory, or let this user write there',
  EPERM: 'run as the owner of the directory; only root can give files to another owner',
  EBUSY: singleMountHint,
  ENOENT: 'the directory was removed or replaced meanwhile: run again',
  ENOTDIR: 'a part of its path is no directory',
  EISDIR: 'a directory stands in the place of a file: move it away',
  ELOOP: 'a part of its path is a symbolic link that leads to itself',
}

/** A failure to write, with what can be done about it. */
export function writeError(directory: string, error: unknown, hints: readonly string[]): CertgenError {
  const hint = errnoHints[errnoOf(error) ?? '']
  const all = hint === undefined ? hints : [hint, ...hints]
  return new CertgenError('write-failed', `cannot write ${directory}: ${reasonOf(error)}`, { hints: all, cause: error })
}
