/*
 * oracle.c: s3up's pure functions behind a line of text, so that oracle.py can hold them
 * against python, botocore and openssl with any number of random cases.
 *
 *   cc -std=c99 -Wall -Wextra -Wshadow -Wconversion -Wno-unused-function -Werror -O2 \
 *       -o oracle test/oracle.c
 *   python3 test/oracle.py ./oracle
 *
 * A question is a line: a word and its arguments, each behind one blank. Bytes are in hex,
 * - is none of them. The answer is a line too; ! means refused. What it is made of stands
 * with the verbs below.
 */
#define main s3up_main
#include "../s3up.c"
#undef main

#include <inttypes.h>

enum { ARGS_MAX = 200 };

/* One question: its words; and the bytes that arguments stood for, until the answer. */
static char *words[ARGS_MAX];
static unsigned words_n;
static unsigned word_at;
static void *kept[ARGS_MAX];
static unsigned kept_n;

static const char *
word(void)
{
    if (word_at >= words_n) {
        fprintf(stderr, "oracle: too few arguments for %s\n", words[0]);
        exit(2);
    }
    return words[word_at++];
}

static uint64_t
number(void)
{
    return strtoull(word(), NULL, 0);
}

/* The next argument's bytes, in memory that ends where they end: so ASan sees every step
 * beyond. */
static struct span
bytes(void)
{
    const char *w = word();
    size_t n = strcmp(w, "-") ? strlen(w) / 2 : 0;
    char *p = malloc(n ? n : 1);

    if (!p || !hex_read(span_at(w, n ? strlen(w) : 0), p, n)) {
        fprintf(stderr, "oracle: bad hex for %s\n", words[0]);
        exit(2);
    }
    kept[kept_n++] = p;
    return span_at(p, n);
}

/* The same with a NUL behind it. */
static const char *
string(void)
{
    struct span s = bytes();
    char *p = malloc(s.n + 1);

    if (!p)
        exit(2);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    kept[kept_n++] = p;
    return p;
}

static void
say(struct span s)
{
    if (!s.n)
        putchar('-');
    for (size_t i = 0; i < s.n; i++)
        printf("%02x", (unsigned)(unsigned char)s.p[i]);
}

/* What a writer or reader made, or the mark that it refused. */
static void
say_buf(bool good, struct buf *b)
{
    if (good && !b->bad)
        say(buf_span(b));
    else
        putchar('!');
    buf_free(b);
}

static struct buf
big(void)
{
    return buf_upto((size_t)1 << 26);
}

/* ===== the verbs ===== */

static enum sum_kind
kind(void)
{
    const char *name = word();
    unsigned k = 0;

    while (k < SUM_KINDS && strcmp(name, sum_kinds[k].name) != 0)
        k++;
    if (k == SUM_KINDS) {
        fprintf(stderr, "oracle: no sum %s\n", name);
        exit(2);
    }
    return (enum sum_kind)k;
}

/* sum KIND portable|fast OFFSET SLICES BYTES: the sum. SLICES are lengths with commas. */
static void
ask_sum(void)
{
    enum sum_kind k = kind();
    unsigned char out[SHA256_SIZE];
    const char *way = word(), *slices;
    size_t offset = (size_t)number();
    struct span data;
    struct sum s;
    char *moved;

    slices = word();
    data = bytes();
    moved = malloc(offset + data.n + 1);
    if (!moved)
        exit(2);
    if (data.n)
        memcpy(moved + offset, data.p, data.n);
    kept[kept_n++] = moved;
    cpu_found = strcmp(way, "portable") ? cpu_ask() : CPU_ASKED;
    sum_init(&s, k);
    for (size_t at = 0; at < data.n || *slices;) {
        size_t n = *slices ? strtoul(slices, NULL, 10) : data.n - at;

        n = n < data.n - at ? n : data.n - at;
        sum_add(&s, n ? moved + offset + at : NULL, n);
        at += n;
        slices += strcspn(slices, ",");
        slices += *slices == ',';
    }
    sum_end(&s, out);
    say(span_at(out, sum_kinds[k].size));
}

/* join KIND A B LENGTH: the CRC of what has A, and behind it LENGTH bytes that have B. */
static void
ask_join(void)
{
    const struct crc *k = sum_crc(kind());
    uint64_t a = number(), b = number();

    printf("%" PRIx64, crc_join(k, a, b, number()));
}

/* hmac KEY TEXT */
static void
ask_hmac(void)
{
    struct span key = bytes(), text = bytes();
    unsigned char out[SHA256_SIZE];

    hmac_of(key.p, key.n, text, out);
    say(span_at(out, sizeof out));
}

static struct request request;
static struct signer signer;

/* S3 METHOD HOST PATH NOW REGION SERVICE ID SECRET TOKEN FIELDS (NAME VALUE)...
 * PARAMETERS (NAME VALUE)...: what both kinds of signatures begin with. */
static void
read_request(void)
{
    const char *method;
    struct span host, path;
    uint64_t n;

    signer.s3 = number();
    method = string();
    host = bytes();
    path = bytes();
    signer.now = (int64_t)number();
    signer.region = bytes();
    signer.service = bytes();
    signer.id = bytes();
    signer.secret = bytes();
    signer.token = bytes();
    http_begin(&request, method, host, path);
    for (n = number(); n; n--) {
        const char *name = string();

        http_header(&request, name, bytes());
    }
    for (n = number(); n; n--) {
        const char *name = string();

        http_query(&request, name, bytes());
    }
}

/* headers PAYLOAD and a request: the Authorization field, and the query. */
static void
ask_headers(void)
{
    const char *payload = string();
    struct buf query = big();
    bool good;

    read_request();
    good = sig_headers(&request, &signer, payload);
    if (!good) {
        putchar('!');
        return;
    }
    say(request.head.at[request.head.n - 1].value);
    putchar(' ');
    http_put_query(&request, &query);
    say_buf(true, &query);
}

/* url PAYLOAD SECONDS and a request: the query. */
static void
ask_url(void)
{
    const char *payload = string();
    uint64_t seconds = number();
    struct buf query = big();
    bool good;

    read_request();
    good = sig_url(&request, &signer, seconds, payload);
    http_put_query(&request, &query);
    say_buf(good, &query);
}

/* policy NOW REGION SECRET TEXT: its base64 and the signature. */
static void
ask_policy(void)
{
    struct signer who = {.service = SPAN("s3")};
    struct buf out = big();
    char hex[SIG_HEX];
    bool good;

    who.now = (int64_t)number();
    who.region = bytes();
    who.secret = bytes();
    good = sig_policy(&who, bytes(), &out, hex);
    say_buf(good, &out);
    printf(" %s", hex);
}

/* urlput KEEP BYTES */
static void
ask_urlput(void)
{
    const char *keep = string();
    struct buf out = big();

    url_put(&out, bytes(), keep);
    say_buf(true, &out);
}

/* urlread FORM BYTES */
static void
ask_urlread(void)
{
    bool form = number();
    struct buf out = big();
    bool good = url_read(bytes(), form, &out);

    say_buf(good, &out);
}

/* urlparse BYTES: https literal6 port host path query */
static void
ask_urlparse(void)
{
    struct url u;

    if (url_parse(bytes(), &u)) {
        putchar('!');
        return;
    }
    printf("%d %d %u ", u.https, u.literal6, u.port);
    say(u.host);
    putchar(' ');
    say(u.path);
    putchar(' ');
    say(u.query);
}

/* b64put BYTES, b64read BYTES, xmlput BYTES, xmltext BYTES, jsonput BYTES */
static void
ask_b64put(void)
{
    struct span s = bytes();
    struct buf out = big();

    b64_put(&out, s.p, s.n);
    say_buf(true, &out);
}

static void
ask_b64read(void)
{
    struct buf out = big();
    bool good = b64_read(bytes(), &out);

    say_buf(good, &out);
}

static void
ask_xmlput(void)
{
    struct buf out = big();

    xml_put(&out, bytes());
    say_buf(true, &out);
}

static void
ask_xmltext(void)
{
    struct buf out = big();
    bool good = xml_text(bytes(), &out);

    say_buf(good, &out);
}

static void
ask_jsonput(void)
{
    struct buf out = big();

    json_put(&out, bytes());
    say_buf(true, &out);
}

/* carry BYTES: can XML carry them; utf8 BYTES: the length of the first character. */
static void
ask_carry(void)
{
    printf("%d", xml_can_carry(bytes()));
}

static void
ask_utf8(void)
{
    printf("%lu", (unsigned long)utf8_length(bytes()));
}

/* xml BYTES: <NAME for every element that begins, >TEXT where it ends; then . or !; ? is a
 * text that cannot be decoded. */
static void
ask_xml(void)
{
    enum xml_event event;
    struct xml x;

    xml_init(&x, bytes());
    while ((event = xml_next(&x)) == XML_ENTER || event == XML_LEAVE) {
        struct buf text = big();

        if (event == XML_ENTER) {
            putchar('<');
            say(x.open[x.depth - 1]);
        } else if (xml_text(x.text, &text)) {
            putchar('>');
            say(buf_span(&text));
        } else {
            printf(">?");
        }
        buf_free(&text);
        putchar(' ');
    }
    putchar(event == XML_END ? '.' : '!');
}

/* json BYTES: { [ ) T F N, "TEXT, #NUMBER; a member's name before it, as NAME: */
static void
ask_json(void)
{
    static const char marks[] = ".{[)\"#TFN!";
    enum json_event event;
    struct json j;

    json_init(&j, bytes());
    do {
        event = json_next(&j);
        if (j.key.p && event != JSON_BAD) {
            struct buf text = big();
            bool good = json_text(j.key, &text);

            say_buf(good, &text);
            putchar(':');
        }
        putchar(marks[event]);
        if (event == JSON_STRING) {
            struct buf text = big();
            bool good = json_text(j.text, &text);

            say_buf(good, &text);
        } else if (event == JSON_NUMBER) {
            say(j.text);
        }
        putchar(' ');
    } while (event != JSON_END && event != JSON_BAD);
}

/* ini BYTES: [KIND|NAME for a section, =KEY|VALUE, +VALUE for what goes on, /KEY|VALUE in a
 * block; then . or ! */
static void
ask_ini(void)
{
    static const char marks[] = ".[=+/!";
    enum ini_event event;
    struct ini i;

    ini_init(&i, bytes());
    while ((event = ini_next(&i)) != INI_END && event != INI_BAD) {
        putchar(marks[event]);
        if (event != INI_MORE) {
            say(event == INI_SECTION ? i.kind : i.key);
            putchar('|');
        }
        say(event == INI_SECTION ? i.name : i.value);
        putchar(' ');
    }
    putchar(marks[event]);
}

/* stamp T, iso BYTES, http BYTES, size BYTES, age BYTES, num BYTES */
static void
ask_stamp(void)
{
    char stamp[DATE_STAMP];

    date_stamp((int64_t)strtoll(word(), NULL, 10), stamp);
    printf("%s", stamp);
}

static void
ask_iso(void)
{
    int64_t t;

    if (date_iso(bytes(), &t))
        printf("%" PRId64, t);
    else
        putchar('!');
}

static void
ask_http(void)
{
    int64_t t;

    if (date_http(bytes(), &t))
        printf("%" PRId64, t);
    else
        putchar('!');
}

static void
ask_size(void)
{
    uint64_t v;

    if (num_size(bytes(), &v))
        printf("%" PRIu64, v);
    else
        putchar('!');
}

static void
ask_num(void)
{
    uint64_t v;

    if (num_parse(bytes(), UINT64_MAX, &v))
        printf("%" PRIu64, v);
    else
        putchar('!');
}

/* cpu: which fast ways this machine has, as words. */
static void
ask_cpu(void)
{
    cpu_found = cpu_ask();
    printf("%s %s", cpu_has(CPU_SHA) ? "sha" : "-", cpu_has(CPU_CLMUL) ? "clmul" : "-");
}

static const struct {
    const char *word;
    void (*answer)(void);
} verbs[] = {
    {"sum", ask_sum},         {"join", ask_join},       {"hmac", ask_hmac},
    {"headers", ask_headers}, {"url", ask_url},         {"policy", ask_policy},
    {"urlput", ask_urlput},   {"urlread", ask_urlread}, {"urlparse", ask_urlparse},
    {"b64put", ask_b64put},   {"b64read", ask_b64read}, {"xml", ask_xml},
    {"xmlput", ask_xmlput},   {"xmltext", ask_xmltext}, {"carry", ask_carry},
    {"utf8", ask_utf8},       {"json", ask_json},       {"jsonput", ask_jsonput},
    {"ini", ask_ini},         {"stamp", ask_stamp},     {"iso", ask_iso},
    {"http", ask_http},       {"size", ask_size},       {"num", ask_num},
    {"cpu", ask_cpu},
};

static bool
answer(char *line)
{
    size_t v = 0;

    words_n = word_at = 0;
    for (char *w = strtok(line, " \n"); w && words_n < ARGS_MAX; w = strtok(NULL, " \n"))
        words[words_n++] = w;
    if (!words_n || words_n == ARGS_MAX)
        return false;
    while (v < sizeof verbs / sizeof *verbs && strcmp(words[0], verbs[v].word) != 0)
        v++;
    if (v == sizeof verbs / sizeof *verbs)
        return false;
    word_at = 1;
    verbs[v].answer();
    putchar('\n');
    while (kept_n)
        free(kept[--kept_n]);
    return fflush(stdout) == 0;
}

int
main(void)
{
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0)
        if (!answer(line)) {
            fprintf(stderr, "oracle: no such question\n");
            return 2;
        }
    free(line);
    return 0;
}
