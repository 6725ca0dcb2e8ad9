/*
 * fuzz_store.c: what must hold for what rooms 7 and 11 make of bytes from the network, once
 * room 8 has taken them out of their frames: errors, lists page by page, certificates and
 * bundles of them. The first byte of an input says which claim the others are put to.
 * Nothing is sent, and replies come from memory.
 */
#include "feed.h"

#include "fuzz.h"

#define HEAD200 "HTTP/1.1 200 OK\r\n"

/* A list: its kind, number of slices, slices, pages with a NUL between. */
#define LIST(flags, pages) FUZZ_TEXT("1" flags "\x02\x05\x50" pages)

const struct fuzz_text fuzz_seeds[] = {
    FUZZ_TEXT("0\x01<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>no &lt;"
              "</Message><RequestId>r</RequestId><Region>eu-west-1</Region></Error>"),
    FUZZ_TEXT("0\x0f<ErrorResponse><Error><Code>SlowDown</Code></Error></ErrorResponse>"),
    FUZZ_TEXT("0\x10<!DOCTYPE html><html><h1>502</h1></html>"),
    LIST("\x00",
         "<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url"
         "</EncodingType><NextContinuationToken>t</NextContinuationToken><Contents>"
         "<Key>a+b</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified><ETag>"
         "&quot;x&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
         "</Contents></ListBucketResult>\0<ListBucketResult><Contents><Key>c</Key>"
         "</Contents><CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"
         "</ListBucketResult>"),
    LIST("\x00",
         "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key>"
         "</Contents></ListBucketResult>\0<ListBucketResult><IsTruncated>true"
         "</IsTruncated><NextMarker>b</NextMarker><Contents><Key>b</Key></Contents>"
         "</ListBucketResult>\0<ListBucketResult/>"),
    LIST("\x01",
         "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k"
         "</NextKeyMarker><NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>k"
         "</Key><UploadId>i</UploadId><Initiated>2013-05-24T00:00:00Z</Initiated>"
         "</Upload></ListMultipartUploadsResult>\0<ListMultipartUploadsResult/>"),
    LIST("\x02",
         "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1"
         "</NextPartNumberMarker><Part><PartNumber>1</PartNumber><ETag>x</ETag><Size>"
         "5</Size></Part></ListPartsResult>\0<ListPartsResult/>"),
    LIST("\x03",
         "<ListAllMyBucketsResult><Buckets><Bucket><Name>b</Name><CreationDate>"
         "2013-05-24T00:00:00Z</CreationDate></Bucket></Buckets><ContinuationToken>t"
         "</ContinuationToken></ListAllMyBucketsResult>\0<ListAllMyBucketsResult/>"),
    FUZZ_TEXT("2"
              "\x30\x82\x01\x79\x30\x82\x01\x1f\xa0\x03\x02\x01\x02\x02\x01\x01"
              "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x30\x14\x31\x12"
              "\x30\x10\x06\x03\x55\x04\x03\x0c\x09\x6c\x6f\x63\x61\x6c\x68\x6f"
              "\x73\x74\x30\x20\x17\x0d\x32\x30\x30\x31\x30\x31\x30\x30\x30\x30"
              "\x30\x30\x5a\x18\x0f\x32\x30\x39\x39\x31\x32\x33\x31\x32\x33\x35"
              "\x39\x35\x39\x5a\x30\x14\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c"
              "\x09\x6c\x6f\x63\x61\x6c\x68\x6f\x73\x74\x30\x59\x30\x13\x06\x07"
              "\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01"
              "\x07\x03\x42\x00\x04\x03\xa8\xe4\x43\xdc\xb7\xb3\x40\x10\x5d\x15"
              "\x1c\xca\x64\x19\x63\x69\x77\x3c\x4e\xcb\x32\x51\x1a\x9a\x56\x25"
              "\x55\x39\xdb\x9f\xa5\xa7\x25\xfe\x54\x82\x13\x3a\x60\xc7\xff\x9e"
              "\x2f\x0c\xe4\x76\xe2\x3f\xb0\x7e\xbf\x7b\x00\xd2\xef\x48\x2d\x3c"
              "\x35\xb6\x74\x3d\x7a\xa3\x60\x30\x5e\x30\x0f\x06\x03\x55\x1d\x13"
              "\x01\x01\xff\x04\x05\x30\x03\x01\x01\xff\x30\x2c\x06\x03\x55\x1d"
              "\x11\x04\x25\x30\x23\x82\x09\x6c\x6f\x63\x61\x6c\x68\x6f\x73\x74"
              "\x87\x04\x7f\x00\x00\x01\x87\x10\x00\x00\x00\x00\x00\x00\x00\x00"
              "\x00\x00\x00\x00\x00\x00\x00\x01\x30\x1d\x06\x03\x55\x1d\x0e\x04"
              "\x16\x04\x14\x21\x03\x7c\x44\x52\x8a\x41\x78\x49\x0e\xf2\x88\x1c"
              "\x3a\x72\x43\x07\x0a\x4f\x95\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d"
              "\x04\x03\x02\x03\x48\x00\x30\x45\x02\x20\x2c\x25\x58\x8a\x17\x49"
              "\xaa\xc2\xcc\x34\x52\x42\xfa\x4c\x7d\xba\x8e\xe4\xbd\x81\x40\x7e"
              "\xa8\x78\x6c\x8a\x50\xb0\x41\xf4\x34\x9e\x02\x21\x00\xbd\x0b\xef"
              "\x4d\xda\xee\x67\x48\xac\x9a\x45\x67\xc8\xf0\xff\xb4\x05\x47\xcf"
              "\xb6\xc2\xab\x86\x8e\x64\xe8\xec\xd1\x47\x53\x2d\x92"),
    FUZZ_TEXT("3-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
    FUZZ_END};

const struct fuzz_text fuzz_words[] = {FUZZ_TEXT("\0"),
                                       FUZZ_TEXT("<Error>"),
                                       FUZZ_TEXT("<Code>"),
                                       FUZZ_TEXT("</Code>"),
                                       FUZZ_TEXT("<Contents><Key>"),
                                       FUZZ_TEXT("</Key></Contents>"),
                                       FUZZ_TEXT("<CommonPrefixes><Prefix>"),
                                       FUZZ_TEXT("</Prefix></CommonPrefixes>"),
                                       FUZZ_TEXT("<IsTruncated>true</IsTruncated>"),
                                       FUZZ_TEXT("<EncodingType>url</EncodingType>"),
                                       FUZZ_TEXT("<NextMarker>"),
                                       FUZZ_TEXT("</NextMarker>"),
                                       FUZZ_TEXT("<NextContinuationToken>"),
                                       FUZZ_TEXT("<ListBucketResult>"),
                                       FUZZ_TEXT("</ListBucketResult>"),
                                       FUZZ_TEXT("<s:"),
                                       FUZZ_TEXT("&#x0;"),
                                       FUZZ_TEXT("%00"),
                                       FUZZ_TEXT("\x30\x82"),
                                       FUZZ_TEXT("\x30\x80"),
                                       FUZZ_TEXT("\xa3\x83\xff\xff\xff"),
                                       FUZZ_TEXT("\x17\x0d"),
                                       FUZZ_TEXT("-----BEGIN CERTIFICATE-----"),
                                       FUZZ_TEXT("-----END"),
                                       FUZZ_END};

/* The slices that an input asks for; what is left of it is in rest. */
static struct span
take_slices(struct span s, struct span *rest)
{
    size_t n = s.n ? (unsigned char)s.p[0] % 16 : 0;

    if (s.n <= n) {
        *rest = (struct span){NULL, 0};
        return *rest;
    }
    *rest = span_after(s, 1 + n);
    return span_at(s.p + 1, n);
}

/* From here on recv gives these bytes, so many at a time. */
static void
feed(struct feed_bytes *bytes, struct span all, struct span slices)
{
    static uint8_t sizes[16];

    *bytes = (struct feed_bytes){(const uint8_t *)all.p, all.n};
    for (size_t i = 0; i < slices.n; i++)
        sizes[i] = slices.p[i] ? (uint8_t)slices.p[i] : 255;
    feed_sizes = sizes;
    feed_n = slices.n;
    feed_at = 0;
    feed_memory = bytes;
}

/* A descriptor of our own, for a connection to own and close. */
static int
idle(void)
{
    int fd = os_open("/dev/null", O_RDWR, 0);

    if (fd < 0)
        abort();
    return fd;
}

/* ---- the store ---- */

static struct store store;

/* A store that has just been spoken to, over a connection that goes on. When that ends,
 * nobody listens at the address any more. */
static void
open_store(void)
{
    struct s3_config config = {.endpoint = "http://127.0.0.1:1",
                               .id = SPAN("id"),
                               .secret = SPAN("secret"),
                               .proxy = "",
                               .limit = 1000};
    struct fail f = {S3UP_OK, ""};

    log_most = LOG_ERROR;
    feed_swallow = true;
    MUST(s3_open(&store, &config, &f) == 0);
    MUST(s3_aim(&store, SPAN("127.0.0.1"), &f) == 0);
    store.conn.wire.fd = idle();
    store.conn.answered = store.conn.body_done = store.conn.reused = true;
    store.conn.idle_since = os_ticks();
}

static void
try_error(struct span s)
{
    static const unsigned states[] = {301, 307, 400, 403, 404, 408, 409, 411,
                                      412, 416, 429, 500, 501, 503, 520, 200};
    struct s3_call call = s3_to("GetObject", "GET", SPAN("b"), SPAN("k"));
    struct fail f = {S3UP_OK, ""};
    const struct s3_error *e = &store.error;

    if (!s.n)
        return;
    open_store();
    store.conn.head.n = 0;
    store.conn.head.status = states[(unsigned char)s.p[0] % 16];
    buf_put(&store.reply, span_after(s, 1));
    s3_read_error(&store);
    MUST(e->status == store.conn.head.status);
    MUST(memchr(e->code, 0, sizeof e->code) && memchr(e->message, 0, sizeof e->message));
    MUST(memchr(e->region, 0, sizeof e->region) &&
         memchr(e->request, 0, sizeof e->request));
    MUST(s3_judge(e) != S3_DONE);
    MUST(s3_refused(&store, &call, &f) == -1);
    MUST(f.code != S3UP_OK && f.text[0] && strlen(f.text) < FAIL_TEXT);
    if (s3_learn_region(&store, SPAN("bucket"), span_of(e->region)))
        MUST(s3_is_label(span_of(s3_region_of(&store, SPAN("bucket"))), false));
    s3_close(&store);
}

/* The pages that are still to come; each request is answered with the next. */
static struct span pages;
static struct buf page;

static void
next_page(const void *p, size_t n)
{
    static struct feed_bytes bytes;
    struct span body;

    MUST(span_starts(span_at(p, n), "GET /"));
    MUST(n > 4 && !memcmp((const char *)p + n - 4, "\r\n\r\n", 4));
    buf_clear(&page);
    feed_memory = &bytes;
    bytes = (struct feed_bytes){NULL, 0};
    if (!span_cut(&pages, 0, &body))
        return;
    buf_str(&page, HEAD200 "Content-Length: ");
    buf_num(&page, body.n);
    buf_str(&page, "\r\n\r\n");
    buf_put(&page, body);
    bytes = (struct feed_bytes){(const uint8_t *)page.p, page.n};
}

/* What a list gives out, as one text. */
static int
walk(enum s3_list_kind kind, struct span all, struct span slices, struct buf *out)
{
    struct feed_bytes bytes;
    struct fail f = {S3UP_OK, ""};
    struct s3_list l;
    int rc;

    open_store();
    feed(&bytes, SPAN(""), slices);
    pages = all;
    page = buf_upto(1 << 17);
    feed_sent = next_page;
    s3_list_begin(&l, kind, SPAN("bucket"));
    l.key = kind == S3_PARTS ? SPAN("key") : l.key;
    while ((rc = s3_list_next(&store, &l, &f)) > 0) {
        MUST(l.has_page && !l.entry.name.bad);
        buf_put(out, buf_span(&l.entry.name));
        buf_char(out, l.entry.is_prefix ? '\1' : '\2');
        buf_put(out, buf_span(&l.entry.id));
        buf_num(out, l.entry.size);
        buf_num(out, l.entry.number);
        buf_num(out, (uint64_t)l.entry.time);
    }
    MUST((rc < 0) == (f.code != S3UP_OK));
    s3_list_end(&l);
    s3_close(&store);
    buf_free(&page);
    feed_memory = NULL;
    feed_sent = NULL;
    return rc;
}

static void
try_list(struct span s)
{
    static const enum s3_list_kind kinds[] = {S3_OBJECTS, S3_UPLOADS, S3_PARTS,
                                              S3_BUCKETS};
    struct buf whole = buf_upto(1 << 24), sliced = buf_upto(1 << 24);
    struct span slices, all;
    enum s3_list_kind kind;

    if (s.n < 2)
        return;
    kind = kinds[s.p[0] & 3];
    slices = take_slices(span_after(s, 1), &all);
    MUST(walk(kind, all, (struct span){NULL, 0}, &whole) ==
         walk(kind, all, slices, &sliced));
    MUST(!whole.bad && span_eq(buf_span(&whole), buf_span(&sliced)));
    buf_free(&whole);
    buf_free(&sliced);
}

/* ---- certificates ---- */

static void
try_certificate(struct span s)
{
    static struct tls_x509 x, y;
    struct tls_roots roots = {buf_upto(TLS_BUNDLE), buf_upto(TLS_BUNDLE), "here"};
    struct tls_names names;
    unsigned error[2];

    if (tls_read_names(s, &names)) {
        MUST(fuzz_within(names.issuer, s) && fuzz_within(names.subject, s));
        MUST(fuzz_within(names.extensions, s));
        MUST(span_starts(names.issuer, "\x30") && span_starts(names.subject, "\x30"));
        tls_add_root(&roots, names.subject, s, false);
        x.roots = &roots;
        if (tls_use_root(&x, tls_root_at(&roots, 0), 0))
            MUST(x.anchors[0].pkey.key_type == BR_KEYTYPE_RSA ||
                 x.anchors[0].pkey.key_type == BR_KEYTYPE_EC);
    }
    /* As a chain of one, in two ways of cutting it: the same verdict. */
    for (int way = 0; way < 2; way++) {
        struct tls t;
        struct tls_peer peer = {"localhost", &roots, NULL};
        const br_x509_class **at = &t.x.vtable;

        tls_init(&t, &peer);
        (*at)->start_chain(at, "localhost");
        (*at)->start_cert(at, (uint32_t)s.n);
        for (size_t i = 0; i < s.n; i += way ? 7 : s.n)
            (*at)->append(at, (const unsigned char *)s.p + i,
                          way && s.n - i > 7 ? 7 : s.n - i);
        (*at)->end_cert(at);
        error[way] = (*at)->end_chain(at);
    }
    MUST(error[0] == error[1]);
    y.ip_n = 4;
    (void)tls_names_ip(&y, s);
    tls_free_roots(&roots);
}

static void
try_bundle(struct span s)
{
    struct tls_roots roots = {buf_upto(TLS_BUNDLE), buf_upto(TLS_BUNDLE), "here"};

    tls_add_pem(&roots, s);
    MUST(roots.der.n <= 2 * s.n); /* each root is there once, and its name once more */
    for (size_t i = 0; i < tls_root_count(&roots); i++) {
        const struct tls_root *r = tls_root_at(&roots, i);

        MUST(r->name_at + r->name_n == r->at && r->at + r->n <= roots.der.n);
    }
    tls_free_roots(&roots);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const claims[])(struct span) = {try_error, try_list, try_certificate,
                                                  try_bundle};
    struct fuzz_copy copy;

    if (!size || size > 65536)
        return 0;
    copy = fuzz_copy(data + 1, size - 1);
    claims[data[0] % 4](copy.s);
    free(copy.block);
    return 0;
}
