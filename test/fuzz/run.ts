/**
 * How much is run, and from which seed: a thousand cases that are the same every time, or with `npm run test:fuzz` fifty
 * thousand others. CERTGEN_FUZZ_SEED and CERTGEN_FUZZ_CASES run any of them again.
 */
const full = process.env['CERTGEN_FULL_FUZZ'] === '1'

export const firstSeed = Number(process.env['CERTGEN_FUZZ_SEED'] ?? (full ? Math.floor(Math.random() * 2 ** 30) : 1))

/** How many cases run the functions, and how many, of the same seeds, the built program. */
export const counts = pickCounts()

function pickCounts(): { readonly inProcess: number; readonly program: number } {
  const asked = process.env['CERTGEN_FUZZ_CASES']
  if (asked !== undefined) return { inProcess: Number(asked), program: Number(asked) }
  return full ? { inProcess: 50_000, program: 2_000 } : { inProcess: 960, program: 40 }
}

/** On two cores, more at once only makes each slower. */
export const workers = 2

/** Milliseconds without a sign of life, of what takes a fraction of a second: it hangs. */
export const hangAfter = 120_000

/** What to run to see one case again. */
export function replay(seed: number): string {
  return `CERTGEN_FUZZ_SEED=${seed} CERTGEN_FUZZ_CASES=1 npx vitest run test/fuzz`
}
