import { randomBytes } from 'node:crypto'
import { CertgenError } from '../../errors.ts'
import type { ActionReport } from '../delivery.ts'
import type { Api } from './api.ts'
import { explainInLine } from './explain.ts'
import { refOf, resources } from './resource.ts'
import type { ObjectRef } from './resource.ts'
import { dataOf, replaceSecret, writtenAtAnnotation } from './secret.ts'
import type { Secret } from './secret.ts'

/** Random bytes under a key of a Secret, made once. */
export interface RandomSecret {
  readonly name: string
  readonly key: string
  readonly bytes: number
  /** NAMESPACE/NAME. */
  readonly secret: string
}

export interface RandomOptions {
  /** Names of those that are to be made anew: whatever was signed or encrypted with them ends. */
  readonly renewed: readonly string[]
  readonly dryRun: boolean
  readonly now: Date
}

/** Makes what is missing. Reports what it made, and what it could not; throws nothing for that. */
export async function makeRandomSecrets(
  api: Api,
  secrets: readonly RandomSecret[],
  options: RandomOptions,
): Promise<ActionReport[]> {
  const reports: ActionReport[] = []
  for (const secret of secrets) {
    const report = (ok: boolean, detail: string | null): void => {
      reports.push({ kind: 'secret', subject: secret.secret, ok, detail })
    }
    try {
      const made = await makeRandomSecret(api, secret, options)
      if (made) report(true, made)
    } catch (error) {
      if (!(error instanceof CertgenError)) throw error
      report(false, explainInLine(error))
    }
  }
  return reports
}

/** What was done, in a word; null when there was nothing to do. */
async function makeRandomSecret(
  api: Api,
  { name, key, bytes, secret }: RandomSecret,
  { renewed, dryRun, now }: RandomOptions,
): Promise<string | null> {
  const ref = refOf(resources.secret, secret)
  const current = await api.get<Secret>(ref)
  const isThere = current !== null && dataOf(current, key) !== null
  if (isThere && !renewed.includes(name)) return null
  const done = isThere ? 'made anew' : 'made'
  if (dryRun) return `would be ${done}`
  const content = { type: 'Opaque', data: { [key]: randomBytes(bytes) } } as const
  const annotations = { [writtenAtAnnotation]: now.toISOString() }
  try {
    await replaceSecret(api, ref, current, { ...content, annotations })
    return done
  } catch (error) {
    // Another run has just made it: one is as good as the other.
    if (error instanceof CertgenError && error.code === 'conflict' && (await has(api, ref, key))) return null
    throw error
  }
}

async function has(api: Api, ref: ObjectRef, key: string): Promise<boolean> {
  const current = await api.get<Secret>(ref)
  return current !== null && dataOf(current, key) !== null
}
