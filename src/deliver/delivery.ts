import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import type { TargetStore } from '../store/target-store.ts'
import { readExpectation } from './expectation.ts'
import { keyOf } from './action.ts'
import type { Action } from './action.ts'
import { runHook } from './hooks.ts'
import { parseEndpoint, probeUntil } from './probe.ts'

/** What an action came to (contract: `actions[]`). */
export interface ActionReport {
  readonly kind: Action['kind'] | 'secret'
  readonly subject: string
  readonly ok: boolean
  /** Why it failed, or what else there is to say of it; null for neither. */
  readonly detail: string | null
}

/** A target, and what is to follow its last write. */
export interface Delivery {
  readonly store: TargetStore
  readonly actions: readonly Action[]
  /** Keys of what has not succeeded yet. */
  readonly due: readonly string[]
  /** Whether `actions` are all that is ever asked for: what else is due is dropped then, and kept otherwise. */
  readonly exhaustive: boolean
}

/** Milliseconds that a server may take to load a change, and that one handshake may take. */
const probeLimit = 60_000
const handshakeLimit = 10_000
const probesAtOnce = 8

/**
 * Runs what is due: hooks and restarts first, the same one once for all its targets; then probes, which see what came of them. Notes
 * with each target what is still due, so that the next run tries it again. Nothing is thrown for an action that fails:
 * the certificates are written, and the reports say what did not follow.
 */
export async function deliver(deliveries: readonly Delivery[], clock: () => Date): Promise<ActionReport[]> {
  const reports: ActionReport[] = []
  const failed = new Map<Delivery, Set<string>>()
  const note = (key: string, report: ActionReport, of: readonly Delivery[]): void => {
    reports.push(report)
    if (report.ok) return
    for (const delivery of of) failed.set(delivery, (failed.get(delivery) ?? new Set()).add(key))
  }
  for (const [key, { action, of }] of sharedActions(deliveries)) note(key, await runShared(action, of, clock), of)
  await pMap(
    probes(deliveries),
    async ({ key, endpoint, delivery }) => note(key, await probeTarget(endpoint, delivery.store, clock), [delivery]),
    { concurrency: probesAtOnce },
  )
  for (const delivery of deliveries) await settle(delivery, failed.get(delivery) ?? new Set())
  return reports
}

/** What is done once for all targets that ask for it. */
type SharedAction = Exclude<Action, { kind: 'probe' }>
type Shared = Map<string, { readonly action: SharedAction; readonly of: Delivery[] }>

function sharedActions(deliveries: readonly Delivery[]): Shared {
  const shared: Shared = new Map()
  for (const delivery of deliveries) {
    for (const action of delivery.actions) {
      const key = keyOf(action)
      if (action.kind === 'probe' || !delivery.due.includes(key)) continue
      const known = shared.get(key)
      if (!known) shared.set(key, { action, of: [delivery] })
      else if (!known.of.includes(delivery)) known.of.push(delivery)
    }
  }
  return shared
}

async function runShared(
  action: SharedAction,
  of: readonly Delivery[],
  clock: () => Date,
): Promise<Omit<ActionReport, 'kind'> & { readonly kind: SharedAction['kind'] }> {
  if (action.kind !== 'restart') {
    const environment = { CERTGEN_TARGETS: of.map(({ store }) => store.path).join('\n') }
    return runHook(action, environment, new AbortController().signal)
  }
  const { workload, restarter } = action
  const outcome = await restarter.restart(workload, clock(), await lastChange(of))
  return { kind: 'restart', subject: workload, ...outcome }
}

/** When the last of the targets was written; null where that is not known exactly. */
async function lastChange(of: readonly Delivery[]): Promise<Date | null> {
  const contents = await Promise.all(of.map(({ store }) => store.read()))
  const written = contents.map((each) => each?.writtenAt?.getTime() ?? null).filter((time) => time !== null)
  const last = Math.max(...written)
  // A directory knows the second: it cannot tell two changes within one apart.
  return written.length === 0 || last % 1000 === 0 ? null : new Date(last)
}

function probes(deliveries: readonly Delivery[]): { key: string; endpoint: string; delivery: Delivery }[] {
  return deliveries.flatMap((delivery) =>
    delivery.actions.flatMap((action) => {
      const key = keyOf(action)
      return action.kind === 'probe' && delivery.due.includes(key) ? [{ key, endpoint: action.endpoint, delivery }] : []
    }),
  )
}

async function probeTarget(endpoint: string, store: TargetStore, clock: () => Date): Promise<ActionReport> {
  const report = (detail: string | null): ActionReport => {
    return { kind: 'probe', subject: endpoint, ok: detail === null, detail }
  }
  try {
    const { expect, bundle } = await readExpectation(store, clock())
    const request = { ...parseEndpoint(endpoint), bundle, expect, timeout: handshakeLimit }
    const { ok, endpoints } = await probeUntil(request, probeLimit, clock)
    const details = endpoints.flatMap(({ address, findings }) => findings.map(({ detail }) => `${address}: ${detail}`))
    return report(ok ? null : details.join('; '))
  } catch (error) {
    if (error instanceof CertgenError) return report(error.message)
    throw error
  }
}

async function settle({ store, due, actions, exhaustive }: Delivery, failed: ReadonlySet<string>): Promise<void> {
  const asked = new Set(actions.map(keyOf))
  const left = due.filter((key) => failed.has(key) || (!exhaustive && !asked.has(key)))
  const contents = await store.read()
  if (contents && contents.undelivered.join('\n') !== left.join('\n')) await store.settle(contents, left)
}
