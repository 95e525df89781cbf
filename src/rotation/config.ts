import leven from 'leven'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { LineCounter, isMap, isNode, isPair, isScalar, parseDocument, visit } from 'yaml'
import type { Document, Node } from 'yaml'
import { CertgenError } from '../errors.ts'
import type { Usage } from '../pki/certificate.ts'
import type { KeyType } from '../pki/key.ts'
import type { Duration } from '../pki/lifetime.ts'
import type { Name } from '../pki/names.ts'
import { defaultFileNames, defaultPkcs12Name } from '../store/target-store.ts'
import type { TargetFileNames } from '../store/target-store.ts'
import { refuseSharedPlaces } from './config-places.ts'
import { configSchema } from './config-schema.ts'
import type { IssueAdvice, ParsedCertificate, ParsedConfig } from './config-schema.ts'
import type { Strategy } from './request.ts'

/** certgen.yaml with its defaults filled in; paths are absolute, or relative to the working directory. */
export interface Config {
  /** The file. */
  readonly path: string
  readonly dir: string
  readonly authorities: readonly AuthorityConfig[]
  readonly certificates: readonly CertificateConfig[]
  readonly random: readonly RandomConfig[]
  readonly strategy?: Strategy
  readonly settle?: Duration
  readonly metrics?: string
  /** What is wrong with a value that only another look could tell, as an error that says where it stands. */
  readonly errorAt: (where: Where, message: string, hints?: readonly string[]) => CertgenError
}

/** A place in the file: keys and positions, outermost first. */
export type Where = readonly (string | number)[]

export interface AuthorityConfig {
  /** null for the only one. */
  readonly name: string | null
  readonly where: Where
  readonly directory: string
  /** NAMESPACE/NAME, in place of the directory. */
  readonly secret?: string
  readonly subject?: string
  readonly keyType?: KeyType
  readonly lifetime?: Duration
  readonly passphrase?: PassphraseSource
  readonly caBundle: readonly string[]
}

/** Where a passphrase is, for it never stands in the file itself. */
export type PassphraseSource = { readonly file: string } | { readonly env: string }

export interface CertificateConfig {
  readonly name: string
  readonly where: Where
  /** The position of its authority. */
  readonly authority: number
  readonly commonName?: string
  readonly names?: readonly Name[]
  readonly keyType?: KeyType
  readonly usages?: readonly Usage[]
  readonly lifetime?: Duration
  readonly renewBefore?: Duration
  /** null: a Secret alone. */
  readonly directory: string | null
  readonly secret?: string
  readonly files: TargetFileNames
  readonly pkcs12?: { readonly name: string; readonly passphrase: PassphraseSource } | null
  readonly keyMode?: number
  readonly owner?: string
  readonly group?: string
  readonly exec?: string | readonly string[]
  readonly signal?: { readonly pidFile: string; readonly signal: string }
  readonly probe: readonly string[]
  readonly restart: readonly string[]
}

export interface RandomConfig {
  readonly name: string
  readonly key: string
  readonly bytes: number
  /** NAMESPACE/NAME. */
  readonly secret: string
}

/** Every mistake in the file, in its order, as errors whose message begins with `FILE:LINE:COLUMN: `. */
export class ConfigMistakes extends Error {
  readonly mistakes: readonly CertgenError[]

  constructor(mistakes: readonly CertgenError[]) {
    super('the configuration has mistakes')
    this.mistakes = mistakes
  }

  /** The first of them, which says how many more there are. */
  first(): CertgenError {
    const [first, ...rest] = this.mistakes
    if (!first) throw new Error('there is a mistake')
    if (rest.length === 0) return first
    const more = `${rest.length} more ${rest.length === 1 ? 'mistake' : 'mistakes'}: see certgen config check`
    return new CertgenError('configuration', first.message, { hints: [...first.hints, more], cause: this })
  }
}

/**
 * Reads certgen.yaml. `${NAME}` in a value is replaced by the variable, `$${` stands for `${`. Relative paths are taken
 * from the file's directory; `dir` is one that was given beside the file and wins over its own. The directories that it
 * names are looked at, for two names may lead to one. Throws ConfigMistakes with all mistakes.
 */
export function parseConfig(
  source: string,
  path: string,
  environment: Readonly<Record<string, string | undefined>>,
  dir?: string,
): Config {
  const lines = new LineCounter()
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false })
  const reader = new Reader(path, document, lines)
  for (const error of document.errors) reader.refuse(error.pos[0], yamlMessage(error.message))
  reader.stopIfMistaken()
  reader.substitute(environment)
  reader.stopIfMistaken()
  const result = configSchema.safeParse(document.toJS() ?? {}, { reportInput: true })
  // zod gives the input of an issue only when it is asked to: it may be a secret. Here it is for the nearest word.
  if (!result.success) for (const issue of result.error.issues) reader.refuseIssue(issue as Issue)
  reader.stopIfMistaken()
  if (!result.data) throw new Error('what has no mistakes has been parsed')
  const base = dirname(path)
  const root = dir ?? below(base, result.data.dir ?? './certs')
  const config = complete(result.data, { path, base, dir: root }, reader)
  reader.stopIfMistaken()
  return config
}

/** The part of zod's issues that is looked at. */
interface Issue {
  readonly code: string
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly keys?: readonly string[]
  readonly errors?: readonly (readonly Issue[])[]
  /** The words of which one may stand there. */
  readonly values?: readonly unknown[]
  readonly input?: unknown
  readonly params?: IssueAdvice
}

// ------------------------------------------------------------------------------------------------------ where it stands

class Reader {
  readonly #path: string
  readonly #document: Document
  readonly #lines: LineCounter
  #mistakes: { readonly offset: number; readonly error: CertgenError }[] = []

  constructor(path: string, document: Document, lines: LineCounter) {
    this.#path = path
    this.#document = document
    this.#lines = lines
  }

  refuse(offset: number, message: string, hints: readonly string[] = []): void {
    this.#mistakes.push({ offset, error: this.#error(offset, message, hints) })
  }

  refuseAt(where: Where, message: string, hints: readonly string[] = []): void {
    this.refuse(this.#offsetOf(where), message, hints)
  }

  positionOf(where: Where): { readonly offset: number; readonly line: number } | null {
    if (this.#nodeAt(where.slice(0, 1)) === null) return null
    const offset = this.#offsetOf(where)
    return { offset, line: this.#lines.linePos(offset).line }
  }

  errorAt(where: Where, message: string, hints: readonly string[] = []): CertgenError {
    return this.#error(this.#offsetOf(where), message, hints)
  }

  refuseIssue(issue: Issue): void {
    const { code, path, message, keys = [] } = issue
    if (code === 'unrecognized_keys') {
      for (const key of keys) this.refuse(this.#keyOffset(path, key), ...unknownKey(key, this.#knownKeys(path)))
      return
    }
    // Of the forms that a value may have, the one that came furthest knows best what is wrong with it.
    const inner = code === 'invalid_union' ? deepest(issue) : null
    if (inner) {
      this.refuseIssue({ ...inner, path: [...path, ...inner.path] })
      return
    }
    const [text, hints] = this.#describe(path, message, adviceOf(issue))
    this.refuseAt(path, text, hints)
  }

  /** Replaces variables in every text that is a value. */
  substitute(environment: Readonly<Record<string, string | undefined>>): void {
    visit(this.#document, {
      Scalar: (key, node) => {
        if (key === 'key' || typeof node.value !== 'string' || !node.value.includes('$')) return
        node.value = node.value.replace(/\$\$\{|\$\{([^}]*)\}/g, (whole: string, name: string | undefined) =>
          name === undefined ? '${' : this.#variable(node, whole, name, environment),
        )
      },
    })
  }

  #variable(
    node: Node,
    whole: string,
    name: string,
    environment: Readonly<Record<string, string | undefined>>,
  ): string {
    const value = environment[name]
    if (value !== undefined && value !== '') return value
    const offset = node.range?.[0] ?? 0
    if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      this.refuse(offset, `the variable ${name} is ${value === undefined ? 'not set' : 'empty'}`, [
        `set ${name} where certgen runs; write $${whole} for the text itself`,
      ])
    } else {
      this.refuse(offset, `${whole} does not name a variable`, ['write ${NAME}, with letters, digits and underscores'])
    }
    return ''
  }

  stopIfMistaken(): void {
    if (this.#mistakes.length === 0) return
    throw new ConfigMistakes(this.#mistakes.sort((a, b) => a.offset - b.offset).map(({ error }) => error))
  }

  #error(offset: number, message: string, hints: readonly string[]): CertgenError {
    const { line, col } = this.#lines.linePos(offset)
    // An empty file has no first line.
    const place = `${this.#path}:${Math.max(line, 1)}:${Math.max(col, 1)}`
    return new CertgenError('configuration', `${place}: ${message}`, {
      hints: hints.length > 0 ? hints : ['certgen config schema prints what may stand there'],
    })
  }

  /** zod says what it expected; what stands there is for us to say, as it is written. */
  #describe(path: Where, message: string, hints: readonly string[]): [string, readonly string[]] {
    const last = path.at(-1)
    const what = typeof last === 'number' ? `entry ${last + 1} of ${path.at(-2) ?? ''}` : (last ?? 'the file')
    const node = this.#nodeAt(path)
    if (node === null) return [`${what} is missing`, hints]
    if (!message.startsWith('expected') && !message.startsWith('Invalid input')) return [message, hints]
    const wanted = message
      .replace(/^Invalid input: /, '')
      .replace('expected string', 'expected text')
      .replace(/expected object.*/, 'expected keys and values')
    if (isScalar(node) && ['number', 'boolean', 'bigint'].includes(typeof node.value) && wanted.includes('text')) {
      const written = node.source ?? String(node.value)
      const hint = durationKeys.includes(String(last))
        ? `write it with a unit: ${written}d`
        : `put it in quotes: "${written}"`
      return [`${what}: ${wanted}, not ${written}`, [hint, ...hints]]
    }
    return [`${what}: ${wanted}`, hints]
  }

  #nodeAt(path: Where): Node | null {
    const node = path.length === 0 ? this.#document.contents : this.#document.getIn(path, true)
    return isNode(node) ? node : null
  }

  /** Of the value; of what it should stand in where it is missing. */
  #offsetOf(path: Where): number {
    for (let length = path.length; length >= 0; length--) {
      const offset = this.#nodeAt(path.slice(0, length))?.range?.[0]
      if (offset !== undefined) return offset
    }
    return 0
  }

  #keyOffset(path: Where, key: string): number {
    const map = this.#nodeAt(path)
    const pair = isMap(map) ? map.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined
    const offset = isPair(pair) && isScalar(pair.key) ? pair.key.range?.[0] : undefined
    return offset ?? this.#offsetOf(path)
  }

  #knownKeys(path: Where): string[] {
    return keysAt(path)
  }
}

const durationKeys = ['validity', 'renewBefore', 'settle']

/** What the parser of a flag advises, in this file's words; else the word that is near, or an example. */
function adviceOf({ params, values = [], input }: Issue): string[] {
  const hints = params?.hints?.map((hint) => hint.replaceAll(/--(dns|ip|uri|email)\b/g, '$1:')) ?? []
  const near = typeof input === 'string' ? nearest(input, values.map(String)) : undefined
  return near === undefined ? hints : [...hints, `did you mean ${near}?`]
}

/** The issue within a union that lies deepest; null when no form is nearer than another. */
function deepest({ errors = [] }: Issue): Issue | null {
  const candidates = errors
    .flatMap((branch) => branch)
    .filter(({ path, code }) => path.length > 0 || code === 'unrecognized_keys')
  const unknown = candidates.find(({ code }) => code === 'unrecognized_keys')
  if (unknown) return unknown
  return candidates.reduce<Issue | null>(
    (best, issue) => (best && best.path.length >= issue.path.length ? best : issue),
    null,
  )
}

function unknownKey(key: string, known: readonly string[]): [string, string[]] {
  const shown = JSON.stringify(key)
  const near = nearest(key, known)
  return [`unknown key ${shown}`, [near ? `did you mean ${near}?` : `known here: ${known.join(', ')}`]]
}

/** The word that was meant, if one is near enough. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const distance = (candidate: string): number => leven(word.toLowerCase(), candidate.toLowerCase())
  const [best] = [...known].sort((a, b) => distance(a) - distance(b))
  return best !== undefined && distance(best) <= Math.max(2, Math.floor(word.length / 3)) ? best : undefined
}

/** The keys that may stand at a place of the file. */
function keysAt(path: Where): string[] {
  let schema: unknown = configSchema
  for (const step of path) {
    schema = unwrap(schema)
    const { shape, element } = schema as { shape?: Record<string, unknown>; element?: unknown }
    schema = typeof step === 'number' ? element : shape?.[step]
  }
  const { shape, options = [] } = unwrap(schema) as { shape?: object; options?: readonly { shape?: object }[] }
  return [shape, ...options.map((option) => option.shape)].flatMap((keys) => Object.keys(keys ?? {}))
}

/** A schema without what is wrapped around it: optional, nullable. */
function unwrap(schema: unknown): object {
  let inner = schema
  while (inner !== null && typeof inner === 'object' && 'unwrap' in inner && !('element' in inner)) {
    inner = (inner as { unwrap: () => unknown }).unwrap()
  }
  return inner !== null && typeof inner === 'object' ? inner : {}
}

function yamlMessage(message: string): string {
  const [first = ''] = message.split('\n')
  return `not YAML: ${first.charAt(0).toLowerCase()}${first.slice(1).replace(/\.$/, '')}`
}

// ---------------------------------------------------------------------------------------------------------- completing

/** Fills in the defaults, and refuses what each part by itself could not tell. */
function complete(
  parsed: ParsedConfig,
  { path, base, dir }: Bases & { readonly path: string },
  reader: Reader,
): Config {
  const authorities = completeAuthorities(parsed, { base, dir }, reader)
  const certificates = (parsed.certificates ?? []).map((certificate, index) =>
    completeCertificate(certificate, index, parsed, authorities, { base, dir }, reader),
  )
  refuseTwins(
    certificates.map(({ name, where }) => ({ key: name, where: [...where, 'name'], what: `name ${name}` })),
    reader,
  )
  const random = (parsed.random ?? []).map(({ bytes = 32, ...rest }) => ({ ...rest, bytes }))
  refuseSharedPlaces({ authorities, certificates, random }, reader)
  const { strategy, settle, metrics } = parsed
  return {
    path,
    dir,
    authorities,
    certificates,
    random,
    ...(strategy === undefined ? {} : { strategy }),
    ...(settle === undefined ? {} : { settle }),
    ...(metrics === undefined ? {} : { metrics: below(base, metrics) }),
    errorAt: (where, message, hints) => reader.errorAt(where, message, hints),
  }
}

interface Bases {
  /** The file's directory. */
  readonly base: string
  readonly dir: string
}

function completeAuthorities(parsed: ParsedConfig, { base, dir }: Bases, reader: Reader): AuthorityConfig[] {
  if (parsed.authority && parsed.authorities) {
    reader.refuseAt(['authorities'], 'authority and authorities exclude each other', [
      'keep authorities, and move what stands under authority into it, with a name',
    ])
  }
  type Entry = NonNullable<ParsedConfig['authority']> & { readonly name?: string }
  const entries: [Entry, Where][] = parsed.authorities
    ? parsed.authorities.map((entry, index) => [entry, ['authorities', index]])
    : [[parsed.authority ?? {}, ['authority']]]
  refuseTwins(
    entries.flatMap(([{ name }, where]) =>
      name === undefined ? [] : [{ key: name, where: [...where, 'name'], what: `name ${name}` }],
    ),
    reader,
  )
  return entries.map(([entry, where]): AuthorityConfig => {
    const { name, subject, key, validity, passphrase, secret, caBundle = [] } = entry
    return {
      name: name ?? null,
      where,
      directory: below(dir, entry.dir ?? name ?? 'ca'),
      caBundle,
      ...(subject === undefined ? {} : { subject }),
      ...(key === undefined ? {} : { keyType: key }),
      ...(validity === undefined ? {} : { lifetime: validity }),
      ...(secret === undefined ? {} : { secret }),
      ...(passphrase === undefined ? {} : { passphrase: sourceBelow(base, passphrase) }),
    }
  })
}

function completeCertificate(
  parsed: ParsedCertificate,
  index: number,
  { defaults: shared = {} }: ParsedConfig,
  authorities: readonly AuthorityConfig[],
  { base, dir }: Bases,
  reader: Reader,
): CertificateConfig {
  const where: Where = ['certificates', index]
  const { name, commonName, secret, target } = parsed
  const merged = { ...shared, ...parsed }
  const { key, validity, renewBefore, usages, owner, group, mode, exec, signal, pkcs12 } = merged
  const names = [...(parsed.dns ?? []), ...(parsed.ip ?? []), ...(parsed.uri ?? []), ...(parsed.email ?? [])]
  const files = fileNames([defaultFileNames, shared.files ?? {}, parsed.files ?? {}])
  refuseFiles(files, where, reader)
  if (validity !== undefined && renewBefore !== undefined && renewBefore >= validity) {
    reader.refuseAt(
      [...where, 'renewBefore'],
      `${name} would always be due: renewBefore is not shorter than validity`,
      ['with validity: 90d, renewBefore: 30d renews after 60 days'],
    )
  }
  return {
    name,
    where,
    authority: authorityOf(parsed, where, authorities, reader),
    directory: target !== undefined ? below(base, target) : secret === undefined ? join(dir, name) : null,
    files,
    probe: merged.probe ?? [],
    restart: merged.restart ?? [],
    ...(names.length === 0 ? {} : { names }),
    ...(commonName === undefined ? {} : { commonName }),
    ...(secret === undefined ? {} : { secret }),
    ...(key === undefined ? {} : { keyType: key }),
    ...(validity === undefined ? {} : { lifetime: validity }),
    ...(renewBefore === undefined ? {} : { renewBefore }),
    ...(usages === undefined ? {} : { usages }),
    ...(pkcs12 === undefined ? {} : { pkcs12: pkcs12 && completePkcs12(pkcs12, base) }),
    ...(owner === undefined ? {} : { owner }),
    ...(group === undefined ? {} : { group }),
    ...(mode === undefined ? {} : { keyMode: mode }),
    ...(exec === undefined ? {} : { exec }),
    ...(signal === undefined
      ? {}
      : { signal: { pidFile: below(base, signal.pidFile), signal: signal.signal ?? 'SIGHUP' } }),
  }
}

function authorityOf(
  { name, authority }: ParsedCertificate,
  where: Where,
  authorities: readonly AuthorityConfig[],
  reader: Reader,
): number {
  const known = authorities.flatMap((candidate) => (candidate.name === null ? [] : [candidate.name]))
  if (authority === undefined) {
    if (authorities.length > 1) {
      reader.refuseAt(where, `${name} does not say which authority is its own`, [
        `write authority: ${known.join(' or ')}`,
      ])
    }
    return 0
  }
  const index = authorities.findIndex((candidate) => candidate.name === authority)
  if (index === -1) {
    const near = nearest(authority, known)
    const hint = near
      ? `did you mean ${near}?`
      : known.length > 0
        ? `there are ${known.join(', ')}`
        : 'it needs a list authorities, with names'
    reader.refuseAt([...where, 'authority'], `there is no authority ${JSON.stringify(authority)}`, [hint])
  }
  return Math.max(index, 0)
}

type GivenFileNames = { readonly [Kind in keyof TargetFileNames]?: string | null | undefined }

/** The last word counts; null is one. */
function fileNames(given: readonly [TargetFileNames, ...GivenFileNames[]]): TargetFileNames {
  const kinds = ['ca', 'cert', 'key', 'combined'] as const
  return given.reduce<TargetFileNames>((files, next) => {
    const changed = kinds.flatMap((kind) => (next[kind] === undefined ? [] : [[kind, next[kind]]]))
    return { ...files, ...(Object.fromEntries(changed) as Partial<TargetFileNames>) }
  }, given[0])
}

/** What a service could not read, or what would be written twice under one name. */
function refuseFiles(files: TargetFileNames, where: Where, reader: Reader): void {
  const at = [...where, 'files']
  if (files.combined === null && (files.cert === null || files.key === null)) {
    const lacks = files.cert === null ? 'certificate' : 'key'
    reader.refuseAt(at, `no file has the ${lacks}`, ['leave out only what the combined file has too'])
  }
  const shown = Object.values(files).filter((name) => name !== null)
  const twice = shown.find((name, index) => shown.indexOf(name) !== index)
  if (twice !== undefined) reader.refuseAt(at, `two files are called ${twice}`, ['give each file a name of its own'])
}

interface Claim {
  readonly key: string
  readonly where: Where
  readonly what: string
}

/** What only one may have. */
function refuseTwins(claims: readonly Claim[], reader: Reader): void {
  const seen = new Set<string>()
  for (const { key, where, what } of claims) {
    if (seen.has(key)) reader.refuseAt(where, `the ${what} is taken already`, ['give each its own'])
    seen.add(key)
  }
}

function completePkcs12(
  { name, passphrase }: NonNullable<ParsedCertificate['pkcs12']>,
  base: string,
): NonNullable<CertificateConfig['pkcs12']> {
  return { name: name ?? defaultPkcs12Name, passphrase: sourceBelow(base, passphrase) }
}

function sourceBelow(base: string, source: PassphraseSource): PassphraseSource {
  return 'file' in source ? { file: below(base, source.file) } : source
}

function below(base: string, path: string): string {
  // Without dots and slashes that say nothing, as every path that is made from it.
  return isAbsolute(path) ? resolve(path) : join(base, path)
}
