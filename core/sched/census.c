/* SPDX-License-Identifier: MIT
 * The census of stacks. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sched/census.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched/stack.h"
#include "sys/os.h"
#include "sys/text.h"

enum { SITES = 1024, PAGE = 4096, WINDOW = 64 /* pages asked for at once */ };

typedef struct site {
    const void *at; /* NULL: unused */
    int cls;
    char name[TDL_NAME]; /* of one of its goroutines */
    uint64_t ended;
    size_t most; /* bytes, from the end of the slot */
} site;

_Atomic int tdl_census_on;
static _Atomic int report_at_end; /* set once, before the first run */

/* sites and others: under lock. A table with open addressing that is never full:
 * what comes to more than SITES - 1 is counted as others. */
static tdl_lock lock = TDL_LOCK_INIT(RANK_CENSUS);
static site sites[SITES];
static uint32_t nsites;
static uint64_t others;

static site *site_of(const void *at, int cls) {
    uint32_t i = (uint32_t)((uintptr_t)at * UINT64_C(0x9e3779b97f4a7c15) >> 40);
    for (;; i++) {
        site *s = &sites[(i + (uint32_t)cls) % SITES];
        if (s->at == at && s->cls == cls) return s;
        if (s->at) continue;
        if (nsites == SITES - 1) return NULL;
        nsites++;
        s->at = at;
        s->cls = cls;
        return s;
    }
}

/* From the lowest byte that is not zero to the end of the slot. What has been
 * written as zeros only is not seen; a frame's saved registers and return
 * addresses are. */
TDL_NO_TSAN __attribute__((no_sanitize("address"))) static size_t used(tdl_g *g) {
    size_t size;
    char *low = tdl_stack_low(g, &size), *end = tdl_stack_end(g);
    unsigned char there[WINDOW];
    for (char *at = low; at < end; at += WINDOW * PAGE) {
        size_t left = (size_t)(end - at), n = left < WINDOW * PAGE ? left : WINDOW * PAGE;
        if (tdl_os_resident(at, n, there) < 0) break; /* not known: all of it */
        for (size_t i = 0; i < n / PAGE; i++) {
            if (!(there[i] & 1)) continue;
            const uint64_t *word = (const uint64_t *)(const void *)(at + i * PAGE);
            while ((const char *)word < end && *(const volatile uint64_t *)word == 0) word++;
            return (size_t)(end - (const char *)word);
        }
    }
    return (size_t)(end - (char *)g);
}

TDL_NO_TSAN void tdl_census_begins(tdl_g *g) {
    uint64_t id = g->id;
    tdl_stack_clear(g);
    g->id = id;
    g->counted = true;
}

/* What g has used so far; under lock. */
TDL_NO_TSAN static site *note(tdl_g *g) {
    site *s = site_of(g->site, g->stack);
    if (!s) {
        others++;
        return NULL;
    }
    size_t n = used(g);
    if (n > s->most) s->most = n;
    if (g->named) memcpy(s->name, tdl_g_name(g), TDL_NAME);
    return s;
}

TDL_NO_TSAN void tdl_census_ends(tdl_g *g) {
    g->counted = false;
    tdl_lock_take(&lock);
    site *s = note(g);
    if (s) s->ended++;
    tdl_unlock(&lock);
}

int tdl_stack_census(int on) {
    if (tdl_forked()) return TDL_EFORKED;
    tdl_lock_take(&lock);
    if (on && !at_load_rlx(&tdl_census_on)) {
        memset(sites, 0, sizeof sites);
        nsites = 0;
        others = 0;
    }
    at_store_rlx(&tdl_census_on, on != 0);
    tdl_unlock(&lock);
    return 0;
}

/* -- Report ------------------------------------------------------------------------ */

static int put(int fd, const char *text) {
    for (size_t n = strlen(text); n > 0;) {
        ssize_t w = write(fd, text, n);
        if (w < 0 && errno != EINTR) return -errno;
        if (w > 0) text += w, n -= (size_t)w;
    }
    return 0;
}

static int put_site(int fd, const site *s, uint64_t alive) {
    char line[512], where[256];
    tdl_text t = tdl_text_in(where, sizeof where);
    tdl_text_code(&t, s->at);
    size_t size = tdl_stack_size(s->cls), usable = size - tdl_stack_guard(s->cls);
    snprintf(line, sizeof line, "%9zu of %8zu (%3zu %%) %10llu %10llu  %s%sat %s\n", s->most, usable, s->most * 100 / usable,
             (unsigned long long)s->ended, (unsigned long long)alive, s->name, s->name[0] ? " " : "", where);
    return put(fd, line);
}

TDL_NO_TSAN int tdl_stack_report(int fd) {
    if (tdl_forked()) return TDL_EFORKED;
    site *copy = malloc(sizeof sites);
    uint64_t *alive = calloc(SITES, sizeof *alive);
    uint64_t left_out = 0;
    int r = copy && alive ? 0 : TDL_ENOMEM;
    if (r == 0) {
        tdl_g *g;
        tdl_lock_take(&lock);
        for (uint32_t i = 0; (g = tdl_stack_g(i)) != NULL; i++) {
            if (at_load_acq(&g->status) == G_DEAD || !g->counted) continue;
            site *s = note(g);
            if (s) alive[s - sites]++;
        }
        memcpy(copy, sites, sizeof sites);
        left_out = others;
        tdl_unlock(&lock);
        for (int i = 0; i < SITES; i++) copy[i].name[TDL_NAME - 1] = '\0';
    }
    if (r == 0) r = put(fd, "stack used of usable, most first     ended      alive  spawned\n");
    for (bool any = true; r == 0 && any;) {
        int best = -1;
        for (int i = 0; i < SITES; i++)
            if (copy[i].at && (best < 0 || copy[i].most > copy[best].most)) best = i;
        any = best >= 0;
        if (any) r = put_site(fd, &copy[best], alive[best]);
        if (any) copy[best].at = NULL;
    }
    if (r == 0 && left_out) r = put(fd, "  and goroutines of more places than the census has room for\n");
    free(copy);
    free(alive);
    return r;
}

/* -- TDL_DEBUG ------------------------------------------------------------------------ */

static bool asked_for(const char *what) {
    const char *s = getenv("TDL_DEBUG");
    for (size_t n = strlen(what); s && *s;) {
        const char *end = strchr(s, ',');
        size_t len = end ? (size_t)(end - s) : strlen(s);
        if (len == n && strncmp(s, what, n) == 0) return true;
        s = end ? end + 1 : NULL;
    }
    return false;
}

void tdl_census_run_starts(void) {
    static _Atomic int asked;
    if (at_xchg_seq(&asked, 1) || !asked_for("stacks")) return;
    at_store_rlx(&report_at_end, 1);
    tdl_stack_census(1);
}

void tdl_census_run_ends(void) {
    if (at_load_rlx(&report_at_end)) tdl_stack_report(STDERR_FILENO);
}
