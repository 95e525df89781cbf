import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certgen, output, rotateJson, temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'

const cwd = temporaryDirectory()

/** The commands as the overview names them. */
async function commandNames(): Promise<string[]> {
  const { stdout } = await certgen(['--help'])
  const [, table = ''] = stdout.split('\n\n')
  return table.split('\n').map((line) => line.slice(9).trim().split(/\s+/)[0] ?? '')
}

describe('help', () => {
  it('of the program is one screen of 80 columns, in groups', async () => {
    const { code, stdout, stderr } = await certgen(['--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(23) // And the prompt.
    expect(lines.filter((line) => line.length > 80)).toEqual([])
    expect(stdout).toMatch(/^Make {5}rotate /m)
  })

  it('of each command fits 80 columns and tells its exit codes', async () => {
    for (const name of await commandNames()) {
      const commands = name === 'config' ? ['check', 'schema', 'init'].map((inner) => [name, inner]) : [[name]]
      for (const command of commands) {
        const { code, stdout } = await certgen([...command, '--help'])
        expect(code).toBe(0)
        expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
        if (command[1] !== 'schema') expect(stdout, command.join(' ')).toContain('Exit codes:')
      }
    }
  })

  it.each([
    [['rotat'], "unknown command 'rotat'", 'did you mean rotate?'],
    [['--overwrit'], "unknown option '--overwrit'", 'did you mean --overwrite?'],
    [['validate', '--expires-witin', '30d'], "unknown option '--expires-witin'", 'did you mean --expires-within?'],
    [['config'], 'config needs to know what to do', 'certgen config check'],
    [['config', 'chek'], "unknown command 'chek'", 'did you mean check?'],
    [
      ['completion', 'tcsh'],
      "command-argument value 'tcsh' is invalid for argument 'shell'",
      'allowed choices are bash, zsh, fish',
    ],
    [['leaf'], "missing required argument 'name'", 'see certgen leaf --help'],
  ])('for %j, which is wrong, is a hint', async (args, message, hint) => {
    const { code, stdout, stderr } = await certgen(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr.split('\n').slice(0, 2)).toEqual([`certgen: error: ${message}`, `certgen: hint: ${hint}`])
  })
})

describe('the manual', () => {
  const page = resolve('dist/certgen.1')

  it.skipIf(missing('man'))('is a page that man shows without a warning, with every command', async () => {
    const manual = execFileSync('man', ['--warnings', '-E', 'UTF-8', '-l', page], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], MANWIDTH: '80', MANPAGER: 'cat', LC_ALL: 'C.UTF-8' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const name of await commandNames()) expect(manual).toMatch(new RegExp(`^ +certgen ${name}`, 'm'))
    expect(manual).toContain('--distrust-previous')
    expect(manual).toMatch(/EXIT STATUS\n +0 +done, or nothing to do/)
    expect(output('man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', page)).not.toContain('warning')
  })
})

describe('completion', () => {
  const bin = join(cwd, 'bin')
  mkdirSync(bin)
  symlinkSync(resolve('bin/certgen.js'), join(bin, 'certgen'))
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}`, HOME: cwd }

  /** What a shell offers for the last word of a line. */
  const shells: Readonly<Record<string, (line: string) => string[]>> = {
    bash: (line) => {
      const script =
        'source <(certgen completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _certgen; printf "%s\\n" "${COMPREPLY[@]}"'
      return run('bash', '--norc', '-c', script, 'bash', ...line.split(' '))
    },
    zsh: (line) => {
      const script =
        'compdef() { : }; _files() { print -l .files }; _describe() { print -l -- ${found%%:*} }; ' +
        'source <(certgen completion zsh); words=("$@"); CURRENT=$#; _certgen || true'
      return run('zsh', '-f', '-c', script, 'zsh', ...line.split(' '))
    },
    fish: (line) =>
      run('fish', '--no-config', '-c', `certgen completion fish | source; complete --do-complete '${line}'`).map(
        (found) => found.split('\t')[0]!,
      ),
  }

  function run(program: string, ...args: string[]): string[] {
    const printed = execFileSync(program, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
    return printed
      .split('\n')
      .filter((found) => found !== '')
      .sort()
  }

  describe.each(Object.keys(shells))('of %s', (shell) => {
    it.skipIf(missing(shell))('offers commands, flags, their values, and names of targets', async () => {
      await rotateJson(['--name', 'web', '--dns', 'web.test'], { cwd })
      await rotateJson(['leaf', 'db', '--dns', 'db.test'], { cwd })
      const offers = shells[shell]!
      expect(offers('certgen ro')).toEqual(['rollback', 'rotate'])
      expect(offers('certgen --over')).toEqual(['--overwrite'])
      expect(offers('certgen rollback ')).toEqual(['db', 'web'])
      expect(offers('certgen leaf w')).toEqual(['web'])
      expect(offers('certgen --overwrite --name ')).toEqual(['db', 'web'])
      expect(offers('certgen leaf x --key rsa')).toEqual(['rsa-2048', 'rsa-3072', 'rsa-4096'])
      expect(offers('certgen rotate --strategy ')).toEqual(['auto', 'cross-sign', 'replace', 'staged'])
      expect(offers('certgen config ')).toEqual(['check', 'init', 'schema'])
      expect(offers('certgen rollback --dir nothing ')).toEqual([])
    })
  })

  it.skipIf(missing('bash'))('offers files and directories where they belong', () => {
    writeFileSync(join(cwd, 'unique-file.pem'), '')
    const complete = (line: string): string =>
      execFileSync(join(bin, 'certgen'), ['__complete', '--', ...line.split(' ')], { cwd, encoding: 'utf8' })
    expect(complete('validate --cert ')).toBe(':files\n')
    expect(complete('rotate --dir ')).toBe(':directories\n')
    expect(complete('validate ')).toBe(':directories\n')
  })
})
