import { setTimeout as wait } from 'node:timers/promises'
import { certgen } from '../program.ts'
import type { Outcome } from '../program.ts'
import type { TracedRun } from '../faults/trace.ts'
import { age, judgeRun, judgeServed, watchFleet } from './judgement.ts'
import { elsewhere, holdAt } from './stall.ts'
import type { HeldRun, Place } from './stall.ts'

/** What happens while a certgen stands still at one of its calls. Another is always in another PID namespace. */

export type Scene =
  /** The whole process stands still, the other rotates so many times, then the first wakes up. */
  | { readonly kind: 'asleep'; readonly rotations: number; readonly days: number }
  /** The first wakes up while the other is held in the middle of its own run, which goes on after the first has ended. */
  | { readonly kind: 'amid'; readonly other: Place }
  /** One call is answered late, and nobody is stopped: other threads go on. */
  | { readonly kind: 'late' }

export interface Played {
  /** Whether the first was held, and stopped, where it was meant to be; otherwise this proves nothing. */
  readonly hit: boolean
  /** How each run ended, for the totals. */
  readonly outcomes: readonly string[]
  readonly violations: readonly string[]
}

export async function play(scene: Scene, run: TracedRun, shim: string, place: Place): Promise<Played> {
  const watcher = watchFleet(run.dir)
  const stage = new Stage(run, shim)
  const first = holdAt(scene.kind === 'amid' ? hasty(run) : run, shim, place)
  const hit = (await first.arrived) && (await stage.play(scene, first))
  first.goOn()
  const woken = await first.ended()
  stage.note('woken', woken, overtaken)
  await stage.finish()
  const { outcomes, violations } = stage
  return { hit, outcomes, violations: [...violations, ...watcher.stop(), ...(await judgeServed(run.dir))] }
}

// The contract's codes of who finds that another was at work: the write failed, the lock is held.
const overtaken = [0, 5, 6]

/** It finds the lock held by one that is held itself, and shall not wait until that one's lease is over. */
function hasty(run: TracedRun): TracedRun {
  return { ...run, args: [...run.args, '--lock-timeout', '2s'] }
}

/** The lease, and some more: nothing else tells that an answer was later than that. */
const lateMs = 18_000

class Stage {
  readonly outcomes: string[] = []
  readonly violations: string[] = []
  readonly #run: TracedRun
  readonly #shim: string
  #other: { readonly ended: Promise<Outcome>; readonly goOn?: () => void } | null = null

  constructor(run: TracedRun, shim: string) {
    this.#run = run
    this.#shim = shim
  }

  /** All that comes before the first goes on. Returns whether it has stood still. */
  async play(scene: Scene, first: HeldRun): Promise<boolean> {
    if (scene.kind === 'late') {
      const ended = this.#rotate()
      this.#other = { ended }
      await Promise.race([ended, wait(lateMs)])
      return true
    }
    first.stop()
    if (scene.kind === 'amid') await this.#hold(scene.other)
    else await this.#rotateTimes(scene)
    return first.isStopped
  }

  async #rotateTimes({ rotations, days }: Extract<Scene, { kind: 'asleep' }>): Promise<void> {
    for (let rotation = 1; rotation <= rotations; rotation++) {
      this.note('other', await this.#rotate(), [0])
      if (days > 0) age(this.#run.dir, days)
    }
    this.violations.push(...(await judgeServed(this.#run.dir)).map((violation) => `before it woke, ${violation}`))
  }

  /** The other with names of its own that are the same every time, as those of the first are. */
  async #hold(place: Place): Promise<void> {
    const instant = new Date(this.#run.instant.getTime() + 1000)
    const other = holdAt({ ...this.#run, instant }, this.#shim, place, elsewhere)
    this.#other = { ended: other.ended(), goOn: () => other.goOn() }
    if (!(await other.arrived)) this.outcomes.push('the other came not so far')
  }

  #rotate(): Promise<Outcome> {
    return certgen(['--overwrite', '--lock-timeout', '60s', '--dir', this.#run.dir], { through: elsewhere })
  }

  /** After the first has ended. */
  async finish(): Promise<void> {
    if (!this.#other) return
    this.violations.push(
      ...(await judgeServed(this.#run.dir, true)).map((violation) => `before the other, ${violation}`),
    )
    const { ended, goOn } = this.#other
    goOn?.()
    this.note('other', await ended, overtaken)
  }

  note(who: string, outcome: Outcome, codes: readonly number[]): void {
    this.outcomes.push(`${who} exit ${String(outcome.code)}`)
    this.violations.push(...judgeRun(who, outcome, codes))
  }
}
