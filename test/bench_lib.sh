#!/bin/sh
# bench_lib.sh: what benchmarks have in common. Each sources it with its own arguments, S3UP
# TOOLS: the program, and the folder with the compiled s3d, s3d-tls, soak, call and floor.
#
# A benchmark prints and never judges: machines are noisy, and what is compared is compared in
# one run. Peers are those on PATH, or named by S5CMD, RCLONE, AWSCLI and CURL; one that is
# missing is SKIPPED aloud. Stores are on loopback, files in $W; both end with the benchmark.
set -u
LC_ALL=C
export LC_ALL
[ $# -ge 2 ] || { echo "usage: $0 S3UP TOOLS" >&2; exit 2; }
# shellcheck disable=SC2034 # used where this is sourced
s3up=$(realpath "$1") tools=$(realpath "$2")
W=$(mktemp -d) || exit 2
pids=
# shellcheck disable=SC2086 # a list of numbers
trap 'kill $pids 2>/dev/null; wait $pids 2>/dev/null; rm -rf "$W"' EXIT
trap 'exit 130' INT TERM
cd "$W" || exit 2
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in
    AWS_* | S3UP_* | RCLONE_* | SSL_CERT_* | CURL_CA_BUNDLE | *_proxy | *_PROXY) unset "$name" ;;
    esac
done
printf '[default]\ns3 =\n  max_concurrent_requests = 8\n  multipart_chunksize = 16MB\n' >aws.config
export S3UP_STATE_DIR="$W/state" AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret \
    AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true \
    AWS_CONFIG_FILE="$W/aws.config" AWS_SHARED_CREDENTIALS_FILE="$W/none" \
    RCLONE_CONFIG=/dev/null RCLONE_S3_PROVIDER=Other RCLONE_S3_ACCESS_KEY_ID=test \
    RCLONE_S3_SECRET_ACCESS_KEY=testsecret RCLONE_S3_NO_CHECK_BUCKET=true RCLONE_IGNORE_CHECKSUM=true RCLONE_IGNORE_TIMES=true
ROUNDS=${ROUNDS:-3}
: "${S5CMD:=s5cmd}" "${RCLONE:=rclone}" "${AWSCLI:=aws}" "${CURL:=curl}"

has() { # COMMAND
    command -v "$1" >/dev/null && return
    case " ${missing-} " in *" $1 "*) return 1 ;; esac
    missing="${missing-} $1"
    echo "SKIPPED bench: there is no $1"
    return 1
}

serve() { # NAME [OPTION...]: a store that keeps nothing; sets url, port, store
    name=$1 program=s3d scheme=http
    shift
    case " $* " in *' --cert '*) program=s3d-tls scheme=https ;; esac
    mkdir "$name"
    "$tools/$program" --dir "$name" --port-file "$name.port" --bucket bucket --sink-fast --quiet \
        --die-with-parent "$@" &
    store=$!
    pids="$pids $store"
    while [ ! -s "$name.port" ] && kill -0 $store; do sleep 0.02; done
    port=$(cat "$name.port")
    url=$scheme://127.0.0.1:$port
    export RCLONE_S3_ENDPOINT="$url"
}

stat_of() { # NAME: of the store at $port
    "$tools/s3d" ctl "$port" stats "$1"
}

# Milliseconds of CPU, user and system, of a command and all that it starts.
cpu() {
    sh -c 'timeout 200 "$@" >/dev/null 2>&1 || exit 1; times' sh "$@" | awk '
        NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += t[1] * 60 + t[2] } }
        END { if (NR < 2) exit 1; printf "%d\n", s * 1000 }'
}

# Milliseconds that a command takes.
wall() {
    from=$(date +%s%N)
    timeout 200 "$@" >/dev/null 2>&1 && echo $((($(date +%s%N) - from) / 1000000))
}

# Alternates functions, so that a noisy moment hits them all. Each prints a number, or
# nothing if it failed; the median of NAME is then in NAME.median.
rounds() { # NAME...
    for name; do : >"$name.all"; done
    for _ in $(seq "$ROUNDS"); do
        for name; do "$name" >>"$name.all"; done
    done
    for name; do
        sort -n "$name.all" | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }' \
            >"$name.median"
    done
}

# One line of a table: the median of NAME, and that of s3up's function MINE in relation to it.
# FORMULA makes of v what is shown.
line() { # TEXT NAME FORMULA UNIT [MINE]
    v=$(cat "$2.median") mine=$(cat "${5:-$2}.median")
    awk -v text="$1" -v v="${v:-0}" -v mine="${mine:-0}" -v ratio="${5:+yes}" -v unit="$4" "
        function shown(v) { return $3 }
        BEGIN {
            if (!v) { printf \"  %-46s    failed\n\", text; exit }
            printf \"  %-46s %9.2f %s\", text, shown(v), unit
            if (ratio && mine) printf \"   s3up / this: %5.2f\", shown(mine) / shown(v)
            print \"\"
        }"
}
