/*
 * wire.c: rooms 6, 7, 8 and 11 against tables: heads and bodies in every split, addresses
 * and proxies, verdicts and regions, certificates in every broken form, and a stop in every
 * phase. All servers are children of this program, on loopback and free ports.
 *
 *   wire            runs all of it; the last line is `N passed, M failed`
 */
#include "feed.h"

#include <netdb.h>

/* The resolver is ours as well: what it does is set by the test. */
static int fake_lookup(const char *host, const char *service, const struct addrinfo *want,
                       struct addrinfo **found);
#define getaddrinfo(host, service, want, found) fake_lookup(host, service, want, found)

#define S3UP_NO_MAIN
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* the upper calls have other tests */
#include "../s3up.c"
#pragma GCC diagnostic pop
#undef main

#include "check.h"

#undef getaddrinfo
#undef recv
#undef send
#undef poll

#include <dirent.h>
#include <sys/mman.h>
#include <sys/time.h>

/* A program that hangs is a failure, too. */
#define TOO_LONG 120 /* seconds for all of it, on a slow machine under sanitizers */

/* ---- tools ---- */

static uint64_t dice_state = 1;

static unsigned
dice(unsigned n)
{
    uint64_t z = dice_state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (unsigned)((z ^ z >> 31) % n);
}

/* A copy that ends where its block ends, so that ASan sees whoever reads one byte more. */
static char *
exact(struct span s)
{
    char *p = malloc(s.n ? s.n : 1);

    if (!p)
        abort();
    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

static bool
has(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

static unsigned
open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* ---- heads ---- */

static const struct head_case {
    const char *name;
    const char *text;
    size_t n;
    const char *why; /* a word of the refusal; NULL: it is a good head */
    unsigned status; /* 0: a request */
    int64_t length;
    bool chunked, close;
} head_cases[] = {
#define HEAD(name, text, status, length, chunked, close)                                 \
    {                                                                                    \
        name, text, sizeof(text) - 1, NULL, status, length, chunked, close               \
    }
#define BAD(name, text, why)                                                             \
    {                                                                                    \
        name, text, sizeof(text) - 1, why, 0, 0, false, false                            \
    }
    HEAD("plain", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, false, false),
    HEAD("no reason", "HTTP/1.1 404\r\n\r\n", 404, -1, false, false),
    HEAD("empty reason", "HTTP/1.1 404 \r\n\r\n", 404, -1, false, false),
    HEAD("odd reason", "HTTP/1.1 200 \xc3\x96K: so\r\n\r\n", 200, -1, false, false),
    HEAD("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 7\n\n", 200, 7, false,
         false),
    HEAD("interim", "HTTP/1.1 100 Continue\r\n\r\n", 100, -1, false, false),
    HEAD("chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", 200, -1,
         true, false),
    HEAD("close", "HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", 200, -1, false, true),
    HEAD("close in a list", "HTTP/1.1 200 OK\r\nConnection: x , close\r\n\r\n", 200, -1,
         false, true),
    HEAD("old", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, false, true),
    HEAD("old that stays", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", 200, -1,
         false, false),
    HEAD("keep and close", "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\n\r\n",
         200, -1, false, true),
    HEAD("empty value", "HTTP/1.1 200 OK\r\nServer:\r\n\r\n", 200, -1, false, false),
    HEAD("tabs around", "HTTP/1.1 200 OK\r\nContent-Length:\t 5 \t\r\n\r\n", 200, 5,
         false, false),
    HEAD("largest length",
         "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n"
         "\r\n",
         200, INT64_MAX, false, false),
    HEAD("leading zeros", "HTTP/1.1 200 OK\r\nContent-Length: 0005\r\n\r\n", 200, 5,
         false, false),
    HEAD("request", "PUT /b/k?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 0, 5,
         false, false),
    HEAD("old request", "GET / HTTP/1.0\r\n\r\n", 0, -1, false, true),
    HEAD("request of a proxy", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 0, -1,
         false, false),
    BAD("nothing", "", "first line"),
    BAD("an empty line", "\r\n", "first line"),
    BAD("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "first line"),
    BAD("another version", "HTTP/2 200\r\n\r\n", "version"),
    BAD("a version of two digits", "HTTP/1.10 200 OK\r\n\r\n", "version"),
    BAD("a version in small letters", "http/1.1 200 OK\r\n\r\n", "first line"),
    BAD("no status", "HTTP/1.1\r\n\r\n", "status line"),
    BAD("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "status line"),
    BAD("a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", "status line"),
    BAD("a status that is none", "HTTP/1.1 99 OK\r\n\r\n", "status line"),
    BAD("a status beyond", "HTTP/1.1 600 OK\r\n\r\n", "status line"),
    BAD("a negative status", "HTTP/1.1 -20 OK\r\n\r\n", "status line"),
    BAD("two blanks", "HTTP/1.1  200 OK\r\n\r\n", "status line"),
    BAD("two lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "second Content-Length"),
    BAD("two equal lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "second Content-Length"),
    BAD("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "Content-Length"),
    BAD("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "Content-Length"),
    BAD("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "Content-Length"),
    BAD("a length in hex", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        "Content-Length"),
    BAD("an empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "Content-Length"),
    BAD("a length beyond",
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n"
        "\r\n",
        "Content-Length"),
    BAD("a length of 30 digits",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000000000000000000000000005\r\n\r\n",
        "Content-Length"),
    BAD("a length and chunks",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "beside a length"),
    BAD("chunks and a length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "Content-Length"),
    BAD("chunked twice",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
        "\r\n",
        "Transfer-Encoding"),
    BAD("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "Transfer-Encoding"),
    BAD("a coding below chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "Transfer-Encoding"),
    BAD("a coding above chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "Transfer-Encoding"),
    BAD("a folded line", "HTTP/1.1 200 OK\r\nServer: a\r\n b\r\n\r\n", "folded"),
    BAD("a line folded by a tab", "HTTP/1.1 200 OK\r\nServer: a\r\n\tb\r\n\r\n",
        "folded"),
    BAD("a blank before the first field", "HTTP/1.1 200 OK\r\n Server: a\r\n\r\n",
        "folded"),
    BAD("no colon", "HTTP/1.1 200 OK\r\nServer\r\n\r\n", "colon"),
    BAD("a blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        "field name"),
    BAD("a blank in a name", "HTTP/1.1 200 OK\r\nContent Length: 5\r\n\r\n",
        "field name"),
    BAD("an empty name", "HTTP/1.1 200 OK\r\n: 5\r\n\r\n", "field name"),
    BAD("a name beyond ASCII", "HTTP/1.1 200 OK\r\nS\xc3\xa9rver: 5\r\n\r\n",
        "field name"),
    BAD("NUL in a value", "HTTP/1.1 200 OK\r\nServer: a\0b\r\n\r\n", "control"),
    BAD("NUL in the first line", "HTTP/1.1 200 O\0K\r\n\r\n", "control"),
    BAD("a bare CR", "HTTP/1.1 200 OK\r\nServer: a\rContent-Length: 5\r\n\r\n",
        "control"),
    BAD("DEL", "HTTP/1.1 200 OK\r\nServer: a\177b\r\n\r\n", "control"),
    BAD("a request without a target", "GET  HTTP/1.1\r\n\r\n", "first line"),
    BAD("a request without a version", "GET /\r\n\r\n", "version"),
    BAD("a request with a blank in it", "GET /a b HTTP/1.1\r\n\r\n", "version"),
    BAD("a request with an odd method", "G(T / HTTP/1.1\r\n\r\n", "first line"),
#undef HEAD
#undef BAD
};

static void
test_heads(void)
{
    struct head h;

    for (size_t i = 0; i < sizeof head_cases / sizeof *head_cases; i++) {
        const struct head_case *c = &head_cases[i];
        char *copy = exact(span_at(c->text, c->n));
        const char *why = http_parse(span_at(copy, c->n), &h);

        CASE("head: %s", c->name);
        CHECK((why != NULL) == (c->why != NULL));
        if (why && c->why)
            CHECK(has(why, c->why));
        if (!why && !c->why) {
            CHECK_NUM(h.status, c->status);
            CHECK_NUM(h.length, c->length);
            CHECK_NUM(h.chunked, c->chunked);
            CHECK_NUM(h.close, c->close);
        }
        for (size_t n = 0; n < c->n; n++) { /* no prefix makes it read beyond */
            char *part = exact(span_at(c->text, n));

            (void)http_parse(span_at(part, n), &h);
            free(part);
        }
        free(copy);
    }
    CASE("head: fields");
    CHECK(!http_parse(SPAN("HTTP/1.1 200 OK\r\nETag: \"a:b\"\r\nx-a:1\r\nX-A: 2\r\n\r\n"),
                      &h));
    CHECK_TEXT(http_value(&h, "etag"), "\"a:b\"");
    CHECK_TEXT(http_value(&h, "x-a"), "1");
    CHECK_TEXT(http_value(&h, "x-b"), "");
    CHECK_NUM(h.n, 3);
    CASE("head: a request");
    CHECK(!http_parse(SPAN("DELETE /b/%20?versionId=1 HTTP/1.1\r\nHost: h\r\n\r\n"), &h));
    CHECK_TEXT(h.method, "DELETE");
    CHECK_TEXT(h.target, "/b/%20?versionId=1");
}

static void
test_many_fields(void)
{
    struct buf text = buf_upto(HEAD_MAX);
    struct head h;

    for (unsigned n = HEAD_FIELDS - 1; n <= HEAD_FIELDS + 1; n++) {
        const char *why;

        buf_clear(&text);
        buf_str(&text, "HTTP/1.1 200 OK\r\n");
        for (unsigned i = 0; i < n; i++)
            buf_str(&text, "x: y\r\n");
        buf_str(&text, "\r\n");
        why = http_parse(buf_span(&text), &h);
        CASE("head: %u fields", n);
        CHECK((why != NULL) == (n > HEAD_FIELDS));
    }
    buf_free(&text);
}

/* ---- bodies ---- */

#define OK_HEAD "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"

static const struct body_case {
    const char *name;
    const char *reply;
    size_t n;
    const char *body;
    const char *why; /* NULL: it is read to its end */
    bool is_head;
    bool eof;   /* the connection ends behind it */
    bool stays; /* it can carry the next request */
} body_cases[] = {
#define GOOD(name, reply, body, stays)                                                   \
    {                                                                                    \
        name, reply, sizeof(reply) - 1, body, NULL, false, !(stays), stays               \
    }
#define BARE(name, reply, is_head)                                                       \
    {                                                                                    \
        name, reply, sizeof(reply) - 1, "", NULL, is_head, false, true                   \
    }
#define BAD(name, reply, body, why)                                                      \
    {                                                                                    \
        name, reply, sizeof(reply) - 1, body, why, false, true, false                    \
    }
    GOOD("a length", OK_HEAD "Content-Length: 5\r\n\r\nhello", "hello", true),
    GOOD("a length of nothing", OK_HEAD "Content-Length: 0\r\n\r\n", "", true),
    GOOD("a length, and close",
         OK_HEAD "Content-Length: 5\r\nConnection: close\r\n\r\n"
                 "hello",
         "hello", false),
    GOOD("an old reply", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello",
         false),
    {"a length, and more behind it", OK_HEAD "Content-Length: 5\r\n\r\nhelloHTTP/1.1",
     sizeof(OK_HEAD "Content-Length: 5\r\n\r\nhelloHTTP/1.1") - 1, "hello", NULL, false,
     false, false},
    GOOD("until the end", OK_HEAD "\r\nhello", "hello", false),
    GOOD("until the end, nothing", OK_HEAD "\r\n", "", false),
    GOOD("chunks", CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", true),
    GOOD("chunks with line feeds", CHUNKED "5\nhello\n0\n\n", "hello", true),
    GOOD("no chunks", CHUNKED "0\r\n\r\n", "", true),
    GOOD("zeros ahead", CHUNKED "00005\r\nhello\r\n000\r\n\r\n", "hello", true),
    GOOD("large and small digits",
         CHUNKED "a\r\n0123456789\r\nB\r\n0123456789a\r\n"
                 "0\r\n\r\n",
         "01234567890123456789a", true),
    GOOD("extensions", CHUNKED "5;a=\"b;c\"\r\nhello\r\n0 ; last\r\n\r\n", "hello", true),
    GOOD("fields behind",
         CHUNKED "5\r\nhello\r\n0\r\nx-amz-checksum-crc32: AAAA\r\n"
                 "Content-Length: 7\r\n\r\n",
         "hello", true),
    GOOD(
        "interim replies ahead",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK_HEAD
        "Content-Length: 5\r\n\r\nhello",
        "hello", true),
    GOOD("line ends ahead", "\r\n\n" OK_HEAD "Content-Length: 5\r\n\r\nhello", "hello",
         true),
    BARE("to HEAD", OK_HEAD "Content-Length: 5\r\n\r\n", true),
    BARE("to HEAD, chunked", CHUNKED, true),
    BARE("to HEAD, nothing said", OK_HEAD "\r\n", true),
    BARE("204 with a length", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false),
    BARE("304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", false),
    BAD("a length, cut", OK_HEAD "Content-Length: 6\r\n\r\nhello", "hello", "cut off"),
    BAD("a length, nothing came", OK_HEAD "Content-Length: 6\r\n\r\n", "", "cut off"),
    BAD("a head, cut", OK_HEAD "Content-Len", "", "in the middle of its reply"),
    BAD("a head, cut in its last line end", OK_HEAD "Content-Length: 5\r\n\r", "",
        "in the middle of its reply"),
    BAD("nothing", "", "", "without a reply"),
    BAD("an interim reply only", "HTTP/1.1 100 Continue\r\n\r\n", "",
        "in the middle of its reply"),
    BAD("switching protocols", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", "",
        "unexpected"),
    BAD("a request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", "unexpected"),
    BAD("no HTTP", "\x15\x03\x01\0\x02\x02\x46\n\n", "", "control"),
    BAD("chunks, cut in one", CHUNKED "5\r\nhel", "hel", "cut off"),
    BAD("chunks, cut behind one", CHUNKED "5\r\nhello", "", "between two chunks"),
    BAD("chunks, cut in a line end", CHUNKED "5\r\nhello\r", "", "between two chunks"),
    BAD("chunks, cut ahead of one", CHUNKED "5\r\nhello\r\n", "hello",
        "between two chunks"),
    BAD("chunks, cut in a length", CHUNKED "5\r\nhello\r\n1", "hello",
        "between two chunks"),
    BAD("chunks, cut behind the last", CHUNKED "5\r\nhello\r\n0\r\n", "hello",
        "between two chunks"),
    BAD("chunks, cut in a field", CHUNKED "5\r\nhello\r\n0\r\nx: y", "hello",
        "between two chunks"),
    BAD("a chunk without a length", CHUNKED "\r\nhello\r\n", "", "malformed length"),
    BAD("a chunk with a bad length", CHUNKED "g\r\nhello\r\n", "", "malformed length"),
    BAD("a length with 0x", CHUNKED "0x5\r\nhello\r\n", "", "malformed length"),
    BAD("a negative chunk", CHUNKED "-5\r\nhello\r\n", "", "malformed length"),
    BAD("a blank ahead", CHUNKED " 5\r\nhello\r\n", "", "malformed length"),
    BAD("a length beyond", CHUNKED "10000000000000005\r\nhello\r\n", "",
        "malformed length"),
    BAD("a huge length, cut", CHUNKED "FFFFFFFFFFFFFF\r\nhello", "hello", "cut off"),
    BAD("too long a chunk", CHUNKED "5\r\nhello!\r\n0\r\n\r\n", "",
        "longer than it said"),
    BAD("NUL behind a length", CHUNKED "5\0;x\r\nhello\r\n0\r\n\r\n", "", "NUL"),
    BAD("NUL behind a chunk", CHUNKED "5\r\nhello\0junk\r\n0\r\n\r\n", "", "NUL"),
    BAD("NUL in a field behind", CHUNKED "5\r\nhello\r\n0\r\n\0\r\n\r\n", "hello", "NUL"),
#undef GOOD
#undef BARE
#undef BAD
};

/* What came of reading a reply. */
struct outcome {
    int rc;
    char body[256];
    size_t n;
    bool stays;
    struct fail f;
};

/* A connection that holds these bytes, and ends behind them or not. */
static int
connect_to(struct conn *c, struct span bytes, bool eof)
{
    int pair[2];

    http_init(c);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0 ||
        !os_write(pair[1], bytes.p, bytes.n))
        abort();
    c->wire.fd = pair[0];
    if (eof)
        (void)shutdown(pair[1], SHUT_WR);
    return pair[1];
}

/* Reads it all in pieces of at most `piece`. */
static void
exchange(const struct body_case *b, size_t piece, struct outcome *o)
{
    static struct conn c;
    int other = connect_to(&c, span_at(b->reply, b->n), b->eof);
    ssize_t did = 0;

    *o = (struct outcome){0};
    c.out.n = 0;
    o->rc = http_reply(&c, b->is_head, 1000, &o->f);
    while (o->rc == 0 && o->n < sizeof o->body) {
        char got[64];

        did = http_read(&c, got, piece < sizeof got ? piece : sizeof got, &o->f);
        if (did <= 0)
            break;
        memcpy(o->body + o->n, got, (size_t)did);
        o->n += (size_t)did;
    }
    if (did < 0)
        o->rc = -1;
    if (o->rc == 0)
        CHECK_NUM(http_read(&c, o->body, 1, &o->f), 0); /* the end stays the end */
    http_finish(&c);
    o->stays = http_alive(&c);
    http_close(&c);
    (void)close(other);
}

static void
check_body(const struct body_case *b, size_t piece)
{
    struct outcome o;

    exchange(b, piece, &o);
    CHECK_NUM(o.rc, b->why ? -1 : 0);
    if (b->why && o.rc < 0 && !CHECK(has(o.f.text, b->why)))
        printf("    %s\n", o.f.text);
    /* What was delivered before a failure depends on the split; it is never wrong. */
    if (!b->why)
        CHECK_SPAN(span_at(o.body, o.n), span_of(b->body));
    else
        CHECK(o.n <= strlen(b->body) + 5 &&
              !memcmp(o.body, b->body, o.n < strlen(b->body) ? o.n : strlen(b->body)));
    CHECK_NUM(o.stays, b->stays);
}

static void
test_bodies(void)
{
    static const uint8_t single[] = {1}, late[] = {0, 1}, pairs[] = {2, 0, 3};
    uint8_t some[64];

    for (size_t i = 0; i < sizeof body_cases / sizeof *body_cases; i++) {
        const struct body_case *b = &body_cases[i];

        CASE("body: %s, at once", b->name);
        feed_n = 0;
        check_body(b, 64);
        check_body(b, 1);
        for (unsigned way = 0; way < 3; way++) {
            const uint8_t *const ways[] = {single, late, pairs};
            const size_t lengths[] = {sizeof single, sizeof late, sizeof pairs};

            CASE("body: %s, way %u", b->name, way);
            feed_sizes = ways[way];
            feed_n = lengths[way];
            check_body(b, 64);
            check_body(b, 3);
        }
        for (unsigned n = 0; n < 40; n++) {
            CASE("body: %s, dice %u", b->name, n);
            for (size_t k = 0; k < sizeof some; k++)
                some[k] = (uint8_t)(k && !some[k - 1] ? 1 + dice(9) : dice(20));
            some[sizeof some - 1] = 1;
            feed_sizes = some;
            feed_n = sizeof some;
            check_body(b, 1 + dice(20));
        }
        feed_n = 0;
    }
}

/* A body of more than the window, so that it comes past it. */
static void
test_long_body(void)
{
    static char reply[100000], got[100000];
    static struct conn c;
    struct fail f = {S3UP_OK, ""};
    int head = snprintf(reply, sizeof reply, OK_HEAD "Content-Length: 90000\r\n\r\n");
    size_t n = 0;
    ssize_t did;
    int other;

    for (size_t i = 0; i < 90000; i++)
        reply[(size_t)head + i] = (char)dice(256);
    CASE("a body of 90,000 bytes");
    other = connect_to(&c, span_at(reply, (size_t)head + 90000), false);
    CHECK_NUM(http_reply(&c, false, 1000, &f), 0);
    while ((did = http_read(&c, got + n, sizeof got - n, &f)) > 0)
        n += (size_t)did;
    CHECK_NUM(did, 0);
    CHECK_SPAN(span_at(got, n), span_at(reply + head, 90000));
    http_finish(&c);
    CHECK(http_alive(&c));
    http_close(&c);
    (void)close(other);
}

/* Replies that would keep a reader busy for ever. */
static void
test_endless_heads(void)
{
    static const char *const endless[] = {"HTTP/1.1 100 Continue\r\n\r\n", "\r\n", "x",
                                          OK_HEAD "x: y\r\n"};
    static struct conn c;

    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        struct fail f = {S3UP_OK, ""};
        struct buf text = buf_upto(4 * HEAD_MAX);
        int other;

        while (text.n < 2 * HEAD_MAX)
            buf_str(&text, endless[i]);
        CASE("a head without end, of \"%.8s\"", endless[i]);
        other = connect_to(&c, buf_span(&text), true);
        CHECK_NUM(http_reply(&c, false, 1000, &f), -1);
        if (!CHECK(has(f.text, "more than 65536 bytes") || has(f.text, "line")))
            printf("    %s\n", f.text);
        http_close(&c);
        (void)close(other);
        buf_free(&text);
    }
}

/* ---- sending, while the store may say something ---- */

/* A connection to a socket whose other end reads nothing, and holds little. */
static int
connect_small(struct conn *c, struct span said)
{
    int size = 4096, other = connect_to(c, said, false);

    (void)setsockopt(c->wire.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return other;
}

/* As http_start would leave it, for a request with a body of so many bytes. */
static void
begin_request(struct conn *c, int64_t body)
{
    buf_str(&c->out, "PUT /b/k HTTP/1.1\r\nhost: h\r\n\r\n");
    c->to_send = body;
    http_watch(c, 300, HTTP_LEAST);
}

/* Sends a body in pieces of the size that the store's calls use. */
static int
send_all(struct conn *c, size_t n, struct fail *f)
{
    static char piece[S3_WINDOW];
    int rc = 0;

    for (size_t done = 0; done < n && rc == 0; done += sizeof piece)
        rc = http_send(c, piece, n - done < sizeof piece ? n - done : sizeof piece, f);
    return rc;
}

static void
test_early_reply(void)
{
    static const struct {
        const char *name, *said;
        bool ended;      /* the store has closed its end as well */
        int rc;          /* of http_reply */
        const char *why; /* a word of the failure */
        unsigned status;
    } cases[] = {
        {"an early 403", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", false, 0, "",
         403},
        {"an early 403 and a closed end",
         "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", true, 0, "", 403},
        {"an early 301", "HTTP/1.1 301 No\r\nContent-Length: 0\r\n\r\n", true, 0, "",
         301},
        {"an early 200", OK_HEAD "Content-Length: 0\r\n\r\n", false, -1,
         "said 200 before it had the whole body", 0},
        {"an early 200 and a closed end", OK_HEAD "Content-Length: 0\r\n\r\n", true, -1,
         "said 200 before it had the whole body", 0},
        {"an early 100", "HTTP/1.1 100 Continue\r\n\r\n", true, -1,
         "in the middle of its reply", 0},
        {"half an early reply", "HTTP/1.1 403 No\r\nContent-Le", true, -1,
         "in the middle of its reply", 0},
        {"a closed end", "", true, -1, "without a reply", 0},
        {"early garbage", "\1\2\3\n\n", false, -1, "control", 0},
    };
    static struct conn c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fail f = {S3UP_OK, ""};
        char body[8];
        int other = connect_small(&c, span_of(cases[i].said)), rc;

        CASE("%s", cases[i].name);
        if (cases[i].ended)
            (void)close(other);
        begin_request(&c, 4 << 20);
        rc = send_all(&c, 4 << 20, &f);
        CHECK(rc != 0);
        CHECK(c.to_send > 0);
        if (rc > 0)
            rc = http_reply(&c, false, 300, &f);
        CHECK_NUM(rc, cases[i].rc);
        if (!CHECK(has(f.text, cases[i].why)))
            printf("    %s\n", f.text);
        if (rc == 0)
            CHECK_NUM(c.head.status, cases[i].status);
        while (rc == 0 && http_read(&c, body, sizeof body, &f) > 0)
            continue;
        http_finish(&c);
        CHECK(!http_alive(&c)); /* a body that was not sent stays owed */
        http_close(&c);
        if (!cases[i].ended)
            (void)close(other);
    }
}

/* The last piece may go out to a store that answers and closes at once: no failure. */
static void
test_reply_at_the_end(void)
{
    static struct conn c;
    struct fail f = {S3UP_OK, ""};
    int other = connect_to(&c, SPAN(OK_HEAD "Content-Length: 0\r\n\r\n"), true);

    CASE("a reply that waits when the body is complete");
    begin_request(&c, 5);
    CHECK_NUM(http_send(&c, "hello", 5, &f), 0);
    CHECK_NUM(http_reply(&c, false, 300, &f), 0);
    CHECK_NUM(c.head.status, 200);
    http_close(&c);
    (void)close(other);
}

/* Head and small body leave in one piece; a large one follows the head without a copy. */
static void
test_sent_bytes(void)
{
    static struct conn c;
    static char got[8192];
    struct fail f = {S3UP_OK, ""};
    int other = connect_to(&c, SPAN(""), false);
    ssize_t n;

    CASE("what is sent");
    begin_request(&c, 10);
    CHECK_NUM(http_send(&c, "hello", 5, &f), 0);
    CHECK(read(other, got, sizeof got) < 0); /* it waits for the rest */
    CHECK_NUM(http_send(&c, "world", 5, &f), 0);
    n = read(other, got, sizeof got);
    CHECK_SPAN(span_at(got, n > 0 ? (size_t)n : 0),
               SPAN("PUT /b/k HTTP/1.1\r\nhost: h\r\n\r\nhelloworld"));
    CHECK_NUM(c.to_send, 0);
    http_close(&c);
    (void)close(other);
}

static void
test_stalls(void)
{
    static struct conn c;
    struct fail f = {S3UP_OK, ""};
    struct net_watch w = {.limit = 100, .least = 10};
    int other = connect_small(&c, SPAN(""));

    CASE("a store that reads nothing");
    begin_request(&c, 4 << 20);
    CHECK_NUM(send_all(&c, 4 << 20, &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    CHECK(has(f.text, "stalled"));
    http_close(&c);
    (void)close(other);

    CASE("a store that says nothing");
    f = (struct fail){S3UP_OK, ""};
    other = connect_to(&c, SPAN("HTTP/1.1 "), false);
    CHECK_NUM(http_reply(&c, false, 300, &f), -1);
    CHECK(has(f.text, "stalled"));
    http_close(&c);
    (void)close(other);

    CASE("a body that goes no further");
    f = (struct fail){S3UP_OK, ""};
    other = connect_to(&c, SPAN(OK_HEAD "Content-Length: 5\r\n\r\nhel"), false);
    CHECK_NUM(http_reply(&c, false, 300, &f), 0);
    CHECK_NUM(http_read(&c, (char[8]){0}, 8, &f), 3);
    CHECK_NUM(http_read(&c, (char[8]){0}, 8, &f), -1);
    CHECK(has(f.text, "stalled"));
    http_close(&c);
    (void)close(other);

    CASE("what a stall is");
    CHECK(!net_stalled(&w, 0, 0));
    CHECK(!net_stalled(&w, 0, 100));
    CHECK(net_stalled(&w, 9, 1));
    CHECK(!net_stalled(&w, 10, 50)); /* enough has moved: it begins anew */
    CHECK(!net_stalled(&w, 19, 100));
    CHECK(!net_stalled(&w, 20, 100000));
    CHECK(!net_stalled(&w, 29, 100));
    CHECK(net_stalled(&w, 29, 1));
}

/* ---- a stop that is asked for ---- */

static int64_t stopped_at, slowest;
static const char *slowest_in = "";

static void
stop_now(int signal_number)
{
    os_on_stop(signal_number);
    stopped_at = os_ticks();
}

static void
stop_soon_after(int milliseconds)
{
    struct sigaction on = {.sa_handler = stop_now};
    struct itimerval soon = {
        .it_value = {milliseconds / 1000, milliseconds % 1000 * 1000}};

    (void)sigaction(SIGALRM, &on, NULL);
    os_stop = 0;
    (void)setitimer(ITIMER_REAL, &soon, NULL);
}

static void
stop_soon(void)
{
    stop_soon_after(60);
}

/* It must have been seen, and how long that took is told, not judged. */
static void
stop_seen(const char *where, int rc, const struct fail *f)
{
    int64_t took = os_ticks() - stopped_at;

    CASE("stop: %s", where);
    CHECK_NUM(rc, -1);
    CHECK_NUM(f->code, S3UP_INTERRUPTED);
    if (took > slowest) {
        slowest = took;
        slowest_in = where;
    }
    os_stop = 0;
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(TOO_LONG);
}

/* ---- names and connections ---- */

/* What the resolver does; it runs in a child of net_lookup. */
static enum { ASK_KERNEL, NEVER_ANSWER, DIE, NOT_KNOWN, MANY, ODD_FAMILY } resolver;

static int
fake_lookup(const char *host, const char *service, const struct addrinfo *want,
            struct addrinfo **found)
{
    static struct sockaddr_in at[40];
    static struct addrinfo list[40];

    if (resolver == ASK_KERNEL)
        return getaddrinfo(host, service, want, found);
    if (resolver == NEVER_ANSWER)
        for (;;)
            pause();
    if (resolver == DIE)
        _exit(3);
    if (resolver == NOT_KNOWN)
        return EAI_NONAME;
    for (unsigned i = 0; i < 40; i++) {
        at[i] = (struct sockaddr_in){.sin_family = AF_INET};
        at[i].sin_addr.s_addr = htonl(0x7f000001 + i);
        list[i] = (struct addrinfo){.ai_addr = (struct sockaddr *)(void *)&at[i],
                                    .ai_next = i < 39 ? &list[i + 1] : NULL};
        if (resolver == ODD_FAMILY)
            at[i].sin_family = AF_UNIX;
    }
    *found = list;
    return 0;
}

static void
test_lookup(void)
{
    static const struct {
        const char *name, *host;
        int how, family;
        const char *why;
    } cases[] = {
        {"IPv4", "127.0.0.1", NEVER_ANSWER, AF_INET, NULL},
        {"IPv6", "::1", NEVER_ANSWER, AF_INET6, NULL},
        {"IPv4 inside of IPv6", "::ffff:127.0.0.1", NEVER_ANSWER, AF_INET6, NULL},
        {"localhost", "localhost", ASK_KERNEL, 0, NULL},
        {"no such name", "nowhere.invalid", NOT_KNOWN, 0, "cannot look up nowhere"},
        {"a resolver that dies", "a.test", DIE, 0, "resolver died"},
        {"addresses of no kind that we know", "a.test", ODD_FAMILY, 0, "no address"},
        {"more addresses than we try", "a.test", MANY, AF_INET, NULL},
        {"a resolver that never answers", "a.test", NEVER_ANSWER, 0, "cannot look up"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fail f = {S3UP_OK, ""};
        struct net_addresses list;
        int rc;

        CASE("lookup: %s", cases[i].name);
        resolver = (unsigned)cases[i].how;
        rc = net_lookup(cases[i].host, 8080, os_ticks() + (cases[i].why ? 300 : 20000),
                        &list, &f);
        CHECK_NUM(rc, cases[i].why ? -1 : 0);
        if (cases[i].why && !CHECK(has(f.text, cases[i].why)))
            printf("    %s\n", f.text);
        if (cases[i].why)
            CHECK_NUM(f.code, S3UP_LATER);
        if (rc == 0 && cases[i].family)
            CHECK_NUM(list.at[0].at.any.sa_family, cases[i].family);
        if (rc == 0)
            CHECK_NUM(ntohs(list.at[0].at.v4.sin_port), 8080); /* v6 has it there, too */
        if (cases[i].how == MANY)
            CHECK_NUM(list.n, NET_ADDRESSES);
        errno = 0;
        CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* none is left */
    }
    resolver = ASK_KERNEL;
}

static void
test_interleave(void)
{
    static const struct {
        const char *in, *out; /* 4a 4b: addresses of IPv4 */
    } cases[] = {
        {"4a", "4a"},
        {"6a", "6a"},
        {"4a4b4c", "4a4b4c"},
        {"6a6b6c4a4b", "6a4a6b4b6c"},
        {"4a4b6a6b6c6d", "4a6a4b6b6c6d"},
        {"6a4a6b4b", "6a4a6b4b"},
        {"4a6a6b6c6d6e6f6g6h6i6j6k6l6m6n6o", "4a6a6b6c6d6e6f6g6h6i6j6k6l6m6n6o"},
        {"6a6b6c6d6e6f6g6h4a4b4c4d4e4f4g4h", "6a4a6b4b6c4c6d4d6e4e6f4f6g4g6h4h"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct net_addresses list = {.n = 0};
        char out[2 * NET_ADDRESSES + 1] = "";

        CASE("interleave: %s", cases[i].in);
        for (const char *p = cases[i].in; *p; p += 2) {
            struct net_address *a = &list.at[list.n++];

            a->at.any.sa_family = *p == '4' ? AF_INET : AF_INET6;
            if (*p == '4')
                a->at.v4.sin_port = (in_port_t)p[1];
            else
                a->at.v6.sin6_port = (in_port_t)p[1];
        }
        net_interleave(&list);
        for (int32_t n = 0; n < list.n; n++) {
            const struct net_address *a = &list.at[n];
            bool four = a->at.any.sa_family == AF_INET;

            out[2 * n] = four ? '4' : '6';
            out[2 * n + 1] = (char)(four ? a->at.v4.sin_port : a->at.v6.sin6_port);
        }
        CHECK_STR(out, cases[i].out);
    }
}

/* A socket on a free port of 127.0.0.ADDRESS, listening or not; its port. */
static int
bound(unsigned address, int backlog, unsigned *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(0x7f000000 + address);
    at.sin_port = htons((uint16_t)*port);
    if (fd < 0 || bind(fd, (struct sockaddr *)(void *)&at, sizeof at) != 0 ||
        (backlog >= 0 && listen(fd, backlog) != 0) ||
        getsockname(fd, (struct sockaddr *)(void *)&at, &n) != 0) {
        perror("bind");
        abort();
    }
    *port = ntohs(at.sin_port);
    return fd;
}

/* Fills a listener's queue, so that who comes next hears nothing: the hole is black. */
static void
fill(unsigned address, unsigned port, int fds[8])
{
    struct net_address a = {.at.v4 = {.sin_family = AF_INET}};

    a.at.v4.sin_addr.s_addr = htonl(0x7f000000 + address);
    a.at.v4.sin_port = htons((uint16_t)port);
    for (unsigned i = 0; i < 8; i++)
        fds[i] = net_start(&a);
}

static void
test_connect(void)
{
    static const struct {
        const char *name;
        const char *list; /* r: refuses, h: a black hole, o: open, n: no route for us */
        int patience;     /* milliseconds */
        int error;        /* 0: connects */
    } cases[] = {
        {"one that is open", "o", 20000, 0},
        {"one that refuses", "r", 20000, ECONNREFUSED},
        {"all refuse", "rrrr", 20000, ECONNREFUSED},
        {"the last is open", "rrro", 20000, 0},
        {"holes, then an open one", "hho", 20000, 0},
        {"holes and refusals, then an open one", "hrhro", 20000, 0},
        {"a hole only", "h", 400, ETIMEDOUT},
        {"holes only", "hhh", 700, ETIMEDOUT},
        {"holes and a refusal", "hr", 400, ETIMEDOUT},
        {"an address that no socket can reach, then an open one", "no", 20000, 0},
        {"an open one behind many holes", "hhhho", 20000, 0},
    };
    unsigned ports[3] = {0, 0, 0};
    int refuses = bound(1, -1, &ports[0]), hole = bound(1, 0, &ports[1]);
    int open_one = bound(1, 50, &ports[2]), fds[8];
    struct sockaddr_in to;
    socklen_t n = sizeof to;

    fill(1, ports[1], fds);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct net_addresses list = {.n = 0};
        int fd;

        CASE("connect: %s", cases[i].name);
        for (const char *p = cases[i].list; *p; p++) {
            struct net_address *a = &list.at[list.n++];
            unsigned port = ports[*p == 'r' ? 0 : *p == 'h' ? 1 : 2];

            a->at.v4 = (struct sockaddr_in){.sin_family = AF_INET};
            a->at.v4.sin_addr.s_addr = htonl(*p == 'n' ? 0xffffffff : 0x7f000001);
            a->at.v4.sin_port = htons((uint16_t)port);
        }
        fd = net_connect(&list, os_ticks() + cases[i].patience);
        CHECK((fd >= 0) == (cases[i].error == 0));
        if (fd < 0)
            CHECK_NUM(errno, cases[i].error);
        if (fd >= 0) {
            CHECK_NUM(getpeername(fd, (struct sockaddr *)(void *)&to, &n), 0);
            CHECK_NUM(ntohs(to.sin_port), ports[2]);
            (void)close(fd);
        }
    }
    for (unsigned i = 0; i < 8; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    (void)close(refuses);
    (void)close(hole);
    (void)close(open_one);
}

/* ---- proxies ---- */

static void
test_no_proxy(void)
{
    static const struct {
        const char *list, *host;
        bool bypasses;
    } cases[] = {
        {"", "example.com", false},
        {"*", "example.com", true},
        {" * ", "example.com", true},
        {"*", "10.0.0.1", true},
        {"other.com,*", "example.com", false}, /* only alone, as curl has it */
        {"*.example.com", "a.example.com", false},
        {"example.com", "example.com", true},
        {"EXAMPLE.com", "example.com", true},
        {"example.com", "a.example.com", true},
        {"example.com", "a.b.example.com", true},
        {"example.com", "nonexample.com", false},
        {"example.com", "example.com.evil.net", false},
        {"example.com", "example.co", false},
        {"example.com", "com", false},
        {".example.com", "example.com", true},
        {".example.com", "a.example.com", true},
        {".example.com", "nonexample.com", false},
        {"..example.com", "example.com", true},
        {"example.com.", "example.com", true},
        {"example.com", "example.com.", true},
        {"example.com.", "a.example.com.", true},
        {".", "example.com", false},
        {",,", "example.com", false},
        {" ", "example.com", false},
        {"a.com, ,\t,b.com", "example.com", false},
        {"a.com, , example.com", "example.com", true},
        {" , 10.0.0.1", "10.0.0.1", true},
        {" a.com , example.com ", "example.com", true},
        {"a.com,\texample.com", "example.com", true},
        {"a.com,b.com", "example.com", false},
        {"a.com example.com", "example.com", false},
        {"localhost", "localhost", true},
        {"localhost", "127.0.0.1", false},
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.10", false},
        {"0.0.1", "127.0.0.1", false}, /* an address has no domains */
        {"127.0.0.0/8", "127.255.0.1", true},
        {"127.0.0.0/8", "128.0.0.1", false},
        {"10.1.0.0/16", "10.1.255.255", true},
        {"10.1.0.0/16", "10.2.0.0", false},
        {"192.168.1.128/25", "192.168.1.129", true},
        {"192.168.1.128/25", "192.168.1.127", false},
        {"192.168.1.1/32", "192.168.1.1", true},
        {"192.168.1.1/32", "192.168.1.2", false},
        {"0.0.0.0/0", "8.8.8.8", true},
        {"0.0.0.0/0", "example.com", false},
        {"10.0.0.0/33", "10.0.0.0", false},
        {"10.0.0.0/", "10.0.0.0", false},
        {"10.0.0.0/8x", "10.0.0.0", false},
        {"10.0.0.0/-1", "10.0.0.0", false},
        {"/8", "10.0.0.0", false},
        {"::1", "::1", true},
        {"[::1]", "::1", true},
        {"0:0:0:0:0:0:0:1", "::1", true},
        {"::1", "::2", false},
        {"fd00::/8", "fd12:3456::1", true},
        {"fd00::/8", "fe80::1", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::1", false},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "10.0.0.1", false},
        {"::1/128", "::1", true},
        {"::1/129", "::1", false},
        {"[", "example.com", false},
        {"[]", "example.com", false},
        {"]", "example.com", false},
        {"example.com", "", false},
        {"", "", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = exact(span_of(cases[i].list));

        CASE("no_proxy \"%s\" for %s", cases[i].list, cases[i].host);
        CHECK_NUM(http_bypasses(span_at(copy, strlen(cases[i].list)), cases[i].host),
                  cases[i].bypasses);
        free(copy);
    }
}

static void
test_proxy_text(void)
{
    static const struct {
        const char *text, *host;
        unsigned port;
        const char *auth, *why;
    } cases[] = {
        {"proxy:3128", "proxy", 3128, "", NULL},
        {"http://proxy:3128", "proxy", 3128, "", NULL},
        {"HTTP://Proxy.Example:3128/", "proxy.example", 3128, "", NULL},
        {"http://proxy", "proxy", 80, "", NULL},
        {"http://[::1]:8080", "::1", 8080, "", NULL},
        {"http://user:pass@proxy:3128", "proxy", 3128, "Basic dXNlcjpwYXNz", NULL},
        {"user:p%40ss@proxy:3128", "proxy", 3128, "Basic dXNlcjpwQHNz", NULL},
        {"user:p@ss@proxy:3128", "proxy", 3128, "Basic dXNlcjpwQHNz", NULL},
        {"user@proxy:3128", "proxy", 3128, "Basic dXNlcg==", NULL},
        {"user:a%0d%0ab@proxy:3128", "proxy", 3128, "Basic dXNlcjphDQpi", NULL},
        {"socksproxy:3128", "socksproxy", 3128, "", NULL},
        {"socks5.example:3128", "socks5.example", 3128, "", NULL},
        {"https://proxy:3128", "", 0, "", "plain HTTP"},
        {"socks5://proxy:1080", "", 0, "", "plain HTTP"},
        {"SOCKS5H://proxy:1080", "", 0, "", "plain HTTP"},
        {"socks4a://u:p@proxy:1080", "", 0, "", "plain HTTP"},
        {"", "", 0, "", "host name"},
        {"http://", "", 0, "", "host name"},
        {"http://proxy:99999", "", 0, "", "port"},
        {"http://proxy:", "", 0, "", "port"},
        {"http://pro xy:1", "", 0, "", "blank"},
        {"user:%zz@proxy:1", "", 0, "", "percent"},
        {"ftp://proxy:21", "", 0, "", "plain HTTP"},
        {"user:a://b@proxy:1", "proxy", 1, "Basic dXNlcjphOi8vYg==", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct origin o = {.proxy_auth = buf_upto(URL_MAX)};
        const char *why = http_set_proxy(&o, span_of(cases[i].text));

        CASE("proxy \"%s\"", cases[i].text);
        CHECK((why != NULL) == (cases[i].why != NULL));
        if (why && cases[i].why && !CHECK(has(why, cases[i].why)))
            printf("    %s\n", why);
        if (!why) {
            CHECK_STR(o.proxy, cases[i].host);
            CHECK_NUM(o.proxy_port, cases[i].port);
            CHECK_TEXT(buf_span(&o.proxy_auth), cases[i].auth);
        }
        buf_free(&o.proxy_auth);
    }
    CASE("a proxy's password that is too long");
    {
        struct origin o = {.proxy_auth = buf_upto(URL_MAX)};
        char text[1800];

        memset(text, 'x', sizeof text);
        memcpy(text + sizeof text - 8, "@proxy:1", 8);
        CHECK(http_set_proxy(&o, span_at(text, sizeof text)) != NULL);
        buf_free(&o.proxy_auth);
    }
}

/* ---- addresses, verdicts, regions, errors ---- */

static struct store store;

static void
test_addresses(void)
{
    static const struct {
        const char *name, *endpoint, *region;
        enum s3_addressing addressing;
        const char *bucket, *key, *learned, *host, *path;
    } cases[] = {
        {"AWS", NULL, NULL, S3_AUTO, "bucket", "k", NULL,
         "bucket.s3.us-east-1.amazonaws.com", "/k"},
        {"AWS in a region", NULL, "eu-west-1", S3_AUTO, "bucket", "a/b", NULL,
         "bucket.s3.eu-west-1.amazonaws.com", "/a/b"},
        {"AWS in China", NULL, "cn-north-1", S3_AUTO, "bucket", "k", NULL,
         "bucket.s3.cn-north-1.amazonaws.com.cn", "/k"},
        {"AWS in Europe", NULL, "eusc-de-east-1", S3_AUTO, "bucket", "k", NULL,
         "bucket.s3.eusc-de-east-1.amazonaws.eu", "/k"},
        {"AWS without a bucket", NULL, NULL, S3_AUTO, "", "", NULL,
         "s3.us-east-1.amazonaws.com", "/"},
        {"AWS, a bucket alone", NULL, NULL, S3_AUTO, "bucket", "", NULL,
         "bucket.s3.us-east-1.amazonaws.com", "/"},
        {"AWS, path asked for", NULL, NULL, S3_PATH, "bucket", "k", NULL,
         "s3.us-east-1.amazonaws.com", "/bucket/k"},
        {"AWS, dots over https", NULL, NULL, S3_AUTO, "my.bucket", "k", NULL,
         "s3.us-east-1.amazonaws.com", "/my.bucket/k"},
        {"AWS, dots over http", "http://s3.us-east-1.amazonaws.com", NULL, S3_AUTO,
         "my.bucket", "k", NULL, "my.bucket.s3.us-east-1.amazonaws.com", "/k"},
        {"AWS, capitals", NULL, NULL, S3_AUTO, "MyBucket", "k", NULL,
         "s3.us-east-1.amazonaws.com", "/MyBucket/k"},
        {"AWS, an underscore", NULL, NULL, S3_AUTO, "my_bucket", "k", NULL,
         "s3.us-east-1.amazonaws.com", "/my_bucket/k"},
        {"AWS, a slash in the bucket", NULL, NULL, S3_AUTO, "evil.com/x", "k", NULL,
         "s3.us-east-1.amazonaws.com", "/evil.com%2Fx/k"},
        {"AWS, the bucket moved", NULL, NULL, S3_AUTO, "bucket", "k", "eu-west-1",
         "bucket.s3.eu-west-1.amazonaws.com", "/k"},
        {"AWS, the bucket moved, path", NULL, NULL, S3_PATH, "bucket", "k", "eu-west-1",
         "s3.eu-west-1.amazonaws.com", "/bucket/k"},
        {"AWS, all regions", "https://s3.amazonaws.com", NULL, S3_AUTO, "bucket", "k",
         "eu-west-1", "bucket.s3.amazonaws.com", "/k"},
        {"AWS, two stacks", "https://s3.dualstack.us-west-2.amazonaws.com", "us-west-2",
         S3_AUTO, "bucket", "k", "eu-west-1",
         "bucket.s3.dualstack.eu-west-1.amazonaws.com", "/k"},
        {"AWS, certified", "https://s3-fips.us-west-2.amazonaws.com", "us-west-2",
         S3_AUTO, "bucket", "k", NULL, "bucket.s3-fips.us-west-2.amazonaws.com", "/k"},
        {"AWS, a bucket named like the region", NULL, "us-west-2", S3_AUTO, "us-west-2",
         "k", "eu-west-1", "us-west-2.s3.eu-west-1.amazonaws.com", "/k"},
        {"AWS in capitals", "https://S3.US-EAST-1.AmazonAWS.com", NULL, S3_AUTO, "bucket",
         "k", NULL, "bucket.S3.us-east-1.AmazonAWS.com", "/k"},
        {"a store", "http://127.0.0.1:9000", NULL, S3_AUTO, "bucket", "k", NULL,
         "127.0.0.1", "/bucket/k"},
        {"a store, the bucket moved", "http://store.example:9000", NULL, S3_AUTO,
         "bucket", "k", "eu-west-1", "store.example", "/bucket/k"},
        {"a store with a name", "https://store.example", NULL, S3_AUTO, "bucket", "k",
         NULL, "store.example", "/bucket/k"},
        {"a store, hosts asked for", "https://store.example", NULL, S3_VIRTUAL, "bucket",
         "k", NULL, "bucket.store.example", "/k"},
        {"a store, hosts asked for, dots", "https://store.example", NULL, S3_VIRTUAL,
         "my.bucket", "k", NULL, "my.bucket.store.example", "/k"},
        {"a store with a path", "http://store.example/s3/", NULL, S3_AUTO, "bucket", "k",
         NULL, "store.example", "/s3/bucket/k"},
        {"a store with a path of slashes", "http://store.example/s3//", NULL, S3_AUTO,
         "bucket", "k", NULL, "store.example", "/s3/bucket/k"},
        {"a store with a path, hosts", "http://store.example/a%20b", NULL, S3_VIRTUAL,
         "bucket", "k", NULL, "bucket.store.example", "/a%20b/k"},
        {"IPv6", "http://[::1]:9000", NULL, S3_AUTO, "bucket", "k", NULL, "::1",
         "/bucket/k"},
        {"IPv6, hosts asked for", "http://[::1]:9000", NULL, S3_VIRTUAL, "bucket", "k",
         NULL, "::1", "/bucket/k"},
        {"IPv4, hosts asked for", "http://127.0.0.1:9000", NULL, S3_VIRTUAL, "bucket",
         "k", NULL, "127.0.0.1", "/bucket/k"},
        {"hosts asked for, a bucket with capitals", "https://store.example", NULL,
         S3_VIRTUAL, "MyBucket", "k", NULL, "store.example", "/MyBucket/k"},
        {"hosts asked for, a bucket that is none", "https://store.example", NULL,
         S3_VIRTUAL, "evil.com/", "k", NULL, "store.example", "/evil.com%2F/k"},
        {"like AWS but not", "https://s3.evilamazonaws.com", NULL, S3_AUTO, "bucket", "k",
         NULL, "s3.evilamazonaws.com", "/bucket/k"},
        {"AWS in front of evil", "https://s3.amazonaws.com.evil.com", NULL, S3_AUTO,
         "bucket", "k", NULL, "s3.amazonaws.com.evil.com", "/bucket/k"},
        {"AWS's bare domain", "https://amazonaws.com", NULL, S3_AUTO, "bucket", "k", NULL,
         "amazonaws.com", "/bucket/k"},
        {"an odd key", "http://h", NULL, S3_AUTO, "b-1", "a b//../c+\xc3\xa9?#%~", NULL,
         "h", "/b-1/a%20b//../c%2B%C3%A9%3F%23%25~"},
        {"a key of a slash", "http://h", NULL, S3_AUTO, "b-1", "/", NULL, "h", "/b-1//"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct s3_config config = {.endpoint = cases[i].endpoint,
                                   .region = cases[i].region,
                                   .addressing = cases[i].addressing};
        struct s3_call call =
            s3_to("GetObject", "GET", span_of(cases[i].bucket), span_of(cases[i].key));
        struct buf host = buf_upto(URL_MAX), path = buf_upto(URL_MAX);
        struct fail f = {S3UP_OK, ""};

        CASE("address: %s", cases[i].name);
        CHECK_NUM(s3_open(&store, &config, &f), 0);
        if (cases[i].learned)
            CHECK(s3_learn_region(&store, call.bucket, span_of(cases[i].learned)));
        s3_address(&store, &call, &host, &path);
        CHECK_TEXT(buf_span(&host), cases[i].host);
        CHECK_TEXT(buf_span(&path), cases[i].path);
        s3_close(&store);
        buf_free(&host);
        buf_free(&path);
    }
}

static void
test_endpoints(void)
{
    static const struct {
        const char *endpoint, *region, *why;
    } cases[] = {
        {"store.example", NULL, "begin with http"},
        {"ftp://store.example", NULL, "begin with http"},
        {"http://", NULL, "host name"},
        {"http://a/?x=1", NULL, "query"},
        {"http://a#b", NULL, "#"},
        {"http://a b", NULL, "blank"},
        {"http://user:geheim@a", NULL, "user name or password"},
        {"http://a:0", NULL, "port"},
        {"http://[::1", NULL, "brackets"},
        {NULL, "us east", "region"},
        {NULL, "evil.com/", "region"},
        {NULL, "", "region"},
        {NULL, "US-EAST-1", "region"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct s3_config config = {.endpoint = cases[i].endpoint,
                                   .region = cases[i].region};
        struct fail f = {S3UP_OK, ""};

        CASE("endpoint %s, region %s", cases[i].endpoint, cases[i].region);
        CHECK_NUM(s3_open(&store, &config, &f), -1);
        CHECK_NUM(f.code, S3UP_USAGE);
        if (!CHECK(has(f.text, cases[i].why)))
            printf("    %s\n", f.text);
        CHECK(!has(f.text, "geheim")); /* a password is not repeated */
        s3_close(&store);
    }
}

/* S3-FACTS 5.1 to 5.4 and what the house has ruled: what is tried again. */
static void
test_verdicts(void)
{
    static const struct {
        unsigned status;
        const char *code, *region;
        enum s3_verdict verdict;
        enum s3up_exit exit; /* if it stays so */
    } cases[] = {
        {500, "InternalError", "", S3_AGAIN, S3UP_LATER},
        {500, "", "", S3_AGAIN, S3UP_LATER},
        {502, "", "", S3_AGAIN, S3UP_LATER},
        {503, "", "", S3_SLOWER, S3UP_LATER},
        {503, "SlowDown", "", S3_SLOWER, S3UP_LATER},
        {503, "SlowDownRead", "", S3_SLOWER, S3UP_LATER},
        {503, "SlowDownWrite", "", S3_SLOWER, S3UP_LATER},
        {503, "ServiceUnavailable", "", S3_SLOWER, S3UP_LATER},
        {503, "XMinioServerNotInitialized", "", S3_AGAIN, S3UP_LATER},
        {504, "", "", S3_AGAIN, S3UP_LATER},
        {509, "BandwidthLimitExceeded", "", S3_SLOWER, S3UP_LATER},
        {509, "", "", S3_SLOWER, S3UP_LATER},
        {520, "", "", S3_AGAIN, S3UP_LATER},
        {408, "", "", S3_AGAIN, S3UP_LATER},
        {429, "", "", S3_SLOWER, S3UP_LATER},
        {429, "TooManyRequestsException", "", S3_SLOWER, S3UP_LATER},
        {499, "", "", S3_AGAIN, S3UP_LATER},
        {400, "RequestTimeout", "", S3_AGAIN, S3UP_LATER},
        {400, "RequestTimeoutException", "", S3_AGAIN, S3UP_LATER},
        {400, "PriorRequestNotComplete", "", S3_AGAIN, S3UP_LATER},
        {400, "ThrottlingException", "", S3_SLOWER, S3UP_LATER},
        {400, "Throttling", "", S3_SLOWER, S3UP_LATER},
        {400, "RequestLimitExceeded", "", S3_SLOWER, S3UP_LATER},
        {400, "BadDigest", "", S3_ONCE, S3UP_DAMAGED},
        {400, "XAmzContentSHA256Mismatch", "", S3_ONCE, S3UP_DAMAGED},
        {400, "XAmzContentChecksumMismatch", "", S3_ONCE, S3UP_DAMAGED}, /* MinIO */
        {403, "RequestTimeTooSkewed", "", S3_CLOCK, S3UP_LATER},
        {403, "SignatureDoesNotMatch", "", S3_CLOCK, S3UP_DENIED},
        {301, "PermanentRedirect", "", S3_REGION, S3UP_USAGE},
        {301, "", "", S3_REGION, S3UP_USAGE},
        {307, "TemporaryRedirect", "", S3_REGION, S3UP_USAGE},
        {400, "AuthorizationHeaderMalformed", "", S3_REGION, S3UP_USAGE},
        {400, "IllegalLocationConstraintException", "", S3_REGION, S3UP_SOME},
        {400, "", "eu-west-1", S3_REGION, S3UP_SOME}, /* HEAD to a newer region */
        {400, "", "", S3_REGION, S3UP_SOME}, /* HEAD to a store that says nothing */
        {400, "InvalidArgument", "", S3_FINAL, S3UP_SOME},
        {400, "ExpiredToken", "", S3_FINAL, S3UP_DENIED},
        {401, "", "", S3_FINAL, S3UP_DENIED},
        {403, "", "", S3_CLOCK, S3UP_DENIED}, /* HEAD: only the date tells */
        {403, "AccessDenied", "", S3_FINAL, S3UP_DENIED},
        {403, "InvalidAccessKeyId", "", S3_FINAL, S3UP_DENIED},
        {404, "", "", S3_FINAL, S3UP_MISSING},
        {404, "NoSuchKey", "", S3_FINAL, S3UP_MISSING},
        {404, "NoSuchUpload", "", S3_FINAL, S3UP_MISSING},
        {405, "MethodNotAllowed", "", S3_FINAL, S3UP_DENIED},
        {409, "ConditionalRequestConflict", "", S3_FINAL, S3UP_EXISTS},
        {409, "OperationAborted", "", S3_AGAIN, S3UP_LATER},
        {411, "MissingContentLength", "", S3_FINAL, S3UP_SOME},
        {412, "PreconditionFailed", "", S3_FINAL, S3UP_EXISTS},
        {416, "InvalidRange", "", S3_FINAL, S3UP_SOME},
        {501, "NotImplemented", "", S3_FINAL, S3UP_SOME},
        {501, "", "", S3_FINAL, S3UP_SOME},
        {505, "", "", S3_FINAL, S3UP_SOME},
        {302, "", "", S3_FINAL, S3UP_USAGE},
        {308, "", "", S3_FINAL, S3UP_USAGE},
    };
    struct s3_call call = s3_to("PutObject", "PUT", SPAN("b"), SPAN("k")), plain = call;
    struct fail unasked = {S3UP_OK, ""};

    s3_header(&call, "if-none-match", SPAN("*"));
    CASE("verdict: 412 where nothing was asked under a condition");
    store.error = (struct s3_error){.status = 412};
    CHECK_NUM(s3_refused(&store, &plain, &unasked), -1);
    CHECK_NUM(unasked.code, S3UP_SOME);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fail f = {S3UP_OK, ""};

        CASE("verdict: %u %s %s", cases[i].status, cases[i].code, cases[i].region);
        store.error = (struct s3_error){.status = cases[i].status};
        strcpy(store.error.code, cases[i].code);
        strcpy(store.error.region, cases[i].region);
        CHECK_NUM(s3_judge(&store.error), cases[i].verdict);
        CHECK_NUM(s3_refused(&store, &call, &f), -1);
        CHECK_NUM(f.code, cases[i].exit);
    }
}

static void
open_at(const char *endpoint, unsigned retries)
{
    struct s3_config config = {.endpoint = endpoint,
                               .id = SPAN("AKIDEXAMPLE"),
                               .secret = SPAN("verysecret"),
                               .token = SPAN("tokensecret"),
                               .proxy = "",
                               .retries = retries,
                               .limit = 3000};
    struct fail f = {S3UP_OK, ""};

    if (s3_open(&store, &config, &f) < 0)
        abort();
}

static void
test_regions(void)
{
    static const char *const hostile[] = {
        "",
        "eu",
        "a b",
        "evil.com",
        "evil.com/",
        "eu-west-1/",
        "eu-west-1@evil.com",
        "eu-west-1#",
        "eu-west-1\r\nX: y",
        "-eu-west-1",
        "eu-west-1-",
        "EU-WEST-1",
        "eu_west_1",
        "eu~west",
        "eu-west-\xc3\xa9",
        "%65u-west-1",
        "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789"};
    char bucket[24];

    open_at("http://h", 0);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        CASE("region \"%.20s\"", hostile[i]);
        CHECK(!s3_learn_region(&store, SPAN("bucket"), span_of(hostile[i])));
        CHECK_STR(s3_region_of(&store, SPAN("bucket")), "us-east-1");
    }
    CASE("region with a NUL");
    CHECK(!s3_learn_region(&store, SPAN("bucket"), SPAN("eu-west\0-1")));
    CASE("regions that are learned");
    CHECK(!s3_learn_region(&store, SPAN(""), SPAN("eu-west-1")));
    CHECK(s3_learn_region(&store, SPAN("bucket"), SPAN("eu-west-1")));
    CHECK(!s3_learn_region(&store, SPAN("bucket"), SPAN("eu-west-1"))); /* not new */
    CHECK_STR(s3_region_of(&store, SPAN("bucket")), "eu-west-1");
    CHECK_STR(s3_region_of(&store, SPAN("")), "us-east-1");
    CHECK_STR(s3_region_of(&store, SPAN("bucke")), "us-east-1");
    CHECK(s3_learn_region(&store, SPAN("bucket"), SPAN("eu-west-2")));
    CHECK_STR(s3_region_of(&store, SPAN("bucket")), "eu-west-2");
    CHECK_NUM(store.known, 1);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(bucket, sizeof bucket, "bucket-%d", i);
        CHECK(s3_learn_region(&store, span_of(bucket), SPAN("ap-south-1")));
        CHECK_STR(s3_region_of(&store, span_of(bucket)), "ap-south-1");
    }
    CHECK_STR(s3_region_of(&store, SPAN("bucket-0")), "us-east-1"); /* forgotten */
    CHECK_STR(s3_region_of(&store, SPAN("bucket-12")), "ap-south-1");
    CASE("a bucket with a long name");
    CHECK(!s3_learn_region(&store, span_of(hostile[16]), SPAN("eu-west-1")));
    s3_close(&store);
}

/* Puts a reply into the store as if it had been collected. */
static void
put_reply(const char *head, const char *body)
{
    store.conn.head.n = 0;
    CHECK(!http_parse(span_of(head), &store.conn.head));
    buf_clear(&store.reply);
    buf_str(&store.reply, body);
}

static void
test_errors(void)
{
    static const struct {
        const char *name, *fields, *body;
        const char *code, *message, *request, *region;
    } cases[] = {
        {"XML", "",
         "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>Not &lt;here"
         "</Message><RequestId>R1</RequestId><Region>eu-west-1</Region></Error>",
         "NoSuchKey", "Not <here", "R1", "eu-west-1"},
        {"blanks ahead", "",
         "  \n \n<?xml version=\"1.0\"?><Error><Code>A</Code></Error>", "A", "", "", ""},
        {"a namespace", "",
         "<e:Error xmlns:e=\"x\"><e:Code>A</e:Code><e:Message>B</e:Message></e:Error>",
         "A", "B", "", ""},
        {"wrapped", "",
         "<ErrorResponse><Error><Type>Sender</Type><Code>A</Code><Message>B</Message>"
         "</Error><RequestId>R</RequestId></ErrorResponse>",
         "A", "B", "", ""},
        {"the head's request id", "x-amz-request-id: R2\r\n",
         "<Error><Code>A</Code></Error>", "A", "", "R2", ""},
        {"both request ids", "x-amz-request-id: R2\r\n",
         "<Error><RequestId>R1</RequestId></Error>", "", "", "R1", ""},
        {"the head's region", "x-amz-bucket-region: eu-west-3\r\n", "", "", "", "",
         "eu-west-3"},
        {"an empty message", "", "<Error><Code>A</Code><Message/></Error>", "A", "", "",
         ""},
        {"nothing", "", "", "", "", "", ""},
        {"a page", "", "<!DOCTYPE html><html><h1>502</h1></html>", "", "", "", ""},
        {"a page that is XML", "", "<html><body><Code>A</Code></body></html>", "", "", "",
         ""},
        {"text", "", "no XML here", "", "", "", ""},
        {"cut", "", "<Error><Code>A</Code><Message>B", "A", "", "", ""},
        {"a code inside of another element", "",
         "<Error><Detail><Code>X</Code></Detail></Error>", "", "", "", ""},
        {"a code too many", "", "<Error><Code>A</Code><Code>B</Code></Error>", "B", "",
         "", ""},
        {"a NUL", "", "<Error><Code>A&#0;B</Code></Error>", "A", "", "", ""},
    };

    open_at("http://h", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[200];

        CASE("error: %s", cases[i].name);
        (void)snprintf(head, sizeof head, "HTTP/1.1 404 No\r\n%s\r\n", cases[i].fields);
        put_reply(head, cases[i].body);
        s3_read_error(&store);
        CHECK_NUM(store.error.status, 404);
        CHECK_STR(store.error.code, cases[i].code);
        CHECK_STR(store.error.message, cases[i].message);
        CHECK_STR(store.error.request, cases[i].request);
        CHECK_STR(store.error.region, cases[i].region);
    }
    CASE("error: long ones are cut");
    {
        struct buf body = buf_upto(100000);

        buf_str(&body, "<Error><Code>");
        for (int i = 0; i < 5000; i++)
            buf_char(&body, 'c');
        buf_str(&body, "</Code><Message>");
        for (int i = 0; i < 5000; i++)
            buf_char(&body, 'm');
        buf_str(&body, "</Message></Error>");
        put_reply("HTTP/1.1 404 No\r\n\r\n", body.p);
        s3_read_error(&store);
        CHECK_NUM(strlen(store.error.code), sizeof store.error.code - 1);
        CHECK_NUM(strlen(store.error.message), sizeof store.error.message - 1);
        buf_free(&body);
    }
    s3_close(&store);
}

static void
test_reply_is(void)
{
    static const struct {
        const char *body;
        bool is;
    } cases[] = {
        {"<R/>", true},
        {"<R></R>", true},
        {" \n<?xml version=\"1.0\"?>\n<R a=\"b\"><x/></R>\n", true},
        {"<p:R xmlns:p=\"x\"></p:R>", true},
        {"", false},
        {" ", false},
        {"<R>", false},
        {"<R></R", false},
        {"<R></R><R></R>", false},
        {"<R></R>text", false},
        {"<Error><Code>InternalError</Code></Error>", false},
        {"<Other><R/></Other>", false},
        {"<R><Error/></R>", true},
    };

    open_at("http://h", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CASE("reply: %s", cases[i].body);
        buf_clear(&store.reply);
        buf_str(&store.reply, cases[i].body);
        CHECK_NUM(s3_reply_is(&store, "R"), cases[i].is);
    }
    s3_close(&store);
}

/* What a page of a list says about itself. */
static void
test_list_pages(void)
{
    static const struct {
        const char *name;
        enum s3_list_kind kind;
        const char *page;
        const char *next, *next_id;
        bool truncated, encoded;
    } cases[] = {
        {"version 2", S3_OBJECTS,
         "<L><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b+%20"
         "</NextContinuationToken><EncodingType>url</EncodingType></L>",
         "a&b+%20", "", true, true},
        {"version 2, the question's token", S3_OBJECTS,
         "<L><ContinuationToken>x</ContinuationToken><IsTruncated>true</IsTruncated></L>",
         "", "", true, false},
        {"version 1", S3_OBJECTS,
         "<L><IsTruncated>true</IsTruncated><NextMarker>a+%2B</NextMarker></L>", "a+%2B",
         "", true, false},
        {"version 1, encoded, the encoding said last", S3_OBJECTS,
         "<L><IsTruncated>true</IsTruncated><NextMarker>a+%2B</NextMarker>"
         "<EncodingType>url</EncodingType></L>",
         "a +", "", true, true},
        {"version 1, encoded badly", S3_OBJECTS,
         "<L><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
         "<NextMarker>100%</NextMarker></L>",
         "100%", "", true, true},
        {"uploads", S3_UPLOADS,
         "<L><NextKeyMarker>k%2F</NextKeyMarker><NextUploadIdMarker>i%2F"
         "</NextUploadIdMarker><IsTruncated>true</IsTruncated>"
         "<EncodingType>url</EncodingType></L>",
         "k/", "i%2F", true, true},
        {"uploads, empty markers", S3_UPLOADS,
         "<L><NextKeyMarker></NextKeyMarker><NextUploadIdMarker/>"
         "<IsTruncated>false</IsTruncated></L>",
         "", "", false, false},
        {"parts", S3_PARTS,
         "<L><NextPartNumberMarker>7</NextPartNumberMarker>"
         "<IsTruncated>true</IsTruncated></L>",
         "7", "", true, false},
        {"buckets", S3_BUCKETS,
         "<L><Buckets/><ContinuationToken>t</ContinuationToken></L>", "t", "", true,
         false},
        {"the last page", S3_OBJECTS, "<L><IsTruncated>false</IsTruncated></L>", "", "",
         false, false},
        {"a prefix", S3_OBJECTS,
         "<s:L><s:IsTruncated>true</s:IsTruncated><s:NextContinuationToken>a"
         "</s:NextContinuationToken></s:L>",
         "a", "", true, false},
        {"markers of entries", S3_OBJECTS,
         "<L><Contents><NextMarker>x</NextMarker><IsTruncated>true</IsTruncated>"
         "</Contents></L>",
         "", "", false, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct s3_list l;

        CASE("page: %s", cases[i].name);
        s3_list_begin(&l, cases[i].kind, SPAN("b"));
        s3_list_page(&l, span_of(cases[i].page));
        CHECK_TEXT(buf_span(&l.next), cases[i].next);
        CHECK_TEXT(buf_span(&l.next_id), cases[i].next_id);
        CHECK_NUM(l.is_truncated, cases[i].truncated);
        CHECK_NUM(l.is_encoded, cases[i].encoded);
        s3_list_end(&l);
    }
}

/* ---- whole calls against a server that follows a script ---- */

/* What the server does with one request. */
struct step {
    const char *reply; /* NULL: nothing */
    size_t n;
    /* FLOOD: zeros until nobody listens; TRICKLE: the same, a byte now and then; APART:
     * the head, then the body, to all requests from now on */
    enum { STAY, CLOSE, RESET, FLOOD, TRICKLE, APART } then;
};

#define STEP(text, then)                                                                 \
    {                                                                                    \
        text, sizeof(text) - 1, then                                                     \
    }
#define SAY(text) STEP(text, STAY)
#define SILENCE(then)                                                                    \
    {                                                                                    \
        NULL, 0, then                                                                    \
    }

/* What the child writes and the test reads: the requests that came, in order. */
static struct {
    unsigned requests, connections;
    char heads[32][4096];
} * seen;

/* Reads a request with its body; false when the connection ended instead. */
static bool
take_request(int fd)
{
    char *head = seen->heads[seen->requests % 32], *end, *length;
    size_t n = 0, body;
    ssize_t did;

    do {
        did = read(fd, head + n, 4095 - n);
        if (did <= 0)
            return false;
        n += (size_t)did;
        head[n] = 0;
        end = strstr(head, "\r\n\r\n");
    } while (!end && n < 4095);
    if (!end)
        return false;
    length = strstr(head, "content-length: ");
    body = length && length < end ? strtoul(length + 16, NULL, 10) : 0;
    for (n -= (size_t)(end - head) + 4; n < body; n += (size_t)did) {
        static char rest[65536];

        did = read(fd, rest, sizeof rest);
        if (did <= 0)
            return false;
    }
    end[2] = 0;
    seen->requests++;
    return true;
}

static void
follow(int listener, const struct step *steps, unsigned n)
{
    struct linger at_once = {1, 0};
    char zeros[8192];
    int fd = -1;

    memset(zeros, '0', sizeof zeros);
    for (unsigned i = 0; i < n;) {
        const struct step *s = &steps[i];

        if (fd < 0) {
            fd = accept(listener, NULL, NULL);
            seen->connections++;
        }
        if (take_request(fd)) {
            size_t first = s->then == APART
                               ? (size_t)(strstr(s->reply, "\r\n\r\n") + 4 - s->reply)
                               : s->n;

            i += s->then != APART;
            if (s->reply)
                (void)os_write(fd, s->reply, first);
            if (first < s->n)
                (void)os_write(fd, s->reply + first, s->n - first);
            while (s->then == FLOOD && os_write(fd, zeros, sizeof zeros))
                continue;
            while (s->then == TRICKLE && os_write(fd, zeros, 1))
                (void)poll(NULL, 0, 20);
            if (s->then == STAY || s->then == APART)
                continue;
            if (s->then == RESET)
                (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        }
        (void)close(fd);
        fd = -1;
    }
}

static pid_t server;

/* Starts it, on a free port, and opens the store there. */
static void
script(const struct step *steps, unsigned n, unsigned retries)
{
    unsigned port = 0;
    int listener = bound(1, 50, &port);
    char endpoint[64];

    seen->requests = seen->connections = 0;
    (void)fflush(stdout);
    server = fork();
    if (server == 0) {
        (void)signal(SIGPIPE, SIG_IGN);
        (void)alarm(TOO_LONG);
        follow(listener, steps, n);
        _exit(0);
    }
    (void)close(listener);
    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", port);
    open_at(endpoint, retries);
}

static void
script_end(void)
{
    s3_close(&store);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
}

#define SCRIPT(retries, ...)                                                             \
    do {                                                                                 \
        static const struct step steps[] = {__VA_ARGS__};                                \
                                                                                         \
        script(steps, sizeof steps / sizeof *steps, retries);                            \
    } while (0)

#define NOTHING  "Content-Length: 0\r\n\r\n"
#define GOOD     SAY("HTTP/1.1 200 OK\r\n" NOTHING)
#define SKEWED   "<Error><Code>RequestTimeTooSkewed</Code></Error>"
#define INTERNAL "<Error><Code>InternalError</Code><Message>again</Message></Error>"

/* One GET or HEAD; the exit code, and a word of the message. */
static void
expect(const char *method, enum s3up_exit code, const char *word)
{
    struct s3_call call = s3_to("Test", method, SPAN("bucket"), SPAN("key"));
    struct fail f = {S3UP_OK, ""};

    (void)s3_run(&store, &call, &f);
    CHECK_NUM(f.code, code);
    if (!CHECK(has(f.text, word)))
        printf("    %s\n", f.text);
    CHECK(!has(f.text, "verysecret") && !has(f.text, "tokensecret"));
}

static void
test_retries(void)
{
    CASE("once more, and again");
    SCRIPT(2, STEP("HTTP/1.1 500 No\r\n" NOTHING, CLOSE), SILENCE(CLOSE), GOOD);
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 3);
    CHECK_NUM(store.purse, S3_PURSE - 2 * S3_COST + 1);
    script_end();

    CASE("in vain");
    SCRIPT(2, SAY("HTTP/1.1 500 No\r\n" NOTHING), SAY("HTTP/1.1 500 No\r\n" NOTHING),
           SAY("HTTP/1.1 503 No\r\n" NOTHING), GOOD);
    expect("HEAD", S3UP_LATER, "503 (tried again in vain)");
    CHECK_NUM(seen->requests, 3);
    script_end();

    CASE("a kept connection that died is no attempt");
    SCRIPT(0, GOOD, SILENCE(CLOSE), GOOD, SILENCE(RESET), GOOD);
    for (int i = 0; i < 3; i++)
        expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 5);
    CHECK_NUM(seen->connections, 3);
    script_end();

    CASE("a new connection that died is one");
    SCRIPT(0, SILENCE(CLOSE), GOOD);
    expect("HEAD", S3UP_LATER, "without a reply");
    script_end();

    CASE("a kept connection that died in the middle of a reply is one");
    SCRIPT(0, GOOD, STEP("HTTP/1.1 20", CLOSE), GOOD);
    expect("HEAD", S3UP_OK, "");
    expect("HEAD", S3UP_LATER, "in the middle of its reply");
    script_end();

    CASE("a purse that is empty");
    SCRIPT(9, SAY("HTTP/1.1 500 No\r\n" NOTHING), GOOD);
    store.purse = S3_COST - 1;
    expect("HEAD", S3UP_LATER, "500");
    CHECK_NUM(seen->requests, 1);
    script_end();

    /* The head of the last reply is gone when its connection is; nobody may look there. */
    CASE("a pause behind a connection that died");
    SCRIPT(3, SAY("HTTP/1.1 200 OK\r\nRetry-After: 0\r\n" NOTHING), SILENCE(CLOSE),
           SILENCE(CLOSE), GOOD);
    expect("HEAD", S3UP_OK, "");
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 4);
    script_end();

    CASE("not everything is tried again");
    SCRIPT(3, SAY("HTTP/1.1 501 No\r\n" NOTHING), GOOD);
    expect("HEAD", S3UP_SOME, "501");
    CHECK_NUM(seen->requests, 1);
    script_end();
}

/* Whether the last request but `back` had this in its head. */
static bool
was_sent(unsigned back, const char *text)
{
    return seen->requests > back && has(seen->heads[seen->requests - 1 - back], text);
}

/* A 403 of a store whose clock is off by so many seconds. */
static void
put_skewed(char reply[512], int64_t off)
{
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct date d = date_of(os_now().s + off);

    (void)snprintf(reply, 512,
                   "HTTP/1.1 403 No\r\nDate: Mon, %02u %s %04u %02u:%02u:%02u GMT\r\n"
                   "Content-Length: %zu\r\n\r\n" SKEWED,
                   d.day, months[d.month - 1], (unsigned)d.year, d.hour, d.minute,
                   d.second, strlen(SKEWED));
}

static void
test_clock(void)
{
    static char skewed[512], other[512];
    struct step wrong[] = {{skewed, 0, STAY}, GOOD, GOOD},
                twice[] = {{skewed, 0, STAY}, {other, 0, STAY}, GOOD};
    char stamp[DATE_STAMP];

    for (int head = 0; head < 2; head++) {
        const char *method = head ? "HEAD" : "GET";

        CASE("a clock that is wrong by a day, seen by a %s", method);
        put_skewed(skewed, 86400);
        wrong[0].n = strlen(skewed);
        script(wrong, 3, 0);
        expect(method, S3UP_OK, "");
        CHECK_NUM(seen->requests, 2);
        if (seen->requests > 1) {
            date_stamp(os_now().s + 86400, stamp);
            stamp[9] = 0; /* day and T: the test may last seconds */
            CHECK(was_sent(0, stamp));
            CHECK(!was_sent(1, stamp));
        }
        expect(method, S3UP_OK, "");
        CHECK_NUM(seen->requests, 3); /* it is remembered */
        script_end();
    }

    CASE("a clock that is right enough");
    put_skewed(skewed, 200);
    wrong[0].n = strlen(skewed);
    script(wrong, 3, 0);
    expect("GET", S3UP_LATER, "clock");
    CHECK_NUM(seen->requests, 1);
    script_end();

    CASE("a clock that is never right");
    put_skewed(skewed, 86400);
    put_skewed(other, -86400);
    twice[0].n = strlen(skewed);
    twice[1].n = strlen(other);
    script(twice, 3, 0);
    expect("GET", S3UP_LATER, "clock");
    CHECK_NUM(seen->requests, 2);
    script_end();

    CASE("a refusal without a date");
    SCRIPT(3, SAY("HTTP/1.1 403 No\r\n" NOTHING), GOOD);
    expect("HEAD", S3UP_DENIED, "403");
    CHECK_NUM(seen->requests, 1);
    script_end();
}

#define MOVED(fields) "HTTP/1.1 301 Moved\r\n" fields NOTHING

static void
test_moved(void)
{
    CASE("moved, and the store says where");
    SCRIPT(0, SAY(MOVED("x-amz-bucket-region: eu-west-1\r\n")), GOOD, GOOD);
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 2);
    CHECK(was_sent(1, "/us-east-1/s3/") && was_sent(0, "/eu-west-1/s3/"));
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 3);
    CHECK(was_sent(0, "/eu-west-1/s3/"));
    script_end();

    CASE("moved, and the bucket's head says where");
    SCRIPT(0, SAY(MOVED("")),
           SAY("HTTP/1.1 403 No\r\nx-amz-bucket-region: eu-west-1\r\n" NOTHING), GOOD);
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 3);
    CHECK(was_sent(1, "HEAD /bucket HTTP/1.1") && was_sent(0, "HEAD /bucket/key"));
    script_end();

    CASE("moved, and the body of a refusal says where");
    SCRIPT(0, SAY("HTTP/1.1 400 No\r\n" NOTHING), SAY("HTTP/1.1 400 No\r\n" NOTHING),
           STEP("HTTP/1.1 400 No\r\n\r\n<Error><Code>AuthorizationHeaderMalformed</Code>"
                "<Region>eu-west-1</Region></Error>",
                CLOSE),
           GOOD);
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->requests, 4);
    CHECK(was_sent(1, "GET /bucket?location= HTTP/1.1"));
    CHECK(was_sent(0, "/eu-west-1/s3/"));
    script_end();

    CASE("moved, and nobody says where");
    SCRIPT(3, SAY(MOVED("")), SAY("HTTP/1.1 403 No\r\n" NOTHING),
           SAY("HTTP/1.1 403 No\r\n" NOTHING), GOOD);
    expect("HEAD", S3UP_USAGE, "301");
    CHECK_NUM(seen->requests, 3);
    script_end();

    CASE("moved in circles");
    SCRIPT(3, SAY(MOVED("x-amz-bucket-region: eu-west-1\r\n")),
           SAY(MOVED("x-amz-bucket-region: us-east-1\r\n")), GOOD);
    expect("HEAD", S3UP_USAGE, "301");
    CHECK_NUM(seen->requests, 2);
    script_end();

    CASE("moved to where it is");
    SCRIPT(3, SAY(MOVED("x-amz-bucket-region: evil.com/\r\n")), GOOD);
    expect("HEAD", S3UP_USAGE, "301");
    CHECK_NUM(seen->requests, 1);
    script_end();
}

/* Whoever follows the address in a redirect takes our signature there. */
static void
test_led_astray(void)
{
    static const unsigned ways[] = {301, 302, 303, 307, 308};
    unsigned port = 0;
    int thief = bound(1, 50, &port);
    char reply[256];

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int head = 0; head < 2; head++) {
            struct step steps[4] = {{reply, 0, STAY}, {reply, 0, STAY}, {reply, 0, STAY}};

            CASE("%u to an address, by %s", ways[i], head ? "HEAD" : "GET");
            (void)snprintf(reply, sizeof reply,
                           "HTTP/1.1 %u Over there\r\nLocation: http://127.0.0.1:%u/x\r\n"
                           "Content-Length: 0\r\n\r\n",
                           ways[i], port);
            for (int n = 0; n < 3; n++)
                steps[n].n = strlen(reply);
            script(steps, 3, 0);
            expect(head ? "HEAD" : "GET", ways[i] == 303 ? S3UP_SOME : S3UP_USAGE, "30");
            script_end();
        }
    CASE("nobody was led astray");
    CHECK_NUM(fcntl(thief, F_SETFL, O_NONBLOCK), 0);
    CHECK(accept(thief, NULL, NULL) < 0 && errno == EAGAIN);
    (void)close(thief);
}

/* At Amazon a region is a host, too. The resolver leads all of them to the script. */
static void
test_moved_host(void)
{
    char endpoint[80];
    unsigned port;

    CASE("moved, to another host of Amazon's");
    SCRIPT(0, SAY(MOVED("x-amz-bucket-region: eu-west-1\r\n")), SILENCE(CLOSE), GOOD,
           GOOD);
    port = store.url.port;
    s3_close(&store);
    (void)snprintf(endpoint, sizeof endpoint, "http://s3.us-east-1.amazonaws.com:%u",
                   port);
    open_at(endpoint, 1);
    resolver = MANY;
    expect("GET", S3UP_OK, "");
    expect("GET", S3UP_OK, "");
    resolver = ASK_KERNEL;
    CHECK_NUM(seen->requests, 4);
    CHECK(was_sent(3, "GET /key HTTP/1.1\r\nhost: bucket.s3.us-east-1.amazonaws.com:"));
    CHECK(was_sent(1, "GET /key HTTP/1.1\r\nhost: bucket.s3.eu-west-1.amazonaws.com:"));
    CHECK(was_sent(0, "host: bucket.s3.eu-west-1.amazonaws.com:"));
    CHECK(was_sent(3, "/us-east-1/s3/") && was_sent(0, "/eu-west-1/s3/"));
    script_end();
}

/* Calls whose success is an element in the reply. */
static void
test_ok_that_is_none(void)
{
    struct fail f = {S3UP_OK, ""};
    struct s3_call call = s3_to("CopyObject", "PUT", SPAN("bucket"), SPAN("key"));

    CASE("200 with an error");
    SCRIPT(1, STEP("HTTP/1.1 200 OK\r\n\r\n" INTERNAL, CLOSE),
           STEP("HTTP/1.1 200 OK\r\n\r\n" INTERNAL, CLOSE), GOOD);
    CHECK_NUM(s3_copy_object(&store, &call, SPAN("bucket/other"), &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    CHECK(has(f.text, "InternalError: again"));
    CHECK_NUM(seen->requests, 2);
    script_end();

    CASE("200 with an error of which no retry can help");
    f = (struct fail){S3UP_OK, ""};
    call = s3_to("CopyObject", "PUT", SPAN("bucket"), SPAN("key"));
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\n\r\n<Error><Code>InvalidAccessKeyId</Code>"
                   "</Error>",
                   CLOSE));
    CHECK_NUM(s3_copy_object(&store, &call, SPAN("bucket/other"), &f), -1);
    CHECK_NUM(f.code, S3UP_DENIED);
    script_end();

    CASE("200 with an error for a part");
    f = (struct fail){S3UP_OK, ""};
    SCRIPT(1, STEP("HTTP/1.1 200 OK\r\n\r\n" INTERNAL, CLOSE), GOOD);
    call = s3_to("UploadPart", "PUT", SPAN("bucket"), SPAN("key"));
    call.has_body = true;
    CHECK_NUM(s3_run(&store, &call, &f), 0);
    CHECK_NUM(seen->requests, 2);
    script_end();

    CASE("200 with nothing");
    f = (struct fail){S3UP_OK, ""};
    call = s3_to("CopyObject", "PUT", SPAN("bucket"), SPAN("key"));
    SCRIPT(1, GOOD, STEP("HTTP/1.1 200 OK\r\n\r\n  <CopyObjectResult/>", CLOSE));
    CHECK_NUM(s3_copy_object(&store, &call, SPAN("bucket/other"), &f), 0);
    CHECK_NUM(seen->requests, 2);
    script_end();
}

static void
test_floods(void)
{
    struct fail f = {S3UP_OK, ""};
    struct s3_call call = s3_to("CopyObject", "PUT", SPAN("bucket"), SPAN("key")), get;

    CASE("the page of an error without end");
    SCRIPT(0, STEP("HTTP/1.1 403 No\r\n\r\n", FLOOD));
    expect("HEAD", S3UP_DENIED, "403"); /* a HEAD has no body, whatever comes */
    script_end();
    SCRIPT(0, STEP("HTTP/1.1 403 No\r\n\r\n", FLOOD));
    get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
    CHECK_NUM(s3_get_object(&store, &get, &f), -1);
    CHECK_NUM(f.code, S3UP_DENIED);
    script_end();

    CASE("a reply without end");
    f = (struct fail){S3UP_OK, ""};
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\n\r\n<CopyObjectResult>", FLOOD));
    CHECK_NUM(s3_copy_object(&store, &call, SPAN("bucket/other"), &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    CHECK(has(f.text, "longer than"));
    script_end();
}

/* Makes a proxy of the server that the script has started. */
static void
through_it(void)
{
    static char proxy[32];

    (void)snprintf(proxy, sizeof proxy, "127.0.0.1:%u", store.url.port);
    s3_close(&store);
    open_at("https://store.test", 0);
    store.config.proxy = proxy;
    store.origin.limit = 600;
}

static void
test_odd_proxies(void)
{
    /* Its answer has to be there when all of the connecting has to be done. */
    CASE("a proxy that answers byte by byte");
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\nx: ", TRICKLE));
    through_it();
    expect("GET", S3UP_LATER, "the proxy did not answer in time");
    script_end();

    CASE("a proxy that puts words into the store's mouth");
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", CLOSE));
    through_it();
    expect("GET", S3UP_LATER, "sent more than its reply");
    script_end();

    CASE("a proxy that sends the page of a refusal");
    SCRIPT(0, STEP("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n<html>no!", CLOSE));
    through_it();
    expect("GET", S3UP_DENIED, "refused to connect to store.test: status 403");
    script_end();

    CASE("a proxy that says nothing");
    SCRIPT(0, SILENCE(STAY), SILENCE(STAY));
    through_it();
    expect("GET", S3UP_LATER, "nothing came");
    script_end();
}

/* A server with Nagle's algorithm, as this one is, keeps a small body until we have said
 * that its head is here. Left alone, the kernel says so after 40 ms. */
static void
test_heads_apart(void)
{
    static const struct step replies[] = {
        STEP("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", APART),
        STEP("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
             "4\r\nbody\r\n0\r\n\r\n",
             APART)};

    for (unsigned i = 0; i < 2; i++) {
        unsigned late = 0;

        CASE(i ? "chunks that come behind their head" : "bodies that do");
        script(&replies[i], 1, 0);
        for (unsigned n = 0; n < 40; n++) {
            struct s3_call get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
            struct fail f = {S3UP_OK, ""};
            int64_t from = os_ticks();
            char body[64];

            CHECK_NUM(s3_get_object(&store, &get, &f), 0);
            CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 4);
            CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 0);
            http_finish(&store.conn);
            late += os_ticks() - from >= 35;
        }
        CHECK(late < 20);
        CHECK_NUM(seen->connections, 1);
        script_end();
    }
}

/* A body must come at some rate; the blanks ahead of a slow answer need not. */
static void
test_trickles(void)
{
    struct s3_call get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
    struct s3_call copy = s3_to("CopyObject", "PUT", SPAN("bucket"), SPAN("key"));
    struct fail f = {S3UP_OK, ""};
    char body[64];
    size_t n = 0;
    ssize_t did;

    CASE("a body that comes byte by byte");
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\n\r\n", TRICKLE));
    store.origin.limit = 600;
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    while ((did = http_read(&store.conn, body, sizeof body, &f)) > 0)
        n += (size_t)did;
    CHECK_NUM(did, -1);
    CHECK(n > 2 && n < HTTP_LEAST);
    CHECK(has(f.text, "stalled"));
    script_end();

    CASE("a slow answer that comes byte by byte");
    SCRIPT(0, STEP("HTTP/1.1 200 OK\r\n\r\n<CopyObjectResult>", TRICKLE));
    f = (struct fail){S3UP_OK, ""};
    store.origin.limit = 600;
    stop_soon_after(1500);
    CHECK_NUM(s3_copy_object(&store, &copy, SPAN("bucket/other"), &f), -1);
    stop_seen("waiting for a slow answer", -1, &f);
    script_end();
}

/* A call sends so many bytes of a file, as uploads do. */
static void
send_file(struct s3_call *call, FILE *file, int64_t length)
{
    static struct part_file part;
    static struct part_stretch stretch;

    part = (struct part_file){.fd = fileno(file), .path = "the file"};
    if (!os_identify(part.fd, &part.id))
        abort();
    part.id.size = length; /* as it was once */
    stretch = (struct part_stretch){&part, 1, 0, length, NULL};
    call->body = (struct s3_body){.length = length, .read = part_read, .from = &stretch};
}

/* A body from a file that is shorter than it was: the store must not get all of it. */
static void
test_short_file(void)
{
    struct s3_call call = s3_to("PutObject", "PUT", SPAN("bucket"), SPAN("key"));
    struct fail f = {S3UP_OK, ""};
    FILE *file = tmpfile();

    CASE("a file that became shorter");
    if (!file || fputs("hello", file) < 0 || fflush(file) != 0)
        abort();
    send_file(&call, file, 6);
    SCRIPT(3, GOOD);
    CHECK_NUM(s3_put_object(&store, &call, &f), -1);
    CHECK_NUM(f.code, S3UP_SKIPPED);
    CHECK_NUM(seen->requests, 0);
    script_end();
    (void)fclose(file);
}

/* What is wrong with the way there must stay wrong: a second call must not go past it. */
static void
test_wrong_way(void)
{
    struct fail f = {S3UP_OK, ""};

    CASE("a proxy that cannot be used");
    SCRIPT(0, GOOD, GOOD);
    store.config.proxy = "socks5://user:geheim@127.0.0.1:1";
    for (int i = 0; i < 2; i++) {
        f = (struct fail){S3UP_OK, ""};
        CHECK_NUM(s3_head_object(&store, SPAN("bucket"), SPAN("key"), &f), -1);
        CHECK_NUM(f.code, S3UP_USAGE);
        CHECK(has(f.text, "proxy") && !has(f.text, "geheim"));
    }
    CHECK_NUM(seen->requests, 0);
    script_end();

    CASE("a file of roots that is not there");
    open_at("https://127.0.0.1:1", 0);
    store.config.ca_file = "/nowhere/roots.pem";
    for (int i = 0; i < 2; i++) {
        f = (struct fail){S3UP_OK, ""};
        CHECK_NUM(s3_head_object(&store, SPAN("bucket"), SPAN("key"), &f), -1);
        CHECK_NUM(f.code, S3UP_MISSING);
        CHECK(has(f.text, "/nowhere/roots.pem"));
    }
    s3_close(&store);
}

/* Lists all, and holds it against the names in the order in which they came. */
static int
walk(const char *names, struct fail *f)
{
    struct buf keys = buf_upto(4096);
    struct s3_list l;
    int rc;

    *f = (struct fail){S3UP_OK, ""};
    s3_list_begin(&l, S3_OBJECTS, SPAN("bucket"));
    l.delimiter = SPAN("/");
    while ((rc = s3_list_next(&store, &l, f)) > 0) {
        buf_put(&keys, buf_span(&l.entry.name));
        buf_char(&keys, ' ');
    }
    CHECK_TEXT(buf_span(&keys), names);
    s3_list_end(&l);
    buf_free(&keys);
    return rc;
}

/* The keys of a store that lists in the first version, or claims to speak the second. */
static void
test_list_walk(void)
{
    struct fail f;

#define PAGE(text)                                                                       \
    STEP("HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>" text "</ListBucketResult>", CLOSE)
#define KEY(name)    "<Contents><Key>" name "</Key></Contents>"
#define PREFIX(name) "<CommonPrefixes><Prefix>" name "</Prefix></CommonPrefixes>"
#define MORE         "<IsTruncated>true</IsTruncated>"

    CASE("a list that goes on behind its last key, not its last prefix");
    SCRIPT(0, PAGE(MORE KEY("a") KEY("z") PREFIX("b/")), PAGE(KEY("zz")));
    CHECK_NUM(walk("a z b/ zz ", &f), 0);
    CHECK(was_sent(0, "marker=z&") || was_sent(0, "marker=z "));
    script_end();

    CASE("a list that goes on behind its last prefix");
    SCRIPT(0, PAGE(MORE KEY("a") PREFIX("b/") PREFIX("c/")),
           PAGE(MORE PREFIX("c/") PREFIX("d/")), PAGE(PREFIX("d/") KEY("e")));
    CHECK_NUM(walk("a b/ c/ d/ e ", &f), 0);
    CHECK(was_sent(0, "marker=d%2F"));
    script_end();

    CASE("a list of a store that does not sort by bytes");
    SCRIPT(0, PAGE(MORE KEY("a") KEY("b") KEY("B")), PAGE(KEY("C") KEY("c")));
    CHECK_NUM(walk("a b B C c ", &f), 0);
    CHECK(was_sent(0, "marker=B ") || was_sent(0, "marker=B&"));
    script_end();

    CASE("a list that answers the second version with a marker of the first");
    SCRIPT(0, PAGE("<NextMarker>b</NextMarker>" MORE KEY("a") KEY("b")), PAGE(KEY("c")));
    CHECK_NUM(walk("a b c ", &f), 0);
    CHECK(was_sent(0, "marker=b") && !was_sent(0, "continuation"));
    script_end();

    CASE("a page that comes again");
    SCRIPT(0, PAGE(MORE KEY("a") KEY("b")), PAGE(MORE KEY("a") KEY("b")));
    CHECK_NUM(walk("a b ", &f), -1);
    CHECK(has(f.text, "repeats one page"));
    script_end();

    CASE("a page that comes again, under another token");
    SCRIPT(0, PAGE("<NextContinuationToken>1</NextContinuationToken>" MORE KEY("a")),
           PAGE("<NextContinuationToken>2</NextContinuationToken>" MORE KEY("a")));
    CHECK_NUM(walk("a ", &f), -1);
    CHECK(has(f.text, "repeats one page"));
    script_end();

    CASE("a page without keys");
    SCRIPT(0, PAGE("<NextContinuationToken>1</NextContinuationToken>" MORE),
           PAGE("<NextContinuationToken>2</NextContinuationToken>" MORE KEY("a")),
           PAGE(KEY("b")));
    CHECK_NUM(walk("a b ", &f), 0);
    script_end();
}

/* ---- a stop, in every phase ---- */

static int
head_at(const char *endpoint, const char *proxy, struct fail *f)
{
    int rc;

    open_at(endpoint, 3);
    store.config.proxy = proxy;
    store.origin.limit = 60000;
    rc = s3_head_object(&store, SPAN("bucket"), SPAN("key"), f);
    s3_close(&store);
    return rc;
}

static void
test_stop_before_reply(void)
{
    unsigned port = 0, hole = 0;
    int silent = bound(1, 50, &port), full = bound(1, 0, &hole), fds[8], rc;
    char endpoint[64], proxy[64];
    struct fail f = {S3UP_OK, ""};

    resolver = NEVER_ANSWER;
    stop_soon();
    rc = head_at("http://store.test", "", &f);
    stop_seen("looking up", rc, &f);
    resolver = ASK_KERNEL;

    fill(1, hole, fds);
    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", hole);
    f = (struct fail){S3UP_OK, ""};
    stop_soon();
    rc = head_at(endpoint, "", &f);
    stop_seen("connecting", rc, &f);

    (void)snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", port);
    f = (struct fail){S3UP_OK, ""};
    stop_soon();
    rc = head_at(endpoint, "", &f);
    stop_seen("waiting for a reply", rc, &f);

    (void)snprintf(endpoint, sizeof endpoint, "https://127.0.0.1:%u", port);
    f = (struct fail){S3UP_OK, ""};
    stop_soon();
    rc = head_at(endpoint, "", &f);
    stop_seen("shaking hands", rc, &f);

    (void)snprintf(proxy, sizeof proxy, "127.0.0.1:%u", port);
    f = (struct fail){S3UP_OK, ""};
    stop_soon();
    rc = head_at("https://store.test", proxy, &f);
    stop_seen("asking a proxy for a tunnel", rc, &f);

    for (unsigned i = 0; i < 8; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    (void)close(silent);
    (void)close(full);
}

static void
test_stop_in_bodies(void)
{
    static const struct step stalls[] = {
        STEP("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", STAY), SILENCE(STAY)};
    static const struct step refuses[] = {
        SAY("HTTP/1.1 503 No\r\nRetry-After: 86400\r\n" NOTHING), GOOD};
    static const struct step floods[] = {STEP("HTTP/1.1 500 No\r\n\r\n", FLOOD)};
    static char got[65536];
    struct s3_call put = s3_to("PutObject", "PUT", SPAN("bucket"), SPAN("key"));
    struct s3_call get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
    struct fail f = {S3UP_OK, ""};
    FILE *file = tmpfile();
    int rc;

    if (!file || ftruncate(fileno(file), (off_t)1 << 40) != 0)
        abort();
    send_file(&put, file, (int64_t)1 << 40);

    script(refuses, 2, 3);
    stop_soon();
    rc = s3_head_object(&store, SPAN("bucket"), SPAN("key"), &f);
    stop_seen("pausing", rc, &f);
    script_end();

    f = (struct fail){S3UP_OK, ""};
    script(stalls, 2, 3);
    store.origin.limit = 60000;
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    stop_soon();
    while ((rc = (int)http_read(&store.conn, got, sizeof got, &f)) > 0)
        continue;
    stop_seen("waiting for more of a body", rc, &f);
    script_end();

    f = (struct fail){S3UP_OK, ""};
    script(stalls, 2, 3); /* it reads no body that has not come whole: a sink */
    stop_soon();
    rc = s3_put_object(&store, &put, &f);
    stop_seen("sending a body", rc, &f);
    script_end();

    f = (struct fail){S3UP_OK, ""};
    script(stalls, 2, 3);
    feed_swallow = true;
    stop_soon();
    rc = s3_put_object(&store, &put, &f);
    stop_seen("sending faster than anybody could", rc, &f);
    feed_swallow = false;
    script_end();

    f = (struct fail){S3UP_OK, ""};
    get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
    script(floods, 1, 3);
    stop_soon();
    feed_endless = false;
    rc = s3_get_object(&store, &get, &f);
    CHECK(rc < 0);
    (void)alarm(TOO_LONG);
    script_end();

    CASE("stop: reading faster than anybody could");
    f = (struct fail){S3UP_OK, ""};
    {
        static struct conn c;
        int other = connect_to(&c, SPAN(OK_HEAD "\r\n"), true);

        CHECK_NUM(http_reply(&c, false, 60000, &f), 0);
        feed_endless = true;
        stop_soon();
        while ((rc = (int)http_read(&c, got, sizeof got, &f)) > 0)
            continue;
        stop_seen("reading faster than anybody could", rc, &f);
        feed_endless = false;
        http_close(&c);
        (void)close(other);
    }
    (void)fclose(file);
}

/* ---- TLS: a server in a child, with BearSSL's other half ---- */

/* localhost, 127.0.0.1 and ::1 until 2099; made by openssl for this test, worth nothing. */
static const char server_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBeTCCAR+gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv\n"
    "c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMBQxEjAQBgNVBAMM\n"
    "CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAOo5EPct7NAEF0V\n"
    "HMpkGWNpdzxOyzJRGppWJVU525+lpyX+VIITOmDH/54vDOR24j+wfr97ANLvSC08\n"
    "NbZ0PXqjYDBeMA8GA1UdEwEB/wQFMAMBAf8wLAYDVR0RBCUwI4IJbG9jYWxob3N0\n"
    "hwR/AAABhxAAAAAAAAAAAAAAAAAAAAABMB0GA1UdDgQWBBQhA3xEUopBeEkO8ogc\n"
    "OnJDBwpPlTAKBggqhkjOPQQDAgNIADBFAiAsJViKF0mqwsw0UkL6TH26juS9gUB+\n"
    "qHhsilCwQfQ0ngIhAL0L703a7mdIrJpFZ8jw/7QFR8+2wquGjmTo7NFHUy2S\n"
    "-----END CERTIFICATE-----\n";
static const char server_key[] =
    "7fa8c3c7973da7db570a9ddfbcc678abae84929eb041b5027159683bf447fb78";

/* What the server does with a connection. */
enum manner {
    ANSWER,      /* a reply with a length; the connection stays */
    UNTIL_CLOSE, /* a reply without, and a goodbye */
    CUT,         /* the same without a goodbye */
    EARLY        /* a 403 when the head is there, and the body is never read */
};

static int
raw_read(void *fd, unsigned char *p, size_t n)
{
    ssize_t did = read(*(int *)fd, p, n);

    return did > 0 ? (int)did : -1;
}

static int
raw_write(void *fd, const unsigned char *p, size_t n)
{
    ssize_t did = write(*(int *)fd, p, n);

    return did > 0 ? (int)did : -1;
}

/* One connection, from handshake to end. */
static void
serve_tls(int fd, br_ssl_server_context *s, enum manner how)
{
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"};
    br_sslio_context io;
    char last[5] = "....";
    unsigned char c;

    br_sslio_init(&io, &s->eng, raw_read, &fd, raw_write, &fd);
    while (br_sslio_read(&io, &c, 1) == 1) {
        memmove(last, last + 1, 3);
        last[3] = (char)c;
        if (strcmp(last, "\r\n\r\n") != 0)
            continue;
        seen->requests++;
        (void)br_sslio_write_all(&io, replies[how], strlen(replies[how]));
        (void)br_sslio_flush(&io);
        if (how == UNTIL_CLOSE)
            (void)br_sslio_close(&io);
        if (how != ANSWER)
            break;
    }
}

static char folder[64], roots_path[80];

/* Serves connections one after the other, and remembers their sessions. */
static void
tls_script(enum manner how)
{
    unsigned port = 0;
    int listener = bound(1, 50, &port);
    char endpoint[64];

    seen->requests = seen->connections = 0;
    (void)fflush(stdout);
    server = fork();
    if (server == 0) {
        static br_ssl_server_context s;
        static unsigned char io[BR_SSL_BUFSIZE_BIDI], kept[4096], key[32];
        br_ssl_session_cache_lru cache;
        struct buf der = buf_upto(TLS_CERT);
        br_x509_certificate chain;
        br_ec_private_key private = {BR_EC_secp256r1, key, sizeof key};
        struct span pem = span_of(server_pem);

        (void)signal(SIGPIPE, SIG_IGN);
        (void)alarm(TOO_LONG);
        pem = span_at(pem.p + 28, pem.n - 28 - 26); /* without its first and last line */
        if (!tls_unpem(pem, &der) || !hex_read(span_of(server_key), key, sizeof key))
            abort();
        chain = (br_x509_certificate){(unsigned char *)der.p, der.n};
        br_ssl_server_init_full_ec(&s, &chain, 1, BR_KEYTYPE_EC, &private);
        br_ssl_session_cache_lru_init(&cache, kept, sizeof kept);
        br_ssl_server_set_cache(&s, &cache.vtable);
        br_ssl_engine_set_buffer(&s.eng, io, sizeof io, 1);
        for (;;) {
            int fd = accept(listener, NULL, NULL);

            seen->connections++;
            br_ssl_server_reset(&s);
            serve_tls(fd, &s, how);
            (void)close(fd);
        }
    }
    (void)close(listener);
    (void)snprintf(endpoint, sizeof endpoint, "https://localhost:%u", port);
    open_at(endpoint, 0);
    store.config.ca_file = roots_path;
}

static void
test_tls_connections(void)
{
    struct tls_session first;
    struct s3_call get = s3_to("GetObject", "GET", SPAN("bucket"), SPAN("key"));
    struct fail f = {S3UP_OK, ""};
    char body[64];

    CASE("TLS: a connection that stays");
    tls_script(ANSWER);
    expect("HEAD", S3UP_OK, "");
    http_finish(&store.conn); /* the server sends a body to HEAD, so it goes */
    CHECK_NUM(seen->connections, 1);
    first = store.origin.session;
    CHECK(first.known);
    CASE("TLS: a session that is taken up again");
    expect("HEAD", S3UP_OK, "");
    CHECK_NUM(seen->connections, 2);
    CHECK(!memcmp(first.parameters.session_id, store.origin.session.parameters.session_id,
                  sizeof first.parameters.session_id));
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 5);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 0);
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    CHECK_NUM(seen->connections, 3);
    CHECK_NUM(seen->requests, 4);
    script_end();

    CASE("TLS: a body until the end, with goodbye");
    tls_script(UNTIL_CLOSE);
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 5);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 0);
    script_end();

    CASE("TLS: a body until the end, without goodbye");
    tls_script(CUT);
    CHECK_NUM(s3_get_object(&store, &get, &f), 0);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), 5);
    CHECK_NUM(http_read(&store.conn, body, sizeof body, &f), -1);
    CHECK(has(f.text, "cut off"));
    script_end();
}

/* A refusal that comes, and a connection that ends, while the body is on its way: what
 * was said before must be heard, although nothing can be sent any more. */
static void
test_tls_early(void)
{
    struct s3_call put = s3_to("PutObject", "PUT", SPAN("bucket"), SPAN("key"));
    FILE *file = tmpfile();

    if (!file || ftruncate(fileno(file), 16 << 20) != 0)
        abort();
    send_file(&put, file, 16 << 20);
    CASE("TLS: an early 403");
    tls_script(EARLY);
    for (int i = 0; i < 20; i++) {
        struct fail f = {S3UP_OK, ""};

        CHECK_NUM(s3_put_object(&store, &put, &f), -1);
        if (!CHECK(f.code == S3UP_DENIED && has(f.text, "403")))
            printf("    %s\n", f.text);
    }
    CHECK_NUM(seen->requests, 20);
    script_end();
    (void)fclose(file);
}

/* What is said about a certificate's dates, and that a clock from before this source was
 * written is to blame, not the server. */
static void
test_tls_dates(void)
{
    static const struct {
        bool early;
        int64_t now;
        enum s3up_exit code;
        const char *says, *silent;
    } t[] = {
        {true, S3UP_RELEASED, S3UP_LATER, "clock of this machine is wrong", "expired"},
        {true, S3UP_RELEASED + 1, S3UP_DENIED, "not yet valid", "expired"},
        {false, S3UP_RELEASED, S3UP_DENIED, "expired at", "not yet"},
        {false, S3UP_RELEASED + 1, S3UP_DENIED, "expired at", "not yet"},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        struct tls tls = {.x = {.early = t[i].early, .now = t[i].now}};
        struct fail f = {S3UP_OK, ""};

        CASE("dates, row %zu", i);
        tls.client.eng.err = BR_ERR_X509_EXPIRED;
        CHECK_NUM(tls_explain(&tls, "host", &f), -1);
        CHECK_NUM(f.code, t[i].code);
        CHECK(has(f.text, t[i].says) && !has(f.text, t[i].silent));
    }
}

/* ---- certificates ---- */

static void
test_der(void)
{
    static const struct {
        const char *name, *in;
        size_t n;
        unsigned tag;
        bool good;
        size_t content, rest;
    } cases[] = {
#define DER(name, in, tag, good, content, rest)                                          \
    {name, in, sizeof(in) - 1, tag, good, content, rest}
        DER("nothing", "", 0x30, false, 0, 0),
        DER("a tag alone", "\x30", 0x30, false, 0, 0),
        DER("empty", "\x30\x00", 0x30, true, 0, 0),
        DER("empty, and more", "\x30\x00\x05", 0x30, true, 0, 1),
        DER("another tag", "\x31\x00", 0x30, false, 0, 0),
        DER("any tag", "\x31\x01\x00", 0, true, 1, 0),
        DER("short", "\x30\x02\x01", 0x30, false, 0, 0),
        DER("127 bytes, not there", "\x30\x7f", 0x30, false, 0, 0),
        DER("a length without end", "\x30\x80\x00\x00", 0x30, false, 0, 0),
        DER("a length of one byte", "\x30\x81\x01\x05", 0x30, true, 1, 0),
        DER("a length of two bytes", "\x30\x82\x00\x01\x05", 0x30, true, 1, 0),
        DER("a length of three bytes", "\x30\x83\x00\x00\x01\x05\x06", 0x30, true, 1, 1),
        DER("a length of four bytes", "\x30\x84\x00\x00\x00\x01\x05", 0x30, false, 0, 0),
        DER("a length of 127 bytes", "\x30\xff\x01", 0x30, false, 0, 0),
        DER("a length that is cut", "\x30\x82\x00", 0x30, false, 0, 0),
        DER("the longest length", "\x30\x83\xff\xff\xff\x00", 0x30, false, 0, 0),
#undef DER
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = exact(span_at(cases[i].in, cases[i].n));
        struct span s = span_at(copy, cases[i].n), content = {NULL, 0};

        CASE("DER: %s", cases[i].name);
        CHECK_NUM(tls_der(&s, cases[i].tag, &content), cases[i].good);
        if (cases[i].good) {
            CHECK_NUM(content.n, cases[i].content);
            CHECK_NUM(s.n, cases[i].rest);
        } else {
            CHECK_NUM(s.n, cases[i].n); /* a refusal takes nothing */
        }
        free(copy);
    }
}

static void
test_dates(void)
{
    static const struct {
        const char *der;
        bool good;
        int64_t time; /* by date -u +%s */
    } cases[] = {
        {"\x17\x0d"
         "200101000000Z",
         true, 1577836800},
        {"\x17\x0d"
         "491231235959Z",
         true, 2524607999},
        {"\x17\x0d"
         "500101000000Z",
         true, -631152000},
        {"\x17\x0d"
         "700101000000Z",
         true, 0},
        {"\x18\x0f"
         "20991231235959Z",
         true, 4102444799},
        {"\x18\x0f"
         "00010101000000Z",
         true, -62135596800},
        {"\x17\x0d"
         "201301000000Z",
         false, 0},
        {"\x17\x0d"
         "200132000000Z",
         false, 0},
        {"\x17\x0d"
         "200101240000Z",
         false, 0},
        {"\x17\x0d"
         "2001010000a0Z",
         false, 0},
        {"\x17\x0b"
         "2001010000Z",
         false, 0},
        {"\x17\x11"
         "200101000000+0100",
         false, 0},
        {"\x18\x11"
         "20200101000000.5Z",
         false, 0},
        {"\x19\x0d"
         "200101000000Z",
         false, 0},
        {"\x17\x0d"
         "20010100000Z",
         false, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = exact(span_of(cases[i].der));
        struct span s = span_at(copy, strlen(cases[i].der));
        int64_t t = 0;

        CASE("certificate's date %s", cases[i].der + 2);
        CHECK_NUM(tls_date(&s, &t), cases[i].good);
        if (cases[i].good)
            CHECK_NUM(t, cases[i].time);
        free(copy);
    }
}

/* What was read must lie inside of what was given. */
static bool
within(struct span s, struct span all)
{
    return !s.n || (s.p >= all.p && s.p + s.n <= all.p + all.n);
}

static void
read_broken(const char *p, size_t n)
{
    struct tls_names names;
    struct tls_x509 x = {.ip = {127, 0, 0, 1}, .ip_n = 4};
    struct span all = span_at(p, n);

    if (!tls_read_names(all, &names))
        return;
    CHECK(within(names.issuer, all) && within(names.subject, all) &&
          within(names.extensions, all));
    (void)tls_names_ip(&x, names.extensions);
}

static void
test_broken_certificates(void)
{
    struct buf der = buf_upto(TLS_CERT);
    struct tls_x509 x = {.ip_n = 4};
    struct tls_names names;
    struct span pem = span_of(server_pem);

    CASE("a certificate");
    CHECK(tls_unpem(span_at(pem.p + 28, pem.n - 28 - 26), &der));
    CHECK(tls_read_names(buf_span(&der), &names));
    CHECK_NUM(names.from, 1577836800);
    CHECK_NUM(names.until, 4102444799);
    CHECK_SPAN(names.issuer, SPAN("\x30\x14\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09"
                                  "localhost"));
    CHECK_SPAN(names.subject, names.issuer);
    memcpy(x.ip, "\x7f\0\0\1", 4);
    CHECK(tls_names_ip(&x, names.extensions));
    memcpy(x.ip, "\x7f\0\0\2", 4);
    CHECK(!tls_names_ip(&x, names.extensions));
    memcpy(x.ip, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    x.ip_n = 16;
    CHECK(tls_names_ip(&x, names.extensions));
    CASE("every prefix of a certificate");
    for (size_t n = 0; n < der.n; n++) {
        char *copy = exact(span_at(der.p, n));

        CHECK(!tls_read_names(span_at(copy, n), &names));
        free(copy);
    }
    CASE("every byte of a certificate, changed");
    for (size_t at = 0; at < der.n; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            char *copy = exact(buf_span(&der));

            copy[at] = (char)(copy[at] ^ 1 << bit);
            read_broken(copy, der.n);
            free(copy);
        }
    for (size_t at = 0; at < der.n; at++)
        for (unsigned v = 0; v < 4; v++) {
            char *copy = exact(buf_span(&der));

            copy[at] = "\x00\xff\x80\x84"[v];
            read_broken(copy, der.n);
            free(copy);
        }
    buf_free(&der);
}

static void
put_file(const char *path, struct span text)
{
    int fd = os_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || !os_write(fd, text.p, text.n) || close(fd) != 0)
        abort();
}

static void
test_bundles(void)
{
    static const struct {
        const char *name, *ahead, *between, *behind;
        unsigned roots;
    } cases[] = {
        {"clean", "", "", "", 2},
        {"text", "# Roots of the world\nsubject=/CN=x\n", "\n\n-----\n", "the end", 2},
        {"another kind",
         "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-"
         "----\n",
         "-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n",
         "", 2},
        {"one that is not base64", "",
         "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "", 2},
        {"one that is no certificate", "",
         "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", 2},
        {"one that is empty", "",
         "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "", 2},
        {"one without an end", "", "-----BEGIN CERTIFICATE-----\nMIIB\n",
         "-----BEGIN CERTIFICATE-----\nMIIB", 2},
        {"a beginning alone", "", "", "-----BEGIN CERTIFICATE-----", 2},
    };
    struct buf text = buf_upto(TLS_BUNDLE);
    struct tls_roots roots;
    char path[96];

    (void)snprintf(path, sizeof path, "%s/bundle", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fail f = {S3UP_OK, ""};

        CASE("bundle: %s", cases[i].name);
        buf_clear(&text);
        buf_str(&text, cases[i].ahead);
        buf_str(&text, server_pem);
        buf_str(&text, cases[i].between);
        for (const char *c = server_pem; *c; c++) { /* the second with CR LF */
            if (*c == '\n')
                buf_char(&text, '\r');
            buf_char(&text, *c);
        }
        buf_str(&text, cases[i].behind);
        put_file(path, buf_span(&text));
        CHECK_NUM(tls_load_roots(&roots, path, &f), 0);
        CHECK_NUM(tls_root_count(&roots), cases[i].roots);
        tls_free_roots(&roots);
    }
    CASE("bundle: nothing in it");
    {
        struct fail f = {S3UP_OK, ""};

        put_file(path, SPAN("\0\0\0"));
        CHECK_NUM(tls_load_roots(&roots, path, &f), -1);
        CHECK_NUM(f.code, S3UP_USAGE);
        tls_free_roots(&roots);
    }
    (void)unlink(path);
    buf_free(&text);
}

/* All that a command says, or nothing. */
static void
say_of(const char *command, struct buf *out)
{
    FILE *p = popen(command, "r"); /* its words are ours, and so is the file's name */
    char piece[4096];
    size_t n;

    buf_clear(out);
    while (p && (n = fread(piece, 1, sizeof piece, p)) > 0)
        buf_add(out, piece, n);
    if (p)
        (void)pclose(p);
}

/* The certificate of the bundle that a built-in root was taken from, as openssl reads it:
 * does it have this key, and does it live long enough? */
static void
check_builtin(struct span name, struct span key, struct span bundle)
{
    struct buf said = buf_upto(TLS_CERT), der = buf_upto(TLS_CERT);
    char path[96], command[400];
    bool found = false;

    (void)snprintf(path, sizeof path, "%s/root", folder);
    while (xml_skip_to(&bundle, 0, "-----BEGIN CERTIFICATE-----") && !found) {
        struct span end = bundle, body;

        if (!xml_skip_to(&end, 0, "-----END"))
            break;
        body = span_first(bundle, bundle.n - end.n - 8);
        buf_clear(&der);
        if (!tls_unpem(body, &der) || !memmem(der.p, der.n, name.p, name.n))
            continue;
        put_file(path, buf_span(&der));
        (void)snprintf(command, sizeof command,
                       "openssl x509 -inform DER -in %s -noout -pubkey | "
                       "openssl pkey -pubin -outform DER",
                       path);
        say_of(command, &said);
        found = said.n && memmem(said.p, said.n, key.p, key.n);
        (void)snprintf(command, sizeof command,
                       "openssl x509 -inform DER -in %s -noout -checkend 252460800 && "
                       "openssl x509 -inform DER -in %s -noout -ext basicConstraints",
                       path, path);
        say_of(command, &said);
        CHECK(!found || has(buf_text(&said), "CA:TRUE"));
    }
    CHECK(found);
    (void)unlink(path);
    buf_free(&said);
    buf_free(&der);
}

static void
test_builtin_roots(void)
{
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    struct buf bundle = buf_upto(TLS_BUNDLE);
    struct tls_roots roots = {buf_upto(TLS_BUNDLE), buf_upto(TLS_BUNDLE), "built in"};
    struct fail unread = {S3UP_OK, ""};

    for (size_t i = 0; i < sizeof places / sizeof *places && !bundle.n; i++) {
        unread.code = S3UP_OK;
        (void)os_slurp(places[i], &bundle, &unread);
    }
    tls_add_builtin(&roots);
    CASE("built-in roots");
    CHECK_NUM(tls_root_count(&roots), sizeof tls_builtin / sizeof *tls_builtin);
    if (!bundle.n || system("openssl version >/dev/null 2>&1") != 0) {
        printf("SKIPPED wire: built-in roots: install openssl and ca-certificates\n");
    } else {
        for (size_t i = 0; i < tls_root_count(&roots); i++) {
            const struct tls_root *r = tls_root_at(&roots, i);

            CASE("built-in root %zu", i);
            check_builtin(span_at(roots.der.p + r->name_at, r->name_n),
                          span_at(roots.der.p + r->at, r->n), buf_span(&bundle));
        }
    }
    tls_free_roots(&roots);
    buf_free(&bundle);
}

/* Every root that the system trusts can be put to use, but for kinds that nobody has. */
static void
test_system_roots(void)
{
    static struct tls_x509 x;
    struct tls_roots roots;
    struct fail f = {S3UP_OK, ""};
    size_t unusable = 0;

    CASE("the system's roots");
    CHECK_NUM(tls_load_roots(&roots, NULL, &f), 0);
    x.roots = &roots;
    for (size_t i = 0; i < tls_root_count(&roots); i++)
        unusable += !tls_use_root(&x, tls_root_at(&roots, i), 0);
    CHECK(unusable * 20 <= tls_root_count(&roots));
    tls_free_roots(&roots);
}

int
main(void)
{
    static const char *const never[] = {"AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
                                        "http_proxy",    "https_proxy",   "HTTPS_PROXY",
                                        "no_proxy",      "NO_PROXY"};
    const char *temp = getenv("TMPDIR");
    unsigned files;

    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        (void)unsetenv(never[i]);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm(TOO_LONG);
    log_most = LOG_ERROR;
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    (void)snprintf(folder, sizeof folder, "%.40s/wire-XXXXXX", temp ? temp : "/tmp");
    if (seen == MAP_FAILED || !mkdtemp(folder))
        abort();
    (void)snprintf(roots_path, sizeof roots_path, "%s/roots.pem", folder);
    put_file(roots_path, span_of(server_pem));
    files = open_files();

    test_heads();
    test_many_fields();
    test_bodies();
    test_long_body();
    test_endless_heads();
    test_early_reply();
    test_reply_at_the_end();
    test_sent_bytes();
    test_stalls();
    test_lookup();
    test_interleave();
    test_connect();
    test_no_proxy();
    test_proxy_text();
    test_addresses();
    test_endpoints();
    test_verdicts();
    test_regions();
    test_errors();
    test_reply_is();
    test_list_pages();
    test_retries();
    test_clock();
    test_moved();
    test_led_astray();
    test_moved_host();
    test_ok_that_is_none();
    test_floods();
    test_odd_proxies();
    test_heads_apart();
    test_trickles();
    test_short_file();
    test_wrong_way();
    test_list_walk();
    test_stop_before_reply();
    test_stop_in_bodies();
    test_tls_connections();
    test_tls_early();
    test_tls_dates();
    test_der();
    test_dates();
    test_broken_certificates();
    test_bundles();
    test_builtin_roots();
    test_system_roots();

    CASE("open files at the end");
    CHECK_NUM(open_files(), files);
    (void)unlink(roots_path);
    (void)rmdir(folder);
    printf("a stop was seen after %lld ms at most (%s)\n", (long long)slowest,
           slowest_in);
    return check_end();
}
