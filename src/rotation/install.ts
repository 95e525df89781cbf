import type { KeyObject } from 'node:crypto'
import { CertgenError } from '../errors.ts'
import { hasErrors } from '../findings.ts'
import type { Finding } from '../findings.ts'
import { makeBundle } from '../pki/bundle.ts'
import type { Certificate } from '../pki/certificate.ts'
import { checkSet } from '../pki/check.ts'
import type { CheckedSet, SetFiles } from '../pki/check.ts'
import type { Duration } from '../pki/lifetime.ts'
import { acquireLock } from '../store/lock.ts'
import { refuseAuthority } from '../store/occupied.ts'
import { directoryTarget, encodeSet, sameContents, targetAt } from '../store/target-store.ts'
import type { EncodedSet, TargetContents, TargetStore } from '../store/target-store.ts'
import type { Warning } from './plan.ts'
import { checkTarget } from './snapshot.ts'

/** A service is to get in. */
const targetMode = 0o755

export interface InstallRequest {
  readonly files: SetFiles & { readonly ca: NonNullable<SetFiles['ca']> }
  readonly target: string
  readonly lockTimeout: Duration
}

export interface InstallReport {
  readonly changed: boolean
  readonly target: string
  readonly leaf: Certificate
  readonly carriedOver: Certificate | null
  readonly findings: readonly Finding[]
  /** What could not be done beside the swap. */
  readonly warnings: readonly Warning[]
}

/**
 * Swaps in a set that somebody else issued: validated first, its CA bundled with the target's old one by the bundle
 * rule. Throws CertgenError `unusable` with every finding, the target unchanged, and `usage` where an authority is.
 */
export async function install(request: InstallRequest, now: Date): Promise<InstallReport> {
  const { files, target } = request
  const checked = await checkSet(files, { at: now })
  const [leaf] = checked.chain
  if (hasErrors(checked.findings) || !leaf || !checked.key) {
    throw new CertgenError('unusable', `the set in ${files.cert.path} cannot be used; ${target} is unchanged`, {
      findings: checked.findings,
      hints: ['mend what the findings name, or ask whoever issued the set for a whole one'],
    })
  }
  const set: CheckedLeaf = { chain: checked.chain, roots: checked.bundle, key: checked.key }
  await refuseAuthority(target)
  const store = directoryTarget(targetAt(target))
  const report = { target, leaf }
  const before = await compare(store, set, now)
  // A run with nothing to do needs no lock, and may not leave a trace (I5).
  if (before.same) {
    const changed = (await store.repair(before.contents)).some((repair) => repair !== 'unwoken')
    return { ...report, changed, carriedOver: before.carriedOver, findings: checked.findings, warnings: [] }
  }
  const lock = await acquireLock(target, { timeoutMs: request.lockTimeout * 1000, directoryMode: targetMode })
  try {
    const current = await compare(store, set, now)
    const options = { now, beforeSwap: () => lock.assertHeld() }
    const warnings = current.same ? [] : await store.write(current.encoded, options)
    const findings = [...checked.findings, ...current.findings]
    return { ...report, changed: !current.same, carriedOver: current.carriedOver, findings, warnings }
  } finally {
    await lock.release()
  }
}

interface CheckedLeaf {
  readonly chain: readonly Certificate[]
  readonly roots: readonly Certificate[]
  readonly key: KeyObject
}

type Comparison = {
  readonly carriedOver: Certificate | null
  readonly encoded: EncodedSet
  /** Of the target's old bundle. */
  readonly findings: readonly Finding[]
} & ({ readonly same: true; readonly contents: TargetContents } | { readonly same: false })

/** What is to be installed, beside what the target holds. */
async function compare(store: TargetStore, { chain, roots, key }: CheckedLeaf, now: Date): Promise<Comparison> {
  const contents = await store.read()
  const old = contents ? checkTarget(store, contents, now) : null
  const { certificates: bundle, carriedOver } = makeBundle(roots, old?.bundle ?? [], now)
  const encoded = encodeSet({ chain, bundle, key })
  const common = { carriedOver, encoded, findings: damageOf(old, store.pathOf('ca')) }
  return contents && sameContents(contents, encoded) ? { ...common, same: true, contents } : { ...common, same: false }
}

/** A damaged bundle may hide the root that old peers trust. That is no reason not to mend it, but is to be told. */
function damageOf(old: CheckedSet | null, bundlePath: string): Finding[] {
  const damage = old?.findings.filter(({ path, code }) => path === bundlePath && code === 'pem-damaged') ?? []
  return damage.map((finding) => ({ ...finding, severity: 'warning' }))
}
