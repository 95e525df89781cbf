import { Crypto } from '@peculiar/webcrypto'
import { cryptoProvider } from './x509.ts'

/**
 * The one Crypto of the program. Keys of one WebCrypto implementation mean nothing to another, so it is handed along as
 * an argument to whatever issues; x509 falls back on a default of its own, which is therefore set to the same.
 */
export function createCrypto(): Crypto {
  const crypto = new Crypto()
  cryptoProvider.set(crypto)
  return crypto
}

export type { Crypto }
