import { CertgenError } from '../../errors.ts'
import { resources } from './resource.ts'
import type { KubeObject, ObjectRef } from './resource.ts'

/** What runs pods, and how far it is in replacing them; only the fields that tell. */

const workloadKinds = ['deployment', 'statefulset', 'daemonset'] as const

export interface Workload extends KubeObject {
  readonly spec: {
    readonly replicas?: number
    readonly paused?: boolean
    readonly selector?: Selector
    /** Of a Deployment. */
    readonly strategy?: { readonly type?: string }
    /** Of the others. */
    readonly updateStrategy?: { readonly type?: string; readonly rollingUpdate?: { readonly partition?: number } }
    readonly template?: { readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> } }
  }
  readonly status?: WorkloadStatus
}

export interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>
  readonly matchExpressions?: readonly {
    readonly key: string
    readonly operator: string
    readonly values?: readonly string[]
  }[]
}

interface WorkloadStatus {
  readonly observedGeneration?: number
  // Deployments and StatefulSets
  readonly replicas?: number
  readonly updatedReplicas?: number
  readonly readyReplicas?: number
  readonly availableReplicas?: number
  readonly currentRevision?: string
  readonly updateRevision?: string
  readonly conditions?: readonly {
    readonly type: string
    readonly status: string
    readonly reason?: string
    readonly message?: string
  }[]
  // DaemonSets
  readonly desiredNumberScheduled?: number
  readonly updatedNumberScheduled?: number
  readonly numberAvailable?: number
}

/** KIND/NAMESPACE/NAME. Throws CertgenError `usage`. */
export function parseWorkload(text: string): ObjectRef {
  const [kind, namespace, name, ...more] = text.split('/')
  const known = workloadKinds.find((each) => each === kind)
  if (known && namespace && name && more.length === 0) return { resource: resources[known], namespace, name }
  throw new CertgenError('usage', `${JSON.stringify(text)} is not a workload`, {
    hints: [`write KIND/NAMESPACE/NAME, where KIND is ${workloadKinds.join(', ')}`],
  })
}

/** How far a rollout is. */
export type Progress =
  | { readonly state: 'done' }
  | { readonly state: 'going'; readonly text: string }
  /** The controller has given it up, or pods are replaced by hand alone. */
  | { readonly state: 'stuck'; readonly text: string }

/** By the same signs as `kubectl rollout status`. */
export function progressOf({ resource }: ObjectRef, workload: Workload): Progress {
  const { status = {}, metadata } = workload
  if (isByHand(workload)) return { state: 'stuck', text: 'its strategy is OnDelete: it replaces no pod by itself' }
  if ((status.observedGeneration ?? 0) < (metadata.generation ?? 0)) return going('not seen by its controller yet')
  if (resource === resources.deployment) return deploymentProgress(workload, status)
  return resource === resources.statefulset ? statefulSetProgress(workload, status) : daemonSetProgress(status)
}

export function isByHand({ spec }: Workload): boolean {
  return spec.updateStrategy?.type === 'OnDelete'
}

function deploymentProgress({ spec: { replicas: wanted = 1 } }: Workload, status: WorkloadStatus): Progress {
  const failed = status.conditions?.find(({ reason }) => reason === 'ProgressDeadlineExceeded')
  if (failed) return { state: 'stuck', text: failed.message ?? 'its progress deadline has passed' }
  const { updatedReplicas = 0, replicas = 0, availableReplicas = 0 } = status
  if (updatedReplicas < wanted) return going(`${updatedReplicas} of ${wanted} pods are new`)
  if (replicas > updatedReplicas) return going(`${replicas - updatedReplicas} old pods have still to end`)
  if (availableReplicas < updatedReplicas)
    return going(`${availableReplicas} of ${updatedReplicas} new pods are available`)
  return { state: 'done' }
}

function statefulSetProgress({ spec }: Workload, status: WorkloadStatus): Progress {
  const wanted = spec.replicas ?? 1
  const { updatedReplicas = 0, readyReplicas = 0, currentRevision, updateRevision } = status
  if (readyReplicas < wanted) return going(`${readyReplicas} of ${wanted} pods are ready`)
  const fresh = wanted - (spec.updateStrategy?.rollingUpdate?.partition ?? 0)
  if (updatedReplicas < fresh) return going(`${updatedReplicas} of ${fresh} pods are new`)
  const whole = fresh === wanted
  return whole && updateRevision !== currentRevision ? going('the last pod is being replaced') : { state: 'done' }
}

function daemonSetProgress(status: WorkloadStatus): Progress {
  const { desiredNumberScheduled: wanted = 0, updatedNumberScheduled: updated = 0, numberAvailable = 0 } = status
  if (updated < wanted) return going(`${updated} of ${wanted} pods are new`)
  return numberAvailable < wanted ? going(`${numberAvailable} of ${wanted} pods are available`) : { state: 'done' }
}

function going(text: string): Progress {
  return { state: 'going', text }
}
