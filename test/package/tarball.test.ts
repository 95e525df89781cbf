import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { verifyUnits } from '../examples/units.ts'
import { missing } from '../requirements.ts'

const run = promisify(execFile)
const project = join(import.meta.dirname, '../..')
const nodes = (process.env['CERTGEN_TEST_NODES'] ?? '').split(' ').filter((node) => node !== '')

describe.skipIf(missing('openssl'))('the packed package, installed in an empty folder', () => {
  let scratch = ''
  let folder = ''
  let certgen = ''
  let packed: string[] = []

  beforeAll(async () => {
    if (!existsSync(join(project, 'dist'))) await run(process.execPath, ['scripts/build.js'], { cwd: project })
    scratch = await mkdtemp(join(tmpdir(), 'certgen-tarball-'))
    folder = join(scratch, 'empty')
    certgen = join(folder, 'node_modules/.bin/certgen')
    await mkdir(folder)

    const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', scratch]
    const { stdout } = await run('npm', pack, { cwd: project })
    const [tarball] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }]
    packed = tarball.files.map((file) => file.path)
    // Offline: a run-time dependency would have to be fetched, and the package must not have one.
    const install = ['install', '--prefix', folder, '--offline', '--no-audit', '--no-fund']
    await run('npm', [...install, join(scratch, tarball.filename)], { cwd: folder })
  })

  afterAll(async () => {
    await rm(scratch, { recursive: true, force: true })
  })

  it('holds what is built and what explains it, and no sources or tests', () => {
    const explains = /^(bin\/|dist\/|docs\/|examples\/|(CHANGELOG|README|SECURITY)\.md$|LICENSE$|package\.json$)/
    const stray = packed.filter((path) => !explains.test(path))
    expect(stray).toEqual([])
    expect(packed).toEqual(
      expect.arrayContaining([
        'bin/certgen.js',
        'dist/cli.cjs',
        'dist/program.cjs',
        'dist/index.js',
        'dist/index.d.ts',
      ]),
    )
  })

  // Acceptance 6 of issue 5.
  it.skipIf(missing('systemd-analyze'))('brings systemd units that start it', () => {
    const units = join(folder, 'node_modules/certgen/examples/systemd')
    expect(verifyUnits(units, certgen, join(scratch, 'units'))).toBe('')
  })

  it('says its version', async () => {
    expect((await run(certgen, ['--version'], { cwd: folder })).stdout.trim()).toBe(await version())
  })

  it('runs as well where the compiled code is missing, of another version, or damaged', async () => {
    const copy = await mkdtemp(join(scratch, 'copy-'))
    await cp(join(folder, 'node_modules/certgen'), copy, { recursive: true })
    const cache = join(copy, 'dist/program.cjs.cache')
    const code = await readFile(cache)
    const runs = [code.subarray(0, 1000), Buffer.alloc(code.length), Buffer.from('garbage'), null]
    for (const data of runs) {
      await (data ? writeFile(cache, data) : rm(cache))
      await verifyFirstRun(process.execPath, [join(copy, 'bin/certgen.js')])
    }
  })

  it('makes a leaf that openssl verifies strictly, on a first run without a configuration', async () => {
    await verifyFirstRun(certgen, [])
  })

  // Acceptance 6 of issue 5.
  it.skipIf(missing('man', 'bash'))('brings its manual and its completion', async () => {
    const prefix = join(scratch, 'global')
    const [tarball] = (await readdir(scratch)).filter((name) => name.endsWith('.tgz'))
    await run('npm', ['install', '--global', '--prefix', prefix, '--offline', join(scratch, tarball ?? '')])
    const environment = { ...process.env, MANPATH: join(prefix, 'share/man'), MANPAGER: 'cat' }
    const { stdout: manual } = await run('man', ['certgen'], { env: environment })
    expect(manual).toContain('certgen rotate')
    const script = `source <("${prefix}/bin/certgen" completion bash) && complete -p certgen`
    expect((await run('bash', ['-c', script])).stdout).toBe('complete -F _certgen certgen\n')
  })

  it('talks to Kubernetes without another package', async () => {
    const restart = run(certgen, ['restart', 'deployment/shop/api'], {
      cwd: folder,
      env: { PATH: process.env['PATH'] },
    })
    // As far as one comes without a cluster: what reads kubeconfig files has been loaded.
    await expect(restart).rejects.toThrow('there is no cluster: no kubeconfig file, and no service account')
  })

  it('can be imported, with types that need nothing else but those of Node', async () => {
    await writeFile(
      join(folder, 'consumer.mts'),
      "import * as certgen from 'certgen'\nconsole.log(Object.keys(certgen).length)\n",
    )
    const types = ['--types', 'node', '--typeRoots', join(project, 'node_modules/@types')]
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2023', ...types]
    const compile = run(join(project, 'node_modules/.bin/tsc'), [...options, 'consumer.mts'], { cwd: folder })
    await compile.catch((error: unknown) => expect.fail((error as { stdout: string }).stdout))
    const { stdout } = await run(process.execPath, ['consumer.mjs'], { cwd: folder })
    expect(Number(stdout)).toBeGreaterThan(0)
  })

  it('rotates under a server and a client that reload', async () => {
    const { stdout } = await run(process.execPath, ['served.mjs', certgen], { cwd: await withReloading() })
    expect(stdout).toMatch(/^v\d+\.\S+ [0-9a-f]{64}\n$/)
  })

  if (nodes.length === 0) {
    it.skip('runs on other Node versions: CERTGEN_TEST_NODES="22 24" npm test (needs the registry)')
  }

  describe.each(nodes)('on Node %s', (node) => {
    const npx = ['--yes', '--package', `node@${node}`, '--', 'node']

    it('says its version and makes a leaf that openssl verifies strictly', { timeout: 180_000 }, async () => {
      const { stdout: running } = await run('npx', [...npx, '--version'], { cwd: folder })
      expect(running).toMatch(new RegExp(`^v${node}\\.`))
      const { stdout } = await run('npx', [...npx, certgen, '--version'], { cwd: folder })
      expect(stdout.trim()).toBe(await version())
      await verifyFirstRun('npx', [...npx, certgen])
    })

    it('rotates under a server and a client that reload', { timeout: 180_000 }, async () => {
      const { stdout } = await run('npx', [...npx, 'served.mjs', certgen], { cwd: await withReloading() })
      expect(stdout).toMatch(new RegExp(`^v${node}\\.\\S+ [0-9a-f]{64}\\n$`))
    })
  })

  /** A fresh folder below the one with the package, so that the program in it finds `certgen/reload`. */
  async function withReloading(): Promise<string> {
    const cwd = await mkdtemp(join(folder, 'reloading-'))
    await copyFile(join(import.meta.dirname, 'fixtures/served.mjs'), join(cwd, 'served.mjs'))
    return cwd
  }

  /** Runs certgen for the first time in a fresh working directory; a status other than 0 is thrown by `run`. */
  async function verifyFirstRun(program: string, leading: string[]): Promise<void> {
    const cwd = await mkdtemp(join(scratch, 'run-'))
    await run(program, [...leading, '--dir', './certs'], { cwd })
    const strictly = ['verify', '-x509_strict', '-CAfile', 'certs/server/ca.crt', 'certs/server/tls.crt']
    expect((await run('openssl', strictly, { cwd })).stdout).toBe('certs/server/tls.crt: OK\n')
  }
})

async function version(): Promise<string> {
  return (JSON.parse(await readFile(join(project, 'package.json'), 'utf8')) as { version: string }).version
}
