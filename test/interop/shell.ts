/** A command line over several lines: an option and its values on each. */
export function shellLines(program: string, args: readonly string[]): string {
  return `${[program, ...args].join(' ').replaceAll(/ (?=-)/g, ' \\\n  ')}\n`
}
