import { X509Certificate } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { certgen, fingerprintTree, output, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import type { JsonReport } from '../program.ts'
import { missing } from '../requirements.ts'
import { failingCells, later, loadPreviousSet, loadSet, requestFor } from './fleet.ts'
import type { Service } from './fleet.ts'

const names = ['client', 'server'] as const
const target = (cwd: string, name: string): string => join(cwd, 'certs', name)
const read = (path: string): X509Certificate => new X509Certificate(readFileSync(path))

async function makeFleet(...flags: string[]): Promise<string> {
  const cwd = temporaryDirectory()
  await rotateJson(['ca', ...flags], { cwd })
  await rotateJson(['leaf', 'client', '--key', 'ed25519'], { cwd })
  await rotateJson(['leaf', 'server'], { cwd })
  return cwd
}

function loadFleet(cwd: string): Service[] {
  return names.map((name) => loadSet(target(cwd, name)))
}

/** The cells that fail between two generations of a fleet, for every service as server with every one as client. */
async function failingBetween(before: readonly Service[], after: readonly Service[]): Promise<string[]> {
  const services = before.map((old, index) => ({ old, new: after[index]! }))
  const failing: string[] = []
  for (const server of services) for (const client of services) failing.push(...(await failingCells(server, client)))
  return failing
}

/** What a lock leaves is the time of the directory it was in. */
function fingerprintWithoutLock(cwd: string): Record<string, string> {
  return Object.fromEntries(Object.entries(fingerprintTree(join(cwd, 'certs'))).filter(([path]) => path !== 'ca'))
}

describe.skipIf(missing('openssl'))('cross-sign', () => {
  const extension = (path: string, name: string): string =>
    output('openssl', 'x509', '-in', path, '-noout', '-ext', name).replaceAll(/\s+/g, ' ').trim()

  it('certifies the new root, name and key, by the previous one, in every chain', async () => {
    const cwd = await makeFleet('--ca-validity', '1y')
    const report = await rotateJson(['--overwrite', '--strategy', 'cross-sign', '--ca-validity', '5y'], { cwd })
    expect(report).toMatchObject({ strategy: 'cross-sign', stage: null, authority: { crossSigned: true } })
    const [crossPath, rootPath, previousPath] = ['cross.crt', 'ca.crt', 'previous.crt'].map((name) =>
      join(cwd, 'certs/ca', name),
    ) as [string, string, string]
    const [cross, root, previous] = [read(crossPath), read(rootPath), read(previousPath)]
    expect([cross.subject, cross.issuer]).toEqual([root.subject, previous.subject])
    expect(cross.publicKey.equals(root.publicKey)).toBe(true)
    expect(cross.verify(previous.publicKey)).toBe(true)
    expect(new Set([cross, root, previous].map(({ serialNumber }) => serialNumber)).size).toBe(3)
    // The new root outlives the old one; the cross-certificate may not.
    expect(Date.parse(root.validTo)).toBeGreaterThan(Date.parse(previous.validTo))
    expect(cross.validTo).toBe(previous.validTo)
    expect(Date.parse(cross.validFrom)).toBeGreaterThanOrEqual(Date.parse(previous.validFrom))
    const keyId = (path: string): string => extension(path, 'subjectKeyIdentifier')
    expect(keyId(crossPath)).toBe(keyId(rootPath))
    // The key id alone: issuer and serial number would tie it to one of two issuers of the same name and key.
    const authorityKeyId = extension(crossPath, 'authorityKeyIdentifier').replace(/^.*: (?=[0-9A-F]{2}:)/, '')
    expect(keyId(previousPath)).toBe(`X509v3 Subject Key Identifier: ${authorityKeyId.replace('keyid:', '')}`)
    expect(extension(crossPath, 'basicConstraints')).toBe('X509v3 Basic Constraints: critical CA:TRUE, pathlen:0')
    expect(extension(crossPath, 'keyUsage')).toBe('X509v3 Key Usage: critical Certificate Sign, CRL Sign')
    for (const name of names) {
      const leafPath = join(target(cwd, name), 'tls.crt')
      expect(pemBlocks(leafPath)).toEqual([expect.any(String), ...pemBlocks(crossPath)])
      expect(pemBlocks(join(target(cwd, name), 'ca.crt'))).toEqual([...pemBlocks(rootPath), ...pemBlocks(previousPath)])
      for (const trusted of [previousPath, rootPath]) {
        const verdict = output(
          'openssl',
          ...['verify', '-x509_strict', '-no-CApath', '-CAfile', trusted, '-untrusted', leafPath, leafPath],
        )
        expect(verdict).toContain(': OK')
      }
    }
  })

  it('passes the four cells between any two services, rotation after rotation (I2)', async () => {
    const cwd = await makeFleet()
    for (let rotation = 0; rotation < 3; rotation++) {
      const before = loadFleet(cwd)
      await rotateJson(['--overwrite'], { cwd })
      expect(await failingBetween(before, loadFleet(cwd))).toEqual([])
    }
  })
})

describe('replace', () => {
  it('is exit 4: nothing is written, and it says which pairs break, why, and what to do', async () => {
    const cwd = await makeFleet()
    const before = fingerprintWithoutLock(cwd)
    const text = await certgen(['--overwrite', '--strategy', 'replace'], { cwd })
    expect(text.code).toBe(4)
    expect(text.stdout).toBe('')
    expect(text.stderr).toMatch(/^certgen: error: the rotation would break 4 handshakes; nothing was written$/m)
    for (const profile of ['ed25519', 'ecdsa-p256']) {
      for (const [server, client] of [
        ['new', 'old'],
        ['old', 'new'],
      ] as const) {
        const pair = new RegExp(`^certgen: .*${profile}.*${server} server.*${client} client.*lacks the issuer`, 'm')
        expect(text.stderr).toMatch(pair)
      }
    }
    expect(text.stderr).toMatch(/^certgen: hint: .*--strategy auto/m)
    expect(text.stderr).toMatch(/^certgen: hint: .*--force/m)
    const json = await certgen(['--overwrite', '--strategy', 'replace', '--json'], { cwd })
    expect(json.code).toBe(4)
    const { error } = JSON.parse(json.stdout) as { error: { findings: object[] } }
    expect(error).toMatchObject({ code: 'refused', exitCode: 4 })
    expect(error.findings).toHaveLength(4)
    expect(error.findings[0]).toMatchObject({ code: 'handshake', severity: 'error' })
    expect(fingerprintWithoutLock(cwd)).toEqual(before)
  })

  it('is written with --force, and warnings say what breaks, which does', async () => {
    const cwd = await makeFleet()
    const before = loadFleet(cwd)
    const { code, stdout, stderr } = await certgen(['--overwrite', '--strategy', 'replace', '--force', '--json'], {
      cwd,
    })
    expect(code).toBe(0)
    const report = JSON.parse(stdout) as JsonReport
    expect(report).toMatchObject({
      changed: true,
      strategy: 'replace',
      authority: { changed: true, crossSigned: false, carriedOver: expect.any(String) as string },
    })
    const broken = report.preflight.filter(({ ok }) => !ok)
    expect(broken.map(({ server, client }) => `${server} ${client}`).sort()).toEqual([
      ...['new old', 'new old', 'old new', 'old new'],
    ])
    expect(report.warnings.map(({ code }) => code)).toContain('handshake-breaks')
    expect(stderr).toMatch(/^certgen: warning: .*new server.*old client/m)
    const after = loadFleet(cwd)
    const failing = await failingCells({ old: before[1]!, new: after[1]! })
    expect(failing).toEqual([
      expect.stringMatching(/^old server, new client: (SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_)/),
      expect.stringMatching(/^new server, old client: (SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_)/),
    ])
  })
})

describe('--distrust-previous', () => {
  it('carries nothing over and cross-signs nothing: exit 0, and the pairs that break are listed', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    const before = loadFleet(cwd)
    const { code, stdout, stderr } = await certgen(['--overwrite', '--distrust-previous', '--json'], { cwd })
    expect(code).toBe(0)
    const report = JSON.parse(stdout) as JsonReport
    expect(report.authority).toMatchObject({ changed: true, carriedOver: null, crossSigned: false })
    expect(report.warnings.map(({ code }) => code)).toContain('handshake-breaks')
    expect(stderr).toMatch(/^certgen: warning: .*new server.*old client/m)
    for (const name of names) {
      expect(pemBlocks(join(target(cwd, name), 'ca.crt'))).toEqual(pemBlocks(join(cwd, 'certs/ca/ca.crt')))
      expect(pemBlocks(join(target(cwd, name), 'tls.crt'))).toHaveLength(1)
    }
    for (const name of ['previous.crt', 'cross.crt']) expect(existsSync(join(cwd, 'certs/ca', name))).toBe(false)
    expect(await failingCells({ old: before[0]!, new: loadFleet(cwd)[0]! })).toHaveLength(2)
    // Nor does a later run bring it back.
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('does not wait for a staged rotation that is under way: the old key has leaked', async () => {
    const cwd = await makeFleet()
    const old = pemBlocks(join(cwd, 'certs/ca/ca.crt'))
    await rotateJson(['--overwrite', '--strategy', 'staged'], { cwd })
    const report = await rotateJson(['--overwrite', '--distrust-previous'], { cwd })
    expect(report).toMatchObject({ changed: true, authority: { changed: true, carriedOver: null } })
    for (const name of names) {
      expect(pemBlocks(join(target(cwd, name), 'ca.crt'))).toEqual(pemBlocks(join(cwd, 'certs/ca/ca.crt')))
      expect(pemBlocks(join(target(cwd, name), 'ca.crt'))).not.toEqual(old)
    }
  })
})

describe('staged', () => {
  it('first publishes the next authority, waits for --settle, then issues from it; no cell fails', async () => {
    const cwd = await makeFleet()
    const dir = join(cwd, 'certs')
    const request = requestFor(dir, { mode: 'overwrite', strategy: 'staged' })
    const first = loadFleet(cwd)
    const authority = readFileSync(join(dir, 'ca/ca.crt'), 'utf8')

    // Run 1: trust alone.
    expect(await rotate(request, later(0))).toMatchObject({ changed: true, strategy: 'staged', stage: 1 })
    const second = loadFleet(cwd)
    const [next] = pemBlocks(join(dir, 'ca/next.crt'))
    expect(readFileSync(join(dir, 'ca/ca.crt'), 'utf8')).toBe(authority)
    expect(second.map(({ identity }) => identity)).toEqual(first.map(({ identity }) => identity))
    for (const name of names) {
      expect(pemBlocks(join(dir, name, 'ca.crt'))).toEqual([...pemBlocks(join(dir, 'ca/ca.crt')), next])
    }
    expect(await failingBetween(first, second)).toEqual([])

    // A call before --settle changes nothing and says when it will go on.
    const before = fingerprintTree(dir)
    const early = await certgen(['--overwrite', '--strategy', 'staged', '--json'], { cwd })
    expect(early.code).toBe(0)
    const waiting = JSON.parse(early.stdout) as JsonReport
    expect(waiting).toMatchObject({ changed: false, strategy: 'staged', stage: 1 })
    const wait = Date.parse(waiting.resumesAt ?? '') - Date.now()
    expect(wait).toBeGreaterThan(8 * 60_000)
    expect(wait).toBeLessThanOrEqual(10 * 60_000)
    const text = await certgen(['--overwrite'], { cwd })
    expect(text.code).toBe(0)
    expect(text.stdout).toContain(waiting.resumesAt)
    expect(fingerprintTree(dir)).toEqual(before)

    // Run 2: leaves of the next authority.
    const settled = { ...request, settle: parseDuration('60s') }
    expect(await rotate(settled, later(61))).toMatchObject({
      changed: true,
      stage: 2,
      resumesAt: null,
      authority: { changed: true, crossSigned: false },
    })
    const third = loadFleet(cwd)
    expect(pemBlocks(join(dir, 'ca/ca.crt'))).toEqual([next])
    for (const name of names) {
      expect(read(join(dir, name, 'tls.crt')).verify(read(join(dir, 'ca/ca.crt')).publicKey)).toBe(true)
      expect(pemBlocks(join(dir, name, 'ca.crt'))).toEqual([next, ...pemBlocks(join(dir, 'ca/previous.crt'))])
    }
    expect(await failingBetween(second, third)).toEqual([])
    for (const name of ['next.crt', 'next.key']) expect(existsSync(join(dir, 'ca', name))).toBe(false)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('leaves a plain run and --renew nothing to do before --settle, and goes on with --renew after it', async () => {
    const cwd = await makeFleet()
    const dir = join(cwd, 'certs')
    await rotateJson(['--overwrite', '--strategy', 'staged'], { cwd })
    const before = fingerprintTree(dir)
    for (const flags of [[], ['--renew']]) {
      expect(await rotateJson(flags, { cwd })).toMatchObject({ changed: false, stage: 1 })
    }
    expect(fingerprintTree(dir)).toEqual(before)
    const renewal = requestFor(dir, { mode: 'renew', settle: parseDuration('60s') })
    expect(await rotate(renewal, later(61))).toMatchObject({ changed: true, stage: 2 })
  })

  it('does both runs in one call with --wait', async () => {
    const cwd = await makeFleet()
    const before = pemBlocks(join(cwd, 'certs/ca/ca.crt'))
    const began = Date.now()
    const report = await rotateJson(['--overwrite', '--strategy', 'staged', '--wait', '--settle', '2s'], { cwd })
    expect(report).toMatchObject({ changed: true, stage: 2, resumesAt: null, authority: { changed: true } })
    // The generation's name holds the whole second in which it was made.
    expect(Date.now() - began).toBeGreaterThan(1000)
    expect(pemBlocks(join(cwd, 'certs/ca/previous.crt'))).toEqual(before)
    const previous = await Promise.all(names.map((name) => loadPreviousSet(target(cwd, name))))
    expect(await failingBetween(previous, loadFleet(cwd))).toEqual([])
  })
})

/** A root that must not stand above another CA, and a leaf of it, as OpenSSL makes them, in plain files. */
function makeLegacyFleet(): string {
  const cwd = temporaryDirectory()
  const [ca, server] = [join(cwd, 'certs/ca'), join(cwd, 'certs/server')]
  for (const directory of [ca, server]) mkdirSync(directory, { recursive: true })
  const config = join(cwd, 'openssl.cnf')
  writeFileSync(
    config,
    `[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`,
  )
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-config', config]
  const root = ['-keyout', join(ca, 'ca.key'), '-out', join(ca, 'ca.crt')]
  output('openssl', 'req', '-x509', ...key, '-extensions', 'root', '-subj', '/CN=legacy CA', '-days', '365', ...root)
  const request = join(cwd, 'server.csr')
  output('openssl', 'req', '-new', ...key, '-subj', '/CN=legacy', '-keyout', join(server, 'tls.key'), '-out', request)
  const issuer = ['-CA', join(ca, 'ca.crt'), '-CAkey', join(ca, 'ca.key'), '-CAcreateserial']
  const extensions = ['-extfile', config, '-extensions', 'leaf', '-days', '90', '-out', join(server, 'tls.crt')]
  output('openssl', 'x509', '-req', '-in', request, ...issuer, ...extensions)
  writeFileSync(join(server, 'ca.crt'), readFileSync(join(ca, 'ca.crt')))
  return cwd
}

/** The authority of a fleet that certgen made, as if its key were kept elsewhere. */
async function makeKeylessFleet(): Promise<string> {
  const cwd = temporaryDirectory()
  await rotateJson([], { cwd })
  const ca = join(cwd, 'certs/ca')
  rmSync(join(ca, readlinkSync(join(ca, '..data')), 'ca.key'))
  rmSync(join(ca, 'ca.key'))
  return cwd
}

describe.skipIf(missing('openssl')).each([
  ['without its key', makeKeylessFleet, /key is not at hand/],
  ['with pathlen:0', makeLegacyFleet, /pathlen:0/],
] as const)('an authority %s', (_which, make, why) => {
  /** A plain directory has no `..data` yet. */
  const load = (cwd: string): Service => {
    const directory = target(cwd, 'server')
    if (existsSync(join(directory, '..data'))) return loadSet(directory)
    const file = (name: string): Buffer => readFileSync(join(directory, name))
    return { identity: { chain: file('tls.crt'), key: file('tls.key') }, bundle: file('ca.crt') }
  }

  it('goes the staged way by itself, says why, and no cell fails', async () => {
    const cwd = await make()
    const first = load(cwd)
    const { code, stdout, stderr } = await certgen(['--overwrite', '--json'], { cwd })
    expect(code).toBe(0)
    expect(stderr).toMatch(why)
    const report = JSON.parse(stdout) as JsonReport
    expect(report).toMatchObject({ changed: true, strategy: 'staged', stage: 1 })
    expect(report.warnings.find(({ code }) => code === 'staged')?.message).toMatch(why)
    const second = load(cwd)
    expect(second.identity).toEqual(first.identity)
    expect(await failingCells({ old: first, new: second })).toEqual([])
    const request = requestFor(join(cwd, 'certs'), { mode: 'overwrite' })
    const settled = { ...request, settle: parseDuration('60s') }
    expect(await rotate(settled, later(61))).toMatchObject({ changed: true, strategy: 'staged', stage: 2 })
    const third = load(cwd)
    expect(await failingCells({ old: second, new: third })).toEqual([])
    // The authority it has now is certgen's own, with a key.
    const after = await rotateJson(['--overwrite', '--dry-run'], { cwd })
    expect(after).toMatchObject({ strategy: 'cross-sign', authority: { crossSigned: true } })
  })

  it('is exit 4 with an explicit --strategy cross-sign, and nothing is written', async () => {
    const cwd = await make()
    const before = fingerprintTree(join(cwd, 'certs'))
    const { code, stderr } = await certgen(['--overwrite', '--strategy', 'cross-sign'], { cwd })
    expect(code).toBe(4)
    expect(stderr).toMatch(why)
    expect(stderr).toMatch(/^certgen: hint: .*--strategy staged/m)
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
  })
})
