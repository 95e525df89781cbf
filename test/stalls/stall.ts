import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { fixedNames } from '../faults/trace.ts'
import type { Point, TracedRun } from '../faults/trace.ts'
import { output, start } from '../program.ts'
import type { Outcome } from '../program.ts'

/** The program held inside one of its own file system calls: see fixtures/stall.c. */

/** Another PID namespace, as another container has: who holds a lock there cannot be looked at, and only its beat tells. */
export const elsewhere = ['unshare', '-pf', '--mount-proc', '--kill-child']

/** Returns the path of the library that is to be preloaded. */
export function compileShim(directory: string): string {
  const library = join(directory, 'stall.so')
  output('cc', '-shared', '-fPIC', '-O2', '-Wall', '-Werror', '-o', library, resolve('test/stalls/fixtures/stall.c'))
  return library
}

/** A call below DIR, whether it changes anything or only looks. Its path is a pattern, as of a Place. */
export interface StallPoint extends Point {
  readonly changes: boolean
}

const instantInName = /\.\.\d{4}(?:_\d\d){5}\./

/** Every call of an undisturbed run on a path below DIR, in order. Throws when the run fails. */
export async function recordCalls(run: TracedRun, shim: string): Promise<StallPoint[]> {
  const trace = `${run.dir}.calls`
  const { code, stderr } = await new HeldRun(run, shim, { STALL_TRACE: trace }).ended()
  if (code !== 0) throw new Error(`the undisturbed run failed: ${stderr}`)
  const counts = new Map<string, number>()
  const lines = readFileSync(trace, 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const [, call = '', effect, path = ''] = /^(\w+) (\w+) (.*)$/.exec(line) ?? []
    const id = `${call} ${path}`
    const nth = (counts.get(id) ?? 0) + 1
    counts.set(id, nth)
    // The run that is held is a later one.
    return { call, path: path.replace(instantInName, '..????_??_??_??_??_??.'), nth, changes: effect === 'changes' }
  })
}

/** From the first look at the lock to the end of its release: what comes before is done again under the lock. */
export function underLock(calls: readonly StallPoint[]): StallPoint[] {
  const isLock = ({ path }: StallPoint): boolean => path.startsWith('ca/..lock')
  return calls.slice(calls.findIndex(isLock), calls.findLastIndex(isLock) + 1)
}

/** Name and path may be patterns, as of fnmatch(3) without flags: a star also stands for slashes. */
export type Place = Point & { readonly when: 'before' | 'after' }

export function holdAt(run: TracedRun, shim: string, place: Place, through: readonly string[] = []): HeldRun {
  const { call, path, nth, when } = place
  const settings = { STALL_CALL: call, STALL_PATH: path, STALL_NTH: String(nth), STALL_WHEN: when }
  return new HeldRun(run, shim, settings, through)
}

/** Far more than a run takes on a busy machine, its wait for a lock included: only against hangs. */
const boundMs = 180_000

const running = new Set<HeldRun>()

/** Ends what a test has left. */
export function endAll(): void {
  for (const run of running) run.kill()
}

export class HeldRun {
  /** Whether it came to where it was to be held; false once it has ended without. */
  readonly arrived: Promise<boolean>
  readonly #child
  readonly #channel: Socket
  readonly #outcome: Promise<Outcome>

  constructor(
    { dir, args, instant }: TracedRun,
    shim: string,
    settings: Readonly<Record<string, string>>,
    through: readonly string[] = [],
  ) {
    const env = { ...fixedNames(instant), CERTGEN_TEST_CLOCK: 'real', LD_PRELOAD: shim, STALL_DIR: dir, ...settings }
    this.#child = start([...args, '--dir', dir], { env, through, channel: true })
    this.#channel = this.#child.stdio[3] as Socket
    // Whoever ends before it is told to go on has closed its end.
    this.#channel.on('error', () => undefined)
    this.#outcome = this.#collect()
    this.arrived = Promise.race([once(this.#channel, 'data').then(() => true), this.#outcome.then(() => false)])
    running.add(this)
  }

  async #collect(): Promise<Outcome> {
    const texts = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      this.#child[name]!.setEncoding('utf8').on('data', (text: string) => (texts[name] += text))
    }
    const [code] = (await once(this.#child, 'close')) as [number | null]
    running.delete(this)
    return { code, ...texts }
  }

  /** Also all that its other threads do: as a machine that is suspended, or a container that is frozen. */
  stop(): void {
    this.#child.kill('SIGSTOP')
  }

  /** Whether the system says that it is stopped. */
  get isStopped(): boolean {
    const line = readFileSync(`/proc/${this.#child.pid ?? 0}/stat`, 'latin1')
    return line.slice(line.lastIndexOf(')') + 2).startsWith('T')
  }

  goOn(): void {
    this.#child.kill('SIGCONT')
    this.#channel.write('.')
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** Its code is null when it had to be killed. */
  async ended(): Promise<Outcome> {
    const bound = setTimeout(() => this.kill(), boundMs)
    return this.#outcome.finally(() => clearTimeout(bound))
  }
}
