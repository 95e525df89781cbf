import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { handshake } from '../../src/pki/handshake.ts'
import type { Peer } from '../../src/pki/handshake.ts'
import { certgen, fingerprintTree, output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { reasonOf } from '../rotation/fleet.ts'

const scratch = temporaryDirectory()

/** What a tool leaves behind: an authority, and one target of a service. */
interface Found {
  readonly ca: string
  readonly caKey: string
  readonly target: string
  readonly files: { readonly cert: string; readonly key: string }
}

interface Maker {
  readonly name: string
  readonly programs: readonly string[]
  readonly make: (cwd: string) => Found
  /** Whether its leaf may stand at the client's end too. */
  readonly client: boolean
  readonly strategy: 'cross-sign' | 'staged'
}

function run(cwd: string, program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

const makers: readonly Maker[] = [
  {
    name: 'openssl',
    programs: ['openssl'],
    client: true,
    strategy: 'cross-sign',
    make: (cwd) => {
      const openssl = (...args: string[]): string => run(cwd, 'openssl', ...args)
      const newKey = ['-newkey', 'rsa:2048', '-nodes']
      openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '900', '-subj', '/CN=Old CA')
      mkdirSync(join(cwd, 'tls'))
      openssl('req', ...newKey, '-keyout', 'tls/tls.key', '-out', 'leaf.csr', '-subj', '/CN=localhost')
      writeFileSync(join(cwd, 'ext'), 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n')
      const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '90', '-extfile', 'ext']
      openssl('x509', '-req', '-in', 'leaf.csr', ...signing, '-out', 'tls/tls.crt')
      copyFileSync(join(cwd, 'ca.crt'), join(cwd, 'tls/ca.crt'))
      return { ca: 'ca.crt', caKey: 'ca.key', target: 'tls', files: { cert: 'tls.crt', key: 'tls.key' } }
    },
  },
  {
    name: 'mkcert',
    programs: ['mkcert'],
    client: false,
    strategy: 'staged',
    make: (cwd) => {
      mkdirSync(join(cwd, 'web'))
      const files = ['-cert-file', 'web/localhost.pem', '-key-file', 'web/localhost-key.pem']
      execFileSync('mkcert', [...files, 'localhost'], { cwd, env: { ...process.env, CAROOT: cwd }, stdio: 'ignore' })
      const names = { cert: 'localhost.pem', key: 'localhost-key.pem' }
      return { ca: 'rootCA.pem', caKey: 'rootCA-key.pem', target: 'web', files: names }
    },
  },
  {
    name: 'minica',
    programs: ['minica'],
    client: true,
    strategy: 'cross-sign',
    make: (cwd) => {
      run(cwd, 'minica', '-ca-cert', 'root.crt', '-ca-key', 'root.key', 'localhost')
      mkdirSync(join(cwd, 'svc'))
      for (const name of ['localhost.crt', 'localhost.key']) renameSync(join(cwd, name), join(cwd, 'svc', name))
      const names = { cert: 'localhost.crt', key: 'localhost.key' }
      return { ca: 'root.crt', caKey: 'root.key', target: 'svc', files: names }
    },
  },
  {
    name: 'cfssl',
    programs: ['cfssl', 'cfssljson'],
    client: true,
    strategy: 'cross-sign',
    make: (cwd) => {
      const json = (name: string, value: object): string => {
        writeFileSync(join(cwd, name), JSON.stringify(value))
        return name
      }
      const key = { algo: 'ecdsa', size: 256 }
      const csr = json('ca.json', { CN: 'Old CA', key, ca: { expiry: '20000h' } })
      execFileSync('sh', ['-c', `cfssl gencert -initca ${csr} | cfssljson -bare ca`], { cwd, stdio: 'ignore' })
      const usages = ['digital signature', 'server auth', 'client auth']
      json('config.json', { signing: { default: { expiry: '2000h', usages } } })
      json('leaf.json', { CN: 'localhost', hosts: ['localhost'], key })
      mkdirSync(join(cwd, 'svc'))
      const sign =
        'cfssl gencert -ca ca.pem -ca-key ca-key.pem -config config.json leaf.json | cfssljson -bare svc/server'
      execFileSync('sh', ['-c', sign], { cwd, stdio: 'ignore' })
      return { ca: 'ca.pem', caKey: 'ca-key.pem', target: 'svc', files: { cert: 'server.pem', key: 'server-key.pem' } }
    },
  },
  {
    name: 'certtool',
    programs: ['certtool'],
    client: true,
    strategy: 'cross-sign',
    make: (cwd) => {
      const certtool = (...args: string[]): string => run(cwd, 'certtool', ...args)
      certtool('--generate-privkey', '--key-type', 'ecdsa', '--outfile', 'ca.key')
      writeFileSync(join(cwd, 'ca.cfg'), 'cn = "Old CA"\nca\ncert_signing_key\nexpiration_days = 900\n')
      certtool('--generate-self-signed', '--load-privkey', 'ca.key', '--template', 'ca.cfg', '--outfile', 'ca.crt')
      mkdirSync(join(cwd, 'svc'))
      certtool('--generate-privkey', '--key-type', 'ecdsa', '--outfile', 'svc/server.key')
      const leaf = 'cn = "localhost"\ndns_name = "localhost"\ntls_www_server\ntls_www_client\nsigning_key\n'
      writeFileSync(join(cwd, 'leaf.cfg'), `${leaf}expiration_days = 90\n`)
      const signing = ['--load-ca-certificate', 'ca.crt', '--load-ca-privkey', 'ca.key', '--template', 'leaf.cfg']
      certtool('--generate-certificate', '--load-privkey', 'svc/server.key', ...signing, '--outfile', 'svc/server.crt')
      return { ca: 'ca.crt', caKey: 'ca.key', target: 'svc', files: { cert: 'server.crt', key: 'server.key' } }
    },
  },
]

/** What a peer that reads the target now would load; its bundle is the old authority's where there is none. */
function load(cwd: string, { ca, target, files }: Found): Peer {
  const read = (name: string): Buffer => readFileSync(join(cwd, target, name))
  const bundle = existsSync(join(cwd, target, 'ca.crt')) ? read('ca.crt') : readFileSync(join(cwd, ca))
  return { identity: { chain: read(files.cert), key: read(files.key) }, bundle }
}

async function failures(peers: readonly Peer[], client: boolean): Promise<string[]> {
  const failing: string[] = []
  for (const [index, one] of peers.entries()) {
    for (const [other, two] of peers.entries()) {
      const result = await handshake(one, client ? two : { ...two, identity: null })
      if (!result.ok) failing.push(`server ${index}, client ${other}: ${reasonOf(result)}`)
    }
  }
  return failing
}

// Acceptance 5 of issue 5.
describe.each(makers)('what $name has made', ({ programs, make, client, strategy }) => {
  it.skipIf(missing('openssl', ...programs))('is adopted unchanged and rotated, and old peers go on', async () => {
    const cwd = await mkdtemp(join(scratch, 'adopt-'))
    const found = make(cwd)
    const before = load(cwd, found)
    const flags = ['adopt', '--ca', found.ca, '--ca-key', found.caKey, '--target', found.target]
    const { code, stdout, stderr } = await certgen([...flags, '--json'], { cwd })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({ changed: true, authority: { hasKey: true } })
    expect(load(cwd, found)).toEqual(before)
    expect(output('openssl', 'x509', '-in', join(cwd, 'certs/ca/ca.crt'), '-noout', '-fingerprint')).toBe(
      output('openssl', 'x509', '-in', join(cwd, found.ca), '-noout', '-fingerprint'),
    )
    const again = await certgen([...flags, '--json'], { cwd })
    expect(JSON.parse(again.stdout)).toMatchObject({ changed: false })
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false, leaves: [{ reason: 'kept' }] })

    const peers = [before]
    const first = await rotateJson(['--overwrite', '--settle', '1s'], { cwd })
    expect(first.strategy).toBe(strategy)
    expect(first.preflight.every(({ ok }) => ok)).toBe(true)
    peers.push(load(cwd, found))
    expect(await failures(peers, client)).toEqual([])
    if (strategy === 'staged') {
      expect(first.stage).toBe(1)
      const second = await rotateJson(['--overwrite', '--settle', '1s', '--wait'], { cwd })
      expect(second).toMatchObject({ changed: true, stage: 2 })
      peers.push(load(cwd, found))
      expect(await failures(peers.slice(1), client)).toEqual([])
    }
    const leaf = new X509Certificate(readFileSync(join(cwd, found.target, found.files.cert)))
    expect(leaf.subjectAltName).toBe('DNS:localhost')
    expect(leaf.issuer).not.toBe(new X509Certificate(readFileSync(join(cwd, found.ca))).subject)
    expect(pemBlocks(join(cwd, found.target, 'ca.crt'))).toHaveLength(2)
  })
})

describe.skipIf(missing('openssl'))('certgen adopt', () => {
  const [openssl] = makers

  async function scene(): Promise<{ cwd: string; found: Found }> {
    const cwd = await mkdtemp(join(scratch, 'scene-'))
    return { cwd, found: openssl!.make(cwd) }
  }

  it('links a target elsewhere into DIR, so that a run without a configuration finds it', async () => {
    const { cwd } = await scene()
    const { stdout } = await certgen(['adopt', '--ca', 'ca.crt', '--ca-key', 'ca.key', '--target', 'tls'], { cwd })
    expect(stdout).toContain('adopted CN=Old CA, in certs/ca\n')
    expect(readlinkSync(join(cwd, 'certs/tls'))).toBe(join(cwd, 'tls'))
    expect(existsSync(join(cwd, 'certgen.yaml'))).toBe(false)
    expect((await rotateJson([], { cwd })).leaves).toMatchObject([{ name: 'tls', reason: 'kept' }])
  })

  it('writes a configuration for other file names, and says what to add where there is one', async () => {
    const { cwd } = await scene()
    mkdirSync(join(cwd, 'web'))
    copyFileSync(join(cwd, 'tls/tls.crt'), join(cwd, 'web/site.pem'))
    copyFileSync(join(cwd, 'tls/tls.key'), join(cwd, 'web/site.key'))
    const flags = ['adopt', '--ca', 'ca.crt', '--ca-key', 'ca.key', '--target', 'web']
    const { stdout } = await certgen(flags, { cwd })
    expect(stdout).toContain('ends 2')
    expect(stdout).toContain('it got a bundle')
    expect(parse(readFileSync(join(cwd, 'certgen.yaml'), 'utf8'))).toMatchObject({
      dir: './certs',
      certificates: [{ name: 'web', target: './web', files: { cert: 'site.pem', key: 'site.key', combined: null } }],
    })
    expect((await certgen(['config', 'check'], { cwd })).code).toBe(0)
    const before = fingerprintTree(cwd)
    const again = await certgen(flags, { cwd })
    expect(again.stdout).toContain('add this to the certificates of certgen.yaml')
    expect(Object.keys(fingerprintTree(cwd))).toEqual(Object.keys(before))
  })

  it('goes the staged way by itself where the key is not given, and says why', async () => {
    const { cwd, found } = await scene()
    const { stderr } = await certgen(['adopt', '--ca', 'ca.crt', '--target', 'tls'], { cwd })
    expect(stderr).toContain('certgen: warning: without its key the authority issues nothing')
    const peers = [load(cwd, found)]
    const first = await certgen(['--overwrite', '--settle', '1s', '--json'], { cwd })
    expect(first.stderr).toContain("for the current authority's key is not at hand")
    expect(JSON.parse(first.stdout)).toMatchObject({ stage: 1, strategy: 'staged' })
    peers.push(load(cwd, found))
    expect(await failures(peers, true)).toEqual([])
    expect(await rotateJson(['--overwrite', '--settle', '1s', '--wait'], { cwd })).toMatchObject({ stage: 2 })
    expect(await failures([peers[1]!, load(cwd, found)], true)).toEqual([])
  })

  it('refuses what it could not rotate safely, and writes nothing', async () => {
    const { cwd } = await scene()
    const other = await scene()
    copyFileSync(join(cwd, 'tls/tls.crt'), join(cwd, 'leaf-alone.pem'))
    mkdirSync(join(cwd, 'twice'))
    for (const name of ['a', 'b']) copyFileSync(join(cwd, 'tls/tls.crt'), join(cwd, `twice/${name}.crt`))
    copyFileSync(join(cwd, 'tls/tls.key'), join(cwd, 'twice/a.key'))
    mkdirSync(join(cwd, 'none'))
    const cases: [string[], number, string][] = [
      [['--ca', 'ca.crt', '--ca-key', 'tls/tls.key', '--target', 'tls'], 3, '[key-mismatch]'],
      [['--ca', 'leaf-alone.pem', '--target', 'tls'], 3, '[not-a-ca]'],
      [
        ['--ca', join(other.cwd, 'ca.crt'), '--ca-key', join(other.cwd, 'ca.key'), '--target', 'tls'],
        3,
        '[chain-incomplete]',
      ],
      [['--ca', 'ca.crt', '--target', 'twice'], 3, 'more than one leaf, or one twice: a.crt, b.crt'],
      [['--ca', 'ca.crt', '--target', 'none'], 3, 'no leaf with its key'],
      [['--ca', 'ca.crt', '--target', 'absent'], 2, 'there is no directory absent'],
      [['--ca', 'absent.crt'], 2, 'no such file'],
    ]
    for (const [flags, code, message] of cases) {
      const outcome = await certgen(['adopt', '--ca-key', 'ca.key', ...flags], { cwd })
      expect([outcome.code, outcome.stderr], flags.join(' ')).toEqual([code, expect.stringContaining(message)])
    }
    expect(existsSync(join(cwd, 'certs'))).toBe(false)
  })

  it('does not touch another authority that is there', async () => {
    const { cwd } = await scene()
    await rotateJson([], { cwd })
    const { code, stderr } = await certgen(['adopt', '--ca', 'ca.crt', '--ca-key', 'ca.key'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('certs/ca holds another authority already')
    expect(await rotateJson([], { cwd })).toMatchObject({ changed: false })
  })
})
