import { X509Certificate, createPrivateKey } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { encodeCertificates } from '../../src/pki/pem.ts'
import { readCorpus, writeFleet } from '../corpus/corpus.ts'
import { extensionId, extensionOf, forge, nameOf } from '../der/certificate.ts'
import { encodeDer, leafNode } from '../der/tree.ts'
import { certgen, temporaryDirectory } from '../program.ts'

// What certgen says holds names and paths that somebody else may have chosen, to be read in a terminal at night.

const { files } = readCorpus(join(import.meta.dirname, '../corpus')).find(({ name }) => name === 'crossed')!
const key = createPrivateKey(files.get('ca/ca.key')!)

/** Clears the screen, goes up a line, turns letters around, ends the line: in C0, in C1 and in Unicode. */
const evil = 'a\x1b[2J\x1b[1A\u009b2J\u202e\u2028\x07b'
// eslint-disable-next-line no-control-regex -- what must not come out
const steering = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]/

/** A fleet whose leaf has such names, from an issuer of such a name, signed by the authority. */
function evilFleet(cwd: string): void {
  const [leaf, root] = ['server/tls.crt', 'ca/ca.crt'].map((path) => new X509Certificate(files.get(path)!).raw)
  const evilRoot = forge(root!, key, ({ subject, issuer }) => {
    Object.assign(subject, nameOf(evil))
    Object.assign(issuer, nameOf(evil))
  })
  const evilLeaf = forge(leaf!, key, ({ subject, issuer, extensions }) => {
    Object.assign(subject, nameOf(evil))
    Object.assign(issuer, nameOf(evil))
    const names = encodeDer({
      ...leafNode(0x30, Buffer.alloc(0)),
      content: [leafNode(0x82, Buffer.from(`${evil}\ncertgen: all is well`))],
    })
    extensions.splice(0, Infinity, ...extensions.filter((extension) => extensionId(extension) !== '551d11'))
    extensions.push(extensionOf('551d11', names.toString('hex')))
  })
  writeFleet(
    cwd,
    new Map([
      ['certs/ca/ca.crt', Buffer.from(encodeCertificates([evilRoot]))],
      ['certs/ca/ca.key', files.get('ca/ca.key')!],
      ['certs/server/tls.crt', Buffer.from(encodeCertificates([evilLeaf]))],
      ['certs/server/tls.key', files.get('server/tls.key')!],
      ['certs/server/ca.crt', Buffer.from(encodeCertificates([evilRoot]))],
    ]),
  )
}

describe('names that steer a terminal', () => {
  it.each([
    [['--dir', 'certs']],
    [['--dir', 'certs', '--overwrite', '--dry-run']],
    [['validate', 'certs/server', '--at', '2199-01-01']],
    [
      [
        'install',
        '--cert',
        'certs/server/tls.crt',
        '--key',
        'certs/server/tls.key',
        '--ca',
        'certs/ca/ca.crt',
        '--target',
        'new',
      ],
    ],
  ])('are shown as escapes by %j', async (args) => {
    const cwd = temporaryDirectory()
    evilFleet(cwd)
    const { code, stdout, stderr } = await certgen(args, { cwd })
    expect(stdout + stderr).not.toMatch(steering)
    expect(stdout + stderr).not.toMatch(/^certgen: all is well/m)
    expect(stdout + stderr).toContain('\\u')
    expect(code).toBe(args[0] === 'validate' ? 3 : 0)
  })

  it('are shown as escapes with colours too', async () => {
    const cwd = temporaryDirectory()
    evilFleet(cwd)
    const { stdout } = await certgen(['--dir', 'certs'], { cwd, env: { FORCE_COLOR: '1' } })
    expect(stdout).toContain('\x1b[')
    // eslint-disable-next-line no-control-regex -- the escape sequences of colours
    expect(stdout.replaceAll(/\x1b\[\d+m/g, '')).not.toMatch(steering)
  })

  it('are shown as escapes in errors, hints and findings, which stay a line each', async () => {
    const cwd = temporaryDirectory()
    const name = `${evil}\ncertgen: all is well`
    mkdirSync(join(cwd, name))
    for (const args of [['bundle', name], ['validate', name], ['--dir', join(name, 'x', '\0')], [name]]) {
      const { code, stdout, stderr } = await certgen(
        args.map((arg) => arg.replace('\0', '.')),
        { cwd },
      )
      expect(stdout + stderr).not.toMatch(steering)
      expect(stderr + stdout).not.toMatch(/^certgen: all is well/m)
      expect(code).toBeOneOf([0, 2])
    }
  })

  it('are as they are in JSON, which a program reads', async () => {
    const cwd = temporaryDirectory()
    evilFleet(cwd)
    const { stdout } = await certgen(['--dir', 'certs', '--json'], { cwd })
    const { leaves } = JSON.parse(stdout) as { leaves: { names: string[] }[] }
    expect(leaves[0]?.names[0]).toContain('\x1b[2J')
  })
})
