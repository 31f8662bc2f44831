/* SPDX-License-Identifier: MIT
 *
 * The extension module treadle._treadle: its state, its types and its plain
 * functions. Initialised in several phases, with all state in the module, so
 * that each interpreter of a process has its own. */
#include "handle.h"
#include "net.h"
#include "procs.h"
#include "transport.h"
#include "fds.h"

mod_state *
state_of(PyObject *module)
{
    return (mod_state *)PyModule_GetState(module);
}

/* -- Functions ----------------------------------------------------------- */

static PyObject *
fn_now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble((double)tdl_now() * 1e-9);
}

static PyObject *
fn_go(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"coro", "name", "context", NULL};
    PyObject *coro, *name = NULL, *context = Py_None;
    if (PyTuple_GET_SIZE(args) > 1 && PyFunction_Check(PyTuple_GET_ITEM(args, 0))) {
        PyObject *function = PyTuple_GET_ITEM(args, 0);
        return PyErr_Format(PyExc_TypeError, "go() takes a coroutine, not %R and its arguments; call it to get one",
                            function);
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OO:go", names, &coro, &name, &context))
        return NULL;
    if (name == Py_None)
        name = NULL;
    if (name != NULL && !PyUnicode_Check(name))
        return PyErr_Format(PyExc_TypeError, "name must be str, not %.100s", Py_TYPE(name)->tp_name);
    if (context != Py_None && !PyContext_CheckExact(context))
        return PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context");
    return g_spawn(state_of(module), NULL, coro, name, context == Py_None ? NULL : context,
                   NULL);
}

/* Is this one of several Ps? */
static PyObject *
fn_among(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    pyhost *h = host_get(state_of(module));
    return h == NULL ? NULL : PyBool_FromLong(host_procs(h) != NULL);
}

static PyObject *
fn_sleep(PyObject *module, PyObject *seconds)
{
    int64_t ns;
    if (seconds_arg(seconds, "sleep", &ns) < 0)
        return NULL;
    return (PyObject *)op_new(state_of(module), OP_SLEEP, NULL, NULL, ns);
}

/* _seconds(value, what): whether it is a number of seconds, by an exception. */
static PyObject *
fn_seconds(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *value;
    const char *what;
    int64_t ns;
    if (!PyArg_ParseTuple(args, "Os:_seconds", &value, &what) || seconds_arg(value, what, &ns) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
fn_yield(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(state_of(module), OP_YIELD, NULL, NULL, 0);
}

static PyObject *
fn_sim_wait(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)op_new(state_of(module), OP_SIM_WAIT, NULL, NULL, 0);
}

static PyObject *
fn_num_goroutines(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int n = tdl_num_goroutines();
    if (n >= 0)
        n += procs_queued(tl_running); /* those that have not begun are no tasks of the core yet */
    return n < 0 ? raise_code(state_of(module), n, "num_goroutines") : PyLong_FromLong(n);
}

static PyObject *
fn_dump(PyObject *module, PyObject *args)
{
    PyObject *file = NULL;
    if (!PyArg_ParseTuple(args, "|O:dump", &file))
        return NULL;
    int fd = file == NULL || file == Py_None ? 2 : PyObject_AsFileDescriptor(file);
    if (fd < 0)
        return NULL;
    int rc = tdl_dump(fd);
    if (rc < 0)
        return raise_code(state_of(module), rc, "dump");
    Py_RETURN_NONE;
}

static PyObject *
fn_metric(PyObject *module, PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    int64_t value = tdl_metric(text);
    if (value == TDL_EINVAL)
        return PyErr_Format(PyExc_ValueError, "there is no metric %R", name);
    if (value < 0)
        return raise_code(state_of(module), value, "metric");
    return PyLong_FromLongLong(value);
}

static PyObject *
fn_fault_set(PyObject *module, PyObject *arg)
{
    const char *text = NULL;
    char why[400];
    if (arg != Py_None && (text = PyUnicode_AsUTF8(arg)) == NULL)
        return NULL;
    if (tdl_fault_check(text, why, sizeof why) < 0) {
        PyErr_SetString(PyExc_ValueError, why);
        return NULL;
    }
    int rc = tdl_fault_set(text);
    if (rc < 0)
        return raise_code(state_of(module), rc, "fault_set");
    Py_RETURN_NONE;
}

static PyObject *
fn_forked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(forked());
}

static PyObject *
fn_netpoll(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    char why[400];
    int n = tdl_netpoll_reason(why, sizeof why);
    return Py_BuildValue("(ss)", tdl_netpoll_name(), n < 0 ? "" : why);
}

static PyObject *
fn_fault_count(PyObject *module, PyObject *args)
{
    const char *what = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "|z:fault_count", &what))
        return NULL;
    int64_t n = tdl_fault_count(what);
    if (n < 0)
        return PyErr_Format(PyExc_ValueError, "there is no fault '%s'", what);
    return PyLong_FromLongLong(n);
}

static PyObject *
fn_code_text(PyObject *Py_UNUSED(module), PyObject *code)
{
    long n = PyLong_AsLong(code);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    return PyUnicode_FromString(tdl_strerror((int)n));
}

/* The host of the running loop. */
static PyObject *
fn_host(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return Py_XNewRef((PyObject *)host_get(state_of(module)));
}

static PyMethodDef functions[] = {
    {"go", (PyCFunction)(void (*)(void))fn_go, METH_VARARGS | METH_KEYWORDS,
     "go(coro, *, name=None, context=None) -> G\n\n"
     "Starts a coroutine as a goroutine of the running loop. Its first step runs at once,\n"
     "unless spawns nest deeply or a context is given; then from the run queue."},
    {"sleep", fn_sleep, METH_O,
     "await sleep(seconds)\n\nNever less; 0 or a negative time returns at once: yield_() lets others run."},
    {"_seconds", fn_seconds, METH_VARARGS, NULL},
    {"_sim_wait", fn_sim_wait, METH_NOARGS, NULL},
    {"yield_", fn_yield, METH_NOARGS, "await yield_()\n\nLets the others run."},
    {"now", fn_now, METH_NOARGS, "now() -> seconds, as a float, on the monotonic clock of deadlines."},
    {"select", (PyCFunction)(void (*)(void))select_op, METH_FASTCALL,
     "await select(*cases) -> (index, value)\n\n"
     "Waits until one of the cases (from recv_op, send_op, done_op and after_op) can go ahead and\n"
     "carries it out; among several that can, the choice is random. The value is None for a\n"
     "send, the end of a context and after_op. A case whose channel is closed is ready: it raises ChannelClosed\n"
     "with the case's index in .index. If it is cancelled, no case was carried out."},
    {"try_select", (PyCFunction)(void (*)(void))select_now, METH_FASTCALL,
     "try_select(*cases) -> (index, value), or (None, None) when nothing is ready."},
    {"after_op", after_op, METH_O,
     "after_op(seconds): a case of select that is ready that long after the select started."},
    {"listen", (PyCFunction)(void (*)(void))net_listen, METH_VARARGS | METH_KEYWORDS,
     "await listen(network, address, *, backlog=0, reuseport=False, keep_path=False) -> Listener\n\n"
     "network: \"tcp\", \"tcp4\", \"tcp6\", \"unix\" or \"unixpacket\" (a read is a message).\n"
     "address: \"host:port\" with a numeric host, \"localhost\" or none (all interfaces), port 0\n"
     "for any; or a path, or \"@name\". reuseport: several listeners at one address.\n"
     "ValueError for an address that does not parse, OSError."},
    {"dial", (PyCFunction)(void (*)(void))net_dial, METH_VARARGS | METH_KEYWORDS,
     "await dial(network, address, *, timeout=None, local=None, fallback_delay=None) -> Conn\n\n"
     "Connects; timeout in seconds, TimeoutError. local: the address to come from. Of several\n"
     "addresses the first that answers is taken; they are tried in turn, the families\n"
     "alternating, each after a failure or fallback_delay seconds (0.25). ValueError for an\n"
     "address that does not parse, ConnectionRefusedError and other OSErrors."},
    {"num_goroutines", fn_num_goroutines, METH_NOARGS,
     "Goroutines that exist in the process, in every language."},
    {"dump", fn_dump, METH_VARARGS,
     "dump(file=2)\n\nWrites every goroutine with its state and what it waits on, to a\n"
     "descriptor or to an object with fileno()."},
    {"fault_set", fn_fault_set, METH_O,
     "fault_set(text)\n\nFor tests: makes the system's calls under treadle fail as often as the text says,\n"
     "\"seed=7,short=0.3,eagain=0.1\"; None: no longer. ValueError says what is wrong\n"
     "with a text. The first must come while nothing runs."},
    {"netpoll", fn_netpoll, METH_NOARGS,
     "netpoll() -> (str, str)\n\nBy what the system tells which descriptors are ready, \"epoll\", \"uring\" or\n"
     "\"uv\", and why that one. TDL_NETPOLL in the environment chooses it."},
    {"fault_count", fn_fault_count, METH_VARARGS,
     "fault_count(what=None) -> int\n\nHow often the fault of that name was injected since the last fault_set;\n"
     "None: all of them together."},
    {"metric", fn_metric, METH_O,
     "metric(name) -> int\n\nname: \"goroutines\", \"tasks\", \"threads\", \"stacks\", \"channels\",\n"
     "\"connections\", \"listeners\", \"datagrams\", \"descriptors\", \"timers\", \"contexts\"; ValueError for another."},
    {"_code_text", fn_code_text, METH_O, NULL},
    {"_host", fn_host, METH_NOARGS, NULL},
    {"_forked", fn_forked, METH_NOARGS, NULL},
    {"_among", fn_among, METH_NOARGS, NULL},
    {"_stop_watchdogs", watch_stop_all, METH_NOARGS, NULL},
    {"_adopt_listener", net_adopt_listener, METH_O, NULL},
    {"_accept", sock_accept_next, METH_O, NULL},
    {"_tls_use", tls_use, METH_VARARGS, NULL},
    {"_streams_use", streams_use, METH_VARARGS, NULL},
    {"_learn_call", (PyCFunction)(void (*)(void))loop_learn_call, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_launch", op_launch, METH_O, NULL},
    {"_scope_op", op_scope, METH_O, NULL},
    {"_waits_for", (PyCFunction)(void (*)(void))circle_waits_for, METH_FASTCALL, NULL},
    {"_recancel", (PyCFunction)(void (*)(void))op_recancel, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

/* -- Set-up -------------------------------------------------------------- */

PyObject *
type_make(PyObject *module, PyType_Spec *spec, PyObject *bases)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, bases);
    if (type != NULL)
        stays_for_ever(type);
    return type;
}

int
types_add(PyObject *module, const new_type *types, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PyObject *type = type_make(module, types[i].spec, NULL);
        if (type == NULL)
            return -1;
        *types[i].type = (PyTypeObject *)type;
        if (PyModule_AddObjectRef(module, types[i].name, type) < 0)
            return -1;
    }
    return 0;
}

static int
add_types(PyObject *module, mod_state *st)
{
    const new_type types[] = {
        {&host_spec, &st->HostType, "_Host"},
        {&loop_spec, &st->LoopCoreType, "_LoopCore"},
        {&sockop_spec, &st->SockOpType, "_SockOp"},
        {&reader_spec, &st->ReaderType, "_Reader"},
        {&op_spec, &st->OpType, "Op"},
        {&g_spec, &st->GType, "G"},
        {&chan_spec, &st->ChanType, "Chan"},
        {&shared_spec, &st->SharedChanType, "SharedChan"},
        {&case_spec, &st->CaseType, "Case"},
        {&mutex_spec, &st->MutexType, "Mutex"},
        {&cond_spec, &st->CondType, "Cond"},
        {&sema_spec, &st->SemaphoreType, "Semaphore"},
        {&group_spec, &st->WaitGroupType, "WaitGroup"},
        {&timer_spec, &st->TimerType, "Timer"},
        {&ticker_spec, &st->TickerType, "Ticker"},
        {&rw_spec, &st->RWMutexType, "RWMutex"},
        {&side_spec, &st->RWSideType, "_RWSide"},
        {&context_spec, &st->ContextType, "_Context"},
        {&once_spec, &st->OnceType, "_Once"},
        {&errgroup_spec, &st->ErrGroupType, "_ErrGroup"},
        {&flight_spec, &st->SingleFlightType, "_SingleFlight"},
        {&conn_spec, &st->ConnType, "Conn"},
        {&lines_spec, &st->LinesType, "Lines"},
        {&listener_spec, &st->ListenerType, "Listener"},
    };
    return types_add(module, types, sizeof types / sizeof types[0]);
}

static PyObject *
new_exception(PyObject *module, const char *name, const char *doc, PyObject *base)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "treadle.%s", name);
    PyObject *exc = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    if (exc != NULL && PyModule_AddObjectRef(module, name, exc) < 0)
        Py_CLEAR(exc);
    return exc;
}

static int
import_asyncio(mod_state *st)
{
    static const struct { const char *module, *name; size_t field; bool optional; } names[] = {
#define FIELD(name) offsetof(mod_state, name)
        {"asyncio", "CancelledError", FIELD(CancelledError), false},
        {"asyncio", "InvalidStateError", FIELD(InvalidStateError), false},
        {"asyncio", "IncompleteReadError", FIELD(IncompleteReadError), false},
        {"asyncio", "Task", FIELD(TaskType), false},
        {"asyncio", "Future", FIELD(FutureType), false},
        {"asyncio", "SelectorEventLoop", FIELD(SelectorLoopType), false},
        {"socket", "socket", FIELD(SocketType), false},
        {"asyncio", "iscoroutine", FIELD(iscoroutine), false},
        {"asyncio", "current_task", FIELD(current_task), false},
        {"asyncio.events", "_get_running_loop", FIELD(get_running_loop), false},
        {"asyncio.events", "_ThreadSafeHandle", FIELD(ThreadSafeHandle), true}, /* CPython 3.14 */
        {"asyncio.tasks", "_register_task", FIELD(register_task), false},
        {"asyncio.tasks", "_unregister_task", FIELD(unregister_task), false},
        {"asyncio.tasks", "_swap_current_task", FIELD(swap_current_task), true},
#if PY_VERSION_HEX < 0x030e0000
        {"asyncio.tasks", "_current_tasks", FIELD(current_tasks), false},
#endif
#undef FIELD
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        PyObject *module = PyImport_ImportModule(names[i].module);
        PyObject *value = module ? PyObject_GetAttrString(module, names[i].name) : NULL;
        Py_XDECREF(module);
        if (value == NULL && !names[i].optional)
            return -1;
        PyErr_Clear();
        *(PyObject **)((char *)st + names[i].field) = value;
    }
    return 0;
}

static int
intern_names(mod_state *st)
{
    struct { PyObject **field; const char *text; } names[] = {
#define X(field, text) {&st->field, text},
        EACH_NAME(X)
#undef X
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((*names[i].field = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    st->empty_kw_context = PyTuple_Pack(1, st->s_context);
    st->kw_loop = Py_BuildValue("(N)", PyUnicode_InternFromString("loop"));
    return st->empty_kw_context == NULL || st->kw_loop == NULL ? -1 : 0;
}

static int
check_core(void)
{
    if (tdl_abi_version() != TDL_ABI_VERSION ||
        tdl_abi_size("tdl_val") != sizeof(tdl_val) ||
        tdl_abi_size("tdl_case") != sizeof(tdl_case) ||
        tdl_abi_size("tdl_event") != sizeof(tdl_event) ||
        tdl_abi_size("tdl_outcome") != sizeof(tdl_outcome)) {
        PyErr_Format(PyExc_ImportError,
                     "the treadle library in this process (%s) is not the one that this "
                     "module was built for", tdl_version());
        return -1;
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    mod_state *st = state_of(module);
    memset(st, 0, sizeof *st);
    if (check_core() < 0 || intern_names(st) < 0 || import_asyncio(st) < 0 ||
        add_types(module, st) < 0 || future_setup(st) < 0 || handle_setup(module, st) < 0 || net_setup(module, st) < 0 ||
        transport_setup(module, st) < 0)
        return -1;
    st->ChannelClosed = new_exception(
        module, "ChannelClosed",
        "The channel is closed (and, for a receive, drained). `index` is the number of the\n"
        "case when it comes from a select, else None.", PyExc_Exception);
    st->Closed = new_exception(module, "Closed",
                               "The connection or listener was closed on this side.",
                               PyExc_OSError);
    st->DeadlockError = new_exception(module, "DeadlockError",
                                      "A wait that would never end: in a circle of mutexes, or because all\n"
                                      "goroutines of a run are asleep.", PyExc_RuntimeError);
    st->TooLong = new_exception(module, "TooLong",
                                "What was asked for is longer than the limit: a line, or what ends with a separator.\n"
                                "`beginning`: what was consumed of it; b\"\" where it can still be read.",
                                PyExc_ValueError);
    if (st->DeadlockError == NULL || st->TooLong == NULL)
        return -1;
    st->recancel = PyObject_GetAttrString(module, "_recancel");
    if (st->ChannelClosed == NULL || st->Closed == NULL || st->recancel == NULL)
        return -1;
    if (PyObject_SetAttrString(st->ChannelClosed, "index", Py_None) < 0)
        return -1;
    PyObject *none = PyBytes_FromStringAndSize(NULL, 0);
    if (none == NULL || PyObject_SetAttrString(st->TooLong, "beginning", none) < 0) {
        Py_XDECREF(none);
        return -1;
    }
    Py_DECREF(none);
    if (PyModule_AddIntConstant(module, "_ECANCELED", TDL_ECANCELED) < 0 ||
        PyModule_AddIntConstant(module, "_ETIMEDOUT", TDL_ETIMEDOUT) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "core_version", tdl_version());
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    mod_state *st = state_of(module);
    if (st == NULL)
        return 0;
#define X(field) Py_VISIT((PyObject *)st->field);
    EACH_TYPE(X)
    EACH_OBJECT(X)
#undef X
#define X(field) Py_VISIT(st->tr.field);
    EACH_TR_OBJECT(X)
#undef X
    return 0;
}

static int
module_clear(PyObject *module)
{
    mod_state *st = state_of(module);
    if (st == NULL)
        return 0;
    while (st->op_free != NULL) {
        opobj *op = st->op_free;
        st->op_free = (opobj *)op->value;
        PyObject_GC_Del(op);
    }
    st->op_nfree = OP_FREELIST; /* takes no more */
    streams_forget(&st->tr);
#define X(field) Py_CLEAR(st->field);
    EACH_TYPE(X)
    EACH_OBJECT(X)
#undef X
#define X(field) Py_CLEAR(st->tr.field);
    EACH_TR_OBJECT(X)
#undef X
    return 0;
}

static void
module_free(void *module)
{
    mod_state *st = state_of(module);
    if (st == NULL)
        return;
    module_clear(module);
#define X(field, text) Py_CLEAR(st->field);
    EACH_NAME(X)
#undef X
    transport_free_names(st);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, /* see own.h */
#endif
    {0, NULL},
};

PyModuleDef treadle_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "treadle._treadle",
    .m_doc = "The extension behind the package treadle; not for direct use.",
    .m_size = sizeof(mod_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyObject *
module_by_type(PyTypeObject *type)
{
    return PyType_GetModuleByDef(type, &treadle_module);
}

PyMODINIT_FUNC
PyInit__treadle(void)
{
    return PyModuleDef_Init(&treadle_module);
}
