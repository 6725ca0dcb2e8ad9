/*
 * fuzz_sums.c: what must hold for digests and checksums, whatever the bytes.
 *
 *   1. Any slicing gives the same result, and nothing added in between changes it.
 *   2. The CPU's instructions and the portable code agree, from any address.
 *   3. A CRC is what a loop over bits makes it, and two of them join into that of both.
 *   4. HMAC is its definition, and its result may be written over its key.
 */
#include "fuzz.h"

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT(""),
    FUZZ_TEXT("abc"),
    FUZZ_TEXT("fifty-five bytes, so the length just fills this block.."),
    FUZZ_TEXT("fifty-six bytes, so the length needs a block of its own."),
    FUZZ_TEXT("\x05\x07\x40 one block of sixty-four bytes has so many, and this text "
              "more than that: "
              "so it is cut into slices that end in the middle of a block, or at its "
              "end........."),
    FUZZ_TEXT(
        "\x10\xff\x0f................................................................"
        "................................................................................"
        "................................................................................"
        "..............................................................................."
        "."),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {
    FUZZ_TEXT("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    FUZZ_TEXT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    FUZZ_TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    FUZZ_TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"),
    FUZZ_TEXT("0123456789abcdef0123456789abcdef0123456789abcdef01234567"),
    FUZZ_TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456"),
    FUZZ_END};

static void
whole(enum sum_kind kind, struct span s, unsigned char *out)
{
    struct sum sum;

    sum_init(&sum, kind);
    sum_add(&sum, s.p, s.n);
    sum_end(&sum, out);
}

/* Slices of lengths that the input itself gives, an empty one behind each. */
static void
sliced(enum sum_kind kind, struct span s, unsigned char *out)
{
    struct sum sum;
    size_t at = 0;

    sum_init(&sum, kind);
    while (at < s.n) {
        size_t n = (unsigned char)s.p[at] % 200u;
        struct fuzz_copy c = fuzz_copy(s.p + at, n < s.n - at ? n : s.n - at);

        sum_add(&sum, c.s.p, c.s.n);
        sum_add(&sum, NULL, 0);
        at += c.s.n ? c.s.n : 1;
        if (!c.s.n)
            sum_add(&sum, s.p + at - 1, 1);
        free(c.block);
    }
    sum_end(&sum, out);
}

/* From addresses that no instruction likes. */
static void
shifted(enum sum_kind kind, struct span s, unsigned char *out)
{
    size_t by = 1 + s.n % 15;
    char *block = malloc(s.n + by);

    if (!block)
        abort();
    if (s.n)
        memcpy(block + by, s.p, s.n);
    whole(kind, span_at(block + by, s.n), out);
    free(block);
}

/* A digest over the message and its padding, laid out in full: the blocks' function is held
 * against published values elsewhere, here it is what is done with the last bytes. */
static void
padded(enum sum_kind kind, struct span s, unsigned char *out)
{
    size_t n = (s.n + 9 + 63) / 64 * 64;
    unsigned char *all = calloc(n, 1);
    struct sum start;

    if (!all)
        abort();
    if (s.n)
        memcpy(all, s.p, s.n);
    all[s.n] = 0x80;
    for (unsigned i = 0; i < 8; i++)
        all[kind == SUM_MD5 ? n - 8 + i : n - 1 - i] =
            (unsigned char)((uint64_t)s.n * 8 >> 8 * i);
    sum_init(&start, kind);
    if (kind == SUM_MD5)
        md5_blocks(start.h, all, n / 64);
    else
        sha256_portable(start.h, all, n / 64);
    for (size_t i = 0; i < sum_kinds[kind].size; i++)
        out[i] =
            (unsigned char)(start.h[i / 4] >> 8 * (kind == SUM_MD5 ? i % 4 : 3 - i % 4));
    free(all);
}

static uint64_t
by_bits(uint64_t poly, unsigned width, struct span s)
{
    uint64_t ones = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1, v = ones;

    for (size_t i = 0; i < s.n; i++) {
        v ^= (unsigned char)s.p[i];
        for (unsigned k = 0; k < 8; k++)
            v = v % 2 ? v / 2 ^ poly : v / 2;
    }
    return v ^ ones;
}

static uint64_t
big_endian(const unsigned char *p, size_t n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | *p++;
    return v;
}

static void
claim_crc(enum sum_kind kind, struct span s)
{
    static const uint64_t polys[] = {0xedb88320, 0x82f63b78, 0x9a6c9329ac4bc9b5};
    size_t cut = s.n ? (unsigned char)s.p[0] * s.n / 256 : 0, size = sum_kinds[kind].size;
    struct span ends[2] = {span_at(s.p, cut), span_at(s.p + cut, s.n - cut)};
    unsigned char all[8], head[8], tail[8];

    whole(kind, s, all);
    whole(kind, ends[0], head);
    whole(kind, ends[1], tail);
    MUST(big_endian(all, size) ==
         by_bits(polys[kind - SUM_CRC32], (unsigned)size * 8, s));
    MUST(crc_join(sum_crc(kind), big_endian(head, size), big_endian(tail, size),
                  ends[1].n) == big_endian(all, size));
}

static void
claim_hmac(struct span s)
{
    size_t key_n = s.n ? (unsigned char)s.p[0] % (s.n < 160 ? s.n : 160) : 0;
    unsigned char pad[2][64] = {{0}}, inner[32], want[32], got[32], key[160] = {0};
    struct span text = span_at(s.p + key_n, s.n - key_n);
    struct sum sum;

    if (key_n > 64)
        whole(SUM_SHA256, span_at(s.p, key_n), pad[0]);
    else if (key_n)
        memcpy(pad[0], s.p, key_n);
    for (unsigned i = 0; i < 64; i++) {
        pad[1][i] = pad[0][i] ^ 0x5c;
        pad[0][i] ^= 0x36;
    }
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad[0], 64);
    sum_add(&sum, text.p, text.n);
    sum_end(&sum, inner);
    sum_init(&sum, SUM_SHA256);
    sum_add(&sum, pad[1], 64);
    sum_add(&sum, inner, 32);
    sum_end(&sum, want);
    hmac_of(s.p, key_n, text, got);
    MUST(sum_equal(got, want, 32));
    if (key_n)
        memcpy(key, s.p, key_n);
    hmac_of(key, key_n, text, key);
    MUST(sum_equal(key, want, 32));
    want[s.n % 32] ^= (unsigned char)(1 << s.n % 8);
    MUST(!sum_equal(got, want, 32));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_copy c = fuzz_copy(data, size);

    for (enum sum_kind kind = 0; kind < SUM_KINDS; kind++) {
        unsigned char want[SHA256_SIZE], got[3][SHA256_SIZE];

        cpu_found = CPU_ASKED; /* nothing but portable code */
        whole(kind, c.s, want);
        cpu_found = 0;
        whole(kind, c.s, got[0]);
        sliced(kind, c.s, got[1]);
        shifted(kind, c.s, got[2]);
        if (!sum_crc(kind)) {
            unsigned char long_way[SHA256_SIZE];

            padded(kind, c.s, long_way);
            MUST(!memcmp(long_way, want, sum_kinds[kind].size));
        }
        for (unsigned i = 0; i < 3; i++)
            MUST(!memcmp(got[i], want, sum_kinds[kind].size));
        if (sum_crc(kind))
            claim_crc(kind, c.s);
    }
    claim_hmac(c.s);
    free(c.block);
    return 0;
}
