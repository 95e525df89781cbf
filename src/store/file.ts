import { randomBytes } from 'node:crypto'
import { lstat, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { CertgenError } from '../errors.ts'

/**
 * Writes one file that holds no secret: a fresh file in the same directory (another one may be another file system),
 * made durable, then renamed over the old. What is there and is no file is not replaced: as root, that would be the end
 * of /dev/null. Throws CertgenError `write-failed`; the file is then the old or the new one, whole, and the hint says
 * which.
 */
export async function writeFileAtomically(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await refuseOtherThanFile(path)
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`)
  let renamed = false
  try {
    const file = await open(temporary, 'wx', mode)
    try {
      await file.chmod(mode)
      await file.writeFile(data)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    renamed = true
    const directory = await open(dirname(path), 'r')
    await directory.sync().finally(() => directory.close())
  } catch (error) {
    await rm(temporary, { force: true })
    const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    throw new CertgenError('write-failed', `cannot write ${path}: ${reason}`, {
      cause: error,
      hints: [
        renamed
          ? 'the new file is in place, but may not survive a power cut: run it again'
          : 'check that its directory exists and can be written; the file itself is unchanged',
      ],
    })
  }
}

/** Looked at by itself: a link would not be followed but replaced, and /dev/stdout is one. */
async function refuseOtherThanFile(path: string): Promise<void> {
  // What cannot be looked at cannot be written either, and says so then.
  const found = await lstat(path).catch(() => null)
  if (found === null || found.isFile()) return
  throw new CertgenError('write-failed', `cannot write ${path}: it is there and is no file`, {
    hints: [
      found.isSymbolicLink()
        ? 'it is a symbolic link: give the name of the file that it points to'
        : 'give the name of a file; without --out, the result goes to standard output',
    ],
  })
}
