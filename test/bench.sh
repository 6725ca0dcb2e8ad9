#!/bin/sh
# bench.sh S3UP: size and start of the program, beside what else is installed here. It prints, it
# never judges: machines are noisy.
set -u
s3up=$1

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

echo "static size, stripped: $(($(wc -c <"$s3up"))) bytes (to hold: 300000)"
echo "s3up version:          $(start "$s3up" version) us from fork to exit (to hold: 2000)"
echo "true, to compare:      $(start /bin/true) us"
for peer in 'curl --version' 's5cmd version' 'rclone version' 'aws --version' 's3cmd --version'; do
    if command -v "${peer%% *}" >/dev/null; then
        # shellcheck disable=SC2086 # a program and its option
        echo "$peer: $(start $peer) us"
    fi
done
