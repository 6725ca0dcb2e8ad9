#!/bin/sh
# MinIO, built by the Go toolchain from the module proxy, kept outside of the tree. It speaks
# either HTTP or TLS, so there are two of it. See lib.sh for the verbs.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

# RELEASE.2025-09-07T16-13-09Z, as the module proxy names it.
version=v0.0.0-20250907161309-07c3a429bfed
bin=${XDG_CACHE_HOME:-$HOME/.cache}/s3up-interop/minio-$version

install() {
    apt_install curl curl ca-certificates
    apt_install openssl openssl
    [ ! -x "$bin/minio" ] || return 0
    command -v go >/dev/null 2>&1 || fatal "there is no Go to build it with"
    [ "$verb" = install ] || fatal "it is not built (test/interop/run.sh -i minio does that, in minutes)"
    echo "${0##*/}: building MinIO, once; this takes minutes" >&2
    build || fatal "go install github.com/minio/minio@$version fails"
}

# What takes longer than the time given is not worth it; Go goes on from there next time.
build() (
    mkdir -p "${bin%/*}" && new=$(mktemp -d "$bin.XXXXXX") || exit 1
    trap 'rm -rf "$new"' EXIT
    trap 'exit 130' INT TERM HUP
    export CGO_ENABLED=0 GOBIN="$new" GOTMPDIR="$new"
    timeout --foreground 420 go install -ldflags '-s -w' "github.com/minio/minio@$version" \
        >"$new/log" 2>&1 || {
        tail -n 3 "$new/log" >&2
        exit 1
    }
    mkdir -p "$bin" && mv -f "$new/minio" "$bin/minio"
)

start() {
    secret=s3upInteropSecret/0123+456789abcdefghijk
    make_tls ecdsa
    mkdir -p "$dir/certs" "$dir/none"
    cp "$dir/tls/server.pem" "$dir/certs/public.crt"
    cp "$dir/tls/server.key" "$dir/certs/private.key"
    both "http://127.0.0.1:$port" "https://localhost:$tlsport" "$secret"
    cat >"$dir/env" <<C
url='http://127.0.0.1:$port' tls_url='https://localhost:$tlsport' ca='$dir/tls/ca.pem'
access=$MINIO_ROOT_USER secret='$secret' region=eu-interop-1
sts_url='http://127.0.0.1:$port' virtual=yes
differs='mb_again=owned key_dots=refused key_double=refused key_lead=folded
    key_no_utf8=refused key_1024_flat=refused'
C
}

both() { # URL TLSURL SECRET
    export MINIO_ROOT_USER=S3UPINTEROPACCESSKEY MINIO_ROOT_PASSWORD="$3"
    export MINIO_REGION=eu-interop-1 MINIO_DOMAIN=localhost MINIO_BROWSER=off MINIO_UPDATE=off HOME="$dir"
    launch http "$bin/minio" server --address "127.0.0.1:${1##*:}" --certs-dir "$dir/none" \
        "$dir/data-http"
    launch https "$bin/minio" server --address "127.0.0.1:${2##*:}" \
        --certs-dir "$dir/certs" "$dir/data-https"
    wait_for "MinIO answers" 60 ready "$1"
    wait_for "MinIO answers over TLS" 60 ready "$2"
}

# It knows its user's secret from its start.
rekey() {
    stop_all
    # shellcheck disable=SC2154 # of the file env
    both "$url" "$tls_url" "$1"
}

ready() {
    curl -s -f -o "$dir/answer" --cacert "$dir/tls/ca.pem" "$1/minio/health/ready"
}

run "$@"
