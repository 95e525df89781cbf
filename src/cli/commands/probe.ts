import { Option } from 'commander'
import type { Command } from 'commander'
import type { Certificate } from '../../pki/certificate.ts'
import { readCertificates } from '../../pki/certificate-file.ts'
import type { Duration } from '../../pki/lifetime.ts'
import { readExpectation } from '../../deliver/expectation.ts'
import { parseEndpoint, probeUntil, startTlsProtocols } from '../../deliver/probe.ts'
import type { Endpoint, ProbeReport, StartTls } from '../../deliver/probe.ts'
import { directoryTarget, targetAt } from '../../store/target-store.ts'
import { exitCodes } from '../exit-codes.ts'
import { durationOption, readInput } from '../options.ts'
import { createOutput } from '../output.ts'
import type { Output } from '../output.ts'

interface ProbeOptions {
  readonly expect?: string
  readonly wait?: Duration
  readonly timeout?: Duration
  readonly servername?: string
  readonly ca?: string
  readonly starttls?: StartTls
  readonly json?: boolean
}

/** Seconds for one handshake. */
const defaultTimeout = 10

export function addProbeCommand(program: Command): void {
  program
    .command('probe <host:port>')
    .summary('connect by TLS and say what is served')
    .description('Connects afresh to every address of HOST and says what is served there.')
    .option('--expect <dir>', 'compare leaf and chain with what this target holds')
    .option('--ca <file>', "bundle to verify with (default: that of --expect's target)")
    .option('--servername <name>', 'name to ask for and to find in the leaf (default: HOST)')
    .addOption(new Option('--starttls <protocol>', 'ask for TLS in the clear first').choices(startTlsProtocols))
    .addOption(durationOption('--wait <duration>', 'try until all is as it should be, but no longer than this'))
    .addOption(durationOption('--timeout <duration>', 'longest time for one handshake (default: 10s)'))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  certgen probe localhost:8443 --expect certs/server --wait 60s\n' +
        '  certgen probe db.internal:5432 --starttls postgres --ca certs/server/ca.crt\n' +
        '\nExit codes:\n  0 every address serves what it should   2 usage   7 some address does not',
    )
    .action(runProbe)
}

async function runProbe(endpoint: string, options: ProbeOptions): Promise<void> {
  const output = createOutput(options)
  const { host, port } = parseEndpoint(endpoint)
  const target =
    options.expect === undefined ? null : await readExpectation(directoryTarget(targetAt(options.expect)), new Date())
  const bundle = options.ca === undefined ? (target?.bundle ?? []) : await readBundle(options.ca)
  const report = await probeUntil(
    {
      host,
      port,
      bundle,
      expect: target?.expect ?? null,
      timeout: (options.timeout ?? defaultTimeout) * 1000,
      ...(options.servername === undefined ? {} : { servername: options.servername }),
      ...(options.starttls === undefined ? {} : { startTls: options.starttls }),
    },
    (options.wait ?? 0) * 1000,
    () => new Date(),
  )
  print(report, output)
  process.exitCode = report.ok ? exitCodes.done : exitCodes.followUpFailed
}

async function readBundle(path: string): Promise<Certificate[]> {
  const data = await readInput(path)
  return readCertificates(data, path)
}

function print({ ok, endpoints }: ProbeReport, output: Output): void {
  if (output.json) {
    output.document('probe', { ok, endpoints: endpoints.map(endpointJson) })
    return
  }
  output.result(endpoints.flatMap((endpoint) => describeEndpoint(endpoint, output)).join('\n'))
}

function endpointJson({ chain, ...rest }: Endpoint): object {
  return {
    ...rest,
    chain: chain.map(({ subject, issuer, serialNumber, sha256, notBefore, notAfter }) => {
      return { subject, issuer, serialNumber, sha256, notBefore, notAfter }
    }),
  }
}

function describeEndpoint({ address, port, protocol, chain, trust, findings }: Endpoint, { paint }: Output): string[] {
  const head = `${paint.bold(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`)}  ${protocol ?? ''}`
  const certificates = chain.flatMap(({ subject, names, sha256, notAfter }, index) => [
    `  ${index === 0 ? 'leaf ' : 'chain'}   ${subject || (names[0]?.value ?? '')}`,
    `          sha256 ${sha256}, ends ${notAfter.toISOString().slice(0, 10)}`,
  ])
  const verdicts = trust.map(({ by, ok, reason }) => `${by} ${ok ? paint.green('ok') : paint.yellow(reason ?? '')}`)
  return [
    head.trimEnd(),
    ...certificates,
    ...(verdicts.length > 0 ? [`  trust   ${verdicts.join(', ')}`] : []),
    ...findings.map(({ code, detail }) => `  ${paint.red('error')}: ${detail} [${code}]`),
  ]
}
