#!/bin/sh
# bench_size.sh S3UP TOOLS: how large the program is, and how long a start of it takes, beside
# what else is installed here.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"

# Microseconds of a start, the median of nine rounds of twenty.
start() {
    for _ in 1 2 3 4 5 6 7 8 9; do
        from=$(date +%s%N)
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            "$@" >/dev/null 2>&1
        done
        echo $((($(date +%s%N) - from) / 20000))
    done | sort -n | sed -n 5p
}

echo "SIZE AND START"
echo "  static, stripped      $(($(wc -c <"$s3up"))) bytes (to hold: 400000)"
own=$(start "$s3up" version)
echo "  s3up version          $own us from fork to exit (to hold: 2000)"
echo "  true, to compare      $(start /bin/true) us"
for peer in "$CURL --version" "$S5CMD version" "$RCLONE version"; do
    if has "${peer%% *}"; then
        # shellcheck disable=SC2086 # a program and its option
        us=$(start $peer)
        echo "  $(basename "${peer%% *}") $us us   s3up / this: 1/$((us / own))"
    fi
done
ROUNDS=5
aws_version() { wall "$AWSCLI" --version; }
if has "$AWSCLI"; then
    rounds aws_version
    ms=$(cat aws_version.median)
    echo "  $(basename "$AWSCLI") $((ms * 1000)) us   s3up / this: 1/$((ms * 1000 / own))"
fi
