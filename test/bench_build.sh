#!/bin/sh
# bench_build.sh S3UP TOOLS: how long a clean clone takes to build, once the archive of BearSSL,
# or those of BearSSL and musl, lie in vendor/.
# shellcheck source=test/bench_lib.sh
. "${0%/*}/bench_lib.sh"
root=${s3up%/*}

if ! git -C "$root" rev-parse HEAD >/dev/null 2>&1; then
    echo 'SKIPPED bench: not a git clone: no clean clone of it is built'
    exit 0
fi
build() {
    rm -rf clone
    git clone -q "$root" clone
    cp "$root"/vendor/*.tar.* clone/vendor/ 2>/dev/null
    clone/vendor/get -a bearssl >/dev/null 2>&1 && wall make -j2 -C clone s3up
}
ROUNDS=1
rounds build
echo 'BUILD from a clean clone, archives present (to hold: 60 s)'
line 'make -j2 s3up' build 'v / 1000' s
