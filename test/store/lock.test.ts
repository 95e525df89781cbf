import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, unlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { acquireLock } from '../../src/store/lock.ts'
import type { Holder } from '../../src/store/lock.ts'
import { bundleFixture } from './fixtures/bundle.ts'
import { failure } from '../failure.ts'

let scratch = ''
let program = ''
let directory = ''
let count = 0
const children: ChildProcess[] = []

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'certgen-lock-'))
  program = await bundleFixture('lock-holder', scratch)
})
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true })
})
beforeEach(async () => {
  directory = join(scratch, `directory ${count++}\nwith a second line`)
  await mkdir(directory)
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  return child
}

async function startHolder(): Promise<ChildProcess> {
  const child = start('hold', directory)
  await once(child.stdout!, 'data')
  return child
}

const lockDirectory = (): string => join(directory, '..lock')
const foreignNonce = 'f'.repeat(32)
const foreign = {
  pid: 1,
  host: 'elsewhere',
  bootId: 'another',
  pidNamespace: 'pid:[1]',
  processStart: '1',
  startedAt: '2026-11-24T01:47:11.000Z',
}

async function plant(content: string): Promise<string> {
  await mkdir(lockDirectory())
  const path = join(lockDirectory(), foreignNonce)
  await writeFile(path, content)
  return path
}

describe('a lock', () => {
  it('is exclusive among processes: no update of a counter is lost', async () => {
    await writeFile(join(directory, 'counter'), '0')
    const workers = Array.from({ length: 8 }, () => once(start('count', directory, '25'), 'exit'))
    expect(await Promise.all(workers)).toEqual(Array(8).fill([0, null]))
    expect(readFileSync(join(directory, 'counter'), 'utf8')).toBe('200')
    expect(readdirSync(directory)).toEqual(['counter'])
  })

  it('is exclusive within a process, too', async () => {
    let [inside, most] = [0, 0]
    const work = async (): Promise<void> => {
      const lock = await acquireLock(directory, { timeoutMs: 50_000, pollMs: 1 })
      most = Math.max(most, ++inside)
      await lock.assertHeld()
      inside--
      await lock.release()
    }
    await Promise.all(Array.from({ length: 50 }, work))
    expect(most).toBe(1)
  })

  it('leaves nothing when it is released, not even a directory that was made for it', async () => {
    const made = join(directory, 'a', 'ca')
    const lock = await acquireLock(made, { timeoutMs: 0 })
    expect(statSync(made).mode & 0o777).toBe(0o700)
    await lock.assertHeld()
    await lock.release()
    await lock.release()
    expect(readdirSync(directory)).toEqual([])
  })

  it('leaves a directory that was made for it when that is in use by then', async () => {
    const made = join(directory, 'ca')
    const lock = await acquireLock(made, { timeoutMs: 0 })
    await writeFile(join(made, 'ca.crt'), '')
    await lock.release()
    expect(readdirSync(made)).toEqual(['ca.crt'])
  })

  it('fences: its holder learns when it is lost, and does not take it from the next one', async () => {
    const lock = await acquireLock(directory, { timeoutMs: 0 })
    const [own] = readdirSync(lockDirectory())
    await unlink(join(lockDirectory(), own!))
    const next = await acquireLock(directory, { timeoutMs: 0 })
    expect(await failure(lock.assertHeld())).toMatchObject({ code: 'lock-held' })
    await lock.release()
    await next.assertHeld()
    await next.release()
  })
})

describe('a lock that another holds', () => {
  it('is waited for until the timeout, which names its process', async () => {
    const child = await startHolder()
    const told: Holder[] = []
    const waiting = acquireLock(directory, { timeoutMs: 30, pollMs: 2, onWait: (holder) => told.push(holder) })
    const error = await failure(waiting)
    expect(error.code).toBe('lock-held')
    expect(error.message).toMatch(new RegExp(`^another certgen holds the lock: pid ${child.pid!} on \\S+ since 20`))
    expect(error.hints).not.toEqual([])
    expect(told.map(({ pid }) => pid)).toEqual([child.pid])
    expect(readdirSync(directory)).toEqual(['..lock'])
  })

  it('is had at once when its process was killed, however long a silence would be borne', async () => {
    const child = await startHolder()
    child.kill('SIGKILL')
    await once(child, 'exit')
    const lock = await acquireLock(directory, { timeoutMs: 0 })
    await lock.assertHeld()
    await lock.release()
  })

  it('is had at once when its process was killed and nobody reaped it', async () => {
    // exec leaves the shell's child to a program that never waits for it: a zombie.
    const parent = spawn('sh', ['-c', '"$0" "$1" hold "$2" & exec sleep 600', process.execPath, program, directory])
    children.push(parent)
    await once(parent.stdout, 'data')
    const [own] = readdirSync(lockDirectory())
    const { pid } = JSON.parse(readFileSync(join(lockDirectory(), own!), 'utf8')) as Holder
    process.kill(pid, 'SIGKILL')
    const lock = await acquireLock(directory, { timeoutMs: 50_000, pollMs: 2 })
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(') Z ')
    await lock.release()
  })

  it('is not taken from a process that can be seen to live, though it stands still', async () => {
    const child = await startHolder()
    child.kill('SIGSTOP')
    const waiting = acquireLock(directory, { timeoutMs: 100, pollMs: 2, staleMs: 10 })
    expect(await failure(waiting)).toMatchObject({ code: 'lock-held' })
  })

  it('is had when its process id has gone to another process', async () => {
    const child = await startHolder()
    const [own] = readdirSync(lockDirectory())
    const path = join(lockDirectory(), own!)
    const file = JSON.parse(readFileSync(path, 'utf8')) as object
    child.kill('SIGKILL')
    await once(child, 'exit')
    await writeFile(path, JSON.stringify({ ...file, pid: process.pid }))
    await (await acquireLock(directory, { timeoutMs: 0 })).release()
  })

  it('is had from another host once that has been silent for the stale time, and not before', async () => {
    await plant(JSON.stringify({ ...foreign, beat: 1 }))
    const error = await failure(acquireLock(directory, { timeoutMs: 30, pollMs: 2 }))
    expect(error.message).toBe('another certgen holds the lock: pid 1 on elsewhere since 2026-11-24T01:47:11.000Z')
    const lock = await acquireLock(directory, { timeoutMs: 50_000, pollMs: 2, staleMs: 20 })
    expect(existsSync(join(lockDirectory(), foreignNonce))).toBe(false)
    await lock.release()
  })

  it('is not had from another host that goes on to beat', async () => {
    const path = await plant(JSON.stringify({ ...foreign, beat: 0 }))
    let beat = 0
    const timer = setInterval(() => writeFileSync(path, JSON.stringify({ ...foreign, beat: ++beat })), 5)
    const error = await failure(acquireLock(directory, { timeoutMs: 1_000, pollMs: 5, staleMs: 500 }))
    clearInterval(timer)
    expect(error.code).toBe('lock-held')
    expect(existsSync(path)).toBe(true)
  })

  it('beats, so that another host can see that it lives', async () => {
    const lock = await acquireLock(directory, { timeoutMs: 0, beatMs: 1 })
    const [own] = readdirSync(lockDirectory())
    const path = join(lockDirectory(), own!)
    const first = readFileSync(path, 'utf8')
    await expect.poll(() => readFileSync(path, 'utf8'), { interval: 1 }).not.toBe(first)
    expect(readdirSync(lockDirectory())).toEqual([own])
    await lock.release()
    expect(existsSync(lockDirectory())).toBe(false)
  })

  it.each(['', '{"pid":', 'null', '[]'])(
    'is had after the stale time when its file is damaged: %j',
    async (content) => {
      await plant(content)
      expect(await failure(acquireLock(directory, { timeoutMs: 10, pollMs: 2 }))).toMatchObject({ code: 'lock-held' })
      const lock = await acquireLock(directory, { timeoutMs: 50_000, pollMs: 2, staleMs: 10 })
      await lock.assertHeld()
      await lock.release()
    },
  )
})

describe('what is left behind or in the way', () => {
  it('of killed processes is removed by the next one that takes the lock; of the living it stays', async () => {
    const lock = await acquireLock(directory, { timeoutMs: 0 })
    const [own] = readdirSync(lockDirectory())
    const living = readFileSync(join(lockDirectory(), own!), 'utf8')
    await lock.release()
    const leave = async (digit: string, content: string): Promise<string> => {
      const nonce = digit.repeat(32)
      await mkdir(join(directory, `..lock.${nonce}`))
      await writeFile(join(directory, `..lock.${nonce}`, nonce), content)
      return `..lock.${nonce}`
    }
    const dead = living.replace(/"processStart":"\d+"/, '"processStart":"1"')
    await leave('a', dead)
    const alive = await leave('b', living)
    const unknown = await leave('c', JSON.stringify(foreign))
    const old = await leave('d', JSON.stringify(foreign))
    await utimes(join(directory, old), new Date(0), new Date(0))
    await (await acquireLock(directory, { timeoutMs: 0 })).release()
    expect(readdirSync(directory).toSorted()).toEqual([alive, unknown])
  })

  it('as a link is not followed, and nothing behind it is removed', async () => {
    const victim = join(scratch, 'victim')
    await mkdir(victim)
    await writeFile(join(victim, foreignNonce), '')
    await symlink(victim, lockDirectory())
    const waiting = acquireLock(directory, { timeoutMs: 50, pollMs: 2, staleMs: 1 })
    expect(await failure(waiting)).toMatchObject({ code: 'write-failed' })
    expect(readdirSync(victim)).toEqual([foreignNonce])
  })

  it('is said when the directory cannot be made', async () => {
    await writeFile(join(directory, 'file'), '')
    const error = await failure(acquireLock(join(directory, 'file', 'ca'), { timeoutMs: 0 }))
    expect(error.code).toBe('write-failed')
    expect(error.hints).not.toEqual([])
  })
})
