import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { CertgenError } from '../../errors.ts'
import { hasErrors } from '../../findings.ts'
import type { Finding } from '../../findings.ts'
import type { Usage } from '../../pki/certificate.ts'
import { checkSet } from '../../pki/check.ts'
import type { SetFiles } from '../../pki/check.ts'
import type { Duration } from '../../pki/lifetime.ts'
import { readTarget, targetAt } from '../../store/target-store.ts'
import { exitCodes } from '../exit-codes.ts'
import { addNameOptions, durationOption, instantOption, namesOf, readInput, usageOption } from '../options.ts'
import type { NameOptions } from '../options.ts'
import { createOutput, findingJson, findingLine } from '../output.ts'
import { readPassphrase } from '../passphrase.ts'

interface ValidateOptions extends NameOptions {
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly passphraseFile?: string
  readonly at?: Date
  readonly expiresWithin?: Duration
  readonly usage?: readonly Usage[]
  readonly json?: boolean
}

export function addValidateCommand(program: Command): void {
  const command = program.command('validate [dir]').summary('check a target, or a certificate and its key')
  command.description('Checks a target directory, or --cert FILE --key FILE [--ca FILE]; prints every finding.')
  addNameOptions(
    command
      .option('--cert <file>', 'certificate chain, leaf first')
      .option('--key <file>', 'private key')
      .option('--ca <file>', 'bundle that peers verify with')
      .option('--passphrase-file <file>', 'file with the passphrase of the key')
      .addOption(instantOption('--at <time>', 'judge at this instant (default: now)'))
      .addOption(durationOption('--expires-within <duration>', 'report a leaf that ends within this time')),
  )
    .addOption(usageOption('usages that the leaf must permit'))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  certgen validate certs/server --dns localhost\n' +
        '  certgen validate --cert tls.crt --key tls.key --ca ca.crt --expires-within 30d\n' +
        '\nExit codes:\n  0 usable (there may be warnings)   2 usage   3 unusable: the findings say why',
    )
    .action(runValidate)
}

async function runValidate(dir: string | undefined, options: ValidateOptions): Promise<void> {
  const output = createOutput(options)
  const files = await readFiles(dir, options)
  const names = namesOf(options)
  const { findings: contentFindings } = await checkSet(files, {
    at: options.at ?? new Date(),
    ...(options.expiresWithin === undefined ? {} : { expiresWithin: options.expiresWithin }),
    ...(names ? { names } : {}),
    ...(options.usage ? { usages: options.usage } : {}),
  })
  const findings = [...contentFindings, ...(await checkPermissions(files.key.path))]
  const ok = !hasErrors(findings)
  if (output.json) output.document('validate', { ok, findings: findings.map(findingJson) })
  else output.result([...findings.map((finding) => findingLine(finding, output.paint)), verdict(ok, files)].join('\n'))
  process.exitCode = ok ? exitCodes.done : exitCodes.unusable
}

function verdict(ok: boolean, { cert }: SetFiles): string {
  return ok ? `${cert.path} can be served` : `${cert.path} cannot be served`
}

async function readFiles(dir: string | undefined, options: ValidateOptions): Promise<SetFiles> {
  const passphrase =
    options.passphraseFile === undefined ? {} : { passphrase: await readPassphrase(options.passphraseFile) }
  const { cert, key, ca } = options
  if (dir !== undefined && (cert ?? key ?? ca) === undefined) return { ...(await readTargetFiles(dir)), ...passphrase }
  if (dir !== undefined || cert === undefined || key === undefined) {
    throw new CertgenError('usage', 'name either a target directory, or --cert and --key', {
      hints: ['certgen validate certs/server', 'certgen validate --cert tls.crt --key tls.key --ca ca.crt'],
    })
  }
  const file = async (path: string): Promise<SetFiles['cert']> => ({ path, data: await readInput(path) })
  return {
    cert: await file(cert),
    key: await file(key),
    ca: ca === undefined ? null : await file(ca),
    ...passphrase,
  }
}

/** One generation of the target, resolved once, as a careful service would read it. */
async function readTargetFiles(dir: string): Promise<SetFiles> {
  const location = targetAt(dir)
  const contents = await readTarget(location)
  if (!contents) {
    throw new CertgenError('unreadable', `there is no certificate in ${dir}`, {
      hints: [`a target holds ${location.files.cert}, ${location.files.key} and ${location.files.ca}`],
    })
  }
  const file = (name: string, data: Buffer | null): SetFiles['cert'] => ({
    path: join(dir, name),
    data: data ?? Buffer.alloc(0),
  })
  return {
    cert: file(location.files.cert, contents.cert),
    key: file(location.files.key, contents.key),
    ca: contents.ca ? file(location.files.ca, contents.ca) : null,
  }
}

async function checkPermissions(path: string): Promise<Finding[]> {
  const mode = await stat(path).then(
    (status) => status.mode & 0o777,
    () => 0, // A key that is missing is a finding of its own.
  )
  if ((mode & 0o004) === 0) return []
  return [{ code: 'permissions', severity: 'warning', path, facts: { mode: mode.toString(8).padStart(4, '0') } }]
}
