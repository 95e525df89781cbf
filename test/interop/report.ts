import { format, resolveConfig } from 'prettier'
import type { Generation } from './cells.ts'
import type { ClientName } from './clients.ts'
import type { Place, ServerMake } from './server-make.ts'

/** docs/interop.md, from what a run gave. */

export interface Cell {
  readonly server: Generation
  readonly client: Generation
  readonly tried: boolean
  readonly failed: readonly ClientName[]
}

export interface Row {
  readonly make: ServerMake
  readonly version: string
  readonly clients: readonly ClientName[]
  readonly cells: readonly Cell[]
}

/** Versions by the first cell of a row. */
export type Versions = ReadonlyMap<string, string>

/** The versions that a document tells of: the second cell of the rows of its tables. */
export function versionsIn(document: string): Versions {
  const cells = document
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
  return new Map(cells.map(([, name = '', version = '']) => [name, version]))
}

/**
 * The document of a run. With `versions` it is what the run would have given with these: versions differ from machine to
 * machine, all else is to be the same.
 */
export async function renderInterop(
  rows: readonly Row[],
  clientVersions: Readonly<Record<string, string>>,
  versions: Versions = new Map(),
): Promise<string> {
  const version = (name: string, found: string): string => versions.get(name) ?? found
  const servers = rows.map((row) => {
    const { make, clients, cells } = row
    const own = [make.name, version(make.name, row.version), make.words.takes, make.words.needs]
    return tableRow([...own, clients.join(', '), passed(cells)])
  })
  const clients = Object.entries(clientVersions).map(([name, found]) => tableRow([name, version(name, found)]))
  const text = [
    introduction,
    tableRow(['server', 'version', 'takes new files by', 'needs', 'clients', 'cells passed']),
    tableRow(Array.from({ length: 6 }, () => '---')),
    ...servers,
    clientsIntroduction,
    tableRow(['client', 'version']),
    tableRow(['---', '---']),
    ...clients,
    recipesIntroduction,
    ...rows.map(({ make }) => recipe(make)),
  ].join('\n')
  return format(text, { ...(await resolveConfig('docs/interop.md')), parser: 'markdown', proseWrap: 'always' })
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function passed(cells: readonly Cell[]): string {
  const good = cells.filter(({ tried, failed }) => tried && failed.length === 0)
  const bad = cells.filter(({ failed }) => failed.length > 0)
  const told = bad.map(({ server, client, failed }) => `${server} server, ${client} client (${failed.join(', ')})`)
  return [`${good.length} of ${cells.length}`, ...(told.length > 0 ? [`failed: ${told.join('; ')}`] : [])].join('; ')
}

function recipe(make: ServerMake): string {
  const place: Place = { ...make.installed, target: '/etc/certgen/server', port: 8443, backend: 8080, asRoot: true }
  const { language, text } = make.recipe(place)
  return [
    `### ${make.name}\n`,
    `\`\`\`${language}\n${text}\`\`\`\n`,
    `\`\`\`sh\n${rotation(make, place)}\n\`\`\`\n`,
    ...make.words.notes.map((note) => `${note}\n`),
  ].join('\n')
}

function rotation({ takes, conversation: { startTls } }: ServerMake, place: Place): string {
  const flags = typeof takes === 'function' ? takes(place).map(quote) : []
  const restart = takes === 'by restart' || takes === 'leaf by itself' ? ['# restart it'] : []
  const startTlsFlags = startTls ? ['--starttls', startTls] : []
  return [
    ['certgen --overwrite --dir /etc/certgen', ...flags].join(' '),
    ...restart,
    [`certgen probe localhost:${place.port} --expect ${place.target} --wait 20s`, ...startTlsFlags].join(' '),
  ].join('\n')
}

function quote(argument: string): string {
  return /^[\w/.:=-]+$/.test(argument) ? argument : `'${argument}'`
}

const introduction = `<!-- Made by \`npm run interop\`: change test/interop/, not this file. -->

# Real servers and real clients

Each of these servers runs on loopback over a target of certgen's, requires a client certificate, and goes through a
rotation: \`certgen --overwrite\` makes a new authority and new leaves, the server takes the new files in its own way, and
\`certgen probe\` confirms it. Then come the four cells of the promise that no handshake fails: the server with the old files
and with the new ones, and clients of every make with the old files and with the new ones. Old means that it has seen
nothing of the rotation. A cell has passed when every client was answered, not only done with its handshake. No server
answers a client without a certificate, or with one of another authority.

\`npm run interop\` makes this page; the tests fail when it does not say what they found. Only versions may differ.
Chain, key and bundle are \`tls.crt\`, \`tls.key\` and \`ca.crt\` of a target.
`

const clientsIntroduction = `
The clients verify the server's chain and name with the bundle of their own target, and present its leaf. OpenSSL is
\`s_client\` with \`-x509_strict\`, GnuTLS is \`gnutls-cli\`, Python's \`ssl\` verifies as strictly as 3.13 does by default, Java's
is PKIX, Go's comes with caddy as a proxy and with etcdctl.
`

const recipesIntroduction = `
## How each takes new files

The configurations are those that the tests run, with other paths. A hook (\`--exec\`, \`--signal\`) runs only when something
has changed; \`certgen watch /etc/certgen/server\` takes the same flags and runs beside a server whose files somebody else
writes. certgen writes a key for its own user alone (mode 0600). A server that reads it as another user needs certgen to
run as that user, or a hook that opens the key to its group, as the one for PostgreSQL does.
`
