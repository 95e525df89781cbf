import { createPrivateKey } from 'node:crypto'
import { cpSync, mkdirSync, readFileSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { certgen, output, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { missing } from '../requirements.ts'
import { parseSystemCalls } from './system-calls.ts'
import type { SystemCall } from './system-calls.ts'

// I3, as the kernel sees it: everything that a run, and what it starts, creates, writes, sends or executes.

const scratch = temporaryDirectory()
const keyTypes = ['ecdsa-p256', 'ecdsa-p384', 'ed25519', 'rsa-2048']
const passphrase = 'correct horse battery staple'
let runs = 0

const traced = [
  ...['open', 'openat', 'openat2', 'creat', 'mkdir', 'mkdirat', 'mknod', 'mknodat', 'memfd_create'],
  ...['chmod', 'fchmod', 'fchmodat', 'rename', 'renameat', 'renameat2', 'link', 'linkat', 'symlink', 'symlinkat'],
  ...['write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'send', 'sendto', 'sendmsg', 'sendmmsg'],
  ...['sendfile', 'splice', 'copy_file_range', 'execve', 'execveat'],
]
/** Those of which one machine has some, and another the others. */
const optional = traced.map((call) => `?${call}`).join()

interface Traced {
  readonly outcome: Outcome
  readonly calls: readonly SystemCall[]
}

/** A run under a umask that takes nothing away, with each string of each call whole, environments included. */
async function trace(cwd: string, args: readonly string[], env: Record<string, string> = {}): Promise<Traced> {
  const file = join(scratch, `trace-${++runs}`)
  const strace = ['strace', '-f', '-y', '-v', '-xx', '-s', '16777216', '--seccomp-bpf', '-o', file]
  const through = ['sh', '-c', 'umask 000; exec "$@"', 'sh', ...strace, '-e', `trace=${optional}`, '-e', 'quiet=attach']
  const outcome = await certgen(args, { cwd, through, env: { ...env, UV_USE_IO_URING: '0' } })
  return { outcome, calls: parseSystemCalls(readFileSync(file, 'latin1')) }
}

/** A private key file, and everything by which it could be known: its lines, and its numbers as octets and as text. */
interface Secret {
  readonly path: string
  readonly marks: readonly string[]
}

function secretsBelow(directory: string): Secret[] {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return files.flatMap((entry): Secret[] => {
    const path = join(entry.parentPath, entry.name)
    const text = readFileSync(path, 'latin1')
    const [block] = /-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----\n[^-]+-----END/.exec(text) ?? []
    if (block === undefined) return []
    const key = createPrivateKey({ key: text, passphrase })
    const { d = '', p = '', q = '' } = key.export({ format: 'jwk' })
    const numbers = [d, p, q].filter(Boolean).map((number) => Buffer.from(number, 'base64url'))
    const plain = key.export({ type: 'pkcs8', format: 'pem' }).toString('latin1')
    const lines = [block, plain].flatMap((pem) => pem.match(/^[A-Za-z0-9+/=]{24,}$/gm) ?? [])
    const texts = numbers.flatMap((number) => [number.toString('hex'), number.toString('base64')])
    return [{ path, marks: [...numbers.map((number) => number.toString('latin1')), ...lines, ...texts] }]
  })
}

const writing = /^(?:p?write(?:v2?|64)?|pwritev2?|send|sendto|sendmsg|sendmmsg)$/

/** Every way in which one of these keys came out of its own file. `cwd` has no link in it. */
function leaks({ calls, outcome }: Traced, secrets: readonly Secret[], cwd: string): string[] {
  const found: string[] = []
  for (const { path, marks } of secrets) {
    const told = (text: string): boolean => marks.some((mark) => text.includes(mark))
    if (told(outcome.stdout + outcome.stderr)) found.push(`${path} was told`)
    for (const { name, strings } of calls) {
      if (!strings.some(told)) continue
      const [file = ''] = strings
      const own = writing.test(name) && isPlaceOf(path, file, cwd)
      if (!own) found.push(`${path} in ${name} ${writing.test(name) ? file : ''}`)
    }
  }
  return found
}

/** A key of a target stands in its `tls.key` and `tls.pem`, of this generation and of those that republish it. */
function isPlaceOf(secret: string, file: string, cwd: string): boolean {
  if (!file.startsWith(`${cwd}/`)) return false
  const isAuthority = /^(?:ca|next)\.key$/.test(basename(secret))
  const names = isAuthority ? ['ca.key', 'next.key'] : ['tls.key', 'tls.pem']
  const sameDirectory = dirname(dirname(file)) === dirname(dirname(secret))
  // Written again under a new inode, for those who watch the old one; an authority's key is not.
  const name = isAuthority ? basename(file) : basename(file).replace(/^\.\.wake\.[0-9a-f]+\./, '')
  return sameDirectory && names.includes(name) && basename(dirname(file)).startsWith('..')
}

/** Every file that was made with more than the mode it ends with, or for anybody else to put there or to follow. */
function looseCreations({ calls }: Traced, cwd: string): string[] {
  return calls.flatMap(({ name, strings, line }): string[] => {
    const path = strings.at(-1) ?? ''
    const isKey = /\.(?:key|pem)$/.test(path)
    const octal = /, (0[0-7]*)$/.exec(line)?.[1]
    const mode = octal === undefined ? null : Number.parseInt(octal, 8)
    const tell = (what: string): string[] => [`${name} ${path}: ${what}`]
    if (/^open|^creat/.test(name) && /O_CREAT|O_TMPFILE/.test(line) && !path.startsWith('/dev/')) {
      if (!line.includes('O_EXCL')) return tell('not exclusive')
      if (isKey && (mode ?? 0o777) !== 0o600) return tell(`created with ${octal ?? 'no mode'}`)
      if (isKey && !line.includes('O_NOFOLLOW')) return tell('follows links')
      if ((mode ?? 0o777) & 0o022) return tell(`created with ${octal ?? 'no mode'}`)
    }
    if (/^f?chmod/.test(name) && isKey && (mode ?? 0o777) & 0o077) return tell(`opened to ${octal ?? ''}`)
    if (name.startsWith('mkdir') && (mode ?? 0o777) & 0o022) return tell(`made with ${octal ?? 'no mode'}`)
    if (name.startsWith('link') || name.startsWith('memfd')) return tell('a key may have another name')
    if (/^(?:open|creat|mkdir)/.test(name) && /O_CREAT|mkdir/.test(line) && escapes(path, cwd)) return tell('elsewhere')
    return []
  })
}

/** Nothing is made but below the directory, whose own run names it absolutely or relatively. */
function escapes(path: string, cwd: string): boolean {
  return path.startsWith('/') && !path.startsWith(`${cwd}/`) && !path.startsWith('/dev/')
}

/** The environments and arguments of all that was started, but for the program itself. */
function started({ calls }: Traced): string[] {
  const [, ...others] = calls.filter(({ name }) => name.startsWith('execve'))
  return others.flatMap(({ strings }) => strings)
}

function expectTight(run: Traced, secrets: readonly Secret[], cwd: string): void {
  expect(secrets.length).toBeGreaterThan(0)
  expect(leaks(run, secrets, cwd)).toEqual([])
  expect(looseCreations(run, cwd)).toEqual([])
}

describe.skipIf(missing('strace', 'openssl'))('a private key (I3)', () => {
  let cwd = ''
  beforeAll(async () => {
    cwd = realpathSync(join(scratch))
    cwd = join(cwd, 'fleet')
    mkdirSync(cwd)
    for (const type of keyTypes) await rotateJson(['--name', type, '--key', type], { cwd })
    await rotateJson(['--dir', 'foreign'], { cwd })
    const locked = ['-aes256', '-passout', `pass:${passphrase}`, '-out', join(cwd, 'locked.key')]
    output('openssl', 'pkey', '-in', join(cwd, 'foreign/server/tls.key'), ...locked)
    writeFileSync(join(cwd, 'passphrase'), `${passphrase}\n`, { mode: 0o600 })
  })

  it('is where it is looked for, or this would prove nothing', async () => {
    const copy = join(cwd, 'copy')
    cpSync(join(cwd, 'certs'), copy, { recursive: true, verbatimSymlinks: true })
    const secrets = secretsBelow(copy)
    expect(secrets).toHaveLength(1 + 2 * keyTypes.length)
    const leaf = join(copy, 'rsa-2048', 'tls.key')
    const hook = `cat ${leaf}; umask 000; cat ${leaf} > ${join(cwd, 'elsewhere.key')}; env KEY="$(sed -n 3p ${leaf})" true`
    const run = await trace(cwd, ['--dir', copy, '--name', 'new', '--exec', hook])
    expect(run.outcome.code).toBe(0)
    const found = leaks(run, secrets, cwd)
    expect(found.some((leak) => leak.endsWith('was told'))).toBe(true)
    expect(found.some((leak) => leak.includes('execve'))).toBe(true)
    expect(looseCreations(run, cwd).some((loose) => loose.includes('elsewhere.key: not exclusive'))).toBe(true)
    // The same keys, of which the runs that follow write no file again but their own.
    for (const path of [copy, join(cwd, 'elsewhere.key')]) rmSync(path, { recursive: true })
  })

  const dump = 'env; id -u; ls -l certs >&2'

  it.each([
    ['a first run', ['--dir', 'first']],
    ['a rotation', ['--overwrite']],
    ['a rotation with a hook', ['--overwrite', '--exec', dump, '--json']],
    ['a staged rotation', ['--overwrite', '--strategy', 'staged']],
    ['a rollback', ['rollback', '--json']],
    ['new leaves', ['--overwrite', '--keep-ca', '--json']],
    ['a run with nothing to do', ['--json']],
    ['a validation', ['validate', 'certs/rsa-2048', '--json']],
  ])('is written to its own file alone, closed from its first moment, by %s', async (_name, args) => {
    const run = await trace(cwd, args, { CERTGEN_DEBUG: '1' })
    expect([run.outcome.code, run.outcome.stderr]).toEqual([0, expect.anything()])
    expectTight(run, secretsBelow(cwd), cwd)
    const opened = run.calls.filter(({ name }) => name.startsWith('open')).flatMap(({ strings }) => strings)
    expect(opened.some((path) => path.endsWith('.key'))).toBe(true)
  })

  it('that somebody else made is installed the same way, and its passphrase stays with certgen', async () => {
    const files = ['--cert', 'foreign/server/tls.crt', '--key', 'locked.key', '--ca', 'foreign/server/ca.crt']
    const run = await trace(cwd, ['install', ...files, '--passphrase-file', 'passphrase', '--target', 'installed'])
    expect(run.outcome.code).toBe(0)
    // The set that it was made from holds the same key.
    const secrets = secretsBelow(join(cwd, 'installed'))
    expectTight(run, secrets, cwd)
    for (const { name, strings } of run.calls)
      expect([name, strings.some((text) => text.includes(passphrase))]).toEqual([name, false])
  })

  it('of an authority with a passphrase is encrypted in every write, and hooks never see the passphrase', async () => {
    const dir = ['--dir', 'sealed', '--exec', 'env', '--json']
    const env = { CERTGEN_CA_PASSPHRASE: passphrase, CERTGEN_DEBUG: '1' }
    for (const args of [dir, [...dir, '--overwrite']]) {
      const run = await trace(cwd, args, env)
      expect(run.outcome.code).toBe(0)
      expectTight(run, secretsBelow(join(cwd, 'sealed')), cwd)
      expect(readFileSync(join(cwd, 'sealed/ca/ca.key'), 'utf8')).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----/)
      expect(started(run).filter((text) => text.includes(passphrase))).toEqual([])
      expect(started(run).some((text) => text.startsWith('CERTGEN_TARGETS='))).toBe(true)
      const written = run.calls.filter(({ name }) => writing.test(name)).flatMap(({ strings }) => strings)
      expect(written.filter((text) => text.includes(passphrase))).toEqual([])
    }
  })

  it('is in no error, whatever is wrong with it or with what stands beside it, not even for debugging', async () => {
    const secrets = secretsBelow(cwd)
    const key = readFileSync(join(cwd, 'certs/rsa-2048/tls.key'), 'utf8')
    const damages = [
      key.replace(/\n-----END.*/s, ''),
      key.replace('MI', 'M*'),
      key.replaceAll('PRIVATE', 'PUBLIC'),
      key.replace(/\n/, '\nProc-Type: 4,ENCRYPTED\n'),
      key + key,
      key.replace(/^.*\n/, ''),
    ]
    const certificate = 'certs/rsa-2048/tls.crt'
    for (const damage of damages) {
      writeFileSync(join(cwd, 'damaged.key'), damage)
      const commands = [
        ['validate', '--cert', certificate, '--key', 'damaged.key'],
        ['install', '--cert', certificate, '--key', 'damaged.key', '--ca', 'certs/ca/ca.crt', '--target', 'no'],
        ['bundle', 'damaged.key'],
      ]
      for (const args of commands) {
        const outcome = await certgen([...args, '--json'], { cwd, env: { CERTGEN_DEBUG: '1' } })
        expect([args, outcome.code]).toEqual([args, 3])
        expect(leaks({ outcome, calls: [] }, secrets, cwd)).toEqual([])
      }
    }
    const dir = join(cwd, 'spoiled')
    cpSync(join(cwd, 'certs'), dir, { recursive: true, verbatimSymlinks: true })
    for (const [path, damage] of [
      ['ca/ca.key', key],
      ['rsa-2048/tls.key', damages[1]!],
    ] as const) {
      writeFileSync(realpathSync(join(dir, path)), damage)
      for (const args of [
        ['--dir', 'spoiled'],
        ['--dir', 'spoiled', '--overwrite', '--json'],
        ['rollback', '--dir', 'spoiled'],
      ]) {
        const outcome = await certgen(args, { cwd, env: { CERTGEN_DEBUG: '1' } })
        expect(leaks({ outcome, calls: [] }, secrets, cwd)).toEqual([])
        expect(outcome.code).toBeOneOf([0, 3])
      }
    }
  })
})
