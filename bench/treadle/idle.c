/* SPDX-License-Identifier: MIT
 * What an idle connection takes in a server: idle N CLIENTS, where CLIENTS is the
 * program that opens them. Prints bytes of resident memory for each. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <treadle.h>
#include <unistd.h>

static long n = 9000;
static const char *clients;

static double resident(void)
{
    long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &pages) != 2)
        exit(1);
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void echo(tdl_conn *c, void *arg)
{
    char buf[4096];
    (void)arg;
    int64_t got = tdl_conn_read(c, buf, sizeof buf);
    if (got <= 0 || tdl_conn_write(c, buf, (size_t)got) < 0)
        tdl_conn_close(c);
}

static int main_g(void *arg)
{
    char command[512], line[16];
    tdl_listener *l;
    tdl_server *s;
    tdl_server_options o = { .size = sizeof o, .handler = echo };
    (void)arg;
    if (tdl_listen("tcp", "127.0.0.1:0", &l) < 0 || tdl_server_new(&l, 1, &o, &s) < 0)
        return 1;
    double before = resident();
    snprintf(command, sizeof command, "%s %d %ld", clients, tdl_listener_port(l), n);
    FILE *p = popen(command, "r");
    if (!p || !fgets(line, sizeof line, p))
        return 1;
    for (int i = 0; i < 1000 && tdl_server_stat(s, TDL_SERVER_CONNS) < n; i++)
        tdl_sleep(10 * TDL_MILLISECOND);
    if (tdl_server_stat(s, TDL_SERVER_CONNS) < n)
        return 1;
    printf("%.1f\n", (resident() - before) / (double)n);
    tdl_server_free(s);
    pclose(p);
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    if (argc != 3)
        return 2;
    n = atol(argv[1]);
    clients = argv[2];
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return tdl_run(main_g, NULL);
}
