import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import { crossSign, makeAuthority } from '../pki/authority.ts'
import type { Authority } from '../pki/authority.ts'
import { makeBundle } from '../pki/bundle.ts'
import type { Certificate } from '../pki/certificate.ts'
import { createSigner } from '../pki/issue.ts'
import type { Signer } from '../pki/issue.ts'
import { readKey } from '../pki/key.ts'
import { makeLeaf } from '../pki/leaf.ts'
import type { NewAuthority, StoredAuthority } from '../store/authority-store.ts'
import { compacting, encodeSet } from '../store/target-store.ts'
import type { EncodedSet, TargetSet } from '../store/target-store.ts'
import type { LeafPlan, Plan, Warning } from './plan.ts'

export interface IssuedLeaf {
  readonly plan: LeafPlan
  readonly set: TargetSet
  /** The exact octets that preflight tries and the store writes. */
  readonly encoded: EncodedSet
}

export interface Issuance {
  readonly authority: NewAuthority
  /** What there is to say of the leaves that have been issued. */
  readonly warnings: readonly Warning[]
  /** Issues some of the plan's leaves. */
  readonly issue: (leaves: readonly LeafPlan[]) => Promise<IssuedLeaf[]>
}

/** Keys are generated on the thread pool while certificates are put together: a few at a time keep both busy. */
const leavesAtOnce = 8

/** Carries a plan out in memory: nothing is written. The authority is made, and its leaves when they are asked for. */
export async function beginIssuance(plan: Plan, stored: StoredAuthority | null, now: Date): Promise<Issuance> {
  const authority = await issueAuthority(plan, stored, now)
  const warnings: Warning[] = []
  const signer = plan.leaves.some((leaf) => leaf.work.action === 'issue') ? signerOf(authority) : null
  const compact = compacting()
  const issueOne = async (leaf: LeafPlan): Promise<IssuedLeaf> => {
    const { encoded, ...issued } = await issueLeaf(leaf, authority, signer, now, warnings)
    return { ...issued, encoded: compact(encoded) }
  }
  const issue = (leaves: readonly LeafPlan[]): Promise<IssuedLeaf[]> =>
    pMap(leaves, issueOne, { concurrency: leavesAtOnce })
  return { authority, warnings, issue }
}

function signerOf({ key }: NewAuthority): Signer {
  if (key) return createSigner(key)
  throw new CertgenError('authority-unusable', "the authority's key is not at hand, so it can issue no leaf", {
    hints: ['rotate to an authority with a key: certgen --overwrite --strategy staged'],
  })
}

async function issueAuthority(
  { authority: plan }: Plan,
  stored: StoredAuthority | null,
  now: Date,
): Promise<NewAuthority> {
  if (plan.action === 'make') return { ...(await makeAuthority(plan.root, now)), ...nothingElse }
  if (!stored) throw new Error('a plan that keeps or replaces an authority needs one')
  switch (plan.action) {
    case 'keep':
      return stored
    case 'stage':
      return { ...stored, next: await makeAuthority(plan.root, now) }
    case 'promote':
      if (!stored.next) throw new Error('there is no staged successor to promote')
      return { ...stored.next, ...nothingElse, previous: stored.certificate }
    case 'rotate': {
      const made = await makeAuthority(plan.root, now)
      const previous = plan.carryOver && stored.certificate.notAfter >= now ? stored.certificate : null
      const cross = previous && plan.crossSign ? await crossSign(made.certificate, signing(stored), now) : null
      return { ...made, ...nothingElse, previous, cross }
    }
  }
}

const nothingElse = { previous: null, cross: null, next: null } as const

function signing({ certificate, key }: StoredAuthority): Authority {
  if (!key) throw new Error('a cross-certificate needs the key of the previous authority')
  return { certificate, key }
}

async function issueLeaf(
  plan: LeafPlan,
  authority: NewAuthority,
  signer: Signer | null,
  now: Date,
  warnings: Warning[],
): Promise<IssuedLeaf> {
  const { target, work } = plan
  const bundle = bundleFor(plan, authority, now)
  const finish = (certificate: Certificate, key: TargetSet['key']): IssuedLeaf => {
    const set = { key, bundle, chain: chainFor(certificate, authority, bundle, now) }
    return { plan, set, encoded: encodeSet(set) }
  }
  if (work.action === 'issue' && signer) {
    const leaf = await makeLeaf(work.leaf, authority.certificate, signer, now)
    if (leaf.capped) {
      const end = leaf.certificate.notAfter.toISOString()
      warnings.push({ code: 'leaf-capped', message: `the leaf of ${target.name} ends with its authority, on ${end}` })
    }
    return finish(leaf.certificate, leaf.key)
  }
  const [leaf] = target.set?.chain ?? []
  const key = target.contents?.key && readKey(target.contents.key, '').key
  if (!leaf || !key) throw new CertgenError('unusable', `the target ${target.store.path} is damaged`)
  return finish(leaf, key)
}

/**
 * The bundle rule, with the old bundle that counts: the authority's own carry-over; where it has none, what a target of
 * this authority already carries. While a successor is staged, it takes the second place.
 */
function bundleFor({ target }: LeafPlan, authority: NewAuthority, now: Date): readonly Certificate[] {
  if (authority.next) return [authority.certificate, authority.next.certificate]
  const issuedByThis = target.set?.chain[0]?.issuer === authority.certificate.subject
  const own = issuedByThis ? target.set.bundle : []
  return makeBundle([authority.certificate], authority.previous ? [authority.previous] : own, now).certificates
}

/** The cross-certificate stands in the chain for as long as the root that signed it stands in the bundle. */
function chainFor(
  leaf: Certificate,
  { cross, previous }: NewAuthority,
  bundle: readonly Certificate[],
  now: Date,
): Certificate[] {
  const needed = cross && previous && cross.notAfter >= now && bundle.includes(previous)
  return needed ? [leaf, cross] : [leaf]
}
