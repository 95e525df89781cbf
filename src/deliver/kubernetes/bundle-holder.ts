import { conflict } from '../../store/conflict.ts'
import type { BundleStore, PublishedBundle } from '../../store/bundle-store.ts'
import type { Api, Patch } from './api.ts'
import { apiVersionOf, formatRef, refOf, resources } from './resource.ts'
import type { KubeObject, ObjectRef } from './resource.ts'
import { labels, rehearsal } from './secret.ts'

/** Where kinds of objects hold bundles, and how they are put there. */
interface Holder<T extends KubeObject> {
  /** PEM; empty where there is none yet. */
  readonly bundles: (object: T) => readonly Buffer[]
  readonly patch: (object: T, bundle: Buffer) => Patch
  /** Why there may be no place in one that exists. */
  readonly placeless: string
}

interface ClientConfig {
  /** Base64. */
  readonly caBundle?: string
}

interface WebhookConfiguration extends KubeObject {
  readonly webhooks?: readonly { readonly name: string; readonly clientConfig: ClientConfig }[]
}

interface ApiService extends KubeObject {
  readonly spec: ClientConfig & { readonly service?: object }
}

interface Definition extends KubeObject {
  readonly spec: { readonly conversion?: { readonly webhook?: { readonly clientConfig?: ClientConfig } } }
}

interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>
}

const webhooks: Holder<WebhookConfiguration> = {
  bundles: (object) => (object.webhooks ?? []).map(({ clientConfig }) => octetsOf(clientConfig)),
  patch: (object, bundle) => ({
    // By this type of patch the API finds the webhooks by their names, and leaves the rest of them as it is.
    type: 'application/strategic-merge-patch+json',
    value: {
      webhooks: (object.webhooks ?? []).map(({ name }) => {
        return { name, clientConfig: { caBundle: bundle.toString('base64') } }
      }),
    },
  }),
  placeless: 'it has no webhooks',
}

const apiServices: Holder<ApiService> = {
  bundles: ({ spec }) => (spec.service ? [octetsOf(spec)] : []),
  patch: (_object, bundle) => merge({ spec: { caBundle: bundle.toString('base64') } }),
  placeless: 'it has no service',
}

const definitions: Holder<Definition> = {
  bundles: ({ spec }) =>
    spec.conversion?.webhook?.clientConfig ? [octetsOf(spec.conversion.webhook.clientConfig)] : [],
  patch: (_object, bundle) =>
    merge({ spec: { conversion: { webhook: { clientConfig: { caBundle: bundle.toString('base64') } } } } }),
  placeless: 'it has no conversion webhook',
}

const configMapKey = 'ca.crt'
const configMaps: Holder<ConfigMap> = {
  bundles: ({ data }) => [Buffer.from(data?.[configMapKey] ?? '')],
  patch: (_object, bundle) => merge({ data: { [configMapKey]: bundle.toString('utf8') } }),
  placeless: '',
}

function octetsOf({ caBundle = '' }: ClientConfig): Buffer {
  return Buffer.from(caBundle, 'base64')
}

function merge(value: object): Patch {
  return { type: 'application/merge-patch+json', value }
}

/** A place as the configuration names it: KIND/NAME, or configmap/NAMESPACE/NAME. */
export function bundleHolder(place: string, api: () => Promise<Api>): BundleStore {
  const [kind = '', ...rest] = place.split('/')
  const name = rest.join('/')
  switch (kind) {
    case 'validatingwebhookconfiguration':
    case 'mutatingwebhookconfiguration':
      return holderStore(refOf(resources[kind], name), webhooks, api)
    case 'apiservice':
      return holderStore(refOf(resources.apiservice, name), apiServices, api)
    case 'customresourcedefinition':
      return holderStore(refOf(resources.customresourcedefinition, name), definitions, api)
    case 'configmap':
      return holderStore(refOf(resources.configmap, name), configMaps, api, newConfigMap)
    default:
      throw new Error(`${place} is not a place for a bundle`)
  }
}

function newConfigMap({ name, namespace }: ObjectRef, bundle: Buffer): object {
  return {
    apiVersion: apiVersionOf(resources.configmap),
    kind: resources.configmap.kind,
    metadata: { name, namespace, labels },
    data: { [configMapKey]: bundle.toString('utf8') },
  }
}

const attempts = 5

/** `make`: what to create where nothing is; without it, an object is somebody else's to make. */
function holderStore<T extends KubeObject>(
  ref: ObjectRef,
  holder: Holder<T>,
  api: () => Promise<Api>,
  make?: (ref: ObjectRef, bundle: Buffer) => object,
): BundleStore {
  const path = formatRef(ref)
  const get = async (): Promise<T | null> => (await api()).get<T>(ref)
  const put = async (seen: T | null, bundle: Buffer): Promise<T | string> => {
    if (!seen) return make ? (await api()).create<T>(ref, make(ref, bundle)) : 'missing'
    const { type, value } = holder.patch(seen, bundle)
    const { resourceVersion } = seen.metadata
    return (await api()).patch<T>(ref, { type, value: { ...value, metadata: { resourceVersion } } })
  }
  return {
    path,
    place: { object: path },
    read: async (): Promise<PublishedBundle> => {
      const object = await get()
      if (!object) return make ? { absent: null, bundles: [] } : { absent: 'there is none yet' }
      const bundles = holder.bundles(object)
      if (bundles.length === 0) return { absent: holder.placeless }
      return {
        absent: null,
        bundles: bundles.filter((one, at) => bundles.findIndex((each) => each.equals(one)) === at),
      }
    },
    assertWritable: async () => {
      const object = await get()
      if (object) await (await api()).rehearse(ref, { patch: rehearsal })
      else if (make) await (await api()).rehearse(ref, { create: make(ref, Buffer.alloc(0)) })
    },
    write: async (bundle) => {
      for (let attempt = 1; attempt <= attempts; attempt++) {
        const object = await get()
        if (object && holder.bundles(object).every((each) => each.equals(bundle))) return
        // Of an object that others change meanwhile, only the bundle is ours.
        if (typeof (await put(object, bundle)) !== 'string') return
      }
      throw conflict(path)
    },
  }
}
