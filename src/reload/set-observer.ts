import { defaultSetFileNames, loadServerSet } from './loaded-set.ts'
import { SetFollower, requestOf } from './set-follower.ts'
import type { FollowOptions } from './set-follower.ts'

/** Follows a directory as a service would, and only tells of what a service would load. */
export class SetObserver extends SetFollower {
  /** Throws CertgenError `unusable` with findings, or `unreadable`. */
  static async start(directory: string, options: FollowOptions = {}): Promise<SetObserver> {
    const observer = new SetObserver(directory, options)
    await observer.begin()
    return observer
  }

  private constructor(directory: string, options: FollowOptions) {
    const names = { ...defaultSetFileNames, ...options.files }
    const request = requestOf(directory, names, options)
    super(directory, [names.ca, names.cert, names.key], options, {
      load: (reading, at) => loadServerSet(reading, { ...request, at }, []),
      use: () => undefined,
    })
  }
}
