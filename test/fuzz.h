/*
 * fuzz.h: what the fuzz targets share.
 *
 * A target is one file, fuzz_NAME.c: it includes this one, which brings in the whole of
 * s3up.c, and defines LLVMFuzzerTestOneInput, fuzz_seeds and fuzz_words. It runs in two
 * ways:
 *
 *   clang ... -fsanitize=fuzzer,address,undefined test/fuzz_xml.c     guided, for hours
 *   cc    ... test/fuzz_xml.c test/fuzz_main.c                        seeded, for `make test`
 *
 * A target claims more than that nothing crashes: each MUST is a sentence about any input
 * whatsoever. Where a claim needs a second opinion, the target brings its own small
 * parser, which shares no code with s3up.c.
 */
#ifndef FUZZ_H
#define FUZZ_H

#ifdef FUZZ_DRIVER /* it knows nothing of s3up */
#include <stddef.h>
#include <stdint.h>
#else /* before all else, because s3up.c says which system it wants */
#define S3UP_NO_MAIN
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* no target needs all of them */
#include "../s3up.c"
#pragma GCC diagnostic pop
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_text {
    const char *p; /* NULL ends the list */
    size_t n;
};

#define FUZZ_TEXT(literal)                                                               \
    {                                                                                    \
        "" literal, sizeof(literal) - 1                                                  \
    }
#define FUZZ_END                                                                         \
    {                                                                                    \
        NULL, 0                                                                          \
    }

/* Where mutation starts from, and what it likes to insert: one list each, in the target. */
extern const struct fuzz_text fuzz_seeds[], fuzz_words[];

#ifndef FUZZ_DRIVER

#define MUST(claim) ((claim) ? (void)0 : fuzz_broken(#claim, __FILE__, __LINE__))

static void
fuzz_broken(const char *claim, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, claim);
    abort();
}

/* A copy that fills its block to the last byte, so that ASan sees whoever reads one more;
 * an empty one lies behind the end of its block. */
struct fuzz_copy {
    struct span s;
    char *block;
};

static inline struct fuzz_copy
fuzz_copy(const void *p, size_t n)
{
    struct fuzz_copy c = {.block = malloc(n ? n : 1)};

    if (!c.block)
        abort();
    if (n)
        memcpy(c.block, p, n);
    c.s = span_at(c.block + (n ? 0 : 1), n);
    return c;
}

/* Does s lie within all? An empty span without an address does, too. */
static inline bool
fuzz_within(struct span s, struct span all)
{
    if (!s.p)
        return s.n == 0;
    return s.p >= all.p && s.n <= all.n && s.p - all.p <= (ptrdiff_t)(all.n - s.n);
}

#endif
#endif
