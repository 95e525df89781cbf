import { CertgenError } from '../errors.ts'

/** The system's name of an error, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}

/** What the promise gives; null where what it looks for is not there. */
export async function orNull<T>(promise: Promise<T>): Promise<T | null> {
  return promise.catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
}

/** What an error says. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

const readHints: Readonly<Record<string, string>> = {
  EACCES: 'run as the owner of the directory, or let this user read it',
  ENOTDIR: 'a part of its path is no directory',
  ELOOP: 'a part of its path is a symbolic link that leads to itself',
  EIO: "its disk fails: look at the kernel's log",
}

/** A file that is a mount of its own cannot be renamed over. */
export const singleMountHint =
  'a file that is a mount of its own cannot be replaced: mount the directory in place of the single file'

const writeHints: Readonly<Record<string, string>> = {
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

/** A failure to read, with what can be done about it. */
export function readError(directory: string, error: unknown): CertgenError {
  const hint = readHints[errnoOf(error) ?? '']
  const hints = hint === undefined ? [] : [hint]
  return new CertgenError('unreadable', `cannot read ${directory}: ${reasonOf(error)}`, { cause: error, hints })
}

/** A failure to write, with what can be done about it. */
export function writeError(directory: string, error: unknown, hints: readonly string[]): CertgenError {
  const hint = writeHints[errnoOf(error) ?? '']
  const all = hint === undefined ? hints : [hint, ...hints]
  return new CertgenError('write-failed', `cannot write ${directory}: ${reasonOf(error)}`, { hints: all, cause: error })
}
