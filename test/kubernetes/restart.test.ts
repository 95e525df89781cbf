import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { openCluster } from '../../src/deliver/kubernetes/cluster.ts'
import { resources } from '../../src/deliver/kubernetes/resource.ts'
import { waitForRollout } from '../../src/deliver/kubernetes/rollout.ts'
import { certgen, start } from '../program.ts'
import type { Outcome } from '../program.ts'
import { namespace, openImpatiently, rateLimit, restartedAt, useCluster } from './fixture.ts'
import type { TestCluster } from './fixture.ts'
import { runInProcess } from './in-process.ts'
import type { ApiServer } from './server/api-server.ts'

/** `certgen restart`, and what follows a change. */

const workload = `deployment/${namespace}/envoy-ratelimit`

function useAdmin(): TestCluster & { readonly restart: (...args: string[]) => Promise<Outcome> } {
  const cluster = useCluster()
  const restart = (...args: string[]): Promise<Outcome> =>
    certgen(['restart', ...args, '--kubeconfig', cluster.server.kubeconfig(cluster.kubeconfig)])
  afterEach(() => {
    cluster.server.fault = () => null
  })
  return Object.assign(cluster, { restart })
}

const deployment = 'envoy-ratelimit'
const statusOf = (server: ApiServer, status: object): unknown =>
  server.change('deployments', deployment, namespace, { status })

describe('certgen restart', () => {
  const cluster = useAdmin()
  const others = ['StatefulSet', 'DaemonSet'] as const

  it('patches the pod template as kubectl does, and nothing else of it', async () => {
    const before = cluster.server.get('deployments', deployment, namespace)!
    const { code, stdout } = await cluster.restart(workload)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${workload}  restarted\n` })
    const at = restartedAt(cluster.server)!
    expect(new Date(at).toISOString()).toBe(at)
    const after = cluster.server.get('deployments', deployment, namespace)!
    expect(after.metadata.generation).toBe(before.metadata.generation + 1)
    const template = { ...rateLimit.spec.template.metadata, annotations: { 'kubectl.kubernetes.io/restartedAt': at } }
    expect(after.spec).toEqual({ ...rateLimit.spec, template: { ...rateLimit.spec.template, metadata: template } })
  })

  it.each(others)('restarts a %s', async (kind) => {
    cluster.server.apply({ ...rateLimit, kind, metadata: { name: 'other', namespace } })
    const { code, stdout } = await cluster.restart(`${kind.toLowerCase()}/${namespace}/other`, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ command: 'restart', changed: true, outcome: 'restarted', rollout: null })
  })

  it('does nothing, and says so, where there is no such workload', async () => {
    const { code, stdout } = await cluster.restart(`deployment/${namespace}/nobody`, '--wait')
    expect({ code, stdout }).toEqual({ code: 0, stdout: `deployment/${namespace}/nobody  there is no such workload\n` })
  })

  it.each([
    ['paused', { spec: { paused: true } }, 'Deployment', /it is paused: resume it with kubectl rollout resume/],
    ['replaced by hand', { spec: { updateStrategy: { type: 'OnDelete' } } }, 'DaemonSet', /OnDelete: delete its pods/],
  ] as const)('restarts none that is %s, and fails', async (_name, change, kind, said) => {
    const plural = `${kind.toLowerCase()}s`
    cluster.server.apply({ ...rateLimit, kind, metadata: { name: 'held', namespace } })
    const { metadata } = cluster.server.change(plural, 'held', namespace, change)
    const { code, stdout } = await cluster.restart(`${kind.toLowerCase()}/${namespace}/held`)
    expect(code).toBe(7)
    expect(stdout).toMatch(said)
    expect(cluster.server.get(plural, 'held', namespace)!.metadata.resourceVersion).toBe(metadata.resourceVersion)
  })

  it.each(['deployment/a', 'pod/a/b', 'deployment//b', 'a', 'deployment/a/b/c'])('refuses %s', async (text) => {
    const { code, stderr } = await cluster.restart(text)
    expect(code).toBe(2)
    expect(stderr).toMatch(/is not a workload\n.*KIND\/NAMESPACE\/NAME/)
  })
})

describe('certgen restart --wait', () => {
  const cluster = useAdmin()

  it('follows the rollout to its end, and tells of every step', async () => {
    cluster.server.kubeconfig(cluster.kubeconfig)
    const run = start(['restart', workload, '--wait', '60s', '--kubeconfig', cluster.kubeconfig])
    const ended = once(run, 'exit')
    const steps: [string, object][] = [
      [
        'not seen by its controller yet',
        { observedGeneration: 2, replicas: 2, updatedReplicas: 0, availableReplicas: 2 },
      ],
      ['0 of 2 pods are new', { replicas: 3, updatedReplicas: 1 }],
      ['1 of 2 pods are new', { replicas: 3, updatedReplicas: 2 }],
      ['1 old pods have still to end', { replicas: 2, availableReplicas: 1 }],
      ['1 of 2 new pods are available', { availableReplicas: 2 }],
    ]
    const said: string[] = []
    // Each step of the controller comes once the one before has been told of; in between, the watch is cut.
    for await (const line of createInterface({ input: run.stderr! })) {
      said.push(line)
      const [, status] = steps[said.length - 1] ?? []
      if (said.length === 3) cluster.server.endConnections()
      if (status) statusOf(cluster.server, status)
    }
    expect(said).toEqual(steps.map(([step]) => `certgen: ${step}`))
    expect(await ended).toEqual([0, null])
  })

  it('fails when the controller gives it up, with what the pods say', async () => {
    statusOf(cluster.server, { observedGeneration: 99, replicas: 3, updatedReplicas: 1, availableReplicas: 2 })
    const pod = (name: string, status: object, app = deployment): object => {
      return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels: { app } }, status }
    }
    const waiting = { reason: 'CrashLoopBackOff', message: 'back-off 40s restarting failed container' }
    const terminated = { exitCode: 1, message: 'cannot load /certs/ca.crt\n' }
    cluster.server.apply(
      pod('rate-1', { conditions: [{ type: 'Ready', status: 'True' }] }),
      pod('rate-2', {
        containerStatuses: [{ name: 'ratelimit', ready: false, state: { waiting }, lastState: { terminated } }],
      }),
      pod('rate-3', {
        phase: 'Pending',
        conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes are available' }],
      }),
      pod('other-1', { phase: 'Pending' }, 'other'),
    )
    const condition = {
      type: 'Progressing',
      status: 'False',
      reason: 'ProgressDeadlineExceeded',
      message: 'ReplicaSet "rate-7" has timed out progressing.',
    }
    statusOf(cluster.server, { conditions: [condition] })
    const { code, stdout } = await cluster.restart(workload, '--wait')
    expect(code).toBe(7)
    expect(stdout.split('\n')).toEqual([
      `${workload}  restarted`,
      'rollout  ReplicaSet "rate-7" has timed out progressing.',
      'pod rate-2: ratelimit CrashLoopBackOff: back-off 40s restarting failed container, exited with 1: cannot load /certs/ca.crt',
      'pod rate-3: not scheduled: 0/3 nodes are available',
      '',
    ])
  })

  it('fails when it takes too long, and says how far it came', async () => {
    statusOf(cluster.server, { conditions: [] })
    const { code, stdout } = await cluster.restart(workload, '--wait', '2s', '--json')
    expect(code).toBe(7)
    expect(JSON.parse(stdout)).toMatchObject({
      outcome: 'restarted',
      rollout: { ok: false, detail: 'not done in time: 1 of 2 pods are new' },
    })
  })

  it.each([
    ['StatefulSet', { readyReplicas: 1, updatedReplicas: 2 }, '1 of 2 pods are ready'],
    ['StatefulSet', { readyReplicas: 2, updatedReplicas: 1 }, '1 of 2 pods are new'],
    [
      'StatefulSet',
      { readyReplicas: 2, updatedReplicas: 2, currentRevision: 'a', updateRevision: 'b' },
      'the last pod is being replaced',
    ],
    ['StatefulSet', { readyReplicas: 2, updatedReplicas: 2, currentRevision: 'b', updateRevision: 'b' }, null],
    ['DaemonSet', { desiredNumberScheduled: 3, updatedNumberScheduled: 1 }, '1 of 3 pods are new'],
    [
      'DaemonSet',
      { desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 2 },
      '2 of 3 pods are available',
    ],
    ['DaemonSet', { desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3 }, null],
  ] as const)('reads a %s with %j', async (kind, status, wanted) => {
    cluster.server.apply({
      ...rateLimit,
      kind,
      metadata: { name: 'one', namespace },
      status: { observedGeneration: 99, ...status },
    })
    const api = await openCluster({ kubeconfig: cluster.server.kubeconfig(cluster.kubeconfig) }).api()
    const resource = kind === 'DaemonSet' ? resources.daemonset : resources.statefulset
    const told: string[] = []
    const end = new AbortController()
    const rollout = await waitForRollout(
      api,
      { resource, namespace, name: 'one' },
      {
        signal: end.signal,
        onProgress: (text) => {
          told.push(text)
          end.abort()
        },
      },
    )
    expect(rollout.ok).toBe(wanted === null)
    expect(told).toEqual(wanted === null ? [] : [wanted])
  })
})

describe('a restart after a rotation', () => {
  const cluster = useAdmin()
  const patches = (after: number): number =>
    cluster.server.callsAfter(after).filter(({ verb, plural }) => verb === 'patch' && plural === 'deployments').length

  it('that failed is tried again by the next run', async () => {
    await runInProcess(openImpatiently(cluster.kubeconfig), 'ensure')
    cluster.server.fault = ({ plural }) => (plural === 'deployments' ? { status: 500 } : null)
    const failed = await runInProcess(openImpatiently(cluster.kubeconfig), 'overwrite')
    expect(failed.actions).toMatchObject([
      { kind: 'restart', ok: false, detail: expect.stringContaining('(500)') as string },
    ])
    cluster.server.fault = () => null
    const next = await runInProcess(openImpatiently(cluster.kubeconfig), 'ensure')
    expect(next).toMatchObject({ report: { changed: false }, actions: [{ kind: 'restart', ok: true, detail: null }] })
  })

  it('is not made twice where a run ended between the restart and its note of it', async () => {
    let restarted = false
    cluster.server.fault = ({ verb, plural }) => {
      const gone = restarted
      if (verb === 'patch' && plural === 'deployments') restarted = true
      return gone ? { status: 503 } : null
    }
    const before = cluster.server.calls.length
    await expect(runInProcess(openImpatiently(cluster.kubeconfig), 'overwrite')).rejects.toThrow('(503)')
    expect(restartedAt(cluster.server)).toBeDefined()
    cluster.server.fault = () => null
    const { actions } = await runInProcess(openImpatiently(cluster.kubeconfig), 'ensure')
    expect(actions).toMatchObject([{ kind: 'restart', ok: true, detail: 'it had been restarted for this already' }])
    expect(patches(before)).toBe(1)
  })

  it('of a workload that is gone is a note', async () => {
    cluster.server.remove('deployments', deployment, namespace)
    const { actions } = await runInProcess(openImpatiently(cluster.kubeconfig), 'overwrite')
    expect(actions).toMatchObject([{ kind: 'restart', ok: true, detail: 'there is no such workload' }])
    expect((await runInProcess(openImpatiently(cluster.kubeconfig), 'ensure')).actions).toEqual([])
  })
})
