/*
 * floor.c: what a put costs at least: a request whose head is at hand, and sendfile().
 *
 *   floor PORT TARGET FILE    puts FILE to TARGET (a presigned path) at 127.0.0.1:PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void
need(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd, s = socket(AF_INET, SOCK_STREAM, 0), n;
    struct stat info;
    char text[4096];
    off_t at = 0;

    need(argc == 4, "floor PORT TARGET FILE");
    to.sin_port = htons((uint16_t)atoi(argv[1]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = open(argv[3], O_RDONLY);
    need(fd >= 0 && fstat(fd, &info) == 0, argv[3]);
    need(connect(s, (struct sockaddr *)(void *)&to, sizeof to) == 0, argv[1]);
    n = snprintf(text, sizeof text,
                 "PUT %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Length: %lld\r\n\r\n",
                 argv[2], argv[1], (long long)info.st_size);
    need(n < (int)sizeof text && write(s, text, (size_t)n) == n, "head");
    while (at < info.st_size)
        need(sendfile(s, fd, &at, (size_t)(info.st_size - at)) > 0, "sendfile");
    n = (int)read(s, text, sizeof text);
    return n > 12 && strncmp(text + 9, "200", 3) == 0 ? 0 : 1;
}
