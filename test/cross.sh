#!/bin/sh
# cross.sh: the same tests on other machines: big-endian, 32 bits, other CPUs' instructions, and a char
# without sign. Compilers make static programs, qemu's user mode runs them.
#
#   test/cross.sh            all machines for which there is a compiler
#   test/cross.sh NAME...    these: unsigned-char plain-x86 mips armel aarch64 i686 riscv64
#
# Debian packages that it wants; what is missing is skipped, loudly, and counts as nothing:
#   mips     gcc-mips-linux-gnu libc6-dev-mips-cross qemu-user-static
#   armel    gcc-arm-linux-gnueabi libc6-dev-armel-cross qemu-user-static
#   aarch64  gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
#   i686     gcc-i686-linux-gnu libc6-dev-i386-cross qemu-user-static
#   riscv64  gcc-riscv64-linux-gnu libc6-dev-riscv64-cross qemu-user-static
#   plain-x86 and unsigned-char need the system's own compiler, the first also qemu-user-static
#
# JOBS says how many machines at a time (2), FUZZ how many inputs each fuzz target gets (100), CC which
# compiler is the system's own. Programs stay in .build/cross. Ends with "N passed, M failed".

# shellcheck disable=SC2086 # the words of $cc and $qemu are a program and its options each
# shellcheck disable=SC2016 # and the $0 is that of the shell within
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
cd "$root" || exit 2
bearssl=vendor/build/bearssl
all="unsigned-char plain-x86 mips armel aarch64 i686 riscv64"

# Sets cc (with flags), qemu (with flags, or nothing: the machine itself), needs (packages), sums (what
# `s3up version` must say about its sums there, or nothing).
machine()
{
    qemu='' needs=qemu-user-static sums=''
    case $1 in
    # The machine itself: what its kernel says about its CPU is what the program must find.
    unsigned-char)
        cc="${CC:-cc} -funsigned-char" needs='' sums=portable
        grep -qE '^(flags|Features).* (sha_ni|sha2)( |$)' /proc/cpuinfo && sums=hardware
        ;;
    # A CPU from before there were instructions for sums: it must not meet one.
    plain-x86) cc=${CC:-cc} qemu='qemu-x86_64 -cpu qemu64' sums=portable ;;
    mips) cc=mips-linux-gnu-gcc qemu=qemu-mips needs="gcc-mips-linux-gnu libc6-dev-mips-cross $needs" sums=portable ;;
    armel) cc=arm-linux-gnueabi-gcc qemu=qemu-arm needs="gcc-arm-linux-gnueabi libc6-dev-armel-cross $needs" sums=portable ;;
    aarch64) cc=aarch64-linux-gnu-gcc qemu='qemu-aarch64 -cpu max' needs="gcc-aarch64-linux-gnu libc6-dev-arm64-cross $needs" sums=hardware ;;
    i686) cc=i686-linux-gnu-gcc qemu='qemu-i386 -cpu max' needs="gcc-i686-linux-gnu libc6-dev-i386-cross $needs" ;;
    riscv64) cc=riscv64-linux-gnu-gcc qemu=qemu-riscv64 needs="gcc-riscv64-linux-gnu libc6-dev-riscv64-cross $needs" sums=portable ;;
    *)
        echo "cross.sh: there is no machine \"$1\"; there are: $all" >&2
        return 2
        ;;
    esac
}

have()
{
    command -v "${1%% *}" >/dev/null 2>&1
}

compile() # LEVEL OUT SOURCE...
{
    level=$1 out=$2
    shift 2
    $cc -static -std=c99 -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 "$level" -Itest -isystem "$bearssl/inc" \
        -o "$out" "$@" $lib >"$out.log" 2>&1
}

bear() # once for each machine; all files in one call, since most of the time is the compiler's start
{
    lib=''
    grep -q 'include <bearssl.h>' s3up.c || return 0
    lib=$box/libbearssl.a
    [ -f "$lib" ] && cmp -s "$bearssl/pin.mk" "$box/pin.mk" && return 0
    rm -rf "$box/bearssl" "$lib"
    mkdir -p "$box/bearssl" && cp -R "$bearssl/src" "$bearssl/inc" "$box/bearssl" &&
        (cd "$box/bearssl" && find src -name '*.c' -exec $cc -w -Os -Isrc -Iinc -c {} +) >"$box/bearssl.log" 2>&1 &&
        "$($cc -print-prog-name=ar)" rcs "$lib" "$box"/bearssl/*.o && rm -rf "$box/bearssl" &&
        cp "$bearssl/pin.mk" "$box/pin.mk"
}

# Runs a program that ends with "N passed, M failed", and prints its line, or why there is none.
run() # NAME PROGRAM [ARGUMENT...]
{
    what=$1
    shift
    $qemu "$@" >"$box/$what.out" 2>&1 </dev/null
    rc=$?
    line=$(tail -n 1 "$box/$what.out" | grep -E '^[0-9]+ passed, [0-9]+ failed$')
    if [ -z "$line" ]; then
        line="0 passed, 1 failed"
        echo "FAIL $name $what: it ended with $rc, and not with its count:"
        tail -n 5 "$box/$what.out" | sed 's/^/    /'
    elif [ "$line" = "${line% 0 failed}" ] || [ "$rc" != 0 ]; then
        echo "FAIL $name $what:"
        tail -n 20 "$box/$what.out" | sed 's/^/    /'
    fi
    echo "$name $what: $line"
}

verdict() # NAME GOOD: a check of our own
{
    if [ "$2" = 0 ]; then
        echo "$name $1: 1 passed, 0 failed"
    else
        echo "$name $1: 0 passed, 1 failed"
    fi
}

one() # NAME
{
    name=$1
    machine "$name" || exit 2
    box=.build/cross/$name
    if ! have "$cc"; then
        echo "SKIPPED $name: install ${needs:-a C compiler}"
        return
    fi
    if [ "$name" = plain-x86 ] && [ "$($cc -dumpmachine | cut -d- -f1)" != x86_64 ]; then
        echo "SKIPPED $name: $cc makes programs for another CPU"
        return
    fi
    if [ -n "$qemu" ]; then
        program=${qemu%% *}
        options=${qemu#"$program"}
        if have "$program-static"; then
            qemu=$program-static$options
        elif ! have "$program"; then
            echo "SKIPPED $name: install $needs"
            return
        fi
    fi
    mkdir -p "$box"
    if ! bear; then
        echo "FAIL $name: BearSSL does not compile; see $box/bearssl.log"
        verdict bearssl 1
        return
    fi
    for source in test/unit.c test/sigv4.c test/wire.c test/journal.c test/fuzz_*.c; do
        case $name:$source in
        *:test/fuzz_main.c) continue ;;
        # qemu hands over SO_ERROR with the numbers of its own machine; those of mips are others.
        mips:test/wire.c) continue ;;
        # What readers make of bytes hangs on their order and on char's sign; sums, on the CPU.
        mips:* | unsigned-char:* | *:test/fuzz_sums.c) ;;
        *:test/fuzz_*) continue ;;
        esac
        [ -f "$source" ] || continue
        set -- "$source"
        source=$(basename "$source" .c)
        case $source in fuzz_*) set -- "$@" test/fuzz_main.c ;; esac
        # That the tests have no warnings is for the system's own compiler to say. To optimise them takes
        # longer than they then save.
        if ! compile -O0 "$box/$source" "$@" -w; then
            echo "FAIL $name: $source does not compile:"
            grep -E 'error|undefined' "$box/$source.log" | head -n 5 | sed 's/^/    /'
            verdict "$source" 1
            continue
        fi
        case $source in
        fuzz_*) run "$source" "$box/$source" -n "${FUZZ:-100}" ;;
        *) run "$source" "$box/$source" ;;
        esac
    done
    # The program, as the product is compiled: a conversion may lose bits on this machine only. What is
    # not used yet is not used anywhere, which warnings.sh tells.
    compile -O1 "$box/s3up" s3up.c -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wformat=2 -Werror -Wno-unused-function
    rc=$?
    verdict "compiles without warnings" "$rc"
    [ "$rc" = 0 ] || grep -E 'error|undefined' "$box/s3up.log" | head -n 5 | sed 's/^/    /'
    if [ -n "$sums" ] && [ "$rc" = 0 ]; then
        $qemu "$box/s3up" version >"$box/version" 2>&1
        grep -q "sha256: $sums, crc: $sums" "$box/version"
        verdict "version says \"$sums\"" $?
    fi
}

if [ "${1-}" = --one ]; then
    one "$2"
    exit
fi
[ $# -gt 0 ] || set -- $all
for name in "$@"; do
    machine "$name" || exit 2
done
if grep -q 'include <bearssl.h>' s3up.c && ! [ -f "$bearssl/inc/bearssl.h" ] && ! vendor/get bearssl; then
    echo "cross.sh: there is no BearSSL in $bearssl" >&2
    exit 2
fi
mkdir -p .build/cross
# Each machine's words come out together. One whose run was cut off has failed, and so has one of which
# nothing was heard at all.
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -n 1 \
    sh -c '"$0" --one "$1" >.build/cross/$1.words 2>&1 ||
        echo "$1 itself: 0 passed, 1 failed" >>.build/cross/$1.words; cat .build/cross/$1.words' "$root/test/cross.sh" \
    | tee .build/cross/words
awk -v names="$*" '/: [0-9]+ passed, [0-9]+ failed$/ { passed += $(NF - 3); failed += $(NF - 1); heard[$1] = 1 }
    /^SKIPPED/ { print "(" $0 ")"; heard[substr($2, 1, length($2) - 1)] = 1 }
    END { for (n = split(names, name, " "); n; n--)
              if (!(name[n] in heard)) { failed++; print "FAIL " name[n] ": nothing was heard of it" }
          print passed + 0 " passed, " failed + 0 " failed"; exit failed != 0 || passed == 0 }' .build/cross/words
