import { copyFileSync, readdirSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { output, temporaryDirectory } from '../program.ts'

describe('packages that are files of their own', () => {
  const directory = temporaryDirectory()
  const builder = resolve('test/package/fixtures/importing-program.mjs')
  const names = JSON.parse(output(process.execPath, builder, directory)) as string[]
  // Loaded by the program that is shipped, from the files that are shipped.
  copyFileSync('dist/cli.cjs', join(directory, 'cli.cjs'))
  symlinkSync(resolve('dist/packages'), join(directory, 'packages'))
  const seen = JSON.parse(output(process.execPath, join(directory, 'cli.cjs'))) as Record<
    string,
    Record<string, string>
  >

  it('are those that the build names, and no others', () => {
    const files = readdirSync('dist/packages').filter((name) => name.endsWith('.cjs'))
    expect(files).toHaveLength(names.length)
  })

  // `ora` was wrapped once too often, and every rotation on a terminal ended with `e is not a function`.
  it.each(names)('give the program what %s exports, by default and by name', async (name) => {
    const exported = (await import(name)) as Record<string, unknown>
    const types = Object.keys(exported).map((key) => [key, typeof exported[key]])
    expect(seen[name]).toMatchObject(Object.fromEntries(types))
    expect('default' in (seen[name] ?? {})).toBe('default' in exported)
  })
})
