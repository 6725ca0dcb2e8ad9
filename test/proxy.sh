#!/bin/sh
# Proxies that help and proxies that do not, redirects that lead astray, and regions: what
# comes out, and what everybody on the way got to see.
#   test/proxy.sh CALL S3D      CALL and S3D are the compiled test/call.c and test/s3d.c
# The tunnel that works needs a server with TLS: an S3D that was built with it, or openssl.
set -u
CALL=$(realpath "$1")
S3D=$(realpath "$2")
W=$(mktemp -d) || exit 1
pids=
trap 'kill -CONT $pids 2>/dev/null; kill $pids 2>/dev/null; wait; rm -rf "$W"' EXIT
trap 'exit 1' INT TERM
cd "$W" || exit 1
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    http_proxy https_proxy HTTP_PROXY HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY; do
    unset "$name"
done
passed=0 failed=0

start() { # NAME [OPTION...]: the port is in the file NAME
    file=$1
    shift
    "$S3D" --dir "$file.d" --port-file "$file" --quiet --heads "$@" >"$file.log" 2>&1 &
    pid=$!
    n=0
    while [ ! -s "$file" ]; do
        n=$((n + 1))
        kill -0 $pid 2>/dev/null && [ $n -lt 1000 ] || return 1
        sleep 0.02
    done
    pids="$pids $pid"
}

at() { # NAME: where it listens
    echo "127.0.0.1:$(cat "$1")"
}

# Runs CALL; $out and $code are what came of it.
call() { # OPTION... OPERATION ARGUMENT...
    out=$(timeout 60 "$CALL" -k AKIDTEST:verysecret -t 5000 -R 1 "$@" 2>&1)
    code=$?
}

fine() {
    passed=$((passed + 1))
}

fail() { # WHAT
    failed=$((failed + 1))
    echo "FAIL proxy: $1"
}

ended() { # WHAT EXIT WORD
    case $code/$out in
    "$2"/*"$3"*) fine ;;
    *) fail "$1: exit $code, expected $2 and \"$3\": $out" ;;
    esac
    case $out in *secret* | *geheim*) fail "$1: it tells a secret: $out" ;; esac
}

heads() { # NAME: what it received since the last look, in small letters
    "$S3D" ctl "@$1" heads | tr 'A-Z\r' 'a-z\n'
    "$S3D" ctl "@$1" reset
}

saw() { # WHAT NAME WORD [NOT-THIS...]: what a server saw has the word, and not the others
    what=$1 name=$2 text=$(heads "$2")
    case $text in *"$3"*) fine ;; *) fail "$what: $name did not see \"$3\": $text" ;; esac
    shift 3
    for word; do
        case $text in *"$word"*) fail "$what: $name saw \"$word\": $text" ;; *) fine ;; esac
    done
}

counted() { # WHAT NAME COUNTER NUMBER
    n=$("$S3D" ctl "@$2" stats "$3")
    if [ "${n:-0}" -eq "$4" ]; then
        fine
    else
        fail "$1: $2 counted $3 ${n:-0}, expected $4"
    fi
}

start origin --key AKIDTEST:verysecret --bucket bucket || exit 1
start proxy --proxy || exit 1
start guarded --proxy --proxy-auth 'user:ge:heim@' || exit 1
start thief --key AKIDTEST:verysecret --bucket bucket || exit 1
credentials='user:ge%3Aheim%40'
basic='proxy-authorization: basic dxnlcjpnztpozwltqa==' # in small letters, like all of it
http=http://$(at origin)
call -e "$http" put bucket key hello
ended "without a proxy" 0 etag
heads origin >/dev/null

# ---- plain http: the whole address is asked for ----

call -e "$http" -p "$(at proxy)" get bucket key
ended "through a proxy" 0 'bytes 5'
saw "through a proxy" proxy "get $http/bucket/key http/1.1" proxy-authorization
saw "through a proxy" origin 'get /bucket/key http/1.1' proxy-authorization
call -e "$http" -p "http://$(at proxy)/" put bucket 'a b/c+d' hello
ended "an odd key through a proxy" 0 etag
saw "an odd key through a proxy" proxy "put $http/bucket/a%20b/c%2bd http/1.1"
call -e "$http" -p "$(at proxy)" list bucket
ended "a list through a proxy" 0 'listed 2'
heads origin >/dev/null
call -e "$http" -p "$(at guarded)" get bucket key
ended "a proxy that asks who we are" 6 407
call -e "$http" -p "user:geheim@$(at guarded)" get bucket key
ended "a proxy, wrong password" 6 407
counted "a proxy, wrong password" origin requests 0
heads guarded >/dev/null
call -e "$http" -p "$credentials@$(at guarded)" get bucket key
ended "a proxy, right password" 0 'bytes 5'
saw "a proxy, right password" guarded "$basic"
saw "a proxy, right password" origin 'get /bucket/key' proxy-authorization
call -e "$http" -p "$credentials@$(at guarded)" -n 127.0.0.0/8 get bucket key
ended "past the proxy" 0 'bytes 5'
saw "past the proxy" origin 'get /bucket/key' proxy-authorization
counted "past the proxy" guarded requests 0
call -e "$http" -p 127.0.0.1:1 get bucket key
ended "a proxy that is not there" 5 'cannot connect to 127.0.0.1 port 1'
call -e http://127.0.0.1:1 -p "$(at proxy)" get bucket key
ended "a proxy that cannot reach the store" 5 502
call -e "$http" -p "https://$credentials@$(at proxy)" get bucket key
ended "a proxy that wants TLS" 2 'plain HTTP only'
counted "a proxy that wants TLS" origin requests 0

# ---- https: a tunnel, in which nobody sees the keys ----

https=https://$(at origin)
while read -r status exit requests; do # what may pass is asked for once more
    "$S3D" ctl @proxy faults "* * connect-refuse=$status"
    "$S3D" ctl @proxy reset
    call -e "$https" -p "$(at proxy)" get bucket key
    ended "a tunnel that is refused with $status" "$exit" "status $status"
    counted "a tunnel that is refused with $status" proxy requests "$requests"
done <<EOF
403 6 1
404 6 1
407 6 1
500 5 2
502 5 2
503 5 2
EOF
while read -r fault word; do
    "$S3D" ctl @proxy faults "* * $fault n=2"
    call -e "$https" -p "$(at proxy)" get bucket key
    ended "a tunnel with $fault" 5 "$word"
done <<'T'
connect-huge-head head of more than
many-heads=500 too many fields
cut-head in the middle of its reply
drop without a reply
reset-before connection
T
"$S3D" ctl @proxy faults ''
call -e https://127.0.0.1:1 -p "$(at proxy)" get bucket key
ended "a tunnel to nowhere" 5 'status 502'
start mute --proxy || exit 1
kill -STOP "$pid"
call -R 0 -t 1000 -e "$https" -p "$(at mute)" get bucket key
ended "a proxy that says nothing" 5 'nothing came'
kill -CONT "$pid"

# What the proxy is told: where to go, and its own password. The store at the end speaks no
# TLS and waits for more of what it takes for a head.
heads proxy >/dev/null
heads guarded >/dev/null
call -R 0 -t 1000 -e "$https" -p "$(at proxy)" get bucket key
ended "a tunnel to a store without TLS" 5 TLS
saw "a tunnel" proxy "connect $(at origin) http/1.1" authorization x-amz bucket akidtest
call -R 0 -t 1000 -e "$https" -p "$credentials@$(at guarded)" get bucket key
ended "a tunnel with a password" 5 TLS
saw "a tunnel with a password" guarded "$basic" '
authorization' x-amz bucket akidtest
call -R 0 -e "$https" -p "user:geheim@$(at guarded)" get bucket key
ended "a tunnel, wrong password" 6 'asks for a user and password'

# localhost, 127.0.0.1 and ::1 until 2099; made for this test, worth nothing.
cat >cert.pem <<'P'
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAOo5EPct7NAEF0V
HMpkGWNpdzxOyzJRGppWJVU525+lpyX+VIITOmDH/54vDOR24j+wfr97ANLvSC08
NbZ0PXqjYDBeMA8GA1UdEwEB/wQFMAMBAf8wLAYDVR0RBCUwI4IJbG9jYWxob3N0
hwR/AAABhxAAAAAAAAAAAAAAAAAAAAABMB0GA1UdDgQWBBQhA3xEUopBeEkO8ogc
OnJDBwpPlTAKBggqhkjOPQQDAgNIADBFAiAsJViKF0mqwsw0UkL6TH26juS9gUB+
qHhsilCwQfQ0ngIhAL0L703a7mdIrJpFZ8jw/7QFR8+2wquGjmTo7NFHUy2S
-----END CERTIFICATE-----
P
cat >key.pem <<'P'
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIH+ow8eXPafbVwqd37zGeKuuhJKesEG1AnFZaDv0R/t4oAoGCCqGSM49
AwEHoUQDQgAEA6jkQ9y3s0AQXRUcymQZY2l3PE7LMlEamlYlVTnbn6WnJf5UghM6
YMf/ni8M5HbiP7B+v3sA0u9ILTw1tnQ9eg==
-----END EC PRIVATE KEY-----
P
tunnel() { # WHAT: three calls on one connection
    heads guarded >/dev/null
    call -e "https://localhost:$(cat secure)" -c cert.pem -p "$credentials@$(at guarded)" -x 3 get bucket key
    ended "$1" 0 'bytes 5'
    saw "$1" guarded "connect localhost:$(cat secure) http/1.1" '
authorization' x-amz bucket akidtest
}
if start secure --cert cert.pem --key key.pem --key AKIDTEST:verysecret --bucket bucket; then
    call -e "https://localhost:$(cat secure)" -c cert.pem put bucket key hello
    ended "TLS without a proxy" 0 etag
    "$S3D" ctl @secure reset
    tunnel "a tunnel with TLS"
    counted "a tunnel with TLS" secure connections 1
    counted "a tunnel with TLS" secure requests 3
    saw "a tunnel with TLS" secure 'get /bucket/key http/1.1' proxy-authorization
elif command -v openssl >/dev/null; then
    mkdir bucket
    printf hello >bucket/key
    port=$((20000 + $$ % 20000))
    for n in 1 2 3 4 5 6 7 8 9; do # s_server cannot say which port it got
        port=$((port + 1))
        openssl s_server -accept "$port" -cert cert.pem -key key.pem -WWW -quiet >secure.log 2>&1 &
        pid=$!
        n=0
        while kill -0 $pid 2>/dev/null && [ $n -lt 200 ]; do
            openssl s_client -connect "localhost:$port" </dev/null 2>&1 | grep -q '^CONNECTED' && break 2
            n=$((n + 1))
            sleep 0.02
        done
    done
    pids="$pids $pid"
    echo $port >secure
    tunnel "a tunnel with TLS"
else
    echo "SKIPPED proxy: a tunnel that works: build S3D with TLS, or install openssl"
fi

# ---- the environment ----

environment() { # WHAT ENDPOINT WHO VARIABLE=VALUE...: WHO is asked, and nobody else
    what=$1 endpoint=$2 who=$3
    shift 3
    for name in origin proxy guarded; do "$S3D" ctl @$name reset; done
    out=$(timeout 60 env "$@" "$CALL" -k AKIDTEST:verysecret -t 600 -R 0 -e "$endpoint" get bucket key 2>&1)
    for name in proxy guarded; do
        [ $name = "$who" ] && n=1 || n=0
        counted "$what" $name requests "$n"
    done
}
environment "no variable" "$http" none NOTHING=
environment "http_proxy" "$http" proxy "http_proxy=http://$(at proxy)"
environment "http_proxy without a scheme" "$http" proxy "http_proxy=$(at proxy)"
environment "HTTP_PROXY in capitals" "$http" none "HTTP_PROXY=http://$(at proxy)"
environment "https_proxy for http" "$http" none "https_proxy=http://$(at proxy)"
environment "https_proxy" "$https" proxy "https_proxy=http://$(at proxy)"
environment "HTTPS_PROXY" "$https" proxy "HTTPS_PROXY=http://$(at proxy)"
environment "small letters first" "$https" guarded "HTTPS_PROXY=$(at proxy)" "https_proxy=$(at guarded)"
environment "http_proxy for https" "$https" none "http_proxy=http://$(at proxy)"
environment "no_proxy" "$http" none "http_proxy=$(at proxy)" no_proxy=localhost,127.0.0.1
environment "NO_PROXY" "$http" none "http_proxy=$(at proxy)" NO_PROXY=127.0.0.0/8
environment "no_proxy for others" "$http" proxy "http_proxy=$(at proxy)" no_proxy=example.com
environment "no_proxy for all" "$https" none "https_proxy=$(at proxy)" no_proxy='*'
environment "an empty variable" "$http" none http_proxy=

# ---- redirects: an address in a reply is never followed ----

heads thief >/dev/null
head -c 300000 /dev/zero >big
for operation in 'get bucket key' 'head bucket key' 'put bucket key hello' 'put bucket big @big' 'list bucket' \
    'delete bucket key' 'copy bucket/key bucket other' 'upload bucket multi - hello'; do
    "$S3D" ctl @origin faults "* * redirect-307=http://$(at thief)/bucket/key"
    # shellcheck disable=SC2086
    call -e "$http" $operation
    ended "307 for $operation" 2 ''
done
"$S3D" ctl @origin faults ''
counted "redirects" thief requests 0
counted "redirects" thief connections 0

# ---- regions ----

start europe --region eu-west-1 --key AKIDTEST:verysecret --bucket bucket || exit 1
europe=http://$(at europe)
call -e "$europe" -r eu-west-1 put bucket key hello
ended "the right region" 0 etag
heads europe >/dev/null
call -e "$europe" -x 2 get bucket key
ended "another region, found" 0 'bytes 5'
counted "another region, remembered" europe requests 3
counted "another region, on one connection" europe connections 1
saw "another region" europe '/eu-west-1/s3/aws4_request'
call -e "$europe" -x 2 head bucket key
ended "another region, HEAD" 0 'length 5'
counted "another region, HEAD" europe op.HeadObject 3
counted "another region, HEAD" europe requests 5 # a HEAD is refused without a word
heads europe >/dev/null
call -e "$europe" list bucket
ended "another region, list" 0 'listed 1'
call -e "$europe" put bucket big @big
ended "another region, a body from a file" 0 etag
call -e "$europe" buckets
ended "another region, no bucket to tell it" 2 'is --region right'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
