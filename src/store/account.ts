import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

// Node cannot look accounts up. The files say it on most machines; where a directory service knows more, getent(1) does.

/** The number of a user, by name or number; null when there is none of that name. */
export function userId(name: string): Promise<number | null> {
  return lookUp('passwd', name)
}

/** The number of a group, by name or number; null when there is none of that name. */
export function groupId(name: string): Promise<number | null> {
  return lookUp('group', name)
}

async function lookUp(database: 'passwd' | 'group', name: string): Promise<number | null> {
  if (/^\d{1,10}$/.test(name)) return Number(name)
  const file = await readFile(`/etc/${database}`, 'utf8').catch(() => '')
  return find(file, name) ?? find(await getent(database, name), name)
}

/** name:password:number:... in both. */
function find(lines: string, name: string): number | null {
  for (const line of lines.split('\n')) {
    const [entry, , number] = line.split(':')
    if (entry === name && number !== undefined && /^\d+$/.test(number)) return Number(number)
  }
  return null
}

async function getent(database: string, name: string): Promise<string> {
  // It exits with 2 for a name that nobody knows, and is not there on every system.
  return promisify(execFile)('getent', [database, name])
    .then(({ stdout }) => stdout)
    .catch(() => '')
}
