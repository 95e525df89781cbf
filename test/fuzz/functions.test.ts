import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../program.ts'
import { counts, firstSeed, hangAfter, replay, workers } from './run.ts'

// In processes of their own, for a case may hang one or crash it, and must not take the rest with it.

const corpus = join(import.meta.dirname, '../corpus')
const scratch = temporaryDirectory()
const program = join(scratch, 'fuzzer.mjs')

beforeAll(async () => {
  await build({
    entryPoints: [join(import.meta.dirname, 'fixtures/fuzzer.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    // As scripts/build.js does: CommonJS dependencies call require() for Node's own modules.
    banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
  })
})

interface Tally {
  cases: number
  readonly violations: string[]
  readonly outcomes: Map<string, number>
  /** Microseconds. */
  longest: number
}

interface Line {
  readonly seed?: number
  readonly violations?: readonly string[]
  readonly outcomes?: Readonly<Record<string, number>>
  readonly longest?: number
}

/** Judges the cases `first`, `first + workers`, ... and goes on behind one that ends the process. */
async function runWorker(first: number, count: number, tally: Tally): Promise<void> {
  for (let done = 0; done < count;) {
    const { begun, ended } = await runUntilEnd(first + done * workers, count - done, tally)
    done += begun
    tally.cases += begun
    if (ended !== null) tally.violations.push(`${ended}; see ${replay(first + (done - 1) * workers)}`)
    if (begun === 0) throw new Error(`the fuzzer does not begin: ${ended ?? ''}`)
  }
}

/** How many cases one process began, and how it ended before its time. */
async function runUntilEnd(
  first: number,
  count: number,
  tally: Tally,
): Promise<{ readonly begun: number; readonly ended: string | null }> {
  const args = [program, corpus, String(first), String(count), String(workers)]
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TMPDIR: scratch },
  })
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  const hung = new AbortController()
  const kill = (): void => {
    hung.abort()
    child.kill('SIGKILL')
  }
  let watchdog = setTimeout(kill, hangAfter)
  let begun = 0
  for await (const text of createInterface({ input: child.stdout })) {
    clearTimeout(watchdog)
    watchdog = setTimeout(kill, hangAfter)
    const line = JSON.parse(text) as Line
    if (line.outcomes) addUp(line, tally)
    else if (line.violations) tally.violations.push(`${text}; see ${replay(line.seed ?? 0)}`)
    else begun++
  }
  clearTimeout(watchdog)
  const [code, signal] = await exited
  if (hung.signal.aborted) return { begun, ended: 'it hangs' }
  return { begun, ended: code === 0 ? null : `it ended with ${String(code ?? signal)}` }
}

function addUp({ outcomes = {}, longest = 0 }: Line, tally: Tally): void {
  for (const [outcome, times] of Object.entries(outcomes)) {
    tally.outcomes.set(outcome, (tally.outcomes.get(outcome) ?? 0) + times)
  }
  tally.longest = Math.max(tally.longest, longest)
}

describe('whatever is in the files', { timeout: 7_200_000 }, () => {
  it('is read, judged, bundled, rotated and installed with findings or an error that says why, and nothing else', async () => {
    const tally: Tally = { cases: 0, violations: [], outcomes: new Map(), longest: 0 }
    const share = (worker: number): number => Math.floor((counts.inProcess + workers - 1 - worker) / workers)
    await Promise.all(
      Array.from({ length: workers }, (_, worker) => runWorker(firstSeed + worker, share(worker), tally)),
    )
    const outcomes = [...tally.outcomes].sort().map(([outcome, times]) => `${outcome} ${times}`)
    const figures = `${tally.cases} cases from seed ${firstSeed}, violations ${tally.violations.length}`
    console.log(`fuzz: ${figures}, longest ${tally.longest / 1000} ms of processor time: ${outcomes.join(', ')}`)
    expect(tally.violations).toEqual([])
    expect(tally.cases).toBe(counts.inProcess)
    // Cases that all failed at the first check would prove little.
    if (tally.cases < 900) return
    const deep = ['a run succeeds', 'a run throws refused', 'a run throws unusable', 'a run throws authority-unusable']
    const findings = ['no finding', 'chain-signature', 'signature-weak', 'key-mismatch', 'not-a-ca', 'usage', 'order']
    for (const outcome of [...deep, ...findings]) expect([...tally.outcomes.keys()]).toContain(outcome)
  })
})
