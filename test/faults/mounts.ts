import { output, temporaryDirectory } from '../program.ts'

/** Mounts of a test, which are undone after it. */

const mounted: string[] = []

/** The arguments of mount(8), the directory last. */
export function mount(...args: readonly string[]): void {
  output('mount', ...args)
  mounted.push(args.at(-1)!)
}

export function unmount(): void {
  for (const directory of mounted.splice(0).reverse()) output('umount', directory)
}

/** It takes privileges that a container may lack even for root, so it is tried. */
export function cannotMount(): boolean {
  const directory = temporaryDirectory()
  try {
    mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory)
    unmount()
    return false
  } catch {
    process.stderr.write('\n!!! SKIPPED: tests of full and read-only file systems need the privilege to mount\n\n')
    return true
  }
}
