import type { Scene } from './scenes.ts'
import type { Place, StallPoint } from './stall.ts'

/** Which call is stalled in which scene: all of them, or a choice that is the same every time. */

export interface Case {
  readonly scene: Scene
  readonly place: Place
}

/** Where the other is held while the first wakes up. */
const heldElsewhere: readonly Place[] = [
  { call: 'rename', path: '*/..data_tmp*', nth: 1, when: 'before' },
  { call: 'rename', path: '*/..data_tmp*', nth: 1, when: 'after' },
  { call: 'fsync', path: '*/..2*', nth: 8, when: 'before' },
  { call: 'rename', path: '*/..data_tmp*', nth: 2, when: 'before' },
  { call: 'rename', path: '*/..data_tmp*', nth: 2, when: 'after' },
  { call: 'unlink', path: 'ca/..lock/*', nth: 1, when: 'before' },
]

// After the first rotation of a stall no time goes by, after the others days.
const asleep: readonly Scene[] = [
  { kind: 'asleep', rotations: 1, days: 0 },
  { kind: 'asleep', rotations: 2, days: 2 },
  { kind: 'asleep', rotations: 3, days: 2 },
]

const before = (point: StallPoint): Place => ({ ...point, when: 'before' })

/** Each point in each order of waking, all points in one of them first; or, around the swaps alone, only that. */
export function wakings(all: readonly StallPoint[], full: boolean): Case[] {
  const sceneCount = asleep.length + 1
  const passes = full ? sceneCount : 1
  const points = full ? all : aroundSwaps(all)
  return Array.from({ length: passes }, (_, pass) =>
    points.map((point, index): Case => {
      const turn = index + pass
      // Each time that the last scene comes round, the other is held at another place.
      const other = heldElsewhere[Math.floor(turn / sceneCount) % heldElsewhere.length]!
      const scene = asleep[turn % sceneCount] ?? { kind: 'amid', other }
      return { scene, place: before(point) }
    }),
  ).flat()
}

/** Two of them in the swap of one directory: from the link that is made to the first call after its rename. */
export function encounters(points: readonly StallPoint[], full: boolean): Case[] {
  const pairs = ['ca', 'beta'].flatMap((name) => {
    const isLink = ({ path }: StallPoint): boolean => path.startsWith(`${name}/..data_tmp`)
    const swap = points.slice(points.findIndex(isLink), points.findLastIndex(isLink) + 2)
    const others = [1, 2, 3].flatMap((nth): Place[] => {
      const place = { call: '*', path: `${name}/..data_tmp*`, nth }
      return [
        { ...place, when: 'before' },
        { ...place, when: 'after' },
      ]
    })
    return swap.flatMap((point) =>
      others.map((other): Case => ({ scene: { kind: 'amid', other }, place: before(point) })),
    )
  })
  return full ? pairs : pairs.filter((_, index) => index % 11 === 5)
}

/** Each call that changes something, before and after it has; or, around the swaps alone, by turns. */
export function lateAnswers(all: readonly StallPoint[], full: boolean): Case[] {
  const points = full ? all : aroundSwaps(all)
  return points
    .filter(({ changes }) => changes)
    .flatMap((point, index): Case[] => {
      const places = [before(point), { ...point, when: 'after' as const }]
      const chosen = full ? places : [places[index % 2]!]
      return chosen.map((place) => ({ scene: { kind: 'late' }, place }))
    })
}

/** Around the swaps of the authority and of a target, and the first removal that follows. */
function aroundSwaps(points: readonly StallPoint[]): StallPoint[] {
  const chosen = ['ca', 'beta'].map((name) => {
    const within = points.filter(({ path }) => path === name || path.startsWith(`${name}/`))
    const swap = within.findIndex(({ call, path }) => call === 'rename' && path.includes('..data_tmp'))
    const removal = within.findIndex(({ call }, index) => index > swap && (call === 'unlink' || call === 'rmdir'))
    return [swap - 1, swap, swap + 1, removal].map((index) => within[index]!)
  })
  // By turns, so that each directory gets other scenes.
  return chosen[0]!.flatMap((_, index) => chosen.map((of) => of[index]!))
}

/** For people who read what went wrong. */
export function describeCase({ scene, place }: Case): string {
  return `${describePlace(place)}, ${describeScene(scene)}`
}

function describeScene(scene: Scene): string {
  switch (scene.kind) {
    case 'asleep':
      return `another rotates ${scene.rotations} times${scene.days > 0 ? `, ${scene.days} days apart` : ''}`
    case 'amid':
      return `wakes while another is held ${describePlace(scene.other)}`
    case 'late':
      return 'one answer is late'
  }
}

function describePlace({ when, call, path, nth }: Place): string {
  return `${when} ${call} ${path} (${nth})`
}
