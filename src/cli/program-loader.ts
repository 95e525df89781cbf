import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Script } from 'node:vm'

export interface Program {
  readonly run: (args: readonly string[], version: string) => Promise<number>
}

/** The program, and the script that it came from: the build asks that for its compiled code. */
export interface LoadedProgram {
  readonly program: Program
  readonly script: Script
}

/**
 * Loads `program.cjs` with the code that V8 compiled it to when it was built, which saves half of a start. V8 checks that
 * the code is its own and of a source of this length; otherwise, as on another version of Node, it compiles as ever.
 */
export function loadProgram(directory: string, require: NodeJS.Require): LoadedProgram {
  const filename = join(directory, 'program.cjs')
  const cachedData = readIfThere(cachePath(directory))
  // As Node wraps a CommonJS module; on one line, so that the lines of a stack are those of the file.
  const wrapped = `(function (exports, require, module, __filename, __dirname) { ${readFileSync(filename, 'utf8')}\n})`
  const script = new Script(wrapped, { filename, ...(cachedData ? { cachedData } : {}) })
  const module = { exports: {} as Program }
  const main = script.runInThisContext() as (...parts: readonly unknown[]) => void
  main(module.exports, require, module, filename, directory)
  return { program: module.exports, script }
}

export function cachePath(directory: string): string {
  return join(directory, 'program.cjs.cache')
}

function readIfThere(path: string): Buffer | null {
  try {
    return readFileSync(path)
  } catch {
    // It only saves time.
    return null
  }
}
