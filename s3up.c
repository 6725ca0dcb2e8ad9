/*
 * s3up: moves files between a Linux box and any S3-compatible store, and always
 * finishes.  MIT licence, see LICENSE.  The map of this file is s3up.h.
 *
 * ===== ROOM 0 front page: what happens, how much of it, and with whose help =====
 *
 * The story of one part of a file.  The planner cuts the file into equal parts and the
 * crew hands each part to a worker. The worker reads it twice with pread, through a
 * small window: once to sum it, because the sum is signed with the request, and once to
 * send it. So memory does not grow with the part, and a byte that changed in between
 * makes the store refuse the part. The request is signed anew for every attempt, since a
 * store believes a date for fifteen minutes only. The reply is taken apart by readers
 * that trust nothing; what must be there and is not is a failure. The part's ETag goes
 * back to the parent, the only process that writes the journal, and when the line is on
 * disk the part is done: no crash, cut or kill makes it travel again. When all parts are
 * there the store is told to join them, and only its word, or its own listing of an
 * object that carries our token, counts as success.
 *
 * A download goes the same way back. Workers ask for ranges of the object and write each
 * to its place in a file that has another name so far. The journal notes the sum of every
 * range that is there; after a crash a range counts only if the file still has bytes of
 * that sum. What the store says of the whole is compared last, and only then the file
 * gets its name.
 *
 * A run is one parent and a few workers, which are forks of it. The parent decides,
 * writes the journals and hands out orders; a worker moves the bytes and answers. They
 * talk through pipes; memory is shared for counters and for the parts of a stream only.
 *
 * Each of them can be gone at any moment, and so can what they talk to. It leaves:
 *
 *   a worker        its pipe closes, and another one gets what it had to do;
 *   the parent      the kernel ends its workers and opens its locks, and the journal says
 *                   to the next run what need not be done again;
 *   the machine     the last line of the journal may be torn, and does not count; what
 *                   was stored since the last sync may have to travel once more;
 *   the network     a request is sent again, after pauses that grow, until its attempts
 *                   are used up: then the transfer has failed, and a later run goes on;
 *   the last reply  the object may be there although nobody was told: it is ours if it
 *                   carries the token that stands in the journal.
 *
 * Bytes fall through the rooms from high numbers to low: files and parts become
 * requests, requests are signed, wrapped and sent. Results come back as return values.
 * Nothing calls up.
 */
#define _GNU_SOURCE /* explicit_bzero, O_CLOEXEC and friends under -std=c99 */

#include "s3up.h"

#include <arpa/inet.h>    /* inet_pton: addresses as text */
#include <dirent.h>       /* opendir: which journals are there */
#include <errno.h>        /* errno: why a system call failed, kept in struct fail */
#include <fcntl.h>        /* open and its flags */
#include <limits.h>       /* PATH_MAX, NAME_MAX */
#include <netdb.h>        /* getaddrinfo, in a child of its own */
#include <netinet/in.h>   /* the two families of addresses */
#include <netinet/tcp.h>  /* TCP_NODELAY and the keepalive options */
#include <poll.h>         /* poll: to sleep until something happens */
#include <signal.h>       /* sigaction: a stop that is asked for politely */
#include <stdarg.h>       /* messages take their parts as arguments */
#include <stdbool.h>      /* bool */
#include <stddef.h>       /* size_t, offsetof */
#include <stdint.h>       /* numbers of known width */
#include <stdio.h>        /* vsnprintf, printf: text for people; never for data */
#include <stdlib.h>       /* malloc, free, getenv */
#include <string.h>       /* memcpy, memcmp, memchr, explicit_bzero, strerror */
#include <sys/file.h>     /* flock */
#include <sys/mman.h>     /* mmap: counters that processes share; files never */
#include <sys/prctl.h>    /* PR_SET_PDEATHSIG: no worker outlives us */
#include <sys/inotify.h>  /* to hear of new files */
#include <sys/ioctl.h>    /* TIOCOUTQ: what a socket has not got rid of */
#include <sys/random.h>   /* getrandom */
#include <sys/resource.h> /* setrlimit: many files that are joined are open at once */
#include <sys/socket.h>   /* sockets */
#include <sys/stat.h>     /* fstat */
#include <sys/statvfs.h>  /* statvfs: how much room there is */
#include <sys/syscall.h>  /* SYS_renameat2, which C libraries learned late */
#include <sys/vfs.h>      /* statfs: is a file system in memory? */
#include <sys/wait.h>     /* waitpid */
#include <time.h>         /* clock_gettime */
#include <unistd.h>       /* read, write, pread, fsync, close, fork */

#include <bearssl.h> /* TLS; the only library */

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>     /* which instructions this CPU has */
#include <immintrin.h> /* SHA and carry-less multiplication, behind target attributes */
#elif defined(__aarch64__)
#include <arm_neon.h> /* the same two for ARMv8 */
#include <sys/auxv.h> /* getauxval: which of them this CPU has */
#endif

/* Limits. Each has its reason; all input is held against one of them. The prefix tells
 * which room looks at it. A number that is a limit stands here and nowhere else: code,
 * texts and help take it from its name. */
#define KIB         ((uint64_t)1 << 10)
#define MIB         ((uint64_t)1 << 20)
#define GIB         ((uint64_t)1 << 30)
#define TIB         ((uint64_t)1 << 40)
#define KEY_MAX     1024  /* bytes of an object's key, by the S3 specification */
#define URL_MAX     2048  /* bytes of an endpoint address; no real one comes near */
#define FAIL_TEXT   4608  /* bytes of one failure message: a whole path, and the reason */
#define XML_DEPTH   16    /* the deepest S3 reply has 5 levels */
#define XML_NAME    128   /* bytes of an element's name; the longest in S3 has 41 */
#define JSON_DEPTH  32    /* a stack of bits in one word */
#define REQ_FIELDS  64    /* header fields, and query parameters, of one request */
#define REQ_TEXT    32768 /* bytes of both; stores refuse heads above 8 to 16 KiB */
#define HEAD_MAX    65536 /* bytes of a reply's head */
#define HEAD_FIELDS 128   /* fields in it */
#define HTTP_WINDOW 8192  /* bytes read ahead; larger pieces go straight to the caller */
#define HTTP_LINE                                                                        \
    256 /* bytes of the line before a chunk, or of a field behind the last */
#define HTTP_TAIL  65536 /* the rest of a reply that a server may hold back: a segment */
#define HTTP_LEAST 1024  /* bytes that must move in the time allowed for a silence */
#define HTTP_IDLE                                                                        \
    30000 /* milliseconds after which an idle connection is not tried again */
#define HTTP_CONNECT                                                                     \
    20000 /* milliseconds for a name, a connection and a handshake, at most */
#define S3_PAIRS      72 /* parameters, and extra header fields, of one call */
#define S3_NAME       64 /* bytes of a bucket's or region's name and a NUL */
#define S3_REGIONS    8 /* buckets outside of the configured region that are remembered */
#define S3_REPLY      16777216 /* bytes of a reply: 1,000 keys, each byte as %XX */
#define S3_ERROR      65536    /* bytes of a reply that says what is wrong */
#define S3_STRANGER   2 /* attempts after the first at a store that has never answered */
#define S3_WINDOW     131072 /* bytes of a file that are read at a time */
#define S3_TRICKLE    1024   /* bytes that move at once, however low the rate */
#define S3_NAP        20     /* ms: shorter ones would each end too late */
#define S3_PATIENCE   900000 /* milliseconds that a store may take to join or copy */
#define S3_PURSE      500    /* what a store's client starts with to pay for retries */
#define S3_COST       5      /* the price of one; each success gives 1 back */
#define S3_PAUSE_MOST 20000  /* pauses double up to this */
#define S3_EARLY      300    /* seconds before their end that keys are renewed */
#define S3_SKEW       300    /* seconds by which clocks may differ before it matters */
#define S3_XMLNS      "http://s3.amazonaws.com/doc/2006-03-01/"
#define CREW_MOST     64      /* workers */
#define CREW_FIRST    2       /* workers to begin with, if nobody says how many */
#define CREW_AUTO     16      /* and the most that are tried */
#define CREW_ROUND    100     /* milliseconds that a number of them is given, at least */
#define CREW_LONG     5000    /* and at most */
#define CREW_ENOUGH   5000000 /* bytes of each worker that end a round before that */
#define CREW_ANSWERS  16      /* or answers */
#define CREW_HOLD     10      /* rounds before another number is tried */
#define CREW_PRICE    65536   /* bytes that could be moved in the time a request takes */
#define CREW_ETAG     256     /* bytes of an ETag in an answer */
#define CREW_ORDER    4194304 /* bytes of orders: a part may be of many small files */
#define CREW_BATCH    32      /* orders that a worker gets at once, at most */
#define CREW_BRIEF    20    /* milliseconds that they, and answers, may wait for others */
#define XFER_LOOK     200   /* milliseconds between two looks at what goes on */
#define XFER_SMALL    65536 /* bytes of a file whose order may wait behind others */
#define XFER_SYNC     999   /* and between two syncs of a journal */
#define XFER_PARTING  700   /* milliseconds for an abort when we must stop */
#define XFER_DEATHS   20    /* of workers, after which an upload is given up */
#define DRAIN_OWN     4     /* things in a folder that drain never takes */
#define DRAIN_BATCH   8192  /* files that are sorted by age and sent together */
#define DRAIN_LOOKS   65536 /* files whose state is remembered between two looks */
#define DRAIN_WRITERS 65536 /* files that others have open for writing */
#define DRAIN_REFUSED 4096  /* files whose refusals are counted */
#define DRAIN_FEW     3     /* refusals, which can be the files' own fault */
#define DRAIN_STEP    32    /* files that are removed in one step */
#define DRAIN_WAIT    900   /* milliseconds that removals wait for each other */
#define DRAIN_IDLE    300000 /* milliseconds after which a watched folder is read again */
#define DRAIN_AGAIN   60000  /* and if something in it still waits */
#define DRAIN_LULL    100    /* milliseconds in which more may come */
#define CLI_SAMPLES   6      /* seconds over which a rate is shown */
#define CLI_ETA       2000   /* milliseconds until it says how long the rest will take */
#define CLI_LEFT      8640000 /* seconds that it says are left, at most: 100 days */
#define XFER_RENEWALS 3       /* of keys in a row that are refused again */
#define CLI_GLOBS     64      /* patterns of names */
#define CLI_PATIENCE  604800  /* seconds that a file can have to be left alone, at most */
#define CLI_SETTLE    10      /* and that it has, unless --settle says else */
#define CLI_PRUNE     3600    /* seconds after which an empty folder goes */
#define XFER_GUESSES  16      /* sizes of parts that are tried in one pass over a file */
#define CLI_RETRIES   8       /* attempts after the first, unless --retries says else */
#define CRED_MAX      65536   /* bytes of one key, token or setting */
#define CRED_WORDS    64      /* words of a credential_process */
#define CRED_PATIENCE 60000   /* milliseconds that it may run */
#define CRED_NO_EXEC  127     /* what a child says that could not start the program */
#define PRESIGN_MAX   604800  /* seconds that a presigned URL may live: seven days */
#define PARTS_MAX     10000   /* of one upload, by the S3 specification */
#define PART_LEAST    ((uint64_t)5 << 20)   /* bytes of a part, but of the last */
#define PART_MOST     ((uint64_t)5 << 30)   /* both by the S3 specification */
#define PART_USUAL    ((uint64_t)16 << 20)  /* unless --part-size says else */
#define PART_COPY     ((uint64_t)256 << 20) /* of what the store copies */
#define PART_STREAM   ((uint64_t)8 << 20)   /* of a stream: they lie in memory */
#define PART_TICKS    50   /* milliseconds that a file system's clock may stand still */
#define PART_SETTLE   2100 /* milliseconds that a file may take until its time is old */
#define JRN_VERSION   1    /* of the format; a journal of any other is refused */
#define JRN_WORDS     6    /* on one line */
#define JRN_TAIL      10   /* " #" and the CRC at its end */
#define JRN_SUM       32   /* bytes of a part's sum, at most */
#define JRN_ID        16   /* bytes of a token */
#define JRN_UPLOAD    2048 /* bytes of an upload id or an ETag; real ones have 300 */
#define JRN_MOST      16777216 /* bytes of a journal: 10,000 parts have 3 million */
#define JRN_SOURCES   4096     /* files that become one object */
#define JRN_LEDGER    16777216 /* bytes of a ledger, before it makes room for a new one */
#define JRN_GROUP     256      /* lines of the ledger that are written together */
#define JRN_WAIT      1500     /* milliseconds that they wait for each other */
#define JRN_GLANCE    2        /* milliseconds between two attempts to lock it */
#define JRN_TRIES     100      /* to lock a file before it is removed or moved away */
#define LOG_WIPE      "\r\033[K" /* to the line's begin, and nothing behind it */
#define OS_DEPTH      256        /* folders in each other */
#define OS_SMALL      100000     /* bytes of a file that should have a few lines */
#define NET_ADDRESSES 16         /* of one host that are tried */
#define NET_STAGGER   250     /* milliseconds before the next address is tried as well */
#define NET_SLICE     250     /* milliseconds after which a wait looks whether to stop */
#define TLS_CERT      16384   /* bytes of a certificate; one with many names has 8,000 */
#define TLS_BUNDLE    4194304 /* bytes of a bundle of roots; Mozilla's has 220,000 */
#define TLS_ANCHORS   4       /* roots of the same name that are tried */
#define TLS_KEY       560  /* bytes of a root's key: RSA of 4,096 bits and its exponent */
#define TLS_RSA_LEAST 2048 /* bits */
#define TLS_ALIGN     64   /* bytes of a cache line */

#ifndef S3_PAUSE     /* tests that retry hundreds of times set 1 */
#define S3_PAUSE 200 /* milliseconds: the first pause is at most this long */
#endif
#define S3_PAUSE_SLOW (5 * S3_PAUSE) /* and this if the store asked for less */

#ifndef BUF_FIRST
#define BUF_FIRST 256 /* first size of a growing buffer; tests use 1, so all must grow */
#endif

/* ===== ROOM 1 text: views, growing buffers, numbers, encodings, addresses, dates =====
 *
 * In: bytes from anywhere. Out: spans into them, or bytes appended to a buffer.
 * Owns no state. Refuses what it cannot read exactly: a number with a blank, a URL with
 * a password, base64 without its padding. Dates are computed, not asked of the C
 * library, so that a 32-bit box agrees with a 64-bit one after 2038.
 *
 * The names say what a function does: X_put appends to a buffer, and whether that failed
 * is seen in the buffer; X_read and X_parse take a span and are false, or say why, when
 * it is not exactly theirs. What such a function was to fill in is of use only if it went
 * well. To add an encoding, write both halves, so that a test can send everything through
 * the one and back through the other.
 */

/* A view of bytes that belong to somebody else. It is passed by value, and is good for as
 * long as those bytes stay where they are: not longer than the next append to a buffer
 * that it points into.
 *
 * Empty and absent are two things. A span whose p is NULL is absent: nothing was there.
 * One with an address and no bytes is an empty text, as between the commas of "a,,b".
 * span_after gives an absent one at the end, and span_cut goes by the difference. */
struct span {
    const char *p; /* not NUL-terminated; may be NULL when n is 0 */
    size_t n;      /* bytes */
};

/* For literals only. The "" in front makes a pointer an error of the compiler, whose
 * sizeof would be no length. */
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

static struct span
span_at(const void *p, size_t n)
{
    return (struct span){p, n};
}

/* NULL counts as no text at all. */
static struct span
span_of(const char *s)
{
    return span_at(s, s ? strlen(s) : 0);
}

/* At most n bytes: of a shorter span, all. */
static struct span
span_first(struct span s, size_t n)
{
    return span_at(s.p, n < s.n ? n : s.n);
}

/* What follows the first n bytes; absent if nothing does. */
static struct span
span_after(struct span s, size_t n)
{
    if (n >= s.n)
        return (struct span){NULL, 0};
    return span_at(s.p + n, s.n - n);
}

/* Bytes are compared unsigned, as stores sort keys: é comes after z. */
static int
span_cmp(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;

    if (order)
        return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

static bool
span_eq(struct span a, struct span b)
{
    return a.n == b.n && span_cmp(a, b) == 0;
}

static bool
span_is(struct span s, const char *text)
{
    return span_eq(s, span_of(text));
}

static bool
span_starts(struct span s, const char *head)
{
    return span_is(span_first(s, strlen(head)), head);
}

/* ASCII only: what a locale thinks of a header's name must not matter. */
static char
span_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool
span_is_nocase(struct span s, const char *text)
{
    struct span t = span_of(text);

    if (s.n != t.n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (span_lower(s.p[i]) != span_lower(t.p[i]))
            return false;
    return true;
}

static bool
span_has(struct span s, char c)
{
    return s.n && memchr(s.p, c, s.n);
}

/* The blanks of a line: what ends one is not among them. */
static bool
span_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span
span_trim(struct span s)
{
    while (s.n && span_blank(s.p[0]))
        s = span_after(s, 1);
    while (s.n && span_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Splits off what stands before the first `at`, or all of it. False, and an empty head,
 * when nothing was left: so `while (span_cut(&rest, ',', &word))` visits every word. */
static bool
span_cut(struct span *rest, char at, struct span *head)
{
    const char *hit = rest->n ? memchr(rest->p, at, rest->n) : NULL;

    *head = *rest;
    if (!rest->p)
        return false;
    *rest = (struct span){NULL, 0};
    if (hit) {
        size_t n = (size_t)(hit - head->p);

        *rest = span_at(hit + 1, head->n - n - 1);
        head->n = n;
    }
    return true;
}

/* Does the first character of a pattern stand for c? Cuts it off if so. A set is [abc],
 * [a-z] or [!a-z]; one without an end is an ordinary bracket. The pattern must not be
 * empty, nor begin with a *: that is for span_glob. */
static bool
span_glob_one(struct span *pattern, char c)
{
    struct span p = *pattern;
    bool inverse = p.n > 1 && p.p[1] == '!', match = false;
    size_t i = 1 + inverse;
    unsigned char u = (unsigned char)c;

    /* The ] that ends the set is searched from its second member on, since the first may
     * be a ] itself. One is there, so the loop comes to its end inside of the pattern. */
    if (p.p[0] == '[' && p.n > i + 1 && memchr(p.p + i + 1, ']', p.n - i - 1)) {
        do {
            /* A - before the ] is a member like others. */
            bool range = p.n > i + 2 && p.p[i + 1] == '-' && p.p[i + 2] != ']';

            match |=
                u >= (unsigned char)p.p[i] && u <= (unsigned char)p.p[range ? i + 2 : i];
            i += range ? 3 : 1;
        } while (p.p[i] != ']');
        *pattern = span_after(p, i + 1);
        return match != inverse;
    }
    if (p.p[0] == '\\' && p.n > 1) /* what follows means itself */
        p = span_after(p, 1);
    else if (p.p[0] == '?')
        c = '?';
    *pattern = span_after(p, 1);
    return p.p[0] == c;
}

/* Patterns as shells know them, in bytes: * any, also a slash, ? one, [a-z] a set.
 *
 * Only the last * is ever tried again with more: what stood before it has found its
 * place, and a later place for that would leave less text for the rest. So the time is at
 * most the product of both lengths, whatever a user makes up. */
static bool
span_glob(struct span pattern, struct span text)
{
    struct span star = {NULL, 0}, from = text; /* behind the last *, and where it ends */

    while (text.n) {
        struct span here = pattern;

        if (pattern.n && pattern.p[0] == '*') {
            pattern = star = span_after(pattern, 1);
            if (!star.n)
                return true;
            from = text;
            continue;
        }
        if (here.n && span_glob_one(&here, text.p[0])) {
            pattern = here;
            text = span_after(text, 1);
        } else if (star.p) { /* the star takes one more */
            pattern = star;
            from = text = span_after(from, 1);
        } else {
            return false;
        }
    }
    while (pattern.n && pattern.p[0] == '*')
        pattern = span_after(pattern, 1);
    return !pattern.n;
}

/* Bytes that grow, up to a ceiling. Appending to a bad buffer does nothing, and a bad
 * buffer reads as an empty one, so that half a text is never taken for a whole. Begin
 * with buf_upto, append at will, look at .bad once, end with buf_free: also after a
 * failure, and twice does no harm. */
struct buf {
    char *p;     /* ours; once anything was added p[n] is NUL, for C's sake */
    size_t n;    /* bytes in use */
    size_t room; /* bytes allocated */
    size_t max;  /* the most that n may become */
    int bad;     /* 0, or E2BIG or ENOMEM from the first append that failed */
};

/* An empty buffer that holds max bytes at most. It owns no memory before the first
 * append. */
static struct buf
buf_upto(size_t max)
{
    return (struct buf){.max = max};
}

/* Every buffer is wiped, because any of them may have held a key or a signature. */
static void
buf_free(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->room);
    free(b->p);
    *b = buf_upto(b->max);
}

/* Forgets the content and the failure, and keeps the memory for what comes next. It does
 * not wipe. */
static void
buf_clear(struct buf *b)
{
    b->n = 0;
    b->bad = 0;
    if (b->p)
        b->p[0] = 0;
}

/* Only the first n bytes stay; n is at most what is there. A bad buffer becomes empty. */
static void
buf_cut(struct buf *b, size_t n)
{
    if (n == 0 || b->bad) {
        buf_clear(b);
    } else {
        b->n = n;
        b->p[n] = 0;
    }
}

static struct span
buf_span(const struct buf *b)
{
    return b->bad ? (struct span){NULL, 0} : span_at(b->p, b->n);
}

/* For calls of C that want a NUL: good until the next append, never NULL. */
static const char *
buf_text(const struct buf *b)
{
    return b->p && !b->bad ? b->p : "";
}

/* Makes room for `more` bytes and a NUL behind them. When it is true p is not NULL, even
 * if more is 0. What fits into that room is appended without moving: whoever must keep
 * pointers into a buffer asks for all of it first. Grows by copying, not by realloc:
 * realloc may leave the old bytes behind unwiped. */
static bool
buf_need(struct buf *b, size_t more)
{
    size_t room = b->room ? b->room : BUF_FIRST;
    char *p;

    if (b->bad)
        return false;
    /* n is never above max, so this does not wrap. */
    if (more > b->max - b->n) {
        b->bad = E2BIG;
        return false;
    }
    if (b->p && more < b->room - b->n)
        return true;
    while (room - b->n <= more)
        room *= 2; /* ends: n + more is at most max, and max is far below SIZE_MAX / 2 */
    p = malloc(room);
    if (!p) {
        b->bad = ENOMEM;
        return false;
    }
    if (b->n)
        memcpy(p, b->p, b->n);
    if (b->p)
        explicit_bzero(b->p, b->room);
    free(b->p);
    b->p = p;
    b->room = room;
    return true;
}

static void
buf_add(struct buf *b, const void *p, size_t n)
{
    if (!buf_need(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static void
buf_put(struct buf *b, struct span s)
{
    buf_add(b, s.p, s.n);
}

static void
buf_str(struct buf *b, const char *s)
{
    buf_put(b, span_of(s));
}

static void
buf_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

static void
buf_num(struct buf *b, uint64_t v)
{
    char digits[20]; /* 2^64 has twenty */
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    buf_add(b, digits + at, sizeof digits - at);
}

/* A whole number in decimal, nothing around it, at most max: no sign, no blank, no 0x.
 * Digits that would overflow are refused, they do not wrap. */
static bool
num_parse(struct span s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!s.n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return v <= max;
}

/* A number and a unit out of a list of letters, as 16M or 8d. A letter's weight stands at
 * the same place in the list of weights; no letter means one. A NUL in the input is no
 * letter, though strchr would find it. */
static bool
num_scaled(struct span s, const char *letters, const uint64_t *weights, uint64_t *out)
{
    uint64_t weight = 1, v;
    const char *hit;

    if (!s.n)
        return false;
    hit = s.p[s.n - 1] ? strchr(letters, s.p[s.n - 1]) : NULL;
    if (hit) {
        weight = weights[hit - letters];
        s.n--;
    }
    if (!num_parse(s, UINT64_MAX / weight, &v))
        return false;
    *out = v * weight;
    return true;
}

/* Sizes: 5, 64K, 16M, 16MB, 16MiB, 2G, 1T. All are powers of 1024. */
static bool
num_size(struct span s, uint64_t *out)
{
    static const uint64_t weights[] = {KIB, MIB, GIB, TIB, KIB, MIB, GIB, TIB};
    bool unit = s.n > 2 && span_lower(s.p[s.n - 1]) == 'b';

    if (unit)
        s.n -= s.p[s.n - 2] == 'i' ? 2 : 1;
    if (unit && s.n && s.p[s.n - 1] >= '0' && s.p[s.n - 1] <= '9')
        return false; /* 16iB, 16B: a B wants a letter before it */
    return num_scaled(s, "KMGTkmgt", weights, out);
}

/* Ages and times: 30, 30s, 5m, 12h, 8d. */
static bool
num_age(struct span s, uint64_t *seconds)
{
    static const uint64_t weights[] = {1, 60, 3600, 86400};

    return num_scaled(s, "smhd", weights, seconds);
}

/* 1536 as 1.5K: three digits are enough for people, in whole numbers. */
static void
num_put_size(struct buf *out, uint64_t n)
{
    unsigned unit = 0;
    uint64_t tenths = n;

    if (n < KIB) {
        buf_num(out, n);
        return;
    }
    while (tenths >= KIB * KIB && unit < 5) {
        tenths /= KIB;
        unit++;
    }
    tenths = (tenths * 10 + KIB / 2) / KIB; /* rounded: 10 to 10,240 */
    unit++;
    /* 1023.96K was rounded up: it is 1.0M. */
    if (tenths >= 10240) {
        tenths /= 1024;
        unit++;
    }
    buf_num(out, tenths / 10);
    if (tenths < 100) {
        buf_char(out, '.');
        buf_num(out, tenths % 10);
    }
    buf_char(out, "BKMGTPE"[unit]);
}

/* -1 for what is no digit. Both cases are read; hex_put writes small letters only. */
static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = span_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
hex_put(struct buf *b, const void *p, size_t n)
{
    const unsigned char *in = p;

    for (size_t i = 0; i < n; i++) {
        buf_char(b, "0123456789abcdef"[in[i] >> 4]);
        buf_char(b, "0123456789abcdef"[in[i] & 15]);
    }
}

/* Exactly n bytes, or false; out may be half written then. */
static bool
hex_read(struct span s, void *out, size_t n)
{
    unsigned char *o = out;

    if (s.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_value(s.p[2 * i]), low = hex_value(s.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        o[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static const char b64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* With padding: three bytes become four digits, and a shorter rest as well. */
static void
b64_put(struct buf *b, const void *p, size_t n)
{
    const unsigned char *in = p;

    for (; n >= 3; n -= 3, in += 3) {
        buf_char(b, b64_digits[in[0] >> 2]);
        buf_char(b, b64_digits[(in[0] & 3u) << 4 | in[1] >> 4]);
        buf_char(b, b64_digits[(in[1] & 15u) << 2 | in[2] >> 6]);
        buf_char(b, b64_digits[in[2] & 63]);
    }
    if (n) {
        unsigned next = n > 1 ? in[1] : 0;

        buf_char(b, b64_digits[in[0] >> 2]);
        buf_char(b, b64_digits[(in[0] & 3u) << 4 | next >> 4]);
        buf_char(b, n > 1 ? b64_digits[(next & 15) << 2] : '=');
        buf_char(b, '=');
    }
}

/* By ranges, not by search: a bundle of roots has 200,000 digits. */
static int
b64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: padded, no blanks, and the bits that no byte uses are zero, so that every value
 * has one spelling only. When it is false, out may have got a part of it. */
static bool
b64_read(struct span s, struct buf *out)
{
    uint32_t bits = 0;
    size_t pad = 0;

    if (s.n % 4)
        return false;
    while (pad < 2 && s.n && s.p[s.n - 1] == '=') {
        s.n--;
        pad++;
    }
    for (size_t i = 0; i < s.n; i++) {
        int v = b64_value(s.p[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4) /* each digit but the first of four completes a byte */
            buf_char(out, (char)(bits >> (6 - 2 * (i % 4)) & 255));
    }
    /* The last digit before the padding has two or four bits too many. */
    if (pad && bits & (pad == 1 ? 3 : 15))
        return false;
    return !out->bad;
}

/* The unreserved characters of RFC 3986, which signatures leave as they are. */
static bool
url_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

/* Percent-encodes as signatures demand: upper-case hex, and all but the unreserved and
 * what stands in keep ("/" in a path, "" in a query). */
static void
url_put(struct buf *b, struct span s, const char *keep)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (url_unreserved(s.p[i]) || (c && strchr(keep, c))) {
            buf_char(b, s.p[i]);
            continue;
        }
        buf_char(b, '%');
        buf_char(b, "0123456789ABCDEF"[c >> 4]);
        buf_char(b, "0123456789ABCDEF"[c & 15]);
    }
}

/* Undoes percent-encoding; in form style a plus is a blank. False on a bad escape, and
 * then out may have got what stood before it. %00 gives a NUL: whoever cannot have one
 * looks. */
static bool
url_read(struct span s, bool form, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '%') {
            if (s.n - i < 3 || !hex_read(span_at(s.p + i + 1, 2), &c, 1))
                return false;
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        buf_char(out, (char)c);
    }
    return !out->bad;
}

/* An http address, taken apart. All spans point into what was parsed. */
struct url {
    bool https;
    bool literal6;     /* host is an IPv6 address; it stood in brackets */
    unsigned port;     /* as given, else 80 or 443 */
    struct span host;  /* without brackets; its case is the writer's */
    struct span path;  /* begins with / or is empty; still encoded */
    struct span query; /* behind the ?, still encoded */
};

/* The host and port of an address; NULL, or what is wrong with them. An address is shown
 * in messages and written into journals, so it must not carry a password. u->https must
 * be known: it says which port is meant by none. */
static const char *
url_authority(struct span s, struct url *u)
{
    const char *hostset = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    struct span port = {NULL, 0};
    uint64_t number;

    if (span_has(s, '@'))
        return "it must not carry a user name or password";
    if (span_starts(s, "[")) {
        s = span_after(s, 1);
        u->literal6 = span_has(s, ']');
        span_cut(&s, ']', &u->host);
        if (!u->literal6 || (s.n && s.p[0] != ':'))
            return "the brackets around the IPv6 address are wrong";
        if (s.n) /* nothing behind the : is a port that is no number, not none */
            port = span_at(s.p + 1, s.n - 1);
        hostset = "0123456789abcdef:.";
    } else {
        span_cut(&s, ':', &u->host);
        port = s;
    }
    if (!u->host.n || u->host.n > 253) /* no name in the DNS is longer */
        return "it has no host name, or one too long";
    for (size_t i = 0; i < u->host.n; i++)
        if (!u->host.p[i] || !strchr(hostset, span_lower(u->host.p[i])))
            return "the host name has a character that none can have";
    if (port.p && (!num_parse(port, 65535, &number) || number == 0))
        return "the port must be a number from 1 to 65535";
    u->port = port.p ? (unsigned)number : u->https ? 443 : 80;
    return NULL;
}

/* NULL when the address was understood, else what is wrong with it. Blanks and control
 * characters could break the head of a request, and what stands behind a # is never sent:
 * neither can be meant. */
static const char *
url_parse(struct span s, struct url *u)
{
    struct span authority = {NULL, 0};
    const char *slash;

    *u = (struct url){.https = span_is_nocase(span_first(s, 8), "https://")};
    if (s.n > URL_MAX)
        return "it is too long";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 127 || s.p[i] == '#')
            return "it has a blank, a control character or a # in it";
    if (!u->https && !span_is_nocase(span_first(s, 7), "http://"))
        return "it must begin with http:// or https://";
    s = span_after(s, u->https ? 8 : 7);
    /* First the query, since there may be a slash in it; then the path. */
    span_cut(&s, '?', &authority);
    u->query = s;
    slash = authority.n ? memchr(authority.p, '/', authority.n) : NULL;
    if (slash)
        u->path = span_after(authority, (size_t)(slash - authority.p));
    authority.n -= u->path.n;
    return url_authority(authority, u);
}

/* s3://BUCKET[/KEY]: a key is raw bytes, nothing in it is encoded or has a meaning. NULL,
 * or what is wrong. Without a key, key->p tells s3://BUCKET/ from s3://BUCKET: it is NULL
 * only in the latter. */
static const char *
url_s3(struct span s, struct span *bucket, struct span *key)
{
    if (!span_starts(s, "s3://"))
        return "it must begin with s3://";
    *key = span_after(s, 5);
    *bucket = (struct span){NULL, 0};
    span_cut(key, '/', bucket);
    if (!bucket->n)
        return "the bucket's name is missing";
    if (span_is(*bucket, ".") || span_is(*bucket, ".."))
        return "no bucket has such a name"; /* in a path, the dots could lead elsewhere */
    if (key->n > KEY_MAX)
        return "the key is longer than any object's can be";
    return NULL;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so
 * that the leap day is the last one of its year and needs no case of its own. An era is
 * 400 years, or 146,097 days, after which the calendar repeats; 719,468 days lie between
 * the 1st of March of the year 0 and 1970. (153 m + 2) / 5 are the days of the m months
 * since March: they have 31, 30, 31, 30, 31, over and over. */
static int64_t
date_days(int64_t year, unsigned month, unsigned day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
    unsigned of_era = (unsigned)(y - era * 400);
    unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

#define DATE_STAMP 17 /* 20130524T000000Z and a NUL */

/* A moment in UTC. Where it was read it may be no date at all: date_time tells. */
struct date {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month and day count from 1 */
};

/* The date and time of day of t, in UTC: date_days backwards, by the same eras. */
static struct date
date_of(int64_t t)
{
    int64_t days = t / 86400 - (t % 86400 < 0), left = t - days * 86400;
    int64_t era = (days + 719468 - (days + 719468 < 0 ? 146096 : 0)) / 146097;
    unsigned of_era = (unsigned)(days + 719468 - era * 146097);
    unsigned y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    struct date d = {.month = m < 10 ? m + 3 : m - 9,
                     .day = of_year - (153 * m + 2) / 5 + 1};

    d.year = (int64_t)y + era * 400 + (d.month <= 2);
    d.hour = (unsigned)(left / 3600);
    d.minute = (unsigned)(left / 60 % 60);
    d.second = (unsigned)(left % 60);
    return d;
}

/* The seconds since 1970. False if there is no such day or time of day. A second may be a
 * leap second: it counts as the first of the next minute. */
static bool
date_time(struct date d, int64_t *t)
{
    if (d.month < 1 || d.month > 12 || d.day < 1 || d.day > 31 || d.hour > 23 ||
        d.minute > 59 || d.second > 60)
        return false;
    *t = date_days(d.year, d.month, d.day) * 86400;
    if (date_of(*t).month != d.month)
        return false; /* the month is shorter */
    *t += d.hour * 3600 + d.minute * 60 + d.second;
    return true;
}

/* Reads the digits of s[at, at + n), at most four. False if there are others, or s is
 * shorter. */
static bool
date_field(struct span s, size_t at, size_t n, unsigned *out)
{
    uint64_t v;

    if (at + n > s.n || !num_parse(span_at(s.p + at, n), 9999, &v))
        return false;
    *out = (unsigned)v;
    return true;
}

/* 20130524T000000Z: the date of signatures, the only one that they accept. */
static void
date_stamp(int64_t t, char out[DATE_STAMP])
{
    struct date d = date_of(t < 0 ? 0 : t);

    /* A year of five digits would not fit: the clock is wrong, and the store says so. */
    (void)snprintf(out, DATE_STAMP, "%02u%02u%02u%02uT%02u%02u%02uZ",
                   (unsigned)(d.year / 100 % 100), (unsigned)(d.year % 100),
                   d.month % 100, d.day % 100, d.hour % 100, d.minute % 100,
                   d.second % 100);
}

/* 2013-05-24T00:00:00Z */
static void
date_put_iso(struct buf *out, int64_t t)
{
    char stamp[DATE_STAMP];

    date_stamp(t, stamp);
    for (unsigned i = 0; stamp[i]; i++) {
        if (i == 4 || i == 6)
            buf_char(out, '-');
        if (i == 11 || i == 13)
            buf_char(out, ':');
        buf_char(out, stamp[i]);
    }
}

/* 2013-05-24T00:00:00.000Z, or without the fraction: lists and credentials. Only UTC:
 * what names another zone is refused, not converted. */
static bool
date_iso(struct span s, int64_t *t)
{
    struct date d;
    unsigned year;

    if (s.n < 20 || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[13] != ':' ||
        s.p[16] != ':' || !date_field(s, 0, 4, &year) || !date_field(s, 5, 2, &d.month) ||
        !date_field(s, 8, 2, &d.day) || !date_field(s, 11, 2, &d.hour) ||
        !date_field(s, 14, 2, &d.minute) || !date_field(s, 17, 2, &d.second))
        return false;
    d.year = year;
    s = span_after(s, 19);
    /* A fraction of any length is passed over: nothing here needs less than a second. */
    if (s.n > 1 && s.p[0] == '.' && s.p[1] >= '0' && s.p[1] <= '9')
        for (s = span_after(s, 1); s.n && s.p[0] >= '0' && s.p[0] <= '9';)
            s = span_after(s, 1);
    return (span_is(s, "Z") || span_is(s, "+00:00")) && date_time(d, t);
}

/* Fri, 24 May 2013 00:00:00 GMT: headers. The name of the day is not looked at. The two
 * older forms that HTTP allows are refused: no store sends them. */
static bool
date_http(struct span s, int64_t *t)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct date d;
    unsigned year;

    if (s.n != 29 || s.p[3] != ',' || s.p[4] != ' ' || s.p[7] != ' ' || s.p[11] != ' ' ||
        s.p[16] != ' ' || s.p[19] != ':' || s.p[22] != ':' ||
        !span_is(span_after(s, 25), " GMT") || !date_field(s, 5, 2, &d.day) ||
        !date_field(s, 12, 4, &year) || !date_field(s, 17, 2, &d.hour) ||
        !date_field(s, 20, 2, &d.minute) || !date_field(s, 23, 2, &d.second))
        return false;
    d.year = year;
    /* A name that is no month leaves 0, which date_time refuses. */
    d.month = 0;
    for (unsigned i = 0; i < 12; i++)
        if (span_eq(span_at(s.p + 8, 3), span_at(months + 3 * i, 3)))
            d.month = i + 1;
    return date_time(d, t);
}

/* The length of the UTF-8 character that s begins with; 0 when it begins with none.
 * Overlong forms, surrogates and values above 10FFFF are none. */
static size_t
utf8_length(struct span s)
{
    const unsigned char *u = (const unsigned char *)s.p;
    /* 80 to BF only continue a character, C0 and C1 could only begin overlong forms. */
    size_t n = !s.n          ? 0
               : u[0] < 0x80 ? 1
               : u[0] < 0xc2 ? 0
               : u[0] < 0xe0 ? 2
               : u[0] < 0xf0 ? 3
               : u[0] < 0xf5 ? 4
                             : 0;

    if (!n || n > s.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    /* Where the first byte leaves it open, the second tells: overlong after E0 and F0, a
     * surrogate after ED, beyond Unicode after F4. */
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
        (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return n;
}

/* False for what is no character: surrogates, and what lies beyond Unicode. Each byte but
 * the last is written if the character needs it, and begins as a lead byte if it is the
 * first of them. */
static bool
utf8_put(struct buf *b, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    if (c < 0x80) {
        buf_char(b, (char)c);
        return true;
    }
    if (c >= 0x10000)
        buf_char(b, (char)(0xf0 | c >> 18));
    if (c >= 0x800)
        buf_char(
            b, (char)((c < 0x10000 ? 0xe0 : 0x80) | (c >> 12 & (c < 0x10000 ? 15 : 63))));
    buf_char(b, (char)((c < 0x800 ? 0xc0 : 0x80) | (c >> 6 & (c < 0x800 ? 31 : 63))));
    buf_char(b, (char)(0x80 | (c & 63)));
    return true;
}

/* ===== ROOM 2 sums: digests and checksums, as fast as the CPU allows =====
 *
 * In: bytes in any slices. Out: a digest, or a checksum that can be joined with the
 * checksum of what follows. Owns what it found out about the CPU, and the tables of the
 * three CRCs: each is made once, on first use, and read-only from then on. To add
 * instructions, write the block function and one line in cpu_ask; the portable code
 * stays and is tested on every machine. To add a sum, give it a place in enum sum_kind
 * and in every list that has SUM_KINDS members; CRCs stand last, in the order of
 * crc_kinds.
 *
 * SHA-256 is what signatures are made of. MD5 and the CRCs are there because stores speak
 * them: they find accidents on the wire, on a disk or in a crash, not forgeries.
 */

enum { CPU_ASKED = 1, CPU_SHA = 2, CPU_CLMUL = 4 };

static unsigned cpu_found; /* 0 until asked, then CPU_ASKED and what is there */

/* What the fast functions below need. They use no register that an operating system would
 * have to save in a new way, so that the word of the CPU is enough. */
static unsigned
cpu_ask(void)
{
    unsigned found = CPU_ASKED;
#if defined(__x86_64__) || defined(__i386__)
    const unsigned ssse3 = 1u << 9, sse41 = 1u << 19, pclmul = 1u << 1, sha = 1u << 29;
    unsigned a, b, c, d;

    /* Both fast functions are compiled for these two as well. */
    if (__get_cpuid(1, &a, &b, &c, &d) && (c & (ssse3 | sse41)) == (ssse3 | sse41)) {
        if (c & pclmul)
            found |= CPU_CLMUL;
        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & sha)
            found |= CPU_SHA;
    }
#elif defined(__AARCH64EL__) /* the lanes are other ones where big ends come first */
    unsigned long caps = getauxval(AT_HWCAP);

    found |= caps & 1ul << 6 ? CPU_SHA : 0;   /* HWCAP_SHA2 */
    found |= caps & 1ul << 4 ? CPU_CLMUL : 0; /* HWCAP_PMULL */
#endif
    return found;
}

static bool
cpu_has(unsigned what)
{
    if (!cpu_found)
        cpu_found = cpu_ask();
    return cpu_found & what;
}

static uint32_t
sum_load32be(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t
sum_load32le(const unsigned char *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void
sum_store32be(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

static void
sum_store32le(unsigned char *p, uint32_t v)
{
    sum_store32be(p, v << 24 | (v & 0xff00) << 8 | (v >> 8 & 0xff00) | v >> 24);
}

static uint32_t
sum_ror(uint32_t v, unsigned by)
{
    return v >> by | v << (32 - by);
}

/* For secrets, too: the time that it takes does not tell where the first difference
 * is. */
static bool
sum_equal(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    unsigned differ = 0;

    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(x[i] ^ y[i]);
    return differ == 0;
}

#define SHA256_SIZE 32
#define MD5_SIZE    16
#define SUM_BLOCK   64 /* both digests eat blocks of this size */

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
 * They are aligned for loads of four words at once. */
static const uint32_t sha256_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

/* The word of the schedule that comes sixteen after w[i]; it may take its place, since
 * nobody needs the old one again. */
static uint32_t
sha256_word(const uint32_t w[16], unsigned i)
{
    uint32_t a = w[(i + 1) % 16], b = w[(i + 14) % 16];

    return w[i] + (sum_ror(a, 7) ^ sum_ror(a, 18) ^ a >> 3) + w[(i + 9) % 16] +
           (sum_ror(b, 17) ^ sum_ror(b, 19) ^ b >> 10);
}

/* Sixteen rounds at a time: unrolled, all indexes are constants, and the compiler keeps
 * the state in registers. */
static void
sha256_portable(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    uint32_t w[16], v[8];

    for (; blocks; blocks--, p += SUM_BLOCK) {
        memcpy(v, h, sizeof v);
        for (unsigned k = 0; k < 64; k += 16) {
#pragma GCC unroll 16
            for (unsigned i = 0; i < 16; i++)
                w[i] = k ? sha256_word(w, i) : sum_load32be(p + 4 * i);
#pragma GCC unroll 16
            for (unsigned i = 0; i < 16; i++) {
                /* The names turn, the words stay: what is a in this round is b in the
                 * next. */
                uint32_t a = v[(16 - i) % 8], b = v[(17 - i) % 8], c = v[(18 - i) % 8];
                uint32_t e = v[(20 - i) % 8], f = v[(21 - i) % 8], g = v[(22 - i) % 8];
                uint32_t t = v[(23 - i) % 8] + sha256_k[k + i] + w[i] +
                             (sum_ror(e, 6) ^ sum_ror(e, 11) ^ sum_ror(e, 25)) +
                             (g ^ (e & (f ^ g)));

                v[(19 - i) % 8] += t;
                v[(23 - i) % 8] = t + (sum_ror(a, 2) ^ sum_ror(a, 13) ^ sum_ror(a, 22)) +
                                  ((a & b) ^ (c & (a ^ b)));
            }
        }
        for (unsigned i = 0; i < 8; i++)
            h[i] += v[i];
    }
    explicit_bzero(w, sizeof w); /* either would give away a key that was the block */
    explicit_bzero(v, sizeof v);
}

#if defined(__x86_64__) || defined(__i386__)
/* Four rounds an instruction pair. The CPU wants the state as ABEF and CDGH. m[i % 4]
 * holds the four message words of step i, and each step prepares the one needed four
 * steps later; with the loop unrolled all of it stays in registers. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
sha256_fast(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    const __m128i swap =
        _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i lo =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)h), 0xb1);
    __m128i hi =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(lo, hi, 8), cdgh = _mm_blend_epi16(hi, lo, 0xf0);

    for (; blocks; blocks--, p += SUM_BLOCK) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i m[4];

        for (unsigned i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; i++) {
            const __m128i *k = (const __m128i *)(const void *)(sha256_k + 4 * i);
            __m128i wk = _mm_add_epi32(m[i % 4], _mm_load_si128(k));

            /* Two rounds each. They make the next ABEF, and what was ABEF is the next
             * CDGH: after both calls the names are right again, and no word was moved. */
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
            if (i < 12) /* the last four steps have nobody to prepare for */
                m[i % 4] = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(m[i % 4], m[(i + 1) % 4]),
                                  _mm_alignr_epi8(m[(i + 3) % 4], m[(i + 2) % 4], 4)),
                    m[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    lo = _mm_shuffle_epi32(abef, 0x1b);
    hi = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(lo, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(hi, lo, 8));
}
#elif defined(__aarch64__)
/* The same for ARMv8: four rounds a pair again, and the state as ABCD and EFGH. The
 * second half needs ABCD as it was before the first. */
#pragma GCC push_options
#pragma GCC target("+crypto")
static void
sha256_fast(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);

    for (; blocks; blocks--, p += SUM_BLOCK) {
        const uint32x4_t abcd0 = abcd, efgh0 = efgh;
        uint32x4_t m[4];

        for (unsigned i = 0; i < 4; i++)
            m[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (unsigned i = 0; i < 16; i++) {
            uint32x4_t wk = vaddq_u32(m[i % 4], vld1q_u32(sha256_k + 4 * i));
            uint32x4_t before = abcd;

            if (i < 12) /* the last four steps have nobody to prepare for */
                m[i % 4] = vsha256su1q_u32(vsha256su0q_u32(m[i % 4], m[(i + 1) % 4]),
                                           m[(i + 2) % 4], m[(i + 3) % 4]);
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, before, wk);
        }
        abcd = vaddq_u32(abcd, abcd0);
        efgh = vaddq_u32(efgh, efgh0);
    }
    vst1q_u32(h, abcd);
    vst1q_u32(h + 4, efgh);
}
#pragma GCC pop_options
#else
#define sha256_fast sha256_portable /* cpu_has(CPU_SHA) is false here */
#endif

static void
sha256_blocks(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    if (cpu_has(CPU_SHA))
        sha256_fast(h, p, blocks);
    else
        sha256_portable(h, p, blocks);
}

/* floor(2^32 * |sin(i + 1)|) */
static const uint32_t md5_k[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
    0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
    0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
    0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
    0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
    0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
    0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
    0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391};

/* The functions F, G, H and I of RFC 1321; the first two choose bits with one operation
 * less. */
static uint32_t
md5_mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
    switch (round) {
    case 0:
        return d ^ (b & (c ^ d));
    case 1:
        return c ^ (d & (b ^ c));
    case 2:
        return b ^ c ^ d;
    default:
        return c ^ (b | ~d);
    }
}

/* Here the names stay and the words turn, one place a round. turn says by how much words
 * are rotated; first and step say which of the sixteen a round takes, as RFC 1321 lists
 * them. */
static void
md5_blocks(uint32_t h[4], const unsigned char *p, size_t blocks)
{
    static const unsigned char turn[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    static const unsigned char first[4] = {0, 1, 5, 0}, step[4] = {1, 5, 3, 7};

    for (; blocks; blocks--, p += SUM_BLOCK) {
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], w[16];

        for (unsigned i = 0; i < 16; i++)
            w[i] = sum_load32le(p + 4 * i);
#pragma GCC unroll 64 /* then round, turn and the order of words are constants */
        for (unsigned i = 0; i < 64; i++) {
            unsigned round = i / 16;
            uint32_t t = a + md5_mix(round, b, c, d) + md5_k[i] +
                         w[(first[round] + step[round] * i) % 16];

            a = d;
            d = c;
            c = b;
            b += sum_ror(t, 32u - turn[round][i % 4]);
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
    }
}

/* One engine runs the three CRCs. All are reflected, so a 32-bit polynomial times x^32 is
 * a 64-bit one whose register keeps the old register in its low half: the same steps,
 * tables and folding serve every width. */
struct crc {
    uint64_t poly;       /* reflected: the highest power is bit 0 */
    uint64_t ones;       /* the register starts with these, and ends inverted by them */
    uint64_t fold[2][2]; /* x^n mod poly that carry 128 and 1024 bits on; made with t */
    uint64_t (*t)[256];  /* t[k][b]: byte b followed by k zero bytes; made on first use */
};

static uint64_t crc_tables[3][8][256]; /* 48 KiB that a file on disk need not hold */

static struct crc crc_kinds[] = {{.poly = 0xedb88320,
                                  .ones = UINT32_MAX,
                                  .t = crc_tables[0]}, /* CRC-32: zip, Ethernet */
                                 {.poly = 0x82f63b78,
                                  .ones = UINT32_MAX,
                                  .t = crc_tables[1]}, /* CRC-32C: Castagnoli */
                                 {.poly = 0x9a6c9329ac4bc9b5,
                                  .ones = UINT64_MAX,
                                  .t = crc_tables[2]}}; /* CRC-64/NVME */

/* Times x, modulo the polynomial. */
static uint64_t
crc_shift(const struct crc *k, uint64_t v)
{
    return v >> 1 ^ (v & 1 ? k->poly : 0);
}

/* x^n modulo the polynomial. */
static uint64_t
crc_power(const struct crc *k, unsigned n)
{
    uint64_t v = (uint64_t)1 << 63; /* x^0 */

    while (n--)
        v = crc_shift(k, v);
    return v;
}

/* a times b, modulo the polynomial: once for each bit of b, from x^0 up. Slow; only
 * crc_join needs it. */
static uint64_t
crc_times(const struct crc *k, uint64_t a, uint64_t b)
{
    uint64_t sum = 0;

    for (; b; b <<= 1) {
        if (b >> 63)
            sum ^= a;
        a = crc_shift(k, a);
    }
    return sum;
}

/* Makes the tables and the two constants for folding. The lower half of a lane stands 64
 * bits before the upper one, so it has to go that much further; and the product of two
 * reflected numbers comes out one bit short, which is why both powers are one less than
 * the distance. */
static void
crc_make(struct crc *k)
{
    for (unsigned i = 0; i < 2; i++) {
        k->fold[i][0] = crc_power(k, (i ? 1024 : 128) + 63);
        k->fold[i][1] = crc_power(k, (i ? 1024 : 128) - 1);
    }
    for (unsigned b = 0; b < 256; b++) {
        uint64_t v = b;

        for (unsigned i = 0; i < 8; i++)
            v = crc_shift(k, v);
        k->t[0][b] = v;
    }
    for (unsigned b = 0; b < 256; b++)
        for (unsigned i = 1; i < 8; i++)
            k->t[i][b] = k->t[i - 1][b] >> 8 ^ k->t[0][k->t[i - 1][b] & 255];
}

/* Eight bytes a step: each has a table that carries it over those that come after it. The
 * register is v, before and after. */
static uint64_t
crc_portable(const struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        v ^= (uint64_t)sum_load32le(p + 4) << 32 | sum_load32le(p);
        v = k->t[7][v & 255] ^ k->t[6][v >> 8 & 255] ^ k->t[5][v >> 16 & 255] ^
            k->t[4][v >> 24 & 255] ^ k->t[3][v >> 32 & 255] ^ k->t[2][v >> 40 & 255] ^
            k->t[1][v >> 48 & 255] ^ k->t[0][v >> 56];
    }
    for (; n; n--, p++)
        v = v >> 8 ^ k->t[0][(v ^ *p) & 255];
    return v;
}

/* Folding: 128 bits that stand d bits before others are replaced by their product with
 * x^d modulo the polynomial, which is no longer than they are, and added to the others.
 * Eight lanes leap over 128 bytes at a time. */
#if defined(__x86_64__) || defined(__i386__)
#define CRC_FAST __attribute__((target("pclmul,sse4.1")))
typedef __m128i crc_lane;

CRC_FAST static crc_lane
crc_load(const void *p)
{
    return _mm_loadu_si128(p);
}

CRC_FAST static void
crc_store(void *p, crc_lane a)
{
    _mm_storeu_si128(p, a);
}

CRC_FAST static crc_lane
crc_fold(crc_lane a, crc_lane k, crc_lane next)
{
    __m128i lo = _mm_clmulepi64_si128(a, k, 0x00), hi = _mm_clmulepi64_si128(a, k, 0x11);

    return _mm_xor_si128(_mm_xor_si128(lo, hi), next);
}
#elif defined(__aarch64__)
#define CRC_FAST __attribute__((target("+crypto")))
typedef uint64x2_t crc_lane;

CRC_FAST static crc_lane
crc_load(const void *p)
{
    return vreinterpretq_u64_u8(vld1q_u8(p));
}

CRC_FAST static void
crc_store(void *p, crc_lane a)
{
    vst1q_u8(p, vreinterpretq_u8_u64(a));
}

CRC_FAST static crc_lane
crc_fold(crc_lane a, crc_lane k, crc_lane next)
{
    poly128_t lo = vmull_p64(vgetq_lane_u64(a, 0), vgetq_lane_u64(k, 0));
    poly128_t hi = vmull_p64(vgetq_lane_u64(a, 1), vgetq_lane_u64(k, 1));

    return veorq_u64(veorq_u64(vreinterpretq_u64_p128(lo), vreinterpretq_u64_p128(hi)),
                     next);
}
#endif

#ifdef CRC_FAST
#define CRC_FAST_FROM 256 /* below this many bytes the tables win */

/* n is a multiple of 16 and at least CRC_FAST_FROM. A product takes the CPU several
 * cycles; eight lanes that do not wait for each other fill them. What is folded down to
 * 16 bytes has the remainder of all that it stands for, so the tables finish with a
 * register of 0. */
CRC_FAST static uint64_t
crc_fast(const struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    const crc_lane one = crc_load(k->fold[0]), eight = crc_load(k->fold[1]);
    const uint64_t start[2] = {v, 0};
    unsigned char last[16];
    crc_lane x[8];

    for (unsigned i = 0; i < 8; i++)
        x[i] = crc_load(p + 16 * i);
    /* The register is added to the first bytes, as if it stood before them. */
    x[0] ^= crc_load(start);
    for (p += 128, n -= 128; n >= 128; p += 128, n -= 128)
        for (unsigned i = 0; i < 8; i++)
            x[i] = crc_fold(x[i], eight, crc_load(p + 16 * i));
    for (unsigned i = 1; i < 8; i++)
        x[0] = crc_fold(x[0], one, x[i]);
    for (; n; p += 16, n -= 16)
        x[0] = crc_fold(x[0], one, crc_load(p));
    crc_store(last, x[0]);
    return crc_portable(k, 0, last, sizeof last);
}
#else
#define CRC_FAST_FROM SIZE_MAX
#define crc_fast      crc_portable /* cpu_has(CPU_CLMUL) is false here */
#endif

/* The register after n more bytes; before the first it is k->ones. The first call for a
 * kind makes its tables; t[0][1] is 0 only while there are none. */
static uint64_t
crc_add(struct crc *k, uint64_t v, const unsigned char *p, size_t n)
{
    if (!k->t[0][1])
        crc_make(k);
    if (n >= CRC_FAST_FROM && cpu_has(CPU_CLMUL)) {
        v = crc_fast(k, v, p, n - n % 16);
        p += n - n % 16;
        n %= 16;
    }
    return crc_portable(k, v, p, n);
}

/* The checksum of A and B in one, from theirs, as sum_end writes them, and the length of
 * B: A is moved on by x^(8 length), in as many steps as the length has bits. So the sum
 * of a whole file comes from those of its parts, in any order of arrival, without reading
 * it again. */
static uint64_t
crc_join(const struct crc *k, uint64_t a, uint64_t b, uint64_t length)
{
    uint64_t by = (uint64_t)1 << 55; /* x^8: one byte, then two, four, eight */

    for (; length; length >>= 1) {
        if (length & 1)
            a = crc_times(k, a, by);
        by = crc_times(k, by, by);
    }
    return a ^ b;
}

/* The sums that stores know, behind one door: sum_init, sum_add for as many slices as
 * there are, sum_end once. */
enum sum_kind { SUM_MD5, SUM_SHA256, SUM_CRC32, SUM_CRC32C, SUM_CRC64NVME, SUM_KINDS };

static const struct {
    const char *name; /* as in --checksum, and in x-amz-checksum-NAME */
    size_t size;      /* bytes of the result */
} sum_kinds[SUM_KINDS] = {{"md5", MD5_SIZE},
                          {"sha256", SHA256_SIZE},
                          {"crc32", 4},
                          {"crc32c", 4},
                          {"crc64nvme", 8}};

struct sum {
    enum sum_kind kind;
    uint32_t h[8];                 /* a digest's state after all whole blocks */
    uint64_t crc;                  /* a CRC's register */
    uint64_t n;                    /* bytes so far */
    unsigned char rest[SUM_BLOCK]; /* a digest's first n % 64 bytes of the next block */
};

/* NULL for a digest. */
static struct crc *
sum_crc(enum sum_kind kind)
{
    return kind >= SUM_CRC32 ? &crc_kinds[kind - SUM_CRC32] : NULL;
}

static void
sum_init(struct sum *s, enum sum_kind kind)
{
    static const uint32_t md5[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    /* The first 32 bits of the fractional parts of the square roots of eight primes. */
    static const uint32_t sha256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    *s = (struct sum){.kind = kind};
    if (kind == SUM_MD5)
        memcpy(s->h, md5, sizeof md5);
    else if (kind == SUM_SHA256)
        memcpy(s->h, sha256, sizeof sha256);
    else
        s->crc = sum_crc(kind)->ones;
}

static void
sum_blocks(struct sum *s, const unsigned char *p, size_t blocks)
{
    if (s->kind == SUM_MD5)
        md5_blocks(s->h, p, blocks);
    else
        sha256_blocks(s->h, p, blocks);
}

static void
sum_add(struct sum *s, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t have = s->n % SUM_BLOCK, take = SUM_BLOCK - have;

    if (!n)
        return; /* p may be NULL then, which memcpy must not get */
    s->n += n;
    if (sum_crc(s->kind)) {
        s->crc = crc_add(sum_crc(s->kind), s->crc, p, n);
        return;
    }
    if (have && n) { /* a block that was begun is filled up first */
        take = take < n ? take : n;
        memcpy(s->rest + have, p, take);
        if (have + take < SUM_BLOCK)
            return;
        sum_blocks(s, s->rest, 1);
        p += take;
        n -= take;
    }
    sum_blocks(s, p, n / SUM_BLOCK);
    if (n % SUM_BLOCK)
        memcpy(s->rest, p + n / SUM_BLOCK * SUM_BLOCK, n % SUM_BLOCK);
}

/* Both digests end alike: a one bit, zeros, the length in bits; SHA-256 is big-endian,
 * MD5 little-endian. If the length has no room behind the rest, it gets a block of its
 * own. Writes the digest to out. */
static void
sum_end_digest(struct sum *s, unsigned char *out)
{
    void (*store)(unsigned char *, uint32_t) =
        s->kind == SUM_MD5 ? sum_store32le : sum_store32be;
    size_t have = s->n % SUM_BLOCK;
    uint32_t high = (uint32_t)(s->n >> 29), low = (uint32_t)(s->n << 3);

    s->rest[have++] = 0x80;
    memset(s->rest + have, 0, SUM_BLOCK - have);
    if (have > SUM_BLOCK - 8) {
        sum_blocks(s, s->rest, 1);
        memset(s->rest, 0, SUM_BLOCK);
    }
    /* The 64 bits of the length have the order of the digest, too. */
    store(s->rest + 56, s->kind == SUM_MD5 ? low : high);
    store(s->rest + 60, s->kind == SUM_MD5 ? high : low);
    sum_blocks(s, s->rest, 1);
    for (size_t i = 0; i < sum_kinds[s->kind].size / 4; i++)
        store(out + 4 * i, s->h[i]);
}

/* Writes sum_kinds[kind].size bytes, a CRC with its highest byte first as stores write
 * them, and wipes the state: it may have seen a key. Only sum_init makes it usable
 * again. */
static void
sum_end(struct sum *s, unsigned char *out)
{
    const struct crc *k = sum_crc(s->kind);

    if (k) {
        s->crc ^= k->ones;
        if (k->ones > UINT32_MAX) {
            sum_store32be(out, (uint32_t)(s->crc >> 32));
            out += 4;
        }
        sum_store32be(out, (uint32_t)s->crc);
    } else {
        sum_end_digest(s, out);
    }
    explicit_bzero(s, sizeof *s);
}

/* The digest of what lies in memory as a whole. */
static void
sha256_of(struct span s, unsigned char out[SHA256_SIZE])
{
    struct sum sum;

    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, s.p, s.n);
    sum_end(&sum, out);
}

/* HMAC-SHA256, by RFC 2104. out may be the key itself, as in a chain of keys: it is
 * written last. All that could give the key away is wiped. */
static void
hmac_of(const void *key, size_t n, struct span text, unsigned char out[SHA256_SIZE])
{
    unsigned char pad[SUM_BLOCK] = {0}, inner[SHA256_SIZE];
    struct sum sum;

    if (n > sizeof pad)
        sha256_of(span_at(key, n), pad);
    else if (n)
        memcpy(pad, key, n);
    for (unsigned i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad, sizeof pad);
    sum_add(&sum, text.p, text.n);
    sum_end(&sum, inner);
    for (unsigned i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c; /* takes the inner one off */
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad, sizeof pad);
    sum_add(&sum, inner, sizeof inner);
    sum_end(&sum, out);
    explicit_bzero(pad, sizeof pad);
    explicit_bzero(inner, sizeof inner);
}

/* ===== ROOM 3 system: the first failure, messages, clock, random, files, signals =====
 *
 * In: what the kernel says. Out: plain results, and a struct fail when there are none.
 * Owns how messages look, the flags that signals set, and the pulse: the only variables
 * that a signal, an option or a run changes. All that differs between kernels is here,
 * behind one function each: Linux 3.2 is enough, newer calls are tried first.
 *
 * A function that says why takes a struct fail and returns 0, a descriptor, or -1; one
 * that does not leaves the reason in errno, and takes care that closing something does
 * not change it. A call that a signal interrupts goes on, unless the signal is a stop.
 * What is opened here is closed on exec. A path that the user gave is opened as it is;
 * what lies below a folder that others may write to is reached by os_walk. To add a
 * call that kernels differ in, give it a function here, with what is done where it fails.
 */

/* Why something did not work: the first reason, in words for a person. It begins as
 * {S3UP_OK, ""}, and then belongs to one attempt: whoever can go on after a failure gives
 * the attempt one of its own, since what is set once stays. */
struct fail {
    enum s3up_exit code;  /* S3UP_OK while nothing failed */
    char text[FAIL_TEXT]; /* what, which one, why, and where known what to do */
};

/* Blots out what gives rights in a presigned address or a signed head, wherever in a
 * message it stands: it may have come from a user's command line, or from a store. */
static void
fail_blot(char *text)
{
    static const char *const proofs[] = {
        "Signature=", "X-Amz-Security-Token=", "X-Amz-Credential="};

    for (size_t i = 0; i < sizeof proofs / sizeof *proofs; i++)
        for (char *at = text; (at = strstr(at, proofs[i])) != NULL;)
            for (at += strlen(proofs[i]); *at && !strchr("& \":", *at); at++)
                *at = '*';
}

/* Keeps the first failure; later ones are its consequences. Always returns -1, so that
 * `return fail_set(...)` says all. A text that is too long, as with a path in it, loses
 * its middle. Secrets are blotted out before that: a cut could part one from the name by
 * which it is known. The text may hold f's own: it is put together beside it. */
__attribute__((format(printf, 3, 4))) static int
fail_set(struct fail *f, enum s3up_exit code, const char *form, ...)
{
    char whole[4 * FAIL_TEXT] = "";
    size_t n, half = sizeof f->text / 2;
    va_list args;

    if (f->code != S3UP_OK)
        return -1;
    f->code = code;
    va_start(args, form);
    (void)vsnprintf(whole, sizeof whole, form, args);
    va_end(args);
    fail_blot(whole);
    n = strlen(whole);
    if (n >= sizeof f->text) { /* cut in its middle: the reason stands at the end */
        memmove(whole + half + 3, whole + n - half + 4, half - 3);
        memcpy(whole + half, "...", 3);
        n = strlen(whole);
    }
    memcpy(f->text, whole, n + 1);
    return -1;
}

/* What an errno means for the caller of the program. */
static enum s3up_exit
fail_exit(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return S3UP_MISSING;
    case EACCES:
    case EPERM:
    case EROFS:
        return S3UP_DENIED;
    case EEXIST:
        return S3UP_EXISTS;
    case EINTR:
        return S3UP_INTERRUPTED;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO: /* a socket, or a device that is not there */
        return S3UP_USAGE;
    default:
        return S3UP_LATER; /* no space, no memory, no descriptor: may be gone tomorrow */
    }
}

/* For a system call that failed: doing what, to what, and errno's reason. errno is read
 * first: whatever is called here may change it. */
static int
fail_sys(struct fail *f, const char *doing, const char *what)
{
    int error = errno, n = (int)span_first(span_of(what), PATH_MAX).n;

    return fail_set(f, fail_exit(error), "cannot %s %.*s%s: %s", doing, n, what,
                    what[n] ? "..." : "", strerror(error));
}

/* What is said goes to stderr, one line each. The more important, the lower. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_DEBUG };

static enum log_level log_most = LOG_NOTE; /* -q lowers it, -v raises it */

static bool log_dated; /* lines are for a log file: with time and level */

static bool log_drawn; /* a line that is drawn over and over stands on the terminal */

static volatile sig_atomic_t os_stop;  /* 0, or the signal that asked us to stop */
static volatile sig_atomic_t os_asked; /* somebody wants to know how it goes */

/* What the owner of this process does now and then, also while it waits for others:
 * redraw, count, answer a question. Whoever waits calls os_beat, a few times a second at
 * least. It is a pointer since those who wait stand in lower rooms than what is to be
 * done; a worker has none. */
static struct {
    void (*beat)(void *owner); /* or NULL */
    void *owner;
} os_pulse;

static void
os_beat(void)
{
    if (os_pulse.beat)
        os_pulse.beat(os_pulse.owner);
}

/* Did a call fail only because of a signal that is no stop? Then it is to be repeated. A
 * stop ends it: a full pipe, or a FIFO that nobody opens, could hold us for ever. */
static bool
os_again(void)
{
    return errno == EINTR && !os_stop;
}

/* As many files may be open as this process is allowed at all: files that are joined are
 * all open at once, and the limit that is usual is meant for programs that use select. */
static void
os_open_many(void)
{
    struct rlimit most;

    if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
        most.rlim_cur = most.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &most); /* if not, the open that fails tells */
    }
}

/* Writes all of it, or false and errno. A write that a signal interrupts goes on, unless
 * the signal is a stop. To place `at`, or where the descriptor stands if that is
 * negative. What was written before a failure stays: whoever minds takes it back. */
static bool
os_write_at(int fd, const void *data, size_t n, int64_t at)
{
    const char *p = data;

    while (n) {
        ssize_t did = at < 0 ? write(fd, p, n) : pwrite(fd, p, n, (off_t)at);

        if (did < 0 && os_again())
            continue;
        if (did <= 0) {
            errno = did ? errno : ENOSPC; /* nothing written, and no reason given */
            return false;
        }
        p += did;
        n -= (size_t)did;
        at = at < 0 ? at : at + did;
        if (n && os_stop) { /* the rest would wait as the signal found us waiting */
            errno = EINTR;
            return false;
        }
    }
    return true;
}

static bool
os_write(int fd, const void *data, size_t n)
{
    return os_write_at(fd, data, n, -1);
}

/* Text for a person: control characters are shown, not sent, so that a name can neither
 * break its line nor move the cursor of the terminal that it is shown on. */
static void
log_put_plain(struct buf *out, struct span s)
{
    for (size_t n; s.n; s = span_after(s, n)) {
        size_t length = utf8_length(s);
        /* U+0080 to U+009F, and such bytes alone: there are terminals that obey them. */
        unsigned char c = (unsigned char)s.p[length == 2 && s.p[0] == '\xc2'];
        bool control = c < ' ' || c == 127 || (c >= 0x80 && c < 0xa0);

        n = length ? length : 1;
        if (!control)
            buf_put(out, span_first(s, n));
        for (size_t i = 0; i < n && control; i++) {
            buf_str(out, "\\x");
            hex_put(out, s.p + i, 1);
        }
    }
}

/* What stands before a message: "2020-11-15 20:31:40,717 -   INFO - ", as a log has it,
 * in the time of this place; or our name. */
static void
log_put_begin(struct buf *line, enum log_level level)
{
    static const char *const marks[] = {"error: ", "warning: ", "", ""};
    static const char *const names[] = {"ERROR", "WARNING", "INFO", "DEBUG"};
    struct timespec now = {0};
    struct tm at = {0};
    char text[80];

    if (!log_dated) {
        buf_str(line, "s3up: ");
        buf_str(line, marks[level]);
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &at);
    (void)snprintf(text, sizeof text, "%04d-%02d-%02d %02d:%02d:%02d,%03d - %6s - ",
                   at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour, at.tm_min,
                   at.tm_sec, (int)(now.tv_nsec / 1000000), names[level]);
    buf_str(line, text);
}

/* One message is one line and one write, so that those of other processes cannot come in
 * between. A line that is drawn is wiped first; whoever draws it will do so again, below
 * the message. */
__attribute__((format(printf, 2, 3))) static void
log_say(enum log_level level, const char *form, ...)
{
    static const char none[] = "s3up: error: there is no memory, not even to say more\n";
    char raw[FAIL_TEXT + 256];
    struct buf line = buf_upto(8 * sizeof raw); /* a byte is shown as four at most */
    va_list args;

    if (level > log_most)
        return;
    va_start(args, form);
    (void)vsnprintf(raw, sizeof raw, form, args);
    va_end(args);
    fail_blot(raw);
    if (log_drawn)
        buf_str(&line, LOG_WIPE);
    log_drawn = false;
    log_put_begin(&line, level);
    log_put_plain(&line, span_of(raw));
    buf_char(&line, '\n');
    if (line.bad)
        (void)os_write(STDERR_FILENO, none, sizeof none - 1);
    else
        (void)os_write(STDERR_FILENO, line.p, line.n); /* nobody left to tell */
    buf_free(&line);
}

/* Draws a line over the one that was drawn before; an empty one only wipes that. */
static void
log_draw(struct span text)
{
    struct buf line = buf_upto(OS_SMALL);

    if (log_drawn || text.n) {
        buf_str(&line, LOG_WIPE);
        buf_put(&line, text);
        (void)os_write(STDERR_FILENO, line.p, line.n);
    }
    log_drawn = text.n > 0;
    buf_free(&line);
}

static void
log_fail(const struct fail *f)
{
    log_say(LOG_ERROR, "%s", f->text);
}

/* A moment, to the nanosecond, as file systems note it. */
struct os_time {
    int64_t s;  /* seconds since 1970 */
    int32_t ns; /* 0 to 999,999,999 */
};

static bool
os_earlier(const struct os_time *a, const struct os_time *b)
{
    return a->s < b->s || (a->s == b->s && a->ns < b->ns);
}

/* By the clock of the day, which can be wrong, and jump. For ages and dates; how long
 * something takes is for os_ticks. */
static struct os_time
os_now(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for a clock that exists */
    return (struct os_time){t.tv_sec, (int32_t)t.tv_nsec};
}

/* Milliseconds that only ever grow: for deadlines, which a corrected clock must not move.
 * They stand still while the machine sleeps. */
static int64_t
os_ticks(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Milliseconds, too, that go on while the machine sleeps: a file that nobody touched all
 * night was left alone, whether or not there was power. */
static int64_t
os_boot(void)
{
    struct timespec t = {0};

    if (clock_gettime(CLOCK_BOOTTIME, &t) != 0) /* Linux before 2.6.39 */
        return os_ticks();
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Up to n bytes, fewer only at the end of the file; -1 and errno on an error, also if
 * some had come. From place `at`, without moving the file's offset, since workers share
 * it; or from the offset if at is negative. */
static ssize_t
os_read(int fd, void *data, size_t n, int64_t at)
{
    char *p = data;
    size_t have = 0;

    while (have < n) {
        ssize_t did = at < 0 ? read(fd, p + have, n - have)
                             : pread(fd, p + have, n - have, (off_t)(at + (int64_t)have));

        if (did < 0 && os_again()) /* a pipe that nobody writes to can be left */
            continue;
        if (did < 0)
            return -1;
        if (did == 0)
            break;
        have += (size_t)did;
    }
    return (ssize_t)have;
}

/* A descriptor, or -1 and errno. To open can take long: a FIFO, a network file system, a
 * lease that somebody has on the file. Only a stop ends that. */
static int
os_open_in(int folder, const char *name, int flags, mode_t mode)
{
    int fd;

    do
        fd = openat(folder, name, flags | O_CLOEXEC, mode);
    while (fd < 0 && os_again());
    return fd;
}

static int
os_open(const char *path, int flags, mode_t mode)
{
    return os_open_in(AT_FDCWD, path, flags, mode);
}

/* Opens the folder of a tree that the last component of a path lies in, or -1 and errno.
 * The way there is gone one component at a time, and no link is followed: whoever may
 * write into the tree cannot lead us out of it. Neither may a component be empty, . or ..
 * on the way. The last one is not looked at; a name in the descriptor's folder is for the
 * *at calls, which are told to follow no link either. make: folders that are missing are
 * made; another run may make them at the same time. The descriptor is the caller's. */
static int
os_walk(int root, const char *path, bool make)
{
    /* O_PATH: a folder that may be entered but not listed will do. */
    int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
    int at = os_open_in(root, ".", flags, 0), below, why;
    char name[NAME_MAX + 1];
    const char *slash;

    for (; at >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        size_t n = (size_t)(slash - path);

        below = -1; /* and why, if the name is not even tried */
        errno = n > NAME_MAX ? ENAMETOOLONG : EINVAL;
        if (n && n <= NAME_MAX) {
            memcpy(name, path, n);
            name[n] = 0;
            if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
                below = os_open_in(at, name, flags, 0);
            /* What was made is opened like what was found: it may be a link by then. */
            if (below < 0 && errno == ENOENT && make &&
                (mkdirat(at, name, 0777) == 0 || errno == EEXIST))
                below = os_open_in(at, name, flags, 0);
        }
        why = errno;
        (void)close(at);
        errno = why;
        at = below;
    }
    return at;
}

/* Renames a file unless the name is taken, in one step: there is no moment at which
 * somebody else's file could be lost. False and errno if it is, or if this kernel or file
 * system cannot: then the caller has another way. */
static bool
os_rename_new(int from, const char *old, int to, const char *name)
{
#ifdef SYS_renameat2
    return syscall(SYS_renameat2, from, old, to, name, 1U) == 0; /* RENAME_NOREPLACE */
#else
    errno = ENOSYS;
    return false;
#endif
}

/* A walk through a tree of folders, entry by entry, in whatever order they lie there.
 * os_tree_enter begins it, at a folder that is open; os_tree_next gives one entry after
 * the other; os_tree_descend goes into the one at hand; os_tree_close may end it at any
 * time. Before it begins, path has its ceiling, follow is as wished, and all else is 0. A
 * folder on the way down costs a descriptor; memory does not grow with what lies in
 * it. */
struct os_tree {
    struct os_level {
        DIR *dir; /* ours to close; with it goes the descriptor */
        size_t n; /* bytes of the path that lead here */
        dev_t device;
        ino_t inode;   /* both: to find a link that leads back to a folder above */
    } level[OS_DEPTH]; /* the folders that are open, from the root down */
    unsigned depth;    /* how many; 0: there is nothing left to see */
    bool follow;       /* links */
    struct buf path;   /* of the entry, from the root on */
    struct stat info;  /* what it is; good only after a 1 of os_tree_next */
};

/* Goes into a folder; false and errno if that is refused. A link is not followed, also if
 * the entry was a folder when it was looked at: somebody may have replaced it since. But
 * the root is taken as it was given. With follow, a link can lead back up, and the walk
 * would never end: a folder that is open already is refused. */
static bool
os_tree_enter(struct os_tree *t, int parent, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | (t->follow || !t->depth ? 0 : O_NOFOLLOW);
    struct os_level *l = &t->level[t->depth];
    struct stat info;
    int fd, why;

    /* Whatever lies in it must have room in the path. A path that had become bad would be
     * cut to nothing, and what comes after it would lose its folder's name. */
    errno = ENAMETOOLONG;
    fd = t->depth < OS_DEPTH && t->path.max - t->path.n > NAME_MAX + 1
             ? os_open_in(parent, name, flags, 0)
             : -1;
    if (fd < 0)
        return false;
    *l = (struct os_level){.dir = NULL};
    if (fstat(fd, &info) == 0) {
        *l = (struct os_level){fdopendir(fd), t->path.n, info.st_dev, info.st_ino};
        for (unsigned i = 0; i < t->depth && t->follow && l->dir; i++)
            if (t->level[i].inode == l->inode && t->level[i].device == l->device) {
                errno = ELOOP;
                (void)closedir(l->dir);
                return false;
            }
    }
    if (l->dir) {
        t->depth++;
        return true;
    }
    why = errno;
    (void)close(fd);
    errno = why;
    return false;
}

/* Goes into the folder that the entry at hand is: to be called before the next
 * os_tree_next. */
static bool
os_tree_descend(struct os_tree *t)
{
    const struct os_level *l = &t->level[t->depth - 1];

    return os_tree_enter(t, dirfd(l->dir), t->path.p + l->n + (l->n != 0));
}

/* The next entry: 1; -1 and errno: it, or the folder that it is in, cannot be read, and
 * path says which; 0: there are no more. The walk goes on after a -1: one folder that is
 * refused does not hide the others. A folder is entered only if os_tree_descend is
 * called. */
static int
os_tree_next(struct os_tree *t)
{
    while (t->depth) {
        struct os_level *l = &t->level[t->depth - 1];
        struct dirent *entry;

        if (!t->path.bad)
            buf_cut(&t->path, l->n);
        /* Only errno tells a folder's end from a failure. */
        errno = 0;
        entry = readdir(l->dir);
        if (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")))
            continue;
        if (!entry) {
            int why = errno;

            (void)closedir(l->dir);
            t->depth--;
            errno = why;
            if (why)
                return -1;
            continue;
        }
        if (l->n)
            buf_char(&t->path, '/');
        buf_str(&t->path, entry->d_name);
        errno = ENAMETOOLONG; /* if the path is bad; fstatat has reasons of its own */
        return !t->path.bad && fstatat(dirfd(l->dir), entry->d_name, &t->info,
                                       t->follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0
                   ? 1
                   : -1;
    }
    return 0;
}

static void
os_tree_close(struct os_tree *t)
{
    while (t->depth)
        (void)closedir(t->level[--t->depth].dir);
    buf_free(&t->path);
}

/* What a folder says about its files survives a power cut from now on: a new name, or one
 * that is gone, is on disk only when its folder is. Some network file systems cannot tell
 * (EINVAL), and that counts as done. */
static bool
os_sync_in(int folder)
{
    int fd = os_open_in(folder, ".", O_RDONLY | O_DIRECTORY, 0);
    bool good;

    if (fd < 0)
        return false;
    good = fsync(fd) == 0 || errno == EINVAL;
    (void)close(fd);
    return good;
}

/* Bytes that nobody can guess, or false: never weaker ones. Early at boot it waits until
 * the kernel has some. */
static bool
os_random(void *data, size_t n)
{
    char *p = data;
    ssize_t did;
    int fd;

    while (n && (did = getrandom(p, n, 0)) != 0) {
        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            break; /* ENOSYS: a kernel before 3.17 has the device only */
        p += did;
        n -= (size_t)did;
    }
    if (!n)
        return true;
    fd = os_open("/dev/urandom", O_RDONLY, 0);
    if (fd < 0)
        return false;
    did = os_read(fd, p, n, -1);
    (void)close(fd);
    return did == (ssize_t)n;
}

/* The rest of what a descriptor gives, up to the buffer's ceiling, behind what is in the
 * buffer. f must be clean, since it tells whether all went well. What was read on the way
 * is wiped, as it may be keys. */
static int
os_slurp_fd(int fd, const char *path, struct buf *out, struct fail *f)
{
    char piece[4096];
    ssize_t did = 0;

    while (!out->bad && (did = os_read(fd, piece, sizeof piece, -1)) > 0)
        buf_add(out, piece, (size_t)did);
    if (did < 0)
        (void)fail_sys(f, "read", path);
    else if (out->bad)
        (void)fail_set(f, fail_exit(out->bad == E2BIG ? EINVAL : ENOMEM),
                       "cannot read %s: it is larger than %zu bytes, or memory ran out",
                       path, out->max);
    explicit_bzero(piece, sizeof piece);
    return f->code == S3UP_OK ? 0 : -1;
}

/* The rest of one file goes into another, each from where it stands. path is that of the
 * copy, for messages. The copy is not synced. */
static int
os_copy(int from, int to, const char *path, struct fail *f)
{
    char piece[4096];
    ssize_t did;

    while ((did = os_read(from, piece, sizeof piece, -1)) > 0)
        if (!os_write(to, piece, (size_t)did))
            return fail_sys(f, "write", path);
    return did == 0 ? 0 : fail_sys(f, "read for", path);
}

/* The whole of a small file. */
static int
os_slurp(const char *path, struct buf *out, struct fail *f)
{
    int fd = os_open(path, O_RDONLY, 0), rc;

    if (fd < 0)
        return fail_sys(f, "open", path);
    rc = os_slurp_fd(fd, path, out, f);
    (void)close(fd); /* it was only read */
    return rc;
}

/* Makes a folder, and those that it lies in. True if they were there; also if it is no
 * folder that has the name: who opens it will see. A parent on a file system that is
 * read-only may be refused as such though it is there, so that this counts for the last
 * one only. */
static bool
os_make_folders(const char *path, mode_t mode)
{
    char head[PATH_MAX];
    size_t n = strlen(path);

    if (n >= sizeof head) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (size_t i = 1; i <= n; i++) { /* from 1: the root need not be made */
        if (path[i] && path[i] != '/')
            continue;
        memcpy(head, path, i);
        head[i] = 0;
        if (mkdir(head, mode) != 0 && errno != EEXIST && (!path[i] || errno != EROFS))
            return false;
    }
    return true;
}

/* The folder that a path lies in, for the caller to close; -1 and errno if there is none.
 * A path without a slash lies in the current one. Links on the way are followed: the path
 * is the user's own. */
static int
os_open_folder(const char *path, int flags)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;

    if (n >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(folder, n ? path : ".", n ? n : 1);
    folder[n ? n : 1] = 0;
    return os_open(folder, flags | O_DIRECTORY, 0);
}

/* os_sync_in, by the path of a file in the folder. */
static bool
os_sync_folder(const char *path)
{
    int folder = os_open_folder(path, O_RDONLY);
    bool good = folder >= 0 && os_sync_in(folder);

    if (folder >= 0)
        (void)close(folder);
    return good;
}

/* A new file beside path, open for writing, under a name that nobody can foresee or has
 * prepared; the descriptor, or -1. It lies beside path since only a rename within a file
 * system is one step. name is empty at first, gets the path of the new file, and stays
 * the caller's. Of a name that leaves no room for more, only the beginning is taken. */
static int
os_temp(const char *path, mode_t mode, struct buf *name, struct fail *f)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    unsigned char token[8];
    int fd = -1;

    if (n > NAME_MAX - 1 - 2 * sizeof token)
        for (n = NAME_MAX - 1 - 2 * sizeof token; n && (base[n] & 0xc0) == 0x80;)
            n--; /* not into the middle of a character */
    buf_put(name, span_at(path, (size_t)(base - path) + n));
    buf_char(name, '.');
    if (!os_random(token, sizeof token))
        return fail_sys(f, "find random numbers for", path);
    hex_put(name, token, sizeof token);
    if (name->bad) {
        errno = name->bad == E2BIG ? ENAMETOOLONG : ENOMEM;
        return fail_sys(f, "write", path);
    }
    fd = os_open(name->p, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    return fd < 0 ? fail_sys(f, "write", path) : fd;
}

/* Gives path new contents, all or nothing: readers see the old file or the new one, also
 * after a crash. The order does it: the bytes are on disk before the name stands for
 * them, and the folder is on disk before anybody is told. A crash on the way can leave
 * the new file beside it, under its other name. It has mode, less the umask, and our
 * owner. */
static int
os_replace(const char *path, struct span data, mode_t mode, struct fail *f)
{
    struct buf temp = buf_upto(PATH_MAX);
    int fd = os_temp(path, mode, &temp, f), rc = fd < 0 ? -1 : 0;

    if (rc == 0 && (!os_write(fd, data.p, data.n) || fsync(fd) != 0))
        rc = fail_sys(f, "write", path);
    if (fd >= 0 && close(fd) != 0 && rc == 0) /* a network file system may say it here */
        rc = fail_sys(f, "write", path);
    if (rc == 0 && (rename(buf_text(&temp), path) != 0 || !os_sync_folder(path)))
        rc = fail_sys(f, "write", path);
    if (rc < 0 && fd >= 0)
        (void)unlink(buf_text(&temp)); /* gone already if only the last step failed */
    buf_free(&temp);
    return rc;
}

/* Which file a descriptor stands for, and in which state. Device and inode tell files
 * apart while they exist; a new file may get the number of one that was removed, which is
 * why size and times belong to it. */
struct os_id {
    uint64_t device, inode;
    int64_t size;
    /* modified is of the content, and whoever owns the file can set it back; changed is
     * of anything about the file, and only the kernel sets it. */
    struct os_time modified, changed;
};

static struct os_id
os_id_of(const struct stat *info)
{
    return (struct os_id){
        (uint64_t)info->st_dev,
        (uint64_t)info->st_ino,
        info->st_size,
        {info->st_mtim.tv_sec, (int32_t)info->st_mtim.tv_nsec},
        {info->st_ctim.tv_sec, (int32_t)info->st_ctim.tv_nsec},
    };
}

/* False and errno: *id is as it was. */
static bool
os_identify(int fd, struct os_id *id)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return false;
    *id = os_id_of(&info);
    return true;
}

/* The same file with, as far as anybody can tell, the same content. A change of mode or
 * name moves only `changed`, and is none. */
static bool
os_same(const struct os_id *a, const struct os_id *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified.s == b->modified.s && a->modified.ns == b->modified.ns;
}

/* And nothing else about it was changed, not even a name. */
static bool
os_untouched(const struct os_id *a, const struct os_id *b)
{
    return os_same(a, b) && a->changed.s == b->changed.s &&
           a->changed.ns == b->changed.ns;
}

/* Asks the kernel to hold up whoever opens the file for writing from now on. 1: granted,
 * so nobody has it open so; 0: somebody has; -1: it grants none here, as for a file of
 * another user. NFS and SMB say the same of every file whose server has promised nothing
 * about it.
 *
 * A lease needs a descriptor that only reads, and ends when that is closed. Somebody who
 * opens the file for writing meanwhile waits until then, or until the kernel loses
 * patience: so whoever relies on it asks, right before the step that counts, whether it
 * is still there. */
static int
os_lease(int fd)
{
    struct statfs info;

    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
        return 1;
    if ((errno != EAGAIN && errno != EBUSY) || fstatfs(fd, &info) != 0)
        return -1;
    return (uint32_t)info.f_type == 0x6969 || (uint32_t)info.f_type == 0xff534d42 ||
                   (uint32_t)info.f_type == 0xfe534d42
               ? -1
               : 0;
}

/* Handlers do no more than this: the loops look at the flags. */
static void
os_on_stop(int signal_number)
{
    os_stop = signal_number;
}

static void
os_on_question(int signal_number)
{
    os_asked = signal_number;
}

/* How many columns the terminal has at the other end of a descriptor; if it does not say,
 * 80. */
static unsigned
os_width(int fd)
{
    struct winsize size;

    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

/* Is there somebody who watches, on a terminal that can wipe a line? */
static bool
os_can_draw(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDERR_FILENO) && !(kind && !strcmp(kind, "dumb"));
}

/* Minutes since midnight, where this machine thinks it is: for rates by the time of
 * day. */
static unsigned
os_minute(void)
{
    time_t now = (time_t)os_now().s;
    struct tm local = {0};

    (void)localtime_r(&now, &local);
    return (unsigned)(local.tm_hour * 60 + local.tm_min);
}

/* A stop is a flag that the loops look at; --max-time sends one, too, by SIGALRM. There
 * is no SA_RESTART, so that a call that waits comes back and the flag is seen. A reader
 * that went away, or a limit on the size of files, is an error of write, not a death. All
 * this is for the program alone, never for one that embeds it. */
static void
os_signals(void)
{
    struct sigaction stop = {.sa_handler = os_on_stop}, ignore = {.sa_handler = SIG_IGN};
    struct sigaction question = {.sa_handler = os_on_question};
    struct sigaction usual = {.sa_handler = SIG_DFL}, was;

    (void)sigaction(SIGINT, &stop, NULL); /* cannot fail for a signal that exists */
    (void)sigaction(SIGTERM, &stop, NULL);
    (void)sigaction(SIGUSR1, &question, NULL);
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN) /* nohup */
        (void)sigaction(SIGHUP, &stop, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigaction(SIGXFSZ, &ignore, NULL);
    (void)sigaction(SIGALRM, &stop, NULL);
    (void)sigaction(SIGIO, &ignore, NULL); /* a lease that somebody waits for is asked */
    /* Whoever ignores it has us inherit that, and then no child's end could be known. */
    (void)sigaction(SIGCHLD, &usual, NULL);
}

/* For a child before it becomes another program: handlers end with that by themselves,
 * but a signal that is ignored stays so, and a program that never ends because its pipe
 * has no reader would be our doing. */
static void
os_signals_off(void)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};

    (void)sigaction(SIGPIPE, &usual, NULL);
    (void)sigaction(SIGXFSZ, &usual, NULL);
    (void)sigaction(SIGIO, &usual, NULL);
}

/* Whoever starts us with 0, 1 or 2 closed would have our next file or connection take
 * that number, and what we print go there. A folder takes it instead: whoever reads or
 * writes it gets an error, as if it were closed. False if not even that can be opened. */
static bool
os_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && os_open("/", O_RDONLY | O_DIRECTORY, 0) != fd)
            return false;
    return true;
}

/* Bytes of memory that can be used without that something else must go; 0: not known, as
 * with kernels before 3.14, which do not say. */
static uint64_t
os_memory(void)
{
    struct buf text = buf_upto(OS_SMALL);
    struct fail unread = {S3UP_OK, ""};
    struct span rest, line;
    uint64_t n = 0;

    (void)os_slurp("/proc/meminfo", &text, &unread);
    rest = buf_span(&text);
    while (!n && span_cut(&rest, '\n', &line))
        if (span_starts(line, "MemAvailable:")) {
            line = span_trim(span_after(line, strlen("MemAvailable:")));
            (void)span_cut(&line, ' ', &rest);
            if (num_parse(rest, UINT64_MAX / KIB, &n))
                n *= KIB;
        }
    buf_free(&text);
    return n;
}

/* Does the folder lie in memory, so that nothing in it outlives a reboot? The numbers are
 * those of tmpfs and ramfs. */
static bool
os_is_volatile(const char *path)
{
    struct statfs info;

    return statfs(path, &info) == 0 &&
           (info.f_type == 0x01021994 || (uint32_t)info.f_type == 0x858458f6);
}

/* Waits, or returns early when asked to stop. A signal that comes between the look at the
 * flag and poll would not end that poll: so no poll is long. */
static void
os_sleep(int milliseconds)
{
    int64_t left = milliseconds, until = os_ticks() + milliseconds;

    for (; !os_stop && left > 0; left = until - os_ticks()) {
        (void)poll(NULL, 0, (int)(left > 100 ? 100 : left));
        os_beat();
    }
}

/* A variable that is set and not empty. */
static const char *
os_env(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* ===== ROOM 4 forms: readers and writers of XML, JSON and INI =====
 *
 * In: a whole document in memory. Out: one event per call, with spans into it; nothing is
 * allocated per node, text is decoded on demand into a buffer of the caller's. Each
 * reader has a fixed depth, sees every byte a bounded number of times, and stops for good
 * at the first thing that is not its grammar: `why` then says what. Nothing is ever
 * guessed, except what real stores do wrong and every client forgives; those places say
 * so.
 *
 * A reader is a struct that X_init points at the document; it owns nothing, and has no
 * end to be called. The document must stay where it is as long as spans of it are used:
 *
 *     xml_init(&x, document);
 *     while ((event = xml_next(&x)) != XML_END && event != XML_BAD)
 *         if (event == XML_LEAVE && xml_at(&x, "LocationConstraint"))
 *             good = xml_text(x.text, &out);
 *
 * After X_BAD all further calls give X_BAD, too. That a document is whole is known only
 * when its end was reached: what cuts a reply off may do so between two elements. Writers
 * append to a buffer and cannot fail otherwise.
 */

/* What xml_next has come upon: the end of the document, <a>, </a>, or what is no XML. */
enum xml_event { XML_END, XML_ENTER, XML_LEAVE, XML_BAD };

/* Enter and leave is all there is. At leave, text holds the raw content of an element
 * that had no children: xml_text decodes it. An element that is left stays in open, and
 * depth counts it, until the next call: so xml_at can be asked about it. */
struct xml {
    struct span rest;            /* not read yet */
    struct span open[XML_DEPTH]; /* names of the open elements, with their prefixes */
    unsigned depth;              /* how many are open; the event's own is the last */
    const char *from;            /* where the content of the innermost began */
    struct span text;            /* at leave: raw content; empty if there were children */
    bool parent;     /* the last event was a leave: whoever is left next has it */
    bool closing;    /* the last event's element ends with it: pop first */
    bool empty;      /* <a/>: a leave is due without anything being read */
    bool had_root;   /* there may be one only */
    const char *why; /* what made it XML_BAD */
};

static enum xml_event
xml_fail(struct xml *x, const char *why)
{
    if (!x->why)
        x->why = why;
    return XML_BAD;
}

static void
xml_init(struct xml *x, struct span document)
{
    *x = (struct xml){.rest = document};
    if (span_starts(document, "\xef\xbb\xbf")) /* a byte order mark */
        x->rest = span_after(document, 3);
    if (span_has(document, 0)) /* XML has none, and C would take it for an end */
        (void)xml_fail(x, "a NUL byte");
}

static bool
xml_space(char c)
{
    return span_blank(c) || c == '\r' || c == '\n';
}

/* Wider than XML's own list, in which most of Unicode has its say: names are only
 * compared. */
static bool
xml_name_char(char c)
{
    return c == ':' || (c != '~' && url_unreserved(c)) || (unsigned char)c >= 0x80;
}

/* Moves behind the first `mark` at place `from` or later; false, and nowhere, if there is
 * none. What opened stands before that place: <!--> is not its own end. */
static bool
xml_skip_to(struct span *s, size_t from, const char *mark)
{
    struct span tail = span_after(*s, from);
    const char *hit = tail.n ? memmem(tail.p, tail.n, mark, strlen(mark)) : NULL;

    if (!hit)
        return false;
    *s = span_after(tail, (size_t)(hit - tail.p) + strlen(mark));
    return true;
}

/* At most one byte more than XML_NAME: that is how its caller sees that it is too
 * long. */
static struct span
xml_take_name(struct span *s)
{
    size_t n = 0;

    while (n < s->n && n <= XML_NAME && xml_name_char(s->p[n]))
        n++;
    struct span name = span_first(*s, n);

    *s = span_after(*s, n);
    return name;
}

/* Comments, processing instructions and CDATA may stand anywhere in an element. They are
 * passed over here; xml_text looks at them again. 1: there was one, 0: there is something
 * else, -1: it has no end, or must not be here. A document type is refused: no store
 * sends one, and entities defined in it are a known attack. */
static int
xml_skip_aside(struct xml *x)
{
    bool good;

    if (span_starts(x->rest, "<!--"))
        good = xml_skip_to(&x->rest, 4, "-->");
    else if (span_starts(x->rest, "<?"))
        good = xml_skip_to(&x->rest, 2, "?>");
    else if (span_starts(x->rest, "<![CDATA[") && x->depth)
        good = xml_skip_to(&x->rest, 9, "]]>");
    else if (span_starts(x->rest, "<!"))
        good = false;
    else
        return 0;
    if (!good)
        (void)xml_fail(x, "a comment, instruction or CDATA without end, or a DOCTYPE");
    return good ? 1 : -1;
}

/* <name attribute="value">: the rest points behind the <. Attributes are passed over; no
 * S3 reply says anything in one. */
static enum xml_event
xml_enter(struct xml *x)
{
    struct span name = xml_take_name(&x->rest);
    char quote = 0, last = 0;
    size_t n = 0;

    if (!name.n || name.n > XML_NAME || name.p[0] == '-' || name.p[0] == '.' ||
        (name.p[0] >= '0' && name.p[0] <= '9'))
        return xml_fail(x, "an element without a proper name");
    if (x->depth == XML_DEPTH)
        return xml_fail(x, "elements nested too deep");
    if (!x->depth && x->had_root)
        return xml_fail(x, "a second root element");
    /* Up to the > that ends the tag: in quotes it means itself. */
    for (; n < x->rest.n && (quote || x->rest.p[n] != '>'); n++) {
        char c = x->rest.p[n];

        if (c == '<')
            return xml_fail(x, "a < inside a tag");
        if (quote ? c == quote : c == '"' || c == '\'')
            quote = quote ? 0 : c;
        last = c;
    }
    if (n == x->rest.n)
        return xml_fail(x, "a tag without end");
    /* The name ended at a character that no name has, and nothing else may be there. */
    if (n && !xml_space(x->rest.p[0]) && x->rest.p[0] != '/')
        return xml_fail(x, "an element without a proper name");
    x->from = x->rest.p + n + 1;
    x->rest = span_at(x->from, x->rest.n - n - 1);
    x->open[x->depth++] = name;
    x->had_root = true;
    x->parent = false;
    x->empty = last == '/';
    return XML_ENTER;
}

/* </name>: the rest points behind the </, and content_end at its <. If the last event was
 * a leave, too, this is the parent of what was left, and its text would be the raw
 * children: it has none. Else the last event was the enter of this very element. */
static enum xml_event
xml_leave(struct xml *x, const char *content_end)
{
    struct span name = xml_take_name(&x->rest);

    while (x->rest.n && xml_space(x->rest.p[0]))
        x->rest = span_after(x->rest, 1);
    if (!span_starts(x->rest, ">"))
        return xml_fail(x, "a tag without end");
    if (!x->depth || !span_eq(name, x->open[x->depth - 1]))
        return xml_fail(x, "an end tag for what is not open");
    x->rest = span_at(x->rest.p + 1, x->rest.n - 1);
    x->text = x->parent ? (struct span){NULL, 0}
                        : span_at(x->from, (size_t)(content_end - x->from));
    x->parent = x->closing = true;
    return XML_LEAVE;
}

/* The next event. Text between tags is none: it is what lies between x->from and the end
 * tag. Outside of the root element only blanks may stand: a store that takes long to
 * answer sends some, to keep the connection alive. */
static enum xml_event
xml_next(struct xml *x)
{
    if (x->why)
        return XML_BAD;
    if (x->closing) { /* only here, so that xml_at could still see it */
        x->depth--;
        x->closing = false;
    }
    if (x->empty) { /* the second half of <a/> */
        x->empty = false;
        x->text = (struct span){NULL, 0};
        x->parent = x->closing = true;
        return XML_LEAVE;
    }
    /* Past text and asides, to the next tag or the end. */
    for (;;) {
        const char *tag = x->rest.n ? memchr(x->rest.p, '<', x->rest.n) : NULL;
        size_t text = tag ? (size_t)(tag - x->rest.p) : x->rest.n;
        int aside;

        for (size_t i = 0; i < text && !x->depth; i++)
            if (!xml_space(x->rest.p[i]))
                return xml_fail(x, "text outside of the root element");
        if (!tag && x->depth)
            return xml_fail(x, "it is cut off inside an element");
        if (!tag)
            return x->had_root ? XML_END : xml_fail(x, "it has no element");
        x->rest = span_after(x->rest, text);
        aside = xml_skip_aside(x);
        if (aside < 0)
            return XML_BAD;
        if (aside)
            continue;
        x->rest = span_after(x->rest, 1);
        if (!span_starts(x->rest, "/"))
            return xml_enter(x);
        x->rest = span_after(x->rest, 1);
        return xml_leave(x, tag);
    }
}

/* A name without its prefix: some stores put names into a namespace with one. */
static struct span
xml_local(struct span name)
{
    const char *colon = name.n ? memrchr(name.p, ':', name.n) : NULL;

    return colon ? span_after(name, (size_t)(colon - name.p) + 1) : name;
}

/* Is the event's element the one at this path, as in "ListBucketResult/Contents/Key"? The
 * path begins at the root and names all of it; prefixes do not count. */
static bool
xml_at(const struct xml *x, const char *path)
{
    struct span rest = span_of(path), want;

    for (unsigned i = 0; i < x->depth; i++)
        if (!span_cut(&rest, '/', &want) || !span_eq(xml_local(x->open[i]), want))
            return false;
    return rest.p == NULL;
}

/* One reference: s begins behind the &, and then behind the semicolon. Control characters
 * are let through as bytes, though XML 1.0 forbids them: AWS itself sends &#x1; for a key
 * that has one. False for a name that XML does not know, and for a number that is no
 * character. */
static bool
xml_reference(struct span *s, struct buf *out)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    /* No reference is longer: a & that stands alone does not cost a look at all the
     * rest. */
    const char *semicolon = memchr(s->p, ';', s->n < 12 ? s->n : 12);
    struct span name;
    uint32_t c = 0;

    if (!semicolon)
        return false;
    name = span_first(*s, (size_t)(semicolon - s->p));
    *s = span_after(*s, name.n + 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_is(name, names[i].name)) {
            buf_char(out, names[i].c);
            return true;
        }
    if (span_starts(name, "#x") && name.n > 2 && name.n <= 8) {
        for (size_t i = 2; i < name.n; i++) {
            if (hex_value(name.p[i]) < 0)
                return false;
            c = c << 4 | (uint32_t)hex_value(name.p[i]);
        }
    } else {
        uint64_t v;

        if (!span_starts(name, "#") || !num_parse(span_after(name, 1), 0x10ffff, &v))
            return false;
        c = (uint32_t)v;
    }
    return utf8_put(out, c);
}

/* Decodes raw content, and appends it. Line ends stay as they are: a store that sends a
 * raw CR inside of a key means that CR. False for a reference that XML does not know, or
 * if out has no room: then part of it may be there. */
static bool
xml_text(struct span raw, struct buf *out)
{
    struct span s = raw;

    while (s.n) {
        size_t n = 0;

        while (n < s.n && s.p[n] != '&' && s.p[n] != '<')
            n++;
        buf_put(out, span_first(s, n));
        s = span_after(s, n);
        if (span_starts(s, "&")) {
            s = span_after(s, 1);
            if (!s.n || !xml_reference(&s, out))
                return false;
        } else if (span_starts(s, "<![CDATA[")) {
            struct span end = s = span_after(s, 9);

            if (!xml_skip_to(&end, 0, "]]>"))
                return false;
            buf_put(out, span_first(s, s.n - end.n - 3));
            s = end;
        } else if (s.n) { /* a comment, or an instruction: all else was an event */
            bool pi = span_starts(s, "<?");

            if (!xml_skip_to(&s, pi ? 2 : 4, pi ? "?>" : "-->"))
                return false;
        }
    }
    return !out->bad;
}

/* Escapes text. CR and LF too, since a reader is bound to turn CR into LF. */
static void
xml_put(struct buf *b, struct span s)
{
    static const char *const escapes[] = {"&&amp;", "<&lt;",   ">&gt;",  "\"&quot;",
                                          "'&#39;", "\r&#xD;", "\n&#xA;"};

    for (size_t i = 0; i < s.n; i++) {
        const char *escape = NULL;

        for (size_t e = 0; e < sizeof escapes / sizeof *escapes; e++)
            if (escapes[e][0] == s.p[i])
                escape = escapes[e] + 1;
        if (escape)
            buf_str(b, escape);
        else
            buf_char(b, s.p[i]);
    }
}

/* Whether XML 1.0 has a way to write these bytes at all. A list of keys to delete cannot
 * hold the others; they are deleted one at a time. */
static bool
xml_can_carry(struct span s)
{
    while (s.n) {
        size_t n = utf8_length(s);
        unsigned char c = (unsigned char)s.p[0];

        if (!n || (c < ' ' && !xml_space((char)c)))
            return false;
        if (n == 3 && !memcmp(s.p, "\xef\xbf", 2) && (unsigned char)s.p[2] >= 0xbe)
            return false; /* U+FFFE and U+FFFF */
        s = span_after(s, n);
    }
    return true;
}

/* What json_next has come upon. A value is one event; a container is two, and what is in
 * it comes between them. */
enum json_event {
    JSON_END,    /* of the document, and it was whole */
    JSON_OBJECT, /* { */
    JSON_LIST,   /* [ */
    JSON_CLOSE,  /* } or ] */
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_BAD
};

/* Strict RFC 8259. In an object, key is the raw name of the event's member: json_text
 * decodes names and strings alike. At JSON_CLOSE there is neither key nor text. Numbers
 * stay text: whoever wants one knows which kind. */
struct json {
    struct span rest; /* not read yet */
    uint32_t objects; /* a stack of bits: 1 where the open container is an object */
    unsigned depth;   /* how many containers are open */
    bool first;       /* nothing stands in the innermost yet: no comma is due */
    bool had_root;    /* there may be one only */
    struct span key;  /* raw, without the quotes; empty in lists and at the root */
    struct span text; /* raw, without the quotes, of a string or number */
    const char *why;  /* what made it JSON_BAD */
};

static void
json_init(struct json *j, struct span document)
{
    *j = (struct json){.rest = document};
}

static enum json_event
json_fail(struct json *j, const char *why)
{
    if (!j->why)
        j->why = why;
    return JSON_BAD;
}

/* The blanks of JSON are those of XML. */
static void
json_space(struct json *j)
{
    while (j->rest.n && xml_space(j->rest.p[0]))
        j->rest = span_after(j->rest, 1);
}

/* Passes over blanks, and over c if it is next; false, with the blanks gone, if it is
 * not. */
static bool
json_take(struct json *j, char c)
{
    json_space(j);
    if (!j->rest.n || j->rest.p[0] != c)
        return false;
    j->rest = span_after(j->rest, 1);
    return true;
}

/* \n, \u00e9 and so on at s, which begins with the backslash: the value, and how long it
 * is. -1 when it is none. Halves of a surrogate pair come one at a time. */
static int32_t
json_escape(struct span s, size_t *length)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *hit = s.n > 1 && s.p[1] ? strchr(from, s.p[1]) : NULL;
    unsigned char hex[2];

    *length = 2;
    if (hit)
        return to[hit - from];
    if (s.n < 6 || s.p[1] != 'u' || !hex_read(span_at(s.p + 2, 4), hex, 2))
        return -1;
    *length = 6;
    return hex[0] << 8 | hex[1];
}

/* The raw string behind an opening quote; the closing one is taken too. That its escapes
 * are right is seen here; what they mean, and whether surrogates come in pairs, by
 * json_text. */
static bool
json_string(struct json *j, struct span *raw)
{
    struct span s = j->rest;
    size_t n;

    for (; s.n && s.p[0] != '"'; s = span_after(s, n)) {
        n = utf8_length(s); /* of an escape, json_escape says it */
        if (!n || (unsigned char)s.p[0] < ' ' ||
            (s.p[0] == '\\' && json_escape(s, &n) < 0)) {
            (void)json_fail(j,
                            "a string with a control character, bad UTF-8 or bad escape");
            return false;
        }
    }
    if (!s.n) {
        (void)json_fail(j, "a string without end");
        return false;
    }
    *raw = span_first(j->rest, j->rest.n - s.n);
    j->rest = span_after(s, 1);
    return true;
}

static size_t
json_digits(struct span s, size_t at)
{
    size_t n = 0;

    while (at + n < s.n && s.p[at + n] >= '0' && s.p[at + n] <= '9')
        n++;
    return n;
}

/* -12.5e+3: the length of the number that s begins with, 0 when it is none. */
static size_t
json_number(struct span s)
{
    size_t n = span_starts(s, "-"), digits = json_digits(s, n);

    if (!digits || (digits > 1 && s.p[n] == '0')) /* a 0 in front stands alone */
        return 0;
    n += digits;
    if (n < s.n && s.p[n] == '.') {
        digits = json_digits(s, n + 1);
        n = digits ? n + 1 + digits : 0;
    }
    if (n && n < s.n && (s.p[n] == 'e' || s.p[n] == 'E')) {
        size_t sign = n + 1 < s.n && (s.p[n + 1] == '+' || s.p[n + 1] == '-');

        digits = json_digits(s, n + 1 + sign);
        n = digits ? n + 1 + sign + digits : 0;
    }
    return n;
}

/* A container begins. objects shifts out nothing that is needed: it has a bit for each
 * depth. */
static enum json_event
json_open(struct json *j, bool object)
{
    if (j->depth == JSON_DEPTH)
        return json_fail(j, "containers nested too deep");
    j->objects = j->objects << 1 | object;
    j->depth++;
    j->first = true;
    return object ? JSON_OBJECT : JSON_LIST;
}

/* Any value. A word with something stuck to it, as in nullx, is found out by the next
 * call, which wants a comma or an end. */
static enum json_event
json_value(struct json *j)
{
    static const struct {
        const char *word;
        enum json_event event;
    } words[] = {{"true", JSON_TRUE}, {"false", JSON_FALSE}, {"null", JSON_NULL}};
    size_t n;

    if (json_take(j, '{'))
        return json_open(j, true);
    if (json_take(j, '['))
        return json_open(j, false);
    if (json_take(j, '"'))
        return json_string(j, &j->text) ? JSON_STRING : JSON_BAD;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (span_starts(j->rest, words[i].word)) {
            j->rest = span_after(j->rest, strlen(words[i].word));
            return words[i].event;
        }
    n = json_number(j->rest);
    if (!n)
        return json_fail(j, "something that is no value");
    j->text = span_first(j->rest, n);
    j->rest = span_after(j->rest, n);
    return JSON_NUMBER;
}

/* The next event. Behind the one value of the root there may be blanks only. */
static enum json_event
json_next(struct json *j)
{
    bool object = j->objects & 1, first = j->first;

    if (j->why)
        return JSON_BAD;
    j->first = false;
    j->key = j->text = (struct span){NULL, 0};
    if (!j->depth && j->had_root) {
        json_space(j);
        return j->rest.n ? json_fail(j, "something behind the end") : JSON_END;
    }
    if (!j->depth) {
        j->had_root = true;
        return json_value(j);
    }
    /* An end may stand where a comma may, or where nothing has come yet; not behind a
     * comma, where json_value or the missing name refuses it. */
    if (json_take(j, object ? '}' : ']')) {
        j->objects >>= 1;
        j->depth--;
        return JSON_CLOSE;
    }
    if (!first && !json_take(j, ','))
        return json_fail(j, "a missing comma, or it is cut off");
    if (object && !(json_take(j, '"') && json_string(j, &j->key) && json_take(j, ':')))
        return json_fail(j, "a member without a name");
    return json_value(j);
}

/* Passes over the container that json_next has just opened, to its end and with all in
 * it. False if it has none. */
static bool
json_skip(struct json *j)
{
    unsigned outside = j->depth - 1;

    while (j->depth > outside)
        if (json_next(j) == JSON_BAD)
            return false;
    return true;
}

/* Decodes a raw string, and appends it. What json_put made of a byte that is not UTF-8
 * becomes that byte again; any other half of a surrogate pair is refused. */
static bool
json_text(struct span raw, struct buf *out)
{
    size_t n, more;

    for (struct span s = raw; s.n; s = span_after(s, n)) {
        int32_t c, low;

        n = 1;
        if (s.p[0] != '\\') {
            buf_char(out, s.p[0]);
            continue;
        }
        c = json_escape(s, &n);
        if (c >= 0xd800 && c < 0xdc00) { /* the first half: the second must follow */
            low = json_escape(span_after(s, n), &more);
            if (s.n <= n || s.p[n] != '\\' || low < 0xdc00 || low > 0xdfff)
                return false;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            n += more;
        }
        if (c >= 0xdc80 && c <= 0xdcff)
            buf_char(out, (char)(c - 0xdc00));
        else if (c < 0 || !utf8_put(out, (uint32_t)c))
            return false;
    }
    return !out->bad;
}

/* A JSON string. Bytes that are not UTF-8 become halves of surrogate pairs, U+DC80 to
 * U+DCFF, the way Python reads and writes such file names: nothing is lost. */
static void
json_put(struct buf *b, struct span s)
{
    size_t n;

    buf_char(b, '"');
    for (; s.n; s = span_after(s, n)) {
        unsigned char c = (unsigned char)s.p[0];

        n = utf8_length(s);
        if (n && c >= ' ' && c != '"' && c != '\\' && c != 127) {
            buf_put(b, span_first(s, n));
            continue;
        }
        buf_str(b, n ? "\\u00" : "\\udc"); /* a character, or a byte that is none */
        hex_put(b, &c, 1);
        n = 1;
    }
    buf_char(b, '"');
}

/* Writes a member's name, and the comma before it where one is due: that is, unless the
 * object has just begun. The caller writes the braces and the value. */
static void
json_key(struct buf *b, const char *name)
{
    if (b->n && b->p[b->n - 1] != '{')
        buf_char(b, ',');
    json_put(b, span_of(name));
    buf_char(b, ':');
}

/* What ini_next has come upon. Blank lines and comments are none. */
enum ini_event {
    INI_END,
    INI_SECTION, /* [kind name] */
    INI_PAIR,    /* key = value */
    INI_MORE,    /* an indented line that goes on with the value of the pair before it */
    INI_SUB,     /* an indented key = value below a pair whose value was empty */
    INI_BAD
};

/* The grammar of the shared AWS files, as the tools of AWS read them: users have such
 * files already, and must not find that they mean something else here. Names that are not
 * valid come out empty, so that they match nothing; what belongs to them is reported all
 * the same and ignored with them. */
struct ini {
    struct span rest;   /* not read yet: whole lines */
    unsigned line;      /* of the event, from 1 */
    struct span kind;   /* "profile" in [profile a]; empty in [a] */
    struct span name;   /* the section's */
    struct span parent; /* the last pair's key: what an INI_SUB stands below */
    struct span key;
    struct span value; /* of a pair or sub pair; at INI_MORE the line that goes on */
    bool in_section;   /* there was one: before it there can be no setting */
    bool in_pair;      /* an indented line has something to go on with */
    bool is_block;     /* the last pair had no value: it may head a block of sub pairs */
    const char *why;   /* what made it INI_BAD */
};

static void
ini_init(struct ini *i, struct span document)
{
    *i = (struct ini){.rest = document};
    if (span_starts(document, "\xef\xbb\xbf"))
        i->rest = span_after(document, 3);
}

static enum ini_event
ini_fail(struct ini *i, const char *why)
{
    if (!i->why)
        i->why = why;
    return INI_BAD;
}

/* What the tools of AWS take for the name of a profile or a setting. */
static bool
ini_is_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '~' ||
            (!url_unreserved(s.p[i]) && (!s.p[i] || !strchr("/%@:+", s.p[i]))))
            return false;
    return s.n > 0;
}

/* [kind name], or [name]. A comment begins anywhere, even before the bracket; what stands
 * behind the bracket is not looked at. Quotes around a name are an old habit of users. */
static enum ini_event
ini_section(struct ini *i, struct span line)
{
    struct span inner, word;

    for (size_t n = 0; n < line.n; n++)
        if (line.p[n] == '#' || line.p[n] == ';')
            line.n = n;
    if (!span_has(line, ']'))
        return ini_fail(i, "a section without its ]");
    line = span_after(line, 1);
    span_cut(&line, ']', &inner);
    inner = span_trim(inner);
    i->kind = (struct span){NULL, 0};
    /* The first word is a kind only if there is a second. */
    for (size_t n = 0; n < inner.n && !i->kind.n; n++)
        if (span_blank(inner.p[n])) {
            i->kind = span_first(inner, n);
            inner = span_trim(span_after(inner, n));
        }
    if (inner.n > 2 && inner.p[0] == '"' && inner.p[inner.n - 1] == '"') {
        word = span_at(inner.p + 1, inner.n - 2);
        i->name = span_has(word, '"') ? (struct span){NULL, 0} : word;
    } else {
        i->name = ini_is_name(inner) ? inner : (struct span){NULL, 0};
    }
    i->in_section = true;
    i->in_pair = false;
    return INI_SECTION;
}

/* Splits key = value; false if there is no =. Only the first = counts: there are more in
 * keys and in base64. A key that is none comes out empty. */
static bool
ini_split(struct ini *i, struct span line)
{
    if (!span_has(line, '='))
        return false;
    i->value = line;
    span_cut(&i->value, '=', &i->key);
    i->key = span_trim(i->key);
    i->value = span_trim(i->value);
    if (!ini_is_name(i->key))
        i->key = (struct span){NULL, 0};
    return true;
}

/* A line that is not indented, and no section. */
static enum ini_event
ini_pair(struct ini *i, struct span line)
{
    if (!i->in_section)
        return ini_fail(i, "a setting before the first [section]");
    for (size_t n = 1; n < line.n; n++) /* a comment begins behind a blank only */
        if ((line.p[n] == '#' || line.p[n] == ';') && span_blank(line.p[n - 1]))
            line.n = n;
    if (!ini_split(i, line))
        return ini_fail(i, "a line that is neither [section] nor key = value");
    i->parent = i->key;
    i->in_pair = true;
    i->is_block = i->value.n == 0;
    return INI_PAIR;
}

/* An indented line belongs to the pair before it: as a pair of its own if that had no
 * value, as in a block like s3 =, else as more of its value. */
static enum ini_event
ini_indented(struct ini *i, struct span line)
{
    if (!i->in_pair)
        return ini_fail(i, "an indented line with nothing to go on from");
    if (i->is_block)
        return ini_split(i, line) ? INI_SUB : ini_fail(i, "a line without = in a block");
    i->value = span_trim(line);
    return INI_MORE;
}

/* The next event. i->line is its line, also of INI_BAD, so that a message can say
 * where. */
static enum ini_event
ini_next(struct ini *i)
{
    struct span line, words;

    if (i->why)
        return INI_BAD;
    while (span_cut(&i->rest, '\n', &line)) {
        i->line++;
        while (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        words = span_trim(line);
        /* Neither ends a pair: what is indented below still goes on with it. */
        if (!words.n || words.p[0] == '#' || words.p[0] == ';')
            continue;
        if (span_has(line, 0))
            return ini_fail(i, "a NUL byte");
        if (span_blank(line.p[0]))
            return ini_indented(i, line);
        return line.p[0] == '[' ? ini_section(i, line) : ini_pair(i, line);
    }
    return INI_END;
}

/* ===== ROOM 5 journal: what must survive a crash, as lines of text =====
 *
 * In: a state folder, and facts about a transfer. Out: the same facts after any crash. A
 * line is a name, its values between blanks, and the CRC-32 of all that; it counts only
 * if it is whole, and nothing counts behind one that is not. Each journal is open in one
 * process at a time, which alone writes it. The ledger beside the journals is a list of
 * what was stored, one JSON object a line. To add a fact, write its line where the
 * transfer learns it, and its case in jrn_fact; older programs skip lines that they do
 * not know.
 *
 * The life of a journal, and what a crash at each point leaves:
 *
 *   it is made       empty, or with half a first line: the next run begins with it;
 *   facts are noted  what is sent where, and a token. They are on disk before the store
 *                    is asked for an upload: if the answer is lost, an upload without
 *                    parts is left there, which s3up sweep removes, and a new one begins;
 *   upload           its id is on disk before a part is sent, so that all can be found;
 *   part, part, ...  synced from time to time only. A part whose line is lost is still at
 *                    the store, which is asked what it has before anything is sent again;
 *   completing       on disk before the store is asked to join the parts. If the upload
 *                    is gone in the next run, the object tells by its token whose it is;
 *   it is removed    when the store has said that the object is there. After a crash in
 *                    between, the next run finds the object by its token, and is done.
 *
 * A download notes the object's ETag instead of an upload, and ranges instead of parts;
 * their bytes are summed again before they count. A transfer whose journal cannot be
 * written goes on without, and says so: what is sent is worth more than what is noted.
 *
 * The lock is one of flock on the journal itself. It goes with the process, however that
 * ends: no stale lock is ever left, and nobody has to be asked whether a process lives.
 */

/* One line, taken apart; values are still encoded. The spans point into the text that was
 * read. There is one word at least, the name. */
struct jrn_line {
    struct span word[JRN_WORDS];
    unsigned n; /* of words, with the name */
};

/* The CRC finds torn and flipped bytes. It is no protection against forgery: rights
 * are. */
static uint32_t
jrn_crc(struct span s)
{
    unsigned char digest[4];
    struct sum sum;

    sum_init(&sum, SUM_CRC32);
    sum_add(&sum, s.p, s.n);
    sum_end(&sum, digest);
    return sum_load32be(digest);
}

/* Cuts the first line off, and takes it apart. False at the end, and at a line that was
 * torn or changed: there the text ends, whatever follows. For lines are true only in
 * their order, as when an upload begins anew: behind one that is missing, nothing can be
 * relied on. A line of many words is neither: a newer program wrote it, and its first
 * words are all that an older one can use. */
static bool
jrn_next(struct span *text, struct jrn_line *line)
{
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    struct span s = span_at(text->p, end ? (size_t)(end - text->p) : 0), body, word;
    unsigned char crc[4];

    line->n = 0;
    if (!end || s.n < JRN_TAIL || memcmp(s.p + s.n - JRN_TAIL, " #", 2) != 0 ||
        !hex_read(span_after(s, s.n - JRN_TAIL + 2), crc, sizeof crc))
        return false;
    body = span_first(s, s.n - JRN_TAIL);
    if (jrn_crc(body) != sum_load32be(crc))
        return false;
    while (line->n < JRN_WORDS && span_cut(&body, ' ', &word))
        line->word[line->n++] = word; /* an empty one is an empty value */
    *text = span_after(*text, s.n + 1);
    return true;
}

/* What stands for itself in a value; all else is percent-encoded. So a line can be read
 * by a person, whatever bytes a path has, and blanks and line ends are what they seem. */
static bool
jrn_plain(char c)
{
    return c > ' ' && c < 127 && c != '%' && c != '#';
}

/* The value of word i; false if there is none, or it is no number up to max. */
static bool
jrn_number(const struct jrn_line *line, unsigned i, uint64_t max, uint64_t *out)
{
    return i < line->n && num_parse(line->word[i], max, out);
}

/* 1732154321.123456789, with all nine digits. The fraction counts forward also before
 * 1970: -1.750000000 is a quarter of a second before it. */
static bool
jrn_time(const struct jrn_line *line, unsigned i, struct os_time *out)
{
    struct span rest = i < line->n ? line->word[i] : SPAN(""), s;
    bool before = span_starts(rest, "-"); /* a file may be older than 1970 */
    uint64_t whole, part;

    rest = span_after(rest, before);
    if (!span_cut(&rest, '.', &s) ||
        !num_parse(s, INT64_MAX + (uint64_t)before, &whole) || rest.n != 9 ||
        !num_parse(rest, 999999999, &part))
        return false;
    *out = (struct os_time){(int64_t)(before ? 0 - whole : whole), (int32_t)part};
    return true;
}

/* ---- what a journal says ----
 *
 * Its lines, in the order in which a run writes them:
 *
 *   s3up journal VERSION         the first one: another version is refused, not guessed
 *   source PATH                  a file that is read, and in the next three lines how it
 *   size BYTES                   was when it was opened; once for each file that is
 *   mtime TIME                   joined. Of a download it is the file that it becomes,
 *   source-id DEVICE INODE TIME  and how its unfinished copy was; the TIME is of ctime
 *   target ENDPOINT BUCKET KEY   the other side
 *   part-size BYTES              the same for all parts; the last may be shorter
 *   checksum NAME                of the sums that follow, or none
 *   headers DIGEST               of what else was asked for: it makes another object
 *   id TOKEN                     in the object's metadata; of a download -
 *   upload ID                    what the store calls it; parts that are noted before it
 *                                belong to another one, and are forgotten
 *   object ETAG                  the same of a download
 *   part NUMBER ETAG SUM         the store has it; ETAG as it came, with its quotes; SUM
 *                                is - if there is none
 *   range OFFSET LENGTH SUM      it is in its place in the file
 *   lost NUMBER                  what was noted of this part does not hold any more
 *   completing                   from here on the object may be there
 *
 * A later size, mtime and source-id replace those of the last source: the file was looked
 * at again and found to have the same bytes. */

/* A file that a transfer reads; of a download, the one that it writes. The path is ours
 * to free. */
struct jrn_source {
    char *path;
    struct os_id id;
};

/* A part that the store has acknowledged, or a range that was fetched: then its ETag is
 * "-". */
struct jrn_part {
    bool done;
    size_t etag; /* where its text begins in jrn_facts.etags */
    unsigned char sum[JRN_SUM];
};

/* What a journal says, whether it was read from there or is about to be written: a
 * transfer without a journal has it, too. It owns all that it points to; jrn_init, then
 * jrn_free. */
struct jrn_facts {
    struct jrn_source *source; /* room for JRN_SOURCES, once there is one */
    unsigned sources;
    struct buf endpoint, bucket, key;
    uint64_t part_size;                /* bytes; 0: not known */
    char checksum[16];                 /* the name of its kind, or none */
    char id[2 * JRN_ID + 1];           /* the token in the object's metadata */
    char headers[2 * SHA256_SIZE + 1]; /* the digest of those that were given */
    struct buf upload;      /* the id that the store gave; empty: none was begun */
    struct jrn_part *part;  /* part N is at N - 1 */
    unsigned parts;         /* the greatest number that was noted */
    struct buf etags;       /* texts, each with a NUL behind it */
    bool completing;        /* the store may have been asked to join the parts */
    char object[CREW_ETAG]; /* of a download: the ETag of what is fetched */
};

static void
jrn_init(struct jrn_facts *k)
{
    *k = (struct jrn_facts){.source = NULL};
    k->endpoint = buf_upto(URL_MAX);
    k->bucket = buf_upto(URL_MAX);
    k->key = buf_upto(KEY_MAX + 1);
    k->upload = buf_upto(JRN_UPLOAD);
    k->etags = buf_upto(JRN_MOST);
}

static void
jrn_free(struct jrn_facts *k)
{
    for (unsigned i = 0; i < k->sources; i++)
        free(k->source[i].path);
    free(k->source);
    free(k->part);
    buf_free(&k->endpoint);
    buf_free(&k->bucket);
    buf_free(&k->key);
    buf_free(&k->upload);
    buf_free(&k->etags);
}

/* Adds a source; its identity comes with the lines that follow. False also for want of
 * memory: errno tells. */
static bool
jrn_add_source(struct jrn_facts *k, struct span path)
{
    if (k->sources == JRN_SOURCES || !path.n || memchr(path.p, 0, path.n))
        return false;
    if (!k->source)
        k->source = calloc(JRN_SOURCES, sizeof *k->source);
    if (!k->source || !(k->source[k->sources].path = strndup(path.p, path.n)))
        return false;
    k->sources++;
    return true;
}

/* Notes that a part is stored. A part that is noted twice has been sent twice: the later
 * word is the store's last. The ETag that it had stays in etags, unused. False for what
 * no store can have said, and for want of memory. */
static bool
jrn_note_part(struct jrn_facts *k, unsigned number, struct span etag,
              const unsigned char sum[JRN_SUM])
{
    size_t at = k->etags.n;

    if (number < 1 || number > PARTS_MAX || !etag.n || etag.n > JRN_UPLOAD ||
        span_has(etag, 0))
        return false;
    if (!k->part) /* what is not written to costs nothing */
        k->part = calloc(PARTS_MAX, sizeof *k->part);
    /* An offset is kept, not a pointer: etags moves when it grows. */
    buf_put(&k->etags, etag);
    buf_char(&k->etags, 0);
    if (!k->part || k->etags.bad)
        return false;
    k->parts = number > k->parts ? number : k->parts;
    k->part[number - 1].done = true;
    k->part[number - 1].etag = at;
    memcpy(k->part[number - 1].sum, sum, JRN_SUM);
    return true;
}

/* Of a part that is done. The text is good until the next part is noted. */
static const char *
jrn_etag(const struct jrn_facts *k, unsigned number)
{
    return k->etags.p + k->part[number - 1].etag;
}

/* How many parts are stored. */
static unsigned
jrn_count(const struct jrn_facts *k)
{
    unsigned n = 0;

    for (unsigned i = 0; i < k->parts; i++)
        n += k->part[i].done;
    return n;
}

/* All parts are forgotten, as when an upload begins anew, and with them the upload itself
 * or the object. What is sent, and where, stays. */
static void
jrn_forget(struct jrn_facts *k)
{
    for (unsigned i = 0; i < k->parts; i++)
        k->part[i].done = false;
    k->parts = 0;
    buf_clear(&k->etags);
    buf_clear(&k->upload);
    k->completing = false;
    k->object[0] = 0;
}

/* part NUMBER ETAG SUM. A sum may be shorter than there is room for: the rest is 0. A
 * part without a sum has none to be compared with; it counts as long as its file is the
 * same. */
static bool
jrn_fact_part(struct jrn_facts *k, const struct jrn_line *line)
{
    unsigned char sum[JRN_SUM] = {0};
    struct buf etag = buf_upto(JRN_UPLOAD);
    uint64_t number;
    bool good = line->n >= 4 && jrn_number(line, 1, PARTS_MAX, &number) &&
                url_read(line->word[2], false, &etag);

    if (good && !span_is(line->word[3], "-"))
        good = line->word[3].n && line->word[3].n <= 2 * sizeof sum &&
               hex_read(line->word[3], sum, line->word[3].n / 2);
    good = good && jrn_note_part(k, (unsigned)number, buf_span(&etag), sum);
    buf_free(&etag);
    return good;
}

/* range OFFSET LENGTH SUM: of a download. Ranges are cut like parts, so that an offset is
 * a number of one; part-size must have come before. */
static bool
jrn_fact_range(struct jrn_facts *k, const struct jrn_line *line)
{
    unsigned char sum[JRN_SUM] = {0};
    uint64_t at, length;

    return line->n >= 4 && k->part_size && jrn_number(line, 1, INT64_MAX, &at) &&
           jrn_number(line, 2, k->part_size, &length) && length &&
           at % k->part_size == 0 && at / k->part_size < PARTS_MAX && line->word[3].n &&
           line->word[3].n <= 2 * sizeof sum &&
           hex_read(line->word[3], sum, line->word[3].n / 2) &&
           jrn_note_part(k, (unsigned)(at / k->part_size) + 1, SPAN("-"), sum);
}

/* A value of printable characters, for a place of a fixed size. */
static bool
jrn_copy(const struct jrn_line *line, char *out, size_t room)
{
    struct span s = line->n > 1 ? line->word[1] : SPAN("");

    if (!s.n || s.n >= room)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!jrn_plain(s.p[i]))
            return false;
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return true;
}

/* Takes one line in. False if it makes no sense, though its checksum is right: then no
 * crash did that, but a program or a person, and nothing is to be built on it. A line of
 * an unknown name is passed over. */
static bool
jrn_fact(struct jrn_facts *k, const struct jrn_line *line)
{
    /* What is said of a file is said of the last that was named. */
    struct os_id *id = k->sources ? &k->source[k->sources - 1].id : NULL;
    struct span name = line->word[0];
    struct buf text = buf_upto(PATH_MAX);
    uint64_t n;
    bool good = true;

    if (span_is(name, "source")) {
        good = line->n > 1 && url_read(line->word[1], false, &text) &&
               jrn_add_source(k, buf_span(&text));
    } else if (span_is(name, "size")) {
        good = id && jrn_number(line, 1, INT64_MAX, &n);
        if (good)
            id->size = (int64_t)n;
    } else if (span_is(name, "mtime")) {
        good = id && jrn_time(line, 1, &id->modified);
    } else if (span_is(name, "source-id")) {
        good = id && jrn_number(line, 1, UINT64_MAX, &id->device) &&
               jrn_number(line, 2, UINT64_MAX, &id->inode) &&
               jrn_time(line, 3, &id->changed);
    } else if (span_is(name, "target")) {
        buf_clear(&k->endpoint); /* said twice, it is not twice as long */
        buf_clear(&k->bucket);
        buf_clear(&k->key);
        good = line->n > 3 && url_read(line->word[1], false, &k->endpoint) &&
               url_read(line->word[2], false, &k->bucket) &&
               url_read(line->word[3], false, &k->key);
    } else if (span_is(name, "part-size")) {
        good = jrn_number(line, 1, PART_MOST, &k->part_size) && k->part_size;
    } else if (span_is(name, "checksum")) {
        good = jrn_copy(line, k->checksum, sizeof k->checksum);
    } else if (span_is(name, "id")) {
        good = jrn_copy(line, k->id, sizeof k->id);
    } else if (span_is(name, "headers")) {
        good = jrn_copy(line, k->headers, sizeof k->headers);
    } else if (span_is(name, "upload")) { /* the parts of another one are not its own */
        jrn_forget(k);
        good = line->n > 1 && url_read(line->word[1], false, &k->upload) && k->upload.n &&
               !span_has(buf_span(&k->upload), 0);
    } else if (span_is(name, "object")) { /* the ranges of another one are not its own */
        jrn_forget(k);
        good = line->n > 1 && url_read(line->word[1], false, &text) && !text.bad &&
               text.n < sizeof k->object && !span_has(buf_span(&text), 0);
        if (good)
            memcpy(k->object, buf_text(&text), text.n + 1);
    } else if (span_is(name, "range")) {
        good = jrn_fact_range(k, line);
    } else if (span_is(name, "part")) {
        good = jrn_fact_part(k, line);
    } else if (span_is(name, "lost")) { /* the source has another content there now */
        good = jrn_number(line, 1, PARTS_MAX, &n) && n;
        if (good && n <= k->parts)
            k->part[n - 1].done = false;
    } else if (span_is(name, "completing")) {
        k->completing = true;
    }
    buf_free(&text);
    return good && !k->endpoint.bad && !k->bucket.bad && !k->key.bad && !k->upload.bad;
}

/* ---- a journal as a file ----
 *
 * A line is built in memory by jrn_begin and jrn_value, and goes out whole in one pwrite
 * by jrn_end, behind the last good line. jrn_sync makes it last; until then a power cut
 * may take it away. Only the process that holds the lock writes: so the end that it
 * remembers is the end. */

struct jrn {
    int fd; /* -1: there is none, and what is written is forgotten */
    struct buf path, line;
    int64_t end;    /* of what is good in it */
    int64_t synced; /* when it was last on disk, in ticks */
    bool dirty;     /* something is not yet */
    bool lost;      /* it could not be written: it stays as it is, and stays locked */
};

/* No journal, and none is open: all that writes to it does nothing and is well. */
static struct jrn
jrn_none(void)
{
    return (struct jrn){.fd = -1, .path = buf_upto(PATH_MAX), .line = buf_upto(JRN_MOST)};
}

/* The lock goes with the descriptor. The file stays: the next run reads it. */
static void
jrn_close(struct jrn *j)
{
    if (j->fd >= 0)
        (void)close(j->fd); /* what counts was synced */
    j->fd = -1;
    buf_free(&j->path);
    buf_free(&j->line);
}

/* A line begins with its name; its values follow. */
static void
jrn_begin(struct jrn *j, const char *name)
{
    buf_clear(&j->line);
    buf_str(&j->line, name);
}

/* A value, encoded. An empty one is a blank and nothing behind it. */
static void
jrn_value(struct jrn *j, struct span s)
{
    buf_char(&j->line, ' ');
    for (size_t i = 0; i < s.n; i++)
        if (jrn_plain(s.p[i]))
            buf_char(&j->line, s.p[i]);
        else
            url_put(&j->line, span_at(s.p + i, 1), "");
}

static void
jrn_value_number(struct jrn *j, uint64_t n)
{
    buf_char(&j->line, ' ');
    buf_num(&j->line, n);
}

static void
jrn_value_time(struct jrn *j, struct os_time t)
{
    char text[48];

    (void)snprintf(text, sizeof text, "%lld.%09ld", (long long)t.s, (long)t.ns);
    jrn_value(j, span_of(text));
}

/* Has what was written be on disk before it returns; -1 if that cannot be known.
 * fdatasync will do: it brings the new length along, and times do not matter. */
static int
jrn_sync(struct jrn *j, struct fail *f)
{
    if (j->fd >= 0 && !j->lost && j->dirty && fdatasync(j->fd) != 0)
        return fail_sys(f, "write", buf_text(&j->path));
    j->dirty = false;
    j->synced = os_ticks();
    return 0;
}

/* The end of a line: what proves that it is whole. */
static void
jrn_seal(struct jrn *j)
{
    unsigned char crc[4];

    sum_store32be(crc, jrn_crc(buf_span(&j->line)));
    buf_str(&j->line, " #");
    hex_put(&j->line, crc, sizeof crc);
    buf_char(&j->line, '\n');
}

/* Writes the line that was begun. A line that did not fit is taken back, so that what
 * follows it can still be read. -1: it is not there, and what was there before still
 * counts. Where there is no journal, or it was given up, nothing happens, and that is
 * well. */
static int
jrn_end(struct jrn *j, struct fail *f)
{
    ssize_t did;

    jrn_seal(j);
    if (j->fd < 0 || j->lost)
        return 0;
    if (j->line.bad)
        return fail_set(f, S3UP_LATER, "no memory for a line of the journal");
    do /* also when we are to stop: what was just stored is to be known to the next run */
        did = pwrite(j->fd, j->line.p, j->line.n, (off_t)j->end);
    while (did < 0 && errno == EINTR);
    if (did != (ssize_t)j->line.n) {
        errno = did < 0 ? errno : ENOSPC;
        (void)fail_sys(f, "write", buf_text(&j->path));
        (void)!ftruncate(j->fd, (off_t)j->end); /* a torn line would be cut off anyway */
        return -1;
    }
    j->end += did;
    j->dirty = true;
    return 0;
}

/* A journal tells where data goes: nobody else may have written it. It is looked at
 * through the descriptor, so that what was examined is what is read. *info is what was
 * seen. */
static int
jrn_examine(const struct jrn *j, struct stat *info, struct fail *f)
{
    const char *path = buf_text(&j->path);

    if (fstat(j->fd, info) != 0)
        return fail_sys(f, "examine", path);
    if (!S_ISREG(info->st_mode))
        return fail_set(f, S3UP_USAGE, "%s is no plain file, so it is no journal", path);
    if (info->st_uid != geteuid())
        return fail_set(f, S3UP_DENIED,
                        "the journal %s belongs to another user: remove it, or name "
                        "another with --journal or --state-dir",
                        path);
    if (info->st_mode & 022)
        return fail_set(f, S3UP_DENIED,
                        "others may write to the journal %s: remove it, or take that "
                        "right from them",
                        path);
    return 0;
}

/* Does the name still stand for the file that is open? */
static bool
jrn_in_place(int fd, const char *path, struct stat *info)
{
    struct stat there;

    return fstat(fd, info) == 0 && lstat(path, &there) == 0 &&
           info->st_dev == there.st_dev && info->st_ino == there.st_ino;
}

/* Opens and locks the file. Between the two it may have been removed by the run that held
 * the lock: then a lock on it locks nobody out, and there is a new one to be made. On a
 * file system that says another number of a file each time, that would look so for ever:
 * hence the bound. make: a file that is not there is made. On a failure j->fd may be
 * open; jrn_open closes it. */
static int
jrn_lock(struct jrn *j, bool make, struct fail *f)
{
    const char *path = buf_text(&j->path);
    struct stat info;
    int rc;

    for (int tries = 0; tries < JRN_TRIES; tries++) {
        j->fd = os_open(path, O_RDWR | O_NOFOLLOW | (make ? O_CREAT : 0), 0600);
        if (j->fd < 0)
            return errno == ELOOP
                       ? fail_set(f, S3UP_USAGE,
                                  "the journal %s is a symbolic link: remove it", path)
                       : fail_sys(f, "open the journal", path);
        /* Before the lock is asked for: a stranger's is no reason to wait. */
        if (jrn_examine(j, &info, f) < 0)
            return -1;
        /* Whoever only looks at it holds it for a moment. */
        for (int i = 0; (rc = flock(j->fd, LOCK_EX | LOCK_NB)) != 0 &&
                        errno == EWOULDBLOCK && i < JRN_TRIES;
             i++)
            os_sleep(JRN_GLANCE);
        if (rc != 0)
            return errno == EWOULDBLOCK
                       ? fail_set(f, S3UP_LOCKED,
                                  "another run of s3up is at work on this transfer "
                                  "(it holds %s)",
                                  path)
                       : fail_sys(f, "lock the journal", path);
        if (jrn_in_place(j->fd, path, &info))
            return 0;
        (void)close(j->fd);
        j->fd = -1;
    }
    return fail_set(f, S3UP_LATER, "the journal %s is replaced again and again", path);
}

/* What a file is known by: the lines behind source, or once more for the last of them. */
static int
jrn_write_id(struct jrn *j, const struct os_id *id, struct fail *f)
{
    jrn_begin(j, "size");
    jrn_value_number(j, (uint64_t)id->size);
    if (jrn_end(j, f) < 0)
        return -1;
    jrn_begin(j, "mtime");
    jrn_value_time(j, id->modified);
    if (jrn_end(j, f) < 0)
        return -1;
    jrn_begin(j, "source-id");
    jrn_value_number(j, id->device);
    jrn_value_number(j, id->inode);
    jrn_value_time(j, id->changed);
    return jrn_end(j, f);
}

/* Begins the first line of every journal of this version. It is not written before
 * jrn_end. */
static void
jrn_head(struct jrn *j)
{
    jrn_begin(j, "s3up");
    jrn_value(j, SPAN("journal"));
    jrn_value_number(j, JRN_VERSION);
}

/* Reads what is there into k: 1, or 0 if there is nothing, or a first line that was cut.
 * j->end is the end of what is good in it, *size of all. -1: it is no journal, or one of
 * another version, or contradicts itself. What does not begin as our first line does is
 * never written to: --journal may have been given the name of another file by mistake. */
static int
jrn_read(struct jrn *j, struct jrn_facts *k, int64_t *size, struct fail *f)
{
    const char *path = buf_text(&j->path);
    struct buf text = buf_upto(JRN_MOST);
    struct jrn_line line;
    struct span rest;
    int rc = 0;

    if (os_slurp_fd(j->fd, path, &text, f) < 0) {
        buf_free(&text);
        return -1;
    }
    rest = buf_span(&text);
    jrn_head(j); /* to be compared with: a crash may have left a part of it */
    jrn_seal(j);
    if (j->line.bad) {
        rc = fail_set(f, S3UP_LATER, "no memory to read the journal %s", path);
    } else if (jrn_next(&rest, &line)) {
        rc = 1;
        if (line.n < 3 || !span_is(line.word[0], "s3up") ||
            !span_is(line.word[1], "journal"))
            rc = fail_set(f, S3UP_USAGE, "%s is not a journal of s3up", path);
        else if (!span_is(line.word[2], "1"))
            rc = fail_set(f, S3UP_USAGE,
                          "the journal %s is of version %.*s, and this s3up reads "
                          "version %d: finish with a newer one, or remove the file",
                          path, (int)line.word[2].n, line.word[2].p, JRN_VERSION);
    } else if (!span_eq(span_first(buf_span(&j->line), text.n), buf_span(&text))) {
        rc = fail_set(f, S3UP_USAGE,
                      "%s is not a journal of s3up, or its first line is damaged: remove "
                      "it, or name another with --journal",
                      path);
    }
    errno = 0;
    while (rc > 0 && jrn_next(&rest, &line))
        if (!jrn_fact(k, &line)) /* it is not the journal's fault if memory is lacking */
            rc = errno == ENOMEM
                     ? fail_sys(f, "read", path)
                     : fail_set(f, S3UP_USAGE,
                                "the journal %s contradicts itself (%.*s): remove it to "
                                "start over",
                                path, (int)line.word[0].n, line.word[0].p);
    *size = (int64_t)text.n;
    j->end = rc > 0 ? (int64_t)(text.n - rest.n) : 0;
    buf_free(&text);
    return rc;
}

/* The same, and cuts off what does not count: old lines behind a bad one would come to
 * count again when that is overwritten. */
static int
jrn_load(struct jrn *j, struct jrn_facts *k, struct fail *f)
{
    int64_t size;
    int rc = jrn_read(j, k, &size, f);

    if (rc >= 0 && size != j->end && ftruncate(j->fd, (off_t)j->end) != 0)
        return fail_sys(f, "write", buf_text(&j->path));
    return rc;
}

/* What it says is over: it begins anew, with its first line only. The name and the lock
 * stay. */
static int
jrn_reset(struct jrn *j, struct fail *f)
{
    if (j->fd >= 0 && ftruncate(j->fd, 0) != 0)
        return fail_sys(f, "write", buf_text(&j->path));
    j->end = 0;
    j->lost = false; /* now there may be room for it */
    jrn_head(j);
    return jrn_end(j, f);
}

/* The transfer is done, or given up for good. The name goes before the lock: whoever
 * waits for that finds that the file is in place no more, and makes a new one. Closes it
 * in any case. */
static void
jrn_remove(struct jrn *j)
{
    if (j->fd >= 0 && unlink(buf_text(&j->path)) != 0 && errno != ENOENT)
        log_say(LOG_WARN, "cannot remove the journal %s: %s", buf_text(&j->path),
                strerror(errno));
    jrn_close(j);
}

/* ---- the state folder ----
 *
 * The name of a journal is a SHA-256 in hexadecimal; ledger.jsonl is the ledger. All of
 * it belongs to one user, who alone may write there. A transfer is found again by what it
 * is, not by a number that somebody would have to remember: that is what the same command
 * means. */

/* Where journals and the ledger are: what was given, else by the rules of XDG, else that
 * of the system for root. It is made if it is not there, and out gets its path, with no
 * slash behind it. A name that is a link, or a folder that others may write to, could
 * send a transfer's data anywhere. */
static int
jrn_folder(const char *given, struct buf *out, struct fail *f)
{
    const char *state = os_env("XDG_STATE_HOME"), *home = os_env("HOME");
    struct stat info;

    if (given) {
        buf_str(out, given);
    } else if (state && *state == '/') { /* XDG has what is not absolute ignored */
        buf_str(out, state);
        buf_str(out, "/s3up");
    } else if (geteuid() == 0) {
        buf_str(out, "/var/lib/s3up");
    } else if (home && *home == '/') {
        buf_str(out, home);
        buf_str(out, "/.local/state/s3up");
    } else {
        return fail_set(f, S3UP_MISSING,
                        "there is no folder for the state of transfers: HOME is not set; "
                        "name one with --state-dir");
    }
    while (out->n > 1 && out->p[out->n - 1] == '/')
        out->p[--out->n] = 0; /* a link with a slash behind it is what it stands for */
    if (out->bad)
        return fail_set(f, S3UP_USAGE, "the name of the state folder is too long");
    if (!os_make_folders(buf_text(out), 0700) || lstat(buf_text(out), &info) != 0)
        return fail_sys(f, "make the state folder", buf_text(out));
    if (!S_ISDIR(info.st_mode))
        return fail_set(f, S3UP_USAGE, "the state folder %s is %s", buf_text(out),
                        S_ISLNK(info.st_mode) ? "a symbolic link: name what it stands for"
                                              : "no folder");
    if (info.st_uid != geteuid() || info.st_mode & 022)
        return fail_set(
            f, S3UP_DENIED, "the state folder %s %s: name another with --state-dir",
            buf_text(out),
            info.st_mode & 022 ? "can be written by others" : "belongs to another user");
    return 0;
}

/* What a transfer is known by: run again, the same command finds the same journal. A NUL
 * stands behind each, which none of them can have; a path and a key may have a LF. So no
 * two transfers have the same bytes, nor, but by a collision of SHA-256, the same
 * name. */
struct jrn_what {
    const char *verb, *source; /* source: a path from / on */
    struct span endpoint, bucket, key;
};

/* Appends the path of the journal of a transfer. */
static void
jrn_put_path(const char *folder, const struct jrn_what *w, struct buf *out)
{
    const struct span all[] = {span_of(w->verb), span_of(w->source), w->endpoint,
                               w->bucket, w->key};
    unsigned char digest[SHA256_SIZE];
    struct sum sum;

    sum_init(&sum, SUM_SHA256);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        sum_add(&sum, all[i].p, all[i].n);
        sum_add(&sum, "", 1);
    }
    sum_end(&sum, digest);
    buf_str(out, folder);
    buf_char(out, '/');
    hex_put(out, digest, sizeof digest);
}

/* Opens the journal of a transfer at j->path, or begins it, if make is set. 1: k has what
 * it says, 0: it is new and has its first line, -1: it is not open, and f says why;
 * S3UP_LOCKED if another run has it. Its name is brought to disk, as its lines are of no
 * use without. */
static int
jrn_open(struct jrn *j, bool make, struct jrn_facts *k, struct fail *f)
{
    int rc = jrn_lock(j, make, f);

    if (rc == 0)
        rc = jrn_load(j, k, f);
    if (rc == 0) {
        jrn_head(j);
        rc = jrn_end(j, f);
        if (rc < 0)
            (void)unlink(buf_text(&j->path)); /* it is empty, and locked by us */
        (void)os_sync_folder(
            buf_text(&j->path)); /* most file systems do so by themselves */
    }
    if (rc < 0 && j->fd >= 0) {
        (void)close(j->fd);
        j->fd = -1;
    }
    return rc;
}

/* Reads a journal as it is, and leaves it so: 1 if it says something; only then *busy and
 * *changed are set. busy: a run is at work on it. It is read without a lock, which a run
 * may hold for days: a line that is just being written is torn for us, and does not
 * count. The look at the lock takes it for a moment, which jrn_lock has patience for. */
static int
jrn_peek(const char *path, struct jrn_facts *k, bool *busy, struct os_time *changed,
         struct fail *f)
{
    struct jrn j = jrn_none();
    struct stat info;
    int64_t size;
    int rc;

    buf_str(&j.path, path);
    /* O_NONBLOCK: of a FIFO by that name nobody may ever come to be the writer. */
    j.fd = os_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (j.fd < 0)
        rc = fail_sys(f, "open the journal", path);
    else if (jrn_examine(&j, &info, f) < 0)
        rc = -1;
    else
        rc = jrn_read(&j, k, &size, f);
    if (rc > 0) {
        *busy = flock(j.fd, LOCK_SH | LOCK_NB) != 0;
        *changed = (struct os_time){info.st_mtim.tv_sec, (int32_t)info.st_mtim.tv_nsec};
    }
    jrn_close(&j);
    return rc;
}

/* Goes through the journals of a folder. Those that cannot be read, or are another
 * user's, are passed over, and so is what has not the name of one. see gets the facts for
 * the length of its call; changed is in seconds. -1 only if it cannot be opened. */
static int
jrn_each(const char *folder,
         void (*see)(void *owner, const struct jrn_facts *k, bool busy, int64_t changed),
         void *owner, struct fail *f)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (!dir)
        return fail_sys(f, "read the state folder", folder);
    /* Only errno tells the folder's end from a failure. */
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        struct buf path = buf_upto(PATH_MAX);
        unsigned char digest[SHA256_SIZE];
        struct fail unread = {S3UP_OK, ""};
        struct os_time changed = {0, 0};
        struct jrn_facts facts;
        bool busy = false;

        if (!hex_read(span_of(entry->d_name), digest, sizeof digest))
            continue;
        jrn_init(&facts);
        buf_str(&path, folder);
        buf_char(&path, '/');
        buf_str(&path, entry->d_name);
        if (jrn_peek(buf_text(&path), &facts, &busy, &changed, &unread) > 0)
            see(owner, &facts, busy, changed.s);
        else if (unread.code == S3UP_LATER && f->code == S3UP_OK)
            (void)fail_set(f, unread.code, "%s", unread.text);
        else if (unread.code != S3UP_OK && unread.code != S3UP_MISSING)
            log_say(LOG_WARN, "%s", unread.text);
        jrn_free(&facts);
        buf_free(&path);
    }
    if (errno && f->code == S3UP_OK)
        (void)fail_sys(f, "read the state folder", folder);
    (void)closedir(dir);
    return f->code == S3UP_OK ? 0 : -1;
}

/* ---- the ledger ----
 *
 * A journal ends with its transfer; the ledger remembers what was stored. It is for
 * people and their tools, and for drain, which removes no file before the line about it
 * is on disk. Many runs append to it, each a few whole lines at a time and under its
 * lock. A crash can tear the last line: the next writer ends it, and readers pass it
 * over. */

/* What has been stored, in lines that are yet to be appended: many at a time, since each
 * append waits for the disk. */
struct jrn_ledger {
    const char *folder; /* NULL: there is none */
    struct buf lines;   /* whole ones */
    unsigned n;         /* of lines */
    int64_t since;      /* ticks at the first of them */
};

/* Appends the lines, and has them be on disk before it returns. Gives what a crash left
 * without an end its end, so that it spoils one line only. What does not fit on the disk
 * is taken back. */
static int
jrn_ledger_write(int fd, const char *path, struct span lines, struct fail *f)
{
    off_t end = lseek(fd, 0, SEEK_END);
    char last = '\n';

    if (end < 0 || (end > 0 && os_read(fd, &last, 1, end - 1) != 1))
        return fail_sys(f, "read", path);
    if ((last != '\n' && !os_write(fd, "\n", 1)) || !os_write(fd, lines.p, lines.n)) {
        (void)fail_sys(f, "write", path);
        (void)!ftruncate(fd, end); /* we hold the lock: it is ours alone */
        return -1;
    }
    return fdatasync(fd) == 0 ? 0 : fail_sys(f, "write", path);
}

/* Opens and locks the ledger; its descriptor, or -1. Runs side by side wait for each
 * other; one that has grown large becomes old, and what had that name is forgotten. If it
 * cannot, it grows on. Who waited for the lock may have got that of a file that has
 * become old meanwhile: then the name stands for another one, and it is opened anew. */
static int
jrn_ledger_open(const char *path, const char *old, struct fail *f)
{
    struct stat info;

    for (int tries = 0; tries < JRN_TRIES; tries++) {
        int fd = os_open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0600), rc;

        if (fd < 0)
            return fail_sys(f, "open", path);
        do /* nobody holds it for longer than one append and its sync */
            rc = flock(fd, LOCK_EX);
        while (rc != 0 && os_again());
        if (rc != 0) {
            (void)fail_sys(f, "lock", path);
            (void)close(fd);
            return -1;
        }
        if (jrn_in_place(fd, path, &info) &&
            (info.st_size < JRN_LEDGER || rename(path, old) != 0))
            return fd;
        (void)close(fd);
    }
    return fail_set(f, S3UP_LATER, "the ledger %s is replaced again and again", path);
}

/* Appends the lines to ledger.jsonl; the old one is ledger.jsonl.1. The lines are gone
 * then, also if it failed: the caller says so, and tries no second time. 0 also if there
 * is none to append to. */
static int
jrn_ledger_flush(struct jrn_ledger *g, struct fail *f)
{
    struct buf path = buf_upto(PATH_MAX), old = buf_upto(PATH_MAX);
    int fd, rc;

    if (!g->folder || !g->n)
        return 0;
    buf_str(&path, g->folder);
    buf_str(&path, "/ledger.jsonl");
    buf_put(&old, buf_span(&path));
    buf_str(&old, ".1");
    fd = g->lines.bad ? fail_set(f, S3UP_LATER, "no memory for the ledger")
                      : jrn_ledger_open(buf_text(&path), buf_text(&old), f);
    rc = fd < 0 ? -1 : jrn_ledger_write(fd, buf_text(&path), buf_span(&g->lines), f);
    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = fail_sys(f, "write", buf_text(&path));
    buf_clear(&g->lines);
    g->n = 0;
    buf_free(&path);
    buf_free(&old);
    return rc;
}

/* One line, without its end. It is written when there are many or they have waited for
 * long, which is looked at here only: who must know that it is on disk calls
 * jrn_ledger_flush. */
static int
jrn_ledger_add(struct jrn_ledger *g, struct span line, struct fail *f)
{
    if (!g->folder)
        return 0;
    if (!g->n++)
        g->since = os_ticks();
    buf_put(&g->lines, line);
    buf_char(&g->lines, '\n');
    if (g->lines.bad)
        return fail_set(f, S3UP_LATER, "no memory for the ledger");
    return g->n < JRN_GROUP && os_ticks() - g->since < JRN_WAIT ? 0
                                                                : jrn_ledger_flush(g, f);
}

/* ===== ROOM 6 socket: names become addresses, addresses become connections =====
 *
 * In: a host name or address, a port, a moment until which to try. Out: a connected
 * socket that never blocks; it belongs to whoever gets it. net_open is the way through:
 * the name is looked up in a child (net_lookup), the two families of addresses take turns
 * (net_interleave), and they are tried side by side (net_connect). All three share one
 * deadline.
 *
 * All waiting is done in net_wait, in slices of NET_SLICE, so that a stop is seen within
 * a quarter of a second. Whatever is added here that can take time must wait there, too.
 * Progress is counted in bytes that the other side has got, not in bytes that the kernel
 * has buffered: a slow link is no stall, a dead one is. What a socket should be told once
 * it is connected stands in net_tune.
 *
 * Refuses nothing that a resolver finds, but uses only the first NET_ADDRESSES of it. A
 * name that cannot be looked up and a host that cannot be reached are both worth another
 * run (S3UP_LATER): on a box that has just started, the network comes later than we
 * do.
 */

/* One address, with its port, as connect wants it. */
struct net_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
};

/* What a lookup found. It has no pointers, since it comes through a pipe as it is. */
struct net_addresses {
    struct net_address at[NET_ADDRESSES];
    int32_t n;     /* how many of at are in use */
    int32_t error; /* of getaddrinfo; 0 when there are addresses */
};

static socklen_t
net_length(const struct net_address *a)
{
    return a->at.any.sa_family == AF_INET6 ? sizeof a->at.v6 : sizeof a->at.v4;
}

/* Waits for one of the events of poll. 1: ready, 0: the time is over, -1: asked to stop,
 * or the wait failed. until is in ticks; -1 waits for ever. A moment that has passed
 * already gets one look, without a wait: so callers ask what is there right now. */
static int
net_wait(struct pollfd *fds, nfds_t n, int64_t until)
{
    for (;;) {
        int64_t left = until < 0 ? NET_SLICE : until - os_ticks();
        int ready;

        /* Here, and not only when poll is interrupted: a signal that comes between this
         * look and the poll does not end the poll. The slice does. */
        if (os_stop) {
            errno = EINTR;
            return -1;
        }
        os_beat();
        ready = poll(fds, n, left <= 0 ? 0 : left < NET_SLICE ? (int)left : NET_SLICE);
        if (ready > 0)
            return 1;
        if (ready < 0 && errno != EINTR)
            return -1;
        /* left was measured before the poll: 0 or less says that this was the last look.
         * A signal that is no stop goes round once more. */
        if (ready == 0 && until >= 0 && left <= 0)
            return 0;
    }
}

/* The same for one descriptor. True when an event came, which may be that it broke; else
 * errno says why not: ETIMEDOUT, EINTR for a stop, or what poll said. */
static bool
net_wait_one(int fd, short events, int64_t until)
{
    struct pollfd one = {.fd = fd, .events = events};
    int ready = net_wait(&one, 1, until);

    if (ready == 0)
        errno = ETIMEDOUT;
    return ready == 1;
}

/* Appends an address, with this port. False when the list is full, or the family is none
 * that we connect to. The family is set first, because it decides how much is copied. */
static bool
net_add(struct net_addresses *list, const struct sockaddr *a, unsigned port)
{
    struct net_address *to = &list->at[list->n];

    if (list->n == NET_ADDRESSES || (a->sa_family != AF_INET && a->sa_family != AF_INET6))
        return false;
    to->at.any.sa_family = a->sa_family;
    memcpy(to, a, net_length(to));
    if (a->sa_family == AF_INET6)
        to->at.v6.sin6_port = htons((uint16_t)port);
    else
        to->at.v4.sin_port = htons((uint16_t)port);
    list->n++;
    return true;
}

/* Is the host an address, written out? Then it is appended and needs no lookup. Others
 * ask this of a list that they throw away. */
static bool
net_literal(const char *host, unsigned port, struct net_addresses *list)
{
    struct net_address a = {.at.v4 = {.sin_family = AF_INET}};

    if (inet_pton(AF_INET, host, &a.at.v4.sin_addr) == 1)
        return net_add(list, &a.at.any, port);
    a = (struct net_address){.at.v6 = {.sin6_family = AF_INET6}};
    if (inet_pton(AF_INET6, host, &a.at.v6.sin6_addr) == 1)
        return net_add(list, &a.at.any, port);
    return false;
}

/* The resolver of the C library cannot be given a deadline, and does not return when a
 * signal asks it to. So a child runs it, which can be killed, and its answer comes
 * through a pipe, in one piece because it is smaller than PIPE_BUF. */
static void
net_lookup_child(const char *host, unsigned port, int to)
{
    struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct net_addresses list = {.n = 0};

    list.error = getaddrinfo(host, NULL, &want, &found);
    for (struct addrinfo *a = found; a && !list.error; a = a->ai_next)
        (void)net_add(&list, a->ai_addr, port);
    /* Nobody is left to be told if this fails: the parent reads too little, and knows. */
    (void)os_write(to, &list, sizeof list);
    _exit(S3UP_OK); /* without the exit handlers of the process that we are a copy of */
}

/* The addresses of a host, at least one, each with the port. 0, or -1 and the reason. No
 * child is left behind, whatever happens. */
static int
net_lookup(const char *host, unsigned port, int64_t until, struct net_addresses *list,
           struct fail *f)
{
    int pipes[2], rc = -1;
    pid_t child;

    list->n = list->error = 0;
    if (net_literal(host, port, list))
        return 0;
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return fail_sys(f, "look up", host);
    child = fork();
    if (child == 0)
        net_lookup_child(host, port, pipes[1]);
    /* With this end closed, the death of the child is the end of the pipe, not a
     * silence. */
    (void)close(pipes[1]);
    if (child < 0)
        (void)fail_sys(f, "look up", host);
    else if (!net_wait_one(pipes[0], POLLIN, until))
        (void)fail_sys(f, "look up", host);
    else if (os_read(pipes[0], list, sizeof *list, -1) != (ssize_t)sizeof *list)
        (void)fail_set(f, S3UP_LATER, "cannot look up %s: the resolver died", host);
    else if (list->error || list->n <= 0 || list->n > NET_ADDRESSES)
        (void)fail_set(f, S3UP_LATER, "cannot look up %s: %s", host,
                       list->error ? gai_strerror(list->error) : "it has no address");
    else
        rc = 0;
    (void)close(pipes[0]);
    if (child > 0) {
        (void)kill(child, SIGKILL); /* done already, or too late */
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    return rc;
}

/* The families take turns, beginning with the one the system prefers: so a family that
 * does not work here costs a quarter of a second and no more (RFC 8305). */
static void
net_interleave(struct net_addresses *list)
{
    struct net_addresses in = *list;
    sa_family_t turn = in.at[0].at.any.sa_family;
    bool used[NET_ADDRESSES] = {false};

    for (int32_t n = 0; n < in.n; n++) {
        int32_t pick = -1;

        /* Backwards, so that what stays picked is the first of the family whose turn it
         * is; or the first of all, when that family has no more. */
        for (int32_t i = in.n - 1; i >= 0; i--)
            if (!used[i] && (pick < 0 || in.at[i].at.any.sa_family == turn ||
                             in.at[pick].at.any.sa_family != turn))
                pick = i;
        used[pick] = true;
        list->at[n] = in.at[pick];
        turn = in.at[pick].at.any.sa_family == AF_INET6 ? AF_INET : AF_INET6;
    }
}

/* A socket that is on its way to the address; or -1 and errno, as when this machine has
 * no route for the family at all. */
static int
net_start(const struct net_address *a)
{
    int fd = socket(a->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (connect(fd, &a->at.any, net_length(a)) == 0 || errno == EINPROGRESS)
        return fd;
    (void)close(fd);
    return -1;
}

/* 0 when connected, else the errno of the attempt. */
static int
net_outcome(int fd)
{
    int error = 0;
    socklen_t n = sizeof error;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 ? error : errno;
}

/* Small pieces leave at once. A silent wait for a reply notices a peer that has gone
 * without a word, as after a power cut: it is probed after half a minute of silence, and
 * given up two minutes later. */
static void
net_tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {{IPPROTO_TCP, TCP_NODELAY, 1},
                   {SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 30},
                   {IPPROTO_TCP, TCP_KEEPINTVL, 15},
                   {IPPROTO_TCP, TCP_KEEPCNT, 8}};

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof options[i].value); /* all of it is only better */
}

/* All attempts of one connect, open at the same time. */
struct net_race {
    struct pollfd fds[NET_ADDRESSES];
    nfds_t n;        /* attempts under way: the first n of fds */
    int32_t next;    /* the address to try next */
    int64_t next_at; /* and when, in ticks: at once when an attempt failed */
    int error;       /* why the last one failed */
};

/* Drops attempt i, which lost or failed. The last one takes its place. */
static void
net_drop(struct net_race *r, nfds_t i)
{
    (void)close(r->fds[i].fd);
    r->fds[i] = r->fds[--r->n];
}

/* The first attempt that is through, or -1. It is taken out of the race, so that the end
 * of the race does not close it. Those that failed are dropped. */
static int
net_winner(struct net_race *r)
{
    for (nfds_t i = 0; i < r->n;) {
        int fd = r->fds[i].fd, error;

        if (!r->fds[i].revents) {
            i++;
            continue;
        }
        error = net_outcome(fd);
        if (error == 0) {
            r->fds[i] = r->fds[--r->n];
            return fd;
        }
        /* i stays: another attempt stands there now. What was refused is not waited for:
         * the next address is due at once. */
        net_drop(r, i);
        r->error = error;
        r->next_at = 0;
    }
    return -1;
}

/* Tries all addresses, one more after each NET_STAGGER while none has answered. The first
 * that is through wins, and the others are closed. A connected socket, or -1 with errno:
 * of the attempt that was the last to fail, ETIMEDOUT, or EINTR for a stop. */
static int
net_connect(const struct net_addresses *list, int64_t until)
{
    struct net_race r = {.error = ETIMEDOUT};
    int fd = -1;

    while (fd < 0 && (r.n || r.next < list->n)) {
        int64_t now = os_ticks(), wake;

        /* With nothing under way there is nothing to wait for: the next one starts
         * now. */
        if (r.next < list->n && (now >= r.next_at || !r.n)) {
            int started = net_start(&list->at[r.next++]);

            if (started < 0) {
                r.error = errno;
                continue;
            }
            r.fds[r.n++] = (struct pollfd){.fd = started, .events = POLLOUT};
            r.next_at = now + NET_STAGGER;
        }
        wake = r.next < list->n && r.next_at < until ? r.next_at : until;
        if (net_wait(r.fds, r.n, wake) < 0) {
            r.error = errno;
            break;
        }
        /* A look at the attempts comes before a look at the clock: one that came through
         * in the last moment counts. */
        fd = net_winner(&r);
        if (fd < 0 && os_ticks() >= until) {
            r.error = ETIMEDOUT;
            break;
        }
    }
    while (r.n)
        net_drop(&r, 0);
    if (fd >= 0)
        net_tune(fd);
    errno = r.error;
    return fd;
}

/* Looks up and connects; a socket that the caller closes, or -1. */
static int
net_open(const char *host, unsigned port, int64_t until, struct fail *f)
{
    struct net_addresses list;
    int fd;

    if (net_lookup(host, port, until, &list, f) < 0)
        return -1;
    net_interleave(&list);
    fd = net_connect(&list, until);
    if (fd < 0)
        (void)fail_set(f, os_stop ? S3UP_INTERRUPTED : S3UP_LATER,
                       "cannot connect to %s port %u: %s (%d address%s tried)", host,
                       port, strerror(errno), (int)list.n, list.n == 1 ? "" : "es");
    return fd;
}

/* What send and recv may say besides a number of bytes. END: the other side will send
 * nothing more. DEAD: the connection is broken, for good. LATER: nothing can be moved at
 * this moment; net_wait tells when to ask again. */
enum { NET_END = 0, NET_DEAD = -1, NET_LATER = -2 };

/* Gives the kernel what it takes at once. A peer that went away is an answer here, not a
 * signal, also in a program that has SIGPIPE kill it. */
static ssize_t
net_send(int fd, const void *p, size_t n)
{
    ssize_t did;

    do
        did = send(fd, p, n, MSG_NOSIGNAL);
    while (did < 0 && errno == EINTR);
    if (did < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? NET_LATER : NET_DEAD;
    return did;
}

static ssize_t
net_recv(int fd, void *p, size_t n)
{
    ssize_t did;

    do
        did = recv(fd, p, n, 0);
    while (did < 0 && errno == EINTR);
    if (did < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? NET_LATER : NET_DEAD;
    return did;
}

/* Tells the other side at once what has come. The kernel takes 40 ms for that where it
 * hopes for bytes to send along. */
static void
net_acknowledge(int fd)
{
    int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

/* Bytes that were given to the kernel and not yet acknowledged by the other side. 0 where
 * the kernel does not tell: then what it has buffered counts as moved. */
static uint64_t
net_unsent(int fd)
{
    int n = 0;

    return ioctl(fd, TIOCOUTQ, &n) == 0 && n > 0 ? (uint64_t)n : 0;
}

/* Watches that bytes move: fewer than `least` in any stretch of `limit` is a stall. Only
 * the time spent waiting counts: whoever reads a slow disk in between, or was stopped for
 * a while, has no dead peer. */
struct net_watch {
    uint64_t moved; /* the count when the stretch began */
    int64_t waited; /* milliseconds since then */
    int64_t limit;  /* milliseconds */
    uint64_t least; /* bytes */
};

/* To be told after each wait how many milliseconds it took, and how many bytes have moved
 * in all. True when too little has moved for too long. A stretch ends as soon as enough
 * has moved, so that a slow but steady link never adds up to a stall. */
static bool
net_stalled(struct net_watch *w, uint64_t moved, int64_t waited)
{
    w->waited += waited;
    if (moved - w->moved >= w->least) {
        w->moved = moved;
        w->waited = 0;
    }
    return w->waited > w->limit;
}

/* ===== ROOM 7 tls: a connection that is private, to the host that was meant =====
 *
 * In: a connected socket, the name of the host, trusted roots. Out: a struct wire that
 * sends and receives bytes, plain or through BearSSL; the rooms above see no difference.
 * TLS 1.2 with forward secrecy and authenticated encryption only; RSA keys of
 * TLS_RSA_LEAST bits and more; no renegotiation. There is no way to switch verification
 * off: a private authority is a file. The random numbers of BearSSL are always mixed with
 * the kernel's.
 *
 * Roots are found lazily. A bundle of 150 is read into one block of DER with an index of
 * subject names; only the one or two that a chain asks for are decoded. BearSSL verifies
 * chains with br_x509_minimal; tls_x509 stands in front of it, hands over each
 * certificate as it came, puts the root before it that it names as its issuer, and does
 * what minimal does not: match IP addresses, and tell "expired" from "not yet valid".
 *
 * A wire begins with a socket. tls_start makes it a TLS connection, or fails; it never
 * goes on in plain. wire_send, wire_recv and wire_wait then work until one of them says
 * END or DEAD, and wire_close ends it and frees what it holds. An end of TLS that the
 * peer did not announce sets `cut`: somebody on the way may have ended it, to make us
 * believe that a body is shorter than it is.
 *
 * What can be decided only by a person (an unknown issuer, another host's certificate, no
 * cipher in common) is S3UP_DENIED; what may be a broken connection or a wrong clock is
 * S3UP_LATER. To add a place where bundles lie, add it in tls_load_roots; a root that is
 * always there, to tls_builtin; a cipher, in tls_profile; words for an error, in
 * tls_explain.
 */

/* ---- trusted roots ---- */

/* One trusted root: its name, and its certificate or (built in) its bare key. */
struct tls_root {
    uint32_t name_at, name_n; /* the subject, as DER, in tls_roots.der */
    uint32_t at, n;           /* the certificate or key, in the same place */
    uint32_t is_key;          /* 1: an RSA modulus or an EC point */
};

/* All trusted roots of a store. Filled once, before its first https connection; then only
 * read. tls_free_roots frees what it holds. */
struct tls_roots {
    struct buf der;   /* names and certificates */
    struct buf index; /* struct tls_root, one behind the other */
    const char *from; /* where they came from, for messages; not ours to free */
};

/* Takes one element with this tag off the front of s (any tag if 0). Lengths above three
 * bytes are of no certificate and are refused, as is what reaches beyond s; s is left as
 * it was then. The content may be empty. */
static bool
tls_der(struct span *s, unsigned tag, struct span *content)
{
    const unsigned char *u = (const unsigned char *)s->p;
    size_t n, head = 2;

    if (s->n < 2 || (tag && u[0] != tag))
        return false;
    n = u[1];
    if (n & 0x80) {
        /* So many bytes of length follow. None would mean "until an end is marked", which
         * DER does not have. */
        size_t bytes = n & 0x7f;

        if (bytes < 1 || bytes > 3 || s->n < 2 + bytes)
            return false;
        for (n = 0; head < 2 + bytes; head++)
            n = n << 8 | u[head];
    }
    /* head is at most s->n here, so this cannot wrap. */
    if (n > s->n - head)
        return false;
    *content = span_at(s->p + head, n);
    *s = span_at(s->p + head + n, s->n - head - n);
    return true;
}

/* What we look at in a certificate ourselves. */
struct tls_names {
    struct span issuer, subject; /* whole elements, to be compared byte by byte */
    struct span extensions;      /* the list's content; empty when there is none */
    int64_t from, until;         /* seconds since 1970 */
};

/* UTCTime (YYMMDDHHMMSSZ, of the years 1950 to 2049) or GeneralizedTime
 * (YYYYMMDDHHMMSSZ). Certificates may use no other spelling of these two (RFC 5280), so
 * the length tells. */
static bool
tls_date(struct span *s, int64_t *t)
{
    bool is_short = span_starts(*s, "\x17");
    struct span d;
    struct date v;
    unsigned year;
    size_t at = is_short ? 2 : 4;

    if (!tls_der(s, is_short ? 0x17 : 0x18, &d) || d.n != at + 11 ||
        !date_field(d, 0, at, &year) || !date_field(d, at, 2, &v.month) ||
        !date_field(d, at + 2, 2, &v.day) || !date_field(d, at + 4, 2, &v.hour) ||
        !date_field(d, at + 6, 2, &v.minute) || !date_field(d, at + 8, 2, &v.second))
        return false;
    v.year = is_short ? (year < 50 ? 2000 : 1900) + (int64_t)year : year;
    return date_time(v, t);
}

/* Takes a sequence off the front of s, as it is written, with its tag and length: names
 * are the same when their bytes are. */
static bool
tls_take_whole(struct span *s, struct span *whole)
{
    struct span content;

    *whole = *s;
    if (!tls_der(s, 0x30, &content))
        return false;
    whole->n -= s->n;
    return true;
}

/* Walks through a certificate in the fixed order of its fields. False when that is not
 * its order; nothing else is checked here, the signature least of all, since BearSSL does
 * that. What it finds points into der. It must be safe on any bytes: a server we do not
 * trust yet sent them. */
static bool
tls_read_names(struct span der, struct tls_names *names)
{
    struct span certificate, tbs, skip, validity, rest;

    names->extensions = (struct span){NULL, 0};
    if (!tls_der(&der, 0x30, &certificate) || !tls_der(&certificate, 0x30, &tbs))
        return false;
    if (span_starts(tbs, "\xa0") && !tls_der(&tbs, 0xa0, &skip)) /* version */
        return false;
    if (!tls_der(&tbs, 0x02, &skip) ||
        !tls_der(&tbs, 0x30, &skip) || /* serial, algorithm */
        !tls_take_whole(&tbs, &names->issuer) || !tls_der(&tbs, 0x30, &validity) ||
        !tls_take_whole(&tbs, &names->subject) || !tls_der(&tbs, 0x30, &skip)) /* key */
        return false;
    /* What is left is optional: two old kinds of identifiers, and the extensions. */
    while (tbs.n) {
        bool is_list = span_starts(tbs, "\xa3");

        if (!tls_der(&tbs, 0, &rest))
            return false;
        if (is_list && !tls_der(&rest, 0x30, &names->extensions))
            return false;
    }
    return tls_date(&validity, &names->from) && tls_date(&validity, &names->until);
}

static const struct tls_root *
tls_root_at(const struct tls_roots *roots, size_t i)
{
    const void *p = roots->index.p; /* from malloc, so aligned for any type */

    return (const struct tls_root *)p + i;
}

static size_t
tls_root_count(const struct tls_roots *roots)
{
    return roots->index.n / sizeof(struct tls_root);
}

/* Appends a root. Places, not pointers, are kept, because the block moves as it grows;
 * they fit 32 bits, since TLS_BUNDLE bounds it. What did not fit shows in .bad of the
 * buffers, which tls_load_roots looks at. */
static void
tls_add_root(struct tls_roots *roots, struct span name, struct span body, bool is_key)
{
    struct tls_root root = {.name_at = (uint32_t)roots->der.n, .is_key = is_key};

    root.name_n = (uint32_t)name.n;
    buf_put(&roots->der, name);
    root.at = (uint32_t)roots->der.n;
    root.n = (uint32_t)body.n;
    buf_put(&roots->der, body);
    buf_add(&roots->index, &root, sizeof root);
}

/* Base64 with line ends in it. False on anything else, also on header lines inside of the
 * block: certificates have none. Twice the size leaves room for base64's third. */
static bool
tls_unpem(struct span s, struct buf *out)
{
    struct buf packed = buf_upto(TLS_CERT * 2);
    bool good;

    for (size_t i = 0; i < s.n; i++)
        if (!xml_space(s.p[i]))
            buf_char(&packed, s.p[i]);
    good = !packed.bad && b64_read(buf_span(&packed), out);
    buf_free(&packed);
    return good;
}

/* All certificates of a PEM text; those that cannot be read are passed over, as everybody
 * does: a bundle must not become useless by one odd member. */
static void
tls_add_pem(struct tls_roots *roots, struct span pem)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    struct tls_names names;

    while (xml_skip_to(&pem, 0, begin)) {
        struct buf der = buf_upto(TLS_CERT);
        struct span rest = pem;

        /* rest is behind the mark, of eight bytes: the base64 ends before it. A block
         * whose end is missing runs into the next one's begin, which is no base64: it is
         * passed over. */
        if (xml_skip_to(&rest, 0, "-----END") &&
            tls_unpem(span_first(pem, pem.n - rest.n - 8), &der) &&
            tls_read_names(buf_span(&der), &names))
            tls_add_root(roots, names.subject, buf_span(&der), false);
        buf_free(&der);
    }
}

/* The built-in roots, for hosts that have no bundle: those above the stores that people
 * use most. A root is its name and its key, in base64; a key that begins with 04 is an EC
 * point, the others are RSA moduli with the exponent 65537. All are valid until 2035 or
 * longer. Taken from Mozilla's list; the tests hold them against the system's bundle. */
static const struct {
    const char *name, *key;
} tls_builtin[] = {
    /* Amazon Root CA 1: S3 in all regions */
    {"MDkxCzAJBgNVBAYTAlVTMQ8wDQYDVQQKEwZBbWF6b24xGTAXBgNVBAMTEEFtYXpvbiBSb290"
     "IENBIDE=",
     "sniAccp41eNxr0eAUHR9btjXiHb0mWj3WCFg+XSEAS+sAi2G06BDek6ypNA2ugG+jdtIyAcX"
     "Nkz07ogjxz7rN/W1GfhJaLDe17l2OB1hnqT+gjal5UpW5EXh+f20Fvp02pybNTkv+rAgUAZs"
     "etCAsqb5r+xHGY9QOAfcooc5WPi61an5SGcwlu6UeF5viaNRwDCGZqFFZrpU66PDkflI3P/R"
     "6DAtfS10cDXXiCT3nsRZbrtzhxfyMkYouEP6tx2qyrTynyQOLUv3cVxeaf/qlQLLOIquUDhv"
     "2/stYhvFxx5U4XfgZ8gPnIcj1j9AIH8ggMSATD47JCaOBK5smsiqDQ=="},
    /* Starfield Services G2: S3, where the chain is longer */
    {"MIGYMQswCQYDVQQGEwJVUzEQMA4GA1UECBMHQXJpem9uYTETMBEGA1UEBxMKU2NvdHRzZGFs"
     "ZTElMCMGA1UEChMcU3RhcmZpZWxkIFRlY2hub2xvZ2llcywgSW5jLjE7MDkGA1UEAxMyU3Rh"
     "cmZpZWxkIFNlcnZpY2VzIFJvb3QgQ2VydGlmaWNhdGUgQXV0aG9yaXR5IC0gRzI=",
     "1Qw6xCr5TuL1vhmXX46IU7EfP8vPnyATbSk6yA99PPdrdjhj2TZgqJteXACAsi9Zf/aH+SVD"
     "hudpG1KakOFx49gtDU5v9shJ2bbzGlauK7Z0FOvP+ybjGrodli5qO1iUiUdW/yWgk3BTg9qE"
     "dBTDZ54EaDrfjkBaHUpOz0ORO+dW1gBwy1Lue32uOue8MflF9sJgzxNZAiuAzDRH37nekGVt"
     "As8skaam596FGEl8Zk6jOm2pte40LroNA7gz30frsWuNJdmbzoHRRUYylnCH3gIOSUOFtmxz"
     "u2TqYUGsydRU34cvxyKyJsyfWVRon/y+Ki/EVRx1QGAXhQJVOYt/BQ=="},
    /* ISRG Root X1: Let's Encrypt, as most self-hosted stores and B2 use */
    {"ME8xCzAJBgNVBAYTAlVTMSkwJwYDVQQKEyBJbnRlcm5ldCBTZWN1cml0eSBSZXNlYXJjaCBH"
     "cm91cDEVMBMGA1UEAxMMSVNSRyBSb290IFgx",
     "regkc/QUN/ObnitXKByHvty33ziQjG485legePd1wqL+9Wpu9gBPKNveaIZsRJO2sWP9FBJr"
     "vx/S6jGbIX7RMzy6SPXded+zuP8S8SGaS8GKhnFpSmZmbI9+PHC/rSkiBvPkwOaAruJLj7eZ"
     "fpQDn9NHl3yZSCNT6DiuTwpvgy7RSVeMgHS22i/QOI17A3AhG3XyMDz6j67d2mOr6xZPwo4R"
     "S37PC+j/tXcu9LJ7SuBMEiUMcI0DKaDhUyTsE9nuGb8Qs0qMP4mjYVHerIcHlPRjcewu4m9b"
     "mIHhiVw0eWx27zuQYnnm26SaLybF0BDhDt7ZEI4W+7f3qPfH5QIHmI82CJXn4jeWDTZ1nvsO"
     "crEdm7wD+UkF2IHdBbQq1kHprAF2lQoP2N/VvRIfNS8oF2zSmMGoCWR3bkc3us6sWV5onX9y"
     "1onFBkEpPlk+3Sb1JMkRp1qjTEAfRqGZtac6UW6GO559cqcSBXhZ7T5ReBULA4+N0C8Fsj57"
     "ShxLcwUS/Mbq4FATfEOTdLPKdOeOHwEI0DDUW3E2tAe6wTAwXEi3gjuYpn1giqKjKYLMur2D"
     "BBuigwNBodYF8RvCtvCofIY7RqhIKojcdpp2vx9qpT0Zj+s482TeyCsNCij/99viFULUItAn"
     "XeF5/hjncIitTubZizrG3SdRbv+8ZPUzQ08="},
    /* ISRG Root X2: the same with elliptic curves */
    {"ME8xCzAJBgNVBAYTAlVTMSkwJwYDVQQKEyBJbnRlcm5ldCBTZWN1cml0eSBSZXNlYXJjaCBH"
     "cm91cDEVMBMGA1UEAxMMSVNSRyBSb290IFgy",
     "BM2b1Z+AgwrsCUrzFko+XM93rN5nBQ0dB7bcFvtaixTb4nFgxLpFlRGJjuoG3/cqFhykucXF"
     "MuAD4B6CGDiL10XYCmpu5gB3+wJRfSLYCm6aW3ff8PpB7DncdcpoBwwf6g=="},
    /* GTS Root R1: Google Cloud Storage */
    {"MEcxCzAJBgNVBAYTAlVTMSIwIAYDVQQKExlHb29nbGUgVHJ1c3QgU2VydmljZXMgTExDMRQw"
     "EgYDVQQDEwtHVFMgUm9vdCBSMQ==",
     "thECix7joXebO9y/lD63ladAPKH9gvl9MgaCcfb2jH/76Nu8ai6Xl6OMS/kr9rH5zoQdsfnF"
     "l97vufKj6bwSiV6nqlKr+CMny6SxnGPb15l+8Ape62im9MZaRw1NEDPjTrETo8gYbEvs/AmQ"
     "351kKSUjB6G00j0uYODP0gmHu81I8E3CwnqIiru6z1kZ1q+PsAewnjHxgsHA3y6mbWwZDrXY"
     "fiYaRQM9sHmklCitD38m5agI/pboPGiUU+6DOogrFZYJsuB6jC511pzrp1Zkj5ZPaK49l8KE"
     "j8C8QMALXL32h7M1bKwYUH+E4EzNktMg6TO8UpmvMrUpsyUqtEj5cuHKZPfmghCN6J3Cioj6"
     "OGaK/GP5Afl4/Xtcd/p2h/rs37EOeZVXtL0m79YB0esWCruOC7XFxYpVq9Os6pFLKcwZpDIl"
     "TirxZUTQAs6qzkm06p98g7BAe+dDq6dso499iYH6TKX/1Y7DzkvgtdizjkXPdsDtQCv9Uw+w"
     "p9U7DbGKogPeMa3Md+pvez7W35EiEua++tgy/BBjFFFy3l3WFpO9KWgz7zpm7AeKJt8T11dl"
     "eCfeXkkUAKIAf5qoIbapsZWwpbkNFhHax2xIPEDgfg1azVY80ZcFuctL7TlLnMQ/0lUTbiSw"
     "1nH69MG6zO0b9f6BQdgAmD06yK56mDcYBZU="},
    /* GTS Root R4: the same with elliptic curves; Cloudflare R2 */
    {"MEcxCzAJBgNVBAYTAlVTMSIwIAYDVQQKExlHb29nbGUgVHJ1c3QgU2VydmljZXMgTExDMRQw"
     "EgYDVQQDEwtHVFMgUm9vdCBSNA==",
     "BPN0c6doi2CuQ7g1xYEwe0tJnfvBYc7m3ka9a9VhGDWuQN1z94mRMFrrPO6FfKJAdjupxrhH"
     "2CrnkpFqc+mxcjmfKZ+imNNfXliGZQ+hhGUG0dyLycdzyIxqL+XEq9Edig=="},
    /* DigiCert Global Root G2: Wasabi, Azure-fronted and many hosted stores */
    {"MGExCzAJBgNVBAYTAlVTMRUwEwYDVQQKEwxEaWdpQ2VydCBJbmMxGTAXBgNVBAsTEHd3dy5k"
     "aWdpY2VydC5jb20xIDAeBgNVBAMTF0RpZ2lDZXJ0IEdsb2JhbCBSb290IEcy",
     "uzfNNNx7a8myaJCtSnX/RrohCgiN9RlUyfuI2/Ou8jqJkTx65qsGGmvPrC3oXgkkRLpimn7W"
     "o6h+4FR1IAWsULecYxpsMNzaHxmx1x7e/dfgy5SDN67sH0NO3Xss0r0upS/kqbitOtSZpLYl"
     "6ZtrAGCSYP9PIUkY92eQq2EGnI/yuum06ZIya7XzV+hdG82MHauVBJVJ8zUtluNJbd134/tJ"
     "S7SsVQepj5WztCO7TG1F8PapspUwtP1MVYwnSlcUfIKdzXOS0xZKBgyMUNGPHgm+F6HmIcr9"
     "g+UQvIOlCsRnKPZzFBQ9RnbDhxSJITRNrw9FDKZJobq7nMWxM4MphQ=="},
    /* USERTrust RSA: Sectigo, as European hosters use */
    {"MIGIMQswCQYDVQQGEwJVUzETMBEGA1UECBMKTmV3IEplcnNleTEUMBIGA1UEBxMLSmVyc2V5"
     "IENpdHkxHjAcBgNVBAoTFVRoZSBVU0VSVFJVU1QgTmV0d29yazEuMCwGA1UEAxMlVVNFUlRy"
     "dXN0IFJTQSBDZXJ0aWZpY2F0aW9uIEF1dGhvcml0eQ==",
     "gBJlFzYOw9sIs9CsVw127c0n00ytUINh4qogTQktZAnczomfzD2p7PbPwdzx07HWezcoEStH"
     "2jnGvDoZtF+mvX2do2NCtnbyqTsrkfjib9DsFiCQCT7i6HTJGLSR1GJk23+jBvGIGGqQIjy8"
     "/hPwhxR79uQfjtTkUcYRZ0YIUcuGFFQ/vDP+fmyc/xadGL1RjjWmp2bIcmfbIWax1Jt4A8BQ"
     "OujM8Ny8nkz+rwWWNR9XWrf/zvk9tyy29lTdyOcSOk2uTIq3XJq0tyA9yn8iNK5+O2hmAUTn"
     "AU5GU5szYPeUvlM3kHND8zLDU+/bqv50TmnHa4xgk97Exwzf4TKuzJM7UXiVZ4vuPVb+DNBp"
     "DxsP8yUmazNt925H+nND5X4OpWaxKXwyhGNVicQNwZNUMBkTrNN9N6frXTpsNVzbQdcS2qlJ"
     "C9/YgIoJk2KOtWbPJYjNhLixP6Q5D9kCnusSTJV882sFqV4Wg8y4Z+LoE53MW4LTTLPtW//e"
     "5XOsIzstAL81VXQJSdhJWBp/kjbmUZIO8yZ9HE0XvMnsQybQv0FfQKlERPSZ51eHnlAfV1So"
     "Pv10Yy+xUGUJ5lhCLkMaTLTwJUdZ+gQek9QmRkpQgbLevni3/GcV4clXhB4PY9bpYrrWX1Uu"
     "6lzGKAgEJTm4Diup8kyXHAc/DVL17e8vgg8="},
};

static void
tls_add_builtin(struct tls_roots *roots)
{
    for (size_t i = 0; i < sizeof tls_builtin / sizeof *tls_builtin; i++) {
        struct buf name = buf_upto(TLS_CERT), key = buf_upto(TLS_CERT);

        if (b64_read(span_of(tls_builtin[i].name), &name) &&
            b64_read(span_of(tls_builtin[i].key), &key))
            tls_add_root(roots, buf_span(&name), buf_span(&key), true);
        buf_free(&name);
        buf_free(&key);
    }
}

static void
tls_free_roots(struct tls_roots *roots)
{
    buf_free(&roots->der);
    buf_free(&roots->index);
}

/* From the file that was asked for, else the first place where systems keep them, else
 * the built-in ones. A file that was asked for and has none is an error: whoever names an
 * authority does not mean "or any other". A system's file that cannot be read, or has
 * none, is like one that is not there. `asked` must live as long as the roots. */
static int
tls_load_roots(struct tls_roots *roots, const char *asked, struct fail *f)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, OpenWrt */
        "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
        "/etc/ssl/ca-bundle.pem",             /* SUSE */
        "/etc/ssl/cert.pem",                  /* Alpine, OpenBSD's ports */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"}; /* newer RHEL */
    struct buf pem = buf_upto(TLS_BUNDLE);
    struct fail unread = {S3UP_OK, ""};

    *roots = (struct tls_roots){buf_upto(TLS_BUNDLE), buf_upto(TLS_BUNDLE), asked};
    if (asked) {
        if (os_slurp(asked, &pem, f) == 0)
            tls_add_pem(roots, buf_span(&pem));
        if (f->code == S3UP_OK && !tls_root_count(roots))
            (void)fail_set(f, S3UP_USAGE, "%s has no certificate in PEM form", asked);
    }
    for (size_t i = 0;
         !asked && i < sizeof places / sizeof *places && !tls_root_count(roots); i++) {
        roots->from = places[i];
        buf_clear(&pem);
        if (os_slurp(places[i], &pem, &unread) == 0)
            tls_add_pem(roots, buf_span(&pem));
        unread.code = S3UP_OK; /* the next place may have them */
    }
    buf_free(&pem);
    if (!asked && !tls_root_count(roots)) {
        roots->from = "the built-in roots";
        tls_add_builtin(roots);
    }
    if (f->code == S3UP_OK && (roots->der.bad || roots->index.bad))
        (void)fail_set(f, S3UP_LATER, "cannot load the trusted roots: no memory");
    if (f->code != S3UP_OK)
        tls_free_roots(roots); /* an index of what is not there would be read */
    return f->code == S3UP_OK ? 0 : -1;
}

/* ---- chains of certificates ----
 *
 * BearSSL takes a chain in pieces, the server's own certificate first, each signed by the
 * next. It wants all trusted roots at hand before it begins; we have too many for that,
 * and each chain needs one. So each certificate is held back until it is whole, its
 * issuer's root, if we have it, is decoded into a slot, and only then does
 * br_x509_minimal see the certificate. Whether the root has signed it is minimal's
 * verdict alone: a root that is offered in vain does no harm.
 */

/* Stands in front of br_x509_minimal. BearSSL gets a pointer to the first field and calls
 * us through it, so that field must stay the first. */
struct tls_x509 {
    const br_x509_class *vtable;
    br_x509_minimal_context inner; /* does the verification */
    const struct tls_roots *roots; /* of the store; it outlives the connection */
    br_x509_trust_anchor anchors[TLS_ANCHORS]; /* what inner may trust; filled as asked */
    unsigned char keys[TLS_ANCHORS][TLS_KEY];  /* what the anchors' keys point into */
    unsigned char ip[16]; /* the address that the certificate must name */
    size_t ip_n;          /* 0: a name is checked, by inner */
    bool ip_named;        /* and it does */
    int64_t now;          /* the time that certificates are held against: see tls_init */
    bool early, late;     /* a certificate of the chain is not valid yet, not any more */
    int64_t edge;         /* the date that makes it so */
    bool too_long;        /* a certificate has more than TLS_CERT bytes */
    unsigned count;       /* certificates seen; the server's own is the first */
    size_t n;             /* bytes of the one that is coming, in certificate */
    unsigned char certificate[TLS_CERT];
};

/* Fills a slot with a root's key; false if it is of a kind that cannot be used. */
static bool
tls_use_root(struct tls_x509 *x, const struct tls_root *root, unsigned slot)
{
    br_x509_trust_anchor *a = &x->anchors[slot];
    unsigned char *der = (unsigned char *)x->roots->der.p;
    unsigned char *body = der + root->at, *key = x->keys[slot];
    br_x509_decoder_context decoder;
    const br_x509_pkey *pkey;
    br_x509_pkey bare = {.key_type = BR_KEYTYPE_RSA};

    /* A built-in key: a point of P-256 has 65 bytes, one of P-384 has 97. */
    if (root->is_key && body[0] == 4) { /* an uncompressed point */
        bare.key_type = BR_KEYTYPE_EC;
        bare.key.ec.curve = root->n == 65 ? BR_EC_secp256r1 : BR_EC_secp384r1;
        bare.key.ec.q = body;
        bare.key.ec.qlen = root->n;
    } else if (root->is_key) {
        bare.key.rsa.n = body;
        bare.key.rsa.nlen = root->n;
        bare.key.rsa.e = (unsigned char *)(uintptr_t) "\x01\x00\x01";
        bare.key.rsa.elen = 3;
    }
    pkey = &bare;
    if (!root->is_key) {
        br_x509_decoder_init(&decoder, NULL, NULL);
        br_x509_decoder_push(&decoder, body, root->n);
        pkey = br_x509_decoder_get_pkey(&decoder);
        if (!pkey)
            return false;
    }
    /* A certificate that is no authority's stands for itself alone: a server that shows
     * its name and key is believed. So a self-signed one can be given with --ca-file. */
    *a = (br_x509_trust_anchor){.dn = {der + root->name_at, root->name_n}, .pkey = *pkey};
    a->flags = root->is_key || br_x509_decoder_isCA(&decoder) ? BR_X509_TA_CA : 0;
    /* The key is copied: what the decoder holds of it ends with this function. */
    if (pkey->key_type == BR_KEYTYPE_EC) {
        if (pkey->key.ec.qlen > TLS_KEY)
            return false;
        memcpy(key, pkey->key.ec.q, pkey->key.ec.qlen);
        a->pkey.key.ec.q = key;
        return true;
    }
    if (pkey->key.rsa.nlen + pkey->key.rsa.elen > TLS_KEY)
        return false;
    memcpy(key, pkey->key.rsa.n, pkey->key.rsa.nlen);
    memcpy(key + pkey->key.rsa.nlen, pkey->key.rsa.e, pkey->key.rsa.elen);
    a->pkey.key.rsa.n = key;
    a->pkey.key.rsa.e = key + pkey->key.rsa.nlen;
    return true;
}

/* Lets inner trust the roots of this name, and no others. Several may share a name, as
 * when an authority renews its key; a slot that stays empty has an empty name, and
 * nothing is issued by that. */
static void
tls_find_roots(struct tls_x509 *x, struct span issuer)
{
    unsigned slot = 0;

    memset(x->anchors, 0, sizeof x->anchors);
    for (size_t i = 0; i < tls_root_count(x->roots) && slot < TLS_ANCHORS; i++) {
        const struct tls_root *root = tls_root_at(x->roots, i);

        if (span_eq(issuer, span_at(x->roots->der.p + root->name_at, root->name_n)) &&
            tls_use_root(x, root, slot))
            slot++;
    }
}

/* Does the extension list name our IP address among the subject's alternative names? As
 * its bytes, all 4 or 16 of them; an address that is written out as a name counts for
 * nothing. */
static bool
tls_names_ip(const struct tls_x509 *x, struct span list)
{
    struct span one, id, names, address, skip;

    while (tls_der(&list, 0x30, &one)) {
        /* The object identifier 2.5.29.17 is subjectAltName. */
        if (!tls_der(&one, 0x06, &id) || !span_is(id, "\x55\x1d\x11"))
            continue;
        if (span_starts(one, "\x01") && !tls_der(&one, 0x01, &skip)) /* critical */
            continue;
        if (!tls_der(&one, 0x04, &skip) || !tls_der(&skip, 0x30, &names))
            continue;
        while (names.n) {
            /* The tag [7] is iPAddress. */
            bool is_ip = span_starts(names, "\x87");

            if (!tls_der(&names, 0, &address))
                return false;
            if (is_ip && span_eq(address, span_at(x->ip, x->ip_n)))
                return true;
        }
    }
    return false;
}

/* The six methods of br_x509_class, in the order in which they are called: a chain is
 * begun; each of its certificates is begun, comes in pieces, and ends; the chain ends,
 * which gives the verdict; then the key is asked for. */
static struct tls_x509 *
tls_x509_of(const br_x509_class **at)
{
    return (struct tls_x509 *)(void *)at;
}

static void
tls_start_chain(const br_x509_class **at, const char *name)
{
    struct tls_x509 *x = tls_x509_of(at);

    x->count = 0;
    x->ip_named = x->early = x->late = x->too_long = false;
    /* Without a name inner leaves the names alone: it would look for the digits of an IP
     * address among the names of hosts. */
    x->inner.vtable->start_chain(&x->inner.vtable, x->ip_n ? NULL : name);
}

static void
tls_start_certificate(const br_x509_class **at, uint32_t length)
{
    struct tls_x509 *x = tls_x509_of(at);

    x->n = 0;
    /* Noted, and told at the end of the chain: no method before that can refuse. */
    x->too_long |= length > sizeof x->certificate;
    x->inner.vtable->start_cert(&x->inner.vtable, length);
}

/* Inner gets nothing yet: the root must be in its place before the first byte, and which
 * root that is, the whole certificate tells. */
static void
tls_append(const br_x509_class **at, const unsigned char *p, size_t n)
{
    struct tls_x509 *x = tls_x509_of(at);

    if (n > sizeof x->certificate - x->n) {
        x->too_long = true;
        return;
    }
    memcpy(x->certificate + x->n, p, n);
    x->n += n;
}

static void
tls_end_certificate(const br_x509_class **at)
{
    struct tls_x509 *x = tls_x509_of(at);
    struct tls_names names;

    /* One that we cannot read brings no root of its own; inner is the judge of it all the
     * same. */
    if (!x->too_long && tls_read_names(span_at(x->certificate, x->n), &names)) {
        tls_find_roots(x, names.issuer);
        if (x->count == 0 && x->ip_n)
            x->ip_named = tls_names_ip(x, names.extensions);
        /* The first date that is wrong is the one that is told. */
        if (!x->early && !x->late) {
            x->early = x->now < names.from;
            x->late = x->now > names.until;
            x->edge = x->early ? names.from : names.until;
        }
    }
    x->count++;
    if (x->n)
        x->inner.vtable->append(&x->inner.vtable, x->certificate, x->n);
    x->inner.vtable->end_cert(&x->inner.vtable);
}

/* 0 when the chain is good, else BearSSL's error. What inner does not know of can only
 * turn a good verdict into a bad one, never the other way round. */
static unsigned
tls_end_chain(const br_x509_class **at)
{
    struct tls_x509 *x = tls_x509_of(at);
    unsigned error = x->inner.vtable->end_chain(&x->inner.vtable);

    if (x->too_long)
        return BR_ERR_X509_LIMIT_EXCEEDED;
    return !error && x->ip_n && !x->ip_named ? BR_ERR_X509_BAD_SERVER_NAME : error;
}

static const br_x509_pkey *
tls_get_key(const br_x509_class *const *at, unsigned *usages)
{
    const struct tls_x509 *x = (const struct tls_x509 *)(const void *)at;

    return x->inner.vtable->get_pkey(&x->inner.vtable, usages);
}

static const br_x509_class tls_x509_class = {sizeof(struct tls_x509),
                                             tls_start_chain,
                                             tls_start_certificate,
                                             tls_append,
                                             tls_end_certificate,
                                             tls_end_chain,
                                             tls_get_key};

/* ---- a connection, plain or TLS ---- */

/* What a connection needs; about 70 KiB, allocated once for each. There is a buffer for
 * each direction, so that a store can be heard while its request is still being sent. */
struct tls {
    br_ssl_client_context client;
    struct tls_x509 x;
    unsigned char in[BR_SSL_BUFSIZE_INPUT];
    unsigned char out[BR_SSL_BUFSIZE_OUTPUT + 2 * TLS_ALIGN]; /* aligned by tls_start */
};

/* TLS 1.2, ECDHE, AES-GCM and ChaCha20-Poly1305: the strongest that BearSSL has, and
 * nothing that needs an excuse. What is not set here is not there: no CBC, no key
 * exchange by RSA, no signature with SHA-1. Without AES instructions ChaCha20 is three
 * times faster. */
static void
tls_profile(struct tls *t)
{
    static const uint16_t suites[] = {
        BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, /* once more, so that AES can */
        BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, /* come first in a slice of six */
    };
    static const struct {
        int id;
        const br_hash_class *class;
    } hashes[] = {{br_sha256_ID, &br_sha256_vtable},
                  {br_sha384_ID, &br_sha384_vtable},
                  {br_sha512_ID, &br_sha512_vtable}};
    bool has_aes = br_aes_x86ni_ctr_get_vtable() != NULL;
    br_ssl_engine_context *e = &t->client.eng;

    br_ssl_client_zero(&t->client);
    br_ssl_engine_set_versions(e, BR_TLS12, BR_TLS12);
    br_ssl_engine_set_suites(e, has_aes ? suites + 2 : suites, 6);
    br_ssl_engine_add_flags(e, BR_OPT_NO_RENEGOTIATION);
    br_ssl_engine_set_default_rsavrfy(e);
    br_ssl_engine_set_default_ecdsa(e);
    br_x509_minimal_init(&t->x.inner, &br_sha256_vtable, t->x.anchors, TLS_ANCHORS);
    br_x509_minimal_set_rsa(&t->x.inner, br_ssl_engine_get_rsavrfy(e));
    br_x509_minimal_set_ecdsa(&t->x.inner, br_ssl_engine_get_ec(e),
                              br_ssl_engine_get_ecdsa(e));
    br_x509_minimal_set_minrsa(&t->x.inner, TLS_RSA_LEAST / 8);
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        br_ssl_engine_set_hash(e, hashes[i].id, hashes[i].class);
        br_x509_minimal_set_hash(&t->x.inner, hashes[i].id, hashes[i].class);
    }
    br_ssl_engine_set_prf_sha256(e, &br_tls12_sha256_prf);
    br_ssl_engine_set_prf_sha384(e, &br_tls12_sha384_prf);
    br_ssl_engine_set_default_aes_gcm(e);
    br_ssl_engine_set_default_chapol(e);
    br_ssl_engine_set_x509(e, &t->x.vtable);
}

/* A connection, plain or not. It belongs to one process: never used on both sides of a
 * fork. All of its calls return at once; wire_wait is where to wait. */
struct wire {
    int fd;            /* -1 when there is none */
    struct tls *tls;   /* NULL: plain */
    uint64_t sent;     /* bytes given to the kernel */
    uint64_t received; /* bytes got from it */
    bool cut;          /* the peer ended a TLS connection without saying so */
};

/* What two connections to one host can share, so that the second costs an eighth. It is a
 * secret, and of one host only: whoever turns to another forgets it. */
struct tls_session {
    bool known; /* the server has given it a name, so it may be asked for */
    br_ssl_session_parameters parameters;
};

/* Sends the records that are ready. 0 when all are gone, else NET_LATER or NET_DEAD. */
static int
wire_flush(struct wire *w)
{
    br_ssl_engine_context *e = w->tls ? &w->tls->client.eng : NULL;

    while (e && br_ssl_engine_current_state(e) & BR_SSL_SENDREC) {
        size_t n;
        const unsigned char *p = br_ssl_engine_sendrec_buf(e, &n);
        ssize_t did = net_send(w->fd, p, n);

        if (did < 0)
            return (int)did;
        br_ssl_engine_sendrec_ack(e, (size_t)did);
        w->sent += (size_t)did;
    }
    return 0;
}

/* Takes as much as can go now: a number of bytes, NET_LATER or NET_DEAD. With TLS this is
 * the one place where data enters records. */
static ssize_t
wire_send(struct wire *w, const void *data, size_t n)
{
    br_ssl_engine_context *e = w->tls ? &w->tls->client.eng : NULL;
    const char *p = data;
    size_t taken = 0;
    int rc = 0;

    if (!e) {
        ssize_t did = net_send(w->fd, data, n);

        w->sent += did > 0 ? (size_t)did : 0;
        return did;
    }
    while (taken < n && rc == 0) {
        size_t room;
        unsigned char *to = br_ssl_engine_sendapp_buf(e, &room);

        if (to) {
            room = room < n - taken ? room : n - taken;
            memcpy(to, p + taken, room);
            br_ssl_engine_sendapp_ack(e, room);
            taken += room;
            /* A record leaves when it is full, or when there is no more to fill it
             * with. */
            if (taken == n)
                br_ssl_engine_flush(e, 0);
        } else if (!(br_ssl_engine_current_state(e) & BR_SSL_SENDREC)) {
            return NET_DEAD; /* closed: it will never take any */
        }
        /* What the socket does not take now stays in the engine, and counts as taken: it
         * leaves with the next call, or in wire_wait. */
        rc = wire_flush(w);
    }
    if (rc == NET_DEAD)
        return NET_DEAD;
    return taken ? (ssize_t)taken : NET_LATER;
}

/* Feeds the engine from the socket: bytes, NET_END, NET_LATER or NET_DEAD. Also NET_LATER
 * while the engine wants nothing, because what it has must be read first. */
static ssize_t
wire_feed(struct wire *w)
{
    size_t n;
    unsigned char *p = br_ssl_engine_recvrec_buf(&w->tls->client.eng, &n);
    ssize_t did = p ? net_recv(w->fd, p, n) : NET_LATER;

    if (did > 0) {
        br_ssl_engine_recvrec_ack(&w->tls->client.eng, (size_t)did);
        w->received += (size_t)did;
    }
    return did;
}

/* Bytes, NET_END, NET_LATER or NET_DEAD. NET_END without `cut` is the peer's own word
 * that it is done. */
static ssize_t
wire_recv(struct wire *w, void *data, size_t room)
{
    br_ssl_engine_context *e = w->tls ? &w->tls->client.eng : NULL;
    ssize_t did = 1;

    if (!e) {
        did = net_recv(w->fd, data, room);
        w->received += did > 0 ? (size_t)did : 0;
        return did;
    }
    while (did > 0) {
        size_t n;
        unsigned char *p = br_ssl_engine_recvapp_buf(e, &n);

        if (p) {
            n = n < room ? n : room;
            memcpy(data, p, n);
            br_ssl_engine_recvapp_ack(e, n);
            return (ssize_t)n;
        }
        if (br_ssl_engine_current_state(e) & BR_SSL_CLOSED)
            return br_ssl_engine_last_error(e) == BR_ERR_OK ? NET_END : NET_DEAD;
        (void)wire_flush(w); /* what was said before nothing could be sent is heard */
        did = wire_feed(w);
    }
    /* The socket has ended, and no goodbye came before that. */
    w->cut |= did == NET_END;
    return did;
}

/* Waits until it can be read, or also written: bit POLLIN and POLLOUT of what is so; 0
 * when the time is over, -1 when asked to stop. Records that wait to be sent are sent.
 * What is decrypted already is ready at once: the socket may never become readable for
 * it. */
static int
wire_wait(struct wire *w, short events, int64_t until)
{
    struct pollfd one = {.fd = w->fd, .events = events};
    br_ssl_engine_context *e = w->tls ? &w->tls->client.eng : NULL;
    int ready;

    if (e && br_ssl_engine_current_state(e) & BR_SSL_RECVAPP && events & POLLIN)
        return POLLIN;
    if (e && br_ssl_engine_current_state(e) & BR_SSL_SENDREC)
        one.events |= POLLOUT;
    ready = net_wait(&one, 1, until);
    if (ready <= 0)
        return ready;
    if (one.revents & POLLOUT && wire_flush(w) == NET_DEAD)
        one.revents |= POLLIN; /* whoever reads now gets what is left, and the news */
    return one.revents & (POLLERR | POLLHUP) ? one.revents | POLLIN : one.revents;
}

/* Bytes that moved for the other side too; what sits in the kernel has not. For
 * net_stalled, and so only differences mean something. */
static uint64_t
wire_moved(const struct wire *w)
{
    return w->sent + w->received - net_unsent(w->fd);
}

/* Says goodbye if that is possible without waiting: a server keeps a session for later
 * only when the connection was ended properly. Frees the engine, wipes its keys, closes
 * the socket; the wire can be used for another. */
static void
wire_close(struct wire *w)
{
    br_ssl_engine_context *e = w->tls ? &w->tls->client.eng : NULL;

    if (e) {
        size_t n;

        if (br_ssl_engine_recvapp_buf(e, &n))
            br_ssl_engine_recvapp_ack(e, n); /* unread data would keep the close back */
        br_ssl_engine_close(e);
        (void)wire_flush(w);
        explicit_bzero(w->tls, sizeof *w->tls);
        free(w->tls);
    }
    if (w->fd >= 0)
        (void)close(w->fd);
    *w = (struct wire){.fd = -1};
}

/* ---- the handshake ---- */

/* Says in a person's words why the handshake failed. Always -1. What will be the same the
 * next time is S3UP_DENIED, and is not tried again. */
static int
tls_explain(const struct tls *t, const char *host, struct fail *f)
{
    int error = br_ssl_engine_last_error(&t->client.eng);
    char edge[DATE_STAMP], now[DATE_STAMP];

    date_stamp(t->x.edge, edge);
    date_stamp(t->x.now, now);
    switch (error) {
    case BR_ERR_X509_EXPIRED:
        /* The time was moved up to our release (see tls_init), so the clock is wrong for
         * sure. A box that has no battery sets it later: another run may succeed. */
        if (t->x.early && t->x.now <= S3UP_RELEASED)
            return fail_set(
                f, S3UP_LATER,
                "the certificate of %s is valid from %s on, and the clock of this "
                "machine is wrong: set it and run again",
                host, edge);
        if (t->x.early)
            return fail_set(f, S3UP_DENIED,
                            "the certificate of %s is not yet valid: from %s on, and the "
                            "clock here says %s",
                            host, edge, now);
        return fail_set(f, S3UP_DENIED,
                        "the certificate of %s expired at %s (the clock here "
                        "says %s)",
                        host, edge, now);
    case BR_ERR_X509_BAD_SERVER_NAME:
        return fail_set(f, S3UP_DENIED,
                        "the certificate that was shown is for another host, "
                        "not for %s",
                        host);
    case BR_ERR_X509_NOT_TRUSTED:
    case BR_ERR_X509_DN_MISMATCH:
        return fail_set(f, S3UP_DENIED,
                        "the certificate of %s comes from an issuer that is "
                        "unknown here (roots: %s); --ca-file names a file with its root",
                        host, t->x.roots->from);
    case BR_ERR_X509_WEAK_PUBLIC_KEY:
        return fail_set(f, S3UP_DENIED,
                        "the certificate of %s, or one above it, has an RSA "
                        "key of less than %d bits",
                        host, TLS_RSA_LEAST);
    case BR_ERR_RECV_FATAL_ALERT + BR_ALERT_PROTOCOL_VERSION:
        return fail_set(f, S3UP_DENIED, "%s accepts TLS 1.3 only; s3up speaks TLS 1.2",
                        host);
    case BR_ERR_RECV_FATAL_ALERT + BR_ALERT_HANDSHAKE_FAILURE:
        return fail_set(f, S3UP_DENIED,
                        "%s shares no cipher with us: it must offer ECDHE "
                        "with AES-GCM or ChaCha20-Poly1305 in TLS 1.2",
                        host);
    default:
        break;
    }
    if (error >= BR_ERR_X509_OK && error <= BR_ERR_X509_NOT_TRUSTED)
        return fail_set(f, S3UP_DENIED,
                        "the certificate of %s is not acceptable (BearSSL "
                        "error %d)",
                        host, error);
    /* BearSSL adds the number of an alert to a multiple of 256, which says who sent
     * it. */
    if (error >= BR_ERR_RECV_FATAL_ALERT)
        return fail_set(f, S3UP_DENIED, "%s refused the TLS connection (alert %d)", host,
                        error & 255);
    return fail_set(f, S3UP_LATER,
                    "%s does not answer in proper TLS (BearSSL error %d); is "
                    "it an http:// endpoint?",
                    host, error);
}

/* Whom to meet: everything that a handshake needs to know. */
struct tls_peer {
    const char *host; /* name, or address without brackets */
    const struct tls_roots *roots;
    struct tls_session *session; /* read and written; may be NULL */
};

/* Sets up an engine for this peer. An address is matched by us, a name by BearSSL; and
 * the time is settled, once for the whole handshake. */
static void
tls_init(struct tls *t, const struct tls_peer *peer)
{
    int64_t days, now = os_now().s;

    *t = (struct tls){.x = {.vtable = &tls_x509_class, .roots = peer->roots}};
    tls_profile(t);
    if (inet_pton(AF_INET, peer->host, t->x.ip) == 1)
        t->x.ip_n = 4;
    else if (inet_pton(AF_INET6, peer->host, t->x.ip) == 1)
        t->x.ip_n = 16;
    /* A box without a clock wakes up in 1970: it is at least as late as this source. */
    t->x.now = now > S3UP_RELEASED ? now : S3UP_RELEASED;
    /* BearSSL counts days from the year 0 on; 1970 began so many days after it. */
    days = t->x.now / 86400;
    br_x509_minimal_set_time(&t->x.inner, (uint32_t)(days + 719528),
                             (uint32_t)(t->x.now - days * 86400));
}

/* Shakes hands over w->fd; when this returns 0 the peer is verified, and everything that
 * is sent is encrypted for it alone. After -1 the wire must be closed: it may hold the
 * engine already, which wire_close frees. */
static int
tls_start(struct wire *w, const struct tls_peer *peer, int64_t until, struct fail *f)
{
    struct tls *t = malloc(sizeof *t);
    unsigned char seed[32], *out;
    br_ssl_engine_context *e;
    bool resume = peer->session && peer->session->known;

    if (!t || !os_random(seed, sizeof seed)) {
        free(t);
        return fail_set(f, S3UP_LATER, "no memory or no random numbers for TLS");
    }
    tls_init(t, peer);
    w->tls = t;
    e = &t->client.eng;
    /* With AES-GCM a record's payload begins 13 bytes into the buffer, behind its header
     * and nonce; copies to it are ten times slower on some CPUs when that place is not
     * aligned. */
    out = t->out + TLS_ALIGN - ((uintptr_t)t->out + 13) % TLS_ALIGN;
    br_ssl_engine_set_buffers_bidi(e, t->in, sizeof t->in, out, BR_SSL_BUFSIZE_OUTPUT);
    br_ssl_engine_inject_entropy(e, seed, sizeof seed);
    explicit_bzero(seed, sizeof seed);
    if (resume)
        br_ssl_engine_set_session_parameters(e, &peer->session->parameters);
    if (!br_ssl_client_reset(&t->client, t->x.ip_n ? NULL : peer->host, resume))
        return tls_explain(t, peer->host, f);
    for (;;) {
        ssize_t did = wire_flush(w);
        unsigned state = br_ssl_engine_current_state(e);

        /* Asked behind the flush: when a session goes on, the last word is ours. */
        if (state & (BR_SSL_SENDAPP | BR_SSL_RECVAPP))
            break;
        if (did == 0 && !(state & BR_SSL_CLOSED))
            did = wire_feed(w);
        if (br_ssl_engine_current_state(e) & BR_SSL_CLOSED)
            return tls_explain(t, peer->host, f);
        if (did == NET_END || did == NET_DEAD)
            return fail_set(f, S3UP_LATER, "%s ended the connection in the TLS handshake",
                            peer->host);
        /* Each turn moves bytes, ends, or waits here; wire_wait also sends what could not
         * leave above. */
        if (did == NET_LATER && wire_wait(w, POLLIN, until) <= 0)
            return fail_set(f, os_stop ? S3UP_INTERRUPTED : S3UP_LATER,
                            "%s did not finish the TLS handshake in time", peer->host);
    }
    /* A server that keeps no sessions gives no id; offering it one would only cost. */
    if (peer->session) {
        br_ssl_engine_get_session_parameters(e, &peer->session->parameters);
        peer->session->known = peer->session->parameters.session_id_len > 0;
    }
    return 0;
}

/* ===== ROOM 8 http: requests go out, replies come in =====
 *
 * In: names and values from the rooms above, and bytes from the wire. Out: a struct
 * request, plain data that the signature and the wire both read, so that what is signed
 * is what is sent; and a reply, its head taken apart, its body byte by byte. One parser
 * reads the heads of replies and of requests: what we write can be read back by it.
 * Refuses whatever could be read in two ways, and everything without a bound. What goes
 * out is refused too when a CR, LF or NUL could make a field break out of its line.
 *
 * A connection goes through start (the head is written), send (the body, in pieces),
 * reply (the head of the answer) and read (its body) to finish; then it is idle, or
 * closed. The store may answer at any time: send then says so, and the caller goes on to
 * reply. No redirect is ever followed here, because a redirect cannot be trusted with a
 * signature.
 *
 * What the world does to it, and who notices: a peer that is silent, or dribbles, stalls
 * (http_wait); one that closes an idle connection is found out before it is used again
 * (http_alive), or, when its goodbye crosses our request, by s3_attempt, to which
 * `reused` and `heard` say that nothing is lost; one that ends in the middle of a body
 * has cut it (http_read); one that says 200 before it has the whole body is not believed
 * (http_reply). After any failure the connection is closed, by the caller or by
 * http_finish: where the next reply begins in it, nobody could tell.
 *
 * Failures of the wire are S3UP_LATER, and are tried again by the room of the store. A
 * field that must not be shown with -v belongs into http_is_secret; one that decides how
 * long a body is, into http_framing.
 */

/* A header field, or a parameter of the query. */
struct field {
    struct span name;  /* a header's in lower case, a parameter's percent-encoded */
    struct span value; /* a header's as it is sent, a parameter's percent-encoded */
};

/* A list of them, in the order in which they were added; http_sort finds another. */
struct fields {
    struct field at[REQ_FIELDS];
    unsigned n;
    unsigned own; /* how many the caller put there; the signature's follow */
};

/* Its spans point into its own text: it must not be copied or moved. */
struct request {
    const char *method; /* not ours; a literal, in practice */
    struct span path;   /* percent-encoded, as it is sent */
    struct fields head, query;
    bool is_signed; /* `own`, here and in the fields, is set: see http_unsign */
    bool bad;       /* it did not fit, or a field was malformed: it must not be sent */
    size_t used;    /* bytes of text */
    size_t own;     /* of these, what the caller put there */
    char text[REQ_TEXT];
};

/* Copies s into the request; fields live as long as it does. Bytes that would end a line
 * are refused, and not mended: what is sent would not be what was asked for. */
static struct span
http_keep(struct request *r, struct span s)
{
    char *at = r->text + r->used;

    if (s.n > sizeof r->text - r->used)
        r->bad = true;
    for (size_t i = 0; i < s.n; i++)
        r->bad |= s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == 0;
    if (r->bad)
        return (struct span){NULL, 0};
    if (s.n)
        memcpy(at, s.p, s.n);
    r->used += s.n;
    return span_at(at, s.n);
}

/* Appends a name and a value, both copied. A request that is bad takes no more, so that
 * one look at the end is enough. */
static void
http_add(struct request *r, struct fields *to, struct span name, struct span value)
{
    if (to->n == REQ_FIELDS)
        r->bad = true;
    if (r->bad)
        return;
    to->at[to->n].name = http_keep(r, name);
    to->at[to->n++].value = http_keep(r, value);
}

/* name is in lower case: so the signature wants it, and no server minds. */
static void
http_header(struct request *r, const char *name, struct span value)
{
    http_add(r, &r->head, span_of(name), value);
}

/* A parameter of the query, of any bytes. One without a value is sent as name=, which is
 * how it is signed. */
static void
http_query(struct request *r, const char *name, struct span value)
{
    struct buf n = buf_upto(REQ_TEXT), v = buf_upto(REQ_TEXT);

    url_put(&n, span_of(name), "");
    url_put(&v, value, "");
    r->bad |= n.bad || v.bad;
    http_add(r, &r->query, buf_span(&n), buf_span(&v));
    buf_free(&n);
    buf_free(&v);
}

/* Empties the request and begins it anew. path is percent-encoded already; host is as it
 * stands in the Host header. */
static void
http_begin(struct request *r, const char *method, struct span host, struct span path)
{
    r->method = method;
    r->head.n = r->query.n = 0;
    r->used = 0;
    r->is_signed = r->bad = false;
    r->path = http_keep(r, path);
    http_header(r, "host", host);
}

/* Marks what is there as the caller's; or, on a later attempt, drops what the signature
 * before it had added, since every attempt is signed afresh. */
static void
http_unsign(struct request *r)
{
    if (r->is_signed) {
        r->head.n = r->head.own;
        r->query.n = r->query.own;
        r->used = r->own;
    }
    r->head.own = r->head.n;
    r->query.own = r->query.n;
    r->own = r->used;
    r->is_signed = true;
}

/* The numbers of the fields in the order of their names, of their values where those are
 * equal and by_value is asked, and else as they came. REQ_FIELDS numbers fit a byte, and
 * are few enough to be inserted one by one. */
static void
http_sort(const struct fields *f, bool by_value, unsigned char numbers[REQ_FIELDS])
{
    for (unsigned i = 0; i < f->n; i++) {
        unsigned to = i;

        for (; to; to--) {
            const struct field *before = &f->at[numbers[to - 1]];
            int order = span_cmp(before->name, f->at[i].name);

            if (order == 0 && by_value)
                order = span_cmp(before->value, f->at[i].value);
            if (order <= 0)
                break;
            numbers[to] = numbers[to - 1];
        }
        numbers[to] = (unsigned char)i;
    }
}

/* The query as it is signed, and sent: sorted by what is encoded. */
static void
http_put_query(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];

    http_sort(&r->query, true, order);
    for (unsigned i = 0; i < r->query.n; i++) {
        const struct field *f = &r->query.at[order[i]];

        if (i)
            buf_char(out, '&');
        buf_put(out, f->name);
        buf_char(out, '=');
        buf_put(out, f->value);
    }
}

/* The head of a reply or of a request, taken apart. Spans point into what was parsed. */
struct head {
    unsigned status;            /* of a reply; 0 in a request */
    struct span method, target; /* of a request */
    bool old;                   /* HTTP/1.0 */
    bool close, keep; /* what Connection says; close also if an old peer is silent */
    bool chunked;     /* how the body comes */
    int64_t length;   /* or how long it is; -1: not said */
    unsigned n;
    struct field at[HEAD_FIELDS]; /* names in their writer's case */
};

/* The first field of this name, in whatever case; or NULL. */
static const struct field *
http_head_find(const struct head *h, const char *name)
{
    for (unsigned i = 0; i < h->n; i++)
        if (span_is_nocase(h->at[i].name, name))
            return &h->at[i];
    return NULL;
}

/* The value of a head's field; empty when it is not there. */
static struct span
http_value(const struct head *h, const char *name)
{
    const struct field *f = http_head_find(h, name);

    return f ? f->value : (struct span){NULL, 0};
}

/* A name as RFC 9110 has it: letters, digits and these marks, at least one. No blank, so
 * that "Content-Length :" is no other field to us than to a proxy. */
static bool
http_is_token(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        /* strchr would find a NUL, too: at the end. */
        if (!url_unreserved(s.p[i]) && (!s.p[i] || !strchr("!#$%&'*+^`|", s.p[i])))
            return false;
    return s.n > 0;
}

/* The fields that say how long the body is and whether the connection stays. Two lengths,
 * or a length and chunks, are how requests are smuggled past a proxy: refused. */
static const char *
http_framing(struct head *h, struct span name, struct span value)
{
    struct span word;
    uint64_t n;

    if (span_is_nocase(name, "content-length")) {
        if (h->length >= 0 || h->chunked || !num_parse(value, INT64_MAX, &n))
            return "a malformed or second Content-Length";
        h->length = (int64_t)n;
    } else if (span_is_nocase(name, "transfer-encoding")) {
        if (h->length >= 0 || h->chunked || !span_is_nocase(value, "chunked"))
            return "a Transfer-Encoding other than chunked, or beside a length";
        h->chunked = true;
    } else if (span_is_nocase(name, "connection")) {
        while (span_cut(&value, ',', &word)) {
            word = span_trim(word);
            h->close |= span_is_nocase(word, "close");
            h->keep |= span_is_nocase(word, "keep-alive");
        }
    }
    return NULL;
}

/* HTTP/1.1 200 OK, or PUT /key HTTP/1.1 */
static const char *
http_first_line(struct head *h, struct span line)
{
    struct span version = line, status;
    uint64_t number;

    if (span_starts(line, "HTTP/")) {
        span_cut(&line, ' ', &version);
        /* Behind the number stands a reason, or a blank, or nothing at all. */
        status = span_first(line, 3);
        if (!num_parse(status, 599, &number) || number < 100 ||
            (line.n > 3 && line.p[3] != ' '))
            return "a malformed status line";
        h->status = (unsigned)number;
    } else {
        if (!span_cut(&line, ' ', &h->method) || !span_cut(&line, ' ', &h->target) ||
            !http_is_token(h->method) || !h->target.n)
            return "a malformed first line";
        version = line;
    }
    if (!span_is(version, "HTTP/1.1") && !span_is(version, "HTTP/1.0"))
        return "a version that is not HTTP/1.1 or HTTP/1.0";
    h->old = version.p[7] == '0';
    return NULL;
}

/* Takes a whole head apart, of a reply or a request. NULL, or what is wrong with it.
 * Lines may end in LF alone, as some gateways write them. A CR elsewhere is refused like
 * any other control character, and so is a line that continues the one before it: others
 * read both in another way, and would see other fields than we do. */
static const char *
http_parse(struct span text, struct head *h)
{
    struct span line, name;
    const char *why;
    bool first = true;

    *h = (struct head){.length = -1};
    while (span_cut(&text, '\n', &line)) {
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        for (size_t i = 0; i < line.n; i++)
            if (((unsigned char)line.p[i] < ' ' && line.p[i] != '\t') || line.p[i] == 127)
                return "a control character in the head";
        if (first) {
            why = http_first_line(h, line);
            first = false;
        } else if (!line.n) {
            break;
        } else if (span_blank(line.p[0]) || !span_has(line, ':')) {
            return "a folded line, or one without a colon, in the head";
        } else {
            span_cut(&line, ':', &name);
            line = span_trim(line);
            if (!http_is_token(name))
                return "a malformed field name in the head";
            if (h->n == HEAD_FIELDS)
                return "too many fields in the head";
            h->at[h->n++] = (struct field){name, line};
            why = http_framing(h, name, line);
        }
        if (why)
            return why;
    }
    /* HTTP/1.0 closes unless it says otherwise; HTTP/1.1 stays unless it does. */
    h->close |= h->old && !h->keep;
    return first ? "an empty head" : NULL;
}

/* ---- where requests go, and through what ---- */

/* A server, and the proxy on the way to it. */
struct origin {
    bool https;     /* of the origin; a proxy is always spoken to in plain */
    char host[256]; /* name, or address without brackets */
    unsigned port;
    char proxy[256]; /* its name or address, as above; empty: none */
    unsigned proxy_port;
    struct buf proxy_auth; /* what Proxy-Authorization says; a secret */
    const struct tls_roots *roots;
    struct tls_session session; /* of this host, for its next connection */
    int64_t limit;              /* milliseconds that a connect, or a silence, may last */
};

/* A host's name, in lower case and with a NUL; false if there is no room for it. Case
 * means nothing in such names, and so they can be compared. */
static bool
http_copy_name(char out[256], struct span s)
{
    if (s.n > 255)
        return false;
    for (size_t i = 0; i < s.n; i++)
        out[i] = span_lower(s.p[i]);
    out[s.n] = 0;
    return true;
}

/* Do the first `bits` bits of two addresses agree? The byte in which they end is looked
 * at even if none of its bits counts, so there must be one. */
static bool
http_same_net(const unsigned char *a, const unsigned char *b, uint64_t bits)
{
    size_t whole = (size_t)bits / 8;
    unsigned mask = 0xff00u >> (bits % 8) & 0xff;

    return !memcmp(a, b, whole) && ((a[whole] ^ b[whole]) & mask) == 0;
}

/* Is the host, an address, in the network 10.0.0.0/8 or fd00::/8? */
static bool
http_in_net(const char *host, struct span net)
{
    /* One byte more than an address, since a /128 looks behind the last. */
    unsigned char a[17] = {0}, b[17] = {0};
    struct span base = {NULL, 0};
    uint64_t bits = 129;
    char text[256];
    int family;

    span_cut(&net, '/', &base);
    if (!http_copy_name(text, base))
        return false;
    family = inet_pton(AF_INET, host, a) == 1    ? AF_INET
             : inet_pton(AF_INET6, host, a) == 1 ? AF_INET6
                                                 : -1;
    if (family < 0 || inet_pton(family, text, b) != 1)
        return false;
    if (!net.p)
        bits = family == AF_INET ? 32 : 128;
    else if (!num_parse(net, family == AF_INET ? 32 : 128, &bits))
        return false;
    return http_same_net(a, b, bits);
}

/* NO_PROXY: names, which also stand for all below them, addresses, networks, or *. */
static bool
http_bypasses(struct span list, const char *host)
{
    struct net_addresses unused = {.n = 0};
    bool literal = net_literal(host, 0, &unused); /* of an address no part is a name */
    struct span h = span_of(host), word;

    if (span_is(span_trim(list), "*"))
        return true;
    while (h.n && h.p[h.n - 1] == '.')
        h.n--;
    while (span_cut(&list, ',', &word)) {
        char name[256];
        size_t n;

        word = span_trim(word);
        if (span_starts(word, "[") && word.p[word.n - 1] == ']')
            word = span_at(word.p + 1, word.n - 2);
        if (http_in_net(host, word))
            return true;
        while (span_starts(word, "."))
            word = span_after(word, 1);
        while (word.n && word.p[word.n - 1] == '.')
            word.n--;
        n = word.n;
        /* An item that is empty would be the end of every name. */
        if (!n || n > h.n || literal || !http_copy_name(name, word))
            continue;
        /* At a dot only: what holds for example.com does not hold for badexample.com. */
        if (span_is_nocase(span_after(h, h.n - n), name) &&
            (n == h.n || h.p[h.n - n - 1] == '.'))
            return true;
    }
    return false;
}

/* Takes [http://][user:password@]host[:port]; NULL, or what is wrong with it. The text is
 * never repeated in a message, because of the password. */
static const char *
http_set_proxy(struct origin *o, struct span text)
{
    struct buf address = buf_upto(URL_MAX), user = buf_upto(URL_MAX);
    struct span rest = text, scheme;
    const char *why = NULL, *at;
    struct url u;

    if (span_is_nocase(span_first(text, 7), "http://"))
        text = span_after(text, 7);
    else if (span_cut(&rest, ':', &scheme) && span_starts(rest, "//"))
        return "a proxy is spoken to in plain HTTP only: http://HOST:PORT";
    /* The last @: a password may have one that nobody encoded. */
    at = text.n ? memrchr(text.p, '@', text.n) : NULL;
    if (at) {
        struct span who = span_first(text, (size_t)(at - text.p));

        if (!url_read(who, false, &user))
            why = "the user name or password is not percent-encoded properly";
        text = span_after(text, who.n + 1);
        buf_str(&o->proxy_auth, "Basic ");
        b64_put(&o->proxy_auth, user.p, user.n);
        if (o->proxy_auth.bad)
            why = "the user name and password are too long";
    }
    buf_str(&address, "http://");
    buf_put(&address, text);
    if (!why)
        why = url_parse(buf_span(&address), &u);
    if (!why && !http_copy_name(o->proxy, u.host))
        why = "the host name is too long";
    if (!why)
        o->proxy_port = u.port;
    buf_free(&address);
    buf_free(&user);
    return why;
}

/* host:port as it stands in Host, with brackets and without a port that goes unsaid. It
 * is signed, so it must be what a server makes of its own name: the usual port never
 * stands in it. */
static void
http_put_host(const struct origin *o, bool always_port, struct buf *out)
{
    bool literal6 = strchr(o->host, ':') != NULL;

    buf_str(out, literal6 ? "[" : "");
    buf_str(out, o->host);
    buf_str(out, literal6 ? "]" : "");
    if (always_port || o->port != (o->https ? 443u : 80u)) {
        buf_char(out, ':');
        buf_num(out, o->port);
    }
}

/* ---- connections ----
 *
 * A struct conn is made once, by http_init, and used for many connections, one after the
 * other. http_connect opens one, http_close ends it and frees what it held; both may be
 * called in any state. Bytes come through a window, `in`, in which the head and small
 * bodies are found; larger pieces of a body go past it, straight to the caller.
 *
 * The spans of conn.head point into conn.text. They hold until the next http_start, or
 * until the connection is closed.
 */

/* What ends the body of a reply: its head, its length, its last chunk, or the
 * connection. */
enum http_body { BODY_NONE, BODY_LENGTH, BODY_CHUNKS, BODY_CLOSE };

/* A connection and the reply that is being read from it. */
struct conn {
    struct wire wire;
    struct net_watch watch; /* of the phase that it is in */
    int64_t until;          /* ticks when that must be over; 0: as long as bytes move */
    struct buf out;         /* a head that has not been sent, and a little of the body */
    struct buf text;        /* the head of the reply; struct head points into it */
    struct head head;
    bool answered;   /* the head is complete */
    bool broken;     /* it took no more; what it said before that may still be read */
    bool reused;     /* it has carried a reply before: it may have gone stale */
    bool heard;      /* some byte of this reply has come */
    size_t passed;   /* bytes of interim replies, and of line ends, passed over in it */
    int64_t to_send; /* bytes of the body not yet taken by http_send */
    enum http_body body;
    bool body_done;
    int64_t left;       /* bytes of the body, or of its chunk, still to come */
    int64_t idle_since; /* ticks: when the last of a reply came */
    size_t at, n;       /* bytes of in that came and were not used: in[at] to in[n - 1] */
    char in[HTTP_WINDOW];
};

/* No connection yet. The ceiling of out is that of a request, with what stands between
 * its fields, and a first piece of the body that goes along. */
static void
http_init(struct conn *c)
{
    *c = (struct conn){.wire = {.fd = -1}};
    c->out = buf_upto(2 * REQ_TEXT + HTTP_WINDOW);
    c->text = buf_upto(HEAD_MAX);
}

/* Ends the connection, in whatever state it is. What was read of the last reply is gone
 * with it. */
static void
http_close(struct conn *c)
{
    if (c->wire.fd >= 0)
        wire_close(&c->wire);
    buf_free(&c->out);
    buf_free(&c->text);
    c->head.n = 0; /* its spans pointed into text */
    c->at = c->n = 0;
    c->answered = c->reused = c->broken = false;
}

/* From here on, at least so many bytes must move in each stretch of `limit` milliseconds
 * that is spent waiting. */
static void
http_watch(struct conn *c, int64_t limit, uint64_t least)
{
    c->watch = (struct net_watch){wire_moved(&c->wire), 0, limit, least};
}

/* One short wait, then a look at whether anything moves. The events that are ready, or
 * -1: stalled, or asked to stop. A server that sends a head and a small body apart, and
 * has not turned Nagle's algorithm off, keeps the body until it knows that we have the
 * head: Ceph's gateway does. */
static int
http_wait(struct conn *c, short events, struct fail *f)
{
    int64_t from = os_ticks();
    int ready;

    if (c->heard && c->left < HTTP_TAIL)
        net_acknowledge(c->wire.fd);
    ready = wire_wait(&c->wire, events, from + NET_SLICE);
    if (ready < 0)
        return fail_set(f, os_stop ? S3UP_INTERRUPTED : S3UP_LATER, "%s",
                        os_stop ? "interrupted" : "waiting for the network failed");
    if (net_stalled(&c->watch, wire_moved(&c->wire), os_ticks() - from))
        return fail_set(f, S3UP_LATER,
                        c->watch.least > 1
                            ? "the connection stalled: too little moved for %u s"
                            : "the connection stalled: nothing came for %u s",
                        (unsigned)(c->watch.limit / 1000));
    if (c->until && os_ticks() >= c->until)
        return fail_set(f, S3UP_LATER,
                        "the proxy did not answer in time: nothing came, or too little");
    return ready;
}

/* Receives into the window, which must be empty. Like wire_recv. */
static ssize_t
http_fill(struct conn *c)
{
    ssize_t did = wire_recv(&c->wire, c->in, sizeof c->in);

    c->at = 0;
    c->n = did > 0 ? (size_t)did : 0;
    c->heard |= did > 0;
    return did;
}

/* Where the head in text ends, looking at bytes from `from` on; 0: not yet. */
static size_t
http_head_end(struct span text, size_t from)
{
    for (size_t i = from; i < text.n; i++)
        if (text.p[i] == '\n' && i > 0 &&
            (text.p[i - 1] == '\n' ||
             (i > 1 && text.p[i - 1] == '\r' && text.p[i - 2] == '\n')))
            return i + 1;
    return 0;
}

/* How the body of the reply is delimited, by its head and the request's method. */
static void
http_begin_body(struct conn *c, bool is_head)
{
    const struct head *h = &c->head;

    c->left = 0;
    if (is_head || h->status < 200 || h->status == 204 || h->status == 304)
        c->body = BODY_NONE;
    else if (h->chunked)
        c->body = BODY_CHUNKS;
    else if (h->length >= 0)
        c->body = BODY_LENGTH;
    else
        c->body = BODY_CLOSE;
    if (c->body == BODY_LENGTH)
        c->left = h->length;
    c->body_done = c->body == BODY_NONE || (c->body == BODY_LENGTH && h->length == 0);
    c->idle_since = os_ticks();
}

/* Is this a field whose value proves who we are? */
static bool
http_is_secret(struct span name)
{
    static const char *const fields[] = {
        "authorization",
        "proxy-authorization",
        "x-amz-security-token",
        "set-cookie",
        "cookie",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-copy-source-server-side-encryption-customer-key"};

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (span_is_nocase(name, fields[i]))
            return true;
    return false;
}

/* Shows a head to whoever asked for it with -v, but not its secrets. */
static void
http_show(char mark, struct span head)
{
    struct span line, name, rest;

    while (log_most >= LOG_DEBUG && span_cut(&head, '\n', &line) && line.n > 1) {
        struct buf out = buf_upto(2 * HEAD_MAX);

        line.n -= line.p[line.n - 1] == '\r';
        rest = line;
        (void)span_cut(&rest, ':', &name);
        buf_put(&out, rest.p && http_is_secret(name) ? name : line);
        if (out.n < line.n)
            buf_str(&out, ": ***");
        log_say(LOG_DEBUG, "%c %s", mark, buf_text(&out));
        buf_free(&out);
    }
}

/* Uses the bytes in the window for the head. 1: a final head is complete, 0: more is
 * needed, -1: malformed. Interim replies are passed over, though not for ever. */
static int
http_take_head(struct conn *c, struct fail *f)
{
    while (!c->answered && c->at < c->n && c->passed <= HEAD_MAX) {
        size_t before = c->text.n, end, unused;
        const char *why;

        if (!before && (c->in[c->at] == '\r' || c->in[c->at] == '\n')) {
            c->at++; /* old servers send a line end too many behind a body */
            c->passed++;
            continue;
        }
        /* All of the window is taken, for it is not known where the head ends; what turns
         * out to be of the body is given back. */
        buf_add(&c->text, c->in + c->at, c->n - c->at);
        if (c->text.bad)
            break;
        end = http_head_end(buf_span(&c->text), before);
        unused = end ? c->text.n - end : 0;
        c->at = c->n - unused;
        if (!end)
            continue;
        why = http_parse(span_first(buf_span(&c->text), end), &c->head);
        /* 101 answers a question that we never ask, and would change the protocol. */
        if (why || !c->head.status || c->head.status == 101)
            return fail_set(f, S3UP_LATER, "the store's reply is not proper HTTP: %s",
                            why ? why : "an unexpected kind of message");
        http_show('<', span_first(buf_span(&c->text), end));
        c->answered = c->head.status >= 200;
        if (!c->answered) {
            c->passed += end;
            buf_clear(&c->text);
        }
    }
    if (c->text.bad || c->passed > HEAD_MAX)
        return fail_set(f, S3UP_LATER,
                        "the store's reply has a head of more than %d bytes", HEAD_MAX);
    return c->answered;
}

/* Sends from memory; looks at what the store says meanwhile. 0: all taken, 1: stop, the
 * reply is there or the connection takes no more, -1: stalled or malformed. A connection
 * that takes no more is no failure yet: why the store closed it often stands in what it
 * said before that, and the caller goes on to read it. */
static int
http_push(struct conn *c, struct span data, struct fail *f)
{
    while (data.n && !c->broken) {
        ssize_t did = wire_send(&c->wire, data.p, data.n);
        int ready;

        if (did > 0)
            data = span_after(data, (size_t)did);
        c->broken = did == NET_DEAD;
        if (did != NET_LATER)
            continue;
        ready = http_wait(c, POLLIN | POLLOUT, f);
        if (ready < 0)
            return -1;
        /* What is in the window already must not be overwritten: http_reply uses it. */
        if (!(ready & POLLIN) || c->at < c->n)
            continue;
        did = http_fill(c);
        c->broken = did == NET_DEAD || did == NET_END;
        if (http_take_head(c, f) < 0)
            return -1;
        if (c->answered)
            return 1;
    }
    return c->broken;
}

/* Forgets the last exchange; spans of its head point to nowhere from now on. */
static void
http_forget(struct conn *c)
{
    buf_clear(&c->out);
    buf_clear(&c->text);
    c->head.n = 0;
    c->answered = c->heard = c->broken = false;
    c->passed = 0;
}

/* Gives a request's head, and says how long its body will be (-1: it has none, and no
 * length is sent). Nothing is sent yet: the head leaves together with the first of the
 * body. A proxy that is no tunnel gets the whole address, and the credentials that are
 * its own. */
static int
http_start(struct conn *c, const struct origin *o, const struct request *r,
           int64_t length, struct fail *f)
{
    bool through_proxy = o->proxy[0] && !o->https;

    http_forget(c);
    c->to_send = length > 0 ? length : 0;
    buf_str(&c->out, r->method);
    buf_char(&c->out, ' ');
    if (through_proxy) {
        buf_str(&c->out, "http://");
        http_put_host(o, false, &c->out);
    }
    buf_put(&c->out, r->path);
    if (r->query.n)
        buf_char(&c->out, '?');
    http_put_query(r, &c->out);
    buf_str(&c->out, " HTTP/1.1\r\n");
    for (unsigned i = 0; i < r->head.n; i++) {
        buf_put(&c->out, r->head.at[i].name);
        buf_str(&c->out, ": ");
        buf_put(&c->out, r->head.at[i].value);
        buf_str(&c->out, "\r\n");
    }
    if (through_proxy && o->proxy_auth.n) {
        buf_str(&c->out, "proxy-authorization: ");
        buf_put(&c->out, buf_span(&o->proxy_auth));
        buf_str(&c->out, "\r\n");
    }
    buf_str(&c->out, "user-agent: s3up/" S3UP_VERSION "\r\n");
    if (length >= 0) {
        buf_str(&c->out, "content-length: ");
        buf_num(&c->out, (uint64_t)length);
        buf_str(&c->out, "\r\n");
    }
    buf_str(&c->out, "\r\n");
    if (r->bad || c->out.bad)
        return fail_set(f, S3UP_USAGE, "the request is malformed or larger than %d bytes",
                        REQ_TEXT);
    http_show('>', buf_span(&c->out));
    http_watch(c, o->limit, HTTP_LEAST);
    return 0;
}

/* Sends a piece of the body; all pieces together must have the length that http_start was
 * told. 0: taken, 1: stop and read the reply, -1: failed. */
static int
http_send(struct conn *c, const void *p, size_t n, struct fail *f)
{
    bool last = c->to_send <= (int64_t)n;
    size_t left = n;
    int rc = 0;

    if (os_stop) /* a network that never makes us wait is no reason to go on */
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    /* A small piece goes along with the head, in one packet; a large one is not
     * copied. */
    if (c->out.n && n <= HTTP_WINDOW) {
        buf_add(&c->out, p, n);
        left = 0;
    }
    if (c->out.bad) /* or the request would not be sent, and nobody would know */
        return fail_set(f, S3UP_LATER, "no memory for a request");
    if (c->out.n && (left || last || c->out.n > (size_t)REQ_TEXT)) {
        rc = http_push(c, buf_span(&c->out), f);
        buf_clear(&c->out);
    }
    if (rc == 0 && left)
        rc = http_push(c, span_at(p, left), f);
    if (rc == 0)
        c->to_send -= (int64_t)n;
    /* A store that has seen enough says so, and is heard, before the next piece is
     * read. */
    if (rc == 0 && !last && c->at == c->n &&
        wire_wait(&c->wire, POLLIN, os_ticks()) > 0) {
        ssize_t did = http_fill(c);

        c->broken = did == NET_DEAD || did == NET_END;
        rc = http_take_head(c, f);
        rc = rc == 0 && c->broken ? 1 : rc;
    }
    return rc;
}

/* Waits for the reply's head. The silence before and in it may last `limit`. 0: it is in
 * c->head, and its body can be read; what the status says is for the caller to judge. -1:
 * no reply has come, or none that is proper and can be true. */
static int
http_reply(struct conn *c, bool is_head, int64_t limit, struct fail *f)
{
    if (c->out.n && http_push(c, buf_span(&c->out), f) < 0)
        return -1;
    buf_clear(&c->out);
    http_watch(c, limit, 1);
    while (!c->answered) {
        ssize_t did = c->at < c->n ? 1 : http_fill(c);

        if (did == NET_END || did == NET_DEAD)
            return fail_set(f, S3UP_LATER, "the store ended the connection %s",
                            c->heard ? "in the middle of its reply" : "without a reply");
        if (http_take_head(c, f) < 0)
            return -1;
        if (!c->answered && c->at == c->n && http_wait(c, POLLIN, f) < 0)
            return -1;
    }
    /* A refusal in the middle of a body is an answer; a success is not, for nobody can
     * have understood what was not sent. */
    if (c->head.status < 300 && (c->to_send > 0 || c->broken))
        return fail_set(f, S3UP_LATER, "the store said %u before it had the whole body",
                        c->head.status);
    http_begin_body(c, is_head);
    return 0;
}

/* Bytes as they come, from the window or straight into p: at least one; 0 at the end of
 * the connection, -1 when it failed. */
static ssize_t
http_raw(struct conn *c, void *p, size_t n, struct fail *f)
{
    for (;;) {
        ssize_t did;

        if (c->at < c->n) {
            n = n < c->n - c->at ? n : c->n - c->at;
            memcpy(p, c->in + c->at, n);
            c->at += n;
            return (ssize_t)n;
        }
        if (os_stop)
            return fail_set(f, S3UP_INTERRUPTED, "interrupted");
        /* The window is empty: what comes need not pass through it. */
        did = wire_recv(&c->wire, p, n);
        if (did >= 0)
            return did;
        if (did == NET_DEAD)
            return fail_set(f, S3UP_LATER,
                            "the connection broke in the middle of a reply");
        if (http_wait(c, POLLIN, f) < 0)
            return -1;
    }
}

/* A line of the framing of chunks, without its end. Its bytes come through the window. */
static int
http_line(struct conn *c, char line[HTTP_LINE], struct fail *f)
{
    size_t n = 0;

    for (;;) {
        if (c->at == c->n) {
            ssize_t did = http_fill(c);

            if (did == NET_END || did == NET_DEAD)
                return fail_set(f, S3UP_LATER,
                                "the reply was cut off between two chunks");
            if (did == NET_LATER && http_wait(c, POLLIN, f) < 0)
                return -1;
            continue;
        }
        if (c->in[c->at] == '\n') {
            c->at++;
            line[n && line[n - 1] == '\r' ? n - 1 : n] = 0;
            return 0;
        }
        /* A NUL would end the line for us, and for nobody else. */
        if (n == HTTP_LINE - 1 || !c->in[c->at])
            return fail_set(f, S3UP_LATER,
                            "a chunk's head is longer than %d bytes, or has a NUL in it",
                            HTTP_LINE);
        line[n++] = c->in[c->at++];
    }
}

/* 1a2b;extension: the length of the next chunk, in c->left. The last, of 0 bytes, is
 * followed by fields, which are passed over, and an empty line. Fifteen digits are more
 * than any chunk has and stay below 2^63. */
static int
http_next_chunk(struct conn *c, struct fail *f)
{
    char line[HTTP_LINE];
    size_t n = 0, lines = 0;

    if (http_line(c, line, f) < 0)
        return -1;
    for (c->left = 0; hex_value(line[n]) >= 0 && n < 15; n++)
        c->left = c->left * 16 + hex_value(line[n]);
    if (!n || (line[n] && !strchr("; \t", line[n])))
        return fail_set(f, S3UP_LATER, "a chunk of the reply has a malformed length");
    if (c->left)
        return 0;
    do {
        if (http_line(c, line, f) < 0)
            return -1;
        if (lines++ > HEAD_FIELDS)
            return fail_set(f, S3UP_LATER,
                            "the reply has too many fields behind its chunks");
    } while (line[0]);
    c->body_done = true;
    return 0;
}

/* Bytes of the reply's body: at least one; 0 at its end, -1 when it failed or was cut. A
 * body that ends with a plain connection may have been cut without a trace: who knows how
 * long it must be has to compare. */
static ssize_t
http_read(struct conn *c, void *p, size_t n, struct fail *f)
{
    char line[HTTP_LINE];
    ssize_t did;

    if (!c->body_done && c->body == BODY_CHUNKS && !c->left && http_next_chunk(c, f) < 0)
        return -1;
    if (c->body_done)
        return 0;
    if (c->body != BODY_CLOSE && (uint64_t)c->left < n)
        n = (size_t)c->left;
    did = http_raw(c, p, n, f);
    if (did < 0)
        return -1;
    if (did == 0) {
        /* The end of the connection counts only where nothing else was promised, and over
         * TLS only if the peer itself has said so. */
        if (c->body != BODY_CLOSE || c->wire.cut)
            return fail_set(f, S3UP_LATER, "the reply was cut off before its end");
        c->body_done = true;
        return 0;
    }
    if (c->body == BODY_CLOSE)
        return did;
    c->left -= did;
    c->idle_since = os_ticks();
    c->body_done = c->body == BODY_LENGTH && !c->left;
    if (c->body == BODY_CHUNKS && !c->left) { /* the line end behind a chunk's data */
        if (http_line(c, line, f) < 0)
            return -1;
        if (line[0])
            return fail_set(f, S3UP_LATER, "a chunk of the reply is longer than it said");
    }
    return did;
}

/* After a reply: the connection stays for the next request only when every byte of this
 * exchange was sent and read. */
static void
http_finish(struct conn *c)
{
    char rest[1024];
    struct fail f = {S3UP_OK, ""};
    size_t most = HTTP_WINDOW;

    /* A little that was not read, as of an error page, is read if it is there; more costs
     * a connection. */
    http_watch(c, 0, 1);
    while (c->answered && !c->body_done && c->at < c->n && most) {
        ssize_t did = http_read(c, rest, most < sizeof rest ? most : sizeof rest, &f);

        if (did <= 0)
            break;
        most -= (size_t)did;
    }
    /* Otherwise bytes of this exchange would be taken for the next one's, on either
     * side. */
    if (c->answered && c->body_done && c->body != BODY_CLOSE && !c->head.close &&
        c->to_send <= 0 && !c->broken && c->at == c->n) {
        c->reused = true;
        return;
    }
    http_close(c);
}

/* Whether an idle connection can be used once more: a server that has closed it, or says
 * something unasked, has made it readable. It is closed if not. True is no promise: the
 * server's goodbye may be under way. */
static bool
http_alive(struct conn *c)
{
    if (c->wire.fd < 0)
        return false;
    if (os_ticks() - c->idle_since < HTTP_IDLE && c->at == c->n &&
        wire_wait(&c->wire, POLLIN, os_ticks()) == 0)
        return true;
    http_close(c);
    return false;
}

/* Asks the proxy for a tunnel to the origin. Only the proxy's credentials go to it. A
 * proxy that keeps us busy with a little now and then must come to an end by `until`. */
static int
http_tunnel(struct conn *c, const struct origin *o, int64_t until, struct fail *f)
{
    int rc;

    http_forget(c);
    c->to_send = 0;
    buf_str(&c->out, "CONNECT ");
    http_put_host(o, true, &c->out);
    buf_str(&c->out, " HTTP/1.1\r\nhost: ");
    http_put_host(o, true, &c->out);
    if (o->proxy_auth.n) {
        buf_str(&c->out, "\r\nproxy-authorization: ");
        buf_put(&c->out, buf_span(&o->proxy_auth));
    }
    buf_str(&c->out, "\r\n\r\n");
    http_watch(c, o->limit, 1);
    if (c->out.bad)
        return fail_set(f, S3UP_USAGE, "the proxy's user name and password are too long");
    c->until = until;
    rc = http_reply(c, true, o->limit, f);
    c->until = 0;
    if (rc < 0)
        return -1;
    if (c->head.status >= 300)
        return fail_set(f, c->head.status < 500 ? S3UP_DENIED : S3UP_LATER,
                        "the proxy %s port %u refused to connect to %s: status %u%s",
                        o->proxy, o->proxy_port, o->host, c->head.status,
                        c->head.status == 407 ? " (it asks for a user and password)"
                                              : "");
    /* Bytes behind the reply would be read as the origin's first, and it has been asked
     * for nothing yet. */
    if (c->at < c->n)
        return fail_set(f, S3UP_LATER, "the proxy %s sent more than its reply", o->proxy);
    return 0;
}

/* Makes a connection on which a request can be sent: verified, if it is https. The name,
 * the connection, the tunnel and the handshake share one deadline. -1: there is none, and
 * nothing is left open. */
static int
http_connect(struct conn *c, struct origin *o, struct fail *f)
{
    int64_t until = os_ticks() + (o->limit < HTTP_CONNECT ? o->limit : HTTP_CONNECT);
    struct tls_peer peer = {o->host, o->roots, &o->session};

    http_close(c);
    c->wire.fd = net_open(o->proxy[0] ? o->proxy : o->host,
                          o->proxy[0] ? o->proxy_port : o->port, until, f);
    if (c->wire.fd < 0)
        return -1;
    if (o->https && ((o->proxy[0] && http_tunnel(c, o, until, f) < 0) ||
                     tls_start(&c->wire, &peer, until, f) < 0)) {
        http_close(c);
        return -1;
    }
    return 0;
}

/* ===== ROOM 9 signature: AWS Signature Version 4; pure =====
 *
 * In: a request, keys, a scope, the time. Out: the same request with the header fields or
 * the parameters that prove who sent it, or the signature of a form's policy. No clock,
 * no I/O, no state: the same input gives the same output, so published examples can be
 * held against it.
 *
 * The steps have the names that the specification gives them: the canonical request, all
 * that is signed as one text (sig_put_canonical); the string to sign, its digest with the
 * date and scope (sig_request); the key of a day, made from the secret (sig_key); the
 * signature (sig_sign). The store does the same with what has arrived, so each byte
 * counts: both sides read the one struct request, and nothing may be added to it after it
 * was signed, but the proof itself.
 *
 * All header fields are signed but those that proxies change on the way; one more of
 * these goes into sig_skips. Refuses to sign what did not fit: r->bad stays set, and such
 * a request is never sent. Keys that are made on the way are wiped.
 */

/* Who signs, for which service and place, when. The spans are the caller's. */
struct signer {
    struct span id, secret, token; /* token is empty for keys that do not expire */
    struct span region, service;   /* "us-east-1", "s3" */
    int64_t now;                   /* by the store's clock */
    bool s3; /* S3 signs the path as it is sent; all other services tidy it up, encode it
              * once more, and do not ask for the header x-amz-content-sha256 */
};

#define SIG_HEX (2 * SHA256_SIZE + 1) /* a digest in hex, and a NUL */

/* What stands for the digest of a body that is not signed: only over TLS, or in a URL. */
#define SIG_UNSIGNED "UNSIGNED-PAYLOAD"

static void
sig_hex(const unsigned char digest[SHA256_SIZE], char out[SIG_HEX])
{
    for (unsigned i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[2 * SHA256_SIZE] = 0;
}

/* What a proxy or server may alter or strip without doing wrong. If one of them were
 * signed, the request would be refused for what happened to it on the way. */
static bool
sig_skips(struct span name)
{
    static const char *const never[] = {"authorization",
                                        "connection",
                                        "expect",
                                        "keep-alive",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "te",
                                        "trailer",
                                        "upgrade",
                                        "transfer-encoding",
                                        "proxy-connection",
                                        "user-agent",
                                        "x-amzn-trace-id"};

    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (span_is(name, never[i]))
            return true;
    return false;
}

/* 20130524/us-east-1/s3/aws4_request: a signature is good for one day, region and
 * service, so it cannot be taken elsewhere. stamp is the date and time, of which the day
 * is the first part. */
static void
sig_put_scope(const struct signer *who, const char *stamp, struct buf *out)
{
    buf_add(out, stamp, 8);
    buf_char(out, '/');
    buf_put(out, who->region);
    buf_char(out, '/');
    buf_put(out, who->service);
    buf_str(out, "/aws4_request");
}

/* The key's id, which is no secret, and the scope: by it the store finds the secret. */
static void
sig_put_credential(const struct signer *who, const char *stamp, struct buf *out)
{
    buf_put(out, who->id);
    buf_char(out, '/');
    sig_put_scope(who, stamp, out);
}

/* host;x-amz-date;...: the names of what is signed, sorted, each once. The store signs
 * these and no others, and refuses a request whose host is not among them. */
static void
sig_put_names(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];
    struct span last = {NULL, 0};

    http_sort(&r->head, false, order);
    for (unsigned i = 0; i < r->head.n; i++) {
        struct span name = r->head.at[order[i]].name;

        if (sig_skips(name) || span_eq(name, last))
            continue;
        if (last.n)
            buf_char(out, ';');
        buf_put(out, name);
        last = name;
    }
}

/* A value without its outer blanks, and with one blank for each run of them inside. */
static void
sig_put_value(struct span value, struct buf *out)
{
    /* The store does this to what arrives, since proxies may have done it before. */
    value = span_trim(value);
    for (size_t i = 0; i < value.n; i++)
        if (!span_blank(value.p[i]))
            buf_char(out, value.p[i]);
        else if (!span_blank(value.p[i - 1])) /* there is one: the first is no blank */
            buf_char(out, ' ');
}

/* One line for each name, sorted: name:value. The values of fields of the same name stand
 * in one line, with commas, in the order in which they are sent. */
static void
sig_put_headers(const struct request *r, struct buf *out)
{
    unsigned char order[REQ_FIELDS];
    struct span last = {NULL, 0};

    http_sort(&r->head, false, order);
    for (unsigned i = 0; i < r->head.n; i++) {
        const struct field *f = &r->head.at[order[i]];

        if (sig_skips(f->name))
            continue;
        if (span_eq(f->name, last)) {
            buf_char(out, ',');
        } else {
            if (last.n)
                buf_char(out, '\n');
            buf_put(out, f->name);
            buf_char(out, ':');
        }
        sig_put_value(f->value, out);
        last = f->name;
    }
    buf_char(out, '\n');
}

/* The path as services other than S3 sign it: no empty segments, no . and no .., and
 * encoded once more. */
static void
sig_put_tidy_path(struct span path, struct buf *out)
{
    bool folder = path.n && path.p[path.n - 1] == '/';
    struct buf tidy = buf_upto(REQ_TEXT);
    struct span segment;

    while (span_cut(&path, '/', &segment)) {
        if (!segment.n || span_is(segment, "."))
            continue;
        /* Takes the segment before it away; at the top there is none to take. */
        if (span_is(segment, "..")) {
            while (tidy.n && tidy.p[--tidy.n] != '/')
                continue;
            continue;
        }
        buf_char(&tidy, '/');
        buf_put(&tidy, segment);
    }
    if (folder || !tidy.n)
        buf_char(&tidy, '/');
    if (tidy.bad)
        out->bad = tidy.bad;
    url_put(out, buf_span(&tidy), "/");
    buf_free(&tidy);
}

/* The canonical request. payload is the digest of the body in hex, or what stands for
 * it. */
static void
sig_put_canonical(const struct request *r, const struct signer *who, const char *payload,
                  struct buf *out)
{
    buf_str(out, r->method);
    buf_char(out, '\n');
    if (who->s3)
        buf_put(out, r->path);
    else
        sig_put_tidy_path(r->path, out);
    buf_char(out, '\n');
    http_put_query(r, out);
    buf_char(out, '\n');
    sig_put_headers(r, out);
    buf_char(out, '\n');
    sig_put_names(r, out);
    buf_char(out, '\n');
    buf_str(out, payload);
}

/* The key of a day, a region and a service: secret, date, region, service, end. Each is
 * the key of the next, so whoever learns this one cannot get back to the secret. False
 * when the secret is longer than any; the key is then of no use. */
static bool
sig_key(const struct signer *who, const char *stamp, unsigned char key[SHA256_SIZE])
{
    struct buf first = buf_upto(REQ_TEXT);
    bool good;

    buf_str(&first, "AWS4");
    buf_put(&first, who->secret);
    good = !first.bad;
    hmac_of(buf_span(&first).p, buf_span(&first).n, span_at(stamp, 8), key);
    hmac_of(key, SHA256_SIZE, who->region, key);
    hmac_of(key, SHA256_SIZE, who->service, key);
    hmac_of(key, SHA256_SIZE, SPAN("aws4_request"), key);
    buf_free(&first);
    return good;
}

/* False when the secret is longer than any: what is in out then proves nothing. */
static bool
sig_sign(const struct signer *who, const char *stamp, struct span text, char out[SIG_HEX])
{
    unsigned char key[SHA256_SIZE], mac[SHA256_SIZE];
    bool good = sig_key(who, stamp, key);

    hmac_of(key, sizeof key, text, mac);
    sig_hex(mac, out);
    explicit_bzero(key, sizeof key);
    return good;
}

/* The signature of the request as it stands; its date is stamp. A failure is left in
 * r->bad, since a signature of half a request looks like any other. */
static void
sig_request(struct request *r, const struct signer *who, const char *stamp,
            const char *payload, char out[SIG_HEX])
{
    struct buf canonical = buf_upto(4 * REQ_TEXT), text = buf_upto(REQ_TEXT);
    unsigned char digest[SHA256_SIZE];

    sig_put_canonical(r, who, payload, &canonical);
    sha256_of(buf_span(&canonical), digest);
    buf_str(&text, "AWS4-HMAC-SHA256\n");
    buf_str(&text, stamp);
    buf_char(&text, '\n');
    sig_put_scope(who, stamp, &text);
    buf_char(&text, '\n');
    hex_put(&text, digest, sizeof digest);
    if (!sig_sign(who, stamp, buf_span(&text), out) || canonical.bad || text.bad)
        r->bad = true;
    buf_free(&canonical);
    buf_free(&text);
}

/* Signs with header fields. payload is the body's SHA-256 in hex, or SIG_UNSIGNED. False
 * when the request did not fit or is malformed; it must not be sent then. */
static bool
sig_headers(struct request *r, const struct signer *who, const char *payload)
{
    struct buf value = buf_upto(REQ_TEXT);
    char stamp[DATE_STAMP], signature[SIG_HEX];

    http_unsign(r);
    date_stamp(who->now, stamp);
    http_header(r, "x-amz-date", span_of(stamp));
    if (who->s3)
        http_header(r, "x-amz-content-sha256", span_of(payload));
    if (who->token.n)
        http_header(r, "x-amz-security-token", who->token);
    /* Here the request is complete: what is added below is not signed, and cannot be. */
    sig_request(r, who, stamp, payload, signature);
    buf_str(&value, "AWS4-HMAC-SHA256 Credential=");
    sig_put_credential(who, stamp, &value);
    buf_str(&value, ", SignedHeaders=");
    sig_put_names(r, &value);
    buf_str(&value, ", Signature=");
    buf_str(&value, signature);
    r->bad |= value.bad != 0;
    http_header(r, "authorization", buf_span(&value));
    buf_free(&value);
    return !r->bad;
}

/* Signs with parameters: the URL alone then gives the right to the request, for so many
 * seconds. Whoever uses it must send the header fields that stand in it as they are.
 * False as in sig_headers, or when no store allows that time: none, or more than
 * PRESIGN_MAX. */
static bool
sig_url(struct request *r, const struct signer *who, uint64_t seconds,
        const char *payload)
{
    struct buf value = buf_upto(REQ_TEXT);
    char stamp[DATE_STAMP], signature[SIG_HEX];

    http_unsign(r);
    date_stamp(who->now, stamp);
    http_query(r, "X-Amz-Algorithm", SPAN("AWS4-HMAC-SHA256"));
    sig_put_credential(who, stamp, &value);
    http_query(r, "X-Amz-Credential", buf_span(&value));
    http_query(r, "X-Amz-Date", span_of(stamp));
    r->bad |= value.bad != 0;
    buf_clear(&value);
    buf_num(&value, seconds);
    http_query(r, "X-Amz-Expires", buf_span(&value));
    if (who->token.n)
        http_query(r, "X-Amz-Security-Token", who->token);
    r->bad |= value.bad != 0;
    buf_clear(&value);
    sig_put_names(r, &value);
    http_query(r, "X-Amz-SignedHeaders", buf_span(&value));
    r->bad |= value.bad || !seconds || seconds > PRESIGN_MAX;
    buf_free(&value);
    sig_request(r, who, stamp, payload, signature);
    http_query(r, "X-Amz-Signature", span_of(signature));
    return !r->bad;
}

/* Signs the policy of a form, a JSON text. out gets its base64, which is what is signed
 * and what the form carries in its field "policy". out must be empty. False when it is
 * not to be used: the policy did not fit, or the secret is longer than any. */
static bool
sig_policy(const struct signer *who, struct span policy, struct buf *out,
           char hex[SIG_HEX])
{
    char stamp[DATE_STAMP];

    date_stamp(who->now, stamp);
    b64_put(out, policy.p, policy.n);
    return sig_sign(who, stamp, buf_span(out), hex) && !out->bad;
}

/* ===== ROOM 10 creds: keys and settings, from where every AWS tool finds them =====
 *
 * In: the environment, ~/.aws/config, ~/.aws/credentials, or a program that prints keys.
 * Out: one set of keys, taken together from one place, and the settings of one profile.
 * Owns the memory of both, and wipes it. Refuses keys that are half there, a file it
 * cannot read exactly, and a profile that needs what s3up does not do; always by name.
 *
 * cred_read_profile reads the files, cred_load finds the keys; they are called again when
 * a store says that keys have expired, with a new profile and new keys, so that whoever
 * replaces the files, or the program behind credential_process, need not restart us. The
 * order is that of the AWS tools: keys of a profile that was asked for on the command
 * line; keys in the environment; keys in the credentials file, then in the config file;
 * the program. Keys of two places are never mixed: a token that belongs to other keys is
 * refused by every store, in words that help nobody.
 *
 * A file that is not there is none; one that is there and cannot be read, or has a line
 * that cannot be understood, is an error, because the line might have been the one that
 * counts. No key is ever part of a message.
 *
 * To add a place where keys come from, add a function and its line in cred_load; to add a
 * setting, a struct buf in struct profile and its line in cred_settings.
 */

/* ---- the shared files ---- */

/* What the files say of one profile; empty where they say nothing. */
struct profile {
    struct buf name;
    bool found, strong; /* a section of it was seen; strong: it was [profile default],
                         * which beats [default] */
    struct buf id, secret, token;
    struct buf process; /* credential_process: a command line */
    struct buf region, endpoint, ca_bundle, addressing;
    struct buf services;    /* the [services] section that is named */
    struct buf s3_endpoint; /* and the endpoint that it has for S3 */
    struct buf foreign;     /* a setting that would need a service we do not speak to */
};

/* One set of keys. cred_free wipes it. */
struct creds {
    struct buf id, secret, token; /* token: empty for keys that do not expire */
    int64_t until;    /* when they expire, or 0: never, or nobody has said so */
    const char *from; /* for messages */
};

static void
cred_init(struct creds *c)
{
    *c = (struct creds){buf_upto(CRED_MAX), buf_upto(CRED_MAX), buf_upto(CRED_MAX), 0,
                        "nowhere"};
}

static void
cred_free(struct creds *c)
{
    buf_free(&c->id);
    buf_free(&c->secret);
    buf_free(&c->token);
}

/* Settings that are kept, and where. Those that share a place are known only so that they
 * can be named: what is kept is which of them there was. The one without a name is filled
 * by cred_read, from another section; it stands here to be made, looked at and freed like
 * the others. */
static const struct {
    const char *key;
    size_t at; /* of a struct buf in struct profile */
} cred_settings[] = {
    {"aws_access_key_id", offsetof(struct profile, id)},
    {"aws_secret_access_key", offsetof(struct profile, secret)},
    {"aws_session_token", offsetof(struct profile, token)},
    {"credential_process", offsetof(struct profile, process)},
    {"region", offsetof(struct profile, region)},
    {"endpoint_url", offsetof(struct profile, endpoint)},
    {"ca_bundle", offsetof(struct profile, ca_bundle)},
    {"services", offsetof(struct profile, services)},
    {"", offsetof(struct profile, s3_endpoint)},
    {"role_arn", offsetof(struct profile, foreign)},
    {"sso_session", offsetof(struct profile, foreign)},
    {"sso_start_url", offsetof(struct profile, foreign)},
    {"web_identity_token_file", offsetof(struct profile, foreign)},
};
enum { CRED_SETTINGS = sizeof cred_settings / sizeof *cred_settings };

/* The buffer of setting number i. */
static struct buf *
cred_setting(struct profile *p, size_t i)
{
    return (struct buf *)(void *)((char *)p + cred_settings[i].at);
}

/* No setting yet. profile_free must follow, also when reading it fails. */
static void
profile_init(struct profile *p, const char *name)
{
    *p = (struct profile){.name = buf_upto(CRED_MAX), .addressing = buf_upto(CRED_MAX)};
    for (size_t i = 0; i < CRED_SETTINGS; i++)
        *cred_setting(p, i) = buf_upto(CRED_MAX);
    buf_str(&p->name, name);
}

static void
profile_free(struct profile *p)
{
    for (size_t i = 0; i < CRED_SETTINGS; i++)
        buf_free(cred_setting(p, i));
    buf_free(&p->name);
    buf_free(&p->addressing);
}

static void
cred_set(struct buf *to, struct span value)
{
    buf_clear(to);
    buf_put(to, value);
}

/* Does the section that i has reached speak of the profile? The config file writes
 * [profile NAME] and [default], the credentials file [NAME]. Once [profile default] was
 * seen, a [default] that follows counts for nothing. */
static bool
cred_is_section(struct profile *p, const struct ini *i, bool config)
{
    bool is_default = span_is(buf_span(&p->name), "default");
    bool named = i->name.n && span_eq(i->name, buf_span(&p->name));

    if (!named)
        return false;
    if (!config)
        return !i->kind.n;
    if (span_is(i->kind, "profile")) {
        /* Nor is what it had said before it was known that it does not count. */
        for (size_t k = 0; is_default && !p->strong && k < CRED_SETTINGS; k++)
            buf_clear(cred_setting(p, k));
        p->strong |= is_default;
        return true;
    }
    return is_default && !i->kind.n && !p->strong;
}

/* One setting of the profile, or of a block below one of its settings. Of a setting that
 * stands twice the last counts. */
static void
cred_take(struct profile *p, const struct ini *i, enum ini_event event)
{
    if (event == INI_SUB) {
        if (span_is(i->parent, "s3") && span_is(i->key, "addressing_style"))
            cred_set(&p->addressing, i->value);
        return;
    }
    for (size_t k = 0; k < CRED_SETTINGS; k++) {
        /* role_arn is kept against all others of its kind: it alone also says that the
         * keys beside it are not to be used as they are. */
        bool foreign = cred_settings[k].at == offsetof(struct profile, foreign);

        /* The key of a line that has none that is a name, and the name of a setting that
         * stands nowhere as such, are both empty. */
        if (!i->key.n)
            continue;
        /* As in other tools, AWS_ACCESS_KEY_ID = ... copied out of a script will do. */
        if (span_is_nocase(i->key, cred_settings[k].key) &&
            !(foreign && span_is(buf_span(&p->foreign), "role_arn")))
            cred_set(cred_setting(p, k), foreign ? i->key : i->value);
    }
}

/* Reads one file into the profile. Later settings replace earlier ones, so the order of
 * calls is the order of precedence. 0, also when there is no such file; or -1. */
static int
cred_read(struct profile *p, const char *path, bool config, struct fail *f)
{
    struct buf text = buf_upto(MIB);
    struct fail unread = {S3UP_OK, ""};
    enum ini_event event = INI_END;
    bool ours = false, services = false;
    struct ini i;

    if (os_slurp(path, &text, &unread) < 0) {
        buf_free(&text);
        /* That there is no such file is not an error: the other one may have it all. */
        return unread.code == S3UP_MISSING
                   ? 0
                   : fail_set(f, os_stop ? S3UP_INTERRUPTED : S3UP_USAGE, "%s",
                              unread.text);
    }
    ini_init(&i, buf_span(&text));
    while ((event = ini_next(&i)) != INI_END && event != INI_BAD) {
        if (event == INI_SECTION) {
            ours = cred_is_section(p, &i, config);
            /* The section [services NAME] has the endpoints of single services. Its name
             * stands in the profile, which may come behind it: hence the second
             * reading. */
            services = config && span_is(i.kind, "services") && p->services.n &&
                       span_eq(i.name, buf_span(&p->services));
            p->found |= ours;
        } else if (ours && event != INI_MORE) {
            cred_take(p, &i, event);
        } else if (services && event == INI_SUB && span_is(i.parent, "s3") &&
                   span_is(i.key, "endpoint_url")) {
            cred_set(&p->s3_endpoint, i.value);
        }
    }
    if (event == INI_BAD)
        (void)fail_set(f, S3UP_USAGE, "%s line %u: %s", path, i.line, i.why);
    buf_free(&text);
    return f->code == S3UP_OK ? 0 : -1;
}

/* $HOME/.aws/FILE, or what the variable says instead. out stays empty when there is no
 * home. */
static void
cred_path(const char *variable, const char *file, struct buf *out)
{
    const char *home = os_env("HOME"), *said = os_env(variable);

    if (said && (!home || !span_starts(span_of(said), "~/"))) {
        buf_str(out, said);
    } else if (said) { /* no shell has seen it: it stands in some file of variables */
        buf_str(out, home);
        buf_str(out, said + 1);
    } else if (home) {
        buf_str(out, home);
        buf_str(out, "/.aws/");
        buf_str(out, file);
    }
}

/* Reads the credentials file. If it has keys, all of them are taken from it: a token that
 * the config file has belongs to other keys. So those of the config file are laid aside,
 * and put back if the file has none. */
static int
cred_read_keys(struct profile *p, const char *path, struct fail *f)
{
    struct buf id = p->id, secret = p->secret, token = p->token;
    int rc;

    p->id = p->secret = p->token = buf_upto(CRED_MAX);
    rc = cred_read(p, path, false, f);
    if (!p->id.n && !p->secret.n && !p->token.n) {
        p->id = id;
        p->secret = secret;
        p->token = token;
        return rc;
    }
    buf_free(&id);
    buf_free(&secret);
    buf_free(&token);
    return rc;
}

/* Reads a profile out of both files. The credentials file is read last, so it wins. 0,
 * also when neither file has the profile and it need not exist. */
static int
cred_read_profile(struct profile *p, bool must_exist, struct fail *f)
{
    struct buf config = buf_upto(PATH_MAX), keys = buf_upto(PATH_MAX);
    int rc = 0;

    cred_path("AWS_CONFIG_FILE", "config", &config);
    cred_path("AWS_SHARED_CREDENTIALS_FILE", "credentials", &keys);
    if (config.n)
        rc = cred_read(p, buf_text(&config), true, f);
    if (rc == 0 &&
        p->services.n) /* once more: the section may stand before the profile */
        rc = cred_read(p, buf_text(&config), true, f);
    if (rc == 0 && keys.n)
        rc = cred_read_keys(p, buf_text(&keys), f);
    for (size_t i = 0; i < CRED_SETTINGS; i++)
        if (rc == 0 && cred_setting(p, i)->bad) /* not as if it were not there */
            rc = fail_set(f, S3UP_USAGE, "profile %s: %s is too long, or memory ran out",
                          buf_text(&p->name),
                          *cred_settings[i].key ? cred_settings[i].key : "endpoint_url");
    if (rc == 0 && must_exist && !p->found)
        rc = fail_set(f, S3UP_USAGE, "there is no profile \"%s\" in %s or %s",
                      buf_text(&p->name), config.n ? buf_text(&config) : "~/.aws/config",
                      keys.n ? buf_text(&keys) : "~/.aws/credentials: HOME is not set");
    buf_free(&config);
    buf_free(&keys);
    return rc;
}

/* ---- a program that prints keys ----
 *
 * credential_process is a command line of the user's own. It is run without a shell, with
 * nothing to read, and its output must be one JSON object within CRED_PATIENCE. What it
 * prints are secrets: they pass through memory that is wiped, and through no message.
 */

/* Splits a command line as a shell would, but nothing in it is ever expanded. The words
 * are NUL-terminated in `words`; argv points to them. False if a quote is not closed, or
 * there are too many words. */
static bool
cred_split(struct span line, struct buf *words, char *argv[CRED_WORDS])
{
    size_t at[CRED_WORDS], n = 0;
    bool in_word = false;
    char quote = 0;

    for (size_t i = 0; i < line.n; i++) {
        char c = line.p[i];

        if (!quote && xml_space(c)) {
            if (in_word)
                buf_char(words, 0);
            in_word = false;
            continue;
        }
        if (!in_word) {
            /* One place is for the NULL that execvp needs at the end. */
            if (n == CRED_WORDS - 1)
                return false;
            at[n++] = words->n;
            in_word = true;
        }
        /* A backslash takes the next character as it is: any one outside of quotes, these
         * four between double quotes, none between single ones. */
        if (c == '\\' && i + 1 < line.n &&
            (!quote || (quote == '"' && strchr("\"\\$`", line.p[i + 1]))))
            buf_char(words, line.p[++i]);
        else if (quote ? c == quote : c == '"' || c == '\'')
            quote = quote ? 0 : c;
        else
            buf_char(words, c);
    }
    buf_char(words, 0);
    /* Only now: the buffer may have moved while it grew. */
    for (size_t i = 0; i < n; i++)
        argv[i] = words->p + at[i];
    argv[n] = NULL;
    return !quote && n && !words->bad;
}

/* Becomes the program, with its output in our hand. Its complaints go to our stderr. What
 * we have open does not reach it, for all of it is opened so that exec closes it. */
static void
cred_child(char **argv, int output)
{
    int null = os_open("/dev/null", O_RDONLY, 0);

    os_signals_off();
    if (null >= 0 && dup2(null, STDIN_FILENO) == STDIN_FILENO &&
        dup2(output, STDOUT_FILENO) == STDOUT_FILENO)
        (void)execvp(argv[0],
                     argv); /* by PATH, as other tools find it; never by a shell */
    _exit(CRED_NO_EXEC);
}

/* Runs a program and collects what it prints, to its end and its exit status, for no
 * longer than CRED_PATIENCE. Nothing of it is left behind, though what it has started
 * itself may be. */
static int
cred_run(char **argv, struct buf *out, struct fail *f)
{
    int pipes[2], status = -1;
    int64_t until = os_ticks() + CRED_PATIENCE;
    char piece[1024];
    ssize_t did = 1; /* 0: its output has ended; else it is to be killed */
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) != 0)
        return fail_sys(f, "run", argv[0]);
    child = fork();
    if (child == 0)
        cred_child(argv, pipes[1]);
    (void)close(pipes[1]);
    /* Until its output ends, there is too much of it, or the time is over. */
    while (child > 0 && did > 0 && !out->bad && net_wait_one(pipes[0], POLLIN, until)) {
        did = read(pipes[0], piece, sizeof piece);
        if (did > 0)
            buf_add(out, piece, (size_t)did);
    }
    explicit_bzero(piece, sizeof piece); /* a secret was in it */
    (void)close(pipes[0]);
    if (child < 0)
        return fail_sys(f, "run", argv[0]);
    /* It may have closed its output and stay: then it has the rest of its time. */
    while (did == 0 && waitpid(child, &status, WNOHANG) == 0)
        if (os_stop || os_ticks() >= until)
            did = -1;
        else
            os_sleep(10);
    if (did != 0) {
        (void)kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    if (os_stop)
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    if (did != 0 || out->bad || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail_set(f, S3UP_DENIED, "the credential_process %s failed: %s", argv[0],
                        out->bad   ? "its output is too long"
                        : did != 0 ? "it did not finish in time"
                        : WEXITSTATUS(status) == CRED_NO_EXEC
                            ? "it could not be started"
                            : "its exit status is not 0");
    return 0;
}

/* {"Version": 1, "AccessKeyId": ..., "SecretAccessKey": ..., "SessionToken": ...,
 * "Expiration": "2026-11-21T00:00:00Z"}. Members of other names, and what stands deeper,
 * are passed over. Neither the text nor a part of it is ever shown. */
static int
cred_parse_keys(struct span text, struct creds *c, struct fail *f)
{
    struct buf version = buf_upto(16), expiry = buf_upto(64);
    const struct {
        const char *key;
        struct buf *to;
    } members[] = {{"Version", &version},
                   {"AccessKeyId", &c->id},
                   {"SecretAccessKey", &c->secret},
                   {"SessionToken", &c->token},
                   {"Expiration", &expiry}};
    enum json_event event;
    struct json j;

    json_init(&j, text);
    while ((event = json_next(&j)) != JSON_END && event != JSON_BAD)
        for (size_t i = 0; i < sizeof members / sizeof *members; i++)
            if (j.depth == 1 && (event == JSON_STRING || event == JSON_NUMBER) &&
                span_is(j.key, members[i].key)) {
                buf_clear(members[i].to);
                (void)json_text(j.text, members[i].to);
            }
    if (event == JSON_BAD)
        (void)fail_set(f, S3UP_DENIED, "the credential_process did not print JSON: %s",
                       j.why);
    else if (!span_is(buf_span(&version), "1") || !c->id.n || !c->secret.n)
        (void)fail_set(f, S3UP_DENIED,
                       "the credential_process must print Version 1, "
                       "AccessKeyId and SecretAccessKey");
    else if (expiry.n && !date_iso(buf_span(&expiry), &c->until))
        (void)fail_set(f, S3UP_DENIED,
                       "the credential_process printed a malformed Expiration");
    buf_free(&version);
    buf_free(&expiry);
    return f->code == S3UP_OK ? 0 : -1;
}

static int
cred_from_process(const struct profile *p, struct creds *c, struct fail *f)
{
    struct buf words = buf_upto(CRED_MAX), out = buf_upto(CRED_MAX);
    char *argv[CRED_WORDS];
    int rc;

    c->from = "credential_process";
    if (!cred_split(buf_span(&p->process), &words, argv))
        rc = fail_set(f, S3UP_USAGE,
                      "credential_process of profile %s is no command line: a "
                      "quote is not closed, or it has more than %d words",
                      buf_text(&p->name), CRED_WORDS - 1);
    else
        rc = cred_run(argv, &out, f);
    if (rc == 0)
        rc = cred_parse_keys(buf_span(&out), c, f);
    buf_free(&words);
    buf_free(&out);
    return rc;
}

/* ---- where the keys come from ---- */

/* Keys in the environment: 1 found, 0 none, -1 half of a pair. A variable that is empty
 * counts as none. An expiry that cannot be read is none: the keys may still be good. */
static int
cred_from_environment(struct creds *c, struct fail *f)
{
    const char *id = os_env("AWS_ACCESS_KEY_ID"),
               *secret = os_env("AWS_SECRET_ACCESS_KEY");
    const char *expiry = os_env("AWS_CREDENTIAL_EXPIRATION");

    if (!id && !secret)
        return 0;
    if (!id || !secret)
        return fail_set(f, S3UP_USAGE, "%s is set but %s is not",
                        id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                        id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    buf_str(&c->id, id);
    buf_str(&c->secret, secret);
    buf_str(&c->token, os_env("AWS_SESSION_TOKEN"));
    if (expiry)
        (void)date_iso(span_of(expiry), &c->until);
    c->from = "the environment";
    return 1;
}

/* The profile's keys, or those that its credential_process prints. -1: it has none, and
 * the reason says what it has instead; `asked` is for the wording. */
static int
cred_from_profile(const struct profile *p, bool asked, struct creds *c, struct fail *f)
{
    /* Keys beside a role are those that may take it on, and not the role's own. */
    bool role = span_is(buf_span(&p->foreign), "role_arn") && !p->process.n;

    if (p->id.n && p->secret.n && !role) {
        buf_put(&c->id, buf_span(&p->id));
        buf_put(&c->secret, buf_span(&p->secret));
        buf_put(&c->token, buf_span(&p->token));
        c->from = "the shared files";
        return 0;
    }
    if ((p->id.n || p->secret.n) && !role)
        return fail_set(f, S3UP_USAGE,
                        "profile %s has only one of aws_access_key_id and "
                        "aws_secret_access_key",
                        buf_text(&p->name));
    if (p->process.n)
        return cred_from_process(p, c, f);
    if (p->foreign.n)
        return fail_set(f, S3UP_USAGE,
                        "profile %s gets its keys through %s, which s3up does "
                        "not do; let credential_process do it",
                        buf_text(&p->name), buf_text(&p->foreign));
    if (asked)
        return fail_set(f, S3UP_DENIED, "profile %s has no keys%s", buf_text(&p->name),
                        os_env("AWS_ACCESS_KEY_ID")
                            ? "; without --profile those of the environment count"
                            : ", in neither file");
    return fail_set(f, S3UP_DENIED,
                    "there are no keys, and the shared files have %s \"%s\"%s: set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into "
                    "~/.aws/credentials, or give --no-sign-request",
                    p->found ? "none in the profile" : "no profile", buf_text(&p->name),
                    os_env("HOME") ? "" : " (HOME is not set)");
}

/* Which profile: the one on the command line, else the environment's, else "default". Not
 * ours to free. */
static const char *
cred_profile_name(const char *flag)
{
    const char *name = flag;

    if (!name)
        name = os_env("AWS_PROFILE");
    if (!name)
        name = os_env("AWS_DEFAULT_PROFILE");
    return name ? name : "default";
}

/* The keys. A profile that was asked for on the command line beats keys in the
 * environment; one that the environment names does not. c must be fresh from cred_init,
 * and is to be freed also after a failure. */
static int
cred_load(const struct profile *p, bool asked, struct creds *c, struct fail *f)
{
    static const char *const names[] = {"access key id", "secret access key",
                                        "session token"};
    const struct buf *all[] = {&c->id, &c->secret, &c->token};
    int found = asked ? 0 : cred_from_environment(c, f);

    if (found < 0 || (!found && cred_from_profile(p, asked, c, f) < 0))
        return -1;
    /* A stray CR of a file that was sourced, say: no store could tell what is wrong. */
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool bad = all[i]->bad;

        for (size_t k = 0; k < all[i]->n; k++)
            bad |= (unsigned char)all[i]->p[k] < ' ' || all[i]->p[k] == 127;
        if (bad)
            (void)fail_set(f, S3UP_USAGE,
                           "the %s in %s is too long, or has a control character in it",
                           names[i], c->from);
    }
    return f->code == S3UP_OK ? 0 : -1;
}

/* ===== ROOM 11 store: one function for each thing that a store can do =====
 *
 * In: a bucket, a key, a body. Out: the store's answer, checked, or the reason why there
 * is none. A call is described by plain data (struct s3_call); s3_run builds the request,
 * signs it, sends it, reads the answer, and decides: done, once more, or failed. Every
 * attempt is built and signed anew. What is tried again, and what is not, stands in two
 * tables, s3_by_code and s3_by_status. A redirect to another region is worked out here,
 * from the region's name alone; an address in a reply is never followed.
 *
 * A store may be wrong, slow, overloaded, old or not a store at all. So a 200 counts only
 * with the reply that belongs to it; a reply has a ceiling; a list that goes in circles
 * is found out; and what a store cannot do is remembered, so that it is asked only once
 * (old_lists, plain_lists, plain_heads).
 *
 * A reply can be lost after the store did what it was asked for, and then the call is
 * made again. Most calls mean the same when they are made twice. Where that is not so (a
 * condition that our own first attempt has made false, an upload that was completed) the
 * room of transfers looks at what is stored before it believes the refusal.
 *
 * Owns one connection, its keys only by reference, and the answer to the last call:
 * reply, error and conn.head hold until the next. Nothing here is shared between
 * processes but struct s3_meter. To add a call, write a function that fills a struct
 * s3_call, and name the element that its reply must consist of; to teach it an error, add
 * the code to s3_by_code, and to s3_advice if there is something to say.
 */

/* ---- a call, and what a store is to us ---- */

/* A parameter of the query, or a header field, as a call has it. */
struct s3_pair {
    const char *name; /* in lower case for a header */
    struct span value;
};

/* What is sent: bytes in memory, or what a reader gives, piece by piece. */
struct s3_body {
    struct span memory;
    int64_t length; /* of the body; used if memory is empty */
    /* Gives n bytes from a place of the body, or -1 and the reason. It must refuse the
     * last of them if the whole is not what it was: what it has not got to its end, a
     * store does not keep. Each attempt begins at place 0 again. */
    int (*read)(const void *from, char *out, size_t n, int64_t at, struct fail *f);
    const void *from;
};

/* What one client moves, for others to see, and how fast it may. It can lie in memory
 * that processes share: each word has one writer at a time (rate is the parent's, the
 * others are the worker's while it works), and words are written at once. Counters wrap:
 * readers take differences. */
struct s3_meter {
    volatile uint32_t rate;  /* bytes a second; 0: as fast as it goes */
    volatile uint32_t moved; /* bytes in all, modulo 2^32 */
    volatile uint32_t queue; /* bytes of them that have not left this machine */
    volatile uint32_t body;  /* KiB of the body under way */
    volatile uint32_t slow; /* how often the store asked for less, or something stalled */
};

/* One call, as data. It owns nothing: all that it points to must live until the call is
 * over, through all attempts. Functions that take a pointer to one add to it. */
struct s3_call {
    const char *what;   /* PutObject, for messages */
    const char *method; /* PUT */
    struct span bucket, key;
    struct s3_pair query[S3_PAIRS], head[S3_PAIRS];
    unsigned queries, heads;
    bool has_body; /* even if it is empty: a Content-Length is sent */
    struct s3_body body;
    const char *payload; /* SHA-256 of the body in hex; NULL: of memory, computed here. A
                          * body that is not in memory needs one, or SIG_UNSIGNED */
    const char *root;    /* the reply must be this XML element, and is collected */
    bool stream;         /* the reply's body is left for the caller to read */
    bool slow;           /* the store may think for a quarter of an hour */
};

/* What a store said when it refused. Cut to size, since it is for people and for
 * tables. */
struct s3_error {
    unsigned status; /* of HTTP; 0: it has not refused; 500: a 200 that was none */
    char code[64], message[256], request[96], region[64];
};

/* Where the bucket's name goes: as s3_address finds best, into the path, or in front of
 * the host. */
enum s3_addressing { S3_AUTO, S3_PATH, S3_VIRTUAL };

/* Everything that does not change from call to call; filled by whoever opens a store. The
 * texts stay the caller's, and must outlive the store; renew may replace the keys. */
struct s3_config {
    const char *endpoint; /* http[s]://HOST[:PORT][/BASE]; NULL: AWS in this region */
    const char *region;   /* NULL: us-east-1 */
    enum s3_addressing addressing;
    struct span id, secret, token; /* id empty: requests are not signed */
    const char *ca_file;           /* NULL: AWS_CA_BUNDLE, SSL_CERT_FILE, the system's */
    const char *proxy, *no_proxy;  /* NULL: as the environment says; "": none */
    unsigned retries;              /* attempts after the first */
    bool patient;                  /* as many also where nobody has ever answered */
    int64_t limit;                 /* milliseconds that a silence may last */
    int64_t until;                 /* when the keys expire, or 0 */
    /* Puts newer keys into the config; false if there are none. NULL: nobody can. */
    bool (*renew)(void *owner, struct s3_config *config);
    void *owner; /* of both */
};

/* A store, and one connection to it, which is opened when it is needed and kept. It is
 * large, because of the window and the request: not one for a stack. A forked worker has
 * a copy, and opens a connection of its own. */
struct store {
    struct s3_config config;
    struct buf endpoint; /* holds what url points into */
    struct url url;
    bool aws;          /* the endpoint belongs to Amazon: regions have hosts there */
    bool numeric;      /* it is an IP address: no bucket can stand in front of it */
    int64_t clock_off; /* seconds to add to our clock to get the store's */
    unsigned tries;    /* of the last call, after the first attempt */
    unsigned purse;   /* what retries are paid from, so that a dead store is left alone */
    int64_t asked;    /* when newer keys may be asked for again, in seconds */
    unsigned age;     /* how often the keys were replaced */
    bool met;         /* it has answered once */
    bool old_lists;   /* it does not know ListObjectsV2 */
    bool plain_lists; /* it cannot encode keys in lists */
    bool plain_heads; /* it refuses to be asked for checksums */
    struct {
        char bucket[S3_NAME], region[S3_NAME];
    } regions[S3_REGIONS]; /* where buckets were found to be */
    unsigned known;        /* how many were; the oldest is forgotten first */
    struct tls_roots roots;
    bool has_roots;
    struct origin origin;
    struct conn conn;
    struct request request;
    struct buf reply; /* the body of the last collected reply */
    struct s3_error error;
    struct s3_meter still;  /* used unless somebody gives another */
    struct s3_meter *meter; /* what the socket has accepted */
    int64_t due;            /* when the next piece may go, in ticks, if there is a rate */
    uint64_t owed;          /* bytes that have moved, and are not in that yet */
    char window[S3_WINDOW]; /* a file's bytes on their way to the wire */
};

/* ---- what an answer means ----
 *
 * A store says what is wrong with a code, in XML, and with a status. Codes are looked up
 * first, because they say more; many stores have only some of them, and proxies in
 * between none. What has no known code goes by its status, and what is in neither table
 * by its hundreds.
 */

/* What to do after an attempt. */
enum s3_verdict {
    S3_DONE,
    S3_FINAL,  /* it will not get better */
    S3_AGAIN,  /* it may: a pause, and once more */
    S3_SLOWER, /* the store asks for less: a longer pause */
    S3_ONCE,   /* once more, but only once: a damaged body */
    S3_CLOCK,  /* our clock is wrong, or the store's */
    S3_REGION  /* the bucket is elsewhere */
};

/* By error code first; a code that ends in * stands for all that begin so. */
static const struct {
    const char *code;
    enum s3_verdict verdict;
} s3_by_code[] = {
    /* It is there, and has too much to do. */
    {"SlowDown*", S3_SLOWER},
    {"Throttl*", S3_SLOWER},
    {"TooManyRequests*", S3_SLOWER},
    {"RequestLimitExceeded", S3_SLOWER},
    {"BandwidthLimitExceeded", S3_SLOWER},
    {"ServiceUnavailable", S3_SLOWER},
    /* It stumbled, or our bytes did not arrive in time. */
    {"RequestTimeout*", S3_AGAIN},
    {"PriorRequestNotComplete", S3_AGAIN},
    {"InternalError", S3_AGAIN},
    {"OperationAborted", S3_AGAIN},
    {"XMinioServerNotInitialized", S3_AGAIN},
    {"IncompleteBody", S3_AGAIN},
    /* Other bytes arrived than were signed. Twice, and it is no accident on the way. */
    {"BadDigest", S3_ONCE},
    {"XAmzContentSHA256Mismatch", S3_ONCE},
    {"XAmzContentChecksumMismatch", S3_ONCE},
    /* A signature may be refused for its date alone; the date of the reply tells. */
    {"RequestTimeTooSkewed", S3_CLOCK},
    {"RequestExpired", S3_CLOCK},
    {"RequestInTheFuture", S3_CLOCK},
    {"InvalidSignatureException", S3_CLOCK},
    {"SignatureDoesNotMatch", S3_CLOCK},
    {"AuthFailure", S3_CLOCK},
    /* The bucket is in another region than the one that was signed for. */
    {"AuthorizationHeaderMalformed", S3_REGION},
    {"AuthorizationQueryParametersError", S3_REGION},
    {"PermanentRedirect", S3_REGION},
    {"TemporaryRedirect", S3_REGION},
    {"IllegalLocationConstraintException", S3_REGION},
};

/* Then by status: what a reply without a known code means. */
static const struct {
    unsigned status;
    enum s3_verdict verdict;
    enum s3up_exit code; /* if it stays so */
} s3_by_status[] = {
    {301, S3_REGION, S3UP_USAGE},  {302, S3_FINAL, S3UP_USAGE},
    {307, S3_REGION, S3UP_USAGE},  {308, S3_FINAL, S3UP_USAGE},
    {400, S3_FINAL, S3UP_SOME},    {401, S3_FINAL, S3UP_DENIED},
    {403, S3_FINAL, S3UP_DENIED},  {404, S3_FINAL, S3UP_MISSING},
    {405, S3_FINAL, S3UP_DENIED},  {407, S3_FINAL, S3UP_DENIED},
    {408, S3_AGAIN, S3UP_LATER},   {409, S3_FINAL, S3UP_SOME},
    {410, S3_FINAL, S3UP_MISSING}, {412, S3_FINAL, S3UP_EXISTS},
    {429, S3_SLOWER, S3UP_LATER},  {499, S3_AGAIN, S3UP_LATER},
    {500, S3_AGAIN, S3UP_LATER},   {501, S3_FINAL, S3UP_SOME},
    {502, S3_AGAIN, S3UP_LATER},   {503, S3_SLOWER, S3UP_LATER},
    {504, S3_AGAIN, S3UP_LATER},   {505, S3_FINAL, S3UP_SOME},
    {509, S3_SLOWER, S3UP_LATER},  {520, S3_AGAIN, S3UP_LATER},
};

/* Codes whose exit code or advice is not that of their status. */
static const struct {
    const char *code;
    enum s3up_exit exit;
    const char *advice;
} s3_advice[] = {
    {"InvalidAccessKeyId", S3UP_DENIED, "the store does not know this access key"},
    {"SignatureDoesNotMatch", S3UP_DENIED, "is the secret key right, and complete?"},
    {"ExpiredToken", S3UP_DENIED, "the keys have expired: get new ones and run again"},
    {"InvalidToken", S3UP_DENIED, "the session token does not belong to the keys"},
    {"RequestTimeTooSkewed", S3UP_LATER,
     "the clock of this machine, or the store's, is wrong"},
    {"NoSuchKey", S3UP_MISSING, "s3up ls shows what is there"},
    {"NoSuchBucket", S3UP_MISSING, "is the bucket's name right, and the endpoint?"},
    {"BucketNotEmpty", S3UP_SOME, "s3up rm deletes what is in it"},
    {"NoSuchUpload", S3UP_MISSING, NULL},
    {"ConditionalRequestConflict", S3UP_EXISTS,
     "somebody else wrote it at the same time"},
    {"PreconditionFailed", S3UP_EXISTS, NULL},
    {"BadDigest", S3UP_DAMAGED, "the bytes that arrived are not those that were sent"},
    {"XAmzContentSHA256Mismatch", S3UP_DAMAGED, "other bytes arrived than were sent"},
    {"XAmzContentChecksumMismatch", S3UP_DAMAGED, "what arrived is not what was sent"},
    {"EntityTooLarge", S3UP_SOME,
     "the store does not take objects or parts of this size"},
    {"PermanentRedirect", S3UP_USAGE,
     "the bucket is elsewhere: give --region or --endpoint-url"},
    {"AuthorizationHeaderMalformed", S3UP_USAGE, "is --region right?"},
};

static bool
s3_code_is(struct span code, const char *pattern)
{
    size_t n = strlen(pattern);

    if (n && pattern[n - 1] == '*')
        return span_eq(span_first(code, n - 1), span_at(pattern, n - 1));
    return span_is(code, pattern);
}

/* What a refusal means, by its code if that is known, else by its status. The answer to a
 * HEAD has no body: a region there, or the date, is all that it says. So a 400 without a
 * code may be about the region, and a 403 without one about the clock; each is looked
 * into once. A status that nobody has heard of is the store's fault from 500 on, and ours
 * below that. */
static enum s3_verdict
s3_judge(const struct s3_error *e)
{
    for (size_t i = 0; i < sizeof s3_by_code / sizeof *s3_by_code; i++)
        if (s3_code_is(span_of(e->code), s3_by_code[i].code))
            return s3_by_code[i].verdict;
    for (size_t i = 0; i < sizeof s3_by_status / sizeof *s3_by_status; i++)
        if (s3_by_status[i].status == e->status)
            return e->status == 400 && (e->region[0] || !e->code[0]) ? S3_REGION
                   : e->status == 403 && !e->code[0]                 ? S3_CLOCK
                                                     : s3_by_status[i].verdict;
    return e->status >= 500 ? S3_AGAIN : S3_FINAL;
}

/* What was asked for, of whom, as messages begin: PutObject s3://bucket/key */
static void
s3_put_target(const struct s3_call *call, struct buf *out)
{
    buf_str(out, call->what);
    if (call->bucket.n) {
        buf_str(out, " s3://");
        buf_put(out, call->bucket);
    }
    if (call->key.n) {
        buf_char(out, '/');
        buf_put(out, call->key);
    }
}

/* Does the call set a condition? Only then can one have failed: Swift says 412 to
 * strangers, too. */
static bool
s3_is_conditional(const struct s3_call *call)
{
    for (unsigned i = 0; i < call->heads; i++)
        if (span_starts(span_of(call->head[i].name), "if-") ||
            span_starts(span_of(call->head[i].name), "x-amz-copy-source-if-"))
            return true;
    return false;
}

/* One good line: what was asked, what the store said, and what may help. Always -1. The
 * exit code is that of the status, unless another attempt could help or the code of the
 * error says more. */
static int
s3_refused(const struct store *st, const struct s3_call *call, struct fail *f)
{
    const struct s3_error *e = &st->error;
    enum s3_verdict verdict = s3_judge(e);
    enum s3up_exit code = e->status >= 500 ? S3UP_LATER : S3UP_SOME;
    struct buf line = buf_upto(4 * KEY_MAX);
    const char *advice = NULL;

    for (size_t i = 0; i < sizeof s3_by_status / sizeof *s3_by_status; i++)
        if (s3_by_status[i].status == e->status)
            code = s3_by_status[i].code;
    if (verdict == S3_AGAIN || verdict == S3_SLOWER)
        code = S3UP_LATER; /* what is worth another attempt is worth another run */
    for (size_t i = 0; i < sizeof s3_advice / sizeof *s3_advice; i++)
        if (span_is(span_of(e->code), s3_advice[i].code)) {
            code = s3_advice[i].exit;
            advice = s3_advice[i].advice;
        }
    if (e->status == 412 && !s3_is_conditional(call))
        code = S3UP_SOME;
    /* The answer to a HEAD has no body that could say more. */
    if (!e->code[0] && e->status == 404)
        advice = call->key.n ? "there is no such object, or no such bucket"
                             : "there is no such bucket";
    else if (!advice && e->status == 403)
        advice = "are the keys right, and may they do this?";
    s3_put_target(call, &line);
    buf_str(&line, ": the store answered ");
    /* What it has said; error.status is what we make of it. */
    buf_num(&line, st->conn.head.status);
    if (e->code[0])
        buf_char(&line, ' ');
    buf_str(&line, e->code);
    if (e->message[0] && strcmp(e->message, e->code) != 0) {
        buf_str(&line, ": ");
        buf_str(&line, e->message);
    }
    if (advice) {
        buf_str(&line, " (");
        buf_str(&line, advice);
        buf_char(&line, ')');
    }
    if (e->request[0]) {
        buf_str(&line, " [request ");
        buf_str(&line, e->request);
        buf_char(&line, ']');
    }
    (void)fail_set(f, code, "%s", buf_text(&line));
    buf_free(&line);
    return -1;
}

/* ---- where a bucket is, and how it is addressed ----
 *
 * Amazon has a host for each region, and wants the bucket's name in front of it; the
 * signature is good for one region only. Nobody need know where a bucket is: a store that
 * is asked in the wrong region says so, and what was learned is kept for S3_REGIONS
 * buckets. All other stores have one host, and the bucket goes into the path unless it is
 * asked for otherwise: so they need no certificate and no DNS entry for each bucket.
 */

/* A name that can stand before the host: 3 to 63 of a-z 0-9 - and, if allowed, dots. */
static bool
s3_is_label(struct span s, bool dots)
{
    if (s.n < 3 || s.n > 63 || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '_' || s.p[i] == '~' || (s.p[i] >= 'A' && s.p[i] <= 'Z') ||
            !url_unreserved(s.p[i]) || (s.p[i] == '.' && !dots))
            return false;
    return true;
}

/* Does something stand before this tail? ASCII case does not matter in a host's name. */
static bool
s3_ends(struct span s, const char *tail)
{
    size_t n = strlen(tail);

    return s.n > n && span_is_nocase(span_after(s, s.n - n), tail);
}

/* Only there does a bucket go in front of the host unasked, and another region into its
 * name; the dot keeps notamazonaws.com out. */
static bool
s3_is_aws(struct span host)
{
    return s3_ends(host, ".amazonaws.com") || s3_ends(host, ".amazonaws.com.cn") ||
           s3_ends(host, ".amazonaws.eu");
}

/* The region to sign for: where the bucket was found to be, else the configured one. */
static const char *
s3_region_of(const struct store *st, struct span bucket)
{
    for (unsigned i = 0; i < st->known && i < S3_REGIONS; i++)
        if (bucket.n && span_is(bucket, st->regions[i].bucket))
            return st->regions[i].region;
    return st->config.region;
}

/* As much of s as fits, and a NUL. */
static void
s3_copy_name(char *out, size_t room, struct span s)
{
    s = span_first(s, room - 1);
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = 0;
}

/* Remembers where a bucket is. The name came from the network: only a label will do,
 * because on AWS it becomes part of a host's name. False when that is nothing new;
 * whoever asked must not try again then. */
static bool
s3_learn_region(struct store *st, struct span bucket, struct span region)
{
    unsigned i = st->known % S3_REGIONS;

    if (!s3_is_label(region, false) || bucket.n >= S3_NAME || !bucket.n ||
        span_is(region, s3_region_of(st, bucket)))
        return false; /* nothing new: trying again would go round in circles */
    /* A bucket has one place in the table, which is a ring; else the oldest one goes. */
    for (unsigned k = 0; k < st->known && k < S3_REGIONS; k++)
        if (span_is(bucket, st->regions[k].bucket))
            i = k;
    if (!span_is(bucket, st->regions[i].bucket))
        st->known++;
    s3_copy_name(st->regions[i].bucket, S3_NAME, bucket);
    s3_copy_name(st->regions[i].region, S3_NAME, region);
    return true;
}

/* The endpoint's host, with another region in it where it is one of Amazon's. */
static void
s3_put_host(const struct store *st, const char *region, struct buf *out)
{
    struct span host = st->url.host, label;

    if (!st->aws) {
        buf_put(out, host);
        return;
    }
    while (span_cut(&host, '.', &label)) {
        if (span_is_nocase(label, st->config.region))
            buf_str(out, region);
        else
            buf_put(out, label);
        if (host.p)
            buf_char(out, '.');
    }
}

/* Which host to speak to, and the path, encoded, to ask it for. */
static void
s3_address(const struct store *st, const struct s3_call *call, struct buf *host,
           struct buf *path)
{
    const struct s3_config *c = &st->config;
    struct span base = st->url.path;
    bool label = s3_is_label(call->bucket, !st->url.https || c->addressing == S3_VIRTUAL);
    bool ahead = label && !st->numeric && c->addressing != S3_PATH &&
                 (c->addressing == S3_VIRTUAL || st->aws);

    /* label and ahead: the star of a certificate covers one level, and a dot in a
     * bucket's name makes a second. So behind TLS such a bucket goes into the path,
     * unless virtual hosts were asked for. A name that is no label goes there in any
     * case. */
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    if (ahead) {
        buf_put(host, call->bucket);
        buf_char(host, '.');
    }
    s3_put_host(st, s3_region_of(st, call->bucket), host);
    buf_put(path, base);
    buf_char(path, '/');
    if (call->bucket.n && !ahead) {
        url_put(path, call->bucket, "");
        if (call->key.n)
            buf_char(path, '/');
    }
    /* Slashes stay as they are: also one that a key begins with, and two in a row. */
    url_put(path, call->key, "/");
}

/* ---- one attempt ----
 *
 * One request and its reply, on a connection that is there or a new one. All that goes
 * wrong becomes a verdict; a struct fail has the words for it.
 */

/* Makes origin what this call must speak to. A new host means a new connection; one that
 * cannot be reached in the way that was asked for is no host at all. Trusted roots are
 * loaded here, when the first https host is met. Nothing is kept of a failure: the next
 * call tries everything once more. */
static int
s3_aim(struct store *st, struct span host, struct fail *f)
{
    struct origin *o = &st->origin;
    const char *why = NULL;
    int rc = 0;

    if (o->host[0] && span_is_nocase(host, o->host))
        return 0;
    http_close(&st->conn);
    o->session.known = false;
    o->proxy[0] = 0;
    buf_clear(&o->proxy_auth);
    if (!http_copy_name(o->host, host))
        rc = fail_set(f, S3UP_USAGE, "the host name of the bucket is too long");
    else if (st->config.proxy && *st->config.proxy &&
             !(st->config.no_proxy &&
               http_bypasses(span_of(st->config.no_proxy), o->host)))
        why = http_set_proxy(o, span_of(st->config.proxy));
    if (why)
        rc = fail_set(f, S3UP_USAGE, "the proxy cannot be used: %s", why);
    if (rc == 0 && o->https && !st->has_roots) {
        rc = tls_load_roots(&st->roots, st->config.ca_file, f);
        st->has_roots = rc == 0;
    }
    if (rc < 0)
        o->host[0] = 0;
    return rc;
}

/* Makes st->request what the call says, signed unless there are no keys. It is done for
 * each attempt: the clock, the region and the keys may have changed since the last
 * one. */
static int
s3_build(struct store *st, const struct s3_call *call, struct fail *f)
{
    struct buf host = buf_upto(URL_MAX), path = buf_upto(REQ_TEXT),
               named = buf_upto(URL_MAX);
    struct request *r = &st->request;
    const struct s3_config *c = &st->config;
    unsigned char digest[SHA256_SIZE];
    char hex[SIG_HEX];
    int rc;

    s3_address(st, call, &host, &path);
    rc = s3_aim(st, buf_span(&host), f);
    /* Goes on after a failure: what is built is not sent then, and rc tells. */
    http_put_host(&st->origin, false, &named);
    http_begin(r, call->method, buf_span(&named), buf_span(&path));
    for (unsigned i = 0; i < call->queries; i++)
        http_query(r, call->query[i].name, call->query[i].value);
    for (unsigned i = 0; i < call->heads; i++)
        http_header(r, call->head[i].name, call->head[i].value);
    if (rc == 0 && c->id.n) {
        const char *region = s3_region_of(st, call->bucket);
        struct signer who = {c->id,      c->secret, c->token, span_of(region),
                             SPAN("s3"), 0,         true};

        who.now = os_now().s + st->clock_off;
        sha256_of(call->body.memory, digest);
        sig_hex(digest, hex);
        (void)sig_headers(r, &who, call->payload ? call->payload : hex);
    }
    if (rc == 0 && (r->bad || host.bad || path.bad || named.bad))
        rc = fail_set(f, S3UP_USAGE, "a header of the request is malformed or too long");
    buf_free(&host);
    buf_free(&path);
    buf_free(&named);
    return rc;
}

/* How much may be moved now: a piece that fits the window, and not more than an eighth of
 * what a second allows, so that a low rate is a trickle and not bursts. Waits until it is
 * due. What was moved since the last time is turned into a time here, by the rate that
 * holds now: it may change while a body is under way. */
static size_t
s3_piece(struct store *st, int64_t left)
{
    size_t most = sizeof st->window;
    uint32_t rate = st->meter->rate;
    int64_t now;

    if (rate) {
        most = rate / 8 < S3_TRICKLE ? S3_TRICKLE : rate / 8 < most ? rate / 8 : most;
        now = os_ticks();
        st->due += (int64_t)(st->owed * 1000 / rate);
        /* What is less than a millisecond's worth is owed on. */
        st->owed -= st->owed * 1000 / rate * rate / 1000;
        if (st->due - now >= S3_NAP)
            os_sleep((int)(st->due - now));
        else if (st->due < now)
            st->due = now; /* what was not used is not saved up */
    }
    return left < (int64_t)most ? (size_t)left : most;
}

/* To be told that n bytes have moved, the last of them at place `body`. What counts is
 * what has moved, since a read may give less than was asked for. With a rate of 0 nothing
 * is owed. */
static void
s3_moved(struct store *st, size_t n, int64_t body)
{
    st->owed = st->meter->rate ? st->owed + n : 0;
    st->meter->moved += (uint32_t)n;
    st->meter->queue = (uint32_t)net_unsent(st->conn.wire.fd);
    st->meter->body = (uint32_t)(body >> 10);
    os_beat();
}

/* Sends the body in pieces. 0: all, 1: the store wants no more, -1: failed, which may be
 * because the reader refused to go on. */
static int
s3_send_body(struct store *st, const struct s3_body *b, struct fail *f)
{
    int64_t length = b->memory.n ? (int64_t)b->memory.n : b->length, done = 0;
    int rc = 0;

    while (rc == 0 && done < length) {
        size_t n = s3_piece(st, length - done);
        const char *p = st->window;

        if (b->memory.n)
            p = b->memory.p + done;
        else if (b->read(b->from, st->window, n, done, f) < 0)
            return -1;
        rc = http_send(&st->conn, p, n, f);
        done += (int64_t)n;
        if (rc == 0)
            s3_moved(st, n, done);
    }
    return rc;
}

/* Reads the whole body of the reply into st->reply, up to the ceiling that it has at that
 * moment. */
static int
s3_collect(struct store *st, struct fail *f)
{
    char piece[4096];
    ssize_t did = 0;

    buf_clear(&st->reply);
    while (!st->reply.bad && (did = http_read(&st->conn, piece, sizeof piece, f)) > 0)
        buf_add(&st->reply, piece, (size_t)did);
    if (st->reply.bad)
        return fail_set(f, S3UP_LATER,
                        "the store's reply is longer than %zu bytes, or memory ran out",
                        st->reply.max);
    return did < 0 ? -1 : 0;
}

/* A leaf's text, decoded and cut to the room that there is for it. */
static void
s3_leaf(const struct xml *x, char *out, size_t room)
{
    struct buf text = buf_upto(S3_REPLY);

    if (xml_text(x->text, &text))
        s3_copy_name(out, room, buf_span(&text));
    buf_free(&text);
}

/* Reads an error out of the collected reply: XML, possibly wrapped, HTML, or nothing. It
 * goes on until the first thing that is no XML, and keeps what it had found by then: an
 * error that was cut off still has its code. */
static void
s3_read_error(struct store *st)
{
    struct s3_error *e = &st->error;
    const struct head *h = &st->conn.head;
    const struct {
        char *text;
        size_t room;
    } all[] = {{e->code, sizeof e->code},
               {e->message, sizeof e->message},
               {e->request, sizeof e->request},
               {e->region, sizeof e->region}};
    struct span token = span_first(st->config.token, 16);
    enum xml_event event;
    struct xml x;

    *e = (struct s3_error){.status = h->status};
    s3_copy_name(e->request, sizeof e->request, http_value(h, "x-amz-request-id"));
    s3_copy_name(e->region, sizeof e->region, http_value(h, "x-amz-bucket-region"));
    xml_init(&x, buf_span(&st->reply));
    while ((event = xml_next(&x)) == XML_ENTER || event == XML_LEAVE) {
        bool wrapped = x.depth == 3;
        struct span leaf = span_of(wrapped ? "ErrorResponse/Error/" : "Error/");
        char path[64];

        if (event != XML_LEAVE || !x.text.n || (x.depth != 2 && !wrapped))
            continue;
        for (unsigned i = 0; i < 4; i++) {
            static const char *const names[] = {"Code", "Message", "RequestId", "Region"};

            /* Each of the four is as Error/Code, or as ErrorResponse/Error/Code. */
            s3_copy_name(path, sizeof path, leaf);
            s3_copy_name(path + leaf.n, sizeof path - leaf.n, span_of(names[i]));
            if (xml_at(&x, path))
                s3_leaf(&x, all[i].text, all[i].room);
        }
    }
    /* A store that repeats the token that it was sent must not get it into our
     * messages. */
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (token.n && memmem(all[i].text, strlen(all[i].text), token.p, token.n))
            s3_copy_name(all[i].text, all[i].room,
                         SPAN("(hidden: it repeats the token)"));
}

/* Is the collected reply the element that the call must get, whole and closed? A 200 may
 * still carry an error, or break off: that was decided after its head had been sent. */
static bool
s3_reply_is(struct store *st, const char *root)
{
    enum xml_event event;
    bool right = false;
    struct xml x;

    xml_init(&x, buf_span(&st->reply));
    while ((event = xml_next(&x)) == XML_ENTER || event == XML_LEAVE)
        right |= event == XML_ENTER && x.depth == 1 && xml_at(&x, root);
    return right && event == XML_END;
}

/* The verdict on a reply whose head has come. A reply that was cut is worth another
 * attempt, and no more than that: whether the store did what was asked is not known. */
static enum s3_verdict
s3_read_reply(struct store *st, const struct s3_call *call, struct fail *f)
{
    unsigned status = st->conn.head.status;
    bool good = status >= 200 && status < 300;

    buf_clear(&st->reply);
    st->reply.max = good ? S3_REPLY : S3_ERROR; /* no error is told in more */
    if (good && call->stream)
        return S3_DONE;
    if (s3_collect(st, f) < 0) {
        if (good || f->code != S3UP_LATER)
            return f->code == S3UP_LATER ? S3_AGAIN : S3_FINAL;
        *f = (struct fail){S3UP_OK,
                           ""}; /* the page of an error was cut: the status is there */
    }
    /* Where no element is expected, anything will do that is not an error. */
    if (good && (call->root ? s3_reply_is(st, call->root) : !s3_reply_is(st, "Error")))
        return S3_DONE;
    s3_read_error(st);
    if (good)
        st->error.status = 500; /* which is what such an answer means */
    if (good && !st->error.code[0])
        s3_copy_name(st->error.message, sizeof st->error.message,
                     SPAN("a reply that is empty, cut or not what was asked for"));
    (void)s3_refused(st, call, f);
    return s3_judge(&st->error);
}

/* Sends the request over a connection that is there, or a new one. A kept connection that
 * turns out to be dead before the store has said a word costs nothing: one more is
 * made. */
static enum s3_verdict
s3_attempt(struct store *st, const struct s3_call *call, struct fail *f)
{
    int64_t length =
        call->body.memory.n ? (int64_t)call->body.memory.n : call->body.length;
    bool is_head = !strcmp(call->method, "HEAD");
    int rc;

    st->error =
        (struct s3_error){.status = 0}; /* what is there later is about this call */
    http_finish(&st->conn);
    if (s3_build(st, call, f) < 0)
        return S3_FINAL;
    for (;;) {
        if (!http_alive(&st->conn) && http_connect(&st->conn, &st->origin, f) < 0)
            return f->code == S3UP_LATER ? S3_AGAIN : S3_FINAL;
        rc = http_start(&st->conn, &st->origin, &st->request,
                        call->has_body ? length : -1, f);
        if (rc == 0 && length)
            rc = s3_send_body(st, &call->body, f);
        if (rc >= 0)
            rc = http_reply(&st->conn, is_head,
                            call->slow ? S3_PATIENCE : st->origin.limit, f);
        /* Whatever it says, it is something that answers. */
        st->met |= rc == 0;
        if (rc == 0 && !call->slow) /* a body must come at some rate, blanks need not */
            http_watch(&st->conn, st->origin.limit, HTTP_LEAST);
        if (rc == 0)
            return s3_read_reply(st, call, f);
        /* The server had closed it while our request was under way. After the first byte
         * of a reply, or on a new connection, it is a failure like any other. */
        rc = st->conn.reused && !st->conn.heard && f->code == S3UP_LATER;
        http_close(&st->conn);
        if (!rc)
            return f->code == S3UP_LATER ? S3_AGAIN : S3_FINAL;
        *f = (struct fail){S3UP_OK, ""};
    }
}

/* ---- again and again ----
 *
 * Who decides whether a call is made once more is s3_again. Three limits hold at once:
 * the attempts of one call (config.retries); the purse, from which all calls pay, so that
 * a store that fails for everybody is not asked at the full rate, times the retries; and
 * S3_STRANGER attempts at a store that has never answered, since a mistyped name does not
 * get better. A wrong clock, another region, a damaged body and keys that were refused
 * have one more chance each.
 */

/* Between nothing and all of a time that doubles: so a thousand clients that failed at
 * once do not come back at once. A store may ask for longer with Retry-After, though not
 * for more than S3_PAUSE_MOST: such a wish is passed over. */
static void
s3_pause(const struct store *st, unsigned attempt, bool slower)
{
    uint64_t most = (uint64_t)(slower ? S3_PAUSE_SLOW : S3_PAUSE)
                    << (attempt < 10 ? attempt : 10);
    struct span asked = http_value(&st->conn.head, "retry-after");
    uint64_t wait = 0, seconds;
    uint32_t dice = UINT32_MAX;

    most = most < S3_PAUSE_MOST ? most : S3_PAUSE_MOST;
    (void)os_random(&dice, sizeof dice); /* without chance the longest pause is taken */
    wait = most * dice >> 32;
    /* Without an answer there is no head that could say so. */
    if (st->conn.answered && num_parse(asked, UINT32_MAX, &seconds) &&
        wait < seconds * 1000)
        wait = seconds * 1000 < S3_PAUSE_MOST ? seconds * 1000 : S3_PAUSE_MOST;
    os_sleep((int)wait);
}

/* Sets our idea of the store's clock by its Date. False if that explains nothing: no date
 * was said, or it is ours. Only signatures use it; a store that lies about the time harms
 * itself. */
static bool
s3_set_clock(struct store *st)
{
    int64_t date, now = os_now().s + st->clock_off;

    if (!date_http(http_value(&st->conn.head, "date"), &date) ||
        (date - now < S3_SKEW && now - date < S3_SKEW))
        return false;
    st->clock_off += date - now;
    log_say(LOG_WARN,
            "the clock of this machine and the store's differ by %lld seconds; the "
            "store's is used for signing",
            (long long)(date - now));
    return true;
}

/* A call with nothing in it yet but its name, method and target. */
static struct s3_call
s3_to(const char *what, const char *method, struct span bucket, struct span key)
{
    return (struct s3_call){.what = what, .method = method, .bucket = bucket, .key = key};
}

/* A parameter of the query. No call has nearly as many as there is room for. */
static void
s3_query(struct s3_call *call, const char *name, struct span value)
{
    if (call->queries < S3_PAIRS)
        call->query[call->queries++] = (struct s3_pair){name, value};
}

/* Of a field that is set twice the last counts, and is the only one. */
static void
s3_header(struct s3_call *call, const char *name, struct span value)
{
    for (unsigned i = 0; i < call->heads; i++)
        if (!strcmp(call->head[i].name, name)) {
            call->head[i].value = value;
            return;
        }
    if (call->heads < S3_PAIRS)
        call->head[call->heads++] = (struct s3_pair){name, value};
}

/* Finds out where a bucket is: from the refusal itself, else by asking for the bucket's
 * head, which says it even to strangers; else by a question that is refused in words, as
 * a HEAD cannot be. True when it learned something, so that another attempt goes
 * elsewhere. */
static bool
s3_find_region(struct store *st, struct span bucket)
{
    struct s3_call head = s3_to("HeadBucket", "HEAD", bucket, SPAN(""));
    struct s3_call where = s3_to("GetBucketLocation", "GET", bucket, SPAN(""));
    struct s3_error error = st->error;
    struct fail unread = {S3UP_OK, ""}, unread2 = {S3UP_OK, ""};
    bool learned;

    if (!bucket.n)
        return false;
    if (error.region[0])
        return s3_learn_region(st, bucket, span_of(error.region));
    (void)s3_attempt(st, &head, &unread);
    s3_query(&where, "location", SPAN(""));
    learned = (st->conn.answered &&
               s3_learn_region(st, bucket,
                               http_value(&st->conn.head, "x-amz-bucket-region"))) ||
              (s3_attempt(st, &where, &unread2) != S3_DONE && st->conn.answered &&
               s3_learn_region(st, bucket, span_of(st->error.region)));
    /* What the user is told is the refusal that began it, not what came of the
     * questions. */
    st->error = error;
    return learned;
}

/* Was it the keys? Then newer ones may do. What a store says to a key that was withdrawn
 * is the same as to one that was mistyped: asking costs little. */
static bool
s3_wants_keys(const struct s3_error *e)
{
    static const char *const codes[] = {"ExpiredToken", "InvalidToken",
                                        "TokenRefreshRequired", "InvalidAccessKeyId",
                                        "SignatureDoesNotMatch"};

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (span_is(span_of(e->code), codes[i]))
            return true;
    return false;
}

/* Asks for newer keys: because a store refused these, or because they expire soon. A
 * source that has none is not asked again at once, but after a while, or when a store
 * refuses. True: st->config has others than before. */
static bool
s3_renew(struct store *st, bool refused)
{
    struct s3_config *c = &st->config;
    int64_t now = os_now().s;

    if (!c->renew ||
        (!refused && (!c->until || now + S3_EARLY < c->until || now < st->asked)))
        return false;
    st->asked = now + S3_EARLY / 5;
    if (!c->renew(c->owner, c))
        return false;
    st->age++;
    return true;
}

/* How often each kind of second chance was taken in one call. */
struct s3_chances {
    unsigned attempt;
    bool clock, region, damaged, keys;
};

/* Whether the call deserves another attempt; pauses before it where that is due. A stop
 * ends it, also during the pause. */
static bool
s3_again(struct store *st, const struct s3_call *call, enum s3_verdict v,
         struct s3_chances *had)
{
    bool *once = v == S3_CLOCK    ? &had->clock
                 : v == S3_REGION ? &had->region
                 : v == S3_ONCE   ? &had->damaged
                                  : NULL;

    /* What a store says that has too much to do; or that waited in vain for our bytes. */
    if (v == S3_SLOWER || s3_code_is(span_of(st->error.code), "RequestTimeout*") ||
        (v == S3_AGAIN && !st->error.status))
        st->meter->slow++;
    if (v == S3_FINAL || os_stop || (once && *once))
        return false;
    if (once)
        *once = true;
    /* These two cost no attempt and no pause: when something was learned, the next
     * request is another one. */
    if (v == S3_CLOCK)
        return s3_set_clock(st);
    if (v == S3_REGION)
        return s3_find_region(st, call->bucket);
    if (had->attempt >= st->config.retries || st->purse < S3_COST ||
        (had->attempt >= S3_STRANGER && !st->met && !st->config.patient))
        return false;
    st->purse -= S3_COST;
    s3_pause(st, had->attempt++, v == S3_SLOWER);
    return !os_stop;
}

/* Makes a call, as often as it takes. 0: done, and the head of the reply is in conn.head
 * until the next call. A reply's body is in st->reply, or is read from conn if asked. -1:
 * the reason is that of the last attempt, and st->error tells what the store has refused,
 * if it was a refusal. */
static int
s3_run(struct store *st, const struct s3_call *call, struct fail *f)
{
    struct s3_chances had = {0, false, false, false, false};

    (void)s3_renew(st, false);
    for (;;) {
        struct fail now = {S3UP_OK, ""};
        enum s3_verdict v = s3_attempt(st, call, &now);

        st->tries = had.attempt;
        if (v == S3_DONE) {
            st->purse = st->purse < S3_PURSE ? st->purse + 1 : S3_PURSE;
            return 0;
        }
        if (s3_again(st, call, v, &had))
            continue;
        if (os_stop)
            return fail_set(f, S3UP_INTERRUPTED, "interrupted");
        /* Once for each call: a source that always has other keys would never let it
         * end. */
        if (!had.keys && s3_wants_keys(&st->error) && s3_renew(st, true)) {
            had.keys = true;
            continue;
        }
        return fail_set(f, now.code, "%s%s", now.text,
                        had.attempt ? " (tried again in vain)" : "");
    }
}

/* ---- open and close ---- */

/* What the config leaves open and the environment says. HTTP_PROXY in capitals is not
 * looked at: in a CGI program it is what a stranger sent as the header Proxy. */
static void
s3_environment(struct s3_config *c, bool https)
{
    if (!c->ca_file)
        c->ca_file = os_env("AWS_CA_BUNDLE");
    if (!c->ca_file)
        c->ca_file = os_env("SSL_CERT_FILE");
    if (!c->proxy)
        c->proxy = os_env(https ? "https_proxy" : "http_proxy");
    if (!c->proxy && https)
        c->proxy = os_env("HTTPS_PROXY");
    if (!c->no_proxy)
        c->no_proxy = os_env("no_proxy");
    if (!c->no_proxy)
        c->no_proxy = os_env("NO_PROXY");
}

/* Sets up a store; nothing is sent, and no file is read, before the first call. s3_close
 * is right also after -1. */
static int
s3_open(struct store *st, const struct s3_config *config, struct fail *f)
{
    struct net_addresses unused = {.n = 0};
    struct span shown, rest;
    const char *why;
    char host[256];

    *st = (struct store){.config = *config, .purse = S3_PURSE};
    st->meter = &st->still;
    st->endpoint = buf_upto(URL_MAX);
    st->reply = buf_upto(S3_REPLY);
    st->origin.proxy_auth = buf_upto(URL_MAX);
    st->origin.roots = &st->roots;
    st->origin.limit = config->limit;
    http_init(&st->conn);
    if (!config->region)
        st->config.region = "us-east-1";
    /* On AWS the region becomes part of a host's name; elsewhere it is only signed, and
     * may have whatever name the store gives it. */
    if (config->endpoint ? !ini_is_name(span_of(st->config.region))
                         : !s3_is_label(span_of(st->config.region), false))
        return fail_set(f, S3UP_USAGE, "\"%s\" is no name of a region",
                        st->config.region);
    if (config->endpoint) {
        buf_str(&st->endpoint, config->endpoint);
    } else {
        struct span region = span_of(st->config.region);

        buf_str(&st->endpoint, "https://s3.");
        buf_put(&st->endpoint, region);
        buf_str(&st->endpoint, span_starts(region, "eusc-") ? ".amazonaws.eu"
                               : span_starts(region, "cn-") ? ".amazonaws.com.cn"
                                                            : ".amazonaws.com");
    }
    why = st->endpoint.bad ? "it is too long"
                           : url_parse(buf_span(&st->endpoint), &st->url);
    if (!why && st->url.query.n)
        why = "it must not have a query";
    shown = rest = buf_span(&st->endpoint);
    (void)span_cut(&rest, '?', &shown); /* a query may be signed */
    if (why) /* with an @ in it, it may hold a password: neither is repeated */
        return fail_set(f, S3UP_USAGE, "the endpoint \"%.*s\" is not usable: %s",
                        span_has(shown, '@') ? 3 : (int)shown.n,
                        span_has(shown, '@') ? "..."
                        : shown.n            ? shown.p
                                             : "",
                        why);
    s3_environment(&st->config, st->url.https);
    st->aws = s3_is_aws(st->url.host);
    st->numeric = http_copy_name(host, st->url.host) && net_literal(host, 0, &unused);
    st->origin.https = st->url.https;
    st->origin.port = st->url.port;
    return 0;
}

/* Ends the connection and frees what the store owns. The texts of the config, and the
 * keys, stay with whoever gave them. */
static void
s3_close(struct store *st)
{
    http_finish(&st->conn);
    http_close(&st->conn);
    buf_free(&st->endpoint);
    buf_free(&st->reply);
    buf_free(&st->origin.proxy_auth);
    tls_free_roots(&st->roots);
    explicit_bzero(&st->request, sizeof st->request);
    explicit_bzero(&st->origin.session, sizeof st->origin.session);
}

/* ---- the calls ----
 *
 * 0: the store did it, or has said what was asked for; -1: the reason is in f, and
 * st->error.status is 0 if no refusal came. What the reply says is found with s3_value,
 * for a field, and s3_reply_text, for an element.
 */

/* The value of a field of the last reply. */
static struct span
s3_value(const struct store *st, const char *name)
{
    return http_value(&st->conn.head, name);
}

/* ETags come with quotes, as an entity, or bare; they are compared bare. */
static struct span
s3_bare(struct span etag)
{
    if (etag.n >= 2 && etag.p[0] == '"' && etag.p[etag.n - 1] == '"')
        return span_at(etag.p + 1, etag.n - 2);
    return etag;
}

/* The text of one leaf of the collected reply; false if it is not there. */
static bool
s3_reply_text(const struct store *st, const char *path, struct buf *out)
{
    enum xml_event event;
    struct xml x;

    buf_clear(out);
    xml_init(&x, buf_span(&st->reply));
    while ((event = xml_next(&x)) == XML_ENTER || event == XML_LEAVE)
        if (event == XML_LEAVE && xml_at(&x, path))
            return xml_text(x.text, out) && out->n;
    return false;
}

/* Stores an object in one request. Calls like this one get their bucket, key, further
 * headers and body from the caller, in a call made by s3_to; these functions add the
 * rest. */
static int
s3_put_object(struct store *st, struct s3_call *call, struct fail *f)
{
    call->has_body = true;
    return s3_run(st, call, f);
}

/* Asks for an object. The body is left to be read with http_read from st->conn; where it
 * is not read to its end, the next call begins with another connection. */
static int
s3_get_object(struct store *st, struct s3_call *call, struct fail *f)
{
    call->stream = true;
    return s3_run(st, call, f);
}

/* Asks what an object is, without its bytes. The answer is in st->conn.head. */
static int
s3_head_object(struct store *st, struct span bucket, struct span key, struct fail *f)
{
    struct s3_call call = s3_to("HeadObject", "HEAD", bucket, key);

    return s3_run(st, &call, f);
}

/* The same, with the checksums that the store has of it. Some refuse the question itself,
 * or allow it only to who may decrypt the object: they are asked without. */
static int
s3_head_sums(struct store *st, struct span bucket, struct span key, struct fail *f)
{
    struct s3_call call = s3_to("HeadObject", "HEAD", bucket, key);
    struct fail now = {S3UP_OK, ""};
    bool refused;
    int rc;

    s3_header(&call, "x-amz-checksum-mode", SPAN("ENABLED"));
    if (st->plain_heads)
        return s3_head_object(st, bucket, key, f);
    rc = s3_run(st, &call, &now);
    if (rc < 0 && st->error.status == 400) { /* a HEAD tells no code: it may pass */
        now = (struct fail){S3UP_OK, ""};
        rc = s3_run(st, &call, &now);
    }
    if (rc == 0)
        return 0;
    refused = st->error.status == 400 || st->error.status == 501;
    if (!refused && st->error.status != 403)
        return fail_set(f, now.code, "%s", now.text);
    rc = s3_head_object(st, bucket, key, f);
    /* If the plain question is refused as well, it was not the other one's fault. */
    st->plain_heads = refused && rc == 0;
    return rc;
}

/* How long one part of a stored object is, and how many there are; -1 if the store does
 * not tell. Those that do not know the question answer with the whole. */
static int64_t
s3_part_length(struct store *st, struct span bucket, struct span key, unsigned number,
               uint64_t *parts)
{
    struct s3_call call = s3_to("HeadObject", "HEAD", bucket, key);
    struct buf text = buf_upto(16);
    struct fail unread = {S3UP_OK, ""};
    bool told;

    buf_num(&text, number);
    s3_query(&call, "partNumber", buf_span(&text));
    told = s3_run(st, &call, &unread) == 0 &&
           num_parse(s3_value(st, "x-amz-mp-parts-count"), PARTS_MAX, parts);
    buf_free(&text);
    return told ? st->conn.head.length : -1;
}

/* The length of the first part as a store tells it that lists the parts of an object; -1
 * if it does not. One that does not know the question may send the object: no more than
 * a short answer is read. */
static int64_t
s3_first_part(struct store *st, struct span bucket, struct span key)
{
    struct s3_call call = s3_to("GetObjectAttributes", "GET", bucket, key);
    struct buf text = buf_upto(64);
    struct fail unread = {S3UP_OK, ""};
    uint64_t size;
    bool told;

    s3_query(&call, "attributes", SPAN(""));
    s3_header(&call, "x-amz-object-attributes", SPAN("ObjectParts"));
    s3_header(&call, "x-amz-max-parts", SPAN("1"));
    told = s3_get_object(st, &call, &unread) == 0;
    st->reply.max = S3_ERROR;
    told =
        told && s3_collect(st, &unread) == 0 &&
        s3_reply_text(st, "GetObjectAttributesResponse/ObjectParts/Part/Size", &text) &&
        num_parse(buf_span(&text), INT64_MAX, &size);
    buf_free(&text);
    return told ? (int64_t)size : -1;
}

/* Deletes what has a key. Without one, the same request would delete the bucket. */
static int
s3_delete(struct store *st, const struct s3_call *call, struct fail *f)
{
    if (!call->key.n)
        return fail_set(f, S3UP_USAGE, "%s: s3://%.*s names no object", call->what,
                        (int)call->bucket.n, call->bucket.p);
    return s3_run(st, call, f);
}

static int
s3_delete_object(struct store *st, struct span bucket, struct span key, struct fail *f)
{
    struct s3_call call = s3_to("DeleteObject", "DELETE", bucket, key);

    return s3_delete(st, &call, f);
}

/* Server-side: the bytes never come here. source is BUCKET/KEY, percent-encoded. */
static int
s3_copy_object(struct store *st, struct s3_call *call, struct span source, struct fail *f)
{
    s3_header(call, "x-amz-copy-source", source);
    call->has_body = true;
    call->root = "CopyObjectResult";
    call->slow = true;
    return s3_run(st, call, f);
}

/* us-east-1 must not be named when a bucket is made there; every other region must.
 * Stores other than Amazon's have one region, and are not told. */
static int
s3_create_bucket(struct store *st, struct span bucket, struct fail *f)
{
    struct s3_call call = s3_to("CreateBucket", "PUT", bucket, SPAN(""));
    struct buf body = buf_upto(URL_MAX);
    int rc;

    if (st->aws && strcmp(st->config.region, "us-east-1") != 0) {
        buf_str(&body,
                "<CreateBucketConfiguration xmlns=\"" S3_XMLNS "\"><LocationConstraint>");
        buf_str(&body, st->config.region);
        buf_str(&body, "</LocationConstraint></CreateBucketConfiguration>");
    }
    call.has_body = true;
    call.body.memory = buf_span(&body);
    rc = s3_run(st, &call, f);
    buf_free(&body);
    return rc;
}

/* The store refuses if anything is in it. */
static int
s3_delete_bucket(struct store *st, struct span bucket, struct fail *f)
{
    struct s3_call call = s3_to("DeleteBucket", "DELETE", bucket, SPAN(""));

    return s3_run(st, &call, f);
}

static int
s3_head_bucket(struct store *st, struct span bucket, struct fail *f)
{
    struct s3_call call = s3_to("HeadBucket", "HEAD", bucket, SPAN(""));

    return s3_run(st, &call, f);
}

/* Content-MD5 of bytes in memory, as some calls demand it. */
static void
s3_put_md5(struct span body, struct buf *out)
{
    unsigned char digest[MD5_SIZE];
    struct sum sum;

    sum_init(&sum, SUM_MD5);
    sum_add(&sum, body.p, body.n);
    sum_end(&sum, digest);
    b64_put(out, digest, sizeof digest);
}

/* Deletes up to 1,000 keys that xml_can_carry. What could not be deleted stands in the
 * reply, and is read with s3_next_undeleted. */
static int
s3_delete_objects(struct store *st, struct span bucket, const struct span *keys,
                  unsigned n, struct fail *f)
{
    struct s3_call call = s3_to("DeleteObjects", "POST", bucket, SPAN(""));
    struct buf body = buf_upto(S3_REPLY), md5 = buf_upto(64);
    int rc;

    /* Quiet: only what was not deleted is told. */
    buf_str(&body, "<Delete xmlns=\"" S3_XMLNS "\"><Quiet>true</Quiet>");
    for (unsigned i = 0; i < n; i++) {
        buf_str(&body, "<Object><Key>");
        xml_put(&body, keys[i]);
        buf_str(&body, "</Key></Object>");
    }
    buf_str(&body, "</Delete>");
    s3_put_md5(buf_span(&body), &md5);
    s3_query(&call, "delete", SPAN(""));
    s3_header(&call, "content-type", SPAN("application/xml"));
    s3_header(&call, "content-md5", buf_span(&md5));
    call.has_body = true;
    call.body.memory = buf_span(&body);
    call.root = "DeleteResult";
    /* A buffer that went bad reads as empty, and no list is not what was meant. */
    rc = body.bad ? fail_set(f, S3UP_LATER, "no memory for a list of keys to delete")
                  : s3_run(st, &call, f);
    buf_free(&body);
    buf_free(&md5);
    return rc;
}

/* The next key that was refused: 1, or 0 when there is none. x begins at st->reply. */
static int
s3_next_undeleted(struct xml *x, struct buf *key, struct buf *code)
{
    enum xml_event event;

    buf_clear(key);
    buf_clear(code);
    while ((event = xml_next(x)) == XML_ENTER || event == XML_LEAVE) {
        if (event != XML_LEAVE)
            continue;
        if (xml_at(x, "DeleteResult/Error/Key"))
            (void)xml_text(x->text, key);
        else if (xml_at(x, "DeleteResult/Error/Code"))
            (void)xml_text(x->text, code);
        else if (xml_at(x, "DeleteResult/Error"))
            return 1;
    }
    return 0;
}

/* A URL that gives the right to one request for so many seconds. Nothing is sent. The
 * keys in it must outlive it: those of a session end earlier than it may say. */
static int
s3_presign(struct store *st, struct s3_call *call, uint64_t seconds, struct buf *url,
           struct fail *f)
{
    const struct s3_config *c = &st->config;
    struct span region = span_of(s3_region_of(st, call->bucket));
    struct signer who = {c->id,      c->secret,  c->token, region,
                         SPAN("s3"), os_now().s, true};

    if (!c->id.n)
        return fail_set(f, S3UP_DENIED, "a URL cannot be signed without keys");
    st->config.id = SPAN(""); /* built unsigned: parameters will sign it, not fields */
    if (s3_build(st, call, f) == 0 && !sig_url(&st->request, &who, seconds, SIG_UNSIGNED))
        (void)fail_set(f, S3UP_USAGE,
                       "the request is malformed or too long to be signed");
    st->config.id = who.id;
    if (f->code != S3UP_OK)
        return -1;
    buf_str(url, st->url.https ? "https://" : "http://");
    http_put_host(&st->origin, false, url);
    buf_put(url, st->request.path);
    buf_char(url, '?');
    http_put_query(&st->request, url);
    return url->bad ? fail_set(f, S3UP_USAGE, "the URL is too long") : 0;
}

/* ---- multipart ----
 *
 * An upload is created and gets an id; its parts are sent, in any order, by anybody, and
 * each has an ETag; then the list of numbers and ETags completes it, or it is aborted. A
 * part that is sent again replaces the one of the same number. What is neither completed
 * nor aborted stays in the store, and costs money, until somebody aborts it. If the reply
 * to the creation is lost, so is its id: the next attempt makes another upload, and the
 * first one is seen only in a list of uploads.
 */

/* Begins an upload; id gets what all further calls must name. */
static int
s3_create_upload(struct store *st, struct s3_call *call, struct buf *id, struct fail *f)
{
    s3_query(call, "uploads", SPAN(""));
    call->has_body = true;
    call->root = "InitiateMultipartUploadResult";
    if (s3_run(st, call, f) < 0)
        return -1;
    if (!s3_reply_text(st, "InitiateMultipartUploadResult/UploadId", id))
        return fail_set(f, S3UP_LATER, "%s: the reply has no upload id", call->what);
    return 0;
}

/* Names the part of an upload. text must live as long as the call. */
static void
s3_name_part(struct s3_call *call, struct span id, unsigned number, struct buf *text)
{
    buf_clear(text);
    buf_num(text, number);
    s3_query(call, "partNumber", buf_span(text));
    s3_query(call, "uploadId", id);
}

/* The call has its part named. Without the ETag the part cannot be put to use, so a reply
 * without one is no success. */
static int
s3_upload_part(struct store *st, struct s3_call *call, struct buf *etag, struct fail *f)
{
    call->has_body = true;
    if (s3_run(st, call, f) < 0)
        return -1;
    buf_clear(etag);
    buf_put(etag, s3_value(st, "etag"));
    if (!s3_bare(buf_span(etag)).n)
        return fail_set(f, S3UP_LATER, "%s: the reply has no ETag", call->what);
    return 0;
}

/* The same, of bytes that the store has already. source is BUCKET/KEY, percent-encoded;
 * the call says which of its bytes. */
static int
s3_copy_part(struct store *st, struct s3_call *call, struct span source, struct buf *etag,
             struct fail *f)
{
    s3_header(call, "x-amz-copy-source", source);
    call->has_body = true;
    call->root = "CopyPartResult";
    call->slow = true;
    if (s3_run(st, call, f) < 0)
        return -1;
    if (!s3_reply_text(st, "CopyPartResult/ETag", etag))
        return fail_set(f, S3UP_LATER, "%s: the reply has no ETag", call->what);
    return 0;
}

/* Adds a part to the list that s3_complete_upload sends; in ascending order. sum is the
 * checksum that it was sent with, and the name of its element, or nothing. */
static void
s3_put_part(struct buf *list, unsigned number, struct span etag, struct s3_pair sum)
{
    buf_str(list, list->n ? "" : "<CompleteMultipartUpload xmlns=\"" S3_XMLNS "\">");
    buf_str(list, "<Part><PartNumber>");
    buf_num(list, number);
    buf_str(list, "</PartNumber><ETag>");
    xml_put(list, etag);
    buf_str(list, "</ETag>");
    if (sum.value.n) {
        buf_char(list, '<');
        buf_str(list, sum.name);
        buf_char(list, '>');
        buf_put(list, sum.value);
        buf_str(list, "</");
        buf_str(list, sum.name);
        buf_char(list, '>');
    }
    buf_str(list, "</Part>");
}

/* Joins the parts. list is what s3_put_part made, without its end; it becomes the call's
 * body. Success is a whole result element and nothing less: stores answer 200 at once and
 * decide while they join. After a lost reply a second attempt is told that there is no
 * such upload, though the object may be there: the caller finds out. */
static int
s3_complete_upload(struct store *st, struct s3_call *call, struct span id,
                   struct buf *list, struct fail *f)
{
    buf_str(list, "</CompleteMultipartUpload>");
    s3_query(call, "uploadId", id);
    s3_header(call, "content-type", SPAN("application/xml"));
    call->has_body = true;
    call->body.memory = buf_span(list);
    call->root = "CompleteMultipartUploadResult";
    call->slow = true;
    if (list->bad)
        return fail_set(f, S3UP_LATER, "no memory for the list of parts");
    return s3_run(st, call, f);
}

/* Gives an upload up: the store forgets its parts. */
static int
s3_abort_upload(struct store *st, struct span bucket, struct span key, struct span id,
                struct fail *f)
{
    struct s3_call call = s3_to("AbortMultipartUpload", "DELETE", bucket, key);

    if (!id.n) /* a store may take that for the object */
        return fail_set(f, S3UP_MISSING, "s3://%.*s/%.*s: this upload has no id",
                        (int)bucket.n, bucket.p, (int)key.n, key.p);
    s3_query(&call, "uploadId", id);
    return s3_delete(st, &call, f);
}

/* ---- lists ----
 *
 * s3_list_begin, then s3_list_next until it says 0 or -1, then s3_list_end. Between begin
 * and the first next, the caller says what of prefix, delimiter, key and id applies.
 *
 * Stores differ. Some know only the first version of the list of objects, which goes on
 * behind a key instead of a token; some cannot encode keys; some say that there is more,
 * but not where; some return the same page again, or a page from before. An early end
 * would make a stored object look missing, and a list without end would keep us for
 * ever: so a page must be proper XML to its end, one that says there is more must lead
 * somewhere new, and else the list fails.
 */

/* In the order of the tables in s3_list_call and s3_list_next. */
enum s3_list_kind { S3_BUCKETS, S3_OBJECTS, S3_UPLOADS, S3_PARTS };

/* One line of a list, of whatever kind: what does not apply is empty or 0. */
struct s3_entry {
    struct buf name;  /* of a bucket, a key, or a common prefix */
    struct buf id;    /* of an upload */
    struct buf etag;  /* as it came */
    struct buf class; /* of storage */
    uint64_t size, number;
    int64_t time; /* modified, initiated or created */
    bool is_prefix;
};

/* A list that is walked page by page. Only one page is in memory, in st->reply; so no
 * other call may be made to this store while a page is being read. */
struct s3_list {
    enum s3_list_kind kind;
    struct span bucket, key; /* key: of an upload whose parts are listed */
    struct span prefix, delimiter, id;
    struct xml x;
    bool has_page;            /* x stands in it */
    bool is_truncated;        /* there is another */
    bool is_encoded;          /* the page says that its keys are percent-encoded */
    bool is_old;              /* it goes on behind a key: a list of the first version */
    struct buf next, next_id; /* where the next page begins */
    struct buf asked;         /* where the page at hand began */
    struct buf mark;          /* where some page before it began: see s3_list_circles */
    unsigned pages;           /* that were fetched */
    bool stops, stopped;      /* between two pages, if whoever reads it wants that */
    struct buf last; /* the last key, or a greater prefix: the marker of old stores */
    bool last_is_prefix;
    struct buf first; /* what the page began with, when something was read of it */
    bool is_first;    /* the next entry is that */
    struct s3_entry entry;
};

/* An empty list. Encoded, a key has three times its bytes and more, so eight times is the
 * ceiling of each text; a mark is two of them. */
static void
s3_list_begin(struct s3_list *l, enum s3_list_kind kind, struct span bucket)
{
    *l = (struct s3_list){.kind = kind, .bucket = bucket};
    l->next = buf_upto(8 * KEY_MAX);
    l->next_id = buf_upto(8 * KEY_MAX);
    l->last = buf_upto(8 * KEY_MAX);
    l->first = buf_upto(8 * KEY_MAX);
    l->asked = buf_upto(16 * KEY_MAX);
    l->mark = buf_upto(16 * KEY_MAX);
    l->entry.name = buf_upto(8 * KEY_MAX);
    l->entry.id = buf_upto(8 * KEY_MAX);
    l->entry.etag = buf_upto(8 * KEY_MAX);
    l->entry.class = buf_upto(8 * KEY_MAX);
}

static void
s3_list_end(struct s3_list *l)
{
    struct buf *all[] = {&l->asked,      &l->mark,       &l->next,       &l->next_id,
                         &l->last,       &l->first,      &l->entry.name, &l->entry.id,
                         &l->entry.etag, &l->entry.class};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_free(all[i]);
}

/* The call for the page that begins at l->next. */
static struct s3_call
s3_list_call(const struct store *st, const struct s3_list *l)
{
    static const struct {
        const char *what, *root, *query, *marker, *marker_id;
    } kinds[] = {
        {"ListBuckets", "ListAllMyBucketsResult", NULL, "continuation-token", NULL},
        {"ListObjectsV2", "ListBucketResult", NULL, "continuation-token", NULL},
        {"ListMultipartUploads", "ListMultipartUploadsResult", "uploads", "key-marker",
         "upload-id-marker"},
        {"ListParts", "ListPartsResult", NULL, "part-number-marker", NULL},
    };
    struct s3_call call = s3_to(kinds[l->kind].what, "GET", l->bucket, l->key);
    bool objects = l->kind == S3_OBJECTS, keys = objects || l->kind == S3_UPLOADS;

    call.root = kinds[l->kind].root;
    if (kinds[l->kind].query)
        s3_query(&call, kinds[l->kind].query, SPAN(""));
    if (objects && !st->old_lists)
        s3_query(&call, "list-type", SPAN("2"));
    if (keys && !st->plain_lists)
        s3_query(&call, "encoding-type", SPAN("url"));
    if (l->prefix.n)
        s3_query(&call, "prefix", l->prefix);
    if (l->delimiter.n)
        s3_query(&call, "delimiter", l->delimiter);
    if (l->id.n)
        s3_query(&call, "uploadId", l->id);
    if (l->next.n)
        s3_query(&call, objects && st->old_lists ? "marker" : kinds[l->kind].marker,
                 buf_span(&l->next));
    if (l->next_id.n && kinds[l->kind].marker_id)
        s3_query(&call, kinds[l->kind].marker_id, buf_span(&l->next_id));
    return call;
}

/* Decodes a key or prefix as the page wrote it. Two layers: XML, and percent-encoding
 * where the page says so. False if either is malformed. */
static bool
s3_list_name(const struct s3_list *l, struct span raw, struct buf *out)
{
    struct buf text = buf_upto(8 * KEY_MAX);
    bool good;

    buf_clear(out);
    if (!l->is_encoded)
        return xml_text(raw, out);
    good = xml_text(raw, &text) && url_read(buf_span(&text), true, out);
    buf_free(&text);
    return good;
}

/* What a page says about itself; it may stand before or behind its entries, so the page
 * is read twice: here, and entry by entry. Fills l->next and l->next_id, where the next
 * page begins. */
static void
s3_list_page(struct s3_list *l, struct span page)
{
    /* Where the next page begins, in the words of each kind of list. */
    static const char *const nexts[] = {"NextContinuationToken", "ContinuationToken",
                                        "NextKeyMarker", "NextPartNumberMarker",
                                        "NextMarker"};
    struct buf next = buf_upto(8 * KEY_MAX), raw = buf_upto(8 * KEY_MAX);
    enum xml_event event;
    struct xml x;

    l->is_truncated = l->is_encoded = false;
    xml_init(&x, page);
    while ((event = xml_next(&x)) == XML_ENTER || event == XML_LEAVE) {
        struct span local;

        if (event != XML_LEAVE || x.depth != 2)
            continue;
        local = xml_local(x.open[1]);
        if (span_is(local, "IsTruncated"))
            l->is_truncated = span_is(x.text, "true");
        else if (span_is(local, "EncodingType"))
            l->is_encoded = span_is(x.text, "url");
        else if (span_is(local, "NextUploadIdMarker")) {
            buf_clear(&l->next_id);
            (void)xml_text(x.text, &l->next_id);
        }
        for (size_t i = 0; i < sizeof nexts / sizeof *nexts; i++)
            /* The tokens of ListObjectsV2 and ListBuckets, and the number of a part, go
             * into next; keys go into raw, and are decoded at the end, when it is known
             * whether keys are encoded. A token beats a key. */
            if (span_is(local, nexts[i]) && x.text.n &&
                (i != 1 ||
                 l->kind == S3_BUCKETS)) { /* in objects it echoes the question */
                buf_clear(&next);
                (void)xml_text(x.text, i == 2 || i == 4 ? &raw : &next);
            }
    }
    l->is_old = l->kind == S3_OBJECTS && raw.n && !next.n;
    if (raw.n && !next.n) { /* these two are keys, and are encoded like keys */
        if (!l->is_encoded || !url_read(buf_span(&raw), true, &next)) {
            buf_clear(&next);
            buf_put(&next, buf_span(&raw));
        }
    }
    buf_clear(&l->next);
    buf_put(&l->next, buf_span(&next));
    /* The list of buckets has no other way to say so. */
    l->is_truncated |= l->kind == S3_BUCKETS && next.n;
    buf_free(&next);
    buf_free(&raw);
}

/* Fetches the page that begins at l->next. A store that refuses the second version of the
 * list of objects is asked in the first from then on; only at the first page, since a
 * token of the one means nothing to the other. */
static int
s3_list_fetch(struct store *st, struct s3_list *l, struct fail *f)
{
    struct fail now = {S3UP_OK, ""};
    struct s3_call call = s3_list_call(st, l);

    if (s3_run(st, &call, &now) == 0)
        return 0;
    if (l->kind != S3_OBJECTS || st->old_lists || l->next.n ||
        (st->error.status != 501 && st->error.status != 405 && st->error.status != 400) ||
        (st->error.status == 400 && now.code != S3UP_SOME))
        return fail_set(f, now.code, "%s", now.text);
    st->old_lists = true;
    call = s3_list_call(st, l);
    return s3_run(st, &call, f);
}

#define S3_REPEATS "the store repeats one page of its list for ever"

/* Where a page begins, as one text. */
static void
s3_list_mark(const struct s3_list *l, struct buf *out)
{
    buf_clear(out);
    buf_put(out, buf_span(&l->next));
    buf_char(out, '\n');
    buf_put(out, buf_span(&l->next_id));
}

/* Would the next page begin where the one at hand began? Then it would come for ever. */
static bool
s3_list_repeats(const struct s3_list *l)
{
    struct buf mark = buf_upto(16 * KEY_MAX);
    bool same;

    s3_list_mark(l, &mark);
    same = l->is_truncated && l->next.n && span_eq(buf_span(&mark), buf_span(&l->asked));
    buf_free(&mark);
    return same;
}

/* Does the page that is asked for begin where one before it began? Only one of those is
 * remembered, until twice as many were read: so every circle is found, however long it
 * is, before it was walked a few times. */
static bool
s3_list_circles(struct s3_list *l)
{
    bool same = l->pages && span_eq(buf_span(&l->asked), buf_span(&l->mark));

    if ((l->pages & (l->pages - 1)) == 0 || !l->pages) {
        buf_clear(&l->mark);
        buf_put(&l->mark, buf_span(&l->asked));
    }
    l->pages++;
    return same;
}

/* Goes to the next page. 1: there is one, 0: there is none, -1: failed. A store that
 * repeats a page is asked once more without encoding, over which some stumble; then it
 * has failed. */
static int
s3_list_turn(struct store *st, struct s3_list *l, struct fail *f)
{
    bool stuck = false;

    if (l->has_page && !l->is_truncated)
        return 0;
    /* The first version names where it goes on only if there is a delimiter; else that is
     * the last key that was read. */
    if (l->has_page && !l->next.n && l->kind == S3_OBJECTS && l->last.n) {
        st->old_lists = true; /* no token: what it speaks is the first version */
        buf_put(&l->next, buf_span(&l->last));
        stuck = s3_list_repeats(l);
    }
    if (l->has_page && !l->next.n)
        return fail_set(f, S3UP_LATER,
                        "the store says that its list goes on, but not where");
    /* From here on the page that begins here is the one at hand. */
    s3_list_mark(l, &l->asked);
    stuck |= s3_list_circles(l);
    while (!stuck) {
        bool plain = st->plain_lists;

        if (s3_list_fetch(st, l, f) < 0)
            return -1;
        s3_list_page(l, buf_span(&st->reply));
        st->old_lists |= l->is_old;
        /* If it does, l->next is again what was asked for: the same page is fetched
         * anew. */
        if (!s3_list_repeats(l))
            break;
        st->plain_lists = true;
        stuck = plain;
    }
    if (stuck)
        return fail_set(f, S3UP_LATER, S3_REPEATS);
    l->has_page = l->is_first = true;
    xml_init(&l->x, buf_span(&st->reply));
    return 1;
}

static void
s3_list_clear(struct s3_entry *e)
{
    buf_clear(&e->name);
    buf_clear(&e->id);
    buf_clear(&e->etag);
    buf_clear(&e->class);
    e->size = e->number = 0;
    e->time = 0;
    e->is_prefix = false;
}

/* A leaf of an entry. False if it is malformed: a key or size that was guessed could have
 * the wrong object removed, or taken for stored. Names that we have no use for are passed
 * over. */
static bool
s3_list_leaf(struct s3_list *l, struct span name, struct span text)
{
    struct s3_entry *e = &l->entry;

    if (span_is(name, "Key") || span_is(name, "Prefix"))
        return s3_list_name(l, text, &e->name);
    if (span_is(name, "Name"))
        return xml_text(text, &e->name);
    if (span_is(name, "UploadId"))
        return xml_text(text, &e->id);
    if (span_is(name, "ETag"))
        return xml_text(text, &e->etag);
    if (span_is(name, "StorageClass"))
        return xml_text(text, &e->class);
    if (span_is(name, "Size"))
        return num_parse(text, INT64_MAX, &e->size);
    if (span_is(name, "PartNumber"))
        return num_parse(text, INT64_MAX, &e->number);
    if (span_is(name, "LastModified") || span_is(name, "Initiated") ||
        span_is(name, "CreationDate"))
        (void)date_iso(text, &e->time); /* 0: a list without dates is still a list */
    return true;
}

/* Takes note of a whole entry. 1: it is new, 0: a prefix that was listed before, which
 * some stores repeat behind it, -1: it began the page before this one as well. No order
 * is asked for: not all stores sort by bytes. */
static int
s3_list_note(struct s3_list *l)
{
    struct span name = buf_span(&l->entry.name);
    bool prefix = l->entry.is_prefix;
    int order = span_cmp(name, buf_span(&l->last));

    if (l->kind != S3_OBJECTS)
        return 1;
    if (l->is_first && l->first.n && span_eq(name, buf_span(&l->first)))
        return -1;
    if (l->is_first) {
        buf_clear(&l->first);
        buf_put(&l->first, name);
        l->is_first = false;
    }
    if (order == 0)
        return 0;
    /* The next page of an old store begins behind this. Keys and prefixes are listed one
     * kind after the other, so between the kinds the greater counts; among keys alone it
     * is the last, for a store that does not sort by bytes goes on behind that one. */
    if (order > 0 || (!prefix && !l->last_is_prefix)) {
        buf_clear(&l->last);
        buf_put(&l->last, name);
        l->last_is_prefix = prefix;
    }
    return 1;
}

/* The next entry, into l->entry, which holds until the next call. 1: there is one, 2: the
 * page is at its end, 0: the list is, -1: failed. 2 is said only to callers that set
 * l->stops, once for each page: then they may make other calls before they go on. */
static int
s3_list_next(struct store *st, struct s3_list *l, struct fail *f)
{
    static const char *const items[] = {
        "ListAllMyBucketsResult/Buckets/Bucket", "ListBucketResult/Contents",
        "ListMultipartUploadsResult/Upload", "ListPartsResult/Part"};
    unsigned depth = l->kind == S3_BUCKETS ? 3 : 2;

    for (;;) {
        enum xml_event event = l->has_page ? xml_next(&l->x) : XML_END;
        struct span local;
        int turned;

        if (event == XML_END) {
            /* Said once: the next call comes by with stopped set, and turns the page. */
            l->stopped = l->has_page && l->stops && !l->stopped;
            if (l->stopped)
                return 2;
            turned = s3_list_turn(st, l, f);
            if (turned <= 0)
                return turned;
            continue;
        }
        if (event == XML_BAD)
            return fail_set(f, S3UP_LATER, "the store's list is not proper XML: %s",
                            l->x.why);
        local = xml_local(l->x.open[l->x.depth - 1]);
        /* At `depth` entries begin and end, one below it their leaves. What else stands
         * at these depths begins an entry, too, that is thrown away. */
        if (l->x.depth == depth && event == XML_ENTER) {
            s3_list_clear(&l->entry);
            l->entry.is_prefix = span_is(local, "CommonPrefixes");
        } else if (l->x.depth == depth + 1 && event == XML_LEAVE) {
            if (!s3_list_leaf(l, local, l->x.text))
                return fail_set(f, S3UP_LATER, "the store's list has a malformed entry");
        } else if (l->x.depth == depth &&
                   (xml_at(&l->x, items[l->kind]) ||
                    (l->entry.is_prefix && l->kind == S3_OBJECTS))) {
            int known = s3_list_note(l);

            if (known < 0)
                return fail_set(f, S3UP_LATER, S3_REPEATS);
            if (known)
                return 1;
        }
    }
}

/* ===== ROOM 12 part: files are cut into parts, summed, and watched =====
 *
 * In: paths. Out: open files that are known to be plain, with their identities; the plan
 * by which they are cut; the bytes and the sums of any stretch, read through one small
 * window: memory does not grow with the file. Several files in a row can be read as one.
 * A file whose identity changed between two looks is not sent.
 *
 * Also in: the names of files that are fetched. Out: a locked temporary file beside each,
 * and its rename when it is whole. In a tree no link is followed, neither to a file nor
 * on the way to one.
 *
 * Owns nothing between two calls: who opens a part_file closes it with part_close, who
 * finds a part_place leaves it with part_leave. Refuses folders, FIFOs, devices, and
 * files that say that they are empty and are not. To read from something else than files,
 * give part_read another source beside files and memory.
 */

/* A file that is read. */
struct part_file {
    int fd;           /* -1 when closed */
    const char *path; /* for messages; whoever opened it keeps it alive */
    struct os_id id;  /* as it was when it was opened */
    bool strict;      /* not even its name may have changed since */
};

/* How a file is found: by its path, or, in a tree, from the tree's root on and without
 * following links. */
struct part_name {
    const char *path;
    int root;       /* the folder, or AT_FDCWD if it is no tree */
    unsigned below; /* where in the path that begins what lies below the root */
};

/* Is the moment over in which a file could be written once more and keep its time? A time
 * without a fraction is one of a file system that counts in seconds, or, as FAT does, in
 * pairs of them. One in the future tells nothing. */
static bool
part_settled(struct os_time modified, const struct timespec *now)
{
    if (now->tv_sec < modified.s)
        return true;
    if (!modified.ns)
        return now->tv_sec > modified.s + 1;
    return now->tv_sec > modified.s || now->tv_nsec > modified.ns;
}

/* The identity of a file by which a later change can be told. A kernel notes times by a
 * clock that moves every few milliseconds: of two writes within one such tick, the second
 * leaves no trace in the file's time. So we wait until that tick is over: whatever is
 * written from then on gets another time. The coarse clock is the one that the kernel
 * notes times by. False, and errno: the file cannot be examined. */
static bool
part_settle(int fd, struct os_id *id)
{
    int64_t from = os_ticks();
    struct timespec now;

    while (os_identify(fd, id) && clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0) {
        /* Where somebody writes all the time, the last look will tell. */
        int64_t most = id->modified.ns ? PART_TICKS : PART_SETTLE;

        if (part_settled(id->modified, &now) || os_ticks() - from > most || os_stop)
            return true;
        os_sleep(2);
    }
    return false;
}

/* Opens a name for reading; -1 and errno if it cannot. Without O_NONBLOCK that of a FIFO
 * would wait for a writer, maybe for ever; on a plain file it means nothing. Links are
 * followed if a user named the file, never below the root of a tree. */
static int
part_open_name(const struct part_name *name)
{
    const char *rest = name->path + name->below, *slash = strrchr(rest, '/');
    int folder, fd, why;

    if (name->root == AT_FDCWD)
        return os_open(name->path, O_RDONLY | O_NONBLOCK, 0);
    folder = os_walk(name->root, rest, false);
    if (folder < 0)
        return -1;
    fd = os_open_in(folder, slash ? slash + 1 : rest, O_RDONLY | O_NONBLOCK | O_NOFOLLOW,
                    0);
    why = errno;
    (void)close(folder);
    errno = why;
    return fd;
}

/* Opens a file that is to be sent, and notes what it is. -1: p is closed, and f says why.
 * In a tree, what was there when its folder was read and is not there any more is passed
 * over: it is no fault of this command. */
static int
part_open(struct part_file *p, const struct part_name *name, struct fail *f)
{
    const char *path = name->path;
    struct stat info;
    ssize_t did = 0;
    char byte;

    *p = (struct part_file){.fd = part_open_name(name), .path = path};
    if (p->fd < 0 && name->root != AT_FDCWD &&
        (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return fail_set(f, S3UP_SKIPPED,
                        "%s was removed or replaced since its folder was read", path);
    if (p->fd < 0)
        return fail_sys(f, "open", path);
    if (fstat(p->fd, &info) != 0)
        (void)fail_sys(f, "examine", path);
    else if (S_ISDIR(info.st_mode))
        (void)fail_set(
            f, S3UP_USAGE,
            "%s is a folder: name the files in it, or send all of it by put -r", path);
    else if (!S_ISREG(info.st_mode))
        (void)fail_set(f, S3UP_USAGE, "%s is not a plain file", path);
    else if (!part_settle(p->fd, &p->id))
        (void)fail_sys(f, "examine", path);
    else if (!info.st_size && (did = os_read(p->fd, &byte, 1, 0)) < 0)
        (void)fail_sys(f, "read", path);
    else if (did) /* as files in /proc do: their size is not known before their end */
        (void)fail_set(f, S3UP_USAGE,
                       "%s says that it is empty, but is not: send a copy of it", path);
    if (f->code == S3UP_OK)
        return 0;
    (void)close(p->fd);
    p->fd = -1;
    return -1;
}

static void
part_close(struct part_file *p)
{
    if (p->fd >= 0)
        (void)close(p->fd); /* it was only read */
    p->fd = -1;
}

/* Opens a file that was looked at before: it must still be the same. */
static int
part_open_again(struct part_file *p, const struct part_name *name, const struct os_id *id,
                struct fail *f)
{
    if (part_open(p, name, f) < 0)
        return -1;
    if (os_same(&p->id, id))
        return 0;
    part_close(p);
    return fail_set(f, S3UP_SKIPPED, "%s changed while it was being sent", name->path);
}

/* ---- the plan ---- */

/* How a file, or an object, is cut. Part N is at (N - 1) * part; the numbers are those of
 * the store, from 1 to n. */
struct part_plan {
    int64_t size, part; /* bytes of all, and of one part */
    unsigned n;         /* of parts; the last may be shorter */
};

/* Parts are equal, and never grow: some stores demand it. They are as large as was asked,
 * or as PARTS_MAX of them must be to hold all: then a whole number of MiB, as other
 * programs cut, too, so that the cut can be guessed from the object (see xfer_usual). An
 * empty file has one part. */
static int
part_plan(struct part_plan *p, int64_t size, uint64_t asked, struct fail *f)
{
    uint64_t least = ((uint64_t)size + PARTS_MAX - 1) / PARTS_MAX, part = asked;

    if (part < least)
        part = (least + MIB - 1) / MIB * MIB;
    if (part < PART_LEAST)
        part = PART_LEAST;
    if (part > PART_MOST)
        return fail_set(
            f, S3UP_USAGE, "%s: S3 knows no larger parts than 5 GiB%s",
            asked > PART_MOST ? "--part-size" : "the file is too large",
            asked > PART_MOST ? "" : ", and no more of them than an upload can have");
    *p = (struct part_plan){size, (int64_t)part, 1};
    if (size)
        p->n = (unsigned)((size + p->part - 1) / p->part);
    return 0;
}

/* Bytes of a part; of the last, what is left. */
static int64_t
part_length(const struct part_plan *p, unsigned number)
{
    int64_t at = (int64_t)(number - 1) * p->part;

    return p->size - at < p->part ? p->size - at : p->part;
}

/* ---- what is in a part ---- */

/* A stretch of one or several files that follow each other, or of memory. */
struct part_stretch {
    const struct part_file *file;
    unsigned files;
    int64_t at, length; /* at: from the beginning of the first */
    const char *memory; /* used if there are no files */
};

/* 0 if all files of a stretch are what they were when they were opened. */
static int
part_unchanged(const struct part_stretch *s, struct fail *f)
{
    struct os_id now;

    for (unsigned i = 0; i < s->files; i++)
        if (!os_identify(s->file[i].fd, &now) || !os_same(&now, &s->file[i].id) ||
            (s->file[i].strict && !os_untouched(&now, &s->file[i].id)))
            return fail_set(f, S3UP_SKIPPED, "%s changed while it was being read",
                            s->file[i].path);
    return 0;
}

/* Reads n bytes of a stretch, from place `at` of it; it is the reader of a struct
 * s3_body. The last of them are given only if no file has changed: without them the
 * request is not whole, and the store keeps nothing of a file that was written to
 * meanwhile. */
static int
part_read(const void *from, char *out, size_t n, int64_t at, struct fail *f)
{
    const struct part_stretch *s = from;
    bool is_last = at + (int64_t)n == s->length;
    int64_t place = s->at + at;

    if (!s->files)
        memcpy(out, s->memory + place, n);
    for (unsigned i = 0; i < s->files && n; i++) {
        const struct part_file *file = &s->file[i];
        int64_t left = file->id.size - place;
        size_t take = left < (int64_t)n ? (size_t)left : n;
        ssize_t did;

        if (left <= 0) { /* it begins behind this file */
            place -= file->id.size;
            continue;
        }
        did = os_read(file->fd, out, take, place);
        if (did < 0)
            return fail_sys(f, "read", file->path);
        if (did != (ssize_t)take) /* never padded */
            return fail_set(f, S3UP_SKIPPED, "%s became shorter while it was being read",
                            file->path);
        out += take;
        n -= take;
        place = 0;
    }
    return is_last ? part_unchanged(s, f) : 0;
}

/* The sums of one stretch. Three are the most that one request needs: an MD5, the SHA-256
 * that is signed, and a checksum. The caller sets n and inits the first n of at. */
struct part_sums {
    unsigned n;
    struct sum at[3];
    unsigned char digest[3][SHA256_SIZE]; /* filled by part_sum */
};

/* Sums a stretch in one pass, with as many kinds of sum as are wanted. */
static int
part_sum(const struct part_stretch *s, struct part_sums *sums, struct fail *f)
{
    size_t room = s->length < S3_WINDOW ? (size_t)s->length : S3_WINDOW;
    char *window = malloc(room + 1); /* for a small file no more than it needs */

    if (!window)
        return fail_set(f, S3UP_LATER, "no memory to read a part");
    /* Reading gigabytes takes minutes: a stop is looked for between two windows. */
    for (int64_t done = 0; done < s->length && !os_stop && f->code == S3UP_OK;) {
        int64_t left = s->length - done;
        size_t n = left < S3_WINDOW ? (size_t)left : room;

        (void)part_read(s, window, n, done, f);
        for (unsigned i = 0; i < sums->n && f->code == S3UP_OK; i++)
            sum_add(&sums->at[i], window, n);
        done += (int64_t)n;
    }
    free(window);
    if (f->code != S3UP_OK)
        return -1;
    if (os_stop)
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    for (unsigned i = 0; i < sums->n; i++)
        sum_end(&sums->at[i], sums->digest[i]);
    return 0;
}

/* ---- files that are fetched ----
 *
 * A file grows under a temporary name in its own folder, so that the rename that ends it
 * stays within one file system, and nobody sees half of it under its final name. That
 * name is made of the final one: a later run finds what an earlier one has left, and goes
 * on with it or removes it. The lock on the temporary file keeps two runs from writing
 * one file; it ends with the process, so a crash leaves none. Between opening and locking
 * the file may have been renamed or removed: part_in_place tells, and only while it says
 * yes is the name touched.
 */

#define PART_TAIL ".s3up-part" /* behind the name, until the file is whole */

/* Where a fetched file goes: a name in a folder that is held open, and the one that it
 * has until it is whole. */
struct part_place {
    int folder;       /* -1 when closed */
    bool in_tree;     /* one of many: what is in its way is passed over, not an error */
    const char *path; /* of the file, for messages */
    char name[NAME_MAX + 1], temp[NAME_MAX + 1]; /* within the folder */
};

static void
part_leave(struct part_place *p)
{
    if (p->folder >= 0)
        (void)close(p->folder);
    p->folder = -1;
}

/* Finds the place of a name; in a tree, the folders on the way there are made. -1:
 * nothing is open. A path that comes from an object's key may end in a slash, or in "..":
 * such a name is no file's. */
static int
part_find(struct part_place *p, const struct part_name *name, struct fail *f)
{
    const size_t tail = sizeof PART_TAIL - 1;
    const char *rest = name->path + name->below, *slash = strrchr(rest, '/');
    struct span base = span_of(slash ? slash + 1 : rest);
    struct buf temp = buf_upto(sizeof p->temp);
    unsigned char crc[4];
    size_t n = base.n;

    *p = (struct part_place){
        .folder = -1, .in_tree = name->root != AT_FDCWD, .path = name->path};
    if (!base.n || base.n > NAME_MAX || span_is(base, ".") || span_is(base, "..")) {
        errno = base.n > NAME_MAX ? ENAMETOOLONG : EINVAL;
        return fail_sys(f, "write", name->path);
    }
    memcpy(p->name, base.p, base.n + 1);
    if (n > NAME_MAX - tail) /* then a checksum stands for the rest */
        for (n = NAME_MAX - tail - 9; n && (base.p[n] & 0xc0) == 0x80;) /* 9: ".CRC" */
            n--; /* not into the middle of a character */
    buf_put(&temp, span_first(base, n));
    if (n < base.n) {
        buf_char(&temp, '.');
        sum_store32be(crc, jrn_crc(base));
        hex_put(&temp, crc, sizeof crc);
    }
    buf_str(&temp, PART_TAIL);
    memcpy(p->temp, buf_text(&temp), temp.n + 1);
    buf_free(&temp);
    p->folder = name->root == AT_FDCWD ? os_open_folder(name->path, O_PATH)
                                       : os_walk(name->root, rest, true);
    if (p->folder >= 0)
        return 0;
    /* What is in the way of a tree's folder is no fault of this machine. */
    if (p->in_tree && (errno == ENOTDIR || errno == ELOOP))
        return fail_set(f, S3UP_SKIPPED,
                        "%s: something that is no folder is in the way of one",
                        name->path);
    return fail_sys(f, "write", name->path);
}

/* Does the temporary name still stand for the file that is open? */
static bool
part_in_place(const struct part_place *p, int fd)
{
    struct stat info, there;

    return fstat(fd, &info) == 0 &&
           fstatat(p->folder, p->temp, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           there.st_ino == info.st_ino && there.st_dev == info.st_dev;
}

/* Whoever took the name of our temporary file has it: what was fetched goes nowhere. */
static int
part_is_replaced(const struct part_place *p, struct fail *f)
{
    return fail_set(f, S3UP_LATER, "%s: its temporary file was replaced", p->path);
}

/* Does errno say that a name stands for something that is no plain file? ELOOP is a link,
 * EISDIR a folder, ENXIO a FIFO that nobody reads, or a socket. */
static bool
part_is_strange(void)
{
    return errno == ELOOP || errno == EISDIR || errno == ENXIO;
}

/* Opens the temporary file that is there already and locks it: another run that is at
 * work on it is left alone. -1 and no failure: there is none, or none any more. Something
 * that is no plain file was put there by somebody else, and is not touched. */
static int
part_take_temp(const struct part_place *p, struct fail *f)
{
    int fd = os_open_in(p->folder, p->temp, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    struct stat info;

    if (fd < 0 && errno == ENOENT)
        return -1;
    if (fd < 0 && !part_is_strange())
        return fail_sys(f, "write beside", p->path);
    if (fd >= 0 && fstat(fd, &info) != 0)
        (void)fail_sys(f, "examine", p->path);
    else if (fd < 0 || !S_ISREG(info.st_mode))
        (void)fail_set(f, S3UP_SKIPPED, "%s: %s, which is no plain file, is in the way",
                       p->path, p->temp);
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        (void)fail_set(f, S3UP_LOCKED, "another run is writing %s", p->path);
    else if (part_in_place(p, fd))
        return fd;
    if (fd < 0)
        return -1;
    (void)close(fd); /* its run has just ended, or it is not for us */
    return -1;
}

/* Removes what an earlier run left. Not if another run is at work on it: that has the
 * lock. */
static void
part_drop_temp(const struct part_place *p)
{
    struct fail unread = {S3UP_OK, ""};
    int fd = part_take_temp(p, &unread);

    if (fd < 0)
        return;
    (void)unlinkat(p->folder, p->temp, 0);
    (void)close(fd);
}

/* A new temporary file, locked. What an earlier run left is removed: the file that is
 * written is our own, with the mode that was asked for, and no other name leads to it.
 * Between making and locking it another run may take it for a leftover: while that has
 * the lock we begin again, and if it has removed the file, part_publish will tell. */
static int
part_make_temp(const struct part_place *p, mode_t mode, struct fail *f)
{
    for (int i = 0; i < JRN_TRIES && f->code == S3UP_OK; i++) {
        int fd =
            os_open_in(p->folder, p->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode);

        if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK))
            return fd; /* a file system without locks has to do without */
        if (fd < 0 && errno != EEXIST)
            return fail_sys(f, "write", p->path);
        if (fd < 0 && (fd = part_take_temp(p, f)) >= 0)
            (void)unlinkat(p->folder, p->temp, 0);
        if (fd >= 0)
            (void)close(fd);
    }
    return f->code == S3UP_OK
               ? fail_set(f, S3UP_LOCKED, "another run is writing %s", p->path)
               : -1;
}

/* A folder has the final name, and is never replaced. In a tree that is no mistake of
 * whoever named the path. */
static int
part_is_folder(const struct part_place *p, struct fail *f)
{
    return fail_set(f, p->in_tree ? S3UP_SKIPPED : S3UP_USAGE,
                    "cannot write %s: it is a folder", p->path);
}

/* What is there under the final name, and may it be replaced? *old is what it was, all 0
 * if nothing. A link is replaced, not what it stands for; a device or a FIFO stays: a
 * file in its place would break whoever uses it. */
static int
part_examine(const struct part_place *p, bool no_clobber, struct stat *old,
             struct fail *f)
{
    if (fstatat(p->folder, p->name, old, AT_SYMLINK_NOFOLLOW) != 0) {
        *old = (struct stat){.st_mode = 0};
        return errno == ENOENT ? 0 : fail_sys(f, "examine", p->path);
    }
    if (S_ISDIR(old->st_mode))
        return part_is_folder(p, f);
    if (no_clobber)
        return fail_set(f, S3UP_EXISTS, "%s exists already", p->path);
    if (!S_ISREG(old->st_mode) && !S_ISLNK(old->st_mode))
        return fail_set(f, S3UP_SKIPPED, "%s is no plain file, and is not replaced",
                        p->path);
    return 0;
}

/* Opens the file that has the final name already, to look at it. -1: there is none that
 * can be read. */
static int
part_open_there(const struct part_place *p, struct part_file *there)
{
    *there = (struct part_file){.path = p->path};
    there->fd = os_open_in(p->folder, p->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (there->fd >= 0 && os_identify(there->fd, &there->id))
        return 0;
    part_close(there);
    return -1;
}

/* Gives a file a name that must be free. Where the kernel cannot do that in one step, a
 * link is made, which fails if the name is taken, by whomever. FAT and its like have no
 * links: there the name is taken by an empty file, and that is replaced. errno if it
 * cannot. */
static bool
part_name_new(int from, const char *old, int to, const char *name)
{
    int fd, why;

    if (os_rename_new(from, old, to, name))
        return true;
    if (errno == EEXIST)
        return false;
    if (linkat(from, old, to, name, 0) == 0) {
        (void)unlinkat(from, old, 0);
        return true;
    }
    if (errno == EXDEV)
        return false;
    fd = os_open_in(to, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return false;
    (void)close(fd);
    if (renameat(from, old, to, name) == 0)
        return true;
    why = errno;
    (void)unlinkat(to, name, 0); /* the empty file */
    errno = why;
    return false;
}

/* Gives a finished temporary file its name, perhaps in place of another's. With
 * no_clobber the kernel decides whether the name is free: since part_examine looked,
 * somebody may have made a file there. */
static int
part_publish(const struct part_place *p, int temp, bool no_clobber, struct fail *f)
{
    if (!part_in_place(p, temp)) /* what lies there now is not what was fetched */
        return part_is_replaced(p, f);
    if (no_clobber ? part_name_new(p->folder, p->temp, p->folder, p->name)
                   : renameat(p->folder, p->temp, p->folder, p->name) == 0)
        return 0;
    return errno == EISDIR && p->in_tree ? part_is_folder(p, f)
                                         : fail_sys(f, "write", p->path);
}

/* ===== ROOM 13 crew: processes that work side by side =====
 *
 * In: a function that carries out an order. Out: the answers to orders, as they come.
 * Each worker is a fork with two pipes of its own: orders go in as a length and bytes,
 * answers come out as records of one size, to which a failure adds its text. Orders that
 * are carried out in no time go and come back many at once: the price of a pipe is that
 * one process must wait for the other. Whoever waits sees at once that a worker has
 * died, because its pipe ends. A worker outlives neither its orders' pipe nor its parent,
 * and keeps nothing open that is not its own, so that no lock is held by an orphan. A
 * crew of one has no workers: the parent does the work itself.
 *
 * Processes, not threads: a worker that crashes, or that is killed while it waits for a
 * store, takes nothing with it but its own orders. Nothing is shared but counters and, of
 * a stream, the parts in memory.
 *
 * A hand is a place for a worker. It is
 *     empty   no worker (pid 0)        crew_give hires one        -> busy
 *     idle    a worker, busy == 0      crew_give gives it orders  -> busy
 *     busy    orders not yet answered  its last answer is heard   -> idle
 *                                      it dies, or is dismissed   -> empty
 * Orders go to idle hands only: a parent that writes to a worker which itself waits to
 * write its answers would wait for ever. This room does not know what an order says: to
 * have another kind of work done, pack another order in room 14. To have a worker tell
 * more, add a field to struct crew_answer, before its text.
 */

/* What became of one order. It goes through the pipe as it lies in memory: both ends are
 * the same program. What is said of a failure holds only if code is not S3UP_OK. */
struct crew_answer {
    uint32_t number;            /* as in the order */
    enum s3up_exit code;        /* S3UP_OK, or why it failed */
    bool keys;                  /* it failed because of the keys */
    bool gone;                  /* the store does not know the upload */
    bool stranger;              /* the store has never answered this worker */
    bool nowhere;               /* there is no bucket for it */
    bool changed;               /* the object is another than it was */
    bool same;                  /* there was nothing to do: it is there already */
    bool sure;                  /* what the store has is what was sent */
    bool large;                 /* it is to be fetched in parts */
    bool whole_only;            /* the store does not send parts of it */
    bool died;                  /* no answer: the worker is gone */
    unsigned tries;             /* attempts after the first */
    uint64_t size;              /* bytes that were sent or fetched */
    char etag[CREW_ETAG];       /* as it came; empty if the store names none */
    char match[CREW_ETAG];      /* of what may be replaced */
    unsigned char sum[JRN_SUM]; /* by which a part is known again */
    char text[FAIL_TEXT]; /* why it failed: sent only then, so it must be the last */
};

/* A place for a worker, as the parent sees it. */
struct crew_hand {
    pid_t pid;           /* 0: there is no worker here */
    int orders, answers; /* our ends of its pipes; open while there is a worker */
    unsigned busy;       /* orders that it has not answered */
    unsigned batch;      /* how many of them it may get at once */
    bool turned;         /* the store asked it for less, since the last look */
    int64_t since;       /* ticks, when it got them */
    unsigned age;        /* how many renewals of the keys it has seen */
};

/* How many hands are at work when nobody says how many: found out by trying. Time goes in
 * rounds, see crew_adapt. */
struct crew_pace {
    bool fixed;       /* somebody has said */
    unsigned limit;   /* hands that may be busy now */
    unsigned best;    /* the number that moved most so far */
    unsigned ceiling; /* more were too many for the store, once */
    int64_t rate;     /* what the best moved: bytes a second, and the price of requests */
    bool settling;    /* the number changed: what is moved now tells nothing yet */
    unsigned hold;    /* rounds until another number is tried */
    int64_t slowed;   /* ticks: orders from before that complain of what was heard */
    bool down;        /* next time fewer are tried */
    int64_t since;    /* ticks at the begin of the round */
    int64_t moved;    /* bytes in this round, and out of this machine */
    unsigned answers; /* in this round */
};

/* All workers of a run. The owner sets work, leave, context, age and also, then calls
 * crew_open; after crew_close only moved is of use. */
struct crew {
    unsigned most; /* hands, at most; 1: the parent does the work */
    struct crew_pace pace;
    uint64_t moved; /* bytes, of all hands, in all */
    /* What each hand's meter said at the last look. */
    uint32_t last[CREW_MOST], queue[CREW_MOST], slow[CREW_MOST];
    struct buf more;     /* orders that go along behind the next */
    unsigned adds;       /* how many they are */
    const unsigned *age; /* of the keys that a new worker gets */
    bool full;           /* no more can be started */
    int also;            /* a descriptor whose input ends a wait, too; or -1 */
    struct crew_hand hand[CREW_MOST];
    struct s3_meter *meter; /* one for each hand, shared with it */
    struct crew_answer own; /* of the parent, if it does the work itself */
    /* Carries out one order, in the worker or, for a crew of one, in the parent. False:
     * the worker ends, and so dies in the eyes of the parent. */
    bool (*work)(void *context, unsigned hand, struct span order, struct crew_answer *a);
    void (*leave)(void *context); /* in a new worker: closes what is the parent's */
    void *context;
};

/* fixed: so many hands, whatever comes; else not more than so many. No worker is started
 * before there is an order for it. */
static int
crew_open(struct crew *c, unsigned most, bool fixed, struct fail *f)
{
    c->most = most < CREW_MOST ? most : CREW_MOST;
    c->more = buf_upto(CREW_ORDER);
    c->pace = (struct crew_pace){.fixed = fixed || most == 1, .ceiling = c->most};
    c->pace.limit = c->pace.best =
        c->pace.fixed || most < CREW_FIRST ? c->most : CREW_FIRST;
    c->pace.since = os_ticks();
    c->meter = mmap(NULL, CREW_MOST * sizeof *c->meter, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->meter == MAP_FAILED)
        return fail_sys(f, "share memory with", "workers");
    return 0;
}

/* Reads exactly n bytes; false at the end of the pipe. */
static bool
crew_read(int fd, void *data, size_t n)
{
    return os_read(fd, data, n, -1) == (ssize_t)n;
}

/* Carries out orders that came together, each with its length before it. Answers wait for
 * each other a moment: for CREW_BRIEF milliseconds, and for the order that is begun
 * before these are over. False: the parent is gone. */
static bool
crew_obey(struct crew *c, unsigned hand, struct span orders, struct buf *out, int answers)
{
    int64_t since = os_ticks();
    uint32_t n;

    buf_clear(out);
    while (orders.n) {
        struct crew_answer a = {.code = S3UP_OK};

        memcpy(&n, orders.p, sizeof n);
        orders = span_after(orders, sizeof n);
        c->meter[hand].body = 0;
        if (!c->work(c->context, hand, span_first(orders, n), &a))
            return false;
        orders = span_after(orders, n);
        buf_add(out, &a,
                a.code == S3UP_OK ? offsetof(struct crew_answer, text) : sizeof a);
        if (orders.n && os_ticks() - since < CREW_BRIEF)
            continue;
        if (out->bad || !os_write(answers, out->p, out->n))
            return false;
        buf_clear(out);
        since = os_ticks();
    }
    return true;
}

/* The life of a worker: a length, orders of so many bytes, their answers, and again. It
 * ends when the parent closes the pipe of orders, or is gone. All orders are read before
 * the first is begun, so the parent never waits for us while it writes. in has room for
 * the orders that go along, CREW_ORDER bytes at most, and the one before them. */
static void
crew_serve(struct crew *c, unsigned hand, int orders, int answers)
{
    struct buf in = buf_upto(2 * CREW_ORDER), out = buf_upto(CREW_ORDER);
    uint32_t n;

    while (crew_read(orders, &n, sizeof n) && n && n < in.max) {
        buf_clear(&in);
        if (!buf_need(&in, n) || !crew_read(orders, in.p, n))
            break;
        in.n = n;
        if (!crew_obey(c, hand, buf_span(&in), &out, answers))
            break;
    }
    buf_free(&in);
    buf_free(&out);
}

/* What a fork must do before anything else: it dies with its parent, leaves stops to it,
 * and closes what is not its own. */
static void
crew_settle(struct crew *c, unsigned hand, pid_t parent)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, usual = {.sa_handler = SIG_DFL};

    /* It may have died before we asked to be told of that. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(S3UP_LATER);
    (void)sigaction(SIGINT, &ignore, NULL); /* a terminal sends it to all of us */
    (void)sigaction(SIGHUP, &ignore, NULL);
    (void)sigaction(SIGUSR1, &ignore, NULL);
    /* Who sends this to a worker means it: whatever that was at is given to another. */
    (void)sigaction(SIGTERM, &usual, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    /* Another worker sees its orders end only when nobody has the other end open. */
    for (unsigned i = 0; i < c->most; i++)
        if (i != hand && c->hand[i].pid) {
            (void)close(c->hand[i].orders);
            (void)close(c->hand[i].answers);
        }
    c->leave(c->context);
}

/* Starts a worker. -1: none could be, and the hand is empty as before. */
static int
crew_hire(struct crew *c, unsigned hand, struct fail *f)
{
    struct crew_hand *h = &c->hand[hand];
    int orders[2], answers[2];
    pid_t parent = getpid();

    if (pipe2(orders, O_CLOEXEC) != 0)
        return fail_sys(f, "make a pipe for", "a worker");
    if (pipe2(answers, O_CLOEXEC) != 0) {
        (void)fail_sys(f, "make a pipe for", "a worker");
        (void)close(orders[0]);
        (void)close(orders[1]);
        return -1;
    }
    h->pid = fork();
    if (h->pid == 0) { /* with its own end of orders open, it would never see it end */
        (void)close(orders[1]);
        (void)close(answers[0]);
        crew_settle(c, hand, parent);
        crew_serve(c, hand, orders[0], answers[1]);
        _exit(S3UP_OK);
    }
    (void)close(orders[0]);
    (void)close(answers[1]);
    h->orders = orders[1];
    h->answers = answers[0];
    h->busy = 0;
    h->batch = 1; /* until it has shown how long orders take */
    h->age = *c->age;
    if (h->pid > 0)
        return 0;
    (void)fail_sys(f, "start", "a worker");
    h->pid = 0;
    (void)close(orders[1]);
    (void)close(answers[0]);
    return -1;
}

/* Ends a worker: one that is busy is killed, one that is idle goes home. What it had done
 * and not yet answered is lost here, not at the store. When this returns, the process is
 * gone, and with it every lock that it held. */
static void
crew_dismiss(struct crew *c, unsigned hand)
{
    struct crew_hand *h = &c->hand[hand];

    if (!h->pid)
        return;
    if (h->busy)
        (void)kill(h->pid, SIGKILL);
    (void)close(h->orders);
    (void)close(h->answers);
    while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    h->pid = 0;
    h->busy = 0;
    c->meter[hand].body = 0;
}

/* Ends all workers; only behind a crew_open that went well. */
static void
crew_close(struct crew *c)
{
    for (unsigned i = 0; i < c->most; i++)
        crew_dismiss(c, i);
    if (c->meter)
        (void)munmap(c->meter, CREW_MOST * sizeof *c->meter);
    buf_free(&c->more);
    c->meter = NULL;
    c->most = 0;
}

/* How many hands have orders. */
static unsigned
crew_busy(const struct crew *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->most; i++)
        n += c->hand[i].busy != 0;
    return n;
}

/* An idle hand, or CREW_MOST. Workers are preferred to places without one; those whose
 * keys are old are sent home. Where no worker can be started, those that are there must
 * do, or the parent itself. */
static unsigned
crew_idle(struct crew *c)
{
    unsigned place = CREW_MOST;

    if (crew_busy(c) >= c->pace.limit)
        return CREW_MOST;
    for (unsigned i = 0; i < c->most; i++) {
        if (c->hand[i].busy)
            continue;
        if (c->hand[i].pid && c->hand[i].age == *c->age)
            return i;
        crew_dismiss(c, i);
        place = place == CREW_MOST ? i : place;
    }
    if (c->most > 1 && c->full && crew_busy(c))
        return CREW_MOST; /* one of those who are at work will be idle in time */
    return place;
}

/* May an idle hand get one order more, beside the one that it will be given and those
 * that go along? */
static bool
crew_takes(const struct crew *c, unsigned hand)
{
    return c->hand[hand].pid && c->adds + 1 < c->hand[hand].batch;
}

/* The order goes along behind the next that is given. False: there is no room for it, and
 * what was there before is as it was. */
static bool
crew_add(struct crew *c, struct span order)
{
    struct buf *more = &c->more;
    uint32_t n = (uint32_t)order.n;
    size_t before = more->n;

    buf_add(more, &n, sizeof n);
    buf_put(more, order);
    c->adds += !more->bad;
    if (!more->bad)
        return true;
    more->bad = false;
    more->n = before;
    return false;
}

/* Writes an order, and those that go along behind it: the length of all, then each with
 * its own length, as crew_serve and crew_obey read them. False: the worker is dead. */
static bool
crew_send(struct crew *c, int fd, struct span order)
{
    uint32_t n = (uint32_t)order.n, all = (uint32_t)(c->more.n + sizeof n + order.n);

    return os_write(fd, &all, sizeof all) && os_write(fd, &n, sizeof n) &&
           os_write(fd, order.p, order.n) && os_write(fd, c->more.p, c->more.n);
}

/* Gives an order to an idle hand, and tells which hand took it: CREW_MOST if none can be
 * had now. A crew of one carries it out at once. */
static unsigned
crew_give(struct crew *c, unsigned hand, struct span order)
{
    struct crew_hand *h = &c->hand[hand];
    struct fail f = {S3UP_OK, ""};

    if (c->most > 1 && !h->pid && crew_hire(c, hand, &f) < 0) {
        if (!c->full)
            log_say(LOG_WARN, "%s: going on with fewer", f.text);
        c->full = true;
        if (crew_busy(c))
            return CREW_MOST;
        /* Nobody is there, else crew_idle had found him. */
        c->most = 1;
        hand = 0;
        h = c->hand;
    }
    c->meter[hand].body = 0;
    h->busy = c->adds + 1;
    h->since = os_ticks();
    if (c->most == 1) { /* crew_wait will find the answer */
        c->own = (struct crew_answer){.code = S3UP_OK};
        (void)c->work(c->context, hand, order, &c->own);
        h->age = *c->age; /* it has renewed them itself, if it could */
        return hand;
    }
    (void)crew_send(c, h->orders, order); /* if it is dead, its other pipe will tell */
    buf_clear(&c->more);
    c->adds = 0;
    return hand;
}

/* Reads one answer of a hand. When it is the last, that tells how many orders the hand
 * may get next time: twice as many if they took less than half of CREW_BRIEF, half as
 * many if they took longer than CREW_BRIEF, so that nobody waits long behind them. False:
 * the worker is dead, or died in the middle of a word. */
static bool
crew_hear(struct crew *c, unsigned hand, struct crew_answer *a)
{
    struct crew_hand *h = &c->hand[hand];
    int64_t took;

    if (!crew_read(h->answers, a, offsetof(struct crew_answer, text)))
        return false;
    a->text[0] = 0;
    if (a->code != S3UP_OK && !crew_read(h->answers, a->text, sizeof a->text))
        return false;
    /* It reads what strangers send: whatever they have made of it, texts end here. */
    a->etag[sizeof a->etag - 1] = a->text[sizeof a->text - 1] = 0;
    c->pace.answers++;
    if (--h->busy)
        return true;
    took = os_ticks() - h->since;
    if (took > CREW_BRIEF)
        h->batch = (h->batch + 1) / 2;
    else if (2 * took < CREW_BRIEF && h->batch < CREW_BATCH)
        h->batch *= 2;
    c->meter[hand].body = 0;
    return true;
}

/* Waits for an answer, not longer than so many milliseconds. Which hand it came from, or
 * CREW_MOST. A worker that died leaves an answer that says so. After a stop nobody is
 * waited for; with 0 milliseconds, answers that are there already can still be had. */
static unsigned
crew_wait(struct crew *c, int milliseconds, struct crew_answer *a)
{
    struct pollfd set[CREW_MOST + 1];
    unsigned hand[CREW_MOST], n = 0;

    if (c->most == 1 && c->hand[0].busy) {
        c->hand[0].busy = 0;
        *a = c->own;
        return 0;
    }
    for (unsigned i = 0; i < c->most; i++)
        if (c->hand[i].busy) {
            set[n] = (struct pollfd){.fd = c->hand[i].answers, .events = POLLIN};
            hand[n++] = i;
        }
    set[n] = (struct pollfd){.fd = c->also, .events = POLLIN}; /* -1 is passed over */
    if ((os_stop && milliseconds) || poll(set, n + 1, milliseconds) <= 0)
        return CREW_MOST;
    for (unsigned i = 0; i < n; i++) {
        if (!set[i].revents)
            continue;
        if (!crew_hear(c, hand[i], a)) {
            *a = (struct crew_answer){.code = S3UP_LATER, .died = true};
            crew_dismiss(c, hand[i]);
        }
        return hand[i];
    }
    return CREW_MOST;
}

/* ---- how many are at work ----
 *
 * More connections move more, up to a point that nobody knows in advance: the line may be
 * full, or the store may ask for less. So it is tried, in rounds. A round is over when
 * the hands have moved CREW_ENOUGH bytes, or given CREW_ANSWERS answers, for each of
 * them; not before CREW_ROUND milliseconds, nor after CREW_LONG. The number is doubled as
 * long as that moves a tenth more. If it does not, it is what it was before, for
 * CREW_HOLD rounds; then the other direction is tried: half as many stay if they move as
 * much, but for a twentieth. When the store asks for less, the number is halved at once,
 * and may grow to one below what was too many; each time it gets there, by one more.
 */

/* Adds up what was moved since the last look. The words that are shared wrap, which their
 * difference does not mind. What a socket has taken and not yet sent has not left this
 * machine: counted as moved, it would make every new connection look fast. */
static void
crew_look(struct crew *c)
{
    for (unsigned i = 0; i < CREW_MOST && c->meter; i++) {
        uint32_t now = c->meter[i].moved, more = now - c->last[i];
        uint32_t queue = c->meter[i].queue;

        c->last[i] = now;
        c->moved += more;
        c->pace.moved += (int64_t)more - (int64_t)queue + (int64_t)c->queue[i];
        c->queue[i] = queue;
    }
}

/* A new round begins, with so many hands. The first one after the number changed tells
 * nothing: new connections are slow to begin with. */
static void
crew_round(struct crew *c, unsigned limit)
{
    struct crew_pace *p = &c->pace;

    p->settling = limit != p->limit;
    p->limit = limit;
    p->since = os_ticks();
    p->moved = 0;
    p->answers = 0;
}

/* Did the store ask for less? Then half as many, and not soon again as many as that was.
 * Orders that were given before complain for the same reason; that was heard. Workers
 * count such answers in a word that they share with us, while they try again by
 * themselves: we hear of it long before the order is done. True: something was heard,
 * even if nothing came of it. */
static bool
crew_is_slowed(struct crew *c)
{
    struct crew_pace *p = &c->pace;
    bool heard = false, slowed = false;

    for (unsigned i = 0; i < CREW_MOST; i++) {
        uint32_t slow = c->meter[i].slow;

        c->hand[i].turned = slow != c->slow[i];
        c->slow[i] = slow;
        heard |= c->hand[i].turned;
        slowed |= c->hand[i].turned && c->hand[i].since >= p->slowed;
    }
    if (slowed) {
        p->slowed = os_ticks() + 1;
        p->ceiling = p->limit > 1 ? p->limit - 1 : 1;
        p->best = (p->limit + 1) / 2;
        p->rate = 0;
        p->hold = CREW_HOLD;
        crew_round(c, p->best);
    }
    return heard;
}

/* Somebody who is one too many now and was turned away by the store, so that nothing is
 * lost if another does its work later; or CREW_MOST. */
static unsigned
crew_surplus(const struct crew *c)
{
    if (c->most == 1 || crew_busy(c) <= c->pace.limit)
        return CREW_MOST;
    for (unsigned i = 0; i < c->most; i++) {
        struct pollfd answer = {.fd = c->hand[i].answers, .events = POLLIN};

        if (c->hand[i].busy == 1 && c->hand[i].turned && poll(&answer, 1, 0) == 0)
            return i;
    }
    return CREW_MOST;
}

/* Now and then, looks whether another number of hands would move more. More hands must
 * move a tenth more, else they are sent home; fewer may stay if they move as much. */
static void
crew_adapt(struct crew *c)
{
    struct crew_pace *p = &c->pace;
    int64_t took = os_ticks() - p->since;
    unsigned next;
    int64_t rate;

    crew_look(c); /* what was moved is shown also where the number is fixed */
    if (p->fixed || crew_is_slowed(c) || took < CREW_ROUND ||
        (p->moved < (int64_t)p->limit * CREW_ENOUGH &&
         p->answers < p->limit * CREW_ANSWERS && took < CREW_LONG))
        return;
    /* A request has a price of its own, as if it carried so many bytes more. */
    rate = (p->moved + (int64_t)p->answers * CREW_PRICE) * 1000 / took;
    /* Where there is not enough to do for so many, nothing can be learned about them. */
    if (p->settling || crew_busy(c) < p->limit) {
        crew_round(c, p->limit);
        return;
    }
    if (p->limit == p->best || (p->limit > p->best && rate > p->rate / 10 * 11) ||
        (p->limit < p->best && rate >= p->rate / 20 * 19)) {
        bool better = p->limit != p->best;

        p->best = p->limit;
        p->rate = rate;
        p->hold = better ? 0 : p->hold;
    } else { /* back to what was better */
        p->hold = CREW_HOLD;
        p->down = !p->down;
        crew_round(c, p->best);
        return;
    }
    next = p->limit;
    if (p->hold)
        p->hold--;
    else if (p->down)
        next = (p->limit + 1) / 2;
    else
        next = 2 * p->limit < p->ceiling ? 2 * p->limit : p->ceiling;
    if (next == p->limit && !p->hold) { /* there is no farther in this direction */
        if (!p->down && p->ceiling < c->most)
            p->ceiling++; /* not for ever: what was too much may have passed */
        p->hold = CREW_HOLD;
        p->down = !p->down;
    }
    crew_round(c, next);
}

/* Deals the rate out to those who are at work. Idle hands are told the same: whoever
 * begins next is not faster than the others until it is dealt out anew. However little
 * there is for each, it is never 0, which would mean no limit. */
static void
crew_share(struct crew *c, uint64_t rate)
{
    unsigned n = crew_busy(c);

    n = n ? n : 1;
    for (unsigned i = 0; i < c->most; i++)
        c->meter[i].rate = !rate                   ? 0
                           : rate / n > UINT32_MAX ? UINT32_MAX
                           : rate / n < S3_TRICKLE ? S3_TRICKLE
                                                   : (uint32_t)(rate / n);
}

/* ===== ROOM 14 transfer: a file becomes an object, an object becomes a file =====
 *
 * In: paths, a bucket and keys, what the user wants. Out: the object stored, or the file
 * in its place, whole and checked; or a reason, and nothing half done under a final name.
 * A small file is one request, and needs no journal. A large one is an upload of many
 * parts: what the store has acknowledged stands in the journal, and the same command, run
 * again, goes on behind it. Whoever runs uploads hears of what happens through one
 * function, xfer.event.
 *
 * A load is whatever is under way: an upload, a download or a copy. It is
 *     begun    xfer_begin takes it from next(), looks at it, and decides how it goes
 *     whole    one order, to one worker; its answer ends it
 *     parts    resumed (xfer_resume, xfer_down_fits) or new (xfer_create, xfer_new_down);
 *              each part is ordered, answered, and noted by xfer_sent
 *     joined   all parts are noted, none is under way: xfer_complete, xfer_finish_down
 *     anew     what it is made of has changed: xfer_over, xfer_over_down; once in a run
 *     ended    xfer_end: the event, the ledger, the journal's end; then it is freed
 * Workers send and fetch; the parent alone creates, joins and aborts uploads, and alone
 * writes journals. So a worker can be killed at any moment.
 *
 * What holds after a crash between any two steps, as long as there is a journal (where
 * none can be written, a transfer goes on without, and begins anew the next time):
 *  1. What an upload is made of is on disk before the store is asked for the upload.
 *  2. Its id is on disk before any part is sent. A crash between the two leaves an upload
 *     that nobody knows: it costs room at the store until it is swept.
 *  3. A part counts only if it is noted, and the store has the last word on whether it
 *     is there. A note that was not yet on disk costs a look at the part, or sends it
 *     again.
 *  4. "completing" is on disk before the store is asked to join: an upload that is gone
 *     may then have become the object, and the token in its metadata tells.
 *  5. A journal goes when its object is stored, or its upload is given up; never before.
 *  6. A file that is fetched has its final name only when it is whole, checked and
 *     synced.
 *
 * It refuses to replace what it was told not to replace, to mix bytes of two states of a
 * file or an object, and to call stored what the store has not said that it has. To add a
 * wish, put it into struct xfer_wish and, if an upload that was begun without it is then
 * another upload, into xfer_digest. To add a kind of transfer, begin it in xfer_begin,
 * pack its order in xfer_put_order, and carry it out in xfer_work.
 */

/* What the user wants of all transfers of a run. */
struct xfer_wish {
    const struct s3_pair *heads; /* header fields for the objects */
    unsigned n;
    /* AUTO: one if the store is AWS and the connection is TLS, else the signature's. */
    enum xfer_checksum { XFER_AUTO, XFER_NONE, XFER_KIND } checksum;
    enum sum_kind kind; /* if XFER_KIND */
    /* What is there already stays, and that is a failure; what an earlier run began is
     * given up. */
    bool no_clobber, restart;
    bool sure; /* never in place of another's; and the store must prove that it has it */
    bool overwrite;  /* but also in place of another's */
    bool if_changed; /* what is there already, the same, is passed over */
    bool replace;    /* a copy gets the header fields alone, not those of its source */
    /* Bytes. Parts are larger only if an upload could not hold the file else; what is
     * larger than the threshold is sent in parts, see xfer_limit. */
    uint64_t part_size, threshold;
    bool jobs_fixed;      /* as many workers as were asked for, not fewer */
    uint64_t rate;        /* bytes a second, of all workers; 0: no limit */
    const char *journal;  /* where it shall be; NULL: in the folder */
    const char *folder;   /* for the state of transfers; NULL: there is none */
    bool slice;           /* of objects only that is fetched: */
    int64_t from, length; /* from < 0: the last bytes; length 0: to the end */
};

#define XFER_MTIME "x-amz-meta-mtime" /* as rclone and others note a file's time */

/* How bytes are summed on their way; the same for all requests of a run. */
struct xfer_sums {
    bool is_unsigned; /* the request's signature does not cover the body */
    bool has_md5;     /* an MD5 travels in a header, and the ETag should be the same */
    bool has_kind;    /* a checksum travels in a header of its own */
    enum sum_kind kind;
};

/* Which sums the wish comes to at this store. */
static struct xfer_sums
xfer_sums(const struct store *st, const struct xfer_wish *w)
{
    bool aws_tls = st->aws && st->url.https;
    struct xfer_sums s;

    s.has_kind = w->checksum == XFER_KIND || (w->checksum == XFER_AUTO && aws_tls);
    s.kind = w->checksum == XFER_KIND ? w->kind : SUM_CRC64NVME;
    /* Over TLS a checksum makes a signed digest superfluous; and who wants none gets
     * none. */
    s.is_unsigned = (st->url.https && s.has_kind) || w->checksum == XFER_NONE;
    s.has_md5 = w->sure;
    return s;
}

/* The sum by which a part is known again, as the journal has it: one made with another
 * cannot be compared, so it is part of what identifies an upload. */
static const char *
xfer_sum_name(const struct xfer_sums *s)
{
    return s->has_kind ? sum_kinds[s->kind].name : s->is_unsigned ? "none" : "sha256";
}

/* What the owner of a run gives: files that become one object, a stream that does, an
 * object that becomes a file, or one that becomes another object. All but the stream and
 * its producer, which pass to us, and the type stay the owner's, and are copied. */
struct xfer_item {
    const char *const *path;
    unsigned files; /* 0: a stream */
    struct span key;
    bool down;
    int64_t size;   /* of the object; -1: not known */
    int root;       /* the tree that the file is in; AT_FDCWD: it is in none */
    unsigned below; /* where in its path that begins what is below the root */
    struct span from_bucket,
        from_key;     /* of an object that is to be copied by the store */
    const char *type; /* the media type, or NULL; must live as long as the run */
    int fd;           /* of the stream */
    pid_t producer;   /* that must end well before the stream counts as whole; or 0 */
    const struct os_id *was; /* what the file must still be; or NULL */
};

/* A stream has no size before it ends. What was read stays in memory that workers share
 * until the store has it: part N lies in place N - 1 modulo the number of places. */
struct xfer_stream {
    int fd;                /* ours to close */
    pid_t producer;        /* ours to wait for, or 0: there is none, or it has ended */
    char *ring;            /* places, each of a part's size */
    unsigned places, full; /* in the ring; and parts that were read to their end */
    int64_t have;          /* bytes of the part that is being read */
    bool ended, warned;    /* nothing more comes; it was said that little more may come */
};

/* By what it is known that what came is what was stored. */
struct xfer_said {
    char etag[CREW_ETAG]; /* as it came */
    bool is_md5;          /* it tells the MD5 of the whole */
    bool has_sum;         /* there is a checksum of the whole */
    enum sum_kind kind;
    char sum[2 * JRN_SUM]; /* in base 64 */
};

/* An object that the store itself makes another of. */
struct xfer_copy {
    struct buf source; /* as the store wants it: BUCKET/KEY, percent-encoded */
    struct buf text;   /* holds what follows points into */
    char etag[CREW_ETAG];
    struct s3_pair head[S3_PAIRS]; /* that go with it, if it goes in parts */
    unsigned n;
};

/* A file, or several in a row, on the way to one object; or an object on the way to a
 * file, or to another object. It owns what it points to, but for the media type. */
struct xfer_load {
    struct xfer_load *next;
    uint32_t serial;         /* never 0, and no two in a run have the same */
    struct jrn_source *file; /* as they are now; a stream and a copy have a name here */
    unsigned files;          /* 0: it is a stream, or a copy */
    struct buf key;
    const char *type; /* the media type, or NULL */
    struct part_plan plan;
    struct jrn_facts facts; /* as the journal has them */
    struct jrn journal;
    struct xfer_stream *stream; /* NULL: it is read from files */
    unsigned char *given;       /* for each part, from 1 on: is somebody sending it? */
    bool whole;                 /* it goes in one request */
    bool down;                  /* it is a download */
    int root;                   /* as in struct part_name */
    unsigned below;
    struct xfer_copy *copy; /* NULL: it is none */
    bool whole_only;        /* the store does not send parts of it */
    bool unsure;            /* of some parts it is not known whether the store has them */
    int64_t from;           /* where in the object that begins what is fetched */
    int64_t total;          /* and how large the object is */
    struct part_place place;
    int temp; /* the temporary file of a download in parts, locked; -1: closed */
    struct xfer_said said;
    struct os_time modified; /* as the object's metadata say */
    struct stat old;         /* the file that it replaces */
    bool again;              /* it has started over once */
    bool same;               /* the files are what they were when their parts were sent */
    bool kept;               /* there was nothing to do */
    /* If it fails now, no run can go on with it: no journal tells of it, or what is there
     * is of no use. Then its upload or its file is removed. */
    bool orphan;
    unsigned ahead;        /* the least number that may still have to be given */
    unsigned flying;       /* orders that are being carried out */
    unsigned found;        /* parts that were stored by an earlier run */
    unsigned deaths;       /* of workers that were sending it */
    int64_t begun;         /* ticks */
    char etag[CREW_ETAG];  /* of what was stored or fetched, once it was */
    char match[CREW_ETAG]; /* what is there may be replaced if it is still that */
};

/* What the owner of a run hears of. Each load that it gave ends in exactly one of the
 * last three, and is freed when the owner returns from that. */
struct xfer_event {
    enum {
        XFER_START,  /* in parts, from the beginning */
        XFER_RESUME, /* in parts, behind those that load->found counts */
        XFER_PART,   /* one is stored, or fetched */
        XFER_RETRY,  /* an order was not carried out at the first attempt */
        XFER_OVER,   /* it begins anew */
        XFER_DONE,
        XFER_SAME, /* there was nothing to do */
        XFER_FAILED
    } kind;
    const struct xfer_load *load;
    unsigned number;         /* of the part, if it is about one */
    const char *text;        /* why it starts over */
    const struct fail *fail; /* if it failed */
};

/* A run. The owner sets st, wish, bucket, next, event, owner and lock, and may know from
 * an earlier run what is hopeless or proven; xfer_run fills the rest. A worker has a
 * copy, as it was when the worker was started: only what does not change may be used
 * there. */
struct xfer {
    struct store *st;
    const struct xfer_wish *wish;
    struct xfer_sums sums;
    struct span bucket;
    struct crew crew;
    struct jrn_ledger ledger;
    const char *ring; /* of the stream, if there is one */
    int64_t since;    /* ticks when the run began: what is younger was written by it */
    struct xfer_load *loads; /* under way */
    uint32_t serial;         /* of the last that was begun */
    struct xfer_doing {
        uint32_t serial, number;   /* the load, or 0: nothing; and the part of it */
        uint32_t next[CREW_BATCH]; /* serials of whole files that it sends after that */
        unsigned at, n;            /* the first of them, and behind the last */
    } doing[CREW_MOST];            /* for each hand: what its next answer is about */
    /* What is next to be transferred; false when there is no more. But for the type, what
     * it points to is copied before the next one is asked for. */
    bool (*next)(void *owner, struct xfer_item *item);
    void (*event)(void *owner, const struct xfer_event *e);
    void *owner;
    int lock;     /* a file that the caller has locked, or 0: workers must not hold it */
    bool no_more; /* next() is not asked again */
    enum s3up_exit hopeless; /* not S3UP_OK: the rest would fail for the same reason */
    bool proven;             /* the store has taken something */
    bool sumless;            /* it takes no sums in a list of parts */
    unsigned renewed;        /* renewals of the keys since it last took something */
};

/* What a checksum is called: in a header of a request, among the names of algorithms, and
 * as an element in a list of parts. */
static const struct {
    const char *header, *algorithm, *element;
} xfer_names[SUM_KINDS] = {
    {"content-md5", NULL, NULL},
    {"x-amz-checksum-sha256", "SHA256", "ChecksumSHA256"},
    {"x-amz-checksum-crc32", "CRC32", "ChecksumCRC32"},
    {"x-amz-checksum-crc32c", "CRC32C", "ChecksumCRC32C"},
    {"x-amz-checksum-crc64nvme", "CRC64NVME", "ChecksumCRC64NVME"},
};

/* The header that carries a checksum, and the one that some stores want beside it before
 * they look at it. text must live as long as the call. */
static void
xfer_checksum_header(struct s3_call *call, enum sum_kind kind,
                     const unsigned char *digest, struct buf *text)
{
    buf_clear(text);
    b64_put(text, digest, sum_kinds[kind].size);
    s3_header(call, xfer_names[kind].header, buf_span(text));
    if (xfer_names[kind].algorithm)
        s3_header(call, "x-amz-sdk-checksum-algorithm",
                  span_of(xfer_names[kind].algorithm));
}

/* What the sums of a call are written into, since a call only points to its texts; it
 * must live as long as the call. */
struct xfer_seal {
    struct buf text, md5;
    char hex[SIG_HEX];
    unsigned char digest[MD5_SIZE]; /* if there is an MD5 */
};

/* Puts a failure into an answer. Always true. */
static bool
xfer_answer(struct crew_answer *a, const struct fail *f)
{
    a->code = f->code;
    s3_copy_name(a->text, sizeof a->text, span_of(f->text));
    return true;
}

/* Reads a stretch once, to give the call the sums that it is sent with; when it is sent
 * it is read again, and if a byte is another by then the store refuses it. The sum by
 * which the stretch is known again goes into the answer: the last of those that are made,
 * see xfer_known_kind. -1: the answer says why. */
static int
xfer_seal(const struct part_stretch *s, const struct xfer_sums *how, struct s3_call *call,
          struct xfer_seal *seal, struct crew_answer *a)
{
    struct part_sums sums = {.n = 0};
    struct fail f = {S3UP_OK, ""};
    const unsigned char *digest;

    if (how->has_md5)
        sum_init(&sums.at[sums.n++], SUM_MD5);
    if (!how->is_unsigned)
        sum_init(&sums.at[sums.n++], SUM_SHA256);
    if (how->has_kind)
        sum_init(&sums.at[sums.n++], how->kind);
    call->payload = SIG_UNSIGNED;
    call->body = (struct s3_body){.length = s->length, .read = part_read, .from = s};
    if (!sums.n) /* nothing is wanted: then it is read once only */
        return 0;
    if (part_sum(s, &sums, &f) < 0) {
        (void)xfer_answer(a, &f);
        return -1;
    }
    digest = sums.digest[sums.n - 1];
    memcpy(a->sum, digest, how->has_kind ? sum_kinds[how->kind].size : SHA256_SIZE);
    if (how->has_kind)
        xfer_checksum_header(call, how->kind, digest, &seal->text);
    if (how->has_md5)
        memcpy(seal->digest, sums.digest[0], MD5_SIZE);
    /* Not a second time, if it is the checksum that was asked for. */
    if (how->has_md5 && !(how->has_kind && how->kind == SUM_MD5))
        xfer_checksum_header(call, SUM_MD5, seal->digest, &seal->md5);
    if (!how->is_unsigned) {
        sig_hex(sums.digest[how->has_md5], seal->hex);
        call->payload = seal->hex;
    }
    return 0;
}

/* The time of a file, for the object's metadata: seconds, and nine digits of a fraction
 * if there is one. False if it cannot be told so, being before 1970. */
static bool
xfer_put_mtime(struct buf *out, struct os_time t)
{
    if (t.s < 0)
        return false;
    buf_num(out, (uint64_t)t.s);
    if (t.ns)
        buf_char(out, '.');
    for (int32_t unit = 100000000; unit && t.ns; unit /= 10)
        buf_char(out, (char)('0' + t.ns / unit % 10));
    return true;
}

/* ---- one request: a whole object, or a part of one ----
 *
 * What is there may have to stay. Then it is looked up first, which spares the sending,
 * and the request carries a condition, so that the store itself decides: only where no
 * object is (xfer_put_new), or only in place of one that is known (xfer_put_match). An
 * attempt whose reply was lost may have been heard, and then the next one is refused by
 * what the first has stored: that must not look like somebody else's object. A store that
 * knows no conditions is asked without, and the user is warned.
 */

/* A failure that is about one object. */
static int
xfer_fail(struct fail *f, enum s3up_exit code, struct span bucket, struct span key,
          const char *why)
{
    return fail_set(f, code, "s3://%.*s/%.*s%s", (int)bucket.n, bucket.p, (int)key.n,
                    key.p, why);
}

/* 0 if the key is free. What it says may be over by the time the object is sent: it only
 * spares the sending, and is all there is at stores that know no conditions. */
static int
xfer_taken(struct store *st, struct span bucket, struct span key, struct fail *f)
{
    struct fail now = {S3UP_OK, ""};

    if (s3_head_object(st, bucket, key, &now) == 0)
        return xfer_fail(f, S3UP_EXISTS, bucket, key, " exists already");
    return now.code == S3UP_MISSING ? 0 : fail_set(f, now.code, "%s", now.text);
}

/* Is what is stored there what carried this token? If the reply to a first attempt is
 * lost, the second is refused because of the first: the token tells such an object from
 * one that somebody else wrote. 1: ours, 0: another's, or nothing, -1: not known. */
static int
xfer_is_ours(struct store *st, struct span bucket, struct span key, struct span token)
{
    struct fail f = {S3UP_OK, ""};

    if (s3_head_object(st, bucket, key, &f) < 0)
        return f.code == S3UP_MISSING ? 0 : -1;
    return span_eq(s3_value(st, "x-amz-meta-s3up-id"), token);
}

/* The store refused a condition that had held when we looked. */
static int
xfer_was_taken(const struct s3_call *call, struct fail *f)
{
    return xfer_fail(f, S3UP_EXISTS, call->bucket, call->key,
                     " exists already: somebody else wrote it a moment ago");
}

/* A warning, for whoever wants that nothing is replaced: it cannot be promised. */
static void
xfer_warn_race(void)
{
    log_say(LOG_WARN, "this store cannot write under a condition: whether the object "
                      "exists was looked up before, and another writer could come in "
                      "between");
}

/* A token, in hex: it goes into an object's metadata, and tells it from any that another
 * run or program has written. */
static int
xfer_token(char out[2 * JRN_ID + 1], struct fail *f)
{
    unsigned char token[JRN_ID];
    struct buf text = buf_upto(64);

    if (!os_random(token, sizeof token))
        return fail_sys(f, "find random numbers for", "a token");
    hex_put(&text, token, sizeof token);
    s3_copy_name(out, 2 * JRN_ID + 1, buf_span(&text));
    buf_free(&text);
    return 0;
}

/* Sends the call of a PutObject, only where no object is. What stores say to a condition
 * is told apart: taken, by us or by others (412); somebody is writing there, come again
 * (ConditionalRequestConflict); never heard of it (501), and then it goes without. */
static int
xfer_put_new(struct store *st, struct s3_call *call, struct fail *f)
{
    struct s3_call plain = *call;
    char id[2 * JRN_ID + 1];
    struct fail now;
    unsigned n = 0;
    int rc;

    if (xfer_token(id, f) < 0)
        return -1;
    s3_header(call, "if-none-match", SPAN("*"));
    s3_header(call, "x-amz-meta-s3up-id", span_of(id));
    /* The other writer may fail yet, and then the key is free. */
    for (;; s3_pause(st, n++, false)) {
        now = (struct fail){S3UP_OK, ""};
        rc = s3_put_object(st, call, &now);
        if (rc == 0 || n == st->config.retries || os_stop ||
            !span_is(span_of(st->error.code), "ConditionalRequestConflict"))
            break;
    }
    if (rc < 0 && st->error.status == 412)
        return xfer_is_ours(st, call->bucket, call->key, span_of(id)) == 1
                   ? 0
                   : xfer_was_taken(call, f);
    if (rc < 0 && st->error.status == 501) {
        xfer_warn_race();
        return s3_put_object(st, &plain, f);
    }
    return rc < 0 ? fail_set(f, now.code, "%s", now.text) : 0;
}

/* Does the ETag of this reply tell the MD5 of the object? Not if it was made of parts, or
 * if the object lies encrypted with a key of somebody's own. */
static bool
xfer_is_md5(const struct store *st, struct span etag)
{
    unsigned char digest[MD5_SIZE];

    return hex_read(etag, digest, sizeof digest) &&
           !span_starts(s3_value(st, "x-amz-server-side-encryption"), "aws:") &&
           !s3_value(st, "x-amz-server-side-encryption-customer-algorithm").n;
}

/* Does the reply to what was sent tell, by MD5 or checksum, that the store has it? Only
 * where proof is wanted (has_md5): a Content-MD5 had the store compare what arrived
 * before it named the sum. If it does not tell, the object is asked for what it is. */
static bool
xfer_is_echo(const struct store *st, const struct xfer_sums *how,
             const struct xfer_seal *seal, const struct crew_answer *a)
{
    struct span etag = s3_bare(s3_value(st, "etag"));
    unsigned char got[MD5_SIZE];
    struct buf sum = buf_upto(128);
    bool same = false;

    if (how->has_kind && how->kind != SUM_MD5) {
        b64_put(&sum, a->sum, sum_kinds[how->kind].size);
        same = span_eq(s3_value(st, xfer_names[how->kind].header), buf_span(&sum));
        buf_free(&sum);
    }
    return how->has_md5 &&
           (same || (xfer_is_md5(st, etag) && hex_read(etag, got, sizeof got) &&
                     sum_equal(got, seal->digest, sizeof got)));
}

/* Must what is there under a key stay? */
static bool
xfer_guards(const struct xfer_wish *w)
{
    return w->no_clobber || (w->sure && !w->overwrite);
}

/* Sends the call of a PutObject in place of the object that has this ETag. Ceph knows it
 * only without its quotation marks. If another object is there by now, it stays. Of a
 * reply that was lost, the next attempt is refused by what the first has stored: the
 * caller looks again, and finds it to be the same. */
static int
xfer_put_match(struct store *st, struct s3_call *call, const char *match, struct fail *f)
{
    const struct s3_call plain = *call;
    struct fail now = {S3UP_OK, ""};

    s3_header(call, "if-match", span_of(match));
    if (s3_put_object(st, call, &now) == 0)
        return 0;
    if (st->error.status == 412) {
        *call = plain;
        s3_header(call, "if-match", s3_bare(span_of(match)));
        return s3_put_object(st, call, f);
    }
    if (st->error.status != 501)
        return fail_set(f, now.code, "%s", now.text);
    xfer_warn_race();
    *call = plain;
    return s3_put_object(st, call, f);
}

/* Uploads a stretch in one request. match: the object may replace the one that has this
 * ETag; or it is empty. What came of it stands in the answer: whoever asks whether the
 * key is free does so before the file is read, which may take long. */
static void
xfer_send_whole(struct xfer *x, const struct part_stretch *s, struct s3_call *call,
                const char *match, struct crew_answer *a)
{
    struct xfer_seal seal = {.text = buf_upto(128), .md5 = buf_upto(128)};
    struct fail f = {S3UP_OK, ""};

    if ((!x->wish->no_clobber || xfer_taken(x->st, call->bucket, call->key, &f) == 0) &&
        xfer_seal(s, &x->sums, call, &seal, a) == 0) {
        for (unsigned i = 0; i < x->wish->n; i++) /* the user has the last word */
            s3_header(call, x->wish->heads[i].name, x->wish->heads[i].value);
        if ((*match                 ? xfer_put_match(x->st, call, match, &f)
             : xfer_guards(x->wish) ? xfer_put_new(x->st, call, &f)
                                    : s3_put_object(x->st, call, &f)) == 0) {
            s3_copy_name(a->etag, sizeof a->etag, s3_value(x->st, "etag"));
            a->sure = xfer_is_echo(x->st, &x->sums, &seal, a);
        }
    }
    if (f.code != S3UP_OK)
        (void)xfer_answer(a, &f);
    buf_free(&seal.text);
    buf_free(&seal.md5);
}

/* Uploads a stretch as one part of an upload. An ETag that does not fit into an answer
 * cannot be told to the parent, and cut it would join nothing: that is a failure. */
static void
xfer_send_part(struct xfer *x, const struct part_stretch *s, struct s3_call *call,
               struct span id, struct crew_answer *a)
{
    struct xfer_seal seal = {.text = buf_upto(128), .md5 = buf_upto(128)};
    struct buf number = buf_upto(16), etag = buf_upto(JRN_UPLOAD);
    struct fail f = {S3UP_OK, ""};

    call->what = "UploadPart";
    s3_name_part(call, id, a->number, &number);
    if (xfer_seal(s, &x->sums, call, &seal, a) == 0 &&
        s3_upload_part(x->st, call, &etag, &f) == 0) {
        if (etag.n >= sizeof a->etag)
            (void)fail_set(&f, S3UP_LATER, "the store's ETag is %zu bytes long", etag.n);
        else
            s3_copy_name(a->etag, sizeof a->etag, buf_span(&etag));
    }
    if (f.code != S3UP_OK)
        (void)xfer_answer(a, &f);
    else
        a->sure = xfer_is_echo(x->st, &x->sums, &seal, a);
    buf_free(&seal.text);
    buf_free(&seal.md5);
    buf_free(&number);
    buf_free(&etag);
}

/* ---- one request: an object, or a stretch of one ----
 *
 * A connection that breaks in the middle does not begin anew: the next request asks for
 * what is still missing, on the condition that the object is the one whose ETag the first
 * reply named. The sums run on over all attempts. What cannot be told from another object
 * cannot be gone on with.
 */

/* An object, or a stretch of one, on its way to a file descriptor. */
struct xfer_get {
    struct span bucket, key;
    int fd;
    const char *path; /* of fd, for messages */
    const struct part_stretch
        *like;            /* what comes is not written, but held against that */
    bool differs;         /* and is not like it */
    int64_t place;        /* where in the file the first byte goes; -1: where fd stands */
    int64_t from, length; /* the stretch; a length below 0: the whole */
    int64_t limit;        /* what is larger is not fetched in one piece; 0: all is */
    /* Bytes of the stretch that came, in all attempts; and of the object, -1 if that is
     * not known. */
    int64_t done, total;
    struct xfer_said said;
    bool has_kind; /* the stretch is summed in this way */
    enum sum_kind kind;
    struct sum md5, sum;           /* of what came; md5 only of a whole */
    unsigned char digest[JRN_SUM]; /* the sum, at the end */
    struct os_time modified;       /* of the file that was stored; ns < 0: not known */
    bool in_tree;                  /* the file is one of many */
    bool begun;                    /* the last request was answered */
    bool endless; /* it ends where the connection ends, wherever that is */
    bool full;    /* fd takes no more: no new attempt would mend that */
    bool large, changed, whole_only; /* why it was not fetched */
};

/* What the reply says about the whole object. A checksum with a dash in it is one of the
 * checksums of parts. */
static void
xfer_learn(const struct store *st, struct xfer_said *p)
{
    struct span etag = s3_value(st, "etag"), type = s3_value(st, "x-amz-checksum-type");

    *p = (struct xfer_said){.is_md5 = xfer_is_md5(st, s3_bare(etag))};
    if (etag.n < sizeof p->etag)
        s3_copy_name(p->etag, sizeof p->etag, etag);
    for (int k = SUM_MD5 + 1; k < SUM_KINDS; k++) {
        struct span sum = s3_value(st, xfer_names[k].header);

        /* Of an object of parts some stores name a sum of sums and do not say so. */
        if (!sum.n || sum.n >= sizeof p->sum || span_has(sum, '-') ||
            span_is(type, "COMPOSITE") ||
            (span_has(etag, '-') && k != SUM_CRC64NVME && !span_is(type, "FULL_OBJECT")))
            continue;
        p->has_sum = true;
        p->kind = (enum sum_kind)k;
        s3_copy_name(p->sum, sizeof p->sum, sum);
    }
}

/* When the file that was stored was modified, as several programs note it: seconds, and
 * perhaps a fraction, of which nine digits count. ns is -1 if nothing is noted, or
 * something else. */
static struct os_time
xfer_modified(const struct store *st)
{
    struct span rest = s3_value(st, XFER_MTIME), whole;
    struct os_time none = {0, -1};
    uint64_t seconds, part = 0;

    (void)span_cut(&rest, '.', &whole);
    rest = span_first(rest, 9);
    if (!num_parse(whole, INT64_MAX, &seconds) ||
        (rest.n && !num_parse(rest, INT64_MAX, &part)))
        return none;
    for (size_t digits = rest.n; digits < 9; digits++)
        part *= 10;
    return (struct os_time){(int64_t)seconds, (int32_t)part};
}

/* Asks for an object, and for the checksums that the store has of it. Some stores refuse
 * to be asked for these. */
static int
xfer_ask(struct store *st, struct s3_call *call, struct fail *f)
{
    struct s3_call plain = *call;
    struct fail now = {S3UP_OK, ""};

    if (st->plain_heads)
        return s3_get_object(st, call, f);
    s3_header(call, "x-amz-checksum-mode", SPAN("ENABLED"));
    if (s3_get_object(st, call, &now) == 0)
        return 0;
    if (st->error.status != 400 || !span_is(span_of(st->error.code), "InvalidArgument"))
        return fail_set(f, now.code, "%s", now.text);
    st->plain_heads = true;
    return s3_get_object(st, &plain, f);
}

/* The head of a reply with a stretch in it: it must be the one that was asked for, of the
 * same object. A store that ignores the range, and sends all with a 200, is caught here
 * before a byte is written to the wrong place. -1 with g->changed: f is left as it is. */
static int
xfer_check_range(const struct store *st, struct xfer_get *g, struct fail *f)
{
    const struct head *h = &st->conn.head;
    struct span range = http_value(h, "content-range"), etag = http_value(h, "etag"),
                part;
    uint64_t first, last, total;
    int64_t end;

    g->whole_only = h->status == 200;
    if (h->status != 206 || !span_starts(range, "bytes "))
        return fail_set(f, S3UP_LATER,
                        "the store does not send the rest of an object alone");
    /* bytes 100-199/200 */
    range = span_after(range, 6);
    if (!span_cut(&range, '-', &part) || !num_parse(part, INT64_MAX, &first) ||
        !span_cut(&range, '/', &part) || !num_parse(part, INT64_MAX, &last) ||
        !num_parse(range, INT64_MAX, &total))
        total = first = last = 0; /* no stretch lies in nothing: it is refused below */
    end = g->length >= 0 ? g->from + g->length : (int64_t)total;
    if (!total || (int64_t)first != g->from + g->done || (int64_t)last != end - 1 ||
        (g->total >= 0 && (int64_t)total != g->total) ||
        (h->length >= 0 && h->length != end - (int64_t)first))
        return fail_set(f, S3UP_LATER, "the store sent another piece than was asked for");
    g->total = (int64_t)total;
    g->changed = etag.n && g->said.etag[0] && !span_is(etag, g->said.etag);
    return g->changed ? -1 : 0;
}

/* The head of a reply: that of a whole object says what is to be expected of it. */
static int
xfer_check_head(const struct store *st, struct xfer_get *g, struct fail *f)
{
    const struct head *h = &st->conn.head;

    if (g->done || g->length >= 0)
        return xfer_check_range(st, g, f);
    if (h->status != 200)
        return fail_set(f, S3UP_LATER,
                        "the store answered %u to a question for the whole", h->status);
    xfer_learn(st, &g->said);
    g->modified = xfer_modified(st);
    g->total = h->length;
    /* TLS tells a connection that was ended from one that was cut. */
    g->endless = st->conn.body == BODY_CLOSE && !st->url.https;
    g->large = g->limit && g->total > g->limit;
    if (g->large)
        return fail_set(f, S3UP_LATER, "it is too large for one request");
    g->has_kind = g->said.has_sum;
    g->kind = g->said.kind;
    if (g->has_kind)
        sum_init(&g->sum, g->kind);
    return 0;
}

/* How many bytes at the beginning are the same. */
static size_t
xfer_alike(const char *a, const char *b, size_t n)
{
    size_t same = 0;

    while (same < n && a[same] == b[same])
        same++;
    return same;
}

/* Holds bytes that came against those that they should be like. g->done counts those that
 * are, so at the first difference it tells where that is. */
static int
xfer_compare_piece(struct store *st, struct xfer_get *g, size_t n, struct fail *f)
{
    char ours[4096];

    for (size_t i = 0; i < n;) {
        int64_t left = g->like->length - g->done;
        size_t take = n - i < sizeof ours ? n - i : sizeof ours, same;

        take = left < (int64_t)take ? (size_t)left : take;
        if (take && part_read(g->like, ours, take, g->done, f) < 0)
            return -1;
        same = xfer_alike(ours, st->window + i, take);
        g->done += (int64_t)same;
        i += same;
        g->differs = !take || same < take;
        if (g->differs)
            return fail_set(f, S3UP_DAMAGED, "the bytes differ");
    }
    return 0;
}

/* Writes the body of the reply as it comes. What was written is counted before the next
 * is read, so that an attempt that breaks has left g->done right. */
static int
xfer_receive(struct store *st, struct xfer_get *g, struct fail *f)
{
    int64_t due = g->length >= 0 ? g->length : g->total;
    ssize_t did;

    while ((did = http_read(&st->conn, st->window, s3_piece(st, INT64_MAX), f)) > 0) {
        if (due >= 0 && did > due - g->done)
            return fail_set(f, S3UP_LATER, "the store sent more than was asked for");
        s3_moved(st, (size_t)did, g->done + did);
        if (g->said.is_md5 && g->length < 0)
            sum_add(&g->md5, st->window, (size_t)did);
        if (g->has_kind)
            sum_add(&g->sum, st->window, (size_t)did);
        if (g->like) {
            if (xfer_compare_piece(st, g, (size_t)did, f) < 0)
                return -1;
            continue;
        }
        if (!os_write_at(g->fd, st->window, (size_t)did,
                         g->place < 0 ? -1 : g->place + g->done)) {
            g->full = true; /* no new attempt would mend that */
            return errno == EPIPE
                       ? fail_set(f, S3UP_CLOSED, "nobody reads the output any more")
                       : fail_sys(f, "write", g->path);
        }
        g->done += did;
    }
    if (did == 0 && g->done < due)
        return fail_set(f, S3UP_LATER, "the store sent less than was asked for");
    return did < 0 ? -1 : 0;
}

/* One request, for what is still missing. -1: g says what of it may be tried again. */
static int
xfer_get_once(struct store *st, struct xfer_get *g, struct fail *f)
{
    struct s3_call call = s3_to("GetObject", "GET", g->bucket, g->key);
    struct buf range = buf_upto(64);
    struct fail now = {S3UP_OK, ""};
    bool whole = !g->done && g->length < 0, conditional = g->said.etag[0] != 0;
    int rc;

    g->begun = false;
    if (!whole) {
        buf_str(&range, "bytes=");
        buf_num(&range, (uint64_t)(g->from + g->done));
        buf_char(&range, '-');
        if (g->length >= 0)
            buf_num(&range, (uint64_t)(g->from + g->length - 1));
        s3_header(&call, "range", buf_span(&range));
    }
    if (conditional)
        s3_header(&call, "if-match", span_of(g->said.etag));
    /* The sums that a store names are of the whole: with a stretch they are of no use. */
    rc = whole ? xfer_ask(st, &call, &now) : s3_get_object(st, &call, &now);
    buf_free(&range);
    g->begun = rc == 0;
    if (rc == 0)
        rc = xfer_check_head(st, g, &now) < 0 ? -1 : xfer_receive(st, g, &now);
    else /* If-Match did not hold, or it has become shorter than that */
        g->changed = (conditional && st->error.status == 412) ||
                     (!whole && st->error.status == 416);
    if (rc < 0)
        http_close(&st->conn); /* there may be more of it under way */
    if (g->changed)
        return xfer_fail(f, S3UP_SKIPPED, g->bucket, g->key,
                         " changed while it was being fetched");
    return rc < 0 ? fail_set(f, now.code, "%s", now.text) : 0;
}

/* The bytes that came are not those that the store says it has. */
static int
xfer_is_damaged(const struct xfer_get *g, const char *what, struct fail *f)
{
    return fail_set(f, S3UP_DAMAGED,
                    "s3://%.*s/%.*s: the bytes that came do not have the %s that the "
                    "store names",
                    (int)g->bucket.n, g->bucket.p, (int)g->key.n, g->key.p, what);
}

/* Are these the sums that the proof names? */
static int
xfer_check_sums(const struct xfer_get *g, const unsigned char *md5,
                const unsigned char *digest, struct fail *f)
{
    unsigned char want[MD5_SIZE];
    struct buf text = buf_upto(2 * JRN_SUM);

    if (g->said.is_md5 && hex_read(s3_bare(span_of(g->said.etag)), want, sizeof want) &&
        !sum_equal(want, md5, sizeof want))
        (void)xfer_is_damaged(g, "MD5", f);
    if (g->said.has_sum)
        b64_put(&text, digest, sum_kinds[g->said.kind].size);
    if (g->said.has_sum && !span_is(buf_span(&text), g->said.sum))
        (void)xfer_is_damaged(g, sum_kinds[g->said.kind].name, f);
    buf_free(&text);
    return f->code == S3UP_OK ? 0 : -1;
}

/* Nothing tells the whole from another object that has taken its place: what broke cannot
 * be gone on with. */
static bool
xfer_is_nameless(const struct xfer_get *g)
{
    return g->length < 0 && !g->said.etag[0] && !g->said.has_sum;
}

/* All that is asked for, to fd. A connection that breaks in the middle is taken up again
 * where it broke, as long as attempts bring something: a large object over a bad line may
 * take more attempts than are allowed in vain. A whole is held against the sums that the
 * store named; of a stretch the caller gets the sum in g->digest. */
static int
xfer_get_to(struct store *st, struct xfer_get *g, struct fail *f)
{
    unsigned char md5[MD5_SIZE];
    int64_t before = 0;
    unsigned idle = 0;

    sum_init(&g->md5, SUM_MD5);
    if (g->has_kind)
        sum_init(&g->sum, g->kind);
    for (;;) {
        struct fail now = {S3UP_OK, ""};

        if (xfer_get_once(st, g, &now) == 0 || (g->done && g->done == g->length))
            break; /* what came behind its end, if anything, was not taken */
        idle = g->done > before ? 0 : idle + 1;
        before = g->done;
        /* What was never answered has been tried often enough by s3_run. */
        if (now.code != S3UP_LATER || !g->begun || g->full || g->large || g->whole_only ||
            idle > st->config.retries || os_stop || (g->done && xfer_is_nameless(g)))
            return fail_set(f, os_stop ? S3UP_INTERRUPTED : now.code, "%s", now.text);
        s3_pause(st, idle, false);
    }
    sum_end(&g->md5, md5);
    if (g->has_kind)
        sum_end(&g->sum, g->digest);
    if (g->length >= 0) /* the caller has sums of stretches, or of the whole */
        return 0;
    if (g->endless && !g->said.is_md5 && !g->said.has_sum)
        return xfer_fail(f, S3UP_LATER, g->bucket, g->key,
                         ": the store did not say how long it is, so nobody "
                         "knows whether all of it came");
    return xfer_check_sums(g, md5, g->digest, f);
}

/* The largest file that goes in one request. One that is no larger than a part would be
 * an upload of one part, which takes three requests. */
static int64_t
xfer_limit(const struct xfer *x)
{
    const struct xfer_wish *w = x->wish;
    uint64_t most = w->threshold > w->part_size ? w->threshold : w->part_size;

    return (int64_t)(most < PART_MOST ? most : PART_MOST);
}

/* How large the object is, and which piece of it is wanted: into g, whose bucket and key
 * are set. */
static int
xfer_look_at(struct store *st, struct xfer_get *g, const struct xfer_wish *w,
             struct fail *f)
{
    if (s3_head_sums(st, g->bucket, g->key, f) < 0)
        return -1;
    g->total = st->conn.head.length; /* without it nothing can be cut into ranges */
    if (g->total < 0)
        return xfer_fail(f, S3UP_LATER, g->bucket, g->key,
                         ": the store does not say how large it is");
    xfer_learn(st, &g->said);
    g->modified = xfer_modified(st);
    g->from = w->from >= 0 ? w->from : g->total + w->from > 0 ? g->total + w->from : 0;
    if (w->slice && g->from >= g->total)
        return xfer_fail(f, S3UP_USAGE, g->bucket, g->key,
                         ": the range begins behind its end");
    g->length = g->total - g->from;
    if (w->length && w->length < g->length)
        g->length = w->length;
    if (w->slice) /* what the store says of the whole does not hold for a piece */
        g->said.is_md5 = g->said.has_sum = false;
    return 0;
}

/* The endpoint as it was configured, in the one form that all spellings of it share. */
static void
xfer_put_endpoint(const struct store *st, struct buf *out)
{
    struct span base = st->url.path;

    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    buf_str(out, st->url.https ? "https://" : "http://");
    for (size_t i = 0; i < st->url.host.n; i++)
        buf_char(out, span_lower(st->url.host.p[i]));
    buf_char(out, ':');
    buf_num(out, st->url.port);
    buf_put(out, base);
}

/* ---- proof: is a stored object what a file is? ----
 *
 * The object is not fetched: the store is asked which sums it has of it, and the file is
 * summed in the same way. A sum of the whole is easy. An object of parts often has only a
 * sum of the sums of its parts, and what that must be depends on how it was cut: the
 * ledger of this host may know, else the store, else the usual ways are tried. A sum that
 * agrees proves it. One that does not proves the opposite only if it is sure what it is a
 * sum of; if nothing does, the question stays open, and nothing is removed or replaced on
 * the strength of it.
 */

/* A sum that a store has of an object: of the whole, or of the sums of its parts. */
struct xfer_claim {
    enum sum_kind kind;
    uint64_t parts;                  /* how many; 0: of the whole */
    bool firm;                       /* if it does not agree, the bytes differ */
    unsigned char want[SHA256_SIZE]; /* as many bytes as the kind has */
};

/* One question, and what came of it. */
struct xfer_proof {
    struct span bucket, key;
    const struct part_file *file;
    const char *folder; /* where the ledger is; NULL: there is none */
    bool begins;        /* it is the file's beginning that is compared */
    enum { XFER_UNPROVEN, XFER_EQUAL, XFER_DIFFERENT } verdict;
    bool doubt;   /* an ETag says that they differ: not all are what they seem */
    char how[64]; /* the proof: "size", "sha256", "md5 of 3 parts of 5242880 bytes" */
    int64_t size; /* of the object, or -1 */
    char etag[CREW_ETAG]; /* as it came */
};

/* How many bytes of the file are compared: all, or as many as the object has. */
static int64_t
xfer_proof_size(const struct xfer_proof *p)
{
    return p->begins && p->size < p->file->id.size ? p->size : p->file->id.size;
}

/* What proves it, in words for people. part is 0 if it is not known, or does not
 * count. */
static void
xfer_say_how(struct xfer_proof *p, enum sum_kind kind, uint64_t parts, int64_t part)
{
    struct buf text = buf_upto(sizeof p->how);

    buf_str(&text, sum_kinds[kind].name);
    if (parts) {
        buf_str(&text, " of ");
        buf_num(&text, parts);
        buf_str(&text, parts > 1 ? " parts" : " part");
    }
    if (part > 0) {
        buf_str(&text, " of ");
        buf_num(&text, (uint64_t)part);
        buf_str(&text, " bytes");
    }
    s3_copy_name(p->how, sizeof p->how, buf_span(&text));
    buf_free(&text);
}

/* A sum as stores write it: in base64, an ETag in hex; with -N behind it if it is that of
 * the sums of N parts. False if it is no such sum, as an ETag need not be one. */
static bool
xfer_read_claim(struct span text, enum sum_kind kind, struct xfer_claim *c)
{
    size_t size = sum_kinds[kind].size;
    struct buf raw = buf_upto(2 * SHA256_SIZE);
    struct span digest;
    bool good;

    *c = (struct xfer_claim){.kind = kind, .firm = true};
    (void)span_cut(&text, '-', &digest);
    if (text.p && (!num_parse(text, PARTS_MAX, &c->parts) || !c->parts))
        return false;
    if (kind == SUM_MD5)
        return hex_read(digest, c->want, size);
    good = b64_read(digest, &raw) && raw.n == size;
    if (good)
        memcpy(c->want, raw.p, size);
    buf_free(&raw);
    return good;
}

/* What the head of an object at hand claims, the best first: of the whole, of parts, the
 * ETag. That is none if the object lies encrypted with a key of somebody's own. */
static unsigned
xfer_claims(const struct store *st, struct span etag, struct xfer_claim claims[SUM_KINDS])
{
    static const enum sum_kind order[] = {SUM_SHA256, SUM_CRC64NVME, SUM_CRC32C,
                                          SUM_CRC32};
    struct span type = s3_value(st, "x-amz-checksum-type"), rest = etag, digest;
    unsigned n = 0;

    for (unsigned of_parts = 0; of_parts < 2; of_parts++)
        for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
            struct xfer_claim *c = &claims[n];

            if (!xfer_read_claim(s3_value(st, xfer_names[order[i]].header), order[i],
                                 c) ||
                of_parts != (c->parts > 0) || (!c->parts && span_is(type, "COMPOSITE")))
                continue; /* or it is a sum of sums, and nobody says of how many */
            /* Of an object of parts some stores name a sum of sums and do not say so. */
            c->firm = c->parts || span_is(type, "FULL_OBJECT") ||
                      c->kind == SUM_CRC64NVME || !span_has(etag, '-');
            n++;
        }
    (void)span_cut(&rest, '-', &digest);
    if (xfer_is_md5(st, digest) && xfer_read_claim(etag, SUM_MD5, &claims[n]))
        n++;
    return n;
}

/* A file's bytes on their way to a sum of the whole, or of the sums of parts. It is of
 * the whole if part is 0 and lengths is NULL. */
struct xfer_joint {
    enum sum_kind kind;
    int64_t part;           /* bytes of each part; 0: the whole is summed */
    const int64_t *lengths; /* of each part, if they are not equal; the caller's */
    uint64_t done;          /* parts that were summed */
    int64_t left;           /* of the part at hand */
    struct sum one, all;    /* of the part at hand, or the whole; and of the sums */
};

/* Begins a sum: of the whole (0, NULL), of equal parts, or of parts of these lengths. */
static struct xfer_joint
xfer_joint(enum sum_kind kind, int64_t part, const int64_t *lengths)
{
    struct xfer_joint j = {.kind = kind, .part = part, .lengths = lengths};

    j.left = lengths ? lengths[0] : part ? part : INT64_MAX;
    sum_init(&j.one, kind);
    sum_init(&j.all, kind);
    return j;
}

/* The part at hand is whole: its sum is summed, and the next begins. */
static void
xfer_joint_turn(struct xfer_joint *j, bool is_last)
{
    unsigned char digest[SHA256_SIZE];

    sum_end(&j->one, digest);
    sum_add(&j->all, digest, sum_kinds[j->kind].size);
    sum_init(&j->one, j->kind);
    j->done++;
    if (!is_last)
        j->left = j->lengths ? j->lengths[j->done] : j->part;
}

/* The next bytes of the file, which may lie in several parts. */
static void
xfer_joint_add(struct xfer_joint *j, const char *p, size_t n)
{
    while (n) {
        size_t take = j->left < (int64_t)n ? (size_t)j->left : n;

        if (!j->left) { /* only now: behind the last part there is no other */
            xfer_joint_turn(j, false);
            continue;
        }
        sum_add(&j->one, p, take);
        j->left -= (int64_t)take;
        p += take;
        n -= take;
    }
}

/* Is the sum what was claimed? Asked once: it ends the sums. */
static bool
xfer_joint_is(struct xfer_joint *j, const struct xfer_claim *c)
{
    unsigned char digest[SHA256_SIZE];

    if (j->part || j->lengths)
        xfer_joint_turn(j, true);
    sum_end(j->part || j->lengths ? &j->all : &j->one, digest);
    return sum_equal(digest, c->want, sum_kinds[j->kind].size);
}

/* Reads the file once, for all sums that are wanted of it: it may be large, and reading
 * is what takes the time. -1 also if it changed meanwhile: then no sum says anything. */
static int
xfer_joint_read(struct store *st, const struct xfer_proof *p, struct xfer_joint *j,
                unsigned n, struct fail *f)
{
    struct part_stretch s = {p->file, 1, 0, xfer_proof_size(p), NULL};
    size_t take;

    for (int64_t at = 0; at < s.length; at += (int64_t)take) {
        int64_t left = s.length - at;

        take = left < S3_WINDOW ? (size_t)left : S3_WINDOW;
        if (os_stop)
            return fail_set(f, S3UP_INTERRUPTED, "interrupted");
        if (part_read(&s, st->window, take, at, f) < 0)
            return -1;
        for (unsigned i = 0; i < n; i++)
            xfer_joint_add(&j[i], st->window, take);
    }
    return part_unchanged(&s, f);
}

/* Compares the file, cut in this way, with a claim. 0: p has the verdict. */
static int
xfer_try(struct store *st, struct xfer_proof *p, const struct xfer_claim *c,
         struct xfer_joint j, struct fail *f)
{
    if (xfer_joint_read(st, p, &j, 1, f) < 0)
        return -1;
    p->verdict = xfer_joint_is(&j, c) ? XFER_EQUAL : XFER_DIFFERENT;
    xfer_say_how(p, c->kind, c->parts, j.part);
    return 0;
}

/* Do parts of this size make as many as there are? */
static bool
xfer_fits(int64_t size, int64_t part, uint64_t parts)
{
    uint64_t n = part > 0 ? ((uint64_t)size + (uint64_t)part - 1) / (uint64_t)part : 0;

    return part > 0 && (n ? n : 1) == parts;
}

/* The sizes that programs cut files into: the least one that makes so many parts, rounded
 * up as some do, then those that are usual, each in MiB and in millions of bytes, the
 * likelier first. 0: there are no more. */
static int64_t
xfer_usual(unsigned i, int64_t least)
{
    static const int64_t steps[] = {1, 1 << 10, 1 << 16, 1 << 20, 5 << 20, 16 << 20};
    static const uint16_t usual[] = {
        5,   8,   16,   10,   15,  32,   64,   100,  25,   50,   128, 256,
        512, 6,   1024, 5120, 1,   2,    3,    4,    7,    12,   20,  24,
        30,  40,  48,   60,   80,  96,   120,  150,  160,  192,  200, 250,
        300, 400, 500,  600,  768, 1000, 2000, 2048, 2500, 4096, 5000};
    const unsigned n = sizeof steps / sizeof *steps;

    if (i < n)
        return (least + steps[i] - 1) / steps[i] * steps[i];
    i -= n;
    if (i / 2 >= sizeof usual / sizeof *usual)
        return 0;
    return usual[i / 2] * (i % 2 ? 1000000 : (int64_t)MIB);
}

/* Those of them that make as many parts as there are, each once. XFER_GUESSES of them at
 * most: each one sums every byte once more. */
static unsigned
xfer_guess(int64_t size, uint64_t parts, int64_t out[XFER_GUESSES])
{
    int64_t least = (size + (int64_t)parts - 1) / (int64_t)parts, part;
    unsigned n = 0, k;

    for (unsigned i = 0; (part = xfer_usual(i, least)) > 0 && n < XFER_GUESSES; i++) {
        for (k = 0; k < n && out[k] != part; k++)
            continue;
        if (k == n && xfer_fits(size, part, parts))
            out[n++] = part;
    }
    return n;
}

/* Nobody says how the object was cut: the usual ways are tried, all in one pass. If none
 * agrees, that proves nothing: the cut may be another one. */
static int
xfer_try_guesses(struct store *st, struct xfer_proof *p, const struct xfer_claim *c,
                 struct fail *f)
{
    struct xfer_joint joints[XFER_GUESSES];
    int64_t parts[XFER_GUESSES];
    unsigned n = xfer_guess(xfer_proof_size(p), c->parts, parts);

    for (unsigned i = 0; i < n; i++)
        joints[i] = xfer_joint(c->kind, parts[i], NULL);
    if (n && xfer_joint_read(st, p, joints, n, f) < 0)
        return -1;
    for (unsigned i = 0; i < n && p->verdict != XFER_EQUAL; i++)
        if (xfer_joint_is(&joints[i], c)) {
            p->verdict = XFER_EQUAL;
            xfer_say_how(p, c->kind, c->parts, parts[i]);
        }
    return 0;
}

/* Parts need not be equal: the store is asked for the length of each. Lengths that are
 * not those of c->parts parts, or not of as many bytes, are no answer, and leave the
 * verdict open. */
static int
xfer_try_lengths(struct store *st, struct xfer_proof *p, const struct xfer_claim *c,
                 struct fail *f)
{
    int64_t *lengths = calloc((size_t)c->parts, sizeof *lengths), sum = 0;
    uint64_t parts = c->parts;
    bool told = true;
    int rc = 0;

    if (!lengths)
        return fail_set(f, S3UP_LATER, "no memory for the lengths of parts");
    for (unsigned i = 0; i < c->parts && told && !os_stop; i++) {
        lengths[i] = s3_part_length(st, p->bucket, p->key, i + 1, &parts);
        told = lengths[i] > 0 && parts == c->parts && lengths[i] <= p->size - sum;
        sum += told ? lengths[i] : 0;
    }
    if (told && sum == xfer_proof_size(p))
        rc = xfer_try(st, p, c, xfer_joint(c->kind, 0, lengths), f);
    free(lengths);
    return os_stop ? fail_set(f, S3UP_INTERRUPTED, "interrupted") : rc;
}

/* Gives all lines of the ledger, the oldest first, to a function. A window at a time, cut
 * behind the last whole line. A line that is being appended meanwhile has no end yet, and
 * is not seen. see() must not use st->window: the line lies in it. */
static void
xfer_ledger_each(struct store *st, const char *folder,
                 void (*see)(void *owner, struct span line), void *owner)
{
    static const char *const names[] = {"/ledger.jsonl.1", "/ledger.jsonl"};
    struct buf path = buf_upto(PATH_MAX);

    for (unsigned i = 0; i < 2 && folder; i++) {
        ssize_t did = 0;
        int fd;

        buf_clear(&path);
        buf_str(&path, folder);
        buf_str(&path, names[i]);
        fd = os_open(buf_text(&path), O_RDONLY, 0);
        for (int64_t at = 0; fd >= 0; at += did) {
            struct span rest, line;
            const char *end;

            did = os_read(fd, st->window, sizeof st->window, at);
            if (did <= 0)
                break;
            end = memrchr(st->window, '\n', (size_t)did);
            if (!end) /* no line of ours is as long as that */
                continue;
            did = end + 1 - st->window;
            rest = span_at(st->window, (size_t)did);
            while (rest.n && span_cut(&rest, '\n', &line))
                see(owner, line);
        }
        if (fd >= 0)
            (void)close(fd);
    }
    buf_free(&path);
}

/* The path of a file, with its folder resolved: what it is known by, wherever the command
 * is given. Its last component is not resolved: a link has a name of its own. */
static int
xfer_absolute(const char *path, struct buf *out, struct fail *f)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    char *real;

    s3_copy_name(folder, sizeof folder,
                 slash == path ? SPAN("/")
                 : slash       ? span_at(path, (size_t)(slash - path))
                               : SPAN("."));
    real = realpath(folder, NULL);
    if (!real)
        return fail_sys(f, "find", folder);
    buf_str(out, strcmp(real, "/") == 0 ? "" : real);
    buf_char(out, '/');
    buf_str(out, slash ? slash + 1 : path);
    free(real);
    return out->bad ? fail_set(f, S3UP_USAGE, "the path %s is too long", path) : 0;
}

/* One text of a line. Empty if it is not there, or the line is torn. */
static bool
xfer_ledger_text(struct span line, const char *name, struct buf *out)
{
    enum json_event event;
    struct json j;

    buf_clear(out);
    json_init(&j, line);
    while ((event = json_next(&j)) != JSON_END && event != JSON_BAD)
        if (j.depth == 1 && span_is(j.key, name) &&
            (event == JSON_STRING || event == JSON_NUMBER) && !json_text(j.text, out))
            break;
    if (event != JSON_END)
        buf_clear(out);
    return out->n > 0;
}

/* What is asked of the ledger about an object, and what it says: the bytes of its parts,
 * 0 if it went in one go. */
struct xfer_sent_as {
    struct span endpoint, bucket, key, etag, path; /* path empty: any */
    int64_t part;                                  /* -1: nothing */
};

/* Takes a line of the ledger in, if it is about the object that is asked for. Most are
 * not: a look for the ETag's text spares reading them. */
static void
xfer_see_part(void *owner, struct span line)
{
    struct xfer_sent_as *w = owner;
    const struct {
        const char *name;
        struct span want;
    } all[] = {{"etag", w->etag},
               {"key", w->key},
               {"bucket", w->bucket},
               {"endpoint", w->endpoint},
               {"path", w->path}};
    struct buf text = buf_upto(16 * KEY_MAX);
    bool same = memmem(line.p, line.n, w->etag.p, w->etag.n) != NULL;
    uint64_t part = 0;

    for (unsigned i = 0; i < sizeof all / sizeof *all && same; i++)
        same = !all[i].want.n || (xfer_ledger_text(line, all[i].name, &text) &&
                                  span_eq(buf_span(&text), all[i].want));
    if (same && xfer_ledger_text(line, "part_size", &text))
        (void)num_parse(buf_span(&text), INT64_MAX, &part);
    if (same)
        w->part = (int64_t)part;
    buf_free(&text);
}

/* In which parts this host sent the object; 0: in one go; -1 if the ledger does not know.
 * The last line about it counts. What a file may have begun as must have been sent from
 * its path. */
static int64_t
xfer_ledger_part(struct store *st, const struct xfer_proof *p)
{
    struct buf endpoint = buf_upto(URL_MAX), path = buf_upto(16 * KEY_MAX);
    struct fail unread = {S3UP_OK, ""};
    struct xfer_sent_as asked = {.bucket = p->bucket,
                                 .key = p->key,
                                 .etag = s3_bare(span_of(p->etag)),
                                 .part = -1};

    xfer_put_endpoint(st, &endpoint);
    asked.endpoint = buf_span(&endpoint);
    if (asked.etag.n &&
        (!p->begins || xfer_absolute(p->file->path, &path, &unread) == 0)) {
        asked.path = buf_span(&path);
        xfer_ledger_each(st, p->folder, xfer_see_part, &asked);
    }
    buf_free(&endpoint);
    buf_free(&path);
    return asked.part;
}

/* A sum of the sums of parts: it takes to know how the object was cut. */
static int
xfer_try_parts(struct store *st, struct xfer_proof *p, const struct xfer_claim *c,
               struct fail *f)
{
    int64_t size = xfer_proof_size(p), part = xfer_ledger_part(st, p);
    uint64_t parts = c->parts;

    if (xfer_fits(size, part, parts)) /* then it is known for sure */
        return xfer_try(st, p, c, xfer_joint(c->kind, part, NULL), f);
    if (parts == 1)
        return xfer_try(st, p, c, xfer_joint(c->kind, size ? size : 1, NULL), f);
    /* Two questions, since few stores know both. The answer that the first part is as
     * long as the whole is that of a store which does not know the question. */
    part = s3_part_length(st, p->bucket, p->key, 1, &parts);
    if (part <= 0 || part >= size || parts != c->parts)
        part = s3_first_part(st, p->bucket, p->key);
    if (part <= 0 || part >= size)
        return xfer_try_guesses(st, p, c, f);
    if (xfer_fits(size, part, c->parts) &&
        (xfer_try(st, p, c, xfer_joint(c->kind, part, NULL), f) < 0 ||
         p->verdict == XFER_EQUAL))
        return f->code == S3UP_OK ? 0 : -1;
    p->verdict = XFER_UNPROVEN; /* the others may be of another length than the first */
    return xfer_try_lengths(st, p, c, f);
}

/* Finds out, without fetching the object, whether it is what the file is. 0: p->verdict
 * is the answer; -1: the question could not be asked, the file has changed meanwhile, or
 * the object does not exist. */
static int
xfer_prove(struct store *st, struct xfer_proof *p, struct fail *f)
{
    struct xfer_claim claims[SUM_KINDS];
    unsigned n;

    p->verdict = XFER_UNPROVEN;
    p->doubt = false;
    if (s3_head_sums(st, p->bucket, p->key, f) < 0)
        return -1;
    p->size = st->conn.head.length;
    s3_copy_name(p->etag, sizeof p->etag, s3_value(st, "etag"));
    n = xfer_claims(st, s3_bare(span_of(p->etag)), claims);
    s3_copy_name(p->how, sizeof p->how, SPAN("size"));
    /* The size alone proves that they differ, and that two are the same that are
     * empty. */
    if (p->size >= 0 && p->size != xfer_proof_size(p))
        p->verdict = XFER_DIFFERENT;
    else if (p->size == 0 && p->etag[0]) /* without one it is anybody's empty answer */
        p->verdict = XFER_EQUAL;
    for (unsigned i = 0; i < n && p->verdict == XFER_UNPROVEN; i++) {
        const struct xfer_claim *c = &claims[i];

        if ((c->parts ? xfer_try_parts(st, p, c, f)
                      : xfer_try(st, p, c, xfer_joint(c->kind, 0, NULL), f)) < 0)
            return -1;
        p->doubt = c->kind == SUM_MD5;
        if (p->verdict == XFER_DIFFERENT && !c->firm)
            p->verdict = XFER_UNPROVEN;
    }
    if (p->verdict == XFER_UNPROVEN)
        p->how[0] = 0;
    return 0;
}

/* Fetches the object and compares it with the file, byte by byte; nothing is kept. After
 * xfer_prove, whose ETag it must still have. */
static int
xfer_prove_bytes(struct store *st, struct xfer_proof *p, struct fail *f)
{
    struct part_stretch s = {p->file, 1, 0, p->file->id.size, NULL};
    struct xfer_get g = {.bucket = p->bucket,
                         .key = p->key,
                         .fd = -1,
                         .like = &s,
                         .length = -1,
                         .total = -1};
    struct buf how = buf_upto(sizeof p->how);
    struct fail now = {S3UP_OK, ""};

    s3_copy_name(g.said.etag, sizeof g.said.etag, span_of(p->etag));
    /* What the store claims of itself does not matter: the bytes tell. So DAMAGED is no
     * failure here: they differ, or are not what the store's own sums say. */
    if (xfer_get_to(st, &g, &now) < 0 && now.code != S3UP_DAMAGED)
        return fail_set(f, now.code, "%s", now.text);
    p->verdict = g.differs || g.done != s.length ? XFER_DIFFERENT : XFER_EQUAL;
    buf_str(&how, "bytes");
    if (p->verdict == XFER_DIFFERENT) {
        buf_str(&how, ", from ");
        buf_num(&how, (uint64_t)g.done);
        buf_str(&how, " on");
    }
    s3_copy_name(p->how, sizeof p->how, buf_span(&how));
    buf_free(&how);
    return 0;
}

/* Is the time that was noted that of the file? Some file systems know no fractions. */
static bool
xfer_same_time(struct os_time noted, struct os_time is)
{
    return noted.ns >= 0 && noted.s == is.s && (noted.ns == is.ns || !noted.ns || !is.ns);
}

/* Has the store what the file is? The same size and the time that was noted with it say
 * so, else a checksum. 1: it has, 0: it has not, -1: that could not be found out. */
static int
xfer_ask_same(const struct xfer *x, struct span key, const struct part_file *file,
              struct fail *f)
{
    struct xfer_proof p = {
        .bucket = x->bucket, .key = key, .file = file, .folder = x->wish->folder};

    if (s3_head_sums(x->st, x->bucket, key, f) < 0)
        return -1;
    /* The cheap answers first: summing reads all of the file. */
    if (x->st->conn.head.length != file->id.size)
        return 0;
    if (xfer_same_time(xfer_modified(x->st), file->id.modified))
        return 1;
    return xfer_prove(x->st, &p, f) < 0 ? -1 : p.verdict == XFER_EQUAL;
}

/* The same where what is not there is transferred then: what cannot be found out is no,
 * and costs one transfer too many. */
static bool
xfer_is_same(const struct xfer *x, struct span key, const struct part_file *file)
{
    struct fail unread = {S3UP_OK, ""};

    return xfer_ask_same(x, key, file, &unread) == 1;
}

/* ---- an object that must be proven, and must not take the place of another ----
 *
 * For files that are removed once they are stored (wish.sure). Before it is sent, the key
 * must be free, or have the same already, or have what this host sent when the file was
 * shorter. That is looked up, and made a condition of the request: between the two,
 * another may write. Afterwards the store must tell, by its reply or when it is asked,
 * that it has these very bytes; that it answered 200 is not enough to remove a file.
 */

/* A HEAD that is refused tells no code: the same question as a GET does. True if the keys
 * are wrong. */
static bool
xfer_why_denied(struct store *st, const struct xfer_proof *p, struct fail *why)
{
    struct s3_call call = s3_to("GetObject", "GET", p->bucket, p->key);
    struct fail now = {S3UP_OK, ""};

    s3_header(&call, "range", SPAN("bytes=0-0"));
    if (s3_run(st, &call, &now) == 0 || now.code != S3UP_DENIED)
        return false;
    *why = now;
    return s3_wants_keys(&st->error);
}

/* May the file have this key? 1: the store has it there already; 0: it is free, or holds
 * what this host sent before the file grew: then a->match is its ETag; -1: it is
 * another's, or that could not be found out. */
static int
xfer_claim_key(const struct xfer *x, const struct part_file *file, struct span key,
               struct crew_answer *a, struct fail *f)
{
    struct xfer_proof p = {
        .bucket = x->bucket, .key = key, .file = file, .folder = x->wish->folder};
    struct fail now = {S3UP_OK, ""};
    bool refused = xfer_prove(x->st, &p, &now) < 0;

    if (refused && now.code == S3UP_DENIED && xfer_why_denied(x->st, &p, &now))
        return fail_set(f, now.code, "%s", now.text);
    if (refused)
        /* Who may not list is told at AWS that nothing may be known of a free key; there
         * the condition of the request is enough. */
        return now.code == S3UP_MISSING || (now.code == S3UP_DENIED && x->st->aws)
                   ? 0
                   : fail_set(f, now.code, "%s", now.text);
    s3_copy_name(a->etag, sizeof a->etag, span_of(p.etag));
    if (p.verdict == XFER_EQUAL)
        return 1;
    /* A log that is longer than its object may have grown. That the bytes agree so far is
     * not enough: the ledger must say that they were sent from this path. */
    p.begins = p.size >= 0 && p.size < file->id.size;
    if (p.begins && xfer_ledger_part(x->st, &p) >= 0 &&
        xfer_prove(x->st, &p, &now) == 0 && p.verdict == XFER_EQUAL) {
        s3_copy_name(a->match, sizeof a->match, span_of(p.etag));
        return 0;
    }
    return xfer_fail(f, S3UP_EXISTS, x->bucket, key,
                     p.verdict == XFER_DIFFERENT
                         ? " holds something else; --overwrite replaces it"
                         : " is taken, and whether by the same cannot be told; "
                           "--overwrite replaces it");
}

/* Is what was stored under the key what the file is? 0 if that is proven. What is known
 * to be damaged, and what nobody can tell, are two failures. */
static int
xfer_confirm_file(const struct xfer *x, const struct part_file *file, struct span key,
                  struct fail *f)
{
    struct xfer_proof p = {
        .bucket = x->bucket, .key = key, .file = file, .folder = x->wish->folder};

    if (xfer_prove(x->st, &p, f) < 0)
        return -1;
    if (p.verdict == XFER_EQUAL)
        return 0;
    return p.verdict == XFER_DIFFERENT
               ? xfer_fail(f, S3UP_DAMAGED, x->bucket, key,
                           ": what the store says that it has is not what was sent")
               : xfer_fail(f, S3UP_SKIPPED, x->bucket, key,
                           " was sent, but the store tells nothing by which it could be "
                           "proven to be there");
}

/* Sends a whole file, unless its key is another's. What came of it is in the answer:
 * a->same if the store had it, a->match the ETag of what it replaced. */
static void
xfer_send_sure(struct xfer *x, const struct part_stretch *s, const struct s3_call *call,
               struct crew_answer *a)
{
    struct fail f = {S3UP_OK, ""};
    int found = 0;

    /* Who comes first in between may have sent the same. */
    for (int turn = 0; turn < 2 && f.code == S3UP_OK; turn++) {
        struct s3_call fresh = *call; /* the texts of its headers end with the turn */

        a->match[0] = 0;
        found = x->wish->overwrite ? 0 : xfer_claim_key(x, s->file, call->key, a, &f);
        a->same = found == 1;
        a->code = S3UP_OK;
        if (found == 0)
            xfer_send_whole(x, s, &fresh, a->match, a);
        if (found || a->code != S3UP_EXISTS)
            break;
    }
    if (found == 0 && a->code == S3UP_OK && !a->sure)
        (void)xfer_confirm_file(x, s->file, call->key, &f);
    if (f.code != S3UP_OK)
        (void)xfer_answer(a, &f);
}

/* ---- orders ----
 *
 * An order says all that a worker must know that may not have been so when it was
 * started. It is packed and read by the same program, so it is laid out as memory is, and
 * its lengths are believed: no stranger can write into the pipe. A file goes by its path
 * and the identity that the parent saw: a worker that finds another there sends nothing.
 */

/* What a worker is told. Behind it come texts, packed. To send: the key, the upload id
 * (empty: a whole object), the media type, and of each file its path and its identity. To
 * fetch: the key, the object's ETag or nothing, nothing, and the path and the identity of
 * the temporary file. To copy: the key, the upload id, the source's ETag, the source. */
struct xfer_order {
    uint32_t number, files, below; /* of the part, from 1 on; of paths; as in part_name */
    bool down, whole, copy;
    int root;           /* as in part_name: workers have it open, too */
    enum sum_kind kind; /* of a stretch that is fetched */
    /* Where it begins: in the first file, the ring, or the object; how long it is, -1 for
     * all of an object; where in the temporary file it goes; how large the object is, or
     * up to which size all of it is fetched at once, 0: whatever it has. */
    int64_t at, length, place, total;
};

/* A text of an order: its length, itself, and a NUL. */
static void
xfer_pack(struct buf *out, struct span s)
{
    uint32_t n = (uint32_t)s.n;

    buf_add(out, &n, sizeof n);
    buf_put(out, s);
    buf_char(out, 0); /* so that it can be used as text where it lies */
}

/* The next text of an order. It lies in the order, and has a NUL behind it. */
static struct span
xfer_unpack(struct span *rest)
{
    struct span s;
    uint32_t n;

    memcpy(&n, rest->p, sizeof n);
    s = span_at(rest->p + sizeof n, n);
    *rest = span_after(*rest, sizeof n + n + 1);
    return s;
}

static const char xfer_is_touched[] =
    "%s was touched a moment ago: the next run looks at it";

/* A file that will be removed was found to be at rest. That it still must be when it is
 * opened to be sent, or what is stored might be half of what somebody writes. The lease
 * is asked for only to hear whether somebody has it open for writing; where there are
 * none (-1), the times must do. */
static int
xfer_is_left_alone(struct part_file *file, const struct os_id *was, struct fail *f)
{
    bool alone = os_untouched(&file->id, was) && os_lease(file->fd) != 0;

    file->strict = true;
    (void)fcntl(file->fd, F_SETLEASE, F_UNLCK); /* nobody need wait for what comes now */
    return alone ? 0 : fail_set(f, S3UP_SKIPPED, xfer_is_touched, file->path);
}

/* Sends a stretch of files, or of memory. */
static void
xfer_work_up(struct xfer *x, const struct xfer_order *o, struct span rest,
             struct crew_answer *a)
{
    struct span key = xfer_unpack(&rest), id = xfer_unpack(&rest),
                type = xfer_unpack(&rest);
    struct s3_call call = s3_to("PutObject", "PUT", x->bucket, key);
    struct part_file *file =
        calloc(o->files + 1, sizeof *file); /* of none it could be NULL */
    struct part_stretch s = {file, o->files, o->at, o->length, x->ring};
    struct buf mtime = buf_upto(64);
    struct fail f = {S3UP_OK, ""};
    unsigned opened = 0;

    if (!file)
        (void)fail_set(&f, S3UP_LATER, "no memory for an order");
    for (; opened < o->files && f.code == S3UP_OK; opened++) {
        struct part_name name = {xfer_unpack(&rest).p, o->root, o->below};
        struct os_id was;

        memcpy(&was, xfer_unpack(&rest).p, sizeof was); /* it need not be aligned there */
        if (part_open_again(&file[opened], &name, &was, &f) == 0 && x->wish->sure)
            (void)xfer_is_left_alone(&file[opened], &was, &f);
    }
    if (f.code != S3UP_OK) {
        (void)xfer_answer(a, &f);
    } else if (id.n) {
        xfer_send_part(x, &s, &call, id, a);
    } else if (x->wish->if_changed && o->files == 1 && xfer_is_same(x, key, file)) {
        a->same = true;
    } else {
        if (type.n)
            s3_header(&call, "content-type", type);
        if (o->files == 1 && xfer_put_mtime(&mtime, file->id.modified))
            s3_header(&call, XFER_MTIME, buf_span(&mtime));
        if (x->wish->sure)
            xfer_send_sure(x, &s, &call, a);
        else
            xfer_send_whole(x, &s, &call, "", a);
    }
    for (unsigned i = 0; i < opened; i++)
        part_close(&file[i]);
    free(file);
    buf_free(&mtime);
}

/* Opens the file that the parent has made for what is fetched, or -1. The parent has the
 * lock; that it is the same file is known by its number, since its size and times change
 * all the while. */
static int
xfer_open_temp(const struct part_place *place, const struct os_id *was, struct fail *f)
{
    int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK;
    int fd = os_open_in(place->folder, place->temp, flags, 0);
    struct os_id id;

    if (fd < 0 && errno != ENOENT && !part_is_strange())
        return fail_sys(f, "write", place->path);
    if (fd >= 0 && os_identify(fd, &id) && id.device == was->device &&
        id.inode == was->inode)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return part_is_replaced(place, f);
}

/* Fetches a stretch into it, which is on disk before the answer says that it is there:
 * the parent notes it in the journal, and a note must not outlive what it is about. */
static void
xfer_fetch_part(struct xfer *x, struct xfer_get *g, const struct part_place *place,
                const struct os_id *was, struct fail *f)
{
    g->fd = xfer_open_temp(place, was, f);
    if (g->fd < 0)
        return;
    if (xfer_get_to(x->st, g, f) == 0 && fdatasync(g->fd) != 0)
        (void)fail_sys(f, "write", place->path);
    if (close(g->fd) != 0 && f->code == S3UP_OK)
        (void)fail_sys(f, "write", place->path);
}

/* The owner and the mode of a file that is replaced go to the new one, but no bit that
 * would have others run it as its owner. Until then it is open to its owner only. What is
 * refused here is no failure. */
static void
xfer_own_as(int fd, const struct stat *old)
{
    if (!S_ISREG(old->st_mode))
        return;
    (void)!fchown(fd, old->st_uid, old->st_gid);
    (void)fchmod(fd, old->st_mode & 0777);
}

/* All that came is on disk, as old as the file that was stored, before it gets its
 * name. */
static int
xfer_seal_file(int fd, const char *path, struct os_time modified, struct fail *f)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = (time_t)modified.s, .tv_nsec = modified.ns}};

    if (modified.ns >= 0)
        (void)futimens(fd, times); /* a time that a file system cannot hold is no loss */
    return fsync(fd) == 0 ? 0 : fail_sys(f, "write", path);
}

/* What was written since the run began came from another key of the tree: from another of
 * its prefixes, or the file system takes two names for one. The file is younger than the
 * run, then. When it began on the clock on the wall says nothing: that may have been set
 * since, and, where no battery keeps it, may be behind all files. */
static bool
xfer_is_twice(const struct xfer *x, const char *path, const struct stat *old,
              struct fail *f)
{
    struct os_time now = os_now();
    int64_t run = os_ticks() - x->since - 2; /* what the steps of both clocks hide */
    int64_t age = now.s - old->st_ctim.tv_sec;

    if (!old->st_mode || age < 0 || age > run / 1000 + 1)
        return false;
    age = age * 1000 + (now.ns - old->st_ctim.tv_nsec) / 1000000;
    if (age < 0 || age >= run)
        return false;
    return fail_set(f, S3UP_SKIPPED,
                    "%s was just written, from another key or by another run", path) < 0;
}

/* Gives a finished file its name, and makes that last. A folder that one may write to but
 * not read cannot be synced; of a tree, each file is one of many. */
static int
xfer_give_name(const struct xfer *x, const struct part_place *place, int temp, bool lasts,
               struct fail *f)
{
    if (part_publish(place, temp, x->wish->no_clobber, f) < 0)
        return -1;
    return !lasts || os_sync_in(place->folder) || errno == EACCES
               ? 0
               : fail_sys(f, "write", place->path);
}

/* Is anything in the way of a file? What is to be compared first may be there. */
static int
xfer_is_clear(const struct xfer *x, const struct part_place *place, bool in_tree,
              struct stat *old, struct fail *f)
{
    const struct xfer_wish *w = x->wish;

    return part_examine(place, w->no_clobber && !w->if_changed, old, f) < 0 ||
                   (in_tree && xfer_is_twice(x, place->path, old, f))
               ? -1
               : 0;
}

/* Is what is there already the same? 1: it is, and *size is its size; 0: it is not, or
 * was not to be asked; -1: it is not, and shall stay. */
static int
xfer_is_there(const struct xfer *x, struct span key, const struct part_place *place,
              int64_t *size, struct fail *f)
{
    struct part_file there;
    struct stat info;
    bool same;

    if (!x->wish->if_changed || part_open_there(place, &there) < 0)
        return 0;
    same = xfer_is_same(x, key, &there);
    if (same)
        *size = there.id.size;
    part_close(&there);
    return same ? 1 : part_examine(place, x->wish->no_clobber, &info, f);
}

/* Fetches an object in one request: under another name first, then, whole and checked,
 * under its own. */
static void
xfer_fetch_whole(struct xfer *x, struct xfer_get *g, const struct part_place *place,
                 struct crew_answer *a, struct fail *f)
{
    struct stat old;
    int is_there;

    if (xfer_is_clear(x, place, g->in_tree, &old, f) < 0)
        return;
    is_there = xfer_is_there(x, g->key, place, &g->total, f);
    if (is_there) {
        a->same = is_there > 0;
        part_drop_temp(place);
        return;
    }
    /* What replaces a file must not be open to more people, not even while it grows. */
    g->fd = part_make_temp(place, S_ISREG(old.st_mode) ? 0600 : 0666, f);
    if (g->fd < 0)
        return;
    xfer_own_as(g->fd, &old);
    if (xfer_get_to(x->st, g, f) == 0 &&
        xfer_seal_file(g->fd, place->path, g->modified, f) == 0)
        (void)xfer_give_name(x, place, g->fd, !g->in_tree, f);
    /* Without a journal nobody could go on with it. */
    if (f->code != S3UP_OK && part_in_place(place, g->fd))
        (void)unlinkat(place->folder, place->temp, 0);
    if (close(g->fd) != 0 && f->code == S3UP_OK)
        (void)fail_sys(f, "write", place->path);
}

/* Fetches a whole object, or a stretch of one. What became of it is in the answer, also
 * why it was not fetched, which xfer_not_fetched tells apart. */
static void
xfer_work_down(struct xfer *x, const struct xfer_order *o, struct span rest,
               struct crew_answer *a)
{
    struct xfer_get g = {.bucket = x->bucket, .from = o->at, .length = o->length};
    struct part_place place;
    struct part_name name = {.root = o->root, .below = o->below};
    struct fail f = {S3UP_OK, ""};
    struct os_id was;

    g.key = xfer_unpack(&rest);
    s3_copy_name(g.said.etag, sizeof g.said.etag, xfer_unpack(&rest));
    (void)xfer_unpack(&rest);
    name.path = g.path = xfer_unpack(&rest).p;
    memcpy(&was, xfer_unpack(&rest).p, sizeof was);
    g.in_tree = o->root != AT_FDCWD;
    g.total = o->total;
    g.place = o->place;
    g.limit = o->whole ? o->total : 0;
    g.has_kind = !o->whole; /* for a whole the reply's head decides */
    g.kind = o->kind;
    if (part_find(&place, &name, &f) == 0 && o->whole)
        xfer_fetch_whole(x, &g, &place, a, &f);
    else if (f.code == S3UP_OK)
        xfer_fetch_part(x, &g, &place, &was, &f);
    part_leave(&place);
    a->size = (uint64_t)(a->same ? g.total : g.done);
    a->large = g.large;
    a->changed = g.changed;
    a->whole_only = g.whole_only;
    s3_copy_name(a->etag, sizeof a->etag, span_of(g.said.etag));
    memcpy(a->sum, g.digest, sizeof a->sum);
    if (f.code != S3UP_OK)
        (void)xfer_answer(a, &f);
}

/* Has the store copy an object, or a stretch of it; only as long as the source is what it
 * was when it was looked at, or parts of two objects would be joined. */
static void
xfer_work_copy(struct xfer *x, const struct xfer_order *o, struct span rest,
               struct crew_answer *a)
{
    struct span key = xfer_unpack(&rest), id = xfer_unpack(&rest),
                etag = xfer_unpack(&rest), source = xfer_unpack(&rest);
    struct s3_call call =
        s3_to(o->whole ? "CopyObject" : "UploadPartCopy", "PUT", x->bucket, key);
    struct buf number = buf_upto(16), range = buf_upto(64), got = buf_upto(JRN_UPLOAD);
    struct fail f = {S3UP_OK, ""};
    const struct xfer_wish *w = x->wish;
    int rc;

    if (etag.n)
        s3_header(&call, "x-amz-copy-source-if-match", etag);
    if (o->whole) {
        if (w->replace)
            s3_header(&call, "x-amz-metadata-directive", SPAN("REPLACE"));
        for (unsigned i = 0; i < w->n; i++) {
            s3_header(&call, w->heads[i].name, w->heads[i].value);
            /* Without this, the source's tags are taken, and the new ones are not. */
            if (!strcmp(w->heads[i].name, "x-amz-tagging"))
                s3_header(&call, "x-amz-tagging-directive", SPAN("REPLACE"));
        }
        if (w->no_clobber)
            s3_header(&call, "if-none-match", SPAN("*"));
        rc = w->no_clobber ? xfer_taken(x->st, x->bucket, key, &f) : 0;
        rc = rc < 0 ? rc : s3_copy_object(x->st, &call, source, &f);
        if (rc == 0)
            (void)s3_reply_text(x->st, "CopyObjectResult/ETag", &got);
    } else {
        s3_name_part(&call, id, o->number, &number);
        buf_str(&range, "bytes=");
        buf_num(&range, (uint64_t)o->at);
        buf_char(&range, '-');
        buf_num(&range, (uint64_t)(o->at + o->length - 1));
        s3_header(&call, "x-amz-copy-source-range", buf_span(&range));
        rc = s3_copy_part(x->st, &call, source, &got, &f);
    }
    if (rc == 0 && got.n >= sizeof a->etag)
        (void)fail_set(&f, S3UP_LATER, "the store's ETag is %zu bytes long", got.n);
    s3_copy_name(a->etag, sizeof a->etag, buf_span(&got));
    /* With no_clobber it may be either of two conditions: the store's words must do. */
    if (rc < 0 && x->st->error.status == 412 && !w->no_clobber)
        f = (struct fail){S3UP_SKIPPED, "the source changed while it was being copied"};
    if (f.code != S3UP_OK)
        (void)xfer_answer(a, &f);
    buf_free(&number);
    buf_free(&range);
    buf_free(&got);
}

/* Was it the keys, and not a name that is no UTF-8? Of that MinIO says that the signature
 * is wrong, and other files fare better. */
static bool
xfer_wants_keys(const struct store *st, struct span key)
{
    while (utf8_length(key))
        key = span_after(key, utf8_length(key));
    return s3_wants_keys(&st->error) &&
           (!key.n || !span_is(span_of(st->error.code), "SignatureDoesNotMatch"));
}

/* Is there no bucket to store anything in? Then no other object fares better. */
static bool
xfer_is_nowhere(const struct store *st)
{
    return span_is(span_of(st->error.code), "NoSuchBucket");
}

/* Carries an order out, in a worker or in the parent. Always true: what fails is in the
 * answer. What the store said is told apart here, since the parent does not hear it. */
static bool
xfer_work(void *context, unsigned hand, struct span order, struct crew_answer *a)
{
    struct xfer *x = context;
    struct xfer_order head;

    memcpy(&head, order.p, sizeof head);
    order = span_after(order, sizeof head);
    a->number = head.number;
    a->size = (uint64_t)head.length;
    x->st->meter = &x->crew.meter[hand];
    x->st->error = (struct s3_error){.status = 0}; /* not the last order's */
    if (head.down)
        xfer_work_down(x, &head, order, a);
    else if (head.copy)
        xfer_work_copy(x, &head, order, a);
    else
        xfer_work_up(x, &head, order, a);
    a->keys = a->code != S3UP_OK && xfer_wants_keys(x->st, xfer_unpack(&order));
    a->gone = a->code != S3UP_OK && span_is(span_of(x->st->error.code), "NoSuchUpload");
    a->stranger = a->code == S3UP_LATER && !x->st->met;
    a->nowhere = a->code != S3UP_OK && !head.down && xfer_is_nowhere(x->st);
    a->tries = x->st->tries;
    return true;
}

/* ---- an upload of many parts ----
 *
 * From here on all is done by the parent. What it writes into the journal, and when, is
 * what the head of this room promises to hold after a crash.
 */

/* Tells the owner. */
static void
xfer_say(const struct xfer *x, struct xfer_event e)
{
    x->event(x->owner, &e);
}

/* A producer whose stream nobody wants any more must not live on for it. */
static void
xfer_free_stream(struct xfer_load *load)
{
    struct xfer_stream *s = load->stream;

    if (!s)
        return;
    if (s->ring)
        (void)munmap(s->ring, s->places * (size_t)load->plan.part);
    (void)close(s->fd);
    if (s->producer) {
        (void)kill(s->producer, SIGTERM);
        while (waitpid(s->producer, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    free(s);
    load->stream = NULL;
}

/* Lets go of all that a load has, but of nothing that it has made: what was neither
 * stored nor removed by now stays for the next run. It must be out of the list. */
static void
xfer_free(struct xfer_load *load)
{
    for (unsigned i = 0; i < load->files; i++)
        free(load->file[i].path);
    if (!load->files && load->file)
        free(load->file[0].path);
    free(load->file);
    free(load->given);
    xfer_free_stream(load);
    buf_free(&load->key);
    jrn_free(&load->facts);
    jrn_close(&load->journal);
    if (load->copy) {
        buf_free(&load->copy->source);
        buf_free(&load->copy->text);
        free(load->copy);
    }
    part_leave(&load->place);
    if (load->temp >= 0)
        (void)close(load->temp); /* what counts was synced */
    free(load);
}

/* How a file of the load is found; it points into the load. */
static struct part_name
xfer_name(const struct xfer_load *load, unsigned file)
{
    return (struct part_name){load->file[file].path, load->root, load->below};
}

/* Looks at the files: what they are, and how large all of them. */
static int
xfer_look(struct xfer_load *load, struct fail *f)
{
    struct part_file file;

    load->plan.size = 0;
    for (unsigned i = 0; i < load->files; i++) {
        struct part_name name = xfer_name(load, i);

        if (part_open(&file, &name, f) < 0)
            return -1;
        part_close(&file);
        load->file[i].id = file.id;
        if (file.id.size > INT64_MAX - load->plan.size)
            return fail_set(f, S3UP_USAGE, "%s is too large", load->file[i].path);
        load->plan.size += file.id.size;
    }
    return 0;
}

/* Are they still what they were when they were looked at? */
static bool
xfer_unchanged(const struct xfer_load *load)
{
    struct fail unread = {S3UP_OK, ""};
    struct part_file file;

    for (unsigned i = 0; i < load->files; i++) {
        struct part_name name = xfer_name(load, i);

        if (part_open_again(&file, &name, &load->file[i].id, &unread) < 0)
            return false;
        part_close(&file);
    }
    return true;
}

/* The digest of all that Create is told about the object: an upload that was created with
 * something else is another upload. The journal keeps the digest, not the fields: among
 * them may be a key that encrypts. */
static void
xfer_digest(const struct xfer *x, const struct xfer_load *load, char out[SIG_HEX])
{
    unsigned char digest[SHA256_SIZE];
    struct sum sum;

    sum_init(&sum, SUM_SHA256);
    for (unsigned i = 0; i < x->wish->n; i++) {
        sum_add(&sum, x->wish->heads[i].name, strlen(x->wish->heads[i].name) + 1);
        sum_add(&sum, x->wish->heads[i].value.p, x->wish->heads[i].value.n);
        sum_add(&sum, "\n", 1);
    }
    if (load->type)
        sum_add(&sum, load->type, strlen(load->type));
    sum_add(&sum, xfer_sum_name(&x->sums), strlen(xfer_sum_name(&x->sums)));
    sum_end(&sum, digest);
    sig_hex(digest, out);
}

/* A journal that was named could be any. 0 if it is of this transfer, or tells of
 * none. */
static int
xfer_is_of(const struct jrn *j, const struct jrn_facts *k, const struct jrn_what *w,
           struct fail *f)
{
    if (!k->key.n ||
        (span_eq(buf_span(&k->endpoint), w->endpoint) &&
         span_eq(buf_span(&k->bucket), w->bucket) && span_eq(buf_span(&k->key), w->key)))
        return 0;
    return fail_set(f, S3UP_USAGE, "%s is the journal of another transfer",
                    buf_text(&j->path));
}

/* Where the journal of a transfer is, or would be; empty if there is no place for it. Of
 * several files that are joined the first gives it its name: others behind it are found
 * out by xfer_compare. */
static int
xfer_put_journal(const struct xfer *x, const struct xfer_load *load, struct buf *out,
                 struct fail *f)
{
    struct buf source = buf_upto(PATH_MAX), endpoint = buf_upto(URL_MAX);
    struct jrn_what what = {load->down        ? "get"
                            : load->files > 1 ? "concat"
                                              : "put",
                            NULL,
                            {NULL, 0},
                            x->bucket,
                            buf_span(&load->key)};
    int rc = xfer_absolute(load->file[0].path, &source, f);

    xfer_put_endpoint(x->st, &endpoint);
    what.source = buf_text(&source);
    what.endpoint = buf_span(&endpoint);
    if (x->wish->journal)
        buf_str(out, x->wish->journal);
    else if (rc == 0 && x->wish->folder)
        jrn_put_path(x->wish->folder, &what, out);
    buf_free(&source);
    buf_free(&endpoint);
    return rc;
}

/* Opens the journal of a transfer. 1: it says something, 0: it is new, -1: another run is
 * at work on the transfer, or the journal is not for us. Where there is no place for one,
 * as on a disk that is full, the transfer goes on without. */
static int
xfer_open_journal(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct buf endpoint = buf_upto(URL_MAX);
    struct jrn_what what = {.bucket = x->bucket, .key = buf_span(&load->key)};
    struct fail now = {S3UP_OK, ""};
    int rc;

    buf_clear(&load->journal.path); /* if it is tried once more */
    rc = xfer_put_journal(x, load, &load->journal.path, f);
    if (rc < 0 || !load->journal.path.n)
        return rc;
    rc = jrn_open(&load->journal, true, &load->facts, &now);
    if (rc < 0 && now.code == S3UP_LATER) {
        log_say(LOG_WARN,
                "%s: going on without a journal; if this run ends early, "
                "the next one starts from the beginning",
                now.text);
        return 0;
    }
    if (rc < 0)
        return fail_set(f, now.code, "%s", now.text);
    xfer_put_endpoint(x->st, &endpoint);
    what.endpoint = buf_span(&endpoint);
    if (rc > 0 && xfer_is_of(&load->journal, &load->facts, &what, f) < 0)
        rc = -1;
    buf_free(&endpoint);
    return rc;
}

/* Writes what identifies the upload: what is read, and where it goes. Whoever reads it
 * back is jrn_fact; the order of these lines matters only in that an identity follows its
 * source. */
static int
xfer_write_facts(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct jrn *j = &load->journal;
    struct buf text = buf_upto(PATH_MAX);
    int rc = 0;

    for (unsigned i = 0; i < load->files && rc == 0; i++) {
        const struct os_id *id = &load->file[i].id;

        buf_clear(&text);
        if (xfer_absolute(load->file[i].path, &text, f) < 0)
            rc = -1;
        jrn_begin(j, "source");
        jrn_value(j, buf_span(&text));
        rc = rc < 0 ? rc : jrn_end(j, f);
        rc = rc < 0 ? rc : jrn_write_id(j, id, f);
    }
    buf_clear(&text);
    xfer_put_endpoint(x->st, &text);
    jrn_begin(j, "target");
    jrn_value(j, buf_span(&text));
    jrn_value(j, x->bucket);
    jrn_value(j, buf_span(&load->key));
    rc = rc < 0 ? rc : jrn_end(j, f);
    jrn_begin(j, "part-size");
    jrn_value_number(j, (uint64_t)load->plan.part);
    rc = rc < 0 ? rc : jrn_end(j, f);
    jrn_begin(j, "checksum");
    jrn_value(j, span_of(load->facts.checksum));
    rc = rc < 0 ? rc : jrn_end(j, f);
    jrn_begin(j, "headers");
    jrn_value(j, span_of(load->facts.headers));
    rc = rc < 0 ? rc : jrn_end(j, f);
    jrn_begin(j, "id");
    jrn_value(j, span_of(load->facts.id));
    rc = rc < 0 ? rc : jrn_end(j, f);
    buf_free(&text);
    return rc;
}

/* A journal that cannot be written any more is given up, not the upload. */
static void
xfer_lose_journal(struct xfer_load *load, const struct fail *why)
{
    if (load->journal.fd >= 0 && !load->journal.lost)
        log_say(LOG_WARN, "%s: the journal stays as it is, and this run goes on",
                why->text);
    load->journal.lost = true; /* its lines so far are true */
}

/* What the journal says is over: it is emptied, but stays, and stays locked. */
static void
xfer_reset(struct xfer_load *load)
{
    struct fail f = {S3UP_OK, ""};

    if (jrn_reset(&load->journal, &f) < 0)
        xfer_lose_journal(load, &f);
}

/* Asks the store for a new upload. On disk before that: what it is made of, and its
 * token; and behind it: its id. A token that is drawn anew each time tells the object
 * that comes of this upload from one that any other has made. */
static int
xfer_create(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct s3_call call =
        s3_to("CreateMultipartUpload", "POST", x->bucket, buf_span(&load->key));
    bool has_kind = x->sums.has_kind && !load->copy; /* we do not see what is copied */
    const char *algorithm = has_kind ? xfer_names[x->sums.kind].algorithm : NULL;
    struct buf mtime = buf_upto(64);
    struct fail now = {S3UP_OK, ""};
    int rc;

    jrn_forget(&load->facts);
    s3_copy_name(load->facts.checksum, sizeof load->facts.checksum,
                 span_of(xfer_sum_name(&x->sums)));
    xfer_digest(x, load, load->facts.headers);
    load->facts.part_size = (uint64_t)load->plan.part;
    if (xfer_token(load->facts.id, f) < 0)
        return -1;
    if (xfer_write_facts(x, load, &now) < 0 || jrn_sync(&load->journal, &now) < 0) {
        if (now.code != S3UP_LATER)
            return fail_set(f, now.code, "%s", now.text);
        xfer_lose_journal(load, &now);
    }
    /* Of a field that is set twice the last counts: the user's stand behind ours. */
    if (load->type)
        s3_header(&call, "content-type", span_of(load->type));
    if (load->files == 1 && xfer_put_mtime(&mtime, load->file[0].id.modified))
        s3_header(&call, XFER_MTIME, buf_span(&mtime));
    for (unsigned i = 0; load->copy && i < load->copy->n; i++)
        s3_header(&call, load->copy->head[i].name, load->copy->head[i].value);
    for (unsigned i = 0; i < x->wish->n; i++)
        s3_header(&call, x->wish->heads[i].name, x->wish->heads[i].value);
    s3_header(&call, "x-amz-meta-s3up-id", span_of(load->facts.id));
    if (algorithm)
        s3_header(&call, "x-amz-checksum-algorithm", span_of(algorithm));
    if (algorithm && x->sums.kind == SUM_CRC64NVME)
        s3_header(&call, "x-amz-checksum-type", SPAN("FULL_OBJECT"));
    rc = s3_create_upload(x->st, &call, &load->facts.upload, f);
    buf_free(&mtime);
    if (rc < 0 && xfer_is_nowhere(x->st))
        x->hopeless = f->code;
    if (rc < 0)
        return -1;
    x->proven = true;
    now = (struct fail){S3UP_OK, ""};
    jrn_begin(&load->journal, "upload");
    jrn_value(&load->journal, buf_span(&load->facts.upload));
    if (jrn_end(&load->journal, &now) < 0 || jrn_sync(&load->journal, &now) < 0)
        xfer_lose_journal(load, &now);
    load->orphan = load->journal.fd < 0 || load->journal.lost;
    load->ahead = 1;
    load->found = 0;
    xfer_say(x, (struct xfer_event){.kind = XFER_START, .load = load});
    return 0;
}

/* Has the store forget an upload, and the load its parts. Somebody who asks us to stop
 * waits a moment for that, XFER_PARTING of silence at most: no call is made while os_stop
 * is set, so it is put aside meanwhile, and a second signal ends the call. An upload that
 * is not there any more needs no word; one that stays takes room at the store. */
static void
xfer_abort(struct xfer *x, struct xfer_load *load)
{
    unsigned retries = x->st->config.retries;
    int64_t limit = x->st->origin.limit;
    struct fail f = {S3UP_OK, ""};
    sig_atomic_t stop = os_stop;

    if (stop) {
        x->st->config.retries = 0;
        x->st->origin.limit = XFER_PARTING;
        os_stop = 0;
    }
    if (load->facts.upload.n &&
        s3_abort_upload(x->st, x->bucket, buf_span(&load->key),
                        buf_span(&load->facts.upload), &f) < 0 &&
        f.code != S3UP_MISSING)
        log_say(LOG_WARN,
                "the old upload could not be aborted (%s); s3up sweep removes it",
                f.text);
    if (stop) {
        x->st->config.retries = retries;
        x->st->origin.limit = limit;
        os_stop = stop;
    }
    jrn_forget(&load->facts);
    load->orphan = false;
}

/* A hand has come to the end of an order: which is it at now? */
static void
xfer_step(struct xfer_doing *d)
{
    d->serial = d->at < d->n ? d->next[d->at++] : 0;
    d->number = 1;
}

/* What a worker that was ended has left: a temporary file that nobody will go on with. */
static void
xfer_clean_up(struct xfer_load *load)
{
    struct part_name name = xfer_name(load, 0);
    struct fail unread = {S3UP_OK, ""};

    if (load->place.folder >= 0 || part_find(&load->place, &name, &unread) == 0)
        part_drop_temp(&load->place);
    part_leave(&load->place);
}

/* Nobody is at work on a file of one request any more. Its worker may have been further
 * than we know: if the file was sent already, it is sent again. */
static void
xfer_hand_back(struct xfer_load *load)
{
    load->given[1] = 0;
    load->ahead = 1;
    load->flying--;
    if (load->down && load->whole)
        xfer_clean_up(load);
}

/* What a worker that is gone was to send later, somebody else must send. */
static void
xfer_inherit(struct xfer *x, struct xfer_doing *d)
{
    for (xfer_step(d); d->serial; xfer_step(d))
        for (struct xfer_load *load = x->loads; load; load = load->next)
            if (load->serial == d->serial)
                xfer_hand_back(load);
}

/* Ends the workers that are at work on it, and forgets what was given. Parts that they
 * had stored are not noted; if the load goes on in another run, xfer_adopt finds them. */
static void
xfer_recall(struct xfer *x, struct xfer_load *load)
{
    bool any = false;

    for (unsigned i = 0; i < x->crew.most; i++)
        if (x->crew.hand[i].busy && x->doing[i].serial == load->serial) {
            crew_dismiss(&x->crew, i);
            any = true;
            xfer_inherit(x, &x->doing[i]);
        }
    if ((any || load->deaths) && load->down && load->whole)
        xfer_clean_up(load);
    load->flying = 0;
    load->ahead = 1;
    if (load->given)
        memset(load->given, 0, load->whole ? 2 : PARTS_MAX + 1);
}

static const char xfer_is_new[] = "the file changed while it was being sent";
static const char xfer_is_gone[] = "the store does not know the upload any more";

/* Begins anew, once in a run: a file that changes all the time is not sent. The old
 * upload is aborted first: its parts are paid for as long as it is there. A copy is left
 * to the next run, which looks at its source anew. 0: there is a new upload; -1: it has
 * failed. */
static int
xfer_over(struct xfer *x, struct xfer_load *load, const char *why, struct fail *f)
{
    bool again = load->again;
    struct os_id was;

    xfer_recall(x, load);
    xfer_abort(x, load);
    if (load->copy)
        return fail_set(f, S3UP_LATER, "%s: %s", load->file[0].path, why);
    if (load->stream)
        return fail_set(f, S3UP_LATER,
                        "%s: %s, and what was read from a stream cannot be read again",
                        load->file[0].path, why);
    if (again) {
        jrn_remove(&load->journal);
        return fail_set(f, S3UP_SKIPPED, "%s: %s, again: it was not sent",
                        load->file[0].path, why);
    }
    load->again = true;
    xfer_say(x, (struct xfer_event){.kind = XFER_OVER, .load = load, .text = why});
    was = load->file[0].id;
    if (xfer_look(load, f) < 0)
        return -1;
    /* What must have been at rest is not sent as it is now. */
    if (x->wish->sure && !os_untouched(&was, &load->file[0].id)) {
        jrn_remove(&load->journal);
        return fail_set(f, S3UP_SKIPPED, xfer_is_touched, load->file[0].path);
    }
    if (part_plan(&load->plan, load->plan.size, x->wish->part_size, f) < 0)
        return -1;
    xfer_reset(load);
    return xfer_create(x, load, f);
}

/* ---- an upload that was begun by an earlier run ----
 *
 * Two questions decide what can stay. Are the files what they were? If their identity is
 * the same, yes; if only their times differ, the parts are summed; else no. And what does
 * the store have? Its list is believed rather than the journal: parts that it does not
 * have are sent, and parts that only it knows are taken if their content is ours. An
 * upload that is gone may have been completed by the run that was cut off: then the
 * object carries its token.
 */

/* Which files a part lies in: s.files of them from number *first on. */
static struct part_stretch
xfer_cut(const struct xfer_load *load, unsigned number, unsigned *first)
{
    struct part_stretch s = {.at = (int64_t)(number - 1) * load->plan.part,
                             .length = part_length(&load->plan, number)};
    int64_t end;
    unsigned i = 0;

    while (i + 1 < load->files && s.at >= load->file[i].id.size)
        s.at -= load->file[i++].id.size;
    *first = i;
    end = s.at + s.length;
    while (i < load->files && end > 0)
        end -= load->file[i++].id.size;
    s.files = i > *first ? i - *first : 1;
    return s;
}

/* Sums a part as the files are now; they must still be what they were when the load was
 * begun. */
static int
xfer_sum_part(const struct xfer_load *load, unsigned number, struct part_sums *sums,
              struct fail *f)
{
    unsigned first, opened = 0;
    struct part_stretch s = xfer_cut(load, number, &first);
    struct part_file *file = calloc(s.files, sizeof *file);

    if (!file)
        return fail_set(f, S3UP_LATER, "no memory");
    for (; opened < s.files && f->code == S3UP_OK; opened++) {
        struct part_name name = xfer_name(load, first + opened);

        (void)part_open_again(&file[opened], &name, &load->file[first + opened].id, f);
    }
    s.file = file;
    if (f->code == S3UP_OK)
        (void)part_sum(&s, sums, f);
    for (unsigned i = 0; i < opened; i++)
        part_close(&file[i]);
    free(file);
    return f->code == S3UP_OK ? 0 : -1;
}

/* The kind of sum by which a range is known again: the one that the store has of the
 * whole, if that can be joined from those of ranges. */
static enum sum_kind
xfer_down_kind(const struct xfer_load *load)
{
    return load->said.has_sum && sum_crc(load->said.kind) ? load->said.kind
                                                          : SUM_CRC64NVME;
}

/* The kind of sum that the journal's parts have; false if they have none. */
static bool
xfer_known_kind(const struct xfer *x, const struct xfer_load *load, enum sum_kind *kind)
{
    if (load->down) {
        *kind = xfer_down_kind(load);
        return true;
    }
    *kind = x->sums.has_kind ? x->sums.kind : SUM_SHA256;
    return x->sums.has_kind || !x->sums.is_unsigned;
}

/* The files have other times than the journal says, but the same sizes: touched, copied,
 * or rewritten. Parts whose content is the same stay. Those that do not are named in the
 * journal before it is given the new times: else a run that ends here would leave one
 * that fits the files, with parts that do not. 0: parts were compared; 1: they have no
 * sums to be compared by; -1: failed. */
static int
xfer_sum_again(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    enum sum_kind kind;

    if (!xfer_known_kind(x, load, &kind))
        return 1;
    for (unsigned n = 1; n <= load->facts.parts; n++) {
        struct part_sums sums = {.n = 1};
        struct jrn_part *part = &load->facts.part[n - 1];

        if (!part->done || n > load->plan.n)
            continue;
        sum_init(&sums.at[0], kind);
        if (xfer_sum_part(load, n, &sums, f) < 0)
            return -1;
        part->done = sum_equal(part->sum, sums.digest[0], sum_kinds[kind].size);
        if (part->done)
            continue;
        jrn_begin(&load->journal, "lost");
        jrn_value_number(&load->journal, n);
        if (jrn_end(&load->journal, f) < 0) {
            xfer_lose_journal(load, f);
            *f = (struct fail){S3UP_OK, ""};
        }
    }
    return 0;
}

/* Does what the journal says hold for the files as they are? NULL: it does, once parts
 * were compared where that was necessary; else why the upload must begin anew. The parts
 * stay as large as they were, whatever is asked for by now: those that are there are. */
static const char *
xfer_compare(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    unsigned before = jrn_count(&load->facts);
    char digest[SIG_HEX];
    bool same = true;

    load->same = false;
    xfer_digest(x, load, digest);
    if (load->facts.sources != load->files)
        return "other files were joined";
    if (strcmp(digest, load->facts.headers) != 0)
        return "other headers or another checksum were asked for";
    for (unsigned i = 0; i < load->files; i++) {
        if (load->facts.source[i].id.size != load->file[i].id.size)
            return "the file has another size than it had";
        /* Between runs a file may have been rewritten and given its old time back. */
        same &= os_same(&load->facts.source[i].id, &load->file[i].id) &&
                load->facts.source[i].id.changed.s == load->file[i].id.changed.s &&
                load->facts.source[i].id.changed.ns == load->file[i].id.changed.ns;
    }
    if (part_plan(&load->plan, load->plan.size, load->facts.part_size, f) < 0 ||
        (uint64_t)load->plan.part != load->facts.part_size)
        return "the journal has another part size than is possible";
    load->same = same;
    if (same)
        return NULL;
    switch (xfer_sum_again(x, load, f)) {
    case 0:
        load->same = jrn_count(&load->facts) == load->plan.n;
        /* The new identity vouches for all parts that are noted: it must not stand there
         * while one of them has other bytes. Of several files only the last could be
         * noted: they are summed each time. */
        if (load->files == 1 && jrn_count(&load->facts) == before &&
            jrn_write_id(&load->journal, &load->file[0].id, f) < 0)
            xfer_lose_journal(load, f);
        return NULL;
    case 1:
        return "the file changed, and its parts have no checksums";
    default:
        return "it changed while it was being read";
    }
}

/* A part that the store has and the journal has not, as when the power went before the
 * note was on disk: it is ours if the content is. Only an ETag that is an MD5 tells; any
 * other part is sent again. It is noted here only, not in the journal: the store's list
 * tells it again. */
static void
xfer_adopt(struct xfer *x, struct xfer_load *load, const struct s3_entry *e)
{
    unsigned char digest[MD5_SIZE];
    unsigned number = (unsigned)e->number;
    struct part_sums sums = {.n = 2};
    struct fail unread = {S3UP_OK, ""};
    enum sum_kind kind;

    if ((int64_t)e->size != part_length(&load->plan, number) ||
        !hex_read(s3_bare(buf_span(&e->etag)), digest, sizeof digest))
        return;
    (void)xfer_known_kind(x, load, &kind);
    sum_init(&sums.at[0], SUM_MD5);
    sum_init(&sums.at[1], kind);
    if (xfer_sum_part(load, number, &sums, &unread) == 0 &&
        sum_equal(sums.digest[0], digest, sizeof digest))
        (void)jrn_note_part(&load->facts, number, buf_span(&e->etag), sums.digest[1]);
}

/* What the store says of an upload that the journal knows. */
enum xfer_found {
    XFER_AS_IT_IS, /* it is there, with the parts that are noted by now */
    XFER_GONE,     /* there is none */
    XFER_TOO_MUCH, /* it has parts that cannot be ours */
    XFER_UNKNOWN   /* it could not be asked: f says why */
};

/* Asks the store which parts it has, and believes it rather than the journal. A store
 * that does not tell leaves the journal as it is. Parts that are missing are crossed out
 * only when the whole list was read: half a list says nothing of the rest. */
static enum xfer_found
xfer_reconcile(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    enum xfer_found found = XFER_AS_IT_IS;
    struct fail now = {S3UP_OK, ""};
    unsigned char *seen = calloc(PARTS_MAX + 1, 1);
    struct s3_list l;
    int more = -1;

    if (!seen) {
        (void)fail_set(f, S3UP_LATER, "no memory");
        return XFER_UNKNOWN;
    }
    s3_list_begin(&l, S3_PARTS, x->bucket);
    l.key = buf_span(&load->key);
    l.id = buf_span(&load->facts.upload);
    while (found == XFER_AS_IT_IS && (more = s3_list_next(x->st, &l, &now)) > 0) {
        const struct s3_entry *e = &l.entry;
        struct jrn_part *part;

        if (e->number < 1 || e->number > load->plan.n) {
            found = XFER_TOO_MUCH; /* whoever sent it had cut the file in another way */
            break;
        }
        seen[e->number] = 1;
        part = load->facts.part ? &load->facts.part[e->number - 1] : NULL;
        if (part && part->done)
            part->done =
                (int64_t)e->size == part_length(&load->plan, (unsigned)e->number) &&
                span_eq(s3_bare(buf_span(&e->etag)),
                        s3_bare(span_of(jrn_etag(&load->facts, (unsigned)e->number))));
        else
            xfer_adopt(x, load, e);
    }
    s3_list_end(&l);
    for (unsigned n = 1; more == 0 && n <= load->facts.parts; n++)
        load->facts.part[n - 1].done &= seen[n];
    free(seen);
    if (more >= 0 || found != XFER_AS_IT_IS)
        return found;
    /* A 404 without a code is that of something in between. */
    if (span_is(span_of(x->st->error.code), "NoSuchUpload") ||
        (x->st->error.status == 404 && x->st->error.code[0] && !xfer_is_nowhere(x->st)))
        return XFER_GONE;
    if (now.code == S3UP_DENIED && !s3_wants_keys(&x->st->error))
        return XFER_AS_IT_IS; /* it may not be asked: the journal is believed */
    if (x->st->error.status == 405 || x->st->error.status == 501)
        return XFER_AS_IT_IS;
    (void)fail_set(f, now.code, "%s", now.text);
    return XFER_UNKNOWN;
}

/* The upload is not there any more. Perhaps because it was completed. 1: it was, and the
 * object is stored; 0: it was not; -1: not known, or somebody else's object is there,
 * though ours may have been there before it: to send it again could undo what they
 * did. */
static int
xfer_was_completed(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct fail now = {S3UP_OK, ""};
    struct span id, date;

    if (s3_head_object(x->st, x->bucket, buf_span(&load->key), &now) < 0)
        return now.code == S3UP_MISSING ||
                       (now.code == S3UP_DENIED && !load->facts.completing)
                   ? 0
                   : fail_set(f, now.code, "%s", now.text);
    id = s3_value(x->st, "x-amz-meta-s3up-id");
    if (span_is(id, load->facts.id)) { /* it may be of a file that has grown since */
        s3_copy_name(load->etag, sizeof load->etag, s3_value(x->st, "etag"));
        return x->st->conn.head.length == load->plan.size;
    }
    date = s3_value(x->st, "last-modified");
    if (!load->facts.completing)
        return 0;
    return fail_set(
        f, S3UP_DAMAGED,
        "s3://%.*s/%.*s: this upload was being completed when it was cut off, "
        "and now the object that is there was written by %s (%.*s). Nothing "
        "was touched; to upload again, use --restart",
        (int)x->bucket.n, x->bucket.p, (int)load->key.n, load->key.p,
        id.n ? "another run of s3up" : "another program", (int)date.n,
        date.n ? date.p : "");
}

/* Takes up what an earlier run began. 1: the object is stored already, 0: parts are to be
 * sent, also if it began anew, -1: failed. */
static int
xfer_resume(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct fail now = {S3UP_OK, ""};
    const char *why = xfer_compare(x, load, &now);
    enum xfer_found found;
    int rc;

    if (os_stop)
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    if (why && !load->facts.completing)
        return xfer_over(x, load, why, f);
    /* What the store may be joining yet are the parts as they were. */
    if (!why && load->facts.completing && !load->same)
        why = xfer_is_new;
    now = (struct fail){S3UP_OK, ""};
    found = xfer_reconcile(x, load, &now);
    /* What was being completed may be stored: that is found out before it begins anew. A
     * status that is left there says that the store could not list the parts: then the
     * object must tell. */
    if (why && found == XFER_AS_IT_IS && x->st->error.status)
        found = XFER_GONE;
    switch (found) {
    case XFER_GONE:
        rc = xfer_was_completed(x, load, f);
        load->unsure = true; /* nobody has seen what came of its parts */
        if (rc < 0 || (rc == 1 && load->same))
            return rc;
        return xfer_over(x, load, why ? why : xfer_is_gone, f);
    case XFER_TOO_MUCH:
        why = why ? why : "the store has parts that do not belong to it";
        break;
    case XFER_UNKNOWN:
        return fail_set(f, now.code, "%s", now.text);
    case XFER_AS_IT_IS:
        break;
    }
    if (why)
        return xfer_over(x, load, why, f);
    load->facts.completing = false;
    load->found = jrn_count(&load->facts);
    load->unsure = load->found > 0;
    load->ahead = 1;
    xfer_say(x, (struct xfer_event){.kind = XFER_RESUME, .load = load});
    return 0;
}

/* The CRC of the whole, joined from those of the parts. */
static void
xfer_join(const struct xfer_load *load, enum sum_kind kind, unsigned char *out)
{
    const struct crc *k = sum_crc(kind);
    bool wide = sum_kinds[kind].size == 8;
    uint64_t whole = 0;

    for (unsigned n = 1; n <= load->plan.n; n++) {
        const unsigned char *sum = load->facts.part[n - 1].sum;
        uint64_t part = sum_load32be(sum);

        if (wide)
            part = part << 32 | sum_load32be(sum + 4);
        whole = crc_join(k, whole, part, (uint64_t)part_length(&load->plan, n));
    }
    if (wide) {
        sum_store32be(out, (uint32_t)(whole >> 32));
        out += 4;
    }
    sum_store32be(out, (uint32_t)whole);
}

/* ---- a download of many parts ----
 *
 * The temporary file has its full size from the beginning, and ranges are written to
 * their places as they come, in any order. The journal names the object by its ETag, the
 * file by its number, and each range that is on disk by a sum. A run that goes on asks
 * whether the object is the same, and sums the ranges that are noted: what a crash has
 * spoilt is fetched anew. At the end the sum of the whole is joined from those of the
 * ranges, if the store names one of a kind that can be joined; else all is read once
 * more.
 */

/* What is to be fetched, as the store describes it. */
static int
xfer_head(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct xfer_get g = {.bucket = x->bucket, .key = buf_span(&load->key)};

    if (xfer_look_at(x->st, &g, x->wish, f) < 0)
        return -1;
    load->said = g.said;
    load->modified = g.modified;
    load->from = g.from;
    load->total = g.total;
    load->plan.size = g.length;
    x->proven = true;
    return 0;
}

/* Which piece of the object it is. */
static void
xfer_down_digest(const struct xfer_load *load, char out[SIG_HEX])
{
    unsigned char digest[SHA256_SIZE];
    struct buf text = buf_upto(64);
    struct sum sum;

    buf_num(&text, (uint64_t)load->from);
    buf_char(&text, '+');
    buf_num(&text, (uint64_t)load->plan.size);
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, text.p, text.n);
    sum_end(&sum, digest);
    sig_hex(digest, out);
    buf_free(&text);
}

/* The ranges that the journal tells of are summed again: what a crash has spoilt is
 * fetched anew. */
static int
xfer_sum_ranges(struct xfer_load *load, struct fail *f)
{
    struct part_file file = {.fd = load->temp, .path = load->place.path};
    enum sum_kind kind = xfer_down_kind(load);

    if (!os_identify(load->temp, &file.id))
        return fail_sys(f, "examine", file.path);
    for (unsigned n = 1; n <= load->facts.parts; n++) {
        struct part_sums sums = {.n = 1};
        struct jrn_part *part = &load->facts.part[n - 1];
        struct part_stretch s = {&file, 1, (int64_t)(n - 1) * load->plan.part, 0, NULL};

        part->done &= n <= load->plan.n; /* what is behind the end counts for nothing */
        if (!part->done)
            continue;
        s.length = part_length(&load->plan, n);
        sum_init(&sums.at[0], kind);
        if (part_sum(&s, &sums, f) < 0)
            return -1;
        part->done = sum_equal(part->sum, sums.digest[0], sum_kinds[kind].size);
    }
    return 0;
}

/* Does the journal tell of this object, and is the file that it tells of still there? 1:
 * yes, and its ranges were summed; 0: no, it begins anew; -1: failed. An object without
 * an ETag cannot be known again. */
static int
xfer_down_fits(struct xfer_load *load, struct fail *f)
{
    const struct jrn_facts *k = &load->facts;
    struct fail unread = {S3UP_OK, ""};
    char digest[SIG_HEX];
    struct stat info;
    struct os_id id;

    xfer_down_digest(load, digest);
    if (!load->said.etag[0] || strcmp(k->object, load->said.etag) != 0 ||
        strcmp(k->headers, digest) != 0 || k->sources != 1 ||
        part_plan(&load->plan, load->plan.size, k->part_size, &unread) < 0 ||
        k->part_size != (uint64_t)load->plan.part ||
        !span_is(span_of(sum_kinds[xfer_down_kind(load)].name), k->checksum))
        return 0;
    load->temp = part_take_temp(&load->place, f);
    if (load->temp < 0)
        return f->code == S3UP_OK ? 0 : -1;
    if (!os_identify(load->temp, &id) || id.size != load->plan.size ||
        id.device != k->source[0].id.device || id.inode != k->source[0].id.inode)
        return 0;
    /* A run that was killed while it gave the file its name by a link has left it both:
     * what is written now would be seen under the other. */
    if (fstat(load->temp, &info) != 0 || info.st_nlink != 1)
        return 0;
    load->file[0].id = id;
    return xfer_sum_ranges(load, f) < 0 ? -1 : 1;
}

/* The temporary file stays, without its lock. */
static void
xfer_close_temp(struct xfer_load *load)
{
    if (load->temp >= 0)
        (void)close(load->temp); /* what counts was synced */
    load->temp = -1;
}

/* Is there room for it? Else a full disk would tell, perhaps after hours. A file system
 * that says nothing is believed to have some. */
static int
xfer_check_room(const struct xfer_load *load, struct fail *f)
{
    struct statvfs info;

    if (fstatvfs(load->temp, &info) != 0 || !info.f_blocks ||
        (uint64_t)info.f_bavail * info.f_frsize >= (uint64_t)load->plan.size)
        return 0;
    return fail_set(f, S3UP_LATER, "%s: there is room for %llu bytes, and it has %llu",
                    load->place.path,
                    (unsigned long long)((uint64_t)info.f_bavail * info.f_frsize),
                    (unsigned long long)load->plan.size);
}

/* Begins a download: a file with nothing in it, and a journal that says which. What an
 * earlier run left under the temporary name is removed by part_make_temp. */
static int
xfer_new_down(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct jrn *j = &load->journal;
    struct fail now = {S3UP_OK, ""};

    xfer_close_temp(load);
    xfer_reset(load);
    jrn_forget(&load->facts);
    load->temp =
        part_make_temp(&load->place, S_ISREG(load->old.st_mode) ? 0600 : 0666, f);
    load->orphan = load->temp < 0; /* the journal tells of nothing */
    if (load->orphan)
        return -1;
    if (xfer_check_room(load, f) < 0 || ftruncate(load->temp, load->plan.size) != 0 ||
        !os_identify(load->temp, &load->file[0].id)) {
        load->orphan = true; /* there is nothing to go on with */
        return fail_sys(f, "write", load->place.path);
    }
    load->facts.part_size = (uint64_t)load->plan.part;
    xfer_down_digest(load, load->facts.headers);
    s3_copy_name(load->facts.id, sizeof load->facts.id, SPAN("-"));
    s3_copy_name(load->facts.checksum, sizeof load->facts.checksum,
                 span_of(sum_kinds[xfer_down_kind(load)].name));
    if (xfer_write_facts(x, load, &now) == 0) {
        jrn_begin(j, "object");
        jrn_value(j, span_of(load->said.etag[0] ? load->said.etag : "-"));
    }
    if (now.code != S3UP_OK || jrn_end(j, &now) < 0 || jrn_sync(j, &now) < 0)
        xfer_lose_journal(load, &now);
    load->orphan = j->fd < 0 || j->lost;
    load->found = 0;
    xfer_say(x, (struct xfer_event){.kind = XFER_START, .load = load});
    return 0;
}

/* The file is there, from elsewhere: what an earlier run had fetched of it goes, unless
 * another run is at work on it. */
static void
xfer_drop_rest(struct xfer *x, struct xfer_load *load)
{
    struct fail unread = {S3UP_OK, ""};

    if (x->wish->journal || xfer_put_journal(x, load, &load->journal.path, &unread) < 0 ||
        !load->journal.path.n ||
        jrn_open(&load->journal, false, &load->facts, &unread) <= 0)
        return;
    part_drop_temp(&load->place);
    jrn_remove(&load->journal);
    load->journal = jrn_none();
    jrn_forget(&load->facts);
}

/* Opens a download of many parts, or finds the one that was begun. 0: ranges are to be
 * fetched, or load->kept: there is nothing to do. It is called again if it begins anew:
 * the journal and the place are open by then. */
static int
xfer_open_down(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct part_name name = xfer_name(load, 0);
    int found = 0;

    load->ahead = 1;
    if (xfer_head(x, load, f) < 0)
        return -1;
    if (part_plan(&load->plan, load->plan.size, x->wish->part_size, f) < 0 ||
        (load->place.folder < 0 && part_find(&load->place, &name, f) < 0) ||
        xfer_is_clear(x, &load->place, load->root != AT_FDCWD, &load->old, f) < 0)
        return -1;
    /* Neither a journal nor a file is made for what need not be fetched. */
    found = xfer_is_there(x, buf_span(&load->key), &load->place, &load->plan.size, f);
    load->kept = found > 0;
    if (load->kept)
        xfer_drop_rest(x, load);
    if (found)
        return found < 0 ? -1 : 0;
    if (load->journal.fd < 0)
        found = xfer_open_journal(x, load, f);
    if (found > 0 && !x->wish->restart)
        found = xfer_down_fits(load, f);
    if (found < 0 || f->code != S3UP_OK)
        return -1;
    if (!found || x->wish->restart)
        return xfer_new_down(x, load, f);
    load->found = jrn_count(&load->facts);
    xfer_say(x, (struct xfer_event){.kind = XFER_RESUME, .load = load});
    return 0;
}

/* Is what lies there what the store has? Sums of ranges that can be joined say so at
 * once, else all is read once more. */
static int
xfer_check_file(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct xfer_get g = {
        .bucket = x->bucket, .key = buf_span(&load->key), .said = load->said};
    struct part_file file = {.fd = load->temp, .path = load->place.path};
    struct part_stretch s = {&file, 1, 0, load->plan.size, NULL};
    struct part_sums sums = {.n = 0};

    if (g.said.has_sum && sum_crc(g.said.kind)) {
        xfer_join(load, g.said.kind, g.digest);
        g.said.is_md5 = false;
        return xfer_check_sums(&g, NULL, g.digest, f);
    }
    if (g.said.is_md5)
        sum_init(&sums.at[sums.n++], SUM_MD5);
    if (g.said.has_sum)
        sum_init(&sums.at[sums.n++], g.said.kind);
    if (!sums.n)
        return 0;
    if (!os_identify(load->temp, &file.id))
        return fail_sys(f, "examine", file.path);
    return part_sum(&s, &sums, f) < 0
               ? -1
               : xfer_check_sums(&g, sums.digest[0], sums.digest[sums.n - 1], f);
}

/* All ranges are there: checks them, and gives the file its name. */
static int
xfer_finish_down(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    if (xfer_check_file(x, load, f) < 0) {
        load->orphan |= f->code == S3UP_DAMAGED; /* nobody can go on with that */
        return -1;
    }
    s3_copy_name(load->etag, sizeof load->etag, span_of(load->said.etag));
    xfer_own_as(load->temp, &load->old);
    if (xfer_seal_file(load->temp, load->place.path, load->modified, f) == 0)
        (void)xfer_give_name(x, &load->place, load->temp, true, f);
    load->orphan |= f->code == S3UP_EXISTS; /* it can never get its name */
    return f->code == S3UP_OK ? 0 : -1;
}

/* Gives it a note for each part; more than the plan has, since that may still change. */
static int
xfer_make_notes(struct xfer_load *load, struct fail *f)
{
    free(load->given); /* if it begins anew */
    load->given = calloc(load->whole ? 2 : PARTS_MAX + 1, 1);
    return load->given ? 0 : fail_set(f, S3UP_LATER, "no memory");
}

/* Makes it a download of one request, whatever was begun. Such a one has no journal, and
 * its worker makes the temporary file: what is there under that name goes then. */
static int
xfer_all_at_once(struct xfer_load *load, struct fail *f)
{
    xfer_close_temp(load);
    jrn_remove(&load->journal);
    load->journal = jrn_none();
    jrn_forget(&load->facts);
    load->whole = true;
    load->said.etag[0] =
        0; /* a single answer is of one object, whichever that is by then */
    load->ahead = load->plan.n = 1;
    return xfer_make_notes(load, f);
}

/* In parts, after all. 1: all were there already, and it is done, or there was nothing to
 * do; 0: there are orders to be given; -1: failed. */
static int
xfer_start_parts(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    load->whole = false;
    if (xfer_make_notes(load, f) < 0 || xfer_open_down(x, load, f) < 0)
        return -1;
    if (load->kept)
        return 1;
    /* There is no range in nothing; and ranges of what cannot be told from another object
     * could be of both. */
    load->whole_only |= !load->plan.size ||
                        (!load->said.etag[0] && !load->said.has_sum && !x->wish->slice);
    if (!load->plan.size || load->whole_only)
        return xfer_all_at_once(load, f);
    if (jrn_count(&load->facts) < load->plan.n)
        return 0;
    return xfer_finish_down(x, load, f) < 0 ? -1 : 1;
}

/* Begins a download anew, once in a run: an object that changes all the time is not
 * fetched. */
static int
xfer_over_down(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    static const char why[] = "the object changed while it was being fetched";

    xfer_recall(x, load);
    if (load->again) {
        load->orphan = true;
        return fail_set(f, S3UP_SKIPPED, "%s: %s, again", load->file[0].path, why);
    }
    load->again = true;
    xfer_say(x, (struct xfer_event){.kind = XFER_OVER, .load = load, .text = why});
    return load->whole ? 0 : xfer_start_parts(x, load, f);
}

/* An object shall be fetched: in one request, if it is not known to be large, and nothing
 * of it is there yet. */
static int
xfer_start_down(struct xfer *x, struct xfer_load *load, int64_t size, struct fail *f)
{
    struct buf journal = buf_upto(PATH_MAX);
    struct fail unread = {S3UP_OK, ""};
    bool parts = x->wish->slice || size > xfer_limit(x);

    /* In a tree the folders may not be there yet, and then there is nothing in them. */
    if (!parts && xfer_put_journal(x, load, &journal, &unread) == 0)
        parts = journal.n && access(buf_text(&journal), F_OK) == 0;
    buf_free(&journal);
    return parts ? xfer_start_parts(x, load, f) : xfer_all_at_once(load, f);
}

/* An order to fetch was not carried out. 1: all is there by now; 0: it goes on in another
 * way; -1: it has failed. A store that cannot send ranges is asked for the whole: then
 * nothing can be resumed, but it is fetched. */
static int
xfer_not_fetched(struct xfer *x, struct xfer_load *load, const struct crew_answer *a,
                 struct fail *f)
{
    if (a->large)
        return xfer_start_parts(x, load, f);
    if (a->changed)
        return xfer_over_down(x, load, f);
    if (!a->whole_only || x->wish->slice || load->whole)
        return fail_set(f, a->code, "%s", a->text);
    xfer_recall(x, load);
    load->whole_only = true;
    return xfer_all_at_once(load, f);
}

/* ---- the end of an upload ----
 *
 * To join the parts may take the store minutes, and the reply may be lost on the way. So
 * a refusal need not mean that nothing is stored: an attempt before it may have been
 * heard, and the upload is gone because it has become the object. Then the object is
 * asked for: with our token and our size, it is ours. The list of parts names each by its
 * ETag, and, where the store has checksums, by its sum: what it joins is what it has
 * acknowledged.
 */

/* The list of parts, and what else the store shall check before it joins them: the sum of
 * the whole, joined from those of the parts, and that the key is free. text holds what
 * the call points to. The condition must be the last field: see xfer_ask_complete. */
static void
xfer_prepare(const struct xfer *x, const struct xfer_load *load, struct s3_call *call,
             struct buf *list, struct buf *text)
{
    bool has_kind = x->sums.has_kind && !load->copy;
    bool listed = !x->sumless && has_kind && xfer_names[x->sums.kind].element;
    unsigned char digest[8];

    for (unsigned n = 1; n <= load->plan.n; n++) {
        struct s3_pair sum = {xfer_names[x->sums.kind].element, {NULL, 0}};

        buf_clear(text);
        if (listed) {
            b64_put(text, load->facts.part[n - 1].sum, sum_kinds[x->sums.kind].size);
            sum.value = buf_span(text);
        }
        s3_put_part(list, n, span_of(jrn_etag(&load->facts, n)), sum);
    }
    if (has_kind && x->sums.kind == SUM_CRC64NVME) {
        xfer_join(load, SUM_CRC64NVME, digest);
        buf_clear(text);
        b64_put(text, digest, sizeof digest);
        s3_header(call, xfer_names[x->sums.kind].header, buf_span(text));
        s3_header(call, "x-amz-checksum-type", SPAN("FULL_OBJECT"));
    }
    if (load->match[0])
        s3_header(call, "if-match", span_of(load->match));
    else if (xfer_guards(x->wish))
        s3_header(call, "if-none-match", SPAN("*"));
}

/* Sends one Complete. plain: to a store that knows no conditions, without one. */
static int
xfer_ask_complete(struct xfer *x, struct xfer_load *load, bool plain, struct fail *f)
{
    struct s3_call call =
        s3_to("CompleteMultipartUpload", "POST", x->bucket, buf_span(&load->key));
    struct buf list = buf_upto(S3_REPLY), text = buf_upto(128),
               etag = buf_upto(JRN_UPLOAD);
    int rc;

    xfer_prepare(x, load, &call, &list, &text);
    if (plain && call.heads && !strncmp(call.head[call.heads - 1].name, "if-", 3))
        call.heads--;
    rc = s3_complete_upload(x->st, &call, buf_span(&load->facts.upload), &list, f);
    if (rc == 0 && s3_reply_text(x->st, "CompleteMultipartUploadResult/ETag", &etag))
        s3_copy_name(load->etag, sizeof load->etag, buf_span(&etag));
    buf_free(&list);
    buf_free(&text);
    buf_free(&etag);
    return rc;
}

/* What a refused Complete means. 0: the object is stored all the same, 1: parts must be
 * sent again, -1: failed. */
static int
xfer_not_completed(struct xfer *x, struct xfer_load *load, const struct fail *now,
                   struct fail *f)
{
    struct s3_error e = x->st->error;
    struct fail unread = {S3UP_OK, ""};
    unsigned before = jrn_count(&load->facts);
    int done = 0;
    bool lost = span_is(span_of(e.code), "NoSuchUpload") || now->code == S3UP_LATER ||
                e.status == 412 || e.status == 404;

    if (os_stop) /* the journal says that it was being completed: the next run asks */
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    /* A first attempt may have been heard, and only its reply lost: the second is told
     * that there is no such upload, or that the key is taken. */
    if (lost && (done = xfer_was_completed(x, load, &unread)) == 1)
        return 0;
    if (done < 0 && span_is(span_of(e.code), "NoSuchUpload"))
        return fail_set(f, unread.code, "%s", unread.text);
    if (e.status == 412)
        return fail_set(f, S3UP_EXISTS,
                        "s3://%.*s/%.*s exists already: somebody else "
                        "wrote it while this was being sent",
                        (int)x->bucket.n, x->bucket.p, (int)load->key.n, load->key.p);
    if (span_is(span_of(e.code), "NoSuchUpload") ||
        span_is(span_of(e.code), "ConditionalRequestConflict"))
        return xfer_over(x, load, "the store gave the upload up", f) < 0 ? -1 : 1;
    /* Stores lose parts; those that it still has need not be sent again. Once in a
     * run. */
    if (!strncmp(e.code, "InvalidPart", strlen("InvalidPart")) && !load->again &&
        !load->stream) {
        if (xfer_reconcile(x, load, f) != XFER_AS_IT_IS ||
            jrn_count(&load->facts) == before)
            return f->code != S3UP_OK || xfer_over(x, load, "the store lost parts", f) < 0
                       ? -1
                       : 1;
        load->again = true;
        xfer_recall(x, load); /* what it lost may be given again */
        return 1;
    }
    return f->code != S3UP_OK ? -1 : fail_set(f, now->code, "%s", now->text);
}

/* Has the store join the parts. 0: stored, 1: there are parts to be sent again, -1:
 * failed. The files are looked at once more: what has changed since its parts were read
 * is not what shall be stored. Then the store is asked in up to four ways, each for a
 * store that does not know what the one before it asked for. */
static int
xfer_complete(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct fail now = {S3UP_OK, ""}, unread = {S3UP_OK, ""};
    int rc;

    if (!xfer_unchanged(load))
        return x->wish->sure
                   ? fail_set(f, S3UP_SKIPPED, xfer_is_touched, load->file[0].path)
               : xfer_over(x, load, xfer_is_new, f) < 0 ? -1
                                                        : 1;
    jrn_begin(&load->journal, "completing");
    if (jrn_end(&load->journal, &now) < 0 || jrn_sync(&load->journal, &now) < 0)
        xfer_lose_journal(load, &now);
    now = (struct fail){S3UP_OK, ""};
    load->facts.completing = true;
    rc = xfer_ask_complete(x, load, false, &now);
    if (rc < 0 && !x->sumless && span_is(span_of(x->st->error.code), "MalformedXML")) {
        x->sumless = true; /* Swift knows no sums there; MinIO wants them */
        now = (struct fail){S3UP_OK, ""};
        rc = xfer_ask_complete(x, load, false, &now);
    }
    if (rc < 0 && x->st->error.status == 412 && load->match[0] == '"') {
        char bare[CREW_ETAG]; /* as in xfer_put_match */

        s3_copy_name(bare, sizeof bare, s3_bare(span_of(load->match)));
        s3_copy_name(load->match, sizeof load->match, span_of(bare));
        now = (struct fail){S3UP_OK, ""};
        rc = xfer_ask_complete(x, load, false, &now);
    }
    if (rc < 0 && xfer_guards(x->wish) && x->st->error.status == 501) {
        xfer_warn_race();
        now = (struct fail){S3UP_OK, ""};
        rc = xfer_ask_complete(x, load, true, &now);
    }
    if (rc == 0 && !load->etag[0])
        (void)xfer_was_completed(x, load, &unread); /* Ceph leaves it empty there */
    return rc == 0 ? 0 : xfer_not_completed(x, load, &now, f);
}

/* A line about what was stored, for the ledger: for people, for xfer_ledger_part, and for
 * whoever removes files that are stored, who finds a file by its id. A ledger that
 * cannot be written is no reason not to store. */
static void
xfer_remember(struct xfer *x, const struct xfer_load *load)
{
    struct buf line = buf_upto(64 * KEY_MAX), text = buf_upto(16 * KEY_MAX);
    struct fail f = {S3UP_OK, ""};

    buf_char(&line, '{');
    json_key(&line, "time");
    date_put_iso(&text, os_now().s);
    json_put(&line, buf_span(&text));
    buf_clear(&text);
    json_key(&line, "path");
    if (load->stream || xfer_absolute(load->file[0].path, &text, &f) < 0)
        buf_str(&text, load->file[0].path);
    json_put(&line, buf_span(&text));
    json_key(&line, "endpoint");
    buf_clear(&text);
    xfer_put_endpoint(x->st, &text);
    json_put(&line, buf_span(&text));
    json_key(&line, "bucket");
    json_put(&line, x->bucket);
    json_key(&line, "key");
    json_put(&line, buf_span(&load->key));
    json_key(&line, "size");
    buf_num(&line, (uint64_t)load->plan.size);
    json_key(&line, "etag");
    json_put(&line, s3_bare(span_of(load->etag)));
    json_key(&line, "checksum");
    json_put(&line, span_of(xfer_sum_name(&x->sums)));
    if (!load->whole) {
        json_key(&line, "parts");
        buf_num(&line, load->plan.n);
        json_key(&line, "part_size");
        buf_num(&line, (uint64_t)load->plan.part);
    }
    if (load->facts.id[0]) {
        json_key(&line, "id");
        json_put(&line, span_of(load->facts.id));
    }
    json_key(&line, "seconds");
    buf_num(&line, (uint64_t)(os_ticks() - load->begun + 500) / 1000);
    buf_char(&line, '}');
    f = (struct fail){S3UP_OK, ""};
    if (line.bad || jrn_ledger_add(&x->ledger, buf_span(&line), &f) < 0) {
        log_say(LOG_WARN, "the ledger could not be written: %s",
                line.bad ? "no memory" : f.text);
        x->ledger.folder = NULL; /* said once */
    }
    buf_free(&line);
    buf_free(&text);
}

/* ---- the run ----
 *
 * One loop, xfer_run: whoever is idle gets an order (xfer_feed), the next answer is
 * waited for and taken in (xfer_take), and what it means for its load is decided there.
 * Loads are begun one at a time, when there is nothing left to be ordered of those before
 * them: so few journals are open at once, and an owner can name millions of files. An
 * answer names no load, because the dead do not answer: what each hand is at stands in
 * xfer.doing, and a load that has ended meanwhile is not found by its serial.
 */

/* For messages: the participle that it is about. */
static const char *
xfer_done_to(const struct xfer_load *load)
{
    return load->down ? "fetched" : load->copy ? "copied" : "sent";
}

/* Why an upload that is under way ends with the run, and how it can go on. */
static void
xfer_left(const struct xfer *x, const struct xfer_load *load, struct fail *f)
{
    const char *path = load->file[0].path;

    if (!os_stop)
        (void)fail_set(f, x->hopeless, "%s was not %s, for the same reason", path,
                       xfer_done_to(load));
    else if (load->whole || load->orphan || load->journal.fd < 0)
        (void)fail_set(f, S3UP_INTERRUPTED, "%s was not %s: interrupted", path,
                       xfer_done_to(load));
    else
        (void)fail_set(f, S3UP_INTERRUPTED,
                       "%s: interrupted; %u of %u parts are %s, and the same command "
                       "goes on behind them",
                       path, jrn_count(&load->facts), load->plan.n,
                       load->down ? "here" : "stored");
}

/* Does the ETag of an object of parts tell what must come of theirs, each of which told
 * the MD5 of what was sent? Else the whole is proven anew, by xfer_confirm_file. Parts
 * that an earlier run has sent are not known to have been told so. */
static int
xfer_confirm(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct part_name name = xfer_name(load, 0);
    struct buf want = buf_upto(CREW_ETAG);
    unsigned char digest[MD5_SIZE];
    bool same = !load->unsure;
    struct part_file file;
    struct sum md5;
    int rc;

    /* As stores make it: the MD5 of all parts' MD5s, and how many they are. */
    sum_init(&md5, SUM_MD5);
    for (unsigned n = 1; n <= load->plan.n && same; n++) {
        same = hex_read(s3_bare(span_of(jrn_etag(&load->facts, n))), digest, MD5_SIZE);
        sum_add(&md5, digest, MD5_SIZE);
    }
    sum_end(&md5, digest);
    hex_put(&want, digest, MD5_SIZE);
    buf_char(&want, '-');
    buf_num(&want, load->plan.n);
    same = same && span_eq(s3_bare(span_of(load->etag)), buf_span(&want));
    buf_free(&want);
    if (same)
        return 0;
    if (part_open_again(&file, &name, &load->file[0].id, f) < 0)
        return -1;
    rc = xfer_confirm_file(x, &file, buf_span(&load->key), f);
    part_close(&file);
    return rc;
}

/* Takes a load out of the list: it is stored, or it has failed. Its owner hears of it,
 * and it is freed: whoever calls this must not touch it afterwards. What can be gone on
 * with keeps its journal, which is on disk before that is said; what cannot is removed,
 * at the store and here. */
static void
xfer_end(struct xfer *x, struct xfer_load *load, const struct fail *f)
{
    struct xfer_load **at = &x->loads;
    struct fail why = {S3UP_OK, ""};

    if (f->code == S3UP_OK && x->wish->sure && !load->whole && !load->kept &&
        xfer_confirm(x, load, &why) < 0) {
        f = &why;
        load->orphan |= why.code == S3UP_DAMAGED; /* or it would be found stored again */
    }
    /* A file with nothing in it is nothing to go on with. */
    load->orphan |= load->temp >= 0 && !jrn_count(&load->facts);
    if (f->code == S3UP_INTERRUPTED && os_stop) { /* say how it can go on, too */
        xfer_left(x, load, &why);
        f = &why;
    }
    /* The parent has asked with keys that nobody can renew: so would all that follow. */
    if (f->code == S3UP_DENIED && xfer_wants_keys(x->st, buf_span(&load->key)))
        x->hopeless = S3UP_DENIED;
    xfer_recall(x, load);
    if (f->code == S3UP_OK) {
        jrn_remove(&load->journal);
        /* What was found there is to be removed here: that is written down, too. */
        if (!load->down && !load->copy &&
            (!load->kept || (x->wish->sure && !x->wish->if_changed))) {
            if (x->wish->sure && !load->facts.id[0]) /* names it while it is removed */
                (void)xfer_token(load->facts.id, &why);
            xfer_remember(x, load);
        }
        xfer_say(x, (struct xfer_event){.kind = load->kept ? XFER_SAME : XFER_DONE,
                                        .load = load});
    } else {
        struct fail unread = {S3UP_OK, ""};

        if (load->orphan) {
            xfer_abort(x, load);
            if (load->temp >= 0 && part_in_place(&load->place, load->temp))
                (void)unlinkat(load->place.folder, load->place.temp, 0);
            jrn_remove(&load->journal);
        } else {
            (void)jrn_sync(&load->journal, &unread);
        }
        xfer_say(x, (struct xfer_event){.kind = XFER_FAILED, .load = load, .fail = f});
    }
    while (*at && *at != load)
        at = &(*at)->next;
    if (*at)
        *at = load->next;
    xfer_free(load);
}

/* All parts are there, or the whole: completes, and ends it unless there is more to be
 * sent. */
static void
xfer_close_up(struct xfer *x, struct xfer_load *load)
{
    struct fail f = {S3UP_OK, ""};
    int rc = 0;

    if (load->down)
        (void)xfer_finish_down(x, load, &f);
    else if (!load->whole)
        rc = xfer_complete(x, load, &f);
    if (rc <= 0)
        xfer_end(x, load, &f);
}

/* Is the key free? For --no-clobber. 0: it is; 1: there is the object that this very
 * upload made, of the files as they are: an earlier run was cut off behind its end; -1:
 * it is taken, or that could not be found out. */
static int
xfer_is_free(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct fail now = {S3UP_OK, ""}, unread = {S3UP_OK, ""};
    struct span key = buf_span(&load->key);

    if (xfer_taken(x->st, x->bucket, key, &now) == 0)
        return 0;
    if (now.code == S3UP_EXISTS && load->facts.id[0] &&
        span_is(s3_value(x->st, "x-amz-meta-s3up-id"), load->facts.id) &&
        x->st->conn.head.length == load->plan.size && !xfer_compare(x, load, &unread) &&
        load->same) {
        s3_copy_name(load->etag, sizeof load->etag, s3_value(x->st, "etag"));
        return 1;
    }
    return fail_set(f, now.code, "%s", now.text);
}

/* The same for an upload that must be proven: see xfer_claim_key. */
static int
xfer_is_claimed(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct part_name name = xfer_name(load, 0);
    struct crew_answer a = {.match = ""};
    struct part_file file;
    int rc;

    if (part_open_again(&file, &name, &load->file[0].id, f) < 0)
        return -1;
    rc = xfer_claim_key(x, &file, buf_span(&load->key), &a, f);
    part_close(&file);
    s3_copy_name(load->match, sizeof load->match, span_of(a.match));
    s3_copy_name(load->etag, sizeof load->etag, span_of(rc == 1 ? a.etag : ""));
    load->kept = rc == 1;
    if (load->kept && load->facts.upload.n)
        xfer_abort(x, load); /* there is nothing left to be sent */
    return rc;
}

/* Opens an upload of many parts, or finds the one that was begun. 1: the object is stored
 * already, 0: parts are to be sent, -1: failed. A journal without an upload is of a run
 * that was cut off before the store gave it one. */
static int
xfer_open_upload(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    int found = xfer_open_journal(x, load, f), is_there;

    if (found > 0 && (!load->facts.upload.n || x->wish->restart)) {
        xfer_abort(x, load);
        xfer_reset(load);
        found = 0;
    }
    if (found < 0)
        return -1;
    if (xfer_guards(x->wish) &&
        (is_there = x->wish->sure ? xfer_is_claimed(x, load, f)
                                  : xfer_is_free(x, load, f)) != 0) {
        if (is_there < 0 && found == 0)
            jrn_remove(&load->journal); /* there is nothing in it */
        return is_there; /* what was begun stays for a run that may replace it */
    }
    if (found)
        return xfer_resume(x, load, f);
    if (part_plan(&load->plan, load->plan.size, x->wish->part_size, f) < 0 ||
        xfer_create(x, load, f) < 0) {
        if (!load->facts.upload.n)
            jrn_remove(&load->journal);
        return -1;
    }
    return 0;
}

/* A large file that is to be sent only if it was changed: has the store the same? */
static bool
xfer_is_kept(struct xfer *x, struct xfer_load *load)
{
    struct part_name name = xfer_name(load, 0);
    struct fail unread = {S3UP_OK, ""};
    struct part_file file;

    if (!x->wish->if_changed || load->files != 1 || part_open(&file, &name, &unread) < 0)
        return false;
    load->kept = xfer_is_same(x, buf_span(&load->key), &file);
    part_close(&file);
    /* What an earlier run began is not gone on with any more; xfer_end removes it. */
    if (load->kept && !x->wish->journal &&
        xfer_put_journal(x, load, &load->journal.path, &unread) == 0 &&
        load->journal.path.n &&
        jrn_open(&load->journal, false, &load->facts, &unread) > 0)
        xfer_abort(x, load);
    return load->kept;
}

/* A file was looked at: how will it go? 1: it is stored already, 0: there are orders to
 * be given, -1: failed. A small one that may be there already is compared by its
 * worker. */
static int
xfer_start(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    int rc = 0;

    load->whole = load->plan.size <= xfer_limit(x);
    load->ahead = 1;
    if (xfer_make_notes(load, f) < 0)
        return -1;
    if (load->whole)
        load->plan.n = 1;
    else
        rc = xfer_is_kept(x, load) ? 1 : xfer_open_upload(x, load, f);
    if (rc == 0 && !load->whole && jrn_count(&load->facts) == load->plan.n) {
        rc = xfer_complete(x, load, f); /* only that was missing */
        rc = rc < 0 ? rc : !rc;
    }
    return rc;
}

/* ---- a copy ----
 *
 * The bytes never come here. In one request the store does all by itself. What is larger
 * than the threshold is copied in ranges, as the parts of an upload whose header fields
 * we must copy. There is no journal: a copy that is stopped is aborted, and begins anew;
 * one that was killed leaves an upload that is to be swept. We have no sums of what we do
 * not see, so the store's word is all there is.
 */

/* Header fields of the source that a new object is to have, too. The store does so itself
 * if it makes the copy in one go. False: there are more than fit into a request. They
 * point into c->text. */
static bool
xfer_learn_heads(const struct store *st, struct xfer_copy *c)
{
    static const char *const kept[] = {"content-type",        "content-encoding",
                                       "content-disposition", "content-language",
                                       "cache-control",       "expires"};
    const struct head *h = &st->conn.head;

    if (!buf_need(&c->text, HEAD_MAX)) /* it never moves */
        return false;
    for (unsigned i = 0; i < h->n; i++) {
        size_t at = c->text.n;
        struct span value;
        bool take;

        for (size_t k = 0; k < h->at[i].name.n; k++)
            buf_char(&c->text, span_lower(h->at[i].name.p[k]));
        buf_char(&c->text, 0);
        take = !strncmp(c->text.p + at, "x-amz-meta-", strlen("x-amz-meta-"));
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
            take |= !strcmp(c->text.p + at, kept[k]);
        if (!take)
            continue;
        value = span_at(c->text.p + c->text.n, h->at[i].value.n);
        buf_put(&c->text, h->at[i].value);
        if (c->n == S3_PAIRS / 2 || c->text.bad) /* others are to go along */
            return false;
        c->head[c->n++] = (struct s3_pair){c->text.p + at, value};
    }
    return true;
}

/* Tags are no header fields: only the store itself copies them, in one go. */
static void
xfer_miss_tags(const struct xfer *x, const char *source)
{
    uint64_t n = 0;

    (void)num_parse(s3_value(x->st, "x-amz-tagging-count"), INT64_MAX, &n);
    for (unsigned i = 0; i < x->wish->n; i++)
        if (!strcmp(x->wish->heads[i].name, "x-amz-tagging"))
            n = 0;
    if (n)
        log_say(LOG_WARN,
                "%s: its tags are not copied, since it goes in parts; --tagging sets "
                "new ones",
                source);
}

/* The store is to copy an object: at once, or, if it is large, in parts. 0: there are
 * orders to be given, -1: failed. Its ETag holds for all of them: see xfer_work_copy. */
static int
xfer_start_copy(struct xfer *x, struct xfer_load *load, const struct xfer_item *item,
                struct fail *f)
{
    struct xfer_get g = {.bucket = item->from_bucket, .key = item->from_key};
    const struct xfer_wish *w = x->wish;
    struct buf uri = buf_upto(8 * KEY_MAX);

    buf_str(&uri, "s3://"); /* its name, for messages: there is no path */
    buf_put(&uri, item->from_bucket);
    buf_char(&uri, '/');
    buf_put(&uri, item->from_key);
    load->file[0].path = strdup(buf_text(&uri));
    buf_free(&uri);
    load->copy = calloc(1, sizeof *load->copy);
    if (!load->copy || !load->file[0].path)
        return fail_set(f, S3UP_LATER, "no memory");
    load->copy->source = buf_upto(8 * KEY_MAX);
    load->copy->text = buf_upto(2 * HEAD_MAX);
    url_put(&load->copy->source, item->from_bucket, "");
    buf_char(&load->copy->source, '/');
    url_put(&load->copy->source, item->from_key, "/");
    if (xfer_look_at(x->st, &g, w, f) < 0)
        return -1;
    load->plan.size = g.total;
    s3_copy_name(load->copy->etag, sizeof load->copy->etag, span_of(g.said.etag));
    load->whole = g.total <= (int64_t)w->threshold && g.total <= (int64_t)PART_MOST;
    load->ahead = load->plan.n = 1;
    if (xfer_make_notes(load, f) < 0 || load->whole)
        return f->code == S3UP_OK ? 0 : -1;
    xfer_miss_tags(x, load->file[0].path);
    if (!w->replace && !xfer_learn_heads(x->st, load->copy))
        return fail_set(f, S3UP_USAGE, "%s has more metadata than can be copied in parts",
                        load->file[0].path);
    if (w->no_clobber && xfer_taken(x->st, x->bucket, buf_span(&load->key), f) < 0)
        return -1;
    return part_plan(&load->plan, g.total, w->part_size, f) < 0 ? -1
                                                                : xfer_create(x, load, f);
}

/* ---- a stream ----
 *
 * What comes from a pipe has no size, and cannot be read again. So its parts wait in
 * memory, in a ring of one place more than there are workers: one is filled while the
 * others are sent. A place is filled anew only when the store has acknowledged the part
 * that was in it, so a worker can die, and its part is sent by another; and a slow store
 * holds up whoever writes the stream. Nothing is created at the store before there is
 * more than one part holds: a short stream is one request. There is no journal, since
 * nobody could go on; what fails is aborted.
 */

/* Parts of a stream are as large as the user said, and never grow: some stores demand
 * equal ones. The workers are started after the ring is made, so they share it. */
static int
xfer_open_stream(struct xfer *x, struct xfer_load *load, const struct xfer_item *item,
                 struct fail *f)
{
    struct xfer_stream *s = calloc(1, sizeof *s);
    struct buf most = buf_upto(64);

    load->file[0].path = strdup("-");
    load->given = calloc(PARTS_MAX + 1, 1);
    load->ahead = 1;
    if (!s || !load->given || !load->file[0].path) {
        free(s);
        return fail_set(f, S3UP_LATER, "no memory for a stream");
    }
    /* As if it had all that an upload can hold: until its end it has no other size. */
    load->plan = (struct part_plan){(int64_t)x->wish->part_size * PARTS_MAX,
                                    (int64_t)x->wish->part_size, PARTS_MAX};
    load->stream = s;
    *s = (struct xfer_stream){
        .fd = item->fd, .producer = item->producer, .places = x->crew.most + 1};
    s->ring = mmap(NULL, s->places * (size_t)load->plan.part, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->ring == MAP_FAILED) {
        s->ring = NULL;
        return fail_sys(f, "find memory for", "parts of a stream");
    }
    x->ring = s->ring;
    num_put_size(&most, (uint64_t)load->plan.size);
    log_say(LOG_NOTE,
            "standard input: at most %s; --expected-size or --part-size allow more",
            buf_text(&most));
    buf_free(&most);
    return x->wish->no_clobber ? xfer_taken(x->st, x->bucket, buf_span(&load->key), f)
                               : 0;
}

/* The stream is at its end: its size is known by now, and so is the number of its parts.
 * If its producer failed, so has the upload: half a dump must not look like a whole one.
 * An empty stream is one empty part. */
static int
xfer_end_stream(struct xfer_load *load, struct fail *f)
{
    struct xfer_stream *s = load->stream;
    int status = 0;

    s->ended = true;
    if (s->producer) {
        while (waitpid(s->producer, &status, 0) < 0)
            if (!os_again())
                return fail_set(f, S3UP_INTERRUPTED, "interrupted");
        s->producer = 0;
    }
    if (status)
        return fail_set(f, S3UP_SKIPPED,
                        "the command that was to be stored ended with %s %d: nothing was "
                        "stored",
                        WIFSIGNALED(status) ? "signal" : "exit code",
                        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    load->plan.size = (int64_t)s->full * load->plan.part + s->have;
    if (s->have || !s->full)
        s->full++;
    load->plan.n = s->full;
    load->whole = s->full == 1 && !load->facts.upload.n;
    return 0;
}

/* May more be read? Only into a place whose part the store has. */
static bool
xfer_has_room(const struct xfer_load *load)
{
    const struct xfer_stream *s = load->stream;

    return !s->ended &&
           (s->full < s->places || (s->full - s->places < load->facts.parts &&
                                    load->facts.part[s->full - s->places].done));
}

/* Reads what is there, once: a read takes what there is, while workers want orders. A
 * worker takes each part that is full. When more comes than one part holds, there will be
 * parts. That the stream is too long is known only when a byte comes behind the last. */
static int
xfer_read_stream(struct xfer *x, struct xfer_load *load, struct fail *f)
{
    struct xfer_stream *s = load->stream;
    char *place = s->ring + (s->full % s->places) * (size_t)load->plan.part;
    ssize_t did = read(s->fd, place + s->have, (size_t)(load->plan.part - s->have));

    /* EAGAIN: whoever else has the pipe open may have made it non-blocking. */
    if (did < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (did < 0)
        return fail_sys(f, "read", "standard input");
    if (!did)
        return xfer_end_stream(load, f);
    if (s->full == PARTS_MAX)
        return fail_set(f, S3UP_USAGE,
                        "the stream is longer than an upload of such parts can be: begin "
                        "again with a larger --part-size, or with --expected-size");
    if (s->full && !load->facts.upload.n && xfer_create(x, load, f) < 0)
        return -1; /* what was just read is lost with the rest */
    s->have += did;
    if (s->have == load->plan.part) {
        s->have = 0;
        s->full++;
    }
    if (!s->warned && s->full > PARTS_MAX / 5 * 4) {
        s->warned = true;
        log_say(LOG_WARN,
                "standard input: four fifths of what can be stored are reached");
    }
    return 0;
}

/* One turn of reading; ends the upload if there is nothing left to wait for. */
static void
xfer_turn_stream(struct xfer *x, struct xfer_load *load)
{
    struct pollfd ready = {.fd = load->stream->fd, .events = POLLIN};
    struct fail f = {S3UP_OK, ""};

    while (f.code == S3UP_OK && xfer_has_room(load) && poll(&ready, 1, 0) == 1)
        (void)xfer_read_stream(x, load, &f);
    if (f.code != S3UP_OK)
        xfer_end(x, load, &f);
    else if (load->stream->ended && !load->whole && !load->flying &&
             jrn_count(&load->facts) == load->plan.n)
        xfer_close_up(x, load);
}

/* Begins with the next file. False when there is none. What fails at once, or needs no
 * order, has ended when this returns: the list may be as it was. The load joins the end
 * of the list, so that those that were begun first are finished first. */
static bool
xfer_begin(struct xfer *x)
{
    struct xfer_item item = {.files = 0};
    struct fail f = {S3UP_OK, ""};
    struct xfer_load *load, **at = &x->loads;
    int rc = 0;

    if (x->no_more || x->hopeless || !x->next(x->owner, &item)) {
        x->no_more = true;
        return false;
    }
    load = calloc(1, sizeof *load);
    if (load)
        load->file = calloc(item.files + 1, sizeof *load->file); /* one for a name */
    if (!load || !load->file) {
        log_say(LOG_ERROR, "no memory");
        free(load);
        x->no_more = true;
        x->hopeless = S3UP_LATER;
        return false;
    }
    while (*at)
        at = &(*at)->next;
    *at = load; /* xfer_end takes it out, whatever becomes of it */
    load->serial = ++x->serial;
    load->begun = os_ticks();
    load->journal = jrn_none();
    jrn_init(&load->facts);
    load->key = buf_upto(KEY_MAX + 1);
    buf_put(&load->key, item.key);
    load->type = item.type;
    load->down = item.down;
    load->root = item.root;
    load->below = item.below;
    load->temp = load->place.folder = -1;
    load->plan.size = item.size;
    for (; load->files < item.files; load->files++) {
        load->file[load->files].path = strdup(item.path[load->files]);
        if (!load->file[load->files].path)
            break;
    }
    if (load->files < item.files || load->key.bad)
        rc = fail_set(&f, S3UP_LATER, "no memory");
    if (rc == 0 && item.from_key.n)
        rc = xfer_start_copy(x, load, &item, &f);
    else if (rc == 0 && item.down)
        rc = xfer_start_down(x, load, item.size, &f);
    else if (rc == 0 && !item.files)
        rc = xfer_open_stream(x, load, &item, &f);
    else if (rc == 0 && xfer_look(load, &f) == 0)
        /* What must be at rest was found to be so before; it may have waited long. */
        rc = item.was && !os_untouched(item.was, &load->file[0].id)
                 ? fail_set(&f, S3UP_SKIPPED, xfer_is_touched, load->file[0].path)
                 : xfer_start(x, load, &f);
    if (f.code != S3UP_OK || rc == 1)
        xfer_end(x, load, &f);
    return true;
}

/* Which stretch of an object a part is, or up to which size all of it is fetched. */
static void
xfer_put_range(const struct xfer *x, const struct xfer_load *load, unsigned number,
               struct xfer_order *o)
{
    if (load->whole) {
        o->length = -1;
        o->total = load->whole_only ? 0 : xfer_limit(x);
        return;
    }
    o->kind = xfer_down_kind(load);
    o->place = (int64_t)(number - 1) * load->plan.part;
    o->at = load->from + o->place;
    o->length = part_length(&load->plan, number);
    o->total = load->total;
}

/* Puts the order for a part, or for a whole file, together: as struct xfer_order says.
 * out.bad if there was no room. */
static void
xfer_put_order(const struct xfer *x, const struct xfer_load *load, unsigned number,
               struct buf *out)
{
    struct xfer_order head = {.number = number,
                              .files = load->files,
                              .below = load->below,
                              .root = load->root,
                              .down = load->down,
                              .copy = load->copy != NULL,
                              .whole = load->whole,
                              .length = load->plan.size};
    struct span tag = load->whole ? SPAN("") : buf_span(&load->facts.upload);
    struct span type = span_of(load->type);
    unsigned first = 0;

    /* What is not a part of files has no files in its order, or the temporary one. */
    if (load->copy) {
        head.at = (int64_t)(number - 1) * load->plan.part;
        head.length = part_length(&load->plan, number);
        type = span_of(load->copy->etag);
    } else if (load->down) {
        xfer_put_range(x, load, number, &head);
        tag = span_of(load->said.etag);
    } else if (load->stream) {
        head.at = (int64_t)((number - 1) % load->stream->places) * load->plan.part;
        head.length = part_length(&load->plan, number);
    } else if (!load->whole) {
        struct part_stretch s = xfer_cut(load, number, &first);

        head.files = s.files;
        head.at = s.at;
        head.length = s.length;
    }
    buf_add(out, &head, sizeof head);
    xfer_pack(out, buf_span(&load->key));
    xfer_pack(out, tag);
    xfer_pack(out, type);
    if (load->copy)
        xfer_pack(out, buf_span(&load->copy->source));
    /* Only those that the part lies in, of maybe thousands. */
    for (unsigned i = first; i < first + head.files; i++) {
        xfer_pack(out, span_of(load->file[i].path));
        xfer_pack(out, span_at(&load->file[i].id, sizeof load->file[i].id));
    }
}

/* The next part that somebody must send, or 0. Those below load->ahead need not be looked
 * at; who takes a part back must lower it. */
static unsigned
xfer_next_part(struct xfer_load *load)
{
    unsigned last = load->plan.n;

    if (load->stream) /* the first may be the whole */
        last = load->stream->full > 1 || load->stream->ended || load->facts.upload.n
                   ? load->stream->full
                   : 0;

    for (; load->ahead <= last; load->ahead++)
        if (!load->given[load->ahead] &&
            (load->ahead > load->facts.parts || !load->facts.part[load->ahead - 1].done))
            return load->ahead;
    return 0;
}

/* The next upload of which something must be sent, and what; or NULL. */
static struct xfer_load *
xfer_next_up(struct xfer *x, unsigned *number)
{
    struct xfer_load *load = x->loads;

    while (load && !(*number = xfer_next_part(load)))
        load = load->next;
    return load;
}

/* A small file, whose order may wait behind others. */
static bool
xfer_is_small(const struct xfer_load *load)
{
    return load->whole && load->files == 1 && load->plan.size >= 0 &&
           load->plan.size <= XFER_SMALL;
}

/* Small files that come next go along behind a small one, as many as the hand takes. A
 * larger one that comes up in between is begun by then, and waits for its own order. */
static void
xfer_gather(struct xfer *x, unsigned hand)
{
    struct xfer_doing *d = &x->doing[hand];
    struct buf order = buf_upto(CREW_ORDER);

    while (crew_takes(&x->crew, hand)) {
        struct xfer_load *load;
        unsigned number;

        while (!(load = xfer_next_up(x, &number)) && !os_stop && xfer_begin(x))
            continue;
        if (!load || !xfer_is_small(load))
            break;
        buf_clear(&order);
        xfer_put_order(x, load, number, &order);
        if (order.bad || !crew_add(&x->crew, buf_span(&order)))
            break;
        load->given[number] = 1;
        load->flying++;
        d->next[d->n++] = load->serial;
    }
    buf_free(&order);
}

/* Gives work to whoever has none. */
static void
xfer_feed(struct xfer *x)
{
    struct buf order = buf_upto(CREW_ORDER);
    unsigned hand, took;

    /* Until the store has taken something, one worker is enough to find out whether it
     * does. */
    while (!x->hopeless && !os_stop && (x->proven || !crew_busy(&x->crew)) &&
           (hand = crew_idle(&x->crew)) != CREW_MOST) {
        struct fail f = {S3UP_OK, ""};
        unsigned number = 0;
        struct xfer_load *load = xfer_next_up(x, &number);

        if (!load) {
            if (!xfer_begin(x))
                break;
            continue;
        }
        buf_clear(&order);
        xfer_put_order(x, load, number, &order);
        if (order.bad) {
            (void)fail_set(&f, S3UP_LATER, "no memory for an order");
            xfer_end(x, load, &f);
            continue;
        }
        crew_share(&x->crew, x->wish->rate); /* whoever begins now must not run ahead */
        load->given[number] = 1;
        load->flying++;
        x->doing[hand] = (struct xfer_doing){.serial = load->serial, .number = number};
        if (xfer_is_small(load))
            xfer_gather(x, hand);
        took = crew_give(&x->crew, hand, buf_span(&order));
        if (took == CREW_MOST) { /* there is no worker, so nothing was gathered */
            load->given[number] = 0;
            load->flying--;
            break;
        }
        if (took != hand)
            x->doing[took] = x->doing[hand];
    }
    crew_share(&x->crew, x->wish->rate);
    buf_free(&order);
}

/* The file changed while a worker read it. 1: it is stored, by an earlier run; 0: it is
 * sent anew; -1: it has failed. */
static int
xfer_changed(struct xfer *x, struct xfer_load *load, const struct crew_answer *a,
             struct fail *f)
{
    if (x->wish->sure) /* it is not at rest: another run sends what it will be */
        return fail_set(f, S3UP_SKIPPED, "%s", a->text);
    if (!load->whole)
        return xfer_over(x, load, xfer_is_new, f);
    if (load->again)
        return fail_set(f, S3UP_SKIPPED, "%s, again: it was not sent", a->text);
    load->again = true;
    xfer_recall(x, load);
    xfer_say(x, (struct xfer_event){.kind = XFER_OVER, .load = load, .text = a->text});
    return xfer_look(load, f) < 0 ? -1 : xfer_start(x, load, f);
}

/* An order was not carried out: it is given again, or its upload has failed, and then it
 * has ended. 1: it is stored, or here, after all, and the caller ends it. */
static int
xfer_not_sent(struct xfer *x, struct xfer_load *load, unsigned hand,
              const struct crew_answer *a)
{
    struct fail f = {S3UP_OK, ""};

    load->given[a->number] = 0;
    load->ahead = a->number < load->ahead ? a->number : load->ahead;
    /* Whatever comes next would ask in vain, too. */
    if ((a->stranger && !x->proven) || a->nowhere)
        x->hopeless = a->code;
    if (a->died && ++load->deaths > XFER_DEATHS) {
        (void)fail_set(&f, S3UP_LATER, "%s: workers keep dying", load->file[0].path);
    } else if (a->died) {
        return 0;
    } else if (a->keys) {
        /* Workers cannot ask for newer keys: we do, and crew_idle replaces those that
         * have the old ones. */
        if (x->crew.hand[hand].age != x->st->age)
            return 0; /* they are newer by now */
        if (x->renewed++ < XFER_RENEWALS && s3_renew(x->st, true))
            return 0;
        x->hopeless = a->code;
        (void)fail_set(&f, a->code, "%s", a->text);
    } else if (load->down) {
        if (xfer_not_fetched(x, load, a, &f) == 1)
            return 1;
    } else if (a->code == S3UP_SKIPPED && !load->copy) {
        if (xfer_changed(x, load, a, &f) == 1)
            return 1;
    } else if (a->gone && !load->whole) {
        int rc = xfer_was_completed(x, load, &f);

        if (rc == 0)
            (void)xfer_over(x, load, xfer_is_gone, &f);
        else if (rc == 1)
            return 1;
    } else {
        (void)fail_set(&f, a->code, "%s", a->text);
    }
    if (f.code != S3UP_OK)
        xfer_end(x, load, &f);
    return 0;
}

/* A part is stored: that is written down before it counts. The line is synced with others
 * later: each sync waits for the disk, and what is lost costs one look at the store's
 * list. When it was the last part, the load may have ended. */
static void
xfer_sent(struct xfer *x, struct xfer_load *load, const struct crew_answer *a)
{
    enum sum_kind kind;
    bool has_sum = xfer_known_kind(x, load, &kind) && !load->copy;
    struct fail f = {S3UP_OK, ""};
    struct buf sum = buf_upto(4 * JRN_SUM);

    load->unsure |= !a->sure;

    /* range OFFSET LENGTH SUM, or part NUMBER ETAG SUM, as jrn_fact reads them. */
    if (has_sum)
        hex_put(&sum, a->sum, sum_kinds[kind].size);
    else
        buf_char(&sum, '-');
    jrn_begin(&load->journal, load->down ? "range" : "part");
    if (load->down) {
        jrn_value_number(&load->journal,
                         (uint64_t)(a->number - 1) * (uint64_t)load->plan.part);
        jrn_value_number(&load->journal, (uint64_t)part_length(&load->plan, a->number));
    } else {
        jrn_value_number(&load->journal, a->number);
        jrn_value(&load->journal, span_of(a->etag));
    }
    jrn_value(&load->journal, buf_span(&sum));
    if (jrn_end(&load->journal, &f) < 0)
        xfer_lose_journal(load, &f);
    f = (struct fail){S3UP_OK, ""};
    /* What is in memory decides when all are there; the journal is for the next run. */
    if (!jrn_note_part(&load->facts, a->number, load->down ? SPAN("-") : span_of(a->etag),
                       a->sum))
        (void)fail_set(&f, S3UP_LATER, "no memory");
    buf_free(&sum);
    xfer_say(x,
             (struct xfer_event){.kind = XFER_PART, .load = load, .number = a->number});
    if (f.code != S3UP_OK)
        xfer_end(x, load, &f);
    else if (jrn_count(&load->facts) == load->plan.n && !load->flying &&
             (!load->stream || load->stream->ended))
        xfer_close_up(x, load);
}

/* Takes an answer in. Afterwards the load that it was about may have ended. */
static void
xfer_take(struct xfer *x, unsigned hand, struct crew_answer *a)
{
    struct xfer_doing *d = &x->doing[hand];
    struct xfer_load *load = x->loads;
    struct fail none = {S3UP_OK, ""};

    while (load && load->serial != d->serial)
        load = load->next;
    a->number = d->number; /* the dead do not say it */
    if (a->died)
        xfer_inherit(x, d);
    else
        xfer_step(d);
    if (!load) /* it has failed meanwhile, for another reason */
        return;
    load->flying--;
    if (a->tries || a->died)
        xfer_say(x, (struct xfer_event){
                        .kind = XFER_RETRY, .load = load, .number = a->number});
    if (a->code == S3UP_OK && !a->died) {
        x->proven = true;
        x->renewed = 0;
    }
    if (a->code != S3UP_OK || a->died) {
        if (xfer_not_sent(x, load, hand, a) == 1)
            xfer_end(x, load, &none);
    } else if (load->whole) {
        s3_copy_name(load->etag, sizeof load->etag, span_of(a->etag));
        load->kept = a->same;
        if (load->down)
            load->plan.size = (int64_t)a->size;
        xfer_end(x, load, &none);
    } else {
        xfer_sent(x, load, a);
    }
}

/* When fewer shall be at work, those that were turned away give their parts back: by
 * trying again they would only stand in the others' way. */
static void
xfer_thin_out(struct xfer *x)
{
    unsigned hand;

    while ((hand = crew_surplus(&x->crew)) != CREW_MOST) {
        unsigned number = x->doing[hand].number;
        struct xfer_load *load = x->loads;

        crew_dismiss(&x->crew, hand);
        while (load && load->serial != x->doing[hand].serial)
            load = load->next;
        if (!load)
            continue;
        load->flying--;
        load->given[number] = 0;
        load->ahead = number < load->ahead ? number : load->ahead;
        xfer_say(x,
                 (struct xfer_event){.kind = XFER_RETRY, .load = load, .number = number});
    }
}

/* In a new worker: what belongs to the parent is let go. A copy of a descriptor would
 * keep its lock alive when the parent has died, and a copy of the stream its producer's
 * pipe. Keys are renewed by the parent alone, and it alone reports. */
static void
xfer_leave(void *context)
{
    struct xfer *x = context;

    for (struct xfer_load *load = x->loads; load; load = load->next) {
        if (load->journal.fd >= 0)
            (void)close(load->journal.fd);
        if (load->stream)
            (void)close(load->stream->fd);
        if (load->temp >= 0)
            (void)close(load->temp);
    }
    if (x->lock > 0)
        (void)close(x->lock);
    if (x->st->conn.wire.fd >= 0)
        (void)close(x->st->conn.wire.fd); /* without a word: it is the parent's */
    http_init(&x->st->conn);
    x->st->config.renew = NULL;
    os_pulse.beat = NULL;
}

/* Sends all that next() gives; event() hears what came of each. -1: it could not begin,
 * and nothing was asked for. Else 0, whatever became of the loads; x->hopeless says
 * whether more of them would have come. After a stop nothing is given any more; answers
 * that are there are taken in, and workers are ended. */
static int
xfer_run(struct xfer *x, unsigned jobs, struct fail *f)
{
    struct crew_answer a;
    unsigned hand;

    x->sums = xfer_sums(x->st, x->wish);
    x->crew.work = xfer_work;
    x->crew.leave = xfer_leave;
    x->crew.context = x;
    x->crew.also = -1;
    x->crew.age = &x->st->age;
    x->ledger =
        (struct jrn_ledger){.folder = x->wish->folder, .lines = buf_upto(S3_REPLY)};
    x->since = os_ticks();
    if (crew_open(&x->crew, jobs, x->wish->jobs_fixed, f) < 0)
        return -1;
    for (xfer_feed(x); (crew_busy(&x->crew) || x->ring) && !os_stop; xfer_feed(x)) {
        struct fail unread = {S3UP_OK, ""};
        struct xfer_load *first = x->loads;

        if (x->ring && !first) /* the stream has ended, one way or another */
            break;
        os_beat(); /* everybody has been given something to do */
        x->crew.also =
            first && first->stream && xfer_has_room(first) ? first->stream->fd : -1;
        crew_adapt(&x->crew); /* now that all who can be at work are */
        xfer_thin_out(x);
        hand = crew_wait(&x->crew, XFER_LOOK, &a);
        if (hand != CREW_MOST)
            xfer_take(x, hand, &a);
        else if (first && first->stream)
            xfer_turn_stream(x, first);
        /* What a power cut takes back are the notes of about XFER_SYNC milliseconds. */
        for (struct xfer_load *load = x->loads; load; load = load->next)
            if (os_ticks() - load->journal.synced >= XFER_SYNC)
                (void)jrn_sync(&load->journal, &unread);
        (void)s3_renew(x->st, false); /* before they expire */
    }
    /* What is acknowledged by now is not to be sent again. */
    while (os_stop && (hand = crew_wait(&x->crew, 0, &a)) != CREW_MOST)
        if (a.code == S3UP_OK && !a.died)
            xfer_take(x, hand, &a);
        else
            xfer_step(&x->doing[hand]);
    while (x->loads) {
        struct fail why = {S3UP_OK, ""};

        xfer_left(x, x->loads, &why);
        xfer_end(x, x->loads, &why);
    }
    crew_close(&x->crew);
    x->st->meter = &x->st->still;
    if (jrn_ledger_flush(&x->ledger, f) < 0) {
        log_say(LOG_WARN, "the ledger could not be written: %s", f->text);
        x->ledger.folder = NULL;
    }
    *f = (struct fail){S3UP_OK, ""};
    buf_free(&x->ledger.lines);
    return 0;
}

/* Gives up what an earlier run began, at the store and here; in this order, since without
 * the journal nobody knows the upload's id. */
static int
xfer_give_up(struct store *st, struct jrn *j, const struct jrn_facts *k, struct fail *f)
{
    struct fail now = {S3UP_OK, ""};

    if (k->upload.n &&
        s3_abort_upload(st, buf_span(&k->bucket), buf_span(&k->key), buf_span(&k->upload),
                        &now) < 0 &&
        now.code != S3UP_MISSING)
        return fail_set(f, now.code, "%s", now.text);
    jrn_remove(j);
    return 0;
}

/* ===== ROOM 15 drain: a folder that empties itself into a store =====
 *
 * In: a folder that others write files into. Out: the files that were left alone are
 * stored, and gone from the folder; one word about each through drain.say. The folder is
 * read, the oldest files first, and goes up as any files do. What is stored is written
 * into the ledger, many at a time, and only then removed: under a name that nobody else
 * uses, by a lease that tells if anybody opens it, and if it is still what was sent.
 * Whatever goes wrong on the way, a file is in the store or in the folder, or in both.
 *
 * The states of a file, and what moves it on:
 *   seen    drain_see: a plain file of one name, on this file system, and wanted
 *   fresh   drain_state: it changed a moment ago, and waits for a later look
 *   ripe    drain_state: left alone for long enough; the oldest of these make a batch
 *   busy    drain_is_busy: somebody has it open for writing; a later round takes it
 *   stored  drain_hear: the store has proven that it has it; its line for the ledger is
 *           made, and it joins the group
 *   noted   drain_settle: the lines of the group are on disk
 *   hidden  drain_hide: its name is DRAIN_HIDDEN and the token that stands in its line
 *   gone    drain_remove: unlinked, or in the folder of --move-to; if anything speaks
 *           against that it gets its own name back
 * A crash before a file is hidden leaves it under its name: the next run finds that the
 * store has it, and goes on from there. A crash while it is hidden leaves it under the
 * other name: drain_recover finds its line by the token.
 *
 * Owns the lock on the folder, struct drain, and the list of refusals in the state
 * folder. One run at a time works on a folder. A new reason to leave something alone
 * belongs into drain_see; a new doubt about a removal into drain_may_remove, which is
 * asked last of all.
 */

#define DRAIN_HIDDEN ".s3up-drain."     /* and a token: about to be removed */
#define DRAIN_ASIDE  ".s3up-quarantine" /* what is refused again and again */

/* A file that waits. */
struct drain_file {
    char *path;      /* below the folder; in a batch it is ours to free */
    struct os_id id; /* as the look saw it: what is sent must still be that */
};

/* A file as it was seen when no clock could tell how long it had been left alone. */
struct drain_look {
    struct os_id id;
    int64_t since; /* milliseconds, by os_boot */
};

/* Stored, and yet to be removed. */
struct drain_done {
    char *path;                 /* below the folder; ours to free */
    struct os_id id;            /* as it was sent */
    char token[2 * JRN_ID + 1]; /* in its line of the ledger, and in its hidden name */
    int folder, fd;             /* that it lies in, and itself; -1: not open */
    bool leased, hidden; /* the kernel keeps writers waiting; it has its hidden name */
};

/* Refused by the store, for its own sake, in so many runs. */
struct drain_refused {
    char *path;
    uint64_t inode, runs; /* another file of that name begins at 0 again */
    struct os_id id;      /* as it was refused in this run */
    bool now;             /* in this run, too */
    bool sure;            /* it is the file's own fault, whatever became of others */
};

/* What the owner hears besides what uploads say. The texts are good until it returns. */
struct drain_word {
    enum {
        DRAIN_KEPT,    /* it is stored, and was not removed */
        DRAIN_SKIPPED, /* it is nothing that is ever taken, or was set aside */
        DRAIN_FAILED,  /* it was not sent */
        DRAIN_NOTE,    /* good to know: it changes no outcome */
        DRAIN_WOULD    /* --dry-run: it would be sent */
    } kind;
    const char *path; /* as people know it */
    struct span key;
    const char *why;     /* NULL with DRAIN_WOULD */
    enum s3up_exit code; /* of a failure */
};

struct drain {
    /* What is wanted. */
    struct xfer *x; /* st, wish, bucket, lock are set */
    unsigned jobs;
    const char *dir;            /* as the user wrote it */
    struct span prefix;         /* of all keys; a slash is put behind it */
    const char *own[DRAIN_OWN]; /* paths of what is never taken, or NULL */
    const char *move_to;        /* NULL: what is stored is removed */
    int64_t settle,
        prune_age; /* milliseconds, seconds; prune_age < 0: nothing is pruned */
    uint64_t quarantine, max_files; /* 0: none, all */
    bool keep, dry_run;
    bool (*wants)(void *owner, struct span path, bool folder); /* by its patterns */
    const char *(*type)(void *owner, struct span path); /* the media type, or NULL */
    void (*hear)(void *owner, const struct xfer_event *e);
    void (*say)(void *owner, const struct drain_word *w);
    void (*over)(void *owner); /* a round is */
    void *owner;
    /* What is there. */
    int root, moved; /* the folder, and that of --move-to, or -1 */
    dev_t device;    /* of the folder: what is mounted below it is left alone */
    dev_t own_device[DRAIN_OWN];      /* of what `own` names, at the last look */
    ino_t own_inode[DRAIN_OWN];       /* 0: there is none */
    struct drain_file *file;          /* of one batch: the oldest of those that wait */
    size_t n, at;                     /* how many, and the next to be given to the crew */
    bool more;                        /* wait behind these */
    struct drain_file behind;         /* only what is younger is taken; path NULL: all */
    struct drain_look *look, *looked; /* by this look; by the one before it, sorted */
    size_t looks, looked_n;
    int64_t doubt;        /* milliseconds until a second look can tell of all files */
    bool by_look;         /* only those that it tells of are taken */
    bool sealed;          /* nothing can be removed from the folder */
    struct os_time known; /* what was there before was stored and is kept */
    bool failed;          /* something may have to go up that is older than `known` */
    bool rose;            /* something went up in this round */
    bool trusted;         /* the clock tells the truth */
    bool heard;           /* what is passed over was said */
    bool counting;        /* nothing is to be taken by this look */
    struct os_time now;   /* of this look */
    int64_t due; /* ticks when a file will have been left alone; 0: none is known */
    uint64_t files, bytes, open, begun; /* that wait, in all; open: are being written */
    /* begun: files that count for max_files; oldest: seconds, if any wait. */
    int64_t oldest;
    struct buf path, key; /* of the file at hand: see drain_path, drain_key */
    struct drain_done group[JRN_GROUP]; /* stored, and waiting for drain_settle */
    unsigned grouped;
    int64_t since; /* ticks at the first of them */
    struct drain_writer {
        dev_t device;
        ino_t inode;
    } * writer; /* what processes have open for writing, as far as they let us see */
    size_t writers;
    bool has_writers;
    struct drain_refused *refused;
    size_t refusals, blamed; /* blamed: of this run, perhaps for the store's own sake */
    int watch;               /* of inotify; -1: there is none */
    bool unwatched;          /* some folders could not be watched */
    uint64_t *moved_bytes;   /* by earlier batches */
};

/* What is a note, or was passed over, leaves nothing undone. After all else --keep must
 * ask for every file again: see drain_round. */
static void
drain_say(struct drain *d, struct drain_word w)
{
    d->failed |= w.kind != DRAIN_NOTE && w.kind != DRAIN_SKIPPED;
    d->say(d->owner, &w);
}

/* The path of something below the folder, as people know it; good until the next call. */
static const char *
drain_path(struct drain *d, const char *below)
{
    buf_clear(&d->path);
    buf_str(&d->path, d->dir);
    if (d->path.n && d->path.p[d->path.n - 1] != '/')
        buf_char(&d->path, '/');
    buf_str(&d->path, below);
    return buf_text(&d->path);
}

/* The key of a file: the prefix and its path below the folder; good until the next
 * call. */
static struct span
drain_key(struct drain *d, const char *below)
{
    buf_clear(&d->key);
    buf_put(&d->key, d->prefix);
    if (d->prefix.n && d->prefix.p[d->prefix.n - 1] != '/')
        buf_char(&d->key, '/');
    buf_str(&d->key, below);
    return buf_span(&d->key);
}

static void
drain_tell(struct drain *d, unsigned kind, const char *below, enum s3up_exit code,
           const char *why)
{
    drain_say(d, (struct drain_word){.kind = kind,
                                     .path = drain_path(d, below),
                                     .key = drain_key(d, below),
                                     .why = why,
                                     .code = code});
}

/* It is stored, and stays here: why. */
static void
drain_keeps(struct drain *d, const char *below, enum s3up_exit code, const char *why)
{
    drain_tell(d, DRAIN_KEPT, below, code, why);
}

/* The last name of a path. */
static const char *
drain_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ---- who else uses a file ----
 *
 * Two witnesses tell whether somebody writes into a file. A lease is granted only if
 * nobody has it open for writing; from then on the kernel holds up whoever opens it so,
 * until we let go, or until the kernel's own patience ends
 * (/proc/sys/fs/lease-break-time). Where none is granted, as over NFS or for a file of
 * another user, the descriptors of all processes are read from /proc: as many as we are
 * allowed to see, and true for one moment only. So the file's identity, with its times,
 * is always looked at as well. */

static int
drain_by_inode(const void *a, const void *b)
{
    const struct drain_writer *x = a, *y = b;

    if (x->inode != y->inode)
        return x->inode < y->inode ? -1 : 1;
    return x->device < y->device ? -1 : x->device > y->device;
}

/* Notes what one process has open for writing: its links in /proc may be written to. A
 * process that has ended, or is another user's, tells nothing. */
static void
drain_see_process(struct drain *d, int proc, const char *name)
{
    struct buf path = buf_upto(64);
    struct dirent *entry;
    struct stat link, info;
    DIR *dir = NULL;
    int fd;

    buf_str(&path, name);
    buf_str(&path, "/fd");
    fd = os_open_in(proc, buf_text(&path), O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0 && !(dir = fdopendir(fd)))
        (void)close(fd);
    /* A link's own permission bits say how it was opened; what it leads to is then asked
     * by following it, which also works for a file that was removed. */
    while (dir && (entry = readdir(dir)) != NULL && d->writers < DRAIN_WRITERS)
        if (fstatat(fd, entry->d_name, &link, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(link.st_mode) && (link.st_mode & S_IWUSR) &&
            fstatat(fd, entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            d->writer[d->writers++] = (struct drain_writer){info.st_dev, info.st_ino};
    if (dir)
        (void)closedir(dir);
    buf_free(&path);
}

/* Makes the list anew. It holds until somebody clears has_writers, which is done wherever
 * time has passed since it was made. Without /proc it is empty. */
static void
drain_find_writers(struct drain *d)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    if (!d->writer)
        d->writer = calloc(DRAIN_WRITERS, sizeof *d->writer);
    d->writers = 0;
    while (proc && d->writer && (entry = readdir(proc)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            drain_see_process(d, dirfd(proc), entry->d_name);
    if (proc)
        (void)closedir(proc);
    /* Sorted for drain_has_writer, which asks once for each file. */
    if (d->writers)
        qsort(d->writer, d->writers, sizeof *d->writer, drain_by_inode);
    d->has_writers = true;
}

/* Does a process that we may look at have it open for writing? Only asked where there is
 * no lease. */
static bool
drain_has_writer(struct drain *d, const struct os_id *id)
{
    const struct drain_writer w = {(dev_t)id->device, (ino_t)id->inode};

    if (!d->has_writers)
        drain_find_writers(d);
    /* With a list that is not whole it may be anybody's. */
    if (!d->writer || d->writers == DRAIN_WRITERS)
        return true;
    return d->writers &&
           bsearch(&w, d->writer, d->writers, sizeof w, drain_by_inode) != NULL;
}

static const char drain_is_new[] =
    "it has changed since it was sent; the next run looks at it again";

/* Is what has the hidden name still what was sent, with nobody waiting to write? The last
 * question before a file goes. The name must stand for the file that is open here, or
 * another would be removed. A second name means that somebody wants to keep it. Its
 * content counts, not its `changed`, which our own renaming has moved. A lease that
 * somebody waits for is no F_RDLCK any more: it tells what it shall become. */
static bool
drain_may_remove(struct drain *d, const struct drain_done *g, const char *hidden,
                 struct fail *f)
{
    struct stat info;
    struct os_id now;

    if (fstatat(g->folder, hidden, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        (uint64_t)info.st_ino == g->id.inode && (uint64_t)info.st_dev == g->id.device &&
        info.st_nlink == 1 && os_identify(g->fd, &now) && os_same(&now, &g->id) &&
        (g->leased ? fcntl(g->fd, F_GETLEASE) == F_RDLCK : !drain_has_writer(d, &now)))
        return true;
    return fail_set(f, S3UP_SKIPPED, "%s", drain_is_new) == 0;
}

/* Is the file gone, or open for writing, or not any more what was left alone for long
 * enough? What cannot be opened is no concern of ours: the upload will tell why. What is
 * busy is counted in d->open, so that a watch looks again soon. */
static bool
drain_is_busy(struct drain *d, const struct drain_file *file)
{
    struct part_name name = {file->path, d->root, 0};
    int fd = part_open_name(&name), lease;
    struct os_id now;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR;
    lease = os_lease(fd);
    /* It changed after the look: with a time to be left alone it is not ripe any more. */
    if (d->settle > 0 && os_identify(fd, &now) && !os_untouched(&now, &file->id))
        lease = 0;
    (void)close(fd); /* with it the lease ends */
    if (lease == 0 || (lease < 0 && drain_has_writer(d, &file->id))) {
        d->failed = true;
        d->open++;
        return true;
    }
    return false;
}

/* ---- what waits ----
 *
 * Which files are ripe is told by their own time, `changed`, which no program can set as
 * it likes. That needs a clock that tells the truth, and told it when the file was
 * written: a small machine without a battery begins at 1970 and learns the time later.
 * Where that is in doubt, a file is ripe once two looks, far enough apart by a clock that
 * never jumps, have found it the same. */

/* By inode alone: only files of one device are noted. */
static int
drain_by_look(const void *a, const void *b)
{
    const struct drain_look *x = a, *y = b;

    return x->id.inode < y->id.inode ? -1 : x->id.inode > y->id.inode;
}

/* A moment at which it is worth to look again. */
static void
drain_due_in(struct drain *d, int64_t left)
{
    int64_t at = os_ticks() + left;

    if (!d->due || at < d->due)
        d->due = at;
}

enum drain_state {
    DRAIN_FRESH,       /* it waits */
    DRAIN_RIPE,        /* its own time says so, or nobody asks for a time */
    DRAIN_RIPE_BY_LOOK /* an earlier look says so */
};

/* Was the file left alone for long enough? Its own time tells, if the clock can be
 * trusted and was when the file was written; else what was seen by an earlier look. */
static enum drain_state
drain_state(struct drain *d, const struct os_id *id)
{
    int64_t now = os_boot(), since = now;
    const struct drain_look *had, this = {*id, now};

    if (d->settle <= 0)
        return DRAIN_RIPE;
    /* A time before this program was made is one of a clock that was not set; one in the
     * future, of a clock that was set back since. */
    if (d->trusted && id->changed.s >= S3UP_RELEASED && id->changed.s <= d->now.s) {
        int64_t age =
            (d->now.s - id->changed.s) * 1000 + (d->now.ns - id->changed.ns) / 1000000;

        if (age < d->settle)
            drain_due_in(d, d->settle - age);
        return age < d->settle ? DRAIN_FRESH : DRAIN_RIPE;
    }
    /* By looks. `since` goes on from look to look as long as nothing changes; what finds
     * no room in the list is as new each time, and waits until there are fewer. */
    had = d->looked_n ? bsearch(&this, d->looked, d->looked_n, sizeof this, drain_by_look)
                      : NULL;
    if (had && os_untouched(&had->id, id))
        since = had->since;
    if (d->looks < DRAIN_LOOKS)
        d->look[d->looks++] = (struct drain_look){*id, since};
    if (now - since >= d->settle)
        return DRAIN_RIPE_BY_LOOK;
    if (d->settle - (now - since) > d->doubt)
        d->doubt = d->settle - (now - since);
    drain_due_in(d, d->settle - (now - since));
    return DRAIN_FRESH;
}

/* The oldest first; those of the same moment in the order of their names. */
static int
drain_by_age(const void *a, const void *b)
{
    const struct drain_file *x = a, *y = b;
    const struct os_time *s = &x->id.modified, *t = &y->id.modified;

    if (os_earlier(s, t) || os_earlier(t, s))
        return os_earlier(s, t) ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Only the oldest stay in the batch. It has room for twice as many, so that each
 * sorting is paid for by as many new files as a batch holds. */
static void
drain_cut(struct drain *d)
{
    if (d->n)
        qsort(d->file, d->n, sizeof *d->file, drain_by_age);
    while (d->n > DRAIN_BATCH) {
        free(d->file[--d->n].path);
        d->more = true;
    }
}

/* Copies the file into the batch. */
static void
drain_add(struct drain *d, const struct drain_file *file)
{
    if (d->n == 2 * DRAIN_BATCH)
        drain_cut(d);
    d->file[d->n] = *file;
    d->file[d->n].path = strdup(file->path);
    d->n += d->file[d->n].path != NULL; /* without memory it waits for another run */
}

/* Is it the state folder, the metrics file or whatever else is ours? By what it is, not
 * by its path, which may have been given in many ways. */
static bool
drain_is_own(const struct drain *d, const struct stat *is)
{
    for (unsigned i = 0; i < DRAIN_OWN; i++)
        if (d->own_inode[i] == is->st_ino && d->own_device[i] == is->st_dev && d->own[i])
            return true;
    return false;
}

/* Says once in a run why something is not taken. */
static void
drain_passes(struct drain *d, const char *below, const char *why)
{
    if (!d->heard)
        drain_tell(d, DRAIN_SKIPPED, below, S3UP_OK, why);
}

/* A file that is wanted: it waits, and may be ripe. */
static void
drain_see_file(struct drain *d, const struct stat *info, const char *below)
{
    struct drain_file file = {(char *)(uintptr_t)below, os_id_of(info)};
    enum drain_state state;

    /* --keep: it was stored by an earlier round of this run, and does not wait. */
    if (d->trusted && os_earlier(&file.id.changed, &d->known))
        return;
    d->files++;
    d->bytes += (uint64_t)info->st_size;
    if (d->files == 1 || info->st_mtim.tv_sec < d->oldest)
        d->oldest = info->st_mtim.tv_sec;
    /* Also of one that had its turn: what waits for a second look is not forgotten
     * because younger ones were sent meanwhile. */
    state = drain_state(d, &file.id);
    /* It was in an earlier batch of this round and is still there, for whatever reason:
     * once in a round is enough, or the round might never end. */
    if (d->behind.path && drain_by_age(&file, &d->behind) <= 0)
        return;
    if (!d->counting &&
        (state == DRAIN_RIPE_BY_LOOK || (state == DRAIN_RIPE && !d->by_look)))
        drain_add(d, &file);
}

/* ---- what an earlier run left between two names ----
 *
 * A run that was killed, or a power cut, between drain_hide and drain_remove leaves a
 * file whose name is our token: whoever looks for it cannot find it, and no pattern of
 * the user fits. The ledger has a line with this token, and in it the name. But that the
 * file is stored is not believed because of that line: somebody may have opened it before
 * it was hidden, and written since. So the store is asked for a proof, as if nothing had
 * been sent. What cannot be proven gets its name back, and goes through all states anew;
 * what has no name to go back to is said, and stays: a person must decide. */

/* What the ledger says of a token; all empty if it says nothing. */
struct drain_line {
    struct span token; /* that is looked for */
    struct buf path, key, bucket, endpoint;
};

/* One line of the ledger. It is read as JSON only if the token is somewhere in it: there
 * may be a hundred thousand lines, and one that counts. */
static void
drain_see_line(void *owner, struct span line)
{
    struct drain_line *w = owner;
    struct buf id = buf_upto(64);

    if (memmem(line.p, line.n, w->token.p, w->token.n) &&
        xfer_ledger_text(line, "id", &id) && span_eq(buf_span(&id), w->token)) {
        (void)xfer_ledger_text(line, "path", &w->path);
        (void)xfer_ledger_text(line, "key", &w->key);
        (void)xfer_ledger_text(line, "bucket", &w->bucket);
        (void)xfer_ledger_text(line, "endpoint", &w->endpoint);
    }
    buf_free(&id);
}

/* Is the hidden file stored, as the ledger says and the store proves, and was nothing
 * done to it while the store was asked? The lease is taken first, so that it covers that
 * time. The line may be about another store or bucket than this run's, which cannot be
 * asked. With --keep and --move-to the file is to get its name back: it must not go. */
static bool
drain_is_stored(struct drain *d, const struct drain_line *l, const struct part_file *file,
                int folder, const char *hidden)
{
    const int lease = os_lease(file->fd);
    const struct drain_done g = {
        .id = file->id, .folder = folder, .fd = file->fd, .leased = lease == 1};
    struct buf endpoint = buf_upto(URL_MAX);
    struct fail unread = {S3UP_OK, ""};
    bool good;

    xfer_put_endpoint(d->x->st, &endpoint);
    good = !d->keep && !d->move_to && lease != 0 &&
           span_eq(buf_span(&l->endpoint), buf_span(&endpoint)) &&
           span_eq(buf_span(&l->bucket), d->x->bucket) &&
           xfer_confirm_file(d->x, file, buf_span(&l->key), &unread) == 0;
    d->has_writers = false;
    good = good && drain_may_remove(d, &g, hidden, &unread);
    buf_free(&endpoint);
    return good;
}

/* Removes what an earlier run was about to remove, if it may be, or gives it its name
 * back. What has no place any more stays as it is: a file that came under its name since
 * is never replaced. */
static void
drain_recover(struct drain *d, const char *below)
{
    struct part_name name = {below, d->root, 0};
    const char *hidden = drain_base(below), *base;
    struct drain_line l = {.token = span_of(hidden + strlen(DRAIN_HIDDEN)),
                           .path = buf_upto(16 * KEY_MAX),
                           .key = buf_upto(4 * KEY_MAX),
                           .bucket = buf_upto(KEY_MAX),
                           .endpoint = buf_upto(URL_MAX)};
    int folder = os_walk(d->root, below, false);
    struct fail unread = {S3UP_OK, ""};
    struct part_file file = {.fd = -1};

    xfer_ledger_each(d->x->st, d->x->wish->folder, drain_see_line, &l);
    /* Empty if the ledger has no such line: what is old in it is forgotten, and another
     * state folder has another ledger. */
    base = drain_base(buf_text(&l.path));
    if (folder < 0 || part_open(&file, &name, &unread) < 0)
        drain_passes(d, below, "an earlier run left it, and it cannot be read");
    else if (!*base)
        drain_passes(d, below,
                     "an earlier run left it, and the ledger does not know "
                     "its name any more: rename it");
    else if (drain_is_stored(d, &l, &file, folder, hidden) &&
             unlinkat(folder, hidden, 0) == 0)
        drain_say(d, (struct drain_word){.kind = DRAIN_NOTE,
                                         .path = buf_text(&l.path),
                                         .why = "was uploaded by an earlier run, and is "
                                                "removed now"});
    else if (!part_name_new(folder, hidden, folder, base))
        drain_passes(d, below, "an earlier run left it, and its name is taken by now");
    part_close(&file);
    if (folder >= 0)
        (void)close(folder);
    buf_free(&l.path);
    buf_free(&l.key);
    buf_free(&l.bucket);
    buf_free(&l.endpoint);
}

/* ---- a look at the folder ----
 *
 * A look reads the whole folder, in which anything may happen meanwhile. It counts what
 * waits, and keeps the oldest of what is ripe: memory has its bound, however many files
 * there are, and the next batch costs another look. A look changes nothing but what
 * drain_recover puts right. All is found from the folder's descriptor on, and no link is
 * followed: whoever may write into the folder cannot lead us to other files. */

/* Only what ends in a token like ours: a user's file may begin in the same way. */
static bool
drain_is_hidden(const char *base)
{
    unsigned char token[JRN_ID];

    return !strncmp(base, DRAIN_HIDDEN, strlen(DRAIN_HIDDEN)) &&
           hex_read(span_of(base + strlen(DRAIN_HIDDEN)), token, sizeof token);
}

/* What is not to be taken for a file: half a download, and what NFS keeps of a file that
 * was removed while it was open. */
static bool
drain_is_passing(const char *base)
{
    size_t n = strlen(base), tail = strlen(PART_TAIL);
    unsigned char handle[12];

    return (n > tail && !strcmp(base + n - tail, PART_TAIL)) ||
           (!strncmp(base, ".nfs", 4) &&
            hex_read(span_of(base + 4), handle, sizeof handle));
}

/* Has inotify tell of the folder at hand; one that it knows already stays as it was. A
 * file counts when it is closed or comes by a rename; IN_CREATE is for folders and links.
 * A folder that is a link is not ours to watch, but the one that the user named may be
 * one. How many can be watched is limited for all programs of a user together. */
static void
drain_watch_folder(struct drain *d, const char *below)
{
    uint32_t what =
        IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW;

    if (d->watch < 0 ||
        inotify_add_watch(d->watch, *below ? drain_path(d, below) : d->dir,
                          *below ? what : what & ~(uint32_t)IN_DONT_FOLLOW) >= 0 ||
        d->unwatched || errno == ENOENT || errno == ENOTDIR)
        return;
    d->unwatched = true;
    log_say(LOG_WARN,
            "not all folders below %s can be watched (%s; see "
            "/proc/sys/fs/inotify/max_user_watches): it is looked at from time to time",
            d->dir, strerror(errno));
}

/* Goes into a folder, unless it is ours, is what was set aside, or is not wanted. Another
 * file system is left alone: what is mounted there is somebody else's matter, and its
 * inodes could be those of files here. */
static void
drain_see_folder(struct drain *d, struct os_tree *t, const char *below)
{
    struct span path = buf_span(&t->path);

    if (drain_is_own(d, &t->info) || !strcmp(below, DRAIN_ASIDE) ||
        !d->wants(d->owner, path, true))
        return;
    if (t->info.st_dev != d->device) {
        drain_passes(d, below, "it is another file system");
        return;
    }
    drain_watch_folder(d, below); /* before it is read: nothing comes unseen */
    if (!os_tree_descend(t) && errno != ENOENT) {
        d->failed = true;
        drain_passes(d, below, strerror(errno));
    }
}

/* One entry of the folder; got and why (an errno) are what os_tree_next said of it. A
 * hidden name is looked at before the patterns, which are about names that users gave.
 * drain_passes is for what the user should know about, a bare return for what is ours. */
static void
drain_see(struct drain *d, struct os_tree *t, int got, int why)
{
    const char *below = buf_text(&t->path), *base = drain_base(below);

    /* What has gone since its folder was read is nobody's concern. */
    if (got < 0) {
        if (why != ENOENT) {
            d->failed = true;
            drain_passes(d, below, strerror(why));
        }
    } else if (S_ISDIR(t->info.st_mode)) {
        drain_see_folder(d, t, below);
    } else if (drain_is_hidden(base)) {
        if (!d->counting && !d->dry_run && S_ISREG(t->info.st_mode))
            drain_recover(d, below);
    } else if (drain_is_own(d, &t->info) || drain_is_passing(base) ||
               !d->wants(d->owner, span_of(below), false)) {
        return;
    } else if (S_ISLNK(t->info.st_mode)) {
        drain_passes(d, below, "it is a symbolic link");
    } else if (!S_ISREG(t->info.st_mode)) {
        drain_passes(d, below, "it is no plain file");
    } else if (t->info.st_nlink > 1) {
        drain_passes(d, below, "it has several names (hard links)");
    } else {
        drain_see_file(d, &t->info, below);
    }
}

/* Is this machine's clock past the day on which this program was made, and past the last
 * thing that it did? That is the time in the ledger's last line; only the file's end is
 * read. Where there is none, the first of the two must do. */
static bool
drain_trusts_clock(const struct drain *d)
{
    struct buf path = buf_upto(PATH_MAX), text = buf_upto(64);
    struct span rest, line;
    int64_t last = 0;
    ssize_t did = -1;
    struct stat info;
    int fd;

    buf_str(&path, d->x->wish->folder ? d->x->wish->folder : "");
    buf_str(&path, "/ledger.jsonl");
    fd = d->x->wish->folder ? os_open(buf_text(&path), O_RDONLY, 0) : -1;
    if (fd >= 0 && fstat(fd, &info) == 0)
        did = os_read(fd, d->x->st->window, sizeof d->x->st->window,
                      info.st_size > (off_t)sizeof d->x->st->window
                          ? info.st_size - (off_t)sizeof d->x->st->window
                          : 0);
    rest = span_at(d->x->st->window, did > 0 ? (size_t)did : 0);
    while (rest.n && span_cut(&rest, '\n', &line)) /* the first may be half a line */
        if (xfer_ledger_text(line, "time", &text))
            (void)date_iso(buf_span(&text), &last);
    if (fd >= 0)
        (void)close(fd);
    buf_free(&path);
    buf_free(&text);
    return os_now().s >= S3UP_RELEASED && os_now().s >= last;
}

/* Does the name still stand for the folder that is open? What was replaced, as by a mount
 * over it, is no longer what the user means; false, and f says so. */
static bool
drain_is_there(const struct drain *d, int fd, struct fail *f)
{
    struct stat info, there;

    if (fstat(fd, &info) == 0 && stat(d->dir, &there) == 0 &&
        info.st_ino == there.st_ino && info.st_dev == there.st_dev)
        return true;
    return fail_set(f, S3UP_LATER, "%s was moved, removed or replaced", d->dir) == 0;
}

/* Reads the folder: what waits, in all, and the oldest of it that is ripe. counting: only
 * the numbers are wanted, and nothing is touched. -1: the folder itself is gone or cannot
 * be read. */
static int
drain_look(struct drain *d, bool counting, struct fail *f)
{
    struct os_tree *t = calloc(1, sizeof *t);
    struct drain_look *swap = d->looked;
    struct stat info;
    int got;

    if (!t)
        return fail_set(f, S3UP_LATER, "no memory to read %s", d->dir);
    t->path = buf_upto(PATH_MAX);
    /* The two lists change places: what this look notes is the next one's past. */
    d->looked = d->look;
    d->looked_n = d->looks;
    d->look = swap;
    d->looks = 0;
    if (d->looked_n)
        qsort(d->looked, d->looked_n, sizeof *d->looked, drain_by_look);
    /* Anew each time: a metrics file, say, is another one after each round. */
    for (unsigned i = 0; i < DRAIN_OWN; i++) {
        d->own_inode[i] = d->own[i] && stat(d->own[i], &info) == 0 ? info.st_ino : 0;
        d->own_device[i] = d->own_inode[i] ? info.st_dev : 0;
    }
    (void)drain_is_there(d, d->root, f);
    d->counting = counting;
    d->files = d->bytes = 0;
    d->n = d->at = 0;
    d->doubt = 0;
    d->due = 0;
    d->more = d->has_writers = false;
    d->now = os_now();
    drain_watch_folder(d, "");
    if (f->code == S3UP_OK && !os_tree_enter(t, d->root, "."))
        (void)fail_sys(f, "read", d->dir);
    /* A stop ends a look early. What was found is good; the rest is for the next run. */
    while (f->code == S3UP_OK && !os_stop && (got = os_tree_next(t)) != 0)
        drain_see(d, t, got, errno);
    os_tree_close(t);
    free(t);
    drain_cut(d);
    /* The first look of a run has told what is passed over. */
    d->heard = true;
    return f->code == S3UP_OK ? 0 : -1;
}

/* ---- what is stored is removed ----
 *
 * In groups, since a line of the ledger is good only when the disk has it, and a sync for
 * each of many small files could take longer than to send them. The order is all: proof
 * by the store, line on disk, hidden name, last doubts, removal. Each step can be the
 * last one before a crash, and none is taken for a file for which the one before it has
 * failed. */

/* Two files of that size. */
static bool
drain_same_bytes(int a, int b, int64_t size)
{
    char x[4096], y[sizeof x];
    bool same = true;

    for (int64_t at = 0; same && at < size; at += (int64_t)sizeof x) {
        size_t n = size - at < (int64_t)sizeof x ? (size_t)(size - at) : sizeof x;

        same = os_read(a, x, n, at) == (ssize_t)n && os_read(b, y, n, at) == (ssize_t)n &&
               !memcmp(x, y, n);
    }
    return same;
}

/* Did an earlier run copy the file to its place already, and was cut short before it
 * could remove it? By size and time, which xfer_seal_file gave the copy. */
static bool
drain_is_moved(const struct drain_done *g, const struct part_place *place)
{
    struct part_file there;
    bool is = part_open_there(place, &there) == 0 && there.id.size == g->id.size &&
              xfer_same_time(g->id.modified, there.id.modified) &&
              drain_same_bytes(g->fd, there.fd, g->id.size);

    part_close(&there);
    return is;
}

/* Moves the hidden file into the other folder, under the path that it had, whose folders
 * are made there. A file that lies there already is not replaced. Across file systems it
 * is copied, and the copy is on disk, name and all, before the file goes. */
static int
drain_move(struct drain *d, struct drain_done *g, const char *hidden, struct fail *f)
{
    struct buf to = buf_upto(2 * PATH_MAX);
    struct part_name name;
    struct part_place place = {.folder = -1};
    struct stat info;
    int temp = -1;

    buf_str(&to, d->move_to);
    buf_char(&to, '/');
    /* The path is known only when the buffer does not grow any more. */
    name = (struct part_name){NULL, d->moved, (unsigned)to.n};
    buf_str(&to, g->path);
    name.path = buf_text(&to);
    /* A rename, or what part_name_new can do instead, moves it within one file system. */
    if (part_find(&place, &name, f) == 0 && drain_is_moved(g, &place)) {
        if (unlinkat(g->folder, hidden, 0) != 0)
            (void)fail_sys(f, "remove", g->path);
    } else if (place.folder >= 0 &&
               !part_name_new(g->folder, hidden, place.folder, place.name)) {
        if (errno != EXDEV)
            /* As where something has that name already. */
            (void)fail_sys(f, "write", name.path);
        else if (fstat(g->fd, &info) != 0)
            (void)fail_sys(f, "examine", name.path);
        else if ((temp = part_make_temp(&place, info.st_mode & 0777, f)) >= 0 &&
                 os_copy(g->fd, temp, name.path, f) == 0 &&
                 xfer_seal_file(temp, name.path, g->id.modified, f) == 0 &&
                 drain_may_remove(d, g, hidden, f) && /* it may have taken long */
                 part_publish(&place, temp, true, f) == 0) {
            if (!os_sync_in(place.folder))
                (void)fail_sys(f, "write", name.path);
            else if (unlinkat(g->folder, hidden, 0) != 0)
                (void)fail_sys(f, "remove", g->path);
        }
        /* If only the removal failed, the copy has its name by now and stays: see
         * drain_is_moved. */
        if (temp >= 0 && f->code != S3UP_OK)
            (void)unlinkat(place.folder, place.temp, 0);
        if (temp >= 0)
            (void)close(temp);
    }
    part_leave(&place);
    buf_free(&to);
    return f->code == S3UP_OK ? 0 : -1;
}

/* The name that a file has while it is being removed. */
static void
drain_put_hidden(const struct drain_done *g, struct buf *out)
{
    buf_clear(out);
    buf_str(out, DRAIN_HIDDEN);
    buf_str(out, g->token);
}

/* First step: the file is found to be what was sent, nobody writes into it, and under its
 * name nobody finds it any more. g->folder and g->fd stay open until the second step, and
 * with g->fd the lease. Here not even `changed` may have moved: we have done nothing to
 * the file yet. What is not hidden is told, unless it is gone, and the second step only
 * frees what belongs to it. */
static void
drain_hide(struct drain *d, struct drain_done *g)
{
    struct buf hidden = buf_upto(NAME_MAX);
    const char *base = drain_base(g->path), *why = NULL;
    enum s3up_exit code = S3UP_SKIPPED;
    struct os_id now;
    int lease;

    g->folder = os_walk(d->root, g->path, false);
    g->fd = g->folder < 0
                ? -1
                : os_open_in(g->folder, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (g->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return; /* somebody else has removed it */
    drain_put_hidden(g, &hidden);
    lease = g->fd < 0 ? -1 : os_lease(g->fd); /* first: what is seen then, stays */
    if (g->fd < 0 || !os_identify(g->fd, &now)) {
        code = fail_exit(errno);
        why = strerror(errno);
    } else if (!os_untouched(&now, &g->id)) {
        why = drain_is_new;
    } else if (lease == 0 || (lease < 0 && drain_has_writer(d, &now))) {
        why = "somebody has it open for writing";
    } else if (renameat(g->folder, base, g->folder, buf_text(&hidden)) != 0) {
        code = fail_exit(errno);
        why = strerror(errno);
    } else {
        g->leased = lease == 1;
        g->hidden = true;
    }
    if (why)
        drain_keeps(d, g->path, code, why);
    buf_free(&hidden);
}

/* Second step: the file goes, or gets its name back, if no other has it by now; else it
 * stays hidden, and the next run tries again. Frees what g holds. */
static void
drain_remove(struct drain *d, struct drain_done *g)
{
    struct buf hidden = buf_upto(NAME_MAX);
    struct fail f = {S3UP_OK, ""};
    bool gone = false;

    drain_put_hidden(g, &hidden);
    /* f has the reason if drain_may_remove said no: then nothing else is tried. */
    if (g->hidden && drain_may_remove(d, g, buf_text(&hidden), &f) && d->move_to)
        gone = drain_move(d, g, buf_text(&hidden), &f) == 0;
    else if (g->hidden && f.code == S3UP_OK)
        gone = unlinkat(g->folder, buf_text(&hidden), 0) == 0 ||
               fail_sys(&f, "remove", buf_text(&hidden)) == 0;
    if (g->hidden && !gone) {
        drain_keeps(d, g->path, f.code, f.text);
        if (!part_name_new(g->folder, buf_text(&hidden), g->folder, drain_base(g->path)))
            drain_tell(d, DRAIN_NOTE, g->path, S3UP_OK, "cannot have its name back yet");
    }
    if (g->fd >= 0)
        (void)close(g->fd); /* and the lease ends */
    if (g->folder >= 0)
        (void)close(g->folder);
    free(g->path);
    buf_free(&hidden);
}

/* Writes down what is stored, and removes it: some at a time, each of which takes two
 * descriptors. Between the two steps lies the first step of all others, so that whoever
 * had found a file by its name has run into the lease by then. */
static void
drain_settle(struct drain *d)
{
    struct xfer *x = d->x;
    struct fail f = {S3UP_OK, ""};
    bool written = x->ledger.folder && jrn_ledger_flush(&x->ledger, &f) == 0;
    unsigned n;

    /* Without a line a crash could leave a hidden file that nobody knows. Nothing more
     * can be removed: so nothing more is sent. */
    if (!written && d->grouped) {
        if (f.code != S3UP_OK)
            log_say(LOG_WARN, "the ledger could not be written: %s", f.text);
        x->ledger.folder = NULL;
        x->hopeless = S3UP_LATER;
    }
    /* The list of writers is as old as the step before it: it is made anew for each. */
    for (unsigned at = 0; at < d->grouped; at += n) {
        n = d->grouped - at < DRAIN_STEP ? d->grouped - at : DRAIN_STEP;
        d->has_writers = false;
        for (unsigned i = at; i < at + n; i++)
            if (written)
                drain_hide(d, &d->group[i]);
            else
                drain_keeps(d, d->group[i].path, S3UP_LATER,
                            "the ledger could not be written");
        d->has_writers = false;
        for (unsigned i = at; i < at + n; i++)
            drain_remove(d, &d->group[i]);
    }
    d->grouped = 0;
}

/* What is stored waits for others before it is removed, since each line of the ledger
 * waits for the disk; but not long. Its line was made by xfer_end, with this token. There
 * is room: drain_hear settles a full group. */
static void
drain_stored(struct drain *d, const struct xfer_load *load)
{
    struct drain_done *g = &d->group[d->grouped];

    *g = (struct drain_done){.path = strdup(load->file[0].path + load->below),
                             .id = load->file[0].id,
                             .folder = -1,
                             .fd = -1};
    s3_copy_name(g->token, sizeof g->token, span_of(load->facts.id));
    if (!g->path || !g->token[0]) {
        free(g->path);
        return; /* without memory or a name the next run does it */
    }
    if (!d->grouped++)
        d->since = os_ticks();
}

/* ---- what is refused again and again ----
 *
 * With --quarantine. A file that the store refuses for its own sake, as for its name,
 * would be sent by every run for ever, and hide in the log what else goes wrong. In how
 * many runs each was refused stands in a file in the state folder, written anew at the
 * end of a round; without it, after a crash say, counting begins again, which does no
 * harm. What matters is that no file is blamed for the store: wrong keys or a bucket that
 * is gone refuse all of them alike. */

/* The path of the list. Its name is a digest of the folder's, so that each folder has its
 * own, however it is spelled. The lock of drain_lock has the same, and an ending. */
static void
drain_put_list(const struct drain *d, struct buf *out)
{
    unsigned char digest[SHA256_SIZE];
    char *real = realpath(d->dir, NULL);
    struct sum sum;

    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, real ? real : d->dir, strlen(real ? real : d->dir));
    sum_end(&sum, digest);
    free(real);
    buf_str(out, d->x->wish->folder);
    buf_str(out, "/drain.");
    hex_put(out, digest, 8);
}

/* NULL: it was not refused before, or was another file. */
static struct drain_refused *
drain_find_refused(struct drain *d, const char *path, uint64_t inode)
{
    for (size_t i = 0; i < d->refusals; i++)
        if (d->refused[i].inode == inode && !strcmp(d->refused[i].path, path))
            return &d->refused[i];
    return NULL;
}

/* Finds it, or adds it; NULL if there is no room or memory: then it is not counted. */
static struct drain_refused *
drain_add_refused(struct drain *d, const char *path, uint64_t inode, uint64_t runs)
{
    struct drain_refused *r = drain_find_refused(d, path, inode);
    char *copy;

    if (r || d->refusals == DRAIN_REFUSED || !d->refused || !(copy = strdup(path)))
        return r;
    r = &d->refused[d->refusals++];
    *r = (struct drain_refused){.path = copy, .inode = inode, .runs = runs};
    return r;
}

/* RUNS INODE PATH on a line each, the path percent-encoded. What cannot be read is passed
 * over: it only has to be refused more often. */
static void
drain_read_refused(struct drain *d)
{
    struct buf list = buf_upto(PATH_MAX), text = buf_upto(S3_REPLY),
               path = buf_upto(PATH_MAX);
    struct span rest, line, word;
    struct fail unread = {S3UP_OK, ""};
    uint64_t runs, inode;

    if (!d->quarantine || !d->x->wish->folder)
        return;
    d->refused = calloc(DRAIN_REFUSED, sizeof *d->refused);
    drain_put_list(d, &list);
    (void)os_slurp(buf_text(&list), &text, &unread); /* there may be none */
    rest = buf_span(&text);
    while (span_cut(&rest, '\n', &line)) {
        buf_clear(&path);
        if (span_cut(&line, ' ', &word) && num_parse(word, UINT64_MAX, &runs) &&
            span_cut(&line, ' ', &word) && num_parse(word, UINT64_MAX, &inode) &&
            line.n && url_read(line, false, &path) && !memchr(path.p, 0, path.n))
            (void)drain_add_refused(d, buf_text(&path), inode, runs);
    }
    buf_free(&list);
    buf_free(&text);
    buf_free(&path);
}

/* Sets a file aside, in the same folder, where no run takes it: a rename, which needs no
 * room, under the path that it had. What lies there already is not replaced. */
static void
drain_set_aside(struct drain *d, const struct drain_refused *r)
{
    const char *below = r->path;
    struct buf to = buf_upto(2 * PATH_MAX);
    int from = os_walk(d->root, below, false), folder = -1;
    struct stat info;
    struct os_id id;

    buf_str(&to, DRAIN_ASIDE "/");
    buf_str(&to, below);
    /* Another file by that name was never tried. */
    if (from >= 0 && fstatat(from, drain_base(below), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        (id = os_id_of(&info), os_untouched(&id, &r->id)))
        folder = os_walk(d->root, buf_text(&to), true);
    if (folder >= 0 && part_name_new(from, drain_base(below), folder, drain_base(below)))
        drain_tell(d, DRAIN_SKIPPED, below, S3UP_OK,
                   "it was refused in so many runs that it "
                   "was moved to " DRAIN_ASIDE);
    else
        drain_tell(d, DRAIN_NOTE, below, S3UP_OK, "could not be moved to " DRAIN_ASIDE);
    if (from >= 0)
        (void)close(from);
    if (folder >= 0)
        (void)close(folder);
    buf_free(&to);
}

/* Ends the list of a round: sets aside, writes what is to be remembered, and frees it.
 * What is gone, or went up, is forgotten; what this run could not even ask for is not. */
static void
drain_write_refused(struct drain *d)
{
    struct buf list = buf_upto(PATH_MAX), text = buf_upto(S3_REPLY);
    struct fail f = {S3UP_OK, ""};

    if (!d->refused)
        return;
    drain_put_list(d, &list);
    for (size_t i = 0; i < d->refusals; i++) {
        struct drain_refused *r = &d->refused[i];
        struct stat info;

        /* Where many are refused and nothing goes up it is not their fault. */
        if (r->now && (r->sure || d->rose || d->blamed <= DRAIN_FEW) &&
            ++r->runs >= d->quarantine)
            drain_set_aside(d, r);
        else if (r->runs < d->quarantine &&
                 (r->now || (fstatat(d->root, r->path, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                             (uint64_t)info.st_ino == r->inode))) {
            buf_num(&text, r->runs);
            buf_char(&text, ' ');
            buf_num(&text, r->inode);
            buf_char(&text, ' ');
            url_put(&text, span_of(r->path), "");
            buf_char(&text, '\n');
        }
        free(r->path);
    }
    free(d->refused);
    d->refused = NULL;
    d->refusals = d->blamed = 0;
    /* Nothing to be noted, and no list: then none is made. */
    if (text.n || access(buf_text(&list), F_OK) == 0)
        (void)os_replace(buf_text(&list), buf_span(&text), 0600, &f);
    if (f.code != S3UP_OK)
        log_say(LOG_WARN, "what was refused could not be noted: %s", f.text);
    buf_free(&list);
    buf_free(&text);
}

/* Counts a refusal that is about this one file, and once in a run. A key that is too long
 * or taken is the file's own; a denial, or a refusal without a reason that we know, may
 * be about all of them. A network that fails never counts. */
static void
drain_blame(struct drain *d, const char *below, const struct os_id *id, int code)
{
    struct drain_refused *r;
    bool alone = code == S3UP_EXISTS || code == S3UP_SOME ||
                 (code == S3UP_DENIED && !d->x->hopeless);

    if (!d->refused || !alone)
        return;
    r = drain_add_refused(d, below, id->inode, 0);
    if (!r || r->now)
        return;
    r->now = true;
    r->sure = code == S3UP_EXISTS;
    r->id = *id;
    d->blamed += !r->sure;
}

/* ---- a round ----
 *
 * A round sends what is ripe. xfer_run asks drain_next for one file after the other, and
 * tells drain_hear what became of each, in any order; between the two, files are removed.
 * A round ends when nothing is left that it has not tried. */

/* Gives the next file to the crew; false: this batch has no more, or enough were sent.
 * What item points to is copied before the next call. */
static bool
drain_next(void *owner, struct xfer_item *item)
{
    struct drain *d = owner;

    while (d->at < d->n && !os_stop && (!d->max_files || d->begun < d->max_files)) {
        struct drain_file *file = &d->file[d->at++];

        /* Where many files in a row are busy nobody else would come to do it. */
        if (d->grouped && os_ticks() - d->since >= DRAIN_WAIT)
            drain_settle(d);
        if (drain_is_busy(d, file))
            continue;
        *item = (struct xfer_item){.files = 1,
                                   .key = drain_key(d, file->path),
                                   .root = d->root,
                                   .was = &file->id,
                                   .fd = -1};
        (void)drain_path(d, file->path);
        item->below = (unsigned)(d->path.n - strlen(file->path));
        item->path = (const char *const *)&d->path.p;
        item->type = d->type(d->owner, buf_span(&d->path));
        /* The store would only refuse it, after all of it was sent. */
        if (item->key.n <= KEY_MAX) {
            d->begun++;
            return true;
        }
        drain_blame(d, file->path, &file->id, S3UP_EXISTS); /* no run can change that */
        drain_tell(d, DRAIN_FAILED, file->path, S3UP_USAGE,
                   "its key would be longer than any may be");
    }
    return false;
}

/* Has its name gone since, so that there is nothing left to be sent? */
static bool
drain_is_gone(const struct drain *d, const char *below)
{
    struct part_name name = {below, d->root, 0};
    int fd = part_open_name(&name);

    if (fd < 0)
        return errno == ENOENT;
    (void)close(fd);
    return false;
}

/* What became of a file. e->load does not outlive this call: what is needed later is
 * copied. A file whose name is gone when it should be sent is no failure: whoever took it
 * away meant to. */
static void
drain_hear(void *owner, const struct xfer_event *e)
{
    struct drain *d = owner;
    const char *below = e->load->file[0].path + e->load->below;

    if (e->kind == XFER_FAILED && e->fail->code == S3UP_SKIPPED &&
        drain_is_gone(d, below)) {
        drain_tell(d, DRAIN_NOTE, below, S3UP_OK, "is gone: somebody else removed it");
        d->begun--;
        return;
    }
    d->hear(d->owner, e);
    d->rose |= e->kind == XFER_DONE;
    /* What was not sent makes room for others, or it could keep them out for ever. */
    d->begun -= e->kind == XFER_FAILED || e->kind == XFER_SAME;
    if (e->kind == XFER_FAILED) {
        d->failed = true;
        drain_blame(d, below, &e->load->file[0].id, (int)e->fail->code);
    } else if ((e->kind == XFER_DONE || e->kind == XFER_SAME) && d->sealed) {
        drain_keeps(d, below, S3UP_DENIED,
                    "it cannot be removed: its folder may not be written to");
    } else if ((e->kind == XFER_DONE || e->kind == XFER_SAME) && !d->keep) {
        drain_stored(d, e->load);
    }
    if (d->grouped == JRN_GROUP || (d->grouped && os_ticks() - d->since >= DRAIN_WAIT))
        drain_settle(d);
}

/* Names those that were not begun, since all would fare like the one before. */
static void
drain_name_rest(struct drain *d)
{
    for (; d->at < d->n && !os_stop; d->at++)
        drain_tell(d, DRAIN_FAILED, d->file[d->at].path, d->x->hopeless,
                   "not tried, for the same reason");
}

/* Frees the batch. */
static void
drain_forget(struct drain *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->file[i].path);
    d->n = d->at = 0;
}

/* Sends one batch, and removes what was stored. A crew is for one run of xfer_run, so x
 * is made anew; what is known of the store (hopeless, proven) goes on. Afterwards
 * d->behind is the last file that was tried: the next batch takes what is younger. */
static int
drain_batch(struct drain *d, struct fail *f)
{
    struct xfer *x = d->x;
    const struct xfer fresh = {.st = x->st,
                               .wish = x->wish,
                               .bucket = x->bucket,
                               .next = drain_next,
                               .event = drain_hear,
                               .owner = d,
                               .hopeless = x->hopeless,
                               .proven = x->proven,
                               .lock = x->lock};

    /* With --dry-run nothing is left for the crew. */
    for (; d->dry_run && d->at < d->n; d->at++)
        drain_tell(d, DRAIN_WOULD, d->file[d->at].path, S3UP_OK, NULL);
    if (d->at < d->n && !x->hopeless) {
        *d->moved_bytes += x->crew.moved; /* by the batch before: `fresh` begins at 0 */
        *x = fresh;
        if (xfer_run(x, d->jobs, f) < 0)
            return -1;
        drain_settle(d);
    }
    if (x->hopeless)
        drain_name_rest(d);
    free(d->behind.path);
    d->behind = (struct drain_file){.path = NULL};
    d->more |= d->at < d->n; /* --max-files was reached, maybe too early */
    /* Without memory for its path the next batch begins with the oldest again. */
    if (d->at)
        d->behind =
            (struct drain_file){strdup(d->file[d->at - 1].path), d->file[d->at - 1].id};
    drain_forget(d);
    return 0;
}

/* Removes folders in which nothing was for a while; those that lie in them, first. The
 * time of a folder is that of the last change in it; it is read before its own folders
 * are removed, so that a whole empty tree goes at once. The kernel refuses to remove what
 * is not empty: a file that comes in this moment is safe. */
static void
drain_prune(struct drain *d, int folder, unsigned depth)
{
    int fd = os_open_in(folder, ".", O_RDONLY | O_DIRECTORY, 0), below;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct stat info;

    if (fd >= 0 && !dir)
        (void)close(fd);
    while (dir && !os_stop && (entry = readdir(dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(info.st_mode) || info.st_dev != d->device || drain_is_own(d, &info))
            continue;
        below = depth < OS_DEPTH
                    ? os_open_in(fd, entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)
                    : -1;
        if (below < 0)
            continue;
        drain_prune(d, below, depth + 1);
        (void)close(below);
        if (d->now.s - info.st_mtim.tv_sec >= d->prune_age)
            (void)unlinkat(fd, entry->d_name, AT_REMOVEDIR); /* only if it is empty */
    }
    if (dir)
        (void)closedir(dir);
}

/* One pass: all that is ripe, batch by batch. What becomes so meanwhile is for the next
 * one: where more comes all the time, none would end. If only a second look can tell, it
 * waits for that, once. */
static int
drain_round(struct drain *d, struct fail *f)
{
    /* With --watch the next round is the second look. */
    bool waited = d->watch >= 0, all = false;
    const int64_t since = os_ticks();
    const struct os_time begun = os_now();

    d->trusted = drain_trusts_clock(d);
    d->by_look = d->failed = d->rose = false;
    d->open = 0;
    if (os_earlier(&begun, &d->known)) /* the clock was set back */
        d->known = (struct os_time){0, 0};
    drain_read_refused(d);
    for (;;) {
        /* Between two batches the folder is read again: what came, went or changed since
         * is seen as it is. */
        if (drain_look(d, false, f) < 0)
            break;
        /* All else is done by now. The second pass takes from the beginning, but only
         * what two looks have found the same: the others had their turn. */
        if ((!d->n || all) && d->doubt && !waited && !os_stop &&
            (!d->max_files || d->begun < d->max_files)) {
            log_say(LOG_NOTE, "the clock does not tell how long files were left alone: "
                              "they are looked at twice");
            os_sleep((int)d->doubt + 1);
            waited = d->by_look = true;
            all = false;
            free(d->behind.path);
            d->behind = (struct drain_file){.path = NULL};
            continue;
        }
        if (!d->n || all)
            break;
        if (drain_batch(d, f) < 0 || os_stop ||
            (d->max_files && d->begun >= d->max_files))
            break;
        /* Whether this look was the last: when there is no more behind the batch. A watch
         * goes on while something is ripe, but lets its numbers be told from time to
         * time. */
        all = d->watch < 0 ? !d->more : os_ticks() - since >= DRAIN_AGAIN;
    }
    /* Something was ripe that was not tried. */
    d->failed |= d->n || (d->max_files && d->begun >= d->max_files);
    drain_forget(d);
    free(d->behind.path);
    d->behind = (struct drain_file){.path = NULL};
    if (d->prune_age >= 0 && d->trusted && !d->dry_run && !os_stop)
        drain_prune(d, d->root, 0);
    drain_write_refused(d);
    /* What had been left alone when the round began counts as stored: it need not be
     * asked for again as long as its `changed` stays below that moment. */
    if (d->keep && !d->failed && !d->doubt && !d->unwatched &&
        !os_stop) /* else all of it is asked for again */
        d->known = (struct os_time){begun.s - (d->settle + 999) / 1000, begun.ns};
    return f->code == S3UP_OK ? 0 : -1;
}

/* ---- one at a time, once or for ever ----
 *
 * Two runs on a folder would send each file twice, and each would take the other's hidden
 * names for those of a dead run. The lock is on the folder itself, so that it goes with
 * the process, however that ends. A watch is rounds with waits between them: inotify only
 * says that it may be worth to look, and what it cannot tell of, as what another host
 * writes, is found by the look that is made from time to time. */

/* Locks the folder itself; where that is refused, as NFS does, a file in the state
 * folder. wait: until whoever has it is done. The lock is d->x->lock from then on, which
 * drain_close closes and workers let go of: it ends with this process. */
static int
drain_lock(struct drain *d, bool wait, struct fail *f)
{
    struct buf path = buf_upto(PATH_MAX);
    int fd = os_open(d->dir, O_RDONLY | O_DIRECTORY, 0), rc;

    if (fd < 0)
        return fail_sys(f, "read", d->dir);
    while ((rc = flock(fd, LOCK_EX | LOCK_NB)) != 0 && !os_stop) {
        if (errno == EWOULDBLOCK && !wait)
            (void)fail_set(f, S3UP_LOCKED, "another run drains %s", d->dir);
        else if (errno == EWOULDBLOCK)
            os_sleep(100);
        /* The lock file cannot be locked either, or there is no place for one. */
        else if (path.n || !d->x->wish->folder)
            (void)fail_sys(f, "lock", d->dir);
        else {
            log_say(LOG_NOTE, "%s cannot be locked (%s): other hosts are not kept away",
                    d->dir, strerror(errno));
            drain_put_list(d, &path);
            buf_str(&path, ".lock");
            (void)close(fd);
            fd = os_open(buf_text(&path), O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
            if (fd < 0)
                (void)fail_sys(f, "write", buf_text(&path));
        }
        if (f->code != S3UP_OK)
            break;
    }
    if (rc != 0 && os_stop)
        (void)fail_set(f, S3UP_INTERRUPTED, "interrupted");
    /* While it waited, another folder may have got the name. */
    if (f->code == S3UP_OK && !path.n)
        (void)drain_is_there(d, fd, f);
    buf_free(&path);
    d->x->lock = fd;
    return f->code == S3UP_OK ? 0 : -1;
}

/* Makes d, whose descriptors are -1, ready for drain_run; drain_close is due also if it
 * fails. watch: with inotify. */
static int
drain_open(struct drain *d, bool wait, bool watch, struct fail *f)
{
    struct stat info, to;

    d->path = buf_upto(2 * PATH_MAX);
    d->key = buf_upto(2 * PATH_MAX);
    d->file = calloc(2 * DRAIN_BATCH, sizeof *d->file);
    d->look = calloc(DRAIN_LOOKS, sizeof *d->look);
    d->looked = calloc(DRAIN_LOOKS, sizeof *d->looked);
    if (!d->file || !d->look || !d->looked)
        return fail_set(f, S3UP_LATER, "no memory");
    if (!d->dry_run && drain_lock(d, wait, f) < 0)
        return -1;
    d->root = os_open(d->dir, O_RDONLY | O_DIRECTORY, 0);
    if (d->root < 0 || fstat(d->root, &info) != 0)
        return fail_sys(f, "read", d->dir);
    d->device = info.st_dev;
    /* Folders in it may still be writable, unless the file system is not, or there are
     * none: a folder without others has two links. */
    d->sealed = !d->keep && faccessat(d->root, ".", W_OK, AT_EACCESS) != 0 &&
                (errno == EROFS || (!watch && info.st_nlink == 2));
    if (d->move_to && !d->dry_run &&
        (!os_make_folders(d->move_to, 0777) ||
         (d->moved = os_open(d->move_to, O_RDONLY | O_DIRECTORY, 0)) < 0))
        return fail_sys(f, "write", d->move_to);
    /* What is moved to where it lies would be sent again by the next run. */
    if (d->moved >= 0 && fstat(d->moved, &to) == 0 && to.st_ino == info.st_ino &&
        to.st_dev == info.st_dev)
        return fail_set(f, S3UP_USAGE, "--move-to: %s is the folder itself", d->dir);
    /* Its descriptor never makes a read wait: drain_was_told takes what there is. */
    if (watch && (d->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0)
        return fail_sys(f, "watch", d->dir);
    return 0;
}

static void
drain_close(struct drain *d)
{
    const int fds[] = {d->root, d->moved, d->watch, d->x->lock > 0 ? d->x->lock : -1};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    d->x->lock = 0;
    free(d->file);
    free(d->look);
    free(d->looked);
    free(d->writer);
    buf_free(&d->path);
    buf_free(&d->key);
}

/* Takes what inotify has to say. Whatever it is, the folder will be looked at; if whole
 * folders came, their files may be older than the last look, and if events were lost,
 * such folders may be among them: then nothing counts as known. */
static bool
drain_was_told(struct drain *d)
{
    union {
        struct inotify_event event;
        char bytes[4096];
    } all;
    struct inotify_event e;
    bool any = false;
    ssize_t did;

    while ((did = read(d->watch, all.bytes, sizeof all.bytes)) > 0) {
        any = true;
        for (size_t at = 0; at + sizeof e <= (size_t)did; at += sizeof e + e.len) {
            memcpy(&e, all.bytes + at, sizeof e);
            if (e.mask & (IN_ISDIR | IN_Q_OVERFLOW))
                d->known = (struct os_time){0, 0};
        }
    }
    return any;
}

/* Waits until something may be ripe, or for DRAIN_AGAIN or DRAIN_IDLE: an event may never
 * come, as for what another host writes over NFS. An event shortens the wait to the time
 * that a file must be left alone, and further ones do not prolong it. If the folder is
 * gone f says so, and the look that follows fails. */
static void
drain_wait(struct drain *d, struct fail *f)
{
    int64_t now = os_ticks(),
            until = now + (d->files || d->unwatched ? DRAIN_AGAIN : DRAIN_IDLE);

    /* How long somebody has a file open nobody can know: soon is a guess. */
    if (d->open)
        drain_due_in(d, d->settle > DRAIN_LULL ? d->settle : DRAIN_LULL);
    if (d->due && d->due < until)
        until = d->due;
    while (!os_stop && (now = os_ticks()) < until && drain_is_there(d, d->root, f)) {
        struct pollfd told = {.fd = d->watch, .events = POLLIN};
        int64_t left = until - now;

        /* In slices: a signal may come just before the wait. */
        (void)poll(&told, 1, left < NET_SLICE ? (int)left + 1 : NET_SLICE);
        os_beat();
        if (drain_was_told(d) && now + d->settle + DRAIN_LULL < until)
            until = now + d->settle + DRAIN_LULL;
    }
}

/* Drains the folder once, or with a watch until it is told to stop. */
static int
drain_run(struct drain *d, struct fail *f)
{
    sig_atomic_t stop;

    for (;;) {
        d->x->hopeless = S3UP_OK;
        if (drain_round(d, f) < 0)
            return -1;
        if (d->watch >= 0)
            (void)drain_was_told(d); /* of what we did ourselves; all else is seen now: */
        /* The last look must not be cut short by the stop that ended the round, so the
         * flag is taken away meanwhile; a second stop counts. What --max-time ends has
         * ended well. */
        stop = os_stop;
        if (stop)
            os_stop = 0; /* also who must stop says what still waits */
        if (drain_look(d, true, f) < 0)
            return -1;
        d->over(d->owner);
        if (!os_stop && stop != SIGALRM)
            os_stop = stop;
        if (stop)
            return 0;
        if (d->watch < 0 || os_stop)
            return 0;
        d->begun = 0;
        drain_wait(d, f);
    }
}

/* ===== ROOM 17 command line: options, verbs, help, exit codes; main is last =====
 *
 * In: the words of the command line and the environment. Out: an exit code that tells the
 * truth; data on stdout, everything else on stderr. Two tables say all: cli_options
 * (every option, which verbs take it, what it means) and cli_verbs. The parser, the S3UP_
 * variables, help, the man page and the completions come from them. To add an option,
 * write its line; to add a verb, write its function and its line.
 *
 * The way through: main finds the verb; cli_parse fills struct cli; cli_run reads keys
 * and settings, opens the store and calls the verb's function, which gives an exit code,
 * or -1 and a reason that cli_run says. cli_finish has the last word, since what was
 * printed may not have arrived. Verbs that move many bytes (put, get, cp, drain) share
 * struct cli_run: room 14 asks it for one item after the other, and tells it what became
 * of each.
 *
 * Owns the settings, the keys, and the counts that become the exit code. Whatever can be
 * known to be wrong is refused before anything is sent, fetched or deleted. Nobody is
 * ever asked anything: what destroys is allowed on the command line (cli_destroys), or
 * not done.
 */

/* Patterns of names, from an option that may be repeated. */
struct cli_globs {
    const char *at[CLI_GLOBS];
    unsigned n;
};

/* What the options and the environment say. */
struct cli {
    const char *verb; /* for messages */
    /* Texts point into argv or the environment, and are NULL if nothing was said. jobs is
     * a number or "auto", rate a size or a timetable; upload is an id; producer is the
     * command of --if-exit-0. */
    const char *endpoint, *region, *profile, *ca_file, *addressing, *checksum;
    const char *jobs, *journal, *rate, *state, *metrics, *upload, *producer, *spool;
    const char *range, *config, *move_to, *since;
    const char *force; /* rm: NULL: no; the name of a bucket, or "" */
    uint64_t retries, timeout, lifetime, older, age; /* the last four in seconds */
    uint64_t settle, prune_age, max_time;            /* seconds, too */
    uint64_t quarantine, max_files;                  /* 0: not said */
    uint64_t part_size, threshold, expected;         /* bytes; 0: not said */
    bool no_sign, json, quiet, verbose, dry_run, no_clobber, recursive, human, get, put;
    bool restart, concat, parts, bold, no_progress, download, follow, if_changed;
    bool keep, prune, overwrite, wait, watch;
    struct cli_globs include, exclude;
    struct s3_pair heads[S3_PAIRS]; /* that the object shall have */
    unsigned n;
    struct buf text; /* holds what heads point into; never moves: made at full size */
    char **words;    /* of argv, those that are no options; reordered in place */
    int count;
};

/* Verbs as bits, so that an option can say which of them it belongs to. ON_SEND: what
 * makes objects; ON_NET: what asks a store; ON_STORE: what needs to know one. */
enum {
    ON_PUT = 1 << 0,
    ON_GET = 1 << 1,
    ON_LS = 1 << 2,
    ON_STAT = 1 << 3,
    ON_RM = 1 << 4,
    ON_MB = 1 << 5,
    ON_RB = 1 << 6,
    ON_PRESIGN = 1 << 7,
    ON_HELP = 1 << 8,
    ON_VERSION = 1 << 9,
    ON_UPLOADS = 1 << 10,
    ON_ABORT = 1 << 11,
    ON_SWEEP = 1 << 12,
    ON_HISTORY = 1 << 13,
    ON_CP = 1 << 14,
    ON_VERIFY = 1 << 15,
    ON_DRAIN = 1 << 16,
    ON_SEND = ON_PUT | ON_CP | ON_DRAIN,
    ON_NET = ON_SEND | ON_GET | ON_LS | ON_STAT | ON_RM | ON_MB | ON_RB | ON_VERIFY |
             ON_UPLOADS | ON_ABORT | ON_SWEEP,
    ON_STORE = ON_NET | ON_PRESIGN
};

enum cli_kind {
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_MAYBE,  /* the same, but --name alone is "" */
    CLI_NUMBER, /* uint64_t */
    CLI_AGE,    /* uint64_t, seconds */
    CLI_WAIT,   /* the same, and may be none */
    CLI_SIZE,   /* uint64_t, bytes */
    CLI_RATE,   /* const char *, see cli_rate */
    CLI_FIELD,  /* a header field of the object: its name is in `field` */
    CLI_META,   /* NAME=VALUE: x-amz-meta-NAME */
    CLI_GLOB,   /* one more of struct cli_globs */
    CLI_RAW     /* NAME: VALUE as it is */
};

/* All options. A name may stand here twice, for different verbs, with other words and
 * another place. What an option is worth unless it is said stands in cli_parse, or where
 * it is used: 0, false and NULL mean that it was not said. */
static const struct cli_option {
    const char *name, *alias; /* --name; alias: what other tools call it, or NULL */
    char letter;              /* -x, or 0 */
    enum cli_kind kind;
    size_t at;         /* in struct cli; 0 for what cli_add_field puts into heads */
    unsigned verbs;    /* that take it */
    const char *value; /* as help shows it; NULL for a flag */
    const char *what;  /* as help, the man page and the shells show it */
    const char *field; /* with CLI_FIELD, in lower case */
} cli_options[] = {
#define CLI_AT(member) offsetof(struct cli, member)
    {"endpoint-url", NULL, 'e', CLI_TEXT, CLI_AT(endpoint), ON_STORE, "URL",
     "the store: http[s]://HOST[:PORT] (AWS)", NULL},
    {"region", NULL, 0, CLI_TEXT, CLI_AT(region), ON_STORE, "NAME",
     "the region that requests are signed for (us-east-1)", NULL},
    {"profile", NULL, 0, CLI_TEXT, CLI_AT(profile), ON_STORE, "NAME",
     "take keys and settings from this profile of the shared AWS files", NULL},
    {"no-sign-request", NULL, 0, CLI_FLAG, CLI_AT(no_sign), ON_NET, NULL,
     "send no keys: for public buckets", NULL},
    {"ca-file", "ca-bundle", 0, CLI_TEXT, CLI_AT(ca_file), ON_NET, "FILE",
     "trust the certificates in this PEM file, and no others", NULL},
    {"addressing", NULL, 0, CLI_TEXT, CLI_AT(addressing), ON_STORE, "HOW",
     "auto, path (HOST/BUCKET) or virtual (BUCKET.HOST)", NULL},
    {"retries", NULL, 0, CLI_NUMBER, CLI_AT(retries), ON_NET, "N",
     "attempts after a failure that may pass (8)", NULL},
    {"timeout", NULL, 0, CLI_AGE, CLI_AT(timeout), ON_NET, "TIME",
     "how long nothing may move before a connection is given up (60s)", NULL},
    {"json", NULL, 0, CLI_FLAG, CLI_AT(json), ON_NET | ON_HISTORY, NULL,
     "print one JSON object a line", NULL},
    {"quiet", NULL, 'q', CLI_FLAG, CLI_AT(quiet), ON_STORE, NULL, "say errors only",
     NULL},
    {"verbose", NULL, 'v', CLI_FLAG, CLI_AT(verbose), ON_STORE, NULL,
     "show the heads of requests and replies; secrets are masked", NULL},
    {"dry-run", "dryrun", 0, CLI_FLAG, CLI_AT(dry_run),
     ON_SEND | ON_GET | ON_RM | ON_MB | ON_RB | ON_ABORT | ON_SWEEP, NULL,
     "say what would be done, and do nothing", NULL},
    {"no-clobber", "no-overwrite", 'n', CLI_FLAG, CLI_AT(no_clobber), ON_SEND | ON_GET,
     NULL, "never replace what exists already", NULL},
    {"jobs", "concurrency", 'j', CLI_TEXT, CLI_AT(jobs), ON_SEND | ON_GET, "N",
     "how many requests at a time, or auto (auto)", NULL},
    {"part-size", NULL, 0, CLI_SIZE, CLI_AT(part_size), ON_SEND | ON_GET, "SIZE",
     "of the parts that a large file is moved in (16M)", NULL},
    {"threshold", NULL, 0, CLI_SIZE, CLI_AT(threshold), ON_SEND | ON_GET, "SIZE",
     "files above it are moved in parts (the part size)", NULL},
    {"limit-rate", "bwlimit", 0, CLI_RATE, CLI_AT(rate), ON_PUT | ON_GET | ON_DRAIN,
     "RATE", "bytes a second of all connections, or from when on: 08:00=512K,20:00=0",
     NULL},
    {"no-progress", NULL, 0, CLI_FLAG, CLI_AT(no_progress), ON_SEND | ON_GET, NULL,
     "draw no line on the terminal that shows how it goes", NULL},
    {"expected-size", NULL, 0, CLI_SIZE, CLI_AT(expected), ON_PUT, "SIZE",
     "how long standard input will be: chooses the part size", NULL},
    {"if-exit-0", NULL, 0, CLI_TEXT, CLI_AT(producer), ON_PUT, "COMMAND",
     "store what COMMAND prints, if it ends well; FILE is -", NULL},
    {"spool", NULL, 0, CLI_TEXT, CLI_AT(spool), ON_PUT, "DIR",
     "keep standard input in a file there until it is stored", NULL},
    {"range", NULL, 0, CLI_TEXT, CLI_AT(range), ON_GET, "FIRST-LAST",
     "only these bytes of the object, counted from 0; or FIRST-, or -HOWMANY", NULL},
    {"restart", NULL, 0, CLI_FLAG, CLI_AT(restart), ON_PUT | ON_GET | ON_DRAIN, NULL,
     "begin anew, whatever an earlier run has stored", NULL},
    {"concat", NULL, 0, CLI_FLAG, CLI_AT(concat), ON_PUT, NULL,
     "join the files, in this order, to one object", NULL},
    {"journal", NULL, 0, CLI_TEXT, CLI_AT(journal), ON_PUT | ON_GET | ON_ABORT, "FILE",
     "where to note what is stored (in the state folder)", NULL},
    {"state-dir", NULL, 0, CLI_TEXT, CLI_AT(state),
     ON_PUT | ON_GET | ON_DRAIN | ON_UPLOADS | ON_ABORT | ON_SWEEP | ON_HISTORY |
         ON_VERIFY,
     "DIR", "the folder for journals and the ledger", NULL},
    {"metrics", NULL, 0, CLI_TEXT, CLI_AT(metrics), ON_SEND | ON_GET, "FILE",
     "write numbers for Prometheus to it at the end", NULL},
    {"parts", NULL, 0, CLI_FLAG, CLI_AT(parts), ON_UPLOADS, NULL,
     "show the parts of each upload, too", NULL},
    {"upload-id", NULL, 0, CLI_TEXT, CLI_AT(upload), ON_ABORT, "ID",
     "the upload to abort, as s3up uploads shows it", NULL},
    {"older-than", NULL, 0, CLI_AGE, CLI_AT(older), ON_SWEEP, "TIME",
     "how long nothing must have come for an upload (8d)", NULL},
    {"older-than", NULL, 0, CLI_AGE, CLI_AT(age), ON_RM, "TIME",
     "with -r: only what was stored so long ago, by the store's clock", NULL},
    {"force", NULL, 0, CLI_FLAG, CLI_AT(bold), ON_SWEEP | ON_PUT, NULL,
     "allow what could be a mistake: less than a day, a terminal as input", NULL},
    {"force", NULL, 0, CLI_MAYBE, CLI_AT(force), ON_RM, "[=BUCKET]",
     "with -r: delete indeed; a whole bucket only if it is named", NULL},
    {"download", NULL, 0, CLI_FLAG, CLI_AT(download), ON_VERIFY, NULL,
     "fetch the object and compare it, if no sum proves it equal", NULL},
    {"checksum", NULL, 0, CLI_TEXT, CLI_AT(checksum), ON_PUT | ON_DRAIN, "KIND",
     "auto, sha256, crc64nvme, crc32c, crc32, md5 or none", NULL},
    {"content-type", NULL, 0, CLI_FIELD, 0, ON_SEND, "TYPE",
     "the object's media type (guessed from the name's ending)", "content-type"},
    {"content-encoding", NULL, 0, CLI_FIELD, 0, ON_SEND, "CODING",
     "how the content is packed, as in gzip", "content-encoding"},
    {"content-disposition", NULL, 0, CLI_FIELD, 0, ON_SEND, "TEXT",
     "what browsers should do with the object", "content-disposition"},
    {"cache-control", NULL, 0, CLI_FIELD, 0, ON_SEND, "TEXT",
     "how long it may be kept by caches", "cache-control"},
    {"metadata", NULL, 0, CLI_META, 0, ON_SEND, "NAME=VALUE",
     "metadata to keep with the object; may be repeated", NULL},
    {"storage-class", NULL, 0, CLI_FIELD, 0, ON_SEND, "CLASS", "as in STANDARD_IA",
     "x-amz-storage-class"},
    {"sse", NULL, 0, CLI_FIELD, 0, ON_SEND, "KIND",
     "encryption at rest: AES256 or aws:kms", "x-amz-server-side-encryption"},
    {"sse-kms-key-id", NULL, 0, CLI_FIELD, 0, ON_SEND, "ID", "the key for --sse aws:kms",
     "x-amz-server-side-encryption-aws-kms-key-id"},
    {"acl", NULL, 0, CLI_FIELD, 0, ON_SEND, "NAME", "a canned ACL, as in public-read",
     "x-amz-acl"},
    {"tagging", NULL, 0, CLI_FIELD, 0, ON_SEND, "TAGS", "tags, as in a=b&c=d",
     "x-amz-tagging"},
    {"header", NULL, 0, CLI_RAW, 0, ON_SEND, "'NAME: VALUE'",
     "any other field of the request; may be repeated", NULL},
    {"recursive", NULL, 'r', CLI_FLAG, CLI_AT(recursive), ON_LS | ON_PUT | ON_GET, NULL,
     "what lies below, too: whole folders, all keys behind a prefix", NULL},
    {"recursive", NULL, 'r', CLI_FLAG, CLI_AT(recursive), ON_RM, NULL,
     "delete all below PREFIX/; without --force only count it", NULL},
    {"include", NULL, 0, CLI_GLOB, CLI_AT(include), ON_PUT | ON_GET | ON_DRAIN, "PATTERN",
     "of a folder only the files that match; may be repeated", NULL},
    {"exclude", NULL, 0, CLI_GLOB, CLI_AT(exclude), ON_PUT | ON_GET | ON_DRAIN, "PATTERN",
     "not the files and folders that match; may be repeated", NULL},
    {"follow", "follow-symlinks", 0, CLI_FLAG, CLI_AT(follow), ON_PUT, NULL,
     "in a folder, take what symbolic links stand for", NULL},
    {"if-changed", NULL, 0, CLI_FLAG, CLI_AT(if_changed), ON_PUT | ON_GET, NULL,
     "pass over what is there already: same size and time, or same checksum", NULL},
    {"config", NULL, 0, CLI_TEXT, CLI_AT(config), ON_DRAIN, "FILE",
     "take DIR and BUCKET from this JSON: base_dir, s3_bucket; and only *.dat", NULL},
    {"settle", NULL, 0, CLI_WAIT, CLI_AT(settle), ON_DRAIN, "TIME",
     "how long a file must have been left alone (10s)", NULL},
    {"keep", NULL, 0, CLI_FLAG, CLI_AT(keep), ON_DRAIN, NULL, "remove nothing", NULL},
    {"move-to", NULL, 0, CLI_TEXT, CLI_AT(move_to), ON_DRAIN, "DIR",
     "move what is stored there, instead of removing it", NULL},
    {"prune", NULL, 0, CLI_FLAG, CLI_AT(prune), ON_DRAIN, NULL,
     "remove folders that are empty", NULL},
    {"prune-age", NULL, 0, CLI_WAIT, CLI_AT(prune_age), ON_DRAIN, "TIME",
     "and have been so for so long (1h)", NULL},
    {"quarantine", NULL, 0, CLI_NUMBER, CLI_AT(quarantine), ON_DRAIN, "N",
     "set aside a file that was refused in N runs, in .s3up-quarantine", NULL},
    {"overwrite", NULL, 0, CLI_FLAG, CLI_AT(overwrite), ON_DRAIN, NULL,
     "replace objects that hold something else", NULL},
    {"max-files", NULL, 0, CLI_NUMBER, CLI_AT(max_files), ON_DRAIN, "N",
     "end after so many files", NULL},
    {"max-time", NULL, 0, CLI_AGE, CLI_AT(max_time), ON_DRAIN, "TIME",
     "end after so long; parts that are stored by then are not sent again", NULL},
    {"wait", NULL, 0, CLI_FLAG, CLI_AT(wait), ON_DRAIN, NULL,
     "wait for another run on DIR, instead of ending", NULL},
    {"watch", NULL, 0, CLI_FLAG, CLI_AT(watch), ON_DRAIN, NULL,
     "stay, and drain what comes, until told to stop", NULL},
    {"since", NULL, 0, CLI_TEXT, CLI_AT(since), ON_HISTORY, "WHEN",
     "only from then on: 2d, or 2026-11-20, or 2026-11-20T08:00:00Z", NULL},
    {"human", "human-readable", 0, CLI_FLAG, CLI_AT(human), ON_LS, NULL,
     "sizes for people: 1.5G instead of 1610612736", NULL},
    {"get", NULL, 0, CLI_FLAG, CLI_AT(get), ON_PRESIGN, NULL,
     "the URL downloads (the default)", NULL},
    {"put", NULL, 0, CLI_FLAG, CLI_AT(put), ON_PRESIGN, NULL, "the URL uploads", NULL},
    {"expires", "expires-in", 0, CLI_AGE, CLI_AT(lifetime), ON_PRESIGN, "TIME",
     "how long the URL is good, at most 7d (1h)", NULL},
#undef CLI_AT
};

#define CLI_OPTIONS (sizeof cli_options / sizeof *cli_options)

/* ---- words, near misses ---- */

/* How many letters must be changed, added or dropped to turn a into b, of which only what
 * fits into the row counts: no name of ours is as long. Row k tells the distance of what
 * was read of a from the first k letters of b; corner is the value that row[k - 1] had
 * one letter ago. */
static unsigned
cli_distance(const char *a, const char *b)
{
    unsigned row[32], n = 0;

    for (; b[n] && n < 31; n++)
        row[n] = n;
    row[n] = n;
    for (unsigned i = 1; *a; a++, i++) {
        unsigned corner = row[0];

        row[0] = i;
        for (unsigned k = 1; k <= n; k++) {
            unsigned change = corner + (*a != b[k - 1]);

            corner = row[k];
            row[k] = row[k] < row[k - 1] ? row[k] + 1 : row[k - 1] + 1;
            row[k] = change < row[k] ? change : row[k];
        }
    }
    return row[n];
}

/* Keeps the candidate if it is nearer to the word than what was found before. Words that
 * share less than half of their letters are not near. */
static void
cli_nearer(const char *word, const char *candidate, const char **best, unsigned *distance)
{
    unsigned far = candidate ? cli_distance(word, candidate) : UINT_MAX;

    if (far < *distance && far * 2 <= strlen(candidate)) {
        *best = candidate;
        *distance = far;
    }
}

/* ---- options ----
 *
 * A value comes from cli_parse, from a variable, from the command line: the later wins,
 * but that patterns and header fields add up. Whatever is wrong with one ends the run
 * before it has begun: half of what was meant is not done. */

/* By its name, or by what other tools call it; near misses look at both, too. */
static bool
cli_is_option(const struct cli_option *o, struct span name)
{
    return span_is(name, o->name) || (o->alias && span_is(name, o->alias));
}

/* The option of that name that the verb takes. NULL: there is none, and that was said,
 * with the nearest name that there is, if it is near enough to be a slip. */
static const struct cli_option *
cli_find_option(const struct cli *c, struct span name, unsigned verb)
{
    const char *near = NULL, *why = "there is no such option";
    unsigned distance = 4;
    char word[64];

    s3_copy_name(word, sizeof word, name);
    for (size_t i = 0; i < CLI_OPTIONS; i++) {
        const struct cli_option *o = &cli_options[i];

        if (cli_is_option(o, name) && o->verbs & verb)
            return o;
        if (o->verbs & verb) {
            cli_nearer(word, o->name, &near, &distance);
            cli_nearer(word, o->alias, &near, &distance);
        }
    }
    /* It may be right with another verb: that is said, rather than that there is none. */
    for (size_t i = 0; i < CLI_OPTIONS; i++)
        if (cli_is_option(&cli_options[i], name))
            why = "it does not belong to this command";
    if (near)
        log_say(LOG_ERROR, "%s --%s: %s; did you mean --%s?", c->verb, word, why, near);
    else
        log_say(LOG_ERROR, "%s --%s: %s; s3up help %s shows those it has", c->verb, word,
                why, c->verb);
    return NULL;
}

/* The same for -x. Several letters may stand behind one -, so a file's name that begins
 * so comes here, too. */
static const struct cli_option *
cli_find_letter(const struct cli *c, char letter, unsigned verb)
{
    for (size_t i = 0; i < CLI_OPTIONS; i++)
        if (cli_options[i].letter == letter && cli_options[i].verbs & verb)
            return &cli_options[i];
    log_say(LOG_ERROR,
            "%s -%c: there is no such option; s3up help %s shows those it has. A "
            "file whose name begins with - goes behind a --",
            c->verb, letter, c->verb);
    return NULL;
}

/* Text that lives as long as the program's settings, and ends in the NUL that its caller
 * puts behind it. The buffer is at its full size, so what points into it stays good. */
static struct span
cli_keep(struct cli *c, struct span a, struct span b)
{
    size_t at = c->text.n;

    buf_put(&c->text, a);
    buf_put(&c->text, b);
    return c->text.bad ? SPAN("") : span_at(c->text.p + at, a.n + b.n);
}

/* Fields that s3up fills itself: said twice, a request could be read in two ways. The
 * last is the token by which an object is known to be ours. */
static bool
cli_is_ours(struct span name)
{
    static const char *const ours[] = {"host",
                                       "content-length",
                                       "transfer-encoding",
                                       "connection",
                                       "expect",
                                       "authorization",
                                       "proxy-authorization",
                                       "user-agent",
                                       "x-amz-date",
                                       "x-amz-content-sha256",
                                       "x-amz-security-token",
                                       "x-amz-meta-s3up-id"};

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (span_is(name, ours[i]))
            return true;
    return false;
}

/* A header field for the object; the last of a name wins. NULL, or why not. A line end in
 * a value would begin a field of its own. Names are kept in lower case, as signatures
 * want them. Half of the pairs of a request are left for what s3up adds. */
static const char *
cli_add_field(struct cli *c, const char *prefix, struct span name, struct span value)
{
    struct span kept;

    for (size_t i = 0; i < value.n; i++)
        if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 127)
            return "a control character cannot be sent in a header";
    if (!http_is_token(name))
        return "the name is empty, or has characters that a header's name cannot have";
    kept = cli_keep(c, span_of(prefix), name);
    buf_char(&c->text, 0);
    for (size_t i = 0; i < kept.n; i++)
        c->text.p[(size_t)(kept.p - c->text.p) + i] = span_lower(kept.p[i]);
    if (c->text.bad)
        return "there are too many headers";
    if (cli_is_ours(kept))
        return "s3up sets this header itself";
    for (unsigned i = 0; i < c->n; i++)
        if (span_is(kept, c->heads[i].name)) {
            c->heads[i].value = value;
            return NULL;
        }
    if (c->n == S3_PAIRS / 3)
        return "there can be no more than 24 headers and metadata";
    c->heads[c->n++] = (struct s3_pair){kept.p, value};
    return NULL;
}

/* The rate that holds at a minute of the day: one size, or those of a timetable, of which
 * the last that has begun counts, if need be that of yesterday. NULL, or what is
 * wrong. The times may stand in any order: until one has begun today, the latest of all
 * counts; from then on, the latest of those that have begun. */
static const char *
cli_rate(const char *text, unsigned minute, uint64_t *rate)
{
    struct span rest = span_of(text), one, hour;
    unsigned latest = 0, last = 0;
    uint64_t h, m, size;
    bool begun = false;

    if (!span_has(rest, '='))
        return num_size(rest, rate) && *rate <= INT64_MAX
                   ? NULL
                   : "it must be a size, as in 512K";
    while (span_cut(&rest, ',', &one)) {
        struct span time;

        if (!span_cut(&one, '=', &time) || !span_cut(&time, ':', &hour) ||
            !num_parse(hour, 23, &h) || !num_parse(time, 59, &m) ||
            !num_size(one, &size) || size > INT64_MAX)
            return "a timetable is made of times and sizes, as in 08:00=512K,20:00=0";
        m += h * 60;
        if (m <= minute ? !begun || m >= latest : !begun && m >= last) {
            *rate = size;
            begun |= m <= minute;
            latest = (unsigned)m;
            last = (unsigned)m;
        }
    }
    return NULL;
}

/* Puts an option's value into its place; NULL, or what is wrong with it. value is NULL
 * for a flag, and for a CLI_MAYBE without one; it is kept, not copied. */
static const char *
cli_set(struct cli *c, const struct cli_option *o, const char *value)
{
    void *at = (char *)c + o->at;
    struct cli_globs *globs = at;
    struct span v = span_of(value), name;
    uint64_t rate;

    if (o->kind != CLI_FLAG && value && !v.n)
        return "it is empty";
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)at = true;
        return NULL;
    case CLI_TEXT:
    case CLI_MAYBE:
        *(const char **)at = value ? value : "";
        return NULL;
    case CLI_NUMBER:
        return num_parse(v, UINT32_MAX, at) ? NULL : "it must be a whole number";
    case CLI_RATE:
        *(const char **)at = value;
        return cli_rate(value, 0, &rate);
    /* Sizes become offsets in files, which are signed. */
    case CLI_SIZE:
        return num_size(v, at) && *(uint64_t *)at <= INT64_MAX
                   ? NULL
                   : "it must be a size, as in 8M, 512K or 1G";
    case CLI_WAIT:
        return num_age(v, at) && *(uint64_t *)at <= CLI_PATIENCE
                   ? NULL
                   : "it must be a time of at most 7d, as in 30s, 5m or 12h";
    case CLI_AGE:
        return num_age(v, at) && *(uint64_t *)at > 0 && *(uint64_t *)at < UINT32_MAX
                   ? NULL
                   : "it must be more than nothing, as in 30s, 5m, 12h or 7d";
    case CLI_GLOB:
        if (globs->n == CLI_GLOBS)
            return "there are too many patterns";
        globs->at[globs->n++] = value;
        return NULL;
    case CLI_FIELD:
        return cli_add_field(c, "", span_of(o->field), v);
    case CLI_META:
        return span_has(v, '=') && span_cut(&v, '=', &name)
                   ? cli_add_field(c, "x-amz-meta-", name, v)
                   : "there is no = in it";
    case CLI_RAW:
        return span_has(v, ':') && span_cut(&v, ':', &name)
                   ? cli_add_field(c, "", name, span_trim(v))
                   : "there is no : in it";
    }
    return NULL;
}

/* Says what is wrong with the value of an option or of its variable. What follows a name,
 * as a header's value, may be a secret: only the name is shown. */
static bool
cli_bad_value(const char *source, const struct cli_option *o, const char *value,
              const char *why)
{
    struct span shown = span_first(span_of(value), 200);

    if (o->kind == CLI_META || o->kind == CLI_RAW)
        shown = span_first(shown, strcspn(value, o->kind == CLI_RAW ? ":= " : "=:"));
    log_say(LOG_ERROR, "%s wants %s, and \"%.*s\" is none: %s", source,
            o->value ? o->value : "1 or 0", (int)shown.n, shown.n ? shown.p : "", why);
    return false;
}

/* --name, --name=value, --name value; -x, -xy, -xvalue, -x value. Moves *at to the last
 * word used. False: it is wrong, and that was said. Of a word with several letters the
 * first that takes a value takes all behind it. */
static bool
cli_option(struct cli *c, unsigned verb, int *at)
{
    const char *word = c->words[*at];
    bool is_long = word[1] == '-';

    for (const char *letter = word + 1; is_long || *letter; letter++) {
        struct span rest = span_of(word + 2), name = rest;
        const struct cli_option *o;
        const char *value = NULL, *why;
        char source[64] = "--";

        if (is_long)
            (void)span_cut(&rest, '=', &name);
        o = is_long ? cli_find_option(c, name, verb) : cli_find_letter(c, *letter, verb);
        if (!o)
            return false;
        /* rest.p is NULL unless there was a = in the word. */
        if (o->kind == CLI_MAYBE) {
            value = rest.p; /* only with a = before it */
        } else if (o->kind != CLI_FLAG) {
            value = is_long ? rest.p : letter[1] ? letter + 1 : NULL;
            if (!value && *at + 1 < c->count)
                value = c->words[++*at];
            if (!value) {
                log_say(LOG_ERROR, "--%s needs %s behind it", o->name, o->value);
                return false;
            }
        } else if (is_long && rest.p) {
            log_say(LOG_ERROR, "--%s takes no value, but got \"%s\"", o->name, rest.p);
            return false;
        }
        why = cli_set(c, o, value);
        s3_copy_name(source + 2, sizeof source - 2, span_of(o->name));
        if (why)
            return cli_bad_value(source, o, value, why);
        if (is_long || value)
            return true;
    }
    return true;
}

/* The variable that stands for an option: S3UP_NO_CLOBBER for --no-clobber. */
static void
cli_variable(const struct cli_option *o, char out[64])
{
    size_t n = 0;

    s3_copy_name(out, 64, SPAN("S3UP_"));
    for (n = 5; o->name[n - 5] && n < 63; n++) {
        char c = o->name[n - 5];

        out[n] = c == '-' ? '_' : (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
    out[n] = 0;
}

/* Is it one of the words of a list? Capitals do not matter. */
static bool
cli_is_word(const char *word, const char *list)
{
    struct span rest = span_of(list), one;

    while (span_cut(&rest, ' ', &one))
        if (one.n == strlen(word) && span_is_nocase(one, word))
            return true;
    return false;
}

/* What permits destruction, or says what is destroyed, is said where it is meant, and
 * cannot be left behind in an environment. What only rm takes does one or the other. */
static bool
cli_destroys(const struct cli_option *o)
{
    return !strcmp(o->name, "restart") || !strcmp(o->name, "force") ||
           !strcmp(o->name, "overwrite") || o->verbs == ON_RM;
}

/* Set before the command line is read, which has the last word. A flag that a variable
 * has set cannot be taken back there. False: one of them is wrong, and that was said. */
static bool
cli_variables(struct cli *c, unsigned verb)
{
    for (size_t i = 0; i < CLI_OPTIONS; i++) {
        const struct cli_option *o = &cli_options[i];
        const char *value, *why;
        char name[64];

        cli_variable(o, name);
        value = o->verbs & verb && !cli_destroys(o) ? os_env(name) : NULL;
        if (!value || (o->kind == CLI_FLAG && cli_is_word(value, "0 false no off")))
            continue;
        why = o->kind != CLI_FLAG || cli_is_word(value, "1 true yes on")
                  ? cli_set(c, o, value)
                  : "it is neither yes nor no";
        if (why)
            return cli_bad_value(name, o, value, why);
    }
    return true;
}

/* Sorts the words behind the verb into options and others. The others end up in words, in
 * the place of argv, which never has fewer: options may stand between them. A lone - is
 * one of them. False: it was said why; c->text is to be freed even then. How much is said
 * is set last, so that what is wrong here is told also with -q. */
static bool
cli_parse(struct cli *c, const char *name, unsigned verb, int argc, char **argv)
{
    bool only_words = false;
    int kept = 0;

    *c = (struct cli){.verb = name,
                      .retries = CLI_RETRIES,
                      .timeout = 60,
                      .lifetime = 3600,
                      .settle = CLI_SETTLE,
                      .prune_age = CLI_PRUNE,
                      .older = 8 * 86400};
    c->text = buf_upto(4 * REQ_TEXT);
    if (!buf_need(&c->text, 4 * REQ_TEXT - 1)) {
        log_say(LOG_ERROR, "no memory");
        return false;
    }
    if (!cli_variables(c, verb))
        return false;
    c->count = argc;
    c->words = argv;
    for (int i = 0; i < argc; i++) {
        char *word = c->words[i];

        if (!only_words && !strcmp(word, "--"))
            only_words = true;
        else if (only_words || word[0] != '-' || !word[1])
            c->words[kept++] = word;
        else if (!cli_option(c, verb, &i))
            return false;
    }
    c->count = kept;
    log_most = c->quiet ? LOG_ERROR : c->verbose ? LOG_DEBUG : LOG_NOTE;
    return true;
}

/* ---- from settings to a store ----
 *
 * Keys and settings come from where every AWS tool finds them; what was said to us comes
 * first. Texts are not copied on their way: a config points into the environment, the
 * profile and the keys. So these lie in struct cli_store, from cli_open to cli_close. */

/* All that a verb needs to speak to a store. It is the owner in all that rooms below call
 * back, and holds two windows for files: it does not lie on a stack. */
struct cli_store {
    const struct cli *cli;
    struct cli_run *run; /* the transfers that go on, if there are any */
    struct store lister; /* a connection for lists, while the other fetches */
    bool has_lister;
    struct profile profile;  /* config points into it, if it names an endpoint, say */
    struct creds creds;      /* the stores' configs point into them */
    struct store store;      /* has a copy of config: keys are replaced there */
    struct s3_config config; /* as it was at the beginning */
};

static const char *
cli_first(const char *a, const char *b)
{
    return a ? a : b;
}

/* Endpoint, region and the rest: flag or S3UP_ variable, then AWS_ variable, then
 * profile, then the default. Texts are pointed to, not copied. Who wants
 * another number of attempts than the usual means it also of a store that has never
 * answered (patient). */
static int
cli_config(const struct cli *c, struct cli_store *s, struct fail *f)
{
    struct s3_config *k = &s->config;
    const struct profile *p = &s->profile;
    const char *ignore = os_env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    const char *how = c->addressing;

    *k = (struct s3_config){.retries = (unsigned)c->retries,
                            .patient = c->retries != CLI_RETRIES,
                            .limit = (int64_t)c->timeout * 1000};
    k->endpoint = c->endpoint;
    if (!k->endpoint && !(ignore && span_is_nocase(span_of(ignore), "true"))) {
        k->endpoint =
            cli_first(os_env("AWS_ENDPOINT_URL_S3"), os_env("AWS_ENDPOINT_URL"));
        if (!k->endpoint && p->s3_endpoint.n)
            k->endpoint = buf_text(&p->s3_endpoint);
        if (!k->endpoint && p->endpoint.n)
            k->endpoint = buf_text(&p->endpoint);
    }
    k->region = cli_first(c->region,
                          cli_first(os_env("AWS_REGION"), os_env("AWS_DEFAULT_REGION")));
    if (!k->region && p->region.n)
        k->region = buf_text(&p->region);
    k->ca_file = cli_first(c->ca_file, os_env("AWS_CA_BUNDLE"));
    if (!k->ca_file && p->ca_bundle.n)
        k->ca_file = buf_text(&p->ca_bundle);
    /* A profile can ask for what we do not know: that is refused, not passed over. */
    if (!how && p->addressing.n)
        how = buf_text(&p->addressing);
    if (how && !strcmp(how, "path"))
        k->addressing = S3_PATH;
    else if (how && !strcmp(how, "virtual"))
        k->addressing = S3_VIRTUAL;
    else if (how && strcmp(how, "auto") != 0)
        return fail_set(f, S3UP_USAGE, "addressing is auto, path or virtual, not \"%s\"",
                        how);
    return 0;
}

/* Ends all connections, and wipes the keys. */
static void
cli_close(struct cli_store *s)
{
    s3_close(&s->store);
    if (s->has_lister)
        s3_close(&s->lister);
    cred_free(&s->creds);
    profile_free(&s->profile);
}

/* Points a config at keys that must outlive it, or be replaced in it before they go. */
static void
cli_use_keys(const struct creds *keys, struct s3_config *k)
{
    k->id = buf_span(&keys->id);
    k->secret = buf_span(&keys->secret);
    k->token = buf_span(&keys->token);
    k->until = keys->until;
}

/* Reads the source of the keys once more. False if it has none but those in use: keys
 * that are the same would be refused once more. Both connections must have the new ones
 * before the old are wiped. s3_renew counts up the age of the store that asked; workers
 * look at that of the first, so if it was the lister that asked it is counted up here. */
static bool
cli_renew(void *owner, struct s3_config *k)
{
    struct cli_store *s = owner;
    bool asked = s->cli->profile != NULL, newer;
    struct fail f = {S3UP_OK, ""};
    struct profile profile;
    struct creds keys;

    profile_init(&profile, cred_profile_name(s->cli->profile));
    cred_init(&keys);
    newer = cred_read_profile(&profile, asked, &f) == 0 &&
            cred_load(&profile, asked, &keys, &f) == 0 &&
            !(span_eq(buf_span(&keys.id), k->id) &&
              span_eq(buf_span(&keys.secret), k->secret) &&
              span_eq(buf_span(&keys.token), k->token));
    if (newer) {
        cred_free(&s->creds);
        s->creds = keys;
        cli_use_keys(&s->creds, &s->store.config);
        if (s->has_lister)
            cli_use_keys(&s->creds, &s->lister.config);
        s->store.age += k != &s->store.config; /* workers have old ones, too */
        log_say(LOG_NOTE, "the keys were replaced: going on with the new ones");
    } else {
        cred_free(&keys);
    }
    profile_free(&profile);
    return newer;
}

/* Reads profile and keys, and makes a store of them; nothing is sent yet. -1: f says why,
 * and nothing is left to be closed. A profile that was named on the command line must
 * exist. */
static int
cli_open(const struct cli *c, struct cli_store *s, struct fail *f)
{
    struct s3_config *k = &s->config;

    profile_init(&s->profile, cred_profile_name(c->profile));
    cred_init(&s->creds);
    if (cred_read_profile(&s->profile, c->profile != NULL, f) < 0 ||
        cli_config(c, s, f) < 0 ||
        (!c->no_sign && cred_load(&s->profile, c->profile != NULL, &s->creds, f) < 0)) {
        cred_free(&s->creds);
        profile_free(&s->profile);
        return -1;
    }
    cli_use_keys(&s->creds, k);
    s->cli = c;
    k->renew = c->no_sign ? NULL : cli_renew;
    k->owner = s;
    if (s3_open(&s->store, k, f) < 0) {
        cli_close(s);
        return -1;
    }
    return 0;
}

/* ---- what verbs share ----
 *
 * Whatever is said is a line on stderr, for people, or with --json an event on stdout,
 * for programs; a failure is both. What became of each thing is an exit code, which
 * cli_count adds up and cli_outcome makes one of; so the code of a run tells the truth
 * about all of it, however it ended. */

/* Data goes to stdout. Whether it arrived is known only after it was flushed. */
static int
cli_finish(int code)
{
    struct pollfd reader = {.fd = STDOUT_FILENO, .events = POLLOUT};

    /* An error of an earlier write leaves no errno: then EIO must do. */
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    /* It may have failed long ago: whether anybody reads is asked again. */
    if (errno == EPIPE || (poll(&reader, 1, 0) == 1 && reader.revents & POLLERR))
        return S3UP_CLOSED;
    if (os_stop)
        return code == S3UP_OK ? 128 + (int)os_stop : code;
    errno = errno ? errno : EIO;
    log_say(LOG_ERROR, "cannot write to standard output: %s", strerror(errno));
    return code == S3UP_OK ? S3UP_SOME : code;
}

/* One member of an event, with its comma where one is due. */
static void
cli_json_text(struct buf *b, const char *key, struct span value)
{
    json_key(b, key);
    json_put(b, value);
}

/* Begins an event of --json: {"event":...,"source":... The line is for cli_event_end,
 * which writes and frees it. */
static struct buf
cli_event(const char *event, const char *source)
{
    struct buf line = buf_upto(MIB);

    buf_char(&line, '{');
    cli_json_text(&line, "event", span_of(event));
    cli_json_text(&line, "source", span_of(source));
    return line;
}

/* An event of --json goes to stdout, unless an object is written there; at once, since
 * whoever reads it wants to know what is done by now. */
static void
cli_event_end(struct buf *line, bool stdout_taken)
{
    FILE *to = stdout_taken ? stderr : stdout;

    buf_str(line, "}\n");
    if (line->bad)
        log_say(LOG_ERROR, "no memory to tell an event");
    fputs(buf_text(line), to);
    (void)fflush(to); /* an error stays: cli_finish finds it */
    buf_free(line);
}

/* A failure, said as the user wants it. Returns its exit code; a stop by a signal counts
 * as shells count it. stdout_taken: an object is written there. */
static int
cli_failed(const struct cli *c, const struct fail *f, const char *what, bool stdout_taken)
{
    if (f->code == S3UP_CLOSED)
        return (int)f->code; /* whoever closed the pipe knows why */
    if (log_dated)           /* one of many: the log goes on */
        log_say(LOG_WARN, "%s", f->text);
    else
        log_fail(f);
    /* Both: an event is for programs, the line for whoever reads the log. */
    if (c->json) {
        struct buf line = cli_event("error", what);

        json_key(&line, "code");
        buf_num(&line, (uint64_t)f->code);
        cli_json_text(&line, "message", span_of(f->text));
        cli_event_end(&line, stdout_taken);
    }
    if (f->code == S3UP_INTERRUPTED && os_stop)
        return 128 + (int)os_stop;
    return (int)f->code;
}

/* One that was not tried because of what became of another, or because of a stop. Each is
 * named: a list of failures that leaves some out would look complete. */
static int
cli_spared(const struct cli *c, const char *what, const char *did, int code,
           bool stdout_taken)
{
    struct fail f = {S3UP_OK, ""};

    (void)fail_set(&f, (enum s3up_exit)code, "%s was not %s%s", what, did,
                   os_stop ? ": interrupted" : ", for the same reason");
    return cli_failed(c, &f, what, stdout_taken);
}

/* Something was done, or with --dry-run would be, that moves no bytes. */
static void
cli_did(const struct cli *c, const char *event, const char *what)
{
    if (c->json) {
        struct buf line = cli_event(event, what);

        cli_event_end(&line, false);
    } else if (c->dry_run) {
        log_say(LOG_NOTE, "%s %s", event, what);
    }
}

/* What several transfers came to: their common code if all failed alike, else "some". */
struct cli_tally {
    int done, failed, skipped, same; /* what was skipped counts as failed, too */
    int code;                        /* of the last failure */
    bool mixed;                      /* not all failures had that code */
};

/* Counts one outcome, an exit code. */
static void
cli_count(struct cli_tally *t, int code)
{
    if (code == S3UP_OK) {
        t->done++;
        return;
    }
    t->skipped += code == S3UP_SKIPPED;
    t->mixed |= t->failed && t->code != code;
    t->code = code;
    t->failed++;
}

/* The exit code of a run. A stop outweighs all; what was only skipped is no failure; one
 * code is given only if nothing went well beside it, for a script would act on it for
 * all. */
static int
cli_outcome(const struct cli_tally *t)
{
    if (!t->failed)
        return S3UP_OK;
    if (os_stop)
        return 128 + (int)os_stop;
    if (t->failed == t->skipped)
        return S3UP_SKIPPED;
    return t->mixed || t->done || t->same ? S3UP_SOME : t->code;
}

/* After these no other request of this run can fare better: the network is left alone.
 * Other denials may be about one key. */
static bool
cli_hopeless(const struct store *st, int code)
{
    return os_stop || code == S3UP_CLOSED ||
           (code == S3UP_DENIED &&
            (span_is(span_of(st->error.code), "InvalidAccessKeyId") ||
             span_is(span_of(st->error.code), "SignatureDoesNotMatch")));
}

static bool
cli_is_uri(const char *word)
{
    return span_starts(span_of(word), "s3://");
}

/* Of any kind; ./http://x is a path. */
static bool
cli_is_url(const char *word)
{
    return !strncmp(word + strcspn(word, "/:"), "://", 3);
}

/* Takes s3://BUCKET[/KEY] apart; both are views into the word. False, and f, if it is
 * none. Of a long word only the beginning is repeated. */
static bool
cli_uri(const char *word, struct span *bucket, struct span *key, struct fail *f)
{
    const char *why = url_s3(span_of(word), bucket, key);
    int n = (int)span_first(span_of(word), 300).n;

    if (why)
        (void)fail_set(f, S3UP_USAGE, "%.*s%s: %s", n, word, word[n] ? "..." : "", why);
    return !why;
}

static void
cli_put_uri(struct buf *out, struct span bucket, struct span key)
{
    buf_str(out, "s3://");
    buf_put(out, bucket);
    buf_char(out, '/');
    buf_put(out, key);
}

/* What stands behind the last slash. */
static struct span
cli_base(struct span path)
{
    const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;

    return slash ? span_after(path, (size_t)(slash - path.p) + 1) : path;
}

/* The last name in a path or URI, without slashes that may stand behind it. */
static struct span
cli_name(const char *word)
{
    struct span path = span_of(word);

    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    return cli_base(path);
}

static int
cli_by_name(const void *a, const void *b)
{
    return span_cmp(cli_name(*(char *const *)a), cli_name(*(char *const *)b));
}

/* Several that go into one folder must differ in their names there: else the last would
 * replace the others, and nobody would know. */
static int
cli_differ(char *const *words, int n, struct fail *f)
{
    char **sorted = calloc((size_t)n + 1, sizeof *sorted);

    if (!sorted)
        return fail_set(f, S3UP_LATER, "no memory");
    for (int i = 0; i < n; i++)
        sorted[i] = words[i];
    qsort(sorted, (size_t)n, sizeof *sorted, cli_by_name);
    for (int i = 1; i < n; i++)
        if (cli_by_name(&sorted[i - 1], &sorted[i]) == 0)
            (void)fail_set(f, S3UP_USAGE, "%.1000s and %.1000s would get the same name",
                           sorted[i - 1], sorted[i]);
    free(sorted);
    return f->code == S3UP_OK ? 0 : -1;
}

/* The endings that matter to browsers; others are the store's to name. NULL: none of
 * them. */
static const char *
cli_media_type(struct span path)
{
    static const char *const types[][2] = {
        {".html", "text/html"},        {".htm", "text/html"},
        {".css", "text/css"},          {".js", "text/javascript"},
        {".mjs", "text/javascript"},   {".json", "application/json"},
        {".xml", "application/xml"},   {".txt", "text/plain"},
        {".md", "text/markdown"},      {".csv", "text/csv"},
        {".svg", "image/svg+xml"},     {".png", "image/png"},
        {".jpg", "image/jpeg"},        {".jpeg", "image/jpeg"},
        {".gif", "image/gif"},         {".webp", "image/webp"},
        {".ico", "image/x-icon"},      {".pdf", "application/pdf"},
        {".zip", "application/zip"},   {".gz", "application/gzip"},
        {".tar", "application/x-tar"}, {".mp3", "audio/mpeg"},
        {".mp4", "video/mp4"},         {".webm", "video/webm"},
        {".woff2", "font/woff2"},      {".wasm", "application/wasm"},
    };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (s3_ends(path, types[i][0]))
            return types[i][1];
    return NULL;
}

/* A transfer is done, or with --dry-run would be: then size and etag do not count. to is
 * "-" if the object went to standard output, where nothing else may go. */
static void
cli_done(const struct cli *c, const char *from, const char *to, uint64_t size,
         const char *etag)
{
    struct buf line;
    bool stdout_taken = !strcmp(to, "-");

    if (!c->json && c->dry_run)
        log_say(LOG_NOTE, "would %s %s -> %s", c->verb, from, to);
    else if (!c->json)
        log_say(LOG_NOTE, "%s -> %s (%llu bytes)", from, to, (unsigned long long)size);
    if (!c->json)
        return;
    line = cli_event(c->dry_run ? "would" : "done", from);
    cli_json_text(&line, "target", span_of(to));
    if (!c->dry_run) {
        json_key(&line, "size");
        buf_num(&line, size);
        cli_json_text(&line, "etag", s3_bare(span_of(etag)));
    }
    cli_event_end(&line, stdout_taken);
}

/* ---- put ----
 *
 * Words become items one at a time, when a worker has nothing to do: a folder of a
 * million files is never a list in memory, and what is not reached is not touched. The
 * order is always the same: all checks, cli_begin_run, cli_run_words (xfer_run asks
 * cli_next, and tells cli_hear), cli_end_run, which says what came of it. get and cp go
 * the same way, with another function in the place of cli_next; drain has its own, in
 * room 15. */

/* The word of --checksum. False, and f, if there is no such checksum. */
static bool
cli_checksum(const struct cli *c, struct xfer_wish *w, struct fail *f)
{
    w->checksum = XFER_AUTO;
    if (!c->checksum || !strcmp(c->checksum, "auto"))
        return true;
    w->checksum = XFER_NONE;
    if (!strcmp(c->checksum, "none"))
        return true;
    w->checksum = XFER_KIND;
    for (unsigned i = 0; i < SUM_KINDS; i++)
        if (!strcmp(c->checksum, sum_kinds[i].name)) {
            w->kind = (enum sum_kind)i;
            return true;
        }
    (void)fail_set(f, S3UP_USAGE,
                   "there is no checksum \"%s\": auto, sha256, crc64nvme, crc32c, "
                   "crc32, md5 or none",
                   c->checksum);
    return false;
}

/* The key that a file gets: as given, or with its base name where a folder is meant.
 * several: more files than one go there, so it must be one. False: f says why not. */
static bool
cli_put_key(const char *path, struct span given, bool several, struct buf *out,
            struct fail *f)
{
    struct span base = cli_base(span_of(path));

    buf_put(out, given);
    if (!given.n || given.p[given.n - 1] == '/') {
        buf_put(out, base);
        if (!base.n)
            return fail_set(f, S3UP_USAGE, "\"%s\" is no name of a file", path) == 0;
    } else if (several) {
        return fail_set(f, S3UP_USAGE, "several files need a target that ends in /") == 0;
    }
    if (out->bad || out->n > KEY_MAX)
        return fail_set(f, S3UP_USAGE,
                        "%s: with this name the key is longer than %d bytes, the "
                        "most that a key can have",
                        path, KEY_MAX) == 0;
    return true;
}

/* For people, 1.5G; for programs all digits. */
static void
cli_put_size(struct buf *out, uint64_t n, bool human)
{
    if (human)
        num_put_size(out, n);
    else
        buf_num(out, n);
}

/* 90061 as 1d1h: two units are enough for people. */
static void
cli_put_age(struct buf *out, int64_t seconds)
{
    static const struct {
        int64_t in;
        char letter;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    uint64_t left = seconds > 0 ? (uint64_t)seconds : 0;
    unsigned i = 0;

    while (i < 3 && left < (uint64_t)units[i].in)
        i++;
    for (unsigned k = i; k <= i + 1 && k < 4; k++) {
        if (k > i && !(left / (uint64_t)units[k].in))
            break;
        buf_num(out, left / (uint64_t)units[k].in);
        buf_char(out, units[k].letter);
        left %= (uint64_t)units[k].in;
    }
}

/* All transfers of one command: what is to be moved, what came of it so far, and what is
 * shown of it. cli_begin_run makes one ready, cli_end_run frees what it owns. */
struct cli_run {
    const struct cli *cli;
    struct xfer xfer;
    struct xfer_wish wish;
    struct span bucket, given; /* the target, as it was written */
    char **words;              /* the files */
    int at, last;              /* which of them are to be sent, or fetched */
    const char *verb;          /* what is done to them */
    const char *to;            /* where what is fetched goes; NULL: an upload */
    bool to_stdout;            /* then events must not go there */
    bool (*next)(void *owner, struct xfer_item *item); /* one of cli_next... */
    unsigned jobs;
    struct buf key, target; /* of the file at hand */
    struct buf folder; /* for the state of transfers: holds what wish.folder points to */
    struct cli_tally tally;
    uint64_t bytes, resumed, parts, retries; /* moved to their end, found there, counts */

    struct cli_tally before; /* this round of many */
    uint64_t moved;          /* over the wire, by transfers before the one in xfer */
    uint64_t total;          /* bytes of all files; 0: not known */
    int64_t begun;           /* ticks, and so are the next */
    int64_t drawn, told; /* the line on the terminal; the rest of what cli_tick does */
    struct cli_sample {
        int64_t at;
        uint64_t moved;    /* by crew.moved */
    } sample[CLI_SAMPLES]; /* one a second, round and round */
    unsigned samples;
    unsigned parts_over, parts_all; /* of uploads that have ended */
    uint64_t shown;                 /* the most that was shown as done */
    int64_t left, left_at;          /* milliseconds, as they were shown, and when */
    bool is_drawing;                /* there is a terminal to draw on */
    bool hopeless;                  /* what failed once would fail again */
    const char *path;               /* of the item at hand, which points to it */
    int *roots; /* of the words that are folders; -1 for those that are none */
    struct os_tree tree;
    bool in_tree;   /* that is under way */
    unsigned below; /* where in the target that begins what is below the root */
    struct s3_list list;
    struct buf prefix; /* what is listed */
    int root;          /* the folder that a tree of objects goes to; -1: there is none */
    uint64_t seen;     /* keys that were listed */
    bool several;      /* trees, each of which gets a folder of its own */
    struct drain *drain; /* the folder that is drained, or NULL */
};

/* From where to where: texts for people and events. They point into uri, which is to be
 * freed, and into the load. */
struct cli_way {
    struct buf uri;
    const char *from, *to;
};

static struct cli_way
cli_way(const struct cli_run *r, const struct xfer_load *load)
{
    struct cli_way w = {.uri = buf_upto(8 * KEY_MAX)};

    cli_put_uri(&w.uri, r->bucket, buf_span(&load->key));
    w.from = load->down ? buf_text(&w.uri) : load->file[0].path;
    w.to = load->down ? load->file[0].path : buf_text(&w.uri);
    return w;
}

static void
cli_event_number(struct buf *line, const char *name, uint64_t n)
{
    json_key(line, name);
    buf_num(line, n);
}

/* How many bytes of an upload were stored by an earlier run. */
static uint64_t
cli_found_bytes(const struct xfer_load *load)
{
    uint64_t n = 0;

    for (unsigned i = 1; i <= load->plan.n && i <= load->facts.parts; i++)
        if (load->facts.part[i - 1].done)
            n += (uint64_t)part_length(&load->plan, i);
    return n;
}

/* Says what an earlier run has left to do, and counts what it had done. */
static void
cli_say_resume(struct cli_run *r, const struct xfer_load *load)
{
    struct buf have = buf_upto(64), all = buf_upto(64);
    uint64_t found = cli_found_bytes(load);

    r->resumed += found;
    cli_put_size(&have, found, true);
    cli_put_size(&all, (uint64_t)load->plan.size, true);
    log_say(LOG_NOTE, "%s: going on; %u of %u parts (%s of %s) are there already",
            load->file[0].path, load->found, load->plan.n, buf_text(&have),
            buf_text(&all));
    buf_free(&have);
    buf_free(&all);
}

/* What happens to an upload that is not at its end, as --json tells it. */
static void
cli_json_event(struct cli_run *r, const struct xfer_event *e)
{
    static const char *const names[] = {[XFER_START] = "start",
                                        [XFER_RESUME] = "resume",
                                        [XFER_PART] = "part",
                                        [XFER_RETRY] = "retry",
                                        [XFER_OVER] = "over"};
    struct cli_way way = cli_way(r, e->load);
    struct buf line = cli_event(names[e->kind], way.from);

    cli_json_text(&line, "target", span_of(way.to));
    /* A stream has no size, and no number of parts, before its end. */
    if (e->kind == XFER_START || e->kind == XFER_RESUME) {
        if (!e->load->stream) {
            cli_event_number(&line, "size", (uint64_t)e->load->plan.size);
            cli_event_number(&line, "parts", e->load->plan.n);
        }
        cli_event_number(&line, "part_size", (uint64_t)e->load->plan.part);
    }
    if (e->kind == XFER_RESUME) {
        cli_event_number(&line, "parts_done", e->load->found);
        cli_event_number(&line, "bytes_done", cli_found_bytes(e->load));
    }
    if (e->kind == XFER_PART || e->kind == XFER_RETRY)
        cli_event_number(&line, "number", e->number);
    if (e->kind == XFER_OVER) {
        json_key(&line, "reason");
        json_put(&line, span_of(e->text));
    }
    cli_event_end(&line, false);
    buf_free(&way.uri);
}

/* How it goes, in numbers. */
struct cli_gauge {
    uint64_t done, total; /* bytes */
    uint64_t rate;        /* bytes a second, over the last few */
    unsigned parts, all;  /* of what is under way */
    unsigned flying;      /* requests that are under way */
    int64_t left;         /* seconds; -1: not known */
};

/* What is done: what was finished, the parts that are stored, and of those under way what
 * the sockets have taken. It never goes back, though a part may have to be sent again. A
 * whole file has no parts to count, and a stream has none before its end is known. */
static void
cli_measure_done(struct cli_run *r, struct cli_gauge *g)
{
    struct xfer *x = &r->xfer;

    g->done = r->bytes;
    g->total = r->total;
    g->parts = r->parts_over;
    g->all = r->parts_all;
    for (const struct xfer_load *load = x->loads; load; load = load->next) {
        g->done += cli_found_bytes(load);
        g->parts += load->whole ? 0 : jrn_count(&load->facts);
        g->all +=
            load->whole || (load->stream && !load->stream->ended) ? 0 : load->plan.n;
        if (load->stream && load->stream->ended)
            g->total = (uint64_t)load->plan.size; /* whatever was expected */
        for (unsigned i = 0; i < x->crew.most; i++)
            if (x->crew.hand[i].busy && x->doing[i].serial == load->serial) {
                uint64_t body = (uint64_t)x->crew.meter[i].body << 10;
                int64_t most = load->whole ? load->plan.size
                                           : part_length(&load->plan, x->doing[i].number);

                g->done += body < (uint64_t)most ? body : (uint64_t)most;
                g->flying++;
            }
    }
    r->shown = g->done > r->shown ? g->done : r->shown;
    g->done = r->shown;
    if (g->done > g->total)
        g->total = 0; /* there is more than was expected: nobody knows how much */
}

/* How long it will take on at this rate. What was said to be left counts down by itself,
 * and is drawn to the new value only slowly: by half of the difference after CLI_ETA, by
 * less after less time. Before the rate means something, nothing is said. */
static void
cli_measure_left(struct cli_run *r, struct cli_gauge *g, int64_t now)
{
    int64_t passed = now - r->left_at, left;

    if (!g->rate || !g->total || now - r->begun < CLI_ETA) {
        r->left = -1;
        return;
    }
    left = (g->total - g->done) / g->rate > CLI_LEFT
               ? CLI_LEFT * INT64_C(1000)
               : (int64_t)((g->total - g->done) * 1000 / g->rate);
    if (r->left < 0 || passed > CLI_SAMPLES * 1000) { /* we may have been stopped */
        r->left = left;
    } else {
        r->left = r->left > passed ? r->left - passed : 0;
        r->left += (left - r->left) * passed / (passed + CLI_ETA);
    }
    r->left_at = now;
    g->left = (r->left + 999) / 1000;
}

/* The rate of the last few seconds, and what follows from it. Once the ring is full, the
 * next sample to be overwritten is the oldest. One of a run before this one may be more
 * than what this one has moved: then there is no rate yet. */
static void
cli_measure(struct cli_run *r, struct cli_gauge *g)
{
    int64_t now = os_ticks();
    const struct cli_sample *oldest =
        &r->sample[r->samples < CLI_SAMPLES ? 0 : r->samples % CLI_SAMPLES];

    *g = (struct cli_gauge){.left = -1};
    cli_measure_done(r, g);
    if (r->samples && now - oldest->at > 0 && r->xfer.crew.moved >= oldest->moved)
        g->rate =
            (r->xfer.crew.moved - oldest->moved) * 1000 / (uint64_t)(now - oldest->at);
    cli_measure_left(r, g, now);
}

/* Adds a piece if the line has room for it. */
static void
cli_add_piece(struct buf *line, struct buf *piece, size_t width)
{
    if (!piece->bad && line->n + piece->n + 2 < width) {
        if (line->n)
            buf_str(line, "  ");
        buf_put(line, buf_span(piece));
    }
    buf_clear(piece);
}

/* All that fits, the most important first. */
static void
cli_put_gauge(struct buf *line, const struct cli_gauge *g, uint64_t retries, size_t width)
{
    struct buf piece = buf_upto(256);

    if (g->total) {
        buf_num(&piece, g->total < UINT64_MAX / 100 ? g->done * 100 / g->total
                                                    : g->done / (g->total / 100));
        buf_char(&piece, '%');
    } else {
        num_put_size(&piece, g->done);
    }
    cli_add_piece(line, &piece, width);
    num_put_size(&piece, g->rate);
    buf_str(&piece, "/s");
    cli_add_piece(line, &piece, width);
    if (g->left >= 0) {
        cli_put_age(&piece, g->left);
        buf_str(&piece, " left");
        cli_add_piece(line, &piece, width);
    }
    if (g->total) {
        num_put_size(&piece, g->done);
        buf_str(&piece, " of ");
        num_put_size(&piece, g->total);
        cli_add_piece(line, &piece, width);
    }
    if (g->all) {
        buf_num(&piece, g->parts);
        buf_char(&piece, '/');
        buf_num(&piece, g->all);
        buf_str(&piece, " parts");
        cli_add_piece(line, &piece, width);
    }
    buf_num(&piece, g->flying);
    buf_str(&piece, " under way");
    cli_add_piece(line, &piece, width);
    if (retries) {
        buf_num(&piece, retries);
        buf_str(&piece, retries == 1 ? " retry" : " retries");
        cli_add_piece(line, &piece, width);
    }
    buf_free(&piece);
}

/* The same numbers as an event. */
static void
cli_tell(struct cli_run *r, const struct cli_gauge *g)
{
    struct buf line = buf_upto(4096);

    buf_char(&line, '{');
    cli_json_text(&line, "event", SPAN("progress"));
    cli_event_number(&line, "bytes_done", g->done);
    cli_event_number(&line, "bytes_total", g->total);
    cli_event_number(&line, "rate", g->rate);
    cli_event_number(&line, "parts_done", g->parts);
    cli_event_number(&line, "parts", g->all);
    cli_event_number(&line, "under_way", g->flying);
    cli_event_number(&line, "retries", r->retries);
    if (g->left >= 0)
        cli_event_number(&line, "seconds_left", (uint64_t)g->left);
    cli_event_end(&line, r->to_stdout);
}

/* Says what somebody has asked for: also to who wanted to hear of errors only. */
static void
cli_reply(const char *text)
{
    enum log_level most = log_most;

    os_asked = 0;
    log_most = most < LOG_NOTE ? LOG_NOTE : most;
    log_say(LOG_NOTE, "%s", text);
    log_most = most;
}

/* Called all the time, from within any wait: what is due now? Every XFER_SYNC the rate
 * is dealt out anew, since the timetable may have come to its next line and other workers
 * be busy; more often only the line on the terminal is drawn. Nothing here may wait, or
 * speak to the store, which is in the middle of something. */
static void
cli_tick(void *owner)
{
    struct cli_run *r = ((struct cli_store *)owner)->run;
    struct buf line = buf_upto(4096);
    int64_t now = os_ticks();
    struct cli_gauge g;

    /* Samples are taken whether they are shown or not: who asks by a signal wants a rate
     * at once. */
    if (now - r->told >= XFER_SYNC) {
        r->told = now;
        if (r->cli->rate)
            (void)cli_rate(r->cli->rate, os_minute(), &r->wish.rate);
        crew_share(&r->xfer.crew, r->wish.rate);
        crew_look(&r->xfer.crew);
        r->sample[r->samples++ % CLI_SAMPLES] =
            (struct cli_sample){now, r->xfer.crew.moved};
        if (r->cli->json) {
            cli_measure(r, &g);
            cli_tell(r, &g);
        }
    }
    if (os_asked || (r->is_drawing && now - r->drawn >= XFER_LOOK)) {
        r->drawn = now;
        cli_measure(r, &g);
        cli_put_gauge(&line, &g, r->retries,
                      os_asked ? line.max : os_width(STDERR_FILENO));
        if (os_asked)
            cli_reply(buf_text(&line));
        else
            log_draw(buf_span(&line));
    }
    buf_free(&line);
}

/* There was nothing to do. */
static void
cli_unchanged(const struct cli *c, const char *from, const char *to)
{
    struct buf line;

    if (!c->json) /* the last line says how many there were */
        return;
    line = cli_event("unchanged", from);
    cli_json_text(&line, "target", span_of(to));
    cli_event_end(&line, false);
}

/* A drain speaks as logs do: whole sentences, one for each file. */
static void
cli_drained(const struct cli_run *r, const char *from, const char *to,
            const struct xfer_load *load)
{
    if (r->cli->json)
        cli_done(r->cli, from, to, (uint64_t)load->plan.size, load->etag);
    else
        log_say(LOG_NOTE, "%s %s %.*s.", from,
                load->kept ? "was uploaded before to" : "has been uploaded to",
                (int)r->bucket.n, r->bucket.p);
}

/* A file stays because it was not sent. If --max-time has ended the run this is no
 * failure: the next one goes on with it. */
static void
cli_not_drained(struct cli_run *r, const char *from, struct span key,
                const struct fail *why)
{
    struct fail f = {S3UP_OK, ""};
    bool over = os_stop == SIGALRM && why->code == S3UP_INTERRUPTED;

    (void)fail_set(&f, why->code, "%s %s to %.*s/%.*s: %s",
                   over ? "The time was too short to upload" : "Failed to upload", from,
                   (int)r->bucket.n, r->bucket.p, (int)key.n, key.p, why->text);
    if (over)
        log_say(LOG_NOTE, "%s", f.text);
    else
        cli_count(&r->tally, cli_failed(r->cli, &f, from, false));
}

/* With --dry-run: says what would be done. With --if-changed that takes a look at both
 * sides, and a store that cannot be asked about one is not asked about the next. */
static void
cli_would(struct cli_run *r, struct span key, const struct part_name *local,
          const char *from, const char *to)
{
    struct fail f = {S3UP_OK, ""}, unread = {S3UP_OK, ""};
    struct xfer *x = &r->xfer;
    struct part_file file;
    int same = 0;

    if (r->wish.if_changed && !r->to_stdout && part_open(&file, local, &unread) == 0) {
        same = xfer_ask_same(x, key, &file, &f);
        part_close(&file);
    }
    if (same < 0 && (f.code == S3UP_LATER || !x->st->met)) {
        x->hopeless = f.code;
        cli_count(&r->tally, cli_failed(r->cli, &f, from, false));
    } else if (same > 0) {
        r->tally.same++;
        cli_unchanged(r->cli, from, to);
    } else {
        cli_done(r->cli, from, to, 0, "");
        cli_count(&r->tally, S3UP_OK);
    }
}

/* All that room 14 tells of a transfer: it is counted, and said as the user wants to hear
 * it. */
static void
cli_hear(void *owner, const struct xfer_event *e)
{
    struct cli_run *r = ((struct cli_store *)owner)->run;
    struct cli_way way = cli_way(r, e->load);

    if (e->kind == XFER_PART)
        r->parts++;
    if (e->kind == XFER_RETRY)
        r->retries++;
    if (e->kind == XFER_RESUME)
        cli_say_resume(r, e->load);
    if (e->kind == XFER_OVER)
        log_say(LOG_WARN, "%s: starting over: %s", e->load->file[0].path, e->text);
    /* Only a download of one object finds out by itself how much it is. */
    if (e->kind == XFER_START || e->kind == XFER_RESUME)
        r->total = e->load->down && r->last == 1 && !r->cli->recursive
                       ? (uint64_t)e->load->plan.size
                       : r->total;
    /* Its load goes: what cli_measure_done has counted there is kept here. */
    if ((e->kind == XFER_FAILED || e->kind == XFER_DONE) && !e->load->whole) {
        r->parts_over +=
            e->kind == XFER_DONE ? e->load->plan.n : jrn_count(&e->load->facts);
        r->parts_all += e->load->plan.n;
    }
    /* A stop may find hundreds of small files of a folder under way: none is named. */
    if (e->kind == XFER_FAILED && r->in_tree && e->load->whole && !r->cli->json &&
        e->fail->code == S3UP_INTERRUPTED) {
        if (os_stop != SIGALRM) /* then the next run sends it, as it was meant */
            cli_count(&r->tally, S3UP_INTERRUPTED); /* its folder is named at the end */
    } else if (e->kind == XFER_FAILED && r->drain) {
        cli_not_drained(r, way.from, buf_span(&e->load->key), e->fail);
    } else if (e->kind == XFER_FAILED) {
        cli_count(&r->tally, cli_failed(r->cli, e->fail, way.from, false));
    } else if (e->kind == XFER_SAME && r->drain && !r->cli->keep) {
        cli_count(&r->tally, S3UP_OK);
        cli_drained(r, way.from, way.to, e->load);
    } else if (e->kind == XFER_SAME) {
        r->tally.same++;
        cli_unchanged(r->cli, way.from, way.to);
    } else if (e->kind == XFER_DONE) {
        r->bytes += (uint64_t)e->load->plan.size;
        cli_count(&r->tally, S3UP_OK);
        if (r->drain)
            cli_drained(r, way.from, way.to, e->load);
        else
            cli_done(r->cli, way.from, way.to, (uint64_t)e->load->plan.size,
                     e->load->etag);
    } else if (r->cli->json) {
        cli_json_event(r, e);
    }
    buf_free(&way.uri);
}

/* Can standard input be read? A folder cannot, and one stands where it was closed: see
 * os_standard. */
static bool
cli_is_stream(const struct cli *c)
{
    struct stat info;

    return c->producer || (fstat(STDIN_FILENO, &info) == 0 && !S_ISDIR(info.st_mode));
}

/* Can a word of put be sent at all, however the store is? False: f says why not. */
static bool
cli_is_file(const struct cli_run *r, const char *word, struct fail *f)
{
    const struct cli *c = r->cli;

    if (cli_is_url(word))
        (void)fail_set(f, S3UP_USAGE, "%s is not a file of this machine", word);
    else if (!strcmp(word, "-") && c->count > 2)
        (void)fail_set(f, S3UP_USAGE, "standard input is one object: put it alone");
    else if (!strcmp(word, "-") && !c->producer && isatty(STDIN_FILENO) && !c->bold)
        (void)fail_set(f, S3UP_USAGE,
                       "standard input is a terminal: to type an object, add --force");
    else if (!strcmp(word, "-") && !cli_is_stream(c))
        (void)fail_set(f, S3UP_USAGE, "standard input is closed, or a folder");
    else if (strcmp(word, "-") != 0 && c->producer)
        (void)fail_set(f, S3UP_USAGE,
                       "--if-exit-0 stores what its command prints: FILE must be -");
    else if (strcmp(word, "-") != 0 && c->spool)
        (void)fail_set(f, S3UP_USAGE, "--spool is for standard input: FILE must be -");
    else if (!strcmp(word, "-") && (!r->given.n || r->given.p[r->given.n - 1] == '/'))
        (void)fail_set(f, S3UP_USAGE, "standard input has no name: say s3://BUCKET/KEY");
    return f->code == S3UP_OK;
}

/* Starts the command whose output is to be stored. What it prints comes through item->fd;
 * how it ended is asked by xfer_end_stream, and only then the stream is whole. It gets
 * the signals that we ignore back, and a number that tells if there is no shell. */
static int
cli_produce(const char *command, struct xfer_item *item, struct fail *f)
{
    int pipes[2];

    if (pipe2(pipes, O_CLOEXEC) != 0)
        return fail_sys(f, "run", command);
    item->producer = fork();
    if (item->producer == 0) {
        os_signals_off();
        if (dup2(pipes[1], STDOUT_FILENO) == STDOUT_FILENO)
            (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(CRED_NO_EXEC);
    }
    (void)close(pipes[1]);
    item->fd = pipes[0];
    /* The writing end is the child's alone, or the stream would never end. */
    if (item->producer > 0)
        return 0;
    (void)fail_sys(f, "run", command);
    (void)close(pipes[0]);
    return -1;
}

/* Standard input, or the output of a command, as one object. */
static int
cli_stream(const struct cli_run *r, struct xfer_item *item, struct fail *f)
{
    item->files = 0;
    item->fd = STDIN_FILENO;
    item->type = cli_media_type(r->given);
    return r->cli->producer && !r->cli->dry_run ? cli_produce(r->cli->producer, item, f)
                                                : 0;
}

/* Does a pattern match? One with a slash is held against the whole path below the root,
 * one without against the last name alone. */
static bool
cli_matches(const struct cli_globs *g, struct span path)
{
    for (unsigned i = 0; i < g->n; i++)
        if (span_glob(span_of(g->at[i]), strchr(g->at[i], '/') ? path : cli_base(path)))
            return true;
    return false;
}

/* A folder that is excluded is not entered. No folder need be included: what matters is
 * what lies below it. */
static bool
cli_wants(const struct cli *c, struct span path, bool folder)
{
    return !cli_matches(&c->exclude, path) &&
           (folder || !c->include.n || cli_matches(&c->include, path));
}

/* Passes something over, and says why. It counts: a script must know of it. */
static void
cli_skip(struct cli_run *r, const char *what, const char *why)
{
    struct buf line;

    cli_count(&r->tally, S3UP_SKIPPED);
    log_say(LOG_WARN, "%s was skipped: %s", what, why);
    if (!r->cli->json)
        return;
    line = cli_event("skipped", what);
    cli_json_text(&line, "reason", span_of(why));
    cli_event_end(&line, r->to_stdout);
}

/* Something in a folder cannot be taken. */
static void
cli_pass_over(struct cli_run *r, int why)
{
    const char *path = buf_text(&r->target);
    struct fail f = {S3UP_OK, ""};

    if (why == ENOENT || why == ENOTDIR) {
        cli_skip(r, path, "it is gone by now, or a link to nothing");
    } else if (why == ELOOP) {
        cli_skip(r, path, "it leads back to where it lies");
    } else {
        errno = why;
        (void)fail_sys(&f, "read", path);
        cli_count(&r->tally, cli_failed(r->cli, &f, path, false));
    }
}

/* Is the entry at hand the folder in which this run notes what it does? */
static bool
cli_is_state(const struct cli_run *r)
{
    const struct stat *is = &r->tree.info;
    struct stat state;

    return r->wish.folder && stat(r->wish.folder, &state) == 0 &&
           state.st_ino == is->st_ino && state.st_dev == is->st_dev;
}

/* The next file of the folder at hand goes into r->target; false: there are no more. What
 * is no file is told, or entered, on the way; patterns come first, so that nothing is
 * said of what nobody wants. */
static bool
cli_next_file(struct cli_run *r, const char *word)
{
    const struct cli *c = r->cli;
    int got;

    while (!os_stop && (got = os_tree_next(&r->tree)) != 0) {
        /* Before anything else can change it. */
        int why = errno;
        struct span path = buf_span(&r->tree.path);
        bool folder = got > 0 && S_ISDIR(r->tree.info.st_mode);

        buf_clear(&r->target);
        buf_str(&r->target, word);
        if (r->target.p[r->target.n - 1] != '/')
            buf_char(&r->target, '/');
        r->below = (unsigned)r->target.n;
        buf_put(&r->target, path);
        /* Of what cannot be looked at nobody knows whether it is a folder. */
        if (!cli_wants(c, path, folder || (got < 0 && why != ENOENT && why != ENOTDIR)))
            continue;
        if (got > 0 && S_ISREG(r->tree.info.st_mode))
            return true;
        if (got > 0 && S_ISLNK(r->tree.info.st_mode)) {
            cli_skip(r, buf_text(&r->target),
                     "it is a symbolic link; --follow takes what it stands for");
            continue;
        }
        if (got > 0 && !folder) {
            cli_skip(r, buf_text(&r->target), "it is no plain file");
            continue;
        }
        if (folder && cli_is_state(r)) {
            log_say(LOG_NOTE, "%s is left out: it is the state folder",
                    buf_text(&r->target));
            continue;
        }
        /* got < 0: this entry, or the rest of a folder, could not be read. */
        if (!folder || !os_tree_descend(&r->tree))
            cli_pass_over(r, got < 0 ? why : errno);
    }
    return false;
}

/* The key of a file in a tree: the prefix, the folder's name if there are several, and
 * what is below it. */
static bool
cli_tree_key(struct cli_run *r, const char *word, struct fail *f)
{
    buf_put(&r->key, r->given);
    if (r->given.n && r->given.p[r->given.n - 1] != '/')
        buf_char(&r->key, '/');
    if (r->cli->count > 2) {
        buf_put(&r->key, cli_name(word));
        buf_char(&r->key, '/');
    }
    buf_put(&r->key, span_after(buf_span(&r->target), r->below));
    if (!r->key.bad && r->key.n <= KEY_MAX)
        return true;
    return fail_set(f, S3UP_USAGE,
                    "%s: the key is longer than %d bytes, the most that a key can have",
                    buf_text(&r->target), KEY_MAX) == 0;
}

/* The next file of the words, and of the folders among them; NULL: there are no more. The
 * path is returned also if it cannot be sent: then f says why, and the next call goes on
 * behind it. Files of a tree are found from its root on, without following links, unless
 * --follow wants them followed. */
static const char *
cli_next_path(struct cli_run *r, struct xfer_item *item, struct fail *f)
{
    const struct cli *c = r->cli;

    while (r->at < r->last && r->roots && r->roots[r->at] >= 0) {
        const char *word = r->words[r->at];
        int root = r->roots[r->at];

        if (!r->in_tree) {
            r->tree = (struct os_tree){.follow = c->follow, .path = buf_upto(PATH_MAX)};
            r->in_tree = os_tree_enter(&r->tree, root, ".");
            if (!r->in_tree)
                (void)fail_sys(f, "read", word);
        }
        if (r->in_tree && cli_next_file(r, word)) {
            item->files = 1;
            item->root = c->follow ? AT_FDCWD : root;
            item->below = c->follow ? 0 : r->below;
            (void)cli_tree_key(r, word, f);
            return buf_text(&r->target);
        }
        /* What is left of it was not sent: the word stays, to be counted. */
        if (os_stop)
            return NULL;
        /* This folder is done, or could not be entered: on to the next word. */
        os_tree_close(&r->tree);
        r->in_tree = false;
        r->at++;
        if (f->code != S3UP_OK)
            return word;
    }
    if (r->at >= r->last)
        return NULL;
    item->files = c->concat ? (unsigned)(r->last - r->at) : 1;
    r->path = r->words[r->at];
    if (!strcmp(r->path, "-"))
        (void)cli_stream(r, item, f);
    if (f->code == S3UP_OK)
        (void)cli_put_key(r->path, r->given, c->count > 2 && !c->concat, &r->key, f);
    item->path = (const char *const *)&r->words[r->at];
    r->at = c->concat ? r->last : r->at + 1;
    return r->path;
}

/* Gives the next file to the crew. What can be said before anything is sent is said here:
 * a file that fails so is counted, and does not keep the next one waiting. What item
 * points to is copied before the next call. A type that the user named is not guessed. */
static bool
cli_next(void *owner, struct xfer_item *item)
{
    struct cli_run *r = ((struct cli_store *)owner)->run;
    const struct cli *c = r->cli;

    for (;;) {
        struct fail f = {S3UP_OK, ""};
        struct part_file file;
        struct part_name name;

        /* A word that was taken becomes a load, whatever happens from then on: otherwise
         * nobody would count it. */
        if (r->xfer.hopeless || os_stop)
            return false;
        buf_clear(&r->key);
        *item = (struct xfer_item){.path = &r->path, .root = AT_FDCWD, .fd = -1};
        r->path = cli_next_path(r, item, &f);
        if (!r->path)
            return false;
        if (item->files)
            item->type = cli_media_type(span_of(r->path));
        for (unsigned i = 0; i < c->n; i++)
            if (!strcmp(c->heads[i].name, "content-type"))
                item->type = NULL;
        name = (struct part_name){r->path, item->root, item->below};
        /* --dry-run opens each file, since that is what would fail first. */
        if (f.code == S3UP_OK && c->dry_run &&
            (!item->files || part_open(&file, &name, &f) == 0)) {
            struct buf uri = buf_upto(8 * KEY_MAX);

            cli_put_uri(&uri, r->bucket, buf_span(&r->key));
            if (item->files)
                part_close(&file);
            cli_would(r, buf_span(&r->key), &name, r->path, buf_text(&uri));
            buf_free(&uri);
            continue;
        }
        if (f.code != S3UP_OK) {
            cli_count(&r->tally, cli_failed(c, &f, r->path, false));
            continue;
        }
        item->key = buf_span(&r->key);
        return true;
    }
}

/* Opens one of the words if it is a folder. Of several each needs a name for its keys.
 * -1: it is one, and cannot be taken. */
static int
cli_open_root(struct cli_run *r, int i, struct fail *f)
{
    const char *word = r->words[i];
    struct span name = cli_name(word);
    struct stat info;

    if (stat(word, &info) != 0 || !S_ISDIR(info.st_mode))
        return 0;
    if (r->last > 1 && (!name.n || span_is(name, ".") || span_is(name, "..")))
        return fail_set(f, S3UP_USAGE,
                        "%s has no name that tells it from the others: put it alone",
                        word);
    r->roots[i] = os_open(word, O_RDONLY | O_DIRECTORY, 0);
    return r->roots[i] < 0 ? fail_sys(f, "read", word) : 0;
}

static void
cli_close_roots(struct cli_run *r)
{
    for (int i = 0; i < r->last && r->roots; i++)
        if (r->roots[i] >= 0)
            (void)close(r->roots[i]);
    free(r->roots);
    r->roots = NULL;
}

/* Opens the folders among the words, before there are workers, who need them, too. */
static int
cli_open_roots(struct cli_run *r, struct fail *f)
{

    os_open_many();
    r->roots = calloc((size_t)r->last, sizeof *r->roots);
    if (!r->roots)
        return fail_set(f, S3UP_LATER, "no memory");
    for (int i = 0; i < r->last; i++)
        r->roots[i] = -1;
    for (int i = 0; i < r->last; i++)
        if (cli_open_root(r, i, f) < 0) {
            cli_close_roots(r);
            return -1;
        }
    return 0;
}

/* How many workers: as asked, but no more than memory has room for what they read, since
 * each part is read twice and should come from memory the second time. A quarter of what
 * is free is taken for that; part is the size of one. */
static int
cli_jobs(const struct cli *c, uint64_t part, unsigned *jobs, struct fail *f)
{
    uint64_t n = CREW_AUTO, memory = os_memory();
    uint64_t most = memory ? memory / 4 / part : CREW_MOST;

    if (c->jobs && strcmp(c->jobs, "auto") != 0 &&
        (!num_parse(span_of(c->jobs), CREW_MOST, &n) || !n))
        return fail_set(f, S3UP_USAGE,
                        "--jobs wants a number from 1 to %d, or auto, not \"%s\"",
                        CREW_MOST, c->jobs);
    *jobs = (unsigned)(n <= most ? n : most ? most : 1);
    if (c->jobs && *jobs < n && strcmp(c->jobs, "auto") != 0)
        log_say(LOG_NOTE, "--jobs: there is memory for %u at a time with such parts",
                *jobs);
    return 0;
}

/* Does one file go in one request? Then no workers are needed. */
static bool
cli_is_small(const struct cli_run *r)
{
    struct stat info;

    return r->last == 1 && stat(r->words[0], &info) == 0 && S_ISREG(info.st_mode) &&
           ((uint64_t)info.st_size <= r->wish.threshold ||
            (uint64_t)info.st_size <= r->wish.part_size);
}

/* How long a stream will be: as was said, or as a file is that is read as one. 0: who
 * knows. */
static uint64_t
cli_expected(const struct cli *c)
{
    struct stat info;
    off_t at;

    if (c->expected || c->producer || fstat(STDIN_FILENO, &info) != 0 ||
        !S_ISREG(info.st_mode))
        return c->expected;
    at = lseek(STDIN_FILENO, 0, SEEK_CUR);
    return at >= 0 && at < info.st_size ? (uint64_t)(info.st_size - at) : 0;
}

/* How much there is to be sent, as far as that is known. */
static uint64_t
cli_total(const struct cli_run *r)
{
    uint64_t total = 0;
    struct stat info;

    for (int i = 0; i < r->last; i++)
        if (!strcmp(r->words[i], "-"))
            return cli_expected(r->cli);
        else if (r->roots && r->roots[i] >= 0)
            return 0;
        else if (stat(r->words[i], &info) == 0 && S_ISREG(info.st_mode))
            total += (uint64_t)info.st_size;
    return total;
}

/* The folder for journals and the ledger. Without one, files still go up: a run that is
 * cut short begins anew then. Only a drain that removes refuses to do without. */
static void
cli_state(struct cli_run *r)
{
    struct fail f = {S3UP_OK, ""};

    if (jrn_folder(r->cli->state, &r->folder, &f) == 0 &&
        access(buf_text(&r->folder), W_OK) != 0)
        (void)fail_sys(&f, "write to the state folder", buf_text(&r->folder));
    if (f.code == S3UP_OK)
        r->wish.folder = buf_text(&r->folder);
    else
        log_say(LOG_WARN, "%s. Going on without a journal and a ledger", f.text);
    if (r->wish.folder && os_is_volatile(r->wish.folder))
        log_say(LOG_NOTE,
                "the state folder %s is in memory: a reboot forgets what it says",
                r->wish.folder);
}

/* What the run came to: one event, or one line. A single small file has been told of
 * already. */
static void
cli_summary(const struct cli_run *r)
{
    struct buf line = buf_upto(4096);
    int64_t took = os_ticks() - r->begun;

    log_draw(SPAN(""));
    if (!r->cli->json &&
        (r->tally.done + r->tally.failed + r->tally.same > 1 || r->parts)) {
        buf_num(&line, (uint64_t)r->tally.done);
        buf_str(&line, r->tally.done == 1 ? " file, " : " files, ");
        num_put_size(&line, r->bytes);
        buf_str(&line, " in ");
        cli_put_age(&line, took / 1000);
        buf_str(&line, ", ");
        num_put_size(&line,
                     (r->moved + r->xfer.crew.moved) * 1000 / (uint64_t)(took + 1));
        buf_str(&line, "/s");
        if (r->resumed) {
            buf_str(&line, ", ");
            num_put_size(&line, r->resumed);
            buf_str(&line, " were there already");
        }
        if (r->retries) {
            buf_str(&line, ", retries: ");
            buf_num(&line, r->retries);
        }
        if (r->tally.same) {
            buf_str(&line, ", unchanged: ");
            buf_num(&line, (uint64_t)r->tally.same);
        }
        if (r->tally.skipped) {
            buf_str(&line, ", skipped: ");
            buf_num(&line, (uint64_t)r->tally.skipped);
        }
        if (r->tally.failed > r->tally.skipped) {
            buf_str(&line, ", failed: ");
            buf_num(&line, (uint64_t)(r->tally.failed - r->tally.skipped));
        }
        if (r->drain && r->drain->files) {
            buf_str(&line, ", waiting: ");
            buf_num(&line, r->drain->files);
        }
        log_say(LOG_NOTE, "%s", buf_text(&line));
    }
    if (!r->cli->json) {
        buf_free(&line);
        return;
    }
    buf_char(&line, '{');
    json_key(&line, "event");
    json_put(&line, SPAN("summary"));
    cli_event_number(&line, "done", (uint64_t)r->tally.done);
    cli_event_number(&line, "unchanged", (uint64_t)r->tally.same);
    cli_event_number(&line, "skipped", (uint64_t)r->tally.skipped);
    cli_event_number(&line, "failed", (uint64_t)(r->tally.failed - r->tally.skipped));
    if (r->drain)
        cli_event_number(&line, "waiting", r->drain->files);
    cli_event_number(&line, "bytes", r->bytes);
    cli_event_number(&line, "bytes_resumed", r->resumed);
    cli_event_number(&line, "retries", r->retries);
    cli_event_number(&line, "milliseconds", (uint64_t)(os_ticks() - r->begun));
    cli_event_end(&line, r->to_stdout);
}

/* When the metrics file that is there says that all went well; 0: it says nothing. A run
 * that fails must not wipe that out: alarms count from it. */
static uint64_t
cli_last_success(const char *path)
{
    static const char name[] = "s3up_last_success_timestamp_seconds ";
    struct buf text = buf_upto(OS_SMALL);
    struct fail unread = {S3UP_OK, ""};
    struct span rest, line;
    uint64_t n = 0;

    (void)os_slurp(path, &text, &unread);
    rest = buf_span(&text);
    while (span_cut(&rest, '\n', &line))
        if (span_starts(line, name) &&
            !num_parse(span_after(line, sizeof name - 1), INT64_MAX, &n))
            n = 0;
    buf_free(&text);
    return n;
}

/* Numbers for Prometheus, as its node exporter picks them up from a folder. The file is
 * replaced, never written into: whoever reads it sees all numbers of one run. Those of
 * the backlog, at the end of the table, are a drain's. */
static int
cli_metrics(const struct cli_run *r, int code, struct fail *f)
{
    struct buf text = buf_upto(OS_SMALL);
    const struct {
        const char *name, *what;
        uint64_t value;
    } all[] = {
        {"s3up_last_run_timestamp_seconds", "When the last run ended",
         (uint64_t)os_now().s},
        {"s3up_last_run_exit_code", "How the last run ended", (uint64_t)code},
        {"s3up_last_run_milliseconds", "How long the last run took",
         (uint64_t)(os_ticks() - r->begun)},
        {"s3up_last_run_files", "Files stored by the last run", (uint64_t)r->tally.done},
        {"s3up_last_run_failures", "Files not stored by the last run",
         (uint64_t)r->tally.failed},
        {"s3up_last_run_bytes", "Bytes of the files stored by the last run", r->bytes},
        {"s3up_last_success_timestamp_seconds", "When a run last ended without failures",
         code == S3UP_OK ? (uint64_t)os_now().s : cli_last_success(r->cli->metrics)},
        {"s3up_backlog_files", "Files that wait in the folder",
         r->drain ? r->drain->files : 0},
        {"s3up_backlog_bytes", "Bytes of the files that wait",
         r->drain ? r->drain->bytes : 0},
        {"s3up_backlog_oldest_seconds", "How old the oldest file that waits is",
         r->drain && r->drain->files && os_now().s > r->drain->oldest
             ? (uint64_t)(os_now().s - r->drain->oldest)
             : 0},
    };
    const size_t n = sizeof all / sizeof *all - (r->drain ? 0 : 3);

    for (size_t i = 0; i < n; i++) {
        buf_str(&text, "# HELP ");
        buf_str(&text, all[i].name);
        buf_char(&text, ' ');
        buf_str(&text, all[i].what);
        buf_str(&text, "\n# TYPE ");
        buf_str(&text, all[i].name);
        buf_str(&text, " gauge\n");
        buf_str(&text, all[i].name);
        buf_char(&text, ' ');
        buf_num(&text, all[i].value);
        buf_char(&text, '\n');
    }
    (void)(text.bad ? fail_set(f, S3UP_LATER, "no memory for metrics")
                    : os_replace(r->cli->metrics, buf_span(&text), 0644, f));
    buf_free(&text);
    return f->code == S3UP_OK ? 0 : -1;
}

/* A new file takes the place of the old one: nobody wants that of a device, or of a link
 * to one, as /dev/stdout is. */
static int
cli_check_metrics(const char *path, struct fail *f)
{
    struct stat info;

    if (!path || lstat(path, &info) != 0 || S_ISREG(info.st_mode))
        return 0;
    return fail_set(f, S3UP_USAGE,
                    "--metrics: %s would be replaced, and is no plain file", path);
}

/* Checks what belongs together, and fills the wish: for all verbs that move bytes, so a
 * field that a verb has no option for is as if nothing had been said. A stream is cut
 * into smaller parts, since they lie in memory; if its length is known they are made as
 * large as it needs. */
static int
cli_wish(const struct cli *c, struct xfer_wish *w, struct fail *f)
{
    bool stream = c->count && !strcmp(c->words[0], "-") && !c->spool;
    struct part_plan plan = {.n = 0};

    *w = (struct xfer_wish){.heads = c->heads,
                            .n = c->n,
                            .no_clobber = c->no_clobber,
                            .restart = c->restart,
                            .if_changed = c->if_changed,
                            .overwrite = c->overwrite,
                            .part_size = c->part_size,
                            .jobs_fixed = c->jobs && strcmp(c->jobs, "auto") != 0,
                            .journal = c->journal};
    if (!cli_checksum(c, w, f))
        return -1;
    if (c->part_size > PART_MOST)
        return fail_set(f, S3UP_USAGE,
                        "--part-size: S3 knows no larger parts than 5 GiB");
    if (c->part_size && c->part_size < PART_LEAST) {
        log_say(LOG_WARN,
                "--part-size: S3 knows no smaller parts than 5 MiB (but the last "
                "one): 5M is taken");
        w->part_size = PART_LEAST;
    }
    if (!w->part_size)
        w->part_size = stream ? PART_STREAM : PART_USUAL;
    if (stream && part_plan(&plan, (int64_t)cli_expected(c), w->part_size, f) < 0)
        return -1;
    if (stream) /* what is given must hold it: a stream cannot be begun again */
        w->part_size = (uint64_t)plan.part;
    /* What fits into one part goes in one request. */
    w->threshold = c->threshold ? c->threshold : w->part_size;
    if (cli_check_metrics(c->metrics, f) < 0)
        return -1;
    if (c->concat && c->count - 1 > JRN_SOURCES)
        return fail_set(f, S3UP_USAGE, "--concat joins %d files at most", JRN_SOURCES);
    if (c->journal && (c->recursive || c->count > 2) && !c->concat)
        return fail_set(f, S3UP_USAGE,
                        "--journal is for one upload, and there are several");
    return 0;
}

/* Sends or fetches the words of a run, from r->at to r->last, and counts what came of
 * them, also of those that it did not come to. -1: there could be no crew, and f says
 * why; what failed otherwise stands in r->tally. lock: a file that is locked meanwhile,
 * or 0. */
static int
cli_run_words(struct cli_run *r, struct store *st, int lock, struct fail *f)
{
    bool ended;

    r->moved += r->xfer.crew.moved; /* by the words before these */
    r->xfer = (struct xfer){.st = st,
                            .wish = &r->wish,
                            .bucket = r->bucket,
                            .next = r->next,
                            .lock = lock,
                            .event = cli_hear,
                            .owner = st->config.owner};
    /* Rates and what is left begin anew: a crew counts what it moves from 0. */
    r->left = -1;
    r->sample[0] = (struct cli_sample){os_ticks(), 0};
    r->samples = 1;
    r->total = r->to ? 0 : r->bytes + cli_total(r);
    /* One small file is sent by this process itself: a fork would take longer. */
    if (xfer_run(&r->xfer, !r->to && cli_is_small(r) ? 1 : r->jobs, f) < 0)
        return -1;
    ended = r->xfer.hopeless || os_stop;
    /* What was taken and could not even be begun, for want of memory. */
    if (r->xfer.hopeless && !r->tally.failed)
        cli_count(&r->tally, (int)r->xfer.hopeless);
    /* A stop may come before the first file, when nothing has failed yet. */
    for (int why = os_stop ? S3UP_INTERRUPTED : r->tally.code; ended && r->at < r->last;
         r->at++)
        cli_count(&r->tally,
                  cli_spared(r->cli, r->words[r->at], r->verb, why, r->to_stdout));
    return 0;
}

/* The answer to who asks while a stream is put into a file. */
static void
cli_tell_spool(const struct cli *c, uint64_t n)
{
    struct buf text = buf_upto(FAIL_TEXT);

    if (os_asked) {
        num_put_size(&text, n);
        buf_str(&text, " are in the spool ");
        buf_str(&text, c->spool);
        cli_reply(buf_text(&text));
    }
    buf_free(&text);
}

/* A stream that is kept in a file, until the store has it. A stream cannot be read twice:
 * if the network is gone for longer than retries last, what was piped in is lost, unless
 * it was put into a file first. The file's name is made of the store, the bucket and the
 * key, so the same command finds it again. It is filled under the name with .part behind
 * it, brought to disk, renamed, sent as any file is, with a journal, and removed. A crash
 * while it is filled leaves half a stream under .part, which the next run throws away. A
 * crash later leaves the whole of it, which the next run sends first. The lock on it
 * tells a run that is at work from one that is dead. */
struct cli_spool {
    struct part_place place; /* its temp is what the stream is first put into */
    struct buf path;         /* of the whole file; place.path points into it */
    int fd;     /* locked from before the first byte until the name is gone; or -1 */
    uint64_t n; /* bytes that came */
};

/* Finds the place of the spool; no file is opened or made yet. */
static int
cli_open_spool(const struct cli_run *r, struct store *st, struct cli_spool *s,
               struct fail *f)
{
    struct jrn_what what = {"spool", "-", {NULL, 0}, r->bucket, r->given};
    struct buf endpoint = buf_upto(URL_MAX);
    const char *name;

    *s = (struct cli_spool){.path = buf_upto(PATH_MAX), .fd = -1};
    xfer_put_endpoint(st, &endpoint);
    what.endpoint = buf_span(&endpoint);
    jrn_put_path(r->cli->spool, &what, &s->path);
    buf_free(&endpoint);
    s->place.path = buf_text(&s->path);
    s->place.folder = os_open_folder(s->place.path, O_RDONLY);
    if (s->place.folder < 0)
        return fail_sys(f, "write", s->place.path);
    name = strrchr(s->place.path, '/') + 1;
    (void)snprintf(s->place.name, sizeof s->place.name, "%s", name);
    (void)snprintf(s->place.temp, sizeof s->place.temp, "%s.part", name);
    return 0;
}

static void
cli_close_spool(struct cli_spool *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    part_leave(&s->place);
    buf_free(&s->path);
}

/* Takes what an earlier run left, if there is something: then s->fd is not -1. Its name
 * can be foreseen: in a folder that others may write to, what lies there may be theirs. A
 * file without a name has just been sent by the run that had it locked. */
static int
cli_take_spool(struct cli_spool *s, struct fail *f)
{
    const struct part_place *p = &s->place;
    struct stat info, folder;
    int busy;

    s->fd = os_open_in(p->folder, p->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    if (s->fd < 0)
        return errno == ENOENT ? 0 : fail_sys(f, "take", p->path);
    busy = flock(s->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    /* Looked at after the lock: what it was before that does not matter. */
    if (fstat(s->fd, &info) != 0 || fstat(p->folder, &folder) != 0)
        return fail_sys(f, "examine", p->path);
    if (!S_ISREG(info.st_mode) || info.st_nlink > 1 ||
        (info.st_uid != geteuid() &&
         (info.st_uid != folder.st_uid || folder.st_mode & 022)))
        return fail_set(f, S3UP_DENIED,
                        "%s may be somebody else's: remove it, or take another --spool",
                        p->path);
    if (busy || !info.st_nlink)
        return fail_set(f, S3UP_LOCKED, "another run is sending %s", p->path);
    return 0;
}

/* What is in the spool is stored: it goes, and with it the lock; the name first, so that
 * nobody locks a file that is about to go. */
static int
cli_drop_spool(struct cli_spool *s, struct fail *f)
{
    int rc = unlinkat(s->place.folder, s->place.name, 0) == 0
                 ? 0
                 : fail_sys(f, "remove", s->place.path);

    (void)close(s->fd);
    s->fd = -1;
    return rc;
}

/* Puts the stream into a file. What ends early leaves nothing: a producer that failed, a
 * stop, a full disk. It gets its name only when it is on disk to its end, and stays
 * locked by to->fd under both names. */
static int
cli_fill_spool(const struct cli *c, struct cli_spool *to, struct fail *f)
{
    const struct part_place *p = &to->place;
    struct xfer_item item = {.fd = STDIN_FILENO};
    char *piece = malloc(S3_WINDOW);
    struct xfer_load load = {.stream = NULL};
    struct xfer_stream s;
    ssize_t did = 1;

    to->fd = piece ? part_make_temp(p, 0600, f) : fail_sys(f, "write", p->path);
    /* Since cli_take_spool found none, another run may have filled its own. */
    if (to->fd >= 0 && faccessat(p->folder, p->name, F_OK, 0) == 0)
        (void)fail_set(f, S3UP_LOCKED, "another run has just written %s", p->path);
    if (f->code == S3UP_OK && (!c->producer || cli_produce(c->producer, &item, f) == 0)) {
        /* Either end may be held up for long: each piece is a chance to answer who
         * asks. */
        while (f->code == S3UP_OK && !os_stop &&
               ((did = read(item.fd, piece, S3_WINDOW)) > 0 ||
                (did && (os_again() || errno == EAGAIN)))) {
            struct pollfd more = {.fd = item.fd, .events = POLLIN};

            /* EAGAIN: whoever else has the pipe open may have made it non-blocking. */
            if (did < 0 && errno == EAGAIN)
                (void)poll(&more, 1, NET_SLICE);
            cli_tell_spool(c, to->n);
            if (did < 0)
                continue;
            to->n += (uint64_t)did;
            if (!os_write(to->fd, piece, (size_t)did))
                (void)fail_sys(f, "write", p->path);
        }
        if (did < 0 && !os_stop)
            (void)fail_sys(f, "read", "standard input");
        /* As if it were sent: the same question about the producer, the same answer. */
        s = (struct xfer_stream){.fd = item.fd, .producer = item.producer};
        load.stream = &s;
        if (f->code == S3UP_OK && !os_stop)
            (void)xfer_end_stream(&load, f);
        if (item.producer && s.producer)
            (void)kill(s.producer, SIGTERM);
        if (os_stop)
            (void)fail_set(f, S3UP_INTERRUPTED, "interrupted while the stream was read");
        if (f->code == S3UP_OK &&
            (fsync(to->fd) != 0 ||
             renameat(p->folder, p->temp, p->folder, p->name) != 0 ||
             !os_sync_in(p->folder)))
            (void)fail_sys(f, "write", p->path);
    }
    if (f->code != S3UP_OK && to->fd >= 0)
        (void)unlinkat(p->folder, p->temp, 0);
    free(piece);
    return f->code == S3UP_OK ? 0 : -1;
}

/* What is known of the stream's length must fit. Nothing is known: 0 bytes always do. */
static int
cli_check_spool(const struct cli *c, struct fail *f)
{
    uint64_t expected = cli_expected(c);
    struct statvfs info;

    if (statvfs(c->spool, &info) != 0)
        return fail_sys(f, "write to the spool", c->spool);
    if ((uint64_t)info.f_bavail * info.f_frsize < expected)
        return fail_set(
            f, S3UP_LATER, "the spool %s has room for %llu bytes, and %llu are expected",
            c->spool, (unsigned long long)((uint64_t)info.f_bavail * info.f_frsize),
            (unsigned long long)expected);
    return 0;
}

/* By way of a file: a stream that is on disk to its end can be sent again. What an
 * earlier run left is sent first; then no more input means no more objects. */
static int
cli_put_spool(struct cli_run *r, struct store *st, struct fail *f)
{
    struct cli_spool s = {.place.folder = -1, .fd = -1};
    char *word;
    bool left;
    int rc = cli_check_spool(r->cli, f);

    if (rc == 0 && ((rc = cli_open_spool(r, st, &s, f)) == 0))
        rc = cli_take_spool(&s, f);
    /* The word - becomes the file; it is not written to. */
    word = (char *)(uintptr_t)s.place.path;
    r->words = &word;
    left = rc == 0 && s.fd >= 0;
    r->at = 0;
    if (left) {
        log_say(LOG_NOTE, "first the stream that an earlier run left in %s", word);
        rc = cli_run_words(r, st, s.fd, f);
    }
    if (left && rc == 0 && !r->tally.failed)
        rc = cli_drop_spool(&s, f);
    if (rc == 0 && !r->tally.failed)
        rc = cli_fill_spool(r->cli, &s, f);
    r->at = 0;
    /* No input behind a stream that was left means that there is nothing new to store.
     * Alone it is an empty object, as it would be without a spool. */
    if (rc == 0 && !r->tally.failed && (s.n || !left))
        rc = cli_run_words(r, st, s.fd, f);
    if (rc == 0 && !r->tally.failed)
        rc = cli_drop_spool(&s, f);
    if (rc == 0 && r->tally.failed && access(word, F_OK) == 0)
        log_say(LOG_NOTE, "the stream is kept in %s; the same command sends it", word);
    cli_close_spool(&s);
    return rc;
}

/* What a run needs besides its words. From here on the clock runs, and cli_tick is
 * called; cli_end_run is due in any case. With --dry-run nothing is noted, so no folder
 * is made. */
static void
cli_begin_run(struct cli_run *r, struct store *st)
{
    const struct cli *c = r->cli;
    struct cli_store *s = st->config.owner;

    r->prefix = buf_upto(4 * KEY_MAX);
    r->key = buf_upto(4 * KEY_MAX);
    r->target = buf_upto(8 * KEY_MAX);
    r->folder = buf_upto(PATH_MAX);
    if (!c->dry_run)
        cli_state(r);
    r->begun = r->told = os_ticks();
    s->run = r;
    os_pulse.beat = cli_tick;
    os_pulse.owner = s;
    r->is_drawing = !c->json && !c->quiet && !c->no_progress && os_can_draw();
    if (c->rate)
        (void)cli_rate(c->rate, os_minute(), &r->wish.rate);
}

/* Says what came of it, and frees the run. code: the exit code, or -1 if f says why there
 * is none; that comes back, unless the metrics could not be written. */
static int
cli_end_run(struct cli_run *r, struct store *st, int code, struct fail *f)
{
    struct cli_store *s = st->config.owner;

    cli_summary(r);
    /* A watch has written them after each round: how it ended says nothing of those. */
    if (code >= 0 && r->cli->metrics && !(r->drain && r->cli->watch) &&
        cli_metrics(r, code, f) < 0)
        code = code ? code : cli_failed(r->cli, f, r->cli->metrics, r->to_stdout);
    s->run = NULL;
    os_pulse.beat = NULL;
    cli_close_roots(r);
    os_tree_close(&r->tree);
    s3_list_end(&r->list); /* if it was not read to its end */
    if (r->root >= 0)
        (void)close(r->root);
    buf_free(&r->prefix);
    buf_free(&r->key);
    buf_free(&r->target);
    buf_free(&r->folder);
    return code;
}

/* put. The words are looked at, and the folders among them opened, before anything is
 * sent: a mistake in the last of them has no half of the work behind it. */
static int
cli_put(const struct cli *c, struct store *st, struct fail *f)
{
    struct cli_run run = {.cli = c,
                          .words = c->words,
                          .last = c->count - 1,
                          .next = cli_next,
                          .verb = "sent",
                          .root = -1};
    int code = -1;

    if (c->count < 2)
        return fail_set(f, S3UP_USAGE,
                        "put needs a FILE and a target, s3://BUCKET[/KEY]");
    if (!cli_uri(c->words[run.last], &run.bucket, &run.given, f) ||
        cli_wish(c, &run.wish, f) < 0 ||
        (!c->concat && cli_differ(c->words, run.last, f) < 0) ||
        cli_jobs(c, run.wish.part_size, &run.jobs, f) < 0)
        return -1;
    for (int i = 0; i < run.last; i++)
        if (!cli_is_file(&run, c->words[i], f))
            return -1;
    if (c->concat)
        os_open_many(); /* a part may lie in thousands of files */
    if (c->recursive && cli_open_roots(&run, f) < 0)
        return -1;
    cli_begin_run(&run, st);
    if ((c->spool && !c->dry_run ? cli_put_spool(&run, st, f)
                                 : cli_run_words(&run, st, 0, f)) == 0)
        code = cli_outcome(&run.tally);
    return cli_end_run(&run, st, code, f);
}

/* ---- get ----
 *
 * Where an object goes is decided before it is asked for: a folder is refused, and so is
 * a key that is no path; a device is written into. What goes into a file goes through
 * room 14, and has its name only when it is whole. With -r the keys come from a list, and
 * are not trusted: whoever may write to the bucket must not be able to write to other
 * places here. */

/* False, and f, if the path has outgrown its buffer: a part of it would be another's. */
static bool
cli_path_fits(const struct buf *path, struct span key, struct fail *f)
{
    if (path->bad)
        (void)fail_set(f, S3UP_USAGE, "the path to write %.*s to is too long", (int)key.n,
                       key.p);
    return !path->bad;
}

/* Where an object goes: PATH, or its base name below PATH if that is a folder, or has a
 * slash behind it, as one that is not there yet. Keys may end in anything: a name that is
 * none, or leads elsewhere, is not written to. */
static bool
cli_get_path(struct span key, const char *to, bool several, struct buf *out,
             struct fail *f)
{
    struct span base = cli_base(key), t = span_of(to);
    bool folder = t.n && t.p[t.n - 1] == '/';
    struct stat info;

    buf_put(out, t);
    if (!folder && (stat(to, &info) != 0 || !S_ISDIR(info.st_mode))) {
        if (several)
            return fail_set(f, S3UP_USAGE,
                            "several objects need a folder to go to, and %s is none",
                            to) == 0;
        return cli_path_fits(out, key, f);
    }
    if (!base.n || span_is(base, ".") || span_is(base, "..") || span_has(base, 0))
        return fail_set(f, S3UP_USAGE,
                        "the key %.*s does not end in a file name: say which to "
                        "write",
                        (int)key.n, key.p) == 0;
    if (!folder)
        buf_char(out, '/');
    buf_put(out, base);
    return cli_path_fits(out, key, f);
}

/* Fetches into a descriptor, from beginning to end: to standard output, a device or a
 * FIFO, which is written and never replaced. This process does it alone: bytes must come
 * in their order. Returns the exit code; a failure was said. */
static int
cli_get_stream(struct cli_run *r, struct store *st, const char *uri, struct span key,
               const char *path)
{
    struct xfer_get get = {.bucket = r->bucket,
                           .key = key,
                           .fd = STDOUT_FILENO,
                           .path = path,
                           .place = -1,
                           .length = -1,
                           .total = -1};
    bool to_stdout = !strcmp(path, "-");
    struct fail f = {S3UP_OK, ""};

    st->still.rate = r->wish.rate < UINT32_MAX ? (uint32_t)r->wish.rate : UINT32_MAX;
    if (to_stdout)
        get.path = "standard output";
    else
        get.fd = os_open(path, O_WRONLY | O_NOCTTY, 0);
    if (get.fd < 0)
        (void)fail_sys(&f, "write", path);
    /* Only a range needs to know the size before. */
    else if ((!r->wish.slice || xfer_look_at(st, &get, &r->wish, &f) == 0))
        (void)xfer_get_to(st, &get, &f);
    if (!to_stdout && get.fd >= 0 && close(get.fd) != 0 && f.code == S3UP_OK)
        (void)fail_sys(&f, "write", path);
    if (f.code != S3UP_OK)
        return cli_failed(r->cli, &f, uri, to_stdout);
    r->bytes += (uint64_t)get.done;
    cli_done(r->cli, uri, path, (uint64_t)get.done, get.said.etag);
    return S3UP_OK;
}

/* What is at the place where an object shall go? A link to a file stays, and the file is
 * replaced: r->target becomes its real path. 0: nothing, or such a file; 1: a device or a
 * FIFO, which the object is written into; -1: f says why it cannot go there. */
static int
cli_get_place(struct cli_run *r, struct fail *f)
{
    const char *path = buf_text(&r->target);
    struct stat info;
    char *real;

    if (stat(path, &info) != 0)
        return 0;
    if (S_ISDIR(info.st_mode))
        return fail_set(f, S3UP_USAGE, "cannot write %s: it is a folder", path);
    if (r->cli->no_clobber)
        return fail_set(f, S3UP_EXISTS, "%s exists already", path);
    if (!S_ISREG(info.st_mode))
        return 1;
    real = realpath(path, NULL);
    if (!real)
        return fail_sys(f, "find", path);
    buf_clear(&r->target);
    buf_str(&r->target, real);
    free(real);
    return 0;
}

/* Why a key cannot become a path below a folder; NULL: it can. Whoever may write into a
 * bucket chooses the keys, and could aim them at any file of this machine. */
static const char *
cli_no_path(struct span key)
{
    struct span name;

    if (!key.n)
        return "it is the prefix itself, and has no name";
    if (span_has(key, 0))
        return "there is a NUL in its key";
    for (bool more = true; more;) {
        more = span_has(key, '/');
        (void)span_cut(&key, '/', &name);
        if (!name.n)
            return more ? "its key has an empty folder name" : "its key names a folder";
        if (span_is(name, ".") || span_is(name, ".."))
            return "its key would lead out of the folder";
        if (name.n > NAME_MAX)
            return "a name in its key is longer than file systems allow";
        if (s3_ends(name, PART_TAIL))
            return "a name in its key is one of files that are not yet whole";
    }
    return NULL;
}

/* Begins the list of what is behind the prefix that a word names: a slash is added, or
 * logs would stand for logs2, too. */
static void
cli_begin_list(struct cli_run *r, const char *word, struct fail *f)
{
    struct span key;

    buf_clear(&r->prefix);
    (void)cli_uri(word, &r->bucket, &key, f);
    buf_put(&r->prefix, key);
    if (key.n && key.p[key.n - 1] != '/')
        buf_char(&r->prefix, '/');
    s3_list_begin(&r->list, S3_OBJECTS, r->bucket);
    r->list.prefix = buf_span(&r->prefix);
    r->in_tree = true;
    r->seen = 0;
}

/* The object of the list's entry is skipped: always false. */
static bool
cli_skip_object(struct cli_run *r, const char *why)
{
    struct buf uri = buf_upto(8 * KEY_MAX);

    cli_put_uri(&uri, r->bucket, buf_span(&r->list.entry.name));
    cli_skip(r, buf_text(&uri), why);
    buf_free(&uri);
    return false;
}

/* Where the object of the list's entry goes, into r->target; false: nowhere, which is
 * said if somebody might miss it. What is fetched of several prefixes goes into folders
 * of their names. A store could list anything: what is not below the prefix is not
 * taken. */
static bool
cli_place_object(struct cli_run *r)
{
    struct span key = buf_span(&r->list.entry.name), prefix = buf_span(&r->prefix), rest;
    const char *why;
    int folder;

    if (!span_starts(key, buf_text(&r->prefix)))
        return cli_skip_object(r, "it is not what was asked for");
    rest = span_after(key, prefix.n);
    /* Patterns are held against what is behind the prefix, as for files below a
     * folder. */
    if (!cli_wants(r->cli, rest, false))
        return false;
    buf_clear(&r->target);
    buf_str(&r->target, r->to);
    if (r->target.p[r->target.n - 1] != '/')
        buf_char(&r->target, '/');
    r->below = (unsigned)r->target.n;
    if (r->several) {
        buf_put(&r->target, cli_name(r->words[r->at]));
        buf_char(&r->target, '/');
    }
    buf_put(&r->target, rest);
    why = cli_no_path(rest);
    if (why && rest.n && rest.p[rest.n - 1] == '/' && !r->list.entry.size &&
        key.n <= KEY_MAX && !r->target.bad &&
        !cli_no_path(span_first(rest, rest.n - 1))) { /* as consoles mark folders */
        folder = r->cli->dry_run
                     ? -1
                     : os_walk(r->root, buf_text(&r->target) + r->below, true);
        if (folder >= 0)
            (void)close(folder);
        return false;
    }
    if (!why && key.n > KEY_MAX)
        why = "its key is longer than any that can be asked for";
    if (!why && r->target.bad)
        why = "its path is too long";
    if (!why)
        return true;
    /* The prefix itself, empty, is such a mark, too. */
    return (rest.n || r->list.entry.size) && cli_skip_object(r, why);
}

/* Gives the next object of the trees to the crew. A page of the list stays in memory
 * while its objects are fetched, so lists have a connection of their own. If a list
 * breaks off, what was begun goes on, and the next word has its turn. */
static bool
cli_next_object(struct cli_store *s, struct cli_run *r, struct xfer_item *item)
{
    while (r->at < r->last && !os_stop && !r->xfer.hopeless) {
        const char *word = r->words[r->at];
        struct fail f = {S3UP_OK, ""};
        int more;

        if (!r->in_tree)
            cli_begin_list(r, word, &f);
        more = s3_list_next(&s->lister, &r->list, &f);
        r->seen += more > 0;
        if (more > 0 && !cli_place_object(r))
            continue;
        /* The size is known from the list: small objects need not be asked for it. */
        if (more > 0 && !r->cli->dry_run) {
            r->path = buf_text(&r->target);
            *item = (struct xfer_item){.path = &r->path,
                                       .files = 1,
                                       .key = buf_span(&r->list.entry.name),
                                       .down = true,
                                       .size = (int64_t)r->list.entry.size,
                                       .root = r->root,
                                       .below = r->below};
            return true;
        }
        if (more > 0) {
            struct buf uri = buf_upto(8 * KEY_MAX);

            cli_put_uri(&uri, r->bucket, buf_span(&r->list.entry.name));
            r->path = buf_text(&r->target);
            cli_would(r, buf_span(&r->list.entry.name),
                      &(struct part_name){r->path, AT_FDCWD, 0}, buf_text(&uri), r->path);
            buf_free(&uri);
            continue;
        }
        s3_list_end(&r->list);
        r->in_tree = false;
        r->at++;
        if (!more && !r->seen && r->prefix.n)
            (void)fail_set(&f, S3UP_MISSING, "nothing begins with %s", word);
        if (f.code != S3UP_OK)
            cli_count(&r->tally, cli_failed(r->cli, &f, word, false));
    }
    return false;
}

/* Opens the folder that a tree goes to, and a connection for lists. The folder is held
 * open: all goes below it, wherever it is moved meanwhile. */
static int
cli_open_tree(struct cli_run *r, struct store *st, struct fail *f)
{
    struct cli_store *s = st->config.owner;
    bool dry = r->cli->dry_run;

    if (r->to_stdout || r->cli->journal || r->wish.slice)
        return fail_set(f, S3UP_USAGE,
                        "-r fetches into a folder, without --range and --journal");
    if (!dry && !os_make_folders(r->to, 0777))
        return fail_sys(f, "make the folder", r->to);
    r->root = dry ? -1 : os_open(r->to, O_RDONLY | O_DIRECTORY, 0);
    if (r->root < 0 && !dry)
        return fail_sys(f, "write to", r->to);
    if (s3_open(&s->lister, &st->config, f) < 0)
        return -1;
    s->has_lister = true;

    return 0;
}

/* Gives the next object to the crew. What goes where it has to go in one piece, and what
 * cannot go anywhere, is seen to here. */
static bool
cli_next_get(void *owner, struct xfer_item *item)
{
    struct cli_store *s = owner;
    struct cli_run *r = s->run;

    if (r->cli->recursive)
        return cli_next_object(s, r, item);
    while (r->at < r->last && !os_stop && !r->hopeless && !r->xfer.hopeless) {
        const char *uri = r->words[r->at++];
        struct fail f = {S3UP_OK, ""};
        struct span bucket, key;
        int stream = r->to_stdout;

        buf_clear(&r->target);
        (void)cli_uri(uri, &bucket, &key, &f); /* it was looked at before */
        if (r->to_stdout)
            buf_char(&r->target, '-');
        else if (cli_get_path(key, r->to, r->cli->count > 2, &r->target, &f))
            stream = r->cli->dry_run ? 0 : cli_get_place(r, &f);
        if (f.code != S3UP_OK) {
            cli_count(&r->tally, cli_failed(r->cli, &f, uri, false));
        } else if (r->cli->dry_run) {
            r->path = buf_text(&r->target);
            cli_would(r, key, &(struct part_name){r->path, AT_FDCWD, 0}, uri, r->path);
        } else if (stream) {
            int code = cli_get_stream(r, &s->store, uri, key, buf_text(&r->target));

            cli_count(&r->tally, code);
            r->hopeless = cli_hopeless(&s->store, code);
        } else {
            r->path = buf_text(&r->target);
            *item = (struct xfer_item){.path = &r->path,
                                       .files = 1,
                                       .key = key,
                                       .down = true,
                                       .size = -1,
                                       .root = AT_FDCWD};
            return true;
        }
    }
    return false;
}

/* --range: FIRST-LAST, FIRST- or -LAST, as in HTTP. A negative w->from is counted from
 * the end, which is not known before the object is asked for. */
static int
cli_range(const char *text, struct xfer_wish *w, struct fail *f)
{
    struct span rest = span_of(text), first;
    uint64_t a = 0, b = 0;
    bool dash = span_has(rest, '-');

    (void)span_cut(&rest, '-', &first);
    if (!dash || (!first.n && !rest.n) || (first.n && !num_parse(first, INT64_MAX, &a)) ||
        (rest.n && !num_parse(rest, INT64_MAX - 1, &b)) || (first.n && rest.n && b < a) ||
        (!first.n && !b))
        return fail_set(f, S3UP_USAGE,
                        "--range wants bytes as in 0-99, 100- or -100, not \"%s\"", text);
    w->slice = true;
    w->from = first.n ? (int64_t)a : -(int64_t)b;
    w->length = first.n && rest.n ? (int64_t)(b - a + 1) : 0;
    return 0;
}

/* Fetches objects of one bucket after those of another, since a run of transfers has one
 * bucket: r->last is moved from group to group. Once nothing can fare better the others
 * are only named. */
static int
cli_get_words(struct cli_run *r, struct store *st, struct fail *f)
{
    int all = r->last, rc = 0;
    struct span bucket, key;

    while (rc == 0 && r->at < all) {
        (void)cli_uri(r->words[r->at], &r->bucket, &key, f);
        for (r->last = r->at + 1; r->last < all; r->last++)
            if (!cli_uri(r->words[r->last], &bucket, &key, f) ||
                !span_eq(bucket, r->bucket))
                break;
        if (all == 1 || !(r->hopeless || r->xfer.hopeless || os_stop))
            rc = cli_run_words(r, st, 0, f);
        for (; r->at < r->last; r->at++)
            cli_count(&r->tally, cli_spared(r->cli, r->words[r->at], r->verb,
                                            os_stop ? S3UP_INTERRUPTED : r->tally.code,
                                            r->to_stdout));
    }
    return rc;
}

/* get. Without a PATH objects go to the folder where the command is given. */
static int
cli_get(const struct cli *c, struct store *st, struct fail *f)
{
    struct cli_run run = {.cli = c,
                          .words = c->words,
                          .last = c->count,
                          .to = ".",
                          .next = cli_next_get,
                          .verb = "fetched",
                          .root = -1};
    struct span bucket, key;
    int code = -1;

    if (run.last > 1 && !cli_is_uri(c->words[run.last - 1]))
        run.to = c->words[--run.last];
    if (run.last < 1)
        return fail_set(f, S3UP_USAGE, "get needs an object, s3://BUCKET/KEY");
    run.to_stdout = !strcmp(run.to, "-");
    if (!*run.to)
        return fail_set(
            f, S3UP_USAGE,
            "\"\" is no PATH: say . for this folder, or - for standard output");
    for (int i = 0; i < run.last; i++) /* all are looked at before any is fetched */
        if (cli_uri(c->words[i], &bucket, &key, f) && !key.n && !c->recursive)
            (void)fail_set(f, S3UP_USAGE, "%s names no object", c->words[i]);
    run.several = run.last > 1;
    if (f->code == S3UP_OK && !run.to_stdout)
        (void)cli_differ(c->words, run.last, f);
    if (f->code != S3UP_OK || cli_wish(c, &run.wish, f) < 0 ||
        (c->range && cli_range(c->range, &run.wish, f) < 0) ||
        cli_jobs(c, run.wish.part_size, &run.jobs, f) < 0)
        return -1;
    cli_begin_run(&run, st);
    if ((!c->recursive || cli_open_tree(&run, st, f) == 0) &&
        cli_get_words(&run, st, f) == 0)
        code = cli_outcome(&run.tally);
    return cli_end_run(&run, st, code, f);
}

/* ---- ls, stat, verify ---- */

/* One line of a list. A key with a line end or another control character is shown with
 * escapes, so that a line stays a line; --json loses nothing. */
static bool
cli_list_line(const struct cli *c, enum s3_list_kind kind, const struct s3_entry *e)
{
    struct buf line = buf_upto(MIB);
    struct span name = buf_span(&e->name);
    bool whole;

    if (c->json) {
        buf_char(&line, '{');
        cli_json_text(&line,
                      kind == S3_BUCKETS ? "bucket"
                      : e->is_prefix     ? "prefix"
                                         : "key",
                      name);
        if (kind != S3_BUCKETS && !e->is_prefix) {
            json_key(&line, "size");
            buf_num(&line, e->size);
            cli_json_text(&line, "etag", s3_bare(buf_span(&e->etag)));
            cli_json_text(&line, "storage_class", buf_span(&e->class));
        }
        if (e->time) {
            json_key(&line, "time");
            buf_char(&line, '"');
            date_put_iso(&line, e->time);
            buf_char(&line, '"');
        }
        buf_char(&line, '}');
    } else {
        struct buf size = buf_upto(64);

        /* A prefix has no time: as many blanks as one would be wide. */
        if (e->is_prefix)
            buf_str(&line, "                    ");
        else
            date_put_iso(&line, e->time);
        if (kind != S3_BUCKETS) {
            if (e->is_prefix)
                buf_str(&size, "PRE");
            else
                cli_put_size(&size, e->size, c->human);
            for (size_t pad = size.n; pad < 13; pad++)
                buf_char(&line, ' ');
            buf_put(&line, buf_span(&size));
        }
        buf_str(&line, "  ");
        log_put_plain(&line, name);
        buf_free(&size);
    }
    buf_char(&line, '\n');
    whole = !line.bad;
    fputs(buf_text(&line), stdout);
    buf_free(&line);
    return whole;
}

/* ls. A line is printed as soon as its entry is read: lists may have millions. */
static int
cli_ls(const struct cli *c, struct store *st, struct fail *f)
{
    struct span bucket = SPAN(""), prefix = SPAN("");
    struct s3_list list;
    uint64_t n = 0;
    int rc;

    if (c->count > 1)
        return fail_set(f, S3UP_USAGE,
                        "ls takes one s3://BUCKET[/PREFIX], but got \"%s\" too",
                        c->words[1]);
    if (c->count && !span_is(span_of(c->words[0]), "s3://") &&
        !cli_uri(c->words[0], &bucket, &prefix, f))
        return -1;
    s3_list_begin(&list, bucket.n ? S3_OBJECTS : S3_BUCKETS, bucket);
    list.prefix = prefix;
    if (bucket.n && !c->recursive)
        list.delimiter = SPAN("/");
    while ((rc = s3_list_next(st, &list, f)) > 0 && !ferror(stdout) && !os_stop) {
        if (!cli_list_line(c, list.kind, &list.entry))
            (void)fail_set(f, S3UP_LATER, "no memory for a line of the list");
        if (f->code != S3UP_OK)
            break;
        n++;
    }
    /* A list that was cut short must not look like one that is whole. */
    if (os_stop)
        rc = fail_set(f, S3UP_INTERRUPTED, "interrupted");
    s3_list_end(&list);
    /* As ls does for files: a name that is not there is an error; an empty bucket is
     * not. */
    if (rc == 0 && !n && prefix.n)
        return fail_set(f, S3UP_MISSING, "nothing begins with %s", c->words[0]);
    return f->code == S3UP_OK ? S3UP_OK : -1;
}

/* What a head says of an object, and what people call it, in the order in which it is
 * shown. A field that ends in - stands for all that begin so, as far as they are not
 * named before it; a dot takes the rest of their name. Without a name it is not shown. */
static const struct cli_fact {
    const char *field, *name;
    enum { CLI_PLAIN, CLI_COUNT, CLI_TIME, CLI_ETAG } kind;
} cli_facts[] = {
    {"content-length", "size", CLI_COUNT},
    {"last-modified", "time", CLI_TIME},
    {"etag", "etag", CLI_ETAG},
#define CLI_PARTS 3 /* behind it stands how many parts it has */
    {"x-amz-version-id", "version", CLI_PLAIN},
    {"content-type", "type", CLI_PLAIN},
    {"content-encoding", "encoding", CLI_PLAIN},
    {"content-language", "language", CLI_PLAIN},
    {"content-disposition", "disposition", CLI_PLAIN},
    {"cache-control", "cache", CLI_PLAIN},
    {"expires", "expires", CLI_PLAIN},
    {"x-amz-storage-class", "storage_class", CLI_PLAIN},
    {"x-amz-archive-status", "archive", CLI_PLAIN},
    {"x-amz-restore", "restore", CLI_PLAIN},
    {"x-amz-expiration", "expiration", CLI_PLAIN},
    {"x-amz-server-side-encryption", "encryption", CLI_PLAIN},
    {"x-amz-server-side-encryption-aws-kms-key-id", "encryption_key", CLI_PLAIN},
    {"x-amz-server-side-encryption-", "encryption.", CLI_PLAIN},
    {"x-amz-object-lock-mode", "lock", CLI_PLAIN},
    {"x-amz-object-lock-retain-until-date", "locked_until", CLI_PLAIN},
    {"x-amz-object-lock-legal-hold", "legal_hold", CLI_PLAIN},
    {"x-amz-replication-status", "replication", CLI_PLAIN},
    {"x-amz-website-redirect-location", "redirect", CLI_PLAIN},
    {"x-amz-tagging-count", "tags", CLI_COUNT},
    {"x-amz-bucket-region", "region", CLI_PLAIN},
    {"x-amz-checksum-type", "checksum_type", CLI_PLAIN},
    {"x-amz-checksum-", "checksum.", CLI_PLAIN},
    {"x-amz-meta-", "metadata.", CLI_PLAIN},
    {"x-amz-id-", NULL, CLI_PLAIN},
    {"x-amz-request-id", NULL, CLI_PLAIN},
    {"x-amz-", "x-amz-", CLI_PLAIN},
};

#define CLI_FACTS (sizeof cli_facts / sizeof *cli_facts)

/* Which fact a field is, by the first that fits; CLI_FACTS: none. */
static size_t
cli_fact_of(struct span field)
{
    for (size_t i = 0; i < CLI_FACTS; i++) {
        struct span name = span_of(cli_facts[i].field);
        bool begins = name.p[name.n - 1] == '-';

        if (span_is_nocase(begins ? span_first(field, name.n) : field, name.p))
            return i;
    }
    return CLI_FACTS;
}

/* One line, or member: "storage class: STANDARD", "storage_class":"STANDARD". */
static void
cli_put_fact(const struct cli *c, const struct cli_fact *fact, const struct field *field,
             struct buf *out)
{
    struct buf name = buf_upto(HEAD_MAX), text = buf_upto(HEAD_MAX);
    struct span rest = span_after(field->name, strlen(fact->field)), value = field->value;
    uint64_t n;
    int64_t t;

    for (const char *p = fact->name; *p; p++)
        buf_char(&name, *p == '_' && !c->json ? ' ' : *p);
    for (size_t i = 0; i < rest.n; i++)
        buf_char(&name, span_lower(rest.p[i]));
    if (fact->kind == CLI_TIME && date_http(value, &t)) {
        date_put_iso(&text, t);
        value = buf_span(&text);
    } else if (fact->kind == CLI_ETAG) {
        value = s3_bare(value);
    }
    if (!c->json) {
        buf_put(out, buf_span(&name));
        buf_str(out, ": ");
        log_put_plain(out, value);
        buf_char(out, '\n');
    } else if (fact->kind == CLI_COUNT && num_parse(value, INT64_MAX, &n)) {
        cli_event_number(out, buf_text(&name), n);
    } else {
        cli_json_text(out, buf_text(&name), value);
    }
    out->bad = out->bad ? out->bad : name.bad;
    buf_free(&name);
    buf_free(&text);
}

/* What the head at hand says, from one kind of fact to another, in the order of the
 * table, whatever order the store has chosen. */
static void
cli_put_facts(const struct cli *c, const struct head *h, size_t from, size_t to,
              struct buf *out)
{
    for (size_t k = from; k < to; k++)
        for (unsigned i = 0; i < h->n && cli_facts[k].name; i++)
            if (cli_fact_of(h->at[i].name) == k)
                cli_put_fact(c, &cli_facts[k], &h->at[i], out);
}

/* A number that stands in no field. */
static void
cli_put_count(const struct cli *c, const char *name, uint64_t n, struct buf *out)
{
    struct cli_fact fact = {"", name, CLI_COUNT};
    struct buf text = buf_upto(64);
    struct field field;

    buf_num(&text, n);
    field = (struct field){SPAN(""), buf_span(&text)};
    cli_put_fact(c, &fact, &field, out);
    buf_free(&text);
}

/* How many parts an object was made of, which its ETag says, and how long the first was,
 * which the store may. That is a request of its own, after which the head at hand is
 * gone: so it comes last. */
static void
cli_put_parts(const struct cli *c, struct store *st, struct span bucket, struct span key,
              struct buf *out)
{
    struct span rest = s3_bare(s3_value(st, "etag")), digest;
    uint64_t n = 0, told = 0;
    int64_t length;

    if (!span_cut(&rest, '-', &digest) || !num_parse(rest, PARTS_MAX, &n) || !n)
        return;
    cli_put_count(c, "parts", n, out);
    length = s3_part_length(st, bucket, key, 1, &told);
    if (length > 0 && told == n)
        cli_put_count(c, "part_size", (uint64_t)length, out);
}

/* stat, of an object or, without a key, of a bucket, which has none of the first facts.
 * What is shown behind the parts is put together before they are asked for. */
static int
cli_stat(const struct cli *c, struct store *st, struct fail *f)
{
    struct buf line = buf_upto(8 * HEAD_MAX), rest = buf_upto(8 * HEAD_MAX);
    const struct head *h = &st->conn.head;
    struct span bucket, key;

    if (c->count != 1)
        return fail_set(f, S3UP_USAGE, "stat takes one s3://BUCKET/KEY");
    if (!cli_uri(c->words[0], &bucket, &key, f) ||
        (key.n ? s3_head_sums(st, bucket, key, f) : s3_head_bucket(st, bucket, f)) < 0)
        return -1;
    if (c->json) {
        buf_char(&line, '{');
        cli_json_text(&line, "object", span_of(c->words[0]));
        buf_char(&rest, '{'); /* so that its members have commas before them */
        cli_json_text(&rest, "", SPAN(""));
    }
    cli_put_facts(c, h, key.n ? 0 : CLI_PARTS, CLI_PARTS, &line);
    cli_put_facts(c, h, CLI_PARTS, CLI_FACTS, &rest);
    if (key.n)
        cli_put_parts(c, st, bucket, key, &line);
    buf_put(&line, span_after(buf_span(&rest), c->json ? sizeof "{\"\":\"\"" - 1 : 0));
    buf_str(&line, c->json ? "}\n" : "");
    if (line.bad || rest.bad)
        (void)fail_set(f, S3UP_LATER, "no memory for what the store said");
    fputs(buf_text(&line), stdout);
    buf_free(&line);
    buf_free(&rest);
    return f->code == S3UP_OK ? S3UP_OK : -1;
}

/* Says what was found out; returns the exit code. Nothing was proven: that is no success,
 * as a script that deletes the file next would take it. */
static int
cli_verify_said(const struct cli *c, const struct xfer_proof *p, const char *target,
                struct fail *f)
{
    static const char *const verdicts[] = {"unproven", "equal", "different"};
    const char *source = c->words[0];

    if (c->json) {
        struct buf line = cli_event(verdicts[p->verdict], source);

        cli_json_text(&line, "target", span_of(target));
        cli_json_text(&line, "proof", span_of(p->how));
        cli_event_number(&line, "size", (uint64_t)p->file->id.size);
        cli_json_text(&line, "etag", s3_bare(span_of(p->etag)));
        cli_event_end(&line, false);
    } else if (p->verdict == XFER_EQUAL) {
        log_say(LOG_NOTE, "%s and %s are equal (%s)", source, target, p->how);
    }
    if (p->verdict == XFER_DIFFERENT)
        (void)fail_set(f, S3UP_DAMAGED, "%s and %s are different (%s)", source, target,
                       p->how);
    else if (p->verdict == XFER_UNPROVEN)
        (void)fail_set(
            f, S3UP_SKIPPED,
            "whether %s and %s are equal cannot be proven here: the store has no "
            "sum of the bytes that can be computed again; --download compares "
            "them one by one",
            source, target);
    if (f->code == S3UP_OK)
        return S3UP_OK;
    log_fail(f); /* the event was told */
    return (int)f->code;
}

/* verify: what can be proven without fetching the object, and with --download by its
 * bytes where that leaves a doubt. The ledger, if there is one, tells in which parts the
 * file was sent, which an ETag of parts can be computed from. */
static int
cli_verify(const struct cli *c, struct store *st, struct fail *f)
{
    struct buf folder = buf_upto(PATH_MAX), key = buf_upto(4 * KEY_MAX),
               target = buf_upto(8 * KEY_MAX);
    struct xfer_proof p = {.size = -1};
    struct part_name name = {.path = c->words[0], .root = AT_FDCWD};
    struct fail none = {S3UP_OK, ""};
    struct part_file file;
    struct span given;
    int code = -1;

    if (c->count != 2)
        return fail_set(f, S3UP_USAGE, "verify takes a FILE and its s3://BUCKET/KEY");
    if (cli_uri(c->words[1], &p.bucket, &given, f) &&
        cli_put_key(c->words[0], given, false, &key, f) &&
        part_open(&file, &name, f) == 0) {
        p.key = buf_span(&key);
        p.file = &file;
        /* Without a state folder it is only harder to prove. */
        if (jrn_folder(c->state, &folder, &none) == 0)
            p.folder = buf_text(&folder);
        cli_put_uri(&target, p.bucket, p.key);
        if (xfer_prove(st, &p, f) == 0 && (!c->download || p.verdict == XFER_EQUAL ||
                                           (p.verdict == XFER_DIFFERENT && !p.doubt) ||
                                           xfer_prove_bytes(st, &p, f) == 0))
            code = cli_verify_said(c, &p, buf_text(&target), f);
        part_close(&file);
    }
    buf_free(&folder);
    buf_free(&key);
    buf_free(&target);
    return code;
}

/* ---- uploads, abort, sweep, history ----
 *
 * An upload of parts that was never finished costs money at the store until somebody
 * aborts it, and no list of objects shows it. Two sides know of uploads: journals of this
 * host, with which the same command goes on, and the store, which also has those of hosts
 * that are gone. uploads shows either, abort ends one, sweep ends those at the store that
 * nobody goes on with. history reads the ledger, and needs no network. */

/* Shows an upload that a journal of this host tells of. Journals of downloads have no
 * upload id, and are passed over. */
static void
cli_see_journal(void *owner, const struct jrn_facts *k, bool busy, int64_t changed)
{
    const struct cli *c = owner;
    struct buf line = buf_upto(64 * KEY_MAX), target = buf_upto(8 * KEY_MAX);
    struct part_plan plan = {.n = 0};
    struct fail unread = {S3UP_OK, ""};
    int64_t size = 0, age = os_now().s - changed;
    uint64_t done = 0;

    for (unsigned i = 0; i < k->sources; i++)
        size += k->source[i].id.size;
    if (!k->sources || !k->upload.n || part_plan(&plan, size, k->part_size, &unread) < 0)
        return;
    /* The plan follows from size and part size, which the journal has: so do lengths. */
    for (unsigned n = 1; n <= plan.n && n <= k->parts; n++)
        if (k->part[n - 1].done)
            done += (uint64_t)part_length(&plan, n);
    cli_put_uri(&target, buf_span(&k->bucket), buf_span(&k->key));
    if (c->json) {
        buf_char(&line, '{');
        cli_json_text(&line, "source", span_of(k->source[0].path));
        cli_json_text(&line, "target", buf_span(&target));
        cli_json_text(&line, "endpoint", buf_span(&k->endpoint));
        cli_json_text(&line, "upload_id", buf_span(&k->upload));
        cli_event_number(&line, "size", (uint64_t)size);
        cli_event_number(&line, "bytes_done", done);
        cli_event_number(&line, "parts", plan.n);
        cli_event_number(&line, "parts_done", jrn_count(k));
        cli_event_number(&line, "age", age > 0 ? (uint64_t)age : 0);
        json_key(&line, "running");
        buf_str(&line, busy ? "true}" : "false}");
    } else {
        buf_num(&line, size ? done / (uint64_t)((size + 99) / 100) : 0);
        buf_str(&line, "% of ");
        cli_put_size(&line, (uint64_t)size, true);
        buf_str(&line, busy ? ", running, " : ", ");
        cli_put_age(&line, age);
        buf_str(&line, busy ? " ago  " : " old  ");
        log_put_plain(&line, span_of(k->source[0].path));
        buf_str(&line, " -> ");
        log_put_plain(&line, buf_span(&target));
    }
    printf("%s\n", buf_text(&line));
    buf_free(&line);
    buf_free(&target);
}

/* A list of unfinished uploads, collected: while it is read no other call can be made.
 * Each is the time in text, the key and the upload id, with a NUL behind each. */
static int
cli_collect(struct store *st, struct span bucket, struct span prefix, struct buf *all,
            struct fail *f)
{
    struct s3_list list;
    int rc;

    s3_list_begin(&list, S3_UPLOADS, bucket);
    list.prefix = prefix;
    while ((rc = s3_list_next(st, &list, f)) > 0 && !os_stop) {
        struct span name = buf_span(&list.entry.name), id = buf_span(&list.entry.id);

        /* Some stores do not look at the prefix. */
        if (!span_eq(span_first(name, prefix.n), prefix))
            continue;
        buf_num(all, list.entry.time > 0 ? (uint64_t)list.entry.time : 0);
        buf_char(all, ' ');
        buf_num(all, name.n); /* whoever began it may have put any byte into the name */
        buf_char(all, ' ');
        buf_num(all, id.n);
        buf_char(all, '\n');
        buf_put(all, name);
        buf_put(all, id);
    }
    s3_list_end(&list);
    if (os_stop)
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    return all->bad ? fail_set(f, S3UP_LATER, "no memory for the list of uploads") : rc;
}

/* One of those that were collected. */
struct cli_upload {
    uint64_t time;
    struct span key, id;
};

/* Takes the next one off the front; false: there are no more. */
static bool
cli_next_upload(struct span *all, struct cli_upload *u)
{
    struct span time, name, id;
    uint64_t name_n, id_n;

    if (!all->n || !span_cut(all, ' ', &time) || !num_parse(time, INT64_MAX, &u->time) ||
        !span_cut(all, ' ', &name) || !num_parse(name, S3_REPLY, &name_n) ||
        !span_cut(all, '\n', &id) || !num_parse(id, S3_REPLY, &id_n) ||
        name_n + id_n > all->n)
        return false;
    u->key = span_at(all->p, (size_t)name_n);
    u->id = span_at(all->p + u->key.n, (size_t)id_n);
    *all = span_at(u->id.p + u->id.n, all->n - u->key.n - u->id.n);
    return true;
}

/* Shows the parts of an upload, with --parts, and puts the time of the newest into u if
 * it is later than what is there. The list is read to its end in both cases. */
static int
cli_parts(const struct cli *c, struct store *st, struct span bucket, struct cli_upload *u,
          struct fail *f)
{
    struct s3_list list;
    bool timeless = false;
    int rc;

    s3_list_begin(&list, S3_PARTS, bucket);
    list.key = u->key;
    list.id = u->id;
    while ((rc = s3_list_next(st, &list, f)) > 0) {
        const struct s3_entry *e = &list.entry;
        struct buf line = buf_upto(4096);

        timeless |= e->time <= 0;
        if (e->time > 0 && (uint64_t)e->time > u->time)
            u->time = (uint64_t)e->time;
        if (c->parts && c->json) {
            buf_char(&line, '{');
            cli_json_text(&line, "upload_id", u->id);
            cli_event_number(&line, "part", e->number);
            cli_event_number(&line, "size", e->size);
            cli_json_text(&line, "etag", s3_bare(buf_span(&e->etag)));
            buf_char(&line, '}');
            printf("%s\n", buf_text(&line));
        } else if (c->parts) {
            log_put_plain(&line, s3_bare(buf_span(&e->etag)));
            printf("    part %llu  %llu  %s\n", (unsigned long long)e->number,
                   (unsigned long long)e->size, buf_text(&line));
        }
        buf_free(&line);
    }
    s3_list_end(&list);
    /* It may have come this moment: then it is not known how old the upload is. */
    if (timeless)
        u->time = 0;
    return rc;
}

/* Shows an upload that the store holds: its time, where it goes, and its id, which abort
 * wants. */
static void
cli_show_upload(const struct cli *c, struct span bucket, const struct cli_upload *u)
{
    struct buf line = buf_upto(64 * KEY_MAX), target = buf_upto(8 * KEY_MAX);

    cli_put_uri(&target, bucket, u->key);
    if (c->json) {
        buf_char(&line, '{');
        cli_json_text(&line, "target", buf_span(&target));
        cli_json_text(&line, "upload_id", u->id);
        json_key(&line, "time");
        buf_char(&line, '"');
        date_put_iso(&line, (int64_t)u->time);
        buf_str(&line, "\"}");
    } else {
        date_put_iso(&line, (int64_t)u->time);
        buf_str(&line, "  ");
        log_put_plain(&line, buf_span(&target));
        buf_str(&line, "  ");
        log_put_plain(&line, u->id);
    }
    printf("%s\n", buf_text(&line));
    buf_free(&line);
    buf_free(&target);
}

/* uploads: of this host, or of a bucket. */
static int
cli_uploads(const struct cli *c, struct store *st, struct fail *f)
{
    struct buf folder = buf_upto(PATH_MAX), all = buf_upto(S3_REPLY);
    struct span bucket, prefix, rest;
    struct cli_upload u;
    int rc = -1;

    if (c->count > 1)
        return fail_set(f, S3UP_USAGE, "uploads takes one s3://BUCKET[/PREFIX]");
    /* Without a word no store is asked: st is NULL then, see cli_run. */
    if (!c->count) {
        rc = jrn_folder(c->state, &folder, f);
        if (rc == 0)
            rc = jrn_each(buf_text(&folder), cli_see_journal, (void *)(uintptr_t)c, f);
    } else if (cli_uri(c->words[0], &bucket, &prefix, f)) {
        rc = cli_collect(st, bucket, prefix, &all, f);
        rest = buf_span(&all);
        while (rc == 0 && cli_next_upload(&rest, &u)) {
            cli_show_upload(c, bucket, &u);
            if (c->parts)
                rc = cli_parts(c, st, bucket, &u, f);
        }
    }
    buf_free(&folder);
    buf_free(&all);
    return rc;
}

/* Finds the journal of an upload and locks it; of one file, or of one that is joined from
 * several, whose journal goes by the first of them. 0: j is open, and facts is what it
 * says; -1: f says why. A run that is at work has it locked, and is left alone. */
static int
cli_find_journal(const struct cli *c, struct store *st, struct jrn *j,
                 struct jrn_facts *facts, struct fail *f)
{
    struct buf folder = buf_upto(PATH_MAX), source = buf_upto(PATH_MAX),
               endpoint = buf_upto(URL_MAX), key = buf_upto(4 * KEY_MAX);
    static const char *const verbs[] = {"put", "concat"};
    struct span bucket, given;
    int rc = -1;

    if (cli_uri(c->words[1], &bucket, &given, f) &&
        cli_put_key(c->words[0], given, false, &key, f) &&
        (c->journal || jrn_folder(c->state, &folder, f) == 0) &&
        xfer_absolute(c->words[0], &source, f) == 0)
        rc = 0;
    xfer_put_endpoint(st, &endpoint);
    for (unsigned i = 0; rc == 0 && i < 2 && j->fd < 0; i++) {
        struct jrn_what what = {verbs[i], buf_text(&source), buf_span(&endpoint), bucket,
                                buf_span(&key)};
        struct fail now = {S3UP_OK, ""};

        /* The journal's name is made of the verb, too: both are tried. */
        buf_clear(&j->path);
        if (c->journal)
            buf_str(&j->path, c->journal);
        else
            jrn_put_path(buf_text(&folder), &what, &j->path);
        if (jrn_open(j, false, facts, &now) < 0 && now.code != S3UP_MISSING)
            rc = fail_set(f, now.code, "%s", now.text);
        else if (j->fd >= 0)
            rc = xfer_is_of(j, facts, &what, f);
    }
    if (rc == 0 && j->fd < 0)
        rc =
            fail_set(f, S3UP_MISSING,
                     "this host has no unfinished upload of %s to %s; s3up uploads shows "
                     "those it has",
                     c->words[0], c->words[1]);
    buf_free(&folder);
    buf_free(&source);
    buf_free(&endpoint);
    buf_free(&key);
    return rc;
}

/* abort: by the id that the store gave the upload, or by the journal that knows it, which
 * goes, too. */
static int
cli_abort(const struct cli *c, struct store *st, struct fail *f)
{
    struct jrn j = jrn_none();
    struct jrn_facts facts;
    struct span bucket, key;
    int rc = -1;

    if (c->upload) {
        if (c->count != 1)
            return fail_set(f, S3UP_USAGE, "abort --upload-id needs one s3://BUCKET/KEY");
        if (!cli_uri(c->words[0], &bucket, &key, f))
            return -1;
        if (!key.n)
            return fail_set(f, S3UP_USAGE, "%s names no object", c->words[0]);
        if (c->dry_run)
            log_say(LOG_NOTE, "would abort the upload %s to %s", c->upload, c->words[0]);
        return c->dry_run ? 0 : s3_abort_upload(st, bucket, key, span_of(c->upload), f);
    }
    if (c->count != 2)
        return fail_set(f, S3UP_USAGE,
                        "abort needs a FILE and its s3://BUCKET/KEY, or --upload-id");
    jrn_init(&facts);
    if (cli_find_journal(c, st, &j, &facts, f) == 0) {
        /* It was found and locked: so it would have been possible. */
        if (c->dry_run) {
            log_say(LOG_NOTE, "would abort the upload of %s to %s", c->words[0],
                    c->words[1]);
            rc = 0;
        } else {
            rc = xfer_give_up(st, &j, &facts, f);
        }
    }
    if (rc == 0 && !c->dry_run)
        log_say(LOG_NOTE, "the upload of %s to %s was aborted", c->words[0], c->words[1]);
    jrn_close(&j);
    jrn_free(&facts);
    return rc;
}

/* Upload ids that journals of this host know, each with a NUL behind it. */
static void
cli_spare(void *owner, const struct jrn_facts *k, bool busy, int64_t changed)
{
    (void)busy;
    (void)changed;
    buf_put(owner, buf_span(&k->upload));
    buf_char(owner, 0);
}

/* Is it one that this host may go on with? */
static bool
cli_is_spared(const struct buf *spared, struct span id)
{
    struct span rest = buf_span(spared), one;

    while (rest.n && span_cut(&rest, 0, &one))
        if (span_eq(one, id))
            return true;
    return false;
}

/* Aborts one upload if nothing has come for it for long enough. 1: it was left. What
 * counts is the time of its newest part, or it would be ended under the hands of who
 * sends slowly. If it is gone meanwhile, so much the better. */
static int
cli_sweep_one(const struct cli *c, struct store *st, struct span bucket,
              struct cli_upload *u, struct fail *f)
{
    struct cli quiet = *c;
    int64_t now;

    quiet.parts = false;
    if (cli_parts(&quiet, st, bucket, u, f) < 0) {
        bool gone = f->code == S3UP_MISSING;

        if (gone)
            *f = (struct fail){S3UP_OK, ""};
        return gone ? 1 : -1;
    }
    /* By the store's clock: ours may be years off. */
    if (!date_http(s3_value(st, "date"), &now) || !u->time)
        return fail_set(f, S3UP_SKIPPED,
                        "the store does not say what time it is, or when the upload "
                        "began: nothing is deleted");
    if (now - (int64_t)u->time < (int64_t)c->older)
        return 1;
    cli_show_upload(c, bucket, u);
    return c->dry_run ? 0 : s3_abort_upload(st, bucket, u->key, u->id, f);
}

/* sweep. Uploads that a journal of this host knows are never touched, however old: the
 * same command goes on with them. Others can only be judged by their age, so less than a
 * day must be meant. One that fails does not hold up the others. */
static int
cli_sweep(const struct cli *c, struct store *st, struct fail *f)
{
    struct buf folder = buf_upto(PATH_MAX), all = buf_upto(S3_REPLY),
               spared = buf_upto(JRN_MOST);
    struct cli_tally tally = {.done = 0};
    struct span bucket, prefix, rest;
    struct cli_upload u;
    int rc = -1;

    if (c->count != 1)
        return fail_set(f, S3UP_USAGE, "sweep needs one s3://BUCKET[/PREFIX]");
    if (c->older < 86400 && !c->bold)
        return fail_set(f, S3UP_USAGE,
                        "--older-than below a day could hit uploads that are still going "
                        "on elsewhere: if that is meant, add --force");
    if (cli_uri(c->words[0], &bucket, &prefix, f) &&
        jrn_folder(c->state, &folder, f) == 0 &&
        jrn_each(buf_text(&folder), cli_spare, &spared, f) == 0)
        rc = cli_collect(st, bucket, prefix, &all, f);
    /* With a list that is cut short, uploads of this host could be hit. */
    if (rc == 0 && spared.bad)
        rc = fail_set(f, S3UP_LATER, "no memory for the uploads of this host");
    rest = buf_span(&all);
    while (rc == 0 && !os_stop && cli_next_upload(&rest, &u)) {
        struct fail now = {S3UP_OK, ""};
        int swept = 1;

        if (!cli_is_spared(&spared, u.id))
            swept = cli_sweep_one(c, st, bucket, &u, &now);
        if (swept < 0)
            cli_count(&tally, cli_failed(c, &now, c->words[0], false));
        else if (!swept)
            cli_count(&tally, S3UP_OK);
    }
    if (rc == 0 && os_stop)
        rc = fail_set(f, S3UP_INTERRUPTED, "interrupted");
    if (rc == 0 && !c->json)
        log_say(LOG_DEBUG, "swept");
    buf_free(&folder);
    buf_free(&all);
    buf_free(&spared);
    return rc < 0 ? -1 : cli_outcome(&tally);
}

/* From when on: so long ago, or a day, or a moment of it; as the ledger has it, so that
 * two times are compared as texts. What is missing of a moment is taken from the
 * beginning of the day. Nothing was asked: out stays empty, and no time is less. */
static int
cli_since(const char *text, struct buf *out, struct fail *f)
{
    static const char first[] = "0000-00-00T00:00:00Z";
    size_t n = text ? strlen(text) : 0;
    int64_t now = os_now().s, at;
    struct buf whole = buf_upto(64);
    uint64_t age;
    bool good = !text;

    if (text && num_age(span_of(text), &age)) {
        at = (uint64_t)now > age ? now - (int64_t)age : 0;
        good = true;
    } else if (text) {
        buf_str(&whole, text);
        if (n >= strlen("0000-00-00") && n < sizeof first)
            buf_str(&whole, first + n);
        good = date_iso(buf_span(&whole), &at);
    }
    if (text && good)
        date_put_iso(out, at);
    buf_free(&whole);
    return good ? 0
                : fail_set(
                      f, S3UP_USAGE,
                      "--since wants an age, as in 2d, or a day and perhaps a time in "
                      "UTC, as in 2026-11-20T08:00:00Z, not \"%s\"",
                      text);
}

/* A line of the ledger, as people read it, if it is not older than that and the pattern
 * fits its path, its key or its URI. False if it is torn, or none. */
static bool
cli_show_stored(const struct cli *c, struct span line, struct span since)
{
    struct buf text[6], out = buf_upto(64 * KEY_MAX);
    static const char *const names[] = {"time", "path", "bucket", "key", "size", "etag"};
    enum json_event event;
    bool good, match;
    const char *pattern = c->count ? c->words[0] : NULL;
    struct json j;

    for (unsigned i = 0; i < 6; i++)
        text[i] = buf_upto(16 * KEY_MAX);
    json_init(&j, line);
    while ((event = json_next(&j)) != JSON_END && event != JSON_BAD)
        for (unsigned i = 0; i < 6; i++)
            if (j.depth == 1 && span_is(j.key, names[i]) &&
                (event == JSON_STRING || event == JSON_NUMBER))
                (void)json_text(j.text, &text[i]);
    good = event == JSON_END && text[0].n && text[1].n;
    cli_put_uri(&out, buf_span(&text[2]), buf_span(&text[3]));
    match = !pattern || span_glob(span_of(pattern), buf_span(&text[1])) ||
            span_glob(span_of(pattern), buf_span(&text[3])) ||
            span_glob(span_of(pattern), buf_span(&out));
    match = match && span_cmp(buf_span(&text[0]), since) >= 0;
    if (good && match && c->json) {
        printf("%.*s\n", (int)line.n, line.p);
    } else if (good && match) {
        struct buf target = out;

        out = buf_upto(64 * KEY_MAX);
        buf_put(&out, buf_span(&text[0]));
        for (size_t pad = text[4].n; pad < 14; pad++)
            buf_char(&out, ' ');
        buf_put(&out, buf_span(&text[4]));
        buf_str(&out, "  ");
        log_put_plain(&out, buf_span(&text[1]));
        buf_str(&out, " -> ");
        log_put_plain(&out, buf_span(&target));
        printf("%s\n", buf_text(&out));
        buf_free(&target);
    }
    for (unsigned i = 0; i < 6; i++)
        buf_free(&text[i]);
    buf_free(&out);
    return good;
}

/* history, the older of the two ledgers first. A line that is torn, as by a power cut,
 * does not hide those behind it. */
static int
cli_history(const struct cli *c, struct store *st, struct fail *f)
{
    struct buf folder = buf_upto(PATH_MAX), path = buf_upto(PATH_MAX);
    static const char *const names[] = {"/ledger.jsonl.1", "/ledger.jsonl"};
    struct buf since = buf_upto(64);
    int rc = 0;

    (void)st; /* it works with no network */
    if (c->count > 1)
        return fail_set(f, S3UP_USAGE, "history takes one PATTERN");
    rc = cli_since(c->since, &since, f) < 0 ? -1 : jrn_folder(c->state, &folder, f);
    for (unsigned i = 0; i < 2 && rc == 0; i++) {
        struct buf text = buf_upto(4 * (size_t)JRN_LEDGER);
        struct fail now = {S3UP_OK, ""};
        struct span rest, line;
        unsigned torn = 0;

        buf_clear(&path);
        buf_put(&path, buf_span(&folder));
        buf_str(&path, names[i]);
        if (os_slurp(buf_text(&path), &text, &now) < 0 && now.code != S3UP_MISSING)
            rc = fail_set(f, now.code, "%s", now.text);
        rest = buf_span(&text);
        while (rc == 0 && !os_stop && rest.n && span_cut(&rest, '\n', &line))
            if (line.n && !cli_show_stored(c, line, buf_span(&since)))
                torn++;
        if (torn)
            log_say(LOG_WARN, "%s: torn lines that were passed over: %u", buf_text(&path),
                    torn);
        buf_free(&text);
    }
    if (rc == 0 && os_stop)
        rc = fail_set(f, S3UP_INTERRUPTED, "interrupted");
    buf_free(&folder);
    buf_free(&path);
    buf_free(&since);
    return rc;
}

/* ---- rm ----
 *
 * Objects go in batches of one request each, where the store knows that; it names those
 * that it did not delete, and each of the others is told as deleted. rm -r walks through
 * lists while it cuts them down, which stores do not agree on: pages may be found by a
 * key, and then nothing is missed, or be counted, and then the list is walked anew.
 * Without --force nothing is deleted: it is counted and said. No list is believed: a key
 * that is not below the prefix ends the walk, and so does an age that is asked for and
 * not told. */

enum { CLI_BATCH = 1000 }; /* keys of one request, by the S3 specification */

/* Objects of one bucket that are waiting to be deleted together. */
struct cli_batch {
    struct span bucket;
    struct span keys[CLI_BATCH];
    const char *uris[CLI_BATCH]; /* for messages; NULL: it was told already */
    unsigned n;
    struct buf text; /* of those that came from a list; never moves: made at full size */
};

/* Deletes one by a request of its own; returns the exit code, and has said all. */
static int
cli_rm_alone(const struct cli *c, struct store *st, struct span bucket, struct span key,
             const char *uri)
{
    struct fail f = {S3UP_OK, ""};

    if (s3_delete_object(st, bucket, key, &f) < 0)
        return cli_failed(c, &f, uri, false);
    cli_did(c, "deleted", uri);
    return S3UP_OK;
}

/* One that the store would not delete together with others. */
static int
cli_rm_undeleted(const struct cli *c, const char *uri, struct span code)
{
    struct fail f = {S3UP_OK, ""};

    (void)fail_set(&f, span_is(code, "AccessDenied") ? S3UP_DENIED : S3UP_SOME,
                   "%s was not deleted: the store says %.*s", uri, (int)code.n,
                   code.n ? code.p : "");
    return cli_failed(c, &f, uri, false);
}

/* Counts what the store says to a batch. It names only those that it did not delete; a
 * name that nobody gave it counts as one, too: it is better to say too much. */
static void
cli_rm_count(const struct cli *c, struct store *st, struct cli_batch *b,
             struct cli_tally *tally)
{
    struct buf key = buf_upto(8 * KEY_MAX), code = buf_upto(KEY_MAX);
    struct xml x;

    xml_init(&x, buf_span(&st->reply));
    while (s3_next_undeleted(&x, &key, &code)) {
        const char *uri = buf_text(&key);

        for (unsigned i = 0; i < b->n; i++)
            if (b->uris[i] && span_eq(b->keys[i], buf_span(&key))) {
                uri = b->uris[i];
                b->uris[i] = NULL;
            }
        cli_count(tally, cli_rm_undeleted(c, uri, buf_span(&code)));
    }
    /* All that it did not name is gone. */
    for (unsigned i = 0; i < b->n; i++)
        if (b->uris[i]) {
            cli_did(c, "deleted", b->uris[i]);
            cli_count(tally, S3UP_OK);
        }
    buf_free(&key);
    buf_free(&code);
}

/* The whole request failed: so has each of them. People are told one reason and how many;
 * programs hear of each. */
static void
cli_rm_lost(const struct cli *c, const struct cli_batch *b, const struct fail *f,
            struct cli_tally *tally)
{
    int failed = cli_failed(c, f, b->uris[0], false);

    cli_count(tally, failed);
    for (unsigned i = 1; i < b->n; i++)
        cli_count(tally,
                  c->json ? cli_spared(c, b->uris[i], "deleted", failed, false) : failed);
    log_say(LOG_ERROR, "%u objects of s3://%.*s were not deleted", b->n, (int)b->bucket.n,
            b->bucket.p);
}

/* Deletes what waits: by one request, but for keys that no list can carry; one by one
 * where the store does not know such requests (501). Afterwards the batch is empty. */
static void
cli_rm_flush(const struct cli *c, struct store *st, struct cli_batch *b,
             struct cli_tally *tally)
{
    struct fail f = {S3UP_OK, ""};
    unsigned n = 0;
    bool alone;

    /* Those that stay move up, to close the gaps. */
    for (unsigned i = 0; i < b->n; i++)
        if (!xml_can_carry(b->keys[i])) {
            cli_count(tally, cli_rm_alone(c, st, b->bucket, b->keys[i], b->uris[i]));
        } else {
            b->keys[n] = b->keys[i];
            b->uris[n++] = b->uris[i];
        }
    b->n = n;
    alone = n == 1;
    if (n > 1 && s3_delete_objects(st, b->bucket, b->keys, n, &f) == 0)
        cli_rm_count(c, st, b, tally);
    else if (n > 1 && !(alone = st->error.status == 501))
        cli_rm_lost(c, b, &f, tally);
    for (unsigned i = 0; i < n && alone; i++)
        cli_count(tally, cli_rm_alone(c, st, b->bucket, b->keys[i], b->uris[i]));
    b->n = 0;
    buf_clear(&b->text);
}

/* All below a prefix, on its way to be deleted, or counted. The batch and the tally are
 * those of the whole command. */
struct cli_purge {
    const struct cli *cli;
    struct store *st;
    struct span bucket, prefix;
    const char *uri; /* of both */
    struct cli_batch *batch;
    struct cli_tally *tally;
    bool real;             /* it is deleted indeed */
    uint64_t found, bytes; /* of what is old enough */
    int64_t now;           /* by the clock of the store, or 0 */
    unsigned pages;        /* of the list, in this pass over it */
    unsigned listed;       /* keys that are to go, in this pass */
    struct buf first;      /* the first of them, in this pass or the one before it */
};

/* While a page of a list is read, no reply may come into its place: it is set aside. */
static void
cli_purge_flush(struct cli_purge *p)
{
    struct buf page = p->st->reply;

    p->st->reply = buf_upto(S3_REPLY);
    cli_rm_flush(p->cli, p->st, p->batch, p->tally);
    buf_free(&p->st->reply);
    p->st->reply = page;
}

/* Is it to go? 1: yes, 0: it is too young, -1: nobody can tell, and nothing more goes.
 * The age is by the store's clock on both sides: ours may be years off. */
static int
cli_purge_old(struct cli_purge *p, const struct s3_entry *e, struct fail *f)
{
    struct span key = buf_span(&e->name);

    if (!key.n || !span_eq(span_first(key, p->prefix.n), p->prefix))
        return fail_set(f, S3UP_SOME,
                        "the store lists \"%.*s\", which was not asked for: nothing more "
                        "is deleted",
                        (int)key.n, key.n ? key.p : "");
    if (!p->cli->age)
        return 1;
    if (!p->now || !e->time)
        return fail_set(f, S3UP_SKIPPED,
                        "the store does not say %s: nothing more is deleted",
                        p->now ? "how old the objects are" : "what time it is");
    return p->now - e->time >= (int64_t)p->cli->age;
}

/* Adds a key to those that wait. The list's entry does not outlive the next one: the key
 * is copied, as the end of its URI. */
static void
cli_purge_add(struct cli_purge *p, struct span key)
{
    struct cli_batch *b = p->batch;
    const char *uri;

    if (b->n == CLI_BATCH || b->text.n + p->bucket.n + key.n + 16 > b->text.max)
        cli_purge_flush(p);
    uri = b->text.p + b->text.n;
    cli_put_uri(&b->text, p->bucket, key);
    buf_char(&b->text, 0);
    b->uris[b->n] = uri;
    b->keys[b->n++] = span_at(b->text.p + b->text.n - 1 - key.n, key.n);
}

/* With --dry-run, names what would go; without --force it is only counted. */
static void
cli_purge_would(const struct cli_purge *p, struct span key)
{
    struct buf uri = buf_upto(16 * KEY_MAX);

    cli_put_uri(&uri, p->bucket, key);
    if (p->cli->dry_run)
        cli_did(p->cli, "would delete", buf_text(&uri));
    buf_free(&uri);
}

/* An object of the list; -1: nothing more goes. A store that lists what it said it
 * deleted would have us delete it for ever: the first key of a pass must not be that of
 * the one before. */
static int
cli_purge_one(struct cli_purge *p, const struct s3_entry *e, struct fail *f)
{
    struct span key = buf_span(&e->name);
    int old = cli_purge_old(p, e, f);

    if (old <= 0)
        return old;
    if (p->real && !p->listed++) {
        if (span_eq(key, buf_span(&p->first)))
            return fail_set(f, S3UP_LATER,
                            "the store still lists \"%.*s\", which it said it deleted",
                            (int)key.n, key.p);
        buf_clear(&p->first);
        buf_put(&p->first, key);
    }
    p->found++;
    p->bytes += e->size;
    if (p->real)
        cli_purge_add(p, key);
    else
        cli_purge_would(p, key);
    return 0;
}

/* Goes through the list once. What was collected when it breaks off is deleted still, as
 * it was asked for; not so if the list cannot be believed, or we are to stop. */
static int
cli_purge_pass(struct cli_purge *p, struct fail *f)
{
    struct s3_list list;
    int rc;

    s3_list_begin(&list, S3_OBJECTS, p->bucket);
    list.prefix = p->prefix;
    list.stops = true; /* no page is asked for before what was on the last is gone */
    p->listed = 0;
    while ((rc = s3_list_next(p->st, &list, f)) > 0 && !os_stop &&
           !(p->tally->failed && cli_hopeless(p->st, p->tally->code))) {
        if (list.pages != p->pages) /* a new page: its head is still there */
            (void)date_http(s3_value(p->st, "date"), &p->now);
        p->pages = list.pages;
        if (rc == 2)
            cli_purge_flush(p);
        else if (!list.entry.is_prefix && cli_purge_one(p, &list.entry, f) < 0)
            break;
    }
    s3_list_end(&list);
    if (!os_stop && (f->code == S3UP_OK || f->code == S3UP_LATER))
        cli_purge_flush(p);
    /* What is not deleted now must not wait for the next word: that may name another
     * bucket, and a batch is of one. */
    p->batch->n = 0;
    buf_clear(&p->batch->text);
    if (os_stop)
        return fail_set(f, S3UP_INTERRUPTED, "interrupted");
    return f->code == S3UP_OK ? 0 : -1;
}

/* What became of all of it; done and failed are of this prefix alone. */
static void
cli_purge_say(const struct cli_purge *p, int done, int failed)
{
    const char *did = p->real ? "deleted" : "would be deleted";

    if (p->cli->json) {
        struct buf line = cli_event("summary", p->uri);

        cli_event_number(&line, p->real ? "deleted" : "found",
                         p->real ? (uint64_t)done : p->found);
        cli_event_number(&line, "failed", (uint64_t)failed);
        cli_event_number(&line, "bytes", p->bytes);
        cli_event_end(&line, false);
    } else if (failed) {
        log_say(LOG_NOTE, "%s: %d objects deleted, %d not", p->uri, done, failed);
    } else {
        log_say(LOG_NOTE, "%s: %llu objects (%llu bytes) %s", p->uri,
                p->real ? (unsigned long long)done : (unsigned long long)p->found,
                (unsigned long long)p->bytes, did);
    }
}

/* Deletes all below a prefix, page by page; without --force it only says how much that
 * is. A list whose pages are counted, and not found by a key, leaves some out while it is
 * cut down: it is begun anew until nothing is left. */
static int
cli_rm_below(struct cli_purge *p, struct fail *f)
{
    const struct cli *c = p->cli;
    int done = p->tally->done, failed = p->tally->failed, before, rc;
    bool counted;

    /* Once more only if that can bring something: there was more than one page, some of
     * it went, none failed. AWS finds its pages by a key. */
    do {
        before = p->tally->done;
        p->pages = 0;
        rc = cli_purge_pass(p, f);
    } while (rc == 0 && p->pages > 1 && p->tally->done > before && !p->st->aws &&
             p->tally->failed == failed);
    done = p->tally->done - done;
    failed = p->tally->failed - failed;
    /* Neither --force nor --dry-run: that is refused, with what it would have meant. */
    counted = rc == 0 && !p->real && !c->dry_run && p->found;
    if ((rc == 0 || done) && (c->json || !counted))
        cli_purge_say(p, done, failed);
    if (counted)
        return fail_set(
            f, S3UP_USAGE,
            "%s: %llu objects (%llu bytes) would be deleted; if that is meant, "
            "add --force%s%.*s, or --dry-run to see which",
            p->uri, (unsigned long long)p->found, (unsigned long long)p->bytes,
            p->prefix.n ? "" : "=", p->prefix.n ? 0 : (int)p->bucket.n, p->bucket.p);
    return rc;
}

/* What a word of rm -r stands for: logs means logs/, and a whole bucket must be named
 * once more. */
static bool
cli_rm_word(const struct cli *c, const char *word, struct span *bucket,
            struct buf *prefix, struct fail *f)
{
    struct span key;

    if (!cli_uri(word, bucket, &key, f))
        return false;
    buf_put(prefix, key);
    if (key.n && key.p[key.n - 1] != '/')
        buf_char(prefix, '/');
    if (c->force && (*c->force || !key.n) && !span_is(*bucket, c->force))
        (void)fail_set(
            f, S3UP_USAGE, "%s: %s; to delete %s, say --force=%.*s", word,
            *c->force ? "--force names another bucket" : "that is the whole bucket",
            key.n ? "what is below" : "all that is in it", (int)bucket->n, bucket->p);
    return f->code == S3UP_OK;
}

/* rm -r. A word that fails does not hold up the next one. */
static int
cli_rm_all(const struct cli *c, struct store *st, struct cli_batch *batch, struct fail *f)
{
    struct cli_tally tally = {.done = 0};
    struct buf prefix = buf_upto(2 * KEY_MAX), uri = buf_upto(4 * KEY_MAX);

    for (int turn = 0; turn < 2; turn++) /* all are checked before any goes */
        for (int i = 0; i < c->count && f->code == S3UP_OK; i++) {
            struct cli_purge p = {c, st, .uri = c->words[i], .batch = batch};
            struct fail now = {S3UP_OK, ""};

            buf_clear(&prefix);
            buf_clear(&uri);
            if (!cli_rm_word(c, c->words[i], &p.bucket, &prefix, f) || !turn)
                continue;
            cli_put_uri(&uri, p.bucket, buf_span(&prefix));
            batch->bucket = p.bucket;
            p.prefix = buf_span(&prefix);
            p.uri = buf_text(&uri);
            p.tally = &tally;
            p.real = c->force && !c->dry_run;
            p.first = buf_upto(8 * KEY_MAX);
            if (cli_rm_below(&p, &now) < 0)
                cli_count(&tally, cli_failed(c, &now, p.uri, false));
            buf_free(&p.first);
        }
    buf_free(&prefix);
    buf_free(&uri);
    return f->code == S3UP_OK ? cli_outcome(&tally) : -1;
}

/* rm, of objects that were named. A batch is of one bucket: words are taken in their
 * order, so those of one bucket should stand together. */
static int
cli_rm_words(const struct cli *c, struct store *st, struct cli_batch *batch,
             struct fail *f)
{
    struct cli_tally tally = {.done = 0};
    struct span bucket, key;

    for (int i = 0; i < c->count && f->code == S3UP_OK;
         i++) /* all are checked before any goes */
        if (cli_uri(c->words[i], &bucket, &key, f) && !key.n)
            (void)fail_set(
                f, S3UP_USAGE,
                "%s names no object; rb removes buckets, rm -r what is in them",
                c->words[i]);
    for (int i = 0; i < c->count && f->code == S3UP_OK; i++) {
        (void)cli_uri(c->words[i], &bucket, &key, f);
        if (c->dry_run) {
            cli_did(c, "would delete", c->words[i]);
            continue;
        }
        if (batch->n == CLI_BATCH || (batch->n && !span_eq(bucket, batch->bucket)))
            cli_rm_flush(c, st, batch, &tally);
        if (os_stop || (tally.failed && cli_hopeless(st, tally.code))) {
            cli_count(&tally,
                      cli_spared(c, c->words[i], "deleted",
                                 tally.failed ? tally.code : 128 + (int)os_stop, false));
            continue;
        }
        batch->bucket = bucket;
        batch->uris[batch->n] = c->words[i];
        batch->keys[batch->n++] = key;
    }
    if (f->code == S3UP_OK)
        cli_rm_flush(c, st, batch, &tally);
    return f->code == S3UP_OK ? cli_outcome(&tally) : -1;
}

/* rm. With -r the batch's text is at its full size before the first key comes, since uris
 * and keys point into it. */
static int
cli_rm(const struct cli *c, struct store *st, struct fail *f)
{
    struct cli_batch *batch = malloc(sizeof *batch);
    int code = -1;

    if (batch) {
        batch->n = 0;
        batch->text = buf_upto(MIB);
    }
    if (!c->count)
        (void)fail_set(f, S3UP_USAGE, "rm needs an object, s3://BUCKET/KEY");
    else if (c->age && !c->recursive)
        (void)fail_set(f, S3UP_USAGE, "--older-than goes with -r");
    else if (!batch || (c->recursive && !buf_need(&batch->text, MIB - 1)))
        (void)fail_set(f, S3UP_LATER, "no memory");
    else
        code = c->recursive ? cli_rm_all(c, st, batch, f) : cli_rm_words(c, st, batch, f);
    if (batch)
        buf_free(&batch->text);
    free(batch);
    return code;
}

/* ---- cp ---- */

/* Gives the next object to be copied. An object is copied to itself only with other
 * header fields: else stores refuse it, for nothing would change. */
static bool
cli_next_copy(void *owner, struct xfer_item *item)
{
    struct cli_run *r = ((struct cli_store *)owner)->run;
    const struct cli *c = r->cli;

    while (r->at < r->last && !os_stop) {
        const char *word = r->words[r->at++];
        struct fail f = {S3UP_OK, ""};
        struct buf uri = buf_upto(8 * KEY_MAX);
        struct span bucket, key;
        bool good;

        buf_clear(&r->key);
        good = cli_uri(word, &bucket, &key, &f) &&
               cli_put_key(word, r->given, c->count > 2, &r->key, &f);
        if (good && span_eq(bucket, r->bucket) && span_eq(key, buf_span(&r->key)) &&
            !c->n)
            good = fail_set(&f, S3UP_USAGE, "%s would be copied to itself", word) == 0;
        cli_put_uri(&uri, r->bucket, buf_span(&r->key));
        if (good && c->dry_run)
            cli_done(c, word, buf_text(&uri), 0, "");
        buf_free(&uri);
        if (!good || c->dry_run) {
            cli_count(&r->tally, good ? S3UP_OK : cli_failed(c, &f, word, false));
            continue;
        }
        *item = (struct xfer_item){.key = buf_span(&r->key),
                                   .from_bucket = bucket,
                                   .from_key = key,
                                   .root = AT_FDCWD,
                                   .fd = -1};
        return true;
    }
    return false;
}

/* Whoever names header fields that are kept with an object means them to replace what the
 * source has; others, as the storage class, are of each object anew. */
static bool
cli_replaces(const struct cli *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (strncmp(c->heads[i].name, "x-amz-", 6) != 0 ||
            !strncmp(c->heads[i].name, "x-amz-meta-", 11))
            return true;
    return false;
}

/* cp: the store copies, no byte comes here. So memory sets no limit to how many are
 * copied at a time, and parts are larger than what is sent from here. */
static int
cli_cp(const struct cli *c, struct store *st, struct fail *f)
{
    struct cli_run run = {.cli = c,
                          .words = c->words,
                          .last = c->count - 1,
                          .next = cli_next_copy,
                          .verb = "copied",
                          .root = -1};
    struct span bucket, key;
    int code = -1;

    if (c->count < 2)
        return fail_set(f, S3UP_USAGE, "cp needs s3://BUCKET/KEY and s3://BUCKET[/KEY]");
    for (int i = 0; i < run.last; i++)
        if (cli_uri(c->words[i], &bucket, &key, f) && !key.n)
            (void)fail_set(f, S3UP_USAGE, "%s names no object", c->words[i]);
    if (f->code != S3UP_OK || !cli_uri(c->words[run.last], &run.bucket, &run.given, f) ||
        cli_differ(c->words, run.last, f) < 0 || cli_wish(c, &run.wish, f) < 0 ||
        cli_jobs(c, 1, &run.jobs, f) < 0)
        return -1;
    run.wish.replace = cli_replaces(c);
    if (!c->threshold && !c->part_size) { /* the store copies so much in one go */
        run.wish.threshold = PART_MOST;
        run.wish.part_size = PART_COPY;
    }
    cli_begin_run(&run, st);
    if (cli_run_words(&run, st, 0, f) == 0)
        code = cli_outcome(&run.tally);
    return cli_end_run(&run, st, code, f);
}

/* ---- mb, rb, presign ---- */

/* mb and rb differ in one call. */
static int
cli_bucket(const struct cli *c, struct store *st, bool make, struct fail *f)
{
    struct span bucket, key;

    if (c->count != 1)
        return fail_set(f, S3UP_USAGE, "%s takes one s3://BUCKET", make ? "mb" : "rb");
    if (!cli_uri(c->words[0], &bucket, &key, f))
        return -1;
    if (key.n)
        return fail_set(f, S3UP_USAGE, "%s names an object, not a bucket", c->words[0]);
    if (c->dry_run)
        cli_did(c, make ? "would make" : "would remove", c->words[0]);
    else if ((make ? s3_create_bucket(st, bucket, f) : s3_delete_bucket(st, bucket, f)) <
             0)
        return -1;
    else
        cli_did(c, make ? "made" : "removed", c->words[0]);
    return S3UP_OK;
}

static int
cli_mb(const struct cli *c, struct store *st, struct fail *f)
{
    return cli_bucket(c, st, true, f);
}

static int
cli_rb(const struct cli *c, struct store *st, struct fail *f)
{
    return cli_bucket(c, st, false, f);
}

/* presign: nothing is asked; the URL is good for whoever has it, so it goes to stdout
 * alone. */
static int
cli_presign(const struct cli *c, struct store *st, struct fail *f)
{
    struct span bucket, key;
    struct buf url = buf_upto(2 * REQ_TEXT);
    struct s3_call call;
    int rc;

    if (c->count != 1)
        return fail_set(f, S3UP_USAGE, "presign takes one s3://BUCKET/KEY");
    if (!cli_uri(c->words[0], &bucket, &key, f))
        return -1;
    if (!key.n)
        return fail_set(f, S3UP_USAGE, "%s names no object", c->words[0]);
    if (c->get && c->put)
        return fail_set(f, S3UP_USAGE,
                        "a URL either downloads or uploads: --get or --put");
    if (c->lifetime > PRESIGN_MAX)
        return fail_set(f, S3UP_USAGE, "a URL lives for at most 7d");
    call = s3_to("presign", c->put ? "PUT" : "GET", bucket, key);
    rc = s3_presign(st, &call, c->lifetime, &url, f);
    if (rc == 0)
        printf("%s\n", buf_text(&url));
    buf_free(&url);
    return rc < 0 ? -1 : S3UP_OK;
}

/* ---- drain ----
 *
 * What room 15 says, in words and events; and which folder, which bucket. The room owns
 * the files, this part the counts. */

static struct cli_run *
cli_run_of(void *owner)
{
    return ((struct cli_store *)owner)->run;
}

/* With --config only *.dat is wanted, unless patterns say what else. */
static bool
cli_drain_wants(void *owner, struct span path, bool folder)
{
    const struct cli *c = cli_run_of(owner)->cli;

    return cli_wants(c, path, folder) &&
           (folder || !c->config || c->include.n || s3_ends(path, ".dat"));
}

/* A type that the user named is sent with the other header fields: then none is
 * guessed. */
static const char *
cli_drain_type(void *owner, struct span path)
{
    const struct cli *c = cli_run_of(owner)->cli;

    for (unsigned i = 0; i < c->n; i++)
        if (!strcmp(c->heads[i].name, "content-type"))
            return NULL;
    return cli_media_type(path);
}

/* What room 15 says of a file that is not about its upload. */
static void
cli_drain_say(void *owner, const struct drain_word *w)
{
    struct cli_run *r = cli_run_of(owner);
    struct fail f = {S3UP_OK, ""};
    struct buf line, uri;

    if (w->kind == DRAIN_SKIPPED) {
        cli_skip(r, w->path, w->why);
    } else if (w->kind == DRAIN_NOTE) {
        log_say(LOG_NOTE, "%s %s", w->path, w->why);
    } else if (w->kind == DRAIN_FAILED) {
        (void)fail_set(&f, w->code, "%s", w->why);
        cli_not_drained(r, w->path, w->key, &f);
    } else if (w->kind == DRAIN_WOULD) {
        uri = buf_upto(8 * KEY_MAX);
        cli_put_uri(&uri, r->bucket, w->key);
        cli_done(r->cli, w->path, buf_text(&uri), 0, "");
        cli_count(&r->tally, S3UP_OK);
        buf_free(&uri);
    } else {
        r->tally.done--; /* it is stored, and still is not done */
        cli_count(&r->tally, (int)w->code);
        log_say(LOG_WARN, "%s is kept: %s", w->path, w->why);
        if (!r->cli->json)
            return;
        line = cli_event("kept", w->path);
        cli_json_text(&line, "reason", span_of(w->why));
        cli_event_end(&line, false);
    }
}

/* A round is over: with --watch the metrics are written, with the outcome of this round
 * alone, or one failure would show for ever. The counts in them are of all rounds. */
static void
cli_drain_over(void *owner)
{
    struct cli_run *r = cli_run_of(owner);
    struct fail f = {S3UP_OK, ""};
    struct cli_tally now = r->tally;

    if (!r->cli->watch)
        return;
    now.done -= r->before.done;
    now.same -= r->before.same;
    now.failed -= r->before.failed;
    now.skipped -= r->before.skipped;
    if (r->cli->metrics && cli_metrics(r, cli_outcome(&now), &f) < 0)
        (void)cli_failed(r->cli, &f, r->cli->metrics, false);
    r->before = r->tally;
    r->tally.mixed = false;
}

/* The two words of a drain from a configuration file, or as they were given. The file may
 * have other members, which are not ours. A path or a name with a NUL in it would be cut
 * there, and mean another one. */
static int
cli_drain_words(const struct cli *c, struct buf *dir, struct buf *target, struct fail *f)
{
    struct buf text = buf_upto(OS_SMALL);
    enum json_event event;
    struct json j;

    if (!c->config && c->count == 2) {
        buf_str(dir, c->words[0]);
        buf_str(target, c->words[1]);
        return 0;
    }
    if (!c->config || c->count)
        return fail_set(
            f, S3UP_USAGE,
            "drain needs DIR and s3://BUCKET[/PREFIX], or --config FILE alone");
    if (os_slurp(c->config, &text, f) < 0)
        return -1;
    buf_str(target, "s3://");
    json_init(&j, buf_span(&text));
    /* Read to the end even if both were found: half a file is no settings. */
    while ((event = json_next(&j)) != JSON_END && event != JSON_BAD)
        if (j.depth == 1 && event == JSON_STRING && span_is(j.key, "base_dir")) {
            buf_clear(dir); /* said twice, the last counts */
            if (!json_text(j.text, dir))
                buf_clear(dir); /* half a path is another folder's */
        } else if (j.depth == 1 && event == JSON_STRING && span_is(j.key, "s3_bucket")) {
            buf_cut(target, strlen("s3://"));
            if (!json_text(j.text, target))
                buf_cut(target, strlen("s3://"));
        }
    buf_free(&text);
    if (event == JSON_BAD || !dir->n || dir->bad || target->n <= strlen("s3://") ||
        memchr(dir->p, 0, dir->n) || memchr(target->p, 0, target->n))
        return fail_set(f, S3UP_USAGE,
                        "%s: there must be a JSON object in it: {\"base_dir\": \"DIR\", "
                        "\"s3_bucket\": \"BUCKET\"}",
                        c->config);
    return 0;
}

/* Drains a folder that is locked by us; the exit code, or -1. The store must prove that
 * it has each file (wish.sure). Where nothing is removed, what is there already is looked
 * for first, or it would be sent by each run. */
static int
cli_drain_locked(struct cli_run *r, struct fail *f)
{
    const struct cli *c = r->cli;

    r->wish.sure = true;
    r->wish.if_changed = c->keep || r->drain->sealed;
    if (c->max_time)
        (void)alarm((unsigned)c->max_time); /* as if we were asked to stop */
    if (drain_run(r->drain, f) < 0)
        return -1;
    (void)alarm(0);
    if (os_stop == SIGALRM || (c->watch && os_stop == SIGTERM))
        os_stop = 0; /* as it was meant to end */
    if (os_stop)
        return 128 + (int)os_stop;
    return c->watch ? S3UP_OK : cli_outcome(&r->tally);
}

/* drain. What is said goes to a log, with time and level, and failures are warnings
 * there: one file is not the end of the run. */
static int
cli_drain(const struct cli *c, struct store *st, struct fail *f)
{
    struct cli_run run = {.cli = c, .verb = "sent", .root = -1, .in_tree = true};
    struct buf dir = buf_upto(PATH_MAX), target = buf_upto(4 * KEY_MAX);
    struct drain *d = calloc(1, sizeof *d);
    int code = -1;

    log_dated = true;
    if (c->quiet) /* all that goes wrong is said as a warning */
        log_most = LOG_WARN;
    if (!d)
        return fail_set(f, S3UP_LATER, "no memory");
    if (c->keep && c->move_to)
        (void)fail_set(f, S3UP_USAGE, "--keep and --move-to exclude each other");
    else if (cli_drain_words(c, &dir, &target, f) == 0 &&
             cli_uri(buf_text(&target), &run.bucket, &run.given, f) &&
             cli_wish(c, &run.wish, f) == 0 &&
             cli_jobs(c, run.wish.part_size, &run.jobs, f) == 0) {
        run.drain = d;
        cli_begin_run(&run, st);
        run.xfer = (struct xfer){.st = st, .wish = &run.wish, .bucket = run.bucket};
        /* What this run reads and writes may lie in the folder itself: that is `own`. */
        *d = (struct drain){.x = &run.xfer,
                            .root = -1,
                            .moved = -1,
                            .watch = -1,
                            .jobs = run.jobs,
                            .dir = buf_text(&dir),
                            .prefix = run.given,
                            .own = {run.wish.folder, c->metrics, c->config, c->move_to},
                            .move_to = c->move_to,
                            .settle = (int64_t)c->settle * 1000,
                            .prune_age = c->prune ? (int64_t)c->prune_age : -1,
                            .quarantine = c->quarantine,
                            .max_files = c->max_files,
                            .keep = c->keep,
                            .dry_run = c->dry_run,
                            .wants = cli_drain_wants,
                            .type = cli_drain_type,
                            .hear = cli_hear,
                            .say = cli_drain_say,
                            .over = cli_drain_over,
                            .owner = st->config.owner,
                            .moved_bytes = &run.moved};
        /* The ledger must know what is hidden, before it is removed. */
        if (!run.wish.folder && !c->keep && !c->dry_run)
            (void)fail_set(f, S3UP_USAGE,
                           "without a state folder nothing can be removed: name one with "
                           "--state-dir, or keep all with --keep");
        else if (drain_open(d, c->wait, c->watch, f) == 0)
            code = cli_drain_locked(&run, f);
        code = cli_end_run(&run, st, code, f);
        drain_close(d);
    }
    free(d);
    buf_free(&dir);
    buf_free(&target);
    return code;
}

/* ---- the verbs ---- */

/* A command. run is NULL for those that need neither keys nor a store. */
struct verb {
    const char *name;
    unsigned bit;
    const char *args, *what; /* as help shows them */
    int (*run)(const struct cli *, struct store *,
               struct fail *); /* an exit code, or -1 */
};

/* In the order in which help shows them. */
static const struct verb cli_verbs[] = {
    {"put", ON_PUT, "FILE... s3://BUCKET[/KEY]", "upload files; -r: whole folders",
     cli_put},
    {"get", ON_GET, "s3://BUCKET/KEY... [PATH]",
     "download objects; - is standard output, -r: all below a prefix", cli_get},
    {"drain", ON_DRAIN, "DIR s3://BUCKET[/PREFIX]",
     "upload the files that were left alone, then remove them", cli_drain},
    {"ls", ON_LS, "[s3://BUCKET[/PREFIX]]", "list buckets, or objects", cli_ls},
    {"stat", ON_STAT, "s3://BUCKET[/KEY]", "show what the store says of an object",
     cli_stat},
    {"rm", ON_RM, "s3://BUCKET/KEY...", "delete objects; -r: all below a prefix", cli_rm},
    {"cp", ON_CP, "s3://BUCKET/KEY... s3://BUCKET[/KEY]",
     "copy objects, without that they come here", cli_cp},
    {"mb", ON_MB, "s3://BUCKET", "make a bucket", cli_mb},
    {"rb", ON_RB, "s3://BUCKET", "remove an empty bucket", cli_rb},
    {"verify", ON_VERIFY, "FILE s3://BUCKET/KEY",
     "tell whether the stored object is what the file is", cli_verify},
    {"uploads", ON_UPLOADS, "[s3://BUCKET[/PREFIX]]",
     "list unfinished uploads: of this host, or those that the store holds", cli_uploads},
    {"abort", ON_ABORT, "FILE s3://BUCKET/KEY", "give up an unfinished upload",
     cli_abort},
    {"sweep", ON_SWEEP, "s3://BUCKET[/PREFIX]", "abort uploads that nobody goes on with",
     cli_sweep},
    {"history", ON_HISTORY, "[PATTERN]", "list what this host has uploaded", cli_history},
    {"presign", ON_PRESIGN, "s3://BUCKET/KEY", "print a URL that works without keys",
     cli_presign},
    {"help", ON_HELP,
     "[COMMAND | man | completion SHELL | systemd [UNIT] | cron | openwrt]",
     "explain all, or one command", NULL},
    {"version", ON_VERSION, "", "print the version", NULL},
};

#define CLI_VERBS (sizeof cli_verbs / sizeof *cli_verbs)

/* NULL: there is no such command, and that was said. */
static const struct verb *
cli_find_verb(const char *word)
{
    const char *near = NULL;
    unsigned distance = 4;

    /* As in "s3up -q put": options differ from verb to verb, so the verb is first. */
    if (word[0] == '-') {
        log_say(LOG_ERROR, "%s stands before the command: s3up COMMAND [OPTION...]",
                word);
        return NULL;
    }
    for (size_t i = 0; i < CLI_VERBS; i++) {
        if (!strcmp(word, cli_verbs[i].name))
            return &cli_verbs[i];
        cli_nearer(word, cli_verbs[i].name, &near, &distance);
    }
    if (near)
        log_say(LOG_ERROR, "there is no command \"%s\"; did you mean \"%s\"?", word,
                near);
    else
        log_say(LOG_ERROR, "there is no command \"%s\"; s3up help lists them", word);
    return NULL;
}

/* ---- help, from the tables ----
 *
 * All that explains s3up is printed from cli_verbs, cli_options and the exit codes, so
 * that none of it can be forgotten. The scripts for shells only complete words; they know
 * nothing that the tables do not. */

/* All commands and exit codes: to stdout if it was asked for, else to stderr. */
static void
cli_usage(FILE *to)
{
    fputs("s3up moves files between this machine and any S3-compatible store.\n\n", to);
    for (size_t i = 0; i < CLI_VERBS; i++)
        fprintf(to, "  s3up %-8s %-41s %s\n", cli_verbs[i].name, cli_verbs[i].args,
                cli_verbs[i].what);
    fputs("\ns3up help COMMAND shows the options of a command.\n\nExit codes:\n", to);
#define CLI_EXIT_LINE(name, number, text) fprintf(to, "  %3d  %s\n", number, text);
    S3UP_EXITS(CLI_EXIT_LINE)
#undef CLI_EXIT_LINE
}

/* "-q, --quiet" or "    --region NAME" */
static void
cli_put_option(const struct cli_option *o, struct buf *out)
{
    if (o->letter) {
        buf_char(out, '-');
        buf_char(out, o->letter);
        buf_str(out, ", ");
    } else {
        buf_str(out, "    ");
    }
    buf_str(out, "--");
    buf_str(out, o->name);
    if (o->value) {
        buf_str(out, o->kind == CLI_MAYBE ? "" : " ");
        buf_str(out, o->value);
    }
}

/* One command with its options. */
static void
cli_help_verb(const struct verb *v)
{
    bool options = false;

    for (size_t i = 0; i < CLI_OPTIONS; i++)
        options |= (cli_options[i].verbs & v->bit) != 0;
    printf("s3up %s%s%s%s\n\n  %s\n", v->name, options ? " [OPTION...]" : "",
           *v->args ? " " : "", v->args, v->what);
    for (size_t i = 0; i < CLI_OPTIONS; i++) {
        struct buf left = buf_upto(256);

        if (!(cli_options[i].verbs & v->bit))
            continue;
        cli_put_option(&cli_options[i], &left);
        printf("\n  %-30s %s", buf_text(&left), cli_options[i].what);
        buf_free(&left);
    }
    fputs(options ? "\n" : "", stdout);
}

/* A text in a man page: backslashes, leading dots and hyphens mean something there. */
static void
cli_man_text(const char *s)
{
    for (; *s; s++)
        if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\\')
            fputs("\\e", stdout);
        else
            putchar(*s);
}

/* The man page, in the macros of man(7). */
static void
cli_man(void)
{
    printf(".TH S3UP 1 \"\" \"s3up %s\" \"User Commands\"\n.SH NAME\ns3up \\- move files "
           "between "
           "this machine and any S3\\-compatible store\n.SH SYNOPSIS\n",
           S3UP_VERSION);
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf(".B s3up %s\n[OPTION...] ", cli_verbs[i].name);
        cli_man_text(cli_verbs[i].args);
        puts("\n.br");
    }
    puts(".SH COMMANDS");
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf(".TP\n.B %s\n", cli_verbs[i].name);
        cli_man_text(cli_verbs[i].what);
        puts(".");
    }
    puts(
        ".SH OPTIONS\nEach option has a variable that stands for it: S3UP_NO_CLOBBER for "
        "\\-\\-no\\-clobber.");
    for (size_t i = 0; i < CLI_OPTIONS; i++) {
        struct buf left = buf_upto(256);

        cli_put_option(&cli_options[i], &left);
        fputs(".TP\n.B ", stdout);
        cli_man_text(cli_options[i].letter ? buf_text(&left) : buf_text(&left) + 4);
        putchar('\n');
        cli_man_text(cli_options[i].what);
        fputs(" (", stdout);
        for (size_t k = 0, n = 0; k < CLI_VERBS; k++)
            if (cli_options[i].verbs & cli_verbs[k].bit)
                printf("%s%s", n++ ? ", " : "", cli_verbs[k].name);
        puts(").");
        buf_free(&left);
    }
    puts(".SH EXIT STATUS");
#define CLI_EXIT_ITEM(name, number, text) printf(".TP\n.B %d\n%s.\n", number, text);
    S3UP_EXITS(CLI_EXIT_ITEM)
#undef CLI_EXIT_ITEM
    puts(
        ".SH ENVIRONMENT\nAWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, "
        "AWS_PROFILE, AWS_REGION,\nAWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, "
        "SSL_CERT_FILE, AWS_CONFIG_FILE,\nAWS_SHARED_CREDENTIALS_FILE, http_proxy, "
        "https_proxy "
        "and no_proxy mean what they mean to other tools.\n.SH FILES\n~/.aws/config, "
        "~/.aws/credentials");
}

/* Must a value follow? */
static bool
cli_wants_value(const struct cli_option *o)
{
    return o->kind != CLI_FLAG && o->kind != CLI_MAYBE;
}

/* A function for bash: commands at the first word, then options; files by its own
 * means. */
static void
cli_complete_bash(void)
{
    fputs("_s3up() {\n    local word=${COMP_WORDS[COMP_CWORD]} options=\n    if [ "
          "\"$COMP_CWORD\" "
          "-eq 1 ]; then\n        COMPREPLY=($(compgen -W '",
          stdout);
    for (size_t i = 0; i < CLI_VERBS; i++)
        printf("%s%s", i ? " " : "", cli_verbs[i].name);
    puts("' -- \"$word\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in");
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf("    %s) options='", cli_verbs[i].name);
        for (size_t k = 0; k < CLI_OPTIONS; k++)
            if (cli_options[k].verbs & cli_verbs[i].bit)
                printf("--%s ", cli_options[k].name);
        puts("' ;;");
    }
    puts("    esac\n    case $word in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- "
         "\"$word\")) "
         ";;\n    esac\n}\ncomplete -o default -F _s3up s3up");
}

/* Descriptions stand in single quotes in both shells; in one of them, colons and brackets
 * mean something even there. */
static void
cli_quoted(const char *s, const char *escape)
{
    for (; *s; s++)
        if (*s == '\'' || strchr(":[]", *s))
            printf(*s == '\'' ? "'\\''" : "%s%c", escape, *s);
        else
            putchar(*s);
}

/* The same for zsh, which shows what each is for, and knows which options want a
 * value. */
static void
cli_complete_zsh(void)
{
    puts("#compdef s3up\n_s3up() {\n    if (( CURRENT == 2 )); then\n        local -a "
         "verbs=(");
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf("            '%s:", cli_verbs[i].name);
        cli_quoted(cli_verbs[i].what, "\\");
        puts("'");
    }
    puts("        )\n        _describe command verbs\n        return\n    fi\n    local "
         "-a options\n"
         "    case $words[2] in");
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf("    %s) options=(", cli_verbs[i].name);
        for (size_t k = 0; k < CLI_OPTIONS; k++)
            if (cli_options[k].verbs & cli_verbs[i].bit) {
                printf("\n            '--%s%s[", cli_options[k].name,
                       cli_wants_value(&cli_options[k]) ? "=" : "");
                cli_quoted(cli_options[k].what, "\\");
                printf("]%s'", cli_wants_value(&cli_options[k]) ? ":value:_files" : "");
            }
        puts(") ;;");
    }
    puts("    esac\n    _arguments -S $options '*:file:_files'\n}\n_s3up \"$@\"");
}

/* And for fish: one line for each command and option. */
static void
cli_complete_fish(void)
{
    for (size_t i = 0; i < CLI_VERBS; i++) {
        printf("complete -c s3up -n __fish_use_subcommand -f -a %s -d '",
               cli_verbs[i].name);
        cli_quoted(cli_verbs[i].what, "");
        puts("'");
        for (size_t k = 0; k < CLI_OPTIONS; k++)
            if (cli_options[k].verbs & cli_verbs[i].bit) {
                printf(
                    "complete -c s3up -n '__fish_seen_subcommand_from %s' -l %s%s -d '",
                    cli_verbs[i].name, cli_options[k].name,
                    cli_wants_value(&cli_options[k]) ? " -r" : "");
                cli_quoted(cli_options[k].what, "");
                puts("'");
            }
    }
}

/* What other programs need to start us; @ is where this program lies. All of them read
 * /etc/s3up/drain: what it sets is our environment, and keys stand in no command line,
 * which all users can see. A timer starts a run that ends; a service watches. */
static const struct cli_recipe {
    const char *kind, *file, *text;
} cli_recipes[] = {
#define CLI_NEEDS                                                                        \
    "# /etc/s3up/drain, for root alone, has lines like these:\n"                         \
    "#   SPOOL=/var/spool/out\n#   TARGET=s3://bucket/prefix\n"                          \
    "#   AWS_ACCESS_KEY_ID=...\n#   AWS_SECRET_ACCESS_KEY=...\n"                         \
    "#   S3UP_ENDPOINT_URL=https://...\n"
#define CLI_UNIT(what)                                                                   \
    "[Unit]\nDescription=" what "\nWants=network-online.target\n"                        \
    "After=network-online.target\n\n"
#define CLI_SERVICE(type)                                                                \
    "[Service]\nType=" type "\nEnvironmentFile=/etc/s3up/drain\n"                        \
    "StateDirectory=s3up\nStateDirectoryMode=0700\n"                                     \
    "Environment=S3UP_STATE_DIR=/var/lib/s3up\nNoNewPrivileges=yes\n"                    \
    "PrivateTmp=yes\nNice=10\n"
    {"systemd", "s3up-drain.service",
     CLI_NEEDS CLI_UNIT("Empty a spool folder into an S3 store") CLI_SERVICE(
         "oneshot") "# 3: something was passed over; 8: another run is at work\n"
                    "SuccessExitStatus=3 8\nExecStart=@ drain ${SPOOL} ${TARGET}\n"},
    {"systemd", "s3up-drain.timer",
     "[Unit]\nDescription=Empty a spool folder every minute\n\n"
     "[Timer]\nOnBootSec=1min\nOnUnitInactiveSec=1min\n\n"
     "[Install]\nWantedBy=timers.target\n"},
    {"systemd", "s3up-drain.path",
     "[Unit]\nDescription=Empty a spool folder when something comes\n\n"
     "[Path]\n# the SPOOL of /etc/s3up/drain; folders below it are not seen\n"
     "PathChanged=/var/spool/out\n\n[Install]\nWantedBy=multi-user.target\n"},
    {"systemd", "s3up-watch.service",
     CLI_UNIT("Empty a spool folder as files come")
         CLI_SERVICE("exec") "Restart=on-failure\nRestartSec=1min\n"
                             "ExecStart=@ drain --watch ${SPOOL} ${TARGET}\n\n"
                             "[Install]\nWantedBy=multi-user.target\n"},
    {"systemd", "s3up-sweep.service",
     CLI_UNIT("Abort uploads that nobody goes on with")
         CLI_SERVICE("oneshot") "ExecStart=@ sweep --older-than 8d ${TARGET}\n"},
    {"systemd", "s3up-sweep.timer",
     "[Unit]\nDescription=Abort uploads that nobody goes on with, once a week\n\n"
     "[Timer]\nOnCalendar=weekly\nRandomizedDelaySec=1h\nPersistent=true\n\n"
     "[Install]\nWantedBy=timers.target\n"},
#undef CLI_UNIT
#undef CLI_SERVICE
    {"cron", "/etc/cron.d/s3up",
     CLI_NEEDS
     "* * * * * root set -a; . /etc/s3up/drain && exec @ drain -q \"$SPOOL\" "
     "\"$TARGET\"\n"
     "7 3 * * 0 root set -a; . /etc/s3up/drain && exec @ sweep -q --older-than 8d "
     "\"$TARGET\"\n"},
    {"openwrt", "/etc/init.d/s3up",
     "#!/bin/sh /etc/rc.common\n" CLI_NEEDS "START=95\nSTOP=10\nUSE_PROCD=1\n\n"
     "run() { # NAME COMMAND...\n\tprocd_open_instance \"$1\"\n\tshift\n"
     "\tprocd_set_param command /bin/sh -c "
     "'set -a; . /etc/s3up/drain; eval \"$0\"' \"$1\"\n"
     "\tprocd_set_param respawn 1800 60 0\n\tprocd_set_param stdout 1\n"
     "\tprocd_set_param stderr 1\n\tprocd_close_instance\n}\n\n"
     "start_service() {\n\t[ -r /etc/s3up/drain ] || return 1\n"
     "\trun drain 'exec @ drain --watch \"$SPOOL\" \"$TARGET\"'\n"
     "\trun sweep '@ sweep --older-than 8d \"$TARGET\"; sleep 7d'\n}\n"},
#undef CLI_NEEDS
};

/* Prints them: all of a kind, or one file. False if there is none. A path of ours that a
 * shell or systemd would read in another way is not printed: the usual place is. */
static bool
cli_print_recipes(const char *kind, const char *file)
{
    char self[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    bool any = false;

    if (n <= 0 || strpbrk(self, " \"'\\$%"))
        s3_copy_name(self, sizeof self, SPAN("/usr/local/bin/s3up"));
    for (size_t i = 0; i < sizeof cli_recipes / sizeof *cli_recipes; i++) {
        const struct cli_recipe *r = &cli_recipes[i];

        if (strcmp(kind, r->kind) != 0 || (file && strcmp(file, r->file) != 0))
            continue;
        if (!file && !strcmp(kind, "systemd")) /* of several each needs a name */
            printf("%s# %s\n", any ? "\n" : "", r->file);
        for (const char *s = r->text; *s; s++)
            if (*s == '@')
                fputs(self, stdout);
            else
                (void)putchar(*s);
        any = true;
    }
    return any;
}

/* help, of all kinds. The exit code; what is wrong was said. */
static int
cli_help(const struct cli *c)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = {{"bash", cli_complete_bash},
                  {"zsh", cli_complete_zsh},
                  {"fish", cli_complete_fish}};
    const char *word = c->count ? c->words[0] : NULL;
    const struct verb *verb;

    /* Recipes go by their own names, which no verb has. */
    if (word && c->count <= 2 &&
        cli_print_recipes(word, c->count > 1 ? c->words[1] : NULL))
        return S3UP_OK;
    if (c->count > 1 && strcmp(word, "completion") != 0) {
        log_say(LOG_ERROR, "help takes one command, but got \"%s\" too", c->words[1]);
        return S3UP_USAGE;
    }
    if (!word) {
        cli_usage(stdout);
        return S3UP_OK;
    }
    if (!strcmp(word, "man")) {
        cli_man();
        return S3UP_OK;
    }
    if (!strcmp(word, "completion")) {
        for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
            if (c->count == 2 && !strcmp(c->words[1], shells[i].shell)) {
                shells[i].print();
                return S3UP_OK;
            }
        log_say(LOG_ERROR, "completion is for bash, zsh or fish");
        return S3UP_USAGE;
    }
    verb = cli_find_verb(word);
    if (!verb)
        return S3UP_USAGE;
    cli_help_verb(verb);
    return S3UP_OK;
}

static int
cli_version(const struct cli *c)
{
    if (c->count) {
        log_say(LOG_ERROR, "version takes no arguments, but got \"%s\"", c->words[0]);
        return S3UP_USAGE;
    }
    printf("s3up %s (sha256: %s, crc: %s)\n", S3UP_VERSION,
           cpu_has(CPU_SHA) ? "hardware" : "portable",
           cpu_has(CPU_CLMUL) ? "hardware" : "portable");
    return S3UP_OK;
}

/* Is help asked for among the words behind a verb? Then nothing else counts, not even
 * what is wrong with the rest. */
static bool
cli_wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

/* Runs a verb that speaks to a store, or could: two of them know something without one,
 * and must work without keys. Returns the exit code; a failure was said. */
static int
cli_run(const struct verb *verb, const struct cli *c)
{
    struct cli_store *s = calloc(1, sizeof *s);
    struct fail f = {S3UP_OK, ""};
    int code = -1;

    if (verb->bit == ON_HISTORY || (verb->bit == ON_UPLOADS && !c->count))
        code = verb->run(c, NULL, &f); /* it asks this host only */
    else if (!s)
        (void)fail_set(&f, S3UP_LATER, "no memory");
    else if (cli_open(c, s, &f) == 0) {
        code = verb->run(c, &s->store, &f);
        cli_close(s);
    }
    free(s);
    return code < 0 ? cli_failed(c, &f, verb->name,
                                 c->count && !strcmp(c->words[c->count - 1], "-"))
                    : code;
}

/* Programs that embed s3up bring a main of their own. */
#ifdef S3UP_NO_MAIN
#define main s3up_main
int s3up_main(int argc, char **argv);
#endif

/* The first word is a verb, or one that other programs have for help and version. */
int
main(int argc, char **argv)
{
    const struct verb *verb;
    const char *word = argc > 1 ? argv[1] : "";
    struct cli cli;
    int code;

    /* Before anything can write or open something. */
    os_signals();
    if (!os_standard())
        return S3UP_LATER; /* and nowhere to say it */
    if (argc < 2) {
        cli_usage(stderr);
        return S3UP_USAGE;
    }
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        word = "help";
    else if (!strcmp(word, "--version") || !strcmp(word, "-V"))
        word = "version";
    verb = cli_find_verb(word);
    if (!verb)
        return S3UP_USAGE;
    if (cli_wants_help(argc - 2, argv + 2)) {
        cli_help_verb(verb);
        return cli_finish(S3UP_OK);
    }
    /* Missing memory is seen by the buffer; all else is a mistake in what was said. */
    if (!cli_parse(&cli, verb->name, verb->bit, argc - 2, argv + 2))
        code = cli.text.bad == ENOMEM ? S3UP_LATER : S3UP_USAGE;
    else if (verb->run)
        code = cli_run(verb, &cli);
    else
        code = verb->bit == ON_HELP ? cli_help(&cli) : cli_version(&cli);
    buf_free(&cli.text);
    return cli_finish(code);
}
