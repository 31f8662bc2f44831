/* SPDX-License-Identifier: MIT
 *
 * The atomics of core/sys/atomic.h, as steps of the model checker. */
#ifndef MODEL_ATOMIC_H
#define MODEL_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_RLX, MODEL_ACQ, MODEL_REL, MODEL_ACQ_REL, MODEL_SEQ };

/* Where an operation stands: for traces. */
typedef struct model_site {
    const char *file;
    int line;
    const char *what;
    bool unlock; /* of a tdl_lock */
} model_site;

uint64_t model_load(const volatile void *p, size_t size, int order, const model_site *site);
void model_store(volatile void *p, size_t size, uint64_t value, int order, const model_site *site);
enum { MODEL_XCHG, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND };
uint64_t model_rmw(volatile void *p, size_t size, int how, uint64_t value, int order, const model_site *site);
bool model_cas(volatile void *p, size_t size, uint64_t *expected, uint64_t value, int order, const model_site *site);
void model_fence_seq(const model_site *site);
void model_fence_compiler(void);
void model_pause(const model_site *site);

#define MODEL_SITE(what)                                                       \
    __extension__({                                                            \
        static const model_site site_ = {__FILE__, __LINE__, what, __builtin_strcmp(what, "&l->held") == 0}; \
        &site_;                                                                \
    })
#define MODEL_TYPE(p) __typeof__((void)0, *(p)) /* without _Atomic */

#define MODEL_LOAD(p, order) ((MODEL_TYPE(p))model_load((p), sizeof *(p), order, MODEL_SITE(#p)))
#define MODEL_STORE(p, v, order) model_store((p), sizeof *(p), (uint64_t)(v), order, MODEL_SITE(#p))
#define MODEL_RMW(p, how, v, order)                                            \
    __extension__({ /* not a cast: its value need not be used */               \
        MODEL_TYPE(p) old_ =                                                   \
            (MODEL_TYPE(p))model_rmw((p), sizeof *(p), how, (uint64_t)(v), order, MODEL_SITE(#p)); \
        old_;                                                                  \
    })
#define MODEL_CAS(p, e, v, order)                                              \
    __extension__({                                                            \
        MODEL_TYPE(p) *expected_ = (e);                                        \
        uint64_t was_ = (uint64_t)*expected_;                                  \
        bool done_ = model_cas((p), sizeof *(p), &was_, (uint64_t)(v), order, MODEL_SITE(#p)); \
        if (!done_) *expected_ = (MODEL_TYPE(p))was_;                          \
        done_;                                                                 \
    })

#define at_load_rlx(p)     MODEL_LOAD(p, MODEL_RLX)
#define at_load_acq(p)     MODEL_LOAD(p, MODEL_ACQ)
#define at_load_seq(p)     MODEL_LOAD(p, MODEL_SEQ)
#define at_store_rlx(p, v) MODEL_STORE(p, v, MODEL_RLX)
#define at_store_rel(p, v) MODEL_STORE(p, v, MODEL_REL)
#define at_store_seq(p, v) MODEL_STORE(p, v, MODEL_SEQ)
#define at_xchg_rlx(p, v)  MODEL_RMW(p, MODEL_XCHG, v, MODEL_RLX)
#define at_xchg_acq(p, v)  MODEL_RMW(p, MODEL_XCHG, v, MODEL_ACQ)
#define at_xchg_rel(p, v)  MODEL_RMW(p, MODEL_XCHG, v, MODEL_REL)
#define at_xchg_seq(p, v)  MODEL_RMW(p, MODEL_XCHG, v, MODEL_SEQ)
#define at_add_rlx(p, v)   MODEL_RMW(p, MODEL_ADD, v, MODEL_RLX)
#define at_add_rel(p, v)   MODEL_RMW(p, MODEL_ADD, v, MODEL_REL)
#define at_add_seq(p, v)   MODEL_RMW(p, MODEL_ADD, v, MODEL_SEQ)
#define at_sub_rlx(p, v)   MODEL_RMW(p, MODEL_SUB, v, MODEL_RLX)
#define at_sub_rel(p, v)   MODEL_RMW(p, MODEL_SUB, v, MODEL_REL)
#define at_sub_seq(p, v)   MODEL_RMW(p, MODEL_SUB, v, MODEL_SEQ)
#define at_or_rlx(p, v)    MODEL_RMW(p, MODEL_OR, v, MODEL_RLX)
#define at_or_seq(p, v)    MODEL_RMW(p, MODEL_OR, v, MODEL_SEQ)
#define at_and_rlx(p, v)   MODEL_RMW(p, MODEL_AND, v, MODEL_RLX)
#define at_and_seq(p, v)   MODEL_RMW(p, MODEL_AND, v, MODEL_SEQ)
#define at_cas_rlx(p, e, v) MODEL_CAS(p, e, v, MODEL_RLX)
#define at_cas_acq(p, e, v) MODEL_CAS(p, e, v, MODEL_ACQ)
#define at_cas_rel(p, e, v) MODEL_CAS(p, e, v, MODEL_REL)
#define at_cas_seq(p, e, v) MODEL_CAS(p, e, v, MODEL_SEQ)
#define at_fence_seq()      model_fence_seq(MODEL_SITE("fence"))
#define at_fence_compiler() model_fence_compiler()
#define at_pause()          model_pause(MODEL_SITE("pause"))

#endif
