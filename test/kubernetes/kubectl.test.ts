import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { certgen, rotateJson } from '../program.ts'
import { missing } from '../requirements.ts'
import { useCluster } from './fixture.ts'

/** kubectl, as a second client: what it and certgen do to the server, the other understands. */
describe.skipIf(missing('kubectl'))('kubectl and certgen in one cluster', () => {
  const cluster = useCluster()
  const of = 'shop'
  let config = ''
  const kubectl = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], HOME: cluster.directory }
    const { stdout } = await promisify(execFile)('kubectl', ['--kubeconfig', config, ...args], { env })
    return stdout
  }
  const run = (...args: string[]) =>
    rotateJson([...args, '--kubeconfig', cluster.kubeconfig], { cwd: cluster.directory })
  const secret = async (name: string): Promise<Record<string, Buffer>> => {
    const { data } = JSON.parse(await kubectl('get', 'secret', name, '-n', of, '-o', 'json')) as {
      data: Record<string, string>
    }
    return Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text, 'base64')]))
  }

  beforeAll(async () => {
    config = cluster.server.kubeconfig(join(cluster.directory, 'admin'))
    cluster.server.kubeconfig(cluster.kubeconfig, 'system:serviceaccount:shop:certgen')
    for (const file of ['rbac', 'config', 'job', 'cronjob', 'deployment']) {
      await kubectl('apply', '--validate=false', '-f', `examples/kubernetes/${file}.yaml`)
    }
    const { data } = parse(await kubectl('get', 'configmap', 'certgen', '-n', of, '-o', 'yaml')) as {
      data: Record<string, string>
    }
    writeFileSync(join(cluster.directory, 'certgen.yaml'), data['certgen.yaml']!)
  })

  it('kubectl applies the examples, and certgen has the rights that they give it', async () => {
    const report = await run()
    expect(report).toMatchObject({ changed: true, leaves: [{ name: 'api' }, { name: 'worker' }] })
    expect(report.warnings.map(({ code }) => code)).toEqual(['bundle-absent'])
    const job = JSON.parse(await kubectl('get', 'cronjob', 'certgen', '-n', of, '-o', 'json')) as {
      spec: { jobTemplate: { spec: { template: { spec: { containers: { args: string[] }[] } } } } }
    }
    expect(job.spec.jobTemplate.spec.template.spec.containers[0]?.args).toContain('--renew')
  })

  it('kubectl reads what certgen has written', async () => {
    const { 'tls.crt': cert } = await secret('api')
    expect(new X509Certificate(cert!).subjectAltName).toContain('DNS:api.shop.svc')
    const managed = await kubectl(
      'get',
      'secrets',
      '-n',
      of,
      '-l',
      'app.kubernetes.io/managed-by=certgen',
      '-o',
      'name',
    )
    expect(managed.trim().split('\n').sort()).toEqual(
      ['api', 'certgen-authority', 'session-key', 'worker'].map((name) => `secret/${name}`),
    )
    expect(await kubectl('get', 'secret', 'api', '-n', of, '-o', 'jsonpath={.type}')).toBe('kubernetes.io/tls')
  })

  it('certgen keeps what kubectl has written, and kubectl what certgen has', async () => {
    await kubectl('label', 'secret', 'api', '-n', of, 'team=edge')
    await kubectl('annotate', 'secret', 'api', '-n', of, 'owner=ops')
    const before = await secret('api')
    await run('--overwrite')
    const metadata = await kubectl(
      'get',
      'secret',
      'api',
      '-n',
      of,
      '-o',
      'jsonpath={.metadata.labels.team} {.metadata.annotations.owner}',
    )
    expect(metadata).toBe('edge ops')
    expect((await secret('api'))['tls.crt']).not.toEqual(before['tls.crt'])
    const patch = JSON.stringify({ metadata: { labels: { team: 'core' } } })
    await kubectl('patch', 'secret', 'api', '-n', of, '--type', 'merge', '-p', patch)
    expect(await run()).toMatchObject({ changed: false })
  })

  it('certgen goes on from a Secret that kubectl has made, or deleted', async () => {
    await kubectl('delete', 'secret', 'api', '-n', of)
    expect((await run()).leaves).toMatchObject([{ name: 'api', reason: 'missing' }, { reason: 'kept' }])
    await kubectl('delete', 'secret', 'session-key', '-n', of)
    const literal = ['--from-literal=key=chosen by hand', '--dry-run=client', '-o', 'yaml']
    const manifest = join(cluster.directory, 'session-key.yaml')
    writeFileSync(manifest, await kubectl('create', 'secret', 'generic', 'session-key', '-n', of, ...literal))
    await kubectl('create', '--validate=false', '-f', manifest)
    expect(await run()).toMatchObject({ changed: false, actions: [] })
    expect((await secret('session-key'))['key']!.toString()).toBe('chosen by hand')
  })

  it('kubectl applies what certgen renders', async () => {
    const { code, stdout } = await certgen(['--render', '--overwrite', '--kubeconfig', cluster.kubeconfig], {
      cwd: cluster.directory,
    })
    expect(code).toBe(0)
    const manifests = join(cluster.directory, 'rendered.yaml')
    writeFileSync(manifests, stdout)
    await kubectl('apply', '--validate=false', '-f', manifests)
    expect(await run()).toMatchObject({ changed: false })
  })

  it('kubectl restarts, and follows, as certgen does', async () => {
    const deployment = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'worker', namespace: of } }
    const pods = { selector: { matchLabels: { app: 'worker' } }, template: { metadata: { labels: { app: 'worker' } } } }
    cluster.server.apply({ ...deployment, spec: { replicas: 1, ...pods } })
    const template = (): unknown => cluster.server.get('deployments', 'worker', of)!.spec!['template']
    await kubectl('rollout', 'restart', 'deployment/worker', '-n', of)
    const byKubectl = template()
    const { code } = await certgen(['restart', 'deployment/shop/worker', '--kubeconfig', cluster.kubeconfig])
    expect(code).toBe(0)
    const shape = (value: unknown): string => JSON.stringify(value).replaceAll(/"\d{4}-[^"]*"/g, '"WHEN"')
    expect(shape(template())).toBe(shape(byKubectl))
    expect(template()).not.toEqual(byKubectl)
    const status = kubectl('rollout', 'status', 'deployment/worker', '-n', of, '--timeout=60s')
    const done = { observedGeneration: 99, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1 }
    cluster.server.change('deployments', 'worker', of, { status: done })
    expect(await status).toContain('successfully rolled out')
    const wait = ['restart', 'deployment/shop/worker', '--wait', '60s', '--kubeconfig', cluster.kubeconfig]
    expect(await certgen(wait)).toMatchObject({ code: 0 })
  })

  it('kubectl is refused what certgen is refused, in the same words', async () => {
    const asCertgen = ['--kubeconfig', cluster.kubeconfig, 'get', 'secret', 'other', '-n', of]
    const refusal = promisify(execFile)('kubectl', asCertgen, {
      env: { PATH: process.env['PATH'], HOME: cluster.directory },
    })
    await expect(refusal).rejects.toThrow(
      'secrets "other" is forbidden: User "system:serviceaccount:shop:certgen" cannot get resource "secrets" in API group ""',
    )
  })
})
