import { z } from 'zod'
import { CertgenError } from '../errors.ts'
import { parseKeyType, keyTypes } from '../pki/key.ts'
import { parseDuration } from '../pki/lifetime.ts'
import { dnsName, emailName, ipName, uriName } from '../pki/names.ts'
import type { Name } from '../pki/names.ts'
import { longestSubject } from '../pki/subject.ts'
import { namespacedName, objectName } from './object-name.ts'
import { strategies } from './request.ts'

/**
 * The shape of certgen.yaml (contract: Configuration). What it lets through has been parsed by the same functions as the
 * flags of the command line; how they refuse a value, and what they advise, is kept with the issue.
 */

/** An issue's `params` hold the advice that goes with it. */
export interface IssueAdvice {
  readonly hints?: readonly string[]
}

const text = z.string({ error: 'expected text' }).min(1, { error: 'expected text, and it is empty' })

/** Text that a parser of certgen's takes. */
function parsed<T>(
  parse: (text: string) => T,
  description: string,
  example: string,
  more: object = {},
): z.ZodType<T, string> {
  return text.meta({ description, examples: [example], ...more }).transform((value, context) => {
    try {
      return parse(value)
    } catch (error) {
      if (!(error instanceof CertgenError)) throw error
      context.addIssue({ code: 'custom', message: error.message, params: { hints: error.hints } })
      return z.NEVER
    }
  })
}

/** Lists may be written as a single value. */
function listOf<T>(item: z.ZodType<T, string>, description: string): z.ZodType<readonly T[], string | string[]> {
  return z
    .union([z.string(), z.array(z.string({ error: 'expected text' }))], {
      error: 'expected text, or a list of texts',
    })
    .meta({ description })
    .transform((value, context) => {
      const single = typeof value === 'string'
      return (single ? [value] : value).flatMap((entry, index) => {
        const result = item.safeParse(entry)
        if (result.success) return [result.data]
        for (const issue of result.error.issues) {
          const params = 'params' in issue ? (issue.params as IssueAdvice) : {}
          context.addIssue({ code: 'custom', message: issue.message, path: single ? [] : [index], params })
        }
        return []
      })
    })
}

/** Text of a certain form. */
function shaped(pattern: RegExp, what: string, hint: string, description: string, example: string) {
  const parse = (value: string): string => {
    if (pattern.test(value)) return value
    throw new CertgenError('usage', `${JSON.stringify(value)} is not ${what}`, { hints: [hint] })
  }
  return parsed(parse, description, example)
}

const duration = (description: string, example: string) => parsed(parseDuration, description, example)
const keyType = parsed(parseKeyType, 'Key type; default: ecdsa-p256.', 'ecdsa-p256', { enum: keyTypes })
const path = (description: string, example: string) =>
  shaped(/^[^\0]+$/, 'a path', 'write a path, relative to the configuration file or absolute', description, example)

/** A name is one directory below `dir`, and what other parts of the file call it by. */
const ownName = shaped(
  // eslint-disable-next-line no-control-regex -- control characters are what is refused here
  /^(?!\.)[^/\\\u0000-\u001f\u007f]{1,200}$/,
  'a name',
  'a name has no slash and no leading dot: it is also the name of a directory',
  'What it is called; unique.',
  'envoy',
)
const fileName = shaped(
  // eslint-disable-next-line no-control-regex -- control characters are what is refused here
  /^(?!\.\.)(?!\.$)[^/\\\u0000-\u001f\u007f]+$/,
  'a file name',
  'a file name has no slash and does not begin with two dots',
  'A file name; null leaves the file out.',
  'tls.crt',
)
const secretName = shaped(
  namespacedName,
  'the name of a Secret',
  'write NAMESPACE/NAME, as in gateway/envoy',
  'A Kubernetes Secret: NAMESPACE/NAME.',
  'gateway/envoy',
)
const workload = shaped(
  new RegExp(`^(deployment|statefulset|daemonset)/${objectName}/${objectName}$`),
  'a workload',
  'write KIND/NAMESPACE/NAME, where KIND is deployment, statefulset or daemonset',
  'A Kubernetes workload: KIND/NAMESPACE/NAME.',
  'deployment/gateway/ratelimit',
)
const bundleHolder = shaped(
  new RegExp(
    '^(?:(validatingwebhookconfiguration|mutatingwebhookconfiguration|apiservice|customresourcedefinition)/' +
      `${objectName}|configmap/${objectName}/${objectName})$`,
  ),
  'a place for a bundle',
  'write validatingwebhookconfiguration/NAME, mutatingwebhookconfiguration/NAME, apiservice/NAME, ' +
    'customresourcedefinition/NAME or configmap/NAMESPACE/NAME',
  'A Kubernetes object whose caBundle, or a ConfigMap whose ca.crt, is to hold the bundle.',
  'validatingwebhookconfiguration/acme',
)
const endpoint = shaped(
  /^(?:\[[^\]]+\]|[^:\s]+):[1-9]\d{0,4}$/,
  'a host and a port',
  'write localhost:8443, 10.0.0.1:8443 or [::1]:8443',
  'HOST:PORT; after a change, certgen waits until it is served there.',
  'localhost:8443',
)
const mode = shaped(
  /^0?[0-7]{3}$/,
  'a file mode',
  'write it in quotes, in octal: "0640"',
  'Permission bits of the files that hold the key, in quotes; certificates are 0644.',
  '0640',
).transform((value) => Number.parseInt(value, 8))
const account = shaped(
  /^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$/,
  'the name or number of an account',
  'write a name of /etc/passwd or /etc/group, or a number in quotes',
  'A name, or a number in quotes.',
  'envoy',
)
const signalName = shaped(
  /^(?:SIG)?[A-Z][A-Z0-9]*$/,
  'a signal',
  'write SIGHUP, SIGUSR1, SIGUSR2, ...',
  'The signal; default: SIGHUP.',
  'SIGUSR2',
)
const usage = z
  .enum(['server', 'client'], { error: 'expected server or client' })
  .meta({ description: 'What the leaf is for.' })
const usages = z
  .union([usage, z.array(usage).min(1, { error: 'expected server, client or both' })], {
    error: 'expected server, client or a list of them',
  })
  .meta({ description: 'What the leaf is for: the TLS server’s end, the client’s, or both; default: both.' })
  .transform((value) => [...new Set(Array.isArray(value) ? value : [value])])

const passphrase = z
  .union(
    [
      z.strictObject({ file: path('A file whose first line it is.', '/run/secrets/ca-passphrase') }),
      z.strictObject({
        env: shaped(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a variable', 'write its name alone', 'A variable.', 'CA_PASSPHRASE'),
      }),
    ],
    { error: 'expected { file: PATH } or { env: NAME }; a passphrase itself never stands in a configuration' },
  )
  .meta({ description: 'Where the passphrase of the key is; never the passphrase itself.' })

const authorityKeys = {
  subject: shaped(
    new RegExp(`^[^,+"\\\\<>;#=]{1,${longestSubject}}$`),
    'the start of a common name',
    `write 1 to ${longestSubject} characters, none of , + " \\ < > ; # =`,
    'Start of the common name; certgen adds what makes each generation unique.',
    'Acme internal CA',
  ).optional(),
  key: keyType.optional(),
  validity: duration('Lifetime of the authority; default: 5y.', '5y').optional(),
  dir: path('Its directory, below `dir` or absolute; default: ca, or its name.', 'ca').optional(),
  passphrase: passphrase.optional(),
  secret: secretName.optional(),
  caBundle: listOf(bundleHolder, 'Kubernetes objects that are to hold the bundle.').optional(),
}

const sharedKeys = {
  key: keyType.optional(),
  validity: duration('Lifetime of the leaf; default: 90d.', '90d').optional(),
  renewBefore: duration('Due this long before the end; default: after two thirds of its life.', '30d').optional(),
  usages: usages.optional(),
  files: z
    .strictObject({
      ca: fileName.nullable().optional(),
      cert: fileName.nullable().optional(),
      key: fileName.nullable().optional(),
      combined: fileName.nullable().optional(),
    })
    .meta({ description: 'Names of the files in the target; null leaves one out.' })
    .optional(),
  pkcs12: z
    .strictObject({ name: fileName.optional(), passphrase })
    .nullable()
    .meta({ description: 'Also a PKCS#12 file, tls.p12 unless `name` says otherwise; null takes one away.' })
    .optional(),
  owner: account.optional(),
  group: account.optional(),
  mode: mode.optional(),
  exec: z
    .union([text, z.array(text).min(1, { error: 'expected a command' })], {
      error: 'expected a command, or a list of a program and its arguments',
    })
    .meta({ description: 'Run after a change: a list is an argument vector, a string goes through sh -c.' })
    .optional(),
  signal: z
    .strictObject({
      pidFile: path('The file with the process’s number.', '/run/haproxy.pid'),
      signal: signalName.optional(),
    })
    .meta({ description: 'Signals a process after a change.' })
    .optional(),
  probe: listOf(endpoint, 'Endpoints that are to serve the change.').optional(),
  restart: listOf(workload, 'Kubernetes workloads to restart after a change.').optional(),
}

const nameOf = (parse: (text: string) => Name, description: string, example: string) =>
  listOf(parsed(parse, description, example), description).optional()

const certificate = z.strictObject({
  name: ownName,
  authority: text.meta({ description: 'Name of the authority, where there are several.' }).optional(),
  commonName: shaped(
    /^[^,+"\\<>;#=]{1,64}$/,
    'a common name',
    'write 1 to 64 characters, none of , + " \\ < > ; # =',
    'Common name; default: the first DNS name, or the name.',
    'envoy',
  ).optional(),
  dns: nameOf(dnsName, 'DNS names.', 'envoy.gateway.svc'),
  ip: nameOf(ipName, 'IP addresses.', '10.1.2.3'),
  uri: nameOf(uriName, 'URIs.', 'spiffe://acme/envoy'),
  email: nameOf(emailName, 'E-mail addresses.', 'ops@example.org'),
  target: path('Directory that the service reads; default: NAME below `dir`.', '/etc/envoy/tls').optional(),
  secret: secretName.optional(),
  ...sharedKeys,
})

const random = z.strictObject({
  name: ownName,
  key: shaped(/^[-._a-zA-Z0-9]+$/, 'a key of a Secret', 'letters, digits, - _ .', 'Key in the Secret.', 'hmac-secret'),
  bytes: z
    .int({ error: 'expected a whole number' })
    .min(16, { error: 'expected 16 or more' })
    .max(1024, { error: 'expected 1024 at the most' })
    .meta({ description: 'How many random bytes; default: 32.' })
    .optional(),
  secret: secretName,
})

export const configSchema = z
  .strictObject({
    dir: path('Root directory, as --dir; default: ./certs.', './certs').optional(),
    authority: z.strictObject(authorityKeys).meta({ description: 'The authority, where there is one.' }).optional(),
    authorities: z
      .array(z.strictObject({ name: ownName, ...authorityKeys }), { error: 'expected a list of authorities' })
      .min(1, { error: 'expected an authority' })
      .meta({ description: 'Several authorities; a certificate says which one is its own.' })
      .optional(),
    defaults: z
      .strictObject(sharedKeys)
      .meta({ description: 'For every certificate that does not say otherwise.' })
      .optional(),
    certificates: z
      .array(certificate, { error: 'expected a list of certificates' })
      .meta({ description: 'The leaves, and where each is written.' })
      .optional(),
    random: z
      .array(random, { error: 'expected a list of random secrets' })
      .meta({ description: 'Opaque secrets, made once.' })
      .optional(),
    strategy: z
      .enum(strategies, { error: `expected one of ${strategies.join(', ')}` })
      .meta({ description: 'How a rotation of the authority crosses convergence; default: auto.' })
      .optional(),
    settle: duration('Time that peers need to load a change; default: 10m.', '10m').optional(),
    metrics: path('Prometheus textfile, written after each run.', '/var/lib/node_exporter/certgen.prom').optional(),
  })
  .meta({ title: 'certgen.yaml', description: 'Configuration of certgen.' })

export type ParsedConfig = z.infer<typeof configSchema>
export type ParsedCertificate = z.infer<typeof certificate>

/** The JSON Schema of the file as it is written, for editors. */
export function configJsonSchema(): object {
  return z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7' })
}
