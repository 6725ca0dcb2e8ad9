#!/bin/sh
# soak.sh: uploads and downloads in parts under everything that can happen to them, at random,
# for as long as is wanted: runs that are killed and run again, journals that a power cut tore,
# a store that fails all the time, files that change while they are read, a folder that is drained
# while somebody works in it. And what it costs in memory.
#
#   test/soak.sh S3UP S3D SOAK SECONDS [SEED]
#
# S3UP is the program, S3D and SOAK the compiled test/s3d.c and test/soak.c, beside which there is
# that of test/spool.c. Everything that
# is random comes from SEED, which is printed; round N of a seed begins like round N of every
# other run of it, but what a signal hits depends on the machine. ROUND=N begins with round N,
# KIND=kill, get, step, fault, final, change or drain has rounds of one kind only, KEEP=1 leaves
# the folder.
# Ends with `N passed, M failed`; 1 if any failed.
set -u
LC_ALL=C
export LC_ALL
[ $# -ge 4 ] || { echo "usage: test/soak.sh S3UP S3D SOAK SECONDS [SEED]" >&2; exit 2; }
S3UP=$(realpath "$1") S3D=$(realpath "$2") SOAK=$(realpath "$3") SECONDS_ALL=$4
SEED=${5:-$(date +%s)} SPOOL=${SOAK%/*}/spool
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\|S3UP_[A-Z0-9_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p') \
    http_proxy https_proxy HTTPS_PROXY no_proxy NO_PROXY all_proxy ALL_PROXY; do
    unset "$name"
done
W=$(mktemp -d) || exit 2
cd "$W" || exit 2
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret HOME="$W" S3UP_STATE_DIR="$W/state"
store_pid='' writer='' passed=0 failed=0 round=${ROUND:-1}
trap 'end_round; [ -n "${KEEP-}" ] || rm -rf "$W"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
echo "soak: seed $SEED, $SECONDS_ALL seconds"

# ---- what rounds are made of ----

pass() {
    passed=$((passed + 1))
}

fail() { # WORD...: what should have been
    failed=$((failed + 1))
    echo "FAIL soak: seed $SEED round $round ($kind): $*"
    echo "    $last"
    [ ! -s said ] || tail -n 4 said | cut -c 1-300 | sed 's/^/    | /'
}

check() { # WHAT COMMAND...
    what=$1
    shift
    if "$@"; then pass; else fail "$what"; fi
}

# Sets r to a number below N. Good enough for dice, and the same in every shell.
roll() { # N
    state=$(((state * 69069 + 12345) % 2147483648))
    r=$((state / 256 % $1))
}

pick() { # WORD...: sets r to one of them
    roll $#
    shift $r
    r=$1
}

# A fresh store for each round: what is in it is of this round.
begin_round() { # OPTION...
    last=''
    rm -rf store port said journal state
    : >said
    "$S3D" --dir store --port-file port --bucket bucket --seed $((SEED + round)) --quiet \
        --die-with-parent "$@" >store.log 2>&1 &
    store_pid=$!
    n=0
    while [ ! -s port ]; do
        n=$((n + 1))
        [ $n -lt 1000 ] || { echo "soak: no store: $(cat store.log)"; exit 2; }
        sleep 0.02
    done
    AWS_ENDPOINT_URL=http://127.0.0.1:$(cat port)
    export AWS_ENDPOINT_URL
}

end_round() {
    for pid in $writer $store_pid; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    writer='' store_pid=''
}

ctl() {
    "$S3D" ctl @port "$@" </dev/null
}

# The store works on what was sent before a kill a little longer.
quiet() {
    n=0
    until [ "$(ctl stats open)" = 0 ] || [ $((n += 1)) -gt 1000 ]; do sleep 0.01; done
}

put() { # OPTION... FILE URI
    last="s3up put $*"
    timeout 300 "$S3UP" put "$@" >said 2>&1 </dev/null
    code=$?
}

# Runs put until it ends, or WHO of it is hit by SIGNAL. Sets code and hit.
put_hit() { # WHO SIGNAL WHEN OPTION... FILE URI
    who=$1 signal=$2 when=$3
    shift 3
    hit put "$@"
}

hit() { # VERB ARG...: as who, signal and when say
    last="soak kill said $who $signal $when $*"
    # shellcheck disable=SC2046 # three numbers
    set -- $("$SOAK" kill said "$who" "$signal" "$when" "$S3UP" "$@")
    code=$1 hit=${2:-0}
    check "no process is left of it, not ${3:-all}" [ "${3:-all}" = 0 ]
}

# The exit code tells the truth about what ended the run.
truthful() {
    case $who/$signal in
    worker/*) want=0 ;;
    */9) want='0 137' ;;
    */2) want='0 130' ;;
    */15) want='0 143' ;;
    esac
    [ "$hit" = 1 ] || want=0
    case " $want " in
    *" $code "*) pass ;;
    *) fail "exit code $code, wanted $want (hit: $hit)" ;;
    esac
}

# Who is hit by what, and when: later and later, so that it ends.
aim() { # ATTEMPT
    pick parent parent worker all
    who=$r
    pick 9 9 2 15
    signal=$r
    roll 2
    if [ "$r" = 0 ]; then
        roll $((300 + 150 * $1))
        when=s$r
    else
        roll $((100000 + 80000 * $1))
        when=$r
    fi
}

stored() { # FILE URI: is the object the file?
    timeout 120 "$S3UP" get -q "$2" back >>said 2>&1 && cmp -s "$1" back
}

# Of uploads that are not over, none has parts.
no_parts_left() {
    for one in store/b/bucket/u/*/0*; do
        [ ! -e "$one" ] || [ ! -e "${one%/*}/upload" ] || return 1
    done
}

no_journals() {
    for one in state/*; do
        case $one in */ledger.jsonl) ;; *) return 1 ;; esac
    done
}

# The numbers of the parts that are stored, as a journal says, go to the file noted.
note_journal() { # FILE
    : >noted
    [ ! -e "$1" ] || awk '$1 == "upload" { split("", have) } $1 == "part" { have[$2] }
        $1 == "lost" { delete have[$2] } END { for (n in have) print n }' "$1" >noted
}

# The log of the store from here on is that of the next run.
mark() {
    ctl log >log.before
}

# Which parts were sent since, one a line: `sent 200` those that the store took.
sent() { # [STATUS]
    ctl log >log.now
    tail -n "+$(($(wc -l <log.before) + 1))" log.now | awk -v status="${1-}" '
        $2 == "PUT" && (status == "" || $4 == status) && match($3, /partNumber=[0-9]*/) {
            print substr($3, RSTART + 11, RLENGTH - 11) }' >sent
}

# How many parts that were noted then were sent again since.
sent_again() {
    sent
    awk 'NR == FNR { noted[$0]; next } $0 in noted { n++ } END { print n + 0 }' noted sent
}

# How many parts that the store has taken since are not noted.
not_noted() {
    sent 200
    awk 'NR == FNR { noted[$0]; next } !($0 in noted) { lost[$0] }
        END { for (i in lost) n++; print n + 0 }' noted sent
}

is() { # WHAT GOT WANTED
    if [ "$2" = "$3" ]; then pass; else fail "$1: $2, wanted $3"; fi
}

# ---- what was found here once, in rows that depend on no chance ----

again() { # CODE: another run of the same put
    put --retries 0 -j 2 --part-size 5M --journal journal file s3://bucket/key
    is "$what: exit code" $code "$1"
}

round_rows() {
    begin_round
    what='a part that was lost in one run is lost in the next'
    "$SOAK" make 1 15728640 file
    ctl faults 'CompleteMultipartUpload * 500'
    again 5
    printf new | dd of=file bs=1 seek=6000000 conv=notrunc 2>/dev/null
    ctl faults 'UploadPart * 500'
    again 5
    ctl faults
    again 0
    check "$what" stored file s3://bucket/key

    what='a file that was rewritten and got its time back is another one'
    "$SOAK" make 2 15728640 file
    ctl faults 'CompleteMultipartUpload * 500'
    again 5
    touch -r file time
    printf new | dd of=file bs=1 seek=6000000 conv=notrunc 2>/dev/null
    touch -r time file
    ctl faults
    again 0
    check "$what" stored file s3://bucket/key

    what='a file that grew after it was stored is stored anew'
    ctl faults 'CompleteMultipartUpload * lost-reply' 'HeadObject * 500'
    echo more >>file
    again 5
    echo more >>file
    ctl faults
    again 0
    check "$what" stored file s3://bucket/key

    what='a worker does not outlive its parent'
    ctl faults 'UploadPart * stall=60'
    put_hit parent 9 700000 -j 4 --part-size 5M file s3://bucket/orphans
    truthful
    ctl faults

    what='a run that is interrupted before it begins has stored nothing, and says so'
    echo small >file
    for n in 4 8 12 16 20 24 28 32 36 40 50 60 70 80; do
        put_hit parent 15 s$n file s3://bucket/small$n
        truthful
        [ "$code" != 0 ] || check "$what ($n)" stored file s3://bucket/small$n
    done
}

# ---- killed, and run again ----

# Stores that say what their parts are, or cannot, or may not.
habits() {
    pick '' opaque-etag no-list-parts
    ctl quirks "$r"
}

round_kill() {
    begin_round --rate 150000000
    habits
    roll 41
    size=$(((20 + r) * 1000000))
    roll 99999
    size=$((size + r))
    roll 8
    jobs=$((r + 1))
    pick auto auto auto crc32c crc64nvme md5 none
    sum=$r
    pick none none tear tear edit edit # what happens between two runs
    between=$r
    "$SOAK" make $((SEED + round)) $size file
    attempt=0 orphans=0 whole=journal
    while :; do
        attempt=$((attempt + 1))
        note_journal $whole
        whole=journal
        mark
        aim $attempt
        [ $attempt -lt 25 ] || when=600000000
        put_hit "$who" "$signal" "$when" -j $jobs --part-size 5M --checksum "$sum" \
            --journal journal file s3://bucket/key
        truthful
        quiet
        [ "$between" = edit ] || is "parts sent again that were noted" "$(sent_again)" 0
        [ "$code" != 0 ] || break
        # It may have been hit when all was done.
        [ -e journal ] || ! stored file s3://bucket/key || break
        note_journal journal
        n=$(not_noted)
        check "of parts that the store took no more than $jobs are not noted, not $n" \
            [ "$n" -le $jobs ]
        roll 1000000
        [ "$between" != edit ] || "$SOAK" edit "$r" file
        case $between/$who/$signal in
        tear/parent/9 | tear/all/9)
            [ -e journal ] || continue
            good=$("$SOAK" bend "$r" journal)
            whole=journal.good
            head -n "$good" journal >$whole
            # That line is synced before a part is sent: no power cut takes it back. But here
            # one does, and then nobody knows of the parts.
            grep -q '^upload ' $whole || orphans=1
            ;;
        esac
    done
    check "the object is the file, after $attempt runs ($between)" stored file s3://bucket/key
    check "the journal is gone" [ ! -e journal ]
    [ $orphans = 1 ] || check "no parts are left at the store" no_parts_left
    # Each kill may cost what was in flight.
    ctl log >log.now
    got=$(awk '$2 == "PUT" && $3 ~ /partNumber=/ { n += $5 } END { printf "%.0f", n }' log.now)
    [ "$between" != none ] ||
        check "$got bytes were sent for $size, with $attempt runs of $jobs jobs" \
            [ "$got" -le $((size + attempt * jobs * 5250000 + 200000)) ]
}

# A download, killed and run again: under its name there is the whole of it, or nothing.
round_get() {
    begin_round --rate 150000000
    roll 31
    size=$(((10 + r) * 1000000))
    roll 99999
    size=$((size + r))
    roll 8
    jobs=$((r + 1))
    "$SOAK" make $((SEED + round)) $size file
    pick 5M 5M 1G
    what=$r
    pick auto crc64nvme
    put --threshold "$what" --part-size 5M --checksum "$r" file s3://bucket/key
    is "exit code of put" $code 0
    pick none none tear tear edit edit # what happens between two runs
    between=$r
    rm -f back back.s3up-part
    ctl reset
    attempt=0
    while [ ! -e back ]; do
        attempt=$((attempt + 1))
        aim $attempt
        [ $attempt -lt 25 ] || when=600000000
        hit get -j $jobs --part-size 5M --threshold 5M --journal journal s3://bucket/key back
        truthful
        quiet
        [ -e back ] || check "it ended well, and nothing is there" [ "$code" != 0 ]
        roll 1000000
        case $between/$who/$signal in
        tear/parent/9 | tear/all/9) [ ! -e journal ] || "$SOAK" bend "$r" journal >/dev/null ;;
        edit/*) [ ! -e back.s3up-part ] || "$SOAK" edit "$r" back.s3up-part ;;
        esac
    done
    check "what came is what was stored, after $attempt runs ($between)" cmp -s file back
    check "nothing is left beside it" [ ! -e back.s3up-part ]
    # It may have been hit between the last two things that it does.
    [ "$code" != 0 ] || check "the journal is gone" [ ! -e journal ]
    # Each kill may cost what was in flight.
    got=$(ctl log | awk '$4 == 206 && $8 == "GetObject" { n += $6 } END { printf "%.0f", n }')
    [ "$between" != none ] ||
        check "$got bytes came for $size, with $attempt runs of $jobs jobs" \
            [ "$got" -le $((size + attempt * jobs * 5250000 + 200000)) ]
    rm -f back
}

# A small upload, killed at any one system call of its parent. The next run ends it.
round_step() {
    begin_round
    habits
    "$SOAK" make $((SEED + round)) 12000000 file
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        roll 450
        mark
        put_hit parent 9 s$r -j 2 --part-size 5M --journal journal file s3://bucket/key
        truthful
        quiet
        note_journal journal
        [ ! -e journal ] || check "no more than 2 parts are not noted" [ "$(not_noted)" -le 2 ]
        mark
        put -j 2 --part-size 5M --journal journal file s3://bucket/key
        is "exit code after a kill at call $r" "$code" 0
        is "parts sent again after a kill at call $r" "$(sent_again)" 0
        check "the object is the file after a kill at call $r" stored file s3://bucket/key
        check "the journal is gone" [ ! -e journal ]
        "$S3UP" rm -q s3://bucket/key >said 2>&1
    done
    check "no parts are left at the store" no_parts_left
}

# ---- a store that fails all the time ----

passing='drop reset-before reset-during reset-after stall=4 stall-body=4 early-503
early-503=keep cut-reply cut-head garbage-reply ok-error ok-error=SlowDown lost-reply silent-close
idle-close=0 slow-read=3000000 interim=3 huge-head=20000 many-heads=50 html-error=502
html-error=503 empty-error=500 empty-error=503 two-lengths both-lengths chunked-reply bad-chunk until-close http10 folded-head 500 502 503 504 slowdown 429
request-timeout bad-digest whitespace=1 error=OperationAborted error=InternalError'

round_fault() {
    begin_round
    roll 8
    jobs=$((r + 1))
    for one in a b; do
        roll 20000000
        "$SOAK" make $((SEED + round)) $((10000000 + r)) $one
    done
    for one in c d e f; do echo "$one" >$one; done
    # shellcheck disable=SC2086 # words
    set -- $passing
    share=$(awk -v n=$# 'BEGIN { print 20 / n }')
    {
        echo 'CompleteMultipartUpload * empty-complete p=5'
        echo 'CompleteMultipartUpload * empty-complete=applied p=5'
        for one in $passing; do echo "* * $one p=$share"; done
    } | "$S3D" ctl @port faults
    pick auto crc32c crc64nvme none
    put -j $jobs --part-size 5M --checksum "$r" --timeout 2s --retries 12 a b c d e f \
        s3://bucket/
    is "exit code" "$code" 0
    ctl faults
    for one in a b c d e f; do check "$one is stored" stored $one s3://bucket/$one; done
    check "no journal is left" no_journals
    check "no parts are left at the store" no_parts_left
}

# Faults that do not pass: what they come to, and that the run after them goes on.
round_final() {
    begin_round
    roll 4
    jobs=$((r + 1))
    roll 20000000
    size=$((20000000 + r))
    "$SOAK" make $((SEED + round)) $size file
    roll $((size / 5242880))
    pick "6 UploadPart access-denied after=$r" "6 UploadPart invalid-key after=$r" \
        "6 * signature-403 after=$r" "4 UploadPart no-such-bucket after=$r" \
        "5 UploadPart 503 after=$r" "5 UploadPart slowdown after=$r" \
        "5 UploadPart reset-during after=$r" "5 UploadPart garbage-reply after=$r" \
        "5 UploadPart no-etag after=$r" "5 UploadPart stall=9 after=$r" \
        "9 UploadPart bad-digest after=$r" "4 UploadPart html-error=404 after=$r" \
        "6 CompleteMultipartUpload access-denied" "5 CompleteMultipartUpload 500" \
        "5 CompleteMultipartUpload ok-error" "5 CompleteMultipartUpload empty-complete" \
        "0 CompleteMultipartUpload lost-reply" "6 UploadPart early-403 after=$r"
    want=${r%% *} rule=${r#* }
    set -f
    # shellcheck disable=SC2086
    set -- $rule
    set +f
    ctl faults "$1 * $2 ${3-}"
    put -j $jobs --part-size 5M --retries 1 --timeout 2s --journal journal file s3://bucket/key
    is "exit code with $rule" $code "$want"
    ctl faults
    quiet
    if stored file s3://bucket/key; then is "exit code when it is stored" $code 0; fi
    note_journal journal
    mark
    put -j $jobs --part-size 5M --journal journal file s3://bucket/key
    is "exit code once $rule is over" $code 0
    is "parts sent again that were noted, after $rule" "$(sent_again)" 0
    check "the object is the file, after $rule" stored file s3://bucket/key
    check "the journal is gone, after $rule" [ ! -e journal ]
    check "no parts are left at the store, after $rule" no_parts_left
}

# ---- files that change ----

round_change() {
    begin_round --rate 150000000
    roll 8
    jobs=$((r + 1))
    pick auto auto crc32c none
    sum=$r
    rm -f history file
    roll 1000000
    "$SOAK" write "$r" 6000 file history &
    writer=$!
    until [ -e file ]; do sleep 0.01; done
    attempt=0 from=1
    for _ in 1 2 3 4 5 6; do
        attempt=$((attempt + 1))
        # What a run stores is the file as it was since the run began; what one that was
        # killed stored may be older.
        began=$(tail -n 1 history)
        began=$((${began%% *} - 1))
        aim $attempt
        roll 3
        [ "$r" = 0 ] || when=600000000
        put_hit "$who" "$signal" "$when" -j $jobs --part-size 5M --checksum "$sum" \
            --journal journal file s3://bucket/key
        case $code in
        3) pass ;;
        *) truthful ;;
        esac
        quiet
        rm -f back
        timeout 120 "$S3UP" get -q s3://bucket/key back >>said 2>&1
        if [ "$code" = 0 ]; then
            check "an object is there" [ -e back ]
            from=$began
        fi
        if [ "$code" = 0 ] || [ "$code" = 3 ]; then
            check "the journal is gone" [ ! -e journal ]
            check "no parts are left at the store" no_parts_left
        fi
        if [ -e back ]; then
            if verdict=$("$SOAK" check history $from back); then pass; else fail "$verdict"; fi
        fi
    done
    kill "$writer"
    wait "$writer"
    writer=
    put -j $jobs --part-size 5M --checksum "$sum" --journal journal file s3://bucket/key
    is "exit code when nothing changes any more" $code 0
    check "the object is the file" stored file s3://bucket/key
}

# ---- a folder that somebody works in ----

# Runs of drain, most of which are killed, while files come, grow, move and go. In the end each
# that was finished is in the store once, or where it was; and the ledger knows.
round_drain() {
    begin_round
    rm -rf spool book
    mkdir spool
    roll 1000000
    "$SPOOL" write "$r" spool book 5242880 2>writer.err &
    writer=$!
    # How long: as much as is left, and sometimes less.
    now=$(date +%s)
    roll 12
    until=$((now + 5 + r))
    [ "$SECONDS_ALL" -le 300 ] || until=$((until + 5 * r))
    : >faults
    roll 3
    [ "$r" != 0 ] || for one in reset-after lost-reply reset-during 500 503 stall=1 silent-close cut-head; do
        echo "* */p/* $one p=2"
    done >faults
    "$S3D" ctl @port faults <faults
    attempt=0
    while [ "$(date +%s)" -lt $until ] && kill -s 0 "$writer"; do
        attempt=$((attempt + 1))
        aim $((attempt % 8))
        roll 4
        [ "$r" != 0 ] || when=600000000
        pick '0' '0' '1' '0 --prune --prune-age 0' '0 --max-files 20' '0 --max-time 1'
        options="--max-time 5 --settle $r"
        roll 8
        jobs=$((r + 1))
        # shellcheck disable=SC2086 # words
        hit drain -j $jobs --retries 2 --timeout 2s --part-size 5M $options spool s3://bucket/p
        # What was in the way is told, and is no reason to end otherwise.
        case $hit/$signal/$code in
        */0 | */1 | */3 | */5 | */7 | */9 | 1/9/137 | 1/2/130 | 1/15/143) pass ;;
        *) fail "exit code $code (hit: $hit)" ;;
        esac
    done
    check "the writer lives: $(cat writer.err)" kill -s 0 "$writer"
    kill "$writer"
    wait "$writer"
    writer=
    ctl faults
    quiet
    # What one run gives its name back the next one sends.
    for _ in 1 2 3; do
        last='s3up drain spool, at the end'
        timeout 300 "$S3UP" drain --settle 0 --part-size 5M spool s3://bucket/p >said 2>&1
        code=$?
    done
    case $code in 0 | 1 | 3 | 7) pass ;; *) fail "exit code $code at the end" ;; esac
    verdict=$("$SPOOL" check book spool store/b/bucket/index state/ledger.jsonl p/ 5242880)
    check "$verdict" [ $? = 0 ]
    echo "drain, $attempt runs: $(echo "$verdict" | tail -n 1)"
    check "enough went on: $verdict" [ "$(grep -c . state/ledger.jsonl)" -gt 50 ]
}

# ---- memory ----

memory() {
    begin_round --sink-fast
    truncate -s 16G sparse
    kind=memory
    for part in 16M 1G; do
        # shellcheck disable=SC2046 # three numbers
        set -- $("$SOAK" memory 2500 "$S3UP" put -j 8 --part-size $part sparse s3://bucket/$part)
        # How many workers there are depends on how much memory is free: as if they were 8.
        kib=$((${3:-0} + (${1:-0} - ${3:-0}) * 8 / (${2:-2} > 1 ? ${2:-2} - 1 : 1)))
        echo "memory of put, 8 jobs, $part parts: $kib KiB (PSS of ${2:-no} processes)"
        if grep -q __asan_ "$S3UP"; then
            echo "SKIPPED soak: memory: this build has AddressSanitizer"
        else
            check "8 MiB are enough for 8 workers with parts of $part, not $kib KiB" \
                [ "$kib" -lt 8192 ]
        fi
    done
    end_round
    rm -f sparse
}

began_all=$(date +%s)
[ -n "${KIND-}" ] || memory
kind=rows
[ -n "${KIND-}" ] || round_rows
end_round
while :; do
    state=$(((SEED * 7919 + round) % 2147483648))
    for _ in 1 2 3; do # neighbours must not be alike
        state=$(((state / 32768 + state) * 48271 % 2147483647))
    done
    case $((round % 7)) in
    1) kind="kill" ;;
    2) kind=get ;;
    3) kind=change ;;
    4) kind=fault ;;
    5) kind=step ;;
    6) kind=final ;;
    *) kind=drain ;;
    esac
    kind=${KIND:-$kind}
    before=$failed
    "round_$kind"
    [ $failed = $before ] || [ -z "${KEEP-}" ] || { trap '' EXIT; end_round; echo "see $W"; break; }
    end_round
    round=$((round + 1))
    # Each kind has its turn, however slow the machine is.
    [ $(($(date +%s) - began_all)) -ge "$SECONDS_ALL" ] || continue
    if [ "${KIND-}" ] || [ $((round - ${ROUND:-1})) -ge 6 ]; then break; fi
done
echo "$((round - ${ROUND:-1})) rounds"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
