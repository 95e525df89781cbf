import { execFileSync } from 'node:child_process'

/** Builds dist/ once before all suites. */
export default function build(): void {
  execFileSync(process.execPath, ['scripts/build.js'], { stdio: 'inherit' })
}
