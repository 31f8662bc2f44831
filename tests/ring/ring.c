/* SPDX-License-Identifier: MIT
 *
 * 100,000 values go round: C goroutine -> Lua coroutine -> Python coroutine ->
 * plain thread -> the goroutine again, over shared channels. Each station uses
 * select and a deadline. Nothing may be lost, doubled or overtaken; all four
 * run on one core; and in the end all is back where it was.
 */
#include "ring.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINKS = 4, VALUES = 100000, TEXT_EVERY = 64, LIMIT_SECONDS = 100 };

static const int64_t marks[] = { INT64_C(1) << 40, INT64_C(1) << 41, INT64_C(1) << 42 };

static int failures;

#define CHECK(cond) ((cond) ? 1 : fail(__LINE__, #cond))

static int fail(int line, const char *what) {
    if (__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED) < 20) fprintf(stderr, "ring.c:%d: not true: %s\n", line, what);
    return 0;
}

static int64_t half_a_minute(void) { return tdl_now() + 30 * TDL_SECOND; }

/* -- The plain thread -------------------------------------------------------------- */

static void plain_station(const station *s) {
    tdl_val  v;
    tdl_case k = { .chan = s->in, .val = &v, .op = TDL_RECV };
    CHECK(tdl_select(&k, 1, tdl_now() + 5 * TDL_MILLISECOND) == TDL_ETIMEDOUT);
    tdl_val_set_int(&v, 1);
    CHECK(tdl_chan_send(s->ready, &v) == 0);
    while (CHECK(tdl_select(&k, 1, half_a_minute()) == 0) && k.ok) {
        if (tdl_val_type(&v) == TDL_INT) tdl_val_set_int(&v, tdl_val_int(&v) + s->mark);
        CHECK(tdl_chan_send_until(s->out, &v, half_a_minute()) == 0);
        tdl_val_clear(&v);
    }
    CHECK(tdl_chan_close(s->out) == 0);
}

static void *plain_thread(void *s) {
    plain_station(s);
    return NULL;
}

static void *lua_thread(void *s) {
    CHECK(lua_station(s) == 0);
    return NULL;
}

static void *python_thread(void *s) {
    CHECK(python_station(s) == 0);
    return NULL;
}

/* -- The C goroutine: the start and the end of the ring ------------------------------- */

typedef struct ring {
    tdl_chan *link[LINKS], *ready;
    int64_t   values, sent, received;
} ring;

static int is_text(int64_t i) { return i % TEXT_EVERY == TEXT_EVERY - 1; }

static void write_value(tdl_val *v, int64_t i) {
    char text[32];
    if (!is_text(i)) {
        tdl_val_set_int(v, i);
        return;
    }
    int n = snprintf(text, sizeof text, "value %" PRId64, i);
    CHECK(tdl_val_set_bytes(v, text, (size_t)n) == 0);
}

static void check_value(const tdl_val *v, int64_t i) {
    char        text[32];
    size_t      n = 0;
    const void *p = tdl_val_bytes(v, &n);
    if (!is_text(i)) {
        CHECK(tdl_val_type(v) == TDL_INT);
        CHECK(tdl_val_int(v) == i + marks[0] + marks[1] + marks[2]);
        return;
    }
    int want = snprintf(text, sizeof text, "value %" PRId64, i);
    CHECK(p != NULL && n == (size_t)want && memcmp(p, text, n) == 0);
}

static void c_station(void *arg) {
    ring   *r = arg;
    tdl_val out, in;
    CHECK(tdl_chan_recv_until(r->link[LINKS - 1], NULL, tdl_now() + 5 * TDL_MILLISECOND) == TDL_ETIMEDOUT);
    for (int i = 0; i < LINKS - 1; i++) CHECK(tdl_chan_recv_until(r->ready, NULL, half_a_minute()) == 0);
    write_value(&out, 0);
    for (;;) {
        tdl_case k[2] = {
            { .chan = r->sent < r->values ? r->link[0] : NULL, .val = &out, .op = TDL_SEND },
            { .chan = r->link[LINKS - 1], .val = &in, .op = TDL_RECV },
        };
        int i = tdl_select(k, 2, half_a_minute());
        if (i == 0) {
            tdl_val_clear(&out);
            if (++r->sent == r->values)
                CHECK(tdl_chan_close(r->link[0]) == 0);
            else
                write_value(&out, r->sent);
        } else if (!CHECK(i == 1) || !k[1].ok) {
            break; /* the whole ring is drained */
        } else {
            check_value(&in, r->received++);
            tdl_val_clear(&in);
        }
    }
    tdl_val_clear(&out);
    CHECK(r->received == r->values);
}

static int main_g(void *arg) {
    tdl_go_options o = { .size = sizeof o, .flags = TDL_GO_JOINABLE, .name = "ring" };
    tdl_g         *g = tdl_go_opts(c_station, arg, &o);
    CHECK(g != NULL && tdl_join(g) == 0);
    return 0;
}

static void go_round(int64_t values, const uint32_t caps[LINKS]) {
    static void *(*const kinds[])(void *) = { lua_thread, python_thread, plain_thread };
    ring      r = { .values = values, .ready = tdl_chan_new(0) };
    station   s[LINKS - 1];
    pthread_t thread[LINKS - 1];
    for (int i = 0; i < LINKS; i++) r.link[i] = tdl_chan_new(caps[i]);
    for (int i = 0; i < LINKS - 1; i++) {
        s[i] = (station){ r.link[i], r.link[i + 1], r.ready, marks[i] };
        if (pthread_create(&thread[i], NULL, kinds[i], &s[i]) != 0) abort();
    }
    CHECK(tdl_run(main_g, &r) == 0);
    for (int i = 0; i < LINKS - 1; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < LINKS; i++) tdl_chan_free(r.link[i]);
    tdl_chan_free(r.ready);
}

/* -- One core, and all back where it was ------------------------------------------------- */

static void check_one_core(void) {
    char  line[1024], seen[1024] = "";
    int   cores = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (maps && fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/');
        if (path == NULL || strstr(path, "libtreadle") == NULL || strcmp(path, seen) == 0) continue;
        strcpy(seen, path); /* the mappings of one file stand together */
        cores++;
        printf("core: %s", path);
    }
    if (maps) fclose(maps);
    CHECK(cores == 1);
}

static const char *const numbers[] = { "goroutines", "tasks",       "threads",   "stacks",
                                       "channels",   "connections", "listeners", "timers" };
enum { NUMBERS = sizeof numbers / sizeof *numbers };

typedef struct state {
    int64_t number[NUMBERS], fds, threads;
} state;

static int64_t entries(const char *path) {
    DIR    *dir = opendir(path);
    int64_t n = 0;
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

static void look(state *s) {
    for (int i = 0; i < NUMBERS; i++) s->number[i] = tdl_metric(numbers[i]);
    s->fds = entries("/proc/self/fd");
    s->threads = entries("/proc/self/task");
}

static void check_back(const state *before) {
    state after;
    for (int i = 0; i < 100; i++) { /* threads that are joined may still be listed */
        look(&after);
        if (memcmp(before, &after, sizeof after) == 0) return;
        usleep(20000);
    }
    for (int i = 0; i < NUMBERS; i++)
        if (!CHECK(after.number[i] == before->number[i]))
            fprintf(stderr, "  %s: %" PRId64 ", before: %" PRId64 "\n", numbers[i], after.number[i], before->number[i]);
    if (!CHECK(after.fds == before->fds && after.threads == before->threads))
        fprintf(stderr, "  descriptors: %" PRId64 ", before: %" PRId64 "; threads: %" PRId64 ", before: %" PRId64 "\n",
                after.fds, before->fds, after.threads, before->threads);
}

static void *watchdog(void *arg) {
    (void)arg;
    sleep(LIMIT_SECONDS);
    fprintf(stderr, "ring: hangs; the goroutines are:\n");
    alarm(5);
    tdl_dump(2);
    _exit(97);
}

int main(void) {
    static const uint32_t unbuffered[LINKS] = { 0, 0, 0, 0 }, small[LINKS] = { 1, 4, 2, 8 };
    pthread_t             dog;
    state                 before;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (pthread_create(&dog, NULL, watchdog, NULL) != 0) return 1;
    pthread_detach(dog);
    python_start();
    go_round(100, unbuffered); /* what the interpreters keep from their first round is theirs */
    check_one_core();
    look(&before);
    int64_t start = tdl_now();
    go_round(VALUES, unbuffered);
    printf("%d values round, unbuffered: %.2f s\n", VALUES, (double)(tdl_now() - start) / 1e9);
    check_back(&before);
    start = tdl_now();
    go_round(VALUES, small);
    printf("%d values round, small buffers: %.2f s\n", VALUES, (double)(tdl_now() - start) / 1e9);
    check_back(&before);
    CHECK(python_stop() == 0);
    printf("%d checks failed\n", failures);
    return failures != 0;
}
