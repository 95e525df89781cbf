import { request as httpsRequest } from 'node:https'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { CertgenError } from '../../errors.ts'
import type { Call, Failure, PatchType, Verb } from './call.ts'
import type { Connection } from './connection.ts'
import { explain, isDistrust, timedOut } from './explain.ts'
import { pathOf } from './resource.ts'
import type { KubeObject, ObjectRef, Resource } from './resource.ts'

/**
 * The API, as far as certgen needs it. Whatever fails in a way that no caller can make sense of is thrown as CertgenError:
 * `unreadable` or `write-failed`, with what to do about it.
 */
export interface Api {
  /** null: there is no such object. */
  get<T extends KubeObject>(ref: ObjectRef): Promise<T | null>
  /** All objects that a selector names. `forbidden`: a list reads more than single gets do, and may not be granted. */
  list<T extends KubeObject>(scope: ListScope): Promise<readonly T[] | 'forbidden'>
  create<T extends KubeObject>(ref: ObjectRef, object: object): Promise<T | 'exists'>
  /** `conflict`: the patch names a resourceVersion that is not the current one. */
  patch<T extends KubeObject>(ref: ObjectRef, patch: Patch): Promise<T | 'conflict' | 'missing'>
  /** Has the server do everything but write, so that what it would refuse is known before anything is written. */
  rehearse(ref: ObjectRef, write: { readonly create: object } | { readonly patch: Patch }): Promise<void>
  /** What becomes of one object after a resourceVersion, until the connection ends, from either side. */
  watch<T extends KubeObject>(ref: ObjectRef, after: string, signal: AbortSignal): AsyncIterable<T>
}

export interface ListScope {
  readonly resource: Resource
  readonly namespace: string
  readonly query: Readonly<Record<string, string>>
}

export interface Patch {
  readonly type: PatchType
  readonly value: object
}

/** How long the API server is waited for, and how often it is asked again. */
export interface Patience {
  /** Milliseconds for one call. */
  readonly timeout: number
  readonly attempts: number
  /** Milliseconds before the second attempt; doubled for each one after. */
  readonly backoff: number
}

export const defaultPatience: Patience = { timeout: 15_000, attempts: 6, backoff: 250 }

/** The longest that a server's Retry-After is heeded, in seconds. */
const longestRetryAfter = 30
/** Objects in one answer of a list: 500 Secrets with their certificates are about 4 MB. */
const pageSize = '500'

export function openApi(connection: Connection, patience: Patience): Api {
  const { server } = connection
  const send = (call: Call): Promise<Answer> => sendPatiently(call, connection, patience)
  const fail = (call: Call, failure: Failure): never => {
    throw explain(call, failure, server)
  }
  return {
    get: async <T extends KubeObject>(ref: ObjectRef) => {
      const call: Call = { verb: 'get', ...ref }
      const answer = await send(call)
      if (answer.failure?.status === 404) return null
      return answer.failure ? fail(call, answer.failure) : (answer.body as T)
    },
    list: async <T extends KubeObject>({ resource, namespace, query }: ListScope) => {
      const items: T[] = []
      for (let next: string | undefined = ''; next !== undefined;) {
        const pages = next === '' ? { limit: pageSize } : { limit: pageSize, continue: next }
        const call: Call = { verb: 'list', resource, namespace, name: null, query: { ...query, ...pages } }
        const answer = await send(call)
        if (answer.failure?.status === 403) return 'forbidden'
        if (answer.failure) return fail(call, answer.failure)
        const page = answer.body as { items: T[]; metadata: { continue?: string } }
        items.push(...page.items)
        next = page.metadata.continue === '' ? undefined : page.metadata.continue
      }
      return items
    },
    create: async <T extends KubeObject>(ref: ObjectRef, object: object) => {
      const call = creating(ref, object)
      const { failure, body } = await send(call)
      if (failure?.reason === 'AlreadyExists') return 'exists'
      return failure ? fail(call, failure) : (body as T)
    },
    patch: async <T extends KubeObject>(ref: ObjectRef, patch: Patch) => {
      const call = patching(ref, patch)
      const { failure, body } = await send(call)
      if (failure?.status === 409) return 'conflict'
      if (failure?.status === 404) return 'missing'
      return failure ? fail(call, failure) : (body as T)
    },
    rehearse: async (ref, write) => {
      const call = 'create' in write ? creating(ref, write.create) : patching(ref, write.patch)
      const { failure } = await send({ ...call, query: { ...call.query, dryRun: 'All' } })
      if (!failure || failure.status === 409 || isUnrehearsable(failure)) return
      // Deleted since it was read: the write will find out.
      if (failure.status === 404 && call.verb === 'patch') return
      fail(call, failure)
    },
    watch: <T extends KubeObject>(ref: ObjectRef, after: string, signal: AbortSignal) =>
      watch<T>(ref, after, signal, connection, patience),
  }
}

function creating(ref: ObjectRef, value: object): Call {
  return { verb: 'create', ...ref, query: asManager, body: { type: 'application/json', value } }
}

function patching(ref: ObjectRef, body: Patch): Call {
  return { verb: 'patch', ...ref, query: asManager, body }
}

/** By this name the API notes whose the fields are (`metadata.managedFields`). */
const asManager = { fieldManager: 'certgen' }

/** Admission webhooks with side effects refuse to be rehearsed. */
function isUnrehearsable({ status, message }: Failure): boolean {
  return status === 400 && message.includes('does not support dry run')
}

// ------------------------------------------------------------------------------------------------------------- asking

type Answer = { readonly failure: Failure; readonly body: null } | { readonly failure: null; readonly body: unknown }

/**
 * Asks until there is an answer that would not be another one the next time. Every write can be repeated: it names the
 * version that it is to replace, so one that was done although its answer was lost is found out by the conflict.
 */
async function sendPatiently(call: Call, connection: Connection, patience: Patience): Promise<Answer> {
  let refused = false
  for (let attempt = 1; ; attempt++) {
    const answer = await sendOnce(call, connection, patience.timeout, refused)
    const { failure } = answer
    if (!failure) return answer
    // Credentials are replaced while a program runs.
    if (failure.status === 401 && !refused) {
      refused = true
      continue
    }
    if (!isPassing(failure, call.verb) || attempt >= patience.attempts) return answer
    // Jitter: those who were turned away together shall not come again together.
    const pause = patience.backoff * 2 ** (attempt - 1) * (0.75 + Math.random() / 2)
    await sleep(Math.max(pause, Math.min(failure.retryAfter ?? 0, longestRetryAfter) * 1000))
  }
}

function isPassing({ status, reason }: Failure, verb: Verb): boolean {
  if (status === null) return !isDistrust(reason)
  // What is created can meet no other conflict than over the count of a quota.
  if (status === 409) return verb === 'create' && reason !== 'AlreadyExists'
  return status === 429 || status >= 500
}

async function sendOnce(call: Call, connection: Connection, timeout: number, fresh: boolean): Promise<Answer> {
  try {
    const response = await open(call, connection, AbortSignal.timeout(timeout), fresh)
    return readAnswer(response.statusCode ?? 0, await readAll(response), response.headers)
  } catch (error) {
    return { failure: silence(error), body: null }
  }
}

function readAnswer(status: number, body: string, headers: IncomingHttpHeaders): Answer {
  if (status < 200 || status >= 300) return { failure: statusFailure(status, body, headers), body: null }
  try {
    return { failure: null, body: JSON.parse(body) as unknown }
  } catch {
    const message = 'its answer is not JSON: something else than an API server answers there'
    return { failure: { status, reason: '', message, retryAfter: null }, body: null }
  }
}

function statusFailure(status: number, body: string, headers: IncomingHttpHeaders): Failure {
  const { reason, message } = readStatus(body)
  const seconds = Number(headers['retry-after'])
  return { status, reason, message, retryAfter: Number.isFinite(seconds) ? seconds : null }
}

/** The Status object of a refusal; a proxy in between answers in words of its own. */
function readStatus(body: string): { reason: string; message: string } {
  try {
    const { reason = '', message = '' } = JSON.parse(body) as { reason?: string; message?: string }
    return { reason, message }
  } catch {
    return { reason: '', message: body.replaceAll(/\s+/g, ' ').trim().slice(0, 200) }
  }
}

/** Errors of connections have codes of Node's; everything else is thrown on. */
function silence(error: unknown): Failure {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (!(error instanceof Error) || error instanceof CertgenError || typeof code !== 'string') throw error
  const reason = ['ABORT_ERR', 'ETIMEDOUT'].includes(code) ? timedOut : code
  // Connecting to several addresses fails with one error for all, which says nothing itself.
  return { status: null, reason, message: error.message === '' ? code : error.message, retryAfter: null, cause: error }
}

/** Resolves with the head of the answer. */
async function open(
  call: Call,
  { server, credentials }: Connection,
  signal: AbortSignal,
  fresh: boolean,
): Promise<IncomingMessage> {
  const { headers, ...rest } = await credentials(fresh)
  const payload = call.body === undefined ? null : JSON.stringify(call.body.value)
  return new Promise((resolve, reject) => {
    const request = httpsRequest(urlOf(call, server), {
      ...rest,
      signal,
      method: methods[call.verb],
      headers: {
        ...(headers as Record<string, string>),
        accept: 'application/json',
        'user-agent': 'certgen',
        ...(payload === null ? {} : { 'content-type': call.body?.type, 'content-length': Buffer.byteLength(payload) }),
      },
    })
    request.on('error', reject)
    request.once('response', resolve)
    request.end(payload ?? undefined)
  })
}

const methods = { get: 'GET', list: 'GET', watch: 'GET', create: 'POST', patch: 'PATCH' } as const

function urlOf(call: Call, server: URL): URL {
  // An API server may stand below a path of another server.
  const url = new URL(server)
  // What is created is not there yet, and what is watched is named by a selector.
  const name = call.verb === 'create' || call.verb === 'watch' ? null : call.name
  url.pathname = server.pathname.replace(/\/$/, '') + pathOf({ ...call, name })
  url.search = new URLSearchParams(call.query).toString()
  return url
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

// ----------------------------------------------------------------------------------------------------------- watching

interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  readonly object: unknown
}

async function* watch<T extends KubeObject>(
  ref: ObjectRef,
  after: string,
  signal: AbortSignal,
  connection: Connection,
  { timeout }: Patience,
): AsyncGenerator<T> {
  // By its name, also in the selector: only so does a rule with resourceNames permit it.
  const query = { watch: 'true', fieldSelector: `metadata.name=${ref.name}`, resourceVersion: after }
  const call: Call = { ...ref, verb: 'watch', query }
  const opening = new AbortController()
  const timer = setTimeout(() => {
    opening.abort()
  }, timeout)
  try {
    const response = await open(call, connection, AbortSignal.any([signal, opening.signal]), false)
    clearTimeout(timer)
    const status = response.statusCode ?? 0
    if (status !== 200) {
      const failure = statusFailure(status, await readAll(response), response.headers)
      // The version is too old to begin with: whoever watches looks afresh.
      if (status === 410 || isPassing(failure, 'watch')) return
      throw explain(call, failure, connection.server)
    }
    for await (const line of linesOf(response)) {
      const { type, object } = JSON.parse(line) as WatchEvent
      if (type === 'ERROR') return
      if (type !== 'BOOKMARK') yield object as T
    }
  } catch (error) {
    // The connection ended, or was ended: whoever watches looks afresh, and learns there what is wrong.
    silence(error)
  } finally {
    clearTimeout(timer)
  }
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of response.setEncoding('utf8')) {
    const lines = (rest + String(chunk)).split('\n')
    rest = lines.pop() ?? ''
    yield* lines.filter((line) => line !== '')
  }
}
