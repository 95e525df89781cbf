import { CertgenError } from '../errors.ts'
import { describeClash, findClashes } from '../store/place.ts'
import type { Claim } from '../store/place.ts'
import type { RotationRequest } from './request.ts'
import type { TargetSnapshot } from './snapshot.ts'

/** An authority and the targets that are its own. */
export interface Holdings {
  readonly authority: Pick<RotationRequest['authority'], 'store' | 'bundles'>
  readonly targets: readonly Pick<TargetSnapshot, 'store'>[]
}

/**
 * Looks at where everything is kept just then: a link may have been made since the configuration was checked, and flags
 * name places too. Throws CertgenError `usage` where two are one, or one lies in another.
 */
export function refuseSharedPlaces(holdings: readonly Holdings[]): void {
  const claims = holdings.flatMap(({ authority: { store, bundles = [] }, targets }): Claim[] => [
    { place: store.place, what: `the authority ${store.path}` },
    ...bundles.map(({ place, path }) => ({ place, what: `the bundle ${path} of the authority ${store.path}` })),
    ...targets.flatMap(({ store: { places, path } }) => places.map((place) => ({ place, what: `the target ${path}` }))),
  ])
  refuseClash(claims)
}

/** Throws CertgenError `usage`. */
export function refuseClash(claims: readonly Claim[]): void {
  const [clash] = findClashes(claims)
  if (!clash) return
  const { message, hint } = describeClash(clash)
  throw new CertgenError('usage', message, { hints: [hint] })
}
