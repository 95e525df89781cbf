import { CertgenError } from '../errors.ts'
import { readInput } from './options.ts'

/** Passphrases: from a file, the environment or a person, and never an argument, which everybody can see. */

/** A passphrase is the first line of its file. Throws CertgenError `unreadable`, and `usage` when it is empty. */
export async function readPassphrase(path: string): Promise<string> {
  const [line = ''] = (await readInput(path)).toString('utf8').split(/\r?\n/)
  if (line !== '') return line
  throw new CertgenError('usage', `the passphrase file ${path} is empty`, {
    hints: ['put the passphrase on its first line'],
  })
}

/** The passphrase of the authority's key, where no file was named; an empty variable is none. */
export function passphraseFromEnvironment(): string | undefined {
  const passphrase = process.env['CERTGEN_CA_PASSPHRASE']
  return passphrase === '' ? undefined : passphrase
}

/** Asks on the terminal, showing nothing of what is typed; undefined where there is none, or nothing was typed. */
export async function askPassphrase(what: string): Promise<string | undefined> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined
  const { read } = await import('read')
  const answer = await read({
    prompt: `certgen: ${what}: `,
    silent: true,
    input: process.stdin,
    output: process.stderr,
  })
  return answer === '' ? undefined : answer
}
