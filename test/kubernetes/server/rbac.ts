/** Role-based access control as the API server does it: https://kubernetes.io/docs/reference/access-authn-authz/rbac/ */

export interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
  readonly resourceNames?: readonly string[]
}

/** What is asked. `name` is null for a list and for what is created: no rule with names permits those. */
export interface Attributes {
  readonly user: string
  readonly verb: string
  readonly group: string
  readonly plural: string
  readonly namespace: string | null
  readonly name: string | null
}

interface Subject {
  readonly kind: string
  readonly name: string
  readonly namespace?: string
}

interface Binding {
  readonly metadata: { readonly namespace?: string }
  readonly subjects?: readonly Subject[]
  readonly roleRef: { readonly kind: string; readonly name: string }
}

interface Role {
  readonly rules?: readonly Rule[]
}

/** Objects of a kind, by plural; of a namespace, or of the cluster with null. */
export type Lookup = (plural: string, namespace: string | null) => readonly { metadata: { name: string } }[]

export function permits(attributes: Attributes, lookup: Lookup): boolean {
  const { user, namespace } = attributes
  const inCluster = lookup('clusterrolebindings', null) as unknown as Binding[]
  const inNamespace = namespace === null ? [] : (lookup('rolebindings', namespace) as unknown as Binding[])
  return [...inCluster, ...inNamespace]
    .filter(({ subjects = [] }) => subjects.some((subject) => userOf(subject) === user))
    .flatMap((binding) => rulesOf(binding, lookup))
    .some((rule) => covers(rule, attributes))
}

function userOf({ kind, name, namespace = '' }: Subject): string {
  return kind === 'ServiceAccount' ? `system:serviceaccount:${namespace}:${name}` : name
}

function rulesOf({ roleRef, metadata }: Binding, lookup: Lookup): readonly Rule[] {
  const [plural, namespace] =
    roleRef.kind === 'ClusterRole' ? (['clusterroles', null] as const) : (['roles', metadata.namespace ?? ''] as const)
  const role = lookup(plural, namespace).find(({ metadata: { name } }) => name === roleRef.name)
  return (role as Role | undefined)?.rules ?? []
}

function covers(rule: Rule, { verb, group, plural, name }: Attributes): boolean {
  const has = (list: readonly string[], value: string): boolean => list.includes(value) || list.includes('*')
  if (!has(rule.verbs, verb) || !has(rule.apiGroups, group) || !has(rule.resources, plural)) return false
  if (rule.resourceNames === undefined || rule.resourceNames.length === 0) return true
  return name !== null && rule.resourceNames.includes(name)
}

export function refusalOf({ user, verb, group, plural, namespace, name }: Attributes): string {
  const what = name === null ? plural : `${plural} ${JSON.stringify(name)}`
  const where = namespace === null ? 'at the cluster scope' : `in the namespace ${JSON.stringify(namespace)}`
  return `${what} is forbidden: User ${JSON.stringify(user)} cannot ${verb} resource ${JSON.stringify(plural)} in API group ${JSON.stringify(group)} ${where}`
}
