import { constants } from 'node:fs'
import { join } from 'node:path'
import { syncHandle, withDirectory } from '../directory.ts'
import { mkdir, open } from '../system-calls.ts'
import type { OpenFile } from '../system-calls.ts'
import { previousFile, undeliveredFile } from './name.ts'

/** A user and a group by their numbers; -1 leaves one as it is (chown(2)). */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

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
  /** Where it is not that of the others. */
  readonly owner?: Owner
}

export function namesOf(files: readonly FileContent[]): string[] {
  return files.map(({ name }) => name)
}

/** A generation that is to be made. */
export interface NewGeneration {
  readonly name: string
  readonly files: readonly FileContent[]
  /** The generation that it takes the place of; null for the first. */
  readonly previous: string | null
  /** What has to follow its publication. */
  readonly undelivered: readonly string[]
  readonly directoryMode: number
  readonly owner?: Owner
}

/** Writes a generation directory with its files, durably and with their final modes. Nobody can see it yet. */
export async function fillGeneration(
  directory: string,
  { name, files, previous, undelivered, directoryMode, owner }: NewGeneration,
): Promise<void> {
  const path = join(directory, name)
  // Exclusive, and closed to everybody else until all is in it (I3).
  await mkdir(path, 0o700)
  const all = [...files, { name: previousFile, data: previous ?? '', mode: 0o644 }]
  if (undelivered.length > 0) all.push({ name: undeliveredFile, data: JSON.stringify(undelivered), mode: 0o644 })
  await writeNewFiles(path, all, owner ? { durably: true, owner } : { durably: true })
  await withDirectory(path, constants.O_NOFOLLOW, async (handle) => {
    if (owner) await handle.chown(owner.uid, owner.gid)
    await handle.chmod(directoryMode)
    await syncHandle(handle)
  })
}

/**
 * The files one after the other, each with its final mode before anything is in it; then, if wanted, durable all at once:
 * what one of them waits for serves the others. `owner`: of those that do not say their own.
 */
export async function writeNewFiles(
  directory: string,
  files: readonly FileContent[],
  { durably, owner }: { readonly durably: boolean; readonly owner?: Owner },
): Promise<void> {
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_WRONLY
  const handles: OpenFile[] = []
  try {
    for (const file of files) {
      const owning = file.owner ?? owner
      // Nobody's but the owner's until it has its group.
      const handle = await open(join(directory, file.name), flags, owning ? 0o600 : file.mode)
      handles.push(handle)
      // Owner, then mode, which the umask may have narrowed, then the secret: it is never anybody else's to read (I3).
      if (owning) await handle.chown(owning.uid, owning.gid)
      await handle.chmod(file.mode)
      await handle.writeFile(file.data)
    }
    const synced = await Promise.allSettled(durably ? handles.map((handle) => handle.sync()) : [])
    const failed = synced.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  } finally {
    for (const handle of handles) await handle.close()
  }
}
