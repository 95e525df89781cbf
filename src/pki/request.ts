import type { Usage } from './certificate.ts'
import type { KeyType } from './key.ts'
import type { Duration } from './lifetime.ts'
import type { Name } from './names.ts'

/** What is asked of a root. */
export interface RootRequest {
  /** The start of the common name; the date and a random mark are added, for same-name CAs break verifiers. */
  readonly subject: string
  readonly keyType: KeyType
  readonly lifetime: Duration
}

/** What is asked of a leaf. */
export interface LeafRequest {
  readonly commonName: string | null
  readonly names: readonly Name[]
  readonly keyType: KeyType
  readonly usages: readonly Usage[]
  readonly lifetime: Duration
}
