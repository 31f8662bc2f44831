/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct mapping {
    uint64_t start, end, offset;
    char     path[512];
} mapping;

static bool find_mapping(pid_t pid, uint64_t address, mapping *m)
{
    char path[64], line[1024];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
        unsigned long start, end, offset;
        m->path[0] = '\0';
        int n = sscanf(line, "%lx-%lx %*s %lx %*s %*s %511[^\n]", &start, &end, &offset, m->path);
        m->start = start, m->end = end, m->offset = offset;
        found = n >= 3 && address >= start && address < end;
    }
    if (f != NULL)
        fclose(f);
    return found;
}

/* The file's own address of the byte at this offset. */
static uint64_t address_of_offset(const Elf64_Ehdr *elf, uint64_t offset)
{
    const Elf64_Phdr *segment = (const void *)((const char *)elf + elf->e_phoff);
    for (int i = 0; i < elf->e_phnum; i++)
        if (segment[i].p_type == PT_LOAD && offset >= segment[i].p_offset &&
            offset < segment[i].p_offset + segment[i].p_filesz)
            return offset - segment[i].p_offset + segment[i].p_vaddr;
    return offset;
}

static const char *function_at(const Elf64_Ehdr *elf, uint64_t address)
{
    const char *base = (const char *)elf;
    const Elf64_Shdr *section = (const void *)(base + elf->e_shoff);
    for (int i = 0; i < elf->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB && section[i].sh_type != SHT_DYNSYM)
            continue;
        const Elf64_Sym *symbol = (const void *)(base + section[i].sh_offset);
        const char *names = base + section[section[i].sh_link].sh_offset;
        for (size_t k = 0; k < section[i].sh_size / sizeof *symbol; k++)
            if (ELF64_ST_TYPE(symbol[k].st_info) == STT_FUNC && address >= symbol[k].st_value &&
                address < symbol[k].st_value + symbol[k].st_size)
                return names + symbol[k].st_name;
    }
    return NULL;
}

void symbol_at(pid_t pid, uint64_t address, char *name, size_t size)
{
    mapping m;
    struct stat st;
    const char *function = NULL;
    if (!find_mapping(pid, address, &m)) {
        snprintf(name, size, "unknown");
        return;
    }
    int fd = open(m.path, O_RDONLY | O_CLOEXEC);
    void *file = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
        file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file != MAP_FAILED && memcmp(file, ELFMAG, SELFMAG) == 0)
        function = function_at(file, address_of_offset(file, address - m.start + m.offset));
    const char *slash = strrchr(m.path, '/');
    const char *base = slash ? slash + 1 : m.path[0] ? m.path : "generated code";
    if (function)
        snprintf(name, size, "%.60s (%.30s)", function, base);
    else
        snprintf(name, size, "%.60s", base);
    if (file != MAP_FAILED)
        munmap(file, (size_t)st.st_size);
    if (fd >= 0)
        close(fd);
}
