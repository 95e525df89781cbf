import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const scratch = temporaryDirectory()
const path = resolve('examples/cron/crontab')
const [line = ''] = readFileSync(path, 'utf8')
  .split('\n')
  .filter((text) => /^[\d*]/.test(text))

/** The command of the line, run as cron runs it: by /bin/sh, in the user's home. `%` would end it, but for `\%`. */
async function runAsCron(directory: string): Promise<{ readonly code: number; readonly mail: string }> {
  const [, command = ''] = /^(?:\S+ ){5}(.*)$/.exec(line) ?? []
  expect(command).not.toContain('%')
  const here = command.replace('/etc/certgen', directory)
  const bin = await mkdtemp(join(scratch, 'bin-'))
  const program = `#!/bin/sh\nexec '${process.execPath}' '${resolve('bin/certgen.js')}' "$@"\n`
  writeFileSync(join(bin, 'certgen'), program, { mode: 0o755 })
  return new Promise((done) => {
    const options = { cwd: scratch, env: { PATH: `${bin}:/usr/bin:/bin`, HOME: scratch } }
    execFile('/bin/sh', ['-c', here], options, (error, stdout, stderr) =>
      done({ code: error ? Number(error.code) : 0, mail: stdout + stderr }),
    )
  })
}

describe('the crontab', () => {
  it.skipIf(missing('crontab'))('is accepted by cron', () => {
    expect(output('crontab', '-n', path)).toBeDefined()
    const broken = join(scratch, 'broken')
    writeFileSync(broken, '61 3 * * * certgen\n')
    expect(() => output('crontab', '-n', broken)).toThrow('bad minute')
  })

  it('runs once a night', () => {
    expect(line).toMatch(/^([0-5]?\d) ([0-6]) \* \* \* \S/)
  })

  it('renews what certgen.yaml asks for, and mails nothing', async () => {
    const directory = await mkdtemp(join(scratch, 'good-'))
    writeFileSync(join(directory, 'certgen.yaml'), 'dir: .\ncertificates:\n  - { name: web, dns: web.test }\n')
    expect(await runAsCron(directory)).toEqual({ code: 0, mail: '' })
    expect(existsSync(join(directory, 'web/tls.crt'))).toBe(true)
    // A second one has nothing to do.
    expect(await runAsCron(directory)).toEqual({ code: 0, mail: '' })
  })

  it('mails the exit code and all that was said when certgen fails', async () => {
    const directory = await mkdtemp(join(scratch, 'bad-'))
    writeFileSync(join(directory, 'certgen.yaml'), 'certificats: []\n')
    const { mail } = await runAsCron(directory)
    expect(mail).toBe(
      'certgen failed with exit code 2: certgen: error: certgen.yaml:1:1: unknown key "certificats"\n' +
        'certgen: hint: did you mean certificates?\n',
    )
  })

  it('mails when its directory is gone', async () => {
    const { code, mail } = await runAsCron(join(scratch, 'gone'))
    expect(code).not.toBe(0)
    expect(mail).toContain('gone')
  })
})
