import { crossSign, makeAuthority } from '../../src/pki/authority.ts'
import type { Authority } from '../../src/pki/authority.ts'
import type { Certificate, Usage } from '../../src/pki/certificate.ts'
import { createSigner } from '../../src/pki/issue.ts'
import type { KeyType } from '../../src/pki/key.ts'
import { makeLeaf } from '../../src/pki/leaf.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName, ipName } from '../../src/pki/names.ts'
import { encodeSet } from '../../src/store/target-store.ts'
import type { EncodedSet } from '../../src/store/target-store.ts'

/** A set as it is written, and the fingerprint of its leaf. */
export interface IssuedSet extends EncodedSet {
  readonly leaf: string
}

export interface SetRequest {
  readonly bundle?: readonly Certificate[]
  /** What follows the leaf. */
  readonly cross?: readonly Certificate[]
  readonly names?: readonly string[]
  readonly commonName?: string
  readonly usages?: readonly Usage[]
  readonly keyType?: KeyType
  readonly lifetime?: string
  /** When it is issued. */
  readonly now?: Date
}

/** Issues roots and sets for tests. */
export class Issuer {
  async authority(lifetime = '5y', now = new Date()): Promise<Authority> {
    const request = { subject: 'Test CA', keyType: 'ecdsa-p256', lifetime: parseDuration(lifetime) } as const
    return makeAuthority(request, now)
  }

  async cross(current: Authority, previous: Authority): Promise<Certificate> {
    return crossSign(current.certificate, previous, new Date())
  }

  async set(authority: Authority, request: SetRequest = {}): Promise<IssuedSet> {
    const { names = ['localhost'], usages = ['server', 'client'], keyType = 'ecdsa-p256', lifetime = '90d' } = request
    const leaf = await makeLeaf(
      {
        commonName: request.commonName ?? null,
        names: [...names.map(dnsName), ipName('127.0.0.1')],
        keyType,
        usages,
        lifetime: parseDuration(lifetime),
      },
      authority.certificate,
      createSigner(authority.key),
      request.now ?? new Date(),
    )
    const bundle = request.bundle ?? [authority.certificate]
    const encoded = encodeSet({ chain: [leaf.certificate, ...(request.cross ?? [])], bundle, key: leaf.key })
    return { ...encoded, leaf: leaf.certificate.sha256 }
  }
}
