/*
 * fuzz_json.c: what must hold for the JSON reader and writer, whatever the bytes.
 *
 *   1. A document is accepted if and only if a recursive parser accepts it which was
 *      written apart from the reader; events, keys and texts are the same.
 *   2. There is at most one event for each byte, every span lies within the document, and a
 *      reader that ended or failed stays so.
 *   3. json_text decodes as the second decoder does, or both refuse.
 *   4. What was accepted and written again by json_put is accepted and says the same.
 *   5. json_put and json_text undo each other for all bytes; what json_put writes is
 *      valid UTF-8 without control characters.
 *   6. Skipping any containers changes nothing about what stands outside of them.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT("null"),
    FUZZ_TEXT(" {\"a\":[1,2.5,-3e+7,0,-0.0E-1],\"b\":{\"c\":true,\"d\":false,\"e\":null},"
              "\"\":\"\"}\n"),
    FUZZ_TEXT(
        "{\"endpoint_url\": \"https://s3.eu-west-1.amazonaws.com\", \"access_key\": "
        "\"AKIA\\u0041\","
        " \"part_size\": 5000000, \"retry\": {\"max\": 10, \"codes\": [500, 503]}}"),
    FUZZ_TEXT("[\"\\u00e9\\ud83d\\ude00\\udc80\\\"\\\\\\/\\b\\f\\n\\r\\t\", "
              "\"\xc3\xa9\xf0\x9f\x98\x80\"]"),
    FUZZ_TEXT("\"\\udc00\""),
    FUZZ_TEXT("\"\\udc7f\\udcff\\udd00\""),
    FUZZ_TEXT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
    FUZZ_TEXT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
    FUZZ_TEXT("{\"a\":{\"a\":{\"a\":[{\"a\":[]},{}]}}}"),
    FUZZ_TEXT("[01, 1., .5, +1, 1e, -, 1.5.5, tru, nul, \"\\x\", \"\\ud800\", "
              "\"\xed\xa0\x80\", ]"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("{"),
                                       FUZZ_TEXT("}"),
                                       FUZZ_TEXT("["),
                                       FUZZ_TEXT("]"),
                                       FUZZ_TEXT(","),
                                       FUZZ_TEXT(":"),
                                       FUZZ_TEXT("\""),
                                       FUZZ_TEXT("\"a\":"),
                                       FUZZ_TEXT("true"),
                                       FUZZ_TEXT("false"),
                                       FUZZ_TEXT("null"),
                                       FUZZ_TEXT("\\u"),
                                       FUZZ_TEXT("\\ud83d"),
                                       FUZZ_TEXT("\\ude00"),
                                       FUZZ_TEXT("\\udc80"),
                                       FUZZ_TEXT("\\n"),
                                       FUZZ_TEXT("\\\\"),
                                       FUZZ_TEXT("\\\""),
                                       FUZZ_TEXT("1"),
                                       FUZZ_TEXT("-0"),
                                       FUZZ_TEXT("1.5e-3"),
                                       FUZZ_TEXT("E+"),
                                       FUZZ_TEXT("\"\""),
                                       FUZZ_TEXT("\"a\""),
                                       FUZZ_TEXT("\xc3\xa9"),
                                       FUZZ_TEXT("\xf4\x8f\xbf\xbf"),
                                       FUZZ_TEXT("\xed\xa0\x80"),
                                       FUZZ_TEXT("\xff"),
                                       FUZZ_TEXT("\\u0000"),
                                       FUZZ_TEXT("[{"),
                                       FUZZ_TEXT("}]"),
                                       FUZZ_TEXT(" \t\r\n"),
                                       FUZZ_END};

/* --- the second opinion --- */

enum { DEEP = 32 }; /* what s3up.c promises; JSON itself has no limit */

struct event {
    enum json_event what;
    size_t key, key_n;
    size_t text, text_n;
};

struct twin {
    const unsigned char *p;
    size_t n, at;
    struct event *events;
    size_t events_n;
    struct event next; /* its key is set by the object around it */
};

static void
blanks(struct twin *t)
{
    while (t->at < t->n && t->p[t->at] && strchr(" \t\r\n", t->p[t->at]))
        t->at++;
}

static int
peek(const struct twin *t)
{
    return t->at < t->n ? t->p[t->at] : -1;
}

/* A code point from UTF-8 by its arithmetic; 0 bytes long if it is none. */
static size_t
utf8(const unsigned char *p, size_t left)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = p[0];
    size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;

    if (!n || n > left)
        return 0;
    c = n == 1 ? c : c & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        c = c << 6 | (p[i] & 63u);
    }
    return c < least[n] || c > 0x10ffff || c >> 11 == 27 ? 0 : n;
}

static bool
digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool
hex4(const unsigned char *p, size_t left, unsigned *value)
{
    *value = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *hit;

        if (i >= left || !p[i])
            return false;
        hit = strchr("00112233445566778899aAbBcCdDeEfF", p[i]);
        if (!hit)
            return false;
        *value = *value * 16 + (unsigned)(hit - "00112233445566778899aAbBcCdDeEfF") / 2;
    }
    return true;
}

static bool
string(struct twin *t, size_t *at, size_t *n)
{
    unsigned ignored;

    if (peek(t) != '"')
        return false;
    *at = ++t->at;
    while (peek(t) != '"') {
        size_t length;

        if (peek(t) < 0x20)
            return false; /* the end, too */
        if (peek(t) != '\\') {
            length = utf8(t->p + t->at, t->n - t->at);
        } else {
            t->at++;
            if (peek(t) == 'u')
                length = hex4(t->p + t->at + 1, t->n - t->at - 1, &ignored) ? 5 : 0;
            else
                length = peek(t) > 0 && strchr("\"\\/bfnrt", peek(t));
        }
        if (!length)
            return false;
        t->at += length;
    }
    *n = t->at - *at;
    t->at++;
    return true;
}

static bool
many_digits(struct twin *t)
{
    if (!digit(peek(t)))
        return false;
    while (digit(peek(t)))
        t->at++;
    return true;
}

static bool
json_value_number(struct twin *t)
{
    if (peek(t) == '-')
        t->at++;
    if (peek(t) == '0')
        t->at++;
    else if (!many_digits(t))
        return false;
    if (peek(t) == '.') {
        t->at++;
        if (!many_digits(t))
            return false;
    }
    if (peek(t) == 'e' || peek(t) == 'E') {
        t->at++;
        if (peek(t) == '+' || peek(t) == '-')
            t->at++;
        return many_digits(t);
    }
    return true;
}

static void
emit(struct twin *t, enum json_event what, size_t text, size_t text_n)
{
    t->next.what = what;
    t->next.text = text;
    t->next.text_n = text_n;
    t->events[t->events_n++] = t->next;
    t->next = (struct event){.key = 0};
}

static bool
word(struct twin *t, const char *text, enum json_event what)
{
    if (t->n - t->at < strlen(text) || memcmp(t->p + t->at, text, strlen(text)) != 0)
        return false;
    t->at += strlen(text);
    emit(t, what, 0, 0);
    return true;
}

static bool value(struct twin *t, unsigned depth);

static bool
container(struct twin *t, unsigned depth, bool object)
{
    int end = object ? '}' : ']';

    if (depth > DEEP)
        return false;
    t->at++;
    emit(t, object ? JSON_OBJECT : JSON_LIST, 0, 0);
    blanks(t);
    if (peek(t) == end) {
        t->at++;
        emit(t, JSON_CLOSE, 0, 0);
        return true;
    }
    for (;;) {
        blanks(t);
        if (object) {
            if (!string(t, &t->next.key, &t->next.key_n))
                return false;
            blanks(t);
            if (peek(t) != ':')
                return false;
            t->at++;
        }
        if (!value(t, depth))
            return false;
        blanks(t);
        if (peek(t) == end) {
            t->at++;
            emit(t, JSON_CLOSE, 0, 0);
            return true;
        }
        if (peek(t) != ',')
            return false;
        t->at++;
    }
}

static bool
value(struct twin *t, unsigned depth)
{
    size_t at, n;

    blanks(t);
    switch (peek(t)) {
    case '{':
    case '[':
        return container(t, depth + 1, peek(t) == '{');
    case '"':
        if (!string(t, &at, &n))
            return false;
        emit(t, JSON_STRING, at, n);
        return true;
    case 't':
        return word(t, "true", JSON_TRUE);
    case 'f':
        return word(t, "false", JSON_FALSE);
    case 'n':
        return word(t, "null", JSON_NULL);
    default:
        at = t->at;
        if (!json_value_number(t))
            return false;
        emit(t, JSON_NUMBER, at, t->at - at);
        return true;
    }
}

/* Decodes what `string` has found good; false for a lonely half of a pair. */
static bool
decode(struct span raw, unsigned char *out, size_t *n)
{
    const unsigned char *p = (const unsigned char *)raw.p;
    static const char letters[] = "b\bf\fn\nr\rt\t\"\"\\\\//";

    *n = 0;
    for (size_t i = 0; i < raw.n;) {
        unsigned c, low;

        if (p[i] != '\\') {
            out[(*n)++] = p[i++];
            continue;
        }
        if (p[i + 1] != 'u') {
            out[(*n)++] = (unsigned char)strchr(letters, p[i + 1])[1];
            i += 2;
            continue;
        }
        (void)hex4(p + i + 2, raw.n - i - 2, &c);
        i += 6;
        if (c >= 0xdc80 && c <= 0xdcff) {
            out[(*n)++] = (unsigned char)c; /* a byte that was not UTF-8 */
            continue;
        }
        if (c >> 11 == 27) {
            if (c >= 0xdc00 || raw.n - i < 6 || p[i] != '\\' || p[i + 1] != 'u' ||
                !hex4(p + i + 2, 4, &low) || low >> 10 != 55)
                return false;
            c = 0x10000u + (c % 1024) * 1024 + low % 1024;
            i += 6;
        }
        if (c > 0xffff) {
            out[(*n)++] = (unsigned char)(0xf0 + c / 262144);
            out[(*n)++] = (unsigned char)(0x80 + c / 4096 % 64);
        } else if (c > 0x7ff) {
            out[(*n)++] = (unsigned char)(0xe0 + c / 4096);
        }
        if (c > 0x7ff)
            out[(*n)++] = (unsigned char)(0x80 + c / 64 % 64);
        else if (c > 0x7f)
            out[(*n)++] = (unsigned char)(0xc0 + c / 64);
        out[(*n)++] = (unsigned char)(c > 0x7f ? 0x80 + c % 64 : c);
    }
    return true;
}

/* --- the claims --- */

/* Any bytes, written and read again. */
static void
claim_bytes(struct span bytes)
{
    struct buf out = buf_upto(6 * bytes.n + 2), back = buf_upto(bytes.n);
    struct json j;

    json_put(&out, bytes);
    MUST(!out.bad);
    for (size_t i = 0, n; i < out.n; i += n) {
        n = utf8((unsigned char *)out.p + i, out.n - i);
        MUST(n && (unsigned char)out.p[i] >= ' ' && out.p[i] != 127);
    }
    json_init(&j, buf_span(&out));
    MUST(json_next(&j) == JSON_STRING);
    MUST(json_text(j.text, &back) && span_eq(buf_span(&back), bytes));
    MUST(json_next(&j) == JSON_END);
    buf_free(&out);
    buf_free(&back);
}

/* Writes a raw string as json_put does, or, if it cannot be decoded, as it is. */
static void
write_string(struct buf *out, struct span raw)
{
    unsigned char *want = malloc(raw.n + 1);
    struct buf text = buf_upto(raw.n);
    size_t n;
    bool good;

    if (!want)
        abort();
    good = json_text(raw, &text);
    MUST(!text.bad && decode(raw, want, &n) == good);
    if (good) {
        MUST(span_eq(buf_span(&text), span_at(want, n)));
        json_put(out, buf_span(&text));
    } else {
        buf_char(out, '"');
        buf_put(out, raw);
        buf_char(out, '"');
    }
    free(want);
    buf_free(&text);
}

static void
write_event(struct buf *out, const struct json *j, enum json_event e, bool in_object,
            bool was_object)
{
    static const char *const words[] = {
        [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null"};

    if (e != JSON_CLOSE && out->n && !strchr("{[", out->p[out->n - 1]))
        buf_char(out, ',');
    if (e != JSON_CLOSE && in_object) {
        write_string(out, j->key);
        buf_char(out, ':');
    }
    if (e == JSON_OBJECT || e == JSON_LIST)
        buf_char(out, e == JSON_OBJECT ? '{' : '[');
    else if (e == JSON_CLOSE)
        buf_char(out, was_object ? '}' : ']');
    else if (e == JSON_STRING)
        write_string(out, j->text);
    else if (e == JSON_NUMBER)
        buf_put(out, j->text);
    else
        buf_str(out, words[e]);
}

static bool
claim_events(struct span all, const struct twin *t, struct buf *again)
{
    bool objects[JSON_DEPTH + 1] = {false};
    enum json_event e;
    unsigned depth = 0;
    size_t i = 0;
    struct json j;

    json_init(&j, all);
    while ((e = json_next(&j)) != JSON_END && e != JSON_BAD) {
        const struct event *want = &t->events[i];
        bool opens = e == JSON_OBJECT || e == JSON_LIST;
        bool in_object = objects[depth], raw = e == JSON_STRING || e == JSON_NUMBER;

        MUST(i++ < t->events_n && want->what == e);
        MUST(j.depth <= JSON_DEPTH && j.depth + (e == JSON_CLOSE) == depth + opens);
        depth = j.depth;
        if (opens)
            objects[depth] = e == JSON_OBJECT;
        MUST(fuzz_within(j.key, all) && fuzz_within(j.text, all) &&
             fuzz_within(j.rest, all));
        MUST(j.key.n == want->key_n && (!want->key || j.key.p == all.p + want->key));
        MUST(j.text.n == want->text_n && (!raw || j.text.p == all.p + want->text));
        write_event(again, &j, e, in_object && e != JSON_CLOSE, in_object);
    }
    MUST(json_next(&j) == e && json_next(&j) == e);
    MUST((e == JSON_BAD) == (j.why != NULL));
    MUST(i == t->events_n || e == JSON_BAD);
    return e == JSON_END;
}

/* Containers are skipped here and there, by the bits of `which`. */
static void
claim_skip(struct span all, uint32_t which, bool good)
{
    enum json_event e;
    struct json j;

    json_init(&j, all);
    while ((e = json_next(&j)) != JSON_END && e != JSON_BAD) {
        unsigned outside = j.depth - 1;

        which = which >> 1 | which << 31;
        if ((e == JSON_OBJECT || e == JSON_LIST) && which & 1) {
            MUST(json_skip(&j) || !good);
            MUST(!good || j.depth == outside);
        }
    }
    MUST((e == JSON_END) == good);
}

static void
claim_again(struct span one, struct span two)
{
    enum json_event e;
    struct json a, b;

    json_init(&a, one);
    json_init(&b, two);
    do {
        struct buf x = buf_upto(one.n), y = buf_upto(two.n);

        e = json_next(&a);
        MUST(json_next(&b) == e);
        if (e == JSON_NUMBER)
            MUST(span_eq(a.text, b.text));
        if (json_text(a.key, &x))
            MUST(json_text(b.key, &y) && span_eq(buf_span(&x), buf_span(&y)));
        buf_clear(&x);
        buf_clear(&y);
        if (json_text(a.text, &x))
            MUST(json_text(b.text, &y) && span_eq(buf_span(&x), buf_span(&y)));
        buf_free(&x);
        buf_free(&y);
    } while (e != JSON_END);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size);
    struct twin t = {.p = (const unsigned char *)c.s.p, .n = c.s.n};
    struct buf again = buf_upto(8 * size + 64);
    uint32_t which = (uint32_t)size * 2654435761u;
    bool good;

    t.events = calloc(size + 1, sizeof *t.events);
    if (!t.events)
        abort();
    good = value(&t, 0);
    blanks(&t);
    good = good && t.at == t.n;
    MUST(claim_events(c.s, &t, &again) == good);
    for (size_t i = 0; i < size; i++)
        which = which * 31 + data[i];
    claim_skip(c.s, which, good);
    if (good) {
        MUST(!again.bad);
        claim_again(c.s, buf_span(&again));
    }
    claim_bytes(c.s);
    buf_free(&again);
    free(t.events);
    free(c.block);
    return 0;
}
