/* SPDX-License-Identifier: MIT
 * Injected faults, as the program sets them; what they are is in sys/fault.c. */
#include "sys/fault.h"

#include "host/host.h"
#include "sched/sched.h"
#include "sys/sys.h"

static bool something_runs(void) {
    if (at_load_acq(&tdl_sched.running) || tdl_sys.simulated) return true;
    for (tdl_host *h = tdl_host_first(); h; h = h->next)
        if (h->open) return true;
    return false;
}

int tdl_fault_set(const char *text) {
    if (tdl_forked()) return TDL_EFORKED;
    if (!tdl_fault_parses(text, NULL, 0)) return TDL_EINVAL;
    int r = tdl_fault_environment(); /* or it would come later, and replace this */
    if (r < 0) return r;
    if (!tdl_fault_in_place() && text && *text && something_runs()) return TDL_EBUSY;
    tdl_fault_apply(text);
    return 0;
}

int tdl_fault_check(const char *text, char *why, size_t size) {
    if (!why && size) return TDL_EINVAL;
    if (size) why[0] = '\0';
    return tdl_fault_parses(text, why, size) ? 0 : TDL_EINVAL;
}

int64_t tdl_fault_count(const char *what) {
    int64_t n = tdl_fault_injected(what);
    return n < 0 ? TDL_EINVAL : n;
}
