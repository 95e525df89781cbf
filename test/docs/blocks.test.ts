import { execFile } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { blocksOf, documents, readDocument } from './markdown.ts'

const scratch = temporaryDirectory()

const bin = join(scratch, 'bin')
mkdirSync(bin)
writeFileSync(join(bin, 'certgen'), `#!/bin/sh\nexec '${process.execPath}' '${resolve('bin/certgen.js')}' "$@"\n`, {
  mode: 0o755,
})

/** Programs that blocks run and that may not be there. */
const programs = ['openssl', 'mkcert', 'cfssl', 'cfssljson', 'minica', 'certtool', 'faketime', 'curl']

/** By a shell that stops at the first command that fails. */
function run(
  script: string,
  cwd: string,
): Promise<{ readonly code: number | null; readonly stdout: string; readonly said: string }> {
  const { HOME, PATH = '' } = process.env
  const env = { HOME, PATH: [bin, PATH].join(delimiter) }
  return new Promise((done) => {
    execFile('sh', ['-e', '-c', script], { cwd, env }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : null) : 0
      done({ code, stdout, said: `${script}\n${stdout}${stderr}` })
    })
  })
}

const sections = documents.flatMap((document) => {
  const tested = blocksOf(readDocument(document)).filter(({ info }) => info.includes('tested'))
  const titles = [...new Set(tested.map(({ section }) => section))]
  return titles.map((title) => ({
    title: `${document}: ${title}`,
    script: tested.flatMap(({ section, code }) => (section === title ? [code] : [])).join(''),
  }))
})

// The blocks of a section are run one after the other in an empty directory.
describe('the commands that the documents promise to have been tried', () => {
  it('are many', () => {
    expect(sections.length).toBeGreaterThan(6)
  })

  for (const { title, script } of sections) {
    const needed = programs.filter((program) => new RegExp(`\\b${program} `).test(script))
    it.skipIf(missing(...needed))(`succeed in ${title}`, async () => {
      const { code, stdout, said } = await run(script, await mkdtemp(join(scratch, 'section-')))
      expect(code, said).toBe(0)
      // What is shown to be refused is refused: `openssl verify ... || echo 'refused ...'`.
      for (const [, words] of script.matchAll(/\|\| echo '(.*)'$/gm)) expect(stdout, said).toContain(words)
    })
  }
})
