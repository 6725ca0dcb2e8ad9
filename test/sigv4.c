/*
 * sigv4.c: signatures against those that AWS published, and a few that botocore made.
 *
 *   cc -std=c99 -Wall -Wextra -Wshadow -Wconversion -Wno-unused-function -Werror -O2 \
 *       -o sigv4 test/sigv4.c
 *   ./sigv4              the tables below and in sigv4_cases.h
 *   ./sigv4 PATH/TO/v4   also the suite's own files, byte for byte (see sigv4_cases.h)
 */
#define main s3up_main
#include "../s3up.c"
#undef main

#include "check.h"
#include "sigv4_cases.h"

/* SHA-256 of nothing: what stands for an empty body. */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct request request;

/* ===== AWS's suite ===== */

/* A request as text becomes a struct request. A line that begins with a blank goes on with
 * the field before it. Its body is what the answer holds. */
static struct span
suite_read(struct span text, bool raw_path, struct request *r)
{
    struct buf path = buf_upto(REQ_TEXT), name = buf_upto(100), value = buf_upto(1000);
    struct span line, target, query, pair, left;
    static char method[8];
    size_t end;

    span_cut(&text, '\n', &line);
    for (end = line.n; line.p[end - 1] != ' '; end--)
        continue; /* HTTP/1.1 stands behind the last blank; the target may hold others */
    target = span_first(line, end - 1);
    span_cut(&target, ' ', &left);
    (void)snprintf(method, sizeof method, "%.*s", (int)left.n, left.p);
    query = target;
    span_cut(&query, '?', &target);
    if (raw_path) /* what S3 does: it is encoded once, as it is sent */
        url_put(&path, target, "/");
    else
        buf_put(&path, target);
    http_begin(r, method, SPAN("example.amazonaws.com"), buf_span(&path));
    while (span_cut(&query, '&', &pair)) {
        buf_clear(&name);
        buf_clear(&value);
        span_cut(&pair, '=', &left);
        CHECK(url_read(left, false, &name) && url_read(pair, false, &value));
        http_query(r, buf_text(&name), buf_span(&value));
    }
    while (span_cut(&text, '\n', &line) && line.n) {
        span_cut(&line, ':', &left);
        buf_clear(&name);
        buf_clear(&value);
        for (size_t i = 0; i < left.n; i++)
            buf_char(&name, span_lower(left.p[i]));
        buf_put(&value, line);
        while (text.n && span_blank(text.p[0])) {
            span_cut(&text, '\n', &line);
            buf_put(&value, line);
        }
        if (!span_is(buf_span(&name), "host"))
            http_header(r, buf_text(&name), buf_span(&value));
    }
    CHECK(!path.bad && !name.bad && !value.bad);
    buf_free(&path);
    buf_free(&name);
    buf_free(&value);
    return text;
}

/* Signs r the way the case asks for, and leaves the canonical request behind. sig_headers
 * gives x-amz-content-sha256 to every request of S3's kind; the suite's unnormalized ones do
 * without, so those are signed a step lower. */
static void
suite_sign(struct request *r, const struct signer *who, struct span body,
           struct buf *canonical, char out[SIG_HEX])
{
    char payload[SIG_HEX], stamp[DATE_STAMP];
    unsigned char digest[SHA256_SIZE];

    sha256_of(body, digest);
    sig_hex(digest, payload);
    date_stamp(who->now, stamp);
    if (body.n)
        http_header(r, "x-amz-content-sha256", span_of(payload));
    if (who->s3) {
        http_header(r, "x-amz-date", span_of(stamp));
        sig_request(r, who, stamp, payload, out);
    } else {
        struct span line;

        CHECK(sig_headers(r, who, payload));
        line = r->head.at[r->head.n - 1].value;
        CHECK_TEXT(r->head.at[r->head.n - 1].name, "authorization");
        (void)snprintf(out, SIG_HEX, "%s", line.p + line.n - 2 * SHA256_SIZE);
        out[2 * SHA256_SIZE] = 0;
    }
    sig_put_canonical(r, who, payload, canonical);
}

static void
suite_sign_url(struct request *r, const struct signer *who, struct span body,
               struct buf *canonical, char out[SIG_HEX])
{
    char payload[SIG_HEX];
    unsigned char digest[SHA256_SIZE];
    struct span signature;

    sha256_of(body, digest);
    sig_hex(digest, payload);
    CHECK(sig_url(r, who, 3600, payload));
    signature = r->query.at[r->query.n - 1].value;
    CHECK_TEXT(r->query.at[r->query.n - 1].name, "X-Amz-Signature");
    (void)snprintf(out, SIG_HEX, "%.*s", (int)signature.n, signature.p);
    r->query.n--; /* it is no part of what it signs */
    sig_put_canonical(r, who, payload, canonical);
}

static struct signer
suite_signer(unsigned flags, const char *token)
{
    return (struct signer){.id = SPAN("AKIDEXAMPLE"),
                           .secret = SPAN("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                           .token = span_of(flags & SIGV4_LATE_TOKEN ? NULL : token),
                           .region = SPAN("us-east-1"),
                           .service = SPAN("service"),
                           .now = 1440938160,
                           .s3 = flags & SIGV4_RAW};
}

static struct span
hash_hex(struct span s)
{
    static char hex[SIG_HEX];
    unsigned char digest[SHA256_SIZE];

    sha256_of(s, digest);
    sig_hex(digest, hex);
    return span_of(hex);
}

static void
test_suite(void)
{
    for (size_t i = 0; i < COUNT(sigv4_cases); i++)
        for (unsigned url = 0; url < 2; url++) {
            const struct sigv4_case *c = &sigv4_cases[i];
            struct signer who = suite_signer(c->flags, c->token);
            struct buf canonical = buf_upto(4 * REQ_TEXT), names = buf_upto(1000);
            char signature[SIG_HEX];
            struct span body;

            CASE("%s, %s", c->name, url ? "query" : "header");
            body = suite_read(span_of(c->request), c->flags & SIGV4_RAW, &request);
            (url ? suite_sign_url : suite_sign)(&request, &who, body, &canonical,
                                                signature);
            sig_put_names(&request, &names);
            CHECK_TEXT(buf_span(&names), url ? c->query.names : c->header.names);
            CHECK_STR(signature, url ? c->query.signature : c->header.signature);
            CHECK_TEXT(hash_hex(buf_span(&canonical)),
                       url ? c->query.canonical : c->header.canonical);
            CHECK((c->flags & SIGV4_BODY) == (body.n ? SIGV4_BODY : 0));
            CHECK(!request.bad);
            buf_free(&canonical);
            buf_free(&names);
        }
}

/* Reads DIR/CASE/FILE whole; what is not there fails the case. */
static const char *
suite_file(const char *dir, const char *name, const char *file)
{
    static char text[4][8192];
    static unsigned turn;
    char path[4096], *t = text[turn++ % 4];
    size_t n = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s/%s", dir, name, file);
    f = fopen(path, "rb");
    CHECK(f != NULL);
    if (f) {
        n = fread(t, 1, sizeof text[0] - 1, f);
        (void)fclose(f);
    }
    t[n] = 0;
    return t;
}

/* The suite's own files. The line of their signed request is compared whole. */
static void
test_suite_files(const char *dir)
{
    for (size_t i = 0; i < COUNT(sigv4_cases); i++)
        for (unsigned url = 0; url < 2; url++) {
            const struct sigv4_case *c = &sigv4_cases[i];
            const char *kind = url ? "query" : "header", *context;
            char file[60], signature[SIG_HEX];
            struct buf canonical = buf_upto(4 * REQ_TEXT);
            struct signer who;
            struct span body;

            CASE("file %s, %s", c->name, kind);
            context = suite_file(dir, c->name, "context.json");
            who = suite_signer((strstr(context, "\"normalize\": false") ? SIGV4_RAW : 0) |
                                   (strstr(context, "\"omit_session_token\": true")
                                        ? SIGV4_LATE_TOKEN
                                        : 0),
                               strstr(context, "\"token\"") ? c->token : NULL);
            CHECK(!c->token || strstr(context, c->token));
            body = suite_read(span_of(suite_file(dir, c->name, "request.txt")), who.s3,
                              &request);
            (url ? suite_sign_url : suite_sign)(&request, &who, body, &canonical,
                                                signature);
            (void)snprintf(file, sizeof file, "%s-canonical-request.txt", kind);
            CHECK_TEXT(buf_span(&canonical), suite_file(dir, c->name, file));
            (void)snprintf(file, sizeof file, "%s-signature.txt", kind);
            CHECK_STR(signature, suite_file(dir, c->name, file));
            if (!url && !who.s3) {
                struct span value = request.head.at[request.head.n - 1].value;
                char line[REQ_TEXT];

                (void)snprintf(line, sizeof line, "\nAuthorization:%.*s\n", (int)value.n,
                               value.p);
                CHECK(
                    strstr(suite_file(dir, c->name, "header-signed-request.txt"), line));
            }
            buf_free(&canonical);
        }
}

/* ===== S3 ===== */

/* https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
 * sigv4-query-string-auth.html, sigv4-streaming.html, sigv4-streaming-trailers.html,
 * sigv4-post-example.html */
static const struct signer s3_signer = {
    .id = {"AKIAIOSFODNN7EXAMPLE", 20},
    .secret = {"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", 40},
    .region = {"us-east-1", 9},
    .service = {"s3", 2},
    .now = 1369353600,
    .s3 = true};

#define S3_SCOPE "20130524/us-east-1/s3/aws4_request"

/* Compares the whole field, which ends with the signature. */
static void
check_authorization(const char *names, const char *signature)
{
    const struct field *last = &request.head.at[request.head.n - 1];
    char want[1000];

    (void)snprintf(want, sizeof want,
                   "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/" S3_SCOPE
                   ", SignedHeaders=%s, Signature=%s",
                   names, signature);
    CHECK_TEXT(last->name, "authorization");
    CHECK_TEXT(last->value, want);
}

static void
test_s3_headers(void)
{
    static const struct {
        const char *name, *method, *path;
        const char *fields[5], *query[4]; /* name, value, name, value */
        const char *payload, *names, *signature;
    } t[] = {
        {"GET object",
         "GET",
         "/test.txt",
         {"range", "bytes=0-9"},
         {NULL},
         EMPTY,
         "host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {"PUT object",
         "PUT",
         "/test%24file.text",
         {"date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class",
          "REDUCED_REDUNDANCY"},
         {NULL},
         "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
         "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {"GET bucket lifecycle",
         "GET",
         "/",
         {NULL},
         {"lifecycle", ""},
         EMPTY,
         "host;x-amz-content-sha256;x-amz-date",
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {"GET bucket",
         "GET",
         "/",
         {NULL},
         {"max-keys", "2", "prefix", "J"},
         EMPTY,
         "host;x-amz-content-sha256;x-amz-date",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
        {"GET bucket, parameters the other way",
         "GET",
         "/",
         {NULL},
         {"prefix", "J", "max-keys", "2"},
         EMPTY,
         "host;x-amz-content-sha256;x-amz-date",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
        {"GET object, with what proxies change",
         "GET",
         "/test.txt",
         {"user-agent", "s3up", "range", "bytes=0-9"},
         {NULL},
         EMPTY,
         "host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        CASE("S3: %s", t[i].name);
        http_begin(&request, t[i].method, SPAN("examplebucket.s3.amazonaws.com"),
                   span_of(t[i].path));
        for (unsigned k = 0; k < 4 && t[i].fields[k]; k += 2)
            http_header(&request, t[i].fields[k], span_of(t[i].fields[k + 1]));
        for (unsigned k = 0; k < 4 && t[i].query[k]; k += 2)
            http_query(&request, t[i].query[k], span_of(t[i].query[k + 1]));
        for (unsigned again = 0; again < 2; again++) {
            CHECK(sig_headers(&request, &s3_signer, t[i].payload));
            check_authorization(t[i].names, t[i].signature);
        }
    }
    CASE("S3: the digest of PUT's body");
    CHECK_TEXT(hash_hex(SPAN("Welcome to Amazon S3.")), t[1].payload);
}

static void
test_s3_url(void)
{
    struct buf query = buf_upto(2000);

    CASE("S3: a presigned URL");
    http_begin(&request, "GET", SPAN("examplebucket.s3.amazonaws.com"),
               SPAN("/test.txt"));
    CHECK(sig_url(&request, &s3_signer, 86400, SIG_UNSIGNED));
    http_put_query(&request, &query);
    CHECK_TEXT(
        buf_span(&query),
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%"
        "2F20130524%2F"
        "us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&"
        "X-Amz-Signature="
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404&"
        "X-Amz-SignedHeaders=host");
    buf_free(&query);
}

/* One link of the chain of signatures that a body in signed chunks carries. */
static void
chain(const char *kind, bool chunk, struct span data, char signature[SIG_HEX])
{
    unsigned char key[SHA256_SIZE], mac[SHA256_SIZE];
    struct buf text = buf_upto(1000);

    buf_str(&text, "AWS4-HMAC-SHA256-");
    buf_str(&text, kind);
    buf_str(&text, "\n20130524T000000Z\n" S3_SCOPE "\n");
    buf_str(&text, signature);
    buf_str(&text, chunk ? "\n" EMPTY "\n" : "\n");
    buf_put(&text, hash_hex(data));
    CHECK(sig_key(&s3_signer, "20130524T000000Z", key) && !text.bad);
    hmac_of(key, sizeof key, buf_span(&text), mac);
    sig_hex(mac, signature);
    buf_free(&text);
}

/* 65536 + 1024 bytes of a, in two chunks and an empty one. */
static void
test_s3_chunks(bool trailer)
{
    static const char *const want[2][5] = {
        {"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
         "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
         "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
         "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", NULL},
        {"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
         "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
         "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
         "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
         "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"}};
    static const size_t sizes[3] = {65536, 1024, 0};
    static char data[65536];
    char signature[SIG_HEX];
    struct span value;

    memset(data, 'a', sizeof data);
    http_begin(&request, "PUT", SPAN("s3.amazonaws.com"),
               SPAN("/examplebucket/chunkObject.txt"));
    http_header(&request, "content-encoding", SPAN("aws-chunked"));
    if (!trailer)
        http_header(&request, "content-length", SPAN("66824"));
    http_header(&request, "x-amz-decoded-content-length", SPAN("66560"));
    http_header(&request, "x-amz-storage-class", SPAN("REDUCED_REDUNDANCY"));
    if (trailer)
        http_header(&request, "x-amz-trailer", SPAN("x-amz-checksum-crc32c"));
    CHECK(sig_headers(&request, &s3_signer,
                      trailer ? "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
                              : "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
    value = request.head.at[request.head.n - 1].value;
    (void)snprintf(signature, sizeof signature, "%.64s", value.p + value.n - 64);
    CASE("S3: seed of chunks%s", trailer ? " with a trailer" : "");
    CHECK_STR(signature, want[trailer][0]);
    for (unsigned i = 0; i < 3; i++) {
        CASE("S3: chunk %u%s", i, trailer ? " before a trailer" : "");
        chain("PAYLOAD", true, span_at(data, sizes[i]), signature);
        CHECK_STR(signature, want[trailer][i + 1]);
    }
    if (trailer) {
        CASE("S3: trailer");
        chain("TRAILER", false, SPAN("x-amz-checksum-crc32c:sOO8/Q==\n"), signature);
        CHECK_STR(signature, want[trailer][4]);
    }
}

/* What the trailer of AWS's example says about its body is what our CRC-32C says. */
static void
test_s3_trailer_sum(void)
{
    static char data[66560];
    unsigned char out[4];
    struct buf text = buf_upto(20);
    struct sum s;

    CASE("S3: the trailer's sum");
    memset(data, 'a', sizeof data);
    sum_init(&s, SUM_CRC32C);
    sum_add(&s, data, sizeof data);
    sum_end(&s, out);
    b64_put(&text, out, sizeof out);
    CHECK_TEXT(buf_span(&text), "sOO8/Q==");
    buf_free(&text);
}

/* The form that a browser sends to a bucket. */
static void
test_s3_policy(void)
{
    static const char policy[] =
        "{ \"expiration\": \"2015-12-30T12:00:00.000Z\",\r\n"
        "  \"conditions\": [\r\n"
        "    {\"bucket\": \"sigv4examplebucket\"},\r\n"
        "    [\"starts-with\", \"$key\", \"user/user1/\"],\r\n"
        "    {\"acl\": \"public-read\"},\r\n"
        "    {\"success_action_redirect\": "
        "\"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html\"},\r\n"
        "    [\"starts-with\", \"$Content-Type\", \"image/\"],\r\n"
        "    {\"x-amz-meta-uuid\": \"14365123651274\"},\r\n"
        "    {\"x-amz-server-side-encryption\": \"AES256\"},\r\n"
        "    [\"starts-with\", \"$x-amz-meta-tag\", \"\"],\r\n"
        "\r\n"
        "    {\"x-amz-credential\": "
        "\"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request\"},\r\n"
        "    {\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"},\r\n"
        "    {\"x-amz-date\": \"20151229T000000Z\" }\r\n"
        "  ]\r\n"
        "}";
    struct signer who = s3_signer;
    struct buf out = buf_upto(4000);
    char hex[SIG_HEX];

    CASE("S3: POST policy");
    who.now = 1451347200;
    CHECK(sig_policy(&who, span_of(policy), &out, hex));
    CHECK_TEXT(span_first(buf_span(&out), 64),
               "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAi");
    CHECK_STR(hex, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
    buf_free(&out);
}

/* ===== other services ===== */

/* The example of the IAM user guide, "Create a signed AWS API request", and requests to STS
 * that botocore 1.44 signed: SigV4Auth(credentials, "sts", region).add_auth(request). */
static void
test_services(void)
{
    static const struct {
        const char *name, *method, *host, *region, *service, *type, *body, *token;
        int64_t now;
        const char *names, *signature;
    } t[] = {
        {"ListUsers of IAM", "GET", "iam.amazonaws.com", "us-east-1", "iam",
         "application/x-www-form-urlencoded; charset=utf-8", "", NULL, 1440938160,
         "content-type;host;x-amz-date",
         "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
        {"AssumeRole", "POST", "sts.us-east-1.amazonaws.com", "us-east-1", "sts",
         "application/x-www-form-urlencoded; charset=utf-8",
         "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%"
         "3A"
         "role%2Fa%2Fb&RoleSessionName=s3up&DurationSeconds=3600",
         NULL, 1440938160, "content-type;host;x-amz-date",
         "f5432eaa1bf4c23215ad98ad7691c7f8fdaae2fcbe8b2d306475d54caed41d0e"},
        {"AssumeRole, with a token", "POST", "sts.eu-central-1.amazonaws.com",
         "eu-central-1", "sts", "application/x-www-form-urlencoded; charset=utf-8",
         "Action=AssumeRole&Version=2011-06-15&RoleArn=x&RoleSessionName=y",
         "AQoDYXdzEPT//////////wEXAMPLE+==", 1709251199,
         "content-type;host;x-amz-date;x-amz-security-token",
         "f4fa691502d3790e27fc6a14652a8effab173fa73fb510cb2c7d3a3a4a6ce750"},
        {"GetCallerIdentity, in 2038", "POST", "sts.ap-southeast-2.amazonaws.com",
         "ap-southeast-2", "sts", "application/x-www-form-urlencoded; charset=utf-8",
         "Action=GetCallerIdentity&Version=2011-06-15", NULL, INT64_C(2147483648),
         "content-type;host;x-amz-date",
         "6f824f6947dda517213da8dfa0b43426e64ab2a62b095d3831364f40e2ed816b"},
    };

    for (size_t i = 0; i < COUNT(t); i++) {
        struct signer who = {.id = SPAN("AKIDEXAMPLE"),
                             .secret = SPAN("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                             .token = span_of(t[i].token),
                             .region = span_of(t[i].region),
                             .service = span_of(t[i].service),
                             .now = t[i].now};
        char payload[SIG_HEX], want[1000], stamp[DATE_STAMP];

        CASE("%s", t[i].name);
        http_begin(&request, t[i].method, span_of(t[i].host), SPAN("/"));
        http_header(&request, "content-type", span_of(t[i].type));
        if (i == 0) {
            http_query(&request, "Version", SPAN("2010-05-08"));
            http_query(&request, "Action", SPAN("ListUsers"));
        }
        (void)snprintf(payload, sizeof payload, "%.64s", hash_hex(span_of(t[i].body)).p);
        CHECK(sig_headers(&request, &who, payload));
        date_stamp(who.now, stamp);
        (void)snprintf(want, sizeof want,
                       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/%.8s/%s/%s/aws4_request, "
                       "SignedHeaders=%s, Signature=%s",
                       stamp, t[i].region, t[i].service, t[i].names, t[i].signature);
        CHECK_TEXT(request.head.at[request.head.n - 1].value, want);
    }
}

int
main(int argc, char **argv)
{
    test_suite();
    if (argc > 1)
        test_suite_files(argv[1]);
    test_s3_headers();
    test_s3_url();
    test_s3_chunks(false);
    test_s3_chunks(true);
    test_s3_trailer_sum();
    test_s3_policy();
    test_services();
    return check_end();
}
