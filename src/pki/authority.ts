import type { KeyObject } from 'node:crypto'
import { CertgenError } from '../errors.ts'
import { isSignedBy } from './certificate.ts'
import type { Certificate } from './certificate.ts'
import { basicConstraints, keyUsage } from './extensions.ts'
import { createSigner, keyIdOf, publicKeyInfo, signCertificate } from './issue.ts'
import { generateKey } from './key.ts'
import { BACKDATE, validityFrom } from './lifetime.ts'
import type { RootRequest } from './request.ts'
import { longestSubject, markedSubject } from './subject.ts'

/** A root CA: its self-signed certificate and its private key. */
export interface Authority {
  readonly certificate: Certificate
  readonly key: KeyObject
}

/**
 * Makes a root: `pathlen:1`, because verifiers that count a cross-certificate against the path length (Go, GnuTLS)
 * would refuse a chain through one under `pathlen:0`. Throws CertgenError `usage` for a subject that does not fit.
 */
export async function makeAuthority(request: RootRequest, now: Date): Promise<Authority> {
  if (request.subject.length === 0 || request.subject.length > longestSubject) {
    throw new CertgenError('usage', `the authority's subject must have 1 to ${longestSubject} characters`)
  }
  const key = await generateKey(request.keyType)
  const spki = publicKeyInfo(key)
  const keyId = keyIdOf(spki)
  const commonName = markedSubject(request.subject, now, keyId)
  const certificate = await signCertificate(
    {
      subject: { commonName },
      issuer: { commonName },
      publicKeyInfo: spki,
      validity: validityFrom(now, request.lifetime),
      subjectKeyId: keyId,
      authorityKeyId: keyId,
      extensions: caExtensions(1),
    },
    createSigner(key),
  )
  return { certificate, key }
}

/**
 * The new root's name and key, certified by the previous authority (RFC 4210 section 4.4, "NewWithOld"): a peer that
 * trusts only the previous root accepts the new root's leaves through it. Subject and SKI are the new root's to the
 * octet; it ends no later than either root. `pathlen:0`, for nothing but leaves ever stands below it.
 */
export async function crossSign(current: Certificate, previous: Authority, now: Date): Promise<Certificate> {
  const issuer = previous.certificate
  const certificate = await signCertificate(
    {
      subject: current.subjectDer,
      issuer: issuer.subjectDer,
      publicKeyInfo: publicKeyInfo(current.x509.publicKey),
      validity: {
        notBefore: latest(new Date(now.getTime() - BACKDATE * 1000), issuer.notBefore),
        notAfter: issuer.notAfter < current.notAfter ? issuer.notAfter : current.notAfter,
      },
      subjectKeyId: current.subjectKeyId ?? keyIdOf(publicKeyInfo(current.x509.publicKey)),
      authorityKeyId: issuer.subjectKeyId ?? keyIdOf(publicKeyInfo(issuer.x509.publicKey)),
      extensions: caExtensions(0),
    },
    createSigner(previous.key),
  )
  if (!certificate.subjectDer.equals(current.subjectDer) || !isSignedBy(certificate, issuer)) {
    throw new Error('the cross-certificate does not repeat the new root')
  }
  return certificate
}

function caExtensions(pathLength: number): Buffer[] {
  return [basicConstraints(pathLength), keyUsage('keyCertSign', 'cRLSign')]
}

function latest(a: Date, b: Date): Date {
  return a > b ? a : b
}
