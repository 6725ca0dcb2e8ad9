/*
 * s3d: a small S3 store on loopback for testing clients: strict, and rude on request
 *
 * It checks what a careful store checks (signatures rebuilt from the raw bytes, every
 * digest, every limit) and misbehaves on cue (resets, stalls, cut or lying replies), so
 * that a client can be shown every answer it may ever get. It shares no code with any
 * client: what it says about a signature or a checksum is an independent opinion.
 *
 * The story of one request. The parent accepts and forks; the child owns the connection
 * until it ends. A head is read and split; the raw target names an operation; the fault
 * rules are asked; the signature is verified; the body streams through the digests into
 * a temporary file; under one lock the file is renamed to its place and a line is added
 * to the bucket's index; the reply goes out, bent by whatever fault has fired. A kill -9
 * at any point leaves whole objects only: the rename is the commit, and the index is
 * rebuilt at start.
 *
 * Built by: cc -std=c99 -O2 -o s3d test/s3d.c
 * With TLS: ... -DS3D_TLS -I BEARSSL/inc test/s3d.c libbearssl.a
 *
 *   s3d --dir DIR [options]
 *     --port N              0 (default): any free port
 *     --port-file F         where to write the port, atomically, once it listens
 *     --ipv6                listen on ::1 as well as on 127.0.0.1
 *     --region R            us-east-1
 *     --key ACCESS:SECRET[:TOKEN]     repeatable; default test:testsecret
 *     --bucket NAME         made at start, repeatable
 *     --public NAME         a bucket that anyone may read
 *     --virtual-host SUFFIX BUCKET.SUFFIX in Host names the bucket
 *     --fault 'RULE'        repeatable, see below; --seed N moves the dice of p=
 *     --quirk NAME          repeatable, see QUIRKS in room 5
 *     --rate B, --rate-conn B         bytes a second of all connections, of each
 *     --min-part BYTES      5 MiB; the smallest part that is not the last
 *     --list-max N          1000; the largest page
 *     --sink                keep lengths and digests only; a GET sends zeros
 *     --sink-fast           the same without any digest: every ETag is made up
 *     --idle MS             60000; a connection without a request is closed
 *     --body-timeout MS     20000; silence in a body is 400 RequestTimeout
 *     --cors                answer browsers
 *     --heads               keep the raw request heads; always on with --proxy
 *     --proxy               be a forward proxy instead (CONNECT and absolute form)
 *     --proxy-auth USER:PASS
 *     --cert PEM --key PEM  speak TLS 1.2 (needs -DS3D_TLS and BearSSL); the door
 *                           also opens in the clear
 *     --die-with-parent, --quiet
 *   s3d ctl PORT|@PORTFILE VERB [ARG...]
 *     the client of the door below. stats [NAME], log, heads, reset, go, clock SECONDS;
 *     faults, quirks, keys: each ARG is a line, without any they come from stdin
 *   s3d sum md5|sha1|sha256|crc32|crc32c|crc64nvme
 *     digest of stdin: in hex, then in base64
 *
 * The door is never signed, faulted, counted or logged.
 *   GET  /_s3d/stats   "name value" lines, then the last requests
 *   GET  /_s3d/log     a line for each request: connection method target status bytes-in
 *                      bytes-out signed(yes|no) operation error-code faults
 *   GET  /_s3d/heads   the raw heads
 *   POST /_s3d/faults, /_s3d/quirks, /_s3d/keys     the body's lines replace the old ones
 *   POST /_s3d/reset   counters, log and heads begin anew
 *   POST /_s3d/go      what a stall holds up goes on at once
 *   POST /_s3d/clock   body: seconds to add to the system's time
 *
 * A fault rule: METHOD PATTERN ACTION[=ARG] [p=PERCENT] [n=COUNT] [after=K]
 *   METHOD   *, a method, or an operation (UploadPart, ListObjectsV2, ...)
 *   PATTERN  a glob (* and ?) over the raw target
 *   ACTION   see ACTIONS and ERROR_ACTIONS in room 5
 *   p, n, after   the chance in percent (seeded, so it repeats); how often at most; how
 *            many matches pass first
 * Several rules may fire at one request. One that answers with an error does so after
 * the signature was found good and the body was read; early-* answer at once. A faulted
 * request changes nothing in the store unless its row says so.
 */
#define _GNU_SOURCE
#include <arpa/inet.h> /* htons(), loopback addresses */
#include <ctype.h>     /* isalnum() and friends, always on unsigned char */
#include <dirent.h>    /* readdir(): parts, uploads, the scan at start */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h> /* PRId64 */
#include <limits.h>
#include <netdb.h>       /* getaddrinfo() for the proxy's origins */
#include <netinet/tcp.h> /* TCP_NODELAY */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>   /* strncasecmp() */
#include <sys/file.h>  /* flock(): one writer at a time */
#include <sys/mman.h>  /* the counters all children share */
#include <sys/prctl.h> /* children die with their parent */
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h> /* SHA instructions: the store must not be the bottleneck */
#endif
#ifdef S3D_TLS
#include <bearssl.h>
#endif

enum {
    HEAD_MAX = 64 * 1024, /* request head; larger is refused */
    HEADERS_MAX = 256,
    KEY_MAX = 1024,
    META_MAX = 2048, /* names and values of x-amz-meta-* together */
    PART_LAST = 10000,
    XML_MAX = 8 * 1024 * 1024, /* 1,000 keys of 1,024 bytes, each escaped */
    SMALL_REPLY = 64 * 1024,   /* head and body leave in one packet */
    SMALL_BODY =
        256 * 1024, /* an unread rest up to this is read to keep the connection */
    CHUNK = 256 * 1024,
    RULES_MAX = 64,
    KEYS_MAX = 32,
    CHILDREN_MAX = 2000
};
#define PUT_MAX (INT64_C(5) << 30) /* one PUT, one part, one copy */

/* ===== ROOM 1 text: views, memory that lives for one request, buffers, encodings =====
 *  Everything a request needs is taken from one arena that is emptied after the reply,
 *  so no path through the program can leak and no pointer outlives its request. */

struct str {
    const char *p;
    size_t n;
}; /* a view; p NULL: absent */
struct buf {
    char *p;
    size_t n, cap;
}; /* grows inside the arena, NUL kept behind */
struct block {
    struct block *next;
    size_t used, size;
    char data[];
};

static struct block *ram;

static void *
ram_get(size_t n)
{
    struct block *b = ram;
    char *p;

    n = (n + 15) & ~(size_t)15;
    if (!b || b->size - b->used < n) {
        size_t size = n > 65536 ? n : 65536;

        b = malloc(sizeof *b + size);
        if (!b)
            _exit(70);
        b->next = ram;
        b->used = 0;
        b->size = size;
        ram = b;
    }
    p = b->data + b->used;
    b->used += n;
    return p;
}

static void
ram_reset(void)
{
    while (ram && (ram->next || ram->size > 65536)) {
        struct block *b = ram;

        ram = b->next;
        free(b);
    }
    if (ram)
        ram->used = 0;
}

static struct str
str_of(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

/* A NUL-terminated copy; a view from the wire never is. */
static char *
str_c(struct str s)
{
    char *p = ram_get(s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}

static bool
str_eq(struct str a, struct str b)
{
    return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

static bool
str_is(struct str a, const char *b)
{
    return a.p && str_eq(a, str_of(b));
}

static bool
str_isi(struct str a, const char *b)
{
    return a.p && a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

static bool
str_starts(struct str a, struct str b)
{
    return a.n >= b.n && (!b.n || memcmp(a.p, b.p, b.n) == 0);
}

static int
str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int d = n ? memcmp(a.p, b.p, n) : 0;

    return d ? d : (a.n > b.n) - (a.n < b.n);
}

static struct str
str_from(struct str s, size_t at)
{
    return at > s.n ? (struct str){s.p + s.n, 0} : (struct str){s.p + at, s.n - at};
}

static struct str
str_trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = str_from(s, 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Cuts at the first sep: returns what stands before it, leaves the rest in *s (absent
 * at the end, so a loop runs while s->p). */
static struct str
str_cut(struct str *s, char sep)
{
    const char *q = s->n ? memchr(s->p, sep, s->n) : NULL;
    struct str head = {s->p, q ? (size_t)(q - s->p) : s->n};

    *s = q ? (struct str){q + 1, s->n - head.n - 1} : (struct str){NULL, 0};
    return head;
}

static bool
str_num(struct str s, int64_t *out)
{
    int64_t v = 0;

    if (!s.n || s.n > 18)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (s.p[i] - '0');
    }
    *out = v;
    return true;
}

static struct str
str_lower(struct str s)
{
    char *p = str_c(s);

    for (size_t i = 0; i < s.n; i++)
        p[i] = (char)tolower((unsigned char)p[i]);
    return (struct str){p, s.n};
}

static void
buf_add(struct buf *b, const void *p, size_t n)
{
    if (b->cap - b->n <= n) {
        size_t cap = (b->n + n + 1) * 2;
        char *q = ram_get(cap);

        if (b->n)
            memcpy(q, b->p, b->n);
        b->p = q;
        b->cap = cap;
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static void
buf_s(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

static void
buf_str(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

__attribute__((format(printf, 2, 3))) static void
buf_f(struct buf *b, const char *fmt, ...)
{
    char small[512], *p = small;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof small) {
        p = ram_get((size_t)n + 1);
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    buf_add(b, p, n > 0 ? (size_t)n : 0);
}

static struct str
buf_view(const struct buf *b)
{
    return (struct str){b->p ? b->p : "", b->n};
}

__attribute__((format(printf, 1, 2))) static char *
text_f(const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    p = ram_get((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

static char *
hex_of(const void *v, size_t n)
{
    const unsigned char *p = v;
    char *out = ram_get(2 * n + 1);

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = "0123456789abcdef"[p[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
    }
    out[2 * n] = 0;
    return out;
}

static int
hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool
hex_only(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (hex_digit(s.p[i]) < 0)
            return false;
    return true;
}

static const char B64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *
b64_of(const void *v, size_t n)
{
    const unsigned char *p = v;
    char *out = ram_get((n + 2) / 3 * 4 + 1), *o = out;

    for (size_t i = 0; i < n; i += 3) {
        unsigned w = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0u);

        *o++ = B64[w >> 18];
        *o++ = B64[w >> 12 & 63];
        *o++ = i + 1 < n ? B64[w >> 6 & 63] : '=';
        *o++ = i + 2 < n ? B64[w & 63] : '=';
    }
    *o = 0;
    return out;
}

/* Strict: full groups, right padding, no spare bits. False also if out is too small. */
static bool
b64_read(struct str s, unsigned char *out, size_t max, size_t *len)
{
    size_t n = 0;

    if (s.n % 4)
        return false;
    for (size_t i = 0; i < s.n; i += 4) {
        unsigned w = 0, pad = 0;

        for (size_t k = 0; k < 4; k++) {
            const char *q = s.p[i + k] ? strchr(B64, s.p[i + k]) : NULL;

            if (s.p[i + k] == '=' && i + 4 == s.n && k >= 2)
                pad++;
            else if (!q || pad)
                return false;
            w = w << 6 | (q ? (unsigned)(q - B64) : 0);
        }
        if (n + 3 - pad > max || (pad == 1 && w & 255) || (pad == 2 && w & 65535))
            return false;
        for (unsigned k = 0; k < 3 - pad; k++)
            out[n++] = (unsigned char)(w >> (16 - 8 * k));
    }
    *len = n;
    return true;
}

/* Percent-encoding with S3's unreserved set; keep names more bytes to leave alone. */
static void
url_add(struct buf *b, struct str s, const char *keep)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (isalnum(c) || (c && strchr("-_.~", c)) || (c && strchr(keep, c)))
            buf_add(b, &s.p[i], 1);
        else
            buf_f(b, "%%%02X", c);
    }
}

static struct str
url_of(struct str s, const char *keep)
{
    struct buf b = {0};

    url_add(&b, s, keep);
    return buf_view(&b);
}

static bool
url_read(struct str s, bool plus, struct str *out)
{
    char *o = ram_get(s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%') {
            int a = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
            int z = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;

            if (a < 0 || z < 0)
                return false;
            o[n++] = (char)(a * 16 + z);
            i += 2;
        } else {
            o[n++] = s.p[i] == '+' && plus ? ' ' : s.p[i];
        }
    }
    o[n] = 0;
    *out = (struct str){o, n};
    return true;
}

/* Glob with * and ? over bytes; * also crosses slashes. */
static bool
glob_match(const char *g, struct str s)
{
    const char *star = NULL;
    size_t i = 0, back = 0;

    while (i < s.n) {
        if (*g == '*') {
            star = ++g;
            back = i;
        } else if (*g && (*g == '?' || *g == s.p[i])) {
            g++;
            i++;
        } else if (star) {
            g = star;
            i = ++back;
        } else {
            return false;
        }
    }
    while (*g == '*')
        g++;
    return !*g;
}

/* ===== ROOM 2 sums: the digests and checksums S3 speaks =====
 *  All of them behind one start / add / end. CRCs run in 64-bit registers whatever their
 *  width, so one table routine and one combine serve all three. */

enum { SUM_CRC32, SUM_CRC32C, SUM_CRC64, SUM_SHA1, SUM_SHA256, SUM_MD5, SUMS };

static const struct {
    const char *name, *tag; /* as in x-amz-checksum-NAME and in ChecksumTAG */
    size_t size;
} sum_info[SUMS] = {
    {"crc32", "CRC32", 4}, {"crc32c", "CRC32C", 4},  {"crc64nvme", "CRC64NVME", 8},
    {"sha1", "SHA1", 20},  {"sha256", "SHA256", 32}, {"md5", "MD5", 16},
};

struct sum {
    int kind;
    uint32_t h[8];
    uint64_t crc, n; /* n: bytes so far */
    unsigned char part[64];
};

static const uint64_t crc_poly[3] = {0xEDB88320, 0x82F63B78, 0x9A6C9329AC4BC9B5};
static const unsigned crc_width[3] = {32, 32, 64};
static uint64_t crc_table[3][8][256];

static void
crc_setup(void)
{
    for (int k = 0; k < 3; k++)
        for (unsigned i = 0; i < 256; i++) {
            uint64_t v = i;

            for (int bit = 0; bit < 8; bit++)
                v = v >> 1 ^ (v & 1 ? crc_poly[k] : 0);
            crc_table[k][0][i] = v;
        }
    for (int k = 0; k < 3; k++)
        for (unsigned i = 0; i < 256; i++)
            for (int t = 1; t < 8; t++) {
                uint64_t v = crc_table[k][t - 1][i];

                crc_table[k][t][i] = v >> 8 ^ crc_table[k][0][v & 255];
            }
}

static uint64_t
crc_add(int kind, uint64_t crc, const unsigned char *p, size_t n)
{
    uint64_t(*t)[256] = crc_table[kind];

    for (; n >= 8; p += 8, n -= 8) {
        for (unsigned i = 0; i < 8; i++)
            crc ^= (uint64_t)p[i] << 8 * i;
        crc = t[7][crc & 255] ^ t[6][crc >> 8 & 255] ^ t[5][crc >> 16 & 255] ^
              t[4][crc >> 24 & 255] ^ t[3][crc >> 32 & 255] ^ t[2][crc >> 40 & 255] ^
              t[1][crc >> 48 & 255] ^ t[0][crc >> 56];
    }
    while (n--)
        crc = crc >> 8 ^ t[0][(crc ^ *p++) & 255];
    return crc;
}

/* a * b mod P in the reflected ring: the top bit is x^0. */
static uint64_t
crc_mul(int kind, uint64_t a, uint64_t b)
{
    uint64_t p = 0;

    for (uint64_t m = UINT64_C(1) << (crc_width[kind] - 1); m; m >>= 1) {
        if (a & m)
            p ^= b;
        b = b >> 1 ^ (b & 1 ? crc_poly[kind] : 0);
    }
    return p;
}

/* The CRC of A followed by B, from theirs and B's length: a * x^(8 len) + b. */
static uint64_t
crc_join(int kind, uint64_t a, uint64_t b, uint64_t len)
{
    uint64_t top = UINT64_C(1) << (crc_width[kind] - 1), x = top >> 8;

    for (; len; len >>= 1) {
        if (len & 1)
            a = crc_mul(kind, x, a);
        x = crc_mul(kind, x, x);
    }
    return a ^ b;
}

static uint32_t
rol(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static uint32_t
be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* floor(2^32 |sin(i + 1)|), RFC 1321 */
static const uint32_t md5_k[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
    0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
    0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
    0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
    0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
    0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
    0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
    0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391,
};

#define MD5_STEP(f, a, b, c, d, x, i, s) a = b + rol(a + (f) + (x) + md5_k[i], s)
#define MD5_F(b, c, d)                   ((d) ^ ((b) & ((c) ^ (d))))
#define MD5_G(b, c, d)                   ((c) ^ ((d) & ((b) ^ (c))))
#define MD5_H(b, c, d)                   ((b) ^ (c) ^ (d))
#define MD5_I(b, c, d)                   ((c) ^ ((b) | ~(d)))
#define MD5_FOUR(F, i, k, step, s0, s1, s2, s3)                                          \
    MD5_STEP(F(b, c, d), a, b, c, d, x[(k)&15], i, s0);                                  \
    MD5_STEP(F(a, b, c), d, a, b, c, x[((k) + (step)) & 15], i + 1, s1);                 \
    MD5_STEP(F(d, a, b), c, d, a, b, x[((k) + 2 * (step)) & 15], i + 2, s2);             \
    MD5_STEP(F(c, d, a), b, c, d, a, x[((k) + 3 * (step)) & 15], i + 3, s3)

static void
md5_blocks(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    for (; blocks--; p += 64) {
        uint32_t x[16], a = h[0], b = h[1], c = h[2], d = h[3];

        for (int i = 0; i < 16; i++)
            x[i] = (uint32_t)p[4 * i] | (uint32_t)p[4 * i + 1] << 8 |
                   (uint32_t)p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24;
        for (int i = 0; i < 16; i += 4) {
            MD5_FOUR(MD5_F, i, i, 1, 7, 12, 17, 22);
        }
        for (int i = 0; i < 16; i += 4) {
            MD5_FOUR(MD5_G, 16 + i, 5 * i + 1, 5, 5, 9, 14, 20);
        }
        for (int i = 0; i < 16; i += 4) {
            MD5_FOUR(MD5_H, 32 + i, 3 * i + 5, 3, 4, 11, 16, 23);
        }
        for (int i = 0; i < 16; i += 4) {
            MD5_FOUR(MD5_I, 48 + i, 7 * i, 7, 6, 10, 15, 21);
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
    }
}

static void
sha1_blocks(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};

    for (; blocks--; p += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

        for (int i = 0; i < 16; i++)
            w[i] = be32(p + 4 * i);
        for (int i = 16; i < 80; i++)
            w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20              ? (b & c) | (~b & d)
                         : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d)
                                             : b ^ c ^ d;
            uint32_t t = rol(a, 5) + f + e + k[i / 20] + w[i];

            e = d;
            d = c;
            c = rol(b, 30);
            b = a;
            a = t;
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
}

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
};

static void
sha256_plain(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    for (; blocks--; p += 64) {
        uint32_t w[64], v[8];

        for (int i = 0; i < 16; i++)
            w[i] = be32(p + 4 * i);
        for (int i = 16; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];

            w[i] = w[i - 16] + w[i - 7] + (rol(x, 25) ^ rol(x, 14) ^ x >> 3) +
                   (rol(y, 15) ^ rol(y, 13) ^ y >> 10);
        }
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t a = v[0], e = v[4];
            uint32_t t = v[7] + (rol(e, 26) ^ rol(e, 21) ^ rol(e, 7)) +
                         (v[6] ^ (e & (v[5] ^ v[6]))) + sha256_k[i] + w[i];
            uint32_t u = (rol(a, 30) ^ rol(a, 19) ^ rol(a, 10)) +
                         ((a & v[1]) | (v[2] & (a | v[1])));

            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t;
            v[0] = t + u;
        }
        for (int i = 0; i < 8; i++)
            h[i] += v[i];
    }
}

#if defined(__x86_64__)
/* Four rounds; the words they used become those of the round group four later. */
#define SHA256_FOUR(i)                                                                   \
    do {                                                                                 \
        __m128i m = _mm_add_epi32(                                                       \
            w[(i)&3],                                                                    \
            _mm_loadu_si128((const __m128i *)(const void *)(sha256_k + 4 * (i))));       \
        s1 = _mm_sha256rnds2_epu32(s1, s0, m);                                           \
        s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(m, 0x0E));                  \
        if ((i) < 12) {                                                                  \
            m = _mm_sha256msg1_epu32(w[(i)&3], w[((i) + 1) & 3]);                        \
            m = _mm_add_epi32(m,                                                         \
                              _mm_alignr_epi8(w[((i) + 3) & 3], w[((i) + 2) & 3], 4));   \
            w[(i)&3] = _mm_sha256msg2_epu32(m, w[((i) + 3) & 3]);                        \
        }                                                                                \
    } while (0)

__attribute__((target("sha,sse4.1,ssse3"))) static void
sha256_ni(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(void *)h), 0xB1);
    __m128i s1 =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(void *)(h + 4)), 0x1B);
    __m128i s0 = _mm_alignr_epi8(t, s1, 8);

    s1 = _mm_blend_epi16(s1, t, 0xF0);
    for (; blocks--; p += 64) {
        __m128i w[4], old0 = s0, old1 = s1;

        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
        SHA256_FOUR(0);
        SHA256_FOUR(1);
        SHA256_FOUR(2);
        SHA256_FOUR(3);
        SHA256_FOUR(4);
        SHA256_FOUR(5);
        SHA256_FOUR(6);
        SHA256_FOUR(7);
        SHA256_FOUR(8);
        SHA256_FOUR(9);
        SHA256_FOUR(10);
        SHA256_FOUR(11);
        SHA256_FOUR(12);
        SHA256_FOUR(13);
        SHA256_FOUR(14);
        SHA256_FOUR(15);
        s0 = _mm_add_epi32(s0, old0);
        s1 = _mm_add_epi32(s1, old1);
    }
    t = _mm_shuffle_epi32(s0, 0x1B);
    s1 = _mm_shuffle_epi32(s1, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(t, s1, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(s1, t, 8));
}
#endif

static void (*sha256_blocks)(uint32_t[8], const unsigned char *, size_t) = sha256_plain;

static void
sum_setup(void)
{
    crc_setup();
#if defined(__x86_64__)
    unsigned a, b, c, d;

    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1)
        sha256_blocks = sha256_ni;
#endif
}

static void
sum_start(struct sum *s, int kind)
{
    static const uint32_t h256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    static const uint32_t h160[8] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476,
                                     0xc3d2e1f0, 0,          0,          0};

    s->kind = kind;
    s->n = 0;
    s->crc = kind < 3 ? ~UINT64_C(0) >> (64 - crc_width[kind]) : 0;
    memcpy(s->h, kind == SUM_SHA256 ? h256 : h160, sizeof s->h);
}

static void
sum_blocks(struct sum *s, const unsigned char *p, size_t blocks)
{
    if (s->kind == SUM_MD5)
        md5_blocks(s->h, p, blocks);
    else if (s->kind == SUM_SHA1)
        sha1_blocks(s->h, p, blocks);
    else
        sha256_blocks(s->h, p, blocks);
}

static void
sum_add(struct sum *s, const void *v, size_t n)
{
    const unsigned char *p = v;
    size_t have = (size_t)(s->n & 63);

    s->n += n;
    if (s->kind < 3) {
        s->crc = crc_add(s->kind, s->crc, p, n);
        return;
    }
    if (have) {
        size_t take = n < 64 - have ? n : 64 - have;

        memcpy(s->part + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64)
            return;
        sum_blocks(s, s->part, 1);
    }
    sum_blocks(s, p, n / 64);
    if (n & 63)
        memcpy(s->part, p + (n & ~(size_t)63), n & 63);
}

static void
sum_end(struct sum *s, unsigned char *out)
{
    size_t size = sum_info[s->kind].size;

    if (s->kind < 3) {
        uint64_t v = s->crc ^ ~UINT64_C(0) >> (64 - crc_width[s->kind]);

        for (size_t i = 0; i < size; i++)
            out[i] = (unsigned char)(v >> 8 * (size - 1 - i));
    } else {
        uint64_t bits = s->n * 8;
        unsigned char pad[72] = {0x80};
        size_t fill = 64 - (size_t)(s->n & 63);
        bool little = s->kind == SUM_MD5;

        fill = fill < 9 ? fill + 64 : fill;
        for (size_t i = 0; i < 8; i++)
            pad[fill - 8 + i] = (unsigned char)(bits >> 8 * (little ? i : 7 - i));
        sum_add(s, pad, fill);
        for (size_t i = 0; i < size; i++)
            out[i] = (unsigned char)(s->h[i / 4] >> 8 * (little ? i % 4 : 3 - i % 4));
    }
}

static void
sum_of(int kind, const void *p, size_t n, unsigned char *out)
{
    struct sum s;

    sum_start(&s, kind);
    sum_add(&s, p, n);
    sum_end(&s, out);
}

static void
hmac(const void *key, size_t keylen, struct str text, unsigned char out[32])
{
    unsigned char k[64] = {0}, pad[64];
    struct sum s;

    if (keylen > 64)
        sum_of(SUM_SHA256, key, keylen, k);
    else
        memcpy(k, key, keylen);
    for (int i = 0; i < 64; i++)
        pad[i] = k[i] ^ 0x36;
    sum_start(&s, SUM_SHA256);
    sum_add(&s, pad, 64);
    sum_add(&s, text.p, text.n);
    sum_end(&s, out);
    for (int i = 0; i < 64; i++)
        pad[i] = k[i] ^ 0x5c;
    sum_start(&s, SUM_SHA256);
    sum_add(&s, pad, 64);
    sum_add(&s, out, 32);
    sum_end(&s, out);
}

/* Several digests over one stream; the ones that are on. */
struct sums {
    bool on[SUMS];
    struct sum s[SUMS];
    unsigned char out[SUMS][32];
};

static void
sums_start(struct sums *s)
{
    for (int k = 0; k < SUMS; k++)
        if (s->on[k])
            sum_start(&s->s[k], k);
}

static void
sums_add(struct sums *s, const void *p, size_t n)
{
    for (int k = 0; k < SUMS; k++)
        if (s->on[k])
            sum_add(&s->s[k], p, n);
}

static void
sums_end(struct sums *s)
{
    for (int k = 0; k < SUMS; k++)
        if (s->on[k])
            sum_end(&s->s[k], s->out[k]);
}

static int
sum_named(struct str name)
{
    for (int k = 0; k < SUMS; k++)
        if (str_isi(name, sum_info[k].name))
            return k;
    return -1;
}

/* crc64 as a number from its big-endian bytes, for crc_join() */
static uint64_t
crc_value(const unsigned char *p, size_t n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | *p++;
    return v;
}

/* ===== ROOM 3 system: configuration, what all processes share, clock, files, locks =====
 *  g is set by main before the first fork and only read afterwards; *g.sh is one
 *  mapping for parent and children, touched by atomics only, except the texts, which
 *  stand under a lock. */

/* clang-format off */
#define OPERATIONS(X) \
    X(ListBuckets) X(CreateBucket) X(DeleteBucket) X(HeadBucket) X(GetBucketLocation) \
    X(GetBucketVersioning) X(ListObjects) X(ListObjectsV2) X(ListMultipartUploads) \
    X(DeleteObjects) X(PostObject) X(PutObject) X(CopyObject) X(GetObject) X(HeadObject) \
    X(DeleteObject) X(GetObjectAttributes) X(GetObjectTagging) X(CreateMultipartUpload) \
    X(UploadPart) X(UploadPartCopy) X(ListParts) X(CompleteMultipartUpload) \
    X(AbortMultipartUpload) X(Options) X(Unknown)
/* clang-format on */
#define OP_ENUM(name) OP_##name,
#define OP_NAME(name) #name,
enum { OPERATIONS(OP_ENUM) OPS };
static const char *const op_name[OPS] = {OPERATIONS(OP_NAME)};

enum {
    ACTIONS_MAX = 80,
    RECENT = 32,
    RECENT_LEN = 256,
    TEXT_MAX = 65536,
    TLS_SLOTS = 256
};

struct tls_slot {
    unsigned char id[32], master[48];
    uint16_t version, suite;
    uint32_t set;
};

struct shared {
    uint64_t connections, open, open_max, requests, bytes_in, bytes_out;
    uint64_t bad_signatures, handshakes, resumed;
    uint64_t op[OPS], op_body[OPS], status[600], fired[ACTIONS_MAX];
    uint64_t rule_matched[RULES_MAX], rule_fired[RULES_MAX];
    uint64_t recent_n, connection_id, temp_id;
    uint64_t crowd;      /* bodies under way, as far as the fault counts them */
    uint64_t quirks;     /* bit per row of QUIRKS */
    uint64_t go;         /* how often stalls were ended */
    int64_t clock;       /* seconds added to the system's time */
    uint64_t rate_next;  /* ns: when the next byte may pass, for --rate */
    uint64_t generation; /* of rules and keys; children read them again when it moves */
    char recent[RECENT][RECENT_LEN];
    char rules[TEXT_MAX], keys[TEXT_MAX];
    uint32_t real[CHILDREN_MAX]; /* this child serves more than the door */
    struct tls_slot tls[TLS_SLOTS];
};

static struct server {
    const char *dir, *region, *vhost, *proxy_auth, *port_file, *cert, *keyfile;
    const char *public[32], *bucket[32];
    size_t publics, buckets;
    int64_t port, seed, rate, rate_conn, min_part, list_max, idle_ms, body_ms;
    bool sink, sink_fast, ipv6, cors, quiet, die_with_parent, proxy, heads, tls;
    int lock[2]; /* this process's own descriptors, -1 until wanted */
    pid_t parent;
    struct shared *sh;
} g = {.region = "us-east-1",
       .min_part = 5 << 20,
       .list_max = 1000,
       .idle_ms = 60000,
       .body_ms = 20000,
       .lock = {-1, -1}};

static void
count(uint64_t *what, uint64_t n)
{
    __atomic_fetch_add(what, n, __ATOMIC_RELAXED);
}

static uint64_t
read_count(const uint64_t *what)
{
    return __atomic_load_n(what, __ATOMIC_RELAXED);
}

__attribute__((format(printf, 1, 2), noreturn)) static void
die(const char *fmt, ...)
{
    va_list ap;

    fputs("s3d: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static uint64_t
os_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int64_t
os_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return ((int64_t)t.tv_sec + __atomic_load_n(&g.sh->clock, __ATOMIC_RELAXED)) * 1000 +
           t.tv_nsec / 1000000;
}

static void
os_sleep(double seconds)
{
    struct timespec t;

    if (seconds <= 0)
        return;
    seconds = seconds > 86400 ? 86400 : seconds;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        continue;
}

/* Waits until n bytes may pass at rate bytes a second; *next may be shared by
 * processes. */
static void
os_pace(uint64_t *next, size_t n, double rate)
{
    uint64_t now = os_ns(), was = read_count(next), base;

    do
        base = was > now ? was : now;
    while (!__atomic_compare_exchange_n(next, &was,
                                        base + (uint64_t)((double)n * 1e9 / rate), false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    os_sleep((double)(base - now) / 1e9);
}

static void
os_random(void *p, size_t n)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, p, n) != (ssize_t)n)
        die("no /dev/urandom");
    close(fd);
}

/* Spreads a number over 64 bits (splitmix64): the chance in p= and made-up ETags. */
static uint64_t
os_mix(uint64_t v)
{
    v += UINT64_C(0x9E3779B97F4A7C15);
    v = (v ^ v >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    v = (v ^ v >> 27) * UINT64_C(0x94D049BB133111EB);
    return v ^ v >> 31;
}

/* flock() belongs to an open file, so each child opens its own; death releases it. */
enum { LOCK_STORE, LOCK_CONF };

static void
os_lock(int which)
{
    static const char *const name[] = {"lock", "lock-conf"};

    if (g.lock[which] < 0)
        g.lock[which] =
            open(text_f("%s/%s", g.dir, name[which]), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (flock(g.lock[which], LOCK_EX) < 0 && errno == EINTR)
        continue;
}

static void
os_unlock(int which)
{
    flock(g.lock[which], LOCK_UN);
}

static bool
os_write(int fd, const void *v, size_t n)
{
    const char *p = v;

    while (n) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static struct str
os_slurp(const char *path, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct buf b = {0};
    char chunk[8192];
    ssize_t n;

    if (fd < 0)
        return (struct str){NULL, 0};
    while (b.n < max && (n = read(fd, chunk, sizeof chunk)) > 0)
        buf_add(&b, chunk, (size_t)n);
    close(fd);
    return buf_view(&b);
}

/* A folder and all it holds; two levels are all the store ever makes below one name. */
static void
os_remove(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        char *sub = text_f("%s/%s", path, e->d_name);

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlink(sub) < 0 && (errno == EISDIR || errno == EPERM))
            os_remove(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static char *
temp_path(void)
{
    return text_f("%s/tmp/%ld.%" PRIu64, g.dir, (long)getpid(),
                  __atomic_fetch_add(&g.sh->temp_id, 1, __ATOMIC_RELAXED));
}

/* Appends one line; past max bytes the file becomes NAME.1 and a new one begins. */
static void
os_append(const char *name, struct str line, off_t max)
{
    char *path = text_f("%s/%s", g.dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    if (write(fd, line.p, line.n) > 0 && lseek(fd, 0, SEEK_END) > max) {
        struct stat st;

        os_lock(LOCK_CONF);
        if (stat(path, &st) == 0 && st.st_size > max)
            rename(path, text_f("%s.1", path));
        os_unlock(LOCK_CONF);
    }
    close(fd);
}

static const char *
time_http(int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char *s = ram_get(40);

    gmtime_r(&t, &tm);
    strftime(s, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return s;
}

static const char *
time_iso(int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char *s = ram_get(40);

    gmtime_r(&t, &tm);
    strftime(s, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    return text_f("%s.%03dZ", s, (int)(ms % 1000));
}

static bool
time_read(struct str s, const char *fmt, int64_t *seconds)
{
    struct tm tm = {0};
    const char *end = strptime(str_c(s), fmt, &tm);

    *seconds = end && !*end ? (int64_t)timegm(&tm) : 0;
    return end && !*end;
}

/* ===== ROOM 4 peer: bytes to and from the other side, plain or TLS =====
 *  Everything above speaks to a peer only through read and write. Timeouts are the
 *  socket's own (SO_RCVTIMEO): a silent peer reads as -1 with EAGAIN. */

struct peer {
    int fd;
    bool tls;
    ssize_t (*read)(struct peer *, void *, size_t);
    bool (*write)(struct peer *, const void *, size_t, bool more);
    void (*bye)(struct peer *); /* close_notify, where there is one */
};

static ssize_t
plain_read(struct peer *p, void *to, size_t n)
{
    ssize_t k;

    while ((k = recv(p->fd, to, n, 0)) < 0 && errno == EINTR)
        continue;
    return k;
}

static bool
plain_write(struct peer *p, const void *from, size_t n, bool more)
{
    const char *q = from;

    while (n) {
        ssize_t k = send(p->fd, q, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        q += k;
        n -= (size_t)k;
    }
    return true;
}

static void
plain_bye(struct peer *p)
{
    (void)p;
}

static void
peer_timeout(int fd, int option, int64_t ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000)};

    tv.tv_usec = (suseconds_t)(ms % 1000 * 1000);
    setsockopt(fd, SOL_SOCKET, option, &tv, sizeof tv);
}

static struct peer
peer_plain(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peer_timeout(fd, SO_SNDTIMEO, 60000);
    return (struct peer){
        .fd = fd, .read = plain_read, .write = plain_write, .bye = plain_bye};
}

#ifdef S3D_TLS
/* BearSSL as a TLS 1.2 server: the same four doors. Sessions live in the shared
 * mapping, so one that began with one child can be resumed with another. */

static struct tls {
    br_x509_certificate chain[8];
    size_t chain_n;
    br_skey_decoder_context key;
    br_ssl_server_context server;
    br_sslio_context io;
    unsigned char buffer[BR_SSL_BUFSIZE_BIDI];
    const br_ssl_session_cache_class *cache;
} tls;

static void
tls_save(const br_ssl_session_cache_class **ctx, br_ssl_server_context *server,
         const br_ssl_session_parameters *p)
{
    struct tls_slot *s = &g.sh->tls[p->session_id[0]];

    (void)ctx;
    (void)server;
    __atomic_store_n(&s->set, 0, __ATOMIC_SEQ_CST);
    memcpy(s->id, p->session_id, 32);
    memcpy(s->master, p->master_secret, 48);
    s->version = p->version;
    s->suite = p->cipher_suite;
    __atomic_store_n(&s->set, 1, __ATOMIC_SEQ_CST);
}

static int
tls_load(const br_ssl_session_cache_class **ctx, br_ssl_server_context *server,
         br_ssl_session_parameters *p)
{
    struct tls_slot *s = &g.sh->tls[p->session_id[0]];

    (void)ctx;
    (void)server;
    if (!__atomic_load_n(&s->set, __ATOMIC_SEQ_CST) ||
        memcmp(s->id, p->session_id, 32) != 0)
        return 0;
    memcpy(p->master_secret, s->master, 48);
    p->version = s->version;
    p->cipher_suite = s->suite;
    count(&g.sh->resumed, 1);
    return 1;
}

static const br_ssl_session_cache_class tls_cache = {sizeof tls.cache, tls_save,
                                                     tls_load};

static int
tls_recv(void *fd, unsigned char *to, size_t n)
{
    struct peer p = {.fd = *(int *)fd};
    ssize_t k = plain_read(&p, to, n);

    return k > 0 ? (int)k : -1;
}

static int
tls_send(void *fd, const unsigned char *from, size_t n)
{
    struct peer p = {.fd = *(int *)fd};

    return plain_write(&p, from, n, false) ? (int)n : -1;
}

static ssize_t
tls_read(struct peer *p, void *to, size_t n)
{
    (void)p;
    return br_sslio_read(&tls.io, to, n);
}

static bool
tls_write(struct peer *p, const void *from, size_t n, bool more)
{
    (void)p;
    return br_sslio_write_all(&tls.io, from, n) == 0 &&
           (more || br_sslio_flush(&tls.io) == 0);
}

/* close_notify out, without waiting for the other one. */
static void
tls_bye(struct peer *p)
{
    unsigned char *out;
    size_t n;

    br_ssl_engine_close(&tls.server.eng);
    while ((out = br_ssl_engine_sendrec_buf(&tls.server.eng, &n)) != NULL) {
        if (!plain_write(p, out, n, false))
            return;
        br_ssl_engine_sendrec_ack(&tls.server.eng, n);
    }
}

/* The handshake; false: it failed and there is nobody to talk to. */
static bool
tls_accept(struct peer *p)
{
    static int fd;
    br_ssl_server_context *s = &tls.server;

    if (br_skey_decoder_key_type(&tls.key) == BR_KEYTYPE_RSA)
        br_ssl_server_init_full_rsa(s, tls.chain, tls.chain_n,
                                    br_skey_decoder_get_rsa(&tls.key));
    else
        br_ssl_server_init_full_ec(s, tls.chain, tls.chain_n, BR_KEYTYPE_EC,
                                   br_skey_decoder_get_ec(&tls.key));
    br_ssl_engine_set_versions(&s->eng, BR_TLS12, BR_TLS12);
    br_ssl_engine_set_buffer(&s->eng, tls.buffer, sizeof tls.buffer, 1);
    br_ssl_server_set_cache(s, &tls.cache);
    if (!br_ssl_server_reset(s))
        return false;
    fd = p->fd;
    br_sslio_init(&tls.io, &s->eng, tls_recv, &fd, tls_send, &fd);
    if (br_sslio_flush(&tls.io) < 0)
        return false;
    count(&g.sh->handshakes, 1);
    p->tls = true;
    p->read = tls_read;
    p->write = tls_write;
    p->bye = tls_bye;
    return true;
}

static void
tls_pem_byte(void *to, const void *p, size_t n)
{
    buf_add(to, p, n);
}

/* Every object of a PEM file to take(); the bytes are its to copy. */
static void
tls_pem(const char *path, void (*take)(const char *name, struct str der))
{
    struct str text = os_slurp(path ? path : "", 1 << 20);
    br_pem_decoder_context pem;
    struct buf der = {0};
    char name[128] = "";

    if (!text.p)
        die("cannot read %s", path ? path : "(no --keyfile)");
    br_pem_decoder_init(&pem);
    while (text.n) {
        size_t used = br_pem_decoder_push(&pem, text.p, text.n);

        text = str_from(text, used);
        switch (br_pem_decoder_event(&pem)) {
        case BR_PEM_BEGIN_OBJ:
            snprintf(name, sizeof name, "%s", br_pem_decoder_name(&pem));
            der.n = 0;
            br_pem_decoder_setdest(&pem, tls_pem_byte, &der);
            break;
        case BR_PEM_END_OBJ:
            take(name, buf_view(&der));
            break;
        case BR_PEM_ERROR:
            die("%s: not PEM", path);
        }
    }
}

static void
tls_take_cert(const char *name, struct str der)
{
    unsigned char *copy = malloc(der.n + 1);

    if (!copy || tls.chain_n == 8 || !strstr(name, "CERTIFICATE"))
        die("the --cert file holds too much, or a %s", name);
    memcpy(copy, der.p, der.n);
    tls.chain[tls.chain_n++] = (br_x509_certificate){copy, der.n};
}

static void
tls_take_key(const char *name, struct str der)
{
    if (!strstr(name, "PRIVATE KEY"))
        return;
    br_skey_decoder_init(&tls.key);
    br_skey_decoder_push(&tls.key, der.p, der.n);
}

static void
tls_setup(void)
{
    tls.cache = &tls_cache;
    tls_pem(g.cert, tls_take_cert);
    tls_pem(g.keyfile, tls_take_key);
    if (!tls.chain_n || br_skey_decoder_last_error(&tls.key) != 0)
        die("%s, %s: no certificate, or a key that cannot be used", g.cert, g.keyfile);
}
#endif

/* ===== ROOM 5 faults and quirks: how the store can misbehave =====
 *  A fault is asked for per request by a rule, a quirk is a habit of the whole store.
 *  To add a fault: a row here, and a look at c->f[F_...] where it should bite. */

/* clang-format off */
#define ACTIONS(X) \
    X(DROP, "drop")                        /* at accept, nothing read; rule: * * */ \
    X(STALL, "stall")                      /* =S before the reply */ \
    X(STALL_BODY, "stall-body")            /* =S (5) silent half-way through a body */ \
    X(RESET_BEFORE, "reset-before")        /* RST once the head is read */ \
    X(RESET_DURING, "reset-during")        /* RST half-way through the body */ \
    X(RESET_AFTER, "reset-after")          /* RST after the body, nothing applied */ \
    X(EARLY_403, "early-403")              /* body unread, then closed; =keep: */ \
    X(EARLY_503, "early-503")              /* then read, and the connection kept */ \
    X(CUT_REPLY, "cut-reply")              /* the whole announced, half sent */ \
    X(SHORT_BODY, "short-body")            /* the same, for GET */ \
    X(CUT_HEAD, "cut-head")                /* half a reply head */ \
    X(GARBAGE, "garbage-reply")            /* bytes that are no HTTP */ \
    X(OK_ERROR, "ok-error")                /* [=CODE] 200 with <Error>, not applied */ \
    X(WHITESPACE, "whitespace")            /* =S blanks before a Complete or Copy */ \
    X(LOST_REPLY, "lost-reply")            /* applied, then closed without a word */ \
    X(WRONG_ETAG, "wrong-etag")            /* the reply names another ETag */ \
    X(NO_ETAG, "no-etag")                  /* the reply names none */ \
    X(NO_SUM, "no-sum")                    /* the reply has no checksum */ \
    X(SKEWED_CLOCK, "skewed-clock")        /* =S added to this request's clock */ \
    X(CROWD, "crowd")                      /* =N bodies at once; of one more nothing \
                                              is read, and in a second it times out */ \
    X(SLOW_READ, "slow-read")              /* =B bytes a second */ \
    X(SLOW_WRITE, "slow-write")            /* =B bytes a second */ \
    X(REDIRECT_301, "redirect-301")        /* =REGION PermanentRedirect, no Location */ \
    X(REDIRECT_307, "redirect-307")        /* =URL TemporaryRedirect with Location */ \
    X(BAD_REGION, "bad-region")            /* =REGION AuthorizationHeaderMalformed */ \
    X(SILENT_CLOSE, "silent-close")        /* keep-alive promised, closed at once */ \
    X(IDLE_CLOSE, "idle-close")            /* =MS idle time of this connection */ \
    X(INTERIM, "interim")                  /* =N times 100 or 103 before the reply */ \
    X(HUGE_HEAD, "huge-head")              /* =B bytes in one header */ \
    X(MANY_HEADS, "many-heads")            /* =N header lines */ \
    X(HTML_ERROR, "html-error")            /* =STATUS with a page, as proxies send */ \
    X(EMPTY_ERROR, "empty-error")          /* =STATUS without a body */ \
    X(EMPTY_COMPLETE, "empty-complete")    /* 200, no body; [=applied] done anyway */ \
    X(TWO_LENGTHS, "two-lengths")          /* two Content-Length headers that differ */ \
    X(BOTH_LENGTHS, "both-lengths")        /* Content-Length and chunked */ \
    X(CHUNKED, "chunked-reply")            /* chunked instead of Content-Length */ \
    X(BAD_CHUNK, "bad-chunk")              /* a chunk size that is none */ \
    X(UNTIL_CLOSE, "until-close")          /* no length, ends with the connection */ \
    X(HTTP10, "http10")                    /* an HTTP/1.0 reply, then closed */ \
    X(FOLDED, "folded-head")               /* a header with a continuation line */ \
    X(WRONG_BODY, "wrong-body")            /* one byte of the body is flipped */ \
    X(NO_NOTIFY, "no-close-notify")        /* TLS ends without saying so */ \
    X(DELETE_ERROR, "delete-error")        /* =TEXT DeleteObjects: keys with it fail */ \
    X(DELETE_DENIED, "delete-denied")      /* =TEXT the same, with AccessDenied */ \
    X(RANGE, "range")                      /* =HOW a 206 lies, see range_bend() */ \
    X(CONNECT_REFUSE, "connect-refuse")    /* =STATUS to CONNECT */ \
    X(CONNECT_HUGE, "connect-huge-head")   /* 200 to CONNECT, 100 KB of headers */ \
    X(CUT_RELAY, "cut-relay")              /* =B a proxy's RST after that many bytes */ \
    X(ERROR, "error")                      /* =CODE any of the table in room 8 */

/* Error replies by a name of their own; each row is an action as well. */
#define ERROR_ACTIONS(X) \
    X("500", "InternalError") X("502", "BadGateway") X("503", "ServiceUnavailable") \
    X("504", "GatewayTimeout") X("slowdown", "SlowDown") X("429", "TooManyRequests") \
    X("request-timeout", "RequestTimeout") X("expired-token", "ExpiredToken") \
    X("access-denied", "AccessDenied") X("invalid-key", "InvalidAccessKeyId") \
    X("no-such-upload", "NoSuchUpload") X("conflict-409", "ConditionalRequestConflict") \
    X("precondition-412", "PreconditionFailed") X("method-501", "NotImplemented") \
    X("bad-digest", "BadDigest") X("signature-403", "SignatureDoesNotMatch") \
    X("no-such-bucket", "NoSuchBucket")
/* clang-format on */

#define ACTION_ENUM(id, name)  F_##id,
#define ACTION_NAME(id, name)  name,
#define ERROR_NAME(name, code) name,
#define ERROR_CODE(name, code) code,
enum { ACTIONS(ACTION_ENUM) F_CODES }; /* from F_CODES on: the rows of ERROR_ACTIONS */
static const char *const action_name[] = {ACTIONS(ACTION_NAME) ERROR_ACTIONS(ERROR_NAME)};
static const char *const action_code[] = {ERROR_ACTIONS(ERROR_CODE)};
enum { FAULTS = sizeof action_name / sizeof *action_name };

/* clang-format off */
#define QUIRKS(X) \
    X(NO_IF_NONE_MATCH, "no-if-none-match") /* conditions on writes are ignored */ \
    X(IF_NONE_MATCH_501, "if-none-match-501") \
    X(BARE_ETAG_XML, "bare-etag-xml")      /* ETags in XML without quotes */ \
    X(QUOTED_ETAG_XML, "quoted-etag-xml")  /* with raw quotes, not &quot; */ \
    X(EMPTY_MESSAGE, "empty-message") \
    X(NO_LIST_V2, "no-list-v2")            /* list-type is ignored, V1 answered */ \
    X(LIST_V1_NO_NEXTMARKER, "list-v1-no-nextmarker") \
    X(LIST_LOOP, "list-loop")              /* the first page for ever */ \
    X(LIST_NO_MARKER, "list-no-marker")    /* IsTruncated, but no token */ \
    X(LIST_ROUND, "list-round")            /* behind the last page comes the first */ \
    X(LIST_OFFSET, "list-offset")          /* a token counts the keys before it */ \
    X(LIST_ALL, "list-all")                /* prefix is ignored */ \
    X(DELETE_NOTHING, "delete-nothing")    /* DeleteObjects says yes and does nothing */ \
    X(NO_DATE, "no-date")                  /* replies have no Date */ \
    X(NO_PART_NUMBER, "no-part-number")    /* ?partNumber= is ignored */ \
    X(RICH_HEAD, "rich-head")              /* a HEAD with all that AWS may say */ \
    X(ENCODING_TYPE_IGNORED, "encoding-type-ignored") \
    X(OPAQUE_ETAG, "opaque-etag")          /* an ETag that is no MD5 */ \
    X(NO_LIST_PARTS, "no-list-parts")      /* 403 */ \
    X(NO_LIST_UPLOADS, "no-list-uploads")  /* 403 */ \
    X(COMPLETE_NEEDS_ALL, "complete-needs-all-parts") /* as Ceph does */ \
    X(NO_SUCH_KEY, "no-such-key-for-upload") /* 404 NoSuchKey instead of NoSuchUpload */ \
    X(COMPLETE_ONCE, "complete-once")      /* a Complete sent again: NoSuchUpload */ \
    X(XML_PREFIX, "xml-namespace-prefix") \
    X(RANGE_IGNORED, "range-ignored") \
    X(WRONG_CONTENT_RANGE, "wrong-content-range") \
    X(CHECKSUM_UNSUPPORTED, "checksum-unsupported") /* 400 InvalidArgument */ \
    X(CHECKSUM_IGNORED, "checksum-ignored") /* neither checked nor echoed */ \
    X(BODY_UNCHECKED, "body-unchecked")    /* x-amz-content-sha256 is not compared */ \
    X(LAX_SIGNED_HEADERS, "lax-signed-headers") /* unsigned x-amz-* headers pass */ \
    X(ANY_REGION, "any-region")            /* the region in the scope is not checked */ \
    X(STRICT_XML, "strict-complete-xml")   /* checksums in Complete: MalformedXML */
/* clang-format on */
#define QUIRK_ENUM(id, name) Q_##id,
#define QUIRK_NAME(id, name) name,
enum { QUIRKS(QUIRK_ENUM) Q_COUNT };
static const char *const quirk_name[Q_COUNT] = {QUIRKS(QUIRK_NAME)};

static bool
quirk(int q)
{
    return read_count(&g.sh->quirks) >> q & 1;
}

static bool
quirk_set(struct str name)
{
    for (int q = 0; q < Q_COUNT; q++)
        if (str_is(name, quirk_name[q])) {
            __atomic_fetch_or(&g.sh->quirks, UINT64_C(1) << q, __ATOMIC_RELAXED);
            return true;
        }
    return false;
}

/* ===== ROOM 6 http: a connection, its requests and the bytes of its replies =====
 *  One struct conn per child. A request is read whole-head first into c->in; its
 *  fields are views into an arena copy. States of a request: head read -> (100 sent)
 *  -> body read -> replied -> logged; conn_end() may cut that short anywhere and never
 *  returns. */

struct field {
    struct str name, value;
}; /* header: lower-case name; query: both decoded */
struct fired {
    bool on;
    double num;
    const char *text;
};

struct object;
struct conn {
    struct peer peer;
    uint64_t id, requests;
    char *in; /* HEAD_MAX bytes; in_at..in_n is unread */
    size_t in_at, in_n;
    uint64_t pace_in, pace_out; /* ns: next time a byte may pass */

    struct str head, method, target, path, host;
    int minor; /* HTTP/1.minor */
    struct field header[HEADERS_MAX], *query;
    size_t headers, queries;
    int op;
    struct str bucket, key;
    int64_t length, left; /* body: announced (-1: not), still unread */
    bool expect, keep, chunked_in, body_begun;

    bool anonymous, presigned; /* room 10 */
    struct str access, sha256; /* who; x-amz-content-sha256 as sent, or absent */
    int64_t now_ms;            /* this request's idea of the time */
    struct str canonical, to_sign;

    int status;            /* the reply; 0: none sent */
    const char *err, *why; /* S3's code; a message instead of the table's */
    struct buf rhead, rbody, extra;
    struct object *obj; /* the body instead of rbody: len bytes from from */
    int64_t from, len;
    bool streaming; /* head gone out already, body goes in chunks */

    struct fired f[ACTIONS_MAX];
    struct buf fault_names;
    uint64_t got, sent;
    double idle_s;
    bool logged, door;
    bool counted; /* as a connection; one that only used the door is none */
    int slot;     /* of this child in the parent's list */
};

static struct str
conn_header(const struct conn *c, const char *name)
{
    for (size_t i = 0; i < c->headers; i++)
        if (str_is(c->header[i].name, name))
            return c->header[i].value;
    return (struct str){NULL, 0};
}

static struct str
conn_query(const struct conn *c, const char *name)
{
    for (size_t i = 0; i < c->queries; i++)
        if (str_is(c->query[i].name, name))
            return c->query[i].value;
    return (struct str){NULL, 0};
}

static bool
conn_has(const struct conn *c, const char *name)
{
    return conn_query(c, name).p != NULL;
}

/* Counts this connection, once. */
static void
conn_count(struct conn *c)
{
    uint64_t open, most = read_count(&g.sh->open_max);

    if (c->counted)
        return;
    c->counted = true;
    count(&g.sh->connections, 1);
    open = __atomic_add_fetch(&g.sh->open, 1, __ATOMIC_RELAXED);
    while (most < open &&
           !__atomic_compare_exchange_n(&g.sh->open_max, &most, open, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    __atomic_store_n(&g.sh->real[c->slot], 1, __ATOMIC_RELAXED);
}

static void
conn_log(struct conn *c)
{
    struct buf b = {0};
    char *slot;

    if (c->logged || c->door || !c->method.p)
        return;
    c->logged = true;
    count(&g.sh->bytes_in, c->got);
    count(&g.sh->bytes_out, c->sent);
    count(&g.sh->status[(unsigned)c->status % 600], 1);
    slot =
        g.sh->recent[__atomic_fetch_add(&g.sh->recent_n, 1, __ATOMIC_RELAXED) % RECENT];
    snprintf(slot, RECENT_LEN, "%.*s %.*s %d", (int)c->method.n, c->method.p,
             (int)(c->target.n < 200 ? c->target.n : 200), c->target.p, c->status);
    buf_f(&b, "%" PRIu64 " %.*s %.*s %d %" PRIu64 " %" PRIu64 " %s %s %s %s\n", c->id,
          (int)c->method.n, c->method.p, (int)c->target.n, c->target.p, c->status, c->got,
          c->sent, conn_header(c, "authorization").p || c->presigned ? "yes" : "no",
          op_name[c->op], c->err ? c->err : "-",
          c->fault_names.n ? c->fault_names.p : "-");
    os_append("log", buf_view(&b), 8 << 20);
    if (!g.quiet)
        fputs(b.p, stderr);
}

__attribute__((noreturn)) static void
conn_end(struct conn *c)
{
    if (!c->door)
        conn_count(c);
    conn_log(c);
    close(c->peer.fd);
    _exit(0);
}

__attribute__((noreturn)) static void
conn_rst(struct conn *c)
{
    struct linger l = {1, 0};

    setsockopt(c->peer.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    conn_end(c);
}

/* Silence, until the time is over or somebody says go. When nobody listens any more, the
 * request ends where it is, and is in the log at once, not in the middle of what comes
 * next. */
static void
conn_stall(struct conn *c, double seconds)
{
    struct pollfd gone = {.fd = c->peer.fd, .events = POLLRDHUP};
    uint64_t now = os_ns(), end, went = read_count(&g.sh->go);

    seconds = seconds < 0 ? 0 : seconds > 86400 ? 86400 : seconds;
    end = now + (uint64_t)(seconds * 1e9);
    for (; now < end && read_count(&g.sh->go) == went; now = os_ns()) {
        uint64_t ms = (end - now + 999999) / 1000000;

        if (poll(&gone, 1, ms < 20 ? (int)ms : 20) > 0)
            conn_end(c);
    }
}

/* Says goodbye, then reads on for a while: closing over unread bytes would send a RST
 * that can destroy the reply before the client has read it. */
__attribute__((noreturn)) static void
conn_linger(struct conn *c)
{
    static char junk[65536];
    uint64_t until = os_ns() + UINT64_C(3000000000);

    conn_log(c);
    if (!c->f[F_NO_NOTIFY].on)
        c->peer.bye(&c->peer);
    shutdown(c->peer.fd, SHUT_WR);
    peer_timeout(c->peer.fd, SO_RCVTIMEO, 1000);
    while (os_ns() < until && recv(c->peer.fd, junk, sizeof junk, 0) > 0)
        continue;
    conn_end(c);
}

static ssize_t
conn_read(struct conn *c, void *to, size_t n)
{
    ssize_t k;

    if (c->in_at < c->in_n) {
        n = n < c->in_n - c->in_at ? n : c->in_n - c->in_at;
        memcpy(to, c->in + c->in_at, n);
        c->in_at += n;
        return (ssize_t)n;
    }
    k = c->peer.read(&c->peer, to, n);
    if (k > 0 && g.rate)
        os_pace(&g.sh->rate_next, (size_t)k, (double)g.rate);
    if (k > 0 && g.rate_conn)
        os_pace(&c->pace_in, (size_t)k, (double)g.rate_conn);
    return k;
}

static void
conn_write(struct conn *c, const void *p, size_t n, double rate)
{
    const char *q = p;

    while (n) {
        size_t k = rate > 0 && (double)n > rate / 20 ? (size_t)(rate / 20) + 1 : n;

        if (g.rate)
            os_pace(&g.sh->rate_next, k, (double)g.rate);
        if (g.rate_conn)
            os_pace(&c->pace_out, k, (double)g.rate_conn);
        if (rate > 0)
            os_pace(&c->pace_out, k, rate);
        if (!c->peer.write(&c->peer, q, k, false))
            conn_end(c);
        c->sent += k;
        q += k;
        n -= k;
    }
}

/* Header lines into fields. Returns why not, or NULL. */
static const char *
head_fields(struct conn *c, struct str lines)
{
    while (lines.p && lines.n) {
        struct str line = str_cut(&lines, '\n'), name = line;

        if (!line.n || line.p[line.n - 1] != '\r')
            return "line without CR LF";
        line.n--;
        if (memchr(line.p, 0, line.n) || memchr(line.p, '\r', line.n))
            return "NUL or CR in a header";
        if (!line.n || *line.p == ' ' || *line.p == '\t')
            return "folded header";
        name.n--;
        name = str_cut(&name, ':');
        if (!name.n || name.n == line.n || name.p[name.n - 1] == ' ')
            return "bad header name";
        if (c->headers == HEADERS_MAX)
            return "too many headers";
        c->header[c->headers].name = str_lower(name);
        c->header[c->headers++].value = str_trim(str_from(line, name.n + 1));
    }
    for (size_t i = 0; i < c->headers; i++)
        for (size_t k = 0; k < i; k++)
            if (str_eq(c->header[i].name, c->header[k].name) &&
                (str_is(c->header[i].name, "host") ||
                 str_is(c->header[i].name, "content-length") ||
                 str_is(c->header[i].name, "authorization")))
                return "repeated header";
    return NULL;
}

static const char *
head_framing(struct conn *c)
{
    struct str length = conn_header(c, "content-length");
    struct str conn = conn_header(c, "connection");

    c->length = -1;
    if (length.p && !str_num(length, &c->length))
        return "bad Content-Length";
    c->chunked_in = conn_header(c, "transfer-encoding").p != NULL;
    if (length.p && c->chunked_in)
        return "both Content-Length and Transfer-Encoding";
    c->left = c->length > 0 ? c->length : 0;
    c->expect = str_isi(conn_header(c, "expect"), "100-continue") && c->minor > 0;
    c->keep = c->minor > 0 ? !str_isi(conn, "close") : str_isi(conn, "keep-alive");
    c->host = conn_header(c, "host");
    if (!c->host.p && c->minor > 0)
        return "no Host";
    return NULL;
}

/* Target into path and query; an absolute-form target loses its scheme and authority. */
static const char *
head_target(struct conn *c)
{
    struct str t = c->target, q, rest;

    if (!t.n || memchr(t.p, ' ', t.n))
        return "bad request line";
    for (size_t i = 0; i < t.n; i++)
        if ((unsigned char)t.p[i] <= 0x20 || (unsigned char)t.p[i] >= 0x7f)
            return "bytes in the target that should be escaped";
    if (str_starts(t, str_of("http://")) || str_starts(t, str_of("https://"))) {
        t = str_from(t, t.p[4] == 's' ? 8 : 7);
        rest = t;
        t = str_from(t, str_cut(&rest, '/').n);
    }
    rest = t;
    c->path = str_cut(&rest, '?');
    if (!str_is(c->method, "CONNECT") && (!c->path.n || *c->path.p != '/'))
        return "target must begin with /";
    c->queries = 0;
    c->query = ram_get((rest.n + 2) * sizeof *c->query / 2);
    for (q = rest; q.p;) {
        struct str value = str_cut(&q, '&'), name;

        name = str_cut(&value, '=');
        if (!name.n)
            continue;
        if (!url_read(name, true, &c->query[c->queries].name) ||
            !url_read(value.p ? value : str_of(""), true, &c->query[c->queries].value))
            return "bad escape in the query";
        c->queries++;
    }
    return NULL;
}

static const char *
head_parse(struct conn *c)
{
    struct str rest = c->head, line = str_cut(&rest, '\n'), version;
    const char *bad;

    c->method = c->target = (struct str){"-", 1};
    if (!line.n || line.p[line.n - 1] != '\r')
        return "request line without CR LF";
    line.n--;
    c->method = str_cut(&line, ' ');
    c->target = line.p ? str_cut(&line, ' ') : (struct str){"-", 1};
    version = line;
    if (!version.p || !(str_is(version, "HTTP/1.1") || str_is(version, "HTTP/1.0")))
        return "bad request line";
    for (size_t i = 0; i < c->method.n; i++)
        if (!isupper((unsigned char)c->method.p[i]))
            return "bad method";
    c->minor = version.p[7] - '0';
    bad = head_fields(c, rest);
    if (!bad)
        bad = head_framing(c);
    if (!bad)
        bad = head_target(c);
    return bad;
}

/* Reads one head.  0: parsed; -1: the connection ended in between; else *bad says why. */
static int
head_read(struct conn *c, const char **bad)
{
    size_t seen = 0;

    for (;;) {
        char *p = c->in + c->in_at, *end = NULL;
        size_t n = c->in_n - c->in_at;
        ssize_t k;

        while (n && !seen && (*p == '\r' || *p == '\n')) { /* stray line ends */
            c->in_at++;
            p++;
            n--;
        }
        if (n > seen)
            end = memmem(p + (seen > 3 ? seen - 3 : 0), n - (seen > 3 ? seen - 3 : 0),
                         "\r\n\r\n", 4);
        if (end) {
            struct str copy = {p, (size_t)(end - p) + 2};

            c->head = (struct str){str_c(copy), copy.n};
            c->in_at += copy.n + 2;
            c->got = copy.n + 2;
            *bad = head_parse(c);
            return *bad ? 1 : 0;
        }
        seen = n;
        memmove(c->in, p, n);
        c->in_at = 0;
        c->in_n = n;
        if (n == HEAD_MAX) {
            c->method = c->target = (struct str){"-", 1};
            *bad = "request head too large";
            return 1;
        }
        k = c->peer.read(&c->peer, c->in + n, HEAD_MAX - n);
        if (k <= 0)
            return -1;
        c->in_n += (size_t)k;
    }
}

/* ===== ROOM 7 rules and keys: which faults fire, whose signatures count ===== */

struct rule {
    char method[32], glob[256], text[256];
    int action;
    double num, chance;
    uint64_t n, after;
};

static struct rule rules[RULES_MAX];
static size_t rules_n;

/* One line into a rule; false: not understood. */
static bool
rule_parse(struct str line, struct rule *r)
{
    struct str word[8], action;
    size_t n = 0;

    memset(r, 0, sizeof *r);
    r->chance = 100;
    r->n = UINT64_MAX;
    r->action = -1;
    for (line = str_trim(line); line.p && n < 8; line = line.p ? str_trim(line) : line) {
        word[n] = str_cut(&line, ' ');
        n += word[n].n > 0;
    }
    if (n < 3 || word[0].n >= sizeof r->method || word[1].n >= sizeof r->glob)
        return false;
    memcpy(r->method, word[0].p, word[0].n);
    memcpy(r->glob, word[1].p, word[1].n);
    action = str_cut(&word[2], '=');
    for (int a = 0; a < FAULTS; a++)
        if (str_is(action, action_name[a]))
            r->action = a;
    if (r->action < 0 || word[2].n >= sizeof r->text)
        return false;
    if (word[2].p) {
        memcpy(r->text, word[2].p, word[2].n);
        r->num = strtod(r->text, NULL);
    }
    for (size_t i = 3; i < n; i++) {
        struct str name = str_cut(&word[i], '=');
        char *text = word[i].n ? str_c(word[i]) : "x", *end;
        double v = strtod(text, &end);

        if (*end || v < 0)
            return false;
        if (str_is(name, "p"))
            r->chance = v;
        else if (str_is(name, "n"))
            r->n = (uint64_t)v;
        else if (str_is(name, "after"))
            r->after = (uint64_t)v;
        else
            return false;
    }
    return true;
}

/* Every line of text into to[]; the number of rules, or -1 and *bad the bad line. */
static int
rules_parse(struct str text, struct rule *to, struct str *bad)
{
    int n = 0;

    while (text.p) {
        struct str line = str_cut(&text, '\n');

        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        line = str_trim(line);
        if (!line.n || *line.p == '#')
            continue;
        if (n == RULES_MAX || !rule_parse(line, &to[n])) {
            *bad = line;
            return -1;
        }
        n++;
    }
    return n;
}

/* Asks every rule about this request and notes what fired; at accept only drop is
 * asked. */
static void
faults_match(struct conn *c, bool at_accept)
{
    for (size_t i = 0; i < rules_n; i++) {
        struct rule *r = &rules[i];
        struct str m = str_of(r->method);
        uint64_t seen;

        if ((r->action == F_DROP) != at_accept || c->f[r->action].on)
            continue;
        if (!str_is(m, "*") &&
            (at_accept || !(str_eq(m, c->method) || str_is(m, op_name[c->op]))))
            continue;
        if (!at_accept && !glob_match(r->glob, c->target))
            continue;
        seen = __atomic_fetch_add(&g.sh->rule_matched[i], 1, __ATOMIC_RELAXED);
        if (seen < r->after)
            continue;
        if (r->chance < 100 &&
            (double)(os_mix((uint64_t)g.seed * 1000003 + i * 8191 + seen) % 1000000) >=
                r->chance * 10000)
            continue;
        if (__atomic_fetch_add(&g.sh->rule_fired[i], 1, __ATOMIC_RELAXED) >= r->n) {
            __atomic_fetch_sub(&g.sh->rule_fired[i], 1, __ATOMIC_RELAXED);
            continue;
        }
        count(&g.sh->fired[r->action], 1);
        c->f[r->action] = (struct fired){true, r->num, r->text};
        buf_f(&c->fault_names, "%s%s", c->fault_names.n ? "," : "",
              action_name[r->action]);
    }
}

struct cred {
    struct str access, secret, token;
};

static struct cred creds[KEYS_MAX];
static size_t creds_n;

static bool
creds_parse(struct str text, struct cred *to, size_t *n)
{
    *n = 0;
    while (text.p) {
        struct str line = str_trim(str_cut(&text, '\n')), secret = line, token;

        if (!line.n)
            continue;
        if (*n == KEYS_MAX)
            return false;
        to[*n].access = str_cut(&secret, ':');
        token = secret;
        to[*n].secret = token.p ? str_cut(&token, ':') : (struct str){NULL, 0};
        to[*n].token = token;
        if (!to[*n].access.n || !to[(*n)++].secret.n)
            return false;
    }
    return true;
}

/* Rules and keys anew if the door has changed them. The texts are copied out of the
 * shared mapping under the lock, so a change half-way never shows. */
static void
config_refresh(void)
{
    static uint64_t have = UINT64_MAX;
    static char keys[TEXT_MAX];
    struct str bad;
    int n;

    if (read_count(&g.sh->generation) == have)
        return;
    os_lock(LOCK_CONF);
    have = read_count(&g.sh->generation);
    memcpy(keys, g.sh->keys, sizeof keys);
    n = rules_parse(str_of(g.sh->rules), rules, &bad);
    os_unlock(LOCK_CONF);
    rules_n = n > 0 ? (size_t)n : 0;
    creds_parse(str_of(keys), creds, &creds_n);
}

/* Puts a checked text into its place in the mapping. */
static bool
config_set(char place[TEXT_MAX], struct str text)
{
    if (text.n >= TEXT_MAX)
        return false;
    os_lock(LOCK_CONF);
    memcpy(place, text.p, text.n);
    place[text.n] = 0;
    if (place == g.sh->rules)
        for (size_t i = 0; i < RULES_MAX; i++)
            g.sh->rule_matched[i] = g.sh->rule_fired[i] = 0;
    __atomic_fetch_add(&g.sh->generation, 1, __ATOMIC_RELAXED);
    os_unlock(LOCK_CONF);
    return true;
}

/* ===== ROOM 8 replies: errors, XML out, the head and body of an answer =====
 *  A handler returns NULL or an error code of this table; the reply is sent in one place,
 *  reply_send(), and that is where most faults bite. */

static const struct {
    const char *code;
    int status;
    const char *message;
} errors[] = {
    {"AccessDenied", 403, "Access Denied"},
    {"AuthorizationHeaderMalformed", 400, "The authorization header is malformed."},
    {"AuthorizationQueryParametersError", 400, "Error in the query authorization."},
    {"BadDigest", 400, "The digest you specified did not match what we received."},
    {"BadGateway", 502, "Bad gateway."},
    {"BadRequest", 400, "The request is not HTTP as we know it."},
    {"BucketAlreadyOwnedByYou", 409, "The bucket exists and is yours."},
    {"BucketNotEmpty", 409, "The bucket you tried to delete is not empty."},
    {"ConditionalRequestConflict", 409, "A conflicting operation came in between."},
    {"EntityTooLarge", 400, "Your upload exceeds the maximum allowed object size."},
    {"EntityTooSmall", 400, "A part other than the last is below the minimum size."},
    {"ExpiredToken", 400, "The provided token has expired."},
    {"GatewayTimeout", 504, "Gateway timeout."},
    {"IllegalLocationConstraintException", 400, "The location constraint does not fit."},
    {"IncompleteBody", 400, "The body is shorter than Content-Length."},
    {"InternalError", 500, "We encountered an internal error. Please try again."},
    {"InvalidAccessKeyId", 403, "The access key does not exist in our records."},
    {"InvalidArgument", 400, "Invalid argument."},
    {"InvalidBucketName", 400, "The specified bucket is not valid."},
    {"InvalidDigest", 400, "The Content-MD5 you specified is not valid."},
    {"InvalidLocationConstraint", 400, "The location constraint is not valid."},
    {"InvalidPart", 400, "A part was not found, or its ETag did not match."},
    {"InvalidPartOrder", 400, "The list of parts was not in ascending order."},
    {"InvalidPolicyDocument", 400, "The policy is not valid."},
    {"InvalidRange", 416, "The requested range is not satisfiable."},
    {"InvalidRequest", 400, "Invalid request."},
    {"InvalidStorageClass", 400, "The storage class is not valid."},
    {"InvalidTag", 400, "The tag set is not valid."},
    {"InvalidToken", 400, "The provided token is malformed or otherwise invalid."},
    {"InvalidURI", 400, "Could not parse the URI."},
    {"KeyTooLongError", 400, "Your key is too long."},
    {"MalformedPOSTRequest", 400, "The body is not well-formed multipart/form-data."},
    {"MalformedXML", 400, "The XML you provided was not well-formed or not valid."},
    {"MetadataTooLarge", 400, "Your metadata headers exceed the maximum size."},
    {"MethodNotAllowed", 405, "The method is not allowed against this resource."},
    {"MissingContentLength", 411, "You must provide the Content-Length header."},
    {"NoSuchBucket", 404, "The specified bucket does not exist."},
    {"NoSuchKey", 404, "The specified key does not exist."},
    {"NoSuchUpload", 404, "The specified upload does not exist."},
    {"NotImplemented", 501, "A header or query you provided is not implemented."},
    {"NotModified", 304, ""},
    {"PermanentRedirect", 301, "Address the bucket by its own endpoint."},
    {"PreconditionFailed", 412, "A precondition you specified did not hold."},
    {"RequestHeaderSectionTooLarge", 400, "The request head is too large."},
    {"RequestTimeTooSkewed", 403, "Request time and server time differ too much."},
    {"RequestTimeout", 400, "Nothing was read from your connection in time."},
    {"ServiceUnavailable", 503, "Please try again."},
    {"SignatureDoesNotMatch", 403, "The signature we calculated does not match yours."},
    {"SlowDown", 503, "Please reduce your request rate."},
    {"TemporaryRedirect", 307, "Please re-send this request to the given endpoint."},
    {"TooManyRequests", 429, "Too many requests."},
    {"XAmzContentSHA256Mismatch", 400, "The x-amz-content-sha256 is not the body's."},
};
enum { ERRORS = sizeof errors / sizeof *errors };

static size_t
error_find(const char *code)
{
    for (size_t i = 0; i < ERRORS; i++)
        if (strcmp(errors[i].code, code) == 0)
            return i;
    return ERRORS;
}

/* Text for XML. CR and LF as references, or the reader's newline rules change them;
 * control bytes as references too, although XML 1.0 forbids even those: that is what S3
 * does. */
static void
xml_escape(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];

        if (ch == '&')
            buf_s(b, "&amp;");
        else if (ch == '<')
            buf_s(b, "&lt;");
        else if (ch == '>')
            buf_s(b, "&gt;");
        else if (ch == '"')
            buf_s(b, "&quot;");
        else if (ch < 0x20)
            buf_f(b, "&#x%X;", ch);
        else
            buf_add(b, &s.p[i], 1);
    }
}

static const char *
xml_prefix(void)
{
    return quirk(Q_XML_PREFIX) ? "s3:" : "";
}

static void
xml_open(struct buf *b, const char *name)
{
    buf_f(b, "<%s%s>", xml_prefix(), name);
}

static void
xml_close(struct buf *b, const char *name)
{
    buf_f(b, "</%s%s>", xml_prefix(), name);
}

static void
xml_root(struct buf *b, const char *name)
{
    buf_f(b,
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s%s xmlns%s="
          "\"http://s3.amazonaws.com/doc/2006-03-01/\">",
          xml_prefix(), name, quirk(Q_XML_PREFIX) ? ":s3" : "");
}

static void
xml_put(struct buf *b, const char *name, struct str text)
{
    xml_open(b, name);
    xml_escape(b, text);
    xml_close(b, name);
}

static void
xml_num(struct buf *b, const char *name, int64_t v)
{
    xml_open(b, name);
    buf_f(b, "%" PRId64, v);
    xml_close(b, name);
}

static void
xml_etag(struct buf *b, struct str etag)
{
    const char *quote = quirk(Q_BARE_ETAG_XML)     ? ""
                        : quirk(Q_QUOTED_ETAG_XML) ? "\""
                                                   : "&quot;";

    xml_open(b, "ETag");
    buf_f(b, "%s%.*s%s", quote, (int)etag.n, etag.p, quote);
    xml_close(b, "ETag");
}

__attribute__((format(printf, 2, 3))) static void
reply_head(struct conn *c, const char *fmt, ...)
{
    char line[8192];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    buf_s(&c->rhead, line);
    buf_s(&c->rhead, "\r\n");
}

/* The ETag of a stored thing, in the head; here two faults bite. */
static void
reply_etag(struct conn *c, struct str etag)
{
    if (c->f[F_NO_ETAG].on)
        return;
    if (c->f[F_WRONG_ETAG].on)
        etag = str_of("deadbeefdeadbeefdeadbeefdeadbeef");
    reply_head(c, "ETag: \"%.*s\"", (int)etag.n, etag.p);
}

static const char *
request_id(const struct conn *c)
{
    return text_f("%08" PRIX64 "%08" PRIX64, c->id & 0xffffffff,
                  c->requests & 0xffffffff);
}

/* The error document for code, into c->rbody. */
static void
reply_error_body(struct conn *c, const char *code, const char *message)
{
    struct buf *b = &c->rbody;
    const char *bucket = c->bucket.n ? str_c(c->bucket) : "";

    b->n = 0;
    buf_s(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml_open(b, "Error");
    xml_put(b, "Code", str_of(code));
    xml_put(b, "Message", str_of(quirk(Q_EMPTY_MESSAGE) ? "" : message));
    if (*bucket)
        xml_put(b, "BucketName", str_of(bucket));
    if (c->key.n)
        xml_put(b, "Key", c->key);
    xml_put(b, "Resource", c->path);
    buf_str(b, buf_view(&c->extra));
    xml_put(b, "RequestId", str_of(request_id(c)));
    xml_put(b, "HostId", str_of("s3d"));
    xml_close(b, "Error");
}

static void
reply_error(struct conn *c, const char *code)
{
    size_t i = error_find(code);

    c->err = code;
    c->status = i < ERRORS ? errors[i].status : 500;
    c->obj = NULL;
    reply_error_body(c, code, c->why ? c->why : i < ERRORS ? errors[i].message : code);
    if (strcmp(code, "RequestTimeout") == 0 || strcmp(code, "IncompleteBody") == 0)
        c->keep = false;
}

static const char *
status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } t[] = {{200, "OK"},
             {201, "Created"},
             {204, "No Content"},
             {206, "Partial Content"},
             {301, "Moved Permanently"},
             {303, "See Other"},
             {304, "Not Modified"},
             {307, "Temporary Redirect"},
             {400, "Bad Request"},
             {403, "Forbidden"},
             {404, "Not Found"},
             {405, "Method Not Allowed"},
             {407, "Proxy Auth Required"},
             {409, "Conflict"},
             {411, "Length Required"},
             {412, "Precondition Failed"},
             {416, "Range Not Satisfiable"},
             {429, "Too Many Requests"},
             {500, "Internal Server Error"},
             {501, "Not Implemented"},
             {502, "Bad Gateway"},
             {503, "Slow Down"},
             {504, "Gateway Timeout"}};

    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (t[i].status == status)
            return t[i].text;
    return "Status";
}

/* Which bytes of the body go out: all, or half where a fault says so. */
static int64_t
reply_cut(struct conn *c, int64_t len)
{
    return c->f[F_CUT_REPLY].on || c->f[F_SHORT_BODY].on ? len / 2 : len;
}

static bool
reply_chunked(const struct conn *c)
{
    return c->f[F_CHUNKED].on || c->f[F_BAD_CHUNK].on;
}

/* Status line and headers.  len: of the body; -1: there is none and no length is due. */
static struct str
reply_head_text(struct conn *c, int64_t len)
{
    struct buf b = {0};

    if (len == 0 && (c->f[F_CUT_REPLY].on || c->f[F_SHORT_BODY].on))
        len = 100;
    if (c->f[F_HTTP10].on || c->f[F_UNTIL_CLOSE].on)
        c->keep = false;
    buf_f(&b,
          "HTTP/1.%d %d %s\r\nServer: s3d\r\nx-amz-request-id: %s\r\n"
          "x-amz-id-2: s3d+%s=\r\n",
          c->f[F_HTTP10].on ? 0 : 1, c->status, status_text(c->status), request_id(c),
          request_id(c));
    if (!quirk(Q_NO_DATE))
        buf_f(&b, "Date: %s\r\n", time_http(c->now_ms));
    if (g.cors && conn_header(c, "origin").p)
        buf_s(&b,
              "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: ETag, "
              "x-amz-request-id, Content-Range\r\n");
    buf_str(&b, buf_view(&c->rhead));
    if (c->f[F_HUGE_HEAD].on) {
        buf_s(&b, "x-filler: ");
        for (int64_t i = 0; i < (int64_t)c->f[F_HUGE_HEAD].num; i++)
            buf_add(&b, "x", 1);
        buf_s(&b, "\r\n");
    }
    for (int64_t i = 0; i < (int64_t)c->f[F_MANY_HEADS].num; i++)
        buf_f(&b, "x-many-%d: %d\r\n", (int)i, (int)i);
    if (c->f[F_FOLDED].on)
        buf_s(&b, "x-folded: one\r\n two\r\n");
    if (reply_chunked(c) || c->f[F_BOTH_LENGTHS].on)
        buf_s(&b, "Transfer-Encoding: chunked\r\n");
    if (len >= 0 && !reply_chunked(c) && !c->f[F_UNTIL_CLOSE].on)
        buf_f(&b, "Content-Length: %" PRId64 "\r\n", len);
    if (c->f[F_TWO_LENGTHS].on)
        buf_f(&b, "Content-Length: %" PRId64 "\r\n", len + 1);
    if (!c->keep)
        buf_s(&b, "Connection: close\r\n");
    else if (c->minor == 0)
        buf_s(&b, "Connection: keep-alive\r\n");
    buf_s(&b, "\r\n");
    return buf_view(&b);
}

/* One piece of the body, in the chosen framing; pieces differ in size on purpose. */
static void
reply_piece(struct conn *c, const char *p, size_t n)
{
    double rate = c->f[F_SLOW_WRITE].on ? c->f[F_SLOW_WRITE].num + 1 : 0;
    size_t size = 7;

    if (!reply_chunked(c) && !c->streaming) {
        conn_write(c, p, n, rate);
        return;
    }
    while (n) {
        size_t k = n < size ? n : size;
        char *line = text_f(c->f[F_BAD_CHUNK].on ? "zz%zx\r\n"
                            : size == 7          ? "%04zX\r\n"
                                                 : "%zx;s3d=\"a;b\"\r\n",
                            k);

        conn_write(c, line, strlen(line), rate);
        conn_write(c, p, k, rate);
        conn_write(c, "\r\n", 2, rate);
        p += k;
        n -= k;
        size = size < 65536 ? size * 16 : size;
    }
}

/* ===== ROOM 9 bodies in: read, summed, compared with what was announced ===== */

typedef bool (*sink_fn)(void *to, const char *p, size_t n);

/* What is computed of all stored bytes, asked for or not: the ETag's MD5 and S3's own
 * CRC. */
static void
sums_default(struct sums *s)
{
    s->on[SUM_MD5] = !g.sink_fast && !quirk(Q_OPAQUE_ETAG);
    s->on[SUM_CRC64] = !g.sink_fast && !quirk(Q_CHECKSUM_IGNORED);
}

/* What has to happen at the half-way mark, once. */
static void
body_halfway(struct conn *c)
{
    if (c->f[F_RESET_DURING].on)
        conn_rst(c);
    if (c->f[F_STALL_BODY].on)
        conn_stall(c, c->f[F_STALL_BODY].num > 0 ? c->f[F_STALL_BODY].num : 5);
}

/* The whole body through the digests that are on in s and into sink (NULL: dropped).
 * The 100 Continue goes out here: only for a request that will be listened to. */
static const char *
body_stream(struct conn *c, sink_fn sink, void *to, struct sums *s)
{
    static char piece[CHUNK];
    double rate = c->f[F_SLOW_READ].on ? c->f[F_SLOW_READ].num + 1 : 0;
    bool half = false, ok = true;
    int small = 4096, large = 1 << 20;

    c->body_begun = true;
    if (c->expect && c->left && c->in_at == c->in_n)
        conn_write(c, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0);
    if (rate > 0 && rate < 1e6) /* so small a window admits no more than some 30 KB/s */
        setsockopt(c->peer.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    while (c->left > 0) {
        size_t max = c->left < CHUNK ? (size_t)c->left : CHUNK;
        ssize_t n;

        if (!half && c->left <= c->length / 2 && (half = true))
            body_halfway(c);
        if (!half && c->left - (int64_t)max < c->length / 2)
            max = (size_t)(c->left - c->length / 2);
        max = rate > 0 && (double)max > rate / 10 ? (size_t)(rate / 10) + 1 : max;
        n = conn_read(c, piece, max);
        if (n <= 0) {
            c->keep = false;
            return n < 0 && errno == EAGAIN ? "RequestTimeout" : "IncompleteBody";
        }
        if (rate > 0)
            os_pace(&c->pace_in, (size_t)n, rate);
        c->left -= n;
        c->got += (uint64_t)n;
        if (!c->door)
            count(&g.sh->op_body[c->op], (uint64_t)n);
        if (s)
            sums_add(s, piece, (size_t)n);
        ok = ok && (!sink || sink(to, piece, (size_t)n));
    }
    if (rate > 0)
        setsockopt(c->peer.fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
    if (!half)
        body_halfway(c);
    if (c->f[F_RESET_AFTER].on)
        conn_rst(c);
    return ok ? NULL : "InternalError";
}

/* The same, on a link that is too thin for many at a time. Who comes too late keeps its
 * place until it is told so. */
static const char *
body_read(struct conn *c, sink_fn sink, void *to, struct sums *s)
{
    const char *err = "RequestTimeout";

    if (!c->f[F_CROWD].on)
        return body_stream(c, sink, to, s);
    if ((double)__atomic_add_fetch(&g.sh->crowd, 1, __ATOMIC_RELAXED) <=
        c->f[F_CROWD].num) {
        err = body_stream(c, sink, to, s);
    } else {
        struct pollfd gone = {.fd = c->peer.fd, .events = POLLRDHUP};

        (void)poll(&gone, 1, 1000);
        c->keep = false;
    }
    __atomic_sub_fetch(&g.sh->crowd, 1, __ATOMIC_RELAXED);
    return err;
}

static bool
sink_buf(void *to, const char *p, size_t n)
{
    buf_add(to, p, n);
    return true;
}

/* Which checksum header came along: its kind, or -1 for none. *bad: why that is
 * refused. */
static int
body_checksum(struct conn *c, struct str *value, const char **bad)
{
    struct str sdk = conn_header(c, "x-amz-sdk-checksum-algorithm");
    int found = -1, n = 0;

    *bad = NULL;
    for (size_t i = 0; i < c->headers; i++) {
        struct str name = c->header[i].name, prefix = str_of("x-amz-checksum-");
        int kind;

        if (!str_starts(name, prefix))
            continue;
        name = str_from(name, prefix.n);
        if (str_is(name, "mode") || str_is(name, "type") || str_is(name, "algorithm"))
            continue;
        kind = sum_named(name);
        if (quirk(Q_CHECKSUM_UNSUPPORTED)) {
            c->why = text_f("Unsupported header '%s' received for this API call.",
                            str_c(c->header[i].name));
            *bad = "InvalidArgument";
        } else if (kind < 0 || kind == SUM_MD5) {
            c->why = "Unknown x-amz-checksum- header.";
            *bad = "InvalidRequest";
        }
        found = kind;
        *value = c->header[i].value;
        n++;
    }
    if (*bad)
        return -1;
    if (quirk(Q_CHECKSUM_UNSUPPORTED) && sdk.p) {
        c->why = "Unsupported header 'x-amz-sdk-checksum-algorithm'.";
        *bad = "InvalidArgument";
    } else if (n > 1) {
        c->why = "Expecting a single x-amz-checksum- header.";
        *bad = "InvalidRequest";
    } else if (sdk.p && (found < 0 || !str_isi(sdk, sum_info[found].name))) {
        c->why = "x-amz-sdk-checksum-algorithm specified, but no corresponding "
                 "x-amz-checksum-* or x-amz-trailer headers were found.";
        *bad = "InvalidRequest";
    }
    return *bad ? -1 : found;
}

/* Compares what was announced with s; the kinds needed must have been on. */
static const char *
body_compare(struct conn *c, struct sums *s, int kind, struct str value)
{
    struct str md5 = conn_header(c, "content-md5");
    unsigned char want[32];
    size_t n;

    if (s->on[SUM_SHA256] && c->sha256.n == 64 && !quirk(Q_BODY_UNCHECKED) &&
        !str_is(c->sha256, hex_of(s->out[SUM_SHA256], 32))) {
        buf_f(&c->extra,
              "<ClientComputedContentSHA256>%.*s</ClientComputedContentSHA256>"
              "<S3ComputedContentSHA256>%s</S3ComputedContentSHA256>",
              64, c->sha256.p, hex_of(s->out[SUM_SHA256], 32));
        return "XAmzContentSHA256Mismatch";
    }
    if (md5.p && s->on[SUM_MD5] && b64_read(md5, want, sizeof want, &n) &&
        memcmp(want, s->out[SUM_MD5], 16) != 0)
        return "BadDigest";
    if (kind >= 0 && !quirk(Q_CHECKSUM_IGNORED) &&
        !str_is(value, b64_of(s->out[kind], sum_info[kind].size))) {
        c->why = text_f("The %s you specified did not match the calculated checksum.",
                        sum_info[kind].tag);
        return "BadDigest";
    }
    return NULL;
}

/* Looks at the headers before the body is read: which digests must be on. */
static const char *
body_prepare(struct conn *c, struct sums *s, int *kind, struct str *value)
{
    struct str md5 = conn_header(c, "content-md5");
    unsigned char raw[32];
    const char *bad;
    size_t n;

    *kind = body_checksum(c, value, &bad);
    if (bad)
        return bad;
    if (md5.p && (!b64_read(md5, raw, sizeof raw, &n) || n != 16))
        return "InvalidDigest";
    if (*kind >= 0 &&
        (!b64_read(*value, raw, sizeof raw, &n) || n != sum_info[*kind].size)) {
        c->why = text_f("Value for x-amz-checksum-%s header is invalid.",
                        sum_info[*kind].name);
        return "InvalidRequest";
    }
    s->on[SUM_SHA256] |= c->sha256.n == 64 && !g.sink_fast;
    s->on[SUM_MD5] |= md5.p != NULL;
    if (*kind >= 0)
        s->on[*kind] = true;
    sums_start(s);
    return NULL;
}

/* A small body into memory, checked; operations that take none call it as well. */
static const char *
body_take(struct conn *c, struct buf *b, int64_t max)
{
    struct sums s = {0};
    struct str value = {0};
    const char *bad;
    int kind = -1;

    if (c->chunked_in)
        return "MissingContentLength";
    if (c->left > max)
        return c->op == OP_DeleteObjects || c->op == OP_CompleteMultipartUpload
                   ? "MalformedXML"
                   : "EntityTooLarge";
    if (c->op == OP_CompleteMultipartUpload || c->op == OP_CreateMultipartUpload) {
        s.on[SUM_SHA256] = true; /* their x-amz-checksum-* speak of the object */
        sums_start(&s);
    } else if ((bad = body_prepare(c, &s, &kind, &value)) != NULL) {
        return bad;
    }
    bad = body_read(c, sink_buf, b, &s);
    if (bad)
        return bad;
    sums_end(&s);
    return body_compare(c, &s, kind, value);
}

/* ===== ROOM 10 signature: SigV4 verified from the raw request =====
 *  The path is decoded and encoded again, once; the query likewise, sorted by encoded
 *  bytes. Unlike lenient stores it insists: every x-amz-* header, host and (for header
 *  signatures) content-type must be among the signed headers. */

struct auth {
    struct str credential, signed_headers, signature, date;
    struct str access, day, region, service, end;
};

static void
sig_key(struct str secret, struct str day, struct str region, unsigned char key[32])
{
    static const char *const rest[] = {"s3", "aws4_request"};
    unsigned char next[32];
    char *first = text_f("AWS4%s", str_c(secret));

    hmac(first, strlen(first), day, key);
    hmac(key, 32, region, next);
    for (int i = 0; i < 2; i++) {
        memcpy(key, next, 32);
        hmac(key, 32, str_of(rest[i]), next);
    }
    memcpy(key, next, 32);
}

static bool
sig_equal(struct str a, const char *b)
{
    unsigned d = 0;

    if (a.n != strlen(b))
        return false;
    for (size_t i = 0; i < a.n; i++)
        d |= (unsigned char)(a.p[i] ^ b[i]);
    return d == 0;
}

static int
pair_order(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    int d = str_cmp(x->name, y->name);

    return d ? d : str_cmp(x->value, y->value);
}

static void
sig_query(const struct conn *c, struct buf *b)
{
    struct field *q = ram_get((c->queries + 1) * sizeof *q);
    size_t n = 0;

    for (size_t i = 0; i < c->queries; i++) {
        if (c->presigned && str_is(c->query[i].name, "X-Amz-Signature"))
            continue;
        q[n].name = url_of(c->query[i].name, "");
        q[n++].value = url_of(c->query[i].value, "");
    }
    qsort(q, n, sizeof *q, pair_order);
    for (size_t i = 0; i < n; i++)
        buf_f(b, "%s%s=%s", i ? "&" : "", str_c(q[i].name), str_c(q[i].value));
}

/* One signed header: repeats joined by commas, ends trimmed, runs of blanks made one. */
static void
sig_header(const struct conn *c, struct str name, struct buf *b)
{
    bool first = true;

    buf_str(b, name);
    buf_s(b, ":");
    for (size_t i = 0; i < c->headers; i++) {
        struct str v = c->header[i].value;

        if (!str_eq(c->header[i].name, name))
            continue;
        if (!first)
            buf_s(b, ",");
        first = false;
        for (size_t k = 0; k < v.n; k++) {
            bool blank = v.p[k] == ' ' || v.p[k] == '\t';

            if (blank && k + 1 < v.n && (v.p[k + 1] == ' ' || v.p[k + 1] == '\t'))
                continue;
            buf_add(b, blank ? " " : &v.p[k], 1);
        }
    }
    buf_s(b, "\n");
}

static struct str
sig_canonical(const struct conn *c, const struct auth *a, struct str payload)
{
    struct buf b = {0};
    struct str path, list = a->signed_headers;

    buf_str(&b, c->method);
    buf_s(&b, "\n");
    if (!url_read(c->path, false, &path))
        path = c->path;
    url_add(&b, path, "/");
    buf_s(&b, "\n");
    sig_query(c, &b);
    buf_s(&b, "\n");
    while (list.p)
        sig_header(c, str_cut(&list, ';'), &b);
    buf_f(&b, "\n%s\n%s", str_c(a->signed_headers), str_c(payload));
    return buf_view(&b);
}

static bool
sig_lists(struct str list, const char *name)
{
    while (list.p)
        if (str_is(str_cut(&list, ';'), name))
            return true;
    return false;
}

/* Signed headers must be in order, and none that has to be signed may be missing. */
static const char *
sig_coverage(struct conn *c, const struct auth *a)
{
    struct str list = a->signed_headers, last = {"", 0};

    while (list.p) {
        struct str name = str_cut(&list, ';');

        if (str_cmp(last, name) >= 0 || !str_eq(name, str_lower(name))) {
            c->why = "SignedHeaders is not a sorted list of lower-case names.";
            return "AuthorizationHeaderMalformed";
        }
        last = name;
    }
    if (!sig_lists(a->signed_headers, "host")) {
        c->why = "The host header must be signed.";
        return "AccessDenied";
    }
    for (size_t i = 0; i < c->headers && !quirk(Q_LAX_SIGNED_HEADERS); i++) {
        struct str name = c->header[i].name;
        bool must = str_starts(name, str_of("x-amz-")) ||
                    (str_is(name, "content-type") && !c->presigned);

        if (must && !sig_lists(a->signed_headers, str_c(name))) {
            c->why = "There were headers present in the request which were not signed.";
            xml_put(&c->extra, "HeadersNotSigned", name);
            return "AccessDenied";
        }
    }
    return NULL;
}

/* "Credential=..., SignedHeaders=..., Signature=..." */
static bool
auth_header(struct str v, struct auth *a)
{
    struct str rest = str_from(v, strlen("AWS4-HMAC-SHA256"));

    while (rest.p) {
        struct str value = str_trim(str_cut(&rest, ',')), name = str_cut(&value, '=');

        if (str_is(name, "Credential"))
            a->credential = value;
        else if (str_is(name, "SignedHeaders"))
            a->signed_headers = value;
        else if (str_is(name, "Signature"))
            a->signature = value;
        else
            return false;
    }
    return a->credential.n && a->signed_headers.n && a->signature.n;
}

/* ACCESS/day/region/service/aws4_request; the access key itself may hold slashes. */
static bool
auth_scope(struct auth *a)
{
    struct str *part[4] = {&a->end, &a->service, &a->region, &a->day};
    struct str left = a->credential;

    for (int i = 0; i < 4; i++) {
        size_t at = left.n;

        while (at && left.p[at - 1] != '/')
            at--;
        if (!at)
            return false;
        *part[i] = str_from(left, at);
        left.n = at - 1;
    }
    a->access = left;
    return left.n > 0;
}

static const char *
auth_check_scope(struct conn *c, const struct auth *a, const char *malformed)
{
    if (!str_is(a->service, "s3") || !str_is(a->end, "aws4_request") || a->date.n < 8 ||
        !str_eq(a->day, (struct str){a->date.p, 8})) {
        c->why =
            "The credential scope must be DATE/REGION/s3/aws4_request, its date that "
            "of X-Amz-Date.";
        return malformed;
    }
    if (!str_is(a->region, g.region) && !quirk(Q_ANY_REGION)) {
        c->why = text_f("The region '%s' is wrong; expecting '%s'", str_c(a->region),
                        g.region);
        xml_put(&c->extra, "Region", str_of(g.region));
        return malformed;
    }
    return NULL;
}

static const struct cred *
auth_cred(struct conn *c, const struct auth *a, const char **bad)
{
    struct str token = conn_header(c, "x-amz-security-token");
    const struct cred *k = NULL;

    if (c->presigned)
        token = conn_query(c, "X-Amz-Security-Token");
    for (size_t i = 0; i < creds_n; i++)
        if (str_eq(creds[i].access, a->access))
            k = &creds[i];
    *bad = NULL;
    if (!k || (k->token.n && !token.n))
        *bad = "InvalidAccessKeyId";
    else if (!str_eq(k->token, token.p ? token : (struct str){NULL, 0}))
        *bad = "InvalidToken";
    if (*bad && strcmp(*bad, "InvalidAccessKeyId") == 0)
        xml_put(&c->extra, "AWSAccessKeyId", a->access);
    return k;
}

static const char *
auth_time(struct conn *c, const struct auth *a)
{
    struct str expires = conn_query(c, "X-Amz-Expires");
    int64_t then, now = c->now_ms / 1000, seconds;

    if (!time_read(a->date, "%Y%m%dT%H%M%SZ", &then)) {
        c->why = "X-Amz-Date must be like 20130524T000000Z.";
        return "AccessDenied";
    }
    if (c->presigned) {
        if (!str_num(expires, &seconds) || seconds < 1 || seconds > 604800) {
            c->why = "X-Amz-Expires must be between 1 and 604800.";
            return "AuthorizationQueryParametersError";
        }
        if (now > then + seconds || now < then - 900) {
            c->why = now > then ? "Request has expired" : "Request is not yet valid";
            return "AccessDenied";
        }
        return NULL;
    }
    if (now > then + 900 || now < then - 900) {
        buf_f(&c->extra,
              "<RequestTime>%s</RequestTime><ServerTime>%s</ServerTime>"
              "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
              str_c(a->date), time_iso(c->now_ms));
        return "RequestTimeTooSkewed";
    }
    return NULL;
}

/* The last line of the canonical request, or *bad. */
static struct str
auth_payload(struct conn *c, const char **bad)
{
    struct str v = conn_header(c, "x-amz-content-sha256");

    *bad = NULL;
    if (c->presigned && !v.p)
        v = conn_query(c, "X-Amz-Content-Sha256");
    if (c->presigned && !v.p)
        return str_of("UNSIGNED-PAYLOAD");
    c->sha256 = v;
    if (!v.p) {
        c->why = "Missing required header for this request: x-amz-content-sha256";
        *bad = "InvalidRequest";
    } else if (str_starts(v, str_of("STREAMING-"))) {
        c->why = "aws-chunked bodies are not implemented.";
        *bad = "NotImplemented";
    } else if (!str_is(v, "UNSIGNED-PAYLOAD") &&
               (v.n != 64 || !hex_only(v) || !str_eq(v, str_lower(v)))) {
        c->why = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a valid sha256 value.";
        *bad = "InvalidArgument";
    }
    return v;
}

/* Fills *a from wherever the request carries its signature. *bad: it cannot be used. */
static bool
auth_find(struct conn *c, struct auth *a, const char **bad)
{
    struct str v = conn_header(c, "authorization");

    *bad = NULL;
    c->presigned = conn_has(c, "X-Amz-Signature") || conn_has(c, "X-Amz-Algorithm");
    if (v.p && c->presigned) {
        c->why = "Only one auth mechanism allowed.";
        *bad = "InvalidArgument";
    } else if (c->presigned) {
        a->credential = conn_query(c, "X-Amz-Credential");
        a->signed_headers = conn_query(c, "X-Amz-SignedHeaders");
        a->signature = conn_query(c, "X-Amz-Signature");
        a->date = conn_query(c, "X-Amz-Date");
        if (!str_is(conn_query(c, "X-Amz-Algorithm"), "AWS4-HMAC-SHA256") ||
            !a->signed_headers.n || !a->signature.n || !auth_scope(a))
            *bad = "AuthorizationQueryParametersError";
    } else if (v.p && str_starts(v, str_of("AWS4-HMAC-SHA256"))) {
        a->date = conn_header(c, "x-amz-date");
        if (!auth_header(v, a) || !auth_scope(a))
            *bad = "AuthorizationHeaderMalformed";
    } else if (v.p || conn_has(c, "Signature")) {
        c->why = "The authorization mechanism you have provided is not supported. "
                 "Please use AWS4-HMAC-SHA256.";
        *bad = "InvalidRequest";
    }
    return v.p || c->presigned || *bad;
}

/* The verdict on one request: NULL (c->access says who, or c->anonymous) or an error
 * code. */
static const char *
auth_check(struct conn *c)
{
    struct auth a = {0};
    const struct cred *k;
    unsigned char key[32], digest[32], mac[32];
    struct str payload;
    const char *bad;

    if (!auth_find(c, &a, &bad)) {
        c->anonymous = true;
        return NULL;
    }
    if (bad)
        return bad;
    bad = auth_check_scope(c, &a,
                           c->presigned ? "AuthorizationQueryParametersError"
                                        : "AuthorizationHeaderMalformed");
    k = bad ? NULL : auth_cred(c, &a, &bad);
    if (!bad)
        bad = auth_time(c, &a);
    payload = bad ? a.date : auth_payload(c, &bad);
    if (bad)
        return bad;
    c->canonical = sig_canonical(c, &a, payload);
    sum_of(SUM_SHA256, c->canonical.p, c->canonical.n, digest);
    c->to_sign =
        str_of(text_f("AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", str_c(a.date),
                      str_c(a.day), str_c(a.region), hex_of(digest, 32)));
    sig_key(k->secret, a.day, a.region, key);
    hmac(key, 32, c->to_sign, mac);
    if (!sig_equal(a.signature, hex_of(mac, 32))) {
        xml_put(&c->extra, "AWSAccessKeyId", a.access);
        xml_put(&c->extra, "StringToSign", c->to_sign);
        xml_put(&c->extra, "SignatureProvided", a.signature);
        xml_put(&c->extra, "CanonicalRequest", c->canonical);
        return "SignatureDoesNotMatch";
    }
    c->access = a.access;
    return sig_coverage(c, &a);
}

/* ===== ROOM 11 forms in: XML documents and POST policies =====
 *  Strict readers: what is not well-formed is refused, and so is a DTD. */

/* Called at each end tag with the path ("Delete/Object/Key") and the element's text. */
typedef bool (*xml_fn)(void *to, const char *path, struct str text);

/* One &...; at *in into b; XML's own five, and numbers of characters XML allows. */
static bool
xml_entity(struct str *in, struct buf *b)
{
    static const char *const name[] = {"amp", "&",    "lt", "<",    "gt",
                                       ">",   "quot", "\"", "apos", "'"};
    struct str e = str_cut(in, ';');
    char utf[4];
    long v;

    if (!in->p || e.n < 2 || e.n > 10)
        return false;
    for (int i = 0; i < 10; i += 2)
        if (str_is(e, name[i])) {
            buf_s(b, name[i + 1]);
            return true;
        }
    if (*e.p != '#')
        return false;
    e = str_from(e, 1);
    v = *e.p == 'x' ? strtol(str_c(str_from(e, 1)), NULL, 16)
                    : strtol(str_c(e), NULL, 10);
    if ((v < 32 && v != 9 && v != 10 && v != 13) || v > 0x10ffff || (v >> 11) == 27)
        return false;
    if (v < 0x80) {
        utf[0] = (char)v;
        buf_add(b, utf, 1);
    } else if (v < 0x800) {
        utf[0] = (char)(0xc0 | v >> 6);
        utf[1] = (char)(0x80 | (v & 63));
        buf_add(b, utf, 2);
    } else if (v < 0x10000) {
        utf[0] = (char)(0xe0 | v >> 12);
        utf[1] = (char)(0x80 | (v >> 6 & 63));
        utf[2] = (char)(0x80 | (v & 63));
        buf_add(b, utf, 3);
    } else {
        utf[0] = (char)(0xf0 | v >> 18);
        utf[1] = (char)(0x80 | (v >> 12 & 63));
        utf[2] = (char)(0x80 | (v >> 6 & 63));
        utf[3] = (char)(0x80 | (v & 63));
        buf_add(b, utf, 4);
    }
    return true;
}

/* Character data up to the next '<'. */
static bool
xml_text(struct str *in, struct buf *b)
{
    while (in->n && *in->p != '<') {
        unsigned char ch = (unsigned char)*in->p;

        if ((ch < 32 && ch != 9 && ch != 10 && ch != 13))
            return false;
        *in = str_from(*in, 1);
        if (ch == '&') {
            if (!xml_entity(in, b))
                return false;
        } else if (ch == '\r') { /* XML's rule: CR LF and CR become LF */
            if (!in->n || *in->p != '\n')
                buf_s(b, "\n");
        } else {
            buf_add(b, in->p - 1, 1);
        }
    }
    return true;
}

/* Skips <?...?> and <!--...-->, takes CDATA into b.  1: done, 0: it is a tag, -1:
 * refused. */
static int
xml_special(struct str *in, struct buf *b)
{
    static const struct {
        const char *from, *to;
    } kind[] = {{"<?", "?>"}, {"<!--", "-->"}, {"<![CDATA[", "]]>"}};

    for (int i = 0; i < 3; i++) {
        size_t n = strlen(kind[i].from), m = strlen(kind[i].to);
        const char *end;

        if (!str_starts(*in, str_of(kind[i].from)))
            continue;
        end = memmem(in->p + n, in->n - n, kind[i].to, m);
        if (!end)
            return -1;
        if (i == 2)
            buf_add(b, in->p + n, (size_t)(end - in->p) - n);
        *in = str_from(*in, (size_t)(end - in->p) + m);
        return 1;
    }
    return str_starts(*in, str_of("<!")) ? -1 : 0;
}

static struct str
xml_local(struct str name)
{
    struct str rest = name, prefix = str_cut(&rest, ':');

    (void)prefix;
    return rest.p ? rest : name;
}

static bool
xml_walk(struct str in, xml_fn fn, void *to)
{
    struct str full[16]; /* open elements, as written */
    size_t cut[16];      /* path length before each */
    struct buf path = {0}, text = {0};
    int depth = 0, roots = 0;

    buf_s(&path, "");
    if (str_starts(in, str_of("\xef\xbb\xbf")))
        in = str_from(in, 3);
    while (in.n) {
        struct str tag, name;
        const char *end;
        int special;
        bool empty;

        if (!xml_text(&in, &text))
            return false;
        if (!in.n)
            break;
        special = xml_special(&in, &text);
        if (special < 0)
            return false;
        if (special)
            continue;
        end = memchr(in.p, '>', in.n);
        if (!end)
            return false;
        tag = (struct str){in.p + 1, (size_t)(end - in.p) - 1};
        in = str_from(in, tag.n + 2);
        if (tag.n && *tag.p == '/') {
            tag = str_from(tag, 1);
            while (tag.n && isspace((unsigned char)tag.p[tag.n - 1]))
                tag.n--;
            if (!depth || !str_eq(tag, full[depth - 1]) ||
                !fn(to, path.p, buf_view(&text)))
                return false;
            path.n = cut[--depth];
            path.p[path.n] = 0;
            text.n = 0;
            continue;
        }
        empty = tag.n && tag.p[tag.n - 1] == '/';
        name = tag;
        for (size_t i = 0; i < tag.n; i++)
            if (isspace((unsigned char)tag.p[i]) || tag.p[i] == '/') {
                name.n = i;
                break;
            }
        if (!name.n || depth == 16 || (!depth && roots++))
            return false;
        cut[depth] = path.n;
        full[depth++] = name;
        buf_f(&path, "%s%s", path.n ? "/" : "", str_c(xml_local(name)));
        text.n = 0;
        if (empty) {
            if (!fn(to, path.p, str_of("")))
                return false;
            path.n = cut[--depth];
            path.p[path.n] = 0;
        }
    }
    return depth == 0 && roots == 1;
}

/* JSON, as far as policies need it: strings, numbers, arrays, objects. */
static void
json_space(struct str *in)
{
    while (in->n && isspace((unsigned char)*in->p))
        *in = str_from(*in, 1);
}

static bool
json_char(struct str *in, char want)
{
    json_space(in);
    if (!in->n || *in->p != want)
        return false;
    *in = str_from(*in, 1);
    return true;
}

static bool
json_string(struct str *in, struct str *out)
{
    struct buf b = {0};

    buf_s(&b, "");
    if (!json_char(in, '"'))
        return false;
    while (in->n && *in->p != '"') {
        static const char from[] = "\"\\/bfnrt$", to[] = "\"\\/\b\f\n\r\t$";
        char ch = *in->p;

        *in = str_from(*in, 1);
        if (ch == '\\') {
            const char *q = in->n && *in->p ? strchr(from, *in->p) : NULL;

            if (in->n >= 5 && *in->p == 'u') {
                long v = strtol(str_c((struct str){in->p + 1, 4}), NULL, 16);
                struct str e = str_of(text_f("#%ld;", v));

                if (!xml_entity(&e, &b))
                    return false;
                *in = str_from(*in, 5);
                continue;
            }
            if (!q)
                return false;
            ch = to[q - from];
            *in = str_from(*in, 1);
        }
        buf_add(&b, &ch, 1);
    }
    *out = buf_view(&b);
    return json_char(in, '"');
}

/* A string, or a bare number or word, as text. */
static bool
json_scalar(struct str *in, struct str *out)
{
    size_t n = 0;

    json_space(in);
    if (in->n && *in->p == '"')
        return json_string(in, out);
    while (n < in->n &&
           (isalnum((unsigned char)in->p[n]) || in->p[n] == '-' || in->p[n] == '.'))
        n++;
    *out = (struct str){in->p, n};
    *in = str_from(*in, n);
    return n > 0;
}

/* ===== ROOM 12 store: buckets, objects, uploads and lists on disk =====
 *  DIR/b/BUCKET/bucket         made when
 *  DIR/b/BUCKET/o/HH/HASH      one object: its bytes, then its record, then a fixed tail;
 *                              HASH is the key's SHA-256, HH its first two digits
 *  DIR/b/BUCKET/u/ID/upload    a multipart upload; renamed to "done" once complete
 *  DIR/b/BUCKET/u/ID/00001     a part: bytes, record, tail, like an object
 *  DIR/b/BUCKET/index          lines "+ size ms etag class checksum key" or "- key", keys
 *                              percent-encoded; the last line about a key holds
 *  DIR/tmp                     files on their way to a rename; emptied at start
 *
 *  An object made of parts has no bytes of its own: its record names the upload's
 *  folder, and the parts stay there, so Complete costs the same for any size. Commits
 *  (rename plus index line) happen under one lock, which also makes conditional writes
 *  exact. */

struct meta {
    struct field *f;
    size_t n;
}; /* a record: names and values */

struct object {
    int fd, seg_fd; /* seg_fd: the part opened last */
    int64_t size, mtime_ms;
    struct meta m;
    const char *seg_dir; /* NULL: the bytes are in fd itself */
    int64_t *seg_at;     /* segs + 1 offsets */
    int *seg_no, segs, seg_open;
    bool sunk; /* --sink: no bytes at all, reads as zeros */
};

struct draft {
    int fd;
    char *path;
    int64_t size;
    struct sums *sums;
};

enum { TAIL = 22 }; /* "s3d1 %016x\n": length of the record before it */

static struct str
meta_get(const struct meta *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (str_is(m->f[i].name, name))
            return m->f[i].value;
    return (struct str){NULL, 0};
}

static int64_t
meta_num(const struct meta *m, const char *name)
{
    int64_t v = 0;
    struct str s = meta_get(m, name);

    return s.p && str_num(s, &v) ? v : 0;
}

static void
meta_put(struct buf *b, const char *name, struct str value)
{
    if (!value.p)
        return;
    buf_f(b, "%s ", name);
    url_add(b, value, "/:;,=\"'()<>@[]{}+*!$&");
    buf_s(b, "\n");
}

static void
meta_put_num(struct buf *b, const char *name, int64_t v)
{
    buf_f(b, "%s %" PRId64 "\n", name, v);
}

static bool
meta_parse(struct str text, struct meta *m)
{
    size_t lines = 1;

    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    m->f = ram_get(lines * sizeof *m->f);
    m->n = 0;
    while (text.p && text.n) {
        struct str value = str_cut(&text, '\n'), name = str_cut(&value, ' ');

        if (!value.p || !url_read(value, false, &m->f[m->n].value))
            return false;
        m->f[m->n++].name = name;
    }
    return true;
}

/* The record at the end of an open file, and where the bytes before it end. */
static bool
meta_load(int fd, struct meta *m, int64_t *data)
{
    struct stat st;
    char small[4096], *p = small;
    size_t want, n;
    int64_t len;

    if (fstat(fd, &st) < 0 || st.st_size < TAIL)
        return false;
    want = st.st_size < (off_t)sizeof small ? (size_t)st.st_size : sizeof small;
    if (pread(fd, small, want, st.st_size - (off_t)want) != (ssize_t)want ||
        memcmp(small + want - TAIL, "s3d1 ", 5) != 0)
        return false;
    len = strtoll(small + want - TAIL + 5, NULL, 16);
    if (len < 0 || len > st.st_size - TAIL)
        return false;
    n = (size_t)len;
    p = n + TAIL <= want ? str_c((struct str){small + want - TAIL - n, n})
                         : ram_get(n + 1);
    if (n + TAIL > want && pread(fd, p, n, st.st_size - TAIL - len) != (ssize_t)n)
        return false;
    *data = st.st_size - TAIL - len;
    return meta_parse((struct str){p, n}, m);
}

static bool
draft_open(struct draft *d)
{
    d->path = temp_path();
    d->size = 0;
    d->fd = open(d->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return d->fd >= 0;
}

static bool
draft_write(void *to, const char *p, size_t n)
{
    struct draft *d = to;

    d->size += (int64_t)n;
    if (d->sums)
        sums_add(d->sums, p, n);
    return g.sink || os_write(d->fd, p, n);
}

static void
draft_drop(struct draft *d)
{
    close(d->fd);
    unlink(d->path);
}

/* Record and tail behind the bytes; the file is then whole and may be renamed. */
static bool
draft_seal(struct draft *d, struct buf *record)
{
    char tail[TAIL + 1];
    bool ok;

    snprintf(tail, sizeof tail, "s3d1 %016zx\n", record->n);
    buf_add(record, tail, TAIL);
    ok = os_write(d->fd, record->p, record->n);
    close(d->fd);
    if (!ok)
        unlink(d->path);
    return ok;
}

static char *
bucket_path(struct str bucket)
{
    return text_f("%s/b/%s", g.dir, str_c(bucket));
}

static bool
bucket_valid(struct str b)
{
    if (b.n < 3 || b.n > 63 || !isalnum((unsigned char)b.p[0]) ||
        !isalnum((unsigned char)b.p[b.n - 1]))
        return false;
    for (size_t i = 0; i < b.n; i++) {
        unsigned char ch = (unsigned char)b.p[i];

        if (!(islower(ch) || isdigit(ch) || ch == '-' || ch == '.') ||
            (ch == '.' && b.p[i + 1] == '.'))
            return false;
    }
    return true;
}

static bool
bucket_exists(struct str b)
{
    return bucket_valid(b) && access(text_f("%s/bucket", bucket_path(b)), F_OK) == 0;
}

static bool
bucket_make(struct str bucket)
{
    char *path = bucket_path(bucket), *made;
    struct buf b = {0};
    int fd;

    mkdir(path, 0700);
    mkdir(text_f("%s/o", path), 0700);
    mkdir(text_f("%s/u", path), 0700);
    made = temp_path();
    fd = open(made, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    buf_f(&b, "%" PRId64 "\n", os_now_ms());
    if (fd < 0 || !os_write(fd, b.p, b.n))
        return false;
    close(fd);
    return rename(made, text_f("%s/bucket", path)) == 0;
}

static char *
object_path(struct str bucket, struct str key)
{
    unsigned char hash[32];
    char *hex;

    sum_of(SUM_SHA256, key.p, key.n, hash);
    hex = hex_of(hash, 32);
    return text_f("%s/o/%.2s/%s", bucket_path(bucket), hex, hex);
}

static char *
upload_path(struct str bucket, const char *id)
{
    return text_f("%s/u/%s", bucket_path(bucket), id);
}

static void
object_close(struct object *o)
{
    if (o->fd >= 0)
        close(o->fd);
    if (o->seg_fd >= 0)
        close(o->seg_fd);
    o->fd = o->seg_fd = -1;
}

/* Where each part of a joined object begins. */
static bool
object_segments(struct object *o, struct str bucket)
{
    struct str id = meta_get(&o->m, "upload");
    int64_t at = 0;

    o->seg_dir = id.p ? upload_path(bucket, str_c(id)) : NULL;
    if (!id.p)
        return true;
    o->seg_at = ram_get((o->m.n + 1) * sizeof *o->seg_at);
    o->seg_no = ram_get((o->m.n + 1) * sizeof *o->seg_no);
    for (size_t i = 0; i < o->m.n; i++) {
        struct str v = o->m.f[i].value, no = v;
        int64_t number, len;

        if (!str_is(o->m.f[i].name, "seg"))
            continue;
        no = str_cut(&v, ' ');
        if (!v.p || !str_num(no, &number) || !str_num(str_cut(&v, ' '), &len))
            return false;
        o->seg_no[o->segs] = (int)number;
        o->seg_at[o->segs++] = at;
        at += len;
    }
    o->seg_at[o->segs] = at;
    return at == o->size;
}

static bool
object_load(struct object *o, const char *path, struct str bucket)
{
    int64_t data;

    memset(o, 0, sizeof *o);
    o->seg_fd = o->seg_open = -1;
    o->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (o->fd < 0)
        return false;
    if (!meta_load(o->fd, &o->m, &data)) {
        object_close(o);
        return false;
    }
    o->size = meta_num(&o->m, "size");
    o->mtime_ms = meta_num(&o->m, "ms");
    o->sunk = meta_get(&o->m, "sunk").p != NULL;
    if (!object_segments(o, bucket)) {
        object_close(o);
        return false;
    }
    return true;
}

/* The file that holds byte at, its offset there and how many bytes follow in one run. */
static int
object_run(struct object *o, int64_t at, off_t *off, int64_t *run)
{
    int lo = 0, hi = o->segs;

    *off = (off_t)at;
    *run = o->size - at;
    if (!o->seg_dir)
        return o->fd;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;

        if (o->seg_at[mid] <= at)
            lo = mid;
        else
            hi = mid;
    }
    if (o->seg_open != lo) {
        if (o->seg_fd >= 0)
            close(o->seg_fd);
        o->seg_fd =
            open(text_f("%s/%05d", o->seg_dir, o->seg_no[lo]), O_RDONLY | O_CLOEXEC);
        o->seg_open = lo;
    }
    *off = (off_t)(at - o->seg_at[lo]);
    *run = o->seg_at[lo + 1] - at;
    return o->seg_fd;
}

static ssize_t
object_read(struct object *o, int64_t at, char *to, size_t n)
{
    off_t off;
    int64_t run;
    int fd;

    if (o->sunk) {
        memset(to, 0, n);
        return (ssize_t)n;
    }
    fd = object_run(o, at, &off, &run);
    return fd < 0 ? -1 : pread(fd, to, run < (int64_t)n ? (size_t)run : n, off);
}

static void
index_append(struct str bucket, struct buf *line)
{
    int fd = open(text_f("%s/index", bucket_path(bucket)),
                  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd >= 0) {
        os_write(fd, line->p, line->n);
        close(fd);
    }
}

static void
index_line(struct buf *b, const struct meta *m, struct str key)
{
    struct str class = meta_get(m, "class"), sum = meta_get(m, "sum-kind");

    buf_f(b, "+ %" PRId64 " %" PRId64 " %s %s %s ", meta_num(m, "size"),
          meta_num(m, "ms"), str_c(meta_get(m, "etag")),
          class.p ? str_c(class) : "STANDARD", sum.p ? str_c(sum) : "-");
    url_add(b, key, "/");
    buf_s(b, "\n");
}

/* Puts a sealed draft at key; call under the lock. The parts of a joined object that it
 * replaces go, unless they are its own. */
static bool
object_commit(struct str bucket, struct str key, const char *from, struct buf *record)
{
    char *to = object_path(bucket, key);
    struct str id = {NULL, 0}, mine;
    struct buf line = {0};
    struct object old;
    struct meta m;

    meta_parse((struct str){record->p, record->n - TAIL}, &m);
    mine = meta_get(&m, "upload");
    if (object_load(&old, to, bucket)) {
        id = meta_get(&old.m, "upload");
        object_close(&old);
    }
    if (rename(from, to) < 0) {
        char *dir = str_c((struct str){to, strlen(to) - 65});

        mkdir(dir, 0700);
        if (rename(from, to) < 0) {
            unlink(from);
            return false;
        }
    }
    index_line(&line, &m, key);
    index_append(bucket, &line);
    if (id.p && !str_eq(id, mine))
        os_remove(upload_path(bucket, str_c(id)));
    return true;
}

/* True if there was one. */
static bool
object_delete(struct str bucket, struct str key)
{
    char *path = object_path(bucket, key);
    struct buf line = {0};
    struct object old;
    struct str id = {NULL, 0};
    bool was = object_load(&old, path, bucket);

    if (!was)
        return false;
    id = meta_get(&old.m, "upload");
    object_close(&old);
    unlink(path);
    buf_s(&line, "- ");
    url_add(&line, key, "/");
    buf_s(&line, "\n");
    index_append(bucket, &line);
    if (id.p)
        os_remove(upload_path(bucket, str_c(id)));
    return true;
}

/* The sorted list of one bucket, kept from request to request by the process: later
 * ones read only the lines added since. */
struct entry {
    uint64_t seq;
    int64_t size, ms;
    char etag[72], class[24], sum[12];
    bool gone;
    struct str key; /* points behind the struct */
};

static struct list {
    char bucket[64];
    dev_t dev;
    ino_t ino;
    off_t done; /* bytes of the index that are in here */
    uint64_t seq;
    struct entry **e;
    size_t n, cap;
} list;

static void
list_drop(void)
{
    for (size_t i = 0; i < list.n; i++)
        free(list.e[i]);
    free(list.e);
    memset(&list, 0, sizeof list);
}

static void
list_add(struct str line)
{
    struct str rest = line, op = str_cut(&rest, ' '), key;
    struct entry e = {0}, *new;

    e.gone = str_is(op, "-");
    if (!e.gone) {
        struct str f[5];

        for (int i = 0; i < 5; i++)
            f[i] = rest.p ? str_cut(&rest, ' ') : (struct str){NULL, 0};
        if (!rest.p || !str_num(f[0], &e.size) || !str_num(f[1], &e.ms))
            return;
        snprintf(e.etag, sizeof e.etag, "%.*s", (int)f[2].n, f[2].p);
        snprintf(e.class, sizeof e.class, "%.*s", (int)f[3].n, f[3].p);
        snprintf(e.sum, sizeof e.sum, "%.*s", (int)f[4].n, f[4].p);
    }
    if (!rest.p || !url_read(rest, false, &key))
        return;
    if (list.n == list.cap) {
        list.cap = list.cap ? list.cap * 2 : 1024;
        list.e = realloc(list.e, list.cap * sizeof(struct entry *));
    }
    new = malloc(sizeof *new + key.n + 1);
    if (!new || !list.e)
        _exit(70);
    e.seq = list.seq++;
    *new = e;
    new->key = (struct str){(char *)(new + 1), key.n};
    memcpy(new + 1, key.p, key.n);
    list.e[list.n++] = new;
}

static int
list_order(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    int d = str_cmp(x->key, y->key);

    return d ? d : (x->seq > y->seq) - (x->seq < y->seq);
}

/* Sorted, of each key the last word only, and only what exists. */
static void
list_settle(void)
{
    size_t n = 0;

    qsort(list.e, list.n, sizeof(struct entry *), list_order);
    for (size_t i = 0; i < list.n; i++) {
        bool last = i + 1 == list.n || !str_eq(list.e[i]->key, list.e[i + 1]->key);

        if (last && !list.e[i]->gone)
            list.e[n++] = list.e[i];
        else
            free(list.e[i]);
    }
    list.n = n;
}

/* Brings list up to date with bucket. */
static void
list_load(struct str bucket)
{
    int fd = open(text_f("%s/index", bucket_path(bucket)), O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        list_drop();
        if (fd >= 0)
            close(fd);
        return;
    }
    if (!str_is(bucket, list.bucket) || st.st_dev != list.dev || st.st_ino != list.ino ||
        st.st_size < list.done) {
        list_drop();
        snprintf(list.bucket, sizeof list.bucket, "%s", str_c(bucket));
        list.dev = st.st_dev;
        list.ino = st.st_ino;
    }
    if (st.st_size > list.done) {
        size_t n = (size_t)(st.st_size - list.done);
        char *p = malloc(n);
        struct str rest = {p, n};

        if (!p || pread(fd, p, n, list.done) != (ssize_t)n)
            _exit(70);
        while (rest.n && memchr(rest.p, '\n', rest.n)) {
            struct str line = str_cut(&rest, '\n');

            list_add(line);
            list.done += (off_t)line.n + 1;
        }
        free(p);
        list_settle();
    }
    close(fd);
}

/* First entry whose key is >= key (after: > key). */
static size_t
list_find(struct str key, bool after)
{
    size_t lo = 0, hi = list.n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = str_cmp(list.e[mid]->key, key);

        if (d < 0 || (after && d == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* First entry beyond everything that begins with prefix. */
static size_t
list_past(struct str prefix, size_t from)
{
    size_t lo = from, hi = list.n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        struct str k = list.e[mid]->key;

        if (str_starts(k, prefix) || str_cmp(k, prefix) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* At start: the index of one bucket from the objects themselves. Empties the arena as it
 * goes, so bucket must not live there. */
static void
index_rebuild(struct str bucket)
{
    char temp[PATH_MAX], dir[PATH_MAX];
    int fd;

    snprintf(temp, sizeof temp, "%s", temp_path());
    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int hh = 0; hh < 256 && fd >= 0; hh++) {
        struct dirent *e;
        DIR *d;

        snprintf(dir, sizeof dir, "%s/o/%02x", bucket_path(bucket), (unsigned)hh);
        d = opendir(dir);
        while (d && (e = readdir(d)) != NULL) {
            struct buf line = {0};
            struct object o;

            if (*e->d_name == '.' ||
                !object_load(&o, text_f("%s/%s", dir, e->d_name), bucket))
                continue;
            index_line(&line, &o.m, meta_get(&o.m, "key"));
            object_close(&o);
            os_write(fd, line.p, line.n);
        }
        if (d)
            closedir(d);
        ram_reset();
    }
    if (fd >= 0) {
        close(fd);
        rename(temp, text_f("%s/index", bucket_path(bucket)));
    }
}

/* At start: folders of uploads that neither run nor carry an object. */
static void
uploads_tidy(struct str bucket)
{
    char *path = text_f("%s/u", bucket_path(bucket));
    DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        char *dir = text_f("%s/%s", path, e->d_name);
        struct meta m = {0};
        struct object o;
        int64_t data;
        int fd;

        if (*e->d_name == '.' || access(text_f("%s/upload", dir), F_OK) == 0)
            continue;
        fd = open(text_f("%s/done", dir), O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && meta_load(fd, &m, &data) &&
            object_load(&o, object_path(bucket, meta_get(&m, "key")), bucket)) {
            bool used = str_is(meta_get(&o.m, "upload"), e->d_name);

            object_close(&o);
            if (used) {
                close(fd);
                continue;
            }
        }
        if (fd >= 0)
            close(fd);
        os_remove(dir);
    }
    if (d)
        closedir(d);
}

/* ===== ROOM 13 sending the reply ===== */

/* len bytes of an object from c->from on; by sendfile() where nothing has to be bent. */
static void
reply_object(struct conn *c, int64_t len)
{
    static char piece[CHUNK];
    bool straight = !c->peer.tls && !reply_chunked(c) && !c->f[F_SLOW_WRITE].on &&
                    !g.rate && !g.rate_conn && !c->f[F_WRONG_BODY].on && !c->obj->sunk;
    int64_t at = c->from, end = c->from + len, flip = c->from + c->len / 2;

    while (at < end) {
        ssize_t n;

        if (straight) {
            off_t off;
            int64_t run;
            int fd = object_run(c->obj, at, &off, &run);

            run = run < end - at ? run : end - at;
            run = run < 1 << 30 ? run : 1 << 30;
            n = fd < 0 ? -1 : sendfile(c->peer.fd, fd, &off, (size_t)run);
            if (n > 0)
                c->sent += (uint64_t)n;
        } else {
            int64_t want = end - at < (int64_t)CHUNK ? end - at : (int64_t)CHUNK;

            n = object_read(c->obj, at, piece, (size_t)want);
            if (n > 0 && c->f[F_WRONG_BODY].on && flip >= at && flip < at + n)
                piece[flip - at] = (char)(piece[flip - at] ^ 1);
            if (n > 0)
                reply_piece(c, piece, (size_t)n);
        }
        if (n <= 0 && !(n < 0 && errno == EINTR))
            conn_end(c);
        at += n > 0 ? n : 0;
    }
}

static void
reply_body(struct conn *c, int64_t len)
{
    int64_t part = reply_cut(c, len);

    if (c->obj) {
        reply_object(c, part);
    } else if (part) {
        if (c->f[F_WRONG_BODY].on)
            c->rbody.p[len / 2] = (char)(c->rbody.p[len / 2] ^ 1);
        reply_piece(c, c->rbody.p, (size_t)part);
    }
    if (c->f[F_CUT_REPLY].on || c->f[F_SHORT_BODY].on)
        conn_end(c);
    if (reply_chunked(c) || c->streaming)
        conn_write(c, "0\r\n\r\n", 5, 0);
}

/* Faults that need no reply to be made. */
static void
reply_faults(struct conn *c)
{
    conn_stall(c, c->f[F_STALL].num);
    if (c->f[F_LOST_REPLY].on) {
        c->status = 0;
        conn_end(c);
    }
    if (c->f[F_GARBAGE].on) {
        conn_write(c, "\x16\x03garbage\0\r\n<html>no http here\r\n\r\n", 35, 0);
        c->keep = false;
        conn_linger(c);
    }
    for (int i = 0; i < (int)c->f[F_INTERIM].num; i++) {
        const char *s =
            i % 2 ? "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
                  : "HTTP/1.1 100 Continue\r\n\r\n";

        conn_write(c, s, strlen(s), 0);
    }
}

/* True if head and body can go out as one packet: small, and bent by no fault. A small
 * object's bytes are fetched into c->rbody for it. */
static bool
reply_whole(struct conn *c, int64_t len)
{
    struct object *o = c->obj;
    char *p;

    if (len > SMALL_REPLY || reply_chunked(c) || c->f[F_CUT_REPLY].on ||
        c->f[F_SHORT_BODY].on || c->f[F_CUT_HEAD].on || c->f[F_WRONG_BODY].on)
        return false;
    for (int64_t at = 0; o && at < len;) {
        ssize_t n;

        p = at ? c->rbody.p : ram_get((size_t)len + 1);
        c->rbody.p = p;
        n = object_read(o, c->from + at, p + at, (size_t)(len - at));
        if (n <= 0)
            conn_end(c);
        at += n;
        c->rbody.n = (size_t)at;
    }
    return true;
}

/* The last bytes of a reply, logged and counted before they leave: who has read the
 * reply will find it in the log. */
static void
reply_packet(struct conn *c, struct str packet, double rate)
{
    c->sent += packet.n;
    conn_log(c);
    conn_write(c, packet.p, packet.n, rate);
}

/* The one place a reply leaves from. Afterwards the connection is ready for the next
 * head, or this process has ended. */
static void
reply_send(struct conn *c)
{
    int64_t len = c->obj ? c->len : (int64_t)c->rbody.n;
    bool head_only = str_is(c->method, "HEAD") || c->status == 204 || c->status == 304;
    bool early_keep = c->f[F_EARLY_403].on || c->f[F_EARLY_503].on;
    struct buf head_and_body = {0};
    struct str head;

    /* An Expect that was never answered leaves it open whether the body will come. */
    if (c->chunked_in || (c->left && !early_keep &&
                          (c->left > SMALL_BODY || (c->expect && !c->body_begun))))
        c->keep = false;
    reply_faults(c);
    if (!c->streaming) {
        double rate = c->f[F_SLOW_WRITE].on ? c->f[F_SLOW_WRITE].num + 1 : 0;

        head = reply_head_text(c, c->status == 204 || c->status == 304 ? -1 : len);
        if (c->f[F_CUT_HEAD].on)
            head.n /= 2;
        if (head_only && !c->f[F_CUT_HEAD].on)
            reply_packet(c, head, rate);
        else if (reply_whole(c, len)) {
            buf_str(&head_and_body, head);
            buf_str(&head_and_body, buf_view(&c->rbody));
            reply_packet(c, buf_view(&head_and_body), rate);
            head_only = true;
        } else {
            conn_write(c, head.p, head.n, rate);
        }
        if (c->f[F_CUT_HEAD].on)
            conn_end(c);
    }
    if (!head_only)
        reply_body(c, len);
    if (c->obj)
        object_close(c->obj);
    if (c->f[F_SILENT_CLOSE].on)
        conn_end(c);
    if (!c->keep)
        conn_linger(c);
    c->expect = false;
    if (c->left && body_read(c, NULL, NULL, NULL) != NULL)
        conn_end(c);
    conn_log(c);
}

/* whitespace=S: 200 and chunked at once, then a blank now and then, before the work is
 * done. */
static void
reply_trickle(struct conn *c)
{
    double left = c->f[F_WHITESPACE].num;

    if (!c->f[F_WHITESPACE].on || c->streaming)
        return;
    c->streaming = true;
    c->f[F_CHUNKED].on = true;
    c->status = 200;
    reply_head(c, "Content-Type: application/xml");
    {
        struct str head = reply_head_text(c, -1);

        conn_write(c, head.p, head.n, 0);
    }
    for (; left > 0; left -= 0.2) {
        conn_write(c, "1\r\n \r\n", 6, 0);
        os_sleep(left < 0.2 ? left : 0.2);
    }
}

static void
reply_xml(struct conn *c, int status)
{
    c->status = status;
    if (!c->streaming)
        reply_head(c, "Content-Type: application/xml");
}

/* ===== ROOM 14 operations on buckets and objects =====
 *  op_NAME(c) is called with the signature verified; it reads the body (if its row in
 *  room 20 says so), does the work and fills the reply, or returns an error code. */

static const char *
op_ListBuckets(struct conn *c)
{
    struct dirent **e;
    int n = scandir(text_f("%s/b", g.dir), &e, NULL, alphasort);

    xml_root(&c->rbody, "ListAllMyBucketsResult");
    xml_open(&c->rbody, "Owner");
    xml_put(&c->rbody, "ID", str_of("s3d"));
    xml_put(&c->rbody, "DisplayName", str_of("s3d"));
    xml_close(&c->rbody, "Owner");
    xml_open(&c->rbody, "Buckets");
    for (int i = 0; i < n; i++) {
        struct str name = str_of(e[i]->d_name), made;
        int64_t ms = 0;

        if (bucket_exists(name)) {
            made = os_slurp(text_f("%s/bucket", bucket_path(name)), 64);
            str_num(str_cut(&made, '\n'), &ms);
            xml_open(&c->rbody, "Bucket");
            xml_put(&c->rbody, "Name", name);
            xml_put(&c->rbody, "CreationDate", str_of(time_iso(ms)));
            xml_close(&c->rbody, "Bucket");
        }
        free(e[i]);
    }
    if (n >= 0)
        free(e);
    xml_close(&c->rbody, "Buckets");
    xml_close(&c->rbody, "ListAllMyBucketsResult");
    reply_xml(c, 200);
    return NULL;
}

static bool
take_location(void *to, const char *path, struct str text)
{
    if (strcmp(path, "CreateBucketConfiguration/LocationConstraint") == 0)
        *(struct str *)to = (struct str){str_c(text), text.n};
    return strncmp(path, "CreateBucketConfiguration", 25) == 0;
}

static const char *
op_CreateBucket(struct conn *c)
{
    struct str where = {NULL, 0};
    struct buf body = {0};
    const char *bad = body_take(c, &body, 65536);
    bool east = strcmp(g.region, "us-east-1") == 0, exists;

    if (bad)
        return bad;
    if (!bucket_valid(c->bucket))
        return "InvalidBucketName";
    if (body.n && !xml_walk(buf_view(&body), take_location, &where))
        return "MalformedXML";
    if (east && str_is(where, "us-east-1"))
        return "InvalidLocationConstraint";
    if (east ? where.n > 0 : !str_is(where, g.region))
        return "IllegalLocationConstraintException";
    os_lock(LOCK_STORE);
    exists = bucket_exists(c->bucket);
    if (!exists && !bucket_make(c->bucket))
        bad = "InternalError";
    os_unlock(LOCK_STORE);
    if (exists && !east)
        return "BucketAlreadyOwnedByYou";
    c->status = 200;
    reply_head(c, "Location: /%s", str_c(c->bucket));
    return bad;
}

/* Uploads that still run keep a bucket too. */
static bool
bucket_empty(struct str bucket)
{
    DIR *d;
    struct dirent *e;
    bool empty;

    list_load(bucket);
    empty = list.n == 0;
    d = opendir(text_f("%s/u", bucket_path(bucket)));
    while (empty && d && (e = readdir(d)) != NULL)
        empty = *e->d_name == '.' ||
                access(text_f("%s/upload", upload_path(bucket, e->d_name)), F_OK) != 0;
    if (d)
        closedir(d);
    return empty;
}

static const char *
op_DeleteBucket(struct conn *c)
{
    char *gone = temp_path();
    bool empty;

    os_lock(LOCK_STORE);
    empty = bucket_empty(c->bucket);
    if (empty)
        rename(bucket_path(c->bucket), gone);
    os_unlock(LOCK_STORE);
    if (!empty)
        return "BucketNotEmpty";
    os_remove(gone);
    c->status = 204;
    return NULL;
}

static const char *
op_HeadBucket(struct conn *c)
{
    c->status = 200;
    return NULL; /* x-amz-bucket-region is set for all bucket replies */
}

static const char *
op_GetBucketLocation(struct conn *c)
{
    xml_root(&c->rbody, "LocationConstraint");
    if (strcmp(g.region, "us-east-1") != 0)
        xml_escape(&c->rbody, str_of(g.region));
    xml_close(&c->rbody, "LocationConstraint");
    reply_xml(c, 200);
    return NULL;
}

static const char *
op_GetBucketVersioning(struct conn *c)
{
    xml_root(&c->rbody, "VersioningConfiguration");
    xml_close(&c->rbody, "VersioningConfiguration");
    reply_xml(c, 200);
    return NULL;
}

/* The headers an object keeps, into its record. Everything else in a request is
 * forgotten. */
static const char *
record_headers(struct conn *c, struct buf *b)
{
    static const char *const kept[] = {"content-type",
                                       "content-encoding",
                                       "cache-control",
                                       "content-disposition",
                                       "content-language",
                                       "expires",
                                       "x-amz-website-redirect-location",
                                       "x-amz-server-side-encryption",
                                       "x-amz-server-side-encryption-aws-kms-key-id"};
    static const char *const classes[] = {
        "STANDARD",     "REDUCED_REDUNDANCY",  "STANDARD_IA",
        "ONEZONE_IA",   "INTELLIGENT_TIERING", "GLACIER",
        "DEEP_ARCHIVE", "GLACIER_IR"};
    struct str class = conn_header(c, "x-amz-storage-class"), tags,
               meta = str_of("x-amz-meta-");
    struct str sse = conn_header(c, "x-amz-server-side-encryption");
    size_t metas = 0;
    bool known = !class.p;

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (conn_header(c, kept[i]).p)
            meta_put(b, text_f("h.%s", kept[i]), conn_header(c, kept[i]));
    for (size_t i = 0; i < c->headers; i++) {
        struct field f = c->header[i];

        if (!str_starts(f.name, meta))
            continue;
        metas += f.name.n - meta.n + f.value.n;
        meta_put(b, text_f("h.%s", str_c(f.name)), f.value);
    }
    if (metas > META_MAX)
        return "MetadataTooLarge";
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        known = known || str_is(class, classes[i]);
    if (!known)
        return "InvalidStorageClass";
    if (class.p && !str_is(class, "STANDARD"))
        meta_put(b, "class", class);
    if (sse.p && !str_is(sse, "AES256") && !str_is(sse, "aws:kms")) {
        c->why = "The encryption method specified is not supported";
        return "InvalidArgument";
    }
    tags = conn_header(c, "x-amz-tagging");
    meta_put(b, "tagging", tags);
    for (size_t n = 0; tags.p && tags.n; n++) {
        struct str value = str_cut(&tags, '&'), name = str_cut(&value, '='), v;

        if (n == 10 || !value.p || !url_read(name, true, &v) || v.n > 128 ||
            !url_read(value, true, &v) || v.n > 256)
            return "InvalidTag";
    }
    return NULL;
}

static void
reply_sse(struct conn *c, const struct meta *m)
{
    static const char *const name[] = {"x-amz-server-side-encryption",
                                       "x-amz-server-side-encryption-aws-kms-key-id"};

    for (int i = 0; i < 2; i++) {
        struct str v = meta_get(m, text_f("h.%s", name[i]));

        if (v.p)
            reply_head(c, "%s: %s", name[i], str_c(v));
    }
}

/* The checksum a record holds, as headers. */
static void
reply_sum(struct conn *c, const struct meta *m)
{
    struct str kind = meta_get(m, "sum-kind"), sum = meta_get(m, "sum");
    struct str type = meta_get(m, "sum-type");

    if (kind.p && sum.p)
        reply_head(c, "x-amz-checksum-%s: %s", str_c(kind), str_c(sum));
    if (kind.p && type.p)
        reply_head(c, "x-amz-checksum-type: %s", str_c(type));
}

static struct str
etag_bare(struct str e)
{
    if (str_starts(e, str_of("W/")))
        e = str_from(e, 2);
    if (e.n >= 2 && *e.p == '"' && e.p[e.n - 1] == '"')
        e = (struct str){e.p + 1, e.n - 2};
    return e;
}

/* True if a list like  "a", "b"  or * names etag. */
static bool
etag_listed(struct str etags, struct str etag)
{
    while (etags.p) {
        struct str one = str_trim(str_cut(&etags, ','));

        if (str_is(one, "*") || str_eq(etag_bare(one), etag))
            return true;
    }
    return false;
}

static struct str
etag_make(const struct sums *s)
{
    if (quirk(Q_OPAQUE_ETAG) || g.sink_fast || !s->on[SUM_MD5]) {
        uint64_t n = __atomic_fetch_add(&g.sh->temp_id, 1, __ATOMIC_RELAXED);

        return str_of(text_f("%016" PRIx64 "%016" PRIx64, os_mix(n), os_mix(os_ns())));
    }
    return str_of(hex_of(s->out[SUM_MD5], 16));
}

/* If-None-Match: * and If-Match on writes. */
static const char *
write_condition(struct conn *c)
{
    struct str none = conn_header(c, "if-none-match"), match = conn_header(c, "if-match");
    struct object o;
    struct str etag;
    bool exists;

    if ((!none.p && !match.p) || quirk(Q_NO_IF_NONE_MATCH))
        return NULL;
    if (quirk(Q_IF_NONE_MATCH_501) || (none.p && !str_is(none, "*")) ||
        (none.p && match.p))
        return "NotImplemented";
    exists = object_load(&o, object_path(c->bucket, c->key), c->bucket);
    etag = exists ? meta_get(&o.m, "etag") : str_of("");
    if (exists)
        object_close(&o);
    if (none.p) {
        buf_s(&c->extra, exists ? "<Condition>If-None-Match</Condition>" : "");
        return exists ? "PreconditionFailed" : NULL;
    }
    if (!exists)
        return "NoSuchKey";
    return etag_listed(match, etag) ? NULL : "PreconditionFailed";
}

/* What every upload of bytes checks before it reads any. */
static const char *
upload_checks(struct conn *c)
{
    if (c->length < 0)
        return "MissingContentLength";
    if (c->length > PUT_MAX) {
        xml_num(&c->extra, "ProposedSize", c->length);
        xml_num(&c->extra, "MaxSizeAllowed", PUT_MAX);
        return "EntityTooLarge";
    }
    return NULL;
}

/* The body into a draft, checked; on failure the draft is gone.  kind: its checksum. */
static const char *
upload_body(struct conn *c, struct draft *d, struct sums *s, int *kind)
{
    struct str value = {0};
    const char *bad;

    sums_default(s);
    bad = body_prepare(c, s, kind, &value);
    if (bad)
        return bad;
    if (!draft_open(d))
        return "InternalError";
    bad = body_read(c, draft_write, d, s);
    if (!bad) {
        sums_end(s);
        bad = body_compare(c, s, *kind, value);
    }
    if (bad)
        draft_drop(d);
    return bad;
}

/* Size, time, ETag and checksum of fresh bytes, into a record. */
static void
record_sums(struct buf *b, int64_t size, struct sums *s, int kind)
{
    meta_put_num(b, "size", size);
    meta_put_num(b, "ms", os_now_ms());
    meta_put(b, "etag", etag_make(s));
    if (g.sink)
        meta_put_num(b, "sunk", 1);
    if (s->on[SUM_CRC64])
        meta_put(b, "crc64", str_of(hex_of(s->out[SUM_CRC64], 8)));
    if (kind < 0 && s->on[SUM_CRC64])
        kind = SUM_CRC64;
    if (kind < 0 || quirk(Q_CHECKSUM_IGNORED))
        return;
    meta_put(b, "sum-kind", str_of(sum_info[kind].name));
    meta_put(b, "sum", str_of(b64_of(s->out[kind], sum_info[kind].size)));
}

/* Seals d with record and puts it at the request's key, if the condition holds. */
static const char *
object_publish(struct conn *c, struct draft *d, struct buf *record)
{
    const char *bad;

    if (!draft_seal(d, record))
        return "InternalError";
    os_lock(LOCK_STORE);
    bad = bucket_exists(c->bucket) ? write_condition(c) : "NoSuchBucket";
    if (bad)
        unlink(d->path);
    else if (!object_commit(c->bucket, c->key, d->path, record))
        bad = "InternalError";
    os_unlock(LOCK_STORE);
    return bad;
}

static const char *
op_PutObject(struct conn *c)
{
    struct draft d = {0};
    struct sums s = {0};
    struct buf record = {0};
    struct meta m;
    const char *bad = upload_checks(c);
    int kind;

    meta_put(&record, "key", c->key);
    if (!bad)
        bad = record_headers(c, &record);
    if (!bad)
        bad = write_condition(c);
    if (!bad)
        bad = upload_body(c, &d, &s, &kind);
    if (bad)
        return bad;
    record_sums(&record, d.size, &s, kind);
    if (!quirk(Q_CHECKSUM_IGNORED) && !g.sink_fast)
        meta_put(&record, "sum-type", str_of("FULL_OBJECT"));
    bad = object_publish(c, &d, &record);
    if (bad)
        return bad;
    meta_parse((struct str){record.p, record.n - TAIL}, &m);
    c->status = 200;
    reply_etag(c, meta_get(&m, "etag"));
    reply_sum(c, &m);
    reply_sse(c, &m);
    return NULL;
}

/* If-Match, If-None-Match and their dates, with the precedence of RFC 9110. */
static const char *
read_condition(struct conn *c, const struct object *o, const char *prefix)
{
    struct str etag = meta_get(&o->m, "etag");
    struct str match = conn_header(c, text_f("%sif-match", prefix));
    struct str none = conn_header(c, text_f("%sif-none-match", prefix));
    struct str since = conn_header(c, text_f("%sif-modified-since", prefix));
    struct str until = conn_header(c, text_f("%sif-unmodified-since", prefix));
    int64_t t, ours = o->mtime_ms / 1000;

    if (match.p
            ? !etag_listed(match, etag)
            : until.p && time_read(until, "%a, %d %b %Y %H:%M:%S GMT", &t) && ours > t)
        return "PreconditionFailed";
    if (none.p
            ? etag_listed(none, etag)
            : since.p && time_read(since, "%a, %d %b %Y %H:%M:%S GMT", &t) && ours <= t)
        return *prefix ? "PreconditionFailed" : "NotModified";
    return NULL;
}

/* "bytes=..." over size bytes: 1 and the range, 0 ignored (as S3 does with what it cannot
 * read), -1 not satisfiable. */
static int
range_parse(struct str v, int64_t size, int64_t *from, int64_t *len)
{
    struct str last, first;
    int64_t a = 0, z = size - 1;

    if (!v.p || !str_starts(v, str_of("bytes=")) || memchr(v.p, ',', v.n))
        return 0;
    last = str_from(v, 6);
    first = str_cut(&last, '-');
    if (!last.p || (!first.n && !last.n) || (first.n && !str_num(first, &a)) ||
        (last.n && !str_num(last, &z)) || (first.n && last.n && z < a))
        return 0;
    if (!first.n) {
        if (!z || !size)
            return -1;
        a = z < size ? size - z : 0;
        z = size - 1;
    }
    if (a >= size)
        return -1;
    *from = a;
    *len = (z < size - 1 ? z : size - 1) - a + 1;
    return 1;
}

static void
reply_object_head(struct conn *c, const struct object *o)
{
    static const char *const over[] = {
        "content-type",  "content-language",    "expires",
        "cache-control", "content-disposition", "content-encoding"};
    struct str class = meta_get(&o->m, "class"), tags = meta_get(&o->m, "tagging");
    int n = 1;

    reply_etag(c, meta_get(&o->m, "etag"));
    reply_head(c, "Last-Modified: %s", time_http(o->mtime_ms));
    reply_head(c, "Accept-Ranges: bytes");
    if (class.p)
        reply_head(c, "x-amz-storage-class: %s", str_c(class));
    for (size_t i = 0; tags.p && i < tags.n; i++)
        n += tags.p[i] == '&';
    if (tags.p && tags.n)
        reply_head(c, "x-amz-tagging-count: %d", n);
    for (int i = 0; i < 6; i++) {
        struct str v = conn_query(c, text_f("response-%s", over[i]));

        if (!v.p || c->anonymous)
            v = meta_get(&o->m, text_f("h.%s", over[i]));
        if (v.p && !memchr(v.p, '\n', v.n) && !memchr(v.p, '\r', v.n))
            reply_head(c, "%s: %s", over[i], str_c(v));
        else if (i == 0)
            reply_head(c, "content-type: binary/octet-stream");
    }
    for (size_t i = 0; i < o->m.n; i++)
        if (str_starts(o->m.f[i].name, str_of("h.x-amz-")))
            reply_head(c, "%s: %s", str_c(str_from(o->m.f[i].name, 2)),
                       str_c(o->m.f[i].value));
}

/* ?partNumber=: that part as a range. */
static const char *
part_range(struct conn *c, const struct object *o, int64_t *from, int64_t *len)
{
    int64_t no;

    if (!str_num(conn_query(c, "partNumber"), &no) || no < 1 || no > PART_LAST)
        return "InvalidArgument";
    *from = 0;
    *len = o->size;
    if (!o->seg_dir)
        return no == 1 ? NULL : "InvalidRange";
    reply_head(c, "x-amz-mp-parts-count: %d", o->segs);
    for (int i = 0; i < o->segs; i++)
        if (o->seg_no[i] == no) {
            *from = o->seg_at[i];
            *len = o->seg_at[i + 1] - o->seg_at[i];
            return NULL;
        }
    return "InvalidRange";
}

/* The head of a 206, and what it says of the bytes behind it. A fault has it lie: whole,
 * 200 and all; shift, begins a byte later; total, of a larger object; none, says nothing;
 * garbled; short, half of what was asked for; long, more behind it than it says. */
static void
range_bend(struct conn *c, int64_t size)
{
    const char *how = c->f[F_RANGE].on ? c->f[F_RANGE].text : "";
    int64_t shift = quirk(Q_WRONG_CONTENT_RANGE) || strcmp(how, "shift") == 0 ? 1 : 0;
    int64_t more = size - c->from - c->len;

    if (strcmp(how, "whole") == 0) {
        c->status = 200;
        c->from = 0;
        c->len = size;
        return;
    }
    if (strcmp(how, "short") == 0)
        c->len = (c->len + 1) / 2;
    if (strcmp(how, "garbled") == 0)
        reply_head(c, "Content-Range: bytes all of them");
    else if (strcmp(how, "none") != 0)
        reply_head(c, "Content-Range: bytes %" PRId64 "-%" PRId64 "/%" PRId64,
                   c->from + shift, c->from + c->len - 1 + shift,
                   size + (strcmp(how, "total") == 0));
    if (strcmp(how, "long") == 0)
        c->len += more < 1000 ? more : 1000;
}

static const char *
op_GetObject(struct conn *c)
{
    struct object *o = ram_get(sizeof *o);
    struct str range = conn_header(c, "range");
    const char *bad;
    int ranged = 0;

    if (quirk(Q_CHECKSUM_UNSUPPORTED) && conn_header(c, "x-amz-checksum-mode").p) {
        c->why = "Unsupported header 'x-amz-checksum-mode' received for this API call.";
        return "InvalidArgument";
    }
    if (!object_load(o, object_path(c->bucket, c->key), c->bucket))
        return "NoSuchKey";
    c->obj = o;
    c->from = 0;
    c->len = o->size;
    bad = read_condition(c, o, "");
    if (bad) {
        if (strcmp(bad, "NotModified") == 0)
            reply_object_head(c, o);
        object_close(o);
        return bad;
    }
    if (conn_has(c, "partNumber") && !quirk(Q_NO_PART_NUMBER)) {
        bad = part_range(c, o, &c->from, &c->len);
        ranged = 1;
    } else if (!quirk(Q_RANGE_IGNORED)) {
        ranged = range_parse(range, o->size, &c->from, &c->len);
        bad = ranged < 0 ? "InvalidRange" : NULL;
    }
    if (bad) {
        object_close(o);
        reply_head(c, "Content-Range: bytes */%" PRId64, o->size);
        xml_num(&c->extra, "ActualObjectSize", o->size);
        return bad;
    }
    c->status = ranged ? 206 : 200;
    if (ranged && c->len)
        range_bend(c, o->size);
    reply_object_head(c, o);
    if (!ranged && !c->f[F_NO_SUM].on &&
        str_isi(conn_header(c, "x-amz-checksum-mode"), "ENABLED"))
        reply_sum(c, &o->m);
    return NULL;
}

static const char *
op_HeadObject(struct conn *c)
{
    if (quirk(Q_RICH_HEAD))
        reply_head(c, "x-amz-version-id: 3/L4kqtJ\r\n"
                      "x-amz-archive-status: ARCHIVE_ACCESS\r\n"
                      "X-Amz-Restore: ongoing-request=\"true\"\r\n"
                      "x-amz-expiration: expiry-date=\"Fri, 23 Dec 2033 00:00:00 GMT\", "
                      "rule-id=\"r\"\r\n"
                      "x-amz-object-lock-mode: COMPLIANCE\r\n"
                      "x-amz-object-lock-retain-until-date: 2033-01-01T00:00:00Z\r\n"
                      "x-amz-object-lock-legal-hold: ON\r\n"
                      "x-amz-replication-status: REPLICA\r\n"
                      "x-amz-server-side-encryption-bucket-key-enabled: true\r\n"
                      "x-amz-novelty: 1");
    return op_GetObject(c); /* reply_send() keeps the body back */
}

static const char *
op_DeleteObject(struct conn *c)
{
    struct str match = conn_header(c, "if-match");
    const char *bad = NULL;

    os_lock(LOCK_STORE);
    if (match.p)
        bad = write_condition(c);
    if (!bad)
        object_delete(c->bucket, c->key);
    os_unlock(LOCK_STORE);
    c->status = 204;
    return bad;
}

/* x-amz-copy-source: [/]BUCKET/KEY, percent-encoded, into an open object. */
static const char *
copy_source(struct conn *c, struct object *o, struct str *bucket, struct str *key)
{
    struct str v = conn_header(c, "x-amz-copy-source"), path = str_cut(&v, '?');
    const char *bad;

    if (!url_read(path, false, key))
        return "InvalidArgument";
    if (key->n && *key->p == '/')
        *key = str_from(*key, 1);
    *bucket = str_cut(key, '/');
    if (!key->p || !key->n) {
        c->why =
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        return "InvalidArgument";
    }
    if (!bucket_exists(*bucket))
        return "NoSuchBucket";
    if (!object_load(o, object_path(*bucket, *key), *bucket))
        return "NoSuchKey";
    bad = read_condition(c, o, "x-amz-copy-source-");
    if (bad)
        object_close(o);
    return bad;
}

static const char *
copy_bytes(struct object *o, int64_t from, int64_t len, struct draft *d)
{
    static char piece[CHUNK];

    if (!draft_open(d))
        return "InternalError";
    sums_start(d->sums);
    while (len > 0) {
        ssize_t n =
            object_read(o, from, piece, len < (int64_t)CHUNK ? (size_t)len : CHUNK);

        if (n <= 0 || !draft_write(d, piece, (size_t)n)) {
            draft_drop(d);
            return "InternalError";
        }
        from += n;
        len -= n;
    }
    sums_end(d->sums);
    return NULL;
}

/* The record's head for a copy: the source's metadata or the request's. */
static const char *
copy_record(struct conn *c, const struct object *o, struct buf *record, bool self)
{
    struct str how = conn_header(c, "x-amz-metadata-directive");
    struct str class = conn_header(c, "x-amz-storage-class");
    bool tagged = str_is(conn_header(c, "x-amz-tagging-directive"), "REPLACE");

    if (how.p && !str_is(how, "COPY") && !str_is(how, "REPLACE"))
        return "InvalidArgument";
    meta_put(record, "key", c->key);
    if (str_is(how, "REPLACE"))
        return record_headers(c, record);
    if (self && !class.p && !conn_header(c, "x-amz-server-side-encryption").p) {
        c->why = "This copy request is illegal because it is trying to copy an object to "
                 "itself without changing the object's metadata.";
        return "InvalidRequest";
    }
    for (size_t i = 0; i < o->m.n; i++)
        if (str_starts(o->m.f[i].name, str_of("h.")) ||
            (!tagged && str_is(o->m.f[i].name, "tagging")))
            meta_put(record, str_c(o->m.f[i].name), o->m.f[i].value);
    if (tagged)
        meta_put(record, "tagging", conn_header(c, "x-amz-tagging"));
    if (class.p && !str_is(class, "STANDARD"))
        meta_put(record, "class", class);
    return NULL;
}

static void
copy_result(struct conn *c, const char *root, const struct buf *record)
{
    struct meta m;

    meta_parse((struct str){record->p, record->n - TAIL}, &m);
    xml_root(&c->rbody, root);
    xml_put(&c->rbody, "LastModified", str_of(time_iso(meta_num(&m, "ms"))));
    xml_etag(&c->rbody, meta_get(&m, "etag"));
    xml_close(&c->rbody, root);
    reply_xml(c, 200);
}

static const char *
op_CopyObject(struct conn *c)
{
    struct str bucket, key, named = conn_header(c, "x-amz-checksum-algorithm");
    int kind = named.p ? sum_named(named) : -1;
    struct sums s = {0};
    struct draft d = {.sums = &s};
    struct buf record = {0};
    struct object o;
    const char *bad = copy_source(c, &o, &bucket, &key);

    if (bad)
        return bad;
    if (o.size > PUT_MAX) {
        c->why =
            "The specified copy source is larger than the maximum allowable size for a "
            "copy source: 5368709120";
        bad = "InvalidRequest";
    }
    sums_default(&s);
    if (kind >= 0)
        s.on[kind] = true;
    if (!bad)
        bad =
            copy_record(c, &o, &record, str_eq(bucket, c->bucket) && str_eq(key, c->key));
    if (!bad)
        reply_trickle(c);
    if (!bad)
        bad = copy_bytes(&o, 0, o.size, &d);
    object_close(&o);
    if (bad)
        return bad;
    record_sums(&record, d.size, &s, kind);
    meta_put(&record, "sum-type", str_of("FULL_OBJECT"));
    bad = object_publish(c, &d, &record);
    if (!bad)
        copy_result(c, "CopyObjectResult", &record);
    return bad;
}

struct doomed {
    struct str key[1000], etag[1000];
    size_t n;
    bool quiet, bad;
};

static bool
take_delete(void *to, const char *path, struct str text)
{
    struct doomed *d = to;

    if (strcmp(path, "Delete/Object/Key") == 0) {
        if (d->n < 1000)
            d->key[d->n] = (struct str){str_c(text), text.n};
    } else if (strcmp(path, "Delete/Object/ETag") == 0) {
        if (d->n < 1000)
            d->etag[d->n] = (struct str){str_c(text), text.n};
    } else if (strcmp(path, "Delete/Object") == 0) {
        d->bad = d->bad || d->n == 1000 || !d->key[d->n].n;
        d->n += d->n < 1000;
    } else if (strcmp(path, "Delete/Quiet") == 0) {
        d->quiet = str_is(text, "true");
    } else {
        return strcmp(path, "Delete") == 0 ||
               strcmp(path, "Delete/Object/VersionId") == 0;
    }
    return true;
}

static void
delete_one(struct conn *c, const struct doomed *d, size_t i)
{
    struct str key = d->key[i];
    const char *code = NULL;
    struct object o;

    if (key.n > KEY_MAX)
        code = "KeyTooLongError";
    else if (c->f[F_DELETE_ERROR].on && strstr(str_c(key), c->f[F_DELETE_ERROR].text))
        code = "InternalError";
    else if (c->f[F_DELETE_DENIED].on && strstr(str_c(key), c->f[F_DELETE_DENIED].text))
        code = "AccessDenied";
    else if (d->etag[i].p && object_load(&o, object_path(c->bucket, key), c->bucket)) {
        if (!etag_listed(d->etag[i], meta_get(&o.m, "etag")))
            code = "PreconditionFailed";
        object_close(&o);
    }
    if (!code && !quirk(Q_DELETE_NOTHING))
        object_delete(c->bucket, key);
    if (!code && d->quiet)
        return;
    xml_open(&c->rbody, code ? "Error" : "Deleted");
    xml_put(&c->rbody, "Key", key);
    if (code) {
        xml_put(&c->rbody, "Code", str_of(code));
        xml_put(&c->rbody, "Message", str_of(errors[error_find(code)].message));
    }
    xml_close(&c->rbody, code ? "Error" : "Deleted");
}

static const char *
op_DeleteObjects(struct conn *c)
{
    struct doomed *d = ram_get(sizeof *d);
    struct buf body = {0};
    struct str value;
    const char *bad;

    memset(d, 0, sizeof *d);
    if (c->length < 0)
        return "MissingContentLength";
    if (!conn_header(c, "content-md5").p && body_checksum(c, &value, &bad) < 0) {
        if (bad)
            return bad;
        c->why = "Missing required header for this request: Content-MD5";
        return "InvalidRequest";
    }
    bad = body_take(c, &body, XML_MAX);
    if (bad)
        return bad;
    if (!xml_walk(buf_view(&body), take_delete, d) || d->bad || !d->n)
        return "MalformedXML";
    xml_root(&c->rbody, "DeleteResult");
    os_lock(LOCK_STORE);
    for (size_t i = 0; i < d->n; i++)
        delete_one(c, d, i);
    os_unlock(LOCK_STORE);
    xml_close(&c->rbody, "DeleteResult");
    reply_xml(c, 200);
    return NULL;
}

static const char *
op_GetObjectTagging(struct conn *c)
{
    struct object o;
    struct str tags;

    if (!object_load(&o, object_path(c->bucket, c->key), c->bucket))
        return "NoSuchKey";
    tags = meta_get(&o.m, "tagging");
    object_close(&o);
    xml_root(&c->rbody, "Tagging");
    xml_open(&c->rbody, "TagSet");
    while (tags.p && tags.n) {
        struct str value = str_cut(&tags, '&'), name = str_cut(&value, '='), k, v;

        if (!url_read(name, true, &k) || !value.p || !url_read(value, true, &v))
            continue;
        xml_open(&c->rbody, "Tag");
        xml_put(&c->rbody, "Key", k);
        xml_put(&c->rbody, "Value", v);
        xml_close(&c->rbody, "Tag");
    }
    xml_close(&c->rbody, "TagSet");
    xml_close(&c->rbody, "Tagging");
    reply_xml(c, 200);
    return NULL;
}

/* ===== ROOM 15 multipart uploads =====
 *  An upload id is "2~" and base64 of six bytes of time, four of a count and six of
 *  chance: it sorts by age and holds / + = on purpose, so that a client must escape
 *  it. On disk it is hex. Complete: object renamed into place, then "upload" renamed
 *  to "done"; a kill in between leaves both, and the same Complete sent again ends the
 *  same way. */

struct upload {
    char *dir;
    struct meta m;
    bool done;
};

static char *
upload_id_out(const char *hex)
{
    unsigned char raw[16];

    for (int i = 0; i < 16; i++)
        raw[i] = (unsigned char)(hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]));
    return text_f("2~%s", b64_of(raw, 16));
}

static char *
upload_id_in(struct str s)
{
    unsigned char raw[16];
    size_t n;

    if (!str_starts(s, str_of("2~")) || !b64_read(str_from(s, 2), raw, 16, &n) || n != 16)
        return NULL;
    return hex_of(raw, 16);
}

static bool
upload_load(const char *dir, const char *name, struct meta *m)
{
    int fd = open(text_f("%s/%s", dir, name), O_RDONLY | O_CLOEXEC);
    int64_t data;
    bool ok = fd >= 0 && meta_load(fd, m, &data);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* The upload the request names, running or (done) completed already. */
static const char *
upload_find(struct conn *c, struct upload *u)
{
    char *id = upload_id_in(conn_query(c, "uploadId"));
    const char *none = quirk(Q_NO_SUCH_KEY) ? "NoSuchKey" : "NoSuchUpload";

    memset(u, 0, sizeof *u);
    if (!id)
        return none;
    u->dir = upload_path(c->bucket, id);
    if (!upload_load(u->dir, "upload", &u->m)) {
        if (!upload_load(u->dir, "done", &u->m))
            return none;
        u->done = true;
    }
    return str_eq(meta_get(&u->m, "key"), c->key) ? NULL : none;
}

static const char *
upload_running(struct conn *c, struct upload *u)
{
    const char *bad = upload_find(c, u);

    return bad                    ? bad
           : !u->done             ? NULL
           : quirk(Q_NO_SUCH_KEY) ? "NoSuchKey"
                                  : "NoSuchUpload";
}

/* x-amz-checksum-algorithm and -type of a new upload, into its record. */
static const char *
upload_checksum(struct conn *c, struct buf *record)
{
    struct str named = conn_header(c, "x-amz-checksum-algorithm");
    struct str type = conn_header(c, "x-amz-checksum-type");
    int kind = named.p ? sum_named(named) : -1;
    bool full;

    if (quirk(Q_CHECKSUM_UNSUPPORTED) && (named.p || type.p)) {
        c->why =
            "Unsupported header 'x-amz-checksum-algorithm' received for this API call.";
        return "InvalidArgument";
    }
    if (!named.p && !type.p)
        return NULL;
    full = str_is(type, "FULL_OBJECT") || (!type.p && kind == SUM_CRC64);
    if (kind < 0 || kind == SUM_MD5 || (full && kind > SUM_CRC64) ||
        (!full && (kind == SUM_CRC64 || (type.p && !str_is(type, "COMPOSITE"))))) {
        c->why = "The checksum algorithm and the checksum type do not go together.";
        return "InvalidRequest";
    }
    if (quirk(Q_CHECKSUM_IGNORED))
        return NULL;
    meta_put(record, "sum-kind", str_of(sum_info[kind].name));
    meta_put(record, "sum-type", str_of(full ? "FULL_OBJECT" : "COMPOSITE"));
    reply_head(c, "x-amz-checksum-algorithm: %s", sum_info[kind].tag);
    reply_head(c, "x-amz-checksum-type: %s", full ? "FULL_OBJECT" : "COMPOSITE");
    return NULL;
}

static const char *
op_CreateMultipartUpload(struct conn *c)
{
    struct buf record = {0};
    struct draft d = {0};
    struct meta m;
    unsigned char id[16];
    uint64_t nth;
    int64_t now;
    const char *bad = record_headers(c, &record), *hex;
    char *dir;

    if (!bad)
        bad = upload_checksum(c, &record);
    if (bad)
        return bad;
    os_random(id, sizeof id);
    now = os_now_ms();
    nth = __atomic_fetch_add(&g.sh->temp_id, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 6; i++)
        id[i] = (unsigned char)(now >> (40 - 8 * i));
    for (int i = 6; i < 10; i++)
        id[i] = (unsigned char)(nth >> (72 - 8 * i));
    hex = hex_of(id, 16);
    meta_put(&record, "key", c->key);
    meta_put_num(&record, "ms", now);
    dir = upload_path(c->bucket, hex);
    if (!draft_open(&d) || mkdir(dir, 0700) < 0 || !draft_seal(&d, &record) ||
        rename(d.path, text_f("%s/upload", dir)) < 0)
        return "InternalError";
    meta_parse((struct str){record.p, record.n - TAIL}, &m);
    reply_sse(c, &m);
    xml_root(&c->rbody, "InitiateMultipartUploadResult");
    xml_put(&c->rbody, "Bucket", c->bucket);
    xml_put(&c->rbody, "Key", c->key);
    xml_put(&c->rbody, "UploadId", str_of(upload_id_out(hex)));
    xml_close(&c->rbody, "InitiateMultipartUploadResult");
    reply_xml(c, 200);
    return NULL;
}

static const char *
part_number(struct conn *c, int64_t *no)
{
    if (str_num(conn_query(c, "partNumber"), no) && *no >= 1 && *no <= PART_LAST)
        return NULL;
    c->why = "Part number must be an integer between 1 and 10000, inclusive";
    xml_put(&c->extra, "ArgumentName", str_of("partNumber"));
    return "InvalidArgument";
}

/* Seals a part and puts it into its upload, if that still runs. */
static const char *
part_publish(struct upload *u, int64_t no, struct draft *d, struct buf *record)
{
    const char *bad = NULL;

    if (!draft_seal(d, record))
        return "InternalError";
    os_lock(LOCK_STORE);
    if (access(text_f("%s/upload", u->dir), F_OK) < 0)
        bad = "NoSuchUpload";
    else if (rename(d->path, text_f("%s/%05d", u->dir, (int)no)) < 0)
        bad = "InternalError";
    os_unlock(LOCK_STORE);
    if (bad)
        unlink(d->path);
    return bad;
}

static const char *
op_UploadPart(struct conn *c)
{
    struct upload u;
    struct draft d = {0};
    struct sums s = {0};
    struct buf record = {0};
    struct str want, value;
    struct meta m;
    int64_t no;
    int kind;
    const char *bad = upload_checks(c);

    if (!bad)
        bad = part_number(c, &no);
    if (!bad)
        bad = upload_running(c, &u);
    if (bad)
        return bad;
    want = meta_get(&u.m, "sum-kind");
    kind = body_checksum(c, &value, &bad);
    if (!bad && want.p && (kind < 0 || !str_is(want, sum_info[kind].name))) {
        c->why =
            text_f("Checksum Type mismatch occurred, expected checksum Type: %s, actual "
                   "checksum Type: %s",
                   str_c(want), kind < 0 ? "null" : sum_info[kind].name);
        bad = "InvalidRequest";
    }
    if (!bad)
        bad = upload_body(c, &d, &s, &kind);
    if (bad)
        return bad;
    record_sums(&record, d.size, &s, kind);
    bad = part_publish(&u, no, &d, &record);
    if (bad)
        return bad;
    meta_parse((struct str){record.p, record.n - TAIL}, &m);
    c->status = 200;
    reply_etag(c, meta_get(&m, "etag"));
    if (meta_get(&m, "sum").p)
        reply_head(c, "x-amz-checksum-%s: %s", str_c(meta_get(&m, "sum-kind")),
                   str_c(meta_get(&m, "sum")));
    reply_sse(c, &u.m);
    return NULL;
}

static const char *
op_UploadPartCopy(struct conn *c)
{
    struct str bucket, key, want, range = conn_header(c, "x-amz-copy-source-range");
    struct sums s = {0};
    struct draft d = {.sums = &s};
    struct buf record = {0};
    struct upload u;
    struct object o;
    int64_t no, from = 0, len;
    int kind;
    const char *bad = part_number(c, &no);

    if (!bad)
        bad = upload_running(c, &u);
    if (!bad)
        bad = copy_source(c, &o, &bucket, &key);
    if (bad)
        return bad;
    len = o.size;
    if (range.p &&
        (range_parse(range, o.size, &from, &len) != 1 ||
         !str_is(range, text_f("bytes=%" PRId64 "-%" PRId64, from, from + len - 1)))) {
        c->why = "The x-amz-copy-source-range value must be of the form bytes=first-last "
                 "where "
                 "first and last are the zero-based offsets of bytes that exist";
        bad = "InvalidArgument";
    } else if (len > PUT_MAX) {
        bad = "InvalidRequest";
    }
    want = meta_get(&u.m, "sum-kind");
    kind = want.p ? sum_named(want) : -1;
    sums_default(&s);
    if (kind >= 0)
        s.on[kind] = true;
    if (!bad) {
        reply_trickle(c);
        bad = copy_bytes(&o, from, len, &d);
    }
    object_close(&o);
    if (bad)
        return bad;
    record_sums(&record, d.size, &s, kind);
    bad = part_publish(&u, no, &d, &record);
    if (!bad)
        copy_result(c, "CopyPartResult", &record);
    return bad;
}

/* The part files of an upload, by number; the caller's from the arena. */
static int
parts_scan(const char *dir, int *no)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    static bool have[PART_LAST + 1];

    memset(have, 0, sizeof have);
    while (d && (e = readdir(d)) != NULL)
        if (isdigit((unsigned char)*e->d_name) && atoi(e->d_name) <= PART_LAST)
            have[atoi(e->d_name)] = true;
    if (d)
        closedir(d);
    for (int i = 1; i <= PART_LAST; i++)
        if (have[i])
            no[n++] = i;
    return n;
}

struct wanted {
    int64_t no;
    struct str etag, sum;
    int kind;
};
struct complete {
    struct wanted *part;
    size_t n;
    bool bad, sums;
    struct wanted next;
};

static bool
take_complete(void *to, const char *path, struct str text)
{
    struct complete *q = to;
    const char *root = "CompleteMultipartUpload/Part";
    size_t n = strlen(root);

    if (strncmp(path, root, n) != 0)
        return strcmp(path, "CompleteMultipartUpload") == 0;
    if (!path[n]) {
        if (q->n == PART_LAST || !q->next.no || !q->next.etag.p)
            return false;
        q->part[q->n++] = q->next;
        memset(&q->next, 0, sizeof q->next);
        q->next.kind = -1;
    } else if (strcmp(path + n, "/PartNumber") == 0) {
        return str_num(text, &q->next.no) && q->next.no >= 1 && q->next.no <= PART_LAST;
    } else if (strcmp(path + n, "/ETag") == 0) {
        q->next.etag = etag_bare((struct str){str_c(text), text.n});
    } else if (strncmp(path + n, "/Checksum", 9) == 0) {
        q->next.kind = sum_named(str_of(path + n + 9));
        q->next.sum = (struct str){str_c(text), text.n};
        q->sums = true;
        return q->next.kind >= 0;
    } else {
        return false;
    }
    return true;
}

/* What Complete gathers while it goes through the parts. */
struct joined {
    struct sum md5, flat; /* of the parts' digests */
    uint64_t crc;
    int64_t size;
    int kind;       /* the upload's algorithm, or -1 */
    bool full, odd; /* full: FULL_OBJECT; odd: an ETag that is no MD5 */
    struct buf seg; /* the record's seg lines */
};

/* One listed part against what is stored. */
static const char *
join_part(struct conn *c, const struct upload *u, const struct complete *q, size_t i,
          struct joined *j)
{
    const struct wanted *w = &q->part[i];
    struct str etag, sum, kind;
    unsigned char raw[32];
    struct meta m;
    int64_t size;
    size_t n;

    if (!upload_load(u->dir, text_f("%05d", (int)w->no), &m) ||
        !str_eq(w->etag, meta_get(&m, "etag"))) {
        xml_num(&c->extra, "PartNumber", w->no);
        return "InvalidPart";
    }
    etag = meta_get(&m, "etag");
    size = meta_num(&m, "size");
    sum = meta_get(&m, "sum");
    kind = meta_get(&m, "sum-kind");
    if (size < g.min_part && i + 1 < q->n) {
        buf_f(&c->extra,
              "<ProposedSize>%" PRId64 "</ProposedSize><MinSizeAllowed>%" PRId64
              "</MinSizeAllowed><PartNumber>%d</PartNumber>",
              size, g.min_part, (int)w->no);
        return "EntityTooSmall";
    }
    if (w->sum.p && !quirk(Q_CHECKSUM_IGNORED) &&
        (!str_is(kind, sum_info[w->kind].name) || !str_eq(w->sum, sum)))
        return "InvalidPart";
    if (j->kind >= 0 && w->no != (int64_t)i + 1) {
        c->why = "Parts of an upload with a checksum must be numbered without gaps.";
        return "InternalError";
    }
    if (j->kind >= 0 && !j->full && !w->sum.p) {
        c->why = text_f(
            "The upload was created using a %s checksum. The complete request must "
            "include the checksum for each part. It was missing for part %d in the "
            "request.",
            sum_info[j->kind].name, (int)w->no);
        return "InvalidRequest";
    }
    for (n = 0; n < 16 && etag.n == 32; n++)
        raw[n] =
            (unsigned char)(hex_digit(etag.p[2 * n]) * 16 + hex_digit(etag.p[2 * n + 1]));
    sum_add(&j->md5, raw, n);
    if (sum.p && b64_read(sum, raw, sizeof raw, &n))
        sum_add(&j->flat, raw, n);
    if (j->kind < 0 || j->kind == SUM_CRC64) {
        uint64_t v = strtoull(str_c(meta_get(&m, "crc64")), NULL, 16);

        j->crc = crc_join(SUM_CRC64, j->crc, v, (uint64_t)size);
    } else if (j->full) {
        j->crc = crc_join(j->kind, j->crc, crc_value(raw, sum_info[j->kind].size),
                          (uint64_t)size);
    }
    j->size += size;
    buf_f(&j->seg, "seg %d %" PRId64 " %s\n", (int)w->no, size, sum.p ? str_c(sum) : "-");
    return NULL;
}

/* The joined object's ETag and checksum, into its record; compared with the headers. */
static const char *
join_finish(struct conn *c, struct joined *j, size_t parts, struct buf *record)
{
    struct str size = conn_header(c, "x-amz-mp-object-size"), given, etag;
    unsigned char out[32];
    int kind = j->kind < 0 ? SUM_CRC64 : j->kind, sent;
    const char *bad;
    int64_t n;
    char *sum;

    if (size.p && (!str_num(size, &n) || n != j->size)) {
        c->why = text_f(
            "The provided 'x-amz-mp-object-size' header does not match the size of "
            "the parts, %" PRId64 ".",
            j->size);
        return "InvalidRequest";
    }
    sum_end(&j->md5, out);
    etag = quirk(Q_OPAQUE_ETAG) || g.sink_fast ? etag_make(&(struct sums){.on = {0}})
                                               : str_of(hex_of(out, 16));
    meta_put(record, "etag", str_of(text_f("%s-%zu", str_c(etag), parts)));
    meta_put_num(record, "size", j->size);
    meta_put_num(record, "ms", os_now_ms());
    for (size_t i = 0; i < sum_info[kind].size && (j->full || j->kind < 0); i++)
        out[i] = (unsigned char)(j->crc >> 8 * (sum_info[kind].size - 1 - i));
    if (j->kind >= 0 && !j->full)
        sum_end(&j->flat, out);
    sum = b64_of(out, sum_info[kind].size);
    sent = body_checksum(c, &given, &bad);
    if (bad)
        return bad;
    if (j->kind >= 0 && !j->full)
        sum = text_f("%s-%zu", sum, parts);
    if (sent >= 0 && !quirk(Q_CHECKSUM_IGNORED) && !g.sink_fast &&
        (sent != kind || !str_is(given, sum))) {
        c->why = "The checksum you specified did not match the calculated checksum.";
        return "BadDigest";
    }
    if (quirk(Q_CHECKSUM_IGNORED) || g.sink_fast)
        return NULL;
    meta_put(record, "sum-kind", str_of(sum_info[kind].name));
    meta_put(record, "sum", str_of(sum));
    meta_put(record, "sum-type",
             str_of(j->kind >= 0 && !j->full ? "COMPOSITE" : "FULL_OBJECT"));
    return NULL;
}

static void
complete_result(struct conn *c, const struct meta *m)
{
    struct str kind = meta_get(m, "sum-kind");
    struct buf *b = &c->rbody;

    xml_root(b, "CompleteMultipartUploadResult");
    xml_put(b, "Location",
            str_of(text_f("http://%s/%s/%s", str_c(c->host), str_c(c->bucket),
                          str_c(url_of(c->key, "/")))));
    xml_put(b, "Bucket", c->bucket);
    xml_put(b, "Key", c->key);
    if (!c->f[F_NO_ETAG].on)
        xml_etag(b, c->f[F_WRONG_ETAG].on ? str_of("deadbeefdeadbeefdeadbeefdeadbeef-1")
                                          : meta_get(m, "etag"));
    if (kind.p) {
        xml_put(b, text_f("Checksum%s", sum_info[sum_named(kind)].tag),
                meta_get(m, "sum"));
        xml_put(b, "ChecksumType", meta_get(m, "sum-type"));
    }
    xml_close(b, "CompleteMultipartUploadResult");
    if (!c->streaming)
        reply_sse(c, m);
    reply_xml(c, 200);
}

/* A Complete that came again after its success: the same answer while the object
 * stands. */
static const char *
complete_again(struct conn *c, const struct upload *u)
{
    struct object o;
    bool same;

    if (quirk(Q_COMPLETE_ONCE) ||
        !object_load(&o, object_path(c->bucket, c->key), c->bucket))
        return "NoSuchUpload";
    object_close(&o);
    same = o.seg_dir && strcmp(o.seg_dir, u->dir) == 0;
    if (same)
        complete_result(c, &o.m);
    return same ? NULL : "NoSuchUpload";
}

/* Publishes a checked Complete. Parts that were not listed go away. */
static const char *
complete_commit(struct conn *c, const struct upload *u, const struct complete *q,
                struct buf *record)
{
    int *no = ram_get(PART_LAST * sizeof *no), n = parts_scan(u->dir, no);
    struct draft d = {0};
    const char *bad;
    size_t i = 0;

    if (quirk(Q_COMPLETE_NEEDS_ALL) && (size_t)n != q->n)
        return "InvalidPart";
    if (!draft_open(&d))
        return "InternalError";
    bad = object_publish(c, &d, record);
    if (bad)
        return bad;
    rename(text_f("%s/upload", u->dir), text_f("%s/done", u->dir));
    for (int k = 0; k < n; k++) {
        while (i < q->n && q->part[i].no < no[k])
            i++;
        if (i == q->n || q->part[i].no != no[k])
            unlink(text_f("%s/%05d", u->dir, no[k]));
    }
    return NULL;
}

/* The checks of a Complete, one part after the other, and the record that comes of
 * them. */
static const char *
complete_join(struct conn *c, const struct upload *u, const struct complete *q,
              struct buf *record)
{
    struct str kind = meta_get(&u->m, "sum-kind");
    struct joined j = {.kind = kind.p ? sum_named(kind) : -1};
    const char *bad = NULL;
    char *slash = strrchr(u->dir, '/');

    j.full = str_is(meta_get(&u->m, "sum-type"), "FULL_OBJECT");
    sum_start(&j.md5, SUM_MD5);
    sum_start(&j.flat, j.kind < 0 ? SUM_CRC64 : j.kind);
    for (size_t i = 1; i < q->n; i++)
        if (q->part[i].no <= q->part[i - 1].no)
            return "InvalidPartOrder";
    for (size_t i = 0; i < q->n && !bad; i++)
        bad = join_part(c, u, q, i, &j);
    for (size_t i = 0; i < u->m.n; i++)
        if (!str_is(u->m.f[i].name, "ms") && !str_starts(u->m.f[i].name, str_of("sum-")))
            meta_put(record, str_c(u->m.f[i].name), u->m.f[i].value);
    if (!bad)
        bad = join_finish(c, &j, q->n, record);
    meta_put(record, "upload", str_of(slash + 1));
    if (g.sink)
        meta_put_num(record, "sunk", 1);
    buf_str(record, buf_view(&j.seg));
    return bad;
}

static const char *
op_CompleteMultipartUpload(struct conn *c)
{
    struct complete q = {.next = {.kind = -1}};
    struct buf body = {0}, record = {0};
    struct upload u;
    struct meta m;
    const char *bad;

    if (c->length < 0)
        return "MissingContentLength";
    bad = body_take(c, &body, XML_MAX);
    if (!bad)
        bad = upload_find(c, &u);
    if (bad)
        return bad;
    q.part = ram_get(PART_LAST * sizeof *q.part);
    if (!xml_walk(buf_view(&body), take_complete, &q) || !q.n ||
        (q.sums && quirk(Q_STRICT_XML)))
        return "MalformedXML";
    reply_trickle(c);
    if (u.done)
        return complete_again(c, &u);
    bad = complete_join(c, &u, &q, &record);
    if (!bad)
        bad = complete_commit(c, &u, &q, &record);
    if (bad)
        return bad;
    meta_parse((struct str){record.p, record.n - TAIL}, &m);
    complete_result(c, &m);
    return NULL;
}

static const char *
op_AbortMultipartUpload(struct conn *c)
{
    struct upload u;
    const char *bad;
    struct object o;

    os_lock(LOCK_STORE);
    bad = upload_running(c, &u);
    if (!bad) {
        bool used = object_load(&o, object_path(c->bucket, c->key), c->bucket) &&
                    o.seg_dir && strcmp(o.seg_dir, u.dir) == 0;

        object_close(&o);
        if (used) { /* killed between the two renames of a Complete */
            rename(text_f("%s/upload", u.dir), text_f("%s/done", u.dir));
        } else {
            unlink(text_f("%s/upload", u.dir));
            os_remove(u.dir);
        }
    }
    os_unlock(LOCK_STORE);
    c->status = 204;
    return bad;
}

/* ===== ROOM 16 lists: objects, uploads, parts, attributes ===== */

/* A number from the query, capped; absent: max. */
static const char *
list_max(struct conn *c, const char *name, int64_t max, int64_t *out)
{
    struct str v = conn_query(c, name);

    *out = max;
    if (!v.p || !v.n)
        return NULL;
    if (!str_num(v, out) || *out > INT32_MAX) {
        c->why = text_f("Provided %s not an integer or within integer range", name);
        return "InvalidArgument";
    }
    *out = *out < max ? *out : max;
    return NULL;
}

/* encoding-type=url: as S3 does it, with + for a blank. */
static void
list_text(struct buf *b, const char *name, struct str v, bool url)
{
    struct str e = url ? url_of(v, "/*") : v;

    if (!url) {
        xml_put(b, name, v);
        return;
    }
    xml_open(b, name);
    for (size_t i = 0; i < e.n; i++) {
        bool blank = i + 3 <= e.n && memcmp(e.p + i, "%20", 3) == 0;

        buf_add(b, blank ? "+" : e.p + i, 1);
        i += blank ? 2 : 0;
    }
    xml_close(b, name);
}

struct page {
    struct str prefix, delim, after, last;
    int64_t max, count, skip;
    bool v2, url, owner, more;
    struct buf items, folders;
};

static void
page_entry(struct page *p, const struct entry *e)
{
    struct buf *b = &p->items;

    xml_open(b, "Contents");
    list_text(b, "Key", e->key, p->url);
    xml_put(b, "LastModified", str_of(time_iso(e->ms)));
    xml_etag(b, str_of(e->etag));
    if (strcmp(e->sum, "-") != 0) {
        int kind = sum_named(str_of(e->sum));

        xml_put(b, "ChecksumAlgorithm", str_of(sum_info[kind < 0 ? 0 : kind].tag));
    }
    xml_num(b, "Size", e->size);
    if (p->owner || !p->v2) {
        xml_open(b, "Owner");
        xml_put(b, "ID", str_of("s3d"));
        xml_close(b, "Owner");
    }
    xml_put(b, "StorageClass", str_of(e->class));
    xml_close(b, "Contents");
}

/* Walks the sorted list from p->after on; a common prefix counts once and is jumped
 * over. */
static void
page_fill(struct page *p)
{
    size_t i = p->after.n ? list_find(p->after, true) : 0,
           first = list_find(p->prefix, false);

    i = (i > first ? i : first) + (size_t)p->skip;
    while (i < list.n && str_starts(list.e[i]->key, p->prefix)) {
        struct str key = list.e[i]->key, rest = str_from(key, p->prefix.n), folder;
        const char *cut =
            p->delim.n && rest.n ? memmem(rest.p, rest.n, p->delim.p, p->delim.n) : NULL;

        if (cut) {
            folder = (struct str){key.p, (size_t)(cut - key.p) + p->delim.n};
            if (str_eq(folder, p->after)) {
                i = list_past(folder, i);
                continue;
            }
        }
        if (p->count == p->max) {
            p->more = p->max > 0;
            return;
        }
        p->count++;
        p->last = cut ? folder : key;
        if (!cut) {
            page_entry(p, list.e[i++]);
            continue;
        }
        xml_open(&p->folders, "CommonPrefixes");
        list_text(&p->folders, "Prefix", folder, p->url);
        xml_close(&p->folders, "CommonPrefixes");
        i = list_past(folder, i);
    }
}

/* Where the page begins: start-after, a token (base64 of the last key), or a marker. */
static const char *
page_start(struct conn *c, struct page *p)
{
    struct str token = conn_query(c, "continuation-token");
    unsigned char *raw;
    size_t n;

    p->after = conn_query(c, p->v2 ? "start-after" : "marker");
    if (p->v2 && token.p) {
        raw = ram_get(token.n + 3);
        if (!token.n || !b64_read(token, raw, token.n + 3, &n)) {
            c->why = "The continuation token provided is incorrect";
            return "InvalidArgument";
        }
        p->after = (struct str){(char *)raw, n};
        if (quirk(Q_LIST_OFFSET)) {
            (void)str_num(p->after, &p->skip);
            p->after = str_of("");
        }
    }
    if (quirk(Q_LIST_LOOP))
        p->after = str_of("");
    return NULL;
}

static void
page_next(struct page *p, struct buf *b)
{
    if (quirk(Q_LIST_LOOP))
        p->more = p->count > 0;
    if (quirk(Q_LIST_ROUND) && !p->more && p->count > 0) {
        p->more = true;
        p->last = str_of(" ");
    }
    if (quirk(Q_LIST_OFFSET))
        p->last = str_of(text_f("%" PRId64, p->skip + p->count));
    buf_f(b, "<%sIsTruncated>%s</%sIsTruncated>", xml_prefix(),
          p->more ? "true" : "false", xml_prefix());
    if (!p->more || quirk(Q_LIST_NO_MARKER))
        return;
    if (p->v2)
        xml_put(b, "NextContinuationToken", str_of(b64_of(p->last.p, p->last.n)));
    else if (p->delim.n && !quirk(Q_LIST_V1_NO_NEXTMARKER))
        list_text(b, "NextMarker", p->last, p->url);
}

static const char *
list_objects(struct conn *c, bool v2)
{
    struct page p = {.v2 = v2,
                     .prefix = conn_query(c, "prefix"),
                     .delim = conn_query(c, "delimiter"),
                     .owner = str_is(conn_query(c, "fetch-owner"), "true")};
    struct str enc = conn_query(c, "encoding-type"), start = conn_query(c, "start-after");
    struct str marker = conn_query(c, "marker");
    struct buf *b = &c->rbody;
    const char *bad = list_max(c, "max-keys", g.list_max, &p.max);

    if (!bad && enc.p && !str_is(enc, "url"))
        bad = "InvalidArgument";
    if (!bad)
        bad = page_start(c, &p);
    if (bad)
        return bad;
    p.url = enc.p && !quirk(Q_ENCODING_TYPE_IGNORED);
    list_load(c->bucket);
    if (quirk(Q_LIST_ALL))
        p.prefix = str_of("");
    page_fill(&p);
    xml_root(b, "ListBucketResult");
    xml_put(b, "Name", c->bucket);
    list_text(b, "Prefix", p.prefix, p.url);
    if (v2 && start.p)
        list_text(b, "StartAfter", start, p.url);
    if (v2 && conn_has(c, "continuation-token"))
        xml_put(b, "ContinuationToken", conn_query(c, "continuation-token"));
    if (!v2)
        list_text(b, "Marker", marker, p.url);
    if (p.delim.p)
        list_text(b, "Delimiter", p.delim, p.url);
    if (p.url)
        xml_put(b, "EncodingType", str_of("url"));
    xml_num(b, "MaxKeys", p.max);
    if (v2)
        xml_num(b, "KeyCount", p.count);
    page_next(&p, b);
    buf_str(b, buf_view(&p.items));
    buf_str(b, buf_view(&p.folders));
    xml_close(b, "ListBucketResult");
    reply_xml(c, 200);
    return NULL;
}

static const char *
op_ListObjects(struct conn *c)
{
    return list_objects(c, false);
}

static const char *
op_ListObjectsV2(struct conn *c)
{
    return list_objects(c, !quirk(Q_NO_LIST_V2));
}

struct running {
    struct str key, class;
    char *id;
    int64_t ms;
};

static int
running_order(const void *a, const void *b)
{
    const struct running *x = a, *y = b;
    int d = str_cmp(x->key, y->key);

    return d ? d : strcmp(x->id, y->id);
}

/* Every running upload of a bucket, by key and age. */
static size_t
uploads_scan(struct str bucket, struct running **out)
{
    DIR *d = opendir(text_f("%s/u", bucket_path(bucket)));
    struct running *u = NULL;
    struct dirent *e;
    size_t n = 0, cap = 0;

    while (d && (e = readdir(d)) != NULL) {
        struct meta m;

        if (strlen(e->d_name) != 32 ||
            !upload_load(upload_path(bucket, e->d_name), "upload", &m))
            continue;
        if (n == cap) {
            struct running *more = ram_get((cap = cap ? cap * 2 : 64) * sizeof *more);

            if (n)
                memcpy(more, u, n * sizeof *u);
            u = more;
        }
        u[n++] = (struct running){meta_get(&m, "key"), meta_get(&m, "class"),
                                  str_c(str_of(e->d_name)), meta_num(&m, "ms")};
    }
    if (d)
        closedir(d);
    if (n)
        qsort(u, n, sizeof *u, running_order);
    *out = u;
    return n;
}

/* True if upload u stands at or before the markers, or in a folder that was listed. */
static bool
uploads_passed(const struct page *p, const struct running *u, const char *id)
{
    int d = p->after.n ? str_cmp(u->key, p->after) : 1;

    if (d < 0 || (d == 0 && (!id || strcmp(u->id, id) <= 0)))
        return true;
    return p->delim.n && p->after.n > p->delim.n && str_starts(u->key, p->after) &&
           str_eq(str_from(p->after, p->after.n - p->delim.n), p->delim);
}

static void
uploads_entry(struct page *p, const struct running *u)
{
    struct buf *b = &p->items;

    xml_open(b, "Upload");
    list_text(b, "Key", u->key, p->url);
    xml_put(b, "UploadId", str_of(upload_id_out(u->id)));
    xml_put(b, "StorageClass", u->class.p ? u->class : str_of("STANDARD"));
    xml_put(b, "Initiated", str_of(time_iso(u->ms)));
    xml_close(b, "Upload");
}

/* Fills one page; returns the id to go on from. */
static const char *
uploads_fill(struct page *p, struct str bucket, const char *id)
{
    struct running *u;
    size_t n = uploads_scan(bucket, &u);
    struct str folder = {NULL, 0};
    const char *last = "";

    for (size_t i = 0; i < n; i++) {
        struct str rest = str_from(u[i].key, p->prefix.n);
        const char *cut = NULL;

        if (!str_starts(u[i].key, p->prefix) || uploads_passed(p, &u[i], id))
            continue;
        if (folder.p && str_starts(u[i].key, folder))
            continue;
        if (p->count == p->max) {
            p->more = p->max > 0;
            break;
        }
        if (p->delim.n && rest.n)
            cut = memmem(rest.p, rest.n, p->delim.p, p->delim.n);
        p->count++;
        p->last = u[i].key;
        last = u[i].id;
        if (!cut) {
            uploads_entry(p, &u[i]);
            continue;
        }
        folder = (struct str){u[i].key.p, (size_t)(cut - u[i].key.p) + p->delim.n};
        p->last = folder;
        xml_open(&p->folders, "CommonPrefixes");
        list_text(&p->folders, "Prefix", folder, p->url);
        xml_close(&p->folders, "CommonPrefixes");
    }
    return last;
}

static const char *
op_ListMultipartUploads(struct conn *c)
{
    struct page p = {.prefix = conn_query(c, "prefix"),
                     .delim = conn_query(c, "delimiter"),
                     .after = conn_query(c, "key-marker"),
                     .url = str_is(conn_query(c, "encoding-type"), "url") &&
                            !quirk(Q_ENCODING_TYPE_IGNORED)};
    struct str marker = conn_query(c, "upload-id-marker");
    struct buf *b = &c->rbody;
    const char *bad = list_max(c, "max-uploads", g.list_max, &p.max), *last;

    if (bad)
        return bad;
    if (quirk(Q_NO_LIST_UPLOADS))
        return "AccessDenied";
    if (quirk(Q_LIST_LOOP))
        p.after = str_of("");
    if (quirk(Q_LIST_ALL))
        p.prefix = str_of("");
    last = uploads_fill(&p, c->bucket, marker.n ? upload_id_in(marker) : NULL);
    if (quirk(Q_LIST_LOOP))
        p.more = p.count > 0;
    xml_root(b, "ListMultipartUploadsResult");
    xml_put(b, "Bucket", c->bucket);
    list_text(b, "KeyMarker", p.after, p.url);
    xml_put(b, "UploadIdMarker", marker);
    list_text(b, "Prefix", p.prefix, p.url);
    if (p.delim.p)
        list_text(b, "Delimiter", p.delim, p.url);
    if (p.url)
        xml_put(b, "EncodingType", str_of("url"));
    if (p.more && !quirk(Q_LIST_NO_MARKER)) {
        list_text(b, "NextKeyMarker", p.last, p.url);
        xml_put(b, "NextUploadIdMarker", str_of(*last ? upload_id_out(last) : ""));
    }
    xml_num(b, "MaxUploads", p.max);
    xml_put(b, "IsTruncated", str_of(p.more ? "true" : "false"));
    buf_str(b, buf_view(&p.items));
    buf_str(b, buf_view(&p.folders));
    xml_close(b, "ListMultipartUploadsResult");
    reply_xml(c, 200);
    return NULL;
}

static void
parts_entry(struct buf *b, const char *dir, int no)
{
    struct str kind;
    struct meta m;

    if (!upload_load(dir, text_f("%05d", no), &m))
        return;
    kind = meta_get(&m, "sum-kind");
    xml_open(b, "Part");
    xml_num(b, "PartNumber", no);
    xml_put(b, "LastModified", str_of(time_iso(meta_num(&m, "ms"))));
    xml_etag(b, meta_get(&m, "etag"));
    xml_num(b, "Size", meta_num(&m, "size"));
    if (kind.p)
        xml_put(b, text_f("Checksum%s", sum_info[sum_named(kind)].tag),
                meta_get(&m, "sum"));
    xml_close(b, "Part");
}

static const char *
op_ListParts(struct conn *c)
{
    int *no = ram_get(PART_LAST * sizeof *no), n, i = 0;
    bool url =
        str_is(conn_query(c, "encoding-type"), "url") && !quirk(Q_ENCODING_TYPE_IGNORED);
    struct buf *b = &c->rbody, items = {0};
    int64_t max, after = 0, count = 0, last = 0;
    struct str kind, marker = conn_query(c, "part-number-marker");
    struct upload u;
    bool more;
    const char *bad = upload_running(c, &u);

    if (!bad && quirk(Q_NO_LIST_PARTS))
        bad = "AccessDenied";
    if (!bad)
        bad = list_max(c, "max-parts", g.list_max, &max);
    if (!bad && marker.n && !str_num(marker, &after))
        bad = "InvalidArgument";
    if (bad)
        return bad;
    after = quirk(Q_LIST_LOOP) ? 0 : after;
    n = parts_scan(u.dir, no);
    while (i < n && no[i] <= after)
        i++;
    for (; i < n && count < max; i++, count++) {
        parts_entry(&items, u.dir, no[i]);
        last = no[i];
    }
    more = (i < n && max > 0) || (quirk(Q_LIST_LOOP) && count);
    xml_root(b, "ListPartsResult");
    xml_put(b, "Bucket", c->bucket);
    list_text(b, "Key", c->key, url);
    xml_put(b, "UploadId", conn_query(c, "uploadId"));
    xml_put(b, "StorageClass",
            meta_get(&u.m, "class").p ? meta_get(&u.m, "class") : str_of("STANDARD"));
    xml_num(b, "PartNumberMarker", after);
    if (more && !quirk(Q_LIST_NO_MARKER))
        xml_num(b, "NextPartNumberMarker", last);
    xml_num(b, "MaxParts", max);
    xml_put(b, "IsTruncated", str_of(more ? "true" : "false"));
    kind = meta_get(&u.m, "sum-kind");
    if (kind.p) {
        xml_put(b, "ChecksumAlgorithm", str_of(sum_info[sum_named(kind)].tag));
        xml_put(b, "ChecksumType", meta_get(&u.m, "sum-type"));
    }
    buf_str(b, buf_view(&items));
    xml_close(b, "ListPartsResult");
    reply_xml(c, 200);
    return NULL;
}

/* The ObjectParts element: counted always, listed only where parts have checksums. */
static const char *
attribute_parts(struct conn *c, const struct object *o)
{
    struct str v = conn_header(c, "x-amz-max-parts"), kind = meta_get(&o->m, "sum-kind");
    struct str mark = conn_header(c, "x-amz-part-number-marker");
    int64_t max = 1000, after = 0, n = 0;
    struct buf *b = &c->rbody;
    bool more = false;
    size_t i;

    if ((v.p && !str_num(v, &max)) || (mark.p && !str_num(mark, &after)))
        return "InvalidArgument";
    xml_open(b, "ObjectParts");
    xml_num(b, "PartsCount", o->segs);
    for (i = 0; i < o->m.n && str_is(meta_get(&o->m, "sum-type"), "COMPOSITE"); i++) {
        struct str s = o->m.f[i].value, no, size;
        int64_t number;

        if (!str_is(o->m.f[i].name, "seg"))
            continue;
        no = str_cut(&s, ' ');
        size = str_cut(&s, ' ');
        if (!str_num(no, &number) || number <= after)
            continue;
        if (n == max) {
            more = true;
            break;
        }
        xml_open(b, "Part");
        xml_put(b, text_f("Checksum%s", sum_info[sum_named(kind)].tag), s);
        xml_put(b, "PartNumber", no);
        xml_put(b, "Size", size);
        xml_close(b, "Part");
        n++;
        after = number;
    }
    if (more)
        xml_num(b, "NextPartNumberMarker", after);
    xml_num(b, "MaxParts", max);
    xml_put(b, "IsTruncated", str_of(more ? "true" : "false"));
    xml_close(b, "ObjectParts");
    return NULL;
}

static const char *
op_GetObjectAttributes(struct conn *c)
{
    struct str want = conn_header(c, "x-amz-object-attributes"), kind, sum, class;
    struct buf *b = &c->rbody;
    const char *bad = NULL;
    struct object o;

    if (!want.p)
        return "InvalidRequest";
    if (!object_load(&o, object_path(c->bucket, c->key), c->bucket))
        return "NoSuchKey";
    object_close(&o);
    kind = meta_get(&o.m, "sum-kind");
    sum = meta_get(&o.m, "sum");
    class = meta_get(&o.m, "class");
    xml_root(b, "GetObjectAttributesResponse");
    while (want.p && !bad) {
        struct str a = str_trim(str_cut(&want, ','));

        if (str_is(a, "ETag")) {
            xml_put(b, "ETag", meta_get(&o.m, "etag"));
        } else if (str_is(a, "Checksum")) {
            xml_open(b, "Checksum");
            if (kind.p) {
                sum = str_cut(&sum, '-'); /* here without -N */
                xml_put(b, text_f("Checksum%s", sum_info[sum_named(kind)].tag), sum);
                xml_put(b, "ChecksumType", meta_get(&o.m, "sum-type"));
            }
            xml_close(b, "Checksum");
        } else if (str_is(a, "ObjectParts")) {
            bad = o.seg_dir ? attribute_parts(c, &o) : NULL;
        } else if (str_is(a, "StorageClass")) {
            xml_put(b, "StorageClass", class.p ? class : str_of("STANDARD"));
        } else if (str_is(a, "ObjectSize")) {
            xml_num(b, "ObjectSize", o.size);
        } else {
            bad = "InvalidArgument";
        }
    }
    xml_close(b, "GetObjectAttributesResponse");
    reply_head(c, "Last-Modified: %s", time_http(o.mtime_ms));
    reply_xml(c, 200);
    return bad;
}

/* ===== ROOM 17 form uploads: POST of multipart/form-data with a signed policy =====
 *  The body is pushed in as it comes. States: before the first boundary, in a part's
 *  head, in a field, in the file, behind a boundary, done. Only fields before the file
 *  count, so the policy is judged when the file begins. */

enum { FORM_START, FORM_HEAD, FORM_FIELD, FORM_FILE, FORM_EDGE, FORM_DONE };
enum { FORM_FIELDS = 100, FORM_TEXT = 65536 };

struct form {
    struct conn *c;
    int state;
    struct buf acc;  /* not yet consumed */
    struct str edge; /* CR LF -- boundary */
    struct field field[FORM_FIELDS];
    size_t n, text;
    struct str name, filename;
    struct draft d;
    struct sums s;
    int64_t min, max; /* content-length-range */
    bool file, ranged;
    const char *bad;
};

static struct str
form_field(const struct form *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (str_is(f->field[i].name, name))
            return f->field[i].value;
    return (struct str){NULL, 0};
}

/* One condition against the form; marks the field it speaks of. */
static bool
policy_holds(struct form *f, struct str how, struct str name, struct str value,
             bool *seen)
{
    struct str have;

    name = str_lower(name);
    if (str_is(name, "bucket")) {
        have = f->c->bucket;
    } else {
        have = form_field(f, name.p);
        for (size_t i = 0; i < f->n; i++)
            seen[i] = seen[i] || str_eq(f->field[i].name, name);
    }
    if (!have.p)
        return str_isi(how, "starts-with") && !value.n;
    if (str_isi(how, "eq"))
        return str_eq(have, value);
    return str_isi(how, "starts-with") && str_starts(have, value);
}

/* One element of "conditions": an object of exact matches, or an array of three. */
static const char *
policy_condition(struct form *f, struct str *in, bool *seen)
{
    const char *broken = "InvalidPolicyDocument", *denied = "AccessDenied";
    struct str a, b, v;

    if (json_char(in, '{')) {
        do {
            if (!json_string(in, &a) || !json_char(in, ':') || !json_scalar(in, &v))
                return broken;
            if (!policy_holds(f, str_of("eq"), a, v, seen)) {
                f->c->why =
                    text_f("Invalid according to Policy: Policy Condition failed: "
                           "[\"eq\", \"$%s\", \"%s\"]",
                           str_c(a), str_c(v));
                return denied;
            }
        } while (json_char(in, ','));
        return json_char(in, '}') ? NULL : broken;
    }
    if (!json_char(in, '[') || !json_string(in, &a) || !json_char(in, ',') ||
        !json_scalar(in, &b) || !json_char(in, ',') || !json_scalar(in, &v) ||
        !json_char(in, ']'))
        return broken;
    if (str_isi(a, "content-length-range")) {
        f->ranged = true;
        return str_num(b, &f->min) && str_num(v, &f->max) ? NULL : broken;
    }
    if (!b.n || *b.p != '$')
        return broken;
    if (policy_holds(f, a, str_from(b, 1), v, seen))
        return NULL;
    f->c->why =
        text_f("Invalid according to Policy: Policy Condition failed: [\"%s\", \"%s\", "
               "\"%s\"]",
               str_c(a), str_c(b), str_c(v));
    return denied;
}

/* The whole policy: not expired, every condition true, every field covered. */
static const char *
policy_check(struct form *f, struct str in)
{
    bool seen[FORM_FIELDS] = {false}, dated = false;
    struct str name, v;
    const char *bad;
    int64_t t;

    if (!json_char(&in, '{'))
        return "InvalidPolicyDocument";
    do {
        if (!json_string(&in, &name) || !json_char(&in, ':'))
            return "InvalidPolicyDocument";
        if (str_isi(name, "expiration")) {
            if (!json_string(&in, &v) || v.n < 19 ||
                !time_read((struct str){v.p, 19}, "%Y-%m-%dT%H:%M:%S", &t))
                return "InvalidPolicyDocument";
            dated = true;
            if (t < f->c->now_ms / 1000) {
                f->c->why = "Invalid according to Policy: Policy expired.";
                return "AccessDenied";
            }
        } else if (str_isi(name, "conditions") && json_char(&in, '[')) {
            do {
                bad = policy_condition(f, &in, seen);
                if (bad)
                    return bad;
            } while (json_char(&in, ','));
            if (!json_char(&in, ']'))
                return "InvalidPolicyDocument";
        } else {
            return "InvalidPolicyDocument";
        }
    } while (json_char(&in, ','));
    for (size_t i = 0; i < f->n; i++) {
        struct str k = f->field[i].name;

        if (!seen[i] && !str_is(k, "policy") && !str_is(k, "x-amz-signature") &&
            !str_is(k, "bucket") && !str_starts(k, str_of("x-ignore-"))) {
            f->c->why =
                text_f("Invalid according to Policy: Extra input fields: %s", str_c(k));
            return "AccessDenied";
        }
    }
    return json_char(&in, '}') && dated ? NULL : "InvalidPolicyDocument";
}

/* Signature over the policy as sent, then the policy itself. */
static const char *
form_auth(struct form *f)
{
    struct str policy = form_field(f, "policy"),
               token = form_field(f, "x-amz-security-token");
    struct auth a = {.credential = form_field(f, "x-amz-credential"),
                     .date = form_field(f, "x-amz-date"),
                     .signature = form_field(f, "x-amz-signature")};
    unsigned char key[32], mac[32], *raw;
    const struct cred *k = NULL;
    const char *bad;
    size_t n;

    if (!policy.p || !a.signature.p || !a.credential.p ||
        !str_is(form_field(f, "x-amz-algorithm"), "AWS4-HMAC-SHA256"))
        return "AccessDenied";
    if (!auth_scope(&a))
        return "InvalidArgument";
    bad = auth_check_scope(f->c, &a, "InvalidRequest");
    if (bad)
        return bad;
    for (size_t i = 0; i < creds_n; i++)
        if (str_eq(creds[i].access, a.access))
            k = &creds[i];
    if (!k)
        return "InvalidAccessKeyId";
    if (!str_eq(k->token, token.p ? token : (struct str){NULL, 0}))
        return "InvalidToken";
    sig_key(k->secret, a.day, a.region, key);
    hmac(key, 32, policy, mac);
    if (!sig_equal(a.signature, hex_of(mac, 32))) {
        count(&g.sh->bad_signatures, 1);
        xml_put(&f->c->extra, "StringToSign", policy);
        return "SignatureDoesNotMatch";
    }
    f->c->presigned = true;
    raw = ram_get(policy.n + 3);
    if (!b64_read(policy, raw, policy.n + 3, &n))
        return "InvalidPolicyDocument";
    return policy_check(f, (struct str){(char *)raw, n});
}

/* The file begins: all that is known is judged. */
static const char *
form_judge(struct form *f)
{
    struct conn *c = f->c;
    bool open = false;

    for (size_t i = 0; i < g.publics; i++)
        open = open || str_is(c->bucket, g.public[i]);
    for (size_t i = 0; i < f->n; i++) { /* ${filename}, once, in any field */
        struct str v = f->field[i].value;
        const char *at = v.n ? memmem(v.p, v.n, "${filename}", 11) : NULL;
        struct buf b = {0};

        if (!at)
            continue;
        buf_add(&b, v.p, (size_t)(at - v.p));
        buf_str(&b, f->filename);
        buf_str(&b, str_from(v, (size_t)(at - v.p) + 11));
        f->field[i].value = buf_view(&b);
    }
    c->key = form_field(f, "key");
    if (!c->key.n) {
        c->why = "Bucket POST must contain a field named 'key'.";
        return "InvalidArgument";
    }
    if (c->key.n > KEY_MAX)
        return "KeyTooLongError";
    if (!form_field(f, "policy").p && open)
        return NULL;
    return form_auth(f);
}

/* A part's head: its name, and for a file the file's own. */
static bool
form_head(struct form *f, struct str head)
{
    const char *at = memmem(head.p, head.n, " name=\"", 7), *end;
    struct str rest;

    if (!at)
        return false;
    rest = str_from(head, (size_t)(at - head.p) + 7);
    f->name = str_lower(str_cut(&rest, '"'));
    end = rest.p ? memmem(rest.p, rest.n, "filename=\"", 10) : NULL;
    f->filename = str_of("");
    if (end) {
        rest = str_from(rest, (size_t)(end - rest.p) + 10);
        rest = str_cut(&rest, '"');
        f->filename = (struct str){str_c(rest), rest.n};
    }
    return rest.p && f->name.n;
}

/* Takes what it can from the front of f->acc. Returns the bytes used, 0 for "more". */
static size_t
form_step(struct form *f)
{
    struct str in = buf_view(&f->acc), edge = f->edge;
    const char *at;
    size_t used;

    switch (f->state) {
    case FORM_START:
        if (in.n < edge.n)
            return 0;
        f->state = FORM_EDGE;
        if (memcmp(in.p, edge.p + 2, edge.n - 2) != 0)
            f->bad = "MalformedPOSTRequest";
        return edge.n - 2;
    case FORM_EDGE:
        if (in.n < 2)
            return 0;
        f->state = memcmp(in.p, "\r\n", 2) == 0 ? FORM_HEAD : FORM_DONE;
        if (f->state == FORM_DONE && memcmp(in.p, "--", 2) != 0)
            f->bad = "MalformedPOSTRequest";
        return 2;
    case FORM_HEAD:
        at = memmem(in.p, in.n, "\r\n\r\n", 4);
        if (!at)
            return 0;
        used = (size_t)(at - in.p) + 4;
        if (!form_head(f, (struct str){in.p, used}))
            f->bad = "MalformedPOSTRequest";
        f->state = !f->file && str_is(f->name, "file") ? FORM_FILE : FORM_FIELD;
        if (f->state == FORM_FILE && !f->bad) {
            f->file = true;
            f->bad = form_judge(f);
            if (!f->bad && !draft_open(&f->d))
                f->bad = "InternalError";
        }
        return used;
    case FORM_FIELD:
        at = memmem(in.p, in.n, edge.p, edge.n);
        if (!at)
            return 0;
        used = (size_t)(at - in.p);
        f->text += used;
        if (!f->file && f->n < FORM_FIELDS) {
            f->field[f->n].name = f->name;
            f->field[f->n++].value = (struct str){str_c((struct str){in.p, used}), used};
        }
        f->state = FORM_EDGE;
        return used + edge.n;
    case FORM_FILE:
        at = memmem(in.p, in.n, edge.p, edge.n);
        used = at ? (size_t)(at - in.p) : in.n > edge.n ? in.n - edge.n : 0;
        if (used && !draft_write(&f->d, in.p, used))
            f->bad = "InternalError";
        f->state = at ? FORM_EDGE : FORM_FILE;
        return at ? used + edge.n : used;
    default:
        return in.n;
    }
}

static bool
form_push(void *to, const char *p, size_t n)
{
    struct form *f = to;
    size_t used, at = 0;

    if (f->bad)
        return true;
    buf_add(&f->acc, p, n);
    do {
        struct buf whole = f->acc;

        f->acc.p += at; /* form_step() sees the rest only */
        f->acc.n -= at;
        used = form_step(f);
        f->acc = whole;
        at += used;
    } while (used && !f->bad && at < f->acc.n);
    memmove(f->acc.p, f->acc.p + at, f->acc.n - at);
    f->acc.n -= at;
    if (f->acc.n > FORM_TEXT || f->text > FORM_TEXT)
        f->bad = f->bad ? f->bad : "MalformedPOSTRequest";
    return true;
}

/* The answer the form asked for: 204, 200, 201 with a document, or 303. */
static void
form_reply(struct conn *c, const struct form *f, const struct buf *record)
{
    struct str status = form_field(f, "success_action_status");
    struct str to = form_field(f, "success_action_redirect"), etag;
    char *where = text_f("http://%s/%s/%s", str_c(c->host), str_c(c->bucket),
                         str_c(url_of(c->key, "/")));
    struct meta m;

    meta_parse((struct str){record->p, record->n - TAIL}, &m);
    etag = meta_get(&m, "etag");
    reply_etag(c, etag);
    c->status = str_is(status, "200") ? 200 : str_is(status, "201") ? 201 : 204;
    if (to.n && !memchr(to.p, '\n', to.n) && !memchr(to.p, '\r', to.n)) {
        c->status = 303;
        reply_head(c, "Location: %s%sbucket=%s&key=%s&etag=%%22%s%%22", str_c(to),
                   memchr(to.p, '?', to.n) ? "&" : "?", str_c(c->bucket),
                   str_c(url_of(c->key, "")), str_c(etag));
        return;
    }
    reply_head(c, "Location: %s", where);
    if (c->status == 201) {
        xml_root(&c->rbody, "PostResponse");
        xml_put(&c->rbody, "Location", str_of(where));
        xml_put(&c->rbody, "Bucket", c->bucket);
        xml_put(&c->rbody, "Key", c->key);
        xml_etag(&c->rbody, etag);
        xml_close(&c->rbody, "PostResponse");
        reply_xml(c, 201);
    }
}

static const char *
form_store(struct conn *c, struct form *f)
{
    struct buf record = {0};
    const char *bad;

    if (f->ranged && (f->d.size < f->min || f->d.size > f->max)) {
        draft_drop(&f->d);
        return f->d.size < f->min ? "EntityTooSmall" : "EntityTooLarge";
    }
    sums_end(&f->s);
    c->headers = 0; /* from here on the form's fields are the headers */
    for (size_t i = 0; i < f->n; i++)
        if (f->field[i].name.n &&
            !memchr(f->field[i].value.p, '\n', f->field[i].value.n) &&
            !str_starts(f->field[i].name, str_of("if-")))
            c->header[c->headers++] = f->field[i];
    meta_put(&record, "key", c->key);
    bad = record_headers(c, &record);
    if (bad) {
        draft_drop(&f->d);
        return bad;
    }
    record_sums(&record, f->d.size, &f->s, -1);
    meta_put(&record, "sum-type", str_of("FULL_OBJECT"));
    bad = object_publish(c, &f->d, &record);
    if (!bad)
        form_reply(c, f, &record);
    return bad;
}

static const char *
op_PostObject(struct conn *c)
{
    struct str type = conn_header(c, "content-type"), b;
    struct form *f = ram_get(sizeof *f);
    const char *bad = upload_checks(c), *at;

    memset(f, 0, sizeof *f);
    at = type.p ? memmem(type.p, type.n, "boundary=", 9) : NULL;
    if (!bad && (!at || !str_starts(type, str_of("multipart/form-data"))))
        bad = "MalformedPOSTRequest";
    if (bad)
        return bad;
    b = str_from(type, (size_t)(at - type.p) + 9);
    b = str_trim(str_cut(&b, ';'));
    if (b.n > 2 && *b.p == '"')
        b = (struct str){b.p + 1, b.n - 2};
    f->c = c;
    f->edge = str_of(text_f("\r\n--%s", str_c(b)));
    sums_default(&f->s);
    sums_start(&f->s);
    f->d.sums = &f->s;
    bad = body_read(c, form_push, f, NULL);
    if (!bad)
        bad = f->bad;
    if (!bad && f->file && f->state == FORM_DONE)
        return form_store(c, f);
    if (f->d.path)
        draft_drop(&f->d);
    return bad ? bad : f->file ? "IncompleteBody" : "MalformedPOSTRequest";
}

/* ===== ROOM 18 the door: what tests see and set ===== */

static void
stats_text(struct buf *b)
{
    struct shared *s = g.sh;
    uint64_t n = read_count(&s->recent_n);

    buf_f(b,
          "connections %" PRIu64 "\nopen %" PRIu64 "\nopen_max %" PRIu64
          "\nrequests %" PRIu64 "\nbytes_in %" PRIu64 "\nbytes_out %" PRIu64
          "\nsignature_failures %" PRIu64 "\nhandshakes %" PRIu64 "\nresumed %" PRIu64
          "\n",
          read_count(&s->connections), read_count(&s->open), read_count(&s->open_max),
          read_count(&s->requests), read_count(&s->bytes_in), read_count(&s->bytes_out),
          read_count(&s->bad_signatures), read_count(&s->handshakes),
          read_count(&s->resumed));
    for (int i = 0; i < OPS; i++)
        if (read_count(&s->op[i]))
            buf_f(b, "op.%s %" PRIu64 "\nbody.%s %" PRIu64 "\n", op_name[i],
                  read_count(&s->op[i]), op_name[i], read_count(&s->op_body[i]));
    for (int i = 0; i < 600; i++)
        if (read_count(&s->status[i]))
            buf_f(b, "status.%d %" PRIu64 "\n", i, read_count(&s->status[i]));
    for (int i = 0; i < FAULTS; i++)
        if (read_count(&s->fired[i]))
            buf_f(b, "fault.%s %" PRIu64 "\n", action_name[i], read_count(&s->fired[i]));
    for (uint64_t i = n > RECENT ? n - RECENT : 0; i < n; i++) {
        s->recent[i % RECENT][RECENT_LEN - 1] = 0;
        buf_f(b, "recent %s\n", s->recent[i % RECENT]);
    }
}

static void
stats_reset(void)
{
    struct shared *s = g.sh;

    s->connections = s->requests = s->bytes_in = s->bytes_out = s->bad_signatures = 0;
    s->handshakes = s->resumed = s->recent_n = 0;
    __atomic_store_n(&s->open_max, read_count(&s->open), __ATOMIC_RELAXED);
    memset(s->op, 0, sizeof s->op);
    memset(s->op_body, 0, sizeof s->op_body);
    memset(s->status, 0, sizeof s->status);
    memset(s->fired, 0, sizeof s->fired);
    unlink(text_f("%s/log", g.dir));
    unlink(text_f("%s/log.1", g.dir));
    unlink(text_f("%s/heads", g.dir));
    unlink(text_f("%s/heads.1", g.dir));
}

static bool
quirks_replace(struct str text)
{
    uint64_t old = __atomic_exchange_n(&g.sh->quirks, 0, __ATOMIC_RELAXED);

    while (text.p) {
        struct str line = str_trim(str_cut(&text, '\n'));

        if (line.n && !quirk_set(line)) {
            __atomic_store_n(&g.sh->quirks, old, __ATOMIC_RELAXED);
            return false;
        }
    }
    return true;
}

/* POST to the door; false: refused, with the reason in c->rbody. */
static bool
door_post(struct conn *c, struct str what, struct str body)
{
    static struct rule try[RULES_MAX];
    struct cred keys[KEYS_MAX];
    struct str bad = body;
    size_t n;

    if (str_is(what, "reset")) {
        stats_reset();
        return true;
    }
    if (str_is(what, "go")) {
        count(&g.sh->go, 1);
        return true;
    }
    if (str_is(what, "faults") && rules_parse(body, try, &bad) >= 0)
        return config_set(g.sh->rules, body);
    if (str_is(what, "keys") && creds_parse(body, keys, &n) && n)
        return config_set(g.sh->keys, body);
    if (str_is(what, "quirks") && quirks_replace(body))
        return true;
    if (str_is(what, "clock")) {
        __atomic_store_n(&g.sh->clock, strtoll(str_c(body), NULL, 10), __ATOMIC_RELAXED);
        return true;
    }
    buf_f(&c->rbody, "not understood: %s\n", str_c(bad));
    return false;
}

static void
door_file(struct conn *c, const char *name)
{
    const size_t most = 9 << 20;

    buf_str(&c->rbody, os_slurp(text_f("%s/%s.1", g.dir, name), most));
    buf_str(&c->rbody, os_slurp(text_f("%s/%s", g.dir, name), most));
}

static void
door_open(struct conn *c)
{
    struct str what = str_from(c->path, strlen("/_s3d/"));
    struct buf body = {0};

    buf_s(&body, "");
    c->status = 200;
    if (c->left > TEXT_MAX || c->chunked_in || body_read(c, sink_buf, &body, NULL)) {
        c->status = 400;
    } else if (str_is(c->method, "POST")) {
        c->status = door_post(c, what, buf_view(&body)) ? 200 : 400;
    } else if (str_is(what, "stats")) {
        stats_text(&c->rbody);
    } else if (str_is(what, "log")) {
        door_file(c, "log");
    } else if (str_is(what, "heads")) {
        door_file(c, "heads");
    } else {
        c->status = 404;
        buf_s(&c->rbody, "stats log heads faults quirks keys reset go clock\n");
    }
    reply_head(c, "Content-Type: text/plain");
    reply_send(c);
}

/* ===== ROOM 19 the proxy: CONNECT and absolute-form requests, handed on ===== */

static int
proxy_dial(struct str host, const char *port)
{
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *list0, *a;
    int fd = -1;

    if (host.n > 2 && *host.p == '[')
        host = (struct str){host.p + 1, host.n - 2};
    if (getaddrinfo(str_c(host), port, &hint, &list0) != 0)
        return -1;
    for (a = list0; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list0);
    return fd;
}

/* Bytes both ways until both sides have ended, or cut-relay has had enough. */
static void
proxy_relay(struct conn *c, int up)
{
    static char piece[65536];
    struct pollfd p[2] = {{c->peer.fd, POLLIN, 0}, {up, POLLIN, 0}};

    while (p[0].fd >= 0 || p[1].fd >= 0) {
        if (poll(p, 2, 120000) <= 0)
            break;
        for (int i = 0; i < 2; i++) {
            int to = i ? c->peer.fd : up;
            struct peer side = {.fd = to};
            ssize_t n;

            if (p[i].fd < 0 || !p[i].revents)
                continue;
            n = recv(p[i].fd, piece, sizeof piece, 0);
            if (n <= 0) {
                shutdown(to, SHUT_WR);
                p[i].fd = -1;
            } else if (!plain_write(&side, piece, (size_t)n, false)) {
                return;
            } else {
                *(i ? &c->sent : &c->got) += (uint64_t)n;
            }
            if (c->f[F_CUT_RELAY].on &&
                (double)(c->got + c->sent) >= c->f[F_CUT_RELAY].num)
                conn_rst(c);
        }
    }
}

static bool
proxy_allowed(struct conn *c)
{
    struct str v = conn_header(c, "proxy-authorization");

    return !g.proxy_auth ||
           str_is(v, text_f("Basic %s", b64_of(g.proxy_auth, strlen(g.proxy_auth))));
}

static void
proxy_refuse(struct conn *c, int status)
{
    c->status = status;
    c->keep = status == 407;
    if (status == 407)
        reply_head(c, "Proxy-Authenticate: Basic realm=\"s3d\"");
    reply_head(c, "Content-Type: text/html");
    buf_f(&c->rbody, "<html><body>proxy says %d</body></html>\n", status);
    reply_send(c);
}

/* The request's head for the origin: origin-form, without what is meant for proxies. */
static struct str
proxy_head(struct conn *c)
{
    struct buf b = {0};
    const char *end = c->target.p + c->target.n;

    buf_f(&b, "%s %.*s HTTP/1.1\r\n", str_c(c->method), (int)(end - c->path.p),
          c->path.p);
    for (size_t i = 0; i < c->headers; i++)
        if (!str_starts(c->header[i].name, str_of("proxy-")) &&
            !str_is(c->header[i].name, "connection") &&
            !str_is(c->header[i].name, "keep-alive"))
            buf_f(&b, "%s: %s\r\n", str_c(c->header[i].name), str_c(c->header[i].value));
    buf_s(&b, "Connection: close\r\n\r\n");
    return buf_view(&b);
}

static void
proxy_run(struct conn *c)
{
    bool tunnel = str_is(c->method, "CONNECT");
    struct str host = tunnel ? c->target : str_from(c->target, 7), port;
    struct peer side = {.fd = -1};
    int up;

    if (!tunnel && !str_starts(c->target, str_of("http://"))) {
        proxy_refuse(c, 400);
        return;
    }
    if (c->f[F_CONNECT_REFUSE].on && tunnel) {
        proxy_refuse(c, (int)c->f[F_CONNECT_REFUSE].num);
        return;
    }
    if (!proxy_allowed(c)) {
        proxy_refuse(c, 407);
        return;
    }
    port = host;
    host = str_cut(&port, '/');
    for (port = host; port.n && port.p[port.n - 1] != ':' && port.p[port.n - 1] != ']';)
        port.n--;
    port = port.n && port.p[port.n - 1] == ':' ? str_from(host, port.n) : str_of("");
    if (port.n)
        host.n -= port.n + 1;
    up = proxy_dial(host, port.n ? str_c(port) : "80");
    if (up < 0) {
        proxy_refuse(c, 502);
        return;
    }
    side.fd = up;
    c->status = 200;
    if (tunnel) {
        struct str head = str_of("HTTP/1.1 200 Connection established\r\n\r\n");

        if (c->f[F_CONNECT_HUGE].on)
            c->f[F_HUGE_HEAD] = (struct fired){true, 100000, ""};
        if (c->f[F_CONNECT_HUGE].on || c->f[F_HUGE_HEAD].on || c->f[F_MANY_HEADS].on)
            head = reply_head_text(c, -1);
        conn_write(c, head.p, c->f[F_CUT_HEAD].on ? head.n / 2 : head.n, 0);
        if (c->f[F_CUT_HEAD].on)
            conn_end(c);
    } else {
        struct str head = proxy_head(c);

        plain_write(&side, head.p, head.n, false);
    }
    plain_write(&side, c->in + c->in_at, c->in_n - c->in_at, false);
    proxy_relay(c, up);
    conn_end(c);
}

/* ===== ROOM 20 one request from head to reply ===== */

enum { BODY_OWN = 1, BUCKET = 2, PUBLIC = 4, KEY = 8 };

static const struct {
    const char *(*run)(struct conn *);
    int flags;
} op_row[OPS] = {
    [OP_ListBuckets] = {op_ListBuckets, 0},
    [OP_CreateBucket] = {op_CreateBucket, BODY_OWN},
    [OP_DeleteBucket] = {op_DeleteBucket, BUCKET},
    [OP_HeadBucket] = {op_HeadBucket, BUCKET | PUBLIC},
    [OP_GetBucketLocation] = {op_GetBucketLocation, BUCKET},
    [OP_GetBucketVersioning] = {op_GetBucketVersioning, BUCKET},
    [OP_ListObjects] = {op_ListObjects, BUCKET | PUBLIC},
    [OP_ListObjectsV2] = {op_ListObjectsV2, BUCKET | PUBLIC},
    [OP_ListMultipartUploads] = {op_ListMultipartUploads, BUCKET},
    [OP_DeleteObjects] = {op_DeleteObjects, BUCKET | BODY_OWN},
    [OP_PostObject] = {op_PostObject, BUCKET | BODY_OWN | PUBLIC},
    [OP_PutObject] = {op_PutObject, BUCKET | BODY_OWN | KEY},
    [OP_CopyObject] = {op_CopyObject, BUCKET | KEY},
    [OP_GetObject] = {op_GetObject, BUCKET | PUBLIC | KEY},
    [OP_HeadObject] = {op_HeadObject, BUCKET | PUBLIC | KEY},
    [OP_DeleteObject] = {op_DeleteObject, BUCKET | KEY},
    [OP_GetObjectAttributes] = {op_GetObjectAttributes, BUCKET | KEY},
    [OP_GetObjectTagging] = {op_GetObjectTagging, BUCKET | KEY},
    [OP_CreateMultipartUpload] = {op_CreateMultipartUpload, BUCKET | KEY},
    [OP_UploadPart] = {op_UploadPart, BUCKET | BODY_OWN | KEY},
    [OP_UploadPartCopy] = {op_UploadPartCopy, BUCKET | KEY},
    [OP_ListParts] = {op_ListParts, BUCKET | KEY},
    [OP_CompleteMultipartUpload] = {op_CompleteMultipartUpload, BUCKET | BODY_OWN | KEY},
    [OP_AbortMultipartUpload] = {op_AbortMultipartUpload, BUCKET | KEY},
};

/* Bucket and key from Host or path. A virtual host needs --virtual-host. */
static bool
route_name(struct conn *c)
{
    struct str host = c->host, path = str_from(c->path, 1), raw;
    size_t n = g.vhost ? strlen(g.vhost) : 0;

    while (host.n && isdigit((unsigned char)host.p[host.n - 1]))
        host.n--;
    host =
        host.n && host.p[host.n - 1] == ':' ? (struct str){host.p, host.n - 1} : c->host;
    if (n && host.n > n + 1 && strncasecmp(host.p + host.n - n, g.vhost, n) == 0 &&
        host.p[host.n - n - 1] == '.') {
        c->bucket = str_lower((struct str){host.p, host.n - n - 1});
    } else {
        raw = str_cut(&path, '/');
        if (!url_read(raw, false, &c->bucket))
            return false;
    }
    return url_read(path.p ? path : str_of(""), false, &c->key);
}

/* Subresources nobody here serves: better an honest 501 than the wrong operation. */
static bool
route_foreign(const struct conn *c)
{
    static const char *const name[] = {"acl",
                                       "cors",
                                       "lifecycle",
                                       "policy",
                                       "versions",
                                       "website",
                                       "logging",
                                       "notification",
                                       "replication",
                                       "encryption",
                                       "object-lock",
                                       "publicAccessBlock",
                                       "ownershipControls",
                                       "requestPayment",
                                       "accelerate",
                                       "analytics",
                                       "inventory",
                                       "metrics",
                                       "restore",
                                       "select",
                                       "retention",
                                       "legal-hold",
                                       "torrent",
                                       "intelligent-tiering",
                                       "policyStatus",
                                       "session",
                                       "append",
                                       "renameObject"};

    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (conn_has(c, name[i]))
            return true;
    return conn_has(c, "versioning") && !str_is(c->method, "GET");
}

static int
route_bucket(const struct conn *c)
{
    if (str_is(c->method, "PUT"))
        return conn_has(c, "tagging") ? OP_Unknown : OP_CreateBucket;
    if (str_is(c->method, "DELETE"))
        return conn_has(c, "tagging") ? OP_Unknown : OP_DeleteBucket;
    if (str_is(c->method, "HEAD"))
        return OP_HeadBucket;
    if (str_is(c->method, "POST"))
        return conn_has(c, "delete") ? OP_DeleteObjects : OP_PostObject;
    if (!str_is(c->method, "GET") || conn_has(c, "tagging"))
        return OP_Unknown;
    return conn_has(c, "location")                   ? OP_GetBucketLocation
           : conn_has(c, "versioning")               ? OP_GetBucketVersioning
           : conn_has(c, "uploads")                  ? OP_ListMultipartUploads
           : str_is(conn_query(c, "list-type"), "2") ? OP_ListObjectsV2
                                                     : OP_ListObjects;
}

static int
route_object(const struct conn *c)
{
    bool upload = conn_has(c, "uploadId"),
         copy = conn_header(c, "x-amz-copy-source").p != NULL;

    if (str_is(c->method, "PUT"))
        return conn_has(c, "tagging") ? OP_Unknown
               : upload               ? (copy ? OP_UploadPartCopy : OP_UploadPart)
               : copy                 ? OP_CopyObject
                                      : OP_PutObject;
    if (str_is(c->method, "POST"))
        return conn_has(c, "uploads") ? OP_CreateMultipartUpload
               : upload               ? OP_CompleteMultipartUpload
                                      : OP_Unknown;
    if (str_is(c->method, "DELETE"))
        return conn_has(c, "tagging") ? OP_Unknown
               : upload               ? OP_AbortMultipartUpload
                                      : OP_DeleteObject;
    if (str_is(c->method, "HEAD"))
        return OP_HeadObject;
    if (!str_is(c->method, "GET"))
        return OP_Unknown;
    return conn_has(c, "tagging")      ? OP_GetObjectTagging
           : conn_has(c, "attributes") ? OP_GetObjectAttributes
           : upload                    ? OP_ListParts
                                       : OP_GetObject;
}

static int
route(struct conn *c)
{
    if (str_is(c->method, "OPTIONS"))
        return OP_Options;
    if (!route_name(c) || route_foreign(c))
        return OP_Unknown;
    if (!c->bucket.n)
        return str_is(c->method, "GET") && !c->key.n ? OP_ListBuckets : OP_Unknown;
    return c->key.n ? route_object(c) : route_bucket(c);
}

/* Browsers ask before they upload. */
static const char *
preflight(struct conn *c)
{
    struct str want = conn_header(c, "access-control-request-headers");

    if (!g.cors)
        return "AccessDenied";
    c->status = 200;
    reply_head(c, "Access-Control-Allow-Methods: GET, PUT, POST, DELETE, HEAD");
    if (want.p)
        reply_head(c, "Access-Control-Allow-Headers: %s", str_c(want));
    return NULL;
}

static bool
bucket_public(struct str bucket)
{
    for (size_t i = 0; i < g.publics; i++)
        if (str_is(bucket, g.public[i]))
            return true;
    return false;
}

/* The fault that answers in place of the operation: its code, or NULL. */
static const char *
fault_answer(struct conn *c)
{
    for (int a = F_CODES; a < FAULTS; a++)
        if (c->f[a].on)
            return action_code[a - F_CODES];
    if (c->f[F_ERROR].on)
        return c->f[F_ERROR].text;
    if (c->f[F_REDIRECT_301].on) {
        reply_head(c, "x-amz-bucket-region: %s", c->f[F_REDIRECT_301].text);
        xml_put(&c->extra, "Endpoint",
                str_of(text_f("s3.%s.amazonaws.com", c->f[F_REDIRECT_301].text)));
        return "PermanentRedirect";
    }
    if (c->f[F_REDIRECT_307].on) {
        reply_head(c, "Location: %s", c->f[F_REDIRECT_307].text);
        xml_put(&c->extra, "Endpoint", str_of(c->f[F_REDIRECT_307].text));
        return "TemporaryRedirect";
    }
    if (c->f[F_BAD_REGION].on) {
        reply_head(c, "x-amz-bucket-region: %s", c->f[F_BAD_REGION].text);
        c->why = text_f(
            "The authorization header is malformed; the region is wrong; expecting "
            "'%s'",
            c->f[F_BAD_REGION].text);
        xml_put(&c->extra, "Region", str_of(c->f[F_BAD_REGION].text));
        return "AuthorizationHeaderMalformed";
    }
    return NULL;
}

/* Faults whose answer is no S3 error document. True: the reply is ready. */
static bool
fault_odd(struct conn *c)
{
    if (c->f[F_HTML_ERROR].on) {
        c->status = (int)c->f[F_HTML_ERROR].num;
        reply_head(c, "Content-Type: text/html");
        buf_f(&c->rbody,
              "<!DOCTYPE html>\n<html><head><title>%d</title></head><body><h1>%d "
              "Oops</h1><hr>proxy/1.0</body></html>\n",
              c->status, c->status);
        return true;
    }
    if (c->f[F_EMPTY_ERROR].on) {
        c->status = (int)c->f[F_EMPTY_ERROR].num;
        return true;
    }
    if (c->f[F_OK_ERROR].on) {
        const char *code =
            *c->f[F_OK_ERROR].text ? c->f[F_OK_ERROR].text : "InternalError";

        reply_trickle(c);
        reply_error_body(c, code, "We encountered an internal error. Please try again.");
        c->err = code;
        reply_xml(c, 200);
        return true;
    }
    if (c->f[F_EMPTY_COMPLETE].on &&
        strcmp(c->f[F_EMPTY_COMPLETE].text, "applied") != 0) {
        c->status = 200;
        return true;
    }
    return false;
}

/* An answer before the body: read or not, the client has to cope. */
static bool
fault_early(struct conn *c)
{
    struct fired *f = c->f[F_EARLY_403].on ? &c->f[F_EARLY_403] : &c->f[F_EARLY_503];

    if (!f->on)
        return false;
    reply_error(c, f == &c->f[F_EARLY_403] ? "AccessDenied" : "SlowDown");
    c->keep = c->keep && strcmp(f->text, "keep") == 0;
    reply_send(c);
    return true;
}

/* Who may do this, and does the place exist? */
static const char *
admit(struct conn *c)
{
    int flags = op_row[c->op].flags;

    if (c->anonymous && c->op != OP_PostObject &&
        !(flags & PUBLIC && bucket_public(c->bucket)))
        return "AccessDenied";
    if (c->op == OP_Unknown)
        return route_foreign(c) ? "NotImplemented" : "MethodNotAllowed";
    if (flags & BUCKET && !bucket_exists(c->bucket))
        return "NoSuchBucket";
    if (c->key.n > KEY_MAX)
        return "KeyTooLongError";
    if (c->key.n && memchr(c->key.p, 0, c->key.n))
        return "InvalidURI";
    return NULL;
}

/* Verify, admit, fault, read, run. */
static const char *
perform(struct conn *c)
{
    struct buf dropped = {0};
    const char *bad;

    if (c->op == OP_Options)
        return preflight(c);
    bad = auth_check(c);
    if (bad) {
        count(&g.sh->bad_signatures, 1);
        return bad;
    }
    bad = fault_answer(c);
    if (bad || c->f[F_HTML_ERROR].on || c->f[F_EMPTY_ERROR].on || c->f[F_OK_ERROR].on ||
        (c->f[F_EMPTY_COMPLETE].on && strcmp(c->f[F_EMPTY_COMPLETE].text, "applied"))) {
        const char *cut = c->chunked_in ? NULL : body_read(c, NULL, NULL, NULL);

        return cut ? cut : bad ? bad : fault_odd(c) ? NULL : "InternalError";
    }
    bad = admit(c);
    if (!bad && c->bucket.n && !c->key.n)
        reply_head(c, "x-amz-bucket-region: %s", g.region);
    if (!bad && !(op_row[c->op].flags & BODY_OWN))
        bad = body_take(c, &dropped, 1 << 20);
    if (!bad)
        bad = op_row[c->op].run(c);
    if (!bad && c->f[F_EMPTY_COMPLETE].on)
        c->rbody.n = 0;
    return bad;
}

static void
conn_clear(struct conn *c)
{
    struct conn was = *c;

    memset(c, 0, sizeof *c);
    c->peer = was.peer;
    c->id = was.id;
    c->requests = was.requests;
    c->in = was.in;
    c->in_at = was.in_at;
    c->in_n = was.in_n;
    c->pace_in = was.pace_in;
    c->pace_out = was.pace_out;
    c->idle_s = was.idle_s;
    c->counted = was.counted;
    c->door = was.door;
    c->slot = was.slot;
    c->op = OP_Unknown;
    ram_reset();
}

/* One request. Returns when the next may come; ends the process otherwise. */
static void
serve_one(struct conn *c)
{
    const char *bad;
    int got = head_read(c, &bad);

    if (got < 0)
        conn_end(c);
    if (c->peer.tls)
        peer_timeout(c->peer.fd, SO_RCVTIMEO, g.body_ms);
    c->now_ms = os_now_ms();
    c->requests++;
    c->door = !got && str_starts(c->path, str_of("/_s3d/"));
    if (!c->door)
        conn_count(c);
    if (got > 0) {
        c->why = bad;
        c->chunked_in = true; /* whatever follows cannot be trusted */
        reply_error(c, strstr(bad, "too large") ? "RequestHeaderSectionTooLarge"
                                                : "BadRequest");
        reply_send(c);
        return;
    }
    if (c->door) {
        door_open(c);
        return;
    }
    config_refresh();
    count(&g.sh->requests, 1);
    c->op = g.proxy ? OP_Unknown : route(c);
    count(&g.sh->op[c->op], 1);
    if (g.heads)
        os_append("heads", (struct str){text_f("%s\r\n", c->head.p), c->head.n + 2},
                  1 << 20);
    faults_match(c, false);
    c->now_ms += (int64_t)(c->f[F_SKEWED_CLOCK].num * 1000);
    if (c->f[F_IDLE_CLOSE].on)
        c->idle_s = c->f[F_IDLE_CLOSE].num / 1000;
    if (c->f[F_RESET_BEFORE].on)
        conn_rst(c);
    if (fault_early(c))
        return;
    if (g.proxy) {
        proxy_run(c);
        return;
    }
    bad = perform(c);
    if (bad && c->streaming) {
        c->rbody.n = 0;
        reply_error(c, bad);
        c->status = 200;
    } else if (bad) {
        reply_error(c, bad);
        if (c->rbody.n)
            reply_head(c, "Content-Type: application/xml");
    }
    reply_send(c);
}

/* ===== ROOM 21 the child and its parent ===== */

/* With TLS on, only the door may be used in the clear. */
static void
serve_tls(struct conn *c)
{
#ifdef S3D_TLS
    char first;

    if (recv(c->peer.fd, &first, 1, MSG_PEEK) != 1)
        conn_end(c);
    if (first == 0x16 && !tls_accept(&c->peer))
        conn_end(c);
    if (first != 0x16) {
        char start[12] = "";

        recv(c->peer.fd, start, sizeof start - 1, MSG_PEEK);
        if (!strstr(start, " /_s3d/"))
            conn_end(c);
    }
#else
    (void)c;
#endif
}

__attribute__((noreturn)) static void
child(int fd, uint64_t id, int slot)
{
    static struct conn c;
    static char input[HEAD_MAX];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != g.parent)
        _exit(0);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    g.lock[0] = g.lock[1] = -1;
    c.peer = peer_plain(fd);
    c.id = id;
    c.slot = slot;
    c.in = input;
    c.idle_s = (double)g.idle_ms / 1000;
    config_refresh();
    conn_clear(&c);
    faults_match(&c, true);
    if (c.f[F_DROP].on) {
        c.method = c.target = (struct str){"-", 1};
        conn_end(&c);
    }
    peer_timeout(fd, SO_RCVTIMEO, g.body_ms);
    if (g.tls)
        serve_tls(&c);
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};

        conn_clear(&c);
        if (c.peer.tls) /* records may be waiting inside: the read itself must wait */
            peer_timeout(fd, SO_RCVTIMEO, (int64_t)(c.idle_s * 1000));
        else if (c.in_at == c.in_n && poll(&p, 1, (int)(c.idle_s * 1000)) <= 0)
            conn_end(&c);
        serve_one(&c);
    }
}

static volatile sig_atomic_t stop_asked, child_died;

static void
on_signal(int sig)
{
    if (sig == SIGCHLD)
        child_died = 1;
    else
        stop_asked = 1;
}

static int
listen_on(int family, int64_t *port)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *a = family == AF_INET ? (struct sockaddr *)(void *)&a4
                                           : (struct sockaddr *)(void *)&a6;
    socklen_t n = family == AF_INET ? sizeof a4 : sizeof a6;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    a4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a4.sin_port = a6.sin6_port = htons((uint16_t)*port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (fd < 0 || bind(fd, a, n) < 0 || listen(fd, 512) < 0 || getsockname(fd, a, &n) < 0)
        die("cannot listen on port %d: %s", (int)*port, strerror(errno));
    *port = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
    return fd;
}

static void
write_port(void)
{
    char *temp = text_f("%s.%ld", g.port_file, (long)getpid());
    FILE *f = fopen(temp, "w");

    if (!f || fprintf(f, "%d\n", (int)g.port) < 0 || fclose(f) != 0 ||
        rename(temp, g.port_file) < 0)
        die("cannot write %s: %s", g.port_file, strerror(errno));
}

static pid_t children[CHILDREN_MAX]; /* by slot; 0: free */
static int children_n;

static void
reap(void)
{
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        for (int i = 0; i < CHILDREN_MAX; i++)
            if (children[i] == pid) {
                children[i] = 0;
                children_n--;
                if (__atomic_load_n(&g.sh->real[i], __ATOMIC_RELAXED))
                    __atomic_fetch_sub(&g.sh->open, 1, __ATOMIC_RELAXED);
            }
}

static void
accept_one(int listener, const int *fds, int n)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), slot = 0;
    uint64_t id;
    pid_t pid;

    if (fd < 0)
        return;
    while (children[slot])
        slot++;
    g.sh->real[slot] = 0;
    id = __atomic_add_fetch(&g.sh->connection_id, 1, __ATOMIC_RELAXED);
    pid = fork();
    if (pid == 0) {
        sigset_t none;

        for (int i = 0; i < n; i++)
            close(fds[i]);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        child(fd, id, slot);
    }
    close(fd);
    if (pid < 0)
        return;
    children[slot] = pid;
    children_n++;
}

/* The parent: accept, fork, reap, until told to stop. */
static void
serve(const int *fds, int n)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigset_t block, open;
    struct pollfd p[2];

    sigemptyset(&block);
    sigaddset(&block, SIGCHLD);
    sigaddset(&block, SIGTERM);
    sigaddset(&block, SIGINT);
    sigprocmask(SIG_BLOCK, &block, &open);
    sigaction(SIGCHLD, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    while (!stop_asked) {
        for (int i = 0; i < n; i++)
            p[i] = (struct pollfd){children_n < CHILDREN_MAX ? fds[i] : -1, POLLIN, 0};
        if (ppoll(p, (nfds_t)n, NULL, &open) > 0)
            for (int i = 0; i < n; i++)
                if (p[i].revents)
                    accept_one(fds[i], fds, n);
        if (child_died) {
            child_died = 0;
            reap();
        }
    }
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (children[i])
            kill(children[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
}

/* ===== ROOM 22 the command line ===== */

/* What is left over from a run that was killed, and the indexes. */
static void
recover(void)
{
    struct dirent **e;
    int n;

    os_remove(text_f("%s/tmp", g.dir));
    mkdir(text_f("%s/tmp", g.dir), 0700);
    n = scandir(text_f("%s/b", g.dir), &e, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        struct str name = str_of(e[i]->d_name);

        if (bucket_exists(name)) {
            index_rebuild(name);
            uploads_tidy(name);
        }
        free(e[i]);
        ram_reset();
    }
    if (n >= 0)
        free(e);
    for (size_t i = 0; i < g.buckets; i++)
        if (!bucket_valid(str_of(g.bucket[i])))
            die("--bucket %s: not a bucket name", g.bucket[i]);
        else if (!bucket_exists(str_of(g.bucket[i])) && !bucket_make(str_of(g.bucket[i])))
            die("cannot make bucket %s", g.bucket[i]);
}

/* s3d ctl: one request to the door. */
static int
ctl(int argc, char **argv)
{
    static char piece[65536];
    struct sockaddr_in a = {.sin_family = AF_INET};
    const char *what = argc > 1 ? argv[1] : "stats", *arg = argc > 2 ? argv[2] : NULL;
    bool get = !strcmp(what, "stats") || !strcmp(what, "log") || !strcmp(what, "heads");
    struct buf body = {0}, in = {0};
    struct str head, line;
    ssize_t n;
    int fd;

    if (argc < 1)
        die("ctl PORT|@PORTFILE stats|log|heads|reset|go|faults|quirks|keys|clock");
    for (int i = 0; *argv[0] == '@' && i < 100 && access(argv[0] + 1, R_OK) < 0; i++)
        os_sleep(0.1);
    line = *argv[0] == '@' ? os_slurp(argv[0] + 1, 64) : str_of(argv[0]);
    a.sin_port = htons((uint16_t)atoi(str_c(line)));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)(void *)&a, sizeof a) < 0)
        die("port %s: %s", str_c(line), strerror(errno));
    for (int i = 2; !get && i < argc; i++)
        buf_f(&body, "%s\n", argv[i]);
    while (!get && !arg && strcmp(what, "reset") && strcmp(what, "go") &&
           (n = read(0, piece, sizeof piece)) > 0)
        buf_add(&body, piece, (size_t)n);
    head =
        str_of(text_f("%s /_s3d/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                      "Content-Length: %zu\r\n\r\n",
                      get ? "GET" : "POST", what, body.n));
    if (!os_write(fd, head.p, head.n) || !os_write(fd, body.p, body.n))
        die("cannot write: %s", strerror(errno));
    while ((n = read(fd, piece, sizeof piece)) > 0)
        buf_add(&in, piece, (size_t)n);
    line = buf_view(&in);
    fd = str_starts(line, str_of("HTTP/1.1 200 ")) ? 0 : 1;
    arg = line.n ? memmem(line.p, line.n, "\r\n\r\n", 4) : NULL;
    line = arg ? str_from(line, (size_t)(arg - line.p) + 4) : str_of("no answer\n");
    if (argc > 2 && get) { /* one value; a counter never touched is 0 */
        const char *value = "0";

        while (line.p) {
            struct str v = str_cut(&line, '\n'), name = str_cut(&v, ' ');

            if (v.p && str_is(name, argv[2]))
                value = str_c(v);
        }
        printf("%s\n", value);
        return fd;
    }
    fwrite(line.p, 1, line.n, fd ? stderr : stdout);
    return fd;
}

static int
sum_main(const char *name)
{
    static char piece[65536];
    int kind = name ? sum_named(str_of(name)) : -1;
    unsigned char out[32];
    struct sum s;
    size_t n;

    if (kind < 0)
        die("sum md5|sha1|sha256|crc32|crc32c|crc64nvme");
    sum_start(&s, kind);
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0)
        sum_add(&s, piece, n);
    sum_end(&s, out);
    printf("%s %s\n", hex_of(out, sum_info[kind].size), b64_of(out, sum_info[kind].size));
    return 0;
}

/* Options with one number or one text, and those that stand alone. */
static bool
option_simple(const char *name, const char *value, bool *took)
{
    static const struct {
        const char *name;
        int64_t *to;
    } num[] = {{"--port", &g.port},         {"--seed", &g.seed},
               {"--rate", &g.rate},         {"--rate-conn", &g.rate_conn},
               {"--min-part", &g.min_part}, {"--list-max", &g.list_max},
               {"--idle", &g.idle_ms},      {"--body-timeout", &g.body_ms}};
    static const struct {
        const char *name, **to;
    } text[] = {{"--dir", &g.dir},
                {"--region", &g.region},
                {"--virtual-host", &g.vhost},
                {"--proxy-auth", &g.proxy_auth},
                {"--port-file", &g.port_file},
                {"--cert", &g.cert},
                {"--keyfile", &g.keyfile}};
    static const struct {
        const char *name;
        bool *to;
    } flag[] = {{"--sink", &g.sink},   {"--sink-fast", &g.sink_fast},
                {"--ipv6", &g.ipv6},   {"--cors", &g.cors},
                {"--quiet", &g.quiet}, {"--proxy", &g.proxy},
                {"--heads", &g.heads}, {"--die-with-parent", &g.die_with_parent}};

    *took = true;
    for (size_t i = 0; i < sizeof num / sizeof *num; i++)
        if (strcmp(name, num[i].name) == 0)
            return value && str_num(str_of(value), num[i].to);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (strcmp(name, text[i].name) == 0) {
            *text[i].to = value;
            return value != NULL;
        }
    *took = false;
    for (size_t i = 0; i < sizeof flag / sizeof *flag; i++)
        if (strcmp(name, flag[i].name) == 0) {
            *flag[i].to = true;
            return true;
        }
    return false;
}

static void
config_add(char place[TEXT_MAX], const char *line)
{
    size_t n = strlen(place), m = strlen(line);

    if (n + m + 2 >= TEXT_MAX)
        die("too much configuration");
    snprintf(place + n, TEXT_MAX - n, "%s\n", line);
}

/* Options that may come more than once. */
static bool
option_many(const char *name, const char *value)
{
    struct rule r;

    if (!value)
        return false;
    if (strcmp(name, "--key") == 0 && strchr(value, ':')) {
        config_add(g.sh->keys, value);
    } else if (strcmp(name, "--key") == 0) {
        g.keyfile = value;
    } else if (strcmp(name, "--fault") == 0 && rule_parse(str_of(value), &r)) {
        config_add(g.sh->rules, value);
    } else if (strcmp(name, "--quirk") == 0) {
        return quirk_set(str_of(value));
    } else if (strcmp(name, "--bucket") == 0 && g.buckets < 32) {
        g.bucket[g.buckets++] = value;
    } else if (strcmp(name, "--public") == 0 && g.publics < 32) {
        g.public[g.publics++] = value;
    } else {
        return false;
    }
    return true;
}

static void
options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool took;

        if (option_simple(argv[i], value, &took)) {
            i += took;
            continue;
        }
        if (took || !option_many(argv[i], value))
            die("%s %s: not understood (the head of s3d.c tells the options)", argv[i],
                value ? value : "");
        i++;
    }
    if (!g.dir)
        die("--dir is missing");
    if (!*g.sh->keys)
        config_add(g.sh->keys, "test:testsecret");
    g.sink = g.sink || g.sink_fast;
    g.heads = g.heads || g.proxy;
    g.tls = g.cert != NULL;
}

int
main(int argc, char **argv)
{
    int fds[2], n = 0;
    char dir[PATH_MAX];

    sum_setup();
    if (argc > 1 && strcmp(argv[1], "ctl") == 0)
        return ctl(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "sum") == 0)
        return sum_main(argc > 2 ? argv[2] : NULL);
    signal(SIGPIPE, SIG_IGN);
    g.sh = mmap(NULL, sizeof *g.sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    if (g.sh == MAP_FAILED)
        die("no memory to share");
    options(argc, argv);
    mkdir(g.dir, 0700);
    if (!realpath(g.dir, dir))
        die("%s: %s", g.dir, strerror(errno));
    g.dir = dir;
    mkdir(text_f("%s/b", g.dir), 0700);
    g.parent = getpid();
    if (g.die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() == 1)
            return 0;
    }
#ifdef S3D_TLS
    if (g.tls)
        tls_setup();
#else
    if (g.tls)
        die("this s3d was built without TLS");
#endif
    recover();
    fds[n++] = listen_on(AF_INET, &g.port);
    if (g.ipv6)
        fds[n++] = listen_on(AF_INET6, &g.port);
    if (g.port_file)
        write_port();
    if (!g.quiet)
        fprintf(stderr, "s3d: listening on 127.0.0.1:%d\n", (int)g.port);
    serve(fds, n);
    return 0;
}
