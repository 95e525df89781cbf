import { join } from 'node:path'
import { readRegularFile } from '../regular-file.ts'
import { unlink } from '../system-calls.ts'
import { fillGeneration, namesOf } from './fill.ts'
import type { FileContent, Owner } from './fill.ts'
import { isOwnLink, makeLinks, visibleFile } from './links.ts'
import { current, makeName, tagOf } from './name.ts'
import { readCurrentLink } from './read.ts'
import { swap } from './swap.ts'
import type { SwapOptions } from './swap.ts'
import { discardUnpublished } from './tidy.ts'

export interface TakeOverOptions extends SwapOptions {
  readonly now: Date
  readonly directoryMode: number
  readonly owner?: Owner
}

/**
 * Brings a plain directory into the shape that a single rename can swap, without a change to what any name reads as: its
 * files become links to a generation with copies of them. Returns the generation's name; null when none of the files is
 * there.
 */
export async function takeOver(
  directory: string,
  files: readonly FileContent[],
  options: TakeOverOptions,
): Promise<string | null> {
  const copies: FileContent[] = []
  for (const file of files) {
    const copy = await copyOf(directory, file)
    if (copy) copies.push(copy)
  }
  if (copies.length === 0) return null
  const name = makeName(options.now)
  const { directoryMode, owner } = options
  try {
    await fillGeneration(directory, {
      name,
      files: copies,
      previous: null,
      undelivered: [],
      directoryMode,
      ...(owner ? { owner } : {}),
    })
    await swap(directory, name, null, options)
    await makeLinks(directory, namesOf(copies), tagOf(name))
    return name
  } catch (error) {
    await giveBack(directory, name, namesOf(copies), options)
    throw error
  }
}

/**
 * Unless some names go through `..data` already, the directory becomes the plain one again that it was. The lock and the
 * link are looked at immediately before: nothing is taken from a run that came after.
 */
async function giveBack(
  directory: string,
  name: string,
  names: readonly string[],
  { beforeSwap }: SwapOptions,
): Promise<void> {
  const linked = await Promise.all(names.map((each) => isOwnLink(directory, each)))
  if (linked.includes(true)) return
  if ((await readCurrentLink(directory)) === name) {
    await beforeSwap?.()
    await unlink(join(directory, current))
  }
  await discardUnpublished(directory, name)
}

/** A file that was there before certgen, with the owner it had. */
async function copyOf(directory: string, file: FileContent): Promise<FileContent | null> {
  const found = await visibleFile(directory, file.name)
  const present = found && (await readRegularFile(join(directory, file.name), 0))
  if (!present) return null
  // Of the file that was read: whoever may write here could have another's secret copied with the mode of his own.
  const { mode, uid, gid } = present.access
  const asRoot = process.geteuid?.() === 0
  // Who could read it still can, and nobody else: only root can give a copy to another user or group, so that without
  // root the group that the copy would have gets nothing unless it is the same.
  const sameGroup = asRoot || gid === process.getegid?.()
  const owner = asRoot ? { uid, gid } : { uid: -1, gid: -1 }
  return { name: file.name, data: present.data, mode: mode & file.mode & (sameGroup ? 0o777 : 0o707), owner }
}
