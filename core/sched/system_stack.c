/* SPDX-License-Identifier: MIT
 *
 * tdl_system_stack: a goroutine's call on the stack of its M, below the frames
 * of the scheduler, which waits there until it is switched to. So nothing may
 * switch meanwhile: on_system and deny are set, every blocking form asks deny,
 * and tdl_yield and tdl_goexit ask on_system.
 */
#include "sched/sched.h"
#include "sched/stack.h"
#include "sched/switch.h"
#include "sys/sys.h"

#ifdef TDL_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

typedef struct call {
    void (*fn)(void *);
    void *arg;
    tdl_m *m;
    tdl_g *g;
} call;

/* On the M's stack. */
static void there(void *arg) {
    call *c = arg;
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(c->m->g0.fake_stack, NULL, NULL);
#endif
    c->fn(c->arg);
#ifdef TDL_ASAN
    size_t size;
    void *low = tdl_stack_low(c->g, &size);
    __sanitizer_start_switch_fiber(&c->m->g0.fake_stack, low, size);
#endif
}

#ifdef TDL_TSAN
/* To TSan the goroutine just calls a function, whose locals would be where those
 * of the scheduler and of other goroutines' calls are. It gets new memory. */
enum { STACK_FOR_TSAN = 8 << 20 };

static void over(call *c) {
    char *low = tdl_sys.map(STACK_FOR_TSAN);
    if (!low) tdl_fatal("no memory for a system stack");
    tdl_switch_call(low + STACK_FOR_TSAN, there, c);
    tdl_sys.unmap(low, STACK_FOR_TSAN);
}
#else
static void over(call *c) { tdl_switch_call(c->m->g0.sp, there, c); }
#endif

TDL_NO_TSAN int tdl_system_stack(void (*fn)(void *), void *arg) {
    if (!fn) return TDL_EINVAL;
    tdl_m *m = tdl_m_self();
    if (!m->g || m->on_system) {
        fn(arg);
        return 0;
    }
    call c = {fn, arg, m, m->g};
    m->on_system = true;
    int deny = at_load_rlx(&m->deny);
    if (deny >= 0) at_store_rlx(&m->deny, TDL_ESYSTEM);
#ifdef TDL_ASAN
    __sanitizer_start_switch_fiber(&c.g->fake_stack, m->stack_low, m->stack_size);
#endif
    over(&c);
#ifdef TDL_ASAN
    __sanitizer_finish_switch_fiber(c.g->fake_stack, NULL, NULL);
#endif
    if (at_load_rlx(&m->deny) == TDL_ESYSTEM) at_store_rlx(&m->deny, deny); /* not so in the child of a fork */
    m->on_system = false;
    return 0;
}
