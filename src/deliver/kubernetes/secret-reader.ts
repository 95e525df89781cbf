import type { Api } from './api.ts'
import { resources } from './resource.ts'
import type { ObjectRef } from './resource.ts'
import type { Secret } from './secret.ts'

/** Up to so many Secrets of a namespace are read one by one, for which no right to list them is needed. */
const singly = 8

interface Listing {
  readonly secrets: Promise<Map<string, Secret> | 'forbidden'>
  readonly taken: Set<string>
}

/**
 * Reads Secrets by name, and where many of one namespace are read, all of them in one call. A listing serves each name
 * once: whoever reads it again wants to know how it is by then. Where lists are not permitted, single reads are.
 */
export class SecretReader {
  readonly #api: () => Promise<Api>
  readonly #wanted = new Map<string, Set<string>>()
  readonly #listings = new Map<string, Listing>()
  readonly #unlistable = new Set<string>()
  /** Written by this run: a listing may be older. */
  readonly #written = new Set<string>()

  constructor(api: () => Promise<Api>) {
    this.#api = api
  }

  /** Says beforehand that it will be read. */
  want({ namespace, name }: ObjectRef): void {
    const names = this.#wanted.get(namespace ?? '') ?? new Set()
    this.#wanted.set(namespace ?? '', names.add(name))
  }

  async read(ref: ObjectRef): Promise<Secret | null> {
    const { name } = ref
    const secrets = this.#isListed(ref) ? await this.#listingFor(ref).secrets : 'forbidden'
    if (secrets !== 'forbidden') {
      const secret = secrets.get(name)
      secrets.delete(name)
      if (secret) return secret
    }
    return (await this.#api()).get<Secret>(ref)
  }

  /** From now on it is read by itself. */
  noteWritten(ref: ObjectRef): void {
    this.#written.add(keyOf(ref))
  }

  #isListed(ref: ObjectRef): boolean {
    const namespace = ref.namespace ?? ''
    const many = (this.#wanted.get(namespace)?.size ?? 0) > singly
    return many && !this.#unlistable.has(namespace) && !this.#written.has(keyOf(ref))
  }

  #listingFor({ namespace, name }: ObjectRef): Listing {
    const key = namespace ?? ''
    const known = this.#listings.get(key)
    const listing = known && !known.taken.has(name) ? known : { secrets: this.#list(key), taken: new Set<string>() }
    listing.taken.add(name)
    this.#listings.set(key, listing)
    return listing
  }

  async #list(namespace: string): Promise<Map<string, Secret> | 'forbidden'> {
    const api = await this.#api()
    // A namespace may hold much else: a Helm release is a Secret of up to a megabyte.
    const query = { fieldSelector: 'type=kubernetes.io/tls' }
    const secrets = await api.list<Secret>({ resource: resources.secret, namespace, query })
    if (secrets === 'forbidden') {
      this.#unlistable.add(namespace)
      return secrets
    }
    return new Map(secrets.map((secret) => [secret.metadata.name, secret]))
  }
}

function keyOf({ namespace, name }: ObjectRef): string {
  return `${namespace ?? ''}/${name}`
}
