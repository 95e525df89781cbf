import { constants } from 'node:fs'
import { dirname } from 'node:path'
import { CertgenError } from '../errors.ts'
import { lstat, mkdir, open, stat } from './system-calls.ts'
import type { OpenFile } from './system-calls.ts'
import { errnoOf, orNull } from './system-errors.ts'

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
    if (!(await orNull(lstat(path)))) return makeOneDirectory(path, mode)
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

/** Opens a directory and closes it again. `flags` besides those that opening a directory takes. */
export async function withDirectory(
  path: string,
  flags: number,
  use: (handle: OpenFile) => Promise<void>,
): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | flags)
  try {
    await use(handle)
  } finally {
    await handle.close()
  }
}

/** Makes an open directory durable. */
export async function syncHandle(handle: OpenFile): Promise<void> {
  await handle.sync().catch((error: unknown) => {
    // Some file systems (FUSE, CIFS) have no fsync for directories; there is nothing else to be done there.
    if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP'].includes(errnoOf(error) ?? '')) throw error
  })
}
