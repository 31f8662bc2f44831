/* SPDX-License-Identifier: MIT
 * Touches so many MiB of memory, and ends. In a virtual machine memory that was
 * free for a while may have been given back to the host, and comes at several
 * times the price: who measures what memory costs has it there first.
 * Usage: warm MiB */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;
    if (size == 0 || mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED) {
        perror("warm");
        return 1;
    }
    return 0;
}
