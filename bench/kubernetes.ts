// A fleet of Secrets in one run of the built program, against the test API server in this process: calls, time, memory.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ApiServer } from '../test/kubernetes/server/api-server.ts'

const rounds = 3

interface Measured {
  readonly seconds: number
  /** Peak of the resident set, MiB. */
  readonly memory: number
  readonly calls: readonly string[]
}

export async function measure(scratch: string, [countText = '500']: readonly string[]): Promise<void> {
  const count = Number(countText)
  const server = await ApiServer.start()
  const kubeconfig = server.kubeconfig(join(scratch, 'kubeconfig'))
  server.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'fleet' } })
  const certificates = Array.from({ length: count }, (_, index) => {
    const name = `service-${index}`
    return `  - { name: ${name}, dns: [${name}, ${name}.fleet.svc], secret: fleet/${name} }`
  })
  const config = join(scratch, 'certgen.yaml')
  writeFileSync(config, ['authority: { secret: fleet/authority }', 'certificates:', ...certificates].join('\n'))

  const run = async (...args: string[]): Promise<Measured> => {
    const [before, began] = [server.calls.length, performance.now()]
    const child = spawn(
      process.execPath,
      ['bin/certgen.js', 'rotate', ...args, '--config', config, '--kubeconfig', kubeconfig],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    )
    let memory = 0
    const sampler = setInterval(() => (memory = Math.max(memory, peakOf(child.pid))), 20)
    const [code] = (await once(child, 'exit')) as [number]
    clearInterval(sampler)
    if (code !== 0) throw new Error(`certgen ${args.join(' ')} exited with ${code}`)
    const calls = server.callsAfter(before).map(({ verb, dryRun }) => (dryRun ? `${verb} (dry run)` : verb))
    return { seconds: (performance.now() - began) / 1000, memory, calls }
  }

  console.log(describe(`${count} Secrets made`, [await run()], count))
  console.log(describe('unchanged', await times(() => run()), count))
  console.log(describe('rotated (--overwrite)', await times(() => run('--overwrite')), count))
  console.log(describe('renewed, nothing due', await times(() => run('--renew')), count))
  server.fault = ({ verb }) =>
    verb === 'list' ? { status: 403, reason: 'Forbidden', message: 'User "x" cannot list resource "secrets"' } : null
  console.log(describe('unchanged, without the right to list', await times(() => run()), count))
  await server.close()
}

async function times(run: () => Promise<Measured>): Promise<Measured[]> {
  const all: Measured[] = []
  for (let round = 0; round < rounds; round++) all.push(await run())
  return all
}

function describe(what: string, runs: readonly Measured[], count: number): string {
  const { calls } = runs.at(-1)!
  const kinds = [...new Set(calls)].map((kind) => `${calls.filter((call) => call === kind).length} ${kind}`)
  const of = (value: (measured: Measured) => number): string => {
    const sorted = runs.map(value).toSorted((a, b) => a - b)
    return sorted[Math.floor(runs.length / 2)]!.toFixed(1)
  }
  return (
    `${what}: ${calls.length} calls, ${(calls.length / count).toFixed(3)} a Secret (${kinds.join(', ')}); ` +
    `median of ${runs.length}: ${of(({ seconds }) => seconds)} s, peak ${of(({ memory }) => memory)} MiB`
  )
}

/** 0 once it has ended. */
function peakOf(pid: number | undefined): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid ?? 0}/status`, 'utf8'))?.[1] ?? 0) / 1024
  } catch {
    return 0
  }
}
