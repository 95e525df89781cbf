import { conflict } from '../../store/conflict.ts'
import { readCertificateFile } from '../../pki/certificate-file.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { encodeCertificates } from '../../pki/pem.ts'
import {
  authorityFileNames,
  encodeAuthority,
  isEncrypted,
  parseAuthority,
  viewAuthority,
} from '../../store/authority-store.ts'
import type { AuthorityLocation, AuthorityStore, NewAuthority } from '../../store/authority-store.ts'
import type { Api } from './api.ts'
import { formatRef } from './resource.ts'
import type { ObjectRef } from './resource.ts'
import { dataOf, replaceSecret, writtenAt, writtenAtAnnotation } from './secret.ts'
import type { Secret } from './secret.ts'

/**
 * The certificate of the authority before this one, so that leaves of an interrupted rotation are known again. Its key is
 * not kept: an authority is replaced because its key has leaked, or is about to be of no use.
 */
const replacedName = 'replaced.crt'

/**
 * An authority in a Secret of its own, which no workload mounts. No lock keeps other runs out: whoever writes it first
 * wins, and the others find out and go on from what it wrote (CertgenError `conflict`).
 */
export function secretAuthority(
  ref: ObjectRef,
  api: () => Promise<Api>,
  { passphrase: given, askPassphrase }: Omit<AuthorityLocation, 'directory'>,
): AuthorityStore {
  const path = formatRef(ref)
  const pathOf = (name: string): string => `${path}/${name}`
  let passphrase = given
  /** What the plan was made from, and so what a write may replace. */
  let seen: Secret | null = null
  return {
    path,
    place: { object: path },
    keepsPrevious: false,
    read: async () => {
      seen = await (await api()).get<Secret>(ref)
      const files = seen ? filesOf(seen) : new Map<string, Buffer>()
      if (!seen || files.size === 0) return null
      if (passphrase === undefined && isEncrypted(files)) passphrase = await askPassphrase?.()
      const authority = parseAuthority(files, { path, pathOf, ...(passphrase === undefined ? {} : { passphrase }) })
      const written = writtenAt(seen)
      const generation = written === null ? '' : (seen.metadata.resourceVersion ?? '')
      return { ...authority, generation, writtenAt: written, standsIn: false }
    },
    readPrevious: () => {
      const certificate = seen && certificateIn(seen, replacedName, pathOf)
      if (!certificate) return Promise.resolve(null)
      const nothing = { key: null, previous: null, cross: null, next: null }
      return Promise.resolve({ certificate, ...nothing, generation: '', writtenAt: null, standsIn: false })
    },
    inspect: async (which) => {
      const secret = await (await api()).get<Secret>(ref)
      const files = secret ? filesOf(secret) : new Map<string, Buffer>()
      const replaced = secret && dataOf(secret, replacedName)
      const shown = which === 'current' ? files : new Map(replaced ? [['ca.crt', replaced]] : [])
      if (!secret || shown.size === 0) return null
      const view = viewAuthority(shown, { path, pathOf, ...(passphrase === undefined ? {} : { passphrase }) })
      return { ...view, generation: '', writtenAt: which === 'current' ? writtenAt(secret) : null, standsIn: false }
    },
    write: async (authority, { now, beforeSwap }) => {
      await beforeSwap?.()
      const files = encodeAuthority(authority, passphrase)
      const present = Object.fromEntries(files.map(({ name, data }) => [name, Buffer.from(data)]))
      const absent = Object.fromEntries(authorityFileNames.map((name) => [name, null]))
      seen = await replaceSecret(await api(), ref, seen, {
        type: 'Opaque',
        data: { ...absent, ...present, [replacedName]: replacedBy(authority, seen, pathOf) },
        annotations: { [writtenAtAnnotation]: now.toISOString() },
      })
      return []
    },
    sync: async () => {
      // What the API server has answered is durable; but another run may have replaced it since.
      const current = await (await api()).get<Secret>(ref)
      if (!current || !seen || !sameFiles(current, seen)) throw conflict(path)
      seen = current
    },
    repair: () => Promise.resolve([]),
    lock: () => Promise.resolve(null),
  }
}

function filesOf(secret: Secret): Map<string, Buffer> {
  const files = authorityFileNames.map((name) => [name, dataOf(secret, name)] as const)
  return new Map(files.filter((file): file is [string, Buffer] => file[1] !== null))
}

function sameFiles(a: Secret, b: Secret): boolean {
  return authorityFileNames.every((name) => a.data?.[name] === b.data?.[name])
}

/** null when there is none, or it is damaged: it only helps to know stranded leaves again. */
function certificateIn(secret: Secret, name: string, pathOf: (name: string) => string): Certificate | null {
  const data = dataOf(secret, name)
  return data && (readCertificateFile({ path: pathOf(name), data }).certificates[0] ?? null)
}

/** The root that an authority takes the place of; the one before, where it is the same root that is written anew. */
function replacedBy(
  { certificate }: NewAuthority,
  seen: Secret | null,
  pathOf: (name: string) => string,
): Buffer | null {
  const current = seen && certificateIn(seen, 'ca.crt', pathOf)
  if (!seen || !current) return null
  if (current.sha256 === certificate.sha256) return dataOf(seen, replacedName)
  return Buffer.from(encodeCertificates([current.der]))
}
