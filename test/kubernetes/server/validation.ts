import type { Stored } from './api-server.ts'
import type { Kind } from './kinds.ts'
import { sameJson } from './patch.ts'
import { Refusal } from './refusal.ts'

/** The few rules of the API's validation that certgen may run into. */
export function validate({ plural }: Kind, object: Stored): void {
  if (plural === 'secrets') validateSecret(object)
  if (plural.endsWith('webhookconfigurations')) {
    const webhooks = (object['webhooks'] ?? []) as { name: string; sideEffects?: string }[]
    for (const { name, sideEffects } of webhooks) {
      if (!sideEffects) throw invalid(object, `webhooks[${name}].sideEffects: Required value`)
    }
  }
}

function validateSecret(object: Stored): void {
  const data = (object['data'] ?? {}) as Record<string, string>
  for (const [key, text] of Object.entries(data)) {
    if (Buffer.from(text, 'base64').toString('base64') !== text) {
      throw invalid(object, `data[${key}]: illegal base64 data`)
    }
  }
  const isTls = object['type'] === 'kubernetes.io/tls'
  if (isTls && !('tls.crt' in data && 'tls.key' in data)) {
    throw invalid(object, 'data[tls.crt], data[tls.key]: Required value')
  }
}

export function validateChange({ plural }: Kind, before: Stored, after: Stored): void {
  if (plural !== 'secrets') return
  if (before['type'] !== after['type']) throw invalid(after, 'type: Invalid value: field is immutable')
  if (before['immutable'] === true && !sameJson(before['data'], after['data'])) {
    throw invalid(after, 'data: Forbidden: field is immutable when `immutable` is set')
  }
}

function invalid({ kind, metadata: { name } }: Stored, message: string): Refusal {
  return new Refusal(422, 'Invalid', `${kind} ${JSON.stringify(name)} is invalid: ${message}`)
}
