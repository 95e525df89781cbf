import { randomBytes } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { SecureContext, Server, TlsOptions } from 'node:tls'
import { CertgenError } from '../errors.ts'
import type { LoadedSet } from './loaded-set.ts'
import { defaultSetFileNames, loadServerSet, requireBundleKept, trustShrank } from './loaded-set.ts'
import { SetFollower, requestOf } from './set-follower.ts'
import type { Consumer, FollowOptions } from './set-follower.ts'

export type ServerReloaderOptions = FollowOptions

export interface AttachOptions {
  /**
   * The server's other TLS options. Needed only for a server that was not made with `options()`: they are kept over every
   * swap, and Node does not tell them.
   */
  readonly tls?: TlsOptions
  /** Serve the set to clients that ask for this name only (SNI; `*` stands for one label), as `addContext` does. */
  readonly servername?: string
}

/** One server, or one name of a server, that is kept up to date. */
interface Attachment {
  readonly server: Server
  readonly servername: string | null
  readonly original: TlsOptions
  /** What takes the place of the original options since trust has shrunk. */
  overrides: Pick<TlsOptions, 'ticketKeys' | 'sessionIdContext'>
  /** The context that serves the name now. */
  context: SecureContext | null
  readonly detach: () => void
}

/** Whose server it is: a second reloader would undo the first one's work. */
const owners = new WeakMap<Server, Map<string | null, ServerReloader>>()

/** The original options of a server, whichever reloader made them up, by the very buffer that it was given as `cert`. */
const originals = new WeakMap<Buffer, TlsOptions>()

/**
 * Keeps the chain, the key and the client CAs of TLS servers as the directory has them: `tls.Server`, `https.Server` and
 * secure HTTP/2 servers. All other options stay; connections and handshakes that have begun go on undisturbed.
 */
export class ServerReloader extends SetFollower {
  readonly #passphrase: string | undefined
  readonly #attachments = new Set<Attachment>()
  readonly #loaded: () => LoadedSet

  /** Reads and judges the directory's set. Throws CertgenError `unusable` with findings, or `unreadable`. */
  static async start(directory: string, options: ServerReloaderOptions = {}): Promise<ServerReloader> {
    const reloader = new ServerReloader(directory, options)
    await reloader.begin()
    return reloader
  }

  private constructor(directory: string, options: ServerReloaderOptions) {
    const names = { ...defaultSetFileNames, ...options.files }
    const request = requestOf(directory, names, options)
    let loaded: LoadedSet | null = null
    const consumer: Consumer = {
      load: async (reading, at, old) => {
        const set = await loadServerSet(reading, { ...request, at }, ['server'])
        if (old) requireBundleKept(old, set, { ...request, at })
        return set
      },
      use: (current, old) => {
        this.#use(current, old)
        loaded = current
      },
    }
    super(directory, [names.ca, names.cert, names.key], options, consumer)
    this.#passphrase = options.passphrase
    this.#loaded = () => {
      if (loaded) return loaded
      throw new Error('a reloader that has started has a set')
    }
  }

  /**
   * Your options for a server, with the current chain, key and, unless they have a `ca` of their own, client CAs. Throws
   * CertgenError `usage` when clients would be verified with the public roots: neither you nor the directory has a `ca`.
   */
  options<T extends object = TlsOptions>(tlsOptions?: T & TlsOptions): T & TlsOptions {
    const original = tlsOptions ?? ({} as T & TlsOptions)
    this.#check(original)
    return this.#merge(original, this.#loaded(), {})
  }

  /**
   * From here on the server's new handshakes get what the directory holds. Attaching again changes nothing; a closed
   * server is let go of. Throws CertgenError `usage` for a server of another reloader, and for one that was not
   * made with `options()`, unless its options are given here.
   */
  attach(server: Server, options: AttachOptions = {}): this {
    const servername = options.servername ?? null
    const owned = owners.get(server) ?? new Map<string | null, ServerReloader>()
    const owner = owned.get(servername)
    if (owner === this) return this
    if (owner) throw new CertgenError('usage', 'another reloader is attached to this server')
    const original = options.tls ?? originalOf(server)
    if (!original) {
      throw new CertgenError('usage', 'the server was not made with the options of a reloader', {
        hints: ['make it with reloader.options(...), or give its options: attach(server, { tls: ... })'],
      })
    }
    this.#check(original)
    const detach = (): void => this.detach(server, servername)
    const attachment: Attachment = { server, servername, original, overrides: {}, context: null, detach }
    this.#prepare(attachment, this.#loaded())()
    owners.set(server, owned.set(servername, this))
    this.#attachments.add(attachment)
    server.once('close', detach)
    return this
  }

  /** Lets go of a server, or of one of its names; it goes on with what it has. */
  detach(server: Server, servername: string | null = null): void {
    for (const attachment of this.#attachments) {
      if (attachment.server !== server || attachment.servername !== servername) continue
      this.#attachments.delete(attachment)
      server.off('close', attachment.detach)
      owners.get(server)?.delete(servername)
    }
  }

  /** Also lets go of all servers. */
  override async close(): Promise<void> {
    for (const { server, servername } of this.#attachments) this.detach(server, servername)
    await super.close()
  }

  /** Every context is made before the first server gets one: a server changes half of itself before it throws. */
  #use(current: LoadedSet, old: LoadedSet | null): void {
    if (old && trustShrank(old, current)) {
      for (const attachment of this.#attachments) forgetSessions(attachment)
    }
    const swaps = [...this.#attachments].map((attachment) => this.#prepare(attachment, current))
    for (const swap of swaps) swap()
  }

  /** Makes the context; the function that is returned puts it into use. */
  #prepare(attachment: Attachment, set: LoadedSet): () => void {
    const { server, servername, original, overrides } = attachment
    const options = this.#merge(original, set, overrides)
    const context = makeContext(options)
    return () => {
      if (servername === null) {
        server.setSecureContext(options)
      } else {
        server.addContext(servername, context)
        if (attachment.context) removeContext(server, attachment.context)
        attachment.context = context
      }
    }
  }

  #merge<T extends TlsOptions>(original: T, { pair, ca }: LoadedSet, overrides: Attachment['overrides']): T {
    if (!pair) throw new Error('a server has a chain and a key')
    const cert = Buffer.from(pair.cert)
    originals.set(cert, original)
    return {
      ...original,
      ...overrides,
      // A copy: each server's own, and out of reach of what others do to it.
      cert,
      key: Buffer.from(pair.key),
      ...(this.#passphrase === undefined ? {} : { passphrase: this.#passphrase }),
      ...(original.ca === undefined && ca ? { ca: Buffer.from(ca) } : {}),
    }
  }

  #check({ ca, pfx, requestCert }: TlsOptions): void {
    if (pfx !== undefined) {
      throw new CertgenError('usage', 'a server has its certificate from pfx or from the reloader, not from both')
    }
    const isEmpty = ca === undefined ? this.#loaded().ca === null : ca.length === 0
    if (requestCert === true && isEmpty) {
      throw new CertgenError('usage', 'client certificates would be verified with the public roots', {
        hints: ['put the CA of the clients beside the certificate as ca.crt, or give it as the option ca'],
      })
    }
  }
}

function originalOf(server: Server): TlsOptions | undefined {
  const cert: unknown = Reflect.get(server, 'cert')
  return Buffer.isBuffer(cert) ? originals.get(cert) : undefined
}

/**
 * Sessions were agreed upon while a CA was trusted that no longer is: tickets become unreadable, and a store of the
 * server's own ('newSession', 'resumeSession') holds only sessions of another context.
 */
function forgetSessions(attachment: Attachment): void {
  if (attachment.original.ca !== undefined) return
  attachment.overrides = {
    sessionIdContext: randomBytes(16).toString('hex'),
    ...(attachment.original.ticketKeys ? { ticketKeys: randomBytes(48) } : {}),
  }
}

/** Throws CertgenError `unusable` with OpenSSL's code: its message might hold what belongs in no log. */
function makeContext(options: TlsOptions): SecureContext {
  try {
    return createSecureContext(options)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    throw new CertgenError('unusable', `OpenSSL refuses the set with the server's options: ${code}`)
  }
}

/** Node only ever adds to the contexts of a server: without this, each swap would leave one behind. */
function removeContext(server: Server, { context }: SecureContext): void {
  const contexts: unknown = Reflect.get(server, '_contexts')
  if (!Array.isArray(contexts)) return
  const index = contexts.findIndex((entry: unknown) => Array.isArray(entry) && entry[1] === context)
  if (index !== -1) contexts.splice(index, 1)
}
