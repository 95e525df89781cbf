import { describe, expect, it } from 'vitest'
import { certgen } from '../program.ts'
import { blocksOf, documents, readDocument } from './markdown.ts'

/** A command line as it stands in a document. */
interface Line {
  readonly document: string
  readonly text: string
}

/**
 * The calls of certgen in shell blocks, with continuation lines joined and what another program gets left out, and those
 * within the text.
 */
function commandLines(document: string): Line[] {
  const markdown = readDocument(document)
  const inline = [...markdown.matchAll(/`(certgen(?: [^`]*)?)`/g)].map(([, text]) => ({ document, text: String(text) }))
  const fenced = blocksOf(markdown)
    .filter(({ info }) => ['sh', 'bash', 'shell', 'console'].includes(info[0] ?? ''))
    .flatMap(({ code }) => code.replaceAll(/\\\n\s*/g, ' ').split('\n'))
    .flatMap((line) => line.replace(/(^|\s)#.*$/, '').split(/\s*(?:&&|\|\||[;|]|\$\(|<\()\s*/))
    .flatMap((text) => {
      const [, call] = /^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:npx )?(certgen(?: .*)?)$/.exec(text.trim()) ?? []
      return call === undefined ? [] : [{ document, text: call }]
    })
  return [...fenced, ...inline]
}

/** The words of a call, what stands in quotes as one. */
function wordsOf(text: string): string[] {
  return text.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? []
}

const helps = new Map<string, Promise<string>>()

/** What `certgen COMMAND --help` says; empty for what is no command, for which it says how certgen itself is used. */
function helpOf(command: readonly string[]): Promise<string> {
  const key = command.join(' ')
  const help =
    helps.get(key) ??
    certgen([...command, '--help']).then(({ stdout }) => (stdout.startsWith(`Usage: certgen ${key}`) ? stdout : ''))
  helps.set(key, help)
  return help
}

/** What is wrong with a call; null when nothing is. */
async function mistakeIn(text: string): Promise<string | null> {
  const [, ...words] = wordsOf(text)
  const [first = ''] = words
  if (first === '--version' || first === '--help') return null
  const isDefault = first === '' || first.startsWith('-')
  const command = isDefault ? ['rotate'] : words.slice(0, first === 'config' ? 2 : 1)
  const name = command.join(' ')
  // Placeholders, as in `certgen COMMAND --help`.
  if (/^[A-Z]+$/.test(name)) return null
  const help = await helpOf(command)
  if (help === '') return `${name} is no command`
  const known = new Set(help.match(/--[a-z][\w-]*/g))
  const flags = words.flatMap((word) => /^(--[a-z][\w-]*)(?:=.*)?$/.exec(word)?.[1] ?? [])
  const unknown = flags.filter((flag) => !known.has(flag))
  return unknown.length === 0 ? null : `${name} has no ${unknown.join(', ')}`
}

describe('the command lines in the documents', () => {
  const lines = documents.flatMap(commandLines)

  it('are many', () => {
    expect(lines.length).toBeGreaterThan(40)
  })

  it('use only commands and flags that the program has', async () => {
    const mistakes = await Promise.all(
      lines.map(async ({ document, text }) => ({ document, text, mistake: await mistakeIn(text) })),
    )
    expect(mistakes.filter(({ mistake }) => mistake !== null)).toEqual([])
  })

  it('would be found wrong with a mistyped command or flag', async () => {
    expect(await mistakeIn('certgen rotat --overwrite')).toBe('rotat is no command')
    expect(await mistakeIn('certgen --overwite')).toBe('rotate has no --overwite')
    expect(await mistakeIn("certgen watch certs/server --exec 'nginx --reload'")).toBeNull()
  })
})

describe('README.md', () => {
  it('has the two commands that a stranger runs first', () => {
    const lines = readDocument('README.md').split('\n')
    expect(lines).toContain('npm ci && npx certgen --overwrite')
    expect(lines).toContain('npm ci && npm test')
  })
})
