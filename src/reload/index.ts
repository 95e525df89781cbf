/** The public face of `certgen/reload`: re-exports only. */
export { CertgenError } from '../errors.ts'
export type { CertgenErrorOptions, ErrorCode } from '../errors.ts'
export type { Finding, FindingCode, Severity } from '../findings.ts'
export type { Trigger, WatchOptions } from './directory-watcher.ts'
export { prometheusText, toOcsf } from './events.ts'
export type {
  CertificateSummary,
  FailedEvent,
  OcsfEvent,
  OcsfOptions,
  ReloadCounters,
  ReloadEvents,
  ReloadedEvent,
  SetPart,
  SetSummary,
} from './events.ts'
export type { SetFileNames } from './loaded-set.ts'
export { ServerReloader } from './server-reloader.ts'
export type { AttachOptions, ServerReloaderOptions } from './server-reloader.ts'
export type { FollowOptions } from './set-follower.ts'
export { TrustReloader } from './trust-reloader.ts'
export type { TrustOptions, TrustReloaderOptions, TrustSource } from './trust-reloader.ts'
