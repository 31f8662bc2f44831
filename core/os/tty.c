/* SPDX-License-Identifier: MIT
 *
 * Terminals: what they are, and raw mode. The modes that were there before are kept, by
 * descriptor, and set back by who turns raw mode off, or when the program ends. Plain
 * termios: libuv's handle would belong to a loop, and take the reading over.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sys/service.h"

enum { MOST = 16 };

static tdl_lock lock = TDL_LOCK_INIT(RANK_OBJECT);
static struct {
    int fd; /* under the lock: the descriptor and 1; 0: free */
    struct termios before;
} kept[MOST];
static bool at_end; /* under the lock: the handler is there */

static int get_size(int fd, void *size) { return ioctl(fd, TIOCGWINSZ, size); }
static int get_modes(int fd, void *modes) { return tcgetattr(fd, modes); }
static int set_modes(int fd, void *modes) { return tcsetattr(fd, TCSADRAIN, modes); } /* what is written drains first */

/* A signal may interrupt any of them. */
static int repeat(int (*call)(int fd, void *p), int fd, void *p) {
    int r;
    do {
        r = tdl_service(SERVICE_TTY, NULL);
        if (r == 0 && call(fd, p) < 0) r = -errno;
    } while (r == -EINTR);
    return r;
}

int tdl_tty_is(int fd) { return isatty(fd) == 1 ? 1 : errno == EBADF ? -EBADF : 0; }

int tdl_tty_size(int fd, int *columns, int *rows) {
    struct winsize size;
    if (!columns || !rows) return TDL_EINVAL;
    int r = repeat(get_size, fd, &size);
    if (r < 0) return r;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

/* fd + 1 is what is kept. */
static int find(int fd) {
    for (int i = 0; i < MOST; i++)
        if (kept[i].fd == fd + 1) return i;
    return -1;
}

static int set_back(int i) {
    int r = repeat(set_modes, kept[i].fd - 1, &kept[i].before);
    kept[i].fd = 0;
    return r;
}

static void reset_all(void) {
    for (int i = 0; i < MOST; i++)
        if (kept[i].fd) set_back(i);
}

static int go_raw(int fd) {
    struct termios now;
    int r = repeat(get_modes, fd, &now);
    if (r < 0) return r;
    int i = find(fd);
    if (i < 0 && (i = find(-1)) < 0) return -EMFILE;
    struct termios raw = now;
    cfmakeraw(&raw);
    if ((r = repeat(set_modes, fd, &raw)) < 0) return r;
    if (!kept[i].fd) {
        kept[i].fd = fd + 1;
        kept[i].before = now;
    }
    if (!at_end) at_end = atexit(reset_all) == 0;
    return 0;
}

int tdl_tty_raw(int fd, int on) {
    if (fd < 0) return -EBADF;
    if (tdl_forked()) return TDL_EFORKED;
    tdl_lock_take(&lock);
    int i = find(fd);
    int r = on ? go_raw(fd) : i < 0 ? 0 : set_back(i);
    tdl_unlock(&lock);
    return r;
}
