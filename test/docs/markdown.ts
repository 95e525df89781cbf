import { readFileSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'

/** What operators read, as they find it: paths from the top of the project. */
export const documents: readonly string[] = [
  'README.md',
  'SECURITY.md',
  ...readdirSync(resolve('docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
]

export function readDocument(path: string): string {
  return readFileSync(resolve(path), 'utf8')
}

/** A fenced block of code. */
export interface Block {
  /** The words behind the fence: the language, then what tests are to know. */
  readonly info: readonly string[]
  readonly code: string
  /** The title of the `##` section that it stands in. */
  readonly section: string
}

export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = []
  let section = ''
  let open: { readonly info: readonly string[]; readonly lines: string[] } | null = null
  for (const line of markdown.split('\n')) {
    const fence = /^ *```(.*)$/.exec(line)
    if (fence && open) {
      blocks.push({ info: open.info, code: `${open.lines.join('\n')}\n`, section })
      open = null
    } else if (fence) {
      open = { info: (fence[1] ?? '').split(' '), lines: [] }
    } else if (open) {
      open.lines.push(line)
    } else if (line.startsWith('## ')) {
      section = line.slice(3)
    }
  }
  return blocks
}

/** The text of each `##` section, by its title. */
export function sectionsOf(markdown: string): Map<string, string> {
  const [, ...sections] = markdown.split(/^## /m)
  return new Map(
    sections.map((section) => {
      const end = section.indexOf('\n')
      return [section.slice(0, end), section.slice(end + 1)]
    }),
  )
}
