import { Chalk } from 'chalk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createScreen, fit, printable, widthOf, wrap } from '../../src/cli/terminal.ts'

const paint = new Chalk({ level: 0 })
const unicode = { unicode: true }
const ascii = { unicode: false }

describe('a screen', () => {
  const terminal = { isTTY: true, columns: 120, rows: 40 }

  it('has the size of the terminal, 80 columns of a pipe, and never so many that the eye loses the row', () => {
    expect(createScreen(paint, terminal, {})).toMatchObject({ width: 120, height: 40 })
    expect(createScreen(paint, { isTTY: false, columns: 120, rows: 40 }, {})).toMatchObject({ width: 80, height: null })
    expect(createScreen(paint, { isTTY: true }, {})).toMatchObject({ width: 80, height: null })
    expect(createScreen(paint, { isTTY: true, columns: 10, rows: 5 }, {}).width).toBe(40)
    expect(createScreen(paint, { isTTY: true, columns: 400, rows: 5 }, {}).width).toBe(160)
  })

  it.each([
    [{ LANG: 'en_US.UTF-8' }, true],
    [{ LANG: 'C.utf8' }, true],
    [{ LANG: 'C' }, false],
    [{}, false],
    [{ LC_ALL: 'C', LANG: 'en_US.UTF-8' }, false],
    [{ LC_ALL: '', LC_CTYPE: 'C.UTF-8', LANG: 'C' }, true],
    [{ LANG: 'en_US.UTF-8', TERM: 'dumb' }, false],
  ])('knows by %j whether it can show more than ASCII', (environment, expected) => {
    expect(createScreen(paint, terminal, environment).unicode).toBe(expected)
  })
})

describe('text from elsewhere', () => {
  it('is shown without what steers a terminal, and in ASCII where there is only that', () => {
    expect(printable('a\u001b[31m\r\nb\u202e', unicode)).toBe('a\\u001b[31m\\u000d\\u000ab\\u202e')
    expect(printable('Zürich 日本 🔐', unicode)).toBe('Zürich 日本 🔐')
    expect(printable('Zürich 🔐', ascii)).toBe('Z\\u00fcrich \\u{1f510}')
  })

  it('is cut in the middle, for names differ at either end', () => {
    expect(fit('certs/gateway-internal-0017', 16, unicode)).toBe('certs/ga…al-0017')
    expect(fit('certs/gateway-internal-0017', 16, ascii)).toBe('certs/g..al-0017')
    expect(fit('DNS:a.test, DNS:b.test', 16, unicode, 'end')).toBe('DNS:a.test, DNS…')
    expect(fit('short', 8, unicode)).toBe('short   ')
    expect(fit('証明書の名前', 8, unicode)).toBe('証明…前 ')
  })

  it('takes exactly the columns that it is given, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.integer({ min: 4, max: 40 }),
        fc.boolean(),
        (text, width, wide) => {
          const screen = { unicode: wide }
          expect(widthOf(fit(printable(text, screen), width, screen))).toBe(width)
        },
      ),
    )
  })

  it('is broken between words; a word that is too long stays whole, so that it can be copied', () => {
    expect(wrap('the key does not belong to certs/a/very/long/path/tls.key here', 20)).toEqual([
      'the key does not',
      'belong to',
      'certs/a/very/long/path/tls.key',
      'here',
    ])
  })
})
