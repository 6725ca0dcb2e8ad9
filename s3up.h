/*
 * s3up.h: the map of s3up.c, and the facts that programs around it may use.
 *
 * s3up moves files between a Linux box and any S3-compatible store, and always
 * finishes: the same command, run again, completes the job. It is one file of C,
 * s3up.c, written from the ground up: a function calls only what stands above it.
 * The file is divided into rooms. To find a function, look at its prefix:
 *
 *   room                  prefix                      owns
 *    0  front page        -                           the story, limits, includes
 *    1  text              span_ buf_ num_ hex_ b64_   views, growing buffers, numbers,
 *                         url_ date_ utf8_            encodings, addresses, dates
 *    2  sums              cpu_ sum_ sha256_ md5_      digests and checksums, on the
 *                         crc_ hmac_                  instructions that the CPU has
 *    3  system            fail_ log_ os_              the first failure, messages,
 *                                                     clock, random, files, signals
 *    4  forms             xml_ json_ ini_             readers and writers of the
 *                                                     notations of stores and users
 *    5  journal           jrn_                        what survives a crash: journals of
 *                                                     transfers, the ledger
 *    6  socket            net_                        names, connections, waiting,
 *                                                     stalls
 *    7  tls               tls_ wire_                  BearSSL, trusted roots, one kind of
 *                                                     connection for plain and TLS
 *    8  http              http_                       requests, replies, bodies, proxies,
 *                                                     keep-alive
 *    9  signature         sig_                        AWS Signature Version 4; pure
 *   10  creds             cred_ profile_              keys and settings: environment,
 *                                                     shared files, credential_process
 *   11  store             s3_                         one function for each S3 call; what
 *                                                     is tried again, and what is not
 *   12  part              part_                       files, read, summed and watched
 *   13  crew              crew_                       worker processes: orders, answers
 *   14  transfer          xfer_                       uploads and downloads: resumed,
 *                                                     checked, written down
 *   15  drain             drain_                      a folder that empties itself: what
 *                                                     waits, what is removed
 *   17  command line      cli_                        options, verbs, help, main
 *
 * To read the program, begin at main, the last function, and walk up. To change it,
 * put new code into the room that owns the matter; `make check` tells when a call
 * goes uphill.
 *
 * Conventions, in every room:
 *   - a struct span is a view: it owns nothing and need not end in NUL;
 *   - a struct buf owns its bytes, has a ceiling and remembers that an append failed,
 *     so that one look at .bad after many appends is enough;
 *   - functions that can fail return true or 0 when all went well, false or -1 when
 *     not, and put the reason into a struct fail; the first reason stays;
 *   - sizes are bytes, times are seconds since 1970 unless the name says otherwise;
 *   - time and randomness are arguments below room 10: the middle is pure.
 */
#ifndef S3UP_H
#define S3UP_H

#define S3UP_VERSION "0.1.0"

/* When this version was made, in seconds since 1970. A clock that says less is wrong. */
#define S3UP_RELEASED 1795219200 /* 2026-11-21 */

/* Exit codes: the name in the source, the number, what `s3up help` says about it. */
#define S3UP_EXITS(X)                                                                    \
    X(OK, 0, "all done, also when there was nothing to do")                              \
    X(SOME, 1, "some transfers failed")                                                  \
    X(USAGE, 2, "the command line or a setting is wrong; nothing was done")              \
    X(SKIPPED, 3, "sources were skipped, or changed while read; or nothing is proven")   \
    X(MISSING, 4, "the file, bucket or object does not exist")                           \
    X(LATER, 5, "a temporary failure: run the same command again later")                 \
    X(DENIED, 6, "the store refused, the keys are missing, or it is not the right host") \
    X(EXISTS, 7, "a precondition failed: the object exists already")                     \
    X(LOCKED, 8, "another run holds the lock")                                           \
    X(DAMAGED, 9, "the bytes stored or received are not the bytes sent")                 \
    X(INTERRUPTED, 130, "interrupted; what was done so far is kept")                     \
    X(CLOSED, 141, "whoever read the output went away")                                  \
    X(TERMINATED, 143, "asked to end by SIGTERM; what was done so far is kept")

enum s3up_exit {
#define S3UP_EXIT_NAME(name, number, text) S3UP_##name = (number),
    S3UP_EXITS(S3UP_EXIT_NAME)
#undef S3UP_EXIT_NAME
};

#endif
