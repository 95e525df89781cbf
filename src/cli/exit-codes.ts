import type { ErrorCode } from '../errors.ts'

/** The exit codes of the contract. */
export const exitCodes = {
  done: 0,
  unexpected: 1,
  usage: 2,
  unusable: 3,
  refused: 4,
  writeFailed: 5,
  lockHeld: 6,
  followUpFailed: 7,
  due: 8,
} as const

/** The contract's words for them. */
export const exitCodeMeanings: readonly [number, string][] = [
  [exitCodes.done, 'done, or nothing to do'],
  [exitCodes.unexpected, 'unexpected failure: a bug, or an error of the system'],
  [exitCodes.usage, 'usage or configuration'],
  [exitCodes.unusable, 'a key, certificate or bundle is unusable; the findings say why'],
  [exitCodes.refused, 'refused: the rotation would break a handshake; nothing was written'],
  [exitCodes.writeFailed, 'the write failed; every target holds a complete generation'],
  [exitCodes.lockHeld, 'another certgen holds the lock'],
  [exitCodes.followUpFailed, 'written, but what followed (probe, hook, restart) failed'],
  [exitCodes.due, 'status --check: something is due, expired or unfinished'],
]

export const exitCodeOf: Readonly<Record<ErrorCode, number>> = {
  usage: exitCodes.usage,
  configuration: exitCodes.usage,
  unreadable: exitCodes.usage,
  unusable: exitCodes.unusable,
  'authority-unusable': exitCodes.unusable,
  refused: exitCodes.refused,
  'write-failed': exitCodes.writeFailed,
  conflict: exitCodes.writeFailed,
  'lock-held': exitCodes.lockHeld,
}
