import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import {
  access,
  chmod,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  rename,
  rm,
  rmdir,
  unlink,
} from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CertgenError } from '../errors.ts'
import { makeDirectory } from './directory.ts'
import { readRegularFile } from './regular-file.ts'
import { errnoOf, writeError } from './system-errors.ts'

// One rotation per directory, also between containers on several hosts that share it, where process ids mean nothing
// and flock may not reach.
//
// The lock is the directory `..lock` with one file in it, named by a nonce. It is taken by renaming a directory that
// already has its file over it: rename() replaces a directory only while that is empty, so two cannot both succeed, and
// `..lock` is never there without its holder's file. A stale lock is broken by removing the file of *that* nonce and
// trying again: whoever has taken the lock meanwhile has another nonce, and keeps it.

/** Who holds a lock, as it wrote it there itself. */
export interface Holder {
  readonly pid: number
  readonly host: string
  /** ISO 8601. */
  readonly startedAt: string
  readonly command?: string
}

export interface Lock {
  /** Throws CertgenError `lock-held` when the lock was broken, as after a long standstill. Before every swap. */
  assertHeld(): Promise<void>
  /** Does nothing when it is not held any more. */
  release(): Promise<void>
}

export interface LockOptions {
  /** 0: one attempt, no wait. */
  readonly timeoutMs: number
  /** Told once of each holder that is waited for. */
  readonly onWait?: (holder: Holder) => void
  /** Of the directory, where it has to be made, whatever the umask: 0o700 for an authority's, which is the default. */
  readonly directoryMode?: number
  /** What the holder is doing, for those who wait. */
  readonly command?: string
  readonly pollMs?: number
  /** How long a holder that cannot be looked at may show no sign of life. At least four times beatMs. */
  readonly staleMs?: number
  readonly beatMs?: number
}

/** The lock's file. The last three are null where there is no /proc: then only the beat tells. */
interface LockFile extends Holder {
  /** Counts up while the holder lives. */
  readonly beat: number
  readonly bootId: string | null
  readonly pidNamespace: string | null
  /** Clock ticks since boot: a process id may have gone to another process. */
  readonly processStart: string | null
}

const lockName = '..lock'
// Nothing else is ever removed.
const noncePattern = /^[0-9a-f]{32}$/
const temporaryPattern = /^\.\.lock\.[0-9a-f]{32}$/
const defaults = { directoryMode: 0o700, pollMs: 100, staleMs: 15_000, beatMs: 3_000 }
const leftoverAgeMs = 3_600_000

/**
 * Takes the lock of a directory, which is made if need be. Throws CertgenError `lock-held` when another has it until the
 * timeout, and `write-failed` when the directory cannot be written.
 */
export async function acquireLock(directory: string, options: LockOptions): Promise<Lock> {
  try {
    return await waitForLock(directory, { ...defaults, ...options })
  } catch (error) {
    throw error instanceof CertgenError ? error : writeError(directory, error, [])
  }
}

type Settings = LockOptions & typeof defaults

async function waitForLock(directory: string, settings: Settings): Promise<Lock> {
  const deadline = performance.now() + settings.timeoutMs
  const observer = new Observer(join(directory, lockName), settings.staleMs)
  const announced = new Set<string>()
  for (;;) {
    if (await observer.isFree()) {
      const lock = await attempt(directory, settings)
      if (lock) return lock
    }
    const { nonce, holder } = observer
    if (holder && !announced.has(nonce)) {
      announced.add(nonce)
      settings.onWait?.(holder)
    }
    const left = deadline - performance.now()
    if (left <= 0) throw lockHeld(directory, holder)
    // Jitter: those who wait for the same lock shall not all come at once.
    await sleep(Math.min(left, settings.pollMs * (0.75 + Math.random() / 2)))
  }
}

function lockHeld(directory: string, holder: Holder | null): CertgenError {
  const who = holder ? `pid ${holder.pid} on ${holder.host} since ${holder.startedAt}` : 'it does not say who it is'
  return new CertgenError('lock-held', `another certgen holds the lock: ${who}`, {
    hints: [
      'wait longer with --lock-timeout',
      holder
        ? 'if that process hangs, end it: its lock is not obeyed then'
        : `if no certgen runs, remove ${join(directory, lockName)}`,
    ],
  })
}

// ---------------------------------------------------------------------------------------------------------- looking

/** Looks at a lock again and again, to tell one that is held from one that a dead process left. */
class Observer {
  /** Of the lock that was seen last. */
  nonce = ''
  holder: Holder | null = null
  #content = ''
  #unchangedSince = 0
  readonly #path: string
  readonly #staleMs: number

  constructor(path: string, staleMs: number) {
    this.#path = path
    this.#staleMs = staleMs
  }

  /** Whether nobody holds the lock; removes it when it is stale. */
  async isFree(): Promise<boolean> {
    // Before the look: a standstill of ours between look and clock must not count as one of the holder's.
    const now = performance.now()
    const entries = await listLock(this.#path)
    const nonce = entries.find((entry) => noncePattern.test(entry))
    if (nonce === undefined) return entries.length === 0
    const content = await readLockFile(join(this.#path, nonce))
    if (content === null) return false
    this.#note(nonce, content, now)
    if (!(await this.#isStale(content, now))) return false
    await unlink(join(this.#path, nonce)).catch(ifAbsent(undefined))
    return true
  }

  #note(nonce: string, content: string, now: number): void {
    if (nonce !== this.nonce) this.holder = null
    if (nonce !== this.nonce || content !== this.#content) this.#unchangedSince = now
    this.nonce = nonce
    this.#content = content
    // While it is being written it may be torn; then what was read before still says who holds it.
    this.holder = parseLockFile(content) ?? this.holder
  }

  async #isStale(content: string, now: number): Promise<boolean> {
    const file = parseLockFile(content)
    const life = file ? await lookForProcess(file) : 'unknown'
    // One that is known to live is obeyed however long it hangs; the error names it.
    return life === 'unknown' ? now - this.#unchangedSince >= this.#staleMs : life === 'dead'
  }
}

async function listLock(path: string): Promise<string[]> {
  const found = await lstat(path).catch(ifAbsent(null))
  if (!found) return []
  // Through a symbolic link that was planted here, files elsewhere would be taken for stale locks.
  if (!found.isDirectory()) {
    throw new CertgenError('write-failed', `cannot lock: ${path} is not a directory`, { hints: [`remove ${path}`] })
  }
  return readdir(path).catch(ifAbsent([]))
}

/** null when it is gone. Whoever may write in a target could have planted anything there. */
async function readLockFile(path: string): Promise<string | null> {
  try {
    return (await readRegularFile(path, constants.O_NOFOLLOW))?.data.toString('utf8') ?? null
  } catch (error) {
    if (!(error instanceof CertgenError)) throw error
    throw new CertgenError('write-failed', `cannot lock: ${error.message}`, { hints: [`remove ${path}`], cause: error })
  }
}

function parseLockFile(content: string): LockFile | null {
  let value: Partial<LockFile> | null
  try {
    value = JSON.parse(content) as Partial<LockFile> | null
  } catch {
    return null
  }
  const isHolder =
    typeof value?.pid === 'number' && typeof value.host === 'string' && typeof value.startedAt === 'string'
  return isHolder ? (value as LockFile) : null
}

/** A process of this boot and process namespace can be looked at; of any other, only its beat tells. */
async function lookForProcess(file: LockFile): Promise<'alive' | 'dead' | 'unknown'> {
  const here = await readSurroundings()
  if (here.bootId === null || here.pidNamespace === null || typeof file.processStart !== 'string') return 'unknown'
  if (file.bootId !== here.bootId || file.pidNamespace !== here.pidNamespace) return 'unknown'
  if (!Number.isSafeInteger(file.pid) || file.pid <= 0) return 'unknown'
  try {
    process.kill(file.pid, 0)
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return 'dead'
    if (errnoOf(error) !== 'EPERM') throw error
  }
  const seen = await readProcess(file.pid)
  // It exists, but /proc may be mounted to hide the processes of others.
  if (!seen) return 'unknown'
  // A container whose first process reaps nobody keeps the killed as zombies.
  return seen.start === file.processStart && !'ZX'.includes(seen.state) ? 'alive' : 'dead'
}

interface Surroundings {
  readonly bootId: string | null
  readonly pidNamespace: string | null
}

async function readSurroundings(): Promise<Surroundings> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => null)
  const pidNamespace = await readlink('/proc/self/ns/pid').catch(() => null)
  return { bootId: bootId?.trim() ?? null, pidNamespace }
}

async function readProcess(pid: number): Promise<{ readonly state: string; readonly start: string } | null> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null)
  // proc(5): field 2, the program's name in parentheses, may hold blanks and parentheses itself; then come field 3, the
  // state, and field 22, the start.
  const fields = line?.slice(line.lastIndexOf(')') + 2).split(' ')
  const [state, start] = [fields?.[0], fields?.[19]]
  return state !== undefined && start !== undefined ? { state, start } : null
}

// ----------------------------------------------------------------------------------------------------------- taking

/** null when another was faster. */
async function attempt(directory: string, settings: Settings): Promise<Lock | null> {
  const created = await makeDirectory(directory, settings.directoryMode)
  if (created.includes(directory)) await chmod(directory, settings.directoryMode)
  const nonce = randomBytes(16).toString('hex')
  const temporary = join(directory, `${lockName}.${nonce}`)
  const path = join(directory, lockName)
  const file = await describeSelf(settings.command)
  try {
    await mkdir(temporary, 0o700)
    await writeLockFile(join(temporary, nonce), file, 'wx')
    await rename(temporary, path)
    // If another took our directory for a leftover, we may have moved it without its file.
    await access(join(path, nonce))
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    // ENOENT: the one before, which had made the directory, has just taken it back with its lock.
    if (['EEXIST', 'ENOTEMPTY', 'ENOENT'].includes(errnoOf(error) ?? '')) return null
    throw error
  }
  await removeLeftovers(directory, join(path, nonce))
  return new HeldLock(directory, nonce, file, created, settings.beatMs)
}

async function describeSelf(command: string | undefined): Promise<LockFile> {
  return {
    pid: process.pid,
    host: hostname(),
    startedAt: new Date().toISOString(),
    ...(command === undefined ? {} : { command }),
    ...(await readSurroundings()),
    processStart: (await readProcess(process.pid))?.start ?? null,
    beat: 0,
  }
}

/** In place, with `r+`, which neither makes a file nor leaves a moment without one. The text never gets shorter. */
async function writeLockFile(path: string, file: LockFile, flags: 'wx' | 'r+'): Promise<void> {
  const handle = await open(path, flags, 0o600)
  try {
    await handle.writeFile(`${JSON.stringify(file)}\n`)
  } finally {
    await handle.close()
  }
}

/** What processes left that were killed while they tried to take the lock. */
async function removeLeftovers(directory: string, ownFile: string): Promise<void> {
  try {
    // The file system's clock and not ours: they may be of two hosts.
    const now = (await lstat(ownFile)).mtimeMs
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      if (!entry.isDirectory() || !temporaryPattern.test(entry.name)) continue
      const path = join(directory, entry.name)
      if (await isLeftover(path, now)) await rm(path, { recursive: true, force: true })
    }
  } catch {
    // They are in nobody's way: the lock is taken, and may well be used.
  }
}

async function isLeftover(path: string, now: number): Promise<boolean> {
  const age = now - (await lstat(path)).mtimeMs
  const nonce = path.slice(-32)
  const file = parseLockFile((await readLockFile(join(path, nonce))) ?? '')
  const life = file ? await lookForProcess(file) : 'unknown'
  return life === 'unknown' ? age > leftoverAgeMs : life === 'dead'
}

// ---------------------------------------------------------------------------------------------------------- holding

class HeldLock implements Lock {
  readonly #directory: string
  readonly #path: string
  readonly #ownFile: string
  readonly #timer: NodeJS.Timeout
  readonly #created: readonly string[]
  #file: LockFile
  #beating: Promise<void> | null = null
  #released = false

  constructor(directory: string, nonce: string, file: LockFile, created: readonly string[], beatMs: number) {
    this.#directory = directory
    this.#path = join(directory, lockName)
    this.#ownFile = join(this.#path, nonce)
    this.#created = created
    this.#file = file
    this.#timer = setInterval(() => {
      this.#beating ??= this.#beat().finally(() => (this.#beating = null))
    }, beatMs).unref()
  }

  async #beat(): Promise<void> {
    this.#file = { ...this.#file, beat: this.#file.beat + 1 }
    // Whether the lock is lost is for assertHeld to find out, where it can be told to somebody.
    await writeLockFile(this.#ownFile, this.#file, 'r+').catch(() => undefined)
  }

  async assertHeld(): Promise<void> {
    try {
      await access(this.#ownFile)
    } catch (error) {
      throw new CertgenError('lock-held', `lost the lock of ${this.#directory}`, {
        cause: error,
        hints: ['this certgen showed no sign of life for too long, so that another may be at work: run again'],
      })
    }
  }

  async release(): Promise<void> {
    if (this.#released) return
    this.#released = true
    clearInterval(this.#timer)
    await this.#beating
    try {
      await unlink(this.#ownFile).catch(ifAbsent(undefined))
      // Not empty: the next one has it already.
      await removeEmpty(this.#path)
      // A run that wrote nothing leaves nothing, not even the directory that was made for its lock.
      for (const path of this.#created.toReversed()) await removeEmpty(path)
    } catch (error) {
      throw writeError(this.#directory, error, [])
    }
  }
}

async function removeEmpty(path: string): Promise<void> {
  await rmdir(path).catch((error: unknown) => {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error
  })
}

function ifAbsent<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (errnoOf(error) === 'ENOENT') return value
    throw error
  }
}
