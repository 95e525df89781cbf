import { execFile } from 'node:child_process'
import { lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { certgen, output, rotateJson, temporaryDirectory } from '../program.ts'
import type { Outcome } from '../program.ts'
import { missing } from '../requirements.ts'

// Files that are named on the command line, and are something else.

const cwd = temporaryDirectory()
const at = (name: string): string => join(cwd, name)
/** Milliseconds, of what takes a fraction of a second: it waits for somebody who never comes. */
const timeout = 60_000
const run = (...args: string[]): Promise<Outcome> => certgen(args, { cwd, timeout })

const socket = createServer()
beforeAll(async () => {
  await rotateJson([], { cwd })
  output('mkfifo', at('pipe'))
  mkdirSync(at('directory'))
  symlinkSync('loop', at('loop'))
  symlinkSync('nowhere', at('dangling'))
  symlinkSync('kept', at('link'))
  // Not the device itself: a program that is wrong would replace it for the whole machine.
  symlinkSync('/dev/null', at('device'))
  output('truncate', '--size', '5G', at('huge'))
  await new Promise<void>((done) => socket.listen(at('socket'), done))
  return () => socket.close()
})

const oddities = [
  'pipe',
  'directory',
  'loop',
  'dangling',
  'huge',
  'socket',
  '/dev/zero',
  '/dev/null',
  'certs/server/tls.crt/x',
]
const files = { cert: 'certs/server/tls.crt', key: 'certs/server/tls.key', ca: 'certs/server/ca.crt' }
const set = (other: Partial<typeof files>): string[] => {
  const { cert, key, ca } = { ...files, ...other }
  return ['--cert', cert, '--key', key, '--ca', ca]
}

describe('a file that is named', () => {
  it.each(oddities)('and is none is exit 2 with a hint, at once: %s', async (name) => {
    const { code, stdout, stderr } = await run('bundle', name)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^certgen: error: [^\n]*[^.\n]\n(certgen: hint: .+\n)+$/)
    expect(stderr).toContain(name)
  })

  it.each(['pipe', '/dev/zero', 'huge', 'directory'])(
    'and is none is refused wherever it is named: %s',
    async (name) => {
      const commands = [
        ['bundle', files.ca, name],
        ['validate', ...set({ cert: name })],
        ['validate', ...set({ key: name })],
        ['validate', ...set({ ca: name })],
        ['validate', ...set({}), '--passphrase-file', name],
        ['install', ...set({ key: name }), '--target', 'new'],
        ['--dir', 'certs', '--ca-passphrase-file', name],
        ['--config', name],
        ['adopt', '--dir', 'new', '--ca', name],
      ]
      for (const command of commands) expect([command, (await run(...command)).code]).toEqual([command, 2])
    },
  )

  it.skipIf(missing('bash'))('may be a pipe that somebody writes to, as a shell makes it, also in pieces', async () => {
    const pieces = `head -n 3 ${files.ca}; tail -n +4 ${files.ca}`
    const { stdout, stderr } = await shell(`
      certgen validate --cert <(cat ${files.cert}) --key <(cat ${files.key}) --ca <(${pieces})
      cat ${files.ca} | certgen bundle /dev/stdin`)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/can be served\n/)
    expect(stdout).toContain(readFileSync(at(files.ca), 'utf8'))
  })

  it.skipIf(missing('bash'))('may not be a pipe that never ends', async () => {
    const { stderr } = await shell('certgen bundle <(yes)')
    expect(stderr).toMatch(/^certgen: error: \/dev\/fd\/\d+ is too large\ncertgen: hint: /)
  })
})

function shell(script: string): Promise<Pick<Outcome, 'stdout' | 'stderr'>> {
  const certgen = `certgen() { "${process.execPath}" "${resolve('bin/certgen.js')}" "$@"; }`
  return new Promise((done) => {
    execFile('bash', ['-c', `${certgen}\n${script}`], { cwd, timeout }, (_error, stdout, stderr) => {
      done({ stdout, stderr })
    })
  })
}

describe('a file to write to', () => {
  it.each(['pipe', 'directory', 'dangling', 'loop', 'socket', 'link', 'device'])(
    'is not replaced when it is none: %s',
    async (name) => {
      writeFileSync(at('kept'), 'kept')
      const path = resolve(cwd, name)
      const before = lstatSync(path).ino
      const { code, stderr } = await run('bundle', files.ca, '--out', name)
      expect(code).toBe(5)
      expect(stderr).toMatch(/^certgen: error: cannot write .*\n(certgen: hint: .+\n)+$/)
      // Of what is there, metrics of others are to be kept.
      const metrics = await run('status', '--metrics', name)
      expect(metrics.code).toBe(5)
      expect(metrics.stderr).toMatch(/^certgen: error: cannot write .*\n(certgen: hint: .+\n)+$/)
      expect(lstatSync(path).ino).toBe(before)
      expect(readFileSync(at('kept'), 'utf8')).toBe('kept')
    },
  )
})
