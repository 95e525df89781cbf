import type { Certificate } from './certificate.ts'

/** The subject of an authority, unless another is asked for. */
export const defaultSubject = 'certgen CA'

/** How long a subject may be for its mark still to fit into a common name of 64 characters (RFC 5280 appendix A). */
export const longestSubject = 44

const mark = / \d{4}-\d{2}-\d{2} [0-9a-f]{8}$/

/** A common name no other generation has: the day and the start of the key id follow the subject. */
export function markedSubject(subject: string, now: Date, keyId: string): string {
  return `${subject} ${now.toISOString().slice(0, 10)} ${keyId.slice(0, 8)}`
}

/** The subject that a successor takes over: the common name without its generation's mark. */
export function unmarkedSubject(certificate: Certificate): string {
  const subject = firstCharacters((commonNameOf(certificate) ?? '').replace(mark, ''), longestSubject)
  return subject === '' ? defaultSubject : subject
}

/** At most `length` UTF-16 units, and no half of a character. */
function firstCharacters(text: string, length: number): string {
  return text.slice(0, length).replace(/[\ud800-\udbff]$/, '')
}

/** The first common name; null when the subject has none. */
export function commonNameOf({ commonName }: Certificate): string | null {
  return commonName
}
