import type { KeyObject } from 'node:crypto'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
} from './x509.ts'
import type { Certificate, Usage } from './certificate.ts'
import { createPublicKeyOf, keyIdOf, signCertificate } from './issue.ts'
import type { Signer } from './issue.ts'
import { generateKey } from './key.ts'
import type { KeyType } from './key.ts'
import { validityFrom } from './lifetime.ts'
import type { LeafRequest } from './request.ts'
import type { Name } from './names.ts'

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
  const { capped, ...validity } = validityFrom(now, request.lifetime, issuer.notAfter)
  const commonName = request.commonName !== null && fits(request.commonName) ? request.commonName : null
  const certificate = await signCertificate(
    {
      subject: { commonName },
      issuer: issuer.subjectDer,
      publicKey: createPublicKeyOf(key),
      validity,
      subjectKeyId: keyIdOf(key),
      authorityKeyId: issuer.subjectKeyId ?? keyIdOf(issuer.x509.publicKey),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        leafKeyUsage(request.keyType),
        new ExtendedKeyUsageExtension(request.usages.map((usage) => purposes[usage])),
        // Critical when there is no subject (RFC 5280 section 4.2.1.6).
        new SubjectAlternativeNameExtension(request.names.map(generalName), commonName === null),
      ],
    },
    signer,
  )
  return { certificate, key, capped }
}

const purposes: Readonly<Record<Usage, ExtendedKeyUsage>> = {
  server: ExtendedKeyUsage.serverAuth,
  client: ExtendedKeyUsage.clientAuth,
}

function fits(commonName: string): boolean {
  return commonName.length > 0 && commonName.length <= longestCommonName
}

/** Only an RSA key can also encipher another key (TLS 1.2's RSA key exchange); the others sign (RFC 8446 section 4.4.2.2). */
function leafKeyUsage(keyType: KeyType): KeyUsagesExtension {
  return keyType.startsWith('rsa-')
    ? new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true)
    : new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true)
}

function generalName({ type, value }: Name): { type: 'dns' | 'ip' | 'url' | 'email'; value: string } {
  return { type: type === 'uri' ? 'url' : type, value }
}
