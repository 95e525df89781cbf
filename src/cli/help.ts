import { Help } from 'commander'
import type { Command } from 'commander'

/** The commands by what they are for; the order in which help, completion and manual show them. */
export interface CommandGroup {
  readonly title: string
  readonly commands: readonly Command[]
}

/** What the overview shows below the commands. */
const examples: readonly [string, string][] = [
  ['certgen', 'make what is missing in ./certs'],
  ['certgen --overwrite', 'new authority and leaves; old peers keep working'],
  ['certgen --renew', 'only what is due; for cron and timers'],
]

/** Help of the program on one screen; that of each command as commander lays it out. */
export function formatHelp(program: Command, groups: readonly CommandGroup[]) {
  return (command: Command, helper: Help): string =>
    command === program ? overview(program, groups) : Help.prototype.formatHelp.call(helper, command, helper)
}

function overview(program: Command, groups: readonly CommandGroup[]): string {
  const titles = Math.max(...groups.map(({ title }) => title.length))
  const names = Math.max(...groups.flatMap(({ commands }) => commands.map((command) => command.name().length)))
  const rows = groups.flatMap(({ title, commands }) =>
    commands.map((command, index) =>
      [(index === 0 ? title : '').padEnd(titles), command.name().padEnd(names), command.summary()].join('  '),
    ),
  )
  const usage = Math.max(...examples.map(([line]) => line.length))
  return [
    'Usage: certgen [command] [options]',
    program.description(),
    '',
    ...rows,
    '',
    ...examples.map(([line, what]) => `  ${line.padEnd(usage)}  ${what}`),
    '',
    'certgen COMMAND --help tells its flags and exit codes; see also: man certgen',
    '',
  ].join('\n')
}
