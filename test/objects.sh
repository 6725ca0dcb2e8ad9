#!/bin/sh
# objects.sh: what s3up tells of stored objects, and how it deletes many: verify, stat and
# rm -r. Sums come from md5sum and from s3d; counts are those of the store itself.
#
#   test/objects.sh S3UP S3D [SECTION...]
#
# Needs sh and what POSIX has beside it, md5sum, and test/call built beside s3d: it stores
# what s3up never would. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away

# ---- what these tests are made of ----

CALL=${S3D%/*}/call
BIG=$W/big
head -c 12345678 /dev/urandom >"$BIG"
cp "$BIG" "$W/bent" # one bit of it differs
printf '%b' "\\0$(printf %o $(($(od -An -tu1 -j 7000000 -N 1 "$BIG") ^ 1)))" |
    dd of="$W/bent" bs=1 seek=7000000 conv=notrunc 2>/dev/null

op() { # NAME: how many requests of that kind the store has had since the last reset
    ctl stats | awk -v op="op.$1" '$1 == op { n = $2 } END { print n + 0 }'
}

store_says() { # OPERATION ARG...: one call, made by test/call
    "$CALL" -e "$AWS_ENDPOINT_URL" -k "$KEY:$SECRET" "$@" >"$T/call" 2>&1
}

equal() { # PROOF FILE URI OPTION...
    proof=$1
    shift
    ends 0 verify "$@"
    err " are equal ($proof)"
}

differs() { # PROOF FILE URI OPTION...
    proof=$1
    shift
    ends 9 verify "$@"
    err " are different ($proof)"
}

unproven() { # FILE URI OPTION...
    ends 3 verify "$@"
    err 'cannot be proven here' --download
}

forgotten() { # another host has no ledger
    S3UP_STATE_DIR=$PWD/other.$1
    export S3UP_STATE_DIR
}

bare() { # WORDS...: stored by a store that has no checksums
    quirk checksum-ignored
    ends 0 put -q --checksum none "$@"
    quirk ''
}

raw() { # hex on stdin, as bytes
    for byte in $(fold -w 2); do
        printf '%b' "\\0$(printf %o "0x$byte")"
    done
}

md5_of() { # of stdin
    md5sum | cut -c 1-32
}

# The ETag that an object of parts gets: of so many bytes each.
etag_of() { # FILE BYTES
    split -b "$2" -a 3 "$1" piece.
    for piece in piece.*; do
        md5_of <"$piece" | raw
    done >sums
    echo "$(md5_of <sums)-$(($(wc -c <sums) / 16))"
    rm piece.* sums
}

keys() { # URI: how many there are
    "$S3UP" ls -r "$1" 2>/dev/null | grep -c .
}

many() { # N URI: so many objects of two bytes
    mkdir many
    i=0
    while [ $i -lt "$1" ]; do
        printf hi >"many/$((10000 + i))"
        i=$((i + 1))
    done
    ends 0 put -q -j 8 many/* "$2"
    rm -r many
}

# ---- verify ----

sec_whole() {
    bytes 100000 >f
    cp f g
    printf x | dd of=g bs=1 seek=99999 conv=notrunc 2>/dev/null
    bytes 99999 >shorter
    : >empty
    ends 0 put -q f s3://bkt/f
    ctl reset
    equal crc64nvme f s3://bkt/f
    is "$(ctl stats requests)" 1
    equal crc64nvme f s3://bkt/
    differs crc64nvme g s3://bkt/f
    differs size shorter s3://bkt/f
    differs size empty s3://bkt/f
    is "$(op GetObject)" 0
    ends 0 put -q empty s3://bkt/empty
    equal size empty s3://bkt/empty
    differs size f s3://bkt/empty
    for kind in sha256 crc32 crc32c crc64nvme; do
        ends 0 put -q --checksum $kind f s3://bkt/$kind
        equal $kind f s3://bkt/$kind
        differs $kind g s3://bkt/$kind
    done
    bare f s3://bkt/bare
    equal md5 f s3://bkt/bare
    differs md5 g s3://bkt/bare
    # A store that refuses to be asked for checksums is asked without.
    quirk checksum-unsupported
    equal md5 f s3://bkt/f
    differs md5 g s3://bkt/f
    quirk ''
    # Nothing to compare.
    ends 4 verify f s3://bkt/nothing
    err s3://bkt/nothing
    ends 4 verify nothing s3://bkt/f
    ends 2 verify . s3://bkt/f
    err 'is a folder' 'put -r' # verify itself has no -r
    refused 2 'FILE' verify f
    refused 2 'FILE' verify f s3://bkt/f s3://bkt/f
    refused 2 'must begin with' verify f bkt/f
    # What is said, and where.
    ends 0 verify -q f s3://bkt/f
    silent out err
    ends 0 verify --json f s3://bkt/f
    json "$T/out"
    out '{"event":"equal","source":"f","target":"s3://bkt/f","proof":"crc64nvme","size":100000,"etag":"'"$(md5_of <f)"'"}'
    ends 9 verify --json -q g s3://bkt/f
    json "$T/out"
    out '"event":"different"' '"proof":"crc64nvme"'
    is "$(grep -c . "$T/out")" 1
}

sec_change() { # while it is read
    bytes 300000 >f
    ends 0 put -q f s3://bkt/f
    fault 'HeadObject * stall=3 n=1'
    begin verify f s3://bkt/f
    until_so eval "ls -l /proc/$pid/fd | grep -q '$PWD/f\$'"
    printf x | dd of=f bs=1 seek=150000 conv=notrunc 2>/dev/null
    ended 3
    err 'changed while it was being read'
}

sec_parts() {
    cp "$BIG" f
    cp "$W/bent" g
    mine=$S3UP_STATE_DIR
    bare --part-size 5M f s3://bkt/5M
    ends 0 stat --json s3://bkt/5M
    out "\"etag\":\"$(etag_of f 5242880)\"" '"parts":3,"part_size":5242880'
    # This host knows from its ledger how it cut the file; another asks the store.
    ctl reset
    equal 'md5 of 3 parts of 5242880 bytes' f s3://bkt/5M
    differs 'md5 of 3 parts of 5242880 bytes' g s3://bkt/5M
    is "$(ctl stats requests)" 2
    forgotten 1
    equal 'md5 of 3 parts of 5242880 bytes' f s3://bkt/5M
    is "$(ctl stats requests)" 4
    differs 'md5 of 3 parts' g s3://bkt/5M
    # A store that has a sum of the whole needs no more.
    ends 0 put -q --part-size 5M f s3://bkt/whole
    equal crc64nvme f s3://bkt/whole
    differs crc64nvme g s3://bkt/whole
    # One that tells nothing of parts: what is usual is tried.
    for part in 5242880 6000000 6172839 8388608 6291456 10000000; do
        bare --threshold 1 --part-size $part f s3://bkt/$part
        forgotten $part
        quirk no-part-number
        equal "md5 of $(((12345678 + part - 1) / part)) parts of $part bytes" f s3://bkt/$part
        quirk ''
        S3UP_STATE_DIR=$mine
    done
    bare --part-size 5555555 f s3://bkt/odd
    forgotten odd
    equal 'md5 of 3 parts of 5555555 bytes' f s3://bkt/odd
    quirk no-part-number
    unproven f s3://bkt/odd
    unproven g s3://bkt/odd
    unproven g s3://bkt/5M
    ends 3 verify --json g s3://bkt/5M
    json "$T/out"
    out '"event":"unproven"' '"proof":""'
    equal bytes --download f s3://bkt/odd
    differs 'bytes, from 7000000 on' --download g s3://bkt/odd
}

sec_composite() { # checksums of checksums
    cp "$BIG" f
    cp "$W/bent" g
    mine=$S3UP_STATE_DIR
    for kind in sha256 crc32 crc32c; do
        ends 0 put -q --part-size 5M --checksum $kind f s3://bkt/$kind
        equal "$kind of 3 parts of 5242880 bytes" f s3://bkt/$kind
        differs "$kind of 3 parts of 5242880 bytes" g s3://bkt/$kind
        forgotten $kind
        equal "$kind of 3 parts of 5242880 bytes" f s3://bkt/$kind
        # Some list the parts of an object and do not know ?partNumber.
        quirk no-part-number
        ctl reset
        equal "$kind of 3 parts of 5242880 bytes" f s3://bkt/$kind
        is "$(op GetObjectAttributes)" 1
        fault 'GetObjectAttributes * method-501'
        equal "$kind of 3 parts of 5242880 bytes" f s3://bkt/$kind
        calm
        quirk ''
        S3UP_STATE_DIR=$mine
    done
}

sec_uneven() { # parts as no two of them are alike
    a=$(bytes 300) b=$(bytes 201) c=$(bytes 507)
    quirk checksum-ignored
    check store_says upload bkt uneven - "$a" "$b" "$c"
    check store_says upload bkt single - "$a"
    check store_says upload bkt first - "$a" "$b" "$a" # the first alone says nothing
    quirk ''
    printf %s "$a$b$c" >f
    printf %s "$a" >one
    printf %s "$a$b$a" >first
    equal 'md5 of 3 parts' f s3://bkt/uneven
    equal 'md5 of 3 parts' first s3://bkt/first
    equal 'md5 of 1 part of 300 bytes' one s3://bkt/single
    printf x | dd of=f bs=1 seek=400 conv=notrunc 2>/dev/null
    printf x | dd of=one bs=1 seek=299 conv=notrunc 2>/dev/null
    differs 'md5 of 3 parts' f s3://bkt/uneven
    differs 'md5 of 1 part of 300 bytes' one s3://bkt/single
    quirk no-part-number
    unproven f s3://bkt/uneven
    differs 'bytes, from 400 on' f s3://bkt/uneven --download
}

sec_opaque() { # ETags that are no sums
    cp "$BIG" f
    cp "$W/bent" g
    bytes 50000 >small
    quirk checksum-ignored opaque-etag
    ends 0 put -q --sse aws:kms small s3://bkt/small
    ends 0 put -q --sse aws:kms --part-size 5M f s3://bkt/large
    ends 0 put -q small s3://bkt/liar
    quirk ''
    unproven small s3://bkt/small
    unproven f s3://bkt/large
    unproven g s3://bkt/large
    ctl reset
    equal bytes --download f s3://bkt/large
    equal bytes --download small s3://bkt/small
    is "$(op GetObject)" 2
    differs 'bytes, from 7000000 on' --download g s3://bkt/large
    # Where nothing says that an ETag is none, it is believed, and the bytes know better.
    differs md5 small s3://bkt/liar
    equal bytes --download small s3://bkt/liar
    # A checksum holds, however the object is encrypted.
    ends 0 put -q --sse aws:kms --part-size 5M f s3://bkt/summed
    equal crc64nvme f s3://bkt/summed
    ctl reset
    equal crc64nvme --download f s3://bkt/summed
    differs crc64nvme --download g s3://bkt/summed
    is "$(op GetObject)" 0
    # A download that breaks goes on where it broke.
    fault 'GetObject * short-body n=1'
    ctl reset
    equal bytes --download f s3://bkt/large
    is "$(op GetObject)" 2
    calm
    fault 'GetObject * wrong-body n=1'
    ends 9 verify --download f s3://bkt/large
    calm
    fault 'GetObject * 503'
    ends 5 verify --retries 1 --download f s3://bkt/large
    calm
    fault 'GetObject * precondition-412'
    ends 3 verify --download f s3://bkt/large
    err 'changed while it was being fetched'
}

sec_ledger() { # whose lines count
    cp "$BIG" f
    bare --part-size 5555555 f s3://bkt/f
    quirk no-part-number
    equal 'md5 of 3 parts of 5555555 bytes' f s3://bkt/f
    mkdir other
    line=$(tail -n 1 "$S3UP_STATE_DIR/ledger.jsonl")
    # Of other objects, other stores, or no lines at all.
    {
        echo "$line" | sed 's/"key":"f"/"key":"g"/'
        echo "$line" | sed 's/"bucket":"bkt"/"bucket":"b"/'
        echo "$line" | sed 's/"endpoint":"http/"endpoint":"https/'
        echo "$line" | sed 's/"etag":"...../"etag":"00000/'
        echo "$line" | cut -c 1-100
        echo "$line" | tr -d '}'
        head -c 70000 /dev/zero | tr '\0' x
        echo
        printf '%s' "$line" # its end is lost
    } >other/ledger.jsonl
    chmod 700 other
    S3UP_STATE_DIR=$PWD/other
    unproven f s3://bkt/f
    { echo; echo "$line"; echo '{}'; } >>other/ledger.jsonl
    equal 'md5 of 3 parts of 5555555 bytes' f s3://bkt/f
    # The last one counts; the file before the last is read, too.
    echo "$line" | sed 's/5555555/5242880/' >>other/ledger.jsonl
    differs 'md5 of 3 parts of 5242880 bytes' f s3://bkt/f
    echo "$line" >other/ledger.jsonl
    mv other/ledger.jsonl other/ledger.jsonl.1
    equal 'md5 of 3 parts of 5555555 bytes' f s3://bkt/f
}

# ---- stat ----

sec_stat() {
    printf hi >a
    ends 0 put -q --metadata Colour=red --storage-class STANDARD_IA --sse aws:kms \
        --sse-kms-key-id k1 --tagging 'a=b&c=d' --content-type text/x \
        --header 'x-amz-website-redirect-location: /there' a s3://bkt/a
    ends 0 stat s3://bkt/a
    silent err
    sed 's/^time: 20[0-9-]*T[0-9:]*Z$/time: T/' "$T/out" >said
    {
        printf 'size: 2\ntime: T\netag: %s\ntype: text/x\n' "$(md5_of <a)"
        printf 'storage class: STANDARD_IA\nencryption: aws:kms\nencryption key: k1\n'
        printf 'redirect: /there\ntags: 2\nchecksum type: FULL_OBJECT\n'
        printf 'checksum.crc64nvme: %s\n' "$("$S3D" sum crc64nvme <a | cut -d ' ' -f 2)"
        printf 'metadata.mtime: %s\n' "$(stat -c %.9Y a)"
        printf 'metadata.colour: red\n'
    } >wanted
    sed -i '/^metadata.s3up-id: /d' said
    check cmp -s said wanted
    cmp -s said wanted || diff said wanted | head -n 5
    ends 0 stat --json s3://bkt/a
    json "$T/out"
    out '{"object":"s3://bkt/a","size":2,"time":"20' '"etag":"49f68a5c8493ec2c0bf489821c21fc3b"' \
        '"storage_class":"STANDARD_IA"' '"encryption_key":"k1"' '"tags":2,' \
        '"metadata.colour":"red"' '"checksum.crc64nvme":"'
    # Who may not decrypt an object may still see its head.
    fault 'HeadObject * error=AccessDenied n=1'
    ends 0 stat s3://bkt/a
    out 'size: 2'
    calm
    quirk checksum-unsupported
    ends 0 stat s3://bkt/a
    out 'size: 2'
    check_not has "$T/out" checksum
    quirk rich-head
    ends 0 stat s3://bkt/a
    out 'version: 3/L4kqtJ' 'archive: ARCHIVE_ACCESS' 'restore: ongoing-request="true"' \
        'expiration: expiry-date="Fri, 23 Dec 2033 00:00:00 GMT", rule-id="r"' \
        'lock: COMPLIANCE' 'locked until: 2033-01-01T00:00:00Z' 'legal hold: ON' \
        'replication: REPLICA' 'encryption.bucket-key-enabled: true' 'x-amz-novelty: 1'
    check_not has "$T/out" x-amz-request-id
    check_not has "$T/out" x-amz-id-2
    ends 0 stat --json s3://bkt/a
    json "$T/out"
    out '"locked_until":"2033-01-01T00:00:00Z"' '"legal_hold":"ON"'
    quirk ''
    bare --part-size 5M "$BIG" s3://bkt/parts
    ends 0 stat s3://bkt/parts
    is "$(sed -n '1p;3,5p' "$T/out" | tr '\n' ' ')" \
        "size: 12345678 etag: $(etag_of "$BIG" 5242880) parts: 3 part size: 5242880 "
    quirk no-part-number
    ends 0 stat --json s3://bkt/parts
    json "$T/out"
    out '"parts":3,'
    check_not has "$T/out" part_size
    quirk ''
    ends 0 stat s3://bkt
    is "$(cat "$T/out")" 'region: us-east-1'
    ends 0 stat --json s3://bkt
    json "$T/out"
    ends 4 stat s3://bkt/none
}

# ---- rm -r ----

sec_many() {
    many 2500 s3://bkt/logs/
    printf hi >a
    for other in logs logs2/a log/a logs-/a a; do
        ends 0 put -q a s3://bkt/$other
    done
    # Without --force it is counted, and stays.
    ctl reset
    ends 2 rm -r s3://bkt/logs
    err 's3://bkt/logs/: 2500 objects (5000 bytes) would be deleted; ' 'add --force,' --dry-run
    silent out
    is "$(ctl stats requests)" 3
    ends 2 rm -r --json s3://bkt/logs
    json "$T/out"
    out '{"event":"summary","source":"s3://bkt/logs/","found":2500,"failed":0,"bytes":5000}'
    ends 0 rm -r --dry-run s3://bkt/logs/
    is "$(grep -c 'would delete s3://bkt/logs/1[0-9]*$' "$T/err")" 2500
    err '2500 objects (5000 bytes) would be deleted'
    ends 0 rm -r --dry-run --force s3://bkt/logs/
    export S3UP_FORCE=1 S3UP_RECURSIVE=1 S3UP_OLDER_THAN=1d
    ends 2 rm -r s3://bkt/logs
    ends 0 rm s3://bkt/log
    is "$(keys s3://bkt)" 2505
    is "$(op DeleteObjects)" 0
    # With it three pages go by three requests; one more look at the list finds no more.
    ctl reset
    ends 0 rm -r --force s3://bkt/logs
    err 's3://bkt/logs/: 2500 objects (5000 bytes) deleted'
    is "$(op DeleteObjects) $(op DeleteObject) $(op ListObjectsV2)" '3 0 4'
    is "$(keys s3://bkt)" 5
    # Nothing is left to do.
    ends 0 rm -r --force s3://bkt/logs/
    err 's3://bkt/logs/: 0 objects'
    ends 0 rm -r s3://bkt/logs/
    many 1001 s3://bkt/m/
    ctl reset
    ends 0 rm --recursive --force --json s3://bkt/m s3://bkt/log
    json "$T/out"
    is "$(grep -c '^{"event":"deleted","source":"s3://bkt/m/1....*"}' "$T/out")" 1001
    is "$(grep summary "$T/out" | tr '\n' ' ')" \
        '{"event":"summary","source":"s3://bkt/m/","deleted":1001,"failed":0,"bytes":2002} {"event":"summary","source":"s3://bkt/log/","deleted":1,"failed":0,"bytes":2} '
    is "$(op DeleteObjects) $(op DeleteObject)" '1 2'
    is "$(keys s3://bkt)" 4
}

sec_bucket() { # a whole one must be named
    printf hi >a
    for key in a b/c d/; do
        ends 0 put -q a "s3://bkt/$key"
    done
    ends 2 rm -r s3://bkt
    err '3 objects (6 bytes) would be deleted' 'add --force=bkt,'
    refused 2 'whole bucket|--force=bkt' rm -r --force s3://bkt
    refused 2 'whole bucket|--force=bkt' rm -r --force s3://bkt/
    refused 2 'another bucket|--force=bkt' rm -r --force=bk s3://bkt
    refused 2 'another bucket|--force=bkt' rm -r --force=other s3://bkt/b
    refused 2 'is empty' rm -r --force= s3://bkt
    # All are looked at before any goes.
    refused 2 'whole bucket' rm -r --force s3://bkt/b s3://bkt
    refused 2 'takes no value' sweep --force=bkt s3://bkt
    refused 2 'names no object|rm -r' rm s3://bkt
    refused 2 '--older-than goes with -r' rm --older-than 1d s3://bkt/a
    # What has no name is refused below the commands, too: a list may be damaged.
    ends 0 mb s3://bare
    check_not store_says delete bare ''
    check has "$T/call" 'names no object'
    ends 0 rb s3://bare
    is "$(keys s3://bkt)" 3
    ends 0 rm -r --dry-run s3://bkt
    is "$(grep -c 'would delete' "$T/err")" 3
    ends 0 rm -r --force=bkt s3://bkt/b
    is "$(keys s3://bkt)" 2
    ends 0 rm -r --force=bkt s3://bkt
    err 's3://bkt/: 2 objects (4 bytes) deleted'
    is "$(keys s3://bkt)" 0
    ends 0 rb s3://bkt
    ends 4 rm -r --force s3://bkt/x
    err NoSuchBucket
}

sec_odd() { # keys that nobody would choose
    nl='
' ctl=$(printf '\001') bad=$(printf '\377\376') esc=$(printf '\033[2J')
    printf hi >a
    for key in "a${nl}b" 'a&b<c>"' "c${ctl}c" "$bad" "$esc" 'é' 'a b' 'a+b' '100%41' '//' \
        '../x' '' ' ' "$(printf 'a\tb\rc')" '*' '?x=1#f'; do
        check store_says put bkt "odd/$key" hi
    done
    ends 0 put -q a s3://bkt/keep
    ctl reset
    ends 0 rm -r --force s3://bkt/odd
    err '16 objects (32 bytes) deleted'
    is "$(op DeleteObjects) $(op DeleteObject)" '1 3'
    is "$(keys s3://bkt)" 1
    # A store that does not know how to delete several at once.
    many 12 s3://bkt/o/
    fault 'DeleteObjects * method-501'
    ctl reset
    ends 0 rm -r --force s3://bkt/o
    is "$(op DeleteObject)" 12
    is "$(keys s3://bkt)" 1
}

sec_denied() { # some may not be deleted
    many 30 s3://bkt/d/
    fault 'DeleteObjects * delete-denied=d/1000'
    ends 1 rm -r --force s3://bkt/d
    is "$(grep -c 'error: s3://bkt/d/1.* was not deleted: the store says AccessDenied' "$T/err")" 10
    err '20 objects deleted, 10 not'
    is "$(keys s3://bkt)" 10
    ends 6 rm -r --force s3://bkt/d
    calm
    fault 'DeleteObjects * error=AccessDenied' 'DeleteObject * error=AccessDenied'
    many 30 s3://bkt/d/
    ends 6 rm -r --force --json s3://bkt/d
    json "$T/out"
    is "$(grep -c '"event":"error"' "$T/out")" 30
    out '"deleted":0,"failed":30'
    calm
    is "$(keys s3://bkt)" 30
    fault 'DeleteObjects * 503'
    ends 5 rm -r --force --retries 1 s3://bkt/d
    is "$(keys s3://bkt)" 30
    calm
    fault 'DeleteObjects * 503 n=1'
    ends 0 rm -r --force s3://bkt/d
}

sec_lists() { # stores whose lists are odd; their pages have 10 keys
    printf hi >a
    for q in no-list-v2 list-v1-no-nextmarker list-no-marker encoding-type-ignored \
        xml-namespace-prefix list-loop list-round list-offset; do
        many 35 s3://bkt/l/
        ends 0 put -q a s3://bkt/keep
        quirk $q
        ends 0 rm -r --force s3://bkt/l
        err ' deleted'
        quirk ''
        is "$q $(keys s3://bkt)" "$q 1"
    done
    many 35 s3://bkt/l/
    for q in list-loop list-round; do
        quirk $q
        ends 5 ls -r s3://bkt
        err 'repeats one page'
        ends 5 rm -r s3://bkt/l
        ends 5 rm -r --dry-run s3://bkt/l
    done
    # A key that stays is met again, and not for ever.
    fault 'DeleteObjects * delete-denied=10005'
    for q in list-loop list-round; do
        quirk $q
        run rm -r --force s3://bkt/l
        check test "$rc" -ne 0
        check test "$(grep -c 'was not deleted' "$T/err")" -lt 10
    done
    calm
    quirk ''
    is "$(keys s3://bkt/l)" 1
    many 35 s3://bkt/l/
    # What was not asked for stays, whatever a store lists.
    quirk list-all
    ends 1 rm -r --force s3://bkt/l
    err '"keep", which was not asked for'
    quirk delete-nothing
    ends 1 rm -r --force s3://bkt/l
    err '"l/10000", which it said it deleted'
    quirk ''
    is "$(keys s3://bkt)" 36
    # What it lists for one word is not deleted in another word's bucket.
    ends 0 mb s3://two
    many 35 s3://two/l/
    many 10 s3://two/a/
    ends 0 put -q a s3://bkt/z
    quirk list-all
    ends 0 rm s3://bkt/keep
    ends 1 rm -r --force s3://bkt/l s3://two/a
    quirk ''
    is "$(keys s3://two) $(keys s3://bkt)" '35 6'
    ends 0 rm -r --force s3://two/l
    ends 0 rb s3://two
    ends 0 rm s3://bkt/z
    ends 0 put -q a s3://bkt/keep
    many 35 s3://bkt/l/
    # Interrupted: what is gone is told.
    fault 'DeleteObjects * stall=30 after=1'
    begin rm -r --force s3://bkt/l
    until_so eval '[ "$(keys s3://bkt/l)" -le 25 ]'
    kill -s INT "$pid"
    ended 130
    err '10 objects' deleted interrupted
    calm
    quirk ''
    ends 0 rm -r --force s3://bkt/l
    many 35 s3://bkt/l/
    # A list that breaks off: what it had told is deleted, and the next run does the rest.
    fault 'ListObjectsV2 *continuation-token* 500 after=1'
    ends 1 rm -r --force --retries 0 s3://bkt/l
    err '20 objects (40 bytes) deleted'
    calm
    is "$(keys s3://bkt)" 16
    ends 0 rm -r --force s3://bkt/l
}

sec_age() {
    printf hi >a
    ends 0 put -q a s3://bkt/t/old
    ctl clock 864000
    ends 0 put -q a s3://bkt/t/young
    ends 2 rm -r --older-than 9d s3://bkt/t
    err '1 objects (2 bytes) would be deleted'
    ends 0 rm -r --force --older-than 11d s3://bkt/t
    err ' 0 objects'
    ends 0 rm -r --dry-run --older-than 9d s3://bkt/t
    is "$(grep 'would delete' "$T/err" | tr '\n' ' ')" 's3up: would delete s3://bkt/t/old '
    ends 0 rm -r --force --older-than 9d s3://bkt/t
    is "$(keys s3://bkt/t)" 1
    check gone s3://bkt/t/old
    # It is the clock of the store that counts; if it has none, nothing goes.
    ctl clock 0
    ends 0 rm -r --force --older-than 1s s3://bkt/t # from the future, as it seems
    is "$(keys s3://bkt/t)" 1
    quirk no-date
    ends 3 rm -r --force --older-than 1s s3://bkt/t
    err 'does not say what time it is: nothing more is deleted'
    ends 0 rm -r --force s3://bkt/t # who does not ask for an age needs no clock
    quirk ''
    is "$(keys s3://bkt/t)" 0
}

# ---- running all of it ----

store_of() { # SECTION: lists have short pages
    case $1 in
    lists) echo '--min-part 100 --list-max 10' ;;
    *) echo '--min-part 100 --list-max 1000' ;;
    esac
}

# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
