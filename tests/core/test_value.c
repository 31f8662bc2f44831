/* SPDX-License-Identifier: MIT
 * Values, codes, and what a binding asks about the ABI. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

TEST(scalars, "A13 every kind of value keeps what was put in") {
    tdl_val v;
    int     here;
    tdl_val_set_nil(&v);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
    static const int64_t ints[] = { 0, 1, -1, INT64_MAX, INT64_MIN, INT64_C(1) << 53 };
    for (unsigned i = 0; i < sizeof ints / sizeof *ints; i++) {
        tdl_val_set_int(&v, ints[i]);
        CHECK_INT(tdl_val_type(&v), TDL_INT);
        CHECK_INT(tdl_val_int(&v), ints[i]);
    }
    tdl_val_set_double(&v, -0.5);
    CHECK_INT(tdl_val_type(&v), TDL_DOUBLE);
    CHECK(tdl_val_double(&v) == -0.5);
    for (int i = 0; i < 2; i++) {
        tdl_val_set_bool(&v, i * 7);
        CHECK_INT(tdl_val_type(&v), TDL_BOOL);
        CHECK_INT(tdl_val_bool(&v), i);
    }
    tdl_val_set_ptr(&v, &here);
    CHECK_INT(tdl_val_type(&v), TDL_PTR);
    CHECK(tdl_val_ptr(&v) == &here);
    tdl_val_clear(&v);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
    tdl_val_clear(&v);
}

TEST(wrong_getter, "A13 a getter of another type gives nothing") {
    tdl_val v;
    size_t  n = 9;
    tdl_val_set_double(&v, 3.5);
    CHECK_INT(tdl_val_int(&v), 0);
    CHECK_INT(tdl_val_bool(&v), 0);
    CHECK(tdl_val_ptr(&v) == NULL);
    CHECK(tdl_val_bytes(&v, &n) == NULL);
    CHECK(tdl_val_chan(&v) == NULL);
    tdl_val_set_int(&v, 3);
    CHECK(tdl_val_double(&v) == 0.0);
    CHECK(tdl_val_ptr(&v) == NULL);
    tdl_val_set_ptr(&v, &v);
    CHECK_INT(tdl_val_int(&v), 0);
}

TEST(bytes, "A13 bytes are copied in, shared between holders, and freed with the last") {
    char    text[] = "weft\0and warp";
    tdl_val a, b, c;
    size_t  n;
    CHECK_RC(tdl_val_set_bytes(&a, text, sizeof text), 0);
    memset(text, 'x', sizeof text);
    tdl_val_copy(&b, &a);
    tdl_val_copy(&c, &b);
    CHECK(tdl_val_bytes(&a, NULL) == tdl_val_bytes(&b, NULL));
    tdl_val_clear(&a);
    tdl_val_clear(&b);
    CHECK_INT(tdl_val_type(&c), TDL_BYTES);
    CHECK(memcmp(tdl_val_bytes(&c, &n), "weft\0and warp", sizeof text) == 0);
    CHECK_INT(n, sizeof text);
    tdl_val_clear(&c);
    CHECK_RC(tdl_val_set_bytes(&a, NULL, 0), 0);
    CHECK_INT(tdl_val_type(&a), TDL_BYTES);
    tdl_val_bytes(&a, &n);
    CHECK_INT(n, 0);
    tdl_val_clear(&a);
}

TEST(bytes_too_many, "A13 more bytes than there is memory for are refused, and the value is nil") {
    tdl_val v;
    CHECK_RC(tdl_val_set_bytes(&v, "", SIZE_MAX - 8), TDL_ENOMEM);
    CHECK_INT(tdl_val_type(&v), TDL_NIL);
}

TEST(flags, "A13 the flags of a value travel with it") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v, w;
    tdl_val_set_bytes(&v, "text", 4);
    v.flags = 5;
    tdl_val_copy(&w, &v);
    CHECK_INT(w.flags, 5);
    tdl_val_clear(&w);
    CHECK_RC(tdl_chan_send(ch, &v), 0);
    tdl_val_clear(&v);
    CHECK_RC(tdl_chan_recv(ch, &v), 0);
    CHECK_INT(v.flags, 5);
    tdl_val_clear(&v);
    tdl_chan_free(ch);
}

static void share(void *arg) {
    for (int i = 0; i < SCALE(2000); i++) {
        tdl_val mine;
        tdl_val_copy(&mine, arg);
        CHECK(memcmp(tdl_val_bytes(&mine, NULL), "shared", 6) == 0);
        tdl_val_clear(&mine);
        if (i % 100 == 0) tdl_yield();
    }
}

TEST_G(bytes_shared, "A13 goroutines and threads hold the same bytes at a time") {
    tdl_val v;
    crew    c;
    crew_open(&c);
    tdl_val_set_bytes(&v, "shared", 6);
    for (int i = 0; i < 6; i++) crew_start(&c, i % 2, share, &v);
    crew_close(&c);
    tdl_val_clear(&v);
}

TEST(chan_value, "A13 a value that carries a channel keeps it open") {
    tdl_chan *ch = tdl_chan_new(1);
    tdl_val   v;
    CHECK_RC(tdl_val_set_chan(&v, ch), 0);
    CHECK_INT(tdl_val_type(&v), TDL_CHAN);
    tdl_chan *again = tdl_val_chan(&v);
    CHECK(again == ch);
    CHECK_RC(send_int(again, 1), 0);
    tdl_chan_free(again);
    CHECK_INT(recv_int(ch), 1);
    tdl_val_clear(&v);
    tdl_chan_free(ch);
    CHECK_RC(tdl_val_set_chan(&v, NULL), TDL_EINVAL);
}

/* -- Codes and the ABI ----------------------------------------------------------------------- */

TEST(codes, "F5 every code has a name and a text of its own") {
    static const struct {
        int         code;
        const char *name;
    } all[] = {
        { TDL_ECLOSED, "TDL_ECLOSED" },       { TDL_ETIMEDOUT, "TDL_ETIMEDOUT" }, { TDL_ECANCELED, "TDL_ECANCELED" },
        { TDL_EAGAIN, "TDL_EAGAIN" },         { TDL_EINVAL, "TDL_EINVAL" },       { TDL_ENOMEM, "TDL_ENOMEM" },
        { TDL_EFORKED, "TDL_EFORKED" },       { TDL_EBUSY, "TDL_EBUSY" },         { TDL_EHOST, "TDL_EHOST" },
        { TDL_ENOTLOCKED, "TDL_ENOTLOCKED" }, { TDL_ENEGATIVE, "TDL_ENEGATIVE" }, { TDL_EADDRESS, "TDL_EADDRESS" },
        { TDL_EEOF, "TDL_EEOF" },             { TDL_ETOOLONG, "TDL_ETOOLONG" },   { TDL_EDEADLOCK, "TDL_EDEADLOCK" },
        { TDL_PENDING, "TDL_PENDING" },
    };
    enum { N = sizeof all / sizeof *all };
    for (int i = 0; i < N; i++) {
        CHECK(strcmp(tdl_errname(all[i].code), all[i].name) == 0);
        CHECK(strlen(tdl_strerror(all[i].code)) > 3);
        for (int j = 0; j < i; j++) CHECK(strcmp(tdl_strerror(all[i].code), tdl_strerror(all[j].code)) != 0);
    }
    CHECK(strcmp(tdl_errname(-ECONNRESET), "ECONNRESET") == 0);
    CHECK(strcmp(tdl_errname(-EMFILE), "EMFILE") == 0);
    CHECK(strstr(tdl_strerror(-ECONNRESET), "reset") != NULL);
    static const int unknown[] = { 0, 1, -4000, -5000, -99999, INT32_MIN, INT32_MAX };
    for (unsigned i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        CHECK(tdl_strerror(unknown[i]) != NULL && *tdl_strerror(unknown[i]));
        CHECK(tdl_errname(unknown[i]) != NULL);
    }
}

TEST(abi, "F5 the library describes its own ABI") {
    CHECK(strcmp(tdl_version(), "0.1.0") == 0);
    CHECK(tdl_abi_version() > 0);
    CHECK_INT(tdl_abi_size("tdl_val"), 16);
    CHECK_INT(tdl_abi_size("tdl_val"), sizeof(tdl_val));
    CHECK_INT(tdl_abi_size("tdl_case"), sizeof(tdl_case));
    CHECK_INT(tdl_abi_size("tdl_event"), sizeof(tdl_event));
    CHECK_INT(tdl_abi_size("tdl_outcome"), sizeof(tdl_outcome));
    CHECK_INT(tdl_abi_size("tdl_go_options"), sizeof(tdl_go_options));
    CHECK_INT(tdl_abi_size("tdl_elephant"), 0);
    CHECK_INT(tdl_abi_size(""), 0);
}

TEST(metrics, "B23 every number that is promised exists, others do not") {
    static const char *const names[] = { "goroutines",  "tasks",     "threads", "stacks", "channels",
                                         "connections", "listeners", "timers" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) CHECK(tdl_metric(names[i]) >= 0);
    CHECK_RC(tdl_metric("elephants"), TDL_EINVAL);
    CHECK_RC(tdl_metric(NULL), TDL_EINVAL);
    int64_t   before = tdl_metric("channels");
    tdl_chan *ch = tdl_chan_new(1);
    CHECK_INT(tdl_metric("channels"), before + 1);
    tdl_chan_free(ch);
    CHECK_INT(tdl_metric("channels"), before);
}
