/*
 * kit.h: what programs that torment s3up have in common: chance that repeats, time, and an
 * end when they are told to. TOOL is the program's name, for what it says when it fails.
 */
#ifndef KIT_H
#define KIT_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((noreturn)) static void
die(const char *what)
{
    fprintf(stderr, TOOL ": %s: %s\n", what, strerror(errno));
    exit(2);
}

/* splitmix64 */
static uint64_t
dice(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t
below(uint64_t *state, uint64_t n)
{
    return n ? dice(state) % n : 0;
}

static uint64_t
number(const char *s)
{
    return strtoull(s, NULL, 10);
}

static void
sleep_us(uint64_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};

    nanosleep(&t, NULL);
}

static volatile sig_atomic_t stop;

static void
on_term(int sig)
{
    stop = sig;
}

/* From now on SIGTERM sets `stop`. */
static void
until_term(void)
{
    struct sigaction term = {.sa_handler = on_term};

    sigaction(SIGTERM, &term, NULL);
}

#endif
