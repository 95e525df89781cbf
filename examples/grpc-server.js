// A gRPC server with mutual TLS that follows its certificates: node grpc-server.js DIR [PORT]
import grpc from '@grpc/grpc-js'
import { ServerReloader } from 'certgen/reload'

const [directory = 'certs/server', port = '8443'] = process.argv.slice(2)
const reloader = await ServerReloader.start(directory)

// In place of grpc-js' own FileWatcherCertificateProvider, which reads the files one by one: when a swap comes between,
// it has a key and a certificate that do not match, and takes no connection until it reads again.
const tellers = new Map()
function follow(listener, update) {
  const tell = () => listener(update(reloader.options()))
  tellers.set(listener, tell)
  reloader.on('reloaded', tell)
  process.nextTick(tell)
}
const forget = (listener) => reloader.off('reloaded', tellers.get(listener))
const provider = {
  addCaCertificateListener: (listener) => follow(listener, ({ ca }) => ({ caCertificate: ca })),
  addIdentityCertificateListener: (listener) =>
    follow(listener, ({ cert, key }) => ({ certificate: cert, privateKey: key })),
  removeCaCertificateListener: forget,
  removeIdentityCertificateListener: forget,
}
const credentials = grpc.experimental.createCertificateProviderServerCredentials(provider, provider, true)

const pass = (message) => message
const codec = { requestSerialize: pass, requestDeserialize: pass, responseSerialize: pass, responseDeserialize: pass }
const say = { path: '/Echo/Say', requestStream: false, responseStream: false, ...codec }
const server = new grpc.Server()
server.addService({ say }, { say: ({ request }, reply) => reply(null, request) })
server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => {
  if (error) throw error
  console.log(`grpcs://localhost:${bound}/`)
})

process.once('SIGTERM', () => server.tryShutdown(() => reloader.close()))
