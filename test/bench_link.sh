#!/bin/sh
# bench_link.sh S3UP TOOLS: does --jobs auto find the right number of workers? Time of auto in
# relation to the best of fixed numbers, over links that are limited in all or for each
# connection, and over one where each reply takes long.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"

# Puts with that many jobs, each over a link of its own.
timed() { # JOBS FILE...
    jobs=$1
    shift
    wall "$s3up" put -q --checksum none -j "$jobs" --part-size 8M -e "$(cat "url.$jobs")" \
        "$@" s3://bucket/a/
}

# All of a round at once where the link is slow, else one after the other.
race() { # side | row, JOBS, TEXT, FILES, OPTION...: of the store
    how=$1 all=$2 text=$3 files=$4 races=$((${races:-0} + 1))
    shift 4
    for jobs in $all; do
        serve "link$races.$jobs" "$@"
        echo "$url" >"url.$jobs"
        : >"$jobs.all"
    done
    for _ in $(seq "$ROUNDS"); do
        running=
        for jobs in $all; do
            # shellcheck disable=SC2086 # names
            timed "$jobs" $files >>"$jobs.all" &
            running="$running $!"
            [ "$how" = side ] || wait $!
        done
        # shellcheck disable=SC2086 # numbers
        wait $running
    done
    for jobs in $all; do
        sort -n "$jobs.all" | awk -v jobs="$jobs" '{ v[NR] = $1 }
            END { print jobs, NR ? v[int((NR + 1) / 2)] / 1000 : "-" }'
    done | awk -v text="$text" '
        { said = said sprintf(" %s: %.1f", $1, $2) }
        $1 == "auto" { auto = $2; next }
        $2 > 0 && (!best || $2 < best) { best = $2 }
        END { printf "  %-36s auto / best: %5.2f  (s of -j%s)\n", text, best ? auto / best : 0, said }'
}

files() { # NAME SIZE COUNT
    mkdir "$1"
    for i in $(seq "$3"); do truncate -s "$2" "$1/$i"; done
}
files tiny 256K 8
files small 640K 16
files large 200M 1
files wide 400M 1
files huge 1G 1
files few 4K 3000
usual='1 2 4 8 16 auto' most='8 16 auto' # where the least are the slowest for sure
echo 'LINKS (to hold: auto / best of the fixed numbers of jobs at most 1.10)'
race side "$usual" '0.2 MB/s in all, 8 x 256 KiB' 'tiny/*' --rate 200000
race side "$usual" '2 MB/s in all, 16 x 640 KiB' 'small/*' --rate 2000000
race side "$usual" '50 MB/s in all, 200 MiB' 'large/*' --rate 50000000
race row "$usual" 'no limit, 1 GiB' 'huge/*'
race side "$most" '4 MB/s each connection, 400 MiB' 'wide/*' --rate-conn 4000000
race side "$most" '20 ms each reply, 3000 x 4 KiB' 'few/*' --fault 'PutObject * stall=0.02'
