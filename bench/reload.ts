// How long a swap takes to reach the first handshake, and what the reloader costs a handshake.
import { once } from 'node:events'
import { readlink, rename, symlink } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { createServer } from 'node:tls'
import type { ConnectionOptions, Server } from 'node:tls'
import { ServerReloader } from '../src/reload/index.ts'
import { targetAt, writeTarget } from '../src/store/target-store.ts'
import { Issuer } from '../test/reload/issuer.ts'
import { greet, listen, served } from '../test/reload/peers.ts'

const swaps = 200
const debounce = 500
const poll = 200
const rounds = 40
const handshakesPerRound = 50

export async function measure(scratch: string): Promise<void> {
  const [cpu] = cpus()
  console.log(`Node ${process.version}, ${cpus().length} x ${cpu?.model ?? 'unknown'}`)
  const byEvents = await swapTimes(scratch, debounce, { debounce, poll: 1e9 })
  console.log(report(`by events (debounce ${debounce} ms)`, byEvents, debounce))
  const byPoll = await swapTimes(scratch, poll, { debounce, poll, events: false })
  console.log(report(`by the poll alone (${poll} ms)`, byPoll, poll))
  await compareHandshakes(scratch)
}

interface SwapTimes {
  readonly times: readonly number[]
  /** By turns with the swaps: a timer of the same length, and a handshake. What a busy machine adds is in both. */
  readonly controls: readonly number[]
}

/** Milliseconds from the rename over `..data` to the end of the first handshake with the new certificate. */
async function swapTimes(scratch: string, base: number, options: object): Promise<SwapTimes> {
  const directory = join(scratch, `swaps-${JSON.stringify(options).length}`)
  const issuer = new Issuer()
  const authority = await issuer.authority()
  const sets = [await issuer.set(authority), await issuer.set(authority)]
  const generations: string[] = []
  for (const set of sets) {
    await writeTarget(targetAt(directory), set, { now: new Date() })
    generations.push(await readlink(join(directory, '..data')))
  }
  const reloader = await ServerReloader.start(directory, options)
  const server = createServer(reloader.options(), greet)
  reloader.attach(server)
  const port = await listen(server)
  const times: number[] = []
  const controls: number[] = []
  for (let swap = 0; swap < swaps; swap++) {
    const [set, generation] = [sets[swap % 2]!, generations[swap % 2]!]
    await symlink(generation, join(directory, '..data_tmp'))
    const reloaded = once(reloader, 'reloaded')
    const begin = performance.now()
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
    await reloaded
    if ((await served(port, { ca: set.ca })) !== set.leaf) throw new Error('not the new certificate')
    times.push(performance.now() - begin)
    const control = performance.now()
    await wait(base)
    await served(port, { ca: set.ca })
    controls.push(performance.now() - control)
  }
  server.close()
  await reloader.close()
  return { times, controls }
}

/** Rounds by turns, so that what else the machine does falls on both alike. */
async function compareHandshakes(scratch: string): Promise<void> {
  const directory = join(scratch, 'cost')
  const issuer = new Issuer()
  const set = await issuer.set(await issuer.authority())
  await writeTarget(targetAt(directory), set, { now: new Date() })
  const reloader = await ServerReloader.start(directory)
  const options = { requestCert: true }
  const kept = createServer(reloader.options(options), greet)
  reloader.attach(kept)
  const plain = createServer({ ...options, ca: set.ca, cert: set.cert, key: set.key }, greet)
  const client = { ca: set.ca, cert: set.cert, key: set.key }
  const ports = [await listen(plain), await listen(kept)]
  const times: [number[], number[]] = [[], []]
  for (const port of ports) await round(port, client)
  for (let turn = 0; turn < rounds; turn++) {
    for (const which of turn % 2 === 0 ? [0, 1] : [1, 0]) {
      times[which]!.push((await round(ports[which]!, client)) / handshakesPerRound)
    }
  }
  const [without, withIt] = times.map((values) => quantile(values, 0.5)) as [number, number]
  console.log(
    `handshake (mutual, loopback, median of ${rounds} rounds of ${handshakesPerRound}): ` +
      `${without.toFixed(3)} ms without, ${withIt.toFixed(3)} ms with the reloader, ratio ${(withIt / without).toFixed(3)}`,
  )
  for (const server of [kept, plain] as Server[]) server.close()
  await reloader.close()
}

async function round(port: number, client: ConnectionOptions): Promise<number> {
  const begin = performance.now()
  for (let count = 0; count < handshakesPerRound; count++) await served(port, client)
  return performance.now() - begin
}

function report(what: string, { times, controls }: SwapTimes, base: number): string {
  const over = (values: readonly number[]): string =>
    [0.5, 0.99].map((part) => `p${part * 100} ${(quantile(values, part) - base).toFixed(0)} ms`).join(', ')
  return `swap to first handshake ${what}, ${times.length} swaps, beyond it: ${over(times)}; a mere timer and handshake: ${over(controls)}`
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? NaN
}
