/*
 * fuzz_main.c: runs a fuzz target without libFuzzer, from a seed, the same each time.
 *
 *   fuzz_NAME [-n COUNT] [-s SEED]     so many mutated inputs (default 5,000)
 *   fuzz_NAME FILE...                  these inputs, as they are
 *   fuzz_NAME --corpus DIR             writes the seeds there, for libFuzzer or AFL++
 *   fuzz_NAME --dict                   prints the words, for their -dict and -x
 *
 * Inputs run in a child process. When one kills it, by a broken claim, a sanitizer or the
 * alarm clock, the parent shows the input and a new child goes on behind it. Ends with
 * "N passed, M failed".
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS under -std=c99 */
#define FUZZ_DRIVER
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define INPUT_MAX  4096 /* bytes of a mutated input */
#define POOL       256 /* inputs that mutation starts from: the seeds, then their children */
#define PATIENCE   10 /* seconds that one input may take */
#define ENOUGH_BAD 5  /* failures after which the rest would teach nothing new */

struct input {
    size_t n;
    uint8_t p[INPUT_MAX];
};

/* What child and parent share: the parent reads it when the child is gone. */
struct shared {
    uint64_t done; /* inputs that were begun */
    struct input now;
};

static struct shared *shared;
static struct input pool[POOL];
static size_t pool_n;
static uint64_t state;

static uint64_t
next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t
below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

static size_t
count(const struct fuzz_text *list)
{
    size_t n = 0;

    while (list[n].p)
        n++;
    return n;
}

/* Puts n bytes in place of the `out` bytes at `at`; what does not fit falls off the end. */
static void
splice(struct input *in, size_t at, size_t out, const void *p, size_t n)
{
    size_t tail = in->n - at - out, room = INPUT_MAX - at;

    n = n < room ? n : room;
    tail = tail < room - n ? tail : room - n;
    memmove(in->p + at + n, in->p + at + out, tail);
    if (n)
        memcpy(in->p + at, p, n);
    in->n = at + n + tail;
}

/* Some bytes of an input, to be put somewhere else. */
static size_t
piece(const struct input *from, uint8_t *out)
{
    size_t at = below(from->n), n = below(from->n - at + 1);

    n = n > 64 && below(4) ? below(64) : n;
    memcpy(out, from->p + at, n);
    return n;
}

static void
mutate(struct input *in)
{
    static const char odd[] =
        "\0\1\t\n\r \"#$%&'+,-./09:;<=>?@AZ[\\]az{|}~\x7f\x80\xbf\xc0"
        "\xed\xa0\xef\xf4\xff";
    uint8_t bytes[INPUT_MAX];
    size_t at = below(in->n + 1), out = below(in->n - at + 1), n;
    const struct fuzz_text *word = &fuzz_words[below(count(fuzz_words))];

    out = out > 16 && below(4) ? below(16) : out;
    switch (below(9)) {
    case 0:
        if (at < in->n)
            in->p[at] = (uint8_t)(in->p[at] ^ 1u << below(8));
        break;
    case 1:
        if (at < in->n)
            in->p[at] = (uint8_t)next();
        break;
    case 2: /* a byte that means something somewhere */
        n = below(sizeof odd - 1);
        splice(in, at, at < in->n && n % 2, &odd[n], 1);
        break;
    case 3:
    case 4:
        splice(in, at, below(2) ? 0 : out, word->p, word->n);
        break;
    case 5:
        splice(in, at, out, NULL, 0);
        break;
    case 6: /* the same again */
        n = piece(in, bytes);
        splice(in, at, 0, bytes, n);
        break;
    case 7:
        n = piece(&pool[below(pool_n)], bytes);
        splice(in, at, out, bytes, n);
        break;
    default: /* depth and length: one thing many times */
        for (n = below(40); n && word->n; n--)
            splice(in, at, 0, word->p, word->n);
    }
}

/* In a block of exactly its size: ASan then sees a read behind the end. */
static void
run(const uint8_t *p, size_t n)
{
    uint8_t *block = malloc(n ? n : 1);

    if (!block)
        abort();
    if (n)
        memcpy(block, p, n);
    (void)alarm(PATIENCE);
    LLVMFuzzerTestOneInput(n ? block : block + 1, n);
    (void)alarm(0);
    free(block);
}

/* The child: all inputs, of which those before `from` are made but not run, since each
 * input depends on the ones before it. */
static void
child(uint64_t iterations, uint64_t from)
{
    struct input *in = &shared->now;

    for (uint64_t i = 0; i < iterations; i++) {
        *in = pool[i < pool_n ? (size_t)i : below(pool_n)];
        if (i >= pool_n) {
            for (size_t n = 1 + below(6); n; n--)
                mutate(in);
            if (!below(4))
                pool[pool_n < POOL ? pool_n++ : below(POOL)] = *in;
        }
        if (i < from)
            continue;
        shared->done = i + 1;
        run(in->p, in->n);
    }
    _exit(0);
}

static void
show(const struct input *in)
{
    fputs("the input, as a C string: \"", stderr);
    for (size_t i = 0; i < in->n; i++) {
        uint8_t c = in->p[i];

        if (c >= ' ' && c < 127 && c != '"' && c != '\\')
            fputc(c, stderr);
        else
            fprintf(stderr, "\\%03o", (unsigned)c);
    }
    fputs("\"\n", stderr);
}

static int
all(uint64_t iterations, uint64_t seed)
{
    uint64_t from = 0, failed = 0;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    while (from < iterations && failed < ENOUGH_BAD) {
        int status;
        pid_t pid;

        state = seed;
        pool_n = 0;
        for (const struct fuzz_text *s = fuzz_seeds; s->p && pool_n < POOL; s++) {
            pool[pool_n].n = s->n < INPUT_MAX ? s->n : INPUT_MAX;
            memcpy(pool[pool_n].p, s->p, pool[pool_n].n);
            pool_n++;
        }
        fflush(NULL);
        pid = fork();
        if (pid < 0)
            return 2;
        if (pid == 0)
            child(iterations, from);
        if (waitpid(pid, &status, 0) != pid)
            return 2;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break;
        failed++;
        fprintf(stderr, "input %llu of seed %llu: %s\n", (unsigned long long)shared->done,
                (unsigned long long)seed,
                WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
                                    : "a sanitizer's report");
        show(&shared->now);
        from = shared->done;
    }
    printf("%llu inputs of seed %llu\n", (unsigned long long)shared->done,
           (unsigned long long)seed);
    printf("%d passed, %d failed\n", !failed,
           !!failed); /* one claim: no input breaks it */
    return failed ? 1 : 0;
}

static int
corpus(const char *folder)
{
    char path[4096];

    for (size_t i = 0; fuzz_seeds[i].p; i++) {
        FILE *f;

        snprintf(path, sizeof path, "%s/seed-%zu", folder, i);
        f = fopen(path, "wb");
        if (!f || fwrite(fuzz_seeds[i].p, 1, fuzz_seeds[i].n, f) != fuzz_seeds[i].n ||
            fclose(f) != 0) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

static int
dictionary(void)
{
    for (size_t i = 0; fuzz_words[i].p; i++) {
        putchar('"');
        for (size_t k = 0; k < fuzz_words[i].n; k++)
            printf("\\x%02x", (unsigned)(unsigned char)fuzz_words[i].p[k]);
        puts("\"");
    }
    return 0;
}

static int
files(int argc, char **argv)
{
    static uint8_t bytes[1 << 20];

    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");

        if (!f) {
            perror(argv[i]);
            return 2;
        }
        run(bytes, fread(bytes, 1, sizeof bytes, f));
        fclose(f);
    }
    printf("%d passed, 0 failed\n", argc - 1);
    return 0;
}

int
main(int argc, char **argv)
{
    uint64_t iterations = 5000, seed = 1;
    int at = 1;

    if (argc == 2 && !strcmp(argv[1], "--dict"))
        return dictionary();
    if (argc == 3 && !strcmp(argv[1], "--corpus"))
        return corpus(argv[2]);
    for (; at + 1 < argc && (!strcmp(argv[at], "-n") || !strcmp(argv[at], "-s")); at += 2)
        *(argv[at][1] == 'n' ? &iterations : &seed) = strtoull(argv[at + 1], NULL, 10);
    if (at == 1 && argc > 1 && argv[1][0] != '-')
        return files(argc, argv);
    if (at != argc) {
        fprintf(stderr,
                "usage: %s [-n COUNT] [-s SEED] | FILE... | --corpus DIR | --dict\n",
                argv[0]);
        return 2;
    }
    return all(iterations, seed);
}
