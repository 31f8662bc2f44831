/* SPDX-License-Identifier: MIT
 *
 * Readers and writers: one interface for all that bytes come from and go to, what
 * puts them together, buffered ones, and lines. For C alone.
 *
 * A reader or writer is two words, to be passed by value; it owns nothing. What it
 * stands for (a connection, a tdl_limited in the caller's frame …) must
 * outlive its use. Used by one caller at a time, unless what is behind it is made
 * for several, as connections are.
 *
 * Everything here waits where what is behind it waits, as a Blocking call there does: with
 * its deadlines, cancellation and codes; TDL_EHOST on a host's thread. Bindings have
 * the same in their own language.
 */
#ifndef TREADLE_IO_H
#define TREADLE_IO_H

#include "buf.h"
#include "conn.h"
#include "fd.h"
#include "fs.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tdl_reader {
    const struct tdl_reader_type *type; /* NULL: none; each use is TDL_EINVAL */
    void *of;
} tdl_reader;

typedef struct tdl_writer {
    const struct tdl_writer_type *type;
    void *of;
} tdl_writer;

/* For kinds of one's own. Both are called for n >= 1 alone.
 * read: from 1 to n bytes, or 0 at the end, or an error and no bytes. Bytes and an
 *   error never come together: the error is for the next call.
 * write: all n bytes, and n; or an error, and in *written (0 before) how many have gone out.
 * copy_to, copy_from may be NULL. They do a whole tdl_copy in a better way: its result
 *   and *copied (0 before); or TDL_COPY_PLAIN, and nothing has happened.
 * Another result than these is TDL_EINVAL for who called. */
enum { TDL_COPY_PLAIN = 1 };

typedef struct tdl_reader_type {
    int64_t (*read)(void *of, void *buf, size_t n);
    int (*copy_to)(void *of, tdl_writer to, int64_t n, int64_t *copied);
} tdl_reader_type;

typedef struct tdl_writer_type {
    int64_t (*write)(void *of, const void *buf, size_t n, size_t *written);
    int (*copy_from)(void *of, tdl_reader from, int64_t n, int64_t *copied);
} tdl_writer_type;

/* -- Using them ------------------------------------------------------------ */

/* Bytes read; 0 at the end, or when n is 0; an error. */
TDL_API int64_t tdl_read(tdl_reader r, void *buf, size_t n);
/* Writes all n bytes, and returns n; an error. *written (may be NULL): how many have gone out, in any case. */
TDL_API int64_t tdl_write(tdl_writer w, const void *buf, size_t n, size_t *written);
/* Reads exactly n bytes, and returns n. 0: the end came before the first one; TDL_EEOF: it came
 * later; an error. *got (may be NULL): how many are in buf, in any case. */
TDL_API int64_t tdl_read_full(tdl_reader r, void *buf, size_t n, size_t *got);
/* Appends all up to the end to b (see buf.h): how many bytes. TDL_ETOOLONG: there
 * are more than limit, which are then in b; an error, and what came before it is in b. */
TDL_API int64_t tdl_read_all(tdl_reader r, size_t limit, tdl_buf *b);
/* Copies up to n bytes (n < 0: to the end). 0; or the error of either. *copied (may be NULL), in
 * either case, how many have been written; what was read besides is lost. Between connections, from a file to a
 * connection and from a chain to one the bytes are not copied by the program, where that is
 * possible (splice, sendfile, writev). From a connection to itself: an echo. From a file
 * or a chain to itself: TDL_EINVAL. */
TDL_API int tdl_copy(tdl_writer to, tdl_reader from, int64_t n, int64_t *copied);

/* -- What there is ----------------------------------------------------------- */

TDL_API tdl_reader tdl_conn_reader(tdl_conn *c);
TDL_API tdl_writer tdl_conn_writer(tdl_conn *c);
TDL_API tdl_reader tdl_fd_reader(tdl_fd *f);
TDL_API tdl_writer tdl_fd_writer(tdl_fd *f);
/* At the file's position, which moves. */
TDL_API tdl_reader tdl_file_reader(tdl_file *f);
TDL_API tdl_writer tdl_file_writer(tdl_file *f);
/* What a file's reader and writer do ends with TDL_ETIMEDOUT from `when` on; 0: none. Any caller. */
TDL_API void tdl_file_set_deadline(tdl_file *f, int64_t when);
/* Takes from the front of b; appends to it (TDL_ENOMEM). Never wait. */
TDL_API tdl_reader tdl_buf_reader(tdl_buf *b);
TDL_API tdl_writer tdl_buf_writer(tdl_buf *b);
/* Bytes in memory, which must stay. m is the caller's, and says what is left. */
typedef struct tdl_mem {
    const char *at;
    size_t      left;
} tdl_mem;
TDL_API tdl_reader tdl_mem_reader(tdl_mem *m, const void *bytes, size_t n);
/* Takes all, and keeps nothing. */
TDL_API tdl_writer tdl_discard(void);

/* -- What puts them together --------------------------------------------------- */

/* The structures are the caller's; a list must stay, too. */

/* Ends after n bytes; `left` says how many may still come. */
typedef struct tdl_limited {
    tdl_reader from;
    int64_t    left;
} tdl_limited;
TDL_API tdl_reader tdl_limit_reader(tdl_limited *l, tdl_reader from, int64_t n);

/* What is read from it has been written to `to` first. When that fails, the bytes are still read, and the error is
 * what every later read says. */
typedef struct tdl_tee {
    tdl_reader from;
    tdl_writer to;
    int        error;
} tdl_tee;
TDL_API tdl_reader tdl_tee_reader(tdl_tee *t, tdl_reader from, tdl_writer to);

/* One after the other. An error of one is an error, and the next read goes on with the same one. */
typedef struct tdl_readers {
    const tdl_reader *list;
    int               n, at;
} tdl_readers;
TDL_API tdl_reader tdl_multi_reader(tdl_readers *m, const tdl_reader *list, int n);

/* Writes to each, in order; the first error ends a write, and those behind do not get it. */
typedef struct tdl_writers {
    const tdl_writer *list;
    int               n;
} tdl_writers;
TDL_API tdl_writer tdl_multi_writer(tdl_writers *m, const tdl_writer *list, int n);

/* -- Buffered -------------------------------------------------------------------- */

/* Gathers small writes. They go out when `size` bytes (0: 4,096) are there, by
 * tdl_bufwriter_flush, and by close. The first error stays: it is the result of every later call, and
 * what had not gone out by then is still buffered. */
typedef struct tdl_bufwriter tdl_bufwriter;
TDL_API tdl_bufwriter *tdl_bufwriter_new(tdl_writer to, size_t size); /* NULL: out of memory */
TDL_API int64_t tdl_bufwriter_write(tdl_bufwriter *b, const void *buf, size_t n); /* n, or the error */
TDL_API int  tdl_bufwriter_flush(tdl_bufwriter *b);          /* 0, or the error */
TDL_API int64_t tdl_bufwriter_buffered(tdl_bufwriter *b);    /* bytes that have not gone out */
TDL_API void tdl_bufwriter_reset(tdl_bufwriter *b, tdl_writer to); /* drops them, and the error */
TDL_API tdl_writer tdl_bufwriter_writer(tdl_bufwriter *b);
/* Flushes, and gives b back in any case; what it writes to stays open. 0, or the error. */
TDL_API int  tdl_bufwriter_close(tdl_bufwriter *b);
/* Gives it back without a flush. NULL is ignored. */
TDL_API void tdl_bufwriter_free(tdl_bufwriter *b);

/* Reads ahead, up to `size` bytes (0: 4,096; at most 2^30). After an error of the reader the next call that needs more
 * asks it again. */
typedef struct tdl_bufreader tdl_bufreader;
TDL_API tdl_bufreader *tdl_bufreader_new(tdl_reader from, size_t size); /* NULL: out of memory, or size */
TDL_API int64_t tdl_bufreader_read(tdl_bufreader *b, void *buf, size_t n); /* as tdl_read */
/* Waits until n bytes are buffered (1 … size), and returns how many are; TDL_EEOF: the end came first. Or, until a
 * delimiter of n bytes is: the length up to and with it; TDL_ETOOLONG: `size` bytes hold none. With an error what
 * is buffered stays. */
TDL_API int64_t tdl_bufreader_fill(tdl_bufreader *b, size_t n);
TDL_API int64_t tdl_bufreader_fill_until(tdl_bufreader *b, const void *delim, size_t n);
/* What is buffered, valid until the next call with b; *n may be 0. */
TDL_API const char *tdl_bufreader_peek(tdl_bufreader *b, size_t *n);
TDL_API int tdl_bufreader_skip(tdl_bufreader *b, size_t n); /* 0; TDL_EINVAL: fewer are buffered */
TDL_API tdl_reader tdl_bufreader_reader(tdl_bufreader *b);
TDL_API void tdl_bufreader_free(tdl_bufreader *b); /* NULL is ignored. Drops what is buffered */

/* Pieces between delimiters. delim NULL: lines, without "\n" or "\r\n"; else the n bytes (1…255), which are not part of a
 * piece. What follows the last delimiter is a piece if it is not empty. limit: most bytes of a piece with its
 * delimiter, 0: 65,536; at most 2^30. NULL: out of memory, or an argument. */
typedef struct tdl_scanner tdl_scanner;
TDL_API tdl_scanner *tdl_scanner_new(tdl_reader from, const void *delim, size_t n, size_t limit);
/* 1: the next piece, valid until the next call; 0: there are no more. TDL_ETOOLONG: it is longer than the limit, of which
 * *piece is the beginning; the rest of it is passed over, and the next call goes on with the piece after it. Another error of the
 * reader: the next call goes on where this one was. */
TDL_API int  tdl_scanner_next(tdl_scanner *s, const char **piece, size_t *n);
TDL_API void tdl_scanner_free(tdl_scanner *s); /* NULL is ignored. Drops what was read ahead */

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_IO_H */
