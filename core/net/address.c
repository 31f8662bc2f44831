/* SPDX-License-Identifier: MIT
 * Parsing and formatting of addresses; numeric hosts and "localhost". */
#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "treadle.h"

/* -- Parsing ------------------------------------------------------------------ */

static int parse_unix(tdl_address *a, const char *text) {
    struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;
    size_t n = strlen(text);
    if (n == 0 || n >= sizeof un->sun_path) return TDL_EADDRESS;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, text, n + 1);
    a->n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    if (text[0] == '@') { /* abstract: a leading 0, and no final one */
        un->sun_path[0] = '\0';
        a->n--;
    }
    return 0;
}

static int parse_port(const char *text, uint16_t *port) {
    unsigned value = 0;
    if (!*text) return TDL_EADDRESS;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return TDL_EADDRESS;
        value = value * 10 + (unsigned)(*text - '0');
        if (value > 65535) return TDL_EADDRESS;
    }
    *port = (uint16_t)value;
    return 0;
}

/* Splits "host:port" and "[host]:port"; the brackets go. */
static int split(const char *text, char *host, size_t size, uint16_t *port) {
    const char *colon = strrchr(text, ':');
    if (!colon) return TDL_EADDRESS;
    const char *end = colon;
    if (text[0] == '[') {
        if (end[-1] != ']') return TDL_EADDRESS;
        text++;
        end--;
    } else if (memchr(text, ':', (size_t)(end - text))) {
        return TDL_EADDRESS; /* a bare v6 address needs brackets */
    }
    size_t n = (size_t)(end - text);
    if (n >= size) return TDL_EADDRESS;
    memcpy(host, text, n);
    host[n] = '\0';
    return parse_port(colon + 1, port);
}

static void set_v4(tdl_address *a, struct in_addr ip, uint16_t port) {
    struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr = ip;
    a->n = sizeof *in;
}

static void set_v6(tdl_address *a, struct in6_addr ip, uint16_t port) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->sa;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    in6->sin6_addr = ip;
    a->n = sizeof *in6;
}

static int parse_tcp(tdl_address *a, int want, const char *text, int passive) {
    char host[INET6_ADDRSTRLEN + 1];
    uint16_t port;
    struct in_addr v4;
    struct in6_addr v6;
    if (split(text, host, sizeof host, &port) != 0) return TDL_EADDRESS;
    if (!host[0] && passive) {
        if (want == AF_INET)
            set_v4(a, (struct in_addr){htonl(INADDR_ANY)}, port);
        else
            set_v6(a, in6addr_any, port); /* v4 too, unless tcp6 was asked for */
        return 0;
    }
    if (!host[0] || strcmp(host, "localhost") == 0) {
        if (want == AF_INET6)
            set_v6(a, in6addr_loopback, port);
        else
            set_v4(a, (struct in_addr){htonl(INADDR_LOOPBACK)}, port);
        return 0;
    }
    if (want != AF_INET6 && inet_pton(AF_INET, host, &v4) == 1) {
        set_v4(a, v4, port);
        return 0;
    }
    if (want != AF_INET && inet_pton(AF_INET6, host, &v6) == 1) {
        set_v6(a, v6, port);
        return 0;
    }
    return TDL_EADDRESS;
}

int tdl_address_parse(tdl_address *a, const char *network, const char *text, int passive) {
    memset(a, 0, sizeof *a);
    if (strcmp(network, "unix") == 0) return parse_unix(a, text);
    if (strcmp(network, "tcp") == 0) return parse_tcp(a, AF_UNSPEC, text, passive);
    if (strcmp(network, "tcp4") == 0) return parse_tcp(a, AF_INET, text, passive);
    if (strcmp(network, "tcp6") == 0) return parse_tcp(a, AF_INET6, text, passive);
    return TDL_EADDRESS;
}

/* -- Formatting ---------------------------------------------------------------- */

int tdl_address_port(const tdl_address *a) {
    if (a->sa.ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)&a->sa)->sin_port);
    if (a->sa.ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)&a->sa)->sin6_port);
    return 0;
}

static int format_unix(const tdl_address *a, char *buf, size_t size) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->sa;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (a->n <= head) return snprintf(buf, size, "@"); /* an unnamed end */
    int n = (int)(a->n - head);
    if (un->sun_path[0] == '\0') return snprintf(buf, size, "@%.*s", n - 1, un->sun_path + 1);
    return snprintf(buf, size, "%.*s", n, un->sun_path);
}

int tdl_address_format(const tdl_address *a, char *buf, size_t size) {
    char host[INET6_ADDRSTRLEN] = "";
    const void *sa = &a->sa;
    switch (a->sa.ss_family) {
    case AF_INET:
        inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, host, sizeof host);
        return snprintf(buf, size, "%s:%d", host, tdl_address_port(a));
    case AF_INET6:
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, host, sizeof host);
        return snprintf(buf, size, "[%s]:%d", host, tdl_address_port(a));
    default: return format_unix(a, buf, size);
    }
}
