import { keyOf } from '../deliver/action.ts'
import type { Action } from '../deliver/action.ts'
import type { ActionReport, Delivery } from '../deliver/delivery.ts'
import type { Hook } from '../deliver/hooks.ts'
import { defaults } from '../rotation/request.ts'
import type { AskedFollowUp } from '../rotation/request.ts'
import type { LeafReport } from '../rotation/report.ts'
import { directoryTarget, targetAt } from '../store/target-store.ts'
import type { FleetGroup, FleetLeaf } from './fleet.ts'

/** What follows a change, by the flags and by the configuration. */

export interface FollowUpOptions {
  readonly exec?: string
  readonly signal?: Hook
  readonly probe?: string
  readonly name?: string
}

/** Pods that wait for their first certificate start with it: there is nothing to restart then. */
export function followUpOf(action: Action): AskedFollowUp {
  return { key: keyOf(action), afterCreation: action.kind !== 'restart' }
}

export function hooksOf({ exec, signal }: FollowUpOptions): Hook[] {
  return [...(exec === undefined ? [] : [{ kind: 'exec', command: exec } as const]), ...(signal ? [signal] : [])]
}

/** --probe is about the leaf that is named, or the only one there is by default. */
export function probesOf({ name }: Pick<FleetLeaf, 'name'>, options: FollowUpOptions): Action[] {
  if (options.probe === undefined || name !== (options.name ?? defaults.leafName)) return []
  return [{ kind: 'probe', endpoint: options.probe }]
}

/** What is to be restarted once the leaves that this run has rendered are applied: none that are new. */
export function workloadsToRestart(leaves: readonly LeafReport[], groups: readonly FleetGroup[]): string[] {
  const changed = new Set(
    leaves.filter((leaf) => leaf.changed && leaf.reason !== 'missing').map(({ target }) => target),
  )
  const workloads = groups
    .flatMap((group) => group.leaves.filter(({ store }) => changed.has(store.path)))
    .flatMap(({ actions }) => actions.flatMap((action) => (action.kind === 'restart' ? [action.workload] : [])))
  return [...new Set(workloads)]
}

/** Runs what has to follow: of what this run wrote, and of what an earlier one could not finish. */
export async function followUp(
  leaves: readonly Pick<LeafReport, 'name' | 'target' | 'undelivered'>[],
  groups: readonly FleetGroup[],
  options: FollowUpOptions,
  clock: () => Date,
): Promise<ActionReport[]> {
  const asked = new Map(groups.flatMap(({ leaves }) => leaves.map((leaf) => [leaf.store.path, leaf])))
  const deliveries = leaves
    .filter(({ undelivered }) => undelivered.length > 0)
    .map(({ name, target, undelivered }): Delivery => {
      const leaf = asked.get(target)
      return {
        store: leaf?.store ?? directoryTarget(targetAt(target)),
        actions: [...(leaf?.actions ?? []), ...hooksOf(options), ...probesOf({ name }, options)],
        due: undelivered,
        // What flags ask for is asked for again only when they are.
        exhaustive: leaf?.configured === true,
      }
    })
  if (deliveries.length === 0) return []
  const { deliver } = await import('../deliver/delivery.ts')
  return deliver(deliveries, clock)
}
