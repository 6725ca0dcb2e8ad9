/*
 * fuzz_ini.c: what must hold for the reader of the shared AWS files, whatever the bytes.
 *
 *   1. There is at most one event for each line, lines only grow, every span lies within the
 *      line of its event, and a reader that ended or failed stays so.
 *   2. A pair comes behind a section, a line that goes on behind a pair with a value, a sub
 *      pair behind one without. Names have no character that names cannot have, values
 *      have no blanks around them.
 *   3. A second reader, which looks at one line at a time with its own eyes, sees the same.
 *   4. What was accepted and is written again in the plainest way says the same.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"
              "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"),
    FUZZ_TEXT(
        "\xef\xbb\xbf# comment\r\n[profile a b]\r\nregion = eu-west-1 ; not that\r\n"
        "s3 =\r\n  addressing_style = path\r\n  max_concurrent_requests=20 # kept\r\n\r\n"
        "[profile \"c d\"] trailing\nkey = a\n  b = c\n  ; comment\n  d\n"),
    FUZZ_TEXT(
        "[services x]\ns3 = \n  endpoint_url = http://localhost:9000\n[sso-session y]\n"),
    FUZZ_TEXT("[ a ]\nk=v#x\nk = #x\nk = a;b ;c\n\tmore\n"),
    FUZZ_TEXT("k = v\n"),
    FUZZ_TEXT("[a\nk = v\n"),
    FUZZ_TEXT("[a]\n k = v\n"),
    FUZZ_TEXT("[a]\nk =\n v\n"),
    FUZZ_TEXT("[a]\nno pair\n"),
    FUZZ_TEXT("[profile bad~name]\nbad name = v\n= v\nk = \0\n"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("["),
                                       FUZZ_TEXT("]"),
                                       FUZZ_TEXT("[a]\n"),
                                       FUZZ_TEXT("[profile a]\n"),
                                       FUZZ_TEXT("="),
                                       FUZZ_TEXT(" = "),
                                       FUZZ_TEXT("k=v\n"),
                                       FUZZ_TEXT("k =\n"),
                                       FUZZ_TEXT("\n "),
                                       FUZZ_TEXT("\r\n"),
                                       FUZZ_TEXT("\n"),
                                       FUZZ_TEXT("\n  s = t\n"),
                                       FUZZ_TEXT(" #"),
                                       FUZZ_TEXT("#"),
                                       FUZZ_TEXT(" ;"),
                                       FUZZ_TEXT(";"),
                                       FUZZ_TEXT("\""),
                                       FUZZ_TEXT("\t"),
                                       FUZZ_TEXT("[\"a b\"]\n"),
                                       FUZZ_TEXT("\xef\xbb\xbf"),
                                       FUZZ_TEXT("~"),
                                       FUZZ_TEXT("/%@:+"),
                                       FUZZ_TEXT("default"),
                                       FUZZ_TEXT("\r"),
                                       FUZZ_END};

/* --- the second opinion, one line at a time --- */

static bool
blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span
trimmed(struct span s)
{
    size_t from = 0, to = s.n;

    while (from < to && blank(s.p[from]))
        from++;
    while (to > from && blank(s.p[to - 1]))
        to--;
    return from ? span_at(s.p + from, to - from) : span_at(s.p, to);
}

static size_t
find(struct span s, char c)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == c)
            return i;
    return s.n;
}

static bool
plain_name(struct span s)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789-_./%@:+";

    for (size_t i = 0; i < s.n; i++)
        if (!memchr(letters, s.p[i], sizeof letters - 1))
            return false;
    return s.n != 0;
}

struct twin {
    struct span rest;
    bool section, pair, block;
};

struct want {
    enum ini_event e;
    struct span kind, name, key, value;
};

static struct span
named(struct span s)
{
    return plain_name(s) ? s : span_at(NULL, 0);
}

static void
want_section(struct want *w, struct span line)
{
    size_t cut = find(line, '#') < find(line, ';') ? find(line, '#') : find(line, ';');
    size_t at = 0;
    struct span in;

    line.n = cut;
    if (find(line, ']') == line.n) {
        w->e = INI_BAD;
        return;
    }
    in = trimmed(span_at(line.p + 1, find(line, ']') - 1));
    while (at < in.n && !blank(in.p[at]))
        at++;
    w->e = INI_SECTION;
    if (at < in.n) {
        w->kind = span_at(in.p, at);
        in = trimmed(span_at(in.p + at, in.n - at));
    }
    w->name = named(in);
    if (in.n > 2 && in.p[0] == '"' && find(span_at(in.p + 1, in.n - 1), '"') == in.n - 2)
        w->name = span_at(in.p + 1, in.n - 2);
}

static void
want_pair(struct want *w, struct span line)
{
    size_t at = find(line, '=');

    if (at == line.n) {
        w->e = INI_BAD;
        return;
    }
    w->key = named(trimmed(span_at(line.p, at)));
    w->value = trimmed(span_at(line.p + at + 1, line.n - at - 1));
}

static struct want
want_next(struct twin *t)
{
    struct want w = {.e = INI_END};

    while (t->rest.n) {
        size_t end = find(t->rest, '\n');
        struct span line = span_at(t->rest.p, end), words;

        t->rest = end < t->rest.n ? span_at(t->rest.p + end + 1, t->rest.n - end - 1)
                                  : span_at(NULL, 0);
        while (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        words = trimmed(line);
        if (!words.n || words.p[0] == '#' || words.p[0] == ';')
            continue;
        if (find(line, 0) < line.n) {
            w.e = INI_BAD;
        } else if (blank(line.p[0])) {
            w.e = !t->pair ? INI_BAD : t->block ? INI_SUB : INI_MORE;
            w.value = words;
            if (w.e == INI_SUB)
                want_pair(&w, line);
        } else if (line.p[0] == '[') {
            want_section(&w, line);
            t->section = true;
            t->pair = false;
        } else {
            for (size_t i = 1; i < line.n; i++)
                if (blank(line.p[i - 1]) && (line.p[i] == '#' || line.p[i] == ';'))
                    line.n = i;
            w.e = t->section ? INI_PAIR : INI_BAD;
            if (t->section)
                want_pair(&w, line);
            t->pair = true;
            t->block = !w.value.n;
        }
        return w;
    }
    return w;
}

/* --- the claims --- */

static bool
same(struct span a, struct span b)
{
    return a.n == b.n && (!a.n || a.p == b.p);
}

/* Names that come out empty are written as one that is not valid either. The blank behind
 * a value keeps a CR that belongs to it from being taken for the line's end. */
static void
write_event(struct buf *out, const struct ini *i, enum ini_event e)
{
    if (e == INI_SECTION) {
        bool quoted = i->name.n && !plain_name(i->name);

        buf_char(out, '[');
        buf_put(out, i->kind);
        buf_char(out, ' ');
        buf_str(out, quoted ? "\"" : i->name.n ? "" : "~");
        buf_put(out, i->name);
        buf_str(out, quoted ? "\"]\n" : "]\n");
        return;
    }
    buf_str(out, e == INI_PAIR ? "" : "\t");
    if (e != INI_MORE) {
        buf_put(out, i->key.n ? i->key : SPAN("~"));
        buf_char(out, '=');
    }
    buf_put(out, i->value);
    buf_str(out, " \n");
}

static bool
claim_events(struct span all, struct buf *again)
{
    unsigned line = 0, lines = 1;
    bool section = false, pair = false, block = false;
    struct twin t = {.rest = all};
    enum ini_event e;
    struct ini i;

    for (size_t n = 0; n < all.n; n++)
        lines += all.p[n] == '\n';
    if (all.n >= 3 && !memcmp(all.p, "\xef\xbb\xbf", 3))
        t.rest = span_at(all.p + 3, all.n - 3);
    ini_init(&i, all);
    while ((e = ini_next(&i)) != INI_END && e != INI_BAD) {
        struct want w = want_next(&t);

        MUST(w.e == e);
        MUST(i.line > line && i.line <= lines);
        line = i.line;
        MUST(fuzz_within(i.rest, all) && fuzz_within(i.kind, all) &&
             fuzz_within(i.name, all));
        MUST(fuzz_within(i.key, all) && fuzz_within(i.value, all) &&
             fuzz_within(i.parent, all));
        if (e == INI_SECTION) {
            MUST(same(i.kind, w.kind) && same(i.name, w.name));
        } else {
            MUST(section && (e == INI_PAIR || pair) && (e != INI_SUB || block) &&
                 (e != INI_MORE || !block));
            MUST(same(i.value, w.value) && same(i.value, trimmed(i.value)));
            MUST(e == INI_MORE || same(i.key, w.key));
            MUST(e != INI_PAIR || same(i.key, i.parent));
        }
        section = true;
        pair = e != INI_SECTION;
        block = e == INI_PAIR ? i.value.n == 0 : block;
        write_event(again, &i, e);
    }
    MUST(want_next(&t).e == e);
    MUST(ini_next(&i) == e && ini_next(&i) == e);
    MUST((e == INI_BAD) == (i.why != NULL));
    return e == INI_END;
}

static void
claim_again(struct span one, struct span two)
{
    enum ini_event e;
    struct ini a, b;

    ini_init(&a, one);
    ini_init(&b, two);
    do {
        e = ini_next(&a);
        MUST(ini_next(&b) == e);
        MUST(span_eq(a.kind, b.kind) && span_eq(a.name, b.name));
        MUST(span_eq(a.key, b.key) && span_eq(a.value, b.value) &&
             span_eq(a.parent, b.parent));
    } while (e != INI_END);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size);
    struct buf again = buf_upto(8 * size + 64);

    if (claim_events(c.s, &again)) {
        MUST(!again.bad);
        claim_again(c.s, buf_span(&again));
    }
    buf_free(&again);
    free(c.block);
    return 0;
}
