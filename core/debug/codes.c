/* SPDX-License-Identifier: MIT
 * Names and meanings of codes, the version, the sizes of the ABI. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>
#include <uv.h>

#include "treadle.h"

static const struct {
    int code;
    const char *name, *text;
} own[] = {
    {TDL_ECLOSED, "TDL_ECLOSED", "closed"},
    {TDL_ETIMEDOUT, "TDL_ETIMEDOUT", "deadline passed"},
    {TDL_ECANCELED, "TDL_ECANCELED", "cancelled"},
    {TDL_EAGAIN, "TDL_EAGAIN", "nothing ready"},
    {TDL_EINVAL, "TDL_EINVAL", "invalid argument"},
    {TDL_ENOMEM, "TDL_ENOMEM", "out of memory"},
    {TDL_EFORKED, "TDL_EFORKED", "no runtime in the child of a fork"},
    {TDL_EBUSY, "TDL_EBUSY", "already running or in use"},
    {TDL_EHOST, "TDL_EHOST", "blocking call on a host thread, or host call on another thread"},
    {TDL_ENOTLOCKED, "TDL_ENOTLOCKED", "unlock of unlocked mutex"},
    {TDL_ENEGATIVE, "TDL_ENEGATIVE", "negative wait group counter"},
    {TDL_EADDRESS, "TDL_EADDRESS", "address does not parse"},
    {TDL_EEOF, "TDL_EEOF", "end of stream"},
    {TDL_ETOOLONG, "TDL_ETOOLONG", "longer than the limit"},
    {TDL_EDEADLOCK, "TDL_EDEADLOCK", "the caller would wait for itself"},
    {TDL_ETHREADS, "TDL_ETHREADS", "the limit of threads is reached"},
    {TDL_ESTACK, "TDL_ESTACK", "stack size out of range: 4 KiB to 8 MiB"},
    {TDL_ESTACKS, "TDL_ESTACKS",
     "no more stacks: the system refuses another guard page (vm.max_map_count; two mappings a stack before Linux 6.13)"},
    {TDL_ESYSTEM, "TDL_ESYSTEM", "would wait inside tdl_system_stack"},
    {TDL_ENETWORK, "TDL_ENETWORK", "no such network"},
    {TDL_EPORT, "TDL_EPORT", "port missing or out of range"},
    {TDL_ETRUNCATED, "TDL_ETRUNCATED", "message truncated"},
    {TDL_ENOPOLL, "TDL_ENOPOLL", "descriptor cannot be polled"},
    {TDL_ESIM, "TDL_ESIM", "crosses the border of a simulation"},
    {TDL_ELIMIT, "TDL_ELIMIT", "the simulation has reached its limit"},
    {TDL_ENONAME, "TDL_ENONAME", "no such host"},
    {TDL_ENAMESERVER, "TDL_ENAMESERVER", "no name server has answered"},
    {TDL_ENOTLS, "TDL_ENOTLS", "OpenSSL 3 cannot be loaded"},
    {TDL_ETLS, "TDL_ETLS", "TLS failed"},
    {TDL_ETLSALERT, "TDL_ETLSALERT", "TLS refused by the peer"},
    {TDL_ECERT, "TDL_ECERT", "certificate not trusted"},
    {TDL_ECERTNAME, "TDL_ECERTNAME", "certificate is for another name"},
    {TDL_ETLSEOF, "TDL_ETLSEOF", "TLS stream cut off"},
    {TDL_PENDING, "TDL_PENDING", "pending"},
};

static int find(int code) {
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].code == code) return (int)i;
    return -1;
}

/* The system's own codes. Where the C library has no tables of them that any thread
 * may read, libuv's do, which lack a few. */
#if defined(__GLIBC__)
static const char *system_text(int code) { return strerrordesc_np(-code); }
static const char *system_name(int code) { return strerrorname_np(-code); }
#else
#define TEXT_CASE(name, text) case UV_##name: return text;
#define NAME_CASE(name, text) case UV_##name: return #name;
static const char *system_text(int code) {
    switch (code) {
        UV_ERRNO_MAP(TEXT_CASE)
    default: return NULL;
    }
}
static const char *system_name(int code) {
    switch (code) {
        UV_ERRNO_MAP(NAME_CASE)
    default: return NULL;
    }
}
#endif

const char *tdl_strerror(int code) {
    int i = find(code);
    if (i >= 0) return own[i].text;
    if (code >= 0) return "success";
    const char *text = code > -4096 ? system_text(code) : NULL;
    return text ? text : "unknown code";
}

const char *tdl_errname(int code) {
    int i = find(code);
    if (i >= 0) return own[i].name;
    if (code >= 0) return "OK";
    const char *name = code > -4096 ? system_name(code) : NULL;
    return name ? name : "UNKNOWN";
}

#define TEXT(x)  #x
#define VALUE(x) TEXT(x)

const char *tdl_version(void) {
    return VALUE(TDL_VERSION_MAJOR) "." VALUE(TDL_VERSION_MINOR) "." VALUE(TDL_VERSION_PATCH);
}

int tdl_abi_version(void) { return TDL_ABI_VERSION; }

size_t tdl_abi_size(const char *type) {
    if (!type) return 0;
    if (strcmp(type, "tdl_val") == 0) return sizeof(tdl_val);
    if (strcmp(type, "tdl_case") == 0) return sizeof(tdl_case);
    if (strcmp(type, "tdl_event") == 0) return sizeof(tdl_event);
    if (strcmp(type, "tdl_outcome") == 0) return sizeof(tdl_outcome);
    if (strcmp(type, "tdl_go_options") == 0) return sizeof(tdl_go_options);
    if (strcmp(type, "tdl_sim_options") == 0) return sizeof(tdl_sim_options);
    if (strcmp(type, "tdl_sim_report") == 0) return sizeof(tdl_sim_report);
    if (strcmp(type, "tdl_addr") == 0) return sizeof(tdl_addr);
    if (strcmp(type, "tdl_worker_options") == 0) return sizeof(tdl_worker_options);
    if (strcmp(type, "tdl_listen_options") == 0) return sizeof(tdl_listen_options);
    if (strcmp(type, "tdl_dial_options") == 0) return sizeof(tdl_dial_options);
    if (strcmp(type, "tdl_tcp_info") == 0) return sizeof(tdl_tcp_info);
    if (strcmp(type, "tdl_server_options") == 0) return sizeof(tdl_server_options);
    if (strcmp(type, "tdl_iovec") == 0) return sizeof(tdl_iovec);
    if (strcmp(type, "tdl_stat") == 0) return sizeof(tdl_stat);
    if (strcmp(type, "tdl_process_options") == 0) return sizeof(tdl_process_options);
    if (strcmp(type, "tdl_packet") == 0) return sizeof(tdl_packet);
    if (strcmp(type, "tdl_tls_options") == 0) return sizeof(tdl_tls_options);
    return 0;
}
