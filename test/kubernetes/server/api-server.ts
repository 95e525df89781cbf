import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import { parseAllDocuments, stringify } from 'yaml'
import type { EncodedSet } from '../../../src/store/target-store.ts'
import { Issuer } from '../../reload/issuer.ts'
import { apiVersionOf, discovery, kinds } from './kinds.ts'
import type { Kind } from './kinds.ts'
import { mergePatch, sameJson, strategicMergePatch } from './patch.ts'
import { permits, refusalOf } from './rbac.ts'
import type { Attributes } from './rbac.ts'
import { matchesFields, matchesLabels } from './selectors.ts'
import { Refusal } from './refusal.ts'
import { validate, validateChange } from './validation.ts'

/** An object as the server keeps it. */
export interface Stored {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid: string
    readonly resourceVersion: string
    readonly generation: number
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly spec?: Readonly<Record<string, unknown>>
  readonly status?: Readonly<Record<string, unknown>>
  readonly [key: string]: unknown
}

/** One request, as the tests look at it. */
export interface ServedCall {
  /** From 1. */
  readonly number: number
  readonly verb: string
  readonly plural: string
  readonly namespace: string | null
  readonly name: string | null
  readonly dryRun: boolean
  readonly user: string
}

/** What goes wrong with a request. */
export type Fault =
  | { readonly status: number; readonly reason?: string; readonly message?: string; readonly retryAfter?: number }
  /** The connection is cut before the request has any effect, or after it, without an answer. */
  | { readonly cut: 'before' | 'after' }
  /** There is never an answer. */
  | { readonly hang: true }
  /** Something happens first, and then the request is served. */
  | { readonly first: () => void | Promise<void> }
  /** Something happens once the request has had its effect; nothing is answered. */
  | { readonly then: () => void | Promise<void> }

interface Target {
  readonly kind: Kind
  readonly namespace: string | null
  readonly name: string | null
}

interface Result {
  readonly status: number
  readonly body: object
}

export const admin = 'admin'

/** A Kubernetes API server, as far as certgen and kubectl use it: https, bearer tokens, RBAC, optimistic concurrency. */
export class ApiServer {
  readonly calls: ServedCall[] = []
  /** Asked of every request that the server knows and permits. */
  fault: (call: ServedCall) => Fault | null = () => null
  url = ''
  /** PEM: the CA of the server's certificate. */
  ca = ''
  readonly #objects = new Map<string, Stored>()
  readonly #changes = new EventEmitter().setMaxListeners(0)
  /** What watches replay. */
  readonly #history: {
    readonly version: number
    readonly type: string
    readonly key: string
    readonly object: Stored
  }[] = []
  /** User names by token. */
  readonly #users = new Map<string, string>([['admin-token', admin]])
  /** A client certificate for a user. */
  readonly certificateFor: (user: string) => Promise<EncodedSet>
  #version = 100
  #server: Server | null = null

  private constructor(certificateFor: (user: string) => Promise<EncodedSet>) {
    this.certificateFor = certificateFor
  }

  static async start(): Promise<ApiServer> {
    const issuer = new Issuer()
    const authority = await issuer.authority()
    const { key, cert, ca } = await issuer.set(authority, { usages: ['server'] })
    const api = new ApiServer((user) => issuer.set(authority, { usages: ['client'], commonName: user }))
    const server = createServer(
      { key, cert, ca, requestCert: true, rejectUnauthorized: false },
      (request, response) => {
        void api.#serve(request, response)
      },
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    api.#server = server
    api.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    api.ca = ca.toString()
    return api
  }

  async close(): Promise<void> {
    const server = this.#server
    if (!server) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }

  // ---------------------------------------------------------------------------------------------------------- who asks

  /** Writes a kubeconfig file for a user, and returns its path. */
  kubeconfig(path: string, user = admin): string {
    const token = user === admin ? 'admin-token' : `token of ${user}`.replaceAll(/[^a-z]/g, '-')
    this.addUser(token, user)
    return this.kubeconfigWith(path, { token })
  }

  /** With whatever a user may have in it. */
  kubeconfigWith(path: string, user: object, changes: { readonly server?: string; readonly ca?: string } = {}): string {
    const { server = this.url, ca = this.ca } = changes
    const cluster = { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') }
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'test', user }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
      'current-context': 'test',
    }
    writeFileSync(path, stringify(config))
    return path
  }

  addUser(token: string, user: string): void {
    this.#users.set(token, user)
  }

  /** As at the end of a token: whoever has it is not known any more. */
  revoke(token: string): void {
    this.#users.delete(token)
  }

  // ------------------------------------------------------------------------------------------- what tests do directly

  callsAfter(number: number): ServedCall[] {
    return this.calls.filter((call) => call.number > number)
  }

  get(plural: string, name: string, namespace: string | null = null): Stored | null {
    return this.#objects.get(keyOf(kindNamed(plural), namespace, name)) ?? null
  }

  all(plural: string, namespace: string | null = null): Stored[] {
    const prefix = keyOf(kindNamed(plural), namespace, '')
    return [...this.#objects].filter(([key]) => key.startsWith(prefix)).map(([, object]) => object)
  }

  /** Applies manifests, a YAML stream or objects, as an administrator; a namespace that is missing is made. */
  apply(...manifests: (string | object)[]): void {
    const objects = manifests.flatMap((manifest) =>
      typeof manifest === 'string'
        ? parseAllDocuments(manifest).map((document) => document.toJS() as object | null)
        : [manifest],
    )
    for (const object of objects) if (object) this.#put(object as Stored)
  }

  /** Changes an object as another client would, by a merge patch. */
  change(plural: string, name: string, namespace: string | null, patch: object): Stored {
    const current = this.#mustGet(plural, name, namespace)
    return this.#store(kindNamed(plural), mergePatch(current, patch) as Stored, current)
  }

  remove(plural: string, name: string, namespace: string | null = null): void {
    const object = this.#mustGet(plural, name, namespace)
    const key = keyOf(kindNamed(plural), namespace, name)
    this.#objects.delete(key)
    const metadata = { ...object.metadata, resourceVersion: this.#nextVersion() }
    this.#announce('DELETED', key, { ...object, metadata })
  }

  /** Told of every change, as a controller is by its watch. Returns what ends it. */
  onChange(listener: (type: string, object: Stored) => void): () => void {
    this.#changes.on('change', listener)
    return () => this.#changes.off('change', listener)
  }

  /** Ends all connections, watches among them, as a server does that is restarted. */
  endConnections(): void {
    this.#server?.closeAllConnections()
  }

  #mustGet(plural: string, name: string, namespace: string | null): Stored {
    const object = this.get(plural, name, namespace)
    if (!object) throw new Error(`there is no ${plural} ${name}`)
    return object
  }

  #put(object: Stored): void {
    const kind = kinds.find((each) => each.kind === object.kind && apiVersionOf(each) === object.apiVersion)
    if (!kind) throw new Error(`unknown: ${object.apiVersion} ${object.kind}`)
    const { name, namespace } = object.metadata
    const scope = kind.namespaced ? (namespace ?? 'default') : null
    if (scope !== null && !this.get('namespaces', scope)) {
      this.#put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: scope } } as Stored)
    }
    this.#store(kind, object, this.#objects.get(keyOf(kind, scope, name)) ?? null)
  }

  // ------------------------------------------------------------------------------------------------------------ serving

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', this.url)
    try {
      const user = this.#authenticate(request)
      const found = discovery(url.pathname)
      if (found) {
        answer(response, 200, found)
        return
      }
      const body = await readBody(request)
      const target = parsePath(url.pathname)
      const attributes = attributesOf(request, url, target, user)
      if (user !== admin && !permits(attributes, (plural, namespace) => this.all(plural, namespace))) {
        throw new Refusal(403, 'Forbidden', refusalOf(attributes))
      }
      const call = this.#record(attributes, target, body, url)
      await serveWithFault(this.fault(call), response, () =>
        attributes.verb === 'watch'
          ? this.#watch(target, url, response)
          : this.#act(attributes.verb, target, url, request, body),
      )
    } catch (error) {
      if (error instanceof Refusal) {
        answer(response, error.status, statusOf(error))
        return
      }
      response.socket?.destroy()
      throw error
    }
  }

  #authenticate(request: IncomingMessage): string {
    const { socket } = request
    if (socket instanceof TLSSocket && socket.authorized) {
      // A resumed session is authorized also where no certificate was ever shown.
      const shown: Partial<PeerCertificate> = socket.getPeerCertificate()
      if (shown.subject) return String(shown.subject.CN)
    }
    const [, token = ''] = /^Bearer (.*)$/.exec(request.headers.authorization ?? '') ?? []
    const user = this.#users.get(token)
    if (user !== undefined) return user
    throw new Refusal(401, 'Unauthorized', 'Unauthorized')
  }

  #record({ verb, user }: Attributes, { kind, namespace, name }: Target, body: unknown, url: URL): ServedCall {
    const created = (body as Partial<Stored> | null)?.metadata?.name ?? null
    const call = {
      number: this.calls.length + 1,
      verb,
      plural: kind.plural,
      namespace,
      name: name ?? (verb === 'create' ? created : null),
      dryRun: url.searchParams.get('dryRun') === 'All',
      user,
    }
    this.calls.push(call)
    return call
  }

  #act(verb: string, target: Target, url: URL, request: IncomingMessage, body: unknown): Result {
    const dryRun = url.searchParams.get('dryRun') === 'All'
    switch (verb) {
      case 'get':
        return { status: 200, body: this.#find(target) }
      case 'list':
        return { status: 200, body: this.#list(target, url.searchParams) }
      case 'create':
        return { status: 201, body: this.#create(target, body as Stored, dryRun) }
      case 'update':
        return { status: 200, body: this.#update(target, body as Stored, dryRun) }
      case 'patch':
        return { status: 200, body: this.#patch(target, body, request.headers['content-type'] ?? '', dryRun) }
      case 'delete':
        this.#find(target)
        this.remove(target.kind.plural, target.name ?? '', target.namespace)
        return { status: 200, body: { kind: 'Status', apiVersion: 'v1', status: 'Success' } }
      default:
        throw new Refusal(405, 'MethodNotAllowed', verb)
    }
  }

  #find({ kind, namespace, name }: Target): Stored {
    const object = this.#objects.get(keyOf(kind, namespace, name ?? ''))
    if (object) return object
    throw new Refusal(404, 'NotFound', `${qualified(kind)} ${JSON.stringify(name)} not found`)
  }

  #list({ kind, namespace }: Target, query: URLSearchParams): object {
    const selected = this.all(kind.plural, namespace)
      .filter((object) => matchesFields(object, query.get('fieldSelector') ?? ''))
      .filter((object) => matchesLabels(object, query.get('labelSelector') ?? ''))
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    const begin = Number(query.get('continue') ?? 0)
    const end = begin + Number(query.get('limit') ?? selected.length)
    const more = end < selected.length ? { continue: String(end) } : {}
    return {
      kind: `${kind.kind}List`,
      apiVersion: apiVersionOf(kind),
      metadata: { resourceVersion: String(this.#version), ...more },
      items: selected.slice(begin, end),
    }
  }

  #create({ kind, namespace }: Target, object: Stored, dryRun: boolean): object {
    if (namespace !== null && !this.get('namespaces', namespace)) {
      throw new Refusal(404, 'NotFound', `namespaces ${JSON.stringify(namespace)} not found`)
    }
    const { name } = object.metadata
    if (this.#objects.has(keyOf(kind, namespace, name))) {
      throw new Refusal(409, 'AlreadyExists', `${qualified(kind)} ${JSON.stringify(name)} already exists`)
    }
    validate(kind, object)
    const placed = { ...object, metadata: { ...object.metadata, ...(namespace === null ? {} : { namespace }) } }
    return dryRun ? placed : this.#store(kind, placed, null)
  }

  #update(target: Target, object: Stored, dryRun: boolean): Stored {
    const current = this.#find(target)
    return this.#replace(target.kind, current, object, object.metadata.resourceVersion, dryRun)
  }

  #patch(target: Target, patch: unknown, type: string, dryRun: boolean): Stored {
    const current = this.#find(target)
    const apply = {
      'application/merge-patch+json': mergePatch,
      'application/strategic-merge-patch+json': strategicMergePatch,
    }[type]
    if (!apply)
      throw new Refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${type}`)
    const version = (patch as { metadata?: { resourceVersion?: string } }).metadata?.resourceVersion
    return this.#replace(target.kind, current, apply(current, patch) as Stored, version, dryRun)
  }

  #replace(kind: Kind, current: Stored, next: Stored, version: string | undefined, dryRun: boolean): Stored {
    if (version !== undefined && version !== current.metadata.resourceVersion) {
      const what = `${qualified(kind)} ${JSON.stringify(current.metadata.name)}`
      const advice = 'please apply your changes to the latest version and try again'
      throw new Refusal(
        409,
        'Conflict',
        `Operation cannot be fulfilled on ${what}: the object has been modified; ${advice}`,
      )
    }
    validate(kind, next)
    validateChange(kind, current, next)
    if (sameJson(withoutVersion(next), withoutVersion(current))) return current
    return dryRun ? next : this.#store(kind, next, current)
  }

  #watch({ kind, namespace }: Target, url: URL, response: ServerResponse): null {
    const after = Number(url.searchParams.get('resourceVersion') ?? 0)
    const selector = url.searchParams.get('fieldSelector') ?? ''
    const prefix = keyOf(kind, namespace, '')
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    const send = (type: string, key: string, object: Stored): void => {
      if (!key.startsWith(prefix) || !matchesFields(object, selector)) return
      response.write(`${JSON.stringify({ type, object })}\n`)
    }
    for (const { version, type, key, object } of this.#history) if (version > after) send(type, key, object)
    const listener = (type: string, object: Stored, key: string): void => send(type, key, object)
    this.#changes.on('change', listener)
    response.once('close', () => this.#changes.off('change', listener))
    return null
  }

  // ------------------------------------------------------------------------------------------------------------ storing

  #store(kind: Kind, object: Stored, before: Stored | null): Stored {
    const { metadata } = object
    const specChanged = before !== null && !sameJson(before.spec, object.spec)
    const namespace = kind.namespaced ? (metadata.namespace ?? 'default') : null
    const stored: Stored = {
      ...object,
      apiVersion: apiVersionOf(kind),
      kind: kind.kind,
      metadata: {
        ...metadata,
        ...(namespace === null ? {} : { namespace }),
        uid: before?.metadata.uid ?? randomUUID(),
        generation: (before?.metadata.generation ?? 1) + (specChanged ? 1 : 0),
        resourceVersion: this.#nextVersion(),
      },
    }
    const key = keyOf(kind, namespace, metadata.name)
    this.#objects.set(key, stored)
    this.#announce(before ? 'MODIFIED' : 'ADDED', key, stored)
    return stored
  }

  #announce(type: string, key: string, object: Stored): void {
    this.#history.push({ version: Number(object.metadata.resourceVersion), type, key, object })
    this.#changes.emit('change', type, object, key)
  }

  #nextVersion(): string {
    return String(++this.#version)
  }
}

async function serveWithFault(fault: Fault | null, response: ServerResponse, act: () => Result | null): Promise<void> {
  if (fault && 'hang' in fault) return
  if (fault && 'cut' in fault) {
    if (fault.cut === 'after') withoutAnswer(act)
    response.socket?.destroy()
    return
  }
  if (fault && 'then' in fault) {
    withoutAnswer(act)
    await fault.then()
    response.socket?.destroy()
    return
  }
  if (fault && 'status' in fault) {
    const { status, reason = 'InternalError', message = 'a fault of the test', retryAfter } = fault
    if (retryAfter !== undefined) response.setHeader('retry-after', String(retryAfter))
    throw new Refusal(status, reason, message)
  }
  if (fault && 'first' in fault) await fault.first()
  const result = act()
  if (result) answer(response, result.status, result.body)
}

function withoutAnswer(act: () => unknown): void {
  try {
    act()
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
  }
}

function kindNamed(plural: string): Kind {
  const kind = kinds.find((each) => each.plural === plural)
  if (!kind) throw new Error(`unknown: ${plural}`)
  return kind
}

function keyOf({ group, plural }: Kind, namespace: string | null, name: string): string {
  return [group, plural, namespace ?? '', name].join('/')
}

function qualified({ group, plural }: Kind): string {
  return group === '' ? plural : `${plural}.${group}`
}

const pathPattern = /^\/(?:api|apis\/([^/]+))\/v1(?:\/namespaces\/([^/]+)(?=\/[^/]))?\/([^/]+)(?:\/([^/]+))?$/

function parsePath(path: string): Target {
  const [, group = '', namespace, plural, name] = pathPattern.exec(path) ?? []
  const kind = kinds.find((each) => each.group === group && each.plural === plural)
  if (kind?.namespaced !== (namespace !== undefined)) {
    throw new Refusal(404, 'NotFound', 'the server could not find the requested resource')
  }
  return { kind, namespace: namespace ?? null, name: name ?? null }
}

const methods: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }

function attributesOf(request: IncomingMessage, url: URL, { kind, namespace, name }: Target, user: string): Attributes {
  const { group, plural } = kind
  const reading = url.searchParams.get('watch') ? 'watch' : name === null ? 'list' : 'get'
  const verb = request.method === 'GET' ? reading : (methods[request.method ?? ''] ?? '')
  // The name that a selector gives counts as the name that is asked for.
  const selected = /^metadata\.name=([^,]+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1] ?? null
  return { user, verb, group, plural, namespace, name: name ?? (verb === 'create' ? null : selected) }
}

function withoutVersion({ metadata, ...rest }: Stored): object {
  return { ...rest, metadata: { ...metadata, resourceVersion: '' } }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const body = Buffer.concat((await request.toArray()) as Buffer[])
  const type = request.headers['content-type'] ?? ''
  if (body.length === 0) return null
  if (type.includes('json')) return JSON.parse(body.toString()) as unknown
  // kubectl writes the options of a deletion, which are not looked at, as Protocol Buffers.
  if (request.method === 'DELETE') return null
  throw new Refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${type}`)
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function statusOf({ status, reason, message }: Refusal): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason, message, code: status }
}
