/*
 * hostile.c: what s3up does when the system fails. The calls that it makes are replaced by
 * ones that fail on cue: the first time the first call, then the second, until a run got
 * through without meeting the fault; with every errno of a list, once or from then on, and
 * with reads and writes that move a single byte. After each run:
 *
 *   - a success was one: the bytes are there, whole, and were synced before it was told;
 *   - a failure has a code and a reason, and left the old contents or the new, never a mix;
 *   - no descriptor is open, no memory is left, and what was given back had been wiped.
 *
 *   cc -std=c99 -Wall -Wextra -Wshadow -Wconversion -Wno-unused-function -Werror -g \
 *       -D_FILE_OFFSET_BITS=64 -DBUF_FIRST=1 -fsanitize=address,undefined \
 *       -fno-sanitize-recover -o hostile test/hostile.c
 *
 * Nothing may appear on standard error.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ===== faults ===== */

/* What fails, and how. */
static struct {
    unsigned long at; /* the number of the call that fails, from 1; 0: none */
    int error;        /* its errno; 0: a write that moves nothing, -1: a read that does */
    bool stays;       /* all calls behind it fail too */
    size_t piece;    /* most bytes that one read, write or getrandom moves; 0: no limit */
    bool old_kernel; /* that has no getrandom */
    bool foreseen;   /* what is random is zero */
} hostile_fault;

/* What happened in this run. */
static struct {
    unsigned long calls;
    bool hit;        /* the fault was met */
    bool memory;     /* by malloc */
    int writing;     /* the last descriptor opened to write, and */
    bool lost;       /* whether it could not be closed */
    int fds;         /* open descriptors */
    unsigned blocks; /* of memory, not given back */
    bool unwiped;    /* one was given back with something in it */
    char did[64];    /* calls that went well: write, fsync, reName, unlink, as w f n u */
} hostile_seen;

enum { HOSTILE_BLOCKS = 64 }; /* s3up holds a handful at a time */

static struct {
    void *p;
    size_t n;
} hostile_blocks[HOSTILE_BLOCKS];

static bool
hostile_fails(char call)
{
    hostile_seen.calls++;
    if ((!hostile_fault.error && call != 'w') || (hostile_fault.error < 0 && call != 'r'))
        return false;
    if (!hostile_fault.at ||
        (hostile_fault.stays ? hostile_seen.calls < hostile_fault.at
                             : hostile_seen.calls != hostile_fault.at))
        return false;
    hostile_seen.hit = true;
    errno = hostile_fault.error;
    return true;
}

static void
hostile_did(char what)
{
    size_t n = strlen(hostile_seen.did);

    if (n + 1 < sizeof hostile_seen.did &&
        (!n || hostile_seen.did[n - 1] != what || what != 'w'))
        hostile_seen.did[n] = what;
}

static size_t
hostile_piece(size_t n)
{
    return hostile_fault.piece && n > hostile_fault.piece ? hostile_fault.piece : n;
}

static void *
hostile_malloc(size_t n)
{
    size_t i = 0;
    void *p;

    if (hostile_fails('m')) {
        hostile_seen.memory = true;
        errno = ENOMEM;
        return NULL;
    }
    while (i < HOSTILE_BLOCKS && hostile_blocks[i].p)
        i++;
    p = i < HOSTILE_BLOCKS ? malloc(n) : NULL;
    if (!p)
        abort();
    memset(p, 0xa5, n); /* nobody may count on zeros */
    hostile_blocks[i].p = p;
    hostile_blocks[i].n = n;
    hostile_seen.blocks++;
    return p;
}

static void
hostile_free(void *p)
{
    const unsigned char *bytes = p;

    if (!p)
        return;
    for (size_t i = 0; i < HOSTILE_BLOCKS; i++)
        if (hostile_blocks[i].p == p) {
            for (size_t n = 0; n < hostile_blocks[i].n; n++)
                hostile_seen.unwiped |= bytes[n] != 0;
            hostile_blocks[i].p = NULL;
            hostile_seen.blocks--;
            free(p);
            return;
        }
    abort(); /* it was not ours */
}

/* What must not stay behind in memory, and how often it was there when memory was wiped. */
static struct {
    const char *what;
    const void *p;
    size_t n;
    unsigned wiped;
} hostile_secrets[8];

static void
hostile_wipe(void *p, size_t n)
{
    for (size_t i = 0; i < 8 && hostile_secrets[i].p; i++)
        hostile_secrets[i].wiped +=
            memmem(p, n, hostile_secrets[i].p, hostile_secrets[i].n) != NULL;
    explicit_bzero(p, n);
}

static int
hostile_openat(int folder, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    int fd;

    va_start(args, flags);
    mode = (mode_t)va_arg(args, unsigned);
    va_end(args);
    if (hostile_fails('o'))
        return -1;
    fd = openat(folder, path, flags, mode);
    hostile_seen.fds += fd >= 0;
    hostile_seen.writing = flags & O_WRONLY ? fd : hostile_seen.writing;
    return fd;
}

/* A descriptor is gone after close, whatever close says: so Linux does it. */
static int
hostile_close(int fd)
{
    bool bad = hostile_fails('c');
    int error = errno, rc = close(fd);

    hostile_seen.fds--;
    hostile_seen.lost |= bad && fd == hostile_seen.writing;
    if (fd == hostile_seen.writing)
        hostile_seen.writing = -1; /* the number may come back as another file */
    errno = bad ? error : errno;
    return bad ? -1 : rc;
}

static ssize_t
hostile_read(int fd, void *p, size_t n)
{
    if (hostile_fails('r'))
        return hostile_fault.error < 0 ? 0 : -1;
    return read(fd, p, hostile_piece(n));
}

static ssize_t
hostile_pread(int fd, void *p, size_t n, off_t at)
{
    if (hostile_fails('r'))
        return hostile_fault.error < 0 ? 0 : -1;
    return pread(fd, p, hostile_piece(n), at);
}

static ssize_t
hostile_write(int fd, const void *p, size_t n)
{
    if (hostile_fails('w')) {
        errno =
            hostile_fault.error ? hostile_fault.error : EINTR; /* of some call before */
        return hostile_fault.error ? -1 : 0;
    }
    hostile_did('w');
    return write(fd, p, hostile_piece(n));
}

static int
hostile_fsync(int fd)
{
    if (hostile_fails('f'))
        return -1;
    hostile_did('f');
    return fsync(fd);
}

static int
hostile_rename(const char *from, const char *to)
{
    if (hostile_fails('n'))
        return -1;
    hostile_did('n');
    return rename(from, to);
}

static int
hostile_unlink(const char *path)
{
    if (hostile_fails('u'))
        return -1;
    hostile_did('u');
    return unlink(path);
}

static ssize_t
hostile_getrandom(void *p, size_t n, unsigned flags)
{
    if (hostile_fault.old_kernel) {
        errno = ENOSYS;
        return -1;
    }
    if (hostile_fails('g'))
        return -1;
    n = hostile_piece(n);
    if (!hostile_fault.foreseen)
        return getrandom(p, n, flags);
    memset(p, 0, n);
    return (ssize_t)n;
}

static int
hostile_clock_gettime(clockid_t clock, struct timespec *t)
{
    return hostile_fails('t') ? -1 : clock_gettime(clock, t);
}

static int
hostile_poll(struct pollfd *p, nfds_t n, int milliseconds)
{
    return hostile_fails('p') ? -1 : poll(p, n, milliseconds);
}

#define malloc         hostile_malloc
#define free           hostile_free
#define openat         hostile_openat
#define explicit_bzero hostile_wipe
#define close          hostile_close
#define read           hostile_read
#define pread          hostile_pread
#define write          hostile_write
#define fsync          hostile_fsync
#define rename         hostile_rename
#define unlink         hostile_unlink
#define getrandom      hostile_getrandom
#define clock_gettime  hostile_clock_gettime
#define poll           hostile_poll
#define main           s3up_main
#include "../s3up.c"
#undef main
#undef malloc
#undef free
#undef openat
#undef explicit_bzero
#undef close
#undef read
#undef pread
#undef write
#undef fsync
#undef rename
#undef unlink
#undef getrandom
#undef clock_gettime
#undef poll

#include "check.h"

/* ===== the files ===== */

enum { LONGEST = 5000 };

static char folder[200], path[300];
static char old_text[LONGEST + 1], new_text[LONGEST + 1];
static size_t length; /* of both texts in this round */

static void
file_set(const char *text)
{
    FILE *f = fopen(path, "wb");

    if (!f || fwrite(text, 1, length, f) != length || fclose(f) != 0)
        abort();
}

/* '-': no such file; or which of the two texts it is, 'o' or 'n'; '?': something else. */
static char
file_which(void)
{
    static char text[LONGEST + 2];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;

    if (!f)
        return '-';
    (void)fclose(f);
    if (n == length && !memcmp(text, old_text, n))
        return 'o';
    return n == length && !memcmp(text, new_text, n) ? 'n' : '?';
}

/* Files in the folder, without the one that is meant; they are removed. */
static unsigned
folder_strays(void)
{
    DIR *dir = opendir(folder);
    struct dirent *e;
    unsigned n = 0;

    while (dir && (e = readdir(dir))) {
        char name[600];

        if (e->d_name[0] == '.' || !strcmp(e->d_name, "file"))
            continue;
        n++;
        (void)snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        (void)unlink(name);
    }
    if (dir)
        (void)closedir(dir);
    return n;
}

/* A fault that is not a mere delay: s3up must notice it or make up for it. */
static bool
fault_is_real(void)
{
    return hostile_seen.hit && (hostile_fault.error != EINTR || hostile_seen.memory);
}

/* What every failure must say. */
static void
check_fail(const struct fail *f)
{
    CHECK(f->code != S3UP_OK && f->text[0]);
    CHECK(f->code <= S3UP_DAMAGED ||
          (f->code == S3UP_INTERRUPTED && hostile_fault.error == EINTR));
    CHECK(strlen(f->text) < sizeof f->text);
    CHECK(hostile_seen.hit);
}

/* ===== the runs: each does one thing and judges it ===== */

static void
judge_replace(int rc, const struct fail *f, char before)
{
    char after = file_which();

    if (rc == 0) {
        CHECK(after == 'n' && f->code == S3UP_OK && !hostile_seen.lost);
        /* Synced, moved, and the folder synced, in this order; some cannot sync folders. */
        CHECK(!strcmp(hostile_seen.did, "wfnf") ||
              (hostile_fault.error == EINVAL && !strcmp(hostile_seen.did, "wfn")));
    } else {
        int error = hostile_seen.memory   ? ENOMEM
                    : hostile_fault.error ? hostile_fault.error
                                          : ENOSPC;

        CHECK_NUM(rc, -1);
        check_fail(f);
        CHECK(hostile_fault.stays || strstr(f->text, strerror(error)));
        CHECK(after == 'n' || after == before);
        CHECK(after != 'n' || strchr(hostile_seen.did, 'n'));
        CHECK(fault_is_real() ||
              hostile_seen.did[0] == 'w'); /* an interrupted sync may fail */
    }
    if (!hostile_fault.stays)
        CHECK_NUM(folder_strays(), 0);
    else
        (void)folder_strays();
}

static void
run_replace(void)
{
    struct fail f = {0};
    int rc;

    file_set(old_text);
    rc = os_replace(path, span_at(new_text, length), 0600, &f);
    judge_replace(rc, &f, 'o');
}

static void
run_create(void)
{
    struct fail f = {0};
    int rc;

    (void)unlink(path);
    rc = os_replace(path, span_at(new_text, length), 0600, &f);
    judge_replace(rc, &f, '-');
    file_set(old_text);
}

/* Somebody guessed the name of the new file, and put a file of his own or a link there. */
static void
run_foreseen(void)
{
    char guess[400], victim[400], text[8] = "";
    FILE *v;

    (void)snprintf(guess, sizeof guess, "%s.0000000000000000", path);
    (void)snprintf(victim, sizeof victim, "%s/victim", folder);
    for (unsigned linked = 0; linked < 2; linked++) {
        struct fail f = {0};
        int rc;

        v = fopen(linked ? victim : guess, "wb");
        if (!v || fputs("mine", v) < 0 || fclose(v) != 0 ||
            (linked && symlink(victim, guess) != 0))
            abort();
        file_set(old_text);
        hostile_fault.foreseen = true;
        rc = os_replace(path, span_at(new_text, length), 0600, &f);
        hostile_fault.foreseen = false;
        if (rc ==
            0) /* the device's bytes are random still, and so another name was made */
            CHECK(hostile_seen.hit && file_which() == 'n' && f.code == S3UP_OK);
        else
            CHECK(file_which() == 'o' && (f.code == S3UP_EXISTS || hostile_seen.hit));
        CHECK(rc == (f.code == S3UP_OK ? 0 : -1));
        v = fopen(guess, "rb");
        CHECK(v && fread(text, 1, 4, v) == 4 && !memcmp(text, "mine", 4));
        if (v)
            (void)fclose(v);
        (void)unlink(guess);
        (void)unlink(victim);
    }
    (void)folder_strays();
    file_set(old_text);
}

static void
run_slurp(void)
{
    struct buf got = buf_upto(2 * LONGEST);
    struct fail f = {0};

    if (os_slurp(path, &got, &f) == 0)
        CHECK_SPAN(buf_span(&got), span_at(old_text, length));
    else
        check_fail(&f);
    CHECK(f.code == S3UP_OK || fault_is_real());
    buf_free(&got);
}

static void
run_slurp_too_much(void)
{
    struct buf got = buf_upto(length - 1);
    struct fail f = {0};

    CHECK_NUM(os_slurp(path, &got, &f), -1);
    CHECK(f.code != S3UP_OK && f.text[0]);
    buf_free(&got);
}

static void
run_random(void)
{
    unsigned char bytes[66];
    unsigned untouched = 0;

    memset(bytes, 0xa5, sizeof bytes);
    if (!os_random(bytes, 64)) {
        CHECK(fault_is_real());
        /* One fault alone is made up for by the device. */
        CHECK(hostile_fault.stays || hostile_fault.old_kernel);
    } else {
        for (unsigned i = 0; i < 64; i++)
            untouched += bytes[i] == 0xa5;
        CHECK(untouched < 8); /* by chance: one in 256 */
    }
    CHECK(bytes[64] == 0xa5 && bytes[65] == 0xa5);
}

static void
run_random_old(void)
{
    hostile_fault.old_kernel = true;
    run_random();
    hostile_fault.old_kernel = false;
}

static void
run_read(void)
{
    static char got[LONGEST];
    int fd = os_open(path, O_RDONLY, 0);

    if (fd < 0) {
        CHECK(fault_is_real() && errno == hostile_fault.error);
        return;
    }
    for (int64_t at = -1; at <= 7; at += 4) {
        size_t from = at < 0 ? 0 : (size_t)at;
        ssize_t n = os_read(fd, got, sizeof got, at);

        if (n < 0)
            CHECK(n == -1 && fault_is_real());
        else
            CHECK_SPAN(span_at(got, (size_t)n), span_at(old_text + from, length - from));
    }
    (void)hostile_close(fd);
}

static void
run_write(void)
{
    int fd = os_open(path, O_WRONLY | O_TRUNC, 0);

    if (fd >= 0) {
        bool good = os_write(fd, new_text, length);

        CHECK(good ? file_which() == 'n' : fault_is_real());
        CHECK(good || errno == (hostile_fault.error ? hostile_fault.error : ENOSPC));
        (void)hostile_close(fd);
    }
    file_set(old_text);
}

static void
run_sync_folder(void)
{
    bool good = os_sync_folder(path);

    CHECK(good == !strcmp(hostile_seen.did, "f") ||
          (good && hostile_fault.error == EINVAL));
    CHECK(good || hostile_seen.hit);
}

/* Whatever a message meets, it is one line or the beginning of it: its own, or the one that is said
 * where memory for it is lacking. */
static void
run_log(void)
{
    static const char line[] = "s3up: warning: a\\x0ab of 7\n";
    static const char poor[] = "s3up: error: there is no memory, not even to say more\n";
    char got[100];
    bool is_line, is_poor;
    int saved = dup(2), to = open(path, O_RDWR | O_TRUNC), back;
    ssize_t n;

    if (saved < 0 || to < 0 || dup2(to, 2) < 0)
        abort();
    log_say(LOG_WARN, "%s of %d", "a\nb", 7);
    back = dup2(saved, 2);
    n = pread(to, got, sizeof got, 0);
    CHECK(back == 2 && n >= 0);
    is_line = n >= 0 && (size_t)n < sizeof line && !memcmp(got, line, (size_t)n);
    is_poor = n >= 0 && (size_t)n < sizeof poor && !memcmp(got, poor, (size_t)n);
    CHECK(is_line || (is_poor && fault_is_real()));
    CHECK((size_t)n == sizeof line - 1 || fault_is_real());
    (void)close(to);
    (void)close(saved);
    file_set(old_text);
}

static void
run_clock(void)
{
    int64_t now = os_now().s;

    CHECK(now == 0 ? hostile_seen.hit : now > 1700000000);
    now = os_ticks();
    CHECK(now > 0 || hostile_seen.hit);
    os_stop = 0;
    if (!hostile_fault
             .stays) /* a clock that never works stands still, and so it sleeps on */
        os_sleep(1);
}

/* ===== memory: what did not fit is bad, and what is good is what it always is ===== */

static struct request request;

static const struct signer signer_full = {.id = {"AKIDEXAMPLE", 11},
                                          .secret = {"wJalrXUtnFEMI/K7MDENG", 21},
                                          .token = {"to/ken+=", 8},
                                          .region = {"us-east-1", 9},
                                          .service = {"s3", 2},
                                          .now = 1440938160};

#define ODD SPAN("a&<>\"'\r\n\\\t/\x01\x7f\xc3\xa9\xff z")

static bool
work_hex(struct buf *out)
{
    hex_put(out, "\x01\xfe", 2);
    buf_num(out, UINT64_C(18446744073709551615));
    return !out->bad;
}

static bool
work_b64(struct buf *out)
{
    b64_put(out, "0123456789", 10);
    return b64_read(SPAN("Zm9vYmE="), out);
}

static bool
work_url(struct buf *out)
{
    url_put(out, ODD, "/");
    return url_read(SPAN("a%20b+c"), true, out);
}

static bool
work_utf8(struct buf *out)
{
    return utf8_put(out, 'a') && utf8_put(out, 0xe9) && utf8_put(out, 0x20ac) &&
           utf8_put(out, 0x1f600) && !out->bad;
}

static bool
work_xml(struct buf *out)
{
    xml_put(out, ODD);
    return xml_text(SPAN("a&amp;b<![CDATA[c]]>&#233;&#x1;"), out);
}

static bool
work_json(struct buf *out)
{
    buf_char(out, '{');
    json_key(out, "a");
    json_put(out, ODD);
    json_key(out, "b");
    return json_text(SPAN("a\\n\\u00e9\\ud83d\\ude00\\udcff"), out);
}

/* The request as it would be sent, into out; what is bad is never sent. */
static bool
show_request(bool good, struct buf *out)
{
    static char text[4000];
    size_t n = 0;

    CHECK(good == !request.bad);
    for (unsigned q = 0; q < 2; q++)
        for (unsigned i = 0; i < (q ? request.query.n : request.head.n); i++) {
            const struct field *f = q ? &request.query.at[i] : &request.head.at[i];

            n += (size_t)snprintf(text + n, sizeof text - n, "%.*s=%.*s\n",
                                  (int)f->name.n, f->name.p, (int)f->value.n, f->value.p);
        }
    hostile_fault.at = 0; /* only the signing is put to the test */
    buf_add(out, text, n);
    return good;
}

static void
begin_request(void)
{
    http_begin(&request, "PUT", SPAN("h"), SPAN("/a/./b%20c"));
    http_header(&request, "x-amz-meta-a", SPAN("  b  c"));
    http_query(&request, "part Number", SPAN("1/2"));
}

static bool
work_sign_s3(struct buf *out)
{
    struct signer who = signer_full;

    who.s3 = true;
    begin_request();
    return show_request(sig_headers(&request, &who, SIG_UNSIGNED), out);
}

static bool
work_sign_other(struct buf *out)
{
    begin_request();
    return show_request(sig_headers(&request, &signer_full, SIG_UNSIGNED), out);
}

static bool
work_sign_url(struct buf *out)
{
    begin_request();
    return show_request(sig_url(&request, &signer_full, 60, SIG_UNSIGNED), out);
}

static bool
work_sign_policy(struct buf *out)
{
    char hex[SIG_HEX];
    bool good = sig_policy(&signer_full, SPAN("{\"a\": 1}"), out, hex);

    hostile_fault.at = 0;
    if (good)
        buf_str(out, hex);
    return good;
}

/* ===== the rounds ===== */

static void
begin_run(unsigned long at)
{
    memset(&hostile_seen, 0, sizeof hostile_seen);
    hostile_fault.at = at;
}

/* What must hold after every run, whatever was run. */
static void
end_run(void)
{
    CHECK_NUM(hostile_seen.fds, 0);
    CHECK_NUM(hostile_seen.blocks, 0);
    CHECK(!hostile_seen.unwiped);
}

static void
hostile_memory(void)
{
    static const struct {
        const char *name;
        bool (*work)(struct buf *out);
    } t[] = {{"hex", work_hex},
             {"base64", work_b64},
             {"url", work_url},
             {"utf8", work_utf8},
             {"xml", work_xml},
             {"json", work_json},
             {"sig_headers of S3", work_sign_s3},
             {"sig_headers of others", work_sign_other},
             {"sig_url", work_sign_url},
             {"sig_policy", work_sign_policy}};

    for (size_t i = 0; i < COUNT(t); i++) {
        static char want[8000];
        bool more = true;
        unsigned long at = 0;
        size_t n = 0;

        for (; more; at++) {
            struct buf out = buf_upto(sizeof want);
            bool good;

            CASE("%s, memory number %lu", t[i].name, at);
            begin_run(at);
            good = t[i].work(&out);
            CHECK(good || hostile_seen.hit);
            CHECK(!good || !out.bad);
            CHECK(!out.bad || buf_span(&out).n == 0);
            if (!at) {
                n = buf_span(&out).n;
                CHECK(good && n > 0);
                memcpy(want, out.p, n);
            } else if (good) {
                CHECK_SPAN(buf_span(&out), span_at(want, n));
            }
            buf_free(&out);
            end_run();
            more = !at || hostile_seen.hit;
        }
        CASE("%s allocates", t[i].name);
        CHECK(at > 2);
    }
}

/* Keys pass through memory that others will use: each place is wiped behind them. The
 * signing key is the one of AWS's documentation, for 20150830, us-east-1 and iam. */
static void
hostile_leftovers(void)
{
    static const char secret[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    struct signer who = {.id = SPAN("AKIDEXAMPLE"),
                         .secret = span_of(secret),
                         .region = SPAN("us-east-1"),
                         .service = SPAN("iam"),
                         .now = 1440938160};
    struct buf text = buf_upto(LONGEST);
    unsigned char key[SHA256_SIZE], pad[SHA256_SIZE];
    struct fail f = {0};

    begin_run(0);
    CHECK(
        hex_read(SPAN("c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"),
                 key, sizeof key));
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] = key[i] ^ 0x5c;
    file_set(old_text);
    hostile_secrets[0].what = "the secret";
    hostile_secrets[0].p = secret;
    hostile_secrets[0].n = sizeof secret - 1;
    hostile_secrets[1].what = "the signing key";
    hostile_secrets[1].p = key;
    hostile_secrets[1].n = sizeof key;
    hostile_secrets[2].what = "the key in HMAC";
    hostile_secrets[2].p = pad;
    hostile_secrets[2].n = sizeof pad;
    begin_request();
    CHECK(sig_headers(&request, &who, SIG_UNSIGNED));
    for (size_t i = 0; i < 3; i++) {
        CASE("%s is wiped", hostile_secrets[i].what);
        CHECK(hostile_secrets[i].wiped > 0);
    }
    CASE("a credentials file is wiped");
    hostile_secrets[0].p = old_text;
    hostile_secrets[0].n = length;
    hostile_secrets[0].wiped = 0;
    CHECK_NUM(os_slurp(path, &text, &f), 0);
    CHECK(hostile_secrets[0].wiped > 0);
    memset(hostile_secrets, 0, sizeof hostile_secrets);
    buf_free(&text);
    end_run();
}

/* The command line must give its verdict even if it cannot say why. */
static void
hostile_main(void)
{
    static char *const words[] = {"s3up", "nonsense", NULL};
    int null = open("/dev/null", O_WRONLY), saved = dup(2);
    bool more = true;

    for (unsigned long at = 0; more; at++) {
        char *argv[] = {words[0], words[1], NULL};
        int code;

        CASE("s3up nonsense, call %lu", at);
        begin_run(at);
        (void)dup2(null, 2);
        code = s3up_main(2, argv);
        (void)dup2(saved, 2);
        CHECK_NUM(code, S3UP_USAGE);
        end_run();
        more = hostile_seen.calls >= at;
    }
    (void)close(null);
    (void)close(saved);
}

static const struct {
    const char *name;
    void (*run)(void);
} runs[] = {{"os_replace", run_replace},
            {"os_replace of a new file", run_create},
            {"os_replace by a foreseen name", run_foreseen},
            {"os_slurp", run_slurp},
            {"os_slurp of too much", run_slurp_too_much},
            {"os_random", run_random},
            {"os_random without getrandom", run_random_old},
            {"os_read", run_read},
            {"os_write", run_write},
            {"os_sync_folder", run_sync_folder},
            {"log_say", run_log},
            {"the clock", run_clock}};

static const struct {
    int error;
    const char *name;
} errors[] = {{0, "nothing written"}, {-1, "nothing read"}, {EINTR, "EINTR"},
              {EIO, "EIO"},           {ENOSPC, "ENOSPC"},   {EMFILE, "EMFILE"},
              {ENOMEM, "ENOMEM"},     {ENOSYS, "ENOSYS"},   {EACCES, "EACCES"},
              {EINVAL, "EINVAL"},     {EDQUOT, "EDQUOT"},   {ENOENT, "ENOENT"}};

/* One run, until a round meets no fault. Interrupts that never end are no failure but a
 * waste of time: nothing can be done, and nothing is tested. */
static void
hostile_run(size_t i, size_t e, bool stays)
{
    bool more = true;

    hostile_fault.error = errors[e].error;
    hostile_fault.stays = stays;
    if (stays && hostile_fault.error == EINTR)
        return;
    if (hostile_fault.error < 0 && runs[i].run != run_random_old)
        return; /* elsewhere it is the end of the file */
    for (unsigned long at = 0; more; at++) {
        CASE("%s, call %lu: %s%s, %lu at a time", runs[i].name, at, errors[e].name,
             stays ? " for ever" : "", (unsigned long)hostile_fault.piece);
        begin_run(at);
        runs[i].run();
        end_run();
        more = hostile_seen.calls >= at;
    }
}

int
main(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, sizeof folder, "%.150s/s3up-hostile-XXXXXX",
                   base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    (void)snprintf(path, sizeof path, "%s/file", folder);
    memset(old_text, 'o', sizeof old_text);
    memset(new_text, 'n', sizeof new_text);
    for (unsigned piece = 0; piece < 2; piece++) {
        length = piece ? 20 : LONGEST;
        hostile_fault.piece = piece;
        file_set(old_text);
        for (size_t i = 0; i < COUNT(runs); i++)
            for (size_t e = 0; e < 2 * COUNT(errors); e++)
                hostile_run(i, e / 2, e % 2);
    }
    hostile_fault.piece = 0;
    hostile_fault.error = ENOMEM;
    hostile_fault.stays = false;
    hostile_memory();
    hostile_leftovers();
    hostile_main();
    CASE("the folder is empty at the end");
    CHECK_NUM(unlink(path), 0);
    CHECK_NUM(rmdir(folder), 0);
    return check_end();
}
