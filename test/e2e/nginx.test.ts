import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeBackend, word } from '../interop/conversation.ts'
import type { RunningServer } from '../interop/processes.ts'
import type { Place } from '../interop/server-make.ts'
import { nginx } from '../interop/servers/nginx.ts'
import { freePort, listen } from '../port.ts'
import { certgen, fingerprintTree, output, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { fingerprintOf, loadIdentity, visit, visitUntil } from './fixtures/visit.ts'
import type { Identity, Visit } from './fixtures/visit.ts'

// Issue 2, acceptance 4.
describe.skipIf(missing('nginx'))('nginx over a target', () => {
  const cwd = temporaryDirectory()
  const target = join(cwd, 'certs/server')
  const backend = makeBackend()
  let place: Place
  let server: RunningServer
  /** A peer that has loaded the first generation and never looks again. */
  let first: Identity

  beforeAll(async () => {
    await rotateJson([], { cwd })
    first = loadIdentity(target)
    const home = temporaryDirectory()
    const asRoot = process.getuid?.() === 0
    place = { home, run: home, target, port: await freePort(), backend: await listen(backend), asRoot }
    await nginx.prepare?.(place)
    server = await nginx.start(place)
  })
  afterAll(async () => {
    await server.stop()
    backend.close()
  })

  /** Sends the reload signal and visits until the worker with the old configuration is gone. */
  async function reload(): Promise<Visit[]> {
    const gone = (): number => server.log().split('exited with code 0').length
    const before = gone()
    output('nginx', '-c', `${place.home}/nginx.conf`, '-s', 'reload')
    return visitUntil(place.port, first, () => gone() > before)
  }

  it('serves the new certificate after certgen --overwrite and a reload, and no request fails on the way', async () => {
    const before = fingerprintOf(target)
    expect(await visit(place.port, first)).toEqual({ status: 200, served: before, body: word })
    const pid = readFileSync(`${place.run}/nginx.pid`, 'utf8')
    expect((await certgen(['--overwrite'], { cwd })).code).toBe(0)
    const after = fingerprintOf(target)
    expect(after).not.toBe(before)
    // It loads on the signal, not before.
    expect((await visit(place.port, first)).served).toBe(before)

    const visits = await reload()
    expect((await visit(place.port, first)).served).toBe(after)
    expect(visits.every(({ status }) => status === 200)).toBe(true)
    expect(visits.every(({ served }) => [before, after].includes(served))).toBe(true)
    expect(await visit(place.port, loadIdentity(target))).toMatchObject({ status: 200, served: after })
    expect(readFileSync(`${place.run}/nginx.pid`, 'utf8')).toBe(pid)
  })

  it.each<[string, number, string[]]>([
    ['a rotation that is refused', 4, ['--overwrite', '--strategy', 'replace']],
    [
      'an install of a chain without a bundle that it belongs to',
      3,
      [
        ...['install', '--cert', 'others/server/tls.crt', '--key', 'others/server/tls.key'],
        ...['--ca', 'certs/server/ca.crt', '--target', 'certs/server'],
      ],
    ],
  ])('still serves the old one after %s and a reload', async (_name, exitCode, args) => {
    await rotateJson(['--dir', 'others'], { cwd })
    const [before, tree] = [fingerprintOf(target), fingerprintTree(target)]
    expect((await certgen(args, { cwd })).code).toBe(exitCode)
    const visits = await reload()
    visits.push(await visit(place.port, first))
    expect([...new Set(visits.map(({ served }) => served))]).toEqual([before])
    expect(visits.every(({ status }) => status === 200)).toBe(true)
    expect(fingerprintTree(target)).toEqual(tree)
  })

  it('has had nothing to complain of', () => {
    expect(server.log()).not.toMatch(/\[(warn|error|crit|alert|emerg)\]/)
  })
})
