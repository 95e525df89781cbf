import type { StoredAuthority } from '../store/authority-store.ts'
import type { Repair } from '../store/generation/repair.ts'
import type { LeafPlan, Warning } from './plan.ts'
import type { RotationRequest } from './request.ts'
import type { Snapshot } from './snapshot.ts'

/** What is said of a directory whose `..data` leads nowhere, before anything is done about it. */
export function standInWarnings(
  { authority, targets }: Snapshot,
  { authority: { store } }: RotationRequest,
): Warning[] {
  const places = [
    { path: store.path, stored: authority },
    ...targets.map((target) => ({ path: target.store.path, stored: target.contents })),
  ]
  return places.flatMap(({ path, stored }) =>
    stored?.standsIn
      ? [
          {
            code: 'generation-lost',
            message: `${path}/..data led nowhere; the newest whole generation, ${stored.generation}, takes the place of the lost one`,
          },
        ]
      : [],
  )
}

const words: Readonly<Record<Exclude<Repair, 'generation'>, Warning>> = {
  links: { code: 'links-repaired', message: 'missing or wrong links were repaired' },
  watchers: {
    code: 'watchers-woken',
    message: 'a run was ended before it had told those who watch single files of its swap; they have been told now',
  },
  unwoken: {
    code: 'not-woken',
    message: 'those who watch single files may not have noticed the last swap, and could not be told: restart them',
  },
}

/**
 * Mends what a crash left around what is kept: it may have come between a swap and what follows it. Returns whether there
 * was anything, and what is to be said of it; of a lost generation standInWarnings has spoken.
 */
export async function repairKept(
  { authority: { store } }: Pick<RotationRequest, 'authority'>,
  authority: StoredAuthority | null,
  leaves: readonly LeafPlan[],
): Promise<{ readonly repaired: boolean; readonly warnings: readonly Warning[] }> {
  const repairs = new Set<Repair>(authority ? await store.repair(authority) : [])
  for (const { target, work } of leaves) {
    if (work.action !== 'keep' || !target.contents) continue
    for (const repair of await target.store.repair(target.contents)) repairs.add(repair)
  }
  const warnings = [...repairs].flatMap((repair) => (repair === 'generation' ? [] : [words[repair]]))
  return { repaired: [...repairs].some((repair) => repair !== 'unwoken'), warnings }
}
