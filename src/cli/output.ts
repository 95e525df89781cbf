import { Chalk } from 'chalk'
import type { ChalkInstance } from 'chalk'
import { CertgenError } from '../errors.ts'
import type { Finding } from '../findings.ts'
import { printable } from '../pki/names.ts'
import { exitCodeOf, exitCodes } from './exit-codes.ts'
import { describeFinding } from './words.ts'

export const logFormats = ['text', 'json'] as const
export type LogFormat = (typeof logFormats)[number]

/** The talk on stderr: lines for people, or with `--log-format json` a JSON object a line for whatever collects them. */
export class Log {
  readonly #format: LogFormat

  constructor(format: LogFormat) {
    this.#format = format
  }

  /** `facts` are for machines; the message says the same to people. */
  write(level: 'info' | 'warning' | 'error' | 'hint', message: string, facts: object = {}): void {
    const line =
      this.#format === 'json'
        ? JSON.stringify({ time: new Date().toISOString(), level, message, ...facts })
        : fitted(`certgen: ${level === 'info' ? '' : `${level}: `}${printable(message)}`, process.stderr)
    process.stderr.write(`${line}\n`)
  }

  writeFinding(finding: Finding): void {
    if (this.#format === 'json') this.write(finding.severity, describeFinding(finding), findingJson(finding))
    else
      process.stderr.write(`${fitted(`certgen: ${findingLine(finding, new Chalk({ level: 0 }))}`, process.stderr)}\n`)
  }
}

/** On a terminal, breaks a line between words where it would be broken within one; elsewhere a line stays a line. */
function fitted(line: string, { isTTY, columns }: Pick<NodeJS.WriteStream, 'isTTY' | 'columns'>): string {
  if (!isTTY || line.length <= columns) return line
  const rows = ['']
  for (const word of line.split(' ')) {
    const row = rows.at(-1) ?? ''
    if (row === '' || row.length + 1 + word.length <= columns)
      rows[rows.length - 1] = row === '' ? word : `${row} ${word}`
    else rows.push(`${' '.repeat('certgen: '.length)}${word}`)
  }
  return rows.join('\n')
}

/** The flags of a command that say how it talks. */
export interface OutputOptions {
  readonly json?: boolean
  readonly verbose?: boolean
  readonly logFormat?: LogFormat
}

/** Where a command's result and its talk go: stdout is data, stderr is talk. */
export interface Output {
  readonly json: boolean
  readonly paint: ChalkInstance
  /** Writes the result. */
  readonly result: (text: string) => void
  readonly document: (command: string, value: object) => void
  readonly warn: (message: string, facts?: object) => void
  readonly hint: (message: string) => void
}

export function createOutput({ json = false, logFormat = 'text' }: OutputOptions): Output {
  const log = new Log(logFormat)
  return {
    json,
    paint: new Chalk({ level: colourLevel(process.stdout) }),
    result: (text) => process.stdout.write(`${printableLines(text)}\n`),
    document: (command, value) =>
      process.stdout.write(`${JSON.stringify({ schema: 1, command, ...value }, null, 2)}\n`),
    warn: (message, facts) => log.write('warning', message, facts),
    hint: (message) => log.write('hint', message),
  }
}

/** Names and paths come from files that anybody may have made: of what steers a terminal, only our own colours pass. */
function printableLines(text: string): string {
  // eslint-disable-next-line no-control-regex -- the escape sequences of colours
  const parts = text.split(/(\x1b\[\d+m|\n)/)
  return parts.map((part, index) => (index % 2 === 1 ? part : printable(part))).join('')
}

/** NO_COLOR (no-color.org), FORCE_COLOR and TERM=dumb are obeyed; colour is for terminals otherwise. */
function colourLevel(stream: NodeJS.WriteStream): 0 | 1 {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env
  if (NO_COLOR) return 0
  if (FORCE_COLOR !== undefined) return FORCE_COLOR === '0' || FORCE_COLOR === 'false' ? 0 : 1
  return stream.isTTY && TERM !== 'dumb' ? 1 : 0
}

export function findingJson(finding: Finding): object {
  const { code, severity, path } = finding
  return { code, severity, path, message: describeFinding(finding) }
}

export function findingLine(finding: Finding, paint: ChalkInstance): string {
  const severity = finding.severity === 'error' ? paint.red('error') : paint.yellow('warning')
  return `${printable(finding.path)}: ${severity}: ${printable(describeFinding(finding))} [${finding.code}]`
}

/** Says what went wrong, on stderr or as the one JSON document, and gives the exit code. */
export function reportError(error: unknown, command: string, { json, logFormat }: OutputOptions): number {
  const known = error instanceof CertgenError ? error : null
  const exitCode = known ? exitCodeOf[known.code] : exitCodes.unexpected
  const message = error instanceof Error ? error.message : String(error)
  const hints = known?.hints ?? ['set CERTGEN_DEBUG=1 for a stack trace']
  const findings = known?.findings ?? []
  if (json) {
    const code = known?.code ?? 'unexpected'
    const body = { code, exitCode, message, hints, findings: findings.map(findingJson) }
    process.stdout.write(`${JSON.stringify({ schema: 1, command, error: body }, null, 2)}\n`)
  }
  writeError({ message, hints, findings }, new Log(logFormat ?? 'text'))
  if (process.env['CERTGEN_DEBUG'] === '1' && error instanceof Error) {
    process.stderr.write(`${printableLines(error.stack ?? '')}\n`)
  }
  return exitCode
}

/** An error, its findings and its hints, a line each. */
export function writeError(
  { message, hints, findings }: Pick<CertgenError, 'message' | 'hints' | 'findings'>,
  log = new Log('text'),
): void {
  log.write('error', message)
  for (const finding of findings) log.writeFinding(finding)
  for (const hint of hints) log.write('hint', hint)
}
