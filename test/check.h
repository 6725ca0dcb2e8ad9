/*
 * check.h: the harness of the tests. A check prints nothing when it holds; when it does
 * not, it prints file and line, the name of the case, what came and what was wanted. The
 * last line of every test program is `N passed, M failed`, its exit code 1 if M is not 0.
 *
 * Include it behind s3up.c: it knows struct span and struct buf.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>

#define CHECK_FUNCTION __attribute__((unused)) static

static unsigned long check_passed, check_failed;

/* What is being tested just now. Set by CASE, so that a check in a loop over a table tells
 * which line of the table it was. */
static char check_name[200];

#define CASE(...) (void)snprintf(check_name, sizeof check_name, __VA_ARGS__)

/* Any bytes, readable: a failed comparison of keys must not garble the terminal. */
CHECK_FUNCTION void
check_show(const char *label, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    printf("    %s (%lu bytes): \"", label, (unsigned long)n);
    for (size_t i = 0; i < n && i < 600; i++)
        if (p[i] >= ' ' && p[i] < 127 && p[i] != '"' && p[i] != '\\')
            putchar(p[i]);
        else
            printf("\\x%02x", (unsigned)p[i]);
    printf("%s\"\n", n > 600 ? "..." : "");
}

CHECK_FUNCTION bool
check_count(bool good, const char *file, int line, const char *what)
{
    if (good) {
        check_passed++;
        return true;
    }
    check_failed++;
    printf("%s:%d: [%s] %s\n", file, line, check_name, what);
    return false;
}

CHECK_FUNCTION void
check_number(int64_t got, int64_t want, const char *file, int line, const char *what)
{
    if (!check_count(got == want, file, line, what))
        printf("    got %" PRId64 ", want %" PRId64 " (hex %" PRIx64 ", %" PRIx64 ")\n",
               got, want, (uint64_t)got, (uint64_t)want);
}

CHECK_FUNCTION void
check_bytes(struct span got, struct span want, const char *file, int line,
            const char *what)
{
    bool same = got.n == want.n && (!got.n || !memcmp(got.p, want.p, got.n));

    if (check_count(same, file, line, what))
        return;
    check_show("got ", got.p, got.n);
    check_show("want", want.p, want.n);
}

/* s is a C string, a NULL counts as an empty one. */
CHECK_FUNCTION struct span
check_string(const char *s)
{
    return (struct span){s, s ? strlen(s) : 0};
}

/* Initialises a struct span in a static table; the literal may hold NULs. */
/* clang-format off */
#define BYTES(literal) {"" literal, sizeof(literal) - 1}
/* clang-format on */
#define COUNT(table) (sizeof(table) / sizeof *(table))

#define CHECK(condition) check_count((condition), __FILE__, __LINE__, #condition)
#define CHECK_NUM(got, want)                                                             \
    check_number((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got)
#define CHECK_SPAN(got, want) check_bytes((got), (want), __FILE__, __LINE__, #got)
#define CHECK_TEXT(got, want)                                                            \
    check_bytes((got), check_string(want), __FILE__, __LINE__, #got)
#define CHECK_STR(got, want)                                                             \
    check_bytes(check_string(got), check_string(want), __FILE__, __LINE__, #got)

CHECK_FUNCTION int
check_end(void)
{
    printf("%lu passed, %lu failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
