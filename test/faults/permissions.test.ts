import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { cannotMount, mount, unmount } from './mounts.ts'

// Umasks, other users, strange names, and file systems that let nobody write: for the store, `install`, `validate` and
// whole rotations.

const asRoot = process.geteuid?.() === 0
const scratch = temporaryDirectory()
let copies = 0

/** A fleet of two, rotated once, and a set of somebody else. */
let prepared = ''
beforeAll(async () => {
  prepared = join(scratch, 'prepared')
  mkdirSync(prepared)
  for (const name of ['server', 'other']) await rotateJson(['--name', name], { cwd: prepared })
  await rotateJson(['--overwrite'], { cwd: prepared })
  await rotateJson(['--dir', 'foreign'], { cwd: prepared })
})

function copy(): string {
  const cwd = join(scratch, `copy-${++copies}`)
  output('cp', '-a', prepared, cwd)
  return cwd
}

const set = ['--cert', 'foreign/server/tls.crt', '--key', 'foreign/server/tls.key', '--ca', 'foreign/server/ca.crt']
const install = ['install', ...set, '--target', 'certs/server']

function expectRefusal({ code, stdout, stderr }: Outcome, expected: number, hint: RegExp): void {
  expect({ code, stdout }).toEqual({ code: expected, stdout: '' })
  expect(stderr).toMatch(/^certgen: error: [^\n]*[^.\n]\n/)
  expect(stderr).toMatch(new RegExp(`^certgen: hint: .*${hint.source}`, 'm'))
  expect(stderr).not.toMatch(/^ +at /m)
}

/** Every path of a directory with its mode; links have none of their own. */
function modes(directory: string): string[] {
  const paths = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(
    (path) => !path.includes('..data/'),
  )
  const shown = (path: string): string => path.replace(/\.\.\d{4}_[^/]*/, '..generation')
  const entries = paths.filter((path) => !lstatSync(join(directory, path)).isSymbolicLink())
  return [
    ...new Set(entries.map((path) => `${shown(path)} ${(lstatSync(join(directory, path)).mode & 0o7777).toString(8)}`)),
  ].sort()
}

describe('a umask', () => {
  it.each(['000', '022', '077'])('of %s changes nothing of who may read what (I3)', async (umask) => {
    const cwd = join(scratch, `umask-${umask}`)
    mkdirSync(cwd)
    const through = ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh']
    for (const args of [[], ['--overwrite'], ['rollback']]) {
      expect((await certgen(args, { cwd, through })).code).toBe(0)
    }
    cpSync(join(prepared, 'foreign'), join(cwd, 'foreign'), { recursive: true, verbatimSymlinks: true })
    expect((await certgen(['install', ...set, '--target', 'deep/down/target'], { cwd, through })).code).toBe(0)
    const target = (name: string): string[] => [
      `${name}/..generation 755`,
      ...['..previous 644', 'ca.crt 644', 'tls.crt 644', 'tls.key 600', 'tls.pem 600'].map(
        (file) => `${name}/..generation/${file}`,
      ),
    ]
    expect(modes(join(cwd, 'certs'))).toEqual(
      [
        ...['ca 700', 'ca/..generation 700', 'server 755', ...target('server')],
        ...['..previous 644', 'ca.crt 644', 'ca.key 600', 'cross.crt 644', 'previous.crt 644'].map(
          (file) => `ca/..generation/${file}`,
        ),
      ].sort(),
    )
    // Those on the way are as `mkdir -p` makes them, but never open to writers.
    const onTheWay = umask === '077' ? '700' : '755'
    expect(modes(join(cwd, 'deep'))).toEqual([`down ${onTheWay}`, 'down/target 755', ...target('down/target')].sort())
    expect((statSync(join(cwd, 'certs')).mode & 0o777).toString(8)).toBe(onTheWay)
  })
})

/** Users that nobody else is. */
const [service, stranger] = [1234, 2345]

const become = (user: number): string[] => [
  'setpriv',
  '--reuid',
  String(user),
  '--regid',
  String(user),
  '--clear-groups',
]

/** It takes root to become somebody else, and a Node that somebody else may run. */
function cannotBecomeOthers(): boolean {
  try {
    output(
      'setpriv',
      ...['--reuid', String(service), '--regid', String(service), '--clear-groups'],
      process.execPath,
      '--version',
    )
    return false
  } catch {
    process.stderr.write(
      '\n!!! SKIPPED: tests of other users need root, setpriv, and a Node that every user may run\n\n',
    )
    return true
  }
}

describe.skipIf(!asRoot || cannotBecomeOthers())('another user', () => {
  // The checkout itself may be where only root may go.
  const program = join(scratch, 'program')
  beforeAll(() => {
    mkdirSync(program)
    for (const part of ['bin', 'dist', 'package.json']) cpSync(resolve(part), join(program, part), { recursive: true })
    output('chmod', '-R', 'a+rX', program)
    chmodSync(scratch, 0o755)
  })

  function asService(cwd: string, ...args: string[]): Promise<Outcome> {
    return certgen(args, { cwd, through: become(service), program: join(program, 'bin/certgen.js') })
  }

  it('who owns the directories rotates, installs and validates', async () => {
    const cwd = copy()
    output('chown', '-R', `${service}:${service}`, cwd)
    for (const args of [['--overwrite'], install, ['validate', 'certs/server']]) {
      expect([args, (await asService(cwd, ...args)).code]).toEqual([args, 0])
    }
    expect(statSync(join(cwd, 'certs/server/tls.key')).uid).toBe(service)
  })

  it("who may not read the authority's key is told so, and nothing is written", async () => {
    const cwd = copy()
    output('chown', '-R', `${service}:${service}`, cwd)
    output('chown', '-R', '0:0', join(cwd, 'certs/ca'))
    const before = fingerprintTree(cwd)
    for (const args of [[], ['--overwrite'], ['rollback']]) {
      expectRefusal(await asService(cwd, ...args), args[0] === 'rollback' ? 5 : 2, /run as the owner of the directory/)
    }
    expect(fingerprintTree(cwd)).toEqual(before)
  })

  it('who may not write one of the targets stops before the first octet, of any of them', async () => {
    const cwd = copy()
    output('chown', '-R', `${service}:${service}`, cwd)
    output('chown', '0:0', join(cwd, 'certs/other'))
    const before = fingerprintTree(join(cwd, 'certs'))
    expectRefusal(await asService(cwd, '--overwrite'), 5, /writable for the user who runs certgen/)
    const after = fingerprintTree(join(cwd, 'certs'))
    // The lock came and went.
    expect({ ...after, ca: '' }).toEqual({ ...before, ca: '' })
    expectRefusal(await asService(cwd, 'install', ...set, '--target', 'certs/other'), 5, /run as the owner/)
  })

  it('who may not read a key is told which', async () => {
    const cwd = copy()
    output('chown', '-R', `${service}:${service}`, cwd)
    for (const name of ['certs', 'foreign'])
      chownSync(
        resolve(cwd, name, 'server', output('readlink', join(cwd, name, 'server/..data')).trim(), 'tls.key'),
        0,
        0,
      )
    for (const args of [['validate', 'certs/server'], ['validate', ...set], install]) {
      const outcome = await asService(cwd, ...args)
      expectRefusal(outcome, 2, /(run as|may read it)/)
      expect(outcome.stderr).toContain('server')
    }
  })

  it("keeps a directory that root rotates: its owner and mode stay, and the keys are root's alone (I3)", async () => {
    const cwd = copy()
    const target = join(cwd, 'certs/server')
    chownSync(target, service, stranger)
    chmodSync(target, 0o2750)
    await rotateJson(['--overwrite'], { cwd })
    expect(statSync(target)).toMatchObject({ uid: service, gid: stranger })
    expect((statSync(target).mode & 0o7777).toString(8)).toBe('2750')
    expect((statSync(join(target, 'tls.key')).mode & 0o777).toString(8)).toBe('600')
  })
})

describe('a name', () => {
  const strange = ['with a blank', 'with\na line', '-rf', 'ünïcödé 🔒 \x1b[2J', '$(id)*%s']

  it.each(strange)('of a directory may be anything: %j', async (name) => {
    const cwd = join(scratch, `name-${++copies}`)
    mkdirSync(cwd)
    const dir = join(name, '..', name, 'certs')
    const first = await rotateJson([`--dir=${dir}`], { cwd })
    expect(first.leaves[0]?.target).toBe(join(dir, 'server'))
    await rotateJson([`--dir=${dir}`, '--overwrite'], { cwd })
    expect((await rotateJson([`--dir=${dir}`], { cwd })).changed).toBe(false)
    const target = join(name, 'target')
    cpSync(join(prepared, 'foreign'), join(cwd, 'foreign'), { recursive: true, verbatimSymlinks: true })
    expect((await certgen(['install', ...set, `--target=${target}`], { cwd })).code).toBe(0)
    expect((await certgen(['validate', '--', target], { cwd })).code).toBe(0)
    expect(readdirSync(cwd).sort()).toEqual([name, 'foreign'].sort())
  })

  it.each(strange.slice(1))('of a target that is there may be anything: %j', async (name) => {
    const cwd = copy()
    output('mv', join(cwd, 'certs/other'), join(cwd, 'certs', name))
    const { leaves } = await rotateJson(['--overwrite'], { cwd })
    expect(leaves.map((leaf) => leaf.name).sort()).toEqual([name, 'server'].sort())
    expect(leaves.every(({ changed }) => changed)).toBe(true)
  })

  it.each(['..', '.', '', '../x', 'a/b', '/etc', '.hidden', 'ca', 'a\nb', 'a\x7fb', 'a\\b'])(
    'of a leaf is one directory below DIR, never a way out of it: %j',
    async (name) => {
      const cwd = join(scratch, `leaf-${++copies}`)
      mkdirSync(cwd)
      expectRefusal(await certgen([`--name=${name}`], { cwd }), 2, /one directory below DIR/)
      expect(readdirSync(cwd)).toEqual([])
    },
  )

  it("of something beside the targets is nobody's business: files, and links that lead to no directory", async () => {
    const cwd = copy()
    writeFileSync(join(cwd, 'certs/README'), '')
    for (const [link, to] of [
      ['current.pem', 'server/tls.pem'],
      ['gone', 'nowhere'],
      ['loop', 'loop'],
      ['device', '/dev/null'],
    ]) {
      output('ln', '-s', to!, join(cwd, 'certs', link!))
    }
    output('mkfifo', join(cwd, 'certs/pipe'))
    const { leaves } = await rotateJson(['--overwrite'], { cwd })
    expect(leaves.map(({ name }) => name)).toEqual(['other', 'server'])
  })
})

describe.skipIf(cannotMount())('a file system', () => {
  afterEach(unmount)

  function readOnly(directory: string): void {
    mount('--bind', directory, directory)
    output('mount', '-o', 'remount,bind,ro', directory)
  }

  it('that is read-only is read: nothing to do is nothing to do, and what is there is valid (I5)', async () => {
    const cwd = copy()
    readOnly(cwd)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
    expect((await certgen(['validate', 'certs/server'], { cwd })).code).toBe(0)
    expect((await certgen(['--overwrite', '--dry-run'], { cwd })).code).toBe(0)
  })

  it('that is read-only refuses every kind of write, and says what to do', async () => {
    const cwd = copy()
    readOnly(cwd)
    const before = fingerprintTree(cwd)
    const bundle = ['bundle', 'certs/ca/ca.crt', '--out']
    for (const args of [
      ['--overwrite'],
      ['--dir', 'new'],
      ['rollback'],
      install,
      ['install', ...set, '--target', 'new'],
    ]) {
      expectRefusal(await certgen(args, { cwd }), 5, /mounted read-only/)
    }
    expectRefusal(await certgen([...bundle, 'bundle.crt'], { cwd }), 5, /can be written/)
    expect(fingerprintTree(cwd)).toEqual(before)
  })

  it.each([
    ['certs/server/tls.key', 'of another file system'],
    ['certs/server/tls.crt', 'of the same'],
    ['certs/ca/ca.key', 'of another file system'],
  ])(
    'of which a single file is a mount of its own reads as it did, and the directory is to be mounted: %s, %s',
    async (path, from) => {
      const cwd = copy()
      const directory = join(cwd, path, '..')
      makePlain(directory)
      const outside = join(cwd, 'outside')
      mkdirSync(outside)
      if (from === 'of another file system') mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', outside)
      writeFileSync(join(outside, 'file'), readFileSync(join(cwd, path)), { mode: 0o600 })
      mount('--bind', join(outside, 'file'), join(cwd, path))
      const before = fingerprintTree(join(cwd, 'certs'))
      const read = (name: string): string => readFileSync(join(directory, name), 'latin1')
      const names = readdirSync(directory)
      const contents = names.map(read)
      for (const args of [['--overwrite'], ...(path.includes('server') ? [install] : [])]) {
        expectRefusal(await certgen(args, { cwd }), 5, /mount the directory/)
        expect(names.map(read)).toEqual(contents)
      }
      if (from === 'of another file system') {
        // Found out before anything was written anywhere; the locks came and went.
        const after = fingerprintTree(join(cwd, 'certs'))
        expect({ ...after, ca: '', server: '' }).toEqual({ ...before, ca: '', server: '' })
      }
      expect((await certgen(['validate', 'certs/server'], { cwd })).code).toBe(0)
      unmount()
      await rotateJson(['--overwrite'], { cwd })
      expect((await certgen(['validate', 'certs/server'], { cwd })).code).toBe(0)
    },
  )

  /** As whoever mounts single files has it: the links of one that certgen wrote cannot be mounted over. */
  function makePlain(directory: string): void {
    const script = 'cp -rL "$1" "$1.plain" && rm -r "$1.plain"/..[0-9]* "$1.plain/..data" "$1" && mv "$1.plain" "$1"'
    output('sh', '-c', script, 'sh', directory)
  }
})
