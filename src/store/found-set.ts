import { readFile, readdir, stat } from 'node:fs/promises'
import type { KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { CertgenError } from '../errors.ts'
import type { Certificate } from '../pki/certificate.ts'
import { readCertificateFile } from '../pki/certificate-file.ts'
import { readKey } from '../pki/key.ts'
import { encodePem, readPem } from '../pki/pem.ts'
import { defaultFileNames } from './target-store.ts'
import type { TargetFileNames } from './target-store.ts'

// Other tools have names of their own for what a target holds: which file is what can be told from what is in them.

/** No certificate, key or bundle is as large as this. */
const largest = 256 * 1024

interface FoundFile {
  readonly name: string
  readonly certificates: readonly Certificate[]
  readonly key: KeyObject | null
}

/**
 * The names of the leaf's files in a directory that another tool has written; a bundle that is not there would be called
 * `ca.crt`. Throws CertgenError `unusable` when there is not exactly one leaf with its key, or a file beside that holds it
 * again: only one of them could be kept up to date.
 */
export async function findSet(directory: string): Promise<TargetFileNames> {
  const files = await readFiles(directory)
  const keys = files.filter(({ key, certificates }) => key && certificates.length === 0)
  const chains = files.filter(({ key, certificates: [leaf] }) => !key && leaf && !leaf.isCa)
  const combined = files.filter(({ key, certificates: [leaf] }) => key && leaf?.x509.checkPrivateKey(key))
  const pairs = chains.flatMap((chain) =>
    keys.filter(({ key }) => key && chain.certificates[0]?.x509.checkPrivateKey(key)).map((key) => ({ chain, key })),
  )
  const [pair, secondPair] = pairs
  const [single, secondSingle] = combined
  if (!pair && !single) {
    throw new CertgenError('unusable', `there is no leaf with its key in ${directory}`, {
      hints: ['a target holds a certificate and the private key that belongs to it, as PEM'],
    })
  }
  if (secondPair || secondSingle || (pair && single && !sameLeaf(pair.chain, single))) {
    const names = [...pairs.map(({ chain }) => chain), ...combined].map(({ name }) => name)
    throw new CertgenError('unusable', `${directory} holds more than one leaf, or one twice: ${names.join(', ')}`, {
      hints: ['give each leaf a directory of its own, with one file for its chain and one for its key'],
    })
  }
  const bundles = files.filter(
    ({ key, certificates }) => !key && certificates.length > 0 && certificates.every(({ isCa }) => isCa),
  )
  const bundle = bundles.find(({ name }) => name === defaultFileNames.ca) ?? bundles[0]
  const cert = pair?.chain.name ?? null
  const isOurs = cert === defaultFileNames.cert && pair?.key.name === defaultFileNames.key
  return {
    ca: bundle?.name ?? defaultFileNames.ca,
    cert,
    key: pair?.key.name ?? null,
    combined: single?.name ?? (isOurs ? defaultFileNames.combined : null),
  }
}

function sameLeaf({ certificates: [one] }: FoundFile, { certificates: [other] }: FoundFile): boolean {
  return one !== undefined && one.sha256 === other?.sha256
}

async function readFiles(directory: string): Promise<FoundFile[]> {
  const found: FoundFile[] = []
  for (const name of (await readdir(directory)).sort()) {
    if (name.startsWith('.')) continue
    const path = join(directory, name)
    const { size, isFile } = await stat(path).then(
      (stats) => ({ size: stats.size, isFile: stats.isFile() }),
      () => ({ size: 0, isFile: false }),
    )
    if (!isFile || size === 0 || size > largest) continue
    const file = classify(name, await readFile(path))
    if (file) found.push(file)
  }
  return found
}

/** null for what is neither certificate nor key. */
function classify(name: string, data: Buffer): FoundFile | null {
  const { blocks } = readPem(data)
  const certificates = blocks
    .filter(({ label }) => label === 'CERTIFICATE')
    .flatMap(({ der }) => readCertificateFile({ path: name, data: encodePem('CERTIFICATE', der) }).certificates)
  const [keyBlock] = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'))
  const key = keyBlock ? readKey(keyBlock.text, name).key : null
  return certificates.length === 0 && !key ? null : { name, certificates, key }
}

/** Chain and key of a file that is both; null for what is not in it. */
export function splitCombined(data: Buffer): { readonly cert: Buffer | null; readonly key: Buffer | null } {
  const { blocks } = readPem(data)
  const part = (isPart: (label: string) => boolean): Buffer | null => {
    const texts = blocks.filter(({ label }) => isPart(label)).map(({ text }) => text)
    return texts.length === 0 ? null : Buffer.from(texts.join(''))
  }
  return { cert: part((label) => label === 'CERTIFICATE'), key: part((label) => label.endsWith('PRIVATE KEY')) }
}
