/* SPDX-License-Identifier: MIT
 * One write of more than 2 GB, on TCP, unix streams and pipes in memory: no
 * length is kept in 31 or 32 bits on the way. The bytes are four megabytes of
 * memory, mapped again and again. */
#include "soak.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PERIOD = 4 << 20, ROOM = 1 << 20 };
static const char *const networks[] = { "tcp", "unix", "pipe" };

static char  *data;
static size_t length;

static int map_data(void) {
    int   fd = memfd_create("big", MFD_CLOEXEC);
    char *first = malloc(PERIOD);
    data = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fd < 0 || !first || data == MAP_FAILED) return -1;
    for (size_t i = 0; i < PERIOD; i++) first[i] = (char)(i * 2654435761u >> 17);
    int r = write(fd, first, PERIOD) == PERIOD ? 0 : -1;
    free(first);
    for (size_t at = 0; at < length && r == 0; at += PERIOD)
        if (mmap(data + at, PERIOD, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) r = -1;
    close(fd);
    return r;
}

static void writes(void *arg) {
    tdl_conn *c = arg;
    int64_t   r = tdl_conn_write(c, data, length);
    if (r != (int64_t)length) soak_wrong("the write returned %" PRId64 ", not %zu", r, length);
    tdl_conn_close_write(c);
}

static void through(const char *network) {
    tdl_conn     *a = NULL, *b = NULL;
    tdl_listener *l = NULL;
    char          address[128], *buf = malloc(ROOM);
    size_t        total = 0;
    int64_t       n, from = tdl_now();
    if (strcmp(network, "pipe") == 0) {
        soak_expect(tdl_pipe_new(ROOM, &a, &b), 0, "pipe");
    } else {
        soak_expect(tdl_listen(network, network[0] == 't' ? "127.0.0.1:0" : "@", &l), 0, "listen");
        tdl_listener_address(l, address, sizeof address);
        soak_expect(tdl_dial(network, address, 0, &a), 0, "dial");
        soak_expect(tdl_listener_accept(l, &b), 0, "accept");
    }
    tdl_go_options o = {.size = sizeof o, .flags = TDL_GO_JOINABLE};
    tdl_g         *g = tdl_go_opts(writes, a, &o);
    while ((n = tdl_conn_read(b, buf, ROOM)) > 0) {
        if (memcmp(buf, data + total % PERIOD, (size_t)n <= PERIOD - total % PERIOD ? (size_t)n : PERIOD - total % PERIOD) != 0)
            soak_wrong("other bytes than were written, behind %zu", total);
        total += (size_t)n;
    }
    soak_expect(n, 0, "read");
    if (total != length) soak_wrong("%zu bytes arrived, not %zu", total, length);
    tdl_join(g);
    soak_says(network, "%zu bytes in one write, %" PRId64 " ms", total, (tdl_now() - from) / TDL_MILLISECOND);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
    free(buf);
}

static int all(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) through(networks[i]);
    return 0;
}

static void big(int64_t mib) {
    length = ((size_t)mib << 20) / PERIOD * PERIOD + PERIOD;
    if (map_data() < 0) {
        soak_wrong("no address space, or no memory");
        return;
    }
    tdl_run(all, NULL);
    munmap(data, length);
}

const run soak_big = { "big", 2100, "MiB in one write", big };
