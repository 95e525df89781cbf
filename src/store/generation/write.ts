import type { Dirent } from 'node:fs'
import { join } from 'node:path'
import { CertgenError } from '../../errors.ts'
import { conflict } from '../conflict.ts'
import { makeDirectory, withDirectory } from '../directory.ts'
import { lstat, readEntries, rmdir, stat } from '../system-calls.ts'
import { orNull, reasonOf, singleMountHint, writeError } from '../system-errors.ts'
import { fillGeneration, namesOf } from './fill.ts'
import type { FileContent } from './fill.ts'
import { makeLinks, removeDroppedLinks, visibleFile } from './links.ts'
import { current, hiddenPrefix, makeName, tagOf } from './name.ts'
import { newestWhole, readCurrentLink } from './read.ts'
import { swap } from './swap.ts'
import { takeOver } from './take-over.ts'
import type { TakeOverOptions } from './take-over.ts'
import { defaultRetention, discardUnpublished, tidy } from './tidy.ts'
import type { Retention } from './tidy.ts'
import { wakeWatchers } from './wake.ts'
import type { Waking } from './wake.ts'

export interface WriteOptions extends TakeOverOptions {
  /** The instant that names the generation. */
  readonly now: Date
  /** Of generation directories, and of the directory itself where it is created: 0o700 for `ca`, 0o755 for targets. */
  readonly directoryMode: number
  /** What `..data` said when the content was decided upon; null: there was none. Left out: whatever is there. */
  readonly upon?: string | null
  /** What has to follow the swap, published with it: see Generation. */
  readonly undelivered?: readonly string[]
  readonly retention?: Retention
  /** As Waking.isWatched; default: all. */
  readonly isWatched?: (name: string) => boolean
}

/** What a write could not do beside the swap, which stands; for people. */
export interface WriteWarning {
  readonly code: 'not-woken'
  readonly message: string
}

export interface Written {
  /** The generation's name. */
  readonly name: string
  /** What could not be done beside the swap. */
  readonly warnings: readonly WriteWarning[]
  /** Entries that could not be removed; the next write tries again. */
  readonly leftovers: readonly string[]
}

/**
 * Swaps a new generation in: the algorithm of Kubernetes' AtomicWriter, made durable, and harmless for whoever comes late.
 *
 * 1. Refuse what cannot be written over, then make the directory.
 * 2. Refuse what was decided upon another generation than the current one. Take over: files that are no links of
 *    certgen's yet become links to a generation with copies of them.
 * 3. Write the files, durably and with their final modes, into a fresh generation directory.
 * 4. Swap: rename a new symbolic link over `..data`, unless another run has been here since step 2 (see swap).
 * 5. Make the visible links; remove those of names that are no longer there.
 * 6. Wake who does not watch the directory (see wakeWatchers).
 * 7. If the lock is still held, remove what has been superseded for long (see tidy).
 *
 * Steps 6 and 7 fail nothing: the new generation is in place. Throws CertgenError `write-failed`: the directory then holds
 * its old generation, and nothing of the new one, or, when step 4 was done, the complete new one, and says which;
 * `conflict` when another run has published since the content was decided upon. A CertgenError of `beforeSwap` is passed
 * on as it is. Writers of one directory should keep each other out (see lock.ts): where they do not, one of them swaps.
 */
export async function writeGeneration(
  directory: string,
  files: readonly FileContent[],
  options: WriteOptions,
): Promise<Written> {
  const names = namesOf(files)
  requirePlainNames(names)
  const { directoryMode, owner, undelivered = [], isWatched = () => true } = options
  const name = makeName(options.now)
  const created: string[] = []
  try {
    await assertReplaceable(directory, names) // 1
    created.push(...(await makeDirectory(directory, directoryMode))) // 1
    await settleMode(directory, options, created.length > 0) // 1
    const { link, previous } = await settlePresent(directory, files, options, tagOf(name)) // 2
    await fillGeneration(directory, {
      ...{ name, files, previous, undelivered, directoryMode },
      ...(owner ? { owner } : {}),
    }) // 3
    await swap(directory, name, link, options) // 4
    await makeLinks(directory, names, tagOf(name)) // 5
    const entries = await readEntries(directory)
    await removeDroppedLinks(directory, names, entries) // 5
    const warnings = await wake(directory, { names, previous, tag: tagOf(name), isWatched }) // 6
    return { name, warnings, leftovers: await tidyIfHeld(directory, entries, name, options) } // 7
  } catch (error) {
    throw await abandon(directory, name, created, error)
  }
}

function requirePlainNames(names: readonly string[]): void {
  for (const name of names) {
    const plain = name.startsWith(hiddenPrefix) ? name.slice(hiddenPrefix.length) : name
    if (!/^[^/\0]+$/.test(plain) || plain === '.' || plain.startsWith('..')) {
      throw new CertgenError('usage', `not a plain file name: ${JSON.stringify(name)}`)
    }
  }
  if (new Set(names).size < names.length) {
    throw new CertgenError('usage', `two files of one name: ${names.join(', ')}`)
  }
}

/**
 * Step 1: throws CertgenError `write-failed` when something stands in a directory that a rename could not replace, or must
 * not.
 */
export async function assertReplaceable(directory: string, names: readonly string[]): Promise<void> {
  const data = await orNull(lstat(join(directory, current)))
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

/** Step 2. `link`: what `..data` says then; `previous`: the generation that the new one takes the place of. */
async function settlePresent(
  directory: string,
  files: readonly FileContent[],
  options: WriteOptions,
  tag: string,
): Promise<{ readonly link: string | null; readonly previous: string | null }> {
  const link = await readCurrentLink(directory)
  if (options.upon !== undefined && link !== options.upon) throw conflict(directory)
  if (link === null) {
    const taken = await takeOver(directory, files, options)
    return { link: taken, previous: taken }
  }
  // Of a `..data` that leads nowhere, what stands in for it is what can be gone back to.
  if (!(await orNull(lstat(join(directory, link))))) return { link, previous: await newestWhole(directory, []) }
  // Links that a crash left out, or an interrupted take-over, are made before the swap: a name that is still an ordinary
  // file would not go with it.
  await makeLinks(directory, namesOf(files), tag)
  return { link, previous: link }
}

/** Step 6. */
async function wake(directory: string, waking: Waking): Promise<readonly WriteWarning[]> {
  try {
    await wakeWatchers(directory, waking)
    return []
  } catch (error) {
    const message = `${directory} is written, but who watches single files in it may not notice: ${reasonOf(error)}`
    return [{ code: 'not-woken', message }]
  }
}

/** Step 7. Whoever has lost the lock, or cannot look, leaves everything to the next run. */
async function tidyIfHeld(
  directory: string,
  entries: readonly Dirent[],
  name: string,
  options: WriteOptions,
): Promise<readonly string[]> {
  try {
    await options.beforeSwap?.()
    return await tidy(directory, entries, name, options.retention ?? defaultRetention)
  } catch {
    return []
  }
}

/** After a failure: removes what is not published, and returns the error that says what the directory holds. */
async function abandon(directory: string, name: string, created: readonly string[], error: unknown): Promise<unknown> {
  // The error that led here says more than one of the cleaning would, and a later write cleans again.
  const published = await discardUnpublished(directory, name).catch(() => false)
  if (published === true) {
    return writeError(directory, error, ['the new generation is complete and in use, but may not survive a power cut'])
  }
  if (published === false) for (const path of created.toReversed()) await rmdir(path).catch(() => undefined)
  if (error instanceof CertgenError && error.code !== 'unreadable') return error
  return writeError(directory, error, [])
}
