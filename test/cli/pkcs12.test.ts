import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { certgen, fingerprintTree, output, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { greet, listen, served } from '../reload/peers.ts'

const scratch = temporaryDirectory()
const passphrase = 'correct horse'

async function folder(): Promise<{ cwd: string; p12: string }> {
  const cwd = await mkdtemp(join(scratch, 'p12-'))
  writeFileSync(join(cwd, 'passphrase'), `${passphrase}\n`)
  return { cwd, p12: join(cwd, 'certs/server/tls.p12') }
}

describe.skipIf(missing('openssl'))('certgen --pkcs12', () => {
  it('writes key and chain as OpenSSL and a Node server read them, for the owner alone', async () => {
    const { cwd, p12 } = await folder()
    await rotateJson(['--pkcs12', 'passphrase'], { cwd })
    const [leaf] = (await rotateJson(['--pkcs12', 'passphrase', '--overwrite'], { cwd })).leaves
    expect((statSync(p12).mode & 0o777).toString(8)).toBe('600')
    const shown = output('openssl', 'pkcs12', '-in', p12, '-passin', `pass:${passphrase}`, '-noenc')
    expect(shown.match(/BEGIN CERTIFICATE/g)).toHaveLength(2) // The leaf, and the cross-certificate.
    const key = /-----BEGIN PRIVATE KEY-----[^]+?-----END PRIVATE KEY-----\n/.exec(shown)?.[0]
    expect(key).toBe(readFileSync(join(cwd, 'certs/server/tls.key'), 'utf8'))
    const server = createServer({ pfx: readFileSync(p12), passphrase }, greet)
    const port = await listen(server)
    expect(await served(port, { ca: readFileSync(join(cwd, 'certs/server/ca.crt')) })).toBe(leaf?.sha256)
    server.close()
    await once(server, 'close')
  })

  it('is no reason to write again', async () => {
    const { cwd } = await folder()
    await rotateJson(['--pkcs12', 'passphrase'], { cwd })
    const before = fingerprintTree(join(cwd, 'certs'))
    expect(await rotateJson(['--pkcs12', 'passphrase', '--renew'], { cwd })).toMatchObject({ changed: false })
    expect(fingerprintTree(join(cwd, 'certs'))).toEqual(before)
  })

  it('is missed by a run that has no passphrase, and goes only on purpose', async () => {
    const { cwd, p12 } = await folder()
    await rotateJson(['--pkcs12', 'passphrase'], { cwd })
    const before = readFileSync(p12)
    const { code, stderr } = await certgen(['--overwrite'], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain('certs/server/tls.p12 would be lost')
    expect(readFileSync(p12)).toEqual(before)
    await rotateJson(['--overwrite', '--no-pkcs12'], { cwd })
    expect(existsSync(p12)).toBe(false)
  })

  it('is asked for by a configuration too, under a name of its own', async () => {
    const { cwd } = await folder()
    writeFileSync(
      join(cwd, 'certgen.yaml'),
      'certificates:\n  - name: app\n    pkcs12: { name: keystore.p12, passphrase: { file: passphrase } }\n',
    )
    await rotateJson([], { cwd })
    const p12 = join(cwd, 'certs/app/keystore.p12')
    expect(output('openssl', 'pkcs12', '-in', p12, '-passin', `pass:${passphrase}`, '-nokeys')).toContain(
      'CN = localhost',
    )
    expect(await rotateJson(['--renew'], { cwd })).toMatchObject({ changed: false })
  })
})
