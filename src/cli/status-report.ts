import type { SurveyResult } from '../deliver/survey.ts'
import type { AuthorityStatus, CertificateStatus, StatusReport, TargetStatus } from '../rotation/status.ts'
import { findingJson } from './output.ts'
import { day, describeAttention, describeProbe, minute, roughly } from './status-words.ts'
import type { EndpointState } from './status-words.ts'

/** What `certgen status` shows, in whatever form: what is on disk, and what is served. */
export interface FleetStatus extends StatusReport {
  readonly endpoints: readonly SurveyResult[]
}

export function isWell({ ok, endpoints }: FleetStatus): boolean {
  return ok && endpoints.every((endpoint) => stateOfEndpoint(endpoint) === 'current')
}

export function stateOfEndpoint({ findings, incomparable }: SurveyResult): EndpointState {
  return findings[0]?.code ?? (incomparable === null ? 'current' : 'not-compared')
}

/** `HOST:PORT`, and the address where a name has led there. */
export function placeOfEndpoint({ endpoint, address }: SurveyResult): string {
  const isAddress = endpoint.startsWith(`${address}:`) || endpoint.startsWith(`[${address}]:`)
  return isAddress ? endpoint : `${endpoint} (${address})`
}

export function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

// ------------------------------------------------------------------------------------------------------------ in words

export function reasonsOfAuthority({ attention }: AuthorityStatus, now: Date): string[] {
  return attention.map((entry) => describeAttention(entry, 'authority', now))
}

export function reasonsOfTarget({ attention }: TargetStatus, now: Date): string[] {
  return attention.map((entry) => describeAttention(entry, 'target', now))
}

export function reasonsOfEndpoint({ findings, incomparable }: SurveyResult): string[] {
  return [
    ...findings.map(({ code, detail }) => describeProbe(code, detail)),
    ...(incomparable === null ? [] : [`it cannot be compared: ${incomparable}`]),
  ]
}

/** Everything that needs attention, a line each: what `--check` prints. */
export function checkLines({ authorities, targets, endpoints, now }: FleetStatus): string[] {
  const lines = (place: string, reasons: readonly string[]): string[] => reasons.map((reason) => `${place}: ${reason}`)
  return [
    ...authorities.flatMap((authority) => lines(authority.path, reasonsOfAuthority(authority, now))),
    ...targets.flatMap((target) => lines(target.path, reasonsOfTarget(target, now))),
    ...endpoints.flatMap((endpoint) => lines(placeOfEndpoint(endpoint), reasonsOfEndpoint(endpoint))),
  ]
}

export interface Headline {
  readonly well: boolean
  readonly verdict: string
  /** Of what. */
  readonly detail: string
  /** What is due next; null where something is due already, or nothing ever. */
  readonly next: string | null
}

/** Whether anything is to be done. */
export function headlineOf(status: FleetStatus): Headline {
  const { authorities, targets, endpoints } = status
  if (isWell(status)) {
    const counts = [
      authorities.length === 1 ? 'the authority' : `${authorities.length} authorities`,
      plural(targets.length, 'target'),
      ...(endpoints.length > 0 ? [plural(endpoints.length, 'endpoint')] : []),
    ]
    return { well: true, verdict: 'all is well', detail: counts.join(', '), next: nextDue(status) }
  }
  const bad = {
    authorities: authorities.filter(({ attention }) => attention.length > 0).length,
    targets: targets.filter(({ attention }) => attention.length > 0).length,
    endpoints: endpoints.filter((endpoint) => stateOfEndpoint(endpoint) !== 'current').length,
  }
  const parts = [
    ...(bad.authorities > 0
      ? [authorities.length === 1 ? 'the authority' : `${bad.authorities} of ${authorities.length} authorities`]
      : []),
    ...(bad.targets > 0 ? [`${bad.targets} of ${plural(targets.length, 'target')}`] : []),
    ...(bad.endpoints > 0 ? [`${bad.endpoints} of ${plural(endpoints.length, 'endpoint')}`] : []),
  ]
  return { well: false, verdict: 'needs attention', detail: parts.join(', '), next: null }
}

function nextDue({ authorities, targets, now }: FleetStatus): string | null {
  const [next] = [...authorities, ...targets]
    .flatMap(({ path, dueAt }) => (dueAt ? [{ path, dueAt }] : []))
    .sort((a, b) => a.dueAt.getTime() - b.dueAt.getTime())
  if (!next) return null
  return `next due: ${next.path} on ${day(next.dueAt)}, in ${roughly(next.dueAt.getTime() - now.getTime())}`
}

/** What is to be known of an authority besides itself: the old CA, the next one, and a key that is not there. */
export function othersOf({ certificate, previous, successor, keyState }: AuthorityStatus, now: Date): string[] {
  const lines: string[] = []
  if (previous) lines.push(describePrevious(previous))
  if (successor) {
    const { resumesAt, subject } = successor
    const when = now >= resumesAt ? `since ${minute(resumesAt)}` : `from ${minute(resumesAt)} on`
    lines.push(`next CA: ${subject}, in every bundle already; the second run may begin ${when}`)
  }
  if (certificate && keyState === 'absent') lines.push('its key is not at hand: it can issue nothing')
  return lines
}

function describePrevious({ presentedBy, trustedBy, notAfter }: NonNullable<AuthorityStatus['previous']>): string {
  if (presentedBy + trustedBy === 0) return 'old CA: no target presents or trusts it any more'
  const presents = `${plural(presentedBy, 'target')} still ${presentedBy === 1 ? 'presents' : 'present'} it`
  const trust = `${trustedBy} ${trustedBy === 1 ? 'trusts' : 'trust'} it`
  return `old CA: ${presents}, ${trust}; it ends on ${day(notAfter)}`
}

// ------------------------------------------------------------------------------------------------------------- as JSON

/** Contract: `status --json`. */
export function statusJson(status: FleetStatus): object {
  const { now, authorities, targets, endpoints, warnings } = status
  return {
    now,
    ok: isWell(status),
    authorities: authorities.map((authority) => authorityJson(authority, now)),
    targets: targets.map((target) => targetJson(target, now)),
    endpoints: endpoints.map(endpointJson),
    warnings,
  }
}

function authorityJson(authority: AuthorityStatus, now: Date): object {
  const { name, path, state, certificate, keyState, dueAt, previous, successor } = authority
  return {
    name,
    path,
    state,
    attention: attentionJson(authority.attention, 'authority', now),
    ...certificateJson(certificate),
    dueAt,
    keyState,
    previous: previous && { ...otherJson(previous), presentedBy: previous.presentedBy, trustedBy: previous.trustedBy },
    successor: successor && { ...otherJson(successor), resumesAt: successor.resumesAt },
  }
}

function targetJson(target: TargetStatus, now: Date): object {
  const { name, path, authority, state, leaf, dueAt, crossSigned, carriedOver, undelivered, writtenAt, findings } =
    target
  return {
    name,
    target: path,
    authority,
    state,
    attention: attentionJson(target.attention, 'target', now),
    ...certificateJson(leaf),
    names: leaf?.names ?? null,
    dueAt,
    crossSigned,
    carriedOver,
    undelivered,
    writtenAt,
    findings: findings.map(findingJson),
  }
}

function endpointJson(result: SurveyResult): object {
  const { endpoint, address, port, target, protocol, chain, trust, findings, incomparable } = result
  const [leaf] = chain
  return {
    endpoint,
    address,
    port,
    target,
    state: stateOfEndpoint(result),
    protocol,
    subject: leaf?.subject ?? null,
    serialNumber: leaf?.serialNumber ?? null,
    sha256: leaf?.sha256 ?? null,
    notBefore: leaf?.notBefore ?? null,
    notAfter: leaf?.notAfter ?? null,
    trust,
    findings,
    incomparable,
  }
}

function attentionJson(
  attention: AuthorityStatus['attention'],
  what: 'authority' | 'target',
  now: Date,
): { readonly code: string; readonly message: string }[] {
  return attention.map((entry) => ({ code: entry.code, message: describeAttention(entry, what, now) }))
}

function certificateJson(certificate: CertificateStatus | null): object {
  return {
    subject: certificate?.subject ?? null,
    serialNumber: certificate?.serialNumber ?? null,
    sha256: certificate?.sha256 ?? null,
    notBefore: certificate?.notBefore ?? null,
    notAfter: certificate?.notAfter ?? null,
    key: certificate?.key ?? null,
  }
}

function otherJson({ subject, serialNumber, sha256, notBefore, notAfter }: CertificateStatus): object {
  return { subject, serialNumber, sha256, notBefore, notAfter }
}
