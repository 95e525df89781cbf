import { spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** A client of Java's own TLS: one JVM for all conversations of a test file, one after the other, for it starts slowly. */

export interface JavaTask {
  readonly set: string
  readonly port: number
  readonly alpn: string
  readonly startTls: string
  readonly request: Buffer
  readonly answer: Buffer
}

interface Jvm {
  readonly process: ChildProcessWithoutNullStreams
  readonly lines: AsyncIterator<string, undefined>
}

let jvm: Jvm | null = null
let last: Promise<unknown> = Promise.resolve()

/** What fixtures/Client.java says of the task: `answered`, or why not. */
export function runInJava(task: JavaTask): Promise<string> {
  const turn = last.then(() => ask(task))
  last = turn.catch(() => undefined)
  return turn
}

async function ask({ set, port, alpn, startTls, request, answer }: JavaTask): Promise<string> {
  jvm ??= startJvm()
  const fields = [set, port, alpn, startTls, request.toString('base64'), answer.toString('base64')]
  jvm.process.stdin.write(`${fields.join('\t')}\n`)
  const { value } = await jvm.lines.next()
  if (value === undefined) throw new Error('the JVM has ended')
  return value
}

function startJvm(): Jvm {
  // A single source file is compiled as it is run. It lives for seconds: the better compiler would not pay.
  const flags = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']
  const process_ = spawn('java', [...flags, join(import.meta.dirname, 'fixtures/Client.java')])
  process_.stderr.pipe(process.stderr)
  return { process: process_, lines: createInterface({ input: process_.stdout })[Symbol.asyncIterator]() }
}

/** To be called after the last task. */
export async function endJava(): Promise<void> {
  if (!jvm) return
  const exited = once(jvm.process, 'exit')
  jvm.process.stdin.end()
  await exited
  jvm = null
}
