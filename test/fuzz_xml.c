/*
 * fuzz_xml.c: what must hold for the XML reader and writer, whatever the bytes.
 *
 *   1. Events come in the order, with the names and the content, that a recursive parser
 *      finds which was written apart from the reader; both accept or both refuse.
 *   2. Their number is at most two for each <, every span lies within the document, and
 *      a reader that ended or failed stays so.
 *   3. A document that was accepted, written again by xml_put, is accepted and says the same.
 *   4. xml_put and xml_text undo each other for all bytes; xml_can_carry agrees with XML's
 *      own list of characters.
 *   5. xml_at knows the path of each element, and no other.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT("<a/>"),
    FUZZ_TEXT("<?xml version=\"1.0\" "
              "encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>It "
              "is &lt;not&gt; there &amp; gone</Message><Key>a&#x1;b&#13;c&#x1F600;</Key>"
              "<RequestId>4442587FB7D0A2F9</RequestId></Error>"),
    FUZZ_TEXT(
        "\xef\xbb\xbf<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<Name>b</Name><Prefix/><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>"
        "<Contents><Key>k</Key><ETag>&quot;x&quot;</ETag><Size>1</Size></Contents>"
        "<Contents><Key><![CDATA[a<b>]]>c<!-- d "
        "-->e</Key></Contents></ListBucketResult>\n"),
    FUZZ_TEXT("<ns:a b='>' c = \"'\"><ns:b >x</ns:b ></ns:a><!-- e --><?pi?>"),
    FUZZ_TEXT("<a><b><c><d><e><f><g><h><i><j><k><l><m><n><o><p/></o></n></m></l></k></"
              "j></i></h></g>"
              "</f></e></d></c></b></a>"),
    FUZZ_TEXT("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"),
    FUZZ_TEXT("<a><!--></a>--></a>"),
    FUZZ_TEXT("<a><?></a>?></a>"),
    FUZZ_TEXT("<a>\xed\xa0\x80\xef\xbf\xbe\xf4\x90\x80\x80\xc0\x80\xff</a>"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {
    FUZZ_TEXT("<a>"),          FUZZ_TEXT("</a>"),
    FUZZ_TEXT("<b/>"),         FUZZ_TEXT("<a b='"),
    FUZZ_TEXT("'>"),           FUZZ_TEXT("<!--"),
    FUZZ_TEXT("-->"),          FUZZ_TEXT("<?"),
    FUZZ_TEXT("?>"),           FUZZ_TEXT("<![CDATA["),
    FUZZ_TEXT("]]>"),          FUZZ_TEXT("&amp;"),
    FUZZ_TEXT("&lt;"),         FUZZ_TEXT("&#x10ffff;"),
    FUZZ_TEXT("&#13;"),        FUZZ_TEXT("&#xd800;"),
    FUZZ_TEXT("&#0;"),         FUZZ_TEXT("<!DOCTYPE a>"),
    FUZZ_TEXT("</"),           FUZZ_TEXT("/>"),
    FUZZ_TEXT("n:"),           FUZZ_TEXT("\xef\xbb\xbf"),
    FUZZ_TEXT("&#x"),          FUZZ_TEXT("&quot;"),
    FUZZ_TEXT("\xc3\xa9"),     FUZZ_TEXT("\xf0\x9f\x98\x80"),
    FUZZ_TEXT("<Key>"),        FUZZ_TEXT("</Key>"),
    FUZZ_TEXT("\xef\xbf\xbe"), FUZZ_END};

/* --- the second opinion: recursive, by places in the text --- */

enum { DEEP = 16, LONG_NAME = 128 }; /* what s3up.c promises; XML itself has no limits */

struct event {
    bool leave;
    size_t name, name_n;
    size_t text, text_n; /* of a leave without children */
};

struct twin {
    const char *p;
    size_t n, at;
    struct event *events;
    size_t events_n;
};

static bool
sees(const struct twin *t, const char *word)
{
    return t->n - t->at >= strlen(word) && !memcmp(t->p + t->at, word, strlen(word));
}

static bool
white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Moves behind the next `end` that begins at t->at + ahead or later. */
static bool
pass(struct twin *t, size_t ahead, const char *end)
{
    for (t->at += ahead; t->at < t->n; t->at++)
        if (sees(t, end)) {
            t->at += strlen(end);
            return true;
        }
    return false;
}

/* 1: passed over something, 0: there was nothing to pass over, -1: it is broken. */
static int
aside(struct twin *t, bool inside)
{
    if (sees(t, "<!--"))
        return pass(t, 4, "-->") ? 1 : -1;
    if (sees(t, "<?"))
        return pass(t, 2, "?>") ? 1 : -1;
    if (inside && sees(t, "<![CDATA["))
        return pass(t, 9, "]]>") ? 1 : -1;
    return sees(t, "<!") ? -1 : 0;
}

static bool
name(struct twin *t, size_t *at, size_t *n)
{
    *at = t->at;
    while (t->at < t->n &&
           ((t->p[t->at] & 0x80) || (t->p[t->at] >= 'a' && t->p[t->at] <= 'z') ||
            (t->p[t->at] >= 'A' && t->p[t->at] <= 'Z') ||
            (t->p[t->at] >= '0' && t->p[t->at] <= '9') || t->p[t->at] == '-' ||
            t->p[t->at] == '.' || t->p[t->at] == '_' || t->p[t->at] == ':'))
        t->at++;
    *n = t->at - *at;
    return *n && *n <= LONG_NAME;
}

/* From behind the name of a start tag to behind its >. */
static bool
rest_of_tag(struct twin *t, bool *empty)
{
    size_t start = t->at;

    for (; t->at < t->n && t->p[t->at] != '>'; t->at++) {
        char q = t->p[t->at];

        if (q == '<' || (t->at == start && !white(q) && q != '/'))
            return false;
        if (q == '"' || q == '\'')
            for (t->at++; t->at < t->n && t->p[t->at] != q; t->at++)
                if (t->p[t->at] == '<')
                    return false;
        if (t->at >= t->n)
            return false;
    }
    if (t->at >= t->n)
        return false;
    *empty = t->at > start && t->p[t->at - 1] == '/';
    t->at++;
    return true;
}

static bool
element(struct twin *t, unsigned depth)
{
    struct event *enter = &t->events[t->events_n++], *leave;
    size_t end, end_n, from, to;
    bool empty, parent = false;

    t->at++;
    *enter = (struct event){.leave = false};
    if (!name(t, &enter->name, &enter->name_n) ||
        strchr("-.0123456789", t->p[enter->name]) || depth > DEEP ||
        !rest_of_tag(t, &empty)) {
        t->events_n--;
        return false;
    }
    from = to = t->at;
    while (!empty) {
        int skipped;

        while (t->at < t->n && t->p[t->at] != '<')
            t->at++;
        if (t->at == t->n)
            return false;
        to = t->at;
        skipped = aside(t, true);
        if (skipped < 0)
            return false;
        if (skipped)
            continue;
        if (!sees(t, "</")) {
            parent = true;
            if (!element(t, depth + 1))
                return false;
            continue;
        }
        t->at += 2;
        if (!name(t, &end, &end_n) || end_n != enter->name_n ||
            memcmp(t->p + end, t->p + enter->name, end_n) != 0)
            return false;
        while (t->at < t->n && white(t->p[t->at]))
            t->at++;
        if (!sees(t, ">"))
            return false;
        t->at++;
        break;
    }
    leave = &t->events[t->events_n++];
    *leave = *enter;
    leave->leave = true;
    leave->text = from;
    leave->text_n = parent || empty ? 0 : to - from;
    return true;
}

static bool
document(struct twin *t)
{
    bool root = false;

    for (size_t i = 0; i < t->n; i++)
        if (!t->p[i])
            return false;
    if (sees(t, "\xef\xbb\xbf"))
        t->at = 3;
    for (;;) {
        int skipped;

        while (t->at < t->n && white(t->p[t->at]))
            t->at++;
        if (t->at == t->n)
            return root;
        skipped = aside(t, false);
        if (skipped < 0 || (!skipped && (root || !sees(t, "<") || sees(t, "</"))))
            return false;
        if (!skipped) {
            root = true;
            if (!element(t, 1))
                return false;
        }
    }
}

/* A character of XML 1.0, decoded the long way; *n is its length, 0 if it is none. */
static bool
xml_char(const unsigned char *p, size_t left, size_t *n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = p[0];

    *n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (!*n || *n > left)
        return false;
    c = *n == 1 ? c : c & (0xffu >> (*n + 1));
    for (size_t i = 1; i < *n; i++) {
        if (p[i] >> 6 != 2)
            return false;
        c = c << 6 | (p[i] & 63u);
    }
    return c >= least[*n] &&
           (c == 9 || c == 10 || c == 13 || (c >= 0x20 && c <= 0xd7ff) ||
            (c >= 0xe000 && c <= 0xfffd) || (c >= 0x10000 && c <= 0x10ffff));
}

/* --- the claims --- */

static void
claim_text(struct span raw)
{
    struct buf out = buf_upto(raw.n), written = buf_upto(8 * raw.n + 8),
               back = buf_upto(raw.n);
    bool good = xml_text(raw, &out);

    MUST(!out.bad); /* text never grows */
    xml_put(&written, good ? buf_span(&out) : raw);
    MUST(!written.bad && !span_has(buf_span(&written), '<') &&
         !span_has(buf_span(&written), '\r') && !span_has(buf_span(&written), '"'));
    MUST(xml_text(buf_span(&written), &back));
    MUST(span_eq(buf_span(&back), good ? buf_span(&out) : raw));
    buf_free(&out);
    buf_free(&written);
    buf_free(&back);
}

/* Any bytes: can XML carry them, and do they come back? */
static void
claim_bytes(struct span bytes)
{
    struct buf written = buf_upto(8 * bytes.n + 16), back = buf_upto(bytes.n);
    bool carried = true;
    struct xml x;
    size_t n;

    for (size_t i = 0; i < bytes.n && carried; i += n)
        carried = xml_char((const unsigned char *)bytes.p + i, bytes.n - i, &n);
    MUST(xml_can_carry(bytes) == carried);
    buf_str(&written, "<k>");
    xml_put(&written, bytes);
    buf_str(&written, "</k>");
    xml_init(&x, buf_span(&written));
    if (span_has(bytes, 0)) {
        MUST(xml_next(&x) == XML_BAD);
    } else {
        MUST(xml_next(&x) == XML_ENTER && xml_next(&x) == XML_LEAVE);
        MUST(xml_text(x.text, &back) && span_eq(buf_span(&back), bytes));
        MUST(xml_next(&x) == XML_END);
    }
    buf_free(&written);
    buf_free(&back);
}

static void
claim_path(const struct xml *x)
{
    char path[XML_DEPTH * (XML_NAME + 1) + 8];
    size_t n = 0;

    for (unsigned i = 0; i < x->depth; i++) {
        struct span s = x->open[i];

        for (size_t k = s.n; k--;)
            if (s.p[k] == ':') {
                s = span_at(s.p + k + 1, s.n - k - 1);
                break;
            }
        if (i)
            path[n++] = '/';
        if (s.n)
            memcpy(path + n, s.p, s.n);
        n += s.n;
    }
    path[n] = 0;
    MUST(xml_at(x, path));
    path[n++] = '/';
    path[n] = 0;
    MUST(!xml_at(x, path));
    path[n++] = 'a';
    path[n] = 0;
    MUST(!xml_at(x, path));
}

/* Reads the document and writes it again; the events must be those of the twin. */
static bool
claim_events(struct span all, const struct twin *t, struct buf *again)
{
    struct xml x;
    enum xml_event e;
    unsigned depth = 0;
    size_t i = 0;

    xml_init(&x, all);
    while ((e = xml_next(&x)) == XML_ENTER || e == XML_LEAVE) {
        const struct event *want = &t->events[i];
        struct span own;

        MUST(i < t->events_n && want->leave == (e == XML_LEAVE));
        MUST(x.depth >= 1 && x.depth <= XML_DEPTH);
        MUST(x.depth == depth + (e == XML_ENTER));
        depth = x.depth - (e == XML_LEAVE);
        own = x.open[x.depth - 1];
        MUST(own.p == all.p + want->name && own.n == want->name_n);
        MUST(fuzz_within(x.rest, all));
        claim_path(&x);
        buf_str(again, e == XML_ENTER ? "<" : "</");
        if (e == XML_LEAVE) {
            struct buf text = buf_upto(all.n);

            MUST(fuzz_within(x.text, all) && x.text.n == want->text_n);
            MUST(!x.text.n || x.text.p == all.p + want->text);
            claim_text(x.text);
            again->n -= 2;
            if (xml_text(x.text, &text) && !span_has(buf_span(&text), 0))
                xml_put(again, buf_span(&text));
            buf_str(again, "</");
            buf_free(&text);
        }
        buf_put(again, own);
        buf_char(again, '>');
        i++;
    }
    MUST(e == XML_END || (e == XML_BAD && x.why));
    MUST(xml_next(&x) == e && xml_next(&x) == e);
    MUST(e != XML_END || (i == t->events_n && !x.why));
    MUST(e != XML_BAD || i == t->events_n);
    return e == XML_END;
}

/* What was written again says the same as the original. */
static void
claim_again(struct span one, struct span two)
{
    struct xml a, b;
    enum xml_event e;

    xml_init(&a, one);
    xml_init(&b, two);
    do {
        struct buf x = buf_upto(one.n), y = buf_upto(two.n);

        e = xml_next(&a);
        MUST(e != XML_BAD && xml_next(&b) == e);
        MUST(a.depth == b.depth);
        if (e != XML_END)
            MUST(span_eq(a.open[a.depth - 1], b.open[b.depth - 1]));
        if (e == XML_LEAVE && xml_text(a.text, &x) && !span_has(buf_span(&x), 0))
            MUST(xml_text(b.text, &y) && span_eq(buf_span(&x), buf_span(&y)));
        buf_free(&x);
        buf_free(&y);
    } while (e != XML_END);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size);
    struct twin t = {.p = c.s.p, .n = c.s.n};
    struct buf again = buf_upto(16 * size + 16 * 1024);
    bool good;

    t.events = calloc(2 * size + 2, sizeof *t.events);
    if (!t.events)
        abort();
    good = document(&t);
    MUST(claim_events(c.s, &t, &again) == good);
    if (good) {
        MUST(!again.bad);
        claim_again(c.s, buf_span(&again));
    }
    claim_text(c.s);
    claim_bytes(c.s);
    buf_free(&again);
    free(t.events);
    free(c.block);
    return 0;
}
