import type { Place } from './place.ts'

/**
 * Where a bundle is published by itself, for peers that only verify: a webhook's caBundle, a ConfigMap, or whatever else
 * is written as a whole.
 */
export interface BundleStore {
  /** What people know it by. */
  readonly path: string
  readonly place: Place
  /** What is there now; a note, for people, where there is nothing to publish to. Throws CertgenError `unreadable`. */
  readonly read: () => Promise<PublishedBundle>
  /** Refuses what is known to be refused later, before anything is written. Throws CertgenError `write-failed`. */
  readonly assertWritable: () => Promise<void>
  /** Publishes a bundle, PEM. Throws CertgenError `write-failed`, and `conflict` when others keep changing it. */
  readonly write: (bundle: Buffer) => Promise<void>
}

export type PublishedBundle =
  | {
      readonly absent: null
      /** Every distinct bundle that is there, PEM: one where all is well. */
      readonly bundles: readonly Buffer[]
    }
  | { readonly absent: string }
