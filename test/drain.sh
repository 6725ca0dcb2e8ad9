#!/bin/sh
# drain.sh: a folder that empties itself into a bucket. What was stored is told by the store's
# own index, of which it makes the sums itself, and compared with sums of copies that were
# made before; what is still on disk by find.
#
#   test/drain.sh S3UP S3D [SECTION...]
#
# Needs sh, awk, GNU find, stat and md5sum, and the programs of test/soak.c and test/spool.c
# beside s3d. MANY=50000 is a larger heap of small files. As root it tries mounts, in name
# spaces of their own. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away
[ -z "$limit" ] || limit='timeout 100'

# ---- what these tests are made of ----

SOAK=${S3D%/*}/soak
SPOOL=${S3D%/*}/spool
MIB=1048576
stamp='^20[0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9],[0-9]\{3\} - '
stamp="$stamp\\( DEBUG\\|  INFO\\|WARNING\\| ERROR\\) - "

# Every line that it writes has the time and the form of a log.
drains() { # CODE ARG...
    code=$1
    shift
    ends "$code" drain "$@"
    is "$(grep -v -a "$stamp" "$T/err" | head -n 3)" ''
}

objects() { # [PREFIX]: what the store has there: MD5 and name
    awk -v p="${1-}" '$1 == "+" && substr($7, 1, length(p)) == p { o[$7] = $4 }
        $1 == "-" { delete o[$2] }
        END { for (k in o) print o[k], substr(k, length(p) + 1) }' \
        "$W/$section.store/b/bkt/index" 2>/dev/null | sort -k 2
}

files() { # FOLDER: the same of plainly named files
    (cd "$1" && find . -type f -exec md5sum {} +) | sed 's/^\([0-9a-f]*\)  \.\//\1 /' | sort -k 2
}

landed() { # COPY [PREFIX]: exactly those are stored, and each of them once
    is "$(objects "${2-}")" "$(files "$1")"
}

left() { # FOLDER: the files there
    (cd "$1" && find . -type f -printf '%P\n') | sort | tr '\n' ' '
}

ledger() { # KEY: how many lines there are about it
    grep -s "\"key\":\"$1\"" "$S3UP_STATE_DIR/ledger.jsonl" | grep -c .
}

value() { # NAME: of the summary that --json gives
    sed -n "s/^{\"event\":\"summary\".*\"$1\":\\([0-9]*\\).*/\\1/p" "$T/out"
}

tally() { # DONE UNCHANGED SKIPPED FAILED WAITING, which is all that is left to be sent
    is "$(value 'done') $(value unchanged) $(value skipped) $(value failed) $(value waiting)" "$*"
}

said() { # LEVEL TEXT: in how many lines
    grep -a "^.\{23\} - *$1 - " "$T/err" | grep -c -F -e "$2"
}

ms() {
    echo $(($(date +%s%N) / 1000000))
}

plain_tree() { # FOLDER
    mkdir -p "$1/a/b" "$1/c"
    for f in one a/two a/b/three c/four; do echo "this is $f" >"$1/$f"; done
    : >"$1/c/empty"
}

# Runs a command while files are held open, and then lets them go.
hold() { # HOW FILE...
    how=$1
    shift
    rm -f ready
    "$SPOOL" hold "$how" ready "$@" &
    holder=$!
    echo $holder >>"$W/pids"
    until_so test -e ready || fail 'nobody holds it'
}

let_go() {
    kill "$holder"
    wait "$holder"
}

# A file that grows, which nobody has open for most of the time; `grown` ends it.
grow() { # FILE
    (
        i=0
        until [ -e stop ] || [ $i -gt 2000 ]; do
            i=$((i + 1))
            echo $i >>"$1"
            sleep 0.02
        done
    ) &
    grower=$!
    until_so test -s "$1"
}

grown() {
    touch stop
    wait $grower
    rm stop
}

# run() where something is mounted; it ends with the run.
mounts='' after='' # why not
if [ "$(id -u)" != 0 ]; then
    mounts='that needs root'
elif ! unshare -m true 2>/dev/null; then
    mounts='that needs unshare'
fi

apart() { # COMMAND...: these come before it there, and what is in $after behind it
    printf '%s || exit 99\n' "$@" >apart.sh
    printf '"$@"\ncode=$?\n%s\nexit $code\n' "$after" >>apart.sh
    limit="unshare -m sh $PWD/apart.sh"
}

together() {
    limit='timeout 100' after=
}

# ---- what it is for ----

# The seed's folder, its configuration and its lines.
sec_seed() {
    for f in bedroom/2020/13/29/20/46-topic bedroom/2020/13/29/21/41-topic \
        bedroom/2020/13/29/12/50-topic bathroom/2020/13/29/10/21-topic \
        bathroom/2020/13/29/10/38-topic kitchen/2020/13/29/6/54-topic; do
        mkdir -p "base/${f%/*}"
        echo "$f" >"base/$f.dat"
    done
    cp -a base copy
    echo no >base/kitchen/notes.txt
    printf '{\n    "base_dir": "%s", \n    "s3_bucket": "bkt"\n}\n' "$PWD/base" >config.json
    cp config.json base/config.dat
    AWS_ACCESS_KEY_ID=nobody
    drains 6 --settle 0 --config base/config.dat
    is "$(said WARNING 'Failed to upload')" 6
    is "$(files base | grep -c '.dat$')" 7
    for f in $(cd copy && find . -type f -printf '%P '); do
        is "$(said WARNING "Failed to upload $PWD/base/$f to bkt/$f: ")" 1
    done
    err InvalidAccessKeyId
    AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=wrong
    drains 6 --settle 0 --config base/config.dat
    err SignatureDoesNotMatch
    is "$(said WARNING 'Failed to upload')" 6
    is "$(files base | grep -c '.dat$')" 7
    is "$(objects)" ''
    AWS_SECRET_ACCESS_KEY=$SECRET
    # Right now somebody may still be writing.
    drains 0 --config base/config.dat
    is "$(objects)" ''
    drains 0 --settle 0 --config base/config.dat
    for f in $(cd copy && find . -type f -printf '%P '); do
        is "$(said INFO "$PWD/base/$f has been uploaded to bkt.")" 1
    done
    landed copy
    is "$(left base)" 'config.dat kitchen/notes.txt '
    is "$(grep -c . "$S3UP_STATE_DIR/ledger.jsonl")" 6
    drains 0 --settle 0 --config config.json --include '*.txt'
    is "$(left base)" 'config.dat '
    ctl reset
    drains 0 -q --settle 0 --config base/config.dat
    is "$(cat "$T/err")" ''
    is "$(op PutObject)" 0
    for bad in '' '{' '{"base_dir": "base"}' '{"s3_bucket": "bkt"}' '{"base_dir": 1, "s3_bucket": "bkt"}' \
        '["base_dir"]' '{"base_dir": "base", "s3_bucket": ""}'; do
        echo "$bad" >bad.json
        run drain --settle 0 --config bad.json
        is "$rc" 2
        err bad.json
    done
    run drain --settle 0 --config nosuch.json
    check test "$rc" -ne 0
    err nosuch.json
}

sec_plain() {
    plain_tree d
    mkdir d/none
    cp -a d copy
    drains 0 --settle 0 d s3://bkt/in
    landed copy in/
    is "$(left d)" ''
    check test -d d/a/b -a -d d/none # folders are not its business
    for f in one a/two a/b/three c/four c/empty; do
        is "$(said INFO "d/$f has been uploaded to bkt.") $(ledger "in/$f")" '1 1'
    done
    is "$(said INFO '5 files, ')" 1
    is "$(op PutObject) $(op HeadObject)" '5 5'
    # Nothing to do.
    ctl reset
    drains 0 --settle 0 d s3://bkt/in
    is "$(op PutObject) $(op HeadObject)" '0 0'
    # The prefix may end in a stroke, or be none; the folder may be anything's name.
    for to in s3://bkt/in2/ s3://bkt s3://bkt/; do
        rm -rf ./-d && cp -a copy ./-d
        drains 0 -q --settle 0 -- -d/ $to
        is "$(left ./-d)" ''
        is "$(cat "$T/err")" ''
    done
    landed copy in2/
    is "$(objects | grep -c -v ' in2\?/')" 5
    (cd ./-d && echo x >y && ends 0 drain -q --settle 0 . s3://bkt/dot && is "$(left .)" '')
    is "$(objects dot)" "$(echo x | md5sum | cut -c 1-32) /y"
    # Each line of the ledger is a JSON object with what is to be known.
    check json "$S3UP_STATE_DIR/ledger.jsonl"
    echo "the one" >d/once
    sum=$(md5sum <d/once | cut -c 1-32)
    drains 0 --settle 0 d s3://bkt/in
    for field in "\"path\":\"$PWD/d/once\"" '"bucket":"bkt"' '"key":"in/once"' '"size":8' "\"etag\":\"$sum\""; do
        check grep -q -F "$field" "$S3UP_STATE_DIR/ledger.jsonl"
    done
    ctl reset
    while read -r words; do
        # shellcheck disable=SC2086
        ends 2 drain $words
        silent out
    done <<'R'

d
s3://bkt d
d copy
d s3://bkt extra
--keep --move-to x d s3://bkt
--settle x d s3://bkt
--settle -1 d s3://bkt
--quarantine 0x d s3://bkt
--max-files x d s3://bkt
R
    is "$(ctl stats requests) $(ls -d x 2>/dev/null)" '0 '
    run drain --settle 0 nosuch s3://bkt
    check test "$rc" -ne 0
    err nosuch
    run drain --settle 0 copy/one s3://bkt
    check test "$rc" -ne 0
    err copy/one
    check test -f copy/one
    drains 0 --dry-run --settle 0 copy s3://bkt/dry
    is "$(objects dry/) $(left copy | wc -w)" ' 5'
    err copy/a/b/three
}

sec_odd() {
    odd_tree d "${ODD:-600}"
    bytes $((5 * MIB + 1)) >d/d/parts
    cp -a d copy
    all=$(find d -type f -printf x | wc -c)
    drains 0 --json --settle 0 --part-size 5M d s3://bkt/o
    json "$T/out"
    tally "$all" 0 0 0 0
    is "$(find d -type f | head -n 3)" ''
    is "$(grep -c . "$S3UP_STATE_DIR/ledger.jsonl") $(objects o/ | grep -c .)" "$all $all"
    check json "$S3UP_STATE_DIR/ledger.jsonl"
    is "$(grep -c '"event":"done"' "$T/out")" "$all"
    ends 0 get -q -r s3://bkt/o back
    diff -r copy back >"$T/diff" 2>&1
    is "$? $(head -n 3 "$T/diff")" '0 '
    is "$(find "$S3UP_STATE_DIR" -type f | grep -c -v ledger)" 0
}

# The oldest comes first, and of files of one age those that have waited longest.
sec_order() {
    mkdir -p d/x/y d/z
    n=0
    for f in m x/a z/b x/y/c b x/d a; do
        n=$((n + 1))
        echo $f >d/$f
        touch -d "2020-01-0$n 00:00:00.5 UTC" d/$f
    done
    touch -d '2020-01-01 00:00:00.4 UTC' d/b # by less than a second
    drains 0 --settle 0 -j 1 d s3://bkt/
    is "$(ctl log | awk '$2 == "PUT" { print $3 }' | tr '\n' ' ')" \
        '/bkt/b /bkt/m /bkt/x/a /bkt/z/b /bkt/x/y/c /bkt/x/d /bkt/a '
}

sec_limits() {
    mkdir d
    # What no store could take does not take the others' place.
    long=$(printf %0200d 1)
    mkdir -p d/$long/$long/$long/$long/$long
    for i in 1 2; do echo $i >d/$long/$long/$long/$long/$long/$i$long; done
    touch -d 2019-01-01 d/$long/$long/$long/$long/$long/*
    echo 3 >d/3
    run drain --settle 0 --max-files 2 d s3://bkt/long
    check test "$rc" -ne 0
    is "$(objects long/ | cut -c 34-)" 3
    rm -r d
    mkdir d
    for i in 1 2 3 4 5 6 7; do echo $i >d/$i && touch -d "2020-01-0$((8 - i))" d/$i; done
    for rest in '1 2 3 4 5 ' '1 2 3 ' '1 ' '' ''; do
        drains 0 --settle 0 --max-files 2 d s3://bkt/m
        is "$(left d)" "$rest"
    done
    # A large file goes on where the last run's time was over.
    bytes $((24 * MIB)) >d/large
    cp -a d copy
    ctl reset
    runs=0
    while [ -e d/large ] && [ $runs -lt 30 ]; do
        runs=$((runs + 1))
        begin=$(ms)
        drains 0 --settle 0 --max-time 2 -j 1 --limit-rate 6M --part-size 5M d s3://bkt/t
        check test $(($(ms) - begin)) -lt 8000
        [ ! -e d/large ] || check test "$(find "$S3UP_STATE_DIR" -type f ! -name 'ledger*' | grep -c .)" -gt 0
    done
    check test $runs -gt 1 -a $runs -lt 30
    is "$(left d) $(objects t/ | sed 's/^[0-9a-f]*\(-[0-9]\)/\1/')" ' -5 large'
    is "$(op CreateMultipartUpload) $(op CompleteMultipartUpload)" '1 1'
    # At most what was in flight when time was over goes twice.
    check test "$(op UploadPart)" -le $((5 + 2 * runs))
    check same copy/large s3://bkt/t/large
    is "$(find "$S3UP_STATE_DIR" -type f | grep -c -v ledger)" 0
}

sec_globs() {
    mkdir -p d/sub/deep d/node
    for f in a.dat b.dat c.log sub/d.dat sub/e.tmp sub/deep/f.dat node/g.dat; do echo $f >d/$f; done
    cp -a d copy
    drains 0 --settle 0 --include '*.dat' --exclude 'b.*' --exclude node d s3://bkt/g
    is "$(left d)" 'b.dat c.log node/g.dat sub/e.tmp '
    is "$(objects g/ | cut -c 34- | tr '\n' ' ')" 'a.dat sub/d.dat sub/deep/f.dat '
    drains 0 --settle 0 --exclude '*.tmp' d s3://bkt/g
    is "$(left d)" 'sub/e.tmp '
    drains 0 --settle 0 --include 'sub/*' d s3://bkt/g
    landed copy g/
}

# ---- when a file is whole ----

sec_settle() {
    mkdir d
    echo 1 >d/fresh
    echo 2 >d/old
    touch -d '2020-01-01' d/old # only its times say so
    begin=$(ms)
    drains 0 --json d s3://bkt/s
    check test $(($(ms) - begin)) -lt 5000
    json "$T/out"
    tally 0 0 0 0 2
    drains 0 --settle 1h d s3://bkt/s
    is "$(left d) $(objects)" 'fresh old  '
    check until_so sh -c "'$S3UP' drain -q --settle 1 d s3://bkt/s; [ -z \"\$(ls d)\" ]"
    is "$(objects s/ | cut -c 34- | tr '\n' ' ')" 'fresh old '
    # Somebody writes: he has it open, or it is mapped.
    for how in w m; do
        bytes 5000 | tee d/held >d/free
        hold $how d/held
        drains 0 --json --settle 0 d "s3://bkt/$how"
        tally 1 0 0 0 1
        is "$(left d)" 'held '
        let_go
        drains 0 --settle 0 d "s3://bkt/$how"
        is "$(left d)" ''
        is "$(objects "$how/" | cut -c 34- | tr '\n' ' ')" 'free held '
    done
    # A reader is no reason to wait.
    echo x >d/read
    hold r d/read
    drains 0 --settle 0 d s3://bkt/r
    is "$(left d)" ''
    let_go
    grow d/grows
    for _ in 1 2 3; do
        drains 0 --json --settle 4 d s3://bkt/grow
        tally 0 0 0 0 1
        sleep 0.3
    done
    grown
    is "$(objects grow/)" ''
    check test -s d/grows
    # A folder's name changes nothing about its files, a file's own name does.
    mv d/grows d/grown
    drains 0 --settle 1h d s3://bkt/grow
    is "$(left d)" 'grown '
}

# A folder is not empty while somebody fills it: a run ends nevertheless.
sec_busy() {
    mkdir d
    "$SPOOL" write 1 d book $((5 * MIB)) &
    writer=$!
    echo $writer >>"$W/pids"
    until_so eval '[ "$(grep -c "^s" book)" -gt 100 ]'
    fault 'PutObject * stall=0.1' # slower than what comes
    limit='timeout 20'
    for how in '--settle 0 -j 2' '--settle 1 -j 2'; do
        # shellcheck disable=SC2086
        run drain $how --part-size 5M d s3://bkt/b
        case $rc in 0 | 1 | 3 | 7) pass ;; *) fail "exit code $rc" ;; esac
    done
    together
    kill "$writer"
    wait "$writer"
    calm
    run drain --settle 0 --part-size 5M d s3://bkt/b
    run drain --settle 0 --part-size 5M d s3://bkt/b
    verdict=$("$SPOOL" check book d "$W/$section.store/b/bkt/index" "$S3UP_STATE_DIR/ledger.jsonl" b/ $((5 * MIB)))
    is "$? $verdict" "0 $verdict"
}

# What is sent is what was found to be left alone, however long it waited for its turn.
sec_turn() {
    mkdir d away
    n=0
    for f in first held grown edited replaced last; do echo "$f" >d/$f && touch -d "2020-01-0$((n += 1))" d/$f; done
    cp d/first d/last away
    until_so sh -c "[ \$((\$(date +%s) - \$(stat -c %Z d/last))) -ge 3 ]"
    fault 'PutObject */first stall=2'
    begin drain --settle 2 -j 1 d s3://bkt/t
    until_so eval '[ "$(op PutObject)" -ge 1 ]'
    hold w d/held
    echo more >>d/grown
    touch -r d/edited time
    printf X | dd of=d/edited conv=notrunc 2>/dev/null
    touch -r time d/edited
    echo 'a new one' >away/new
    touch -r d/replaced away/new
    mv away/new d/replaced
    ended 0 # what is not at rest any more waits
    calm
    landed away t/
    is "$(left d)" 'edited grown held replaced '
    let_go
    cp -a d/* away
    until_so sh -c "'$S3UP' drain -q --settle 1 d s3://bkt/t; [ -z \"\$(ls d)\" ]"
    landed away t/
}

# The clock goes back: then it says nothing about files, and what counts is whether they stay
# as they are for as long as it takes.
sec_clock() {
    mkdir d
    echo x >d/one
    # The last thing known is of tomorrow.
    mkdir -m 700 "$S3UP_STATE_DIR"
    printf '{"time":"%s","path":"/x","endpoint":"http://x","bucket":"b","key":"x","size":0,"etag":"x","checksum":"md5","seconds":0}\n' \
        "$(date -u -d tomorrow +%Y-%m-%dT%H:%M:%SZ)" >"$S3UP_STATE_DIR/ledger.jsonl"
    chmod 600 "$S3UP_STATE_DIR/ledger.jsonl"
    touch -d '2020-01-01' d/one
    begin=$(ms)
    drains 0 --settle 1 d s3://bkt/c
    check test $(($(ms) - begin)) -ge 1000
    is "$(left d)" ''
    rm "$S3UP_STATE_DIR/ledger.jsonl"
    echo 0 >off
    if ! "$SPOOL" clock off "$S3UP" version >/dev/null 2>&1; then
        skip 'no clock is turned back: that needs ptrace'
        return
    fi
    limit="timeout 100 $SPOOL clock $PWD/off"
    for by in -7200 -400000000; do
        echo $by >off
        echo x$by >d/two
        grow d/grows
        begin=$(ms)
        drains 0 --json --settle 3 d s3://bkt/by$by
        check test $(($(ms) - begin)) -ge 3000
        grown
        tally 1 0 0 0 1
        is "$(left d)" 'grows '
        is "$(objects by$by/ | cut -c 34-)" two
        rm d/grows
    done
    # One that must be looked at twice has its turn, also behind younger ones that need not.
    mkdir twice
    echo 1 >twice/young
    sleep 3.2
    echo 2 >twice/old
    touch -d 2020-01-01 twice/old
    echo -2 >off
    drains 0 --json --settle 1 twice s3://bkt/twice
    tally 2 0 0 0 0
    # Back in the middle of it.
    echo 0 >off
    for i in 1 2 3 4; do echo $i >d/$i; done
    cp -a d copy
    until_so sh -c "[ \$((\$(date +%s) - \$(stat -c %Z d/4))) -ge 2 ]"
    fault 'PutObject * stall=1 n=2'
    last='s3up drain, and the clock goes back'
    # shellcheck disable=SC2086
    $limit "$S3UP" drain --settle 1 -j 1 d s3://bkt/mid >"$T/out" 2>"$T/err" &
    pid=$!
    until_so eval '[ "$(op PutObject)" -gt 0 ]'
    echo -7200 >off
    wait "$pid"
    is "$?" 0
    calm
    # What was not looked at long enough may be left to the next run.
    drains 0 --settle 1 d s3://bkt/mid
    landed copy mid/
    is "$(left d)" ''
    together
}

# ---- nothing is deleted that was not stored ----

sec_keep() {
    plain_tree d
    bytes $((6 * MIB)) >d/large
    cp -a d copy
    drains 0 --json --settle 0 --keep --part-size 5M d s3://bkt/k
    json "$T/out"
    tally 6 0 0 0 0
    is "$(files d)" "$(files copy)"
    is "$(objects k/ | grep -v large)" "$(files copy | grep -v large)"
    ctl reset
    drains 0 --json --settle 0 --keep --part-size 5M d s3://bkt/k
    json "$T/out"
    tally 0 6 0 0 0
    is "$(grep -c '"event":"unchanged"' "$T/out")" 6
    is "$(op PutObject) $(op CreateMultipartUpload) $(op UploadPart)" '0 0 0'
    check test "$(ctl stats requests)" -le 6
    # A new one, and one that has grown.
    echo new >d/new
    echo more >>d/one
    ctl reset
    drains 0 --json --settle 0 --keep --part-size 5M d s3://bkt/k
    tally 2 5 0 0 0
    is "$(op PutObject)" 2
    check same d/one s3://bkt/k/one
    # Without --keep they go, and nothing is sent.
    ctl reset
    drains 0 --settle 0 --part-size 5M d s3://bkt/k
    is "$(left d) $(op PutObject) $(op UploadPart)" ' 0 0'
}

# What was kept and then grew goes up again, over its own beginning and over nothing else.
sec_append() {
    mkdir d
    for f in grown edited foreign lost; do echo "$f, as it was" >d/$f; done
    drains 0 --settle 0 --keep d s3://bkt/a
    echo 'and more' | tee -a d/grown d/foreign d/lost >/dev/null
    printf Other | dd of=d/edited conv=notrunc 2>/dev/null
    echo 'of somebody else' >theirs
    ends 0 put -q theirs s3://bkt/a/foreign
    rm "$S3UP_STATE_DIR/ledger.jsonl"
    cp -a d copy
    # Nothing is known of what was there.
    drains 7 --settle 0 d s3://bkt/a
    is "$(left d)" 'edited foreign grown lost '
    rm -f "$S3UP_STATE_DIR/ledger.jsonl"
    rm -rf d && mkdir d
    for f in grown2 edited2 foreign2; do echo "$f, as it was" >d/$f; done
    drains 0 --settle 0 --keep d s3://bkt/a
    echo 'and more' | tee -a d/grown2 d/foreign2 >/dev/null
    printf Other | dd of=d/edited2 conv=notrunc 2>/dev/null
    ends 0 put -q theirs s3://bkt/a/foreign2
    cp d/grown2 grown
    drains 1 --settle 0 d s3://bkt/a
    is "$(left d)" 'edited2 foreign2 '
    is "$(said WARNING 'Failed to upload d/edited2 to bkt/a/edited2: ')" 1
    is "$(said WARNING 'Failed to upload d/foreign2 to bkt/a/foreign2: ')" 1
    check same grown s3://bkt/a/grown2
    check same theirs s3://bkt/a/foreign2
    # Another one writes there between the question and the answer.
    echo 'first' >d/race
    rm d/edited2 d/foreign2
    drains 0 --settle 0 --keep d s3://bkt/a
    echo 'second' >>d/race
    fault 'PutObject */race precondition-412'
    drains 7 --settle 0 d s3://bkt/a
    calm
    is "$(left d)" 'race '
    drains 0 --settle 0 d s3://bkt/a
    is "$(left d)" ''
}

# Keys that are taken.
sec_taken() {
    plain_tree d
    bytes $((11 * MIB)) >d/large
    ends 0 put -q -r --part-size 5M d s3://bkt/t/
    echo other >d/one
    echo 'this is a/twO' >d/a/two # as long as the other
    ctl reset
    rm "$S3UP_STATE_DIR/ledger.jsonl"
    drains 1 --json --settle 0 --part-size 5M d s3://bkt/t
    json "$T/out"
    is "$(value failed)" 2
    is "$(left d)" 'a/two one '
    is "$(op PutObject) $(op UploadPart)" '0 0'
    is "$(ledger t/c/four) $(ledger t/large) $(ledger t/one)" '1 1 0'
    drains 7 --settle 0 d s3://bkt/t
    is "$(said WARNING 'Failed to upload d/one to bkt/t/one: ')" 1
    err 'something else'
    cp -a d copy
    # A store that knows no conditions is asked before.
    quirk no-if-none-match
    drains 7 --settle 0 d s3://bkt/t
    quirk ''
    check_not same d/one s3://bkt/t/one
    # Somebody is faster: what was free when it was asked is not when it is written.
    for f in one equal; do
        rm -rf fast && mkdir fast
        echo $f >fast/fast
        echo equal >theirs
        ends 0 put -q theirs s3://bkt/f/fast
        fault 'HeadObject */fast error=NoSuchKey n=1'
        case $f in
        one) drains 7 --settle 0 fast s3://bkt/f ;;
        *) drains 0 --settle 0 fast s3://bkt/f ;;
        esac
        calm
        is "$f $(left fast)" "$f $([ $f = equal ] || echo 'fast ')"
        check same theirs s3://bkt/f/fast
    done
    drains 0 --settle 0 --overwrite d s3://bkt/t
    is "$(left d)" ''
    check same copy/one s3://bkt/t/one
    check same copy/a/two s3://bkt/t/a/two
}

sec_move() {
    plain_tree d
    touch -d '2001-02-03 04:05:06.789' d/a/two
    chmod 600 d/a/two
    cp -a d copy
    drains 0 --settle 0 --move-to done d s3://bkt/m
    landed copy m/
    is "$(left d)" ''
    diff -r copy 'done' >"$T/diff" 2>&1
    is "$? $(head -n 3 "$T/diff")" '0 '
    is "$(stat -c '%a %Y' done/a/two)" "$(stat -c '%a %Y' copy/a/two)"
    # Never over a name: it is in the store, and stays.
    echo new >d/one
    echo new >d/new
    run drain --settle 0 --move-to "$PWD/done" d s3://bkt/m2
    check test "$rc" -ne 0
    is "$(left d)" 'one '
    is "$(cat done/one done/new)" "this is one
new"
    err 'd/one is kept: '
    is "$(objects m2/ | cut -c 34- | tr '\n' ' ')" 'new one '
    # As large and as old, and yet another: it is not taken for the same.
    rm -rf d 'done' && mkdir -p d 'done'
    echo new >d/one
    echo old >done/one
    touch -d 2020-02-02 d/one done/one
    run drain --settle 0 --move-to 'done' d s3://bkt/m2b
    is "$rc $(cat d/one done/one | tr '\n' ' ')" "$rc new old "
    check test "$rc" -ne 0
    # Nor through a link that leads elsewhere.
    rm -rf d 'done' && mkdir -p d/a 'done' elsewhere
    ln -s ../elsewhere done/a
    echo x >d/a/x
    run drain --settle 0 --move-to 'done' d s3://bkt/m3
    is "$(ls elsewhere)" ''
    # Inside of what is drained it is not taken.
    rm -rf d && cp -a copy d
    drains 0 --settle 0 --move-to d/done d s3://bkt/m4
    drains 0 --settle 0 --move-to d/done d s3://bkt/m4
    landed copy m4/
    diff -r copy d/done >"$T/diff" 2>&1
    is "$? $(head -n 3 "$T/diff")" '0 '
    # Another file system.
    if [ "$mounts" ]; then
        skip "no other file system is tried: $mounts"
        return
    fi
    rm -rf d && cp -a copy d
    mkdir other
    after='cp -a other moved'
    apart 'mount -t tmpfs none other'
    drains 0 --settle 0 --move-to other/deep/er d s3://bkt/m5
    together
    landed copy m5/
    is "$(left d)" ''
    diff -r copy moved/deep/er >"$T/diff" 2>&1
    is "$? $(head -n 3 "$T/diff")" '0 '
    is "$(stat -c '%a %Y' moved/deep/er/a/two)" "$(stat -c '%a %Y' copy/a/two)"
    # One that is full.
    rm -rf d moved && mkdir d
    bytes $MIB >d/large
    cp -a d copy2
    after='cp -a other moved'
    apart 'mount -t tmpfs -o size=500k none other'
    run drain --settle 0 --move-to other d s3://bkt/m6
    together
    check test "$rc" -ne 0
    is "$(files d)" "$(files copy2)"
    is "$(find moved -type f)" ''
}

# A reply that does not prove what was stored deletes nothing.
sec_etag() {
    mkdir d
    n=0
    # No ETag or another one, and no checksum either; or a checksum alone that is as it should be.
    while read -r safe rules; do
        n=$((n + 1))
        echo "$n" >d/file
        for rule in $rules; do echo "* */file $rule"; done | "$S3D" ctl "$PORT" faults
        run drain --retries 1 --settle 0 d s3://bkt/$n
        calm
        if [ "$safe" = 0 ]; then
            check test "$rc" -ne 0 -a -f d/file
            is "$(ledger $n/file)" 0
        else
            is "$rc $(left d)" '0 '
        fi
        drains 0 --settle 0 d s3://bkt/$n
        is "$(left d)" ''
        is "$(objects $n/)" "$(echo $n | md5sum | cut -c 1-32) file"
    done <<'R'
0 wrong-etag no-sum
0 no-etag no-sum
1 no-etag
1 no-sum
R
    # Of nothing at all anybody has the right length.
    : >d/none
    fault '* */none no-etag' '* */none no-sum'
    run drain --settle 0 d s3://bkt/none
    check test "$rc" -ne 0 -a -f d/none
    calm
    drains 0 --settle 0 d s3://bkt/none
    is "$(left d)" ''
    # Of parts.
    bytes $((6 * MIB)) >d/file
    fault 'CompleteMultipartUpload * wrong-etag' 'CompleteMultipartUpload * no-sum' \
        'HeadObject * wrong-etag' 'HeadObject * no-sum'
    run drain --retries 1 --settle 0 --part-size 5M d s3://bkt/parts
    check test "$rc" -ne 0 -a -f d/file
    # Nor is it by a run that finds it there.
    run drain --retries 1 --settle 0 --part-size 5M d s3://bkt/parts
    check test "$rc" -ne 0 -a -f d/file
    calm
    drains 0 --settle 0 --part-size 5M d s3://bkt/parts
    is "$(left d)" ''
    # A store whose ETags are no MD5, and which echoes nothing, has proven nothing.
    quirk opaque-etag checksum-ignored
    echo opaque >d/file
    run drain --settle 0 d s3://bkt/opaque
    check test "$rc" -ne 0 -a -f d/file
    quirk opaque-etag
    rm d/file
    echo opaque >d/file
    drains 0 --settle 0 d s3://bkt/opaque2
    is "$(left d)" ''
    quirk ''
}

# What changes while it goes up stays, and the next run sends it.
sec_changed() {
    mkdir d
    fault 'PutObject * stall=1'
    for f in grows edited replaced gone renamed stays; do
        mkdir d/$f
        echo "$f: 1" >d/$f/$f
        "$S3UP" drain --json --settle 0 d/$f s3://bkt/c >$f.out 2>$f.err &
        eval "$f=\$!"
    done
    until_so eval '[ "$(op PutObject)" -ge 6 ]'
    echo more >>d/grows/grows
    touch -r d/edited/edited time
    printf X | dd of=d/edited/edited conv=notrunc 2>/dev/null
    touch -r time d/edited/edited # only its ctime tells
    echo new >new && mv new d/replaced/replaced
    rm d/gone/gone
    mv d/renamed/renamed d/renamed/other
    # shellcheck disable=SC2154 # by eval
    for pid in $grows $edited $replaced $gone $renamed $stays; do
        wait "$pid"
        echo $?
    done >codes
    calm
    for f in grows edited replaced gone renamed stays; do
        last="s3up drain, and the file: $f"
        cp $f.err "$T/err"
        check json $f.out
    done
    # Those two are no failures. What changed may have been looked at again by the same run: it
    # is there, or it is stored.
    is "$(sed -n '4p;6p' codes | tr '\n' ' ')" '0 0 '
    check test "$(head -n 3 codes | grep -c '^0$')" = 0
    is "$(left d | sed 's/grows.grows //')" 'edited/edited renamed/other replaced/replaced '
    is "$(cat d/edited/edited d/replaced/replaced)" "Xdited: 1
new"
    # What was sent is not what is there now: it grew, which is known; the others are in the way.
    cp -a d copy
    for f in grows edited replaced renamed; do
        run drain --settle 0 d/$f s3://bkt/c
        case $f in
        grows | renamed) is "$f $rc" "$f 0" ;;
        *) is "$f $rc" "$f 7" ;;
        esac
    done
    is "$(left d)" 'edited/edited replaced/replaced '
    printf 'grows: 1\nmore\n' >grown
    check same grown s3://bkt/c/grows
    check same copy/renamed/other s3://bkt/c/other
    for f in edited replaced; do
        drains 0 --settle 0 --overwrite d/$f s3://bkt/c
        check same copy/$f/$f s3://bkt/c/$f
    done
    is "$(left d)" ''
    # In parts.
    bytes $((16 * MIB)) >d/large
    { cat d/large && echo more; } >grown
    fault 'UploadPart * stall=1'
    begin drain --settle 0 --part-size 5M d s3://bkt/large
    until_so eval '[ "$(op UploadPart)" -ge 1 ]'
    echo more >>d/large
    wait "$pid"
    calm
    [ ! -e d/large ] || check cmp -s grown d/large
    drains 0 --settle 0 --part-size 5M d s3://bkt/large
    check same grown s3://bkt/large/large
    is "$(left d) $("$S3UP" uploads s3://bkt | grep -c .)" ' 0'
}

# A run that was killed has left a file under a name of its own.
sec_token() {
    mkdir d
    for f in stored bent missing back blocked; do echo "$f" >d/$f; done
    cp -a d copy
    drains 0 --settle 0 --keep d s3://bkt/t
    id_of() { sed -n "s/.*\"key\":\"t\\/$1\".*\"id\":\"\\([0-9a-f]*\\)\".*/\\1/p" "$S3UP_STATE_DIR/ledger.jsonl" | tail -n 1; }
    for f in stored bent missing blocked; do
        is "$(id_of $f | grep -c '^[0-9a-f]\{32\}$')" 1
        mv d/$f "d/.s3up-drain.$(id_of $f)"
    done
    echo other >other
    ends 0 put -q other s3://bkt/t/bent
    ends 0 rm -q s3://bkt/t/missing s3://bkt/t/blocked
    echo new >d/blocked
    # One that nobody knows.
    unknown=.s3up-drain.0123456789abcdef0123456789abcdef
    echo unknown >d/$unknown
    run drain --json --settle 0 d s3://bkt/t
    json "$T/out"
    # The one that is stored is gone; where the store has something else, it has its name again;
    # where it has nothing, it goes up again; nothing is written over.
    check_not test -e "d/.s3up-drain.$(id_of stored)" -o -e d/stored
    is "$(cat d/bent)" bent
    check same other s3://bkt/t/bent
    run drain --settle 0 d s3://bkt/t
    check same copy/missing s3://bkt/t/missing
    is "$(cat d/.s3up-drain.* d/blocked 2>/dev/null | sort | tr '\n' ' ')" 'blocked unknown '
    is "$(echo new | md5sum | cut -c 1-32)" "$(objects t/blocked | cut -c 1-32)"
    # A ledger that is lost proves nothing.
    echo x >d/lost
    run drain --settle 0 --keep d s3://bkt/t
    check test -n "$(id_of lost)"
    mv d/lost "d/.s3up-drain.$(id_of lost)"
    rm "$S3UP_STATE_DIR/ledger.jsonl"
    run drain --settle 0 d s3://bkt/t
    is "$(cat d/.s3up-drain.* d/lost 2>/dev/null | grep -c '^x$')" 1
}

sec_prune() {
    mkdir -p d/old/er d/young d/full d/a/b/c d/2020/11/29
    echo x >d/full/x
    echo y >d/2020/11/29/y.dat
    echo z >d/a/b/z
    ln -s nowhere d/old/link
    touch -d '2 hours ago' d/old/er d/old d/full d/a/b/c d/a/b d/a d/2020/11/29 d/2020/11 d/2020 d
    drains 3 --settle 0 --prune --exclude x d s3://bkt/p
    # A folder is young when something was taken from it.
    is "$(cd d && find . -type d | sort | tr '\n' ' ')" \
        '. ./2020 ./2020/11 ./2020/11/29 ./a ./a/b ./full ./old ./young '
    touch -d '2 hours ago' d/2020/11/29 d/2020/11 d/2020 d/a/b d/a
    drains 3 --settle 0 --prune --exclude x d s3://bkt/p
    is "$(cd d && find . -type d | sort | tr '\n' ' ' | sed 's/ \.\/a\(\/b\)\?//g')" '. ./full ./old ./young '
    drains 3 --settle 0 --prune --prune-age 0 --exclude x d s3://bkt/p
    is "$(cd d && find . -type d | sort | tr '\n' ' ')" '. ./full ./old '
    rm d/old/link
    drains 0 --settle 0 --prune --prune-age 0 d s3://bkt/p
    is "$(find d)" d
    # Without it they stay.
    mkdir d/stays
    touch -d '2 days ago' d/stays
    drains 0 --settle 0 d s3://bkt/p
    check test -d d/stays
    # A whole tree of empty folders goes in one run.
    mkdir -p d/l/o/n/g
    find d -mindepth 1 -depth -type d -exec touch -d '2 days ago' {} +
    drains 0 --settle 0 --prune --prune-age 1d d s3://bkt/p
    drains 0 --settle 0 --prune --prune-age 0 d s3://bkt/p
    is "$(find d)" d
}

sec_quarantine() {
    # What sends everything elsewhere says nothing about any file.
    mkdir -p d/sub
    for i in 1 2 3 4 5; do echo $i >d/$i; done
    fault 'PutObject * redirect-301=no-such-region'
    for _ in 1 2 3; do run drain --settle 0 --quarantine 2 d s3://bkt/q0; done
    is "$(left d)" '1 2 3 4 5 '
    # Nor does one that takes nothing, when it only has what an earlier run had sent.
    fault 'PutObject */[2-5] access-denied'
    ends 0 put -q d/1 s3://bkt/q0/1
    for _ in 1 2 3; do
        run drain --settle 0 --quarantine 2 d s3://bkt/q0
        echo 1 >d/1
    done
    calm
    drains 0 --settle 0 --quarantine 2 d s3://bkt/q0
    is "$(left d)" ''
    echo mine >d/sub/taken
    echo x >d/refused
    echo good >d/good
    echo theirs >theirs
    ends 0 put -q theirs s3://bkt/q/sub/taken
    fault 'PutObject */refused error=InvalidArgument'
    run drain --settle 0 --quarantine 2 d s3://bkt/q
    is "$rc $(left d)" "$rc refused sub/taken "
    check test "$rc" -ne 0
    # A store that is down counts nothing.
    fault '* * 503'
    drains 5 --retries 0 --settle 0 --quarantine 2 d s3://bkt/q
    AWS_SECRET_ACCESS_KEY=wrong
    calm
    drains 6 --settle 0 --quarantine 2 d s3://bkt/q
    AWS_SECRET_ACCESS_KEY=$SECRET
    is "$(left d)" 'refused sub/taken '
    fault 'PutObject */refused error=InvalidArgument'
    run drain --settle 0 --quarantine 2 d s3://bkt/q
    is "$(left d)" '.s3up-quarantine/refused .s3up-quarantine/sub/taken '
    err '.s3up-quarantine'
    is "$(cat d/.s3up-quarantine/refused d/.s3up-quarantine/sub/taken)" 'x
mine'
    calm
    ctl reset
    drains 0 --settle 0 --quarantine 2 d s3://bkt/q
    drains 0 --settle 0 d s3://bkt/q
    is "$(op HeadObject) $(op PutObject)" '0 0'
    # A second one of that name does not take the first one's place.
    echo again >d/sub/taken
    run drain --settle 0 --quarantine 1 d s3://bkt/q
    is "$(cat d/.s3up-quarantine/sub/taken)" mine
    is "$(find d -type f -exec cat {} + | grep -c again)" 1
    # A key that is too long.
    rm -rf d && mkdir d
    name=$(awk 'BEGIN { for (i = 0; i < 200; i++) printf "n" }')
    echo x >"d/$name"
    long=$(awk 'BEGIN { for (i = 0; i < 900; i++) printf "k" }')
    run drain --settle 0 --quarantine 1 d "s3://bkt/$long"
    check test -f "d/.s3up-quarantine/$name" -a "$rc" -ne 0
}

# ---- what is no file, or not ours to take ----

sec_special() {
    mkdir -p d/sub out
    echo secret >out/of
    echo 1 >d/plain
    echo 2 >d/sub/plain
    echo 3 >d/hard
    ln d/hard out/hard
    ln -s ../out/of d/link
    ln -s ../out d/away
    ln -s plain d/near
    ln -s nowhere d/dangling
    ln -s . d/round
    mkfifo d/fifo
    "$SPOOL" socket d/socket
    echo part >d/file.s3up-part
    skips=8
    if [ "$(id -u)" = 0 ] && mknod d/null c 1 3 2>/dev/null; then skips=9; fi
    drains 3 --json --settle 0 d s3://bkt/s
    json "$T/out"
    tally 2 0 $skips 0 0
    is "$(objects s/ | cut -c 34- | tr '\n' ' ')" 'plain sub/plain '
    for f in link away near dangling round fifo socket hard; do
        is "$(grep -c "\"event\":\"skipped\".*d/$f\"" "$T/out")" 1
        check test -e d/$f -o -L d/$f
    done
    drains 3 --settle 0 d s3://bkt/s
    for f in link away near dangling round fifo socket hard; do
        is "$(said WARNING "d/$f was skipped: ")" 1
    done
    is "$(cat out/of out/hard d/file.s3up-part)" 'secret
3
part'
    # Its last other name is gone: then it is a file as any other.
    rm out/hard
    drains 3 --settle 0 d s3://bkt/s
    check_not test -e d/hard
    # The folder itself may be a link: that is how it was named.
    ln -s d to
    echo 4 >d/four
    drains 3 --settle 0 to s3://bkt/s
    check_not test -e d/four
    # What is its own.
    rm -rf d && mkdir -p d/.s3up-quarantine
    echo data | tee d/data d/.s3up-quarantine/q >/dev/null
    echo '{"base_dir": "d", "s3_bucket": "bkt"}' >d/config.dat
    S3UP_STATE_DIR=$PWD/d/state
    drains 0 --settle 0 --metrics d/metrics.dat --config d/config.dat --include '*'
    echo more >d/more
    drains 0 --settle 0 --metrics d/metrics.dat --config d/config.dat --include '*'
    is "$(objects | grep -v ' s/' | cut -c 34- | tr '\n' ' ')" 'data more '
    is "$(left d)" '.s3up-quarantine/q config.dat metrics.dat state/ledger.jsonl '
    # Another file system below it.
    S3UP_STATE_DIR=$W/$section.state
    rm -rf d && mkdir -p d/mnt
    echo x | tee d/x >y
    if [ "$mounts" ]; then skip "no other file system is tried: $mounts"; else
        apart 'mount -t tmpfs none d/mnt' 'cp y d/mnt/inside'
        run drain --settle 0 --prune --prune-age 0 d s3://bkt/mnt
        together
        check test "$rc" = 3 -o "$rc" = 0
        is "$(objects mnt/ | cut -c 34-)" x
        err d/mnt
    fi
}

# As somebody who is not root, for whom rights are rights.
if [ "$(id -u)" != 0 ]; then
    nobody=''
elif command -v setpriv >/dev/null; then
    nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
else
    nobody=none
fi

sec_rights() {
    if [ "$nobody" = none ]; then
        skip 'no rights are tried: root, and no setpriv'
        return
    fi
    mkdir -p d/shut d/closed d/open
    for f in open/a open/b closed/c shut/d unreadable; do echo $f >d/$f; done
    chmod 755 "$W"
    mkdir -m 700 "$S3UP_STATE_DIR"
    [ -z "$nobody" ] || chown -R 65534 d "$S3UP_STATE_DIR"
    chmod 0 d/shut d/unreadable
    chmod 555 d/closed # read, but nothing deleted
    cp "$S3UP" s3up
    keep=$S3UP S3UP=$PWD/s3up limit="$nobody timeout 100"
    run drain --settle 0 d s3://bkt/r
    check test "$rc" -ne 0
    is "$(objects r/ | cut -c 34- | tr '\n' ' ')" 'closed/c open/a open/b '
    is "$(said WARNING 'd/closed/c is kept: ')" 1
    err d/shut 'd/unreadable'
    ctl reset
    run drain --settle 0 d s3://bkt/r
    check test "$rc" -ne 0
    is "$(said WARNING 'd/closed/c is kept: ') $(op PutObject)" '1 0'
    chmod 755 d/shut d/closed
    chmod 644 d/unreadable
    drains 0 --settle 0 d s3://bkt/r
    is "$(left d) $(op PutObject)" ' 2'
    S3UP=$keep
    together
}

sec_readonly() {
    if [ "$mounts" ]; then
        skip "no read-only folder is tried: $mounts"
        return
    fi
    plain_tree d
    cp -a d copy
    puts=
    for _ in 1 2; do
        ctl reset
        apart 'mount --bind d d' 'mount -o remount,ro,bind d'
        run drain --settle 0 d s3://bkt/r
        together
        check test "$rc" -ne 0
        is "$(said WARNING ' is kept: it cannot be removed: ') $(said WARNING ' is kept: ')" '5 5'
        landed copy r/
        is "$(files d)" "$(files copy)"
        puts="$puts $(op PutObject)"
    done
    is "$puts" ' 5 0'
    drains 0 --settle 0 d s3://bkt/r
    is "$(left d) $(op PutObject)" ' 0'
    is "$(awk '$1 == "+"' "$W/$section.store/b/bkt/index" | grep -c .)" 5
}

# ---- what goes wrong elsewhere ----

sec_down() {
    plain_tree d
    cp -a d copy
    # Nobody is there.
    fault '* * reset-before'
    drains 5 --retries 0 --settle 0 d s3://bkt/d
    for f in one a/two a/b/three c/four c/empty; do
        is "$(said WARNING "Failed to upload d/$f to bkt/d/$f: ")" 1
    done
    is "$(files d)" "$(files copy)"
    calm
    AWS_ENDPOINT_URL=http://127.0.0.1:1 run drain --retries 0 --settle 0 d s3://bkt/d
    is "$rc $(said WARNING 'Failed to upload ')" '5 5'
    is "$(files d)" "$(files copy)"
    # It comes back while the run still tries.
    fault '* * 502 n=4'
    drains 0 --settle 0 d s3://bkt/d
    calm
    landed copy d/
    is "$(left d)" ''
    # The bucket is not there.
    plain_tree d
    run drain --settle 0 d s3://nosuch/d
    check test "$rc" -ne 0
    is "$(files d)" "$(files copy)"
    # One of them is refused: the others go.
    fault 'PutObject */two access-denied' 'HeadObject */four access-denied'
    run drain --settle 0 d s3://bkt/d2
    check test "$rc" -ne 0
    is "$(left d)" 'a/two c/four '
    is "$(said WARNING 'Failed to upload d/a/two to bkt/d2/a/two: ')" 1
    calm
    # Every kind of trouble, and each file once.
    rm -rf d copy && mkdir d
    for i in $(seq 100 299); do echo "$i" >"d/$i"; done
    cp -a d copy
    for action in reset-before reset-during reset-after cut-reply cut-head lost-reply silent-close 500 502 \
        504 request-timeout chunked-reply interim=2 empty-error=500; do
        echo "* * $action p=1"
    done | "$S3D" ctl "$PORT" faults
    drains 0 -q --retries 20 --settle 0 d s3://bkt/d3
    calm
    landed copy d3/
    is "$(left d)" ''
    is "$(awk '$1 == "+" && $7 ~ /^d3\//' "$W/$section.store/b/bkt/index" | grep -c .)" 200
}

# Wrong keys are asked about once, and every file is named.
sec_denied() {
    mkdir d
    for i in $(seq 100 199); do echo "$i" >"d/$i"; done
    AWS_SECRET_ACCESS_KEY=wrong
    drains 6 --settle 0 d s3://bkt/k
    is "$(said WARNING 'Failed to upload d/') $(left d | wc -w)" '100 100'
    is "$(grep -a -o 'd/1[0-9]* to bkt/k/1[0-9]*: ' "$T/err" | sort -u | grep -c .)" 100
    check test "$(ctl stats requests)" -lt 30
    drains 6 --json --settle 0 d s3://bkt/k
    json "$T/out"
    tally 0 0 0 100 100
    is "$(grep -c '"event":"error"' "$T/out")" 100
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    run drain --settle 0 d s3://bkt/k
    is "$rc $(left d | wc -w)" '6 100'
}

# What cannot be noted is not deleted.
sec_full() {
    plain_tree d
    cp -a d copy
    mkdir -m 700 state
    S3UP_STATE_DIR=$PWD/state
    printf '#!/bin/sh\nulimit -f 0\nexec "$@"\n' >small
    chmod +x small
    limit=$PWD/small
    run drain --settle 0 d s3://bkt/f </dev/null
    together
    is "$rc $(files d)" "5 $(files copy)"
    rm -rf state
    if [ "$mounts" ]; then skip "no full disk is tried: $mounts"; else
        mkdir -m 700 state
        apart 'mount -t tmpfs -o size=4k,mode=700 none state' \
            '{ head -c 9000 /dev/zero >state/fill 2>/dev/null; test -s state/fill; }'
        ctl reset
        run drain --settle 0 d s3://bkt/f2
        together
        is "$rc $(files d)" "5 $(files copy)"
        err 'No space left'
    fi
    # Without any state folder, too.
    echo x >file
    S3UP_STATE_DIR=$PWD/file
    run drain --settle 0 d s3://bkt/f3
    check test "$rc" -ne 0
    is "$(files d)" "$(files copy)"
    # With room again: what is stored already is not sent again.
    S3UP_STATE_DIR=$W/$section.state
    ctl reset
    drains 0 --settle 0 d s3://bkt/f2
    [ "$mounts" ] || is "$(op PutObject)" 0
    is "$(left d) $(grep -c . "$S3UP_STATE_DIR/ledger.jsonl")" ' 5'
}

# ---- more than one, and for ever ----

sec_lock() {
    plain_tree d
    cp -a d copy
    fault 'PutObject * stall=60'
    begin drain --settle 0 d s3://bkt/l
    until_so eval '[ "$(op PutObject)" -gt 0 ]'
    first=$pid
    mkdir "$W/lock2" && OUT=$T T=$W/lock2
    : >"$T/err" && : >"$T/out"
    run drain --settle 0 d s3://bkt/l
    is "$rc" 8
    err d
    # By whatever name, and wherever to.
    ln -s d by
    run drain --settle 0 "$PWD/by/" s3://bkt/other
    is "$rc" 8
    # A folder of its own is free.
    mkdir e && echo e >e/e
    calm
    fault 'PutObject */l/* stall=60'
    drains 0 --settle 0 e s3://bkt/e
    begin drain --wait --settle 0 d s3://bkt/l
    second=$pid
    sleep 0.3
    check lives "$second"
    calm # before the second can ask for anything
    kill -s KILL "$first"
    pid=$second
    ended 0
    T=$OUT
    wait "$first"
    landed copy l/
    is "$(left d)" ''
    # No lock outlives who had it.
    echo x >d/x
    drains 0 --settle 0 d s3://bkt/l
}

gone_soon() { # FILE...: within the time that it may take
    for f; do
        n=0
        while [ -e "$f" ] && [ $n -lt 400 ]; do
            n=$((n + 1))
            sleep 0.05
        done
        check_not test -e "$f"
    done
}

sec_watch() {
    mkdir -p d away/tree/in
    echo 1 >d/before
    begin drain --watch --settle 0 --metrics metrics d s3://bkt/w
    gone_soon d/before
    for i in 1 2 3; do
        echo "$i" >d/new$i
        gone_soon d/new$i
    done
    # A folder that is new, with a file at once; deep; and a tree that was made elsewhere.
    mkdir -p d/dir/deep/er && echo x >d/dir/deep/er/x
    gone_soon d/dir/deep/er/x
    echo y >d/dir/y
    echo z >away/tree/z
    echo z >away/tree/in/z
    mv away/tree d/
    gone_soon d/dir/y d/tree/z d/tree/in/z
    echo more >d/tree/in/more
    gone_soon d/tree/in/more
    # A file that is moved in, and one that is written slowly.
    echo m >away/moved
    mv away/moved d/moved
    exec 7>d/slow
    echo first >&7
    gone_soon d/moved
    check test -e d/slow
    echo second >&7
    exec 7>&-
    gone_soon d/slow
    check until_so eval '[ "$(objects w/ | grep -c .)" = 11 ]'
    is "$(objects w/slow | cut -c 1-32)" "$(printf 'first\nsecond\n' | md5sum | cut -c 1-32)"
    check until_so grep -q '^s3up_backlog_files 0$' metrics
    # The store is away for a while.
    fault '* * 503'
    echo later >d/later
    check until_so eval '[ "$(op HeadObject)" -gt 13 ]'
    check test -e d/later
    check lives "$pid"
    calm
    # It grows, and what it costs does not: nothing turns while nothing happens.
    touch d/wake
    gone_soon d/wake
    ctl reset
    sleep 0.5
    is "$(ctl stats requests)" 0
    kill -s TERM "$pid"
    ended 0
    is "$(grep -v -a "$stamp" "$T/err" | head -n 3)" ''
    # Long --settle: it comes back by itself when the time is over.
    echo s >d/settles
    begin drain --watch --settle 1 d s3://bkt/w
    gone_soon d/settles
    # In the middle of something.
    fault 'PutObject * stall=30'
    echo i >d/stuck
    ctl reset
    until_so eval '[ "$(op PutObject)" -gt 0 ]'
    kill -s TERM "$pid"
    ended 0
    check test -e d/stuck
    is "$(find d -name '.s3up*')" ''
    calm
    begin drain --watch --settle 0 d s3://bkt/w
    gone_soon d/stuck
    kill -s INT "$pid"
    ended 130
}

# Killed at any moment: see soak.sh. Here, in the middle of a large one.
sec_killed() {
    mkdir d
    bytes $((21 * MIB)) >d/large
    cp -a d copy
    fault 'UploadPart * stall=30 after=3'
    begin drain --settle 0 -j 2 --part-size 5M d s3://bkt/k
    until_so eval '[ "$(find "$S3UP_STATE_DIR" -type f -exec cat {} + | grep -c "^part ")" -ge 2 ]' ||
        fail 'no part was noted'
    kill -s KILL "$pid"
    ended 137
    calm
    is "$(files d)" "$(files copy)"
    ctl reset
    drains 0 --settle 0 -j 2 --part-size 5M d s3://bkt/k
    check test "$(op UploadPart)" -le 3
    is "$(left d)" ''
    check same copy/large s3://bkt/k/large
    is "$("$S3UP" uploads s3://bkt | grep -c .)" 0
}

# ---- what it tells ----

sec_tells() {
    mkdir d
    for i in 1 2 3; do echo $i >d/$i; done
    echo theirs >theirs
    ends 0 put -q theirs s3://bkt/t/2
    ln -s 1 d/link
    hold w d/3
    drains 1 --json --settle 0 --metrics m d s3://bkt/t
    let_go
    json "$T/out"
    tally 1 0 1 1 2
    is "$(value bytes)" 2
    check grep -q '^{"event":"done","source":"d/1","target":"s3://bkt/t/1"' "$T/out"
    check grep -q '^{"event":"error","source":"d/2"' "$T/out"
    check grep -q '^{"event":"skipped".*d/link.*"reason":"' "$T/out"
    is "$(tail -n 1 "$T/out" | cut -c 1-18)" '{"event":"summary"'
    # Metrics: what Prometheus wants, and what is left.
    is "$(grep -v '^# \|^s3up_[a-z_]* [0-9][0-9]*$' m)" ''
    is "$(sed -n 's/^s3up_backlog_files //p' m) $(sed -n 's/^s3up_backlog_bytes //p' m)" '2 4'
    check grep -q '^s3up_backlog_oldest_seconds [0-9]*$' m
    check grep -q '^s3up_last_run_exit_code 1$' m
    touch -d '3000 seconds ago' d/2
    drains 1 -q --settle 0 --metrics m d s3://bkt/t
    oldest=$(sed -n 's/^s3up_backlog_oldest_seconds //p' m)
    check test "$oldest" -ge 3000 -a "$oldest" -lt 3100
    is "$(said WARNING 'Failed to upload d/2 to bkt/t/2: ') $(said INFO '')" '1 0'
    # Nothing but what was to be said, and to the right place.
    rm d/2 d/link
    drains 0 --settle 0 d s3://bkt/t
    silent out
    # Names cannot end a line, nor bring a terminal to anything.
    odd=$(printf 'd/new\nline\033[31m')
    echo x >"$odd"
    drains 0 --settle 0 d s3://bkt/odd
    is "$(grep -c . "$T/err")" 1
    check_not grep -q "$(printf '\033')" "$T/err"
}

sec_history() {
    mkdir -m 700 "$S3UP_STATE_DIR"
    for ago in '3 days ago' '5 hours ago' '2 hours ago' '10 minutes ago'; do
        printf '{"time":"%s","path":"/d/%s","endpoint":"http://x","bucket":"b","key":"k/%s","size":5,"etag":"e","checksum":"md5","seconds":0}\n' \
            "$(date -u -d "$ago" +%Y-%m-%dT%H:%M:%SZ)" "$ago" "$ago"
    done >"$S3UP_STATE_DIR/ledger.jsonl"
    chmod 600 "$S3UP_STATE_DIR/ledger.jsonl"
    while IFS='|' read -r since n; do
        ends 0 history --since "$since"
        is "$since: $(grep -c . "$T/out")" "$since: $n"
        ends 0 history --json --since "$since"
        is "$since: $(grep -c . "$T/out")" "$since: $n"
    done <<EOF2
4d|4
2d|3
3h|2
30m|1
300|0
$(date -u -d '4 days ago' +%Y-%m-%d)|4
$(date -u -d '2 days ago' +%Y-%m-%d)|3
$(date -u -d '3 hours ago' +%Y-%m-%dT%H:%M:%SZ)|2
$(date -u -d tomorrow +%Y-%m-%d)|0
EOF2
    ends 0 history --since 4d '*2 hours*'
    is "$(grep -c . "$T/out")" 1
    for bad in x 2020-13-01 2020-1-1 '' -1d 2020-02-30 10:00; do
        refused 2 '' history --since "$bad"
    done
}

sec_help() {
    for what in systemd cron openwrt; do
        ends 0 help $what
        cp "$T/out" $what
        out "$S3UP drain" "$S3UP sweep"
        silent err
    done
    check sh -n openwrt
    if command -v shellcheck >/dev/null; then
        # What it sources is OpenWrt's.
        check shellcheck -s sh -S warning -e SC1091,SC2034,SC2154 openwrt
    else
        skip 'shellcheck is not here'
    fi
    check grep -q '^[^#].*s3up drain ' cron
    # Units follow a line that names them.
    mkdir units
    awk '/^# .*\.(service|timer|path)$/ { f = "units/" $NF; sub(/.*\//, "", $NF); f = "units/" $NF }
        f { print >f }' systemd
    check test "$(find units -name '*.service' | grep -c .)" -ge 1
    check test "$(find units -name '*.timer' | grep -c .)" -ge 1
    if command -v systemd-analyze >/dev/null; then
        systemd-analyze verify units/* >"$T/out" 2>"$T/err"
        is "$(grep 'units/\|s3up' "$T/err" | head -n 4)" ''
    else
        skip 'systemd-analyze is not here'
    fi
    # Every verb's own page names its options, and no others.
    ends 0 help drain
    for o in settle include exclude keep move-to prune prune-age quarantine max-files max-time \
        limit-rate overwrite wait watch metrics state-dir jobs part-size threshold checksum json \
        quiet verbose dry-run config; do
        out "--$o"
    done
    ends 0 help history
    out --since
}

# ---- many ----

sec_many() {
    n=${MANY:-5000}
    mkdir d
    awk -v n="$n" 'BEGIN {
        for (i = 0; i < n; i++) {
            if (i % 100 == 0) { at = sprintf("d/%d", i / 100); system("mkdir " at) }
            f = at "/" i
            printf "%s", substr("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789", 1, i % 101) >f
            close(f)
        }
    }'
    is "$(find d -type f | grep -c .)" "$n"
    bytes_all=$(find d -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
    cp -a d copy
    last='s3up drain, of many'
    # shellcheck disable=SC2046
    set -- $("$SOAK" memory 600000 "$S3UP" drain -q -j 8 --settle 0 d s3://bkt/n 2>&1)
    kib=${1:-0}
    echo "drain of $n files: $kib KiB (PSS of ${2:-no} processes, the first has ${3:-0})" >&2
    if grep -q __asan_ "$S3UP"; then skip 'memory: this build has AddressSanitizer'; else
        check test "$kib" -gt 0 -a "$kib" -lt 8192
    fi
    is "$(find d -type f | grep -c .)" 0
    landed copy n/
    is "$(grep -c . "$S3UP_STATE_DIR/ledger.jsonl")" "$n"
    is "$(op PutObject)" "$n"
    is "$(ls "$S3UP_STATE_DIR")" ledger.jsonl
    drains 0 --json --settle 0 d s3://bkt/n
    tally 0 0 0 0 0
    is "$(sed -n 's/.*"size":\([0-9]*\).*/\1/p' "$S3UP_STATE_DIR/ledger.jsonl" | awk '{ n += $1 } END { print n }')" \
        "$bytes_all"
}

# ---- running all of it ----

store_of() { # SECTION: lists have short pages
    echo '--min-part 100'
}

# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
