import { join } from 'node:path'
import { CertgenError } from '../../errors.ts'
import { syncDirectory } from '../directory.ts'
import { writeFileAtomically } from '../file.ts'
import { remove } from '../system-calls.ts'
import { writeError } from '../system-errors.ts'
import { undeliveredFile } from './name.ts'
import { readCurrentLink } from './read.ts'

/**
 * Notes what of the current generation has still to follow its swap; nothing is left when `left` is empty. Does nothing
 * when another generation is current by now: what has to follow is that one's. Throws CertgenError `write-failed`.
 */
export async function settleDelivery(directory: string, generation: string, left: readonly string[]): Promise<void> {
  try {
    const path = join(directory, generation)
    if ((await readCurrentLink(directory)) !== generation) return
    if (left.length > 0) {
      await writeFileAtomically(join(path, undeliveredFile), JSON.stringify(left), 0o644)
    } else {
      await remove(join(path, undeliveredFile))
      await syncDirectory(path)
    }
  } catch (error) {
    throw error instanceof CertgenError ? error : writeError(directory, error, [])
  }
}
