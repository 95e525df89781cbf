import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { certgen, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { exampleConfig, injector, namespace, rateLimit, rbac, serviceAccount, variables } from './fixture.ts'
import { ApiServer } from './server/api-server.ts'
import type { Rule } from './server/rbac.ts'

// Issue 6, shown by 5.

const shopRbac = readFileSync('examples/kubernetes/rbac.yaml', 'utf8')
const shopConfig = (parse(readFileSync('examples/kubernetes/config.yaml', 'utf8')) as { data: Record<string, string> })
  .data['certgen.yaml']!
const worker = { ...rateLimit, metadata: { name: 'worker', namespace: 'shop' } }
const policy = {
  ...injector,
  kind: 'ValidatingWebhookConfiguration',
  metadata: { name: 'shop-policy' },
}

/** One verb on one resource, of one name where the rule has names: the least that can be missing. */
interface Right {
  readonly role: string
  readonly namespace: string | null
  readonly rule: Rule
}

function rightsOf(manifests: string): Right[] {
  return parseAllDocuments(manifests).flatMap((document) => {
    const role = document.toJS() as { kind: string; metadata: { name: string; namespace?: string }; rules?: Rule[] }
    const { name, namespace: of = null } = role.metadata
    return (role.rules ?? []).flatMap(({ apiGroups, resources, verbs, resourceNames }) =>
      resources.flatMap((resource) =>
        verbs.flatMap((verb) =>
          (resourceNames?.map((each) => [each]) ?? [undefined]).map((names): Right => {
            const rule = { apiGroups, resources: [resource], verbs: [verb], ...(names ? { resourceNames: names } : {}) }
            return { role: name, namespace: of, rule }
          }),
        ),
      ),
    )
  })
}

function describeRight({ rule: { resources, verbs, resourceNames } }: Right): string {
  return [...verbs, ...resources, ...(resourceNames ?? [])].join(' ')
}

class Rights {
  readonly #server: ApiServer
  readonly #all: readonly Right[]

  constructor(server: ApiServer, all: readonly Right[]) {
    this.#server = server
    this.#all = all
  }

  grantAllBut(missing: Right | null): void {
    for (const { role, namespace: of } of this.#all) {
      const rules = this.#all.filter((each) => each.role === role && each !== missing).map(({ rule }) => rule)
      this.#server.change(of === null ? 'clusterroles' : 'roles', role, of, { rules })
    }
  }

  /** Grants what an error advises to add, as whoever reads it would. Returns the rule. */
  grantAsAdvised(text: string): Rule {
    const advice = /add to (?:a Role in (\S+)|a ClusterRole): (- \{.*?\})(?:\n|$|;)/.exec(text)
    if (!advice) throw new Error(`nothing is advised: ${text}`)
    const [rule] = parse(advice[2]!) as [Rule]
    const of = advice[1] ?? null
    const { role } = this.#all.find((right) => right.namespace === of)!
    const plural = of === null ? 'clusterroles' : 'roles'
    const { rules } = this.#server.get(plural, role, of) as unknown as { rules: Rule[] }
    this.#server.change(plural, role, of, { rules: [...rules, rule] })
    return rule
  }
}

describe.each([
  {
    example: 'examples/kubernetes',
    of: 'shop',
    manifests: shopRbac,
    user: 'system:serviceaccount:shop:certgen',
    objects: [worker, policy],
  },
  {
    example: 'examples/envoy-gateway.yaml',
    of: namespace,
    manifests: rbac,
    user: serviceAccount,
    objects: [rateLimit, injector],
  },
])('the rights that are shipped with $example', ({ of, manifests, user, objects }) => {
  const directory = temporaryDirectory()
  const kubeconfig = join(directory, 'kubeconfig')
  const config = of === 'shop' ? join(directory, 'certgen.yaml') : exampleConfig
  const rights = rightsOf(manifests)
  // Of one example every right is taken away, of the other one each rule's first.
  const tried =
    of === 'shop'
      ? rights
      : rights.filter(({ rule: { verbs, resources } }, index) => {
          const before = rights[index - 1]?.rule
          return before?.verbs[0] !== verbs[0] || before?.resources[0] !== resources[0]
        })
  let server: ApiServer
  let granted: Rights

  beforeAll(async () => {
    server = await ApiServer.start()
    server.apply(manifests, ...objects)
    server.kubeconfig(kubeconfig, user)
    granted = new Rights(server, rights)
    if (of === 'shop') writeFileSync(config, shopConfig)
  })
  afterAll(() => server.close())

  const rotate = (...args: string[]): Promise<Outcome> =>
    certgen(['rotate', '--config', config, '--kubeconfig', kubeconfig, ...args], { cwd: directory, env: variables })
  const restart = (): Promise<Outcome> =>
    certgen(['restart', 'deployment/shop/worker', '--wait', '1s', '--kubeconfig', kubeconfig], { cwd: directory })
  const written = (from: number): number =>
    server.callsAfter(from).filter(({ verb, dryRun }) => !dryRun && ['create', 'patch'].includes(verb)).length
  const isWaiting = ({ rule: { verbs } }: Right): boolean => verbs.includes('watch') || verbs.includes('list')

  it('are enough to make, keep and rotate everything', async () => {
    for (const args of [[], [], ['--renew'], ['--overwrite'], ['--overwrite', '--keep-ca']]) {
      expect(await rotate(...args)).toMatchObject({ code: 0 })
    }
  })

  it.each(tried.filter((right) => !isWaiting(right)).map((right) => [describeRight(right), right] as const))(
    'are the least: without %s certgen names the rule, and with it succeeds',
    async (_name, right) => {
      const [verb] = right.rule.verbs
      const [plural] = right.rule.resources
      // What is there needs no right to be made; bundles and random secrets are in use at once.
      const made =
        verb === 'create' ? server.all(plural!, of).filter(({ metadata }) => metadata.name !== 'certgen') : []
      for (const { metadata } of made) server.remove(plural!, metadata.name, of)
      granted.grantAllBut(right)
      const before = server.calls.length
      const { code, stdout, stderr } = await rotate(
        '--overwrite',
        '--rotate-random',
        of === 'shop' ? 'session-key' : 'oidc-hmac',
      )
      expect([2, 5, 7]).toContain(code)
      // What has to follow fails after the write; all else before it.
      if (code !== 7) expect(written(before)).toBe(0)
      expect(granted.grantAsAdvised(stderr + stdout)).toEqual(right.rule)
      expect(await rotate('--overwrite', '--rotate-random', of === 'shop' ? 'session-key' : 'oidc-hmac')).toMatchObject(
        { code: 0 },
      )
    },
  )

  it.runIf(of === 'shop').each(rights.filter(isWaiting).map((right) => [describeRight(right), right] as const))(
    'are the least to wait for a rollout: without %s certgen restart names the rule',
    async (_name, right) => {
      granted.grantAllBut(right)
      const { code, stdout, stderr } = await restart()
      expect([2, 7]).toContain(code)
      expect(granted.grantAsAdvised(stderr + stdout)).toEqual(right.rule)
      const after = await restart()
      expect(after.code).toBe(7)
      expect(after.stdout).toMatch(/not done in time/)
      expect(after.stdout + after.stderr).not.toMatch(/add to a Role/)
    },
  )
})
