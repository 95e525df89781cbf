import type { Certificate } from '../pki/certificate.ts'
import { formatName } from '../pki/names.ts'
import type { NewAuthority } from '../store/authority-store.ts'
import type { BundleReport } from './bundles.ts'
import type { LeafPlan, Plan, Reason, Warning } from './plan.ts'
import type { Pair, Version } from './preflight.ts'
import { followUpKeys } from './request.ts'
import type { RotationRequest } from './request.ts'

/** What a rotation did, or would do (contract: `rotate --json`). */
export interface RotationReport {
  readonly changed: boolean
  readonly dryRun: boolean
  readonly strategy: Plan['strategy']
  readonly stage: 1 | 2 | null
  /** ISO 8601; when the second run of a staged rotation may begin, null when nothing is waited for. */
  readonly resumesAt: string | null
  readonly authority: CertificateReport & {
    /** Where it is kept. */
    readonly path: string
    readonly changed: boolean
    /** SHA-256 of the carry-over; null without one. */
    readonly carriedOver: string | null
    readonly crossSigned: boolean
  }
  readonly leaves: readonly LeafReport[]
  /** Only where bundles are published by themselves. */
  readonly bundles?: readonly BundleReport[]
  readonly preflight: readonly {
    profile: string
    server: Version
    client: Version
    ok: boolean
    detail: string | null
  }[]
  readonly warnings: readonly Warning[]
}

interface CertificateReport {
  readonly subject: string
  readonly serialNumber: string
  /** Lower-case hexadecimal. */
  readonly sha256: string
  /** ISO 8601. */
  readonly notBefore: string
  readonly notAfter: string
}

export interface LeafReport extends Omit<CertificateReport, 'subject'> {
  readonly name: string
  readonly target: string
  readonly changed: boolean
  readonly reason: Reason
  readonly names: readonly string[]
  readonly key: string
  /** Keys of what has to follow its last write and has not succeeded yet. */
  readonly undelivered: readonly string[]
}

function describeCertificate(certificate: Certificate): CertificateReport {
  const { subject, serialNumber, sha256, notBefore, notAfter } = certificate
  return { subject, serialNumber, sha256, notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() }
}

/** The result of a run. `issued` are the leaves that the run writes, by target. */
export function makeReport(
  plan: Plan,
  request: RotationRequest,
  result: {
    readonly dryRun: boolean
    readonly changed: boolean
    readonly authority: NewAuthority
    readonly issued: ReadonlyMap<LeafPlan, Certificate>
    readonly bundles: readonly BundleReport[]
    readonly pairs: readonly Pair[]
    readonly warnings: readonly Warning[]
  },
): RotationReport {
  const { authority } = result
  return {
    changed: result.changed,
    dryRun: result.dryRun,
    strategy: plan.strategy,
    stage: plan.stage,
    resumesAt: plan.resumesAt?.toISOString() ?? null,
    authority: {
      path: request.authority.store.path,
      changed: plan.authority.action !== 'keep',
      ...describeCertificate(authority.certificate),
      carriedOver: authority.previous?.sha256 ?? null,
      crossSigned: authority.cross !== null,
    },
    leaves: plan.leaves.flatMap((leaf) => {
      const certificate = result.issued.get(leaf) ?? leaf.target.set?.chain[0]
      return certificate ? [describeLeaf(leaf, certificate, request)] : []
    }),
    ...(result.bundles.length === 0 ? {} : { bundles: result.bundles }),
    preflight: result.pairs.map(({ profile, server, client, ok, detail }) => ({ profile, server, client, ok, detail })),
    warnings: [...result.warnings, ...result.bundles.flatMap(absenceWarning)],
  }
}

function absenceWarning({ path, detail }: BundleReport): Warning[] {
  if (detail === null) return []
  return [{ code: 'bundle-absent', message: `${path}: ${detail}; a run after it is there gives it the bundle` }]
}

function describeLeaf(
  { target, reason, work }: LeafPlan,
  certificate: Certificate,
  request: RotationRequest,
): LeafReport {
  const { contents, asked } = target
  const { serialNumber, sha256, notBefore, notAfter } = describeCertificate(certificate)
  return {
    name: target.name,
    target: target.store.path,
    changed: work.action !== 'keep',
    reason,
    undelivered:
      work.action === 'keep' ? (contents?.undelivered ?? []) : followUpKeys(request, asked, contents === null),
    serialNumber,
    sha256,
    notBefore,
    notAfter,
    names: certificate.names.map(formatName),
    key: certificate.keyKind,
  }
}
