#!/bin/sh
# tree.sh: whole folders up and down, and copies that the store makes. What should be there
# is told by find, diff, case patterns and the store's own log.
#
#   test/tree.sh S3UP S3D [SECTION...]
#
# Needs sh, awk, GNU find and stat, and test/soak's program built beside s3d. ODD=10000 is
# a larger tree of odd names. Ends with `N passed, M failed`; 1 if any failed.
. "${0%/*}/lib.sh" # shifts the first two away
[ -z "$limit" ] || limit='timeout 100'

# ---- what these tests are made of ----

SOAK=${S3D%/*}/soak
MIB=1048576

stamps() { # FOLDER: of all that lies in it
    (cd "$1" && find . -type f -printf '%T@ %p\0' | sort -z | cksum)
}

alike() { # FOLDER FOLDER
    if diff -r "$1" "$2" >"$T/diff" 2>&1; then pass; else
        fail "$1 and $2 differ: $(head -n 3 "$T/diff")"
    fi
}

keys() { # URI: how many there are
    "$S3UP" ls -r "$1" 2>/dev/null | grep -c .
}

names() { # URI: what lies behind it, on one line
    "$S3UP" ls -r "$1" 2>/dev/null | awk -v n="${#1}" '{
        sub(/^[^ ]+ +[0-9]+ +/, ""); print substr($0, n - 8) }' | sort | tr '\n' ' '
}

summary() { # DONE UNCHANGED SKIPPED FAILED, as --json has them
    out "\"event\":\"summary\",\"done\":$1,\"unchanged\":$2,\"skipped\":$3,\"failed\":$4,"
}

stray() { # FOLDER: is a temporary file left?
    [ -n "$(find "$1" -name '*.s3up-part*')" ]
}

unfinished() { # how many uploads the store has that are neither whole nor aborted
    "$S3UP" uploads s3://bkt 2>/dev/null | grep -c .
}

# ---- up and down ----

sec_odd() {
    odd_tree odd "${ODD:-2000}"
    for n in $((5 * MIB - 1)) $((5 * MIB)) $((5 * MIB + 1)); do bytes $n >"odd/d/$n"; done
    all=$(find odd -type f -printf x | wc -c) was=$(stamps odd)
    check test "$all" -gt "${ODD:-2000}"
    ends 0 put -r --json --part-size 5M odd s3://bkt/o/
    json "$T/out"
    summary "$all" 0 0 0
    is "$(op CompleteMultipartUpload)" 1 # what is as long as the threshold goes whole
    ends 0 ls -r --json s3://bkt/o/
    json "$T/out"
    is "$(grep -c . "$T/out")" "$all"
    is "$(sed -n 's/.*"size":\([0-9]*\).*/\1/p' "$T/out" | awk '{ n += $1 } END { print n }')" \
        "$(find odd -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')"
    is "$(grep -c '^{' "$T/out")" "$all"
    # Names without a backslash or control characters stand in a plain list as they are.
    "$S3UP" ls -r s3://bkt/o/ | sed 's/^[^ ]* *[0-9]* *o\///' | grep -a '^[-A-Za-z0-9 .+%]*$' | sort >listed
    find odd -type f -printf '%P\0' | tr '\n\0' '\001\n' | grep -a '^[-A-Za-z0-9 .+%/]*$' |
        grep -v / | sort >found
    check test -s found
    is "$(comm -13 listed found | head -n 3)" ''
    for jobs in auto 1 8; do
        ends 0 get -q -r -j $jobs --part-size 5M s3://bkt/o "down.$jobs"
        alike odd "down.$jobs"
        is "$(stamps "down.$jobs")" "$was"
        check_not stray "down.$jobs"
    done
    ends 0 put -q -r -j 1 --part-size 5M odd/ s3://bkt/one
    ends 0 get -q -r s3://bkt/one/ down.one
    alike odd down.one
    is "$(ls "$S3UP_STATE_DIR")" ledger.jsonl
}

sec_sources() {
    mkdir -p t/a t/b/c t/empty ./-j dir
    for f in t/a/1 t/b/c/2 t/.hid ./-j/1 single; do echo "$f" >"$f"; done
    ends 0 put -q -r t s3://bkt/1/
    is "$(names s3://bkt/1/)" '.hid a/1 b/c/2 '
    ends 0 put -q -r t/// s3://bkt/2
    is "$(names s3://bkt/2/)" '.hid a/1 b/c/2 '
    (cd t && ends 0 put -q -r . s3://bkt/3/)
    is "$(names s3://bkt/3/)" '.hid a/1 b/c/2 '
    ends 0 put -q -r t/a/ t/b/ single s3://bkt/4/
    is "$(names s3://bkt/4/)" 'a/1 b/c/2 single '
    ends 0 put -q -r -- -j s3://bkt/5/
    is "$(names s3://bkt/5/)" '1 '
    ends 0 put -q -r t s3://two
    is "$("$S3UP" ls -r s3://two | grep -c .)" 3
    ends 0 put -r t/empty s3://bkt/6/
    is "$(keys s3://bkt/6)" 0
    # . and .. would be keys that lead out of where they are fetched to.
    refused 2 'no name' put -r t/a . s3://bkt/7/
    refused 2 'no name' put -r t/.. t/a s3://bkt/7/
    refused 2 'no name' put -r / t/a s3://bkt/7/
    refused 2 'the same name' put -r t/a/ dir/../t/a s3://bkt/7/
    refused 2 'the same name' get -r s3://bkt/1/a s3://bkt/2/a/ out
    # Several trees come down beside each other, a bucket under its name.
    ends 0 get -q -r s3://bkt/1/ s3://two s3://bkt/4/b out
    is "$(find out -type f -printf '%P ' | tr ' ' '\n' | sort | tr '\n' ' ')" \
        '1/.hid 1/a/1 1/b/c/2 b/c/2 two/.hid two/a/1 two/b/c/2 '
    # Nothing of one stops the others.
    ends 1 put -r nosuch t single s3://bkt/8/
    err nosuch 'failed: 1' '4 files'
    is "$(keys s3://bkt/8)" 4
    ends 4 get -r s3://bkt/nosuch out
    err 'nothing begins with'
    ends 0 get -r s3://none out
    ends 1 get -r s3://bkt/nosuch s3://bkt/1 out2
    is "$(find out2 -type f | wc -l)" 3
    # The state folder is no part of what is sent.
    mkdir -p t/st
    S3UP_STATE_DIR=$PWD/t/st/state
    ends 0 put -r t s3://bkt/9/
    ends 0 put -r t s3://bkt/9/
    err 'state folder'
    is "$(names s3://bkt/9/)" '.hid a/1 b/c/2 '
    ends 0 put --dry-run -r t s3://bkt/10/
    err 'would put t/a/1 -> s3://bkt/10/a/1'
    ends 0 get --dry-run -r s3://bkt/1/ dry
    err 'would get s3://bkt/1/a/1 -> dry/a/1'
    is "$(keys s3://bkt/10) $(ls -d dry 2>/dev/null)" '0 '
}

# What is there since the run began, it did not find there: a second key has that path, or
# somebody else is at work.
sec_twice() {
    mkdir t d
    for i in 1 2 3 4; do echo "$i" >t/$i; done
    ends 0 put -q -r t s3://bkt/t/
    echo old | tee d/1 d/2 d/3 >d/4
    fault 'GetObject */t/2 stall-body=1'
    begin get -r --json -j 1 s3://bkt/t/ d
    until_so cmp -s t/1 d/1
    echo mine | tee d/3 >d/4
    ended 3
    calm
    summary 2 0 2 0
    err 'd/3 was just written'
    is "$(cat d/1 d/2 d/3 d/4 | tr '\n' ' ')" '1 2 mine mine '
    # A moment later it is a file like others.
    ends 0 get -r --json s3://bkt/t/ d
    summary 4 0 0 0
    alike t d
}

# What lies in a folder and is no file.
sec_special() {
    mkdir -p t/d t/deep out
    echo 1 >t/d/1
    echo secret >out/of
    ln -s d/1 t/link
    ln -s ../out t/away
    ln -s nowhere t/dangling
    ln -s self t/self
    ln -s .. t/d/up
    mkfifo t/fifo
    run put -r --json t s3://bkt/s/
    is "$rc" 3
    json "$T/out"
    summary 1 0 6 0
    is "$(grep -c '"event":"skipped"' "$T/out")" 6
    is "$(names s3://bkt/s/)" 'd/1 '
    err t/link t/away t/dangling t/fifo t/d/up 'symbolic link; --follow'
    ends 3 put -r --json --follow t s3://bkt/f/
    summary 3 0 4 0 # the FIFO, what dangles, and both that go round
    is "$(names s3://bkt/f/)" 'away/of d/1 link '
    err 'leads back' 'link to nothing'
    rm t/link t/away t/dangling t/self t/d/up t/fifo
    # Folders in each other, until a path is too long: the rest is not touched by that.
    (
        cd t/deep || exit
        name=$(awk 'BEGIN { for (i = 0; i < 250; i++) printf "d" }')
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do
            mkdir "$name" && cd "$name" 2>/dev/null || exit
            [ $i -gt 3 ] || echo $i >file
        done
    )
    for i in 1 2 3 4 5 6 7 8; do echo $i >t/deep/$i; done
    ends 1 put -r --json t s3://bkt/deep/
    summary 12 0 0 1
    ends 0 get -q -r s3://bkt/deep/ deep
    is "$(find deep -type f | wc -l)" 12
}

# Files that go, grow, and are replaced after their folder was read.
sec_moving() {
    mkdir -p t out away
    echo outside >out/l
    for i in $(seq 100 199); do echo "$i" | tee "t/s$i" "t/v$i" "t/g$i" "t/l$i" >/dev/null; done
    fault 'PutObject * stall=60 after=20 n=1'
    begin put -r -j 1 --json t s3://bkt/m/
    until_so eval '[ "$(op PutObject)" -gt 20 ]'
    rm t/v*
    for f in t/g*; do echo more >>"$f"; done
    for f in t/l*; do ln -sf ../out/l "$f"; done
    ctl go
    ended 3
    calm
    json "$T/out"
    out '"failed":0,'
    check test "$(grep -c -e '"code":3' -e '"event":"skipped"' "$T/out")" -gt 100
    is "$(names s3://bkt/m/ | tr ' ' '\n' | grep -c '^s')" 100
    ends 0 get -q -r s3://bkt/m/ back
    is "$(cat back/* | grep -c outside)" 0
    is "$(for f in back/s*; do cmp "$f" "t/${f#back/}"; done)" ''
}

# Wherever it is stopped: it says so, or all is there.
sec_halted() {
    SOAK=${S3D%/*}/soak
    if ! "$SOAK" kill x parent 15 s5 sleep 0.01 >/dev/null 2>&1; then
        skip 'no program is stopped at a system call: that needs soak and ptrace'
        return
    fi
    mkdir t
    for i in $(seq 100 130); do mkdir "t/$i" && : >"t/$i/no"; done
    echo 1 >t/130/a.dat
    n=0 stopped=0 whole=0
    while [ $n -lt 1500 ]; do
        n=$((n + 37))
        last="s3up put -r, stopped at its system call $n"
        "$SOAK" kill said parent 15 s$n "$S3UP" put -q -r -j 1 --include '*.dat' t "s3://bkt/n$n/" >code
        read -r code sent _ <code
        cat said >>"$W/said"
        [ "$code" != 0 ] || [ "$(names "s3://bkt/n$n/")" ] || fail 'exit code 0, and it is not there'
        case $code in
        0) whole=$((whole + 1)) ;;
        143) stopped=$((stopped + 1)) ;;
        *) fail "exit code $code, $sent: $(cat said)" ;;
        esac
    done
    check test $stopped -gt 5
    check test $whole -gt 0
}

sec_unreadable() {
    [ "$(id -u)" != 0 ] || { skip 'root may read everything'; return; }
    mkdir -p t/no t/yes
    echo 1 | tee t/no/1 t/yes/1 t/shut >/dev/null
    chmod 0 t/no t/shut
    ends 1 put -r --json t s3://bkt/u/
    summary 1 0 0 2
    err 'cannot read t/no: ' 'cannot open t/shut: '
    chmod 755 t/no
    mkdir down
    chmod 555 down
    ends 6 get -r s3://bkt/u/ down
    err 'ermission denied'
    chmod 755 down
}

# Keys that would be paths elsewhere.
sec_paths() {
    echo x >x
    for key in up/../../e1 ../e2 /abs a//b ./dot dir/. dir/.. .. . ok '..\..\w' 'back\slash' \
        ..x ... -n p p.s3up-part f f/below d/in mark.s3up-part/x; do
        ends 0 put -q x "s3://bkt/t/$key"
    done
    long=$(awk 'BEGIN { for (i = 0; i < 255; i++) printf "n" }')
    rest=$(awk 'BEGIN { for (i = 0; i < 1024 - 2 - 4 * 201; i++) printf "k" }')
    part=$(awk 'BEGIN { for (i = 0; i < 200; i++) printf "p" }')
    ends 0 put -q x "s3://bkt/t/$long"
    ends 0 put -q x "s3://bkt/t/n$long"
    ends 0 put -q x "s3://bkt/t/$part/$part/$part/$part/$rest" # 1,024 bytes
    mkdir -p jail/in
    ends 3 get -r --json s3://bkt/t/ jail/in
    json "$T/out"
    # Of f and f/below the first one there has the name.
    is "$(cd jail/in && find . -type f | sed 's/^\.\/f.*/.\/f_/' | LC_ALL=C sort | cut -c 1-20 | tr '\n' ' ')" \
        "$(printf '%s ' ./-n ./... ./..x './..\..\w' './back\slash' ./d/in ./f_ ./nnnnnnnnnnnnnnnnnn \
            ./ok ./p ./pppppppppppppppppp | tr ' ' '\n' | LC_ALL=C sort | tr '\n' ' ' | sed 's/^ //')"
    is "$(ls jail)" in
    for reason in 'lead out of the folder' 'empty folder name' 'longer than file systems allow' \
        'not yet whole'; do
        out "$reason"
    done
    is "$(grep -c '"event":"skipped"' "$T/out") $(grep -c '"event":"error".*jail/in/f' "$T/out")" '12 1'
    summary 11 0 13 0
    # A list may have what nobody could ever have stored.
    deep=$(awk 'BEGIN { for (i = 0; i < 600; i++) printf "d/" }')
    echo "+ 2 1700000000000 d41d8cd98f00b204e9800998ecf8427e STANDARD - long/$deep/x" |
        tr -s / >>"$W/paths.store/b/bkt/index"
    ends 0 put -q x s3://bkt/long/ok
    ends 3 get -r --json s3://bkt/long/ long
    out 'longer than any that can be asked for'
    summary 1 0 1 0
    # Links that lie in the way: of a file they are replaced, of a folder nobody follows.
    rm -rf jail
    mkdir -p jail/in jail/out
    echo mine >jail/out/p
    ln -s ../out/p jail/in/p
    ln -s ../out jail/in/d
    ln -s ../out/new jail/in/ok
    mkdir jail/in/..x
    mkfifo jail/in/-n
    ends 3 get -r s3://bkt/t/ jail/in
    err 'jail/in/d/in: something that is no folder' 'jail/in/..x: it is a folder' \
        'jail/in/-n is no plain file'
    is "$(ls jail/out; cat jail/out/p)" "p
mine"
    check test -f jail/in/p -a ! -L jail/in/p -a -L jail/in/d -a -p jail/in/-n
    is "$(cat jail/in/p jail/in/ok)" 'x
x'
    # The target itself may be a link: that is how it was named.
    mkdir real
    ln -s real target
    ends 3 get -q -r s3://bkt/t/ target
    is "$(cat real/ok)" x
    ends 2 get -r s3://bkt/t/ -
    ends 2 get -r --range 0-1 s3://bkt/t/ dir
    # A store that lists what was not asked for gets nothing written.
    quirk list-all
    rm -rf jail
    mkdir -p jail/in
    ends 3 get -r --json s3://bkt/t/d/ jail/in
    is "$(find jail -type f)" jail/in/in
    out 'not what was asked for'
    quirk ''
    # What is there of an earlier time.
    ends 0 get -q -r s3://bkt/t/d/ old
    chmod 640 old/in
    echo y >y
    ends 0 put -q y s3://bkt/t/d/in
    ends 7 get -r -n s3://bkt/t/d/ old
    is "$(cat old/in)" x
    ends 0 get -r s3://bkt/t/d/ old
    is "$(cat old/in; stat -c %a old/in)" "y
640"
}

# ---- what is taken ----

pattern_files='a.txt b.txt a.log d/a.txt d/b.log d/e/c.txt node/x.txt d/node/y.txt .h [x].txt'

# The files that are to be taken, as the shell's own patterns see it.
chosen() { # EXCLUDED INCLUDED
    for f in $pattern_files; do
        base=${f##*/} take=0
        # shellcheck disable=SC2254 # they are patterns
        for p in $2; do
            case $p in */*) on=$f ;; *) on=$base ;; esac
            case $on in $p) take=1 ;; esac
        done
        [ -n "$2" ] || take=1
        # shellcheck disable=SC2254
        for p in $1; do
            case $p in */*) on=$f ;; *) on=$base ;; esac
            case $on in $p) take=0 ;; esac
        done
        [ $take = 0 ] || echo "$f"
    done | LC_ALL=C sort | tr '\n' ' '
}

sec_patterns() {
    set -f # here patterns stay what they are
    for f in $pattern_files; do mkdir -p "t/$(dirname "$f")" && echo "$f" >"t/$f"; done
    ends 0 put -q -r t s3://bkt/p/
    n=0
    while IFS='|' read -r exclude include; do
        n=$((n + 1)) options=
        for p in $exclude; do options="$options --exclude $p"; done
        for p in $include; do options="$options --include $p"; done
        picked=$(chosen "$exclude" "$include")
        # shellcheck disable=SC2086
        ends 0 put -q -r $options t "s3://bkt/q$n/"
        is "$(names "s3://bkt/q$n/")" "$picked"
        # shellcheck disable=SC2086
        ends 0 get -q -r $options s3://bkt/p/ "g$n"
        is "$(cd "g$n" && find . -type f | sed 's/^..//' | LC_ALL=C sort | tr '\n' ' ')" "$picked"
    done <<'EOF'
*.log|
|*.txt
*.log|a.*
a.txt b.txt|
d/*|
d/a.*|
|d/*.txt
|[ab].*
|[!a]*.txt
|?.txt
|\[x\].txt
.h|
*|
EOF
    # A folder that matches is not even entered; of a list its keys must match.
    ends 0 put -q -r --exclude node t s3://bkt/node/
    is "$(names s3://bkt/node/)" '.h [x].txt a.log a.txt b.txt d/a.txt d/b.log d/e/c.txt '
    ctl reset >/dev/null
    ends 0 put -q -r --exclude d --exclude '*.*' t s3://bkt/few/
    is "$(since PutObject)" '0 '
}

sec_changed() {
    mkdir t
    for i in 1 2 3 4 5 6; do echo "$i$i$i" >t/$i; done
    bytes $((6 * MIB)) >t/large
    ends 0 put -q -r --part-size 5M t s3://bkt/c/
    ctl reset >/dev/null
    # Nothing has changed: one question for each file, and that is all.
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/c/
    summary 0 7 0 0
    is "$(since HeadObject PutObject CreateMultipartUpload GetObject ListParts)" '7 0 0 0 0 '
    ends 0 get -q -r s3://bkt/c/ d
    ctl reset >/dev/null
    ends 0 get -r --json --part-size 5M --if-changed s3://bkt/c/ d
    summary 0 7 0 0
    is "$(since GetObject PutObject ListObjectsV2)" '0 0 1 '
    # The same bytes at another time, other bytes of the same length, another length.
    touch -d '2002-02-02' t/1 t/large
    echo xyz >t/2
    echo longer >t/3
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/c/
    summary 2 5 0 0
    is "$(since PutObject CreateMultipartUpload)" '2 0 '
    touch -d '2003-03-03' d/4 d/large
    ends 0 get -r --json --part-size 5M --if-changed s3://bkt/c/ d
    summary 2 5 0 0
    is "$(since GetObject)" '2 '
    alike t d
    # What stays as it is is not in the way of --no-clobber; what would be replaced is.
    cp -pR t was
    for changed in 0 2; do
        for way in 'put t s3://bkt/c/' 's3://bkt/c/ d'; do
            case $way in put*) verb=put ;; *) verb=get ;; esac
            # shellcheck disable=SC2086
            ends $((changed / 2)) $verb -r -n --json --part-size 5M --if-changed ${way#put }
            summary 0 $((7 - changed)) 0 $changed
        done
        for top in t d; do echo abcd >$top/4 && echo more >>$top/large; done
    done
    is "$(cat d/4 && grep -c more d/large)" 'abcd
2'
    for top in t d; do cp -p was/4 was/large $top/; done
    # Those that are not there.
    rm d/5 d/large
    echo 7 >t/7
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/c/
    summary 1 7 0 0
    ends 0 get -r --json --part-size 5M --if-changed s3://bkt/c/ d
    summary 3 5 0 0
    alike t d
    # Other bytes, in a large file of the same length.
    printf x | dd of=t/large bs=1 seek=5500000 conv=notrunc 2>/dev/null
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/c/
    summary 1 7 0 0
    ends 0 get -r --json --part-size 5M --if-changed s3://bkt/c/ d
    summary 1 7 0 0
    alike t d
    # What would be done is told without doing it, and only where the store can be asked.
    echo long >t/4
    echo long >d/5
    echo new >t/8
    ctl reset >/dev/null
    ends 0 put -r --json --dry-run --if-changed t s3://bkt/c/
    summary 2 7 0 0
    out '{"event":"would","source":"t/4","target":"s3://bkt/c/4"}' '"source":"t/8"'
    ends 0 get -r --json --dry-run --if-changed s3://bkt/c/ d
    summary 1 7 0 0
    out '{"event":"would","source":"s3://bkt/c/5","target":"d/5"}'
    ends 0 get --json --dry-run --if-changed s3://bkt/c/5 s3://bkt/c/6 d
    summary 1 1 0 0
    is "$(since PutObject GetObject CreateMultipartUpload)" '0 0 0 '
    fault 'HeadObject * 503'
    ends 5 put -r --json --retries 1 --dry-run --if-changed t s3://bkt/c/
    summary 0 0 0 2
    ends 5 get -r --json --retries 1 --dry-run --if-changed s3://bkt/c/ d
    out 's3://bkt/c/ was not fetched, for the same reason'
    is "$(since HeadObject)" '4 '
    fault 'HeadObject * access-denied'
    ends 0 put -r --json --dry-run --if-changed t s3://bkt/c/
    summary 9 0 0 0
    calm
    rm t/8
    cp -p d/4 t/4
    cp -p t/5 d/5
    # The same length and time: that is what "unchanged" means, as it is with rsync.
    touch -r t/6 stamp
    echo zzz >t/6
    touch -r stamp t/6
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/c/
    summary 0 8 0 0
}

# ---- what goes wrong ----

tree_of() { # FOLDER N: small files, and a large one
    mkdir -p "$1/sub"
    awk -v top="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) {
        f = top (i % 3 ? "/" : "/sub/") i; print i * 7919 >f; close(f) } }'
    bytes $((32 * MIB)) >"$1/large"
}

noted() { # how many parts stand in journals
    find "$S3UP_STATE_DIR" -type f -exec cat {} + | grep -c '^part '
}

sec_stopped() {
    tree_of t 600
    mkdir d
    # Interrupted, both ways: what is left is found by the next run.
    ctl reset >/dev/null
    fault 'PutObject * stall=0.01' 'UploadPart * stall=0.2'
    begin put -r -j 3 --part-size 5M t s3://bkt/i/
    until_so eval '[ "$(op PutObject)" -gt 40 ]'
    kill -s INT "$pid"
    ended 130
    err 't was not sent: interrupted'
    check test "$(grep -c 'error: ' "$T/err")" -lt 4
    calm
    ends 0 put -r --json --part-size 5M --if-changed t s3://bkt/i/
    check test "$(sed -n 's/.*"unchanged":\([0-9]*\).*/\1/p' "$T/out" | tail -n 1)" -gt 10
    is "$(keys s3://bkt/i) $(unfinished)" '601 0'
    for signal in INT TERM KILL KILL; do
        fault 'GetObject * stall=0.01'
        begin get -q -r -j 3 --part-size 5M s3://bkt/i/ d
        until_so eval '[ "$(find d -type f | wc -l)" -gt 20 ]'
        kill -s $signal "$pid"
        case $signal in INT) ended 130 ;; TERM) ended 143 ;; *) ended 137 ;; esac
        calm
        [ $signal = KILL ] || is "$(find d -name '*.s3up-part' ! -name 'large*')" ''
    done
    ends 0 get -q -r --part-size 5M --if-changed s3://bkt/i/ d
    alike t d
    check_not stray d
    # Killed on the way up: by its journal the large one goes on.
    fault 'UploadPart * stall=30 after=3'
    begin put -q -r -j 2 --part-size 5M t s3://bkt/k/
    until_so eval '[ "$(noted)" -ge 2 ]' ||
        fail 'no part was noted'
    kill -s KILL "$pid"
    ended 137
    calm
    ends 0 put -r --part-size 5M --if-changed t s3://bkt/k/
    err 'going on; '
    is "$(keys s3://bkt/k) $(unfinished)" '601 0'
    rm -rf d
    ends 0 get -q -r s3://bkt/k/ d
    alike t d
}

sec_keys() {
    tree_of t 50
    ends 0 put -q t/sub/0 t/1 s3://bkt/here/
    AWS_SECRET_ACCESS_KEY=wrong
    ctl reset >/dev/null
    ends 6 put -r --json t t/sub s3://bkt/w/
    out SignatureDoesNotMatch 't/sub was not sent, for the same reason'
    check test "$(op PutObject)" -lt 10
    check test "$(grep -c . "$T/out")" -lt 10
    ends 6 get -r s3://bkt/w/ d
    # Nor is anything sent to a bucket that is not there, but a first file, or its parts.
    AWS_SECRET_ACCESS_KEY=$SECRET
    for first in t/1 t/large; do
        ctl reset >/dev/null
        ends 4 put -r --json --part-size 5M "$first" t s3://nosuch/w/
        out NoSuchBucket 't was not sent, for the same reason'
        is "$(ctl stats requests) $(grep -c '"event":"error"' "$T/out")" '1 2'
        summary 0 0 0 2
    done
    ctl reset >/dev/null
    ends 4 cp s3://bkt/here/0 s3://bkt/here/1 s3://nosuch/
    err 's3://bkt/here/1 was not copied, for the same reason'
    is "$(since CopyObject)" '1 '
    # What one bucket has not is fetched from the other.
    ends 1 get s3://nosuch/0 s3://bkt/here/1 ./
    check cmp -s t/1 1
}

# All that can happen to a request, to every fifth of them. After some of these it takes
# seconds before a store is asked again: they come only once.
trouble() { # ACTION...: more of them
    for action in drop reset-before reset-during reset-after cut-reply cut-head garbage-reply \
        lost-reply silent-close 500 502 504 request-timeout short-body empty-error=500 \
        chunked-reply interim=2 "$@"; do
        echo "* * $action p=1"
    done
    for action in early-503 503 slowdown 429 html-error=503; do echo "* * $action p=1 n=1"; done
}

trouble_is() { # FILE: of rules; ctl may meet the trouble that it is to end
    until_so sh -c '"$1" ctl "$2" faults <"$3"' sh "$S3D" "$PORT" "$1"
}

sec_faults() {
    tree_of t 150
    trouble wrong-body >rules
    trouble_is rules
    ends 0 put -q -r --retries 20 --part-size 5M t s3://bkt/f/
    # A body that was spoilt is said, and so is a HEAD without a length; the next run fetches it.
    for try in 1 2 3 4; do
        run get -q -r --if-changed --retries 20 --part-size 5M s3://bkt/f/ d
        check_not stray d
        [ "$rc" != 0 ] || break
        is "$(grep 'error: ' "$T/err" | grep -v -e 'do not have the' -e 'does not say how large')" ''
    done
    check test $try -lt 4
    trouble_is /dev/null
    alike t d
    is "$(unfinished)" 0
    # What is damaged is said and leaves nothing.
    fault 'GetObject */f/sub/* wrong-body'
    ends 1 get -q -r s3://bkt/f/ bent
    calm
    is "$(find bent/sub -type f | wc -l) $(find bent -type f | wc -l)" '0 101'
    # A failure that passes is no reason to go without checksums.
    fault 'HeadObject */f/large request-timeout n=1' 'GetObject */f/large wrong-body'
    ends 9 get -q --part-size 5M s3://bkt/f/large bent/one
    calm
    check_not test -e bent/one
    # What is refused for good is named, and the rest is sent.
    fault 'PutObject */f0/sub/?2 access-denied'
    ends 1 put -r --json t s3://bkt/f0/
    calm
    summary 148 0 0 3
    is "$(grep -c '"event":"error","source":"t/sub/[0-9]2"' "$T/out")" 3
}

# ---- lists ----

sec_lists() { # pages have 100 keys
    mkdir t
    awk 'BEGIN { for (i = 10000; i < 12500; i++) { f = "t/" i; print i >f; close(f) } }'
    ends 0 put -q -r t s3://bkt/l/
    ends 0 get -q -r s3://bkt/l/ d
    alike t d
    for q in no-list-v2 list-v1-no-nextmarker list-no-marker list-offset encoding-type-ignored \
        xml-namespace-prefix; do
        quirk $q
        ends 0 get -r --json --dry-run s3://bkt/l/ d
        summary 2500 0 0 0
        is "$(grep -c '"event":"would"' "$T/out")" 2500
    done
    for q in list-loop list-round; do
        quirk $q
        rm -rf r
        run get -q -r s3://bkt/l/ r
        check test "$rc" -ne 0
        err 'repeats one page'
        is "$(cd r && for f in *; do cmp "$f" "../t/$f"; done)" ''
    done
    quirk ''
    # A list that breaks off in the middle: what it told is fetched, and it is said.
    fault 'ListObjectsV2 *continuation-token* access-denied after=3'
    ends 1 get -q -r s3://bkt/l/ half
    err 'ListObjectsV2'
    is "$(find half -type f | wc -l)" 400
    calm
}

# A worker sends file after file over one connection, and asks nothing but what it must.
sec_kept() {
    mkdir t
    awk 'BEGIN { for (i = 0; i < 1500; i++) { f = "t/" i; print i >f; close(f) } }'
    for jobs in 1 4; do
        ctl reset >/dev/null
        ends 0 put -q -r -j $jobs t s3://bkt/k$jobs/
        check test "$(ctl stats connections)" -le "$jobs"
        is "$(ctl stats requests) $(since PutObject)" '1500 1500 '
        ends 0 get -q -r -j $jobs s3://bkt/k$jobs/ d$jobs
        check test "$(ctl stats connections)" -le $((jobs + 1))
        is "$(ctl stats requests) $(since GetObject ListObjectsV2)" '1502 1500 2 '
        alike t d$jobs
        ends 0 rm -q -r --force s3://bkt/k$jobs/
        check test "$(ctl stats connections)" -le 1
        is "$(since DeleteObjects DeleteObject)" '2 0 '
    done
}

sec_memory() {
    awk 'BEGIN { for (i = 0; i < 100000; i++) printf \
        "+ 0 1700000000000 d41d8cd98f00b204e9800998ecf8427e STANDARD - many/%06d\n", i }' \
        >>"$W/memory.store/b/bkt/index"
    for what in "get -q -r -j 8 --exclude * s3://bkt/many/ d" 'ls -r s3://bkt/many/' \
        'rm -r --dry-run s3://bkt/many/'; do
        # shellcheck disable=SC2046,SC2086
        set -f -- $("$SOAK" memory 60000 "$S3UP" $what 2>/dev/null | tail -n 1)
        set +f
        kib=${1:-0} last="memory of $what: $kib KiB"
        if grep -q __asan_ "$S3UP"; then skip 'memory: this build has AddressSanitizer'; else
            check test "$kib" -gt 0 -a "$kib" -lt 8192
        fi
    done
    ends 0 get --json -r -j 8 --exclude '*' s3://bkt/many/ d
    summary 0 0 0 0
    ends 0 get --json -r --dry-run --include '*7' s3://bkt/many/ d
    summary 10000 0 0 0
    is "$(find d -type f | wc -l)" 0
}

# ---- copies ----

heads_of() { # URI: what is kept with the object
    "$S3UP" stat "$1" | sed -n -e '/^type:/p' -e '/^cache:/p' -e '/^metadata.[ku]/p' | tr '\n' ' '
}

sec_copy() {
    bytes $((12 * MIB)) >f
    ends 0 put -q --content-type a/b --cache-control no-cache --metadata k=v --metadata 'k2=a  b' \
        --tagging 'a=b' f s3://bkt/f
    kept='type: a/b cache: no-cache metadata.k: v metadata.k2: a  b '
    is "$(heads_of s3://bkt/f)" "$kept"
    ctl reset >/dev/null
    ends 0 cp s3://bkt/f s3://bkt/whole
    err 's3://bkt/f -> s3://bkt/whole'
    is "$(since CopyObject UploadPartCopy GetObject PutObject)" '1 0 0 0 '
    ends 0 cp --part-size 5M --threshold 1M --json s3://bkt/f s3://two/parts
    json "$T/out"
    is "$(since CopyObject UploadPartCopy CompleteMultipartUpload GetObject)" '0 3 1 0 '
    check same f s3://bkt/whole
    check same f s3://two/parts
    is "$(heads_of s3://bkt/whole)" "$kept"
    is "$(heads_of s3://two/parts)" "$kept"
    # As long as the threshold: whole.
    ctl reset >/dev/null
    ends 0 cp --threshold 12M s3://bkt/f s3://two/whole
    ends 0 cp --threshold $((12 * MIB - 1)) s3://bkt/f s3://two/parts2
    is "$(since CopyObject UploadPartCopy)" '1 1 '
    # Its tags go with it if the store does it in one go. In parts that is said.
    is "$("$S3UP" stat s3://bkt/whole | grep tags)" 'tags: 1'
    ends 0 cp --threshold 1M s3://bkt/f s3://bkt/tagless
    err 'tags are not copied' --tagging
    # In parts again: what was copied in parts may be copied so once more.
    ends 0 cp --threshold 1M s3://two/parts s3://bkt/again
    is "$(heads_of s3://bkt/again)" "$kept"
    check same f s3://bkt/again
    # What is given replaces what the source has.
    for how in '' '--threshold 1M'; do
        # shellcheck disable=SC2086
        ends 0 cp $how --metadata u=1 --content-type x/y s3://bkt/f s3://bkt/new
        is "$(heads_of s3://bkt/new)" 'type: x/y metadata.u: 1 '
        # shellcheck disable=SC2086
        ends 0 cp $how --storage-class STANDARD_IA s3://bkt/f s3://bkt/ia
        is "$(heads_of s3://bkt/ia)" "$kept"
        run stat s3://bkt/ia
        out STANDARD_IA
        # shellcheck disable=SC2086
        ends 0 cp $how --tagging 'x=1&y=2' s3://bkt/f s3://bkt/tags
        run stat s3://bkt/tags
        out 'tags: 2'
        # shellcheck disable=SC2086
        ends 7 cp $how -n s3://bkt/f s3://bkt/new
        err 'exists already'
        is "$(heads_of s3://bkt/new)" 'type: x/y metadata.u: 1 '
        # shellcheck disable=SC2086
        ends 0 cp $how -n s3://bkt/f "s3://bkt/fresh${how:+2}"
        # shellcheck disable=SC2086
        ends 4 cp $how s3://bkt/nosuch s3://bkt/x
        # shellcheck disable=SC2086
        ends 2 cp $how s3://bkt/f s3://bkt/f
        err 'to itself'
        # shellcheck disable=SC2086
        ends 0 cp $how --metadata k=v s3://bkt/again s3://bkt/again
        check same f s3://bkt/again
    done
    ends 0 cp --dry-run s3://bkt/f s3://bkt/x
    err 'would cp s3://bkt/f -> s3://bkt/x'
    check gone s3://bkt/x
    # Several, and odd names.
    : >empty
    ends 0 put -q empty 's3://bkt/odd/a b+c%20&é?#'
    ends 0 put -q empty s3://bkt/odd/e
    ends 0 cp --threshold 1 's3://bkt/odd/a b+c%20&é?#' s3://bkt/odd/e s3://two/odd/
    is "$(names s3://two/odd/)" 'a b+c%20&é?# e '
    ends 2 cp s3://bkt/f s3://bkt/odd/e s3://two/noslash
    refused 2 'the same name' cp s3://bkt/f s3://two/f s3://bkt/x/
    ends 1 cp --json s3://bkt/f s3://bkt/nosuch s3://two/some/
    summary 1 0 0 1
    is "$(names s3://two/some/)" 'f '
    # Many fields of metadata.
    set --
    for i in $(seq 24); do set -- "$@" --metadata "m$i=$i"; done
    ends 0 put -q "$@" f s3://bkt/rich
    ends 0 cp s3://bkt/rich s3://bkt/rich2
    is "$("$S3UP" stat s3://bkt/rich2 | grep -c '^metadata.m[0-9]')" 24
    ends 0 cp --threshold 1M s3://bkt/rich s3://bkt/rich3
    is "$("$S3UP" stat s3://bkt/rich3 | grep -c '^metadata.m[0-9]')" 24
    is "$(unfinished)" 0
}

# More than 5 GiB is copied in parts without being told. So much is not sent: what was is
# said to be larger, in a store that keeps no bytes.
sec_copy_large() {
    store huge --key "$KEY:$SECRET" --bucket bkt --sink-fast
    PORT=$(cat "$W/huge.port") AWS_ENDPOINT_URL=http://127.0.0.1:$(cat "$W/huge.port")
    truncate -s 1234567890 f
    for size in 5368709120 5368709121; do
        ends 0 put -q --checksum none --threshold 2G f s3://bkt/$size
        record=$(grep -rlx "key $size" "$W/huge.store/b/bkt/o")
        check test -n "$record"
        sed -i "s/^size 1234567890$/size $size/" "$record"
        ctl reset >/dev/null
        ends 0 cp --json s3://bkt/$size s3://bkt/copy
        out "\"size\":$size,"
        case $size in *1) ops='0 1 ' ;; *) ops='1 0 ' ;; esac
        is "$(since CopyObject CompleteMultipartUpload)" "$ops"
        ends 0 stat s3://bkt/copy
        out "size: $size"
    done
}

sec_copy_faults() {
    bytes $((20 * MIB)) >f
    bytes $((20 * MIB - 1)) >g
    ends 0 put -q f s3://bkt/f
    trouble ok-error ok-error=SlowDown whitespace=0 | sed 's/p=1/p=3/' >rules
    trouble_is rules
    for i in 1 2 3; do
        ends 0 cp -q --retries 20 --threshold 5M --part-size 5M s3://bkt/f "s3://bkt/p$i"
        ends 0 cp -q --retries 20 s3://bkt/f "s3://bkt/w$i"
    done
    trouble_is /dev/null
    for i in p1 p2 p3 w1 w2 w3; do check same f "s3://bkt/$i"; done
    is "$(unfinished)" 0
    # Failures for good leave nothing behind.
    for op in UploadPartCopy CompleteMultipartUpload CreateMultipartUpload; do
        fault "$op * access-denied after=0"
        ends 6 cp --threshold 5M --part-size 5M s3://bkt/f s3://bkt/denied
        calm
        check gone s3://bkt/denied
        is "$op $(unfinished)" "$op 0"
    done
    # Another object takes the source's place in the middle of it.
    fault 'UploadPartCopy * stall=2 n=2'
    begin cp -j 2 --threshold 5M --part-size 5M s3://bkt/f s3://bkt/mixed
    until_so eval '[ "$(unfinished)" -gt 0 ]'
    "$S3UP" put -q g s3://bkt/f
    ended 3
    calm
    err 'changed while it was being copied'
    check gone s3://bkt/mixed
    is "$(unfinished)" 0
    # Interrupted.
    ctl reset >/dev/null
    fault 'UploadPartCopy * stall=30 after=1'
    begin cp -j 1 --threshold 5M --part-size 5M s3://bkt/f s3://bkt/int
    until_so eval '[ "$(op UploadPartCopy)" -gt 0 ]'
    kill -s INT "$pid"
    ended 130
    calm
    is "$(unfinished)" 0
}

# ---- running all of it ----

store_of() { # SECTION: lists have short pages
    echo '--bucket two --bucket none --min-part 100'
    case $1 in
    lists) echo '--list-max 100' ;;
    *) echo '--list-max 1000' ;;
    esac
}

# shellcheck disable=SC2046
in_lanes ${*:-$(sed -n 's/^sec_\([a-z_]*\)() .*/\1/p' "$0")}
