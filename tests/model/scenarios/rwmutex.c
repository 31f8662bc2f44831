/* SPDX-License-Identifier: MIT
 *
 * The read-write lock (core/sync/rwmutex.c): readers with a slot for each P and
 * the gate, writers that look at the slots, readers that go from another slot
 * than they came to. What it guards is plain data; who may unlock must never be
 * told that he may not.
 */
#include "sync/sync.h"

#include "sys/sys.h"
#include "world.h"

static tdl_rwmutex *rw;
static int guarded, written, writing, reading;

#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

UNSEEN static void reader_in(void) {
    CHECK(writing == 0, "a reader beside a writer");
    reading++;
}

UNSEEN static void reader_out(void) { reading--; }

UNSEEN static void writer_in(void) {
    CHECK(writing++ == 0, "two writers");
    CHECK(reading == 0, "a writer beside a reader");
    written++;
}

UNSEEN static void writer_out(void) { writing--; }

/* The slots; the scenario's threads say which they are at. */
int tdl_gomaxprocs(int n) { return n == 0 ? 4 : n; }

static void at(int slot) { at_store_rlx(&tdl_m_self()->p, world_p(slot)); }

static void setup(void) {
    world_setup();
    rw = tdl_rwmutex_new();
}

static void one_reads(void) {
    setup();
    at(2);
    tdl_rwmutex_rlock(rw);
    reader_in();
}

static void reader_goes(void) {
    reader_out();
    CHECK(tdl_rwmutex_runlock(rw) == 0, "no reader's to give up");
}

static void reads(void) {
    reader_in();
    CHECK(guarded >= 0, "what is read");
    reader_goes();
}

static void writes(void) {
    writer_in();
    guarded++;
    writer_out();
    CHECK(tdl_rwmutex_unlock(rw) == 0, "no writer's to give up");
}

static void reader(int slot) {
    at(slot);
    CHECK(tdl_rwmutex_rlock(rw) == 0, "no lock");
    reads();
}

static void writer(void) {
    CHECK(tdl_rwmutex_lock(rw) == 0, "no lock");
    writes();
}

static void reader_0(void) { reader(0); }
static void reader_1(void) { reader(1); }

static void reader_moves(void) {
    at(0);
    CHECK(tdl_rwmutex_rlock(rw) == 0, "no lock");
    reader_in();
    at(2);
    reader_goes();
}

static void reader_moves_too(void) {
    at(3);
    CHECK(tdl_rwmutex_rlock(rw) == 0, "no lock");
    reader_in();
    at(0);
    reader_goes();
}

/* Setup's reader goes, on another P than it came. */
static void setups_goes(void) {
    at(3);
    reader_goes();
}

static void tries(void) {
    at(1);
    if (tdl_rwmutex_trylock(rw) == 0) writes();
    if (tdl_rwmutex_tryrlock(rw) == 0) reads();
}

static void until(void) {
    if (tdl_rwmutex_lock_until(rw, model_now() + 1) == 0) writes();
}

static void reads_until(void) {
    at(1);
    if (tdl_rwmutex_rlock_until(rw, model_now() + 1) == 0) reads();
}

static void cancelled_writer(void) {
    world_goroutine(0);
    if (tdl_rwmutex_lock(rw) == 0) writes();
}

static void cancel(void) { tdl_g_cancel(world_g(0)); }

static void at_rest(void) {
    CHECK(guarded == written && reading == 0 && writing == 0, "%d of %d written", guarded, written);
    CHECK(tdl_rwmutex_runlock(rw) == TDL_ENOTLOCKED, "a reader is left");
    CHECK(tdl_rwmutex_trylock(rw) == 0, "it is still locked");
    CHECK(tdl_rwmutex_unlock(rw) == 0, "it cannot be unlocked");
    CHECK(tdl_rwmutex_tryrlock(rw) == 0, "its gate is closed");
}

#define T(name, run) {name, run, false}

const model_scenario model_scenarios[] = {
    {"exclusion", setup, {T("reader", reader_0), T("reader 1", reader_1), T("writer", writer)}, at_rest,
     .quick = {2, 1}, .full = {3, 2}},
    {"writers", setup, {T("reader", reader_0), T("writer", writer), T("writer 2", writer)}, at_rest,
     .quick = {2, 1}, .full = {3, 2}},
    {"moves", one_reads, {T("goes", setups_goes), T("moves", reader_moves), T("moves too", reader_moves_too)}, at_rest,
     .quick = {3, 1}, .full = {5, 2}},
    {"drains", one_reads, {T("goes", setups_goes), T("writer", writer), T("reader", reader_0)}, at_rest,
     .quick = {2, 1}, .full = {3, 2}},
    {"tries", one_reads, {T("goes", setups_goes), T("tries", tries), T("reader", reader_0)}, at_rest,
     .quick = {3, 1}, .full = {4, 2}},
    {"until", one_reads, {T("goes", setups_goes), T("until", until), T("reader", reads_until)}, at_rest,
     .quick = {1, 1}, .full = {2, 2}, .timeouts = 2},
    {"cancel", one_reads, {T("goes", setups_goes), T("writer", cancelled_writer), T("canceller", cancel), T("reader", reader_0)},
     at_rest, .quick = {1, 1}, .full = {2, 2}},
    {.name = NULL},
};
