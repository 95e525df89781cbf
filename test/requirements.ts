import { accessSync, constants } from 'node:fs'
import { delimiter, resolve } from 'node:path'

/**
 * Whether any of the programs is not on the PATH, or not at its absolute path, for `describe.skipIf(missing('nginx'))`. By hand the tests are then
 * skipped, and standard error says so; in CI, where `.ci/run` sets CERTGEN_CI, a skipped test would be a silent hole.
 *
 * @throws Error in CI, when a program is missing
 */
export function missing(...programs: string[]): boolean {
  const absent = programs.filter((program) => !isOnPath(program))
  if (absent.length === 0) return false
  const message = `tests need programs that are not installed: ${absent.join(', ')}`
  if (process.env['CERTGEN_CI']) throw new Error(message)
  process.stderr.write(`\n!!! SKIPPED: ${message}\n\n`)
  return true
}

function isOnPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(resolve(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
