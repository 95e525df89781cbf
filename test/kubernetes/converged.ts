import { X509Certificate, createPrivateKey } from 'node:crypto'
import { expect } from 'vitest'
import { failingCells } from '../rotation/fleet.ts'
import { authority, blocksOf, caBundles, dataOf, leaves, restartedAt } from './fixture.ts'
import type { Leaf, Services } from './fixture.ts'
import type { ApiServer } from './server/api-server.ts'

/** Whether every Secret holds a whole set: a key that is its certificate's, a chain that its own bundle verifies (I1). */
export function expectWhole(server: ApiServer): void {
  for (const name of leaves) {
    const { 'ca.crt': bundle, 'tls.crt': chain, 'tls.key': key } = dataOf(server, name)
    const [leaf] = blocksOf(chain).map((block) => new X509Certificate(block))
    expect(leaf!.checkPrivateKey(createPrivateKey(key!))).toBe(true)
    const roots = blocksOf(bundle).map((block) => new X509Certificate(block))
    expect(roots.some((root) => leaf!.checkIssued(root) && leaf!.verify(root.publicKey))).toBe(true)
  }
  const { 'ca.crt': root, 'ca.key': key } = dataOf(server, authority)
  expect(new X509Certificate(root!).checkPrivateKey(createPrivateKey(key!))).toBe(true)
}

/** Whether nothing is left to do: one authority for all, the same bundle everywhere, and nothing that has still to follow. */
export function expectConverged(server: ApiServer): void {
  expectWhole(server)
  const root = new X509Certificate(dataOf(server, authority)['ca.crt']!)
  for (const name of leaves) {
    const { 'ca.crt': bundle, 'tls.crt': chain } = dataOf(server, name)
    expect(new X509Certificate(blocksOf(chain)[0]!).verify(root.publicKey)).toBe(true)
    expect(bundle).toEqual(dataOf(server, 'envoy')['ca.crt'])
    const { annotations = {} } = server
      .all('secrets', 'envoy-gateway-system')
      .find(({ metadata }) => metadata.name === name)!.metadata
    expect(annotations['certgen/undelivered']).toBeUndefined()
  }
  const bundle = dataOf(server, 'envoy')['ca.crt']!.toString()
  expect(caBundles(server)).toEqual([bundle, bundle])
}

/** Whether Rate Limit has been restarted for what its Secret holds now. */
export function expectRestarted(server: ApiServer): void {
  const { annotations } = server.get('secrets', 'envoy-rate-limit', 'envoy-gateway-system')!.metadata
  expect(restartedAt(server)).toBe(annotations?.['certgen/written-at'])
}

/** Whether each service still shakes hands with the next one, over two states that meet; a line for each cell that fails. */
export async function failingMeetings(before: Services, after: Services): Promise<string[]> {
  const next: Readonly<Record<Leaf, Leaf>> = {
    envoy: 'envoy-gateway',
    'envoy-gateway': 'envoy-rate-limit',
    'envoy-rate-limit': 'envoy',
  }
  const failing: string[] = []
  for (const [server, client] of Object.entries(next) as [Leaf, Leaf][]) {
    const sides = [server, client].map((name) => ({ old: before[name], new: after[name] }))
    failing.push(...(await failingCells(sides[0]!, sides[1])).map((line) => `${server} and ${client}: ${line}`))
  }
  return failing
}
