/** The kinds of object that certgen touches, and how the API addresses them. */

export interface Resource {
  /** Empty for the core group. */
  readonly group: string
  readonly version: string
  /** As in paths and in RBAC rules. */
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
}

function resource(group: string, plural: string, kind: string, namespaced = true): Resource {
  return { group, version: 'v1', plural, kind, namespaced }
}

export const resources = {
  secret: resource('', 'secrets', 'Secret'),
  configmap: resource('', 'configmaps', 'ConfigMap'),
  pod: resource('', 'pods', 'Pod'),
  deployment: resource('apps', 'deployments', 'Deployment'),
  statefulset: resource('apps', 'statefulsets', 'StatefulSet'),
  daemonset: resource('apps', 'daemonsets', 'DaemonSet'),
  validatingwebhookconfiguration: resource(
    'admissionregistration.k8s.io',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    false,
  ),
  mutatingwebhookconfiguration: resource(
    'admissionregistration.k8s.io',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    false,
  ),
  apiservice: resource('apiregistration.k8s.io', 'apiservices', 'APIService', false),
  customresourcedefinition: resource(
    'apiextensions.k8s.io',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    false,
  ),
} as const satisfies Readonly<Record<string, Resource>>

/** One object. */
export interface ObjectRef {
  readonly resource: Resource
  /** null where the resource has none. */
  readonly namespace: string | null
  readonly name: string
}

/** What every object has, as far as certgen looks at it. */
export interface KubeObject {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly resourceVersion?: string
    readonly generation?: number
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
}

/** NAMESPACE/NAME, or NAME where there are no namespaces; the configuration and the flags have checked it. */
export function refOf(of: Resource, text: string): ObjectRef {
  const parts = text.split('/')
  const name = parts.at(-1) ?? ''
  return { resource: of, namespace: of.namespaced ? (parts[0] ?? '') : null, name }
}

/** As people write it: kind/namespace/name. */
export function formatRef({ resource: { kind }, namespace, name }: ObjectRef): string {
  return [kind.toLowerCase(), namespace, name].filter((part) => part !== null).join('/')
}

export function apiVersionOf({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`
}

/** The path of an object, or of all of them where there is no name. */
export function pathOf({ resource: of, namespace, name }: Omit<ObjectRef, 'name'> & { name: string | null }): string {
  const root = of.group === '' ? `/api/${of.version}` : `/apis/${of.group}/${of.version}`
  const parts = [...(namespace === null ? [] : ['namespaces', namespace]), of.plural, ...(name === null ? [] : [name])]
  return [root, ...parts.map(encodeURIComponent)].join('/')
}
