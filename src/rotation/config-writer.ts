import { Document, isCollection, visit } from 'yaml'
import type { Usage } from '../pki/certificate.ts'
import type { KeyType } from '../pki/key.ts'
import { formatDuration } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import type { Name } from '../pki/names.ts'
import { defaultFileNames } from '../store/target-store.ts'
import type { TargetFileNames } from '../store/target-store.ts'
import { defaults } from './request.ts'

/** What a first configuration says; paths as they are to stand in it. */
export interface ConfigSketch {
  readonly dir: string
  readonly authority: {
    readonly dir: string
    readonly subject: string
    readonly keyType: KeyType
    readonly lifetime: Duration
  }
  readonly certificates: readonly CertificateSketch[]
}

export interface CertificateSketch {
  readonly name: string
  readonly commonName: string | null
  readonly names: readonly Name[]
  readonly keyType: KeyType
  readonly usages: readonly Usage[]
  readonly lifetime: Duration
  /** null: `dir`/NAME. */
  readonly target: string | null
  readonly files: TargetFileNames
}

/** A certgen.yaml that asks for what is there already, with comments that say what else may stand in it. */
export function writeConfig({ dir, authority, certificates }: ConfigSketch): string {
  const shared = sharedBy(certificates)
  return [
    '# What certgen makes and keeps up to date. certgen config schema prints all that may stand here.',
    '# yaml-language-server: $schema=certgen.schema.json',
    entry({ dir }),
    '',
    entry({
      authority: {
        dir: authority.dir,
        subject: authority.subject,
        key: authority.keyType,
        validity: formatDuration(authority.lifetime),
      },
    }),
    '  # passphrase: { file: /run/secrets/ca-passphrase }   # or { env: NAME }',
    '',
    '# For every certificate that does not say otherwise.',
    entry({ defaults: { key: shared.keyType, validity: formatDuration(shared.lifetime), usages: shared.usages } }),
    '  # renewBefore: 30d',
    '  # owner: root',
    '  # group: ssl-cert',
    '  # mode: "0640"',
    '',
    entry({ certificates: certificates.map((certificate) => describe(certificate, shared)) }),
    '    # What is to follow a change of it:',
    '    # exec: [nginx, -s, reload]',
    '    # signal: { pidFile: /run/haproxy.pid, signal: SIGUSR2 }',
    '    # probe: [localhost:8443]',
    '',
    '# settle: 10m',
    '# metrics: /var/lib/node_exporter/certgen.prom',
    '',
  ].join('\n')
}

/** One certificate's entry, for a configuration that is there already. */
export function writeCertificate(certificate: CertificateSketch): string {
  return entry([describe(certificate, { keyType: null, lifetime: null, usages: null })])
}

interface Shared {
  readonly keyType: KeyType | null
  readonly lifetime: Duration | null
  readonly usages: readonly Usage[] | null
}

/** What most of them have; the first of them decides a tie. */
function sharedBy(certificates: readonly CertificateSketch[]) {
  const most = <T>(values: readonly T[], otherwise: T): T => {
    const count = (value: T): number => values.filter((other) => String(other) === String(value)).length
    return values.reduce((best, value) => (count(value) > count(best) ? value : best), values[0] ?? otherwise)
  }
  return {
    keyType: most<KeyType>(
      certificates.map(({ keyType }) => keyType),
      'ecdsa-p256',
    ),
    lifetime: most(
      certificates.map(({ lifetime }) => lifetime),
      defaults.leafLifetime,
    ),
    usages: most(
      certificates.map(({ usages }) => usages),
      defaults.usages,
    ),
  }
}

function describe(certificate: CertificateSketch, shared: Shared): object {
  const { name, commonName, names, keyType, usages, lifetime, target, files } = certificate
  const ofType = (type: Name['type']): string[] => names.filter((each) => each.type === type).map(({ value }) => value)
  const lists = { dns: ofType('dns'), ip: ofType('ip'), uri: ofType('uri'), email: ofType('email') }
  const otherFiles = Object.entries(files).filter(
    ([kind, file]) => defaultFileNames[kind as keyof typeof files] !== file,
  )
  return {
    name,
    ...(commonName === null ? {} : { commonName }),
    ...Object.fromEntries(Object.entries(lists).filter(([, values]) => values.length > 0)),
    ...(keyType === shared.keyType ? {} : { key: keyType }),
    ...(lifetime === shared.lifetime ? {} : { validity: formatDuration(lifetime) }),
    ...(String(usages) === String(shared.usages) ? {} : { usages }),
    ...(target === null ? {} : { target }),
    ...(otherFiles.length === 0 ? {} : { files: Object.fromEntries(otherFiles) }),
  }
}

/** Plain lists on one line; a `$` that could begin a variable is doubled. */
function entry(value: object): string {
  const document = new Document(value)
  visit(document, {
    Seq: (_key, list) => {
      list.flow = !list.items.some(isCollection)
    },
  })
  return document.toString({ lineWidth: 100, flowCollectionPadding: false }).trimEnd().replaceAll('${', '$${')
}
