import { X509Certificate, createPrivateKey } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { handshake } from '../../src/pki/handshake.ts'
import type { Peer } from '../../src/pki/handshake.ts'
import { certgen, fingerprintTree, output, pemBlocks } from '../program.ts'
import type { JsonReport, Outcome } from '../program.ts'

/** What a fleet must be after whatever has happened to a rotation (I4, I2), as its readers see it. */

/** The files of one generation, by name. */
type Files = ReadonlyMap<string, Buffer>

export interface Fleet {
  /** What lies in any directory besides what is seen of it: generations, links and locks. */
  readonly hidden: readonly string[]
  /** The current generation of each. */
  readonly current: readonly string[]
  readonly authority: Files
  readonly targets: ReadonlyMap<string, Files>
}

const keyTypes = { alpha: 'ecdsa-p256', beta: 'ecdsa-p384', gamma: 'ed25519' }

/** An authority and three leaves, rotated once. */
export async function makeFleet(dir: string): Promise<void> {
  await succeed(['ca', '--dir', dir])
  for (const [name, key] of Object.entries(keyTypes)) {
    await succeed(['leaf', name, '--dns', name, '--key', key, '--dir', dir])
  }
  await succeed(['--overwrite', '--dir', dir])
}

async function succeed(args: readonly string[]): Promise<void> {
  const { code, stderr } = await certgen(args)
  if (code !== 0) throw new Error(`certgen ${args.join(' ')} exited with ${String(code)}: ${stderr}`)
}

/** As a reader that resolves `..data` once. Throws when a directory has none that can be read. */
export function readFleet(dir: string): Fleet {
  const names = readdirSync(dir).filter((name) => name !== 'ca')
  return {
    hidden: ['ca', ...names].flatMap((name) => hiddenEntries(join(dir, name))),
    current: ['ca', ...names].map((name) => join(name, readlinkSync(join(dir, name, '..data')))),
    authority: readFiles(join(dir, 'ca')),
    targets: new Map(names.map((name) => [name, readFiles(join(dir, name))])),
  }
}

function hiddenEntries(directory: string): string[] {
  const entries = readdirSync(directory).filter((entry) => entry.startsWith('..') && entry !== '..data')
  const current = readlinkSync(join(directory, '..data'))
  return entries.filter((entry) => entry !== current).map((entry) => join(basename(directory), entry))
}

function readFiles(directory: string): Files {
  const generation = join(directory, readlinkSync(join(directory, '..data')))
  const names = readdirSync(generation).filter((name) => !name.startsWith('..'))
  return new Map(names.map((name) => [name, readFileSync(join(generation, name))]))
}

export type Left = 'all old' | 'part new' | 'all new'

/** How far a rotation came. */
export function compare(before: Fleet, after: Fleet): Left {
  const changed = [...after.targets].filter(([name, files]) => !sameFiles(files, before.targets.get(name)))
  const authorityChanged = !sameFiles(after.authority, before.authority)
  if (!authorityChanged && changed.length === 0) return 'all old'
  return authorityChanged && changed.length === after.targets.size ? 'all new' : 'part new'
}

export interface Judgement {
  readonly violations: readonly string[]
  readonly left: Left | 'damage'
}

/**
 * Judges the fleet after a run that was disturbed, then that one more plain run mends it. `tidied`: whether the run was
 * able to remove what it had begun.
 */
export async function judge(dir: string, before: Fleet, disturbed: Outcome, tidied: boolean): Promise<Judgement> {
  const violations = judgeOutcome(dir, disturbed)
  let after: Fleet
  try {
    after = readFleet(dir)
  } catch (error) {
    return { violations: [...violations, `a directory has no generation: ${String(error)}`], left: 'damage' }
  }
  violations.push(...judgeWhole(dir, before, after))
  // A generation that was current is kept; one that never was must be gone.
  const current = new Set(before.current)
  const rest = after.hidden.filter((entry) => !before.hidden.includes(entry) && !current.has(entry))
  if (tidied && rest.length > 0) violations.push(`left behind: ${rest.join(' ')}`)
  const left = compare(before, after)
  if (disturbed.code === 0 && left !== 'all new') violations.push(`exit 0, but ${left}`)
  violations.push(...(await judgeConvergence(dir)))
  violations.push(...(await judgeHandshakes([before, after, readFleet(dir)])))
  return { violations, left }
}

/** The contract's exit codes for a fault of the system, and what may never be seen. A killed run has no code. */
function judgeOutcome(dir: string, { code, stdout, stderr }: Outcome): string[] {
  const violations: string[] = []
  if (code !== null && code !== 0 && code !== 5) violations.push(`exit ${code}: ${stderr}`)
  if (code === 5 && !/^certgen: error: [^A-Z]/m.test(stderr)) violations.push(`not a word of what failed: ${stderr}`)
  if (/^ +at /m.test(stderr)) violations.push(`a stack trace: ${stderr}`)
  const printed = stdout + stderr
  const secrets = findKeys(dir).map((path) => readFileSync(path, 'utf8').split('\n')[1] ?? '')
  if (printed.includes('PRIVATE KEY') || secrets.some((line) => line !== '' && printed.includes(line))) {
    violations.push('a key was printed')
  }
  return violations
}

export function findKeys(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path, 'latin1').includes('PRIVATE KEY'))
}

/** I4 and I1: each directory holds all of its old files or all of new ones that belong together; I3: its keys are closed. */
function judgeWhole(dir: string, before: Fleet, after: Fleet): string[] {
  const violations: string[] = []
  const demand = (truth: boolean, what: string): void => {
    if (!truth) violations.push(what)
  }
  demand(sameFiles(after.authority, before.authority) || isNewAuthority(before, after), 'ca is neither old nor new')
  const issuers = [...certificates(after.authority.get('ca.crt')), ...certificates(after.authority.get('previous.crt'))]
  for (const [name, files] of after.targets) {
    demand(sameFiles(files, before.targets.get(name)) || isWholeTarget(files), `${name} is neither old nor new`)
    demand(verifies(join(dir, name)), `openssl refuses ${name}`)
    const [leaf] = certificates(files.get('tls.crt'))
    demand(
      issuers.some((issuer) => leaf?.verify(issuer.publicKey)),
      `${name} has no authority`,
    )
  }
  for (const [name, files] of [['ca', after.authority] as const, ...after.targets]) {
    const visible = [...files.keys()].every((file) => existsSync(join(dir, name, file)))
    // A killed run may leave names that are new in a generation without links; the next run makes them.
    demand(visible, `${name} lacks links`)
  }
  for (const path of findKeys(dir)) demand((lstatSync(path).mode & 0o077) === 0, `${path} is open to others`)
  demand((lstatSync(join(dir, 'ca')).mode & 0o777) === 0o700, 'ca is open to others')
  return violations
}

function isNewAuthority(before: Fleet, { authority }: Fleet): boolean {
  const [root] = certificates(authority.get('ca.crt'))
  const [cross] = certificates(authority.get('cross.crt'))
  const [old] = certificates(before.authority.get('ca.crt'))
  const [previous] = certificates(authority.get('previous.crt'))
  if (!root || !cross || !old || !previous) return false
  return (
    matches(root, authority.get('ca.key')) &&
    root.verify(root.publicKey) &&
    cross.verify(old.publicKey) &&
    cross.checkPrivateKey(createPrivateKey(authority.get('ca.key')!)) &&
    previous.raw.equals(old.raw)
  )
}

export function isWholeTarget(files: Files): boolean {
  const [leaf] = certificates(files.get('tls.crt'))
  const [key, cert, combined] = ['tls.key', 'tls.crt', 'tls.pem'].map((name) => files.get(name))
  if (!leaf || !key || !cert || !combined) return false
  return matches(leaf, key) && combined.equals(Buffer.concat([key, cert]))
}

export function matches(certificate: X509Certificate, key: Buffer | undefined): boolean {
  return key !== undefined && certificate.checkPrivateKey(createPrivateKey(key))
}

export function certificates(pem: Buffer | undefined): X509Certificate[] {
  const blocks = pem?.toString().match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}

export function verifies(target: string): boolean {
  const [ca, cert] = ['ca.crt', 'tls.crt'].map((name) => join(target, name)) as [string, string]
  try {
    return output('openssl', 'verify', '-x509_strict', '-CAfile', ca, '-untrusted', cert, cert).includes(': OK')
  } catch {
    return false
  }
}

function sameFiles(a: Files, b: Files | undefined): boolean {
  return a.size === b?.size && [...a].every(([name, data]) => b.get(name)?.equals(data))
}

/** One plain run makes one authority of all, and the next has nothing to do (I5). */
export async function judgeConvergence(dir: string): Promise<string[]> {
  const mended = await certgen(['--dir', dir])
  if (mended.code !== 0) return [`the next run exits ${String(mended.code)}: ${mended.stderr}`]
  const violations: string[] = []
  const { authority, targets } = readFleet(dir)
  const [root] = certificates(authority.get('ca.crt'))
  for (const [name, files] of targets) {
    if (!root || !certificates(files.get('tls.crt'))[0]?.verify(root.publicKey)) violations.push(`${name} is stranded`)
    if (!root || !certificates(files.get('ca.crt'))[0]?.raw.equals(root.raw)) violations.push(`${name} lacks the root`)
    if (pemBlocks(join(dir, name, 'ca.crt')).length !== 2) violations.push(`${name} has not one carry-over`)
  }
  const tree = fingerprintTree(dir)
  const idle = await certgen(['--json', '--dir', dir])
  const report = JSON.parse(idle.stdout) as JsonReport
  if (idle.code !== 0 || report.changed) violations.push('the run after the next has something to do')
  if (JSON.stringify(fingerprintTree(dir)) !== JSON.stringify(tree)) violations.push('a run with nothing to do wrote')
  return violations
}

/** I2: whoever has loaded whichever of these versions, of whichever target, shakes hands with all others. */
async function judgeHandshakes(versions: readonly Fleet[]): Promise<string[]> {
  const peers = new Map<string, Peer & { readonly label: string }>()
  for (const [version, fleet] of versions.entries()) {
    for (const [name, files] of fleet.targets) {
      const [chain, key, bundle] = ['tls.crt', 'tls.key', 'ca.crt'].map((file) => files.get(file)?.toString() ?? '')
      const identity = { chain: chain ?? '', key: key ?? '' }
      const id = [chain, bundle].join('')
      if (!peers.has(id)) peers.set(id, { identity, bundle: bundle ?? '', label: `${name} of version ${version}` })
    }
  }
  const violations: string[] = []
  for (const server of peers.values()) {
    for (const client of peers.values()) {
      const result = await handshake(server, client)
      if (!result.ok) violations.push(`${client.label} fails at ${server.label}: ${JSON.stringify(result)}`)
    }
  }
  return violations
}
