import { closeSync, constants, openSync, readSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Socket } from 'node:net'
import { CertgenError } from '../errors.ts'
import { mostOctets, readRegularFile, tooLarge } from './regular-file.ts'
import { errnoOf } from './system-errors.ts'

/**
 * Reads a file that somebody named, which may also be a pipe, as `<(command)` is in a shell: that is read to its end, but
 * one that nobody writes to is refused. Throws CertgenError `unreadable` for what is neither, or larger than 64 MB, and
 * the system's errors as they are.
 */
export async function readFileOrPipe(path: string): Promise<Buffer> {
  if ((await stat(path)).isFIFO()) return readPipe(path)
  const file = await readRegularFile(path, 0)
  if (file) return file.data
  throw new CertgenError('unreadable', `${path} has just been removed`, { hints: ['run it again'] })
}

async function readPipe(path: string): Promise<Buffer> {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const chunks = [firstOctets(path, descriptor)]
  let size = 0
  // A socket waits for what is written without keeping a thread, which would keep the process from ending.
  for await (const chunk of new Socket({ fd: descriptor, readable: true, writable: false })) {
    chunks.push(chunk as Buffer)
    size += (chunk as Buffer).length
    if (size > mostOctets) throw tooLarge(path)
  }
  return Buffer.concat(chunks)
}

/** What there is already. Nothing at all is the end of a pipe without a writer, which would be waited for in vain. */
function firstOctets(path: string, descriptor: number): Buffer {
  const buffer = Buffer.alloc(65_536)
  try {
    const count = readSync(descriptor, buffer)
    if (count > 0) return buffer.subarray(0, count)
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return Buffer.alloc(0)
    throw error
  }
  closeSync(descriptor)
  throw new CertgenError('unreadable', `${path} is a pipe that nobody writes to`, {
    hints: ['start what writes to it first, or give the name of a file'],
  })
}
