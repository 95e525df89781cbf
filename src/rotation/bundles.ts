import { sameCertificate } from '../pki/certificate.ts'
import type { Certificate } from '../pki/certificate.ts'
import { readCertificateFile } from '../pki/certificate-file.ts'
import { makeBundle } from '../pki/bundle.ts'
import { encodeCertificates } from '../pki/pem.ts'
import type { NewAuthority } from '../store/authority-store.ts'
import type { BundleStore } from '../store/bundle-store.ts'
import type { RotationRequest } from './request.ts'
import type { Snapshot } from './snapshot.ts'

/** What became of a place that holds a bundle by itself. */
export interface BundleReport {
  readonly path: string
  readonly changed: boolean
  /** Why there is nothing to publish to; null where there is. */
  readonly detail: string | null
}

/**
 * Publishes the authority's bundle to every place that does not hold it yet. Before leaves change: whoever verifies with
 * it must know the new root first.
 */
export async function publishBundles(
  { authority: { bundles = [] }, dryRun }: Pick<RotationRequest, 'authority' | 'dryRun'>,
  authority: NewAuthority,
  snapshot: Snapshot,
  now: Date,
): Promise<BundleReport[]> {
  const reports: BundleReport[] = []
  for (const store of bundles) {
    const published = await store.read()
    if (published.absent !== null) {
      reports.push({ path: store.path, changed: false, detail: published.absent })
      continue
    }
    const held = published.bundles
    const bundle = Buffer.from(
      encodeCertificates(bundleFor(certificatesIn(held, store), authority, snapshot, now).map(({ der }) => der)),
    )
    const changed = held.length !== 1 || held[0]?.equals(bundle) !== true
    if (changed && !dryRun) await store.write(bundle)
    reports.push({ path: store.path, changed, detail: null })
  }
  return reports
}

/** What can be read of what is there; the rest is written over. */
function certificatesIn(bundles: readonly Buffer[], { path }: BundleStore): Certificate[] {
  return bundles.flatMap((data) => readCertificateFile({ path, data }).certificates)
}

/**
 * The bundle rule. What is carried over where the authority has nothing to: a root of somebody else, whose leaves are in
 * use until ours take their place; but never an authority of ours, for one that is not carried over is distrusted.
 */
function bundleFor(
  held: readonly Certificate[],
  { certificate, previous, next }: NewAuthority,
  { authority, earlier }: Snapshot,
  now: Date,
): readonly Certificate[] {
  if (next) return [certificate, next.certificate]
  const ours = [...earlier, ...(authority ? [authority.certificate] : [])]
  const others = held.filter((candidate) => !ours.some((own) => sameCertificate(own, candidate)))
  return makeBundle([certificate], previous ? [previous] : others, now).certificates
}
