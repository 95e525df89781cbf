import { once } from 'node:events'
import { readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import type { Server } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome, RunOptions } from '../program.ts'
import { greet, listen } from '../reload/peers.ts'
import { missing } from '../requirements.ts'

interface StatusDocument {
  readonly schema: number
  readonly command: string
  readonly now: string
  readonly ok: boolean
  readonly authorities: readonly { readonly state: string }[]
  readonly targets: readonly { readonly name: string; readonly state: string; readonly sha256: string }[]
  readonly endpoints: readonly {
    readonly endpoint: string
    readonly target: string
    readonly state: string
    readonly sha256: string | null
  }[]
}

async function statusJson(args: readonly string[], options: RunOptions): Promise<StatusDocument> {
  const { code, stdout, stderr } = await certgen(['status', ...args, '--json'], options)
  if (code !== 0 && code !== 8) throw new Error(stderr)
  return JSON.parse(stdout) as StatusDocument
}

// eslint-disable-next-line no-control-regex -- what is looked for
const beyondAscii = /[^\u0000-\u007f]/
// eslint-disable-next-line no-control-regex -- what is looked for
const escapes = /\u001b/

describe('certgen status', () => {
  it('shows tables and a timeline in 80 columns, of ASCII and without colour in a pipe', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    await rotateJson(['--overwrite'], { cwd })
    const before = fingerprintTree(cwd)
    const { code, stdout, stderr } = await certgen(['status'], { cwd })
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(
      /^all is well: the authority, 1 target\nnext due: certs\/server on \d{4}-\d\d-\d\d, in \d+d\n/,
    )
    expect(stdout).toMatch(/^ok +certs\/server +\d{4}-\d\d-\d\d +\d\dd +\d{4}-\d\d-\d\d +ecdsa-p256/m)
    expect(stdout).toMatch(/old CA: 1 target still presents it, 1 trusts it; it ends on \d{4}-\d\d-\d\d/)
    expect(stdout).toMatch(/^certs\/server +\|=+D-+/m)
    expect(stdout).not.toMatch(beyondAscii)
    expect(stdout).not.toMatch(escapes)
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
    expect(fingerprintTree(cwd)).toEqual(before)
  })

  it('draws with more than ASCII where the locale has it, and never for a dumb terminal', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const run = async (env: Record<string, string>): Promise<string> => (await certgen(['status'], { cwd, env })).stdout
    expect(await run({ LANG: 'C.UTF-8' })).toMatch(/┃━+◆╌+/)
    expect(await run({ LANG: 'C.UTF-8', TERM: 'dumb' })).not.toMatch(beyondAscii)
    expect(await run({ FORCE_COLOR: '1' })).toMatch(escapes)
    expect(await run({ FORCE_COLOR: '1', NO_COLOR: '1' })).not.toMatch(escapes)
  })

  it('is one JSON document with --json, in the words of the other commands', async () => {
    const cwd = temporaryDirectory()
    const rotated = await rotateJson([], { cwd })
    const document = await statusJson([], { cwd })
    expect(document).toMatchObject({
      schema: 1,
      command: 'status',
      ok: true,
      authorities: [
        {
          name: null,
          path: 'certs/ca',
          state: 'ok',
          attention: [],
          subject: rotated.authority.subject,
          serialNumber: rotated.authority.serialNumber,
          sha256: rotated.authority.sha256,
          notBefore: rotated.authority.notBefore,
          notAfter: rotated.authority.notAfter,
          key: 'ecdsa-p256',
          keyState: 'usable',
          previous: null,
          successor: null,
        },
      ],
      targets: [
        {
          name: 'server',
          target: 'certs/server',
          authority: null,
          state: 'ok',
          attention: [],
          serialNumber: rotated.leaves[0]!.serialNumber,
          sha256: rotated.leaves[0]!.sha256,
          notBefore: rotated.leaves[0]!.notBefore,
          notAfter: rotated.leaves[0]!.notAfter,
          names: rotated.leaves[0]!.names,
          key: 'ecdsa-p256',
          crossSigned: false,
          carriedOver: null,
          undelivered: [],
          findings: [],
        },
      ],
      endpoints: [],
      warnings: [],
    })
    expect(Math.abs(Date.parse(document.now) - Date.now())).toBeLessThan(60_000)
  })

  it.skipIf(missing('faketime'))('exits with 8 with --check, and says why, a line each; with 0 otherwise', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    expect(await certgen(['status', '--check'], { cwd })).toEqual({
      code: 0,
      stdout: 'nothing needs attention\n',
      stderr: '',
    })
    const through = ['faketime', '+65 days']
    const due = await certgen(['status', '--check'], { cwd, through })
    expect(due.code).toBe(8)
    expect(due.stdout).toMatch(/^certs\/server: due since \d{4}-\d\d-\d\d \(\dd ago\)\n$/)
    expect((await certgen(['status'], { cwd, through })).code).toBe(0)
    expect((await statusJson(['--check'], { cwd, through })).ok).toBe(false)
    expect((await certgen(['status', '--check', '--renew-before', '10d'], { cwd, through })).code).toBe(0)
  })

  it('finds the fleet by its directory, by either flag or as the argument, and by its configuration', async () => {
    const cwd = temporaryDirectory()
    await rotateJson(['--dir', 'here/tls'], { cwd })
    writeFileSync(join(cwd, 'fleet.yaml'), 'dir: here/tls\ncertificates: [{ name: server }, { name: wanted }]\n')
    const states = async (...args: string[]): Promise<string[]> =>
      (await statusJson(args, { cwd })).targets.map(({ name, state }) => `${name} ${state}`)
    expect(await states('here/tls')).toEqual(['server ok'])
    expect(await states('--dir', 'here/tls')).toEqual(['server ok'])
    expect(await states('--config', 'fleet.yaml')).toEqual(['wanted missing', 'server ok'])
    const { stdout } = await certgen(['status', '--config', 'fleet.yaml'], { cwd })
    expect(stdout).toMatch(/^certgen --config fleet\.yaml --renew$/m)
  })

  it('needs no passphrase, whatever the configuration says of it', async () => {
    const cwd = temporaryDirectory()
    writeFileSync(
      join(cwd, 'certgen.yaml'),
      'authority: { passphrase: { env: CA_PASSPHRASE } }\ncertificates: [{ name: server }]\n',
    )
    await rotateJson([], { cwd, env: { CA_PASSPHRASE: 'a secret of the test' } })
    expect((await certgen([], { cwd })).code).toBe(2)
    expect(await certgen(['status', '--check'], { cwd })).toMatchObject({ code: 0, stderr: '' })
    expect((await statusJson([], { cwd })).authorities).toMatchObject([{ keyState: 'encrypted' }])
  })

  it('goes on past what is damaged, and names it', async () => {
    const cwd = temporaryDirectory()
    for (const name of ['broken', 'server']) await rotateJson(['--name', name], { cwd })
    writeFileSync(join(cwd, 'certs/broken', readlinkSync(join(cwd, 'certs/broken/..data')), 'tls.key'), 'no key\n')
    expect((await certgen([], { cwd })).code).toBe(3)
    const { code, stdout } = await certgen(['status', '--check'], { cwd })
    expect(code).toBe(8)
    expect(stdout).toBe('certs/broken: it cannot be read back: certs/broken/tls.key: there is no PEM block in it\n')
  })

  it('shows several authorities, each target with its own', async () => {
    const cwd = temporaryDirectory()
    writeFileSync(
      join(cwd, 'certgen.yaml'),
      'authorities: [{ name: inner }, { name: outer }]\n' +
        'certificates: [{ name: a, authority: inner }, { name: b, authority: outer }]\n',
    )
    await rotateJson([], { cwd })
    expect(await statusJson([], { cwd })).toMatchObject({
      ok: true,
      authorities: [
        { name: 'inner', path: 'certs/inner' },
        { name: 'outer', path: 'certs/outer' },
      ],
      targets: [
        { name: 'a', authority: 'inner' },
        { name: 'b', authority: 'outer' },
      ],
    })
  })

  it.each([
    [['certs', '--dir', 'certs'], /two directories are named/],
    [['certs/server'], /certs\/server is a target, .*\ncertgen: hint: certgen status certs shows it/],
    [['--probe', 'localhost'], /is not a host and a port/],
    [['--probe', 'localhost:8443', '--name', 'other'], /there is no target "other"\ncertgen: hint: there are server/],
    [['--timeout', 'soon'], /"soon" is not a duration/],
    [['--chek'], /unknown option '--chek'\ncertgen: hint: did you mean --check/],
  ])('%j is exit 2 with a hint', async (args, message) => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const { code, stderr } = await certgen(['status', ...args], { cwd })
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^certgen: error: .*\ncertgen: hint: /)
    expect(code).toBe(2)
  })

  it('writes its page whole, and says so when it cannot', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    expect((await certgen(['status', '--html', 'page.html'], { cwd })).code).toBe(0)
    const page = readFileSync(join(cwd, 'page.html'), 'utf8')
    expect(page).toMatch(/^<!doctype html>[^]*<th role="rowheader" scope="row">certs\/server<[^]*<\/html>\n$/)
    expect((statSync(join(cwd, 'page.html')).mode & 0o777).toString(8)).toBe('644')
    expect(await certgen(['status', '--html', 'nowhere/page.html'], { cwd })).toMatchObject({ code: 5, stdout: '' })
  })
})

describe('the endpoints of a status', () => {
  const closing: Server[] = []
  afterEach(() => {
    for (const server of closing.splice(0)) server.close()
  })

  /** Serves what the target holds now, and goes on serving it. */
  async function serve(target: string): Promise<{ endpoint: string; server: Server }> {
    const read = (name: string): Buffer => readFileSync(join(target, name))
    const server = createServer({ cert: read('tls.crt'), key: read('tls.key'), ca: read('ca.crt') }, greet)
    server.on('tlsClientError', () => undefined)
    closing.push(server)
    return { endpoint: `127.0.0.1:${await listen(server)}`, server }
  }

  const check = (cwd: string, ...args: string[]): Promise<Outcome> => certgen(['status', '--check', ...args], { cwd })

  it('serve what their target holds, then the leaf from before, then nothing', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const { endpoint, server } = await serve(join(cwd, 'certs/server'))
    const current = await statusJson(['--probe', endpoint], { cwd })
    expect(current).toMatchObject({
      ok: true,
      endpoints: [{ endpoint, target: 'server', state: 'current', sha256: current.targets[0]!.sha256 }],
    })
    await rotateJson(['--overwrite', '--keep-ca'], { cwd })
    const old = await check(cwd, '--probe', endpoint)
    expect(old).toMatchObject({
      code: 8,
      stdout: `${endpoint}: it still serves the leaf from before the last change\n`,
    })
    expect((await statusJson(['--probe', endpoint], { cwd })).endpoints).toMatchObject([
      { state: 'old-leaf', sha256: current.targets[0]!.sha256 },
    ])
    server.close()
    await once(server, 'close')
    const gone = await check(cwd, '--probe', endpoint)
    expect([gone.code, gone.stdout]).toEqual([8, expect.stringMatching(/^127\.0\.0\.1:\d+: connect ECONNREFUSED /)])
  })

  it('are those of the configuration, unless none is wanted', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const { endpoint } = await serve(join(cwd, 'certs/server'))
    writeFileSync(join(cwd, 'certgen.yaml'), `certificates: [{ name: server, probe: ["${endpoint}"] }]\n`)
    expect((await statusJson([], { cwd })).endpoints).toMatchObject([{ endpoint, target: 'server', state: 'current' }])
    expect((await statusJson(['--no-probe'], { cwd })).endpoints).toEqual([])
  })

  it('are compared with the target that is named, or else with the only one for their host', async () => {
    const cwd = temporaryDirectory()
    await rotateJson(['ca'], { cwd })
    await rotateJson(['leaf', 'addressed', '--ip', '127.0.0.1'], { cwd })
    await rotateJson(['leaf', 'other', '--dns', 'other.test'], { cwd })
    const { endpoint } = await serve(join(cwd, 'certs/addressed'))
    expect((await statusJson(['--probe', endpoint], { cwd })).endpoints).toMatchObject([
      { target: 'addressed', state: 'current' },
    ])
    expect((await statusJson(['--probe', endpoint, '--name', 'other'], { cwd })).endpoints).toMatchObject([
      { target: 'other', state: 'other-leaf' },
    ])
    await rotateJson(['leaf', 'another', '--ip', '127.0.0.1'], { cwd })
    const unclear = await check(cwd, '--probe', endpoint)
    expect([unclear.code, unclear.stderr]).toEqual([2, expect.stringMatching(/which target is .*\n.*--name NAME/)])
  })

  it('cannot be compared with a target that is damaged, and are looked at all the same', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const { endpoint } = await serve(join(cwd, 'certs/server'))
    const generation = join(cwd, 'certs/server', readlinkSync(join(cwd, 'certs/server/..data')))
    rmSync(join(generation, 'tls.crt'))
    const document = await statusJson(['--probe', endpoint, '--name', 'server'], { cwd })
    expect(document.endpoints).toMatchObject([{ state: 'not-compared' }])
    expect(document.endpoints[0]!.sha256).toMatch(/^[0-9a-f]{64}$/)
  })
})
