import { Command, CommanderError } from 'commander'
import { CertgenError } from '../errors.ts'
import { addAdoptCommand } from './commands/adopt.ts'
import { addBundleCommand } from './commands/bundle.ts'
import { addCompletionCommand } from './commands/completion.ts'
import { addConfigCommand } from './commands/config.ts'
import { addInstallCommand } from './commands/install.ts'
import { addProbeCommand } from './commands/probe.ts'
import { addRestartCommand } from './commands/restart.ts'
import { addRollbackCommand } from './commands/rollback.ts'
import { addCaCommand, addLeafCommand, addRotateCommand } from './commands/rotate.ts'
import { addStatusCommand } from './commands/status.ts'
import { addValidateCommand } from './commands/validate.ts'
import { addWatchCommand } from './commands/watch.ts'
import { exitCodes } from './exit-codes.ts'
import { formatHelp } from './help.ts'
import type { CommandGroup } from './help.ts'
import { reportError } from './output.ts'
import type { OutputOptions } from './output.ts'

/** Runs one command line. Returns the exit code; throws nothing. */
export async function run(args: readonly string[], version: string): Promise<number> {
  closeQuietlyOnBrokenPipe()
  const { program } = createProgram(version)
  // `certgen --overwrite` is `certgen rotate --overwrite`. Not left to commander, whose default command would take a
  // mistyped command for an argument.
  const first = args[0]
  const isDefault =
    first === undefined || (first.startsWith('-') && !['-h', '--help', '-V', '--version'].includes(first))
  const line = isDefault ? ['rotate', ...args] : args
  try {
    await program.parseAsync(line, { from: 'user' })
    return Number(process.exitCode ?? exitCodes.done)
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.done
    return reportError(
      error instanceof CommanderError ? usageError(error, program, line) : error,
      line[0] ?? '',
      talkOf(args),
    )
  }
}

/** How an error is to be told, also one that comes before the flags have been parsed. */
function talkOf(args: readonly string[]): OutputOptions {
  const index = args.findIndex((arg) => arg.startsWith('--log-format'))
  const format = args[index]?.split('=')[1] ?? args[index + 1]
  return { json: args.includes('--json'), logFormat: index !== -1 && format === 'json' ? 'json' : 'text' }
}

/** The whole command line, with its commands in their groups. */
export function createProgram(version: string): { readonly program: Command; readonly groups: CommandGroup[] } {
  const program = new Command('certgen')
  program
    .description('Rotates private TLS certificates so that no handshake fails.')
    .usage('[command] [options]')
    .version(version, '-V, --version', 'print the version')
    .helpCommand(false)
    .helpOption('-h, --help', 'show this help, or that of a command')
    .configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    .exitOverride()
  const groups = commandGroups.map(({ title, add }) => ({
    title,
    commands: add.map((addTo) => addedBy(program, addTo)),
  }))
  program.configureHelp({
    showGlobalOptions: false,
    sortSubcommands: false,
    formatHelp: formatHelp(program, groups),
  })
  inheritHelp(program)
  return { program, groups }
}

/** Commands take over how help is laid out when they are added, which was before their groups were known. */
function inheritHelp(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent)
    inheritHelp(command)
  }
}

function addedBy(program: Command, add: (program: Command) => void): Command {
  add(program)
  const command = program.commands.at(-1)
  if (!command) throw new Error('a command was added')
  return command
}

const commandGroups: readonly { readonly title: string; readonly add: readonly ((program: Command) => void)[] }[] = [
  { title: 'Make', add: [addRotateCommand, addCaCommand, addLeafCommand, addRollbackCommand] },
  { title: 'Look', add: [addStatusCommand, addValidateCommand, addProbeCommand] },
  { title: 'Follow', add: [addWatchCommand, addRestartCommand] },
  { title: 'Take in', add: [addAdoptCommand, addInstallCommand, addBundleCommand] },
  { title: 'Set up', add: [addConfigCommand, addCompletionCommand] },
]

/** commander's message, told apart from its suggestion and its list of choices. */
function usageError(error: CommanderError, program: Command, line: readonly string[]): CertgenError {
  const command = program.commands.find((candidate) => candidate.name() === line[0])
  if (error.code === 'commander.help') return missingCommand(command, error)
  const parts = error.message.replace(/^error: /, '').split(/\n|\. (?=Allowed)/)
  const [message = '', ...advice] = parts.map((part) => part.replace(/^\((.*)\)$/, '$1').replace(/\.$/, ''))
  const hints = advice.filter(Boolean).map((text) => text.charAt(0).toLowerCase() + text.slice(1))
  const help = `see certgen ${command ? `${command.name()} ` : ''}--help`
  return new CertgenError('usage', message, { hints: [...hints, help], cause: error })
}

/** commander answers a command that lacks its own command with help; what is wrong is for us to say. */
function missingCommand(command: Command | undefined, cause: CommanderError): CertgenError {
  const known = command?.commands.map((candidate) => `certgen ${command.name()} ${candidate.name()}`) ?? []
  return new CertgenError('usage', `${command?.name() ?? 'certgen'} needs to know what to do`, { hints: known, cause })
}

/** `certgen bundle a b | head -1` is no failure. */
function closeQuietlyOnBrokenPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit()
  })
}
