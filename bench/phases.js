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
// Issuing and preflight take turns: each step ends the one before.
const phases = { read: 0, issue: 0, preflight: 0 }
let [phase, since] = ['read', performance.now()]
const enter = (next) => {
  const now = performance.now()
  phases[phase] += now - since
  ;[phase, since] = [next, now]
}
const report = await rotate(request, () => new Date(), { step: enter })
enter('end')
console.log(JSON.stringify({ leaves: report.leaves.length, ...phases }))
