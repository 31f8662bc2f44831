/* SPDX-License-Identifier: MIT
 *
 * Parts of the core that a scenario does without: they do nothing, and say 0.
 * Without the core's headers, so that these need not follow each change of a
 * parameter; weak, so that the real ones win where a program has them.
 */
#define NOTHING(name)                                                          \
    long name(void);                                                           \
    __attribute__((weak)) long name(void) { return 0; }

NOTHING(tdl_deadlock_check)
NOTHING(tdl_deadlock_sleeper)
NOTHING(tdl_sysmon_wake)
NOTHING(tdl_sysmon_start)
NOTHING(tdl_poller_retime)
NOTHING(tdl_poller_wake)
NOTHING(tdl_p_attend)
NOTHING(tdl_stack_to_trim)
NOTHING(tdl_os_thread_id)

/* Is it one of ours? Whatever a scenario cancels is. */
long tdl_stack_owns(void);
__attribute__((weak)) long tdl_stack_owns(void) { return 1; }
