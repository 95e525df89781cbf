import { createPrivateKey, createPublicKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { lstatSync, lutimesSync, readFileSync, readdirSync, readlinkSync, watch } from 'node:fs'
import { join } from 'node:path'
import { handshake } from '../../src/pki/handshake.ts'
import { certificates, findKeys, isWholeTarget, matches, verifies } from '../faults/fleet.ts'
import type { Outcome } from '../program.ts'
import { loadPreviousSet, loadSet, reasonOf } from '../rotation/fleet.ts'
import type { Service } from '../rotation/fleet.ts'

/** What I8 demands of a fleet at every instant, whoever has stalled. Each violation begins with its kind and a colon. */

/** The authority, then the targets. */
function directoriesOf(dir: string): string[] {
  return ['ca', ...readdirSync(dir).filter((name) => name !== 'ca')]
}

/**
 * Every `..data` leads to a whole set, every name can be read, no key is lost that is needed, and all peers shake hands.
 * `underWay`: a rotation is not through yet, and who has not even loaded the one before is not promised anything.
 */
export async function judgeServed(dir: string, underWay = false): Promise<string[]> {
  const names = directoriesOf(dir)
  const broken = names.flatMap((name) => judgeGeneration(dir, name))
  if (broken.length > 0) return [...broken, ...judgeIssuers(dir)]
  const targets = names.slice(1)
  const refused = targets.filter((name) => !verifies(join(dir, name)))
  return [
    ...names.flatMap((name) => judgeNames(join(dir, name))),
    ...refused.map((name) => `chain refused: openssl does not verify ${name} by its own bundle`),
    ...judgeIssuers(dir),
    ...(await judgeCells(dir, targets, underWay)),
  ]
}

/** As a reader that resolves `..data` once: a swap that comes between makes it look again. */
function judgeGeneration(dir: string, name: string): string[] {
  const directory = join(dir, name)
  for (;;) {
    const link = linkOf(directory)
    if (link === null) return [`leads nowhere: ${name} has no ..data`]
    const violation = judgeFiles(join(directory, link), name)
    if (violation === null) return []
    if (linkOf(directory) === link) return [`${violation}, at ${link}`]
  }
}

function linkOf(directory: string): string | null {
  try {
    return readlinkSync(join(directory, '..data'))
  } catch {
    return null
  }
}

function judgeFiles(generation: string, name: string): string | null {
  let files: Map<string, Buffer>
  try {
    const names = readdirSync(generation).filter((file) => !file.startsWith('..'))
    files = new Map(names.map((file) => [file, readFileSync(join(generation, file))]))
  } catch {
    return `leads nowhere: ${name}`
  }
  const [root] = certificates(files.get('ca.crt'))
  const isWhole = name === 'ca' ? root && matches(root, files.get('ca.key')) : isWholeTarget(files)
  return isWhole ? null : `not whole: ${name}`
}

function judgeNames(directory: string): string[] {
  const files = readdirSync(join(directory, '..data')).filter((file) => !file.startsWith('..'))
  return files.flatMap((file) => {
    try {
      const equal = readFileSync(join(directory, file)).equals(readFileSync(join(directory, '..data', file)))
      return equal ? [] : [`name: ${join(directory, file)} shows something else`]
    } catch (error) {
      return [`name: ${String(error)}`]
    }
  })
}

/** For every leaf that is served, the key that signed it is still somewhere below `ca`. */
function judgeIssuers(dir: string): string[] {
  const keys = findKeys(join(dir, 'ca')).map(publicKeyIn)
  return directoriesOf(dir)
    .slice(1)
    .flatMap((name) => {
      const leaf = servedLeaf(join(dir, name))
      return leaf && !keys.some((key) => leaf.verify(key))
        ? [`authority lost: the key that signed ${name} is gone`]
        : []
    })
}

function publicKeyIn(path: string): KeyObject {
  return createPublicKey(createPrivateKey(readFileSync(path)))
}

function servedLeaf(target: string): ReturnType<typeof certificates>[number] | undefined {
  try {
    return certificates(readFileSync(join(target, '..data', 'tls.crt')))[0]
  } catch {
    // Said already.
    return undefined
  }
}

/** Between any two targets, whether they have loaded the last change or not. */
async function judgeCells(dir: string, targets: readonly string[], underWay: boolean): Promise<string[]> {
  const violations: string[] = []
  const peers: (Service & { readonly label: string; readonly age: number })[] = []
  for (const name of targets) {
    const target = join(dir, name)
    const previous = await loadPreviousSet(target).catch(() => null)
    if (!previous) violations.push(`previous lost: ${name}`)
    const sets = { new: loadSet(target), ...(previous ? { old: previous } : {}) }
    for (const [label, set] of Object.entries(sets)) {
      peers.push({ ...set, label: `${label} ${name}`, age: ageOf(set, join(dir, 'ca')) })
    }
  }
  // Both ends verify each other, so that each pair is tried one way round.
  for (const [index, server] of peers.entries()) {
    for (const client of peers.slice(index + 1)) {
      if (underWay && Math.abs(server.age - client.age) > 1) continue
      const result = await handshake(server, client)
      if (!result.ok) violations.push(`handshake: ${client.label} at ${server.label}: ${reasonOf(result)}`)
    }
  }
  return violations
}

/** How many authorities there have been since the one that its leaf is of; two are known, and the rest is older. */
function ageOf({ identity }: Service, authority: string): number {
  const [leaf] = certificates(Buffer.from(identity.chain))
  const known = ['ca.crt', 'previous.crt'].map((name) => certificates(readFileSync(join(authority, '..data', name)))[0])
  const found = known.findIndex((root) => root && leaf?.verify(root.publicKey))
  return found === -1 ? known.length : found
}

/** Of a run that another has overtaken, or that has overtaken another: words in place of a stack, and a code of the contract. */
export function judgeRun(who: string, { code, stderr }: Outcome, codes: readonly number[]): string[] {
  const violations: string[] = []
  if (code === null || !codes.includes(code)) violations.push(`exit ${String(code)}: ${who}: ${stderr}`)
  if (code !== 0 && !/^certgen: error: [^A-Z]/m.test(stderr)) violations.push(`no words: ${who}: ${stderr}`)
  if (/^ +at /m.test(stderr)) violations.push(`stack: ${who}: ${stderr}`)
  return violations
}

/** Looks at each directory whenever its link or one of its generations changes. */
export function watchFleet(dir: string): { readonly stop: () => string[] } {
  const seen = new Set<string>()
  const watchers = directoriesOf(dir).map((name) => {
    return watch(join(dir, name), (_event, entry) => {
      if (entry !== '..data' && entry?.startsWith('..2') !== true) return
      for (const violation of judgeGeneration(dir, name)) seen.add(`for a moment, ${violation}`)
    })
  })
  return {
    stop: () => {
      for (const watcher of watchers) watcher.close()
      return [...seen]
    },
  }
}

/** As if days had gone by: whatever is kept for a time may then be removed. */
export function age(dir: string, days: number): void {
  const paths = readdirSync(dir, { recursive: true, encoding: 'utf8' }).map((entry) => join(dir, entry))
  for (const path of paths) {
    const { atimeMs, mtimeMs } = lstatSync(path)
    const earlier = (ms: number): number => ms / 1000 - days * 86_400
    lutimesSync(path, earlier(atimeMs), earlier(mtimeMs))
  }
}
