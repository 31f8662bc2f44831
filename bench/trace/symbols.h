/* SPDX-License-Identifier: MIT
 * Names of code addresses in another process, from the symbol tables of the
 * files it has mapped. */
#ifndef BENCH_SYMBOLS_H
#define BENCH_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* "function (file)", or the file, or "unknown". */
void symbol_at(pid_t pid, uint64_t address, char *name, size_t size);

#endif
