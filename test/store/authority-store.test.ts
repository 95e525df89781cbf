import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { encodePem, readPem } from '../../src/pki/pem.ts'
import { rotate } from '../../src/rotation/rotate.ts'
import { instant, readCorpus, writeFleet } from '../corpus/corpus.ts'
import { allNodes, encodeDer, parseDer } from '../der/tree.ts'
import { failure } from '../failure.ts'
import { temporaryDirectory } from '../program.ts'
import { requestFor } from '../rotation/fleet.ts'

const corpus = readCorpus(join(import.meta.dirname, '../corpus'))

describe('an authority on disk', () => {
  it.each([
    ['crossed', 32],
    ['staged', 48],
  ])(
    'is refused when its key signs what nobody can verify, for a bit of its private half is wrong: %s',
    async (name, size) => {
      const directory = temporaryDirectory()
      writeFleet(directory, corpus.find((fleet) => fleet.name === name)!.files)
      const path = join(directory, 'ca', 'ca.key')
      const { der, label } = readPem(corpus.find((fleet) => fleet.name === name)!.files.get('ca/ca.key')!).blocks[0]!
      const tree = parseDer(der)!
      // The scalar.
      const { node } = allNodes(tree).find((found) => found.node.tag === 4 && found.node.content.length === size)!
      ;(node.content as Buffer)[size - 1]! ^= 1
      writeFileSync(path, encodePem(label, encodeDer(tree)))
      const error = await failure(rotate(requestFor(directory, { mode: 'overwrite' }), () => instant))
      expect(error).toMatchObject({ code: 'authority-unusable', findings: [{ code: 'key-mismatch', path }] })
    },
  )
})
