#!/usr/bin/env bash
# Made the fleets beside it, once: they are kept, so that a seed means the same case on every machine. What is random in
# them (keys, serial numbers) is random; they protect nothing. Run it in an empty directory, with certgen on the PATH.
set -euo pipefail

# The validity is as long as certgen allows: nothing here may expire while the tests are in use.
long=(--validity 70y --ca-validity 75y)
plain() { # plain FLEET: ordinary files in place of links and generations
  for name in "$1"/*; do
    cp -rL "$name" "$name.plain"
    rm -rf "$name.plain"/..*
    rm -rf "$name"
    mv "$name.plain" "$name"
  done
}

# One that certgen has rotated: two roots in the bundle, a cross-certificate in the chain.
certgen --dir crossed --name server --dns localhost --ip 127.0.0.1 --uri spiffe://acme/a --email ops@example.org "${long[@]}"
certgen --dir crossed --overwrite "${long[@]}"
plain crossed

# One between the two runs of a staged rotation.
certgen --dir staged --name server --key ecdsa-p384 "${long[@]}"
certgen --dir staged --overwrite --strategy staged "${long[@]}"
plain staged

# What other tools make: RSA, an intermediate, every kind of name, extensions certgen never writes, a PKCS#1 key.
mkdir -p foreign/ca foreign/server adopted/ca adopted/server work
days=27000
request() { openssl req -new -key "$1" -subj "$2" -utf8 -multivalue-rdn -config <(printf '[req]\ndistinguished_name=n\n[n]\n'); }
openssl genrsa -out foreign/ca/ca.key 2048
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out work/middle.key
openssl genrsa -traditional -out foreign/server/tls.key 2048
request foreign/ca/ca.key '/C=CH/O=Acme, Inc./CN=Acme Root+serialNumber=7' |
  openssl x509 -req -days $days -signkey foreign/ca/ca.key -out foreign/ca/ca.crt -extfile <(printf '%s\n' \
    'basicConstraints=critical,CA:TRUE' 'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash')
request work/middle.key '/O=Acme, Inc./CN=Zwischenstelle Zürich' |
  openssl x509 -req -days $days -CA foreign/ca/ca.crt -CAkey foreign/ca/ca.key -out work/middle.crt -extfile <(printf '%s\n' \
    'basicConstraints=critical,CA:TRUE,pathlen:0' 'keyUsage=critical,keyCertSign' 'subjectKeyIdentifier=hash' \
    'authorityKeyIdentifier=keyid,issuer:always' 'certificatePolicies=1.2.3.4.5' \
    'nameConstraints=permitted;DNS:example.org,permitted;IP:10.0.0.0/255.0.0.0,permitted;email:example.org')
request foreign/server/tls.key '/CN=leaf.example.org' |
  openssl x509 -req -days $days -CA work/middle.crt -CAkey work/middle.key -out work/leaf.crt -extfile <(printf '%s\n' \
    'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature,keyEncipherment' \
    'extendedKeyUsage=serverAuth,clientAuth,emailProtection' 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid' \
    'subjectAltName=DNS:leaf.example.org,DNS:*.example.org,IP:10.1.2.3,email:ops@example.org,RID:1.2.3,otherName:1.2.3;UTF8:x' \
    'crlDistributionPoints=URI:http://example.org/crl' 'authorityInfoAccess=OCSP;URI:http://example.org/ocsp' '1.2.3.4=ASN1:UTF8:own')
cat work/leaf.crt work/middle.crt >foreign/server/tls.crt
cp foreign/ca/ca.crt foreign/server/ca.crt

# An authority as it may be adopted: Ed25519, pathlen:0, no key identifiers, and an encrypted key of the leaf.
openssl genpkey -algorithm ED25519 -out adopted/ca/ca.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out work/adopted.key
openssl pkcs8 -topk8 -in work/adopted.key -v2 aes256 -passout 'pass:open sesame' -out adopted/server/tls.key
request adopted/ca/ca.key '/CN=Grown over years' |
  openssl x509 -req -days $days -signkey adopted/ca/ca.key -out adopted/ca/ca.crt -extfile <(echo 'basicConstraints=critical,CA:TRUE,pathlen:0')
request work/adopted.key '/O=Acme/CN=a, b \+ "c"' |
  openssl x509 -req -days $days -CA adopted/ca/ca.crt -CAkey adopted/ca/ca.key -out adopted/server/tls.crt -extfile <(echo 'subjectAltName=DNS:a')
cp adopted/ca/ca.crt adopted/server/ca.crt
rm -r work
