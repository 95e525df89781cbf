import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseDuration } from '../../src/pki/lifetime.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { certgen, pemBlocks, rotateJson, temporaryDirectory } from '../program.ts'
import { failingCells, later, loadPreviousSet, loadSet, requestFor } from './fleet.ts'

/** I7: `certgen ca --overwrite` leaves the targets behind, as a rotation does that was killed after its first write. */

const names = ['client', 'server'] as const

async function interruptedFleet(): Promise<string> {
  const cwd = temporaryDirectory()
  for (const name of names) await rotateJson(['--name', name], { cwd })
  const report = await rotateJson(['ca', '--overwrite'], { cwd })
  expect(report.authority).toMatchObject({ changed: true, crossSigned: true })
  return cwd
}

const target = (cwd: string, name: string): string => join(cwd, 'certs', name)

/** No peer that has loaded either of the last two generations refuses another. */
async function expectFourCells(cwd: string): Promise<void> {
  const [client, server] = await Promise.all(
    names.map(async (name) => ({
      old: await loadPreviousSet(target(cwd, name)),
      new: loadSet(target(cwd, name)),
    })),
  )
  expect(await failingCells(server!, client)).toEqual([])
  expect(await failingCells(client!, server)).toEqual([])
}

describe('a rotation that was interrupted after the authority (I7)', () => {
  it.each([
    [[]],
    [['--renew']],
    [['ca']],
    [['leaf', 'client']],
    [['ca', '--overwrite']],
    [['--overwrite', '--keep-ca']],
  ])('is finished by the next certgen %j, which reports it', async (args) => {
    const cwd = await interruptedFleet()
    const authority = readFileSync(join(cwd, 'certs/ca/ca.crt'), 'utf8')
    const report = await rotateJson(args, { cwd })
    expect(report).toMatchObject({
      changed: true,
      authority: { changed: false, crossSigned: true },
      leaves: names.map((name) => ({ name, reason: 'unfinished', changed: true })),
    })
    expect(report.preflight.length).toBeGreaterThanOrEqual(4)
    expect(report.preflight.every(({ ok }) => ok)).toBe(true)
    expect(readFileSync(join(cwd, 'certs/ca/ca.crt'), 'utf8')).toBe(authority)
    await expectFourCells(cwd)
    expect(await rotateJson([], { cwd })).toMatchObject({
      changed: false,
      leaves: names.map((name) => ({ name, reason: 'kept' })),
    })
  })

  it('is finished first by a second --overwrite, which never drops the CA that a live leaf chains to', async () => {
    const cwd = await interruptedFleet()
    const [old] = pemBlocks(join(target(cwd, 'server'), 'ca.crt'))
    const [current] = pemBlocks(join(cwd, 'certs/ca/ca.crt'))
    const { code, stdout, stderr } = await certgen(['--overwrite', '--json'], { cwd })
    expect(code).toBe(0)
    expect(stderr).toMatch(/certgen: warning: an interrupted rotation was found and is finished by this run/)
    expect(JSON.parse(stdout)).toMatchObject({ authority: { changed: false }, warnings: [{ code: 'finished-first' }] })
    for (const name of names) expect(pemBlocks(join(target(cwd, name), 'ca.crt'))).toEqual([current, old])
    await expectFourCells(cwd)
  })

  it('rotates with the --overwrite after that, and the four cells hold again', async () => {
    const cwd = await interruptedFleet()
    await rotateJson(['--overwrite'], { cwd })
    const report = await rotateJson(['--overwrite'], { cwd })
    expect(report).toMatchObject({
      authority: { changed: true },
      leaves: [{ reason: 'overwrite' }, { reason: 'overwrite' }],
    })
    await expectFourCells(cwd)
  })

  it('is finished also where only one target was left behind; the others are kept', async () => {
    const cwd = await interruptedFleet()
    const before = loadSet(target(cwd, 'server'))
    await rotateJson([], { cwd })
    const others = loadSet(target(cwd, 'server'))
    // As if the run had been killed between its two targets.
    await rotateJson(['rollback', 'client'], { cwd })
    const report = await rotateJson([], { cwd })
    expect(report.leaves).toMatchObject([
      { name: 'client', reason: 'unfinished' },
      { name: 'server', reason: 'kept' },
    ])
    expect(loadSet(target(cwd, 'server'))).toEqual(others)
    expect(
      await failingCells({ old: before, new: others }, { old: before, new: loadSet(target(cwd, 'client')) }),
    ).toEqual([])
  })
})

describe('a rotation soon after the last', () => {
  it('warns that peers may not have loaded it yet, and one after --settle does not', async () => {
    const cwd = temporaryDirectory()
    await rotateJson([], { cwd })
    const soon = await certgen(['--overwrite', '--json'], { cwd })
    expect(soon.code).toBe(0)
    expect(soon.stderr).toMatch(/^certgen: warning: .*not loaded it yet/)
    expect(JSON.parse(soon.stdout)).toMatchObject({ changed: true, warnings: [{ code: 'not-settled' }] })
    const request = requestFor(join(cwd, 'certs'), { mode: 'overwrite', settle: parseDuration('60s') })
    expect(await rotate(request, later(61))).toMatchObject({ changed: true, warnings: [] })
  })
})
