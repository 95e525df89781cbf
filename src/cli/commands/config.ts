import { access } from 'node:fs/promises'
import { dirname, relative, resolve } from 'node:path'
import { Option } from 'commander'
import type { Command } from 'commander'
import { CertgenError } from '../../errors.ts'
import { exitCodes } from '../exit-codes.ts'
import { describeFleet, readConfig } from '../fleet.ts'
import { configOption, dirOption } from '../options.ts'
import { createOutput, writeError } from '../output.ts'

const defaultFile = 'certgen.yaml'

export function addConfigCommand(program: Command): void {
  const command = program.command('config').summary('check, describe or begin a configuration')
  command.helpCommand(false)
  command.description('Checks certgen.yaml, prints its JSON Schema, or writes one from what is on disk.')
  command
    .command('check')
    .summary('name every mistake')
    .description('Checks the configuration and names every mistake in it.')
    .addOption(configOption())
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExit codes:\n  0 no mistakes   2 mistakes, each with FILE:LINE:COLUMN')
    .action(checkConfig)
  command
    .command('schema')
    .summary('print its JSON Schema')
    .description('Prints the JSON Schema of the configuration, for editors.')
    .addHelpText('after', '\nExample:\n  certgen config schema > certgen.schema.json')
    .action(printSchema)
  command
    .command('init')
    .summary('write one from what is on disk')
    .description('Writes a commented configuration from the authority and the targets that are on disk.')
    .addOption(dirOption())
    .addOption(new Option('--out <file>', 'where to write it; - prints it').default(defaultFile))
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExit codes:\n  0 done   2 the file is there, or DIR is unreadable   5 the write failed')
    .action(beginConfig)
}

async function checkConfig({ config, json }: { readonly config?: string; readonly json?: boolean }): Promise<void> {
  const output = createOutput({ json: json === true })
  const path = config ?? defaultFile
  const { ConfigMistakes } = await import('../../rotation/config.ts')
  try {
    const { authorities, certificates } = await readConfig(path)
    const warnings = await findWarnings(path)
    for (const { message } of warnings) output.warn(message)
    const counts = { authorities: authorities.length, certificates: certificates.length }
    if (output.json) output.document('config check', { ok: true, ...counts, warnings })
    else
      output.result(
        `${path} has no mistakes: ${count(authorities.length, 'authority', 'authorities')}, ` +
          count(certificates.length, 'certificate', 'certificates'),
      )
  } catch (error) {
    if (!(error instanceof ConfigMistakes)) throw error
    const mistakes = error.mistakes.map(({ message, hints }) => ({ message, hints }))
    if (output.json) output.document('config check', { ok: false, mistakes })
    for (const mistake of error.mistakes) writeError(mistake)
    process.exitCode = exitCodes.usage
  }
}

/** What is no mistake of the file, but would keep a run on this machine from using it: accounts, variables, files. */
async function findWarnings(config: string): Promise<{ code: string; message: string }[]> {
  try {
    await describeFleet({ config })
    return []
  } catch (error) {
    if (error instanceof CertgenError) return [{ code: error.code, message: error.message }]
    throw error
  }
}

async function printSchema(): Promise<void> {
  const { configJsonSchema } = await import('../../rotation/config-schema.ts')
  process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)
}

interface InitOptions {
  readonly dir?: string
  readonly out: string
  readonly json?: boolean
}

async function beginConfig({ dir = './certs', out, json }: InitOptions): Promise<void> {
  const output = createOutput({ json: json === true })
  const prints = out === '-'
  if (!prints) await refuseExisting(out)
  const { sketchFleet } = await import('../../rotation/sketch.ts')
  const { writeConfig } = await import('../../rotation/config-writer.ts')
  const base = prints ? '.' : dirname(out)
  const sketch = await sketchFleet(dir, new Date())
  const text = writeConfig({ ...sketch, dir: relativeTo(base, dir) })
  if (prints) {
    process.stdout.write(text)
    return
  }
  const { writeFileAtomically } = await import('../../store/file.ts')
  await writeFileAtomically(out, text, 0o644)
  const certificates = sketch.certificates.map(({ name }) => name)
  if (output.json) output.document('config init', { out, certificates })
  else output.result(`wrote ${out}: ${certificates.length === 0 ? 'no certificates yet' : certificates.join(', ')}`)
}

async function refuseExisting(path: string): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  )
  if (!isThere) return
  throw new CertgenError('usage', `${path} is there already, and was left as it is`, {
    hints: ['write to another file with --out FILE, or print it with --out -'],
  })
}

/** With a dot in front, as people write paths that are relative to a file. */
export function relativeTo(base: string, path: string): string {
  const below = relative(resolve(base), resolve(path))
  if (below === '') return '.'
  return below.startsWith('..') ? below : `./${below}`
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`
}
