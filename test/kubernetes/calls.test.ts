import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import { resources } from '../../src/deliver/kubernetes/resource.ts'
import type { ObjectRef } from '../../src/deliver/kubernetes/resource.ts'
import { failure } from '../failure.ts'
import { freePort, listen } from '../port.ts'
import { Issuer } from '../reload/issuer.ts'
import { exampleConfig, impatient, namespace, openImpatiently, runExample, useCluster, variables } from './fixture.ts'
import { certgen } from '../program.ts'

/** How calls fail, and what is said of it. */
describe('a call of the API', () => {
  const cluster = useCluster()
  const secret: ObjectRef = { resource: resources.secret, namespace, name: 'envoy' }
  const path = (name: string): string => join(cluster.directory, name)
  const read = async (kubeconfig: string): Promise<unknown> => (await openImpatiently(kubeconfig).api()).get(secret)

  afterEach(() => {
    cluster.server.fault = () => null
  })

  it('says that there is no API server, and where it should be', async () => {
    const server = `https://127.0.0.1:${await freePort()}`
    const error = await failure(
      read(cluster.server.kubeconfigWith(path('nobody'), { token: 'admin-token' }, { server })),
    )
    expect(error).toMatchObject({ code: 'unreadable', hints: [expect.stringContaining('--context NAME')] })
    expect(error.message).toBe(
      `cannot get secret/${namespace}/envoy: there is no API server at ${server}: connect ECONNREFUSED ${server.slice(8)}`,
    )
  })

  it('says that the API server does not answer in time', async () => {
    cluster.server.fault = () => ({ hang: true })
    const hurried = openCluster({ kubeconfig: cluster.kubeconfig, patience: { ...impatient, timeout: 100 } })
    const error = await failure((await hurried.api()).get(secret))
    expect(error.message).toContain(`the API server ${cluster.server.url} does not answer in time`)
  })

  it('says that something else than TLS answers there', async () => {
    const other = createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n'))
    const server = `https://127.0.0.1:${await listen(other)}`
    const error = await failure(read(cluster.server.kubeconfigWith(path('ssh'), { token: 'admin-token' }, { server })))
    expect(error.message).toContain(`there is no API server at ${server}`)
    other.close()
  })

  it('says at once that the certificate of the API server is not trusted', async () => {
    const { ca } = await new Issuer().set(await new Issuer().authority())
    const before = cluster.server.calls.length
    const kubeconfig = cluster.server.kubeconfigWith(
      path('distrusting'),
      { token: 'admin-token' },
      { ca: ca.toString() },
    )
    const error = await failure(read(kubeconfig))
    expect(error).toMatchObject({ hints: [expect.stringContaining('certificate-authority-data')] })
    expect(error.message).toMatch(/the certificate of the API server https:\S+ is not trusted: \w+/)
    expect(cluster.server.calls.length).toBe(before)
  })

  it('says that the API server does not know who asks', async () => {
    const error = await failure(read(cluster.server.kubeconfigWith(path('stranger'), { token: 'of nobody' })))
    expect(error.message).toContain('the API server does not know who asks (401)')
    expect(error.hints.join()).toContain('log in again')
  })

  it('is made again with a new token where the old one has ended meanwhile', async () => {
    const tokens = path('token')
    writeFileSync(tokens, 'first-token')
    cluster.server.addUser('first-token', 'admin')
    const user = { 'auth-provider': { name: 'tokenFile', config: { tokenFile: tokens } } }
    const api = await openImpatiently(cluster.server.kubeconfigWith(path('rotating'), user)).api()
    expect(await api.get(secret)).toBeNull()
    cluster.server.revoke('first-token')
    cluster.server.addUser('second-token', 'admin')
    writeFileSync(tokens, 'second-token')
    expect(await api.get(secret)).toBeNull()
  })

  it('is made with a client certificate', async () => {
    const { cert, key } = await cluster.server.certificateFor('admin')
    const [certificate, privateKey] = [cert, key].map((pem) => pem.toString('base64'))
    const user = { 'client-certificate-data': certificate, 'client-key-data': privateKey }
    expect(await read(cluster.server.kubeconfigWith(path('certificate'), user))).toBeNull()
  })

  it('gets its token from a program, as kubeconfig files of clouds say', async () => {
    cluster.server.addUser('of-a-program', 'admin')
    const credential = {
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: 'of-a-program' },
    }
    const exec = { apiVersion: credential.apiVersion, command: 'echo', args: [JSON.stringify(credential)] }
    expect(await read(cluster.server.kubeconfigWith(path('exec'), { exec }))).toBeNull()
    const failing = cluster.server.kubeconfigWith(path('failing'), { exec: { ...exec, command: 'false' } })
    expect((await failure(read(failing))).message).toMatch(/^cannot get credentials for the cluster/)
  })

  it.each([
    [500, 'the API server failed (500): etcd is gone', 3],
    [503, 'the API server failed (503): etcd is gone', 3],
    [429, 'the API server has too much to do (429)', 3],
    [400, 'the API server finds it invalid (400): etcd is gone', 1],
    [403, 'the API server refuses it (403): etcd is gone', 1],
  ])('that fails with %i is tried %s, and then explained', async (status, message, attempts) => {
    const before = cluster.server.calls.length
    cluster.server.fault = () => ({ status, message: 'etcd is gone' })
    const error = await failure(read(cluster.kubeconfig))
    expect(error.message).toBe(`cannot get secret/${namespace}/envoy: ${message}`)
    expect(error.hints.length).toBeGreaterThan(0)
    expect(cluster.server.calls.length - before).toBe(attempts)
  })

  it('waits as long as the API server asks it to', async () => {
    const before = cluster.server.calls.length
    cluster.server.fault = ({ number }) =>
      number === before + 1 ? { status: 429, reason: 'TooManyRequests', retryAfter: 1 } : null
    const began = performance.now()
    expect(await read(cluster.kubeconfig)).toBeNull()
    expect(performance.now() - began).toBeGreaterThan(990)
  })

  it('says that the namespace is missing before anything is written', async () => {
    const target = openImpatiently(cluster.server.kubeconfig(path('admin'))).target('nowhere/envoy')
    expect(await target.read()).toBeNull()
    const error = await failure(target.assertWritable())
    expect(error).toMatchObject({
      code: 'write-failed',
      message: 'cannot create secret/nowhere/envoy: there is no namespace nowhere (404)',
      hints: ['make it with: kubectl create namespace nowhere'],
    })
  })

  it('says that a Secret is immutable before anything is written', async () => {
    cluster.server.apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'stone', namespace },
      type: 'Opaque',
      immutable: true,
      data: {},
    })
    const target = openImpatiently(path('admin')).target(`${namespace}/stone`)
    await target.read()
    expect((await failure(target.assertWritable())).message).toContain('is immutable; nothing was written')
  })

  it('is not rehearsed where an admission webhook cannot be', async () => {
    const message = 'admission webhook "audit.example.org" does not support dry run'
    cluster.server.fault = ({ dryRun }) => (dryRun ? { status: 400, reason: 'BadRequest', message } : null)
    const target = openCluster({ kubeconfig: path('admin'), patience: impatient }).target(`${namespace}/audited`)
    await target.read()
    await target.assertWritable()
  })
})

describe('a run without a cluster', () => {
  const cluster = useCluster()

  it('says what it looked for', async () => {
    const env = { ...variables, HOME: cluster.directory }
    const { code, stderr } = await certgen(['--config', exampleConfig], { cwd: cluster.directory, env })
    expect(code).toBe(2)
    expect(stderr).toBe(
      'certgen: error: there is no cluster: no kubeconfig file, and no service account\n' +
        'certgen: hint: name a kubeconfig file with --kubeconfig FILE or KUBECONFIG\n' +
        'certgen: hint: in a pod: mount its service account token\n',
    )
  })

  it('finds the one of KUBECONFIG', async () => {
    const env = { ...variables, KUBECONFIG: cluster.kubeconfig }
    expect(await certgen(['--config', exampleConfig], { cwd: cluster.directory, env })).toMatchObject({ code: 0 })
  })

  it('says which contexts there are', async () => {
    const { code, stderr } = await runExample(cluster, ['--context', 'production'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/there is no context "production" in the kubeconfig file .*\ncertgen: hint: it has test\n/)
  })

  it('says that a kubeconfig file is missing', async () => {
    const { code, stderr } = await certgen(['restart', 'deployment/a/b', '--kubeconfig', '/nowhere'])
    expect(code).toBe(2)
    expect(stderr).toContain('certgen: error: cannot read the kubeconfig file /nowhere: ENOENT')
  })

  it('never sends a key over plain http', async () => {
    const kubeconfig = join(cluster.directory, 'plain')
    cluster.server.kubeconfigWith(kubeconfig, { token: 'admin-token' }, { server: 'http://127.0.0.1:8001' })
    const { code, stderr } = await certgen(['restart', 'deployment/a/b', '--kubeconfig', kubeconfig])
    expect(code).toBe(2)
    expect(stderr).toContain('certgen: error: the API server http://127.0.0.1:8001 is not reached by https')
  })
})
