import type { Dirent } from 'node:fs'
import { join } from 'node:path'
import { lstat, remove } from '../system-calls.ts'
import { orNull } from '../system-errors.ts'
import { isGenerationName, linkPrefix } from './name.ts'
import { readCurrentLink, readPreviousName } from './read.ts'

export interface Retention {
  /** How long a generation is kept at least that another has taken the place of; milliseconds. */
  readonly supersededMs: number
  /** Whether one is needed however old it is; the paths of its directory are given. */
  readonly isNeeded?: (generation: string) => Promise<boolean>
}

/** Four leases: who stood still that long has lost the lock. */
export const defaultRetention: Retention = { supersededMs: 60_000 }

/** Of what was never published nobody can tell whether its run is dead, or stands still. */
const abandonedMs = 3_600_000

/**
 * Removes what is of no use to anybody, and leaves it where there is a doubt (I8): generations that were published once,
 * are older than the current one and the one before, and were superseded for as long as `retention` says; and what runs
 * have left that were killed, once it is much older. Ages are told by the file system's clock, not by anybody's own.
 * Returns the entries that could not be removed. `entries`: of the directory, `name`: what this run has published.
 */
export async function tidy(
  directory: string,
  entries: readonly Dirent[],
  name: string,
  { supersededMs, isNeeded }: Retention,
): Promise<string[]> {
  const previous = await readPreviousName(directory, name)
  const candidates = entries.filter((entry) => {
    if (entry.isSymbolicLink()) return entry.name.startsWith(linkPrefix)
    return entry.isDirectory() && isGenerationName(entry.name) && entry.name !== name && entry.name !== previous
  })
  // As a rule there is one, since the run before left it; most of the time none is old enough.
  if (candidates.length === 0) return []
  const now = (await lstat(join(directory, name))).mtimeMs
  const history = await readHistory(directory, previous)
  const leftovers: string[] = []
  for (const entry of candidates) {
    const path = join(directory, entry.name)
    const found = await orNull(lstat(path))
    // Each renewal of its inodes (step 6) sets the time of its directory, so that this is when it was superseded.
    const age = found ? now - found.mtimeMs : -1
    const wasPublished = !entry.isDirectory() || history.includes(entry.name)
    if (age < (wasPublished ? supersededMs : abandonedMs)) continue
    if (entry.isDirectory() && (await isNeeded?.(path))) continue
    // Another run has published since: what may go is for that one to judge.
    if ((await readCurrentLink(directory)) !== name) break
    // The new generation is in place and complete: what is in its way here is worth a word, but no failure.
    await remove(path).catch(() => leftovers.push(entry.name))
  }
  return leftovers
}

/** The generations that were published before this one, itself included, as far back as they tell. */
async function readHistory(directory: string, name: string | null): Promise<string[]> {
  const history: string[] = []
  for (let next = name; next !== null && !history.includes(next); next = await readPreviousName(directory, next)) {
    history.push(next)
  }
  return history
}

/**
 * Removes a generation of this run that was not published. The link is asked and not our memory of the rename: over a
 * network one may fail and yet have happened. Where it cannot be asked, nothing is removed: that may be what everybody
 * reads. Returns whether it was published.
 */
export async function discardUnpublished(directory: string, name: string): Promise<boolean | 'unknown'> {
  try {
    const link = await readCurrentLink(directory)
    if (link === name || (link !== null && (await readPreviousName(directory, link)) === name)) return true
  } catch {
    return 'unknown'
  }
  await remove(join(directory, name))
  return false
}
