import type { ChalkInstance } from 'chalk'
import { printable } from '../pki/names.ts'
import type { LeafReport, RotationReport } from '../rotation/report.ts'
import type { AuthorityReport, FleetReport } from './fleet-report.ts'
import { reasons } from './words.ts'

/** Leaves that are shown at all, and how many of them at length: the summary fits a screen whatever their number. */
const leavesShown = 8
const leavesInFull = 2

/** What an operator sees at a glance: what changed, fingerprints, ends, what is carried over, what comes next. */
export function summarize(report: FleetReport, paint: ChalkInstance): string {
  const changed = report.leaves.filter((leaf) => leaf.changed)
  const authorities = report.authorities
    ? report.authorities.map((authority) => authorityLine(authority, paint))
    : describeAuthority(report, paint)
  const lines = [headline(report, changed, paint), '', ...authorities]
  const shown = changed.length > 0 ? changed : report.leaves
  if (shown.length <= leavesInFull) {
    for (const leaf of shown) lines.push(...describeLeaf(leaf, report.stage, paint))
  } else {
    for (const leaf of shown.slice(0, leavesShown)) lines.push(leafLine(leaf, report.stage, paint))
    if (shown.length > leavesShown) lines.push(`and ${shown.length - leavesShown} more`)
  }
  lines.push(
    ...describeBundles(report, paint),
    ...describePreflight(report, paint),
    ...describeStage(report, paint),
    ...describeActions(report, paint),
  )
  return lines.join('\n')
}

function headline(
  { changed, dryRun, stage, authority, authorities, leaves, bundles = [], actions }: FleetReport,
  written: readonly LeafReport[],
  paint: ChalkInstance,
): string {
  const made = (authorities ?? [authority]).filter((each) => each.changed).length
  const published = bundles.filter((bundle) => bundle.changed).length
  const secrets = actions.filter(({ kind, ok }) => kind === 'secret' && ok).length
  const wouldChange = made + written.length + published + secrets > 0
  if (!changed && !(dryRun && wouldChange)) return `${paint.green('nothing to do')}: ${count(leaves.length)} up to date`
  if (stage === 1) {
    const what = `the next authority in the bundle of ${count(written.length)}`
    return dryRun ? paint.yellow(`would publish ${what}; nothing was written`) : paint.green(`published ${what}`)
  }
  const parts = [
    ...(made > 0 ? [made === 1 ? 'a new authority' : `${made} new authorities`] : []),
    ...(written.length > 0 ? [count(written.length)] : []),
    ...(published > 0 ? [published === 1 ? '1 bundle' : `${published} bundles`] : []),
    ...(secrets > 0 ? [secrets === 1 ? '1 random secret' : `${secrets} random secrets`] : []),
  ]
  const what = parts.join(', ').replace(/, (?!.*, )/, ' and ') || 'links'
  return dryRun ? paint.yellow(`would write ${what}; nothing was written`) : paint.green(`wrote ${what}`)
}

function count(leaves: number): string {
  return leaves === 1 ? '1 leaf' : `${leaves} leaves`
}

function describeAuthority({ authority, stage }: RotationReport, paint: ChalkInstance): string[] {
  const { subject, sha256, notAfter, carriedOver, crossSigned } = authority
  const carried =
    carriedOver === null ? [] : [`  carried over  ${fingerprint(carriedOver)}${crossSigned ? ', cross-signed' : ''}`]
  return [
    `${paint.bold(printable(authority.path))}  ${authority.changed && stage !== 1 ? 'made' : 'kept'}`,
    `  subject       ${subject}`,
    `  sha256        ${fingerprint(sha256)}`,
    `  ends          ${day(notAfter)}`,
    ...carried,
  ]
}

/** One of several. */
function authorityLine(
  { path, changed, stage, sha256, notAfter, crossSigned }: AuthorityReport,
  paint: ChalkInstance,
): string {
  const what = changed && stage !== 1 ? 'made' : 'kept'
  const cross = changed && crossSigned ? ', cross-signed' : ''
  return `${paint.bold(path)}  ${what}${cross}, ${shortFingerprint(sha256)}, ends ${day(notAfter)}`
}

function describeLeaf(leaf: LeafReport, stage: RotationReport['stage'], paint: ChalkInstance): string[] {
  const { target, names, key, sha256, notAfter } = leaf
  const shown = names.slice(0, 3).map(printable).join(', ') + (names.length > 3 ? ` and ${names.length - 3} more` : '')
  return [
    `${paint.bold(printable(target))}  ${whatBecame(leaf, stage)}`,
    `  names         ${shown}`,
    `  sha256        ${fingerprint(sha256)}`,
    `  ends          ${day(notAfter)}, ${key}`,
  ]
}

/** One of many. */
function leafLine(leaf: LeafReport, stage: RotationReport['stage'], paint: ChalkInstance): string {
  const { target, sha256, notAfter } = leaf
  return `${paint.bold(target)}  ${whatBecame(leaf, stage)}, ${shortFingerprint(sha256)}, ends ${day(notAfter)}`
}

function whatBecame({ changed, reason }: LeafReport, stage: RotationReport['stage']): string {
  return changed && stage === 1 ? 'same leaf; its bundle now trusts the next authority' : reasons[reason]
}

/** The matrix of a single profile; of several, only that they succeed, for the whole is in --json. */
function describePreflight({ preflight }: RotationReport, paint: ChalkInstance): string[] {
  const broken = preflight.filter(({ ok }) => !ok).length
  if (preflight.length === 0) return []
  if (preflight.length > 4) {
    const total = `${preflight.length} pairs of old and new peers`
    return [
      `handshakes      ${broken === 0 ? paint.green(`all ${total} succeed`) : paint.red(`${broken} of ${total} fail`)}`,
    ]
  }
  const cell = (server: string, client: string): string => {
    const pair = preflight.find((candidate) => candidate.server === server && candidate.client === client)
    if (!pair) return '-'.padEnd(4)
    return pair.ok ? paint.green('ok'.padEnd(4)) : paint.red('FAIL')
  }
  return [
    'handshakes      old client  new client',
    ...['old', 'new'].map((server) =>
      `  ${server} server    ${cell(server, 'old')}        ${cell(server, 'new')}`.trimEnd(),
    ),
  ]
}

function describeBundles({ bundles = [] }: FleetReport, paint: ChalkInstance): string[] {
  return bundles
    .filter(({ changed, detail }) => changed || detail !== null)
    .map(
      ({ path, detail }) =>
        `bundle          ${path}: ${detail === null ? paint.green('published') : paint.yellow(detail)}`,
    )
}

function describeStage({ stage, resumesAt }: RotationReport, paint: ChalkInstance): string[] {
  if (stage !== 1) return []
  const when = resumesAt === null ? 'later' : `after ${resumesAt}`
  return [
    paint.yellow('stage 1 of 2: every bundle trusts the next authority'),
    paint.yellow(`  to go on, run certgen --overwrite again ${when}`),
  ]
}

function describeActions({ actions }: FleetReport, paint: ChalkInstance): string[] {
  return actions.map(({ kind, subject, ok, detail }) => {
    return `${kind.padEnd(16)}${subject}: ${ok ? paint.green(detail ?? 'ok') : paint.red(detail ?? 'failed')}`
  })
}

/** Enough of a fingerprint to tell certificates apart; the whole one is in --json. */
function fingerprint(sha256: string): string {
  return (sha256.slice(0, 32).match(/.{4}/g) ?? []).join(' ')
}

function shortFingerprint(sha256: string): string {
  return sha256.slice(0, 16)
}

function day(iso: string): string {
  return iso.slice(0, 10)
}
