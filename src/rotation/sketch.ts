import { join } from 'node:path'
import type { Certificate } from '../pki/certificate.ts'
import { closestKeyType, defaultKeyType } from '../pki/key.ts'
import { lifetimeOf } from '../pki/lifetime.ts'
import { defaultSubject, unmarkedSubject } from '../pki/subject.ts'
import { directoryAuthority } from '../store/authority-store.ts'
import { defaultFileNames } from '../store/target-store.ts'
import type { CertificateSketch, ConfigSketch } from './config-writer.ts'
import { leafRequest } from './plan.ts'
import { defaults } from './request.ts'
import { takeSnapshot } from './snapshot.ts'
import type { TargetSnapshot } from './snapshot.ts'

/** What a configuration would say of the authority and the leaves that are in `dir` now. Throws as a rotation does. */
export async function sketchFleet(dir: string, now: Date): Promise<Omit<ConfigSketch, 'dir'>> {
  const store = directoryAuthority({ directory: join(dir, 'ca') })
  const { authority, targets } = await takeSnapshot(
    { authority: { store }, leaves: [], discovery: { dir, except: [] } },
    now,
  )
  return {
    authority: sketchAuthority(authority?.certificate ?? null),
    certificates: targets
      .filter(({ issuer }) => issuer !== null && issuer !== 'foreign')
      .map((target) => sketchTarget(target, authority?.certificate ?? null)),
  }
}

export function sketchAuthority(certificate: Certificate | null): ConfigSketch['authority'] {
  return {
    dir: 'ca',
    subject: certificate ? unmarkedSubject(certificate) : defaultSubject,
    keyType: certificate ? closestKeyType(certificate.keyKind) : defaultKeyType,
    lifetime: certificate ? lifetimeOf(certificate) : defaults.authorityLifetime,
  }
}

export function sketchTarget(target: TargetSnapshot, issuer: Certificate | null): CertificateSketch {
  const { names, commonName, keyType, usages, lifetime } = leafRequest(target, issuer)
  // The first DNS name is what it would be without a word.
  const host = names.find(({ type, value }) => type === 'dns' && !value.startsWith('*'))
  const ownName = commonName === (host?.value ?? target.name) ? null : commonName
  return {
    name: target.name,
    commonName: ownName,
    names,
    keyType,
    usages,
    lifetime,
    target: null,
    files: defaultFileNames,
  }
}
