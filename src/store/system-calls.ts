import {
  accessSync,
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdir as rmdirCallback,
  rmdirSync,
  statSync,
  symlinkSync,
  unlink as unlinkCallback,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import type { BigIntStats, Dirent, Stats } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

// The calls of node:fs/promises that a rotation makes a few hundred times a target, carried out at once. A call takes a few
// microseconds, and to hand it to the thread pool and back takes five to ten times that: it was half of a rotation of 1,000
// leaves (issue 7). What waits for the disk, fsync, still goes to the pool, and what is removed with many files. A server must not use them: see ReadingCalls.

/** What reading takes. A server reads by node:fs/promises: a file system that hangs must not stop its connections. */
export interface ReadingCalls {
  readonly lstat: (path: string) => Promise<Stats>
  readonly readlink: (path: string) => Promise<string>
  readonly open: (path: string, flags: number) => Promise<ReadableFile>
}

export interface ReadableFile {
  readonly stat: () => Promise<Stats>
  readonly readFile: () => Promise<Buffer>
  readonly close: () => Promise<void>
}

/** An open file or directory, as FileHandle. */
export interface OpenFile extends ReadableFile {
  readonly chmod: (mode: number) => Promise<void>
  readonly chown: (uid: number, gid: number) => Promise<void>
  readonly writeFile: (data: Uint8Array | string) => Promise<void>
  /** On the thread pool, so that several are made durable at a time. */
  readonly sync: () => Promise<void>
}

/** What the call throws is what the promise rejects with. */
function atOnce<T>(call: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(call())
  })
}

const syncDescriptor = promisify(fsync)
const unlinkOnPool = promisify(unlinkCallback)
const rmdirOnPool = promisify(rmdirCallback)

function openAtOnce(path: string, flags: number, mode?: number): OpenFile {
  const descriptor = openSync(path, flags, mode)
  return {
    stat: () => atOnce(() => fstatSync(descriptor)),
    readFile: () => atOnce(() => readFileSync(descriptor)),
    chmod: (bits) => atOnce(() => fchmodSync(descriptor, bits)),
    chown: (uid, gid) => atOnce(() => fchownSync(descriptor, uid, gid)),
    writeFile: (data) => atOnce(() => writeFileSync(descriptor, data)),
    sync: () => syncDescriptor(descriptor),
    close: () => atOnce(() => closeSync(descriptor)),
  }
}

export const open = (path: string, flags: number, mode?: number): Promise<OpenFile> =>
  atOnce(() => openAtOnce(path, flags, mode))
export const lstat = (path: string): Promise<Stats> => atOnce(() => lstatSync(path))
export const stat = (path: string): Promise<Stats> => atOnce(() => statSync(path))
export const readlink = (path: string): Promise<string> => atOnce(() => readlinkSync(path))
export const readEntries = (path: string): Promise<Dirent[]> => atOnce(() => readdirSync(path, { withFileTypes: true }))
export const mkdir = (path: string, mode: number): Promise<unknown> => atOnce(() => mkdirSync(path, { mode }))
export const symlink = (target: string, path: string): Promise<void> => atOnce(() => symlinkSync(target, path))
export const rename = (from: string, to: string): Promise<void> => atOnce(() => renameSync(from, to))
export const unlink = (path: string): Promise<void> => atOnce(() => unlinkSync(path))
export const rmdir = (path: string): Promise<void> => atOnce(() => rmdirSync(path))
export const access = (path: string, mode?: number): Promise<void> => atOnce(() => accessSync(path, mode))

/** With everything below it; nothing there is no error. Of a directory the files side by side, on the pool. */
export async function remove(path: string): Promise<void> {
  try {
    if (lstatSync(path).isDirectory()) {
      await Promise.all(readdirSync(path).map((name) => unlinkOnPool(join(path, name))))
      await rmdirOnPool(path)
    } else {
      unlinkSync(path)
    }
  } catch {
    // Whatever is unusual about it: deeper, gone meanwhile, or not to be removed, which this says.
    await rm(path, { recursive: true, force: true })
  }
}

/** Calls that are carried out at once. */
export const directCalls: ReadingCalls = { lstat, readlink, open }

/** What tells places apart. They answer, and throw nothing. */
export interface PlaceCalls {
  /** Device and inode of what a path names, or that it is a link; null where nothing is, or it may not be looked at. */
  readonly own: (path: string) => string | null
  /** Device and inode of what a path leads to, through links; null likewise. */
  readonly identity: (path: string) => string | null
  /** Where a link leads; null for what is no link. */
  readonly linkAt: (path: string) => string | null
}

// As numbers, large inodes would be rounded to one another.
const exactly = { bigint: true, throwIfNoEntry: false } as const

export const directPlaceCalls: PlaceCalls = {
  own: (path) =>
    orNull(() => {
      const found = lstatSync(path, exactly)
      return found?.isSymbolicLink() ? 'link' : identityOf(found)
    }),
  identity: (path) => orNull(() => identityOf(statSync(path, exactly))),
  linkAt: (path) => orNull(() => readlinkSync(path)),
}

function identityOf(found: BigIntStats | undefined): string | null {
  return found ? `${found.dev}:${found.ino}` : null
}

function orNull<T>(call: () => T | null): T | null {
  try {
    return call()
  } catch {
    return null
  }
}
