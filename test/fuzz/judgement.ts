import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeFinding } from '../../src/cli/words.ts'
import { CertgenError } from '../../src/errors.ts'
import type { Finding } from '../../src/findings.ts'
import { makeBundle } from '../../src/pki/bundle.ts'
import { readCertificateFile, readCertificates } from '../../src/pki/certificate-file.ts'
import { checkContents, checkSet } from '../../src/pki/check.ts'
import { readKey } from '../../src/pki/key.ts'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName, emailName, ipName, uriName } from '../../src/pki/names.ts'
import { encodeCertificates, readPem } from '../../src/pki/pem.ts'
import { install } from '../../src/rotation/install.ts'
import { strategies } from '../../src/rotation/request.ts'
import type { RotationRequest } from '../../src/rotation/request.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { instant, passphrase, writeFleet } from '../corpus/corpus.ts'
import { requestFor } from '../rotation/fleet.ts'
import type { Case } from './case.ts'

export interface Judgement {
  readonly violations: readonly string[]
  /** What came of it, in a word each, to be counted: a fuzzer that never gets past the first check proves little. */
  readonly outcomes: readonly string[]
  /** Microseconds of processor time that the longest of its parts took. */
  readonly longest: number
}

/** Microseconds of this process alone, whatever else the machine does: what is asked is that nothing hangs. */
const mostCpu = 2_000_000

/** Runs everything that reads certificates over a case. What is not a finding or a CertgenError is a violation. */
export async function judge(subject: Case): Promise<Judgement> {
  const violations: string[] = []
  const outcomes: string[] = []
  const told: unknown[] = []
  let longest = 0
  const attempt = async (what: string, run: () => unknown): Promise<void> => {
    const start = process.cpuUsage()
    try {
      told.push(await run())
    } catch (error) {
      if (error instanceof CertgenError) {
        told.push(error.message, error.hints, wordsOf(error.findings))
        outcomes.push(`${what.replace(/ of .*/, '')} throws ${error.code}`)
      } else violations.push(`${what} threw ${String(error instanceof Error ? error.stack : error)}`)
    }
    const { user, system } = process.cpuUsage(start)
    longest = Math.max(longest, user + system)
    if (user + system > mostCpu) violations.push(`${what} took ${user + system} microseconds of processor time`)
  }
  for (const [path, data] of subject.files) {
    await attempt(`readPem of ${path}`, () => readPem(data).damage)
    await attempt(`readCertificates of ${path}`, () => void readCertificates(data, path))
    await attempt(`readKey of ${path}`, () => wordsOf(readKey(data, path).findings))
    await attempt(`readKey of ${path}`, () => wordsOf(readKey(data, path, passphrase).findings))
  }
  await attempt('makeBundle', () => void violations.push(...judgeBundles(subject)))
  await attempt('checkContents', () => {
    const { findings } = checkContents(setOf(subject), options)
    outcomes.push(...(findings.length === 0 ? ['no finding'] : new Set(findings.map(({ code }) => code))))
    return wordsOf(findings)
  })
  if (subject.random.next() < 0.25) {
    await attempt('checkSet', async () => wordsOf((await checkSet(setOf(subject), options)).findings))
  }
  if (subject.random.next() < 0.25) {
    await attempt('a run', async () => {
      violations.push(...(await judgeRun(subject)))
      outcomes.push('a run succeeds')
    })
  }
  const text = JSON.stringify(told)
  if (/undefined|NaN|\[object|Invalid Date/.test(text)) violations.push(`a value without words: ${text}`)
  for (const secret of secretsOf(subject)) {
    if (text.includes(secret)) violations.push(`key material was told: ${secret}`)
  }
  return { violations, outcomes, longest }
}

const options = {
  at: instant,
  expiresWithin: parseDuration('30d'),
  names: [dnsName('localhost'), ipName('127.0.0.1'), uriName('spiffe://acme/a'), emailName('ops@example.org')],
}

function setOf({ files }: Pick<Case, 'files'>): Parameters<typeof install>[0]['files'] {
  const file = (name: string): { path: string; data: Buffer } => ({
    path: `server/${name}`,
    data: files.get(`server/${name}`)!,
  })
  return { cert: file('tls.crt'), key: file('tls.key'), ca: file('ca.crt'), passphrase }
}

function wordsOf(findings: readonly Finding[]): string[] {
  return findings.map((finding) => `${finding.path}: ${describeFinding(finding)} ${JSON.stringify(finding.facts)}`)
}

/** The bundle rule, whatever it is given, and that what was read is read the same when it was written again. */
function judgeBundles({ files }: Case): string[] {
  const read = (path: string): ReturnType<typeof readCertificateFile>['certificates'] =>
    readCertificateFile({ path, data: files.get(path)! }).certificates
  const [current, old] = [read('ca/ca.crt'), read('server/ca.crt')]
  const { certificates } = makeBundle(current, old, instant)
  const again = readCertificateFile({ path: '', data: encodeCertificates(certificates.map(({ der }) => der)) })
  const prints = (list: typeof certificates): string => list.map(({ sha256 }) => sha256).join()
  if (certificates.length > current.length + 1) return ['a second certificate was carried over']
  return prints(again.certificates) === prints(certificates) ? [] : ['a bundle reads otherwise than it was written']
}

/** A real run on the fleet as files: a rotation of any kind, or an installation. */
async function judgeRun(subject: Case): Promise<string[]> {
  const dir = mkdtempSync(join(tmpdir(), 'certgen-fuzz-'))
  try {
    writeFleet(dir, subject.files)
    if (subject.random.next() < 0.1) {
      await install({ files: setOf(subject), target: join(dir, 'elsewhere'), lockTimeout }, instant)
      return await judgeTarget(join(dir, 'elsewhere'))
    }
    const request = drawRequest(subject, dir)
    const report = await rotate(request, () => instant)
    if (report.dryRun || !report.leaves.some(({ changed }) => changed)) return []
    // Who forces a run has been told what it breaks.
    return request.force || request.distrustPrevious ? [] : await judgeTarget(join(dir, 'server'))
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const lockTimeout = parseDuration('1s')

function drawRequest({ random }: Case, dir: string): RotationRequest {
  const mode = random.pick(['ensure', 'renew', 'overwrite', 'overwrite'] as const)
  const maybe = (share: number): boolean => random.next() < share
  return requestFor(dir, {
    mode,
    scope: random.pick(['fleet', 'fleet', 'fleet', 'authority', { leaf: 'server' }] as const),
    strategy: random.pick([...strategies, 'auto'] as const),
    keepAuthority: mode === 'overwrite' && maybe(0.3),
    distrustPrevious: mode === 'overwrite' && maybe(0.2),
    force: maybe(0.2),
    dryRun: maybe(0.6),
    settle: parseDuration('1s'),
    lockTimeout,
  })
}

/** What was written is whole, and serves. */
async function judgeTarget(target: string): Promise<string[]> {
  const generation = realpathSync(join(target, '..data'))
  const file = (name: string): { path: string; data: Buffer } => ({
    path: name,
    data: readFileSync(join(generation, name)),
  })
  const set = { cert: file('tls.crt'), key: file('tls.key'), ca: file('ca.crt') }
  const { findings } = await checkSet(set, { at: instant })
  return wordsOf(findings.filter(({ severity }) => severity === 'error')).map((words) => `written, but ${words}`)
}

/** Every line of a key that is there, spoiled or not. */
function secretsOf({ files }: Case): string[] {
  const keys = [...files].filter(([path]) => path.endsWith('.key'))
  return keys.flatMap(([, data]) => data.toString('latin1').match(/^[A-Za-z0-9+/]{40,}={0,2}$/gm) ?? [])
}
