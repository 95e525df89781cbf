import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { freePort } from '../port.ts'
import { rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { generations, talkToAll } from './cells.ts'
import type { Generation } from './cells.ts'
import type { ClientName } from './clients.ts'
import { http, line } from './conversation.ts'
import { launch } from './processes.ts'
import type { ServerMake } from './server-make.ts'
import { gnutls } from './servers/gnutls.ts'
import { node } from './servers/node.ts'
import { openssl } from './servers/openssl.ts'
import { keepSet } from './sets.ts'
import type { SetDirectory } from './sets.ts'

/**
 * Acceptance 1 of issue 3: peers of different makes and key types, before and after a rotation, still accept each other
 * (I2). Servers of the other makes with every make of client, all with P-256, are in servers.test.ts.
 */

const leaves = ['ecdsa-p256', 'rsa-2048', 'ed25519'] as const
type Leaf = (typeof leaves)[number]

/** A rotated fleet of one leaf per key type; gives where the sets of either generation were kept. */
async function rotatedFleet(...flags: string[]): Promise<(leaf: Leaf, generation: Generation) => SetDirectory> {
  const cwd = temporaryDirectory()
  await rotateJson(['ca'], { cwd })
  for (const leaf of leaves) await rotateJson(['leaf', leaf, '--key', leaf, '--dns', 'localhost'], { cwd })
  const keep = (generation: Generation): void => {
    for (const leaf of leaves) keepSet(join(cwd, 'certs', leaf), join(cwd, generation, leaf))
  }
  keep('old')
  await rotateJson(['--overwrite', ...flags], { cwd })
  keep('new')
  return (leaf, generation) => join(cwd, generation, leaf)
}

type Server = Pick<ServerMake, 'name' | 'conversation' | 'start'>

const python: Server = {
  name: 'Python',
  conversation: line,
  start: ({ target, port }) => {
    const args = [join(import.meta.dirname, 'fixtures/echo_server.py'), target, String(port)]
    return launch({ program: 'python3', args, port, ready: /listening/ })
  },
}

interface Meeting {
  readonly server: readonly [Server, Leaf]
  readonly client: readonly [ClientName, Leaf]
}

const makes = ['OpenSSL', 'GnuTLS', 'Node', 'Python'] as const

/** Python's server with every client, and a server of every make with a client of another make and key type. */
const meetings: readonly Meeting[] = [
  ...makes.map((make): Meeting => ({ server: [python, 'ecdsa-p256'], client: [make, 'ecdsa-p256'] })),
  { server: [openssl, 'rsa-2048'], client: ['GnuTLS', 'ed25519'] },
  { server: [gnutls, 'ed25519'], client: ['OpenSSL', 'rsa-2048'] },
  { server: [{ ...node, conversation: http('/', 'hello, DNS:localhost') }, 'ed25519'], client: ['Python', 'ed25519'] },
  { server: [python, 'rsa-2048'], client: ['Node', 'rsa-2048'] },
]

/** Tries all four cells of a meeting: what came of each, null or why it failed. */
async function tryCells(
  setOf: Awaited<ReturnType<typeof rotatedFleet>>,
  { server: [{ conversation, start }, serverLeaf], client: [client, clientLeaf] }: Meeting,
): Promise<Record<string, string | null>> {
  const home = temporaryDirectory()
  const cells: Record<string, string | null> = {}
  for (const generation of generations) {
    const target = setOf(serverLeaf, generation)
    const port = await freePort()
    const server = await start({ home, run: home, target, port, backend: 0, asRoot: false })
    try {
      const sets = { old: setOf(clientLeaf, 'old'), new: setOf(clientLeaf, 'new') }
      for (const { age, failure } of await talkToAll(port, conversation, [client], sets)) {
        cells[`${generation} server, ${age} client`] = failure
      }
    } finally {
      await server.stop()
    }
  }
  return cells
}

describe.skipIf(missing('openssl', 'gnutls-serv', 'gnutls-cli', 'python3'))(
  'peers of different makes and key types',
  () => {
    it('exchange data in every cell of old and new server and client after --overwrite (I2)', async () => {
      const setOf = await rotatedFleet()
      for (const meeting of meetings) {
        expect(await tryCells(setOf, meeting), meeting.server[0].name).toEqual({
          'old server, old client': null,
          'old server, new client': null,
          'new server, old client': null,
          'new server, new client': null,
        })
      }
    })

    it('fail after --strategy replace --force in just the two cells that mix generations', async () => {
      const setOf = await rotatedFleet('--strategy', 'replace', '--force')
      for (const meeting of meetings) {
        const cells = await tryCells(setOf, meeting)
        expect(cells, meeting.server[0].name).toEqual({
          'old server, old client': null,
          'old server, new client': expect.any(String) as unknown,
          'new server, old client': expect.any(String) as unknown,
          'new server, new client': null,
        })
        // The answer was refused, not lost: nobody waited in vain.
        expect(Object.values(cells)).not.toContain('no answer')
      }
    })
  },
)
