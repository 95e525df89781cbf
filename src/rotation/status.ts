import type { CertgenError } from '../errors.ts'
import type { Finding } from '../findings.ts'
import { sameCertificate } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { dueAt, isValidAt } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import { formatName } from '../pki/names.ts'
import type { AuthorityView } from '../store/authority-store.ts'
import type { TargetStore } from '../store/target-store.ts'
import {
  authorityDueAt,
  driftOf,
  endedCarryOver,
  foreignWarning,
  intendedLifetime,
  isDamage,
  isForeign,
  isStray,
  latest,
  publishedRoots,
  settled,
  unfinishedPart,
} from './plan.ts'
import type { Roots, Unfinished, Warning } from './plan.ts'
import type { RotationRequest } from './request.ts'
import { inspect } from './snapshot.ts'
import type { Inspection, SnapshotRequest, TargetSnapshot } from './snapshot.ts'

/** What a status is taken of: one authority and its targets, judged as the next `certgen --renew` will. */
export type StatusRequest = SnapshotRequest &
  Pick<RotationRequest, 'settle' | 'renewBefore'> & {
    readonly authority: Pick<RotationRequest['authority'], 'store' | 'lifetime'>
    /** Of the authority, where there are several. */
    readonly name: string | null
  }

/** What somebody has to look at, and why. Data: the words for it are chosen where it is shown. */
export type Attention =
  /** It is there, but cannot be read, or not all of it. */
  | { readonly code: 'unreadable'; readonly error: CertgenError }
  /** It cannot be read back: a rotation stops at it. `message` is of the whole, where there is one. */
  | { readonly code: 'damaged'; readonly message: string | null; readonly findings: readonly Finding[] }
  | { readonly code: 'missing' }
  | { readonly code: 'expired'; readonly since: Date }
  | { readonly code: 'not-yet-valid'; readonly until: Date }
  /** It is whole, but peers refuse it. */
  | { readonly code: 'unusable'; readonly findings: readonly Finding[] }
  /** An interrupted rotation is to be finished, the second run of a staged one may begin, or `..data` leads nowhere. */
  | { readonly code: 'unfinished'; readonly part: Unfinished | 'second-run' | 'generation-lost' }
  /** What has to follow its last write has not succeeded yet. */
  | { readonly code: 'undelivered'; readonly followUps: readonly string[] }
  /** `carry-over`: only of the previous authority's certificate beside the leaf, which has ended. */
  | { readonly code: 'due'; readonly part: 'certificate' | 'carry-over'; readonly since: Date }
  /** It is not as the configuration asks. */
  | { readonly code: 'drift'; readonly part: 'leaf' | 'files' }

export type AttentionCode = Attention['code']

/** What needs attention, the worst of it; `foreign` and `ok` do not. */
export type State = AttentionCode | 'foreign' | 'ok'

/** From what breaks handshakes now to what only waits. */
const severity: readonly State[] = [
  'unreadable',
  'damaged',
  'expired',
  'missing',
  'not-yet-valid',
  'unusable',
  'unfinished',
  'undelivered',
  'due',
  'drift',
  'ok',
  'foreign',
]

/** A certificate as it is reported. */
export interface CertificateStatus {
  readonly subject: string
  readonly issuer: string
  /** Upper-case hexadecimal. */
  readonly serialNumber: string
  readonly sha256: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** `DNS:localhost`, ... */
  readonly names: readonly string[]
  /** `ecdsa-p256`, ... */
  readonly key: string
}

export interface AuthorityStatus {
  readonly name: string | null
  readonly path: string
  readonly state: State
  readonly attention: readonly Attention[]
  /** null: there is none, or none that can be read. */
  readonly certificate: CertificateStatus | null
  /** null: nothing is there. `encrypted`: whether it belongs to the certificate was not looked at. */
  readonly keyState: AuthorityView['key'] | null
  /** When `certgen --renew` replaces it; null without a certificate. */
  readonly dueAt: Date | null
  /** The old CA, and how many targets still present a certificate of it or trust it. */
  readonly previous: (CertificateStatus & { readonly presentedBy: number; readonly trustedBy: number }) | null
  /** The staged successor, and when the second run may begin. */
  readonly successor: (CertificateStatus & { readonly resumesAt: Date }) | null
}

export interface TargetStatus {
  readonly name: string
  readonly path: string
  readonly store: TargetStore
  /** Its authority's name, where there are several and one of them is its own. */
  readonly authority: string | null
  readonly state: State
  readonly attention: readonly Attention[]
  /** null: there is none, or none that can be read. */
  readonly leaf: CertificateStatus | null
  /** When `certgen --renew` replaces it; null for what is not ours to replace. */
  readonly dueAt: Date | null
  /** Whether the chain still has the cross-certificate, for peers that trust the old CA alone. */
  readonly crossSigned: boolean
  /** SHA-256 of the carry-over in the bundle; null without one. */
  readonly carriedOver: string | null
  /** Keys of what has to follow its last write and has not succeeded yet. */
  readonly undelivered: readonly string[]
  readonly writtenAt: Date | null
  readonly findings: readonly Finding[]
}

export interface StatusReport {
  readonly now: Date
  /** Nothing needs attention. */
  readonly ok: boolean
  readonly authorities: readonly AuthorityStatus[]
  /** What needs attention first, then by when it is due. */
  readonly targets: readonly TargetStatus[]
  readonly warnings: readonly Warning[]
}

/** statusAll of one authority. */
export function status(request: StatusRequest, now: Date): Promise<StatusReport> {
  return statusAll([request], now)
}

/**
 * Reads every authority and target, changing nothing and asking for no passphrase, and says what each is, when it is due
 * and what is unfinished. What cannot be read is a row like any other. Throws CertgenError `unreadable` when the directory
 * of discovery cannot be listed.
 */
export async function statusAll(requests: readonly StatusRequest[], now: Date): Promise<StatusReport> {
  const groups: { readonly authority: AuthorityStatus; readonly targets: readonly SeenTarget[] }[] = []
  for (const request of requests) {
    const inspection = await inspect(request, now, (target, error, authority) =>
      judgeTarget(target, error, authority, request, now),
    )
    groups.push({ authority: judgeAuthority(inspection, request, now), targets: inspection.targets.flat() })
  }
  const authorities = groups.map(({ authority }) => authority)
  const targets = claimed(groups.flatMap((group) => group.targets)).sort(byAttention)
  const needsAttention = [...authorities, ...targets].some(({ attention }) => attention.length > 0)
  const warnings = targets.flatMap(({ state, path }) => (state === 'foreign' ? [foreignWarning(path)] : []))
  return { now, ok: !needsAttention, authorities, targets, warnings }
}

/** A target as one of the authorities sees it. */
interface SeenTarget extends TargetStatus {
  /** Whether it is this authority's, for certain. */
  readonly isOwn: boolean
  /** What a leaf of it is meant to live; null for what is not issued again. */
  readonly lifetime: Duration | null
}

/** A directory that nobody asks for is seen with every authority: it belongs to the one that issued its leaf. */
function claimed(seen: readonly SeenTarget[]): TargetStatus[] {
  const byPath = new Map<string, SeenTarget>()
  for (const target of seen) {
    const known = byPath.get(target.path)
    if (!known || (!known.isOwn && target.isOwn)) byPath.set(target.path, target)
  }
  return [...byPath.values()].map(({ isOwn, lifetime: _lifetime, authority, ...target }) => {
    return { ...target, authority: isOwn ? authority : null }
  })
}

function byAttention(a: TargetStatus, b: TargetStatus): number {
  const [due, otherDue] = [a, b].map(({ dueAt: at, leaf }) => (at ?? leaf?.notAfter)?.getTime() ?? 0)
  return severity.indexOf(a.state) - severity.indexOf(b.state) || (due ?? 0) - (otherDue ?? 0)
}

function stateOf(attention: readonly Attention[]): State {
  return severity.find((state) => attention.some(({ code }) => code === state)) ?? 'ok'
}

// ------------------------------------------------------------------------------------------------------------ targets

/** None for a directory that is no target. */
function judgeTarget(
  target: TargetSnapshot,
  error: CertgenError | null,
  view: AuthorityView | null,
  { name, renewBefore }: StatusRequest,
  now: Date,
): SeenTarget[] {
  const { asked, contents, set, store, issuer } = target
  const found = contents !== null || error !== null
  if ((!found && asked === null) || isStray(target)) return []
  const roots = rootsOf(view)
  const [leaf] = set?.chain ?? []
  const foreign = isForeign(target)
  const leafDue = leaf && !foreign ? dueAt(leaf, renewBefore ?? asked?.renewBefore) : null
  const attention = foreign ? [] : attentionTo(target, error, roots, leafDue, now)
  return [
    {
      name: target.name,
      path: store.path,
      store,
      authority: name,
      isOwn: asked !== null || issuer === 'current' || issuer === 'stranded',
      lifetime: foreign ? null : intendedLifetime(target, roots?.certificate ?? null),
      state: foreign ? 'foreign' : stateOf(attention),
      attention,
      leaf: leaf ? describe(leaf) : null,
      dueAt: leafDue,
      crossSigned: roots !== null && (set?.chain.slice(1) ?? []).some((entry) => isCross(entry, roots.certificate)),
      carriedOver: foreign ? null : (carryOverIn(set?.bundle ?? [], roots)?.sha256 ?? null),
      undelivered: contents?.undelivered ?? [],
      writtenAt: contents?.writtenAt ?? null,
      findings: contents ? (set?.findings ?? []) : [],
    },
  ]
}

function attentionTo(
  target: TargetSnapshot,
  error: CertgenError | null,
  roots: Roots | null,
  leafDue: Date | null,
  now: Date,
): Attention[] {
  const { asked, contents, set } = target
  if (error) return [{ code: 'unreadable', error }]
  if (!contents || !set) return [{ code: 'missing' }]
  const [leaf] = set.chain
  const dates = leaf ? judgeDates(leaf, now) : []
  const damage = set.findings.filter(isDamage)
  const faults = set.findings.filter((finding) => {
    if (finding.severity !== 'error' || isDamage(finding)) return false
    // Whatever else has ended, the leaf has: that says it.
    return dates.length === 0 || (finding.code !== 'expired' && finding.code !== 'not-yet-valid')
  })
  const part = unfinishedPart(target, roots)
  const drift = asked ? driftOf(target, asked, roots?.certificate ?? null) : null
  return [
    ...(damage.length > 0 ? [{ code: 'damaged', message: null, findings: damage } as const] : []),
    ...dates,
    ...(faults.length > 0 ? [{ code: 'unusable', findings: faults } as const] : []),
    ...(contents.standsIn ? [lostGeneration] : []),
    ...(part ? [{ code: 'unfinished', part } as const] : []),
    ...(contents.undelivered.length > 0 ? [{ code: 'undelivered', followUps: contents.undelivered } as const] : []),
    ...(dates.length === 0 ? judgeDue(leafDue, endedCarryOver(target, now), now) : []),
    ...(drift ? [{ code: 'drift', part: drift } as const] : []),
  ]
}

const lostGeneration: Attention = { code: 'unfinished', part: 'generation-lost' }

function judgeDue(leafDue: Date | null, ended: Certificate | undefined, now: Date): Attention[] {
  if (leafDue && now >= leafDue) return [{ code: 'due', part: 'certificate', since: leafDue }]
  return ended ? [{ code: 'due', part: 'carry-over', since: ended.notAfter }] : []
}

function judgeDates(certificate: Certificate, now: Date): Attention[] {
  const { notBefore, notAfter } = certificate
  if (isValidAt(certificate, now)) return []
  return now < notBefore ? [{ code: 'not-yet-valid', until: notBefore }] : [{ code: 'expired', since: notAfter }]
}

/** The authority's name and key, certified by another key. */
function isCross(entry: Certificate, root: Certificate): boolean {
  return !entry.selfIssued && entry.subjectDer.equals(root.subjectDer)
}

/** The first root of a bundle that is not published by the authority as its own. */
function carryOverIn(bundle: readonly Certificate[], roots: Roots | null): Certificate | undefined {
  if (!roots) return bundle[1]
  const published = publishedRoots(roots)
  return bundle.find((entry) => !published.some((root) => sameCertificate(root, entry)))
}

// ---------------------------------------------------------------------------------------------------------- authorities

function judgeAuthority(
  { authority: view, error, targets }: Inspection<readonly SeenTarget[]>,
  { authority: { store, lifetime }, name, settle }: StatusRequest,
  now: Date,
): AuthorityStatus {
  const own = targets.flat().filter((target) => target.state !== 'foreign')
  const roots = rootsOf(view)
  const lifetimes = own.flatMap((target) => target.lifetime ?? [])
  const due = roots && authorityDueAt(roots.certificate, lifetimes, lifetime)
  const successor = successorOf(view, own, settle, now)
  const attention: Attention[] = []
  if (error) attention.push({ code: 'unreadable', error })
  else if (!view) attention.push({ code: 'missing' })
  else {
    if (view.standsIn) attention.push(lostGeneration)
    if (view.fault) attention.push({ code: 'damaged', message: view.fault.message, findings: view.fault.findings })
    const dates = roots ? judgeDates(roots.certificate, now) : []
    attention.push(...dates)
    // With its successor made, only the second run is left to do.
    if (successor && now >= successor.resumesAt) attention.push({ code: 'unfinished', part: 'second-run' })
    else if (!successor && dates.length === 0) attention.push(...judgeDue(due, undefined, now))
  }
  return {
    name,
    path: store.path,
    state: stateOf(attention),
    attention,
    certificate: roots && describe(roots.certificate),
    keyState: view?.key ?? null,
    dueAt: due,
    previous: view?.previous ? { ...describe(view.previous), ...countHolders(own, view.previous) } : null,
    successor,
  }
}

function rootsOf(view: AuthorityView | null): Roots | null {
  return view?.certificate ? { certificate: view.certificate, next: view.next } : null
}

function successorOf(
  view: AuthorityView | null,
  own: readonly SeenTarget[],
  settle: Duration,
  now: Date,
): AuthorityStatus['successor'] {
  if (!view?.next) return null
  const published = latest([view.writtenAt, ...own.map(({ writtenAt }) => writtenAt)])
  return { ...describe(view.next.certificate), resumesAt: settled(published ?? now, settle) }
}

function countHolders(
  own: readonly SeenTarget[],
  previous: Certificate,
): { readonly presentedBy: number; readonly trustedBy: number } {
  const onEarlier = ({ attention }: SeenTarget): boolean =>
    attention.some((entry) => entry.code === 'unfinished' && entry.part === 'earlier-authority')
  return {
    presentedBy: own.filter((target) => target.crossSigned || onEarlier(target)).length,
    trustedBy: own.filter(({ carriedOver }) => carriedOver === previous.sha256).length,
  }
}

function describe(certificate: Certificate): CertificateStatus {
  const { subject, issuer, serialNumber, sha256, notBefore, notAfter, names, keyKind } = certificate
  return {
    subject,
    issuer,
    serialNumber,
    sha256,
    notBefore,
    notAfter,
    names: names.map(formatName),
    key: keyKind,
  }
}
