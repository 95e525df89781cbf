import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import { dnsName } from '../../src/pki/names.ts'
import { rotateAll } from '../../src/rotation/rotate.ts'
import { certgen, fingerprintTree, output, rotateJson } from '../program.ts'
import type { JsonReport } from '../program.ts'
import { Issuer } from '../reload/issuer.ts'
import { failingCells, loadSet, requestFor } from '../rotation/fleet.ts'
import { blocksOf, dataOf, loadSecret, useCluster } from './fixture.ts'
import type { TestCluster } from './fixture.ts'

/** Secrets as targets, by flags and by configuration. */

const of = 'shop'

/** A cluster whose administrator runs certgen, with a configuration. */
function useShop(config: string): TestCluster & { readonly run: (...args: string[]) => Promise<JsonReport> } {
  const cluster = useCluster()
  beforeAll(() => {
    cluster.server.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: of } })
    cluster.server.kubeconfig(cluster.kubeconfig)
    if (config !== '') writeFileSync(join(cluster.directory, 'certgen.yaml'), config)
  })
  const run = (...args: string[]): Promise<JsonReport> =>
    rotateJson([...args, '--kubeconfig', cluster.kubeconfig], { cwd: cluster.directory })
  return Object.assign(cluster, { run })
}

describe('certgen --secret', () => {
  const shop = useShop('')

  it('publishes a leaf of the local authority in a Secret, which OpenSSL verifies, and no directory for it', async () => {
    const report = await shop.run('--secret', 'shop/api', '--dns', 'api.shop.svc')
    expect(report.leaves).toMatchObject([{ name: 'api', target: 'secret/shop/api', reason: 'missing', changed: true }])
    const { 'tls.crt': cert, 'ca.crt': ca } = dataOf(shop.server, 'api', of)
    writeFileSync(join(shop.directory, 'ca.crt'), ca!)
    writeFileSync(join(shop.directory, 'tls.crt'), cert!)
    const [caPath, certPath] = ['ca.crt', 'tls.crt'].map((name) => join(shop.directory, name))
    expect(output('openssl', 'verify', '-x509_strict', '-CAfile', caPath!, certPath!)).toContain(': OK')
    expect(Object.keys(fingerprintTree(join(shop.directory, 'certs')))).toEqual(expect.arrayContaining(['ca/ca.crt']))
    expect(Object.keys(fingerprintTree(join(shop.directory, 'certs')))).not.toContain('api')
  })

  it('reads names, key type and lifetime back from the Secret', async () => {
    await shop.run('leaf', 'batch', '--secret', 'shop/batch', '--dns', 'batch', '--key', 'ed25519', '--validity', '30d')
    const report = await shop.run('--overwrite', '--secret', 'shop/batch')
    expect(report.leaves).toMatchObject([{ name: 'batch', names: ['DNS:batch'], key: 'ed25519', reason: 'overwrite' }])
  })

  it('keeps the authority in a Secret with --ca-secret', async () => {
    const args = ['--ca-secret', 'shop/authority', '--secret', 'shop/web', '--dns', 'web.shop.svc']
    const report = await shop.run(...args)
    expect(report.authority.path).toBe('secret/shop/authority')
    expect(Object.keys(dataOf(shop.server, 'authority', of)).sort()).toEqual(['ca.crt', 'ca.key'])
    expect(await shop.run('ca', '--ca-secret', 'shop/authority')).toMatchObject({ changed: false })
  })

  it('opens the authority of a Secret with a passphrase', async () => {
    const passphrase = join(shop.directory, 'passphrase')
    writeFileSync(passphrase, 'correct horse\n')
    const args = ['ca', '--ca-secret', 'shop/locked', '--ca-passphrase-file', passphrase]
    await shop.run(...args)
    expect(dataOf(shop.server, 'locked', of)['ca.key']!.toString()).toContain('BEGIN ENCRYPTED PRIVATE KEY')
    expect(await shop.run(...args, '--overwrite')).toMatchObject({ authority: { changed: true, crossSigned: true } })
    const { code, stderr } = await certgen(['ca', '--ca-secret', 'shop/locked', '--kubeconfig', shop.kubeconfig])
    expect(code).toBe(3)
    expect(stderr).toContain('--ca-passphrase-file')
  })

  it('shows the authority of a Secret, and the encrypted one without its passphrase', async () => {
    for (const [name, keyState] of [
      ['authority', 'usable'],
      ['locked', 'encrypted'],
    ] as const) {
      const args = ['status', '--ca-secret', `shop/${name}`, '--kubeconfig', shop.kubeconfig, '--json']
      const { code, stdout } = await certgen(args, { cwd: shop.directory })
      expect(code).toBe(0)
      expect(JSON.parse(stdout)).toMatchObject({
        authorities: [{ path: `secret/shop/${name}`, state: 'ok', keyState }],
      })
    }
  })

  it.each(['api', 'Shop/api', 'shop/api/tls'])('refuses %s, which is no NAMESPACE/NAME', async (name) => {
    const { code, stderr } = await certgen(['--secret', name])
    expect(code).toBe(2)
    expect(stderr).toContain('is not the name of a Secret')
  })
})

describe('a Secret that is there already', () => {
  const shop = useShop(
    [
      'authority: { secret: shop/authority }',
      'certificates:',
      '  - { name: empty, dns: empty, secret: shop/empty }',
      '  - { name: opaque, dns: opaque, secret: shop/opaque }',
    ].join('\n'),
  )

  it('is filled where it only holds the place, and keeps type, labels, annotations and keys of others', async () => {
    const metadata = {
      namespace: of,
      labels: { 'app.kubernetes.io/managed-by': 'Helm', team: 'edge' },
      annotations: { 'meta.helm.sh/release-name': 'edge' },
    }
    const common = { apiVersion: 'v1', kind: 'Secret' }
    shop.server.apply(
      {
        ...common,
        metadata: { ...metadata, name: 'empty' },
        type: 'kubernetes.io/tls',
        data: { 'tls.crt': '', 'tls.key': '' },
      },
      { ...common, metadata: { ...metadata, name: 'opaque' }, type: 'Opaque', data: { 'notes.txt': 'aGVsbG8=' } },
    )
    expect((await shop.run()).leaves).toMatchObject([{ reason: 'missing' }, { reason: 'missing' }])
    await shop.run('--overwrite')
    for (const [name, type] of [
      ['empty', 'kubernetes.io/tls'],
      ['opaque', 'Opaque'],
    ] as const) {
      const secret = shop.server.get('secrets', name, of)!
      expect(secret).toMatchObject({ type, metadata })
      loadSecret(shop.server, name, of)
    }
    expect(dataOf(shop.server, 'opaque', of)['notes.txt']!.toString()).toBe('hello')
  })

  it('stays as it is when it holds the leaf of another authority', async () => {
    const issuer = new Issuer()
    const { ca, cert, key } = await issuer.set(await issuer.authority(), { names: ['empty'] })
    const entries = Object.entries({ 'ca.crt': ca, 'tls.crt': cert, 'tls.key': key })
    const data = Object.fromEntries(entries.map(([name, octets]) => [name, octets.toString('base64')]))
    const { resourceVersion } = shop.server.change('secrets', 'empty', of, { data }).metadata
    expect((await shop.run()).leaves).toMatchObject([
      { name: 'empty', reason: 'kept' },
      { name: 'opaque', reason: 'kept' },
    ])
    expect(shop.server.get('secrets', 'empty', of)!.metadata.resourceVersion).toBe(resourceVersion)
  })
})

describe('one missing Secret of a fleet', () => {
  const shop = useShop(
    [
      'authority: { secret: shop/authority }',
      'certificates:',
      ...['api', 'web', 'worker'].map((name) => `  - { name: ${name}, dns: ${name}, secret: shop/${name} }`),
    ].join('\n'),
  )

  it('is issued from the authority that is there, and no other is touched', async () => {
    await shop.run()
    const before = ['api', 'worker'].map((name) => shop.server.get('secrets', name, of))
    const { authority } = await shop.run()
    shop.server.remove('secrets', 'web', of)
    const report = await shop.run()
    expect(report).toMatchObject({ changed: true, authority: { changed: false, sha256: authority.sha256 } })
    expect(report.leaves).toMatchObject([{ reason: 'kept' }, { name: 'web', reason: 'missing' }, { reason: 'kept' }])
    expect(['api', 'worker'].map((name) => shop.server.get('secrets', name, of))).toEqual(before)
    const [api, web] = ['api', 'web'].map((name) => loadSecret(shop.server, name, of))
    expect(await failingCells({ old: api!, new: api! }, { old: web!, new: web! })).toEqual([])
  })

  it('does not get a new authority beside its leaves when the authority is missing', async () => {
    const held = shop.server.get('secrets', 'authority', of)!
    shop.server.remove('secrets', 'authority', of)
    const { code, stderr } = await certgen(['--kubeconfig', shop.kubeconfig], { cwd: shop.directory })
    expect(code).toBe(3)
    expect(stderr).toContain('secret/shop/authority is gone, but secret/shop/api has a leaf')
    shop.server.apply(held)
    expect(await shop.run()).toMatchObject({ changed: false })
  })

  it('does not rotate back: a Secret keeps no previous generation, and the error says what to do', async () => {
    const before = shop.server.calls.length
    for (const args of [['rollback'], ['rollback', 'api']]) {
      const { code, stderr } = await certgen([...args, '--kubeconfig', shop.kubeconfig], { cwd: shop.directory })
      expect(code).toBe(2)
      expect(stderr).toMatch(/keeps no previous generation to return to; nothing was written\n.*--overwrite --keep-ca/)
    }
    expect(shop.server.callsAfter(before).every(({ verb }) => verb === 'get')).toBe(true)
  })

  it('rotates in two runs with --strategy staged, trust first', async () => {
    const [before, old] = [loadSecret(shop.server, 'api', of), dataOf(shop.server, 'authority', of)]
    const first = await shop.run('--overwrite', '--strategy', 'staged', '--settle', '1s')
    expect(first).toMatchObject({ stage: 1, leaves: [{ changed: true }, { changed: true }, { changed: true }] })
    const between = loadSecret(shop.server, 'api', of)
    expect(between.identity).toEqual(before.identity)
    expect(blocksOf(between.bundle)).toHaveLength(2)
    const second = await shop.run('--overwrite', '--strategy', 'staged', '--settle', '1s', '--wait')
    expect(second).toMatchObject({ changed: true })
    const after = loadSecret(shop.server, 'api', of)
    expect(dataOf(shop.server, 'authority', of)['ca.crt']).not.toEqual(old['ca.crt'])
    expect(Object.keys(dataOf(shop.server, 'authority', of)).sort()).toEqual([
      'ca.crt',
      'ca.key',
      'previous.crt',
      'replaced.crt',
    ])
    expect(await failingCells({ old: before, new: between })).toEqual([])
    expect(await failingCells({ old: between, new: after })).toEqual([])
  })

  it('finishes a rotation that distrusts, by the certificate that the authority still knows', async () => {
    await shop.run('ca', '--overwrite', '--distrust-previous')
    const { code } = await certgen(['--kubeconfig', shop.kubeconfig], { cwd: shop.directory })
    // What breaks peers needs the consent again.
    expect(code).toBe(4)
    const report = await shop.run('--force')
    expect(report.leaves).toMatchObject(Array(3).fill({ reason: 'unfinished', changed: true }))
    expect(blocksOf(loadSecret(shop.server, 'api', of).bundle)).toHaveLength(1)
  })
})

describe('a set of another tool, whose authority has no key any more', () => {
  const names = ['api', 'web'] as const
  const shop = useShop(
    [
      'authority: { secret: shop/authority, caBundle: configmap/shop/ca-bundle }',
      'certificates:',
      ...names.map((name) => `  - { name: ${name}, dns: ${name}, secret: shop/${name} }`),
    ].join('\n'),
  )
  const put = (name: string, type: string, files: Readonly<Record<string, Buffer>>): void => {
    const entries = Object.entries(files).map(([key, octets]): [string, string] => [key, octets.toString('base64')])
    const metadata = { name, namespace: of }
    shop.server.apply({ apiVersion: 'v1', kind: 'Secret', metadata, type, data: Object.fromEntries(entries) })
  }
  const load = (): ReturnType<typeof loadSecret>[] => names.map((name) => loadSecret(shop.server, name, of))

  it('is taken over by its certificate alone: trust first, and no handshake fails', async () => {
    const issuer = new Issuer()
    const old = await issuer.authority()
    for (const name of names) {
      const { ca, cert, key } = await issuer.set(old, { names: [name] })
      put(name, 'kubernetes.io/tls', { 'ca.crt': ca, 'tls.crt': cert, 'tls.key': key })
    }
    put('authority', 'Opaque', { 'ca.crt': load()[0]!.bundle })
    const states = [load()]
    expect(await shop.run()).toMatchObject({ leaves: [{ reason: 'kept' }, { reason: 'kept' }] })
    expect(await shop.run('--overwrite', '--settle', '1s')).toMatchObject({ strategy: 'staged', stage: 1 })
    states.push(load())
    await shop.run('--overwrite', '--settle', '1s', '--wait')
    states.push(load())
    expect(dataOf(shop.server, 'authority', of)['ca.key']?.toString()).toContain('PRIVATE KEY')
    const root = blocksOf(dataOf(shop.server, 'authority', of)['ca.crt'])[0]
    const { data } = shop.server.get('configmaps', 'ca-bundle', of) as unknown as { data: Record<string, string> }
    expect(blocksOf(data['ca.crt'])).toEqual(blocksOf(states[2]![0]!.bundle))
    expect(blocksOf(data['ca.crt'])[0]).toBe(root)
    for (const [before, after] of [states.slice(0, 2), states.slice(1)]) {
      const [server, client] = [0, 1].map((index) => ({ old: before![index]!, new: after![index]! }))
      expect(await failingCells(server!, client)).toEqual([])
      expect(await failingCells(client!, server)).toEqual([])
    }
    // From here on it rotates in one run.
    expect(await shop.run('--overwrite')).toMatchObject({ strategy: 'cross-sign', authority: { crossSigned: true } })
  })
})

describe('a leaf in a directory and in a Secret', () => {
  const shop = useShop('certificates: [{ name: api, dns: api, target: ./tls, secret: shop/api }]')

  it('is the same in both, and written again where one of them has lost it', async () => {
    const same = (): boolean =>
      loadSet(join(shop.directory, 'tls')).bundle.equals(loadSecret(shop.server, 'api', of).bundle)
    expect((await shop.run()).leaves).toMatchObject([{ target: 'tls and secret/shop/api', reason: 'missing' }])
    expect((await shop.run('--overwrite')).leaves).toMatchObject([{ changed: true }])
    expect(same()).toBe(true)
    expect(await shop.run()).toMatchObject({ changed: false })
    shop.server.remove('secrets', 'api', of)
    expect((await shop.run()).leaves).toMatchObject([{ reason: 'unfinished', changed: true }])
    expect(loadSecret(shop.server, 'api', of)).toEqual(loadSet(join(shop.directory, 'tls')))
  })

  it('goes back with the directory', async () => {
    const before = loadSet(join(shop.directory, 'tls'))
    await shop.run('--overwrite', '--keep-ca')
    const { code } = await certgen(['rollback', 'api', '--kubeconfig', shop.kubeconfig], { cwd: shop.directory })
    expect(code).toBe(0)
    expect(loadSet(join(shop.directory, 'tls'))).toEqual(before)
    expect(loadSecret(shop.server, 'api', of)).toEqual(before)
  })
})

describe('what follows the write of a Secret', () => {
  const shop = useShop(
    'certificates: [{ name: api, dns: api, secret: shop/api, exec: "test -e allowed && echo x >> ran" }]',
  )

  it('is tried again by the next run until it succeeds, and noted with the Secret meanwhile', async () => {
    const noted = (): unknown => shop.server.get('secrets', 'api', of)!.metadata.annotations?.['certgen/undelivered']
    const { code } = await certgen(['--kubeconfig', shop.kubeconfig], { cwd: shop.directory })
    expect(code).toBe(7)
    expect(noted()).toBe('["exec test -e allowed && echo x >> ran"]')
    writeFileSync(join(shop.directory, 'allowed'), '')
    expect(await shop.run()).toMatchObject({ changed: false, actions: [{ kind: 'exec', ok: true }] })
    expect(noted()).toBeUndefined()
    expect(await shop.run()).toMatchObject({ actions: [] })
    expect(readFileSync(join(shop.directory, 'ran'), 'utf8')).toBe('x\n')
  })
})

describe('certgen --render', () => {
  const shop = useShop(
    [
      'authority: { secret: shop/authority, caBundle: [configmap/shop/ca-bundle, validatingwebhookconfiguration/policy] }',
      'certificates:',
      '  - { name: api, dns: api, secret: shop/api, restart: deployment/shop/api }',
      'random: [{ name: key, key: key, secret: shop/key }]',
    ].join('\n'),
  )
  const render = (...args: string[]) =>
    certgen(['--render', '--kubeconfig', shop.kubeconfig, ...args], { cwd: shop.directory })

  it('prints the manifests and writes nothing; applied, they are what a run leaves', async () => {
    shop.server.apply({
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'policy' },
      webhooks: [
        { name: 'policy.shop', clientConfig: { service: { name: 'policy', namespace: of } }, sideEffects: 'None' },
      ],
    })
    const before = shop.server.calls.length
    const { code, stdout, stderr } = await render()
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(shop.server.callsAfter(before).every(({ verb }) => verb === 'get')).toBe(true)
    const kinds = parseAllDocuments(stdout).map((document) => (document.toJS() as { kind: string }).kind)
    expect(kinds.sort()).toEqual(['ConfigMap', 'Secret', 'Secret', 'Secret', 'ValidatingWebhookConfiguration'])
    shop.server.apply(stdout)
    expect(await shop.run()).toMatchObject({ changed: false })
    const { 'ca.crt': bundle } = dataOf(shop.server, 'api', of)
    expect(shop.server.get('configmaps', 'ca-bundle', of)).toMatchObject({ data: { 'ca.crt': bundle!.toString() } })
  })

  it('renders a rotation, and says what is to be restarted once that is applied', async () => {
    const [before, calls] = [loadSecret(shop.server, 'api', of), shop.server.calls.length]
    const { code, stdout, stderr } = await render('--overwrite')
    expect(code).toBe(0)
    expect(stderr).toContain('certgen: hint: then: certgen restart deployment/shop/api\n')
    expect(shop.server.callsAfter(calls).every(({ verb }) => verb === 'get')).toBe(true)
    shop.server.apply(stdout)
    expect(await failingCells({ old: before, new: loadSecret(shop.server, 'api', of) })).toEqual([])
    expect(await shop.run()).toMatchObject({ changed: false, actions: [] })
  })

  it('says that there is nothing to apply', async () => {
    const { code, stdout, stderr } = await render()
    expect({ code, stdout: stdout.trim() }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toContain('certgen: warning: there is nothing to apply: the cluster has it all')
  })

  it('renders a first set where there is no cluster, and warns of what it is not for', async () => {
    const options = { cwd: shop.directory, env: { HOME: '/nowhere' } }
    const { code, stdout, stderr } = await certgen(['--render'], options)
    expect(code).toBe(0)
    expect(stdout.match(/^kind: Secret$/gm)).toHaveLength(3)
    expect(stderr).toContain('must not be applied over another one')
  })

  it.each(['--json', '--dry-run', '--wait'])('does not go with %s', async (flag) => {
    const { code, stderr } = await render(flag)
    expect(code).toBe(2)
    expect(stderr).toContain(`--render and ${flag} exclude each other`)
  })
})

describe('many Secrets of one namespace', () => {
  const cluster = useCluster()
  const names = Array.from({ length: 20 }, (_, index) => `service-${index}`)
  const request = (open = openCluster({ kubeconfig: cluster.kubeconfig })) =>
    requestFor('nowhere', {
      authority: { store: open.authority('shop/authority', {}) },
      leaves: names.map((name) => ({
        name,
        store: open.target(`shop/${name}`),
        explicit: true,
        names: [dnsName(name)],
      })),
      discovery: null,
    })
  const callsOf = async (work: () => Promise<unknown>): Promise<string[]> => {
    const before = cluster.server.calls.length
    await work()
    return cluster.server.callsAfter(before).map(({ verb, dryRun }) => (dryRun ? `${verb} dry` : verb))
  }
  const count = (calls: readonly string[]): Record<string, number> =>
    Object.fromEntries([...new Set(calls)].map((call) => [call, calls.filter((each) => each === call).length]))

  it('are read by one list, and an unchanged fleet costs two calls', async () => {
    cluster.server.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: of } })
    cluster.server.kubeconfig(cluster.kubeconfig)
    await rotateAll([request()], () => new Date())
    const calls = await callsOf(() => rotateAll([request()], () => new Date()))
    expect(count(calls)).toEqual({ get: 1, list: 1 })
  })

  it('cost a rehearsal, a write and a read back each to rotate', async () => {
    const calls = await callsOf(() => rotateAll([{ ...request(), mode: 'overwrite' }], () => new Date()))
    expect(count(calls)).toEqual({ get: 1 + 20, list: 1, 'patch dry': 20, patch: 1 + 20 })
  })

  it('are read one by one where lists are not granted', async () => {
    cluster.server.fault = ({ verb }) =>
      verb === 'list' ? { status: 403, reason: 'Forbidden', message: 'User "x" cannot list resource "secrets"' } : null
    const calls = await callsOf(async () => {
      expect(await rotateAll([request()], () => new Date())).toMatchObject([{ changed: false }])
    })
    cluster.server.fault = () => null
    expect(count(calls)).toEqual({ get: 1 + 20, list: 1 })
  })
})

const canMount = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

describe.skipIf(!canMount)('certgen in a pod', () => {
  const cluster = useCluster()

  it('finds the cluster by its service account', async () => {
    const root = join(cluster.directory, 'serviceaccount')
    writeFileSync(join(cluster.directory, 'ca.crt'), cluster.server.ca)
    cluster.server.addUser('token-of-the-pod', 'admin')
    const { port } = new URL(cluster.server.url)
    const mounted = '/var/run/secrets/kubernetes.io/serviceaccount'
    // A mount of our own over /run, which nobody else sees.
    const script = [
      `mount -t tmpfs none /run && mkdir -p ${mounted} && cp ${join(cluster.directory, 'ca.crt')} ${mounted}/ca.crt`,
      `printf token-of-the-pod > ${mounted}/token && printf envoy-gateway-system > ${mounted}/namespace && exec "$@"`,
    ].join(' && ')
    const { code, stdout, stderr } = await certgen(['--secret', 'envoy-gateway-system/in-pod', '--dir', root], {
      cwd: cluster.directory,
      env: { HOME: '/nowhere', KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: port },
      through: ['unshare', '--mount', 'sh', '-c', script, 'sh'],
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('secret/envoy-gateway-system/in-pod  made')
    const leaf = new X509Certificate(dataOf(cluster.server, 'in-pod')['tls.crt']!)
    expect(leaf.subjectAltName).toContain('DNS:localhost')
  })
})
