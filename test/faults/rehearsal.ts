import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { output } from '../program.ts'
import { makeFleet, readFleet } from './fleet.ts'
import type { Fleet } from './fleet.ts'
import { traceCalls } from './trace.ts'
import type { Point, TracedRun } from './trace.ts'

/** A fleet as it is before the rotation that is to be disturbed, and every call of that rotation. */
export interface Rehearsal {
  readonly before: Fleet
  readonly points: readonly Point[]
  /** A fresh copy of the fleet, in a directory of its own or in the one that is given, and the rotation of it. */
  readonly copy: (parent?: string) => TracedRun
}

/** `prepare` is told the directory of the fleet, once that is made. */
export async function rehearse(root: string, prepare?: (dir: string) => void): Promise<Rehearsal> {
  const prepared = join(root, 'prepared')
  await makeFleet(prepared)
  prepare?.(prepared)
  const instant = new Date()
  let copies = 0
  const copy = (parent = join(root, `copy-${++copies}`)): TracedRun => {
    const dir = join(parent, 'certs')
    mkdirSync(parent, { recursive: true })
    // Modes, times and links as they are.
    output('cp', '-a', prepared, dir)
    return { dir, args: ['--overwrite'], instant }
  }
  return { before: readFleet(prepared), points: await traceCalls(copy()), copy }
}
