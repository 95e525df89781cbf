import { subjectOf } from './hooks.ts'
import type { Hook } from './hooks.ts'

/** What follows a write. */
export type Action =
  | Hook
  | { readonly kind: 'probe'; readonly endpoint: string }
  /** `workload`: KIND/NAMESPACE/NAME. */
  | { readonly kind: 'restart'; readonly workload: string; readonly restarter: Restarter }

/** Restarts what loads its certificates only once. */
export interface Restarter {
  /**
   * `change`: when what it is to load was written, where that is known to the millisecond; what was restarted for that
   * change is left alone. Throws nothing for a restart that fails. `detail`: why nothing was restarted.
   */
  readonly restart: (
    workload: string,
    now: Date,
    change: Date | null,
  ) => Promise<{ readonly ok: boolean; readonly detail: string | null }>
}

/** What an action is known by from one run to the next. */
export function keyOf(action: Action): string {
  switch (action.kind) {
    case 'exec':
      return `exec ${subjectOf(action)}`
    case 'signal':
      return `signal ${action.pidFile}:${action.signal}`
    case 'probe':
      return `probe ${action.endpoint}`
    case 'restart':
      return `restart ${action.workload}`
  }
}
