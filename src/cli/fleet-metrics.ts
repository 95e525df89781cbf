import { join } from 'node:path'
import type { FleetMetrics, MeasuredCertificate, MeasuredHolder } from '../deliver/metrics.ts'
import { CertgenError } from '../errors.ts'
import type { Duration } from '../pki/lifetime.ts'
import type { Warning } from '../rotation/plan.ts'
import { defaults } from '../rotation/request.ts'
import type {
  AttentionCode,
  AuthorityStatus,
  CertificateStatus,
  StatusReport,
  StatusRequest,
  TargetStatus,
} from '../rotation/status.ts'
import type { Fleet } from './fleet.ts'

/** What flags say of how a fleet is judged; they win over the configuration. */
export interface JudgementOptions {
  readonly settle?: Duration
  readonly renewBefore?: Duration
}

export function statusRequests({ groups, config }: Fleet, { settle, renewBefore }: JudgementOptions): StatusRequest[] {
  return groups.map(({ name, authority, leaves, discovery }) => ({
    name,
    authority,
    leaves,
    discovery,
    settle: settle ?? config?.settle ?? defaults.settle,
    ...(renewBefore === undefined ? {} : { renewBefore }),
  }))
}

export interface MetricsOptions extends JudgementOptions {
  readonly metrics?: string
  readonly dryRun?: boolean
}

/**
 * Writes the metrics after a run that may have changed something, where flag or configuration ask for them; the flag wins.
 * What is changed stays changed when that fails: the warning says so. null when nothing is wrong.
 */
export async function measureRun(
  fleet: Fleet,
  options: MetricsOptions,
  run: FleetMetrics['run'],
  clock: () => Date,
): Promise<Warning | null> {
  const path = options.metrics ?? fleet.config?.metrics
  if (path === undefined || options.dryRun) return null
  const { statusAll } = await import('../rotation/status.ts')
  try {
    await writeFleetMetrics(path, await statusAll(statusRequests(fleet, options), clock()), run)
    return null
  } catch (error) {
    if (error instanceof CertgenError) return { code: 'metrics-not-written', message: error.message }
    throw error
  }
}

/** Writes the metrics of a fleet as it is now, after a run. Throws CertgenError `write-failed`. */
export async function writeFleetMetrics(path: string, report: StatusReport, run: FleetMetrics['run']): Promise<void> {
  const { writeMetrics } = await import('../deliver/metrics.ts')
  await writeMetrics(path, metricsOf(report, run))
}

/**
 * Leaves and roots, of which somebody has to see the end coming. The old CA's certificates, which are still carried along,
 * may end in peace.
 */
function metricsOf({ now, authorities, targets }: StatusReport, run: FleetMetrics['run']): FleetMetrics {
  return {
    now,
    run,
    certificates: [
      ...authorities.flatMap(({ path, certificate, successor }) => [
        ...measured(join(path, 'ca.crt'), certificate),
        ...measured(join(path, 'next.crt'), successor),
      ]),
      ...targets.flatMap(({ store, leaf }) => measured(store.pathOf('cert'), leaf)),
    ],
    authorities: authorities.map((authority) => holder(authority, authority.name)),
    targets: targets
      .filter(({ state }) => state !== 'foreign')
      .map((target) => ({
        ...holder(target, target.name),
        authority: target.authority,
        drift: has(target, 'drift'),
        undelivered: target.undelivered.length,
      })),
  }
}

function measured(path: string, certificate: CertificateStatus | null): MeasuredCertificate[] {
  return certificate ? [{ ...certificate, path }] : []
}

function holder(of: AuthorityStatus | TargetStatus, name: string | null): MeasuredHolder {
  return {
    name,
    path: of.path,
    dueAt: of.dueAt,
    unusable: has(of, 'unreadable', 'damaged', 'missing', 'expired', 'not-yet-valid', 'unusable'),
    unfinished: has(of, 'unfinished'),
  }
}

function has({ attention }: AuthorityStatus | TargetStatus, ...codes: readonly AttentionCode[]): boolean {
  return attention.some(({ code }) => codes.includes(code))
}
