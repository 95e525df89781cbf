import { readFile } from 'node:fs/promises'

/** How esbuild makes what is shipped of the sources. */

export const { version } = JSON.parse(await readFile('package.json', 'utf8'))

const common = {
  bundle: true,
  minify: true,
  keepNames: true,
  platform: 'node',
  target: 'node20.19',
  legalComments: 'linked',
  define: { __CERTGEN_VERSION__: JSON.stringify(version) },
}
// Node's own import() of a CommonJS file guesses at its names; require() knows them.
export const commonJs = {
  ...common,
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  supported: { 'dynamic-import': false },
}
// CommonJS dependencies call require() for Node's own modules, which an ES module lacks.
export const esModule = {
  ...common,
  format: 'esm',
  banner: {
    js: "import { createRequire as __certgenRequire } from 'node:module';const require = __certgenRequire(import.meta.url);",
  },
}
