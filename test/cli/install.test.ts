import { X509Certificate, createPrivateKey } from 'node:crypto'
import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { missing } from '../requirements.ts'

const cwd = temporaryDirectory()
const read = (path: string): string => readFileSync(join(cwd, path), 'utf8')
const write = (path: string, text: string): string => {
  writeFileSync(join(cwd, path), text)
  return path
}

/** A set, each file of which can be given another name. */
function filesOf(directory: string, other: Partial<Record<'cert' | 'key' | 'ca', string>> = {}): string[] {
  const { cert = `${directory}/tls.crt`, key = `${directory}/tls.key`, ca = `${directory}/ca.crt` } = other
  return ['--cert', cert, '--key', key, '--ca', ca]
}
const install = (target: string, ...args: string[]): Promise<Outcome> =>
  certgen(['install', ...args, '--target', target], { cwd })

interface Document {
  readonly changed: boolean
  readonly leaf: { readonly sha256: string }
  readonly carriedOver: string | null
}
async function installJson(target: string, ...args: string[]): Promise<Document> {
  const { code, stdout, stderr } = await install(target, ...args, '--json')
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Document
}

const sha256 = (pem: string): string => new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase()

beforeAll(async () => {
  // Three issuers' sets; `rotated` has a chain of leaf and cross-certificate, which peers of its old root need.
  await rotateJson(['--dir', 'one'], { cwd })
  await rotateJson(['--dir', 'two'], { cwd })
  await rotateJson(['--dir', 'rotated'], { cwd })
  cpSync(join(cwd, 'rotated/ca/ca.crt'), join(cwd, 'before-rotation.crt'), { dereference: true })
  await rotateJson(['--dir', 'rotated', '--overwrite'], { cwd })
})

let target = ''
let count = 0
beforeEach(() => {
  target = `target-${count++}`
})

describe('certgen install', () => {
  it('swaps in a set that somebody else issued, in the shape of every target', async () => {
    const { code, stdout, stderr } = await install(target, ...filesOf('one/server'))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`installed .*${target}`))
    for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
      expect(read(`${target}/${name}`)).toBe(read(`one/server/${name}`))
      expect(lstatSync(join(cwd, target, name)).isSymbolicLink()).toBe(true)
    }
    expect(read(`${target}/tls.pem`)).toBe(read('one/server/tls.key') + read('one/server/tls.crt'))
    const modes = ['tls.key', 'tls.pem', 'tls.crt'].map((name) =>
      (lstatSync(realpathSync(join(cwd, target, name))).mode & 0o777).toString(8),
    )
    expect(modes).toEqual(['600', '600', '644'])
  })

  it('the second time writes nothing and says so (I5)', async () => {
    expect((await installJson(target, ...filesOf('one/server'))).changed).toBe(true)
    const before = fingerprintTree(join(cwd, target))
    expect(await installJson(target, ...filesOf('one/server'))).toMatchObject({ changed: false, carriedOver: null })
    expect((await install(target, ...filesOf('one/server'))).stdout).toContain('nothing to do')
    expect(fingerprintTree(join(cwd, target))).toEqual(before)
  })

  it("bundles the set's CA with the target's old one, and never a second old one (I6)", async () => {
    const [one, two] = [read('one/ca/ca.crt'), read('two/ca/ca.crt')]
    await installJson(target, ...filesOf('one/server'))
    expect(await installJson(target, ...filesOf('two/server'))).toMatchObject({
      changed: true,
      carriedOver: sha256(one),
      leaf: { sha256: sha256(read('two/server/tls.crt')) },
    })
    expect(read(`${target}/ca.crt`)).toBe(two + one)

    const before = fingerprintTree(join(cwd, target))
    expect(await installJson(target, ...filesOf('two/server'))).toMatchObject({
      changed: false,
      carriedOver: sha256(one),
    })
    expect(fingerprintTree(join(cwd, target))).toEqual(before)

    const third = { ca: 'rotated/ca/ca.crt' }
    expect((await installJson(target, ...filesOf('rotated/server', third))).carriedOver).toBe(sha256(two))
    expect(read(`${target}/ca.crt`)).toBe(read('rotated/ca/ca.crt') + two)
    expect(pemBlocks(join(cwd, target, 'tls.crt'))).toHaveLength(2)
  })

  it.skipIf(missing('openssl'))('opens an encrypted key with --passphrase-file', async () => {
    const encrypted = ['-aes256', '-passout', 'pass:open sesame']
    output('openssl', 'pkey', '-in', join(cwd, 'one/server/tls.key'), ...encrypted, '-out', join(cwd, 'locked.key'))
    const args = filesOf('one/server', { key: 'locked.key' })
    expect(
      (await installJson(target, ...args, '--passphrase-file', write('passphrase', 'open sesame\n'))).changed,
    ).toBe(true)
    const certificate = new X509Certificate(read(`${target}/tls.crt`))
    expect(certificate.checkPrivateKey(createPrivateKey(read(`${target}/tls.key`)))).toBe(true)
    expect((await install('locked', ...args)).code).toBe(3)
  })
})

describe('certgen install of a set that is unusable', () => {
  const spoil = {
    mismatched: () => filesOf('one/server', { key: 'two/server/tls.key' }),
    lacking: () => {
      const [leaf = ''] = pemBlocks(join(cwd, 'rotated/server/tls.crt'))
      return filesOf('rotated/server', { cert: write('leaf.crt', `${leaf}\n`), ca: 'before-rotation.crt' })
    },
    cut: () => {
      const lines = read('rotated/server/tls.crt').split('\n')
      return filesOf('rotated/server', { cert: write('cut.crt', lines.slice(0, -4).join('\n')) })
    },
    damaged: () => {
      const bundle = read('rotated/server/ca.crt')
      const at = bundle.lastIndexOf('BEGIN CERTIFICATE-----\n') + 60
      return filesOf('rotated/server', { ca: write('damaged.crt', bundle.slice(0, at) + '*' + bundle.slice(at + 1)) })
    },
    several: () => filesOf('one/server', { key: write('empty.key', ''), ca: 'two/server/ca.crt' }),
  }

  it.each<[string, () => string[], string[]]>([
    ["another certificate's key", spoil.mismatched, ['key-mismatch']],
    ['a chain that lacks its second certificate', spoil.lacking, ['chain-incomplete', 'handshake']],
    ['a chain whose last block is cut', spoil.cut, ['pem-damaged']],
    ['a bundle with a damaged block', spoil.damaged, ['pem-damaged']],
    ['no key, and the bundle of somebody else', spoil.several, ['chain-incomplete', 'pem-empty']],
  ])('is exit 3 with all findings, the target unchanged: %s', async (_name, args, codes) => {
    expect((await install(target, ...filesOf('one/server'))).code).toBe(0)
    const before = fingerprintTree(join(cwd, target))
    const { code, stdout } = await install(target, ...args(), '--json')
    expect(code).toBe(3)
    const document = JSON.parse(stdout) as { error: { findings: { code: string }[] } }
    expect(document).toMatchObject({ schema: 1, command: 'install', error: { code: 'unusable', exitCode: 3 } })
    expect(document.error.findings.map((finding) => finding.code).sort()).toEqual(codes)

    const text = await install(target, ...args())
    expect([text.code, text.stdout]).toEqual([3, ''])
    for (const finding of codes) expect(text.stderr).toContain(`[${finding}]`)
    expect(text.stderr).toMatch(/^certgen: hint: /m)
    expect(text.stderr).not.toMatch(/^ {4}at /m)
    expect(fingerprintTree(join(cwd, target))).toEqual(before)
  })

  it('makes no target where none was', async () => {
    expect((await install(target, ...spoil.mismatched())).code).toBe(3)
    expect(existsSync(join(cwd, target))).toBe(false)
  })

  it('does not lose an old root in silence when the target has a damaged bundle', async () => {
    mkdirSync(join(cwd, target))
    for (const name of ['tls.crt', 'tls.key']) write(`${target}/${name}`, read(`one/server/${name}`))
    write(`${target}/ca.crt`, read('one/server/ca.crt').replace(/(\nMI.{20})./, '$1*'))
    const before = fingerprintTree(join(cwd, target))
    const { code, stderr } = await install(target, ...filesOf('two/server'))
    if (code === 0) expect(stderr).toMatch(/^certgen: warning: .*ca\.crt/m)
    else {
      expect([code, fingerprintTree(join(cwd, target))]).toEqual([3, before])
      expect(stderr).toContain('[pem-damaged]')
    }
  })

  it.each([
    [[]],
    [['--cert', 'one/server/tls.crt']],
    [filesOf('one/server', { cert: 'nowhere.crt' })],
    [[...filesOf('one/server'), '--lock-timeout', 'soon']],
  ])('is exit 2 when it is asked for wrongly: %j', async (args) => {
    const { code, stdout, stderr } = await install(target, ...args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^certgen: error: .*\n(certgen: hint: .+\n)+$/)
  })
})
