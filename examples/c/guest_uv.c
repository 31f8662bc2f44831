/* SPDX-License-Identifier: MIT
 * Treadle as the guest of a foreign loop: a program that owns a plain libuv loop.
 * libuv's timer ticks; in the same thread a task of a treadle host waits for a
 * channel that a goroutine fills, and for a sleep, and the loop waits for all of
 * them at once. usage: guest_uv
 *
 * What it takes: the loop watches tdl_host_fd, and just before it waits (a prepare
 * handle) all that is ready is taken from tdl_host_poll, and a timer is set to what
 * tdl_host_timeout says. */
#include <stdio.h>
#include <stdlib.h>
#include <treadle.h>
#include <uv.h>

/* -- The guest: a host in a uv_loop_t ------------------------------------------------ */

typedef struct guest {
    tdl_host    *host;
    uv_poll_t    poll;
    uv_prepare_t prepare;
    uv_timer_t   timer;
    void (*on_event)(struct guest *g, const tdl_event *ev);
} guest;

static void on_timer(uv_timer_t *t) { (void)t; } /* prepare comes next */
static void on_readable(uv_poll_t *p, int status, int events) { (void)p, (void)status, (void)events; }

static void before_waiting(uv_prepare_t *p) {
    guest    *g = p->data;
    tdl_event events[64];
    int       n;
    while ((n = tdl_host_poll(g->host, events, 64, 0)) > 0)
        for (int i = 0; i < n; i++) g->on_event(g, &events[i]);
    int64_t ns = tdl_host_timeout(g->host); /* last, before the loop waits */
    if (ns < 0)
        uv_timer_stop(&g->timer);
    else
        uv_timer_start(&g->timer, on_timer, (uint64_t)(ns / 1000000 + (ns % 1000000 != 0)), 0);
}

static int guest_open(guest *g, uv_loop_t *loop, void (*on_event)(guest *, const tdl_event *)) {
    int rc = tdl_host_open("guest", &g->host);
    if (rc < 0) return rc;
    g->on_event = on_event;
    uv_poll_init(loop, &g->poll, tdl_host_fd(g->host));
    uv_prepare_init(loop, &g->prepare);
    uv_timer_init(loop, &g->timer);
    g->prepare.data = g;
    uv_poll_start(&g->poll, UV_READABLE, on_readable);
    uv_prepare_start(&g->prepare, before_waiting);
    return 0;
}

static void guest_close(guest *g, uv_loop_t *loop) {
    uv_close((uv_handle_t *)&g->poll, NULL);
    uv_close((uv_handle_t *)&g->prepare, NULL);
    uv_close((uv_handle_t *)&g->timer, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    tdl_host_close(g->host);
}

/* -- What it is used for ----------------------------------------------------------------- */

static tdl_chan *numbers;
static uint32_t  task;
static int64_t   sum;
static int       ticks, asleep;

/* A goroutine, on a thread of treadle's. */
static void produce(void *arg) {
    tdl_val v;
    (void)arg;
    for (int i = 1; i <= 100; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(numbers, &v);
        if (i % 10 == 0) tdl_sleep(2 * TDL_MILLISECOND);
    }
    tdl_chan_close(numbers);
}

/* The task: receives until the channel is closed, sleeps, and stops the loop. It
 * goes on where an operation is over, at once or by its event. */
static void go_on(guest *g, int result) {
    if (asleep) {
        uv_stop(g->prepare.loop);
        return;
    }
    do {
        if (result == TDL_ECLOSED) {
            asleep = 1;
            tdl_sleep_start(g->host, task, 20 * TDL_MILLISECOND); /* always pending */
            return;
        }
        sum += tdl_val_int(&tdl_host_outcomes(g->host)[task].val);
    } while ((result = tdl_chan_recv_start(g->host, task, numbers, TDL_FOREVER)) != TDL_PENDING);
}

static void on_event(guest *g, const tdl_event *ev) {
    if (ev->task == task) go_on(g, ev->result);
}

static void on_tick(uv_timer_t *t) {
    (void)t;
    ticks++;
}

int main(void) {
    uv_loop_t  loop;
    uv_timer_t ticker;
    guest      g;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 3, 3);
    int rc = guest_open(&g, &loop, on_event);
    if (rc < 0) {
        fprintf(stderr, "guest_uv: %s\n", tdl_strerror(rc));
        return 1;
    }
    numbers = tdl_chan_new(0);
    task = (uint32_t)tdl_task_new(g.host, 0);
    tdl_go(produce, NULL);
    rc = tdl_chan_recv_start(g.host, task, numbers, TDL_FOREVER);
    if (rc != TDL_PENDING) go_on(&g, rc);
    uv_run(&loop, UV_RUN_DEFAULT);
    printf("the sum is %lld, and the loop %s meanwhile\n", (long long)sum, ticks >= 5 ? "ticked" : "stood still");
    tdl_task_free(g.host, task);
    tdl_chan_free(numbers);
    uv_close((uv_handle_t *)&ticker, NULL);
    guest_close(&g, &loop);
    return uv_loop_close(&loop) != 0;
}
