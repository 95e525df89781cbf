import type { Dirent, Stats } from 'node:fs'
import { join } from 'node:path'
import { syncDirectory } from '../directory.ts'
import { lstat, readlink, remove, rename, stat, symlink, unlink } from '../system-calls.ts'
import { errnoOf, orNull } from '../system-errors.ts'
import { current, hiddenPrefix, linkPrefix } from './name.ts'

/**
 * Makes the visible links that are missing or wrong, of those names that the current generation has. Returns whether
 * there were any; otherwise nothing is touched. `tag`: the writer's.
 */
export async function makeLinks(directory: string, names: readonly string[], tag: string): Promise<boolean> {
  let made = false
  for (const name of names) {
    if (name.startsWith(hiddenPrefix) || (await isOwnLink(directory, name))) continue
    // A link to nothing helps nobody (kubernetes 93686).
    if (!(await orNull(lstat(join(directory, current, name))))) continue
    await replaceByLink(directory, name, tag)
    made = true
  }
  if (made) await syncDirectory(directory)
  return made
}

/** By rename, so that the name is never missing. */
export async function replaceByLink(directory: string, name: string, tag: string): Promise<void> {
  const temporary = join(directory, `${linkPrefix}${tag}.${name}`)
  await symlink(`${current}/${name}`, temporary)
  try {
    await rename(temporary, join(directory, name))
  } catch (error) {
    await remove(temporary)
    throw error
  }
}

/** A link to a file that the generation no longer has reads as damage. */
export async function removeDroppedLinks(
  directory: string,
  names: readonly string[],
  entries: readonly Dirent[],
): Promise<void> {
  const kept = new Set(names)
  let removed = false
  for (const entry of entries) {
    if (!entry.isSymbolicLink() || kept.has(entry.name) || !(await isOwnLink(directory, entry.name))) continue
    // Of a file that is there, it is not dropped: another run may have swapped since.
    if (await orNull(lstat(join(directory, current, entry.name)))) continue
    await unlink(join(directory, entry.name))
    removed = true
  }
  if (removed) await syncDirectory(directory)
}

/** Whether the name is a link through `..data` to the file of its own name. */
export async function isOwnLink(directory: string, name: string): Promise<boolean> {
  const target = await readlink(join(directory, name)).catch((error: unknown) => {
    if (errnoOf(error) === 'EINVAL' || errnoOf(error) === 'ENOENT') return null
    throw error
  })
  return target === `${current}/${name}`
}

/** What stands at a visible name, seen through foreign links; null when it is nothing or certgen's own link. */
export async function visibleFile(directory: string, name: string): Promise<Stats | null> {
  if (await isOwnLink(directory, name)) return null
  return orNull(stat(join(directory, name)))
}
