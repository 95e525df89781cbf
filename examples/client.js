// A client with mutual TLS that follows its certificates and asks again and again: node client.js DIR URL [TIMES]
import { get } from 'node:https'
import { setTimeout as wait } from 'node:timers/promises'
import { TrustReloader } from 'certgen/reload'

const [directory = 'certs/client', url = 'https://localhost:8443/', times = '1'] = process.argv.slice(2)
const trust = await TrustReloader.start(directory)
trust.on('reloaded', (event) => console.error(`now trusting ${event.new.bundle.length} roots`))

function ask() {
  return new Promise((resolve, reject) => {
    // The agent of the moment: it is another one after a change.
    get(url, { agent: trust.agent() }, async (response) => {
      resolve(Buffer.concat(await response.toArray()).toString())
    }).on('error', reject)
  })
}

for (let count = 0; count < Number(times); count++) {
  if (count > 0) await wait(100)
  process.stdout.write(await ask())
}
await trust.close()
