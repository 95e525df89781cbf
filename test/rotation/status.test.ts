import { X509Certificate, createHash } from 'node:crypto'
import { cpSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { dueAt, parseDuration } from '../../src/pki/lifetime.ts'
import { dnsName } from '../../src/pki/names.ts'
import { isIdle, makePlan } from '../../src/rotation/plan.ts'
import { defaults } from '../../src/rotation/request.ts'
import type { AskedLeaf } from '../../src/rotation/request.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { takeSnapshot } from '../../src/rotation/snapshot.ts'
import { status, statusAll } from '../../src/rotation/status.ts'
import type { StatusReport, StatusRequest, TargetStatus } from '../../src/rotation/status.ts'
import { directoryAuthority } from '../../src/store/authority-store.ts'
import { directoryTarget, mirroredTarget, targetAt } from '../../src/store/target-store.ts'
import { certgen, fingerprintTree, rotateJson, temporaryDirectory } from '../program.ts'
import { failure } from '../failure.ts'
import { later, namedLeaf, requestFor } from './fleet.ts'

const days = (count: number): Date => new Date(Date.now() + count * 86_400_000)
const target = (cwd: string, name: string): string => join(cwd, 'certs', name)

/** A request as the command line makes it without flags. */
function statusRequest(cwd: string, changes: Partial<StatusRequest> = {}): StatusRequest {
  const dir = join(cwd, 'certs')
  return {
    name: null,
    authority: { store: directoryAuthority({ directory: join(dir, 'ca') }) },
    leaves: [],
    discovery: { dir, except: [] },
    settle: defaults.settle,
    ...changes,
  }
}

async function makeFleet(...names: string[]): Promise<string> {
  const cwd = temporaryDirectory()
  await rotateJson(['ca'], { cwd })
  for (const name of names) await rotateJson(['leaf', name, '--dns', `${name}.test`], { cwd })
  return cwd
}

const states = ({ targets }: StatusReport): Record<string, string> =>
  Object.fromEntries(targets.map(({ name, state }) => [name, state]))

function targetOf({ targets }: StatusReport, name: string): TargetStatus {
  const found = targets.find((candidate) => candidate.name === name)
  if (!found) throw new Error(`there is no ${name}`)
  return found
}

const codes = ({ attention }: Pick<TargetStatus, 'attention'>): string[] => attention.map(({ code }) => code)

function overwriteGeneration(directory: string, file: string, data: string): void {
  writeFileSync(join(directory, readlinkSync(join(directory, '..data')), file), data)
}

describe('the status of a fleet', () => {
  it('says of each certificate what node:crypto reads in it, and writes nothing', async () => {
    const cwd = await makeFleet('server')
    const before = fingerprintTree(cwd)
    const report = await status(statusRequest(cwd), new Date())
    expect(fingerprintTree(cwd)).toEqual(before)
    expect(report.ok).toBe(true)
    const leaf = new X509Certificate(readFileSync(join(target(cwd, 'server'), 'tls.crt')))
    expect(targetOf(report, 'server')).toMatchObject({
      path: target(cwd, 'server'),
      state: 'ok',
      attention: [],
      leaf: {
        subject: leaf.subject,
        issuer: leaf.issuer,
        serialNumber: leaf.serialNumber,
        sha256: createHash('sha256').update(leaf.raw).digest('hex'),
        notBefore: new Date(leaf.validFrom),
        notAfter: new Date(leaf.validTo),
        names: ['DNS:server.test'],
        key: 'ecdsa-p256',
      },
      crossSigned: false,
      carriedOver: null,
      undelivered: [],
    })
    const root = new X509Certificate(readFileSync(join(cwd, 'certs/ca/ca.crt')))
    expect(report.authorities).toMatchObject([
      { state: 'ok', keyState: 'usable', previous: null, successor: null, certificate: { subject: root.subject } },
    ])
  })

  it('says due from the second on in which certgen --renew would reissue, and so of the authority', async () => {
    const cwd = await makeFleet('server')
    const report = await status(statusRequest(cwd), new Date())
    const server = targetOf(report, 'server').dueAt!
    const authority = report.authorities[0]!.dueAt!
    const request = requestFor(join(cwd, 'certs'), { mode: 'renew' })
    // A leaf that is due, or has ended, is due before its authority is; of that a plan speaks only while leaves live.
    for (const [instant, leafIsDue] of [
      [new Date(server.getTime() - 1), false],
      [server, true],
    ] as const) {
      const plan = makePlan(await takeSnapshot(request, instant), request, instant)
      expect(plan.leaves[0]!.reason).toBe(leafIsDue ? 'due' : 'kept')
      expect(states(await status(statusRequest(cwd), instant))).toEqual({ server: leafIsDue ? 'due' : 'ok' })
    }
    for (const [instant, authorityIsDue] of [
      [new Date(authority.getTime() - 1), false],
      [authority, true],
    ] as const) {
      const plan = makePlan(await takeSnapshot(request, instant), request, instant)
      expect(plan.authority.action).toBe(authorityIsDue ? 'rotate' : 'keep')
      const [row] = (await status(statusRequest(cwd), instant)).authorities
      expect(row!.state).toBe(authorityIsDue ? 'due' : 'ok')
    }
  })

  it('goes by renewBefore, that of the request before that of the leaf', async () => {
    const cwd = await makeFleet('server')
    const leaf: AskedLeaf = { ...namedLeaf(join(cwd, 'certs'), 'server'), renewBefore: parseDuration('80d') }
    const asked = statusRequest(cwd, { leaves: [leaf] })
    expect(states(await status(asked, days(9)))).toEqual({ server: 'ok' })
    expect(states(await status(asked, days(11)))).toEqual({ server: 'due' })
    const sooner = { ...asked, renewBefore: parseDuration('10d') }
    expect(states(await status(sooner, days(79)))).toEqual({ server: 'ok' })
    expect(states(await status(sooner, days(81)))).toEqual({ server: 'due' })
  })

  it('tells what has ended and what has not begun, and says nothing else of their dates', async () => {
    const cwd = await makeFleet('server')
    const { leaf } = targetOf(await status(statusRequest(cwd), new Date()), 'server')
    const ended = await status(statusRequest(cwd), days(91))
    expect(targetOf(ended, 'server').attention).toEqual([{ code: 'expired', since: leaf!.notAfter }])
    const early = await status(statusRequest(cwd), days(-1))
    expect(targetOf(early, 'server').attention).toEqual([{ code: 'not-yet-valid', until: leaf!.notBefore }])
    expect(early.authorities[0]!.state).toBe('not-yet-valid')
    const late = await status(statusRequest(cwd), days(6 * 365))
    expect(late.authorities[0]!.attention).toMatchObject([{ code: 'expired' }])
    expect(late.ok).toBe(false)
  })

  it('puts first what needs attention, then what is due soonest', async () => {
    const cwd = await makeFleet('long', 'short', 'broken')
    await rotateJson(['leaf', 'short', '--validity', '30d', '--renew'], { cwd })
    overwriteGeneration(target(cwd, 'broken'), 'tls.crt', 'no certificate\n')
    const asked = { leaves: [namedLeaf(join(cwd, 'certs'), 'wanted')] }
    const now = await status(statusRequest(cwd, asked), new Date())
    expect(now.targets.map(({ name, state }) => [name, state])).toEqual([
      ['broken', 'damaged'],
      ['wanted', 'missing'],
      ['short', 'ok'],
      ['long', 'ok'],
    ])
    const then = await status(statusRequest(cwd), days(31))
    expect(then.targets.map(({ name }) => name)).toEqual(['broken', 'short', 'long'])
  })

  it('tells drift, of the leaf and of its files', async () => {
    const cwd = await makeFleet('server')
    const leaf = namedLeaf(join(cwd, 'certs'), 'server')
    const other: AskedLeaf = { ...leaf, names: [dnsName('other.test')] }
    expect(targetOf(await status(statusRequest(cwd, { leaves: [other] }), new Date()), 'server').attention).toEqual([
      { code: 'drift', part: 'leaf' },
    ])
    const open: AskedLeaf = {
      ...leaf,
      store: directoryTarget({ ...targetAt(target(cwd, 'server')), keyMode: 0o640 }),
    }
    expect(targetOf(await status(statusRequest(cwd, { leaves: [open] }), new Date()), 'server').attention).toEqual([
      { code: 'drift', part: 'files' },
    ])
  })

  it('tells what has not followed the last write yet', async () => {
    const cwd = temporaryDirectory()
    expect((await certgen(['--exec', 'exit 1'], { cwd })).code).toBe(7)
    const server = targetOf(await status(statusRequest(cwd), new Date()), 'server')
    expect(server).toMatchObject({ state: 'undelivered', undelivered: ['exec exit 1'] })
    expect(server.attention).toEqual([{ code: 'undelivered', followUps: ['exec exit 1'] }])
  })

  it('leaves out directories that are no targets', async () => {
    const cwd = await makeFleet('server')
    cpSync(join(target(cwd, 'server'), 'ca.crt'), join(cwd, 'certs/anchors/ca.crt'), {
      recursive: true,
      dereference: true,
    })
    cpSync(join(target(cwd, 'server'), 'ca.crt'), join(cwd, 'certs/notes/notes.txt'), {
      recursive: true,
      dereference: true,
    })
    expect(states(await status(statusRequest(cwd), new Date()))).toEqual({ server: 'ok' })
  })
})

describe('a rotation that was interrupted (I7)', () => {
  it('is told of each target that it left behind, until it is finished', async () => {
    const cwd = await makeFleet('client', 'server')
    await rotateJson(['ca', '--overwrite'], { cwd })
    const left = await status(statusRequest(cwd), new Date())
    for (const { attention } of left.targets)
      expect(attention).toEqual([{ code: 'unfinished', part: 'earlier-authority' }])
    expect(left.authorities[0]!.previous).toMatchObject({ presentedBy: 2, trustedBy: 2 })
    const { sha256 } = left.authorities[0]!.previous!
    await rotateJson([], { cwd })
    const finished = await status(statusRequest(cwd), new Date())
    expect(finished.ok).toBe(true)
    for (const row of finished.targets) expect(row).toMatchObject({ crossSigned: true, carriedOver: sha256 })
    expect(finished.authorities[0]!.previous).toMatchObject({ sha256, presentedBy: 2, trustedBy: 2 })
    await rotateJson(['--overwrite', '--distrust-previous'], { cwd })
    const distrusted = await status(statusRequest(cwd), new Date())
    for (const row of distrusted.targets) expect(row).toMatchObject({ crossSigned: false, carriedOver: null })
  })

  it('is told where a bundle lacks a root that is published to all', async () => {
    const cwd = await makeFleet('client', 'server')
    await rotateJson(['--overwrite', '--strategy', 'staged'], { cwd })
    await rotateJson(['rollback', 'client', '--force'], { cwd })
    const report = await status(statusRequest(cwd), new Date())
    expect(targetOf(report, 'client').attention).toEqual([{ code: 'unfinished', part: 'root-missing' }])
    expect(states(report)).toEqual({ client: 'unfinished', server: 'ok' })
  })

  it('is told where two places of a leaf do not agree', async () => {
    const cwd = await makeFleet('server')
    const [first, copy] = [targetAt(target(cwd, 'server')), targetAt(join(cwd, 'copy'))].map(directoryTarget) as [
      ReturnType<typeof directoryTarget>,
      ReturnType<typeof directoryTarget>,
    ]
    const leaf: AskedLeaf = { name: 'server', explicit: true, store: mirroredTarget(first, [copy]) }
    const report = await status(statusRequest(cwd, { leaves: [leaf], discovery: null }), new Date())
    expect(targetOf(report, 'server').attention).toContainEqual({ code: 'unfinished', part: 'copies-differ' })
  })
})

describe('a staged rotation', () => {
  it('waits for the instant at which certgen --renew goes on, and is unfinished from then on', async () => {
    const cwd = await makeFleet('server')
    await rotateJson(['--overwrite', '--strategy', 'staged'], { cwd })
    const waiting = await status(statusRequest(cwd), new Date())
    const { successor, state } = waiting.authorities[0]!
    const next = new X509Certificate(readFileSync(join(cwd, 'certs/ca/next.crt')))
    expect(successor).toMatchObject({ subject: next.subject, serialNumber: next.serialNumber })
    expect([state, waiting.ok]).toEqual(['ok', true])
    const { resumesAt } = successor!
    const request = requestFor(join(cwd, 'certs'), { mode: 'renew' })
    for (const [instant, goesOn] of [
      [new Date(resumesAt.getTime() - 1), false],
      [resumesAt, true],
    ] as const) {
      const plan = makePlan(await takeSnapshot(request, instant), request, instant)
      expect(plan.authority.action).toBe(goesOn ? 'promote' : 'keep')
      const [row] = (await status(statusRequest(cwd), instant)).authorities
      expect(row!.attention).toEqual(goesOn ? [{ code: 'unfinished', part: 'second-run' }] : [])
    }
    const settle = parseDuration('1h')
    const [row] = (await status(statusRequest(cwd, { settle }), resumesAt)).authorities
    expect(row!.successor!.resumesAt).toEqual(new Date(resumesAt.getTime() + 50 * 60_000))
  })
})

describe("the old authority's end", () => {
  it('makes a target due whose bundle still holds it, as certgen --renew drops it', async () => {
    const cwd = temporaryDirectory()
    await rotateJson(['--ca-validity', '30d'], { cwd })
    await rotateJson(['--overwrite', '--ca-validity', '5y', '--validity', '90d'], { cwd })
    const instant = days(31)
    const report = await status(statusRequest(cwd), instant)
    expect(targetOf(report, 'server').attention).toEqual([
      { code: 'due', part: 'carry-over', since: report.authorities[0]!.previous!.notAfter },
    ])
    const request = requestFor(join(cwd, 'certs'), { mode: 'renew' })
    const { leaves } = makePlan(await takeSnapshot(request, instant), request, instant)
    expect(leaves[0]).toMatchObject({ reason: 'due', work: { action: 'republish' } })
  })
})

describe('a ..data that leads nowhere', () => {
  it('is unfinished, and judged by the newest whole generation, until a plain run mends it and says so', async () => {
    const cwd = await makeFleet('client', 'server')
    for (const name of ['ca', 'client']) {
      rmSync(join(target(cwd, name), '..data'))
      symlinkSync('..2020_01_01_00_00_00.00000000', join(target(cwd, name), '..data'))
    }
    const report = await status(statusRequest(cwd), new Date())
    const lost = { code: 'unfinished', part: 'generation-lost' }
    expect(states(report)).toEqual({ client: 'unfinished', server: 'ok' })
    expect(targetOf(report, 'client').attention).toEqual([lost])
    expect(report.authorities[0]!.attention).toEqual([lost])
    const { code, stdout, stderr } = await certgen(['--json'], { cwd })
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      changed: true,
      warnings: [{ code: 'generation-lost' }, { code: 'generation-lost' }],
    })
    expect(stderr).toContain('certs/client/..data led nowhere')
    expect((await status(statusRequest(cwd), new Date())).ok).toBe(true)
    expect((await certgen(['--json'], { cwd })).stdout).toContain('"changed": false')
  })
})

describe('what cannot be read', () => {
  it('is a row like any other, with its findings, and the others are judged', async () => {
    const cwd = await makeFleet('astray', 'cut', 'mismatch', 'server')
    const whole = readFileSync(join(target(cwd, 'cut'), 'tls.crt'), 'utf8')
    overwriteGeneration(target(cwd, 'cut'), 'tls.crt', whole.slice(0, 300))
    overwriteGeneration(
      target(cwd, 'mismatch'),
      'tls.key',
      readFileSync(join(target(cwd, 'server'), 'tls.key'), 'utf8'),
    )
    rmSync(join(target(cwd, 'astray'), '..data'))
    symlinkSync('/etc', join(target(cwd, 'astray'), '..data'))
    const request = requestFor(join(cwd, 'certs'))
    expect((await failure(takeSnapshot(request, new Date()))).code).toBe('unreadable')
    const report = await status(statusRequest(cwd), new Date())
    expect(states(report)).toEqual({ astray: 'unreadable', cut: 'damaged', mismatch: 'damaged', server: 'ok' })
    expect(targetOf(report, 'cut')).toMatchObject({ leaf: null, findings: [{ code: 'pem-damaged' }] })
    expect(targetOf(report, 'mismatch').attention).toMatchObject([
      { code: 'damaged', findings: [{ code: 'key-mismatch', path: join(target(cwd, 'mismatch'), 'tls.key') }] },
    ])
    expect(targetOf(report, 'astray').attention).toMatchObject([
      {
        code: 'unreadable',
        error: { code: 'unreadable', message: expect.stringContaining('points outside') as string },
      },
    ])
  })

  it('is told of a set that is whole and that peers refuse all the same', async () => {
    const [cwd, other] = [await makeFleet('server'), await makeFleet('server')]
    overwriteGeneration(target(cwd, 'server'), 'ca.crt', readFileSync(join(other, 'certs/ca/ca.crt'), 'utf8'))
    const { attention } = targetOf(await status(statusRequest(cwd), new Date()), 'server')
    expect(attention).toMatchObject([
      { code: 'unusable', findings: [{ code: 'chain-incomplete' }] },
      { code: 'unfinished', part: 'root-missing' },
    ])
  })

  it.each([
    ['certificate', 'ca.crt', { certificate: null, keyState: 'usable' }],
    ['key', 'ca.key', { certificate: { key: 'ecdsa-p256' }, keyState: 'damaged' }],
  ])('is told of an authority with a damaged %s; no target is taken for foreign', async (_what, file, expected) => {
    const cwd = await makeFleet('server')
    overwriteGeneration(join(cwd, 'certs/ca'), file, 'nothing\n')
    const report = await status(statusRequest(cwd), new Date())
    expect(report.authorities[0]).toMatchObject({ state: 'damaged', ...expected })
    expect(report.authorities[0]!.attention).toMatchObject([{ findings: [{ code: 'pem-empty' }] }])
    expect(states(report)).toEqual({ server: 'ok' })
  })

  it('is told of an authority whose key belongs to another', async () => {
    const [cwd, other] = [await makeFleet('server'), await makeFleet('server')]
    overwriteGeneration(join(cwd, 'certs/ca'), 'ca.key', readFileSync(join(other, 'certs/ca/ca.key'), 'utf8'))
    const [authority] = (await status(statusRequest(cwd), new Date())).authorities
    expect(authority!.attention).toMatchObject([{ code: 'damaged', findings: [{ code: 'key-mismatch' }] }])
  })

  it('is told of an authority that is gone', async () => {
    const cwd = await makeFleet('server')
    renameSync(join(cwd, 'certs/ca'), join(cwd, 'elsewhere'))
    const report = await status(statusRequest(cwd), new Date())
    expect(report.authorities).toMatchObject([{ state: 'missing', certificate: null, keyState: null, dueAt: null }])
    expect(states(report)).toEqual({ server: 'ok' })
    expect(report.ok).toBe(false)
  })

  it('is no encrypted key: nobody is asked for its passphrase, also not of the generation before', async () => {
    const cwd = temporaryDirectory()
    const env = { CERTGEN_CA_PASSPHRASE: 'a secret of the test' }
    await rotateJson([], { cwd, env })
    await rotateJson(['ca', '--overwrite'], { cwd, env })
    const store = directoryAuthority({
      directory: join(cwd, 'certs/ca'),
      askPassphrase: () => Promise.reject(new Error('nobody may be asked')),
    })
    const report = await status(statusRequest(cwd, { authority: { store } }), new Date())
    expect(report.authorities[0]).toMatchObject({ state: 'ok', keyState: 'encrypted' })
    expect(codes(targetOf(report, 'server'))).toEqual(['unfinished'])
  })

  it('is no key that was never there: an authority adopted without one is well', async () => {
    const cwd = await makeFleet('server')
    for (const place of [join(cwd, 'certs/ca', readlinkSync(join(cwd, 'certs/ca/..data'))), join(cwd, 'certs/ca')]) {
      rmSync(join(place, 'ca.key'))
    }
    const [authority] = (await status(statusRequest(cwd), new Date())).authorities
    expect(authority).toMatchObject({ state: 'ok', keyState: 'absent' })
  })
})

describe('several authorities in one directory', () => {
  it('each have the leaves that they issued, wherever those are found; those of others are foreign once', async () => {
    const [cwd, other] = [temporaryDirectory(), await makeFleet('foreign')]
    const dir = join(cwd, 'certs')
    const request = (name: string): StatusRequest => ({
      ...statusRequest(cwd, { name }),
      authority: { store: directoryAuthority({ directory: join(dir, `ca-${name}`) }) },
      discovery: { dir, except: [join(dir, 'ca-a'), join(dir, 'ca-b')] },
    })
    for (const name of ['a', 'b']) {
      const { authority, discovery } = request(name)
      await rotate(requestFor(dir, { authority, discovery, leaves: [namedLeaf(dir, `of-${name}`)] }), later(0))
    }
    cpSync(target(other, 'foreign'), target(cwd, 'foreign'), { recursive: true, verbatimSymlinks: true })
    const report = await statusAll([request('a'), request('b')], new Date())
    expect(report.authorities.map(({ name, state }) => [name, state])).toEqual([
      ['a', 'ok'],
      ['b', 'ok'],
    ])
    expect(report.targets.map(({ name, authority, state }) => [name, authority, state])).toEqual([
      ['of-a', 'a', 'ok'],
      ['of-b', 'b', 'ok'],
      ['foreign', null, 'foreign'],
    ])
    expect(report.warnings).toMatchObject([{ code: 'foreign-target' }])
    expect(targetOf(report, 'foreign')).toMatchObject({ attention: [], dueAt: null, carriedOver: null })
    // Nobody here can renew it, whatever it comes to.
    expect(states(await statusAll([request('a'), request('b')], days(91)))).toMatchObject({ foreign: 'foreign' })
  })
})

it('promises what the next certgen --renew does, at any instant of an authority with leaves of all kinds', async () => {
  const cwd = await makeFleet('plain')
  await rotateJson(['leaf', 'short', '--validity', '2d', '--dns', 'short.test'], { cwd })
  await rotateJson(['leaf', 'long', '--validity', '2y', '--dns', 'long.test'], { cwd })
  const request = requestFor(join(cwd, 'certs'), { mode: 'renew' })
  const { authorities, targets } = await status(statusRequest(cwd), new Date())
  const instants = [...authorities, ...targets].flatMap(({ dueAt: due }) =>
    due ? [due.getTime() - 1, due.getTime()] : [],
  )
  for (let day = 0; day < 5 * 365; day += 50) instants.push(days(day).getTime())
  for (const instant of instants.map((time) => new Date(time))) {
    const report = await status(statusRequest(cwd), instant)
    const plan = makePlan(await takeSnapshot(request, instant), request, instant)
    expect(report.ok, instant.toISOString()).toBe(isIdle(plan))
    if (plan.authority.action !== 'keep') continue
    const reissued = plan.leaves.filter(({ work }) => work.action !== 'keep').map(({ target: { name } }) => name)
    const attended = report.targets.filter(({ attention }) => attention.length > 0).map(({ name }) => name)
    expect(attended.sort(), instant.toISOString()).toEqual(reissued.sort())
  }
  expect(dueAt(targetOf(await status(statusRequest(cwd), new Date()), 'short').leaf!)).toEqual(
    targets.find(({ name }) => name === 'short')!.dueAt,
  )
})
