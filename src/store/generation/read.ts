import { constants } from 'node:fs'
import { join } from 'node:path'
import { CertgenError } from '../../errors.ts'
import { readRegularFile } from '../regular-file.ts'
import type { Access } from '../regular-file.ts'
import { directCalls, readEntries } from '../system-calls.ts'
import type { ReadingCalls } from '../system-calls.ts'
import { errnoOf, orNull, readError } from '../system-errors.ts'
import { current, generationTime, isGenerationName, previousFile, undeliveredFile } from './name.ts'

/** One complete version of a directory's files, as a reader that resolves `..data` once gets it. */
export interface Generation {
  /** Empty for a plain directory, without `..data`. */
  readonly name: string
  /** The files asked for that exist. */
  readonly files: ReadonlyMap<string, Buffer>
  /** Who may read those files. */
  readonly access: ReadonlyMap<string, Access>
  /** The name of the generation that was current when this one was written. */
  readonly previous: string | null
  /** What had to follow the swap and has not been settled yet: a run may be killed before it could. */
  readonly undelivered: readonly string[]
}

const readAttempts = 5

/**
 * The current generation's files of these names; null when none of them exists. Without `..data` the directory's
 * ordinary files are read, through symbolic links if need be. `calls`: those of node:fs/promises where nothing may stand
 * still meanwhile. Throws CertgenError `unreadable`, also for anything that is not a regular file, and for a `..data` that
 * leads nowhere: it is never taken for an empty directory.
 */
export async function readGeneration(
  directory: string,
  names: readonly string[],
  calls: ReadingCalls = directCalls,
): Promise<Generation | null> {
  const generation = await readStable(directory, calls, (link) => readLinked(directory, link, names, calls))
  if (generation === 'missing') throw leadsNowhere(directory)
  return generation
}

/** What those find who write next. */
export interface Found {
  /** What `..data` says; null without one. A write says that it was made upon this. */
  readonly link: string | null
  /** null: none of the files is there. */
  readonly generation: Generation | null
  /** Whether `..data` leads nowhere, and the newest whole generation stands in. */
  readonly standsIn: boolean
}

/**
 * As readGeneration, for those who can mend: where `..data` leads nowhere, the newest whole generation stands in.
 * `essential`: the files that a whole one has.
 */
export async function readOrStandIn(
  directory: string,
  names: readonly string[],
  essential: readonly string[],
): Promise<Found> {
  return readStable(directory, directCalls, async (link) => {
    const generation = await readLinked(directory, link, names, directCalls)
    if (generation !== 'missing') return { link, generation, standsIn: false }
    const name = await newestWhole(directory, essential)
    const standIn = name === null ? 'missing' : await readNamed(directory, name, names, directCalls)
    if (standIn === 'missing') throw leadsNowhere(directory)
    return { link, generation: standIn, standsIn: true }
  })
}

/**
 * The generation that was current when the current one was written; null when there was none, or it is gone.
 * Throws CertgenError `unreadable`.
 */
export async function readPrevious(directory: string, names: readonly string[]): Promise<Generation | null> {
  const generation = await readStable(directory, directCalls, async (link) => {
    const previous = link === null ? null : await readPreviousName(directory, link)
    return previous === null ? null : readNamed(directory, previous, names, directCalls)
  })
  return generation === 'missing' ? null : generation
}

/**
 * Reads until `..data` was the same before and after: in between a writer may have removed files, or have taken over a
 * plain directory, and what was read would be from two generations.
 */
async function readStable<T>(
  directory: string,
  calls: ReadingCalls,
  read: (link: string | null) => Promise<T>,
): Promise<T> {
  try {
    for (let attempt = 0; attempt < readAttempts; attempt++) {
      const link = await readCurrentLink(directory, calls)
      const result = await read(link)
      if ((await readCurrentLink(directory, calls)) === link) return result
    }
  } catch (error) {
    throw error instanceof CertgenError ? error : readError(directory, error)
  }
  throw new CertgenError('unreadable', `cannot read ${directory}: it changes all the time`, {
    hints: ['look for another program that writes there'],
  })
}

function leadsNowhere(directory: string): CertgenError {
  return new CertgenError(
    'unreadable',
    `cannot read ${directory}: the generation that ${current} points to is missing, and there is no other`,
    { hints: [`restore it from a backup, or remove ${join(directory, current)} to start afresh`] },
  )
}

function oddity(path: string, what: string): CertgenError {
  return new CertgenError('unreadable', `${path} ${what}`, {
    hints: ['certgen has not made it so: restore the directory from a backup, or move it away to start afresh'],
  })
}

/** What `..data` points to, whether or not that is there; null without one. Throws CertgenError `unreadable`. */
export async function readCurrentLink(
  directory: string,
  { readlink }: ReadingCalls = directCalls,
): Promise<string | null> {
  const path = join(directory, current)
  const target = await readlink(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    if (errnoOf(error) === 'EINVAL') throw oddity(path, 'is not a symbolic link')
    throw error
  })
  if (target === '.' || target === '..' || target?.includes('/')) {
    throw oddity(path, 'points outside of its directory')
  }
  return target
}

async function readLinked(
  directory: string,
  link: string | null,
  names: readonly string[],
  calls: ReadingCalls,
): Promise<Generation | null | 'missing'> {
  return link === null ? readPlain(directory, names, calls) : readNamed(directory, link, names, calls)
}

async function readNamed(
  directory: string,
  name: string,
  names: readonly string[],
  calls: ReadingCalls,
): Promise<Generation | null | 'missing'> {
  const path = join(directory, name)
  const found = await orNull(calls.lstat(path))
  if (!found) return 'missing'
  if (!found.isDirectory()) throw oddity(path, 'is not a directory')
  const { files, access } = await readFiles(path, names, constants.O_NOFOLLOW, calls)
  if (files.size === 0) return null
  const previous = await readPreviousName(directory, name, calls)
  const undelivered = await readUndelivered(path, calls)
  return { name, files, access, previous, undelivered }
}

async function readPlain(directory: string, names: readonly string[], calls: ReadingCalls): Promise<Generation | null> {
  const { files, access } = await readFiles(directory, names, 0, calls)
  return files.size === 0 ? null : { name: '', files, access, previous: null, undelivered: [] }
}

/** The generation that was current when this one was written; null where that is not known. */
export async function readPreviousName(
  directory: string,
  name: string,
  calls: ReadingCalls = directCalls,
): Promise<string | null> {
  const file = await readRegularFile(join(directory, name, previousFile), constants.O_NOFOLLOW, calls)
  const previous = file?.data.toString('latin1') ?? ''
  return isGenerationName(previous) ? previous : null
}

/** What is damaged counts as settled: what had to follow is lost, but is no reason to stop. */
async function readUndelivered(generation: string, calls: ReadingCalls): Promise<readonly string[]> {
  const file = await readRegularFile(join(generation, undeliveredFile), constants.O_NOFOLLOW, calls)
  if (!file) return []
  try {
    const list: unknown = JSON.parse(file.data.toString('utf8'))
    return Array.isArray(list) ? list.filter((entry) => typeof entry === 'string') : []
  } catch {
    return []
  }
}

async function readFiles(
  directory: string,
  names: readonly string[],
  flags: number,
  calls: ReadingCalls,
): Promise<Pick<Generation, 'files' | 'access'>> {
  const files = new Map<string, Buffer>()
  const access = new Map<string, Access>()
  for (const name of names) {
    const file = await readRegularFile(join(directory, name), flags, calls)
    if (!file) continue
    files.set(name, file.data)
    access.set(name, file.access)
  }
  return { files, access }
}

/**
 * The generation that the others lead up to, and of several the latest by its name; null when none has all of the
 * essential files, or has them empty, as a power cut leaves those of one that was never published.
 */
export async function newestWhole(directory: string, essential: readonly string[]): Promise<string | null> {
  const previous = new Map<string, string | null>()
  for (const entry of await readEntries(directory)) {
    if (!entry.isDirectory() || generationTime(entry.name) === null) continue
    const { files } = await readFiles(
      join(directory, entry.name),
      [...essential, previousFile],
      constants.O_NOFOLLOW,
      directCalls,
    )
    const isWhole = files.has(previousFile) && essential.every((name) => (files.get(name)?.length ?? 0) > 0)
    if (isWhole) previous.set(entry.name, await readPreviousName(directory, entry.name))
  }
  const superseded = new Set(previous.values())
  const heads = [...previous.keys()].filter((name) => !superseded.has(name))
  // Names sort by their instants.
  return heads.sort().at(-1) ?? null
}
