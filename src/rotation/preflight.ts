import type { KeyObject } from 'node:crypto'
import { CertgenError } from '../errors.ts'
import { hasErrors } from '../findings.ts'
import type { Finding } from '../findings.ts'
import type { Certificate } from '../pki/certificate.ts'
import { checkContents, judgeSet, permits } from '../pki/check.ts'
import { handshake } from '../pki/handshake.ts'
import type { HandshakeResult, Peer } from '../pki/handshake.ts'
import { readPem } from '../pki/pem.ts'
import type { EncodedSet, TargetContents } from '../store/target-store.ts'
import type { TargetSnapshot } from './snapshot.ts'

export type Version = 'old' | 'new'

/** One target's way from what is on disk to what is to be written. */
export interface Transition {
  readonly name: string
  /** Where findings say it is. */
  readonly path: string
  readonly old: { readonly chain: readonly Certificate[]; readonly encoded: EncodedSet } | null
  readonly new: {
    readonly chain: readonly Certificate[]
    /** null where it is only at hand as it is encoded. */
    readonly key: KeyObject | null
    readonly bundle: readonly Certificate[]
    readonly encoded: EncodedSet
  }
  readonly oldBundle: readonly Certificate[]
}

/** From what a target holds to what it is to hold. */
export function transitionTo(target: TargetSnapshot, next: Transition['new']): Transition {
  const { name, store, contents, set } = target
  const encoded = contents && wholeSet(contents)
  return {
    name,
    path: store.path,
    old: encoded && set ? { chain: set.chain, encoded } : null,
    oldBundle: set?.bundle ?? [],
    new: next,
  }
}

/** null when a part is missing. */
export function wholeSet({ ca, cert, key }: TargetContents): EncodedSet | null {
  return ca && cert && key ? { ca, cert, key } : null
}

/** One handshake that was tried (contract: `preflight[]`). */
export interface Pair {
  readonly profile: string
  readonly server: Version
  readonly client: Version
  readonly ok: boolean
  readonly detail: string | null
  /** It did not succeed before this rotation either, so the rotation does not break it. */
  readonly brokenBefore: boolean
}

/**
 * Tries, with the octets that are to be written, whether every pair of peers that may meet during convergence still
 * shakes hands (I2). Each target's new set is checked by itself; the matrix of old and new runs once per profile, and once
 * per pair of profiles whose peers trust differently. Throws CertgenError `unusable` when a new set has findings.
 */
export async function preflight(transitions: readonly Transition[], now: Date): Promise<Pair[]> {
  const trial = beginPreflight(now)
  for (const transition of transitions) trial.add(transition)
  return trial.shakeHands()
}

/** preflight, one transition after the other: only one of each profile is kept. */
export interface Preflight {
  readonly add: (transition: Transition) => void
  readonly shakeHands: () => Promise<Pair[]>
}

export function beginPreflight(now: Date): Preflight {
  const shapes = new Set<string>()
  const profiles = new Map<string, Transition>()
  return {
    add: (transition) => {
      checkNewSet(transition, now)
      const shape = shapeOf(transition)
      if (shapes.has(shape)) return
      shapes.add(shape)
      const label = labelOf(transition)
      const alike = [...profiles.keys()].filter((other) => other === label || other.startsWith(`${label} #`)).length
      profiles.set(alike === 0 ? label : `${label} #${alike + 1}`, transition)
    },
    shakeHands: async () => {
      const pairs: Pair[] = []
      for (const [profile, transition] of profiles) {
        pairs.push(...(await tryMatrix(profile, transition, transition)))
      }
      for (const [one, other] of differentlyTrusting(profiles)) {
        pairs.push(...(await tryMatrix(`${one[0]} -> ${other[0]}`, one[1], other[1])))
      }
      return pairs
    },
  }
}

/** The pairs that the rotation would break. */
export function brokenPairs(pairs: readonly Pair[]): Pair[] {
  return pairs.filter(({ ok, brokenBefore }) => !ok && !brokenBefore)
}

/** The refusal that follows from pairs that would break: a finding each. */
export function refusal(
  what: 'rotation' | 'rollback',
  broken: readonly Pair[],
  hints: readonly string[],
): CertgenError {
  const handshakes = broken.length === 1 ? 'a handshake' : `${broken.length} handshakes`
  return new CertgenError('refused', `the ${what} would break ${handshakes}; nothing was written`, {
    findings: broken.map(pairFinding),
    hints,
  })
}

/** A pair that fails, as a finding on its profile. */
function pairFinding({ profile, server, client, detail }: Pair): Finding {
  return { code: 'handshake', severity: 'error', path: profile, facts: { server, client, reason: detail ?? '' } }
}

function checkNewSet({ name, path, new: { encoded, ...set } }: Transition, now: Date): void {
  const file = (which: keyof EncodedSet, suffix: string): { path: string; data: Buffer } => ({
    path: `${path}/${suffix}`,
    data: encoded[which],
  })
  const files = { cert: file('cert', 'tls.crt'), key: file('key', 'tls.key'), ca: file('ca', 'ca.crt') }
  // Where the octets say what has been parsed already, OpenSSL is not asked again.
  const findings = isEncodingOf(encoded, set)
    ? judgeSet(set, files, { at: now })
    : checkContents(files, { at: now }).findings
  if (!hasErrors(findings)) return
  throw new CertgenError('unusable', `what would be written for ${name} cannot be used; nothing was written`, {
    findings,
  })
}

/** Whether the files hold exactly these certificates and this key, block for block, and nothing else. */
function isEncodingOf({ cert, key, ca }: EncodedSet, set: Omit<Transition['new'], 'encoded'>): boolean {
  const holds = (data: Buffer, label: string, expected: readonly Buffer[]): boolean => {
    const { blocks, damage } = readPem(data)
    if (damage.length > 0 || blocks.length !== expected.length) return false
    return blocks.every((block, index) => block.label === label && expected[index]?.equals(block.der) === true)
  }
  const ders = (certificates: readonly Certificate[]): Buffer[] => certificates.map(({ der }) => der)
  return (
    set.key !== null &&
    holds(cert, 'CERTIFICATE', ders(set.chain)) &&
    holds(ca, 'CERTIFICATE', ders(set.bundle)) &&
    holds(key, 'PRIVATE KEY', [set.key.export({ type: 'pkcs8', format: 'der' })])
  )
}

/** What makes two targets alike to their peers: key type, usages, who issued and what is trusted, before and after. */
function shapeOf(transition: Transition): string {
  const side = (chain: readonly Certificate[]): string => {
    const [leaf, ...rest] = chain
    if (!leaf) return ''
    return [labelOfLeaf(leaf), leaf.issuer, leaf.authorityKeyId, ...rest.map(({ sha256 }) => sha256)].join()
  }
  return [side(transition.old?.chain ?? []), side(transition.new.chain), trustOf(transition)].join('|')
}

function trustOf({ oldBundle, new: { bundle } }: Transition): string {
  return [oldBundle, bundle].map((roots) => roots.map(({ sha256 }) => sha256).join()).join('|')
}

function labelOf({ new: { chain } }: Transition): string {
  return chain[0] ? labelOfLeaf(chain[0]) : ''
}

function labelOfLeaf(leaf: Certificate): string {
  const usages = (['server', 'client'] as const).filter((usage) => permits(leaf, usage))
  const kind = leaf.keyKind
  return usages.length === 2 ? kind : `${kind} ${usages.join()}`
}

/** Ordered pairs of profiles, one for each way in which two of them trust differently. */
function differentlyTrusting(
  profiles: ReadonlyMap<string, Transition>,
): [[string, Transition], [string, Transition]][] {
  const byTrust = new Map<string, [string, Transition]>()
  for (const entry of profiles) {
    const trust = `${trustOf(entry[1])}|${entry[1].old?.chain[0]?.issuer ?? ''}`
    if (!byTrust.has(trust)) byTrust.set(trust, entry)
  }
  const all = [...byTrust.values()]
  return all.flatMap((one) =>
    all.filter((other) => other !== one).map((other): [typeof one, typeof other] => [one, other]),
  )
}

async function tryMatrix(profile: string, serverSide: Transition, clientSide: Transition): Promise<Pair[]> {
  const versions = ({ old }: Transition): Version[] => (old ? ['old', 'new'] : ['new'])
  const tried: Omit<Pair, 'brokenBefore'>[] = []
  for (const server of versions(serverSide)) {
    for (const client of versions(clientSide)) {
      const result = await shake(serverSide, server, clientSide, client)
      tried.push({ profile, server, client, ok: result.ok, detail: describe(result) })
    }
  }
  const before = tried.find(({ server, client }) => server === 'old' && client === 'old')
  return tried.map((pair) => ({
    ...pair,
    brokenBefore: before?.ok === false && (pair.server === 'old' || pair.client === 'old'),
  }))
}

async function shake(
  serverSide: Transition,
  server: Version,
  clientSide: Transition,
  client: Version,
): Promise<HandshakeResult> {
  const [serverSet, clientSet] = [serverSide[server], clientSide[client]]
  const [serverLeaf, clientLeaf] = [serverSet?.chain[0], clientSet?.chain[0]]
  if (!serverSet || !clientSet || !serverLeaf || !clientLeaf) {
    return { ok: false, serverRefused: null, clientRefused: null, failure: 'no certificate' }
  }
  const peer = ({ encoded }: { encoded: EncodedSet }): Peer => ({
    identity: { chain: encoded.cert, key: encoded.key },
    bundle: encoded.ca,
  })
  const serverPeer = peer(serverSet)
  const clientPeer = peer(clientSet)
  return handshake(serverPeer, {
    // A leaf for clients alone is still presented by a server here, but nobody judges it as one; and the reverse.
    identity: permits(clientLeaf, 'client') ? clientPeer.identity : null,
    bundle: permits(serverLeaf, 'server') ? clientPeer.bundle : null,
  })
}

function describe({ ok, serverRefused, clientRefused, failure }: HandshakeResult): string | null {
  if (ok) return null
  if (failure !== null) return failure
  return serverRefused === null
    ? `the server refuses the client: ${clientRefused ?? ''}`
    : `the client refuses the server: ${serverRefused}`
}
