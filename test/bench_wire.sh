#!/bin/sh
# bench_wire.sh S3UP CALL S3D-TLS: what the wire costs: the CPU of a TLS handshake, full and
# resumed; the CPU of a GiB that is put over http and https, beside curl in the same run. The
# other end is the test store, which keeps nothing. Prints medians, never judges. What is needed
# for https: openssl, to make a certificate; for the comparison: curl.
set -u
s3up=$(realpath "$1") call=$(realpath "$2") s3d=$(realpath "$3")
W=$(mktemp -d) || exit 2
export S3UP_STATE_DIR="$W/state"
pids=
trap 'kill $pids 2>/dev/null; rm -rf "$W"' EXIT
trap 'exit 130' INT TERM
cd "$W" || exit 2
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    CURL_CA_BUNDLE http_proxy https_proxy HTTPS_PROXY; do
    unset "$name"
done
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret
MIB=${MIB:-256} ROUNDS=${ROUNDS:-5}

serve() { # NAME [OPTION...]: sets port
    name=$1
    shift
    mkdir "$name"
    "$s3d" --dir "$name" --port-file "$name.port" --bucket bucket --sink-fast --quiet \
        --die-with-parent "$@" &
    pids="$pids $!"
    while [ ! -s "$name.port" ]; do sleep 0.02; done
    port=$(cat "$name.port")
}

# Milliseconds of CPU, user and system, that a command takes.
cpu() {
    sh -c '"$@" >/dev/null 2>&1 || exit 1; times' sh "$@" | awk '
        NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += t[1] * 60 + t[2] } }
        END { if (NR < 2) exit 1; printf "%d\n", s * 1000 }'
}

median() { sort -n | sed -n "$((($1 + 1) / 2))p"; }

# Alternates the commands, so that a noisy moment hits them all: puts FILE.NAME of each.
rounds() { # NAME...: runs the function of that name
    for name; do : >"times.$name"; done
    for _ in $(seq "$ROUNDS"); do
        for name; do "$name" >>"times.$name"; done
    done
}

row() { # TEXT NAME [REFERENCE]
    mine=$(median "$ROUNDS" <"times.$2")
    if [ -z "$mine" ]; then
        echo "$1: failed"
    elif [ -n "${3-}" ] && [ -s "times.$3" ]; then
        ref=$(median "$ROUNDS" <"times.$3")
        awk -v t="$1" -v m="$mine" -v r="$ref" -v mib="$MIB" 'BEGIN {
            printf "%-44s %6.2f s/GiB  %5.2f of curl\n", t, m * 1.024 / mib, r ? m / r : 0 }'
    else
        awk -v t="$1" -v m="$mine" -v mib="$MIB" 'BEGIN {
            printf "%-44s %6.2f s/GiB\n", t, m * 1.024 / mib }'
    fi
}

head -c $((MIB * 1048576)) /dev/urandom >file
cat file >/dev/null

serve plain
plain=http://127.0.0.1:$port
put_none() { cpu "$s3up" put -q -e "$plain" --checksum none file s3://bucket/a; }
put_signed() { cpu "$s3up" put -q -e "$plain" file s3://bucket/b; }
put_curl() { cpu curl -sf -T file "$("$s3up" presign -e "$plain" --put s3://bucket/c)"; }
set -- put_none put_signed
if command -v curl >/dev/null; then set -- "$@" put_curl; else echo 'SKIPPED bench: install curl'; fi
rounds "$@"
echo "CPU of a put of $MIB MiB, medians of $ROUNDS rounds"
if [ -f times.put_curl ]; then row 'http, curl -T' put_curl; fi
row 'http, s3up --checksum none (as curl does)' put_none put_curl
row 'http, s3up, body signed by SHA-256' put_signed put_curl

if ! command -v openssl >/dev/null; then
    echo 'SKIPPED bench: install openssl: no certificate, no https'
    exit 0
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out ca.pem \
    -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
serve tls --cert ca.pem --keyfile key.pem
tls=https://localhost:$port
tls_none() { cpu "$s3up" put -q -e "$tls" --ca-file ca.pem --checksum none file s3://bucket/a; }
tls_curl() {
    cpu curl -sf --tls-max 1.2 --cacert ca.pem -T file \
        "$("$s3up" presign -e "$tls" --put s3://bucket/c)"
}
set -- tls_none
if command -v curl >/dev/null; then set -- "$@" tls_curl; fi
rounds "$@"
if [ -f times.tls_curl ]; then row 'https, curl -T (TLS 1.2)' tls_curl; fi
row 'https, s3up' tls_none tls_curl

shake() { cpu "$call" -e "$tls" -k test:testsecret -c ca.pem -x "$2" -h "$1" buckets; }
full() { shake full 201; }
resumed() { shake resumed 201; }
once() { shake full 1; }
rounds full resumed once
base=$(median "$ROUNDS" <times.once)
for kind in full resumed; do
    awk -v k="$kind" -v m="$(median "$ROUNDS" <times.$kind)" -v b="$base" 'BEGIN {
        printf "CPU of a connection with a %-8s handshake   %6.2f ms (and one small request)\n",
            k, (m - b) / 200 }'
done
