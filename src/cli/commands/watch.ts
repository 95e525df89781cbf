import { once } from 'node:events'
import { Option } from 'commander'
import type { Command } from 'commander'
import { CertgenError } from '../../errors.ts'
import { FollowUp } from '../../deliver/follow-up.ts'
import type { Attempt } from '../../deliver/follow-up.ts'
import { parseSignalHook } from '../../deliver/hooks.ts'
import type { Hook } from '../../deliver/hooks.ts'
import { toOcsf } from '../../reload/events.ts'
import type { FailedEvent, ReloadedEvent, SetSummary } from '../../reload/events.ts'
import { SetObserver } from '../../reload/set-observer.ts'
import { exitCodes } from '../exit-codes.ts'
import { createOutput, findingJson, findingLine } from '../output.ts'
import type { Output } from '../output.ts'

interface WatchOptions {
  readonly exec?: string
  readonly signal?: Hook
  readonly events?: 'ocsf'
  readonly json?: boolean
  readonly once?: boolean
  readonly debounce: number
  readonly poll: number
}

const backoff = { first: 1000, longest: 60_000 }

export function addWatchCommand(program: Command): void {
  program
    .command('watch <dir>')
    .summary('follow a target; run a command or signal on a change')
    .description('Follows a target as a service would and prints every change; a sidecar with --exec or --signal.')
    .option('--exec <command>', 'run this by sh -c once the new set has been found good')
    .addOption(
      new Option('--signal <pidfile[:sig]>', 'send this signal (default: SIGHUP) then').argParser(parseSignalHook),
    )
    .option('--once', 'wait for one change, and exit')
    .addOption(millisecondsOption('--debounce <duration>', 'quiet time after the last event', 500, '500ms'))
    .addOption(millisecondsOption('--poll <duration>', 'time between reads that need no event', 10_000, '10s'))
    .addOption(new Option('--events <form>', 'print each event in this form').choices(['ocsf']))
    .option('--json', 'print one JSON document a line')
    .addHelpText('after', watchHelp)
    .action(runWatch)
}

const watchHelp = `
The command finds in its environment:
  CERTGEN_TARGET      the directory
  CERTGEN_SHA256      the leaf's fingerprint, CERTGEN_OLD_SHA256 the one before
  CERTGEN_NOT_AFTER   the leaf's end
  CERTGEN_CHANGED     what has changed, of leaf,chain,key,bundle
If it fails, it is run again after 1 s, then 2 s, and so on up to a minute.

Examples:
  certgen watch certs/server --exec 'nginx -s reload'
  certgen watch certs/server --signal /run/haproxy.pid:SIGUSR2

Exit codes:
  0 ended by SIGTERM or SIGINT, or with --once after a change   2 usage
  3 the set that is there cannot be used   7 with --once: the command failed`

function millisecondsOption(flags: string, description: string, value: number, shown: string): Option {
  return new Option(flags, description).argParser(parseMilliseconds).default(value, shown)
}

/** Throws CertgenError `usage`. */
function parseMilliseconds(text: string): number {
  const [, count, unit] = /^(\d+)(ms|s|m)$/.exec(text) ?? []
  const value = Number(count) * ({ ms: 1, s: 1000, m: 60_000 }[unit ?? ''] ?? NaN)
  if (value > 0 && value < 2 ** 31) return value
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a time to wait`, {
    hints: ['write 500ms, 10s or 5m'],
  })
}

async function runWatch(dir: string, options: WatchOptions): Promise<void> {
  const output = createOutput({ json: options.json === true || options.events !== undefined })
  const { debounce, poll } = options
  const observer = await SetObserver.start(dir, { debounce, poll })
  const done = new AbortController()
  const outcome = { failed: false }
  const followUp = new FollowUp(hooksOf(options), backoff, (attempt) => {
    reportAttempt(attempt, options, output)
    // For a script, the first try is the answer.
    if (options.once === true && !attempt.ok) {
      outcome.failed = true
      done.abort()
    }
  })
  observer.on('failed', (event) => reportFailure(event, options, output))
  observer.on('reloaded', (event) => {
    reportReload(event, options, output)
    void followUp.follow(environmentOf(dir, event)).then(() => {
      if (options.once === true) done.abort()
    })
  })
  const ended = untilEnded(done.signal)
  process.stderr.write(`certgen: watching ${dir}: ${describeSet(observer.current)}\n`)
  await ended
  await Promise.all([observer.close(), followUp.close()])
  process.exitCode = outcome.failed ? exitCodes.followUpFailed : exitCodes.done
}

/** Until SIGTERM, SIGINT or `done`. What follows a directory does not keep the process alive by itself. */
async function untilEnded(done: AbortSignal): Promise<void> {
  const alive = setInterval(() => undefined, 2 ** 30)
  const ended = new AbortController()
  const signals = ['SIGTERM', 'SIGINT'] as const
  const waits = signals.map((signal) => once(process, signal, { signal: ended.signal }).catch(() => undefined))
  await Promise.race([...waits, done.aborted ? undefined : once(done, 'abort', { signal: ended.signal })])
  ended.abort()
  clearInterval(alive)
}

function hooksOf({ exec, signal }: WatchOptions): Hook[] {
  return [...(exec === undefined ? [] : [{ kind: 'exec', command: exec } as const]), ...(signal ? [signal] : [])]
}

function environmentOf(dir: string, event: ReloadedEvent): Record<string, string> {
  return {
    CERTGEN_TARGET: dir,
    CERTGEN_SHA256: event.new.leaf?.sha256 ?? '',
    CERTGEN_OLD_SHA256: event.old.leaf?.sha256 ?? '',
    CERTGEN_NOT_AFTER: event.new.leaf?.notAfter ?? '',
    CERTGEN_CHANGED: event.changed.join(),
  }
}

function reportReload(event: ReloadedEvent, options: WatchOptions, output: Output): void {
  if (options.events === 'ocsf') printLine(toOcsf(event))
  else if (output.json) printLine({ schema: 1, command: 'watch', ...event })
  else {
    const { time, changed } = event
    output.result(
      `${time.toISOString()} ${output.paint.green('changed')} ${changed.join(', ')}: ${describeSet(event.new)}`,
    )
  }
}

function reportFailure(event: FailedEvent, options: WatchOptions, output: Output): void {
  if (options.events === 'ocsf') printLine(toOcsf(event))
  else if (output.json) {
    printLine({ schema: 1, command: 'watch', ...event, findings: event.findings.map(findingJson) })
  } else {
    const findings = event.findings.map((finding) => `\n  ${findingLine(finding, output.paint)}`)
    output.result(`${event.time.toISOString()} ${output.paint.red('refused')} ${event.message}${findings.join('')}`)
  }
}

function reportAttempt(attempt: Attempt, options: WatchOptions, output: Output): void {
  const { kind, subject, ok, detail, retryIn } = attempt
  if (output.json && options.events === undefined) {
    printLine({ schema: 1, command: 'watch', type: 'action', time: new Date(), ...attempt })
  }
  if (ok) return
  const again = retryIn === null ? '' : `; again in ${retryIn / 1000} s`
  output.warn(`${kind} ${subject} failed: ${detail ?? ''}${again}`)
}

function printLine(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

function describeSet({ leaf, bundle }: SetSummary): string {
  if (!leaf) return `a bundle of ${bundle.length}`
  return `leaf ${leaf.sha256.slice(0, 16)}, ends ${leaf.notAfter.slice(0, 10)}, bundle of ${bundle.length}`
}
