/** Patches as the API server applies them. */

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch
  const result: Record<string, unknown> = isMap(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(result, key)
    else result[key] = mergePatch(result[key], value)
  }
  return result
}

/** The `patchMergeKey` of lists that are merged (their `patchStrategy` in k8s.io/api); all others are replaced. */
const mergeKeys: Readonly<Record<string, string>> = {
  webhooks: 'name',
  containers: 'name',
  initContainers: 'name',
  volumes: 'name',
  env: 'name',
  volumeMounts: 'mountPath',
  imagePullSecrets: 'name',
  ports: 'containerPort',
}

/** The part of strategic merge patches that clients here use: maps, lists by their merge key, `$patch`. */
export function strategicMergePatch(target: unknown, patch: unknown, field = ''): unknown {
  const mergeKey = mergeKeys[field]
  if (Array.isArray(patch) && mergeKey !== undefined) {
    return mergeList(Array.isArray(target) ? target : [], patch, mergeKey)
  }
  if (!isMap(patch)) return patch
  const result: Record<string, unknown> = isMap(target) && patch['$patch'] !== 'replace' ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) continue
    if (value === null) Reflect.deleteProperty(result, key)
    else result[key] = strategicMergePatch(result[key], value, key)
  }
  return result
}

function mergeList(target: readonly unknown[], patch: readonly unknown[], mergeKey: string): unknown[] {
  const keyOf = (item: unknown): unknown => (isMap(item) ? item[mergeKey] : undefined)
  const result = [...target]
  for (const change of patch) {
    const at = result.findIndex((item) => keyOf(item) === keyOf(change))
    if (isMap(change) && change['$patch'] === 'delete') {
      if (at >= 0) result.splice(at, 1)
    } else if (at < 0) {
      result.push(change)
    } else {
      result[at] = strategicMergePatch(result[at], change)
    }
  }
  return result
}

/** Equal as JSON, whatever the order of keys. */
export function sameJson(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b)
}

function canonical(value: unknown): string | undefined {
  return JSON.stringify(value, (_key, each: unknown) =>
    isMap(each) ? Object.fromEntries(Object.entries(each).sort(([one], [other]) => (one < other ? -1 : 1))) : each,
  )
}
