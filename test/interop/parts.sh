# The cases of uploads in parts: what ends a run, and how the same command goes on behind it.
# Sourced by run.sh before cases.sh. What the store has is asked of it by aws-cli; ETags and
# sums are those that Python computes. Over TLS alone: plain HTTP differs in nothing here.
# shellcheck shell=sh
# shellcheck disable=SC2154 # set by run.sh and by the stores

# shellcheck disable=SC2034 # cases.sh uses it
part_cases='killed keys_replaced two_at_once abort sweep gone
    part_sizes part_sums part_clobber part_race streams'

pb=interop-parts
p=s3://$pb

# ---- what these cases are made of ----

# Only over one scheme, with aws-cli, and in a bucket of its own: parts_begin [SCHEME]
parts_begin() {
    [ "$scheme" = "${1:-https}" ] || { outcome - && return 1; }
    [ "$aws" ] || { skip "there is no aws-cli" && return 1; }
    s3 mb $p
}

# A put that runs beside us, in a session of its own, whose number is in $beside.
begin() { # ARG...
    begin_as put "$@"
}

begin_as() { # VERB ARG...
    did=$*
    verb=$1
    shift
    if [ "$scheme" = http ]; then
        set -- "$verb" --json -e "$at" "$@"
    else
        set -- "$verb" --json -e "$at" --ca-file "$ca" "$@"
    fi
    : >"$W/events"
    # shellcheck disable=SC2086 # with holds words
    env $with --default-signal=INT setsid "$S3UP" "$@" >"$W/events" 2>"$W/said" </dev/null &
    beside=$!
}

# Waits until it has stored so many parts.
stored() { # N
    left=2400
    until [ "$(grep -c '"event":"part"' "$W/events")" -ge "$1" ] || [ $left = 0 ] ||
        ! kill -s 0 "$beside" 2>/dev/null; do
        left=$((left - 1))
        sleep 0.05
    done
    kill -s 0 "$beside" 2>/dev/null
    check "s3up $did is met after $1 parts: $(tail -n 1 "$W/said")" $?
}

# Waits for its end. Leaves out, err and code, as if we had never gone away.
ended() {
    left=2400
    while kill -s 0 "$beside" 2>/dev/null; do
        left=$((left - 1))
        [ $left != 0 ] || kill -s KILL -- "-$beside"
        sleep 0.05
    done
    wait "$beside" 2>/dev/null
    code=$?
    beside=
    cp "$W/events" "$W/out"
    cp "$W/said" "$W/err"
}

killed_outright() { # parent|all
    target=$beside
    [ "$1" = parent ] || target=-$beside
    kill -s KILL -- "$target"
    left=100
    while pgrep -s "$beside" >/dev/null && [ $left != 0 ]; do
        left=$((left - 1))
        sleep 0.05
    done
    check "no worker outlives a kill of the $1" $((left == 0))
    ended
    sleep 0.5 # what the store has read to its end, it may still be storing
}

# 13 parts of 5 MiB, of which some are stored when a signal comes.
half() { # URL [OPTION...]
    begin --part-size 5M --limit-rate 24M "$W/large" "$@"
    stored 3
    kill -s "${signal:-INT}" "$beside"
    ended
    case ${signal:-INT} in
    INT) want 130 'the same command goes on' ;;
    TERM) want 143 'the same command goes on' ;;
    esac
}

# The unfinished uploads that the store admits to: KEY ID
uploads_of() { # PREFIX FILE
    aws_to s3api list-multipart-uploads --bucket $pb ${1:+--prefix "$1"} \
        --query 'Uploads[].[Key,UploadId]' --output text
    check "aws-cli lists uploads: $(tail -n 1 "$W/err")" "$code"
    grep -v '^None' "$W/out" | tr '\t' ' ' | LC_ALL=C sort >"$W/$2"
}

# The parts that the store has of the one upload to a key: NUMBER SIZE ETAG TIME. Sets id.
parts_of() { # KEY FILE
    uploads_of "$1" ids
    is "the number of uploads to $1" "$(wc -l <"$W/ids")" 1
    id=$(sed 's/.* //' "$W/ids")
    aws_to s3api list-parts --bucket $pb --key "$1" --upload-id "$id" \
        --query 'Parts[].[PartNumber,Size,ETag,LastModified]' --output text
    check "aws-cli lists parts: $(tail -n 1 "$W/err")" "$code"
    grep -v '^None' "$W/out" | tr -d '"' | tr '\t' ' ' | LC_ALL=C sort >"$W/$2"
}

no_uploads() { # PREFIX
    uploads_of "$1" ids
    is "the number of uploads left below $1" "$(wc -l <"$W/ids")" 0
}

numbers() { # FILE: the parts that its events are about
    sed -n 's/^{"event":"part".*"number":\([0-9]*\)}$/\1/p' "$1" | LC_ALL=C sort
}

events() { # NAME
    grep -c "^{\"event\":\"$1\"" "$W/out"
}

# The same command goes on, in its journal: what the store had, as parts_of found it in FILE,
# is not sent again, and all else is.
goes_on() { # FILE PARTS ARG... : as for put
    had=$1
    all=$2
    shift 2
    s3 put --json "$@"
    want 0
    is "the number of uploads taken up" "$(events resume)" 1
    is "the number of uploads begun" "$(events start) $(events over)" "0 0"
    numbers "$W/out" >"$W/sent"
    cut -d ' ' -f 1 "$W/$had" >"$W/there"
    is "parts that were sent again" "$(LC_ALL=C comm -12 "$W/there" "$W/sent" | paste -s)" ""
    is "parts that were there, and those that were sent" \
        "$(cat "$W/there" "$W/sent" | wc -l)" "$all"
}

# What the store was asked for, by its own account, where it keeps one.
once_each() { # KEY PARTS
    [ "${access_log-}" ] || return 0
    grep -a "\"PUT /$pb/$1?partNumber=.* 200 " "$access_log" |
        sed 's/.*partNumber=\([0-9]*\).*/\1/' | sort >"$W/there"
    is "parts that the store took" "$(wc -l <"$W/there")" "$2"
    is "parts that it took twice" "$(uniq -d "$W/there" | paste -s)" ""
}

# As aws-cli reads it: streamed, since not all of them fit twice.
back() { # FILE KEY
    AWS_CA_BUNDLE="$ca" timeout --foreground 300 "$aws" --endpoint-url "$at" s3 cp --quiet \
        "$p/$2" - 2>"$W/err" | cmp -s - "$1"
    check "aws-cli reads of $2 what is in ${1##*/}: $(tail -n 1 "$W/err")" $?
}

# The MD5 of the parts' MD5s; of one request: the MD5.
etag_of() { # FILE [PART SIZE]
    python3 - "$@" <<'P'
import hashlib, sys
size = int(sys.argv[2]) if len(sys.argv) > 2 else 0
whole, n = hashlib.md5(), 0
with open(sys.argv[1], 'rb') as f:
    while size:
        part, left = hashlib.md5(), size
        while left and (piece := f.read(min(left, 1 << 20))):
            part.update(piece)
            left -= len(piece)
        if left == size:
            break
        whole.update(part.digest())
        n += 1
        if left:
            break
    if not size:
        whole.update(f.read())
print(whole.hexdigest() + ('-%d' % n if size else ''))
P
}

etag_is() { # KEY FILE [PART SIZE]
    aws_to s3api head-object --bucket $pb --key "$1" --query ETag --output text
    shift
    is "the ETag that aws-cli sees" "$(tr -d '"' <"$W/out")" "$(etag_of "$@")"
}

# ---- what ends a run ----

# Killed twice: the parent alone, then all of it. What the store had after the first kill is,
# after the second, what it was, to its time. 3 GiB go to the gateway and to MinIO; Swift
# and s3d would only take longer to show the same.
case_killed() {
    parts_begin || return
    big=$W/large size=5242880 all=13 step=3 slow='--limit-rate 24M'
    free=$(df -Pk "$W" | awk 'END { print $4 }')
    memory=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)
    case $server in
    rgw | minio)
        if [ "$free" -lt 8000000 ] || { [ "$server" = rgw ] && [ "$memory" -lt 6000000 ]; }; then
            skip "3 GiB: there is no room; 64 MiB instead"
        else
            big=$W/huge size=16777216 all=192 step=60 slow=
            stream $((3 << 30)) >"$big"
        fi
        ;;
    esac
    for victim in parent all; do
        # shellcheck disable=SC2086 # slow holds words
        begin --part-size $size $slow "$big" $p/killed
        stored $step
        killed_outright $victim
        parts_of killed "$victim"
    done
    is "parts that changed in the store" \
        "$(LC_ALL=C comm -23 "$W/parent" "$W/all" | paste -s)" ""
    check "$(wc -l <"$W/parent") parts, then $(wc -l <"$W/all") of $all" \
        $(($(wc -l <"$W/parent") < step || $(wc -l <"$W/all") < 2 * step))
    goes_on all $all --part-size $size "$big" $p/killed
    has err "going on; [0-9]* of $all parts"
    once_each killed "$all"
    no_uploads killed
    s3 uploads
    empty out
    back "$big" killed
    etag_is killed "$big" $size
    s3 rm $p/killed
    want 0
    rm -f "$W/huge"
}

# The user's secret changes while parts are sent, first to what the file of the keys does not
# say, then to what it says.
case_keys_replaced() {
    if [ "$server" = s3d ]; then parts_begin http || return; else parts_begin || return; fi
    with="-u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY"
    keys_are "$secret"
    begin --part-size 5M --limit-rate 24M "$W/large" $p/keys
    stored 3
    keys_are wrong
    rekey "${secret}2"
    ended
    want 6 SignatureDoesNotMatch
    s3 put --part-size 5M "$W/large" $p/keys
    want 6 SignatureDoesNotMatch
    s3 uploads
    has out "-> $p/keys"
    keys_are "${secret}2"
    parts_of keys have
    check "parts are there: $(wc -l <"$W/have")" $(($(wc -l <"$W/have") < 3))
    goes_on have 13 --part-size 5M "$W/large" $p/keys
    back "$W/large" keys
    begin --part-size 5M --limit-rate 24M "$W/large" $p/keys
    stored 3
    keys_are "$secret"
    rekey "$secret"
    ended
    want 0 'keys were replaced'
    is "uploads, and parts" "$(events start) $(numbers "$W/out" | uniq | wc -l)" "1 13"
    back "$W/large" keys
    no_uploads keys
    with=
    rm -f "$HOME"/.aws/*
    s3 rm $p/keys
    want 0
}

keys_are() { # SECRET
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
        "$access" "$1" >"$HOME/.aws/new"
    mv "$HOME/.aws/new" "$HOME/.aws/credentials"
}

rekey() { # SECRET: from now on the store's own user has it
    "$here/$server.sh" rekey "$W/$server" "$1" 2>"$W/why"
    check "the store takes another secret: $(tail -n 1 "$W/why")" $?
    export AWS_SECRET_ACCESS_KEY="$1"
}

# The lock is this host's and no store's: one is enough.
case_two_at_once() {
    [ "$server" = rgw ] || { outcome - && return; }
    parts_begin || return
    begin --part-size 5M --limit-rate 24M "$W/large" $p/two
    stored 2
    s3 put --part-size 5M "$W/large" $p/two
    want 8 'another run'
    s3 abort "$W/large" $p/two
    want 8
    ended
    want 0
    is "uploads, and parts" "$(events start) $(numbers "$W/out" | uniq | wc -l)" "1 13"
    no_uploads two
    s3 rm $p/two
}

# ---- what is left, and who takes it away ----

# s3up and aws-cli see the same, whatever a store lists: MinIO, only what is asked for by its
# whole key.
agree() { # KEY
    for prefix in "$1" ''; do
        uploads_of "$prefix" theirs
        s3 uploads "$p/$prefix"
        want 0
        sed "s|^[^ ]*  $p/||; s/  */ /" "$W/out" | LC_ALL=C sort >"$W/ours"
        same "$W/ours" "$W/theirs"
    done
    parts_of "$1" theirs
    s3 uploads --parts "$p/$1"
    want 0
    sed -n 's/^  *part \([0-9]*\)  \([0-9]*\)  /\1 \2 /p' "$W/out" | LC_ALL=C sort >"$W/ours"
    cut -d ' ' -f 1-3 "$W/theirs" | cmp -s - "$W/ours"
    check "s3up and aws-cli see the same parts" $?
    check "and there are some" $(($(wc -l <"$W/ours") < 3))
}

case_abort() {
    parts_begin || return
    signal=TERM half $p/abort
    agree abort
    s3 abort --dry-run "$W/large" $p/abort
    want 0
    parts_of abort have
    same "$W/have" "$W/theirs"
    s3 abort "$W/large" $p/abort
    want 0 aborted
    no_uploads abort
    aws_to s3api list-parts --bucket $pb --key abort --upload-id "$id"
    check "the store knows no parts of it any more" $((code == 0))
    s3 uploads
    empty out
    s3 uploads $p/abort
    empty out
    s3 abort "$W/large" $p/abort
    want 4
    s3 stat $p/abort
    want 4
}

# What this host has a journal of is spared; so it is another one that sweeps.
case_sweep() {
    parts_begin || return
    half $p/sweep
    s3 sweep --force --older-than 1s $p/sweep
    want 0
    parts_of sweep have
    with=S3UP_STATE_DIR=$W/elsewhere
    s3 sweep --older-than 1s $p/sweep
    want 2 --force
    for far in 8d 1h; do
        s3 sweep --force --older-than $far $p/sweep
        want 0
        empty out
    done
    s3 sweep --force --older-than 1s --dry-run $p/sweep
    want 0
    has out "$id"
    parts_of sweep have
    s3 sweep --force --older-than 1s $p/sweep
    want 0
    has out "$id"
    no_uploads sweep
    with=
    s3 abort "$W/large" $p/sweep
    want 0
    s3 uploads
    empty out
}

# An upload that goes away behind our back, between two runs and in one.
case_gone() {
    parts_begin || return
    half $p/gone
    parts_of gone have
    aws_to s3api abort-multipart-upload --bucket $pb --key gone --upload-id "$id"
    check "aws-cli aborts it" "$code"
    s3 put --json --part-size 5M "$W/large" $p/gone
    want 0
    is "parts that were sent" "$(numbers "$W/out" | uniq | wc -l)" 13
    back "$W/large" gone
    s3 rm $p/gone
    begin --part-size 5M --limit-rate 24M "$W/large" $p/gone
    stored 3
    kill -s STOP -- "-$beside"
    parts_of gone have
    aws_to s3api abort-multipart-upload --bucket $pb --key gone --upload-id "$id"
    check "aws-cli aborts it" "$code"
    kill -s CONT -- "-$beside"
    ended
    want 0 'starting over'
    is "how often it started over" "$(events over)" 1
    back "$W/large" gone
    no_uploads gone
    s3 uploads
    empty out
    s3 rm $p/gone
}

# ---- how a file is cut ----

sized() { # FILE PARTS OPTION...: 0 parts are one request
    file=$1
    parts=$2
    shift 2
    s3 put --json "$@" "$file" $p/sized
    want 0
    is "the number of parts" "$(numbers "$W/out" | wc -l)" "$parts"
    if [ "$parts" = 0 ]; then etag_is sized "$file"; else etag_is sized "$file" 5242880; fi
    back "$file" sized
}

case_part_sizes() {
    parts_begin || return
    { cat "$W/five" && printf x; } >"$W/over"
    { cat "$W/five" "$W/over"; } >"$W/twice"
    sized "$W/empty" 0 --part-size 5M --threshold 1
    sized "$W/five" 0 --part-size 5M
    sized "$W/five" 0 --part-size 5M --threshold 1M # one part is one request
    sized "$W/over" 2 --part-size 5M
    sized "$W/twice" 3 --part-size 5M
    sized "$W/twice" 0 --part-size 5M --threshold 11M
    s3 put --part-size 4M "$W/twice" $p/sized
    want 0 '5M is taken'
    etag_is sized "$W/twice" 5242880
    s3 rm $p/sized
}

# The store's own sum of the whole, where it tells one, is the one that Python computes.
case_part_sums() {
    parts_begin || return
    { cat "$W/five" && printf x; } >"$W/over"
    for kind in auto sha256 crc64nvme crc32c crc32 md5 none; do
        s3 put --json --part-size 5M --checksum $kind "$W/over" $p/sums/$kind
        want 0
        is "the number of parts" "$(numbers "$W/out" | wc -l)" 2
        aws_to s3api head-object --bucket $pb --key sums/$kind --checksum-mode ENABLED
        check "aws-cli looks at it: $(tail -n 1 "$W/err")" "$code"
        python3 - "$W/out" "$W/over" 5242880 >"$W/sums" <<'P'
import base64, hashlib, json, sys, zlib
def crc(poly, bits):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (poly if n & 1 else 0)
        table.append(n)
    def sum(data):
        c = mask = (1 << bits) - 1
        for b in data:
            c = table[(c ^ b) & 255] ^ c >> 8
        return (c ^ mask).to_bytes(bits // 8, 'big')
    return sum
sums = {'ChecksumSHA256': lambda d: hashlib.sha256(d).digest(),
        'ChecksumCRC32': lambda d: zlib.crc32(d).to_bytes(4, 'big'),
        'ChecksumCRC32C': crc(0x82F63B78, 32),
        'ChecksumCRC64NVME': crc(0x9A6C9329AC4BC9B5, 64)}
head, data, size = json.load(open(sys.argv[1])), open(sys.argv[2], 'rb').read(), int(sys.argv[3])
for name, sum in sums.items():
    if name not in head:
        continue
    want = base64.b64encode(sum(data)).decode()
    if '-' in head[name] or head.get('ChecksumType') == 'COMPOSITE':
        parts = [data[at:at + size] for at in range(0, len(data), size)]
        want = base64.b64encode(sum(b''.join(map(sum, parts)))).decode()
        if '-' in head[name]:
            want += '-%d' % len(parts)
    print(name, head[name], want)
P
        while read -r name found wanted; do
            is "$name with --checksum $kind" "$found" "$wanted"
        done <"$W/sums"
    done
    rm -rf "$W/back.d"
    aws_to s3 cp --quiet --recursive $p/sums/ "$W/back.d"
    check "aws-cli reads: $(tail -n 1 "$W/err")" "$code"
    for kind in auto sha256 crc64nvme crc32c crc32 md5 none; do
        same "$W/over" "$W/back.d/$kind"
    done
    rm -rf "$W/back.d"
    s3 rm -r --force $p/sums/
    want 0
}

# ---- conditions ----

case_part_clobber() {
    parts_begin || return
    s3 put -n --part-size 5M "$W/tree/parts.bin" $p/clobber
    want 0
    s3 put --json -n --part-size 5M "$W/large" $p/clobber
    want 7 'exists already'
    is "parts that were sent" "$(numbers "$W/out" | wc -l)" 0
    no_uploads clobber
    back "$W/tree/parts.bin" clobber
    s3 rm $p/clobber
}

# Somebody else is faster. A store that does not look at conditions cannot keep his object.
case_part_race() {
    parts_begin || return
    begin -n --part-size 5M --limit-rate 24M "$W/large" $p/race
    stored 3
    kill -s STOP -- "-$beside"
    aws_to s3api put-object --bucket $pb --key race --body "$W/text"
    check "aws-cli writes" "$code"
    kill -s CONT -- "-$beside"
    ended
    case $code in
    7)
        back "$W/text" race
        s3 abort "$W/large" $p/race
        outcome ok
        ;;
    *)
        want 0
        back "$W/large" race
        if grep -q 'cannot write under a condition' "$W/err"; then outcome 501; else outcome ignored; fi
        ;;
    esac
    no_uploads race
    s3 rm $p/race
}

# ---- what is not one file ----

# What comes through a pipe, of which nobody knows where it ends.
s3_piped() { # FILE VERB...
    rm -f "$W/pipe" && mkfifo "$W/pipe"
    cat "$1" >"$W/pipe" &
    shift
    s3 "$@" <"$W/pipe"
    want 0
}

case_streams() {
    parts_begin || return
    s3_piped "$W/large" put - $p/stream
    etag_is stream "$W/large" 8388608
    back "$W/large" stream
    mkdir -p "$W/spool"
    s3_piped "$W/tree/parts.bin" put --part-size 5M --spool "$W/spool" - $p/stream
    etag_is stream "$W/tree/parts.bin" 5242880
    back "$W/tree/parts.bin" stream
    is "files left of it" "$(find "$W/spool" -type f | wc -l)" 0
    s3_piped "$W/five" put --part-size 5M - $p/stream
    back "$W/five" stream
    s3_piped "$W/empty" put - $p/stream
    back "$W/empty" stream
    set -- "$W/empty" "$W/five" "$W/one" "$W/tree/parts.bin" "$W/text"
    cat "$@" >"$W/joined"
    s3 put --concat --part-size 5M "$@" $p/stream
    want 0
    etag_is stream "$W/joined" 5242880
    back "$W/joined" stream
    no_uploads stream
    s3 rm $p/stream
    want 0
    aws_to s3api list-objects-v2 --bucket $pb --query 'Contents[].Key' --output text
    is "what is left in the bucket" "$(cat "$W/out")" None
    s3 rb $p
    want 0
}
