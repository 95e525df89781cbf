import { mkdirSync, symlinkSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join, normalize, relative } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { findClashes, placeReader } from '../../src/store/place.ts'
import type { Place } from '../../src/store/place.ts'
import { directPlaceCalls } from '../../src/store/system-calls.ts'
import { cannotMount, mount, unmount } from '../faults/mounts.ts'
import { temporaryDirectory } from '../program.ts'

const scratch = temporaryDirectory()
const folder = (): Promise<string> => mkdtemp(join(scratch, 'folder-'))

/** What is found of these places, by their positions. */
function clashesOf(places: readonly (string | Place)[]): string[] {
  const claims = places.map((place, index) => ({
    place: typeof place === 'string' ? { directory: place } : place,
    what: String(index),
  }))
  return findClashes(claims).map(({ first, second, how }) => `${second.what} ${how} ${first.what}`)
}

describe('two paths are one place', () => {
  it('where a link leads from one to the other, at any step of the way', async () => {
    const root = await folder()
    mkdirSync(join(root, 'x/deep'), { recursive: true })
    symlinkSync('x', join(root, 'y'))
    symlinkSync('y', join(root, 'z'))
    expect(clashesOf([join(root, 'x'), join(root, 'y'), join(root, 'z')])).toEqual(['1 same 0', '2 same 0'])
    expect(clashesOf([join(root, 'x/deep'), join(root, 'z/deep')])).toEqual(['1 same 0'])
  })

  it('where nothing is there yet', async () => {
    const root = await folder()
    mkdirSync(join(root, 'x'))
    symlinkSync('x', join(root, 'y'))
    symlinkSync('./x/new', join(root, 'dangling'))
    expect(clashesOf([join(root, 'x/new/a'), join(root, 'y/new/a')])).toEqual(['1 same 0'])
    expect(clashesOf([join(root, 'dangling'), join(root, 'y/new')])).toEqual(['1 same 0'])
    expect(clashesOf([join(root, 'x/new/a'), join(root, 'x/new/b'), join(root, 'a')])).toEqual([])
  })

  it('by `..`, a slash more, or from another directory', async () => {
    const root = await folder()
    mkdirSync(join(root, 'x'))
    const paths = [join(root, 'x'), `${root}/x/../x/`, `${root}//x/.`, relative('.', join(root, 'x'))]
    expect(clashesOf(paths)).toEqual(['1 same 0', '2 same 0', '3 same 0'])
  })

  it('where links lead in a circle only if they are one link', async () => {
    const root = await folder()
    symlinkSync('b', join(root, 'a'))
    symlinkSync('a', join(root, 'b'))
    symlinkSync('self', join(root, 'self'))
    expect(clashesOf([join(root, 'self'), join(root, 'self')])).toEqual(['1 same 0'])
    expect(clashesOf([join(root, 'self'), join(root, 'x')])).toEqual([])
  })

  it('where a file system tells no capitals apart', () => {
    // As such a file system answers; `/x` is there.
    const known = ['/', '/x/']
    const identity = (path: string): string | null =>
      known.find((each) => each === normalize(`${path}/`).toLowerCase()) ?? null
    const calls = { own: identity, identity, linkAt: () => null }
    const read = placeReader(calls)
    expect(read({ directory: '/X' })).toEqual(read({ directory: '/x' }))
    expect(read({ directory: '/X/new' })).toEqual(read({ directory: '/x/new' }))
  })
})

describe('a place lies inside another', () => {
  it('in whatever order, through a link, and where nothing is there yet', async () => {
    const root = await folder()
    mkdirSync(join(root, 'x/in'), { recursive: true })
    symlinkSync('x/in', join(root, 'y'))
    expect(clashesOf([join(root, 'x'), join(root, 'y/new')])).toEqual(['1 inside 0'])
    expect(clashesOf([join(root, 'y'), join(root, 'x')])).toEqual(['1 around 0'])
    expect(clashesOf([join(root, 'new/a/b'), join(root, 'new')])).toEqual(['1 around 0'])
    symlinkSync('../beside', join(root, 'x/dangling'))
    expect(clashesOf([join(root, 'x'), join(root, 'x/dangling'), join(root, 'beside/in')])).toEqual(['2 inside 1'])
    expect(clashesOf([join(root, 'new'), join(root, 'new-er'), join(root, 'x/in'), join(root, 'x/inner')])).toEqual([])
  })

  it('of a cluster, by a key of an object', () => {
    const secret = (name: string, key?: string): Place => ({
      object: `secret/${name}`,
      ...(key === undefined ? {} : { key }),
    })
    expect(clashesOf([secret('a/x'), secret('a/x'), secret('b/x')])).toEqual(['1 same 0'])
    expect(clashesOf([secret('a/x', 'one'), secret('a/x', 'two'), secret('a/x', 'one'), secret('a/x')])).toEqual([
      '2 same 0',
      '3 around 0',
    ])
  })
})

describe.skipIf(cannotMount())('a mount of a directory', () => {
  afterEach(unmount)

  it('is that directory, and what lies below it lies inside that', async () => {
    const root = await folder()
    mkdirSync(join(root, 'x'))
    mkdirSync(join(root, 'mounted'))
    mount('--bind', join(root, 'x'), join(root, 'mounted'))
    expect(clashesOf([join(root, 'x'), join(root, 'mounted')])).toEqual(['1 same 0'])
    expect(clashesOf([join(root, 'x'), join(root, 'mounted/new')])).toEqual(['1 inside 0'])
    expect(clashesOf([join(root, 'x/new'), join(root, 'mounted/new')])).toEqual(['1 same 0'])
  })
})

it('is looked at by one call for each of many places beside each other', async () => {
  const root = await folder()
  const directories = Array.from({ length: 300 }, (_, index) => join(root, `target-${index}`))
  for (const directory of directories.slice(0, 150)) mkdirSync(directory)
  let calls = 0
  const counted = (call: (path: string) => string | null) => (path: string) => {
    calls++
    return call(path)
  }
  const { own, identity, linkAt } = directPlaceCalls
  const read = placeReader({ own: counted(own), identity: counted(identity), linkAt: counted(linkAt) })
  for (const directory of directories) read({ directory })
  expect(calls).toBeLessThan(directories.length + 20)
})
