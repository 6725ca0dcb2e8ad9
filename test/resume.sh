#!/bin/sh
# resume.sh: uploads in parts. Whatever ended a run, the same command goes on behind it;
# what a store has acknowledged is sent once. The numbers are those of the store itself.
#
#   test/resume.sh S3UP S3D [SECTION...]
#
# Needs sh and what POSIX has beside it; what needs root is skipped aloud where it is
# missing. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away

# ---- what these tests are made of ----

BIG=$W/big
head -c 27000000 /dev/urandom >"$BIG" # five parts of 5 MiB and a shorter one

op() { # NAME: how many requests of that kind the store has had since the last reset
    ctl stats | awk -v op="op.$1" '$1 == op { n = $2 } END { print n + 0 }'
}

stored() { # how many parts it has acknowledged since
    ctl log | awk '$4 == 200 && $8 == "UploadPart"' | grep -c .
}

noted() { # how many parts stand in the only journal
    cat "$S3UP_STATE_DIR"/????????????????????????????????* | grep -c '^part '
}

are_noted() { # N
    [ "$(noted)" = "$1" ]
}

journals() {
    find "$S3UP_STATE_DIR" -name '????????????????????????????????*' | grep -c .
}

journal() { # the path of the only one
    echo "$S3UP_STATE_DIR"/????????????????????????????????*
}

uploads_at() { # PREFIX: how many unfinished ones the store has there
    "$S3UP" uploads "s3://bkt/$1" 2>/dev/null | grep -c .
}

# A run that has sent all but parts 4 and 5, which the store does not go on reading.
hold() { # ARG...: behind put
    ctl reset
    fault 'UploadPart *partNumber=4&* stall-body=60' 'UploadPart *partNumber=5&* stall-body=60'
    begin put --part-size 5M -j 4 "$@" # parts 1 to 3 and 6 must not wait for these two
    until_so are_noted 4 || fail "no four parts were noted"
}

# The same, cut off.
half() { # ARG...
    hold "$@"
    kill -s INT "$pid"
    ended 130
    calm
    ctl reset
}

# The same command goes on: so many parts are sent, and the object is what the file is.
goes_on() { # N FILE URI ARG...
    count=$1 from=$2 to=$3
    shift 3
    ends 0 put --part-size 5M "$@" "$from" "$to"
    is "$(stored)" "$count"
    is "$(op CompleteMultipartUpload)" 1
    is "$(journals)" 0
    cp "$T/err" "$T/put"
    check same "$from" "$to"
    cp "$T/put" "$T/err"
    ctl reset
}

workers() { # of the run that was begun
    pgrep -P "$pid"
}

none_left() { # nobody whose command line has these words is alive
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        # shellcheck disable=SC2009
        ps axww -o args= | grep -v grep | grep -q -F "$1" || return 0
        sleep 0.1
    done
    return 1
}

own() { # a section with a state folder of its own
    S3UP_STATE_DIR=$PWD/state
    export S3UP_STATE_DIR
    cp "$BIG" f
    ctl reset
}

# ---- 1: what ends a run ----

sec_stops() {
    own
    for how in INT:130 TERM:143 HUP:129; do
        for jobs in 1 4; do
            if [ $jobs = 1 ]; then
                ctl reset
                fault 'UploadPart *partNumber=4&* stall-body=60'
                begin put --part-size 5M -j 1 f "s3://bkt/stops/$how$jobs"
                until_so are_noted 3
            else
                hold -j 4 f "s3://bkt/stops/$how$jobs"
            fi
            have=$(noted)
            begun=$(date +%s)
            kill -s "${how%:*}" "$pid"
            ended "${how#*:}"
            check test $(($(date +%s) - begun)) -le 2
            err "$have of 6 parts are stored" 'the same command goes on'
            is "$(journals) $(noted)" "1 $have"
            check none_left "stops/$how$jobs"
            calm
            ctl reset
            goes_on $((6 - have)) f "s3://bkt/stops/$how$jobs"
            err "$have of 6 parts"
        done
    done
    # Killed outright: the run, one worker of it, all of them.
    hold f s3://bkt/stops/kill
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    check none_left stops/kill
    calm
    ctl reset
    goes_on 2 f s3://bkt/stops/kill
    hold f s3://bkt/stops/all
    # shellcheck disable=SC2046
    kill -s KILL $(workers) "$pid"
    wait "$pid" 2>/dev/null
    calm
    ctl reset
    goes_on 2 f s3://bkt/stops/all
    ctl reset
    fault 'UploadPart *partNumber=4&* stall-body=60 n=1'
    begin put --part-size 5M f s3://bkt/stops/one
    until_so are_noted 5
    victim=$(workers | while read -r w; do
        find "/proc/$w/fd" -lname "socket:*" | grep -q . && find "/proc/$w/fd" -lname "*/f" | grep -q . && echo "$w"
    done)
    check test -n "$victim"
    kill -s KILL "$victim"
    ended 0
    is "$(stored)" 6
    check same f s3://bkt/stops/one
    is "$(journals)" 0
    calm
}

# The power fails: the journal's end never came to the disk.
sec_power() {
    own
    for where in middle line flip; do
        for quirk in '' opaque-etag; do
            quirk "$quirk"
            half f s3://bkt/power/x
            j=$(journal)
            case $where in
            middle) head -c $(($(wc -c <"$j") * 3 / 4)) "$j" >cut ;;
            line) head -c $(($(wc -c <"$j") - 5)) "$j" >cut ;;
            flip) awk '/^part / && ++n == 2 { sub(/part ./, "part 9") } 1' "$j" >cut ;;
            esac
            cat cut >"$j"
            # Parts that only the store knows are ours if their MD5 is.
            good=2
            [ -z "$quirk" ] || case $where in
            middle) good=$((6 - $(grep -c '^part .* #........$' "$j"))) ;;
            line) good=3 ;;
            flip) good=5 ;;
            esac
            goes_on $good f s3://bkt/power/x
        done
        quirk ''
    done
}

# ---- keys ----

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
        for jobs in 1 2 4; do
            profile "$KEY" "$SECRET"
            ctl reset
            case $why in
            expired) more='UploadPart *partNumber=5&* expired-token n=1' ;;
            unknown) more='' ;;
            esac
            fault 'UploadPart *partNumber=4&* stall-body=1 n=1' \
                'UploadPart *partNumber=5&* stall-body=1 n=1' "$more"
            begin put --part-size 5M -j $jobs f s3://bkt/rot/$why$jobs
            until_so eval '[ "$(noted)" -ge 3 ]'
            profile "$TKEY" "$TSECRET"
            [ $why = expired ] || ctl keys "$TKEY:$TSECRET"
            ended 0
            is "$(stored)" 6
            is "$(op CreateMultipartUpload)" 1
            err 'keys were replaced'
            calm
            check same f s3://bkt/rot/$why$jobs
            printf '%s\n' "$both" | "$S3D" ctl "$PORT" keys
        done
    done
    # Keys that were wrong all along, or became wrong: the journal waits for the right ones.
    profile "$KEY" "$SECRET"
    half f s3://bkt/rot/wrong
    profile "$KEY" not-the-secret
    ends 6 put --part-size 5M f s3://bkt/rot/wrong
    err SignatureDoesNotMatch
    check test "$(ctl stats requests)" -le 3
    is "$(journals) $(op UploadPart)" '1 0'
    profile "$KEY" "$SECRET"
    ctl reset
    goes_on 2 f s3://bkt/rot/wrong
    fault 'UploadPart *partNumber=4&* stall-body=1' 'UploadPart *partNumber=5&* stall-body=1'
    begin put --part-size 5M -j 2 f s3://bkt/rot/lost
    until_so eval '[ "$(noted)" -ge 3 ]'
    ctl keys "$TKEY:$TSECRET"
    ended 6
    err InvalidAccessKeyId
    calm
    printf '%s\n' "$both" | "$S3D" ctl "$PORT" keys
    is "$(journals)" 1
    # The store may have got more than we heard of.
    until_so eval "ctl log | grep -q 'lost?partNumber=4&' && ctl log | grep -q 'lost?partNumber=5&'"
    ends 0 put --part-size 5M f s3://bkt/rot/lost
    is "$(stored) $(op CreateMultipartUpload) $(journals)" '6 1 0' # both runs together
    check same f s3://bkt/rot/lost
    # Files behind the first are not tried with keys that are wrong.
    profile "$KEY" not-the-secret
    cp f g
    ctl reset
    ends 6 put --part-size 5M f g s3://bkt/rot/two/
    check test "$(op CreateMultipartUpload)" -le 1
    err 'g was not sent, for the same reason'
    is "$(journals)" 0
}

sec_down() {
    own
    store stopped --key "$KEY:$SECRET" --bucket bkt
    downpid=$!
    PORT=$(cat "$W/stopped.port")
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
    hold --retries 1 f s3://bkt/down
    kill -s KILL "$downpid"
    ended 5
    is "$(journals) $(noted)" '1 4'
    ends 5 put --retries 1 --part-size 5M f s3://bkt/down
    err refused
    is "$(journals) $(noted)" '1 4'
    rm "$W/stopped.port"
    store stopped --key "$KEY:$SECRET" --bucket bkt --port "$PORT"
    goes_on 6 f s3://bkt/down # the store's log tells of both runs
    err '4 of 6 parts'
}

# ---- an upload that is gone, or done ----

sec_gone() {
    own
    # A page of something in between is no word of the store about the upload.
    half f s3://bkt/gone/page
    fault '* * html-error=404'
    ends 4 put --part-size 5M f s3://bkt/gone/page
    calm
    is "$(journals) $(noted) $(uploads_at gone/page)" '1 4 1'
    goes_on 2 f s3://bkt/gone/page
    # Whose keys may only write begins anew when the store has given an upload up.
    half f s3://bkt/gone/blind
    ctl clock 800000
    S3UP_STATE_DIR=$PWD/elsewhere "$S3UP" sweep s3://bkt/gone/blind >/dev/null 2>&1
    ctl clock 0
    is "$(uploads_at gone/blind)" 0
    fault 'HeadObject * access-denied'
    goes_on 6 f s3://bkt/gone/blind
    calm
    # Somebody else has written the key, while it was not known whether this was joined.
    quirk complete-once
    fault 'CompleteMultipartUpload * lost-reply n=1' 'CompleteMultipartUpload * stall=60 after=1 n=1'
    ctl reset
    begin put --part-size 5M f s3://bkt/gone/theirs
    until_so eval '[ "$(op CompleteMultipartUpload)" = 2 ]'
    echo theirs >theirs
    "$S3UP" put -q theirs s3://bkt/gone/theirs
    ctl go
    ended 9
    check same theirs s3://bkt/gone/theirs
    calm
    quirk ''
    rm -rf "$S3UP_STATE_DIR"
    # Joined, and not yet known to be; then found to be the same: nothing is left of it.
    fault 'CompleteMultipartUpload * lost-reply' 'HeadObject * 503'
    ends 5 put --retries 1 --part-size 5M f s3://bkt/gone/same
    calm
    is "$(journals)" 1
    ends 0 put --if-changed --part-size 5M f s3://bkt/gone/same
    is "$(journals) $(uploads_at gone/same)" '0 0'
    half f s3://bkt/gone/a
    id=$("$S3UP" uploads s3://bkt/gone/a | awk '{ print $3 }')
    ends 0 abort --upload-id "$id" s3://bkt/gone/a
    ctl reset
    goes_on 6 f s3://bkt/gone/a
    for q in '' no-such-key-for-upload; do # an object of another program is there now
        half f s3://bkt/gone/a
        quirk "$q"
        id=$("$S3UP" uploads s3://bkt/gone/a | awk '{ print $3 }')
        run abort --upload-id "$id" s3://bkt/gone/a
        ctl reset
        goes_on 6 f s3://bkt/gone/a
    done
    quirk ''
    # While parts are being sent.
    for jobs in 1 4; do
        ctl reset
        fault 'UploadPart *partNumber=5&* no-such-upload n=1'
        ends 0 put --part-size 5M -j $jobs f s3://bkt/gone/b$jobs
        is "$(op CreateMultipartUpload)" 2
        is "$(journals)" 0
        check same f s3://bkt/gone/b$jobs
        calm
        is "$(uploads_at gone/b)" 0
    done
    # Completed already, by a run that was cut off before it could say so.
    half f s3://bkt/gone/c
    cp "$(journal)" saved
    name=$(basename "$(journal)")
    goes_on 2 f s3://bkt/gone/c
    umask 077
    cp saved "state/$name"
    ctl reset
    ends 0 put --part-size 5M f s3://bkt/gone/c
    is "$(op UploadPart) $(op CreateMultipartUpload) $(op CompleteMultipartUpload) $(journals)" '0 0 0 0'
    # The same, but the file is another by now, of the same size: that is not done.
    cp saved "state/$name"
    printf 'other' | dd of=f bs=1 seek=6000000 conv=notrunc 2>/dev/null
    ctl reset
    goes_on 6 f s3://bkt/gone/c
    # With --no-clobber what is there counts only if it is what the file is.
    half -n f s3://bkt/gone/d
    cp "$(journal)" saved
    name=$(basename "$(journal)")
    goes_on 2 f s3://bkt/gone/d -n
    cp saved "state/$name"
    ends 0 put -n --part-size 5M f s3://bkt/gone/d
    is "$(op UploadPart)" 0
    cp saved "state/$name"
    printf 'again' | dd of=f bs=1 seek=6000000 conv=notrunc 2>/dev/null
    ends 7 put -n --part-size 5M f s3://bkt/gone/d
    is "$(op UploadPart)" 0
}

# ---- the source changes ----

sec_source() {
    own
    half f s3://bkt/src/size
    printf more >>f
    goes_on 6 f s3://bkt/src/size
    err 'starting over' size
    is "$(uploads_at src/size)" 0
    half f s3://bkt/src/same
    printf 'other' | dd of=f bs=1 seek=6000000 conv=notrunc 2>/dev/null
    goes_on 3 f s3://bkt/src/same
    # The same, cut off again before the part that changed was sent.
    half f s3://bkt/src/same
    printf 'third' | dd of=f bs=1 seek=6000000 conv=notrunc 2>/dev/null
    fault 'UploadPart * reset-before'
    ends 5 put --retries 0 --part-size 5M f s3://bkt/src/same
    calm
    ctl reset
    goes_on 3 f s3://bkt/src/same
    half f s3://bkt/src/touch
    touch f
    goes_on 2 f s3://bkt/src/touch
    for sum in crc64nvme crc32c md5; do
        half --checksum $sum f s3://bkt/src/touch
        touch f
        goes_on 2 f s3://bkt/src/touch --checksum $sum
    done
    half --checksum none f s3://bkt/src/none
    goes_on 2 f s3://bkt/src/none --checksum none
    half --checksum none f s3://bkt/src/none
    touch f
    goes_on 6 f s3://bkt/src/none --checksum none
    err 'starting over'
    half f s3://bkt/src/moved
    cp f g
    mv g f
    goes_on 2 f s3://bkt/src/moved
    # While it is being sent: once is once too often, but no more.
    for jobs in 1 4; do
        cp "$BIG" f
        fault 'UploadPart *partNumber=2&* stall-body=1 n=1'
        ctl reset
        begin put --part-size 5M -j $jobs f s3://bkt/src/during
        until_so eval '[ "$(op UploadPart)" -ge 2 ]'
        until_so eval '[ "$(noted)" -ge 1 ]'
        printf more >>f
        ended 0
        calm
        err 'starting over' changed
        check same f s3://bkt/src/during
        is "$(uploads_at src/during) $(journals)" '0 0'
    done
    fault 'UploadPart *partNumber=2&* stall-body=1'
    begin put --part-size 5M f s3://bkt/src/always
    while lives "$pid"; do
        printf x >>f
        sleep 0.02
    done
    ended 3
    calm
    err 'starting over' 'again: it was not sent'
    is "$(uploads_at src/always) $(journals)" '0 0'
    check gone s3://bkt/src/always
    # It goes away, and comes back.
    cp "$BIG" f
    half f s3://bkt/src/away
    mv f g
    ends 4 put --part-size 5M f s3://bkt/src/away
    is "$(journals)" 1
    mv g f
    goes_on 2 f s3://bkt/src/away
    # The same file by other words; a link to it is another source.
    half f s3://bkt/src/words
    mkdir d
    ln -s .. d/up
    goes_on 2 d/up/f s3://bkt/src/words
    half f s3://bkt/src/words
    (cd d && goes_on 2 ../f s3://bkt/src/words)
}

# ---- Complete ----

sec_complete() {
    own
    for f in 'lost-reply n=1' 'ok-error=InternalError n=1' 'empty-complete n=1' \
        'empty-complete=applied n=1' 'cut-reply n=1' '503 n=2' 'whitespace=1'; do
        ctl reset
        fault "CompleteMultipartUpload * $f"
        ends 0 put --part-size 5M f s3://bkt/cpl/a
        is "$(stored) $(op CreateMultipartUpload) $(journals)" '6 1 0'
        calm
        check same f s3://bkt/cpl/a
        ends 0 rm s3://bkt/cpl/a
    done
    quirk complete-once
    for f in 'lost-reply n=1' 'empty-complete=applied n=1'; do
        ctl reset
        fault "CompleteMultipartUpload * $f"
        ends 0 put --part-size 5M f s3://bkt/cpl/b
        is "$(stored) $(op CreateMultipartUpload) $(journals)" '6 1 0'
        calm
        check same f s3://bkt/cpl/b
        ends 0 rm s3://bkt/cpl/b
    done
    quirk ''
    # A store that does not say the ETag there is asked for it.
    fault 'CompleteMultipartUpload * no-etag'
    ends 0 put --part-size 5M f s3://bkt/cpl/a
    calm
    etag=$("$S3UP" stat s3://bkt/cpl/a | sed -n 's/^etag: //p')
    check test -n "$etag"
    ends 0 history --json s3://bkt/cpl/a
    is "$(grep -c "\"etag\":\"$etag\"" "$T/out")" "$(grep -c . "$T/out")"
    # It is refused for as long as this run lasts: the next one sends no part again.
    for f in ok-error=InternalError 503 lost-reply reset-before access-denied; do
        ctl reset
        fault "CompleteMultipartUpload * $f"
        case $f in
        lost-reply) ends 0 put --retries 1 --part-size 5M f s3://bkt/cpl/c ;;
        access-denied) ends 6 put --retries 1 --part-size 5M f s3://bkt/cpl/c ;;
        *) ends 5 put --retries 1 --part-size 5M f s3://bkt/cpl/c ;;
        esac
        is "$(stored)" 6
        calm
        ctl reset
        [ $f = lost-reply ] || goes_on 0 f s3://bkt/cpl/c
        check same f s3://bkt/cpl/c
        ends 0 rm s3://bkt/cpl/c
    done
    # Interrupted while the store joins the parts.
    fault 'CompleteMultipartUpload * stall=30'
    ctl reset
    begin put --part-size 5M f s3://bkt/cpl/d
    until_so are_noted 6
    until_so eval '[ "$(op CompleteMultipartUpload)" = 1 ]'
    kill -s INT "$pid"
    ended 130
    err 'the same command goes on'
    calm
    ctl reset
    ends 0 put --part-size 5M f s3://bkt/cpl/d
    is "$(op UploadPart) $(op CreateMultipartUpload) $(journals)" '0 0 0'
    check same f s3://bkt/cpl/d
    # Cut off while it was being completed, and another has written the object since.
    printf other >o
    half f s3://bkt/cpl/e
    j=$(journal)
    fault 'CompleteMultipartUpload * stall=30'
    begin put --part-size 5M f s3://bkt/cpl/e
    until_so grep -q '^completing' "$j"
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    calm
    cp "$j" saved
    run abort --upload-id "$("$S3UP" uploads s3://bkt/cpl/e | awk '{ print $3 }')" s3://bkt/cpl/e
    ends 0 put o s3://bkt/cpl/e
    ends 9 put --part-size 5M f s3://bkt/cpl/e
    err 'written by another' --restart
    check same o s3://bkt/cpl/e
    is "$(journals)" 1
    ends 0 put --restart --part-size 5M f s3://bkt/cpl/e
    check same f s3://bkt/cpl/e
    is "$(journals)" 0
    # The same, but the upload is still there, so it was not completed; and the file is
    # another: no reason to refuse.
    ends 0 put o s3://bkt/cpl/g
    half f s3://bkt/cpl/g
    j=$(journal)
    fault 'CompleteMultipartUpload * reset-before'
    begin put --retries 0 --part-size 5M f s3://bkt/cpl/g
    ended 5
    calm
    check grep -q '^completing' "$j"
    printf more >>f
    ctl reset
    goes_on 6 f s3://bkt/cpl/g
    is "$(uploads_at cpl/)" 0
}

# ---- what the store has ----

part_file() { # KEY NUMBER: of the only upload to it, in the store's own folder
    for u in "$W/store.store/b/bkt/u"/*; do
        [ ! -e "$u/upload" ] || ! grep -q "$1" "$u/upload" || printf '%s/%05d\n' "$u" "$2"
    done
}

sec_store() {
    own
    half f s3://bkt/st/lost
    rm "$(part_file st/lost 2)"
    goes_on 3 f s3://bkt/st/lost
    half f s3://bkt/st/swapped
    cp "$(part_file st/swapped 3)" "$(part_file st/swapped 2)"
    goes_on 3 f s3://bkt/st/swapped
    half f s3://bkt/st/more
    cp "$(part_file st/more 3)" "$(part_file st/more 8)"
    goes_on 6 f s3://bkt/st/more
    err 'starting over' 'parts that do not belong to it'
    is "$(uploads_at st/more)" 0
    quirk complete-needs-all-parts
    half f s3://bkt/st/more
    cp "$(part_file st/more 3)" "$(part_file st/more 8)"
    goes_on 6 f s3://bkt/st/more
    quirk ''
    # It does not tell what it has, or may not: the journal is believed.
    for q in no-list-parts; do
        half f s3://bkt/st/mute
        quirk $q
        goes_on 2 f s3://bkt/st/mute
        quirk ''
    done
    for code in 501 405 access-denied; do
        half f s3://bkt/st/mute
        case $code in
        501) fault 'ListParts * method-501' ;;
        405) fault 'ListParts * empty-error=405' ;;
        *) fault 'ListParts * access-denied' ;;
        esac
        goes_on 2 f s3://bkt/st/mute
        calm
    done
    half f s3://bkt/st/mute
    fault 'ListParts * 503'
    ends 5 put --retries 1 --part-size 5M f s3://bkt/st/mute
    calm
    ctl reset
    goes_on 2 f s3://bkt/st/mute
    # Lost in the same run, which hears of it when it completes.
    for jobs in 1 4; do
        ctl reset
        fault 'UploadPart *partNumber=6&* stall-body=2 n=1'
        begin put --part-size 5M -j $jobs f s3://bkt/st/late$jobs
        until_so are_noted 5
        rm "$(part_file st/late$jobs 2)"
        ended 0
        is "$(stored) $(op CreateMultipartUpload)" '7 1'
        check same f s3://bkt/st/late$jobs
        calm
    done
    # A store that says of a part that it has, that it is not right.
    ctl reset
    fault 'CompleteMultipartUpload * error=InvalidPart n=1'
    ends 0 put --part-size 5M f s3://bkt/st/liar
    check same f s3://bkt/st/liar
    is "$(uploads_at st/)" 0
    calm
    # Pages of the list of parts.
    store pages --key "$KEY:$SECRET" --bucket bkt --list-max 2
    PORT=$(cat "$W/pages.port")
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
    half f s3://bkt/st/pages
    goes_on 2 f s3://bkt/st/pages
    for i in 1 2 3 4 5; do
        half f s3://bkt/st/p$i
        rm "$(journal)"
    done
    ends 0 uploads --parts s3://bkt/st/
    is "$(grep -c s3://bkt/st/p "$T/out")" 5
    is "$(grep -c '    part ' "$T/out")" 20
    for i in 1 2 3 4 5; do
        check grep -q "s3://bkt/st/p$i " "$T/out"
    done
}

# ---- the journal ----

sealed() { # LINE: as it stands in a journal
    printf '%s #%.8s\n' "$1" "$(printf %s "$1" | "$S3D" sum crc32)"
}

sec_journal() {
    own
    # On another host: the same path, another file with the same bytes.
    half f s3://bkt/jrn/copy
    cp f g
    touch g
    mv g f
    S3UP_STATE_DIR=$PWD/state2
    mkdir -m 700 state2
    (umask 077 && cp state/????????????????????????????????* state2/)
    goes_on 2 f s3://bkt/jrn/copy
    S3UP_STATE_DIR=$PWD/state
    # What the old journal tells of is stored, but it cannot know whether all of that is in
    # the file that is here now.
    goes_on 6 f s3://bkt/jrn/copy
    # Other headers.
    half --metadata a=b f s3://bkt/jrn/head
    goes_on 6 f s3://bkt/jrn/head --metadata a=c
    err 'starting over' headers
    is "$(uploads_at jrn/head)" 0
    ends 0 stat s3://bkt/jrn/head
    out 'metadata.a: c'
    half f s3://bkt/jrn/head
    goes_on 6 f s3://bkt/jrn/head --checksum crc32c
    half f s3://bkt/jrn/head
    goes_on 6 f s3://bkt/jrn/head --restart
    is "$(uploads_at jrn/head)" 0
    (
        S3UP_RESTART=1
        export S3UP_RESTART
        half f s3://bkt/jrn/head
        goes_on 2 f s3://bkt/jrn/head
    )
    # The part size is the journal's, whatever the flag says.
    half f s3://bkt/jrn/size
    ends 0 put --part-size 8M f s3://bkt/jrn/size
    is "$(stored)" 2
    check same f s3://bkt/jrn/size
    # Two at once.
    hold f s3://bkt/jrn/two
    first=$pid
    cp "$T/err" first.err
    ends 8 put --part-size 5M f s3://bkt/jrn/two
    err 'another run'
    ends 8 abort f s3://bkt/jrn/two
    is "$(op UploadPart) $(op AbortMultipartUpload)" '6 0'
    ends 0 uploads
    out running
    check lives "$first"
    kill -s INT "$first"
    wait "$first" 2>/dev/null
    calm
    ctl reset
    goes_on 2 f s3://bkt/jrn/two
    # A place of one's own.
    fault 'UploadPart *partNumber=5&* access-denied'
    ends 6 put --part-size 5M --journal here -j 1 f s3://bkt/jrn/here
    check test -s here
    is "$(journals) $(grep -c '^part ' here) $(stat -c %a here)" '0 4 600'
    calm
    ctl reset
    ends 2 put --part-size 5M --journal here f s3://bkt/jrn/there
    err 'another transfer'
    ends 2 abort --journal here f s3://bkt/jrn/there
    is "$(grep -c '^part ' here) $(op AbortMultipartUpload)" '4 0'
    goes_on 2 f s3://bkt/jrn/here --journal here
    check_not test -e here
    ends 2 put --part-size 5M --journal x f f s3://bkt/jrn/
    cp f g
    ends 2 put --part-size 5M --journal x f g s3://bkt/jrn/
    err --journal
    # What is no journal is left as it is.
    printf 'dear diary\n' >text
    printf 's3up journal 1 #00000000\n' >torn
    sealed 's3up journal 2' >newer
    : >empty
    chmod 600 text torn newer
    cat text torn newer >all
    for file in text torn newer; do
        ends 2 put --part-size 5M --journal $file f s3://bkt/jrn/text
    done
    is "$(cat text torn newer)" "$(cat all)"
    ends 2 put --part-size 5M --journal newer f s3://bkt/jrn/text
    err 'version 2'
    ln -s text link
    ends 2 put --part-size 5M --journal link f s3://bkt/jrn/text
    ends 2 put --part-size 5M --journal . f s3://bkt/jrn/text
    ends 4 put --part-size 5M --journal no/such f s3://bkt/jrn/text
    is "$(op CreateMultipartUpload)" 0
    ends 0 put --part-size 5M --journal empty f s3://bkt/jrn/text
    check_not test -e empty
    # One that contradicts itself is refused, and its upload is left alone.
    half f s3://bkt/jrn/odd
    j=$(journal)
    sealed 'part 77777 x y' >>"$j"
    ends 2 put --part-size 5M f s3://bkt/jrn/odd
    err contradicts
    is "$(uploads_at jrn/odd)" 1
    sed '$d' "$j" >x
    cat x >"$j"
    goes_on 2 f s3://bkt/jrn/odd
}

# ---- 2 to 5: the plan, sums, joined files, the rate ----

sec_plan() {
    own
    for size in 5242880:0 5242881:2 10485760:2 10485761:3 15728640:3; do
        head -c "${size%:*}" "$BIG" >p
        ctl reset
        ends 0 put --part-size 5M p s3://bkt/plan/p
        is "$(op UploadPart)" "${size#*:}"
        check same p s3://bkt/plan/p
    done
    # Below the threshold a file goes in one request, whatever the part size is.
    ctl reset
    ends 0 put --part-size 5M --threshold 12M p s3://bkt/plan/p
    is "$(op UploadPart)" 3
    ends 0 put --part-size 5M --threshold 15M p s3://bkt/plan/p
    is "$(op UploadPart) $(op PutObject)" '3 1'
    check same p s3://bkt/plan/p
    ctl reset
    ends 0 put --part-size 6M --threshold 5M p s3://bkt/plan/p
    is "$(op UploadPart)" 3
    for small in 1 5000000 5242879; do
        ctl reset
        ends 0 put --part-size $small p s3://bkt/plan/p
        err --part-size '5M is taken'
        is "$(op UploadPart)" 3
        check same p s3://bkt/plan/p
    done
    ends 2 put --part-size 5121M p s3://bkt/plan/p
    err --part-size '5 GiB'
    ends 2 put --part-size none p s3://bkt/plan/p
    for jobs in 0 65 x -1 ''; do
        ends 2 put -j "$jobs" p s3://bkt/plan/p
        err --jobs
    done
    for jobs in 1 8 64 auto; do
        ctl reset
        ends 0 put --part-size 5M -j $jobs f s3://bkt/plan/jobs
        is "$(op UploadPart)" 6
        check same f s3://bkt/plan/jobs
    done
    # Small and large ones in one command.
    printf small >small
    head -c 6000000 "$BIG" >middle
    ctl reset
    ends 0 put --part-size 5M small f middle s3://bkt/plan/many/
    is "$(op PutObject) $(op UploadPart) $(op CompleteMultipartUpload)" '1 8 2'
    for name in small f middle; do
        check same $name s3://bkt/plan/many/$name
    done
    is "$(journals)" 0
}

# More bytes than 10,000 parts of 5 MiB have room for; a store that keeps none of them.
sec_giant() {
    if [ "${E2E_SLOW:-0}" = 0 ]; then
        skip 'no file of 49 GiB is sent: E2E_SLOW=1 does that'
        return
    fi
    mkdir -m 700 state
    S3UP_STATE_DIR=$PWD/state
    store sink --key "$KEY:$SECRET" --bucket bkt --sink-fast
    PORT=$(cat "$W/sink.port")
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
    truncate -s 52428800001 giant
    limit=
    ends 0 put -q --checksum none --part-size 5M giant s3://bkt/giant
    is "$(op UploadPart)" 8334
}

sec_sums() {
    own
    for sum in auto sha256 crc64nvme crc32c crc32 md5 none; do
        ctl reset
        ends 0 put --part-size 5M --checksum $sum f s3://bkt/sum/$sum
        is "$(op UploadPart)" 6
        check same f s3://bkt/sum/$sum
        ctl heads >heads
        case $sum in
        auto) check_not grep -qi '^x-amz-checksum-[^m]' heads ;;
        md5) is "$(grep -ci '^content-md5:' heads)" 6 ;;
        none) is "$(grep -ci '^x-amz-content-sha256: UNSIGNED-PAYLOAD' heads)" 6 ;;
        crc64nvme)
            is "$(grep -ci "^x-amz-checksum-$sum:" heads)" 7
            is "$(grep -ci '^x-amz-checksum-type: FULL_OBJECT' heads)" 2
            # The last is that of the whole, as the store's own arithmetic has it.
            check grep -qi "^x-amz-checksum-$sum: $("$S3D" sum $sum <f | awk '{ print $2 }')" heads
            ;;
        *) is "$(grep -ci "^x-amz-checksum-$sum:" heads)" 6 ;;
        esac
        # A part that arrives damaged is sent once more; the second time is the last.
        half --checksum $sum f s3://bkt/sum/$sum
        goes_on 2 f s3://bkt/sum/$sum --checksum $sum
    done
    ctl reset
    fault 'UploadPart *partNumber=3&* bad-digest n=1'
    ends 0 put --part-size 5M f s3://bkt/sum/bad
    is "$(op UploadPart) $(stored)" '7 6'
    fault 'UploadPart *partNumber=3&* bad-digest'
    ends 9 put --part-size 5M f s3://bkt/sum/bad
    calm
    ends 0 put --part-size 5M f s3://bkt/sum/bad
    check same f s3://bkt/sum/bad
    for q in checksum-ignored strict-complete-xml opaque-etag bare-etag-xml quoted-etag-xml; do
        quirk $q
        ends 0 put --part-size 5M f s3://bkt/sum/$q
        check same f s3://bkt/sum/$q
    done
    # No sums in the list of parts: that is found out once in a run.
    quirk strict-complete-xml checksum-ignored
    for sum in sha256 crc64nvme crc32c; do
        ctl reset
        ends 0 put --part-size 5M --checksum $sum f s3://bkt/sum/strict
        is "$(stored) $(op CompleteMultipartUpload)" '6 2'
        check same f s3://bkt/sum/strict
    done
    cp f g
    ctl reset
    ends 0 put --part-size 5M --checksum crc32c f g s3://bkt/sum/
    is "$(op CompleteMultipartUpload)" 3
    quirk ''
}

sec_concat() {
    own
    head -c 7000000 "$BIG" >a
    tail -c 9000000 "$BIG" >b
    : >none
    printf x >x
    cat none a none x b none >all
    ctl reset
    ends 0 put --concat --part-size 5M none a none x b none s3://bkt/cat/all
    is "$(op UploadPart)" 4
    check same all s3://bkt/cat/all
    is "$(journals)" 0
    # Resumed; another order is another object.
    fault 'UploadPart *partNumber=4&* access-denied'
    ends 6 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    calm
    ctl reset
    cat a x b >all
    ends 0 uploads
    out '%' "$PWD/a -> s3://bkt/cat/all"
    ends 0 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    err '3 of 4 parts'
    is "$(stored) $(op CreateMultipartUpload)" '1 0'
    check same all s3://bkt/cat/all
    fault 'UploadPart *partNumber=4&* access-denied'
    ends 6 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    calm
    ctl reset
    touch b
    ends 0 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    is "$(stored) $(op CreateMultipartUpload)" '1 0'
    fault 'UploadPart *partNumber=4&* access-denied'
    ends 6 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    calm
    ctl reset
    cat a b x >all
    ends 0 put --concat --part-size 5M a b x s3://bkt/cat/all
    err 'starting over'
    is "$(stored) $(journals) $(uploads_at cat/)" '4 0 0'
    check same all s3://bkt/cat/all
    # It can be given up.
    fault 'UploadPart *partNumber=4&* access-denied'
    ends 6 put --concat --part-size 5M -j 1 a x b s3://bkt/cat/all
    calm
    ends 0 abort a s3://bkt/cat/all
    is "$(journals) $(uploads_at cat/)" '0 0'
    # The name is that of the first; a small whole is one request; nothing is nothing.
    ctl reset
    ends 0 put --concat x none x s3://bkt/cat/dir/
    is "$(op PutObject) $(op UploadPart)" '1 0'
    ends 0 get s3://bkt/cat/dir/x -
    is "$(cat "$T/out")" xx
    ends 0 put --concat none none s3://bkt/cat/none
    ends 0 get s3://bkt/cat/none -
    silent out
    ends 4 put --concat x nosuch s3://bkt/cat/bad
    check gone s3://bkt/cat/bad
    ends 2 put --concat x . s3://bkt/cat/bad
    # More files in one part than a process may usually have open; more than a journal holds.
    mkdir many
    (
        cd many || exit
        awk 'BEGIN { for (i = 1000; i < 2400; i++) { f = "p" i; printf "%d\n", i >f; close(f) } }'
        cat p* >../joined
        if [ "$(ulimit -H -n)" != unlimited ] && [ "$(ulimit -H -n)" -lt 2000 ]; then
            skip 'no 1,400 files are joined: so many may not be open here'
        else
            ulimit -S -n 1024
            ends 0 put --concat p* s3://bkt/cat/many
            check same ../joined s3://bkt/cat/many
        fi
    )
    # shellcheck disable=SC2046
    ends 2 put --concat $(awk 'BEGIN { for (i = 0; i < 4097; i++) print "x" }') s3://bkt/cat/many
    err 4096
}

sec_rate() {
    own
    head -c 12000000 "$BIG" >r
    for jobs in 1 4; do
        begun=$(date +%s%N)
        ends 0 put --part-size 5M -j $jobs --limit-rate 6M r s3://bkt/rate/$jobs
        took=$((($(date +%s%N) - begun) / 1000000))
        check test $took -ge 1650 # 12,000,000 bytes at 6 MiB a second, less the first pieces
        check same r s3://bkt/rate/$jobs
    done
    head -c 3000000 "$BIG" >r
    begun=$(date +%s%N)
    ends 0 put --bwlimit 2M r s3://bkt/rate/whole
    took=$((($(date +%s%N) - begun) / 1000000))
    check test $took -ge 1200
    ends 2 put --limit-rate fast r s3://bkt/rate/x
}

# ---- 6: under a condition ----

sec_clobber() {
    own
    printf other >o
    ends 0 put o s3://bkt/nc/there
    ctl reset
    ends 7 put -n --part-size 5M f s3://bkt/nc/there
    is "$(op CreateMultipartUpload) $(journals)" '0 0'
    check same o s3://bkt/nc/there
    # Somebody else is faster.
    ctl reset
    fault 'UploadPart *partNumber=4&* stall-body=1 n=1'
    begin put -n --part-size 5M f s3://bkt/nc/race
    until_so are_noted 5
    "$S3UP" put o s3://bkt/nc/race 2>/dev/null
    ended 7
    calm
    err 'exists already' 'somebody else'
    check same o s3://bkt/nc/race
    run abort f s3://bkt/nc/race
    # A reply that is lost makes the second attempt meet the object of the first.
    for q in '' complete-once; do
        quirk "$q"
        ctl reset
        fault 'CompleteMultipartUpload * lost-reply n=1'
        ends 0 put -n --part-size 5M f "s3://bkt/nc/lost$q"
        is "$(stored) $(op CreateMultipartUpload) $(journals)" '6 1 0'
        check same f "s3://bkt/nc/lost$q"
        calm
        quirk ''
    done
    fault 'CompleteMultipartUpload * precondition-412 n=1'
    ends 7 put -n --part-size 5M f s3://bkt/nc/412
    calm
    ctl reset
    goes_on 0 f s3://bkt/nc/412 -n
    fault 'CompleteMultipartUpload * conflict-409 n=1'
    ends 0 put -n --part-size 5M f s3://bkt/nc/409
    calm
    check same f s3://bkt/nc/409
    quirk if-none-match-501
    ctl reset
    ends 0 put -n --part-size 5M f s3://bkt/nc/501
    err 'cannot write under a condition'
    is "$(stored) $(op CompleteMultipartUpload)" '6 2'
    check same f s3://bkt/nc/501
    quirk ''
    is "$(journals)" 0
}

# ---- 7: uploads, abort, sweep, history ----

sec_lists() {
    own
    ends 0 uploads
    silent out err
    half f s3://bkt/li/a
    ends 0 uploads
    out "61% of 25M" ' old' "$PWD/f -> s3://bkt/li/a"
    is "$(grep -c . "$T/out")" 1
    ends 0 uploads --json
    json "$T/out"
    out '"parts":6' '"parts_done":4' '"running":false' '"size":27000000' '"bytes_done":'
    ends 0 uploads s3://bkt/li/
    out s3://bkt/li/a
    ends 0 uploads --parts s3://bkt/li/
    is "$(grep -c '    part ' "$T/out")" 4
    ends 0 uploads --parts --json s3://bkt/li/
    json "$T/out"
    is "$(grep -c . "$T/out")" 5
    ends 2 uploads s3://bkt a
    ends 4 uploads s3://nobucket
    # abort
    ends 0 abort --dry-run f s3://bkt/li/a
    is "$(journals) $(uploads_at li/a)" '1 1'
    ends 4 abort f s3://bkt/li/other
    ends 4 abort nosuch s3://bkt/li/a
    ends 0 abort f s3://bkt/li/a
    err aborted
    is "$(journals) $(uploads_at li/a)" '0 0'
    ends 4 abort f s3://bkt/li/a
    half f s3://bkt/li/b
    id=$("$S3UP" uploads s3://bkt/li/b | awk '{ print $3 }')
    ends 0 abort --dry-run --upload-id "$id" s3://bkt/li/b
    is "$(uploads_at li/b)" 1
    ends 0 abort --upload-id "$id" s3://bkt/li/b
    is "$(uploads_at li/b)" 0
    ends 4 abort --upload-id "$id" s3://bkt/li/b
    ends 0 abort f s3://bkt/li/b # the journal is there, the upload is not
    is "$(journals)" 0
    ends 2 abort
    ends 2 abort f
    ends 2 abort --upload-id x f s3://bkt/li/b
    # Without a key the same request would delete a bucket that is empty.
    ends 0 mb s3://li-empty
    for uri in s3://li-empty s3://li-empty/; do
        refused 2 'names no object' abort --upload-id x $uri
        refused 2 'names no object' abort --dry-run --upload-id x $uri
    done
    ends 0 uploads s3://li-empty
}

sec_sweep() {
    own
    half f s3://bkt/sw/theirs
    S3UP_STATE_DIR=$PWD/elsewhere # another host
    half f s3://bkt/sw/ours
    ends 0 sweep s3://bkt/sw/
    silent out
    ends 2 sweep --older-than 1h s3://bkt/sw/
    err --force
    ends 0 sweep --older-than 1h --force s3://bkt/sw/
    silent out
    is "$(uploads_at sw/)" 2
    # By the store's clock, and not by ours.
    ctl clock 700000
    ends 0 sweep --older-than 9d s3://bkt/sw/
    is "$(uploads_at sw/)" 2
    ends 0 sweep --dry-run s3://bkt/sw/ --older-than 8d
    out s3://bkt/sw/theirs
    is "$(uploads_at sw/)" 2
    ends 0 sweep --json s3://bkt/sw/ --older-than 8d
    json "$T/out"
    is "$(uploads_at sw/theirs) $(uploads_at sw/ours)" '0 1'
    ctl clock 0
    S3UP_STATE_DIR=$PWD/third
    half f s3://bkt/sw/denied
    S3UP_STATE_DIR=$PWD/elsewhere
    ctl clock 800000
    fault 'AbortMultipartUpload * access-denied'
    ends 6 sweep s3://bkt/sw/denied
    calm
    ends 0 sweep s3://bkt/sw/denied
    is "$(uploads_at sw/denied)" 0
    ctl clock 0
    # What was not asked for stays, whatever a store lists; and one that is refused is not all.
    for key in others/a swept/b swept/c; do
        S3UP_STATE_DIR=$PWD/$key
        half f s3://bkt/$key
    done
    S3UP_STATE_DIR=$PWD/elsewhere
    ctl clock 800000
    quirk list-all
    fault 'AbortMultipartUpload *swept/c* access-denied'
    ends 1 sweep s3://bkt/swept/
    calm
    ends 0 uploads s3://bkt/swept/
    check_not has "$T/out" others
    ends 0 sweep s3://bkt/swept/
    quirk ''
    is "$(uploads_at swept/) $(uploads_at others/)" '0 1'
    ctl clock 0
    ends 2 sweep
    ends 2 sweep s3://bkt a
}

sec_history() {
    own
    ends 0 history
    silent out err
    printf small >small
    ends 0 put --part-size 5M f small s3://bkt/hi/
    ends 0 history
    is "$(grep -c . "$T/out")" 2
    out "$PWD/f -> s3://bkt/hi/f" "$PWD/small -> s3://bkt/hi/small" 27000000
    ends 0 history '*small'
    is "$(grep -c . "$T/out")" 1
    ends 0 history 's3://bkt/hi/f'
    is "$(grep -c . "$T/out")" 1
    ends 0 history --json
    json "$T/out"
    out '"parts":6' '"part_size":5242880' '"size":27000000' '"etag":"'
    printf '{"time":"2026\n{\n{"time":' >>state/ledger.jsonl
    ends 0 history
    err 'torn lines that were passed over: 3'
    is "$(grep -c . "$T/err")" 1
    is "$(grep -c . "$T/out")" 2
    ends 0 put small s3://bkt/hi/
    ends 0 history
    is "$(grep -c . "$T/out")" 3
    ends 2 history a b
    is "$(stat -c %a state state/ledger.jsonl | tr '\n' ' ')" '700 600 '
    check_not grep -q "$SECRET" state/ledger.jsonl
}

# ---- 8: the state folder ----

# A wrong clock is said once, and corrected for all parts.
sec_clock() {
    own
    for by in 7200 -7200; do
        ctl clock "$by"
        ends 0 put --part-size 5M -j 3 f s3://bkt/clock
        ctl clock 0
        is "$(grep -c 'differ by' "$T/err")" 1
        check same f s3://bkt/clock
    done
}

sec_state() {
    own
    # What a reboot forgets is said.
    if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] && shm=$(mktemp -d /dev/shm/s3up.XXXXXX); then
        ends 0 put --state-dir "$shm" --part-size 5M f s3://bkt/sta/shm
        is "$(grep -c 'is in memory' "$T/err")" 1
        rm -rf "$shm"
    else
        skip 'state: there is no file system in memory here'
    fi
    mkdir real
    ln -s real link
    chmod 755 real
    for dir in link f/x open; do
        mkdir -p open
        chmod 777 open
        S3UP_STATE_DIR=$PWD/$dir
        ctl reset
        ends 0 put --part-size 5M f s3://bkt/sta/x
        err 'without a journal'
        is "$(stored)" 6
        check same f s3://bkt/sta/x
        fault 'UploadPart *partNumber=5&* access-denied'
        ends 6 put --part-size 5M f s3://bkt/sta/y
        is "$(uploads_at sta/y)" 0
        calm
    done
    is "$(ls -A real open)" "$(printf 'open:\n\nreal:')"
    # Interrupted, it takes the upload back, too.
    fault 'UploadPart *partNumber=5&* stall-body=60'
    for jobs in 1 4; do
        ctl reset
        begin put --part-size 5M -j $jobs f s3://bkt/sta/int
        until_so eval '[ "$(stored)" -ge 4 ]'
        kill -s INT "$pid"
        ended 130
        err interrupted
        check_not has "$T/err" 'goes on'
        is "$(op AbortMultipartUpload) $(uploads_at sta/int)" '1 0'
    done
    calm
    S3UP_STATE_DIR=$PWD/new/er
    (
        umask 000
        half f s3://bkt/sta/modes
        is "$(stat -c %a "$PWD/new/er" "$(journal)" | tr '\n' ' ')" '700 600 '
        goes_on 2 f s3://bkt/sta/modes
    )
    # A journal that others may write, or that is another's.
    half f s3://bkt/sta/theirs
    j=$(journal)
    chmod 622 "$j"
    ends 6 put --part-size 5M f s3://bkt/sta/theirs
    err 'others may write'
    ends 0 uploads
    silent out
    chmod 600 "$j"
    if [ "$(id -u)" = 0 ]; then
        chown 65534 "$j"
        ends 6 put --part-size 5M f s3://bkt/sta/theirs
        err 'another user'
        ends 0 uploads
        silent out
        ends 6 abort f s3://bkt/sta/theirs
        is "$(uploads_at sta/theirs)" 1
        chown 0 "$j"
    else
        skip 'journals of other users: that needs root'
    fi
    ends 0 abort f s3://bkt/sta/theirs
    state_nobody
    state_full
}

# As a user who has no home, and one who may not write to the folder that there is.
state_nobody() {
    if [ "$(id -u)" != 0 ] || ! setpriv --reuid=65534 --clear-groups true 2>/dev/null; then
        skip 'no HOME and no right to write are not tried: that needs root and setpriv'
        return
    fi
    cp "$S3UP" "$W/s3up"
    chmod 755 "$W" "$W/s3up" .
    mkdir -m 700 closed
    chown 65534 closed
    chmod 500 closed
    for how in '-u HOME -u S3UP_STATE_DIR' "S3UP_STATE_DIR=$PWD/closed"; do
        limit="setpriv --reuid=65534 --clear-groups env $how"
        keep=$S3UP
        S3UP=$W/s3up
        ctl reset
        ends 0 put --part-size 5M f s3://bkt/sta/nobody
        err 'without a journal'
        is "$(stored)" 6
        S3UP=$keep
        limit='timeout 30'
        check same f s3://bkt/sta/nobody
    done
}

# A disk that is full from the start, or becomes full.
state_full() {
    if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
        skip 'no full disk is tried: that needs root and unshare'
        return
    fi
    mkdir -m 700 disk
    cat >on-disk <<'D'
mount -t tmpfs -o size=8k,mode=700 tmpfs disk || exit 99
[ "$1" = some ] || head -c 9000 /dev/zero >disk/fill 2>/dev/null
shift
"$@"
code=$?
ls -A disk | grep -v fill
exit $code
D
    limit='unshare -m sh on-disk'
    for fill in all some; do
        limit="unshare -m sh on-disk $fill"
        S3UP_STATE_DIR=$PWD/disk
        ctl reset
        ends 0 put --part-size 5M f s3://bkt/sta/full
        is "$(stored)" 6
        [ $fill = some ] || err 'without a journal'
        [ $fill = some ] || err 'No space left'
        check_not grep -q '^[0-9a-f]\{64\}$' "$T/out"
        limit='timeout 30'
        check same f s3://bkt/sta/full
    done
    S3UP_STATE_DIR=$PWD/small
    # One that grows no further, or not even until it knows the upload.
    to=s3://bkt/sta/small/$(printf %0200d 1)
    for most in 2 1; do
        printf '#!/bin/sh\nulimit -f %s\nexec "$@"\n' $most >"$T/small"
        chmod +x "$T/small"
        limit="$T/small"
        ctl reset
        ends 0 put --part-size 5M f "$to"
        err 'this run goes on'
        is "$(stored) $(journals)" '6 0'
        fault 'UploadPart *partNumber=6&* access-denied'
        ends 6 put -j 1 --part-size 5M f "$to"
        limit='timeout 30'
        calm
        ctl reset
        is "$(uploads_at sta/small) $(journals)" "$((most - 1)) $((most - 1))"
        goes_on $((most == 2 ? 1 : 6)) f "$to"
    done
    # A part has other bytes by now, and the journal cannot say so: the upload goes on.
    half --checksum md5 f s3://bkt/sta/bent
    printf other | dd of=f bs=1 seek=100 conv=notrunc 2>/dev/null
    limit="$T/small" # a block, which is full
    ctl reset
    ends 0 put --checksum md5 --part-size 5M f s3://bkt/sta/bent
    limit='timeout 30'
    err 'the journal stays as it is, and this run goes on'
    err 'going on; 3 of 6 parts'
    is "$(stored)" 3
    check same f s3://bkt/sta/bent
}

# ---- 9, 10: what it says, what it leaves ----

value() { # FILE EVENT NAME: the sum over all such events
    sed -n "s/^{\"event\":\"$2\".*\"$3\":\([0-9]*\).*/\1/p" "$1" | awk '{ n += $1 } END { print n + 0 }'
}

events() { # FILE EVENT
    grep -c "^{\"event\":\"$2\"" "$1"
}

sec_json() {
    own
    ends 0 put --json --part-size 5M f s3://bkt/js/a
    json "$T/out"
    is "$(events "$T/out" start) $(events "$T/out" part) $(events "$T/out" done)" '1 6 1'
    is "$(value "$T/out" start parts) $(value "$T/out" summary bytes)" '6 27000000'
    is "$(value "$T/out" part number)" 21
    is "$(value "$T/out" summary done) $(value "$T/out" summary failed)" '1 0'
    half --json f s3://bkt/js/b
    json "$T/out"
    is "$(events "$T/out" part) $(events "$T/out" error)" '4 1'
    out '"code":130'
    have=$(noted)
    ends 0 put --json --part-size 5M f s3://bkt/js/b
    json "$T/out"
    is "$(value "$T/out" resume parts_done)" "$have"
    is "$(($(value "$T/out" resume parts_done) + $(events "$T/out" part)))" 6
    is "$(value "$T/out" resume bytes_done)" "$(value "$T/out" summary bytes_resumed)"
    fault 'UploadPart *partNumber=3&* 503 n=2'
    ends 0 put --json -j 2 --part-size 5M f s3://bkt/js/c
    json "$T/out"
    is "$(events "$T/out" retry) $(value "$T/out" summary retries)" '1 1'
    out '"event":"retry"'
    calm
    fault 'UploadPart *partNumber=3&* no-such-upload n=1'
    ends 0 put --json --part-size 5M f s3://bkt/js/c
    json "$T/out"
    is "$(events "$T/out" over) $(events "$T/out" start)" '1 2'
    calm
    printf s >s
    ends 1 put --json --part-size 5M f s nosuch s3://bkt/js/
    json "$T/out"
    is "$(value "$T/out" summary done) $(value "$T/out" summary failed)" '2 1'
    is "$(value "$T/out" summary bytes)" 27000001
    # Numbers for Prometheus.
    ends 0 put --metrics m --part-size 5M f s3://bkt/js/m
    is "$(grep -c '^# HELP' m) $(grep -c '^# TYPE .* gauge$' m) $(grep -c '^s3up_[a-z_]* [0-9]*$' m)" '7 7 7'
    check grep -q '^s3up_last_run_bytes 27000000$' m
    check grep -q '^s3up_last_run_exit_code 0$' m
    good=$(grep '^s3up_last_success' m)
    inode=$(stat -c %i m)
    sleep 1.1
    ends 4 put --metrics m nosuch s3://bkt/js/m
    check grep -q '^s3up_last_run_exit_code 4$' m
    check grep -q '^s3up_last_run_failures 1$' m
    is "$(grep '^s3up_last_success' m)" "$good"
    check test "$(stat -c %i m)" != "$inode"
    is "$(stat -c %a m)" 644
    is "$(find . -name 'm*' | grep -c .)" 1
    mkfifo fifo
    ln -s m link
    for odd in fifo link .; do # what is no file is not made one
        refused 2 'no plain file' put --metrics $odd s s3://bkt/js/m
    done
    check test -p fifo
    check test -h link
    run put --metrics no/such/folder s s3://bkt/js/m
    check test "$rc" -ne 0
}

sec_clean() {
    own
    fault 'UploadPart *partNumber=4&* stall-body=3 n=1'
    begin put -v --part-size 5M f s3://bkt/clean
    until_so are_noted 5
    # Workers hold neither the journal nor the ledger, nor each other's pipes.
    for w in $(workers); do
        check_not eval "ls -l /proc/$w/fd | grep -q '$S3UP_STATE_DIR'"
        check test "$(find "/proc/$w/fd" -type l -lname 'pipe:*' | grep -c .)" -le 4
        check test "$(find "/proc/$w/fd" -type l -lname 'socket:*' | grep -c .)" -le 1
    done
    no_secret "$(journal)"
    ended 0
    calm
    check none_left bkt/clean
    is "$(find state | grep -c .) $(journals)" '2 0' # the folder and the ledger
    no_secret state/ledger.jsonl
    is "$(uploads_at clean)" 0
}

wait_for_most() { # all but those that one worker may have before it
    [ "$(op PutObject)" -gt 960 ]
}

# Many small files, which go to a worker many at once.
sec_many() {
    own
    mkdir m
    for i in $(seq 1000); do echo "$i" >"m/$i"; done
    # Workers die in the middle of it: what they had not done, others do.
    fault 'PutObject */777 stall=60 n=1'
    begin put -q -j 3 m/* s3://bkt/many/
    until_so wait_for_most || fail "a worker that waits stops the others"
    # shellcheck disable=SC2046
    kill -s KILL $(workers)
    ended 0
    calm
    is "$("$S3UP" ls s3://bkt/many/ | grep -c .)" 1000
    is "$(grep -c . state/ledger.jsonl) $(sort -u state/ledger.jsonl | grep -c .)" '1000 1000'
    check same m/777 s3://bkt/many/777
    # Those that are refused, in the midst of others, are those that are named.
    fault 'PutObject */2?3 access-denied'
    ends 1 put -j 3 m/* s3://bkt/many/
    calm
    is "$(grep -c 'error: .*many/2.3[^0-9]' "$T/err")" 10
    err '990 files' 'failed: 10'
    # Of a signal nothing but the rest is left over.
    rm -r state
    fault 'PutObject * stall=0.01'
    begin put -q -j 3 m/* s3://bkt/term/
    until_so grep -q . state/ledger.jsonl 2>/dev/null
    kill -s TERM "$pid"
    ended 143
    calm
    check test "$(grep -c . state/ledger.jsonl)" -le "$("$S3UP" ls s3://bkt/term/ | grep -c .)"
    is "$(($(grep -c . state/ledger.jsonl) + $(grep -c 'was not sent' "$T/err")))" 1000
}

# ---- running all of it ----

# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
