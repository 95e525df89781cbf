import { join } from 'node:path'
import { CertgenError } from '../../errors.ts'
import { lstat } from '../system-calls.ts'
import { orNull, writeError } from '../system-errors.ts'
import { makeLinks } from './links.ts'
import { newestWhole, readCurrentLink, readPreviousName } from './read.ts'
import { swap } from './swap.ts'
import { isWoken, wakeWatchers } from './wake.ts'

/** `generation`: `..data` led nowhere; `links`: names were missing or wrong; `watchers`: they had not been told of a swap. */
export type Repair = 'generation' | 'links' | 'watchers'

/**
 * Mends what a crash left around the current generation: a `..data` that leads nowhere leads to the newest whole
 * generation again, visible links that are missing or wrong are made, and who was not told of the last swap is told.
 * Returns what there was; where that is nothing, nothing is touched. `essential`: the files that a whole generation has.
 * Throws CertgenError `write-failed`, and `conflict` when another run has published meanwhile.
 */
export async function repair(
  directory: string,
  names: readonly string[],
  essential: readonly string[],
): Promise<readonly Repair[]> {
  const repairs: Repair[] = []
  try {
    const link = await readCurrentLink(directory)
    if (link === null) return []
    const isLost = !(await orNull(lstat(join(directory, link))))
    const name = isLost ? await newestWhole(directory, essential) : link
    if (name === null) return []
    if (isLost) {
      await swap(directory, name, link, {})
      repairs.push('generation')
    }
    if (await makeLinks(directory, names)) repairs.push('links')
    const previous = await readPreviousName(directory, name)
    if (isLost || !(await isWoken(directory, names, name, previous))) {
      await wakeWatchers(directory, names, previous)
      if (!isLost) repairs.push('watchers')
    }
    return repairs
  } catch (error) {
    throw error instanceof CertgenError ? error : writeError(directory, error, [])
  }
}
