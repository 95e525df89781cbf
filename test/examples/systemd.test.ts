import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { output, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { verifyUnits } from './units.ts'

const scratch = temporaryDirectory()
const units = resolve('examples/systemd')
const node = process.execPath
const bin = resolve('bin/certgen.js')

/** A program with what it is to do; returns its path. */
function writeProgram(directory: string, name: string, script: string): string {
  mkdirSync(directory, { recursive: true })
  const path = join(directory, name)
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  return path
}

/** The values of a setting, in the order of the file. */
function settings(text: string, name: string): string[] {
  return [...text.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value ?? '')
}

const service = readFileSync(join(units, 'certgen.service'), 'utf8')

describe.skipIf(missing('systemd-analyze'))('the systemd units', () => {
  let certgen = ''

  beforeAll(() => {
    certgen = writeProgram(join(scratch, 'bin'), 'certgen', `exec '${node}' '${bin}' "$@"`)
  })

  async function verify(change?: (text: string) => string): Promise<string> {
    return verifyUnits(units, certgen, await mkdtemp(join(scratch, 'units-')), change)
  }

  it('are accepted without a word', async () => {
    expect(await verify()).toBe('')
  })

  it('are accepted with what may be uncommented, each way to a passphrase', async () => {
    const plain = /^#(LoadCredential=|ReadWritePaths=|ExecStart=)/gm
    const encrypted = /^#(LoadCredentialEncrypted=|ExecStart=)/gm
    for (const option of [plain, encrypted]) {
      // A service of this type runs all its ExecStart lines: the passphrase's takes the place of the other.
      expect(await verify((text) => text.replace(/^ExecStart=.*\n/m, '').replace(option, '$1'))).toBe('')
    }
  })

  it('would be refused with a mistake in them', async () => {
    expect(await verify((text) => text.replace('ProtectHome=yes', 'ProtectHouse=yes'))).toContain('ProtectHouse')
  })

  it('leave little exposed', () => {
    const path = join(units, 'certgen.service')
    const threshold = ['security', '--offline=true', '--threshold=30', '--no-pager']
    expect(output('systemd-analyze', ...threshold, path)).toContain('Overall exposure level for certgen.service: ')
  })

  it('start twice a day, with jitter, and after a time that the machine was off', () => {
    const timer = readFileSync(join(units, 'certgen.timer'), 'utf8')
    const [calendar = ''] = settings(timer, 'OnCalendar')
    const elapses = output('systemd-analyze', 'calendar', '--iterations=3', calendar).match(/\d\d:17:00 UTC/g)
    expect(new Set(elapses)).toEqual(new Set(['03:17:00 UTC', '15:17:00 UTC']))
    expect(settings(timer, 'RandomizedDelaySec')).toEqual(['1h'])
    expect(settings(timer, 'Persistent')).toEqual(['true'])
  })

  const isRoot = process.geteuid?.() === 0

  it.skipIf(missing('strace', 'setpriv'))('permit every system call and capability that a rotation takes', async () => {
    const cwd = await mkdtemp(join(scratch, 'service-'))
    const owner = isRoot ? 'owner: nobody, group: nogroup, ' : ''
    writeFileSync(
      join(cwd, 'certgen.yaml'),
      `dir: .\ncertificates:\n  - { name: web, dns: web.test, ${owner}mode: "0640", exec: echo done >> log }\n`,
    )
    const capabilities = settings(service, 'CapabilityBoundingSet')
      .flatMap((value) => value.split(' '))
      .map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)
    // Only root may give capabilities up.
    const program = isRoot ? 'setpriv' : 'env'
    const confined = isRoot ? [`--bounding-set=-all,${capabilities.join()}`] : []
    const flags = ['--renew', '--overwrite']
    for (const flag of flags) {
      const trace = ['strace', '-f', '-qq', '-e', 'signal=none', '-o', `trace${flag}`]
      execFileSync(program, [...confined, ...trace, certgen, flag], { cwd, stdio: 'pipe' })
    }
    expect(readFileSync(join(cwd, 'log'), 'utf8')).toBe('done\ndone\n')
    if (isRoot) expect(statSync(join(cwd, 'web/tls.key')).uid).toBe(65_534)
    const [filter = ''] = settings(service, 'SystemCallFilter')
    const permitted = systemCalls(filter.split(' '))
    const traces = flags.map((flag) => readFileSync(join(cwd, `trace${flag}`), 'utf8')).join('')
    const made = new Set([...traces.matchAll(/^\d+ +(\w+)\(/gm)].map(([, call]) => String(call)))
    expect(made.size).toBeGreaterThan(20)
    expect([...made].filter((call) => !permitted.has(call))).toEqual([])
  })
})

/** The members of systemd's groups of system calls, which hold further groups. */
function systemCalls(names: readonly string[]): Set<string> {
  const calls = new Set<string>()
  for (const name of names) {
    if (!name.startsWith('@')) {
      calls.add(name)
      continue
    }
    const members = output('systemd-analyze', '--no-pager', 'syscall-filter', name).match(/^ {4}[@\w-]+$/gm) ?? []
    for (const call of systemCalls(members.map((member) => member.trim()))) calls.add(call)
  }
  return calls
}

it('the unit for failures mails the last lines, the exit code and the machine', async () => {
  const cwd = await mkdtemp(join(scratch, 'failed-'))
  writeProgram(join(cwd, 'bin'), 'journalctl', 'echo "journal: $*"')
  writeProgram(join(cwd, 'bin'), 'mail', '{ echo "mail: $*"; cat; } > sent')
  const [start = ''] = settings(readFileSync(join(units, 'certgen-failed@.service'), 'utf8'), 'ExecStart')
  const [, script = ''] = /^\/bin\/sh -c '(.*)' sh %i$/.exec(start) ?? []
  // systemd reads $$ as $.
  const args = ['-c', script.replaceAll('$$', '$'), 'sh', 'certgen.service']
  const env = { PATH: `${join(cwd, 'bin')}:/usr/bin:/bin`, MONITOR_EXIT_STATUS: '7' }
  execFileSync('/bin/sh', args, { cwd, env })
  const machine = output('uname', '-n').trim()
  expect(readFileSync(join(cwd, 'sent'), 'utf8')).toBe(
    `mail: -s certgen.service failed on ${machine}, exit code 7 root\n` +
      'journal: --unit=certgen.service --lines=50 --no-pager\n',
  )
})
