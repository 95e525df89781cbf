import { Option } from 'commander'
import type { Command } from 'commander'
import type { Api } from '../../deliver/kubernetes/api.ts'
import type { ObjectRef } from '../../deliver/kubernetes/resource.ts'
import type { Restart } from '../../deliver/kubernetes/restart.ts'
import type { Rollout } from '../../deliver/kubernetes/rollout.ts'
import { parseDuration } from '../../pki/lifetime.ts'
import type { Duration } from '../../pki/lifetime.ts'
import { exitCodes } from '../exit-codes.ts'
import { clusterOpener } from '../fleet.ts'
import { addClusterOptions } from '../options.ts'
import type { ClusterFlags } from '../options.ts'
import { createOutput } from '../output.ts'
import type { Output } from '../output.ts'

interface RestartOptions extends ClusterFlags {
  /** true: the flag without a duration. */
  readonly wait?: Duration | true
  readonly json?: boolean
}

const defaultWait = parseDuration('5m')

export function addRestartCommand(program: Command): void {
  const command = program.command('restart <kind/namespace/name>').summary('rolling restart of a Kubernetes workload')
  command
    .description(
      'Has a Deployment, StatefulSet or DaemonSet replace its pods, as kubectl rollout restart does: for workloads that\n' +
        'load their certificates only once.',
    )
    .addOption(
      new Option('--wait [duration]', 'follow the rollout to its end, this long at most (default: 5m)').argParser(
        (text): Duration => parseDuration(text),
      ),
    )
    .option('--json', 'print one JSON document')
  addClusterOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  certgen restart deployment/gateway/ratelimit --wait\n' +
        '\nExit codes:\n  0 restarted, or no such workload     2 usage, or no answer from the cluster\n' +
        '  5 the restart was not written        7 refused, or the rollout went wrong',
    )
    .action(runRestart)
}

async function runRestart(text: string, options: RestartOptions): Promise<void> {
  const output = createOutput(options)
  const { parseWorkload } = await import('../../deliver/kubernetes/workload.ts')
  const ref = parseWorkload(text)
  const api = await (await clusterOpener(options)()).api()
  const { restart } = await import('../../deliver/kubernetes/restart.ts')
  const result = await restart(api, ref, new Date(), null)
  const rollout =
    options.wait === undefined || result.outcome !== 'restarted'
      ? null
      : await follow(api, ref, options.wait === true ? defaultWait : options.wait, output)
  print(text, result, rollout, output)
  if (result.outcome === 'refused' || rollout?.ok === false) process.exitCode = exitCodes.followUpFailed
}

async function follow(api: Api, ref: ObjectRef, wait: Duration, output: Output): Promise<Rollout> {
  const { waitForRollout } = await import('../../deliver/kubernetes/rollout.ts')
  return waitForRollout(api, ref, {
    signal: AbortSignal.timeout(wait * 1000),
    onProgress: (text) => {
      if (!output.json) process.stderr.write(`certgen: ${text}\n`)
    },
  })
}

function print(workload: string, { outcome, detail }: Restart, rollout: Rollout | null, output: Output): void {
  if (output.json) {
    output.document('restart', { changed: outcome === 'restarted', workload, outcome, detail, rollout })
    return
  }
  const { green, red, yellow } = output.paint
  const head = detail === null ? green(outcome) : outcome === 'refused' ? red(detail) : yellow(detail)
  const end = rollout
    ? [`rollout  ${rollout.ok ? green('done') : red(rollout.detail ?? 'failed')}`, ...rollout.pods]
    : []
  output.result([`${workload}  ${head}`, ...end].join('\n'))
}
