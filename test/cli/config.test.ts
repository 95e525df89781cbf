import { readFileSync, statSync, writeFileSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { certgen, fingerprintTree, rotateJson, temporaryDirectory } from '../program.ts'

const scratch = temporaryDirectory()
const folder = (): Promise<string> => mkdtemp(join(scratch, 'folder-'))

async function writeConfig(source: string): Promise<string> {
  const cwd = await folder()
  writeFileSync(join(cwd, 'certgen.yaml'), source)
  return cwd
}

describe('a configuration with a mistake', () => {
  const mistakes = readFileSync(resolve('test/rotation/fixtures/mistakes.txt'), 'utf8')
    .split(/^=== /m)
    .slice(1)
    .map((section) => {
      const [name = '', message = '', hint = '', ...lines] = section.split('\n')
      return {
        name,
        message: message.replace('>>> ', ''),
        hint: hint.replace('>>> hint: ', ''),
        source: lines.join('\n'),
      }
    })

  it('is one of fifty and more', () => {
    expect(mistakes.length).toBeGreaterThanOrEqual(50)
  })

  it.concurrent.each(mistakes)('is refused for $name', async ({ message, hint, source }) => {
    const cwd = await writeConfig(source)
    const { code, stdout, stderr } = await certgen(['--renew'], { cwd, env: { EMPTY: '' } })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr.split('\n').slice(0, 2)).toEqual([
      `certgen: error: certgen.yaml:${message}`,
      `certgen: hint: ${hint}`,
    ])
    expect(stderr).not.toMatch(/^\s+at /m)
    expect(Object.keys(fingerprintTree(cwd))).toEqual(['.', 'certgen.yaml'])
  })
})

describe('certgen config check', () => {
  it('names every mistake, in the order of the file', async () => {
    const cwd = await writeConfig('certificates:\n  - name: a\n    dns: ["a b"]\n    validity: 5x\n')
    const { code, stderr } = await certgen(['config', 'check'], { cwd })
    expect(code).toBe(2)
    expect(stderr.match(/^certgen: error: .*/gm)).toEqual([
      'certgen: error: certgen.yaml:3:11: "a b" is not a DNS name',
      'certgen: error: certgen.yaml:4:15: "5x" is not a duration',
    ])
    const json = await certgen(['config', 'check', '--json'], { cwd })
    expect(JSON.parse(json.stdout)).toMatchObject({
      schema: 1,
      command: 'config check',
      ok: false,
      mistakes: [{ message: 'certgen.yaml:3:11: "a b" is not a DNS name' }, {}],
    })
    const run = await certgen([], { cwd })
    expect(run.stderr).toContain('certgen: hint: 1 more mistake: see certgen config check')
  })

  it('says what is there, and warns of what this machine lacks', async () => {
    const cwd = await writeConfig('certificates:\n  - { name: a, owner: nobody-of-that-name }\n')
    const { code, stdout, stderr } = await certgen(['config', 'check'], { cwd })
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'certgen.yaml has no mistakes: 1 authority, 1 certificate\n',
    })
    expect(stderr).toBe('certgen: warning: certgen.yaml:2:23: there is no user nobody-of-that-name on this machine\n')
    const run = await certgen([], { cwd })
    expect(run).toMatchObject({ code: 2, stdout: '' })
    expect((await certgen(['config', 'check', '--config', 'absent.yaml'], { cwd })).code).toBe(2)
  })
})

describe('certgen config schema', () => {
  it('is a JSON Schema that takes what certgen takes, and refuses a mistyped key', async () => {
    const { stdout } = await certgen(['config', 'schema'])
    const validate = new Ajv({ strict: false }).compile(JSON.parse(stdout) as object)
    const good = 'authority: { key: ed25519 }\ncertificates:\n  - { name: a, dns: a.test, usages: [server] }\n'
    expect(validate(parse(good))).toBe(true)
    expect(validate(parse('certifcates: []'))).toBe(false)
    expect(validate(parse('authority: { key: rsa-1024 }'))).toBe(false)
  })
})

describe('certgen config init', () => {
  it('writes what is on disk, so that a run with it has nothing to do and a drift is found', async () => {
    const cwd = await folder()
    await rotateJson(['--name', 'web', '--dns', 'web.test', '--uri', 'spiffe://acme/web'], { cwd })
    await rotateJson(['leaf', 'api', '--dns', 'api.test'], { cwd })
    await rotateJson(
      ['leaf', 'db', '--dns', 'db.test', '--key', 'rsa-2048', '--usage', 'server', '--validity', '30d'],
      {
        cwd,
      },
    )
    const { code, stdout } = await certgen(['config', 'init'], { cwd })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'wrote certgen.yaml: api, db, web\n' })
    const text = readFileSync(join(cwd, 'certgen.yaml'), 'utf8')
    expect(parse(text)).toMatchObject({
      dir: './certs',
      authority: { dir: 'ca', subject: 'certgen CA', key: 'ecdsa-p256', validity: '5y' },
      certificates: [
        { name: 'api', dns: ['api.test'] },
        { name: 'db', dns: ['db.test'], key: 'rsa-2048', usages: ['server'], validity: '30d' },
        { name: 'web', dns: ['web.test'], uri: ['spiffe://acme/web'] },
      ],
    })
    const before = fingerprintTree(join(cwd, 'certs'))
    expect(await rotateJson(['--renew'], { cwd })).toMatchObject({ changed: false })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
    writeFileSync(join(cwd, 'certgen.yaml'), text.replace('web.test', 'www.test'))
    expect((await rotateJson(['--renew'], { cwd })).leaves.map(({ name, reason }) => `${name} ${reason}`)).toEqual([
      'api kept',
      'db kept',
      'web drift',
    ])
  })

  it('leaves a file that is there alone, and prints on demand', async () => {
    const cwd = await writeConfig('dir: ./elsewhere\n')
    const { code, stderr } = await certgen(['config', 'init'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('certgen.yaml is there already')
    expect(readFileSync(join(cwd, 'certgen.yaml'), 'utf8')).toBe('dir: ./elsewhere\n')
    expect(parse((await certgen(['config', 'init', '--out', '-'], { cwd })).stdout)).toMatchObject({ certificates: [] })
  })
})

// Acceptance 1 of issue 5.
describe('a configuration of 3 authorities and 12 certificates', () => {
  const root = process.geteuid?.() === 0
  const names = Array.from({ length: 12 }, (_, index) => `service-${index + 1}`)

  function source(webName: string): string {
    const certificates = names.map((name, index) => {
      const authority = ['internal', 'mesh', 'edge'][index % 3]!
      const target = index === 3 ? `\n    target: elsewhere/${name}` : ''
      const access = index % 2 === 0 ? '\n    mode: "0640"' : ''
      const owner = root && index === 0 ? '\n    owner: nobody\n    group: nogroup' : ''
      const own = index < 6 ? `\n    exec: echo ${name} >> hooks.log` : '\n    exec: echo shared >> hooks.log'
      const dns = index === 1 ? webName : `${name}.test`
      return `  - name: ${name}\n    authority: ${authority}\n    dns: ${dns}${target}${access}${owner}${own}\n`
    })
    return [
      'authorities:',
      '  - { name: internal, subject: Internal, key: ecdsa-p384 }',
      '  - { name: mesh, validity: 2y }',
      '  - { name: edge, dir: edge-ca, key: rsa-2048 }',
      'defaults: { validity: 30d, renewBefore: 10d }',
      'certificates:',
      ...certificates,
    ].join('\n')
  }

  it('is made by one run, left alone by the next, and a changed name reissues one leaf and runs one hook', async () => {
    const cwd = await writeConfig(source('web.test'))
    const hooks = (): string[] => readFileSync(join(cwd, 'hooks.log'), 'utf8').trim().split('\n')
    const first = await rotateJson([], { cwd })
    expect(first.leaves.map(({ name, reason }) => `${name} ${reason}`).sort()).toEqual(
      names.map((name) => `${name} missing`).sort(),
    )
    expect(first.authorities?.map(({ name, path }) => [name, path])).toEqual([
      ['internal', 'certs/internal'],
      ['mesh', 'certs/mesh'],
      ['edge', 'certs/edge-ca'],
    ])
    expect(hooks().sort()).toEqual([...names.slice(0, 6), 'shared'].sort())
    expect(first.actions).toHaveLength(7)
    const key = (name: string): Stats => statSync(join(cwd, 'certs', name, 'tls.key'))
    expect((key('service-1').mode & 0o777).toString(8)).toBe('640')
    expect((key('service-2').mode & 0o777).toString(8)).toBe('600')
    const owner = root ? 65_534 : userInfo().uid
    expect(key('service-1').uid).toBe(owner)
    expect(statSync(join(cwd, 'elsewhere/service-4/tls.crt')).isFile()).toBe(true)

    const before = fingerprintTree(cwd)
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false, actions: [] })
    expect(await rotateJson(['--renew'], { cwd })).toMatchObject({ changed: false, actions: [] })
    expect(fingerprintTree(cwd)).toEqual(before)

    writeFileSync(join(cwd, 'certgen.yaml'), source('www.test'))
    const drifted = await rotateJson(['--renew'], { cwd })
    expect(drifted.leaves.filter(({ changed }) => changed).map(({ name, reason }) => [name, reason])).toEqual([
      ['service-2', 'drift'],
    ])
    expect(drifted.actions).toMatchObject([{ kind: 'exec', subject: 'echo service-2 >> hooks.log', ok: true }])
    expect(hooks()).toHaveLength(8)
  })

  it('rotates all authorities at once, and says so on one screen', async () => {
    const cwd = await writeConfig(source('web.test'))
    await rotateJson([], { cwd })
    const report = await rotateJson(['--overwrite', '--settle', '1s'], { cwd })
    expect(report.authorities?.every(({ changed, crossSigned }) => changed && crossSigned)).toBe(true)
    expect(report.preflight.every(({ ok }) => ok)).toBe(true)
    expect(new Set(report.leaves.map(({ authority }) => authority))).toEqual(new Set(['internal', 'mesh', 'edge']))
    const { stdout } = await certgen(['--overwrite', '--settle', '1s'], { cwd })
    expect(stdout).toContain('wrote 3 new authorities and 12 leaves')
    expect(stdout.split('\n').length).toBeLessThanOrEqual(24)
    expect(stdout.split('\n').every((line) => line.length <= 80)).toBe(true)
  })

  it('writes nothing at all where one of them is refused', async () => {
    const cwd = await writeConfig(source('web.test'))
    await rotateJson([], { cwd })
    // The lock comes and goes in the authorities' directories; every file and link stays what it was.
    const files = (): [string, string][] =>
      Object.entries(fingerprintTree(join(cwd, 'certs'))).filter(([, shown]) => !shown.includes(' 40'))
    const before = files()
    expect((await certgen(['--overwrite', '--strategy', 'replace'], { cwd })).code).toBe(4)
    expect(files()).toEqual(before)
  })
})

describe('what has to follow a change', () => {
  it('is tried again by the next run where it failed, and by no other', async () => {
    const cwd = await writeConfig(
      'certificates:\n  - { name: a, dns: a.test, exec: test -e flag && echo a >> log }\n  - { name: b, dns: b.test, exec: [sh, -c, echo b >> log] }\n',
    )
    const first = await certgen(['--json'], { cwd })
    expect(first.code).toBe(7)
    expect(JSON.parse(first.stdout)).toMatchObject({
      changed: true,
      actions: [
        { ok: false, detail: 'it exited with 1' },
        { kind: 'exec', subject: "sh -c 'echo b >> log'", ok: true },
      ],
    })
    const second = await certgen(['--json', '--renew'], { cwd })
    expect(second.code).toBe(7)
    expect(JSON.parse(second.stdout)).toMatchObject({ changed: false, actions: [{ ok: false }] })
    writeFileSync(join(cwd, 'flag'), '')
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false, actions: [{ ok: true }] })
    const before = fingerprintTree(join(cwd, 'certs'))
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false, actions: [] })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
    expect(readFileSync(join(cwd, 'log'), 'utf8')).toBe('b\na\n')
  })

  it('asked for by a flag is tried again when the flag is given again, and not forgotten meanwhile', async () => {
    const cwd = await folder()
    const flags = ['--exec', 'test -e flag && echo done >> log']
    expect((await certgen(flags, { cwd })).code).toBe(7)
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false, actions: [] })
    writeFileSync(join(cwd, 'flag'), '')
    expect(await rotateJson(flags, { cwd })).toMatchObject({ changed: false, actions: [{ ok: true }] })
    expect(await rotateJson(flags, { cwd })).toMatchObject({ actions: [] })
    expect(readFileSync(join(cwd, 'log'), 'utf8')).toBe('done\n')
  })

  it('follows a rollback too', async () => {
    const cwd = await writeConfig('certificates:\n  - { name: a, dns: a.test, exec: echo a >> log }\n')
    await rotateJson([], { cwd })
    await rotateJson(['--overwrite'], { cwd })
    expect((await certgen(['rollback'], { cwd })).code).toBe(0)
    expect(readFileSync(join(cwd, 'log'), 'utf8')).toBe('a\na\na\n')
  })
})

describe('files that a configuration names', () => {
  it('have those names, and what is left out is not shown but known again', async () => {
    const cwd = await writeConfig(
      'certificates:\n  - name: haproxy\n    dns: haproxy.test\n    files: { ca: roots.pem, cert: null, key: null, combined: site.pem }\n',
    )
    await rotateJson([], { cwd })
    const visible = Object.keys(fingerprintTree(join(cwd, 'certs/haproxy'))).filter((name) => !name.startsWith('..'))
    expect(visible).toEqual(['.', 'roots.pem', 'site.pem'])
    expect(readFileSync(join(cwd, 'certs/haproxy/site.pem'), 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY[^]*BEGIN CERT/)
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false })
    expect(await rotateJson(['--overwrite'], { cwd })).toMatchObject({
      changed: true,
      authority: { crossSigned: true },
    })
  })

  it('get a changed mode with --renew, and the leaf stays', async () => {
    const cwd = await writeConfig('certificates:\n  - { name: a, dns: a.test }\n')
    const [leaf] = (await rotateJson([], { cwd })).leaves
    writeFileSync(join(cwd, 'certgen.yaml'), 'certificates:\n  - { name: a, dns: a.test, mode: "0640" }\n')
    const report = await rotateJson(['--renew'], { cwd })
    expect(report.leaves).toMatchObject([{ reason: 'drift', changed: true, sha256: leaf!.sha256 }])
    expect((statSync(join(cwd, 'certs/a/tls.key')).mode & 0o777).toString(8)).toBe('640')
    expect(await rotateJson(['--renew'], { cwd })).toMatchObject({ changed: false })
  })
})

describe('flags beside a configuration', () => {
  it('win over it, for the certificate that they name', async () => {
    const cwd = await writeConfig(
      'dir: ./a\ncertificates:\n  - { name: web, dns: web.test }\n  - { name: db, dns: db.test }\n',
    )
    await rotateJson(['--name', 'web', '--dns', 'flag.test', '--dir', 'b'], { cwd })
    const report = await rotateJson(['--dir', 'b'], { cwd })
    expect(report.leaves.map(({ target, names: shown }) => [target, ...shown])).toEqual([
      ['b/db', 'DNS:db.test'],
      ['b/web', 'DNS:flag.test'],
    ])
    const nobody = await certgen(['--dns', 'x.test'], { cwd })
    expect(nobody.code).toBe(2)
    expect(nobody.stderr).toContain('say which with --name NAME')
  })

  it('make one leaf of it with certgen leaf', async () => {
    const cwd = await writeConfig('certificates:\n  - { name: web, dns: web.test }\n  - { name: db, dns: db.test }\n')
    expect((await certgen(['ca'], { cwd })).code).toBe(0)
    expect((await rotateJson(['leaf', 'db'], { cwd })).leaves.map(({ name }) => name)).toEqual(['db'])
  })
})

describe('the passphrase of an authority', () => {
  it('is read from where the configuration says, and a variable that is not set is a mistake with its place', async () => {
    const cwd = await writeConfig('authority:\n  passphrase: { env: MY_PASSPHRASE }\ncertificates:\n  - name: a\n')
    const env = { MY_PASSPHRASE: 'correct horse' }
    await rotateJson([], { cwd, env })
    expect(readFileSync(join(cwd, 'certs/ca/ca.key'), 'utf8')).toContain('BEGIN ENCRYPTED PRIVATE KEY')
    expect(await rotateJson(['--overwrite'], { cwd, env })).toMatchObject({ authority: { crossSigned: true } })
    const without = await certgen([], { cwd })
    expect(without.code).toBe(2)
    expect(without.stderr).toContain('certgen.yaml:2:22: the variable MY_PASSPHRASE')
  })

  it('is in the environment of no hook, wherever it came from (I3)', async () => {
    const cwd = await writeConfig(
      'authority:\n  passphrase: { env: MY_PASSPHRASE }\ncertificates:\n' +
        '  - name: a\n    pkcs12: { passphrase: { env: MY_OTHER } }\n    exec: env > seen\n',
    )
    const env = { MY_PASSPHRASE: 'correct horse', MY_OTHER: 'battery staple', CERTGEN_CA_PASSPHRASE: 'tr0ub4dor' }
    await rotateJson([], { cwd, env: { ...env, INNOCENT: 'yes' } })
    const seen = readFileSync(join(cwd, 'seen'), 'utf8')
    expect(seen).toContain('INNOCENT=yes')
    for (const [name, value] of Object.entries(env)) {
      expect(seen).not.toContain(name)
      expect(seen).not.toContain(value)
    }
  })
})
