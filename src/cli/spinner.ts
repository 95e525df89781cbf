import { setTimeout as sleep } from 'node:timers/promises'
import type { Ora } from 'ora'
import { printable } from '../pki/names.ts'
import type { RotationProgress } from '../rotation/rotate.ts'
import { Log } from './output.ts'
import type { OutputOptions } from './output.ts'
import { reasons } from './words.ts'

export interface Spinner {
  readonly progress: RotationProgress
  readonly waitUntil: (instant: Date) => Promise<void>
  readonly stop: () => void
}

const steps = { issue: 'issuing', preflight: 'trying handshakes', write: 'writing' } as const

/**
 * A spinner on a terminal, a plain line where something is waited for, and otherwise silence; with `verbose`, a line for
 * each change in place of the spinner.
 */
export async function createSpinner(options: OutputOptions): Promise<Spinner> {
  const { json = false, verbose = false, logFormat = 'text' } = options
  const isQuiet = json || verbose || logFormat === 'json' || !process.stderr.isTTY
  const spinner = isQuiet ? null : await makeOra()
  const log = new Log(logFormat)
  const say = (text: string): void => {
    if (spinner) spinner.start(printable(text))
    else if (!json) log.write('info', text)
  }
  return {
    progress: {
      waitingForLock: ({ pid, host }) => {
        say(`waiting for another certgen: pid ${pid} on ${host}`)
      },
      step: (step, done, total) => {
        spinner?.start(
          step === 'write'
            ? `writing ${done} of ${total}`
            : `${steps[step]} (${total} ${total === 1 ? 'leaf' : 'leaves'})`,
        )
      },
      written: ({ name, path, reason }) => {
        if (verbose) log.write('info', `${path}: ${reasons[reason]}`, { name, target: path, reason })
      },
    },
    waitUntil: async (instant) => {
      say(`waiting until ${instant.toISOString()} for every peer to load the bundle`)
      // A timer of Node's counts at most 24.8 days: the caller asks again.
      await sleep(Math.min(Math.max(instant.getTime() - Date.now(), 0) + 50, 0x7fffffff))
    },
    stop: () => spinner?.stop(),
  }
}

/** ora writes escape sequences also into a redirected stderr, so there is one only for a terminal. */
async function makeOra(): Promise<Ora> {
  const { default: ora } = await import('ora')
  return ora({ stream: process.stderr, discardStdin: false })
}
