/* SPDX-License-Identifier: MIT
 * Looking up names, and dialling by them, with a name server of the test's own: the program
 * lives in a network and mount namespace with a resolv.conf and hosts of its own. What
 * needs them is skipped where that is not allowed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "actors.h"
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS   TDL_MILLISECOND
#define EVER TDL_FOREVER

/* -- A world of its own ----------------------------------------------------------------- */

static int        ours; /* the namespaces are there */
static atomic_int asked_slow;

static int replace_file(const char *path, const char *text) {
    char name[] = "/tmp/treadle-names-XXXXXX";
    int  fd = mkstemp(name);
    if (fd < 0) return -1;
    int r = write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fchmod(fd, 0644) == 0 ? 0 : -1;
    close(fd);
    if (r == 0) r = mount(name, path, NULL, MS_BIND, NULL);
    unlink(name);
    return r;
}

static int loopback_up(void) {
    struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), e = ioctl(fd, SIOCSIFFLAGS, &r);
    close(fd);
    return e;
}

/* One answer: fast.test has an address, two.test two, none.test none, slow.test no answer. */
static size_t answer(unsigned char *m, size_t n) {
    size_t end = 12;
    while (end < n && m[end]) end += m[end] + 1u;
    if (end + 5 > n) return 0;
    const char *name = (const char *)m + 13;
    int type = m[end + 1] << 8 | m[end + 2], count = 0;
    n = end + 5;
    m[2] = 0x81;
    m[3] = 0x80;
    memset(m + 6, 0, 6);
    if (m[12] == 4 && memcmp(name, "slow", 4) == 0) {
        atomic_fetch_add(&asked_slow, 1);
        return 0;
    }
    if (m[12] == 4 && memcmp(name, "none", 4) == 0) m[3] = 0x83;
    if (type == 1 && m[12] == 4 && memcmp(name, "fast", 4) == 0) count = 1;
    if (type == 1 && m[12] == 3 && memcmp(name, "two", 3) == 0) count = 2;
    m[7] = (unsigned char)count;
    for (int i = 0; i < count; i++, n += 16)
        memcpy(m + n, (unsigned char[16]){ 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, (unsigned char)(1 + i) }, 16);
    return n;
}

static void *serve(void *arg) {
    int fd = *(int *)arg;
    struct sockaddr_in from;
    unsigned char      m[600];
    for (;;) {
        socklen_t k = sizeof from;
        ssize_t   n = recvfrom(fd, m, 500, 0, (struct sockaddr *)&from, &k);
        if (n <= 12) continue;
        size_t out = answer(m, (size_t)n);
        if (out) sendto(fd, m, out, 0, (struct sockaddr *)&from, k);
    }
    return NULL;
}

__attribute__((constructor)) static void enter(void) {
    static int         fd;
    pthread_t          thread;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
#ifdef UNDER_EMULATOR
    return;
#endif
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0) return;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return;
    if (replace_file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") != 0 ||
        replace_file("/etc/nsswitch.conf", "hosts: files dns\n") != 0 ||
        replace_file("/etc/hosts", "127.0.0.1 localhost\n10.1.2.3 known.host other\n") != 0 || loopback_up() != 0)
        return;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) return;
    ours = pthread_create(&thread, NULL, serve, &fd) == 0;
}

static int alone(void) {
    if (!ours) check_skip("no namespaces of its own");
    return ours;
}

static void idle(void) {
    for (int i = 0; i < 3000 && tdl_metric("services") > 0; i++) usleep(2000);
    CHECK_INT(tdl_metric("services"), 0);
}

static int is(const tdl_addr *a, const char *text) {
    char buf[80];
    tdl_addr_format(a, buf, sizeof buf);
    if (strcmp(buf, text) == 0) return 1;
    fprintf(stderr, "  %s, not %s\n", buf, text);
    return 0;
}

/* -- Lookups ------------------------------------------------------------------------------ */

TEST_G(numbers, "numbers and localhost need no thread, and what is no name is told") {
    tdl_addr a[4];
    CHECK_INT(tdl_lookup(NULL, "10.0.0.1", 80, a, 4, TDL_NOWAIT), 1);
    CHECK(is(&a[0], "10.0.0.1:80"));
    CHECK_INT(tdl_lookup("udp", "::1", 53, a, 4, TDL_NOWAIT), 1);
    CHECK(is(&a[0], "[::1]:53"));
    CHECK_INT(tdl_lookup("tcp", "localhost", 1, a, 4, TDL_NOWAIT), 2);
    CHECK_INT(tdl_lookup("tcp4", "localhost", 1, a, 4, TDL_NOWAIT), 1);
    CHECK_RC(tdl_lookup("tcp", "some.name", 1, a, 4, TDL_NOWAIT), TDL_EAGAIN);
    CHECK_RC(tdl_lookup("tcp", "127.1", 1, a, 4, EVER), TDL_EADDRESS);
    CHECK_RC(tdl_lookup("tcp", "1.2.3.4.", 1, a, 4, EVER), TDL_EADDRESS);
    CHECK_RC(tdl_lookup("tcp", "a b", 1, a, 4, EVER), TDL_EADDRESS);
    CHECK_RC(tdl_lookup("tcp", "a..b", 1, a, 4, EVER), TDL_EADDRESS);
    CHECK_RC(tdl_lookup("tcp", "", 1, a, 4, EVER), TDL_EADDRESS);
    CHECK_RC(tdl_lookup("tcp", "name", 65536, a, 4, EVER), TDL_EPORT);
    CHECK_RC(tdl_lookup("unix", "name", 1, a, 4, EVER), TDL_ENETWORK);
    CHECK_RC(tdl_lookup("tcp", NULL, 1, a, 4, EVER), TDL_EINVAL);
    CHECK_RC(tdl_lookup("tcp", "name", 1, a, 0, EVER), TDL_EINVAL);
    CHECK_RC(tdl_lookup_name(NULL, NULL, 0, EVER), TDL_EINVAL);
    char label[70];
    memset(label, 'x', sizeof label - 1);
    label[69] = 0;
    CHECK_RC(tdl_lookup("tcp", label, 1, a, 4, EVER), TDL_EADDRESS);
}

static void look_up(void *arg) {
    (void)arg;
    tdl_addr a[4];
    char     name[40];
    CHECK_INT(tdl_lookup("tcp", "fast.test", 80, a, 4, EVER), 1);
    CHECK(is(&a[0], "127.0.0.1:80"));
    CHECK_INT(tdl_lookup("tcp", "two.test", 81, a, 4, EVER), 2);
    CHECK_INT(tdl_lookup("tcp", "two.test", 81, a, 1, EVER), 1);
#ifdef __GLIBC__ /* others may look for names in the file as they are written */
    const char *known = "KNOWN.host";
#else
    const char *known = "known.host";
#endif
    CHECK_INT(tdl_lookup("udp", known, 82, a, 4, EVER), 1);
    CHECK(is(&a[0], "10.1.2.3:82"));
    CHECK_INT(tdl_lookup_name(&a[0], name, sizeof name, EVER), 10);
    CHECK(strcmp(name, "known.host") == 0);
    CHECK_INT(tdl_lookup_name(&a[0], name, 6, EVER), 10);
    CHECK(strcmp(name, "known") == 0);
    CHECK_RC(tdl_lookup("tcp", "none.test", 80, a, 4, EVER), TDL_ENONAME);
    CHECK_RC(tdl_lookup("tcp6", "fast.test", 80, a, 4, EVER), TDL_ENONAME);
}

TEST_G(lookups, "names come from hosts and from the name server, and back; one that is not there is told") {
    crew c;
    if (!alone()) return;
    for (int thread = 0; thread < 2; thread++) {
        crew_open(&c);
        crew_start(&c, thread, look_up, NULL);
        crew_close(&c);
    }
}

static void look_up_slowly(void *arg) {
    tdl_addr a[4];
    CHECK_RC(tdl_lookup("tcp", "slow.test", 80, a, 4, tdl_now() + *(int64_t *)arg), TDL_ETIMEDOUT);
}

static void look_up_cancelled(void *arg) {
    (void)arg;
    tdl_addr a;
    CHECK_RC(tdl_lookup("tcp", "slow.test", 80, &a, 1, EVER), TDL_ECANCELED);
}

TEST_G(slow, "a name server that does not answer holds up no file, and its lookups end with their deadlines or a cancel") {
    enum { MANY = 20 };
    crew     c;
    int64_t  patience = 200 * MS;
    tdl_stat st = { .size = sizeof st };
    if (!alone()) return;
    int before = tdl_set_io_threads(4);
    atomic_store(&asked_slow, 0);
    crew_open(&c);
    for (int i = 0; i < MANY; i++) crew_start(&c, i % 5 == 0, look_up_slowly, &patience);
    while (atomic_load(&asked_slow) == 0) tdl_sleep(1 * MS);
    for (int i = 0; i < 50; i++) CHECK_RC(tdl_fs_stat("/", 1, &st, EVER), 0);
    CHECK_WITHIN(atomic_load(&asked_slow), 1, 12); /* two at a time, each for both families; all would be 40 */
    crew_close(&c);
    tdl_g *g = go_joinable(look_up_cancelled, NULL);
    let_park();
    CHECK_RC(tdl_cancel(g), 0);
    CHECK_RC(tdl_join(g), 0);
    tdl_addr a;
    CHECK_RC(tdl_lookup("tcp", "slow.test", 80, &a, 1, tdl_now() + 5 * MS), TDL_ETIMEDOUT);
    CHECK_RC(tdl_lookup("tcp", "slow.test", 80, &a, 1, EVER), TDL_ENAMESERVER);
    tdl_set_io_threads(before);
    idle();
}

/* -- Dialling -------------------------------------------------------------------------------- */

TEST_G(dialling, "a host is dialled by its name, within the timeout") {
    tdl_listener *l;
    tdl_conn     *c, *d;
    char          address[64];
    if (!alone()) return;
    CHECK_RC(tdl_listen("tcp", "127.0.0.2:0", &l), 0);
    snprintf(address, sizeof address, "two.test:%d", tdl_listener_port(l));
    for (int i = 0; i < 3; i++) { /* 127.0.0.1 refuses */
        CHECK_RC(tdl_dial(i ? "tcp4" : "tcp", address, i == 2 ? 10 * TDL_SECOND : 0, &c), 0);
        CHECK_RC(tdl_listener_accept(l, &d), 0);
        CHECK_RC(tdl_conn_write(c, "x", 1), 1);
        tdl_conn_free(c);
        tdl_conn_free(d);
    }
    tdl_listener_free(l);
    CHECK_RC(tdl_dial("tcp", address, 0, &c), -ECONNREFUSED);
    CHECK_RC(tdl_dial("tcp", "none.test:80", 0, &c), TDL_ENONAME);
    CHECK_RC(tdl_dial("tcp", "none.test:80", -1, &c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_dial("tcp", "slow.test:80", 30 * MS, &c), TDL_ETIMEDOUT);
    CHECK_RC(tdl_dial("tcp", "fast.test:x", 0, &c), TDL_EPORT);
    CHECK(c == NULL);
    idle();
}

static char dialled[64];

static int task_dials(actor *a, int result) {
    static tdl_addr found[2];
    switch (a->state++) {
    case 0: return tdl_dial_start(a->host, a->task, "tcp", dialled, 0);
    case 1:
        CHECK_RC(result, 0);
        tdl_conn_free(tdl_val_ptr(&outcome_of(a)->val));
        return tdl_dial_start(a->host, a->task, "tcp", "none.test:80", 0);
    case 2:
        CHECK_RC(result, TDL_ENONAME);
        return tdl_lookup_start(a->host, a->task, "tcp", "fast.test", 7, found, 2, EVER);
    default:
        CHECK_RC(result, 1);
        CHECK(is(&found[0], "127.0.0.1:7"));
        return ACTOR_DONE;
    }
}

TEST(tasks, "tasks look up names and dial by them") {
    stage         s;
    tdl_listener *l;
    if (!alone()) return;
    stage_open(&s, "names");
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", &l), 0);
    snprintf(dialled, sizeof dialled, "fast.test:%d", tdl_listener_port(l));
    stage_spawn(&s, task_dials, NULL);
    stage_run(&s);
    tdl_listener_free(l);
    stage_close(&s);
}
