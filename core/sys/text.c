/* SPDX-License-Identifier: MIT
 * The name of a piece of code. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sys/text.h"

#include <dlfcn.h>

/* dladdr may take the loader's lock; a thread that faults while it holds that
 * takes it once more, for it is recursive. */
void tdl_text_code(tdl_text *t, const void *return_address) {
    uintptr_t at = (uintptr_t)return_address;
    Dl_info info;
    if (at == 0 || dladdr((void *)(at - 1), &info) == 0 || !info.dli_fname) {
        tdl_text_add(t, "0x");
        tdl_text_number(t, at, 16);
        return;
    }
    if (info.dli_sname) {
        tdl_text_add(t, info.dli_sname);
        tdl_text_add(t, "+0x");
        tdl_text_number(t, at - (uintptr_t)info.dli_saddr, 16);
        tdl_text_add(t, " (");
    }
    tdl_text_add(t, info.dli_fname);
    tdl_text_add(t, "+0x");
    tdl_text_number(t, at - (uintptr_t)info.dli_fbase, 16);
    if (info.dli_sname) tdl_text_add(t, ")");
}
