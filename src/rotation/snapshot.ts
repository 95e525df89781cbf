import { readdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import { isIssuedBy, setAside } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { checkContents } from '../pki/check.ts'
import type { CheckedSet } from '../pki/check.ts'
import { directoryAuthority } from '../store/authority-store.ts'
import type { AuthorityStore, AuthorityView, StoredAuthority } from '../store/authority-store.ts'
import { placeReader } from '../store/place.ts'
import { errnoOf } from '../store/system-errors.ts'
import { directoryTarget, compacting, sameContents, targetAt } from '../store/target-store.ts'
import type { SetPart, TargetContents, TargetStore } from '../store/target-store.ts'
import type { AskedLeaf, Discovery, RotationRequest } from './request.ts'

/** How many directories are read or written at once: more than the thread pool has threads gains nothing. */
export const directoriesAtOnce = 8

/** A target as it is now. */
export interface TargetSnapshot {
  readonly name: string
  readonly store: TargetStore
  /** What is asked of its leaf; null for one that was only found. */
  readonly asked: AskedLeaf | null
  /** null: nothing is there. */
  readonly contents: TargetContents | null
  /** Without its key: a fleet's keys are not kept in memory for longer than it takes to judge them. */
  readonly set: Omit<CheckedSet, 'key'> | null
  /** Whose key signed its leaf. `stranded`: an earlier authority of ours. `foreign`: somebody else's. */
  readonly issuer: 'current' | 'stranded' | 'foreign' | null
}

/** Everything a plan is made from. */
export interface Snapshot {
  readonly authority: StoredAuthority | null
  /** The authorities before it, as far as they are known. */
  readonly earlier: readonly Certificate[]
  readonly targets: readonly TargetSnapshot[]
}

/** What a snapshot is taken of. */
export type SnapshotRequest = Pick<RotationRequest, 'leaves' | 'discovery'> & {
  readonly authority: Pick<RotationRequest['authority'], 'store'>
}

/**
 * Reads the authority and every target as they are, changing nothing, in the order of their names: those that are asked
 * for, and those that are found again. A target whose octets are those of the snapshot `before`, of the same run, is not checked again.
 */
export async function takeSnapshot(
  request: SnapshotRequest,
  now: Date,
  before: Snapshot | null = null,
): Promise<Snapshot> {
  const { store } = request.authority
  const authority = await store.read()
  const places = await placesOf(request)
  const issuers = authority
    ? issuersOf(authority, await readBefore(() => store.readPrevious()))
    : { current: null, earlier: [], others: await authoritiesInSight(places, request.discovery) }
  const known = new Map(before?.targets.map((target) => [target.store.path, target]))
  const compact = compacting()
  const readOne = (place: Place): Promise<TargetSnapshot> =>
    readTarget(place, issuers, now, compact, known.get(place.store.path))
  const targets = await pMap(places, readOne, { concurrency: directoriesAtOnce })
  // Where no lock keeps runs apart, another may have made authority and leaves since the authority was looked for.
  if (!authority && targets.some(({ contents }) => contents) && (await store.read())) {
    return takeSnapshot(request, now, before)
  }
  return { authority, earlier: issuers.earlier, targets }
}

/** What can be seen of an authority and its targets, in whatever state they are. */
export interface Inspection<T> {
  /** null: there is none, or it cannot be read. */
  readonly authority: AuthorityView | null
  /** Why it cannot be read; null when it can. */
  readonly error: CertgenError | null
  readonly targets: readonly T[]
}

/**
 * As takeSnapshot, for those who only look: what cannot be read or is damaged is part of the answer, and no passphrase is
 * asked for. Each target is given to `view` as soon as it is read and then let go: of a large fleet only what is kept of
 * it stays in memory. Throws CertgenError `unreadable` when the directory of discovery cannot be listed.
 */
export async function inspect<T>(
  request: SnapshotRequest,
  now: Date,
  view: (target: TargetSnapshot, error: CertgenError | null, authority: AuthorityView | null) => T,
): Promise<Inspection<T>> {
  const { store } = request.authority
  const [authority, error] = await orError(store.inspect('current'))
  const before = authority && (await readBefore(() => store.inspect('previous')))
  const issuers = authority?.certificate ? issuersOf(authority, before) : null
  const viewOne = async (place: Place): Promise<T> => {
    const [target, failure] = await orError(readTarget(place, issuers, now, (contents) => contents))
    return view(target ?? { ...place, contents: null, set: null, issuer: null }, failure, authority)
  }
  const targets = await pMap(await placesOf(request), viewOne, { concurrency: directoriesAtOnce })
  return { authority, error, targets }
}

async function orError<T>(read: Promise<T>): Promise<[T | null, CertgenError | null]> {
  try {
    return [await read, null]
  } catch (error) {
    if (error instanceof CertgenError) return [null, error]
    throw error
  }
}

type Place = Pick<TargetSnapshot, 'name' | 'store' | 'asked'>

/** What is asked for and what is found, in the order of the names. */
async function placesOf({ leaves, discovery, authority }: SnapshotRequest): Promise<Place[]> {
  const places: Place[] = leaves.map((asked) => ({ name: asked.name, store: asked.store, asked }))
  if (discovery) places.push(...(await discover(discovery, places, authority.store)))
  return places.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The authorities that leaves are told apart by. */
interface Issuers {
  readonly current: Certificate | null
  readonly earlier: readonly Certificate[]
  /** Those whose leaves are nobody's orphans; only looked for where there is no current one. */
  readonly others: readonly Certificate[]
}

/** `seen`: as it was before. Without `issuers`, whose leaf it is stays open. */
async function readTarget(
  place: Place,
  issuers: Issuers | null,
  now: Date,
  compact: (contents: TargetContents) => TargetContents,
  seen?: TargetSnapshot,
): Promise<TargetSnapshot> {
  // A directory is read at once: between two of them the lock's sign of life gets its turn, however slow they are.
  await nextTurn()
  const contents = await place.store.read()
  if (!contents) return { ...place, contents: null, set: null, issuer: null }
  const same = seen?.contents && sameContents(seen.contents, contents) ? seen : null
  const set = same?.set ?? judged(place.store, contents, now)
  const issuer = issuers && issuerOf(set, contents, issuers)
  if (set.chain[0]) setAside(set.chain[0])
  // The same octets once more would be as much memory once more.
  const kept = same?.contents ? { ...contents, ...octetsOf(same.contents) } : compact(contents)
  return { ...place, contents: kept, set, issuer }
}

function octetsOf({ ca, cert, key }: TargetContents): Pick<TargetContents, SetPart> {
  return { ca, cert, key }
}

function judged(store: TargetStore, contents: TargetContents, now: Date): Omit<CheckedSet, 'key'> {
  const { findings, chain, bundle } = checkTarget(store, contents, now)
  return { findings, chain, bundle }
}

function issuerOf(
  { chain: [leaf] }: Pick<CheckedSet, 'chain'>,
  { generation }: TargetContents,
  { current, earlier, others }: Issuers,
): TargetSnapshot['issuer'] {
  if (!leaf) return null
  const isFrom = (certificate: Certificate): boolean => isIssuedBy(leaf, certificate)
  if (current) return isFrom(current) ? 'current' : earlier.some(isFrom) ? 'stranded' : 'foreign'
  // The authority is gone. That a leaf was written by a swap, and is of no other authority here, tells that it was ours.
  return generation && !others.some(isFrom) ? 'stranded' : 'foreign'
}

/** checkContents of what a target holds; a missing file is an empty one. */
export function checkTarget(store: TargetStore, contents: TargetContents, at: Date): CheckedSet {
  const file = (part: SetPart): { path: string; data: Buffer } => ({
    path: store.pathOf(part),
    data: contents[part] ?? Buffer.alloc(0),
  })
  return checkContents({ cert: file('cert'), key: file('key'), ca: file('ca') }, { at })
}

/** The authority, and those whose leaves an interrupted rotation may have left behind. */
function issuersOf(
  { certificate, previous }: Pick<AuthorityView, 'certificate' | 'previous'>,
  before: Pick<AuthorityView, 'certificate'> | null,
): Issuers {
  const earlier = [previous, before?.certificate].filter((earlier) => earlier != null)
  return { current: certificate, earlier, others: [] }
}

/** The authorities that other directories hold: those that belong to somebody else, and those that were found. */
async function authoritiesInSight(places: readonly Place[], discovery: Discovery | null): Promise<Certificate[]> {
  const inspectOne = (directory: string): Promise<AuthorityView | null> =>
    readBefore(() => directoryAuthority({ directory }).inspect('current'))
  const elsewhere = await pMap(discovery?.except ?? [], inspectOne, { concurrency: directoriesAtOnce })
  const found = await pMap(
    places.filter(({ asked }) => !asked).map(({ store }) => store.path),
    inspectOne,
    { concurrency: directoriesAtOnce },
  )
  // A target has its authority's certificate too; who keeps its key can still issue.
  const views = [...elsewhere, ...found.filter((view) => view?.key !== 'absent')]
  return views.flatMap((view) => [view?.certificate, view?.previous]).filter((certificate) => certificate != null)
}

/** A damaged generation of the past is no reason to stop: it only tells less about stranded leaves. */
async function readBefore<T>(read: () => Promise<T | null>): Promise<T | null> {
  const [before] = await orError(read())
  return before
}

// --------------------------------------------------------------------------------------------------------- discovery

/**
 * The directories below `dir` that nobody asks for, each once: a link to one beside it, or a mount of it, is only another
 * name. But who asks by that other name for what is a target itself asks for two in one place, and both are returned.
 */
async function discover(
  { dir, except, open = openByDefault }: Discovery,
  asked: readonly Place[],
  authority: AuthorityStore,
): Promise<Place[]> {
  const entries = await listDirectories(dir)
  const read = placeReader()
  const idOf = (directory: string): string => read({ directory }).id
  const taken = new Set([...except.map(idOf), read(authority.place).id])
  const askedAs = new Map(
    asked.flatMap(({ store, asked: leaf }) => store.places.map((place) => [read(place).id, { place, leaf }] as const)),
  )
  const isOtherName = (id: string, path: string): boolean => {
    const found = askedAs.get(id)
    if (!found?.leaf?.explicit || !('directory' in found.place)) return false
    const known = resolve(found.place.directory)
    return known !== resolve(path) && dirname(known) === resolve(dir)
  }
  const found: Place[] = []
  for (const { name, isLink } of entries) {
    const path = join(dir, name)
    const id = idOf(path)
    if (taken.has(id) || (askedAs.has(id) && (isLink || !isOtherName(id, path)))) continue
    taken.add(id)
    found.push({ name, store: open(path), asked: null })
  }
  return found
}

function openByDefault(directory: string): TargetStore {
  return directoryTarget(targetAt(directory))
}

async function listDirectories(dir: string): Promise<{ readonly name: string; readonly isLink: boolean }[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true })
    const visible = entries.filter(({ name }) => !name.startsWith('.')).sort((a, b) => (a.name < b.name ? -1 : 1))
    const links = visible.filter((entry) => entry.isSymbolicLink())
    // A link may lead to a file, or nowhere: neither can hold a leaf.
    const linked = await pMap(links, ({ name }) => leadsToDirectory(join(dir, name)), {
      concurrency: directoriesAtOnce,
    })
    // Links last, for a directory's own name is the better one.
    return [
      ...visible.filter((entry) => entry.isDirectory()).map(({ name }) => ({ name, isLink: false })),
      ...links.filter((_, index) => linked[index]).map(({ name }) => ({ name, isLink: true })),
    ]
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw new CertgenError('unreadable', `cannot read ${dir}`, {
      cause: error,
      hints: [`--dir must name a directory that the user who runs certgen can read`],
    })
  }
}

/** What cannot be looked at may be one: whoever reads it will say why it cannot be read. */
async function leadsToDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    (error: unknown) => !['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? ''),
  )
}
