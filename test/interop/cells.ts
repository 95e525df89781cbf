import pMap from 'p-map'
import { clientMakes } from './clients.ts'
import type { ClientName } from './clients.ts'
import type { Conversation } from './conversation.ts'
import type { SetDirectory } from './sets.ts'

/** The four cells of I2: a server and a client that each have loaded the old generation alone, or the new one. */

export const generations = ['old', 'new'] as const
export type Generation = (typeof generations)[number]

/** What came of one conversation: null, or why it failed. */
export interface Talk<Age extends string = Generation> {
  readonly client: ClientName
  readonly age: Age
  readonly failure: string | null
}

/** Lets every client talk to a server with each of the sets, some at the same time. */
export function talkToAll<Age extends string>(
  port: number,
  conversation: Conversation,
  clients: readonly ClientName[],
  sets: Readonly<Record<Age, SetDirectory>>,
): Promise<Talk<Age>[]> {
  const ages = Object.keys(sets) as Age[]
  const talks = ages.flatMap((age) => clients.map((client) => ({ client, age })))
  return pMap(
    talks,
    async ({ client, age }) => {
      const failure = await clientMakes[client].talk(sets[age], port, conversation)
      return { client, age, failure }
    },
    { concurrency: 3 },
  )
}

/** Those that failed, by who they were. */
export function failuresOf(talks: readonly Talk<string>[]): Record<string, string> {
  return Object.fromEntries(
    talks.flatMap(({ client, age, failure }) => (failure === null ? [] : [[`${age} client of ${client}`, failure]])),
  )
}
