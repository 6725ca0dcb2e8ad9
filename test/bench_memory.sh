#!/bin/sh
# bench_memory.sh S3UP TOOLS: what a put of a file of 16 GiB takes of memory: the most that
# the PSS of all processes add up to. How many of s3up's 8 workers there are depends on how
# much memory is free: told as if all were.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"

pss() { # MILLISECONDS COMMAND...: KiB, of how many processes, of the first
    ms=$1 program=$(command -v "$2")
    shift 2
    "$tools/soak" memory "$ms" "$program" "$@"
}

as_if_eight() {
    awk '{ printf "%d\n", $3 + ($1 - $3) * 8 / ($2 > 1 ? $2 - 1 : 1) }'
}

mine() {
    pss 2500 "$s3up" put -q -j 8 --part-size "${part}M" -e "$url" sparse s3://bucket/a | as_if_eight
}
by_s5cmd() {
    pss 5000 "$S5CMD" --endpoint-url "$url" cp --concurrency 8 --part-size "$part" \
        sparse s3://bucket/b | cut -d ' ' -f 1
}
by_rclone() {
    pss 5000 "$RCLONE" copyto --s3-upload-concurrency 8 --s3-chunk-size "${part}M" \
        sparse :s3:bucket/c | cut -d ' ' -f 1
}
by_awscli() {
    pss 5000 "$AWSCLI" --endpoint-url "$url" s3 cp sparse s3://bucket/d | cut -d ' ' -f 1
}

serve store
truncate -s 16G sparse # it has no blocks
for part in 16 1024; do
    printf '[default]\ns3 =\n  max_concurrent_requests = 8\n  multipart_chunksize = %dMB\n' \
        $part >aws.config
    set -- mine
    ! has "$S5CMD" || set -- "$@" by_s5cmd
    ! has "$AWSCLI" || set -- "$@" by_awscli
    # It keeps whole parts in memory: 8 GiB of them are not asked for.
    [ $part = 1024 ] || ! has "$RCLONE" || set -- "$@" by_rclone
    rounds "$@"
    echo "MEMORY of a put, 8 jobs, parts of $part MiB: sum of PSS (to hold: 8.00 MiB)"
    for name; do
        case $name in
        mine) line s3up mine 'v / 1024' MiB ;;
        *) line "${name#by_}" "$name" 'v / 1024' MiB mine ;;
        esac
    done
done
