/* SPDX-License-Identifier: MIT
 * The scenarios: copies within the kernel, and servers whose idle connections are parked. */
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- Copies -------------------------------------------------------------------------------- */

enum { COPIED = 600000 };

static char letter_at(size_t i) { return (char)(i * 31 + i / 256); }

typedef struct sum {
    uint64_t n, all;
} sum;

static sum sum_of(sum s, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++, s.n++) s.all = s.all * 31 + (unsigned char)p[i];
    return s;
}

static sum whole(void) {
    static sum s;
    static char bytes[COPIED];
    if (s.n) return s;
    for (size_t i = 0; i < COPIED; i++) bytes[i] = letter_at(i);
    return s = sum_of(s, bytes, COPIED);
}

static void gives(server *s, tdl_conn *c) {
    static char bytes[COPIED];
    (void)s;
    for (size_t i = 0; i < COPIED; i++) bytes[i] = letter_at(i);
    saw(tdl_conn_write(c, bytes, COPIED));
}

/* Says at the end what has come. */
static void takes(server *s, tdl_conn *c) {
    char    buf[16384];
    sum     is = { 0 };
    int64_t n;
    (void)s;
    while ((n = saw(tdl_conn_read(c, buf, sizeof buf))) > 0) is = sum_of(is, buf, (size_t)n);
    if (n == 0) saw(tdl_conn_write(c, &is, sizeof is));
}

/* All has been sent to c, a `takes`: has it come, once and in order? */
static bool arrived(tdl_conn *c) {
    sum is, want = whole();
    if (saw(tdl_conn_close_write(c)) < 0 || saw(tdl_conn_fill(c, TDL_FILL_EXACT, sizeof is)) != (int64_t)sizeof is)
        return false;
    memcpy(&is, tdl_conn_peek(c, NULL), sizeof is);
    saw(tdl_conn_skip(c, sizeof is));
    return is.n == want.n && is.all == want.all;
}

int scenario_copying(void *arg) {
    server    from = { 0 }, to = { 0 };
    tdl_conn *a = NULL, *b = NULL;
    int64_t   copied = -1;
    (void)arg;
    if (server_open(&from, "tcp", "127.0.0.1:0", gives, NULL) && server_open(&to, "tcp", "127.0.0.1:0", takes, NULL) &&
        saw(tdl_dial("tcp", from.address, WAIT, &a)) == 0 && saw(tdl_dial("tcp", to.address, WAIT, &b)) == 0) {
        tdl_conn_set_deadline(a, soon());
        tdl_conn_set_deadline(b, soon());
        if (saw(tdl_conn_copy(b, a, -1, &copied)) == 0 && copied == COPIED && arrived(b)) is_done();
    }
    tdl_conn_free(a);
    tdl_conn_free(b);
    server_close(&from);
    server_close(&to);
    return 0;
}

static int file_of_bytes(void) {
    char path[] = "/tmp/treadle-sweep-XXXXXX";
    int  fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) abort();
    unlink(path);
    char *bytes = malloc(COPIED);
    for (size_t i = 0; i < COPIED; i++) bytes[i] = letter_at(i);
    if (write(fd, bytes, COPIED) != COPIED) abort();
    free(bytes);
    return fd;
}

/* Once from an offset, once from where the file stands. */
int scenario_sending(void *arg) {
    int  fd = file_of_bytes(), ok = 0;
    bool on = true;
    (void)arg;
    for (int i = 0; i < 2 && on; i++) {
        server    to = { 0 };
        tdl_conn *c = NULL;
        int64_t   sent = -1;
        on = false;
        if (lseek(fd, 0, SEEK_SET) == 0 && server_open(&to, "tcp", "127.0.0.1:0", takes, NULL) &&
            saw(tdl_dial("tcp", to.address, WAIT, &c)) == 0) {
            tdl_conn_set_deadline(c, soon());
            on = saw(tdl_conn_send_file(c, fd, i ? -1 : 0, -1, &sent)) == 0 && sent == COPIED && arrived(c);
        }
        ok += on;
        tdl_conn_free(c);
        server_close(&to);
    }
    close(fd);
    if (ok == 2) is_done();
    return 0;
}

/* -- Servers --------------------------------------------------------------------------------- */

enum { CLIENTS = 4, ROUNDS = 6 };

static atomic_int answered;

/* Answers one line; false: there is none any more. */
static bool answer(tdl_conn *c) {
    char    line[16];
    int64_t n = saw(tdl_conn_fill(c, TDL_FILL_LINE, sizeof line));
    if (n <= 0) return false;
    const char *p = tdl_conn_peek(c, NULL);
    if (!p) return false;
    memcpy(line, p, (size_t)n);
    if (saw(tdl_conn_skip(c, (size_t)n)) < 0) return false;
    atomic_fetch_add(&answered, 1);
    return saw(tdl_conn_write(c, line, (size_t)n)) == n;
}

static void handles(tdl_conn *c, void *arg) {
    (void)arg;
    tdl_conn_set_deadline(c, soon());
    if (!answer(c)) tdl_conn_close(c);
    tdl_conn_set_deadline(c, 0);
}

static bool ask(tdl_conn *c, int i) {
    char line[16], *end = line + snprintf(line, sizeof line, "%d\n", i);
    tdl_conn_set_deadline(c, soon());
    if (saw(tdl_conn_write(c, line, (size_t)(end - line))) < 0) return false;
    int64_t n = saw(tdl_conn_fill(c, TDL_FILL_LINE, sizeof line));
    bool    same = n == end - line && memcmp(tdl_conn_peek(c, NULL), line, (size_t)n) == 0;
    if (n > 0) saw(tdl_conn_skip(c, (size_t)n));
    return same;
}

/* A connection that the server has accepted and could not register is closed, and counted: its client
 * finds it closed or reset, and that is no other error. */
static void look_at_count(tdl_server *s) {
    int kept = 0;
    if (tdl_server_stat(s, TDL_SERVER_STARVED) == 0) return;
    for (int i = 0; i < sweep_told.n; i++) {
        int code = sweep_told.codes[i];
        if (code != TDL_EEOF && code != -ECONNRESET && code != -EPIPE) sweep_told.codes[kept++] = code;
    }
    if (kept < sweep_told.n) sweep_told.codes[kept++] = SWEEP_COUNTED;
    sweep_told.n = kept;
}

/* They ask in turn, with all parked in between; then the server is shut down under them. */
static void clients(tdl_server *s, const char *address) {
    tdl_conn *c[CLIENTS] = { 0 };
    bool      ok = true;
    char      byte;
    atomic_store(&answered, 0);
    for (int i = 0; i < CLIENTS && ok; i++) ok = saw(tdl_dial("tcp", address, WAIT, &c[i])) == 0;
    for (int i = 0; i < CLIENTS * ROUNDS && ok; i++) ok = ask(c[i % CLIENTS], i);
    if (saw(tdl_server_shutdown(s, soon())) != 0) ok = false;
    for (int i = 0; i < CLIENTS && ok; i++) ok = saw(tdl_conn_read(c[i], &byte, 1)) == 0;
    for (int i = 0; i < CLIENTS; i++) tdl_conn_free(c[i]);
    look_at_count(s);
    if (ok && atomic_load(&answered) == CLIENTS * ROUNDS) is_done();
}

static tdl_server *open_served(tdl_handler handler, char address[64]) {
    tdl_server_options o = { .size = sizeof o, .handler = handler };
    tdl_listener      *l = NULL;
    tdl_server        *s = NULL;
    if (saw(tdl_listen("tcp", "127.0.0.1:0", &l)) < 0) return NULL;
    if (saw(tdl_listener_address(l, address, 64)) < 0 || saw(tdl_server_new(&l, 1, &o, &s)) < 0) {
        tdl_listener_free(l);
        return NULL;
    }
    return s;
}

int scenario_parked(void *arg) {
    char        address[64];
    tdl_server *s = open_served(handles, address);
    (void)arg;
    if (s) clients(s, address);
    tdl_server_free(s);
    return 0;
}

typedef struct askers {
    tdl_server    *s;
    tdl_waitgroup *gone;
} askers;

static void asks_for_next(void *arg) {
    askers   *a = arg;
    tdl_conn *c;
    for (int64_t r = 0; r != TDL_ECLOSED && r != TDL_ETIMEDOUT;) {
        if ((r = saw(tdl_server_next(a->s, soon(), &c))) < 0) continue;
        tdl_conn_set_deadline(c, soon());
        bool ok = answer(c);
        tdl_conn_set_deadline(c, 0);
        if (ok)
            saw(tdl_server_park(c));
        else
            tdl_conn_free(c);
    }
    tdl_waitgroup_done(a->gone);
}

int scenario_asked(void *arg) {
    char   address[64];
    askers a = { open_served(NULL, address), NULL };
    int    there = 0;
    (void)arg;
    if (a.s && (a.gone = got(tdl_waitgroup_new())) != NULL) {
        for (int i = 0; i < 2; i++) {
            tdl_waitgroup_add(a.gone, 1);
            if (saw(tdl_spawn(NULL, asks_for_next, &a, NULL)) < 0)
                tdl_waitgroup_done(a.gone);
            else
                there++;
        }
        if (there)
            clients(a.s, address);
        else
            tdl_server_close(a.s);
        while (saw(tdl_waitgroup_wait_until(a.gone, soon())) != 0 && sweep_told.n < 20) {}
    }
    tdl_server_free(a.s);
    tdl_waitgroup_free(a.gone);
    return 0;
}
