/* SPDX-License-Identifier: MIT
 *
 * Files and what changes in them, as plainly as the core has them: what is nice to use
 * is Python's, in treadle/fs.py. A path is bytes. */
#include "oscall.h"
#include <errno.h>

typedef struct {
    PyObject_HEAD
    tdl_file *core;
} fileobj;

static PyObject *
stat_tuple(const tdl_stat *st)
{
    return Py_BuildValue("iLLLLLLLLLLLLLL", st->type, (long long)st->mode, (long long)st->length, (long long)st->dev,
                         (long long)st->ino, (long long)st->rdev, (long long)st->links, (long long)st->uid,
                         (long long)st->gid, (long long)st->block_size, (long long)st->blocks, (long long)st->atime,
                         (long long)st->mtime, (long long)st->ctime, (long long)st->btime);
}

static PyObject *
wrap_file(mod_state *st, tdl_file *core)
{
    fileobj *f = (fileobj *)st->FileType->tp_alloc(st->FileType, 0);
    if (f == NULL)
        tdl_file_free(core);
    else
        f->core = core;
    return (PyObject *)f;
}

/* -- Paths -------------------------------------------------------------------- */

enum {
    K_OPEN, K_TEMP, K_STAT, K_ACCESS, K_MKDIR, K_RMDIR, K_UNLINK, K_RENAME, K_LINK, K_SYMLINK, K_CHMOD, K_CHOWN,
    K_UTIME, K_COPY, K_READLINK, K_REALPATH, K_MKDTEMP, K_READ, K_SCAN, KINDS
};

static int32_t
start_path(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t t)
{
    arguments *x = k->block;
    tdl_host *c = h->core;
    const char *p = PyBytes_AS_STRING(k->data), *o = k->local ? PyBytes_AS_STRING(k->local) : "";
    const int64_t ever = TDL_FOREVER;
    switch (x->kind) {
    case K_OPEN: return tdl_file_open_start(c, t, p, (int)x->a, (int)x->b, ever);
    case K_TEMP: return tdl_file_open_temp_start(c, t, p, x->room.text, ROOM, ever);
    case K_STAT:
        x->room.st.size = sizeof x->room.st;
        return tdl_fs_stat_start(c, t, p, (int)x->a, &x->room.st, ever);
    case K_ACCESS: return tdl_fs_access_start(c, t, p, (int)x->a, ever);
    case K_MKDIR: return tdl_fs_mkdir_start(c, t, p, (int)x->a, ever);
    case K_RMDIR: return tdl_fs_rmdir_start(c, t, p, ever);
    case K_UNLINK: return tdl_fs_unlink_start(c, t, p, ever);
    case K_RENAME: return tdl_fs_rename_start(c, t, p, o, ever);
    case K_LINK: return tdl_fs_link_start(c, t, p, o, ever);
    case K_SYMLINK: return tdl_fs_symlink_start(c, t, p, o, ever);
    case K_CHMOD: return tdl_fs_chmod_start(c, t, p, (int)x->a, ever);
    case K_CHOWN: return tdl_fs_chown_start(c, t, p, x->a, x->b, (int)x->c, ever);
    case K_UTIME: return tdl_fs_utime_start(c, t, p, x->a, x->b, (int)x->c, ever);
    case K_COPY: return tdl_fs_copy_start(c, t, p, o, (int)x->a, ever);
    case K_READLINK: return tdl_fs_readlink_start(c, t, p, x->room.text, ROOM, ever);
    case K_REALPATH: return tdl_fs_realpath_start(c, t, p, x->room.text, ROOM, ever);
    case K_MKDTEMP: return tdl_fs_mkdtemp_start(c, t, p, x->room.text, ROOM, ever);
    case K_READ: return tdl_fs_read_start(c, t, p, SIZE_MAX / 2, ever);
    default: return tdl_fs_scan_start(c, t, p, ever);
    }
}

static PyObject *
entries(tdl_dir *d)
{
    const char *name;
    int type;
    PyObject *list = PyList_New(0);
    while (list != NULL && tdl_dir_next(d, &name, &type) == 1) {
        PyObject *entry = Py_BuildValue("yi", name, type);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    tdl_dir_free(d);
    return list;
}

static PyObject *
path_result(callobj *k, opobj *op, uint32_t task, int32_t Py_UNUSED(code))
{
    arguments *x = k->block;
    tdl_val v = take_value(op, task);
    PyObject *file, *bytes;
    size_t n;
    switch (x->kind) {
    case K_OPEN: return wrap_file(STATE(op), v.u.p);
    case K_TEMP:
        if ((file = wrap_file(STATE(op), v.u.p)) == NULL)
            return NULL;
        return Py_BuildValue("Ny", file, x->room.text);
    case K_STAT: return stat_tuple(&x->room.st);
    case K_READLINK:
    case K_REALPATH:
    case K_MKDTEMP: return PyBytes_FromString(x->room.text);
    case K_SCAN: return entries(v.u.p);
    case K_READ: {
        const char *data = tdl_val_bytes(&v, &n);
        bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)n);
        tdl_val_clear(&v);
        return bytes;
    }
    default: Py_RETURN_NONE;
    }
}

static const call_kind path_kind = {"fs", start_path, path_result, false};

static PyObject *
fs_call(PyObject *module, PyObject *args)
{
    int number;
    long long a = 0, b = 0, c = 0;
    PyObject *path, *other = Py_None;
    if (!PyArg_ParseTuple(args, "iS|OLLL:_fs", &number, &path, &other, &a, &b, &c))
        return NULL;
    if (number < 0 || number >= KINDS || (other != Py_None && !PyBytes_Check(other)))
        return PyErr_Format(PyExc_TypeError, "_fs");
    if (has_zero(path) || (other != Py_None && has_zero(other)))
        return NULL;
    callobj *k = os_call(state_of(module), &path_kind, number, a, b, c);
    if (k == NULL)
        return NULL;
    k->data = Py_NewRef(path);
    k->local = other == Py_None ? NULL : Py_NewRef(other);
    return call_op(state_of(module), NULL, k);
}

/* Writes a whole file: data is (path, content). */
static int32_t
start_spill(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    Py_buffer buf;
    if (PyObject_GetBuffer(k->local, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code = tdl_fs_write_start(h->core, task, PyBytes_AS_STRING(k->data), buf.buf, (size_t)buf.len, (int)x->a,
                                      (int)x->b, TDL_FOREVER);
    PyBuffer_Release(&buf);
    return code;
}

static const call_kind spill_kind = {"write", start_spill, call_nothing, false};

static PyObject *
fs_write(PyObject *module, PyObject *args)
{
    PyObject *path, *data;
    int mode, flags;
    if (!PyArg_ParseTuple(args, "SOii:_fs_write", &path, &data, &mode, &flags) || has_zero(path))
        return NULL;
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "a bytes-like object is required, not %.100s", Py_TYPE(data)->tp_name);
    callobj *k = os_call(state_of(module), &spill_kind, 0, mode, flags, 0);
    if (k == NULL)
        return NULL;
    k->data = Py_NewRef(path);
    k->local = Py_NewRef(data);
    return call_op(state_of(module), NULL, k);
}

/* -- Files -------------------------------------------------------------------------- */

static int32_t
start_read(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    tdl_file *f = ((fileobj *)op->target)->core;
    if ((k->data = PyBytes_FromStringAndSize(NULL, k->n)) == NULL)
        return OP_ERROR;
    char *to = PyBytes_AS_STRING(k->data);
    return x->a < 0 ? tdl_file_read_start(h->core, task, f, to, (size_t)k->n, TDL_FOREVER)
                    : tdl_file_pread_start(h->core, task, f, to, (size_t)k->n, x->a, TDL_FOREVER);
}

static PyObject *
read_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    return _PyBytes_Resize(&k->data, code) < 0 ? NULL : Py_NewRef(k->data);
}

static const call_kind read_kind = {"read", start_read, read_result, false};

static PyObject *
file_read(PyObject *f, PyObject *args)
{
    Py_ssize_t n;
    long long offset = -1;
    if (!PyArg_ParseTuple(args, "n|L:read", &n, &offset))
        return NULL;
    if (n < 0 || n > (1 << 30) || offset < -1)
        return PyErr_Format(PyExc_ValueError, "read: 0 to 2**30 bytes, at an offset of 0 or more");
    callobj *k = os_call(STATE(f), &read_kind, 0, offset, 0, 0);
    if (k != NULL)
        k->n = n;
    return call_op(STATE(f), f, k);
}

static int32_t
start_write(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    tdl_file *f = ((fileobj *)op->target)->core;
    Py_buffer buf;
    if (PyObject_GetBuffer(k->data, &buf, PyBUF_SIMPLE) < 0)
        return OP_ERROR;
    int32_t code = x->a < 0 ? tdl_file_write_start(h->core, task, f, buf.buf, (size_t)buf.len, TDL_FOREVER)
                            : tdl_file_pwrite_start(h->core, task, f, buf.buf, (size_t)buf.len, x->a, TDL_FOREVER);
    PyBuffer_Release(&buf);
    return code;
}

static PyObject *
number_result(callobj *Py_UNUSED(k), opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    return PyLong_FromLong(code);
}

static const call_kind write_kind = {"write", start_write, number_result, false};

static PyObject *
file_write(PyObject *f, PyObject *args)
{
    PyObject *data;
    long long offset = -1;
    if (!PyArg_ParseTuple(args, "O|L:write", &data, &offset))
        return NULL;
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "a bytes-like object is required, not %.100s", Py_TYPE(data)->tp_name);
    if (offset < -1)
        return PyErr_Format(PyExc_ValueError, "write: at an offset of 0 or more");
    callobj *k = os_call(STATE(f), &write_kind, 0, offset, 0, 0);
    if (k != NULL)
        k->data = Py_NewRef(data);
    return call_op(STATE(f), f, k);
}

enum { F_SYNC, F_TRUNCATE, F_STAT };

static int32_t
start_file(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    tdl_file *f = ((fileobj *)op->target)->core;
    if (x->kind == F_SYNC)
        return tdl_file_sync_start(h->core, task, f, (int)x->a, TDL_FOREVER);
    if (x->kind == F_TRUNCATE)
        return tdl_file_truncate_start(h->core, task, f, x->a, TDL_FOREVER);
    x->room.st.size = sizeof x->room.st;
    return tdl_file_stat_start(h->core, task, f, &x->room.st, TDL_FOREVER);
}

static PyObject *
file_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t Py_UNUSED(code))
{
    arguments *x = k->block;
    if (x->kind == F_STAT)
        return stat_tuple(&x->room.st);
    Py_RETURN_NONE;
}

static const call_kind file_kind = {"file", start_file, file_result, false};

static PyObject *
file_sync(PyObject *f, PyObject *data_only)
{
    int only = PyObject_IsTrue(data_only);
    return only < 0 ? NULL : call_op(STATE(f), f, os_call(STATE(f), &file_kind, F_SYNC, only, 0, 0));
}

static PyObject *
file_truncate(PyObject *f, PyObject *size)
{
    long long n = PyLong_AsLongLong(size);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    return call_op(STATE(f), f, os_call(STATE(f), &file_kind, F_TRUNCATE, n, 0, 0));
}

static PyObject *
file_stat(PyObject *f, PyObject *Py_UNUSED(ignored))
{
    return call_op(STATE(f), f, os_call(STATE(f), &file_kind, F_STAT, 0, 0, 0));
}

static PyObject *
file_seek(fileobj *f, PyObject *args)
{
    long long offset;
    int whence = 0;
    if (!PyArg_ParseTuple(args, "L|i:seek", &offset, &whence))
        return NULL;
    int64_t at = tdl_file_seek(f->core, offset, whence);
    return at < 0 ? raise_code(STATE(f), at, "seek") : PyLong_FromLongLong(at);
}

static PyObject *
file_fileno(fileobj *f, PyObject *Py_UNUSED(ignored))
{
    int fd = tdl_file_fd(f->core);
    return fd < 0 ? raise_code(STATE(f), fd, "fileno") : PyLong_FromLong(fd);
}

static PyObject *
file_close(fileobj *f, PyObject *Py_UNUSED(ignored))
{
    int rc = tdl_file_close(f->core);
    THREAD_KICK(STATE(f));
    if (rc < 0 && rc != TDL_ECLOSED)
        return raise_code(STATE(f), rc, "close");
    return PyBool_FromLong(rc == 0);
}

static void
file_dealloc(fileobj *f)
{
    PyTypeObject *type = Py_TYPE(f);
    tdl_file_free(f->core);
    type->tp_free(f);
    Py_DECREF(type);
}

static PyMethodDef file_methods[] = {
    {"read", file_read, METH_VARARGS, "await read(n, offset=-1) -> bytes"},
    {"write", file_write, METH_VARARGS, "await write(data, offset=-1) -> int"},
    {"sync", file_sync, METH_O, "await sync(data_only)"},
    {"truncate", file_truncate, METH_O, "await truncate(size)"},
    {"stat", file_stat, METH_NOARGS, "await stat() -> tuple"},
    {"seek", (PyCFunction)file_seek, METH_VARARGS, "seek(offset, whence=0) -> int"},
    {"fileno", (PyCFunction)file_fileno, METH_NOARGS, "The descriptor."},
    {"close", (PyCFunction)file_close, METH_NOARGS, "Whether it was open."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_doc, "An open file of the core's; treadle.fs.File is what programs use."},
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_methods, file_methods},
    {0, NULL},
};

PyType_Spec file_spec = {
    .name = "treadle._treadle._File",
    .basicsize = sizeof(fileobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = file_slots,
};
/* -- Changes of files ----------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    tdl_watch *core;
} watchobj;

static int32_t
start_watch(callobj *k, opobj *Py_UNUSED(op), pyhost *h, uint32_t task)
{
    return tdl_watch_open_start(h->core, task, PyBytes_AS_STRING(k->data), TDL_FOREVER);
}

static PyObject *
watch_result(callobj *Py_UNUSED(k), opobj *op, uint32_t task, int32_t Py_UNUSED(code))
{
    tdl_val v = take_value(op, task);
    watchobj *w = (watchobj *)STATE(op)->WatchType->tp_alloc(STATE(op)->WatchType, 0);
    if (w == NULL)
        tdl_watch_free(v.u.p);
    else
        w->core = v.u.p;
    return (PyObject *)w;
}

static const call_kind watch_kind = {"watch", start_watch, watch_result, false};

static PyObject *
watch_open(PyObject *module, PyObject *path)
{
    if (!PyBytes_Check(path) || has_zero(path))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "_watch");
    callobj *k = os_call(state_of(module), &watch_kind, 0, 0, 0, 0);
    if (k != NULL)
        k->data = Py_NewRef(path);
    return call_op(state_of(module), NULL, k);
}

static int32_t
start_next(callobj *k, opobj *op, pyhost *h, uint32_t task)
{
    arguments *x = k->block;
    return tdl_watch_next_start(h->core, task, ((watchobj *)op->target)->core, x->room.text, ROOM, TDL_FOREVER);
}

static PyObject *
next_result(callobj *k, opobj *Py_UNUSED(op), uint32_t Py_UNUSED(task), int32_t code)
{
    return Py_BuildValue("iy", (int)code, ((arguments *)k->block)->room.text);
}

static const call_kind next_kind = {"watch", start_next, next_result, false};

static PyObject *
watch_next(PyObject *w, PyObject *Py_UNUSED(ignored))
{
    return call_op(STATE(w), w, os_call(STATE(w), &next_kind, 0, 0, 0, 0));
}

static PyObject *
watch_close(watchobj *w, PyObject *Py_UNUSED(ignored))
{
    tdl_watch_close(w->core);
    THREAD_KICK(STATE(w));
    Py_RETURN_NONE;
}

static void
watch_dealloc(watchobj *w)
{
    PyTypeObject *type = Py_TYPE(w);
    tdl_watch_free(w->core);
    type->tp_free(w);
    Py_DECREF(type);
}

static PyMethodDef watch_methods[] = {
    {"next", watch_next, METH_NOARGS, "await next() -> (what, name)"},
    {"close", (PyCFunction)watch_close, METH_NOARGS, "Wakes who waits."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot watch_slots[] = {
    {Py_tp_doc, "A watch of the core's; treadle.fs.Watch is what programs use."},
    {Py_tp_dealloc, watch_dealloc},
    {Py_tp_methods, watch_methods},
    {0, NULL},
};

PyType_Spec watch_spec = {
    .name = "treadle._treadle._Watch",
    .basicsize = sizeof(watchobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = watch_slots,
};

PyMethodDef file_functions[] = {
    {"_fs", fs_call, METH_VARARGS, "await _fs(kind, path, other=None, a=0, b=0, c=0)"},
    {"_fs_write", fs_write, METH_VARARGS, "await _fs_write(path, data, mode, flags)"},
    {"_watch", watch_open, METH_O, "await _watch(path) -> _Watch"},
    {NULL, NULL, 0, NULL},
};
