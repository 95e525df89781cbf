import { output } from '../program.ts'

/** The first version number that a command prints, on whichever stream. */
export function versionOf(command: string): string {
  const text = output('sh', '-c', `${command} 2>&1`)
  const [version] = /\d+(\.\d+)+/.exec(text) ?? []
  if (version === undefined) throw new Error(`${command} prints no version: ${text}`)
  return version
}

export function grpcVersion(): string {
  return versionOf(`grep '"version"' node_modules/@grpc/grpc-js/package.json`)
}
