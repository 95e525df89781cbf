import { Option } from 'commander'
import type { Command } from 'commander'
import type { ActionReport } from '../../deliver/delivery.ts'
import { parseSignalHook } from '../../deliver/hooks.ts'
import { parseEndpoint } from '../../deliver/probe.ts'
import type { Warning } from '../../rotation/plan.ts'
import type { RotationReport } from '../../rotation/report.ts'
import { strategies } from '../../rotation/request.ts'
import { exitCodes } from '../exit-codes.ts'
import { measureRun } from '../fleet-metrics.ts'
import { mergeReports } from '../fleet-report.ts'
import type { FleetReport } from '../fleet-report.ts'
import { describeFleet } from '../fleet.ts'
import { followUp, workloadsToRestart } from '../follow-up.ts'
import { makeRandom, printManifests } from '../kubernetes.ts'
import {
  addClusterOptions,
  addNameOptions,
  configOption,
  dirOption,
  durationOption,
  keyOption,
  lockTimeoutOption,
  logFormatOption,
  secretOption,
  usageOption,
} from '../options.ts'
import { createOutput } from '../output.ts'
import { leafFlags, makeRequests } from '../rotation-request.ts'
import type { Asked, RotateOptions } from '../rotation-request.ts'
import { createSpinner } from '../spinner.ts'
import { summarize } from '../summary.ts'

/** The flags of every command that rotates. */
function addCommonOptions(command: Command): Command {
  return command
    .optionsGroup('Run:')
    .addOption(dirOption())
    .addOption(configOption())
    .option('--dry-run', 'do everything but write')
    .option('--json', 'print one JSON document')
    .option('--verbose', 'say a line on stderr for each change')
    .addOption(logFormatOption())
    .addOption(lockTimeoutOption())
    .option('--ca-passphrase-file <file>', "file with the passphrase of the authority's key")
    .option('--metrics <file>', 'write metrics for the textfile collector of Prometheus')
    .optionsGroup('Rotation:')
    .option('--overwrite', 'make it anew, now')
    .addOption(new Option('--strategy <name>', 'how a new authority is introduced').choices(strategies))
    .addOption(durationOption('--settle <duration>', 'time that peers need to load a change (default: 10m)'))
    .option('--distrust-previous', 'the old key has leaked: carry nothing over')
    .option('--force', 'write although preflight found handshakes that break')
}

function addFollowUpOptions(command: Command): Command {
  return command
    .optionsGroup('After a change:')
    .option('--exec <command>', 'run it with sh -c')
    .addOption(new Option('--signal <pidfile[:sig]>', 'signal this process').argParser(parseSignalHook))
    .addOption(new Option('--probe <host:port>', 'wait until it is served there').argParser(checkEndpoint))
}

function addKubernetesOptions(command: Command): Command {
  return addClusterOptions(command)
    .addOption(secretOption('--ca-secret <namespace/name>', 'keep the authority in this Secret, not in DIR/ca'))
    .option('--render', 'print manifests in place of writing to the cluster')
}

function checkEndpoint(text: string): string {
  parseEndpoint(text)
  return text
}

function addAuthorityOptions(command: Command): Command {
  return command
    .optionsGroup('Authority:')
    .option('--ca-subject <text>', 'start of its common name (default: certgen CA)')
    .addOption(durationOption('--ca-validity <duration>', 'its lifetime (default: 5y)'))
}

function addLeafOptions(command: Command): Command {
  return addNameOptions(
    command
      .option('--renew', 'reissue only what is due or was changed')
      .addOption(durationOption('--renew-before <duration>', 'due this long before the end, not at 2/3 of its life'))
      .optionsGroup('Leaf:'),
  )
    .addOption(keyOption())
    .addOption(durationOption('--validity <duration>', 'its lifetime (default: 90d)'))
    .addOption(usageOption('server, client or both (default: server,client)'))
    .option('--pkcs12 <file>', 'write tls.p12 too; its passphrase is in FILE')
    .addOption(new Option('--no-pkcs12', 'take a tls.p12 away that is there').hideHelp())
}

export function addRotateCommand(program: Command): void {
  const command = program.command('rotate').summary('make what is missing, finish, rotate (default)')
  command.description('Makes what is missing and finishes what was interrupted; rotates with --overwrite or --renew.')
  addCommonOptions(command)
    .option('--keep-ca', 'with --overwrite: new leaves, same authority')
    .option('--wait', 'staged: do both runs in one call')
  addLeafOptions(command).option('--name <name>', 'its target is DIR/NAME (default: server)')
  addAuthorityOptions(command)
  addKubernetesOptions(addFollowUpOptions(command))
    .addOption(leafSecretOption())
    .addOption(
      new Option('--rotate-random <name>', 'make this random secret anew, repeatable').argParser(
        (name, before: readonly string[] | undefined) => [...(before ?? []), name],
      ),
    )
    .addHelpText('after', rotateHelp)
    .action((options: RotateOptions) => runRotation('rotate', options, { scope: 'fleet', leaf: leafFlags(options) }))
}

export function addCaCommand(program: Command): void {
  const command = program.command('ca').summary('make or rotate the authority alone')
  command.description('Makes the authority; with --overwrite, rotates it. Leaves follow with the next certgen rotate.')
  addKubernetesOptions(addAuthorityOptions(addCommonOptions(command)).addOption(keyOption()))
    .addHelpText('after', exitCodeHelp)
    .action((options: RotateOptions) => runRotation('ca', options, { scope: 'authority', leaf: null }))
}

export function addLeafCommand(program: Command): void {
  const command = program.command('leaf <name>').summary('make or renew one leaf')
  command.description('Makes the leaf DIR/NAME from the authority on disk; with --renew or --overwrite, reissues it.')
  addKubernetesOptions(addFollowUpOptions(addLeafOptions(addCommonOptions(command))))
    .addOption(leafSecretOption())
    .addHelpText('after', exitCodeHelp)
    .action((name: string, options: RotateOptions) =>
      runRotation('leaf', { ...options, name }, { scope: { leaf: name }, leaf: leafFlags({ ...options, name }) }),
    )
}

function leafSecretOption(): Option {
  return secretOption('--secret <namespace/name>', 'publish the leaf in this Secret, not in DIR/NAME')
}

const exitCodeHelp = `
Exit codes:
  0 done, or nothing to do              4 refused: a handshake would break
  2 usage                               5 a write failed; every target is whole
  3 a key or certificate is unusable    6 another certgen holds the lock
  7 written, but --exec, --signal, --probe, --metrics or a restart failed`

const rotateHelp = `
Examples:
  certgen                        make what is missing
  certgen --overwrite            new authority, new leaves, no failed handshake
  certgen --renew                every night: only what is due
  certgen --name envoy --dns envoy.gateway.svc --ip 10.1.2.3
${exitCodeHelp}`

async function runRotation(command: string, options: RotateOptions, asked: Asked): Promise<void> {
  const output = createOutput(options)
  const fleet = await describeFleet(options)
  const { groups, requests } = await makeRequests(fleet, options, asked)
  const { rotateAll } = await import('../../rotation/rotate.ts')
  const spinner = await createSpinner(options)
  const clock = (): Date => new Date()
  try {
    let reports: RotationReport[]
    let actions: ActionReport[]
    try {
      reports = await rotateAll(requests, clock, spinner.progress)
      while (options.wait && !options.dryRun && resumeTime(reports) !== null) {
        await spinner.waitUntil(new Date(resumeTime(reports) ?? 0))
        reports = await rotateAll(requests, clock, spinner.progress)
      }
      const random = await makeRandom(fleet, options, asked, clock())
      spinner.stop()
      const leaves = reports.flatMap((report) => report.leaves)
      const follows = options.dryRun || options.render ? [] : await followUp(leaves, groups, options, clock)
      actions = [...random, ...follows]
    } catch (error) {
      spinner.stop()
      // A run that could not do its work is just what metrics have to tell.
      const unmeasured = await measureRun(fleet, options, { command, ok: false }, clock)
      if (unmeasured) output.warn(unmeasured.message)
      throw error
    }
    const followed = actions.every(({ ok }) => ok)
    const unmeasured = await measureRun(fleet, options, { command, ok: followed }, clock)
    const report = withWarning(mergeReports(reports, groups, actions), unmeasured)
    for (const { code, message } of report.warnings) output.warn(message, { code })
    if (options.render) {
      await printManifests(fleet, output)
      const leaves = reports.flatMap((each) => each.leaves)
      for (const workload of workloadsToRestart(leaves, groups)) output.hint(`then: certgen restart ${workload}`)
      return
    }
    if (output.json) output.document(command, report)
    else output.result(summarize(report, output.paint))
    if (!followed || unmeasured) process.exitCode = exitCodes.followUpFailed
  } finally {
    spinner.stop()
  }
}

function withWarning(report: FleetReport, warning: Warning | null): FleetReport {
  return warning ? { ...report, warnings: [...report.warnings, warning] } : report
}

/** ISO 8601; when all can go on. */
function resumeTime(reports: readonly RotationReport[]): string | null {
  const times = reports.map(({ resumesAt }) => resumesAt).filter((time) => time !== null)
  return times.sort().at(-1) ?? null
}
