import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { documents, readDocument } from './markdown.ts'

/** How a page is jumped into: the title in lower case, without punctuation, with hyphens for blanks. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

function linksOf(markdown: string): string[] {
  return [...markdown.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => String(link))
}

describe.each(documents)('%s', (document) => {
  it('has links only to what is there', () => {
    const links = linksOf(readDocument(document)).filter((link) => !/^(https?|mailto):/.test(link))
    const broken = links.filter((link) => {
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? document : join(dirname(document), path)
      if (!existsSync(resolve(target))) return true
      return anchor !== undefined && !anchorsOf(readDocument(target)).includes(anchor)
    })
    expect(broken).toEqual([])
  })
})

it('every page in docs/ can be reached from README.md', () => {
  const links = linksOf(readDocument('README.md'))
  expect(documents.filter((document) => document.startsWith('docs/') && !links.includes(document))).toEqual([])
})
