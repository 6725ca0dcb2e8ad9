/*
 * fuzz_sign.c: what must hold for requests and their signatures, whatever is in them.
 *
 * An input is a list of records, separated by \036, of fields, separated by \037:
 *
 *   p PATH   h NAME VALUE   q NAME VALUE   k ID SECRET TOKEN   K the same, but SECRET is long
 *   r REGION SERVICE        t DIGITS (the time)                2 (not S3)
 *
 *   1. The signature is the one that a second canonicalizer and a second chain of HMACs make.
 *   2. Signing again gives the same, also after a signature for another time.
 *   3. A CR, LF or NUL in a header or path makes a request bad; one that is not bad has its
 *      fields within its own memory, and sends exactly what it signs.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT(
        "p\037/bucket/key%20a\036h\037x-amz-meta-a\037  b  c\t\td \036h\037range\037"
        "bytes=0-9\036q\037partNumber\037"
        "1\036q\037uploadId\037a/b+c=\036k\037"
        "AKIDEXAMPLE\037wJalrXUtnFEMI/"
        "K7MDENG+bPxRfiCYEXAMPLEKEY\037token\036r\037us-east-1"
        "\037s3\036t\037"
        "1369353600"),
    FUZZ_TEXT("2\036p\037/a//b/./../c/"
              "..\036h\037my-header1\037value4\036h\037my-header1\037value1"
              "\036h\037user-agent\037s3up\036r\037us-east-1\037service"),
    FUZZ_TEXT(
        "h\037te\0371\036h\037upgrade\0371\036h\037expect\0371\036h\037trailer\0371"
        "\036h\037connection\0371\036h\037keep-alive\0371\036h\037proxy-connection\0371"
        "\036h\037proxy-authenticate\0371\036h\037proxy-authorization\0371"
        "\036h\037transfer-encoding\0371\036h\037x-amzn-trace-id\0371"
        "\036h\037authorization\0371\036h\037content-type\0371"),
    FUZZ_TEXT("h\037name\037"
              "a\r\nx-evil: 1"),
    FUZZ_TEXT("q\037"
              "b\037\036q\037"
              "a\037z\036q\037"
              "a\037y\036q\037-\037\xff\0"),
    FUZZ_TEXT("K\037id\037secret\037"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("\036h\037"),
                                       FUZZ_TEXT("\036q\037"),
                                       FUZZ_TEXT("\036p\037/"),
                                       FUZZ_TEXT("\037"),
                                       FUZZ_TEXT("\036"),
                                       FUZZ_TEXT("\036k\037"),
                                       FUZZ_TEXT("\036\x32"),
                                       FUZZ_TEXT("\036r\037"),
                                       FUZZ_TEXT("\036t\037"),
                                       FUZZ_TEXT("authorization"),
                                       FUZZ_TEXT("  "),
                                       FUZZ_TEXT("/../"),
                                       FUZZ_TEXT("/./"),
                                       FUZZ_TEXT("//"),
                                       FUZZ_TEXT("%2F"),
                                       FUZZ_TEXT("\r"),
                                       FUZZ_TEXT("\n"),
                                       FUZZ_TEXT("\0"),
                                       FUZZ_TEXT("te"),
                                       FUZZ_TEXT("host"),
                                       FUZZ_TEXT("x-amz-date"),
                                       FUZZ_TEXT("\036h\037"
                                                 "a\037"
                                                 "b"),
                                       FUZZ_TEXT("\036K\037i\037s"),
                                       FUZZ_TEXT("\036q\037"
                                                 "a\037"),

                                       FUZZ_TEXT("connection"),
                                       FUZZ_TEXT("expect"),
                                       FUZZ_TEXT("keep-alive"),
                                       FUZZ_TEXT("proxy-authenticate"),
                                       FUZZ_TEXT("proxy-authorization"),
                                       FUZZ_TEXT("trailer"),
                                       FUZZ_TEXT("upgrade"),
                                       FUZZ_TEXT("transfer-encoding"),
                                       FUZZ_TEXT("proxy-connection"),
                                       FUZZ_TEXT("user-agent"),
                                       FUZZ_TEXT("x-amzn-trace-id"),
                                       FUZZ_END};

/* --- the second opinion --- */

struct pair {
    struct span name, value;
};

static int
order(struct span a, struct span b)
{
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (a.p[i] != b.p[i])
            return (unsigned char)a.p[i] < (unsigned char)b.p[i] ? -1 : 1;
    return (a.n > b.n) - (a.n < b.n);
}

static void
bubble(struct pair *p, unsigned n, bool by_value)
{
    for (unsigned pass = 0; pass < n; pass++)
        for (unsigned i = 0; i + 1 < n; i++) {
            int o = order(p[i].name, p[i + 1].name);

            if (o > 0 || (o == 0 && by_value && order(p[i].value, p[i + 1].value) > 0)) {
                struct pair t = p[i];

                p[i] = p[i + 1];
                p[i + 1] = t;
            }
        }
}

static bool
unsigned_header(struct span name)
{
    static const char list[] =
        " authorization connection expect keep-alive proxy-authenticate "
        "proxy-authorization te trailer upgrade transfer-encoding "
        "proxy-connection user-agent x-amzn-trace-id ";
    char word[64];

    if (name.n > 40)
        return false;
    snprintf(word, sizeof word, " %.*s ", (int)name.n, name.p);
    return strstr(list, word) != NULL;
}

/* Canonical headers and their names. */
static void
canonical_headers(const struct request *r, unsigned n, struct buf *lines,
                  struct buf *names)
{
    struct pair p[REQ_FIELDS];
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++)
        if (!unsigned_header(r->head.at[i].name))
            p[kept++] = (struct pair){r->head.at[i].name, r->head.at[i].value};
    bubble(p, kept, false);
    for (unsigned i = 0; i < kept; i++) {
        bool more = i && order(p[i].name, p[i - 1].name) == 0, gap = false, any = false;

        if (!more) {
            if (i) {
                buf_char(lines, '\n');
                buf_char(names, ';');
            }
            buf_put(lines, p[i].name);
            buf_put(names, p[i].name);
        }
        buf_char(lines, more ? ',' : ':');
        for (size_t k = 0; k < p[i].value.n; k++) {
            char c = p[i].value.p[k];

            if (c == ' ' || c == '\t') {
                gap = any;
                continue;
            }
            if (gap)
                buf_char(lines, ' ');
            buf_char(lines, c);
            gap = false;
            any = true;
        }
    }
    buf_char(lines, '\n');
}

static void
canonical_query(const struct request *r, unsigned n, struct buf *out)
{
    struct pair p[REQ_FIELDS];

    for (unsigned i = 0; i < n; i++)
        p[i] = (struct pair){r->query.at[i].name, r->query.at[i].value};
    bubble(p, n, true);
    for (unsigned i = 0; i < n; i++) {
        buf_str(out, i ? "&" : "");
        buf_put(out, p[i].name);
        buf_char(out, '=');
        buf_put(out, p[i].value);
    }
}

/* Segments on a stack. */
static void
tidy(struct span path, struct buf *out)
{
    struct span *stack = calloc(path.n + 1, sizeof *stack);
    size_t n = 0, at = 0;

    if (!stack)
        abort();
    while (at < path.n) {
        size_t end = at;

        while (end < path.n && path.p[end] != '/')
            end++;
        if (end - at == 2 && !memcmp(path.p + at, "..", 2))
            n -= n > 0;
        else if (end > at && !(end - at == 1 && path.p[at] == '.'))
            stack[n++] = span_at(path.p + at, end - at);
        at = end + 1;
    }
    for (size_t i = 0; i < n; i++) {
        buf_char(out, '/');
        for (size_t k = 0; k < stack[i].n; k++) {
            unsigned char c = (unsigned char)stack[i].p[k];
            char hex[4];

            snprintf(hex, sizeof hex, "%%%02X", (unsigned)c);
            if (c &&
                strchr(
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~",
                    c))
                buf_char(out, (char)c);
            else
                buf_str(out, hex);
        }
    }
    if (!n || path.p[path.n - 1] == '/')
        buf_char(out, '/');
    free(stack);
}

static void
second_signature(const struct request *r, const struct signer *who, unsigned heads,
                 unsigned queries, const char *payload, struct buf *out)
{
    struct buf text = buf_upto(1 << 20), names = buf_upto(1 << 20),
               to_sign = buf_upto(1 << 20);
    unsigned char digest[32], key[32];
    char stamp[17];

    date_stamp(who->now, stamp);
    buf_str(&text, r->method);
    buf_char(&text, '\n');
    if (who->s3)
        buf_put(&text, r->path);
    else
        tidy(r->path, &text);
    buf_char(&text, '\n');
    canonical_query(r, queries, &text);
    buf_char(&text, '\n');
    canonical_headers(r, heads, &text, &names);
    buf_char(&text, '\n');
    buf_put(&text, buf_span(&names));
    buf_char(&text, '\n');
    buf_str(&text, payload);
    sha256_of(buf_span(&text), digest);
    buf_str(&to_sign, "AWS4-HMAC-SHA256\n");
    buf_str(&to_sign, stamp);
    buf_char(&to_sign, '\n');
    buf_add(&to_sign, stamp, 8);
    buf_char(&to_sign, '/');
    buf_put(&to_sign, who->region);
    buf_char(&to_sign, '/');
    buf_put(&to_sign, who->service);
    buf_str(&to_sign, "/aws4_request\n");
    hex_put(&to_sign, digest, 32);
    buf_clear(&names);
    buf_str(&names, "AWS4");
    buf_put(&names, who->secret);
    hmac_of(names.p, names.n, span_at(stamp, 8), key);
    hmac_of(key, 32, who->region, key);
    hmac_of(key, 32, who->service, key);
    hmac_of(key, 32, SPAN("aws4_request"), key);
    hmac_of(key, 32, buf_span(&to_sign), key);
    hex_put(out, key, 32);
    MUST(!text.bad && !names.bad && !to_sign.bad);
    buf_free(&text);
    buf_free(&names);
    buf_free(&to_sign);
}

/* --- the claims --- */

static void
claim_fields(const struct request *r, const struct fields *f)
{
    MUST(f->n <= REQ_FIELDS);
    for (unsigned i = 0; i < f->n; i++) {
        struct span both[2] = {f->at[i].name, f->at[i].value};

        for (unsigned k = 0; k < 2; k++) {
            MUST(fuzz_within(both[k], span_at(r->text, r->used)));
            MUST(!span_has(both[k], '\r') && !span_has(both[k], '\n') &&
                 !span_has(both[k], 0));
            for (size_t c = 0; f == &r->query && c < both[k].n; c++)
                MUST(url_unreserved(both[k].p[c]) || both[k].p[c] == '%');
        }
    }
}

static void
claim_request(const struct request *r)
{
    MUST(r->used <= sizeof r->text);
    MUST(fuzz_within(r->path, span_at(r->text, r->used)));
    claim_fields(r, &r->head);
    claim_fields(r, &r->query);
}

static void
claim_header_signature(struct request *r, const struct signer *who, const char *payload)
{
    struct span value = r->head.at[r->head.n - 1].value;
    struct buf want = buf_upto(64);

    MUST(span_is(r->head.at[r->head.n - 1].name, "authorization"));
    second_signature(r, who, r->head.n - 1, r->query.n, payload, &want);
    MUST(value.n > 64 && span_eq(span_after(value, value.n - 64), buf_span(&want)));
    buf_free(&want);
}

static void
claim_url_signature(struct request *r, const struct signer *who, const char *payload)
{
    struct buf want = buf_upto(64);

    MUST(span_is(r->query.at[r->query.n - 1].name, "X-Amz-Signature"));
    second_signature(r, who, r->head.n, r->query.n - 1, payload, &want);
    MUST(span_eq(r->query.at[r->query.n - 1].value, buf_span(&want)));
    buf_free(&want);
}

static bool
sign(struct request *r, const struct signer *who, bool in_url, const char *payload)
{
    return in_url ? sig_url(r, who, 1 + (uint64_t)who->now % PRESIGN_MAX, payload)
                  : sig_headers(r, who, payload);
}

/* Signs, signs for another day, signs again: the first and the last must be the same. */
static void
claim_signing(struct request *r, struct signer who, bool in_url, bool must_fail,
              bool must_not)
{
    static char kept[REQ_TEXT];
    const char *payload = in_url ? SIG_UNSIGNED : "0123456789abcdef";
    unsigned heads, queries;
    size_t used;
    bool good = sign(r, &who, in_url, payload);

    MUST(good == !r->bad && !(good && must_fail) && (good || !must_not));
    if (!good)
        return;
    claim_request(r);
    if (in_url)
        claim_url_signature(r, &who, payload);
    else
        claim_header_signature(r, &who, payload);
    used = r->used;
    heads = r->head.n;
    queries = r->query.n;
    memcpy(kept, r->text, used);
    who.now += 86400;
    MUST(sign(r, &who, in_url, payload));
    who.now -= 86400;
    MUST(sign(r, &who, in_url, payload));
    MUST(r->used == used && !memcmp(r->text, kept, used));
    MUST(r->head.n == heads && r->query.n == queries);
}

struct plan {
    struct signer who;
    struct buf long_secret;
    bool must_fail; /* what is in it would break out of its line */
    bool is_long;
};

static bool
breaks_out(struct span s)
{
    return span_has(s, '\r') || span_has(s, '\n') || span_has(s, 0);
}

/* A C string of a field; header names are made proper, which is the caller's duty. */
static void
c_string(struct span s, bool header, char out[64])
{
    size_t n = s.n < 63 ? s.n : 63;

    for (size_t i = 0; i < n; i++) {
        char c = s.p[i];

        if (header && !((c >= 'a' && c <= 'z') || c == '-'))
            c = (char)('a' + (unsigned char)c % 26);
        out[i] = c;
    }
    out[n] = 0;
    if (header && !n)
        memcpy(out, "x", 2);
}

static void
record(struct request *r, struct plan *p, struct span rec)
{
    struct span kind = {NULL, 0}, f[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    char name[64];
    uint64_t t;

    span_cut(&rec, '\037', &kind);
    for (unsigned i = 0; i < 3; i++)
        span_cut(&rec, '\037', &f[i]);
    c_string(f[0], span_is(kind, "h"), name);
    if (span_is(kind, "h")) {
        http_header(r, name, f[1]);
        p->must_fail |= breaks_out(f[1]);
    } else if (span_is(kind, "q")) {
        http_query(r, name, f[1]);
    } else if (span_is(kind, "k") || span_is(kind, "K")) {
        p->who.id = f[0];
        p->who.secret = f[1];
        p->who.token = f[2];
        p->is_long = span_is(kind, "K");
    } else if (span_is(kind, "r")) {
        p->who.region = f[0];
        p->who.service = f[1];
    } else if (span_is(kind, "t")) {
        if (num_parse(f[0], INT64_MAX / 2, &t))
            p->who.now = (int64_t)t;
    } else if (span_is(kind, "2")) {
        p->who.s3 = false;
    }
}

/* The same request, built again, since its spans look into its own memory. */
static void
build(struct request *r, struct plan *p, struct span all)
{
    struct span rest = all, rec, path = SPAN("/");

    while (span_cut(&rest, '\036', &rec))
        if (span_starts(rec, "p\037"))
            path = span_after(rec, 2);
    *p = (struct plan){
        .who = {.region = SPAN("us-east-1"), .service = SPAN("s3"), .s3 = true},
        .long_secret = p->long_secret};
    p->must_fail = breaks_out(path);
    http_begin(r, "PUT", SPAN("host"), path);
    for (rest = all; span_cut(&rest, '\036', &rec);)
        record(r, p, rec);
    if (!p->is_long || !p->who.secret.n)
        return;
    buf_clear(&p->long_secret);
    while (p->long_secret.n < REQ_TEXT)
        buf_put(&p->long_secret, p->who.secret);
    p->who.secret = buf_span(&p->long_secret);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size);
    struct plan p = {.long_secret = buf_upto(REQ_TEXT + 8192)};
    static struct request r;

    for (unsigned in_url = 0; in_url < 2; in_url++) {
        const struct signer *who = &p.who;
        bool bad, small;

        build(&r, &p, c.s);
        bad = breaks_out(who->region) || breaks_out(who->service) ||
              breaks_out(who->id) || breaks_out(who->token);
        small = size < 1000 && r.head.n < 50 && r.query.n < 50 && !p.is_long;
        /* What goes into a URL is encoded; nothing can break out of it. */
        claim_signing(&r, *who, in_url, p.must_fail || (bad && !in_url),
                      small && !p.must_fail && (!bad || in_url));
    }
    buf_free(&p.long_secret);
    free(c.block);
    return 0;
}
