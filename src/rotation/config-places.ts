import { describeClash, findClashes } from '../store/place.ts'
import type { Claim } from '../store/place.ts'

/** The places that a configuration names, and those that two of its entries cannot both have. */

type Where = readonly (string | number)[]

export interface ConfigPlaces {
  readonly authorities: readonly AuthorityPlaces[]
  readonly certificates: readonly CertificatePlaces[]
  readonly random: readonly RandomPlace[]
}

interface AuthorityPlaces {
  /** null for the only one. */
  readonly name: string | null
  readonly where: Where
  readonly directory: string
  /** NAMESPACE/NAME, in place of the directory. */
  readonly secret?: string
  readonly caBundle: readonly string[]
}

interface CertificatePlaces {
  readonly name: string
  readonly where: Where
  /** null: a Secret alone. */
  readonly directory: string | null
  readonly secret?: string
}

interface RandomPlace {
  readonly name: string
  readonly key: string
  readonly secret: string
}

/** What is needed of the file to say where a mistake stands. */
export interface ConfigText {
  /** null for an entry that is not written down, and is there by default. */
  readonly positionOf: (where: Where) => { readonly offset: number; readonly line: number } | null
  readonly refuseAt: (where: Where, message: string, hints?: readonly string[]) => void
}

/** Refuses every entry that clashes with one that stands before it. Looks at what is on disk, and changes nothing. */
export function refuseSharedPlaces(config: ConfigPlaces, text: ConfigText): void {
  const claims = claimsOf(config)
    .map((claim) => ({ claim, position: text.positionOf(claim.at) }))
    .sort((a, b) => (a.position?.offset ?? -1) - (b.position?.offset ?? -1))
    .map(({ claim, position }) => ({ ...claim, line: position?.line ?? null }))
  for (const clash of findClashes(claims)) {
    const { what, line } = clash.first
    const named = line === null ? what : `${what} (line ${line})`
    const { message, hint } = describeClash({ ...clash, first: { ...clash.first, what: named } })
    text.refuseAt(clash.second.at, message, [hint])
  }
}

interface ConfigClaim extends Claim {
  readonly at: Where
}

function claimsOf({ authorities, certificates, random }: ConfigPlaces): ConfigClaim[] {
  return [
    ...authorities.flatMap(authorityClaims),
    ...certificates.flatMap(certificateClaims),
    ...random.map((secret, index) => randomClaim(secret, index, certificates)),
  ]
}

function authorityClaims({ name, where, directory, secret, caBundle }: AuthorityPlaces): ConfigClaim[] {
  const whose = name === null ? 'the authority' : `the authority ${name}`
  const own: ConfigClaim =
    secret === undefined
      ? { place: { directory }, what: `the directory ${directory} of ${whose}`, at: [...where, 'dir'] }
      : { place: secretOf(secret), what: `the Secret ${secret} of ${whose}`, at: [...where, 'secret'] }
  // One that is named twice gets the same bundle twice.
  const bundles = [...new Set(caBundle)].map((object): ConfigClaim => {
    return { place: { object }, what: `the caBundle ${object} of ${whose}`, at: [...where, 'caBundle'] }
  })
  return [own, ...bundles]
}

function certificateClaims({ name, where, directory, secret }: CertificatePlaces): ConfigClaim[] {
  const claims: ConfigClaim[] = []
  if (directory !== null) {
    claims.push({ place: { directory }, what: `the target ${directory} of ${name}`, at: [...where, 'target'] })
  }
  if (secret !== undefined) {
    claims.push({ place: secretOf(secret), what: `the Secret ${secret} of ${name}`, at: [...where, 'secret'] })
  }
  return claims
}

const leafKeys = ['ca.crt', 'tls.crt', 'tls.key']

function randomClaim(
  { name, key, secret }: RandomPlace,
  index: number,
  certificates: readonly CertificatePlaces[],
): ConfigClaim {
  // Beside a leaf it may stand under a key of its own: of a Secret, each is written by its own keys alone.
  const besideLeaf = !leafKeys.includes(key) && certificates.some((certificate) => certificate.secret === secret)
  const place = besideLeaf ? { object: `${secretOf(secret).object}#${key}` } : { ...secretOf(secret), key }
  return { place, what: `${key} of the random secret ${name}`, at: ['random', index, 'secret'] }
}

function secretOf(name: string): { readonly object: string } {
  return { object: `secret/${name}` }
}
