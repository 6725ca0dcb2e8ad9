/*
 * journal.c: room 5 of s3up.c, which must never believe what a crash, a full disk or a
 * stranger wrote. One real journal is cut after every byte and has every byte changed:
 * what is then read must be a beginning of what was written, or nothing.
 *
 * The golden journal was made with python, line by line:
 *
 *   b' '.join(words) + b' #%08x' % zlib.crc32(b' '.join(words))
 *
 * and each word by percent-encoding all but 0x21-0x7e, and % and #. Lines that must be
 * refused get their checksum from a second CRC-32, below, which is held against that.
 *
 *   cc -std=c99 -D_FILE_OFFSET_BITS=64 -O1 -o journal test/journal.c
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What happens between two calls of s3up, where another process could do it as well. */
static void (*journal_before_flock)(void);
static int journal_flock_error; /* once; 0: none */
static int journal_disk_error;  /* once */
static unsigned journal_synced; /* fdatasync came back well */
static bool journal_starved;    /* there is no memory for what is large */

static int
journal_flock(int fd, int how)
{
    void (*first)(void) = journal_before_flock;
    int error = journal_flock_error;

    journal_before_flock = NULL;
    journal_flock_error = 0;
    if (first)
        first();
    if (error) {
        errno = error;
        return -1;
    }
    return flock(fd, how);
}

static int
journal_fdatasync(int fd)
{
    int error = journal_disk_error;

    journal_disk_error = 0;
    if (error) {
        errno = error;
        return -1;
    }
    journal_synced++;
    return fdatasync(fd);
}

static void *
journal_calloc(size_t n, size_t size)
{
    if (!journal_starved)
        return calloc(n, size);
    errno = ENOMEM;
    return NULL;
}

#define flock(fd, how)  journal_flock(fd, how)
#define fdatasync(fd)   journal_fdatasync(fd)
#define calloc(n, size) journal_calloc(n, size)
#define main            s3up_main
#include "../s3up.c"
#undef main
#undef calloc
#undef fdatasync
#undef flock

#include "check.h"

#include <dirent.h>

static char folder[200]; /* of this run alone */
static bool root;        /* may give files away */

/* A path in the folder. The text lives until the eighth call after. */
static const char *
in_folder(const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    (void)snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

/* Files are made and read without s3up here, so that it cannot agree with itself. It is
 * not emptied first: ext4 takes that for a careless way to replace a file, and waits for
 * the disk. */
static void
file_make(const char *path, struct span data)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    if (fd < 0 || write(fd, data.p, data.n) != (ssize_t)data.n ||
        ftruncate(fd, (off_t)data.n) != 0 || close(fd) != 0)
        abort();
}

/* Up to 64 KB of it; an empty span without an address if there is none. */
static struct span
file_read(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);

    if (n < 0 || (fd >= 0 && close(fd) != 0))
        abort();
    return span_at(fd < 0 ? NULL : text, (size_t)n);
}

static mode_t
mode_of(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 ? info.st_mode & 07777 : 0;
}

/* Runs checks in a process of its own, which may change what it is. */
static void
in_child(void (*what)(void))
{
    unsigned long failed = check_failed;
    int status = -1;
    pid_t pid;

    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        what();
        (void)fflush(stdout);
        _exit(check_failed - failed > 100 ? 100 : (int)(check_failed - failed));
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- the golden journal --- */

static const char *const golden[] = {
    "s3up journal 1 #e8a36c82",
    "source /srv/back%20up/%0A100%25%23%FF%C3%A9%7F~.img #a0daba7a",
    "source-id 2049 18446744073709551615 1732154322.000000001 #f29b9ea7",
    "size 10737418240 #3c044782",
    "mtime 1732154321.123456789 #0cef489b",
    "target https://s3.eu-west-1.amazonaws.com my-bucket a%20b/%C3%A9+%231 #614fbc88",
    "part-size 16777216 #24611488",
    "checksum sha256 #cae2fa08",
    "headers e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 #7008e288",
    "id 00112233445566778899aabbccddeeff #d9571feb",
    "upload first~upload #3ceec9c5",
    "part 1 \"c4ca4238a0b923820dcc509a6f75849b\" 6b86b273 #8bfaf4fb",
    "part 2 \"c81e728d9d4c2f636f067f89cc14862c\" d4735e3a #37decd6a",
    "part 60 \"072b030ba126b2f4b2374f342be9ed44\" 39fa9ec1 #9b67a690",
    "upload 2~kJx/second+upload== #aea805a6",
    "part 12 \"4456d0bcde17f2280b93877cff7b3c36\" 7fd6e9e6 #e79a8ebd",
    "part 35 \"20b1e0bdbf3dff8c1788063d3c77ae0d\" 4079165a #5a277a7e",
    "part 10 \"4b91f32a6e7c9347e242c6a3cfe81831\" 687f5e47 #63512122",
    "part 41 \"26e8530d08fc66445748b88ef378168e\" c12e856d #2f990038",
    "part 27 \"ab35692a3bda58e7a6c06cd8363cb7fe\" 37790dcd #fe88c33c",
    "part 33 \"9b7b5ca272dc35ed690de9d2f6b74441\" 7ebfdde2 #3a9de33f",
    "part 44 \"7084252dd333b2bb1d5013fa4b3a6172\" - #c1513d4a",
    "part 22 \"c6cd780787b928b8e8adb0e300e6b383\" 4ffbe152 #fe138128",
    "part 46 \"9d4e1b500aade229477391a33ef0b1bd\" 452374ca #ca1d67f9",
    "part 38 \"whole\" 356c9ee60e9da05301adc3bd96f6b383 #1a70ccba",
    "part 21 \"46625770cd8efc0e3fa544311615601d\" 5ce11e0d #ec2c06ea",
    "part 45 \"292ca9a96b507225127478f59e5d718b\" 9c614db3 #289b4820",
    "part 39 a%20b%25%23 a4969a07 #280e915c",
    "part 43 \"71645a581dd0a0657c0764b58f33e316\" 3b361cdd #5c3714a8",
    "part 26 \"95477cfe677cae21bcfcd118f674aa10\" d5a78e38 #d098be0f",
    "part 29 \"a9f09ac9a7d9cc1dcc30dc1f7574786b\" 01eaa39d #4053f903",
    "part 18 \"66e577e4ba8b54949fa79963528297a1\" 0144345f #d615121c",
    "part 20 \"3a0808dd3fb49428ebb26a32b2179a02\" dc552ac6 #da3499d3",
    "part 15 \"d207a043bec16479b96df45e4bcbcd06\" 9ae774e4 #f553332f",
    "part 5 \"97e2f596ffc9211fecfee155ad18d643\" ff6a421c #d3303ff9",
    "part 3 \"c68ebab7a1e74618506a0a1fabe54186\" 35e93eb6 #14049b52",
    "part 41 \"627046d8400b1fd706365fd4a2783b68\" 7d79014b #bdf7d940",
    "part 28 \"5d680d9f211b75b15d009c25b97f43cf\" 7198ad98 #7cb02893",
    "part 13 \"4c159d2d35c1da9ba6f94746e2bf19cd\" 02717ae1 #fb9cd421",
    "part 6 \"c3caf6ae1153e916acfcba386418dcf7\" fd402e47 #f1bb6b44",
    "part 9 \"41d60d32d9ec705b3d3409e5c37a47ed\" 49c45e82 #66f0333e",
    "part 14 \"fdc45ae94da0fa7012328bfbac03079c\" 264a4151 #0fb814d7",
    "part 32 \"58b7ebf53b9facda0eb7958427893b9b\" 5794dd04 #56bd93b6",
    "part 36 \"64075f807d0c322572b6a9d1725438ca\" 737f7fe2 #9879bb79",
    "part 1 \"38684612f0c6bb6dfa16da92f4a6878f\" a048e640 #fce5601a",
    "part 37 \"0370b1ea9ac408fd91e2a6061e259db9\" 967fa6b6 #29c4d03c",
    "part 19 \"deda76c89dc2b9459018e1dbda0c52db\" 90b8e99e #c1f789e2",
    "part 7 \"8a1b0284de7d7f43f74ff50788b58df6\" 0411ebb4 #3cb619bf",
    "part 25 \"c0b7833d2f5af3448565c0a0d3f3f547\" b47bca02 #d6f25815",
    "part 47 \"70b0162a4b95dfd38b317140376cf96a\" 4f34f17a #93247201",
    "part 31 \"974e918689ea1c461869a81317494b52\" f64c46ea #de57a16d",
    "part 24 \"b09d9cde877c42399ceaf1a65ca9d699\" 87ef3c1c #459f278b",
    "part 8 \"22d3c538ae9a7893a8cca2d17abd46ce\" 08d31cf5 #51df7cbd",
    "part 11 \"c9e4c140019d45281557c6f83e971a66\" 9d7fe379 #eec9fd1b",
    "part 4 \"7d2ec3b03bb065827164eb47cc7dc37b\" ac74f8ab #7f662e50",
    "part 16 \"81c25ed3948dc5f8f1b5823b61cd5128\" 97d3b806 #5cd1e535",
    "part 30 \"0957fa1f6f1720beb022cf504ed168fd\" fd428970 #d96bc678",
    "part 2 \"2204c2b4d60ae2fd5279ec54cfaed2a4\" b595b214 #7cbec840",
    "part 34 \"07b12a99785cf8247e6209dbe02596b6\" 3c54e700 #2b15239c",
    "part 42 \"5f1b691e95da2d5e2a41531b7aacc462\" 1d3b751b #d9b34db1",
    "part 23 \"258704cf6c75b5b1cadc8ef82fc7ef53\" 3169fa13 #f3b9a35e",
    "part 17 \"190d71f78756943cc1f815db0e29de34\" 63804ce5 #3d1b21af",
    "part 40 \"02840f8eb8eaa7291d77b456244fd6bf\" 4347100a #3766df29",
    "completing #5811be9b",
};

/* Where its lines say something for the first time. */
enum {
    G_HEAD,
    G_SOURCE,
    G_ID,
    G_SIZE,
    G_MTIME,
    G_TARGET,
    G_PART_SIZE,
    G_CHECKSUM,
    G_HEADERS,
    G_TOKEN,
    G_FIRST_UPLOAD,
    G_UPLOAD = G_FIRST_UPLOAD + 4,
    G_COMPLETING = COUNT(golden) - 1,
    G_LINES
};

#define G_PARTS 64 /* more than any number in it */

static const char golden_source[] = "/srv/back up/\n100%#\xff\xc3\xa9\x7f~.img";
static const char golden_key[] = "a b/\xc3\xa9+#1";
static const char golden_next[] = "part 61 \"next\" 00ff #a0a44f6b\n";

static char golden_text[8192];
static size_t golden_at[G_LINES + 1]; /* where each line begins; at last, the end */
static struct {
    unsigned number; /* 0: the line is about something else */
    char etag[80];
    unsigned char sum[JRN_SUM];
} golden_part[G_LINES];

static unsigned
nibble(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* Takes the lines apart, with other means than s3up's. */
static void
golden_init(void)
{
    char word[80], sum[80];
    size_t n = 0;

    for (unsigned i = 0; i < G_LINES; i++) {
        char *etag = golden_part[i].etag;

        golden_at[i] = n;
        n += (size_t)snprintf(golden_text + n, sizeof golden_text - n, "%s\n", golden[i]);
        if (sscanf(golden[i], "part %u %79s %79s", &golden_part[i].number, word, sum) !=
            3)
            continue;
        for (const char *p = word; *p; p++)
            if (*p == '%') {
                *etag++ = (char)(nibble(p[1]) << 4 | nibble(p[2]));
                p += 2;
            } else {
                *etag++ = *p;
            }
        for (size_t k = 0; sum[0] != '-' && sum[k]; k += 2)
            golden_part[i].sum[k / 2] =
                (unsigned char)(nibble(sum[k]) << 4 | nibble(sum[k + 1]));
    }
    golden_at[G_LINES] = n;
}

static struct span
golden_first(size_t n)
{
    return span_at(golden_text, n);
}

/* How many whole lines the first n bytes have. */
static unsigned
golden_whole(size_t n)
{
    unsigned i = 0;

    while (i < G_LINES && golden_at[i + 1] <= n)
        i++;
    return i;
}

static bool
text_is(const struct buf *b, bool said, const char *text)
{
    return span_is(buf_span(b), said ? text : "");
}

static bool
source_is(const struct jrn_facts *k, unsigned lines)
{
    struct jrn_source none = {NULL, {0, 0, 0, {0, 0}, {0, 0}}};
    struct jrn_source s = k->sources ? k->source[0] : none;

    if (k->sources != (lines > G_SOURCE) ||
        (k->sources && strcmp(s.path, golden_source) != 0))
        return false;
    return s.id.device == (lines > G_ID ? 2049 : 0) &&
           s.id.inode == (lines > G_ID ? UINT64_MAX : 0) &&
           s.id.changed.s == (lines > G_ID ? 1732154322 : 0) &&
           s.id.changed.ns == (lines > G_ID ? 1 : 0) &&
           s.id.size == (lines > G_SIZE ? 10737418240 : 0) &&
           s.id.modified.s == (lines > G_MTIME ? 1732154321 : 0) &&
           s.id.modified.ns == (lines > G_MTIME ? 123456789 : 0);
}

/* Are the parts those that the first so many lines noted, and no others? */
static bool
parts_are(const struct jrn_facts *k, unsigned lines)
{
    unsigned from = lines > G_UPLOAD ? G_UPLOAD : G_FIRST_UPLOAD;
    unsigned where[G_PARTS + 1] = {0}, most = 0, n = 0;

    for (unsigned i = from; i < lines; i++)
        where[golden_part[i].number] = i;
    for (unsigned number = 1; number <= G_PARTS; number++) {
        unsigned i = where[number];
        const struct jrn_part *p = number <= k->parts ? &k->part[number - 1] : NULL;

        if ((i != 0) != (p && p->done))
            return false;
        if (!i)
            continue;
        if (strcmp(jrn_etag(k, number), golden_part[i].etag) != 0 ||
            memcmp(p->sum, golden_part[i].sum, JRN_SUM) != 0)
            return false;
        most = number;
        n++;
    }
    return k->parts == most && jrn_count(k) == n;
}

/* Are these the facts of the first so many lines of the golden journal? */
static bool
facts_are(const struct jrn_facts *k, unsigned lines)
{
    const char *upload = lines > G_UPLOAD ? "2~kJx/second+upload==" : "first~upload";

    return source_is(k, lines) &&
           text_is(&k->endpoint, lines > G_TARGET,
                   "https://s3.eu-west-1.amazonaws.com") &&
           text_is(&k->bucket, lines > G_TARGET, "my-bucket") &&
           text_is(&k->key, lines > G_TARGET, golden_key) &&
           k->part_size == (lines > G_PART_SIZE ? 16777216 : 0) &&
           !strcmp(k->checksum, lines > G_CHECKSUM ? "sha256" : "") &&
           !strcmp(k->headers, lines > G_HEADERS ? "e3b0c44298fc1c149afbf4c8996fb92427ae4"
                                                   "1e4649b934ca495991b7852b855"
                                                 : "") &&
           !strcmp(k->id, lines > G_TOKEN ? "00112233445566778899aabbccddeeff" : "") &&
           text_is(&k->upload, lines > G_FIRST_UPLOAD, upload) &&
           k->completing == (lines > G_COMPLETING) && parts_are(k, lines);
}

/* --- to open a journal --- */

struct opened {
    struct jrn j;
    struct jrn_facts k;
    struct fail f;
    int rc;
};

static void
open_with(struct opened *o, const char *path, bool make)
{
    o->j = jrn_none();
    o->f = (struct fail){S3UP_OK, ""};
    jrn_init(&o->k);
    buf_str(&o->j.path, path);
    o->rc = jrn_open(&o->j, make, &o->k, &o->f);
}

static void
open_it(struct opened *o, const char *path)
{
    open_with(o, path, true);
}

static void
close_it(struct opened *o)
{
    jrn_close(&o->j);
    jrn_free(&o->k);
}

/* It must not be opened, with this code and these words, and be left as it is. */
static void
check_refused(const char *path, enum s3up_exit code, const char *words)
{
    struct opened o;

    open_it(&o, path);
    CHECK_NUM(o.rc, -1);
    CHECK_NUM(o.f.code, code);
    if (!CHECK(strstr(o.f.text, words)))
        printf("    got \"%s\", want \"%s\"\n", o.f.text, words);
    CHECK(o.j.fd < 0);
    close_it(&o);
}

/* --- what the writer writes --- */

static void
write_part(struct jrn *j, unsigned i)
{
    static const unsigned char none[JRN_SUM];
    const unsigned char *sum = golden_part[i].sum;
    size_t n = memcmp(sum + 4, none, sizeof none - 4) ? 16 : 4;
    struct buf hex = buf_upto(2 * JRN_SUM);

    jrn_begin(j, "part");
    jrn_value_number(j, golden_part[i].number);
    jrn_value(j, span_of(golden_part[i].etag));
    if (memcmp(sum, none, sizeof none))
        hex_put(&hex, sum, n);
    else
        buf_char(&hex, '-');
    jrn_value(j, buf_span(&hex));
    buf_free(&hex);
}

/* All lines but the first, which jrn_open has written. */
static void
write_line(struct jrn *j, unsigned i)
{
    static const char *const names[] = {"",        "source", "source-id", "size",
                                        "mtime",   "target", "part-size", "checksum",
                                        "headers", "id"};
    static const char *const texts[] = {
        NULL,
        golden_source,
        NULL,
        NULL,
        NULL,
        "https://s3.eu-west-1.amazonaws.com",
        NULL,
        "sha256",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "00112233445566778899aabbccddeeff"};

    if (golden_part[i].number) {
        write_part(j, i);
        return;
    }
    jrn_begin(j, i < COUNT(names)                       ? names[i]
                 : i == G_FIRST_UPLOAD || i == G_UPLOAD ? "upload"
                                                        : "completing");
    if (i < COUNT(names) && texts[i])
        jrn_value(j, span_of(texts[i]));
    switch (i) {
    case G_ID:
        jrn_value_number(j, 2049);
        jrn_value_number(j, UINT64_MAX);
        jrn_value_time(j, (struct os_time){1732154322, 1});
        break;
    case G_SIZE:
        jrn_value_number(j, 10737418240);
        break;
    case G_MTIME:
        jrn_value_time(j, (struct os_time){1732154321, 123456789});
        break;
    case G_TARGET:
        jrn_value(j, SPAN("my-bucket"));
        jrn_value(j, span_of(golden_key));
        break;
    case G_PART_SIZE:
        jrn_value_number(j, 16777216);
        break;
    case G_FIRST_UPLOAD:
        jrn_value(j, SPAN("first~upload"));
        break;
    case G_UPLOAD:
        jrn_value(j, SPAN("2~kJx/second+upload=="));
        break;
    default:
        break;
    }
}

static void
test_writer(void)
{
    const char *path = in_folder("written");
    struct opened o;
    unsigned before;

    CASE("the writer");
    (void)umask(0);
    open_it(&o, path);
    CHECK_NUM(o.rc, 0);
    CHECK_NUM(mode_of(path), 0600);
    CHECK(facts_are(&o.k, 0));
    CHECK_SPAN(file_read(path), golden_first(golden_at[1]));
    CHECK(fcntl(o.j.fd, F_GETFD) & FD_CLOEXEC);
    for (unsigned i = 1; i < G_LINES; i++) {
        write_line(&o.j, i);
        CHECK_NUM(jrn_end(&o.j, &o.f), 0);
    }
    CHECK_SPAN(file_read(path), golden_first(golden_at[G_LINES]));
    before = journal_synced;
    CHECK(o.j.dirty && jrn_sync(&o.j, &o.f) == 0 && !o.j.dirty);
    CHECK(jrn_sync(&o.j, &o.f) == 0);
    CHECK_NUM(journal_synced - before, 1);
    close_it(&o);
    CHECK_SPAN(file_read(path), golden_first(golden_at[G_LINES]));
    CASE("what was written comes back");
    open_with(&o, path, false);
    CHECK_NUM(o.rc, 1);
    CHECK(facts_are(&o.k, G_LINES));
    jrn_remove(&o.j);
    CHECK(o.j.fd < 0 && access(path, F_OK) != 0);
    close_it(&o);
    CASE("there is none, and none is to be made");
    open_with(&o, path, false);
    CHECK(o.rc == -1 && o.f.code == S3UP_MISSING && access(path, F_OK) != 0);
    close_it(&o);
    CASE("without a journal all goes on");
    open_it(&o, path);
    jrn_remove(&o.j);
    write_line(&o.j, G_SIZE);
    CHECK(jrn_end(&o.j, &o.f) == 0 && jrn_sync(&o.j, &o.f) == 0);
    CHECK(access(path, F_OK) != 0);
    close_it(&o);
}

/* A disk that fails says so once; whoever asks again is not told that all is well before
 * the disk says so. */
static void
test_sync_fails(void)
{
    const char *path = in_folder("sync");
    struct opened o;

    CASE("the disk fails");
    open_it(&o, path);
    write_line(&o.j, G_SOURCE);
    CHECK_NUM(jrn_end(&o.j, &o.f), 0);
    journal_disk_error = EIO;
    CHECK(jrn_sync(&o.j, &o.f) == -1 && o.f.code == S3UP_LATER && o.j.dirty);
    jrn_remove(&o.j);
    close_it(&o);
}

/* Values that are hard to write come back as they were. */
static void
test_values(void)
{
    static const struct {
        struct span value;
        const char *written;
    } t[] = {
        {BYTES("plain~!\"$&'()*+,-./:;<=>?@[\\]^_`{|}"),
         "plain~!\"$&'()*+,-./:;<=>?@[\\]^_`{|}"},
        {BYTES(" "), "%20"},
        {BYTES("\n"), "%0A"},
        {BYTES("%#"), "%25%23"},
        {BYTES("%41"), "%2541"},
        {BYTES("\x7f\x80\xff\x1f\x01"), "%7F%80%FF%1F%01"},
        {BYTES("a\0b"), "a%00b"},
        {BYTES("\r\t\v\f"), "%0D%09%0B%0C"},
        {BYTES(""), ""},
    };
    static const struct {
        struct os_time t;
        const char *written;
    } times[] = {{{0, 0}, "0.000000000"},
                 {{-1, 500000000}, "-1.500000000"},
                 {{4102444800, 999999999}, "4102444800.999999999"},
                 {{INT64_MAX, 7}, "9223372036854775807.000000007"},
                 {{INT64_MIN, 7}, "-9223372036854775808.000000007"}};
    const char *path = in_folder("values");
    struct opened o;

    for (size_t i = 0; i < COUNT(t); i++) {
        char line[200];

        CASE("value %s", t[i].written);
        open_it(&o, path);
        jrn_begin(&o.j, "target");
        jrn_value(&o.j, SPAN("e"));
        jrn_value(&o.j, SPAN("b"));
        jrn_value(&o.j, t[i].value);
        (void)snprintf(line, sizeof line, "target e b %s", t[i].written);
        CHECK_TEXT(buf_span(&o.j.line), line);
        CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        close_it(&o);
        open_it(&o, path);
        CHECK_NUM(o.rc, 1);
        CHECK_SPAN(buf_span(&o.k.key), t[i].value);
        jrn_remove(&o.j);
        close_it(&o);
    }
    for (size_t i = 0; i < COUNT(times); i++) {
        char line[200];

        CASE("time %s", times[i].written);
        open_it(&o, path);
        jrn_begin(&o.j, "source");
        jrn_value(&o.j, SPAN("/f"));
        CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        jrn_begin(&o.j, "mtime");
        jrn_value_time(&o.j, times[i].t);
        (void)snprintf(line, sizeof line, "mtime %s", times[i].written);
        CHECK_TEXT(buf_span(&o.j.line), line);
        CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        close_it(&o);
        open_it(&o, path);
        CHECK(o.rc == 1 && o.k.sources == 1);
        CHECK(o.k.sources && o.k.source[0].id.modified.s == times[i].t.s &&
              o.k.source[0].id.modified.ns == times[i].t.ns);
        jrn_remove(&o.j);
        close_it(&o);
    }
}

/* --- cut and changed --- */

static bool
next_is(const struct jrn_facts *k)
{
    return k->parts == 61 && k->part[60].done && !strcmp(jrn_etag(k, 61), "\"next\"") &&
           !memcmp(k->part[60].sum, "\0\xff\0\0", 4);
}

/* What follows a crash: the rest is gone, and the next line stands where it began. */
static void
test_cut(void)
{
    const char *path = in_folder("cut");
    size_t next = sizeof golden_next - 1;

    for (size_t at = 0; at <= golden_at[G_LINES]; at++) {
        unsigned whole = golden_whole(at), kept = whole ? whole : 1;
        char want[sizeof golden_text];
        struct opened o;

        CASE("cut after %lu bytes", (unsigned long)at);
        file_make(path, golden_first(at));
        open_it(&o, path);
        CHECK_NUM(o.rc, whole ? 1 : 0);
        CHECK(facts_are(&o.k, whole));
        CHECK_SPAN(file_read(path), golden_first(golden_at[kept]));
        jrn_begin(&o.j, "part");
        jrn_value_number(&o.j, 61);
        jrn_value(&o.j, SPAN("\"next\""));
        jrn_value(&o.j, SPAN("00ff"));
        CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        close_it(&o);
        memcpy(want, golden_text, golden_at[kept]);
        memcpy(want + golden_at[kept], golden_next, next);
        CHECK_SPAN(file_read(path), span_at(want, golden_at[kept] + next));
        open_it(&o, path);
        CHECK_NUM(o.rc, 1);
        CHECK(next_is(&o.k));
        if (o.k.parts == 61) { /* but for it, all is as before */
            o.k.part[60].done = false;
            while (o.k.parts && !o.k.part[o.k.parts - 1].done)
                o.k.parts--;
        }
        CHECK(facts_are(&o.k, whole));
        close_it(&o);
    }
    CHECK_NUM(unlink(path), 0);
}

/* The checksum may be written in capitals, too: that is no damage. */
static bool
only_case(size_t at, unsigned line, char was, char is)
{
    return (was ^ is) == 32 && was >= 'a' && was <= 'f' && at >= golden_at[line + 1] - 9;
}

static void
check_changed(const char *path, size_t at, char is)
{
    unsigned line = golden_whole(at), facts = line;
    struct span all = golden_first(golden_at[G_LINES]);
    char was = golden_text[at];
    struct opened o;

    if (was == is)
        return;
    CASE("byte %lu of line %u from 0x%02x to 0x%02x", (unsigned long)at, line,
         (unsigned)(unsigned char)was, (unsigned)(unsigned char)is);
    if (only_case(at, line, was, is))
        facts = G_LINES;
    golden_text[at] = is;
    file_make(path, all);
    open_it(&o, path);
    if (facts) {
        CHECK_NUM(o.rc, 1);
        CHECK(facts_are(&o.k, facts));
        CHECK_SPAN(file_read(path), golden_first(golden_at[facts]));
    } else {
        CHECK_NUM(o.rc, -1);
        CHECK_NUM(o.f.code, S3UP_USAGE);
        CHECK_SPAN(file_read(path), all);
    }
    close_it(&o);
    golden_text[at] = was;
}

/* Each byte becomes a LF and the next one, and by turns two others that may matter. */
static void
test_changed(void)
{
    const char *path = in_folder("changed");

    for (size_t at = 0; at < golden_at[G_LINES]; at++) {
        const char was = golden_text[at];
        const char others[] = {' ', '#', '0', 0, (char)(was ^ 32), (char)(was ^ 128)};

        check_changed(path, at, '\n');
        check_changed(path, at, (char)(was ^ 1));
        for (size_t i = 0; i < COUNT(others); i++)
            if (at < golden_at[2] || (at + i) % 3 == 0) /* all of them at the beginning */
                check_changed(path, at, others[i]);
    }
    CHECK_NUM(unlink(path), 0);
}

/* --- what is no journal, or none of ours --- */

static void
test_not_journals(void)
{
    static const struct {
        const char *name;
        struct span text;
        const char *words;
    } t[] = {
        {"a text", BYTES("Dear diary,\n"), "is not a journal of s3up"},
        {"a text without an end", BYTES("x"), "is not a journal of s3up"},
        {"an empty line first", BYTES("\ns3up journal 1 #e8a36c82\n"),
         "is not a journal of s3up"},
        {"a blank", BYTES(" "), "is not a journal of s3up"},
        {"binary",
         BYTES("\x7f"
               "ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0>\0\1\0\0\0"),
         "is not a journal of s3up"},
        {"zeros, as a file system may leave them", BYTES("\0\0\0\0\0\0\0\0"),
         "is not a journal of s3up"},
        {"more than the first line, without its end", BYTES("s3up journal 1 #e8a36c82x"),
         "is not a journal of s3up"},
        {"CR LF", BYTES("s3up journal 1 #e8a36c82\r\n"), "is not a journal of s3up"},
        {"a byte order mark", BYTES("\xef\xbb\xbfs3up journal 1 #e8a36c82\n"),
         "is not a journal of s3up"},
        /* These checksums are right. */
        {"another file's line", BYTES("size 10737418240 #3c044782\n"),
         "is not a journal of s3up"},
        {"nothing, summed", BYTES(" #00000000\n"), "is not a journal of s3up"},
        {"another program's", BYTES("s3up ledger 1 #e95ae486\n"),
         "is not a journal of s3up"},
        {"version 2", BYTES("s3up journal 2 #71aa3d38\nx\n"),
         "of version 2, and this s3up reads version 1: finish with a newer one"},
        {"version 10", BYTES("s3up journal 10 #f7859e41\n"), "of version 10,"},
        {"no version", BYTES("s3up journal #dcf76f1a\n"), "is not a journal of s3up"},
    };
    const char *path = in_folder("no-journal");

    for (size_t i = 0; i < COUNT(t); i++) {
        CASE("%s", t[i].name);
        file_make(path, t[i].text);
        check_refused(path, S3UP_USAGE, t[i].words);
        CHECK_SPAN(file_read(path), t[i].text);
    }
    CHECK_NUM(unlink(path), 0);
    CASE("larger than any journal");
    file_make(path, golden_first(golden_at[G_LINES]));
    CHECK_NUM(truncate(path, JRN_MOST + 1), 0);
    check_refused(path, S3UP_USAGE, "larger than");
    CHECK_NUM(unlink(path), 0);
}

static void
test_no_file(void)
{
    const char *path = in_folder("odd"), *other = in_folder("other");
    struct span all = golden_first(golden_at[G_LINES]);

    file_make(other, all);
    CASE("a symbolic link");
    CHECK_NUM(symlink(other, path), 0);
    check_refused(path, S3UP_USAGE, "is a symbolic link");
    CHECK_NUM(unlink(path), 0);
    CASE("a symbolic link to nothing");
    CHECK_NUM(symlink(in_folder("nothing"), path), 0);
    check_refused(path, S3UP_USAGE, "is a symbolic link");
    CHECK(unlink(path) == 0 && access(in_folder("nothing"), F_OK) != 0);
    CASE("a folder");
    CHECK_NUM(mkdir(path, 0700), 0);
    check_refused(path, S3UP_USAGE, "directory");
    CHECK_NUM(rmdir(path), 0);
    CASE("a FIFO");
    CHECK_NUM(mkfifo(path, 0600), 0);
    check_refused(path, S3UP_USAGE, "is no plain file");
    CHECK_NUM(unlink(path), 0);
    CASE("no such folder");
    check_refused(in_folder("nothing/at/all"), S3UP_MISSING, "cannot open the journal");
    for (mode_t m = 0; m < 3; m++) {
        static const mode_t modes[] = {0620, 0602, 0666};

        CASE("mode %o", (unsigned)modes[m]);
        CHECK_NUM(chmod(other, modes[m]), 0);
        check_refused(other, S3UP_DENIED, "others may write to the journal");
    }
    CHECK_NUM(chmod(other, 0600), 0);
    if (root) {
        CASE("a stranger's");
        CHECK_NUM(chown(other, 65534, 65534), 0);
        check_refused(other, S3UP_DENIED, "belongs to another user");
    }
    CHECK_SPAN(file_read(other), all);
    CHECK_NUM(unlink(other), 0);
}

/* --- locks --- */

static void
test_locked(void)
{
    const char *path = in_folder("locked");
    int ready[2], done[2];
    struct opened o;
    char c = 0;
    pid_t pid;

    CASE("another process is at work");
    file_make(path, golden_first(golden_at[G_LINES]));
    (void)fflush(stdout);
    if (pipe(ready) != 0 || pipe(done) != 0 || (pid = fork()) < 0)
        abort();
    if (pid == 0) {
        int fd = open(path, O_RDWR);

        c = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? 'y' : 'n';
        (void)close(done[1]); /* or we would wait for ourselves */
        if (write(ready[1], &c, 1) != 1 || read(done[0], &c, 1) < 0)
            _exit(1);
        _exit(0); /* the lock dies with us */
    }
    (void)close(done[0]);
    CHECK(read(ready[0], &c, 1) == 1 && c == 'y');
    check_refused(path, S3UP_LOCKED, "another run of s3up is at work");
    CHECK_SPAN(file_read(path), golden_first(golden_at[G_LINES]));
    (void)close(done[1]);
    (void)close(ready[0]);
    (void)close(ready[1]);
    CHECK_NUM(waitpid(pid, NULL, 0), pid);
    CASE("and when it has ended");
    open_it(&o, path);
    CHECK(o.rc == 1 && facts_are(&o.k, G_LINES));
    CASE("a second one in the same process");
    check_refused(path, S3UP_LOCKED, "another run of s3up is at work");
    jrn_remove(&o.j);
    close_it(&o);
    CASE("a file system that cannot lock");
    journal_flock_error = ENOLCK;
    check_refused(path, S3UP_LATER, "cannot lock the journal");
    CHECK_NUM(unlink(path), 0);
}

static struct opened race_holder;

/* The run that held the lock comes to its end just now. */
static void
race_end(void)
{
    jrn_remove(&race_holder.j);
}

/* And once more: whoever is always late must not turn for ever. */
static void
race_always(void)
{
    if (unlink(in_folder("race")) == 0)
        journal_before_flock = race_always;
}

static void
test_race(void)
{
    const char *path = in_folder("race");
    struct stat there, here;
    struct opened o;

    CASE("removed between open and lock");
    open_it(&race_holder, path);
    write_line(&race_holder.j, G_SOURCE);
    CHECK(race_holder.rc == 0 && jrn_end(&race_holder.j, &race_holder.f) == 0);
    journal_before_flock = race_end;
    open_it(&o, path);
    CHECK_NUM(o.rc, 0);
    CHECK_NUM(o.k.sources, 0);
    CHECK(fstat(o.j.fd, &here) == 0 && stat(path, &there) == 0 &&
          here.st_ino == there.st_ino && here.st_nlink == 1);
    CHECK_SPAN(file_read(path), golden_first(golden_at[1]));
    check_refused(path, S3UP_LOCKED, "another run of s3up is at work");
    jrn_remove(&o.j);
    close_it(&o);
    close_it(&race_holder);
    CASE("removed between open and lock, and none is to be made");
    open_it(&race_holder, path);
    journal_before_flock = race_end;
    open_with(&o, path, false);
    CHECK(o.rc == -1 && o.f.code == S3UP_MISSING && access(path, F_OK) != 0);
    close_it(&o);
    close_it(&race_holder);
    CASE("removed again and again");
    (void)alarm(20);
    journal_before_flock = race_always;
    check_refused(path, S3UP_LATER, "again and again");
    (void)alarm(0);
    journal_before_flock = NULL;
}

/* --- lines whose checksum is right --- */

/* Bit by bit, as the polynomial is defined. */
static uint32_t
plain_crc32(const char *p, size_t n)
{
    uint32_t crc = 0xffffffff;

    while (n--) {
        crc ^= (unsigned char)*p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static size_t
put_line(char *out, const char *line)
{
    return (size_t)sprintf(out, "%s #%08lx\n", line,
                           (unsigned long)plain_crc32(line, strlen(line)));
}

static void
test_plain_crc32(void)
{
    char line[200], out[220];

    CASE("the second CRC-32");
    CHECK(plain_crc32("123456789", 9) == 0xcbf43926); /* by the catalogue of CRCs */
    for (unsigned i = 0; i < G_LINES; i++) {
        (void)snprintf(line, sizeof line, "%.*s", (int)strlen(golden[i]) - 10, golden[i]);
        CHECK_SPAN(span_at(out, put_line(out, line)),
                   span_at(golden_text + golden_at[i], golden_at[i + 1] - golden_at[i]));
    }
}

/* A journal with this line in it: what is behind must be read, or all be refused. */
static void
check_line(const char *line, bool sourced, bool good)
{
    static char text[32768];
    const char *path = in_folder("line");
    size_t n = put_line(text, "s3up journal 1");
    struct opened o;

    if (sourced)
        n += put_line(text + n, "source /f");
    n += put_line(text + n, "upload u");
    n += put_line(text + n, line);
    n += put_line(text + n, "part 7 \"e\" 00");
    file_make(path, span_at(text, n));
    open_it(&o, path);
    CHECK_SPAN(file_read(path), span_at(text, n));
    if (good) {
        CHECK_NUM(o.rc, 1);
        CHECK(o.k.parts >= 7 && o.k.part[6].done);
    } else {
        CHECK_NUM(o.rc, -1);
        CHECK_NUM(o.f.code, S3UP_USAGE);
        CHECK(strstr(o.f.text, "contradicts itself"));
        CHECK(o.j.fd < 0);
    }
    close_it(&o);
    CHECK_NUM(unlink(path), 0);
}

static void
test_nonsense(void)
{
    static const char *const bad[] = {
        "part",
        "part 1",
        "part 1 \"e\"",
        "part 0 \"e\" 00",
        "part 10001 \"e\" 00",
        "part -1 \"e\" 00",
        "part +1 \"e\" 00",
        "part x \"e\" 00",
        "part  \"e\" 00",
        "part 18446744073709551617 \"e\" 00",
        "part 1  00",
        "part 1 %00 00",
        "part 1 a%00b 00",
        "part 1 %4 00",
        "part 1 % 00",
        "part 1 %zz 00",
        "part 1 \"e\" 0",
        "part 1 \"e\" 000",
        "part 1 \"e\" zz",
        "part 1 \"e\" --",
        "part 1 \"e\" ", /* 33 bytes: */
        "part 1 \"e\" 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
        "source",
        "source ",
        "source %00",
        "source /a%00b",
        "source %",
        "size",
        "size ",
        "size -1",
        "size 1x",
        "size 9223372036854775808",
        "size 18446744073709551616",
        "mtime",
        "mtime ",
        "mtime 1",
        "mtime 1.",
        "mtime 1.5",
        "mtime 1.1234567890",
        "mtime .123456789",
        "mtime -",
        "mtime -.123456789",
        "mtime --1.000000000",
        "mtime 1.-00000001",
        "mtime 1.000000000.0",
        "mtime 9223372036854775808.000000000",
        "mtime -9223372036854775809.000000000",
        "source-id",
        "source-id 1 2",
        "source-id 1 2 3",
        "source-id -1 2 3.000000000",
        "source-id 1 x 3.000000000",
        "source-id 1 18446744073709551616 3.000000000",
        "target",
        "target e b",
        "target e b %g0",
        "target e %1 k",
        "part-size",
        "part-size 0",
        "part-size -5",
        "part-size 5368709121",
        "checksum",
        "checksum ",
        "checksum 0123456789abcdef",
        "checksum a%20b",
        "checksum a\x01",
        "checksum a\xff",
        "checksum a\x7f",
        "id",
        "id 00112233445566778899aabbccddeeff0",
        "id %41",
        "headers",
        "headers e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550",
        "upload",
        "upload ",
        "upload %",
        "upload %00",
        "upload a%00b"};
    static const char *const good[] = {"part 10000 \"e\" -",
                                       "part 1 \"e\" -",
                                       "part 1 \"e\" ff",
                                       "part 1 \"e\" FF",
                                       "part 1 \"e\" 00 and more to come",
                                       "size 0",
                                       "size 9223372036854775807",
                                       "mtime -1.500000000",
                                       "part-size 1",
                                       "part-size 5368709120",
                                       "checksum 0123456789abcde",
                                       "completing",
                                       "completing 1 2",
                                       "future",
                                       "future 1 2 3 4 5 6 7 8 9 10 11 12",
                                       "future  two blanks",
                                       "future %zz %",
                                       "future \x01\xff#",
                                       "Part 0",
                                       "par 0",
                                       "parts 0",
                                       "part\t0",
                                       "",
                                       " ",
                                       "   ",
                                       "#",
                                       " #",
                                       "s3up journal 2"};
    static const char *const alone[] = {"size 1", "mtime 1.000000000",
                                        "source-id 1 2 3.000000000"};
    static const char *const ranges[] = {"range 0 1 00", "range 5242880 5242880 ff"};

    for (size_t i = 0; i < COUNT(ranges); i++) { /* a range is one of parts */
        CASE("without a part size: %s", ranges[i]);
        check_line(ranges[i], true, false);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        CASE("nonsense: %s", bad[i]);
        check_line(bad[i], true, false);
    }
    for (size_t i = 0; i < COUNT(alone); i++) {
        CASE("without a source: %s", alone[i]);
        check_line(alone[i], false, false);
        CASE("with a source: %s", alone[i]);
        check_line(alone[i], true, true);
    }
    for (size_t i = 0; i < COUNT(good); i++) {
        CASE("none: %s", good[i]);
        check_line(good[i], true, true);
    }
}

/* --- downloads --- */

#define E128                                                                             \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                   \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* A journal with these lines behind its part size, opened. */
static void
open_lines(struct opened *o, const char *const lines[], unsigned n)
{
    static char text[32768];
    size_t length = put_line(text, "s3up journal 1");

    length += put_line(text + length, "source /f");
    length += put_line(text + length, "part-size 5242880");
    for (unsigned i = 0; i < n; i++)
        length += put_line(text + length, lines[i]);
    file_make(in_folder("download"), span_at(text, length));
    open_it(o, in_folder("download"));
}

static void
test_ranges(void)
{
    static const struct {
        const char *line;
        unsigned part; /* 0: it makes no sense */
    } t[] = {
        {"range 0 5242880 00", 1},
        {"range 0 1 00", 1},
        {"range 0 5242880 FF", 1},
        {"range 0 5242880 00 and more to come", 1},
        {"range 5242880 7 00", 2},
        {"range 52423557120 5242880 00", 10000},
        {"range 0 5242880 "
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
         1},
        {"range 52428800000 5242880 00", 0}, /* the 10,001st */
        {"range", 0},
        {"range 0", 0},
        {"range 0 5242880", 0},
        {"range 0 5242880 ", 0},
        {"range  5242880 00", 0},
        {"range 0  00", 0},
        {"range 0 0 00", 0},
        {"range 0 5242881 00", 0},
        {"range 1 5242880 00", 0},
        {"range 5242879 1 00", 0},
        {"range -5242880 5242880 00", 0},
        {"range +0 5242880 00", 0},
        {"range x 5242880 00", 0},
        {"range 0 x 00", 0},
        {"range 0 -1 00", 0},
        {"range 0 5242880 -", 0},
        {"range 0 5242880 0", 0},
        {"range 0 5242880 000", 0},
        {"range 0 5242880 zz", 0},
        {"range 0 5242880 "
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
         0},
        {"range 9223372036854775808 1 00", 0},
        {"range 18446744073709551616 1 00", 0},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        struct opened o;

        CASE("a download: %s", t[i].line);
        open_lines(&o, &t[i].line, 1);
        CHECK_NUM(o.rc, t[i].part ? 1 : -1);
        CHECK_NUM(o.f.code, t[i].part ? S3UP_OK : S3UP_USAGE);
        CHECK(t[i].part || strstr(o.f.text, "contradicts itself (range)"));
        CHECK_NUM(jrn_count(&o.k), t[i].part ? 1 : 0);
        CHECK_NUM(o.k.parts, t[i].part);
        close_it(&o);
    }
    CHECK_NUM(unlink(in_folder("download")), 0);
}

/* The ETag of what is fetched, as it came: with its quotes, and whatever is in it. */
static void
test_objects(void)
{
    static const struct {
        const char *line, *etag; /* NULL: it makes no sense */
    } t[] = {
        {"object \"9b2c\"", "\"9b2c\""},
        {"object \"9b2c-6\" version", "\"9b2c-6\""},
        {"object -", "-"},
        {"object W/%22a%20b%22", "W/\"a b\""},
        {"object %FF%01", "\xff\x01"},
        {"object", NULL},
        {"object %", NULL},
        {"object %0", NULL},
        {"object %zz", NULL},
        {"object %00", NULL},
        {"object a%00b", NULL},
        {"object " E128 E128, NULL},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        struct opened o;

        CASE("a download: %.60s", t[i].line);
        open_lines(&o, &t[i].line, 1);
        CHECK_NUM(o.rc, t[i].etag ? 1 : -1);
        CHECK(t[i].etag || strstr(o.f.text, "contradicts itself (object)"));
        CHECK_STR(o.k.object, t[i].etag ? t[i].etag : "");
        close_it(&o);
    }
    CHECK_NUM(unlink(in_folder("download")), 0);
}

/* What is said of one object does not hold for the next. */
static void
test_another_object(void)
{
    static const char *const lines[] = {
        "object \"a\"",        "range 0 5242880 0a0b", "range 10485760 1 0c",
        "range 10485760 2 0d", "object \"b\"",         "range 5242880 3 0e0f",
        "part-size 6291456",   "range 6291456 4 10",   "object \"c\""};
    static const struct {
        unsigned lines, count, parts;
        const char *object;
    } t[] = {{1, 0, 0, "\"a\""}, {2, 1, 1, "\"a\""}, {3, 2, 3, "\"a\""},
             {4, 2, 3, "\"a\""}, {5, 0, 0, "\"b\""}, {6, 1, 2, "\"b\""},
             {7, 1, 2, "\"b\""}, {8, 1, 2, "\"b\""}, {9, 0, 0, "\"c\""}};

    for (size_t i = 0; i < COUNT(t); i++) {
        struct opened o;

        CASE("%u lines of a download", t[i].lines);
        open_lines(&o, lines, t[i].lines);
        CHECK_NUM(o.rc, 1);
        CHECK_NUM(jrn_count(&o.k), t[i].count);
        CHECK_NUM(o.k.parts, t[i].parts);
        CHECK_STR(o.k.object, t[i].object);
        if (t[i].lines == 4) /* the later line is the one that counts */
            CHECK(o.k.part[0].sum[1] == 0x0b && o.k.part[2].sum[0] == 0x0d &&
                  !o.k.part[1].done);
        close_it(&o);
    }
    CHECK_NUM(unlink(in_folder("download")), 0);
}

/* Cut at any byte, and with any byte changed: no more is believed than whole lines say. */
static void
test_download_torn(void)
{
    static const char *const lines[] = {"object \"a\"", "range 0 5242880 0a0b",
                                        "range 10485760 1 0c"};
    static char text[4096], bent[4096];
    size_t size, at[COUNT(lines) + 1];
    struct opened o;

    open_lines(&o, lines, 0);
    at[0] = file_read(in_folder("download")).n;
    close_it(&o);
    for (unsigned i = 0; i < COUNT(lines); i++)
        at[i + 1] = at[i] + put_line(text, lines[i]);
    open_lines(&o, lines, COUNT(lines));
    close_it(&o);
    size = file_read(in_folder("download")).n;
    CHECK_NUM(size, at[COUNT(lines)]);
    memcpy(text, file_read(in_folder("download")).p, size);
    for (size_t n = at[0]; n < size; n++)
        for (int how = 0; how < 2; how++) {
            unsigned whole = 0;

            CASE("a download, %s at %lu", how ? "changed" : "cut", (unsigned long)n);
            while (at[whole + 1] <= n)
                whole++;
            memcpy(bent, text, size);
            bent[n] = (char)(bent[n] ^ 1);
            file_make(in_folder("download"), span_at(bent, how ? size : n));
            open_it(&o, in_folder("download"));
            CHECK_NUM(o.rc, 1);
            CHECK_NUM(jrn_count(&o.k), whole ? whole - 1 : 0);
            CHECK_STR(o.k.object, whole ? "\"a\"" : "");
            CHECK_SPAN(file_read(in_folder("download")), span_at(text, at[whole]));
            close_it(&o);
        }
    CHECK_NUM(unlink(in_folder("download")), 0);
}

/* The longest that are taken, and one byte more. */
static void
test_long(void)
{
    static const struct {
        const char *before, *behind;
        int most;
    } t[] = {{"source /", "", PATH_MAX - 1}, {"target ", " b k", URL_MAX},
             {"target e ", " k", URL_MAX},   {"target e b ", "", KEY_MAX + 1},
             {"upload ", "", JRN_UPLOAD},    {"part 1 ", " 00", JRN_UPLOAD}};
    static char many[8192], line[8300];

    memset(many, 'x', sizeof many - 1);
    for (size_t i = 0; i < COUNT(t); i++)
        for (int more = 0; more <= 1; more++) {
            CASE("%s with %d bytes", t[i].before, t[i].most + more);
            (void)snprintf(line, sizeof line, "%s%.*s%s", t[i].before, t[i].most + more,
                           many, t[i].behind);
            check_line(line, true, !more);
        }
}

/* Lines that say again what was said. */
static void
test_again(void)
{
    static const char text[] = "s3up journal 1 #e8a36c82\n"
                               "source /a #1cd82f00\n"
                               "size 3 #c89cc777\n"
                               "size 5 #21ff6242\n"
                               "source /b #85d17eba\n"
                               "size 7 #cff1036e\n"
                               "target e1 b1 k1 #45df4954\n"
                               "target e2 b2 k2 #ff8bad9d\n"
                               "part-size 8 #1d291f68\n"
                               "part-size 9 #6a2e2ffe\n"
                               "checksum sha256 #cae2fa08\n"
                               "checksum md5 #417db9a7\n"
                               "upload u1 #6e146d7a\n"
                               "part 9 nine aa #fa140ab3\n"
                               "part 1 one 01 #3e3d3fd6\n"
                               "completing #5811be9b\n"
                               "upload u2 #f71d3cc0\n"
                               "part 3 old aaaa #21b53c88\n"
                               "part 3 new bb #406b7a93\n";
    const char *path = in_folder("again");
    static const unsigned char sum[JRN_SUM] = {1};
    static char etag[JRN_UPLOAD + 2];
    struct opened o;

    CASE("said twice: the later word holds");
    file_make(path, span_of(text));
    open_it(&o, path);
    CHECK_NUM(o.rc, 1);
    CHECK_NUM(o.k.sources, 2);
    if (o.k.sources == 2) {
        CHECK_STR(o.k.source[0].path, "/a");
        CHECK_STR(o.k.source[1].path, "/b");
        CHECK_NUM(o.k.source[0].id.size, 5);
        CHECK_NUM(o.k.source[1].id.size, 7);
    }
    CHECK_TEXT(buf_span(&o.k.endpoint), "e2");
    CHECK_TEXT(buf_span(&o.k.bucket), "b2");
    CHECK_TEXT(buf_span(&o.k.key), "k2");
    CHECK_NUM(o.k.part_size, 9);
    CHECK_STR(o.k.checksum, "md5");
    CHECK_TEXT(buf_span(&o.k.upload), "u2");
    CHECK(!o.k.completing);
    CHECK_NUM(o.k.parts, 3);
    CHECK_NUM(jrn_count(&o.k), 1);
    CHECK(o.k.parts == 3 && !o.k.part[0].done && !o.k.part[1].done && o.k.part[2].done);
    CHECK_STR(jrn_etag(&o.k, 3), "new");
    CHECK_NUM(o.k.part[2].sum[0], 0xbb);
    CHECK_NUM(o.k.part[2].sum[1], 0);
    CASE("what a journal could not say again is not noted");
    CHECK(!jrn_note_part(&o.k, 0, SPAN("e"), sum));
    CHECK(!jrn_note_part(&o.k, PARTS_MAX + 1, SPAN("e"), sum));
    CHECK(!jrn_note_part(&o.k, 1, SPAN(""), sum));
    CHECK(!jrn_note_part(&o.k, 1, SPAN("a\0b"), sum));
    memset(etag, 'e', sizeof etag - 1);
    CHECK(!jrn_note_part(&o.k, 1, span_of(etag), sum));
    CHECK_NUM(jrn_count(&o.k), 1);
    CHECK(jrn_note_part(&o.k, 1, span_at(etag, JRN_UPLOAD), sum));
    CHECK_NUM(jrn_count(&o.k), 2);
    CASE("forgotten");
    jrn_forget(&o.k);
    CHECK(jrn_count(&o.k) == 0 && o.k.parts == 0 && !o.k.upload.n);
    CHECK_NUM(unlink(path), 0);
    close_it(&o);
}

/* No memory is no reason to have a journal removed. */
static void
test_starved(void)
{
    const char *path = in_folder("starved");
    struct opened o;

    CASE("no memory for what a journal says");
    file_make(path, golden_first(golden_at[G_LINES]));
    journal_starved = true;
    check_refused(path, S3UP_LATER, "memory");
    journal_starved = false;
    CHECK_SPAN(file_read(path), golden_first(golden_at[G_LINES]));
    CASE("no memory for a line");
    open_it(&o, path);
    write_line(&o.j, G_SIZE);
    o.j.line.bad = ENOMEM;
    CHECK(jrn_end(&o.j, &o.f) == -1 && o.f.code == S3UP_LATER);
    CHECK_SPAN(file_read(path), golden_first(golden_at[G_LINES]));
    o.f = (struct fail){S3UP_OK, ""};
    write_line(&o.j, G_SIZE);
    CHECK_NUM(jrn_end(&o.j, &o.f), 0);
    jrn_remove(&o.j);
    close_it(&o);
}

/* --- a full disk --- */

/* So many bytes a file may have; 0: as many as it likes. Nothing may be printed while
 * there is a limit. */
static void
disk_room(rlim_t n)
{
    static struct rlimit all;
    struct rlimit now;

    if (!all.rlim_max && getrlimit(RLIMIT_FSIZE, &all) != 0)
        abort();
    now = all;
    now.rlim_cur = n ? n : all.rlim_cur;
    if (setrlimit(RLIMIT_FSIZE, &now) != 0)
        abort();
}

static void
test_full(void)
{
    const char *path = in_folder("full");
    size_t next = golden_at[G_MTIME + 1] - golden_at[G_MTIME];

    (void)signal(SIGXFSZ, SIG_IGN);
    for (size_t room = 0; room < next; room++) {
        struct opened o;
        int rc;

        CASE("room for %lu bytes of a line", (unsigned long)room);
        open_it(&o, path);
        for (unsigned i = G_SOURCE; i < G_MTIME; i++) {
            write_line(&o.j, i);
            CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        }
        write_line(&o.j, G_MTIME);
        disk_room(golden_at[G_MTIME] + room);
        rc = jrn_end(&o.j, &o.f);
        disk_room(0);
        CHECK_NUM(rc, -1);
        CHECK_NUM(o.f.code, S3UP_LATER);
        CHECK_SPAN(file_read(path), golden_first(golden_at[G_MTIME]));
        o.f = (struct fail){S3UP_OK, ""};
        for (unsigned i = G_MTIME; i < G_CHECKSUM; i++) {
            write_line(&o.j, i);
            CHECK_NUM(jrn_end(&o.j, &o.f), 0);
        }
        CHECK_NUM(jrn_sync(&o.j, &o.f), 0);
        close_it(&o);
        open_it(&o, path);
        CHECK(o.rc == 1 && facts_are(&o.k, G_CHECKSUM));
        CHECK_SPAN(file_read(path), golden_first(golden_at[G_CHECKSUM]));
        jrn_remove(&o.j);
        close_it(&o);
    }
    CASE("no room for the first line");
    disk_room(5);
    {
        struct opened o;

        open_it(&o, path);
        disk_room(0);
        CHECK(o.rc == -1 && o.f.code == S3UP_LATER && o.j.fd < 0);
        close_it(&o);
        open_it(&o, path);
        CHECK_NUM(o.rc, 0);
        CHECK_SPAN(file_read(path), golden_first(golden_at[1]));
        jrn_remove(&o.j);
        close_it(&o);
    }
}

/* --- the state folder --- */

/* 0 and the folder's name, or -1 and a part of the reason. */
static void
check_folder(const char *given, const char *want, enum s3up_exit code)
{
    struct fail f = {S3UP_OK, ""};
    struct buf out = buf_upto(PATH_MAX);
    int rc = jrn_folder(given, &out, &f);

    CHECK_NUM(rc, code == S3UP_OK ? 0 : -1);
    CHECK_NUM(f.code, code);
    if (code == S3UP_OK) {
        CHECK_TEXT(buf_span(&out), want);
        CHECK_NUM(mode_of(want), 0700);
    } else if (!CHECK(strstr(f.text, want))) {
        printf("    got \"%s\", want \"%s\"\n", f.text, want);
    }
    buf_free(&out);
}

/* As somebody who is not root. */
static void
folder_home(void)
{
    char want[PATH_MAX];

    if (root && (setgid(65534) != 0 || setuid(65534) != 0)) {
        CHECK_STR(strerror(errno), "setuid");
        return;
    }
    CASE("HOME");
    (void)unsetenv("XDG_STATE_HOME");
    (void)setenv("HOME", in_folder("home"), 1);
    (void)snprintf(want, sizeof want, "%s/.local/state/s3up", in_folder("home"));
    check_folder(NULL, want, S3UP_OK);
    check_folder(NULL, want, S3UP_OK); /* it is there now */
    CHECK_NUM(mode_of(in_folder("home/.local")), 0700);
    (void)setenv("XDG_STATE_HOME", "relative", 1);
    check_folder(NULL, want, S3UP_OK);
    (void)setenv("XDG_STATE_HOME", "", 1);
    check_folder(NULL, want, S3UP_OK);
    CASE("a home that is none");
    (void)setenv("HOME", "relative", 1);
    check_folder(NULL, "--state-dir", S3UP_MISSING);
    (void)setenv("HOME", "", 1);
    check_folder(NULL, "--state-dir", S3UP_MISSING);
    (void)unsetenv("HOME");
    check_folder(NULL, "--state-dir", S3UP_MISSING);
    CASE("where we may not write");
    (void)setenv("HOME", in_folder("home/not"), 1);
    (void)mkdir(in_folder("home/not"), 0500);
    check_folder(NULL, "cannot make the state folder", S3UP_DENIED);
    if (root) {
        CASE("root's folder");
        check_folder(in_folder("given"), "belongs to another user", S3UP_DENIED);
    }
}

/* Root's own place, in a tree that has nothing else. */
static void
folder_root(void)
{
    if (chroot(in_folder("tree")) != 0 || chdir("/") != 0) {
        CHECK_STR(strerror(errno), "chroot");
        return;
    }
    CASE("root");
    (void)setenv("HOME", "/home", 1);
    (void)unsetenv("XDG_STATE_HOME");
    check_folder(NULL, "/var/lib/s3up", S3UP_OK);
    (void)setenv("XDG_STATE_HOME", "relative", 1);
    check_folder(NULL, "/var/lib/s3up", S3UP_OK);
    (void)setenv("XDG_STATE_HOME", "/xdg", 1);
    check_folder(NULL, "/xdg/s3up", S3UP_OK);
    check_folder("given", "given", S3UP_OK);
    CHECK(access("/home", F_OK) != 0);
}

/* --- all of a folder --- */

static void
count_journal(void *owner, const struct jrn_facts *k, bool busy, int64_t changed)
{
    (void)changed;
    *(unsigned *)owner += k->parts && !busy;
}

/* sweep spares the uploads that are told of: who could not look must not say that all were
 * seen. */
static void
test_each(void)
{
    char path[PATH_MAX], name[2 * SHA256_SIZE + 1];
    struct rlimit most, few;
    struct fail f = {S3UP_OK, ""};
    unsigned seen = 0;
    int fd;

    CASE("two journals, a damaged one, and a file that is none");
    CHECK_NUM(mkdir(in_folder("each"), 0700), 0);
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(name, sizeof name, "%064u", i);
        (void)snprintf(path, sizeof path, "%s/%s", in_folder("each"),
                       i < 3 ? name : "README");
        file_make(path, i == 2 ? SPAN("no journal\n") : golden_first(golden_at[G_LINES]));
    }
    CHECK_NUM(jrn_each(in_folder("each"), count_journal, &seen, &f), 0);
    CHECK_NUM(seen, 2);
    CASE("no descriptor is left to read one with");
    CHECK_NUM(getrlimit(RLIMIT_NOFILE, &most), 0);
    fd = open("/dev/null", O_RDONLY);
    few = most;
    few.rlim_cur = (rlim_t)fd + 1; /* that of the folder */
    (void)close(fd);
    CHECK_NUM(setrlimit(RLIMIT_NOFILE, &few), 0);
    seen = 0;
    CHECK_NUM(jrn_each(in_folder("each"), count_journal, &seen, &f), -1);
    CHECK_NUM(setrlimit(RLIMIT_NOFILE, &most), 0);
    CHECK_NUM(seen, 0);
    CHECK_NUM(f.code, S3UP_LATER);
    CHECK(strstr(f.text, "cannot open the journal") != NULL);
    CASE("no folder");
    f = (struct fail){S3UP_OK, ""};
    CHECK_NUM(jrn_each(in_folder("nowhere"), count_journal, &seen, &f), -1);
    CHECK_NUM(f.code, S3UP_MISSING);
}

static void
test_folder(void)
{
    char given[PATH_MAX], want[PATH_MAX], slashes[PATH_MAX + 3];

    (void)umask(0);
    CASE("given");
    (void)setenv("XDG_STATE_HOME", in_folder("xdg"), 1);
    (void)setenv("HOME", in_folder("home"), 1);
    (void)snprintf(given, sizeof given, "%s", in_folder("given"));
    check_folder(given, given, S3UP_OK);
    CHECK(access(in_folder("xdg"), F_OK) != 0);
    CASE("slashes at its end");
    (void)snprintf(slashes, sizeof slashes, "%s//", given);
    check_folder(slashes, given, S3UP_OK);
    CASE("XDG_STATE_HOME");
    (void)snprintf(want, sizeof want, "%s/s3up", in_folder("xdg"));
    check_folder(NULL, want, S3UP_OK);
    CHECK_NUM(mode_of(in_folder("xdg")), 0700);
    CASE("others may read");
    CHECK_NUM(chmod(given, 0755), 0);
    {
        struct fail f = {S3UP_OK, ""};
        struct buf out = buf_upto(PATH_MAX);

        CHECK_NUM(jrn_folder(given, &out, &f), 0);
        buf_free(&out);
    }
    CASE("the group may write");
    CHECK_NUM(chmod(given, 0770), 0);
    check_folder(given, "can be written by others", S3UP_DENIED);
    CASE("all may write");
    CHECK_NUM(chmod(given, 01777), 0);
    check_folder(given, "can be written by others", S3UP_DENIED);
    CHECK_NUM(chmod(given, 0700), 0);
    CASE("a symbolic link");
    CHECK_NUM(symlink(given, in_folder("link")), 0);
    check_folder(in_folder("link"), "is a symbolic link", S3UP_USAGE);
    check_folder(in_folder("link/"), "is a symbolic link", S3UP_USAGE);
    CASE("a file");
    file_make(in_folder("file"), SPAN("x"));
    check_folder(in_folder("file"), "is no folder", S3UP_USAGE);
    check_folder(in_folder("file/below"), "cannot make the state folder", S3UP_MISSING);
    CASE("a name that is too long");
    memset(slashes, 'x', sizeof slashes - 1);
    slashes[0] = '/';
    slashes[sizeof slashes - 1] = 0;
    check_folder(slashes, "too long", S3UP_USAGE);
    CASE("no name");
    check_folder("", "cannot make the state folder", S3UP_MISSING);
    if (root) {
        CASE("a stranger's");
        CHECK(mkdir(in_folder("theirs"), 0700) == 0 &&
              chown(in_folder("theirs"), 65534, 65534) == 0);
        check_folder(in_folder("theirs"), "belongs to another user", S3UP_DENIED);
        CHECK(mkdir(in_folder("home"), 0700) == 0 &&
              chown(in_folder("home"), 65534, 65534) == 0);
        CHECK(chmod(folder, 0711) == 0 && mkdir(in_folder("tree"), 0700) == 0);
        in_child(folder_root);
    }
    in_child(folder_home);
}

/* sha256(b''.join(x + b'\0' for x in (verb, source, endpoint, bucket, key))) */
static void
test_path(void)
{
    static const struct {
        struct jrn_what what;
        const char *path;
    } t[] = {
        {{"put", "/srv/backup.img", BYTES("https://s3.eu-west-1.amazonaws.com"),
          BYTES("bucket"), BYTES("a/key")},
         "/state/7ed5deaeb4c4552d4ac48954a53e83c3ea8f880d2b6f45d7db0fb61557eb0f5a"},
        {{"get", "/srv/backup.img", BYTES("https://s3.eu-west-1.amazonaws.com"),
          BYTES("bucket"), BYTES("a/key")},
         "/state/bbdc387968d27bfbea8ab3de36e96f9bb4abdfa0bf3175af9726c6ba93c3cb0f"},
        {{"put", "/a\nb", BYTES("http://127.0.0.1:9000/base"), BYTES("b"),
          BYTES("\xc3\xa9\n")},
         "/state/27abbd4a5ecd0e7cc5313d61d691966d1836212a1cf097eeb347578d79adf523"},
        {{"put", "/a", BYTES("b\nhttp://127.0.0.1:9000/base"), BYTES("b"),
          BYTES("\xc3\xa9\n")},
         "/state/aa526d1c3083456685b4153c960a82f0774d0396a8773cb0856632856610b3e1"},
        {{"put", "", BYTES(""), BYTES(""), BYTES("")},
         "/state/159668385c321bd70838b5702a4b4ca2b76664413d124a3f398be97e559b7ce4"},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        struct buf out = buf_upto(PATH_MAX);

        CASE("the journal's name, %lu", (unsigned long)i);
        jrn_put_path("/state", &t[i].what, &out);
        CHECK_TEXT(buf_span(&out), t[i].path);
        buf_free(&out);
    }
}

/* --- the ledger --- */

static char ledger_path[PATH_MAX], ledger_old[PATH_MAX];

static struct jrn_ledger
ledger_new(void)
{
    return (struct jrn_ledger){.folder = folder, .lines = buf_upto(JRN_MOST)};
}

static void
ledger_remove(void)
{
    (void)unlink(ledger_path);
    (void)unlink(ledger_old);
}

/* One line, on disk at once. */
static int
ledger_say(const char *line, struct fail *f)
{
    struct jrn_ledger g = ledger_new();
    int rc = jrn_ledger_add(&g, span_of(line), f);

    if (rc == 0)
        rc = jrn_ledger_flush(&g, f);
    buf_free(&g.lines);
    return rc;
}

static void
test_ledger(void)
{
    struct jrn_ledger g = ledger_new(), none = {.lines = buf_upto(JRN_MOST)};
    struct fail f = {S3UP_OK, ""};
    unsigned before = journal_synced;

    (void)umask(0);
    CASE("no ledger");
    CHECK_NUM(jrn_ledger_add(&none, SPAN("{}"), &f), 0);
    CHECK_NUM(jrn_ledger_flush(&none, &f), 0);
    CHECK(!none.n && !none.lines.n);
    CASE("nothing to say");
    CHECK_NUM(jrn_ledger_flush(&g, &f), 0);
    CHECK(access(ledger_path, F_OK) != 0);
    CASE("lines wait");
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"a\":1}"), &f), 0);
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"b\":2}"), &f), 0);
    CHECK(access(ledger_path, F_OK) != 0 && journal_synced == before);
    CHECK_NUM(jrn_ledger_flush(&g, &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\":2}\n");
    CHECK_NUM(mode_of(ledger_path), 0600);
    CHECK_NUM(journal_synced - before, 1);
    CASE("what was written is not written again");
    CHECK_NUM(jrn_ledger_flush(&g, &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\":2}\n");
    CASE("not for too long");
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"c\":3}"), &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\":2}\n");
    g.since -= JRN_WAIT;
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"d\":4}"), &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\":4}\n");
    CHECK_NUM(g.n, 0);
    ledger_remove();
    CASE("not too many");
    for (unsigned i = 1; i < JRN_GROUP; i++) {
        g.since = os_ticks(); /* a slow machine is no reason */
        CHECK_NUM(jrn_ledger_add(&g, SPAN("{}"), &f), 0);
    }
    CHECK(access(ledger_path, F_OK) != 0);
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{}"), &f), 0);
    CHECK_NUM(file_read(ledger_path).n, 3 * JRN_GROUP);
    ledger_remove();
    buf_free(&g.lines);
}

static void
test_ledger_torn(void)
{
    struct fail f = {S3UP_OK, ""};

    CASE("a line that a crash has torn");
    file_make(ledger_path, SPAN("{\"a\":1}\n{\"b"));
    CHECK_NUM(ledger_say("{\"c\":3}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\n{\"c\":3}\n");
    CHECK_NUM(ledger_say("{\"d\":4}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"b\n{\"c\":3}\n{\"d\":4}\n");
    ledger_remove();
    CASE("a full disk");
    CHECK_NUM(ledger_say("{\"a\":1}", &f), 0);
    disk_room(12);
    CHECK_NUM(ledger_say("{\"b\":2}", &f), -1);
    disk_room(0);
    CHECK_NUM(f.code, S3UP_LATER);
    f = (struct fail){S3UP_OK, ""};
    CHECK_NUM(ledger_say("{\"c\":3}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"a\":1}\n{\"c\":3}\n");
    CASE("the disk fails");
    journal_disk_error = EIO;
    CHECK_NUM(ledger_say("{\"d\":4}", &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    ledger_remove();
}

/* What could not be kept until it is written must not be told to be written. */
static void
test_ledger_starved(void)
{
    struct jrn_ledger g = {.folder = folder, .lines = buf_upto(20)};
    struct fail f = {S3UP_OK, ""};

    CASE("no memory for the lines");
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"a\":1}"), &f), 0);
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{\"too large\":2}"), &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    f = (struct fail){S3UP_OK, ""};
    CHECK_NUM(jrn_ledger_flush(&g, &f), -1);
    CHECK_NUM(f.code, S3UP_LATER);
    f = (struct fail){S3UP_OK, ""};
    CHECK(jrn_ledger_add(&g, SPAN("{}"), &f) == 0 && jrn_ledger_flush(&g, &f) == 0);
    CHECK_TEXT(file_read(ledger_path), "{}\n");
    ledger_remove();
    buf_free(&g.lines);
}

/* A ledger of that size, which costs no room on the disk. */
static void
ledger_grow(off_t size)
{
    int fd = open(ledger_path, O_WRONLY | O_CREAT, 0600);

    if (fd < 0 || pwrite(fd, "\n", 1, size - 1) != 1 || close(fd) != 0)
        abort();
}

static void
ledger_moved(void)
{
    CHECK_NUM(rename(ledger_path, ledger_old), 0);
}

static void
ledger_moved_and_made(void)
{
    ledger_moved();
    file_make(ledger_path, SPAN("{\"theirs\":1}\n"));
}

static void
test_ledger_rotation(void)
{
    struct fail f = {S3UP_OK, ""};
    struct stat info;

    (void)alarm(20); /* nothing here may turn for ever */
    CASE("almost too large");
    ledger_grow(JRN_LEDGER - 1);
    CHECK_NUM(ledger_say("{\"a\":1}", &f), 0);
    CHECK(stat(ledger_path, &info) == 0 && info.st_size == JRN_LEDGER + 7);
    CHECK(access(ledger_old, F_OK) != 0);
    CASE("too large");
    file_make(ledger_old, SPAN("{\"old\":1}\n"));
    CHECK_NUM(ledger_say("{\"b\":2}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"b\":2}\n");
    CHECK(stat(ledger_old, &info) == 0 && info.st_size == JRN_LEDGER + 7);
    CHECK_NUM(mode_of(ledger_path), 0600);
    ledger_remove();
    CASE("too large, and cannot be moved");
    ledger_grow(JRN_LEDGER);
    CHECK_NUM(mkdir(ledger_old, 0700), 0);
    CHECK_NUM(ledger_say("{\"c\":3}", &f), 0);
    CHECK(stat(ledger_path, &info) == 0 && info.st_size == JRN_LEDGER + 8);
    CHECK_NUM(rmdir(ledger_old), 0);
    ledger_remove();
    CASE("moved by another between open and lock");
    file_make(ledger_path, SPAN("{\"d\":4}\n"));
    journal_before_flock = ledger_moved;
    CHECK_NUM(ledger_say("{\"e\":5}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"e\":5}\n");
    CHECK_TEXT(file_read(ledger_old), "{\"d\":4}\n");
    journal_before_flock = ledger_moved_and_made;
    CHECK_NUM(ledger_say("{\"f\":6}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"theirs\":1}\n{\"f\":6}\n");
    CHECK_TEXT(file_read(ledger_old), "{\"e\":5}\n");
    CASE("a signal while it waits for the lock");
    journal_flock_error = EINTR;
    CHECK_NUM(ledger_say("{\"g\":7}", &f), 0);
    CHECK_TEXT(file_read(ledger_path), "{\"theirs\":1}\n{\"f\":6}\n{\"g\":7}\n");
    CASE("a stop while it waits for the lock");
    os_stop = SIGTERM;
    journal_flock_error = EINTR;
    CHECK(ledger_say("{\"h\":8}", &f) == -1 && f.code == S3UP_INTERRUPTED);
    os_stop = 0;
    CHECK_TEXT(file_read(ledger_path), "{\"theirs\":1}\n{\"f\":6}\n{\"g\":7}\n");
    ledger_remove();
    (void)alarm(0);
}

static void
test_ledger_refused(void)
{
    struct fail f = {S3UP_OK, ""};
    struct jrn_ledger g = {.folder = in_folder("nowhere"), .lines = buf_upto(JRN_MOST)};

    CASE("a symbolic link");
    file_make(in_folder("elsewhere"), SPAN("x\n"));
    CHECK_NUM(symlink(in_folder("elsewhere"), ledger_path), 0);
    CHECK_NUM(ledger_say("{}", &f), -1);
    CHECK_NUM(f.code, S3UP_USAGE);
    CHECK_TEXT(file_read(in_folder("elsewhere")), "x\n");
    ledger_remove();
    CASE("a FIFO");
    f = (struct fail){S3UP_OK, ""};
    CHECK_NUM(mkfifo(ledger_path, 0600), 0);
    CHECK_NUM(ledger_say("{}", &f), -1);
    ledger_remove();
    CASE("no folder");
    f = (struct fail){S3UP_OK, ""};
    CHECK_NUM(jrn_ledger_add(&g, SPAN("{}"), &f), 0);
    CHECK_NUM(jrn_ledger_flush(&g, &f), -1);
    CHECK_NUM(f.code, S3UP_MISSING);
    buf_free(&g.lines);
}

/* So many lines of each process, one at a time; the ledger is moved away in between. */
enum { CROWD = 3, CROWD_LINES = 25 };

static void
crowd_one(unsigned who)
{
    struct fail f = {S3UP_OK, ""};
    char line[80];

    for (unsigned i = 0; i < CROWD_LINES; i++) {
        (void)snprintf(line, sizeof line, "{\"who\":%u,\"line\":%02u}", who, i);
        if (ledger_say(line, &f) != 0) {
            printf("    %s\n", f.text);
            (void)fflush(stdout);
            _exit(1);
        }
    }
    _exit(0);
}

/* Counts lines; each process's must be there in its order. */
static unsigned
crowd_count(const char *path, off_t from, unsigned next[CROWD])
{
    char text[CROWD * CROWD_LINES * 30], *line = text, *end;
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : pread(fd, text, sizeof text - 1, from);
    unsigned count = 0;

    if (fd >= 0)
        (void)close(fd);
    text[n < 0 ? 0 : n] = 0;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        unsigned who = CROWD, i = 0;
        int used = 0;

        *end = 0;
        (void)sscanf(line, "{\"who\":%u,\"line\":%u}%n", &who, &i, &used);
        if (CHECK(who < CROWD && used == end - line))
            CHECK_NUM(i, next[who]++);
        count++;
    }
    CHECK(!*line);
    return count;
}

static void
test_ledger_crowd(void)
{
    unsigned next[CROWD] = {0}, old, new;
    int status;

    CASE("many at once");
    ledger_grow(JRN_LEDGER - 30 * 20); /* room for thirty lines */
    (void)fflush(stdout);
    for (unsigned who = 0; who < CROWD; who++)
        if (fork() == 0)
            crowd_one(who);
    for (unsigned who = 0; who < CROWD; who++)
        CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    old = crowd_count(ledger_old, JRN_LEDGER - 30 * 20, next);
    new = crowd_count(ledger_path, 0, next);
    CHECK_NUM(old, 30);
    CHECK_NUM(new, CROWD * CROWD_LINES - 30);
    ledger_remove();
}

static void
folder_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        char name[2 * PATH_MAX];

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            folder_remove(name);
    }
    if (dir)
        (void)closedir(dir);
    (void)rmdir(path);
}

int
main(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, sizeof folder, "%.150s/s3up-journal-XXXXXX",
                   base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        printf("%s: %s\n", folder, strerror(errno));
        return 2;
    }
    (void)snprintf(ledger_path, sizeof ledger_path, "%s", in_folder("ledger.jsonl"));
    (void)snprintf(ledger_old, sizeof ledger_old, "%s", in_folder("ledger.jsonl.1"));
    root = geteuid() == 0;
    if (!root)
        puts("SKIPPED journal: what belongs to others, which only root can make");
    log_most = LOG_ERROR;
    golden_init();

    test_plain_crc32();
    test_writer();
    test_sync_fails();
    test_values();
    test_cut();
    test_changed();
    test_not_journals();
    test_no_file();
    test_locked();
    test_race();
    test_nonsense();
    test_ranges();
    test_objects();
    test_another_object();
    test_download_torn();
    test_long();
    test_again();
    test_starved();
    test_full();

    test_each();
    test_folder();
    test_path();

    test_ledger();
    test_ledger_torn();
    test_ledger_starved();
    test_ledger_rotation();
    test_ledger_refused();
    test_ledger_crowd();

    folder_remove(folder);
    return check_end();
}
