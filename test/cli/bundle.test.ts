import { lstatSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { certgen, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { missing } from '../requirements.ts'

const cwd = temporaryDirectory()
const at = (name: string): string => join(cwd, name)
const write = (name: string, text: string | Buffer): string => {
  writeFileSync(at(name), text)
  return name
}
const bundle = (...args: string[]): Promise<Outcome> => certgen(['bundle', ...args], { cwd })

/** Roots of their own, one PEM block each: `a` ends in 5 years, `short` tomorrow. */
const roots: Record<'a' | 'b' | 'c' | 'short', string> = { a: '', b: '', c: '', short: '' }
beforeAll(async () => {
  for (const name of ['a', 'b', 'c', 'short'] as const) {
    await rotateJson(['ca', '--dir', name, ...(name === 'short' ? ['--ca-validity', '1d'] : [])], { cwd })
    roots[name] = readFileSync(at(`${name}/ca/ca.crt`), 'utf8')
    write(`${name}.crt`, roots[name])
  }
})

describe('certgen bundle', () => {
  it('prints all of NEW, then the first of OLD that is not in yet, and never a second (I6)', async () => {
    write('old.crt', roots.a + roots.b + roots.c)
    expect(await bundle('a.crt', 'old.crt')).toEqual({ code: 0, stdout: roots.a + roots.b, stderr: '' })
    write('new.crt', roots.c + roots.a)
    expect((await bundle('new.crt', 'old.crt')).stdout).toBe(roots.c + roots.a + roots.b)
  })

  it('prints NEW alone when there is no OLD, or nothing in it that may stay', async () => {
    expect(await bundle('a.crt')).toEqual({ code: 0, stdout: roots.a, stderr: '' })
    expect((await bundle('a.crt', 'a.crt')).stdout).toBe(roots.a)
  })

  it('passes over what has expired at the instant of --at', async () => {
    write('old.crt', roots.short + roots.b)
    const after = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString()
    expect((await bundle('a.crt', 'old.crt')).stdout).toBe(roots.a + roots.short)
    expect((await bundle('a.crt', 'old.crt', '--at', after(2))).stdout).toBe(roots.a + roots.b)
    expect((await bundle('a.crt', 'short.crt', '--at', after(2))).stdout).toBe(roots.a)
  })

  it('writes the same octets with --out, as a file for everybody, and leaves nothing beside it', async () => {
    mkdirSync(at('out'))
    for (const expected of [roots.a + roots.b, roots.a + roots.c]) {
      const old = expected.endsWith(roots.b) ? 'b.crt' : 'c.crt'
      expect(await bundle('a.crt', old, '--out', 'out/ca.crt')).toEqual({ code: 0, stdout: '', stderr: '' })
      expect(readFileSync(at('out/ca.crt'), 'utf8')).toBe(expected)
    }
    expect((lstatSync(at('out/ca.crt')).mode & 0o777).toString(8)).toBe('644')
    expect(readdirSync(at('out'))).toEqual(['ca.crt'])
  })

  it('may write over one of its inputs', async () => {
    write('inout.crt', roots.b)
    expect((await bundle('a.crt', 'inout.crt', '--out', 'inout.crt')).code).toBe(0)
    expect(pemBlocks(at('inout.crt'))).toHaveLength(2)
  })

  it('says with --json what it holds and what was carried over', async () => {
    const { code, stdout } = await bundle('a.crt', 'b.crt', '--json')
    expect(code).toBe(0)
    const sha256 = expect.stringMatching(/^[0-9a-f]{64}$/) as string
    const entry = { subject: expect.stringMatching(/^CN=/) as string, sha256, notAfter: expect.any(String) as string }
    expect(JSON.parse(stdout)).toEqual({
      schema: 1,
      command: 'bundle',
      certificates: [entry, entry],
      carriedOver: sha256,
      out: null,
    })
  })
})

describe('a bundle that cannot be written', () => {
  it('is exit 5 when its directory is not there', async () => {
    const { code, stdout, stderr } = await bundle('a.crt', '--out', 'nowhere/ca.crt')
    expect([code, stdout]).toEqual([5, ''])
    expect(stderr).toMatch(/^certgen: error: cannot write nowhere\/ca\.crt: ENOENT\ncertgen: hint: /)
  })

  it.skipIf(missing('strace')).each(['fsync', 'rename'])(
    'is exit 5 when %s fails, and the old file stays, alone',
    async (call) => {
      mkdirSync(at(`full-${call}`))
      const out = write(`full-${call}/ca.crt`, roots.b)
      const before = lstatSync(at(out))
      const { code, stderr } = await certgen(['bundle', 'a.crt', '--out', out], { cwd, through: failing(call) })
      expect(code).toBe(5)
      expect(stderr).toMatch(/^certgen: error: cannot write full-\w+\/ca\.crt: ENOSPC\ncertgen: hint: /)
      expect(readFileSync(at(out), 'utf8')).toBe(roots.b)
      expect([lstatSync(at(out)).ino, lstatSync(at(out)).mtimeMs]).toEqual([before.ino, before.mtimeMs])
      expect(readdirSync(at(`full-${call}`))).toEqual(['ca.crt'])
    },
  )

  it.skipIf(missing('strace'))(
    'does not call the file unchanged when only its directory cannot be synced',
    async () => {
      mkdirSync(at('unsynced'))
      const out = write('unsynced/ca.crt', roots.b)
      const through = failing('fsync', at('unsynced'))
      const { code, stderr } = await certgen(['bundle', 'a.crt', '--out', out], { cwd, through })
      expect(code).toBe(5)
      expect(readFileSync(at(out), 'utf8')).toBe(roots.a)
      expect(stderr).not.toContain('unchanged')
      expect(readdirSync(at('unsynced'))).toEqual(['ca.crt'])
    },
  )
})

/** Every such system call fails as on a full disk, or only those about one path. */
function failing(call: string, path?: string): string[] {
  const calls = call === 'rename' ? '?rename,?renameat,?renameat2' : call
  const only = path === undefined ? [] : ['-P', path]
  return [
    'strace',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    ...only,
    '-e',
    `trace=${calls}`,
    '-e',
    `inject=${calls}:error=ENOSPC`,
  ]
}

describe('input of certgen bundle that is not whole', () => {
  const flip = (text: string): string => text.replace(/(\nMI.{9})./, '$1*')
  const lines = (text: string): number => text.split('\n').length - 1
  it.each<
    [string, (good: string) => string | Buffer, string, { block: number; line: (good: string) => number } | null]
  >([
    ['nothing', () => '', 'pem-empty', null],
    ['text', () => 'hello\n', 'pem-empty', null],
    ['a damaged character', (good) => good + flip(good), 'pem-damaged', { block: 2, line: (good) => lines(good) + 2 }],
    [
      'no end',
      (good) => good + good.replace(/-----END.*/, ''),
      'pem-damaged',
      { block: 2, line: (good) => lines(good) + 1 },
    ],
    [
      'no end in the first',
      (good) => good.replace(/-----END.*/, '') + good,
      'pem-damaged',
      { block: 1, line: () => 1 },
    ],
    [
      'a line too few',
      (good) => good + good.replace(/\n.*/, ''),
      'pem-damaged',
      { block: 2, line: (good) => lines(good) + 1 },
    ],
    [
      'an END line alone',
      (good) => `${good}-----END CERTIFICATE-----\n`,
      'pem-damaged',
      { block: 2, line: (good) => lines(good) + 1 },
    ],
    [
      'a key',
      (good) => good + readFileSync(at('a/ca/ca.key'), 'utf8'),
      'pem-damaged',
      { block: 2, line: (good) => lines(good) + 1 },
    ],
    ['DER', (good) => Buffer.from(good.replace(/-----.*/g, ''), 'base64'), 'pem-damaged', { block: 1, line: () => 1 }],
    [
      'no certificate in it',
      (good) => good + good.replace(/^MI[^-]*/m, 'MAA=\n'),
      'pem-damaged',
      { block: 2, line: (good) => lines(good) + 1 },
    ],
  ])('is exit 3 in either place, names block and line, and writes nothing: %s', async (_name, spoil, code, fault) => {
    write('spoiled.crt', spoil(roots.b))
    const out = write('kept.crt', roots.c)
    const where = fault ? `block ${fault.block} (line ${fault.line(roots.b)})` : ''
    for (const files of [
      ['spoiled.crt', 'a.crt'],
      ['a.crt', 'spoiled.crt'],
    ]) {
      const text = await bundle(...files, '--out', out)
      expect([text.code, text.stdout]).toEqual([3, ''])
      expect(text.stderr).toMatch(/^certgen: error: spoiled\.crt/)
      expect(text.stderr).toContain(where)
      expect(text.stderr).toContain(`[${code}]`)
      expect(readFileSync(at(out), 'utf8')).toBe(roots.c)
    }
    const json = JSON.parse((await bundle('spoiled.crt', '--json')).stdout) as object
    const message = expect.stringContaining(where) as string
    expect(json).toMatchObject({
      command: 'bundle',
      error: { code: 'unusable', exitCode: 3, findings: [{ code, severity: 'error', path: 'spoiled.crt', message }] },
    })
  })

  it('is exit 2 when it is not there, or too much', async () => {
    for (const args of [[], ['nowhere.crt'], ['a.crt', 'nowhere.crt'], ['a.crt', 'b.crt', 'c.crt'], ['a']]) {
      const { code, stdout, stderr } = await bundle(...args)
      expect([code, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(/^certgen: error: .*\n(certgen: hint: .+\n)+$/)
    }
  })
})
