import { lstat, readlink } from 'node:fs/promises'
import { dirname, isAbsolute, join, parse, resolve, sep } from 'node:path'
import { errnoOf } from '../store/system-errors.ts'

/** As many symbolic links as Linux follows on one path (path_resolution(7)). */
const mostLinks = 40

/**
 * The directories that must be watched to see any of the files change, each with the names in it that matter: the
 * directory of each file, the parent of that directory, for a watch follows a directory that is renamed away, and every
 * directory on the way that holds a symbolic link, for swapping one gives no event where it points to. Never a file: a
 * watch on one goes deaf with the first rename over it.
 */
export async function findWatchPoints(files: readonly string[]): Promise<Map<string, ReadonlySet<string>>> {
  const points = new Map<string, Set<string>>()
  const add = (directory: string, name: string): void => {
    const names = points.get(directory)
    if (names) names.add(name)
    else points.set(directory, new Set([name]))
  }
  for (const file of files) await walk(resolve(file), add)
  return points
}

/** Resolves a path component by component; ends where it breaks off, with the watch that sees it mended. */
async function walk(file: string, add: (directory: string, name: string) => void): Promise<void> {
  const { root } = parse(file)
  const rest = file.slice(root.length).split(sep)
  let at = root
  for (let links = 0; links <= mostLinks;) {
    const name = rest.shift()
    if (name === undefined) return
    if (name === '' || name === '.') continue
    if (name === '..') {
      at = dirname(at)
      continue
    }
    const path = join(at, name)
    const target = await linkTarget(path)
    if (target !== undefined || rest.length <= 1) add(at, name)
    if (target === null) return
    if (target === undefined) {
      at = path
      continue
    }
    links += 1
    rest.unshift(...target.split(sep))
    if (isAbsolute(target)) at = parse(target).root
  }
}

/** What a symbolic link points to; undefined for what is none, null for what is not there or cannot be looked at. */
async function linkTarget(path: string): Promise<string | null | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return null
  }
}
