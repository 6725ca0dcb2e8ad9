#!/bin/sh
# demo.sh S3UP S3D: what s3up does, shown against a small store on loopback that is started
# here and stopped at the end. Every command is shown before it runs; the first that fails
# ends the demo.
set -u
s3up=$(realpath "$1") s3d=$(realpath "$2")
W=$(mktemp -d) || exit 1
store=
trap '[ -z "$store" ] || kill "$store" 2>/dev/null; rm -rf "$W"' EXIT
trap 'exit 130' INT TERM
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\)=.*/\1/p') http_proxy; do
    unset "$name"
done

say() { printf '\n# %s\n' "$1"; }
run() {
    printf '$ %s\n' "$*"
    "$@" || {
        echo "demo: this should not have failed: $*" >&2
        exit 1
    }
}
s3up() { "$s3up" "$@"; }

"$s3d" --dir "$W" --port-file "$W/port" --key DEMO:demo-secret --quiet --die-with-parent &
store=$!
n=0
while [ ! -s "$W/port" ]; do
    n=$((n + 1))
    if [ $n -gt 500 ]; then
        echo 'demo: the test store did not start' >&2
        exit 1
    fi
    sleep 0.01
done
cd "$W" || exit 1

say 'The program: one static file.'
run s3up version
say 'Where the store is, and who we are: the environment that every AWS tool reads.'
AWS_ENDPOINT_URL=http://127.0.0.1:$(cat port)
export AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=DEMO AWS_SECRET_ACCESS_KEY=demo-secret
echo "\$ export AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=DEMO AWS_SECRET_ACCESS_KEY=…"
say 'A bucket, and two files in it: a note, and 64 MiB of noise.'
echo 'hello, store' >note.txt
head -c 67108864 /dev/urandom >noise.bin
run s3up mb s3://demo
run s3up put note.txt noise.bin s3://demo/2026/
say 'What is there?'
run s3up ls -r --human s3://demo
run s3up stat s3://demo/2026/note.txt
say 'Back again, and compared byte by byte.'
run s3up get s3://demo/2026/noise.bin noise.back
run cmp noise.bin noise.back
run s3up get -q s3://demo/2026/note.txt -
say 'What exists is not replaced, if you say so: exit code 7.'
echo '$ s3up put --no-clobber note.txt s3://demo/2026/'
s3up put --no-clobber note.txt s3://demo/2026/
code=$?
echo "exit code $code"
[ $code = 7 ] || exit 1
say 'A URL that works without keys, for ten minutes.'
run s3up presign --expires 10m s3://demo/2026/note.txt
say 'Away with it all.'
run s3up rm s3://demo/2026/note.txt s3://demo/2026/noise.bin
run s3up rb s3://demo
printf '\nAll of it worked. Next: s3up help, s3up help put, make test.\n'
