// A thousand rotations of the authority under steady mutual-TLS load: what fails, and what grows.
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Authority } from '../src/pki/authority.ts'
import { ServerReloader, TrustReloader } from '../src/reload/index.ts'
import { targetAt, writeTarget } from '../src/store/target-store.ts'
import { Issuer } from '../test/reload/issuer.ts'
import type { SetRequest } from '../test/reload/issuer.ts'
import { greet, listen, served } from '../test/reload/peers.ts'

const clients = 4
/** Milliseconds between a client's handshakes: a steady load, not as much as the machine can bear. */
const pace = 20
const options = { debounce: 10, poll: 1000 }

export async function measure(scratch: string, [rotationsText = '1000']: readonly string[]): Promise<void> {
  const rotations = Number(rotationsText)
  const directories = [join(scratch, 'server'), join(scratch, 'client')]
  const issuer = new Issuer()
  let authority = await issuer.authority()

  const publish = async (current: Authority, request: SetRequest): Promise<void> => {
    for (const directory of directories) {
      await writeTarget(targetAt(directory), await issuer.set(current, request), { now: new Date() })
    }
  }
  await publish(authority, {})
  const reloader = await ServerReloader.start(directories[0]!, options)
  const trust = await TrustReloader.start(directories[1]!, options)
  const server = createServer(reloader.options({ requestCert: true, minVersion: 'TLSv1.3' }), greet)
  reloader.attach(server)
  let refused = 0
  for (const follower of [reloader, trust]) follower.on('failed', ({ message }) => console.log(++refused, message))
  const port = await listen(server)

  const stop = new AbortController()
  let handshakes = 0
  let failed = 0
  const load = Array.from({ length: clients }, async () => {
    while (!stop.signal.aborted) {
      await served(port, trust.options()).then(
        () => handshakes++,
        (error: unknown) => console.log(++failed, error),
      )
      await wait(pace)
    }
  })
  const resources = (): string => {
    collect()
    const listeners = [reloader, trust, server].map((emitter) =>
      emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name as never), 0),
    )
    const fds = readdirSync('/proc/self/fd').length
    const { heapUsed, rss } = process.memoryUsage()
    return `${fds} fds, ${listeners.join('+')} listeners, heap ${mebibytes(heapUsed)}, resident ${mebibytes(rss)}`
  }

  const begin = performance.now()
  for (let rotation = 1; rotation <= rotations; rotation++) {
    const successor = await issuer.authority()
    const cross = await issuer.cross(successor, authority)
    const followed = Promise.all([reloader, trust].map((follower) => once(follower, 'reloaded')))
    await publish(successor, { bundle: [successor.certificate, authority.certificate], cross: [cross] })
    await followed
    authority = successor
    if (rotation === 1 || rotation % Math.ceil(rotations / 10) === 0) {
      console.log(`rotation ${rotation}: ${handshakes} handshakes, ${failed} failed, ${resources()}`)
    }
  }
  stop.abort()
  await Promise.all(load)
  const seconds = ((performance.now() - begin) / 1000).toFixed(0)
  console.log(
    `${rotations} rotations in ${seconds} s, ${handshakes} mutual handshakes: ` +
      `${failed} failed, ${refused} sets refused`,
  )
  server.close()
  await Promise.all([reloader.close(), trust.close()])
}

function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  gc()
}

function mebibytes(octets: number): string {
  return `${(octets / 2 ** 20).toFixed(1)} MiB`
}
