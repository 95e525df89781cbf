import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import { setAside } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { NewAuthority } from '../store/authority-store.ts'
import type { Holder, Lock } from '../store/lock.ts'
import { sameContents } from '../store/target-store.ts'
import type { EncodedSet, TargetStore } from '../store/target-store.ts'
import { publishBundles } from './bundles.ts'
import type { BundleReport } from './bundles.ts'
import type { IssuedLeaf } from './issuance.ts'
import { refuseSharedPlaces } from './places.ts'
import type { Holdings } from './places.ts'
import { isIdle, makePlan } from './plan.ts'
import type { LeafPlan, Plan, Reason, Warning } from './plan.ts'
import { beginPreflight, brokenPairs, refusal, transitionTo } from './preflight.ts'
import type { Pair } from './preflight.ts'
import { repairKept, standInWarnings } from './repairs.ts'
import { makeReport } from './report.ts'
import type { RotationReport } from './report.ts'
import { followUpKeys } from './request.ts'
import type { RotationRequest } from './request.ts'
import { directoriesAtOnce, takeSnapshot } from './snapshot.ts'
import type { Snapshot } from './snapshot.ts'

/** What a run tells while it goes on; all of it is optional to hear. */
export interface RotationProgress {
  readonly waitingForLock?: (holder: Holder) => void
  readonly step?: (step: 'issue' | 'preflight' | 'write', done: number, total: number) => void
  /** A target holds what was to be written to it. */
  readonly written?: (target: { readonly name: string; readonly path: string; readonly reason: Reason }) => void
}

/** The instant, asked for anew after a wait. */
export type Clock = () => Date

/** rotateAll of one authority. */
export async function rotate(
  request: RotationRequest,
  clock: Clock,
  progress: RotationProgress = {},
): Promise<RotationReport> {
  const [report] = await rotateAll([request], clock, progress)
  if (!report) throw new Error('a request has a report')
  return report
}

/** How often a run looks again, after another one has changed what it had read. */
const attempts = 5

/**
 * One run: read, plan, issue, preflight, write, confirm; of several authorities, each step for all of them before the
 * next, so that what one of them is refused for leaves all as they were. Where a write meets one of another run, all of
 * it begins anew from what is there by then. Throws CertgenError `refused` with nothing written when a handshake would
 * break, `write-failed` with every target complete, `conflict` when others keep writing, and what reading and planning
 * throw; `usage` where two of what it would write are in one place.
 */
export async function rotateAll(
  requests: readonly RotationRequest[],
  clock: Clock,
  progress: RotationProgress = {},
): Promise<RotationReport[]> {
  const runs = requests.map(newRun)
  for (let attempt = 1; ; attempt++) {
    try {
      const reports = await attemptAll(runs, clock, progress)
      return attempt === 1 ? reports : reports.map((report, index) => withEarlier(report, runs[index]))
    } catch (error) {
      if (!isConflict(error) || attempt >= attempts) throw error
      for (const run of runs) run.request = againAfter(run)
    }
  }
}

/** What one request has come to, over all attempts. */
interface Run {
  request: RotationRequest
  /** Whether this run has written the authority. */
  authority: boolean
  /** The targets that this run has written, by path. */
  readonly reasons: Map<string, Reason>
  preflight: RotationReport['preflight']
}

function newRun(request: RotationRequest): Run {
  return { request, authority: false, reasons: new Map(), preflight: [] }
}

function isConflict(error: unknown): error is CertgenError {
  return error instanceof CertgenError && error.code === 'conflict'
}

/**
 * What was to be overwritten has been, by this run or by the one that it met: what is left is to finish that. Only what is
 * distrusted is not to be carried over by another run either.
 */
function againAfter({ request, authority, reasons }: Run): RotationRequest {
  const begun = authority || reasons.size > 0
  if (request.mode !== 'overwrite' || (request.distrustPrevious && !begun)) return request
  return { ...request, mode: 'ensure' }
}

/** The report of the last attempt, with what those before it had written. */
function withEarlier(report: RotationReport, run: Run | undefined): RotationReport {
  if (!run) return report
  const { authority, reasons, preflight } = run
  const message = 'another run wrote at the same time; this one went on from what it found then'
  return {
    ...report,
    changed: report.changed || authority || reasons.size > 0,
    warnings: [...report.warnings, { code: 'joined', message }],
    authority: { ...report.authority, changed: report.authority.changed || authority },
    leaves: report.leaves.map((leaf) => {
      const reason = reasons.get(leaf.target)
      return reason === undefined || leaf.changed ? leaf : { ...leaf, changed: true, reason }
    }),
    preflight: report.preflight.length > 0 ? report.preflight : preflight,
  }
}

async function attemptAll(runs: readonly Run[], clock: Clock, progress: RotationProgress): Promise<RotationReport[]> {
  // Before anything is made of what is there: a target that is the authority would look like a damaged one.
  refuseSharedPlaces(runs.map(({ request: { authority, leaves } }) => ({ authority, targets: leaves })))
  const before: Look[] = []
  for (const run of runs) before.push(await look(run, clock()))
  refuseSharedPlaces(before.map(holdingsOf))
  // A run with nothing to do needs no lock, and may not leave a trace (I5).
  const busy = before.filter(({ plan }) => !isIdle(plan))
  if (busy.length === 0) return inOrder(before, finishIdle)
  if (before.some(({ request }) => request.dryRun)) {
    return inOrder(before, async (state) =>
      isIdle(state.plan) ? finishIdle(state) : rehearse(await prepare(state, progress)),
    )
  }
  const locks = await lockAll(busy, progress)
  try {
    const steps: (() => Promise<RotationReport>)[] = []
    const seen: Look[] = []
    for (const state of before) {
      const lock = locks.get(state) ?? null
      // While the lock was waited for, another run may have done it. Without one, writes find that out.
      const current = lock ? await look(state.run, clock(), state.snapshot) : state
      seen.push(current)
      if (isIdle(current.plan)) {
        steps.push(() => finishIdle(current))
      } else {
        const prepared = await prepare(current, progress)
        steps.push(async () => {
          const written = await write(prepared, lock, progress)
          return prepared.report(true, written)
        })
      }
    }
    // The last look before the first write: to wait and to issue has taken its time.
    refuseSharedPlaces(seen.map(holdingsOf))
    return await runAll(steps)
  } finally {
    for (const lock of locks.values()) await lock?.release()
  }
}

/** Of what was found only what this authority manages: two authorities see the same directories. */
function holdingsOf({ request: { authority }, plan }: Look): Holdings {
  return { authority, targets: plan.leaves.map(({ target }) => target) }
}

/** By path, so that two runs that want the same locks never wait for each other. */
async function lockAll(states: readonly Look[], progress: RotationProgress): Promise<Map<Look, Lock | null>> {
  const locks = new Map<Look, Lock | null>()
  const pathOf = ({ request }: Look): string => request.authority.store.path
  try {
    for (const state of [...states].sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1))) {
      const { authority, lockTimeout } = state.request
      const lock = await authority.store.lock({
        timeoutMs: lockTimeout * 1000,
        ...(progress.waitingForLock ? { onWait: progress.waitingForLock } : {}),
      })
      locks.set(state, lock)
    }
    return locks
  } catch (error) {
    for (const lock of locks.values()) await lock?.release()
    throw error
  }
}

/** Each step, whatever becomes of the others; then throws what the first one failed with, conflicts last. */
async function runAll<T>(steps: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = []
  const failures: unknown[] = []
  for (const step of steps) {
    try {
      results.push(await step())
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw worst(failures)
  return results
}

/** A conflict is met by looking again; anything else is not. */
function worst(failures: readonly unknown[]): unknown {
  return failures.find((failure) => !isConflict(failure)) ?? failures[0]
}

async function inOrder<T, R>(items: readonly T[], use: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (const item of items) results.push(await use(item))
  return results
}

interface Look {
  readonly run: Run
  readonly request: RotationRequest
  readonly snapshot: Snapshot
  readonly plan: Plan
  readonly now: Date
}

async function look(run: Run, now: Date, before: Snapshot | null = null): Promise<Look> {
  const { request } = run
  const snapshot = await takeSnapshot(request, now, before)
  for (const { store, issuer } of snapshot.targets) {
    if (issuer === 'foreign' && run.reasons.has(store.path)) throw displaced(store.path, 'write-failed')
  }
  const plan = makePlan(snapshot, request, now)
  return {
    run,
    request,
    snapshot,
    plan: { ...plan, warnings: [...standInWarnings(snapshot, request), ...plan.warnings] },
    now,
  }
}

async function finishIdle({ request, snapshot, plan, now }: Look): Promise<RotationReport> {
  const { authority } = snapshot
  if (!authority) throw new Error('a run without an authority has something to do')
  const { repaired, warnings } = request.dryRun ? nothingRepaired : await repairKept(request, authority, plan.leaves)
  const bundles = await publishBundles(request, authority, snapshot, now)
  const changed = repaired || (!request.dryRun && bundles.some((bundle) => bundle.changed))
  const nothing = { pairs: [], issued: new Map(), dryRun: request.dryRun }
  return makeReport(plan, request, {
    ...nothing,
    ...{ authority, bundles, changed },
    warnings: [...plan.warnings, ...warnings],
  })
}

const nothingRepaired = { repaired: false, warnings: [] }

/** What is left of an issued leaf once it has been tried: the octets to write. */
type EncodedLeaf = Pick<IssuedLeaf, 'plan' | 'encoded'>

interface Prepared extends Look {
  readonly authority: NewAuthority
  readonly leaves: readonly EncodedLeaf[]
  readonly pairs: readonly Pair[]
  readonly report: (changed: boolean, written: Outcome) => RotationReport
}

/** What a write has come to, besides what was planned. */
interface Outcome {
  readonly bundles: readonly BundleReport[]
  readonly warnings: readonly Warning[]
}

/** Of a larger fleet only so many are in memory with all that OpenSSL holds of them. */
const leavesInPart = 250

/** Issues in memory and proves that it holds: everything that can be refused is refused here. */
async function prepare(state: Look, progress: RotationProgress): Promise<Prepared> {
  const { request, plan, snapshot, now } = state
  const work = plan.leaves.filter((leaf) => leaf.work.action !== 'keep')
  // What issues certificates takes longer to load than a run with nothing to do takes in all.
  const { beginIssuance } = await import('./issuance.ts')
  const issuance = await beginIssuance(plan, snapshot.authority, now)
  // What is kept is neither old nor new, and is not tried: it trusts the roots that the others are tried with.
  const trial = beginPreflight(now)
  const leaves: EncodedLeaf[] = []
  const issued = new Map<LeafPlan, Certificate>()
  // Of each part no more is kept than what is written: parsed keys and certificates are many times as large.
  for (let start = 0; start < work.length; start += leavesInPart) {
    progress.step?.('issue', start, work.length)
    const part = await issuance.issue(work.slice(start, start + leavesInPart))
    progress.step?.('preflight', start, work.length)
    for (const { plan: leaf, set, encoded } of part) {
      trial.add(transitionTo(leaf.target, { ...set, encoded }))
      leaves.push({ plan: leaf, encoded })
      const [certificate] = set.chain
      if (!certificate) continue
      issued.set(leaf, certificate)
      setAside(certificate)
    }
  }
  const pairs = await trial.shakeHands()
  const warnings = [...plan.warnings, ...issuance.warnings]
  const broken = brokenPairs(pairs)
  if (broken.length > 0) {
    if (!request.force && !request.distrustPrevious)
      throw refusal('rotation', broken, [...foreignHints(work), ...refusalHints])
    const peers = broken.map(({ profile, server, client }) => `${server} server with ${client} client (${profile})`)
    const message = `until every peer has loaded the change, handshakes fail: ${peers.join('; ')}`
    warnings.push({ code: 'handshake-breaks', message })
  }
  return {
    ...state,
    authority: issuance.authority,
    leaves,
    pairs,
    report: (changed, written) =>
      makeReport(plan, request, {
        dryRun: !changed,
        changed,
        authority: issuance.authority,
        issued,
        pairs,
        bundles: written.bundles,
        warnings: [...warnings, ...written.warnings],
      }),
  }
}

const refusalHints = [
  'rotate without a gap with --strategy auto, which is the default',
  'or write all the same with --force, where no peer is in use',
]

/** Peers of another authority know nothing of this one, and no strategy tells them. */
function foreignHints(work: readonly LeafPlan[]): string[] {
  const foreign = work.find(({ target }) => target.issuer === 'foreign')
  if (!foreign) return []
  const { path } = foreign.target.store
  return [
    `${path} holds a leaf of another authority: where that is still at work, give this one a directory of its own`,
  ]
}

/** What a run would do that is not to write. */
async function rehearse({ request, authority, snapshot, now, report }: Prepared): Promise<RotationReport> {
  return report(false, { bundles: await publishBundles(request, authority, snapshot, now), warnings: [] })
}

/**
 * The authority first, so that its key is durable before a leaf it signed is visible (I4); then the bundles, so that who
 * verifies knows the root before a leaf of it is presented; then the targets.
 */
async function write(
  { run, request, authority, leaves, plan, snapshot, pairs, now }: Prepared,
  lock: Lock | null,
  progress: RotationProgress,
): Promise<Outcome> {
  const options = { now, ...(lock ? { beforeSwap: () => lock.assertHeld() } : {}) }
  const { store, bundles = [] } = request.authority
  const places = [...bundles, ...leaves.map(({ plan: { target } }) => target.store)]
  await pMap(places, (place) => place.assertWritable(), { concurrency: directoriesAtOnce })
  const warnings: Warning[] = []
  if (plan.authority.action === 'keep') {
    await store.sync()
  } else {
    const inSight = snapshot.targets.flatMap(({ set }) => set?.chain[0] ?? [])
    warnings.push(...(await store.write(authority, { ...options, leaves: inSight })))
    run.authority = true
  }
  run.preflight = pairs
  const published = await publishBundles(request, authority, snapshot, now)
  let done = 0
  const failures: unknown[] = []
  await pMap(
    leaves,
    async ({ plan: { target, reason }, encoded }) => {
      try {
        const undelivered = followUpKeys(request, target.asked, target.contents === null)
        warnings.push(...(await target.store.write(encoded, { ...options, undelivered })))
        run.reasons.set(target.store.path, reason)
        await confirm(target.store, encoded)
        progress.written?.({ name: target.name, path: target.store.path, reason })
      } catch (error) {
        // One target that cannot be written must not keep the others from converging.
        failures.push(error)
      }
      progress.step?.('write', ++done, leaves.length)
    },
    { concurrency: directoriesAtOnce },
  )
  if (failures.length > 0) throw incomplete(failures, leaves.length)
  const kept = await repairKept(request, plan.authority.action === 'keep' ? snapshot.authority : null, plan.leaves)
  return { bundles: published, warnings: [...warnings, ...kept.warnings] }
}

/** Reads back what a reader would read. Another run of certgen may have written since; whoever it was, it is looked into. */
async function confirm(store: TargetStore, encoded: EncodedSet): Promise<void> {
  const contents = await store.read()
  if (contents?.copiesAgree && sameContents(contents, encoded)) return
  throw displaced(store.path, 'conflict')
}

function displaced(path: string, code: 'conflict' | 'write-failed'): CertgenError {
  return new CertgenError(code, `${path} does not hold what was written to it`, {
    hints: ['look for another program that writes there, and run certgen again'],
  })
}

function incomplete(failures: readonly unknown[], total: number): unknown {
  const first = worst(failures)
  // The lock is no target's: whoever has taken it goes on from what there is.
  const isOfAll = isConflict(first) || (first instanceof CertgenError && first.code === 'lock-held')
  if (total === 1 || isOfAll || !(first instanceof CertgenError)) return first
  return new CertgenError('write-failed', `${failures.length} of ${total} targets were not written completely`, {
    cause: first,
    hints: [
      ...failures.slice(0, 5).map((failure) => (failure instanceof Error ? failure.message : String(failure))),
      ...first.hints,
      'every target holds a complete generation; mend the cause and run certgen again to finish the rotation',
    ],
  })
}
