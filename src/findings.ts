/** How bad a finding is: an `error` makes a set unusable, a `warning` does not. */
export type Severity = 'error' | 'warning'

/** What a check can find; stable, for scripts (contract: finding codes). */
export type FindingCode =
  | 'key-mismatch'
  | 'key-type'
  | 'key-weak'
  | 'key-encrypted'
  | 'pem-damaged'
  | 'pem-empty'
  | 'not-yet-valid'
  | 'expired'
  | 'expires-soon'
  | 'chain-incomplete'
  | 'chain-signature'
  | 'not-a-ca'
  | 'pathlen'
  | 'name-mismatch'
  | 'usage'
  | 'signature-weak'
  | 'bundle-duplicate'
  | 'bundle-expired'
  | 'order'
  | 'handshake'
  | 'permissions'

/** One result of a check. Data only: the words for it are chosen where it is shown. */
export interface Finding {
  readonly code: FindingCode
  readonly severity: Severity
  /** The file it is about, as the caller named it. */
  readonly path: string
  /** What was seen, by name: `block`, `line`, `subject`, `notAfter`, ... */
  readonly facts: Readonly<Record<string, string | number>>
}

/** Whether any finding makes the set unusable. */
export function hasErrors(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.severity === 'error')
}
