#!/bin/sh
# lib.sh: what suites that run s3up against a store have in common. The suite sources it
# with its own arguments, S3UP S3D [SECTION...]; what is left of them are the sections.
#
# Each section runs in a subshell and an empty folder of its own, so that what it exports,
# changes or leaves behind ends with it. What s3up said last is in $T/out and $T/err; all
# that it ever says is kept in $W/said, and at the end no secret may stand there.
set -u
LC_ALL=C
export LC_ALL
[ $# -ge 2 ] || { echo "usage: $0 S3UP S3D [SECTION...]" >&2; exit 2; }
S3UP=$(cd "$(dirname "$1")" && pwd)/${1##*/}
S3D=$(cd "$(dirname "$2")" && pwd)/${2##*/}
shift 2
if ! [ -x "$S3UP" ] || ! [ -x "$S3D" ]; then
    echo "$0: $S3UP and $S3D must be built" >&2
    exit 2
fi
for v in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $v in
    AWS_* | S3UP_* | SSL_CERT_* | *_proxy | *_PROXY) unset "$v" ;;
    esac
done
W=$(mktemp -d) || exit 2
umask 022
T=$W/main
mkdir "$W/home" "$T"
touch "$W/passed" "$W/failed" "$W/said" "$W/pids"
HOME=$W/home S3UP_STATE_DIR=$W/state
export HOME S3UP_STATE_DIR
trap 'stop_all; rm -rf "$W"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

KEY=E2EACCESS SECRET='sEcReT/of+e2e/0123456789abcdefghijklmnop'
TKEY=E2ETEMP TSECRET='oThErSeCrEt/of+e2e/ABCDEFGHIJKLMNOP0123'
TOKEN='IQoJtOkEn/of+e2e==abcdefghijklmnopqrstuvwxyz0123456789'
if command -v timeout >/dev/null; then limit='timeout 30'; else limit=; fi

# ---- what tests are made of ----

# A number may be another process's by now: what is ours works in $W, or was told of it.
is_ours() { # PID
    case $(readlink "/proc/$1/cwd" 2>/dev/null) in "$W"/*) return ;; esac
    [ -e "/proc/$1/cmdline" ] && tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -q -F "$W/"
}

stop_all() { # only what was started here
    while read -r pid; do
        ! is_ours "$pid" || kill "$pid" 2>/dev/null
    done <"$W/pids"
}

pass() {
    echo . >>"$W/passed"
}

fail() { # WORD...: what should have been
    echo . >>"$W/failed"
    printf 'FAILED %s: %.300s\n    %.300s\n' "$section" "${last:-}" "$*"
    [ ! -s "$T/err" ] || head -n 4 "$T/err" | cut -c 1-300 | sed 's/^/    | /'
}

skip() {
    printf 'SKIPPED %s: %s\n' "$section" "$*"
}

check() { # COMMAND...: it must succeed
    if "$@"; then pass; else fail "not so: $*"; fi
}

check_not() {
    if "$@"; then fail "must not be: $*"; else pass; fi
}

is() { # GOT WANTED
    if [ "$1" = "$2" ]; then pass; else fail "got <$1>, wanted <$2>"; fi
}

# Runs s3up. Its output is in $T/out and $T/err, its exit code in rc.
run() {
    last="s3up $*"
    $limit "$S3UP" "$@" <"${IN:-/dev/null}" >"$T/out" 2>"$T/err"
    rc=$?
    case ${1-}:$rc in
    presign:0) cat "$T/err" >>"$W/said" ;;
    *) cat "$T/out" "$T/err" >>"$W/said" ;;
    esac
}

ends() { # CODE ARG...: s3up ends so
    want=$1
    shift
    run "$@"
    if [ "$rc" = "$want" ]; then pass; else fail "exit code $rc, wanted $want"; fi
}

# Starts s3up and leaves it alone: its number is in pid. `ended CODE` waits for its end.
begin() { # ARG...
    last="s3up $*"
    "$S3UP" "$@" <"${IN:-/dev/null}" >"$T/out" 2>"$T/err" &
    pid=$!
}

lives() { # PID
    kill -s 0 "$1" 2>/dev/null
}

ended() { # CODE
    n=0 # a program that hangs must not hang us
    while lives "$pid"; do
        n=$((n + 1))
        [ $n != 400 ] || kill -s KILL "$pid"
        sleep 0.05
    done
    wait "$pid"
    rc=$?
    cat "$T/out" "$T/err" >>"$W/said"
    if [ "$rc" = "$1" ]; then pass; else fail "exit code $rc, wanted $1"; fi
}

has() { # FILE TEXT
    case $(cat "$1") in
    *"$2"*) return 0 ;;
    esac
    return 1
}

err() { # TEXT...: each is on stderr
    for text; do
        if has "$T/err" "$text"; then pass; else fail "stderr lacks <$text>"; fi
    done
}

out() {
    for text; do
        if has "$T/out" "$text"; then pass; else
            fail "stdout lacks <$text>: $(head -c 300 "$T/out")"
        fi
    done
}

silent() { # out, err
    for stream; do
        if [ ! -s "$W/$stream" ]; then pass; else
            fail "std$stream is not empty: $(head -c 300 "$W/$stream")"
        fi
    done
}

# A command line that must be refused: CODE, texts of the message with | between them, and
# the arguments. Nothing may be sent, printed, or left behind.
refused() {
    code=$1 texts=$2
    shift 2
    before=$(ls -A) sent=$(ctl stats requests)
    ends "$code" "$@"
    silent out
    is "$(ctl stats requests)" "$sent"
    is "$(ls -A)" "$before"
    if [ "$code" = 0 ] || has "$T/err" 's3up: error: '; then pass; else fail "no line says s3up: error:"; fi
    IFS='|'
    # shellcheck disable=SC2086 # the texts are to be split
    set -- $texts
    unset IFS
    err "$@"
}

# Every line is one flat JSON object; there is one at least.
json() {
    if awk '{
        gsub(/"([^"\\\001-\037]|\\["\\\/bfnrt]|\\u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F])*"/, "s")
        gsub(/-?(0|[1-9][0-9]*)(\.[0-9]+)?/, "n")
        if ($0 !~ /^\{s:(s|n|true|false|null)(,s:(s|n|true|false|null))*\}$/) exit bad = 1
    } END { exit bad || NR == 0 }' "$1"; then pass; else
        fail "not one JSON object a line: $(head -c 300 "$1")"
    fi
}

# ---- stores ----

# Starts a store; its port is in the file $W/NAME.port. An exported PORT is the one that
# ctl, fault and calm speak to.
store() { # NAME OPTION...
    name=$1
    shift
    "$S3D" --dir "$W/$name.store" --port-file "$W/$name.port" --quiet "$@" \
        >"$W/$name.log" 2>&1 &
    echo $! >>"$W/pids"
    n=0
    while [ ! -s "$W/$name.port" ]; do
        n=$((n + 1))
        [ $n -lt 400 ] || { echo "$0: the store does not start: $(cat "$W/$name.log")"; exit 2; }
        sleep 0.02
    done
}

ctl() {
    "$S3D" ctl "$PORT" "$@" </dev/null
}

fault() { # RULE...
    printf '%s\n' "$@" | "$S3D" ctl "$PORT" faults
}

quirk() { # NAME...; none: the store is well-behaved again
    printf '%s\n' "$@" | "$S3D" ctl "$PORT" quirks
}

calm() {
    ctl faults
}

op() { # NAME: how many requests of that kind the store has had since the last reset
    ctl stats | awk -v op="op.$1" '$1 == op { n = $2 } END { print n + 0 }'
}

since() { # NAME...: the same of several, and begins anew
    for name; do op "$name"; done | tr '\n' ' '
    ctl reset >/dev/null
}

# The bytes of an object in the store, as the store itself sees them.
same() { # FILE URI
    run get "$2" "$T/same"
    cmp -s "$1" "$T/same"
}

gone() { # URI
    run stat "$1"
    [ "$rc" = 4 ]
}

bytes() { # N: a file of that many bytes that no two places of look alike
    awk -v n="$1" 'BEGIN { for (i = 0; i * 8 < n; i++) printf "%08d", i * 7919 % 100000000 }' |
        head -c "$1"
}

# A tree of names that nobody would choose, the same each time. awk writes the files: one
# process for all of them.
odd_tree() { # FOLDER FILES
    mkdir -p "$1/ " "$1/-r" "$1/a+b%20c" "$1/..x/.hid" "$1/back\\slash" "$1/d/e/e/p/e/r"
    mkdir -p "$1/$(printf 'new\nline\ttab\001\177')" "$1/$(printf 'caf\351 \303\251')"
    (cd "$1" && find . -type d) | awk -v n="$2" -v top="$1" '
        BEGIN { RS = "\001\001"; srand(42) }
        { m = split($0, dir, /\n\.\//) } # a name with a line end in it is no "./"
        END {
            sub(/\n$/, "", dir[m])
            dir[1] = ""
            for (i = 0; i < n; i++) {
                name = i % 7 ? "" : i % 2 ? "-" : ".."
                for (k = int(rand() * 12) + 1; k; k--) {
                    c = int(rand() * 255) + 1
                    name = name sprintf("%c", c == 47 ? 92 : c)
                }
                at = dir[i % m + 1]
                path = top "/" (at == "" ? "" : at "/") name i
                printf "%s", i % 10 ? substr(i "abcdefghijklmnop", 1, i % 17) : "" >path
                close(path)
            }
        }' || fail 'no odd tree could be made'
    for name in 'q"uo'"'te" '&amp;' '%2e%2e' '?*[a]' '#' 'a  b ' "$(printf '\r')" '%' '+'; do
        echo "$name" >"$1/$name"
    done
    echo long >"$1/$(awk 'BEGIN { for (i = 0; i < 255; i++) printf "n" }')"
    find "$1" -type f -name '*3' -exec touch -d '2001-02-03 04:05:06.789' {} +
    find "$1" -type f -name '*5' -exec touch -d '1970-01-01 00:00:00 UTC' {} +
}

# Waits until a command succeeds, for 10 seconds at most.
until_so() {
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 500 ] || return 1
        sleep 0.02
    done
}

no_secret() { # FILE...
    # Those of a presigned address end in stars, or are not there.
    for secret in "$SECRET" "$TSECRET" "$TOKEN" 'Credential=[^*]' 'Signature=[^*]'; do
        if grep -q -e "$secret" "$@"; then
            fail "a secret was printed: $(grep -e "$secret" "$@" | head -n 1)"
        else
            pass
        fi
    done
}

one() { # SECTION
    section=$1 last=
    T=$W/$1.said
    mkdir "$T" "$W/$1"
    printf '' | tee "$T/out" >"$T/err"
    (cd "$W/$1" && "sec_$1")
}

# ---- suites whose sections wait most of the time ----

store_of() { # SECTION: options of its store; a suite that wants others says them itself
    echo "--heads --key $TKEY:$TSECRET"
}

alone() { # SECTION: with a store and a state folder of its own
    began=$(date +%s)
    # shellcheck disable=SC2046
    store "$1" --key "$KEY:$SECRET" --bucket bkt $(store_of "$1")
    PORT=$(cat "$W/$1.port")
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT S3UP_STATE_DIR=$W/$1.state
    export PORT AWS_ENDPOINT_URL S3UP_STATE_DIR
    one "$1"
    [ "${E2E_TIMES:-0}" = 0 ] || echo "$1: $(($(date +%s) - began)) s"
}

lane() { # NUMBER: every LANES-th section
    turn=0
    for section in $sections; do
        turn=$((turn + 1))
        [ $((turn % LANES)) = "$1" ] || continue
        alone "$section"
    done
}

in_lanes() { # SECTION...: several at once; then what was said is looked at, and it ends
    LANES=${LANES:-4} lanes='' i=0 sections=$*
    export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET
    while [ $i -lt "$LANES" ]; do
        lane $i >"$W/lane.$i" 2>&1 &
        lanes="$lanes $!" i=$((i + 1))
    done
    # shellcheck disable=SC2086
    wait $lanes
    cat "$W"/lane.*
    section=all last='everything that was said'
    check test -s "$W/said"
    no_secret "$W/said"
    passed=$(grep -c . "$W/passed") failed=$(grep -c . "$W/failed")
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}
