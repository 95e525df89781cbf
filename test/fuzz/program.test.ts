import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import pMap from 'p-map'
import { describe, expect, it } from 'vitest'
import { certgen, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { readCorpus, writeFleet } from '../corpus/corpus.ts'
import { makeCase } from './case.ts'
import type { Case } from './case.ts'
import { counts, firstSeed, hangAfter, replay, workers } from './run.ts'

// The same cases through the whole program, as an operator or a cron job would meet them.

const corpus = readCorpus(join(import.meta.dirname, '../corpus'))
const scratch = temporaryDirectory()

/** A command line, below the case's directory, and the exit codes it may have when the system refuses nothing. */
interface Command {
  readonly args: readonly string[]
  readonly codes: readonly number[]
}

const set = ['--cert', 'server/tls.crt', '--key', 'server/tls.key', '--ca', 'server/ca.crt']
const commands: readonly Command[] = [
  { args: ['validate', ...set], codes: [0, 3] },
  { args: ['validate', 'server'], codes: [0, 3] },
  { args: ['validate', ...set, '--passphrase-file', 'passphrase', '--dns', 'localhost'], codes: [0, 3] },
  { args: ['bundle', 'ca/ca.crt', 'server/ca.crt'], codes: [0, 3] },
  { args: ['bundle', 'server/ca.crt', 'ca/ca.crt', '--out', 'bundle.crt'], codes: [0, 3] },
  { args: ['install', ...set, '--target', 'elsewhere', '--passphrase-file', 'passphrase'], codes: [0, 3] },
  // A good set over a target that is spoiled.
  { args: ['install', ...set.map((word) => word.replace('server/', 'good/')), '--target', 'server'], codes: [0, 3] },
  { args: ['--dir', '.', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--overwrite', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--overwrite', '--name', 'server', '--dns', 'a'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--overwrite', '--keep-ca', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--renew', '--renew-before', '90y', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--overwrite', '--strategy', 'staged', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['--dir', '.', '--overwrite', '--distrust-previous', '--name', 'server'], codes: [0, 2, 3, 4] },
  { args: ['ca', '--dir', '.', '--overwrite'], codes: [0, 2, 3, 4] },
  { args: ['rollback', '--dir', '.'], codes: [0, 2, 3, 4] },
  { args: ['status', '--dir', '.'], codes: [0, 3] },
  { args: ['status', '--dir', '.', '--check'], codes: [0, 3, 8] },
  {
    args: ['adopt', '--dir', 'new', '--ca', 'ca/ca.crt', '--ca-key', 'ca/ca.key', '--target', 'server'],
    codes: [0, 3],
  },
]

async function judge(seed: number, tally: Map<string, number>): Promise<string[]> {
  const subject = makeCase(seed, corpus)
  const cwd = join(scratch, String(seed))
  mkdirSync(cwd)
  writeFleet(cwd, subject.files)
  const good = corpus.find(({ name }) => name === 'crossed')!.files
  writeFleet(cwd, new Map([['passphrase', Buffer.from('open sesame\n')], ...under('good', good)]))
  const { args, codes } = subject.random.pick(commands)
  const json = subject.random.next() < 0.5
  const debug = subject.random.next() < 0.3
  const before = contentsOf(cwd)
  const outcome = await certgen(json ? [...args, '--json'] : args, {
    cwd,
    env: debug ? { CERTGEN_DEBUG: '1' } : {},
    timeout: hangAfter,
  })
  const violations = [...judgeTalk(outcome, codes, { json, debug }), ...judgeSecrets(outcome, subject)]
  if (outcome.code !== 0 && !sameContents(before, contentsOf(cwd))) violations.push('it failed, and has written')
  const verb =
    args.find((word) => /^(?:validate|bundle|install|ca|rollback|status|adopt|--overwrite|--renew)$/.test(word)) ??
    'rotate'
  const what = `${verb} exits ${String(outcome.code)}`
  tally.set(what, (tally.get(what) ?? 0) + 1)
  rmSync(cwd, { recursive: true })
  const context = `${args.join(' ')} on ${subject.fleet} with ${subject.steps.join('; ')}; see ${replay(seed)}`
  return violations.map((violation) => `${violation}: ${context}`)
}

function under(directory: string, files: ReadonlyMap<string, Buffer>): [string, Buffer][] {
  return ['tls.crt', 'tls.key', 'ca.crt'].map((name) => [join(directory, name), files.get(`server/${name}`)!])
}

function judgeTalk(
  { code, stdout, stderr }: Outcome,
  codes: readonly number[],
  { json, debug }: { readonly json: boolean; readonly debug: boolean },
): string[] {
  const violations: string[] = []
  if (code === null || !codes.includes(code)) violations.push(`exit ${String(code)} with ${stderr}`)
  if (!debug && /^ +at /m.test(stderr)) violations.push(`a stack trace: ${stderr}`)
  const odd = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('certgen: '))
  if (!debug && odd.length > 0) violations.push(`a line of somebody else: ${odd.join('\n')}`)
  // A finding of validate is its result, not an error of its own.
  if (code !== 0 && stderr !== '' && !/^certgen: error: /m.test(stderr)) violations.push(`no error: ${stderr}`)
  if (json && !isDocument(stdout)) violations.push(`no JSON document: ${stdout}`)
  return violations
}

function isDocument(text: string): boolean {
  try {
    return (JSON.parse(text) as { schema?: unknown }).schema === 1
  } catch {
    return false
  }
}

function judgeSecrets({ stdout, stderr }: Outcome, { files }: Case): string[] {
  const keys = [...files].filter(([path]) => path.endsWith('.key'))
  const secrets = keys.flatMap(([, data]) => data.toString('latin1').match(/^[A-Za-z0-9+/]{40,}={0,2}$/gm) ?? [])
  return secrets.some((secret) => (stdout + stderr).includes(secret)) ? ['key material was told'] : []
}

/** Every file's octets and mode, without those of the lock, which comes and goes. */
function contentsOf(directory: string): Map<string, string> {
  const paths = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()
  return new Map(
    paths
      .filter((path) => existsSync(join(directory, path)))
      .map((path) => {
        const status = statSync(join(directory, path))
        return [path, status.isFile() ? readFileSync(join(directory, path), 'latin1') : status.mode.toString(8)]
      }),
  )
}

function sameContents(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([path, text]) => b.get(path) === text)
}

describe('whatever is in the files', { timeout: 7_200_000 }, () => {
  it('the program ends with a code of the contract, says why, and has written nothing where it failed', async () => {
    const seeds = Array.from({ length: counts.program }, (_, index) => firstSeed + index)
    const tally = new Map<string, number>()
    const results = await pMap(seeds, (seed) => judge(seed, tally), { concurrency: workers })
    const violations = results.flat()
    const figures = [...tally].sort().map(([what, times]) => `${what} ${times}`)
    console.log(
      `fuzz: ${seeds.length} cases through the program from seed ${firstSeed}, violations ${violations.length}: ${figures.join(', ')}`,
    )
    expect(violations).toEqual([])
  })
})
