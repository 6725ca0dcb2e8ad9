#!/bin/sh
# bench_wire.sh S3UP TOOLS: what the wire costs: the CPU of a GiB that is put over http and
# https, in one request and in parts, beside peers and beside what nothing can go below; the
# CPU of a TLS handshake, full and resumed. For https openssl makes the certificate.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"
MIB=${MIB:-512}
GIB="v * 1.024 / $MIB" # of milliseconds for $MIB MiB

# Every program puts `file` to $url.
one() { cpu "$s3up" put -q -e "$url" "$@" --part-size 4G file s3://bucket/a; }
parts() { cpu "$s3up" put -q -e "$url" "$@" -j 8 --part-size 16M file s3://bucket/a; }
one_none() { one --checksum none; }
one_usual() { one; }
parts_none() { parts --checksum none; }
parts_usual() { parts; }
put_curl() {
    cpu "$CURL" -qsf -T file --user test:testsecret --aws-sigv4 aws:amz:us-east-1:s3 \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$url/bucket/b"
}
put_s5cmd() {
    cpu "$S5CMD" --endpoint-url "$url" cp --concurrency 8 --part-size 16 file s3://bucket/c
}
put_rclone() {
    cpu "$RCLONE" copyto --s3-upload-concurrency 8 --s3-chunk-size 16M \
        --s3-upload-cutoff 16M file :s3:bucket/d
}
put_awscli() { cpu "$AWSCLI" --ca-bundle "$W/ca.pem" --endpoint-url "$url" s3 cp file s3://bucket/e; }
presigned() { # METHOD...
    "$s3up" presign -e "$url" --put s3://bucket/f | sed 's|^[a-z]*://[^/]*||'
}
floor_http() { cpu "$tools/floor" "$port" "$(presigned)" file; }
floor_https() {
    {
        printf 'PUT %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n' \
            "$(presigned)" "$port"
        printf 'Content-Length: %d\r\n\r\n' $((MIB * 1048576))
        cat file
    } >request
    # shellcheck disable=SC2016 # another shell's
    cpu sh -c 'openssl s_client -quiet -tls1_2 -CAfile ca.pem -connect "127.0.0.1:$0" <request |
        grep -q "200 OK"' "$port"
}

measure() { # SCHEME FLOOR TEXT
    set -- "$1" "$2" "$3" one_none one_usual parts_none parts_usual
    ! has "$CURL" || set -- "$@" put_curl
    ! has "$S5CMD" || set -- "$@" put_s5cmd
    ! has "$RCLONE" || set -- "$@" put_rclone
    ! has "$AWSCLI" || set -- "$@" put_awscli
    what=$1 floor=$2 text=$3
    shift 3
    rounds "$floor" "$@"
    echo "CPU of a put over $what, $MIB MiB (to hold: below every peer; 1.50 of the floor)"
    line "one request: s3up --checksum none" one_none "$GIB" s/GiB
    line "one request: s3up" one_usual "$GIB" s/GiB
    line "floor: $text" "$floor" "$GIB" s/GiB one_none
    [ ! -f put_curl.median ] || line 'curl, unsigned payload' put_curl "$GIB" s/GiB one_none
    line "8 jobs, parts of 16 MiB: s3up --checksum none" parts_none "$GIB" s/GiB
    line "8 jobs, parts of 16 MiB: s3up" parts_usual "$GIB" s/GiB
    for name; do
        case $name in
        put_s5cmd | put_rclone | put_awscli)
            line "${name#put_}" "$name" "$GIB" s/GiB parts_usual
            ;;
        esac
    done
}

head -c $((MIB * 1048576)) /dev/urandom >file
cat file >/dev/null
serve plain
measure http floor_http 'a bare sendfile'

if ! command -v openssl >/dev/null; then
    echo 'SKIPPED bench: there is no openssl: no certificate, no https'
    exit 0
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out ca.pem \
    -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
export SSL_CERT_FILE="$W/ca.pem"
serve tls --cert ca.pem --keyfile key.pem
measure https floor_https 'openssl s_client'

shake() { cpu "$tools/call" -e "$url" -k test:testsecret -c ca.pem -x "$2" -h "$1" buckets; }
full() { shake full 201; }
resumed() { shake resumed 201; }
once() { shake full 1; }
rounds full resumed once
echo 'CPU of a connection with a handshake, and one small request'
for kind in full resumed; do
    line $kind $kind "(v - $(cat once.median)) / 200" ms
done
