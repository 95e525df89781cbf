import { X509Certificate, createPrivateKey } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8)

function verifies(target: string): boolean {
  const [ca, cert] = [join(target, 'ca.crt'), join(target, 'tls.crt')]
  return output('openssl', 'verify', '-x509_strict', '-CAfile', ca, cert).includes(': OK')
}

describe.skipIf(missing('openssl'))('certgen --overwrite in an empty folder', () => {
  const cwd = temporaryDirectory()

  it('makes an authority and a target in the shape of the design, which OpenSSL verifies', async () => {
    const { code, stdout, stderr } = await certgen(['--overwrite', '--dir', './certs'], { cwd })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('wrote a new authority and 1 leaf')
    const [ca, server] = [join(cwd, 'certs/ca'), join(cwd, 'certs/server')]
    expect([
      mode(ca),
      mode(join(ca, 'ca.key').replace('ca.key', `${readlinkSync(join(ca, '..data'))}/ca.key`)),
    ]).toEqual(['700', '600'])
    for (const name of ['ca.crt', 'tls.crt', 'tls.key', 'tls.pem']) {
      expect(readlinkSync(join(server, name))).toBe(`..data/${name}`)
    }
    const generation = join(server, readlinkSync(join(server, '..data')))
    expect([
      mode(join(generation, 'tls.key')),
      mode(join(generation, 'tls.pem')),
      mode(join(generation, 'tls.crt')),
    ]).toEqual(['600', '600', '644'])
    expect(verifies(server)).toBe(true)
    const leaf = new X509Certificate(readFileSync(join(server, 'tls.crt')))
    expect(leaf.checkPrivateKey(createPrivateKey(readFileSync(join(server, 'tls.key'))))).toBe(true)
    expect(leaf.subjectAltName).toBe('DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1')
    const combined = readFileSync(join(server, 'tls.pem'), 'utf8')
    expect(combined).toBe(readFileSync(join(server, 'tls.key'), 'utf8') + readFileSync(join(server, 'tls.crt'), 'utf8'))
  })

  it('carries over exactly the previous root, each time (I6)', async () => {
    const bundle = join(cwd, 'certs/server/ca.crt')
    for (let run = 0; run < 2; run++) {
      const before = pemBlocks(bundle)
      const report = await rotateJson(['--overwrite'], { cwd })
      const after = pemBlocks(bundle)
      expect(after).toHaveLength(2)
      expect(after[1]).toBe(before[0])
      expect(report).toMatchObject({
        changed: true,
        strategy: 'cross-sign',
        authority: { changed: true, crossSigned: true },
      })
      expect(report.leaves).toMatchObject([
        { name: 'server', target: 'certs/server', reason: 'overwrite', changed: true },
      ])
      expect(report.preflight).toHaveLength(4)
      expect(report.preflight.every(({ ok }) => ok)).toBe(true)
      expect(verifies(join(cwd, 'certs/server'))).toBe(true)
    }
  })

  it('keeps what exists without flags: same inodes, same times, exit 0 and changed false (I5)', async () => {
    const before = fingerprintTree(join(cwd, 'certs'))
    const report = await rotateJson([], { cwd })
    expect(report).toMatchObject({ changed: false, leaves: [{ reason: 'kept', changed: false }] })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
  })

  it('writes nothing with --dry-run, and says what it would', async () => {
    const before = fingerprintTree(join(cwd, 'certs'))
    const { stdout } = await certgen(['--overwrite', '--dry-run'], { cwd })
    expect(stdout).toContain('would write a new authority and 1 leaf; nothing was written')
    const report = await rotateJson(['--overwrite', '--dry-run'], { cwd })
    expect(report).toMatchObject({ dryRun: true, changed: false, leaves: [{ reason: 'overwrite' }] })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
  })

  it('keeps the authority with --keep-ca, and reissues the leaf', async () => {
    const before = readFileSync(join(cwd, 'certs/ca/ca.crt'), 'utf8')
    const report = await rotateJson(['--overwrite', '--keep-ca'], { cwd })
    expect(report).toMatchObject({ changed: true, authority: { changed: false }, leaves: [{ reason: 'overwrite' }] })
    expect(readFileSync(join(cwd, 'certs/ca/ca.crt'), 'utf8')).toBe(before)
    expect(verifies(join(cwd, 'certs/server'))).toBe(true)
  })

  it('repairs a missing link also when nothing else is to do', async () => {
    rmSync(join(cwd, 'certs/server/tls.crt'))
    expect((await rotateJson([], { cwd })).changed).toBe(true)
    expect(readlinkSync(join(cwd, 'certs/server/tls.crt'))).toBe('..data/tls.crt')
  })
})

describe.skipIf(missing('openssl', 'faketime'))('an authority that has expired', () => {
  it('is refused without --overwrite, and not carried over with it', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const later = { cwd, through: ['faketime', '+6 years'] }
    const refused = await certgen(['--renew'], later)
    expect(refused.code).toBe(3)
    expect(refused.stderr).toMatch(/the authority in certs\/ca expired on .*\n.*hint: .*certgen --overwrite/)
    const report = await rotateJson(['--overwrite'], later)
    expect(report.authority).toMatchObject({ changed: true, carriedOver: null, crossSigned: false })
    expect(pemBlocks(join(cwd, 'certs/server/ca.crt'))).toHaveLength(1)
  })
})

describe('a fleet', () => {
  it('is rotated as it was made: names, key types, usages and lifetimes are read back', async () => {
    const cwd = temporaryDirectory()
    await rotateJson(['ca'], { cwd })
    await rotateJson(
      ['leaf', 'envoy', '--dns', 'envoy', '--uri', 'spiffe://acme/envoy', '--key', 'rsa-2048', '--validity', '30d'],
      { cwd },
    )
    await rotateJson(['leaf', 'agent', '--dns', 'agent', '--usage', 'client', '--key', 'ed25519'], { cwd })
    const report = await rotateJson(['--overwrite'], { cwd })
    expect(report.leaves).toMatchObject([
      { name: 'agent', names: ['DNS:agent'], key: 'ed25519', reason: 'overwrite' },
      { name: 'envoy', names: ['DNS:envoy', 'URI:spiffe://acme/envoy'], key: 'rsa-2048', reason: 'overwrite' },
    ])
    const envoy = report.leaves[1]
    const life = Date.parse(envoy?.notAfter ?? '') - Date.parse(envoy?.notBefore ?? '')
    expect(life).toBe(30 * 86_400_000 + 300_000)
    const agent = new X509Certificate(readFileSync(join(cwd, 'certs/agent/tls.crt')))
    expect(agent.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2'])
  })

  it('leaves alone what another authority issued, and says so', async () => {
    const [cwd, other] = [temporaryDirectory(), temporaryDirectory()]
    await rotateJson(['--name', 'foreign'], { cwd: other })
    await rotateJson([], { cwd })
    const from = join(other, 'certs/foreign')
    const files = ['--cert', join(from, 'tls.crt'), '--key', join(from, 'tls.key'), '--ca', join(from, 'ca.crt')]
    expect((await certgen(['install', ...files, '--target', 'certs/foreign'], { cwd })).code).toBe(0)
    const before = fingerprintTree(join(cwd, 'certs/foreign'))
    const report = await rotateJson(['--overwrite'], { cwd })
    expect(report.leaves.map(({ name }) => name)).toEqual(['server'])
    expect(report.warnings.map(({ code }) => code)).toEqual(['foreign-target', 'not-settled'])
    expect(fingerprintTree(join(cwd, 'certs/foreign'))).toEqual(before)
  })

  it('stops before anything is written when a target cannot be read back', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const generation = join(cwd, 'certs/server', readlinkSync(join(cwd, 'certs/server/..data')))
    writeFileSync(join(generation, 'tls.crt'), 'no certificate\n')
    const before = fingerprintTree(join(cwd, 'certs'))
    for (const flags of [[], ['--overwrite'], ['--renew']]) {
      const { code, stdout } = await certgen([...flags, '--json'], { cwd })
      expect(code).toBe(3)
      expect(JSON.parse(stdout)).toMatchObject({
        error: { code: 'unusable', exitCode: 3, findings: [{ code: 'pem-empty' }] },
      })
    }
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
    const report = await rotateJson(['--overwrite', '--name', 'server', '--dns', 'localhost'], { cwd })
    expect(report.leaves).toMatchObject([{ name: 'server', changed: true, names: ['DNS:localhost'] }])
  })

  it('is an error when its authority is gone', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    rmSync(join(cwd, 'certs/ca'), { recursive: true })
    const { code, stderr } = await certgen(['--overwrite'], { cwd })
    expect(code).toBe(3)
    expect(stderr).toMatch(/certs\/ca is gone, but certs\/server has a leaf/)
  })
})

describe('bad input', () => {
  const cwd = temporaryDirectory()
  it.each([
    [['--ip', '10.0.0'], /is not an IP address/],
    [['--dns', 'a b'], /"a b"/],
    [['--validity', '5x'], /"5x" is not a duration/],
    [['--key', 'rsa-1024'], /"rsa-1024" is not a key type/],
    [['--name', '../x'], /cannot be the name of a leaf/],
    [['--name', 'ca'], /cannot be the name of a leaf/],
    [['--overwrit'], /unknown option '--overwrit'\ncertgen: hint: did you mean --overwrite/],
    [['rotat'], /unknown command 'rotat'\ncertgen: hint: did you mean rotate/],
    [['--keep-ca'], /--keep-ca goes with --overwrite/],
    [['--overwrite', '--renew'], /exclude each other/],
    [['--distrust-previous'], /goes with a new authority/],
    [['--strategy', 'magic'], /magic/],
    [['leaf', 'x', '--usage', 'both'], /is not a list of usages/],
  ])('%j is exit 2 with a hint, and nothing is written', async (args, message) => {
    const { code, stderr } = await certgen(args, { cwd })
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^certgen: error: [^A-Z"].*[^.]\ncertgen: hint: |^certgen: error: "/)
    expect(stderr).not.toMatch(/ {4}at /)
    expect(code).toBe(2)
    expect(() => lstatSync(join(cwd, 'certs'))).toThrow()
  })

  it('is one JSON document with --json', async () => {
    const { code, stdout } = await certgen(['--ip', '10.0.0', '--json'], { cwd })
    expect(code).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ schema: 1, command: 'rotate', error: { code: 'usage', exitCode: 2 } })
  })
})

describe('a target that was an ordinary directory', () => {
  it('keeps foreign files, and its files become links', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const target = join(cwd, 'plain')
    mkdirSync(target)
    for (const name of ['tls.crt', 'tls.key', 'ca.crt']) {
      writeFileSync(join(target, name), readFileSync(join(cwd, 'certs/server', name)))
    }
    writeFileSync(join(target, 'notes.txt'), 'mine')
    const other = temporaryDirectory()
    await rotateJson([], { cwd: other })
    const from = join(other, 'certs/server')
    const files = ['--cert', join(from, 'tls.crt'), '--key', join(from, 'tls.key'), '--ca', join(from, 'ca.crt')]
    expect((await certgen(['install', ...files, '--target', target], { cwd })).code).toBe(0)
    expect(readlinkSync(join(target, 'tls.crt'))).toBe('..data/tls.crt')
    expect(readFileSync(join(target, 'notes.txt'), 'utf8')).toBe('mine')
    const bundle = pemBlocks(join(target, 'ca.crt'))
    expect(bundle).toEqual([...pemBlocks(join(from, 'ca.crt')), ...pemBlocks(join(cwd, 'certs/server/ca.crt'))])
  })
})

describe('what follows a change', () => {
  const cwd = temporaryDirectory()

  it('runs the command once, with the changed targets in its environment and without the passphrase', async () => {
    await rotateJson([], { cwd })
    await rotateJson(['leaf', 'other', '--dns', 'other'], { cwd })
    const env = { CERTGEN_CA_PASSPHRASE: 'a secret of the test' }
    const report = await rotateJson(['--overwrite', '--exec', 'echo x >> runs; env > environment'], { cwd, env })
    expect(report.actions).toMatchObject([{ kind: 'exec', ok: true, detail: null }])
    expect(readFileSync(join(cwd, 'runs'), 'utf8')).toBe('x\n')
    const seen = readFileSync(join(cwd, 'environment'), 'utf8')
    expect(seen).toContain('CERTGEN_TARGETS=certs/other\ncerts/server\n')
    expect(seen).not.toContain('a secret of the test')
    expect(readFileSync(join(cwd, 'certs/ca/ca.key'), 'utf8')).toContain('BEGIN ENCRYPTED PRIVATE KEY')
    const idle = await rotateJson(['--exec', 'echo x >> runs'], { cwd, env })
    expect(idle.actions).toEqual([])
    expect(readFileSync(join(cwd, 'runs'), 'utf8')).toBe('x\n')
  })

  it('is exit 7 when it fails: written, and the report says what did not follow', async () => {
    const own = temporaryDirectory()
    const { code, stdout } = await certgen(['--exec', 'exit 3', '--json'], { cwd: own })
    expect(code).toBe(7)
    expect(JSON.parse(stdout)).toMatchObject({
      changed: true,
      actions: [{ kind: 'exec', subject: 'exit 3', ok: false, detail: 'it exited with 3' }],
    })
    expect(pemBlocks(join(own, 'certs/server/tls.crt'))).toHaveLength(1)
  })
})

describe('the talk on standard error', () => {
  const cwd = temporaryDirectory()

  it('is silent without a terminal, and a line for each change with --verbose', async () => {
    expect((await certgen([], { cwd })).stderr).toBe('')
    const { stdout, stderr } = await certgen(['leaf', 'client', '--verbose', '--json'], { cwd })
    expect(stderr).toBe('certgen: certs/client: made\n')
    expect(JSON.parse(stdout)).toMatchObject({ changed: true })
  })

  it('is one JSON object a line with --log-format json: changes, warnings, errors, findings and hints', async () => {
    const lines = (text: string): unknown[] =>
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown)
    const rotated = await certgen(['--overwrite', '--verbose', '--log-format', 'json'], { cwd })
    expect(lines(rotated.stderr)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ level: 'info', name: 'client', target: 'certs/client', reason: 'overwrite' }),
        expect.objectContaining({ level: 'warning', code: 'not-settled' }),
      ]),
    )
    const refused = await certgen(['--overwrite', '--strategy', 'replace', '--log-format=json'], { cwd })
    expect(refused.code).toBe(4)
    expect(lines(refused.stderr)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          level: 'error',
          message: 'the rotation would break 2 handshakes; nothing was written',
        }),
        expect.objectContaining({ level: 'error', code: 'handshake', severity: 'error' }),
        expect.objectContaining({ level: 'hint' }),
      ]),
    )
    const mistyped = await certgen(['--overwite', '--log-format', 'json'], { cwd })
    expect(lines(mistyped.stderr)[0]).toMatchObject({ level: 'error', message: "unknown option '--overwite'" })
  })
})

describe.skipIf(missing('python3'))('the passphrase of an encrypted key', () => {
  it('is asked for on a terminal, where nothing of it is shown', async () => {
    const cwd = temporaryDirectory()
    await certgen([], { cwd, env: { CERTGEN_CA_PASSPHRASE: 'correct horse' } })
    const prompt = "passphrase of the authority's key in certs/ca: "
    const terminal = resolve('test/cli/fixtures/terminal.py')
    const type = (line: string): ReturnType<typeof certgen> =>
      certgen(['--overwrite', '--dry-run', '--json'], { cwd, through: ['python3', terminal, prompt, line] })
    const right = await type('correct horse')
    expect(right.code).toBe(0)
    expect(right.stdout).toContain(prompt)
    expect(right.stdout).not.toContain('correct horse')
    const wrong = await type('wrong')
    expect(wrong.code).toBe(3)
    expect(wrong.stdout).toContain('cannot be opened: wrong passphrase')
  })
})

describe('an authority that is gone while its leaves are there', () => {
  it('is never made anew in silence, whatever its leaves are called', async () => {
    const cwd = temporaryDirectory()
    await rotateJson(['--name', 'web', '--dns', 'web.test'], { cwd })
    rmSync(join(cwd, 'certs/ca'), { recursive: true })
    for (const flags of [[], ['--overwrite'], ['ca'], ['--renew']]) {
      const { code, stderr } = await certgen(flags, { cwd })
      expect([code, stderr]).toEqual([3, expect.stringContaining('certs/ca is gone, but certs/web has a leaf')])
    }
    expect(existsSync(join(cwd, 'certs/ca'))).toBe(false)
  })

  it('is no reason to refuse a second authority beside the first, whose leaves those are', async () => {
    const cwd = temporaryDirectory()
    const config = (...names: string[]): void => {
      const authorities = names.map((name) => `  - { name: ${name}, dir: certs/ca-${name} }`)
      const leaves = names.map((name) => `  - { name: ${name}, dns: ${name}.test, authority: ${name} }`)
      const lines = ['authorities:', ...authorities, 'certificates:', ...leaves]
      writeFileSync(join(cwd, 'certgen.yaml'), lines.join('\n'))
    }
    config('a')
    await rotateJson([], { cwd })
    await rotateJson(['leaf', 'found', '--dns', 'found.test'], { cwd })
    config('a', 'b')
    expect((await rotateJson([], { cwd })).leaves).toMatchObject([
      { name: 'a', reason: 'kept' },
      { name: 'found', reason: 'kept' },
      { name: 'b', reason: 'missing' },
    ])
    // Nor one that no configuration speaks of.
    const elsewhere = join(cwd, 'elsewhere')
    await rotateJson(['--dir', elsewhere, '--name', 'web', '--dns', 'web.test'], { cwd: temporaryDirectory() })
    writeFileSync(join(cwd, 'certgen.yaml'), `dir: ${elsewhere}\nauthority: { dir: ${elsewhere}/new }`)
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: true, authority: { changed: true } })
    expect(verifies(join(elsewhere, 'web'))).toBe(true)
  })
})
