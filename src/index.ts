export { openCluster } from './deliver/kubernetes/cluster.ts'
export type { Cluster, ClusterOptions } from './deliver/kubernetes/cluster.ts'
export { CertgenError } from './errors.ts'
export type { CertgenErrorOptions, ErrorCode } from './errors.ts'
export { hasErrors } from './findings.ts'
export type { Finding, FindingCode, Severity } from './findings.ts'
export { makeBundle } from './pki/bundle.ts'
export type { Bundle } from './pki/bundle.ts'
export { readCertificate } from './pki/certificate.ts'
export type { Certificate, KeyUsage, Usage } from './pki/certificate.ts'
export { readCertificates } from './pki/certificate-file.ts'
export type { PemFile } from './pki/certificate-file.ts'
export { checkSet } from './pki/check.ts'
export type { CheckedSet, CheckOptions, SetFiles } from './pki/check.ts'
export { keyTypes, parseKeyType } from './pki/key.ts'
export type { KeyType } from './pki/key.ts'
export { parseDuration } from './pki/lifetime.ts'
export type { Duration, Validity } from './pki/lifetime.ts'
export { dnsName, emailName, ipName, uriName } from './pki/names.ts'
export type { Name } from './pki/names.ts'
export { encodeCertificates } from './pki/pem.ts'
export { install } from './rotation/install.ts'
export type { InstallReport, InstallRequest } from './rotation/install.ts'
export type { Warning } from './rotation/plan.ts'
export type { LeafReport, RotationReport } from './rotation/report.ts'
export { defaults } from './rotation/request.ts'
export type { AskedFollowUp, AskedLeaf, Discovery, Mode, RotationRequest, Scope, Strategy } from './rotation/request.ts'
export { rollback, rollbackAll } from './rotation/rollback.ts'
export type { RollbackReport, RollbackRequest } from './rotation/rollback.ts'
export { rotate, rotateAll } from './rotation/rotate.ts'
export type { Clock, RotationProgress } from './rotation/rotate.ts'
export { status, statusAll } from './rotation/status.ts'
export type {
  Attention,
  AttentionCode,
  AuthorityStatus,
  CertificateStatus,
  State,
  StatusReport,
  StatusRequest,
  TargetStatus,
} from './rotation/status.ts'
export { directoryAuthority } from './store/authority-store.ts'
export type { AuthorityLocation, AuthorityStore, AuthorityView } from './store/authority-store.ts'
export type { BundleStore, PublishedBundle } from './store/bundle-store.ts'
export type { Holder } from './store/lock.ts'
export { directoryTarget, targetAt } from './store/target-store.ts'
export type { TargetFileNames, TargetLocation, TargetStore } from './store/target-store.ts'
