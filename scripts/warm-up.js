// warm-up.js LOADER DIRECTORY VERSION: runs the program that is built in DIRECTORY as it is mostly run, and keeps the code
// that V8 has compiled it to, for the starts to come.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [loader, directory, version] = process.argv.slice(2)
const require = createRequire(join(directory, 'cli.cjs'))
const { cachePath, loadProgram } = require(loader)
const { program, script } = loadProgram(directory, require)
const scratch = mkdtempSync(join(tmpdir(), 'certgen-warm-up-'))
try {
  const dir = join(scratch, 'certs')
  for (const flags of [[], ['--overwrite'], ['--renew'], ['--json']]) {
    const code = await program.run(['--dir', dir, ...flags], version)
    if (code !== 0) throw new Error(`certgen ${flags.join(' ')} exited with ${code}`)
  }
  writeFileSync(cachePath(directory), script.createCachedData())
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
