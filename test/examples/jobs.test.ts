import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const scratch = temporaryDirectory()
const run = promisify(execFile)

interface Outcome {
  readonly code: number
  readonly said: string
}

/** A step, as both services run it: by bash, which stops at the first command that fails. */
function step(script: string, cwd: string, env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const { PATH, HOME } = process.env
  // The package is at hand as a file; a registry is not asked.
  const environment = { PATH, HOME, npm_config_offline: 'true', npm_config_audit: 'false', ...env }
  return new Promise((done) => {
    const options = { cwd, env: environment }
    execFile('bash', ['-e', '-o', 'pipefail', '-c', script], options, (error, stdout, stderr) =>
      done({ code: error ? Number(error.code) : 0, said: stdout + stderr }),
    )
  })
}

/** Runs steps until one fails. */
async function steps(scripts: readonly string[], cwd: string, env: Record<string, string> = {}): Promise<Outcome> {
  let said = ''
  for (const script of scripts) {
    const outcome = await step(script, cwd, env)
    said += outcome.said
    if (outcome.code !== 0) return { code: outcome.code, said }
  }
  return { code: 0, said }
}

interface Step {
  readonly run?: string
  readonly uses?: string
}
interface Workflow {
  readonly permissions: Readonly<Record<string, string>>
  readonly jobs: Readonly<Record<string, { readonly steps: readonly Step[]; readonly env?: Record<string, string> }>>
}
type Pipeline = Readonly<
  Record<string, { readonly script: readonly string[]; readonly retry?: { readonly exit_codes: number[] } }>
>

describe.skipIf(missing('bash'))('the jobs for CI', () => {
  const text = (name: string): string => readFileSync(resolve('examples', name), 'utf8')
  const workflow = parse(text('github-actions.yml')) as Workflow
  const pipeline = parse(text('gitlab-ci.yml')) as Pipeline
  let template = ''

  /** A project that has certgen among its devDependencies, as the examples say. */
  beforeAll(async () => {
    template = await mkdtemp(join(scratch, 'template-'))
    const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', template]
    const [{ filename }] = JSON.parse((await run('npm', pack)).stdout) as [{ filename: string }]
    const manifest = {
      private: true,
      scripts: { test: 'echo tested' },
      devDependencies: { certgen: `file:${filename}` },
    }
    writeFileSync(join(template, 'package.json'), JSON.stringify(manifest))
    await step('npm install --package-lock-only', template)
  })

  async function project(): Promise<string> {
    const cwd = await mkdtemp(join(scratch, 'project-'))
    cpSync(template, cwd, { recursive: true })
    return cwd
  }

  function scriptsOf(job: string): string[] {
    const scripts = workflow.jobs[job]?.steps.flatMap(({ run: script }) => (script === undefined ? [] : [script])) ?? []
    // Only what runs on the service itself could not run here.
    expect(scripts.join('\n')).not.toContain('${{')
    return scripts
  }

  const jobs = {
    'a GitHub workflow': { test: () => scriptsOf('test'), rotate: () => scriptsOf('rotate') },
    'a GitLab pipeline': {
      test: () => [...(pipeline['test']?.script ?? [])],
      rotate: () => [...(pipeline['rotate']?.script ?? [])],
    },
  }

  describe.each(Object.entries(jobs))('of %s', (_name, { test, rotate }) => {
    it('make certificates for the tests of one run', async () => {
      const cwd = await project()
      const { code, said } = await steps(test(), cwd)
      expect({ code, said }).toMatchObject({ code: 0 })
      expect(said).toContain('certs/server/tls.crt can be served')
      expect(said).toContain('tested')
    })

    it('rotate what is there, and end with the exit code of certgen', async () => {
      const cwd = await project()
      const env = { CERTGEN_DIR: join(cwd, 'etc') }
      expect(await steps(rotate(), cwd, env)).toMatchObject({ code: 0 })
      // What the first run has installed is there for the next ones.
      const [, ...again] = rotate()
      const second = await steps(again, cwd, env)
      expect(second.code).toBe(0)
      expect(second.said).toContain('cross-signed')
      writeFileSync(join(cwd, 'etc/ca/ca.key'), 'damaged')
      const third = await steps(again, cwd, env)
      expect(third.code).toBe(3)
      expect(third.said).toContain('certgen: error: the authority in ')
    })
  })

  it('say for every exit code of a rotation what is to be done', async () => {
    const cwd = await mkdtemp(join(scratch, 'codes-'))
    mkdirSync(join(cwd, 'bin'))
    const [, script = ''] = scriptsOf('rotate')
    for (const code of [1, 2, 3, 4, 5, 6, 7]) {
      writeFileSync(join(cwd, 'bin/npx'), `#!/bin/sh\nexit ${code}\n`, { mode: 0o755 })
      const outcome = await step(script, cwd, { PATH: `${join(cwd, 'bin')}:${process.env['PATH'] ?? ''}` })
      expect(outcome.code).toBe(code)
      expect(outcome.said).toMatch(/^::error::.+\n$/)
    }
    expect(pipeline['rotate']?.retry?.exit_codes).toEqual([5, 6])
  })

  it('give a GitHub job no more rights than to read', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' })
  })
})

// No container engine can be counted on: what the image is built from is tried, and the building of it is not.
describe('the Dockerfile', () => {
  const instructions = readFileSync(resolve('examples/Dockerfile'), 'utf8')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name = '', rest = ''] = /^([A-Z]+) (.*)$/.exec(line) ?? []
      return { name, rest }
    })
  const last = instructions.slice(instructions.findLastIndex(({ name }) => name === 'FROM'))

  it('has known instructions only, and runs certgen as a user that is not root', () => {
    const known = ['FROM', 'WORKDIR', 'COPY', 'RUN', 'ENV', 'USER', 'ENTRYPOINT', 'CMD']
    expect(instructions.filter(({ name }) => !known.includes(name))).toEqual([])
    expect(last.filter(({ name }) => name === 'USER').map(({ rest }) => rest)).toEqual(['node'])
    const json = (wanted: string): unknown => JSON.parse(last.find(({ name }) => name === wanted)?.rest ?? '')
    expect([json('ENTRYPOINT'), json('CMD')]).toEqual([['certgen'], ['--renew']])
  })

  it('copies all that a build needs, and no directory that could hold keys', async () => {
    const cwd = await mkdtemp(join(scratch, 'image-'))
    const copies = instructions.filter(({ name, rest }) => name === 'COPY' && !rest.startsWith('--from'))
    for (const { rest } of copies) {
      const paths = rest.split(' ')
      for (const path of paths.slice(0, -1)) {
        mkdirSync(dirname(join(cwd, path)), { recursive: true })
        cpSync(resolve(path), join(cwd, path), { recursive: true })
      }
    }
    expect(readdirSync(cwd).sort()).toEqual([
      ...['.npmrc', 'bin', 'package-lock.json', 'package.json'],
      ...['scripts', 'src', 'tsconfig.build.json', 'tsconfig.json'],
    ])
    // In place of `npm ci`, which fetches.
    symlinkSync(resolve('node_modules'), join(cwd, 'node_modules'))
    await run('npm', ['run', 'build'], { cwd })
    const { stdout } = await run(process.execPath, ['bin/certgen.js', '--version'], { cwd })
    expect(stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/)
  })
})
