/* SPDX-License-Identifier: MIT
 * Looking up names. The call is getaddrinfo(3) itself: libuv's needs a loop, and
 * adds nothing here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/names.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "net/address.h"
#include "sys/service.h"

/* -- What is a name ---------------------------------------------------------------- */

static bool in_name(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c >= 0x80;
}

/* May it be a host's name? Numbers with dots are none: the C library would take "127.1" for one in
 * its own way; we don't. */
static bool is_name(const char *host, size_t n) {
    size_t label = 0;
    bool digits = true;
    if (n == 0 || n >= TDL_HOST_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)host[i];
        if (c == '.') {
            if (label == 0) return false;
            label = 0;
            if (i + 1 < n) digits = true;
        } else {
            if (!in_name(c) || ++label > 63) return false;
            if (c < '0' || c > '9') digits = false;
        }
    }
    return !digits;
}

int tdl_split_name(const char *address, char host[TDL_HOST_MAX], uint16_t *port) {
    const char *colon = strrchr(address, ':');
    int value = 0;
    if (!colon || !colon[1] || !is_name(address, (size_t)(colon - address))) return 0;
    for (const char *c = colon + 1; *c; c++) {
        if (*c < '0' || *c > '9') return 0;
        if ((value = value * 10 + (*c - '0')) > 65535) return 0;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    *port = (uint16_t)value;
    return 1;
}

/* What an injected error is as one of getaddrinfo's. */
static int eai_of(int no) {
    switch (no) {
    case 0: return 0;
    case -EAGAIN: return EAI_AGAIN;
    case -ENOENT: return EAI_NONAME;
    case -ENOMEM: return EAI_MEMORY;
    default: errno = -no; return EAI_SYSTEM;
    }
}

/* -- By a service thread -------------------------------------------------------------- */

static int code_of(int eai) {
    switch (eai) {
    case EAI_AGAIN:
    case EAI_FAIL: return TDL_ENAMESERVER;
    case EAI_MEMORY: return TDL_ENOMEM;
    case EAI_SYSTEM: return errno ? -errno : TDL_ENAMESERVER;
    default: return TDL_ENONAME;
    }
}

static int keep(tdl_names *r, const struct addrinfo *list) {
    int n = 0;
    for (const struct addrinfo *i = list; i && n < TDL_MOST_FOUND; i = i->ai_next) n++;
    if (!(r->found = tdl_sys.alloc((size_t)n * sizeof *r->found + 1))) return TDL_ENOMEM;
    for (; list && r->n < n; list = list->ai_next)
        if (tdl_addr_set_sockaddr(&r->found[r->n], list->ai_addr, list->ai_addrlen) == 0) r->n++;
    return r->n ? r->n : TDL_ENONAME;
}

static void run_forth(tdl_work *w) {
    tdl_names *r = TDL_CONTAINER(w, tdl_names, w);
    struct addrinfo hints = {.ai_family = r->family, .ai_socktype = r->type}, *list = NULL;
    char port[8];
#ifdef AI_IDN /* elsewhere the resolver takes them as they are, or does not */
    for (const char *c = r->host; *c; c++)
        if ((unsigned char)*c >= 0x80) hints.ai_flags = AI_IDN;
#endif
    snprintf(port, sizeof port, "%u", r->port);
    errno = 0;
    int e = eai_of(tdl_service(SERVICE_FORTH, NULL));
    if (!e) e = getaddrinfo(r->host, port, &hints, &list);
    w->result = e ? code_of(e) : keep(r, list);
    if (!e) freeaddrinfo(list);
}

static void run_back(tdl_work *w) {
    tdl_names *r = TDL_CONTAINER(w, tdl_names, w);
    char name[NI_MAXHOST];
    errno = 0;
    int e = eai_of(tdl_service(SERVICE_BACK, NULL));
    if (!e) e = getnameinfo(tdl_addr_const_sa(&r->of), r->of.length, name, sizeof name, NULL, 0, NI_NAMEREQD);
    w->result = e ? code_of(e) : 0;
    if (e) return;
    size_t n = strlen(name) < sizeof r->host ? strlen(name) : sizeof r->host - 1;
    memcpy(r->host, name, n);
    r->host[n] = '\0';
    w->result = (int64_t)n;
}

/* -- The op ------------------------------------------------------------------------------ */

static int64_t deliver(tdl_work *w, tdl_op *op) {
    tdl_names *r = TDL_CONTAINER(w, tdl_names, w);
    return w->result < 0 ? w->result : r->then(r, op);
}

static void drop(tdl_work *w) {
    tdl_names *r = TDL_CONTAINER(w, tdl_names, w);
    tdl_sys.release(r->found);
    tdl_sys.release(r->more);
    tdl_sys.release(r);
}

tdl_names *tdl_names_new(const char *host, int family, int type, int port) {
    tdl_names *r = tdl_alloc_zeroed(sizeof *r);
    if (!r) return NULL;
    strncpy(r->host, host, sizeof r->host - 1);
    r->family = family;
    r->type = type;
    r->port = (uint16_t)port;
    r->w.kind = WORK_NAMES;
    r->w.run = run_forth;
    r->w.deliver = deliver;
    r->w.drop = drop;
    return r;
}

static const tdl_op_class lookup_class = {"lookup", tdl_work_finish, tdl_work_abandon};

int64_t tdl_names_op(tdl_op *op, tdl_names *r, int64_t deadline) {
    return tdl_work_op(op, &r->w, deadline, &lookup_class);
}

static int64_t hand_out(tdl_names *r, tdl_op *op) {
    (void)op;
    int n = r->n < (int)r->room ? r->n : (int)r->room;
    memcpy(r->out, r->found, (size_t)n * sizeof *r->found);
    return n;
}

int64_t tdl_lookup_op(tdl_op *op, const char *network, const char *host, int port, tdl_addr *found, int max,
                      int64_t deadline) {
    tdl_network net;
    char text[TDL_HOST_MAX + 16];
    if (!host || !found || max < 1) return TDL_EINVAL;
    if (port < 0 || port > 65535) return TDL_EPORT;
    int r = tdl_network_parse(&net, network ? network : "tcp");
    if (r < 0) return r;
    if (net.family == AF_UNIX) return TDL_ENETWORK;
    size_t n = strlen(host);
    if (n == 0 || n >= TDL_HOST_MAX) return TDL_EADDRESS;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    r = tdl_addr_parse_all(found, max, &net, text);
    if (r != TDL_EADDRESS || !is_name(host, n)) return r;
    tdl_names *names = tdl_names_new(host, net.family, net.type, port);
    if (!names) return TDL_ENOMEM;
    names->out = found;
    names->room = (size_t)max;
    names->then = hand_out;
    return tdl_names_op(op, names, deadline);
}

static int64_t hand_name(tdl_names *r, tdl_op *op) {
    (void)op;
    size_t n = (size_t)r->w.result, k = n < r->room ? n : r->room ? r->room - 1 : 0;
    if (r->room) {
        memcpy(r->out, r->host, k);
        ((char *)r->out)[k] = '\0';
    }
    return (int64_t)n;
}

int64_t tdl_lookup_name_op(tdl_op *op, const tdl_addr *a, char *buf, size_t size, int64_t deadline) {
    if (!a || (!buf && size)) return TDL_EINVAL;
    int family = tdl_addr_family(a);
    if (family != AF_INET && family != AF_INET6) return TDL_EADDRESS;
    tdl_names *names = tdl_names_new("", family, 0, 0);
    if (!names) return TDL_ENOMEM;
    names->of = *a;
    names->w.run = run_back;
    names->out = buf;
    names->room = size;
    names->then = hand_name;
    return tdl_names_op(op, names, deadline);
}

int tdl_lookup(const char *network, const char *host, int port, tdl_addr *found, int max, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_lookup_op(op, network, host, port, found, max, deadline));
}

int tdl_lookup_name(const tdl_addr *a, char *buf, size_t size, int64_t deadline) {
    TDL_BLOCKING_FORM(tdl_lookup_name_op(op, a, buf, size, deadline));
}
