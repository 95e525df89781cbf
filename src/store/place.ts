import { basename, dirname, resolve } from 'node:path'
import { directPlaceCalls } from './system-calls.ts'
import type { PlaceCalls } from './system-calls.ts'

/**
 * Where something is kept. A path is only a name: a link, a mount of a directory, or a file system to which `Web` and
 * `web` are one, gives a directory a second. So places are compared by what they are.
 */
export type Place =
  | { readonly directory: string }
  /** Of a cluster: kind/namespace/name. With a `key`, only what is under that key of it. */
  | { readonly object: string; readonly key?: string }

/** What a place is, in a form that is equal for every name of it. */
interface Identity {
  readonly id: string
  /** What it lies in, innermost first. */
  readonly within: readonly string[]
}

/** How many links may lead on from one another, as on Linux. */
const longestWay = 40

/**
 * Tells what places are, as they are now: make one for each comparison. A directory is its device and inode; one that is
 * not there yet is the nearest one above it that is, and the rest of the path. Throws nothing: what may not be looked at
 * counts as what is not there.
 */
export function placeReader(calls: PlaceCalls = directPlaceCalls): (place: Place) => Identity {
  const known = new Map<string, Identity>()

  const locate = (path: string, links: number): Identity => {
    const before = known.get(path)
    if (before) return before
    const identity = look(path, links)
    known.set(path, identity)
    return identity
  }

  const look = (path: string, links: number): Identity => {
    const found = calls.own(path)
    const isTurn = found === 'link' || basename(path) === '..'
    const end = isTurn ? calls.identity(path) : null
    if (end !== null) return { id: end, within: above(path, end) }
    const link = found === 'link' && links < longestWay ? calls.linkAt(path) : null
    const parent = dirname(path)
    // It leads to where nothing is yet. What is made through it is made there.
    if (link !== null) return locate(link.startsWith('/') ? link : `${parent}/${link}`, links + 1)
    const isThere = found !== null && !isTurn
    if (parent === path) return { id: isThere ? found : path, within: [] }
    const { id, within } = locate(parent, links)
    return { id: isThere ? found : `${id}/${basename(path)}`, within: [id, ...within] }
  }

  /** The directories above one that a link leads to, by `..`: the path to the link says nothing of them. */
  const above = (path: string, id: string): readonly string[] => {
    const up = `${path}/..`
    const parent = calls.identity(up)
    return parent === null || parent === id ? [] : [parent, ...above(up, parent)]
  }

  return (place) => {
    if ('directory' in place) return locate(resolve(place.directory), 0)
    const { object, key } = place
    return key === undefined ? { id: object, within: [] } : { id: `${object}#${key}`, within: [object] }
  }
}

/** That something is kept in a place. */
export interface Claim {
  readonly place: Place
  /** What it is, for people. */
  readonly what: string
}

/** Two claims that cannot both be met; `second` is the later one. */
export interface Clash<T extends Claim> {
  readonly first: T
  readonly second: T
  /** What the place of the second is to that of the first. */
  readonly how: 'same' | 'inside' | 'around'
}

/** The claims that clash with an earlier one, each with one of those, in their order. */
export function findClashes<T extends Claim>(claims: readonly T[], read = placeReader()): Clash<T>[] {
  const clashes: Clash<T>[] = []
  const at = new Map<string, T>()
  const below = new Map<string, T>()
  for (const claim of claims) {
    const { id, within } = read(claim.place)
    const twin = at.get(id)
    const outer = within.map((each) => at.get(each)).find((each) => each !== undefined)
    const inner = below.get(id)
    if (twin) clashes.push({ first: twin, second: claim, how: 'same' })
    else if (outer) clashes.push({ first: outer, second: claim, how: 'inside' })
    else if (inner) clashes.push({ first: inner, second: claim, how: 'around' })
    at.set(id, twin ?? claim)
    for (const each of within) if (!below.has(each)) below.set(each, claim)
  }
  return clashes
}

/** What is wrong, in a sentence, and what can be done. */
export function describeClash({ first, second, how }: Clash<Claim>): { message: string; hint: string } {
  if (how === 'inside') return { message: `${second.what} lies inside ${first.what}`, hint: nestedHint }
  if (how === 'around') return { message: `${first.what} lies inside ${second.what}`, hint: nestedHint }
  if (!('directory' in first.place && 'directory' in second.place)) {
    return { message: `${second.what} is the same as ${first.what}`, hint: 'give each one of its own' }
  }
  const message = `${second.what} is the same directory as ${first.what}`
  const sameName = resolve(first.place.directory) === resolve(second.place.directory)
  return { message, hint: sameName ? ownHint : `a link or a mount gives it both names; ${ownHint}` }
}

const ownHint = 'give each a directory of its own'
const nestedHint = 'a service that may read the outer one could read the inner one: put them side by side'
