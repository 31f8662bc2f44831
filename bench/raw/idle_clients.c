/* SPDX-License-Identifier: MIT
 * idle_clients PORT N: opens N connections, says "ready", and holds them until the
 * server closes one. 4,000 come from each loopback address, since ports run out. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct rlimit limit;
    struct sockaddr_in to = { .sin_family = AF_INET }, from = to;
    int fd = -1;
    char byte;
    if (argc != 3)
        return 2;
    to.sin_port = htons((unsigned short)atoi(argv[1]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < atoi(argv[2]); i++) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (unsigned)i / 4000);
        if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from) < 0 ||
            connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
            perror("idle_clients");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    return recv(fd, &byte, 1, 0) < 0;
}
