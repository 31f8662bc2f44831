/* SPDX-License-Identifier: MIT
 *
 * Included first in everything that is checked: what the compiler would not
 * show to the checker. */
#ifndef MODEL_INTERCEPT_H
#define MODEL_INTERCEPT_H

#include <string.h>

void *model_memset(void *p, int c, size_t n);
void *model_memcpy(void *to, const void *from, size_t n);
#define memset model_memset
#define memcpy model_memcpy

#endif
