/* SPDX-License-Identifier: MIT
 * Parsing and formatting of addresses; numeric hosts and "localhost". */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "sys/sys.h"

enum { UNIX_HEAD = offsetof(struct sockaddr_un, sun_path), UNIX_PATH = sizeof(((struct sockaddr_un *)0)->sun_path) };

_Static_assert(sizeof(((tdl_addr *)0)->sockaddr) >= sizeof(struct sockaddr_in6) && sizeof(((tdl_addr *)0)->sockaddr) >= sizeof(struct sockaddr_un),
               "any address has room");

/* -- The bytes ------------------------------------------------------------------ */

static void put(tdl_addr *a, const void *sa, size_t n) {
    memset(a, 0, sizeof *a);
    a->length = (uint32_t)n;
    memcpy(a->sockaddr, sa, n);
}

int tdl_addr_family(const tdl_addr *a) {
    sa_family_t family;
    if (a->length < sizeof family) return AF_UNSPEC;
    memcpy(&family, (const char *)a->sockaddr + offsetof(struct sockaddr, sa_family), sizeof family);
    return family;
}

static struct sockaddr_in v4_of(const tdl_addr *a) {
    struct sockaddr_in in;
    memcpy(&in, a->sockaddr, sizeof in);
    return in;
}

static struct sockaddr_in6 v6_of(const tdl_addr *a) {
    struct sockaddr_in6 in6;
    memcpy(&in6, a->sockaddr, sizeof in6);
    return in6;
}

static void put_v4(tdl_addr *a, struct in_addr ip, uint16_t port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = ip};
    put(a, &in, sizeof in);
}

static void put_v6(tdl_addr *a, struct in6_addr ip, uint16_t port, uint32_t zone) {
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = ip, .sin6_scope_id = zone};
    put(a, &in6, sizeof in6);
}

/* -- Networks ---------------------------------------------------------------------- */

int tdl_network_parse(tdl_network *n, const char *name) {
    static const struct {
        const char *name;
        tdl_network is;
    } known[] = {
        {"tcp", {AF_UNSPEC, SOCK_STREAM, false}},  {"tcp4", {AF_INET, SOCK_STREAM, false}},
        {"tcp6", {AF_INET6, SOCK_STREAM, true}},   {"udp", {AF_UNSPEC, SOCK_DGRAM, false}},
        {"udp4", {AF_INET, SOCK_DGRAM, false}},    {"udp6", {AF_INET6, SOCK_DGRAM, true}},
        {"unix", {AF_UNIX, SOCK_STREAM, false}},   {"unixgram", {AF_UNIX, SOCK_DGRAM, false}},
        {"unixpacket", {AF_UNIX, SOCK_SEQPACKET, false}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *n = known[i].is;
            return 0;
        }
    }
    return TDL_ENETWORK;
}

/* -- Parsing ------------------------------------------------------------------ */

static int parse_unix(tdl_addr *a, const char *text) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(text);
    if (n == 0) return TDL_EADDRESS;
    if (n >= UNIX_PATH) return -ENAMETOOLONG;
    memcpy(un.sun_path, text, n);
    if (text[0] != '@') {
        n++; /* with its NUL */
    } else if (n == 1) {
        n = 0; /* a family alone: bind picks a name */
    } else {
        un.sun_path[0] = '\0';
    }
    put(a, &un, UNIX_HEAD + n);
    return 0;
}

/* A number up to max, of digits alone; -1 for another text. */
static int64_t number(const char *text, size_t n, int64_t max) {
    int64_t value = 0;
    if (n == 0) return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        value = value * 10 + (text[i] - '0');
        if (value > max) return -1;
    }
    return value;
}

typedef struct parts {
    char host[INET6_ADDRSTRLEN + 1];
    char zone[IF_NAMESIZE]; /* "": none */
    uint16_t port;
} parts;

static int copy_part(char *to, size_t size, const char *from, size_t n) {
    if (n >= size) return TDL_EADDRESS;
    memcpy(to, from, n);
    to[n] = '\0';
    return 0;
}

/* "host:port", "[host]:port", "[host%zone]:port"; the brackets go. */
static int split(const char *text, parts *p) {
    const char *colon = strrchr(text, ':');
    if (!colon) return text[0] == '[' || !*text ? TDL_EADDRESS : TDL_EPORT;
    const char *end = colon, *zone = NULL;
    p->zone[0] = '\0';
    if (text[0] == '[') {
        if (end - text < 2 || end[-1] != ']') return TDL_EADDRESS;
        text++;
        end--;
        zone = memchr(text, '%', (size_t)(end - text));
        if (zone && (zone + 1 == end || copy_part(p->zone, sizeof p->zone, zone + 1, (size_t)(end - zone - 1)) != 0))
            return TDL_EADDRESS;
        if (!memchr(text, ':', (size_t)(end - text))) return TDL_EADDRESS; /* brackets are for v6 */
    } else if (memchr(text, ':', (size_t)(end - text))) {
        return TDL_EADDRESS; /* a bare v6 address needs brackets */
    }
    int r = copy_part(p->host, sizeof p->host, text, (size_t)((zone ? zone : end) - text));
    if (r < 0) return r;
    int64_t port = number(colon + 1, strlen(colon + 1), 65535);
    if (port < 0) return TDL_EPORT;
    p->port = (uint16_t)port;
    return 0;
}

/* The interface's number; -ENODEV. */
static int64_t zone_number(const char *zone) {
    int64_t n = number(zone, strlen(zone), UINT32_MAX);
    return n >= 0 ? n : tdl_sys.if_index(zone);
}

static int parse_v6(tdl_addr *a, const parts *p) {
    struct in6_addr ip;
    if (inet_pton(AF_INET6, p->host, &ip) != 1) return TDL_EADDRESS;
    int64_t zone = p->zone[0] ? zone_number(p->zone) : 0;
    if (zone < 0) return (int)zone;
    put_v6(a, ip, p->port, (uint32_t)zone);
    return 0;
}

static int parse_ip(tdl_addr *a, const tdl_network *n, const char *text, bool passive) {
    parts p;
    struct in_addr v4;
    int r = split(text, &p);
    if (r < 0) return r;
    if (!p.host[0] && passive) {
        if (n->family == AF_INET)
            put_v4(a, (struct in_addr){htonl(INADDR_ANY)}, p.port);
        else
            put_v6(a, in6addr_any, p.port, 0); /* v4 too, unless v6only */
        return 0;
    }
    if (!p.host[0] || strcmp(p.host, "localhost") == 0) {
        if (n->family == AF_INET6)
            put_v6(a, in6addr_loopback, p.port, 0);
        else
            put_v4(a, (struct in_addr){htonl(INADDR_LOOPBACK)}, p.port);
        return 0;
    }
    if (strchr(p.host, ':')) return n->family == AF_INET ? TDL_EADDRESS : parse_v6(a, &p);
    if (n->family == AF_INET6 || inet_pton(AF_INET, p.host, &v4) != 1) return TDL_EADDRESS;
    put_v4(a, v4, p.port);
    return 0;
}

int tdl_addr_parse_on(tdl_addr *a, const tdl_network *n, const char *text, bool passive) {
    return n->family == AF_UNIX ? parse_unix(a, text) : parse_ip(a, n, text, passive);
}

int tdl_addr_parse_all(tdl_addr *a, int max, const tdl_network *n, const char *text) {
    int r = tdl_addr_parse_on(&a[0], n, text, false);
    if (r < 0) return r;
    if (max < 2 || n->family != AF_UNSPEC || strncmp(text, "localhost:", 10) != 0) return 1;
    put_v6(&a[1], in6addr_loopback, (uint16_t)tdl_addr_port(&a[0]), 0);
    return 2;
}

int tdl_addr_parse(tdl_addr *a, const char *network, const char *text, int listen) {
    tdl_network n;
    if (!a) return TDL_EINVAL;
    memset(a, 0, sizeof *a);
    if (!network || !text) return TDL_EINVAL;
    int r = tdl_network_parse(&n, network);
    return r < 0 ? r : tdl_addr_parse_on(a, &n, text, listen != 0);
}

/* -- Formatting ---------------------------------------------------------------- */

static int format_unix(const tdl_addr *a, char *buf, size_t size) {
    struct sockaddr_un un;
    size_t n = a->length > UNIX_HEAD ? a->length - UNIX_HEAD : 0;
    if (n > UNIX_PATH) n = UNIX_PATH;
    if (n == 0) return snprintf(buf, size, "@"); /* an unnamed end */
    memcpy(&un, a->sockaddr, UNIX_HEAD + n);
    if (un.sun_path[0] != '\0') return snprintf(buf, size, "%.*s", (int)n, un.sun_path);
    for (size_t i = 0; i < n; i++)
        if (un.sun_path[i] == '\0') un.sun_path[i] = '@';
    return snprintf(buf, size, "%.*s", (int)n, un.sun_path);
}

/* "127.0.0.1", "::1", "fe80::1%eth0"; "" for what is no internet address. A v4
 * address on a v6 socket is written as what it is. */
static void host_text(const tdl_addr *a, char *buf, size_t size) {
    char ip[INET6_ADDRSTRLEN] = "";
    buf[0] = '\0';
    if (tdl_addr_family(a) == AF_INET) {
        struct sockaddr_in in = v4_of(a);
        inet_ntop(AF_INET, &in.sin_addr, buf, (socklen_t)size);
    } else if (tdl_addr_family(a) == AF_INET6) {
        struct sockaddr_in6 in6 = v6_of(a);
        char zone[IF_NAMESIZE];
        if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            inet_ntop(AF_INET, &in6.sin6_addr.s6_addr[12], buf, (socklen_t)size);
            return;
        }
        inet_ntop(AF_INET6, &in6.sin6_addr, ip, sizeof ip);
        if (!in6.sin6_scope_id)
            snprintf(buf, size, "%s", ip);
        else if ((tdl_sys.if_name)(in6.sin6_scope_id, zone) == 0)
            snprintf(buf, size, "%s%%%s", ip, zone);
        else
            snprintf(buf, size, "%s%%%u", ip, in6.sin6_scope_id);
    }
}

int tdl_addr_format(const tdl_addr *a, char *buf, size_t size) {
    char host[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
    if (!a || (!buf && size)) return TDL_EINVAL;
    switch (tdl_addr_family(a)) {
    case AF_UNIX: return format_unix(a, buf, size);
    case AF_INET:
    case AF_INET6:
        host_text(a, host, sizeof host);
        return snprintf(buf, size, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, tdl_addr_port(a));
    default: return snprintf(buf, size, "%s", "");
    }
}

int tdl_addr_host(const tdl_addr *a, char *buf, size_t size) {
    char host[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
    if (!a || (!buf && size)) return TDL_EINVAL;
    if (tdl_addr_family(a) == AF_UNIX) return format_unix(a, buf, size);
    host_text(a, host, sizeof host);
    return snprintf(buf, size, "%s", host);
}

/* -- Parts ----------------------------------------------------------------------- */

int tdl_addr_port(const tdl_addr *a) {
    if (!a) return TDL_EINVAL;
    if (tdl_addr_family(a) == AF_INET) return ntohs(v4_of(a).sin_port);
    if (tdl_addr_family(a) == AF_INET6) return ntohs(v6_of(a).sin6_port);
    return 0;
}

int tdl_addr_set_port(tdl_addr *a, int port) {
    if (!a) return TDL_EINVAL;
    if (port < 0 || port > 65535) return TDL_EPORT;
    if (tdl_addr_family(a) == AF_INET) {
        struct sockaddr_in in = v4_of(a);
        put_v4(a, in.sin_addr, (uint16_t)port);
    } else if (tdl_addr_family(a) == AF_INET6) {
        struct sockaddr_in6 in6 = v6_of(a);
        put_v6(a, in6.sin6_addr, (uint16_t)port, in6.sin6_scope_id);
    } else {
        return TDL_EADDRESS;
    }
    return 0;
}

void tdl_addr_map_v4(tdl_addr *a) {
    if (tdl_addr_family(a) != AF_INET) return;
    struct sockaddr_in in = v4_of(a);
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&ip.s6_addr[12], &in.sin_addr, 4);
    put_v6(a, ip, ntohs(in.sin_port), 0);
}

/* The same place, however it is written: a mapped v4 address is that v4 address. */
int tdl_addr_equal(const tdl_addr *a, const tdl_addr *b) {
    if (!a || !b) return TDL_EINVAL;
    tdl_addr x = *a, y = *b;
    if (tdl_addr_family(&x) != tdl_addr_family(&y)) {
        tdl_addr_map_v4(&x);
        tdl_addr_map_v4(&y);
    }
    if (tdl_addr_family(&x) != tdl_addr_family(&y)) return 0;
    if (tdl_addr_family(&x) == AF_INET) {
        struct sockaddr_in p = v4_of(&x), q = v4_of(&y);
        return p.sin_port == q.sin_port && p.sin_addr.s_addr == q.sin_addr.s_addr;
    }
    if (tdl_addr_family(&x) == AF_INET6) {
        struct sockaddr_in6 p = v6_of(&x), q = v6_of(&y);
        return p.sin6_port == q.sin6_port && p.sin6_scope_id == q.sin6_scope_id &&
               memcmp(&p.sin6_addr, &q.sin6_addr, sizeof p.sin6_addr) == 0;
    }
    return x.length == y.length && memcmp(x.sockaddr, y.sockaddr, x.length) == 0;
}

int tdl_addr_set_sockaddr(tdl_addr *a, const void *sockaddr, size_t n) {
    tdl_addr given = {0};
    if (!a || !sockaddr || n < sizeof(sa_family_t) || n > sizeof a->sockaddr) return TDL_EINVAL;
    put(&given, sockaddr, n);
    int family = tdl_addr_family(&given);
    if ((family == AF_INET && n < sizeof(struct sockaddr_in)) ||
        (family == AF_INET6 && n < sizeof(struct sockaddr_in6)))
        return TDL_EINVAL;
    *a = given;
    return 0;
}

const void *tdl_addr_sockaddr(const tdl_addr *a, size_t *n) {
    if (n) *n = a ? a->length : 0;
    return a && a->length ? a->sockaddr : NULL;
}

void tdl_addr_path(const tdl_addr *a, char *buf, size_t size) {
    if (size) buf[0] = '\0';
    if (tdl_addr_family(a) != AF_UNIX || a->length <= UNIX_HEAD) return;
    if (((const char *)a->sockaddr)[UNIX_HEAD] == '\0') return;
    format_unix(a, buf, size);
}
