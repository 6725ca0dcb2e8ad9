#!/bin/sh
# bench_drain.sh S3UP TOOLS: how many small files a folder that empties itself loses in a second, each
# asked about, stored, noted in the ledger on the disk and deleted; and what that takes of memory: the
# most that the PSS of all processes add up to. Beside it a put of the same files, which only sends them.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"
FILES=${FILES:-10000}

filled() { # the folder, as it was; each time for another place
    rm -rf spool
    cp -r files spool
    to=s3://bucket/$(date +%s%N)/
}
drain() { # JOBS
    filled
    wall "$s3up" drain -q -j "$1" --settle 0 -e "$url" spool "$to"
    left=$(find spool -type f | head -n 1)
    [ -z "$left" ] || echo "bench: $left was not drained" >&2
}
drain_auto() { drain auto; }
drain_eight() { drain 8; }
drain_one() { drain 1; }
drain_none() {
    filled
    wall "$s3up" drain -q -j 8 --settle 1d -e "$url" spool "$to"
}
put_eight() { wall "$s3up" put -q -r -j 8 -e "$url" files s3://bucket/put/; }
memory() {
    filled
    "$tools/soak" memory 200000 "$s3up" drain -q -j 8 --settle 0 -e "$url" spool "$to" | cut -d ' ' -f 1
}

# Not the store that keeps nothing: it is asked what it has.
mkdir kept
"$tools/s3d" --dir kept --port-file kept.port --bucket bucket --quiet --die-with-parent &
pids="$pids $!"
until [ -s kept.port ]; do sleep 0.02; done
url=http://127.0.0.1:$(cat kept.port)
mkdir files
awk -v n="$FILES" 'BEGIN { # 4 KiB each, and each another
    for (i = 0; i < n; i++) {
        if (i % 500 == 0) { at = sprintf("files/%03d", i / 500); system("mkdir " at) }
        f = sprintf("%s/%06d", at, i); printf "%04096d", i >f; close(f)
    } }'
rounds drain_auto drain_eight drain_one drain_none put_eight memory
echo "DRAIN, $FILES files of 4 KiB (no number is to be held)"
all="$FILES * 1000 / v"
line 'drain, jobs auto' drain_auto "$all" files/s
line 'drain, 8 jobs' drain_eight "$all" files/s
line 'drain, 1 job' drain_one "$all" files/s
line 'put -r of the same, 8 jobs' put_eight "$all" files/s drain_eight
line 'a look at them while they are too young' drain_none v ms
line 'memory, 8 jobs: sum of PSS' memory 'v / 1024' MiB
