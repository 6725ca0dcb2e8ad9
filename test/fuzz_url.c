/*
 * fuzz_url.c: what must hold for the room of text, whatever the bytes: addresses, percent
 * and other encodings, numbers, dates, UTF-8, spans and buffers. The first byte of an input
 * says which claim the others are put to.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT("0https://s3.eu-west-1.amazonaws.com"),
    FUZZ_TEXT("0http://localhost:9000/base/path?x=1&y"),
    FUZZ_TEXT("0http://[::1]:9000/"),
    FUZZ_TEXT("0http://[fe80::1]"),
    FUZZ_TEXT("0http://[::1]:"),
    FUZZ_TEXT("0http://"),
    FUZZ_TEXT("0HTTPS://"),
    FUZZ_TEXT("0http://?"),
    FUZZ_TEXT("0http:///path"),
    FUZZ_TEXT("0http://user@host/"),
    FUZZ_TEXT("0http://host:065535"),
    FUZZ_TEXT("0http://host:65536"),
    FUZZ_TEXT("0http://host:0"),
    FUZZ_TEXT("0https://host:00443/"),
    FUZZ_TEXT("1s3://bucket/key/with/slashes and blanks"),
    FUZZ_TEXT("1s3://bucket"),
    FUZZ_TEXT("1s3:///"),
    FUZZ_TEXT("2a%20b%2fc+d%zz%"),
    FUZZ_TEXT("2\xc3\xa9~-._/\0\x7f"),
    FUZZ_TEXT("3"),
    FUZZ_TEXT("3Zg=="),
    FUZZ_TEXT("3Zm8="),
    FUZZ_TEXT("3Zm9v"),
    FUZZ_TEXT("3Zh=="),
    FUZZ_TEXT("4000fF0"),
    FUZZ_TEXT("518446744073709551615"),
    FUZZ_TEXT("518446744073709551616"),
    FUZZ_TEXT("516MiB"),
    FUZZ_TEXT("5008d"),
    FUZZ_TEXT("516777215T"),
    FUZZ_TEXT("62013-05-24T00:00:00.000Z"),
    FUZZ_TEXT("62024-02-29T23:59:60+00:00"),
    FUZZ_TEXT("62013-02-29T00:00:00Z"),
    FUZZ_TEXT("62100-02-29T00:00:00Z"),
    FUZZ_TEXT("62000-02-29T00:00:00.Z"),
    FUZZ_TEXT("6Fri,-24-May-2013-00:00:00 GMT"),
    FUZZ_TEXT("6Sat, 29 Feb 2014 00:00:00 GMT"),
    FUZZ_TEXT("6Fri, 24 May 2013 00:00:00 GMT"),
    FUZZ_TEXT("7\0\0\0\0\0\0\0\0"),
    FUZZ_TEXT("7\xff\xff\xff\xff\0\0\0\0"),
    FUZZ_TEXT("8\xc3\xa9\xed\xa0\x80\xf0\x9f\x98\x80"),
    FUZZ_TEXT("8\xed\xa0\x80"),
    FUZZ_TEXT("8\xed\x9f\xbf"),
    FUZZ_TEXT("8\xf4\x90\x80\x80"),
    FUZZ_TEXT("8\xf4\x8f\xbf\xbf"),
    FUZZ_TEXT("8\xe0\x9f\xbf"),
    FUZZ_TEXT("8\xf0\x8f\xbf\xbf"),
    FUZZ_TEXT("8\xc1\xbf"),
    FUZZ_TEXT("8\0\0\xd8\0"),
    FUZZ_TEXT("9a,b,,c,"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {
    FUZZ_TEXT("http://"), FUZZ_TEXT("https://"), FUZZ_TEXT("s3://"),
    FUZZ_TEXT("["),       FUZZ_TEXT("]"),        FUZZ_TEXT(":"),
    FUZZ_TEXT("/"),       FUZZ_TEXT("?"),        FUZZ_TEXT("@"),
    FUZZ_TEXT("#"),       FUZZ_TEXT(":80"),      FUZZ_TEXT("::1"),
    FUZZ_TEXT("%2F"),     FUZZ_TEXT("%"),        FUZZ_TEXT("+"),
    FUZZ_TEXT("=="),      FUZZ_TEXT("="),        FUZZ_TEXT("AAAA"),
    FUZZ_TEXT("KiB"),     FUZZ_TEXT("0"),        FUZZ_TEXT("9"),
    FUZZ_TEXT("-"),       FUZZ_TEXT("T"),        FUZZ_TEXT("Z"),
    FUZZ_TEXT(".000"),    FUZZ_TEXT(" GMT"),     FUZZ_TEXT("Feb"),
    FUZZ_TEXT("2100"),    FUZZ_TEXT("29"),       FUZZ_TEXT("host"),
    FUZZ_TEXT(","),       FUZZ_TEXT("\xc3\xa9"), FUZZ_END};

static bool
one_of(char c, const char *set)
{
    return c && strchr(set, c);
}

static bool
digits(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!one_of(s.p[i], "0123456789"))
            return false;
    return s.n != 0;
}

/* Digits as a number, compared as a text so that nothing can overflow here. */
static bool
number(struct span s, uint64_t max, uint64_t *v)
{
    char top[24];
    struct span limit;

    if (!digits(s))
        return false;
    while (s.n > 1 && s.p[0] == '0')
        s = span_at(s.p + 1, s.n - 1);
    snprintf(top, sizeof top, "%llu", (unsigned long long)max);
    limit = span_at(top, strlen(top));
    if (s.n > limit.n || (s.n == limit.n && memcmp(s.p, top, s.n) > 0))
        return false;
    *v = 0;
    for (size_t i = 0; i < s.n; i++)
        *v = *v * 10 + (uint64_t)(s.p[i] - '0');
    return true;
}

/* --- addresses --- */

static bool
good_host(struct span s, const char *set)
{
    for (size_t i = 0; i < s.n; i++)
        if (!one_of(s.p[i], set))
            return false;
    return s.n >= 1 && s.n <= 253;
}

/* Whether s is an address, as the head notes of room 1 have it. */
static bool
good_url(struct span s)
{
    static const char name[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    size_t from = 0, end, host;
    uint64_t v;

    if (s.n > 2048)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 33 || one_of(s.p[i], "\x7f#"))
            return false;
    if (s.n >= 8 && !strncasecmp(s.p, "https://", 8))
        from = 8;
    else if (s.n >= 7 && !strncasecmp(s.p, "http://", 7))
        from = 7;
    else
        return false;
    for (end = from; end < s.n && !one_of(s.p[end], "/?"); end++)
        if (s.p[end] == '@')
            return false;
    if (from < end && s.p[from] == '[') {
        for (host = ++from; host < end && s.p[host] != ']'; host++)
            continue;
        if (host == end ||
            !good_host(span_at(s.p + from, host - from), "0123456789abcdefABCDEF:."))
            return false;
        host++;
    } else {
        for (host = from; host < end && s.p[host] != ':'; host++)
            continue;
        if (!good_host(span_at(s.p + from, host - from), name))
            return false;
    }
    return host == end ||
           (s.p[host] == ':' &&
            number(span_at(s.p + host + 1, end - host - 1), 65535, &v) && v);
}

/* The spans of an address, laid side by side, are the address. */
static void
claim_url(struct span s)
{
    size_t at;
    struct url u;
    const char *why = url_parse(s, &u);

    MUST((why == NULL) == good_url(s));
    if (why) {
        MUST(*why);
        return;
    }
    at = u.https ? 8 : 7;
    if (u.literal6)
        MUST(s.p[at++] == '[');
    MUST(u.host.p == s.p + at && u.host.n && u.host.n <= s.n - at);
    at += u.host.n;
    if (u.literal6)
        MUST(s.p[at++] == ']');
    if (at < s.n && s.p[at] == ':') {
        size_t from = ++at;
        uint64_t v = 0;

        while (at < s.n && !one_of(s.p[at], "/?"))
            at++;
        MUST(number(span_at(s.p + from, at - from), 65535, &v) && v == u.port);
    } else {
        MUST(u.port == (u.https ? 443 : 80));
    }
    if (u.path.n) {
        MUST(u.path.p == s.p + at && u.path.p[0] == '/' && u.path.n <= s.n - at);
        MUST(!memchr(u.path.p, '?', u.path.n));
        at += u.path.n;
    }
    if (at < s.n) {
        MUST(s.p[at++] == '?');
        MUST(u.query.n == s.n - at && (!u.query.n || u.query.p == s.p + at));
        at += u.query.n;
    } else {
        MUST(!u.query.n);
    }
    MUST(at == s.n);
}

static void
claim_s3(struct span s)
{
    struct span bucket, key;
    const char *why = url_s3(s, &bucket, &key);
    size_t slash = 5;
    bool good = s.n > 5 && !memcmp(s.p, "s3://", 5) && s.p[5] != '/';

    while (slash < s.n && s.p[slash] != '/')
        slash++;
    good = good && (slash == s.n || s.n - slash - 1 <= 1024);
    for (size_t dots = 1; dots <= 2; dots++) /* . and .. mean something in a path */
        good = good && !(slash == 5 + dots && !memcmp(s.p + 5, "..", dots));
    MUST((why == NULL) == good);
    if (why)
        return;
    MUST(bucket.p == s.p + 5 && bucket.n == slash - 5);
    MUST(key.n == (slash < s.n ? s.n - slash - 1 : 0));
    MUST(!key.n || key.p == s.p + slash + 1);
}

/* --- encodings --- */

static void
claim_percent(struct span s)
{
    static const char *const keep[] = {"", "/", "/:"};
    struct buf out = buf_upto(3 * s.n), back = buf_upto(s.n), plain = buf_upto(s.n);
    bool good = true, same;
    size_t i, n;

    for (i = 0; i < sizeof keep / sizeof *keep; i++) {
        buf_clear(&out);
        buf_clear(&back);
        url_put(&out, s, keep[i]);
        for (n = 0; n < out.n; n++)
            MUST(out.p[n] == '%' || url_unreserved(out.p[n]) ||
                 one_of(out.p[n], keep[i]));
        MUST(url_read(buf_span(&out), false, &back) && span_eq(buf_span(&back), s));
    }
    for (i = 0; i < s.n; i++)
        good = good && (s.p[i] != '%' ||
                        (i + 2 < s.n && one_of(s.p[i + 1], "0123456789abcdefABCDEF") &&
                         one_of(s.p[i + 2], "0123456789abcdefABCDEF")));
    MUST(url_read(s, false, &plain) == good);
    buf_clear(&back);
    same = url_read(s, true, &back);
    MUST(same == good);
    for (i = 0; good && i < plain.n; i++)
        MUST(plain.p[i] == back.p[i] || (plain.p[i] == '+' && back.p[i] == ' '));
    buf_free(&out);
    buf_free(&back);
    buf_free(&plain);
}

/* Strict base64 has one spelling for each value: what is read is written the same. */
static void
claim_b64(struct span s)
{
    struct buf out = buf_upto(4 * (s.n / 3 + 1)), back = buf_upto(s.n),
               again = buf_upto(s.n);
    struct buf plain = buf_upto(s.n);

    b64_put(&out, s.p, s.n);
    MUST(out.n == (s.n + 2) / 3 * 4);
    MUST(b64_read(buf_span(&out), &back) && span_eq(buf_span(&back), s));
    if (b64_read(s, &plain)) {
        b64_put(&again, plain.p, plain.n);
        MUST(span_eq(buf_span(&again), s));
    }
    buf_free(&out);
    buf_free(&back);
    buf_free(&again);
    buf_free(&plain);
}

static void
claim_hex(struct span s)
{
    struct buf out = buf_upto(2 * s.n);
    unsigned char *back = malloc(s.n + 1);
    bool good = s.n % 2 == 0;

    if (!back)
        abort();
    hex_put(&out, s.p, s.n);
    MUST(out.n == 2 * s.n && hex_read(buf_span(&out), back, s.n));
    MUST(!s.n || !memcmp(back, s.p, s.n));
    MUST(!hex_read(buf_span(&out), back, s.n + 1));
    for (size_t i = 0; i < s.n; i++)
        good = good && one_of(s.p[i], "0123456789abcdefABCDEF");
    MUST(hex_read(s, back, s.n / 2) == good);
    if (good) {
        buf_clear(&out);
        hex_put(&out, back, s.n / 2);
        for (size_t i = 0; i < s.n; i++)
            MUST(out.p[i] == span_lower(s.p[i]));
    }
    free(back);
    buf_free(&out);
}

/* --- numbers --- */

/* n digits and a unit of them, if any; *unit is its weight. */
static bool
scaled(struct span s, bool size, uint64_t *v)
{
    static const uint64_t ages[] = {1, 60, 3600, 86400};
    const char *letters = size ? "kmgtKMGT" : "smhd", *hit;
    uint64_t weight = 1;
    size_t end = s.n;

    if (size && end >= 3 && one_of(s.p[end - 1], "bB")) {
        end -= s.p[end - 2] == 'i' ? 2 : 1;
        if (!end || !one_of(s.p[end - 1], letters))
            return false;
    }
    if (end && one_of(s.p[end - 1], letters)) {
        hit = strchr(letters, s.p[end - 1]);
        weight =
            size ? (uint64_t)1 << (10 * ((hit - letters) % 4 + 1)) : ages[hit - letters];
        end--;
    }
    if (!number(span_at(s.p, end), UINT64_MAX / weight, v))
        return false;
    *v *= weight;
    return true;
}

static void
claim_numbers(struct span s)
{
    static const uint64_t max[] = {0,         9, 255, 65535, 4294967295u, UINT64_MAX - 1,
                                   UINT64_MAX};
    struct buf out = buf_upto(20);
    uint64_t v, want;

    for (size_t i = 0; i < sizeof max / sizeof *max; i++) {
        bool good = number(s, max[i], &want);

        MUST(num_parse(s, max[i], &v) == good);
        MUST(!good || v == want);
    }
    if (number(s, UINT64_MAX, &want)) {
        buf_num(&out, want);
        MUST(num_parse(buf_span(&out), UINT64_MAX, &v) && v == want);
    }
    for (int size = 0; size < 2; size++) {
        bool good = scaled(s, size, &want);

        MUST((size ? num_size(s, &v) : num_age(s, &v)) == good);
        MUST(!good || v == want);
    }
    buf_free(&out);
}

/* --- dates --- */

static unsigned
two(struct span s, size_t at)
{
    return (unsigned)(s.p[at] - '0') * 10 + (unsigned)(s.p[at + 1] - '0');
}

/* Is s written as in the pattern, where 0 stands for a digit? */
static bool
looks(struct span s, const char *pattern)
{
    if (s.n < strlen(pattern))
        return false;
    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == '0' ? !one_of(s.p[i], "0123456789")
                              : pattern[i] != '*' && s.p[i] != pattern[i])
            return false;
    return true;
}

static bool
good_date(struct tm *tm)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    int year = tm->tm_year + 1900;

    if (tm->tm_mon == 1 && tm->tm_mday == 29 &&
        (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
        return false;
    return tm->tm_mon >= 0 && tm->tm_mon < 12 && tm->tm_mday >= 1 &&
           tm->tm_mday <= days[tm->tm_mon] && tm->tm_hour < 24 && tm->tm_min < 60 &&
           tm->tm_sec <= 60;
}

static void
claim_date_text(struct span s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = {.tm_mon = -1};
    int64_t t = 0;
    size_t at = 19;
    bool good = looks(s, "0000-00-00T00:00:00");

    if (good) {
        tm = (struct tm){.tm_year = (int)(two(s, 0) * 100 + two(s, 2)) - 1900,
                         .tm_mon = (int)two(s, 5) - 1,
                         .tm_mday = (int)two(s, 8),
                         .tm_hour = (int)two(s, 11),
                         .tm_min = (int)two(s, 14),
                         .tm_sec = (int)two(s, 17)};
        if (s.n - at > 1 && s.p[at] == '.' && one_of(s.p[at + 1], "0123456789"))
            for (at++; at < s.n && one_of(s.p[at], "0123456789"); at++)
                continue;
        good = good_date(&tm) && ((s.n - at == 1 && s.p[at] == 'Z') ||
                                  (s.n - at == 6 && !memcmp(s.p + at, "+00:00", 6)));
    }
    MUST(date_iso(s, &t) == good);
    MUST(!good || t == timegm(&tm));
    good = s.n == 29 && looks(s, "***, 00 *** 0000 00:00:00 GMT");
    if (good) {
        tm = (struct tm){.tm_year = (int)(two(s, 12) * 100 + two(s, 14)) - 1900,
                         .tm_mon = -1,
                         .tm_mday = (int)two(s, 5),
                         .tm_hour = (int)two(s, 17),
                         .tm_min = (int)two(s, 20),
                         .tm_sec = (int)two(s, 23)};
        for (int i = 0; i < 12; i++)
            if (!memcmp(months + 3 * i, s.p + 8, 3))
                tm.tm_mon = i;
        good = good_date(&tm);
    }
    MUST(date_http(s, &t) == good);
    MUST(!good || t == timegm(&tm));
}

/* A moment, against the C library's calendar; within reach also as a text. */
static void
claim_moment(struct span s)
{
    uint64_t bits = 0;
    int64_t t, back;
    struct date d;
    struct tm tm;
    time_t c;
    char text[64], stamp[17];

    for (size_t i = 0; i < s.n && i < 8; i++)
        bits = bits << 8 | (unsigned char)s.p[i];
    t = (int64_t)(bits >> 9) * (bits & 1 ? -1 : 1); /* years fit into an int */
    d = date_of(t);
    MUST(date_time(d, &back) && back == t);
    c = (time_t)t;
    if (c == t && gmtime_r(&c, &tm))
        MUST(d.year == (int64_t)tm.tm_year + 1900 && d.month == (unsigned)tm.tm_mon + 1 &&
             d.day == (unsigned)tm.tm_mday && d.hour == (unsigned)tm.tm_hour &&
             d.minute == (unsigned)tm.tm_min && d.second == (unsigned)tm.tm_sec);
    date_stamp(t, stamp);
    MUST(looks(span_of(stamp), "00000000T000000Z") && strlen(stamp) == 16);
    if (d.year < 1970 || d.year > 9999 || c != t)
        return;
    strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &tm);
    MUST(!strcmp(text, stamp));
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    MUST(date_iso(span_of(text), &back) && back == t);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    MUST(date_http(span_of(text), &back) && back == t);
}

/* --- UTF-8, spans, buffers --- */

static void
claim_utf8(struct span s)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s.p;
    struct buf out = buf_upto(4);
    uint32_t c;
    size_t n;

    if (!s.n) {
        MUST(utf8_length(s) == 0);
        return;
    }
    n = p[0] < 0x80       ? 1
        : p[0] >> 5 == 6  ? 2
        : p[0] >> 4 == 14 ? 3
        : p[0] >> 3 == 30 ? 4
                          : 0;
    c = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n && i < s.n; i++) {
        c = c << 6 | (p[i] & 63u);
        if (p[i] >> 6 != 2)
            n = 0;
    }
    if (!n || n > s.n || c < least[n] || c > 0x10ffff || c >> 11 == 27) {
        MUST(utf8_length(s) == 0);
    } else {
        MUST(utf8_length(s) == n);
        MUST(utf8_put(&out, c) && span_eq(buf_span(&out), span_at(s.p, n)));
    }
    buf_clear(&out);
    c = s.n < 4
            ? p[0]
            : (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    c = p[0] % 2 ? c : c & 0x1fffff;
    if (utf8_put(&out, c))
        MUST(c <= 0x10ffff && c >> 11 != 27 && utf8_length(buf_span(&out)) == out.n);
    else
        MUST((c > 0x10ffff || c >> 11 == 27) && !out.n);
    buf_free(&out);
}

/* Words laid side by side, with what they were cut at between them, are the whole. */
static void
claim_spans(struct span s)
{
    char at = s.n ? s.p[0] : ',';
    size_t max = s.n > 1 ? (unsigned char)s.p[1] : 0, words = 0, seen = 0;
    struct span rest = s, word, t = span_trim(s);
    struct buf joined = buf_upto(s.n), low = buf_upto(max);

    while (span_cut(&rest, at, &word)) {
        MUST(fuzz_within(word, s) && !span_has(word, at));
        if (words++)
            buf_char(&joined, at);
        buf_put(&joined, word);
        buf_put(&low, word);
        seen += word.n;
        /* A buffer that was full once stays so, whatever comes. */
        MUST(low.bad ? seen > max : low.n == seen);
        MUST(low.n <= max && (!low.p || low.p[low.n] == 0));
    }
    MUST(words >= 1 && span_eq(buf_span(&joined), s));
    MUST(fuzz_within(t, s) &&
         (!t.n || (!span_blank(t.p[0]) && !span_blank(t.p[t.n - 1]))));
    for (size_t i = 0; i < 9; i++) {
        size_t n = s.n * i / 8;
        struct span a = span_first(s, n), b = span_after(s, n);
        int order = n && b.n ? memcmp(a.p, b.p, n < b.n ? n : b.n) : 0;

        MUST(a.n + b.n == (n > s.n ? s.n : a.n + b.n) && fuzz_within(a, s) &&
             fuzz_within(b, s));
        order = order ? order : (a.n > b.n) - (a.n < b.n);
        MUST((span_cmp(a, b) > 0) == (order > 0) && (span_cmp(a, b) < 0) == (order < 0));
        MUST((span_cmp(b, a) < 0) == (order > 0) && span_eq(a, b) == (order == 0));
    }
    buf_free(&joined);
    buf_free(&low);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const claims[])(struct span) = {
        claim_url,     claim_s3,        claim_percent, claim_b64,  claim_hex,
        claim_numbers, claim_date_text, claim_moment,  claim_utf8, claim_spans};
    struct fuzz_copy c;

    if (!size)
        return 0;
    c = fuzz_copy(data + 1, size - 1);
    claims[(data[0] + 2u) % 10](c.s); /* the digit '0' is 48 */
    free(c.block);
    return 0;
}
