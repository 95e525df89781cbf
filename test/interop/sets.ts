import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pemBlocks } from '../program.ts'

/** A directory with the files that a peer loads: a target, or what a target held once. */
export type SetDirectory = string

/** Copies what a peer that reads the target now would load. */
export function keepSet(target: SetDirectory, directory: string): SetDirectory {
  mkdirSync(directory, { recursive: true })
  for (const name of ['ca.crt', 'tls.crt', 'tls.key', 'tls.pem']) {
    copyFileSync(join(target, name), join(directory, name))
  }
  return directory
}

/**
 * Writes `rest.pem`, the chain without its leaf, for OpenSSL's own programs, which read no more than the leaf of a
 * certificate file. Null, and no file, when the chain is the leaf alone.
 */
export function writeRest(set: SetDirectory, directory: string): string | null {
  const rest = pemBlocks(join(set, 'tls.crt')).slice(1)
  const path = join(directory, 'rest.pem')
  rmSync(path, { force: true })
  if (rest.length === 0) return null
  writeFileSync(path, `${rest.join('\n')}\n`)
  return path
}

/** The options of `openssl s_client` and `openssl s_server`. */
export function openSslFiles(set: SetDirectory, rest: string | null): string[] {
  return [
    ...['-cert', join(set, 'tls.crt'), '-key', join(set, 'tls.key'), ...(rest === null ? [] : ['-cert_chain', rest])],
    ...['-CAfile', join(set, 'ca.crt'), '-no-CApath', '-no-CAstore', '-x509_strict'],
  ]
}

export function gnuTlsFiles(set: SetDirectory): string[] {
  const [ca, cert, key] = [join(set, 'ca.crt'), join(set, 'tls.crt'), join(set, 'tls.key')]
  return ['--x509cafile', ca, '--x509certfile', cert, '--x509keyfile', key]
}

export function nodeFiles(set: SetDirectory): { ca: Buffer; cert: Buffer; key: Buffer } {
  const read = (name: string): Buffer => readFileSync(join(set, name))
  return { ca: read('ca.crt'), cert: read('tls.crt'), key: read('tls.key') }
}

/** A client that presents its leaf without what vouches for its authority: only those that trust that one take it. */
export function leafAlone(set: SetDirectory): ReturnType<typeof nodeFiles> {
  return { ...nodeFiles(set), cert: Buffer.from(pemBlocks(join(set, 'tls.crt'))[0] ?? '') }
}
