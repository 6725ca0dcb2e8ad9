/*
 * feed.h: the network of a test, in slices. Include it before s3up.c: each recv and send
 * of s3up then moves as many bytes as the test says, or says "later", whatever the kernel
 * has; so every split of a reply can be shown to a reader, always the same.
 */
#ifndef FEED_H
#define FEED_H

#define _GNU_SOURCE /* as s3up.c does; it comes later and must find the same system */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* How many bytes the next calls of recv may return, in turn; 0 is EAGAIN. Without sizes
 * recv is the kernel's. Two zeros never stand side by side, or a reader would starve. */
static const uint8_t *feed_sizes;
static size_t feed_n, feed_at;

/* A recv that never ends, and a send that takes all: a network without a bottleneck. */
static bool feed_endless, feed_swallow;

static ssize_t
feed_recv(int fd, void *p, size_t n, int flags)
{
    size_t most;

    if (feed_endless) {
        n = n < 65536 ? n : 65536;
        memset(p, '0', n);
        return (ssize_t)n;
    }
    if (!feed_n)
        return recv(fd, p, n, flags);
    most = feed_sizes[feed_at++ % feed_n];
    if (most)
        return recv(fd, p, most < n ? most : n, flags);
    errno = EAGAIN;
    return -1;
}

static ssize_t
feed_send(int fd, const void *p, size_t n, int flags)
{
    return feed_swallow ? (ssize_t)n : send(fd, p, n, flags);
}

/* Behind the functions above, which call the real ones. */
#define recv(fd, p, n, flags) feed_recv(fd, p, n, flags)
#define send(fd, p, n, flags) feed_send(fd, p, n, flags)

#endif
