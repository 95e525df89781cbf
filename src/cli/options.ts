import { Option } from 'commander'
import type { Command } from 'commander'
import { CertgenError } from '../errors.ts'
import type { Usage } from '../pki/certificate.ts'
import { keyTypes, parseKeyType } from '../pki/key.ts'
import type { KeyType } from '../pki/key.ts'
import { parseDuration } from '../pki/lifetime.ts'
import type { Duration } from '../pki/lifetime.ts'
import { dnsName, emailName, ipName, uriName } from '../pki/names.ts'
import type { Name } from '../pki/names.ts'
import { namespacedName } from '../rotation/object-name.ts'
import { defaults } from '../rotation/request.ts'
import { logFormats } from './output.ts'
import { readFileOrPipe } from '../store/named-file.ts'

/** Flags that several commands share, each parsed where it is read: what reaches a command is checked. */

export interface NameOptions {
  readonly dns?: readonly Name[]
  readonly ip?: readonly Name[]
  readonly uri?: readonly Name[]
  readonly email?: readonly Name[]
}

export function addNameOptions(command: Command): Command {
  return command
    .addOption(repeatable('--dns <name>', 'DNS name, repeatable', dnsName))
    .addOption(repeatable('--ip <address>', 'IP address, repeatable', ipName))
    .addOption(repeatable('--uri <uri>', 'URI, such as spiffe://domain/path, repeatable', uriName))
    .addOption(repeatable('--email <address>', 'e-mail address, repeatable', emailName))
}

/** undefined when no name flag was given. */
export function namesOf({ dns = [], ip = [], uri = [], email = [] }: NameOptions): Name[] | undefined {
  const names = [...dns, ...ip, ...uri, ...email]
  return names.length === 0 ? undefined : names
}

function repeatable(flags: string, description: string, parse: (text: string) => Name): Option {
  return new Option(flags, description).argParser((text: string, before: readonly Name[] | undefined) => [
    ...(before ?? []),
    parse(text),
  ])
}

export function repeatableText(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text: string, before: readonly string[] | undefined) => [
    ...(before ?? []),
    text,
  ])
}

/** No default here: the configuration's comes before it. */
export function dirOption(): Option {
  return new Option('--dir <dir>', 'root directory (default: ./certs)').env('CERTGEN_DIR')
}

export function configOption(): Option {
  return new Option('--config <file>', 'configuration (default: ./certgen.yaml if there)').env('CERTGEN_CONFIG')
}

export function durationOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text): Duration => parseDuration(text))
}

export function lockTimeoutOption(): Option {
  const option = durationOption('--lock-timeout <duration>', 'wait this long for another certgen')
  return option.default(defaults.lockTimeout, '60s')
}

export function logFormatOption(): Option {
  return new Option('--log-format <format>', 'form of the lines on stderr').choices(logFormats)
}

export function keyOption(): Option {
  return new Option('--key <type>', keyTypes.join(', ')).argParser((text): KeyType => parseKeyType(text))
}

export function usageOption(description: string): Option {
  return new Option('--usage <list>', description).argParser(parseUsages)
}

function parseUsages(text: string): Usage[] {
  const parts = text.split(',').map((part) => part.trim())
  const usages = parts.filter((part): part is Usage => part === 'server' || part === 'client')
  if (usages.length === parts.length) return [...new Set(usages)]
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a list of usages`, {
    hints: ['write server, client or server,client'],
  })
}

/** Which cluster; what is left out is found as kubectl finds it. */
export interface ClusterFlags {
  readonly kubeconfig?: string
  readonly context?: string
}

export function addClusterOptions(command: Command): Command {
  return command
    .optionsGroup('Kubernetes:')
    .option('--kubeconfig <file>', 'kubeconfig file (default: KUBECONFIG, ~/.kube/config, the cluster it runs in)')
    .option('--context <name>', "context (default: the file's current one)")
}

export function secretOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    if (namespacedName.test(text)) return text
    throw new CertgenError('usage', `${JSON.stringify(text)} is not the name of a Secret`, {
      hints: ['write NAMESPACE/NAME, as in gateway/envoy'],
    })
  })
}

export function instantOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    const instant = new Date(text)
    if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(instant.getTime())) return instant
    throw new CertgenError('usage', `${JSON.stringify(text)} is not an instant`, {
      hints: ['write it as 2026-12-31 or 2026-12-31T23:59:59Z'],
    })
  })
}

/** Reads a file that was named on the command line. Throws CertgenError `unreadable`. */
export async function readInput(path: string): Promise<Buffer> {
  try {
    return await readFileOrPipe(path)
  } catch (error) {
    if (error instanceof CertgenError) throw error
    throw new CertgenError('unreadable', `cannot read ${path}: ${reasonOf(error)}`, {
      cause: error,
      hints: ['check the path and that the user who runs certgen may read it'],
    })
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return { ENOENT: 'no such file', EACCES: 'permission denied', EISDIR: 'it is a directory' }[code] ?? code
}
