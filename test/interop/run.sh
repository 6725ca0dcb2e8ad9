#!/bin/sh
# s3up against real stores: each is started on loopback, goes through the cases of cases.sh
# over HTTP and over TLS, and is thrown away. One line for each failure; at the end, what was
# skipped and "N passed, M failed".
#   test/interop/run.sh -i [rgw|swift|minio|s3d ...]       get what is missing, and no more
#   test/interop/run.sh [-v] [rgw|swift|minio|s3d ...]     -v: the table, and what it took
# With -i, apt-get installs if we are root, and Go builds MinIO if there is a Go, to be kept in
# ${XDG_CACHE_HOME:-~/.cache}/s3up-interop. Without it nothing is installed, so that stores
# may be tested side by side; what is missing is skipped, and said so.
# S3UP=FILE tests another s3up. CASES='mb killed' runs these alone. ODD=1100 is how many odd names
# the tree of `tree` has, 200 or more; without it RGW gets 10,000, and MinIO 500. TMPDIR wants
# 8 GiB for each store; Swift, user xattrs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
S3UP=${S3UP:-$root/s3up}
[ -x "$S3UP" ] || {
    echo "there is no $S3UP: run make" >&2
    exit 2
}
S3UP=$(realpath "$S3UP")
verbose='' mode=look
[ "${1-}" != -i ] || { mode=install && shift; }
[ "${1-}" != -v ] || { verbose=1 && shift; }
for server in "$@"; do
    [ -x "$here/$server.sh" ] || {
        echo "run.sh [-i] [-v] [rgw|swift|minio|s3d ...]" >&2
        exit 2
    }
done
[ $# -gt 0 ] || set -- rgw swift minio s3d

W=$(mktemp -d) || exit 1
passed=0 failed=0 running='' proxy='' installer='' beside=''
: >"$W/table"
: >"$W/skipped"
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

leave() {
    [ -z "$beside" ] || kill -s KILL -- "-$beside" 2>/dev/null
    [ -z "$proxy" ] || kill "$proxy" 2>/dev/null
    [ -z "$installer" ] || { kill -s TERM -- "-$installer" && wait "$installer"; } 2>/dev/null
    [ -z "$running" ] || "$here/$running.sh" stop "$W/$running"
    rm -rf "$W"
}

# ---- what is judged, and how it is counted ----

failure() {
    failed=$((failed + 1))
    cell=FAIL
    printf '%s' "FAIL $server $scheme $case: $*" | tr '\n' ' ' | cat -v |
        sed 's/0000000000*/0000.../g; s/\(.\{500\}\).*/\1 .../'
    echo
}

check() { # WHAT CODE: 0 is good
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failure "$1"
        return 1
    fi
}

is() { # WHAT FOUND EXPECTED
    [ "$2" = "$3" ]
    check "$1 is \"$2\", expected \"$3\"" $?
}

# The exit code of the last s3up, and a pattern that its message must have: want CODE [WORD]
want() {
    [ "$code" = "$1" ]
    check "s3up $did: exit $code, expected $1: $(tail -n 2 "$W/err")" $? || return 1
    [ -z "${2-}" ] || has err "$2"
}

has() { # out|err PATTERN
    grep -q -e "$2" "$W/$1"
    check "s3up $did: no \"$2\" in its std$1: $(head -n 20 "$W/$1")" $?
}

hasnt() { # out|err PATTERN
    ! grep -q -e "$2" "$W/$1"
    check "s3up $did: \"$2\" in its std$1" $?
}

empty() {
    [ ! -s "$W/$1" ]
    check "s3up $did: its std$1 is not empty: $(head -n 1 "$W/$1")" $?
}

same() { # FILE FILE
    cmp -s "$1" "$2"
    check "s3up $did: ${1##*/} and ${2##*/} differ" $?
}

# Where stores differ: what this one did. Its script says what it is known for, in `differs`
# as CASE=WORD; what is not said there is ok. - stands for a case that does not apply.
outcome() {
    cell=$1
    [ "$1" != - ] || return 0
    expected=ok
    for known in ${differs-}; do
        [ "${known%%=*}" != "$case" ] || expected=${known#*=}
    done
    is "what the store does" "$1" "$expected"
    return 0
}

skip() {
    cell=skip
    echo "SKIPPED $case: $*" >>"$W/skipped"
}

# ---- clients, against the store at hand: $at, $access, $secret, $region, $ca ----

call() { # [VARIABLE=VALUE...] PROGRAM...: s3up and its like; leaves out, err, code
    # shellcheck disable=SC2086 # with holds words
    timeout --foreground 300 env $with "$@" >"$W/out" 2>"$W/err"
    code=$?
}

s3_at() { # URL VERB...
    at_url=$1
    verb=$2
    shift 2
    did="$verb $*"
    if [ "$scheme" = http ] || [ "$verb" = presign ]; then
        call "$S3UP" "$verb" -e "$at_url" "$@"
    else
        call "$S3UP" "$verb" -e "$at_url" --ca-file "$ca" "$@"
    fi
}

s3() { s3_at "$at" "$@"; }

# s3up without the keys in the environment.
own() {
    did="$* (with $with)"
    # shellcheck disable=SC2086 # with holds words
    call env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_REGION \
        $with "$S3UP" "$@"
}

# s3up on a machine that knows the names of our buckets.
in_names() {
    verb=$1
    shift
    did="$verb $*"
    # shellcheck disable=SC2016,SC2086 # the inner shell expands it; names holds words
    call $names sh -c 'mount --bind "$1" /etc/hosts && shift && exec "$@"' sh "$W/hosts" \
        "$S3UP" "$verb" -e "$at" --ca-file "$ca" "$@"
}

curl_to() { # URL [OPTION...]: leaves body and status
    link_to=$1
    shift
    : >"$W/body"
    status=$(curl -s -g --path-as-is --cacert "$ca" -o "$W/body" -w '%{http_code}' \
        --max-time 120 "$@" "$link_to")
}

aws_to() {
    call env AWS_CA_BUNDLE="$ca" "$aws" --endpoint-url "$at" "$@"
}

s3cmd_to() {
    call "$s3cmd" --no-progress -c "$W/s3cmd.cfg" "$@"
}

# shellcheck source=parts.sh
. "$here/parts.sh"
# shellcheck source=trees.sh
. "$here/trees.sh"
# shellcheck source=cases.sh
. "$here/cases.sh"

# ---- before the first store: programs ----

now() { date +%s; }

program_begun=$(now)
servers=
for server in "$@"; do
    if [ $mode = install ]; then
        # It may take minutes. A shell that waits hears of a signal at once, and hands it on.
        env --default-signal=INT setsid "$here/$server.sh" install &
        installer=$!
        wait $installer
        installer=
    elif "$here/$server.sh" look 2>"$W/why"; then
        servers="$servers $server"
    else
        cat "$W/why" >&2
        echo "SKIPPED $server: $(tail -n 1 "$W/why")" >>"$W/skipped"
    fi
done

# As root, from Debian; aws-cli else into a venv of its own. The environment is still whole:
# it may say how the network is reached.
# shellcheck source=lib.sh
client() ( # PROGRAM PACKAGE
    . "$here/lib.sh"
    # shellcheck disable=SC2034 # apt_install looks there
    verb=$mode
    apt_install "$1" "$2"
)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/s3up-interop
aws_works() {
    env -i PATH="$PATH" HOME="$W" "$aws" --version >/dev/null 2>&1
}
aws_venv() {
    [ $mode = install ] && python3 -m venv "$tools/aws" && "$tools/aws/bin/pip" install -q awscli
}
client s3cmd s3cmd
s3cmd=$(command -v s3cmd) || s3cmd=
aws=$(command -v aws) || aws=
aws_works || aws=$tools/aws/bin/aws
aws_works || { client awscli-of-debian awscli 2>"$W/why" && aws=/usr/bin/aws; }
aws_works || { aws=$tools/aws/bin/aws && aws_venv >"$W/why" 2>&1; }
aws_works || aws=
"$here/s3d.sh" $mode # it is a proxy, too
[ $mode = look ] || exit 0
[ "$servers" ] || {
    cat "$W/skipped"
    echo "0 passed, 0 failed"
    exit 0
}
installed=$(($(now) - program_begun))

# ---- before the first store: a clean world ----

for name in $(env | sed -n 's/^\(AWS_[A-Za-z0-9_]*\|S3UP_[A-Z_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY \
    CURL_CA_BUNDLE REQUESTS_CA_BUNDLE XDG_STATE_HOME XDG_CACHE_HOME XDG_CONFIG_HOME; do
    [ "$name" = S3UP ] || unset "$name"
done
cache=$tools/..
export S3UP_STATE_DIR="$W/state" XDG_CACHE_HOME="$cache" HOME="$W/home" LC_ALL=C.UTF-8 TZ=UTC
mkdir -p "$HOME/.aws" "$W/many" "$W/tree/un der"

stream() { # BYTES that no compression and no sparse file can hide
    head -c "$1" /dev/zero | openssl enc -aes-128-ctr -nosalt -iv 00 -K 5333 2>/dev/null
}
: >"$W/empty"
printf x >"$W/one"
printf 'a line\nanother, without an end' >"$W/text"
stream 5242880 >"$W/five"
stream 67108864 >"$W/large"
cp "$W/text" "$W/tree/plain.txt"
stream 70000 >"$W/tree/un der/a+b%c ü.bin"
stream 16000000 >"$W/tree/parts.bin"
number=0
while [ $number -lt 2100 ]; do
    number=$((number + 1))
    echo $number >"$W/many/o$number"
done
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$W/other.key" -out "$W/other.pem" \
    -days 3650 -subj /CN=other 2>/dev/null

{ cat /etc/hosts && echo 127.0.0.1 interop.localhost interop-virtual.localhost; } >"$W/hosts"
names=
for how in 'unshare -m' 'unshare -rm'; do
    # shellcheck disable=SC2086 # several words
    [ "$names" ] || ! $how mount --bind "$W/hosts" /etc/hosts 2>/dev/null || names=$how
done

# Forty ports in a row that nobody listens on, below those that the system gives away, and
# others for each store: they may be started at the same time.
free_ports() { # STORE
    case $1 in rgw) first=20000 ;; swift) first=23000 ;; minio) first=26000 ;; *) first=29000 ;; esac
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v at=$((first + ($$ + $(now)) * 41 % 2900)) '
        function hex(s, n, i) {
            for (i = 1; i <= length(s); i++)
                n = n * 16 + index("0123456789ABCDEF", substr(s, i, 1)) - 1
            return n
        }
        { n = split($2, part, ":"); used[hex(part[n])] = 1 }
        END {
            for (p = at; p < at + 40; p++)
                if (used[p]) { at = p + 1 }
            print at
        }'
}

# A proxy that stands between, for connections that break.
if [ -x "$root/.build/test/s3d-tls" ]; then
    cp "$root/.build/test/s3d-tls" "$W/s3d-proxy"
    "$W/s3d-proxy" --proxy --dir "$W/proxied" --port-file "$W/proxy-port" --die-with-parent \
        --quiet &
    proxy=$!
    until [ -s "$W/proxy-port" ] || ! kill -0 $proxy 2>/dev/null; do sleep 0.02; done
fi

# ---- the stores ----

for server in $servers; do
    since=$(now)
    scheme='' case=start running=$server started=''
    for attempt in 1 2 3; do # somebody else may take a port that was free a moment ago
        port=$(free_ports "$server")
        rm -rf "${W:?}/$server"
        "$here/$server.sh" start "$W/$server" "$port" $((port + 20)) 2>"$W/why" &&
            started=$attempt && break
    done
    if [ -z "$started" ]; then
        failure "$(tail -n 3 "$W/why")"
        running=
        continue
    fi
    differs='' visitor='' visitor_token='' sts_url='' sts_role='' virtual='' ctl='' access_log=''
    url='' tls_url='' ca='' access='' secret='' region=''
    # shellcheck source=/dev/null
    . "$W/$server/env"
    export AWS_ACCESS_KEY_ID="$access" AWS_SECRET_ACCESS_KEY="$secret" AWS_REGION="$region" \
        AWS_DEFAULT_REGION="$region" AWS_EC2_METADATA_DISABLED=true \
        AWS_REQUEST_CHECKSUM_CALCULATION=when_required \
        AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
    for scheme in http https; do
        at=$url
        [ $scheme = http ] || at=$tls_url
        printf '%s\n' '[default]' "access_key = $access" "secret_key = $secret" \
            "host_base = ${at#*//}" "host_bucket = ${at#*//}" "bucket_location = $region" \
            "use_https = $([ $scheme = http ] && echo False || echo True)" \
            "ca_certs_file = $ca" 'multipart_chunk_size_mb = 7' >"$W/s3cmd.cfg"
        for case in ${CASES:-$cases}; do
            cell=ok with='' case_begun=$(now)
            "case_$case"
            echo "$case $server-$scheme $cell $(($(now) - case_begun))" >>"$W/table"
        done
    done
    "$here/$server.sh" stop "$W/$server"
    running=
    rm -rf "${W:?}/$server"
    [ -z "$verbose" ] || echo "$server: $(($(now) - since)) s"
done

# ---- what came of it ----

if [ "$verbose" ]; then
    echo
    awk '
        !($2 in column) { column[$2] = ++columns; name[columns] = $2 }
        !($1 in row) { row[$1] = ++rows; title[rows] = $1 }
        { cell[$1, $2] = $3 ($4 > 1 ? ", " $4 " s" : "") }
        END {
            printf "%-20s", ""
            for (c = 1; c <= columns; c++) printf "%-13s", name[c]
            print ""
            for (r = 1; r <= rows; r++) {
                printf "%-20s", title[r]
                for (c = 1; c <= columns; c++) printf "%-13s", cell[title[r], name[c]]
                print ""
            }
        }' "$W/table"
    echo
    echo "$(($(now) - program_begun)) s, $installed of them before the first store"
fi
sort -u "$W/skipped"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
