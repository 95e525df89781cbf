import { stringify } from 'yaml'
import type { Api, Patch } from './api.ts'
import { formatRef } from './resource.ts'
import type { KubeObject, ObjectRef } from './resource.ts'

/** An Api that reads the cluster and writes nothing to it; what would have been written is kept, and can be read back. */
export interface RenderingApi extends Api {
  /** What would have been written, in its order, as YAML for `kubectl apply`. */
  readonly manifests: () => string
}

/** `cluster`: null where there is none, and so nothing to read. */
export function renderingApi(cluster: Api | null): RenderingApi {
  const rendered = new Map<string, KubeObject>()
  const get = async <T extends KubeObject>(ref: ObjectRef): Promise<T | null> =>
    (rendered.get(formatRef(ref)) as T | undefined) ?? (await cluster?.get<T>(ref)) ?? null
  return {
    get,
    list: async <T extends KubeObject>(scope: Parameters<Api['list']>[0]) => {
      // Whoever lists would miss what is only rendered: let it read one by one.
      if (rendered.size > 0) return 'forbidden'
      return (await cluster?.list<T>(scope)) ?? []
    },
    create: <T extends KubeObject>(ref: ObjectRef, object: object): Promise<T | 'exists'> => {
      rendered.set(formatRef(ref), object as T)
      return Promise.resolve(object as T)
    },
    patch: async <T extends KubeObject>(ref: ObjectRef, patch: Patch): Promise<T | 'conflict' | 'missing'> => {
      const current = await get<T>(ref)
      if (!current) return 'missing'
      const next = apply(current, patch) as T
      rendered.set(formatRef(ref), next)
      return next
    },
    rehearse: () => Promise.resolve(),
    watch: () => {
      throw new Error('nothing is rolled out by manifests')
    },
    manifests: () => [...rendered.values()].map((object) => stringify(forApply(object))).join('---\n'),
  }
}

/** What the API server keeps for itself is not to be applied. */
function forApply({ metadata, ...object }: KubeObject): object {
  const { name, namespace, labels, annotations } = metadata
  const rest = Object.entries(object).filter(([key]) => key !== 'status')
  return { ...Object.fromEntries(rest), metadata: { name, namespace, labels, annotations } }
}

/** Patches as certgen makes them: lists are lists of named things, and merged by their names. */
function apply(target: unknown, { value }: Patch): unknown {
  return merge(target, value)
}

function merge(target: unknown, patch: unknown): unknown {
  if (Array.isArray(patch)) return mergeNamed(Array.isArray(target) ? target : [], patch)
  if (!isRecord(patch)) return patch
  const result: Record<string, unknown> = isRecord(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    const merged = merge(result[key], value)
    if (value === null) Reflect.deleteProperty(result, key)
    else result[key] = merged
  }
  return result
}

function mergeNamed(target: readonly unknown[], patch: readonly unknown[]): unknown[] {
  const nameOf = (item: unknown): unknown => (isRecord(item) ? item['name'] : undefined)
  return target.map((item) => {
    const change = patch.find((candidate) => nameOf(candidate) === nameOf(item))
    return change === undefined ? item : merge(item, change)
  })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
