import { CertgenError } from '../errors.ts'
import { readCertificateFile } from '../pki/certificate-file.ts'
import type { Certificate } from '../pki/certificate.ts'
import { checkContents, permits } from '../pki/check.ts'
import type { SetPart, TargetStore } from '../store/target-store.ts'
import type { Expectation } from './probe.ts'

/** What a probe expects of an endpoint: what a target holds. */
export interface TargetExpectation {
  readonly expect: Expectation
  readonly bundle: readonly Certificate[]
}

/** Throws CertgenError `unreadable` or `unusable`. */
export async function readExpectation(store: TargetStore, at: Date): Promise<TargetExpectation> {
  const contents = await store.read()
  if (!contents?.cert) {
    throw new CertgenError('unreadable', `there is no certificate in ${store.path}`, {
      hints: [`a target holds ${store.pathOf('cert')}, ${store.pathOf('key')} and ${store.pathOf('ca')}`],
    })
  }
  const { cert, key, ca } = contents
  const file = (part: SetPart, data: Buffer | null): { path: string; data: Buffer } => ({
    path: store.pathOf(part),
    data: data ?? Buffer.alloc(0),
  })
  const { chain, bundle, ...checked } = checkContents(
    { cert: file('cert', cert), key: file('key', key), ca: ca && file('ca', ca) },
    { at },
  )
  const [leaf] = chain
  if (!leaf) throw new CertgenError('unusable', `the chain in ${store.path} is damaged`, { findings: checked.findings })
  // Presented to a server that asks for a client certificate, as a peer of the same target would.
  const identity = key && checked.key && leaf.x509.checkPrivateKey(checked.key) && permits(leaf, 'client')
  const previous = (await store.readPrevious())?.cert
  const previousLeaf = previous ? readCertificateFile({ path: store.path, data: previous }).certificates[0] : undefined
  return {
    expect: { chain, previousLeaf: previousLeaf ?? null, identity: identity ? { cert, key } : null },
    bundle,
  }
}
