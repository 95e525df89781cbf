import type { Fleet } from '../corpus/corpus.ts'
import { Random } from '../random.ts'
import { mutate } from './mutation.ts'

/**
 * One fleet with something wrong in some of its files. The seed gives the whole of it, on any machine, but for the
 * random octets in the signatures of certificates that were changed and signed again.
 */
export interface Case {
  readonly seed: number
  readonly fleet: string
  /** By path: `ca/ca.crt`, `server/tls.key`. */
  readonly files: ReadonlyMap<string, Buffer>
  /** What was done to which file. */
  readonly steps: readonly string[]
  /** For what is chosen after: which commands, with which flags. */
  readonly random: Random
}

export function makeCase(seed: number, corpus: readonly Fleet[]): Case {
  const random = new Random(seed)
  const { name, files, signers } = random.pick(corpus)
  const donors = corpus.flatMap((fleet) => [...fleet.files.values()])
  const spoiled = new Map(files)
  const steps: string[] = []
  for (let count = random.pick([1, 1, 1, 2, 4]); count > 0; count--) {
    const path = random.pick([...files.keys()])
    const { data, step } = mutate(spoiled.get(path)!, random, { donors, signers })
    spoiled.set(path, data)
    steps.push(`${path}: ${step}`)
  }
  return { seed, fleet: name, files: spoiled, steps, random }
}
