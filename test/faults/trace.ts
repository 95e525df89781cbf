import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { certgen } from '../program.ts'
import type { Outcome } from '../program.ts'
import { parseSystemCalls } from './system-calls.ts'

/** The program under strace: which system calls touch a directory, and what happens when one of them fails. */

export type Fault = 'ENOSPC' | 'EIO' | 'EACCES' | 'SIGKILL'

/** One system call of a rotation that has an effect below DIR. */
export interface Point {
  readonly call: string
  /** Relative to DIR: the first of its arguments that is below. */
  readonly path: string
  /** How many calls of this name on this path its thread makes until it comes to it, this one included. */
  readonly nth: number
}

interface Call {
  readonly thread: string
  readonly name: string
  /** Relative to DIR, in the order of the arguments. */
  readonly paths: readonly string[]
  readonly line: string
}

const writingCalls = [
  ...['rename', 'renameat', 'renameat2', 'symlink', 'symlinkat', 'link', 'linkat', 'unlink', 'unlinkat', 'rmdir'],
  ...['mkdir', 'mkdirat', 'mknod', 'mknodat', 'open', 'openat', 'openat2', 'creat'],
  ...['write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'sendfile', 'copy_file_range'],
  ...['truncate', 'ftruncate', 'fallocate', 'fsync', 'fdatasync', 'sync_file_range', 'syncfs'],
  ...['chmod', 'fchmod', 'fchmodat', 'chown', 'fchown', 'lchown', 'fchownat', 'utimensat'],
]

/**
 * Each run names what it makes alike, at this instant, and makes the calls on one path in one order: those that wait for
 * the disk in the one thread of the pool, all others in the main thread.
 */
export function fixedNames(instant: Date): Record<string, string> {
  return {
    NODE_OPTIONS: `--import=${pathToFileURL(resolve('test/faults/fixtures/fixed-names.mjs')).href}`,
    CERTGEN_TEST_INSTANT: String(instant.getTime()),
    UV_THREADPOOL_SIZE: '1',
    UV_USE_IO_URING: '0',
  }
}

export interface TracedRun {
  /** Absolute. */
  readonly dir: string
  readonly args: readonly string[]
  readonly instant: Date
}

/** An undisturbed run: every call that has an effect below DIR, in order. Throws when it fails. */
export async function traceCalls(run: TracedRun): Promise<Point[]> {
  const { outcome, calls } = await strace(run, ['--seccomp-bpf', '-e', `trace=${writingCalls.join()}`])
  if (outcome.code !== 0) throw new Error(`the undisturbed run failed: ${outcome.stderr}`)
  const effective = calls.filter(hasEffect)
  return effective.map((call) => ({ call: call.name, path: call.paths[0]!, nth: positionOf(call, calls) }))
}

/**
 * Which call of its name on its path it is: strace counts for each thread by itself. Opening to read counts too, for strace
 * selects by name and path alone.
 */
function positionOf(call: Call, calls: readonly Call[]): number {
  const isAlike = ({ thread, name, paths }: Call): boolean =>
    thread === call.thread && name === call.name && paths.includes(call.paths[0]!)
  return calls.filter(isAlike).indexOf(call) + 1
}

/** Opening changes something only where it creates or truncates. */
function hasEffect({ name, line }: Call): boolean {
  return !name.startsWith('open') || /O_CREAT|O_TRUNC/.test(line)
}

/** A run in which one call fails, or kills it. `hit` is whether strace says that it was the intended one, and only it. */
export async function inject(run: TracedRun, point: Point, fault: Fault): Promise<{ outcome: Outcome; hit: boolean }> {
  const effect = fault === 'SIGKILL' ? 'signal=KILL' : `error=${fault}`
  const { outcome, calls, log } = await strace(run, [
    ...at(run, point),
    ...['-e', `inject=${point.call}:${effect}:when=${point.nth}`],
    // Faster, but no signal is delivered so.
    ...(fault === 'SIGKILL' ? [] : ['--seccomp-bpf']),
  ])
  const reached = calls.filter((call) => positionOf(call, calls) === point.nth)
  const intended = reached.length === 1 && reached[0]!.paths[0] === point.path && hasEffect(reached[0]!)
  const injected = log.split('\n').filter((line) => line.endsWith('(INJECTED)'))
  const happened =
    fault === 'SIGKILL'
      ? log.includes('+++ killed by SIGKILL +++')
      : injected.length === 1 && injected[0]!.includes(` ${fault} `)
  return { outcome, hit: intended && happened }
}

/** A run that stands still for two seconds before or after one call, so that something else can happen meanwhile. */
export async function pause(run: TracedRun, point: Point, when: 'before' | 'after'): Promise<Outcome> {
  const delay = when === 'before' ? 'delay_enter' : 'delay_exit'
  const inject = `inject=${point.call}:${delay}=2s:when=${point.nth}`
  const { outcome, log } = await strace(run, [...at(run, point), '-e', inject])
  if (!log.includes('(DELAYED)')) throw new Error(`the run did not come to ${point.call} ${point.path}`)
  return outcome
}

function at({ dir }: TracedRun, { call, path }: Point): string[] {
  return ['-P', join(dir, path), '-e', `trace=${call}`]
}

async function strace(
  { dir, args, instant }: TracedRun,
  options: readonly string[],
): Promise<{ outcome: Outcome; calls: Call[]; log: string }> {
  const file = `${dir}.strace`
  const outcome = await certgen([...args, '--dir', dir], {
    through: ['strace', '-f', '-y', '-xx', '-e', 'quiet=attach,path-resolution', '-o', file, ...options],
    env: fixedNames(instant),
  })
  const log = readFileSync(file, 'utf8')
  return { outcome, calls: parseCalls(log, dir), log }
}

/** The calls on paths below DIR in the order in which they began. */
function parseCalls(log: string, dir: string): Call[] {
  return parseSystemCalls(log).flatMap(({ thread, name, strings, line }): Call[] => {
    const below = strings.filter((path) => path === dir || path.startsWith(`${dir}/`))
    return below.length === 0 ? [] : [{ thread, name, line, paths: below.map((path) => path.slice(dir.length + 1)) }]
  })
}
