import { setTimeout as wait } from 'node:timers/promises'
import { runHook } from './hooks.ts'
import type { Hook, HookResult } from './hooks.ts'

/** One try of a hook. */
export interface Attempt extends HookResult {
  /** From 1. */
  readonly attempt: number
  /** Milliseconds to the next one; null when it succeeded or there is none. */
  readonly retryIn: number | null
}

export interface Backoff {
  /** Milliseconds before the second try; doubled for each one after. */
  readonly first: number
  readonly longest: number
}

/**
 * Runs hooks after changes, one change at a time. A hook that fails is tried again until it succeeds; a change that comes
 * meanwhile takes the place of the one before it, for a hook loads what is there when it runs.
 */
export class FollowUp {
  readonly #hooks: readonly Hook[]
  readonly #backoff: Backoff
  readonly #tell: (attempt: Attempt) => void
  readonly #closed = new AbortController()
  #next: Readonly<Record<string, string>> | null = null
  #arrived = new AbortController()
  #running: Promise<void> | null = null

  constructor(hooks: readonly Hook[], backoff: Backoff, tell: (attempt: Attempt) => void) {
    this.#hooks = hooks
    this.#backoff = backoff
    this.#tell = tell
  }

  /** A change has come; `environment` tells the command of it. Returns when all hooks have succeeded, or it is closed. */
  async follow(environment: Readonly<Record<string, string>>): Promise<void> {
    this.#next = environment
    this.#arrived.abort()
    await (this.#running ??= this.#runWhileAsked())
  }

  /** Ends what runs and what waits. */
  async close(): Promise<void> {
    this.#closed.abort()
    this.#arrived.abort()
    await this.#running
  }

  async #runWhileAsked(): Promise<void> {
    try {
      for (let environment = this.#next; environment && !this.#closed.signal.aborted; environment = this.#next) {
        this.#next = null
        this.#arrived = new AbortController()
        for (const hook of this.#hooks) await this.#runUntilDone(hook, environment)
      }
    } finally {
      this.#running = null
    }
  }

  async #runUntilDone(hook: Hook, environment: Readonly<Record<string, string>>): Promise<void> {
    const { first, longest } = this.#backoff
    const superseded = this.#arrived.signal
    for (
      let attempt = 1, pause = first;
      !this.#closed.signal.aborted;
      attempt++, pause = Math.min(pause * 2, longest)
    ) {
      const result = await runHook(hook, environment, this.#closed.signal)
      const again = !result.ok && !superseded.aborted && !this.#closed.signal.aborted
      this.#tell({ ...result, attempt, retryIn: again ? pause : null })
      if (!again) return
      const waited = await wait(pause, true, { signal: superseded }).catch(() => false)
      if (!waited) return
    }
  }
}
