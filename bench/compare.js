// Whole processes against what else does the same on this machine, in one run: node bench/compare.js [--write] [pattern].
// Every figure is a ratio of medians of runs by turns; the goals stand beside them. --write keeps the table in
// docs/performance.md.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const args = process.argv.slice(2)
const write = args.includes('--write')
const pattern = new RegExp(args.find((arg) => !arg.startsWith('--')) ?? '')
const bin = resolve('bin/certgen.js')
const scratch = mkdtempSync(join(tmpdir(), 'certgen-bench-'))
const rows = []

/** Seconds of one run; what it prints is thrown away. */
function time(program, ...line) {
  const start = process.hrtime.bigint()
  const { status, stderr } = spawnSync(program, line, { cwd: scratch, stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) throw new Error(`${program} ${line.join(' ')}: ${stderr}`)
  return Number(process.hrtime.bigint() - start) / 1e9
}

/** Seconds and the largest resident size, in MB, of one run of certgen. */
function measure(...line) {
  const report = "process.on('exit', () => process.stderr.write(`\\nmaxRSS ${process.resourceUsage().maxRSS}`))"
  const start = process.hrtime.bigint()
  const all = ['--import', `data:text/javascript,${encodeURIComponent(report)}`, bin, ...line]
  const { status, stderr } = spawnSync(process.execPath, all, { cwd: scratch, stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) throw new Error(`certgen ${line.join(' ')}: ${stderr}`)
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  return { seconds, megabytes: Number(/maxRSS (\d+)/.exec(String(stderr))[1]) / 1024 }
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** The ratio of two things that are timed by turns, so that what else the machine does falls on both. */
function ratio(rounds, one, other) {
  const pairs = Array.from({ length: rounds }, () => [one(), other()])
  return median(pairs.map(([a]) => a)) / median(pairs.map(([, b]) => b))
}

const show = (value) => value.toFixed(value < 0.2 ? 3 : 2)

function row(what, against, goal, run) {
  if (!pattern.test(what)) return
  const figure = run()
  rows.push([what, against, goal, figure])
  console.log(`${what} | ${against} | goal ${goal} | ${figure}`)
}

// ----------------------------------------------------------------------------------------------------------- the fleets

/** A fleet of so many leaves, made once and copied when it is needed again. */
function fleet(count, key = 'ecdsa-p256') {
  const dir = join(scratch, `fleet-${key}-${count}`)
  const names = Array.from({ length: count }, (_, index) => `  - { name: s${index}, dns: s${index}.test, key: ${key} }`)
  const config = join(scratch, `fleet-${key}-${count}.yaml`)
  writeFileSync(config, `dir: ${dir}\ncertificates:\n${names.join('\n')}\n`)
  time(process.execPath, bin, '--config', config)
  return dir
}

const rotate = (dir, ...flags) => measure('--dir', dir, '--overwrite', '--settle', '1s', ...flags)

/** What people write with openssl: a key, a request and a certificate for each leaf; no checks, no atomic writes. */
function opensslScript(count) {
  const dir = mkdtempSync(join(scratch, 'openssl-'))
  const script = join(dir, 'rotate.sh')
  writeFileSync(
    script,
    `set -e; cd ${dir}
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -days 1825 -subj /CN=CA -out ca.crt
i=0; while [ $i -lt ${count} ]; do mkdir -p s$i; d=s$i/tls
openssl ecparam -name prime256v1 -genkey -noout -out $d.key
openssl req -new -key $d.key -subj /CN=s$i.test -out $d.csr
printf 'subjectAltName=DNS:s%s.test\\nextendedKeyUsage=serverAuth,clientAuth\\n' $i > $d.ext
openssl x509 -req -in $d.csr -CA ca.crt -CAkey ca.key -set_serial $i -days 90 -extfile $d.ext -out $d.crt
cp ca.crt s$i/ca.crt; i=$((i + 1)); done
`,
  )
  return time('sh', script)
}

function cfssl(count) {
  const dir = mkdtempSync(join(scratch, 'cfssl-'))
  const csr = { CN: 'CA', key: { algo: 'ecdsa', size: 256 } }
  writeFileSync(join(dir, 'ca.json'), JSON.stringify(csr))
  writeFileSync(join(dir, 'leaf.json'), JSON.stringify({ ...csr, CN: 'leaf', hosts: ['leaf.test'] }))
  execFileSync('sh', ['-c', `cd ${dir} && cfssl gencert -initca ca.json | cfssljson -bare ca`], { stdio: 'ignore' })
  const one = 'cfssl gencert -ca ca.pem -ca-key ca-key.pem leaf.json 2>/dev/null | cfssljson -bare s$i'
  return time('sh', '-c', `cd ${dir}; i=0; while [ $i -lt ${count} ]; do ${one}; i=$((i + 1)); done`)
}

function minica(count) {
  const dir = mkdtempSync(join(scratch, 'minica-'))
  const one = 'minica s$i.test >/dev/null'
  return time('sh', '-c', `cd ${dir}; i=0; while [ $i -lt ${count} ]; do ${one}; i=$((i + 1)); done`)
}

// -------------------------------------------------------------------------------------------------------------- the rows

try {
  const node = () => time(process.execPath, '-e', '0')
  const idle = join(scratch, 'idle')
  time(process.execPath, bin, '--dir', idle)
  let fresh = 0
  row('`certgen --version`', '`node -e 0`', 'at most 1.2', () =>
    show(ratio(41, () => time(process.execPath, bin, '--version'), node)),
  )
  row('`certgen` with nothing to do, 1 target', '`node -e 0`', 'at most 2.0', () =>
    show(ratio(31, () => time(process.execPath, bin, '--dir', idle), node)),
  )
  row('first run: CA and 1 leaf, P-256', '`node -e 0`', 'at most 2.5', () =>
    show(ratio(31, () => time(process.execPath, bin, '--dir', join(scratch, `first-${fresh++}`)), node)),
  )
  row('10 leaves rotated', 'a script of `openssl` commands', 'under 0.6', () => {
    const dir = fleet(10)
    return show(
      ratio(
        7,
        () => rotate(dir).seconds,
        () => opensslScript(10),
      ),
    )
  })
  let made = ''
  const thousand = () => (made ||= fleet(1000))
  let rotation = null
  row('1,000 P-256 leaves rotated, all steps', 'the same script', 'under 0.08', () => {
    rotation ??= Array.from({ length: 3 }, () => rotate(thousand()))
    return show(median(rotation.map(({ seconds }) => seconds)) / opensslScript(1000))
  })
  let phases = null
  const rehearsals = () =>
    (phases ||= Array.from({ length: 5 }, () =>
      JSON.parse(execFileSync(process.execPath, ['bench/phases.js', thousand()], { encoding: 'utf8' })),
    ))
  row('preflight of 1,000 leaves of one profile', 'the whole rotation of them', 'under 0.1', () => {
    const preflight = median(rehearsals().map(({ preflight }) => preflight)) / 1000
    rotation ??= Array.from({ length: 3 }, () => rotate(thousand()))
    return show(preflight / median(rotation.map(({ seconds }) => seconds)))
  })
  row('a leaf issued in memory', 'an ECDSA P-256 key and signature alone', 'stated, and halved twice', () => {
    const issued = median(rehearsals().map(({ issue, leaves }) => issue / leaves))
    const speed = execFileSync('openssl', ['speed', '-seconds', '2', '-mr', 'ecdsap256'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const signature = 1000 / Number(/^\+F4:\d+:256:([\d.]+):/m.exec(String(speed))[1])
    const generate = `const { generateKeyPairSync } = require('crypto'), start = performance.now()
      for (let i = 0; i < 5000; i++) generateKeyPairSync('ec', { namedCurve: 'P-256' })
      console.log((performance.now() - start) / 5000)`
    const key = Number(execFileSync(process.execPath, ['-e', generate]))
    return `${show(issued / (key + signature))} times`
  })
  row('1,000 P-256 leaves', 'cfssl and minica, a process a leaf (100 of them, times 10)', 'faster than both', () => {
    const own = median((rotation ?? [rotate(thousand())]).map(({ seconds }) => seconds))
    return `${show(own / (cfssl(100) * 10))} and ${show(own / (minica(100) * 10))}`
  })
  row('100 RSA-2048 leaves', "one core's key generation, 100 keys", 'at least 1.8 times faster', () => {
    const dir = fleet(100, 'rsa-2048')
    const keys = () => {
      const code = "for (let i = 0; i < 100; i++) require('crypto').generateKeyPairSync('rsa', { modulusLength: 2048 })"
      return time(process.execPath, '-e', code)
    }
    return `${show(1 / ratio(5, () => rotate(dir).seconds, keys))} times faster`
  })
  row('10,000 leaves rotated', '1,000 leaves', 'time at most 11 times, under 400 MB', () => {
    const dir = fleet(10_000)
    const large = rotate(dir)
    const small = median(Array.from({ length: 3 }, () => rotate(thousand()).seconds))
    return `${show(large.seconds / small)} times, ${large.megabytes.toFixed(0)} MB`
  })
  row('`status` of 10,000 targets', '1,000', 'at most 11 times, under 400 MB', () => {
    const dir = fleet(10_000)
    const large = measure('status', '--dir', dir)
    const small = median(Array.from({ length: 3 }, () => measure('status', '--dir', thousand()).seconds))
    return `${show(large.seconds / small)} times, ${large.megabytes.toFixed(0)} MB`
  })
  row('installed: size, packages', '', 'each heavy one with its reason', () => {
    const packed = JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    )
    const { dependencies = {} } = JSON.parse(readFileSync('package.json', 'utf8'))
    return `${(packed[0].unpackedSize / 1e6).toFixed(1)} MB, ${1 + Object.keys(dependencies).length} package(s)`
  })
  if (write) keepTable()
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

function keepTable() {
  const path = 'docs/performance.md'
  const [cpu] = cpus()
  const machine = `Node ${process.version}, ${cpus().length} x ${cpu?.model.trim() ?? 'unknown'}`
  const table = [
    '| what | against | goal | measured |',
    '| --- | --- | --- | --- |',
    ...rows.map((cells) => `| ${cells.join(' | ')} |`),
  ]
  const text = readFileSync(path, 'utf8')
  const kept = text.replace(
    /<!-- table -->[^]*<!-- end -->/,
    `<!-- table -->\n\n${machine}\n\n${table.join('\n')}\n\n<!-- end -->`,
  )
  writeFileSync(path, kept)
  execFileSync(resolve('node_modules/.bin/prettier'), ['--write', path])
}
