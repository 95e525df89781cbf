import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import { isIssuedBy } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { StoredAuthority } from '../store/authority-store.ts'
import type { EncodedSet } from '../store/target-store.ts'
import { refuseSharedPlaces } from './places.ts'
import type { Warning } from './plan.ts'
import { brokenPairs, preflight, refusal, transitionTo, wholeSet } from './preflight.ts'
import type { Pair, Transition } from './preflight.ts'
import { followUpKeys } from './request.ts'
import type { RotationRequest } from './request.ts'
import type { Clock } from './rotate.ts'
import { checkTarget, directoriesAtOnce, takeSnapshot } from './snapshot.ts'
import type { SnapshotRequest, TargetSnapshot } from './snapshot.ts'

export type RollbackRequest = SnapshotRequest &
  Pick<RotationRequest, 'followUps' | 'lockTimeout' | 'force' | 'dryRun'> & {
    /** One target; null: the authority and every target. */
    readonly name: string | null
  }

export interface RollbackReport {
  readonly changed: boolean
  readonly dryRun: boolean
  readonly authority: { readonly changed: boolean; readonly subject: string; readonly sha256: string }
  readonly leaves: readonly {
    readonly name: string
    readonly target: string
    readonly changed: boolean
    readonly sha256: string
    /** As LeafReport.undelivered. */
    readonly undelivered: readonly string[]
  }[]
  readonly preflight: readonly Pair[]
  readonly warnings: readonly Warning[]
}

/** A target and the generation it returns to. */
interface Step {
  readonly target: TargetSnapshot
  readonly encoded: EncodedSet
  readonly transition: Transition
}

/**
 * rollback for several authorities: what one of them would be refused for is found before any is touched, and one that
 * has nothing to return to stays, unless that holds for all, or NAME is nobody's.
 */
export async function rollbackAll(requests: readonly RollbackRequest[], clock: Clock): Promise<RollbackReport[]> {
  const possible: RollbackRequest[] = []
  let nothing: CertgenError | null = null
  for (const request of requests) {
    try {
      if (requests.length > 1) await rollback({ ...request, dryRun: true }, clock)
      possible.push(request)
    } catch (error) {
      if (!(error instanceof CertgenError) || error.code !== 'unusable') throw error
      nothing = error
    }
  }
  if (nothing && possible.length === 0) throw nothing
  const reports: RollbackReport[] = []
  for (const request of possible) reports.push(await rollback(request, clock))
  return reports
}

/**
 * Puts the previous generation's contents back, as a new generation whose previous one is the current: so a second
 * rollback returns to where it was, by the same swap as any other write. Preflight applies. Throws CertgenError
 * `refused`, `unusable` when there is no previous generation, `usage` where there never is one, `write-failed`.
 */
export async function rollback(request: RollbackRequest, clock: Clock): Promise<RollbackReport> {
  const { store } = request.authority
  const lock = request.dryRun ? null : await store.lock({ timeoutMs: request.lockTimeout * 1000 })
  try {
    const now = clock()
    const { authority, targets, steps, own } = await planRollback(request, now)
    const pairs = await preflight(allTransitions(targets, steps), now)
    const broken = brokenPairs(pairs)
    if (broken.length > 0 && !request.force) {
      throw refusal('rollback', broken, ['write all the same with --force, where no peer is in use'])
    }
    refuseSharedPlaces([{ authority: request.authority, targets: own }])
    const warnings: Warning[] = []
    if (!request.dryRun) {
      const options = { now, ...(lock ? { beforeSwap: () => lock.assertHeld() } : {}) }
      // As in a rotation, the authority first: its key must be durable before a leaf it signed is visible (I4).
      if (authority.changed) warnings.push(...(await store.write(authority.stored, options)))
      for (const { target, encoded } of steps) {
        const undelivered = followUpKeys(request, target.asked, false)
        warnings.push(...(await target.store.write(encoded, { ...options, undelivered })))
      }
    }
    const { subject, sha256 } = authority.stored.certificate
    return {
      changed: !request.dryRun,
      dryRun: request.dryRun,
      authority: { changed: authority.changed, subject, sha256 },
      leaves: targets.map((target) => describeTarget(target, steps, request)),
      preflight: pairs,
      warnings,
    }
  } finally {
    await lock?.release()
  }
}

/** A target that stays, such as one made since, will meet those that return: it is tried as it is. */
function allTransitions(targets: readonly TargetSnapshot[], steps: readonly Step[]): Transition[] {
  return targets.flatMap((target): Transition[] => {
    const step = steps.find((candidate) => candidate.target === target)
    if (step) return [step.transition]
    const encoded = target.contents && wholeSet(target.contents)
    return encoded && target.set ? [transitionTo(target, { ...target.set, key: null, encoded })] : []
  })
}

function describeTarget(
  target: TargetSnapshot,
  steps: readonly Step[],
  request: RollbackRequest,
): RollbackReport['leaves'][number] {
  const step = steps.find((candidate) => candidate.target === target)
  const leaf = step?.transition.new.chain[0] ?? target.set?.chain[0]
  const { name, store } = target
  const undelivered = step ? followUpKeys(request, target.asked, false) : (target.contents?.undelivered ?? [])
  return { name, target: store.path, changed: step !== undefined, sha256: leaf?.sha256 ?? '', undelivered }
}

interface RollbackPlan {
  readonly authority: { readonly stored: StoredAuthority; readonly changed: boolean }
  readonly targets: readonly TargetSnapshot[]
  readonly steps: readonly Step[]
  /** All that are not somebody else's. */
  readonly own: readonly TargetSnapshot[]
}

async function planRollback(request: RollbackRequest, now: Date): Promise<RollbackPlan> {
  const snapshot = await takeSnapshot(request, now)
  const current = snapshot.authority
  if (!current) throw nothingToReturnTo(request.authority.store.path)
  const own = snapshot.targets.filter(({ contents, issuer }) => contents !== null && issuer !== 'foreign')
  const targets = request.name === null ? own : snapshot.targets.filter(({ name }) => name === request.name)
  const kept = [...(request.name === null ? [request.authority.store] : []), ...targets.map(({ store }) => store)]
  for (const { path, keepsPrevious } of kept) if (!keepsPrevious) throw cannotReturn(path)
  const steps = (await pMap(targets, (target) => readStep(target, now), { concurrency: directoriesAtOnce })).filter(
    (step) => step !== null,
  )
  if (request.name !== null) {
    if (steps.length === 0) throw nothingToReturnTo(targets[0]?.store.path ?? request.name)
    return { authority: { stored: current, changed: false }, targets, steps, own }
  }
  const previous = await request.authority.store.readPrevious()
  const changed = previous !== null && returnsTo(previous, current, targets, steps)
  const authority = { stored: changed ? previous : current, changed }
  const returning = steps.filter(({ transition }) => isOf(transition.new.chain, authority.stored))
  if (returning.length === 0 && !changed) throw nothingToReturnTo(request.authority.store.path)
  return { authority, targets, steps: returning, own }
}

/**
 * Whether the authority goes back too. It does if a target's previous leaf is of the previous authority, or its current
 * one, for an interruption left it there; and where no leaf can go back. It does not where only leaves were reissued.
 */
function returnsTo(
  previous: StoredAuthority,
  current: StoredAuthority,
  targets: readonly TargetSnapshot[],
  steps: readonly Step[],
): boolean {
  const crosses = steps.some(({ transition }) => isOf(transition.new.chain, previous))
  const stayed = targets.some(({ set }) => set !== null && isOf(set.chain, previous))
  return crosses || stayed || !steps.some(({ transition }) => isOf(transition.new.chain, current))
}

function isOf([leaf]: readonly Certificate[], { certificate }: StoredAuthority): boolean {
  return leaf !== undefined && isIssuedBy(leaf, certificate)
}

/** null when the target has no previous generation. */
async function readStep(target: TargetSnapshot, now: Date): Promise<Step | null> {
  const previous = await target.store.readPrevious()
  const encoded = previous && wholeSet(previous)
  if (!encoded) return null
  const { chain, key, bundle } = checkTarget(target.store, previous, now)
  return { target, encoded, transition: transitionTo(target, { chain, key, bundle, encoded }) }
}

function cannotReturn(path: string): CertgenError {
  return new CertgenError('usage', `${path} keeps no previous generation to return to; nothing was written`, {
    hints: [
      'reissue its leaf from the current authority: certgen --overwrite --keep-ca',
      'or rotate once more, which is as safe: certgen --overwrite',
    ],
  })
}

function nothingToReturnTo(what: string): CertgenError {
  return new CertgenError('unusable', `there is no previous generation of ${what}`, {
    hints: ['certgen keeps one generation back, from the last rotation'],
  })
}
