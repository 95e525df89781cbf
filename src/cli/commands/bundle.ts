import type { Command } from 'commander'
import { makeBundle } from '../../pki/bundle.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { readCertificates } from '../../pki/certificate-file.ts'
import { encodeCertificates } from '../../pki/pem.ts'
import { instantOption, readInput } from '../options.ts'
import { createOutput } from '../output.ts'

interface BundleOptions {
  readonly out?: string
  readonly at?: Date
  readonly json?: boolean
}

export function addBundleCommand(program: Command): void {
  program
    .command('bundle <new> [old]')
    .summary('print the bundle of two PEM files')
    .description(
      'Prints all certificates of NEW, then the first of OLD that is neither expired nor in NEW already; never a second.',
    )
    .option('--out <file>', 'write it to FILE atomically instead')
    .addOption(instantOption('--at <time>', 'judge expiry at this instant (default: now)'))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExit codes:\n  0 done   2 usage   5 the write failed\n  3 a file is damaged, empty or not of certificates',
    )
    .action(runBundle)
}

async function runBundle(newFile: string, oldFile: string | undefined, options: BundleOptions): Promise<void> {
  const output = createOutput(options)
  const current = await readFileOfCertificates(newFile)
  const old = oldFile === undefined ? [] : await readFileOfCertificates(oldFile)
  const { certificates, carriedOver } = makeBundle(current, old, options.at ?? new Date())
  const text = encodeCertificates(certificates.map(({ der }) => der))
  if (options.out !== undefined) {
    const { writeFileAtomically } = await import('../../store/file.ts')
    await writeFileAtomically(options.out, text, 0o644)
  }
  if (output.json) {
    const list = certificates.map(({ subject, sha256, notAfter }) => ({
      subject,
      sha256,
      notAfter: notAfter.toISOString(),
    }))
    output.document('bundle', {
      certificates: list,
      carriedOver: carriedOver?.sha256 ?? null,
      out: options.out ?? null,
    })
  } else if (options.out === undefined) {
    process.stdout.write(text)
  }
}

async function readFileOfCertificates(path: string): Promise<Certificate[]> {
  return readCertificates(await readInput(path), path)
}
