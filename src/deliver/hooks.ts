import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { CertgenError } from '../errors.ts'
import { readFileOrPipe } from '../store/named-file.ts'

/** What is done after a change: a command, or a signal to the process named in a file. */
export type Hook =
  /** A string goes through `sh -c`, a list is a program and its arguments. */
  | { readonly kind: 'exec'; readonly command: string | readonly string[] }
  | { readonly kind: 'signal'; readonly pidFile: string; readonly signal: NodeJS.Signals }

export interface HookResult {
  readonly kind: Hook['kind']
  /** The command, or the file with the process's number. */
  readonly subject: string
  readonly ok: boolean
  /** Why it failed; null when it did not. */
  readonly detail: string | null
}

/** Reads `PIDFILE[:SIG]`; the signal is SIGHUP unless one is named. Throws CertgenError `usage`. */
export function parseSignalHook(text: string): Hook {
  const [, pidFile = '', name = 'HUP'] = /^(.+?)(?::((?:SIG)?[A-Z][A-Z0-9]*))?$/.exec(text) ?? []
  const signal = parseSignal(name)
  if (pidFile !== '' && signal) return { kind: 'signal', pidFile, signal }
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a file and a signal`, {
    hints: ['write /run/nginx.pid or /run/haproxy.pid:SIGUSR2'],
  })
}

/** Reads `SIGHUP` or `HUP`; null when the system has no such signal. */
export function parseSignal(name: string): NodeJS.Signals | null {
  const signal = name.startsWith('SIG') ? name : `SIG${name}`
  return Object.hasOwn(constants.signals, signal) ? (signal as NodeJS.Signals) : null
}

/**
 * Runs the hook once. What it says goes to standard error, so that standard output stays data. When `signal` is aborted
 * a running command and its children are ended.
 */
export async function runHook(
  hook: Hook,
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<HookResult> {
  if (hook.kind === 'exec') {
    const detail = await runCommand(hook.command, environment, signal)
    return { kind: 'exec', subject: subjectOf(hook), ok: detail === null, detail }
  }
  const detail = await sendSignal(hook.pidFile, hook.signal)
  return { kind: 'signal', subject: subjectOf(hook), ok: detail === null, detail }
}

/** The command as one would type it, or the file with the process's number. */
export function subjectOf(hook: Hook): string {
  if (hook.kind === 'signal') return hook.pidFile
  return typeof hook.command === 'string' ? hook.command : hook.command.map(shellWord).join(' ')
}

/** The word as one would type it into a shell. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function runCommand(
  command: string | readonly string[],
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<string | null> {
  return new Promise((resolve) => {
    // A group of its own, so that what the shell has started ends with it.
    const [program = '', ...args] = typeof command === 'string' ? ['sh', '-c', command] : command
    const child = spawn(program, args, {
      env: { ...withoutSecrets(process.env), ...environment },
      stdio: ['ignore', process.stderr, process.stderr],
      detached: true,
    })
    const end = (): void => {
      if (child.pid !== undefined) killGroup(child.pid)
    }
    signal.addEventListener('abort', end, { once: true })
    child.once('error', (error) => {
      signal.removeEventListener('abort', end)
      resolve(error.message)
    })
    child.once('exit', (code, killedBy) => {
      signal.removeEventListener('abort', end)
      if (code === 0) resolve(null)
      else resolve(killedBy === null ? `it exited with ${code ?? 'no code'}` : `it was ended by ${killedBy}`)
    })
    if (signal.aborted) end()
  })
}

/** Variables that hold a passphrase: it is for certgen alone (I3). */
const secretVariables = new Set(['CERTGEN_CA_PASSPHRASE'])

/** Says that a variable holds a secret: no hook finds it in its environment. */
export function keepFromHooks(variable: string): void {
  secretVariables.add(variable)
}

function withoutSecrets(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !secretVariables.has(name)))
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGTERM')
  } catch {
    // It has ended just now.
  }
}

async function sendSignal(pidFile: string, signal: NodeJS.Signals): Promise<string | null> {
  try {
    const text = (await readFileOrPipe(pidFile)).toString('utf8').trim()
    // 0 would be our own group, and 1 is nobody's to reload unless it is the container's only process.
    if (!/^[1-9]\d*$/.test(text)) return `there is no process number in ${pidFile}`
    process.kill(Number(text), signal)
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
