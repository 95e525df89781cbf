import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readElement, readElements, readObjectIdentifier, readText } from '../../src/pki/der.ts'
import { encodeDer, leafNode, parseDer } from '../der/tree.ts'
import type { DerNode } from '../der/tree.ts'
import { temporaryDirectory } from '../program.ts'
import { missing } from '../requirements.ts'
import { openssl } from './openssl-issuer.ts'

const directory = temporaryDirectory()
const octets = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))
const leaf = fc
  .tuple(fc.constantFrom(1, 2, 5, 6, 12, 19, 23, 0x80, 0x87), octets(300))
  .map(([tag, content]) => leafNode(tag, content))
const { tree } = fc.letrec<{ tree: DerNode }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    fc
      .tuple(fc.constantFrom(0x30, 0x31, 0xa0), fc.array(tie('tree'), { maxLength: 5 }))
      .map(([tag, content]) => ({ ...leafNode(tag, Buffer.alloc(0)), content })),
  ),
}))

describe('DER', () => {
  it('is read as it was written: tags, contents, and not an octet more', () => {
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 5 }), octets(20), (nodes, before) => {
        const encoded = nodes.map(encodeDer)
        const elements = readElements(Buffer.concat(encoded))
        expect(elements.map(({ raw }) => raw)).toEqual(encoded)
        expect(elements.map(({ tag }) => tag)).toEqual(nodes.map(({ tag }) => tag))
        for (const der of encoded) {
          const { content, raw } = readElement(Buffer.concat([before, der]), before.length)
          expect(raw.equals(der)).toBe(true)
          expect(raw.subarray(raw.length - content.length).equals(content)).toBe(true)
          expect(encodeDer(parseDer(der)!).equals(der)).toBe(true)
        }
      }),
    )
  })

  it('that is cut, or is none, is a RangeError and nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          octets(60),
          fc.tuple(tree, fc.nat()).map(([node, cut]) => cutAt(encodeDer(node), cut)),
        ),
        (der) => {
          try {
            const { raw } = readElement(der)
            expect(raw.length).toBeLessThanOrEqual(der.length)
            readElements(der)
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError)
          }
        },
      ),
      { numRuns: 1000 },
    )
  })

  function cutAt(der: Buffer, cut: number): Buffer {
    return der.subarray(0, cut % der.length)
  }

  it('of an object identifier gives its dotted form', () => {
    const arcs = fc.tuple(fc.nat(2), fc.nat(39), fc.array(fc.nat(2 ** 31 - 1), { maxLength: 8 }))
    fc.assert(
      fc.property(arcs, ([first, second, rest]) => {
        const content = Buffer.concat([first * 40 + second, ...rest].map(encodeArc))
        expect(readObjectIdentifier(content)).toBe([first, second, ...rest].join('.'))
      }),
    )
  })

  /** Seven bits an octet, all but the last with the high bit set. */
  function encodeArc(arc: number): Buffer {
    const digits = [arc % 128]
    for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) digits.unshift((rest % 128) | 0x80)
    return Buffer.from(digits)
  }

  it.skipIf(missing('openssl'))('of identifiers is read as openssl reads it', () => {
    for (const name of ['commonName', 'subjectAltName', 'id-scrypt', 'ecdsa-with-SHA256', 'anyExtendedKeyUsage']) {
      const file = join(directory, name)
      openssl('asn1parse', '-genstr', `OID:${name}`, '-noout', '-out', file)
      const { content } = readElement(readFileSync(file))
      const listed = openssl('asn1parse', '-genstr', `OID:${readObjectIdentifier(content)}`)
      expect(listed).toBe(openssl('asn1parse', '-genstr', `OID:${name}`))
    }
  })

  it('of a text is that text, in every kind of string that can hold it', () => {
    const character = fc.string({ unit: 'grapheme', maxLength: 20 })
    const wide = (text: string, width: 2 | 4): Buffer => {
      const little = Buffer.from(text, 'utf16le')
      if (width === 2) return little.swap16()
      const codes = Array.from(text, (one) => one.codePointAt(0) ?? 0)
      return Buffer.concat(codes.map((code) => Buffer.from(code.toString(16).padStart(8, '0'), 'hex')))
    }
    fc.assert(
      fc.property(character, fc.string({ unit: 'grapheme-ascii' }), (text, ascii) => {
        const read = (tag: number, content: Buffer): string => readText({ tag, content, raw: content })
        expect(read(0x0c, Buffer.from(text))).toBe(text)
        expect(read(0x1e, wide(text, 2))).toBe(text)
        expect(read(0x1c, wide(text, 4))).toBe(text)
        for (const tag of [0x13, 0x14, 0x16]) expect(read(tag, Buffer.from(ascii))).toBe(ascii)
      }),
    )
  })
})
