/*
 * call: one call of room 11 from the command line, for tests and benchmarks of what lies
 * below the commands: sockets, TLS, HTTP, the store's calls, their retries and messages.
 *
 *   call [-e ENDPOINT] [-k ID:SECRET[:TOKEN]] [-r REGION] [-c CA-FILE] [-p PROXY]
 *        [-n NO_PROXY] [-a path|virtual] [-t LIMIT-MS] [-R RETRIES] [-x REPEAT]
 *        [-h full|resumed]    a new connection, and handshake, for each repetition
 *        OPERATION [ARGUMENT...]
 *
 * Prints what came back, or `failed EXIT TEXT`; exits with the code of the failure.
 */
#define S3UP_NO_MAIN
#include "../s3up.c"
#undef main /* which it has renamed, so that we can have our own */

static struct store store;

static void
say(const char *what, struct span s)
{
    printf("%s %.*s\n", what, (int)s.n, s.n ? s.p : "");
}

static int
read_body(const void *from, char *out, size_t n, int64_t at, struct fail *f)
{
    const int *fd = from;

    return os_read(*fd, out, n, at) == (ssize_t)n ? 0 : fail_sys(f, "read", "the body");
}

static int
open_body(const char *path, struct s3_call *call)
{
    static int fd;
    struct stat info;

    fd = os_open(path, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &info) != 0)
        return -1;
    call->body.read = read_body;
    call->body.from = &fd;
    call->body.length = info.st_size;
    call->payload = SIG_UNSIGNED;
    return 0;
}

static int
do_put(char **a, struct fail *f)
{
    struct s3_call call = s3_to("PutObject", "PUT", span_of(a[0]), span_of(a[1]));
    int rc;

    call.body.memory = span_of(a[2]);
    if (a[2][0] == '@' && open_body(a[2] + 1, &call) < 0)
        return fail_sys(f, "open", a[2] + 1);
    if (a[2][0] == '@')
        call.body.memory = SPAN("");
    for (char **h = a + 3; *h; h++) { /* further fields as name=value */
        char *value = strchr(*h, '=');

        if (value)
            *value++ = 0;
        s3_header(&call, *h, span_of(value));
    }
    rc = s3_put_object(&store, &call, f);
    if (rc == 0)
        say("etag", s3_bare(s3_value(&store, "etag")));
    return rc;
}

static int
do_get(char **a, struct fail *f)
{
    struct s3_call call = s3_to("GetObject", "GET", span_of(a[0]), span_of(a[1]));
    struct sum sum;
    unsigned char digest[MD5_SIZE];
    struct buf hex = buf_upto(64);
    ssize_t did;
    uint64_t n = 0;

    if (a[2])
        s3_header(&call, "range", span_of(a[2]));
    if (s3_get_object(&store, &call, f) < 0)
        return -1;
    sum_init(&sum, SUM_MD5);
    while ((did = http_read(&store.conn, store.window, sizeof store.window, f)) > 0) {
        sum_add(&sum, store.window, (size_t)did);
        n += (uint64_t)did;
    }
    if (did < 0)
        return -1;
    sum_end(&sum, digest);
    hex_put(&hex, digest, sizeof digest);
    printf("status %u\nbytes %llu\nmd5 %s\n", store.conn.head.status,
           (unsigned long long)n, buf_text(&hex));
    buf_free(&hex);
    return 0;
}

static int
do_list(enum s3_list_kind kind, char **a, struct fail *f)
{
    struct s3_list list;
    unsigned n = 0;
    int rc;

    s3_list_begin(&list, kind, kind == S3_BUCKETS ? SPAN("") : span_of(a[0]));
    if (kind == S3_PARTS) {
        list.key = span_of(a[1]);
        list.id = span_of(a[2]);
    } else if (kind != S3_BUCKETS && a[1]) {
        list.prefix = span_of(a[1]);
        list.delimiter = span_of(a[2]);
    }
    while ((rc = s3_list_next(&store, &list, f)) > 0) {
        struct buf name = buf_upto(8192);

        n++;
        json_put(&name, buf_span(&list.entry.name));
        printf("%s %s %llu %llu %s %lld\n", list.entry.is_prefix ? "prefix" : "entry",
               buf_text(&name), (unsigned long long)list.entry.size,
               (unsigned long long)list.entry.number, buf_text(&list.entry.id),
               (long long)list.entry.time);
        buf_free(&name);
    }
    printf("listed %u\n", n);
    s3_list_end(&list);
    return rc;
}

/* fill BUCKET COUNT: so many objects, or with "upload" behind it unfinished uploads, whose
 * names are as odd as names can be. Prints them as a list shows them. */
static int
do_fill(char **a, struct fail *f)
{
    static const char *const odd[] = {
        "plain",  "a b",       "a+b",      "100%",
        "%41",    "a&b<c>\"'", "\xc3\xa9", "\xf0\x9f\x98\x80",
        "a//b",   "../x",      "dir/",     "a\\b",
        "a\tb",   "a\nb",      "a\rb",     "\x01",
        "?x=1#f", ";:@=,$",    "~._-",     "\x7f",
        "]]>",    "&amp;",     "/",        " "};
    struct buf key = buf_upto(KEY_MAX), id = buf_upto(KEY_MAX);
    unsigned count = (unsigned)atoi(a[1]);
    int rc = 0;

    for (unsigned i = 0; i < count && rc == 0; i++) {
        struct s3_call call =
            s3_to("Fill", a[2] ? "POST" : "PUT", span_of(a[0]), SPAN(""));
        struct buf name = buf_upto(8 * KEY_MAX);

        buf_clear(&key);
        buf_char(&key, (char)('a' + i % 7));
        buf_str(&key, i % 3 ? "/" : "-");
        buf_num(&key, i);
        buf_str(&key, odd[i % (sizeof odd / sizeof *odd)]);
        call.key = buf_span(&key);
        buf_clear(&id);
        rc = a[2] ? s3_create_upload(&store, &call, &id, f)
                  : s3_put_object(&store, &call, f);
        json_put(&name, buf_span(&key));
        printf("entry %s\n", buf_text(&name));
        buf_free(&name);
    }
    buf_free(&key);
    buf_free(&id);
    return rc;
}

static int
do_buckets(char **a, struct fail *f)
{
    return do_list(S3_BUCKETS, a, f);
}

static int
do_objects(char **a, struct fail *f)
{
    return do_list(S3_OBJECTS, a, f);
}

static int
do_uploads(char **a, struct fail *f)
{
    return do_list(S3_UPLOADS, a, f);
}

static int
do_parts(char **a, struct fail *f)
{
    return do_list(S3_PARTS, a, f);
}

static int
do_head(char **a, struct fail *f)
{
    if (s3_head_object(&store, span_of(a[0]), span_of(a[1]), f) < 0)
        return -1;
    say("etag", s3_bare(s3_value(&store, "etag")));
    printf("length %lld\n", (long long)store.conn.head.length);
    return 0;
}

static int
do_delete(char **a, struct fail *f)
{
    return s3_delete_object(&store, span_of(a[0]), span_of(a[1]), f);
}

static int
do_delete_many(char **a, struct fail *f)
{
    struct buf key = buf_upto(8192), code = buf_upto(1024);
    struct span keys[1000];
    unsigned n = 0;
    struct xml x;
    int rc;

    for (char **k = a + 1; *k && n < 1000; k++)
        keys[n++] = span_of(*k);
    rc = s3_delete_objects(&store, span_of(a[0]), keys, n, f);
    xml_init(&x, buf_span(&store.reply));
    while (rc == 0 && s3_next_undeleted(&x, &key, &code))
        printf("undeleted %s %s\n", buf_text(&key), buf_text(&code));
    buf_free(&key);
    buf_free(&code);
    return rc;
}

static int
do_copy(char **a, struct fail *f)
{
    struct s3_call call = s3_to("CopyObject", "PUT", span_of(a[1]), span_of(a[2]));

    return s3_copy_object(&store, &call, span_of(a[0]), f);
}

static int
do_make(char **a, struct fail *f)
{
    return s3_create_bucket(&store, span_of(a[0]), f);
}

static int
do_drop(char **a, struct fail *f)
{
    return s3_delete_bucket(&store, span_of(a[0]), f);
}

static int
do_head_bucket(char **a, struct fail *f)
{
    return s3_head_bucket(&store, span_of(a[0]), f);
}

/* upload BUCKET KEY COPY-SOURCE|- PART...: every PART is the text of one part. */
static int
do_upload(char **a, struct fail *f)
{
    struct buf id = buf_upto(1024), etag = buf_upto(1024), list = buf_upto(65536);
    struct buf number = buf_upto(32);
    struct s3_call call =
        s3_to("CreateMultipartUpload", "POST", span_of(a[0]), span_of(a[1]));
    int rc = s3_create_upload(&store, &call, &id, f);

    if (rc == 0)
        printf("id %s\n", buf_text(&id));
    for (unsigned i = 1; rc == 0 && a[2 + i]; i++) {
        bool copy = a[2][0] != '-';

        call = s3_to(copy ? "UploadPartCopy" : "UploadPart", "PUT", span_of(a[0]),
                     span_of(a[1]));
        s3_name_part(&call, buf_span(&id), i, &number);
        buf_clear(&etag);
        if (!copy)
            call.body.memory = span_of(a[2 + i]);
        rc = copy ? s3_copy_part(&store, &call, span_of(a[2]), &etag, f)
                  : s3_upload_part(&store, &call, &etag, f);
        if (rc == 0)
            s3_put_part(&list, i, buf_span(&etag), (struct s3_pair){NULL, SPAN("")});
    }
    if (rc == 0) {
        call = s3_to("CompleteMultipartUpload", "POST", span_of(a[0]), span_of(a[1]));
        rc = s3_complete_upload(&store, &call, buf_span(&id), &list, f);
    }
    buf_free(&id);
    buf_free(&etag);
    buf_free(&list);
    buf_free(&number);
    return rc;
}

static int
do_abort(char **a, struct fail *f)
{
    return s3_abort_upload(&store, span_of(a[0]), span_of(a[1]), span_of(a[2]), f);
}

static const struct {
    const char *name;
    int least; /* arguments */
    int (*run)(char **, struct fail *);
} operations[] = {
    {"put", 3, do_put},         {"fill", 2, do_fill},
    {"get", 2, do_get},         {"head", 2, do_head},
    {"delete", 2, do_delete},   {"delete-many", 2, do_delete_many},
    {"copy", 3, do_copy},       {"make", 1, do_make},
    {"drop", 1, do_drop},       {"head-bucket", 1, do_head_bucket},
    {"buckets", 0, do_buckets}, {"list", 1, do_objects},
    {"uploads", 1, do_uploads}, {"parts", 3, do_parts},
    {"upload", 4, do_upload},   {"abort", 3, do_abort},
};

/* Splits ID:SECRET[:TOKEN]. */
static void
set_keys(struct s3_config *config, const char *text)
{
    struct span rest = span_of(text);

    (void)span_cut(&rest, ':', &config->id);
    (void)span_cut(&rest, ':', &config->secret);
    config->token = rest;
}

static int
usage(void)
{
    fputs("usage: see the head of test/call.c\n", stderr);
    return S3UP_USAGE;
}

int
main(int argc, char **argv)
{
    struct s3_config config = {.retries = 3, .limit = 5000};
    struct fail f = {S3UP_OK, ""};
    int option, rc = -1, repeat = 1;
    char handshake = 0;

    os_signals();
    while ((option = getopt(argc, argv, "+e:k:r:c:p:n:a:t:R:x:h:")) != -1)
        switch (option) {
        case 'e':
            config.endpoint = optarg;
            break;
        case 'k':
            set_keys(&config, optarg);
            break;
        case 'r':
            config.region = optarg;
            break;
        case 'c':
            config.ca_file = optarg;
            break;
        case 'p':
            config.proxy = optarg;
            break;
        case 'n':
            config.no_proxy = optarg;
            break;
        case 'a':
            config.addressing = optarg[0] == 'p' ? S3_PATH : S3_VIRTUAL;
            break;
        case 't':
            config.limit = atoi(optarg);
            break;
        case 'R':
            config.retries = (unsigned)atoi(optarg);
            break;
        case 'h':
            handshake = optarg[0];
            break;
        case 'x':
            repeat = atoi(optarg);
            break;
        default:
            return usage();
        }
    argv += optind;
    argc -= optind;
    if (argc < 1)
        return usage();
    rc = s3_open(&store, &config, &f);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (!strcmp(argv[0], operations[i].name) && argc > operations[i].least)
            for (int n = 0; n < repeat && rc == 0; n++) {
                if (handshake)
                    http_close(&store.conn);
                if (handshake == 'f')
                    store.origin.session.known = false;
                rc = operations[i].run(argv + 1, &f);
            }
    if (rc < 0)
        printf("failed %d %s\n", f.code, f.text);
    s3_close(&store);
    return rc < 0 ? (int)f.code : 0;
}
