/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

typedef struct server {
    const char   *address;
    void        (*serve)(void *conn);
    tdl_listener *listener;
    sigset_t      signals;
} server;

/* A plain thread: it may call treadle too, and closing the listener wakes the
 * goroutine that waits in accept. */
static void *watch_signals(void *arg)
{
    server *s = arg;
    int sig = 0;
    while (sigwait(&s->signals, &sig) == 0 && sig == SIGQUIT)
        tdl_dump(2);
    tdl_listener_close(s->listener);
    return NULL;
}

static int accept_all(server *s)
{
    for (;;) {
        tdl_conn *c;
        int rc = tdl_listener_accept(s->listener, &c);
        if (rc == 0) {
            if (tdl_go(s->serve, c) == NULL) /* out of memory: this client goes, the others stay */
                tdl_conn_free(c);
        } else if (rc == -EMFILE || rc == -ENFILE) {
            tdl_sleep(10 * TDL_MILLISECOND); /* it stays in the backlog until a descriptor is free */
        } else if (rc == TDL_ECLOSED) {
            return 0;
        } else {
            fprintf(stderr, "accept: %s\n", tdl_strerror(rc));
            return 1;
        }
    }
}

static int main_g(void *arg)
{
    server *s = arg;
    int rc = tdl_listen("tcp", s->address, &s->listener);
    if (rc < 0) {
        fprintf(stderr, "listen on %s: %s\n", s->address, tdl_strerror(rc));
        return 1;
    }
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch_signals, s) != 0) {
        fprintf(stderr, "cannot start a thread\n");
        tdl_listener_free(s->listener);
        return 1;
    }

    char bound[64];
    tdl_listener_address(s->listener, bound, sizeof bound);
    printf("listening on %s\n", bound);
    fflush(stdout);

    int status = accept_all(s);
    if (status != 0)
        pthread_kill(watcher, SIGTERM);
    pthread_join(watcher, NULL);
    tdl_listener_free(s->listener);
    return status;
}

int server_run(const char *address, void (*serve)(void *conn))
{
    server s = { .address = address, .serve = serve };
    /* Blocked before the runtime starts its threads, which inherit the mask. */
    sigemptyset(&s.signals);
    sigaddset(&s.signals, SIGTERM);
    sigaddset(&s.signals, SIGINT);
    sigaddset(&s.signals, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &s.signals, NULL);
    return tdl_run(main_g, &s);
}
