import { generateKeyPairSync } from 'node:crypto'
import { lstatSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { lutimes, mkdir, mkdtemp, rename, rm, symlink, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CertgenError } from '../../src/errors.ts'
import { encodeKey } from '../../src/pki/key.ts'
import type { FileContent } from '../../src/store/generation/fill.ts'
import { generationTime } from '../../src/store/generation/name.ts'
import { readGeneration, readOrStandIn, readPrevious } from '../../src/store/generation/read.ts'
import { repair } from '../../src/store/generation/repair.ts'
import { writeGeneration } from '../../src/store/generation/write.ts'
import type { WriteOptions, Written } from '../../src/store/generation/write.ts'
import { directoryTarget, targetAt } from '../../src/store/target-store.ts'
import { failure } from '../failure.ts'

/** I8 in one directory: whatever a run does that comes late, what others have published stays. */

const now = new Date('2026-11-24T01:47:11.900Z')
const names = ['tls.crt', 'tls.key']
const lost = new CertgenError('lock-held', 'lost the lock')

let scratch = ''
let directory = ''
let count = 0

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'certgen-late-'))
})
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true })
})
beforeEach(() => {
  directory = join(scratch, String(count++))
})

const at = (...parts: string[]): string => join(directory, ...parts)
const text = (...parts: string[]): string => readFileSync(at(...parts), 'utf8')
const generations = (): string[] => readdirSync(directory).filter((name) => generationTime(name) !== null)
const inode = (...parts: string[]): number => lstatSync(at(...parts)).ino

function write(content: string, options: Partial<WriteOptions> = {}): Promise<Written> {
  const files: FileContent[] = names.map((name) => ({ name, data: content, mode: name === 'tls.key' ? 0o600 : 0o644 }))
  return writeGeneration(directory, files, { now, directoryMode: 0o755, ...options })
}

async function age(seconds: number, ...entries: string[]): Promise<void> {
  const then = Date.now() / 1000 - seconds
  for (const entry of entries) await lutimes(at(entry), then, then)
}

describe('a run that comes late (I8)', () => {
  it('does not swap when another has published while it stood still, and leaves nothing of its own', async () => {
    await write('first')
    let second = ''
    const late = write('late', {
      beforeSwap: async () => {
        second ||= (await write('second')).name
      },
    })
    expect(await failure(late)).toMatchObject({
      code: 'conflict',
      hints: [expect.stringContaining('run certgen again')],
    })
    expect(readlinkSync(at('..data'))).toBe(second)
    expect(text('tls.key')).toBe('second')
    expect(generations()).toHaveLength(2)
    expect(readdirSync(directory).filter((name) => name.startsWith('..data_tmp'))).toEqual([])
  })

  it('cannot rename what another has taken out of its hands, however far that one came', async () => {
    await write('first')
    let taken: string[] = []
    const late = write('late', {
      beforeSwap: async () => {
        taken = readdirSync(directory).filter((name) => name.startsWith('..data_tmp'))
        // The other one gets as far as its own swap, and no further.
        await failure(write('other', { beforeSwap: () => Promise.reject(lost) }))
      },
    })
    expect(await failure(late)).toMatchObject({ code: 'conflict' })
    expect(taken).toHaveLength(1)
    expect(text('tls.key')).toBe('first')
    expect(generations()).toHaveLength(1)
  })

  it('stops where what it was decided upon is not current any more', async () => {
    const first = await write('first')
    await write('second', { upon: first.name })
    expect(await failure(write('third', { upon: first.name }))).toMatchObject({ code: 'conflict' })
    expect(await failure(write('third', { upon: null }))).toMatchObject({ code: 'conflict' })
    expect(text('tls.crt')).toBe('second')
  })

  it('removes nothing after its swap when the lock is lost by then', async () => {
    const first = await write('first')
    await write('second')
    await age(3600, first.name)
    let asked = 0
    const { leftovers } = await write('third', {
      beforeSwap: () => (++asked === 1 ? Promise.resolve() : Promise.reject(lost)),
    })
    expect(asked).toBe(2)
    expect(leftovers).toEqual([])
    expect(generations()).toHaveLength(3)
  })

  it('removes nothing when another has published since its own swap', async () => {
    const first = await write('first')
    await write('second')
    await age(3600, first.name)
    let asked = 0
    let fourth = ''
    await write('third', {
      beforeSwap: async () => {
        if (++asked === 2) fourth = (await write('fourth', { retention: { supersededMs: 1e12 } })).name
      },
    })
    expect(readlinkSync(at('..data'))).toBe(fourth)
    expect(generations()).toHaveLength(4)
  })
})

describe('a target whose files all get other names', () => {
  it('is written in place of what was there, which none of them are of', async () => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const set = { ca: Buffer.from('ca'), cert: Buffer.from('cert'), key: Buffer.from(encodeKey(key)) }
    const old = directoryTarget(targetAt(directory))
    await old.write(set, { now })
    const files = { ca: 'root.pem', cert: 'cert.pem', key: 'key.pem', combined: null }
    const store = directoryTarget({ directory, files })
    expect(await store.read()).toBeNull()
    await store.write(set, { now })
    expect(text('cert.pem')).toBe('cert')
    expect(readdirSync(directory).filter((name) => name.startsWith('tls'))).toEqual([])
  })
})

describe('what is removed (I8)', () => {
  it('is no generation that another run has filled and not published, unless it is an hour old', async () => {
    await write('first')
    const foreign = '..2026_11_24_01_47_11.abcdef'
    await mkdir(at(foreign))
    await age(3500, foreign)
    await write('second')
    expect(generations()).toContain(foreign)
    await age(3601, foreign)
    await write('third')
    expect(generations()).not.toContain(foreign)
  })

  it('is nothing that is still needed, and what is not, goes later', async () => {
    const first = await write('first')
    await write('second')
    await age(3600, first.name)
    const asked: string[] = []
    const isNeeded = (path: string): Promise<boolean> => Promise.resolve(asked.push(path) > 0)
    await write('third', { retention: { supersededMs: 60_000, isNeeded } })
    expect(asked).toEqual([at(first.name)])
    expect(generations()).toContain(first.name)
    await age(3600, first.name)
    await write('fourth')
    expect(generations()).not.toContain(first.name)
  })
})

describe('a ..data that leads nowhere', () => {
  it('is read as the newest whole generation by those who can mend it, and refused by others', async () => {
    const first = await write('first')
    const second = await write('second')
    const third = await write('third', { now: new Date(now.getTime() + 1000) })
    await rm(at(third.name), { recursive: true })
    await mkdir(at('..2026_11_25_00_00_00.abcdef'))
    const read = await readOrStandIn(directory, names, names)
    expect(read).toMatchObject({ link: third.name, standsIn: true })
    expect(read.generation).toMatchObject({ name: second.name, previous: first.name })
    expect(read.generation?.files.get('tls.key')?.toString()).toBe('second')
    expect(await failure(readGeneration(directory, names))).toMatchObject({ code: 'unreadable' })
  })

  it('is mended by repair, once', async () => {
    const first = await write('first')
    const second = await write('second')
    await rm(at(second.name), { recursive: true })
    expect(await repair(directory, { names, essential: names })).toEqual(['generation'])
    expect(readlinkSync(at('..data'))).toBe(first.name)
    expect(text('tls.key')).toBe('first')
    expect(await repair(directory, { names, essential: names })).toEqual([])
  })

  it('is written over by the next write, for which what stood in is the generation before', async () => {
    const first = await write('first')
    const second = await write('second')
    await rm(at(second.name), { recursive: true })
    await write('third', { upon: second.name })
    expect(text('tls.key')).toBe('third')
    expect((await readPrevious(directory, names))?.name).toBe(first.name)
  })

  it('is refused where there is no whole generation at all', async () => {
    await write('first')
    await mkdir(at('..2026_11_25_00_00_00.abcdef'))
    await rm(at(readlinkSync(at('..data'))), { recursive: true })
    expect(await failure(readOrStandIn(directory, names, names))).toMatchObject({ code: 'unreadable' })
    expect(await repair(directory, { names, essential: names })).toEqual([])
  })
})

describe('waking who watches', () => {
  it('gives the files of the generation before new inodes, and nothing else about them changes', async () => {
    const first = await write('first')
    const before = names.map((name) => ({ ...picture(first.name, name), ino: inode(first.name, name) }))
    await write('second')
    const after = names.map((name) => ({ ...picture(first.name, name), ino: inode(first.name, name) }))
    for (const [index, file] of after.entries()) {
      expect(file.ino).not.toBe(before[index]!.ino)
      expect({ ...file, ino: 0 }).toEqual({ ...before[index]!, ino: 0 })
    }
    expect(readdirSync(at(first.name)).toSorted()).toEqual(['..previous', ...names])
  })

  it('renames every visible link onto itself', async () => {
    await write('first')
    const before = names.map((name) => inode(name))
    await write('second')
    for (const [index, name] of names.entries()) {
      expect(inode(name)).not.toBe(before[index])
      expect(readlinkSync(at(name))).toBe(`..data/${name}`)
    }
  })

  it.skipIf(process.geteuid?.() !== 0)('keeps the owner and the mode of each file', async () => {
    const first = await write('first', { owner: { uid: 1234, gid: 2345 } })
    await write('second', { owner: { uid: 1234, gid: 2345 } })
    expect(statSync(at(first.name, 'tls.key'))).toMatchObject({ uid: 1234, gid: 2345 })
    expect(statSync(at(first.name, 'tls.key')).mode & 0o7777).toBe(0o600)
  })

  it('is made up for by repair where a run was ended before it could, and only there', async () => {
    const first = await write('first')
    const second = await write('second')
    expect(await repair(directory, { names, essential: names })).toEqual([])
    // As they were before they were written again: older than what took their place.
    for (const name of names) await age(60, join(first.name, name))
    const before = inode(first.name, 'tls.key')
    expect(await repair(directory, { names, essential: names })).toEqual(['watchers'])
    expect(inode(first.name, 'tls.key')).not.toBe(before)
    expect(await repair(directory, { names, essential: names })).toEqual([])
    expect(readlinkSync(at('..data'))).toBe(second.name)
  })

  it('that fails is said, and fails nothing', async () => {
    const first = await write('first')
    await truncate(at(first.name, 'tls.crt'), 65 * 1024 * 1024)
    const { warnings } = await write('second')
    expect(warnings).toEqual([
      { code: 'not-woken', message: expect.stringContaining('tls.crt is too large') as string },
    ])
    expect(text('tls.key')).toBe('second')
    expect(await readGeneration(directory, names)).toMatchObject({ previous: first.name })
  })

  it('follows no link that was planted in the generation before', async () => {
    const first = await write('first')
    const victim = join(scratch, 'victim')
    await mkdir(victim, { recursive: true })
    await rename(at(first.name, 'tls.crt'), join(victim, 'tls.crt'))
    await symlink(join(victim, 'tls.crt'), at(first.name, 'tls.crt'))
    const before = lstatSync(join(victim, 'tls.crt'))
    await write('second')
    expect(lstatSync(join(victim, 'tls.crt'))).toEqual(before)
    expect(readlinkSync(at(first.name, 'tls.crt'))).toBe(join(victim, 'tls.crt'))
  })
})

function picture(...parts: string[]): { content: string; mode: number; uid: number; gid: number } {
  const { mode, uid, gid } = lstatSync(at(...parts))
  return { content: text(...parts), mode, uid, gid }
}
