/* SPDX-License-Identifier: MIT
 *
 * What every other part needs: the version, the codes of errors, and time.
 * treadle.h says what holds for all of them.
 */
#ifndef TREADLE_BASE_H
#define TREADLE_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TDL_API __attribute__((visibility("default")))
#else
#define TDL_API
#endif

#define TDL_VERSION_MAJOR 0
#define TDL_VERSION_MINOR 1
#define TDL_VERSION_PATCH 0
#define TDL_ABI_VERSION   1

#ifdef __cplusplus
extern "C" {
#endif

/* -- Version ----------------------------------------------------------------- */

/* "0.1.0"; a static string. Any caller. */
TDL_API const char *tdl_version(void);
/* TDL_ABI_VERSION of the library that runs; a binding refuses a library whose number is not the one
 * it was generated for. Any caller. */
TDL_API int tdl_abi_version(void);
/* sizeof of the public structure named ("tdl_val", "tdl_case", "tdl_event",
 * "tdl_outcome", "tdl_stat", "tdl_go_options", "tdl_addr", …); 0 for another name. Any caller. */
TDL_API size_t tdl_abi_size(const char *type);

/* -- Codes ------------------------------------------------------------------- */

enum {
    TDL_ECLOSED    = -4097, /* the object is closed */
    TDL_ETIMEDOUT  = -4098, /* the deadline passed first */
    TDL_ECANCELED  = -4099, /* the goroutine or task was cancelled */
    TDL_EAGAIN     = -4100, /* a try form found nothing ready */
    TDL_EINVAL     = -4101, /* an argument is null or out of range */
    TDL_ENOMEM     = -4102, /* out of memory */
    TDL_EFORKED    = -4103, /* child of a fork: there is no runtime here */
    TDL_EBUSY      = -4104, /* already running, or in use by another caller */
    TDL_EHOST      = -4105, /* blocking form on a host thread, or a _start form off its host's thread */
    TDL_ENOTLOCKED = -4106, /* unlock of an unlocked mutex */
    TDL_ENEGATIVE  = -4107, /* wait group counter would be negative */
    TDL_EADDRESS   = -4108, /* address does not parse, or is not one for this socket */
    TDL_EEOF       = -4109, /* end of stream before the frame was complete */
    TDL_ETOOLONG   = -4110, /* no frame within the limit */
    TDL_EDEADLOCK  = -4111, /* the caller would wait for itself */
    TDL_ETHREADS   = -4112, /* the limit of threads is reached: tdl_set_max_threads */
    TDL_ESTACK     = -4113, /* a stack size out of range */
    TDL_ESTACKS    = -4114, /* no more stacks: the system's limit of mappings is reached; see tdl_spawn */
    TDL_ESYSTEM    = -4115, /* would wait inside tdl_system_stack */
    TDL_ENETWORK   = -4120, /* no such network, or not one for this call */
    TDL_EPORT      = -4121, /* the port is missing, no number, or above 65535 */
    TDL_ETRUNCATED = -4122, /* the message was longer than the room for it: its end is lost */
    TDL_ENOPOLL    = -4123, /* the descriptor cannot be polled (a regular file, a directory) */
    TDL_ESIM       = -4124, /* crosses the border of a simulation */
    TDL_ELIMIT     = -4125, /* a simulation has taken more steps or time than it may */
    TDL_ENONAME    = -4130, /* the host's name does not resolve */
    TDL_ENAMESERVER = -4131, /* no name server has answered */
    TDL_ENOTLS     = -4140, /* OpenSSL 3 is not there: see tdl_tls_library */
    TDL_ETLS       = -4141, /* TLS: the two sides do not agree, or what came is no TLS */
    TDL_ETLSALERT  = -4142, /* TLS: the peer has refused, and said why */
    TDL_ECERT      = -4143, /* TLS: the peer's certificate is not trusted */
    TDL_ECERTNAME  = -4144, /* TLS: the peer's certificate is for another name */
    TDL_ETLSEOF    = -4145, /* TLS: the stream was cut off: its end was not announced */
    TDL_PENDING    = -4200  /* _start forms only: the result will come from tdl_host_poll */
};

/* What the code means, in a few words ("connection reset by peer"); a static
 * string, for an unknown code too. Any caller. */
TDL_API const char *tdl_strerror(int code);
/* The code's stable name ("TDL_ECLOSED", "ECONNRESET"); a static string. Any caller. */
TDL_API const char *tdl_errname(int code);

/* -- Time -------------------------------------------------------------------- */

#define TDL_NANOSECOND  INT64_C(1)
#define TDL_MICROSECOND INT64_C(1000)
#define TDL_MILLISECOND INT64_C(1000000)
#define TDL_SECOND      INT64_C(1000000000)
#define TDL_MINUTE      (60 * TDL_SECOND)
#define TDL_HOUR        (60 * TDL_MINUTE)

#define TDL_FOREVER INT64_MAX   /* a deadline that never comes */
#define TDL_NOWAIT  INT64_C(-1) /* try once: TDL_EAGAIN where the call would wait */

/* Monotonic nanoseconds, always positive. Any caller. */
TDL_API int64_t tdl_now(void);

#ifdef __cplusplus
}
#endif

#endif /* TREADLE_BASE_H */
