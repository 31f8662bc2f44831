/* SPDX-License-Identifier: MIT
 *
 * The table of injected faults.
 *
 * What is drawn comes from a generator of each thread, seeded by the seed and
 * the thread's number in the order in which they first draw. A thread that makes
 * the same calls gets the same faults.
 *
 * EAGAIN from a descriptor that is ready, in a program that waits for edges: no
 * edge will follow. So the thread notes that it was lied to, and who asked the
 * attempt tries again after a while (owed).
 *
 * Events that are to be late are kept under `late.lock`, and only when the caller
 * would have waited for them: it calls again, and is not made to wait longer.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/fault.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "sys/lock.h"
#include "sys/service.h"
#include "treadle.h"

enum { MOST_PARTS = 64, MOST_LATE = 64 };
#define LATE_NS (2 * TDL_MILLISECOND)

/* -- What can be set ------------------------------------------------------------------ */

enum fault {
    SHORT, AGAIN, INTR, RESET, BROKEN, ABORTED, REFUSED,
    MFILE, NFILE, NOMEM, NOBUFS, THREAD, LATE, TWICE,
    IO, NOSPACE, NAMES,
    FAULTS
};

static const struct {
    const char *name;
    bool       endless; /* at a rate of 1 nothing would ever be done */
} faults[FAULTS] = {
    [SHORT] = {"short", false},   [AGAIN] = {"eagain", true},     [INTR] = {"eintr", true},
    [RESET] = {"reset", false},   [BROKEN] = {"epipe", false},    [ABORTED] = {"aborted", true},
    [REFUSED] = {"refused", false}, [MFILE] = {"emfile", false},  [NFILE] = {"enfile", false},
    [NOMEM] = {"enomem", false},  [NOBUFS] = {"enobufs", false},  [THREAD] = {"thread", false},
    [LATE] = {"delay", false},    [TWICE] = {"duplicate", false},
    [IO] = {"eio", false},        [NOSPACE] = {"enospc", false},  [NAMES] = {"nameserver", false},
};

typedef struct settings {
    uint64_t seed;
    uint64_t after, most; /* calls that are left alone first; faults altogether */
    uint64_t rate[FAULTS]; /* of 2^32 */
} settings;

/* Relaxed: each is a number of its own. */
static _Atomic uint64_t rates[FAULTS];
static _Atomic uint64_t seed, after, most, drawn, struck;
static _Atomic int64_t counts[FAULTS];
static _Atomic uint32_t generation; /* of the settings; 0: the table was never put in place */
static _Atomic uint32_t threads;    /* that have drawn in this generation */

/* -- Parsing ---------------------------------------------------------------------------- */

static bool whole(const char *s, size_t n, uint64_t *out) {
    *out = 0;
    if (n == 0 || n > 18) return false;
    for (; n; n--, s++) {
        if (*s < '0' || *s > '9') return false;
        *out = *out * 10 + (uint64_t)(*s - '0');
    }
    return true;
}

/* "0.25", ".25", "1": whatever the locale. Of 2^32, rounded up, so that none is 0. */
static bool share(const char *s, size_t n, uint64_t *out) {
    double value = 0, place = 1;
    bool point = false, digit = false;
    for (; n; n--, s++) {
        if (*s == '.' && !point) {
            point = true;
            continue;
        }
        if (*s < '0' || *s > '9') return false;
        digit = true;
        if (point) place /= 10;
        value = point ? value + (*s - '0') * place : value * 10 + (*s - '0');
        if (value > 1) return false;
    }
    *out = (uint64_t)(value * 4294967296.0);
    if (value > 0 && *out == 0) *out = 1;
    return digit;
}

static bool wrong(char *why, size_t size, const char *part, size_t n, const char *text) {
    if (size) snprintf(why, size, "\"%.*s\": %s", (int)(n < 60 ? n : 60), part, text);
    return false;
}

static bool unknown(char *why, size_t size, const char *part, size_t n) {
    char text[240] = "no such fault; there are";
    for (int f = 0; f < FAULTS; f++) {
        strncat(text, " ", sizeof text - strlen(text) - 1);
        strncat(text, faults[f].name, sizeof text - strlen(text) - 1);
    }
    strncat(text, ", and seed after most", sizeof text - strlen(text) - 1);
    return wrong(why, size, part, n, text);
}

static bool named(const char *part, size_t n, const char *name) {
    return strlen(name) == n && memcmp(part, name, n) == 0;
}

static bool parse_one(settings *s, const char *part, size_t n, char *why, size_t size) {
    const char *equals = memchr(part, '=', n);
    if (!equals) return wrong(why, size, part, n, "expected name=value");
    size_t name = (size_t)(equals - part), rest = n - name - 1;
    uint64_t *number = named(part, name, "seed")    ? &s->seed
                       : named(part, name, "after") ? &s->after
                       : named(part, name, "most")  ? &s->most
                                                    : NULL;
    if (number) return whole(equals + 1, rest, number) || wrong(why, size, part, n, "expected a whole number");
    for (int f = 0; f < FAULTS; f++) {
        if (!named(part, name, faults[f].name)) continue;
        if (!share(equals + 1, rest, &s->rate[f])) return wrong(why, size, part, n, "expected a rate from 0 to 1");
        if (faults[f].endless && s->rate[f] > UINT64_C(4252017623))
            return wrong(why, size, part, n, "at most 0.99: what is tried again must succeed some time");
        return true;
    }
    return unknown(why, size, part, name);
}

static bool parse(settings *s, const char *text, char *why, size_t size) {
    *s = (settings){.most = UINT64_MAX};
    while (text && *text) {
        size_t n = strcspn(text, ",");
        if (!parse_one(s, text, n, why, size)) return false;
        text += n;
        if (*text && *++text == '\0') return wrong(why, size, ",", 1, "something should follow the last comma");
    }
    return true;
}

bool tdl_fault_parses(const char *text, char *why, size_t size) {
    settings s;
    return parse(&s, text, why, size);
}

/* -- Drawing ----------------------------------------------------------------------------- */

static _Thread_local struct {
    uint32_t generation;
    uint64_t state;
    int64_t owed; /* ns after which the last EAGAIN will no longer be so; 0: it was true */
} mine;

TDL_NO_TSAN static uint64_t next(void) {
    uint32_t now = at_load_rlx(&generation);
    if (mine.generation != now) {
        mine.generation = now;
        mine.state = at_load_rlx(&seed) * UINT64_C(0xd1342543de82ef95) + at_add_rlx(&threads, 1);
    }
    uint64_t z = (mine.state += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool strikes(enum fault f) {
    uint64_t rate = at_load_rlx(&rates[f]);
    if (rate == 0) return false;
    if ((next() >> 32) >= rate || at_add_rlx(&drawn, 1) < at_load_rlx(&after)) return false;
    if (at_add_rlx(&struck, 1) >= at_load_rlx(&most)) return false;
    at_add_rlx(&counts[f], 1);
    return true;
}

/* A number from 1 to n. */
static size_t up_to(size_t n) { return n < 2 ? n : 1 + (size_t)(next() % n); }

TDL_NO_TSAN static int lie(void) {
    mine.owed = 1 + (int64_t)(next() % LATE_NS);
    return -EAGAIN;
}

TDL_NO_TSAN static int64_t owed(void) {
    int64_t ns = mine.owed;
    mine.owed = 0;
    return ns;
}

/* -- Memory and threads ------------------------------------------------------------------- */

static void *fault_alloc(size_t n) { return strikes(NOMEM) ? NULL : tdl_sys_real.alloc(n); }
static void *fault_resize(void *p, size_t n) { return strikes(NOMEM) ? NULL : tdl_sys_real.resize(p, n); }
static void *fault_map(size_t n) { return strikes(NOMEM) ? NULL : tdl_sys_real.map(n); }

static int fault_thread(void *(*fn)(void *), void *arg, void *thread) {
    return strikes(THREAD) ? -EAGAIN : tdl_sys_real.thread(fn, arg, thread);
}

static int fault_futex_wait(void *word, uint32_t expected, int64_t deadline) {
    return strikes(INTR) ? -EINTR : tdl_sys_real.futex_wait(word, expected, deadline);
}

/* -- New descriptors ------------------------------------------------------------------------ */

static int no_descriptor(void) {
    if (strikes(MFILE)) return -EMFILE;
    if (strikes(NFILE)) return -ENFILE;
    return strikes(NOMEM) ? -ENOMEM : 0;
}

static int fault_uring_setup(unsigned entries, struct io_uring_params *p) {
    int r = no_descriptor();
    return r < 0 ? r : tdl_sys_real.uring_setup(entries, p);
}

static int fault_uring_enter(int fd, unsigned to_submit, unsigned min, unsigned flags, const void *arg, size_t size) {
    return min && strikes(INTR) ? -EINTR : tdl_sys_real.uring_enter(fd, to_submit, min, flags, arg, size);
}

static int fault_wait_readable(int fd, int64_t timeout_ns) {
    return timeout_ns && strikes(INTR) ? -EINTR : tdl_sys_real.wait_readable(fd, timeout_ns);
}

static int fault_epoll_create(void) {
    int r = no_descriptor();
    return r < 0 ? r : tdl_sys_real.epoll_create();
}

static int fault_eventfd(void) {
    int r = no_descriptor();
    return r < 0 ? r : tdl_sys_real.eventfd();
}

static int fault_socket(int domain, int type, int protocol) {
    int r = no_descriptor();
    if (r == 0 && strikes(NOBUFS)) r = -ENOBUFS;
    return r < 0 ? r : tdl_sys_real.socket(domain, type, protocol);
}

static int fault_dup(int fd) {
    int r = no_descriptor();
    return r < 0 ? r : tdl_sys_real.dup(fd);
}

static int fault_accept(int fd, struct sockaddr *sa, socklen_t *n) {
    int r = no_descriptor();
    if (r < 0) return r;
    if (strikes(NOBUFS)) return -ENOBUFS;
    if (strikes(INTR)) return -EINTR;
    if (strikes(ABORTED)) return -ECONNABORTED;
    return strikes(AGAIN) ? lie() : tdl_sys_real.accept(fd, sa, n);
}

/* Interrupted, it goes on by itself. */
static int fault_connect(int fd, const struct sockaddr *sa, socklen_t n) {
    if (strikes(REFUSED)) return -ECONNREFUSED;
    int r = tdl_sys_real.connect(fd, sa, n);
    return r == -EINPROGRESS && strikes(INTR) ? -EINTR : r;
}

/* -- Bytes ------------------------------------------------------------------------------------ */

/* May less than asked be done, with nothing lost? */
static bool is_stream(int fd) {
    int type = 0;
    socklen_t n = sizeof type;
    struct stat st;
    int r = tdl_sys_real.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n);
    if (r == 0) return type == SOCK_STREAM;
    return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode));
}

static bool is_connection(int fd) {
    int type = 0;
    socklen_t n = sizeof type;
    return tdl_sys_real.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type != SOCK_DGRAM && type != SOCK_RAW;
}

/* The peer is not left waiting for ever. */
static int cut(int fd, int how, int code) {
    tdl_sys_real.shutdown(fd, how);
    return code;
}

static int no_bytes(int fd, bool out) {
    if (strikes(INTR)) return -EINTR;
    if (strikes(AGAIN)) return lie();
    if (at_load_rlx(&rates[RESET]) && is_connection(fd) && strikes(RESET)) return cut(fd, SHUT_RDWR, -ECONNRESET);
    if (!out) return 0;
    if (at_load_rlx(&rates[BROKEN]) && is_stream(fd) && strikes(BROKEN)) return cut(fd, SHUT_WR, -EPIPE);
    return strikes(NOBUFS) ? -ENOBUFS : 0;
}

static size_t fewer(int fd, size_t n) {
    return n > 1 && at_load_rlx(&rates[SHORT]) && is_stream(fd) && strikes(SHORT) ? up_to(n - 1) : n;
}

static int64_t fault_recv(int fd, void *buf, size_t n) {
    int r = no_bytes(fd, false);
    return r < 0 ? r : tdl_sys_real.recv(fd, buf, fewer(fd, n));
}

static int64_t fault_send(int fd, const void *buf, size_t n) {
    int r = no_bytes(fd, true);
    return r < 0 ? r : tdl_sys_real.send(fd, buf, fewer(fd, n));
}

static int64_t fault_read(int fd, void *buf, size_t n) {
    int r = no_bytes(fd, false);
    return r < 0 ? r : tdl_sys_real.read(fd, buf, fewer(fd, n));
}

static int64_t fault_write(int fd, const void *buf, size_t n) {
    int r = no_bytes(fd, true);
    return r < 0 ? r : tdl_sys_real.write(fd, buf, fewer(fd, n));
}

static int64_t fault_writev(int fd, const struct iovec *v, int n) {
    int r = no_bytes(fd, true);
    return r < 0 ? r : fewer(fd, 2) < 2 ? tdl_sys_real.write(fd, v->iov_base, v->iov_len) : tdl_sys_real.writev(fd, v, n);
}

static int64_t fault_splice(int from, int to, size_t n) {
    int r = no_bytes(to, true);
    return r < 0 ? r : tdl_sys_real.splice(from, to, fewer(to, n));
}

static int64_t fault_sendfile(int to, int file, int64_t *offset, size_t n) {
    int r = no_bytes(to, true);
    return r < 0 ? r : tdl_sys_real.sendfile(to, file, offset, fewer(to, n));
}

static int64_t fault_pread(int fd, void *buf, size_t n, int64_t offset) {
    return strikes(INTR) ? -EINTR : tdl_sys_real.pread(fd, buf, n, offset);
}

static int fault_pipe(int fds[2]) {
    int r = no_descriptor();
    return r < 0 ? r : tdl_sys_real.pipe(fds);
}

/* The message with fewer bytes, in parts; true when it was made. */
static bool fewer_parts(int fd, struct msghdr *m, struct iovec *parts) {
    size_t n = 0, i;
    if (m->msg_iovlen > MOST_PARTS) return false;
    for (i = 0; i < (size_t)m->msg_iovlen; i++) n += m->msg_iov[i].iov_len;
    size_t left = fewer(fd, n);
    if (left == n) return false;
    for (i = 0; left > 0; i++) {
        parts[i] = m->msg_iov[i];
        if (parts[i].iov_len > left) parts[i].iov_len = left;
        left -= parts[i].iov_len;
    }
    m->msg_iov = parts;
    m->msg_iovlen = i;
    return true;
}

static int64_t fault_recvmsg(int fd, struct msghdr *m) {
    struct iovec parts[MOST_PARTS], *all = m->msg_iov;
    int64_t r = no_bytes(fd, false);
    if (r < 0) return r;
    size_t n = m->msg_iovlen;
    fewer_parts(fd, m, parts);
    r = tdl_sys_real.recvmsg(fd, m);
    m->msg_iov = all;
    m->msg_iovlen = n;
    return r;
}

static int64_t fault_sendmsg(int fd, const struct msghdr *m) {
    struct iovec parts[MOST_PARTS];
    struct msghdr copy = *m;
    int r = no_bytes(fd, true);
    if (r < 0) return r;
    fewer_parts(fd, &copy, parts);
    return tdl_sys_real.sendmsg(fd, &copy);
}

static unsigned fewer_messages(unsigned n) { return n > 1 && strikes(SHORT) ? (unsigned)up_to(n - 1) : n; }

static int fault_recvmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    int r = no_bytes(fd, false);
    return r < 0 ? r : tdl_sys_real.recvmmsg(fd, m, fewer_messages(n));
}

static int fault_sendmmsg(int fd, struct tdl_mmsg *m, unsigned n) {
    int r = no_bytes(fd, true);
    return r < 0 ? r : tdl_sys_real.sendmmsg(fd, m, fewer_messages(n));
}

static int fault_poll(int fd, int events) {
    if (strikes(INTR)) return -EINTR;
    if (!strikes(AGAIN)) return tdl_sys_real.poll(fd, events);
    lie();
    return 0;
}

/* -- Services -------------------------------------------------------------------------------------- */

static int fault_service(int which, size_t *n) {
    int r = 0;
    switch ((enum tdl_service)which) {
    case SERVICE_READ:
        if (strikes(INTR)) return -EINTR;
        if (strikes(IO)) return -EIO;
        break;
    case SERVICE_WRITE:
    case SERVICE_SEND:
    case SERVICE_COPY:
    case SERVICE_SYNC:
        if (strikes(IO)) return -EIO;
        if (strikes(NOSPACE)) return -ENOSPC;
        break;
    case SERVICE_CHANGE: return strikes(NOSPACE) ? -ENOSPC : 0;
    case SERVICE_TTY: return strikes(INTR) ? -EINTR : 0;
    case SERVICE_FORTH:
        if (strikes(NAMES)) return -EAGAIN;
        return no_descriptor();
    case SERVICE_BACK: return strikes(NAMES) ? -EAGAIN : 0;
    case SERVICE_SPAWN: return strikes(THREAD) ? -EAGAIN : strikes(NOMEM) ? -ENOMEM : 0;
    case SERVICE_SCAN:
        if (strikes(IO)) return -EIO;
        return no_descriptor();
    case SERVICE_OPEN:
    case SERVICE_PIPE:
    case SERVICE_DUP:
    case SERVICE_PIDFD:
    case SERVICE_LOOP:
    case SERVICE_CHANGES: r = no_descriptor(); break;
    case SERVICE_HANDLE: return strikes(NOMEM) ? -ENOMEM : 0;
    default: break;
    }
    if (r == 0 && n && *n > 1 && strikes(SHORT)) *n = up_to(*n - 1);
    return r;
}

/* -- Events ------------------------------------------------------------------------------------- */

static struct {
    tdl_lock lock;
    _Atomic int n; /* written under the lock; relaxed reads: none, as a rule */
    struct {
        const void *poller;
        int64_t due;
        struct tdl_poll_event ev;
    } of[MOST_LATE];
} late = {.lock = TDL_LOCK_INIT(RANK_FAULT)};

/* Descriptors' events, which have a sequence number: not wake-ups, nor those of a
 * watcher, which come again by themselves, nor what a back end tells of itself. */
enum { READINESS = 15 };
static bool may_be_late(const struct tdl_poll_event *ev) { return ev->data >> 32 != 0 && ev->what <= READINESS; }

static bool keep(const void *poller, const struct tdl_poll_event *ev) {
    int n = at_load_rlx(&late.n);
    if (n == MOST_LATE) return false;
    late.of[n].poller = poller;
    late.of[n].due = tdl_sys_real.now() + 1 + (int64_t)(next() % LATE_NS);
    late.of[n].ev = *ev;
    at_store_rlx(&late.n, n + 1);
    return true;
}

/* How long until one that was kept is due; -1: none is. */
static int64_t first_due(const void *poller) {
    int64_t first = -1, now;
    if (at_load_rlx(&late.n) == 0) return -1;
    now = tdl_sys_real.now();
    tdl_lock_take(&late.lock);
    for (int i = 0; i < at_load_rlx(&late.n); i++) {
        int64_t ns = late.of[i].due - now;
        if (late.of[i].poller == poller && (first < 0 || ns < first)) first = ns < 0 ? 0 : ns;
    }
    tdl_unlock(&late.lock);
    return first;
}

/* Appends those that are due; forgets all when evs is NULL. */
static int take_due(const void *poller, struct tdl_poll_event *evs, int n, int max) {
    int64_t now = tdl_sys_real.now();
    for (int i = 0; i < at_load_rlx(&late.n);) {
        if (late.of[i].poller != poller || (evs && (late.of[i].due > now || n == max))) {
            i++;
            continue;
        }
        if (evs) evs[n++] = late.of[i].ev;
        int last = at_load_rlx(&late.n) - 1;
        late.of[i] = late.of[last];
        at_store_rlx(&late.n, last);
    }
    return n;
}

static int fault_epoll_wait(int epfd, struct epoll_event *evs, int max, int64_t timeout_ns) {
    return strikes(INTR) ? -EINTR : tdl_sys_real.epoll_wait(epfd, evs, max, timeout_ns);
}

static int64_t limit(const void *poller, int64_t timeout_ns) {
    int64_t due = first_due(poller);
    return due >= 0 && (timeout_ns < 0 || due < timeout_ns) ? due : timeout_ns;
}

static int told(const void *poller, struct tdl_poll_event *evs, int n, int max, int waited) {
    int stay = 0, came = n;
    tdl_lock_take(&late.lock);
    for (int i = 0; i < n; i++) {
        bool kept = waited && may_be_late(&evs[i]) && strikes(LATE) && keep(poller, &evs[i]);
        if (!kept) evs[stay++] = evs[i];
    }
    n = take_due(poller, evs, stay, max);
    tdl_unlock(&late.lock);
    for (int i = 0, once = n; i < once && n < max; i++)
        if (may_be_late(&evs[i]) && strikes(TWICE)) evs[n++] = evs[i];
    return n == 0 && stay < came ? -EINTR : n;
}

/* -- Putting it in place --------------------------------------------------------------------------- */

static void put_in_place(void) {
    struct tdl_sys t = tdl_sys_real;
    t.alloc = fault_alloc;
    t.resize = fault_resize;
    t.map = fault_map;
    t.thread = fault_thread;
    t.futex_wait = fault_futex_wait;
    t.epoll_create = fault_epoll_create;
    t.epoll_wait = fault_epoll_wait;
    t.limit = limit;
    t.told = told;
    t.eventfd = fault_eventfd;
    t.uring_setup = fault_uring_setup;
    t.uring_enter = fault_uring_enter;
    t.wait_readable = fault_wait_readable;
    t.socket = fault_socket;
    t.accept = fault_accept;
    t.connect = fault_connect;
    t.recv = fault_recv;
    t.send = fault_send;
    t.recvmsg = fault_recvmsg;
    t.sendmsg = fault_sendmsg;
    t.recvmmsg = fault_recvmmsg;
    t.sendmmsg = fault_sendmmsg;
    t.read = fault_read;
    t.write = fault_write;
    t.writev = fault_writev;
    t.splice = fault_splice;
    t.sendfile = fault_sendfile;
    t.pread = fault_pread;
    t.pipe = fault_pipe;
    t.poll = fault_poll;
    t.dup = fault_dup;
    t.service = fault_service;
    t.owed = owed;
    t.short_drains = 0;
    tdl_sys = t;
}

bool tdl_fault_in_place(void) { return at_load_rlx(&generation) != 0; }

void tdl_fault_apply(const char *text) {
    settings s;
    if (!parse(&s, text, NULL, 0)) return;
    if (!tdl_fault_in_place() && text && *text) put_in_place();
    for (int f = 0; f < FAULTS; f++) at_store_rlx(&rates[f], 0);
    at_store_rlx(&seed, s.seed);
    at_store_rlx(&after, s.after);
    at_store_rlx(&most, s.most);
    at_store_rlx(&drawn, 0);
    at_store_rlx(&struck, 0);
    at_store_rlx(&threads, 0);
    for (int f = 0; f < FAULTS; f++) at_store_rlx(&counts[f], 0);
    if (tdl_fault_in_place() || (text && *text)) at_add_rlx(&generation, 1);
    for (int f = 0; f < FAULTS; f++) at_store_rlx(&rates[f], s.rate[f]);
}

int64_t tdl_fault_injected(const char *what) {
    int64_t n = 0;
    for (int f = 0; f < FAULTS; f++) {
        if (what && strcmp(what, faults[f].name) != 0) continue;
        n += at_load_rlx(&counts[f]);
        if (what) return n;
    }
    return what ? -1 : n;
}

int tdl_fault_environment(void) {
    static _Atomic int known; /* 0: not asked yet, 1: all is well, 2: not */
    char why[400];
    int is = at_load_acq(&known);
    if (is == 0) {
        tdl_lock_take(&late.lock);
        const char *text = getenv("TDL_FAULT");
        if ((is = at_load_rlx(&known)) == 0) {
            is = tdl_fault_parses(text, why, sizeof why) ? 1 : 2;
            if (is == 2) fprintf(stderr, "treadle: TDL_FAULT: %s\n", why);
            if (is == 1 && text && *text) tdl_fault_apply(text);
            at_store_rel(&known, is); /* pairs with the acquire above: the table is in place */
        }
        tdl_unlock(&late.lock);
    }
    return is == 1 ? 0 : TDL_EINVAL;
}
