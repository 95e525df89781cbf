import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { takeSnapshot } from '../../src/rotation/snapshot.ts'
import { rotateJson, temporaryDirectory } from '../program.ts'
import { requestFor } from './fleet.ts'

it('takes a link to a directory for a target, and one to a file or to nowhere for none', async () => {
  const [cwd, other] = [temporaryDirectory(), temporaryDirectory()]
  await rotateJson([], { cwd })
  writeFileSync(join(cwd, 'bundle.pem'), 'of another program\n')
  symlinkSync(join(cwd, 'bundle.pem'), join(cwd, 'certs/bundle.pem'))
  symlinkSync('nowhere', join(cwd, 'certs/dangling'))
  symlinkSync(other, join(cwd, 'certs/mounted'))
  const { targets } = await takeSnapshot(requestFor(join(cwd, 'certs')), new Date())
  expect(targets.map(({ name }) => name)).toEqual(['mounted', 'server'])
  expect(await rotateJson(['--overwrite'], { cwd })).toMatchObject({ changed: true, leaves: [{ name: 'server' }] })
})
