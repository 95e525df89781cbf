import { readFileSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exitCodeOf, exitCodes } from '../../src/cli/exit-codes.ts'
import { readDocument, sectionsOf } from './markdown.ts'

const sections = sectionsOf(readDocument('docs/errors.md'))

/** The codes that a section explains: the first cells of its table, with what stands beside them. */
function explained(section: string): Map<string, string[]> {
  const rows = (sections.get(section) ?? '').split('\n').filter((line) => line.startsWith('|'))
  const [, , ...body] = rows.map((row) => row.split('|').map((cell) => cell.trim()))
  return new Map(body.map(([, code = '', ...cells]) => [code.replaceAll('`', ''), cells]))
}

/** The texts of a union type, as its source has them. */
function union(path: string, type: string): string[] {
  const source = readFileSync(resolve(path), 'utf8')
  const start = source.indexOf(`export type ${type} =`)
  expect(start).not.toBe(-1)
  const [body = ''] = source.slice(start).split(/\n(?=\n|export|const|function)/)
  return [...body.matchAll(/^ {2}\| '([\w-]+)'/gm)].map(([, code]) => String(code))
}

function sources(): string {
  const directory = resolve('src')
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join(directory, path), 'utf8'))
    .join('\n')
}

/** What is the same in both directions. */
function expectSame(section: string, codes: readonly string[]): void {
  const known = [...explained(section).keys()]
  expect(codes.length).toBeGreaterThan(4)
  expect(codes.filter((code) => !known.includes(code))).toEqual([])
  expect(known.filter((code) => !codes.includes(code))).toEqual([])
}

describe('docs/errors.md', () => {
  it('explains every exit code', () => {
    expectSame(
      'Exit codes',
      Object.values(exitCodes).map((code) => String(code)),
    )
  })

  it('explains every error, with its exit code', () => {
    const codes = union('src/errors.ts', 'ErrorCode')
    expect(codes.sort()).toEqual(Object.keys(exitCodeOf).sort())
    // What is thrown and is no CertgenError is told of under this code.
    expectSame('Errors', [...codes, 'unexpected'])
    const told = new Map([...explained('Errors')].map(([code, [exitCode]]) => [code, Number(exitCode)]))
    for (const [code, exitCode] of Object.entries(exitCodeOf)) expect(told.get(code), code).toBe(exitCode)
  })

  it('explains every finding', () => {
    expectSame('Findings', union('src/findings.ts', 'FindingCode'))
  })

  it('explains every warning', () => {
    const codes = [...sources().matchAll(/\bcode: '([\w-]+)',\s*message\b/g)].map(([, code]) => String(code))
    // zod's own code of a mistake in a configuration, that of an error which is nobody's warning, and what status shows.
    const others = ['custom', 'unexpected', 'damaged']
    expectSame(
      'Warnings',
      [...new Set(codes)].filter((code) => !others.includes(code)),
    )
  })

  it('explains what a probe finds', () => {
    expectSame('Probes', union('src/deliver/probe.ts', 'ProbeCode'))
  })

  it('has a cause and a cure for each', () => {
    for (const section of ['Exit codes', 'Errors', 'Findings', 'Warnings', 'Probes']) {
      for (const [code, cells] of explained(section)) {
        expect(
          cells.slice(0, -1).filter((cell) => cell === ''),
          `${section}: ${code}`,
        ).toEqual([])
      }
    }
  })
})
