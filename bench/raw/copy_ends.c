/* SPDX-License-Identifier: MIT
 * copy_ends PORT: two connections; on the first it writes messages of 1 MB without
 * end, what comes on the second it drops unseen. It ends when the server closes them. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGE = 1 << 20 };

static int dial(const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        exit(1);
    return fd;
}

int main(int argc, char **argv)
{
    static char message[MESSAGE];
    if (argc != 2)
        return 2;
    int from = dial(argv[1]), to = dial(argv[1]);
    pid_t writer = fork();
    if (writer == 0) {
        while (send(from, message, sizeof message, MSG_NOSIGNAL) > 0) {}
        _exit(0);
    }
    while (recv(to, NULL, MESSAGE, MSG_TRUNC) > 0) {}
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    return 0;
}
