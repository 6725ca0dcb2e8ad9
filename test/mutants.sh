#!/bin/sh
# mutants.sh: do the tests notice? Breaks s3up.c in one place at a time, on a copy, and runs the tests
# that should see it: a break that none sees is a hole in them. Wants musl's or the system's compiler
# and a built library of BearSSL; takes about ten seconds a line.
#
#   test/mutants.sh LIBBEARSSL_A [PATTERN]      all breaks, or those whose name has PATTERN in it
#
# Ends with "N passed, M failed": one for each break; passed means that a test failed.
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
lib=$(cd "$(dirname "$1")" && pwd)/${1##*/}
pattern=${2-}
box=$(mktemp -d) || exit 2
trap 'rm -rf "$box"' EXIT
trap 'exit 130' INT TERM
cp -R "$root/test" "$root/s3up.h" "$box" || exit 2

# NAME | TESTS | BASIC REGULAR EXPRESSION | WHAT TAKES ITS PLACE
breaks='sha256 round constant, first|unit|0x428a2f98|0x428a2f99
sha256 round constant, middle|unit|0x766a0abb|0x766a0abc
sha256 round constant, last|unit|0xc67178f2|0xc67178f3
sha256 start|unit|0x6a09e667|0x6a09e677
sha256 padding|unit|rest\[have++\] = 0x80|rest[have++] = 0x81
md5 round constant, first|unit|0xd76aa478|0xd76aa479
md5 round constant, last|unit|0xeb86d391|0xeb86d390
md5 start|unit|0x10325476}|0x10325477}
crc32 polynomial|unit|0xedb88320|0xedb88321
crc32c polynomial|unit|0x82f63b78|0x82f63b79
crc64nvme polynomial|unit|0x9a6c9329ac4bc9b5|0x9a6c9329ac4bc9b4
hmac inner pad|unit|pad\[i\] ^= 0x36;|pad[i] ^= 0x37;
hmac outer pad|unit|0x36 ^ 0x5c|0x36 ^ 0x5d
canonical request: header colon|sigv4|buf_char(out, .:.);|buf_char(out, 59);
canonical request: scope|sigv4|"/aws4_request"|"/aws5_request"
canonical request: string to sign|sigv4|"AWS4-HMAC-SHA256.n"|"AWS4-HMAC-SHA256 "
canonical request: derived key|sigv4|SPAN("aws4_request")|SPAN("aws4-request")
canonical request: repeated header|sigv4|buf_char(out, .,.);|buf_char(out, 59);
canonical request: folder at the end|sigv4|if (folder .. !tidy.n)|if (!tidy.n)
url escape digits|unit sigv4|0123456789ABCDEF|0123456789abcdef
url escape sign|unit sigv4|buf_char(b, .%.);|buf_char(b, 61);
xml escape of <|unit|"<&lt;"|"<\&gt;"
xml escape of CR|unit|"\\r&#xD;"|"\\r\&#xA;"
json escape|unit|buf_str(b, n ? "..u00"|buf_str(b, n ? "\\\\u01"
base64 padding|unit|"ABCDEFGHIJKLMNOPQRSTUVWXYZabc|"ABCDEFGHIJKLMNOPQRSTUVWXZYabc
request line|wire|" HTTP/1.1|" HTTP/1.0
a head that is not acknowledged|wire|if (c->heard \&\& c->left < HTTP_TAIL)|if (0)
complete: any root will do|wire|xml_at(&x, root)|true
complete: cut replies will do|wire|return right \&\& event == XML_END|return right
journal: any checksum will do|journal|if (jrn_crc(body) != sum_load32be(crc))|if (0)
journal: what is torn stays|journal|(int64_t)text.n != j->end \&\& ftruncate|0 \&\& ftruncate
journal: parts of the last upload|journal|k->part\[i\].done = false;|;
journal: a part without its sum|journal|memcpy(k->part\[number - 1\].sum, sum, JRN_SUM);|;
journal: a full disk|journal|(void)!ftruncate(j->fd, (off_t)j->end);|;
journal: removed before it was locked|journal|if (jrn_in_place(j->fd, path, \&info))|if (1)
journal: bytes that need an escape|journal|return c > . . \&\& c < 127|return c >= 32 \&\& c < 127
journal: a stranger|journal|if (info->st_uid != geteuid())|if (0)
ledger: a torn line|journal|last != ..n. \&\& !os_write|0 \&\& !os_write
'
passed=0 failed=0
verdict() { # WORD WHY
    if [ "$1" = caught ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    printf '%-7s %s: %s\n' "$1" "$name" "$2"
}
while IFS='|' read -r name tests from to; do
    case $name in '' | *"#"*) continue ;; *"$pattern"*) ;; *) continue ;; esac
    sed "s|$(printf %s "$from" | sed 's/|/\\|/g')|$to|" "$root/s3up.c" >"$box/s3up.c"
    if cmp -s "$root/s3up.c" "$box/s3up.c"; then
        verdict MISSED "there is nothing like it in s3up.c any more"
        continue
    fi
    seen=''
    for test in $tests; do
        if ! ${CC:-cc} -w -std=c99 -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -O1 -DS3_PAUSE=1 -I"$box/test" \
            -isystem "$root/vendor/build/bearssl/inc" -o "$box/t" "$box/test/$test.c" "$lib" 2>"$box/log"; then
            seen=
            break
        fi
        (cd "$box" && ./t) >"$box/out" 2>&1 </dev/null
        grep -Eq '^[0-9]+ passed, [1-9][0-9]* failed' "$box/out" && seen="$seen $test"
    done
    if [ -n "$seen" ]; then
        verdict caught "$(grep -om1 '[a-z0-9]*\.c:[0-9]*: .*' "$box/out" | cut -c 1-90)"
    else
        verdict MISSED "$(head -n 1 "$box/log")"
    fi
done <<EOF
$breaks
EOF
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
