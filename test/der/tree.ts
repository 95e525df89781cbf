/** DER as a tree that can be changed anywhere and written again with lengths that are right, or wrong on purpose. */

export interface DerNode {
  tag: number
  /** Octets before the children: the count of unused bits of a BIT STRING that holds DER. */
  prefix: Buffer
  content: Buffer | DerNode[]
  /** Written in place of the length that would be right. */
  length: Buffer | null
}

/** Deeper than any certificate; what lies below stays octets. */
const deepest = 24
const bitString = 0x03
const octetString = 0x04

/** null when `der` is not one element of exactly its length. */
export function parseDer(der: Buffer): DerNode | null {
  const nodes = parseElements(der, 0)
  return nodes?.length === 1 ? nodes[0]! : null
}

function parseElements(data: Buffer, depth: number): DerNode[] | null {
  const nodes: DerNode[] = []
  for (let offset = 0; offset < data.length;) {
    const header = readHeader(data, offset)
    if (!header) return null
    const end = offset + header.size + header.length
    nodes.push(makeNode(header.tag, data.subarray(offset + header.size, end), depth))
    offset = end
  }
  return nodes
}

function readHeader(data: Buffer, offset: number): { tag: number; size: number; length: number } | null {
  const [tag, first] = [data[offset], data[offset + 1]]
  if (tag === undefined || first === undefined || first === 0x80 || first > 0x84) return null
  const octets = first < 0x80 ? 0 : first & 0x7f
  if (offset + 2 + octets > data.length) return null
  const length = octets === 0 ? first : data.readUIntBE(offset + 2, octets)
  return offset + 2 + octets + length > data.length ? null : { tag, size: 2 + octets, length }
}

/** What is constructed has children, and so have the strings that extensions and keys are wrapped in. */
function makeNode(tag: number, octets: Buffer, depth: number): DerNode {
  const prefix = tag === bitString ? octets.subarray(0, 1) : Buffer.alloc(0)
  const wraps = (tag === octetString || tag === bitString) && octets[prefix.length] === 0x30
  const mayHold = ((tag & 0x20) !== 0 || wraps) && depth < deepest
  const children = mayHold ? parseElements(octets.subarray(prefix.length), depth + 1) : null
  return children ? { tag, prefix, content: children, length: null } : leafNode(tag, octets)
}

export function leafNode(tag: number, content: Buffer): DerNode {
  return { tag, prefix: Buffer.alloc(0), content, length: null }
}

export function encodeDer(node: DerNode): Buffer {
  const inner = Buffer.isBuffer(node.content) ? node.content : Buffer.concat(node.content.map(encodeDer))
  const body = Buffer.concat([node.prefix, inner])
  return Buffer.concat([Buffer.from([node.tag & 0xff]), node.length ?? encodeLength(body.length), body])
}

function encodeLength(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length])
  const octets = Buffer.from(length.toString(16).padStart(8, '0'), 'hex')
  const used = octets.subarray(octets.findIndex((octet) => octet !== 0))
  return Buffer.concat([Buffer.from([0x80 | used.length]), used])
}

/** Every node with the list that holds it; the root stands in a list of its own. */
export function allNodes(root: DerNode): { node: DerNode; siblings: DerNode[] }[] {
  const found: { node: DerNode; siblings: DerNode[] }[] = []
  const visit = (node: DerNode, siblings: DerNode[]): void => {
    found.push({ node, siblings })
    if (!Buffer.isBuffer(node.content)) for (const child of node.content) visit(child, node.content)
  }
  visit(root, [root])
  return found
}

export function copyNode(node: DerNode): DerNode {
  return { ...node, content: Buffer.isBuffer(node.content) ? node.content : node.content.map(copyNode) }
}
