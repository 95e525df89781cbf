import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { certgen, output, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { missing } from '../requirements.ts'

const cwd = temporaryDirectory()
const day = 86_400_000
const inDays = (days: number): string => new Date(Date.now() + days * day).toISOString()

beforeAll(async () => {
  await rotateJson([], { cwd })
  await rotateJson(['leaf', 'agent', '--dns', 'agent', '--usage', 'client'], { cwd })
  // Another authority's.
  await rotateJson(['--dir', 'others'], { cwd })
})

interface Document {
  readonly schema: number
  readonly command: string
  readonly ok: boolean
  readonly findings: readonly { code: string; severity: string; path: string; message: string }[]
}

const validate = (...args: string[]): Promise<Outcome> => certgen(['validate', ...args], { cwd })

async function validateJson(...args: string[]): Promise<Document & { exit: number | null; codes: string[] }> {
  const { code, stdout, stderr } = await validate(...args, '--json')
  expect(stderr).toBe('')
  const document = JSON.parse(stdout) as Document
  return { ...document, exit: code, codes: document.findings.map((finding) => finding.code).sort() }
}

describe('certgen validate of a set that serves', () => {
  it('is exit 0, says so on stdout, and nothing on stderr', async () => {
    expect(await validate('certs/server')).toEqual({
      code: 0,
      stdout: 'certs/server/tls.crt can be served\n',
      stderr: '',
    })
  })

  it('is one JSON document with --json', async () => {
    const { code, stdout } = await validate('certs/server', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual({ schema: 1, command: 'validate', ok: true, findings: [] })
  })

  it('takes files too, with a bundle and without', async () => {
    const files = ['--cert', 'certs/server/tls.crt', '--key', 'certs/server/tls.key']
    expect(await validateJson(...files, '--ca', 'certs/server/ca.crt')).toMatchObject({ exit: 0, ok: true, codes: [] })
    expect(await validateJson(...files)).toMatchObject({ exit: 0, ok: true, codes: [] })
  })

  it('takes an ordinary directory that no certgen has written', async () => {
    const plain = join(cwd, 'plain')
    mkdirSync(plain)
    for (const name of ['tls.crt', 'tls.key', 'ca.crt'])
      copyFileSync(join(cwd, 'certs/server', name), join(plain, name))
    expect(await validateJson('plain')).toMatchObject({ exit: 0, codes: [] })
    writeFileSync(join(plain, 'tls.key'), '')
    expect(await validateJson('plain')).toMatchObject({
      exit: 3,
      findings: [{ code: 'pem-empty', path: 'plain/tls.key' }],
    })
    rmSync(join(plain, 'tls.key'))
    expect(await validateJson('plain')).toMatchObject({
      exit: 3,
      findings: [{ code: 'pem-empty', path: 'plain/tls.key' }],
    })
  })

  it.each([
    [['--dns', 'localhost', '--ip', '127.0.0.1', '--ip', '::1'], []],
    [
      ['--dns', 'other', '--ip', '10.0.0.1', '--uri', 'spiffe://a/b', '--email', 'a@b.org'],
      ['name-mismatch', 'name-mismatch', 'name-mismatch', 'name-mismatch'],
    ],
    [['--usage', 'server,client'], []],
    [['--expires-within', '89d'], []],
    [['--expires-within', '91d'], ['expires-soon']],
    [['--at', inDays(1)], []],
    [['--at', inDays(91)], ['expired']],
    [
      ['--at', '2020-01-01'],
      ['not-yet-valid', 'not-yet-valid'],
    ],
    [['--at', inDays(80), '--expires-within', '2w'], ['expires-soon']],
  ])('judges %j', async (flags, codes) => {
    const result = await validateJson('certs/server', ...flags)
    expect(result.codes).toEqual(codes)
    expect([result.exit, result.ok]).toEqual(codes.length === 0 ? [0, true] : [3, false])
  })

  it('judges the usages that it is asked about', async () => {
    expect(await validateJson('certs/agent')).toMatchObject({ exit: 0, codes: [] })
    expect(await validateJson('certs/agent', '--usage', 'client')).toMatchObject({ exit: 0, codes: [] })
    expect(await validateJson('certs/agent', '--usage', 'server,client')).toMatchObject({ exit: 3, codes: ['usage'] })
  })
})

describe('certgen validate of a set that does not serve', () => {
  it('reports every fault, not only the first', async () => {
    const files = ['--cert', 'certs/server/tls.crt', '--key', 'certs/agent/tls.key', '--ca', 'others/server/ca.crt']
    const flags = [...files, '--at', inDays(91), '--dns', 'other']
    const result = await validateJson(...flags)
    expect(result).toMatchObject({ schema: 1, command: 'validate', ok: false, exit: 3 })
    expect(result.codes).toEqual(['chain-incomplete', 'expired', 'key-mismatch', 'name-mismatch'])
    for (const finding of result.findings) {
      expect(Object.keys(finding)).toEqual(['code', 'severity', 'path', 'message'])
      expect(finding.severity).toBe('error')
      expect(finding.message).not.toBe('')
    }
    expect(result.findings.find(({ code }) => code === 'key-mismatch')?.path).toBe('certs/agent/tls.key')

    const text = await validate(...flags)
    expect([text.code, text.stderr]).toEqual([3, ''])
    expect([...text.stdout.matchAll(/\[([a-z-]+)\]$/gm)].map(([, code]) => code).sort()).toEqual(result.codes)
    for (const { path, message } of result.findings) expect(text.stdout).toContain(`${path}: error: ${message}`)
    expect(text.stdout).toMatch(/cannot be served\n$/)
  })

  it('names block and line of what is damaged', async () => {
    const good = readFileSync(join(cwd, 'certs/server/ca.crt'), 'utf8')
    writeFileSync(join(cwd, 'damaged.crt'), good + good.replace(/(\nMI.{20})./, '$1*'))
    const { findings } = await validateJson(
      ...['--cert', 'certs/server/tls.crt', '--key', 'certs/server/tls.key', '--ca', 'damaged.crt'],
    )
    const line = good.split('\n').length + 1
    expect(findings).toMatchObject([{ code: 'pem-damaged', path: 'damaged.crt' }])
    expect(findings[0]?.message).toContain(`block 2 (line ${line})`)
  })

  it('tells nothing of the key, whatever is wrong with it', async () => {
    const key = readFileSync(join(cwd, 'certs/server/tls.key'), 'utf8')
    const secret = key.split('\n')[1]!.slice(20, 44)
    const damaged = [key.replace(/\n-----END.*/s, ''), key.replace('MI', 'M*'), key.replaceAll('PRIVATE', 'PUBLIC')]
    for (const text of damaged) {
      expect(text).toContain(secret)
      writeFileSync(join(cwd, 'damaged.key'), text)
      const args = ['validate', '--cert', 'certs/server/tls.crt', '--key', 'damaged.key', '--ca', 'certs/server/ca.crt']
      for (const flags of [[], ['--json']]) {
        const { code, stdout, stderr } = await certgen([...args, ...flags], { cwd, env: { CERTGEN_DEBUG: '1' } })
        expect(code).toBe(3)
        expect(stdout).toContain('pem-damaged')
        expect(stdout + stderr).not.toContain(secret)
      }
    }
  })
})

describe("the key file's mode", () => {
  it.each([
    [0o644, ['permissions']],
    [0o604, ['permissions']],
    [0o640, []],
    [0o600, []],
  ])('%o', async (mode, codes) => {
    const key = join(cwd, `key-${mode.toString(8)}`)
    copyFileSync(join(cwd, 'certs/server/tls.key'), key)
    chmodSync(key, mode)
    const result = await validateJson('--cert', 'certs/server/tls.crt', '--key', key, '--ca', 'certs/server/ca.crt')
    expect(result.codes).toEqual(codes)
    // A warning makes nothing unusable.
    expect(result).toMatchObject({ exit: 0, ok: true })
    if (codes.length > 0) expect(result.findings).toMatchObject([{ severity: 'warning', path: key }])
  })

  it('is looked at in a target too', async () => {
    const generation = output('readlink', '-f', join(cwd, 'others/server/tls.key')).trim()
    chmodSync(generation, 0o644)
    expect(await validateJson('others/server')).toMatchObject({ exit: 0, codes: ['permissions'] })
  })
})

describe.skipIf(missing('openssl'))('an encrypted key', () => {
  it('is opened with --passphrase-file, and is a finding without', async () => {
    const encrypted = ['-aes256', '-passout', 'pass:open sesame']
    output('openssl', 'pkey', '-in', join(cwd, 'certs/server/tls.key'), ...encrypted, '-out', join(cwd, 'locked.key'))
    writeFileSync(join(cwd, 'passphrase'), 'open sesame\n')
    writeFileSync(join(cwd, 'other-passphrase'), 'open barley\n')
    const files = ['--cert', 'certs/server/tls.crt', '--key', 'locked.key', '--ca', 'certs/server/ca.crt']
    expect(await validateJson(...files, '--passphrase-file', 'passphrase')).toMatchObject({ exit: 0, codes: [] })
    for (const flags of [[], ['--passphrase-file', 'other-passphrase']]) {
      expect(await validateJson(...files, ...flags)).toMatchObject({ exit: 3, codes: ['key-encrypted'] })
    }
  })
})

describe('wrong usage of certgen validate', () => {
  it.each([
    [[]],
    [['--cert', 'certs/server/tls.crt']],
    [['--key', 'certs/server/tls.key']],
    [['certs/server', '--cert', 'certs/server/tls.crt', '--key', 'certs/server/tls.key']],
    [['certs/server', 'certs/agent']],
    [['certs/nowhere']],
    [['--cert', 'nowhere.crt', '--key', 'certs/server/tls.key']],
    [['certs/server', '--at', 'tomorrow']],
    [['certs/server', '--at', '2026-13-01']],
    [['certs/server', '--expires-within', '5x']],
    [['certs/server', '--dns', 'a b']],
    [['certs/server', '--ip', '10.0.0']],
    [['certs/server', '--usage', 'both']],
    [['certs/server', '--passphrase-file', 'nowhere']],
    [['certs/server', '--colour']],
  ])('%j is exit 2 with a hint', async (args) => {
    const { code, stdout, stderr } = await validate(...args)
    expect(stderr).toMatch(/^certgen: error: .*[^.\n]\n(certgen: hint: .+\n)+$/)
    expect([code, stdout]).toEqual([2, ''])
    const json = JSON.parse((await validate(...args, '--json')).stdout) as object
    expect(json).toMatchObject({ schema: 1, command: 'validate', error: { exitCode: 2, findings: [] } })
  })
})
