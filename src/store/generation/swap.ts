import { join } from 'node:path'
import { conflict } from '../conflict.ts'
import { syncDirectory } from '../directory.ts'
import { lstat, readEntries, rename, symlink, unlink } from '../system-calls.ts'
import { errnoOf, orNull } from '../system-errors.ts'
import { current, nextPrefix, tagOf } from './name.ts'
import { readCurrentLink } from './read.ts'

export interface SwapOptions {
  /** Asked before every swap; when it throws, nothing is swapped. The lock's fence. */
  readonly beforeSwap?: () => Promise<void>
}

/**
 * Makes `name` the current generation in place of `expected`, what `..data` says (null: there is none), and of nothing
 * else: a compare-and-swap, so that a run which stood still and whose lock was taken meanwhile changes nothing (I8).
 *
 * a. Make a link of our own to `name`, beside `..data`.
 * b. Remove the links that others have made to become `..data`: they cannot swap any more.
 * c. Look whether the lock is still held, and `..data` still says `expected`.
 * d. Rename the own link over `..data`; without it, another run was here at b.
 *
 * What c has seen holds at d, however long comes between. Of two that are here at once, one has its link removed by the
 * other: had both renamed, each would have come to b before the other came to a, but each comes to a before its own b.
 *
 * Throws CertgenError `conflict` when another run was faster, what `beforeSwap` throws, and the system's errors as they
 * are. Nothing is left behind then.
 */
export async function swap(
  directory: string,
  name: string,
  expected: string | null,
  { beforeSwap }: SwapOptions,
  tag = tagOf(name),
): Promise<void> {
  const own = `${nextPrefix}.${tag}`
  try {
    await symlink(name, join(directory, own)) // a
    await removeOthers(directory, own) // b
    await beforeSwap?.() // c
    if ((await readCurrentLink(directory)) !== expected) throw conflict(directory) // c
    await renameOwn(directory, own) // d
  } catch (error) {
    // The error that led here says more than one of the cleaning would, and the next swap cleans again.
    await orNull(unlink(join(directory, own))).catch(() => undefined)
    throw error
  }
  await syncDirectory(directory)
}

async function removeOthers(directory: string, own: string): Promise<void> {
  for (const entry of await readEntries(directory)) {
    if (!entry.isSymbolicLink() || !entry.name.startsWith(nextPrefix) || entry.name === own) continue
    await orNull(unlink(join(directory, entry.name)))
  }
}

async function renameOwn(directory: string, own: string): Promise<void> {
  try {
    await rename(join(directory, own), join(directory, current))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || !(await orNull(lstat(directory)))) throw error
    throw conflict(directory)
  }
}
