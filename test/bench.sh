#!/bin/sh
# bench.sh S3UP S3D SOAK: size, start and memory of the program, beside what else is installed
# here. S3D and SOAK are the compiled test/s3d.c and test/soak.c. It prints, it never judges:
# machines are noisy.
set -u
s3up=$(realpath "$1") s3d=$(realpath "$2") soak=$(realpath "$3")

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

echo "static size, stripped: $(($(wc -c <"$s3up"))) bytes (to hold: 400000)"
echo "s3up version:          $(start "$s3up" version) us from fork to exit (to hold: 2000)"
echo "true, to compare:      $(start /bin/true) us"
for peer in 'curl --version' 's5cmd version' 'rclone version' 'aws --version' 's3cmd --version'; do
    if command -v "${peer%% *}" >/dev/null; then
        # shellcheck disable=SC2086 # a program and its option
        echo "$peer: $(start $peer) us"
    fi
done

# What a file of 16 GiB, which has no blocks, costs on its way to a store that keeps nothing.
# How many of the 8 workers there are depends on how much memory is free: told as if all were.
W=$(mktemp -d) || exit 2
"$s3d" --dir "$W/store" --port-file "$W/port" --bucket bucket --sink-fast --quiet \
    --die-with-parent &
trap 'kill $!; rm -rf "$W"' EXIT
trap 'exit 130' INT TERM
while [ ! -s "$W/port" ]; do sleep 0.02; done
truncate -s 16G "$W/sparse"
for part in 16 1024; do
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret HOME=$W \
        "$soak" memory 2500 "$s3up" put -j 8 --part-size ${part}M --state-dir "$W/state" \
        -e "http://127.0.0.1:$(cat "$W/port")" "$W/sparse" s3://bucket/$part | awk -v p="$part" '{
            printf "memory of put, 8 jobs, %s parts: %d KiB (PSS of %d processes; to hold: 8192)\n",
                p == 16 ? "16 MiB" : "1 GiB", $3 + ($1 - $3) * 8 / ($2 > 1 ? $2 - 1 : 1), $2 }'
done
