/*
 * s3up: moves files between a Linux box and any S3-compatible store, and always
 * finishes.  MIT licence, see LICENSE.  The map of this file is s3up.h.
 *
 * ===== ROOM 0 front page: what happens, how much of it, and with whose help =====
 *
 * The story of one part of a file.  The planner cuts the file into equal parts and the
 * crew hands each part to a worker. The worker reads it twice with pread, through a
 * small window: once to sum it, because the sum is signed with the request, and once to
 * send it. So memory does not grow with the part, and a byte that changed in between
 * makes the store refuse the part. The request is signed anew for every attempt, since a
 * store believes a date for fifteen minutes only. The reply is taken apart by readers
 * that trust nothing; what must be there and is not is a failure. The part's ETag goes
 * back to the parent, the only process that writes the journal, and when the line is on
 * disk the part is done: no crash, cut or kill makes it travel again. When all parts are
 * there the store is told to join them, and only its word, or its own listing of an
 * object that carries our token, counts as success.
 *
 * Bytes fall through the rooms from high numbers to low: files and parts become
 * requests, requests are signed, wrapped and sent. Results come back as return values.
 * Nothing calls up.
 */
#define _GNU_SOURCE /* explicit_bzero, O_CLOEXEC and friends under -std=c99 */

#include "s3up.h"

#include <errno.h>      /* errno: why a system call failed, kept in struct fail */
#include <fcntl.h>      /* open and its flags */
#include <limits.h>     /* INT_MAX: what a precision in printf can say */
#include <poll.h>       /* poll: to sleep until something happens */
#include <signal.h>     /* sigaction: a stop that is asked for politely */
#include <stdarg.h>     /* messages take their parts as arguments */
#include <stdbool.h>    /* bool */
#include <stddef.h>     /* size_t, offsetof */
#include <stdint.h>     /* numbers of known width */
#include <stdio.h>      /* vsnprintf, printf: text for people; never for data */
#include <stdlib.h>     /* malloc, free, getenv */
#include <string.h>     /* memcpy, memcmp, memchr, explicit_bzero, strerror */
#include <sys/random.h> /* getrandom */
#include <sys/stat.h>   /* fstat, fchmod */
#include <time.h>       /* clock_gettime */
#include <unistd.h>     /* read, write, pread, fsync, close */

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>     /* which instructions this CPU has */
#include <immintrin.h> /* SHA and carry-less multiplication, behind target attributes */
#elif defined(__aarch64__)
#include <arm_neon.h> /* the same two for ARMv8 */
#include <sys/auxv.h> /* getauxval: which of them this CPU has */
#endif

/* Limits. Each has its reason; all input is held against one of them. */
#define KIB         ((uint64_t)1 << 10)
#define MIB         ((uint64_t)1 << 20)
#define GIB         ((uint64_t)1 << 30)
#define TIB         ((uint64_t)1 << 40)
#define KEY_MAX     1024   /* bytes of an object's key, by the S3 specification */
#define URL_MAX     2048   /* bytes of an endpoint address; no real one comes near */
#define FAIL_TEXT   768    /* bytes of one failure message; a key of 1,024 is cut */
#define XML_DEPTH   16     /* the deepest S3 reply has 5 levels */
#define XML_NAME    128    /* bytes of an element's name; the longest in S3 has 41 */
#define JSON_DEPTH  32     /* a stack of bits in one word */
#define REQ_FIELDS  64     /* header fields, and query parameters, of one request */
#define REQ_TEXT    32768  /* bytes of both; stores refuse heads above 8 to 16 KiB */
#define PRESIGN_MAX 604800 /* seconds that a presigned URL may live: seven days */

#ifndef BUF_FIRST
#define BUF_FIRST 256 /* first size of a growing buffer; tests use 1, so all must grow */
#endif

/* ===== ROOM 1 text: views, growing buffers, numbers, encodings, addresses, dates =====
 *
 * In: bytes from anywhere. Out: spans into them, or bytes appended to a buffer.
 * Owns no state. Refuses what it cannot read exactly: a number with a blank, a URL with
 * a password, base64 without its padding. Dates are computed, not asked of the C
 * library, so that a 32-bit box agrees with a 64-bit one after 2038.
 */

/* A view of bytes that belong to somebody else. */
struct span {
    const char *p; /* not NUL-terminated; may be NULL when n is 0 */
    size_t n;      /* bytes */
};

#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

static struct span
span_at(const void *p, size_t n)
{
    return (struct span){p, n};
}

static struct span
span_of(const char *s)
{
    return span_at(s, s ? strlen(s) : 0);
}

static struct span
span_first(struct span s, size_t n)
{
    return span_at(s.p, n < s.n ? n : s.n);
}

static struct span
span_after(struct span s, size_t n)
{
    if (n >= s.n)
        return (struct span){NULL, 0};
    return span_at(s.p + n, s.n - n);
}

/* Bytes are compared unsigned, as stores sort keys: é comes after z. */
static int
span_cmp(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;

    if (order)
        return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

static bool
span_eq(struct span a, struct span b)
{
    return a.n == b.n && span_cmp(a, b) == 0;
}

static bool
span_is(struct span s, const char *text)
{
    return span_eq(s, span_of(text));
}

static bool
span_starts(struct span s, const char *head)
{
    return span_is(span_first(s, strlen(head)), head);
}

/* ASCII only: what a locale thinks of a header's name must not matter. */
static char
span_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool
span_is_nocase(struct span s, const char *text)
{
    struct span t = span_of(text);

    if (s.n != t.n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (span_lower(s.p[i]) != span_lower(t.p[i]))
            return false;
    return true;
}

static bool
span_has(struct span s, char c)
{
    return s.n && memchr(s.p, c, s.n);
}

static bool
span_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span
span_trim(struct span s)
{
    while (s.n && span_blank(s.p[0]))
        s = span_after(s, 1);
    while (s.n && span_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Splits off what stands before the first `at`, or all of it. False when nothing was
 * left to split: so `while (span_cut(&rest, ',', &word))` visits every word. */
static bool
span_cut(struct span *rest, char at, struct span *head)
{
    const char *hit = rest->n ? memchr(rest->p, at, rest->n) : NULL;

    if (!rest->p)
        return false;
    if (!hit) {
        *head = *rest;
        *rest = (struct span){NULL, 0};
        return true;
    }
    *head = span_first(*rest, (size_t)(hit - rest->p));
    *rest = span_at(hit + 1, rest->n - head->n - 1);
    return true;
}

/* Bytes that grow, up to a ceiling. Appending to a bad buffer does nothing. */
struct buf {
    char *p;     /* ours; once anything was added p[n] is NUL, for C's sake */
    size_t n;    /* bytes in use */
    size_t room; /* bytes allocated */
    size_t max;  /* the most that n may become */
    int bad;     /* 0, or E2BIG or ENOMEM from the first append that failed */
};

static struct buf
buf_upto(size_t max)
{
    return (struct buf){.max = max};
}

/* Every buffer is wiped, because any of them may have held a key or a signature. */
static void
buf_free(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->room);
    free(b->p);
    *b = buf_upto(b->max);
}

static void
buf_clear(struct buf *b)
{
    b->n = 0;
    b->bad = 0;
    if (b->p)
        b->p[0] = 0;
}

static struct span
buf_span(const struct buf *b)
{
    return b->bad ? (struct span){NULL, 0} : span_at(b->p, b->n);
}

static const char *
buf_text(const struct buf *b)
{
    return b->p && !b->bad ? b->p : "";
}

/* Grows by copying, not by realloc: realloc may leave the old bytes behind unwiped. */
static bool
buf_need(struct buf *b, size_t more)
{
    size_t room = b->room ? b->room : BUF_FIRST;
    char *p;

    if (b->bad)
        return false;
    if (more > b->max - b->n) {
        b->bad = E2BIG;
        return false;
    }
    if (b->p && more < b->room - b->n)
        return true;
    while (room - b->n <= more)
        room *= 2; /* ends: n + more is at most max, and max is far below SIZE_MAX / 2 */
    p = malloc(room);
    if (!p) {
        b->bad = ENOMEM;
        return false;
    }
    if (b->n)
        memcpy(p, b->p, b->n);
    if (b->p)
        explicit_bzero(b->p, b->room);
    free(b->p);
    b->p = p;
    b->room = room;
    return true;
}

static void
buf_add(struct buf *b, const void *p, size_t n)
{
    if (!buf_need(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static void
buf_put(struct buf *b, struct span s)
{
    buf_add(b, s.p, s.n);
}

static void
buf_str(struct buf *b, const char *s)
{
    buf_put(b, span_of(s));
}

static void
buf_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

static void
buf_num(struct buf *b, uint64_t v)
{
    char digits[20]; /* 2^64 has twenty */
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    buf_add(b, digits + at, sizeof digits - at);
}

/* A whole number in decimal, nothing around it, at most max. */
static bool
num_parse(struct span s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!s.n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return v <= max;
}

/* A number and a unit out of a list of letters, as 16M or 8d. A letter's weight stands
 * at the same place in the list of weights; no letter means one. */
static bool
num_scaled(struct span s, const char *letters, const uint64_t *weights, uint64_t *out)
{
    uint64_t weight = 1, v;
    const char *hit;

    if (!s.n)
        return false;
    hit = s.p[s.n - 1] ? strchr(letters, s.p[s.n - 1]) : NULL;
    if (hit) {
        weight = weights[hit - letters];
        s.n--;
    }
    if (!num_parse(s, UINT64_MAX / weight, &v))
        return false;
    *out = v * weight;
    return true;
}

/* Sizes: 5, 64K, 16M, 16MB, 16MiB, 2G, 1T. All are powers of 1024. */
static bool
num_size(struct span s, uint64_t *out)
{
    static const uint64_t weights[] = {KIB, MIB, GIB, TIB, KIB, MIB, GIB, TIB};
    bool unit = s.n > 2 && span_lower(s.p[s.n - 1]) == 'b';

    if (unit)
        s.n -= s.p[s.n - 2] == 'i' ? 2 : 1;
    if (unit && s.n && s.p[s.n - 1] >= '0' && s.p[s.n - 1] <= '9')
        return false; /* 16iB: bytes are never counted in i */
    return num_scaled(s, "KMGTkmgt", weights, out);
}

/* Ages and times: 30, 30s, 5m, 12h, 8d. */
static bool
num_age(struct span s, uint64_t *seconds)
{
    static const uint64_t weights[] = {1, 60, 3600, 86400};

    return num_scaled(s, "smhd", weights, seconds);
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = span_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
hex_put(struct buf *b, const void *p, size_t n)
{
    const unsigned char *in = p;

    for (size_t i = 0; i < n; i++) {
        buf_char(b, "0123456789abcdef"[in[i] >> 4]);
        buf_char(b, "0123456789abcdef"[in[i] & 15]);
    }
}

/* Exactly n bytes, or false. */
static bool
hex_read(struct span s, void *out, size_t n)
{
    unsigned char *o = out;

    if (s.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_value(s.p[2 * i]), low = hex_value(s.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        o[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static const char b64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
b64_put(struct buf *b, const void *p, size_t n)
{
    const unsigned char *in = p;

    for (; n >= 3; n -= 3, in += 3) {
        buf_char(b, b64_digits[in[0] >> 2]);
        buf_char(b, b64_digits[(in[0] & 3u) << 4 | in[1] >> 4]);
        buf_char(b, b64_digits[(in[1] & 15u) << 2 | in[2] >> 6]);
        buf_char(b, b64_digits[in[2] & 63]);
    }
    if (n) {
        unsigned next = n > 1 ? in[1] : 0;

        buf_char(b, b64_digits[in[0] >> 2]);
        buf_char(b, b64_digits[(in[0] & 3u) << 4 | next >> 4]);
        buf_char(b, n > 1 ? b64_digits[(next & 15) << 2] : '=');
        buf_char(b, '=');
    }
}

static int
b64_value(char c)
{
    const char *hit = c ? strchr(b64_digits, c) : NULL;

    return hit ? (int)(hit - b64_digits) : -1;
}

/* Strict: padded, no blanks, and the bits that no byte uses are zero, so that every
 * value has one spelling only. */
static bool
b64_read(struct span s, struct buf *out)
{
    uint32_t bits = 0;
    size_t pad = 0;

    if (s.n % 4)
        return false;
    while (pad < 2 && s.n && s.p[s.n - 1] == '=') {
        s.n--;
        pad++;
    }
    for (size_t i = 0; i < s.n; i++) {
        int v = b64_value(s.p[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4)
            buf_char(out, (char)(bits >> (6 - 2 * (i % 4)) & 255));
    }
    if (pad && bits & (pad == 1 ? 3 : 15))
        return false;
    return !out->bad;
}

static bool
url_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

/* Percent-encodes as signatures demand: upper-case hex, and all but the unreserved and
 * what stands in keep ("/" in a path, "" in a query). */
static void
url_put(struct buf *b, struct span s, const char *keep)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (url_unreserved(s.p[i]) || (c && strchr(keep, c))) {
            buf_char(b, s.p[i]);
            continue;
        }
        buf_char(b, '%');
        buf_char(b, "0123456789ABCDEF"[c >> 4]);
        buf_char(b, "0123456789ABCDEF"[c & 15]);
    }
}

/* Undoes percent-encoding; in form style a plus is a blank. False on a bad escape. */
static bool
url_read(struct span s, bool form, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '%') {
            if (s.n - i < 3 || !hex_read(span_at(s.p + i + 1, 2), &c, 1))
                return false;
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        buf_char(out, (char)c);
    }
    return !out->bad;
}

/* An http address, taken apart. All spans point into what was parsed. */
struct url {
    bool https;
    bool literal6;     /* host is an IPv6 address; it stood in brackets */
    unsigned port;     /* as given, else 80 or 443 */
    struct span host;  /* without brackets; its case is the writer's */
    struct span path;  /* begins with / or is empty; still encoded */
    struct span query; /* behind the ?, still encoded */
};

/* The host and port of an address; NULL, or what is wrong with them. */
static const char *
url_authority(struct span s, struct url *u)
{
    const char *hostset = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    struct span port = {NULL, 0};
    uint64_t number;

    if (span_has(s, '@'))
        return "it must not carry a user name or password";
    if (span_starts(s, "[")) {
        s = span_after(s, 1);
        u->literal6 = span_has(s, ']');
        span_cut(&s, ']', &u->host);
        if (!u->literal6 || (s.n && s.p[0] != ':'))
            return "the brackets around the IPv6 address are wrong";
        port = s.n ? span_at(s.p + 1, s.n - 1) : (struct span){NULL, 0};
        hostset = "0123456789abcdef:.";
    } else {
        span_cut(&s, ':', &u->host);
        port = s;
    }
    if (!u->host.n || u->host.n > 253)
        return "it has no host name, or one too long";
    for (size_t i = 0; i < u->host.n; i++)
        if (!u->host.p[i] || !strchr(hostset, span_lower(u->host.p[i])))
            return "the host name has a character that none can have";
    if (port.p && (!num_parse(port, 65535, &number) || number == 0))
        return "the port must be a number from 1 to 65535";
    u->port = port.p ? (unsigned)number : u->https ? 443 : 80;
    return NULL;
}

/* NULL when the address was understood, else what is wrong with it. */
static const char *
url_parse(struct span s, struct url *u)
{
    struct span authority = {NULL, 0};
    const char *slash;

    *u = (struct url){.https = span_is_nocase(span_first(s, 8), "https://")};
    if (s.n > URL_MAX)
        return "it is too long";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 127 || s.p[i] == '#')
            return "it has a blank, a control character or a # in it";
    if (!u->https && !span_is_nocase(span_first(s, 7), "http://"))
        return "it must begin with http:// or https://";
    s = span_after(s, u->https ? 8 : 7);
    span_cut(&s, '?', &authority);
    u->query = s;
    slash = authority.n ? memchr(authority.p, '/', authority.n) : NULL;
    if (slash)
        u->path = span_after(authority, (size_t)(slash - authority.p));
    authority.n -= u->path.n;
    return url_authority(authority, u);
}

/* s3://BUCKET[/KEY]: a key is raw bytes, nothing in it is encoded or has a meaning. */
static const char *
url_s3(struct span s, struct span *bucket, struct span *key)
{
    if (!span_starts(s, "s3://"))
        return "it must begin with s3://";
    *key = span_after(s, 5);
    *bucket = (struct span){NULL, 0};
    span_cut(key, '/', bucket);
    if (!bucket->n)
        return "the bucket's name is missing";
    if (key->n > KEY_MAX)
        return "the key is longer than 1024 bytes";
    return NULL;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here,
 * so that the leap day is the last one of its year and needs no case of its own. */
static int64_t
date_days(int64_t year, unsigned month, unsigned day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
    unsigned of_era = (unsigned)(y - era * 400);
    unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct date {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month and day count from 1 */
};

static struct date
date_of(int64_t t)
{
    int64_t days = t / 86400 - (t % 86400 < 0), left = t - days * 86400;
    int64_t era = (days + 719468 - (days + 719468 < 0 ? 146096 : 0)) / 146097;
    unsigned of_era = (unsigned)(days + 719468 - era * 146097);
    unsigned y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    struct date d = {.month = m < 10 ? m + 3 : m - 9,
                     .day = of_year - (153 * m + 2) / 5 + 1};

    d.year = (int64_t)y + era * 400 + (d.month <= 2);
    d.hour = (unsigned)(left / 3600);
    d.minute = (unsigned)(left / 60 % 60);
    d.second = (unsigned)(left % 60);
    return d;
}

static bool
date_time(struct date d, int64_t *t)
{
    if (d.month < 1 || d.month > 12 || d.day < 1 || d.day > 31 || d.hour > 23 ||
        d.minute > 59 || d.second > 60)
        return false;
    *t = date_days(d.year, d.month, d.day) * 86400;
    if (date_of(*t).month != d.month)
        return false; /* the month is shorter */
    *t += d.hour * 3600 + d.minute * 60 + d.second;
    return true;
}

/* Reads the digits of s[at, at + n). */
static bool
date_field(struct span s, size_t at, size_t n, unsigned *out)
{
    uint64_t v;

    if (at + n > s.n || !num_parse(span_at(s.p + at, n), 9999, &v))
        return false;
    *out = (unsigned)v;
    return true;
}

/* 20130524T000000Z: the date of signatures, the only one that they accept. */
static void
date_stamp(int64_t t, char out[17])
{
    struct date d = date_of(t < 0 ? 0 : t);

    /* A year of five digits would not fit; the clock is wrong then, and the store says so. */
    (void)snprintf(out, 17, "%04u%02u%02uT%02u%02u%02uZ", (unsigned)(d.year % 10000),
                   d.month % 100, d.day % 100, d.hour % 100, d.minute % 100,
                   d.second % 100);
}

/* 2013-05-24T00:00:00.000Z, or without the fraction: lists and credentials. */
static bool
date_iso(struct span s, int64_t *t)
{
    struct date d;
    unsigned year;

    if (s.n < 20 || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[13] != ':' ||
        s.p[16] != ':' || !date_field(s, 0, 4, &year) || !date_field(s, 5, 2, &d.month) ||
        !date_field(s, 8, 2, &d.day) || !date_field(s, 11, 2, &d.hour) ||
        !date_field(s, 14, 2, &d.minute) || !date_field(s, 17, 2, &d.second))
        return false;
    d.year = year;
    s = span_after(s, 19);
    if (s.n > 1 && s.p[0] == '.' && s.p[1] >= '0' && s.p[1] <= '9')
        for (s = span_after(s, 1); s.n && s.p[0] >= '0' && s.p[0] <= '9';)
            s = span_after(s, 1);
    return (span_is(s, "Z") || span_is(s, "+00:00")) && date_time(d, t);
}

/* Fri, 24 May 2013 00:00:00 GMT: headers. */
static bool
date_http(struct span s, int64_t *t)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct date d;
    unsigned year;

    if (s.n != 29 || s.p[3] != ',' || s.p[4] != ' ' || s.p[7] != ' ' || s.p[11] != ' ' ||
        s.p[16] != ' ' || s.p[19] != ':' || s.p[22] != ':' ||
        !span_is(span_after(s, 25), " GMT") || !date_field(s, 5, 2, &d.day) ||
        !date_field(s, 12, 4, &year) || !date_field(s, 17, 2, &d.hour) ||
        !date_field(s, 20, 2, &d.minute) || !date_field(s, 23, 2, &d.second))
        return false;
    d.year = year;
    d.month = 0;
    for (unsigned i = 0; i < 12; i++)
        if (span_eq(span_at(s.p + 8, 3), span_at(months + 3 * i, 3)))
            d.month = i + 1;
    return date_time(d, t);
}

/* The length of the UTF-8 character that s begins with; 0 when it begins with none.
 * Overlong forms, surrogates and values above 10FFFF are none. */
static size_t
utf8_length(struct span s)
{
    const unsigned char *u = (const unsigned char *)s.p;
    size_t n = !s.n          ? 0
               : u[0] < 0x80 ? 1
               : u[0] < 0xc2 ? 0
               : u[0] < 0xe0 ? 2
               : u[0] < 0xf0 ? 3
               : u[0] < 0xf5 ? 4
                             : 0;

    if (!n || n > s.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
        (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return n;
}

/* False for what is no character: surrogates, and what lies beyond Unicode. */
static bool
utf8_put(struct buf *b, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    if (c < 0x80) {
        buf_char(b, (char)c);
        return true;
    }
    if (c >= 0x10000)
        buf_char(b, (char)(0xf0 | c >> 18));
    if (c >= 0x800)
        buf_char(
            b, (char)((c < 0x10000 ? 0xe0 : 0x80) | (c >> 12 & (c < 0x10000 ? 15 : 63))));
    buf_char(b, (char)((c < 0x800 ? 0xc0 : 0x80) | (c >> 6 & (c < 0x800 ? 31 : 63))));
    buf_char(b, (char)(0x80 | (c & 63)));
    return true;
}

/* ===== ROOM 2 sums: digests and checksums, as fast as the CPU allows =====
 *
 * In: bytes in any slices. Out: a digest, or a checksum that can be joined with the
 * checksum of what follows. Owns what it found out about the CPU, and the tables of the
 * three CRCs: each is made once, on first use, and read-only from then on. To add
 * instructions, write the block function and one line in cpu_ask; the portable code
 * stays and is tested on every machine.
 */

enum { CPU_ASKED = 1, CPU_SHA = 2, CPU_CLMUL = 4 };

static unsigned cpu_found; /* 0 until asked, then CPU_ASKED and what is there */

static unsigned
cpu_ask(void)
{
    unsigned found = CPU_ASKED;
#if defined(__x86_64__) || defined(__i386__)
    const unsigned ssse3 = 1u << 9, sse41 = 1u << 19, pclmul = 1u << 1, sha = 1u << 29;
    unsigned a, b, c, d;

    if (__get_cpuid(1, &a, &b, &c, &d) && (c & (ssse3 | sse41)) == (ssse3 | sse41)) {
        if (c & pclmul)
            found |= CPU_CLMUL;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & sha)
            found |= CPU_SHA;
    }
#elif defined(__aarch64__)
    unsigned long caps = getauxval(AT_HWCAP);

    found |= caps & 1ul << 6 ? CPU_SHA : 0;   /* HWCAP_SHA2 */
    found |= caps & 1ul << 4 ? CPU_CLMUL : 0; /* HWCAP_PMULL */
#endif
    return found;
}

static bool
cpu_has(unsigned what)
{
    if (!cpu_found)
        cpu_found = cpu_ask();
    return cpu_found & what;
}

static uint32_t
sum_load32be(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t
sum_load32le(const unsigned char *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void
sum_store32be(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

static void
sum_store32le(unsigned char *p, uint32_t v)
{
    sum_store32be(p, v << 24 | (v & 0xff00) << 8 | (v >> 8 & 0xff00) | v >> 24);
}

static uint32_t
sum_ror(uint32_t v, unsigned by)
{
    return v >> by | v << (32 - by);
}

/* Time does not tell where the first difference is. */
static bool
sum_equal(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    unsigned differ = 0;

    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(x[i] ^ y[i]);
    return differ == 0;
}

#define SHA256_SIZE 32
#define MD5_SIZE    16
#define SUM_BLOCK   64 /* both digests eat blocks of this size */

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t sha256_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static void
sha256_portable(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    uint32_t w[64], v[8];

    for (; blocks; blocks--, p += SUM_BLOCK) {
        for (unsigned i = 0; i < 16; i++)
            w[i] = sum_load32be(p + 4 * i);
        for (unsigned i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];

            w[i] = w[i - 16] + (sum_ror(a, 7) ^ sum_ror(a, 18) ^ a >> 3) + w[i - 7] +
                   (sum_ror(b, 17) ^ sum_ror(b, 19) ^ b >> 10);
        }
        memcpy(v, h, sizeof v);
#pragma GCC unroll 8
        for (unsigned i = 0; i < 64; i++) {
            /* The names turn, the words stay: what is a in this round is b in the next. */
            uint32_t a = v[(64 - i) % 8], e = v[(68 - i) % 8];
            uint32_t t =
                v[(71 - i) % 8] + (sum_ror(e, 6) ^ sum_ror(e, 11) ^ sum_ror(e, 25)) +
                ((e & v[(69 - i) % 8]) ^ (~e & v[(70 - i) % 8])) + sha256_k[i] + w[i];

            v[(67 - i) % 8] += t;
            v[(71 - i) % 8] = t + (sum_ror(a, 2) ^ sum_ror(a, 13) ^ sum_ror(a, 22)) +
                              ((a & v[(65 - i) % 8]) ^ (a & v[(66 - i) % 8]) ^
                               (v[(65 - i) % 8] & v[(66 - i) % 8]));
        }
        for (unsigned i = 0; i < 8; i++)
            h[i] += v[i];
    }
}

#if defined(__x86_64__) || defined(__i386__)
/* Four rounds an instruction pair. The CPU wants the state as ABEF and CDGH. m[i % 4]
 * holds the four message words of step i, and each step prepares the one needed four
 * steps later; with the loop unrolled all of it stays in registers. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
sha256_fast(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    const __m128i swap =
        _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i lo =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)h), 0xb1);
    __m128i hi =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(lo, hi, 8), cdgh = _mm_blend_epi16(hi, lo, 0xf0);

    for (; blocks; blocks--, p += SUM_BLOCK) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i m[4];

        for (unsigned i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; i++) {
            const __m128i *k = (const __m128i *)(const void *)(sha256_k + 4 * i);
            __m128i wk = _mm_add_epi32(m[i % 4], _mm_load_si128(k));

            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
            if (i < 12)
                m[i % 4] = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(m[i % 4], m[(i + 1) % 4]),
                                  _mm_alignr_epi8(m[(i + 3) % 4], m[(i + 2) % 4], 4)),
                    m[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    lo = _mm_shuffle_epi32(abef, 0x1b);
    hi = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(lo, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(hi, lo, 8));
}
#elif defined(__aarch64__)
#pragma GCC push_options
#pragma GCC target("+crypto")
static void
sha256_fast(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);

    for (; blocks; blocks--, p += SUM_BLOCK) {
        const uint32x4_t abcd0 = abcd, efgh0 = efgh;
        uint32x4_t m[4];

        for (unsigned i = 0; i < 4; i++)
            m[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (unsigned i = 0; i < 16; i++) {
            uint32x4_t wk = vaddq_u32(m[i % 4], vld1q_u32(sha256_k + 4 * i));
            uint32x4_t before = abcd;

            if (i < 12)
                m[i % 4] = vsha256su1q_u32(vsha256su0q_u32(m[i % 4], m[(i + 1) % 4]),
                                           m[(i + 2) % 4], m[(i + 3) % 4]);
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, before, wk);
        }
        abcd = vaddq_u32(abcd, abcd0);
        efgh = vaddq_u32(efgh, efgh0);
    }
    vst1q_u32(h, abcd);
    vst1q_u32(h + 4, efgh);
}
#pragma GCC pop_options
#else
#define sha256_fast sha256_portable /* cpu_has(CPU_SHA) is false here */
#endif

static void
sha256_blocks(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    if (cpu_has(CPU_SHA))
        sha256_fast(h, p, blocks);
    else
        sha256_portable(h, p, blocks);
}

/* floor(2^32 * |sin(i + 1)|) */
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
    0xeb86d391};

static uint32_t
md5_mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
    switch (round) {
    case 0:
        return d ^ (b & (c ^ d));
    case 1:
        return c ^ (d & (b ^ c));
    case 2:
        return b ^ c ^ d;
    default:
        return c ^ (b | ~d);
    }
}

static void
md5_blocks(uint32_t h[4], const unsigned char *p, size_t blocks)
{
    static const unsigned char turn[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    static const unsigned char first[4] = {0, 1, 5, 0}, step[4] = {1, 5, 3, 7};

    for (; blocks; blocks--, p += SUM_BLOCK) {
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], w[16];

        for (unsigned i = 0; i < 16; i++)
            w[i] = sum_load32le(p + 4 * i);
#pragma GCC unroll 64 /* then round, turn and the order of words are constants */
        for (unsigned i = 0; i < 64; i++) {
            unsigned round = i / 16;
            uint32_t t = a + md5_mix(round, b, c, d) + md5_k[i] +
                         w[(first[round] + step[round] * i) % 16];

            a = d;
            d = c;
            c = b;
            b += sum_ror(t, 32u - turn[round][i % 4]);
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
    }
}

/* One engine runs the three CRCs. All are reflected, so a 32-bit polynomial times x^32 is
 * a 64-bit one whose register keeps the old register in its low half: the same steps,
 * tables and folding serve every width. */
struct crc {
    uint64_t poly; /* reflected: the highest power is bit 0 */
    uint64_t ones; /* what the register starts with, and is inverted by at the end */
    uint64_t fold[2][2]; /* x^n mod poly that carry 128 and 1024 bits on; made with t */
    uint64_t t[8][256];  /* t[k][b]: byte b followed by k zero bytes; made on first use */
};

static struct crc crc_kinds[] = {
    {.poly = 0xedb88320, .ones = UINT32_MAX},          /* CRC-32, of zip and Ethernet */
    {.poly = 0x82f63b78, .ones = UINT32_MAX},          /* CRC-32C, Castagnoli */
    {.poly = 0x9a6c9329ac4bc9b5, .ones = UINT64_MAX}}; /* CRC-64/NVME */

/* Times x. */
static uint64_t
crc_shift(const struct crc *k, uint64_t v)
{
    return v >> 1 ^ (v & 1 ? k->poly : 0);
}

static uint64_t
crc_power(const struct crc *k, unsigned n)
{
    uint64_t v = (uint64_t)1 << 63; /* x^0 */

    while (n--)
        v = crc_shift(k, v);
    return v;
}

static uint64_t
crc_times(const struct crc *k, uint64_t a, uint64_t b)
{
    uint64_t sum = 0;

    for (; b; b <<= 1) {
        if (b >> 63)
            sum ^= a;
        a = crc_shift(k, a);
    }
    return sum;
}

static void
crc_make(struct crc *k)
{
    for (unsigned i = 0; i < 2; i++) {
        k->fold[i][0] = crc_power(k, (i ? 1024 : 128) + 63);
        k->fold[i][1] = crc_power(k, (i ? 1024 : 128) - 1);
    }
    for (unsigned b = 0; b < 256; b++) {
        uint64_t v = b;

        for (unsigned i = 0; i < 8; i++)
            v = crc_shift(k, v);
        k->t[0][b] = v;
    }
    for (unsigned b = 0; b < 256; b++)
        for (unsigned i = 1; i < 8; i++)
            k->t[i][b] = k->t[i - 1][b] >> 8 ^ k->t[0][k->t[i - 1][b] & 255];
}

static uint64_t
crc_portable(const struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        v ^= (uint64_t)sum_load32le(p + 4) << 32 | sum_load32le(p);
        v = k->t[7][v & 255] ^ k->t[6][v >> 8 & 255] ^ k->t[5][v >> 16 & 255] ^
            k->t[4][v >> 24 & 255] ^ k->t[3][v >> 32 & 255] ^ k->t[2][v >> 40 & 255] ^
            k->t[1][v >> 48 & 255] ^ k->t[0][v >> 56];
    }
    for (; n; n--, p++)
        v = v >> 8 ^ k->t[0][(v ^ *p) & 255];
    return v;
}

/* Folding: 128 bits that stand d bits before others are replaced by their product with
 * x^d, which is no longer than they are. Eight lanes leap over 128 bytes at a time. */
#if defined(__x86_64__) || defined(__i386__)
#define CRC_FAST __attribute__((target("pclmul,sse4.1")))
typedef __m128i crc_lane;

CRC_FAST static crc_lane
crc_load(const void *p)
{
    return _mm_loadu_si128(p);
}

CRC_FAST static void
crc_store(void *p, crc_lane a)
{
    _mm_storeu_si128(p, a);
}

CRC_FAST static crc_lane
crc_fold(crc_lane a, crc_lane k, crc_lane next)
{
    __m128i lo = _mm_clmulepi64_si128(a, k, 0x00), hi = _mm_clmulepi64_si128(a, k, 0x11);

    return _mm_xor_si128(_mm_xor_si128(lo, hi), next);
}
#elif defined(__aarch64__)
#define CRC_FAST __attribute__((target("+crypto")))
typedef uint64x2_t crc_lane;

CRC_FAST static crc_lane
crc_load(const void *p)
{
    return vreinterpretq_u64_u8(vld1q_u8(p));
}

CRC_FAST static void
crc_store(void *p, crc_lane a)
{
    vst1q_u8(p, vreinterpretq_u8_u64(a));
}

CRC_FAST static crc_lane
crc_fold(crc_lane a, crc_lane k, crc_lane next)
{
    poly128_t lo = vmull_p64(vgetq_lane_u64(a, 0), vgetq_lane_u64(k, 0));
    poly128_t hi = vmull_p64(vgetq_lane_u64(a, 1), vgetq_lane_u64(k, 1));

    return veorq_u64(veorq_u64(vreinterpretq_u64_p128(lo), vreinterpretq_u64_p128(hi)),
                     next);
}
#endif

#ifdef CRC_FAST
#define CRC_FAST_FROM 256 /* below this many bytes the tables win */

/* n is a multiple of 16 and at least CRC_FAST_FROM. */
CRC_FAST static uint64_t
crc_fast(const struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    const crc_lane one = crc_load(k->fold[0]), eight = crc_load(k->fold[1]);
    const uint64_t start[2] = {v, 0};
    unsigned char last[16];
    crc_lane x[8];

    for (unsigned i = 0; i < 8; i++)
        x[i] = crc_load(p + 16 * i);
    x[0] ^= crc_load(start);
    for (p += 128, n -= 128; n >= 128; p += 128, n -= 128)
        for (unsigned i = 0; i < 8; i++)
            x[i] = crc_fold(x[i], eight, crc_load(p + 16 * i));
    for (unsigned i = 1; i < 8; i++)
        x[0] = crc_fold(x[0], one, x[i]);
    for (; n; p += 16, n -= 16)
        x[0] = crc_fold(x[0], one, crc_load(p));
    crc_store(last, x[0]);
    return crc_portable(k, 0, last, sizeof last);
}
#else
#define CRC_FAST_FROM SIZE_MAX
#define crc_fast      crc_portable /* cpu_has(CPU_CLMUL) is false here */
#endif

/* The register after n more bytes; before the first it is k->ones. */
static uint64_t
crc_add(struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    if (!k->t[0][1])
        crc_make(k);
    if (n >= CRC_FAST_FROM && cpu_has(CPU_CLMUL)) {
        v = crc_fast(k, v, p, n - n % 16);
        p += n - n % 16;
        n %= 16;
    }
    return crc_portable(k, v, p, n);
}

/* The checksum of A and B in one, from theirs and the length of B: A is moved on by
 * x^(8 length), in as many steps as the length has bits. */
static uint64_t
crc_join(const struct crc *k, uint64_t a, uint64_t b, uint64_t length)
{
    uint64_t by = (uint64_t)1 << 55; /* x^8: one byte, then two, four, eight */

    for (; length; length >>= 1) {
        if (length & 1)
            a = crc_times(k, a, by);
        by = crc_times(k, by, by);
    }
    return a ^ b;
}

/* The sums that stores know, behind one door. */
enum sum_kind { SUM_MD5, SUM_SHA256, SUM_CRC32, SUM_CRC32C, SUM_CRC64NVME, SUM_KINDS };

static const struct {
    const char *name; /* as in --checksum, and in x-amz-checksum-NAME */
    size_t size;      /* bytes of the result */
} sum_kinds[SUM_KINDS] = {{"md5", MD5_SIZE},
                          {"sha256", SHA256_SIZE},
                          {"crc32", 4},
                          {"crc32c", 4},
                          {"crc64nvme", 8}};

struct sum {
    enum sum_kind kind;
    uint32_t h[8];                 /* a digest's state after all whole blocks */
    uint64_t crc;                  /* a CRC's register */
    uint64_t n;                    /* bytes so far */
    unsigned char rest[SUM_BLOCK]; /* a digest's first n % 64 bytes of the next block */
};

static struct crc *
sum_crc(enum sum_kind kind)
{
    return kind >= SUM_CRC32 ? &crc_kinds[kind - SUM_CRC32] : NULL;
}

static void
sum_init(struct sum *s, enum sum_kind kind)
{
    static const uint32_t md5[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    /* The first 32 bits of the fractional parts of the square roots of eight primes. */
    static const uint32_t sha256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    *s = (struct sum){.kind = kind};
    if (kind == SUM_MD5)
        memcpy(s->h, md5, sizeof md5);
    else if (kind == SUM_SHA256)
        memcpy(s->h, sha256, sizeof sha256);
    else
        s->crc = sum_crc(kind)->ones;
}

static void
sum_blocks(struct sum *s, const unsigned char *p, size_t blocks)
{
    if (s->kind == SUM_MD5)
        md5_blocks(s->h, p, blocks);
    else
        sha256_blocks(s->h, p, blocks);
}

static void
sum_add(struct sum *s, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t have = s->n % SUM_BLOCK, take = SUM_BLOCK - have;

    if (!n)
        return; /* p may be NULL then */
    s->n += n;
    if (sum_crc(s->kind)) {
        s->crc = crc_add(sum_crc(s->kind), s->crc, p, n);
        return;
    }
    if (have) {
        take = take < n ? take : n;
        memcpy(s->rest + have, p, take);
        if (have + take < SUM_BLOCK)
            return;
        sum_blocks(s, s->rest, 1);
        p += take;
        n -= take;
    }
    sum_blocks(s, p, n / SUM_BLOCK);
    if (n % SUM_BLOCK)
        memcpy(s->rest, p + n / SUM_BLOCK * SUM_BLOCK, n % SUM_BLOCK);
}

/* Both digests end alike: a one bit, zeros, the length in bits; SHA-256 is big-endian,
 * MD5 little-endian. */
static void
sum_end_digest(struct sum *s, unsigned char *out)
{
    void (*store)(unsigned char *, uint32_t) =
        s->kind == SUM_MD5 ? sum_store32le : sum_store32be;
    size_t have = s->n % SUM_BLOCK;
    uint32_t high = (uint32_t)(s->n >> 29), low = (uint32_t)(s->n << 3);

    s->rest[have++] = 0x80;
    memset(s->rest + have, 0, SUM_BLOCK - have);
    if (have > SUM_BLOCK - 8) {
        sum_blocks(s, s->rest, 1);
        memset(s->rest, 0, SUM_BLOCK);
    }
    store(s->rest + 56, s->kind == SUM_MD5 ? low : high);
    store(s->rest + 60, s->kind == SUM_MD5 ? high : low);
    sum_blocks(s, s->rest, 1);
    for (size_t i = 0; i < sum_kinds[s->kind].size / 4; i++)
        store(out + 4 * i, s->h[i]);
}

/* Writes sum_kinds[kind].size bytes, and wipes the state: it may have seen a key. */
static void
sum_end(struct sum *s, unsigned char *out)
{
    const struct crc *k = sum_crc(s->kind);

    if (k) {
        s->crc ^= k->ones;
        if (k->ones > UINT32_MAX) {
            sum_store32be(out, (uint32_t)(s->crc >> 32));
            out += 4;
        }
        sum_store32be(out, (uint32_t)s->crc);
    } else {
        sum_end_digest(s, out);
    }
    explicit_bzero(s, sizeof *s);
}

static void
sha256_of(struct span s, unsigned char out[SHA256_SIZE])
{
    struct sum sum;

    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, s.p, s.n);
    sum_end(&sum, out);
}

/* HMAC-SHA256. out may be the key itself, as in a chain of keys. */
static void
hmac_of(const void *key, size_t n, struct span text, unsigned char out[SHA256_SIZE])
{
    unsigned char pad[SUM_BLOCK] = {0}, inner[SHA256_SIZE];
    struct sum sum;

    if (n > sizeof pad)
        sha256_of(span_at(key, n), pad);
    else if (n)
        memcpy(pad, key, n);
    for (unsigned i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad, sizeof pad);
    sum_add(&sum, text.p, text.n);
    sum_end(&sum, inner);
    for (unsigned i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad, sizeof pad);
    sum_add(&sum, inner, sizeof inner);
    sum_end(&sum, out);
    explicit_bzero(pad, sizeof pad);
    explicit_bzero(inner, sizeof inner);
}

/* ===== ROOM 3 system: the first failure, messages, clock, random, files, signals =====
 *
 * In: what the kernel says. Out: plain results, and a struct fail when there are none.
 * Owns the log level and the stop flag, the only variables that a signal or an option
 * changes. All that differs between kernels is here, behind one function each: Linux 3.2
 * is enough, newer calls are tried first.
 */

/* Why something did not work: the first reason, in words for a person. */
struct fail {
    enum s3up_exit code;  /* S3UP_OK while nothing failed */
    char text[FAIL_TEXT]; /* what, which one, why, and where known what to do */
};

/* Keeps the first failure; later ones are its consequences. Always returns -1, so that
 * `return fail_set(...)` says all. */
__attribute__((format(printf, 3, 4))) static int
fail_set(struct fail *f, enum s3up_exit code, const char *form, ...)
{
    va_list args;

    if (f->code != S3UP_OK)
        return -1;
    f->code = code;
    va_start(args, form);
    (void)vsnprintf(f->text, sizeof f->text, form,
                    args); /* a long one is cut, not lost */
    va_end(args);
    return -1;
}

/* What an errno means for the caller of the program. */
static enum s3up_exit
fail_exit(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return S3UP_MISSING;
    case EACCES:
    case EPERM:
    case EROFS:
        return S3UP_DENIED;
    case EEXIST:
        return S3UP_EXISTS;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return S3UP_USAGE;
    default:
        return S3UP_LATER; /* no space, no memory, no descriptor: may be gone tomorrow */
    }
}

/* For a system call that failed: doing what, to what, and errno's reason. */
static int
fail_sys(struct fail *f, const char *doing, const char *what)
{
    int error = errno;

    return fail_set(f, fail_exit(error), "cannot %s %s: %s", doing, what,
                    strerror(error));
}

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_DEBUG };

static enum log_level log_most = LOG_NOTE; /* -q lowers it, -v raises it */

/* Reads and writes below go on after a signal; a stop is seen by the loops above them. */
static bool
os_write(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n) {
        ssize_t did = write(fd, p, n);

        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0) {
            errno = did ? errno : ENOSPC;
            return false;
        }
        p += did;
        n -= (size_t)did;
    }
    return true;
}

/* One message is one line and one write. Control characters are shown, not sent: a file
 * name must not move the cursor of the terminal that it is reported on. */
__attribute__((format(printf, 2, 3))) static void
log_say(enum log_level level, const char *form, ...)
{
    static const char *const marks[] = {"error: ", "warning: ", "", ""};
    char raw[FAIL_TEXT + 256];
    struct buf line = buf_upto(8 * sizeof raw);
    va_list args;

    if (level > log_most)
        return;
    va_start(args, form);
    (void)vsnprintf(raw, sizeof raw, form, args);
    va_end(args);
    buf_str(&line, "s3up: ");
    buf_str(&line, marks[level]);
    for (const char *c = raw; *c; c++) {
        if ((unsigned char)*c >= ' ' && *c != 127) {
            buf_char(&line, *c);
            continue;
        }
        buf_str(&line, "\\x");
        hex_put(&line, c, 1);
    }
    buf_char(&line, '\n');
    if (!line.bad)
        (void)os_write(STDERR_FILENO, line.p, line.n); /* nobody left to tell */
    buf_free(&line);
}

static void
log_fail(const struct fail *f)
{
    log_say(LOG_ERROR, "%s", f->text);
}

/* A moment, to the nanosecond, as file systems note it. */
struct os_time {
    int64_t s;  /* seconds since 1970 */
    int32_t ns; /* 0 to 999,999,999 */
};

static struct os_time
os_now(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for a clock that exists */
    return (struct os_time){t.tv_sec, (int32_t)t.tv_nsec};
}

/* Milliseconds that only ever grow: for deadlines, which a corrected clock must not move. */
static int64_t
os_ticks(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Up to n bytes, fewer only at the end of the file; -1 on an error. From place `at`,
 * without moving the file's offset, since workers share it; or from the offset if at < 0. */
static ssize_t
os_read(int fd, void *data, size_t n, int64_t at)
{
    char *p = data;
    size_t have = 0;

    while (have < n) {
        ssize_t did = at < 0 ? read(fd, p + have, n - have)
                             : pread(fd, p + have, n - have, (off_t)(at + (int64_t)have));

        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            return -1;
        if (did == 0)
            break;
        have += (size_t)did;
    }
    return (ssize_t)have;
}

static int
os_open(const char *path, int flags, mode_t mode)
{
    int fd;

    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Bytes that nobody can guess, or false: never weaker ones. */
static bool
os_random(void *data, size_t n)
{
    char *p = data;
    ssize_t did;
    int fd;

    while (n && (did = getrandom(p, n, 0)) != 0) {
        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            break; /* ENOSYS: a kernel before 3.17 has the device only */
        p += did;
        n -= (size_t)did;
    }
    if (!n)
        return true;
    fd = os_open("/dev/urandom", O_RDONLY, 0);
    if (fd < 0)
        return false;
    did = os_read(fd, p, n, -1);
    (void)close(fd);
    return did == (ssize_t)n;
}

/* The whole of a small file, up to the buffer's ceiling. */
static int
os_slurp(const char *path, struct buf *out, struct fail *f)
{
    char piece[4096];
    ssize_t did = 0;
    int fd = os_open(path, O_RDONLY, 0);

    if (fd < 0)
        return fail_sys(f, "open", path);
    while (!out->bad && (did = os_read(fd, piece, sizeof piece, -1)) > 0)
        buf_add(out, piece, (size_t)did);
    if (did < 0)
        (void)fail_sys(f, "read", path);
    else if (out->bad)
        (void)fail_set(f, fail_exit(out->bad == E2BIG ? EINVAL : ENOMEM),
                       "cannot read %s: it is larger than %zu bytes, or memory ran out",
                       path, out->max);
    (void)close(fd); /* it was only read */
    explicit_bzero(piece, sizeof piece);
    return f->code == S3UP_OK ? 0 : -1;
}

/* Makes what a folder says about its files survive a power cut. */
static bool
os_sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    bool good;
    int fd;

    if (n >= sizeof folder) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(folder, n ? path : ".", n ? n : 1);
    folder[n ? n : 1] = 0;
    fd = os_open(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return false;
    good = fsync(fd) == 0 || errno == EINVAL; /* some network file systems cannot */
    (void)close(fd);
    return good;
}

/* Gives path new contents, all or nothing: readers see the old file or the new one, also
 * after a crash. The new one is made beside it under a name that nobody can foresee. */
static int
os_replace(const char *path, struct span data, mode_t mode, struct fail *f)
{
    unsigned char token[8];
    struct buf temp = buf_upto(PATH_MAX);
    int fd = -1, rc = -1;

    if (!os_random(token, sizeof token))
        return fail_sys(f, "get random bytes to write", path);
    buf_str(&temp, path);
    buf_char(&temp, '.');
    hex_put(&temp, token, sizeof token);
    if (temp.bad) {
        errno = temp.bad == E2BIG ? ENAMETOOLONG : ENOMEM;
        rc = fail_sys(f, "write", path);
        goto done;
    }
    fd = os_open(temp.p, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    if (fd < 0) {
        rc = fail_sys(f, "create", temp.p);
        goto done;
    }
    if (!os_write(fd, data.p, data.n) || fsync(fd) != 0 || rename(temp.p, path) != 0 ||
        !os_sync_folder(path)) {
        rc = fail_sys(f, "write", path);
        (void)unlink(temp.p); /* gone already if only the last step failed */
        goto done;
    }
    rc = 0;
done:
    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = fail_sys(f, "write", path);
    buf_free(&temp);
    return rc;
}

static volatile sig_atomic_t os_stop; /* 0, or the signal that asked us to stop */

static void
os_on_stop(int signal_number)
{
    os_stop = signal_number;
}

/* A stop is a flag that the loops look at. A reader that went away is an error of write,
 * not a death; both are for the program alone, never for one that embeds it. */
static void
os_signals(void)
{
    struct sigaction stop = {.sa_handler = os_on_stop}, ignore = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGINT, &stop, NULL); /* cannot fail for a signal that exists */
    (void)sigaction(SIGTERM, &stop, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

/* Waits, or returns early when asked to stop: the flag is looked at on both sides. */
static void
os_sleep(int milliseconds)
{
    int64_t left = milliseconds, until = os_ticks() + milliseconds;

    for (; !os_stop && left > 0; left = until - os_ticks())
        (void)poll(NULL, 0, (int)(left > 100 ? 100 : left));
}

/* A variable that is set and not empty. */
static const char *
os_env(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* ===== ROOM 4 forms: readers and writers of XML, JSON and INI =====
 *
 * In: a whole document in memory. Out: one event per call, with spans into it; nothing is
 * allocated per node, text is decoded on demand into a buffer of the caller's. Each reader
 * has a fixed depth, sees every byte a bounded number of times, and stops for good at the
 * first thing that is not its grammar: `why` then says what. Nothing is ever guessed,
 * except what real stores do wrong and every client forgives; those places say so.
 */

enum xml_event { XML_END, XML_ENTER, XML_LEAVE, XML_BAD };

/* Enter and leave is all there is. At leave, text holds the raw content of an element
 * that had no children: xml_text decodes it. */
struct xml {
    struct span rest;            /* not read yet */
    struct span open[XML_DEPTH]; /* names of the open elements, with their prefixes */
    unsigned depth;              /* how many are open; the event's own is the last */
    const char *from;            /* where the content of the innermost began */
    struct span text;            /* at leave: raw content; empty if there were children */
    bool parent;     /* the last event was a leave: whoever is left next has it */
    bool closing;    /* the last event's element ends with it: pop first */
    bool empty;      /* <a/>: a leave is due without anything being read */
    bool had_root;   /* there may be one only */
    const char *why; /* what made it XML_BAD */
};

static enum xml_event
xml_fail(struct xml *x, const char *why)
{
    if (!x->why)
        x->why = why;
    return XML_BAD;
}

static void
xml_init(struct xml *x, struct span document)
{
    *x = (struct xml){.rest = document};
    if (span_starts(document, "\xef\xbb\xbf")) /* a byte order mark */
        x->rest = span_after(document, 3);
    if (span_has(document, 0))
        (void)xml_fail(x, "a NUL byte");
}

static bool
xml_space(char c)
{
    return span_blank(c) || c == '\r' || c == '\n';
}

static bool
xml_name_char(char c)
{
    return c == ':' || (c != '~' && url_unreserved(c)) || (unsigned char)c >= 0x80;
}

/* Moves behind the first `mark`; false if there is none. */
static bool
xml_skip_to(struct span *s, const char *mark)
{
    const char *hit = s->n ? memmem(s->p, s->n, mark, strlen(mark)) : NULL;

    if (!hit)
        return false;
    *s = span_after(*s, (size_t)(hit - s->p) + strlen(mark));
    return true;
}

static struct span
xml_take_name(struct span *s)
{
    size_t n = 0;

    while (n < s->n && n <= XML_NAME && xml_name_char(s->p[n]))
        n++;
    struct span name = span_first(*s, n);

    *s = span_after(*s, n);
    return name;
}

/* Comments, processing instructions and CDATA may stand anywhere in an element. 1: there
 * was one, 0: there is something else, -1: it has no end, or must not be here. A document
 * type is refused: no store sends one, and entities defined in it are a known attack. */
static int
xml_skip_aside(struct xml *x)
{
    bool good;

    if (span_starts(x->rest, "<!--"))
        good = xml_skip_to(&x->rest, "<!--") && xml_skip_to(&x->rest, "-->");
    else if (span_starts(x->rest, "<?"))
        good = xml_skip_to(&x->rest, "<?") && xml_skip_to(&x->rest, "?>");
    else if (span_starts(x->rest, "<![CDATA[") && x->depth)
        good = xml_skip_to(&x->rest, "]]>");
    else if (span_starts(x->rest, "<!"))
        good = false;
    else
        return 0;
    if (!good)
        (void)xml_fail(x, "a comment, instruction or CDATA without end, or a DOCTYPE");
    return good ? 1 : -1;
}

/* <name attribute="value">: the rest points behind the <. Attributes are passed over; no
 * S3 reply says anything in one. */
static enum xml_event
xml_enter(struct xml *x)
{
    struct span name = xml_take_name(&x->rest);
    char quote = 0, last = 0;
    size_t n = 0;

    if (!name.n || name.n > XML_NAME || name.p[0] == '-' || name.p[0] == '.' ||
        (name.p[0] >= '0' && name.p[0] <= '9'))
        return xml_fail(x, "an element without a proper name");
    if (x->depth == XML_DEPTH)
        return xml_fail(x, "elements nested too deep");
    if (!x->depth && x->had_root)
        return xml_fail(x, "a second root element");
    for (; n < x->rest.n && (quote || x->rest.p[n] != '>'); n++) {
        char c = x->rest.p[n];

        if (c == '<')
            return xml_fail(x, "a < inside a tag");
        if (quote ? c == quote : c == '"' || c == '\'')
            quote = quote ? 0 : c;
        last = c;
    }
    if (n == x->rest.n)
        return xml_fail(x, "a tag without end");
    if (n && !xml_space(x->rest.p[0]) && x->rest.p[0] != '/')
        return xml_fail(x, "an element without a proper name");
    x->from = x->rest.p + n + 1;
    x->rest = span_at(x->from, x->rest.n - n - 1);
    x->open[x->depth++] = name;
    x->had_root = true;
    x->parent = false;
    x->empty = last == '/';
    return XML_ENTER;
}

/* </name>: the rest points behind the </. */
static enum xml_event
xml_leave(struct xml *x, const char *content_end)
{
    struct span name = xml_take_name(&x->rest);

    while (x->rest.n && xml_space(x->rest.p[0]))
        x->rest = span_after(x->rest, 1);
    if (!span_starts(x->rest, ">"))
        return xml_fail(x, "a tag without end");
    if (!x->depth || !span_eq(name, x->open[x->depth - 1]))
        return xml_fail(x, "an end tag for what is not open");
    x->rest = span_at(x->rest.p + 1, x->rest.n - 1);
    x->text = x->parent ? (struct span){NULL, 0}
                        : span_at(x->from, (size_t)(content_end - x->from));
    x->parent = x->closing = true;
    return XML_LEAVE;
}

static enum xml_event
xml_next(struct xml *x)
{
    if (x->why)
        return XML_BAD;
    if (x->closing) {
        x->depth--;
        x->closing = false;
    }
    if (x->empty) {
        x->empty = false;
        x->text = (struct span){NULL, 0};
        x->parent = x->closing = true;
        return XML_LEAVE;
    }
    for (;;) {
        const char *tag = x->rest.n ? memchr(x->rest.p, '<', x->rest.n) : NULL;
        size_t text = tag ? (size_t)(tag - x->rest.p) : x->rest.n;
        int aside;

        for (size_t i = 0; i < text && !x->depth; i++)
            if (!xml_space(x->rest.p[i]))
                return xml_fail(x, "text outside of the root element");
        if (!tag && x->depth)
            return xml_fail(x, "it is cut off inside an element");
        if (!tag)
            return x->had_root ? XML_END : xml_fail(x, "it has no element");
        x->rest = span_after(x->rest, text);
        aside = xml_skip_aside(x);
        if (aside < 0)
            return XML_BAD;
        if (aside)
            continue;
        x->rest = span_after(x->rest, 1);
        if (!span_starts(x->rest, "/"))
            return xml_enter(x);
        x->rest = span_after(x->rest, 1);
        return xml_leave(x, tag);
    }
}

/* Is the event's element the one at this path, as in "ListBucketResult/Contents/Key"?
 * Prefixes do not count: some stores put names into a namespace with one. */
static bool
xml_at(const struct xml *x, const char *path)
{
    struct span rest = span_of(path), want;

    for (unsigned i = 0; i < x->depth; i++) {
        struct span name = x->open[i], local = name;

        while (span_cut(&name, ':', &local))
            continue;
        if (!span_cut(&rest, '/', &want) || !span_eq(local, want))
            return false;
    }
    return rest.p == NULL;
}

/* One reference: s begins behind the &. Control characters are let through as bytes,
 * though XML 1.0 forbids them: AWS itself sends &#x1; for a key that has one. */
static bool
xml_reference(struct span *s, struct buf *out)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    const char *semicolon = memchr(s->p, ';', s->n < 12 ? s->n : 12);
    struct span name;
    uint32_t c = 0;

    if (!semicolon)
        return false;
    name = span_first(*s, (size_t)(semicolon - s->p));
    *s = span_after(*s, name.n + 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_is(name, names[i].name)) {
            buf_char(out, names[i].c);
            return true;
        }
    if (span_starts(name, "#x") && name.n > 2 && name.n <= 8) {
        for (size_t i = 2; i < name.n; i++) {
            if (hex_value(name.p[i]) < 0)
                return false;
            c = c << 4 | (uint32_t)hex_value(name.p[i]);
        }
    } else {
        uint64_t v;

        if (!span_starts(name, "#") || !num_parse(span_after(name, 1), 0x10ffff, &v))
            return false;
        c = (uint32_t)v;
    }
    return utf8_put(out, c);
}

/* Decodes raw content. Line ends stay as they are: a store that sends a raw CR inside of
 * a key means that CR. False for a reference that XML does not know. */
static bool
xml_text(struct span raw, struct buf *out)
{
    struct span s = raw;

    while (s.n) {
        size_t n = 0;

        while (n < s.n && s.p[n] != '&' && s.p[n] != '<')
            n++;
        buf_put(out, span_first(s, n));
        s = span_after(s, n);
        if (span_starts(s, "&")) {
            s = span_after(s, 1);
            if (!s.n || !xml_reference(&s, out))
                return false;
        } else if (span_starts(s, "<![CDATA[")) {
            struct span end = s = span_after(s, 9);

            if (!xml_skip_to(&end, "]]>"))
                return false;
            buf_put(out, span_first(s, s.n - end.n - 3));
            s = end;
        } else if (s.n) {
            bool comment = !span_starts(s, "<?");

            s = span_after(s, comment ? 4 : 2);
            if (!xml_skip_to(&s, comment ? "-->" : "?>"))
                return false;
        }
    }
    return !out->bad;
}

/* Escapes text. CR and LF too, since a reader is bound to turn CR into LF. */
static void
xml_put(struct buf *b, struct span s)
{
    static const char *const escapes[] = {"&&amp;", "<&lt;",   ">&gt;",  "\"&quot;",
                                          "'&#39;", "\r&#xD;", "\n&#xA;"};

    for (size_t i = 0; i < s.n; i++) {
        const char *escape = NULL;

        for (size_t e = 0; e < sizeof escapes / sizeof *escapes; e++)
            if (escapes[e][0] == s.p[i])
                escape = escapes[e] + 1;
        if (escape)
            buf_str(b, escape);
        else
            buf_char(b, s.p[i]);
    }
}

/* Whether XML 1.0 has a way to write these bytes at all. A list of keys to delete cannot
 * hold the others; they are deleted one at a time. */
static bool
xml_can_carry(struct span s)
{
    while (s.n) {
        size_t n = utf8_length(s);
        unsigned char c = (unsigned char)s.p[0];

        if (!n || (c < ' ' && !xml_space((char)c)))
            return false;
        if (n == 3 && !memcmp(s.p, "\xef\xbf", 2) && (unsigned char)s.p[2] >= 0xbe)
            return false; /* U+FFFE and U+FFFF */
        s = span_after(s, n);
    }
    return true;
}

enum json_event {
    JSON_END,
    JSON_OBJECT, /* { */
    JSON_LIST,   /* [ */
    JSON_CLOSE,  /* } or ] */
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_BAD
};

/* Strict RFC 8259. In an object, key is the raw name of the event's member. */
struct json {
    struct span rest;
    uint32_t objects; /* a stack of bits: 1 where the open container is an object */
    unsigned depth;   /* how many containers are open */
    bool first;       /* nothing stands in the innermost yet */
    bool had_root;
    struct span key;  /* raw, without the quotes; empty in lists and at the root */
    struct span text; /* raw, without the quotes, of a string or number */
    const char *why;
};

static void
json_init(struct json *j, struct span document)
{
    *j = (struct json){.rest = document};
}

static enum json_event
json_fail(struct json *j, const char *why)
{
    if (!j->why)
        j->why = why;
    return JSON_BAD;
}

static void
json_space(struct json *j)
{
    while (j->rest.n && xml_space(j->rest.p[0]))
        j->rest = span_after(j->rest, 1);
}

static bool
json_take(struct json *j, char c)
{
    json_space(j);
    if (!j->rest.n || j->rest.p[0] != c)
        return false;
    j->rest = span_after(j->rest, 1);
    return true;
}

/* \n, \u00e9 and so on at s: the value, and how long it is. -1 when it is none. Halves of
 * a surrogate pair come one at a time. */
static int32_t
json_escape(struct span s, size_t *length)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *hit = s.n > 1 && s.p[1] ? strchr(from, s.p[1]) : NULL;
    unsigned char hex[2];

    *length = 2;
    if (hit)
        return to[hit - from];
    if (s.n < 6 || s.p[1] != 'u' || !hex_read(span_at(s.p + 2, 4), hex, 2))
        return -1;
    *length = 6;
    return hex[0] << 8 | hex[1];
}

/* The raw string behind an opening quote; the closing one is taken too. */
static bool
json_string(struct json *j, struct span *raw)
{
    struct span s = j->rest;
    size_t n;

    for (; s.n && s.p[0] != '"'; s = span_after(s, n)) {
        n = utf8_length(s);
        if (!n || (unsigned char)s.p[0] < ' ' ||
            (s.p[0] == '\\' && json_escape(s, &n) < 0)) {
            (void)json_fail(j,
                            "a string with a control character, bad UTF-8 or bad escape");
            return false;
        }
    }
    if (!s.n) {
        (void)json_fail(j, "a string without end");
        return false;
    }
    *raw = span_first(j->rest, j->rest.n - s.n);
    j->rest = span_after(s, 1);
    return true;
}

static size_t
json_digits(struct span s, size_t at)
{
    size_t n = 0;

    while (at + n < s.n && s.p[at + n] >= '0' && s.p[at + n] <= '9')
        n++;
    return n;
}

/* -12.5e+3: the length of the number that s begins with, 0 when it is none. */
static size_t
json_number(struct span s)
{
    size_t n = span_starts(s, "-"), digits = json_digits(s, n);

    if (!digits || (digits > 1 && s.p[n] == '0'))
        return 0;
    n += digits;
    if (n < s.n && s.p[n] == '.') {
        digits = json_digits(s, n + 1);
        n = digits ? n + 1 + digits : 0;
    }
    if (n && n < s.n && (s.p[n] == 'e' || s.p[n] == 'E')) {
        size_t sign = n + 1 < s.n && (s.p[n + 1] == '+' || s.p[n + 1] == '-');

        digits = json_digits(s, n + 1 + sign);
        n = digits ? n + 1 + sign + digits : 0;
    }
    return n;
}

static enum json_event
json_open(struct json *j, bool object)
{
    if (j->depth == JSON_DEPTH)
        return json_fail(j, "containers nested too deep");
    j->objects = j->objects << 1 | object;
    j->depth++;
    j->first = true;
    return object ? JSON_OBJECT : JSON_LIST;
}

static enum json_event
json_value(struct json *j)
{
    static const struct {
        const char *word;
        enum json_event event;
    } words[] = {{"true", JSON_TRUE}, {"false", JSON_FALSE}, {"null", JSON_NULL}};
    size_t n;

    if (json_take(j, '{'))
        return json_open(j, true);
    if (json_take(j, '['))
        return json_open(j, false);
    if (json_take(j, '"'))
        return json_string(j, &j->text) ? JSON_STRING : JSON_BAD;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (span_starts(j->rest, words[i].word)) {
            j->rest = span_after(j->rest, strlen(words[i].word));
            return words[i].event;
        }
    n = json_number(j->rest);
    if (!n)
        return json_fail(j, "something that is no value");
    j->text = span_first(j->rest, n);
    j->rest = span_after(j->rest, n);
    return JSON_NUMBER;
}

static enum json_event
json_next(struct json *j)
{
    bool object = j->objects & 1, first = j->first;

    if (j->why)
        return JSON_BAD;
    j->first = false;
    j->key = j->text = (struct span){NULL, 0};
    if (!j->depth && j->had_root) {
        json_space(j);
        return j->rest.n ? json_fail(j, "something behind the end") : JSON_END;
    }
    if (!j->depth) {
        j->had_root = true;
        return json_value(j);
    }
    if (json_take(j, object ? '}' : ']')) {
        j->objects >>= 1;
        j->depth--;
        return JSON_CLOSE;
    }
    if (!first && !json_take(j, ','))
        return json_fail(j, "a missing comma, or it is cut off");
    if (object && !(json_take(j, '"') && json_string(j, &j->key) && json_take(j, ':')))
        return json_fail(j, "a member without a name");
    return json_value(j);
}

/* Passes over what json_next has just opened. */
static bool
json_skip(struct json *j)
{
    unsigned outside = j->depth - 1;

    while (j->depth > outside)
        if (json_next(j) == JSON_BAD)
            return false;
    return true;
}

/* Decodes a raw string. What json_put made of a byte that is not UTF-8 becomes that byte
 * again; any other half of a surrogate pair is refused. */
static bool
json_text(struct span raw, struct buf *out)
{
    size_t n, more;

    for (struct span s = raw; s.n; s = span_after(s, n)) {
        int32_t c, low;

        n = 1;
        if (s.p[0] != '\\') {
            buf_char(out, s.p[0]);
            continue;
        }
        c = json_escape(s, &n);
        if (c >= 0xd800 && c < 0xdc00) {
            low = json_escape(span_after(s, n), &more);
            if (s.n <= n || s.p[n] != '\\' || low < 0xdc00 || low > 0xdfff)
                return false;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            n += more;
        }
        if (c >= 0xdc80 && c <= 0xdcff)
            buf_char(out, (char)(c - 0xdc00));
        else if (c < 0 || !utf8_put(out, (uint32_t)c))
            return false;
    }
    return !out->bad;
}

/* A JSON string. Bytes that are not UTF-8 become halves of surrogate pairs, U+DC80 to
 * U+DCFF, the way Python reads and writes such file names: nothing is lost. */
static void
json_put(struct buf *b, struct span s)
{
    size_t n;

    buf_char(b, '"');
    for (; s.n; s = span_after(s, n)) {
        unsigned char c = (unsigned char)s.p[0];

        n = utf8_length(s);
        if (n && c >= ' ' && c != '"' && c != '\\' && c != 127) {
            buf_put(b, span_first(s, n));
            continue;
        }
        buf_str(b, n ? "\\u00" : "\\udc");
        hex_put(b, &c, 1);
        n = 1;
    }
    buf_char(b, '"');
}

/* Writes a member's name, and the comma before it where one is due. */
static void
json_key(struct buf *b, const char *name)
{
    if (b->n && b->p[b->n - 1] != '{')
        buf_char(b, ',');
    json_put(b, span_of(name));
    buf_char(b, ':');
}

enum ini_event {
    INI_END,
    INI_SECTION, /* [kind name] */
    INI_PAIR,    /* key = value */
    INI_MORE,    /* an indented line that goes on with the value of the pair before it */
    INI_SUB,     /* an indented key = value below a pair whose value was empty */
    INI_BAD
};

/* The grammar of the shared AWS files. Names that are not valid come out empty, so that
 * they match nothing; what belongs to them is reported all the same and ignored with them. */
struct ini {
    struct span rest;
    unsigned line;      /* of the event, from 1 */
    struct span kind;   /* "profile" in [profile a]; empty in [a] */
    struct span name;   /* the section's */
    struct span parent; /* the last pair's key: what an INI_SUB stands below */
    struct span key;
    struct span value; /* of a pair or sub pair; at INI_MORE the line that goes on */
    bool in_section;
    bool in_pair;  /* an indented line has something to go on with */
    bool is_block; /* the last pair had no value: it may head a block of sub pairs */
    const char *why;
};

static void
ini_init(struct ini *i, struct span document)
{
    *i = (struct ini){.rest = document};
    if (span_starts(document, "\xef\xbb\xbf"))
        i->rest = span_after(document, 3);
}

static enum ini_event
ini_fail(struct ini *i, const char *why)
{
    if (!i->why)
        i->why = why;
    return INI_BAD;
}

static bool
ini_is_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '~' ||
            (!url_unreserved(s.p[i]) && (!s.p[i] || !strchr("/%@:+", s.p[i]))))
            return false;
    return s.n > 0;
}

/* [kind name], or [name]. A comment begins anywhere, even before the bracket; what stands
 * behind the bracket is not looked at. Quotes around a name are an old habit of users. */
static enum ini_event
ini_section(struct ini *i, struct span line)
{
    struct span inner, word;

    for (size_t n = 0; n < line.n; n++)
        if (line.p[n] == '#' || line.p[n] == ';')
            line.n = n;
    if (!span_has(line, ']'))
        return ini_fail(i, "a section without its ]");
    line = span_after(line, 1);
    span_cut(&line, ']', &inner);
    inner = span_trim(inner);
    i->kind = (struct span){NULL, 0};
    for (size_t n = 0; n < inner.n && !i->kind.n; n++)
        if (span_blank(inner.p[n])) {
            i->kind = span_first(inner, n);
            inner = span_trim(span_after(inner, n));
        }
    if (inner.n > 2 && inner.p[0] == '"' && inner.p[inner.n - 1] == '"') {
        word = span_at(inner.p + 1, inner.n - 2);
        i->name = span_has(word, '"') ? (struct span){NULL, 0} : word;
    } else {
        i->name = ini_is_name(inner) ? inner : (struct span){NULL, 0};
    }
    i->in_section = true;
    i->in_pair = false;
    return INI_SECTION;
}

/* Splits key = value; false if there is no =. A key that is none comes out empty. */
static bool
ini_split(struct ini *i, struct span line)
{
    if (!span_has(line, '='))
        return false;
    i->value = line;
    span_cut(&i->value, '=', &i->key);
    i->key = span_trim(i->key);
    i->value = span_trim(i->value);
    if (!ini_is_name(i->key))
        i->key = (struct span){NULL, 0};
    return true;
}

static enum ini_event
ini_pair(struct ini *i, struct span line)
{
    if (!i->in_section)
        return ini_fail(i, "a setting before the first [section]");
    for (size_t n = 1; n < line.n; n++) /* a comment begins behind a blank only */
        if ((line.p[n] == '#' || line.p[n] == ';') && span_blank(line.p[n - 1]))
            line.n = n;
    if (!ini_split(i, line))
        return ini_fail(i, "a line that is neither [section] nor key = value");
    i->parent = i->key;
    i->in_pair = true;
    i->is_block = i->value.n == 0;
    return INI_PAIR;
}

static enum ini_event
ini_indented(struct ini *i, struct span line)
{
    if (!i->in_pair)
        return ini_fail(i, "an indented line with nothing to go on from");
    if (i->is_block)
        return ini_split(i, line) ? INI_SUB : ini_fail(i, "a line without = in a block");
    i->value = span_trim(line);
    return INI_MORE;
}

static enum ini_event
ini_next(struct ini *i)
{
    struct span line, words;

    if (i->why)
        return INI_BAD;
    while (span_cut(&i->rest, '\n', &line)) {
        i->line++;
        while (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        words = span_trim(line);
        if (!words.n || words.p[0] == '#' || words.p[0] == ';')
            continue;
        if (span_has(line, 0))
            return ini_fail(i, "a NUL byte");
        if (span_blank(line.p[0]))
            return ini_indented(i, line);
        return line.p[0] == '[' ? ini_section(i, line) : ini_pair(i, line);
    }
    return INI_END;
}

/* ===== ROOM 8 http: requests =====
 *
 * In: names and values from the rooms above. Out: a struct request, plain data that the
 * signature and the wire both read, so that what is signed is what is sent. It lives in one
 * block of memory that never moves. Refuses what could break out of its line: a CR, LF or
 * NUL in a field marks the request bad, and a bad one is never sent.
 */

/* A header field, or a parameter of the query. */
struct field {
    struct span name;  /* a header's in lower case, a parameter's percent-encoded */
    struct span value; /* a header's as it is sent, a parameter's percent-encoded */
};

struct fields {
    struct field at[REQ_FIELDS];
    unsigned n;
    unsigned own; /* how many the caller put there; the signature's follow */
};

struct request {
    const char *method;
    struct span path; /* percent-encoded, as it is sent */
    struct fields head, query;
    bool is_signed;
    bool bad;    /* it did not fit, or a field was malformed */
    size_t used; /* bytes of text */
    size_t own;  /* of these, what the caller put there */
    char text[REQ_TEXT];
};

/* Copies s into the request; fields live as long as it does. */
static struct span
http_keep(struct request *r, struct span s)
{
    char *at = r->text + r->used;

    if (s.n > sizeof r->text - r->used)
        r->bad = true;
    for (size_t i = 0; i < s.n; i++)
        r->bad |= s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == 0;
    if (r->bad)
        return (struct span){NULL, 0};
    if (s.n)
        memcpy(at, s.p, s.n);
    r->used += s.n;
    return span_at(at, s.n);
}

static void
http_add(struct request *r, struct fields *to, struct span name, struct span value)
{
    if (to->n == REQ_FIELDS)
        r->bad = true;
    if (r->bad)
        return;
    to->at[to->n].name = http_keep(r, name);
    to->at[to->n++].value = http_keep(r, value);
}

/* name is in lower case: so the signature wants it, and no server minds. */
static void
http_header(struct request *r, const char *name, struct span value)
{
    http_add(r, &r->head, span_of(name), value);
}

/* A parameter of the query, of any bytes. One without a value is sent as name=, which is
 * how it is signed. */
static void
http_query(struct request *r, const char *name, struct span value)
{
    struct buf n = buf_upto(REQ_TEXT), v = buf_upto(REQ_TEXT);

    url_put(&n, span_of(name), "");
    url_put(&v, value, "");
    r->bad |= n.bad || v.bad;
    http_add(r, &r->query, buf_span(&n), buf_span(&v));
    buf_free(&n);
    buf_free(&v);
}

/* path is percent-encoded already; host is as it stands in the Host header. */
static void
http_begin(struct request *r, const char *method, struct span host, struct span path)
{
    r->method = method;
    r->head.n = r->query.n = 0;
    r->used = 0;
    r->is_signed = r->bad = false;
    r->path = http_keep(r, path);
    http_header(r, "host", host);
}

/* Marks what is there as the caller's; or, on a later attempt, drops what the signature
 * before it had added, since every attempt is signed afresh. */
static void
http_unsign(struct request *r)
{
    if (r->is_signed) {
        r->head.n = r->head.own;
        r->query.n = r->query.own;
        r->used = r->own;
    }
    r->head.own = r->head.n;
    r->query.own = r->query.n;
    r->own = r->used;
    r->is_signed = true;
}

/* The numbers of the fields in the order of their names, of their values where those
 * are equal and by_value is asked, and else as they came. */
static void
http_sort(const struct fields *f, bool by_value, unsigned char numbers[REQ_FIELDS])
{
    for (unsigned i = 0; i < f->n; i++) {
        unsigned to = i;

        for (; to; to--) {
            const struct field *before = &f->at[numbers[to - 1]];
            int order = span_cmp(before->name, f->at[i].name);

            if (order == 0 && by_value)
                order = span_cmp(before->value, f->at[i].value);
            if (order <= 0)
                break;
            numbers[to] = numbers[to - 1];
        }
        numbers[to] = (unsigned char)i;
    }
}

/* The query as it is signed, and sent: sorted by what is encoded. */
static void
http_put_query(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];

    http_sort(&r->query, true, order);
    for (unsigned i = 0; i < r->query.n; i++) {
        const struct field *f = &r->query.at[order[i]];

        if (i)
            buf_char(out, '&');
        buf_put(out, f->name);
        buf_char(out, '=');
        buf_put(out, f->value);
    }
}

/* ===== ROOM 9 signature: AWS Signature Version 4; pure =====
 *
 * In: a request, keys, a scope, the time. Out: the same request with the header fields or
 * the parameters that prove who sent it, or the signature of a form's policy. No clock, no
 * I/O, no state: the same input gives the same output, so published examples can be held
 * against it. The steps have the names that the specification gives them. All header
 * fields are signed but those that proxies change on the way.
 */

/* Who signs, for which service and place, when. */
struct signer {
    struct span id, secret, token; /* token is empty for keys that do not expire */
    struct span region, service;   /* "us-east-1", "s3" */
    int64_t now;                   /* by the store's clock */
    bool s3; /* S3 signs the path as it is sent; all other services tidy it up, encode it
              * once more, and do not ask for the header x-amz-content-sha256 */
};

#define SIG_HEX   (2 * SHA256_SIZE + 1) /* a digest in hex, and a NUL */
#define SIG_STAMP 17                    /* 20130524T000000Z and a NUL */

/* What stands for the digest of a body that is not signed: only over TLS, or in a URL. */
#define SIG_UNSIGNED "UNSIGNED-PAYLOAD"

static void
sig_hex(const unsigned char digest[SHA256_SIZE], char out[SIG_HEX])
{
    for (unsigned i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[2 * SHA256_SIZE] = 0;
}

/* What a proxy or server may alter or strip without doing wrong. */
static bool
sig_skips(struct span name)
{
    static const char *const never[] = {"authorization",
                                        "connection",
                                        "expect",
                                        "keep-alive",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "te",
                                        "trailer",
                                        "upgrade",
                                        "transfer-encoding",
                                        "proxy-connection",
                                        "user-agent",
                                        "x-amzn-trace-id"};

    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (span_is(name, never[i]))
            return true;
    return false;
}

/* 20130524/us-east-1/s3/aws4_request */
static void
sig_put_scope(const struct signer *who, const char *stamp, struct buf *out)
{
    buf_add(out, stamp, 8);
    buf_char(out, '/');
    buf_put(out, who->region);
    buf_char(out, '/');
    buf_put(out, who->service);
    buf_str(out, "/aws4_request");
}

static void
sig_put_credential(const struct signer *who, const char *stamp, struct buf *out)
{
    buf_put(out, who->id);
    buf_char(out, '/');
    sig_put_scope(who, stamp, out);
}

/* host;x-amz-date;... */
static void
sig_put_names(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];
    struct span last = {NULL, 0};

    http_sort(&r->head, false, order);
    for (unsigned i = 0; i < r->head.n; i++) {
        struct span name = r->head.at[order[i]].name;

        if (sig_skips(name) || span_eq(name, last))
            continue;
        if (last.n)
            buf_char(out, ';');
        buf_put(out, name);
        last = name;
    }
}

/* A value without its outer blanks, and with one blank for each run of them inside. */
static void
sig_put_value(struct span value, struct buf *out)
{
    value = span_trim(value);
    for (size_t i = 0; i < value.n; i++)
        if (!span_blank(value.p[i]))
            buf_char(out, value.p[i]);
        else if (!span_blank(value.p[i - 1])) /* there is one: the first is no blank */
            buf_char(out, ' ');
}

static void
sig_put_headers(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];
    struct span last = {NULL, 0};

    http_sort(&r->head, false, order);
    for (unsigned i = 0; i < r->head.n; i++) {
        const struct field *f = &r->head.at[order[i]];

        if (sig_skips(f->name))
            continue;
        if (span_eq(f->name, last)) {
            buf_char(out, ',');
        } else {
            if (last.n)
                buf_char(out, '\n');
            buf_put(out, f->name);
            buf_char(out, ':');
        }
        sig_put_value(f->value, out);
        last = f->name;
    }
    buf_char(out, '\n');
}

/* The path as services other than S3 sign it: no empty segments, no . and no .., and
 * encoded once more. */
static void
sig_put_tidy_path(struct span path, struct buf *out)
{
    bool folder = path.n && path.p[path.n - 1] == '/';
    struct buf tidy = buf_upto(REQ_TEXT);
    struct span segment;

    while (span_cut(&path, '/', &segment)) {
        if (!segment.n || span_is(segment, "."))
            continue;
        if (span_is(segment, "..")) {
            while (tidy.n && tidy.p[--tidy.n] != '/')
                continue;
            continue;
        }
        buf_char(&tidy, '/');
        buf_put(&tidy, segment);
    }
    if (folder || !tidy.n)
        buf_char(&tidy, '/');
    if (tidy.bad)
        out->bad = tidy.bad;
    url_put(out, buf_span(&tidy), "/");
    buf_free(&tidy);
}

static void
sig_put_canonical(const struct request *r, const struct signer *who, const char *payload,
                  struct buf *out)
{
    buf_str(out, r->method);
    buf_char(out, '\n');
    if (who->s3)
        buf_put(out, r->path);
    else
        sig_put_tidy_path(r->path, out);
    buf_char(out, '\n');
    http_put_query(r, out);
    buf_char(out, '\n');
    sig_put_headers(r, out);
    buf_char(out, '\n');
    sig_put_names(r, out);
    buf_char(out, '\n');
    buf_str(out, payload);
}

/* The key of a day, a region and a service: secret -> date -> region -> service -> end. */
static bool
sig_key(const struct signer *who, const char *stamp, unsigned char key[SHA256_SIZE])
{
    struct buf first = buf_upto(REQ_TEXT);
    bool good;

    buf_str(&first, "AWS4");
    buf_put(&first, who->secret);
    good = !first.bad;
    hmac_of(buf_span(&first).p, buf_span(&first).n, span_at(stamp, 8), key);
    hmac_of(key, SHA256_SIZE, who->region, key);
    hmac_of(key, SHA256_SIZE, who->service, key);
    hmac_of(key, SHA256_SIZE, SPAN("aws4_request"), key);
    buf_free(&first);
    return good;
}

static bool
sig_sign(const struct signer *who, const char *stamp, struct span text, char out[SIG_HEX])
{
    unsigned char key[SHA256_SIZE], mac[SHA256_SIZE];
    bool good = sig_key(who, stamp, key);

    hmac_of(key, sizeof key, text, mac);
    sig_hex(mac, out);
    explicit_bzero(key, sizeof key);
    return good;
}

/* The signature of the request as it stands; its date is stamp. */
static void
sig_request(struct request *r, const struct signer *who, const char *stamp,
            const char *payload, char out[SIG_HEX])
{
    struct buf canonical = buf_upto(4 * REQ_TEXT), text = buf_upto(REQ_TEXT);
    unsigned char digest[SHA256_SIZE];

    sig_put_canonical(r, who, payload, &canonical);
    sha256_of(buf_span(&canonical), digest);
    buf_str(&text, "AWS4-HMAC-SHA256\n");
    buf_str(&text, stamp);
    buf_char(&text, '\n');
    sig_put_scope(who, stamp, &text);
    buf_char(&text, '\n');
    hex_put(&text, digest, sizeof digest);
    r->bad |= !sig_sign(who, stamp, buf_span(&text), out) || canonical.bad || text.bad;
    buf_free(&canonical);
    buf_free(&text);
}

/* Signs with header fields. payload is the body's SHA-256 in hex, or SIG_UNSIGNED. False
 * when the request did not fit or is malformed; it must not be sent then. */
static bool
sig_headers(struct request *r, const struct signer *who, const char *payload)
{
    struct buf value = buf_upto(REQ_TEXT);
    char stamp[SIG_STAMP], signature[SIG_HEX];

    http_unsign(r);
    date_stamp(who->now, stamp);
    http_header(r, "x-amz-date", span_of(stamp));
    if (who->s3)
        http_header(r, "x-amz-content-sha256", span_of(payload));
    if (who->token.n)
        http_header(r, "x-amz-security-token", who->token);
    sig_request(r, who, stamp, payload, signature);
    buf_str(&value, "AWS4-HMAC-SHA256 Credential=");
    sig_put_credential(who, stamp, &value);
    buf_str(&value, ", SignedHeaders=");
    sig_put_names(r, &value);
    buf_str(&value, ", Signature=");
    buf_str(&value, signature);
    r->bad |= value.bad != 0;
    http_header(r, "authorization", buf_span(&value));
    buf_free(&value);
    return !r->bad;
}

/* Signs with parameters: the URL alone then gives the right to the request, for so many
 * seconds. Whoever uses it must send the header fields that stand in it as they are. */
static bool
sig_url(struct request *r, const struct signer *who, uint64_t seconds,
        const char *payload)
{
    struct buf value = buf_upto(REQ_TEXT);
    char stamp[SIG_STAMP], signature[SIG_HEX];

    http_unsign(r);
    date_stamp(who->now, stamp);
    http_query(r, "X-Amz-Algorithm", SPAN("AWS4-HMAC-SHA256"));
    sig_put_credential(who, stamp, &value);
    http_query(r, "X-Amz-Credential", buf_span(&value));
    http_query(r, "X-Amz-Date", span_of(stamp));
    r->bad |= value.bad != 0;
    buf_clear(&value);
    buf_num(&value, seconds);
    http_query(r, "X-Amz-Expires", buf_span(&value));
    if (who->token.n)
        http_query(r, "X-Amz-Security-Token", who->token);
    r->bad |= value.bad != 0;
    buf_clear(&value);
    sig_put_names(r, &value);
    http_query(r, "X-Amz-SignedHeaders", buf_span(&value));
    r->bad |= value.bad || !seconds || seconds > PRESIGN_MAX;
    buf_free(&value);
    sig_request(r, who, stamp, payload, signature);
    http_query(r, "X-Amz-Signature", span_of(signature));
    return !r->bad;
}

/* Signs the policy of a form, a JSON text. out gets its base64, which is what is signed
 * and what the form carries in its field "policy". */
static bool
sig_policy(const struct signer *who, struct span policy, struct buf *out,
           char hex[SIG_HEX])
{
    char stamp[SIG_STAMP];

    date_stamp(who->now, stamp);
    b64_put(out, policy.p, policy.n);
    return sig_sign(who, stamp, buf_span(out), hex) && !out->bad;
}

/* ===== ROOM 17 command line: verbs, help, exit codes; main is last =====
 *
 * In: the words of the command line. Out: an exit code that tells the truth. One table
 * names the verbs; dispatch, help and suggestions come from it. To add a verb, write its
 * function and its line in cli_verbs.
 */

/* Data goes to stdout. Whether it arrived is known only after it was flushed. */
static int
cli_finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    log_say(LOG_ERROR, "cannot write to standard output: %s", strerror(errno));
    return code == S3UP_OK ? S3UP_SOME : code;
}

static int
cli_version(int argc, char **argv)
{
    if (argc > 1) {
        log_say(LOG_ERROR, "%s takes no arguments, but got \"%s\"", argv[0], argv[1]);
        return S3UP_USAGE;
    }
    printf("s3up %s (sha256: %s, crc: %s)\n", S3UP_VERSION,
           cpu_has(CPU_SHA) ? "hardware" : "portable",
           cpu_has(CPU_CLMUL) ? "hardware" : "portable");
    return cli_finish(S3UP_OK);
}

struct verb {
    const char *name, *args, *what; /* as help shows them */
    int (*run)(int argc,
               char **argv); /* argv[0] is the verb; NULL: it needs this table */
};

static const struct verb cli_verbs[] = {
    {"help", "[COMMAND]", "say what the commands do, or all about one", NULL},
    {"version", "", "print the version, and which sums run on CPU instructions",
     cli_version},
};

#define CLI_VERBS (sizeof cli_verbs / sizeof *cli_verbs)

/* How many letters must be changed, added or dropped to turn a into b. */
static unsigned
cli_distance(const char *a, const char *b)
{
    unsigned row[32], n = 0;

    for (; b[n] && n < 31; n++)
        row[n] = n;
    row[n] = n;
    for (unsigned i = 1; *a; a++, i++) {
        unsigned corner = row[0];

        row[0] = i;
        for (unsigned k = 1; k <= n; k++) {
            unsigned change = corner + (*a != b[k - 1]);

            corner = row[k];
            row[k] = row[k] < row[k - 1] ? row[k] + 1 : row[k - 1] + 1;
            row[k] = change < row[k] ? change : row[k];
        }
    }
    return row[n];
}

static const struct verb *
cli_find(const char *word)
{
    const struct verb *near = NULL;
    unsigned best = 3; /* more changes than two are another word */

    for (size_t i = 0; i < CLI_VERBS; i++) {
        unsigned far = cli_distance(word, cli_verbs[i].name);

        if (far == 0)
            return &cli_verbs[i];
        if (far < best && far < strlen(cli_verbs[i].name)) {
            best = far;
            near = &cli_verbs[i];
        }
    }
    if (near)
        log_say(LOG_ERROR, "there is no command \"%s\"; did you mean \"%s\"?", word,
                near->name);
    else
        log_say(LOG_ERROR, "there is no command \"%s\"; s3up help lists them", word);
    return NULL;
}

static void
cli_usage(FILE *to)
{
    fputs(
        "s3up moves files between this machine and any S3-compatible store, and always\n"
        "finishes: the same command, run again, completes the job.\n\n",
        to);
    for (size_t i = 0; i < CLI_VERBS; i++)
        fprintf(to, "  s3up %-8s%-12s%s\n", cli_verbs[i].name, cli_verbs[i].args,
                cli_verbs[i].what);
    fputs("\nExit codes:\n", to);
#define CLI_EXIT_LINE(name, number, text) fprintf(to, "  %3d  %s\n", number, text);
    S3UP_EXITS(CLI_EXIT_LINE)
#undef CLI_EXIT_LINE
}

static int
cli_help(int argc, char **argv)
{
    const struct verb *verb;

    if (argc > 2) {
        log_say(LOG_ERROR, "help takes one command, but got \"%s\" too", argv[2]);
        return S3UP_USAGE;
    }
    if (argc < 2) {
        cli_usage(stdout);
        return cli_finish(S3UP_OK);
    }
    verb = cli_find(argv[1]);
    if (!verb)
        return S3UP_USAGE;
    printf("s3up %s%s%s\n\n  %s\n", verb->name, *verb->args ? " " : "", verb->args,
           verb->what);
    return cli_finish(S3UP_OK);
}

/* Programs that embed s3up bring a main of their own. */
#ifdef S3UP_NO_MAIN
#define main s3up_main
int s3up_main(int argc, char **argv);
#endif

int
main(int argc, char **argv)
{
    const struct verb *verb;
    const char *word = argc > 1 ? argv[1] : "";

    os_signals();
    if (argc < 2) {
        cli_usage(stderr);
        return S3UP_USAGE;
    }
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        word = "help";
    else if (!strcmp(word, "--version") || !strcmp(word, "-V"))
        word = "version";
    verb = cli_find(word);
    if (!verb)
        return S3UP_USAGE;
    return verb->run ? verb->run(argc - 1, argv + 1) : cli_help(argc - 1, argv + 1);
}
