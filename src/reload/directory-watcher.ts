import { createHash } from 'node:crypto'
import { watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { lstat, open, readlink, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { CertgenError } from '../errors.ts'
import { readGeneration } from '../store/generation/read.ts'
import { errnoOf } from '../store/system-errors.ts'
import { findWatchPoints } from './watch-points.ts'

/** Why a directory was read: the system told of a change, the poll's time had come, or it began (again) to be followed. */
export type Trigger = 'event' | 'poll' | 'start'

/** The files that are followed: plain names in one directory. */
export interface Source {
  readonly directory: string
  readonly names: readonly string[]
}

export interface WatchOptions {
  /** Milliseconds of quiet after the last event before the directory is read. Default 500. */
  readonly debounce?: number
  /** Milliseconds after the first event at which it is read, quiet or not. Default four times `debounce`. */
  readonly maxWait?: number
  /** Milliseconds between reads that need no event: file systems over a network send none. Default 10,000. */
  readonly poll?: number
  /** Whether events are listened to. Default true; the poll works alone. */
  readonly events?: boolean
}

/** What one read found. */
export interface Reading {
  /** By name; a file that is missing is left out. Empty when there is an error. */
  readonly files: ReadonlyMap<string, Buffer>
  /** The name of the generation; empty for a plain directory. */
  readonly generation: string
  readonly error: CertgenError | null
  /** Over everything that was read: no byte of any file changes without it. */
  readonly hash: string
  readonly trigger: Trigger
  /** When the change was noticed, on the clock of `performance.now()`. */
  readonly seenAt: number
}

interface Watch {
  readonly watcher: FSWatcher
  /** Device and inode: a path may come to name another directory. */
  readonly identity: string
  names: ReadonlySet<string>
}

const readAttempts = 3
const armAttempts = 5

/**
 * Follows the files of a directory. Events are wake-ups and never facts; what counts is what is read, and a content poll
 * finds what no event told of.
 *
 * 1. Wake up: an event for a name that matters, after the debounce, or the poll's time.
 * 2. Arm: watch what must be watched now, again where a path has come to name another directory.
 * 3. Read, only then, so that no change falls between: one generation, `..data` resolved once.
 * 4. Tell of what was read, unless it is what was told of last and accepted. Never two at a time.
 *
 * Its timers and watches do not keep the process alive.
 */
export class DirectoryWatcher {
  readonly #source: Source
  readonly #debounce: number
  readonly #maxWait: number
  readonly #poll: number
  readonly #events: boolean
  readonly #tell: (reading: Reading) => Promise<boolean>
  readonly #watches = new Map<string, Watch>()
  #debounceTimer: NodeJS.Timeout | undefined
  #pollTimer: NodeJS.Timeout | undefined
  #seenAt: number | null = null
  #next: { trigger: Trigger; seenAt: number } | null = null
  #running: Promise<void> | null = null
  #accepted: string | null = null
  #state: 'idle' | 'following' | 'paused' | 'closed' = 'idle'

  /** `tell` gives whether it accepts the reading; one that it does not is told again at the next wake-up. */
  constructor(source: Source, options: WatchOptions, tell: (reading: Reading) => Promise<boolean>) {
    this.#source = source
    this.#debounce = milliseconds('debounce', options.debounce ?? 500, 0)
    this.#maxWait = milliseconds('maxWait', options.maxWait ?? this.#debounce * 4, this.#debounce)
    this.#poll = milliseconds('poll', options.poll ?? 10_000, 1)
    this.#events = options.events ?? true
    this.#tell = tell
  }

  /** Arms, and returns when the first reading has been told of. */
  async start(): Promise<void> {
    this.#state = 'following'
    this.#request('start', performance.now())
    await this.#running
  }

  /** Nothing is read until `resume`. */
  pause(): void {
    if (this.#state !== 'following') return
    this.#state = 'paused'
    this.#next = null
    this.#seenAt = null
    clearTimeout(this.#debounceTimer)
    clearTimeout(this.#pollTimer)
  }

  /** Reads at once, for changes may have been missed. */
  resume(): void {
    if (this.#state !== 'paused') return
    this.#state = 'following'
    this.#request('start', performance.now())
  }

  /** Returns when nothing of it is left running. */
  async close(): Promise<void> {
    this.pause()
    this.#state = 'closed'
    for (const { watcher } of this.#watches.values()) watcher.close()
    this.#watches.clear()
    await this.#running
  }

  /** Step 1, for an event. */
  #wake(): void {
    if (this.#state !== 'following') return
    const now = performance.now()
    const seenAt = (this.#seenAt ??= now)
    clearTimeout(this.#debounceTimer)
    const delay = Math.max(0, Math.min(this.#debounce, seenAt + this.#maxWait - now))
    this.#debounceTimer = setTimeout(() => {
      this.#seenAt = null
      this.#request('event', seenAt)
    }, delay).unref()
  }

  /** Step 1, for the poll: set anew after every look, so that a slow one is not overtaken by the next. */
  #schedulePoll(): void {
    clearTimeout(this.#pollTimer)
    if (this.#state !== 'following') return
    this.#pollTimer = setTimeout(() => this.#request('poll', performance.now()), this.#poll).unref()
  }

  #request(trigger: Trigger, seenAt: number): void {
    this.#next ??= { trigger, seenAt }
    this.#running ??= this.#lookWhileAsked()
  }

  async #lookWhileAsked(): Promise<void> {
    try {
      for (let asked = this.#next; asked; asked = this.#next) {
        this.#next = null
        await this.#look(asked.trigger, asked.seenAt)
      }
    } finally {
      this.#running = null
      this.#schedulePoll()
    }
  }

  async #look(trigger: Trigger, seenAt: number): Promise<void> {
    if (this.#events) await this.#arm() // 2
    const read = await this.#readPatiently() // 3
    if (this.#state !== 'following' || read.hash === this.#accepted) return
    const accepted = await this.#tell({ ...read, trigger, seenAt }) // 4
    this.#accepted = accepted ? read.hash : null
  }

  /** Step 2, until nothing has changed meanwhile. A watch that cannot be had is left to the poll. */
  async #arm(): Promise<void> {
    const { directory, names } = this.#source
    const files = ['..data', ...names].map((name) => join(directory, name))
    for (let attempt = 0; attempt < armAttempts && this.#state === 'following'; attempt++) {
      if (!(await this.#armOnce(await findWatchPoints(files)))) return
    }
  }

  /** Whether anything had to be armed. */
  async #armOnce(points: ReadonlyMap<string, ReadonlySet<string>>): Promise<boolean> {
    for (const [path, { watcher }] of this.#watches) {
      if (points.has(path)) continue
      watcher.close()
      this.#watches.delete(path)
    }
    let armed = false
    for (const [path, names] of points) {
      const identity = await identityOf(path)
      const present = this.#watches.get(path)
      if (identity !== null && present?.identity === identity) {
        present.names = names
        continue
      }
      present?.watcher.close()
      this.#watches.delete(path)
      if (identity !== null && this.#watch(path, identity, names)) armed = true
    }
    return armed
  }

  #watch(path: string, identity: string, names: ReadonlySet<string>): boolean {
    if (this.#state !== 'following') return false
    try {
      const watcher = watch(path, { persistent: false })
      const entry: Watch = { watcher, identity, names }
      watcher.on('change', (_type, name) => {
        if (typeof name !== 'string' || entry.names.has(name)) this.#wake()
      })
      watcher.on('error', () => {
        watcher.close()
        if (this.#watches.get(path) === entry) this.#watches.delete(path)
      })
      this.#watches.set(path, entry)
      return true
    } catch (error) {
      // ENOSPC, EMFILE: no watches left; EACCES, ENOENT: none to be had here.
      if (errnoOf(error) === undefined) throw error
      return false
    }
  }

  /** Step 3. A directory that is being replaced is missing for an instant: that is no news yet. */
  async #readPatiently(): Promise<Omit<Reading, 'trigger' | 'seenAt'>> {
    let read = await readSource(this.#source)
    for (let attempt = 1; attempt < readAttempts && read.error && this.#state === 'following'; attempt++) {
      await wait(this.#debounce / 2, undefined, { ref: this.#accepted === null })
      read = await readSource(this.#source)
    }
    return read
  }
}

function milliseconds(name: string, value: number, least: number): number {
  if (value >= least && value <= 2 ** 31 - 1) return value
  throw new CertgenError('usage', `${name} must be ${least} milliseconds or more, not ${value}`)
}

async function identityOf(path: string): Promise<string | null> {
  try {
    const { dev, ino } = await stat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    return null
  }
}

/** The directory's own links are resolved once, so that no swap of one comes between two files. */
async function readSource({ directory, names }: Source): Promise<Omit<Reading, 'trigger' | 'seenAt'>> {
  try {
    const generation = await readGeneration(await resolveDirectory(directory), names, { lstat, open, readlink })
    if (!generation) throw new CertgenError('unreadable', `${directory} holds none of ${names.join(', ')}`)
    const { files, name } = generation
    return { files, generation: name, error: null, hash: hashOf(names, files) }
  } catch (error) {
    if (!(error instanceof CertgenError)) throw error
    return { files: new Map(), generation: '', error, hash: `${error.code}: ${error.message}` }
  }
}

async function resolveDirectory(directory: string): Promise<string> {
  try {
    return await realpath(directory)
  } catch (error) {
    const reason = errnoOf(error)
    if (reason === undefined) throw error
    const why = reason === 'ENOENT' ? 'it does not exist' : reason
    throw new CertgenError('unreadable', `cannot read ${directory}: ${why}`, { cause: error })
  }
}

function hashOf(names: readonly string[], files: ReadonlyMap<string, Buffer>): string {
  const hash = createHash('sha256')
  for (const name of names) {
    const data = files.get(name)
    hash.update(`${name}\0${data?.length ?? -1}\0`).update(data ?? '')
  }
  return hash.digest('hex')
}
