import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** Servers of other makes, as processes in the foreground. */

const patienceMs = 20_000

export interface Launch {
  readonly program: string
  readonly args: readonly string[]
  /** On loopback; the server is there once it takes connections. */
  readonly port: number
  /** Said once it is there, for a server to which a connection tells nothing, or too early. */
  readonly ready?: RegExp
  readonly env?: NodeJS.ProcessEnv
  readonly user?: { readonly uid: number; readonly gid: number }
  /** Where it says what it has to say, when not on its own output. */
  readonly logFile?: string
  /** Ends it at once, with all its children. */
  readonly stopSignal?: NodeJS.Signals
}

export interface RunningServer {
  readonly port: number
  /** What it has said so far. */
  log(): string
  /** Ends it; what has ended by itself stays ended. */
  stop(): Promise<void>
}

/** Starts a server and waits until it is there. Throws with what it said when it ends, or takes longer than 20 s. */
export async function launch(options: Launch): Promise<RunningServer> {
  const { program, args, port, ready, env, user, logFile, stopSignal = 'SIGTERM' } = options
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...user, ...(env ? { env } : {}) })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  }
  const log = (): string => said + (logFile !== undefined && existsSync(logFile) ? readFileSync(logFile, 'utf8') : '')
  const stop = async (): Promise<void> => {
    await end(child, stopSignal)
  }
  const deadline = performance.now() + patienceMs
  while (!(ready ? ready.test(said) : await accepts(port))) {
    if (hasEnded(child) || performance.now() > deadline) {
      await stop()
      throw new Error(`${program} did not start: ${log()}`)
    }
    await delay(10)
  }
  return { port, log, stop }
}

/** Ends a process, unless it has ended, and waits for it; gives its exit code and the signal that ended it. */
export async function end(
  child: ChildProcess,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<[number | null, NodeJS.Signals | null]> {
  if (!hasEnded(child)) {
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }
  return [child.exitCode, child.signalCode]
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

function accepts(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => done(true)).once('error', () => done(false))
    socket.once('connect', () => socket.destroy())
  })
}
