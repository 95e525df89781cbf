import { constants } from 'node:fs'
import { join } from 'node:path'
import { readRegularFile } from '../regular-file.ts'
import { lstat, readEntries, remove, rename } from '../system-calls.ts'
import { orNull } from '../system-errors.ts'
import { writeNewFiles } from './fill.ts'
import { isOwnLink, replaceByLink } from './links.ts'
import { hiddenPrefix, uniqueName } from './name.ts'

const wakePrefix = '..wake.'

/**
 * Tells those of a swap who do not watch the directory for `..data`. Nothing that anybody reads changes by it.
 *
 * a. Every file of the generation before is written again under a new inode. Who watches an inode behind the links
 *    (k8s.io/apiserver) gets what a kubelet's removal of the old folder gives: the end of the inode, and looks up the
 *    path again. Readers that are half-way through that generation still find its files.
 * b. Every visible link is renamed onto itself, so that who looks for the file's own name among the directory's events
 *    (ZooKeeper) sees it.
 *
 * Who polls by time, size, inode or content needs neither. Throws the system's errors; whatever has been done by then is
 * of use.
 */
export async function wakeWatchers(
  directory: string,
  names: readonly string[],
  previous: string | null,
): Promise<void> {
  if (previous !== null) await renewInodes(join(directory, previous)) // a
  for (const name of names) {
    // b. Where the name is something else by now, that is somebody's choice.
    if (!name.startsWith(hiddenPrefix) && (await isOwnLink(directory, name))) await replaceByLink(directory, name)
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

async function renewInodes(generation: string): Promise<void> {
  // A later run has removed it: who watched it has been told by that.
  for (const entry of (await orNull(readEntries(generation))) ?? []) {
    if (!entry.isFile() || entry.name.startsWith('..')) continue
    const file = await readRegularFile(join(generation, entry.name), constants.O_NOFOLLOW)
    if (!file) continue
    const { mode, uid, gid } = file.access
    const name = uniqueName(wakePrefix)
    const owner = { uid, gid }
    try {
      await writeNewFiles(generation, [{ name, data: file.data, mode, owner }], undefined)
      await rename(join(generation, name), join(generation, entry.name))
    } catch (error) {
      await remove(join(generation, name))
      throw error
    }
  }
}
