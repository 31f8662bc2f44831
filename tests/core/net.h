/* SPDX-License-Identifier: MIT
 * What the network tests share: listeners on free addresses, connected pairs,
 * and a connected pair whose far end is a plain descriptor. */
#ifndef NET_H
#define NET_H

#include <treadle.h>

enum { ADDRESS_SIZE = 128 };

/* "tcp" and "unix", and "tcp6" where the machine has it; ends with NULL. */
extern const char *const *net_networks(void);

/* Listens on a free address of the network, and stores it as text. */
tdl_listener *net_listen(const char *network, char address[ADDRESS_SIZE]);

/* Two connections, each the other's peer; "pipe": in memory, with 64 KiB a
 * direction. TDL_TEST_PAIR in the environment is the network instead of the one
 * asked for. */
void net_pair(const char *network, tdl_conn **a, tdl_conn **b);

/* A connection whose peer is a blocking TCP socket of the test's own. */
int net_half_pair(tdl_conn **c);

/* An address from which no dial gets an answer: that of a listener whose backlog is full. */
typedef struct net_blackhole {
    int  listener, fill[4];
    char address[ADDRESS_SIZE];
} net_blackhole;
void net_blackhole_open(net_blackhole *h);
void net_blackhole_close(net_blackhole *h);

/* Closes a TCP socket so that its peer sees a reset. */
void net_reset(int fd);

/* Makes the buffers of a connection's socket small, so that writes have to wait. */
void net_small_buffers(int fd);

/* Reads exactly n bytes or fails the test. */
void net_read_full(tdl_conn *c, void *buf, size_t n);

/* Checks that a byte that is written to one comes out of the other. */
void net_carries(tdl_conn *from, tdl_conn *to);

#endif
