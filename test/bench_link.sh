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
    # shellcheck disable=SC2086 # options
    wall "$s3up" put -q --checksum none -j "$jobs" --part-size 8M -e "$(cat "url.$jobs")" \
        "$@" s3://bucket/a/
}

# All of a round at once where the link is slow, else one after the other.
race() { # side | row, TEXT, FILES, OPTION...: of the store
    how=$1 text=$2 files=$3
    shift 3
    for jobs in 1 2 4 8 16 auto; do
        serve "$text.$jobs" "$@"
        echo "$url" >"url.$jobs"
        : >"$jobs.all"
    done
    for _ in $(seq "$ROUNDS"); do
        running=
        for jobs in 1 2 4 8 16 auto; do
            # shellcheck disable=SC2086 # names
            timed $jobs $files >>"$jobs.all" &
            running="$running $!"
            [ "$how" = side ] || wait $!
        done
        # shellcheck disable=SC2086 # numbers
        wait $running
    done
    for jobs in 1 2 4 8 16 auto; do
        sort -n $jobs.all | awk -v jobs=$jobs '{ v[NR] = $1 }
            END { print jobs, NR ? v[int((NR + 1) / 2)] / 1000 : "-" }'
    done | awk -v text="$text" '
        { said = said sprintf(" %s: %.1f", $1, $2) }
        $1 == "auto" { auto = $2; next }
        $2 > 0 && (!best || $2 < best) { best = $2 }
        END { printf "  %-38s auto / best: %5.2f  (s of -j%s)\n", text, auto / best, said }'
}

parts() { # NAME SIZE COUNT: files
    mkdir "$1"
    for i in $(seq "$3"); do truncate -s "$2" "$1/$i"; done
}
parts tiny 64K 16
parts small 640K 16
parts large 200M 1
parts huge 2G 1
parts few 4K 1000
echo 'LINKS (to hold: auto / best of -j 1 2 4 8 16 at most 1.10)'
race side '0.2 MB/s in all, 16 x 64 KiB' 'tiny/*' --rate 200000
race side '2 MB/s in all, 16 x 640 KiB' 'small/*' --rate 2000000
race row '50 MB/s in all, 200 MiB' 'large/*' --rate 50000000
race row 'no limit, 2 GiB' 'huge/*'
race side '4 MB/s each connection, 200 MiB' 'large/*' --rate-conn 4000000
race side '20 ms each reply, 1000 x 4 KiB' 'few/*' --fault 'PutObject * stall=0.02'
