// A server with mutual TLS that follows its certificates: node server.js DIR [PORT [ADDRESS]]
import { createServer } from 'node:https'
import { ServerReloader } from 'certgen/reload'

const [directory = 'certs/server', port = '8443', address = '127.0.0.1'] = process.argv.slice(2)
const reloader = await ServerReloader.start(directory)
reloader.on('reloaded', (event) => console.error(`now serving ${event.new.leaf.sha256}`))
reloader.on('failed', (event) => console.error(`still serving the old set: ${event.message}`))

const server = createServer(reloader.options({ requestCert: true, minVersion: 'TLSv1.3' }), (request, response) => {
  response.end(`hello, ${request.socket.getPeerCertificate().subjectaltname}\n`)
})
reloader.attach(server)
server.listen(Number(port), address, () => console.log(`https://localhost:${server.address().port}/`))

process.once('SIGTERM', async () => {
  await reloader.close()
  server.close()
})
