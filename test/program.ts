import { execFile, execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { lstatSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll } from 'vitest'
import type { FleetReport } from '../src/cli/fleet-report.ts'

/** The built program, run as an operator runs it. */

const bin = resolve('bin/certgen.js')

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Run by this program, such as `['faketime', '+6 years']`. */
  readonly through?: readonly string[]
  /** Milliseconds after which it is killed, and its code is null. */
  readonly timeout?: number
  /** Another copy of the program's bin/certgen.js. */
  readonly program?: string
}

/** The environment of a run: nothing of the test runner's that would change what certgen prints. */
function environment(extra: RunOptions['env']): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env
  return { PATH, HOME, TMPDIR, ...extra }
}

export function certgen(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const { cwd, timeout = 0, program: script = bin } = options
  const [program = '', ...rest] = [...(options.through ?? []), process.execPath, script, ...args]
  return new Promise((done) => {
    execFile(
      program,
      rest,
      { cwd, env: environment(options.env), maxBuffer: 64 * 1024 * 1024, timeout, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : null) : 0
        done({ code, stdout, stderr })
      },
    )
  })
}

/** `channel`: its descriptor 3 is a socket, `stdio[3]` here, for what is preloaded into it. */
export function start(
  args: readonly string[],
  options: RunOptions & { readonly channel?: boolean } = {},
): ChildProcess {
  const { cwd, env, through = [], channel = false } = options
  const [program = '', ...rest] = [...through, process.execPath, bin, ...args]
  const stdio = Array<'pipe'>(channel ? 4 : 3).fill('pipe')
  return spawn(program, rest, { cwd, env: environment(env), stdio })
}

export interface JsonReport extends FleetReport {
  readonly schema: number
  readonly command: string
}

/** A run that must succeed, as its JSON report. */
export async function rotateJson(args: readonly string[], options: RunOptions = {}): Promise<JsonReport> {
  const { code, stdout, stderr } = await certgen([...args, '--json'], options)
  if (code !== 0) throw new Error(`certgen ${args.join(' ')} exited with ${String(code)}: ${stderr}`)
  return JSON.parse(stdout) as JsonReport
}

const temporary: string[] = []

// Here and not where one is made: a hook that is registered while a test runs is never called.
afterAll(() => {
  for (const path of temporary) rmSync(path, { recursive: true, force: true })
})

/** A directory of its own, removed after the file's tests. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'certgen-test-'))
  temporary.push(path)
  return path
}

/** What another program prints; its stderr goes with the error when it fails. */
export function output(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Every path below a directory with its inode, change times and mode: equal trees were not written to. */
export function fingerprintTree(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()
  return Object.fromEntries(
    ['.', ...entries].map((entry) => {
      const { ino, mtimeMs, ctimeMs, mode } = lstatSync(join(directory, entry))
      return [entry, [ino, mtimeMs, ctimeMs, mode.toString(8)].join(' ')]
    }),
  )
}

/** The certificates of a PEM file, as text blocks. */
export function pemBlocks(path: string): string[] {
  return readFileSync(path, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
}
