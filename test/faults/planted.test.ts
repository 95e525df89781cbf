import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import pMap from 'p-map'
import { beforeAll, describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'

// Something else stands where certgen has, or makes, a file, a link or a directory: planted by whoever may write there,
// left by another tool, or put there by mistake. All of it takes minutes: `npm run test:faults`. Otherwise a sample.

const full = process.env['CERTGEN_FULL_FAULTS'] === '1'
const step = full ? 1 : 53
const atOnce = 2
/** Milliseconds, of what takes a fraction of a second: it waits for somebody who never comes. */
const hangAfter = 60_000

const root = temporaryDirectory()
const prepared = join(root, 'prepared')
const names = ['server', 'other']

beforeAll(async () => {
  for (const name of names) await succeed(['--dir', join(prepared, 'certs'), '--name', name])
  await succeed(['--dir', join(prepared, 'certs'), '--overwrite'])
  // A set of somebody else, and what must not be touched.
  await succeed(['--dir', join(prepared, 'foreign')])
  mkdirSync(join(prepared, 'victim'))
  writeFileSync(join(prepared, 'victim', 'file'), 'untouched', { mode: 0o600 })
})

async function succeed(args: readonly string[]): Promise<void> {
  const { code, stderr } = await certgen(args)
  if (code !== 0) throw new Error(`certgen ${args.join(' ')} exited with ${String(code)}: ${stderr}`)
}

/** What is planted. `victim` is a directory with one file. */
const plants: Readonly<Record<string, (path: string, victim: string) => void>> = {
  'a pipe': (path) => output('mkfifo', path),
  'a directory': (path) => mkdirSync(path),
  'a directory with something in it': (path) => output('cp', '-a', dirname(import.meta.filename), path),
  'a link to a file': (path, victim) => {
    symlinkSync(join(victim, 'file'), path)
  },
  'a link to a directory': (path, victim) => {
    symlinkSync(victim, path)
  },
  'a link to nothing': (path) => {
    symlinkSync('/nowhere/at/all', path)
  },
  'a link to itself': (path) => {
    symlinkSync(path, path)
  },
  'a link to a device': (path) => {
    symlinkSync('/dev/zero', path)
  },
  'a file': (path) => {
    writeFileSync(path, 'not what belongs here\n')
  },
  'a file of 5 GB': (path) => output('truncate', '--size', '5G', path),
}

/** Where. `..now` stands for the name of the current generation. */
const places = [
  ...['server', 'server/tls.key', 'server/tls.pem', 'server/..data', 'server/..data_tmp', 'server/..now'],
  ...['server/..now/tls.key', 'server/..now/..previous', 'server/..lock', `server/..lock/${'0'.repeat(32)}`],
  ...['ca', 'ca/ca.key', 'ca/..data', 'ca/..data_tmp', 'ca/..now/ca.key', 'ca/..now/..previous'],
  ...['ca/..lock', `ca/..lock/${'0'.repeat(32)}`, `ca/..lock.${'0'.repeat(32)}`, 'something'],
]

const set = ['--cert', 'foreign/server/tls.crt', '--key', 'foreign/server/tls.key', '--ca', 'foreign/server/ca.crt']
const commands = [
  ['--dir', 'certs'],
  ['--dir', 'certs', '--overwrite'],
  ['--dir', 'certs', '--overwrite', '--keep-ca'],
  ['rollback', '--dir', 'certs'],
  ['install', ...set, '--target', 'certs/server'],
  ['validate', 'certs/server'],
]

interface Scenario {
  readonly place: string
  readonly kind: string
  readonly command: readonly string[]
}

const scenarios = places.flatMap((place) =>
  Object.keys(plants).flatMap((kind) => commands.map((command): Scenario => ({ place, kind, command }))),
)
let copies = 0

/** Runs the command where something is planted, then takes the plant away and sees whether anything was lost. */
async function judge({ place, kind, command }: Scenario): Promise<string[]> {
  const cwd = join(root, `copy-${++copies}`)
  output('cp', '-a', prepared, cwd)
  const [directory = ''] = place.split('/')
  const path = join(cwd, 'certs', place.replace('..now', currentGeneration(join(cwd, 'certs', directory))))
  const aside = join(cwd, 'aside')
  mkdirSync(dirname(path), { recursive: true })
  if (exists(path)) renameSync(path, aside)
  plants[kind]!(path, join(cwd, 'victim'))
  const planted = lstatSync(path).ino
  const victim = fingerprintTree(join(cwd, 'victim'))
  const locks = command[0] === 'validate' ? [] : ['--lock-timeout', '1s']
  const outcome = await certgen([...command, ...locks], { cwd, timeout: hangAfter })
  const violations = judgeOutcome(outcome)
  // Asked for by name, a directory is where a link leads; a lock comes and goes there.
  const asked = kind === 'a link to a directory' && place === { install: 'server', rollback: 'ca' }[command[0] ?? '']
  if (!asked && JSON.stringify(fingerprintTree(join(cwd, 'victim'))) !== JSON.stringify(victim)) {
    violations.push('what a link led to was touched')
  }
  // What certgen has put in its place stays.
  if (exists(path) && lstatSync(path).ino === planted) {
    rmSync(path, { recursive: true })
    if (exists(aside)) renameSync(aside, path)
  }
  violations.push(...(await judgeFleet(cwd, command[0] === 'install')))
  rmSync(cwd, { recursive: true })
  return violations.map((violation) => `${command.join(' ')} with ${kind} at ${place}: ${violation}`)
}

/** 6: whoever holds the lock does not say so, and may live. */
function judgeOutcome({ code, stdout, stderr }: Outcome): string[] {
  const violations: string[] = []
  if (code === null) return ['it hangs']
  if (![0, 2, 3, 5, 6].includes(code)) violations.push(`exit ${code}: ${stderr}`)
  if (/^ +at /m.test(stderr)) violations.push(`a stack trace: ${stderr}`)
  if (code !== 0 && !/can(not)? be served/.test(stdout)) {
    if (!/^certgen: error: [^A-Z]/m.test(stderr)) violations.push(`exit ${code} and not a word why`)
    if (!/^certgen: hint: /m.test(stderr)) violations.push(`not a hint: ${stderr}`)
  }
  return violations
}

/** One plain run finds everything in order, or puts it so, and nobody's set is lost. */
async function judgeFleet(cwd: string, installed: boolean): Promise<string[]> {
  const plain = await certgen(['--dir', 'certs', '--lock-timeout', '1s'], { cwd, timeout: hangAfter })
  const violations: string[] = []
  if (plain.code !== 0) violations.push(`without it, a plain run exits ${String(plain.code)}: ${plain.stderr}`)
  for (const name of names) {
    const { code, stdout } = await certgen(['validate', join('certs', name)], { cwd, timeout: hangAfter })
    if (code !== 0) violations.push(`${name} is lost: ${stdout}`)
    const chain = readFileSync(join(cwd, 'certs', name, 'tls.crt'), 'utf8')
    if (installed || name === 'other') continue
    if (chain === readFileSync(join(cwd, 'foreign/server/tls.crt'), 'utf8')) violations.push('it is of somebody else')
  }
  return violations
}

function currentGeneration(directory: string): string {
  return exists(join(directory, '..data')) ? readlinkSync(join(directory, '..data')) : ''
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

describe('something that is planted in the way', { timeout: full ? 3_600_000 : 120_000 }, () => {
  it.each(places)('at %s is not followed, waited for or mistaken, and takes nothing with it', async (place) => {
    const here = scenarios.filter((scenario, index) => scenario.place === place && index % step === 0)
    const results = await pMap(here, judge, { concurrency: atOnce })
    expect(results.flat()).toEqual([])
    expect(here.length).toBeGreaterThan(0)
  })
})
