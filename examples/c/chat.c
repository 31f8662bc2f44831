/* SPDX-License-Identifier: MIT
 * A chat room: for each client a reader goroutine, a writer goroutine and a
 * channel between the room and the writer.  Try it with `nc 127.0.0.1 7000`.
 * Usage: chat [host:port [idle_seconds]]     default 127.0.0.1:7000 300 */
#include "server.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LINE = 1024,
    MAX_NICK = 32,
    MAX_TEXT = MAX_NICK + MAX_LINE + 16, /* the longest message */
    OUTBOX   = 256                       /* messages that a client may lag behind */
};

typedef struct client {
    struct client *prev, *next; /* in the room's list */
    tdl_conn *conn;
    tdl_chan *outbox;           /* closed by the reader, and only by it */
    char nick[MAX_NICK + 1];
} client;

static tdl_mutex *room; /* guards the list */
static client members = { .prev = &members, .next = &members };
static int64_t idle = 300 * TDL_SECOND;

/* -- The room ------------------------------------------------------------ */

/* Hands text to everybody but `from`, and waits for nobody: who has not taken
 * OUTBOX messages is cut off, which ends its reader. */
static void tell_others(const client *from, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell_others(const client *from, const char *format, ...)
{
    char text[MAX_TEXT];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);

    tdl_val v;
    if (tdl_val_set_bytes(&v, text, (size_t)n) < 0)
        return;
    for (client *c = members.next; c != &members; c = c->next)
        if (c != from && tdl_chan_try_send(c->outbox, &v) == TDL_EAGAIN)
            tdl_conn_close(c->conn);
    tdl_val_clear(&v);
}

static void join(client *c)
{
    tdl_mutex_lock(room);
    tell_others(c, "* %s joined\n", c->nick);
    c->prev = members.prev;
    c->next = &members;
    c->prev->next = c->next->prev = c;
    tdl_mutex_unlock(room);
}

static void say(client *c, const char *line, int n)
{
    tdl_mutex_lock(room);
    tell_others(c, "%s: %.*s\n", c->nick, n, line);
    tdl_mutex_unlock(room);
}

static void leave(client *c)
{
    tdl_mutex_lock(room);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    tell_others(c, "* %s left\n", c->nick);
    tdl_mutex_unlock(room);
}

/* -- Writing ------------------------------------------------------------- */

/* Sends what comes through the outbox, several messages at once when they are
 * there, until the outbox is closed and empty. */
static void writer(void *arg)
{
    client *c = arg;
    char batch[4096];
    tdl_val v;
    while (tdl_chan_recv(c->outbox, &v) == 0) {
        size_t n = 0, len;
        do {
            const void *text = tdl_val_bytes(&v, &len);
            memcpy(batch + n, text, len);
            n += len;
            tdl_val_clear(&v);
        } while (n + MAX_TEXT <= sizeof batch && tdl_chan_try_recv(c->outbox, &v) == 0);
        if (tdl_conn_write(c->conn, batch, n) < 0) {
            tdl_conn_close(c->conn); /* wakes the reader */
            return;
        }
    }
}

static void tell(client *c, const char *text)
{
    tdl_val v;
    if (tdl_val_set_bytes(&v, text, strlen(text)) == 0) {
        tdl_chan_try_send(c->outbox, &v);
        tdl_val_clear(&v);
    }
}

/* -- Reading ------------------------------------------------------------- */

/* The next line, without its end, copied to line: its length, or an error. */
static int read_line(tdl_conn *c, char line[MAX_LINE + 1])
{
    tdl_conn_set_read_deadline(c, tdl_now() + idle);
    int64_t n = tdl_conn_fill(c, TDL_FILL_LINE, MAX_LINE);
    if (n < 0) {
        tdl_conn_skip(c, 0);
        return (int)n;
    }
    memcpy(line, tdl_conn_peek(c, NULL), (size_t)n);
    tdl_conn_skip(c, (size_t)n);
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        n--;
    line[n] = '\0';
    return (int)n;
}

/* Asks until there is a name. 0, or why there is none. */
static int ask_name(client *c, char line[MAX_LINE + 1])
{
    int n;
    do {
        if (tdl_conn_write(c->conn, "name?\n", 6) < 0)
            return TDL_ECLOSED;
        if ((n = read_line(c->conn, line)) < 0)
            return n;
    } while (n < 1 || n > MAX_NICK || (int)strlen(line) != n);
    memcpy(c->nick, line, (size_t)n + 1);
    return 0;
}

/* Passes lines on until the client leaves; why it did. */
static int converse(client *c, char line[MAX_LINE + 1])
{
    int n;
    while ((n = read_line(c->conn, line)) >= 0) {
        if (strcmp(line, "/quit") == 0)
            return 0;
        say(c, line, n);
    }
    return n;
}

static void serve(void *arg)
{
    static const tdl_go_options joinable = {
        .size = sizeof joinable, .flags = TDL_GO_JOINABLE, .name = "writer"
    };
    client c = { .conn = arg, .outbox = tdl_chan_new(OUTBOX) };
    char line[MAX_LINE + 1];
    tdl_g *w = c.outbox ? tdl_go_opts(writer, &c, &joinable) : NULL;
    int why = w ? ask_name(&c, line) : TDL_ENOMEM;
    if (why == 0) {
        join(&c);
        why = converse(&c, line);
        leave(&c);
    }
    if (w != NULL) {
        if (why == TDL_ETIMEDOUT)
            tell(&c, "* idle, bye\n");
        else if (why == TDL_ETOOLONG)
            tell(&c, "* line too long, bye\n");
        tdl_conn_set_write_deadline(c.conn, tdl_now() + 5 * TDL_SECOND);
        tdl_chan_close(c.outbox); /* the writer sends what is left, and ends */
        tdl_join(w);
    }
    tdl_chan_free(c.outbox);
    tdl_conn_free(c.conn);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        double seconds = atof(argv[2]);
        if (!(seconds > 0 && seconds < 1e9)) {
            fprintf(stderr, "usage: chat [host:port [idle_seconds]]\n");
            return 2;
        }
        idle = (int64_t)(seconds * TDL_SECOND);
    }
    room = tdl_mutex_new();
    if (room == NULL)
        return 1;
    return server_run(argc > 1 ? argv[1] : "127.0.0.1:7000", serve);
}
