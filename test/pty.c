/*
 * pty.c: runs a command on a terminal of its own, and writes down what it draws
 *
 *   pty [-c COLUMNS] [-0] [-1] [-w TEXT | -c COLUMNS | -k KEYS | -s SIGNAL | -h]... COMMAND...
 *
 * The command's standard streams are the terminal; with -0 or -1 its input or its output
 * stays what pty's own is. What it draws goes to the file $PTY, a line for each stretch
 * between two carriage returns or newlines:
 *
 *   MILLISECONDS COLUMNS TEXT      bytes that are not printable, and \, as \xHH
 *
 * Steps are taken one after the other: -w waits until TEXT has been drawn behind the step
 * before; -c makes the terminal so many columns wide, -k types (\n, \d: end of file,
 * \c: interrupt), -s sends a signal to the command, -h hangs up. Ends as the command
 * ends: its exit code, or 128 and its signal; 99 if a text never came.
 *
 * Built by: cc -std=c99 -O2 -o pty test/pty.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 64, LOST = 99, PATIENCE = 30000, SEEN = 1 << 20 };

static struct step {
    char kind;
    const char *text;
} step[STEPS];
static int steps, next;

static int master, slave, columns = 80,
                          shown; /* shown: what a line may have been drawn for */
static pid_t child;
static FILE *record;
static long begun;

static char seen[SEEN]; /* all that was drawn, for -w */
static size_t seen_n, seen_from;

static char line[65536];
static size_t line_n;
static long line_at;
static int line_width;

static void
die(const char *what)
{
    perror(what);
    exit(LOST);
}

static long
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)(t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void
resize(int to)
{
    struct winsize w = {.ws_row = 24, .ws_col = (unsigned short)to};

    /* A line that is on its way was drawn for the width of before. */
    shown = to > columns ? to : columns;
    columns = to;
    if (ioctl(master, TIOCSWINSZ, &w) != 0) /* it sends SIGWINCH, too */
        die("TIOCSWINSZ");
}

static void
write_line(void)
{
    if (!line_n)
        return;
    fprintf(record, "%ld %d ", line_at, line_width);
    for (size_t i = 0; i < line_n; i++) {
        unsigned char c = (unsigned char)line[i];

        if (c >= ' ' && c < 127 && c != '\\')
            putc(c, record);
        else
            fprintf(record, "\\x%02x", c);
    }
    putc('\n', record);
    fflush(record);
    line_n = 0;
    shown = columns;
}

static void
take(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (seen_n < SEEN)
            seen[seen_n++] = p[i];
        if (p[i] == '\r' || p[i] == '\n') {
            write_line();
            continue;
        }
        if (!line_n) {
            line_at = now() - begun;
            line_width = shown;
        }
        if (line_n < sizeof line)
            line[line_n++] = p[i];
    }
}

static void
type(const char *keys)
{
    for (; *keys; keys++) {
        char c = *keys;

        if (c == '\\' && keys[1]) {
            keys++;
            c = *keys == 'n' ? '\n' : *keys == 'd' ? 4 : *keys == 'c' ? 3 : *keys;
        }
        if (write(master, &c, 1) != 1)
            die("type");
    }
}

/* Takes all steps that can be taken now. False: the terminal is gone. */
static int
take_steps(void)
{
    while (next < steps) {
        const struct step *s = &step[next];
        const char *at;

        if (s->kind == 'w') {
            at = memmem(seen + seen_from, seen_n - seen_from, s->text, strlen(s->text));
            if (!at)
                return 1;
            seen_from = (size_t)(at - seen) + strlen(s->text);
        } else if (s->kind == 'c') {
            resize(atoi(s->text));
        } else if (s->kind == 'k') {
            type(s->text);
        } else if (s->kind == 's') {
            kill(child, atoi(s->text));
        } else {
            next = steps;
            return 0;
        }
        next++;
    }
    return 1;
}

static void
become(char **argv, int input, int output)
{
    if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) != 0)
        die("terminal");
    if ((input && dup2(slave, 0) < 0) || (output && dup2(slave, 1) < 0) ||
        dup2(slave, 2) < 0)
        die("dup2");
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    execvp(argv[0], argv);
    die(argv[0]);
}

/* Reads and takes steps until the terminal is let go. */
static int
watch(void)
{
    long moved = now();

    for (;;) {
        struct pollfd p = {master, POLLIN, 0};
        char piece[4096];
        ssize_t n;

        if (!take_steps())
            return 1;
        if (poll(&p, 1, 100) == 1) {
            n = read(master, piece, sizeof piece);
            if (n <= 0) /* EIO: nobody has it open any more */
                return next == steps;
            take(piece, (size_t)n);
            moved = now();
        } else if (now() - moved > PATIENCE) {
            kill(child, SIGKILL);
            return 0;
        }
    }
}

int
main(int argc, char **argv)
{
    int input = 1, output = 1, status = 0, good, c;

    while ((c = getopt(argc, argv, "+c:w:k:s:h01")) != -1) {
        if (c == '?' || steps == STEPS)
            return LOST;
        if (c == '0')
            input = 0;
        else if (c == '1')
            output = 0;
        else if (c == 'c' && !steps)
            columns = atoi(optarg);
        else
            step[steps++] = (struct step){(char)c, optarg};
    }
    if (optind == argc || !getenv("PTY")) {
        fputs("usage: see the head of test/pty.c\n", stderr);
        return LOST;
    }
    record = fopen(getenv("PTY"), "we");
    master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (!record || master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        die("terminal");
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        die("terminal");
    resize(columns);
    shown = columns;
    begun = now();
    child = fork();
    if (child == 0)
        become(argv + optind, input, output);
    if (child < 0)
        die("fork");
    close(slave); /* from now on only the command has it */
    good = watch();
    write_line();
    close(master);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            die("wait");
    fclose(record);
    return !good               ? LOST
           : WIFEXITED(status) ? WEXITSTATUS(status)
                               : 128 + WTERMSIG(status);
}
