// Runs a measurement that is written in TypeScript: node bench/run.js reload | soak [rotations] | kubernetes [secrets]
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'

const [name = 'reload', ...args] = process.argv.slice(2)
const directory = await mkdtemp(join(tmpdir(), 'certgen-bench-'))
const outfile = join(directory, `${name}.mjs`)
try {
  await build({
    entryPoints: [`bench/${name}.ts`],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
  })
  const { measure } = await import(outfile)
  await measure(directory, args)
} finally {
  await rm(directory, { recursive: true, force: true })
}
