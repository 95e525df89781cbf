import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listen } from '../port.ts'
import { start } from '../program.ts'
import { missing } from '../requirements.ts'
import { talkByNode } from './clients.ts'
import { makeBackend } from './conversation.ts'
import { end } from './processes.ts'
import { serverMakes } from './servers.ts'
import { nodeFiles } from './sets.ts'
import { Stand } from './stand.ts'

/** Servers that know nothing of certgen: `certgen watch` beside them makes them load what is new. */

const backend = makeBackend()
let backendPort = 0
beforeAll(async () => {
  backendPort = await listen(backend)
})
afterAll(() => void backend.close())

for (const make of serverMakes) {
  const { name, takes, conversation, programs } = make
  if (typeof takes !== 'function') continue
  describe.skipIf(missing(...programs))(`${name} with certgen watch beside it`, () => {
    let stand: Stand
    let watcher: ChildProcess | null = null

    beforeAll(async () => {
      stand = await Stand.make(make, backendPort)
      await stand.start()
    })
    afterAll(async () => {
      // The watcher before the server that it signals.
      if (watcher) await end(watcher)
      await stand.stop()
    })

    it('serves what is new as long as the watcher runs, and only then', async () => {
      await stand.rotate()
      expect(await stand.probe()).toEqual([7, ['old-leaf']])

      watcher = start(['watch', stand.place.target, '--json', ...takes(stand.place)])
      const [out, err] = [watcher.stdout, watcher.stderr].map((stream): AsyncIterator<string, undefined> =>
        createInterface({ input: stream! })[Symbol.asyncIterator](),
      )
      expect((await err!.next()).value).toContain(`certgen: watching ${stand.place.target}: `)
      const peer = nodeFiles(stand.set('client', 'new'))
      await stand.rotate()
      expect(await stand.probe('--wait', '30s'), stand.log()).toEqual([0, []])
      const said = async (): Promise<unknown> => JSON.parse((await out!.next()).value ?? 'null')
      expect(await said()).toMatchObject({ type: 'reloaded', directory: stand.place.target })
      expect(await said()).toMatchObject({ type: 'action', ok: true, attempt: 1 })
      expect(await talkByNode(peer, stand.place.port, conversation)).toBeNull()

      expect(await end(watcher)).toEqual([0, null])
      await stand.rotate()
      expect(await stand.probe()).toEqual([7, ['old-leaf']])
    })
  })
}
