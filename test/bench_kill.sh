#!/bin/sh
# bench_kill.sh S3UP TOOLS: what a kill -9 in the middle of a put costs: the bytes that the same
# command, run again, sends once more. Parts have 8 MiB; 8 of them are under way.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"
MIB=256 PART=8

# Is the store about to get the second half? Of requests it counts those that have ended.
half() {
    [ "$(stat_of op.UploadPart)" -ge $((MIB / PART / 2 - 2)) ]
}

# Runs a command, kills it and its children in the middle, runs it to its end, and prints
# how many KiB more came than the file has.
again() { # COMMAND...
    "$tools/s3d" ctl "$port" reset
    setsid "$@" >/dev/null 2>&1 &
    n=0 most=500
    [ "$1" != "$CURL" ] || most=15 # one request, so it goes by time
    while [ $n -lt $most ] && kill -0 $! 2>/dev/null && ! half; do
        n=$((n + 1))
        sleep 0.02
    done
    sleep 0.05 # parts that have just begun would cost nothing
    kill -s KILL -- -$! 2>/dev/null
    wait $! 2>/dev/null
    timeout 60 "$@" >/dev/null 2>&1 && echo $((($(stat_of bytes_in) - MIB * 1048576) / 1024))
}
mine() { again "$s3up" put -q -j 8 --part-size ${PART}M -e "$url" file s3://bucket/a; }
by_curl() {
    again "$CURL" -qsf -T file --user test:testsecret --aws-sigv4 aws:amz:us-east-1:s3 \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$url/bucket/b"
}
by_s5cmd() {
    again "$S5CMD" --endpoint-url "$url" cp --concurrency 8 --part-size $PART file s3://bucket/c
}
by_rclone() {
    again "$RCLONE" copyto --s3-upload-concurrency 8 --s3-chunk-size ${PART}M \
        --s3-upload-cutoff ${PART}M file :s3:bucket/d
}
by_awscli() { again "$AWSCLI" --endpoint-url "$url" s3 cp file s3://bucket/e; }

printf '[default]\ns3 =\n  max_concurrent_requests = 8\n  multipart_chunksize = %dMB\n' \
    $PART >aws.config
serve store --rate 400000000
head -c $((MIB * 1048576)) /dev/urandom >file
set -- mine
! has "$CURL" || set -- "$@" by_curl
! has "$S5CMD" || set -- "$@" by_s5cmd
! has "$RCLONE" || set -- "$@" by_rclone
! has "$AWSCLI" || set -- "$@" by_awscli
rounds "$@"
echo "KILL -9 at half of $MIB MiB: sent again (to hold: at most what was under way, $((8 * PART)) MiB)"
for name; do
    case $name in
    mine) line s3up mine 'v / 1024' MiB ;;
    *) line "${name#by_}" "$name" 'v / 1024' MiB mine ;;
    esac
done
