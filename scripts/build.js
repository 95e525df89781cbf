// Builds dist/: the program for the command line, the library with its type declarations, and the manual.
//
// The program is one file, because resolving and loading the dependencies' many files doubles the start of a command. It is
// CommonJS, because Node can keep the compiled code of a script but not, before version 22, of a module. Packages that
// only some commands need are files of their own, loaded when they are.
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { commonJs, esModule, version } from './bundling.js'
import { apart, fileOf, packagesApart, reexport } from './packages-apart.js'

const run = promisify(execFile)

// Built beside and moved into place, for a program that runs meanwhile loads its parts when it needs them.
const fresh = resolve(await mkdtemp('dist.'))
await Promise.all([
  build({
    ...commonJs,
    entryPoints: { cli: 'src/cli/main.ts', program: 'src/cli/program.ts' },
    outdir: fresh,
    plugins: [apart],
  }),
  ...packagesApart.map(async (name) =>
    build({
      ...commonJs,
      // As a module of Node's: what a CommonJS package exports is its default export.
      stdin: { contents: await reexport(name), resolveDir: '.', sourcefile: 'package.mjs' },
      outfile: `${fresh}/${fileOf(name)}`,
      outExtension: {},
    }),
  ),
  build({
    ...esModule,
    entryPoints: { index: 'src/index.ts', reload: 'src/reload/index.ts' },
    outdir: fresh,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
  }),
  run('node_modules/.bin/tsc', ['--project', 'tsconfig.build.json', '--outDir', fresh]),
])

/** Builds one source, uses it, and leaves nothing of it in what is shipped. */
async function withBuilt(source, format, use) {
  const outfile = `${fresh}/temporary.${format === 'cjs' ? 'cjs' : 'mjs'}`
  await build({
    ...(format === 'cjs' ? commonJs : esModule),
    entryPoints: [source],
    outfile,
    outExtension: {},
    legalComments: 'none',
  })
  await use(outfile)
  await rm(outfile)
}

await withBuilt('src/cli/program-loader.ts', 'cjs', (loader) =>
  run(process.execPath, ['scripts/warm-up.js', loader, fresh, version]),
)
// The manual is made by the program's own description of its commands.
await withBuilt('src/cli/man-page.ts', 'esm', async (path) => {
  const { manPage } = await import(pathToFileURL(path).href)
  await writeFile(`${fresh}/certgen.1`, manPage(version))
})

// A directory of its own is private; what is built is for every user of the machine.
await chmod(fresh, 0o755)
await rm('dist', { recursive: true, force: true })
await rename(fresh, 'dist')
