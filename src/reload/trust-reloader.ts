import { Agent } from 'node:https'
import type { AgentOptions } from 'node:https'
import { basename, dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { createSecureContext } from 'node:tls'
import { CertgenError } from '../errors.ts'
import { defaultSetFileNames, loadTrustSet } from './loaded-set.ts'
import type { LoadedSet } from './loaded-set.ts'
import { SetFollower, requestOf } from './set-follower.ts'
import type { FollowOptions } from './set-follower.ts'

export interface TrustReloaderOptions extends FollowOptions {
  /** Of the agents; the CA, the chain and the key are the reloader's. */
  readonly agent?: Omit<AgentOptions, 'ca' | 'cert' | 'key' | 'pfx' | 'passphrase'>
}

/** What a client trusts and, where it has one, the pair that it presents: for `tls.connect`, `https.request`, undici. */
export interface TrustOptions {
  readonly ca: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly passphrase?: string
}

/** A whole directory, or one file with a bundle. */
export type TrustSource = string | { readonly file: string }

/**
 * Keeps what a client trusts, and its own pair if it has one, as the directory has them. What cannot be used never
 * becomes an empty `ca`, which to Node means the public roots: the last good set stays.
 */
export class TrustReloader extends SetFollower {
  readonly #options: () => TrustOptions
  readonly #agent: () => Agent

  /** Reads and judges the set. Throws CertgenError `unusable` with findings, or `unreadable`. */
  static async start(source: TrustSource, options: TrustReloaderOptions = {}): Promise<TrustReloader> {
    const reloader = new TrustReloader(source, options)
    await reloader.begin()
    return reloader
  }

  private constructor(source: TrustSource, options: TrustReloaderOptions) {
    const alone = typeof source !== 'string'
    const directory = alone ? dirname(source.file) : source
    const names = { ...defaultSetFileNames, ...options.files, ...(alone ? { ca: basename(source.file) } : {}) }
    const request = requestOf(directory, names, options)
    let current: TrustOptions | null = null
    let agent: TrustAgent | null = null
    super(directory, alone ? [names.ca] : [names.ca, names.cert, names.key], options, {
      load: (reading, at) => loadTrustSet(reading, { ...request, at }),
      use: (set) => {
        const next = trustOptions(set, options.passphrase)
        requireContext(next)
        current = next
        agent?.retire()
        agent = new TrustAgent(options.agent ?? {}, () => this.#options())
      },
    })
    this.#options = () => started(current)
    this.#agent = () => started(agent)
  }

  /**
   * The agent over the current set. A change replaces it: the old one finishes its requests and then closes its
   * connections. Ask for it at each request; an agent that was kept still connects with the current set, but keeps no
   * connection alive.
   */
  agent(): Agent {
    return this.#agent()
  }

  /**
   * The current `ca`, and the client's own chain and key if the directory has them. Do not add a `session` of before a
   * change: a resumed session counts as authorized, whatever the CA is now.
   */
  options(): TrustOptions {
    return { ...this.#options() }
  }

  /** Also closes the connections that the agent keeps alive, each once its request is done. */
  override async close(): Promise<void> {
    await super.close()
    const agent = this.#agent()
    if (agent instanceof TrustAgent) agent.retire()
  }
}

/** Connects with what is trusted at that moment. */
class TrustAgent extends Agent {
  #retired = false

  constructor(options: AgentOptions, current: () => TrustOptions) {
    super({ keepAlive: true, ...options })
    // Only what is there: an option of the agent hides that of a request, undefined or not.
    for (const name of Object.keys(current()) as (keyof TrustOptions)[]) {
      Object.defineProperty(this.options, name, { enumerable: true, get: () => current()[name] })
    }
  }

  /** Node keeps an idle connection when this gives true; the declaration lacks that. */
  override keepSocketAlive(socket: Duplex): boolean {
    if (this.#retired) return false
    // eslint-disable-next-line @typescript-eslint/no-confusing-void-expression -- see above
    const keep: unknown = super.keepSocketAlive(socket)
    return keep === true
  }

  /** Drains: idle connections end now, the others with their requests. */
  retire(): void {
    this.#retired = true
    for (const sockets of Object.values(this.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy()
    }
  }
}

function started<T>(value: T | null): T {
  if (value !== null) return value
  throw new Error('a reloader that has started has a set')
}

function trustOptions({ ca, pair }: LoadedSet, passphrase: string | undefined): TrustOptions {
  if (!ca) throw new Error('a client has a bundle')
  return pair ? { ca, ...pair, ...(passphrase === undefined ? {} : { passphrase }) } : { ca }
}

/** Throws CertgenError `unusable` with OpenSSL's code alone. */
function requireContext(options: TrustOptions): void {
  try {
    createSecureContext(options)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    throw new CertgenError('unusable', `OpenSSL refuses the set: ${code}`)
  }
}
