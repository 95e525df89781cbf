import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, rotateJson, temporaryDirectory } from '../program.ts'
import { fingerprintOf, loadIdentity, visit, visitUntil } from './fixtures/visit.ts'
import type { Identity } from './fixtures/visit.ts'

/** The server in its own process, and the lines that it has printed. */
interface Server {
  readonly process: ChildProcess
  /** Resolves with the first line that matches, also when it was printed before. */
  readonly line: (pattern: RegExp) => Promise<string>
}

function serve(target: string): Server {
  const program = resolve('test/e2e/fixtures/watching-server.mjs')
  const process_ = spawn(process.execPath, [program, target], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  const waiting = new Set<(line: string) => void>()
  const reader = createInterface({ input: process_.stdout })
  reader.on('line', (line) => {
    lines.push(line)
    for (const look of waiting) look(line)
  })
  const line = (pattern: RegExp): Promise<string> =>
    new Promise((found, fail) => {
      const look = (candidate: string): boolean => {
        if (!pattern.test(candidate)) return false
        waiting.delete(look)
        found(candidate)
        return true
      }
      if (lines.some(look)) return
      waiting.add(look)
      reader.once('close', () => {
        fail(new Error(`the server ended; it said: ${lines.join('; ')}`))
      })
    })
  return { process: process_, line }
}

// Issue 2, acceptance 4.
describe('a Node server that watches its target', () => {
  const cwd = temporaryDirectory()
  const target = join(cwd, 'certs/server')
  let server: Server | null = null
  let port = 0
  /** A peer that has loaded the first generation and never looks again. */
  let first: Identity

  beforeAll(async () => {
    await rotateJson([], { cwd })
    first = loadIdentity(target)
    server = serve(target)
    port = Number((await server.line(/^listening /)).split(' ')[1])
  })
  afterAll(() => {
    server?.process.kill()
  })

  it('serves the new certificate after certgen --overwrite, in the same process, and no handshake fails on the way', async () => {
    const before = fingerprintOf(target)
    const pid = `${server!.process.pid ?? ''}\n`
    expect(await visit(port, first)).toEqual({ status: 200, served: before, body: pid })

    let after = ''
    const rotation = certgen(['--overwrite'], { cwd }).then((outcome) => {
      after = fingerprintOf(target)
      return outcome
    })
    const visits = await visitUntil(port, first, ({ served }) => served === after)
    expect((await rotation).code).toBe(0)
    expect(after).not.toBe(before)
    // The old one, then the new one, never anything else, and never back.
    expect([...new Set(visits.map(({ served }) => served))]).toEqual([before, after])
    const turn = visits.findIndex(({ served }) => served === after)
    expect(visits.slice(turn).every(({ served }) => served === after)).toBe(true)
    expect(visits.every(({ status, body }) => status === 200 && body === pid)).toBe(true)
    expect(await visit(port, loadIdentity(target))).toMatchObject({ status: 200, served: after })
  })

  it.each<[string, number, () => Promise<string[]>]>([
    ['a rotation that is refused', 4, () => Promise.resolve(['--overwrite', '--strategy', 'replace'])],
    [
      'an install of a set whose key is another one',
      3,
      async () => {
        await rotateJson(['--dir', 'others'], { cwd })
        const set = ['--cert', 'others/server/tls.crt', '--key', 'certs/server/tls.key', '--ca', 'others/server/ca.crt']
        return ['install', ...set, '--target', 'certs/server']
      },
    ],
  ])('still serves the old one after %s', async (_name, exitCode, command) => {
    const args = await command()
    const [before, tree] = [fingerprintOf(target), fingerprintTree(target)]
    expect((await certgen(args, { cwd })).code).toBe(exitCode)
    expect(fingerprintTree(target)).toEqual(tree)
    // Events come in order: once the server has seen this file, it has seen all that the failed run did.
    const mark = `mark-${exitCode}`
    writeFileSync(join(target, mark), '')
    expect(await server!.line(new RegExp(`^\\w+ ${mark} `))).toBe(`loaded ${mark} ${before}`)
    expect(await visit(port, first)).toMatchObject({ status: 200, served: before })
  })

  it('serves the next one after that, again without a restart', async () => {
    const before = fingerprintOf(target)
    // The first generation is two rotations ago: this peer has loaded the second.
    const second = loadIdentity(target)
    expect((await certgen(['--overwrite'], { cwd })).code).toBe(0)
    const after = fingerprintOf(target)
    const visits = await visitUntil(port, second, ({ served }) => served === after)
    expect(visits.every(({ served }) => [before, after].includes(served))).toBe(true)
  })
})
