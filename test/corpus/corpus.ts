import { createPrivateKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Fleets of certgen and of others, made once by `make.sh` and kept: what a test does with them, it does everywhere. */

export interface Fleet {
  readonly name: string
  /** By path: `ca/ca.crt`, `server/tls.key`. */
  readonly files: ReadonlyMap<string, Buffer>
  /** The keys of its authority. */
  readonly signers: readonly KeyObject[]
}

/** Of the leaf's key of the fleet `adopted`; the others have none. */
export const passphrase = 'open sesame'

/** An instant in the life of all that is in the corpus. */
export const instant = new Date('2030-06-01T12:00:00Z')

export function readCorpus(directory: string): Fleet[] {
  const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return names.map(({ name }) => {
    const paths = readdirSync(join(directory, name), { recursive: true, encoding: 'utf8' }).filter((path) =>
      /\.(key|crt|pem)$/.test(path),
    )
    const files = new Map(paths.sort().map((path) => [path, readFileSync(join(directory, name, path))]))
    const keys = [...files].filter(([path]) => path.startsWith('ca/') && path.endsWith('.key'))
    return { name, files, signers: keys.map(([, data]) => createPrivateKey(data)) }
  })
}

/** Writes the fleet as ordinary files, as another tool might have left it. */
export function writeFleet(directory: string, files: ReadonlyMap<string, Buffer>): void {
  for (const [path, data] of files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), data, { mode: path.endsWith('.crt') ? 0o644 : 0o600 })
  }
}
