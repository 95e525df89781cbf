import { EventEmitter } from 'node:events'
import { CertgenError } from '../errors.ts'
import { DirectoryWatcher } from './directory-watcher.ts'
import type { Reading, WatchOptions } from './directory-watcher.ts'
import type { FailedEvent, ReloadCounters, ReloadEvents, ReloadedEvent, SetSummary } from './events.ts'
import { changedParts } from './loaded-set.ts'
import type { LoadRequest, LoadedSet, SetFileNames } from './loaded-set.ts'

export interface FollowOptions extends WatchOptions {
  /** The files' names, where they are not `tls.crt`, `tls.key` and `ca.crt`. */
  readonly files?: Partial<SetFileNames>
  /** Of the key. */
  readonly passphrase?: string
  /** The instant at which a set is judged. Default: now. */
  readonly clock?: () => Date
}

/** What a follower does with a directory's sets. */
export interface Consumer {
  /** Throws CertgenError when the set cannot be used. `old` is what is in use; null at the start. */
  readonly load: (reading: Reading, at: Date, old: LoadedSet | null) => Promise<LoadedSet>
  /** Puts the set into use. When it throws, the old one is in use still. */
  readonly use: (current: LoadedSet, old: LoadedSet | null) => void
}

/**
 * Follows a directory's sets: what is there is judged before it is used, a set that cannot be used is told of once and
 * the last good one stays, and one set is dealt with at a time, in order.
 */
export abstract class SetFollower extends EventEmitter<ReloadEvents> {
  readonly #directory: string
  readonly #clock: () => Date
  readonly #consumer: Consumer
  readonly #watcher: DirectoryWatcher
  #current: LoadedSet | null = null
  #failure: { readonly key: string; readonly error: Error } | null = null
  #counts = { success: 0, failure: 0 }
  #lastSuccess = new Date(0)
  #closed = false

  protected constructor(directory: string, names: readonly string[], options: FollowOptions, consumer: Consumer) {
    super()
    this.#directory = directory
    this.#clock = options.clock ?? (() => new Date())
    this.#consumer = consumer
    this.#watcher = new DirectoryWatcher({ directory, names }, options, (reading) => this.#consider(reading))
  }

  /** What is in use: fingerprints and dates, never the key. */
  get current(): SetSummary {
    return this.#required().summary
  }

  get counters(): ReloadCounters {
    return { directory: this.#directory, ...this.#counts, lastSuccess: this.#lastSuccess }
  }

  /** Leaves everything as it is until `resume`. */
  pause(): void {
    this.#watcher.pause()
  }

  /** Goes on, and looks at once for what has changed meanwhile. */
  resume(): void {
    this.#watcher.resume()
  }

  /** Ends the following; what is in use stays in use. Returns when nothing is left running. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#watcher.close()
  }

  /** Throws what the first set was refused with. */
  protected async begin(): Promise<void> {
    await this.#watcher.start()
    if (this.#current) return
    await this.close()
    throw this.#failure?.error ?? new CertgenError('unreadable', `nothing was read from ${this.#directory}`)
  }

  #required(): LoadedSet {
    if (this.#current) return this.#current
    throw new Error('a follower that has begun has a set')
  }

  /** Whether the reading is done with: one that was refused may become good with time alone. */
  async #consider(reading: Reading): Promise<boolean> {
    const old = this.#current
    if (reading.hash === old?.hash) {
      this.#failure = null
      return true
    }
    try {
      const current = await this.#consumer.load(reading, this.#clock(), old)
      if (this.#closed) return false
      this.#consumer.use(current, old)
      this.#accept(reading, current, old)
      return true
    } catch (error) {
      this.#refuse(reading, error)
      return false
    }
  }

  #accept({ trigger, seenAt }: Reading, current: LoadedSet, old: LoadedSet | null): void {
    this.#current = current
    this.#failure = null
    this.#lastSuccess = this.#clock()
    if (!old) return
    this.#counts.success += 1
    const event: ReloadedEvent = {
      type: 'reloaded',
      time: this.#lastSuccess,
      directory: this.#directory,
      trigger,
      changed: changedParts(old, current),
      old: old.summary,
      new: current.summary,
      milliseconds: performance.now() - seenAt,
    }
    // Listeners are called on their own: one that throws must not pass for a set that cannot be used.
    queueMicrotask(() => this.emit('reloaded', event))
  }

  #refuse({ hash, trigger }: Reading, error: unknown): void {
    const failure = describe(error)
    const key = JSON.stringify([hash, failure.message, failure.findings])
    const isNews = this.#failure?.key !== key
    this.#failure = { key, error: error instanceof Error ? error : new Error(failure.message) }
    if (!isNews || !this.#current || this.#closed) return
    this.#counts.failure += 1
    const where = { time: this.#clock(), directory: this.#directory, trigger }
    const event: FailedEvent = { type: 'failed', ...where, ...failure, current: this.#current.summary }
    queueMicrotask(() => this.emit('failed', event))
  }
}

function describe(error: unknown): Pick<FailedEvent, 'code' | 'message' | 'findings'> {
  if (error instanceof CertgenError) {
    const { code, message, findings } = error
    return { code, message, findings }
  }
  return { code: 'unexpected', message: error instanceof Error ? error.message : String(error), findings: [] }
}

/** The whole request, but for the instant. */
export function requestOf(directory: string, names: SetFileNames, options: FollowOptions): Omit<LoadRequest, 'at'> {
  const { passphrase } = options
  return { directory, files: names, ...(passphrase === undefined ? {} : { passphrase }) }
}
