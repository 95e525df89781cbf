import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { acquireLock } from '../../src/store/lock.ts'
import { certgen, output, rotateJson, start, temporaryDirectory } from '../program.ts'
import type { JsonReport } from '../program.ts'
import { missing } from '../requirements.ts'
import { failingCells, loadPreviousSet, loadSet } from './fleet.ts'

/** Acceptance 4 of issue 3. */

const names = ['client', 'server'] as const

async function makeFleet(): Promise<string> {
  const cwd = temporaryDirectory()
  for (const name of names) await rotateJson(['--name', name], { cwd })
  return cwd
}

/** Every set verifies by itself, and the last two generations of any two services accept each other. */
async function expectWholeFleet(cwd: string): Promise<void> {
  const services = new Map<string, Parameters<typeof failingCells>[0]>()
  for (const name of names) {
    const target = join(cwd, 'certs', name)
    const verdict = output('openssl', 'verify', '-CAfile', join(target, 'ca.crt'), join(target, 'tls.crt'))
    expect(verdict).toContain(': OK')
    services.set(name, { old: await loadPreviousSet(target), new: loadSet(target) })
  }
  for (const server of services.values()) {
    for (const client of services.values()) expect(await failingCells(server, client)).toEqual([])
  }
}

describe.skipIf(missing('openssl'))('twenty certgen --overwrite at once', () => {
  it('rotate one after the other, each upon the authority of the one before', async () => {
    const cwd = await makeFleet()
    const { authority: first } = await rotateJson([], { cwd })
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => certgen(['--overwrite', '--json'], { cwd })))
    expect(outcomes.map(({ code }) => code)).toEqual(Array.from({ length: 20 }, () => 0))
    const reports = outcomes.map(({ stdout }) => JSON.parse(stdout) as JsonReport)
    // Each carries over the authority of exactly one other: a line without a fork, from the first to the last.
    const successors = new Map(reports.map(({ authority }) => [authority.carriedOver, authority.sha256]))
    let [last, length] = [first.sha256, 0]
    for (let next = successors.get(last); next !== undefined; next = successors.get(last))
      [last, length] = [next, length + 1]
    expect(length).toBe(20)
    const after = await rotateJson([], { cwd })
    expect(after).toMatchObject({ changed: false, authority: { sha256: last } })
    await expectWholeFleet(cwd)
  })

  it('exit with 0, or with 6 where the lock was not had in time, and leave a whole fleet', async () => {
    const cwd = await makeFleet()
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => certgen(['--overwrite', '--lock-timeout', '1s', '--json'], { cwd })),
    )
    const done = outcomes.filter(({ code }) => code === 0)
    const refused = outcomes.filter(({ code }) => code === 6)
    expect(done.length).toBeGreaterThan(0)
    expect(done.length + refused.length).toBe(20)
    for (const { stdout } of refused) {
      expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'lock-held', exitCode: 6 } })
    }
    await expectWholeFleet(cwd)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })
})

describe.skipIf(missing('openssl'))('the lock of a fleet', () => {
  it('is waited for until --lock-timeout, then exit 6 says who holds it, and a run with nothing to do needs none', async () => {
    const cwd = await makeFleet()
    const lock = await acquireLock(join(cwd, 'certs/ca'), { timeoutMs: 0 })
    const { code, stderr } = await certgen(['--overwrite', '--lock-timeout', '1s'], { cwd })
    expect(code).toBe(6)
    expect(stderr).toMatch(new RegExp(`certgen: error: another certgen holds the lock: pid ${process.pid} on `))
    expect(stderr).toMatch(/certgen: hint: .*--lock-timeout/)
    expect((await rotateJson(['--lock-timeout', '1s'], { cwd })).changed).toBe(false)
    const waiting = certgen(['--overwrite', '--json'], { cwd })
    await lock.release()
    expect((await waiting).code).toBe(0)
  })

  it('of a run that was killed with -9 does not block the next one, which leaves a whole fleet', async () => {
    const cwd = await makeFleet()
    for (let round = 0; round < 3; round++) {
      const lockDirectory = join(cwd, 'certs/ca/..lock')
      const child = start(['--overwrite'], { cwd })
      const exited = once(child, 'exit')
      while (!existsSync(lockDirectory) && child.exitCode === null) await new Promise((turn) => setImmediate(turn))
      child.kill('SIGKILL')
      await exited
      expect([child.signalCode, existsSync(lockDirectory)]).toEqual(['SIGKILL', true])
      // Less than what a holder gets that cannot be looked at.
      const { code, stderr } = await certgen(['--overwrite', '--lock-timeout', '5s'], { cwd })
      expect({ code, stderr }).toMatchObject({ code: 0 })
      await expectWholeFleet(cwd)
    }
  })
})
