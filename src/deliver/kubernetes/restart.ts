import { CertgenError } from '../../errors.ts'
import type { Api } from './api.ts'
import { explainInLine } from './explain.ts'
import type { ObjectRef } from './resource.ts'
import { isByHand } from './workload.ts'
import type { Workload } from './workload.ts'

/** What `kubectl rollout restart` writes: another pod template, and so new pods. */
const restartedAt = 'kubectl.kubernetes.io/restartedAt'

export interface Restart {
  /** `missing`: there is no such workload. `done`: it was restarted for this change before. */
  readonly outcome: 'restarted' | 'done' | 'missing' | 'refused'
  /** Why nothing was restarted; null when it was. */
  readonly detail: string | null
}

/**
 * Has a workload's controller replace its pods, as many at a time as its strategy says. `change`: when what they are to
 * load was written. It is what marks the restart then, so that a run that was killed between a restart and its note of it
 * does not restart twice; clocks are never compared. Throws CertgenError `unreadable` and `write-failed`.
 */
export async function restart(api: Api, ref: ObjectRef, now: Date, change: Date | null): Promise<Restart> {
  const workload = await api.get<Workload>(ref)
  if (!workload) return missing
  const mark = (change ?? now).toISOString()
  const last = workload.spec.template?.metadata?.annotations?.[restartedAt]
  if (last === mark) return { outcome: 'done', detail: 'it had been restarted for this already' }
  if (workload.spec.paused) {
    return refused('it is paused: resume it with kubectl rollout resume, and run certgen again')
  }
  if (isByHand(workload)) return refused('its strategy is OnDelete: delete its pods to have new ones')
  const result = await api.patch<Workload>(ref, {
    type: 'application/strategic-merge-patch+json',
    value: { spec: { template: { metadata: { annotations: { [restartedAt]: mark } } } } },
  })
  if (result === 'missing') return missing
  return { outcome: 'restarted', detail: null }
}

const missing: Restart = { outcome: 'missing', detail: 'there is no such workload' }

function refused(detail: string): Restart {
  return { outcome: 'refused', detail }
}

/** restart, for those who go on whatever becomes of it. */
export async function tryRestart(
  api: () => Promise<Api>,
  ref: ObjectRef,
  now: Date,
  change: Date | null,
): Promise<{ readonly ok: boolean; readonly detail: string | null }> {
  try {
    const { outcome, detail } = await restart(await api(), ref, now, change)
    return { ok: outcome !== 'refused', detail }
  } catch (error) {
    if (error instanceof CertgenError) return { ok: false, detail: explainInLine(error) }
    throw error
  }
}
