#!/bin/sh
# SPDX-License-Identifier: MIT
# certs.sh FOLDER: makes the certificates that the tests of TLS use, by the openssl
# command: ca.pem; and NAME.pem with NAME.key, signed by it, for
#   server   localhost, 127.0.0.1 and ::1
#   other    other.example and *.wild.example
#   expired  localhost, until yesterday
#   client   the subject CN=a client
# and alone.pem with alone.key, for localhost, signed by itself.
set -eu
dir=$1
mkdir -p "$dir"
cd "$dir"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

# signed NAME SUBJECT EXTENSION [OPTION…]
signed() {
    name=$1 subject=$2
    printf '%s\n' "$3" >"$name.ext"
    shift 3
    key "$name.key"
    openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr" 2>/dev/null
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -extfile "$name.ext" \
        -out "$name.pem" "$@" 2>/dev/null
    rm -f "$name.csr" "$name.ext"
}

key ca.key
openssl req -x509 -new -key ca.key -subj "/O=treadle/CN=tests" -days 30 -out ca.pem 2>/dev/null
signed server "/O=treadle/CN=localhost" "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" -days 30
signed other "/O=treadle/CN=other.example" "subjectAltName=DNS:other.example,DNS:*.wild.example" -days 30
# Newer versions of openssl refuse a negative number of days, and take dates.
yesterday="-days -1"
if openssl x509 -help 2>&1 | grep -q not_after; then
    yesterday="-not_before 20200101000000Z -not_after 20200102000000Z"
fi
# shellcheck disable=SC2086 # several words
signed expired "/O=treadle/CN=localhost" "subjectAltName=DNS:localhost" $yesterday
signed client "/O=treadle/CN=a client" "extendedKeyUsage=clientAuth" -days 30
key alone.key
openssl req -x509 -new -key alone.key -subj "/CN=localhost" -addext "subjectAltName=DNS:localhost" -days 30 \
    -out alone.pem 2>/dev/null
