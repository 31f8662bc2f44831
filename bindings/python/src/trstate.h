/* SPDX-License-Identifier: MIT
 *
 * What the module's state has for the transports. */
#ifndef TDLPY_TRSTATE_H
#define TDLPY_TRSTATE_H

#include "compat.h"
#include <stdbool.h>

/* Interned names: X(field, text). */
#define EACH_TR_NAME(X)                                                                    \
    X(s_data_received, "data_received") X(s_get_buffer, "get_buffer")                      \
    X(s_buffer_updated, "buffer_updated") X(s_datagram_received, "datagram_received")      \
    X(s_error_received, "error_received") X(s_pause_writing, "pause_writing")              \
    X(s_resume_writing, "resume_writing") X(s_pause_reading, "pause_reading")              \
    X(s_cancelled, "cancelled") X(s_set_result, "set_result")                              \
    X(s_set_exception, "set_exception") X(s_lost, "_call_connection_lost") X(s_reader_gone, "_reader_gone")                 \
    X(s_on_eof, "_on_eof") X(s_warn_lost, "_warn_lost") X(s_flush_soon, "_flush_soon") X(s_took, "_took")                 \
    X(s_reader_wr, "_stream_reader_wr") X(s_transport, "_transport") X(s_record, "_treadle") \
    X(s_send, "send") X(s_sendto, "sendto")                     \
    X(s_pending, "pending") X(s_write, "write") X(s_ssl_protocol, "_ssl_protocol")         \
    X(s_call_eof, "_call_eof_received") X(s_start_shutdown, "_start_shutdown")             \
    X(s_do_write, "_do_write") X(s_process_outgoing, "_process_outgoing")                  \
    X(s_control_reading, "_control_ssl_reading")                                           \
    X(s_control_writing, "_control_app_writing") X(s_write_appdata, "_write_appdata")      \
    X(s_tls_received, "_received") X(s_tls_go_on, "_go_on")            \
    X(s_create_future, "create_future")    \
    X(s_resume_reading, "resume_reading") X(s_result, "result") X(s_read, "read")          \
    X(s_readexactly, "readexactly") X(s_readuntil, "readuntil") X(s_readline, "readline") X(s_throw, "throw") X(s_drain, "drain") X(s_feed_data, "feed_data") X(s_reader, "_reader")             \
    X(s_blocking, "_asyncio_future_blocking")

/* Objects that are cleared with the module: X(field). */
#define EACH_TR_OBJECT(X)                                                                  \
    X(TransportType) X(StreamType) X(BufferedProtocol) X(StreamReaderProtocol) X(StreamReader)   \
    X(TLSCoreType) X(SSLObject) X(SSLWantRead) X(SSLSyscall) X(tls_wrapped) X(tls_size)    \
    X(spare) X(StreamWriter) X(OurReader) X(prepare_streams) X(ReadType) X(RecordType)       \
    X(ReadyType) X(ready)

/* Methods of asyncio's classes that ours stand for, see streams_stock. */
enum stock {
    STOCK_FEED, STOCK_READ, STOCK_READEXACTLY, STOCK_READUNTIL, STOCK_READLINE, /* of StreamReader */
    STOCK_WRITE, STOCK_DRAIN,                                                   /* of StreamWriter */
    STOCK_RECEIVED,                                                             /* of StreamReaderProtocol */
    NSTOCK
};

struct tr_state {
#define X(field) PyObject *field;
    EACH_TR_OBJECT(X)
#undef X
#define X(field, text) PyObject *field;
    EACH_TR_NAME(X)
#undef X
    PyObject *minus_one;
    PyObject *stock[NSTOCK]; /* asyncio's functions, or NULL: somebody had replaced one by then */
    uint64_t stock_known[NSTOCK]; /* twice the state of the class in which that was found out; + 1: it is asyncio's */
    Py_ssize_t reader_fields; /* of a new StreamReader */
    void *spare_read; /* memory for a read, see transport_streams.c */
    bool no_spare_read;
    Py_ssize_t spare_room; /* what `spare` has room for, see transport_io.c */
};

#endif
