import type { Finding } from '../findings.ts'
import type { Reason } from '../rotation/plan.ts'

/** The words for a finding; the only place where findings become text. */
export function describeFinding({ code, facts }: Finding): string {
  const fact = (name: string): string => String(facts[name] ?? '')
  const block = `block ${fact('block')} (line ${fact('line')})`
  switch (code) {
    case 'key-mismatch':
      return `the key does not belong to the certificate ${fact('certificate')} (${fact('subject')})`
    case 'key-type':
      return `a key of type ${fact('key')} is not accepted by TLS peers`
    case 'key-weak':
      return `a key of type ${fact('key')} is too weak: RSA keys need 2048 bits or more`
    case 'key-encrypted':
      return `the key is encrypted and cannot be opened: ${fact('reason')}`
    case 'pem-damaged':
      return facts['label'] === undefined
        ? `${block} is damaged: ${damage[fact('reason')] ?? fact('reason')}`
        : `${block} does not belong there: ${fact('label')}`
    case 'pem-empty':
      return 'there is no PEM block in it'
    case 'not-yet-valid':
      return `${fact('subject')} is not valid before ${fact('notBefore')}`
    case 'expired':
      return `${fact('subject')} expired on ${fact('notAfter')}`
    case 'expires-soon':
      return `${fact('subject')} expires on ${fact('notAfter')}`
    case 'chain-incomplete':
      return `no path to a root of the bundle: ${fact('subject')} was issued by ${fact('issuer')}, which is not there`
    case 'chain-signature':
      return facts['issues'] === undefined
        ? `the signature of ${fact('subject')} was not made by the key of ${fact('issuer')} in the bundle`
        : `the signature of ${fact('issues')} was not made by the key of ${fact('subject')}`
    case 'not-a-ca':
      return `${fact('subject')} is not a CA that may sign certificates`
    case 'pathlen':
      return `${fact('subject')} allows ${fact('pathLength')} CA below it, but ${fact('below')} are there`
    case 'name-mismatch':
      return `the certificate is not for ${fact('name')}`
    case 'usage':
      return `the certificate does not permit: ${fact('missing')}`
    case 'signature-weak':
      return `${fact('subject')} is signed with a weak hash (MD5 or SHA-1; ${fact('algorithm')})`
    case 'bundle-duplicate':
      return `certificate ${fact('position')} is in the bundle twice: ${fact('subject')}`
    case 'bundle-expired':
      return `certificate ${fact('position')} of the bundle has expired: ${fact('subject')}`
    case 'order':
      return `certificate ${fact('position')} of the chain, ${fact('subject')}, did not issue the one before it, ${fact('issues')}`
    case 'handshake':
      return facts['server'] === undefined
        ? `a handshake with exactly these files fails: ${verdict(fact('reason'))}`
        : `${fact('server')} server, ${fact('client')} client: ${verdict(fact('reason'))}`
    case 'permissions':
      return `the key can be read by every user of the machine (mode ${fact('mode')})`
  }
}

/** OpenSSL's words for an issuer that is not trusted, in plain ones. */
function verdict(reason: string): string {
  const untrusted = /SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT\w*|UNABLE_TO_VERIFY_LEAF_SIGNATURE/
  return reason.replace(untrusted, (code) => `its bundle lacks the issuer (${code})`)
}

/** Reasons of the strict PEM reader, and of whoever expected something else in a block. */
const damage: Readonly<Record<string, string>> = {
  'no-end': 'it has no END line',
  'no-begin': 'it has no BEGIN line',
  'label-mismatch': 'its END line does not match its BEGIN line',
  'malformed-boundary': 'its BEGIN or END line is damaged',
  'empty-body': 'it is empty',
  'blank-line': 'there is a blank line in its base64',
  base64: 'its base64 is damaged',
  headers: 'it has headers',
  'der-length': 'it is cut short, or there is more in it than it should hold',
  binary: 'it is binary, not PEM',
  'not-a-certificate': 'it does not hold a certificate',
  'not-a-key': 'it does not hold a private key',
}

/** Why a leaf was written, or not. */
export const reasons: Readonly<Record<Reason, string>> = {
  missing: 'made',
  overwrite: 'made anew',
  due: 'renewed: it was due',
  drift: 'renewed: it was not as asked for',
  unfinished: 'finished an interrupted rotation',
  kept: 'kept',
}
