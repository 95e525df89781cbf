import { access } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Action } from '../deliver/action.ts'
import { keepFromHooks, parseSignal } from '../deliver/hooks.ts'
import type { Cluster } from '../deliver/kubernetes/cluster.ts'
import { CertgenError } from '../errors.ts'
import type { AuthorityConfig, CertificateConfig, Config, PassphraseSource, Where } from '../rotation/config.ts'
import type { AskedLeaf, Discovery, RotationRequest } from '../rotation/request.ts'
import { groupId, userId } from '../store/account.ts'
import { directoryAuthority } from '../store/authority-store.ts'
import type { AuthorityLocation, AuthorityStore } from '../store/authority-store.ts'
import { readFileOrPipe } from '../store/named-file.ts'
import { defaultPkcs12Name, directoryTarget, mirroredTarget, targetAt } from '../store/target-store.ts'
import type { TargetLocation, TargetStore } from '../store/target-store.ts'
import { followUpOf } from './follow-up.ts'
import { askPassphrase, passphraseFromEnvironment, readPassphrase } from './passphrase.ts'

/** The flags that say which fleet a command is about. */
export interface FleetOptions {
  readonly dir?: string
  readonly config?: string
  readonly caPassphraseFile?: string
  /** The file with the passphrase of a PKCS#12 file; false: there is to be none. */
  readonly pkcs12?: string | false
  /** NAMESPACE/NAME of a Secret with the authority, in place of DIR/ca. */
  readonly caSecret?: string
  readonly kubeconfig?: string
  readonly context?: string
  readonly render?: boolean
}

/** What flags and configuration describe together: authorities, and the leaves that are asked of each. */
export interface Fleet {
  readonly dir: string
  readonly config: Config | null
  readonly groups: readonly FleetGroup[]
  /** Only where something is asked of a cluster; nothing is asked of it before it is needed. */
  readonly openCluster: () => Promise<Cluster>
}

/** One authority and its leaves. */
export interface FleetGroup {
  /** Its name in the configuration; null for the only one. */
  readonly name: string | null
  readonly authority: RotationRequest['authority']
  readonly leaves: readonly FleetLeaf[]
  readonly discovery: Required<Discovery>
}

export interface FleetLeaf extends AskedLeaf {
  /** Whether the configuration has it: flags alone ask for what is not there. */
  readonly configured: boolean
  readonly actions: readonly Action[]
}

const defaultConfig = 'certgen.yaml'
const defaultDir = './certs'

/**
 * Reads the configuration, if there is one, and what it refers to. Who only looks needs no `keys`: passphrases are not
 * read then, nor asked for. Throws CertgenError `configuration`, `unreadable`.
 */
export async function describeFleet(options: FleetOptions, need: 'keys' | 'certificates' = 'keys'): Promise<Fleet> {
  const config = await loadConfig(options)
  const dir = options.dir ?? config?.dir ?? defaultDir
  const openCluster = clusterOpener(options)
  const opening = { need, openCluster }
  if (!config) {
    const store = await openAuthority({ directory: join(dir, 'ca') }, null, options, opening)
    const discovery = { dir, except: [], open: await openerFor(options) }
    return { dir, config, groups: [{ name: null, authority: { store }, leaves: [], discovery }], openCluster }
  }
  if (options.caSecret !== undefined && config.authorities.length > 1) {
    throw new CertgenError('usage', 'the configuration has several authorities: which one is --ca-secret for?', {
      hints: ['write secret: NAMESPACE/NAME under the authority instead'],
    })
  }
  const stores = new Map<CertificateConfig, TargetStore>()
  const open = await openerFor(options)
  for (const certificate of config.certificates) {
    stores.set(certificate, await openTarget(certificate, config, openCluster))
  }
  const groups: FleetGroup[] = []
  for (const [index, authority] of config.authorities.entries()) {
    const own = config.certificates.filter((certificate) => certificate.authority === index)
    const others = config.certificates.filter((certificate) => certificate.authority !== index)
    groups.push({
      name: authority.name,
      authority: await openConfiguredAuthority(authority, config, options, opening),
      leaves: await Promise.all(
        own.map((certificate) => leafOf(certificate, stores.get(certificate), config, openCluster)),
      ),
      discovery: {
        dir,
        open,
        except: [
          ...config.authorities.map(({ directory }) => directory),
          ...others.flatMap(({ directory }) => (directory === null ? [] : [directory])),
        ],
      },
    })
  }
  return { dir, config, groups, openCluster }
}

type ClusterOpener = Fleet['openCluster']

/** What authorities are opened for, and the cluster that some of them are in. */
interface Opening {
  readonly need: 'keys' | 'certificates'
  readonly openCluster: ClusterOpener
}

/** One cluster for all that is asked of it, loaded when the first thing is. */
export function clusterOpener({
  kubeconfig,
  context,
  render = false,
}: Pick<FleetOptions, 'kubeconfig' | 'context' | 'render'>): ClusterOpener {
  let opened: Promise<Cluster> | null = null
  return () => {
    opened ??= import('../deliver/kubernetes/cluster.ts').then(({ openCluster }) =>
      openCluster({
        ...(kubeconfig === undefined ? {} : { kubeconfig }),
        ...(context === undefined ? {} : { context }),
        render,
      }),
    )
    return opened
  }
}

/** null when none is named and there is no ./certgen.yaml. */
async function loadConfig({ config: path, dir }: FleetOptions): Promise<Config | null> {
  if (path === undefined && !(await exists(defaultConfig))) return null
  const { ConfigMistakes } = await import('../rotation/config.ts')
  try {
    return await readConfig(path ?? defaultConfig, dir)
  } catch (error) {
    throw error instanceof ConfigMistakes ? error.first() : error
  }
}

/** Throws ConfigMistakes, and CertgenError `unreadable`. */
export async function readConfig(path: string, dir?: string): Promise<Config> {
  const { parseConfig } = await import('../rotation/config.ts')
  const source = await readFileOrPipe(path).catch((error: unknown) => {
    if (error instanceof CertgenError) throw error
    throw new CertgenError('unreadable', `cannot read the configuration ${path}`, {
      cause: error,
      hints: ['check the path, and that the user who runs certgen may read it'],
    })
  })
  return parseConfig(source.toString('utf8'), path, process.env, dir)
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function openConfiguredAuthority(
  authority: AuthorityConfig,
  config: Config,
  options: FleetOptions,
  opening: Opening,
): Promise<FleetGroup['authority']> {
  const { subject, keyType, lifetime, caBundle } = authority
  const cluster = caBundle.length === 0 ? null : await opening.openCluster()
  return {
    store: await openAuthority(authority, config, options, opening),
    ...(cluster ? { bundles: caBundle.map((place) => cluster.bundle(place)) } : {}),
    ...(subject === undefined ? {} : { subject }),
    ...(keyType === undefined ? {} : { keyType }),
    ...(lifetime === undefined ? {} : { lifetime }),
  }
}

/** Its passphrase comes from the flag, else from the configuration, else from the environment, else from a person. */
async function openAuthority(
  authority: Pick<AuthorityConfig, 'directory'> & Partial<AuthorityConfig>,
  config: Config | null,
  { caPassphraseFile, caSecret }: FleetOptions,
  { need, openCluster }: Opening,
): Promise<AuthorityStore> {
  const directory = shown(authority.directory)
  const secret = caSecret ?? authority.secret
  const open = async (opening: Omit<AuthorityLocation, 'directory'>): Promise<AuthorityStore> =>
    secret === undefined
      ? directoryAuthority({ directory, ...opening })
      : (await openCluster()).authority(secret, opening)
  if (need === 'certificates') return open({})
  const { passphrase: source, where = [] } = authority
  const configured = source && (await resolvePassphrase(source, [...where, 'passphrase'], config))
  const passphrase =
    caPassphraseFile === undefined
      ? (configured ?? passphraseFromEnvironment())
      : await readPassphrase(caPassphraseFile)
  return open({
    ...(passphrase === undefined ? {} : { passphrase }),
    askPassphrase: () => askPassphrase(`passphrase of the authority's key in ${secret ?? directory}`),
  })
}

/** Throws CertgenError `configuration`, `unreadable` or `usage`. */
async function resolvePassphrase(source: PassphraseSource, where: Where, config: Config | null): Promise<string> {
  if ('file' in source) return readPassphrase(source.file)
  keepFromHooks(source.env)
  const value = process.env[source.env]
  if (value !== undefined && value !== '') return value
  const message = `the variable ${source.env}, which is to hold the passphrase, is not set`
  throw config?.errorAt([...where, 'env'], message, ['set it where certgen runs']) ?? new Error(message)
}

/** How targets that are only found are opened: as the flags say, for nothing else is known of them. */
async function openerFor({ pkcs12 }: FleetOptions): Promise<(directory: string) => TargetStore> {
  const wanted = await pkcs12ByFlag(pkcs12)
  return (directory) => directoryTarget({ ...targetAt(directory), ...(wanted === undefined ? {} : { pkcs12: wanted }) })
}

async function pkcs12ByFlag(flag: FleetOptions['pkcs12']): Promise<TargetLocation['pkcs12']> {
  if (flag === undefined) return undefined
  return flag === false ? null : { name: defaultPkcs12Name, passphrase: await readPassphrase(flag) }
}

async function pkcs12Of({ pkcs12, where }: CertificateConfig, config: Config): Promise<TargetLocation['pkcs12']> {
  if (!pkcs12) return pkcs12
  const { name, passphrase } = pkcs12
  return { name, passphrase: await resolvePassphrase(passphrase, [...where, 'pkcs12', 'passphrase'], config) }
}

async function openTarget(
  certificate: CertificateConfig,
  config: Config,
  openCluster: ClusterOpener,
): Promise<TargetStore> {
  const { directory, secret, files, keyMode } = certificate
  const owner = await ownerOf(certificate, config)
  const pkcs12 = await pkcs12Of(certificate, config)
  const places: TargetStore[] = []
  if (directory !== null) {
    places.push(
      directoryTarget({
        directory: shown(directory),
        files,
        ...(keyMode === undefined ? {} : { keyMode }),
        ...(owner ? { owner } : {}),
        ...(pkcs12 === undefined ? {} : { pkcs12 }),
      }),
    )
  }
  if (secret !== undefined) places.push((await openCluster()).target(secret))
  const [first, ...copies] = places
  if (!first) throw new Error('a certificate has a place')
  return mirroredTarget(first, copies)
}

async function ownerOf(
  { owner, group, where }: CertificateConfig,
  config: Config,
): Promise<{ uid: number; gid: number } | undefined> {
  if (owner === undefined && group === undefined) return undefined
  const uid = owner === undefined ? -1 : await userId(owner)
  const gid = group === undefined ? -1 : await groupId(group)
  const hint = ['make the account first, or give its number in quotes']
  if (uid === null) throw config.errorAt([...where, 'owner'], `there is no user ${owner ?? ''} on this machine`, hint)
  if (gid === null) throw config.errorAt([...where, 'group'], `there is no group ${group ?? ''} on this machine`, hint)
  return { uid, gid }
}

async function leafOf(
  certificate: CertificateConfig,
  store: TargetStore | undefined,
  config: Config,
  openCluster: ClusterOpener,
): Promise<FleetLeaf> {
  if (!store) throw new Error('a certificate has a place')
  const { name, commonName, names, keyType, usages, lifetime, renewBefore } = certificate
  const actions = await actionsOf(certificate, config, openCluster)
  return {
    name,
    store,
    explicit: true,
    configured: true,
    actions,
    followUps: actions.map(followUpOf),
    ...(commonName === undefined ? {} : { commonName }),
    ...(names === undefined ? {} : { names }),
    ...(keyType === undefined ? {} : { keyType }),
    ...(usages === undefined ? {} : { usages }),
    ...(lifetime === undefined ? {} : { lifetime }),
    ...(renewBefore === undefined ? {} : { renewBefore }),
  }
}

async function actionsOf(
  { exec, signal, probe, restart, where }: CertificateConfig,
  config: Config,
  openCluster: ClusterOpener,
): Promise<Action[]> {
  const actions: Action[] = []
  if (exec !== undefined) actions.push({ kind: 'exec', command: exec })
  if (signal) {
    const name = parseSignal(signal.signal)
    if (!name) {
      const hints = ['write SIGHUP, SIGUSR1, SIGUSR2, ...']
      throw config.errorAt([...where, 'signal'], `there is no signal ${signal.signal} on this machine`, hints)
    }
    actions.push({ kind: 'signal', pidFile: signal.pidFile, signal: name })
  }
  if (restart.length > 0) {
    const restarter = await openCluster()
    actions.push(...restart.map((workload): Action => ({ kind: 'restart', workload, restarter })))
  }
  return [...actions, ...probe.map((endpoint): Action => ({ kind: 'probe', endpoint }))]
}

/** A path as people read it: relative where it is below the working directory. */
function shown(path: string): string {
  const below = relative('.', path)
  return below === '' || below.startsWith('..') ? path : below
}
