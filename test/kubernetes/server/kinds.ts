/** The kinds of object that the server keeps, as its discovery tells of them. */
export interface Kind {
  readonly group: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
  readonly shortNames: readonly string[]
}

function kind(group: string, plural: string, name: string, namespaced = true, ...shortNames: string[]): Kind {
  return { group, plural, kind: name, namespaced, shortNames }
}

const rbac = 'rbac.authorization.k8s.io'
const admission = 'admissionregistration.k8s.io'

/** All of them in version v1. */
export const kinds: readonly Kind[] = [
  kind('', 'namespaces', 'Namespace', false, 'ns'),
  kind('', 'secrets', 'Secret'),
  kind('', 'configmaps', 'ConfigMap', true, 'cm'),
  kind('', 'serviceaccounts', 'ServiceAccount', true, 'sa'),
  kind('', 'pods', 'Pod', true, 'po'),
  kind('apps', 'deployments', 'Deployment', true, 'deploy'),
  kind('apps', 'statefulsets', 'StatefulSet', true, 'sts'),
  kind('apps', 'daemonsets', 'DaemonSet', true, 'ds'),
  kind('batch', 'jobs', 'Job'),
  kind('batch', 'cronjobs', 'CronJob', true, 'cj'),
  kind(rbac, 'roles', 'Role'),
  kind(rbac, 'rolebindings', 'RoleBinding'),
  kind(rbac, 'clusterroles', 'ClusterRole', false),
  kind(rbac, 'clusterrolebindings', 'ClusterRoleBinding', false),
  kind(admission, 'mutatingwebhookconfigurations', 'MutatingWebhookConfiguration', false),
  kind(admission, 'validatingwebhookconfigurations', 'ValidatingWebhookConfiguration', false),
  kind('apiregistration.k8s.io', 'apiservices', 'APIService', false),
  kind('apiextensions.k8s.io', 'customresourcedefinitions', 'CustomResourceDefinition', false, 'crd'),
]

export function apiVersionOf({ group }: Kind): string {
  return group === '' ? 'v1' : `${group}/v1`
}

const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']

/** The answer to a path of discovery; null for any other path. */
export function discovery(path: string): object | null {
  const groups = [...new Set(kinds.map(({ group }) => group))]
  if (path === '/version') return { major: '1', minor: '32', gitVersion: 'v1.32.0' }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] }
  if (path === '/apis') {
    return {
      kind: 'APIGroupList',
      apiVersion: 'v1',
      groups: groups.filter(Boolean).map((name) => {
        const version = { groupVersion: `${name}/v1`, version: 'v1' }
        return { name, versions: [version], preferredVersion: version }
      }),
    }
  }
  const group = path === '/api/v1' ? '' : /^\/apis\/([^/]+)\/v1$/.exec(path)?.[1]
  if (group === undefined || !groups.includes(group)) return null
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? 'v1' : `${group}/v1`,
    resources: kinds
      .filter((each) => each.group === group)
      .map(({ plural, kind, namespaced, shortNames }) => {
        return { name: plural, singularName: kind.toLowerCase(), namespaced, kind, verbs, shortNames }
      }),
  }
}
