/* SPDX-License-Identifier: MIT
 * What the three example servers share: listen, one goroutine per connection,
 * a clean end on SIGTERM or SIGINT. */
#ifndef EXAMPLE_SERVER_H
#define EXAMPLE_SERVER_H

#include <treadle.h>

/* Listens on address, prints "listening on 127.0.0.1:PORT", and starts
 * serve(conn) as a goroutine for each connection; serve frees the connection.
 * SIGQUIT writes all goroutines to stderr. Returns the process's exit status
 * after SIGTERM or SIGINT. */
int server_run(const char *address, void (*serve)(void *conn));

#endif
