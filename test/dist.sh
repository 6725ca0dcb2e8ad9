#!/bin/sh
# dist.sh: the tarball of `make dist` builds where there is no network, twice to the same bytes,
# in folders of different names; the program says what it is, and goes where it is told to.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
W=$(mktemp -d) || exit 2
trap 'rm -rf "$W"' EXIT
passed=0 failed=0
good() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "FAIL dist: $1"
}

cd "$here" || exit 2
unset MAKEFLAGS MAKELEVEL MFLAGS
tarball=$(make -s dist | tail -n 1)
if [ -f "$tarball" ]; then good; else bad "no tarball: $tarball"; fi
mkdir "$W/one" "$W/second folder"
for folder in "$W/one" "$W/second folder"; do
    tar -xzf "$tarball" -C "$folder" --strip-components=1
done
if unshare -rn true 2>/dev/null; then
    cut='unshare -rn'
else
    cut='env http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9'
    echo 'SKIPPED dist: unshare is not allowed here: the network is only hidden'
fi
for folder in "$W/one" "$W/second folder"; do
    if (cd "$folder" && $cut make -s) >"$W/log" 2>&1; then good; else
        bad "make in the unpacked tarball"
        tail -n 20 "$W/log"
    fi
done
if cmp "$W/one/s3up" "$W/second folder/s3up"; then good; else bad 'two builds differ'; fi
if cmp "$W/one/s3up" s3up; then good; else bad 'the tarball builds another program'; fi
if "$W/one/s3up" version | grep -q '^s3up '; then good; else bad 'it does not run'; fi
if (cd "$W/one" && $cut make -s install PREFIX=/opt/x DESTDIR="$W/some root") >"$W/log" 2>&1 &&
    cmp "$W/one/s3up" "$W/some root/opt/x/bin/s3up" && [ -x "$W/some root/opt/x/bin/s3up" ] &&
    [ "$(cd "$W/some root" && find . -type f)" = ./opt/x/bin/s3up ]; then good; else
    bad 'make install'
    cat "$W/log"
fi
if command -v file >/dev/null; then
    if file "$W/one/s3up" | grep -q 'statically linked'; then good; else bad "$(file s3up)"; fi
fi
rm -f "$tarball"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
