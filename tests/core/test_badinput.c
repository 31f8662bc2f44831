/* SPDX-License-Identifier: MIT
 * Null handles, arguments out of range, misuse: a code each time, never a
 * crash, and nothing lost. */
#include "actors.h"
#include "check.h"
#include "net.h"

#include <errno.h>
#include <string.h>

TEST_G(null_handles, "F5 a null handle is TDL_EINVAL everywhere, and ignored by the free functions") {
    tdl_conn *c;
    char      buf[8];
    CHECK_RC(tdl_chan_close(NULL), TDL_EINVAL);
    CHECK_INT(tdl_chan_len(NULL), 0);
    CHECK_INT(tdl_chan_cap(NULL), 0);
    CHECK_INT(tdl_chan_closed(NULL), 0);
    CHECK_RC(tdl_mutex_lock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_mutex_lock_until(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_mutex_trylock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_mutex_unlock(NULL), TDL_EINVAL);
    CHECK_RC(tdl_waitgroup_add(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_waitgroup_done(NULL), TDL_EINVAL);
    CHECK_RC(tdl_waitgroup_wait(NULL), TDL_EINVAL);
    CHECK_RC(tdl_waitgroup_wait_until(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_join(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cancel(NULL), TDL_EINVAL);
    CHECK_RC(tdl_listener_accept(NULL, &c), TDL_EINVAL);
    CHECK_RC(tdl_listener_port(NULL), TDL_EINVAL);
    CHECK_RC(tdl_listener_address(NULL, buf, sizeof buf), TDL_EINVAL);
    CHECK_RC(tdl_listener_close(NULL), TDL_EINVAL);
    tdl_listener_set_deadline(NULL, 1);
    CHECK_RC(tdl_conn_read(NULL, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_write(NULL, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill(NULL, TDL_FILL_LINE, 1), TDL_EINVAL);
    CHECK(tdl_conn_peek(NULL, NULL) == NULL);
    CHECK_RC(tdl_conn_skip(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_conn_close(NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_close_read(NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_close_write(NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_fd(NULL), TDL_EINVAL);
    CHECK_RC(tdl_conn_peername(NULL, buf, sizeof buf), TDL_EINVAL);
    CHECK_RC(tdl_conn_sockname(NULL, buf, sizeof buf), TDL_EINVAL);
    tdl_conn_set_deadline(NULL, 1);
    tdl_conn_set_read_deadline(NULL, 1);
    tdl_conn_set_write_deadline(NULL, 1);
    tdl_conn_set_timeout(NULL, 1);
    tdl_chan_free(NULL);
    tdl_mutex_free(NULL);
    tdl_waitgroup_free(NULL);
    tdl_listener_free(NULL);
    tdl_conn_free(NULL);
}

TEST(null_host, "F5 a null host is TDL_EINVAL everywhere") {
    tdl_event ev;
    CHECK_RC(tdl_host_open("x", NULL), TDL_EINVAL);
    CHECK_RC(tdl_host_close(NULL), TDL_EINVAL);
    CHECK_RC(tdl_host_poll(NULL, &ev, 1, 0), TDL_EINVAL);
    CHECK_RC(tdl_host_wake(NULL), TDL_EINVAL);
    CHECK_RC(tdl_host_fd(NULL), TDL_EINVAL);
    CHECK_RC(tdl_host_watch(NULL, 0, TDL_READABLE), TDL_EINVAL);
    CHECK_RC(tdl_host_watch_modify(NULL, 0, TDL_READABLE), TDL_EINVAL);
    CHECK_RC(tdl_host_unwatch(NULL, 0), TDL_EINVAL);
    CHECK(tdl_host_outcomes(NULL) == NULL);
    CHECK_RC(tdl_task_new(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_task_free(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_task_set_name(NULL, 0, "x"), TDL_EINVAL);
    CHECK_RC(tdl_task_cancel(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_task_ready(NULL, 0, 0), TDL_EINVAL);
    CHECK_RC(tdl_yield_start(NULL, 0), TDL_EINVAL);
    CHECK_RC(tdl_sleep_start(NULL, 0, 1), TDL_EINVAL);
    CHECK(tdl_chan_new_local(NULL, 1) == NULL);
}

TEST(null_in_host, "F5 _start forms refuse null objects, and the task stays free to do something else") {
    tdl_host *h = NULL;
    char      buf[4];
    CHECK_RC(tdl_host_open("bad", &h), 0);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_join_start(h, t, NULL, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_mutex_lock_start(h, t, NULL, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_waitgroup_wait_start(h, t, NULL, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_listener_accept_start(h, t, NULL), TDL_EINVAL);
    CHECK_RC(tdl_dial_start(h, t, NULL, "127.0.0.1:1", 0), TDL_EINVAL);
    CHECK_RC(tdl_conn_read_start(h, t, NULL, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_write_start(h, t, NULL, buf, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_fill_start(h, t, NULL, TDL_FILL_SOME, 1), TDL_EINVAL);
    CHECK_RC(tdl_task_ready(h, t, -1), TDL_EINVAL);
    CHECK_RC(tdl_task_ready(h, 4711, 1), TDL_EINVAL);
    CHECK_RC(tdl_task_cancel(h, 4711), TDL_EINVAL);
    CHECK_RC(tdl_task_set_name(h, 4711, "x"), TDL_EINVAL);
    CHECK_RC(tdl_sleep_start(h, t, 0), 0);
    CHECK_RC(tdl_task_free(h, t), 0);
    CHECK_RC(tdl_host_close(h), 0);
}

TEST_G(null_out, "F5 a missing place for the result is refused") {
    char          address[ADDRESS_SIZE];
    tdl_listener *l = net_listen("tcp", address), *none = NULL;
    tdl_conn     *a, *b, *nobody = NULL;
    net_pair("tcp", &a, &b);
    CHECK_RC(tdl_listen("tcp", "127.0.0.1:0", NULL), TDL_EINVAL);
    CHECK_RC(tdl_listen(NULL, "127.0.0.1:0", &none), TDL_EINVAL);
    CHECK_RC(tdl_listen("tcp", NULL, &none), TDL_EINVAL);
    CHECK_RC(tdl_listener_accept(l, NULL), TDL_EINVAL);
    CHECK_RC(tdl_dial("tcp", address, 0, NULL), TDL_EINVAL);
    CHECK_RC(tdl_dial(NULL, address, 0, &nobody), TDL_EINVAL);
    CHECK(none == NULL && nobody == NULL);
    CHECK_RC(tdl_conn_read(a, NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_conn_write(a, NULL, 1), TDL_EINVAL);
    tdl_conn_free(a);
    tdl_conn_free(b);
    tdl_listener_free(l);
}

TEST_G(bad_cases, "F5 a bad select case is refused before anything moves") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v;
    tdl_val_set_int(&v, 1);
    tdl_case good = { .chan = ch, .val = &v, .op = TDL_SEND };
    tdl_case k[2] = { good, { .chan = ch, .op = 0 } };
    CHECK_RC(tdl_select(k, 2, TDL_FOREVER), TDL_EINVAL);
    k[1] = (tdl_case){ .chan = ch, .op = 3 };
    CHECK_RC(tdl_select(k, 2, TDL_FOREVER), TDL_EINVAL);
    k[1] = (tdl_case){ .chan = ch, .op = TDL_SEND, .val = NULL };
    CHECK_RC(tdl_select(k, 2, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select(k, -1, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select(k, 65536, TDL_FOREVER), TDL_EINVAL);
    CHECK_RC(tdl_select(NULL, 1, TDL_FOREVER), TDL_EINVAL);
    CHECK_INT(tdl_chan_len(ch), 0);
    CHECK_RC(tdl_chan_send(ch, NULL), TDL_EINVAL);
    CHECK_RC(tdl_chan_try_send(ch, NULL), TDL_EINVAL);
    tdl_chan_free(ch);
}

TEST(bad_sizes, "F5 capacities that are out of range are refused") {
    CHECK(tdl_chan_new((1u << 26) + 1) == NULL);
    CHECK(tdl_chan_new(UINT32_MAX) == NULL);
}

TEST_G(ref_in_shared, "F5 a host's reference cannot enter a shared channel") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v = { .type = TDL_REF, .u.i = 1 };
    CHECK_RC(tdl_chan_send(ch, &v), TDL_EINVAL);
    CHECK_RC(tdl_chan_try_send(ch, &v), TDL_EINVAL);
    tdl_case k = { .chan = ch, .val = &v, .op = TDL_SEND };
    CHECK_RC(tdl_select(&k, 1, TDL_NOWAIT), TDL_EINVAL);
    v.type = 99;
    CHECK_RC(tdl_chan_send(ch, &v), TDL_EINVAL);
    CHECK_INT(tdl_chan_len(ch), 0);
    tdl_chan_free(ch);
}

TEST_G(null_sync, "F5 a null condition or semaphore, and what its owner has not locked") {
    tdl_mutex *m = tdl_mutex_new();
    tdl_cond  *c = tdl_cond_new(m);
    CHECK(tdl_cond_new(NULL) == NULL);
    CHECK_RC(tdl_cond_wait(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cond_signal(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cond_broadcast(NULL), TDL_EINVAL);
    CHECK_RC(tdl_cond_wait(c), TDL_ENOTLOCKED);
    CHECK_RC(tdl_sema_acquire(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_sema_try_acquire(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_sema_release(NULL, 1), TDL_EINVAL);
    CHECK_RC(tdl_mutex_disown(NULL), TDL_EINVAL);
    CHECK_RC(tdl_mutex_disown(m), TDL_ENOTLOCKED);
    tdl_cond_free(c);
    tdl_mutex_free(m);
}

TEST(bad_poll, "F5 unknown flags of a poll, and tasks that do not exist, are refused") {
    tdl_host *h = NULL;
    tdl_event ev;
    char      text[8] = "";
    CHECK_RC(tdl_host_open("bad", &h), 0);
    CHECK_RC(tdl_host_poll_opts(h, &ev, 1, 0, 64), TDL_EINVAL);
    CHECK_RC(tdl_host_poll_opts(h, &ev, 0, 0, 0), TDL_EINVAL);
    CHECK_RC(tdl_host_poll_opts(NULL, &ev, 1, 0, 0), TDL_EINVAL);
    CHECK_RC(tdl_task_describe(h, 4711, text, sizeof text), TDL_EINVAL);
    uint32_t t = (uint32_t)tdl_task_new(h, 0);
    CHECK_RC(tdl_task_describe(h, t, NULL, 8), TDL_EINVAL);
    CHECK(tdl_task_describe(h, t, NULL, 0) > 8);
    CHECK(tdl_task_describe(h, t, text, sizeof text) > 8);
    CHECK(memcmp(text, "gorouti", 8) == 0); /* cut to size */
    CHECK_RC(tdl_task_free(h, t), 0);
    CHECK_RC(tdl_host_close(h), 0);
}

static void misuse(void *arg) {
    tdl_chan *ch = arg;
    for (int i = 0; i < 100; i++) {
        CHECK_RC(tdl_chan_close(ch), TDL_ECLOSED);
        CHECK_RC(send_int(ch, 1), TDL_ECLOSED);
        CHECK_RC(tdl_join(NULL), TDL_EINVAL);
        tdl_yield();
    }
}

static void work(void *arg) {
    tdl_chan **ch = arg;
    for (int i = 0; i < 1000; i++) {
        CHECK_RC(send_int(ch[0], i), 0);
        CHECK_INT(recv_int(ch[1]), i);
    }
}

static void work_back(void *arg) {
    tdl_chan **ch = arg;
    for (int i = 0; i < 1000; i++) CHECK_RC(send_int(ch[1], recv_int(ch[0])), 0);
}

TEST_G(others_unharmed, "A24 goroutines that misuse a channel do not disturb those that do not") {
    tdl_chan *ch[2] = { tdl_chan_new(0), tdl_chan_new(0) }, *closed = tdl_chan_new(0);
    crew      c;
    tdl_chan_close(closed);
    crew_open(&c);
    for (int i = 0; i < 4; i++) crew_go(&c, misuse, closed);
    crew_go(&c, work, ch);
    crew_go(&c, work_back, ch);
    crew_close(&c);
    for (int i = 0; i < 2; i++) tdl_chan_free(ch[i]);
    tdl_chan_free(closed);
}
