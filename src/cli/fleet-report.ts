import type { ActionReport } from '../deliver/delivery.ts'
import type { LeafReport, RotationReport } from '../rotation/report.ts'
import type { FleetGroup } from './fleet.ts'

/** What a run did for all authorities together, in the shape that it has for one (contract: `rotate --json`). */
export interface FleetReport extends Omit<RotationReport, 'leaves'> {
  readonly leaves: readonly (LeafReport & { readonly authority?: string })[]
  readonly actions: readonly ActionReport[]
  /** Only where there are several; `authority` is then the first of them. */
  readonly authorities?: readonly AuthorityReport[]
}

export type AuthorityReport = RotationReport['authority'] &
  Pick<RotationReport, 'strategy' | 'stage' | 'resumesAt'> & { readonly name: string }

export function mergeReports(
  reports: readonly RotationReport[],
  groups: readonly FleetGroup[],
  actions: readonly ActionReport[],
): FleetReport {
  const [first, ...others] = reports
  if (!first) throw new Error('a run has a report')
  const made = !first.dryRun && actions.some(({ kind, ok }) => kind === 'secret' && ok)
  if (others.length === 0) return { ...first, changed: first.changed || made, actions }
  const nameOf = (index: number): string => groups[index]?.name ?? ''
  const several = <T>(of: (report: RotationReport, name: string) => readonly T[]): T[] =>
    reports.flatMap((report, index) => of(report, nameOf(index)))
  // What is waited for is what people have to know of.
  const waiting = reports.find(({ stage }) => stage !== null) ?? first
  const { strategy, stage, resumesAt } = waiting
  return {
    ...first,
    strategy,
    stage,
    resumesAt,
    changed: made || reports.some(({ changed }) => changed),
    authorities: several((report, name) => {
      return [
        { name, strategy: report.strategy, stage: report.stage, resumesAt: report.resumesAt, ...report.authority },
      ]
    }),
    leaves: several(({ leaves }, authority) => leaves.map((leaf) => ({ ...leaf, authority }))),
    ...(reports.some(({ bundles }) => bundles) ? { bundles: several(({ bundles = [] }) => bundles) } : {}),
    preflight: several(({ preflight }, name) =>
      preflight.map((pair) => ({ ...pair, profile: `${name}: ${pair.profile}` })),
    ),
    warnings: several(({ warnings }, name) =>
      warnings.map(({ code, message }) => ({ code, message: `${name}: ${message}` })),
    ),
    actions,
  }
}
