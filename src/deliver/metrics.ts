import { basename, resolve } from 'node:path'
import { CertgenError } from '../errors.ts'
import { writeFileAtomically } from '../store/file.ts'
import { readRegularFile } from '../store/regular-file.ts'

/** What the metrics file tells. */
export interface FleetMetrics {
  readonly certificates: readonly MeasuredCertificate[]
  readonly authorities: readonly MeasuredHolder[]
  readonly targets: readonly MeasuredTarget[]
  readonly now: Date
  /** The run that this is written after. */
  readonly run: { readonly command: string; readonly ok: boolean }
}

export interface MeasuredCertificate {
  /** The file it is in. */
  readonly path: string
  /** `CN=a, O=b`, what is special in a value escaped with a backslash. */
  readonly subject: string
  readonly issuer: string
  /** Hexadecimal. */
  readonly serialNumber: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/** An authority or a target. */
export interface MeasuredHolder {
  /** null: an authority that is the only one. */
  readonly name: string | null
  readonly path: string
  readonly dueAt: Date | null
  /** It is missing or damaged, or peers refuse it. */
  readonly unusable: boolean
  readonly unfinished: boolean
}

export interface MeasuredTarget extends MeasuredHolder {
  /** Its authority's name, where there are several. */
  readonly authority: string | null
  readonly drift: boolean
  /** How many follow-ups of its last write have not succeeded yet. */
  readonly undelivered: number
}

/**
 * Writes the Prometheus textfile, whole or not at all, and only when it says something new. What it says of the last runs
 * of other commands is kept. True when it was written. Throws CertgenError `write-failed`.
 */
export async function writeMetrics(path: string, metrics: FleetMetrics): Promise<boolean> {
  const before = await readBefore(path)
  const text = formatMetrics(metrics, before)
  if (text === before) return false
  await writeFileAtomically(path, text, 0o644)
  return true
}

async function readBefore(path: string): Promise<string> {
  try {
    return (await readRegularFile(path, 0))?.data.toString('utf8') ?? ''
  } catch (error) {
    throw new CertgenError('write-failed', `cannot write ${path}: what is there cannot be read`, {
      cause: error,
      hints: ['move it away, or name another file with --metrics'],
    })
  }
}

// --------------------------------------------------------------------------------------------------------------- format

type Labels = Readonly<Record<string, string | null | undefined>>

interface Sample {
  readonly labels: Labels
  readonly value: number
}

/**
 * The text format of Prometheus (exposition format 0.0.4). Certificates have the names and labels of
 * enix/x509-certificate-exporter, so that dashboards made for it read them. Instants are Unix time in seconds and never
 * "seconds left", which would be wrong as soon as it is written. `before` is the file as it was.
 */
export function formatMetrics(metrics: FleetMetrics, before = ''): string {
  return [
    ...ofCertificates(metrics),
    ...ofAuthorities(metrics),
    ...ofTargets(metrics),
    ...ofRuns(metrics, before),
  ].join('')
}

function ofCertificates({ certificates, now }: FleetMetrics): string[] {
  const samples = (value: (certificate: MeasuredCertificate) => number): Sample[] =>
    certificates.map((certificate) => ({ labels: certificateLabels(certificate), value: value(certificate) }))
  return [
    gauge(
      'x509_cert_not_before',
      'When the certificate begins, in Unix time.',
      samples(({ notBefore }) => unixTime(notBefore)),
    ),
    gauge(
      'x509_cert_not_after',
      'When the certificate ends, in Unix time.',
      samples(({ notAfter }) => unixTime(notAfter)),
    ),
    gauge(
      'x509_cert_expired',
      'Whether the certificate had expired when this file was written.',
      samples(({ notAfter }) => Number(now > notAfter)),
    ),
  ]
}

function ofAuthorities({ authorities }: FleetMetrics): string[] {
  const samples = (value: (authority: MeasuredHolder) => number | null): Sample[] =>
    authorities.flatMap((authority) => {
      const { name, path } = authority
      return sample({ authority: name, path: resolve(path) }, value(authority))
    })
  return [
    gauge(
      'certgen_authority_due_timestamp_seconds',
      'When certgen --renew replaces the authority.',
      samples(({ dueAt }) => dueAt && unixTime(dueAt)),
    ),
    gauge(
      'certgen_authority_unusable',
      'Whether the authority is missing, damaged or expired.',
      samples(({ unusable }) => Number(unusable)),
    ),
    gauge(
      'certgen_authority_unfinished',
      'Whether the second run of a staged rotation may begin.',
      samples(({ unfinished }) => Number(unfinished)),
    ),
  ]
}

function ofTargets({ targets }: FleetMetrics): string[] {
  const samples = (value: (target: MeasuredTarget) => number | null): Sample[] =>
    targets.flatMap((target) => {
      const { name, authority, path } = target
      return sample({ authority, name, path: resolve(path) }, value(target))
    })
  return [
    gauge(
      'certgen_target_due_timestamp_seconds',
      'When certgen --renew replaces the leaf.',
      samples(({ dueAt }) => dueAt && unixTime(dueAt)),
    ),
    gauge(
      'certgen_target_unusable',
      'Whether the target is missing, damaged or expired, or refused by peers.',
      samples(({ unusable }) => Number(unusable)),
    ),
    gauge(
      'certgen_target_unfinished',
      'Whether an interrupted rotation left the target behind.',
      samples(({ unfinished }) => Number(unfinished)),
    ),
    gauge(
      'certgen_target_undelivered',
      'How many hooks and probes have not succeeded since the target was written.',
      samples(({ undelivered }) => undelivered),
    ),
    gauge(
      'certgen_target_drift',
      'Whether the target is not as the configuration asks.',
      samples(({ drift }) => Number(drift)),
    ),
  ]
}

function ofRuns(metrics: FleetMetrics, before: string): string[] {
  return [
    gauge('certgen_last_run_timestamp_seconds', 'When the command last ran.', lastRuns('run', metrics, before)),
    gauge(
      'certgen_last_success_timestamp_seconds',
      'When the command last ended well.',
      lastRuns('success', metrics, before),
    ),
  ]
}

/** This run, and what the file said of others. */
function lastRuns(what: 'run' | 'success', { run, now }: FleetMetrics, before: string): Sample[] {
  const pattern = new RegExp(`^certgen_last_${what}_timestamp_seconds\\{command="([a-z-]+)"\\} (\\d+)$`, 'gm')
  const times = new Map([...before.matchAll(pattern)].map(([, command = '', time]) => [command, Number(time)]))
  if (what === 'run' || run.ok) times.set(run.command, unixTime(now))
  return [...times].sort(([a], [b]) => (a < b ? -1 : 1)).map(([command, value]) => ({ labels: { command }, value }))
}

function sample(labels: Labels, value: number | null): Sample[] {
  return value === null ? [] : [{ labels, value }]
}

/** A metric without samples is left out whole. */
function gauge(name: string, help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return ''
  const lines = samples.map(({ labels, value }) => `${name}{${formatLabels(labels)}} ${value}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('')}`
}

/** A label that is empty is one that is not there. */
function formatLabels(labels: Labels): string {
  return Object.entries(labels)
    .flatMap(([name, value]) => (value ? [`${name}="${escapeLabel(value)}"`] : []))
    .join(',')
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function unixTime(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}

// ------------------------------------------------------------------------------------------------ labels of certificates

const nameFields = ['C', 'ST', 'L', 'O', 'OU', 'CN'] as const

function certificateLabels({ path, subject, issuer, serialNumber }: MeasuredCertificate): Labels {
  const absolute = resolve(path)
  return {
    filename: basename(absolute),
    filepath: absolute,
    ...nameLabels('issuer', issuer),
    serial_number: decimal(serialNumber),
    ...nameLabels('subject', subject),
  }
}

/** A serial number of somebody else's may be negative. */
function decimal(hexadecimal: string): string {
  const [, sign = '', digits = '0'] = /^(-?)([0-9A-F]+)$/i.exec(hexadecimal) ?? []
  return sign + BigInt(`0x${digits}`).toString()
}

function nameLabels(prefix: string, name: string): Labels {
  const values = readNameFields(name)
  return Object.fromEntries(nameFields.map((field) => [`${prefix}_${field}`, values.get(field)]))
}

/** The first value of each field, without the escapes of RFC 2253: `\,` for a comma, `\0A` for an octet. */
function readNameFields(name: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const [, field = '', value = ''] of name.matchAll(/(?:^|, )([A-Za-z0-9.]+)=((?:\\.|[^\\,])*)/g)) {
    if (values.has(field)) continue
    values.set(
      field,
      value.replace(/\\([0-9A-F]{2}|.)/g, (_escape, escaped: string) =>
        escaped.length === 2 ? String.fromCharCode(parseInt(escaped, 16)) : escaped,
      ),
    )
  }
  return values
}
