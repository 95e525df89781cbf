import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { rotateJson, temporaryDirectory } from '../program.ts'

const examples = resolve('examples')

it('the examples are short, and follow a rotation of the authority without a failed request', async () => {
  for (const name of ['server.js', 'client.js', 'grpc-server.js']) {
    expect(readFileSync(join(examples, name), 'utf8').split('\n').length, name).toBeLessThanOrEqual(40)
  }
  const dir = join(temporaryDirectory(), 'certs')
  const rotate = (...flags: string[]): ReturnType<typeof rotateJson> =>
    rotateJson(['--dir', dir, '--dns', 'localhost', '--ip', '127.0.0.1', ...flags])
  await rotate('--name', 'server')
  await rotate('--name', 'client', '--dns', 'client.test')

  const server = spawn(process.execPath, [join(examples, 'server.js'), join(dir, 'server'), '0'])
  const lines = createInterface({ input: server.stdout })
  const talk = createInterface({ input: server.stderr })
  const [url] = (await once(lines, 'line')) as [string]
  const ask = (times: number): Promise<{ stdout: string }> =>
    promisify(execFile)(process.execPath, [join(examples, 'client.js'), join(dir, 'client'), url, String(times)])
  expect((await ask(1)).stdout).toContain('DNS:client.test')

  const steady = ask(30)
  const told = once(talk, 'line')
  const report = await rotate('--overwrite')
  expect(String(await told)).toBe(`now serving ${report.leaves.find(({ name }) => name === 'server')!.sha256}`)
  expect((await steady).stdout.trim().split('\n')).toHaveLength(30)
  expect((await ask(1)).stdout).toContain('DNS:client.test')

  server.kill('SIGTERM')
  const [code] = (await once(server, 'exit')) as [number | null]
  expect(code).toBe(0)
})

it('certgen/reload loads neither commander nor what issues certificates', () => {
  const seen = new Set<string>()
  const read = (path: string): void => {
    if (seen.has(path)) return
    seen.add(path)
    for (const [, chunk] of readFileSync(path, 'utf8').matchAll(/(?:from|import)\s*"(\.[^"]+)"/g)) {
      read(join(path, '..', chunk!))
    }
  }
  read(resolve('dist/reload.js'))
  const text = [...seen].map((path) => readFileSync(path, 'utf8')).join('')
  for (const stranger of ['CommanderError', 'X509CertificateGenerator', 'reflect-metadata']) {
    expect(text).not.toContain(stranger)
  }
})
