/* SPDX-License-Identifier: MIT
 *
 * Names to addresses and back, by the C library's resolver, on service threads.
 * What a request found belongs to it until `then` has used it.
 */
#ifndef TDL_OS_NAMES_H
#define TDL_OS_NAMES_H

#include "os/work.h"

enum { TDL_HOST_MAX = 254, TDL_MOST_FOUND = 64 };

typedef struct tdl_names {
    tdl_work w;
    char host[TDL_HOST_MAX];
    int family, type;
    uint16_t port;
    tdl_addr of; /* back: whose name */
    int n;       /* found */
    tdl_addr *found;
    /* by the owner: what becomes of it; the op's result */
    int64_t (*then)(struct tdl_names *r, tdl_op *op);
    void *out;
    size_t room;
    void *more; /* of the starter's; released with it */
} tdl_names;

/* "name:port": 1 and its parts; 0 when it is no such thing. */
int tdl_split_name(const char *address, char host[TDL_HOST_MAX], uint16_t *port);
tdl_names *tdl_names_new(const char *host, int family, int type, int port);
int64_t tdl_names_op(tdl_op *op, tdl_names *r, int64_t deadline);

int64_t tdl_lookup_op(tdl_op *op, const char *network, const char *host, int port, tdl_addr *found, int max,
                      int64_t deadline);
int64_t tdl_lookup_name_op(tdl_op *op, const tdl_addr *a, char *buf, size_t size, int64_t deadline);

#endif
