#!/bin/sh
# fuzz.sh TARGET MINUTES: libFuzzer on one target, from its own seeds and words. What it finds
# stays in .build/fuzz, and fails.
set -u
target=$1 seconds=$(($2 * 60)) name=$(basename "$1")
corpus=.build/fuzz/corpus-$name
driver=.build/test/$name # the target without libFuzzer knows its seeds and words
mkdir -p "$corpus"
: >"$corpus.dict"
if [ -x "$driver" ]; then
    "$driver" --corpus "$corpus" && "$driver" --dict >"$corpus.dict"
fi
if "$target" -dict="$corpus.dict" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix=".build/fuzz/$name-" -print_final_stats=1 "$corpus" >"$corpus.log" 2>&1; then
    grep -E '^stat::number_of_executed_units|DONE' "$corpus.log"
    echo '1 passed, 0 failed'
else
    tail -n 40 "$corpus.log"
    echo '0 passed, 1 failed'
    exit 1
fi
