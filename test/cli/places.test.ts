import { copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { AskedLeaf } from '../../src/rotation/request.ts'
import { rotateAll } from '../../src/rotation/rotate.ts'
import { directoryTarget, targetAt } from '../../src/store/target-store.ts'
import { failure } from '../failure.ts'
import { cannotMount, mount, unmount } from '../faults/mounts.ts'
import { certgen, fingerprintTree, output, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { requestFor } from '../rotation/fleet.ts'

const scratch = temporaryDirectory()
const folder = (): Promise<string> => mkdtemp(join(scratch, 'folder-'))

/** The names that a reader of a target finds in its leaf. */
function namesIn(target: string): string {
  return output('openssl', 'x509', '-in', join(target, 'tls.crt'), '-noout', '-ext', 'subjectAltName')
}

function linesOf({ stderr }: Outcome): string[] {
  return stderr.trimEnd().split('\n')
}

function configure(cwd: string, ...lines: readonly string[]): void {
  writeFileSync(join(cwd, 'certgen.yaml'), `${lines.join('\n')}\n`)
}

// Acceptance 4 of issue 12.
describe('two names of one directory', () => {
  afterEach(unmount)

  const first = ['certificates:', '  - { name: a, dns: a.test, target: ./x }']

  /** Neither the check nor any run that writes takes the second name, and what is served stays. */
  async function expectRefusal(cwd: string, ...messages: readonly string[]): Promise<void> {
    const check = await certgen(['config', 'check'], { cwd })
    expect(check).toMatchObject({ code: 2, stdout: '' })
    expect(linesOf(check).filter((line) => line.startsWith('certgen: error: '))).toEqual(
      messages.map((message) => `certgen: error: certgen.yaml:${message}`),
    )
    const before = fingerprintTree(cwd)
    for (const args of [[], ['--overwrite']]) {
      const run = await certgen(args, { cwd })
      expect(run).toMatchObject({ code: 2, stdout: '' })
      expect(linesOf(run)[0]).toBe(`certgen: error: certgen.yaml:${messages[0] ?? ''}`)
    }
    expect(fingerprintTree(cwd)).toEqual(before)
  }

  it('are a mistake where one is a link to the other', async () => {
    const cwd = await folder()
    configure(cwd, ...first)
    await rotateJson([], { cwd })
    symlinkSync('x', join(cwd, 'y'))
    configure(cwd, ...first, '  - { name: b, dns: b.test, target: ./y }')
    await expectRefusal(cwd, '3:37: the target y of b is the same directory as the target x of a (line 2)')
    expect(namesIn(join(cwd, 'x'))).toContain('DNS:a.test')
    const { stderr } = await certgen(['--renew'], { cwd })
    expect(stderr).toContain('certgen: hint: a link or a mount gives it both names; give each a directory of its own\n')
    for (const args of [['--overwrite', '--dry-run'], ['ca', '--overwrite'], ['leaf', 'b'], ['rollback']]) {
      expect(await certgen(args, { cwd })).toMatchObject({ code: 2, stdout: '' })
    }
    const json = await certgen(['config', 'check', '--json'], { cwd })
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: false,
      mistakes: [{ message: expect.stringContaining('the same directory') as string }],
    })
  })

  it('are a mistake where the path to one goes through a link and back, or says more than it has to', async () => {
    const cwd = await folder()
    mkdirSync(join(cwd, 'x/in'), { recursive: true })
    configure(cwd, ...first, `  - { name: b, dns: b.test, target: ${cwd}/x/in/..//. }`)
    await expectRefusal(cwd, `3:37: the target ${cwd}/x of b is the same directory as the target x of a (line 2)`)
  })

  it('are a mistake between authorities, and whatever order the file has them in', async () => {
    const cwd = await folder()
    mkdirSync(join(cwd, 'certs'))
    symlinkSync('one', join(cwd, 'certs/two'))
    const certificates = [
      'certificates:',
      '  - { name: a, authority: one, target: x }',
      '  - { name: b, authority: two }',
    ]
    configure(cwd, ...certificates, 'authorities: [{ name: one }, { name: two }]')
    await expectRefusal(
      cwd,
      '4:30: the directory certs/two of the authority two is the same directory as the directory certs/one of the authority one (line 4)',
    )
  })

  it('are a mistake where a target is the authority, or lies in it, or has it in it', async () => {
    const cwd = await folder()
    mkdirSync(join(cwd, 'certs/ca/in'), { recursive: true })
    symlinkSync('certs/ca', join(cwd, 'x'))
    configure(cwd, ...first)
    await expectRefusal(cwd, '2:37: the target x of a is the same directory as the directory certs/ca of the authority')
    configure(cwd, 'certificates:', '  - { name: a, target: x/in }', '  - { name: b, target: certs }')
    await expectRefusal(
      cwd,
      '2:24: the target x/in of a lies inside the directory certs/ca of the authority',
      '3:24: the directory certs/ca of the authority lies inside the target certs of b',
    )
  })

  it('are none where a target lies below the root directory, beside the authority', async () => {
    const cwd = await folder()
    configure(cwd, 'certificates: [{ name: a }, { name: b, target: certs/c/d }, { name: c, target: certs/c/e }]')
    expect(await certgen(['config', 'check'], { cwd })).toMatchObject({ code: 0 })
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: true })
  })

  it('are a mistake where one target lies in another', async () => {
    const cwd = await folder()
    configure(cwd, ...first, '  - { name: b, dns: b.test, target: x/b }')
    await expectRefusal(cwd, '3:37: the target x/b of b lies inside the target x of a (line 2)')
    const { stderr } = await certgen([], { cwd })
    expect(stderr).toContain(
      'certgen: hint: a service that may read the outer one could read the inner one: put them side by side\n',
    )
  })

  it.skipIf(cannotMount())('are a mistake where one is a mount of the other', async () => {
    const cwd = await folder()
    configure(cwd, ...first)
    await rotateJson([], { cwd })
    mkdirSync(join(cwd, 'y'))
    mount('--bind', join(cwd, 'x'), join(cwd, 'y'))
    configure(cwd, ...first, '  - { name: b, dns: b.test, target: ./y }')
    await expectRefusal(cwd, '3:37: the target y of b is the same directory as the target x of a (line 2)')
    expect(namesIn(join(cwd, 'x'))).toContain('DNS:a.test')
  })
})

describe('one object of a cluster for two things', () => {
  const check = async (...lines: readonly string[]): Promise<string[]> => {
    const cwd = await folder()
    configure(cwd, ...lines)
    return linesOf(await certgen(['config', 'check'], { cwd })).filter((line) => !line.startsWith('certgen: hint: '))
  }

  it('is a mistake', async () => {
    expect(
      await check(
        'authorities: [{ name: one, secret: tls/ca, caBundle: configmap/tls/roots }, { name: two, secret: tls/two, caBundle: configmap/tls/roots }]',
        'certificates:',
        '  - { name: a, authority: one, secret: tls/a }',
        '  - { name: b, authority: two, secret: tls/a }',
        '  - { name: c, authority: two, secret: tls/ca }',
        'random:',
        '  - { name: r, key: hmac, secret: tls/two }',
        '  - { name: s, key: tls.key, secret: tls/a }',
      ),
    ).toEqual([
      'certgen: error: certgen.yaml:1:117: the caBundle configmap/tls/roots of the authority two is the same as the caBundle configmap/tls/roots of the authority one (line 1)',
      'certgen: error: certgen.yaml:4:40: the Secret tls/a of b is the same as the Secret tls/a of a (line 3)',
      'certgen: error: certgen.yaml:5:40: the Secret tls/ca of c is the same as the Secret tls/ca of the authority one (line 1)',
      'certgen: error: certgen.yaml:7:35: hmac of the random secret r lies inside the Secret tls/two of the authority two (line 1)',
      'certgen: error: certgen.yaml:8:38: tls.key of the random secret s lies inside the Secret tls/a of a (line 3)',
    ])
  })

  it('is none where a random secret has a key of its own beside a leaf', async () => {
    const cwd = await folder()
    configure(
      cwd,
      'certificates: [{ name: a, secret: tls/a }]',
      'random: [{ name: r, key: hmac, secret: tls/a }, { name: s, key: salt, secret: tls/a }]',
    )
    expect(await certgen(['config', 'check'], { cwd })).toMatchObject({ code: 0 })
  })
})

describe('a place that flags or links name a second time', () => {
  it('is refused to a leaf whose directory is a link to another target, or to the authority', async () => {
    const cwd = await folder()
    await rotateJson(['--name', 'a', '--dns', 'a.test'], { cwd })
    symlinkSync('a', join(cwd, 'certs/b'))
    symlinkSync('ca', join(cwd, 'certs/c'))
    const before = fingerprintTree(cwd)
    for (const args of [
      ['leaf', 'b'],
      ['--name', 'b', '--dns', 'b.test'],
      ['leaf', 'b', '--overwrite'],
    ]) {
      const run = await certgen(args, { cwd })
      expect(run).toMatchObject({ code: 2, stdout: '' })
      expect(linesOf(run)).toEqual([
        'certgen: error: the target certs/b is the same directory as the target certs/a',
        'certgen: hint: a link or a mount gives it both names; give each a directory of its own',
      ])
    }
    const authority = await certgen(['leaf', 'c', '--overwrite'], { cwd })
    expect(authority.code).toBe(2)
    expect(authority.stderr).toContain('the target certs/c is the same directory as the authority certs/ca')
    expect(fingerprintTree(cwd)).toEqual(before)
    // To nobody else is a link in the way: it is only another name.
    expect((await rotateJson(['--overwrite'], { cwd })).leaves.map(({ name }) => name)).toEqual(['a'])
    expect(namesIn(join(cwd, 'certs/b'))).toContain('DNS:a.test')
  })

  it.skipIf(cannotMount())('is found once where it is a mount of one beside it', async () => {
    const cwd = await folder()
    await rotateJson(['--name', 'a', '--dns', 'a.test'], { cwd })
    mkdirSync(join(cwd, 'certs/b'))
    mount('--bind', join(cwd, 'certs/a'), join(cwd, 'certs/b'))
    expect((await rotateJson(['--overwrite'], { cwd })).leaves.map(({ name }) => name)).toEqual(['a'])
    unmount()
  })

  it('is adopted once, and never where the authority is to be', async () => {
    const cwd = await folder()
    await rotateJson(['--dir', 'made', '--name', 'x', '--dns', 'x.test'], { cwd })
    mkdirSync(join(cwd, 'x'))
    for (const name of ['tls.crt', 'tls.key', 'ca.crt']) copyFileSync(join(cwd, 'made/x', name), join(cwd, 'x', name))
    symlinkSync('x', join(cwd, 'y'))
    mkdirSync(join(cwd, 'certs'))
    symlinkSync('../x', join(cwd, 'certs/ca'))
    const before = fingerprintTree(cwd)
    const adopt = ['adopt', '--ca', 'made/ca/ca.crt', '--ca-key', 'made/ca/ca.key']
    const twice = await certgen([...adopt, '--dir', 'other', '--target', 'x', '--target', 'y'], { cwd })
    expect(twice.code).toBe(2)
    expect(twice.stderr).toContain('certgen: error: the target y is the same directory as the target x\n')
    const authority = await certgen([...adopt, '--target', 'x'], { cwd })
    expect(authority.code).toBe(2)
    expect(authority.stderr).toContain('error: the target x is the same directory as the authority certs/ca\n')
    expect(fingerprintTree(cwd)).toEqual(before)
  })

  it('is refused where the link is made while a run is at work, and neither is touched', async () => {
    const dir = await folder()
    const target = (name: string): AskedLeaf => {
      return { name, store: directoryTarget(targetAt(join(dir, name))), explicit: true }
    }
    const request = requestFor(dir, { leaves: [target('a'), target('b')] })
    const now = (): Date => new Date()
    const step = (name: string): void => {
      if (name === 'preflight' && !existsSync(join(dir, 'b'))) symlinkSync('a', join(dir, 'b'))
    }
    const error = await failure(rotateAll([request], now, { step }))
    expect(error).toMatchObject({ code: 'usage' })
    expect(error.message).toContain('is the same directory as the target')
    expect(Object.keys(fingerprintTree(dir))).toEqual(['.', 'b'])
  })
})

// Whose a directory is, another configuration cannot know: it is told by what the directory holds.
describe('a directory of another certgen.yaml', () => {
  it('is not taken for a target where it is an authority, nor for an authority where it is a target', async () => {
    const cwd = await folder()
    await rotateJson(['--dir', 'theirs', '--dns', 'a.test'], { cwd })
    const before = fingerprintTree(join(cwd, 'theirs'))
    await rotateJson(['ca'], { cwd })
    configure(cwd, 'certificates: [{ name: a, dns: b.test, target: theirs/ca }, { name: c }]')
    for (const args of [['--overwrite'], ['--renew']]) {
      const run = await certgen(args, { cwd })
      expect(run.code).not.toBe(0)
      expect(fingerprintTree(join(cwd, 'theirs'))).toEqual(before)
    }
    configure(cwd, 'authority: { dir: ../theirs/server }', 'certificates: [{ name: a, dns: b.test }]')
    for (const args of [[], ['--overwrite', '--strategy', 'staged']]) {
      const run = await certgen(args, { cwd })
      expect(run.code).toBe(2)
      expect(run.stderr).toContain('theirs/server is a target, and not the directory of an authority\n')
    }
    const [cert, key, ca] = ['server/tls.crt', 'server/tls.key', 'ca/ca.crt'].map((name) => `theirs/${name}`)
    const install = ['install', '--cert', cert!, '--key', key!, '--ca', ca!, '--target', 'theirs/ca']
    const run = await certgen(install, { cwd })
    expect(run.code).toBe(2)
    expect(run.stderr).toContain('error: theirs/ca is the directory of an authority, and was left as it is\n')
    expect(fingerprintTree(join(cwd, 'theirs'))).toEqual(before)
  })

  it('keeps what the authority of that one has issued, whatever is asked for here', async () => {
    const cwd = await folder()
    mkdirSync(join(cwd, 'one'))
    mkdirSync(join(cwd, 'two'))
    configure(join(cwd, 'one'), 'certificates: [{ name: a, dns: a.test, target: ../shared }]')
    const second = 'certificates: [{ name: b, dns: b.test, target: ../shared }]'
    await rotateJson([], { cwd: join(cwd, 'one') })
    const before = fingerprintTree(join(cwd, 'shared'))
    configure(join(cwd, 'two'), second)
    const first = await certgen([], { cwd: join(cwd, 'two') })
    expect(first.code).toBe(3)
    expect(first.stderr).toContain(
      'where another certgen.yaml has it for a target, give this one a directory of its own',
    )
    rmSync(join(cwd, 'two/certgen.yaml'))
    await rotateJson(['ca'], { cwd: join(cwd, 'two') })
    configure(join(cwd, 'two'), second)
    const kept = await rotateJson([], { cwd: join(cwd, 'two') })
    expect(kept.warnings.map(({ code }) => code)).toEqual(['foreign-target', 'drift'])
    for (const args of [['--renew'], ['--overwrite', '--settle', '1s']]) {
      const run = await certgen(args, { cwd: join(cwd, 'two') })
      expect(run.code).toBe(4)
      expect(run.stderr).toContain('../shared holds a leaf of another authority: where that is still at work')
    }
    expect(fingerprintTree(join(cwd, 'shared'))).toEqual(before)
    expect(await rotateJson(['--renew'], { cwd: join(cwd, 'one') })).toMatchObject({ changed: false, warnings: [] })
  })
})
