import { conflict } from '../../store/conflict.ts'
import { sameContents } from '../../store/target-store.ts'
import type { TargetContents, TargetStore } from '../../store/target-store.ts'
import type { Api } from './api.ts'
import { formatRef } from './resource.ts'
import type { ObjectRef } from './resource.ts'
import { dataOf, rehearseSecret, replaceSecret, writtenAt, writtenAtAnnotation } from './secret.ts'
import type { Secret } from './secret.ts'
import type { SecretReader } from './secret-reader.ts'

/** A JSON list of what has to follow the write of this Secret; see TargetContents.undelivered. */
const undeliveredAnnotation = 'certgen/undelivered'
const settleAttempts = 5

/**
 * A Secret that a leaf is published to, under the names that the API gives such Secrets. The API keeps one version, and
 * nothing would read an older one: who mounts the Secret has a copy of its own until kubelet replaces it whole. So there
 * is no previous generation to go back to; another rotation is as safe and needs none.
 */
export function secretTarget(ref: ObjectRef, api: () => Promise<Api>, reader: SecretReader): TargetStore {
  const path = formatRef(ref)
  const names = { ca: 'ca.crt', cert: 'tls.crt', key: 'tls.key' } as const
  /** What the plan was made from, and so what a write may replace. */
  let seen: Secret | null = null
  reader.want(ref)
  const contentsOf = (secret: Secret): TargetContents | null => {
    const [ca, cert, key] = [dataOf(secret, names.ca), dataOf(secret, names.cert), dataOf(secret, names.key)]
    if (!ca && !cert && !key) return null
    const written = writtenAt(secret)
    return {
      ...{ ca, cert, key },
      generation: written === null ? '' : (secret.metadata.resourceVersion ?? ''),
      writtenAt: written,
      undelivered: undeliveredOf(secret),
      conforms: ca !== null && cert !== null && key !== null,
      copiesAgree: true,
      standsIn: false,
    }
  }
  return {
    path,
    places: [{ object: path }],
    keepsPrevious: false,
    pathOf: (part) => `${path}/${names[part]}`,
    read: async () => {
      seen = await reader.read(ref)
      return seen && contentsOf(seen)
    },
    readPrevious: () => Promise.resolve(null),
    assertWritable: async () => rehearseSecret(await api(), ref, seen),
    write: async ({ ca, cert, key }, { now, beforeSwap, undelivered = [] }) => {
      await beforeSwap?.()
      reader.noteWritten(ref)
      seen = await replaceSecret(await api(), ref, seen, {
        type: 'kubernetes.io/tls',
        data: { [names.ca]: ca, [names.cert]: cert, [names.key]: key },
        annotations: { [writtenAtAnnotation]: now.toISOString(), [undeliveredAnnotation]: encode(undelivered) },
      })
      return []
    },
    // A Secret is whole at every instant.
    repair: () => Promise.resolve([]),
    settle: async (current, left) => {
      let version = current.generation
      for (let attempt = 1; attempt <= settleAttempts; attempt++) {
        const result = await noteUndelivered(await api(), ref, version, left)
        if (result !== 'conflict') return
        const secret = await (await api()).get<Secret>(ref)
        // What is there now has its own list.
        if (!secret || !sameContents(contentsOf(secret), current)) return
        version = secret.metadata.resourceVersion ?? ''
      }
      throw conflict(path)
    },
  }
}

function noteUndelivered(
  api: Api,
  ref: ObjectRef,
  resourceVersion: string,
  left: readonly string[],
): Promise<Secret | 'conflict' | 'missing'> {
  return api.patch<Secret>(ref, {
    type: 'application/merge-patch+json',
    value: { metadata: { resourceVersion, annotations: { [undeliveredAnnotation]: encode(left) } } },
  })
}

function encode(undelivered: readonly string[]): string | null {
  return undelivered.length === 0 ? null : JSON.stringify(undelivered)
}

/** An annotation that somebody has mangled says nothing. */
function undeliveredOf({ metadata: { annotations } }: Secret): readonly string[] {
  try {
    const list: unknown = JSON.parse(annotations?.[undeliveredAnnotation] ?? '[]')
    return Array.isArray(list) ? list.filter((entry): entry is string => typeof entry === 'string') : []
  } catch {
    return []
  }
}
