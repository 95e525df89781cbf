import type { Command } from 'commander'
import type { Duration } from '../../pki/lifetime.ts'
import { lockTimeoutOption, readInput } from '../options.ts'
import { createOutput, findingJson } from '../output.ts'
import { readPassphrase } from '../passphrase.ts'
import { describeFinding } from '../words.ts'

interface InstallOptions {
  readonly cert: string
  readonly key: string
  readonly ca: string
  readonly target: string
  readonly passphraseFile?: string
  readonly lockTimeout: Duration
  readonly json?: boolean
}

export function addInstallCommand(program: Command): void {
  program
    .command('install')
    .summary('swap in a set that someone else issued')
    .description("Validates a set, bundles its CA with the target's old one, and swaps it in.")
    .requiredOption('--cert <file>', 'certificate chain, leaf first')
    .requiredOption('--key <file>', 'private key')
    .requiredOption('--ca <file>', "the issuer's root certificates")
    .requiredOption('--target <dir>', 'directory that the service reads')
    .option('--passphrase-file <file>', 'file with the passphrase of the key')
    .addOption(lockTimeoutOption())
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExample:\n  certgen install --cert tls.crt --key tls.key --ca ca.crt --target /etc/app/tls\n' +
        '\nExit codes:\n  0 installed, or nothing to do   2 usage   3 the set is unusable\n  5 the write failed   6 another certgen holds the lock',
    )
    .action(runInstall)
}

async function runInstall(options: InstallOptions): Promise<void> {
  const output = createOutput(options)
  const file = async (path: string): Promise<{ path: string; data: Buffer }> => ({ path, data: await readInput(path) })
  const passphrase =
    options.passphraseFile === undefined ? {} : { passphrase: await readPassphrase(options.passphraseFile) }
  const files = {
    cert: await file(options.cert),
    key: await file(options.key),
    ca: await file(options.ca),
    ...passphrase,
  }
  const { install } = await import('../../rotation/install.ts')
  const { target, lockTimeout } = options
  const { changed, leaf, carriedOver, findings, warnings } = await install({ files, target, lockTimeout }, new Date())
  for (const { code, message } of warnings) output.warn(message, { code })
  for (const finding of findings) output.warn(`${finding.path}: ${describeFinding(finding)}`)
  if (output.json) {
    const { subject, sha256, notAfter } = leaf
    output.document('install', {
      changed,
      target,
      leaf: { subject, sha256, notAfter: notAfter.toISOString() },
      carriedOver: carriedOver?.sha256 ?? null,
      findings: findings.map(findingJson),
      warnings,
    })
    return
  }
  const carried = carriedOver ? `; carried over: ${carriedOver.subject}` : ''
  const ends = leaf.notAfter.toISOString().slice(0, 10)
  output.result(
    changed
      ? `installed ${leaf.subject} in ${target}, ends ${ends}${carried}`
      : `nothing to do: ${target} holds it already`,
  )
}
