import { setTimeout as sleep } from 'node:timers/promises'
import { CertgenError } from '../../errors.ts'
import type { Api } from './api.ts'
import { explainInLine } from './explain.ts'
import { resources } from './resource.ts'
import type { KubeObject, ObjectRef } from './resource.ts'
import { progressOf } from './workload.ts'
import type { Selector, Workload } from './workload.ts'

export interface RolloutOptions {
  /** Ends the wait. */
  readonly signal: AbortSignal
  /** Told of every step. */
  readonly onProgress?: (text: string) => void
  /** Milliseconds before a watch that has ended is begun anew. */
  readonly pause?: number
}

export interface Rollout {
  readonly ok: boolean
  /** How far it came; null when it is done. */
  readonly detail: string | null
  /** What pods that are not ready say for themselves; only when it is not done. */
  readonly pods: readonly string[]
}

/** Follows a rollout to its end. Throws CertgenError `unreadable`. */
export async function waitForRollout(api: Api, ref: ObjectRef, options: RolloutOptions): Promise<Rollout> {
  const { signal, onProgress, pause = 500 } = options
  let text = 'nothing is known of it'
  let selector: Selector = {}
  /** null: it goes on. */
  const judge = async (workload: Workload): Promise<Rollout | null> => {
    selector = workload.spec.selector ?? {}
    const progress = progressOf(ref, workload)
    if (progress.state === 'done') return { ok: true, detail: null, pods: [] }
    if (progress.text !== text) onProgress?.(progress.text)
    text = progress.text
    return progress.state === 'stuck' ? { ok: false, detail: text, pods: await troubledPods(api, ref, selector) } : null
  }
  while (!signal.aborted) {
    const workload = await api.get<Workload>(ref)
    if (!workload) return { ok: false, detail: 'it is gone', pods: [] }
    const verdict = (await judge(workload)) ?? (await follow(api, ref, workload, signal, judge))
    if (verdict) return verdict
    await sleep(pause, null, { signal }).catch(() => null)
  }
  const pods = await troubledPods(api, ref, selector)
  return { ok: false, detail: `not done in time: ${text}`, pods }
}

/** Judges every change until there is a verdict; null when the watch ends before. */
async function follow(
  api: Api,
  ref: ObjectRef,
  { metadata }: Workload,
  signal: AbortSignal,
  judge: (workload: Workload) => Promise<Rollout | null>,
): Promise<Rollout | null> {
  for await (const changed of api.watch<Workload>(ref, metadata.resourceVersion ?? '0', signal)) {
    const verdict = await judge(changed)
    if (verdict) return verdict
  }
  return null
}

// --------------------------------------------------------------------------------------------------------------- pods

interface ContainerState {
  readonly waiting?: { readonly reason?: string; readonly message?: string }
  readonly terminated?: { readonly reason?: string; readonly message?: string; readonly exitCode?: number }
}

interface ContainerStatus {
  readonly name: string
  readonly ready: boolean
  readonly state?: ContainerState
  readonly lastState?: ContainerState
}

interface Pod extends KubeObject {
  readonly status?: {
    readonly phase?: string
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[]
    readonly initContainerStatuses?: readonly ContainerStatus[]
    readonly containerStatuses?: readonly ContainerStatus[]
  }
}

const podsShown = 5

/** A line for each pod that is not ready. Why they cannot be listed is one too: the rollout is what was asked for. */
async function troubledPods(api: Api, { namespace }: ObjectRef, selector: Selector): Promise<string[]> {
  const labelSelector = formatSelector(selector)
  if (namespace === null || labelSelector === '') return []
  try {
    const pods = await api.list<Pod>({ resource: resources.pod, namespace, query: { labelSelector } })
    if (pods === 'forbidden') {
      const rule = '- { apiGroups: [""], resources: ["pods"], verbs: ["list"] }'
      return [`what its pods say is not known; to see it, add to a Role in ${namespace}: ${rule}`]
    }
    const lines = pods.filter((pod) => !isReady(pod)).map(describePod)
    return lines.length > podsShown ? [...lines.slice(0, podsShown), `and ${lines.length - podsShown} more`] : lines
  } catch (error) {
    if (error instanceof CertgenError) return [explainInLine(error)]
    throw error
  }
}

function isReady({ status }: Pod): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ?? false
}

function describePod({ metadata: { name }, status = {} }: Pod): string {
  const containers = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])]
  const words = containers.filter(({ ready }) => !ready).flatMap(describeContainer)
  const unscheduled = status.conditions?.find(({ type, status: value }) => type === 'PodScheduled' && value === 'False')
  if (unscheduled) words.push(`not scheduled: ${unscheduled.message ?? ''}`)
  return `pod ${name}: ${words.length === 0 ? (status.phase ?? 'unknown') : words.join('; ')}`
}

function describeContainer({ name, state, lastState }: ContainerStatus): string[] {
  const waiting = state?.waiting
  const ended = state?.terminated ?? lastState?.terminated
  const words = [
    ...(waiting ? [[waiting.reason, waiting.message].filter(Boolean).join(': ')] : []),
    ...(ended ? [`exited with ${ended.exitCode ?? '?'}${ended.message ? `: ${ended.message.trim()}` : ''}`] : []),
  ]
  return words.length === 0 ? [`${name} is not ready`] : [`${name} ${words.join(', ')}`]
}

/** A selector as the query writes it: `app=envoy,tier in (a,b),!canary`. */
function formatSelector({ matchLabels = {}, matchExpressions = [] }: Selector): string {
  const terms = matchExpressions.map(({ key, operator, values = [] }) => {
    switch (operator) {
      case 'In':
        return `${key} in (${values.join(',')})`
      case 'NotIn':
        return `${key} notin (${values.join(',')})`
      case 'DoesNotExist':
        return `!${key}`
      default:
        return key
    }
  })
  return [...Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`), ...terms].join(',')
}
