import { join } from 'node:path'
import { Option } from 'commander'
import type { Command } from 'commander'
import { shellWord } from '../../deliver/hooks.ts'
import { parseEndpoint } from '../../deliver/probe.ts'
import type { SurveyResult, SurveyedEndpoint } from '../../deliver/survey.ts'
import { CertgenError } from '../../errors.ts'
import type { Duration } from '../../pki/lifetime.ts'
import { defaults } from '../../rotation/request.ts'
import type { StatusReport, TargetStatus } from '../../rotation/status.ts'
import { defaultFileNames } from '../../store/target-store.ts'
import { exitCodes } from '../exit-codes.ts'
import { describeFleet, exists } from '../fleet.ts'
import type { Fleet, FleetOptions } from '../fleet.ts'
import { statusRequests, writeFleetMetrics } from '../fleet-metrics.ts'
import type { JudgementOptions } from '../fleet-metrics.ts'
import { addClusterOptions, configOption, dirOption, durationOption, secretOption } from '../options.ts'
import { createOutput } from '../output.ts'
import type { Output } from '../output.ts'
import type { FleetStatus } from '../status-report.ts'

interface StatusOptions
  extends Pick<FleetOptions, 'dir' | 'config' | 'kubeconfig' | 'context' | 'caSecret'>, JudgementOptions {
  readonly check?: boolean
  readonly all?: boolean
  /** false: none, not even those of the configuration. */
  readonly probe?: readonly string[] | false
  readonly name?: string
  readonly timeout?: Duration
  readonly html?: string
  readonly metrics?: string
  readonly json?: boolean
}

/** Seconds for one handshake: who looks does not want to wait as long as who has written. */
const defaultTimeout = 5

export function addStatusCommand(program: Command): void {
  const command = program
    .command('status [dir]')
    .summary('show what is there, when it ends and what needs attention')
    .description('Shows every authority, target and endpoint: what it is, when it ends, whether it is due.')
    .addOption(dirOption())
    .addOption(configOption())
    .option('--all', 'show every target, not only the first 20')
    .option('--check', 'say only what needs attention, a line each; exit code 8 if anything does')
    .option('--json', 'print one JSON document')
    .option('--html <file>', 'write one self-contained page')
    .option('--metrics <file>', 'write metrics for the textfile collector of Prometheus')
    .optionsGroup('Endpoints:')
    .addOption(new Option('--probe <host:port>', 'look at this one too, repeatable').argParser(addEndpoint))
    .option('--no-probe', 'look at none, not even those of the configuration')
    .option('--name <name>', 'the target that --probe is compared with (default: the one for HOST)')
    .addOption(durationOption('--timeout <duration>', 'longest time for one handshake (default: 5s)'))
    .optionsGroup('As the run that renews has them:')
    .addOption(durationOption('--renew-before <duration>', 'due this long before the end, not at 2/3 of its life'))
    .addOption(durationOption('--settle <duration>', 'time that peers need to load a change (default: 10m)'))
    .addHelpText('after', statusHelp)
    .action(runStatus)
  addClusterOptions(command).addOption(
    secretOption('--ca-secret <namespace/name>', 'the authority is in this Secret, not in DIR/ca'),
  )
}

const statusHelp = `
Nothing is changed, and no passphrase is needed.

Examples:
  certgen status                             what is in ./certs
  certgen status /srv/tls --probe localhost:8443
  certgen status --check || certgen status | mail -s certificates ops
  certgen status --html /var/www/certificates.html

Exit codes:
  0 shown   2 usage   5 --html or --metrics could not be written
  8 with --check: something is due, expired, damaged, unfinished, not delivered
    or not served`

function addEndpoint(text: string, before: StatusOptions['probe']): readonly string[] {
  parseEndpoint(text)
  return [...(before === false ? [] : (before ?? [])), text]
}

async function runStatus(dir: string | undefined, options: StatusOptions, command: Command): Promise<void> {
  const output = createOutput(options)
  const given = (name: 'dir' | 'config' | 'kubeconfig' | 'context' | 'caSecret'): string | undefined =>
    command.getOptionValueSource(name) === 'cli' ? options[name] : undefined
  if (dir !== undefined && given('dir') !== undefined) {
    throw new CertgenError('usage', `two directories are named: ${dir} and --dir ${given('dir') ?? ''}`, {
      hints: ['name one, in either way'],
    })
  }
  const fleet = await describeFleet(dir === undefined ? options : { ...options, dir }, 'certificates')
  const { statusAll } = await import('../../rotation/status.ts')
  const report = await statusAll(statusRequests(fleet, options), new Date())
  if (report.authorities.every(({ state }) => state === 'missing')) await refuseTarget(fleet)
  const status: FleetStatus = { ...report, endpoints: await lookAtEndpoints(fleet, report, options) }
  // Those of the configuration are written by who changes something: who looks may not even be allowed to.
  if (options.metrics !== undefined) await writeFleetMetrics(options.metrics, report, { command: 'status', ok: true })
  if (options.html !== undefined) await writePage(options.html, status)
  const { isWell, statusJson } = await import('../status-report.ts')
  const again = [
    'certgen',
    ...flag('--dir', dir ?? given('dir')),
    ...flag('--config', given('config')),
    ...flag('--ca-secret', given('caSecret')),
    ...flag('--kubeconfig', given('kubeconfig')),
    ...flag('--context', given('context')),
  ].join(' ')
  if (output.json) output.document('status', statusJson(status))
  else output.result(await draw(status, options, output, again))
  if (options.check && !isWell(status)) process.exitCode = exitCodes.due
}

/** Who names a target, where the directory of targets is meant, would be told to make an authority in it. */
async function refuseTarget({ dir }: Fleet): Promise<void> {
  if (!(await exists(join(dir, defaultFileNames.cert)))) return
  throw new CertgenError('usage', `${dir} is a target, not a directory of targets`, {
    hints: [
      `certgen status ${shellWord(join(dir, '..'))} shows it with the others`,
      `certgen validate ${shellWord(dir)} checks it alone`,
    ],
  })
}

/** A flag that leads to the same fleet again, for a line that can be copied. */
function flag(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`${name} ${shellWord(value)}`]
}

async function draw(
  status: FleetStatus,
  { check, all }: StatusOptions,
  { paint }: Output,
  command: string,
): Promise<string> {
  const { createScreen, printable } = await import('../terminal.ts')
  const screen = createScreen(paint, process.stdout, process.env)
  if (check) {
    const { checkLines } = await import('../status-report.ts')
    const lines = checkLines(status).map((line) => printable(line, screen))
    return lines.length > 0 ? lines.join('\n') : 'nothing needs attention'
  }
  const { drawStatus } = await import('../status-screen.ts')
  return drawStatus(status, screen, { all: all === true, command })
}

async function writePage(path: string, status: FleetStatus): Promise<void> {
  const { statusPage } = await import('../status-page.ts')
  const { writeFileAtomically } = await import('../../store/file.ts')
  await writeFileAtomically(path, statusPage(status), 0o644)
}

// ------------------------------------------------------------------------------------------------------------ endpoints

async function lookAtEndpoints(fleet: Fleet, report: StatusReport, options: StatusOptions): Promise<SurveyResult[]> {
  const { probe = [], name, timeout = defaultTimeout } = options
  if (probe === false) return []
  const endpoints = [...configuredEndpoints(fleet), ...probe.map((endpoint) => endpointFor(endpoint, report, name))]
  if (endpoints.length === 0) return []
  const { survey } = await import('../../deliver/survey.ts')
  return survey(endpoints, timeout * 1000, () => new Date())
}

function configuredEndpoints({ groups }: Fleet): SurveyedEndpoint[] {
  return groups.flatMap(({ leaves }) =>
    leaves.flatMap(({ name, store, actions }) =>
      actions.flatMap((action) =>
        action.kind === 'probe' ? [{ endpoint: action.endpoint, target: name, store }] : [],
      ),
    ),
  )
}

/** With the target whose set it should serve: the one that is named, or else the only one that is for its host. */
function endpointFor(endpoint: string, { targets }: StatusReport, name: string | undefined): SurveyedEndpoint {
  const { host } = parseEndpoint(endpoint)
  const compared = ({ name: target, store }: TargetStatus): SurveyedEndpoint => ({ endpoint, target, store })
  const named = targets.find((target) => target.name === (name ?? host))
  if (named) return compared(named)
  if (name !== undefined) {
    const known = targets.slice(0, 10).map((target) => target.name)
    throw new CertgenError('usage', `there is no target ${JSON.stringify(name)}`, {
      hints: [known.length > 0 ? `there are ${known.join(', ')}` : 'there is none at all'],
    })
  }
  const wanted = [`DNS:${host.toLowerCase()}`, `IP:${host}`]
  const fitting = targets.filter(({ leaf }) => leaf?.names.some((each) => wanted.includes(each)))
  const candidates = fitting.length > 0 ? fitting : targets
  const [only] = candidates.length === 1 ? candidates : candidates.filter((each) => each.name === defaults.leafName)
  if (only) return compared(only)
  throw new CertgenError('usage', `which target is ${endpoint} to be compared with?`, {
    hints: ['say it with --name NAME'],
  })
}
