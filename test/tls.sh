#!/bin/sh
# TLS: certificates made here, shown by openssl s_server, judged by s3up. Every case names
# the exit code and a word of the message that a person gets. Needs openssl.
#   test/tls.sh CALL        CALL is the compiled test/call.c
set -u
CALL=$(realpath "$1")
command -v openssl >/dev/null || { echo "SKIPPED tls: install openssl"; exit 0; }
W=$(mktemp -d) || exit 1
pids=
trap 'kill $pids 2>/dev/null; wait; rm -rf "$W"' EXIT
trap 'exit 1' INT TERM
cd "$W" || exit 1
passed=0 failed=0

# ---- a small authority ----

cat >ca.cnf <<'C'
[ca]
default_ca = here
[here]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
C

key() { # NAME KIND
    case $2 in
    rsa*) openssl genrsa -out "$1.key" "${2#rsa}" ;;
    *) openssl ecparam -name "$2" -genkey -noout -out "$1.key" ;;
    esac 2>/dev/null
}

root() { # NAME KIND
    key "$1" "$2"
    openssl req -x509 -new -key "$1.key" -sha384 -days 3650 -subj "/CN=$1" -config ca.cnf \
        -extensions root -out "$1.pem" 2>/dev/null
}

# From a root, or from an authority below it: leaf NAME KIND ISSUER SAN [START END [EXT]]
leaf() {
    key "$1" "$2"
    printf 'subjectAltName = %s\n%s\n' "$4" "${7-}" >"$1.ext"
    : >index.txt
    openssl rand -hex 8 >serial
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr" 2>/dev/null
    openssl ca -batch -config ca.cnf -cert "$3.pem" -keyfile "$3.key" -in "$1.csr" -notext \
        -startdate "${5:-20200101000000Z}" -enddate "${6:-20991231235959Z}" \
        -extfile "$1.ext" -out "$1.pem" >/dev/null 2>&1 || echo "cannot make $1" >&2
}

root root rsa2048
root root384 secp384r1
root stranger prime256v1
leaf good rsa2048 root DNS:localhost
leaf elliptic prime256v1 root384 DNS:localhost
leaf strong secp384r1 root384 DNS:localhost
leaf weak rsa1024 root DNS:localhost
leaf old rsa2048 root DNS:localhost 20200101000000Z 20210101000000Z
leaf early rsa2048 root DNS:localhost 20900101000000Z 20991231235959Z
leaf elsewhere rsa2048 root DNS:example.com
leaf address rsa2048 root IP:127.0.0.1
leaf address6 rsa2048 root IP:::1
leaf otherip rsa2048 root IP:127.0.0.2
leaf wild rsa2048 root 'DNS:*.wild.test'
leaf unknown prime256v1 stranger DNS:localhost
leaf middle secp384r1 root384 DNS:x 20200101000000Z 20991231235959Z \
    'basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign'
leaf deep prime256v1 middle DNS:localhost
openssl req -x509 -newkey rsa:2048 -nodes -keyout lone.key -out lone.pem -days 3650 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat root.pem root384.pem >roots.pem

# ---- servers ----

# A server of one certificate on a free port: it is found by trying, since s_server cannot
# say which port it got.
port=$((20000 + $$ % 20000))
serve() { # NAME [OPTION...]
    name=$1
    shift
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        port=$((port + 1))
        openssl s_server -accept "$port" -cert "$name.pem" -key "$name.key" -WWW -quiet \
            "$@" >server.log 2>&1 &
        pid=$!
        n=0
        while kill -0 $pid 2>/dev/null && [ $n -lt 200 ]; do
            if openssl s_client -connect "localhost:$port" </dev/null 2>&1 |
                grep -q '^CONNECTED'; then
                pids="$pids $pid"
                return 0
            fi
            n=$((n + 1))
            sleep 0.02
        done
    done
    echo "no server for $name" >&2
    return 1
}

verdict() { # WHAT EXIT WORD: looks at $code and $out
    if [ "$code" -eq "$2" ] && printf %s "$out" | grep -q -- "$3"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL tls: $1: exit $code, expected $2 and \"$3\": $out"
    fi
}

# s_server -WWW serves the files of this folder, which is all that is needed here.
mkdir -p bucket
echo content >bucket/key

try() { # WHAT EXIT WORD HOST [CALL-OPTION...]
    what=$1 want=$2 word=$3 host=$4
    shift 4
    out=$(timeout 20 "$CALL" -R 0 -t 5000 -c roots.pem -e "https://$host:$port" "$@" \
        get bucket key 2>&1)
    code=$?
    verdict "$what" "$want" "$word"
}

unset AWS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR http_proxy https_proxy HTTPS_PROXY no_proxy

serve good -tls1_2
try "RSA certificate, TLS 1.2" 0 'bytes 8' localhost
try "unknown root file" 6 'unknown here' localhost -c stranger.pem
try "a file without certificates" 2 'no certificate' localhost -c ca.cnf
try "no such file of roots" 4 'nowhere' localhost -c nowhere.pem
try "a name's certificate for an address" 6 'another host' 127.0.0.1
serve good
try "a server that prefers TLS 1.3 but takes 1.2" 0 'bytes 8' localhost
serve good -tls1_3
try "TLS 1.3 only" 6 'TLS 1.3' localhost
serve good -tls1_2 -cipher AES128-SHA
try "no cipher in common" 6 'cipher' localhost
serve good -tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305
try "ChaCha20-Poly1305" 0 'bytes 8' localhost
serve good -tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384
try "AES-256-GCM" 0 'bytes 8' localhost
serve elliptic
try "EC certificate under a P-384 root" 0 'bytes 8' localhost
serve strong
try "P-384 certificate" 0 'bytes 8' localhost
serve deep -cert_chain middle.pem
try "a chain with an authority between" 0 'bytes 8' localhost
serve weak -cipher ALL:@SECLEVEL=0
try "RSA of 1024 bits" 6 '2048 bits' localhost
serve old
try "expired" 6 'expired' localhost
serve early
try "not yet valid" 6 'not yet valid' localhost
serve elsewhere
try "another name" 6 'another host' localhost
serve address
try "IPv4 address, right" 0 'bytes 8' 127.0.0.1
serve otherip
try "IPv4 address, wrong" 6 'another host' 127.0.0.1
if command -v python3 >/dev/null; then
    # Names that nobody can look up here are reached through a proxy that leads all home.
    cat >proxy.py <<'P'
import socket, threading
def pump(a, b):
    try:
        while (data := a.recv(65536)):
            b.sendall(data)
    except OSError:
        pass
    for end in (a, b): # s_server serves one at a time: none may be left hanging
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve(c):
    head = b""
    while b"\r\n\r\n" not in head:
        head += c.recv(4096)
    port = int(head.split(b" ")[1].rsplit(b":", 1)[1])
    o = socket.create_connection(("127.0.0.1", port))
    c.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    threading.Thread(target=pump, args=(o, c), daemon=True).start()
    pump(c, o)
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(9)
print(s.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
P
    python3 proxy.py >port.proxy 2>/dev/null &
    pids="$pids $!"
    n=0
    while [ ! -s port.proxy ] && [ $n -lt 200 ]; do sleep 0.02; n=$((n + 1)); done
    proxy=127.0.0.1:$(cat port.proxy)
    serve wild
    try "wildcard: one label" 0 'bytes 8' s3.wild.test -p "$proxy"
    try "wildcard: not two labels" 6 'another host' a.s3.wild.test -p "$proxy"
    try "wildcard: not none" 6 'another host' wild.test -p "$proxy"
else
    echo "SKIPPED tls: wildcards: install python3"
fi
serve unknown
try "unknown issuer" 6 'unknown here' localhost
serve lone
try "self-signed" 6 'unknown here' localhost
try "self-signed and trusted" 0 'bytes 8' localhost -c lone.pem

if openssl s_client -connect '[::1]:1' </dev/null 2>&1 | grep -q 'refused'; then
    serve address6
    out=$(timeout 20 "$CALL" -R 0 -c roots.pem -e "https://[::1]:$port" get bucket key 2>&1)
    code=$?
    verdict "IPv6 address, right" 0 'bytes 8'
fi

# ---- a server that wants to negotiate once more ----

# s_server does so when it is told to by its input, once the request is there.
port=$((port + 1))
mkfifo orders
openssl s_server -accept "$port" -cert good.pem -key good.key -tls1_2 -state <orders >again.log 2>&1 &
pids="$pids $!"
exec 3<>orders
n=0
until openssl s_client -connect "localhost:$port" </dev/null 2>&1 | grep -q '^CONNECTED' || [ $n -ge 200 ]; do
    n=$((n + 1))
    sleep 0.02
done
timeout 20 "$CALL" -R 0 -t 5000 -c roots.pem -e "https://localhost:$port" get bucket key >again.out 2>&1 &
pid=$!
n=0
until grep -q '^GET /bucket/key' again.log || [ $n -ge 500 ]; do
    n=$((n + 1))
    sleep 0.02
done
printf 'r\n' >&3
wait $pid
code=$?
exec 3>&-
# The server hears a no, and takes it badly.
out="$(cat again.out) $(grep 'read:warning' again.log)"
verdict "renegotiation" 5 'read:warning:no renegotiation'

# ---- servers that are none ----

if command -v python3 >/dev/null; then
    cat >liar.py <<'P'
import socket, sys, threading
answers = {"garbage": b"\x00\x01\x02not TLS at all" * 20, "http": b"HTTP/1.1 400 Bad\r\n\r\n",
           "cut": b"\x16\x03\x03\x40\x00\x02\x00", "close": b"",
           "huge": b"\x16\x03\x03\x3f\xff\x02\xff\xff\xff" + b"A" * 20000}
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
print(s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept(); c.recv(4096)
    if sys.argv[1] == "silent":
        threading.Event().wait()
    c.sendall(answers[sys.argv[1]]); c.close()
P
    for kind in garbage http cut close huge silent; do
        python3 liar.py $kind >port.$kind &
        pids="$pids $!"
        n=0
        while [ ! -s port.$kind ] && [ $n -lt 200 ]; do sleep 0.02; n=$((n + 1)); done
        port=$(cat port.$kind)
        case $kind in
        garbage | http | huge) word='proper TLS' ;;
        silent) word='in time' ;;
        *) word='ended the connection' ;;
        esac
        try "a server that answers with $kind" 5 "$word" localhost -t 1000
    done
else
    echo "SKIPPED tls: lying servers: install python3"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
