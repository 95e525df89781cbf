import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, rotateJson, temporaryDirectory } from '../program.ts'
import { failingCells, loadPreviousSet, loadSet } from './fleet.ts'
import type { Service } from './fleet.ts'

/** Acceptance 5 of issue 3. */

const names = ['client', 'server'] as const
const target = (cwd: string, name: string): string => join(cwd, 'certs', name)

async function makeFleet(): Promise<string> {
  const cwd = temporaryDirectory()
  for (const name of names) await rotateJson(['--name', name], { cwd })
  return cwd
}

/** What is served, and by which authority. */
function loadFleet(cwd: string): { authority: string; services: Service[] } {
  const authority = ['ca.crt', 'ca.key'].map((name) => readFileSync(join(cwd, 'certs/ca', name), 'utf8')).join('')
  return { authority, services: names.map((name) => loadSet(target(cwd, name))) }
}

async function expectFourCells(cwd: string): Promise<void> {
  const [client, server] = await Promise.all(
    names.map(async (name) => ({ old: await loadPreviousSet(target(cwd, name)), new: loadSet(target(cwd, name)) })),
  )
  for (const [one, other] of [
    [server, client],
    [client, server],
    [server, server],
  ] as const) {
    expect(await failingCells(one!, other)).toEqual([])
  }
}

async function rollback(cwd: string, ...args: string[]): Promise<{ leaves: object[] }> {
  const { code, stdout, stderr } = await certgen(['rollback', ...args, '--json'], { cwd })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as { leaves: object[] }
}

describe('certgen rollback', () => {
  it('after a rotation serves the old leaves again, by the old authority, and all four cells succeed', async () => {
    const cwd = await makeFleet()
    const before = loadFleet(cwd)
    await rotateJson(['--overwrite'], { cwd })
    const report = await rollback(cwd)
    expect(loadFleet(cwd)).toEqual(before)
    await expectFourCells(cwd)
    const sha256 = (name: string): string =>
      new X509Certificate(readFileSync(join(target(cwd, name), 'tls.crt'))).fingerprint256
        .replaceAll(':', '')
        .toLowerCase()
    expect(report).toMatchObject({
      command: 'rollback',
      changed: true,
      authority: { changed: true },
      leaves: names.map((name) => ({ name, changed: true, sha256: sha256(name) })),
    })
    // What was rolled back to is a whole fleet: there is nothing to do.
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('twice returns to where it was', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    const after = loadFleet(cwd)
    await rollback(cwd)
    await rollback(cwd)
    expect(loadFleet(cwd)).toEqual(after)
    await expectFourCells(cwd)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('is followed by a rotation as ever', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    await rollback(cwd)
    expect((await rotateJson(['--overwrite'], { cwd })).preflight.every(({ ok }) => ok)).toBe(true)
    await expectFourCells(cwd)
  })

  it('of NAME returns that target alone, and its peers accept it', async () => {
    const cwd = await makeFleet()
    const before = loadFleet(cwd)
    await rotateJson(['--overwrite'], { cwd })
    const after = loadFleet(cwd)
    const report = await rollback(cwd, 'client')
    expect(report.leaves).toMatchObject([{ name: 'client', changed: true }])
    const [client, server] = loadFleet(cwd).services
    expect([client, server]).toEqual([before.services[0], after.services[1]])
    expect(loadFleet(cwd).authority).toBe(after.authority)
    await expectFourCells(cwd)
  })

  it('after a renewal that kept the authority keeps it too: its leaves are the ones that return', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    const before = loadFleet(cwd)
    await rotateJson(['--overwrite', '--keep-ca'], { cwd })
    await rollback(cwd)
    expect(loadFleet(cwd)).toEqual(before)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('after a rotation that was interrupted returns the authority to the leaves that are served', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    const before = loadFleet(cwd)
    await rotateJson(['ca', '--overwrite'], { cwd })
    await rollback(cwd)
    expect(loadFleet(cwd)).toEqual(before)
    expect((await rotateJson([], { cwd })).changed).toBe(false)
  })

  it('writes nothing with --dry-run', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite'], { cwd })
    const before = fingerprintTree(join(cwd, 'certs'))
    expect(await rollback(cwd, '--dry-run')).toMatchObject({ dryRun: true, changed: false })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
  })

  it.each([[[]], [['server']], [['absent']]])('%j is exit 3 where there is nothing to return to', async (args) => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const before = fingerprintTree(target(cwd, 'server'))
    const { code, stderr } = await certgen(['rollback', ...args], { cwd })
    expect(code).toBe(3)
    expect(stderr).toMatch(/^certgen: error: there is no previous generation of .*\ncertgen: hint: /)
    expect(fingerprintTree(target(cwd, 'server'))).toEqual(before)
  })

  it('is exit 4 where a handshake would break: after a forced replace', async () => {
    const cwd = await makeFleet()
    await rotateJson(['--overwrite', '--strategy', 'replace', '--force'], { cwd })
    const before = loadFleet(cwd)
    const { code, stderr } = await certgen(['rollback'], { cwd })
    expect(code).toBe(4)
    expect(stderr).toMatch(/the rollback would break 2 handshakes; nothing was written/)
    expect(loadFleet(cwd)).toEqual(before)
  })
})
