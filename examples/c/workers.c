/* SPDX-License-Identifier: MIT
 * Four workers square the numbers 1 to 100; the sum of the squares is 338350. */
#include <stdio.h>
#include <treadle.h>

static tdl_chan *jobs, *results;
static tdl_waitgroup *workers;

static void worker(void *arg)
{
    (void)arg;
    tdl_val v;
    while (tdl_chan_recv(jobs, &v) == 0) { /* TDL_ECLOSED once closed and drained */
        tdl_val_set_int(&v, tdl_val_int(&v) * tdl_val_int(&v));
        tdl_chan_send(results, &v);
    }
    tdl_waitgroup_done(workers);
}

static void closer(void *arg)
{
    (void)arg;
    tdl_waitgroup_wait(workers);
    tdl_chan_close(results);
}

static void producer(void *arg)
{
    (void)arg;
    tdl_val v;
    for (int i = 1; i <= 100; i++) {
        tdl_val_set_int(&v, i);
        tdl_chan_send(jobs, &v);
    }
    tdl_chan_close(jobs);
}

static int main_g(void *arg)
{
    (void)arg;
    jobs = tdl_chan_new(16);
    results = tdl_chan_new(0);
    workers = tdl_waitgroup_new();
    tdl_waitgroup_add(workers, 4);
    for (int i = 0; i < 4; i++)
        tdl_go(worker, NULL);
    tdl_go(closer, NULL);
    tdl_go(producer, NULL);

    int64_t sum = 0;
    tdl_val v;
    while (tdl_chan_recv(results, &v) == 0)
        sum += tdl_val_int(&v);
    printf("%lld\n", (long long)sum); /* 338350 */

    tdl_chan_free(jobs);
    tdl_chan_free(results);
    tdl_waitgroup_free(workers);
    return 0;
}

int main(void)
{
    return tdl_run(main_g, NULL);
}
