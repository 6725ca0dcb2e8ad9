/*
 * fuzz_http.c: what must hold for replies, whatever comes over the wire. The first byte of an
 * input says whether the request was a HEAD; the others are what the store sends before it
 * ends the connection.
 *
 *   1. However the bytes are sliced on the way, the reply is the same: head, body, verdict.
 *   2. It is the one that a second reader finds, which has all bytes in hand; above all, what
 *      is cut off, or can be read in two ways, is no reply.
 *   3. A head that was taken apart lies within its text, has proper names and values without
 *      control characters, and says the same when it is written again.
 *   4. Addresses of proxies and lists of hosts that go without are understood or refused.
 */
#define _GNU_SOURCE /* as s3up.c does, since these headers come before it */
#include <ctype.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

/* The wire: no descriptor is ever touched. */
static ssize_t wire_gives(int fd, void *p, size_t n, int flags);
static ssize_t wire_takes(int fd, const void *p, size_t n, int flags);
static int wire_is_ready(struct pollfd *fds, nfds_t n, int timeout);
#define recv wire_gives
#define send wire_takes
#define poll wire_is_ready
#include "fuzz.h"
#undef recv
#undef send
#undef poll

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"),
    FUZZ_TEXT("gHTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.0 200\r\n\r\nuntil the end"),
    FUZZ_TEXT(
        "gHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, "
        "close\r\n\r\n5;ext=1\r\nhello\r\n00B\r\n, and more.\r\n0\r\nTrailer: x\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    FUZZ_TEXT(
        "gHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\ntransfer-encoding: "
              "chunked\r\n\r\n5\0x\r\nhello\0\r\n0\r\n\0\r\n"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: "
              "chunked\r\n\r\n0\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\nContent-Length: 96\r\n\r\n"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "01234567890123456789012345XY"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "0123456789012345678901234567890123456789012\nhello\r\n0\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "0123456789012345678901234567890123456789012345678901234567890123456789"
              "01234567890123456789012345678901234567890123\nhello\r\n0\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 204 No Content\r\n\r\n"),
    FUZZ_TEXT("gHTTP/1.1 503 Slow Down\nRetry-After: 1\n\n<Error/>"),
    FUZZ_TEXT("gHTTP/1.1 200 OK\r\n folded: x\r\n\r\n"),
    FUZZ_TEXT("hHTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"),
    FUZZ_TEXT("gPUT /b/k?x HTTP/1.1\r\nHost: h\r\n\r\n"),
    FUZZ_TEXT("nlocalhost, ,127.0.0.1,10.0.0.0/8,.example.com,[::1],fd00::/8\n10.1.2.3"),
    FUZZ_TEXT("phttp://user:p%40ss@proxy.example:3128"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("HTTP/1.1 200 OK\r\n"),
                                       FUZZ_TEXT("HTTP/1.0 "),
                                       FUZZ_TEXT("\r\n"),
                                       FUZZ_TEXT("\r\n\r\n"),
                                       FUZZ_TEXT("\n"),
                                       FUZZ_TEXT("Content-Length: "),
                                       FUZZ_TEXT("Transfer-Encoding: chunked\r\n"),
                                       FUZZ_TEXT("Connection: close\r\n"),
                                       FUZZ_TEXT("0\r\n\r\n"),
                                       FUZZ_TEXT("5\r\nhello\r\n"),
                                       FUZZ_TEXT("100"),
                                       FUZZ_TEXT("304"),
                                       FUZZ_TEXT("ffffffffffffffff"),
                                       FUZZ_TEXT(";"),
                                       FUZZ_TEXT(": "),
                                       FUZZ_TEXT(" "),
                                       FUZZ_TEXT("\0"),
                                       FUZZ_TEXT(","),
                                       FUZZ_TEXT("/8"),
                                       FUZZ_TEXT("."),
                                       FUZZ_TEXT("*"),
                                       FUZZ_TEXT("@"),
                                       FUZZ_TEXT("%"),
                                       FUZZ_TEXT("\t"),
                                       FUZZ_END};

/* --- the wire --- */

enum slicing { WHOLE, BYTES, ODD, SLICINGS };

static struct {
    struct span rest;
    enum slicing slicing;
    uint32_t turn;
} wire_now;

static ssize_t
wire_gives(int fd, void *p, size_t n, int flags)
{
    size_t slice = wire_now.slicing == WHOLE ? n : 1;

    (void)fd;
    (void)flags;
    if (wire_now.slicing == ODD) {
        wire_now.turn = wire_now.turn * 1103515245 + 12345;
        slice = 1 + (wire_now.turn >> 16) % 9;
        if (slice == 9) {
            errno = wire_now.turn % 2 ? EAGAIN : EINTR;
            return -1;
        }
    }
    slice = slice < n ? slice : n;
    slice = slice < wire_now.rest.n ? slice : wire_now.rest.n;
    if (slice)
        memcpy(p, wire_now.rest.p, slice);
    wire_now.rest = span_after(wire_now.rest, slice);
    return (ssize_t)slice;
}

static ssize_t
wire_takes(int fd, const void *p, size_t n, int flags)
{
    (void)fd;
    (void)p;
    (void)flags;
    return (ssize_t)n;
}

static int
wire_is_ready(struct pollfd *fds, nfds_t n, int timeout)
{
    (void)timeout;
    fds->revents = fds->events;
    return (int)n;
}

/* --- the second opinion --- */

struct second {
    const char *p;
    size_t n, at;
    size_t raw; /* bytes of the last line without its LF */
    unsigned status;
    long long length; /* -1: unknown */
    bool chunked;
    struct buf body;
};

/* The next line; false if it has no end. A CR before the LF is not part of it. */
static bool
line_of(struct second *s, struct span *line)
{
    const char *end = s->at < s->n ? memchr(s->p + s->at, '\n', s->n - s->at) : NULL;

    if (!end)
        return false;
    *line = span_at(s->p + s->at, (size_t)(end - s->p) - s->at);
    s->at += line->n + 1;
    s->raw = line->n;
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static bool
same_word(struct span s, const char *word)
{
    return s.n == strlen(word) && !strncasecmp(s.p, word, s.n);
}

static bool
field_of(struct second *s, struct span line)
{
    static const char token[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        "!#$%&'*+-.^_`|~";
    const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
    struct span name, value;
    char digits[40];

    if (!colon || colon == line.p)
        return false;
    name = span_at(line.p, (size_t)(colon - line.p));
    for (size_t i = 0; i < name.n; i++)
        if (!memchr(token, name.p[i], sizeof token - 1))
            return false;
    value = span_at(colon + 1, line.n - name.n - 1);
    while (value.n && (value.p[0] == ' ' || value.p[0] == '\t'))
        value = span_at(value.p + 1, value.n - 1);
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    if (same_word(name, "content-length")) {
        size_t zeros = 0;

        while (zeros + 1 < value.n && value.p[zeros] == '0')
            zeros++;
        if (s->length >= 0 || s->chunked || !value.n || value.n - zeros > 19)
            return false;
        for (size_t i = 0; i < value.n; i++)
            if (value.p[i] < '0' || value.p[i] > '9')
                return false;
        snprintf(digits, sizeof digits, "%.*s", (int)(value.n - zeros), value.p + zeros);
        if (strlen(digits) == 19 && strcmp(digits, "9223372036854775807") > 0)
            return false;
        s->length = strtoll(digits, NULL, 10);
    } else if (same_word(name, "transfer-encoding")) {
        if (s->length >= 0 || s->chunked || !same_word(value, "chunked"))
            return false;
        s->chunked = true;
    }
    return true;
}

/* A final head; interim ones are passed over. */
static bool
head_of(struct second *s)
{
    do {
        struct span line;
        unsigned fields = 0;

        s->length = -1;
        s->chunked = false;
        while (s->at < s->n && (s->p[s->at] == '\r' || s->p[s->at] == '\n'))
            s->at++;
        if (!line_of(s, &line) || line.n < 12 ||
            (memcmp(line.p, "HTTP/1.1 ", 9) != 0 && memcmp(line.p, "HTTP/1.0 ", 9) != 0))
            return false;
        s->status = 0;
        for (size_t i = 9; i < 12; i++) {
            if (line.p[i] < '0' || line.p[i] > '9')
                return false;
            s->status = s->status * 10 + (unsigned)(line.p[i] - '0');
        }
        if (s->status < 100 || s->status > 599 || s->status == 101 ||
            (line.n > 12 && line.p[12] != ' '))
            return false;
        do {
            for (size_t i = 0; i < line.n; i++)
                if ((line.p[i] >= 0 && line.p[i] < 32 && line.p[i] != '\t') ||
                    line.p[i] == 127)
                    return false;
            if (!line_of(s, &line))
                return false;
            if (line.n && (!field_of(s, line) || ++fields > 128))
                return false;
        } while (line.n);
    } while (s->status < 200);
    return true;
}

static bool
chunks_of(struct second *s)
{
    for (;;) {
        unsigned long long n = 0;
        struct span line;
        size_t i;

        if (!line_of(s, &line) || s->raw > 255 || memchr(line.p, 0, line.n))
            return false;
        for (i = 0; i < line.n && isxdigit((unsigned char)line.p[i]); i++) {
            char digit[2] = {line.p[i], 0};

            n = n * 16 + strtoull(digit, NULL, 16);
        }
        if (!i || i > 15 || (i < line.n && !strchr("; \t", line.p[i])))
            return false;
        if (!n)
            break;
        i = s->n - s->at < n ? s->n - s->at : (size_t)n;
        buf_add(&s->body, s->p + s->at, i);
        s->at += i;
        if (i < n || !line_of(s, &line) || line.n)
            return false;
        continue;
    }
    for (unsigned lines = 0;; lines++) {
        struct span line;

        if (!line_of(s, &line) || s->raw > 255 || memchr(line.p, 0, line.n) ||
            lines > 128)
            return false;
        if (!line.n)
            return true;
    }
}

static bool
body_of(struct second *s, bool is_head)
{
    size_t left = s->n - s->at;

    if (is_head || s->status == 204 || s->status == 304)
        return true;
    if (s->chunked)
        return chunks_of(s);
    if (s->length >= 0 && (unsigned long long)s->length < left)
        left = (size_t)s->length;
    buf_add(&s->body, s->p + s->at, left);
    return s->length < 0 || (unsigned long long)s->length == left;
}

/* --- the claims --- */

enum outcome { NO_HEAD, CUT, COMPLETE };

struct reply {
    enum outcome outcome;
    unsigned status;
    struct buf body;
};

static void
claim_head(const struct head *h, struct span text)
{
    struct buf again = buf_upto(2 * text.n + 64);
    struct head h2;

    MUST(h->n <= HEAD_FIELDS && (!h->chunked || h->length < 0) && h->length >= -1);
    MUST(fuzz_within(h->method, text) && fuzz_within(h->target, text));
    MUST(h->status ? h->status >= 100 && h->status <= 599 : h->method.n && h->target.n);
    if (h->status) {
        buf_str(&again, h->old ? "HTTP/1.0 " : "HTTP/1.1 ");
        buf_num(&again, h->status);
    } else {
        buf_put(&again, h->method);
        buf_char(&again, ' ');
        buf_put(&again, h->target);
        buf_str(&again, h->old ? " HTTP/1.0" : " HTTP/1.1");
    }
    for (unsigned i = 0; i < h->n; i++) {
        struct span name = h->at[i].name, value = h->at[i].value;

        MUST(fuzz_within(name, text) && fuzz_within(value, text) && http_is_token(name));
        MUST(!span_has(value, '\r') && !span_has(value, '\n') && !span_has(value, 0));
        MUST(!value.n || (!span_blank(value.p[0]) && !span_blank(value.p[value.n - 1])));
        buf_str(&again, "\r\n");
        buf_put(&again, name);
        buf_char(&again, ':');
        buf_put(&again, value);
    }
    buf_str(&again, "\r\n\r\n");
    MUST(!again.bad && http_parse(buf_span(&again), &h2) == NULL);
    MUST(h2.status == h->status && h2.old == h->old && h2.n == h->n);
    MUST(h2.close == h->close && h2.keep == h->keep);
    MUST(h2.chunked == h->chunked && h2.length == h->length);
    for (unsigned i = 0; i < h->n; i++)
        MUST(span_eq(h2.at[i].name, h->at[i].name) &&
             span_eq(h2.at[i].value, h->at[i].value));
    buf_free(&again);
}

static struct reply
receive(struct span bytes, bool is_head, enum slicing slicing)
{
    static struct conn c;
    static struct request r;
    struct reply reply = {.body = buf_upto(bytes.n + 1)};
    struct origin o = {.host = "h", .port = 80, .limit = 1000};
    struct fail f = {S3UP_OK, ""};
    char piece[97];
    size_t size = slicing == WHOLE ? sizeof piece : 1 + bytes.n * 7 % sizeof piece;
    ssize_t did = 0;

    wire_now.rest = bytes;
    wire_now.slicing = slicing;
    wire_now.turn = (uint32_t)bytes.n;
    http_init(&c);
    c.wire.fd = 1 << 20; /* nobody's */
    http_begin(&r, is_head ? "HEAD" : "GET", SPAN("h"), SPAN("/"));
    MUST(http_start(&c, &o, &r, -1, &f) == 0);
    if (http_reply(&c, is_head, 1000, &f) == 0) {
        reply.status = c.head.status;
        claim_head(&c.head, buf_span(&c.text));
        while ((did = http_read(&c, piece, size, &f)) > 0)
            buf_add(&reply.body, piece, (size_t)did);
        reply.outcome = did ? CUT : COMPLETE;
        MUST(did == 0 || f.code == S3UP_LATER);
    } else {
        MUST(f.code == S3UP_LATER && f.text[0]);
    }
    MUST(!reply.body.bad); /* a body is never longer than what came */
    http_finish(&c);
    http_close(&c);
    return reply;
}

static void
claim_reply(struct span bytes, bool is_head)
{
    struct second s = {.p = bytes.p, .n = bytes.n, .body = buf_upto(bytes.n + 1)};
    enum outcome want = head_of(&s) ? (body_of(&s, is_head) ? COMPLETE : CUT) : NO_HEAD;

    for (enum slicing way = 0; way < SLICINGS; way++) {
        struct reply got = receive(bytes, is_head, way);

        MUST(got.outcome == want);
        if (want != NO_HEAD) {
            MUST(got.status == s.status);
            /* What breaks off gives no more than what came whole. */
            MUST(got.body.n == s.body.n || (want == CUT && got.body.n < s.body.n));
            MUST(span_eq(buf_span(&got.body), span_first(buf_span(&s.body), got.body.n)));
        }
        buf_free(&got.body);
    }
    buf_free(&s.body);
}

static void
claim_proxy(struct span text)
{
    struct origin o = {.host = "h", .proxy_auth = buf_upto(4 * URL_MAX)};
    const char *why = http_set_proxy(&o, text);

    if (!why)
        MUST(o.proxy[0] && o.proxy_port >= 1 && o.proxy_port <= 65535);
    MUST(!span_has(buf_span(&o.proxy_auth), '\r') &&
         !span_has(buf_span(&o.proxy_auth), '\n'));
    buf_free(&o.proxy_auth);
}

/* A list and a host, an LF between them: what one word lets by, any list with it does. */
static void
claim_bypass(struct span s)
{
    struct span list = {NULL, 0}, word;
    bool any = false, all;
    char host[256];

    span_cut(&s, '\n', &list);
    if (span_has(s, 0) || span_has(list, 0) || !http_copy_name(host, s))
        return;
    all = http_bypasses(list, host);
    while (span_cut(&list, ',', &word))
        any |= !span_is(span_trim(word), "*") && http_bypasses(word, host);
    MUST(all || !any);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c;

    if (!size || size > HEAD_MAX - HTTP_WINDOW) /* a longer head depends on the slices */
        return 0;
    c = fuzz_copy(data + 1, size - 1);
    if (data[0] == 'n')
        claim_bypass(c.s);
    else if (data[0] == 'p')
        claim_proxy(c.s);
    else
        claim_reply(c.s, data[0] == 'h');
    if (data[0] == 'g') { /* any text, also as a request's head */
        struct head h;

        if (!http_parse(c.s, &h))
            claim_head(&h, c.s);
    }
    free(c.block);
    return 0;
}
