import { expect } from 'vitest'
import { CertgenError } from '../src/errors.ts'

/** The CertgenError that is thrown; anything else that is thrown, and nothing, fail the test. */
export function errorOf(run: () => unknown): CertgenError {
  try {
    run()
  } catch (error) {
    if (error instanceof CertgenError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

/** The CertgenError that a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<CertgenError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(CertgenError)
  return error as CertgenError
}
