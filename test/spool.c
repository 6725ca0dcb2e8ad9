/*
 * spool.c: what the tests of `drain` need and sh cannot do: somebody who never stops working
 * in a folder and keeps a book of it, who compares that book with what was stored, files that
 * are held open, and a clock that is wrong.
 *
 *   spool write SEED DIR BOOK PART
 *     makes, grows, edits, renames, replaces and deletes files below DIR until SIGTERM. BOOK
 *     has a line for each state in which it left a file:
 *       s ID ETAG SIZE NAME   file ID has that name, and is closed; PART is how long the
 *                             parts are by which S3 would sum it; "- -1": as it was before
 *       m ID ETAG SIZE NAME   the same, because a folder above it was renamed
 *       d ID, o ID            it was deleted or replaced by the writer: nobody else need have it
 *       g ID                  it was gone when the writer came back to it
 *       x ID                  the writer wrote into it while somebody deleted it
 *   spool check BOOK DIR INDEX LEDGER PREFIX PART
 *     compares: what was stored (INDEX, of s3d), what is still on disk, and what LEDGER tells.
 *     Says what is wrong, a line each, and then what there was; 1 if anything is wrong.
 *   spool socket PATH          makes one
 *   spool hold HOW FILE...     until SIGTERM keeps files open to read (r), to write (w), or
 *                              mapped to be written (m); creates the file READY when it does
 *   spool clock FILE COMMAND...
 *     runs a command whose clock is off by the seconds that FILE has, whenever it looks
 *
 * Names in BOOK and INDEX are percent-encoded, all but letters, digits, - . _ ~ and /.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOOL "spool"
#include "kit.h"

static void *
some(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        die("memory");
    return p;
}

/* ---- MD5 (RFC 1321), and ETags as S3 makes them of it ---- */

struct md5 {
    uint32_t a[4];
    uint64_t n;
    unsigned char block[64];
};

static void
md5_init(struct md5 *m)
{
    *m = (struct md5){.a = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

static void
md5_block(struct md5 *m, const unsigned char *p)
{
    static const unsigned char turn[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    static const uint32_t sine[64] = {
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a,
        0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
        0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
        0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
        0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
        0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
        0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
        0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
        0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
        0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
        0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
    uint32_t w[16], a = m->a[0], b = m->a[1], c = m->a[2], d = m->a[3];

    for (int i = 0; i < 16; i++, p += 4)
        w[i] = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    for (unsigned i = 0; i < 64; i++) {
        unsigned r = i / 16, s = turn[r][i % 4];
        uint32_t f = r == 0   ? (b & c) | (~b & d)
                     : r == 1 ? (d & b) | (~d & c)
                     : r == 2 ? b ^ c ^ d
                              : c ^ (b | ~d);
        unsigned g = (r == 0 ? i : r == 1 ? 5 * i + 1 : r == 2 ? 3 * i + 5 : 7 * i) % 16;

        f += a + sine[i] + w[g];
        a = d;
        d = c;
        c = b;
        b += f << s | f >> (32 - s);
    }
    m->a[0] += a;
    m->a[1] += b;
    m->a[2] += c;
    m->a[3] += d;
}

static void
md5_add(struct md5 *m, const unsigned char *p, size_t n)
{
    for (; n; p++, n--) {
        m->block[m->n++ % 64] = *p;
        if (m->n % 64 == 0)
            md5_block(m, m->block);
    }
}

static void
md5_end(struct md5 *m, unsigned char out[16])
{
    uint64_t bits = m->n * 8;

    md5_add(m, (const unsigned char *)"\200", 1);
    while (m->n % 64 != 56)
        md5_add(m, (const unsigned char *)"", 1);
    for (int i = 0; i < 8; i++)
        md5_add(m, &(unsigned char){(unsigned char)(bits >> 8 * i)}, 1);
    for (int i = 0; i < 16; i++)
        out[i] = (unsigned char)(m->a[i / 4] >> 8 * (i % 4));
}

struct sum {
    char etag[48];
    int64_t size;
};

/* What is longer than a part is summed by parts. */
static bool
sum_file(int fd, int64_t part, struct sum *to)
{
    static unsigned char bytes[65536];
    unsigned char digest[16];
    struct md5 one, all;
    int64_t at = 0, in_part = 0, parts = 0;
    ssize_t n;

    md5_init(&one);
    md5_init(&all);
    while ((n = pread(fd, bytes, sizeof bytes, at)) > 0) {
        if (in_part + n > part)
            n = (ssize_t)(part - in_part);
        md5_add(&one, bytes, (size_t)n);
        at += n;
        in_part += n;
        if (in_part == part) {
            md5_end(&one, digest);
            md5_add(&all, digest, 16);
            parts++;
            in_part = 0;
            md5_init(&one);
        }
    }
    if (n < 0)
        return false;
    to->size = at;
    if (at > part) {
        if (in_part) {
            md5_end(&one, digest);
            md5_add(&all, digest, 16);
            parts++;
        }
        md5_end(&all, digest);
    } else if (at < part)
        md5_end(&one, digest);
    for (int i = 0; i < 16; i++)
        sprintf(to->etag + 2 * i, "%02x", digest[i]);
    if (at > part)
        sprintf(to->etag + 32, "-%" PRId64, parts);
    return true;
}

static void
put_name(FILE *out, const char *name)
{
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-._~/", c))
            putc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

/* ---- the writer ---- */

enum { LIVE = 400, NAME = 200, FOLDERS = 12 };

struct file {
    char name[NAME]; /* below DIR; empty: this place is free */
    unsigned id;
    int fd;          /* what is being written, or -1 */
    unsigned bursts; /* that are still to come */
    bool renames;    /* it has another name until it is whole */
};

struct writer {
    uint64_t seed, part;
    int dir;
    FILE *book;
    unsigned last, names;
    struct file file[LIVE];
    char free_name[NAME]; /* one that had been taken once */
};

static const char *const folder[FOLDERS] = {
    "",       "a",         "a/b",     "a/b/c d",    "2020/11/29/20", "2020/11/29/21",
    "x+y%20", "kitchen/&", "kitchen", "deep/d/e/p", "deep",          "caf\303\251"};

static void
make_folders(struct writer *w, const char *name)
{
    char path[NAME];

    for (size_t i = 0; name[i]; i++)
        if (name[i] == '/') {
            memcpy(path, name, i);
            path[i] = 0;
            (void)mkdirat(w->dir, path, 0755);
        }
}

static int
make_file(struct writer *w, const char *name)
{
    for (int tries = 0; tries < 50; tries++) { /* an empty folder may go at any moment */
        int fd = openat(w->dir, name, O_RDWR | O_CREAT | O_EXCL, 0644);

        if (fd >= 0 || errno != ENOENT)
            return fd;
        make_folders(w, name);
    }
    return -1;
}

static void
new_name(struct writer *w, char name[NAME])
{
    static const char *const end[] = {".dat", ".log", "", " x", ".d%41t"};
    const char *in = folder[below(&w->seed, FOLDERS)];

    snprintf(name, NAME, "%s%s%u-t%s", in, *in ? "/" : "", ++w->names,
             end[below(&w->seed, sizeof end / sizeof *end)]);
}

static void
write_line(struct writer *w, char what, const struct file *f, const struct sum *sum)
{
    fprintf(w->book, "%c %u", what, f->id);
    if (sum) {
        fprintf(w->book, " %s %" PRId64 " ", sum->etag, sum->size);
        put_name(w->book, f->name);
    }
    putc('\n', w->book);
    fflush(w->book);
}

static void
ends(struct writer *w, struct file *f, char how)
{
    write_line(w, how, f, NULL);
    if (below(&w->seed, 2))
        memcpy(w->free_name, f->name, NAME);
    f->name[0] = 0;
}

static void
grow(struct writer *w, int fd, uint64_t n)
{
    uint64_t word[512], seed = dice(&w->seed);

    while (n) {
        size_t some_of = n < sizeof word ? (size_t)n : sizeof word;

        for (size_t i = 0; i < 512; i++)
            word[i] = dice(&seed);
        if (lseek(fd, 0, SEEK_END) < 0 || write(fd, word, some_of) != (ssize_t)some_of)
            die("write");
        n -= some_of;
    }
}

static uint64_t
length(struct writer *w)
{
    switch (below(&w->seed, 40)) {
    case 0:
        return below(&w->seed, 4)
                   ? below(&w->seed, 200000)
                   : w->part - 4 + below(&w->seed, 8) * below(&w->seed, w->part / 4);
    case 1:
    case 2:
    case 3:
        return 0;
    default:
        return below(&w->seed, 5000);
    }
}

/* It is in the book before anybody else can find it closed. */
static void
close_file(struct writer *w, struct file *f)
{
    struct stat info;
    struct sum sum;

    if (!sum_file(f->fd, (int64_t)w->part, &sum) || fstat(f->fd, &info) != 0)
        die(f->name);
    if (info.st_nlink)
        write_line(w, 's', f, &sum);
    (void)close(f->fd);
    f->fd = -1;
    if (!info.st_nlink)
        ends(w, f, 'x');
}

static void
renamed(struct writer *w, struct file *f, const char *name, char what)
{
    struct sum same = {"-", -1}; /* as the line before says */

    memmove(f->name, name, strlen(name) + 1);
    write_line(w, what, f, &same);
}

static void
rename_file(struct writer *w, struct file *f, bool by_link)
{
    char name[NAME];
    int rc;

    new_name(w, name);
    make_folders(w, name);
    rc = by_link ? linkat(w->dir, f->name, w->dir, name, 0)
                 : renameat(w->dir, f->name, w->dir, name);
    if (rc != 0) {
        struct stat info;

        /* The folder for the new name may have gone, too. */
        if (errno == ENOENT && fstatat(w->dir, f->name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            ends(w, f, 'g');
        return;
    }
    /* Somebody who deletes it may give it its old name back. */
    for (int tries = 0; by_link && tries < 500; tries++) {
        struct stat info;

        (void)unlinkat(w->dir, f->name, 0);
        if (fstatat(w->dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || info.st_nlink == 1)
            break;
        sleep_us(1000);
    }
    renamed(w, f, name, 's');
}

static void
begin_file(struct writer *w, struct file *f)
{
    char name[NAME];

    if (w->free_name[0] && below(&w->seed, 8) == 0) {
        memcpy(name, w->free_name, NAME);
        w->free_name[0] = 0;
        for (struct file *other = w->file; other < w->file + LIVE; other++)
            if (!strcmp(other->name, name))
                return;
    } else
        new_name(w, name);
    f->renames = below(&w->seed, 4) == 0;
    if (f->renames)
        strcat(name, ".tmp");
    f->fd = make_file(w, name);
    if (f->fd < 0)
        return;
    memcpy(f->name, name, NAME);
    f->id = ++w->last;
    f->bursts = (unsigned)below(&w->seed, 4);
    grow(w, f->fd, length(w));
}

static void
go_on(struct writer *w, struct file *f)
{
    char name[NAME];

    if (f->bursts) {
        f->bursts--;
        grow(w, f->fd, length(w) / 2);
        return;
    }
    close_file(w, f);
    if (f->name[0] && f->renames) {
        snprintf(name, NAME, "%.*s", (int)strlen(f->name) - 4, f->name);
        f->renames = false;
        if (faccessat(w->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return;
        if (renameat(w->dir, f->name, w->dir, name) == 0)
            renamed(w, f, name, 's');
        else
            ends(w, f, 'g');
    }
}

/* Some more at its end, or other bytes at its beginning, which nobody sees from its size and
 * times. */
static void
change_file(struct writer *w, struct file *f, bool edit)
{
    uint64_t word = dice(&w->seed);
    struct stat info;

    f->fd = openat(w->dir, f->name, O_RDWR);
    if (f->fd < 0) {
        if (errno == ENOENT)
            ends(w, f, 'g');
        return;
    }
    if (fstat(f->fd, &info) != 0)
        die(f->name);
    if (edit && info.st_size >= 8) {
        struct timespec times[2] = {info.st_atim, info.st_mtim};

        if (pwrite(f->fd, &word, 8, 0) != 8)
            die(f->name);
        if (below(&w->seed, 2))
            futimens(f->fd, times);
    } else
        grow(w, f->fd, 1 + below(&w->seed, 3000));
    close_file(w, f);
}

static void
replace_file(struct writer *w, struct file *f)
{
    struct file fresh = {.fd = -1};
    char name[NAME];

    memcpy(name, f->name, NAME);
    snprintf(fresh.name, NAME, "new-%u", ++w->names);
    fresh.id = ++w->last;
    fresh.fd = make_file(w, fresh.name);
    if (fresh.fd < 0)
        return;
    grow(w, fresh.fd, length(w) % 10000);
    close_file(w, &fresh);
    if (!fresh.name[0])
        return;
    make_folders(w, name);
    if (renameat(w->dir, fresh.name, w->dir, name) != 0) {
        ends(w, &fresh, 'g');
        return;
    }
    write_line(w, 'o', f, NULL);
    renamed(w, &fresh, name, 's');
    *f = fresh;
}

static void
rename_folder(struct writer *w)
{
    const char *from = folder[1 + below(&w->seed, FOLDERS - 1)];
    char to[64];
    size_t n = strlen(from);

    snprintf(to, sizeof to, "moved-%u", ++w->names);
    if (renameat(w->dir, from, w->dir, to) != 0)
        return;
    for (struct file *f = w->file; f < w->file + LIVE; f++)
        if (f->name[0] && !strncmp(f->name, from, n) && f->name[n] == '/') {
            char name[NAME];

            snprintf(name, NAME, "%s%.120s", to, f->name + n);
            if (f->fd < 0)
                renamed(w, f, name, 'm');
            else
                memcpy(f->name, name, NAME);
        }
}

static void
step(struct writer *w)
{
    struct file *f = &w->file[below(&w->seed, LIVE)];

    if (!f->name[0])
        begin_file(w, f);
    else if (f->fd >= 0)
        go_on(w, f);
    else
        switch (below(&w->seed, 40)) {
        case 0:
        case 1:
        case 2:
        case 3:
            change_file(w, f, false);
            break;
        case 4:
        case 5:
            change_file(w, f, true);
            break;
        case 6:
        case 7:
        case 8:
            rename_file(w, f, false);
            break;
        case 9:
            rename_file(w, f, true);
            break;
        case 10:
        case 11:
            ends(w, f, unlinkat(w->dir, f->name, 0) == 0 ? 'd' : 'g');
            break;
        case 12:
            replace_file(w, f);
            break;
        case 13:
            if (below(&w->seed, 10) == 0)
                rename_folder(w);
            break;
        default:; /* what is not there any more makes room for something new */
            if (faccessat(w->dir, f->name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
                ends(w, f, 'g');
        }
}

static int
run_write(char **arg)
{
    struct writer *w = some(sizeof *w);

    until_term();
    w->seed = number(arg[0]);
    w->part = number(arg[3]);
    w->dir = open(arg[1], O_RDONLY | O_DIRECTORY);
    w->book = fopen(arg[2], "w");
    if (w->dir < 0 || !w->book)
        die(arg[2]);
    for (int i = 0; i < LIVE; i++)
        w->file[i].fd = -1;
    while (!stop) {
        for (uint64_t n = below(&w->seed, 30); n-- > 0 && !stop;)
            step(w);
        sleep_us(below(&w->seed, 20000));
    }
    for (struct file *f = w->file; f < w->file + LIVE; f++)
        while (f->name[0] && f->fd >= 0)
            go_on(w, f);
    return fclose(w->book) == 0 ? 0 : 1;
}

/* ---- the comparison ---- */

/* What is known under a text: a chain of its own for each kind of thing. */
struct node {
    struct node *next;
    char *text;
    unsigned n, ledger;
    struct sum *sum; /* kept in the order in which they came */
};

struct map {
    struct node *slot[65536];
};

static struct node *
look(struct map *m, const char *text, bool make)
{
    uint32_t h = 2166136261u;
    struct node *n;

    for (const char *p = text; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    for (n = m->slot[h % 65536]; n && strcmp(n->text, text); n = n->next)
        ;
    if (!n && make) {
        n = some(sizeof *n);
        n->text = strdup(text);
        n->next = m->slot[h % 65536];
        m->slot[h % 65536] = n;
    }
    return n;
}

static void
keep(struct map *m, const char *text, const struct sum *sum)
{
    struct node *n = look(m, text, true);

    n->sum = realloc(n->sum, (n->n + 1) * sizeof *n->sum);
    if (!n->sum)
        die("memory");
    n->sum[n->n++] = *sum;
}

/* A file that was large when it began to go up, and is not any more, is one part. */
static bool
is_one_part(const char *whole, const char *etag)
{
    unsigned char digest[16];
    char text[40];
    struct md5 m;
    unsigned byte;

    if (strlen(whole) != 32 || strlen(etag) != 34 || strcmp(etag + 32, "-1") != 0)
        return false;
    for (int i = 0; i < 16; i++) {
        if (sscanf(whole + 2 * i, "%2x", &byte) != 1)
            return false;
        digest[i] = (unsigned char)byte;
    }
    md5_init(&m);
    md5_add(&m, digest, 16);
    md5_end(&m, digest);
    for (int i = 0; i < 16; i++)
        sprintf(text + 2 * i, "%02x", digest[i]);
    return !memcmp(text, etag, 32);
}

static bool
is_same(const struct sum *a, const struct sum *b)
{
    return a->size == b->size &&
           (!strcmp(a->etag, b->etag) || is_one_part(a->etag, b->etag) ||
            is_one_part(b->etag, a->etag));
}

static unsigned
count(struct map *m, const char *text, const struct sum *sum)
{
    struct node *n = look(m, text, false);
    unsigned found = 0;

    for (unsigned i = 0; n && i < n->n; i++)
        found += is_same(&n->sum[i], sum);
    return found;
}

struct line { /* of a life: the files of a book, by their numbers */
    struct sum sum;
    char name[3 * NAME], older[3 * NAME]; /* what it was called before its folder moved */
    bool changed;                         /* since then: nobody removes it by that name */
    char *former;                         /* all names that it had before, one a line */
    char end;                             /* 0: it should be there */
};

struct check {
    struct map stored, states, late, ledger, tokens, disk, linked;
    struct line *life;
    unsigned lives, wrong, on_disk, set_aside, taken, torn, orphans, doubles, lates;
    int64_t part;
    const char *prefix;
};

__attribute__((format(printf, 2, 3))) static void
wrong(struct check *c, const char *fmt, ...)
{
    va_list ap;

    if (c->wrong++ < 12) {
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
    }
}

static const char *
key_of(struct check *c, const char *name)
{
    static char key[4 * NAME];

    snprintf(key, sizeof key, "%s%s", c->prefix, name);
    return key;
}

static FILE *
opened(const char *path)
{
    FILE *in = fopen(path, "r");

    if (!in)
        die(path);
    return in;
}

/* Who reads a file through a descriptor may meet other bytes under another name by then: they
 * are its own, and what has that name in the end is compared by itself. */
static void
keep_late(struct check *c, const struct line *l, const struct sum *sum)
{
    char name[3 * NAME];

    for (const char *p = l->former, *end; p && *p; p = end + 1) {
        end = strchr(p, '\n');
        snprintf(name, sizeof name, "%.*s", (int)(end - p), p);
        keep(&c->late, key_of(c, name), sum);
    }
}

static void
add_former(struct line *l, const char *name)
{
    size_t n = l->former ? strlen(l->former) : 0;

    if (!l->name[0] || !strcmp(l->name, name))
        return;
    l->former = realloc(l->former, n + strlen(l->name) + 2);
    if (!l->former)
        die("memory");
    sprintf(l->former + n, "%s\n", l->name);
}

static void
read_book(struct check *c, const char *path)
{
    FILE *in = opened(path);
    static char line[8 * NAME];
    unsigned id, room = 0;

    while (fgets(line, sizeof line, in)) {
        struct sum sum;
        struct line *l;
        char name[3 * NAME], what = line[0];
        int n = sscanf(line + 1, " %u %47s %" SCNd64 " %599s", &id, sum.etag, &sum.size,
                       name);

        while (n > 0 && id >= room) {
            room = room * 2 + 1000;
            c->life = realloc(c->life, room * sizeof *c->life);
            if (!c->life)
                die("memory");
            memset(c->life + c->lives, 0, (room - c->lives) * sizeof *c->life);
        }
        if (n < 1)
            die(path);
        c->lives = id >= c->lives ? id + 1 : c->lives;
        l = &c->life[id];
        if (n == 1) {
            l->end = what;
            c->orphans += what == 'x';
            continue;
        }
        add_former(l, name);
        keep_late(c, l, &sum);
        if (what == 's') {
            l->changed = true;
            if (sum.size < 0)
                l->older[0] = 0;
        }
        if (sum.size < 0)
            sum = l->sum;
        if (!sum.etag[0] || sum.etag[0] == '-')
            continue; /* its folder was renamed before it was whole */
        if (what == 'm' && !l->older[0]) {
            memcpy(l->older, l->name, sizeof name);
            l->changed = false;
        }
        memcpy(l->name, name, sizeof name);
        l->sum = sum;
        keep(&c->states, key_of(c, name), &sum);
    }
    fclose(in);
}

static void
read_index(struct check *c, const char *path)
{
    FILE *in = opened(path);
    static char line[8 * NAME], key[4 * NAME];

    while (fgets(line, sizeof line, in)) {
        struct sum sum;

        if (sscanf(line, "+ %" SCNd64 " %*s %47s %*s %*s %799s", &sum.size, sum.etag,
                   key) == 3) {
            if (count(&c->stored, key, &sum))
                wrong(c, "stored twice: %s %s", key, sum.etag);
            keep(&c->stored, key, &sum);
        } else
            wrong(c, "somebody deleted from the store: %s", line);
    }
    fclose(in);
}

/* The text of one field of one line; the names that are written here need no escapes. */
static bool
field(const char *line, const char *name, char *to, size_t room)
{
    char want[40];
    const char *p;
    size_t n;

    snprintf(want, sizeof want, "\"%s\":", name);
    p = strstr(line, want);
    if (!p)
        return false;
    p += strlen(want);
    p += *p == '"';
    n = strcspn(p, "\",}");
    if (n >= room)
        return false;
    memcpy(to, p, n);
    to[n] = 0;
    return true;
}

static void
encode(const char *from, char *to)
{
    FILE *out = fmemopen(to, 4 * NAME, "w");

    put_name(out, from);
    putc(0, out);
    fclose(out);
}

static void
read_ledger(struct check *c, const char *path)
{
    FILE *in = fopen(path, "r");
    static char line[65536], key[4 * NAME], coded[4 * NAME], text[4 * NAME];

    while (in && fgets(line, sizeof line, in)) {
        struct sum sum;
        size_t n = strlen(line);

        if (n < 3 || line[0] != '{' || strcmp(line + n - 2, "}\n") != 0 ||
            !field(line, "key", key, sizeof key) ||
            !field(line, "size", text, sizeof text) ||
            !field(line, "etag", sum.etag, sizeof sum.etag)) {
            c->torn++;
            continue;
        }
        sum.size = strtoll(text, NULL, 10);
        encode(key, coded);
        if (!count(&c->stored, coded, &sum))
            wrong(c, "the ledger has what was never stored: %s %s", coded, sum.etag);
        c->doubles += count(&c->ledger, coded, &sum) > 0;
        keep(&c->ledger, coded, &sum);
    }
    if (in)
        fclose(in);
}

static void
read_disk(struct check *c, int dir, const char *above)
{
    DIR *d = fdopendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char name[PATH_MAX], coded[4 * NAME];
        struct stat info;
        struct sum sum;
        int fd;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (snprintf(name, sizeof name, "%s%s", above, e->d_name) >= NAME ||
            fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            die(e->d_name);
        fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW);
        if (fd < 0)
            die(name);
        if (S_ISDIR(info.st_mode)) {
            strcat(name, "/");
            read_disk(c, fd, name); /* it closes fd */
            continue;
        }
        if (!sum_file(fd, c->part, &sum))
            die(name);
        close(fd);
        c->on_disk++;
        if (info.st_nlink > 1)
            keep(&c->linked, sum.etag, &sum);
        if (!strncmp(e->d_name, ".s3up-drain.", 12))
            keep(&c->tokens, sum.etag, &sum);
        else if (!strncmp(name, ".s3up-quarantine/", 17)) {
            c->set_aside++;
            encode(name + 17, coded);
            keep(&c->disk, coded, &sum);
        } else {
            encode(name, coded);
            keep(&c->disk, coded, &sum);
        }
    }
    if (d)
        closedir(d);
}

/* What the writer finished and did not take back is stored under its name, or is where it was.
 * Only a name that was stored with other bytes is a reason for that. */
static void
check_life(struct check *c, struct line *l)
{
    const char *name = l->name;
    unsigned disk, stored, told;

    if (!l->name[0] || l->end == 'd' || l->end == 'o')
        return;
    stored = count(&c->stored, key_of(c, name), &l->sum);
    if (!stored && l->older[0] && !l->changed &&
        count(&c->stored, key_of(c, l->older), &l->sum)) {
        name = l->older;
        stored = 1;
    }
    told = count(&c->ledger, key_of(c, name), &l->sum);
    disk = count(&c->disk, l->name, &l->sum);
    if (!disk && l->end == 'g' && l->older[0])
        disk = count(&c->disk, l->older, &l->sum);
    if (!disk)
        disk = count(&c->tokens, l->sum.etag, &l->sum);
    if (!stored && !disk)
        wrong(c, "lost: %s (%s, %" PRId64 " bytes; %s)", l->name, l->sum.etag,
              l->sum.size,
              l->end == 'g'   ? "it had gone"
              : l->end == 'x' ? "it went while it grew"
                              : "it should be there");
    if (!disk && stored && !told)
        wrong(c, "deleted, and not in the ledger: %s %s", l->name, l->sum.etag);
    if (disk && !stored) {
        struct node *n = look(&c->stored, key_of(c, l->name), false);

        if (!n && !count(&c->linked, l->sum.etag, &l->sum))
            wrong(c, "left behind: %s (%s, %" PRId64 " bytes)", l->name, l->sum.etag,
                  l->sum.size);
        c->taken += n != NULL;
    }
    if (disk && stored && !l->end) {
        struct node *n = look(&c->stored, key_of(c, l->name), false);

        if (n && is_same(&n->sum[n->n - 1], &l->sum))
            wrong(c, "stored, and not deleted: %s %s", l->name, l->sum.etag);
    }
}

static int
run_check(char **arg)
{
    struct check *c = some(sizeof *c);
    unsigned finished = 0, gone = 0, objects = 0, files = 0, lines = 0;
    int dir = open(arg[1], O_RDONLY | O_DIRECTORY);

    if (dir < 0)
        die(arg[1]);
    c->prefix = arg[4];
    c->part = strtoll(arg[5], NULL, 10);
    read_book(c, arg[0]);
    read_index(c, arg[2]);
    read_ledger(c, arg[3]);
    read_disk(c, dir, "");
    for (unsigned i = 0; i < 65536; i++) {
        for (struct node *n = c->stored.slot[i]; n; n = n->next)
            for (unsigned k = 0; k < n->n; k++, objects++)
                if (count(&c->states, n->text, &n->sum[k]))
                    continue;
                else if (count(&c->late, n->text, &n->sum[k]))
                    c->lates++;
                else
                    wrong(c,
                          "stored as the writer never left it: %s %s, %" PRId64 " bytes",
                          n->text, n->sum[k].etag, n->sum[k].size);
        for (struct node *n = c->disk.slot[i]; n; n = n->next)
            for (unsigned k = 0; k < n->n; k++, files++)
                if (!count(&c->states, key_of(c, n->text), &n->sum[k]))
                    wrong(c, "on disk as the writer never left it: %s %s", n->text,
                          n->sum[k].etag);
        for (struct node *n = c->ledger.slot[i]; n; n = n->next)
            lines += n->n;
    }
    for (unsigned i = 0; i < c->lives; i++) {
        finished += c->life[i].name[0] != 0;
        gone += c->life[i].end == 'g';
        check_life(c, &c->life[i]);
    }
    if (c->orphans)
        wrong(c, "written into while they were deleted: %u", c->orphans);
    printf(
        "%u files, %u of them gone when the writer came back; %u objects, %u of them as "
        "they were later, elsewhere; %u lines in the ledger (%u twice, %u torn); %u on "
        "disk, %u of them since their keys were taken\n",
        finished, gone, objects, c->lates, lines, c->doubles, c->torn, c->on_disk,
        c->taken);
    return c->wrong != 0;
}

/* ---- what sh has no words for ---- */

static int
run_socket(char **arg)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(at.sun_path, sizeof at.sun_path, "%s", arg[0]);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die(arg[0]);
    return 0;
}

static int
run_hold(char **arg)
{
    char how = arg[0][0];

    until_term();
    for (char **file = arg + 2; *file; file++) {
        int fd = open(*file, how == 'r' ? O_RDONLY : how == 'w' ? O_WRONLY : O_RDWR);

        if (fd < 0)
            die(*file);
        if (how == 'm') {
            if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
                die(*file);
            close(fd);
        }
    }
    close(open(arg[1], O_WRONLY | O_CREAT, 0644));
    while (!stop)
        sleep_us(20000);
    return 0;
}

/* ---- a clock that is wrong ---- */

/* The kernel's page with the time is hidden from a program that begins, so that it must ask
 * by system calls. */
static void
hide_page(pid_t pid, uint64_t sp)
{
    uint64_t at = sp + sizeof(long);
    unsigned nulls = 0;
    long word;

    while (nulls < 2) { /* behind the arguments, and behind the environment */
        errno = 0;
        word = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)at, NULL);
        if (errno)
            die("peek");
        nulls += word == 0;
        at += sizeof(long);
    }
    for (;; at += 2 * sizeof(long)) {
        word = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)at, NULL);
        if (word == 33) /* AT_SYSINFO_EHDR; 1 is AT_IGNORE */
            ptrace(PTRACE_POKEDATA, pid, (void *)(uintptr_t)at, (void *)1);
        if (word == 0)
            return;
    }
}

static long
offset(const char *path)
{
    FILE *in = fopen(path, "r");
    long n = 0;

    if (in) {
        if (fscanf(in, "%ld", &n) != 1)
            n = 0;
        fclose(in);
    }
    return n;
}

struct traced {
    pid_t pid;
    uint64_t call, a0, a1;
};

static void
at_call(struct traced *t, const char *path)
{
    struct __ptrace_syscall_info info;
    uint64_t at;
    long sec;

    if (ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_INFO, t->pid,
               (void *)sizeof info, &info) <= 0)
        return;
    if (info.op == 1) { /* it begins */
        t->call = info.entry.nr;
        t->a0 = info.entry.args[0];
        t->a1 = info.entry.args[1];
        return;
    }
    if (info.op != 2 || info.exit.is_error)
        return;
    if (t->call == SYS_clock_gettime &&
        (t->a0 == CLOCK_REALTIME || t->a0 == CLOCK_REALTIME_COARSE))
        at = t->a1;
#ifdef SYS_gettimeofday
    else if (t->call == SYS_gettimeofday)
        at = t->a0;
#endif
    else
        return;
    sec = ptrace(PTRACE_PEEKDATA, t->pid, (void *)(uintptr_t)at, NULL);
    ptrace(PTRACE_POKEDATA, t->pid, (void *)(uintptr_t)at, (void *)(sec + offset(path)));
}

static int
run_clock(char **arg)
{
    static struct traced all[256];
    size_t n = 0, i;
    int status, code = 2;
    pid_t first = fork(), pid;

    if (first < 0)
        die("fork");
    if (first == 0) {
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it would want to trace, too */
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execv(arg[1], arg + 1);
        die(arg[1]);
    }
    if (waitpid(first, &status, 0) != first)
        die("wait");
    ptrace(PTRACE_SETOPTIONS, first, NULL,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK |
               PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_SYSCALL, first, NULL, NULL);
    while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        long sig = 0;

        if (pid < 0)
            continue;
        for (i = 0; i < n && all[i].pid != pid; i++)
            ;
        if (!WIFSTOPPED(status)) {
            if (pid == first)
                code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
            if (i < n)
                all[i] = all[--n];
            continue;
        }
        sig = WSTOPSIG(status);
        if (i == n && n < 256) { /* a child's first stop is not a signal that was sent */
            all[n++] = (struct traced){.pid = pid};
            sig = sig == SIGSTOP ? 0 : sig;
        }
        if (sig == (SIGTRAP | 0x80)) {
            at_call(&all[i], arg[0]);
            sig = 0;
        } else if (status >> 16) {
            struct __ptrace_syscall_info info;

            if (status >> 16 == PTRACE_EVENT_EXEC &&
                ptrace((enum __ptrace_request)PTRACE_GET_SYSCALL_INFO, pid,
                       (void *)sizeof info, &info) > 0)
                hide_page(pid, info.stack_pointer);
            sig = 0;
        }
        ptrace(PTRACE_SYSCALL, pid, NULL, (void *)sig);
    }
    return code;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int least;
        int (*run)(char **arg);
    } all[] = {{"write", 4, run_write},
               {"check", 6, run_check},
               {"socket", 1, run_socket},
               {"hold", 3, run_hold},
               {"clock", 2, run_clock}};

    for (size_t i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
        if (!strcmp(argv[1], all[i].name) && argc - 2 >= all[i].least)
            return all[i].run(argv + 2);
    fprintf(stderr, "usage: see the head of test/spool.c\n");
    return 2;
}
