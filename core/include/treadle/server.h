/* SPDX-License-Identifier: MIT
 *
 * A server accepts connections and parks them: with no goroutine, no stack and no
 * buffer, in less than 300 bytes each. When the first byte of a request
 * arrives, the connection is served: by a goroutine that calls the handler, or by
 * whoever asks for the next one (tdl_server_next). When the request is done it is
 * parked again, and closed when it has been so for too long. Where the process has
 * no more descriptors, the server waits, and accepts when there are some again.
 */
#ifndef TREADLE_SERVER_H
#define TREADLE_SERVER_H

#include "conn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_server tdl_server;

/* Serves what has arrived (seldom, nothing yet, when another has read it as its event
 * came: then its read waits); the connection is parked when it returns, or served
 * again at once if there is more. It may close the connection
 * (tdl_conn_close), but not free it; no operation on it may be under way when it returns,
 * which it must (no tdl_goexit): a shutdown waits for that. */
typedef void (*tdl_handler)(tdl_conn *c, void *arg);

typedef struct tdl_server_options {
    uint32_t    size;         /* sizeof(tdl_server_options) */
    uint32_t    max_conns;    /* connections at a time; more wait in the backlog; 0: any number */
    int64_t     idle_timeout; /* ns that one may be parked; 0: for ever */
    tdl_handler handler;      /* NULL: tdl_server_next is used */
    void       *arg;
} tdl_server_options;

/* Serves n listeners (1…1024; see tdl_listen_shards), which are the server's from
 * then on and must not be used otherwise. Each accepts on its own poller, and its connections belong to that.
 * 0; TDL_EINVAL; TDL_EBUSY: one is served already; TDL_ECLOSED. With an error they stay the
 * caller's. Any caller. */
TDL_API int tdl_server_new(tdl_listener *const *l, int n, const tdl_server_options *o, tdl_server **s);
/* Waits for a connection on which something has arrived (or the end: then its
 * read says so). It is the caller's until he parks it, or frees it. Blocking. 0; TDL_ECLOSED: shut down,
 * and none is left; TDL_ETIMEDOUT, TDL_EAGAIN, TDL_ECANCELED; TDL_EINVAL: there is a handler. */
TDL_API int tdl_server_next(tdl_server *s, int64_t deadline, tdl_conn **c);
/* Gives a connection of tdl_server_next back: as tdl_conn_free, but it is parked if
 * it can be. 0; TDL_EINVAL: not one of such a server. Any caller. */
TDL_API int tdl_server_park(tdl_conn *c);
/* Closes the listeners and the parked connections, and waits until the others are
 * closed, or parked, and all handlers have returned. At the deadline it cancels the handlers' goroutines (as
 * tdl_cancel: what waits returns TDL_ECANCELED, whatever it waits for) and closes their connections. Blocking. 0; TDL_ETIMEDOUT:
 * that was done, and another call waits until the handlers have returned; TDL_ECANCELED: it goes on. Any number of callers. */
TDL_API int tdl_server_shutdown(tdl_server *s, int64_t deadline);
/* The same at once: everything is closed, the handlers are cancelled (a calling one is not), nothing is waited for. 0. Any caller. */
TDL_API int tdl_server_close(tdl_server *s);
/* Closes it and gives the handle back, and the listeners'. NULL is ignored. Any caller. */
TDL_API void tdl_server_free(tdl_server *s);
enum {
    TDL_SERVER_CONNS    = 0, /* connections there are */
    TDL_SERVER_BUSY     = 1, /* of these: those that are being served, or wait for it */
    TDL_SERVER_ACCEPTED = 2, /* ever */
    TDL_SERVER_TIMEOUTS = 3, /* closed because they were idle */
    TDL_SERVER_STARVED  = 4  /* how often there was no descriptor or memory for one */
};
/* One of these numbers; TDL_EINVAL. Any caller. */
TDL_API int64_t tdl_server_stat(tdl_server *s, int what);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_SERVER_H */
