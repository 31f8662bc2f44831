/* SPDX-License-Identifier: MIT
 * Copying messages of 1 MB from one TCP connection to another: copy N ENDS, where ENDS
 * is the program at both ends. Prints this process's CPU time for each: within the
 * kernel, and with read and write; and the ratio. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <treadle.h>

enum { MESSAGE = 1 << 20, CHUNK = 64 * 1024 };

static long n = 300;
static const char *ends;

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_hand(tdl_conn *to, tdl_conn *from, int64_t bytes)
{
    char *buf = malloc(CHUNK);
    while (bytes > 0) {
        int64_t got = tdl_conn_read(from, buf, CHUNK);
        if (got <= 0 || tdl_conn_write(to, buf, (size_t)got) < 0)
            return -1;
        bytes -= got;
    }
    free(buf);
    return 0;
}

static int main_g(void *arg)
{
    char command[512];
    tdl_listener *l;
    tdl_conn *from, *to;
    double each[2];
    (void)arg;
    if (tdl_listen("tcp", "127.0.0.1:0", &l) < 0)
        return 1;
    snprintf(command, sizeof command, "%s %d", ends, tdl_listener_port(l));
    FILE *p = popen(command, "r");
    if (!p || tdl_listener_accept(l, &from) < 0 || tdl_listener_accept(l, &to) < 0)
        return 1;
    for (int hand = 0; hand < 2; hand++) {
        int64_t bytes = (int64_t)n * MESSAGE;
        if (by_hand(to, from, 20 * MESSAGE) < 0)
            return 1;
        double begin = cpu();
        int r = hand ? by_hand(to, from, bytes) : tdl_conn_copy(to, from, bytes, NULL);
        each[hand] = (cpu() - begin) / (double)n;
        if (r < 0)
            return 1;
    }
    printf("%.0f\n%.0f\n%.3f\n", each[0], each[1], each[1] / each[0]);
    tdl_conn_free(from);
    tdl_conn_free(to);
    pclose(p);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    n = atol(argv[1]);
    ends = argv[2];
    tdl_gomaxprocs(1);
    return tdl_run(main_g, NULL);
}
