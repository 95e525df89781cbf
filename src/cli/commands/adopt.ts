import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { PemFile } from '../../pki/certificate-file.ts'
import type { Duration } from '../../pki/lifetime.ts'
import type { AdoptReport } from '../../rotation/adopt.ts'
import { directoryAuthority } from '../../store/authority-store.ts'
import { configOption, dirOption, lockTimeoutOption, readInput, repeatableText } from '../options.ts'
import { createOutput } from '../output.ts'
import type { Output } from '../output.ts'
import { askPassphrase, passphraseFromEnvironment, readPassphrase } from '../passphrase.ts'
import { relativeTo } from './config.ts'

interface AdoptOptions {
  readonly dir?: string
  readonly config?: string
  readonly ca: string
  readonly caKey?: string
  readonly caPassphraseFile?: string
  readonly target?: readonly string[]
  readonly lockTimeout: Duration
  readonly json?: boolean
}

export function addAdoptCommand(program: Command): void {
  program
    .command('adopt')
    .summary('take over what another tool made')
    .description('Takes over an authority and targets that another tool made, changing nothing that is served.')
    .requiredOption('--ca <file>', 'the root certificate')
    .option('--ca-key <file>', 'its private key; without it, the next rotation takes two runs')
    .option('--ca-passphrase-file <file>', 'file with the passphrase of that key')
    .addOption(repeatableText('--target <dir>', 'directory that a service reads, repeatable'))
    .addOption(dirOption())
    .addOption(configOption())
    .addOption(lockTimeoutOption())
    .option('--json', 'print one JSON document')
    .addHelpText('after', adoptHelp)
    .action(runAdopt)
}

const adoptHelp = `
A target whose files have other names than tls.crt, tls.key and ca.crt needs a
configuration; adopt writes it, or says what to add where there is one.

Examples:
  certgen adopt --ca rootCA.pem --ca-key rootCA-key.pem --target /etc/nginx/tls
  certgen adopt --ca minica.pem --ca-key minica-key.pem --target ./example.org

Exit codes:
  0 done   2 usage   3 it cannot be adopted: the findings say why
  5 the write failed   6 another certgen holds the lock`

async function runAdopt(options: AdoptOptions): Promise<void> {
  const output = createOutput(options)
  const dir = options.dir ?? './certs'
  const { adopt } = await import('../../rotation/adopt.ts')
  const report = await adopt(
    {
      dir,
      authority: directoryAuthority({
        directory: join(dir, 'ca'),
        ...passphraseOr(await givenPassphrase(options)),
      }),
      ca: await readPem(options.ca),
      caKey: options.caKey === undefined ? null : await readCaKey(options.caKey, options),
      targets: options.target ?? [],
      lockTimeout: options.lockTimeout,
    },
    new Date(),
  )
  const config = report.sketch ? await keepConfig(report.sketch, dir, options.config ?? 'certgen.yaml') : null
  for (const { message } of report.warnings) output.warn(message)
  print(report, config, output)
}

async function readPem(path: string): Promise<PemFile> {
  return { path, data: await readInput(path) }
}

async function givenPassphrase({ caPassphraseFile }: AdoptOptions): Promise<string | undefined> {
  return caPassphraseFile === undefined ? passphraseFromEnvironment() : readPassphrase(caPassphraseFile)
}

async function readCaKey(path: string, options: AdoptOptions): Promise<PemFile & { readonly passphrase?: string }> {
  const file = await readPem(path)
  const isEncrypted = file.data.includes('ENCRYPTED')
  const passphrase =
    (await givenPassphrase(options)) ?? (isEncrypted ? await askPassphrase(`passphrase of ${path}`) : undefined)
  return { ...file, ...passphraseOr(passphrase) }
}

function passphraseOr(passphrase: string | undefined): { readonly passphrase?: string } {
  return passphrase === undefined ? {} : { passphrase }
}

/** Where the configuration was written, or what is to be added to the one that is there. */
type KeptConfig = { readonly written: string } | { readonly path: string; readonly entries: string }

async function keepConfig(sketch: NonNullable<AdoptReport['sketch']>, dir: string, path: string): Promise<KeptConfig> {
  const { writeCertificate, writeConfig } = await import('../../rotation/config-writer.ts')
  const isThere = await access(path).then(
    () => true,
    () => false,
  )
  const certificates = sketch.certificates.map((each) => {
    return each.target === null ? each : { ...each, target: relativeTo(join(path, '..'), each.target) }
  })
  if (isThere) return { path, entries: certificates.map(writeCertificate).join('\n') }
  const { writeFileAtomically } = await import('../../store/file.ts')
  await writeFileAtomically(
    path,
    writeConfig({ ...sketch, certificates, dir: relativeTo(join(path, '..'), dir) }),
    0o644,
  )
  return { written: path }
}

function print(
  { changed, authority, targets, warnings }: AdoptReport,
  config: KeptConfig | null,
  output: Output,
): void {
  const { path, certificate, hasKey } = authority
  if (output.json) {
    const { subject, sha256, notAfter } = certificate
    output.document('adopt', {
      changed,
      authority: { path, subject, sha256, notAfter: notAfter.toISOString(), hasKey },
      targets: targets.map(({ leaf, ...target }) => {
        return { ...target, sha256: leaf.sha256, notAfter: leaf.notAfter.toISOString() }
      }),
      config,
      warnings,
    })
    return
  }
  const { paint } = output
  output.result(
    [
      `${changed ? paint.green('adopted') : 'adopted already:'} ${certificate.subject}, in ${path}${hasKey ? '' : ', without its key'}`,
      ...targets.map(({ name, directory, leaf, bundleAdded }) => {
        const added = bundleAdded ? '; it got a bundle' : ''
        return `  ${name}  ${directory}, ends ${leaf.notAfter.toISOString().slice(0, 10)}${added}`
      }),
      ...describeConfig(config),
    ].join('\n'),
  )
}

function describeConfig(config: KeptConfig | null): string[] {
  if (!config) return []
  if ('written' in config) return [`wrote ${config.written}: file names that are not certgen's own stand there`]
  return [`add this to the certificates of ${config.path}, so that the targets are known again:`, config.entries]
}
