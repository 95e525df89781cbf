import { hostname } from 'node:os'
import type { ErrorCode } from '../errors.ts'
import type { Finding } from '../findings.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { Trigger } from './directory-watcher.ts'

/** A certificate as events tell of it. */
export interface CertificateSummary {
  readonly subject: string
  /** Upper-case hexadecimal. */
  readonly serialNumber: string
  /** SHA-256 of the DER, lower-case hexadecimal. */
  readonly sha256: string
  readonly notBefore: string
  readonly notAfter: string
}

/** A set as events tell of it: never the key. */
export interface SetSummary {
  /** The generation's name; empty for a plain directory. */
  readonly generation: string
  /** null: a bundle alone. */
  readonly leaf: CertificateSummary | null
  /** Fingerprints of what is presented, leaf first. */
  readonly chain: readonly string[]
  readonly bundle: readonly CertificateSummary[]
}

/** What differs between two sets; `files` when only bytes do, not certificates or key. */
export type SetPart = 'leaf' | 'chain' | 'key' | 'bundle' | 'files'

interface ReloadEvent {
  readonly time: Date
  readonly directory: string
  readonly trigger: Trigger
}

/** A new set is in use. */
export interface ReloadedEvent extends ReloadEvent {
  readonly type: 'reloaded'
  readonly changed: readonly SetPart[]
  readonly old: SetSummary
  readonly new: SetSummary
  /** From the moment the change was noticed to the moment the new set was in use; the debounce is in it. */
  readonly milliseconds: number
}

/** What the directory holds cannot be used; the last good set stays. Told once per distinct failure. */
export interface FailedEvent extends ReloadEvent {
  readonly type: 'failed'
  readonly code: ErrorCode | 'unexpected'
  readonly message: string
  readonly findings: readonly Finding[]
  /** What is in use still. */
  readonly current: SetSummary
}

/** For `EventEmitter`: the arguments of each event. */
export interface ReloadEvents {
  reloaded: [ReloadedEvent]
  failed: [FailedEvent]
}

export function summarizeCertificate(certificate: Certificate): CertificateSummary {
  const { subject, serialNumber, sha256, notBefore, notAfter } = certificate
  return { subject, serialNumber, sha256, notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() }
}

/** How often a set was loaded and refused since the start, for Prometheus. */
export interface ReloadCounters {
  readonly directory: string
  readonly success: number
  readonly failure: number
  /** When a set was last found good and put into use; the first one counts. */
  readonly lastSuccess: Date
}

/** Prometheus' text exposition format, for a page of one's own or a textfile collector. */
export function prometheusText(counters: readonly ReloadCounters[]): string {
  const label = (directory: string): string =>
    `directory="${directory.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
  return [
    '# HELP reload_total Certificate sets that were loaded, by result.',
    '# TYPE reload_total counter',
    ...counters.flatMap(({ directory, success, failure }) => [
      `reload_total{${label(directory)},result="success"} ${success}`,
      `reload_total{${label(directory)},result="failure"} ${failure}`,
    ]),
    '# HELP reload_last_success_timestamp_seconds When a certificate set was last put into use.',
    '# TYPE reload_last_success_timestamp_seconds gauge',
    ...counters.map(
      ({ directory, lastSuccess }) =>
        `reload_last_success_timestamp_seconds{${label(directory)}} ${lastSuccess.getTime() / 1000}`,
    ),
    '',
  ].join('\n')
}

/** Device Config State Change of the Open Cybersecurity Schema Framework 1.3.0 (schema.ocsf.io, class 5019). */
export interface OcsfEvent {
  readonly activity_id: 1
  readonly activity_name: 'Log'
  readonly category_uid: 5
  readonly category_name: 'Discovery'
  readonly class_uid: 5019
  readonly class_name: 'Device Config State Change'
  /** class_uid * 100 + activity_id. */
  readonly type_uid: 501901
  readonly severity_id: 1 | 3
  readonly severity: 'Informational' | 'Medium'
  readonly status_id: 1 | 2
  readonly status: 'Success' | 'Failure'
  /** Present on a failure: the error's code. */
  readonly status_code?: string
  /** Milliseconds since 1970. */
  readonly time: number
  readonly message: string
  readonly metadata: {
    readonly version: '1.3.0'
    readonly product: { readonly name: string; readonly vendor_name: string; readonly version?: string }
  }
  /** type_id 0: unknown, for a set is served by servers, containers and desktops alike. */
  readonly device: { readonly hostname: string; readonly type_id: 0 }
  /** What the schema has no place for. */
  readonly unmapped: Readonly<Record<string, unknown>>
}

export interface OcsfOptions {
  /** Default: that of this machine. */
  readonly hostname?: string
  /** Who reports. Default: certgen. */
  readonly product?: { readonly name: string; readonly vendor_name: string; readonly version?: string }
}

/** A failure is Medium: action is needed, but the last good set is still in use. */
export function toOcsf(event: ReloadedEvent | FailedEvent, options: OcsfOptions = {}): OcsfEvent {
  const failed = event.type === 'failed'
  const { type, time, ...rest } = event
  return {
    activity_id: 1,
    activity_name: 'Log',
    category_uid: 5,
    category_name: 'Discovery',
    class_uid: 5019,
    class_name: 'Device Config State Change',
    type_uid: 501901,
    severity_id: failed ? 3 : 1,
    severity: failed ? 'Medium' : 'Informational',
    status_id: failed ? 2 : 1,
    status: failed ? 'Failure' : 'Success',
    ...(failed ? { status_code: event.code } : {}),
    time: time.getTime(),
    message: failed ? event.message : `certificates of ${event.directory} were ${type}`,
    metadata: { version: '1.3.0', product: options.product ?? { name: 'certgen', vendor_name: 'certgen' } },
    device: { hostname: options.hostname ?? hostname(), type_id: 0 },
    unmapped: rest,
  }
}
