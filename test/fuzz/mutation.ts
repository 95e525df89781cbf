import type { KeyObject } from 'node:crypto'
import { extensionOf, fieldsOf, signAgain } from '../der/certificate.ts'
import type { Fields } from '../der/certificate.ts'
import { allNodes, copyNode, encodeDer, leafNode, parseDer } from '../der/tree.ts'
import type { DerNode } from '../der/tree.ts'
import type { Random } from '../random.ts'

/** Ways to spoil a PEM file: its octets, its lines and blocks, and the DER within, also under a signature that holds. */

export interface Materials {
  /** Other files, to take octets and blocks from. */
  readonly donors: readonly Buffer[]
  /** Keys that a changed certificate may be signed with again, so that what is wrong with it lies deeper. */
  readonly signers: readonly KeyObject[]
}

type Change = (file: Buffer, random: Random, materials: Materials) => Buffer

/** The octets that parsers look at. */
const notable = [0, 1, 9, 10, 13, 32, 45, 61, 0x30, 0x7f, 0x80, 0x81, 0x84, 0xa0, 0xbf, 0xff]

const octetChanges: Record<string, Change> = {
  flipBit: (file, random) => changeOctet(file, random, (octet) => octet ^ (1 << random.below(8))),
  setOctet: (file, random) => changeOctet(file, random, () => random.pick(notable)),
  insert: (file, random) => {
    const at = random.below(file.length + 1)
    return splice(file, at, at, randomOctets(random, 1 + random.below(40)))
  },
  remove: (file, random) => splice(file, ...range(file, random), Buffer.alloc(0)),
  repeat: (file, random) => {
    const [from, to] = range(file, random)
    const part = file.subarray(from, to)
    return splice(file, to, to, Buffer.concat(Array.from({ length: 1 + random.below(4) }, () => part)))
  },
  cut: (file, random) => file.subarray(0, random.below(file.length + 1)),
  cutStart: (file, random) => file.subarray(random.below(file.length + 1)),
  swap: (file, random) => {
    const [from, to] = range(file, random)
    const [start, end] = range(file.subarray(to), random)
    const parts = [file.subarray(0, from), file.subarray(to + start, to + end), file.subarray(to, to + start)]
    return Buffer.concat([...parts, file.subarray(from, to), file.subarray(to + end)])
  },
  take: (file, random, { donors }) => {
    const donor = random.pick(donors)
    return splice(file, ...range(file, random), donor.subarray(...range(donor, random)))
  },
  replace: (_file, random, { donors }) => random.pick(donors),
  empty: () => Buffer.alloc(0),
  noise: (_file, random) => randomOctets(random, random.below(3000)),
  der: (file, random) => random.pick(blocksOf(file)).der,
}

const lineChanges: Record<string, (lines: string[], random: Random) => string[]> = {
  dropLine: (lines, random) => lines.toSpliced(random.below(lines.length), 1),
  repeatLine: (lines, random) => {
    const at = random.below(lines.length)
    return lines.toSpliced(at, 0, lines[at]!)
  },
  swapLines: (lines, random) => {
    const [one, other] = [random.below(lines.length), random.below(lines.length)]
    return lines.with(one, lines[other]!).with(other, lines[one]!)
  },
  insertLine: (lines, random) => {
    const strange = ['', ' ', '\0', 'A: b', 'text', '=', '\ufeff', '-----']
    return lines.toSpliced(random.below(lines.length + 1), 0, random.pick(strange))
  },
  changeLine: (lines, random) => {
    const at = random.below(lines.length)
    const certificateLabels = ['X509 CERTIFICATE', 'TRUSTED CERTIFICATE', 'PRIVATE KEY']
    const keyLabels = ['EC PRIVATE KEY', 'RSA PRIVATE KEY', 'ENCRYPTED PRIVATE KEY']
    const spoil = random.pick<(line: string) => string>([
      (line) => ` ${line}`,
      (line) => `${line} \t`,
      (line) => line.slice(1),
      (line) => line.slice(0, -1),
      (line) => line.toLowerCase(),
      (line) => line.replace('CERTIFICATE', random.pick(certificateLabels)),
      (line) => line.replace('PRIVATE KEY', random.pick(keyLabels)),
      (line) => line.replaceAll('-', '\u2014'),
    ])
    return lines.with(at, spoil(lines[at]!))
  },
  lineEnds: (lines, random) => [lines.join(random.pick(['\r\n', '\r', ' \n', '\n\n']))],
}

const blockChanges: Record<string, (blocks: string[], random: Random, materials: Materials) => string[]> = {
  repeatBlock: (blocks, random) => {
    const at = random.below(blocks.length)
    return blocks.toSpliced(at, 0, ...Array.from({ length: 1 + random.below(30) }, () => blocks[at]!))
  },
  dropBlock: (blocks, random) => blocks.toSpliced(random.below(blocks.length), 1),
  reverseBlocks: (blocks) => blocks.toReversed(),
  takeBlocks: (blocks, random, { donors }) =>
    blocks.toSpliced(random.below(blocks.length + 1), 0, ...textBlocks(random.pick(donors))),
}

/** On one element of the tree of a block; `siblings` is the list that holds it. */
type NodeChange = (node: DerNode, siblings: DerNode[], random: Random, others: readonly DerNode[]) => void

const tags = [1, 2, 3, 4, 5, 6, 12, 19, 22, 23, 24, 30, 0x30, 0x31, 0x80, 0x82, 0x87, 0xa0, 0xa3]
const lengths = ['80', '00', '7f', '81ff', '82ffff', '83ffffff', '847fffffff', '84ffffffff', '88ffffffffffffffff', 'ff']

/** What dates, strings, numbers and identifiers have in them when somebody means harm, or has had a bad day. */
const contents = [
  ...['99991231235959Z', '20250230000000Z', '000101000000Z', '491231235959Z', '500101000000Z', '20300101000000+0100'],
  ...[
    '99991231235960Z',
    '19000101000000Z',
    '2030010100000Z',
    '00490101000000Z',
    '20300101',
    '',
    '\0',
    '\n',
    '10.0.0.1',
  ],
  ...['a\0.example.org', '\x1b[31m', '\u202e\u2028', '*', '*.*', '..', '../../x', '%00', 'x'.repeat(3000)],
  ...['DNS:a, DNS:b', 'a, CN=b', 'a + CN=b', '\ud83d', 'x'.repeat(43) + '\u{1f512}'.repeat(3)],
].map((text) => Buffer.from(text))
const identifiers = [
  ...['551d0e', '551d0f', '551d11', '551d13', '551d1e', '551d23', '551d25', '551d24', '550403', '550406', '551d2500'],
  ...[
    '2a864886f70d010101',
    '2a864886f70d010105',
    '2a864886f70d01010a',
    '2a864886f70d01010b',
    '2b6570',
    '2a8648ce3d0201',
  ],
  ...['2a8648ce3d030107', '2b81040022', '2a8648ce3d040302', '2a8648ce380401', '88378837', 'ffffffffffffffffff7f', '80'],
].map((hex) => Buffer.from(hex, 'hex'))
const numbers = [
  ...['00', '01', 'ff', '80', '7f', '0080', '00ffffffff', '7fffffffffffffff', 'ffffffffffffffff', ''],
].map((hex) => Buffer.from(hex, 'hex'))

const nodeChanges: Record<string, NodeChange> = {
  setTag: (node, _siblings, random) => void (node.tag = random.pick([...tags, random.below(256)])),
  setLength: (node, _siblings, random) => void (node.length = Buffer.from(random.pick(lengths), 'hex')),
  dropNode: (node, siblings) => void siblings.splice(siblings.indexOf(node), 1),
  repeatNode: (node, siblings, random) =>
    void siblings.push(...Array.from({ length: 1 + random.below(50) }, () => copyNode(node))),
  moveNode: (node, siblings) => void siblings.push(...siblings.splice(siblings.indexOf(node), 1)),
  emptyNode: (node) => void (node.content = Buffer.alloc(0)),
  setContent: (node, _siblings, random) => void (node.content = random.pick(contents)),
  setIdentifier: (node, _siblings, random) => void (node.content = random.pick(identifiers)),
  setNumber: (node, _siblings, random) => void (node.content = random.pick(numbers)),
  randomContent: (node, _siblings, random) => void (node.content = randomOctets(random, random.below(40))),
  largeContent: (node, _siblings, random) =>
    void (node.content = Buffer.alloc(1 << (8 + random.below(9)), random.pick(notable))),
  bury: (node, _siblings, random) => {
    for (let depth = random.below(200); depth >= 0; depth--) {
      const inner = { tag: random.pick([0x30, 0x31, 0xa0]), prefix: node.prefix, content: node.content, length: null }
      node.content = [inner]
      node.prefix = Buffer.alloc(0)
    }
  },
  takeNode: (node, _siblings, random, others) => void Object.assign(node, copyNode(random.pick(others))),
  addExtension: (node, siblings, random) => {
    const value = leafNode(4, random.pick([...contents, ...numbers, encodeDer(node)]))
    const id = leafNode(6, random.pick(identifiers))
    siblings.push({ ...leafNode(0x30, Buffer.alloc(0)), content: [id, leafNode(1, Buffer.from([0xff])), value] })
  },
}

/** On the fields of a certificate, which is then mostly whole, and wrong only in what it says. */
type FieldChange = (fields: Fields, random: Random, others: readonly DerNode[]) => void

const times = [
  ...['19991231235959Z', '20200101000000Z', '20300601120000Z', '20300601115959Z', '20300615000000Z', '20991231235959Z'],
]
const stringTags = [12, 19, 20, 22, 28, 30]
const weakAlgorithms = ['2a864886f70d010104', '2a864886f70d010105', '2a8648ce3d0401', '2a864886f70d01010a']

const fieldChanges: Record<string, FieldChange> = {
  setTime: ({ validity }, random) => {
    const time = leafNode(0x18, Buffer.from(random.pick(times)))
    if (Array.isArray(validity.content)) validity.content[random.below(2)] = time
  },
  spoilTime: ({ validity }, random) => {
    const time = leafNode(random.pick([0x17, 0x18]), random.pick(contents))
    if (Array.isArray(validity.content)) validity.content[random.below(2)] = time
  },
  rename: ({ issuer, subject }, random) => {
    const strings = allNodes(random.pick([issuer, subject])).filter(({ node }) => stringTags.includes(node.tag))
    if (strings.length === 0) return
    Object.assign(random.pick(strings).node, leafNode(random.pick(stringTags), random.pick(contents)))
  },
  selfIssue: ({ issuer, subject }) => void Object.assign(subject, copyNode(issuer)),
  weaken: ({ algorithm }, random) => {
    algorithm.content = [leafNode(6, Buffer.from(random.pick(weakAlgorithms), 'hex')), leafNode(5, Buffer.alloc(0))]
  },
  renumber: ({ serialNumber }, random) => void (serialNumber.content = random.pick(numbers)),
  takeKey: ({ publicKey }, random, others) => {
    const keys = others.filter(({ content }) => Array.isArray(content) && content.length === 2 && content[1]?.tag === 3)
    if (keys.length > 0) Object.assign(publicKey, copyNode(random.pick(keys)))
  },
  spoilKey: ({ publicKey }, random, others) => spoilWithin(publicKey, random, others),
  dropExtension: ({ extensions }, random) => void extensions.splice(random.below(extensions.length), 1),
  repeatExtension: ({ extensions }, random) => {
    if (extensions.length > 0) extensions.push(copyNode(random.pick(extensions)))
  },
  takeExtension: ({ extensions }, random, others) => {
    const found = others.filter(({ content }) => Array.isArray(content) && content.at(-1)?.tag === 4)
    if (found.length > 0) extensions.push(copyNode(random.pick(found)))
  },
  spoilExtension: ({ extensions }, random, others) => {
    if (extensions.length > 0) spoilWithin(random.pick(extensions), random, others)
  },
  constrain: ({ extensions }, random) => {
    const values = ['3000', '30030101ff', '30060101ff020100', '30060101ff0201ff', '3003020100', '30050101ff0500']
    extensions.push(extensionOf('551d13', random.pick(values)))
  },
}

function spoilWithin(node: DerNode, random: Random, others: readonly DerNode[]): void {
  const { node: chosen, siblings } = random.pick(allNodes(node))
  nodeChanges[random.pick(Object.keys(nodeChanges))]!(chosen, siblings, random, others)
}

/** Spoils a file once. Returns what was done, so that a failure can be told. */
export function mutate(file: Buffer, random: Random, materials: Materials): { data: Buffer; step: string } {
  const kind = random.next()
  const blocks = blocksOf(file)
  if (blocks.length === 0 || kind < 0.15) {
    const names = Object.keys(octetChanges).filter((name) => name !== 'der' || blocks.length > 0)
    const name = random.pick(names)
    return { data: octetChanges[name]!(file, random, materials), step: name }
  }
  if (kind < 0.25) {
    const name = random.pick(Object.keys(lineChanges))
    const lines = lineChanges[name]!(file.toString('latin1').split('\n'), random)
    return { data: Buffer.from(lines.join('\n')), step: name }
  }
  if (kind < 0.35) {
    const name = random.pick(Object.keys(blockChanges))
    const changed = blockChanges[name]!(textBlocks(file), random, materials)
    return { data: Buffer.from(changed.join(''), 'latin1'), step: name }
  }
  const at = random.below(blocks.length)
  const { label, der } = blocks[at]!
  const { changed, steps } = mutateDer(der, random, materials)
  const data = blocks.map((block, index) => encodeBlock(block.label, index === at ? changed : block.der)).join('')
  return { data: Buffer.from(data), step: `${label} ${at + 1}: ${steps.join(', ')}` }
}

function mutateDer(der: Buffer, random: Random, materials: Materials): { changed: Buffer; steps: string[] } {
  const root = parseDer(der)
  if (!root || random.next() < 0.1) {
    const name = random.pick(['flipBit', 'setOctet', 'insert', 'remove', 'repeat', 'cut', 'swap'])
    return { changed: octetChanges[name]!(der, random, materials), steps: [name] }
  }
  const fields = fieldsOf(root)
  const others = blocksOf(random.pick(materials.donors)).flatMap((block) => parseDer(block.der) ?? [])
  const found = others.flatMap(allNodes).map(({ node }) => node)
  const pool = found.length > 0 ? found : [root]
  const steps: string[] = []
  for (let count = 1 + random.below(3); count > 0; count--) {
    const inField = fields !== null && random.next() < 0.7
    const name = random.pick(Object.keys(inField ? fieldChanges : nodeChanges))
    const { node, siblings } = random.pick(allNodes(root))
    if (inField) fieldChanges[name]!(fields, random, pool)
    else nodeChanges[name]!(node, siblings, random, pool)
    steps.push(name)
  }
  if (fields && materials.signers.length > 0 && random.next() < 0.8) {
    signAgain(root, fields, random.pick(materials.signers))
    steps.push('signed again')
  }
  return { changed: encodeDer(root), steps }
}

function blocksOf(file: Buffer): { label: string; der: Buffer }[] {
  return textBlocks(file).map((text) => {
    const [, label = '', body = ''] = /^-----BEGIN ([^-]+)-----\n([^]*)-----END/.exec(text) ?? []
    return { label, der: Buffer.from(body, 'base64') }
  })
}

function textBlocks(file: Buffer): string[] {
  return file.toString('latin1').match(/-----BEGIN [^-]+-----\n[A-Za-z0-9+/=\n]*-----END [^-]+-----\n/g) ?? []
}

function encodeBlock(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.map((line) => `${line}\n`).join('')}-----END ${label}-----\n`
}

function changeOctet(file: Buffer, random: Random, to: (octet: number) => number): Buffer {
  if (file.length === 0) return file
  const copy = Buffer.from(file)
  const at = random.below(copy.length)
  copy[at] = to(copy[at]!)
  return copy
}

function splice(file: Buffer, from: number, to: number, octets: Buffer): Buffer {
  return Buffer.concat([file.subarray(0, from), octets, file.subarray(to)])
}

/** Mostly short, sometimes most of it. */
function range(file: Buffer, random: Random): [number, number] {
  const from = random.below(file.length + 1)
  const longest = random.next() < 0.7 ? Math.min(16, file.length - from) : file.length - from
  return [from, from + random.below(longest + 1)]
}

function randomOctets(random: Random, count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, () => random.below(256)))
}
