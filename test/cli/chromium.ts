import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * What an expression, in JavaScript, is worth in a page that headless Chromium shows so many pixels wide: in a frame, for
 * no window of it is narrower than 500. The page's own policy forbids scripts, so that it is taken out for the measurement.
 */
export async function measureInChromium(page: string, width: number, expression: string): Promise<unknown> {
  const scratch = mkdtempSync(join(tmpdir(), 'certgen-chromium-'))
  try {
    const script = `<script>parent.document.title = JSON.stringify((${expression}))</script>`
    const measured = page.replace(/<meta http-equiv[^>]*>/, '').replace('</body>', () => `${script}</body>`)
    const frame = `<iframe srcdoc="${measured.replaceAll('&', '&amp;').replaceAll('"', '&quot;')}"></iframe>`
    const style = `<style>iframe { width: ${width}px; height: 844px; border: 0 }</style>`
    const file = join(scratch, 'page.html')
    writeFileSync(file, `<!doctype html><title></title><meta charset="utf-8">${style}${frame}`)
    const { stdout } = await run(
      'chromium',
      [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--hide-scrollbars',
        '--window-size=1400,900',
        `--user-data-dir=${join(scratch, 'profile')}`,
        '--dump-dom',
        pathToFileURL(file).href,
      ],
      { maxBuffer: 64 * 1024 * 1024 },
    )
    const [, title] = /<title>(.*?)<\/title>/s.exec(stdout) ?? []
    if (!title) throw new Error(`Chromium shows no page: ${stdout.slice(0, 200)}`)
    return JSON.parse(title.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&'))
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
