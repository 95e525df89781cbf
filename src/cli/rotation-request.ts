import { join, resolve } from 'node:path'
import { CertgenError } from '../errors.ts'
import type { Usage } from '../pki/certificate.ts'
import type { KeyType } from '../pki/key.ts'
import type { Duration } from '../pki/lifetime.ts'
import { defaults } from '../rotation/request.ts'
import type { AskedLeaf, Mode, RotationRequest, Scope, Strategy } from '../rotation/request.ts'
import type { TargetStore } from '../store/target-store.ts'
import type { Fleet, FleetGroup, FleetLeaf, FleetOptions } from './fleet.ts'
import { followUpOf, hooksOf, probesOf } from './follow-up.ts'
import type { FollowUpOptions } from './follow-up.ts'
import { checkRandomNames, checkRender } from './kubernetes.ts'
import { namesOf } from './options.ts'
import type { NameOptions } from './options.ts'
import type { OutputOptions } from './output.ts'

/** The flags of the commands that rotate, and what they make of a fleet: the requests of a rotation. */

export interface RotateOptions extends NameOptions, FleetOptions, FollowUpOptions, OutputOptions {
  readonly key?: KeyType
  readonly validity?: Duration
  readonly caValidity?: Duration
  readonly caSubject?: string
  readonly usage?: readonly Usage[]
  readonly overwrite?: boolean
  readonly renew?: boolean
  readonly renewBefore?: Duration
  readonly keepCa?: boolean
  readonly strategy?: Strategy
  readonly settle?: Duration
  readonly distrustPrevious?: boolean
  readonly force?: boolean
  readonly dryRun?: boolean
  readonly wait?: boolean
  readonly metrics?: string
  /** NAMESPACE/NAME. */
  readonly secret?: string
  readonly rotateRandom?: readonly string[]
  readonly lockTimeout: Duration
}

/** What a command is about. */
export interface Asked {
  readonly scope: Scope
  /** null: the authority alone is asked for. */
  readonly leaf: LeafFlags | null
}

/** The groups as the flags want them, and the request for each. Throws CertgenError `usage`. */
export async function makeRequests(
  fleet: Fleet,
  options: RotateOptions,
  asked: Asked,
): Promise<{ readonly groups: readonly FleetGroup[]; readonly requests: readonly RotationRequest[] }> {
  const mode = modeOf(options)
  checkRandomNames(fleet, options)
  checkRender(options)
  const store = options.secret === undefined ? null : (await fleet.openCluster()).target(options.secret)
  const flags = asked.leaf && { ...asked.leaf, ...(store ? { store } : {}) }
  const groups = fleet.groups.map((group) => withFlags(group, fleet, options, flags))
  return { groups, requests: groups.map((group) => requestOf(group, fleet, options, { ...asked, mode })) }
}

/** What the flags ask of a leaf; `name` is null when they name none. */
export interface LeafFlags extends Omit<AskedLeaf, 'name' | 'store' | 'followUps'> {
  readonly name: string | null
  /** Where they want it published; left out: where the configuration says, or DIR/NAME. */
  readonly store?: TargetStore
}

export function leafFlags(options: RotateOptions): LeafFlags {
  const names = namesOf(options)
  const { validity, usage, key, secret } = options
  const name = options.name ?? secret?.split('/')[1]
  return {
    name: name === undefined ? null : checkName(name),
    explicit: [name, names, validity, usage].some((value) => value !== undefined),
    ...(names ? { names } : {}),
    ...(key ? { keyType: key } : {}),
    ...(usage ? { usages: usage } : {}),
    ...(validity ? { lifetime: validity } : {}),
  }
}

/** A name is one directory below DIR, never a path out of it. */
function checkName(name: string): string {
  // eslint-disable-next-line no-control-regex -- control characters in a directory's name are what is refused here
  const bad = name === '' || name.startsWith('.') || name === 'ca' || /[/\\\u0000-\u001f\u007f]/.test(name)
  if (!bad) return name
  throw new CertgenError('usage', `${JSON.stringify(name)} cannot be the name of a leaf`, {
    hints: ['a name is one directory below DIR: no slash, no leading dot, and not "ca", which is the authority'],
  })
}

/** What the flags ask of leaves wins over the configuration; a leaf that only the flags name is added to it. */
function withFlags(group: FleetGroup, fleet: Fleet, options: RotateOptions, flags: LeafFlags | null): FleetGroup {
  const authority = {
    ...group.authority,
    ...(options.caSubject === undefined ? {} : { subject: options.caSubject }),
    ...(options.key === undefined ? {} : { keyType: options.key }),
    ...(options.caValidity === undefined ? {} : { lifetime: options.caValidity }),
  }
  if (!flags) return { ...group, authority }
  const { name, explicit, ...properties } = flags
  const known = fleet.groups.some(({ leaves }) => leaves.some((leaf) => leaf.name === name))
  if (known) {
    const leaves = group.leaves.map((leaf) => (leaf.name === name ? { ...leaf, ...properties } : leaf))
    return { ...group, authority, leaves }
  }
  const isConfigured = fleet.groups.some(({ leaves }) => leaves.length > 0)
  if (isConfigured && name === null) return { ...group, authority, leaves: withShared(group.leaves, properties) }
  if (fleet.groups.length > 1) {
    throw new CertgenError('usage', `there is no certificate ${JSON.stringify(name)} in the configuration`, {
      hints: ['add it there: with several authorities, it has to say which one is its own'],
    })
  }
  const leafName = name ?? defaults.leafName
  const store = properties.store ?? group.discovery.open(join(fleet.dir, leafName))
  const leaf = { explicit, configured: false, actions: [], ...properties, name: leafName, store }
  return { ...group, authority, leaves: [...group.leaves, leaf] }
}

/** Flags without a name hold for every certificate of the configuration, but names belong to one. */
function withShared(
  leaves: readonly FleetLeaf[],
  { names, ...properties }: Omit<LeafFlags, 'name' | 'explicit'>,
): readonly FleetLeaf[] {
  if (names === undefined) return leaves.map((leaf) => ({ ...leaf, ...properties }))
  throw new CertgenError('usage', 'the configuration has several certificates: which one are these names for?', {
    hints: ['say which with --name NAME', 'or write the names into the configuration'],
  })
}

function requestOf(
  group: FleetGroup,
  { config }: Fleet,
  options: RotateOptions,
  { scope, mode }: { readonly scope: Scope; readonly mode: Mode },
): RotationRequest {
  return {
    authority: group.authority,
    leaves: group.leaves.map((leaf) => ({
      ...leaf,
      // Nothing follows what is only printed.
      followUps: options.render ? [] : [...(leaf.followUps ?? []), ...probesOf(leaf, options).map(followUpOf)],
    })),
    discovery: group.discovery,
    followUps: options.render ? [] : hooksOf(options).map(followUpOf),
    scope,
    mode,
    keepAuthority: options.keepCa === true,
    strategy: options.strategy ?? config?.strategy ?? 'auto',
    settle: options.settle ?? config?.settle ?? defaults.settle,
    ...(options.renewBefore === undefined ? {} : { renewBefore: options.renewBefore }),
    distrustPrevious: options.distrustPrevious === true,
    force: options.force === true,
    dryRun: options.dryRun === true,
    lockTimeout: options.lockTimeout,
  }
}

function modeOf({ overwrite, renew, keepCa, distrustPrevious, dir }: RotateOptions): Mode {
  const refuse = (message: string, hint: string): never => {
    throw new CertgenError('usage', message, { hints: [hint] })
  }
  if (dir === '' || (dir !== undefined && resolve(dir) === '/')) {
    refuse('--dir must name a directory of its own', 'the default is ./certs')
  }
  if (overwrite && renew) refuse('--overwrite and --renew exclude each other', '--overwrite makes everything anew')
  if (keepCa && !overwrite) refuse('--keep-ca goes with --overwrite', 'write certgen --overwrite --keep-ca')
  if (distrustPrevious && (!overwrite || keepCa)) {
    refuse('--distrust-previous goes with a new authority', 'write certgen --overwrite --distrust-previous')
  }
  return overwrite ? 'overwrite' : renew ? 'renew' : 'ensure'
}
