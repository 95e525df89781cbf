import { dnsName } from '../../src/pki/names.ts'
import { followUp, followUpOf } from '../../src/cli/follow-up.ts'
import type { FleetGroup } from '../../src/cli/fleet.ts'
import type { ActionReport } from '../../src/deliver/delivery.ts'
import type { Cluster } from '../../src/deliver/kubernetes/cluster.ts'
import { rotateAll } from '../../src/rotation/rotate.ts'
import type { RotationReport } from '../../src/rotation/report.ts'
import type { Mode, RotationRequest } from '../../src/rotation/request.ts'
import { directoryTarget, targetAt } from '../../src/store/target-store.ts'
import { requestFor } from '../rotation/fleet.ts'
import { authority, leaves, namespace, webhook } from './fixture.ts'

/** The Envoy Gateway example without a process of its own, so that a run at each of many faults is cheap. */

export interface ExampleRun {
  readonly report: RotationReport
  readonly actions: readonly ActionReport[]
}

/** As `certgen rotate` on the example does it. Throws what a run throws. */
export async function runInProcess(
  cluster: Cluster,
  mode: Mode,
  changes: Partial<RotationRequest> = {},
): Promise<ExampleRun> {
  const clock = (): Date => new Date()
  const group = exampleGroup(cluster)
  const request = { ...requestFor('nowhere', { mode }), ...group, discovery: null, ...changes }
  const [report] = await rotateAll([request], clock)
  if (!report) throw new Error('a request has a report')
  const hmac = { name: 'oidc-hmac', key: 'hmac-secret', bytes: 32, secret: `${namespace}/envoy-oidc-hmac` }
  const random = await cluster.makeRandom([hmac], { renewed: [], dryRun: false, now: clock() })
  return { report, actions: [...random, ...(await followUp(report.leaves, [group], {}, clock))] }
}

function exampleGroup(cluster: Cluster): FleetGroup {
  const restart = { kind: 'restart', workload: `deployment/${namespace}/envoy-ratelimit`, restarter: cluster } as const
  return {
    name: null,
    authority: {
      store: cluster.authority(`${namespace}/${authority}`, {}),
      bundles: [cluster.bundle(`mutatingwebhookconfiguration/${webhook}`)],
    },
    leaves: leaves.map((name) => {
      const actions = name === 'envoy-rate-limit' ? [restart] : []
      return {
        name,
        store: cluster.target(`${namespace}/${name}`),
        explicit: true,
        configured: true,
        names: [dnsName(`${name}.${namespace}`)],
        actions,
        followUps: actions.map(followUpOf),
      }
    }),
    discovery: { dir: 'nowhere', except: [], open: (path) => directoryTarget(targetAt(path)) },
  }
}
