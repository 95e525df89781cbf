import { CertgenError } from '../../errors.ts'
import type { Call, Failure } from './call.ts'
import { formatRef } from './resource.ts'

/** What a call failed with, in the words of whoever has to mend it. */
export function explain(call: Call, failure: Failure, server: URL): CertgenError {
  const { message, hints } = describe(call, failure, server)
  const reads = ['get', 'list', 'watch'].includes(call.verb)
  const written = call.name === null ? call.resource.plural : formatRef({ ...call, name: call.name })
  const what = `cannot ${call.verb} ${written}${call.name === null && call.namespace !== null ? ` in ${call.namespace}` : ''}`
  return new CertgenError(reads ? 'unreadable' : 'write-failed', `${what}: ${message}`, {
    hints,
    cause: failure.cause ?? failure,
  })
}

interface Words {
  readonly message: string
  readonly hints: readonly string[]
}

function describe(call: Call, failure: Failure, server: URL): Words {
  const { status, message } = failure
  switch (status) {
    case null:
      return describeSilence(failure, server)
    case 401:
      return {
        message: 'the API server does not know who asks (401)',
        hints: [
          'the token or certificate of the kubeconfig file has ended or is for another cluster: log in again',
          'in a pod: see that it has a service account, and that its token is mounted',
        ],
      }
    case 403:
      return describeRefusal(call, message)
    case 404:
      return describeAbsence(call, message)
    case 409:
      return { message: 'others keep changing it (409)', hints: ['find out who else writes it, and run certgen again'] }
    case 422:
    case 400:
      return {
        message: `the API server finds it invalid (${status}): ${message}`,
        hints: [
          'if the object is immutable or guarded by a policy, delete it or change the policy, and run certgen again',
        ],
      }
    case 429:
      return { message: 'the API server has too much to do (429)', hints: ['run certgen again later'] }
    default:
      return {
        message: `the API server failed (${status}): ${message}`,
        hints: ['look at the API server and its admission webhooks, and run certgen again'],
      }
  }
}

/** The words of a refusal by RBAC; quotas and admission refuse with the same status. */
const byAuthorization = /cannot \w+ resource/

function describeRefusal(call: Call, message: string): Words {
  if (!byAuthorization.test(message)) {
    return {
      message: `the API server refuses it (403): ${message}`,
      hints: ['a quota or a policy may stand against it'],
    }
  }
  const user = /User "([^"]+)"/.exec(message)?.[1]
  const where = call.namespace === null ? 'a ClusterRole' : `a Role in ${call.namespace}`
  return {
    message: `${user ?? 'whoever asks'} may not (403)`,
    hints: [`add to ${where}: ${formatRule(call)}`],
  }
}

/** The RBAC rule that permits a call, and nothing else. */
function formatRule({ verb, resource, name }: Call): string {
  // A name cannot restrict what has none yet, nor a list.
  const names = name === null || verb === 'create' || verb === 'list' ? '' : `, resourceNames: ["${name}"]`
  return `- { apiGroups: ["${resource.group}"], resources: ["${resource.plural}"]${names}, verbs: ["${verb}"] }`
}

function describeAbsence({ verb, namespace, resource }: Call, message: string): Words {
  if (verb === 'create' && namespace !== null) {
    return {
      message: `there is no namespace ${namespace} (404)`,
      hints: [`make it with: kubectl create namespace ${namespace}`],
    }
  }
  return { message: `there is none (404): ${message}`, hints: [`see whether the cluster has ${resource.plural}`] }
}

function describeSilence({ reason, message }: Failure, server: URL): Words {
  if (isDistrust(reason)) {
    return {
      message: `the certificate of the API server ${server.origin} is not trusted: ${reason}`,
      hints: [
        'give its CA in the kubeconfig file (certificate-authority-data), and its address as the certificate has it',
      ],
    }
  }
  if (reason === timedOut) {
    return {
      message: `the API server ${server.origin} does not answer in time`,
      hints: ['see whether it answers kubectl, and run certgen again'],
    }
  }
  return {
    message: `there is no API server at ${server.origin}: ${message}`,
    hints: ['check the address in the kubeconfig file, or choose another cluster with --context NAME'],
  }
}

export const timedOut = 'Timeout'

/** OpenSSL's and Node's codes for a server that is not the one it should be: asking again does not help. */
export function isDistrust(reason: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ERR_TLS_|ERR_SSL_/.test(reason)
}

/** An error in one line, where there is room for no more. */
export function explainInLine({ message, hints }: CertgenError): string {
  return [message, ...hints].join('; ')
}
