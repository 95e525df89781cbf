import { join } from 'node:path'
import { CertgenError } from '../errors.ts'
import { readEntries, readlink } from './system-calls.ts'

/**
 * Directories that hold something else than what is to be written there, as far as their links tell. A swap would take it
 * away from those who read it: another configuration, or another command, knows nothing of this one.
 */

const authorityKey = 'ca.key'

/** Throws CertgenError `usage` for the directory of an authority, where a leaf is to be written. */
export async function refuseAuthority(directory: string): Promise<void> {
  if (!(await isSwapped(directory, authorityKey))) return
  throw new CertgenError('usage', `${directory} is the directory of an authority, and was left as it is`, {
    hints: ['give the leaf a directory of its own'],
  })
}

/** Throws CertgenError `usage` for a target, where an authority with files of these names is to be. */
export async function refuseTarget(directory: string, authorityFiles: readonly string[]): Promise<void> {
  const entries = await readEntries(directory).catch(() => [])
  for (const { name } of entries) {
    if (name.startsWith('.') || authorityFiles.includes(name) || !(await isSwapped(directory, name))) continue
    throw new CertgenError('usage', `${directory} is a target, and not the directory of an authority`, {
      hints: ['give the authority a directory of its own'],
    })
  }
}

/** Whether a name is a link of a swap, and so certgen's or Kubernetes' own. */
async function isSwapped(directory: string, name: string): Promise<boolean> {
  return readlink(join(directory, name)).then(
    (link) => link === `..data/${name}`,
    () => false,
  )
}
