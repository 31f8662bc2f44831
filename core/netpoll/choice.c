/* SPDX-License-Identifier: MIT
 *
 * Which back end the pollers have: as TDL_NETPOLL or tdl_set_netpoll say, or the
 * system's own. The choice is made when a poller is opened and none is open, and
 * stands as long as one is; what it was and why is kept after that.
 *
 * choice.lock guards everything here. A simulation has pollers of its own, which
 * are of the same kind whatever was chosen (core/sim), and counts for nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netpoll/backend.h"
#include "sys/sys.h"
#include "sys/text.h"
#include "treadle.h"

static const tdl_backend *const known[] = {
#ifdef TDL_LINUX
    &tdl_backend_epoll, &tdl_backend_uring,
#endif
    &tdl_backend_uv,
};
enum { KNOWN = sizeof known / sizeof *known, REASON = 256 };

static struct {
    tdl_lock lock;
    const tdl_backend *back; /* NULL: not chosen yet */
    const char *set;         /* by tdl_set_netpoll: a name of known; NULL */
    bool strict;
    uint32_t users; /* pollers that are open */
    bool told;      /* a message has been written for the wish as it is */
    char reason[REASON];
} choice = {.lock = TDL_LOCK_INIT(RANK_BACKEND)};

/* The one named, perhaps with a ! behind it. */
static const tdl_backend *find(const char *text, bool *strict) {
    size_t n = strlen(text);
    *strict = n > 0 && text[n - 1] == '!';
    if (*strict) n--;
    for (int i = 0; i < KNOWN; i++)
        if (strlen(known[i]->name) == n && memcmp(known[i]->name, text, n) == 0) return known[i];
    return NULL;
}

static void tell(const char *text) {
    if (!choice.told) fprintf(stderr, "treadle: %s\n", text);
    choice.told = true;
}

/* With the lock. */
static const tdl_backend *choose(int *code) {
    const char *env = getenv("TDL_NETPOLL"), *by = "tdl_set_netpoll";
    bool strict = choice.strict;
    const tdl_backend *b = choice.set ? find(choice.set, &(bool){false}) : NULL;
    if (!b && env && *env) {
        by = "TDL_NETPOLL";
        if (!(b = find(env, &strict))) {
            snprintf(choice.reason, REASON, "TDL_NETPOLL is \"%.60s\": it can be %s uv; with ! behind it there is no other "
                     "one instead", env, KNOWN > 1 ? "epoll, uring or" : "");
            tell(choice.reason);
            *code = TDL_EINVAL;
            return NULL;
        }
    }
    if (!b) {
        snprintf(choice.reason, REASON, "the default of this system");
        return known[0];
    }
    char why[160] = "";
    int r = b->probe(why, sizeof why);
    if (r >= 0) {
        snprintf(choice.reason, REASON, "asked for by %s%s%s", by, *why ? "; " : "", why);
        return b;
    }
    if (strict) {
        snprintf(choice.reason, REASON, "%s asks for %s alone, which does not work here: %s", by, b->name, why);
        tell(choice.reason);
        *code = r;
        return NULL;
    }
    snprintf(choice.reason, REASON, "%s asks for %s, which does not work here: %s", by, b->name, why);
    char text[REASON + 32];
    snprintf(text, sizeof text, "%s; %s is used instead", choice.reason, known[0]->name);
    tell(text);
    return known[0];
}

const tdl_backend *tdl_backend_take(bool *counted, int *code) {
    *counted = false;
    if (tdl_sys.bubble()) return tdl_sys.pollers;
    tdl_lock_take(&choice.lock);
    if (choice.users == 0) choice.back = choose(code);
    const tdl_backend *b = choice.back;
    *counted = b != NULL;
    choice.users += *counted;
    tdl_unlock(&choice.lock);
    return b;
}

void tdl_backend_give(void) {
    tdl_lock_take(&choice.lock);
    choice.users--;
    tdl_unlock(&choice.lock);
}

/* -- What is public ---------------------------------------------------------------- */

int tdl_set_netpoll(const char *name) {
    bool strict = false;
    const tdl_backend *b = NULL;
    if (name && *name && !(b = find(name, &strict))) return TDL_EINVAL;
    tdl_lock_take(&choice.lock);
    int r = choice.users ? TDL_EBUSY : 0;
    if (r == 0) {
        choice.set = b ? b->name : NULL;
        choice.strict = strict;
        choice.back = NULL;
        choice.told = false;
    }
    tdl_unlock(&choice.lock);
    return r;
}

const char *tdl_netpoll_name(void) {
    int code;
    tdl_lock_take(&choice.lock);
    if (!choice.back) choice.back = choose(&code);
    const char *name = choice.back ? choice.back->name : "none";
    tdl_unlock(&choice.lock);
    return name;
}

/* Not under the lock: who dumps may be stopped anywhere, or have it. */
TDL_NO_TSAN int tdl_netpoll_line(char *buf, size_t size) {
    const tdl_backend *b = choice.back;
    if (tdl_sys.bubble()) return snprintf(buf, size, "poller: %s\n", tdl_sys.pollers->name);
    if (!b) return snprintf(buf, size, "poller: none yet\n");
    return snprintf(buf, size, "poller: %s, %.*s\n", b->name, REASON - 1, choice.reason);
}

int tdl_netpoll_reason(char *buf, size_t size) {
    if (!buf && size) return TDL_EINVAL;
    tdl_netpoll_name();
    tdl_lock_take(&choice.lock);
    int n = snprintf(buf, size, "%s", choice.reason);
    tdl_unlock(&choice.lock);
    return n;
}
