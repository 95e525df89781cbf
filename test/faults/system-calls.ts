/** What strace writes with `-f -y -xx`: every string in hexadecimal, so that nothing in it can be taken for anything else. */

export interface SystemCall {
  readonly thread: string
  readonly name: string
  /** Its arguments that are strings, and the paths of those that are descriptors, in order; octets as Latin-1. */
  readonly strings: readonly string[]
  /** As strace wrote it, without what it returned. */
  readonly line: string
}

/** In the order in which they began. */
export function parseSystemCalls(log: string): SystemCall[] {
  return log.split('\n').flatMap((line): SystemCall[] => {
    const [, thread, name, rest] = /^(\d+) +(\w+)\((.*)/.exec(line) ?? []
    if (thread === undefined || name === undefined || rest === undefined) return []
    // What it returned is no argument: openat's names the file once more.
    const args = rest.replace(/(?:\) += .*| <unfinished \.\.\.>)$/, '')
    const strings = [...args.matchAll(/"([^"]*)"|<((?:\\x[0-9a-f]{2})+)>/g)].map(([, text, path]) => {
      return Buffer.from((text ?? path ?? '').replaceAll('\\x', ''), 'hex').toString('latin1')
    })
    return [{ thread, name, strings, line: `${name}(${args}` }]
  })
}
