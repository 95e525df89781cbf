import { apache2 } from './servers/apache2.ts'
import { caddy } from './servers/caddy.ts'
import { etcd } from './servers/etcd.ts'
import { gnutls } from './servers/gnutls.ts'
import { haproxy } from './servers/haproxy.ts'
import { nginx } from './servers/nginx.ts'
import { grpc, node } from './servers/node.ts'
import { openssl } from './servers/openssl.ts'
import { postgresql } from './servers/postgresql.ts'
import { redis } from './servers/redis.ts'
import { stunnel } from './servers/stunnel.ts'
import type { ServerMake } from './server-make.ts'

/** In the order of docs/interop.md. */
export const serverMakes: readonly ServerMake[] = [
  nginx,
  haproxy,
  apache2,
  stunnel,
  caddy,
  postgresql,
  redis,
  etcd,
  openssl,
  gnutls,
  node,
  grpc,
]
