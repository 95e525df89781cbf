import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import { certgen, rotateJson } from '../program.ts'
import type { JsonReport } from '../program.ts'
import { Issuer } from '../reload/issuer.ts'
import { blocksOf, dataOf, useCluster } from './fixture.ts'

/** The bundle by itself: webhooks, APIServices, CRD conversion and ConfigMaps. */
describe('certgen with caBundle', () => {
  const cluster = useCluster()
  const of = 'shop'
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const service = { name: 'policy', namespace: of }
  const objects = {
    validating: {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'policy' },
      webhooks: ['a.policy.shop', 'b.policy.shop'].map((name) => {
        return { name, clientConfig: { service }, sideEffects: 'None', timeoutSeconds: 5 }
      }),
    },
    apiService: {
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: 'v1.metrics.shop' },
      spec: { service, group: 'metrics.shop', version: 'v1', groupPriorityMinimum: 100, versionPriority: 100 },
    },
    definition: {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'orders.shop' },
      spec: {
        group: 'shop',
        conversion: { strategy: 'Webhook', webhook: { clientConfig: { service }, conversionReviewVersions: ['v1'] } },
      },
    },
    plain: {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'plain.shop' },
      spec: { group: 'shop', conversion: { strategy: 'None' } },
    },
  }
  const config = (places: readonly string[]): void => {
    const lines = [
      'authority:',
      '  secret: shop/authority',
      `  caBundle: [${places.join(', ')}]`,
      'certificates: [{ name: policy, dns: policy.shop.svc, secret: shop/policy }]',
    ]
    writeFileSync(join(cluster.directory, 'certgen.yaml'), lines.join('\n'))
  }
  const run = (...args: string[]): Promise<JsonReport> =>
    rotateJson([...args, '--kubeconfig', cluster.kubeconfig], { cwd: cluster.directory })
  const everywhere = [
    'validatingwebhookconfiguration/policy',
    'apiservice/v1.metrics.shop',
    'customresourcedefinition/orders.shop',
    'configmap/shop/ca-bundle',
  ]
  interface Held {
    readonly webhooks: readonly { readonly clientConfig: { readonly caBundle?: string } }[]
    readonly spec: {
      readonly caBundle?: string
      readonly conversion: { readonly webhook: { readonly clientConfig: { readonly caBundle?: string } } }
    }
    readonly data: Readonly<Record<string, string>>
  }
  /** Every bundle that is published, PEM. */
  const published = (): string[] => {
    const get = (plural: string, name: string, within: string | null = null): Held =>
      cluster.server.get(plural, name, within) as unknown as Held
    const decode = ({ caBundle = '' }: { readonly caBundle?: string }): string =>
      Buffer.from(caBundle, 'base64').toString()
    return [
      ...get('validatingwebhookconfigurations', 'policy').webhooks.map(({ clientConfig }) => decode(clientConfig)),
      decode(get('apiservices', 'v1.metrics.shop').spec),
      decode(get('customresourcedefinitions', 'orders.shop').spec.conversion.webhook.clientConfig),
      get('configmaps', 'ca-bundle', of).data['ca.crt'] ?? '',
    ]
  }
  const bundle = (): string => dataOf(cluster.server, 'policy', of)['ca.crt']!.toString()

  beforeAll(() => {
    cluster.server.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: of } }, ...Object.values(objects))
    cluster.server.kubeconfig(cluster.kubeconfig)
    config(everywhere)
  })
  afterEach(() => {
    cluster.server.fault = () => null
  })

  it('publishes it to every webhook, the APIService, the conversion and the ConfigMap, and leaves the rest alone', async () => {
    const report = await run()
    expect(report.bundles).toEqual(everywhere.map((path) => ({ path, changed: true, detail: null })))
    expect(published()).toEqual(Array(5).fill(bundle()))
    const { webhooks } = cluster.server.get('validatingwebhookconfigurations', 'policy')!
    const withBundle = objects.validating.webhooks.map((each) => {
      return { ...each, clientConfig: { ...each.clientConfig, caBundle: base64(bundle()) } }
    })
    expect(webhooks).toEqual(withBundle)
    expect(cluster.server.get('apiservices', 'v1.metrics.shop')!.spec).toMatchObject(objects.apiService.spec)
    expect(cluster.server.get('customresourcedefinitions', 'orders.shop')!.spec).toMatchObject(objects.definition.spec)
  })

  it('writes none again that is right (I5)', async () => {
    const before = cluster.server.calls.length
    expect(await run()).toMatchObject({ changed: false, bundles: Array(4).fill({ changed: false }) })
    expect(cluster.server.callsAfter(before).every(({ verb }) => verb === 'get')).toBe(true)
  })

  it('publishes both roots before a leaf of the new one is written (I6)', async () => {
    const [old] = blocksOf(bundle())
    const seen: string[][] = []
    cluster.server.fault = ({ verb, name, dryRun }) => {
      if (verb === 'patch' && name === 'policy' && !dryRun) seen.push(published())
      return null
    }
    await run('--overwrite')
    expect(blocksOf(bundle())).toHaveLength(2)
    expect(blocksOf(bundle())[1]).toBe(old)
    // The first of these patches is the webhooks' own.
    expect(seen.at(-1)).toEqual(Array(5).fill(bundle()))
    expect(published()).toEqual(Array(5).fill(bundle()))
  })

  it('carries over no second root with the next rotation', async () => {
    const [old] = blocksOf(bundle())
    await run('--overwrite')
    expect(blocksOf(bundle())[1]).toBe(old)
    expect(published()).toEqual(Array(5).fill(bundle()))
  })

  it('leaves all leaves alone when one cannot be published, and the next run goes on', async () => {
    const before = dataOf(cluster.server, 'policy', of)
    cluster.server.fault = ({ verb, plural, dryRun }) =>
      verb === 'patch' && plural === 'apiservices' && !dryRun ? { status: 422, reason: 'Invalid', message: 'no' } : null
    const { code } = await certgen(['--overwrite', '--kubeconfig', cluster.kubeconfig], { cwd: cluster.directory })
    expect(code).toBe(5)
    expect(dataOf(cluster.server, 'policy', of)).toEqual(before)
    cluster.server.fault = () => null
    expect((await run()).leaves).toMatchObject([{ reason: 'unfinished' }])
    expect(published()).toEqual(Array(5).fill(bundle()))
  })

  it('mends one that others have emptied or damaged, in a run with nothing else to do', async () => {
    const clientConfig = (caBundle: string): object => ({ ...objects.validating.webhooks[0]!.clientConfig, caBundle })
    const [first, second] = objects.validating.webhooks
    cluster.server.change('validatingwebhookconfigurations', 'policy', null, {
      webhooks: [
        { ...first, clientConfig: clientConfig(base64('garbage')) },
        { ...second, clientConfig: clientConfig(base64(bundle())) },
      ],
    })
    cluster.server.change('configmaps', 'ca-bundle', of, { data: { 'ca.crt': '' } })
    expect(await run('--dry-run')).toMatchObject({ changed: false })
    expect(published()[0]).toBe('garbage')
    const report = await run()
    expect(report).toMatchObject({ changed: true, leaves: [{ changed: false }] })
    expect(report.bundles?.map(({ changed }) => changed)).toEqual([true, false, false, true])
    expect(published()).toEqual(Array(5).fill(bundle()))
  })

  it('writes over what others change meanwhile in nothing but the bundle', async () => {
    let times = 0
    cluster.server.fault = ({ verb, plural, dryRun }) => {
      if (verb !== 'patch' || plural !== 'validatingwebhookconfigurations' || dryRun || ++times > 2) return null
      const [first, second] = objects.validating.webhooks
      const change = { webhooks: [{ ...first, timeoutSeconds: 10 + times }, second] }
      return { first: () => void cluster.server.change('validatingwebhookconfigurations', 'policy', null, change) }
    }
    await run('--overwrite')
    expect(published()).toEqual(Array(5).fill(bundle()))
    expect(cluster.server.get('validatingwebhookconfigurations', 'policy')!['webhooks']).toMatchObject([
      { timeoutSeconds: 12 },
      { timeoutSeconds: 5 },
    ])
  })

  it('carries over the root of somebody else, whose leaves are in use until its own are', async () => {
    const issuer = new Issuer()
    const { ca } = await issuer.set(await issuer.authority())
    const place = openCluster({ kubeconfig: cluster.kubeconfig }).bundle('apiservice/v1.metrics.shop')
    await place.write(ca)
    await run()
    const taken = published()[2]!
    expect(blocksOf(taken)).toHaveLength(2)
    await place.write(ca)
    await run('--overwrite', '--distrust-previous')
    expect(blocksOf(published()[2])).toEqual([blocksOf(bundle())[0], blocksOf(ca)[0]])
  })

  it('drops an authority of its own that is distrusted', async () => {
    const [distrusted] = blocksOf(bundle())
    await run('--overwrite', '--distrust-previous')
    for (const each of published()) expect(blocksOf(each)).not.toContain(distrusted)
    expect(new X509Certificate(blocksOf(bundle())[0]!).ca).toBe(true)
  })

  it('warns of a place that is not there, or holds none, and goes on', async () => {
    config(['mutatingwebhookconfiguration/later', 'customresourcedefinition/plain.shop'])
    const report = await run()
    expect(report.bundles).toEqual([
      { path: 'mutatingwebhookconfiguration/later', changed: false, detail: 'there is none yet' },
      { path: 'customresourcedefinition/plain.shop', changed: false, detail: 'it has no conversion webhook' },
    ])
    expect(report.warnings.map(({ code }) => code)).toEqual(['bundle-absent', 'bundle-absent'])
  })
})
