/* SPDX-License-Identifier: MIT
 *
 * What each kind of op does: the core's _start form that it calls, and how the
 * core's result becomes an object or an exception. A kind is one line in each
 * of the two switches.
 *
 * Invariant. For every op_start that did not return OP_ERROR, op_result is
 * called exactly once, with the code that op_start or the event brought; it
 * empties the outcome, gives back references that a failed send had counted
 * for a channel, and skips what a framed read has buffered. */
#include "net.h"

const char *
op_name(const opobj *op)
{
    static const char *const names[] = {
        [OP_VALUE] = "result", [OP_YIELD] = "yield_", [OP_SLEEP] = "sleep",
        [OP_JOIN] = "goroutine's end", [OP_SIM_WAIT] = "sim.wait", [OP_SEND] = "send", [OP_RECV] = "recv",
        [OP_RECV_OK] = "recv_ok", [OP_RECV_NEXT] = "receive", [OP_SELECT] = "select",
        [OP_LOCK] = "lock", [OP_COND] = "wait", [OP_ACQUIRE] = "acquire", [OP_WAIT] = "wait",
        [OP_ACCEPT] = "accept", [OP_ACCEPT_NEXT] = "accept", [OP_DIAL] = "dial",
        [OP_READ] = "read", [OP_EXACT] = "readexactly", [OP_LINE] = "readline",
        [OP_LINE_NEXT] = "line", [OP_UNTIL] = "read_until", [OP_WRITE] = "write",
        [OP_RLOCK] = "rlock", [OP_WLOCK] = "lock", [OP_ONCE] = "once", [OP_CONTEXT] = "done",
        [OP_PLACE] = "go", [OP_GROUP] = "wait", [OP_FLIGHT] = "single flight",
        [OP_SCOPE] = "end of the scope",
        [OP_NET] = "operation",
    };
    const callobj *call = op->kind == OP_NET ? (const callobj *)op->arg : NULL;
    return call != NULL ? call->kind->name : names[op->kind];
}

/* Its object goes, and nobody has ever awaited it: an `await` is missing, where that is
 * to be seen from the coroutine that runs. (A task that is cancelled before its first step
 * drops what it was to await, too, but from the loop.) */
void
op_forgotten(const opobj *op)
{
    switch (op->kind) {
    case OP_VALUE: case OP_JOIN: case OP_SCOPE: case OP_GROUP: case OP_SIM_WAIT:
    case OP_RECV_NEXT: case OP_ACCEPT_NEXT: case OP_LINE_NEXT:
        return;
    default:
        break;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyFrameObject *frame = exc == NULL ? PyEval_GetFrame() : NULL;
    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool in_coroutine = (code->co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR)) != 0;
        Py_DECREF(code);
        if (in_coroutine && PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "%s() was never awaited", op_name(op)) < 0)
            PyErr_WriteUnraisable(NULL);
    }
    PyErr_SetRaisedException(exc);
}

/* -- Start --------------------------------------------------------------- */

static int32_t
start_send(opobj *op, pyhost *h, uint32_t task)
{
    mod_state *st = h->st;
    tdl_val v;
    tdl_chan *ch = chan_core(op->target, h);
    if (ch == NULL || chan_encode(st, op->target, op->arg, &v) < 0)
        return OP_ERROR;
    int32_t code = tdl_chan_send_start(h->core, task, ch, &v, TDL_FOREVER);
    if (v.type != TDL_REF)
        tdl_val_clear(&v);
    return code;
}

static int32_t
start_write(opobj *op, pyhost *h, uint32_t task)
{
    Py_buffer buf;
    if (PyObject_GetBuffer(op->arg, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code;
    if (buf.len > (1 << 30)) {
        PyErr_SetString(PyExc_ValueError, "at most 2**30 bytes in one write");
        code = OP_ERROR;
    } else {
        code = tdl_conn_write_start(h->core, task, ((connobj *)op->target)->core, buf.buf,
                                    (size_t)buf.len);
    }
    PyBuffer_Release(&buf);
    return code;
}

static int32_t
start_fill(opobj *op, pyhost *h, uint32_t task, int how)
{
    connobj *c = (connobj *)op->target;
    if (op->num > 0)
        return tdl_conn_fill_start(h->core, task, c->core, how, (size_t)op->num);
    h->out[task].extra = 0; /* nothing is asked for, and nothing held */
    return c->closed ? TDL_ECLOSED : 0;
}

static int32_t
start_until(opobj *op, pyhost *h, uint32_t task)
{
    return tdl_conn_fill_until_start(h->core, task, ((connobj *)op->target)->core, PyBytes_AS_STRING(op->arg),
                                     (size_t)PyBytes_GET_SIZE(op->arg), (size_t)op->num);
}

static int32_t
start_dial(opobj *op, pyhost *h, uint32_t task)
{
    const char *network = PyUnicode_AsUTF8(PyTuple_GET_ITEM(op->arg, 0));
    const char *address = PyUnicode_AsUTF8(PyTuple_GET_ITEM(op->arg, 1));
    if (network == NULL || address == NULL)
        return OP_ERROR;
    return tdl_dial_start(h->core, task, network, address, op->num);
}

static int32_t
start(opobj *op, pyhost *h, uint32_t task)
{
    tdl_chan *ch;
    tdl_host *core = h->core;
    switch (op->kind) {
    case OP_YIELD:
        return tdl_yield_start(core, task);
    case OP_SLEEP:
        return tdl_sleep_start(core, task, op->num);
    case OP_SIM_WAIT:
        return tdl_sim_wait_start(core, task);
    case OP_JOIN:
        return tdl_task_park_start(core, task, TDL_FOREVER);
    case OP_SEND:
        return start_send(op, h, task);
    case OP_RECV:
    case OP_RECV_OK:
    case OP_RECV_NEXT:
        if (source_core(op->target, h, &ch) < 0)
            return OP_ERROR;
        return tdl_chan_recv_start(core, task, ch, TDL_FOREVER);
    case OP_SELECT:
        return select_start(op, h, task);
    case OP_LOCK:
        return tdl_mutex_lock_start(core, task, ((mutexobj *)op->target)->core, TDL_FOREVER);
    case OP_COND:
        return tdl_cond_wait_start(core, task, ((condobj *)op->target)->core, TDL_FOREVER);
    case OP_ACQUIRE:
        return tdl_sema_acquire_start(core, task, ((semaobj *)op->target)->core,
                                      (uint32_t)op->num, TDL_FOREVER);
    case OP_WAIT:
        return tdl_waitgroup_wait_start(core, task, ((groupobj *)op->target)->core, TDL_FOREVER);
    case OP_RLOCK:
        return tdl_rwmutex_rlock_start(core, task, ((rwobj *)op->target)->core, TDL_FOREVER);
    case OP_WLOCK:
        return tdl_rwmutex_lock_start(core, task, ((rwobj *)op->target)->core, TDL_FOREVER);
    case OP_ONCE:
        return tdl_once_begin_start(core, task, ((onceobj *)op->target)->core, TDL_FOREVER);
    case OP_CONTEXT:
        return tdl_context_wait_start(core, task, ((contextobj *)op->target)->core, TDL_FOREVER);
    case OP_PLACE:
        return tdl_errgroup_begin_start(core, task, ((errgroupobj *)op->target)->core, TDL_FOREVER);
    case OP_GROUP:
        return tdl_errgroup_wait_start(core, task, ((errgroupobj *)op->target)->core, TDL_FOREVER);
    case OP_FLIGHT:
        return flight_start(op, h, task);
    case OP_SCOPE:
        return tdl_task_park_start(core, task, TDL_FOREVER);
    case OP_ACCEPT:
    case OP_ACCEPT_NEXT:
        return tdl_listener_accept_start(core, task, ((listenerobj *)op->target)->core);
    case OP_DIAL:
        return start_dial(op, h, task);
    case OP_READ:
        return start_fill(op, h, task, TDL_FILL_SOME);
    case OP_EXACT:
        return start_fill(op, h, task, TDL_FILL_EXACT);
    case OP_LINE:
    case OP_LINE_NEXT:
        return start_fill(op, h, task, TDL_FILL_LINE);
    case OP_UNTIL:
        return start_until(op, h, task);
    case OP_WRITE:
        return start_write(op, h, task);
    case OP_NET:
        return net_start(op, h, task);
    default:
        PyErr_SetString(PyExc_SystemError, "unknown operation");
        return OP_ERROR;
    }
}

int32_t
op_start(opobj *op, pyhost *h, uint32_t task)
{
#ifdef Py_GIL_DISABLED
    if (op->target != NULL) { /* nobody parks a connection, or the like, meanwhile */
        int32_t code;
        Py_BEGIN_CRITICAL_SECTION(op->target);
        code = start(op, h, task);
        Py_END_CRITICAL_SECTION();
        return code;
    }
#endif
    return start(op, h, task);
}

/* -- Result -------------------------------------------------------------- */

static PyObject *
cancelled(opobj *op)
{
    return raise_cancelled(STATE(op), op->g != NULL ? G_RARE(op->g, cancel_msg) : op->value);
}

/* TDL_ECANCELED is always a CancelledError; the rest depends on the kind. */
static PyObject *
simple_result(opobj *op, int32_t code)
{
    if (code >= 0)
        Py_RETURN_NONE;
    return raise_code(STATE(op), code, op_name(op));
}

static PyObject *
send_result(opobj *op, int32_t code)
{
    mod_state *st = STATE(op);
    if (code != 0 && chan_is_local(op->target))
        Py_DECREF(op->arg); /* the channel did not take it */
    if (code == TDL_ECLOSED)
        return raise_closed_channel(st, op_name(op), -1);
    return code == TDL_ECANCELED ? cancelled(op) : simple_result(op, code);
}

static PyObject *
recv_result(opobj *op, uint32_t task, int32_t code)
{
    mod_state *st = STATE(op);
    if (code == 0) {
        PyObject *value = source_decode(st, op->target, &op->host->out[task].val);
        if (value == NULL || op->kind != OP_RECV_OK)
            return value;
        PyObject *pair = PyTuple_Pack(2, value, Py_True);
        Py_DECREF(value);
        return pair;
    }
    if (code == TDL_ECANCELED)
        return cancelled(op);
    if (code != TDL_ECLOSED)
        return raise_code(st, code, op_name(op));
    if (op->kind == OP_RECV_OK)
        return PyTuple_Pack(2, Py_None, Py_False);
    if (op->kind == OP_RECV)
        return raise_closed_channel(st, op_name(op), -1);
    PyErr_SetNone(PyExc_StopAsyncIteration);
    return NULL;
}

static PyObject *
join_result(opobj *op, int32_t code)
{
    gobj *target = (gobj *)op->target;
    if (code >= 0)
        return g_result(target);
    g_join_remove(target, op);
    return code == TDL_ECANCELED ? cancelled(op) : simple_result(op, code);
}

static PyObject *
new_conn_result(opobj *op, uint32_t task, int32_t code)
{
    mod_state *st = STATE(op);
    if (code >= 0) {
        tdl_val *v = &op->host->out[task].val;
        tdl_conn *c = v->u.p;
        tdl_val_set_nil(v);
        return conn_wrap(st, c);
    }
    if (code == TDL_ECANCELED)
        return cancelled(op);
    if (op->kind == OP_DIAL) {
        PyObject *what = PyUnicode_FromFormat("dial %U %U", PyTuple_GET_ITEM(op->arg, 0),
                                              PyTuple_GET_ITEM(op->arg, 1));
        const char *text = what ? PyUnicode_AsUTF8(what) : NULL;
        if (text != NULL)
            raise_code(st, code, text);
        Py_XDECREF(what);
        return NULL;
    }
    if (code == TDL_ECLOSED && op->kind == OP_ACCEPT_NEXT) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return NULL;
    }
    return raise_net(st, code, "accept", op->target);
}

static PyObject *
incomplete_read(mod_state *st, const char *bytes, size_t n, int64_t expected)
{
    if (state_gone(st))
        return NULL;
    PyObject *exc = expected < 0 ? PyObject_CallFunction(st->IncompleteReadError, "y#O", bytes ? bytes : "",
                                                         (Py_ssize_t)n, Py_None)
                                 : PyObject_CallFunction(st->IncompleteReadError, "y#L", bytes ? bytes : "",
                                                         (Py_ssize_t)n, (long long)expected);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return NULL;
}

static void
raise_too_long(opobj *op, tdl_conn *c)
{
    char address[160] = "";
    if (tdl_conn_peername(c, address, sizeof address) < 0)
        address[0] = '\0';
    PyErr_Format(STATE(op)->TooLong, "%s%s%s: no %s within %lld bytes", op_name(op), address[0] ? " " : "",
                 address, op->kind == OP_UNTIL ? "separator" : "newline", (long long)op->num);
}

/* The bytes are copied and skipped here, before anybody else can run: between
 * the event and the skip the op holds the connection's read side, if its
 * outcome says that bytes are buffered (another may hold it otherwise). */
static PyObject *
fill_result(opobj *op, uint32_t task, int32_t code)
{
    mod_state *st = STATE(op);
    tdl_conn *c = ((connobj *)op->target)->core;
    size_t n = 0, skip = 0;
    const char *bytes = NULL;
    PyObject *result = NULL;
    if (op->host->out[task].extra > 0)
        bytes = tdl_conn_peek(c, &n);
    if (code >= 0) {
        size_t frame = (size_t)code < n ? (size_t)code : n;
        skip = frame;
        if (op->kind == OP_LINE_NEXT && frame > 0 && bytes[frame - 1] == '\n') {
            frame--;
            if (frame > 0 && bytes[frame - 1] == '\r')
                frame--;
        }
        if (op->kind == OP_LINE_NEXT && skip == 0)
            PyErr_SetNone(PyExc_StopAsyncIteration);
        else
            result = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)frame);
        if (result == NULL && PyErr_ExceptionMatches(PyExc_MemoryError))
            skip = 0; /* they are there still */
    } else if (code == TDL_ECANCELED) {
        cancelled(op);
    } else if (code == TDL_EEOF && (op->kind == OP_EXACT || op->kind == OP_UNTIL)) {
        skip = n;
        incomplete_read(st, bytes, n, op->kind == OP_EXACT ? op->num : -1);
    } else if (code == TDL_EEOF) {
        if (op->kind == OP_LINE_NEXT)
            PyErr_SetNone(PyExc_StopAsyncIteration);
        else
            result = PyBytes_FromStringAndSize(NULL, 0);
    } else if (code == TDL_ETOOLONG) {
        raise_too_long(op, c);
    } else {
        raise_net(st, code, op_name(op), op->target);
    }
    if (n > 0) {
        PyObject *exc = PyErr_GetRaisedException();
        tdl_conn_skip(c, skip);
        PyErr_SetRaisedException(exc);
    }
    return result;
}

PyObject *
op_result(opobj *op, uint32_t task, int32_t code)
{
    switch (op->kind) {
    case OP_SEND:
        return send_result(op, code);
    case OP_RECV:
    case OP_RECV_OK:
    case OP_RECV_NEXT:
        return recv_result(op, task, code);
    case OP_SELECT:
        select_losers(op, code);
        if (code == TDL_ECANCELED)
            break;
        return select_result(op, task, code);
    case OP_JOIN:
        return join_result(op, code);
    case OP_ACCEPT:
    case OP_ACCEPT_NEXT:
    case OP_DIAL:
        return new_conn_result(op, task, code);
    case OP_READ:
    case OP_EXACT:
    case OP_LINE:
    case OP_LINE_NEXT:
    case OP_UNTIL:
        return fill_result(op, task, code);
    case OP_SIM_WAIT:
        if (code == TDL_EINVAL || code == TDL_EBUSY) {
            PyErr_SetString(PyExc_RuntimeError, code == TDL_EINVAL ? "sim.wait outside sim.run"
                                                : "sim.wait while another goroutine is in it");
            return NULL;
        }
        break;
    case OP_COND:
        if (code == TDL_ENOTLOCKED) {
            PyErr_SetString(PyExc_RuntimeError, "wait for a condition whose mutex is not locked");
            return NULL;
        }
        break;
    case OP_ONCE:
        if (code >= 0)
            return PyBool_FromLong(code);
        break;
    case OP_GROUP:
        if (code != TDL_ECANCELED || !op->cancelled) /* else it is the group's error */
            return PyLong_FromLong(code);
        break;
    case OP_FLIGHT:
        if (code >= 0)
            return flight_result(op, code);
        break;
    case OP_WRITE:
        if (code < 0 && code != TDL_ECANCELED)
            return raise_net(STATE(op), code, "write", op->target);
        break;
    case OP_NET:
        if (code != TDL_ECANCELED)
            return net_result(op, task, code);
        break;
    default:
        break;
    }
    return code == TDL_ECANCELED ? cancelled(op) : simple_result(op, code);
}

/* A condition's wait ended, however it did, with the mutex held. It stays so
 * for a waiter that goes on with another exception (mutex_owe has seen to one
 * that went on before the end). A signal is for the next. */
static void
discard_wait(opobj *op)
{
    condobj *c = (condobj *)op->target;
    if (!op->failed && op->value != NULL)
        tdl_cond_signal(c->core);
    if (op->abandoned)
        mutex_give(c->mutex);
}

/* What a lock, or the like, has acquired. */
static bool
give_back(opobj *op)
{
    switch (op->kind) {
    case OP_LOCK:
        mutex_give((mutexobj *)op->target);
        return true;
    case OP_ACQUIRE:
        tdl_sema_release(((semaobj *)op->target)->core, (uint32_t)op->num);
        return true;
    case OP_RLOCK:
        tdl_rwmutex_runlock(((rwobj *)op->target)->core);
        return true;
    case OP_WLOCK:
        tdl_rwmutex_unlock(((rwobj *)op->target)->core);
        return true;
    case OP_PLACE:
        tdl_errgroup_done(((errgroupobj *)op->target)->core, 0);
        return true;
    default:
        return false;
    }
}

/* A result that nobody will take: what was acquired is given back. */
void
op_discard(opobj *op)
{
    mod_state *st = STATE(op);
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *result = op->failed ? NULL : op->value;
    bool gave = false;
    if (op->kind == OP_COND && op->target != NULL) {
        discard_wait(op);
        gave = true;
    }
    if (result != NULL) {
        op->value = NULL;
        gave = gave || (op->target != NULL && give_back(op));
        if (conn_check(result)) {
            ((connobj *)result)->closed = true; /* no warning: nobody saw it */
            tdl_conn_close(((connobj *)result)->core);
        }
        if (op->kind == OP_NET)
            net_discard(op, result);
        Py_DECREF(result);
    }
    if (gave && st != NULL)
        THREAD_KICK(st);
    PyErr_SetRaisedException(exc);
}
