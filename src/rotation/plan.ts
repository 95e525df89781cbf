import { CertgenError } from '../errors.ts'
import { hasErrors } from '../findings.ts'
import type { Finding } from '../findings.ts'
import { sameCertificate } from '../pki/certificate.ts'
import type { Certificate, Usage } from '../pki/certificate.ts'
import { closestKeyType, defaultKeyType } from '../pki/key.ts'
import { dueAt, isDue, isValidAt, lifetimeOf } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import { sameNames } from '../pki/names.ts'
import type { LeafRequest, RootRequest } from '../pki/request.ts'
import { commonNameOf, defaultSubject, unmarkedSubject } from '../pki/subject.ts'
import type { StoredAuthority } from '../store/authority-store.ts'
import { defaults } from './request.ts'
import type { AskedLeaf, RotationRequest, Strategy } from './request.ts'
import type { Snapshot, TargetSnapshot } from './snapshot.ts'

/** Why a leaf is written, or not (contract: `leaves[].reason`). */
export type Reason = 'missing' | 'overwrite' | 'due' | 'drift' | 'unfinished' | 'kept'

export type AuthorityPlan =
  | { readonly action: 'keep' }
  /** There is none. */
  | { readonly action: 'make'; readonly root: RootRequest }
  /** A new root replaces the current one in this run. */
  | { readonly action: 'rotate'; readonly root: RootRequest; readonly crossSign: boolean; readonly carryOver: boolean }
  /** Staged, first run: a successor is made and only its certificate published. */
  | { readonly action: 'stage'; readonly root: RootRequest }
  /** Staged, second run: the successor becomes the authority. */
  | { readonly action: 'promote' }

export interface LeafPlan {
  readonly target: TargetSnapshot
  readonly reason: Reason
  readonly work:
    | { readonly action: 'issue'; readonly leaf: LeafRequest }
    /** Same leaf and key in a new generation: the chain or the bundle beside them changes. */
    | { readonly action: 'republish' }
    | { readonly action: 'keep' }
}

export interface Warning {
  readonly code: string
  readonly message: string
}

export interface Plan {
  readonly authority: AuthorityPlan
  readonly leaves: readonly LeafPlan[]
  /** How a rotation crosses convergence here, whether or not this run makes one. */
  readonly strategy: Exclude<Strategy, 'auto'>
  /** The run of a staged rotation that this is, or that is waited for. */
  readonly stage: 1 | 2 | null
  /** When the second run of a staged rotation may begin; null when nothing is waited for. */
  readonly resumesAt: Date | null
  readonly warnings: readonly Warning[]
}

/** What is on disk, what is asked and the instant give what is issued, why, and what is carried over. Pure. */
export function makePlan(snapshot: Snapshot, request: RotationRequest, now: Date): Plan {
  const warnings: Warning[] = []
  const targets = snapshot.targets.filter((target) => isManaged(target, warnings))
  checkAuthority(snapshot.authority, targets, request, now)
  for (const target of targets) checkTargetState(target, request, warnings, now)
  const unfinished = targets.filter((target) => unfinishedPart(target, snapshot.authority) !== null)
  const { strategy, obstacle } = chooseStrategy(snapshot.authority, request, now)
  const rotation = { snapshot, request, targets, unfinished, strategy, obstacle, now, warnings }
  const { authority, stage, resumesAt } = planAuthority(rotation)
  const leaves = targets
    .map((target) => planLeaf(target, authority, rotation))
    .filter((leaf): leaf is LeafPlan => leaf !== null)
  return { authority, leaves, strategy, stage, resumesAt, warnings }
}

/** Whether the run has nothing to write. */
export function isIdle(plan: Plan): boolean {
  return plan.authority.action === 'keep' && plan.leaves.every(({ work }) => work.action === 'keep')
}

interface Rotation extends Choice {
  readonly snapshot: Snapshot
  readonly request: RotationRequest
  readonly targets: readonly TargetSnapshot[]
  readonly unfinished: readonly TargetSnapshot[]
  readonly now: Date
  readonly warnings: Warning[]
}

/** Directories that somebody else's authority serves are left alone, unless one is asked for by name. */
function isManaged(target: TargetSnapshot, warnings: Warning[]): boolean {
  if (isForeign(target)) {
    warnings.push(foreignWarning(target.store.path))
    return false
  }
  if (target.asked && target.issuer === 'foreign') warnings.push(sharedWarning(target.store.path))
  return !isStray(target)
}

/** Another configuration may have it for a target too; or it was installed there, and is to become ours. */
function sharedWarning(path: string): Warning {
  return { code: 'foreign-target', message: `${path} is asked for here, and holds a leaf of another authority` }
}

export function foreignWarning(path: string): Warning {
  return { code: 'foreign-target', message: `${path} holds a leaf of another authority and was left alone` }
}

/** A directory that nobody asks for, with the leaf of an authority that is not ours. */
export function isForeign({ asked, set, issuer }: TargetSnapshot): boolean {
  return asked === null && set !== null && set.chain.length > 0 && issuer === 'foreign'
}

/** A directory that nobody asks for, with CA certificates alone: no service could load it. */
export function isStray({ asked, contents, set }: TargetSnapshot): boolean {
  return asked === null && set?.chain.length === 0 && contents?.cert === null && contents.key === null
}

function checkAuthority(
  authority: StoredAuthority | null,
  targets: readonly TargetSnapshot[],
  request: RotationRequest,
  now: Date,
): void {
  const { path } = request.authority.store
  if (!authority) {
    const orphan = targets.find(({ contents }) => contents !== null)
    if (leafInScope(request) !== null) {
      throw new CertgenError('authority-unusable', `there is no authority in ${path}`, {
        hints: ['make one with: certgen ca'],
      })
    }
    if (!orphan) return
    throw new CertgenError('authority-unusable', `${path} is gone, but ${orphan.store.path} has a leaf`, {
      hints: [
        `restore ${path} from a backup`,
        ...(orphan.asked
          ? ['or, where another certgen.yaml has it for a target, give this one a directory of its own']
          : []),
        'or, to begin anew, move the targets away: peers that trust the old authority will refuse the new one',
      ],
    })
  }
  const replaces = asksForAuthority(request)
  if (isValidAt(authority.certificate, now) || replaces) return
  const ended = authority.certificate.notAfter < now
  const instant = (ended ? authority.certificate.notAfter : authority.certificate.notBefore).toISOString()
  throw new CertgenError(
    'authority-unusable',
    `the authority in ${path} ${ended ? 'expired on' : 'is not valid before'} ${instant}`,
    {
      hints: ended
        ? ['make a new authority and new leaves with: certgen --overwrite']
        : ["check the machine's clock, or make a new authority with: certgen --overwrite"],
    },
  )
}

/** A target that cannot be read back is never guessed at: the run stops before anything is written. */
function checkTargetState(target: TargetSnapshot, request: RotationRequest, warnings: Warning[], now: Date): void {
  const { set, contents, store, name, asked } = target
  if (!set || !contents) return
  const broken = set.findings.filter(isDamage)
  if (!hasErrors(broken)) {
    const leaf = set.chain[0]
    if (leaf && leaf.notAfter < now && request.mode === 'ensure') {
      warnings.push({
        code: 'leaf-expired',
        message: `the leaf in ${store.path} expired on ${leaf.notAfter.toISOString()}; renew it with --renew`,
      })
    }
    return
  }
  const namesKnown = set.chain.length > 0 || asked?.names !== undefined
  if (request.mode === 'overwrite' && namesKnown) return
  const lacks = contents.cert === null ? 'certificate' : contents.key === null ? 'key' : null
  throw new CertgenError(
    'unusable',
    lacks === null
      ? `the target ${store.path} is damaged`
      : `the target ${store.path} has a ${lacks === 'key' ? 'certificate' : 'key'}, but its ${lacks} is missing`,
    {
      findings: broken,
      hints: [
        `go back to its previous generation with: certgen rollback ${name}`,
        namesKnown
          ? 'or make it anew with: certgen --overwrite'
          : `or make it anew with: certgen --overwrite --name ${name} --dns HOST, for its names cannot be read`,
      ],
    },
  )
}

const brokenCodes = new Set(['pem-damaged', 'pem-empty', 'key-encrypted', 'key-mismatch'])

/** Whether a finding means that a target cannot be read back. */
export function isDamage({ code, severity }: Finding): boolean {
  return severity === 'error' && brokenCodes.has(code)
}

/** The roots of an authority: what is asked of its leaves is judged by them alone. */
export interface Roots {
  readonly certificate: Certificate
  /** The staged successor. */
  readonly next: { readonly certificate: Certificate } | null
}

/**
 * What an interrupted rotation left behind: a leaf on an earlier authority, a bundle without a root that is published to
 * all, or two places that do not agree.
 */
export type Unfinished = 'earlier-authority' | 'root-missing' | 'copies-differ'

export function unfinishedPart(target: TargetSnapshot, authority: Roots | null): Unfinished | null {
  if (target.issuer === 'stranded') return 'earlier-authority'
  if (target.contents?.copiesAgree === false) return 'copies-differ'
  if (!authority || target.issuer !== 'current') return null
  return publishedRoots(authority).every((root) => trusts(target, root)) ? null : 'root-missing'
}

export function publishedRoots(authority: Roots): Certificate[] {
  return authority.next ? [authority.certificate, authority.next.certificate] : [authority.certificate]
}

function trusts(target: TargetSnapshot, root: Certificate): boolean {
  return target.set?.bundle.some((entry) => sameCertificate(entry, root)) ?? false
}

interface Choice {
  readonly strategy: Exclude<Strategy, 'auto'>
  /** Why no cross-certificate can be made; null when one can. */
  readonly obstacle: string | null
}

function chooseStrategy(authority: StoredAuthority | null, request: RotationRequest, now: Date): Choice {
  const obstacle = authority ? crossSignObstacle(authority, now) : null
  if (request.distrustPrevious) return { strategy: 'replace', obstacle }
  if (request.strategy !== 'auto') return { strategy: request.strategy, obstacle }
  if (obstacle === null) return { strategy: authority?.next ? 'staged' : 'cross-sign', obstacle }
  // An expired root is trusted by nobody: there is no convergence to cross.
  const expired = authority !== null && authority.certificate.notAfter < now
  return { strategy: expired ? 'replace' : 'staged', obstacle }
}

function crossSignObstacle({ certificate, key }: StoredAuthority, now: Date): string | null {
  if (certificate.notAfter < now) return 'the current authority has expired'
  if (!key) return "the current authority's key is not at hand"
  // Verifiers count the cross-certificate against the path length (Go, GnuTLS).
  if (certificate.pathLength === 0) return 'the current authority has pathlen:0'
  return null
}

type AuthorityDecision = Pick<Plan, 'stage' | 'resumesAt'> & { readonly authority: AuthorityPlan }

function planAuthority(rotation: Rotation): AuthorityDecision {
  const { snapshot, request, unfinished, strategy, now, warnings } = rotation
  const stored = snapshot.authority
  const keep: AuthorityDecision = { authority: { action: 'keep' }, stage: null, resumesAt: null }
  if (!stored) return { ...keep, authority: { action: 'make', root: rootRequest(request, null) } }
  const asked = asksForAuthority(request)
  // Nothing is carried over from an authority whose key has leaked: there is no convergence to wait for.
  const distrusts = asked && request.distrustPrevious
  if (unfinished.length > 0 && !distrusts) {
    if (asked) {
      warnings.push({
        code: 'finished-first',
        message:
          'an interrupted rotation was found and is finished by this run; ' +
          'to rotate once more, run certgen again when every peer has loaded it',
      })
    }
    return stored.next ? { ...keep, stage: 1, resumesAt: settled(now, request.settle) } : keep
  }
  const due = request.mode === 'renew' && request.scope === 'fleet' && isAuthorityDue(stored, rotation)
  if (stored.next && !distrusts) {
    return asked || request.mode === 'renew' ? planSecondStage(stored, rotation) : { ...keep, stage: 1 }
  }
  if (!asked && !due) return keep
  checkStrategy(rotation)
  refuseToStrand(rotation)
  warnIfUnsettled(rotation)
  const root = rootRequest(request, stored.certificate)
  if (strategy === 'staged')
    return { authority: { action: 'stage', root }, stage: 1, resumesAt: settled(now, request.settle) }
  const crossSign = strategy === 'cross-sign'
  return { ...keep, authority: { action: 'rotate', root, crossSign, carryOver: !request.distrustPrevious } }
}

/**
 * Without its leaves nothing is tried in preflight, and by `replace` those that are there would be cut off from their
 * authority, for the run that is to reissue them to refuse (I2).
 */
function refuseToStrand({ request, strategy, snapshot, targets, now }: Rotation): void {
  if (request.scope !== 'authority' || strategy !== 'replace' || request.force || request.distrustPrevious) return
  const trusted = snapshot.authority !== null && snapshot.authority.certificate.notAfter >= now
  const left = targets.find(({ issuer }) => issuer === 'current')
  if (!trusted || !left) return
  throw new CertgenError('refused', `the leaf in ${left.store.path} would be cut off from its authority`, {
    hints: [
      'replace both at once with: certgen --overwrite --strategy replace',
      'or write all the same with --force, where no peer is in use',
    ],
  })
}

function checkStrategy({ request, strategy, obstacle, warnings }: Rotation): void {
  if (obstacle === null) return
  if (strategy === 'cross-sign') {
    throw new CertgenError('refused', `no cross-certificate can be made: ${obstacle}`, {
      hints: ['rotate in two runs with: certgen --overwrite --strategy staged'],
    })
  }
  if (strategy === 'staged' && request.strategy === 'auto') {
    warnings.push({ code: 'staged', message: `this rotation takes two runs, for ${obstacle}` })
  }
}

function rootRequest({ authority }: RotationRequest, current: Certificate | null): RootRequest {
  return {
    subject: authority.subject ?? (current ? unmarkedSubject(current) : defaultSubject),
    keyType: authority.keyType ?? (current ? closestKeyType(current.keyKind) : defaultKeyType),
    lifetime: authority.lifetime ?? (current ? lifetimeOf(current) : defaults.authorityLifetime),
  }
}

/** The first run's instant is read from the generations themselves; the second waits until `settle` has passed. */
function planSecondStage(stored: StoredAuthority, { targets, request, now }: Rotation): AuthorityDecision {
  const published = latest([stored.writtenAt, ...targets.map(({ contents }) => contents?.writtenAt ?? null)])
  const resumesAt = settled(published ?? now, request.settle)
  if (now < resumesAt) return { authority: { action: 'keep' }, stage: 1, resumesAt }
  return { authority: { action: 'promote' }, stage: 2, resumesAt: null }
}

/** When peers have loaded what was written at this instant. Generations are named by whole seconds. */
export function settled(written: Date, settle: Duration): Date {
  return new Date((Math.floor(written.getTime() / 1000) + settle) * 1000)
}

export function latest(times: readonly (Date | null)[]): Date | null {
  return times.reduce((last, time) => (last === null || (time !== null && time > last) ? time : last), null)
}

function isAuthorityDue({ certificate }: StoredAuthority, { targets, request, now }: Rotation): boolean {
  const lifetimes = targets.map((target) => intendedLifetime(target, certificate))
  return now >= authorityDueAt(certificate, lifetimes, request.authority.lifetime)
}

/**
 * An authority is due once a new leaf could not live its full life under it: from the second on in which it would be cut.
 * Where leaves are asked to live longer than any root, that would be always: then two thirds of the root's own life decide.
 */
export function authorityDueAt(
  certificate: Certificate,
  leafLifetimes: readonly Duration[],
  lifetime: Duration = lifetimeOf(certificate),
): Date {
  const longest = leafLifetimes.reduce((a, b) => Math.max(a, b), 0)
  if (longest >= lifetime) return dueAt(certificate)
  return new Date(certificate.notAfter.getTime() - (longest - 1) * 1000)
}

function warnIfUnsettled({ targets, request, now, warnings }: Rotation): void {
  const last = latest(targets.map(({ contents }) => contents?.writtenAt ?? null))
  if (last === null || now.getTime() - last.getTime() >= request.settle * 1000 || request.dryRun) return
  warnings.push({
    code: 'not-settled',
    message:
      `the last change was written only at ${last.toISOString()}: ` +
      'peers that have not loaded it yet may refuse what is written now',
  })
}

function planLeaf(target: TargetSnapshot, authority: AuthorityPlan, rotation: Rotation): LeafPlan | null {
  const { request, snapshot, unfinished, now } = rotation
  const stored = snapshot.authority
  const { asked } = target
  const issue = (reason: Reason): LeafPlan => ({
    target,
    reason,
    work: { action: 'issue', leaf: leafRequest(target, stored?.certificate ?? null) },
  })
  const republish = (reason: Reason): LeafPlan => ({ target, reason, work: { action: 'republish' } })
  const kept: LeafPlan = { target, reason: 'kept', work: { action: 'keep' } }
  if (unfinished.includes(target)) return target.issuer === 'stranded' ? issue('unfinished') : republish('unfinished')
  if (target.contents === null) return isWanted(target, rotation) ? issue('missing') : null
  if (!isInScope(target, request)) return kept
  const reason: Reason = request.mode === 'overwrite' ? 'overwrite' : 'due'
  switch (authority.action) {
    case 'stage':
      return republish(reason)
    case 'rotate':
    case 'promote':
    case 'make':
      return issue(reason)
    case 'keep':
      break
  }
  if (request.mode === 'overwrite') return planOverwrite(rotation) ? issue('overwrite') : kept
  const drift = asked === null ? null : driftOf(target, asked, stored?.certificate ?? null)
  if (request.mode === 'ensure') {
    if (drift) rotation.warnings.push(driftWarning(target))
    return kept
  }
  const [leaf] = target.set?.chain ?? []
  if (leaf && isDue(leaf, now, request.renewBefore ?? asked?.renewBefore)) return issue('due')
  if (drift) return drift === 'leaf' ? issue('drift') : republish('drift')
  return endedCarryOver(target, now) ? republish('due') : kept
}

/** With the authority kept, leaves are overwritten only where that was asked: not while a rotation is under way. */
function planOverwrite({ request, unfinished, snapshot }: Rotation): boolean {
  if (leafInScope(request) !== null) return true
  return request.keepAuthority && unfinished.length === 0 && !snapshot.authority?.next
}

/** The default leaf is made only where there is no other: an operator's fleet needs no `server`. */
function isWanted(target: TargetSnapshot, { targets, request }: Rotation): boolean {
  if (!target.asked || !isInScope(target, request)) return false
  return target.asked.explicit || targets.every(({ contents }) => contents === null)
}

function isInScope({ name }: TargetSnapshot, request: RotationRequest): boolean {
  return request.scope === 'fleet' || leafInScope(request) === name
}

/** The one leaf that a run is about; null when it is about more. */
function leafInScope({ scope }: RotationRequest): string | null {
  return typeof scope === 'object' ? scope.leaf : null
}

/** Whether a new authority is asked for, and not only wanted where one is due. */
function asksForAuthority(request: RotationRequest): boolean {
  return request.mode === 'overwrite' && !request.keepAuthority && leafInScope(request) === null
}

/** The previous authority's certificate that has ended and that the chain or bundle still holds. */
export function endedCarryOver({ set }: TargetSnapshot, now: Date): Certificate | undefined {
  return [...(set?.chain.slice(1) ?? []), ...(set?.bundle ?? [])].find(({ notAfter }) => notAfter < now)
}

function driftWarning({ store }: TargetSnapshot): Warning {
  return {
    code: 'drift',
    message: `the leaf in ${store.path} is not as asked for and was kept; reissue it with --renew`,
  }
}

/** What differs from what is asked for: the leaf, only the files that hold it, or nothing. */
export function driftOf(
  { set, contents }: TargetSnapshot,
  asked: AskedLeaf,
  issuer: Certificate | null,
): 'leaf' | 'files' | null {
  const [leaf] = set?.chain ?? []
  if (!leaf) return null
  const differs =
    (asked.names !== undefined && !sameNames(asked.names, leaf.names)) ||
    (asked.commonName !== undefined && asked.commonName !== commonNameOf(leaf)) ||
    (asked.keyType !== undefined && asked.keyType !== closestKeyType(leaf.keyKind)) ||
    (asked.usages !== undefined && !sameUsages(asked.usages, usagesOf(leaf))) ||
    (asked.lifetime !== undefined && asked.lifetime !== lifetimeOf(leaf) && !isCapped(leaf, issuer))
  if (differs) return 'leaf'
  return contents?.conforms === false ? 'files' : null
}

function usagesOf(leaf: Certificate): readonly Usage[] {
  return leaf.usages === null ? defaults.usages : [...leaf.usages]
}

function sameUsages(a: readonly Usage[], b: readonly Usage[]): boolean {
  return a.length === b.length && a.every((usage) => b.includes(usage))
}

/** What is asked for wins, then what the current leaf has, then the defaults. */
export function leafRequest(target: TargetSnapshot, issuer: Certificate | null): LeafRequest {
  const { asked } = target
  const [leaf] = target.set?.chain ?? []
  const names = asked?.names ?? (leaf && leaf.names.length > 0 ? leaf.names : defaults.names)
  const host = names.find(({ type, value }) => type === 'dns' && !value.startsWith('*'))
  return {
    names,
    commonName:
      asked?.commonName ??
      (asked?.names === undefined && leaf ? commonNameOf(leaf) : null) ??
      host?.value ??
      target.name,
    keyType: asked?.keyType ?? (leaf ? closestKeyType(leaf.keyKind) : defaultKeyType),
    usages: asked?.usages ?? (leaf ? usagesOf(leaf) : defaults.usages),
    lifetime: intendedLifetime(target, issuer),
  }
}

/** A leaf that was cut to its authority's end says nothing of the lifetime it was meant to have. */
export function intendedLifetime({ asked, set }: TargetSnapshot, issuer: Certificate | null): Duration {
  const [leaf] = set?.chain ?? []
  if (asked?.lifetime !== undefined) return asked.lifetime
  return leaf && !isCapped(leaf, issuer) ? lifetimeOf(leaf) : defaults.leafLifetime
}

function isCapped(leaf: Certificate, issuer: Certificate | null): boolean {
  return issuer?.notAfter.getTime() === leaf.notAfter.getTime()
}
