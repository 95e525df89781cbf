import type { Usage } from '../pki/certificate.ts'
import type { KeyType } from '../pki/key.ts'
import { parseDuration } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import { dnsName, ipName } from '../pki/names.ts'
import type { Name } from '../pki/names.ts'
import type { AuthorityStore } from '../store/authority-store.ts'
import type { BundleStore } from '../store/bundle-store.ts'
import type { TargetStore } from '../store/target-store.ts'

export const strategies = ['auto', 'cross-sign', 'staged', 'replace'] as const
export type Strategy = (typeof strategies)[number]

/** What a run may change: everything, the authority alone, or one leaf. */
export type Scope = 'fleet' | 'authority' | { readonly leaf: string }

/** `ensure` makes what is missing, `renew` also what is due or has drifted, `overwrite` everything in scope. */
export type Mode = 'ensure' | 'renew' | 'overwrite'

/** A leaf that was asked for. What is left out is read back from its current leaf, or else has a default. */
export interface AskedLeaf {
  readonly name: string
  readonly store: TargetStore
  /** Asked for by name or by any property, not only by default: it is made even where other targets exist. */
  readonly explicit: boolean
  readonly commonName?: string
  readonly names?: readonly Name[]
  readonly keyType?: KeyType
  readonly usages?: readonly Usage[]
  readonly lifetime?: Duration
  /** As RotationRequest.renewBefore, which wins over it. */
  readonly renewBefore?: Duration
  /** What has to follow a write of it. */
  readonly followUps?: readonly AskedFollowUp[]
}

/** What has to follow a write, by a key that tells it from others; the rotation only keeps count of it. */
export interface AskedFollowUp {
  readonly key: string
  /** Whether it follows also where there was nothing before. */
  readonly afterCreation: boolean
}

/** The keys of what has to follow a write of a leaf; `isNew`: nothing was there before. */
export function followUpKeys(
  { followUps = [] }: Pick<RotationRequest, 'followUps'>,
  asked: AskedLeaf | null,
  isNew: boolean,
): string[] {
  const all = [...(asked?.followUps ?? []), ...followUps]
  return [...new Set(all.filter(({ afterCreation }) => afterCreation || !isNew).map(({ key }) => key))]
}

/** Where targets that nobody asks for are known again. */
export interface Discovery {
  /** Every directory in it is looked at. */
  readonly dir: string
  /** Directories that are somebody else's: other authorities, and their targets. */
  readonly except: readonly string[]
  /** Default: a target with certgen's own file names. */
  readonly open?: (directory: string) => TargetStore
}

/** One authority and its leaves, and what is to be done with them. */
export interface RotationRequest {
  readonly authority: {
    readonly store: AuthorityStore
    readonly subject?: string
    readonly keyType?: KeyType
    readonly lifetime?: Duration
    /** Where its bundle is published by itself, before leaves change. */
    readonly bundles?: readonly BundleStore[]
  }
  readonly leaves: readonly AskedLeaf[]
  readonly discovery: Discovery | null
  /** What has to follow a write of any leaf, besides what its own entry says. */
  readonly followUps?: readonly AskedFollowUp[]
  readonly scope: Scope
  readonly mode: Mode
  /** With `overwrite`: new leaves, same authority. */
  readonly keepAuthority: boolean
  readonly strategy: Strategy
  readonly settle: Duration
  /** Leaves are due this long before their end, instead of after two thirds of their life. */
  readonly renewBefore?: Duration
  readonly distrustPrevious: boolean
  readonly force: boolean
  readonly dryRun: boolean
  readonly lockTimeout: Duration
}

export const defaults = {
  leafName: 'server',
  names: [dnsName('localhost'), ipName('127.0.0.1'), ipName('::1')] as readonly Name[],
  usages: ['server', 'client'] as readonly Usage[],
  leafLifetime: parseDuration('90d'),
  authorityLifetime: parseDuration('5y'),
  settle: parseDuration('10m'),
  lockTimeout: parseDuration('60s'),
} as const
