import { once } from 'node:events'
import { mkdtemp, writeFile } from 'node:fs/promises'
import type { Agent, Server } from 'node:https'
import { createServer, request } from 'node:https'
import type { IncomingMessage, RequestListener } from 'node:http'
import { join } from 'node:path'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Authority } from '../../src/pki/authority.ts'
import { TrustReloader } from '../../src/reload/index.ts'
import type { ReloadedEvent } from '../../src/reload/index.ts'
import type { EncodedSet } from '../../src/store/target-store.ts'
import { targetAt, writeTarget } from '../../src/store/target-store.ts'
import { temporaryDirectory } from '../program.ts'
import { Issuer } from './issuer.ts'
import type { IssuedSet } from './issuer.ts'
import { leafOf, listen, next, quick, writePlain } from './peers.ts'

const scratch = temporaryDirectory()
const issuer = new Issuer()
let old: Authority
let successor: Authority
let first: IssuedSet
let second: IssuedSet
const closing: (() => unknown)[] = []

beforeAll(async () => {
  old = await issuer.authority()
  successor = await issuer.authority()
  first = await issuer.set(old)
  // Without a cross-certificate: only who has loaded the new bundle trusts it, and it no longer trusts the first.
  second = await issuer.set(successor)
})

afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function follow(source: Parameters<typeof TrustReloader.start>[0]): Promise<TrustReloader> {
  const trust = await TrustReloader.start(source, quick)
  closing.push(() => trust.close())
  return trust
}

async function https(set: EncodedSet, listener: RequestListener, mutual = false): Promise<[Server, number]> {
  const server = createServer({ ca: set.ca, cert: set.cert, key: set.key, requestCert: mutual }, listener)
  closing.push(() => server.close().closeAllConnections())
  return [server, await listen(server)]
}

interface Answer {
  readonly text: string
  readonly socket: Socket
}

/** Resolves with the head of the answer; its body may be long in coming. */
async function get(port: number, agent: Agent): Promise<IncomingMessage> {
  const asked = request({ host: '127.0.0.1', servername: 'localhost', port, agent })
  asked.end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return response
}

async function fetchText(port: number, agent: Agent): Promise<Answer> {
  const response = await get(port, agent)
  const { socket } = response // Gone from it once it is read.
  return { text: await textOf(response), socket }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

describe('the agent', () => {
  it('follows the bundle, keeps connections alive in between, and is replaced on a change', async () => {
    const directory = await mkdtemp(join(scratch, 'agent-'))
    await writeFile(join(directory, 'ca.crt'), first.ca)
    const trust = await follow(directory)
    const [, before] = await https(first, (_request, response) => response.end('first'))
    const [, after] = await https(second, (_request, response) => response.end('second'))
    const agent = trust.agent()
    expect(trust.agent()).toBe(agent)
    const { text, socket } = await fetchText(before, agent)
    expect(text).toBe('first')
    expect((await fetchText(before, agent)).socket).toBe(socket)
    await expect(fetchText(after, agent)).rejects.toThrow()

    const closed = once(socket, 'close')
    const reloaded = next<ReloadedEvent>(trust, 'reloaded')
    await writeFile(join(directory, 'ca.crt'), second.ca)
    expect((await reloaded).changed).toEqual(['bundle'])
    await closed // It was idle.
    expect(trust.agent()).not.toBe(agent)
    expect((await fetchText(after, trust.agent())).text).toBe('second')
    await expect(fetchText(before, trust.agent())).rejects.toThrow()
  })

  it('that is replaced finishes its requests first', async () => {
    const directory = await mkdtemp(join(scratch, 'drain-'))
    await writeFile(join(directory, 'ca.crt'), first.ca)
    const trust = await follow(directory)
    let finish = (): void => expect.fail('not asked yet')
    const [, port] = await https(first, (_request, response) => {
      response.write('begun, ')
      finish = () => response.end('ended')
    })
    const response = await get(port, trust.agent())
    const closed = once(response.socket, 'close')
    const reloaded = next(trust, 'reloaded')
    await writeFile(join(directory, 'ca.crt'), Buffer.concat([second.ca, first.ca]))
    await reloaded
    expect(response.socket.destroyed).toBe(false)
    finish()
    expect(await textOf(response)).toBe('begun, ended')
    await closed // Not kept for another request.
  })

  it('that somebody kept connects with what is trusted now', async () => {
    const directory = await mkdtemp(join(scratch, 'kept-'))
    await writeFile(join(directory, 'ca.crt'), first.ca)
    const trust = await follow(directory)
    const kept = trust.agent()
    const [, before] = await https(first, (_request, response) => response.end('first'))
    const [, after] = await https(second, (_request, response) => response.end('second'))
    for (const [bundle, good, bad] of [
      [second.ca, after, before],
      [first.ca, before, after],
    ] as const) {
      const reloaded = next(trust, 'reloaded')
      await writeFile(join(directory, 'ca.crt'), bundle)
      await reloaded
      expect((await fetchText(good, kept)).text).not.toBe('')
      await expect(fetchText(bad, kept)).rejects.toThrow()
    }
  })

  it('leaves the pair of a request alone where the directory has none', async () => {
    const directory = await mkdtemp(join(scratch, 'alone-'))
    await writeFile(join(directory, 'ca.crt'), first.ca)
    const trust = await follow(directory)
    const [, port] = await https(first, (_request, response) => response.end('mutual'), true)
    await expect(fetchText(port, trust.agent())).rejects.toThrow()
    const pair = { cert: first.cert, key: first.key }
    const asked = request({ host: '127.0.0.1', servername: 'localhost', port, agent: trust.agent(), ...pair })
    asked.end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    expect(await textOf(response)).toBe('mutual')
  })
})

describe('the pair of its own', () => {
  it('is presented, and follows the directory like the bundle', async () => {
    const directory = await mkdtemp(join(scratch, 'pair-'))
    await writeTarget(targetAt(directory), first, { now: new Date() })
    const trust = await follow(directory)
    const seen: string[] = []
    const [, port] = await https(
      first,
      (incoming, response) => {
        if (incoming.socket instanceof TLSSocket) seen.push(leafOf(incoming.socket))
        response.end('mutual')
      },
      true,
    )
    await fetchText(port, trust.agent())
    const renewed = await issuer.set(old)
    const reloaded = next<ReloadedEvent>(trust, 'reloaded')
    await writeTarget(targetAt(directory), renewed, { now: new Date() })
    expect((await reloaded).changed).toEqual(['leaf', 'key'])
    await fetchText(port, trust.agent())
    expect(seen).toEqual([first.leaf, renewed.leaf])
    expect(trust.options()).toEqual({ ca: renewed.ca, cert: renewed.cert, key: renewed.key })
  })

  it('is not presented where its leaf is for servers alone', async () => {
    const directory = await mkdtemp(join(scratch, 'server-only-'))
    await writePlain(directory, await issuer.set(old, { usages: ['server'] }))
    const trust = await follow(directory)
    expect(Object.keys(trust.options())).toEqual(['ca'])
    expect(trust.current).toMatchObject({ leaf: null, chain: [] })
  })
})

describe('a single file', () => {
  it('is followed through a Kubernetes-style swap, whatever its name', async () => {
    const directory = await mkdtemp(join(scratch, 'file-'))
    const names = { ca: 'service-ca.crt', cert: 'tls.crt', key: 'tls.key', combined: null }
    const location = { ...targetAt(directory), files: names }
    await writeTarget(location, first, { now: new Date() })
    const trust = await follow({ file: join(directory, 'service-ca.crt') })
    expect(Object.keys(trust.options())).toEqual(['ca'])
    const reloaded = next<ReloadedEvent>(trust, 'reloaded')
    await writeTarget(location, second, { now: new Date() })
    expect((await reloaded).new.bundle.map(({ sha256 }) => sha256)).toEqual([successor.certificate.sha256])
    expect(trust.options().ca).toEqual(second.ca)
  })
})
