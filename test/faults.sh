#!/bin/sh
# Every way in which a store can misbehave, against every call that matters: what comes
# out, in which words, and how many requests it cost. One row, two runs for each call: the
# fault happens once, and it never ends.
#   test/faults.sh [-v] CALL S3D      CALL and S3D are the compiled test/call.c, test/s3d.c
# With -v every run is shown.
set -u
verbose=
[ "${1-}" = -v ] && verbose=1 && shift
CALL=$(realpath "$1")
S3D=$(realpath "$2")
W=$(mktemp -d) || exit 1
pids=
trap 'kill $pids 2>/dev/null; wait; rm -rf "$W"' EXIT
trap 'exit 1' INT TERM
cd "$W" || exit 1
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    http_proxy https_proxy HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY; do
    unset "$name"
done

# ---- a store, and one run ----

# Starts a store whose port is in the file PORTFILE.
store() { # PORTFILE [OPTION...]
    file=$1
    shift
    "$S3D" --dir "$file.d" --port-file "$file" --bucket bucket --quiet "$@" >"$file.log" 2>&1 &
    pids="$pids $!"
    n=0
    while [ ! -s "$file" ]; do
        n=$((n + 1))
        [ $n -lt 1000 ] || { echo "FAIL faults: no store: $(cat "$file.log")"; exit 1; }
        sleep 0.02
    done
}

# All of a table's variables: store, limit in milliseconds, and the counts, which are
# written to a file at its end, because tables run side by side in processes of their own.
passed=0 failed=0

ctl() {
    "$S3D" ctl "@$store" "$@"
}

client() { # OPTION... OPERATION ARGUMENT...
    timeout 60 "$CALL" -e "http://127.0.0.1:$(cat "$store")" -k test:testsecret -t "$limit" "$@" 2>&1
}

verdict() { # WHAT GOOD(0 or 1) EXPECTED
    if [ "$2" -eq 1 ]; then
        passed=$((passed + 1))
        [ -z "$verbose" ] || printf '%-58s %s\n' "$1" "exit $code, requests $requests"
    else
        failed=$((failed + 1))
        echo "FAIL faults: $1: exit $code, requests $requests; expected $3: $out"
    fi
}

# What the operations are called here, by the store, and by CALL.
operation() {
    good=
    case $1 in
    get) method=GetObject good="md5 $key_md5" args='get bucket key' ;;
    head) method=HeadObject good='length 100000' args='head bucket key' ;;
    put) method=PutObject good='etag 5d41402abc4b2a76b9719d911017c592' args='put bucket small hello' ;;
    big) method=PutObject good="etag $big_md5" args='put bucket big @big' ;;
    list) method=ListObjectsV2 good='listed 1' args='list bucket key' ;;
    copy) method=CopyObject args='copy bucket/key bucket copied' ;;
    create) method=CreateMultipartUpload args='upload bucket multi - hello' ;;
    part) method=UploadPart args='upload bucket multi - hello' ;;
    join) method=CompleteMultipartUpload args='upload bucket multi - hello' ;;
    delete) method=DeleteObject args='delete bucket nothing' ;;
    many) method=DeleteObjects args='delete-many bucket a b c' ;;
    make) method=CreateBucket args='make other' ;;
    esac
}

# One run. EXPECTED is EXIT/REQUESTS; a success must bring the right content, a failure the
# word. With RETRIES 0 for calls that are repeated on one connection.
try() { # ACTION OPERATION once|ever EXPECTED WORD
    operation "$2"
    rule="$method * $1" counter=op.$method
    case $1 in
    drop*) rule="* * $1" counter=connections ;;
    esac
    [ "$3" = once ] && rule="$rule n=1"
    [ "$3" = ever ] && [ "${1%%=*}" = drop ] && rule="$rule n=2" # or nobody could ask
    ctl reset
    ctl faults "$rule"
    # shellcheck disable=SC2086
    out=$(client $options $args)
    code=$?
    ctl stats >"$store.stats"
    requests=$(sed -n "s/^$counter //p" "$store.stats")
    requests=${requests:-0}
    right=0
    if [ "$code/$requests" = "$4" ] && grep -q "^fault.${1%%=*} " "$store.stats"; then
        if [ "$code" -eq 0 ]; then
            case $5/$out in -*/* | */*"$good"*) right=1 ;; esac
        else
            case $out in *"$5"*) right=1 ;; esac
        fi
    fi
    verdict "$1 $2 $3${options#-R 1}" $right "$4 and \"$5\""
}

# ACTION OPERATIONS ONCE EVER WORD...: operations with commas; - leaves a run out. A word
# that begins with - says that what a success brings is not looked at.
table() {
    while read -r action operations once ever word; do
        case $action in '' | \#*) continue ;; esac
        options='-R 1'
        case $word in "x3 "*) options='-R 0 -x 3' word=${word#x3 } ;; esac
        for one in $(echo "$operations" | tr , ' '); do
            [ "$once" = - ] || try "$action" "$one" once "$once" "$word"
            [ "$ever" = - ] || try "$action" "$one" ever "$ever" "$word"
        done
    done
    echo "$passed $failed" >"$store.count"
}

# ---- what is stored ----

head -c 100000 /dev/zero | tr '\0' k >key
head -c 4194304 /dev/zero | tr '\0' b >big
key_md5=$("$S3D" sum md5 <key | sed "s,[^0-9a-f].*,,;q")
big_md5=$("$S3D" sum md5 <big | sed "s,[^0-9a-f].*,,;q")
for one in quick slow slower slowest; do
    store $one
    store=$one limit=20000
    client put bucket key @key >/dev/null || { echo "FAIL faults: nothing can be stored"; exit 1; }
done

# ---- faults that are over at once ----

store=quick limit=20000
ctl quirks any-region
tables=
table >quick.out <<'T' &
# The connection ends. A kept one, as those of part and join are, may end for free.
drop               get,put,big,list     0/2   5/2   connection
reset-before       get,head,put,big,list,copy,create,delete 0/2 5/2 connection
reset-before       part,join            0/2   5/3   connection
reset-during       put,big              0/2   5/2   connection
reset-after        put,big,copy         0/2   5/2   connection
reset-after        part,join            0/2   5/3   connection
lost-reply         put,big,copy,create,delete,many 0/2 5/2 without a reply
lost-reply         part,join            0/2   5/3   without a reply
silent-close       get,head,put,list    0/3   0/3   x3 -
idle-close=0       get,head,put         0/3   0/3   x3 -
# What is temporary is tried again.
500                get,head,put,big,list,copy,create,part,join,delete,many 0/2 5/2 500
502                get,head,put,big,list,join 0/2   5/2   502
503                get,head,put,big,list,join 0/2   5/2   503
504                get,put,list,join    0/2   5/2   504
slowdown           get,put,big,list,join 0/2  5/2   SlowDown
429                get,head,put,list,join 0/2 5/2   429
request-timeout    get,put,big,list,join 0/2  5/2   RequestTimeout
early-503          put,big,part,join    0/2   5/2   SlowDown
early-503=keep     put,big,part,join    0/2   5/2   SlowDown
html-error=502     get,head,put,big,list,join 0/2 5/2 502
html-error=503     put,list,join        0/2   5/2   503
empty-error=500    get,head,put,list,join 0/2 5/2   500
empty-error=503    get,head,put,list,join 0/2 5/2   503
bad-digest         put,big,part         0/2   9/2   BadDigest
error=OperationAborted put,join         0/2   5/2   OperationAborted
# What is final is not.
access-denied      get,put,big,list,join,copy,delete 6/1 6/1 AccessDenied
access-denied      head                 6/1   6/1   403
early-403          put,big,part,join    6/1   6/1   AccessDenied
early-403=keep     put,big,part,join    6/1   6/1   AccessDenied
html-error=403     get,head,put,big,list 6/1  6/1   403
html-error=404     get,head,put         4/1   4/1   404
empty-error=400    get,head,put         1/1   1/1   400
empty-error=416    get                  1/1   1/1   416
invalid-key        get,put,big,list,join 6/1  6/1   does not know this access key
signature-403      get,put,big,list,join 6/1  6/1   is the secret key right
expired-token      get,put,big,join     6/1   6/1   have expired
expired-token      list                 6/1   6/1   have expired
no-such-bucket     get,put,list         4/1   4/1   NoSuchBucket
no-such-upload     part,join            4/1   4/1   NoSuchUpload
conflict-409       put,join             7/1   7/1   somebody else
precondition-412   put,big,join         1/1   1/1   PreconditionFailed
method-501         get,put,big,join,copy,many 1/1 1/1 NotImplemented
method-501         list                 0/1   0/1   -
# Replies that are cut. What a GET brings is read by whoever asked for it, so that it is
# not tried again here.
cut-head           get,head,put,big,list,join 0/2 5/2 in the middle of its reply
cut-reply          get                  5/1   5/1   cut off
short-body         get                  5/1   5/1   cut off
cut-reply          list,join,copy,create 0/2  5/2   cut off
cut-reply          put                  0/2   5/2   cut off
bad-chunk          get                  5/1   5/1   chunk
bad-chunk          list,join,copy       0/2   5/2   chunk
# Replies that are no HTTP, or could be read in two ways.
garbage-reply      get,head,put,big,list,join 0/2 5/2 not proper HTTP
two-lengths        get,head,put,list,join 0/2 5/2   Content-Length
both-lengths       get,head,put,list,join 0/2 5/2   not proper HTTP
folded-head        get,head,put,list,join 0/2 5/2   folded
huge-head=100000   get,head,put,list,join 0/2 5/2   more than 65536 bytes
many-heads=500     get,head,put,list,join 0/2 5/2   too many fields
# Replies that are unusual and good.
huge-head=40000    get,head,put,list,join 0/1 0/1   good
many-heads=100     get,head,put,list,join 0/1 0/1   good
interim=5          get,head,put,big,list,join 0/1 0/1 good
chunked-reply      get,put,big,list,join,copy 0/1 0/1 good
until-close        get,put,big,list,join,copy 0/1 0/1 good
http10             get,head,put,big,list,join 0/1 0/1 good
until-close        get,put,list         0/3   0/3   x3 good
http10             get,put,list         0/3   0/3   x3 good
# A 200 that is none.
ok-error           list,join,copy,create,many,put,part 0/2 5/2 InternalError
ok-error=SlowDown  join,copy            0/2   5/2   SlowDown
ok-error=AccessDenied join              0/2   5/2   AccessDenied
empty-complete     join                 0/2   5/2   empty, cut
empty-complete=applied join             0/2   5/2   empty, cut
# What the rooms above compare: here it passes.
wrong-etag         put,big              0/1   0/1   -
wrong-body         get                  0/1   0/1   -
no-etag            put,big              0/1   0/1   -
no-etag            part                 5/1   5/1   no ETag
# Elsewhere. The store itself does not ask which region was signed for.
redirect-301=eu-west-1 get,head,put,big,list,join 0/2 2/2 301
bad-region=eu-west-1 get,put,big,list,join 0/2 2/2 is --region right
bad-region=eu-west-1 head               0/2   1/2   400
redirect-301=evil.com/ get,put          2/1   2/1   301
bad-region=a%20b   get,put              2/1   2/1   is --region right
redirect-307=http://127.0.0.1:9/ get,put,big,list,join 2/1 2/1 TemporaryRedirect
T

tables="$tables $!"

# ---- faults that take their time ----

store=slow limit=1000
table >slow.out <<'T' &
stall=30           get,put,list         0/2   5/2   nothing came
stall=2            join,copy            -     0/1   -
whitespace=2       join,copy            -     0/1   -
T
tables="$tables $!"
store=slower limit=1000
table >slower.out <<'T' &
stall=30           big                  0/2   5/2   stalled
stall-body=30      big                  0/2   5/2   stalled
slow-read=300      big                  0/2   5/2   stalled
slow-read=100000   put                  -     0/1   good
slow-write=100000  get                  -     0/1   good
T
tables="$tables $!"
store=slowest limit=1000
table >slowest.out <<'T' &
slow-write=100     get                  5/1   5/1   too little moved
slow-write=100     list                 0/2   5/2   moved
T
tables="$tables $!"

# ---- clocks ----

store clock
store=clock limit=20000 options='-R 1 -x 2'
key_md5=$("$S3D" sum md5 </dev/null | sed "s,[^0-9a-f].*,,;q")
client put bucket key '' >/dev/null
clock() { # WHAT SECONDS OPERATION EXPECTED WORD
    operation "$3"
    ctl clock "$2"
    ctl reset
    # shellcheck disable=SC2086
    out=$(client $options $args)
    code=$?
    ctl stats >"$store.stats"
    requests=$(sed -n "s/^op.$method //p" "$store.stats")
    right=0
    case $code/${requests:-0} in "$4") case $out in *"$5"*) right=1 ;; esac ;; esac
    verdict "clock: $1, $3, twice" $right "$4 and \"$5\""
}
for one in get list put; do
    clock "right" 0 $one 0/2 ''
    clock "an hour ahead" 3600 $one 0/3 'differ by'
    clock "a day behind" -86400 $one 0/3 'differ by'
    clock "a little off" 200 $one 0/2 ''
done
# The answer to a HEAD has no body; the Date is all that tells.
good='length 0'
clock "an hour ahead" 3600 head 0/3 'differ by'
clock "right again" 0 head 0/2 'length 0'

# ---- lists ----

# Names that are as odd as they can be, over several pages, from stores with odd habits.
store lists --list-max 300
store=lists
client fill bucket 2500 | sort >all
grep -v / all >top
sed -n 's|^entry "\([^/]*/\).*|prefix "\1"|p' all | sort -u >>top
sort -o top top
list() { # QUIRKS EXIT WORD [DELIMITER]
    # shellcheck disable=SC2086
    ctl quirks $1
    ctl reset
    out=$(client -R 0 list bucket ${4:+'' "$4"})
    code=$?
    requests=$(ctl stats requests)
    # What is listed must be all there is; before a failure it must be none that there is not,
    # and nothing twice.
    printf '%s\n' "$out" | grep '^entry\|^prefix' | sed 's/ [0-9]* [0-9]*  [-0-9]*$//' | sort >got
    right=0 want=all
    [ -z "${4-}" ] || want=top
    if [ "$code" -eq "$2" ] && [ -z "$(uniq -d got)" ] && [ -z "$(comm -23 got $want)" ]; then
        case $out in *"$3"*) right=1 ;; esac
        [ "$code" -ne 0 ] || [ -z "$(comm -13 got $want)" ] || right=0
    fi
    out=$(printf '%s\n' "$out" | tail -n 1)
    verdict "list: ${1:-well behaved}${4:+, delimiter $4}" $right "exit $2, \"$3\", $(wc -l <$want) names"
}
for delimiter in '' /; do
    list '' 0 listed $delimiter
    list bare-etag-xml 0 listed $delimiter
    list quoted-etag-xml 0 listed $delimiter
    list empty-message 0 listed $delimiter
    list xml-namespace-prefix 0 listed $delimiter
    list encoding-type-ignored 0 listed $delimiter
    list no-list-v2 0 listed $delimiter
    list 'no-list-v2 list-v1-no-nextmarker' 0 listed $delimiter
    list 'no-list-v2 encoding-type-ignored' 0 listed $delimiter
    list 'no-list-v2 encoding-type-ignored xml-namespace-prefix' 0 listed $delimiter
    list list-v1-no-nextmarker 0 listed $delimiter
    list list-no-marker 0 listed $delimiter
    list 'no-list-v2 list-no-marker' 0 listed $delimiter
    list 'list-no-marker encoding-type-ignored' 0 listed $delimiter
    list list-loop 5 'repeats one page' $delimiter
    list 'list-loop no-list-v2' 5 'repeats one page' $delimiter
    list 'list-loop list-no-marker' 5 'repeats one page' $delimiter
done

# Uploads and parts, in pages of 300.
other() { # QUIRKS EXIT WORD WHAT ARGUMENT...
    quirks=$1 want=$2 word=$3
    shift 3
    # shellcheck disable=SC2086
    ctl quirks $quirks
    ctl reset
    out=$(client -R 0 "$@" | tail -n 1)
    code=${out#failed } code=${code%% *}
    case $out in listed*) code=0 ;; esac
    requests=$(ctl stats requests)
    right=0
    [ "$code" = "$want" ] && case $out in *"$word"*) right=1 ;; esac
    verdict "$1: ${quirks:-well behaved}" $right "exit $want and \"$word\""
}
client fill bucket 700 upload >/dev/null
other '' 0 'listed 700' uploads bucket
other encoding-type-ignored 0 'listed 700' uploads bucket
other xml-namespace-prefix 0 'listed 700' uploads bucket
other list-loop 5 'repeats one page' uploads bucket
other list-no-marker 5 'not where' uploads bucket
other no-list-uploads 6 AccessDenied uploads bucket
other empty-message 0 'listed 700' uploads bucket
# shellcheck disable=SC2046
id=$(client -R 0 upload bucket many - $(seq 700) | sed -n 's/^id //p') # too small to be joined
other '' 0 'listed 700' parts bucket many "$id"
other xml-namespace-prefix 0 'listed 700' parts bucket many "$id"
other list-loop 5 'repeats one page' parts bucket many "$id"
other list-no-marker 5 'not where' parts bucket many "$id"
other no-list-parts 6 AccessDenied parts bucket many "$id"
other '' 4 NoSuchUpload parts bucket many wrong
other no-such-key-for-upload 4 NoSuchKey parts bucket many wrong
other 'no-such-key-for-upload empty-message' 4 'answered 404 NoSuchKey' parts bucket many wrong
other '' 0 'listed 1' buckets
other xml-namespace-prefix 0 'listed 1' buckets

# ---- all together ----

echo "$passed $failed" >lists.count
# shellcheck disable=SC2086
wait $tables
cat quick.out slow.out slower.out slowest.out
passed=0 failed=0
for one in quick slow slower slowest lists; do
    if ! read -r good bad <$one.count; then
        good=0 bad=1
        echo "FAIL faults: the table of $one did not end"
    fi
    passed=$((passed + good)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
