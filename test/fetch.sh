#!/bin/sh
# fetch.sh: downloads of many ranges. Whatever ended a run, the same command goes on behind
# it; what is on disk is fetched once; and under the final name there is the object, whole,
# or what was there before. The numbers are those of the store itself.
#
#   test/fetch.sh S3UP S3D [SECTION...]
#
# Needs sh and what POSIX has beside it; what needs root is skipped aloud where it is
# missing. SOAK=FILE, the compiled test/soak.c, has memory measured as well. Ends with
# `N passed, M failed`; 1 if any failed.
[ -z "${SOAK-}" ] || SOAK=$(cd "$(dirname "$SOAK")" && pwd)/${SOAK##*/}
. "${0%/*}/lib.sh" # shifts the first two away

# ---- what these tests are made of ----

BIG=$W/big OTHER=$W/other
head -c 27000000 /dev/urandom >"$BIG"   # five ranges of 5 MiB and a shorter one
head -c 27000000 /dev/urandom >"$OTHER" # as large, and another

ranges() { # how many the store was asked for since the last reset
    ctl log | awk '$4 == 206 && $8 == "GetObject"' | grep -c .
}

carried() { # how many bytes of them it has sent since
    ctl log | awk '$4 == 206 && $8 == "GetObject" { n += $6 } END { printf "%d", n }'
}

op() { # NAME: how many requests of that kind the store has had since
    ctl stats | awk -v op="op.$1" '$1 == op { n = $2 } END { print n + 0 }'
}

at_least() { # N COMMAND...: its number is N or more
    least=$1
    shift
    [ "$("$@")" -ge "$least" ]
}

journals() {
    find "$S3UP_STATE_DIR" -name '????????????????????????????????*' 2>/dev/null | grep -c .
}

journal() { # the path of the only one
    echo "$S3UP_STATE_DIR"/????????????????????????????????*
}

noted() { # how many ranges stand in it
    cat "$S3UP_STATE_DIR"/????????????????????????????????* 2>/dev/null | grep -c '^range '
}

are_noted() { # N
    [ "$(noted)" = "$1" ]
}

left() { # what is in this folder under a temporary name
    find . -name '*.s3up-part*' | grep -c .
}

clean() { # FILE: it is there, and nothing beside it, nor about it
    is "$(journals) $(left)" '0 0'
    check test -f "$1"
}

# A run that has fetched all but two ranges, which the store does not go on sending. The
# first request is for the whole, and too large an answer.
hold() { # ARG...: behind get
    ctl reset
    fault 'GetObject * stall-body=60 after=3 n=2'
    begin get --part-size 5M --threshold 5M -j 4 "$@"
    until_so are_noted 4 || fail "no four ranges were noted"
}

# The store writes a request down when it ends, and what was cut off ends a little later:
# when the other side's end has come to it.
is_alone() {
    [ "$(ctl stats open)" = 0 ]
}

half() { # ARG...: the same, cut off
    hold "$@"
    kill -s INT "$pid"
    ended 130
    calm
    until_so is_alone || fail 'the store still has what was cut off'
    ctl reset
}

# The same command goes on: so many ranges are asked for, and x is what the object is.
goes_on() { # N FILE URI ARG...
    count=$1 from=$2 uri=$3
    shift 3
    ends 0 get --part-size 5M --threshold 5M "$@" "$uri" x
    is "$(ranges)" "$count"
    check test "$(carried)" -le $((count * 5250000)) # and their heads
    check cmp -s "$from" x
    clean x
    rm -f x
    ctl reset
}

workers() { # of the run that was begun
    pgrep -P "$pid"
}

one_worker() { # that writes to the temporary file
    for w in $(workers); do
        find "/proc/$w/fd" -lname '*.s3up-part' 2>/dev/null | grep -q . && echo "$w" && return
    done
    return 1
}

none_left() { # no s3up that was started in this folder is alive
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        there=$(for p in $(pgrep -x s3up); do readlink "/proc/$p/cwd"; done)
        case "$there
" in
        *"$PWD
"*) sleep 0.1 ;;
        *) return 0 ;;
        esac
    done
    return 1
}

stored() { # FILE URI ARG...: as one part, whose ETag is its MD5
    file=$1 uri=$2
    shift 2
    "$S3UP" put -q --threshold 1G "$@" "$file" "$uri" || fail "cannot store $uri"
}

in_parts() { # FILE URI ARG...: its ETag tells nothing
    file=$1 uri=$2
    shift 2
    "$S3UP" put -q --part-size 5M --threshold 5M "$@" "$file" "$uri" || fail "cannot store $uri"
}

own() { # a section with a state folder of its own
    S3UP_STATE_DIR=$PWD/state
    export S3UP_STATE_DIR
    stored "$BIG" s3://bkt/o
    in_parts "$BIG" s3://bkt/mp
    ctl reset
}

# ---- 1: what ends a run ----

sec_stops() {
    own
    for how in INT:130 TERM:143 HUP:129; do
        for jobs in 1 4; do
            if [ $jobs = 1 ]; then
                ctl reset
                fault 'GetObject * stall-body=60 after=4'
                begin get --part-size 5M --threshold 5M -j 1 s3://bkt/o x
                until_so are_noted 3
            else
                hold s3://bkt/o x
            fi
            have=$(noted)
            begun=$(date +%s)
            kill -s "${how%:*}" "$pid"
            ended "${how#*:}"
            check test $(($(date +%s) - begun)) -le 2
            err "$have of 6 parts are here" 'the same command goes on'
            check_not test -e x
            check test -f x.s3up-part
            is "$(journals) $(noted)" "1 $have"
            check none_left
            calm
            ctl reset
            goes_on $((6 - have)) "$BIG" s3://bkt/o
            err "$have of 6 parts"
        done
    done
}

# Killed outright at every number of ranges: the run, one worker of it, all of them.
sec_kills() {
    own
    for have in 0 1 2 3 4 5; do
        for who in parent all; do
            ctl reset
            fault "GetObject * stall-body=60 after=$((have + 1))"
            begin get --part-size 5M --threshold 5M -j 2 s3://bkt/mp x
            until_so are_noted $have
            until_so at_least $((have + 2)) op GetObject
            if [ $who = all ]; then
                # shellcheck disable=SC2046
                kill -s KILL $(workers) "$pid"
            else
                kill -s KILL "$pid"
            fi
            wait "$pid" 2>/dev/null
            check none_left
            check_not test -e x
            calm
            ctl reset
            goes_on $((6 - $(noted))) "$BIG" s3://bkt/mp
        done
    done
    # A worker alone: nobody notices.
    ctl reset
    fault 'GetObject * stall-body=60 after=2 n=1'
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/mp x
    until_so are_noted 5
    victim=$(one_worker)
    check test -n "$victim"
    kill -s KILL "$victim"
    ended 0
    is "$(op GetObject)" 8 # the first is for the whole
    check cmp -s "$BIG" x
    clean x
    calm
    # One after the other, until there is no sense in it; what is there stays.
    rm x
    ctl reset
    fault 'GetObject * stall-body=60 after=4'
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/mp x
    until_so are_noted 3
    until_so killing
    ended 5
    err 'keep dying'
    calm
    ctl reset
    goes_on 3 "$BIG" s3://bkt/mp
    # The same with what goes in one request: then nothing stays.
    printf small >s
    stored s s3://bkt/s
    stored s s3://bkt/t
    fault 'GetObject *s stall-body=60'
    begin get -j 2 s3://bkt/s s3://bkt/t .
    until_so killing
    ended 1
    err 'keep dying'
    calm
    is "$(journals) $(left) $(cat t)" '0 0 small'
    check cmp -s s t
    # Killed with the run, a temporary file stays, and does not stay in the way.
    rm t
    fault 'GetObject *t stall-body=60'
    begin get -j 2 s3://bkt/t s3://bkt/s ./
    until_so test -e t.s3up-part
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    calm
    ends 0 get s3://bkt/t .
    check cmp -s s t
    clean t
}

killing() { # until the run has ended
    victim=$(one_worker) && kill -s KILL "$victim"
    ! lives "$pid"
}

# ---- 2: keys, links, stores ----

profile() { # ID SECRET
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$1" "$2" >creds
}

sec_rotation() {
    own
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    AWS_SHARED_CREDENTIALS_FILE=$PWD/creds
    export AWS_SHARED_CREDENTIALS_FILE
    both="$KEY:$SECRET
$TKEY:$TSECRET"
    for why in expired unknown; do
        for jobs in 1 4; do
            profile "$KEY" "$SECRET"
            ctl reset
            more=''
            [ $why = unknown ] || more="GetObject * expired-token after=$((jobs + 1)) n=1"
            fault "GetObject * stall-body=1 after=1 n=$jobs" "$more"
            begin get --part-size 5M --threshold 5M -j $jobs s3://bkt/o x
            until_so at_least $((jobs + 1)) op GetObject # none of them is at its end
            profile "$TKEY" "$TSECRET"
            [ $why = expired ] || ctl keys "$TKEY:$TSECRET"
            ended 0
            is "$(ranges)" 6
            err 'keys were replaced'
            calm
            check cmp -s "$BIG" x
            clean x
            rm x
            printf '%s\n' "$both" | "$S3D" ctl "$PORT" keys
        done
    done
    # Wrong from the start of a later run, or from the middle of this one: what is there
    # waits for the right ones.
    profile "$KEY" "$SECRET"
    half s3://bkt/o x
    profile "$KEY" not-the-secret
    ends 6 get --part-size 5M --threshold 5M s3://bkt/o x
    err 'are the keys right'
    check test "$(ctl stats requests)" -le 3
    is "$(journals) $(noted) $(op GetObject)" '1 4 0'
    profile "$KEY" "$SECRET"
    ctl reset
    goes_on 2 "$BIG" s3://bkt/o
    fault 'GetObject * stall-body=1 after=3 n=2'
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/o x
    until_so at_least 2 noted
    ctl keys "$TKEY:$TSECRET"
    ended 6
    err InvalidAccessKeyId
    calm
    printf '%s\n' "$both" | "$S3D" ctl "$PORT" keys
    have=$(noted)
    until_so eval '[ "$(ctl stats open)" = 0 ]' # what it still sends is not of the next run
    ctl reset
    goes_on $((6 - have)) "$BIG" s3://bkt/o
    # Objects behind the first are not tried with keys that are wrong.
    profile "$KEY" not-the-secret
    ends 6 get s3://bkt/o s3://bkt/mp ./
    err 'mp was not fetched, for the same reason'
    check test "$(ctl stats requests)" -le 3
    is "$(journals) $(left)" '0 0'
}

sec_down() {
    own
    store stopped --key "$KEY:$SECRET" --bucket bkt
    downpid=$!
    PORT=$(cat "$W/stopped.port")
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
    in_parts "$BIG" s3://bkt/o
    hold --retries 1 s3://bkt/o x
    kill -s KILL "$downpid"
    ended 5
    is "$(journals) $(noted)" '1 4'
    ends 5 get --retries 1 --part-size 5M --threshold 5M s3://bkt/o x
    err refused
    is "$(journals) $(noted)" '1 4'
    check_not test -e x
    rm "$W/stopped.port"
    store stopped --key "$KEY:$SECRET" --bucket bkt --port "$PORT"
    downpid=$!
    ctl reset
    goes_on 2 "$BIG" s3://bkt/o
    # It comes back while a run waits for it.
    fault 'GetObject * stall-body=0.3 after=1'
    begin get --part-size 5M --threshold 5M -j 2 --retries 12 s3://bkt/o x
    until_so at_least 1 noted
    kill -s KILL "$downpid"
    rm "$W/stopped.port"
    sleep 0.3
    store stopped --key "$KEY:$SECRET" --bucket bkt --port "$PORT"
    ended 0
    check cmp -s "$BIG" x
    clean x
}

# ---- 3: the object changes ----

frozen() { # COMMAND...: while the run and its workers stand still
    them=$(workers | tr '\n' ' ')
    # shellcheck disable=SC2086
    kill -s STOP "$pid" $them 2>/dev/null
    "$@"
    # shellcheck disable=SC2086
    kill -s CONT "$pid" $them 2>/dev/null
}

replaced() { # FILE: what comes of it comes at once
    stored "$1" s3://bkt/ch
    calm
}

sec_changes() {
    own
    for new in same shorter longer small empty parts; do
        case $new in
        same | parts) cp "$OTHER" n ;;
        shorter) head -c 12000000 "$OTHER" >n ;;
        longer) cat "$OTHER" "$OTHER" >n ;;
        small) printf small >n ;;
        empty) : >n ;;
        esac
        if [ $new = parts ]; then in_parts "$BIG" s3://bkt/ch; else stored "$BIG" s3://bkt/ch; fi
        ctl reset
        # With one of six ranges here there are two more on their way, slowly, at most.
        fault 'GetObject * stall-body=1.5 after=1'
        begin get --part-size 5M --threshold 5M -j 2 s3://bkt/ch x
        until_so at_least 1 noted
        frozen replaced n
        ended 0
        err 'starting over' 'changed'
        check cmp -s n x
        clean x
        rm -f x
    done
    # It is sent as a whole only, and is another one by the time it is asked for so.
    cp "$OTHER" n
    stored "$BIG" s3://bkt/ch
    quirk range-ignored
    ctl reset
    fault 'GetObject * stall=60 after=1 n=1' # of a range; the first was for all, and too much
    begin get --part-size 5M --threshold 5M -j 1 s3://bkt/ch x
    until_so at_least 2 op GetObject
    replaced n
    ctl go
    ended 0
    check cmp -s n x
    clean x
    rm -f x
    quirk ''
    # Always: once is once too often, but no more.
    stored "$BIG" s3://bkt/ch
    echo precious >x
    fault 'GetObject * stall-body=1.5 after=1'
    ctl reset
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/ch x
    i=0
    while lives "$pid"; do
        i=$((i + 1))
        { echo $i && cat "$OTHER"; } >n
        until_so eval '[ "$(noted)" -ge 1 ] || ! lives "$pid"'
        frozen stored n s3://bkt/ch
        sleep 0.1
    done
    ended 3
    calm
    err 'starting over' again
    is "$(journals) $(left) $(cat x)" '0 0 precious'
    # Every range is of something else.
    ctl reset
    fault 'GetObject * wrong-etag after=3'
    ends 3 get --part-size 5M --threshold 5M s3://bkt/ch x
    err 'starting over' again
    is "$(journals) $(left) $(cat x)" '0 0 precious'
    calm
    # Between two runs.
    rm x
    stored "$BIG" s3://bkt/ch
    half s3://bkt/ch x
    stored "$OTHER" s3://bkt/ch
    ctl reset
    goes_on 6 "$OTHER" s3://bkt/ch
    stored "$BIG" s3://bkt/ch
    half s3://bkt/ch x
    printf small >n
    stored n s3://bkt/ch
    ctl reset
    goes_on 1 n s3://bkt/ch
    stored "$BIG" s3://bkt/ch
    half s3://bkt/ch x
    : >n
    stored n s3://bkt/ch
    ctl reset
    goes_on 0 n s3://bkt/ch
    # It is gone: what was fetched waits, should it come back.
    stored "$BIG" s3://bkt/ch
    half s3://bkt/ch x
    "$S3UP" rm -q s3://bkt/ch
    ends 4 get --part-size 5M --threshold 5M s3://bkt/ch x
    is "$(noted)" 4
    stored "$BIG" s3://bkt/ch
    ctl reset
    goes_on 2 "$BIG" s3://bkt/ch
}

# ---- 4: replies ----

sec_replies() {
    own
    # Once, at any range: it is asked for again.
    for how in shift total none garbled short long; do
        for at in 1 2 6; do
            ctl reset
            fault "GetObject * range=$how after=$at n=1"
            ends 0 get --part-size 5M --threshold 5M -j 2 s3://bkt/mp x
            check cmp -s "$BIG" x
            clean x
            rm -f x
        done
    done
    # Always: it is never taken for good.
    for how in shift total none garbled short long; do
        fault "GetObject * range=$how"
        echo precious >x
        ends 5 get --retries 0 --part-size 5M --threshold 5M -j 2 s3://bkt/mp x
        is "$(cat x)" precious
        calm
        rm x
        is "$(journals) $(left)" '0 0'
        ends 0 get --part-size 5M --threshold 5M s3://bkt/mp x
        check cmp -s "$BIG" x
        clean x
        rm x
    done
    # The same for one request that broke: of what says how long it is nothing may be missing.
    head -c 4000000 "$BIG" >s
    "$S3UP" put -q s s3://bkt/s
    for sum in etag none; do
        more=
        [ $sum = etag ] || more='GetObject * no-etag'
        for how in shift total none garbled long short; do
            [ $how$sum = longetag ] && code=0 || code=5 # there is nothing behind the end
            for to in x -; do
                fault 'GetObject * short-body n=1' "GetObject * range=$how after=1" "$more" \
                    'GetObject * no-sum'
                echo precious >x
                ends "$code" get --retries 0 s3://bkt/s $to
                case $rc$to in
                0x) check cmp -s s x ;;
                0-) check cmp -s s "$T/out" ;;
                *) is "$(cat x)" precious ;;
                esac
                is "$(left)" 0
                calm
            done
        done
    done
    # A store that sends no parts of objects at all, or from somewhere on.
    for jobs in 1 4; do
        ctl reset
        quirk range-ignored
        rm -f x
        ends 0 get --part-size 5M --threshold 5M -j $jobs s3://bkt/mp x
        check cmp -s "$BIG" x
        clean x
        ends 5 get --retries 0 --range 5-9 s3://bkt/mp y
        is "$(journals) $(left)" '0 0'
        ends 5 get --retries 0 --range 5-9 s3://bkt/mp -
        silent out
        quirk ''
        fault 'GetObject * range=whole after=3'
        ends 0 get --part-size 5M --threshold 5M -j $jobs s3://bkt/mp x
        check cmp -s "$BIG" x
        clean x
        calm
    done
    # 416 to a range that was there a moment ago: the object has become shorter.
    echo precious >x
    for many in '' n=1; do
        fault "GetObject * error=InvalidRange after=2 $many"
        code=3
        [ -z "$many" ] || code=0
        ends $code get --part-size 5M --threshold 5M s3://bkt/mp x
        err 'starting over'
        calm
    done
    check cmp -s "$BIG" x
    echo precious >x
    ends 0 get --part-size 5M --threshold 5M s3://bkt/mp x
    check cmp -s "$BIG" x
    clean x
    # It says nothing that identifies what it sends.
    fault '* * no-etag' '* * no-sum'
    rm -f x
    ctl reset
    ends 0 get --part-size 5M --threshold 5M -j 3 s3://bkt/mp x
    is "$(ranges)" 0
    check cmp -s "$BIG" x
    clean x
    fault '* * no-etag' '* * no-sum' 'GetObject * short-body'
    echo precious >x
    ends 5 get --part-size 5M --threshold 5M -j 3 s3://bkt/mp x
    is "$(journals) $(left) $(cat x)" '0 0 precious'
    calm
}

# Everything that can go wrong on the way, at once, at one request of five.
sec_storm() {
    own
    passing='reset-before reset-after stall=1 stall-body=4 early-503 early-503=keep cut-reply
        short-body cut-head garbage-reply silent-close idle-close=0 slow-write=9000000 interim=3
        huge-head=20000 many-heads=50 html-error=502 html-error=503 empty-error=500
        two-lengths both-lengths bad-chunk http10 folded-head 500 502
        503 504 slowdown 429 request-timeout range=shift range=total range=none range=garbled
        range=short range=long error=InternalError drop'
    "$S3UP" put -q --part-size 5M --threshold 5M --checksum crc64nvme "$BIG" s3://bkt/sum
    printf small >s
    stored s s3://bkt/s
    for _ in 1 2 3 4; do # the dice of the store roll on
        {
            echo 'GetObject * chunked-reply p=1' # a HEAD would not say how large it is
            for what in $passing; do echo "* * $what p=0.6"; done
        } | "$S3D" ctl "$PORT" faults
        rm -rf d && mkdir d
        last="get under all faults"
        timeout 60 "$S3UP" get -q -j 4 --timeout 2s --retries 15 --part-size 5M --threshold 5M \
            s3://bkt/o s3://bkt/mp s3://bkt/sum s3://bkt/s d >"$T/out" 2>"$T/err"
        is "$?" 0
        calm
        for name in o mp sum; do check cmp -s "$BIG" d/$name; done
        check cmp -s s d/s
        is "$(journals) $(left)" '0 0'
    done
    # With those that do not pass: the code tells the truth, and so do the names.
    for what in access-denied no-such-bucket wrong-etag wrong-body until-close range=whole \
        html-error=404 error=InvalidRange precondition-412 signature-403; do
        fault "GetObject * $what p=20" 'HeadObject * 503 p=10'
        rm -rf d && mkdir d
        for name in o sum mp; do
            last="get $name with $what"
            timeout 60 "$S3UP" get -q -j 3 --timeout 2s --retries 3 --part-size 5M \
                --threshold 5M s3://bkt/$name d >"$T/out" 2>"$T/err"
            rc=$?
            case $rc in 0 | 3 | 4 | 5 | 6 | 9) pass ;; *) fail "exit code $rc" ;; esac
            case $name:$what in
            mp:wrong-body) ;; # nothing tells
            *)
                if [ $rc = 0 ]; then check cmp -s "$BIG" d/$name; else check_not test -e d/$name; fi
                ;;
            esac
            [ $rc != 9 ] || check_not test -e d/$name.s3up-part
        done
        calm
    done
}

# ---- 5: what happens to files between two runs ----

sec_temp() {
    own
    # Bytes of a range that is noted are others: only that one is fetched again.
    half s3://bkt/o x
    cp x.s3up-part keep
    at=$(sed -n 's/^range \([0-9]*\) .*/\1/p' "$(journal)" | head -n 1)
    printf 'damaged' | dd of=x.s3up-part bs=1 seek=$((at + 1000000)) conv=notrunc 2>/dev/null
    goes_on 3 "$BIG" s3://bkt/o
    # All of them; none that counts.
    half s3://bkt/o x
    head -c 27000000 /dev/zero >zeros
    dd if=zeros of=x.s3up-part bs=1M conv=notrunc 2>/dev/null
    goes_on 6 "$BIG" s3://bkt/o
    half s3://bkt/o x
    touch -d 2001-01-01 x.s3up-part 2>/dev/null || touch x.s3up-part
    goes_on 2 "$BIG" s3://bkt/o
    for how in cut grown empty gone; do
        half s3://bkt/o x
        case $how in
        cut) dd if=/dev/null of=x.s3up-part bs=1 seek=20000000 2>/dev/null ;;
        grown) echo more >>x.s3up-part ;;
        empty) : >x.s3up-part ;;
        gone) rm x.s3up-part ;;
        esac
        ends 0 get --part-size 5M --threshold 5M s3://bkt/o x
        check test "$(ranges)" -le 6
        check cmp -s "$BIG" x
        clean x
        rm x
    done
    # It is another file, or no file: none of them is touched.
    echo precious >other
    cp "$OTHER" victim
    for how in file hard zeros; do
        half s3://bkt/o x
        case $how in
        file) cp other n && mv n x.s3up-part ;;
        hard) ln -f victim x.s3up-part ;;
        zeros) cp zeros n && mv n x.s3up-part ;;
        esac
        ends 0 get --part-size 5M --threshold 5M s3://bkt/o x
        is "$(ranges)" 6
        check cmp -s "$BIG" x
        check cmp -s "$OTHER" victim
        is "$(cat other)" precious
        clean x
        rm x
    done
    # It has its final name, too, as of a run with -n that was killed in between: nothing is
    # written through that, and nothing stays behind.
    half s3://bkt/o x
    ln x.s3up-part x
    cp x seen
    fault 'GetObject * stall-body=60 after=3'
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/o x
    until_so at_least 5 op GetObject
    check cmp -s seen x
    kill -s INT "$pid"
    ended 130
    calm
    check cmp -s seen x
    ends 7 get -n --part-size 5M --threshold 5M s3://bkt/o x
    have=$(noted)
    ctl reset
    goes_on $((6 - have)) "$BIG" s3://bkt/o
    half s3://bkt/o x
    ln x.s3up-part x
    ctl reset
    goes_on 6 "$BIG" s3://bkt/o
    for how in link dangling fifo folder; do
        half s3://bkt/o x
        cp "$(journal)" saved
        rm x.s3up-part
        case $how in
        link) ln -s victim x.s3up-part ;;
        dangling) ln -s nowhere x.s3up-part ;;
        fifo) mkfifo x.s3up-part ;;
        folder) mkdir x.s3up-part ;;
        esac
        ends 3 get --part-size 5M --threshold 5M s3://bkt/o x
        err x.s3up-part 'in the way'
        check_not test -e x
        check cmp -s "$OTHER" victim
        check_not test -e nowhere
        rm -rf x.s3up-part
        ctl reset
        goes_on 6 "$BIG" s3://bkt/o
    done
    # The same with nothing known of it, and for a small object.
    printf small >small
    stored small s3://bkt/s
    for name in o s; do
        ln -s victim $name.s3up-part
        ends 3 get --part-size 5M --threshold 5M s3://bkt/$name .
        err 'in the way'
        check cmp -s "$OTHER" victim
        check_not test -e $name
        is "$(journals)" 0
        rm $name.s3up-part
        echo stale >$name.s3up-part
        ends 0 get --part-size 5M --threshold 5M s3://bkt/$name .
        clean $name
    done
    check cmp -s "$BIG" o
    check cmp -s small s
    # While it is being written.
    for how in gone file link; do
        hold s3://bkt/o x
        rm x.s3up-part
        case $how in
        file) cp "$OTHER" x.s3up-part ;;
        link) ln -s victim x.s3up-part ;;
        esac
        fault 'GetObject * stall=1 n=1'
        # shellcheck disable=SC2046
        kill -s KILL $(workers) 2>/dev/null # what they were at must be given to others
        ended 5
        err 'temporary file was replaced'
        calm
        check cmp -s "$OTHER" victim
        check_not test -e x
        rm -f x.s3up-part
        ctl reset
        goes_on 6 "$BIG" s3://bkt/o
    done
    # After all was written, and before it got its name.
    ctl reset
    fault 'GetObject * stall-body=1 after=2 n=1'
    begin get --part-size 5M --threshold 5M -j 4 s3://bkt/o x
    until_so are_noted 5
    cp "$OTHER" n && mv n x.s3up-part
    ended 5
    calm
    err 'temporary file was replaced'
    check_not test -e x
    rm -f x.s3up-part
    ctl reset
    goes_on 6 "$BIG" s3://bkt/o
}

sealed() { # LINE: as it stands in a journal
    printf '%s #%.8s\n' "$1" "$(printf %s "$1" | "$S3D" sum crc32)"
}

sec_journal() {
    own
    half s3://bkt/o x
    j=$(journal)
    name=$(basename "$j")
    cp "$j" saved
    cp x.s3up-part temp.saved # the same numbers are not had again: another file
    size=$(wc -c <saved)
    head=$(head -n 1 saved | wc -c)
    # Cut at any byte: what is behind it is fetched again, and no more than that.
    at=$size
    while [ "$at" -ge 0 ]; do
        (umask 077 && head -c "$at" saved >"state/$name")
        # Bytes behind the last good line, and lines that have a wrong sum, do not count.
        good=$(awk '/ #[0-9a-f]*$/' "state/$name" | head -c "$at" | grep -c '^range .* #........$')
        if [ "$at" -lt "$size" ] && [ "$(tail -c 1 "state/$name" | wc -l)" = 0 ] && [ "$at" -gt 0 ]; then
            tail -n 1 "state/$name" | grep -q '^range .* #........$' && good=$((good - 1))
        fi
        grep -q '^object .* #........$' "state/$name" || good=0
        ctl reset
        ends 0 get --part-size 5M --threshold 5M s3://bkt/o x
        is "$at: $(ranges)" "$at: $((6 - good))"
        check cmp -s "$BIG" x
        clean x
        # A rename keeps the file that the journal knows: it goes back to its old name.
        if [ "$(stat -c %i x)" = "$(awk '$1 == "source-id" { print $3 }' saved)" ]; then
            mv x x.s3up-part
        else
            rm x
            half s3://bkt/o x
            cp "$j" saved
        fi
        at=$((at - 53))
    done
    rm -f x.s3up-part state/*
    # Changed bytes: a line that is damaged ends it.
    half s3://bkt/o x
    for line in 3 6 9 10 11 13; do
        [ -e "$j" ] || half s3://bkt/o x
        awk -v at=$line 'NR == at { sub(/./, "~") } 1' "$j" >n
        cat n >"$j"
        good=$(head -n $((line - 1)) n | grep -c '^range ')
        goes_on $((6 - good)) "$BIG" s3://bkt/o
    done
    # The first line: it is no journal then, and is not written to.
    half s3://bkt/o x
    cp "$j" saved
    { echo 'dear diary'; tail -c +"$((head + 1))" saved; } >"$j"
    cp "$j" n
    ends 2 get --part-size 5M --threshold 5M s3://bkt/o x
    check cmp -s n "$j"
    # Lines with the right sum that make no sense, or that tell of ranges that are not there.
    for more in 'range 5242880 0 00' 'range 17 5 00' 'range 1 x y' 'range 52428800000 5242880 00' \
        'range 0 5242881 00'; do
        cat saved >"$j"
        sealed "$more" >>"$j"
        ends 2 get --part-size 5M --threshold 5M s3://bkt/o x
        err contradicts
    done
    cat saved >"$j"
    for n in 6 7 8 9; do sealed "range $((n * 5242880)) 5242880 0011223344556677" >>"$j"; done
    goes_on 2 "$BIG" s3://bkt/o
    half s3://bkt/o x
    sealed 'range 0 1 0011223344556677' >>"$j"
    ctl reset
    ends 0 get --part-size 5M --threshold 5M s3://bkt/o x
    check cmp -s "$BIG" x
    clean x
    # That of another object, of another piece of it, of an upload.
    rm x
    half s3://bkt/o x
    cat "$j" >saved
    for other in 's3://bkt/mp' 's3://bkt/o --range 100-'; do
        (umask 077 && cat saved >here)
        case $other in
        *mp) code=2 ;;
        *) code=0 ;;
        esac
        # shellcheck disable=SC2086
        ends $code get --journal here --part-size 5M --threshold 5M $other y
        [ $code = 0 ] || { err 'another transfer' && check cmp -s saved here; }
        check_not test -e y.s3up-part
    done
    tail -c +101 "$BIG" >n
    check cmp -s n y
    is "$(noted)" 4
    ctl reset
    goes_on 2 "$BIG" s3://bkt/o
    # The file came another way: nothing is left of what was begun.
    half s3://bkt/o x
    cp "$BIG" x
    ends 0 get --if-changed --part-size 5M --threshold 5M s3://bkt/o x
    is "$(ranges)" 0
    clean x
    rm x
    # The part size is the journal's; --restart forgets what there is.
    half s3://bkt/o x
    goes_on 2 "$BIG" s3://bkt/o --part-size 6M
    half s3://bkt/o x
    goes_on 6 "$BIG" s3://bkt/o --restart
    (
        S3UP_RESTART=1
        export S3UP_RESTART
        half s3://bkt/o x
        goes_on 2 "$BIG" s3://bkt/o
    )
    # By other words it is the same place.
    mkdir -p d
    ln -s .. d/up
    half s3://bkt/o x
    ends 0 get --part-size 5M --threshold 5M s3://bkt/o d/up/x
    is "$(ranges)" 2
    check cmp -s "$BIG" x
    clean x
}

sec_two() {
    own
    # The second says so, and goes.
    hold s3://bkt/o x
    first=$pid
    before=$(op GetObject)
    ends 8 get --part-size 5M --threshold 5M s3://bkt/o x
    err 'another run'
    is "$(op GetObject)" "$before"
    check lives "$first"
    # The same name, but another object; no state folder: the file's own lock tells.
    ends 8 get --part-size 5M --threshold 5M s3://bkt/mp x
    err 'another run'
    printf small >s
    stored s s3://bkt/s
    ends 8 get s3://bkt/s x
    err 'another run'
    check lives "$first"
    is "$(noted)" 4
    kill -s INT "$first"
    wait "$first" 2>/dev/null
    calm
    ctl reset
    is "$(journals)" 1
    goes_on 2 "$BIG" s3://bkt/o
    # Many at once: one or more are done, none spoils it.
    rm -f x
    for i in 1 2 3 4 5 6; do
        "$S3UP" get -q --part-size 5M --threshold 5M s3://bkt/o x 2>err.$i &
        eval "p$i=$!"
    done
    done=0
    for i in 1 2 3 4 5 6; do
        eval "wait \$p$i"
        case $? in
        0) done=$((done + 1)) ;;
        8) ;;
        *) cp err.$i "$T/err" && fail "one of many ended otherwise" ;;
        esac
    done
    check test $done -ge 1
    check cmp -s "$BIG" x
    clean x
}

# ---- 6: places ----

sec_places() {
    own
    printf small >s
    stored s s3://bkt/s
    for name in o s; do
        case $name in o) from=$BIG ;; s) from=s ;; esac
        mkdir -p d
        mkdir d/$name
        ends 2 get --part-size 5M --threshold 5M s3://bkt/$name d
        err 'is a folder'
        rmdir d/$name
        is "$(journals) $(left)" '0 0'
        # A device and a FIFO are written, and stay what they are.
        ends 0 get --part-size 5M --threshold 5M s3://bkt/$name /dev/null
        check test -c /dev/null
        mkfifo fifo
        cat fifo >got &
        ends 0 get --part-size 5M --threshold 5M s3://bkt/$name fifo
        wait $!
        check cmp -s "$from" got
        check test -p fifo
        rm fifo
        # A link stays, and what it stands for is replaced; a dangling one is replaced.
        mkdir -p real
        echo old >real/file
        chmod 640 real/file
        ln -s real/file link
        ends 0 get --part-size 5M --threshold 5M s3://bkt/$name link
        check test -L link
        check cmp -s "$from" real/file
        is "$(stat -c %a real/file) $(ls -A real)" '640 file'
        rm link
        ln -s nowhere link
        ends 0 get --part-size 5M --threshold 5M s3://bkt/$name link
        check_not test -L link
        check_not test -e nowhere
        check cmp -s "$from" link
        is "$(stat -c %a link)" 644
        rm link
        # Names as long as they can be, of one byte or more a character, that share what a
        # temporary name has room for.
        for char in a é 漢; do
            long=$(awk -v c=$char -v n=$((250 / $(printf %s $char | wc -c))) \
                'BEGIN { for (i = 0; i < n; i++) printf "%s", c }')
            while [ "$(printf %s "$long" | wc -c)" -lt 254 ]; do long=${long}x; done
            for end in 1 2; do
                if [ $name = o ] && [ $end = 1 ]; then
                    hold s3://bkt/o "$long$end"
                    check test "$(find . -name '*.s3up-part' -printf '%f' | wc -c)" -le 255
                    kill -s KILL "$pid"
                    wait "$pid" 2>/dev/null
                    calm
                    ctl reset
                    ends 0 get --part-size 5M --threshold 5M s3://bkt/o "$long$end"
                    is "$(ranges)" 2
                fi
                ends 0 get --part-size 5M --threshold 5M s3://bkt/$name "$long$end"
                check cmp -s "$from" "$long$end"
                rm "$long$end"
            done
            is "$(journals) $(left)" '0 0'
            ends 2 get --part-size 5M --threshold 5M s3://bkt/$name "${long}12"
        done
        is "$(journals) $(left)" '0 0'
        # A folder that is not there.
        ends 4 get --part-size 5M --threshold 5M s3://bkt/$name no/such/x
        ends 4 get --part-size 5M --threshold 5M s3://bkt/$name s/x
        is "$(journals) $(left)" '0 0'
    done
    # What a file that is replaced was allowed, and whose it was.
    (
        umask 077
        ends 0 get --part-size 5M --threshold 5M s3://bkt/o fresh
        is "$(stat -c %a fresh)" 600
    )
    echo old >kept
    chmod 604 kept
    [ "$(id -u)" != 0 ] || chown 65534:65533 kept
    was=$(stat -c '%a %u %g' kept)
    hold s3://bkt/o kept
    is "$(stat -c %a kept.s3up-part)" 600 # nobody reads it before it is what it shall be
    kill -s INT "$pid"
    ended 130
    calm
    is "$(cat kept)" old
    ends 0 get --part-size 5M --threshold 5M s3://bkt/o kept
    is "$(stat -c '%a %u %g' kept)" "$was"
    clean kept
    places_readonly
}

# Where nothing can be written: as a user who may not, or on a read-only file system.
places_readonly() {
    mkdir closed
    chmod 555 closed
    if [ "$(id -u)" != 0 ]; then
        for name in o s; do
            ends 6 get --part-size 5M --threshold 5M s3://bkt/$name closed
            is "$(journals) $(left)" '0 0'
        done
    elif unshare -m true 2>/dev/null; then
        printf 'mount -t tmpfs -o ro tmpfs closed || exit 99\n"$@"\n' >on-disk
        for name in o s; do
            limit='unshare -m sh on-disk'
            ends 6 get --part-size 5M --threshold 5M s3://bkt/$name closed
            limit='timeout 30'
            is "$(journals) $(left)" '0 0'
        done
    else
        skip 'no read-only folder is tried: that needs unshare'
    fi
    chmod 755 closed
}

sec_full() {
    own
    # Files may not become that large. Nothing is left to go on with, or what is left is good.
    printf '#!/bin/sh\nulimit -f 20000\nexec "$@"\n' >"$T/small"
    chmod +x "$T/small"
    limit="$T/small"
    echo precious >x
    ends 5 get --part-size 5M --threshold 5M s3://bkt/o x
    err x
    ends 5 get --threshold 1G s3://bkt/o x
    limit='timeout 30'
    is "$(journals) $(left) $(cat x)" '0 0 precious'
    if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
        skip 'no full disk is tried: that needs root and unshare'
        return
    fi
    mkdir disk
    cat >on-disk <<'D'
mount -t tmpfs -o size=$1 tmpfs disk || exit 99
shift
[ -z "$GO" ] || { while [ ! -e "$GO" ]; do sleep 0.02; done; }
"$@"
code=$?
echo "left: $(ls -A disk | tr '\n' ' ')"
[ -z "$AGAIN" ] || { rm -f disk/fill; "$@"; code=$code,$?; cmp disk/x "$BIG" && echo equal; ls -A disk; }
[ "$code" != 5,0 ] || code=50
exit $code
D
    export BIG
    GO='' AGAIN=''
    export GO AGAIN
    limit='unshare -m sh on-disk 20m'
    for how in '--threshold 5M' '--threshold 1G'; do
        # shellcheck disable=SC2086
        ends 5 get --part-size 5M $how s3://bkt/o disk/x
        is "$(cat "$T/out")" 'left: '
        is "$(journals)" 0
    done
    err 'No space left'
    # It becomes full on the way: what is there counts, once there is room again.
    AGAIN=1
    limit='unshare -m sh on-disk 30m'
    cat >fill <<'F'
#!/bin/sh
{ while [ "$(cat state/????????????????????????????????* 2>/dev/null | grep -c '^range ')" -lt 2 ]; do
    sleep 0.02
done
[ -e filled ] || head -c 30000000 /dev/zero >disk/fill 2>/dev/null
: >filled; } &
exec "$@"
F
    chmod +x fill
    fault 'GetObject * stall-body=1 after=3 n=3'
    last='get to a disk that becomes full'
    unshare -m sh on-disk 30m sh ./fill "$S3UP" get --part-size 5M --threshold 5M -j 2 s3://bkt/o \
        disk/x >"$T/out" 2>"$T/err"
    is "$?" 50
    calm
    err 'No space left'
    out equal
    is "$(tail -n 1 "$T/out")" x
    is "$(journals)" 0
    limit='timeout 30'
}

sec_clobber() {
    own
    echo theirs >there
    ctl reset
    ends 7 get -n --part-size 5M --threshold 5M s3://bkt/o there
    is "$(cat there) $(ctl stats requests) $(journals)" 'theirs 0 0'
    ends 0 get -n --part-size 5M --threshold 5M s3://bkt/o new
    check cmp -s "$BIG" new
    clean new
    # Somebody else is faster: theirs stays.
    for how in file folder link; do
        rm -rf late
        hold -n s3://bkt/o late
        case $how in
        file) echo theirs >late ;;
        folder) mkdir late ;;
        link) ln -s nowhere late ;;
        esac
        fault 'GetObject * 503 p=1'
        # shellcheck disable=SC2046
        kill -s KILL $(workers) 2>/dev/null
        ended 7
        calm
        case $how in
        file) is "$(cat late)" theirs ;;
        folder) check test -d late ;;
        link) check_not test -e nowhere && check test -L late ;;
        esac
        is "$(journals) $(left)" '0 0'
    done
    # Resumed under the same condition.
    half -n s3://bkt/o x
    goes_on 2 "$BIG" s3://bkt/o -n
    # A folder that came in between is not replaced by a run that may replace.
    rm -rf late
    hold s3://bkt/o late
    mkdir late
    # shellcheck disable=SC2046
    kill -s KILL $(workers) 2>/dev/null
    ended 2
    calm
    check test -d late
}

# ---- 7: pieces ----

sec_range() {
    own
    : >none
    printf '0123456789' >ten
    stored ten s3://bkt/ten
    stored none s3://bkt/none
    while read -r range piece; do
        rm -f x
        ends 0 get --range "$range" s3://bkt/ten x
        is "$range: $(cat x)" "$range: $piece"
        clean x
        ends 0 get --range "$range" s3://bkt/ten -
        is "$range: $(cat "$T/out")" "$range: $piece"
    done <<'R'
0-0 0
9-9 9
0-9 0123456789
0- 0123456789
9- 9
3-5 345
5-100 56789
0-9223372036854775806 0123456789
-1 9
-10 0123456789
-11 0123456789
-9223372036854775806 0123456789
00003-05 345
R
    rm -f x
    for range in 10-10 10- 10-20 9223372036854775806- 9223372036854775807-; do
        ends 2 get --range "$range" s3://bkt/ten x
        err 'behind its end'
        ends 2 get --range "$range" s3://bkt/ten -
        silent out
        check_not test -e x
        is "$(journals) $(left)" '0 0'
    done
    for range in 0-0 0- -1; do
        ends 2 get --range "$range" s3://bkt/none x
        err 'behind its end'
        check_not test -e x
        is "$(journals) $(left)" '0 0'
    done
    for range in '' - -- 5 -0 5-3 a-b 0-x x-9 1-2-3 0,1 '0-1,3-4' ' 0-1' '0-1 ' +1-2 --5 1--2 0x1-2 \
        bytes=0-1 0-9223372036854775807 9223372036854775808- -9223372036854775808 \
        99999999999999999999-; do
        refused 2 '--range' get --range "$range" s3://bkt/ten x
    done
    # Large pieces are fetched like large objects, and go on like them.
    tail -c +1000001 "$BIG" | head -c 20000000 >want
    ends 0 get --part-size 5M --range 1000000-20999999 s3://bkt/mp x
    check cmp -s want x
    clean x
    rm x
    ctl reset
    fault 'GetObject * stall-body=60 after=2 n=1'
    begin get --part-size 5M -j 3 --range 1000000-20999999 s3://bkt/mp x
    until_so are_noted 3
    kill -s INT "$pid"
    ended 130
    calm
    # Another piece is another thing; the same goes on.
    cp "$(journal)" saved
    ctl reset
    goes_on 1 want s3://bkt/mp --range 1000000-20999999
    # What the store says of the whole says nothing of a piece.
    ends 0 get --part-size 5M --range 1000000-20999999 s3://bkt/o x
    check cmp -s want x
    ends 0 get --range -5 s3://bkt/o -
    is "$(md5sum <"$T/out")" "$(tail -c 5 "$BIG" | md5sum)"
    # Refused where it means nothing.
    ends 2 put --range 0-1 ten s3://bkt/x
    ends 0 get --range 0-1 s3://bkt/ten s3://bkt/o ./
    is "$(wc -c <ten) $(wc -c <o)" '2 2'
}

# ---- 8: sums, times ----

sec_sums() {
    own
    object() { # KEY: where the store keeps its bytes
        find "$W/$section.store" -type f -size +3000k -newer "$1" | grep . | head -n 1
    }
    for how in md5 crc64nvme crc32c sha256 crc32; do
        : >mark
        sleep 0.02
        case $how in
        md5) stored "$BIG" s3://bkt/v ;;
        crc64nvme) in_parts "$BIG" s3://bkt/v --checksum crc64nvme ;;
        *) stored "$BIG" s3://bkt/v --checksum $how ;;
        esac
        ctl reset
        rm -f x
        ends 0 get --part-size 5M --threshold 5M s3://bkt/v x
        is "$(ranges)" 6
        check cmp -s "$BIG" x
        # What came is other than what was stored, in a range or in one request.
        rm -f x
        for p in '--threshold 5M' '--threshold 1G'; do
            fault 'GetObject * wrong-body after=1 n=1'
            [ "$p" = '--threshold 5M' ] || fault 'GetObject * wrong-body'
            # shellcheck disable=SC2086
            ends 9 get --part-size 5M $p s3://bkt/v x
            err 'the bytes that came do not have the'
            check_not test -e x
            is "$(journals) $(left)" '0 0'
            calm
        done
        # The same if only the last run met it.
        half s3://bkt/v x
        fault 'GetObject * wrong-body'
        ends 9 get --part-size 5M --threshold 5M s3://bkt/v x
        check_not test -e x
        is "$(journals) $(left)" '0 0'
        calm
        echo precious >x
        fault 'GetObject * wrong-body'
        ends 9 get --part-size 5M --threshold 5M s3://bkt/v x
        is "$(cat x) $(journals) $(left)" 'precious 0 0'
        calm
        rm x
    done
    # Stored bytes that flipped, as the disk of a store may do.
    : >mark
    sleep 0.02
    stored "$BIG" s3://bkt/flip
    file=$(object mark)
    check test -n "$file"
    printf 'X%s' 'flipped' | dd of="$file" bs=1 seek=7000000 conv=notrunc 2>/dev/null
    ends 9 get --part-size 5M --threshold 5M s3://bkt/flip x
    check_not test -e x
    is "$(journals) $(left)" '0 0'
    # A store that says no sums, or refuses to be asked for them.
    quirk checksum-unsupported
    ends 0 get --part-size 5M --threshold 5M s3://bkt/mp x
    check cmp -s "$BIG" x
    clean x
    quirk ''
    # An empty one, and sizes around the edges of ranges.
    for size in 0 1 5242879 5242880 5242881 10485760 10485761; do
        head -c $size "$BIG" >want
        stored want s3://bkt/edge
        for jobs in 1 3; do
            rm -f x
            ends 0 get --part-size 5M --threshold 5M -j $jobs s3://bkt/edge x
            check cmp -s want x
            clean x
        done
    done
}

sec_mtime() {
    own
    MIDDLE=$PWD/middle
    head -c 6000000 "$BIG" >middle
    for m in 1000000000 1000000000.25 1234567890.123456789 0 1.000000001 1732154321.1234567891; do
        stored "$MIDDLE" s3://bkt/m --metadata "mtime=$m"
        printf small >s
        stored s s3://bkt/n --metadata "mtime=$m"
        time=$(awk -v m="$m" 'BEGIN { n = split(m, p, "."); f = n > 1 ? p[2] : ""
            printf "%s.%s", p[1], substr(f "000000000", 1, 9) }')
        for name in m n; do
            ends 0 get --part-size 5M --threshold 5M s3://bkt/$name x
            is "$(stat -c %.9Y x)" "$time"
        done
    done
    # What is no time is none.
    for m in x -1 1.x 1e9 99999999999999999999 0x10 1,5 .5; do
        stored s s3://bkt/n --metadata "mtime=$m"
        ends 0 get s3://bkt/n x
        check test "$(stat -c %Y x)" -gt 1700000000
    done
    # One that is kept by what goes on.
    stored "$BIG" s3://bkt/m --metadata mtime=1000000000.5
    rm x
    half s3://bkt/m x
    ends 0 get --part-size 5M --threshold 5M s3://bkt/m x
    is "$(stat -c %.1Y x)" 1000000000.5
    clean x
}

# ---- 9: no place for a journal ----

sec_stateless() {
    own
    : >file
    for dir in "$PWD/file/x" "$PWD/link"; do
        mkdir -p real
        ln -sfn real link
        S3UP_STATE_DIR=$dir
        ctl reset
        ends 0 get --part-size 5M --threshold 5M s3://bkt/mp x
        err 'without a journal'
        is "$(ranges) $(left) $(ls -A real)" '6 0 '
        check cmp -s "$BIG" x
        rm x
        # What fails leaves nothing, since nobody could go on with it.
        fault 'GetObject * access-denied after=4'
        ends 6 get --part-size 5M --threshold 5M s3://bkt/mp x
        is "$(left) $(ls -A real)" '0 '
        check_not test -e x
        calm
        for jobs in 1 4; do
            fault 'GetObject * stall-body=60 after=3'
            ctl reset
            begin get --part-size 5M --threshold 5M -j $jobs s3://bkt/mp x
            until_so at_least 4 op GetObject
            until_so test -e x.s3up-part
            kill -s INT "$pid"
            ended 130
            err interrupted
            check_not has "$T/err" 'goes on'
            is "$(left)" 0
            calm
        done
        # Killed, it stays, and does not stay in the way.
        fault 'GetObject * stall-body=60 after=3'
        begin get --part-size 5M --threshold 5M -j 4 s3://bkt/mp x
        until_so test -e x.s3up-part
        kill -s KILL "$pid"
        wait "$pid" 2>/dev/null
        calm
        ends 0 get --part-size 5M --threshold 5M s3://bkt/mp x
        check cmp -s "$BIG" x
        is "$(left)" 0
        rm x
        # It changes, twice as well.
        fault 'GetObject * wrong-etag after=3'
        ends 3 get --part-size 5M --threshold 5M s3://bkt/mp x
        is "$(left)" 0
        check_not test -e x
        calm
    done
    # One that grows no further: the run goes on, and what it says so far is true.
    S3UP_STATE_DIR=$PWD/small
    to=$(printf %0240d 1)
    stored "$BIG" s3://bkt/$to$to$to
    printf '#!/bin/sh\nulimit -f 1\nexec "$@"\n' >"$T/small"
    chmod +x "$T/small"
    limit="$T/small" # which no file of an object fits in, either
    ends 5 get --part-size 5M --threshold 5M s3://bkt/$to$to$to x
    limit='timeout 30'
    is "$(journals) $(left)" '0 0'
    if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
        mkdir -m 700 disk
        printf 'mount -t tmpfs -o size=4k,mode=700 tmpfs disk || exit 99\n"$@"\n' >on-disk
        printf 'code=$?; ls -A disk; exit $code\n' >>on-disk
        S3UP_STATE_DIR=$PWD/disk
        limit='unshare -m sh on-disk'
        ends 0 get --part-size 5M --threshold 5M s3://bkt/o x
        limit='timeout 30'
        check cmp -s "$BIG" x
        is "$(left) $(grep -c '^[0-9a-f]\{64\}$' "$T/out")" '0 0'
    fi
}

# ---- 10: what it says ----

value() { # FILE EVENT NAME: the sum over all such events
    sed -n "s/^{\"event\":\"$2\".*\"$3\":\([0-9]*\).*/\1/p" "$1" | awk '{ n += $1 } END { print n + 0 }'
}

events() { # FILE EVENT
    grep -c "^{\"event\":\"$2\"" "$1"
}

sec_json() {
    own
    ends 0 get --json --part-size 5M --threshold 5M s3://bkt/o x
    json "$T/out"
    is "$(events "$T/out" start) $(events "$T/out" part) $(events "$T/out" done)" '1 6 1'
    is "$(value "$T/out" start parts) $(value "$T/out" summary bytes)" '6 27000000'
    is "$(value "$T/out" part number)" 21
    is "$(value "$T/out" summary done) $(value "$T/out" summary failed)" '1 0'
    rm x
    half --json s3://bkt/o x
    json "$T/out"
    is "$(events "$T/out" part) $(events "$T/out" error)" '4 1'
    out '"code":130'
    ends 0 get --json --part-size 5M --threshold 5M s3://bkt/o x
    json "$T/out"
    is "$(value "$T/out" resume parts_done) $(events "$T/out" part)" '4 2'
    is "$(value "$T/out" resume bytes_done)" "$(value "$T/out" summary bytes_resumed)"
    fault 'GetObject * 503 after=2 n=2'
    ends 0 get --json --part-size 5M --threshold 5M s3://bkt/o x
    json "$T/out"
    check test "$(events "$T/out" retry)" -ge 1
    calm
    fault 'GetObject * wrong-etag after=3 n=1'
    ends 0 get --json --part-size 5M --threshold 5M s3://bkt/o x
    json "$T/out"
    is "$(events "$T/out" over) $(events "$T/out" start)" '1 2'
    calm
    # Where the object goes to standard output, events go the other way.
    ends 0 get --json s3://bkt/o -
    json "$T/err"
    check cmp -s "$BIG" "$T/out"
    # Numbers for Prometheus.
    ends 0 get --metrics m --part-size 5M --threshold 5M s3://bkt/o x
    is "$(grep -c '^# HELP' m) $(grep -c '^s3up_[a-z_]* [0-9]*$' m)" '7 7'
    check grep -q '^s3up_last_run_bytes 27000000$' m
    check grep -q '^s3up_last_run_exit_code 0$' m
    ends 4 get --metrics m s3://bkt/none x
    check grep -q '^s3up_last_run_exit_code 4$' m
    check grep -q '^s3up_last_run_failures 1$' m
    # Standard output, in order, over one connection, whatever the size is.
    ctl reset
    ends 0 get -j 4 --part-size 5M --threshold 5M s3://bkt/o -
    is "$(ctl log | awk '{ print $1 }' | sort -u | grep -c .) $(op GetObject)" '1 1'
    check cmp -s "$BIG" "$T/out"
}

sec_rate() {
    own
    head -c 12000000 "$BIG" >r
    stored r s3://bkt/r
    for jobs in 1 4; do
        begun=$(date +%s%N)
        ends 0 get --part-size 5M --threshold 5M -j $jobs --limit-rate 6M s3://bkt/r x
        took=$((($(date +%s%N) - begun) / 1000000))
        check test $took -ge 1500 # 12,000,000 bytes at 6 MiB a second, less the first pieces
        check cmp -s r x
    done
    begun=$(date +%s%N)
    ends 0 get --limit-rate 6M s3://bkt/r -
    took=$((($(date +%s%N) - begun) / 1000000))
    check test $took -ge 1500
    check cmp -s r "$T/out"
}

sec_clean() {
    own
    fault 'GetObject * stall-body=2 after=2 n=2'
    begin get -v --part-size 5M --threshold 5M -j 4 s3://bkt/o x
    until_so are_noted 4
    # Workers hold neither the journal nor the lock, nor each other's pipes.
    for w in $(workers); do
        check_not eval "ls -l /proc/$w/fd | grep -q '$S3UP_STATE_DIR'"
        check test "$(find "/proc/$w/fd" -type l -lname '*.s3up-part' | grep -c .)" -le 1
        check test "$(find "/proc/$w/fd" -type l -lname 'pipe:*' | grep -c .)" -le 4
        check test "$(find "/proc/$w/fd" -type l -lname 'socket:*' | grep -c .)" -le 1
    done
    no_secret "$(journal)"
    is "$(stat -c %a "$(journal)" "$S3UP_STATE_DIR" | tr '\n' ' ')" '600 700 '
    ended 0
    calm
    check none_left
    is "$(find . | sort | tr '\n' ' ')" '. ./state ./state/ledger.jsonl ./x '
    # Holes stay holes until they are fetched.
    rm x
    fault 'GetObject * stall-body=60 after=1'
    begin get --part-size 5M --threshold 5M -j 2 s3://bkt/o x
    until_so test -s x.s3up-part
    is "$(stat -c %s x.s3up-part)" 27000000
    check test "$(du -k x.s3up-part | cut -f 1)" -lt 15000
    kill -s INT "$pid"
    ended 130
    calm
    sec_clean_memory
}

sec_clean_memory() {
    if [ -z "${SOAK-}" ]; then
        skip 'memory is not measured: SOAK names no program'
        return
    elif grep -q __asan_ "$S3UP"; then
        skip 'memory: this build has AddressSanitizer'
        return
    fi
    store sink --key "$KEY:$SECRET" --bucket bkt --sink-fast
    AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$W/sink.port")
    truncate -s 1G sparse
    "$S3UP" put -q --checksum none --part-size 1G --threshold 1G sparse s3://bkt/sparse
    rm sparse
    for part in 8M 100M; do
        # shellcheck disable=SC2046 # three numbers
        set -- $("$SOAK" memory 1500 "$S3UP" get -j 8 --limit-rate 64M --part-size $part \
            s3://bkt/sparse x)
        # How many workers there are depends on how much memory is free: as if they were 8.
        kib=$((${3:-0} + (${1:-0} - ${3:-0}) * 8 / (${2:-2} > 1 ? ${2:-2} - 1 : 1)))
        echo "memory of get, 8 jobs, ranges of $part: $kib KiB (PSS of ${2:-no} processes)"
        check test "$kib" -lt 8192
        check test "${2:-0}" -gt 1
        rm -f x.s3up-part
    done
}

# ---- running all of it ----

LANES=${LANES:-6} # most sections wait most of the time
# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z]*\)() .*/\1/p' "$0")}
