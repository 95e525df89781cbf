import { webcrypto } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { BmpString, OctetString, fromBER } from 'asn1js'
import {
  Attribute,
  AuthenticatedSafe,
  CertBag,
  Certificate,
  CryptoEngine,
  PFX,
  PKCS8ShroudedKeyBag,
  PrivateKeyInfo,
  SafeBag,
  SafeContents,
} from 'pkijs'

/** A key and its chain as one encrypted file (RFC 7292), for services that read nothing else: the JVM, .NET, Windows. */
export interface Pkcs12Content {
  readonly key: KeyObject
  /** DER, leaf first. */
  readonly chain: readonly Buffer[]
  /** How a reader names the entry. */
  readonly friendlyName: string
}

/** As OpenSSL 3 does by default: PBES2 with AES-256 and HMAC-SHA-256 (RFC 8018), for the content and for its MAC. */
const iterations = 2048
const bagTypes = { shroudedKey: '1.2.840.113549.1.12.10.1.2', certificate: '1.2.840.113549.1.12.10.1.3' } as const
const attributeTypes = { friendlyName: '1.2.840.113549.1.9.20', localKeyId: '1.2.840.113549.1.9.21' } as const
const encryption = {
  // The iv is pkijs' to make; its types ask for one all the same.
  contentEncryptionAlgorithm: { name: 'AES-CBC', length: 256, iv: new Uint8Array(16) },
  hmacHashAlgorithm: 'SHA-256',
  iterationCount: iterations,
} as const

/** Returns the DER of the PFX. */
export async function encodePkcs12({ key, chain, friendlyName }: Pkcs12Content, passphrase: string): Promise<Buffer> {
  const engine = new CryptoEngine({ name: 'node', crypto: webcrypto as unknown as Crypto })
  const password = octetsOf(passphrase)
  const attributes = (): Attribute[] => [
    new Attribute({ type: attributeTypes.friendlyName, values: [new BmpString({ value: friendlyName })] }),
    new Attribute({ type: attributeTypes.localKeyId, values: [new OctetString({ valueHex: Uint8Array.of(1) })] }),
  ]
  const keyInfo = PrivateKeyInfo.fromBER(octets(key.export({ type: 'pkcs8', format: 'der' })))
  const keyBag = new PKCS8ShroudedKeyBag({ parsedValue: keyInfo })
  await keyBag.makeInternalValues({ password, ...encryption }, engine)
  const keyContents = new SafeContents({
    safeBags: [new SafeBag({ bagId: bagTypes.shroudedKey, bagValue: keyBag, bagAttributes: attributes() })],
  })
  const certificateContents = new SafeContents({
    safeBags: chain.map(
      (der, index) =>
        new SafeBag({
          bagId: bagTypes.certificate,
          bagValue: new CertBag({ parsedValue: new Certificate({ schema: fromBER(octets(der)).result }) }),
          ...(index === 0 ? { bagAttributes: attributes() } : {}),
        }),
    ),
  })
  const safe = new AuthenticatedSafe({
    parsedValue: {
      safeContents: [
        { privacyMode: 0, value: keyContents },
        { privacyMode: 1, value: certificateContents },
      ],
    },
  })
  await safe.makeInternalValues({ safeContents: [{}, { password, ...encryption }] }, engine)
  const pfx = new PFX({ parsedValue: { integrityMode: 0, authenticatedSafe: safe } })
  await pfx.makeInternalValues(
    { password, iterations, pbkdf2HashAlgorithm: 'SHA-256', hmacHashAlgorithm: 'SHA-256' },
    engine,
  )
  return Buffer.from(pfx.toSchema().toBER(false))
}

function octetsOf(text: string): ArrayBuffer {
  return octets(Buffer.from(text, 'utf8'))
}

/** A copy of its own: a Buffer may be a part of a larger memory. */
function octets(data: Buffer): ArrayBuffer {
  return Uint8Array.from(data).buffer
}
