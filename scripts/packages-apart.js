/** The large packages that only some commands need: each becomes a file of its own, loaded when it is needed. */
export const packagesApart = ['@kubernetes/client-node', 'ora', 'pkijs', 'yaml', 'zod']

/** Where a package is, seen from the program's own files. */
export function fileOf(name) {
  return `packages/${name.replaceAll(/[@/]/g, '-').replace(/^-/, '')}.cjs`
}

/** A module that exports what the package does, however it exports it: `export *` leaves a default export out. */
export async function reexport(name) {
  const hasDefault = 'default' in (await import(name))
  return `export * from '${name}'${hasDefault ? `\nexport { default } from '${name}'` : ''}`
}

const namespace = 'package-apart'

/**
 * Leaves these packages to their files. What the program imports is a module of the bundle that exports what is required
 * from the file. Without it, esbuild would wrap the file for the program's `import()` as Node wraps a CommonJS module of
 * somebody else's: the default export would be all of the file, and the package's own one would be the default of that.
 */
export const apart = {
  name: 'apart',
  setup: ({ onLoad, onResolve }) => {
    const filter = new RegExp(`^(${packagesApart.join('|')})$`)
    onResolve({ filter }, ({ path, namespace: from }) =>
      from === namespace ? { path: `./${fileOf(path)}`, external: true } : { path, namespace },
    )
    onLoad({ filter, namespace }, async ({ path }) => ({ contents: await reexport(path) }))
  },
}
