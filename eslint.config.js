import eslint from '@eslint/js'
import { createNodeResolver, importX } from 'eslint-plugin-import-x'
import { defineConfig, globalIgnores } from 'eslint/config'
import typescript from 'typescript-eslint'

// What each part of src/ may import from src/, besides itself. Imports point down only, so that what is pure stays pure
// and each part can be read without those above it. What is not listed is refused, so a new file directly in src/ has to
// be named here before anything can import it.
const foundation = ['errors.ts', 'findings.ts']
const lower = [...foundation, 'pki', 'store']
const mayImport = {
  'findings.ts': [],
  'errors.ts': ['findings.ts'],
  pki: foundation,
  store: [...foundation, 'pki'],
  rotation: lower,
  reload: lower,
  deliver: lower,
  cli: [...lower, 'rotation', 'reload', 'deliver'],
  'index.ts': [...lower, 'rotation', 'reload', 'deliver'],
}

const terminalPackages = ['commander', 'chalk', 'ora']
const worldlyModules = ['fs', 'fs/promises', 'process', 'child_process']

/** Refuses modules in every way they can be imported: `no-restricted-imports` does not look at `import()`. */
function refuseModules(names, message) {
  return {
    paths: names.map((name) => ({ name, message })),
    syntax: {
      selector: `ImportExpression[source.value=/^(${names.map((name) => name.replaceAll('/', '\\u002F')).join('|')})$/]`,
      message,
    },
  }
}

const terminal = refuseModules(terminalPackages, 'Only src/cli knows the terminal.')
const world = refuseModules(
  worldlyModules.flatMap((name) => [name, `node:${name}`]),
  'src/pki is pure: bytes and dates in, bytes and findings out.',
)
const clockMessage = 'Time is an argument here: take a Date.'
const clock = [
  { selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: clockMessage },
  { selector: 'CallExpression[callee.name="Date"]', message: clockMessage },
  { selector: 'MemberExpression[object.name="Date"][property.name="now"]', message: clockMessage },
  { selector: 'MemberExpression[object.name="Date"][property.value="now"]', message: clockMessage },
]
const exitMessage = 'Only src/cli knows exit codes and standard output.'

export default defineConfig(
  globalIgnores(['dist/', 'dist.*/', 'certs/', 'coverage/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  eslint.configs.recommended,
  typescript.configs.strictTypeChecked,
  typescript.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // A number reads the same in a template as it does anywhere else.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `() => callback()` is the idiom for what returns nothing; braces around it say no more.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // An `import()` type would slip past the import rules below.
      '@typescript-eslint/consistent-type-imports': 'error',
      // An interface or a base class decides the parameters; an underscore says that one is not needed.
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
    },
  },
  {
    // Plain JavaScript is no part of the TypeScript project.
    files: ['**/*.{js,mjs,cjs}'],
    extends: [typescript.configs.disableTypeChecked],
    languageOptions: { globals: { Buffer: 'readonly', URL: 'readonly', console: 'readonly', process: 'readonly' } },
  },
  {
    // The launcher is CommonJS, which starts sooner than a module.
    files: ['bin/*.js'],
    languageOptions: { sourceType: 'commonjs', globals: { require: 'readonly' } },
    rules: { '@typescript-eslint/no-require-imports': 'off' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      // Where nothing is, a test fails all the same, at the same line.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { 'import-x': importX },
    settings: { 'import-x/resolver-next': [createNodeResolver({ extensions: ['.ts', '.js'] })] },
    rules: {
      'import-x/no-restricted-paths': [
        'error',
        {
          basePath: import.meta.dirname,
          zones: Object.entries(mayImport).map(([part, others]) => ({
            target: `src/${part}`,
            from: 'src',
            except: [part, ...others],
            message: `src/${part} may import only: ${[part, ...others].join(', ')}.`,
          })),
        },
      ],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/cli/**'],
    rules: {
      'no-console': 'error',
      'no-restricted-imports': ['error', { paths: terminal.paths }],
      'no-restricted-syntax': ['error', terminal.syntax],
      'no-restricted-properties': [
        'error',
        ...['exit', 'exitCode', 'stdout'].map((property) => ({ object: 'process', property, message: exitMessage })),
      ],
    },
  },
  // A rule's options replace those given above, so each of these says again what still holds.
  {
    files: ['src/pki/**/*.ts', 'src/errors.ts', 'src/findings.ts'],
    rules: {
      'no-restricted-imports': ['error', { paths: [...terminal.paths, ...world.paths] }],
      'no-restricted-syntax': ['error', terminal.syntax, world.syntax, ...clock],
      'no-restricted-globals': ['error', 'console', 'process', 'performance', 'globalThis'],
    },
  },
  {
    files: ['src/rotation/plan.ts', 'src/rotation/status.ts'],
    rules: { 'no-restricted-syntax': ['error', terminal.syntax, ...clock] },
  },
  {
    files: ['src/index.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: 'Program > :not(ExportAllDeclaration, ExportNamedDeclaration[source])',
          message: 'src/index.ts only re-exports.',
        },
      ],
    },
  },
)
