/* SPDX-License-Identifier: MIT
 *
 * Text put together without the C library, for where a signal handler does it.
 * What does not fit is cut; the text always ends in NUL.
 */
#ifndef TDL_SYS_TEXT_H
#define TDL_SYS_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct tdl_text {
    char *at, *last; /* the next character, and where the NUL must be at the latest */
} tdl_text;

static inline tdl_text tdl_text_in(char *buf, size_t size) {
    buf[0] = '\0';
    return (tdl_text){buf, buf + size - 1};
}

static inline void tdl_text_add(tdl_text *t, const char *s) {
    while (*s && t->at < t->last) *t->at++ = *s++;
    *t->at = '\0';
}

static inline void tdl_text_number(tdl_text *t, uint64_t n, unsigned base) {
    char digits[21];
    int at = sizeof digits - 1;
    digits[at] = '\0';
    do
        digits[--at] = "0123456789abcdef"[n % base];
    while (n /= base);
    tdl_text_add(t, &digits[at]);
}

/* What code a return address lies behind: "name+0x1c (file+0x11c4)", without
 * the name where the linker has kept none, and "0x7f…" when it is in no file. */
void tdl_text_code(tdl_text *t, const void *return_address);

#endif
