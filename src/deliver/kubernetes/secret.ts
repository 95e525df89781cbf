import { conflict } from '../../store/conflict.ts'
import { CertgenError } from '../../errors.ts'
import type { Api, Patch } from './api.ts'
import { apiVersionOf, formatRef, resources } from './resource.ts'
import type { KubeObject, ObjectRef } from './resource.ts'

export interface Secret extends KubeObject {
  readonly type?: string
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>
  readonly immutable?: boolean
}

/** What certgen writes to a Secret; everything else that is in it stays. */
export interface SecretContent {
  /** Of one that is made; the type of a Secret never changes. */
  readonly type: 'kubernetes.io/tls' | 'Opaque'
  /** null: this key is to go. */
  readonly data: Readonly<Record<string, Buffer | null>>
  readonly annotations: Readonly<Record<string, string | null>>
}

/** On what certgen makes, so that people can find it: `kubectl get secrets -l app.kubernetes.io/managed-by=certgen`. */
export const labels = { 'app.kubernetes.io/managed-by': 'certgen' } as const

/** ISO 8601: when certgen wrote the Secret. */
export const writtenAtAnnotation = 'certgen/written-at'

/** The octets of a key; null when it is missing or empty, as in a Secret that is only a place for them. */
export function dataOf(secret: Secret, key: string): Buffer | null {
  const text = secret.data?.[key] ?? ''
  return text === '' ? null : Buffer.from(text, 'base64')
}

/** When certgen wrote it; null for a Secret of somebody else. */
export function writtenAt({ metadata: { annotations } }: Secret): Date | null {
  const time = new Date(annotations?.[writtenAtAnnotation] ?? '')
  return Number.isNaN(time.getTime()) ? null : time
}

const attempts = 5

/**
 * Writes what `seen` is to become; null: nothing was there. Each try names the version that it replaces. After a conflict
 * the Secret is looked at again: the write may have been our own, its answer lost; and where only labels or keys of
 * others have changed, it is tried again. Throws CertgenError `conflict` when another run has written it since it was
 * seen, and `write-failed`.
 */
export async function replaceSecret(
  api: Api,
  ref: ObjectRef,
  seen: Secret | null,
  content: SecretContent,
): Promise<Secret> {
  let known = seen
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const result: Secret | string = known
      ? await api.patch<Secret>(ref, patchOf(known, content))
      : await api.create<Secret>(ref, manifestOf(ref, content))
    if (typeof result !== 'string') return result
    const current = await api.get<Secret>(ref)
    if (current && holds(current, content)) return current
    if (!sameData(current, known, content)) throw conflict(formatRef(ref))
    known = current
  }
  throw conflict(formatRef(ref))
}

/** Asks for what every write of an object needs, and changes nothing that anybody looks at, were it done. */
export const rehearsal: Patch = {
  type: 'application/merge-patch+json',
  value: { metadata: { annotations: { [writtenAtAnnotation]: 'rehearsal' } } },
}

/** Whether the server would let `seen` be written. Throws CertgenError `write-failed`. */
export async function rehearseSecret(api: Api, ref: ObjectRef, seen: Secret | null): Promise<void> {
  if (seen?.immutable) {
    throw new CertgenError('write-failed', `${formatRef(ref)} is immutable; nothing was written`, {
      hints: ['delete it, or name another Secret: an immutable one cannot be made mutable again'],
    })
  }
  await api.rehearse(ref, seen ? { patch: rehearsal } : { create: manifestOf(ref, emptyContent) })
}

/** The least that the API takes for a Secret of this type. */
const emptyContent: SecretContent = {
  type: 'kubernetes.io/tls',
  data: { 'tls.crt': Buffer.alloc(0), 'tls.key': Buffer.alloc(0) },
  annotations: {},
}

function manifestOf(ref: ObjectRef, { type, data, annotations }: SecretContent): object {
  const present = <T>(entries: Readonly<Record<string, T | null>>): [string, T][] =>
    Object.entries(entries).filter((entry): entry is [string, T] => entry[1] !== null)
  return {
    apiVersion: apiVersionOf(resources.secret),
    kind: resources.secret.kind,
    metadata: {
      name: ref.name,
      namespace: ref.namespace,
      labels,
      annotations: Object.fromEntries(present(annotations)),
    },
    type,
    data: Object.fromEntries(present(data).map(([key, octets]) => [key, octets.toString('base64')])),
  }
}

/** A merge patch (RFC 7396) changes only what it names; null removes. */
function patchOf({ metadata: { resourceVersion } }: Secret, { data, annotations }: SecretContent): Patch {
  const values = Object.entries(data).map(([key, octets]) => [key, octets?.toString('base64') ?? null] as const)
  return {
    type: 'application/merge-patch+json',
    value: { metadata: { annotations, resourceVersion }, data: Object.fromEntries(values) },
  }
}

function holds(secret: Secret, { data }: SecretContent): boolean {
  return Object.entries(data).every(([key, octets]) => sameOctets(dataOf(secret, key), octets))
}

/** Whether both have the same under the keys that are written. */
function sameData(a: Secret | null, b: Secret | null, { data }: SecretContent): boolean {
  if (!a || !b) return a === b
  return Object.keys(data).every((key) => sameOctets(dataOf(a, key), dataOf(b, key)))
}

function sameOctets(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b)
}
