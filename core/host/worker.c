/* SPDX-License-Identifier: MIT
 * Workers: an interpreter's function on a thread of its own.
 *
 * The core knows nothing of the interpreter: it is given the function that runs
 * it (lua_pcall, say) and the one that frees it.
 *
 * Invariants: the thread is detached, and holds the channel until its last
 * instruction here, so that whoever started it may be gone by then. It touches
 * nothing of its starter's. */
#include <pthread.h>
#include <string.h>

#include "sched/sched.h"
#include "sys/os.h"
#include "sys/sys.h"

struct worker {
    tdl_worker_options o;
    char name[16]; /* what the system keeps of a thread's name */
    tdl_chan *done;
};

static void *worker_main(void *arg) {
    struct worker *w = arg;
    pthread_detach(pthread_self());
    if (w->name[0]) tdl_os_name_thread(w->name);
    tdl_val v;
    tdl_val_set_int(&v, w->o.entry(w->o.state, w->o.a, w->o.b, w->o.c));
    if (w->o.end) w->o.end(w->o.state);
    tdl_chan_try_send(w->done, &v); /* its one place is free */
    tdl_chan_close(w->done);
    tdl_chan_free(w->done);
    tdl_sys.release(w);
    return NULL;
}

int tdl_worker_start(const tdl_worker_options *o, tdl_chan **done) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!done || !o || o->size != sizeof *o || o->flags != 0 || !o->entry) return TDL_EINVAL;
    if (tdl_m_self()->bubble) return TDL_ESIM;
    struct worker *w = tdl_sys.alloc(sizeof *w);
    tdl_chan *ch = w ? tdl_chan_new(1) : NULL;
    if (!ch) {
        if (w) tdl_sys.release(w);
        return TDL_ENOMEM;
    }
    *w = (struct worker){.o = *o, .done = tdl_chan_ref(ch)};
    if (o->name) strncpy(w->name, o->name, sizeof w->name - 1);
    w->o.name = NULL;
    pthread_t thread;
    int r = tdl_sys.thread(worker_main, w, &thread);
    if (r < 0) {
        tdl_chan_free(ch);
        tdl_chan_free(ch);
        tdl_sys.release(w);
        return r;
    }
    *done = ch;
    return 0;
}
