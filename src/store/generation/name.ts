import { randomBytes } from 'node:crypto'

// The names in a directory that is written by swaps. What people see are links through `..data`; everything else begins
// with two dots, as in a Kubernetes Secret volume.

/** The link to the current generation. */
export const current = '..data'
/** What becomes `..data` by the rename, followed by its writer's tag. Kubernetes, and certgen before, had no tag. */
export const nextPrefix = '..data_tmp'
/** What becomes a visible link by a rename, followed by its writer's tag and its name. */
export const linkPrefix = '..link.'
/** Of files that are in a generation only, and that no link in the directory shows. */
export const hiddenPrefix = '..hidden.'
/** Inside a generation, so that it is published by the same rename: no moment has the one without the other. */
export const previousFile = '..previous'
export const undeliveredFile = '..undelivered'

// The random end is hexadecimal from certgen and decimal from Kubernetes.
const generationPattern = /^\.\.(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)\.[0-9a-zA-Z]+$/

export function isGenerationName(name: string): boolean {
  return generationPattern.test(name)
}

/** The instant in a generation's name; null when it is not the name of one. */
export function generationTime(name: string): Date | null {
  const match = generationPattern.exec(name)
  if (!match) return null
  const [year, month, day, hour, minute, second] = match.slice(1)
  const iso = `${year ?? ''}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}.000Z`
  const time = new Date(iso)
  // `02_31` would roll over to March.
  return !Number.isNaN(time.getTime()) && time.toISOString() === iso ? time : null
}

export function makeName(now: Date): string {
  return `..${now.toISOString().slice(0, 19).replaceAll(/[-T:]/g, '_')}.${randomBytes(4).toString('hex')}`
}

/** What the temporary names of the writer of a generation are told apart by: no two generations have the same. */
export function tagOf(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

/** The tag of a writer that makes no generation. */
export function makeTag(): string {
  return randomBytes(6).toString('hex')
}
