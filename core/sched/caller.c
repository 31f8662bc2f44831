/* SPDX-License-Identifier: MIT
 * Who is calling: the M of the current thread, and what a fork does to it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>

#include "sched/sched.h"
#include "sys/sys.h"

/* initial-exec: one load, also in a shared library; the library takes 8 bytes
 * of the static TLS reserve when it is dlopened */
_Thread_local tdl_m *tdl_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

static void thread_ends(void *arg) {
    tdl_m *m = arg;
    tdl_self = NULL;
    if (at_load_rlx(&m->host))
        at_store_rel(&m->ended, 1); /* who adopts its hosts frees it; pairs with the acquire in tdl_host_adopt */
    else
        tdl_sys.release(m);
}

/* Only the forking thread lives on. Locks that others held stay held: from here
 * on nothing that could wait is entered. */
static void in_child(void) {
    at_or_seq(&tdl_sched.special, TDL_SPECIAL_FORKED);
    if (tdl_self) at_store_rlx(&tdl_self->deny, TDL_EFORKED);
}

static void init(void) {
    pthread_key_create(&key, thread_ends);
    pthread_atfork(NULL, NULL, in_child);
}

tdl_m *tdl_m_for_thread(void) {
    pthread_once(&once, init);
    tdl_m *m = tdl_alloc_zeroed(sizeof *m);
    if (m) m->op.kind = OP_OF_THREAD;
    return m;
}

void tdl_m_become(tdl_m *m) {
    pthread_setspecific(key, m);
    tdl_self = m;
}

TDL_NOINLINE tdl_m *tdl_m_first_call(void) {
    tdl_m *m = tdl_m_for_thread();
    if (!m) tdl_fatal("no memory for the state of a thread (%zu bytes)", sizeof *m);
    if (tdl_forked()) at_store_rlx(&m->deny, TDL_EFORKED);
    tdl_m_become(m);
    return m;
}

#ifndef TDL_SELF_INLINE
TDL_NO_TSAN TDL_NOINLINE tdl_m *tdl_m_self(void) {
    /* opaque to the compiler: two calls may have different answers */
    __asm__ volatile("" ::: "memory");
    tdl_m *m = tdl_self;
    return TDL_LIKELY(m != NULL) ? m : tdl_m_first_call();
}
#endif

TDL_NO_TSAN void tdl_m_adopt(tdl_m *m) { tdl_self = m; }

void tdl_thread_yield(void) { tdl_sys.yield(); }

int tdl_special(uint32_t bubble) {
    if (at_load_rlx(&tdl_sched.special) & TDL_SPECIAL_FORKED) return TDL_EFORKED;
    tdl_sys.call();
    return bubble && !tdl_m_self()->bubble && bubble == at_load_rlx(&tdl_sched.bubble) ? TDL_ESIM : 0;
}

int tdl_border(uint32_t bubble) {
    uint32_t own = tdl_m_self()->bubble;
    if (own == bubble) return 0;
    return own || bubble == at_load_rlx(&tdl_sched.bubble) ? TDL_ESIM : 0;
}

tdl_m *tdl_caller_denied(tdl_m *m, int *code) {
    int deny = at_load_rlx(&m->deny);
    if (deny < 0) {
        *code = deny;
        return NULL;
    }
    tdl_sys.enter();
    return tdl_m_self();
}

TDL_NO_TSAN uint32_t tdl_random(uint32_t n) { /* xorshift32 (Marsaglia 2003) */
    tdl_m *m = tdl_m_self();
    uint32_t x = m->rng;
    if (x == 0 && (x = tdl_sys.entropy()) == 0) x = 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    m->rng = x;
    return (uint32_t)(((uint64_t)x * n) >> 32);
}
