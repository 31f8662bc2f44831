/* SPDX-License-Identifier: MIT
 * The slow half of tdl_lock: spin, then yield, then nap. */
#include "sys/lock.h"

#include <sched.h>
#include <time.h>

void tdl_lock_wait(tdl_lock *l) {
    for (int round = 0;; round++) {
        for (int i = 0; i < 64; i++) {
            if (at_load_rlx(&l->held) == 0 && at_xchg_acq(&l->held, 1) == 0) return;
            at_pause();
        }
        if (round < 16) {
            sched_yield();
        } else {
            /* the holder has been preempted behind somebody else's work */
            struct timespec nap = {0, 50000};
            nanosleep(&nap, NULL);
        }
    }
}
