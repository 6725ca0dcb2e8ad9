#!/bin/sh
# bench_small.sh S3UP TOOLS: how many small files go up in a second, over http with kept
# connections. Programs that need long get the first thousand of them.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"
FILES=${FILES:-10000} FEW=1000

put() { # JOBS [OPTION...]
    jobs=$1
    shift
    # shellcheck disable=SC2046 # numbers
    (cd files && wall "$s3up" put -q -j "$jobs" "$@" -e "$url" $(ls) s3://bucket/a/)
}
put_auto() { put auto; }
put_eight() { put 8; }
put_one() { put 1; }
s5cmd_eight() { wall "$S5CMD" --endpoint-url "$url" --numworkers 8 cp 'files/*' s3://bucket/b/; }
s5cmd_many() { wall "$S5CMD" --endpoint-url "$url" cp 'files/*' s3://bucket/c/; }
rclone_eight() { wall "$RCLONE" copy --transfers 8 few :s3:bucket/d; }
awscli_eight() { wall "$AWSCLI" --endpoint-url "$url" s3 cp --recursive few s3://bucket/e/; }

serve store
mkdir files few
awk -v n="$FILES" 'BEGIN { # 4 KiB each, and each another
    for (i = 0; i < n; i++) { f = sprintf("files/%06d", i); printf "%04096d", i >f; close(f) } }'
cp files/000[0-9][0-9][0-9] few/
set -- put_auto put_eight put_one
! has "$S5CMD" || set -- "$@" s5cmd_eight s5cmd_many
! has "$RCLONE" || set -- "$@" rclone_eight
! has "$AWSCLI" || set -- "$@" awscli_eight
rounds "$@"
echo "SMALL FILES, $FILES of 4 KiB (to hold: s3up at 8 jobs / s5cmd at least 1.00)"
all="$FILES * 1000 / v"
for name; do
    case $name in
    put_auto) line 's3up, jobs auto' put_auto "$all" files/s ;;
    put_eight) line 's3up, 8 jobs' put_eight "$all" files/s ;;
    put_one) line 's3up, 1 job' put_one "$all" files/s ;;
    s5cmd_eight) line 's5cmd, 8 workers' s5cmd_eight "$all" files/s put_eight ;;
    s5cmd_many) line 's5cmd, 256 workers, its default' s5cmd_many "$all" files/s put_eight ;;
    *) # as if it had gone on like that
        awk -v n="$FILES" -v few=$FEW '{ print $1 * n / few }' "$name.median" >scaled
        mv scaled "$name.median"
        line "${name%_eight}, 8 transfers, $FEW files" "$name" "$all" files/s put_eight
        ;;
    esac
done
