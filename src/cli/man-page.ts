import type { Command, Option } from 'commander'
import { exitCodeMeanings } from './exit-codes.ts'
import { createProgram } from './program.ts'

/** certgen(1), in the man macros, from the same source as the help of the commands. The build writes it. */
export function manPage(version: string): string {
  const { program, groups } = createProgram(version)
  const commands = groups.flatMap((group) => group.commands)
  return [
    `.TH CERTGEN 1 "" "certgen ${version}" "User Commands"`,
    ...section('NAME', [`certgen \\- ${firstLower(program.description()).replace(/\.$/, '')}`]),
    ...section('SYNOPSIS', ['.B certgen', '.RI [ command ]', '.RI [ options ]']),
    ...section('DESCRIPTION', description.map(escape)),
    ...section('COMMANDS', commands.flatMap(describeCommand)),
    ...section(
      'EXIT STATUS',
      exitCodeMeanings.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, escape(meaning)]),
    ),
    ...section('ENVIRONMENT', pairs(environment)),
    ...section('FILES', pairs(files)),
    ...section('EXAMPLES', pairs(examples)),
    ...section('SEE ALSO', ['.BR openssl (1),', '.BR certtool (1)']),
    '',
  ].join('\n')
}

const description = [
  'certgen makes a private certificate authority and the leaves of a fleet of services, and rotates them so that no ' +
    'handshake fails, in whatever order the services notice the change. Without a command it rotates: it makes what is ' +
    'missing and finishes what was interrupted; with --renew it renews what is due, with --overwrite everything.',
  'Before it writes, it tries every pair of old and new peers with real handshakes, in memory, with the exact bytes it is ' +
    'about to write, and refuses what would fail. Each directory is swapped in one step.',
]

const environment: readonly [string, string][] = [
  ['CERTGEN_DIR', 'Root directory, as --dir.'],
  ['CERTGEN_CONFIG', 'Configuration, as --config.'],
  [
    'CERTGEN_CA_PASSPHRASE',
    "Passphrase of the authority's key, where no file with it is named. Commands do not inherit it.",
  ],
  ['CERTGEN_DEBUG', 'When it is 1, an error that is a bug prints a stack trace.'],
  ['NO_COLOR, FORCE_COLOR', 'Colour on a terminal, as elsewhere.'],
]

const files: readonly [string, string][] = [
  ['./certgen.yaml', 'The configuration, if it is there. certgen config schema prints all that may stand in it.'],
  ['DIR/ca', 'The authority: ca.key, ca.crt, and after a rotation previous.crt and cross.crt. For its owner alone.'],
  ['DIR/NAME', 'A target: tls.key, tls.crt, ca.crt and tls.pem, links through ..data to the current generation.'],
]

const examples: readonly [string, string][] = [
  ['certgen --overwrite', 'A new authority and new leaves, now; peers that have not looked yet still accept them.'],
  ['certgen --renew --exec "nginx -s reload"', 'Every night: what is due, and a reload if something was.'],
  ['certgen leaf envoy --dns envoy.gateway.svc --ip 10.1.2.3', 'One more leaf, in DIR/envoy.'],
  ['certgen probe localhost:8443 --expect certs/server --wait 60s', 'Waits until it is served.'],
]

function section(title: string, lines: readonly string[]): string[] {
  return [
    `.SH ${title}`,
    ...lines.flatMap((line, index) => (index > 0 && title === 'DESCRIPTION' ? ['.PP', line] : [line])),
  ]
}

function pairs(entries: readonly [string, string][]): string[] {
  return entries.flatMap(([term, text]) => ['.TP', `.B ${escape(term)}`, escape(text)])
}

function describeCommand(command: Command): string[] {
  const inner = command.commands.filter((each) => !each.name().startsWith('_'))
  const usage = `certgen ${path(command)} ${command.usage()}`.replace(/ \[options\]/, '')
  return [
    `.SS ${escape(usage)}`,
    escape(command.description()),
    ...command.options.filter((option) => !option.hidden).flatMap(describeOption),
    ...inner.flatMap(describeCommand),
  ]
}

function path(command: Command): string {
  const parent = command.parent?.parent ? `${path(command.parent)} ` : ''
  return parent + command.name()
}

function describeOption({ flags, description: text, argChoices, defaultValueDescription, envVar }: Option): string[] {
  const more = [
    ...(argChoices ? [`One of ${argChoices.join(', ')}.`] : []),
    ...(defaultValueDescription === undefined ? [] : [`Default: ${defaultValueDescription}.`]),
    ...(envVar === undefined ? [] : [`Environment: ${envVar}.`]),
  ]
  return ['.TP', `.B ${escape(flags)}`, escape([`${firstUpper(text)}.`, ...more].join(' '))]
}

/** What roff would take for a command of its own. */
function escape(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^[.']/gm, '\\&$&').replaceAll('\n', ' ')
}

function firstLower(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}

function firstUpper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
