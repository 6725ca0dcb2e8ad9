# The cases of what comes down, of whole folders, of proofs and of copies.
# Sourced by run.sh behind parts.sh, whose helpers and bucket they use. Trees are made by
# Python; what a store has is told by aws-cli, and much of it was put there by others.
# shellcheck shell=sh
# shellcheck disable=SC2154 # set by run.sh and by the stores

# shellcheck disable=SC2034 # cases.sh uses it
tree_cases='tree fetch proofs copies'

# Against the two large ones: with s3d the other suites do the same in no time, and Swift's S3
# answers slowly.
trees_begin() {
    case $server in
    rgw | minio) parts_begin ;;
    *) outcome - && return 1 ;;
    esac
}

# aws-cli with parts of 7 MB, which nothing else here takes: aws_cuts put|get FILE KEY
aws_cuts() {
    printf '[default]\ns3 =\n  multipart_threshold = 7MB\n  multipart_chunksize = 7MB\n' \
        >"$HOME/.aws/config"
    aws_to s3 cp --quiet "$@"
    check "aws-cli writes in parts: $(tail -n 1 "$W/err")" "$code"
    rm -f "$HOME"/.aws/*
}

aws_puts() { # FILE KEY [OPTION...]
    from=$1
    shift
    aws_to s3api put-object --bucket $pb --body "$from" --key "$@"
    check "aws-cli writes: $(tail -n 1 "$W/err")" "$code"
}

aws_bucket_is_empty() {
    aws_to s3api list-objects-v2 --bucket $pb --query 'Contents[].Key' --output text
    is "what aws-cli sees in the bucket" "$(head -n 5 "$W/out")" None
    s3 rb $p
    want 0
}

# ---- whole folders ----

# So many files below a folder, always the same, with names that somebody will have: blanks,
# signs that URLs, XML, shells and options know, control characters, names of 255 bytes, keys
# of a thousand. One is sent in parts; some are empty; and six more have names that are no
# UTF-8.
make_odd() { # FOLDER FILES
    python3 - "$@" <<'P'
import os, random, re, sys
root, count, dice = os.fsencode(sys.argv[1]), int(sys.argv[2]), random.Random(5)
odd = [' lead', 'trail ', 'a+b', '100%', '%41%2F', '&amp;', 'q"uo\'te', 'new\nline', 'tab\t',
       'cr\r', '\x01\x1b[31m\x7f', '-r', '--force', '-', 'back\\slash', 'é', 'e\u0301', '😀',
       '\uffff', '...', '..a', 'a..', '<x>', '?a=b&c=d#e', ';:@=,$!*()[]{}|^`~', '#', '*', '~',
       '\u0085\u2028', 'x' * 255, 'é' * 127 + 'x', 'large', 's3:', 'soap']
odd = [name.encode() for name in odd]
for name in list(odd[:20]):
    odd += [name + b' folder/' + name, b'deep/' + name + b'/' + name]
odd += [b'deep' + b'/d' * 200, b'/'.join([b'long' * 60] * 4), b'1/2', b'changed/a b+c%d&e']
odd += [b'bad\xff\xfe', b'cut\xc3', b'f\xe9e/x', b'half\xed\xa0\x80', b'over\xc0\xaf', b'\x80']
signs = [c.encode() for c in 'abcxyz0189 +%&\'"\\<>?#;=@$!*(){}[]|^~`,:.-_\n\téß漢😀']
folders = [b'']
dots = re.compile(rb'(^|\\)\.\.?($|\\)') # MinIO takes \ for /, and refuses such
def names():
    yield from odd
    while True:
        yield another()
def another():
    name = b'.'
    while dots.search(name):
        name = b''.join(dice.choices(signs, k=dice.randint(1, 30)))
    if dice.random() < .03:
        folders.append(dice.choice(folders) + name + b'/')
        if len(folders[-1]) >= 400:
            folders.pop()
    return dice.choice(folders) + name
for number, name in enumerate(names()):
    if count == 0:
        break
    path = os.path.join(root, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError: # a file has that name
        continue
    if os.path.lexists(path):
        continue
    count -= name.decode(errors='replace').encode() == name
    size = 6000000 if name == b'large' else 0 if number % 50 == 7 else dice.randint(1, 900)
    with open(path, 'wb') as f:
        f.write(dice.randbytes(size))
    os.utime(path, ns=(0, 1500000000123456789 + number * 1000000007))
P
}

# Are these the files of the folder, neither more nor less? refused: but those whose names are
# no UTF-8, of which put must have said that it could not send them; they are removed.
compare_odd() { # FOLDER kept|refused
    python3 - "$@" "$W/sent" "$W/theirs" "$W/ours" <<'P'
import json, os, sys
root = os.fsencode(sys.argv[1])
def raw(text):
    return text.encode('utf-8', 'surrogateescape')
def shown(key): # botocore shows what is no UTF-8 as U+FFFD
    return key.decode('utf-8', 'replace')
def tell(who, found, files):
    for name in sorted(found ^ files, key=repr)[:3]:
        print(who, 'only' if name in found else 'lacks', ascii(name))
files, bad = set(), set()
for folder, _, names in os.walk(root):
    for name in names:
        path = os.path.join(folder, name)
        key = b'tree/' + os.path.relpath(path, root)
        try:
            key.decode()
        except UnicodeDecodeError:
            if sys.argv[2] == 'refused':
                bad.add(path)
                continue
        files.add((key, os.path.getsize(path)))
events = [json.loads(line) for line in open(sys.argv[3])]
tell('refused:', {raw(e['source']) for e in events if e['event'] == 'error'}, bad)
tell('aws-cli:', {(k, n) for k, n, *_ in json.load(open(sys.argv[4]))},
     {(shown(k), n) for k, n in files})
ours = [json.loads(line) for line in open(sys.argv[5])]
tell('s3up:', {(raw(o['key']), o['size']) for o in ours}, files)
print(len(ours), 'of', len(files), 'files')
for path in bad:
    os.unlink(path)
    if not os.listdir(os.path.dirname(path)):
        os.rmdir(os.path.dirname(path))
P
}

# "aws s3 ls --recursive" is of one mind with "s3up ls -r", to the byte: both are what the
# lines of "s3up ls -r --json" make them. s3up alone shows control characters as \x01.
lists_agree() { # PREFIX KEYS
    aws_to s3 ls --recursive "$p/$1"
    check "aws s3 ls: $(tail -n 1 "$W/err")" "$code"
    cp "$W/out" "$W/theirs.txt"
    s3 ls -r "$p/$1"
    want 0
    cp "$W/out" "$W/ours.txt"
    python3 - "$W/ours" "$W/theirs.txt" "$W/ours.txt" >"$W/out" <<'P'
import json, re, sys
def shown(match):
    return ''.join('\\x%02x' % byte for byte in match[0].encode())
objects = [json.loads(line) for line in open(sys.argv[1])]
theirs = ['%s %s %10d %s\n' % (o['time'][:10], o['time'][11:19], o['size'], o['key'])
          for o in objects]
ours = ['%s%13d  %s\n' % (o['time'], o['size'], re.sub('[\0-\x1f\x7f-\x9f]', shown, o['key']))
        for o in objects]
for file, lines in zip(sys.argv[2:], (theirs, ours)):
    with open(file, 'rb') as f:
        for line in lines:
            found = f.read(len(line.encode()))
            if found != line.encode():
                sys.exit(print(file, 'has', found, 'not', ascii(line)))
        print(len(lines), 'and', len(f.read()))
P
    is "lines, and bytes behind them" "$(paste -s "$W/out")" "$2 and 0	$2 and 0"
}

listed() { # FILE: of each key what changes when it is written
    aws_to s3api list-objects-v2 --bucket $pb --prefix tree/ \
        --query 'Contents[].[Key,Size,ETag,LastModified]' --output json
    check "aws-cli lists: $(tail -n 1 "$W/err")" "$code"
    cp "$W/out" "$W/$1"
}

# The one that differs, of two lists; else, how many do.
one_differs() { # LIST LIST
    python3 - "$W/$1" "$W/$2" <<'P'
import json, sys
a, b = ({tuple(e) for e in json.load(open(f))} for f in sys.argv[1:])
keys = {e[0] for e in a ^ b}
print(keys.pop() if len(keys) == 1 else len(keys))
P
}

local_files() { # FOLDER FORMAT FILE
    (cd "$1" && find . -type f -printf "%P$2\\0" | LC_ALL=C sort -z) >"$W/$3"
}

moved() { # KEY NUMBER
    want 0
    is "the number of files that were moved" "$(events done)" "$2"
    [ "$2" = 0 ] || has out "^{\"event\":\"done\".*$1\""
}

# The gateway has ten pages of them. None ends at a key with a control character: there Ceph 16
# puts it into its XML as it is, which s3up reads and aws-cli does not.
case_tree() {
    trees_begin || return
    changed='changed/a b+c%d&e' refused=kept
    case $server in rgw) files=${ODD:-10000} ;; *) files=${ODD:-500} ;; esac
    for known in ${differs-}; do
        [ "$known" != key_no_utf8=refused ] || refused=refused
    done
    keys=$files
    [ $refused = refused ] || keys=$((files + 6))
    rm -rf "$W/odd" "$W/odd2"
    make_odd "$W/odd" $files
    aws_puts "$W/one" tree-beside
    s3 put -r --json --part-size 5M "$W/odd" $p/tree/
    if [ $refused = kept ]; then want 0; else want 1; fi
    cp "$W/out" "$W/sent"
    listed theirs
    s3 ls -r --json $p/tree/
    want 0
    cp "$W/out" "$W/ours"
    is "what is stored" "$(compare_odd "$W/odd" $refused 2>&1)" "$keys of $keys files"
    lists_agree tree/ "$keys"
    s3 get -r --part-size 5M $p/tree/ "$W/odd2"
    want 0
    diff -r "$W/odd" "$W/odd2" >"$W/err" 2>&1
    check "what came back is what was sent: $(head -n 3 "$W/err")" $?
    local_files "$W/odd" ' %s %T@' times
    local_files "$W/odd2" ' %s %T@' times2
    same "$W/times" "$W/times2"

    s3 put -r --json --if-changed --part-size 5M "$W/odd" $p/tree/
    moved - 0
    listed again
    same "$W/theirs" "$W/again"
    local_files "$W/odd2" ' %i' inodes
    s3 get -r --json --if-changed --part-size 5M $p/tree/ "$W/odd2"
    moved - 0
    tr a-z b-za <"$W/odd/$changed" >"$W/turned"
    cp "$W/turned" "$W/odd/$changed"
    s3 put -r --json --if-changed --part-size 5M "$W/odd" $p/tree/
    moved "tree/$changed" 1
    listed again
    is "what aws-cli sees of it" "$(one_differs theirs again)" "tree/$changed"
    back "$W/turned" "tree/$changed"

    aws_puts "$W/text" tree/soap
    rm -rf "$W/odd3" && cp -a "$W/odd" "$W/odd3"
    cp "$W/text" "$W/odd3/soap"
    cp -p "$W/odd/$changed" "$W/odd2/$changed"
    s3 get -r --json --if-changed --part-size 5M $p/tree/ "$W/odd2"
    moved "$W/odd2/soap" 1
    diff -r "$W/odd3" "$W/odd2" >"$W/err" 2>&1
    check "all came that is there: $(head -n 3 "$W/err")" $?
    local_files "$W/odd2" ' %i' inodes2
    is "files that were written here" \
        "$(LC_ALL=C comm -z -13 "$W/inodes" "$W/inodes2" | tr '\0' '\n' | sed 's/ .*//')" soap

    s3 rm -r $p/tree/
    listed theirs
    same "$W/again" "$W/again"
    s3 rm -r --force $p/tree/
    want 0
    s3 rm $p/tree-beside
    want 0
    rm -rf "$W/odd" "$W/odd2" "$W/odd3"
    aws_bucket_is_empty
}

# ---- what comes down in parts ----

case_fetch() {
    trees_begin || return
    big=$W/large pieces=13
    case $server in
    rgw)
        big=$W/big pieces=39
        stream 201000007 >"$big"
        ;;
    esac
    aws_cuts "$big" $p/fetch
    is "parts that aws-cli made" "$(aws_parts fetch)" $((($(wc -c <"$big") + 7340031) / 7340032))

    fetch_half
    numbers "$W/out" >"$W/there"
    [ ! "${access_log-}" ] || mark=$(wc -c <"$access_log")
    s3 get --json -j 8 --part-size 5M $p/fetch "$W/fetched"
    want 0
    numbers "$W/out" >"$W/sent"
    had=$(sed -n 's/^{"event":"resume".*"parts_done":\([0-9]*\).*/\1/p' "$W/out")
    check "it goes on with $had parts" $((${had:-0} < $(wc -l <"$W/there")))
    is "parts that were fetched again" \
        "$(LC_ALL=C comm -12 "$W/there" "$W/sent" | paste -s)" ""
    is "all parts" $((had + $(wc -l <"$W/sent"))) $pieces
    same "$big" "$W/fetched"
    is "what lies beside it" "$(find "$W" -maxdepth 1 -name 'fetched?*')" ""
    if [ "${access_log-}" ]; then
        tail -c +$((mark + 1)) "$access_log" | grep -a "\"GET /$pb/fetch HTTP/1.1\" 206 " \
            >"$W/there"
        is "ranges that the store was asked for" "$(wc -l <"$W/there")" "$(wc -l <"$W/sent")"
    fi

    size=$(wc -c <"$big")
    while read -r range from length; do
        s3 get --range "$range" $p/fetch -
        want 0
        dd if="$big" iflag=skip_bytes,count_bytes skip="$from" count="$length" bs=64K \
            of="$W/piece" 2>/dev/null
        same "$W/piece" "$W/out"
        s3 get -j 8 --part-size 5M --range "$range" $p/fetch "$W/fetched"
        want 0
        same "$W/piece" "$W/fetched"
    done <<R
0-0 0 1
7340031-7340032 7340031 2
-1 $((size - 1)) 1
1000003- 1000003 $size
12345678-34567890 12345678 22222213
R

    # Replaced between two runs, and while one is at work.
    # A rate is the rate, however little a read gives: of TLS, 16 KiB.
    begun=$(date +%s%N)
    s3 get -j 2 --limit-rate 16M --range 0-16777215 $p/fetch "$W/fetched"
    want 0
    took=$((($(date +%s%N) - begun) / 1000000))
    check "16 MiB at 16 MiB a second take $took ms" $((took < 700 || took > 4000))

    pieces=13
    tr '\000-\377' '\001-\377\000' <"$W/large" >"$W/turned"
    aws_cuts "$W/large" $p/fetch
    fetch_half
    aws_cuts "$W/turned" $p/fetch
    s3 get --json -j 8 --part-size 5M $p/fetch "$W/fetched"
    want 0
    is "downloads taken up, parts" "$(events resume) $(numbers "$W/out" | wc -l)" "0 $pieces"
    same "$W/turned" "$W/fetched"
    begin_as get --part-size 5M -j 2 --limit-rate 24M $p/fetch "$W/fetched"
    stored 3 # so that others are yet to be asked for
    kill -s STOP -- "-$beside"
    aws_cuts "$W/large" $p/fetch
    kill -s CONT -- "-$beside"
    ended
    want 0 'starting over'
    same "$W/large" "$W/fetched"
    is "what lies beside it" "$(find "$W" -maxdepth 1 -name 'fetched?*')" ""
    s3 rm $p/fetch
    rm -f "$W/big" "$W/turned" "$W/fetched"
    aws_bucket_is_empty
}

# A download that is killed in the middle.
fetch_half() {
    rm -f "$W/fetched"
    begin_as get --part-size 5M -j 8 --limit-rate 60M $p/fetch "$W/fetched"
    stored $((pieces / 2))
    killed_outright all
    check "it has no name yet" $(($(find "$W" -maxdepth 1 -name fetched | wc -l)))
}

aws_parts() { # KEY: of how many it is, by its ETag
    aws_to s3api head-object --bucket $pb --key "$1" --query ETag --output text
    sed 's/.*-\([0-9]*\)"$/\1/' "$W/out"
}

# ---- proofs ----

# The object is what the file is, and not what another of its size is, of which one bit is not
# the same, or nearly all. Only a host that has no ledger has to find out how it was cut.
proven() { # FILE KEY PROOF [PART SIZE]: of what others cut
    unlike=9
    if [ "${4-}" ]; then
        aws_to s3api head-object --bucket $pb --key "$2" --part-number 1 \
            --query ContentLength --output text
        is_told "$4" || unlike=3
    fi
    s3 verify --json "$1" "$p/$2"
    want 0
    # s3d keeps a sum of everything, as Amazon does, and that is asked first.
    proof=$3
    [ "$server" != s3d ] || proof=crc64nvme
    has out "\"event\":\"equal\".*\"proof\":\"\($3\|$proof\)\""
    size=$(wc -c <"$1")
    cp "$1" "$W/flipped"
    python3 - "$W/flipped" $((size / 3)) <<'P'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 16]))
P
    s3 verify --json "$W/flipped" "$p/$2"
    want $unlike
    hasnt out '"proof":"size"'
    if [ $unlike = 3 ]; then
        s3 verify --json --download "$W/flipped" "$p/$2"
        want 9
    fi
    has out '"event":"different"'
    tr '\000-\377' '\001-\377\000' <"$1" >"$W/flipped"
    s3 verify --json "$W/flipped" "$p/$2"
    want $unlike
    head -c $((size - 1)) "$1" >"$W/flipped"
    s3 verify --json "$W/flipped" "$p/$2"
    want 9
    has out '"event":"different".*"proof":"size"'
    s3 rm "$p/$2"
}

# Does the store tell how long the first part is? Else what has no equal among the usual
# ways to cut may be cut in another one, and nothing is proven by that.
is_told() { # PART SIZE
    [ "$(cat "$W/out")" = "$1" ]
}

case_proofs() {
    trees_begin || return
    with=S3UP_STATE_DIR=$W/elsewhere
    parts=$W/tree/parts.bin # 16,000,000 bytes: 3 parts of 7 MiB, 2 of 15, 4 of 5
    aws_puts "$W/five" plain
    etag_is plain "$W/five"
    proven "$W/five" plain md5
    aws_puts "$W/empty" empty
    s3 verify --json "$W/empty" $p/empty
    want 0
    has out '"event":"equal".*"proof":"size"'
    aws_cuts "$parts" $p/parts
    etag_is parts "$parts" 7340032
    proven "$parts" parts 'md5 of 3 parts of 7340032 bytes' 7340032
    if [ "$s3cmd" ]; then
        s3cmd_to put --multipart-chunk-size-mb=15 "$parts" $p/s3cmd
        check "s3cmd writes: $(tail -n 1 "$W/err")" "$code"
        etag_is s3cmd "$parts" 15728640
        proven "$parts" s3cmd 'md5 of 2 parts of 15728640 bytes' 15728640
    fi
    for kind in auto crc32c sha256 none; do
        s3 put --checksum $kind --part-size 5M "$parts" $p/own
        want 0
        proven "$parts" own '[a-z0-9]* of 4 parts of 5242880 bytes'
    done
    s3 put "$W/five" $p/own
    proven "$W/five" own '[a-z0-9]*'
    proofs_of_sums
    s3 rm $p/empty
    aws_bucket_is_empty
}

# A sum that aws-cli sends and the store keeps: Python computes it. A store that keeps none
# has the ETag; one that knows no such field must not say that it does.
proofs_of_sums() {
    file="$W/tree/un der/a+b%c ü.bin"
    python3 - "$file" >"$W/sums" <<'P'
import base64, hashlib, sys, zlib
data, crc, table = open(sys.argv[1], 'rb').read(), (1 << 64) - 1, []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x9A6C9329AC4BC9B5 if n & 1 else 0)
    table.append(n)
for b in data:
    crc = table[(crc ^ b) & 255] ^ crc >> 8
crc ^= (1 << 64) - 1
for name, sum in (('sha256', hashlib.sha256(data).digest()), ('crc64-nvme', crc.to_bytes(8, 'big')),
                  ('crc32', zlib.crc32(data).to_bytes(4, 'big'))):
    print(name, base64.b64encode(sum).decode())
P
    while read -r name sum; do
        aws_puts "$file" sums "--checksum-$name" "$sum"
        aws_to s3api head-object --bucket $pb --key sums --checksum-mode ENABLED
        proof=md5
        if grep -qF "$sum" "$W/out"; then proof=$(echo "$name" | tr -d -); fi
        proven "$file" sums "$proof"
    done <"$W/sums"
}

# ---- copies ----

case_copies() {
	trees_begin || return
    s3 mb s3://$pb-2
    want 0
    aws_to s3 cp --quiet --content-type 'text/x-copied; charset=utf-8' \
        --cache-control 'max-age=60' --content-disposition 'attachment; filename="a b"' \
        --metadata 'colour=blue,long-name=two words' "$W/tree/parts.bin" "$p/from"
    check "aws-cli writes: $(tail -n 1 "$W/err")" "$code"
    facts_of $pb 'from' facts
    for bucket in $pb $pb-2; do
        for how in '' '--threshold 5M --part-size 5M'; do
            # shellcheck disable=SC2086 # how holds words
            s3 cp --json $how "$p/from" "s3://$bucket/to/a +%é"
            want 0
            is "the parts of a copy" "$(events part)" "$([ -z "$how" ] && echo 0 || echo 4)"
            facts_of $bucket 'to/a +%é' copied
            same "$W/facts" "$W/copied"
            from_bucket $bucket "$W/tree/parts.bin" 'to/a +%é'
            [ -z "$how" ] || is "its ETag" "$(etag_in $bucket 'to/a +%é')" \
                "$(etag_of "$W/tree/parts.bin" 5242880)"
            none_unfinished $bucket 'to/a +%é'
            s3 rm "s3://$bucket/to/a +%é"
            want 0
        done
    done
    for how in '' '--threshold 5M --part-size 5M'; do
        # shellcheck disable=SC2086 # how holds words
        s3 cp $how --content-type text/x-new --metadata new=1 "$p/from" $p/new
        want 0
        facts_of $pb new copied
        is "what replaces it" "$(cat "$W/copied")" \
            "[16000000, 'text/x-new', None, None, None, {'new': '1'}]"
    done
    copies_of_odd
    aws_puts "$W/empty" empty
    s3 cp $p/empty s3://$pb-2/
    want 0
    from_bucket $pb-2 "$W/empty" empty
    s3 cp --threshold 5M --part-size 5M $p/none s3://$pb-2/
    want 4
    none_unfinished $pb-2 none
    s3 rm $p/new $p/empty "$p/from"
    s3 rm s3://$pb-2/empty
    s3 rb s3://$pb-2
    want 0
    aws_bucket_is_empty
}

# A source whose name is not what its URL is: Ceph 16 decodes that where all is copied, but
# not for a part, and then aws-cli does not find it either.
copies_of_odd() {
    aws_puts "$W/tree/parts.bin" 'a +b%é'
    s3 cp "$p/a +b%é" s3://$pb-2/odd
    want 0
    from_bucket $pb-2 "$W/tree/parts.bin" odd
    s3 cp --threshold 5M --part-size 5M "$p/a +b%é" s3://$pb-2/odd2
    if [ "$code" = 0 ]; then
        from_bucket $pb-2 "$W/tree/parts.bin" odd2
        outcome ok
    else
        want 4 'UploadPartCopy .*NoSuchKey'
        aws_to s3api create-multipart-upload --bucket $pb-2 --key odd2 --query UploadId \
            --output text
        id=$(cat "$W/out")
        aws_to s3api upload-part-copy --bucket $pb-2 --key odd2 --upload-id "$id" \
            --part-number 1 --copy-source "$pb/a +b%é"
        check "it is for aws-cli as it is for s3up" $((code == 0))
        aws_to s3api abort-multipart-upload --bucket $pb-2 --key odd2 --upload-id "$id"
        outcome undecoded
    fi
    none_unfinished $pb-2 odd2
    s3 rm "$p/a +b%é" s3://$pb-2/odd s3://$pb-2/odd2
    want 0
}

facts_of() { # BUCKET KEY FILE
    aws_to s3api head-object --bucket "$1" --key "$2" --output json --query \
        '[ContentLength,ContentType,CacheControl,ContentDisposition,ContentEncoding,Metadata]'
    check "aws-cli looks at it: $(tail -n 1 "$W/err")" "$code"
    python3 - "$W/out" >"$W/$3" <<'P'
import json, sys
facts = json.load(open(sys.argv[1]))
facts[-1].pop('s3up-id', None) # tells who made it, if that was in parts
print(facts)
P
}

etag_in() { # BUCKET KEY
    aws_to s3api head-object --bucket "$1" --key "$2" --query ETag --output text
    tr -d '"' <"$W/out"
}

from_bucket() { # BUCKET FILE KEY
    aws_to s3api get-object --bucket "$1" --key "$3" "$W/back"
    check "aws-cli reads: $(tail -n 1 "$W/err")" "$code"
    same "$2" "$W/back"
}

none_unfinished() { # BUCKET KEY
    aws_to s3api list-multipart-uploads --bucket "$1" --prefix "$2" \
        --query 'Uploads[].UploadId' --output text
    is "uploads that are left" "$code $(cat "$W/out")" '0 None'
}
