import type { ObjectRef } from './resource.ts'

/** The verbs by which RBAC tells calls apart, of those that certgen makes. */
export type Verb = 'get' | 'list' | 'watch' | 'create' | 'patch'

export type PatchType = 'application/merge-patch+json' | 'application/strategic-merge-patch+json'

/** One call of the API. */
export interface Call extends Omit<ObjectRef, 'name'> {
  readonly verb: Verb
  /** null: a list, or a watch of several. */
  readonly name: string | null
  readonly query?: Readonly<Record<string, string>>
  readonly body?: { readonly type: PatchType | 'application/json'; readonly value: object }
}

/** What the API server answered, or why it did not. */
export interface Failure {
  /** null: there was no answer. */
  readonly status: number | null
  /** The API's word, such as `AlreadyExists`; else a code of Node's. */
  readonly reason: string
  readonly message: string
  /** Seconds after which it wants to be asked again; null when it does not say. */
  readonly retryAfter: number | null
  readonly cause?: unknown
}
