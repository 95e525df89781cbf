import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Interface } from 'node:readline'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../src/pki/authority.ts'
import { targetAt, writeTarget } from '../../src/store/target-store.ts'
import { certgen, start, temporaryDirectory } from '../program.ts'
import { Issuer } from '../reload/issuer.ts'
import type { IssuedSet } from '../reload/issuer.ts'

const scratch = temporaryDirectory()
const issuer = new Issuer()
let authority: Authority
let first: IssuedSet
let second: IssuedSet
const running: ChildProcess[] = []

beforeAll(async () => {
  authority = await issuer.authority()
  first = await issuer.set(authority)
  second = await issuer.set(authority)
})

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL')
})

const write = (directory: string, set: IssuedSet): Promise<unknown> =>
  writeTarget(targetAt(directory), set, { now: new Date() })

interface Watching {
  readonly directory: string
  readonly child: ChildProcess
  /** Lines of standard output and standard error. */
  readonly out: AsyncIterator<string, undefined>
  readonly err: AsyncIterator<string, undefined>
}

async function watch(...flags: string[]): Promise<Watching> {
  const directory = await mkdtemp(join(scratch, 'watched-'))
  await write(directory, first)
  const child = start(['watch', directory, '--debounce', '20ms', ...flags])
  running.push(child)
  const lines = (stream: ChildProcess['stdout']): Interface => createInterface({ input: stream! })
  const [out, err] = [lines(child.stdout), lines(child.stderr)].map((reader) => reader[Symbol.asyncIterator]())
  expect((await err!.next()).value).toContain(`certgen: watching ${directory}: leaf ${first.leaf.slice(0, 16)}`)
  return { directory, child, out: out! as Watching['out'], err: err! as Watching['err'] }
}

async function json(lines: Watching['out']): Promise<Record<string, unknown>> {
  return JSON.parse((await lines.next()).value ?? 'null') as Record<string, unknown>
}

async function end(child: ChildProcess): Promise<unknown> {
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  return exit
}

describe('certgen watch', () => {
  it('prints every change and every refusal as one line of JSON, and ends cleanly on SIGTERM', async () => {
    const { directory, child, out } = await watch('--json')
    await write(directory, second)
    expect(await json(out)).toMatchObject({
      schema: 1,
      command: 'watch',
      type: 'reloaded',
      directory,
      trigger: 'event',
      changed: ['leaf', 'key'],
      old: { leaf: { sha256: first.leaf } },
      new: { leaf: { sha256: second.leaf } },
    })
    await write(directory, { ...second, key: first.key })
    expect(await json(out)).toMatchObject({ type: 'failed', code: 'unusable', findings: [{ code: 'key-mismatch' }] })
    expect(await end(child)).toEqual([0, null])
  })

  it('prints OCSF events, and text for people', async () => {
    const ocsf = await watch('--events', 'ocsf')
    await write(ocsf.directory, second)
    expect(await json(ocsf.out)).toMatchObject({ class_uid: 5019, type_uid: 501901, severity_id: 1, status: 'Success' })
    const text = await watch()
    await write(text.directory, second)
    expect((await text.out.next()).value).toContain(`changed leaf, key: leaf ${second.leaf.slice(0, 16)}`)
  })

  it('runs the command once the set is good, with the fingerprints in its environment', async () => {
    const log = join(scratch, 'hook.log')
    const command = `printf '%s %s %s %s %s\\n' "$CERTGEN_TARGET" "$CERTGEN_OLD_SHA256" "$CERTGEN_SHA256" "$CERTGEN_CHANGED" "$CERTGEN_NOT_AFTER" >> ${log}; echo talk`
    const { directory, out } = await watch('--json', '--exec', command)
    await truncate(join(directory, 'tls.key'))
    expect(await json(out)).toMatchObject({ type: 'failed' })
    expect(existsSync(log)).toBe(false)
    await write(directory, second)
    expect(await json(out)).toMatchObject({ type: 'reloaded' })
    expect(await json(out)).toMatchObject({ type: 'action', kind: 'exec', ok: true, attempt: 1, retryIn: null })
    const [target, old, now, changed, notAfter] = readFileSync(log, 'utf8').trim().split(' ')
    expect([target, old, now, changed]).toEqual([directory, first.leaf, second.leaf, 'leaf,key'])
    expect(Date.parse(notAfter!)).toBeGreaterThan(Date.now())
  })

  it('tries a command that fails again, says so, and ends with it unfinished', async () => {
    const flag = join(scratch, 'flag')
    const { directory, child, out, err } = await watch('--json', '--exec', `test -e ${flag}`)
    await write(directory, second)
    expect(await json(out)).toMatchObject({ type: 'reloaded' })
    expect(await json(out)).toMatchObject({ type: 'action', ok: false, attempt: 1, retryIn: 1000 })
    expect((await err.next()).value).toContain('failed: it exited with 1; again in 1 s')
    writeFileSync(flag, '')
    expect(await json(out)).toMatchObject({ type: 'action', ok: true, attempt: 2 })

    const hanging = await watch('--json', '--exec', 'sleep 600')
    await write(hanging.directory, second)
    expect(await json(hanging.out)).toMatchObject({ type: 'reloaded' })
    expect(await end(hanging.child)).toEqual([0, null])
    expect(await end(child)).toEqual([0, null])
  })

  it('sends a signal to the process that a file names', async () => {
    const pidFile = join(scratch, 'pid')
    writeFileSync(pidFile, `${process.pid}\n`)
    const { directory, out } = await watch('--json', '--signal', `${pidFile}:SIGUSR2`)
    const signalled = once(process, 'SIGUSR2')
    await write(directory, second)
    await signalled
    await json(out)
    expect(await json(out)).toMatchObject({ type: 'action', kind: 'signal', subject: pidFile, ok: true })
  })

  it('waits for one change with --once, and tells by its code how it went', async () => {
    const good = await watch('--once', '--exec', 'true')
    const goodExit = once(good.child, 'exit')
    await write(good.directory, second)
    expect(await goodExit).toEqual([0, null])
    const bad = await watch('--once', '--exec', 'exit 3')
    const badExit = once(bad.child, 'exit')
    await write(bad.directory, second)
    expect(await badExit).toEqual([7, null])
  })

  it('refuses a set that cannot be used, and times and signals that make no sense', async () => {
    const directory = await mkdtemp(join(scratch, 'refused-'))
    expect((await certgen(['watch', directory])).code).toBe(2)
    await write(directory, { ...first, key: second.key })
    const { code, stderr } = await certgen(['watch', directory])
    expect(code).toBe(3)
    expect(stderr).toContain('[key-mismatch]')
    expect((await certgen(['watch', directory, '--debounce', 'soon'])).code).toBe(2)
    expect((await certgen(['watch', directory, '--signal', 'pid:SIGNOTHING'])).code).toBe(2)
  })
})
