#!/bin/sh
# streams.sh: what comes from a pipe, how many go at a time and how fast, and what is shown
# of it, on terminals of many widths.
#
#   test/streams.sh S3UP S3D PTY [SECTION...]
#
# Needs sh and what POSIX has beside it; what needs root is skipped aloud where it is
# missing. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away
PTYBIN=$(cd "$(dirname "$1")" && pwd)/${1##*/}
shift

# ---- what these tests are made of ----

MIB=1048576
PART=$((8 * MIB)) # of a stream
BIG=$W/big
head -c 27000000 /dev/urandom >"$BIG" # four parts of a stream, six of 5 MiB

own() { # a section with a state folder of its own
    S3UP_STATE_DIR=$PWD/state
    export S3UP_STATE_DIR
    ctl reset
}

op() { # NAME: how many requests of that kind the store has had since the last reset
    ctl stats | awk -v op="op.$1" '$1 == op { n = $2 } END { print n + 0 }'
}

parts() { # the lengths of the parts that were sent, in the order of their numbers
    ctl heads | awk '
        / HTTP\/1/ { n = 0 }
        /^PUT .*partNumber=/ { n = $2; sub(/.*partNumber=/, "", n); sub(/&.*/, "", n) }
        n && tolower($1) == "content-length:" { print n + 0, $2 + 0 }' |
        sort -n | awk '{ printf "%s%s", (NR > 1 ? " " : ""), $2 }'
}

unfinished() { # how many uploads the store has of which nobody knows the end
    "$S3UP" uploads s3://bkt/ 2>/dev/null | grep -c .
}

# Neither an object nor an upload. Who is interrupted has little time for the upload, and
# says so if it was not enough.
nothing_at() { # URI
    if has "$T/err" 'could not be aborted'; then left=$((${left:-0} + 1)); fi
    check gone "$1"
    is "$(unfinished)" "${left:-0}"
}

workers() { # of the run that was begun
    pgrep -P "$pid"
}

are_at_work() { # N
    [ "$(workers | grep -c .)" = "$1" ]
}

at() { # how far the run has read a file that is its standard input
    awk '$1 == "pos:" { print $2 }' "/proc/$pid/fdinfo/0"
}

is_at() {
    [ "$(at)" = "$1" ]
}

asleep() { # waits on another descriptor than standard input: what it read is all it will
    was=$(at)
    sleep 0.3
    [ "$(at)" = "$was" ]
}

from() { # FILE COMMAND...: the run reads it
    IN=$1
    shift
    "$@"
    IN=
}

unread() { # CODE TEXTS ARG...: the same, before a byte of our standard input was read
    code=$1 texts=$2 sent=$(ctl stats requests)
    shift 2
    last="s3up $*"
    "$S3UP" "$@" >"$T/out" 2>"$T/err"
    is $? "$code"
    IFS='|'
    # shellcheck disable=SC2086 # the texts are to be split
    err $texts
    unset IFS
    is "$(wc -c)" 27000000
    is "$(ctl stats requests)" "$sent"
}

# ---- terminals ----

# Runs s3up on a terminal; the arguments up to -- are pty's. What was drawn is in $T/drawn,
# a line each: milliseconds, columns, text; what was said beside it in $T/err.
term() { # CODE STEP... -- ARG...
    want=$1
    shift
    n=$#
    while [ "$1" != -- ]; do
        set -- "$@" "$1"
        shift
        n=$((n - 1))
    done
    shift
    n=$((n - 1))
    while [ "$n" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        n=$((n - 1))
    done
    # pty's own arguments are first now, and s3up's behind them
    last="s3up on a terminal: $*"
    PTY=$T/term "$PTYBIN" "$@"
    rc=$?
    cat "$T/term" >>"$W/said"
    grep -F 's3up: ' "$T/term" | sed 's/^[0-9]* [0-9]* //; s/^\\x1b\[K//' >"$T/err"
    sed -n '/s3up: /d; s/^\([0-9]* [0-9]* \)\\x1b\[K/\1/p' "$T/term" >"$T/drawn"
    if [ "$rc" = "$want" ]; then pass; else fail "exit code $rc, wanted $want"; fi
}

on_term() { # CODE COLUMNS ARG...: nothing happens to the terminal
    code=$1 width=$2
    shift 2
    term "$code" -c "$width" "$S3UP" -- "$@"
}

# No line is as wide as the terminal was, so none goes on in the next one.
fits() {
    check test -s "$T/drawn"
    is "$(awk '{ text = $0; sub(/^[0-9]+ [0-9]+ /, "", text) } length(text) >= $2' "$T/drawn")" ''
    # Of all that a terminal obeys, only the end of a line is wiped.
    is "$(sed 's/\\x1b\[K//g' "$T/term" | grep -c '\\x1b')" 0
}

# Sizes as they are drawn, in bytes.
SIZES='function size(s,  u) {
    u = index("KMGT", substr(s, length(s)))
    return u ? substr(s, 1, length(s) - 1) * 1024 ^ u : s + 0
}'

# Percents, bytes and parts never go backwards; all that there is stays what it is.
forward() { # COLUMNS-WIDE-ENOUGH
    is "$(awk "$SIZES"'
        function up(what, now) {
            if (now < most[what]) print what, "fell from", most[what], "to", now
            most[what] = now
        }
        {
            for (i = 3; i <= NF; i++) {
                if ($i ~ /%$/) up("percent", $i + 0)
                if ($i == "of") {
                    up("bytes", size($(i - 1)))
                    if (total != "" && $(i + 1) != total) print "total", $(i + 1)
                    total = $(i + 1)
                }
                if ($i == "parts") up("parts", $(i - 1) + 0)
                if ($i ~ /^retr/) up("retries", $(i - 1))
            }
        }' "$T/drawn")" ''
}

# The time that is left falls as time passes, give or take two seconds.
steady() {
    is "$(awk 'match($0, /  [0-9][0-9smhd]* left/) {
            left = substr($0, RSTART + 2); t = 0
            while (match(left, /^[0-9]+[smhd]/)) {
                unit = substr(left, RLENGTH, 1)
                t += (left + 0) * (unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 86400)
                left = substr(left, RLENGTH + 1)
            }
            if (seen++ && (t > had + 2 || t < had - ($1 - at) / 1000 - 2))
                print had "s, and " $1 - at " ms later " t "s"
            had = t; at = $1
        } END { if (!seen) print "it was never said" }' "$T/drawn")" ''
}

# What was drawn last of this.
drawn_last() { # PATTERN
    grep -o -E "$1" "$T/drawn" | tail -n 1
}

value() { # FILE EVENT NAME: all of them
    sed -n "s/^{\"event\":\"$2\".*\"$3\":\([0-9]*\).*/\1/p" "$1"
}

# Are these numbers in order?
rising() {
    sort -n -c 2>/dev/null
}

# ---- a stream ----

sec_sizes() {
    own
    unit=$((MIB / 4))
    for n in 0 1 $((PART - 1)) $PART $((PART + 1)) $((2 * PART)) $((2 * PART + unit)); do
        head -c $n "$BIG" >in
        whole=$((n / PART)) rest=$((n % PART))
        case $n in
        0 | 1 | $((PART - 1)) | $PART) lengths='' put=1 ;;
        *)
            lengths=$(i=0; while [ $i -lt $whole ]; do printf '%s ' $PART; i=$((i + 1)); done)
            [ $rest = 0 ] || lengths="$lengths$rest"
            put=0
            ;;
        esac
        case $n in
        0 | 1 | $PART | $((PART + 1))) ways='file pipe fifo' ;;
        *) ways=file ;;
        esac
        for from in $ways; do
            ctl reset
            case $from in
            file) from in ends 0 put - s3://bkt/sizes/$n ;;
            pipe)
                last="cat | s3up put - s3://bkt/sizes/$n"
                # shellcheck disable=SC2002 # a pipe is what is meant
                cat in | "$S3UP" put - s3://bkt/sizes/$n >"$T/out" 2>"$T/err"
                is $? 0
                ;;
            fifo)
                [ -p fifo ] || mkfifo fifo
                cat in >fifo &
                from fifo ends 0 put - s3://bkt/sizes/$n
                ;;
            esac
            err 'standard input: at most 7'
            is "$(parts)" "${lengths% }"
            is "$(op PutObject) $(op CompleteMultipartUpload)" "$put $((1 - put))"
            check same in s3://bkt/sizes/$n
        done
    done
    is "$(unfinished) $(find state -type f ! -name ledger.jsonl | grep -c .)" '0 0'
    # Whatever the pieces that it comes in: parts are equal.
    ctl reset
    (head -c 5000001 "$BIG"; tail -c +5000002 "$BIG" | dd bs=77777 2>/dev/null) |
        "$S3UP" put -q - s3://bkt/sizes/pieces
    is "$(parts)" "$PART $PART $PART $((27000000 - 3 * PART))"
    check same "$BIG" s3://bkt/sizes/pieces
}

sec_ring() {
    own
    truncate -s 400M zeros
    for jobs in 1 2 5; do
        ctl reset
        fault 'UploadPart * stall-body=60'
        from zeros begin put -j $jobs - s3://bkt/ring
        check until_so is_at $(((jobs + 1) * PART))
        check asleep
        is "$(at)" $(((jobs + 1) * PART))
        kill -s INT "$pid"
        ended 130
        calm
        nothing_at s3://bkt/ring # it can never go on
    done
}

sec_limits() {
    own
    GIB=$((1024 * MIB))
    # The limit is said before anything is read: what 10,000 parts hold.
    head -c 12000000 "$BIG" >in
    echo short >short
    for row in :78G "--part-size=5M:48G" "--part-size=16M:156G" "--expected-size=100G:107G" \
        "--expected-size=1G:78G" "--expected-size=1G --part-size=6M:58G"; do
        # shellcheck disable=SC2086
        from short ends 0 put ${row%:*} - s3://bkt/limits/a
        err "standard input: at most ${row##*:};"
    done
    # 100 GiB in 10,000 parts: 11 MiB is the least whole number that will do.
    ctl reset
    from in ends 0 put --expected-size 100G - s3://bkt/limits/b
    is "$(parts)" "$((11 * MIB)) $((12000000 - 11 * MIB))"
    check same in s3://bkt/limits/b
    # What no upload can hold is refused before the first byte is read or sent.
    for row in "$((50000 * GIB + 1))" 49T; do
        unread 2 '5 GiB' put --expected-size "$row" - s3://bkt/limits/c <"$BIG"
    done
    # Smaller parts than stores know.
    for size in 1 1M 5000000; do
        ctl reset
        from in ends 0 put --part-size $size - s3://bkt/limits/d
        err '5 MiB' '5M is taken' 'at most 48G'
        is "$(parts)" "$((5 * MIB)) $((5 * MIB)) $((12000000 - 10 * MIB))"
    done
    # It was expected to be shorter, or longer.
    for size in 1 5M 11M 40M; do
        from in ends 0 put --expected-size $size --part-size 5M - s3://bkt/limits/e$size
        check same in s3://bkt/limits/e$size
    done
    # A file is as long as it is, from where it is read.
    truncate -s 200G sparse
    fault 'UploadPart * stall-body=60'
    from sparse begin put -j 2 - s3://bkt/limits/f
    check until_so has "$T/err" 'at most 205G' # 10,000 times 21 MiB
    kill -s INT "$pid"
    ended 130
    calm
    nothing_at s3://bkt/limits/f
    {
        dd bs=1000001 count=1 of=/dev/null 2>/dev/null
        "$S3UP" put -q - s3://bkt/limits/g
    } <in
    tail -c +1000002 in >rest
    check same rest s3://bkt/limits/g
}

sec_inputs() {
    own
    # Closed, or a folder.
    for redirect in '<&-' '</'; do
        last="s3up put - $redirect"
        eval '"$S3UP" put - s3://bkt/inputs/a '"$redirect" >"$T/out" 2>"$T/err"
        is $? 2
        err 'standard input is closed, or a folder'
        eval '"$S3UP" put --spool . - s3://bkt/inputs/a '"$redirect" >"$T/out" 2>"$T/err"
        is $? 2
    done
    is "$(ctl stats requests)" 0
    # A terminal: whoever forgot to redirect would wait for ever.
    on_term 2 80 put - s3://bkt/inputs/b
    err 'standard input is a terminal' '--force'
    is "$(ctl stats requests)" 0
    term 0 -w 'at most' -k 'typed\n\d' "$S3UP" -- put --force - s3://bkt/inputs/b
    echo typed >typed
    check same typed s3://bkt/inputs/b
    # An empty FIFO whose writer says nothing for a while, and then ends.
    mkfifo fifo
    from fifo begin put - s3://bkt/inputs/c &
    exec 9>fifo
    wait $!
    until_so test -s fifo
    exec 9>&-
    until_so "$S3UP" stat -q s3://bkt/inputs/c
    : >empty
    check same empty s3://bkt/inputs/c
    # What is there already stays.
    from typed ends 7 put -n - s3://bkt/inputs/b
    from typed ends 0 put -n - s3://bkt/inputs/new
    # One object, one name.
    for args in '- s3://bkt' '- s3://bkt/' '- s3://bkt/x/' '- typed s3://bkt/x/'; do
        # shellcheck disable=SC2086
        refused 2 'standard input' put $args
    done
    refused 2 'FILE must be -' put --if-exit-0 true typed s3://bkt/x
    refused 2 'FILE must be -' put --spool . typed s3://bkt/x
    # Stopped in the middle: the store forgets it, and nobody waits for the writer.
    mkfifo slow
    head -c 20000000 "$BIG" >first
    (cat first; exec sleep 60) >slow &
    writer=$!
    echo $writer >>"$W/pids"
    from slow begin put - s3://bkt/inputs/d
    # shellcheck disable=SC2016
    check until_so sh -c '[ "$("$0" ctl "$1" log | grep -c " UploadPart ")" = 2 ]' "$S3D" "$PORT"
    kill -s TERM "$pid"
    ended 143
    kill $writer
    nothing_at s3://bkt/inputs/d
}

# Whose output it is must end well, or there is no object.
sec_producers() {
    own
    head -c 11000000 "$BIG" >big # one part of 8 MiB and a rest
    head -c 100 "$BIG" >small
    # COMMAND, and what is said of its end; nothing is said of one that ends well.
    for row in 'cat small|' 'cat big|' 'true|' 'cat small; exit 1|exit code 1' \
        'cat big; exit 200|exit code 200' 'exit 3|exit code 3' 'false|exit code 1' \
        'cat small; kill -9 $$|signal 9' 'cat big; kill -9 $$|signal 9' \
        'cat big; kill -15 $$|signal 15' 'cat big; exec >&-; exit 4|exit code 4' \
        'no-such-program-anywhere|exit code 127' 'cat big no-such-file 2>/dev/null|exit code 1' \
        '. ./no-such-script 2>/dev/null|exit code '; do
        command=${row%|*} says=${row##*|}
        for spool in '' "--spool=$PWD/spool"; do
            mkdir -p spool
            echo before >before
            ends 0 put -q before s3://bkt/producers/a
            # shellcheck disable=SC2086
            run put $spool --part-size 5M --if-exit-0 "$command" - s3://bkt/producers/a
            if [ "$says" ]; then
                is "$rc" 3
                err "ended with $says" 'nothing was stored'
                check same before s3://bkt/producers/a
            else
                is "$rc" 0
                sh -c "$command" >want
                check same want s3://bkt/producers/a
            fi
            is "$(unfinished) $(find spool -type f | grep -c .)" '0 0'
        done
    done
    # It is killed from outside.
    for how in KILL TERM; do
        # shellcheck disable=SC2016
        begin put --if-exit-0 'echo $$ >number; cat big; exec sleep 60' - s3://bkt/producers/b
        check until_so test -s number
        # shellcheck disable=SC2016
        check until_so sh -c '[ "$("$0" ctl "$1" log | grep -c " UploadPart ")" -ge 1 ]' "$S3D" "$PORT"
        kill -s $how "$(cat number)"
        ended 3
        nothing_at s3://bkt/producers/b
        rm number
        ctl reset
    done
    # We are stopped: it does not live on.
    # shellcheck disable=SC2016
    begin put --if-exit-0 'echo $$ >number; cat big; exec sleep 60' - s3://bkt/producers/c
    check until_so test -s number
    kill -s INT "$pid"
    ended 130
    check_not lives "$(cat number)"
    nothing_at s3://bkt/producers/c
    # A pipeline and a FIFO say how they ended by a file; as README tells it.
    rm -f ok
    { { cat big && kill -9 "$(sh -c 'echo $PPID')"; } | cat && touch ok; } 2>/dev/null |
        "$S3UP" put --if-exit-0 'cat && test -e ok' - s3://bkt/producers/d >"$T/out" 2>"$T/err"
    is $? 0 # the shell has seen only the last one's end
    rm -f ok
    ( (cat big && exit 1) && touch ok) |
        "$S3UP" put --if-exit-0 'cat && test -e ok' - s3://bkt/producers/e >"$T/out" 2>"$T/err"
    is $? 3
    nothing_at s3://bkt/producers/e
    ( (cat big) && touch ok) |
        "$S3UP" put --if-exit-0 'cat && test -e ok' - s3://bkt/producers/e >"$T/out" 2>"$T/err"
    is $? 0
    check same big s3://bkt/producers/e
    rm -f ok
    mkfifo fifo
    # shellcheck disable=SC2016
    sh -c 'echo $$ >number; sh -c "cat big; exec sleep 60" && touch ok' >fifo &
    writer=$!
    rm -f number
    from fifo begin put --if-exit-0 'cat && test -e ok' - s3://bkt/producers/f
    # shellcheck disable=SC2016
    check until_so sh -c '[ "$("$0" ctl "$1" log | grep -c " UploadPart ")" -ge 1 ]' "$S3D" "$PORT"
    for child in $(pgrep -P $writer) $writer; do kill -s KILL "$child"; done
    ended 3
    nothing_at s3://bkt/producers/f
}

# ---- a stream that is kept on disk ----

is_at_work() { # the store has a request that it has not answered
    [ "$(ctl stats open)" -gt 0 ]
}

kept() { # files in the spool
    find spool -type f | grep -c .
}

sec_spool() {
    own
    mkdir spool
    for n in 0 1 $((8 * MIB)) 27000000; do
        head -c $n "$BIG" >in
        from in ends 0 put --spool spool --part-size 5M - s3://bkt/spool/$n
        check same in s3://bkt/spool/$n
        is "$(kept)" 0
    done
    # Killed while parts go: what the store has is not sent again, and what is not in the
    # store is still here.
    ctl reset
    fault 'UploadPart *partNumber=4&* stall-body=60' 'UploadPart *partNumber=5&* stall-body=60'
    from $BIG begin put --spool spool --part-size 5M -j 4 - s3://bkt/spool/killed
    check until_so sh -c 'cat state/????????????????* | grep -c "^part " | grep -q "^4$"'
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    is "$(kept)" 1
    is "$(find spool -type f -perm 600 | grep -c .)" 1
    calm
    ctl reset
    ends 0 put --spool spool --part-size 5M - s3://bkt/spool/killed
    err 'first the stream that an earlier run left' '4 of 6 parts'
    is "$(op UploadPart) $(kept)" '2 0'
    check same "$BIG" s3://bkt/spool/killed
    # Killed while the stream comes: that was no stream, and the next one is.
    mkfifo fifo
    (cat "$BIG"; exec sleep 60) >fifo &
    writer=$!
    echo $writer >>"$W/pids"
    from fifo begin put --spool spool - s3://bkt/spool/half
    check until_so sh -c 'find spool -type f -size +20000k | grep -q part'
    # How far it is can be asked then, too.
    kill -s USR1 "$pid"
    check until_so has "$T/err" ' are in the spool '
    # Another run does not write where this one does.
    ends 8 put --spool spool - s3://bkt/spool/half
    err 'another run'
    kill -s KILL "$pid" $writer
    wait "$pid" 2>/dev/null
    check gone s3://bkt/spool/half
    echo whole >whole
    from whole ends 0 put --spool spool - s3://bkt/spool/half
    check same whole s3://bkt/spool/half
    is "$(kept)" 0
    # Interrupted while it comes.
    (cat "$BIG"; exec sleep 60) >fifo &
    writer=$!
    echo $writer >>"$W/pids"
    from fifo begin put --spool spool - s3://bkt/spool/int
    check until_so sh -c 'find spool -type f -size +20000k | grep -q part'
    kill -s INT "$pid"
    ended 130
    kill $writer
    is "$(kept)" 0
    # The store does not want it: the stream is kept, and that is said.
    fault 'PutObject * access-denied'
    from whole ends 6 put --spool spool - s3://bkt/spool/kept
    err 'the stream is kept in' 'the same command sends it'
    is "$(kept)" 1
    calm
    echo newer >newer
    from newer ends 0 put --spool spool - s3://bkt/spool/kept
    check same newer s3://bkt/spool/kept
    is "$(op PutObject) $(kept)" '4 0' # refused, what was left, and the new one; whole
    spool_shared
    # There is no room, and it is known before the first byte is read.
    ctl reset
    unread 5 'has room for|are expected' put --spool spool --expected-size 8000000T - \
        s3://bkt/spool/full <"$BIG"
    # The room runs out.
    (
        ulimit -f 10000
        from $BIG ends 5 put --spool spool --state-dir "$PWD/state" - s3://bkt/spool/full
        err 'cannot write' 'large'
    )
    is "$(kept) $(ctl stats requests)" '0 0'
    ends 4 put --spool no/such/folder - s3://bkt/spool/full
}

# The names in it can be foreseen, so what lies there may be somebody else's, or another
# run's.
spool_shared() {
    echo whole >whole
    fault 'PutObject * access-denied'
    from whole ends 6 put --spool spool - s3://bkt/spool/shared
    calm
    name=$(find spool -type f)
    # A run that sends it has it for itself, until it is stored; a worker does not keep it.
    fault 'PutObject * stall-body=60'
    ctl reset
    begin put --spool spool - s3://bkt/spool/shared
    check until_so grep -q 'first the stream' "$T/err" # it has the lock: an open connection may be old
    check until_so is_at_work
    echo other >other
    from other ends 8 put --spool spool - s3://bkt/spool/shared
    err 'another run is sending'
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    check cmp -s whole "$name"
    calm
    # A name that somebody else may have given is not sent.
    ln "$name" second
    ends 6 put --spool spool - s3://bkt/spool/shared
    err 'somebody else'
    check gone s3://bkt/spool/shared
    rm second
    if [ "$(id -u)" = 0 ]; then
        chmod 1777 spool
        chown 65534 "$name"
        ends 6 put --spool spool - s3://bkt/spool/shared
        err 'somebody else'
        check gone s3://bkt/spool/shared
        chmod 755 spool # nobody but root can have put it there
        chown 0 "$name"
    else
        skip 'files of other users in a spool: that needs root'
    fi
    ends 0 put --spool spool - s3://bkt/spool/shared
    check same whole s3://bkt/spool/shared
    # Nor is what lies in the way written into, or waited for.
    : >trap
    ln trap "$name.part"
    from whole ends 0 put --spool spool - s3://bkt/spool/shared
    check_not test -s trap
    ln -s ../trap "$name.part"
    from whole ends 3 put --spool spool - s3://bkt/spool/shared
    check_not test -s trap
    rm "$name.part"
    mkfifo "$name.part"
    from whole ends 3 put --spool spool - s3://bkt/spool/shared
    err 'in the way'
    rm "$name.part"
    is "$(kept)" 0
}

# A disk that is full is another thing than a limit.
sec_disk() {
    own
    if ! unshare -m sh -c 'mount -t tmpfs -o size=8m none .' 2>/dev/null; then
        skip 'a full disk: nobody here may mount one'
        return
    fi
    mkdir spool
    last='s3up put --spool, on a disk of 8 MiB'
    unshare -m sh -c 'mount -t tmpfs -o size=8m none spool && cat "$1" |
        "$0" put --spool spool - s3://bkt/disk >"$2" 2>"$3"
        echo $? >code; find spool -type f >left' "$S3UP" "$BIG" "$T/out" "$T/err"
    is "$(cat code)" 5
    err 'No space left'
    check_not test -s left
    # A file says how long it is: nothing is written.
    unshare -m sh -c 'mount -t tmpfs -o size=8m none spool &&
        "$0" put --spool spool - s3://bkt/disk <"$1" >"$2" 2>"$3"
        echo $? >code' "$S3UP" "$BIG" "$T/out" "$T/err"
    is "$(cat code)" 5
    err 'has room for' '27000000 are expected'
    is "$(ctl stats requests)" 0
}

# ---- how many at a time ----

sec_first() {
    own
    truncate -s 100M z
    # Two, until something has been learnt.
    fault 'UploadPart * stall-body=60'
    begin put --checksum none --part-size 5M --json z s3://bkt/first
    check until_so are_at_work 2
    until_so sh -c 'grep -c progress "$0" | grep -q "[3-9]"' "$T/out"
    is "$(workers | grep -c .)" 2
    is "$(value "$T/out" progress under_way | tail -n 1)" 2
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    # As many as were asked for.
    for jobs in 3 7; do
        begin put --checksum none --part-size 5M -j $jobs z s3://bkt/first/$jobs
        check until_so are_at_work $jobs
        kill -s KILL "$pid"
        wait "$pid" 2>/dev/null
    done
    refused 2 '--jobs' put -j 0 z s3://bkt/first
    refused 2 '--jobs' put -j 65 z s3://bkt/first
    refused 2 '--jobs' put -j many z s3://bkt/first
}

# Each connection is slow, and the store is not: more of them move more.
sec_grows() {
    own
    truncate -s 160M z
    fault 'UploadPart * slow-read=8000000'
    ends 0 put --checksum none --part-size 5M --json z s3://bkt/grows
    most=$(value "$T/out" progress under_way | sort -n | tail -n 1)
    check test "$most" -ge 4
    check test "$most" -le 16
    is "$(value "$T/out" summary failed)" 0
}

# A link on which eight at once starve, and two do not.
sec_thin() {
    own
    truncate -s 45M z
    truncate -s 40M y
    fault 'UploadPart * crowd=2' 'UploadPart * slow-read=12000000'
    run put --checksum none --retries 2 --part-size 5M -j 8 z s3://bkt/thin/8
    is "$rc" 5
    err RequestTimeout
    check gone s3://bkt/thin/8
    ctl reset
    fault 'UploadPart * crowd=2' 'UploadPart * slow-read=12000000'
    ends 0 put --checksum none --retries 2 --part-size 5M --json z y s3://bkt/thin/
    is "$(value "$T/out" summary done)" 2
    # Once is enough: what the first file has taught holds for the second.
    is "$(ctl log | awk '$8 == "UploadPart" && / RequestTimeout/ && $3 ~ /thin\/y/' | grep -c .)" 0
    check test "$(value "$T/out" progress under_way | tail -n 1)" -le 2
    check test "$(value "$T/out" summary retries)" -ge 1
    calm
    check same z s3://bkt/thin/z
    check same y s3://bkt/thin/y
}

# A store that asks for less is not asked for more.
sec_slower() {
    own
    truncate -s 40M z
    for how in slowdown request-timeout reset-during stall-body=6; do
        ctl reset
        fault "UploadPart *partNumber=2&* $how n=1" 'UploadPart * slow-read=12000000'
        ends 0 put --timeout 3s --checksum none --part-size 5M --json z "s3://bkt/slower/$how"
        is "$(value "$T/out" progress under_way | grep -v '^0$' | tail -n 1)" 1
        check test "$(value "$T/out" summary retries)" -ge 1
    done
}

# Who is turned away when fewer shall be at work gives its part back, and does not go on
# trying beside the one that stays.
# A size of parts of which memory has room for two: so many workers there are, at most. A
# quarter of the memory has room for two and a half.
two_parts() {
    free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    part=$((free * 1024 / 10))
    if [ -z "$free" ] || [ $part -gt 5000000000 ]; then
        skip "$section: memory is not known here, or very much"
        return 1
    fi
    truncate -s $((part * 6)) sparse 2>/dev/null || {
        skip "$section: no file is so large here"
        return 1
    }
}

sec_gives_way() {
    own
    two_parts || return
    fault 'UploadPart *partNumber=1&* stall-body=60' 'UploadPart *partNumber=2&* stall=1' \
        'UploadPart *partNumber=2&* slowdown'
    begin put --checksum none --part-size $part --json sparse s3://bkt/gives-way
    check until_so grep -q '"event":"retry"' "$T/out"
    check test "$(ctl log | grep -c ' SlowDown')" -le 4
    seen=$(grep -c "\"under_way\":1," "$T/out")
    # shellcheck disable=SC2016
    check until_so sh -c '[ "$(grep -c "\"under_way\":1," "$0")" -ge "$1" ]' "$T/out" $((seen + 2))
    check lives "$pid"
    kill -s INT "$pid"
    ended 130
    rm sparse
}

# Each worker's part is read twice and should come from memory the second time.
sec_memory() {
    own
    two_parts || return
    fault 'UploadPart * slow-read=1000'
    begin put --checksum none --part-size $part -j 6 sparse s3://bkt/memory
    check until_so are_at_work 2
    err 'there is memory for 2 at a time'
    sleep 0.3
    is "$(workers | grep -c .)" 2
    kill -s INT "$pid"
    ended 130
    rm sparse
}

# ---- how fast ----

least() { # MILLISECONDS ARG...: the run takes so long at least
    least=$1
    shift
    begun=$(date +%s%N)
    ends 0 "$@"
    check test $((($(date +%s%N) - begun) / 1000000)) -ge "$least"
}

clock() { # MINUTES from now, as in 08:00
    date -u -d "@$(($(date +%s) + $1 * 60))" +%H:%M
}

sec_rates() {
    own
    TZ=UTC0
    export TZ
    head -c 2000000 "$BIG" >r
    least 1700 put --limit-rate 1M r s3://bkt/rates/a
    least 1700 put --limit-rate 1024K r s3://bkt/rates/a
    least 1700 put --limit-rate 1048576 r s3://bkt/rates/a
    # A timetable: the last time that has come counts.
    last=timetable
    if ! clock 0 >/dev/null 2>&1; then
        skip 'this date knows no @seconds'
    else
        least 1700 put --limit-rate "$(clock -30)=1M,$(clock 30)=0" r s3://bkt/rates/a
        least 1700 put --limit-rate "$(clock 30)=0,$(clock -30)=1M" r s3://bkt/rates/a
        least 1700 put --limit-rate "$(clock 60)=9G,$(clock 120)=1M" r s3://bkt/rates/a
        # It says 1K for another time, which would take half an hour.
        ends 0 put --limit-rate "$(clock -60)=1K,$(clock -30)=0" r s3://bkt/rates/b
        ends 0 put --limit-rate "$(clock 30)=1K,$(clock 60)=20M" r s3://bkt/rates/b
    fi
    for bad in '' fast 1X 08:00 24:00=1M 08:60=1M 8=1M 08:00= =1M 08:00=1M,x 08:00=1M,,09:00=1M \
        08:00=1M=2 -1 1.5M; do
        refused 2 '--limit-rate' put --limit-rate "$bad" r s3://bkt/rates/c
    done
}

# Whoever asks is told, also while nothing moves.
sec_asked() {
    own
    cp "$BIG" f
    for args in '-j 1' '-j 4' '-q -j 1' '-q -j 4'; do
        rm -rf state
        fault 'UploadPart *partNumber=3&* stall-body=60'
        # shellcheck disable=SC2086
        begin put --part-size 5M $args f "s3://bkt/asked/$args"
        case $args in
        *1) many=2 ;;
        *) many=5 ;;
        esac
        check until_so sh -c 'cat state/????????????????* | grep -c "^part " | grep -q "^$0$"' $many
        for times in 1 2; do
            kill -s USR1 "$pid"
            # shellcheck disable=SC2016
            check until_so sh -c '[ "$(grep -c "$0" "$1")" = "$2" ]' \
                " of 25M  $many/6 parts  1 under way" "$T/err" $times
        done
        kill -s INT "$pid"
        ended 130
    done
    # Nobody has to ask for events: they come also while nothing moves.
    for jobs in 1 3; do
        begin put --json --part-size 5M -j $jobs f s3://bkt/asked/json
        # shellcheck disable=SC2016
        check until_so sh -c '[ "$(grep -c "\"under_way\":1," "$0")" -ge 3 ]' "$T/out"
        kill -s INT "$pid"
        ended 130
    done
    # A single request.
    ctl reset
    fault 'PutObject * stall-body=60'
    begin put --no-progress f --threshold 1G --part-size 1G s3://bkt/asked/whole
    until_so sh -c '[ "$("$0" ctl "$1" stats connections)" -gt 0 ]' "$S3D" "$PORT"
    kill -s USR1 "$pid"
    check until_so has "$T/err" ' of 25M  1 under way'
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
}

# ---- what is shown ----

line_of() { # COLUMNS
    own
    cp "$BIG" f
    fault 'CompleteMultipartUpload * stall=1'
    on_term 0 "$1" put --limit-rate 6M --part-size 5M -j 3 f "s3://bkt/line/$1"
    fits
    forward
    steady
    check test "$(grep -c . "$T/drawn")" -ge 10
    is "$(drawn_last '[0-9]+%')" '100%'
    [ "$1" = 40 ] || is "$(drawn_last '[^ ]+ of .*')" '25M of 25M  6/6 parts  0 under way'
    err 's3up: f -> s3://bkt/line' '1 file, 25M in '
    # The rate is what was sent, by the time that it took.
    is "$(awk "$SIZES"'/ file, / {
        for (i = 1; i <= NF; i++) {
            if ($i == "in") t = $(i + 1) + 0
            if ($i ~ /\/s$/) { sub("/s.*", "", $i); r = size($i) }
        }
        if (r * t > 27000000 * 1.1 || r * (t + 1) < 27000000 * 0.9) print
    }' "$T/err")" ''
    # What was drawn is wiped before anything else is said.
    is "$(tail -n 1 "$T/term" | grep -c 's3up: 1 file')" 1
}

sec_line_short() {
    line_of 40
}

sec_line_usual() {
    line_of 80
}

sec_line_long() {
    line_of 200
}

# No terminal is so narrow that a line breaks.
sec_narrow() {
    own
    head -c 12000000 "$BIG" >f
    for width in 1 2 5 9 12 17 20 31; do
        on_term 0 $width put --limit-rate 24M --part-size 5M f s3://bkt/line/narrow
        is "$(awk '{ text = $0; sub(/^[0-9]+ [0-9]+ /, "", text) } length(text) >= $2' "$T/drawn")" ''
    done
}

sec_resize() {
    own
    cp "$BIG" f
    term 0 -c 120 -w 'under way' -c 40 -w /s -w /s -w /s -c 23 -w /s -w /s -c 200 \
        -w 'under way' -w 'under way' -c 33 "$S3UP" -- \
        put --limit-rate 4M --part-size 5M -j 3 f s3://bkt/resize
    fits
    forward
    for width in 120 40 23 200 33; do
        check test "$(grep -c "^[0-9]* $width " "$T/drawn")" -ge 1
    done
    # There is more to be seen where there is more room.
    is "$(grep -c '^[0-9]* 23 .*under way' "$T/drawn")" 0
}

# What failed and is sent again is neither lost nor counted twice.
sec_again() {
    own
    cp "$BIG" f
    for how in 'reset-during n=1' '503 n=1' 'request-timeout n=2' 'stall-body=2 n=1'; do
        ctl reset
        fault "UploadPart *partNumber=2&* $how" 'CompleteMultipartUpload * stall=1'
        on_term 0 100 put --timeout 1s --limit-rate 20M --part-size 5M -j 3 f s3://bkt/again
        fits
        forward
        is "$(drawn_last '[^ ]+ of .*')" '25M of 25M  6/6 parts  0 under way  1 retry'
        err 'retries: 1'
        check same f s3://bkt/again
    done
    # A worker dies; what it had sent is sent once more.
    ctl reset
    fault 'UploadPart *partNumber=4&* stall-body=60 n=1'
    begin put --json --part-size 5M -j 3 f s3://bkt/again/died
    check until_so sh -c 'grep -c \"event\":\"part\" "$0" | grep -q 5' "$T/out"
    for worker in $(workers); do
        [ "$(find "/proc/$worker/fd" -lname '*/f' 2>/dev/null)" ] || continue
        kill -s KILL "$worker"
        break # the next one may have got its part
    done
    ended 0
    is "$(value "$T/out" summary retries)" 1
    check rising <<EOT
$(value "$T/out" progress bytes_done)
EOT
    # The next run begins where the first one ended, and says so.
    ctl reset
    fault 'UploadPart *partNumber=5&* stall-body=60'
    term 130 -c 100 -w ' 5/6 parts' -k '\c' "$S3UP" -- put --part-size 5M -j 2 f s3://bkt/again/int
    err '5 of 6 parts are stored' 'the same command goes on'
    calm
    on_term 0 100 put --limit-rate 4M --part-size 5M f s3://bkt/again/int
    fits
    forward
    err 'going on; 5 of 6 parts (20M of 25M) are there already' ', 20M were there already'
    check test "$(awk 'NR == 1 { print $3 + 0 }' "$T/drawn")" -ge 80
}

sec_files() {
    own
    cp "$BIG" a
    head -c 12000000 "$BIG" >b
    head -c 3000000 "$BIG" >c
    fault 'CompleteMultipartUpload * stall=1'
    on_term 0 100 put --limit-rate 20M --part-size 5M c b a s3://bkt/files/
    fits
    forward
    is "$(drawn_last '[0-9]+%')" '100%'
    is "$(drawn_last '[^ ]+ of 40M')" '40M of 40M'
    is "$(drawn_last '[0-9]+/[0-9]+ parts')" '9/9 parts'
    err '3 files, 40M in '
    # The same in numbers, every second.
    ends 0 put --json --limit-rate 20M --part-size 5M c b a s3://bkt/files/
    n=$(grep -c '"event":"progress"' "$T/out")
    check test "$n" -ge 2
    ms=$(value "$T/out" summary milliseconds)
    check test "$n" -le $((ms / 990))
    check test "$n" -ge $((ms / 2000))
    check json "$T/out"
    for name in bytes_done bytes_total rate parts_done parts under_way retries; do
        is "$(value "$T/out" progress $name | grep -c .)" "$n"
    done
    check test "$(value "$T/out" progress seconds_left | grep -c .)" -ge 1
    for name in bytes_done parts_done retries; do
        value "$T/out" progress $name >numbers
        check rising <numbers
    done
    is "$(value "$T/out" progress bytes_total | sort -u)" 42000000
    check test "$(value "$T/out" progress bytes_done | tail -n 1)" -le 42000000
    is "$(value "$T/out" summary bytes)" 42000000
    # The last look before the end sees all of it.
    calm
    fault 'CompleteMultipartUpload * stall=3'
    ends 0 put --json --part-size 5M a s3://bkt/files/d
    is "$(value "$T/out" progress bytes_done | tail -n 1)" 27000000
    is "$(value "$T/out" progress parts_done | tail -n 1)" 6
    check test "$(value "$T/out" progress parts | grep -c .)" -ge 2
    calm
    # One that cannot be read does not stand in the way of the others.
    on_term 1 100 put --limit-rate 20M --part-size 5M a nosuch c s3://bkt/files/
    fits
    forward
    err '2 files, 28M in ' 'failed: 1'
    # One request, of which nothing is known before its end but what the socket took.
    on_term 0 100 put --limit-rate 2M c s3://bkt/files/c
    fits
    forward
    check test "$(grep -c -E ' [1-9][0-9]%' "$T/drawn")" -ge 3
    # A stream has an end only when it ends.
    on_term 0 100 put --limit-rate 20M --if-exit-0 'cat a' - s3://bkt/files/s
    fits
    forward
    check grep -q '/s  .*under way' "$T/drawn"
    on_term 0 100 put --limit-rate 20M --expected-size 10000000 --if-exit-0 'cat a' - s3://bkt/files/s
    fits
    is "$(awk '{ for (i = 3; i <= NF; i++) if ($i ~ /%$/ && $i + 0 > 100) print }' "$T/drawn")" ''
}

# Where nobody looks, nothing is drawn.
sec_quiet() {
    own
    cp "$BIG" f
    for how in '-q' '--no-progress' '--json' '-q --no-progress'; do
        # shellcheck disable=SC2086
        on_term 0 80 put $how --limit-rate 40M --part-size 5M f s3://bkt/quiet
        is "$(grep -c '\\x1b' "$T/term")" 0
        is "$(grep -c 'under way\|% ' "$T/drawn")" 0
    done
    S3UP_NO_PROGRESS=1 on_term 0 80 put --limit-rate 40M --part-size 5M f s3://bkt/quiet
    is "$(grep -c '\\x1b' "$T/term")" 0
    TERM=dumb on_term 0 80 put --limit-rate 40M --part-size 5M f s3://bkt/quiet
    is "$(grep -c '\\x1b' "$T/term")" 0
    err 's3up: f -> s3://bkt/quiet' '1 file, 25M in '
    NO_COLOR=1 on_term 0 80 put --limit-rate 20M --part-size 5M f s3://bkt/quiet
    fits
    # A pipe, and a file.
    ends 0 put --limit-rate 40M --part-size 5M f s3://bkt/quiet
    is "$(grep -c "$(printf '\033\|\r')" "$T/err")" 0
    is "$(grep -c . "$T/err")" 2
    # Only its standard error matters: an object may go to standard output.
    term 0 -1 -0 -c 80 "$S3UP" -- put --limit-rate 20M --part-size 5M f s3://bkt/quiet >"$T/out" </dev/null
    fits
    silent out
}

# Names are shown, not obeyed.
sec_names() {
    own
    odd=$(printf 'a\033[2J\033]0;x\007\n\tb\377\302\205c')
    long=$(head -c 250 /dev/zero | tr '\0' x)
    utf=$(printf '\303\244\342\202\254\360\237\230\200')
    for name in "$odd" "$long" "$utf" '%s%n%d' '-dash' "$(printf '\377\376')"; do
        cp "$BIG" "./$name"
        on_term 0 60 put --limit-rate 20M --part-size 5M -- "./$name" s3://bkt/names/x
        fits
        forward
        is "$(grep -c '1 file, 25M' "$T/err")" 1
        rm -f "./$name"
    done
}

# The terminal goes away, or whoever sits before it has seen enough.
sec_hangup() {
    own
    cp "$BIG" f
    fault 'UploadPart *partNumber=6&* stall-body=60'
    term 129 -w ' 5/6 parts' -h "$S3UP" -- put --part-size 5M f s3://bkt/hangup
    calm
    ctl reset
    on_term 0 80 put --part-size 5M f s3://bkt/hangup
    is "$(op UploadPart)" 1
    check same f s3://bkt/hangup
}

# ---- running all of it ----

LANES=${LANES:-8}

# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
