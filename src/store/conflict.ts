import { CertgenError } from '../errors.ts'

/** Another run has published since this one looked. `path`: what people know the place by. */
export function conflict(path: string): CertgenError {
  return new CertgenError('conflict', `${path} was changed by another run`, {
    hints: ['run certgen again: what it finds then is finished'],
  })
}
