/* SPDX-License-Identifier: MIT
 *
 * The threads of a scenario: coroutines on the core's own stack switch, and who
 * goes on at each step.
 *
 * To leave a thread that could go on is a preemption, and costs one; to leave
 * one that waits, pauses or ends is free. Who pauses in a loop goes on when
 * another thread has stored something, or nobody else can go on.
 */
#include <limits.h>
#include <string.h>

#include "engine.h"
#include "sched/switch.h"

/* Looked at from outside: it is no thread's step. */
static bool ask(bool (*ready)(void *), void *arg) {
    thread *me = E->cur;
    E->cur = NULL;
    E->asking = true;
    bool yes = ready(arg);
    E->asking = false;
    E->cur = me;
    return yes;
}

static bool is_ready(thread *t) { return ask(t->ready, t->ready_arg); }

static bool is_held(const thread *t) {
    const held_step *h = &t->held;
    if (!h->l || !E->reduce || E->disturbed > h->since) return false;
    if (h->l->written > h->since || (h->writes && h->l->read > h->since)) return false;
    return !(h->seq && h->l->seq > h->since);
}

static bool can_run(thread *t) {
    if (is_held(t)) return false;
    switch (t->state) {
    case T_READY: return true;
    case T_WAITING: return is_ready(t) || (t->timed && E->timeouts_left > 0);
    case T_PAUSED: return t->stamp != E->writes;
    default: return false;
    }
}

static int others(thread **list) {
    int n = 0;
    for (int i = 0; i < E->nthreads; i++)
        if (&E->threads[i] != E->cur && can_run(&E->threads[i])) list[n++] = &E->threads[i];
    return n;
}

/* -- Switching ------------------------------------------------------------------ */

_Noreturn void engine_leave(void) {
    void *gone;
    E->cur = NULL;
    tdl_switch(&gone, E->main_sp);
    engine_die("a schedule goes on after its end");
}

static void go(thread *next) {
    thread *me = E->cur;
    if (next->state == T_WAITING && !is_ready(next)) {
        E->timeouts_left--;
        next->timed_out = true;
    }
    if (next->state == T_PAUSED) next->state = T_READY;
    if (next == me) return;
    E->cur = next;
    tdl_switch(&me->sp, next->sp);
}

static void report_stuck(void) {
    char list[700] = "";
    for (int i = 0; i < E->nthreads; i++) {
        if (E->threads[i].state != T_WAITING || E->threads[i].daemon) continue;
        strncat(list, " ", sizeof list - strlen(list) - 1);
        strncat(list, E->threads[i].name, sizeof list - strlen(list) - 1);
    }
    model_fail("deadlock: asleep for ever:%s", list);
}

/* Nobody can go on by himself: those who pause must, in turn. */
static thread *last_resort(void) {
    thread *list[MODEL_THREADS];
    int n = 0, least = INT_MAX;
    for (int i = 0; i < E->nthreads; i++)
        if (E->threads[i].state == T_PAUSED && E->threads[i].pauses < least) least = E->threads[i].pauses;
    for (int i = 0; i < E->nthreads; i++)
        if (E->threads[i].state == T_PAUSED && E->threads[i].pauses == least) list[n++] = &E->threads[i];
    if (n == 0) return NULL;
    if (++E->forced > PAUSES) model_fail("livelock: %s waits in a loop for ever", list[0]->name);
    return list[engine_choose((unsigned)n, CHOOSE_NEXT)];
}

static bool any_held(void) {
    for (int i = 0; i < E->nthreads; i++)
        if (is_held(&E->threads[i])) return true;
    return false;
}

/* cur cannot go on, or need not. */
static void go_on(bool me_too) {
    thread *list[MODEL_THREADS + 1];
    int n = others(list);
    if (me_too) list[n++] = E->cur;
    if (n == 0 && any_held()) {
        E->redundant = true;
        engine_leave();
    }
    thread *next = n ? list[engine_choose((unsigned)n, CHOOSE_NEXT)] : last_resort();
    if (next) {
        go(next);
        return;
    }
    for (int i = 0; i < E->nthreads; i++)
        if (E->threads[i].state == T_WAITING && !E->threads[i].daemon) report_stuck();
    engine_leave();
}

static void count_step(void) {
    if (++E->steps > STEPS) model_fail("livelock: more than %d steps", STEPS);
}

void engine_disturb(void) { E->disturbed = E->steps; }

void engine_point(held_step step) {
    count_step();
    if (E->preempt_left == 0) return;
    thread *list[MODEL_THREADS], *me = E->cur;
    int n = others(list);
    if (n == 0) return;
    unsigned k = engine_choose((unsigned)n + 1, CHOOSE_SWITCH);
    if (k == 0) return;
    E->preempt_left--;
    if (E->trace) model_note("-- preempted --");
    step.since = E->steps;
    me->held = step;
    go(list[k - 1]);
    me->held.l = NULL;
}

void engine_no_point(void) {
    count_step();
    thread *list[MODEL_THREADS];
    if (E->full && E->preempt_left != 0 && others(list) > 0) E->full[E->nfull++] = 0;
}

void model_pause(const model_site *site) {
    if (!E->cur) return;
    thread *me = E->cur;
    count_step();
    engine_disturb();
    if (E->trace) engine_trace(site, "pause");
    if (me->stamp != E->writes) me->pauses = 0;
    me->stamp = E->writes;
    me->state = T_PAUSED;
    go_on(++me->pauses == 1);
}

/* -- Waiting --------------------------------------------------------------------- */

static bool wait(bool (*ready)(void *), void *arg, bool timed) {
    thread *me = E->cur;
    if (!me) {
        CHECK(ready(arg), "waits for ever outside of the threads");
        return true;
    }
    if (ask(ready, arg)) return true;
    me->ready = ready;
    me->ready_arg = arg;
    me->timed = timed;
    me->timed_out = false;
    me->state = T_WAITING;
    count_step();
    engine_disturb();
    go_on(timed && E->timeouts_left > 0);
    me->state = T_READY;
    return !me->timed_out;
}

void model_wait(bool (*ready)(void *), void *arg) { wait(ready, arg, false); }

bool model_wait_timed(bool (*ready)(void *), void *arg) { return wait(ready, arg, true); }

/* -- Beginning and end ------------------------------------------------------------- */

static void entry(void) {
    thread *me = E->cur;
    me->run(me->arg);
    if (E->trace) model_note("ends");
    me->state = T_DONE;
    E->writes++;
    go_on(false);
    engine_die("%s runs after its end", me->name);
}

static void run_plain(void *arg) { E->scenario->thread[(intptr_t)arg].run(); }

int model_spawn(const char *name, void (*run)(void *), void *arg, bool daemon) {
    if (E->nthreads == MODEL_THREADS) engine_die("more than %d threads", MODEL_THREADS);
    int id = E->nthreads;
    thread *t = &E->threads[id];
    char *stack = MODEL_ARENA + ARENA + (size_t)id * STACK;
    t->id = id;
    t->name = name;
    t->run = run;
    t->arg = arg;
    t->user = NULL;
    t->daemon = daemon;
    t->timed = t->timed_out = false;
    t->held.l = NULL;
    t->early = false;
    t->pauses = 0;
    t->stamp = 0;
    t->sp = tdl_switch_prepare(stack, STACK, entry);
    memory_spawn(t);
    t->state = T_READY;
    E->nthreads++;
    return id;
}

static bool is_done(void *t) { return ((thread *)t)->state == T_DONE; }

void model_join(int id) {
    thread *t = &E->threads[id];
    model_wait(is_done, t);
    if (E->cur) memory_join(t);
}

int model_self(void) { return E->cur ? E->cur->id : -1; }

void *model_get_user(void) { return E->cur ? E->cur->user : NULL; }

void model_set_user(void *user) { E->cur->user = user; }

void threads_start(void) {
    E->nthreads = 0;
    for (intptr_t i = 0; i < MODEL_THREADS && E->scenario->thread[i].run; i++)
        model_spawn(E->scenario->thread[i].name, run_plain, (void *)i, E->scenario->thread[i].daemon);
    thread *first = &E->threads[engine_choose((unsigned)E->nthreads, CHOOSE_NEXT)];
    E->cur = first;
    tdl_switch(&E->main_sp, first->sp);
}
