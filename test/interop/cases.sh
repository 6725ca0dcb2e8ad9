# The cases that every store goes through, over HTTP and over TLS. Sourced by run.sh, which
# calls the functions named in $cases in this order. A case calls s3 (s3up against the store
# at hand) and then says what must have come of it; what stores do differently is an outcome,
# and each store's script says which one it is known for.
# shellcheck shell=sh
# shellcheck disable=SC2154 # set by run.sh and by the stores

# shellcheck disable=SC2034 # run.sh uses it
cases='mb mb_again ls_buckets
    empty one_byte five_mib large gigabyte replace cut
    metadata media_type storage_class checksum checksum_wrong md5_wrong
    no_clobber if_none_match quirks
    wrong_secret unknown_key anonymous wrong_region
    keys key_dots key_double key_lead key_control key_no_utf8 key_1024 key_1024_flat key_1025 key_folder
    presign presign_put presign_expired presign_altered
    missing missing_bucket rm_missing
    ls_prefix many
    aws s3cmd
    profile credential_process session_token virtual tls
    '"$part_cases $tree_cases"'
    rb_full rb'

b=s3://interop        # what most cases put their objects into

# ---- buckets ----

case_mb() {
    s3 mb $b
    want 0
    s3 stat $b
    want 0
    s3 ls $b
    want 0
    empty out
}

case_mb_again() {
    s3 mb $b
    case $code in
    0) outcome ok ;;
    *) want 1 BucketAlreadyOwnedByYou && outcome owned ;;
    esac
}

case_ls_buckets() {
    s3 mb s3://interop-2
    want 0
    s3 ls
    want 0
    has out '  interop$'
    has out '  interop-2$'
    s3 ls --json
    has out '"bucket":"interop-2"'
    s3 rb s3://interop-2
    want 0
    s3 ls
    hasnt out interop-2
}

# ---- bodies ----

# A file goes up, is looked at, listed, and comes down again, in two ways; then it goes.
there_and_back() { # FILE
    size=$(wc -c <"$1")
    s3 put "$1" $b/body/x
    want 0
    s3 stat $b/body/x
    want 0
    has out "^size: $size\$"
    s3 ls $b/body/x
    want 0
    has out " $size  body/x\$"
    s3 get $b/body/x "$W/back"
    want 0
    same "$1" "$W/back"
    rm -f "$W/back"
    s3 get $b/body/x -
    want 0
    same "$1" "$W/out"
    s3 rm $b/body/x
    want 0
    s3 stat $b/body/x
    want 4
}

case_empty() { there_and_back "$W/empty"; }
case_one_byte() { there_and_back "$W/one"; }
case_five_mib() { there_and_back "$W/five"; }
case_large() { there_and_back "$W/large"; }

# Over one scheme; and the bytes are compared while they come. Here and in the store it wants
# room, on the disk or, where a store keeps all there, in memory.
case_gigabyte() {
    [ "$scheme" = http ] || { outcome - && return; }
    [ "$(df -Pk "$W" | awk 'END { print $4 }')" -gt 3000000 ] ||
        { skip "less than 3 GB of room in ${TMPDIR:-/tmp}" && return; }
    [ "$server" != rgw ] ||
        [ "$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)" -gt 3000000 ] ||
        { skip "less than 3 GB of memory" && return; }
    stream $((1 << 30)) >"$W/huge"
    s3 put "$W/huge" $b/huge
    want 0
    timeout --foreground 300 "$S3UP" get -q -e "$url" $b/huge - | cmp -s - "$W/huge"
    check "the gibibyte comes back as it went" $?
    rm -f "$W/huge"
    s3 rm $b/huge
    want 0
}

case_replace() {
    s3 put "$W/one" $b/replace
    want 0
    s3 put "$W/text" $b/replace
    want 0
    s3 get $b/replace -
    same "$W/text" "$W/out"
}

# A connection that breaks in the middle of a body, either way. What was sent is sent again;
# what was fetched is not fetched again.
case_cut() {
    [ "$proxy" ] || { skip "test/s3d.c, here a proxy, was not built" && return; }
    with="http_proxy=127.0.0.1:$(cat "$W/proxy-port")"
    with="$with https_proxy=${with#*=}"
    cut_once
    s3 put -v --threshold 1G "$W/large" $b/cut
    want 0
    is "the number of requests" "$(grep -c '> PUT' "$W/err")" 2
    if [ "$scheme" = http ]; then cut_once '*partNumber=*'; else cut_once; fi
    s3 put -v -j 1 --part-size 32M "$W/large" $b/cut
    want 0
    is "the number of parts sent, one of them twice" "$(grep -c '> PUT' "$W/err")" 3
    s3 get $b/cut -
    want 0
    same "$W/large" "$W/out"
    cut_once
    s3 get -v $b/cut -
    want 0
    has err '> range: bytes=[1-9]'
    same "$W/large" "$W/out"
    s3 rm $b/cut
    want 0
}

cut_once() { # [REQUEST]: by what it knows of it, that is the host if it is a tunnel
    "$W/s3d-proxy" ctl "@$W/proxy-port" faults "* ${1-*} cut-relay=20000000 n=1" >/dev/null
    check "the proxy is told to cut" $?
}

# ---- what goes with an object ----

case_metadata() {
    s3 put --metadata colour=blue --metadata 'Long-Name=two  words, and "quotes"' \
        --cache-control 'max-age=60, public' --content-type 'text/x-interop; charset=utf-8' \
        --content-disposition 'attachment; filename="a b.txt"' --content-encoding identity \
        "$W/text" $b/metadata
    want 0
    s3 stat $b/metadata
    want 0
    has out '^metadata.colour: blue$'
    has out '^metadata.long-name: two  words, and "quotes"$'
    has out '^cache: max-age=60, public$'
    has out '^type: text/x-interop; charset=utf-8$'
    has out '^disposition: attachment; filename="a b.txt"$'
    has out '^encoding: identity$'
    hasnt out request-id
}

case_media_type() {
    cp "$W/text" "$W/page.html"
    s3 put "$W/page.html" $b/
    want 0
    s3 stat $b/page.html
    has out '^type: text/html$'
    s3 put --content-type text/x-own "$W/page.html" $b/
    s3 stat $b/page.html
    has out '^type: text/x-own$'
}

case_storage_class() {
    s3 put --storage-class STANDARD "$W/text" $b/class
    want 0
    s3 put --storage-class NO_SUCH_CLASS "$W/text" $b/class
    case $code in
    0) outcome any ;;
    *) want 1 "InvalidStorageClass\|InvalidArgument" && outcome ok ;;
    esac
}

# Accepted, and the object is what it should be, whatever the store makes of the checksum.
case_checksum() {
    for kind in auto sha256 crc64nvme crc32c crc32 md5 none; do
        s3 put --checksum $kind "$W/text" $b/checksum
        want 0
        s3 get $b/checksum -
        same "$W/text" "$W/out"
    done
    s3 put --checksum crc99 "$W/text" $b/checksum
    want 2 'no checksum "crc99"'
}

# Does the store look at checksums?
case_checksum_wrong() {
    s3 put --checksum none --header 'x-amz-checksum-crc32c: AAAAAA==' \
        --header 'x-amz-sdk-checksum-algorithm: CRC32C' "$W/text" $b/wrong
    case $code in
    0) outcome ignored ;;
    *) want 9 "BadDigest\|Mismatch" && s3 stat $b/wrong && want 4 && outcome ok ;;
    esac
}

case_md5_wrong() {
    s3 put --header 'content-md5: AAAAAAAAAAAAAAAAAAAAAA==' "$W/text" $b/wrong-md5
    want 9 BadDigest
    s3 stat $b/wrong-md5
    want 4
}

# ---- conditions ----

# Whatever the store knows of conditions, an object that is there is not replaced.
case_no_clobber() {
    s3 put -v --no-clobber "$W/one" $b/clobber
    want 0
    [ "$(grep -c '> PUT' "$W/err")" -le 2 ]
    check "a store that refuses for good is not asked again and again" $?
    if grep -q 'cannot write under a condition' "$W/err"; then outcome 501; else outcome ok; fi
    s3 put --no-clobber "$W/text" $b/clobber
    want 7 'exists already'
    s3 get $b/clobber -
    same "$W/one" "$W/out"
    s3 get --no-clobber $b/clobber "$W/text"
    want 7 'exists already'
}

# What the store itself makes of the condition, where nobody has looked before.
case_if_none_match() {
    s3 put "$W/one" $b/none-match
    s3 put --header 'If-None-Match: *' "$W/text" $b/none-match
    case $code in
    0) outcome ignored && return ;;
    7) has err PreconditionFailed && outcome ok ;;
    *) has err ' 501 ' && outcome 501 ;;
    esac
    s3 get $b/none-match -
    same "$W/one" "$W/out"
}

# Stores of this kind exist, but none that can be had from a package.
case_quirks() {
    if [ -z "$ctl" ] || [ "$scheme" = https ]; then outcome - && return; fi
    for quirk in no-if-none-match if-none-match-501; do
        echo $quirk | $ctl quirks >/dev/null
        check "the quirk $quirk is on" $?
        s3 put --no-clobber "$W/one" $b/quirk
        want 0
        s3 put --no-clobber "$W/text" $b/quirk
        want 7 'exists already'
        s3 get $b/quirk -
        same "$W/one" "$W/out"
        s3 rm $b/quirk
        want 0
    done
    $ctl quirks </dev/null >/dev/null
    for offset in 4000 -4000; do
        $ctl clock $offset >/dev/null
        check "the store's clock is off" $?
        s3 put "$W/one" $b/clock
        want 0 'clock'
        s3 stat $b/clock
        want 0 'clock'
    done
    $ctl clock 0 >/dev/null
}

# ---- who asks ----

case_wrong_secret() {
    with=AWS_SECRET_ACCESS_KEY=${secret}x
    s3 ls $b
    want 6 SignatureDoesNotMatch
    s3 put "$W/five" "$W/text" $b/denied/
    want 6 SignatureDoesNotMatch
    has err 'was not sent, for the same reason'
    s3 get $b/replace -
    want 6 SignatureDoesNotMatch
    s3 stat $b/replace
    want 6 ' 403'
    hasnt err "$secret"
}

case_unknown_key() {
    with=AWS_ACCESS_KEY_ID=NOBODYKNOWSTHISKEY
    s3 ls $b
    want 6 'InvalidAccessKeyId\|SignatureDoesNotMatch'
    if grep -q InvalidAccessKeyId "$W/err"; then outcome ok; else outcome Signature; fi
}

case_anonymous() {
    s3 ls --no-sign-request $b
    said=$code
    s3 get --no-sign-request $b/replace -
    [ "$said $code" = "6 6" ] && has err AccessDenied && outcome ok && return
    check "a stranger is refused" $((said == 0 || code == 0))
    outcome "$said/$code"
}

# The region that a user forgot to name, or named wrongly: most stores accept any; where
# it is enforced, s3up finds the right one. A URL is signed for what was said.
case_wrong_region() {
    wrong=xx-wrong-7
    s3 presign --region $wrong $b/replace
    curl_to "$(cat "$W/out")"
    case $status in
    200) outcome any ;;
    *) outcome ok ;;
    esac
    s3 ls --region $wrong $b
    want 0
    s3 put --region $wrong "$W/five" $b/region
    want 0
    s3 get --region $wrong $b/region -
    same "$W/five" "$W/out"
    s3 stat --region $wrong $b/region
    want 0
    s3 rm --region $wrong $b/region
    want 0
    s3 mb --region $wrong s3://interop-region
    want 0
    s3 rb --region $wrong s3://interop-region
    want 0
    s3 ls --region $wrong
    [ "$code" = 0 ] || want 2 'is --region right'
}

# ---- keys ----

# A key goes through all that is done with keys, by s3up and by URLs that curl uses. It is
# written as for printf %b; behind it, how JSON writes it. Sets key_is: kept, refused (and
# said so), or folded into another one.
try_key() { # KEY JSON
    key=$(printf %bX "$1")
    key=${key%X}
    s3 put "$W/text" "$b/$key"
    key_is=refused
    if [ "$code" != 0 ]; then
        check "$1 is refused in words" $((code != 1 && code != 6))
        has err 'the store answered 4.. [A-Z]'
        return
    fi
    key_is=kept
    s3 get "$b/$key" "$W/back"
    want 0
    same "$W/text" "$W/back"
    s3 stat "$b/$key"
    want 0
    s3 ls -r --json "$b/$key"
    grep -qF "\"key\":\"$2\"" "$W/out" || key_is=folded
    s3 presign "$b/$key"
    curl_to "$(cat "$W/out")"
    check "$1 by a URL: $status" $((status != 200))
    same "$W/text" "$W/body"
    s3 rm "$b/$key"
    want 0
    s3 presign --put --expires 5m "$b/$key"
    curl_to "$(cat "$W/out")" -X PUT --data-binary @"$W/one"
    check "$1 written by a URL: $status" $((status != 200))
    s3 get "$b/$key" -
    same "$W/one" "$W/out"
    s3 put "$W/text" $b/beside
    s3 rm "$b/$key" $b/beside
    want 0
    s3 get "$b/$key" -
    want 4
}

kept() { # KEY JSON
    try_key "$@"
    is "the key $1" "$key_is" kept
}

case_keys() {
    kept 'a b+c%d/\0303\0251/x' 'a b+c%d/é/x'
    kept 'q"uo'"'te" 'q\u0022uo'"'te"
    kept '&<>' '&<>'
    kept '&amp;%41%2F+' '&amp;%41%2F+'
    kept '?a=b&c=d#e' '?a=b&c=d#e'
    # shellcheck disable=SC2016 # this is a key
    kept ';:@=,$!*()[]{}|^`~_-.' ';:@=,$!*()[]{}|^`~_-.'
    kept 'e\0314\0201/\0360\0237\0230\0200' "$(printf 'e\314\201')/😀"
    kept 'back\\slash' 'back\u005cslash'
    kept ' ' ' '
    kept ' outer blanks ' ' outer blanks '
    kept 'three...dots/..a/b..' 'three...dots/..a/b..'
    kept '-' '-'
    kept 'soap' 'soap'
}

# Several keys of one kind must fare alike.
alike() { # KEY JSON...
    first=
    while [ $# -gt 0 ]; do
        try_key "$1" "$2"
        first=${first:-$key_is}
        is "the key $1, as the others of its kind" "$key_is" "$first"
        shift 2
    done
    [ "$first" = kept ] && first=ok
    outcome "$first"
}

case_key_dots() {
    alike '..' '..' '../..' '../..' 'a/../b' 'a/../b' '.' '.' 'a/.' 'a/.' \
        'a b+c%d/\0303\0251/../x//y' 'a b+c%d/é/../x//y'
}

case_key_double() { alike 'x//y' 'x//y' 'a b///c' 'a b///c'; }

case_key_lead() { alike '/lead' '/lead' '//two' '//two'; }

case_key_control() {
    alike 'line\nend' 'line\u000aend' 'tab\tcr\rend' 'tab\u0009cr\u000dend' \
        'one\0001end' 'one\u0001end' '\0033[31mred\0177' '\u001b[31mred\u007f'
}

case_key_no_utf8() {
    alike 'a\0377\0376b' 'a\udcff\udcfeb' 'cut\0303' 'cut\udcc3'
}

case_key_1024() {
    part=$(printf '%0100d/' 0 0 0 0 0 0 0 0 0 0)
    long=$part$(printf '%014d' 7)
    is "the length of the key" ${#long} 1024
    kept "$long" "$long"
}

case_key_1024_flat() {
    long=$(printf '%01024d' 7)
    alike "$long" "$long"
}

case_key_1025() {
    s3 put "$W/text" "$b/$(printf '%01025d' 7)"
    want 2 'longer than any'
    s3 get "$b/$(printf '%01025d' 7)" -
    want 2 'longer than any'
}

# "Folders" that consoles make: put gives what ends in / the file's name, so a URL does it.
case_key_folder() {
    s3 put "$W/text" $b/folder/
    want 0
    s3 stat $b/folder/text
    want 0
    s3 presign --put $b/folder/
    curl_to "$(cat "$W/out")" -X PUT --data-binary ''
    check "an object folder/ is written by a URL: $status" $((status != 200))
    s3 stat $b/folder/
    want 0
    s3 get $b/folder/ "$W/back"
    want 0
    same "$W/empty" "$W/back"
    s3 ls -r $b/folder/
    has out '  folder/$'
    has out '  folder/text$'
    s3 rm $b/folder/
    want 0
    s3 stat $b/folder/text
    want 0
    s3 rm $b/folder/text
    want 0
}

# ---- URLs ----

case_presign() {
    s3 put "$W/large" "$b/URL of $scheme"
    s3 presign "$b/URL of $scheme"
    want 0
    link=$(cat "$W/out")
    hasnt out "$secret"
    curl_to "$link"
    is "the answer to the URL" "$status" 200
    same "$W/large" "$W/body"
    curl_to "$link" -r 100-199
    is "the answer to a range of it" "$status" 206
    is "the bytes of a range" "$(wc -c <"$W/body")" 100
    curl_to "$link" -X DELETE
    is "the answer to another method" "$status" 403
}

case_presign_put() {
    s3 presign --put --expires 7d $b/by-url
    want 0
    link=$(cat "$W/out")
    curl_to "$link" -T "$W/five" -H 'Content-Type: text/x-url'
    is "the answer to the URL" "$status" 200
    s3 get $b/by-url -
    same "$W/five" "$W/out"
    s3 stat $b/by-url
    has out '^type: text/x-url$'
    curl_to "$link"
    is "the answer to a reader" "$status" 403
    s3 presign --put --expires 8d $b/by-url
    want 2 7d
}

case_presign_expired() {
    s3 presign --expires 1s $b/replace
    sleep 2
    curl_to "$(cat "$W/out")"
    is "the answer to an expired URL" "$status" 403
}

case_presign_altered() {
    s3 presign $b/replace
    curl_to "$(sed 's/replace/metadata/' "$W/out")"
    is "the answer to a URL for another key" "$status" 403
    curl_to "$(sed 's/Expires=3600/Expires=7200/' "$W/out")"
    is "the answer to a URL that lives longer" "$status" 403
}

# ---- what is not there ----

case_missing() {
    rm -f "$W/back"
    s3 get $b/no/such/key "$W/back"
    want 4 NoSuchKey
    check "nothing is left behind" $(($(find "$W" -maxdepth 1 -name '*back*' | wc -l) != 0))
    s3 get $b/no/such/key -
    want 4 NoSuchKey
    empty out
    s3 stat $b/no/such/key
    want 4
    s3 ls $b/no/such/key
    want 4
}

case_missing_bucket() {
    for verb in 'get s3://interop-none/x -' "put $W/one s3://interop-none/x" \
        'ls s3://interop-none' 'rm s3://interop-none/x' 'rb s3://interop-none'; do
        # shellcheck disable=SC2086 # these are several words
        s3 $verb
        want 4 NoSuchBucket
    done
    s3 stat s3://interop-none
    want 4
    s3 stat s3://interop-none/x
    want 4
}

case_rm_missing() {
    s3 rm $b/no/such/key
    want 0
    s3 rm $b/no/such/key $b/no/such/other
    want 0
}

# ---- lists ----

case_ls_prefix() {
    s3 put "$W/one" "$W/text" $b/list/
    want 0
    s3 put "$W/one" $b/list/below/deep/one
    s3 put "$W/one" "$b/list/be low+/one"
    s3 ls $b/list/
    want 0
    is "the lines of a folder" "$(lines)" "1 list/one|30 list/text|PRE list/be low+/|PRE list/below/"
    s3 ls $b/list/b
    is "the lines of a prefix" "$(lines)" "PRE list/be low+/|PRE list/below/"
    s3 ls $b/list
    is "the line of a folder itself" "$(lines)" "PRE list/"
    s3 ls -r $b/list/be
    is "the lines below" "$(lines)" "1 list/be low+/one|1 list/below/deep/one"
}

# Size and name of what was listed; | between lines. Stores differ in what they name first.
lines() {
    sed 's/^[^ ]* *\([^ ]*\)  /\1 /; s/^ *PRE  /PRE /' "$W/out" | LC_ALL=C sort | paste -s -d '|' -
}

# More than two pages of a list, and more than two requests to delete. Over one scheme.
case_many() {
    [ "$scheme" = http ] || { outcome - && return; }
    s3 mb s3://interop-many
    s3 put "$W"/many/o* s3://interop-many/d/
    want 0
    s3 ls -r s3://interop-many
    want 0
    sed 's/^.*  d//' "$W/out" >"$W/listed"
    (cd "$W/many" && printf '/%s\n' o*) | cmp -s - "$W/listed"
    check "2,100 keys are listed, each once, in order" $?
    s3 ls s3://interop-many
    is "the lines of the bucket" "$(lines)" "PRE d/"
    s3 rb s3://interop-many
    want 1 BucketNotEmpty
    if [ "$aws" ]; then
        aws_to s3 ls --recursive s3://interop-many
        check "aws-cli lists, too" "$code"
        is "keys that aws-cli sees" "$(wc -l <"$W/out")" 2100
    fi
    # shellcheck disable=SC2046 # these are the keys
    s3 rm $(cd "$W/many" && printf 's3://interop-many/d/%s\n' o*)
    want 0
    s3 ls -r s3://interop-many
    want 0
    empty out
    s3 rb s3://interop-many
    want 0
}

# ---- other clients ----

# What another client wrote is read by s3up, and the other way round: plain objects and one
# of several parts, below CLIENT/, and both see the same keys and sizes.
exchange() { # CLIENT
    for file in plain.txt 'un der/a+b%c ü.bin' parts.bin; do
        s3 get "s3://interop-clients/$1/$file" "$W/back"
        want 0
        same "$W/tree/$file" "$W/back"
        s3 put "$W/tree/$file" "s3://interop-clients/s3up/$file"
        want 0
    done
    s3 stat "s3://interop-clients/$1/parts.bin"
    has out '^etag: [0-9a-f]*-[23]$'
    s3 ls -r s3://interop-clients
    sed 's/^[^ ]* *\([^ ]*\)  /\1 /' "$W/out" | sort >"$W/ours"
}

case_aws() {
    [ "$aws" ] || { skip "there is no aws-cli" && return; }
    s3 mb s3://interop-clients
    aws_to s3 cp --quiet --recursive "$W/tree" s3://interop-clients/aws/
    check "aws-cli writes" "$code"
    exchange aws
    aws_to s3 ls --recursive s3://interop-clients
    sed 's/^[^ ]* [^ ]* *//' "$W/out" | sort | cmp -s - "$W/ours"
    check "aws-cli lists what s3up lists" $?
    rm -rf "$W/tree2"
    aws_to s3 cp --quiet --recursive s3://interop-clients/s3up/ "$W/tree2"
    check "aws-cli reads" "$code"
    diff -r "$W/tree" "$W/tree2" >"$W/err" 2>&1
    check "aws-cli reads what s3up wrote" $?
    aws_to s3 rm --quiet --recursive s3://interop-clients
    check "aws-cli deletes" "$code"
    s3 rb s3://interop-clients
    want 0
}

case_s3cmd() {
    [ "$s3cmd" ] || { skip "there is no s3cmd" && return; }
    s3 mb s3://interop-clients
    s3cmd_to put --recursive "$W/tree/" s3://interop-clients/s3cmd/
    check "s3cmd writes" "$code"
    exchange s3cmd
    s3cmd_to ls --recursive s3://interop-clients
    sed 's|^[^ ]* [^ ]*  *\([0-9]*\) *s3://interop-clients/|\1 |' "$W/out" | sort |
        cmp -s - "$W/ours"
    check "s3cmd lists what s3up lists" $?
    rm -rf "$W/tree2"
    mkdir "$W/tree2"
    s3cmd_to get --recursive s3://interop-clients/s3up/ "$W/tree2/"
    check "s3cmd reads" "$code"
    diff -r "$W/tree" "$W/tree2" >"$W/err" 2>&1
    check "s3cmd reads what s3up wrote" $?
    s3cmd_to rm --recursive --force s3://interop-clients/
    check "s3cmd deletes" "$code"
    s3 rb s3://interop-clients
    want 0
}

# ---- keys and settings ----

# Everything comes out of ~/.aws: keys, region, endpoint, how buckets are addressed.
case_profile() {
    cat >"$HOME/.aws/credentials" <<C
[default]
aws_access_key_id = NOBODY
aws_secret_access_key = wrong
[interop]
aws_access_key_id = $access
aws_secret_access_key = $secret
C
    cat >"$HOME/.aws/config" <<C
[default]
region = xx-nowhere-1
endpoint_url = http://127.0.0.1:1
[profile interop]
region = $region
endpoint_url = $at
ca_bundle = $ca
s3 =
    addressing_style = path
[profile serviced]
region = $region
services = local
ca_bundle = $ca
[services local]
s3 =
    endpoint_url = $at
C
    own put --profile interop "$W/text" $b/profile
    want 0
    with=AWS_PROFILE=interop
    own get $b/profile -
    want 0
    same "$W/text" "$W/out"
    with="AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret"
    own stat --profile serviced $b/profile
    want 6 'no keys'
    with="$with AWS_PROFILE=serviced"
    own stat $b/profile
    want 0
    with=
    own ls --profile nosuch
    want 2 'no profile "nosuch"'
    own ls --retries 0
    want 5
    rm -f "$HOME"/.aws/*
}

case_credential_process() {
    cat >"$HOME/print keys" <<C
#!/bin/sh
[ "\$*" = 'for s3up' ] || exit 1
echo "this is for people" >&2
echo '{"Version": 1, "AccessKeyId": "$access", "SecretAccessKey": "$secret",
    "Expiration": "2099-01-01T00:00:00Z"}'
C
    chmod 700 "$HOME/print keys"
    cat >"$HOME/.aws/config" <<C
[default]
credential_process = "$HOME/print keys" 'for s3up'
endpoint_url = $at
region = $region
ca_bundle = $ca
C
    own put "$W/text" $b/process
    want 0
    own get $b/process -
    same "$W/text" "$W/out"
    printf '#!/bin/sh\nexit 3\n' >"$HOME/print keys"
    own ls
    want 6 credential_process
    rm -f "$HOME"/.aws/* "$HOME/print keys"
}

# Keys that expire: from the store's own STS, or such as it was told at its start.
case_session_token() {
    if [ "${visitor-}" ]; then
        with="AWS_ACCESS_KEY_ID=$visitor AWS_SECRET_ACCESS_KEY=$secret
            AWS_SESSION_TOKEN=$visitor_token"
        away=$at
    elif [ "${sts_url-}" ]; then
        curl -s --aws-sigv4 "aws:amz:$region:sts" -u "$access:$secret" -o "$W/body" \
            -d "Action=AssumeRole&Version=2011-06-15&RoleSessionName=interop${sts_role:+&RoleArn=$sts_role}" \
            "$sts_url/"
        with="AWS_ACCESS_KEY_ID=$(element AccessKeyId)
            AWS_SECRET_ACCESS_KEY=$(element SecretAccessKey)
            AWS_SESSION_TOKEN=$(element SessionToken)"
        away=$sts_url
        [ "$scheme" = http ] || { outcome - && return; }
    else
        outcome - && return
    fi
    s3_at "$away" put "$W/text" $b/token
    want 0
    s3_at "$away" get $b/token -
    same "$W/text" "$W/out"
    s3_at "$away" presign $b/token
    curl_to "$(cat "$W/out")"
    is "the answer to a URL with a token" "$status" 200
    with="${with%??????}AAAAAA"
    s3_at "$away" ls $b
    check "another token is refused" $((code == 0))
    with="$with AWS_SESSION_TOKEN="
    s3_at "$away" ls $b
    want 6
}

element() {
    tr -d '\n' <"$W/body" | sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p"
}

# BUCKET.localhost, a name that only this program sees: not all systems know such names.
case_virtual() {
    [ "${virtual-}" ] || { outcome - && return; }
    [ "$names" ] || { skip "names for this process alone need unshare(1) and rights" && return; }
    home=$at
    at=$(echo "$at" | sed 's/127\.0\.0\.1/localhost/')
    in_names put --addressing virtual "$W/text" "$b/virtual / path"
    want 0
    in_names get --addressing virtual "$b/virtual / path" -
    want 0
    same "$W/text" "$W/out"
    in_names ls --addressing virtual "$b/virtual"
    want 0
    is "the lines" "$(lines)" "PRE virtual /"
    s3 presign --addressing virtual "$b/virtual / path"
    has out "://interop\.localhost:"
    curl_to "$(cat "$W/out")" --resolve "interop.localhost:${at##*:}:127.0.0.1"
    is "the answer to a URL" "$status" 200
    printf '[default]\ns3 =\n  addressing_style = virtual\n' >"$HOME/.aws/config"
    in_names stat -v "$b/virtual / path"
    want 0
    has err 'interop\.localhost'
    rm -f "$HOME"/.aws/*
    in_names mb --addressing virtual s3://interop-virtual
    want 0
    in_names rb --addressing virtual s3://interop-virtual
    want 0
    at=$home
}

case_tls() {
    [ "$scheme" = https ] || { outcome - && return; }
    own ls -e "$at"
    want 6
    own ls -e "$at" --ca-file "$W/other.pem"
    want 6
    with="AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret SSL_CERT_FILE=$ca
        AWS_REGION=$region"
    own ls -e "$at"
    want 0
    with="AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret AWS_CA_BUNDLE=$ca
        AWS_REGION=$region"
    own ls -e "https://127.0.0.1:${at##*:}"
    want 0
    own ls -e "http://127.0.0.1:${at##*:}"
    check "plain HTTP to a port of TLS is an error" $((code == 0))
}

# ---- the end ----

case_rb_full() {
    s3 rb $b
    want 1 BucketNotEmpty
    s3 get $b/replace -
    same "$W/text" "$W/out"
}

case_rb() {
    s3 ls -r --json $b
    # shellcheck disable=SC2046 # keys without blanks
    s3 rm $(sed -n 's/.*"key":"\([^" \\]*\)".*/s3:\/\/interop\/\1/p' "$W/out")
    want 0
    s3 rm "$b/list/be low+/one" "$b/URL of $scheme" "$b/virtual / path"
    want 0
    s3 ls -r $b
    want 0
    empty out
    s3 rb $b
    want 0
    s3 stat $b
    want 4
}
