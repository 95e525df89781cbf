import { join } from 'node:path'
import { CertgenError } from '../../errors.ts'
import { lstat } from '../system-calls.ts'
import { orNull, writeError } from '../system-errors.ts'
import { makeLinks } from './links.ts'
import { makeTag } from './name.ts'
import { newestWhole, readCurrentLink, readPreviousName } from './read.ts'
import { swap } from './swap.ts'
import { isWoken, wakeWatchers } from './wake.ts'

/**
 * `generation`: `..data` led nowhere; `links`: names were missing or wrong; `watchers`: they had not been told of a swap;
 * `unwoken`: nor could they be now.
 */
export type Repair = 'generation' | 'links' | 'watchers' | 'unwoken'

export interface Repairable {
  /** The visible names. */
  readonly names: readonly string[]
  /** The files that a whole generation has. */
  readonly essential: readonly string[]
  /** As Waking.isWatched; default: all. */
  readonly isWatched?: (name: string) => boolean
}

/**
 * Mends what a crash left around the current generation: a `..data` that leads nowhere leads to the newest whole
 * generation again, visible links that are missing or wrong are made, and who was not told of the last swap is told.
 * Returns what there was; where that is nothing, nothing is touched. Throws CertgenError `write-failed`, and `conflict`
 * when another run has published meanwhile.
 */
export async function repair(
  directory: string,
  { names, essential, isWatched = () => true }: Repairable,
): Promise<readonly Repair[]> {
  const repairs: Repair[] = []
  const tag = makeTag()
  try {
    const link = await readCurrentLink(directory)
    if (link === null) return []
    const isLost = !(await orNull(lstat(join(directory, link))))
    const name = isLost ? await newestWhole(directory, essential) : link
    if (name === null) return []
    if (isLost) {
      await swap(directory, name, link, {}, tag)
      repairs.push('generation')
    }
    if (await makeLinks(directory, names, tag)) repairs.push('links')
    const previous = await readPreviousName(directory, name)
    if (isLost || !(await isWoken(directory, names.filter(isWatched), name, previous))) {
      const woken = await wakeWatchers(directory, { names, previous, tag, isWatched }).then(
        () => true,
        () => false,
      )
      repairs.push(...(!woken ? ['unwoken' as const] : isLost ? [] : ['watchers' as const]))
    }
    return repairs
  } catch (error) {
    throw error instanceof CertgenError ? error : writeError(directory, error, [])
  }
}
