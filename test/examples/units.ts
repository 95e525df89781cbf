import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { output } from '../program.ts'

/**
 * What systemd says of the units in a directory: nothing when all is well. `certgen` is the program that they start, for
 * systemd looks for it where it is not installed here; copies of the units are made in `scratch`.
 */
export function verifyUnits(
  units: string,
  certgen: string,
  scratch: string,
  change: (service: string) => string = (text) => text,
): string {
  mkdirSync(scratch, { recursive: true })
  const paths = readdirSync(units).map((name) => {
    const text = readFileSync(join(units, name), 'utf8')
    const path = join(scratch, name)
    writeFileSync(path, (name === 'certgen.service' ? change(text) : text).replaceAll('=certgen ', `=${certgen} `))
    return path
  })
  const analyze = ['--man=no', '--recursive-errors=no', 'verify', ...paths]
  // What it says is the verdict, whatever its exit code: a key that it does not know is none to it.
  return output('sh', '-c', 'systemd-analyze "$@" 2>&1 || true', 'sh', ...analyze)
}
