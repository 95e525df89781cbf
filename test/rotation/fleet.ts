import { readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { handshake } from '../../src/pki/handshake.ts'
import type { HandshakeResult, Peer } from '../../src/pki/handshake.ts'
import { defaults } from '../../src/rotation/request.ts'
import type { AskedLeaf, RotationRequest } from '../../src/rotation/request.ts'
import { directoryAuthority } from '../../src/store/authority-store.ts'
import { directoryTarget, readPreviousTarget, targetAt } from '../../src/store/target-store.ts'

/** What the tests of rotations share: requests, sets as peers load them, and the four cells of old and new. */

/** A peer with its own certificate, as every service of a fleet is. */
export interface Service extends Peer {
  readonly identity: NonNullable<Peer['identity']>
  readonly bundle: Buffer
}

/** The set that a service loads which resolves `..data` now, once. */
export function loadSet(target: string): Service {
  const generation = realpathSync(join(target, '..data'))
  const read = (name: string): Buffer => readFileSync(join(generation, name))
  return { identity: { chain: read('tls.crt'), key: read('tls.key') }, bundle: read('ca.crt') }
}

/** The set that a service still has which has not loaded the last change. */
export async function loadPreviousSet(target: string): Promise<Service> {
  const contents = await readPreviousTarget(targetAt(target))
  if (!contents?.cert || !contents.key || !contents.ca) throw new Error(`${target} has no previous generation`)
  return { identity: { chain: contents.cert, key: contents.key }, bundle: contents.ca }
}

/**
 * Tries the four cells that two generations make, by mutual TLS. Returns a line for each that fails; the server is of
 * the first target and the client of the second, which may be the same.
 */
export async function failingCells(
  server: { readonly old: Service; readonly new: Service },
  client: { readonly old: Service; readonly new: Service } = server,
): Promise<string[]> {
  const failing: string[] = []
  for (const ofServer of ['old', 'new'] as const) {
    for (const ofClient of ['old', 'new'] as const) {
      const result = await handshake(server[ofServer], client[ofClient])
      if (!result.ok) failing.push(`${ofServer} server, ${ofClient} client: ${reasonOf(result)}`)
    }
  }
  return failing
}

export function reasonOf({ failure, serverRefused, clientRefused }: HandshakeResult): string {
  return failure ?? [serverRefused, clientRefused].filter(Boolean).join(', ')
}

/** A request as the command line makes it without flags. */
export function requestFor(dir: string, changes: Partial<RotationRequest> = {}): RotationRequest {
  return {
    authority: { store: directoryAuthority({ directory: join(dir, 'ca') }) },
    leaves: [],
    discovery: { dir, except: [] },
    scope: 'fleet',
    mode: 'ensure',
    keepAuthority: false,
    strategy: 'auto',
    settle: defaults.settle,
    distrustPrevious: false,
    force: false,
    dryRun: false,
    lockTimeout: defaults.lockTimeout,
    ...changes,
  }
}

/** A leaf of its own, by name alone. */
export function namedLeaf(dir: string, name: string): AskedLeaf {
  return { name, store: directoryTarget(targetAt(join(dir, name))), explicit: true }
}

/**
 * A clock that runs ahead, by less than five minutes: handshakes go by the process's own, and so much earlier than they
 * are made do certificates begin.
 */
export function later(seconds: number): () => Date {
  const instant = new Date(Date.now() + seconds * 1000)
  return () => instant
}
