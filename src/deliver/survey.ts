import pMap from 'p-map'
import { CertgenError } from '../errors.ts'
import type { TargetStore } from '../store/target-store.ts'
import { readExpectation } from './expectation.ts'
import type { TargetExpectation } from './expectation.ts'
import { parseEndpoint, probeUntil } from './probe.ts'
import type { Endpoint } from './probe.ts'

/** An endpoint, and the target whose set it should serve. */
export interface SurveyedEndpoint {
  /** `HOST:PORT`. */
  readonly endpoint: string
  readonly target: string
  readonly store: TargetStore
}

/** What is served at one address of an endpoint. */
export interface SurveyResult extends Endpoint {
  /** As it was asked for. */
  readonly endpoint: string
  readonly target: string
  /** Why nothing of the target could be compared with it; null when it was compared. */
  readonly incomparable: string | null
}

/** Most of the time is spent waiting for those who do not answer. */
const endpointsAtOnce = 32

/** Looks once at every address of each endpoint, `timeout` milliseconds at most. Nothing that is wrong there is thrown. */
export async function survey(
  endpoints: readonly SurveyedEndpoint[],
  timeout: number,
  clock: () => Date,
): Promise<SurveyResult[]> {
  const results = await pMap(
    endpoints,
    async ({ endpoint, target, store }) => {
      const { expect, bundle, incomparable } = await expectationOf(store, clock())
      const { endpoints: seen } = await probeUntil({ ...parseEndpoint(endpoint), bundle, expect, timeout }, 0, clock)
      return seen.map((each) => ({ ...each, endpoint, target, incomparable }))
    },
    { concurrency: endpointsAtOnce },
  )
  return results.flat()
}

interface Comparison extends Pick<TargetExpectation, 'bundle'> {
  readonly expect: TargetExpectation['expect'] | null
  readonly incomparable: string | null
}

async function expectationOf(store: TargetStore, at: Date): Promise<Comparison> {
  try {
    return { ...(await readExpectation(store, at)), incomparable: null }
  } catch (error) {
    if (!(error instanceof CertgenError)) throw error
    return { expect: null, bundle: [], incomparable: error.message }
  }
}
