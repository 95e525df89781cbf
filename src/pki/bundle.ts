import type { Certificate } from './certificate.ts'

export interface Bundle {
  readonly certificates: readonly Certificate[]
  /** The one certificate of the old bundle that was kept, if any. */
  readonly carriedOver: Certificate | null
}

/**
 * The bundle rule (I6): every certificate of the new authority, in order, then the first certificate of the old bundle
 * that is neither expired at that instant nor the same, octet by octet, as one already in; never a second.
 */
export function makeBundle(current: readonly Certificate[], old: readonly Certificate[], at: Date): Bundle {
  const present = new Set(current.map(({ sha256 }) => sha256))
  const carriedOver = old.find(({ notAfter, sha256 }) => notAfter >= at && !present.has(sha256)) ?? null
  return { certificates: carriedOver ? [...current, carriedOver] : current, carriedOver }
}
