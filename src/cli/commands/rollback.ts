import type { Command } from 'commander'
import type { ActionReport } from '../../deliver/delivery.ts'
import type { Duration } from '../../pki/lifetime.ts'
import type { RollbackReport } from '../../rotation/rollback.ts'
import { exitCodes } from '../exit-codes.ts'
import { describeFleet } from '../fleet.ts'
import type { FleetOptions } from '../fleet.ts'
import { measureRun } from '../fleet-metrics.ts'
import { followUp } from '../follow-up.ts'
import { addClusterOptions, configOption, dirOption, lockTimeoutOption, logFormatOption } from '../options.ts'
import { createOutput } from '../output.ts'
import type { OutputOptions } from '../output.ts'

interface RollbackOptions extends FleetOptions, OutputOptions {
  readonly force?: boolean
  readonly dryRun?: boolean
  readonly lockTimeout: Duration
}

export function addRollbackCommand(program: Command): void {
  const command = program
    .command('rollback [name]')
    .summary('return to the previous generation')
    .description('Returns the authority and every target, or the one target NAME, to the previous generation.')
    .addOption(dirOption())
    .addOption(configOption())
    .option('--force', 'write although preflight found handshakes that break')
    .option('--dry-run', 'do everything but write')
    .option('--ca-passphrase-file <file>', "file with the passphrase of the authority's key")
    .addOption(lockTimeoutOption())
    .option('--json', 'print one JSON document')
    .addOption(logFormatOption())
  addClusterOptions(command)
    .addHelpText(
      'after',
      `
A second rollback returns to where you were. A Secret keeps no generation to
return to.

Exit codes:
  0 done    2 usage    3 there is nothing to return to
  4 refused: a handshake would break    5 the write failed
  6 another certgen holds the lock      7 done, but what had to follow failed`,
    )
    .action(runRollback)
}

async function runRollback(name: string | undefined, options: RollbackOptions): Promise<void> {
  const output = createOutput(options)
  const clock = (): Date => new Date()
  const fleet = await describeFleet(options)
  const { groups } = fleet
  const { rollbackAll } = await import('../../rotation/rollback.ts')
  const reports = await rollbackAll(
    groups.map(({ authority, leaves, discovery }) => ({
      authority,
      leaves,
      discovery,
      name: name ?? null,
      force: options.force === true,
      dryRun: options.dryRun === true,
      lockTimeout: options.lockTimeout,
    })),
    clock,
  )
  const [first] = reports
  if (!first) throw new Error('a rollback has a report')
  const leaves = reports.flatMap((report) => report.leaves)
  const actions = options.dryRun ? [] : await followUp(leaves, groups, {}, clock)
  const followed = actions.every(({ ok }) => ok)
  const unmeasured = await measureRun(
    fleet,
    { dryRun: options.dryRun === true },
    { command: 'rollback', ok: followed },
    clock,
  )
  const warnings = reports.flatMap((report) => report.warnings)
  for (const { code, message } of warnings) output.warn(message, { code })
  if (unmeasured) output.warn(unmeasured.message)
  if (!followed || unmeasured) process.exitCode = exitCodes.followUpFailed
  if (output.json) {
    const several = reports.length > 1 ? { authorities: reports.map(({ authority }) => authority) } : {}
    const preflight = reports.flatMap((report) => report.preflight)
    output.document('rollback', { ...first, ...several, leaves, preflight, actions, warnings })
    return
  }
  output.result(describe(reports, actions, options.dryRun === true).join('\n'))
}

function describe(reports: readonly RollbackReport[], actions: readonly ActionReport[], dryRun: boolean): string[] {
  const verb = dryRun ? 'would return' : 'returned'
  const returned = reports.flatMap(({ leaves }) => leaves.filter(({ changed }) => changed))
  return [
    ...reports
      .filter(({ authority }) => authority.changed)
      .map(({ authority }) => `${verb} the authority to ${authority.subject}`),
    `${verb} ${returned.length} ${returned.length === 1 ? 'target' : 'targets'}`,
    ...returned.slice(0, 12).map(({ target, sha256 }) => `${target}  ${sha256.slice(0, 32)}`),
    ...(returned.length > 12 ? [`and ${returned.length - 12} more`] : []),
    ...actions.map(({ kind, subject, ok, detail }) => `${kind}  ${subject}: ${detail ?? (ok ? 'ok' : 'failed')}`),
  ]
}
