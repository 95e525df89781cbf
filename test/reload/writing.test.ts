import { once } from 'node:events'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pass } from 'node:timers/promises'
import { createServer } from 'node:tls'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../src/pki/authority.ts'
import { ServerReloader } from '../../src/reload/index.ts'
import type { FailedEvent, ReloadedEvent } from '../../src/reload/index.ts'
import { targetAt, writeTarget } from '../../src/store/target-store.ts'
import { temporaryDirectory } from '../program.ts'
import { Issuer } from './issuer.ts'
import type { IssuedSet } from './issuer.ts'
import { greet, listen, next, quick, replaceFile, served, writePlain } from './peers.ts'

/** Where one way of writing plays: `path` is what the server was told to follow. */
interface Scene {
  readonly path: string
  readonly scratch: string
}

interface Way {
  readonly name: string
  readonly before: (scene: Scene, set: IssuedSet) => Promise<unknown>
  readonly write: (scene: Scene, set: IssuedSet) => Promise<unknown>
}

const plain = ({ path }: Scene, set: IssuedSet): Promise<void> => writePlain(path, set)
const byCertgen = ({ path }: Scene, set: IssuedSet): Promise<unknown> =>
  writeTarget(targetAt(path), set, { now: new Date() })

/** As the kubelet does: a fresh directory, then `..data` renamed over. */
async function byKubelet({ path }: Scene, set: IssuedSet): Promise<void> {
  await mkdir(path, { recursive: true })
  const generation = await mkdtemp(join(path, '..2026_11_24_01_02_03.'))
  await writePlain(generation, set)
  await symlink(generation.slice(path.length + 1), join(path, '..data_tmp'))
  await rename(join(path, '..data_tmp'), join(path, '..data'))
  for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
    await symlink(join('..data', name), join(path, name)).catch(() => undefined)
  }
}

async function byRenameOver({ path }: Scene, set: IssuedSet): Promise<void> {
  const files = { 'ca.crt': set.ca, 'tls.crt': set.cert, 'tls.key': set.key }
  for (const [name, data] of Object.entries(files)) {
    await writeFile(join(path, `.${name}.new`), data)
    await rename(join(path, `.${name}.new`), join(path, name))
  }
}

/** The certificates, a pause in which the server sees a pair that does not match, and the key. */
function inTwoSteps(pause: number) {
  return async ({ path }: Scene, set: IssuedSet): Promise<void> => {
    await writeFile(join(path, 'ca.crt'), set.ca)
    await writeFile(join(path, 'tls.crt'), set.cert)
    await pass(pause)
    await writeFile(join(path, 'tls.key'), set.key)
  }
}

async function byReplacing({ path, scratch }: Scene, set: IssuedSet): Promise<void> {
  const fresh = join(scratch, 'fresh')
  await writePlain(fresh, set)
  await rename(path, join(scratch, 'gone'))
  await rename(fresh, path)
}

async function byRemoving({ path }: Scene, set: IssuedSet): Promise<void> {
  await rm(path, { recursive: true })
  await writePlain(path, set)
}

async function linked({ path, scratch }: Scene, set: IssuedSet): Promise<void> {
  const version = await mkdtemp(join(scratch, 'version-'))
  await writePlain(version, set)
  await symlink(version, `${path}.new`)
  await rename(`${path}.new`, path)
}

/** The directory stands still; a link above it is swapped. */
async function linkedAbove({ path, scratch }: Scene, set: IssuedSet): Promise<void> {
  const version = await mkdtemp(join(scratch, 'release-'))
  await writePlain(join(version, 'deep', 'tls'), set)
  const link = join(path, '../..')
  await symlink(version, `${link}.new`)
  await rename(`${link}.new`, link)
}

/** The shape of certbot's `live`: each file a link to somewhere else. */
async function linkedFiles({ path, scratch }: Scene, set: IssuedSet): Promise<void> {
  const version = await mkdtemp(join(scratch, 'archive-'))
  await writePlain(version, set)
  await mkdir(path, { recursive: true })
  for (const name of ['ca.crt', 'tls.crt', 'tls.key']) {
    await symlink(join(version, name), join(path, `.${name}`))
    await rename(join(path, `.${name}`), join(path, name))
  }
}

const ways: readonly Way[] = [
  { name: 'certgen itself', before: byCertgen, write: byCertgen },
  { name: 'certgen, taking over a plain directory', before: plain, write: byCertgen },
  { name: 'a Kubernetes-style ..data swap', before: byKubelet, write: byKubelet },
  { name: 'plain rename-over', before: plain, write: byRenameOver },
  { name: 'in-place overwrite in two steps with a pause', before: plain, write: inTwoSteps(150) },
  { name: 'certificate first and key three seconds later', before: plain, write: inTwoSteps(3000) },
  { name: 'directory replaced', before: plain, write: byReplacing },
  { name: 'directory removed and made again', before: plain, write: byRemoving },
  { name: 'symlinked directory swapped', before: linked, write: linked },
  { name: 'symlink above the directory swapped', before: linkedAbove, write: linkedAbove },
  { name: 'symlinked files swapped', before: linkedFiles, write: linkedFiles },
]

describe('each way of writing ends with the new pair, never a mismatched one, and no failed handshake', () => {
  const scratch = temporaryDirectory()
  const issuer = new Issuer()
  let authority: Authority
  let sets: [IssuedSet, IssuedSet, IssuedSet]

  beforeAll(async () => {
    authority = await issuer.authority()
    const successor = await issuer.authority()
    const rotated = {
      bundle: [successor.certificate, authority.certificate],
      cross: [await issuer.cross(successor, authority)],
    }
    sets = [await issuer.set(authority), await issuer.set(successor, rotated), await issuer.set(successor, rotated)]
  })

  for (const way of ways) {
    it.each([
      ['with events', quick],
      ['with the poll alone', { debounce: 20, poll: 40, events: false }],
    ])(`${way.name}, %s`, async (_, options) => {
      const place = await mkdtemp(join(scratch, 'scene-'))
      const path = way.before === linkedAbove ? join(place, 'link', 'deep', 'tls') : join(place, 'tls')
      const scene: Scene = { path, scratch: place }
      await way.before(scene, sets[0])
      const reloader = await ServerReloader.start(path, options)
      const server = createServer(reloader.options({ requestCert: true, rejectUnauthorized: true }), greet)
      server.on('tlsClientError', (error) => expect.fail(String(error)))
      reloader.attach(server)
      const port = await listen(server)
      const client = { ca: authority.certificate.x509.toString(), cert: sets[0].cert, key: sets[0].key }

      const stop = new AbortController()
      const seen = new Set<string>()
      const load = (async () => {
        while (!stop.signal.aborted) seen.add(await served(port, client))
      })()

      for (const set of [sets[1], sets[2]]) {
        const reloaded = arrival(reloader, set.leaf)
        // A second time the leftovers of the first are in the way.
        await rm(join(place, 'gone'), { recursive: true, force: true })
        await way.write(scene, set)
        const event = await reloaded
        expect(event.trigger).toBe('events' in options ? 'poll' : 'event')
        expect(await served(port, client)).toBe(set.leaf)
      }
      stop.abort()
      await load
      expect([...seen].filter((leaf) => !sets.some((set) => set.leaf === leaf))).toEqual([])
      server.close()
      await once(server, 'close')
      await reloader.close()
    })
  }

  /** The event with which a leaf comes into use, whatever comes before it. */
  async function arrival(reloader: ServerReloader, leaf: string): Promise<ReloadedEvent> {
    for (;;) {
      const event = await next<ReloadedEvent>(reloader, 'reloaded')
      if (event.new.leaf?.sha256 === leaf) return event
    }
  }

  it('tells of the mismatch while it lasts, and that the old one is still served', async () => {
    const path = await mkdtemp(join(scratch, 'mismatch-'))
    await writePlain(path, sets[1])
    const reloader = await ServerReloader.start(path, quick)
    const failed = next<FailedEvent>(reloader, 'failed')
    await replaceFile(join(path, 'tls.key'), sets[2].key)
    const { code, findings, current } = await failed
    expect(code).toBe('unusable')
    expect(findings.map((finding) => finding.code)).toEqual(['key-mismatch'])
    expect(current.leaf?.sha256).toBe(sets[1].leaf)
    await reloader.close()
  })
})
