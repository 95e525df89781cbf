import { access } from 'node:fs'
import { loadProgram } from './program-loader.ts'

declare const __CERTGEN_VERSION__: string

/** `certgen --version` must cost no more than Node itself: everything else is loaded only when it is needed. */
const args = process.argv.slice(2)
if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) {
  process.stdout.write(`${__CERTGEN_VERSION__}\n`)
} else {
  widenThreadPool()
  void loadProgram(__dirname, require)
    .program.run(args, __CERTGEN_VERSION__)
    .then((code) => (process.exitCode = code))
}

/**
 * What a rotation waits for is fsync, and one thread waits for one file. The pool is made with its first work, and
 * commands that are run later need not know of it.
 */
function widenThreadPool(): void {
  if (process.env['UV_THREADPOOL_SIZE'] !== undefined) return
  process.env['UV_THREADPOOL_SIZE'] = '8'
  access('/', () => undefined)
  delete process.env['UV_THREADPOOL_SIZE']
}
