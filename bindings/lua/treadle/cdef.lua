-- SPDX-License-Identifier: MIT
-- The C ABI of treadle as LuaJIT's ffi takes it.
-- Written by ffi/gen_lua_cdef.py from core/include/treadle.h: do not edit.
-- luacheck: ignore 631

return {
  abi = 1,
  version = "0.1.0",
  -- structures whose size the library is asked for
  structs = { "tdl_val", "tdl_go_options", "tdl_case", "tdl_addr", "tdl_iovec", "tdl_listen_options", "tdl_dial_options", "tdl_tcp_info", "tdl_tls_options", "tdl_server_options", "tdl_packet", "tdl_stat", "tdl_process_options", "tdl_event", "tdl_outcome", "tdl_worker_options", "tdl_sim_options", "tdl_sim_report" },
  const = {
    TDL_ECLOSED = -4097,
    TDL_ETIMEDOUT = -4098,
    TDL_ECANCELED = -4099,
    TDL_EAGAIN = -4100,
    TDL_EINVAL = -4101,
    TDL_ENOMEM = -4102,
    TDL_EFORKED = -4103,
    TDL_EBUSY = -4104,
    TDL_EHOST = -4105,
    TDL_ENOTLOCKED = -4106,
    TDL_ENEGATIVE = -4107,
    TDL_EADDRESS = -4108,
    TDL_EEOF = -4109,
    TDL_ETOOLONG = -4110,
    TDL_EDEADLOCK = -4111,
    TDL_ETHREADS = -4112,
    TDL_ESTACK = -4113,
    TDL_ESTACKS = -4114,
    TDL_ESYSTEM = -4115,
    TDL_ENETWORK = -4120,
    TDL_EPORT = -4121,
    TDL_ETRUNCATED = -4122,
    TDL_ENOPOLL = -4123,
    TDL_ESIM = -4124,
    TDL_ELIMIT = -4125,
    TDL_ENONAME = -4130,
    TDL_ENAMESERVER = -4131,
    TDL_ENOTLS = -4140,
    TDL_ETLS = -4141,
    TDL_ETLSALERT = -4142,
    TDL_ECERT = -4143,
    TDL_ECERTNAME = -4144,
    TDL_ETLSEOF = -4145,
    TDL_PENDING = -4200,
    TDL_NIL = 0,
    TDL_BOOL = 1,
    TDL_INT = 2,
    TDL_DOUBLE = 3,
    TDL_PTR = 4,
    TDL_BYTES = 5,
    TDL_CHAN = 6,
    TDL_REF = 7,
    TDL_GO_JOINABLE = 1,
    TDL_BLOCK_SHORT = 1,
    TDL_BLOCK_LONG = 2,
    TDL_RECV = 1,
    TDL_SEND = 2,
    TDL_LISTEN_REUSEPORT = 1,
    TDL_LISTEN_KEEP_PATH = 2,
    TDL_LISTEN_ALL = 3,
    TDL_FILL_SOME = 0,
    TDL_FILL_EXACT = 1,
    TDL_FILL_LINE = 2,
    TDL_FILL_ALL = 3,
    TDL_FILL_UNTIL = 4,
    TDL_NODELAY = 1,
    TDL_KEEPALIVE = 2,
    TDL_KEEPALIVE_INTERVAL = 3,
    TDL_KEEPALIVE_COUNT = 4,
    TDL_LINGER = 5,
    TDL_READ_BUFFER = 6,
    TDL_WRITE_BUFFER = 7,
    TDL_TOS = 8,
    TDL_TTL = 9,
    TDL_BROADCAST = 10,
    TDL_TLS_SERVER = 1,
    TDL_TLS_NO_VERIFY = 2,
    TDL_TLS_ANY_NAME = 4,
    TDL_TLS_ASK_CLIENT = 8,
    TDL_TLS_NEED_CLIENT = 16,
    TDL_TLS_NO_RESUME = 32,
    TDL_TLS_KNOWN_NAME = 64,
    TDL_TLS_ALL = 127,
    TDL_TLS_1_0 = 769,
    TDL_TLS_1_1 = 770,
    TDL_TLS_1_2 = 771,
    TDL_TLS_1_3 = 772,
    TDL_TLS_VERSION = 1,
    TDL_TLS_CIPHER = 2,
    TDL_TLS_ALPN = 3,
    TDL_TLS_SERVER_NAME = 4,
    TDL_TLS_SUBJECT = 5,
    TDL_TLS_ISSUER = 6,
    TDL_TLS_PEER_CERT = 7,
    TDL_TLS_VERIFY = 8,
    TDL_TLS_ERROR = 9,
    TDL_TLS_DONE = 16,
    TDL_TLS_RESUMED = 17,
    TDL_TLS_VERIFY_CODE = 18,
    TDL_TLS_VERSION_NUMBER = 19,
    TDL_TLS_UNREAD = 20,
    TDL_SERVER_CONNS = 0,
    TDL_SERVER_BUSY = 1,
    TDL_SERVER_ACCEPTED = 2,
    TDL_SERVER_TIMEOUTS = 3,
    TDL_SERVER_STARVED = 4,
    TDL_OPEN_READ = 1,
    TDL_OPEN_WRITE = 2,
    TDL_OPEN_APPEND = 4,
    TDL_OPEN_CREATE = 8,
    TDL_OPEN_EXCLUSIVE = 16,
    TDL_OPEN_TRUNCATE = 32,
    TDL_OPEN_SYNC = 64,
    TDL_OPEN_DIRECTORY = 128,
    TDL_OPEN_NOFOLLOW = 256,
    TDL_OPEN_ALL = 511,
    TDL_FILE_UNKNOWN = 0,
    TDL_FILE_REGULAR = 1,
    TDL_FILE_DIRECTORY = 2,
    TDL_FILE_LINK = 3,
    TDL_FILE_FIFO = 4,
    TDL_FILE_SOCKET = 5,
    TDL_FILE_CHARACTER = 6,
    TDL_FILE_BLOCK = 7,
    TDL_WRITE_APPEND = 1,
    TDL_WRITE_EXCLUSIVE = 2,
    TDL_WRITE_ATOMIC = 4,
    TDL_WRITE_ALL = 7,
    TDL_STDIO_INHERIT = 0,
    TDL_STDIO_NULL = -1,
    TDL_STDIO_OUT = -2,
    TDL_STDIO_PIPE = -3,
    TDL_PROCESS_GROUP = 1,
    TDL_PROCESS_SESSION = 2,
    TDL_PROCESS_KILL = 4,
    TDL_PROCESS_ALL = 7,
    TDL_WATCH_RENAME = 1,
    TDL_WATCH_CHANGE = 2,
    TDL_WATCH_LOST = 4,
    TDL_WATCHER = 1073741824,
    TDL_READABLE = 1,
    TDL_WRITABLE = 2,
    TDL_HANGUP = 4,
    TDL_EDGE = 8,
    TDL_MAX_TASKS = 1048576,
    TDL_POLL_DEADLOCK = 1,
    TDL_POLL_UNWATCHED = 2,
    TDL_POLL_BUSY = 4,
    TDL_SIM_RANDOM = 0,
    TDL_SIM_PCT = 1,
    TDL_SIM_OK = 0,
    TDL_SIM_DEADLOCK = 1,
    TDL_SIM_LEFT = 2,
    TDL_SIM_STEPS = 3,
    TDL_SIM_TIME = 4,
    TDL_SIM_LOST = 5,
    TDL_VERSION_MAJOR = 0,
    TDL_VERSION_MINOR = 1,
    TDL_VERSION_PATCH = 0,
    TDL_ABI_VERSION = 1,
    TDL_NANOSECOND = 1,
    TDL_MICROSECOND = 1000,
    TDL_MILLISECOND = 1000000,
    TDL_SECOND = 1000000000,
    TDL_MINUTE = 60000000000,
    TDL_HOUR = 3600000000000,
    TDL_FOREVER = 9223372036854775807LL,
    TDL_NOWAIT = -1,
  },
  cdef = [[
const char *tdl_version(void);
int tdl_abi_version(void);
size_t tdl_abi_size(const char *type);
const char *tdl_strerror(int code);
const char *tdl_errname(int code);
int64_t tdl_now(void);
typedef struct tdl_val {
int32_t type;
uint32_t flags;
union {
int64_t i;
double d;
void *p;
} u;
} tdl_val;
int tdl_val_type(const tdl_val *v);
void tdl_val_set_nil(tdl_val *v);
void tdl_val_set_bool(tdl_val *v, int truth);
void tdl_val_set_int(tdl_val *v, int64_t i);
void tdl_val_set_double(tdl_val *v, double d);
void tdl_val_set_ptr(tdl_val *v, void *p);
int tdl_val_set_bytes(tdl_val *v, const void *bytes, size_t n);
int tdl_val_bool(const tdl_val *v);
int64_t tdl_val_int(const tdl_val *v);
double tdl_val_double(const tdl_val *v);
void *tdl_val_ptr(const tdl_val *v);
const void *tdl_val_bytes(const tdl_val *v, size_t *n);
int tdl_val_set_fd(tdl_val *v, int fd);
int tdl_val_take_fd(const tdl_val *v);
int tdl_val_set_bundle(tdl_val *v, const void *bytes, size_t n, tdl_val *carry, uint32_t count);
int tdl_val_carried(const tdl_val *v, uint32_t i, tdl_val *out);
void tdl_val_copy(tdl_val *dst, const tdl_val *src);
void tdl_val_clear(tdl_val *v);
typedef struct tdl_g tdl_g;
typedef struct tdl_go_options {
uint32_t size;
uint32_t flags;
size_t stack;
const char *name;
} tdl_go_options;
int tdl_run(int (*main_g)(void *), void *arg);
tdl_g *tdl_go(void (*fn)(void *), void *arg);
tdl_g *tdl_go_opts(void (*fn)(void *), void *arg, const tdl_go_options *opts);
int tdl_spawn(tdl_g **g, void (*fn)(void *), void *arg, const tdl_go_options *opts);
int tdl_join(tdl_g *g);
int tdl_cancel(tdl_g *g);
int tdl_goexit(void);
void tdl_yield(void);
int tdl_sleep(int64_t ns);
int tdl_gomaxprocs(int n);
int tdl_set_max_threads(int n);
int tdl_block_begin(int hint);
int tdl_block_end(void);
int tdl_pin(void);
int tdl_unpin(void);
int tdl_num_goroutines(void);
uint64_t tdl_goid(void);
int tdl_system_stack(void (*fn)(void *), void *arg);
int tdl_stack_census(int on);
int tdl_stack_report(int fd);
typedef struct tdl_chan tdl_chan;
tdl_chan *tdl_chan_new(uint32_t cap);
void tdl_chan_free(tdl_chan *ch);
tdl_chan *tdl_chan_ref(tdl_chan *ch);
int tdl_chan_send(tdl_chan *ch, const tdl_val *v);
int tdl_chan_recv(tdl_chan *ch, tdl_val *v);
int tdl_chan_send_until(tdl_chan *ch, const tdl_val *v, int64_t deadline);
int tdl_chan_recv_until(tdl_chan *ch, tdl_val *v, int64_t deadline);
int tdl_chan_try_send(tdl_chan *ch, const tdl_val *v);
int tdl_chan_try_recv(tdl_chan *ch, tdl_val *v);
int tdl_chan_close(tdl_chan *ch);
uint32_t tdl_chan_len(tdl_chan *ch);
uint32_t tdl_chan_cap(tdl_chan *ch);
int tdl_chan_closed(tdl_chan *ch);
int tdl_val_set_chan(tdl_val *v, tdl_chan *ch);
tdl_chan *tdl_val_chan(const tdl_val *v);
typedef struct tdl_case {
tdl_chan *chan;
tdl_val *val;
int op;
int ok;
} tdl_case;
int tdl_select(tdl_case *cases, int n, int64_t deadline);
typedef struct tdl_timer tdl_timer;
tdl_timer *tdl_timer_new(int64_t when, int64_t period);
int tdl_timer_stop(tdl_timer *t);
int tdl_timer_reset(tdl_timer *t, int64_t when, int64_t period);
tdl_chan *tdl_timer_chan(tdl_timer *t);
void tdl_timer_free(tdl_timer *t);
tdl_timer *tdl_timer_func(int64_t when, int64_t period, void (*fn)(void *), void *arg);
typedef struct tdl_mutex tdl_mutex;
tdl_mutex *tdl_mutex_new(void);
int tdl_mutex_lock(tdl_mutex *m);
int tdl_mutex_lock_until(tdl_mutex *m, int64_t deadline);
int tdl_mutex_trylock(tdl_mutex *m);
int tdl_mutex_unlock(tdl_mutex *m);
int tdl_mutex_disown(tdl_mutex *m);
void tdl_mutex_free(tdl_mutex *m);
typedef struct tdl_waitgroup tdl_waitgroup;
tdl_waitgroup *tdl_waitgroup_new(void);
int tdl_waitgroup_add(tdl_waitgroup *wg, int n);
int tdl_waitgroup_done(tdl_waitgroup *wg);
int tdl_waitgroup_wait(tdl_waitgroup *wg);
int tdl_waitgroup_wait_until(tdl_waitgroup *wg, int64_t deadline);
void tdl_waitgroup_free(tdl_waitgroup *wg);
typedef struct tdl_cond tdl_cond;
tdl_cond *tdl_cond_new(tdl_mutex *m);
int tdl_cond_wait(tdl_cond *c);
int tdl_cond_wait_until(tdl_cond *c, int64_t deadline);
int tdl_cond_signal(tdl_cond *c);
int tdl_cond_broadcast(tdl_cond *c);
void tdl_cond_free(tdl_cond *c);
typedef struct tdl_sema tdl_sema;
tdl_sema *tdl_sema_new(uint32_t permits);
int tdl_sema_acquire(tdl_sema *s, uint32_t n);
int tdl_sema_acquire_until(tdl_sema *s, uint32_t n, int64_t deadline);
int tdl_sema_try_acquire(tdl_sema *s, uint32_t n);
int tdl_sema_release(tdl_sema *s, uint32_t n);
void tdl_sema_free(tdl_sema *s);
typedef struct tdl_rwmutex tdl_rwmutex;
tdl_rwmutex *tdl_rwmutex_new(void);
int tdl_rwmutex_lock(tdl_rwmutex *rw);
int tdl_rwmutex_lock_until(tdl_rwmutex *rw, int64_t deadline);
int tdl_rwmutex_trylock(tdl_rwmutex *rw);
int tdl_rwmutex_unlock(tdl_rwmutex *rw);
int tdl_rwmutex_rlock(tdl_rwmutex *rw);
int tdl_rwmutex_rlock_until(tdl_rwmutex *rw, int64_t deadline);
int tdl_rwmutex_tryrlock(tdl_rwmutex *rw);
int tdl_rwmutex_runlock(tdl_rwmutex *rw);
void tdl_rwmutex_free(tdl_rwmutex *rw);
typedef struct tdl_once tdl_once;
tdl_once *tdl_once_new(void);
int tdl_once_do(tdl_once *o, void (*fn)(void *), void *arg);
int tdl_once_do_until(tdl_once *o, void (*fn)(void *), void *arg, int64_t deadline);
int tdl_once_begin(tdl_once *o);
int tdl_once_begin_until(tdl_once *o, int64_t deadline);
int tdl_once_end(tdl_once *o);
int tdl_once_done(tdl_once *o);
void tdl_once_free(tdl_once *o);
typedef struct tdl_context tdl_context;
tdl_context *tdl_context_background(void);
tdl_context *tdl_context_with_cancel(tdl_context *parent);
tdl_context *tdl_context_with_deadline(tdl_context *parent, int64_t deadline);
tdl_context *tdl_context_with_timeout(tdl_context *parent, int64_t ns);
tdl_context *tdl_context_with_value(tdl_context *parent, const tdl_val *key, const tdl_val *v);
tdl_context *tdl_context_without_cancel(tdl_context *parent);
tdl_context *tdl_context_ref(tdl_context *c);
void tdl_context_free(tdl_context *c);
int tdl_context_cancel(tdl_context *c, int cause, const tdl_val *detail);
int tdl_context_err(tdl_context *c);
int tdl_context_cause(tdl_context *c, tdl_val *detail);
int64_t tdl_context_deadline(tdl_context *c);
int tdl_context_value(tdl_context *c, const tdl_val *key, tdl_val *v);
tdl_chan *tdl_context_done(tdl_context *c);
int tdl_context_wait(tdl_context *c);
int tdl_context_wait_until(tdl_context *c, int64_t deadline);
typedef struct tdl_after tdl_after;
tdl_after *tdl_context_after_func(tdl_context *c, void (*fn)(void *), void *arg);
int tdl_after_stop(tdl_after *a);
void tdl_after_free(tdl_after *a);
typedef struct tdl_errgroup tdl_errgroup;
tdl_errgroup *tdl_errgroup_new(tdl_context *parent, uint32_t limit);
tdl_context *tdl_errgroup_context(tdl_errgroup *eg);
int tdl_errgroup_go(tdl_errgroup *eg, int (*fn)(void *), void *arg);
int tdl_errgroup_go_until(tdl_errgroup *eg, int (*fn)(void *), void *arg, int64_t deadline);
int tdl_errgroup_try_go(tdl_errgroup *eg, int (*fn)(void *), void *arg);
int tdl_errgroup_begin(tdl_errgroup *eg);
int tdl_errgroup_begin_until(tdl_errgroup *eg, int64_t deadline);
int tdl_errgroup_done(tdl_errgroup *eg, int result);
int tdl_errgroup_wait(tdl_errgroup *eg);
int tdl_errgroup_wait_until(tdl_errgroup *eg, int64_t deadline);
int tdl_errgroup_error(tdl_errgroup *eg);
int tdl_errgroup_set_limit(tdl_errgroup *eg, uint32_t limit);
void tdl_errgroup_free(tdl_errgroup *eg);
typedef struct tdl_singleflight tdl_singleflight;
struct tdl_outcome;
tdl_singleflight *tdl_singleflight_new(void);
int tdl_singleflight_do(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
void *arg, tdl_val *v, int *shared);
int tdl_singleflight_do_until(tdl_singleflight *sf, const void *key, size_t n, int (*fn)(void *, tdl_val *),
void *arg, tdl_val *v, int *shared, int64_t deadline);
int tdl_singleflight_begin(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out);
int tdl_singleflight_begin_until(tdl_singleflight *sf, const void *key, size_t n, struct tdl_outcome *out,
int64_t deadline);
int tdl_singleflight_end(tdl_singleflight *sf, int64_t ticket, int result, const tdl_val *v);
int tdl_singleflight_forget(tdl_singleflight *sf, const void *key, size_t n);
void tdl_singleflight_free(tdl_singleflight *sf);
typedef struct tdl_scope tdl_scope;
tdl_scope *tdl_scope_new(tdl_context *parent, int64_t deadline);
tdl_context *tdl_scope_context(tdl_scope *s);
int tdl_scope_go(tdl_scope *s, int (*fn)(void *), void *arg);
int tdl_scope_begin(tdl_scope *s);
int tdl_scope_done(tdl_scope *s, int result);
int tdl_scope_wait(tdl_scope *s);
int tdl_scope_wait_until(tdl_scope *s, int64_t deadline);
int tdl_scope_error(tdl_scope *s);
void tdl_scope_free(tdl_scope *s);
typedef struct tdl_addr {
uint32_t length;
uint32_t unused;
uint64_t sockaddr[16];
} tdl_addr;
int tdl_addr_parse(tdl_addr *a, const char *network, const char *text, int listen);
int tdl_addr_format(const tdl_addr *a, char *buf, size_t size);
int tdl_addr_host(const tdl_addr *a, char *buf, size_t size);
int tdl_addr_port(const tdl_addr *a);
int tdl_addr_set_port(tdl_addr *a, int port);
int tdl_addr_equal(const tdl_addr *a, const tdl_addr *b);
int tdl_addr_set_sockaddr(tdl_addr *a, const void *sockaddr, size_t n);
const void *tdl_addr_sockaddr(const tdl_addr *a, size_t *n);
int tdl_lookup(const char *network, const char *host, int port, tdl_addr *found, int max, int64_t deadline);
int tdl_lookup_name(const tdl_addr *a, char *buf, size_t size, int64_t deadline);
typedef struct tdl_buf tdl_buf;
typedef struct tdl_iovec {
const void *data;
size_t n;
} tdl_iovec;
tdl_buf *tdl_buf_new(void);
void tdl_buf_free(tdl_buf *b);
int64_t tdl_buf_len(const tdl_buf *b);
int tdl_buf_append(tdl_buf *b, const void *bytes, size_t n);
void *tdl_buf_reserve(tdl_buf *b, size_t n);
int tdl_buf_commit(tdl_buf *b, size_t n);
int tdl_buf_share(tdl_buf *to, const tdl_buf *from, size_t offset, size_t n);
int tdl_buf_move(tdl_buf *to, tdl_buf *from, size_t n);
int tdl_buf_skip(tdl_buf *b, size_t n);
const void *tdl_buf_front(const tdl_buf *b, size_t *n);
const void *tdl_buf_peek(tdl_buf *b, size_t n);
int64_t tdl_buf_copy(const tdl_buf *b, size_t offset, void *to, size_t n);
int64_t tdl_buf_find(const tdl_buf *b, size_t offset, const void *what, size_t n);
int tdl_buf_parts(const tdl_buf *b, tdl_iovec *v, int max);
typedef struct tdl_listener tdl_listener;
typedef struct tdl_conn tdl_conn;
int tdl_listen(const char *network, const char *address, tdl_listener **l);
typedef struct tdl_listen_options {
uint32_t size;
uint32_t flags;
uint32_t backlog;
uint32_t unused;
} tdl_listen_options;
int tdl_listen_opts(const char *network, const char *address, const tdl_listen_options *o, tdl_listener **l);
int tdl_listen_shards(const char *network, const char *address, const tdl_listen_options *o,
tdl_listener **l, int n);
int tdl_listener_accept(tdl_listener *l, tdl_conn **c);
int tdl_listener_wait(tdl_listener *l);
int tdl_listener_try_accept(tdl_listener *l, tdl_conn **c);
int tdl_listener_port(tdl_listener *l);
int tdl_listener_address(tdl_listener *l, char *buf, size_t size);
int tdl_listener_addr(tdl_listener *l, tdl_addr *a);
void tdl_listener_set_deadline(tdl_listener *l, int64_t when);
int tdl_listener_fd(tdl_listener *l);
int tdl_listener_close(tdl_listener *l);
void tdl_listener_free(tdl_listener *l);
int tdl_dial(const char *network, const char *address, int64_t timeout_ns, tdl_conn **c);
typedef struct tdl_dial_options {
uint32_t size;
uint32_t flags;
int64_t timeout;
int64_t deadline;
int64_t fallback_delay;
const char *local;
} tdl_dial_options;
int tdl_dial_opts(const char *network, const char *address, const tdl_dial_options *o, tdl_conn **c);
int tdl_dial_list(const char *network, const tdl_addr *addresses, int n, const tdl_dial_options *o,
tdl_conn **c);
int tdl_pipe_new(size_t capacity, tdl_conn **a, tdl_conn **b);
int tdl_io_pipe(tdl_conn **r, tdl_conn **w);
int tdl_conn_close_with(tdl_conn *c, int code);
int tdl_conn_adopt(int fd, tdl_conn **c);
int tdl_listener_adopt(int fd, tdl_listener **l);
int tdl_conn_release(tdl_conn *c);
int tdl_listener_release(tdl_listener *l);
int tdl_val_set_conn(tdl_val *v, tdl_conn *c);
int tdl_val_take_conn(const tdl_val *v, tdl_conn **c);
int64_t tdl_conn_read(tdl_conn *c, void *buf, size_t n);
int64_t tdl_conn_write(tdl_conn *c, const void *buf, size_t n);
int64_t tdl_conn_fill(tdl_conn *c, int how, size_t limit);
int64_t tdl_conn_fill_until(tdl_conn *c, const void *delim, size_t n, size_t limit);
const char *tdl_conn_peek(tdl_conn *c, size_t *n);
int tdl_conn_skip(tdl_conn *c, size_t n);
int tdl_conn_take_buf(tdl_conn *c, size_t n, tdl_buf *to);
int64_t tdl_conn_writev(tdl_conn *c, const tdl_iovec *v, int n);
int64_t tdl_conn_write_buf(tdl_conn *c, tdl_buf *b);
int tdl_conn_copy(tdl_conn *to, tdl_conn *from, int64_t n, int64_t *copied);
int tdl_conn_send_file(tdl_conn *c, int fd, int64_t offset, int64_t n, int64_t *sent);
void tdl_conn_set_deadline(tdl_conn *c, int64_t when);
void tdl_conn_set_read_deadline(tdl_conn *c, int64_t when);
void tdl_conn_set_write_deadline(tdl_conn *c, int64_t when);
void tdl_conn_set_timeout(tdl_conn *c, int64_t ns);
int tdl_conn_close_read(tdl_conn *c);
int tdl_conn_close_write(tdl_conn *c);
int tdl_conn_fd(tdl_conn *c);
int tdl_conn_peername(tdl_conn *c, char *buf, size_t size);
int tdl_conn_sockname(tdl_conn *c, char *buf, size_t size);
int tdl_conn_peeraddr(tdl_conn *c, tdl_addr *a);
int tdl_conn_sockaddr(tdl_conn *c, tdl_addr *a);
int tdl_conn_close(tdl_conn *c);
void tdl_conn_free(tdl_conn *c);
int64_t tdl_conn_send_fds(tdl_conn *c, const void *buf, size_t n, const int *fds, int nfds);
int64_t tdl_conn_recv_fds(tdl_conn *c, void *buf, size_t n, int *fds, int *nfds);
int tdl_conn_peercred(tdl_conn *c, int64_t *pid, int64_t *uid, int64_t *gid);
int tdl_conn_set_option(tdl_conn *c, int option, int64_t value);
int tdl_listener_set_option(tdl_listener *l, int option, int64_t value);
int64_t tdl_conn_option(tdl_conn *c, int option);
int64_t tdl_listener_option(tdl_listener *l, int option);
typedef struct tdl_tcp_info {
uint32_t size;
uint32_t state;
int64_t rtt, rtt_var, rtt_min;
int64_t rto;
int64_t mss;
int64_t cwnd, ssthresh;
int64_t unacked, lost;
int64_t retransmits;
int64_t bytes_acked, bytes_received, bytes_unsent;
int64_t delivery_rate;
} tdl_tcp_info;
int tdl_conn_tcp_info(tdl_conn *c, tdl_tcp_info *info);
typedef struct tdl_tls tdl_tls;
typedef struct tdl_tls_session tdl_tls_session;
typedef struct tdl_tls_options {
uint32_t size;
uint32_t flags;
int32_t min_version;
int32_t max_version;
const char *cert;
const char *key;
const char *password;
const char *ca;
const char *alpn;
const char *ciphers;
} tdl_tls_options;
int tdl_tls_new(const tdl_tls_options *o, tdl_tls **t, char *why, size_t size);
int tdl_tls_add_name(tdl_tls *t, const char *name, tdl_tls *other);
void tdl_tls_free(tdl_tls *t);
int tdl_tls_library(char *buf, size_t size);
int tdl_conn_set_tls(tdl_conn *c, tdl_tls *t, const char *server_name, tdl_tls_session *session);
int tdl_conn_handshake(tdl_conn *c);
int tdl_conn_end_tls(tdl_conn *c);
tdl_tls_session *tdl_conn_tls_session(tdl_conn *c);
void tdl_tls_session_free(tdl_tls_session *s);
int tdl_conn_tls_text(tdl_conn *c, int what, char *buf, size_t size);
int tdl_conn_tls_number(tdl_conn *c, int what);
int tdl_conn_has_tls(tdl_conn *c);
typedef struct tdl_server tdl_server;
typedef void (*tdl_handler)(tdl_conn *c, void *arg);
typedef struct tdl_server_options {
uint32_t size;
uint32_t max_conns;
int64_t idle_timeout;
tdl_handler handler;
void *arg;
} tdl_server_options;
int tdl_server_new(tdl_listener *const *l, int n, const tdl_server_options *o, tdl_server **s);
int tdl_server_next(tdl_server *s, int64_t deadline, tdl_conn **c);
int tdl_server_park(tdl_conn *c);
int tdl_server_shutdown(tdl_server *s, int64_t deadline);
int tdl_server_close(tdl_server *s);
void tdl_server_free(tdl_server *s);
int64_t tdl_server_stat(tdl_server *s, int what);
typedef struct tdl_dgram tdl_dgram;
int tdl_dgram_listen(const char *network, const char *address, tdl_dgram **d);
int tdl_dgram_dial(const char *network, const char *address, const char *from, tdl_dgram **d);
int tdl_dgram_adopt(int fd, tdl_dgram **d);
int tdl_dgram_release(tdl_dgram *d);
int64_t tdl_dgram_recv(tdl_dgram *d, void *buf, size_t n);
int64_t tdl_dgram_recvfrom(tdl_dgram *d, void *buf, size_t n, tdl_addr *from);
int64_t tdl_dgram_send(tdl_dgram *d, const void *buf, size_t n);
int64_t tdl_dgram_sendto(tdl_dgram *d, const void *buf, size_t n, const tdl_addr *to);
typedef struct tdl_packet {
void *data;
size_t size;
size_t n;
tdl_addr *addr;
int32_t code;
uint32_t unused;
} tdl_packet;
int tdl_dgram_recv_batch(tdl_dgram *d, tdl_packet *packets, int n);
int tdl_dgram_send_batch(tdl_dgram *d, tdl_packet *packets, int n);
void tdl_dgram_set_deadline(tdl_dgram *d, int64_t when);
void tdl_dgram_set_read_deadline(tdl_dgram *d, int64_t when);
void tdl_dgram_set_write_deadline(tdl_dgram *d, int64_t when);
void tdl_dgram_set_timeout(tdl_dgram *d, int64_t ns);
int tdl_dgram_set_option(tdl_dgram *d, int option, int64_t value);
int64_t tdl_dgram_option(tdl_dgram *d, int option);
int tdl_dgram_sockaddr(tdl_dgram *d, tdl_addr *a);
int tdl_dgram_peeraddr(tdl_dgram *d, tdl_addr *a);
int tdl_dgram_fd(tdl_dgram *d);
int tdl_dgram_close(tdl_dgram *d);
void tdl_dgram_free(tdl_dgram *d);
typedef struct tdl_fd tdl_fd;
int tdl_fd_adopt(int fd, tdl_fd **f);
int tdl_fd_dup(int fd, tdl_fd **f);
int tdl_fd_release(tdl_fd *f);
int tdl_fd_wait_readable(tdl_fd *f);
int tdl_fd_wait_writable(tdl_fd *f);
int64_t tdl_fd_read(tdl_fd *f, void *buf, size_t n);
int64_t tdl_fd_write(tdl_fd *f, const void *buf, size_t n);
void tdl_fd_set_deadline(tdl_fd *f, int64_t when);
void tdl_fd_set_read_deadline(tdl_fd *f, int64_t when);
void tdl_fd_set_write_deadline(tdl_fd *f, int64_t when);
void tdl_fd_set_timeout(tdl_fd *f, int64_t ns);
int tdl_fd_number(tdl_fd *f);
int tdl_fd_close(tdl_fd *f);
void tdl_fd_free(tdl_fd *f);
typedef struct tdl_file tdl_file;
int tdl_set_io_threads(int n);
int tdl_file_open(const char *path, int flags, int mode, tdl_file **f, int64_t deadline);
int tdl_file_open_temp(const char *text, tdl_file **f, char *buf, size_t size, int64_t deadline);
int tdl_file_adopt(int fd, tdl_file **f);
int tdl_file_release(tdl_file *f);
int tdl_file_fd(tdl_file *f);
int64_t tdl_file_read(tdl_file *f, void *buf, size_t n, int64_t deadline);
int64_t tdl_file_pread(tdl_file *f, void *buf, size_t n, int64_t offset, int64_t deadline);
int64_t tdl_file_write(tdl_file *f, const void *buf, size_t n, int64_t deadline);
int64_t tdl_file_pwrite(tdl_file *f, const void *buf, size_t n, int64_t offset, int64_t deadline);
int64_t tdl_file_seek(tdl_file *f, int64_t offset, int whence);
int tdl_file_sync(tdl_file *f, int data_only, int64_t deadline);
int tdl_file_truncate(tdl_file *f, int64_t size, int64_t deadline);
int64_t tdl_file_copy(tdl_file *to, tdl_file *from, int64_t offset, size_t n, int64_t deadline);
int tdl_file_close(tdl_file *f);
void tdl_file_free(tdl_file *f);
typedef struct tdl_stat {
uint32_t size;
int32_t type;
int64_t mode;
int64_t length;
int64_t dev, ino, rdev, links, uid, gid;
int64_t block_size, blocks;
int64_t atime, mtime, ctime, btime;
} tdl_stat;
int tdl_fs_stat(const char *path, int follow, tdl_stat *st, int64_t deadline);
int tdl_file_stat(tdl_file *f, tdl_stat *st, int64_t deadline);
int tdl_fs_access(const char *path, int how, int64_t deadline);
int tdl_fs_mkdir(const char *path, int mode, int64_t deadline);
int tdl_fs_rmdir(const char *path, int64_t deadline);
int tdl_fs_unlink(const char *path, int64_t deadline);
int tdl_fs_rename(const char *from, const char *to, int64_t deadline);
int tdl_fs_link(const char *to, const char *path, int64_t deadline);
int tdl_fs_symlink(const char *to, const char *path, int64_t deadline);
int tdl_fs_chmod(const char *path, int mode, int64_t deadline);
int tdl_fs_chown(const char *path, int64_t uid, int64_t gid, int follow, int64_t deadline);
int tdl_fs_utime(const char *path, int64_t atime, int64_t mtime, int follow, int64_t deadline);
int tdl_fs_copy(const char *from, const char *to, int exclusive, int64_t deadline);
int tdl_fs_readlink(const char *path, char *buf, size_t size, int64_t deadline);
int tdl_fs_realpath(const char *path, char *buf, size_t size, int64_t deadline);
int tdl_fs_mkdtemp(const char *text, char *buf, size_t size, int64_t deadline);
int tdl_fs_read(const char *path, size_t limit, tdl_val *v, int64_t deadline);
int tdl_fs_write(const char *path, const void *buf, size_t n, int mode, int flags, int64_t deadline);
typedef struct tdl_dir tdl_dir;
int tdl_fs_scan(const char *path, tdl_dir **d, int64_t deadline);
int tdl_dir_next(tdl_dir *d, const char **name, int *type);
void tdl_dir_free(tdl_dir *d);
typedef struct tdl_process tdl_process;
typedef struct tdl_process_options {
uint32_t size;
uint32_t flags;
const char *const *env;
const char *cwd;
int32_t in, out, err;
int32_t unused;
} tdl_process_options;
int tdl_process_start(const char *file, const char *const *argv, const tdl_process_options *o,
tdl_process **p);
int64_t tdl_process_pid(tdl_process *p);
tdl_conn *tdl_process_pipe(tdl_process *p, int which);
int tdl_process_wait(tdl_process *p, int *signum, int64_t deadline);
int tdl_process_kill(tdl_process *p, int signum);
void tdl_process_free(tdl_process *p);
int tdl_signal_notify(tdl_chan *ch, int signum);
int tdl_signal_stop(tdl_chan *ch, int signum);
int tdl_signal_ignore(int signum);
int tdl_signal_reset(int signum);
typedef struct tdl_watch tdl_watch;
int tdl_watch_open(const char *path, tdl_watch **w, int64_t deadline);
int tdl_watch_next(tdl_watch *w, char *buf, size_t size, int64_t deadline);
int tdl_watch_close(tdl_watch *w);
void tdl_watch_free(tdl_watch *w);
int tdl_tty_is(int fd);
int tdl_tty_size(int fd, int *columns, int *rows);
int tdl_tty_raw(int fd, int on);
typedef struct tdl_host tdl_host;
typedef struct tdl_event {
uint32_t task;
int32_t result;
} tdl_event;
typedef struct tdl_outcome {
tdl_val val;
int64_t extra;
} tdl_outcome;
int tdl_host_open(const char *name, tdl_host **h);
int tdl_host_close(tdl_host *h);
int tdl_host_adopt(tdl_host *h);
int tdl_host_move(tdl_host *h);
int tdl_host_left(tdl_host *h);
int tdl_host_poll(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns);
int tdl_host_poll_opts(tdl_host *h, tdl_event *events, int max, int64_t timeout_ns, int flags);
int tdl_host_wake(tdl_host *h);
int tdl_host_fd(tdl_host *h);
int64_t tdl_host_timeout(tdl_host *h);
tdl_outcome *tdl_host_outcomes(tdl_host *h);
int tdl_host_watch(tdl_host *h, int fd, int readiness);
int tdl_host_watch_modify(tdl_host *h, int watcher, int readiness);
int tdl_host_watch_want(tdl_host *h, int watcher, int readiness);
int tdl_host_unwatch(tdl_host *h, int watcher);
int tdl_task_new(tdl_host *h, int run);
int tdl_task_free(tdl_host *h, uint32_t task);
int tdl_task_set_name(tdl_host *h, uint32_t task, const char *name);
int tdl_task_cancel(tdl_host *h, uint32_t task);
int tdl_task_waits(tdl_host *h, uint32_t task);
int tdl_task_park_start(tdl_host *h, uint32_t task, int64_t deadline);
int tdl_task_ready(tdl_host *h, uint32_t task, int result);
typedef struct tdl_worker_options {
uint32_t size;
uint32_t flags;
int (*entry)(void *state, int a, int b, int c);
void *state;
int32_t a, b, c;
int32_t unused;
void (*end)(void *state);
const char *name;
} tdl_worker_options;
int tdl_worker_start(const tdl_worker_options *o, tdl_chan **done);
int tdl_yield_start(tdl_host *h, uint32_t task);
int tdl_sleep_start(tdl_host *h, uint32_t task, int64_t ns);
int tdl_sim_wait_start(tdl_host *h, uint32_t task);
int tdl_join_start(tdl_host *h, uint32_t task, tdl_g *g, int64_t deadline);
int tdl_chan_send_start(tdl_host *h, uint32_t task, tdl_chan *ch, const tdl_val *v, int64_t deadline);
int tdl_chan_recv_start(tdl_host *h, uint32_t task, tdl_chan *ch, int64_t deadline);
int tdl_select_start(tdl_host *h, uint32_t task, const tdl_case *cases, int n, int64_t deadline);
int tdl_mutex_lock_start(tdl_host *h, uint32_t task, tdl_mutex *m, int64_t deadline);
int tdl_cond_wait_start(tdl_host *h, uint32_t task, tdl_cond *c, int64_t deadline);
int tdl_sema_acquire_start(tdl_host *h, uint32_t task, tdl_sema *s, uint32_t n, int64_t deadline);
int tdl_waitgroup_wait_start(tdl_host *h, uint32_t task, tdl_waitgroup *wg, int64_t deadline);
int tdl_rwmutex_lock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
int tdl_rwmutex_rlock_start(tdl_host *h, uint32_t task, tdl_rwmutex *rw, int64_t deadline);
int tdl_once_begin_start(tdl_host *h, uint32_t task, tdl_once *o, int64_t deadline);
int tdl_context_wait_start(tdl_host *h, uint32_t task, tdl_context *c, int64_t deadline);
int tdl_errgroup_begin_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
int tdl_errgroup_wait_start(tdl_host *h, uint32_t task, tdl_errgroup *eg, int64_t deadline);
int tdl_singleflight_begin_start(tdl_host *h, uint32_t task, tdl_singleflight *sf, const void *key, size_t n,
int64_t deadline);
int tdl_scope_wait_start(tdl_host *h, uint32_t task, tdl_scope *s, int64_t deadline);
int tdl_listener_accept_start(tdl_host *h, uint32_t task, tdl_listener *l);
int tdl_listener_wait_start(tdl_host *h, uint32_t task, tdl_listener *l);
int tdl_dial_start(tdl_host *h, uint32_t task, const char *network, const char *address, int64_t timeout_ns);
int tdl_conn_read_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n);
int tdl_conn_write_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n);
int tdl_conn_fill_start(tdl_host *h, uint32_t task, tdl_conn *c, int how, size_t limit);
int tdl_conn_handshake_start(tdl_host *h, uint32_t task, tdl_conn *c);
int tdl_conn_end_tls_start(tdl_host *h, uint32_t task, tdl_conn *c);
int tdl_conn_copy_start(tdl_host *h, uint32_t task, tdl_conn *to, tdl_conn *from, int64_t n);
int tdl_conn_send_file_start(tdl_host *h, uint32_t task, tdl_conn *c, int fd, int64_t offset, int64_t n);
int tdl_server_next_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
int tdl_server_shutdown_start(tdl_host *h, uint32_t task, tdl_server *s, int64_t deadline);
int tdl_conn_fill_until_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *delim, size_t n,
size_t limit);
int tdl_conn_writev_start(tdl_host *h, uint32_t task, tdl_conn *c, const tdl_iovec *v, int n);
int tdl_conn_write_buf_start(tdl_host *h, uint32_t task, tdl_conn *c, tdl_buf *b);
int tdl_dial_opts_start(tdl_host *h, uint32_t task, const char *network, const char *address,
const tdl_dial_options *o);
int tdl_dial_list_start(tdl_host *h, uint32_t task, const char *network, const tdl_addr *addresses, int n,
const tdl_dial_options *o);
int tdl_conn_send_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, const void *buf, size_t n,
const int *fds, int nfds);
int tdl_conn_recv_fds_start(tdl_host *h, uint32_t task, tdl_conn *c, void *buf, size_t n, int *fds,
int *nfds);
int tdl_dgram_recv_start(tdl_host *h, uint32_t task, tdl_dgram *d, void *buf, size_t n, tdl_addr *from);
int tdl_dgram_send_start(tdl_host *h, uint32_t task, tdl_dgram *d, const void *buf, size_t n,
const tdl_addr *to);
int tdl_dgram_recv_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
int tdl_dgram_send_batch_start(tdl_host *h, uint32_t task, tdl_dgram *d, tdl_packet *packets, int n);
int tdl_fd_wait_start(tdl_host *h, uint32_t task, tdl_fd *f, int readiness);
int tdl_fd_read_start(tdl_host *h, uint32_t task, tdl_fd *f, void *buf, size_t n);
int tdl_fd_write_start(tdl_host *h, uint32_t task, tdl_fd *f, const void *buf, size_t n);
int tdl_file_open_start(tdl_host *h, uint32_t task, const char *path, int flags, int mode, int64_t deadline);
int tdl_file_open_temp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
int64_t deadline);
int tdl_file_read_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t deadline);
int tdl_file_pread_start(tdl_host *h, uint32_t task, tdl_file *f, void *buf, size_t n, int64_t offset,
int64_t deadline);
int tdl_file_write_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
int64_t deadline);
int tdl_file_pwrite_start(tdl_host *h, uint32_t task, tdl_file *f, const void *buf, size_t n,
int64_t offset, int64_t deadline);
int tdl_file_sync_start(tdl_host *h, uint32_t task, tdl_file *f, int data_only, int64_t deadline);
int tdl_file_truncate_start(tdl_host *h, uint32_t task, tdl_file *f, int64_t size, int64_t deadline);
int tdl_file_copy_start(tdl_host *h, uint32_t task, tdl_file *to, tdl_file *from, int64_t offset, size_t n,
int64_t deadline);
int tdl_file_stat_start(tdl_host *h, uint32_t task, tdl_file *f, tdl_stat *st, int64_t deadline);
int tdl_fs_stat_start(tdl_host *h, uint32_t task, const char *path, int follow, tdl_stat *st,
int64_t deadline);
int tdl_fs_access_start(tdl_host *h, uint32_t task, const char *path, int how, int64_t deadline);
int tdl_fs_mkdir_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
int tdl_fs_rmdir_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
int tdl_fs_unlink_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
int tdl_fs_rename_start(tdl_host *h, uint32_t task, const char *from, const char *to, int64_t deadline);
int tdl_fs_link_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
int tdl_fs_symlink_start(tdl_host *h, uint32_t task, const char *to, const char *path, int64_t deadline);
int tdl_fs_chmod_start(tdl_host *h, uint32_t task, const char *path, int mode, int64_t deadline);
int tdl_fs_chown_start(tdl_host *h, uint32_t task, const char *path, int64_t uid, int64_t gid, int follow,
int64_t deadline);
int tdl_fs_utime_start(tdl_host *h, uint32_t task, const char *path, int64_t atime, int64_t mtime,
int follow, int64_t deadline);
int tdl_fs_copy_start(tdl_host *h, uint32_t task, const char *from, const char *to, int exclusive,
int64_t deadline);
int tdl_fs_readlink_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
int64_t deadline);
int tdl_fs_realpath_start(tdl_host *h, uint32_t task, const char *path, char *buf, size_t size,
int64_t deadline);
int tdl_fs_mkdtemp_start(tdl_host *h, uint32_t task, const char *text, char *buf, size_t size,
int64_t deadline);
int tdl_fs_read_start(tdl_host *h, uint32_t task, const char *path, size_t limit, int64_t deadline);
int tdl_fs_write_start(tdl_host *h, uint32_t task, const char *path, const void *buf, size_t n, int mode,
int flags, int64_t deadline);
int tdl_lookup_start(tdl_host *h, uint32_t task, const char *network, const char *host, int port,
tdl_addr *found, int max, int64_t deadline);
int tdl_lookup_name_start(tdl_host *h, uint32_t task, const tdl_addr *a, char *buf, size_t size,
int64_t deadline);
int tdl_fs_scan_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
int tdl_process_wait_start(tdl_host *h, uint32_t task, tdl_process *p, int64_t deadline);
int tdl_watch_open_start(tdl_host *h, uint32_t task, const char *path, int64_t deadline);
int tdl_watch_next_start(tdl_host *h, uint32_t task, tdl_watch *w, char *buf, size_t size,
int64_t deadline);
tdl_chan *tdl_chan_new_local(tdl_host *h, uint32_t cap);
void tdl_chan_adopt_local(tdl_chan *ch);
int tdl_chan_peek_local(tdl_chan *ch, uint32_t i, tdl_val *v);
int tdl_chan_waiter_local(tdl_chan *ch, const void **at);
typedef struct tdl_sim_options {
uint32_t size;
int32_t strategy;
uint64_t seed;
int32_t procs;
int32_t depth;
uint64_t max_steps;
int64_t start_ns;
int64_t max_ns;
} tdl_sim_options;
typedef struct tdl_sim_report {
uint64_t seed, hash;
uint64_t steps, switches;
int64_t ns;
int32_t reason;
int32_t result;
int32_t left;
const char *text;
const char *dump;
} tdl_sim_report;
int tdl_sim_run(const tdl_sim_options *o, int (*main_g)(void *), void *arg, tdl_sim_report *r);
int tdl_sim_begin(const tdl_sim_options *o);
int tdl_sim_end(tdl_sim_report *r);
int tdl_sim_wait(void);
uint64_t tdl_sim_random(void);
int tdl_fault_set(const char *text);
int tdl_fault_check(const char *text, char *why, size_t size);
int64_t tdl_fault_count(const char *what);
int tdl_set_netpoll(const char *name);
const char *tdl_netpoll_name(void);
int tdl_netpoll_reason(char *buf, size_t size);
int tdl_dump(int fd);
int tdl_task_describe(tdl_host *h, uint32_t task, char *buf, size_t size);
int64_t tdl_metric(const char *name);
]],
}
