import { constants } from 'node:fs'
import { join } from 'node:path'
import { readRegularFile } from '../regular-file.ts'
import type { Access } from '../regular-file.ts'
import { lstat, readEntries, remove, rename } from '../system-calls.ts'
import { orNull } from '../system-errors.ts'
import { writeNewFiles } from './fill.ts'
import { isOwnLink, replaceByLink } from './links.ts'
import { hiddenPrefix } from './name.ts'

const wakePrefix = '..wake.'

/** A swap that has been made. */
export interface Waking {
  /** The files of the new generation. */
  readonly names: readonly string[]
  /** The generation that it took the place of. */
  readonly previous: string | null
  /** The writer's. */
  readonly tag: string
  /** Which files of the generation before are worth it. */
  readonly isWatched: (name: string) => boolean
}

/**
 * Tells those of a swap who do not watch the directory for `..data`. Nothing that anybody reads changes by it.
 *
 * a. Every file of the generation before is written again under a new inode. Who watches an inode behind the links
 *    (k8s.io/apiserver) gets what a kubelet's removal of the old folder gives: the end of the inode, and looks up the
 *    path again. Readers that are half-way through that generation still find its files.
 * b. Every visible link is renamed onto itself, so that who looks for the file's own name among the directory's events
 *    (ZooKeeper) sees it.
 *
 * Who polls by time, size, inode or content needs neither. None of it is waited for on the disk: it is the generation
 * before, and cost and delay of a rotation would double. Throws the system's errors; whatever has been done by then is of
 * use.
 */
export async function wakeWatchers(directory: string, { names, previous, tag, isWatched }: Waking): Promise<void> {
  if (previous !== null) await renewInodes(join(directory, previous), tag, isWatched) // a
  for (const name of names) {
    // b. Where the name is something else by now, that is somebody's choice.
    if (!name.startsWith(hiddenPrefix) && (await isOwnLink(directory, name))) await replaceByLink(directory, name, tag)
  }
}

async function renewInodes(generation: string, tag: string, isWatched: (name: string) => boolean): Promise<void> {
  // A later run may have removed it: who watched it has been told by that.
  for (const entry of (await orNull(readEntries(generation))) ?? []) {
    if (!entry.isFile() || entry.name.startsWith('..') || !isWatched(entry.name)) continue
    const file = await readRegularFile(join(generation, entry.name), constants.O_NOFOLLOW)
    if (file) await orNull(renewInode(generation, entry.name, file, tag))
  }
}

/** By rename, so that the name is never missing. */
async function renewInode(
  generation: string,
  name: string,
  { data, access: { mode, uid, gid } }: { readonly data: Buffer; readonly access: Access },
  tag: string,
): Promise<void> {
  const temporary = `${wakePrefix}${tag}.${name}`
  try {
    await writeNewFiles(generation, [{ name: temporary, data, mode, owner: { uid, gid } }], { durably: false })
    await rename(join(generation, temporary), join(generation, name))
  } catch (error) {
    await remove(join(generation, temporary))
    throw error
  }
}

/** Whether those who watch have been told that `name` took the place of `previous`: a run may be killed before it could. */
export async function isWoken(
  directory: string,
  names: readonly string[],
  name: string,
  previous: string | null,
): Promise<boolean> {
  if (previous === null) return true
  for (const file of names) {
    const before = await orNull(lstat(join(directory, previous, file)))
    const now = before && (await orNull(lstat(join(directory, name, file))))
    // Written again after the one that took its place was written.
    if (now) return before.mtimeMs >= now.mtimeMs
  }
  return true
}
