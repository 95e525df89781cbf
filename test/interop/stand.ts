import { join } from 'node:path'
import { freePort } from '../port.ts'
import { certgen, rotateJson, temporaryDirectory } from '../program.ts'
import type { Generation } from './cells.ts'
import type { RunningServer } from './processes.ts'
import type { Place, ServerMake } from './server-make.ts'
import { keepSet } from './sets.ts'
import type { SetDirectory } from './sets.ts'

/** A server on a fleet of its own: the target `server` for it, and `client` for those that come to it. */
export class Stand {
  readonly place: Place
  readonly #dir: string
  readonly #make: Pick<ServerMake, 'conversation' | 'start'>
  #server: RunningServer | null = null

  /** Makes the fleet and keeps its first generation as the old one; `backend`: see Place. */
  static async make(make: Pick<ServerMake, 'conversation' | 'prepare' | 'start'>, backend: number): Promise<Stand> {
    const [dir, home] = [temporaryDirectory(), temporaryDirectory()]
    await rotateJson(['--dir', dir])
    await rotateJson(['leaf', 'client', '--dir', dir, '--usage', 'client', '--dns', 'client.test'])
    const asRoot = process.getuid?.() === 0
    const place = { home, run: home, target: join(dir, 'server'), port: await freePort(), backend, asRoot }
    await make.prepare?.(place)
    const stand = new Stand(make, dir, place)
    stand.keep('old')
    return stand
  }

  private constructor(make: Pick<ServerMake, 'conversation' | 'start'>, dir: string, place: Place) {
    this.#make = make
    this.#dir = dir
    this.place = place
  }

  /** What is on disk now is from here on this generation. */
  keep(generation: Generation): void {
    for (const leaf of ['server', 'client'] as const) keepSet(join(this.#dir, leaf), this.set(leaf, generation))
  }

  /** What clients of either generation have. */
  clientSets(): Record<Generation, SetDirectory> {
    return { old: this.set('client', 'old'), new: this.set('client', 'new') }
  }

  /** What a peer that loaded this generation has. */
  set(leaf: 'server' | 'client', generation: Generation): SetDirectory {
    return join(this.#dir, generation, leaf)
  }

  /** (Re)starts the server on the target, or on the generation that was kept. */
  async start(generation?: Generation): Promise<void> {
    await this.stop()
    const target = generation === undefined ? this.place.target : this.set('server', generation)
    this.#server = await this.#make.start({ ...this.place, target })
  }

  async stop(): Promise<void> {
    await this.#server?.stop()
    this.#server = null
  }

  /** What the server has said. */
  log(): string {
    return this.#server?.log() ?? ''
  }

  /** `certgen --overwrite` with these flags; what is then on disk is the new generation. */
  async rotate(...flags: readonly string[]): Promise<void> {
    const { code, stdout, stderr } = await certgen(['--overwrite', '--dir', this.#dir, ...flags])
    if (code !== 0) throw new Error(`certgen exited with ${String(code)}: ${stdout}${stderr}${this.log()}`)
    this.keep('new')
  }

  /** Exit code and codes of the findings of `certgen probe`, which compares what is served with the target. */
  async probe(...flags: readonly string[]): Promise<[number | null, string[]]> {
    const { startTls } = this.#make.conversation
    const args = ['probe', `127.0.0.1:${this.place.port}`, '--expect', this.place.target, '--json', ...flags]
    const { code, stdout, stderr } = await certgen([...args, ...(startTls ? ['--starttls', startTls] : [])])
    if (stdout === '') throw new Error(`certgen probe exited with ${String(code)}: ${stderr}`)
    const { endpoints } = JSON.parse(stdout) as { endpoints: { findings: { code: string }[] }[] }
    const findings = endpoints.flatMap((endpoint) => endpoint.findings.map((finding) => finding.code))
    if (findings.includes('unreachable')) throw new Error(`the server does not answer: ${stdout}${this.log()}`)
    return [code, findings]
  }
}
