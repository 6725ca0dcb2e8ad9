#!/bin/sh
# warnings.sh: s3up.c under the warnings of every compiler that is here, and as signedness and
# optimisation vary: what one does not see, another may.
set -u
passed=0 failed=0
strict='-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
-Wformat=2 -Wno-unused-function -Wundef -Wpointer-arith -Wcast-qual -Wwrite-strings -Werror'
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
for cc in gcc clang; do
    command -v $cc >/dev/null || { echo "SKIPPED warnings: install $cc"; continue; }
    front='' # clang's warnings come from its front end; gcc's, from the optimiser, too
    [ $cc = gcc ] || front=-fsyntax-only
    for flags in -O0 '-O2 -funsigned-char' '-Os -fsigned-char' '-O3 -DS3UP_NO_MAIN'; do
        # shellcheck disable=SC2086 # lists of flags
        if $cc -std=c99 $front $flags $strict ${CPPFLAGS-} -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 \
            -c -o /dev/null s3up.c >"$out" 2>&1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAIL warnings: $cc $flags"
            head -n 20 "$out"
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
