#!/bin/sh
# demo.sh: s3up at work, on the screen and in plain words, against a store that is started
# here and goes away again. Nothing leaves this machine, and nothing stays behind.
#
#   test/demo.sh S3UP S3D         what `make demo` runs; 1 if any step fails
set -u
exec 2>&1 # what is said and what is printed, in the order in which it came
[ $# -eq 2 ] || { echo "usage: test/demo.sh S3UP S3D" >&2; exit 2; }
s3up=$(cd "$(dirname "$1")" && pwd)/${1##*/}
s3d=$(cd "$(dirname "$2")" && pwd)/${2##*/}
for v in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $v in
    AWS_* | S3UP_* | SSL_CERT_* | *_proxy | *_PROXY) unset "$v" ;;
    esac
done
room=$(mktemp -d) || exit 1
store=
trap '[ -z "$store" ] || kill "$store" 2>/dev/null; rm -rf "$room"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$room" || exit 1
mkdir home
export XDG_STATE_HOME="$room/home/state" # root has another folder else

say() {
    printf '\n%s\n' "$*"
}

failed() {
    printf '\nThe demonstration FAILED here: %s\n' "$*"
    exit 1
}

step() { # COMMAND...: shows it, runs it, and ends all if it fails
    line=
    for word; do
        case $word in
        '' | *[!A-Za-z0-9_./:=@%+,-]*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    printf '$%s\n' "$line"
    if [ "$1" = s3up ]; then
        shift
        HOME=$room/home "$s3up" "$@" || failed "$line"
    else
        "$@" || failed "$line"
    fi
}

refuse() { # CODE COMMAND...: the same, for a command that must end with CODE
    code=$1
    shift
    printf '$ %s\n' "$*"
    shift
    HOME=$room/home "$s3up" "$@"
    got=$?
    [ $got = "$code" ] || failed "$* ended with $got instead of $code"
    echo "(exit code $code)"
}

door() { # the store's own door: what has come, and from when on to count
    "$s3d" ctl @port "$@"
}

stored() { # how many parts the store has taken since the last reset
    door log | grep -c 'PUT .* 200 .* UploadPart '
}

say "This shows s3up at work with a small S3 store that runs on this machine for a moment."
"$s3d" --dir store --port-file port --key demo:demosecret --quiet 2>store.log &
store=$!
n=0
until [ -s port ]; do
    n=$((n + 1))
    [ $n -lt 100 ] || failed "the store does not start: $(cat store.log)"
    sleep 0.1
done
AWS_ENDPOINT_URL=http://127.0.0.1:$(cat port)
export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demosecret
echo "It is there, at $AWS_ENDPOINT_URL. Its address and keys stand in the environment:"
echo "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as for every AWS tool."

say "Which s3up is this?"
step s3up version

say "A bucket to put things into:"
step s3up mb s3://demo

say "A file of 20 MB, and a short one with a name that needs care:"
head -c 20000000 /dev/urandom >photo.raw
echo 'Hello from the demonstration.' >'my notes.txt'
step ls -l photo.raw 'my notes.txt'

say "Both go up with one command:"
step s3up put photo.raw 'my notes.txt' s3://demo/today/

say "What is there now?"
step s3up ls
step s3up ls -r --human s3://demo

say "What does the store know about the notes? The type was guessed from the name."
step s3up stat 's3://demo/today/my notes.txt'

say "Down again, under other names; the bytes must be the same."
step s3up get s3://demo/today/photo.raw back.raw
step cmp photo.raw back.raw
step s3up get 's3://demo/today/my notes.txt' -

say "What is there already can be kept from being replaced:"
refuse 7 s3up put --no-clobber photo.raw s3://demo/today/

say "A link for somebody without keys, good for ten minutes:"
printf '$ s3up presign --expires 10m %s\n' "'s3://demo/today/my notes.txt'"
url=$(HOME=$room/home "$s3up" presign --expires 10m 's3://demo/today/my notes.txt') ||
    failed presign
echo "$url"
if command -v curl >/dev/null; then
    step curl -s -f "$url"
else
    echo "(Any browser opens it. There is no curl here to show that.)"
fi

say "Now what s3up is for: an upload that always finishes. A file of 120 MB goes up in parts"
say "of 5 MB, at 30 MB a second; half way the program is killed as hard as can be."
head -c 120000000 /dev/urandom >backup.img
door reset
echo '$ s3up put --part-size 5M --limit-rate 30M backup.img s3://demo/ &'
HOME=$room/home "$s3up" put --part-size 5M --limit-rate 30M backup.img s3://demo/ &
upload=$!
until [ "$(stored)" -ge 10 ]; do
    sleep 0.1
    kill -0 $upload 2>/dev/null || failed "the upload was over before it could be killed"
done
echo "$ kill -9 $upload"
kill -s KILL $upload
wait $upload 2>/dev/null
step s3up uploads
first=$(stored)
say "The same command again: it knows what is there."
step s3up put --part-size 5M backup.img s3://demo/
all=$(stored)
step s3up get -q s3://demo/backup.img back.img
step cmp backup.img back.img
echo "The file has 23 parts. $first were stored before the kill, $((all - first)) after it:"
echo "$((all - 23)) of them were sent twice, because nobody had noted them when the kill came."
[ $((all - 23)) -le 4 ] || failed "more parts were sent twice than were under way"
step s3up history
step s3up rm s3://demo/backup.img

say "Tidying up: first the objects, then the bucket. Before that, only what would be done:"
step s3up rm --dry-run s3://demo/today/photo.raw 's3://demo/today/my notes.txt'
step s3up rm s3://demo/today/photo.raw 's3://demo/today/my notes.txt'
refuse 4 s3up get s3://demo/today/photo.raw again.raw
step s3up rb s3://demo

kill "$store"
wait "$store" 2>/dev/null
store=
say "The store is stopped. Everything worked."
