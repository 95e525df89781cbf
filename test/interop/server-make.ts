import type { ClientName } from './clients.ts'
import type { Conversation } from './conversation.ts'
import type { RunningServer } from './processes.ts'

/** Where one server stands. */
export interface Place {
  /** The directory of its configuration and data. */
  readonly home: string
  /** The directory of its process number and sockets. */
  readonly run: string
  /** The directory with its certificates. */
  readonly target: string
  readonly port: number
  /** The port on loopback of what stands behind it, for a server that only ends TLS. */
  readonly backend: number
  /** Whether root starts certgen and the server; a server may then run as a user of its own. */
  readonly asRoot: boolean
}

/**
 * How a server comes by new files: by a hook, given as flags of `certgen` or `certgen watch`; by its own watching; by a
 * restart; or the leaf by itself and the bundle by a restart.
 */
export type Takes = ((place: Place) => readonly string[]) | 'by itself' | 'by restart' | 'leaf by itself'

/** The text that the tests run, and docs/interop.md shows for the place where a package puts it. */
export interface Recipe {
  readonly language: 'nginx' | 'haproxy' | 'apache' | 'ini' | 'json' | 'sh' | 'js'
  readonly text: string
}

/** One make of server: how to run it, and what there is to know of it. */
export interface ServerMake {
  readonly name: string
  /** On the PATH, or absolute. */
  readonly programs: readonly string[]
  readonly version: () => string
  readonly takes: Takes
  readonly recipe: (place: Place) => Recipe
  /** Where a package puts it. */
  readonly installed: Pick<Place, 'home' | 'run'>
  readonly conversation: Conversation
  /** Clients that speak its protocol, besides those that speak TLS and nothing else. */
  readonly clients: readonly ClientName[]
  /** For docs/interop.md, in Markdown: two cells of the table, and what else there is to say, a paragraph an entry. */
  readonly words: { readonly takes: string; readonly needs: string; readonly notes: readonly string[] }
  /** Once, before the first start. */
  readonly prepare?: (place: Place) => Promise<void> | void
  /** In the foreground, with mutual TLS. */
  readonly start: (place: Place) => Promise<RunningServer>
}
