#!/bin/sh
# vendor.sh: what vendor/get does with archives that are changed, cut, missing or not to be
# unpacked: it must say which file, why, and the way out, and leave nothing half done.
# Works on copies; needs the archive of BearSSL in vendor/, which any build has put there.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
W=$(mktemp -d) || exit 2
trap 'rm -rf "$W"' EXIT
passed=0 failed=0
archive=$(awk '$1 == "bearssl" { print $3; exit }' "$here/vendor/PINS")
if [ ! -f "$here/vendor/$archive" ]; then
    echo "SKIPPED vendor: build once, so that vendor/$archive is there"
    echo '0 passed, 0 failed'
    exit 0
fi

fresh() { # a vendor/ with PINS and get, and nothing else
    rm -rf "$W/v"
    mkdir "$W/v"
    cp "$here/vendor/PINS" "$here/vendor/get" "$W/v/"
}

# Without network, for whoever may cut it off; else with a proxy where nobody listens.
offline() {
    if unshare -rn true 2>/dev/null; then
        unshare -rn "$@"
    else
        env http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 "$@"
    fi
}

# What a folder of programs offers: all that is here, but not these.
without() {
    rm -rf "$W/programs"
    mkdir "$W/programs"
    for dir in /usr/local/bin /usr/bin /bin /usr/sbin /sbin; do
        for program in "$dir"/*; do
            ln -s "$program" "$W/programs/${program##*/}" 2>/dev/null
        done
    done
    for name; do rm -f "$W/programs/$name"; done
}

expect() { # WHAT EXIT WORD...: looks at $code and $out
    what=$1 want=$2
    shift 2
    good=1
    [ "$code" -eq "$want" ] || good=0
    for word; do
        case $out in *"$word"*) ;; *) good=0 ;; esac
    done
    if [ -e "$W/v/build/bearssl" ] && [ "$want" -ne 0 ]; then good=0; fi
    if [ -n "$(ls -d "$W"/v/build/tmp.* 2>/dev/null)" ]; then good=0; fi
    if [ $good = 1 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL vendor: $what: exit $code, expected $want and: $*"
        echo "$out" | sed 's/^/    /'
    fi
}

run() { out=$("$@" 2>&1) && code=0 || code=$?; }

fresh
cp "$here/vendor/$archive" "$W/v/"
run offline "$W/v/get" bearssl
expect 'an archive that is there, and no network' 0
run offline "$W/v/get" bearssl
expect 'once more' 0
[ -f "$W/v/build/bearssl/src/ssl/ssl_client.c" ] && passed=$((passed + 1)) || failed=$((failed + 1))

fresh
{ head -c 100000 "$here/vendor/$archive"; printf x; tail -c +100002 "$here/vendor/$archive"; } \
    >"$W/v/$archive"
run offline "$W/v/get" bearssl
expect 'one byte changed' 1 "vendor/$archive" 'expected SHA-256' 'delete'

fresh
head -c 100000 "$here/vendor/$archive" >"$W/v/$archive"
run offline "$W/v/get" bearssl
expect 'half a download' 1 "vendor/$archive" 'cut short' 'delete'

fresh
: >"$W/v/$archive"
run offline "$W/v/get" bearssl
expect 'an empty file' 1 "vendor/$archive" 'delete'

fresh
run offline "$W/v/get" bearssl
expect 'no archive and no network' 1 "put $archive into vendor/"

fresh
without apt-get curl wget
run env PATH="$W/programs" "$W/v/get" bearssl
expect 'no apt-get, curl or wget' 1 'apt-get' "put $archive into vendor/"

fresh
cp "$here/vendor/$archive" "$W/v/"
without xz
run env PATH="$W/programs" "$W/v/get" bearssl
expect 'no xz' 1 'xz-utils' "vendor/$archive"

fresh
cp "$here/vendor/$archive" "$W/v/"
without sha256sum openssl shasum busybox
run env PATH="$W/programs" "$W/v/get" bearssl
expect 'nothing that computes SHA-256' 1 'SHA-256' 'coreutils'

fresh
run "$W/v/get" nothing
expect 'a name that is not pinned' 1 "no line for 'nothing'"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
