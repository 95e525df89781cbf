import { writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certgen, temporaryDirectory } from '../program.ts'
import { blocksOf, documents, readDocument } from './markdown.ts'

const scratch = temporaryDirectory()

/** The names of all keys of a JSON Schema, at any depth. */
function keysOf(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const { properties = {} } = schema as { properties?: Readonly<Record<string, unknown>> }
  return [...Object.keys(properties), ...Object.values(schema).flatMap(keysOf)]
}

describe('docs/configuration.md', () => {
  it('names every key of the schema', async () => {
    const { stdout } = await certgen(['config', 'schema'])
    const keys = [...new Set(keysOf(JSON.parse(stdout)))]
    expect(keys.length).toBeGreaterThan(30)
    const text = readDocument('docs/configuration.md')
    // In a row of its own, in a list of keys, or in an example of what stands below another key.
    const missing = keys.filter((key) => !new RegExp(`\`${key}\`|[{ ,]${key}:`).test(text))
    expect(missing).toEqual([])
  })
})

const topLevel = /^(dir|authority|authorities|defaults|certificates|random|strategy|settle|metrics):/
const examples = documents.flatMap((document) =>
  blocksOf(readDocument(document))
    .filter(({ info, code }) => info[0] === 'yaml' && code.split('\n').some((line) => topLevel.test(line)))
    // Lines of Kubernetes' own manifests look alike, and say so.
    .filter(({ code }) => !/^kind:/m.test(code))
    .map(({ code }, index) => ({ title: `${document}, example ${index + 1}`, code })),
)

describe('the examples of certgen.yaml', () => {
  it('are many', () => {
    expect(examples.length).toBeGreaterThan(8)
  })

  it.each(examples)('have no mistakes: $title', async ({ code }) => {
    const cwd = await mkdtemp(join(scratch, 'example-'))
    writeFileSync(join(cwd, 'certgen.yaml'), code)
    const env: Record<string, string> = {}
    for (const [, name] of code.matchAll(/(?<!\$)\$\{(\w+)\}/g)) env[String(name)] = 'value'
    const { stderr, stdout } = await certgen(['config', 'check'], { cwd, env })
    // Accounts and files that this machine lacks are warnings.
    expect(stdout, stderr).toContain('has no mistakes')
  })
})
