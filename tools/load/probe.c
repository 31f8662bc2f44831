/* SPDX-License-Identifier: MIT
 * Preloaded into a server (LD_PRELOAD) to look inside it from a test: answers
 * each connection to the unix socket $TDL_PROBE with treadle's own numbers, one
 * "name value" per line. It finds the core that the process has loaded,
 * whichever binding brought it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef long long (*metric_fn)(const char *);

/* Any object that carries the core: libtreadle.so.0, or a binding with the
 * core inside. */
static int find_metric(struct dl_phdr_info *info, size_t size, void *found)
{
    (void)size;
    if (strstr(info->dlpi_name, "treadle") == NULL)
        return 0;
    void *object = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = object ? dlsym(object, "tdl_metric") : NULL;
    if (symbol != NULL)
        memcpy(found, &symbol, sizeof symbol);
    return symbol != NULL;
}

static void answer(int fd)
{
    static const char *const names[] = {
        "goroutines", "tasks", "threads", "stacks", "channels", "connections", "listeners", "timers"
    };
    metric_fn metric = NULL;
    dl_iterate_phdr(find_metric, &metric);
    for (size_t i = 0; metric != NULL && i < sizeof names / sizeof *names; i++)
        dprintf(fd, "%s %lld\n", names[i], metric(names[i]));
}

static void *serve(void *arg)
{
    int listener = (int)(long)arg;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        answer(fd);
    return NULL;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("TDL_PROBE");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (path == NULL || strlen(path) >= sizeof address.sun_path)
        return;
    strcpy(address.sun_path, path);
    /* Only the server itself: a child would inherit these and find the path taken. */
    unsetenv("LD_PRELOAD");
    unsetenv("TDL_PROBE");

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sigset_t all, before;
    pthread_t thread;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_create(&thread, NULL, serve, (void *)(long)fd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
