/* SPDX-License-Identifier: MIT
 *
 * treadle: goroutines, channels, select and network I/O for C, and for any
 * host language that can call C.  This header is the whole public interface:
 * it includes a part for each subject, and says what holds for all of them.
 * Each part may be included alone.
 *
 * Who may call.  Every function says which callers it serves:
 *   goroutine  code running in a goroutine started by tdl_run or tdl_go;
 *   thread     any other thread of the process ("plain thread");
 *   host       the thread that opened a tdl_host, between open and close.
 * A *blocking* function waits: a goroutine parks (its thread runs others), a
 * plain thread sleeps.  On a host thread it never waits, but returns TDL_EHOST
 * at once: a host uses the `_start` form beside it, and tdl_host_poll.
 * Everything that is not called blocking returns promptly on every caller.
 *
 * Results.  0 or more is success.  A system error is its negated errno
 * (-ECONNRESET); treadle's own codes lie below -4096.  errno is never set and
 * never to be read.  TDL_EFORKED is what every call that can fail returns in
 * the child of a fork, where the runtime does not exist; TDL_ENOMEM what any
 * call may return that finds no memory, one with a deadline included.
 *
 * Time.  All times are nanoseconds.  A deadline is an absolute time on the
 * clock of tdl_now(), which is monotonic and always positive.
 *
 * Cancellation.  tdl_cancel(g) makes the blocking call that g is in, and every
 * later one, return TDL_ECANCELED.  A value, connection or lock that had been
 * handed over before is kept: the call then returns success.
 *
 * Misuse that can be detected is an error code (TDL_EINVAL for a null handle
 * or an argument out of range); a handle used after its _free is undefined.
 */
#ifndef TREADLE_H
#define TREADLE_H

#include "treadle/base.h"     /* version, codes, time */
#include "treadle/value.h"    /* what channels carry */
#include "treadle/go.h"       /* goroutines: run, start, join, cancel; threads; stacks */
#include "treadle/chan.h"     /* channels, select, timers */
#include "treadle/sync.h"     /* mutex, wait group, condition, semaphore, read-write lock, once */
#include "treadle/context.h"  /* contexts; error group, single flight, scope */
#include "treadle/addr.h"     /* addresses and names of hosts */
#include "treadle/buf.h"      /* chains of bytes that are not copied */
#include "treadle/conn.h"     /* listeners, dialling, connections, pipes in memory */
#include "treadle/tls.h"      /* TLS on connections */
#include "treadle/server.h"   /* servers whose idle connections cost no goroutine */
#include "treadle/dgram.h"    /* datagrams */
#include "treadle/fd.h"       /* any other descriptor that can be polled */
#include "treadle/fs.h"       /* files and directories */
#include "treadle/os.h"       /* processes, signals, changes of files, terminals */
#include "treadle/io.h"       /* readers and writers, for C alone */
#include "treadle/host.h"     /* for interpreters: hosts, their tasks, the _start forms */
#include "treadle/testing.h"  /* simulation and injected faults, for tests */
#include "treadle/debug.h"    /* how it polls, the dump, numbers */

#endif /* TREADLE_H */
