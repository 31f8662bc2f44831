/* SPDX-License-Identifier: MIT
 * A small HTTP/1.1 server: keep-alive, pipelining, limits, an idle deadline.
 * Usage: http_server [host:port]     default 127.0.0.1:8080 */
#include "server.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { MAX_LINE = 8192, MAX_HEADERS = 100, MAX_BODY = 1 << 20 };

#define IDLE (30 * TDL_SECOND)

typedef struct request {
    int    status;     /* what to answer: 200, or what is wrong */
    bool   broken;     /* where the next request would begin is not known any more */
    bool   http_1_0;
    bool   keep_alive;
    bool   has_length;
    size_t body;       /* Content-Length */
} request;

/* -- Answers ------------------------------------------------------------- */

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    default:  return "HTTP Version Not Supported"; /* 505 */
    }
}

static bool answer(tdl_conn *c, const request *r)
{
    static const char hello[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n";
    if (r->status == 200 && r->keep_alive && !r->http_1_0)
        return tdl_conn_write(c, hello, sizeof hello - 1) > 0;

    char body[64], head[256];
    int  length = r->status == 200 ? snprintf(body, sizeof body, "Hello, World!\n")
                                   : snprintf(body, sizeof body, "%d %s\n", r->status, reason(r->status));
    int  n = snprintf(head, sizeof head,
                      "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s%s\r\n%s",
                      r->status, reason(r->status), length, r->status == 405 ? "Allow: GET\r\n" : "",
                      !r->keep_alive ? "Connection: close\r\n" : r->http_1_0 ? "Connection: keep-alive\r\n" : "",
                      body);
    return tdl_conn_write(c, head, (size_t)n) > 0;
}

/* -- Requests ------------------------------------------------------------ */

/* The connection ends after the answer. */
static void reject(request *r, int status)
{
    r->status = status;
    r->keep_alive = false;
    r->broken = true;
}

static bool is(const char *text, size_t n, const char *what)
{
    return n == strlen(what) && memcmp(text, what, n) == 0;
}

static bool is_token(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"(),/:;<=>?@[\\]{}", text[i]) != NULL)
            return false;
    return n > 0;
}

/* "GET / HTTP/1.1" */
static void parse_request_line(request *r, const char *line, size_t n)
{
    const char *end = line + n;
    const char *target = memchr(line, ' ', n);
    const char *version = target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;
    if (version == NULL || !is_token(line, (size_t)(target - line)) || version == target + 1) {
        reject(r, 400);
        return;
    }
    size_t method_len = (size_t)(target++ - line), target_len = (size_t)(version++ - target);
    size_t version_len = (size_t)(end - version);
    if (is(version, version_len, "HTTP/1.0")) {
        r->http_1_0 = true;
        r->keep_alive = false; /* unless it asks for it */
    } else if (!is(version, version_len, "HTTP/1.1")) {
        reject(r, version_len == 8 && memcmp(version, "HTTP/", 5) == 0 ? 505 : 400);
        return;
    }
    if (!is(line, method_len, "GET"))
        r->status = 405;
    else if (!is(target, target_len, "/"))
        r->status = 404;
}

static void parse_connection(request *r, const char *value, size_t n)
{
    while (n > 0) {
        const char *comma = memchr(value, ',', n);
        size_t len = comma ? (size_t)(comma - value) : n, used = comma ? len + 1 : n;
        const char *word = value;
        while (len > 0 && (*word == ' ' || *word == '\t')) word++, len--;
        while (len > 0 && (word[len - 1] == ' ' || word[len - 1] == '\t')) len--;
        if (len == 5 && strncasecmp(word, "close", 5) == 0)
            r->keep_alive = false;
        else if (len == 10 && strncasecmp(word, "keep-alive", 10) == 0 && r->http_1_0)
            r->keep_alive = true;
        value += used;
        n -= used;
    }
}

static void parse_length(request *r, const char *value, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9') {
            reject(r, 400);
            return;
        }
        if (length <= MAX_BODY)
            length = length * 10 + (size_t)(value[i] - '0');
    }
    if (n == 0 || (r->has_length && r->body != length))
        reject(r, 400);
    else if (length > MAX_BODY)
        reject(r, 413);
    r->has_length = true;
    r->body = length;
}

static void parse_header(request *r, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    if (colon == NULL || !is_token(line, (size_t)(colon - line))) {
        reject(r, 400);
        return;
    }
    size_t name_len = (size_t)(colon - line);
    const char *value = colon + 1, *end = line + n;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;

    if (name_len == 10 && strncasecmp(line, "connection", 10) == 0)
        parse_connection(r, value, (size_t)(end - value));
    else if (name_len == 14 && strncasecmp(line, "content-length", 14) == 0)
        parse_length(r, value, (size_t)(end - value));
    else if (name_len == 17 && strncasecmp(line, "transfer-encoding", 17) == 0)
        reject(r, 501);
}

/* Waits for the next line and gives its length without its end; it lies at
 * tdl_conn_peek until tdl_conn_skip(c, *whole). */
static int64_t next_line(tdl_conn *c, int64_t *whole)
{
    int64_t n = tdl_conn_fill(c, TDL_FILL_LINE, MAX_LINE);
    if (n < 0)
        return n;
    const char *line = tdl_conn_peek(c, NULL);
    if (line[n - 1] != '\n')
        return TDL_EEOF; /* cut off in the middle */
    *whole = n--;
    return n > 0 && line[n - 1] == '\r' ? n - 1 : n;
}

/* Nobody here wants a body: it is passed over. */
static int skip_body(tdl_conn *c, size_t left)
{
    while (left > 0) {
        int64_t n = tdl_conn_fill(c, TDL_FILL_SOME, left);
        if (n <= 0)
            return n == 0 ? TDL_EEOF : (int)n;
        tdl_conn_skip(c, (size_t)n);
        left -= (size_t)n;
    }
    return 0;
}

/* 0: there is an answer to give; < 0: the connection has ended or failed. */
static int read_request(tdl_conn *c, request *r)
{
    bool started = false;
    *r = (request){ .status = 200, .keep_alive = true };
    for (int lines = 0; lines <= MAX_HEADERS; lines++) {
        int64_t whole, n = next_line(c, &whole);
        if (n == TDL_ETOOLONG)
            break;
        if (n < 0)
            return (int)n;
        const char *line = tdl_conn_peek(c, NULL);
        if (started && n > 0)
            parse_header(r, line, (size_t)n);
        else if (n > 0) /* empty lines before a request are passed over */
            parse_request_line(r, line, (size_t)n);
        tdl_conn_skip(c, (size_t)whole);
        if (r->broken)
            return 0;
        if (started && n == 0)
            return skip_body(c, r->body);
        started = started || n > 0;
    }
    tdl_conn_skip(c, 0); /* gives up the read side, which a line too long had left with us */
    reject(r, 431);
    return 0;
}

/* -- Connections --------------------------------------------------------- */

/* Ends the stream, and reads on for a moment: closing with unread bytes would
 * reset the connection and take the answer away from the client. */
static void linger(tdl_conn *c)
{
    char dropped[1024];
    tdl_conn_close_write(c);
    tdl_conn_set_deadline(c, tdl_now() + TDL_SECOND);
    while (tdl_conn_read(c, dropped, sizeof dropped) > 0)
        ;
}

static void serve(void *arg)
{
    tdl_conn *c = arg;
    request r;
    for (;;) {
        tdl_conn_set_deadline(c, tdl_now() + IDLE); /* for the whole request and its answer */
        if (read_request(c, &r) < 0 || !answer(c, &r))
            break;
        if (!r.keep_alive) {
            linger(c);
            break;
        }
    }
    tdl_conn_free(c);
}

int main(int argc, char **argv)
{
    return server_run(argc > 1 ? argv[1] : "127.0.0.1:8080", serve);
}
