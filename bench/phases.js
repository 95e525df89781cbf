// phases.js DIR: rehearses a rotation of every leaf in DIR by the library, and prints the milliseconds of its phases as JSON.
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { defaults, directoryAuthority, rotate } from '../dist/index.js'

const [dir = 'certs'] = process.argv.slice(2)
const request = {
  authority: { store: directoryAuthority({ directory: join(dir, 'ca') }) },
  leaves: [],
  discovery: { dir, except: [] },
  scope: 'fleet',
  mode: 'overwrite',
  keepAuthority: false,
  strategy: 'auto',
  settle: 0,
  distrustPrevious: false,
  force: false,
  dryRun: true,
  lockTimeout: defaults.lockTimeout,
}
const begun = {}
const start = performance.now()
const report = await rotate(request, () => new Date(), {
  step: (name) => {
    begun[name] ??= performance.now()
  },
})
const end = performance.now()
const phases = { read: begun.issue - start, issue: begun.preflight - begun.issue, preflight: end - begun.preflight }
console.log(JSON.stringify({ leaves: report.leaves.length, ...phases }))
