import { constants } from 'node:fs'
import { CertgenError } from '../errors.ts'
import { directCalls } from './system-calls.ts'
import type { ReadableFile, ReadingCalls } from './system-calls.ts'
import { errnoOf } from './system-errors.ts'

/** Permission bits and owner of a file. */
export interface Access {
  readonly mode: number
  readonly uid: number
  readonly gid: number
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
