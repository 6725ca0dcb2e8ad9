#!/bin/sh
# e2e.sh: s3up as its users meet it, from the words of the command line to the bytes in a
# store: every command, every exit code, what goes wrong and what is said about it.
#
#   test/e2e.sh S3UP S3D [SECTION...]
#
# S3UP is the program, S3D the compiled test/s3d.c. Needs sh and what POSIX has beside it;
# what needs more (curl, openssl, root, other shells) is skipped aloud where it is missing.
# E2E_SLOW=1 adds what takes a minute. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away

# ---- commands ----

sec_put() {
    printf 'hello\n' >a
    ends 0 put a s3://bkt/put/a
    err 'a -> s3://bkt/put/a (6 bytes)'
    silent out
    check same a s3://bkt/put/a
    ends 0 put a s3://bkt/put/dir/
    check same a s3://bkt/put/dir/a
    ends 0 put a s3://bkt
    check same a s3://bkt/a
    ends 0 put a s3://bkt/
    mkdir -p sub
    printf 'other\n' >sub/b
    : >empty
    ends 0 put a sub/b empty s3://bkt/many/
    check same a s3://bkt/many/a
    check same sub/b s3://bkt/many/b
    check same empty s3://bkt/many/empty
    ends 0 put a sub/b s3://bkt
    check same sub/b s3://bkt/b
    ends 0 put sub/b s3://bkt/put/a
    check same sub/b s3://bkt/put/a
    ln -s sub/b link
    ends 0 put link s3://bkt/put/
    check same sub/b s3://bkt/put/link
    bytes 300000 >big
    for sum in auto sha256 crc64nvme crc32c crc32 md5 none; do
        ends 0 put --checksum $sum big s3://bkt/put/big-$sum
        check same big s3://bkt/put/big-$sum
    done
    ends 0 put --content-type text/x-odd --metadata Color=blue --metadata shape='a=b c' \
        --cache-control no-store --storage-class STANDARD --header 'Content-Language: eo' \
        a s3://bkt/put/meta
    ends 0 stat s3://bkt/put/meta
    out 'type: text/x-odd' 'metadata.color: blue' 'metadata.shape: a=b c' 'cache: no-store'
    ends 0 put --content-type text/one --header 'content-type: text/two' a s3://bkt/put/meta
    ends 0 stat s3://bkt/put/meta
    out 'type: text/two'
    printf x >page.html
    ends 0 put page.html s3://bkt/put/
    ends 0 stat s3://bkt/put/page.html
    out 'type: text/html'
    ends 0 put -n a s3://bkt/put/new
    ends 7 put -n sub/b s3://bkt/put/new
    err 's3://bkt/put/new' 'exists already'
    ends 7 put --no-clobber sub/b s3://bkt/put/new
    ends 7 put --no-overwrite sub/b s3://bkt/put/new
    check same a s3://bkt/put/new
}

# Names that shells, terminals and XML stumble over.
sec_names() {
    mkdir in back
    nl=$(printf 'line\nend') esc=$(printf 'esc\033[31m') bad=$(printf 'bad\377\376')
    long=$(printf '%0255d' 7) wide=$(printf '%085d' 0 | sed 's/0/日/g')
    for name in 'two words' "$nl" "$esc" "$bad" '-dash' 'grüße-日本' 'a+b&c=d%20e?f#g' \
        "quote'\"" '*' '~' 'back\slash' '<&>' 'trailing ' "$long" "$wide"; do
        printf '%s' "$name" >"in/$name"
    done
    ends 0 put in/* s3://bkt/names/
    for name in in/*; do
        name=${name#in/}
        ends 0 get "s3://bkt/names/$name" back/
        is "$(cat "back/$name")" "$name"
    done
    (
        cd in || exit
        ends 0 put -- -dash s3://bkt/names/
        ends 2 put -dash s3://bkt/names/dash
    )
    printf 1 >-x
    ends 0 get -- s3://bkt/names/-dash -x
    is "$(cat ./-x)" -dash
    ends 0 ls -r s3://bkt/names/
    out 'names/line\x0aend' 'names/esc\x1b[31m' 'names/grüße-日本'
    is "$(grep -c names/ "$T/out")" 15
    ends 0 ls --json -r s3://bkt/names/
    json "$T/out"
    out '"key":"names/line\u000aend"' 'names/esc\u001b[31m' '"key":"names/back\u005cslash"'
    ends 0 rm "s3://bkt/names/$nl" "s3://bkt/names/$esc" "s3://bkt/names/$bad" \
        's3://bkt/names/<&>' 's3://bkt/names/two words'
    for name in "$nl" "$esc" "$bad" '<&>' 'two words'; do
        check gone "s3://bkt/names/$name"
    done
    is "$("$S3UP" ls -r s3://bkt/names/ | wc -l | tr -d ' ')" 10
    # A control character that XML cannot carry, and bytes that are no UTF-8.
    hostile=$(printf 's3://bkt/names/c\001\002') bad="s3://bkt/names/$bad"
    for way in alone together; do
        ends 0 put in/-dash "$hostile"
        ends 0 put in/-dash "$bad"
        ends 0 ls --json s3://bkt/names/
        json "$T/out"
        out 'names/c\u0001\u0002' 'names/bad\udcff\udcfe'
        if [ $way = alone ]; then
            ends 0 rm "$hostile"
            ends 0 rm "$bad"
        else
            ends 0 rm "$hostile" s3://bkt/names/-dash "$bad" 's3://bkt/names/*'
            check gone s3://bkt/names/-dash
            check gone 's3://bkt/names/*'
        fi
        check gone "$hostile"
        check gone "$bad"
    done
    # Slashes and dots in keys mean nothing.
    for key in a//b ./c ../d e/../f g/./h /i; do
        printf '%s' "$key" >x
        ends 0 put x "s3://bkt/$key"
        ends 0 get "s3://bkt/$key" y
        is "$(cat y)" "$key"
    done
    key=$(printf '%01024d' 1)
    ends 0 put x "s3://bkt/$key"
    ends 0 get "s3://bkt/$key" y
    ends 0 rm "s3://bkt/$key"
    # However long a name is, why it does not work is not cut off.
    ends 4 get "s3://bkt/$key" y
    err "$key" NoSuchKey
    ends 2 get "s3://bkt/${key}x" y
    err longer
    ends 2 get "s3://bkt/$(printf '%020000d' 1)" y
    err s3://bkt/0000 ... longer
}

sec_get() {
    bytes 100000 >a
    printf b >b
    ends 0 put a b s3://bkt/get/
    ends 0 get s3://bkt/get/a
    check cmp -s a ./a
    ends 0 get s3://bkt/get/a copy
    check cmp -s a copy
    err 's3://bkt/get/a -> copy (100000 bytes)'
    silent out
    mkdir d
    ends 0 get s3://bkt/get/a d
    check cmp -s a d/a
    rm d/a
    ends 0 get s3://bkt/get/a d/
    check cmp -s a d/a
    ends 0 get s3://bkt/get/a -
    check cmp -s a "$T/out"
    ends 0 get s3://bkt/get/a s3://bkt/get/b d
    check cmp -s b d/b
    mkdir e
    (cd e && ends 0 get s3://bkt/get/a s3://bkt/get/b && check cmp -s ../b b)
    ends 0 get s3://bkt/get/b s3://bkt/get/b -
    is "$(cat "$T/out")" bb
    : >none
    ends 0 put none s3://bkt/get/
    ends 0 get s3://bkt/get/none d
    check test -f d/none
    echo old >copy
    ends 7 get -n s3://bkt/get/a copy
    err copy 'exists already'
    is "$(cat copy)" old
    ends 0 get -n s3://bkt/get/a fresh
    check cmp -s a fresh
    ends 4 get s3://bkt/get/nothing copy
    err s3://bkt/get/nothing 's3up ls'
    is "$(cat copy)" old
    ends 4 get s3://nobucket/get/a copy
    err NoSuchBucket nobucket
    ends 1 get s3://bkt/get/a s3://bkt/get/nothing d
    check cmp -s a d/a
    # Only what was named is there: no temporary file is.
    is "$(ls -A d)" "$(printf 'a\nb\nnone')"
    is "$(ls -A | tr '\n' ' ')" 'a b copy d e fresh none '
}

sec_ls() {
    mkdir m
    i=0
    while [ $i -lt 1100 ]; do
        : >"m/$((10000 + i))"
        i=$((i + 1))
    done
    ends 0 put -q m/* s3://lists/m/
    silent out err
    printf 12345 >x
    ends 0 put x s3://lists/x
    ends 0 put x s3://lists/d/e/f
    bytes 1610613 >y
    ends 0 put y s3://lists/d/y
    ends 0 ls
    out bkt lists
    ends 0 ls s3://
    out bkt lists
    ends 0 ls --json
    json "$T/out"
    out '"bucket":"lists"' '"time":"20'
    ends 0 ls s3://lists
    is "$(grep -c . "$T/out")" 3
    out 'PRE  d/' 'PRE  m/' ' 5  x'
    ends 0 ls s3://lists/
    is "$(grep -c . "$T/out")" 3
    ends 0 ls s3://lists/d
    is "$(grep -c . "$T/out")" 1
    ends 0 ls s3://lists/d/
    out 'PRE  d/e/' ' 1610613  d/y'
    ends 0 ls --human s3://lists/d/
    out ' 1.5M  d/y'
    ends 0 ls --human-readable s3://lists/x
    out ' 5  x'
    ends 0 ls -r s3://lists
    is "$(grep -c . "$T/out")" 1103
    ends 0 ls --recursive s3://lists/m/1
    is "$(grep -c . "$T/out")" 1100
    is "$(sort "$T/out" | uniq | wc -l | tr -d ' ')" 1100
    ends 0 ls -r --json s3://lists
    json "$T/out"
    is "$(grep -c . "$T/out")" 1103
    out '{"key":"d/y","size":1610613,"etag":"' '"storage_class":"STANDARD"' '"time":"20'
    ends 0 ls --json s3://lists
    out '{"prefix":"d/"}'
    ends 4 ls s3://lists/zzz
    err s3://lists/zzz 'nothing begins with'
    ends 4 ls s3://nobucket
    err nobucket NoSuchBucket
    ends 0 mb s3://hollow
    ends 0 ls s3://hollow
    silent out err
    # Stores that speak the old list, or another dialect.
    for q in no-list-v2 list-v1-no-nextmarker list-no-marker encoding-type-ignored \
        xml-namespace-prefix; do
        quirk $q
        ends 0 ls -r s3://lists
        is "$(grep -c . "$T/out")" 1103
    done
    quirk list-loop
    ends 5 ls -r s3://lists
    err 'repeats one page'
    check test "$(grep -c . "$T/out")" -lt 2300
    quirk ''
    # More than 1,000 in one command, some of them not there.
    i=0
    set --
    while [ $i -lt 1100 ]; do
        set -- "$@" "s3://lists/m/$((10000 + i))"
        i=$((i + 1))
    done
    ends 0 rm --dry-run "$@"
    ends 0 ls -r s3://lists/m
    is "$(grep -c . "$T/out")" 1100
    ctl reset
    ends 0 rm s3://lists/m/nothing "$@" s3://lists/x
    is "$(ctl stats requests)" 2
    ends 0 ls -r s3://lists
    is "$(grep -c . "$T/out")" 2
}

sec_stat() {
    printf hi >a
    ends 0 put --metadata k=v a s3://bkt/stat/a
    ends 0 stat s3://bkt/stat/a
    out 'size: 2' 'etag: 49f68a5c8493ec2c0bf489821c21fc3b' 'time: 20' 'metadata.k: v'
    silent err
    ends 0 stat --json s3://bkt/stat/a
    json "$T/out"
    out '"object":"s3://bkt/stat/a"' '"etag":"49f68a5c8493ec2c0bf489821c21fc3b"' \
        '"metadata.k":"v"' '"size":2'
    long=$(printf '%0100d' 7)
    ends 0 put --metadata "$long=v" --content-disposition 'attachment; filename="a b"' \
        --header 'Content-Language: de' a s3://bkt/stat/a
    ends 0 stat s3://bkt/stat/a
    out "metadata.$long: v" 'disposition: attachment; filename="a b"' 'language: de'
    # A HEAD that is refused for its region cannot say so; nor can it say which is right.
    ends 0 stat --region eu-west-9 s3://bkt/stat/a
    ends 0 stat --region eu-west-9 s3://bkt
    ends 7 put -n --region eu-west-9 a s3://bkt/stat/a
    ends 0 put -n --region eu-west-9 a s3://bkt/stat/new
    ends 0 stat s3://bkt
    ends 4 stat s3://bkt/stat/nothing
    err s3://bkt/stat/nothing
    ends 4 stat s3://nobucket/a
}

sec_rm() {
    printf hi >a
    ends 0 put a s3://bkt/rm/1
    ends 0 put a s3://bkt/rm/2
    ends 0 put a s3://bkt/rm/3
    ends 0 rm s3://bkt/rm/1
    check gone s3://bkt/rm/1
    ends 0 rm s3://bkt/rm/1
    ends 0 rm s3://bkt/rm/2 s3://bkt/rm/nothing s3://bkt/rm/2
    check gone s3://bkt/rm/2
    ends 0 mb s3://second
    ends 0 put a s3://second/x
    ends 0 rm s3://second/x s3://bkt/rm/3
    check gone s3://second/x
    check gone s3://bkt/rm/3
    ends 0 put a s3://bkt/rm/keep
    ends 0 put a s3://bkt/rm/go
    fault 'DeleteObjects * delete-error=keep'
    ends 1 rm s3://bkt/rm/go s3://bkt/rm/keep
    err s3://bkt/rm/keep 'was not deleted'
    calm
    check gone s3://bkt/rm/go
    check same a s3://bkt/rm/keep
    # All are looked at before any goes.
    refused 2 's3://second|names no object|rb' rm s3://bkt/rm/keep s3://second
    check same a s3://bkt/rm/keep
    # No variable makes anything more be deleted than what was named.
    export S3UP_FORCE=1 S3UP_RECURSIVE=1 S3UP_ALL=1 S3UP_OVERWRITE=1 S3UP_RESTART=1
    ends 0 rm s3://bkt/rm/kee
    ends 0 rm s3://bkt/rm/
    ends 1 rb s3://bkt
    check same a s3://bkt/rm/keep
}

sec_buckets() {
    ends 0 mb s3://made-here
    silent out
    ends 0 ls
    out made-here
    ends 0 mb s3://made-here
    printf hi >a
    ends 0 put a s3://made-here/x
    ends 1 rb s3://made-here
    err made-here BucketNotEmpty
    ends 0 rm s3://made-here/x
    ends 0 rb --dry-run s3://made-here
    ends 0 stat s3://made-here
    ends 0 rb s3://made-here
    ends 4 rb s3://made-here
    err NoSuchBucket
    ends 4 stat s3://made-here
    ends 1 mb s3://UPPER
    err InvalidBucketName UPPER
    ends 0 mb --dry-run s3://never-made
    ends 4 stat s3://never-made
}

# What can fetch a URL here; the answer goes to stdout.
fetch() { # URL
    if command -v curl >/dev/null; then
        curl -s -f "$1"
    elif command -v wget >/dev/null; then
        wget -q -O - "$1"
    else
        return 99
    fi
}

sec_presign() {
    printf 'a presigned one\n' >a
    ends 0 put a "s3://bkt/pre sign/ü&+"
    ends 0 presign "s3://bkt/pre sign/ü&+"
    silent err
    out 'X-Amz-Expires=3600&' "http://127.0.0.1:$PORT/bkt/pre%20sign/%C3%BC%26%2B?" \
        X-Amz-Signature=
    url=$(cat "$T/out")
    ends 0 presign --get --expires 7d s3://bkt/a
    out 'X-Amz-Expires=604800&'
    ends 0 presign --expires-in 90s s3://bkt/a
    out 'X-Amz-Expires=90&'
    ends 0 presign --put s3://bkt/pre/put
    put=$(cat "$T/out")
    refused 2 7d presign --expires 8d s3://bkt/a
    refused 2 'either|--get|--put' presign --get --put s3://bkt/a
    refused 2 's3://bkt names no object' presign s3://bkt
    (
        unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
        ends 6 presign s3://bkt/a
        err AWS_ACCESS_KEY_ID
    )
    if ! command -v curl >/dev/null && ! command -v wget >/dev/null; then
        skip "presigned URLs are not fetched: no curl, no wget"
        return
    fi
    last="GET of what presign printed"
    is "$(fetch "$url")" "a presigned one"
    is "$(fetch "$(echo "$url" | sed 's/X-Amz-Expires=3600/X-Amz-Expires=3601/')")" ""
    ends 0 presign --expires 1 s3://bkt/a
    url=$(cat "$T/out")
    sleep 2
    last="GET of a URL that has expired"
    is "$(fetch "$url")" ""
    if ! command -v curl >/dev/null; then
        skip "presign --put is not tried: no curl"
        return
    fi
    curl -s -f -T a "$put"
    check same a s3://bkt/pre/put
}

sec_help() {
    ends 0 version
    silent err
    is "$(grep -c '^s3up [0-9]*\.[0-9]*\.[0-9]* ' "$T/out")" 1
    cp "$T/out" v
    for word in --version -V; do
        ends 0 "$word"
        check cmp -s v "$T/out"
    done
    ends 0 help
    silent err
    cp "$T/out" h
    for code in 0 1 2 3 4 5 6 7 8 9 130 141 143; do
        is "$(grep -c "^ *$code  [a-z]" h)" 1
    done
    for word in --help -h; do
        ends 0 "$word"
        check cmp -s h "$T/out"
    done
    ends 2
    silent out
    check cmp -s h "$T/err"
    sed -n 's/^  s3up \([a-z]*\) .*/\1/p' h >verbs
    is "$(tr '\n' ' ' <verbs)" 'put get drain ls stat rm cp mb rb verify uploads abort sweep history presign help version '
    for verb in $(cat verbs); do
        ends 0 help "$verb"
        silent err
        out "s3up $verb"
        sed -n 's/^  \(-[a-z], \|    \)--\([a-z0-9-]*\).*/\2/p' "$T/out" >"opts.$verb"
        awk 'length > 130 { exit 1 }' "$T/out" || fail "a line of help is too long"
    done
    # Every option belongs to exactly the commands whose help has it: the parser, the man
    # page and the completions agree.
    cat opts.* | sort -u >opts
    check test "$(grep -c . opts)" -ge 25
    ends 0 help man
    cp "$T/out" man
    ends 0 help completion bash
    cp "$T/out" bash
    ends 0 help completion zsh
    cp "$T/out" zsh
    ends 0 help completion fish
    cp "$T/out" fish
    for verb in $(cat verbs); do
        words=$(sed -n "s/^    $verb) options='\(.*\)' ;;/\1/p" bash | tr ' ' '\n' | sed 's/^--//')
        last="help $verb and completion"
        is "$words" "$(cat "opts.$verb")"
        is "$(sed -n "s/.*seen_subcommand_from $verb' -l \([a-z0-9-]*\) .*/\1/p" fish)" "$words"
        is "$(sed -n "/^    $verb) /,/;;/s/.*'--\([a-z0-9-]*\).*/\1/p" zsh)" "$words"
    done
    for opt in $(cat opts); do
        their=
        for verb in $(cat verbs); do
            last="s3up $verb --$opt"
            said=$("$S3UP" "$verb" "--$opt" 2>&1 </dev/null)
            rc=$?
            if grep -qx -e "$opt" "opts.$verb"; then
                their="$their$verb "
                case $said in
                *'not belong'* | *'no option'*) fail "it is in help, but refused: $said" ;;
                *) pass ;;
                esac
            else
                case $rc:$said in
                2:*"--$opt"*'not belong'*) pass ;;
                *) fail "it is not in help, but: $said" ;;
                esac
            fi
        done
        last="--$opt in the man page"
        # One that means something else to another command stands there twice.
        dashed=$(echo "$opt" | sed 's/-/\\\\-/g')
        is "$(grep -A 1 "^\.B .*\\\\-\\\\-$dashed\( \|\[\|\$\)" man |
            sed -n 's/.*(\([a-z, ]*\))\.$/\1/p' | tr -d ' ' | tr ',' '\n' | sort | tr '\n' ' ')" \
            "$(echo "$their" | tr ' ' '\n' | grep . | sort | tr '\n' ' ')"
    done
    if command -v man >/dev/null && command -v groff >/dev/null; then
        last='help man, rendered'
        is "$(groff -ww -man -Tascii -P-cbou man 2>&1 >man.txt)" ''
        is "$(MANWIDTH=80 man --warnings -l ./man 2>&1 >/dev/null)" ''
        for section_name in NAME SYNOPSIS COMMANDS OPTIONS 'EXIT STATUS' ENVIRONMENT FILES; do
            check grep -q "$section_name" man.txt
        done
    else
        skip "the man page is not rendered: install man-db and groff"
    fi
    for shell in bash zsh fish; do
        if command -v $shell >/dev/null; then
            last="help completion $shell, read by $shell -n"
            is "$($shell -n ./$shell 2>&1)" ''
        else
            skip "no $shell to read the completion for it"
        fi
    done
    if command -v bash >/dev/null; then
        last='completion in bash'
        is "$(bash -c '. ./bash; COMP_WORDS=(s3up pre); COMP_CWORD=1; _s3up
            echo ${COMPREPLY[*]}')" presign
        is "$(bash -c '. ./bash; COMP_WORDS=(s3up put --no-c); COMP_CWORD=2; _s3up
            echo ${COMPREPLY[*]}')" --no-clobber
    fi
    refused 2 'foo|s3up help' help foo
    refused 2 'bash|zsh|fish' help completion ksh
    refused 2 'bash|zsh|fish' help completion
    refused 2 'get|one command' help put get
    refused 2 'x' version x
}

# --dry-run, --json, -q, -v
sec_modes() {
    printf 'hello\n' >a
    ends 0 put a s3://bkt/modes/a
    ctl reset
    ends 0 put --dry-run a s3://bkt/modes/b
    err 'would put a -> s3://bkt/modes/b'
    ends 0 put --dryrun -n a s3://bkt/modes/b
    ends 0 get --dry-run s3://bkt/modes/a c
    err 'would get s3://bkt/modes/a -> c'
    ends 0 get --dry-run s3://bkt/modes/a -
    silent out
    ends 0 rm --dry-run s3://bkt/modes/a
    err 'would delete s3://bkt/modes/a'
    ends 0 mb --dry-run s3://modes
    err 's3://modes'
    ends 0 rb --dry-run s3://bkt
    err 's3://bkt'
    ends 4 put --dry-run nothing s3://bkt/modes/b
    is "$(ctl log | grep -c -v -e ' GET ' -e ' HEAD ')" 0
    check test ! -e c
    check gone s3://bkt/modes/b
    check same a s3://bkt/modes/a

    ends 0 put --json a s3://bkt/modes/j
    json "$T/out"
    out '"event":"done"' '"source":"a"' '"target":"s3://bkt/modes/j"' '"size":6' \
        '"etag":"b1946ac92492d2347c6235b4d2611184"'
    silent err
    ends 0 get --json s3://bkt/modes/j j
    json "$T/out"
    out '"event":"done"' '"source":"s3://bkt/modes/j"' '"target":"j"' '"size":6'
    ends 0 get --json s3://bkt/modes/j -
    check cmp -s a "$T/out"
    json "$T/err"
    ends 1 put --json a nothing s3://bkt/modes/
    json "$T/out"
    is "$(grep -c . "$T/out")" 3
    out '"event":"error"' '"source":"nothing"' '"code":4' 'No such file'
    err 'cannot open nothing: No such file or directory'
    ends 4 stat --json s3://bkt/modes/none
    json "$T/out"
    out '"code":4'
    ends 4 get --json s3://bkt/modes/none -
    silent out
    ends 2 get --json s3://bkt/ -
    silent out
    err '"event":"error"' 'names no object'
    # Every command says what it did, and every name that was given is in an event.
    ends 0 mb --json s3://modes
    json "$T/out"
    out '{"event":"made","source":"s3://modes"}'
    for name in a b c d; do
        ends 0 put -q a s3://modes/$name
    done
    ends 0 rm --json s3://modes/a
    out '{"event":"deleted","source":"s3://modes/a"}'
    fault 'DeleteObjects * delete-error=b'
    ends 1 rm --json s3://modes/b s3://modes/c s3://modes/c
    json "$T/out"
    is "$(grep -c . "$T/out")" 3
    out '"event":"error","source":"s3://modes/b"' '"event":"deleted","source":"s3://modes/c"'
    calm
    fault 'DeleteObjects * error=AccessDenied'
    ends 6 rm --json s3://modes/b s3://modes/d
    json "$T/out"
    is "$(grep -c '"event":"error","source":"s3://modes/[bd]"' "$T/out")" 2
    calm
    ends 0 rm --json s3://modes/b s3://modes/d
    ends 0 rb --json --dry-run s3://modes
    out '{"event":"would remove","source":"s3://modes"}'
    ends 0 rb --json s3://modes
    out '{"event":"removed","source":"s3://modes"}'
    ends 0 put --json --dry-run a s3://bkt/modes/
    json "$T/out"
    out '{"event":"would","source":"a","target":"s3://bkt/modes/a"}'
    ends 0 get --json --dry-run s3://bkt/modes/a -
    silent out
    err '{"event":"would","source":"s3://bkt/modes/a","target":"-"}'
    (
        AWS_SECRET_ACCESS_KEY=wrong
        cp a b
        cp a c
        ends 6 put --json a b c s3://bkt/modes/
        json "$T/out"
        is "$(grep -c '"event":"error","source":"[abc]","code":6' "$T/out")" 3
        ends 6 get --json s3://bkt/modes/a s3://bkt/modes/b ./
        is "$(grep -c '"event":"error","source":"s3://bkt/modes/[ab]"' "$T/out")" 2
        ends 6 rm --json s3://bkt/modes/a s3://modes/b s3://modes/c
        is "$(grep -c '"event":"error","source":"s3://' "$T/out")" 3
        rm b c
    )
    long=$(head -c 50000 /dev/zero | tr '\0' '\001')
    ends 2 put --json "$long" s3://bkt/modes/
    json "$T/out"
    # A store that says more than any should: whole lines, or none.
    wide=$(head -c 8000 /dev/zero | tr '\0' '\377')
    printf '<ListBucketResult><Contents><Key>%s</Key><Size>1</Size><ETag>%s</ETag>
</Contents></ListBucketResult>' "$wide" "$wide" >list
    ends 0 put -q list s3://bkt/modes/B
    ends 0 ls --json -e "$AWS_ENDPOINT_URL/bkt/modes" s3://B
    json "$T/out"
    check test "$(wc -c <"$T/out")" -gt 90000
    rm list

    for words in 'put a s3://bkt/modes/q' 'get s3://bkt/modes/q q' 'rm s3://bkt/modes/q'; do
        # shellcheck disable=SC2086
        ends 0 ${words%% *} -q ${words#* }
        silent out err
    done
    ends 4 get -q s3://bkt/modes/none q
    err NoSuchKey

    for words in 'put a s3://bkt/modes/v' 'get s3://bkt/modes/v v' 'ls s3://bkt/modes/' \
        'stat s3://bkt/modes/v' 'rm s3://bkt/modes/v'; do
        # shellcheck disable=SC2086
        ends 0 ${words%% *} -v ${words#* }
        err '/bkt' ' HTTP/1.1' '> host: 127.0.0.1:' '> authorization: ***' '< HTTP/1.1 20'
    done
    ends 0 get --verbose s3://bkt/modes/a -
    check cmp -s a "$T/out"
    # No colours, whatever the terminal, and however much is wanted.
    last='everything that was said so far'
    check_not grep -q "$(printf '\033')" "$W/said"
    # A profile that is asked for stands for itself: keys in the environment do not count.
    mkdir .aws
    printf '[profile bare]\nregion = us-east-1\n' >.aws/config
    AWS_CONFIG_FILE=.aws/config
    export AWS_CONFIG_FILE
    ends 6 ls --profile bare
    err 'profile bare has no keys' environment
    unset AWS_CONFIG_FILE
}

# ---- writing only what is not there yet ----

sec_races() {
    printf 'mine\n' >mine
    printf 'theirs\n' >theirs
    # Somebody else writes between our look and our write.
    fault 'HeadObject * stall=1 n=1'
    ctl reset
    begin put -n mine s3://bkt/race/a
    until_so busy
    "$S3UP" put -q theirs s3://bkt/race/a
    ended 7
    err s3://bkt/race/a 'exists already' 'somebody else'
    check same theirs s3://bkt/race/a
    calm
    # The same, in a store that refuses the condition, or ignores it.
    quirk if-none-match-501
    ends 0 put -n mine s3://bkt/race/b
    err 'warning: ' condition
    check same mine s3://bkt/race/b
    ends 7 put -n theirs s3://bkt/race/b
    check same mine s3://bkt/race/b
    quirk no-if-none-match
    ends 0 put -n mine s3://bkt/race/c
    ends 7 put -n theirs s3://bkt/race/c
    check same mine s3://bkt/race/c
    quirk ''
    # Our own first attempt is not somebody else's object.
    for how in lost-reply cut-head cut-reply; do
        ctl reset
        fault "PutObject * $how n=1"
        ends 0 put -n mine s3://bkt/race/$how
        check same mine s3://bkt/race/$how
        calm
    done
    ends 0 put --json -n mine s3://bkt/race/json
    out '"etag":"d92bf619dc8282f474be4bfbce48183f"'
    fault 'PutObject * lost-reply n=1'
    ends 0 put --json -n mine s3://bkt/race/json2
    out '"etag":"d92bf619dc8282f474be4bfbce48183f"' '"size":5'
    calm
    # Two writers at once: one of them is told to come again.
    fault 'PutObject * conflict-409 n=1'
    ends 0 put -n mine s3://bkt/race/d
    check same mine s3://bkt/race/d
    fault 'PutObject * conflict-409'
    ends 7 put --retries 2 -n mine s3://bkt/race/e
    err s3://bkt/race/e 409
    calm
    # Without -n a lost reply is nothing: the same is written again.
    fault 'PutObject * lost-reply n=1'
    ends 0 put theirs s3://bkt/race/a
    calm
    # Two files for one name, none of them there.
    ends 0 get -n s3://bkt/race/a new
    fault 'GetObject * slow-write=500'
    begin get -n s3://bkt/race/a late
    until_so busy
    sleep 0.1
    printf 'mine\n' >late
    ended 7
    err late
    is "$(cat late)" mine
    is "$(ls -A | tr '\n' ' ')" 'late mine new theirs '
}

# ---- exit codes, and what the store does to us ----

# 0, 2, 4 and 7 are everywhere; 130, 141 and 143 have their sections.
sec_codes() {
    printf hi >a
    printf ho >b
    ends 0 put a b s3://bkt/code/
    # 1: some failed, in different ways.
    ends 1 put a nothing s3://bkt/code/
    ends 1 get s3://bkt/code/a s3://bkt/code/none ./
    fault 'DeleteObjects * delete-error=code/b'
    ends 1 rm s3://bkt/code/a s3://bkt/code/b
    calm
    # All in the same way: that way's code.
    ends 4 put nothing nowhere s3://bkt/code/
    ends 4 get s3://bkt/code/x s3://bkt/code/y ./
    # 5: it may go better later.
    fault '* * 503'
    for words in ls 'get s3://bkt/code/b x' 'put a s3://bkt/code/a' 'rm s3://bkt/code/a' \
        'stat s3://bkt' 'mb s3://newone' 'rb s3://newone'; do
        # shellcheck disable=SC2086
        ends 5 ${words%% *} --retries 0 ${words#"${words%% *}"}
        case $words in
        stat*) err 'answered 503' ;;
        *) err 'answered 503 ServiceUnavailable' '[request ' ;;
        esac
    done
    check_not test -e x
    ctl reset
    fault '* * 500 n=2'
    ends 0 put --retries 2 a s3://bkt/code/again
    is "$(ctl stats requests)" 3
    fault '* * 500 n=2'
    ends 5 put --retries 1 a s3://bkt/code/again
    for what in slowdown 429 request-timeout 502 504 reset-before reset-during reset-after \
        drop cut-head garbage-reply; do
        fault "* * $what n=1"
        ends 0 put --retries 3 b s3://bkt/code/again
        calm
        check same b s3://bkt/code/again
        ends 0 put a s3://bkt/code/again
    done
    (
        AWS_ENDPOINT_URL=http://127.0.0.1:1
        ends 5 ls --retries 1
        err 'cannot connect to 127.0.0.1 port 1' refused
        AWS_ENDPOINT_URL=http://no-such-host.invalid
        ends 5 ls --retries 0
        err no-such-host.invalid
    )
    fault '* * stall=10'
    ends 5 ls --retries 0 --timeout 1
    err stalled '1 s'
    calm
    # 6: refused.
    ctl reset
    (
        export AWS_SECRET_ACCESS_KEY=wrong
        ends 6 put a b s3://bkt/code/
        err SignatureDoesNotMatch 'secret key' 'b was not sent, for the same reason'
        ends 6 get s3://bkt/code/a s3://bkt/code/b ./
        err SignatureDoesNotMatch 's3://bkt/code/b was not fetched'
        ends 6 rm s3://bkt/code/a s3://bkt/code/b
        err SignatureDoesNotMatch '2 objects'
        ends 6 rm s3://bkt/code/a s3://other/b s3://third/c
        err 's3://third/c was not deleted, for the same reason'
        ends 6 ls
        ends 6 mb s3://newone
    )
    is "$(ctl stats requests)" 6
    (
        export AWS_ACCESS_KEY_ID=nobody
        ends 6 get s3://bkt/code/a x
        err InvalidAccessKeyId 'does not know this access key'
        ends 6 stat s3://bkt/code/a
        err 'answered 403' 'are the keys right'
    )
    ends 6 get --no-sign-request s3://bkt/code/a x
    err AccessDenied 'are the keys right, and may they do this?'
    fault '* * access-denied'
    ends 6 put a b s3://bkt/code/
    err AccessDenied code/a code/b
    ends 6 rm s3://bkt/code/a s3://bkt/code/b
    calm
    fault '* * expired-token'
    ends 6 ls
    err ExpiredToken 'have expired'
    calm
    # 9: what came is not what was sent.
    fault 'GetObject * wrong-body'
    printf old >x
    ends 9 get s3://bkt/code/b x
    err s3://bkt/code/b MD5
    is "$(cat x)" old
    ends 9 get s3://bkt/code/b -
    calm
    fault '* * bad-digest'
    ends 9 put a s3://bkt/code/digest
    err BadDigest
    calm
    fault '* * bad-digest n=1'
    ends 0 put a s3://bkt/code/digest
    calm
    # A wrong clock is corrected, by the store's.
    "$S3D" ctl "$PORT" clock 86400
    ends 0 put a s3://bkt/code/clock
    err 'warning: ' clock
    "$S3D" ctl "$PORT" clock 0
    is "$(ls -A | tr '\n' ' ')" 'a b x '
    # 141: nobody reads. No message.
    bytes 300000 >big
    ends 0 put big s3://bkt/code/
    for words in 'get s3://bkt/code/big -' 'get --json s3://bkt/code/big -' \
        'get s3://bkt/code/big s3://bkt/code/big -'; do
        last="s3up $words | true"
        # shellcheck disable=SC2086
        { "$S3UP" $words 2>"$T/err"; echo $? >rc; } | true
        is "$(cat rc)" 141
        silent err
    done
    mkdir many
    (cd many && i=0 && while [ $i -lt 200 ]; do : >$i && i=$((i + 1)); done)
    fault 'PutObject *many/9* stall=1 n=1' # so that head has gone by then
    last='put --json of many files | head -n 1'
    { "$S3UP" put --json many/* s3://bkt/code/many/ 2>"$T/err"; echo $? >rc; } | head -n 1 \
        >line
    is "$(cat rc)" 141
    silent err
    json line
    is "$("$S3UP" ls -r s3://bkt/code/many/ | grep -c .)" 200
    calm
    last='ls of many objects | true'
    { sleep 0.1; "$S3UP" ls -r s3://bkt/code/ 2>"$T/err"; echo $? >rc; } | true
    is "$(cat rc)" 141
    silent err
    # Events come when they happen, not at the end.
    fault 'PutObject *second* stall=3'
    cp a second
    begin put --json a second s3://bkt/code/
    until_so has "$T/out" '"source":"a"'
    check lives "$pid"
    check_not has "$T/out" second
    kill -s INT "$pid"
    ended 130
    calm
    last='get - | head -c 100000'
    { "$S3UP" get s3://bkt/code/big - 2>"$T/err"; echo $? >rc; } | head -c 100000 >/dev/null
    is "$(cat rc)" 141
    silent err
    last='ls | true'
    { sleep 0.1; "$S3UP" ls 2>"$T/err"; echo $? >rc; } | true
    is "$(cat rc)" 141
    silent err
}

# The bytes arrive, whatever happens on the way.
sec_resume() {
    bytes 3000000 >a
    ends 0 put a s3://bkt/resume/a
    for what in short-body cut-reply; do
        ctl reset
        fault "GetObject * $what n=1"
        rm -f x
        ends 0 get s3://bkt/resume/a x
        check cmp -s a x
        is "$(ctl log | grep -c ' 206 ')" 1
        check has_head 'range: bytes=1500000-'
        ctl reset
        fault "GetObject * $what n=2"
        ends 0 get s3://bkt/resume/a -
        check cmp -s a "$T/out"
        is "$(ctl log | grep -c ' 206 ')" 2
        calm
    done
    for what in until-close chunked-reply http10 interim=3; do
        fault "GetObject * $what"
        ends 0 get s3://bkt/resume/a x
        check cmp -s a x
        calm
    done
    # Where neither a length nor a sum is told, an end may be a cut.
    fault 'GetObject * until-close' 'GetObject * no-etag' 'GetObject * no-sum'
    cp x keep
    ends 5 get --retries 0 s3://bkt/resume/a x
    err s3://bkt/resume/a 'did not say how long'
    check cmp -s keep x
    calm
    rm keep
    fault 'GetObject * chunked-reply' 'GetObject * no-etag'
    ends 0 get s3://bkt/resume/a x
    check cmp -s a x
    calm
    # But a checksum tells, too.
    fault 'GetObject * until-close' 'GetObject * no-etag'
    ends 0 get s3://bkt/resume/a x
    check cmp -s a x
    calm
    # It changed in between: nothing is put together from two objects.
    printf old >x
    fault 'GetObject * short-body n=1' 'GetObject * reset-before after=1'
    bytes 3000000 | tr 0 1 >b
    ctl reset
    begin get --retries 30 s3://bkt/resume/a x
    until_so eval '[ "$(ctl stats requests)" -ge 2 ]'
    "$S3UP" put -q b s3://bkt/resume/a
    calm
    ended 0
    err 'starting over' 'the object changed'
    check cmp -s b x
    calm
    printf old >x
    # A store that cannot continue.
    quirk range-ignored
    fault 'GetObject * short-body n=1'
    ends 5 get --retries 1 s3://bkt/resume/a x
    quirk wrong-content-range
    fault 'GetObject * short-body n=1'
    ends 5 get --retries 1 s3://bkt/resume/a x
    quirk ''
    calm
    is "$(cat x)" old
    is "$(ls -A | tr '\n' ' ')" 'a b x '
}

# A file that changes while it is sent is not stored, in whatever way it changes.
sec_changes() {
    for how in grow truncate rewrite touch; do
        head -c 24000000 /dev/zero >$how
    done
    fault 'PutObject * stall-body=1' # half-way; the rest is more than sockets hold
    ctl reset
    pids=
    for how in grow truncate rewrite touch; do
        "$S3UP" put --threshold 1G --retries 0 $how s3://bkt/changes/ >"$T/out" 2>$how.err &
        pids="$pids $how:$!"
    done
    until_so eval '[ "$(ctl stats requests)" -ge 4 ]'
    sleep 0.2
    echo more >>grow
    : >truncate
    printf X | dd of=rewrite bs=1 seek=23999999 conv=notrunc 2>/dev/null
    touch touch
    for pid in $pids; do # each is sent once more, as it is now
        how=${pid%:*} pid=${pid#*:}
        last="put of a file, and $how"
        cat $how.err >"$T/err"
        ended 0
        cat $how.err >"$T/err"
        err "$how: starting over"
    done
    calm
    for how in grow truncate rewrite touch; do
        check same $how s3://bkt/changes/$how
    done
    # What changes all the time is not sent at all.
    (while [ -d . ] && [ ! -e enough ]; do echo more >>always; done) &
    head -c 24000000 /dev/zero >>always # more than sockets hold
    fault 'PutObject * slow-read=24000000'
    ends 3 put --threshold 1G always s3://bkt/changes/
    err always again 'not sent'
    : >enough
    wait $!
    calm
    check gone s3://bkt/changes/always
    # One that is replaced is the one that was opened; a change of mode is none.
    { bytes 1000 && head -c 24000000 /dev/zero; } >replace
    cp replace mode
    cp replace before
    fault 'PutObject * stall-body=1'
    ctl reset
    begin put --threshold 1G replace s3://bkt/changes/
    "$S3UP" put --threshold 1G -q mode s3://bkt/changes/ &
    until_so eval '[ "$(ctl stats requests)" -ge 2 ]'
    echo new >other
    mv other replace
    chmod 600 mode
    ended 0
    wait $!
    calm
    check same before s3://bkt/changes/replace
    check same before s3://bkt/changes/mode
}

# What a process has had in memory at most, in KiB, as long as it lives.
watch_memory() { # PID
    most=0
    while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2>/dev/null) &&
        [ -n "$now" ]; do
        most=$now
        sleep 0.05
    done
}

# Memory does not grow with the file.
sec_stream() {
    if grep -q __asan_init "$S3UP"; then
        skip 'the memory of a program with AddressSanitizer says nothing'
        return
    fi
    size=1073741824
    dd if=/dev/null of=big bs=1 seek=$size 2>/dev/null
    store sink --sink --bucket bkt --key "$KEY:$SECRET"
    PORT=$(cat "$W/sink.port") AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$W/sink.port")
    begin put big s3://bkt/big
    watch_memory "$pid"
    ended 0
    last="put of 1 GiB"
    check test "$most" -gt 100 -a "$most" -lt 8192
    run ls --json s3://bkt/big
    out '"size":1073741824'
    echo "memory of put: $most KiB"
    last="get of 1 GiB"
    "$S3UP" get s3://bkt/big - 2>"$T/err" >/dev/null &
    pid=$!
    watch_memory "$pid"
    ended 0
    check test "$most" -gt 100 -a "$most" -lt 8192
    echo "memory of get: $most KiB"
    err '1073741824 bytes'
    # A file is checked, too; the store sends zeros.
    head -c 50000000 /dev/zero >zeros
    ends 0 put zeros s3://bkt/zeros
    ends 0 get s3://bkt/zeros back
    check cmp -s zeros back
}

# The certificate must be one that is trusted, and for the host that was meant.
sec_tls() {
    if ! command -v openssl >/dev/null; then
        skip 'certificates are not tried: install openssl'
        return
    fi
    for name in good other; do
        openssl req -x509 -newkey rsa:2048 -nodes -keyout $name.key -out $name.pem -days 30 \
            -subj "/CN=$name" -addext 'subjectAltName=DNS:localhost' 2>/dev/null
    done
    mkdir -p bkt
    printf 'by TLS\n' >bkt/a
    : >tls.log
    n=0
    until [ $n = 20 ] || has tls.log ACCEPT; do # on a port that is free: found by trying
        n=$((n + 1))
        port=$((20000 + ($$ * 7 + n * 131) % 12000))
        openssl s_server -accept $port -cert good.pem -key good.key -WWW >tls.log 2>&1 &
        echo $! >>"$W/pids"
        until_so eval 'has tls.log ACCEPT || ! lives $!'
    done
    AWS_ENDPOINT_URL=https://localhost:$port
    ends 0 get --ca-file good.pem s3://bkt/a x
    check cmp -s bkt/a x
    ends 0 get --ca-bundle good.pem s3://bkt/a -
    for variable in AWS_CA_BUNDLE SSL_CERT_FILE S3UP_CA_FILE; do
        (
            export $variable=good.pem
            ends 0 get s3://bkt/a -
        )
    done
    printf '[profile tls]\nca_bundle = %s/good.pem\naws_access_key_id = %s
aws_secret_access_key = %s\n' "$PWD" $KEY $SECRET >config
    AWS_CONFIG_FILE=config
    export AWS_CONFIG_FILE
    ends 0 get --profile tls s3://bkt/a -
    rm x
    refused 6 'localhost|certificate' get s3://bkt/a x
    refused 6 'localhost|certificate' get --ca-file other.pem s3://bkt/a x
    refused 6 '127.0.0.1|certificate' get --ca-file good.pem -e https://127.0.0.1:$port \
        s3://bkt/a x
    refused 4 'none.pem' get --ca-file none.pem s3://bkt/a x
    refused 2 'config|no certificate' get --ca-file config s3://bkt/a x
    # A server that does not speak TLS.
    ends 5 get --retries 0 --timeout 1 -e "https://127.0.0.1:$PORT" s3://bkt/a x
    check test ! -e x
}

# ---- bad input ----

# What is wrong is refused before anything is sent, by name, with the reason and a way out.
sec_options() {
    printf hi >a
    refused 2 'put --regoin|no such option|did you mean --region?' put --regoin x a s3://bkt
    refused 2 'ls --zzzzzz|no such option|s3up help ls' ls --zzzzzz
    refused 2 'stat --recursive|does not belong|s3up help stat' stat --recursive s3://bkt
    refused 2 'presign --dry-run|does not belong' presign --dry-run s3://bkt/a
    refused 2 'put -Z|no such option|s3up help put|--' put -Z a s3://bkt
    refused 2 'get -x|--' get s3://bkt/a -x
    refused 2 '"pt"|did you mean "put"?' pt a s3://bkt
    refused 2 '"upload"|did you mean "uploads"' upload a s3://bkt
    refused 2 '--json|before the command|s3up COMMAND [OPTION' --json put a s3://bkt
    refused 2 '--json takes no value' put --json=1 a s3://bkt
    refused 2 '--retries needs N' put a s3://bkt --retries
    refused 2 '-e|--endpoint-url needs URL' put a s3://bkt -e
    refused 2 '--region|empty' put --region= a s3://bkt
    for value in 0 x 1.5h -1 '' 99999999999999999999 5mm; do
        refused 2 "--timeout wants TIME|\"$value\"" put --timeout "$value" a s3://bkt
    done
    refused 2 '30s|5m|12h|7d' put --timeout 0 a s3://bkt
    for value in x -1 1s 99999999999; do
        refused 2 "--retries wants N|\"$value\"|whole number" put --retries "$value" a s3://bkt
    done
    refused 2 'addressing|auto, path or virtual|"foo"' put --addressing foo a s3://bkt
    refused 2 'checksum|"foo"|auto, sha256|none' put --checksum foo a a s3://bkt
    is "$(grep -c . "$T/err")" 1
    refused 2 '--metadata|NAME=VALUE|"x"|no =' put --metadata x a s3://bkt
    refused 2 '--metadata|name' put --metadata =x a s3://bkt
    refused 2 '--metadata|"a b"|name' put --metadata 'a b=x' a s3://bkt
    refused 2 "--header|'NAME: VALUE'|\"x\"|no :" put --header x a s3://bkt
    for text in 'x-a=hush-hush' 'x-a hush-hush'; do
        refused 2 '"x-a"|no :' put --header "$text" a s3://bkt
        check_not has "$T/err" hush-hush
    done
    for end in '\r' '\n' '\r\nx-amz-acl: public-read' '\001' '\177'; do
        refused 2 '"x-a"|control character' put --header "x-a: 1$(printf "$end.")" a s3://bkt
        refused 2 '"a"|control character' put --metadata "a=$(printf "$end.")" a s3://bkt
        refused 2 'control character' put --content-type "a$(printf "$end.")" a s3://bkt
    done
    for name in Host Content-Length Transfer-Encoding Connection Authorization Expect \
        X-Amz-Date X-Amz-Content-SHA256 x-amz-security-token x-amz-meta-s3up-id; do
        refused 2 "\"$name\"|itself" put --header "$name: hush-hush" a s3://bkt
        check_not has "$T/err" hush-hush
    done
    set --
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
        set -- "$@" --metadata "k$n=v"
    done
    refused 2 'no more than 24' put "$@" a s3://bkt
    shift 2
    ends 0 put "$@" a s3://bkt/opt/meta
    refused 2 's3://bkt/x names an object' mb s3://bkt/x
    # As variables.
    (
        export S3UP_TIMEOUT=soon
        refused 2 'S3UP_TIMEOUT wants TIME|"soon"' put a s3://bkt
    )
    (
        export S3UP_HEADER='x-a hush-hush'
        refused 2 'S3UP_HEADER|no :' put a s3://bkt
        export S3UP_HEADER='Host: hush-hush'
        refused 2 'S3UP_HEADER|"Host"' put a s3://bkt
        check_not has "$T/err" hush-hush
        ends 0 ls s3://bkt/opt/
    )
    for word in 0 false no Off NO; do
        (
            export S3UP_NO_SIGN_REQUEST=$word S3UP_DRY_RUN=$word S3UP_JSON=$word
            ends 0 put a s3://bkt/opt/flag
            silent out
            err '->'
        )
    done
    for word in 1 true yes On TRUE; do
        (
            export S3UP_DRY_RUN=$word
            refused 0 'would put' put a s3://bkt/opt/flag2
        )
    done
    (
        export S3UP_DRY_RUN=maybe
        refused 2 'S3UP_DRY_RUN wants 1 or 0|"maybe"' put a s3://bkt/opt/flag2
    )
    # Help is given wherever it is asked for.
    ends 0 help put
    cp "$T/out" help
    for words in 'put --help' 'put -h' 'put a b --json --help' 'put --zzz -h'; do
        # shellcheck disable=SC2086
        ends 0 $words
        check cmp -s help "$T/out"
        silent err
    done
    # A header that is given twice is sent once, and the user's own wins.
    sum=$("$S3D" sum md5 <a)
    ends 0 put --checksum md5 --header "Content-MD5: ${sum#* }" -n \
        --header 'If-None-Match: *' a s3://bkt/opt/twice
    ends 9 put --retries 1 --checksum md5 --header 'Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==' \
        a s3://bkt/opt/wrong
    check gone s3://bkt/opt/wrong
}

# Runs a command as somebody who is not root, if that can be done here.
if [ "$(id -u)" != 0 ]; then
    nobody=
elif command -v setpriv >/dev/null; then
    nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
else
    nobody=none
fi

sec_input() {
    printf hi >a
    cp a b
    mkdir d
    mkfifo fifo
    ln -s nowhere dead
    ln -s loop loop
    long=$(printf '%01025d' 1)
    refused 4 'nothing|No such file' put nothing s3://bkt
    refused 4 'dead|No such file' put dead s3://bkt
    refused 2 'loop|ymbolic link' put loop s3://bkt
    refused 4 'a/b|Not a directory' put a/b s3://bkt
    refused 2 'd is a folder|name the files in it' put d s3://bkt
    refused 2 'd/|no name of a file' put d/ s3://bkt
    refused 2 'd/.|is a folder' put d/. s3://bkt
    refused 2 'fifo is not a plain file' put fifo s3://bkt
    refused 2 '/dev/zero is not a plain file' put /dev/zero s3://bkt
    refused 2 '""|no name of a file' put '' s3://bkt
    refused 2 'standard input has no name' put - s3://bkt
    refused 2 's3://bkt/a is not a file' put s3://bkt/a s3://bkt/b
    refused 2 'https://h/b is not a file' put https://h/b s3://bkt/b
    # All are looked at before any is sent.
    refused 2 'standard input' put a - s3://bkt/input/
    refused 2 's3://bkt/z is not a file' put a s3://bkt/z s3://bkt/input/
    refused 2 'http://h/b is not a file' put a http://h/b s3://bkt/input/
    if [ -r /proc/version ]; then
        refused 2 '/proc/version|says that it is empty' put /proc/version s3://bkt
        refused 5 '/proc/self/mem|read' put /proc/self/mem s3://bkt
    fi
    refused 2 'FILE|s3://BUCKET' put
    refused 2 'FILE|s3://BUCKET' put a
    refused 2 'FILE|s3://BUCKET' put s3://bkt
    refused 2 'b: it must begin with s3://' put a b
    refused 2 'S3://bkt: it must begin with s3://' put a S3://bkt
    refused 2 's3:/bkt: it must begin with s3://' put a s3:/bkt
    refused 2 's3:///k|bucket' put a s3:///k
    refused 2 's3://: |bucket' put a s3://
    refused 2 's3://../k: no bucket' put a s3://../k
    refused 2 's3://.: no bucket' rb s3://.
    refused 2 'several files|ends in /' put a b s3://bkt/x
    refused 2 's3://bkt/0000|...: the key is longer' put a "s3://bkt/$long"
    refused 2 's3://bkt/0000|...: the key is longer' get "s3://bkt/$long" x
    refused 2 's3://bkt/0000|...: the key is longer' rm s3://bkt/x "s3://bkt/$long"
    refused 2 'a: |the key|1024' put a "s3://bkt/${long%??}/"
    name=$(printf '%0255d' 1)
    refused 4 "$name/x|No such file" put "nodir/$name/x" s3://bkt
    path=$(printf '%04000d' 1 | sed 's|0000000|000000/|g')
    refused 4 "$path|No such file" put "$path" s3://bkt
    path=$path$path
    refused 2 'too long' put "$path" s3://bkt
    if command -v python3 >/dev/null; then
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        refused 2 socket put socket s3://bkt
    fi

    refused 2 's3://BUCKET/KEY' get
    refused 2 'x: it must begin with s3://' get x
    refused 2 'x: it must begin with s3://' get x y
    refused 2 's3://bkt names no object' get s3://bkt
    refused 2 's3://bkt/ names no object' get s3://bkt/ x
    refused 2 's3:///k|bucket' get s3:///k x
    refused 2 'https://h/b/k: it must begin with s3://' get https://h/b/k x
    for key in .. . a/.. a/. a/; do
        refused 2 "key $key|file name|say which" get "s3://bkt/$key"
        refused 2 "key $key|file name|say which" get "s3://bkt/$key" d
        refused 2 "key $key|file name|say which" get "s3://bkt/$key" d/
    done
    refused 2 'several objects|a is none' get s3://bkt/a s3://bkt/b a
    refused 2 'several objects|fresh is none' get s3://bkt/a s3://bkt/b fresh
    refused 2 'PATH|. for this folder|- for standard output' get s3://bkt/a ''
    mkdir x y
    printf 1 >x/f
    printf 2 >y/f
    refused 2 'x/f|y/f|same name' put x/f a y/f s3://bkt/input/
    refused 2 'f|f|same name' put x/f x/f s3://bkt
    refused 2 's3://bkt/y/f|s3://bkt/x/f|same name' get s3://bkt/y/f s3://bkt/x/f d
    ends 0 put a s3://bkt/input/a
    refused 4 'nodir/x|No such file' get s3://bkt/input/a nodir/x
    refused 4 'nodir/a|No such file' get s3://bkt/input/a nodir/
    refused 4 'a/x|Not a directory' get s3://bkt/input/a a/x
    mkdir -p d/a
    ends 2 get s3://bkt/input/a d
    err 'd/a' folder
    is "$(ls -A d)" a

    refused 2 's3://bkt|too' ls s3://bkt/a s3://bkt
    refused 2 'a: it must begin' ls a
    for verb in stat mb rb presign; do
        refused 2 "$verb takes one s3://BUCKET" $verb
        refused 2 "$verb takes one s3://BUCKET" $verb s3://bkt/a s3://bkt/b
        refused 2 'x: it must begin' $verb x
    done
    refused 2 's3://BUCKET/KEY' rm
    refused 2 'x: it must begin' rm s3://bkt/a x
    refused 2 's3://bkt/x names an object' rb s3://bkt/x

    if [ "$nobody" = none ]; then
        skip "rights are not tried: root, and no setpriv"
        return
    fi
    cp "$S3UP" "$W/s3up"
    chmod 755 "$W" "$W/s3up"
    chmod 555 d
    chmod 000 b
    chmod 777 .
    S3UP=$W/s3up limit="$limit $nobody"
    refused 6 'b: Permission denied' put b s3://bkt
    refused 6 'd/x: Permission denied' get s3://bkt/input/a d/x
    chmod 000 d
    refused 6 'd/x: Permission denied' get s3://bkt/input/a d/x
    refused 6 'd/x: Permission denied' put d/x s3://bkt
    # A folder to put things into, and not to look at.
    mkdir -m 777 drop
    chmod 333 drop
    ends 0 get s3://bkt/input/a drop/x
    ends 0 get -n s3://bkt/input/a drop/y
    chmod 777 drop
    check cmp -s a drop/x
    check cmp -s a drop/y
    chmod 755 d
    chmod 600 b
}

# ---- settings ----

# Every request tells what it was made from: its host, the region it is signed for, whose
# key signed it, and whether there was a token.
sent_as() { # KEY REGION
    is "$(ctl heads | sed -n 's/.*Credential=\([^/]*\)[/][0-9]*[/]\([^/]*\)[/]s3[/].*/\1 \2/p' |
        tail -n 1)" "$1 $2"
}

sec_endpoints() {
    printf hi >a
    unset AWS_ENDPOINT_URL
    good=http://127.0.0.1:$PORT
    wrong=http://127.0.0.1:1
    for case in 'localhost:9000|begin with http' 'ftp://h|begin with http' \
        'http://h:70000|port' 'http://h:0|port' 'http://h:x|port' 'http://|host' \
        'http://h/?a=hush-hush|query' 'http://user:hush-hush@h|user' 'http://a b|blank' \
        'http://h#x|#' 'http://[::1|brackets' 'http://h_h!|host'; do
        refused 2 "endpoint|is not usable: |${case#*|}" ls --endpoint-url "${case%%|*}"
        check_not has "$T/err" hush-hush
    done
    refused 2 'region|no name of a region|"a b"' ls -e $good --region 'a b'
    refused 2 'region|no name of a region' ls --region a.evil.example/

    # Flag, then S3UP_, then AWS_, then the profile, then the default.
    mkdir .aws
    HOME=$PWD
    printf '[default]\nendpoint_url = %s\nregion = eu-west-1\n' $good >.aws/config
    quirk any-region
    ends 0 ls s3://bkt
    sent_as $KEY eu-west-1
    printf '[default]\nendpoint_url = %s\nregion = eu-west-1\n' $wrong >.aws/config
    (
        export AWS_ENDPOINT_URL=$good AWS_DEFAULT_REGION=eu-west-2
        ends 0 ls s3://bkt
        sent_as $KEY eu-west-2
        export AWS_REGION=eu-west-3
        ends 0 ls s3://bkt
        sent_as $KEY eu-west-3
        AWS_ENDPOINT_URL=$wrong AWS_ENDPOINT_URL_S3=$good
        export AWS_ENDPOINT_URL_S3
        ends 0 ls s3://bkt
        AWS_ENDPOINT_URL_S3=$wrong
        export S3UP_ENDPOINT_URL=$good S3UP_REGION=eu-north-1
        ends 0 ls s3://bkt
        sent_as $KEY eu-north-1
        S3UP_ENDPOINT_URL=$wrong
        ends 0 ls --endpoint-url $good --region ap-east-1 s3://bkt
        sent_as $KEY ap-east-1
        S3UP_ENDPOINT_URL='' S3UP_REGION='' # empty is as good as not set
        AWS_ENDPOINT_URL_S3=$good AWS_REGION='' AWS_DEFAULT_REGION=''
        ends 0 ls s3://bkt
        sent_as $KEY eu-west-1
    )
    printf '[default]\nendpoint_url = %s\n' $good >.aws/config
    ends 0 ls s3://bkt
    sent_as $KEY us-east-1
    # Endpoints of the shared files can be switched off; a flag still counts. What is asked
    # then is AWS itself: nothing is listening on the way there.
    (
        export AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true https_proxy=$wrong
        ends 5 ls --retries 0 s3://bkt
        err 127.0.0.1 'port 1'
        ends 0 ls -e $good s3://bkt
        S3UP_ENDPOINT_URL=$good
        export S3UP_ENDPOINT_URL
        ends 0 ls s3://bkt
        AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=false
        unset S3UP_ENDPOINT_URL
        ends 0 ls s3://bkt
    )
    cat >.aws/config <<C
[services here]
s3 =
    endpoint_url = $good
dynamodb =
    endpoint_url = $wrong
[profile other]
endpoint_url = $wrong
my note = $wrong
services = here
aws_access_key_id = $KEY
aws_secret_access_key = $SECRET
[profile last]
services = late
[services late]
s3 =
  endpoint_url = $good
C
    ends 0 ls --profile other s3://bkt
    AWS_PROFILE=other
    export AWS_PROFILE
    ends 0 ls s3://bkt
    AWS_PROFILE=last
    ends 0 ls s3://bkt
    unset AWS_PROFILE
    quirk ''

    # path and virtual; s3d, as a proxy, is asked for whatever host it is.
    cat >.aws/config <<C
[default]
endpoint_url = http://s3.test
s3 =
    addressing_style = virtual
C
    export http_proxy=$good
    ends 0 ls s3://bkt
    check has_head 'host: bkt.s3.test'
    ends 0 ls --addressing path s3://bkt
    check has_head 'host: s3.test'
    printf '[default]\nendpoint_url = http://s3.test\ns3 =\n  addressing_style = path\n' \
        >.aws/config
    ends 0 ls s3://bkt
    check has_head 'host: s3.test'
    ends 0 ls --addressing virtual s3://bkt
    check has_head 'host: bkt.s3.test'
    (
        export S3UP_ADDRESSING=virtual
        ends 0 ls s3://bkt
        check has_head 'host: bkt.s3.test'
    )
    printf '[default]\nendpoint_url = http://s3.test\ns3 =\n  addressing_style = odd\n' \
        >.aws/config
    refused 2 'addressing|"odd"' ls s3://bkt
}

has_head() { # is it in the head of the last request?
    last="$last, last request"
    ctl heads | tr -d '\r' | awk -v want="$1" '
        /^[A-Z]+ / { found = 0 } $0 == want { found = 1 } END { exit !found }'
}

# A program that prints keys; what it prints or does is in the file ./keys.
sec_keys() {
    HOME=$PWD
    mkdir .aws
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    quirk any-region
    refused 6 'no keys|AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|.aws/credentials|"default"' ls
    (
        unset HOME
        refused 6 'no keys|HOME is not set' ls
        refused 2 'no profile|"x"|HOME is not set' ls --profile x
        export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET
        ends 0 ls
    )
    (
        export AWS_ACCESS_KEY_ID=$KEY
        refused 2 'AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not' ls
    )
    (
        export AWS_SECRET_ACCESS_KEY=$SECRET
        refused 2 'AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is not' ls
    )
    fault 'ListBuckets * error=AccessDenied'
    ends 6 ls --no-sign-request
    check_not has_head 'authorization'
    calm

    # The files, and who wins.
    cat >.aws/config <<C
[default]
aws_access_key_id = nobody
aws_secret_access_key = nothing
[profile default]
region = eu-south-1
[profile both]
aws_access_key_id = nobody
aws_secret_access_key = nothing
aws_session_token = of somebody else
[profile temp]
aws_access_key_id = $TKEY
aws_secret_access_key = $TSECRET
aws_session_token = $TOKEN
[profile half]
aws_access_key_id = $KEY
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = temp
aws_access_key_id = $KEY
aws_secret_access_key = $SECRET
[profile sso]
sso_session = x
[profile web]
web_identity_token_file = /x
[profile bare]
region = eu-west-1
C
    cat >.aws/credentials <<C
# A comment.
[default]
aws_access_key_id = $KEY
aws_secret_access_key = $SECRET
[both]
aws_access_key_id=$KEY
aws_secret_access_key=$SECRET
C
    ends 0 ls
    sent_as $KEY eu-south-1
    (
        # Nothing of [default] is mixed into [profile default], wherever it stands.
        cat >two <<C
[default]
aws_session_token = of somebody else
region = ap-south-1
[profile default]
aws_access_key_id = $KEY
aws_secret_access_key = $SECRET
C
        export AWS_CONFIG_FILE=two AWS_SHARED_CREDENTIALS_FILE=/dev/null
        ends 0 ls
        sent_as $KEY us-east-1
        check_not has_head 'x-amz-security-token'
    )
    for file in config credentials; do
        awk '{ printf "%s\r\n", $0 }' .aws/$file >x
        mv x .aws/$file
    done
    ends 0 ls --profile both
    sent_as $KEY us-east-1
    ends 0 ls --profile temp
    sent_as $TKEY us-east-1
    check has_head "x-amz-security-token: $TOKEN"
    is "$(ctl heads | grep -c 'SignedHeaders=[^,]*x-amz-security-token')" 1
    (
        export AWS_PROFILE=temp
        ends 0 ls
        sent_as $TKEY us-east-1
        AWS_PROFILE=both
        ends 0 ls --profile temp
        sent_as $TKEY us-east-1
        # Keys in the environment beat a profile that the environment names, not one that
        # was asked for.
        export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET
        AWS_PROFILE=temp
        ends 0 ls
        sent_as $KEY us-east-1
        ends 0 ls --profile temp
        sent_as $TKEY us-east-1
        export S3UP_PROFILE=temp
        ends 0 ls
        sent_as $TKEY us-east-1
    )
    (
        export AWS_ACCESS_KEY_ID=$TKEY AWS_SECRET_ACCESS_KEY=$TSECRET AWS_SESSION_TOKEN=$TOKEN
        ends 0 ls
        sent_as $TKEY eu-south-1
        ends 0 presign s3://bkt/a
        check has "$T/out" X-Amz-Security-Token=
        AWS_SESSION_TOKEN=wrong
        ends 6 ls
        err InvalidToken 'does not belong to the keys'
    )
    (
        export AWS_DEFAULT_PROFILE=temp
        ends 0 ls
        sent_as $TKEY us-east-1
    )
    refused 2 'no profile|"nix"|.aws/config|.aws/credentials' ls --profile nix
    (
        export AWS_PROFILE=nix
        refused 6 'no keys|no profile "nix"' ls
    )
    refused 6 'no keys|profile bare has no keys' ls --profile bare
    refused 2 'profile half|only one of|aws_secret_access_key' ls --profile half
    refused 2 'profile role|role_arn|credential_process' ls --profile role
    refused 2 'profile sso|sso_session|credential_process' ls --profile sso
    refused 2 'profile web|web_identity_token_file|credential_process' ls --profile web
    mkdir elsewhere
    mv .aws/config elsewhere/c
    mv .aws/credentials elsewhere/k
    export AWS_CONFIG_FILE=elsewhere/c AWS_SHARED_CREDENTIALS_FILE=elsewhere/k
    ends 0 ls
    sent_as $KEY eu-south-1
    ends 0 ls --profile temp
    AWS_SHARED_CREDENTIALS_FILE=$PWD/none
    refused 2 'no profile "both2"|elsewhere/c|/none' ls --profile both2
    AWS_CONFIG_FILE=elsewhere
    refused 2 'elsewhere|directory' ls
    unset AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE

    # What cannot be read exactly is not guessed at.
    for case in '[default|2|]' 'x = 1|2|before the first' '[default]\nnonsense|3|neither' \
        '[default]\ns3 =\n  nonsense|4|without =' ' x = 1|2|indented' \
        '[default]\nx = 1\n[a\n|4|]' '[default]\nx = a\000b|3|NUL'; do
        told=${case#*|}
        printf '%b\n' "# first\n${case%%|*}" >.aws/config
        refused 2 ".aws/config line ${told%|*}: |${told#*|}" ls
        mv .aws/config .aws/credentials
        refused 2 ".aws/credentials line ${told%|*}: |${told#*|}" ls
        rm .aws/credentials
    done
    dd if=/dev/zero of=.aws/config bs=1024 count=1030 2>/dev/null
    refused 2 '.aws/config|larger' ls
    { printf '[default]\nendpoint_url = http://'; head -c 70000 /dev/zero | tr '\0' a; } \
        >.aws/config
    refused 2 'profile default|endpoint_url is too long' ls
    rm .aws/config
    # One that never comes to its end can be left.
    mkfifo fifo
    sleep 60 >fifo &
    sleeper=$!
    AWS_CONFIG_FILE=fifo
    export AWS_CONFIG_FILE
    begin ls
    sleep 0.2
    kill -s INT "$pid"
    ended 130
    kill "$sleeper"
    unset AWS_CONFIG_FILE
    # Keys that no header can carry are found out here, and by name.
    (
        AWS_SECRET_ACCESS_KEY=$SECRET$(printf '\r')
        export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY
        refused 2 'secret access key in the environment|control character' ls
        AWS_SECRET_ACCESS_KEY=$SECRET
        AWS_SESSION_TOKEN=$TOKEN$(printf '\r\nx: y')
        export AWS_SESSION_TOKEN
        refused 2 'session token in the environment|control character' ls
        AWS_SESSION_TOKEN=$(head -c 70000 /dev/zero | tr '\0' a)
        refused 2 'session token in the environment|too long' ls
        AWS_SESSION_TOKEN=''
        AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID$(printf '\n.')
        refused 2 'access key id in the environment|control character' ls
    )
    # Characters that mean something elsewhere.
    printf '[default]\naws_access_key_id = %s # a comment\naws_secret_access_key=%s\n' $KEY \
        $SECRET >.aws/credentials
    ends 0 ls
    printf '\357\273\277[ default ] # x\n\n;c\naws_access_key_id= %s\t\naws_secret_access_key =%s' \
        $KEY $SECRET >.aws/credentials
    ends 0 ls
    # Lines as they stand in scripts; a path that no shell has seen.
    printf '[default]\nAWS_ACCESS_KEY_ID = %s\nAws_Secret_Access_Key=%s\n' $KEY $SECRET >k
    # shellcheck disable=SC2088 # that is the point
    AWS_SHARED_CREDENTIALS_FILE='~/k'
    export AWS_SHARED_CREDENTIALS_FILE
    ends 0 ls
    unset AWS_SHARED_CREDENTIALS_FILE
    rm .aws/credentials
    quirk ''
}

sec_process() {
    HOME=$PWD
    mkdir .aws 'a folder'
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    good="{\"Version\":1,\"AccessKeyId\":\"$TKEY\",\"SecretAccessKey\":\"$TSECRET\",
        \"SessionToken\":\"$TOKEN\",\"Expiration\":\"2099-01-01T00:00:00Z\"}"
    keys() { # SCRIPT [ARGUMENT...]: what credential_process is from now on
        printf '#!/bin/sh\n%s\n' "$1" >'a folder/keys'
        chmod +x 'a folder/keys'
        printf '[default]\ncredential_process = "%s/a folder/keys" %s\n' "$PWD" "${2:-}" \
            >.aws/config
    }
    echo "$good" >good
    keys "cat '$PWD/good'"
    ends 0 ls
    sent_as $TKEY us-east-1
    check has_head "x-amz-security-token: $TOKEN"
    keys 'printf "%s\n" "$@" >args; echo some complaint >&2; cat good' \
        "one 'two words' \"thr'ee\" four\\ 4 \$HOME * && 'it'\\''s' \"a\\b\\\"\\\\\" ; a comment"
    ends 0 ls
    err 'some complaint'
    is "$(cat args)" "$(printf '%s\n' one 'two words' "thr'ee" 'four 4' \
        "\$HOME" '*' '&&' "it's" 'a\b"\')"
    rm args
    keys 'cat good; read line && echo "$line" >line; true'
    printf 'this is for s3up alone\n' >stdin
    IN=stdin
    ends 0 ls
    IN=/dev/null
    check test ! -e line
    keys 'exit 7'
    refused 6 'credential_process|a folder/keys|exit status' ls
    keys 'kill -9 $$'
    refused 6 'credential_process|a folder/keys' ls
    keys 'echo garbage hush-hush'
    refused 6 'credential_process|JSON' ls
    check_not has "$T/err" hush-hush
    keys 'echo "{\"Version\":2,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"hush-hush\"}"'
    refused 6 'credential_process|Version 1' ls
    check_not has "$T/err" hush-hush
    keys 'echo "{\"Version\":1,\"AccessKeyId\":\"a\"}"'
    refused 6 'SecretAccessKey' ls
    keys 'sed s/2099/soon/ good'
    refused 6 'Expiration' ls
    keys ':'
    refused 6 'credential_process' ls
    keys 'head -c 1048576 /dev/zero'
    refused 6 'credential_process|too long' ls
    keys 'exec cat /dev/zero' # for ever
    refused 6 'credential_process|too long' ls
    printf '[default]\ncredential_process = %s/none\n' "$PWD" >.aws/config
    refused 6 'credential_process|/none|could not be started' ls
    printf '[default]\ncredential_process = "%s/a folder/keys\n' "$PWD" >.aws/config
    refused 2 'credential_process|default|quote' ls
    keys 'cat good' "$(printf '%065d' 0 | sed 's/0/ x/g')"
    refused 2 'credential_process|more than 63 words' ls
    # One whose output has ended need not have ended itself.
    keys "cat good; echo \$\$ >'$PWD/pid'; exec >&-; exec sleep 300"
    begin ls
    until_so test -s pid
    sleep 0.1
    kill -s INT "$pid"
    ended 130
    check_not lives "$(cat pid)"
    rm pid
    keys 'cat good; exec >&-; sleep 0.3'
    ends 0 ls
    # Whoever starts us may not care for children; we do.
    keys 'cat good'
    limit="env --ignore-signal=CHLD"
    if $limit true 2>/dev/null; then ends 0 ls; else skip 'SIGCHLD: env cannot ignore it'; fi
    if command -v timeout >/dev/null; then limit='timeout 30'; else limit=; fi
    # One that hangs does not hang us; nor does it stay behind.
    keys "echo \$\$ >'$PWD/pid'; exec sleep 300"
    begin ls
    until_so test -s pid
    kill -s INT "$pid"
    ended 130
    check_not lives "$(cat pid)"
    if [ "${E2E_SLOW:-0}" = 1 ]; then
        limit=
        refused 6 'credential_process|in time' ls
    fi
    # Signals are as usual in it.
    keys 'yes | head -n 1 >/dev/null; trap >traps; cat good'
    ends 0 ls
    is "$(grep -c PIPE traps)" 0
    # It is not asked where it is not needed.
    keys 'touch asked; cat good'
    export AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET
    ends 0 ls
    check test ! -e asked
    ends 0 ls --profile default
    check test -e asked
}

# ---- when it is asked to stop ----

some_file() { # is there anything here that is not on the list?
    # shellcheck disable=SC2010 # the names are ours
    ls -A | grep -q -v -x -e "${1:-}"
}

busy() { # has a request come since the last reset?
    [ "$(ctl stats requests)" -gt 0 ]
}

sec_signals() {
    bytes 300000 >a
    printf keep >old
    ends 0 put a s3://bkt/sig/a
    ends 0 put a s3://bkt/sig/b
    mkdir here
    cd here || return
    fault 'GetObject * slow-write=50000'
    for signal in INT:130 TERM:143 HUP:129; do
        begin get s3://bkt/sig/a new
        until_so some_file
        kill -s "${signal%:*}" "$pid"
        ended "${signal#*:}"
        err interrupted
        is "$(ls -A)" ''
    done
    cp ../old new
    begin get s3://bkt/sig/a new
    until_so some_file new
    kill -s INT "$pid"
    ended 130
    is "$(ls -A) $(cat new)" 'new keep'
    rm new
    begin get s3://bkt/sig/a s3://bkt/sig/b ./
    until_so some_file
    kill -s INT "$pid"
    ended 130
    is "$(ls -A)" ''
    calm
    fault 'ListObjectsV2 * stall=10'
    ctl reset
    begin ls s3://bkt
    until_so busy
    kill -s TERM "$pid"
    ended 143
    silent out
    calm

    (
        trap '' HUP # as nohup does
        fault 'GetObject * slow-write=500000'
        begin get s3://bkt/sig/a kept
        until_so some_file
        kill -s HUP "$pid"
        ended 0
        check cmp -s ../a kept
        rm kept
    )
    calm
    # A reader that does not read must not keep us.
    mkfifo pipe
    sleep 60 <>pipe >/dev/null 2>&1 &
    sleeper=$!
    "$S3UP" get s3://bkt/sig/a - >pipe 2>"$T/err" &
    pid=$! last='get - to a pipe that is full'
    sleep 0.3
    kill -s TERM "$pid"
    ended 143
    kill "$sleeper"
    rm pipe

    cd ..
    head -c 16000000 /dev/zero >big
    fault 'PutObject * slow-read=200000'
    for signal in INT:130 TERM:143; do
        ctl reset
        begin put big a s3://bkt/sig/
        until_so busy
        kill -s "${signal%:*}" "$pid"
        ended "${signal#*:}"
        err interrupted 'a was not sent'
        check gone s3://bkt/sig/big
    done
    calm
    fault '* * 503'
    begin ls --retries 50
    sleep 0.5
    kill -s INT "$pid"
    ended 130
    calm
    # While a file is only read, for its sum.
    dd if=/dev/null of=sparse bs=1 seek=5000000000 2>/dev/null
    begin put sparse s3://bkt/sig/
    sleep 0.2
    kill -s INT "$pid"
    ended 130
    rm sparse
}

# What get writes to may be more than a new name.
sec_targets() {
    printf 'new\n' >a
    ends 0 put a s3://bkt/targets/a
    printf 'old and longer\n' >real
    chmod 600 real
    ln -s real link
    ends 0 get s3://bkt/targets/a link
    check test -L link
    check cmp -s a real
    is "$(ls -l real | cut -c 1-10)" -rw-------
    chmod 755 real
    ends 0 get s3://bkt/targets/a real
    is "$(ls -l real | cut -c 1-10)" -rwxr-xr-x
    mkdir deep
    ln -s ../real deep/up
    ln -s deep/up chain
    ends 0 get s3://bkt/targets/a chain
    check test -L chain -a -L deep/up
    is "$(ls -A deep)" up
    ln -s nowhere dead
    ends 7 get -n s3://bkt/targets/a dead
    check test -L dead
    ln -s /proc/self/fd/1 stdout # not /dev/stdout: root could lose it
    ends 0 get s3://bkt/targets/a stdout
    check cmp -s a "$T/out"
    check test -L stdout
    mkfifo fifo
    cat fifo >read &
    ends 0 get s3://bkt/targets/a fifo
    wait $!
    check test -p fifo
    check cmp -s a read
    ends 7 get -n s3://bkt/targets/a fifo
    begin get s3://bkt/targets/a fifo # which nobody opens
    sleep 0.2
    kill -s TERM "$pid"
    ended 143
    (
        umask 077
        ends 0 get s3://bkt/targets/a private
        is "$(ls -l private | cut -c 1-10)" -rw-------
    )
    is "$(ls -A | tr '\n' ' ')" 'a chain dead deep fifo link private read real stdout '
    if [ "$(id -u)" = 0 ] && command -v mknod >/dev/null; then
        mknod null c 1 3 # never /dev/null itself
        ends 0 get s3://bkt/targets/a null
        check test -c null
        chown 12345:12345 real
        ends 0 get s3://bkt/targets/a real
        is "$(ls -ln real | awk '{ print $3, $4 }')" '12345 12345'
    else
        ends 0 get s3://bkt/targets/a /dev/null
        skip 'owners are not tried: not root'
    fi
}

# ---- a hostile house ----

sec_limits() {
    bytes 300000 >big
    ends 0 put big s3://bkt/lim/big
    # Started with closed descriptors: what is printed must not end in a file or a socket.
    for closed in '2>&-' '0<&- 2>&-' '0<&- 1>&- 2>&-'; do
        last="put and get with $closed"
        eval '"$S3UP" put -v big s3://bkt/lim/closed '"$closed"
        is $? 0
        check same big s3://bkt/lim/closed
        rm -f back
        eval '"$S3UP" get -v s3://bkt/lim/closed back '"$closed"
        is $? 0
        check cmp -s big back
        eval '"$S3UP" get -v s3://bkt/lim/none back '"$closed"
        is $? 4
    done
    last='output that cannot be written'
    for words in 'ls' 'help' 'version' 'get s3://bkt/lim/big -' 'stat s3://bkt/lim/big' \
        'put --json big s3://bkt/lim/' 'presign s3://bkt/lim/big'; do
        for where in '>&-' '>/dev/full'; do
            last="s3up $words $where"
            [ -w /dev/full ] || continue
            eval '"$S3UP" $words 2>"$T/err" '"$where"
            rc=$?
            check test $rc -ne 0 -a $rc -lt 128
            err output
        done
    done
    # A limit on the size of files, as a full disk: nothing is left, the old file stays.
    printf keep >back
    printf '#!/bin/sh\nulimit -f 100\nexec "$@"\n' >"$T/small"
    chmod +x "$T/small"
    limit="$T/small"
    ends 5 get s3://bkt/lim/big back
    err back 'File too large'
    is "$(ls -A | tr '\n' ' ')$(cat back)" 'back big keep'
    limit='timeout 30'
    command -v timeout >/dev/null || limit=
    # A disk that is full, in a name space of our own: the mount ends with the command.
    if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
        mkdir disk
        cat >on-disk <<'D'
mount -t tmpfs -o size=128k tmpfs disk || exit 99
printf keep >disk/back
"$@"
code=$?
ls -A disk
cat disk/back
exit $code
D
        last='get to a full disk'
        unshare -m sh on-disk "$S3UP" get s3://bkt/lim/big disk/back >"$T/out" 2>"$T/err"
        is $? 5
        err 'disk/back' 'No space left'
        is "$(cat "$T/out")" "$(printf 'back\nkeep')"
    else
        skip 'no full disk is tried: that needs root and unshare'
    fi
    # Few descriptors, little memory: it works, or it says what is missing.
    for what in '-s 256' '-n 3' '-n 4' '-n 5' '-n 6' '-v 600' '-v 700' '-v 800' '-v 1000' \
        '-v 1200'; do
        case $what in
        -v* | '-n 3') ! grep -q __asan_init "$S3UP" || continue ;;
        esac
        printf '#!/bin/sh\nulimit %s\nexec "$@"\n' "$what" >"$T/small"
        chmod +x "$T/small"
        limit="$T/small"
        for words in 'put --retries 0 big s3://bkt/lim/' 'get --retries 0 s3://bkt/lim/big x'; do
            rm -f x
            # shellcheck disable=SC2086
            run $words
            last="ulimit $what; $last"
            case $rc in
            0) pass ;;
            2 | 5) err 'error: ' ;;
            *) fail "exit code $rc" ;;
            esac
        done
    done
    if command -v timeout >/dev/null; then limit='timeout 30'; else limit=; fi
    # Locales, a strange place to stand, strange arguments.
    (
        limit="env LC_ALL=tr_TR.UTF-8 LANG=xx LANGUAGE=de TZ=Asia/Kathmandu"
        ends 0 put big s3://bkt/lim/İI
        ends 4 get s3://bkt/lim/none x
        err 'does not exist'
        ends 0 ls s3://bkt/lim/
        out "$(TZ=UTC date +%Y-%m-%d)"
    )
    mkdir gone
    (
        cd gone && rmdir ../gone
        ends 0 get s3://bkt/lim/big -
        ends 4 get s3://bkt/lim/big x
        ends 0 ls
    )
    long=$(head -c 100000 /dev/zero | tr '\0' x)
    for words in "$long" "put $long" "put --$long" "put --metadata a=$long big s3://bkt/k" \
        "put --content-type $long big s3://bkt/k" "ls s3://$long" "ls s3://bkt/$long" \
        "get s3://bkt/k $long" "help $long" "ls -e http://$long" "ls --profile $long" \
        "ls --region $long" "put --checksum $long big s3://bkt/k"; do
        # shellcheck disable=SC2086
        run $words
        last=$(printf '%.60s' "$last")
        is "$rc" 2
        err 'error: '
        check test "$(wc -c <"$T/err")" -lt 20000
    done
    (
        S3UP_PROFILE=$long
        export S3UP_PROFILE
        ends 2 ls
        S3UP_PROFILE='' HOME=$long
        run ls
        check test "$rc" = 0 -o "$rc" = 2
    )
    # Killed outright, it leaves a temporary file, and never half a file under the name.
    printf keep >x
    fault 'GetObject * slow-write=50000'
    begin get s3://bkt/lim/big x
    until_so eval 'ls -A | grep -q "^x\."'
    kill -s KILL "$pid"
    wait "$pid" 2>/dev/null
    is "$(cat x)" keep
    calm
    ends 0 get s3://bkt/lim/big x
    check cmp -s big x
}

# ---- secrets ----

# The errors of a store may repeat what was sent. A reply of any kind is an object, and an
# endpoint with a path in it makes s3up take that object for the answer.
sec_secrets() {
    export AWS_ACCESS_KEY_ID=$TKEY AWS_SECRET_ACCESS_KEY=$TSECRET AWS_SESSION_TOKEN=$TOKEN
    head="AWS4-HMAC-SHA256 Credential=$TKEY/20261121/us-east-1/s3/aws4_request, Signature=0123"
    for text in "The token $TOKEN is malformed" "token=$TOKEN" "$TOKEN" \
        "Bad header: x-amz-security-token: $TOKEN; authorization: $head"; do
        printf '<?xml version="1.0"?><Error><Code>InvalidToken</Code><Message>%s</Message>
<Token-0>%s</Token-0><RequestId>%s</RequestId><Region>%s</Region></Error>' "$text" "$TOKEN" \
            "$TOKEN" "$TOKEN" >B
        ends 0 put B s3://bkt/echo/B
        for mode in --quiet --json --verbose; do
            run ls $mode --retries 0 -e "$AWS_ENDPOINT_URL/bkt/echo" s3://B
            check test "$rc" -ne 0
            err InvalidToken
            no_secret "$T/out" "$T/err"
        done
    done
    # What -v shows, of requests of every kind.
    sse='x-amz-server-side-encryption-customer-key: aHVzaC1odXNoLWh1c2gtaHVzaC1odXNoLWh1c2g='
    run put -v --header "$sse" --header 'Cookie: hush-hush' B s3://bkt/echo/C
    err 'x-amz-server-side-encryption-customer-key: ***' 'x-amz-security-token: ***' \
        'cookie: ***'
    check_not has "$T/err" aHVzaC1odXNo
    check_not has "$T/err" hush-hush
    ends 0 presign -v s3://bkt/echo/B
    silent err
    (
        AWS_SECRET_ACCESS_KEY=$SECRET
        for words in 'put -v B s3://bkt/echo/D' 'get -v s3://bkt/echo/B -' 'ls --json' \
            'rm -v s3://bkt/echo/D' 'stat -v s3://bkt/echo/B'; do
            # shellcheck disable=SC2086
            ends 6 $words
        done
    )
    # A presigned address, in every place where somebody may put one.
    url='https://h/b/k?X-Amz-Credential=hush-hush&X-Amz-Signature=hush-hush'
    url="$url&X-Amz-Security-Token=hush-hush"
    for words in URL 'help URL' 'help put URL' 'version URL' -vURL 'ls URL' 'ls s3://bkt URL' \
        'put URL s3://bkt' 'put B URL' 'put URL/ s3://bkt' \
        'get URL' 'get URL x' 'get s3://bkt/echo/B URL' 'get s3://bkt/a s3://bkt/b URL' \
        'stat URL' 'rm URL' 'rm s3://bkt/a URL' 'mb URL' 'rb URL' 'presign URL' \
        'put --URL B s3://bkt' 'put --json=URL B s3://bkt' 'put --retries URL B s3://bkt' \
        'put --checksum URL B s3://bkt' 'ls -e URL' 'ls --region URL' 'ls --profile URL' \
        'ls --addressing URL' 'help completion URL'; do
        for mode in '' ' --json' ' -v'; do
            case $words in
            [plgsrm]*) words="${words%% *}$mode ${words#* }" ;;
            esac
            IFS=' '
            # shellcheck disable=SC2046,SC2086
            run $(echo "$words" | sed "s|URL|$(echo "$url" | sed 's/&/\\&/g')|")
            unset IFS
            check test "$rc" -ne 0
            check_not has "$T/err" hush-hush
            check_not has "$T/out" hush-hush
        done
    done
    export http_proxy='http://me:hush-hush@127.0.0.1:1'
    ends 5 ls -v --retries 0
    check_not has "$T/err" hush-hush
    http_proxy='ftp://me:hush-hush@127.0.0.1:1'
    ends 2 ls -v
    check_not has "$T/err" hush-hush
}

# ---- running all of it ----

sections=${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
store main --heads --key "$KEY:$SECRET" --key "$TKEY:$TSECRET:$TOKEN" \
    --bucket bkt --bucket lists --virtual-host s3.test
PORT=$(cat "$W/main.port")
export PORT AWS_ACCESS_KEY_ID=$KEY AWS_SECRET_ACCESS_KEY=$SECRET \
    AWS_ENDPOINT_URL=http://127.0.0.1:$PORT

# The one that is all work, with a store of its own, runs beside the others.
beside=
for section in $sections; do
    [ "$section" = stream ] || continue
    one stream >"$W/stream.out" 2>&1 &
    beside=$!
done
for section in $sections; do
    [ "$section" != stream ] || continue
    began=$(date +%s)
    one "$section"
    calm
    quirk ''
    [ "${E2E_TIMES:-0}" = 0 ] || echo "$section: $(($(date +%s) - began)) s"
done
if [ "$beside" ]; then
    wait "$beside"
    cat "$W/stream.out"
fi
section=all last='everything that was said'
check test -s "$W/said"
no_secret "$W/said"
passed=$(grep -c . "$W/passed") failed=$(grep -c . "$W/failed")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
