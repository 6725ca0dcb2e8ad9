/*
 * soak.c: what test/soak.sh needs and sh is too slow or too coarse for: signals at a
 * random microsecond or system call, files whose bytes tell their version, a writer that
 * never rests, journals as a power cut leaves them, and what processes have in memory.
 *
 *   soak kill LOG WHO SIGNAL WHEN COMMAND...
 *     runs a command, what it says goes to LOG. WHO: parent, worker (a child of it, or
 *     nobody) or all. WHEN: so many microseconds after its start, or sN: at the Nth system
 *     call of the parent. Prints its exit code as sh would see it, whether the signal was
 *     sent, and how many of its processes were left 10 seconds after its end.
 *   soak memory MILLISECONDS COMMAND...
 *     runs a command for that long at most; prints the greatest sum of the PSS of all its
 *     processes in KiB, how many they were, and the PSS of the first.
 *   soak make SEED SIZE FILE       bytes that no two seeds and places have alike
 *   soak bend SEED FILE            cuts a journal, or changes a byte of it, behind its first
 *                                  line; prints how many lines are left whole
 *   soak edit SEED FILE            changes a few bytes of a file, and sometimes gives it its
 *                                  time back
 *   soak write SEED BLOCKS FILE HISTORY
 *     changes FILE until SIGTERM. Each block of 4 KiB says which change wrote it; HISTORY
 *     has a line for each change, before it is made.
 *   soak check HISTORY FROM FILE   is it the file as it was after one change, number FROM
 *                                  or a later one? Prints which, or why not.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOOL "soak"
#include "kit.h"

enum { BLOCK = 4096, WORDS = BLOCK / 8 };

static uint64_t
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- processes ---- */

/* The processes of a group that still run, in pid[]: the first is its leader, if it does. */
static size_t
group(pid_t leader, pid_t pid[], size_t most)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    size_t n = 0;

    while (dir && (e = readdir(dir)) && n < most) {
        char path[64], text[512], *p;
        int pgrp, fd;
        ssize_t did;
        char state;

        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        fd = open(path, O_RDONLY);
        did = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (did <= 0)
            continue;
        text[did] = 0;
        p = strrchr(text, ')');
        if (p && sscanf(p + 1, " %c %*d %d", &state, &pgrp) == 2 && pgrp == leader &&
            state != 'Z' && state != 'X') {
            pid[n++] = atoi(e->d_name);
            if (pid[n - 1] == leader) {
                pid[n - 1] = pid[0];
                pid[0] = leader;
            }
        }
    }
    if (dir)
        closedir(dir);
    return n;
}

/* Starts a command in a group of its own. */
static pid_t
start(const char *log, bool traced, char **command)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        int none = open("/dev/null", O_RDONLY);

        if (fd < 0 || none < 0 || dup2(none, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            die(log);
        close(fd);
        close(none);
        setpgid(0, 0);
        if (traced) {
            setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it would want to trace, too */
            ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        }
        execv(command[0], command);
        die(command[0]);
    }
    setpgid(pid, pid);
    return pid;
}

static bool
send_to(pid_t pid, const char *who, int sig, uint64_t seed)
{
    pid_t all[256];
    size_t n;

    if (!strcmp(who, "parent"))
        return kill(pid, sig) == 0;
    if (!strcmp(who, "all"))
        return kill(-pid, sig) == 0;
    n = group(pid, all, 256);
    return n > 1 && all[0] == pid && kill(all[1 + seed % (n - 1)], sig) == 0;
}

/* Lets a traced process run to its Nth system call. False if it ended before. */
static bool
step_to(pid_t pid, uint64_t n, int *status)
{
    uint64_t stops = 0;
    int sig = 0;

    if (waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status)) /* of its exec */
        return false;
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    while (stops < 2 * n) {
        if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)sig) != 0)
            break;
        if (waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status))
            return false;
        sig = WSTOPSIG(*status);
        if (sig == (SIGTRAP | 0x80)) {
            stops++;
            sig = 0;
        }
    }
    return true;
}

static int
run_kill(char **arg)
{
    const char *who = arg[1];
    int sig = atoi(arg[2]), status = 0;
    bool traced = arg[3][0] == 's', sent = false, ended = false;
    uint64_t when = number(arg[3] + traced), until, n = 0;
    pid_t pid = start(arg[0], traced, arg + 4), left[256];

    if (traced) {
        ended = !step_to(pid, when, &status);
        if (!ended) {
            sent = send_to(pid, who, sig, when);
            ptrace(PTRACE_DETACH, pid, NULL, NULL);
        }
    } else {
        until = now_us() + when;
        while (!ended && now_us() < until) {
            uint64_t rest = until - now_us();

            sleep_us(rest > 1000 ? 1000 : rest);
            ended = waitpid(pid, &status, WNOHANG) == pid;
        }
        if (!ended)
            sent = send_to(pid, who, sig, when);
    }
    for (until = now_us() + 300000000; !ended; sleep_us(1000)) {
        ended = waitpid(pid, &status, WNOHANG) == pid;
        if (!ended && now_us() > until) {
            printf("hangs\n");
            kill(-pid, SIGKILL);
            return 1;
        }
    }
    /* Whoever dies with its parent does so a moment later. */
    for (until = now_us() + 10000000; (n = group(pid, left, 256)) && now_us() < until;)
        sleep_us(2000);
    if (n)
        kill(-pid, SIGKILL);
    printf("%d %d %" PRIu64 "\n",
           WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), sent, n);
    return 0;
}

static uint64_t
pss(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    FILE *in;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    in = fopen(path, "r");
    while (in && fgets(line, sizeof line, in))
        if (!strncmp(line, "Pss:", 4))
            kib = number(line + 4);
    if (in)
        fclose(in);
    return kib;
}

static int
run_memory(char **arg)
{
    uint64_t until = now_us() + number(arg[0]) * 1000, most = 0, first = 0, many = 0;
    pid_t pid = start("/dev/null", false, arg + 1), all[256];
    int status;

    while (now_us() < until && waitpid(pid, &status, WNOHANG) == 0) {
        size_t n = group(pid, all, 256);
        uint64_t sum = 0, one = n ? pss(all[0]) : 0;

        for (size_t i = 1; i < n; i++)
            sum += pss(all[i]);
        if (n && sum + one > most) {
            most = sum + one;
            first = one;
            many = n;
        }
        sleep_us(5000);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    while (group(pid, all, 256))
        sleep_us(2000);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", most, many, first);
    return 0;
}

/* ---- files ---- */

static int
run_make(char **arg)
{
    uint64_t seed = number(arg[0]), size = number(arg[1]), word[1024];
    FILE *out = fopen(arg[2], "w");

    while (out && size) {
        size_t n = size < sizeof word ? (size_t)size : sizeof word;

        for (size_t i = 0; i < 1024; i++)
            word[i] = dice(&seed);
        if (fwrite(word, 1, n, out) != n)
            die(arg[2]);
        size -= n;
    }
    if (!out || fclose(out) != 0)
        die(arg[2]);
    return 0;
}

static int
run_bend(char **arg)
{
    uint64_t seed = number(arg[0]), lines = 0;
    static char text[1 << 20];
    int fd = open(arg[1], O_RDWR);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    char *first = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
    size_t from = first ? (size_t)(first - text) + 1 : 0, at;

    if (!from || from >= (size_t)n) {
        printf("0\n"); /* there is nothing to be cut */
        return 0;
    }
    at = from + below(&seed, (size_t)n - from);
    if (below(&seed, 2)) {
        if (ftruncate(fd, (off_t)at) != 0)
            die(arg[1]);
    } else {
        char other = (char)(text[at] ^ (1 << below(&seed, 8)));

        if (pwrite(fd, &other, 1, (off_t)at) != 1)
            die(arg[1]);
    }
    for (size_t i = 0; i < at; i++)
        lines += text[i] == '\n';
    printf("%" PRIu64 "\n", lines);
    return 0;
}

static int
run_edit(char **arg)
{
    uint64_t seed = number(arg[0]), word, n;
    int fd = open(arg[1], O_RDWR);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size < 8)
        die(arg[1]);
    for (n = 1 + below(&seed, 3); n-- > 0;) {
        off_t at = (off_t)below(&seed, (uint64_t)info.st_size - 7);

        word = dice(&seed);
        if (pwrite(fd, &word, 8, at) != 8)
            die(arg[1]);
    }
    if (below(&seed, 2)) {
        struct timespec times[2] = {info.st_atim, info.st_mtim};

        if (futimens(fd, times) != 0)
            die(arg[1]);
    }
    return 0;
}

/* ---- a file that changes ---- */

struct writer {
    uint64_t seed, change; /* the number of the last change */
    int fd;
    off_t size;
    const char *path;
    FILE *history;
};

static void
fill(uint64_t word[WORDS], uint64_t change, uint64_t block)
{
    for (uint64_t i = 0; i < WORDS; i++)
        word[i] = change << 32 | (block * WORDS + i);
}

static void
note(struct writer *w, char what, uint64_t n)
{
    fprintf(w->history, "%" PRIu64 " %c %" PRIu64 "\n", ++w->change, what, n);
    fflush(w->history);
}

/* One block: as much as reaches a file at once, as far as a reader can tell. */
static void
put_block(struct writer *w, uint64_t block)
{
    uint64_t word[WORDS];

    note(w, 'w', block);
    fill(word, w->change, block);
    if (pwrite(w->fd, word, BLOCK, (off_t)block * BLOCK) != BLOCK)
        die(w->path);
    if (w->size < (off_t)(block + 1) * BLOCK)
        w->size = (off_t)(block + 1) * BLOCK;
}

static void
replace(struct writer *w, uint64_t blocks)
{
    char other[4096];
    uint64_t word[WORDS];
    int fd;

    snprintf(other, sizeof other, "%s.new", w->path);
    fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(other);
    note(w, 'r', blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        fill(word, w->change, i);
        if (write(fd, word, BLOCK) != BLOCK)
            die(other);
    }
    if (rename(other, w->path) != 0)
        die(w->path);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = fd;
    w->size = (off_t)blocks * BLOCK;
}

/* One change, or a row of them. */
static void
change(struct writer *w, uint64_t most)
{
    uint64_t blocks = (uint64_t)w->size / BLOCK, n;

    switch (below(&w->seed, 8)) {
    case 0:
        for (n = 0; n < blocks && !stop; n++)
            put_block(w, n);
        break;
    case 1: /* from the end */
        for (n = blocks; n-- > 0 && !stop;)
            put_block(w, n);
        break;
    case 2:
        n = (uint64_t)w->size / 2 + below(&w->seed, (uint64_t)w->size / 2);
        n = n / 8 * 8 + 8; /* whole words, so that the last block tells who wrote it */
        n = n < (uint64_t)w->size ? n : (uint64_t)w->size;
        note(w, 't', n);
        if (ftruncate(w->fd, (off_t)n) != 0)
            die(w->path);
        w->size = (off_t)n;
        break;
    case 3:
        for (n = 1 + below(&w->seed, most / 4);
             n-- > 0 && (uint64_t)w->size / BLOCK < most;)
            put_block(w, (uint64_t)w->size / BLOCK);
        break;
    case 4:
        replace(w, most / 4 + below(&w->seed, most - most / 4));
        break;
    case 5:
        note(w, 'u', 0);
        if (utimensat(AT_FDCWD, w->path, NULL, 0) != 0)
            die(w->path);
        break;
    default:
        for (n = 1 + below(&w->seed, 3); n-- > 0;)
            put_block(w, below(&w->seed, blocks + 1));
    }
}

static int
run_write(char **arg)
{
    struct writer w = {.seed = number(arg[0]), .fd = -1, .path = arg[2]};
    uint64_t most = number(arg[1]);

    until_term();
    w.history = fopen(arg[3], "w");
    if (!w.history)
        die(arg[3]);
    replace(&w, most * 3 / 4);
    while (!stop) {
        uint64_t pause = below(&w.seed, 4) ? below(&w.seed, 60) : below(&w.seed, 1000);

        sleep_us(pause * 1000);
        if (!stop)
            change(&w, most);
    }
    return fclose(w.history) == 0 ? 0 : 1;
}

/* Which change wrote each block of a file; 0: none that wrote all of it. */
static uint64_t *
stamps(const char *path, off_t *size)
{
    FILE *in = fopen(path, "r");
    struct stat info;
    uint64_t *stamp, word[WORDS], want[WORDS];
    size_t n, k = 0;

    if (!in || fstat(fileno(in), &info) != 0)
        die(path);
    *size = info.st_size;
    stamp = calloc((size_t)info.st_size / BLOCK + 2, sizeof *stamp);
    while (stamp && (n = fread(word, 1, BLOCK, in)) > 0) {
        stamp[k] = n >= 8 ? word[0] >> 32 : 0;
        fill(want, stamp[k], k);
        if (memcmp(word, want, n) != 0) {
            printf("block %zu was written by several changes\n", k);
            stamp[k] = 0;
        }
        k++;
    }
    fclose(in);
    return stamp;
}

static size_t
blocks_of(off_t size)
{
    return (size_t)((size + BLOCK - 1) / BLOCK);
}

static int
run_check(char **arg)
{
    enum { MOST = 1 << 20 };
    uint64_t *model = calloc(MOST, sizeof *model), from = number(arg[1]), at, n;
    off_t size, now = 0;
    uint64_t *stamp = stamps(arg[2], &size), newest = 0, oldest = UINT64_MAX;
    size_t blocks = blocks_of(size), wrong = blocks;
    FILE *in = fopen(arg[0], "r");
    char what;

    if (!in || !model || !stamp)
        die(arg[0]);
    /* wrong: how many of the file's blocks are not as the model has them */
    while (fscanf(in, "%" SCNu64 " %c %" SCNu64, &at, &what, &n) == 3) {
        size_t first = 0, end = 0;
        uint64_t value = at;

        if (what == 'w') {
            first = (size_t)n, end = first + 1;
            now = now < (off_t)end * BLOCK ? (off_t)end * BLOCK : now;
        } else if (what == 'r') {
            end = (size_t)n > blocks_of(now) ? (size_t)n : blocks_of(now);
            now = (off_t)n * BLOCK;
        } else if (what == 't') {
            first = blocks_of((off_t)n), end = blocks_of(now);
            now = (off_t)n;
        }
        for (size_t i = first; i < end; i++) {
            if (i < blocks)
                wrong += (model[i] == stamp[i] && model[i]) ? 1 : 0;
            model[i] = (off_t)i * BLOCK < now ? value : 0;
            if (i < blocks)
                wrong -= (model[i] == stamp[i] && model[i]) ? 1 : 0;
        }
        if (!wrong && now == size && at >= from) {
            printf("as change %" PRIu64 " left it\n", at);
            return 0;
        }
    }
    for (size_t i = 0; i < blocks; i++) {
        newest = stamp[i] > newest ? stamp[i] : newest;
        oldest = stamp[i] < oldest ? stamp[i] : oldest;
    }
    printf("no state from change %" PRIu64 " on is like this: %" PRId64
           " bytes, written by changes %" PRIu64 " to %" PRIu64 "\n",
           from, (int64_t)size, oldest, newest);
    return 1;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int least;
        int (*run)(char **arg);
    } all[] = {{"kill", 5, run_kill},  {"memory", 2, run_memory}, {"make", 3, run_make},
               {"bend", 2, run_bend},  {"edit", 2, run_edit},     {"write", 4, run_write},
               {"check", 3, run_check}};

    for (size_t i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
        if (!strcmp(argv[1], all[i].name) && argc - 2 >= all[i].least)
            return all[i].run(argv + 2);
    fprintf(stderr, "usage: see the head of test/soak.c\n");
    return 2;
}
