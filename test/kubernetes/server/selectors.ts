import type { Stored } from './api-server.ts'
import { Refusal } from './refusal.ts'

export function matchesFields(object: Stored, selector: string): boolean {
  return selector
    .split(',')
    .filter(Boolean)
    .every((term) => {
      const [field = '', value = ''] = term.split('=')
      const known: Readonly<Record<string, unknown>> = {
        'metadata.name': object.metadata.name,
        'metadata.namespace': object.metadata.namespace,
        type: object['type'],
      }
      if (!(field in known)) throw new Refusal(400, 'BadRequest', `field label not supported: ${field}`)
      return known[field] === value
    })
}

/** `key=value`, `key`, `!key`, `key in (a,b)`, `key notin (a,b)`. */
export function matchesLabels({ metadata: { labels = {} } }: Stored, selector: string): boolean {
  const terms = selector.match(/[^,(]+(?:\([^)]*\))?/g) ?? []
  return terms.every((term) => {
    const [, key = '', operator, list = ''] = /^(\S+) (in|notin) \(([^)]*)\)$/.exec(term) ?? []
    if (operator) return list.split(',').includes(labels[key] ?? '') === (operator === 'in')
    if (term.startsWith('!')) return !(term.slice(1) in labels)
    const [name = '', value] = term.split('=')
    return value === undefined ? name in labels : labels[name] === value
  })
}
