import type { KeyObject } from 'node:crypto'
import type { Certificate, KeyUsage } from './certificate.ts'
import { basicConstraints, extendedKeyUsage, keyUsage, subjectAlternativeName } from './extensions.ts'
import { keyIdOf, publicKeyInfo, signCertificate } from './issue.ts'
import type { Signer } from './issue.ts'
import { generateKey } from './key.ts'
import type { KeyType } from './key.ts'
import { validityFrom } from './lifetime.ts'
import type { LeafRequest } from './request.ts'

/** An end-entity certificate and its private key. */
export interface Leaf {
  readonly certificate: Certificate
  readonly key: KeyObject
  /** Its end was cut to the authority's: it lives shorter than asked. */
  readonly capped: boolean
}

/** The longest common name (RFC 5280 appendix A, ub-common-name). */
const longestCommonName = 64

export async function makeLeaf(request: LeafRequest, issuer: Certificate, signer: Signer, now: Date): Promise<Leaf> {
  const key = await generateKey(request.keyType)
  const spki = publicKeyInfo(key)
  const { capped, ...validity } = validityFrom(now, request.lifetime, issuer.notAfter)
  const commonName = request.commonName !== null && fits(request.commonName) ? request.commonName : null
  const certificate = await signCertificate(
    {
      subject: { commonName },
      issuer: issuer.subjectDer,
      publicKeyInfo: spki,
      validity,
      subjectKeyId: keyIdOf(spki),
      authorityKeyId: issuer.subjectKeyId ?? keyIdOf(publicKeyInfo(issuer.x509.publicKey)),
      extensions: [
        basicConstraints(null),
        keyUsage(...leafKeyUsages(request.keyType)),
        extendedKeyUsage(request.usages),
        subjectAlternativeName(request.names, commonName === null),
      ],
    },
    signer,
  )
  return { certificate, key, capped }
}

function fits(commonName: string): boolean {
  return commonName.length > 0 && commonName.length <= longestCommonName
}

/** Only an RSA key can also encipher another key (TLS 1.2's RSA key exchange); the others sign (RFC 8446 section 4.4.2.2). */
function leafKeyUsages(keyType: KeyType): KeyUsage[] {
  return keyType.startsWith('rsa-') ? ['digitalSignature', 'keyEncipherment'] : ['digitalSignature']
}
