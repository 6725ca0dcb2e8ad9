/*
 * feed.h: the network of a test, in slices. Include it before s3up.c: each recv and send
 * of s3up then moves as many bytes as the test says, or says "later", whatever the kernel
 * has; so every split of a reply can be shown to a reader, always the same.
 */
#ifndef FEED_H
#define FEED_H

#define _GNU_SOURCE /* as s3up.c does; it comes later and must find the same system */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* How many bytes the next calls of recv may return, in turn; 0 is EAGAIN. Without sizes
 * recv is the kernel's. Two zeros never stand side by side, or a reader would starve. */
static const uint8_t *feed_sizes;
static size_t feed_n, feed_at;

/* Where recv takes its bytes from, when that is set, instead of the kernel. */
struct feed_bytes {
    const uint8_t *p;
    size_t n;
};

static struct feed_bytes *feed_memory;

/* A recv that never ends, and a send that takes all: a network without a bottleneck. Who
 * is told of what was sent can put the answer into the memory. */
static bool feed_endless, feed_swallow;
static void (*feed_sent)(const void *p, size_t n);

static ssize_t
feed_recv(int fd, void *p, size_t n, int flags)
{
    size_t most;

    if (feed_endless) {
        n = n < 65536 ? n : 65536;
        memset(p, '0', n);
        return (ssize_t)n;
    }
    most = feed_n ? feed_sizes[feed_at++ % feed_n] : n;
    if (!most) {
        errno = EAGAIN;
        return -1;
    }
    n = most < n ? most : n;
    if (!feed_memory)
        return recv(fd, p, n, flags);
    n = n < feed_memory->n ? n : feed_memory->n;
    if (!n)
        return 0; /* the end */
    memcpy(p, feed_memory->p, n);
    feed_memory->p += n;
    feed_memory->n -= n;
    return (ssize_t)n;
}

/* Memory is always ready for who waits, and has nothing for who only looks: as a server
 * that says no more than it was asked for. */
static int
feed_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (!feed_memory)
        return poll(fds, n, timeout);
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = timeout ? fds[i].events : 0;
    return timeout ? (int)n : 0;
}

static ssize_t
feed_send(int fd, const void *p, size_t n, int flags)
{
    if (feed_sent)
        feed_sent(p, n);
    return feed_swallow ? (ssize_t)n : send(fd, p, n, flags);
}

/* Behind the functions above, which call the real ones. */
#define recv(fd, p, n, flags) feed_recv(fd, p, n, flags)
#define send(fd, p, n, flags) feed_send(fd, p, n, flags)
#define poll(fds, n, timeout) feed_poll(fds, n, timeout)

#endif
