/* SPDX-License-Identifier: MIT
 * Loading OpenSSL, and telling which one it is. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "net/tls_lib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "sched/ops.h"
#include "sys/lock.h"
#include "sys/sys.h"

#ifdef TDL_HAVE_TLS

struct tdl_openssl tdl_ossl;

#ifdef __APPLE__
static const char *const libraries[] = {"libssl.3.dylib", "libcrypto.3.dylib"};
#else
static const char *const libraries[] = {"libssl.so.3", "libcrypto.so.3"};
#endif

/* one: somebody loads, and the others wait; it is held over what may take
 * milliseconds, but once in a process */
static struct {
    tdl_lock lock;
    _Atomic int state; /* 0: not yet; 1: loaded; -1: not to be had. release pairs with the acquire in tdl_tls_load */
    char why[256];
} loaded = {.lock = TDL_LOCK_INIT(RANK_TLS)};

static bool get(void *library, const char *name, void *pointer) {
    void *symbol = dlsym(library, name);
    memcpy(pointer, &symbol, sizeof symbol);
    if (!symbol) snprintf(loaded.why, sizeof loaded.why, "OpenSSL has no %s: it is not version 3", name);
    return symbol != NULL;
}

static bool open_both(void *library[2]) {
    for (int i = 0; i < 2; i++) {
        library[i] = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        if (library[i]) continue;
        const char *said = dlerror();
        snprintf(loaded.why, sizeof loaded.why, "OpenSSL 3 cannot be loaded: %s", said ? said : libraries[i]);
        return false;
    }
    return true;
}

static bool fill_table(void) {
    void *library[2];
    if (!open_both(library)) return false;
#define X(name) \
    if (!get(library[0], #name, &tdl_ossl.name)) return false;
    TDL_LIBSSL(X)
#undef X
#define X(name) \
    if (!get(library[1], #name, &tdl_ossl.name)) return false;
    TDL_LIBCRYPTO(X)
#undef X
    /* threads of ours may be in it while the process ends */
    if (tdl_ossl.OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL) == 1) return true;
    snprintf(loaded.why, sizeof loaded.why, "OpenSSL does not initialise");
    return false;
}

static void load(void *arg) {
    (void)arg;
    tdl_lock_take(&loaded.lock);
    if (at_load_rlx(&loaded.state) == 0) at_store_rel(&loaded.state, fill_table() ? 1 : -1);
    tdl_unlock(&loaded.lock);
}

int tdl_tls_load(char *why, size_t size) {
    if (at_load_acq(&loaded.state) == 0) tdl_system_stack(load, NULL); /* the loader needs more than a goroutine has */
    if (at_load_acq(&loaded.state) > 0) return 0;
    snprintf(why, size, "%s", loaded.why);
    return TDL_ENOTLS;
}

int tdl_tls_library(char *buf, size_t size) {
    char why[256];
    if (tdl_forked()) return TDL_EFORKED;
    if (!buf && size) return TDL_EINVAL;
    int r = tdl_tls_load(why, sizeof why);
    int n = snprintf(buf, size, "%s", r < 0 ? why : tdl_ossl.OpenSSL_version(OPENSSL_VERSION));
    return r < 0 ? r : n;
}

#else

int tdl_tls_load(char *why, size_t size) {
    snprintf(why, size, "this library was built without the headers of OpenSSL 3 (Debian: libssl-dev)");
    return TDL_ENOTLS;
}

int tdl_tls_library(char *buf, size_t size) {
    if (!buf && size) return TDL_EINVAL;
    return tdl_tls_load(buf, size);
}

#endif
