import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import {
  chmod,
  lutimes,
  mkdir,
  mkdtemp,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CertgenError } from '../../src/errors.ts'
import type { FileContent } from '../../src/store/generation/fill.ts'
import { generationTime } from '../../src/store/generation/name.ts'
import { readGeneration, readPrevious } from '../../src/store/generation/read.ts'
import { repair } from '../../src/store/generation/repair.ts'
import { writeGeneration } from '../../src/store/generation/write.ts'
import type { WriteOptions } from '../../src/store/generation/write.ts'
import { bundleFixture } from './fixtures/bundle.ts'
import { failure } from '../failure.ts'

const run = promisify(execFile)
const now = new Date('2026-11-24T01:47:11.900Z')
const payload = ['tls.crt', 'tls.key']

let scratch = ''
let writer = ''
let directory = ''
let count = 0

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'certgen-generation-'))
  writer = await bundleFixture('generation-writer', scratch)
})
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true })
})
beforeEach(() => {
  directory = join(scratch, `directory ${count++}\nwith a second line`)
})

function pair(text: string): FileContent[] {
  return [
    { name: 'tls.crt', data: `certificate ${text}`, mode: 0o644 },
    { name: 'tls.key', data: Buffer.from(`key ${text}`), mode: 0o600 },
  ]
}

function write(files: readonly FileContent[], options: Partial<WriteOptions> = {}): ReturnType<typeof writeGeneration> {
  return writeGeneration(directory, files, { now, directoryMode: 0o755, ...options })
}

const at = (...names: string[]): string => join(directory, ...names)
const text = (...names: string[]): string => readFileSync(at(...names), 'utf8')
const modeOf = (...names: string[]): number => statSync(at(...names)).mode & 0o7777
const generations = (): string[] => readdirSync(directory).filter((name) => generationTime(name) !== null)

/** As if it had lain there for so long. */
async function age(seconds: number, ...names: string[]): Promise<void> {
  const then = Date.now() / 1000 - seconds
  for (const name of names) await lutimes(at(name), then, then)
}

/** Everything in the directory as the system tells it: names, types, modes, inodes, times and link targets. */
function picture(of = directory): string[] {
  if (!existsSync(of)) return []
  return readdirSync(of, { recursive: true, encoding: 'utf8' })
    .toSorted()
    .map((name) => {
      const { mode, ino, mtimeMs } = lstatSync(join(of, name))
      const target = lstatSync(join(of, name)).isSymbolicLink() ? readlinkSync(join(of, name)) : ''
      return `${name} ${mode.toString(8)} ${ino} ${mtimeMs} ${target}`
    })
}

describe('the shape of a written directory', () => {
  it('is that of a Kubernetes Secret volume: names through ..data, and a generation named by its UTC instant', async () => {
    const { name, leftovers } = await write(pair('1'))
    expect(name).toMatch(/^\.\.2026_11_24_01_47_11\.[0-9a-f]{6,}$/)
    expect(leftovers).toEqual([])
    expect(await readlink(at('..data'))).toBe(name)
    expect(await readlink(at('tls.crt'))).toBe('..data/tls.crt')
    expect(await readlink(at('tls.key'))).toBe('..data/tls.key')
    expect(text('tls.crt')).toBe('certificate 1')
    expect(text('tls.key')).toBe('key 1')
    expect(readdirSync(directory).toSorted()).toEqual(['..data', name, 'tls.crt', 'tls.key'].toSorted())
  })

  it.each([0o000, 0o022, 0o077])('has exactly the modes asked for under umask %i (I3)', async (umask) => {
    const before = process.umask(umask)
    try {
      await write([...pair('1'), { name: 'tls.pem', data: 'both', mode: 0o640 }])
    } finally {
      process.umask(before)
    }
    expect(modeOf()).toBe(0o755)
    expect(modeOf('..data')).toBe(0o755)
    expect(modeOf('..data', 'tls.crt')).toBe(0o644)
    expect(modeOf('..data', 'tls.key')).toBe(0o600)
    expect(modeOf('..data', 'tls.pem')).toBe(0o640)
  })

  it('lets nobody but the owner into a directory of mode 0700, but everybody past the one above it (I3)', async () => {
    const before = process.umask(0)
    try {
      directory = at('ca')
      await write(pair('1'), { directoryMode: 0o700 })
    } finally {
      process.umask(before)
    }
    expect(modeOf()).toBe(0o700)
    expect(modeOf('..data')).toBe(0o700)
    expect(modeOf('..')).toBe(0o755)
  })

  it('tightens a directory that is to be 0700, and leaves the mode of a target alone (I3)', async () => {
    await mkdir(directory)
    await chmod(directory, 0o770)
    await write(pair('1'))
    expect(modeOf()).toBe(0o770)
    await write(pair('2'), { directoryMode: 0o700 })
    expect(modeOf()).toBe(0o700)
  })

  it.skipIf(process.geteuid?.() !== 0)('gives files and directories to the owner asked for', async () => {
    await write(pair('1'), { owner: { uid: 1234, gid: 2345 } })
    for (const path of [at(), at('..data'), at('tls.crt'), at('tls.key')]) {
      expect(statSync(path)).toMatchObject({ uid: 1234, gid: 2345 })
    }
    expect(modeOf('tls.key')).toBe(0o600)
  })
})

describe('the generation before', () => {
  it('stays until the next write, which removes the one before it once a minute has passed (I1, I8)', async () => {
    const first = await write(pair('1'))
    const second = await write(pair('2'))
    expect(generations().toSorted()).toEqual([first.name, second.name].toSorted())
    expect(text(first.name, 'tls.key')).toBe('key 1')
    await age(60, first.name, second.name)
    const third = await write(pair('3'))
    expect(generations().toSorted()).toEqual([second.name, third.name].toSorted())
  })

  it('can be read back, and there is none for the first', async () => {
    expect(await readPrevious(directory, payload)).toBeNull()
    const first = await write(pair('1'))
    expect(await readPrevious(directory, payload)).toBeNull()
    await write(pair('2'))
    const previous = await readPrevious(directory, payload)
    expect(previous?.name).toBe(first.name)
    expect(previous?.files.get('tls.key')?.toString()).toBe('key 1')
    expect((await readGeneration(directory, payload))?.previous).toBe(first.name)
    await rm(at(first.name), { recursive: true })
    expect(await readPrevious(directory, payload)).toBeNull()
  })

  it('loses its link when a name is no longer written; foreign files and links stay', async () => {
    await write([...pair('1'), { name: 'tls.pem', data: 'both', mode: 0o600 }])
    await writeFile(at('README'), 'foreign')
    await symlink('..data/tls.crt', at('server.crt'))
    await write(pair('2'))
    expect(existsSync(at('README'))).toBe(true)
    expect(text('server.crt')).toBe('certificate 2')
    expect(() => lstatSync(at('tls.pem'))).toThrow('ENOENT')
  })
})

describe('reading', () => {
  it('gives null where there is nothing, and the files that exist where there is something', async () => {
    expect(await readGeneration(directory, payload)).toBeNull()
    await mkdir(directory)
    expect(await readGeneration(directory, payload)).toBeNull()
    await writeFile(at('real.crt'), 'plain')
    await symlink('real.crt', at('tls.crt'))
    const plain = await readGeneration(directory, payload)
    expect(plain).toMatchObject({ name: '', previous: null })
    expect([...(plain?.files ?? [])]).toEqual([['tls.crt', Buffer.from('plain')]])
  })

  it('refuses a ..data that is no link, points outside, or points to nothing', async () => {
    await mkdir(at('..data'), { recursive: true })
    expect(await failure(readGeneration(directory, payload))).toMatchObject({ code: 'unreadable' })
    await rm(at('..data'), { recursive: true })
    for (const target of ['/etc', '../elsewhere', '..', '.', '..2026_11_24_01_47_11.gone']) {
      await symlink(target, at('..data'))
      expect(await failure(readGeneration(directory, payload))).toMatchObject({ code: 'unreadable' })
      await unlink(at('..data'))
    }
  })

  it('refuses a pipe, a device, a directory, a socket, and a link within a generation, and never hangs', async () => {
    const { name } = await write(pair('1'))
    const socket = createServer()
    const plants: (() => Promise<unknown>)[] = [
      () => run('mkfifo', [at(name, 'tls.key')]),
      () => mkdir(at(name, 'tls.key')),
      () => symlink('/etc/hostname', at(name, 'tls.key')),
      () => symlink('/dev/zero', at(name, 'tls.key')),
      () => once(socket.listen(at(name, 'tls.key')), 'listening'),
    ]
    for (const plant of plants) {
      await rm(at(name, 'tls.key'), { recursive: true })
      await plant()
      expect(await failure(readGeneration(directory, payload))).toMatchObject({ code: 'unreadable' })
    }
    socket.close()
    await rm(at('..data'))
    await rm(at('tls.key'))
    await symlink('/dev/zero', at('tls.key'))
    expect(await failure(readGeneration(directory, payload))).toMatchObject({ code: 'unreadable' })
  })
})

describe('a reader while it is written', () => {
  it('gets a matching pair each time when it resolves ..data once (I1)', async () => {
    await mkdir(directory)
    // A swap begins when the one before has ended: however slow the reader is, no more than one comes in between.
    const env = { ...process.env, CERTGEN_TEST_PACED: '1' }
    const child = spawn(process.execPath, [writer, '1000000', '5000', directory], { stdio: 'pipe', env })
    const exited = once(child, 'exit')
    let idle = true
    child.stdout.on('data', () => (idle = true))
    let [reads, mixtures] = [0, 0]
    const seen = new Set<string>()
    while (child.exitCode === null && (reads < 300 || seen.size < 50)) {
      if (idle) {
        idle = false
        child.stdin.write('.')
      }
      await nextTurn()
      const resolved = readLinkIfAny(at('..data'))
      if (resolved === null) continue
      reads++
      seen.add(resolved)
      // Read by hand, as a service would; the one before the current generation must still be there.
      const [certificate, key] = [text(resolved, 'tls.crt'), text(resolved, 'tls.key')]
      if (certificate !== key || certificate.length !== 5000) mixtures++
      const read = await readGeneration(directory, payload)
      if (read?.files.get('tls.crt')?.toString() !== read?.files.get('tls.key')?.toString()) mixtures++
    }
    child.stdin.end()
    expect(await exited).toEqual([0, null])
    expect(mixtures).toBe(0)
  })
})

function readLinkIfAny(path: string): string | null {
  try {
    return readlinkSync(path)
  } catch {
    return null
  }
}

describe('taking over an ordinary directory', () => {
  async function makeOrdinary(path: string): Promise<void> {
    await mkdir(path, { recursive: true })
    for (const name of ['tls.crt', 'tls.key']) await writeFile(join(path, name), 'old')
    await writeFile(join(path, 'README'), 'foreign')
    await chmod(join(path, 'tls.key'), 0o644)
  }

  it('keeps what was there as the generation before, with a key no wider than asked for (I3)', async () => {
    await makeOrdinary(directory)
    await rename(at('tls.crt'), at('elsewhere.crt'))
    await symlink('elsewhere.crt', at('tls.crt'))
    await write(pair('1'))
    const previous = await readPrevious(directory, payload)
    expect(previous?.files.get('tls.crt')?.toString()).toBe('old')
    expect(previous?.files.get('tls.key')?.toString()).toBe('old')
    expect(modeOf(previous!.name, 'tls.key')).toBe(0o600)
    expect(text('tls.key')).toBe('key 1')
    expect(text('README')).toBe('foreign')
    expect(text('elsewhere.crt')).toBe('old')
    expect(readlinkSync(at('tls.crt'))).toBe('..data/tls.crt')
  })

  it('never has a moment without a name, or with a half of it (I1, I4)', async () => {
    const directories = Array.from({ length: 60 }, (_, index) => at(String(index)))
    for (const path of directories) await makeOrdinary(path)
    const child = spawn(process.execPath, [writer, '1', '3', ...directories], { stdio: 'ignore' })
    const exited = once(child, 'exit')
    const seen = new Set<string>()
    let reads = 0
    while (child.exitCode === null) {
      await nextTurn()
      for (const path of directories) {
        for (const name of payload) {
          seen.add(readFileSync(join(path, name), 'utf8'))
          reads++
        }
      }
    }
    expect(await exited).toEqual([0, null])
    expect([...seen].toSorted()).toEqual(['new 0 ', 'old'])
    expect(reads).toBeGreaterThan(directories.length)
  })

  it('is finished by the next write when it was cut short, before that swaps (I4)', async () => {
    await makeOrdinary(directory)
    await mkdir(at('..2026_01_01_00_00_00.abcdef'))
    for (const name of payload) await writeFile(at('..2026_01_01_00_00_00.abcdef', name), 'old')
    await symlink('..2026_01_01_00_00_00.abcdef', at('..data'))
    let linked: string[] = []
    await write(pair('1'), {
      beforeSwap: async () => {
        linked = await Promise.all(payload.map((name) => readlink(at(name))))
      },
    })
    expect(linked).toEqual(['..data/tls.crt', '..data/tls.key'])
    expect((await readPrevious(directory, payload))?.files.get('tls.key')?.toString()).toBe('old')
  })

  it('leaves no trace when the fence refuses (I4)', async () => {
    await makeOrdinary(directory)
    const before = picture()
    await failure(write(pair('1'), { beforeSwap: () => Promise.reject(new CertgenError('lock-held', 'lost')) }))
    expect(picture()).toEqual(before)
  })
})

describe('what is planted in the way', () => {
  it('does not receive a key: links at ..data_tmp and at the visible names are replaced, not followed (I3)', async () => {
    await write(pair('1'))
    const victim = join(scratch, 'victim')
    await mkdir(victim, { recursive: true })
    await writeFile(join(victim, 'file'), 'untouched')
    const before = picture(victim)
    await symlink(victim, at('..data_tmp'))
    await symlink(victim, at('..2026_01_01_00_00_00.abcdef'))
    await unlink(at('tls.key'))
    await symlink(join(victim, 'file'), at('tls.key'))
    await write(pair('2'))
    expect(picture(victim)).toEqual(before)
    expect(readlinkSync(at('tls.key'))).toBe('..data/tls.key')
    expect(text('tls.key')).toBe('key 2')
    expect(existsSync(at('..data_tmp'))).toBe(false)
  })

  it('is a reason to refuse with nothing changed, when it is no file at all (I4)', async () => {
    await mkdir(directory)
    const plants: (() => Promise<unknown>)[] = [
      () => mkdir(at('tls.key')),
      () => run('mkfifo', [at('tls.key')]),
      () => symlink('/dev/zero', at('tls.key')),
      () => symlink('/etc', at('tls.key')),
      () => mkdir(at('..data')),
      () => writeFile(at('..data'), ''),
    ]
    for (const plant of plants) {
      await plant()
      const before = picture()
      const error = await failure(write(pair('1')))
      expect(error.code).toBe('write-failed')
      expect(error.hints).not.toEqual([])
      expect(picture()).toEqual(before)
      await rm(at('tls.key'), { recursive: true, force: true })
      await rm(at('..data'), { recursive: true, force: true })
    }
  })

  it('is not reached through a name: names are plain', async () => {
    for (const name of ['../escape', '..data', '.', '', 'a/b', 'a\0b']) {
      expect(await failure(write([{ name, data: '', mode: 0o600 }]))).toMatchObject({ code: 'usage' })
    }
    expect(await failure(write([...pair('1'), ...pair('2')]))).toMatchObject({ code: 'usage' })
    expect(existsSync(directory)).toBe(false)
  })

  it('is removed when a killed run left it', async () => {
    await write(pair('1'))
    await symlink('..2026_01_01_00_00_00.abcdef', at('..data_tmp'))
    await symlink('..data/tls.key', at('..link.123456'))
    await mkdir(at('..2026_01_01_00_00_00.abcdef'))
    await age(3601, '..link.123456', '..2026_01_01_00_00_00.abcdef')
    await mkdir(at('..lock'))
    const { name } = await write(pair('2'))
    expect(readdirSync(directory)).not.toContain('..link.123456')
    expect(readdirSync(directory)).not.toContain('..data_tmp')
    expect(readdirSync(directory)).toContain('..lock')
    expect(generations()).toHaveLength(2)
    expect(generations()).toContain(name)
  })
})

describe('links', () => {
  it('are repaired when they are missing, wrong, or files (I5)', async () => {
    await write([...pair('1'), { name: 'ca.crt', data: 'bundle', mode: 0o644 }])
    await unlink(at('tls.crt'))
    await unlink(at('tls.key'))
    await symlink('/etc/hostname', at('tls.key'))
    await unlink(at('ca.crt'))
    await writeFile(at('ca.crt'), 'in the way')
    expect(await repair(directory, { names: ['ca.crt', ...payload], essential: payload })).toEqual(['links'])
    expect(text('ca.crt')).toBe('bundle')
    expect(text('tls.crt')).toBe('certificate 1')
    expect(text('tls.key')).toBe('key 1')
    expect(readdirSync(directory).filter((name) => name.startsWith('..link.'))).toEqual([])
  })

  it('that are right are left alone: same inodes, same times (I5)', async () => {
    await write(pair('1'))
    const before = [...picture(), statSync(directory).mtimeMs]
    expect(await repair(directory, { names: payload, essential: payload })).toEqual([])
    expect([...picture(), statSync(directory).mtimeMs]).toEqual(before)
  })

  it('are not made to nothing (kubernetes 93686)', async () => {
    await write(pair('1'))
    expect(await repair(directory, { names: ['tls.pem'], essential: payload })).toEqual([])
    expect(existsSync(at('tls.pem'))).toBe(false)
  })
})

describe('a write that fails', () => {
  it('before the swap leaves the old generation and nothing else (I4)', async () => {
    await write(pair('1'))
    const before = picture()
    const cause = new Error('refused by the test')
    const error = await failure(write(pair('2'), { beforeSwap: () => Promise.reject(cause) }))
    expect(error).toMatchObject({ code: 'write-failed', cause })
    expect(error.message).toContain(directory)
    expect(error.message).not.toContain('key 2')
    expect(picture()).toEqual(before)
  })

  it('in a directory that it made itself leaves none (I4)', async () => {
    directory = at('a', 'b')
    await failure(write(pair('1'), { beforeSwap: () => Promise.reject(new Error('refused')) }))
    expect(existsSync(at('..', '..'))).toBe(false)
  })

  it('passes the error of the lock on as it is', async () => {
    const lost = new CertgenError('lock-held', 'lost the lock')
    expect(await failure(write(pair('1'), { beforeSwap: () => Promise.reject(lost) }))).toBe(lost)
  })

  it('because it was killed leaves a whole generation, and the next one goes through (I4)', async () => {
    for (let round = 0; round < 6; round++) {
      const child = spawn(process.execPath, [writer, '100000', '200000', directory], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const exited = once(child, 'exit')
      await once(child.stdout, 'data')
      // Every other time in the middle of a write: a third generation is there from its start to its end.
      while (round % 2 === 1 && generations().length < 3) await nextTurn()
      for (let turn = 0; turn < round; turn++) await nextTurn()
      child.kill('SIGKILL')
      await exited
      const { files } = (await readGeneration(directory, payload))!
      expect(files.get('tls.crt')).toHaveLength(200_000)
      expect(files.get('tls.crt')).toEqual(files.get('tls.key'))
    }
    await age(3601, ...generations())
    await write(pair('after'))
    expect(generations()).toHaveLength(2)
    expect(text('tls.key')).toBe('key after')
  })
})

// A mount namespace of its own needs root, and a system that lets root make one.
const canMount = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

describe.skipIf(!canMount)('a write that the system refuses', () => {
  /** Runs the script with $W, the command that swaps once with files of $1 bytes, in a mount namespace of its own. */
  async function inMounts(
    script: string,
  ): Promise<{ code?: string; message?: string; hints?: string[]; rest: string }> {
    await mkdir(directory)
    const { stdout } = await run('unshare', ['--mount', 'sh', '-ec', script, process.execPath, writer, directory])
    const [json = '{}', ...rest] = stdout.trim().split('\n')
    return { ...(JSON.parse(json) as object), rest: rest.join('\n') }
  }

  it('for want of space leaves the old generation, and says how to go on (I4)', async () => {
    const { code, hints, rest } = await inMounts(`
      mount -t tmpfs -o size=64k tmpfs "$2"
      "$0" "$1" 1 3 "$2" > "$2/../first"
      before=$(ls -a "$2")
      "$0" "$1" 1 100000 "$2"
      echo; [ "$before" = "$(ls -a "$2")" ] && cat "$2/tls.key"`)
    expect(code).toBe('write-failed')
    expect(hints).toEqual([expect.stringContaining('space')])
    expect(rest).toBe('new 0')
  })

  it('on a read-only file system says that', async () => {
    const { code, hints } = await inMounts('mount -t tmpfs -o ro tmpfs "$2"; "$0" "$1" 1 3 "$2"')
    expect(code).toBe('write-failed')
    expect(hints).toEqual([expect.stringContaining('read-only')])
  })

  it('because a single file is mounted leaves all as it was, and says to mount the directory (I4)', async () => {
    const { code, hints, rest } = await inMounts(`
      echo old > "$2/tls.crt"; echo old > "$2/mounted"; touch "$2/tls.key"
      mount --bind "$2/mounted" "$2/tls.crt"
      "$0" "$1" 1 3 "$2"
      echo; ls -A "$2"; cat "$2/tls.crt"`)
    expect(code).toBe('write-failed')
    expect(hints).toEqual([expect.stringContaining('mount the directory')])
    expect(rest).toBe('mounted\ntls.crt\ntls.key\nold')
  })
})

describe('the time of a generation', () => {
  it('is read from its name, in UTC, and is null for any other name', async () => {
    const { name } = await write(pair('1'))
    expect(generationTime(name)).toEqual(new Date('2026-11-24T01:47:11Z'))
    expect(generationTime('..2026_11_24_01_47_11.2418056732')).toEqual(new Date('2026-11-24T01:47:11Z'))
    for (const other of ['..data', '', '..2026_13_24_01_47_11.ab12cd', '..2026_02_31_01_47_11.ab12cd', 'tls.crt']) {
      expect(generationTime(other)).toBeNull()
    }
  })

  it('does not depend on which file is read', async () => {
    const { name } = await write(pair('1'))
    expect((await readGeneration(directory, ['tls.crt']))?.name).toBe(name)
    expect(await readFile(at('..data', '..previous'), 'utf8')).toBe('')
  })
})
