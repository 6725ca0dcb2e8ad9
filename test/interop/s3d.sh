#!/bin/sh
# test/s3d.c, the strict little store that the other tests use: here it must give the same
# answers as the real ones. It speaks either HTTP or TLS, so there are two of it. See lib.sh
# for the verbs.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
root=$(cd "$here/../.." && pwd)
bin=$root/.build/test/s3d-tls

install() {
    apt_install curl curl ca-certificates
    apt_install openssl openssl
    # Under make it has been made already, with whatever make was told.
    if [ "$verb" = install ] && [ -z "${MAKELEVEL-}" ]; then
        make -s -C "$root" ".build/test/${bin##*/}" >&2
    fi
    [ -x "$bin" ] || fatal "${bin##*/} was not built"
}

start() {
    access=S3UPINTEROPACCESSKEY
    secret=s3upInteropSecret/0123+456789abcdefghijk
    make_tls rsa
    cp "$bin" "$dir/s3d"
    mkdir "$dir/http" "$dir/https"
    for scheme in http https; do
        set -- --port "$port"
        [ $scheme = http ] ||
            set -- --port "$tlsport" --cert "$dir/tls/server.pem" --key "$dir/tls/server.key"
        launch $scheme "$dir/s3d" --dir "$dir/$scheme" --key "$access:$secret" \
            --key "VISITOR:$secret:a/session+token==" --virtual-host localhost --quiet "$@"
    done
    wait_for "s3d answers" 20 answers "http://127.0.0.1:$port/"
    wait_for "s3d answers over TLS" 20 answers "https://localhost:$tlsport/"
    cat >"$dir/env" <<C
url='http://127.0.0.1:$port' tls_url='https://localhost:$tlsport' ca='$dir/tls/ca.pem'
access=$access secret='$secret' region=us-east-1
visitor=VISITOR visitor_token=a/session+token== virtual=yes
ctl='$dir/s3d ctl $port'
C
}

# The one that speaks HTTP: there is no other way to tell it.
rekey() {
    # shellcheck disable=SC2154 # of the file env
    echo "$access:$1" | $ctl keys
}

run "$@"
