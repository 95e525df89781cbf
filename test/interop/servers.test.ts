import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listen } from '../port.ts'
import { rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { failuresOf, generations, talkToAll } from './cells.ts'
import type { Generation, Talk } from './cells.ts'
import { clientMakes, plainClients, talkByNode } from './clients.ts'
import type { ClientName } from './clients.ts'
import { makeBackend } from './conversation.ts'
import { endJava } from './java.ts'
import { renderInterop, versionsIn } from './report.ts'
import type { Row } from './report.ts'
import { serverMakes } from './servers.ts'
import { leafAlone, nodeFiles } from './sets.ts'
import { Stand } from './stand.ts'

/** Issue 7: real servers, each rotated in its own way, and real clients. What they gave stands in docs/interop.md. */

const names = Object.keys(clientMakes) as ClientName[]
const available = names.filter((name) => !missing(...clientMakes[name].programs))
const rows: Row[] = []

const backend = makeBackend()
let backendPort = 0
/** What a client of another authority has. */
const stranger = join(temporaryDirectory(), 'server')
beforeAll(async () => {
  backendPort = await listen(backend)
  await rotateJson(['--dir', dirname(stranger), '--dns', 'client.test'])
})
afterAll(async () => {
  await endJava()
  backend.close()
})

for (const make of serverMakes) {
  const { name, conversation, takes, programs } = make
  describe.skipIf(missing(...programs))(name, () => {
    const clients = [...plainClients, ...make.clients].filter((client) => available.includes(client))
    const talks: Record<Generation, Talk[]> = { old: [], new: [] }
    let stand: Stand

    beforeAll(async () => {
      stand = await Stand.make(make, backendPort)
      await stand.start()
    })
    afterAll(() => stand.stop())

    const talk = (): Promise<Talk[]> => talkToAll(stand.place.port, conversation, clients, stand.clientSets())
    /** Why the new authority is not trusted by itself, without the old one's word for it; null when it is. */
    const distrust = (): Promise<string | null> =>
      talkByNode(leafAlone(stand.set('client', 'new')), stand.place.port, conversation)

    it('serves what certgen --overwrite has written', async () => {
      expect(await stand.probe()).toEqual([0, []])
      await stand.rotate(...(typeof takes === 'function' ? takes(stand.place) : []))
      if (takes === 'by restart') await stand.start()
      expect(await stand.probe('--wait', '20s'), stand.log()).toEqual([0, []])
    })

    if (takes === 'leaf by itself') {
      it('answers old and new clients, but does not trust the new authority, before the restart that it needs', async () => {
        expect(failuresOf(await talk()), stand.log()).toEqual({})
        expect(await distrust()).not.toBeNull()
        await stand.start()
      })
    }

    it('trusts the new authority, and answers old and new clients, once it has the new files (I2)', async () => {
      // For a moment after a reload some servers' old processes take connections as well.
      await expect.poll(distrust, { timeout: 20_000 }).toBeNull()
      talks.new = await talk()
      expect(failuresOf(talks.new), stand.log()).toEqual({})
    })

    it('answers no client without a certificate or of another authority, and none of another authority takes it', async () => {
      const { ca } = nodeFiles(stand.set('client', 'new'))
      expect(await talkByNode({ ...nodeFiles(stranger), ca }, stand.place.port, conversation)).not.toBeNull()
      expect(await talkByNode({ ca }, stand.place.port, conversation)).not.toBeNull()
      const strange = await talkToAll(stand.place.port, conversation, clients, { stranger })
      expect(strange.filter(({ failure }) => failure === null)).toEqual([])
    })

    it('answers old and new clients while it has the old files (I2)', async () => {
      await stand.start('old')
      talks.old = await talk()
      expect(failuresOf(talks.old), stand.log()).toEqual({})
    })

    // After the tests, whatever came of them: the table tells of failures, too.
    afterAll(() => {
      const cells = generations.flatMap((server) =>
        generations.map((client) => {
          const failed = talks[server].filter(({ age, failure }) => age === client && failure !== null)
          return { server, client, tried: talks[server].length > 0, failed: failed.map((each) => each.client) }
        }),
      )
      rows.push({ make, version: make.version(), clients, cells })
    })
  })
}

const programs = [...serverMakes, ...Object.values(clientMakes)].flatMap((make) => make.programs)

describe.skipIf(missing(...programs))('docs/interop.md', () => {
  const path = 'docs/interop.md'

  it('says what this run gave, but for the versions', async () => {
    const versions = Object.fromEntries(names.map((name) => [name, clientMakes[name].version()]))
    if (process.env['CERTGEN_WRITE_INTEROP']) writeFileSync(path, await renderInterop(rows, versions))
    const committed = readFileSync(path, 'utf8')
    expect(committed).toBe(await renderInterop(rows, versions, versionsIn(committed)))
  })
})
