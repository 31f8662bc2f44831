/* SPDX-License-Identifier: MIT
 *
 * Injected faults: a table for the seam whose calls fail, do less than asked, or
 * tell of events late and twice, as often as the text says that was set. While
 * none is set, the table is the real one.
 *
 * The rates may be changed at any time; the table is put in place while nothing
 * runs, and stays.
 */
#ifndef TDL_SYS_FAULT_H
#define TDL_SYS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is the text well-formed? NULL and "" are. If not, why says what is wrong. */
bool tdl_fault_parses(const char *text, char *why, size_t size);
/* Sets what the text says, which parses; NULL: nothing. All counts are 0 again. */
void tdl_fault_apply(const char *text);
/* Is the table in place? */
bool tdl_fault_in_place(void);
/* What was injected so far; NULL: all together. -1 for an unknown name. */
int64_t tdl_fault_injected(const char *what);
/* Applies TDL_FAULT from the environment, once, before anything runs. 0, or
 * TDL_EINVAL when it does not parse; what is wrong was written to stderr. */
int tdl_fault_environment(void);

#endif
