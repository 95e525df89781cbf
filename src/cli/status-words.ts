import type { ProbeCode } from '../deliver/probe.ts'
import type { Finding } from '../findings.ts'
import type { Attention, State } from '../rotation/status.ts'
import { describeFinding } from './words.ts'

/** The words for what a status finds, in whatever form it is shown. */

/** One line. */
export function describeAttention(attention: Attention, what: 'authority' | 'target', now: Date): string {
  switch (attention.code) {
    case 'unreadable':
      return attention.error.message
    case 'damaged':
      return [attention.message ?? 'it cannot be read back', findingText(attention.findings)].filter(Boolean).join(': ')
    case 'missing':
      return what === 'authority' ? 'there is no authority' : 'there is nothing yet'
    case 'expired':
      return `expired on ${day(attention.since)} (${ago(attention.since, now)})`
    case 'not-yet-valid':
      return `not valid before ${minute(attention.until)}: is the clock right?`
    case 'unusable':
      return `peers refuse it: ${findingText(attention.findings)}`
    case 'unfinished':
      return unfinished[attention.part]
    case 'undelivered':
      return `written, but not followed up yet: ${attention.followUps.join(', ')}`
    case 'due':
      return attention.part === 'certificate'
        ? `due since ${day(attention.since)} (${ago(attention.since, now)})`
        : `due: it still holds a certificate of the old CA, which ended on ${day(attention.since)}`
    case 'drift':
      return attention.part === 'leaf'
        ? 'the leaf is not as the configuration asks'
        : 'the files are not as the configuration asks (names, modes or owner)'
  }
}

const unfinished = {
  'earlier-authority': 'an interrupted rotation left it with a leaf of the earlier authority',
  'root-missing': 'an interrupted rotation left it without a root that peers already use',
  'copies-differ': 'an interrupted rotation left its copies with different contents',
  'generation-lost': 'its ..data leads nowhere: the next certgen leads it to the newest whole generation',
  'second-run': 'every bundle trusts the next authority: the second run may begin',
} as const

function findingText(findings: readonly Finding[]): string {
  return findings.map((finding) => `${finding.path}: ${describeFinding(finding)}`).join('; ')
}

/** What an endpoint comes to. `current`: it serves what its target holds, and its target's bundle trusts that. */
export type EndpointState = ProbeCode | 'current' | 'not-compared'

/** How much a state matters, for a colour. */
export function gravityOf(state: State | EndpointState): 'bad' | 'warning' | 'good' | 'none' {
  switch (state) {
    case 'ok':
    case 'current':
      return 'good'
    case 'foreign':
      return 'none'
    case 'unfinished':
    case 'undelivered':
    case 'due':
    case 'drift':
    case 'old-leaf':
    case 'chain-differs':
    case 'not-compared':
      return 'warning'
    default:
      return 'bad'
  }
}

export function describeProbe(code: ProbeCode, detail: string): string {
  switch (code) {
    case 'old-leaf':
      return 'it still serves the leaf from before the last change'
    case 'other-leaf':
      return 'it serves a leaf that its target does not hold'
    case 'chain-incomplete':
      return `peers that trust the old CA alone refuse it: ${detail}`
    case 'untrusted':
      return `the bundle of its target does not trust it: ${detail}`
    case 'expired':
      return `it serves a leaf that has expired ${detail}`
    case 'not-yet-valid':
      return `it serves a leaf that is not valid ${detail}`
    case 'chain-differs':
    case 'name-mismatch':
    case 'unreachable':
      return detail
  }
}

// ----------------------------------------------------------------------------------------------------------------- time

export function day(date: Date): string {
  return date.toISOString().slice(0, 10)
}

export function minute(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace('T', ' ')}Z`
}

/** How an instant in a life is written: to the minute in one so short that days say nothing. */
export function instantIn({
  notBefore,
  notAfter,
}: {
  readonly notBefore: Date
  readonly notAfter: Date
}): (date: Date) => string {
  return notAfter.getTime() - notBefore.getTime() < 4 * units.d ? minute : day
}

const units = { y: 31_536_000_000, d: 86_400_000, h: 3_600_000, m: 60_000 } as const

/**
 * A length of time at a glance: `4y`, `29d`, `5h`, `12m`, and `-3d` for what has passed. The unit is one of which there
 * are two or more.
 */
export function roughly(milliseconds: number): string {
  const length = Math.abs(milliseconds)
  const [unit, size] = Object.entries(units).find(([, each]) => length >= 2 * each) ?? ['m', units.m]
  const count = Math.floor(length / size)
  return `${milliseconds < 0 && count > 0 ? '-' : ''}${count}${unit}`
}

function ago(date: Date, now: Date): string {
  return `${roughly(now.getTime() - date.getTime())} ago`
}
