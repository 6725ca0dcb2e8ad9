#!/bin/sh
# slope.sh: does s3up.c keep the rules of the house?
#
#   test/slope.sh [DIR]          checks s3up.c and s3up.h in DIR, by default the folder above this one,
#                                and prints the house numbers
#   test/slope.sh --self-test    breaks a small good program in every way that a rule forbids, and asks
#                                whether that rule notices; a check that cannot fail is none
#
# A function may call only what stands in its own room or in one above it in the file, that is, one with
# a lower number. The compiler sees to that for statics without prototypes; this script sees to it that
# there are none, and to all else that a compiler does not know. slope.awk reads the source.
#
# Needs sh, awk, grep, nm and a C compiler. CC, CPPFLAGS, NM and AWK may say which.
# Ends with "N passed, M failed", one count for each rule; 1 if any failed.

# shellcheck disable=SC2016 # awk programs and sed scripts have dollars of their own
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
AWK=${AWK:-awk}
NM=${NM:-nm}
LC_ALL=C
export LC_ALL
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# --- each rule: its name, and its findings on stdout as LINE <tab> TEXT ---------------------------

rules="rooms slope prefix prototypes layout length house params width features floats calls endings
exits strings limits version readme symbols no-main"

# In characters, not bytes: a byte that continues one is dropped first.
rule_width()
{
    for f in s3up.c s3up.h; do
        tr -d '\200-\277' <"$dir/$f" |
            $AWK -v f="$f" 'length($0) > 90 { print FNR "\t" f ": " length($0) " columns, more than 90" }
                            /\t/ { print FNR "\t" f ": a tab" } / $/ { print FNR "\t" f ": a blank at the end" }'
    done
}

# The version stands in s3up.h; who else needs it reads it there.
rule_version()
{
    version=$(sed -n 's/^#define S3UP_VERSION "\(.*\)"$/\1/p' "$dir/s3up.h")
    if [ -z "$version" ]; then
        printf '1\ts3up.h defines no S3UP_VERSION\n'
        return
    fi
    pattern=$(printf '%s' "$version" | sed 's/\./\\./g')
    for f in s3up.h s3up.c Makefile README.md; do
        [ -f "$dir/$f" ] && grep -nE "(^|[^0-9.])$pattern([^0-9.]|\.[^0-9]|\.?\$)" "$dir/$f" |
            grep -v '^[0-9]*:#define S3UP_VERSION ' |
            sed "s/^\([0-9]*\):.*/\1	$f: the version $version once more/"
    done
}

# "| 3 | text |" of a table, or "  3  text" as help prints it, below a heading that speaks of exits.
rule_readme()
{
    $AWK '/^#/ { on = tolower($0) ~ /exit/ }
          on && /^(\| *)?`?[ ]*[0-9]+`? *(\||  )/ {
              n = $0; sub(/^[| `]*/, "", n); text = n; sub(/[^0-9].*/, "", n)
              sub(/^[0-9]+`? *\|? */, "", text); sub(/ *\|? *$/, "", text)
              print n "\t" text }' "$dir/README.md" | sort >"$work/readme"
    sed -n 's/^E	//p' "$work/report" | sort >"$work/list"
    if ! [ -s "$work/readme" ]; then
        printf '1\tREADME.md has no table of exit codes\n'
    elif ! cmp -s "$work/readme" "$work/list"; then
        diff "$work/list" "$work/readme" | sed -n 's/^[<>] /1	README.md and s3up.h differ in exit code /p'
    fi
}

# What the object offers to others, but main and s3up_*.
exported()
{
    # Words of CPPFLAGS are options each. Nothing is optimised: only names are asked for.
    # shellcheck disable=SC2086
    if ! ${CC:-cc} ${CPPFLAGS-} -I"$dir/vendor/build/bearssl/inc" "$@" -std=c99 -O0 -w -c \
        -o "$work/s3up.o" "$dir/s3up.c" 2>"$work/cc"; then
        printf '1\tit does not compile: %s\n' "$(grep -m 1 error "$work/cc")"
        return 1
    fi
    $NM -g -P "$work/s3up.o" | $AWK '$2 !~ /^[Uwv]$/ { print $1 }' >"$work/names"
}

rule_symbols()
{
    exported || return
    grep -q '^main$' "$work/names" || printf '1\tthere is no main\n'
    grep -vE '^(main|s3up_.*)$' "$work/names" | sed 's/^/1	a name that others could trip over: /'
}

rule_no_main()
{
    exported -DS3UP_NO_MAIN || return
    grep -q '^s3up_main$' "$work/names" || printf '1\twith S3UP_NO_MAIN there is no s3up_main\n'
    grep -v '^s3up_' "$work/names" | sed 's/^/1	with S3UP_NO_MAIN, a name that others could trip over: /'
}

findings()
{
    case $1 in
    width) rule_width ;;
    version) rule_version ;;
    readme) rule_readme ;;
    symbols) rule_symbols ;;
    no-main) rule_no_main ;;
    *) sed -n "s/^F	$1	//p" "$work/report" | sort -n -u ;;
    esac
}

check()
{
    dir=$1 passed=0 failed=0
    $AWK -f "$here/slope.awk" "$dir/s3up.h" "$dir/s3up.c" >"$work/report" || exit 2
    for rule in $rules; do
        if [ "$rule" = readme ] && ! [ -f "$dir/README.md" ]; then
            echo "SKIPPED readme: there is no README.md"
            continue
        fi
        : >"$work/names"
        findings "$rule" >"$work/found"
        if ! [ -s "$work/found" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            sed "s/^\([0-9]*\)	/FAIL $rule: line \1: /" "$work/found"
        fi
    done
    sed -n 's/^N	\([^	]*\)	/  \1: /p' "$work/report"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

# --- the self-test --------------------------------------------------------------------------------

good_tree()
{
    rm -rf "$work/tree"
    mkdir "$work/tree"
    cat >"$work/tree/s3up.h" <<'H'
/*
 * The map.
 *
 *   room                  prefix          owns
 *    0  front page        -               the story
 *    1  text              span_ num_      views
 *                         url_            addresses
 *    2  sums              sum_            digests
 *   17  command line      cli_            verbs
 *
 */
#define S3UP_VERSION "4.5.6"
#define S3UP_EXITS(X)                                                                    \
    X(OK, 0, "all done")                                                                 \
    X(USAGE, 2, "the command line is wrong")
enum s3up_exit {
#define S3UP_EXIT_NAME(name, number, text) S3UP_##name = (number),
    S3UP_EXITS(S3UP_EXIT_NAME)
#undef S3UP_EXIT_NAME
};
H
    cat >"$work/tree/s3up.c" <<'C'
/* A licence.
 *
 * ===== ROOM 0 front page: the story =====
 *
 * It is short. "Quotes, and sum_of( in comments, say nothing.
 */
#include "s3up.h"
#include <stdio.h>
#define NUM_MAX   4096
#define PIECE_MAX 65536
#ifndef PIECE_MIN
#define PIECE_MIN 16
#endif

/* ===== ROOM 1 text: views =====
 *
 * A head note.
 */

static const char *const num_names[] = {"sum_of(", "/* none */"};

/* Twice. */
static int
num_twice(int n, const char *name)
{
    static const char marks[] = {'"', '\'', '{'};

    for (int i = 0; i < n; i++) {
        if (name && i > NUM_MAX)
            return marks[0];
    }
    return 2 * n;
}

/* room 1 */

/* ===== ROOM 2 sums: digests =====
 *
 * A head note.
 */

#if defined(__x86_64__)
#define SUM_FAST 1
#else
#define SUM_FAST 0
#endif

struct sum {
    int n;
    int cli_field;
};

static unsigned sum_calls;

__attribute__((noinline)) static int
sum_of(struct sum *s, int (*add)(int, const char *))
{
    s->cli_field = SUM_FAST;
    sum_calls++;
    return add(s->n, num_names[0]);
}

/* room 2 */

/* ===== ROOM 17 command line: verbs =====
 *
 * A head note.
 */

static int
cli_run(void)
{
    struct sum s = {.n = 65};

    return sum_of(&s, num_twice) > 3 ? S3UP_USAGE : S3UP_OK;
}

/* room 17 */

#ifdef S3UP_NO_MAIN
#define main s3up_main
int s3up_main(int argc, char **argv);
#endif

int
main(int argc, char **argv)
{
    (void)argv;
    printf("%s\n", S3UP_VERSION);
    return argc > 1 ? S3UP_USAGE : cli_run();
}
C
    cat >"$work/tree/README.md" <<'M'
# s3up
| 7 | not an exit code |
## Exit codes
| code | meaning |
|---|---|
| 0 | all done |
| `2` | the command line is wrong |
M
    printf 'all:\n\tcc s3up.c\n' >"$work/tree/Makefile"
}

# That the rule, and it alone unless others are named, fails for the tree as it is now.
expect()
{
    want=$(echo "$1" | tr ' ' '\n' | sort)
    # A shell of its own, for what check leaves behind in variables.
    (check "$work/tree") >"$work/out" 2>&1
    got=$(sed -n 's/^FAIL \([a-z-]*\): .*/\1/p' "$work/out" | sort -u)
    if [ "$got" = "$want" ]; then
        tried_passed=$((tried_passed + 1))
        tried="$tried $1"
    else
        tried_failed=$((tried_failed + 1))
        echo "FAIL self-test: $2: expected \"$1\", got \"$(echo "$got" | tr '\n' ' ')\""
        sed 's/^/    /' "$work/out"
    fi
}

# try RULES WHAT FILE SED-SCRIPT: one change to the good tree.
try()
{
    good_tree
    sed "$4" "$work/tree/$3" >"$work/changed"
    if cmp -s "$work/changed" "$work/tree/$3"; then
        echo "FAIL self-test: $2: the change does not change anything"
        tried_failed=$((tried_failed + 1))
        return
    fi
    cp "$work/changed" "$work/tree/$3"
    expect "$1" "$2"
}

# add RULES WHAT ROOM CODE: code at the end of a room of s3up.c.
add()
{
    good_tree
    # The marker is a whole line, and the code has newlines: awk, since sed's i\ differs between systems.
    CODE=$4 $AWK -v mark="/* room $3 */" '$0 == mark { print ENVIRON["CODE"] } { print }' \
        "$work/tree/s3up.c" >"$work/changed"
    cp "$work/changed" "$work/tree/s3up.c"
    expect "$1" "$2"
}

fun() # NAME BODY [PARAMETERS]: a function in the style of the house
{
    printf '\nstatic int\n%s(%s)\n{\n    %s\n}' "$1" "${3-void}" "$2"
}

lines() # N: as many statements
{
    $AWK -v n="$1" 'BEGIN { while (n--) print "    sum_calls++;" }'
}

self_test()
{
    tried='' tried_passed=0 tried_failed=0
    good_tree
    expect '' 'a good program'

    add slope 'a call of an undeclared function in a higher room' 1 "$(fun num_up 'return sum_up(1);')"
    add 'prototypes slope' 'a call uphill by way of a prototype' 1 \
        "$(printf 'static int cli_run(void);\n'; fun num_up 'return cli_run();')"
    add 'prototypes slope' 'a pointer to a function of a higher room' 1 \
        "$(printf 'static int cli_run(void);\nstatic int (*const num_hook)(void) = cli_run;\n')"
    add slope 'a macro that names a higher room' 1 '#define NUM_RUN() cli_run()'
    add slope 'a macro of a higher room' 1 '#define NUM_FAST SUM_FAST'
    add prototypes 'a static prototype' 2 'static int sum_of(struct sum *s, int (*add)(int, const char *));'
    add prototypes 'a static prototype over two lines' 2 "$(printf 'static int sum_later(int a,\n    int b);')"
    add prefix 'a function without its room'\''s prefix' 2 "$(fun helper 'return 0;')"
    add prefix 'a function with the prefix of another room' 2 "$(fun url_helper 'return 0;')"
    add prefix 'a variable without prefix' 2 'static int calls;'
    add prefix 'a macro without prefix' 2 '#define HELPER 1'
    add '' 'a macro without prefix that does not last' 2 "$(printf '#define HELPER 1\n#undef HELPER')"
    add layout 'a definition on one line' 2 'static int sum_one(void) { return 1; }'
    try layout 'something behind main' s3up.c "\$a\\
static int\\
cli_last(void)\\
{\\
    return 0;\\
}"
    short=$(for n in 1 2 3 4 5 6; do fun sum_short$n 'return 0;'; done)
    add length 'a function of 81 lines' 2 "$short$(fun sum_long "$(lines 77)")"
    add '' 'a function of 80 lines' 2 "$short$(fun sum_long "$(lines 76)")"
    add '' 'a long function that says why' 2 \
        "$short
/* A flat switch: longer than 80 lines. */$(fun sum_long "$(lines 100)")"
    add house 'too many functions of 60 lines' 2 \
        "$(fun sum_a "$(lines 60)")$(fun sum_b "$(lines 60)")$(fun sum_c "$(lines 60)")$(fun sum_d "$(lines 60)")"
    add params 'six parameters' 2 "$(fun sum_six 'return 0;' 'int a, int b, int c, int d, int e, int f')"
    add '' 'five parameters' 2 "$(fun sum_five 'return 0;' 'int a, int b, int c, int (*d)(int, int), int e')"
    add width 'a line of 91 columns' 2 "/* $(printf '%085d' 0) */"
    add '' 'a line of 90 columns, one of them of two bytes' 2 "/* $(printf '%083d\303\251' 0) */"
    add width 'a tab' 2 '	'
    add width 'a blank at the end of a line' 2 '/* */ '
    add rooms 'what looks like a banner' 2 '/* ===== an aside ===== */'
    try 'prefix rooms slope' 'a room with a lower number than the one before' s3up.c 's/ROOM 17 /ROOM 1 /'
    try rooms 'a room with another name' s3up.c 's/ROOM 2 sums/ROOM 2 digests/'
    try 'prefix rooms' 'a room that is not on the map' s3up.h '/ 2  sums/d'
    try rooms 'a room that is on the map only' s3up.h 's/^ \*   17 / *    8  http              http_           requests\
&/'
    try rooms 'a prefix that two rooms claim' s3up.h 's/cli_ /url_ cli_ /'
    try rooms 'a room without a head note' s3up.c '/ROOM 17/{
n
n
d
}'
    add features 'an #ifdef outside of the rooms for it' 1 "$(printf '#ifdef __linux__\n#endif')"
    add floats 'a double' 1 "$(fun num_half 'return (int)(double)n / 2;' 'int n')"
    add floats 'a floating point literal' 1 "$(fun num_half 'return (int)(n * .5);' 'int n')"
    add '' 'a hexadecimal number with an e' 1 "$(fun num_hex 'return n & 0x1e5;' 'int n')"
    add calls 'sprintf' 1 "$(fun num_print 'return sprintf(to, "x");' 'char *to')"
    add calls 'atoi' 1 "$(fun num_read 'return atoi(from);' 'const char *from')"
    add calls 'mmap of a file' 1 "$(fun num_map 'return !mmap(NULL, 9, 1, MAP_SHARED, fd, 0);' 'int fd, int MAP_SHARED')"
    add '' 'mmap of memory' 1 "$(fun num_map 'return !mmap(NULL, 9, 1, MAP_SHARED | MAP_ANONYMOUS, -1, 0);' \
        'int MAP_SHARED, int MAP_ANONYMOUS')"
    add endings '_exit in a low room' 2 "$(fun sum_die '_exit(S3UP_USAGE);')"
    add endings 'exit of a child' 2 "$(fun sum_child 'exit(S3UP_USAGE);')"
    add '' '_exit of a child' 2 "$(fun sum_child '_exit(1);')$(fun sum_run 'if (!fork()) _exit(1);')"
    add exits 'exit with a number' 17 "$(fun cli_die 'exit(2);')"
    add exits 'a returned exit code as a number' 17 "$(fun cli_two 'return 2;')"
    add exits 'a failure with a number' 17 "$(fun cli_two 'return fail_set(f, 2, "x");' 'struct fail *f')"
    add exits 'an exit code in a text' 17 "$(fun cli_two 'return printf("exit 8 means locked");')"
    add strings 'a long text twice' 17 "$(fun cli_say 'printf("this text has a length of forty, at the least");
    return printf("this text has a length of forty, at the least");')"
    add '' 'a long word twice' 17 "$(fun cli_say 'printf("this_text_has_a_length_of_forty_at_the_least");
    return printf("this_text_has_a_length_of_forty_at_the_least");')"
    add limits 'a limit as a number' 2 "$(fun sum_all 'return sum_calls < 65536;')"
    add limits 'a limit in a text' 17 "$(fun cli_say 'return printf("at most 4,096 names");')"
    try version 'the version in s3up.c' s3up.c 's/"%s.n", S3UP_VERSION/"4.5.6"/'
    try version 'the version in the Makefile' Makefile 's/all:/all: s3up-4.5.6.tar.gz/'
    try '' 'another version that looks alike' Makefile 's/all:/all: musl-4.5.60 14.5.6 4.5.6.1/'
    try 'no-main symbols version' 'no version' s3up.h 's/define S3UP_VERSION "4.5.6"/define S3UP_VERSION S3UP_NUMBER/'
    try readme 'an exit code that README.md does not have' README.md '/^| 0/d'
    try readme 'an exit code that README.md tells otherwise' README.md 's/is wrong/is right/'
    try readme 'an exit code that only README.md has' README.md '$a\
| 3 | other |'
    try readme 'a README.md without the table' README.md 's/^## .*/## Other numbers/'
    add symbols\ no-main 'a function that is not static' 2 "$(printf '\nint\nsum_open(void)\n{\n    return 0;\n}')"
    add symbols\ no-main 'a variable that is not static' 2 'int sum_open;'
    add symbols\ no-main 'a program that does not compile' 2 '#error no'
    try no-main 'S3UP_NO_MAIN without effect' s3up.c '/define main/d'
    for rule in $rules; do # a rule that nothing has tripped is a rule that may not work
        case " $tried " in
        *" $rule "*) tried_passed=$((tried_passed + 1)) ;;
        *)
            echo "FAIL self-test: nothing tried to break the rule \"$rule\""
            tried_failed=$((tried_failed + 1))
            ;;
        esac
    done
    echo "$tried_passed passed, $tried_failed failed"
    [ "$tried_failed" = 0 ]
}

case ${1-} in
--self-test) self_test ;;
-*)
    echo "usage: test/slope.sh [--self-test | DIR]" >&2
    exit 2
    ;;
*) check "${1:-$here/..}" ;;
esac
