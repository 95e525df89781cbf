import type { FleetStatus } from '../../src/cli/status-report.ts'
import type { SurveyResult } from '../../src/deliver/survey.ts'
import type { Attention, AuthorityStatus, CertificateStatus, TargetStatus } from '../../src/rotation/status.ts'
import { directoryTarget, targetAt } from '../../src/store/target-store.ts'

/** A fleet on paper, at a fixed instant: what is drawn of it can be told to the letter. */

export const now = new Date('2026-03-15T12:00:00Z')

export function certificate(from: string, to: string, changes: Partial<CertificateStatus> = {}): CertificateStatus {
  return {
    subject: 'CN=localhost',
    issuer: 'CN=Acme CA 2026-01-01 0a1b2c3d',
    serialNumber: '0A1B2C3D',
    sha256: '0123456789abcdef'.repeat(4),
    notBefore: new Date(from),
    notAfter: new Date(to),
    names: ['DNS:localhost', 'IP:127.0.0.1'],
    key: 'ecdsa-p256',
    ...changes,
  }
}

export function authority(changes: Partial<AuthorityStatus> = {}): AuthorityStatus {
  return {
    name: null,
    path: 'certs/ca',
    state: 'ok',
    attention: [],
    certificate: certificate('2026-01-01', '2031-01-01', { subject: 'CN=Acme CA 2026-01-01 0a1b2c3d', names: [] }),
    keyState: 'usable',
    dueAt: new Date('2030-10-03'),
    previous: null,
    successor: null,
    ...changes,
  }
}

export function target(name: string, changes: Partial<TargetStatus> = {}): TargetStatus {
  const path = `certs/${name}`
  const [first] = changes.attention ?? []
  return {
    name,
    path,
    store: directoryTarget(targetAt(path)),
    authority: null,
    state: first?.code ?? 'ok',
    attention: [],
    leaf: certificate('2026-03-01', '2026-05-30'),
    dueAt: new Date('2026-04-30'),
    crossSigned: false,
    carriedOver: null,
    undelivered: [],
    writtenAt: null,
    findings: [],
    ...changes,
  }
}

export function endpoint(changes: Partial<SurveyResult> = {}): SurveyResult {
  return {
    endpoint: 'localhost:8443',
    target: 'server',
    incomparable: null,
    address: '127.0.0.1',
    port: 8443,
    protocol: 'TLSv1.3',
    chain: [],
    trust: [],
    findings: [],
    ...changes,
  }
}

export function fleet(changes: Partial<FleetStatus> = {}): FleetStatus {
  const { authorities = [authority()], targets = [target('server')] } = changes
  return {
    now,
    ok: [...authorities, ...targets].every(({ attention }) => attention.length === 0),
    authorities,
    targets,
    endpoints: [],
    warnings: [],
    ...changes,
  }
}

export const due: Attention = { code: 'due', part: 'certificate', since: new Date('2026-03-10') }
