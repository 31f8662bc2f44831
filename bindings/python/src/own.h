/* SPDX-License-Identifier: MIT
 *
 * Who may touch what, where no lock keeps the threads of an interpreter apart (a
 * free-threaded Python). With a lock, all of this is nothing.
 *
 * Invariants, in a free-threaded Python.
 *  - What belongs to a loop or a host is touched by one thread at a time: its owner. A
 *    `own_word` says who that is. A host's is taken when it is opened and given back
 *    when it has been closed; a loop's while it runs. Both are RUNS then. Who comes to a
 *    word that nobody has takes it for as long as his call lasts; who comes to somebody
 *    else's is refused with RuntimeError (OWN), at once if it RUNS.
 *  - Objects find their word where it stays as long as they: op->host, g->host, ch->host,
 *    handle->loop, sockop->loop, and transport->home, which nobody clears.
 *  - Other objects (channels that are shared, mutexes, connections …) are the core's, which has
 *    locks of its own; what their wrappers have besides is set once, is one word that is
 *    read and written as a whole, or lies within a critical section of the object.
 *  - What any thread may do to a host or a loop (call_soon_threadsafe, a finalizer that runs
 *    on another thread) is under the `lock` of that host or loop. It is held over no call
 *    into Python, and no other lock is taken under it but the core's.
 *  - Traversing needs nothing: the collector stops all threads where they could give
 *    up a lock. Clearing and freeing happen on any thread, to what no other thread has: what
 *    is linked into something of an owner's is held by it until it leaves, but for the list
 *    of goroutines (host->live), which is therefore under host->lock. */
#ifndef TDLPY_OWN_H
#define TDLPY_OWN_H

#include "compat.h"

extern __attribute__((tls_model("initial-exec"))) _Thread_local uintptr_t tl_identity;

const void *own_number_thread(void);

/* A number, never NULL. It is no other thread's, not even when this one has ended: addresses
 * and what the system calls threads by are used again. */
static inline const void *
thread_identity(void)
{
    return __builtin_expect(tl_identity != 0, 1) ? (const void *)tl_identity : own_number_thread();
}

void own_refuse(void); /* RuntimeError */

#ifdef Py_GIL_DISABLED

typedef struct { uintptr_t thread; } own_word; /* an identity, perhaps with OWN_RUNS; 0: nobody */
enum { OWN_RUNS = 1 };
typedef struct { own_word *taken; bool refused; } own_claim;

bool own_wait(own_word *w); /* until w is ours; false: it stays another's */

static inline bool
own_try(own_word *w, uintptr_t how)
{
    uintptr_t none = 0; /* acquire: with the release of own_give */
    return __atomic_compare_exchange_n(&w->thread, &none, (uintptr_t)thread_identity() | how, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline bool
own_is_mine(const own_word *w)
{
    return (__atomic_load_n(&w->thread, __ATOMIC_RELAXED) & ~(uintptr_t)OWN_RUNS) == (uintptr_t)thread_identity();
}

static inline void
own_give(own_word *w)
{
    __atomic_store_n(&w->thread, 0, __ATOMIC_RELEASE); /* with the acquire of own_try */
}

/* From a short claim of this thread's, or from nobody: for long. */
static inline void
own_keep(own_word *w)
{
    __atomic_store_n(&w->thread, (uintptr_t)thread_identity() | OWN_RUNS, __ATOMIC_RELAXED);
}

static inline own_claim
own_enter(own_word *w)
{
    if (w == NULL || own_is_mine(w))
        return (own_claim){NULL, false};
    if (own_try(w, 0) || own_wait(w))
        return (own_claim){w, false};
    return (own_claim){NULL, true};
}

static inline void
own_leave(own_claim *c)
{
    if (c->taken != NULL)
        own_give(c->taken);
}

/* The first statement of a method: returns `failed` with an exception where the object is
 * another thread's; else it is ours until the method returns. word: a pointer, or NULL. */
#define OWN(word, failed)                                                                        \
    __attribute__((cleanup(own_leave))) own_claim own_claim_ = own_enter(word);                  \
    if (own_claim_.refused) {                                                                    \
        own_refuse();                                                                            \
        return failed;                                                                           \
    }
#define OWN_QUIET(word, failed) /* without an exception */                                       \
    __attribute__((cleanup(own_leave))) own_claim own_claim_ = own_enter(word);                  \
    if (own_claim_.refused)                                                                      \
        return failed;

typedef PyMutex own_lock;
#define NEXT_NUMBER(field) __atomic_add_fetch(&(field), 1, __ATOMIC_RELAXED)
#define LOCK(l) PyMutex_Lock(l)
#define UNLOCK(l) PyMutex_Unlock(l)

/* Objects count the references to them, which threads contend for. CPython does not count those to Python's
 * classes, functions and modules once there are threads, and those to this one, which is
 * new, are not counted either. */
static inline void
stays_for_ever(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    Py_SET_REFCNT(object, (Py_ssize_t)UINT32_MAX + 1);
}

/* A reference to an object whose end another thread may have begun; false: it has. The
 * object was told of it beforehand (ref_sometimes). */
static inline void
ref_sometimes(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030e0000
    PyUnstable_EnableTryIncRef(object);
#else
    Py_ssize_t none = 0; /* as CPython marks what has weak references */
    __atomic_compare_exchange_n(&object->ob_ref_shared, &none, _Py_REF_MAYBE_WEAKREF, false,
                                __ATOMIC_RELAXED, __ATOMIC_RELAXED);
#endif
}

static inline bool
ref_try(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030e0000
    return PyUnstable_TryIncRef(object);
#else
    if (__atomic_load_n(&object->ob_tid, __ATOMIC_RELAXED) == _Py_ThreadId()) {
        Py_INCREF(object);
        return true;
    }
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    do {
        if (shared == 0 || shared == _Py_REF_MERGED)
            return false;
    } while (!__atomic_compare_exchange_n(&object->ob_ref_shared, &shared, shared + (1 << _Py_REF_SHARED_SHIFT), true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
#endif
}

#else

#define OWN(word, failed) ((void)0)
#define OWN_QUIET(word, failed) ((void)0)
#define NEXT_NUMBER(field) (++(field))
#define LOCK(l) ((void)0)
#define UNLOCK(l) ((void)0)

static inline void
stays_for_ever(PyObject *object)
{
    (void)object;
}

static inline void
ref_sometimes(PyObject *object)
{
    (void)object;
}

static inline bool
ref_try(PyObject *object)
{
    Py_INCREF(object);
    return true;
}

#endif
/* Getter and setter of an object's field at the offset `closure`, for any thread; None: NULL. Who
 * sets the field otherwise uses own_put. */
#ifdef Py_GIL_DISABLED
PyObject *own_field_get(PyObject *self, void *closure);
int own_field_set(PyObject *self, PyObject *value, void *closure);
/* Takes value. */
void own_put(PyObject *self, PyObject **field, PyObject *value);
#else
#define own_put(self, field, value) Py_XSETREF(*(field), value)
#endif
/* A value that was fetched from where another thread may replace it: a reference until
 * FIELD_DONE where there are such, borrowed elsewhere. FIELD_KEEP makes it a reference. */
#ifdef Py_GIL_DISABLED
#define FIELD_DONE(value) Py_XDECREF(value)
#define FIELD_KEEP(value) (value)
#else
#define FIELD_DONE(value) ((void)0)
#define FIELD_KEEP(value) Py_XNewRef(value)
#endif
#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* A word that one thread writes and others read. */
#define SEEN(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SHOW(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELAXED)
/* Of an object that is freed: a weak reference that another thread drops just now takes itself off the list, under
 * CPython's lock, which PyObject_ClearWeakRefs asks for. */
#define CLEAR_WEAKREFS(object)                              \
    do {                                                    \
        if (SEEN((object)->weakrefs) != NULL)               \
            PyObject_ClearWeakRefs((PyObject *)(object));   \
    } while (0)

#endif
