import { execFile, spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'node:tls'
import grpc from '@grpc/grpc-js'
import { freePort } from '../port.ts'
import { word } from './conversation.ts'
import type { Conversation } from './conversation.ts'
import { runInJava } from './java.ts'
import { end } from './processes.ts'
import { gnuTlsFiles, nodeFiles, openSslFiles, writeRest } from './sets.ts'
import type { SetDirectory } from './sets.ts'
import { grpcVersion, versionOf } from './versions.ts'

/** Clients of different makes, which present a set by mutual TLS, verify the server with it, and wait for an answer. */
export interface ClientMake {
  readonly programs: readonly string[]
  readonly version: () => string
  /** Null when the answer came, else why it did not. */
  readonly talk: (set: SetDirectory, port: number, conversation: Conversation) => Promise<string | null>
}

const patienceMs = 20_000

const openssl: ClientMake = {
  programs: ['openssl'],
  version: () => versionOf('openssl version'),
  talk: (set, port, conversation) => {
    const { alpn, startTls } = conversation
    const args = [
      ...['s_client', '-connect', `127.0.0.1:${port}`, '-quiet', '-no_ign_eof'],
      ...['-servername', 'localhost', '-verify_return_error', '-verify_hostname', 'localhost'],
      ...(alpn ? ['-alpn', alpn] : []),
      ...(startTls ? ['-starttls', startTls] : []),
    ]
    return converse(spawn('openssl', [...args, ...openSslFiles(set, writeRest(set, set))]), conversation)
  },
}

const gnutls: ClientMake = {
  programs: ['gnutls-cli'],
  version: () => versionOf('gnutls-cli --version'),
  talk: (set, port, conversation) => {
    const { alpn, startTls } = conversation
    const args = [
      ...['--port', String(port), '--sni-hostname', 'localhost', '--verify-hostname', 'localhost'],
      ...(alpn ? ['--alpn', alpn] : []),
      ...(startTls ? ['--starttls-proto', startTls] : []),
    ]
    return converse(spawn('gnutls-cli', [...args, ...gnuTlsFiles(set), '127.0.0.1']), conversation)
  },
}

const python: ClientMake = {
  programs: ['python3'],
  version: () => versionOf('python3 --version'),
  talk: (set, port, conversation) => {
    const { alpn = '', startTls = '' } = conversation
    const program = join(import.meta.dirname, 'fixtures/client.py')
    return converse(spawn('python3', [program, set, String(port), alpn, startTls]), conversation)
  },
}

const java: ClientMake = {
  // It is compiled as it is run.
  programs: ['java', 'javac'],
  version: () => versionOf('java --version'),
  talk: async (set, port, { request, answer, alpn = '', startTls = '' }) => {
    const task = { set, port, alpn, startTls, request, answer: Buffer.from(answer, 'latin1') }
    const said = await runInJava(task)
    return said === 'answered' ? null : said
  },
}

const node: ClientMake = {
  programs: [],
  version: () => process.versions.node,
  talk: (set, port, conversation) => talkByNode(nodeFiles(set), port, conversation),
}

/** Talks with what is given; without a pair it presents none. */
export async function talkByNode(
  files: Partial<ReturnType<typeof nodeFiles>>,
  port: number,
  { request, answer, alpn, startTls }: Conversation,
): Promise<string | null> {
  const plain = connectPlain(port, '127.0.0.1')
  const outcome = new Promise<string | null>((done) => {
    const fail = ({ message }: Error): void => done(message)
    const begin = (): void => {
      const socket = connect({
        ...files,
        ...(alpn ? { ALPNProtocols: [alpn] } : {}),
        socket: plain,
        servername: 'localhost',
      })
      let seen = ''
      socket.on('error', fail)
      socket.on('close', () => done('the connection was closed'))
      socket.setEncoding('latin1').on('data', (text: string) => {
        seen += text
        if (seen.includes(answer)) done(null)
      })
      socket.write(request)
    }
    plain.on('error', fail)
    plain.setTimeout(patienceMs, () => done('no answer'))
    plain.once('connect', () => (startTls ? askForTls(plain, begin, done) : begin()))
  })
  return outcome.finally(() => plain.destroy())
}

/** SSLRequest (PostgreSQL's message formats). */
function askForTls(plain: Socket, begin: () => void, fail: (why: string) => void): void {
  plain.write(Buffer.from('0000000804d2162f', 'hex'))
  plain.once('data', (data) => (data.toString() === 'S' ? begin() : fail('the server does not offer TLS')))
}

const curl: ClientMake = {
  programs: ['curl'],
  version: () => versionOf('curl --version'),
  talk: (set, port, { answer }) =>
    run(answer, 'curl', [
      ...['--silent', '--show-error', '--noproxy', '*', '--max-time', String(patienceMs / 1000)],
      ...['--cacert', join(set, 'ca.crt'), '--cert', join(set, 'tls.crt'), '--key', join(set, 'tls.key')],
      ...['--resolve', `localhost:${port}:127.0.0.1`, `https://localhost:${port}/`],
    ]),
}

/** Go's TLS: caddy as a proxy between us and the server. */
const caddy: ClientMake = {
  programs: ['caddy'],
  version: () => versionOf('caddy version'),
  talk: async (set, port, { answer }) => {
    const own = await freePort()
    const args = ['run', '--config', '-', '--adapter', 'caddyfile']
    // It keeps a copy of its configuration in the user's own directory, unless it is told another.
    const child = spawn('caddy', args, { env: { ...process.env, XDG_CONFIG_HOME: set, XDG_DATA_HOME: set } })
    child.stdin.end(proxyConfiguration(set, port, own))
    child.stdout.resume()
    let log = ''
    const serving = new Promise<boolean>((done) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        log += text
        if (log.includes('serving initial configuration')) done(true)
      })
      child.once('exit', () => done(false))
    })
    try {
      if (!(await serving)) return log
      const response = await fetch(`http://127.0.0.1:${own}/`, { signal: AbortSignal.timeout(patienceMs) })
      return (await response.text()).includes(answer) ? null : log
    } finally {
      await end(child, 'SIGKILL')
    }
  },
}

function proxyConfiguration(set: SetDirectory, port: number, own: number): string {
  return `{
  admin off
  auto_https off
}
http://127.0.0.1:${own} {
  bind 127.0.0.1
  reverse_proxy https://127.0.0.1:${port} {
    header_up Host localhost
    transport http {
      tls_server_name localhost
      tls_client_auth ${set}/tls.crt ${set}/tls.key
      tls_trusted_ca_certs ${set}/ca.crt
    }
  }
}
`
}

const psql: ClientMake = {
  programs: ['psql'],
  version: () => versionOf('psql --version'),
  talk: (set, port, { answer }) => {
    const files = `sslrootcert=${set}/ca.crt sslcert=${set}/tls.crt sslkey=${set}/tls.key`
    const server = `host=localhost hostaddr=127.0.0.1 port=${port} user=postgres dbname=postgres connect_timeout=20`
    return run(answer, 'psql', [`${server} sslmode=verify-full ${files}`, '-Atc', `select '${word}'`])
  },
}

const redisCli: ClientMake = {
  programs: ['redis-cli'],
  version: () => versionOf('redis-cli --version'),
  talk: (set, port) =>
    run(word, 'redis-cli', [
      ...['-h', '127.0.0.1', '-p', String(port), '--tls', '--sni', 'localhost'],
      ...['--cacert', join(set, 'ca.crt'), '--cert', join(set, 'tls.crt'), '--key', join(set, 'tls.key')],
      ...['ECHO', word],
    ]),
}

const etcdctl: ClientMake = {
  programs: ['etcdctl'],
  version: () => versionOf('etcdctl version'),
  talk: (set, port) =>
    run('OK', 'etcdctl', [
      ...['--endpoints', `https://127.0.0.1:${port}`, '--cacert', join(set, 'ca.crt')],
      ...['--cert', join(set, 'tls.crt'), '--key', join(set, 'tls.key'), 'put', word, word],
    ]),
}

const grpcJs: ClientMake = {
  programs: [],
  version: grpcVersion,
  talk: (set, port) => {
    const { ca, key, cert } = nodeFiles(set)
    const options = { 'grpc.ssl_target_name_override': 'localhost' }
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(ca, key, cert), options)
    const pass = (message: Buffer): Buffer => message
    const deadline = Date.now() + patienceMs
    const outcome = new Promise<string | null>((done) => {
      client.makeUnaryRequest('/Echo/Say', pass, pass, Buffer.from(word), { deadline }, (error, reply) => {
        done(error ? error.message : reply?.toString() === word ? null : 'another answer')
      })
    })
    return outcome.finally(() => client.close())
  },
}

export const clientMakes = {
  OpenSSL: openssl,
  GnuTLS: gnutls,
  Python: python,
  Java: java,
  Node: node,
  curl,
  'Go (caddy)': caddy,
  psql,
  'redis-cli': redisCli,
  'Go (etcdctl)': etcdctl,
  'grpc-js': grpcJs,
} satisfies Record<string, ClientMake>

export type ClientName = keyof typeof clientMakes

/** They speak TLS and nothing else, and so every protocol. */
export const plainClients: readonly ClientName[] = ['OpenSSL', 'GnuTLS', 'Python', 'Java', 'Node']

/** Sends the request to a client's standard input; null when the answer stands on its standard output. */
async function converse(
  child: ChildProcessWithoutNullStreams,
  { request, answer }: Conversation,
): Promise<string | null> {
  const exited = once(child, 'close')
  let [stdout, stderr] = ['', '']
  child.stderr.on('data', (data) => (stderr += String(data)))
  // What a client that was refused no longer reads.
  child.stdin.on('error', () => undefined)
  child.stdin.write(request)
  const answered = new Promise<boolean>((done) => {
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      stdout += text
      if (stdout.includes(answer)) done(true)
    })
  })
  const timeout = new AbortController()
  const outcome = await Promise.race([
    answered,
    exited.then(() => false),
    delay(patienceMs, false, { signal: timeout.signal }),
  ])
  timeout.abort()
  child.kill('SIGKILL')
  await exited
  return outcome ? null : `${stdout}${stderr}`.trim() || 'no answer'
}

/** Runs a program that sends by itself what it has to; null when it prints the answer. */
function run(answer: string, program: string, args: readonly string[]): Promise<string | null> {
  return new Promise((done) => {
    const options = { env: { ...process.env, ETCDCTL_API: '3' }, timeout: patienceMs }
    execFile(program, args, options, (error, stdout, stderr) => {
      done(!error && stdout.includes(answer) ? null : `${stdout}${stderr}`.trim() || 'no answer')
    })
  })
}
