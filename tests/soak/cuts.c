/* SPDX-License-Identifier: MIT
 * A stream that its peer ends, or resets, after any number of bytes, while we
 * read and while we write; and one that we end or reset, on TCP, unix streams
 * and pipes in memory. What arrived before is read, the rest is one error. */
#include "soak.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIN, RESET, HOWS, PIECE = 16 };
static const char *const how_names[] = { "end", "reset" };
static const char *const networks[] = { "tcp", "unix", "pipe" };

static int64_t      exchange; /* bytes each way */
static char         text[4096];
static atomic_llong ended, errors;

static int pair(const char *network, tdl_listener *l, tdl_conn **a, tdl_conn **b) {
    char address[128];
    *a = *b = NULL;
    if (strcmp(network, "pipe") == 0) return soak_expect(tdl_pipe_new(1 << 16, a, b), 0, "pipe");
    tdl_listener_address(l, address, sizeof address);
    return soak_expect(tdl_dial(network, address, 0, a), 0, "dial") &&
           soak_expect(tdl_listener_accept(l, b), 0, "accept");
}

static void end(tdl_conn *c, int how) {
    if (how == RESET) tdl_conn_set_option(c, TDL_LINGER, 0);
    tdl_conn_free(c);
}

/* Reads until something ends it: how much came, and the code. */
static int64_t read_all(tdl_conn *c, int64_t *got) {
    char    buf[700];
    int64_t n;
    *got = 0;
    while ((n = tdl_conn_read(c, buf, sizeof buf)) > 0) {
        if (memcmp(buf, text + *got, (size_t)n) != 0) soak_wrong("other bytes than were sent");
        *got += n;
    }
    return n;
}

typedef struct part {
    tdl_conn      *c;
    int64_t        cut;
    int            how;
    tdl_waitgroup *gone;
} part;

/* One end: writes as far as the cut, and goes. */
static void goes(void *arg) {
    part *p = arg;
    if (p->cut) soak_expect(tdl_conn_write(p->c, text, (size_t)p->cut), p->cut, "write");
    end(p->c, p->how);
    tdl_waitgroup_done(p->gone);
}

/* One end: reads as far as the cut, and goes. */
static void takes_and_goes(void *arg) {
    part *p = arg;
    char  buf[700];
    for (int64_t left = p->cut; left > 0;) {
        int64_t n = tdl_conn_read(p->c, buf, left < (int64_t)sizeof buf ? (size_t)left : sizeof buf);
        if (n <= 0) {
            soak_expect(n, left, "read");
            break;
        }
        left -= n;
    }
    end(p->c, p->how);
    tdl_waitgroup_done(p->gone);
}

/* The other end writes the whole of it meanwhile, and on until it hears that nobody reads. */
static void writes_to(const char *network, tdl_conn *c) {
    char    byte;
    int64_t w = 0, r;
    for (int64_t at = 0; at < exchange && w >= 0; at += PIECE)
        w = tdl_conn_write(c, text + at, (size_t)(exchange - at < PIECE ? exchange - at : PIECE));
    while (w >= 0) {
        tdl_yield();
        w = tdl_conn_write(c, "x", 1);
    }
    if (w != -ECONNRESET) soak_expect(w, -EPIPE, "a write to who is gone");
    atomic_fetch_add(&errors, 1);
    soak_expect(tdl_conn_write(c, "x", 1), -EPIPE, "the next write");
    r = tdl_conn_read(c, &byte, 1); /* bytes that it left unread are a reset, too */
    if (r == -ECONNRESET && strcmp(network, "pipe") != 0) r = 0;
    soak_expect(r, 0, "a read from who is gone");
}

/* The other end reads and writes meanwhile; it then has exactly one answer. */
static void meets(const char *network, tdl_conn *c, int64_t cut, int how) {
    int64_t got, r = read_all(c, &got);
    int     may_reset = strcmp(network, "tcp") == 0 && how == RESET;
    if (r == 0) atomic_fetch_add(&ended, 1);
    else atomic_fetch_add(&errors, 1);
    if (r != 0 && !(may_reset && r == -ECONNRESET)) soak_expect(r, 0, "the end of the stream");
    if (r == 0 && may_reset) soak_wrong("a reset after %" PRId64 " bytes was taken for the end", cut);
    if (r == 0 ? got != cut : got > cut) soak_wrong("%" PRId64 " bytes came of %" PRId64, got, cut);
    for (int i = 0; i < 3; i++) { /* and it stays so */
        char    byte = 0;
        int64_t again = tdl_conn_read(c, &byte, 1);
        if (again > 0) soak_wrong("bytes after the end");
    }
    for (int i = 0, broken = 0; i < 3; i++) {
        int64_t w = tdl_conn_write(c, "x", 1);
        if (w != 1 && w != -EPIPE && w != -ECONNRESET) soak_expect(w, -EPIPE, "a write to who is gone");
        if (w == 1 && broken) soak_wrong("a broken stream takes bytes again");
        broken |= w != 1;
    }
}

static void cut_all(const char *network, int dialler_goes, int how, int takes) {
    tdl_listener  *l = NULL;
    tdl_waitgroup *gone = tdl_waitgroup_new();
    if (strcmp(network, "pipe") != 0)
        soak_expect(tdl_listen(network, strcmp(network, "unix") == 0 ? "@" : "127.0.0.1:0", &l), 0, "listen");
    for (int64_t cut = 0; cut <= exchange; cut++) {
        tdl_conn *a, *b;
        if (!pair(network, l, &a, &b)) break;
        part p = { dialler_goes ? a : b, cut, how, gone };
        tdl_conn_set_deadline(a, tdl_now() + 10 * TDL_SECOND);
        tdl_conn_set_deadline(b, tdl_now() + 10 * TDL_SECOND);
        tdl_waitgroup_add(gone, 1);
        tdl_go(takes ? takes_and_goes : goes, &p);
        tdl_conn *rest = dialler_goes ? b : a;
        if (takes)
            writes_to(network, rest);
        else
            meets(network, rest, cut, how);
        tdl_waitgroup_wait(gone);
        tdl_conn_free(rest);
    }
    tdl_listener_free(l);
    tdl_waitgroup_free(gone);
}

static int main_g(void *arg) {
    (void)arg;
    for (size_t n = 0; n < sizeof networks / sizeof *networks; n++) {
        for (int how = 0; how < HOWS; how++) {
            char what[64];
            int64_t before = atomic_load(&ended) + atomic_load(&errors), resets = atomic_load(&errors);
            for (int side = 0; side < 4; side++) cut_all(networks[n], side % 2, how, side / 2);
            snprintf(what, sizeof what, "%s, %s: streams; of them with an error", networks[n], how_names[how]);
            soak_says(what, "%" PRId64 "; %" PRId64, (int64_t)(atomic_load(&ended) + atomic_load(&errors)) - before,
                      (int64_t)atomic_load(&errors) - resets);
        }
    }
    return 0;
}

static void cuts(int64_t n) {
    int fds = soak_fds();
    exchange = n < (int64_t)sizeof text ? n : (int64_t)sizeof text;
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * 7 + i / 256);
    soak_expect(tdl_run(main_g, NULL), 0, "run");
    if (tdl_metric("connections") != 0) soak_wrong("connections are left");
    if (soak_fds() > fds) soak_wrong("descriptors are lost");
}

const run soak_cuts = { "cuts", 512, "bytes of exchange", cuts };
