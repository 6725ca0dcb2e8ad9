/*
 * fuzz_journal.c: what must hold for the reader of journals, whatever the bytes.
 *
 * Each text is read as it is, and once more with a checksum behind each line: no mutation
 * would ever come upon a right one, and what is behind it must be tried, too.
 *
 *   1. Lines are taken from the front, one by one, and what was refused stays so. A
 *      second reader, with its own CRC-32 and eyes, sees the same lines and words.
 *   2. Facts are within their bounds: parts from 1 to 10,000, each with an ETag, sizes
 *      that a file can have, nanoseconds below a second.
 *   3. A text that is read twice says the same twice.
 *   4. What it says of an upload or an object is forgotten with the next of them.
 *   5. What was accepted and is written again by the writer, in another order, says the
 *      same.
 */
#include "fuzz.h"

/* Lines without checksums, for the second reading, and some that have theirs. */
const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT("source /srv/back%20up.img\nsource-id 2049 77 1732154322.000000001\n"
              "size 10737418240\nmtime 1732154321.123456789\n"
              "target https://s3.eu-west-1.amazonaws.com bucket a%20key\n"
              "part-size 16777216\nchecksum sha256\nheaders e3b0c44298fc\nid 001122\n"
              "upload 2~kJx\npart 1 \"9b2c\" b94d27\npart 7 \"ff\" -\ncompleting\n"),
    FUZZ_TEXT("source /a\nsize 1\nsource /b\nsize 2\nmtime -1.500000000\n"),
    FUZZ_TEXT("upload a\npart 1 x 00\nupload b\npart 2 y 01\npart 2 z 02\n"),
    FUZZ_TEXT("part-size 5242880\nobject \"9b2c-6\" -\nrange 0 5242880 b94d2700\n"
              "range 10485760 77 00\n"),
    FUZZ_TEXT("part-size 7\nobject a\nrange 0 7 00\nrange 69993 7 ff\nobject b\n"
              "range 7 1 0a\nupload u\npart 1 e 00\nobject %22c%22\n"),
    FUZZ_TEXT("future a b c d e f g\n\n \ntarget  b \npart 10000 e -\n"),
    FUZZ_TEXT("s3up journal 1 #e8a36c82\nsource /f #a0daba7a\n"),
    FUZZ_TEXT("size 10737418240 #3c044782\ncompleting #5811be9b\n"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("part "),
                                       FUZZ_TEXT("part 1 e 00\n"),
                                       FUZZ_TEXT("upload "),
                                       FUZZ_TEXT("upload u\n"),
                                       FUZZ_TEXT("object "),
                                       FUZZ_TEXT("object \"e\"\n"),
                                       FUZZ_TEXT("range "),
                                       FUZZ_TEXT("range 0 1 00\n"),
                                       FUZZ_TEXT("part-size 1\n"),
                                       FUZZ_TEXT("source "),
                                       FUZZ_TEXT("source /f\n"),
                                       FUZZ_TEXT("size "),
                                       FUZZ_TEXT("mtime "),
                                       FUZZ_TEXT("source-id "),
                                       FUZZ_TEXT("target "),
                                       FUZZ_TEXT("part-size "),
                                       FUZZ_TEXT("checksum "),
                                       FUZZ_TEXT("headers "),
                                       FUZZ_TEXT("id "),
                                       FUZZ_TEXT("completing"),
                                       FUZZ_TEXT("10000"),
                                       FUZZ_TEXT("10001"),
                                       FUZZ_TEXT("9223372036854775807"),
                                       FUZZ_TEXT("9223372036854775808"),
                                       FUZZ_TEXT("18446744073709551615"),
                                       FUZZ_TEXT(".000000000"),
                                       FUZZ_TEXT(".999999999"),
                                       FUZZ_TEXT("-"),
                                       FUZZ_TEXT("%00"),
                                       FUZZ_TEXT("%0A"),
                                       FUZZ_TEXT("%"),
                                       FUZZ_TEXT(" #"),
                                       FUZZ_TEXT(" #00000000\n"),
                                       FUZZ_TEXT(" "),
                                       FUZZ_TEXT("\n"),
                                       FUZZ_END};

/* --- the second opinion --- */

static uint32_t
plain_crc32(struct span s)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < s.n; i++) {
        crc ^= (unsigned char)s.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* How long the first line is, with its LF, if its checksum is right; else 0. */
static size_t
want_line(struct span text)
{
    size_t n = 0;
    uint32_t crc = 0;

    while (n < text.n && text.p[n] != '\n')
        n++;
    if (n == text.n || n < 10 || text.p[n - 10] != ' ' || text.p[n - 9] != '#')
        return 0;
    for (size_t i = n - 8; i < n; i++) {
        char c = text.p[i];

        if (!c || !strchr("0123456789abcdefABCDEF", c))
            return 0;
        crc = crc << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return plain_crc32(span_at(text.p, n - 10)) == crc ? n + 1 : 0;
}

/* Are the words of a line what stands between its blanks? */
static void
claim_words(const struct jrn_line *line, struct span body)
{
    size_t at = 0;

    MUST(line->n >= 1 && line->n <= JRN_WORDS);
    for (unsigned i = 0; i < line->n; i++) {
        size_t n = 0;

        while (at + n < body.n && body.p[at + n] != ' ')
            n++;
        MUST(at <= body.n && line->word[i].n == n);
        MUST(!n || line->word[i].p == body.p + at);
        at += n + 1;
    }
    MUST(line->n == JRN_WORDS || at == body.n + 1);
}

/* --- the claims --- */

static void
claim_facts(const struct jrn_facts *k)
{
    unsigned n = 0;

    MUST(k->sources <= JRN_SOURCES && k->parts <= PARTS_MAX);
    for (unsigned i = 0; i < k->sources; i++) {
        const struct os_id *id = &k->source[i].id;

        MUST(k->source[i].path[0] && strlen(k->source[i].path) <= PATH_MAX);
        MUST(id->size >= 0);
        MUST(id->modified.ns >= 0 && id->modified.ns < 1000000000);
        MUST(id->changed.ns >= 0 && id->changed.ns < 1000000000);
    }
    for (unsigned i = 1; i <= k->parts; i++) {
        if (!k->part[i - 1].done)
            continue;
        n++;
        MUST(k->part[i - 1].etag < k->etags.n);
        MUST(jrn_etag(k, i)[0] && strlen(jrn_etag(k, i)) <= JRN_UPLOAD);
    }
    MUST(jrn_count(k) == n && (!k->parts || k->part[k->parts - 1].done));
    MUST(k->part_size <= PART_MOST);
    MUST(strlen(k->checksum) < sizeof k->checksum && strlen(k->id) < sizeof k->id);
    MUST(strlen(k->headers) < sizeof k->headers);
    MUST(k->endpoint.n <= URL_MAX && k->bucket.n <= URL_MAX && k->key.n <= KEY_MAX + 1);
    MUST(k->upload.n <= JRN_UPLOAD && !span_has(buf_span(&k->upload), 0));
    MUST(strlen(k->object) < sizeof k->object);
    MUST(!k->upload.n || !k->object[0]); /* the later of them made the other forgotten */
}

static bool
same_time(struct os_time a, struct os_time b)
{
    return a.s == b.s && a.ns == b.ns;
}

static void
claim_same(const struct jrn_facts *a, const struct jrn_facts *b)
{
    MUST(a->sources == b->sources && a->parts == b->parts);
    for (unsigned i = 0; i < a->sources; i++) {
        const struct os_id *x = &a->source[i].id, *y = &b->source[i].id;

        MUST(!strcmp(a->source[i].path, b->source[i].path));
        MUST(x->device == y->device && x->inode == y->inode && x->size == y->size);
        MUST(same_time(x->modified, y->modified) && same_time(x->changed, y->changed));
    }
    for (unsigned i = 1; i <= a->parts; i++) {
        MUST(a->part[i - 1].done == b->part[i - 1].done);
        if (!a->part[i - 1].done)
            continue;
        MUST(!strcmp(jrn_etag(a, i), jrn_etag(b, i)));
        MUST(!memcmp(a->part[i - 1].sum, b->part[i - 1].sum, JRN_SUM));
    }
    MUST(span_eq(buf_span(&a->endpoint), buf_span(&b->endpoint)));
    MUST(span_eq(buf_span(&a->bucket), buf_span(&b->bucket)));
    MUST(span_eq(buf_span(&a->key), buf_span(&b->key)));
    MUST(span_eq(buf_span(&a->upload), buf_span(&b->upload)));
    MUST(a->part_size == b->part_size && a->completing == b->completing);
    MUST(!strcmp(a->checksum, b->checksum) && !strcmp(a->id, b->id));
    MUST(!strcmp(a->headers, b->headers) && !strcmp(a->object, b->object));
}

/* Reads all that counts. False if a line makes no sense. */
static bool
read_all(struct span text, struct jrn_facts *k)
{
    struct jrn_line line;
    bool good = true;

    jrn_init(k);
    while (good && text.n) {
        struct span was = text;
        size_t n = want_line(text);

        if (!jrn_next(&text, &line)) {
            MUST(n == 0);
            MUST(text.p == was.p && text.n == was.n && !jrn_next(&text, &line));
            break;
        }
        MUST(n && text.n == was.n - n && (!text.n || text.p == was.p + n));
        claim_words(&line, span_at(was.p, n - 11));
        good = jrn_fact(k, &line);
    }
    if (good)
        claim_facts(k);
    return good;
}

/* A line that is whole goes to the text: what the journal would write to its file. */
static void
seal(struct jrn *j, struct buf *out)
{
    jrn_seal(j);
    buf_put(out, buf_span(&j->line));
}

static void
put_text(struct jrn *j, struct buf *out, const char *name, struct span value)
{
    if (!value.n)
        return;
    jrn_begin(j, name);
    jrn_value(j, value);
    seal(j, out);
}

static void
put_number(struct jrn *j, struct buf *out, const char *name, uint64_t n)
{
    jrn_begin(j, name);
    jrn_value_number(j, n);
    seal(j, out);
}

static void
put_sources(struct jrn *j, struct buf *out, const struct jrn_facts *k)
{
    for (unsigned i = 0; i < k->sources; i++) {
        const struct os_id *id = &k->source[i].id;

        put_text(j, out, "source", span_of(k->source[i].path));
        jrn_begin(j, "source-id");
        jrn_value_number(j, id->device);
        jrn_value_number(j, id->inode);
        jrn_value_time(j, id->changed);
        seal(j, out);
        put_number(j, out, "size", (uint64_t)id->size);
        jrn_begin(j, "mtime");
        jrn_value_time(j, id->modified);
        seal(j, out);
    }
}

/* A range in the journal's words, if a part can be one. */
static bool
put_range(struct jrn *j, struct buf *out, const struct jrn_facts *k, unsigned i,
          struct span hex)
{
    if (!k->object[0] || !k->part_size || strcmp(jrn_etag(k, i), "-") != 0)
        return false;
    jrn_begin(j, "range");
    jrn_value_number(j, (i - 1) * k->part_size);
    jrn_value_number(j, k->part_size);
    jrn_value(j, hex);
    seal(j, out);
    return true;
}

/* From the last part to the first. */
static void
put_parts(struct jrn *j, struct buf *out, const struct jrn_facts *k)
{
    struct buf hex = buf_upto(2 * JRN_SUM);

    for (unsigned i = k->parts; i; i--) {
        if (!k->part[i - 1].done)
            continue;
        buf_clear(&hex);
        hex_put(&hex, k->part[i - 1].sum, JRN_SUM);
        if (put_range(j, out, k, i, buf_span(&hex)))
            continue;
        jrn_begin(j, "part");
        jrn_value_number(j, i);
        jrn_value(j, span_of(jrn_etag(k, i)));
        jrn_value(j, buf_span(&hex));
        seal(j, out);
    }
    buf_free(&hex);
}

static void
claim_again(const struct jrn_facts *k)
{
    struct buf out = buf_upto(JRN_MOST);
    struct jrn j = jrn_none();
    struct jrn_facts again;

    put_text(&j, &out, "id", span_of(k->id));
    put_text(&j, &out, "headers", span_of(k->headers));
    put_text(&j, &out, "checksum", span_of(k->checksum));
    if (k->part_size)
        put_number(&j, &out, "part-size", k->part_size);
    jrn_begin(&j, "target");
    jrn_value(&j, buf_span(&k->endpoint));
    jrn_value(&j, buf_span(&k->bucket));
    jrn_value(&j, buf_span(&k->key));
    seal(&j, &out);
    put_sources(&j, &out, k);
    put_text(&j, &out, "upload", buf_span(&k->upload));
    put_text(&j, &out, "object", span_of(k->object));
    put_parts(&j, &out, k);
    if (k->completing) {
        jrn_begin(&j, "completing");
        seal(&j, &out);
    }
    MUST(!out.bad);
    MUST(read_all(buf_span(&out), &again));
    claim_same(k, &again);
    jrn_free(&again);
    jrn_close(&j);
    buf_free(&out);
}

static void
claim(struct span text)
{
    struct jrn_facts once, twice;
    bool good = read_all(text, &once);

    MUST(read_all(text, &twice) == good);
    if (good) {
        claim_same(&once, &twice);
        claim_again(&once);
    }
    jrn_free(&once);
    jrn_free(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size), sealed;
    struct buf text = buf_upto(12 * size + 64);

    claim(c.s);
    for (size_t at = 0; at < size;) {
        size_t n = 0;
        char crc[16];

        while (at + n < size && data[at + n] != '\n')
            n++;
        (void)snprintf(crc, sizeof crc, " #%08lx\n",
                       (unsigned long)plain_crc32(span_at(data + at, n)));
        buf_add(&text, data + at, n);
        buf_str(&text, crc);
        at += n + 1;
    }
    MUST(!text.bad);
    sealed = fuzz_copy(text.p, text.n);
    claim(sealed.s);
    free(sealed.block);
    buf_free(&text);
    free(c.block);
    return 0;
}
