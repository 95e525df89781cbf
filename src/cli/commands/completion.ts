import { readdir } from 'node:fs/promises'
import { Argument } from 'commander'
import type { Command, Option } from 'commander'
import { keyTypes } from '../../pki/key.ts'
import { logFormats } from '../output.ts'

const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

export function addCompletionCommand(program: Command): void {
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(async (words: string[]) => {
      for (const line of await complete(program, words)) process.stdout.write(`${line}\n`)
    })
  program
    .command('completion')
    .summary('print the completion of a shell: bash, zsh or fish')
    .description('Prints a script that completes commands, flags, files and names of targets.')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .addHelpText('after', completionHelp)
    .action((shell: Shell) => {
      process.stdout.write(scripts[shell])
    })
}

const completionHelp = `
Examples:
  certgen completion bash > /etc/bash_completion.d/certgen
  certgen completion zsh > "\${fpath[1]}/_certgen"
  certgen completion fish > ~/.config/fish/completions/certgen.fish

Exit codes:
  0 done   2 usage`

// What each shell asks is the same: certgen __complete, with the words up to the one at the cursor. The answer has a word
// a line, with its description behind a tab; `:files` and `:directories` leave it to the shell.
const scripts: Readonly<Record<Shell, string>> = {
  bash: `# bash completion of certgen
_certgen() {
  local word="\${COMP_WORDS[COMP_CWORD]}" line
  COMPREPLY=()
  while IFS=$'\\t' read -r line _; do
    case "$line" in
      :files) compopt -o default 2>/dev/null ;;
      :directories) compopt -o filenames -o nospace 2>/dev/null; mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$word") ;;
      *) COMPREPLY+=("$line") ;;
    esac
  done < <(certgen __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _certgen certgen
`,
  zsh: `#compdef certgen
# zsh completion of certgen
_certgen() {
  local -a found
  local line
  while IFS= read -r line; do
    case "$line" in
      :files) _files ;;
      :directories) _files -/ ;;
      *) found+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
    esac
  done < <(certgen __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#found} )) && _describe -V certgen found
}
if [ "$funcstack[1]" = "_certgen" ]; then _certgen "$@"; else compdef _certgen certgen; fi
`,
  fish: `# fish completion of certgen
function __certgen_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in (certgen __complete -- $words[2..-1] 2>/dev/null)
    switch $line
      case :files
        __fish_complete_path (commandline -ct)
      case :directories
        __fish_complete_directories (commandline -ct)
      case '*'
        echo $line
    end
  end
end
complete -c certgen -f -a '(__certgen_complete)'
`,
}

/** What may stand where the last of the words is; it may be begun, or empty. */
async function complete(program: Command, words: readonly string[]): Promise<string[]> {
  const current = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const { command, rest } = commandOf(program, before)
  const valued = command.options.find((option) => option.long === before.at(-1) && option.required)
  if (valued) return begun(await valuesOf(valued, words), current)
  // Flags without a command are those of rotate.
  if (current.startsWith('-')) return begun(flagsOf(command === program ? rotateOf(program) : command), current)
  if (command.commands.length > 0 && rest.length === 0) {
    const shown = command.commands.filter((each) => !each.name().startsWith('_'))
    return begun(
      shown.map((each) => `${each.name()}\t${each.summary()}`),
      current,
    )
  }
  const argument = command.registeredArguments[rest.length]
  return begun(argument ? await argumentsFor(argument, words) : [], current)
}

function begun(lines: readonly string[], current: string): string[] {
  return lines.filter((line) => line.startsWith(':') || line.startsWith(current))
}

/** The command that the words have reached, and what they say behind it; flags without one are those of rotate. */
function commandOf(program: Command, words: readonly string[]): { command: Command; rest: string[] } {
  let command = program
  const rest: string[] = []
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word.startsWith('-')) {
      if (command === program) command = rotateOf(program)
      if (command.options.some((option) => option.long === word && option.required)) index++
      continue
    }
    const next = rest.length === 0 ? command.commands.find((each) => each.name() === word) : undefined
    if (next) command = next
    else rest.push(word)
  }
  return { command, rest }
}

function rotateOf(program: Command): Command {
  return program.commands.find((each) => each.name() === 'rotate') ?? program
}

function flagsOf(command: Command): string[] {
  return command.options
    .filter((option) => !option.hidden && option.long != null)
    .map((option) => `${option.long ?? ''}\t${option.description}`)
    .concat('--help\tshow help')
}

async function valuesOf(option: Option, words: readonly string[]): Promise<string[]> {
  if (option.argChoices) return option.argChoices
  switch (option.long) {
    case '--key':
      // A key file where a pair is named, a key type where one is made.
      return option.flags.includes('<type>') ? [...keyTypes] : [':files']
    case '--usage':
      return ['server', 'client', 'server,client']
    case '--log-format':
      return [...logFormats]
    case '--name':
      return targetNames(words)
  }
  if (option.flags.includes('<dir>')) return [':directories']
  return /<(file|pidfile)/.test(option.flags) ? [':files'] : []
}

async function argumentsFor(argument: Argument, words: readonly string[]): Promise<string[]> {
  if (argument.argChoices) return argument.argChoices
  switch (argument.name()) {
    case 'name':
      return targetNames(words)
    case 'dir':
      return [':directories']
    case 'new':
    case 'old':
      return [':files']
    default:
      return []
  }
}

/** The targets below --dir; none where it cannot be read, for a completion has no errors. */
async function targetNames(words: readonly string[]): Promise<string[]> {
  const index = words.indexOf('--dir')
  const dir = (index === -1 ? undefined : words[index + 1]) ?? process.env['CERTGEN_DIR'] ?? './certs'
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => [])
  return entries
    .filter(
      (entry) => (entry.isDirectory() || entry.isSymbolicLink()) && entry.name !== 'ca' && !entry.name.startsWith('.'),
    )
    .map(({ name }) => name)
    .sort()
}
