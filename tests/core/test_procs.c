/* SPDX-License-Identifier: MIT
 * The default number of processors, from trees of files that look like /proc
 * and /sys/fs/cgroup of other machines. */
#include "check.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched/procs.h"
#include "sys/sys.h"

/* -- A tree ------------------------------------------------------------------ */

static char root[64];

static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        REQUIRE(mkdir(full, 0755) == 0 || errno == EEXIST);
        *at = '/';
    }
    FILE *f = fopen(full, "w");
    REQUIRE(f != NULL);
    fputs(text, f);
    fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}

static tdl_procs *begin(const char *cgroup, const char *mountinfo) {
    strcpy(root, "/tmp/treadle-procs-XXXXXX");
    REQUIRE(mkdtemp(root) != NULL);
    if (cgroup) put("/proc/self/cgroup", cgroup);
    if (mountinfo) put("/proc/self/mountinfo", mountinfo);
    tdl_procs *p = tdl_alloc_zeroed(sizeof *p);
    p->root = root;
    return p;
}

static void end(tdl_procs *p) {
    tdl_procs_forget(p);
    tdl_sys.release(p);
    nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define V2_MOUNT "36 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT                                                                                    \
    "31 25 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"                           \
    "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"                             \
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 master:3 - cgroup cgroup rw,cpu,cpuacct\n"

/* -- Version 2 --------------------------------------------------------------- */

TEST(v2_leaf, "B24 v2: the quota of the process's own cgroup, rounded up") {
    tdl_procs *p = begin("0::/user/app\n", V2_MOUNT);
    put("/sys/fs/cgroup/user/app/cpu.max", "250000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 3);
    put("/sys/fs/cgroup/user/app/cpu.max", "300000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 3);
    put("/sys/fs/cgroup/user/app/cpu.max", "1000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 1);
    put("/sys/fs/cgroup/user/app/cpu.max", "max 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    end(p);
}

TEST(v2_above, "B24 v2: a limit of any cgroup above holds, the top of the mount's too") {
    tdl_procs *p = begin("0::/a/b/c\n", V2_MOUNT);
    put("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "500000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 5);
    put("/sys/fs/cgroup/cpu.max", "400000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 4);
    put("/sys/fs/cgroup/a/b/c/cpu.max", "700000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 4);
    end(p);
}

TEST(v2_sibling, "B24 v2: what has a similar name is none of ours") {
    tdl_procs *p = begin("0::/app2\n", "36 25 0:30 /app /mnt/x rw - cgroup2 cgroup2 rw\n" V2_MOUNT);
    put("/mnt/x/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/app/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/app2/cpu.max", "900000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 9);
    end(p);
}

TEST(moved, "B24 a process that is moved to another cgroup is found there") {
    tdl_procs *p = begin("0::/a\n", V2_MOUNT);
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    put("/sys/fs/cgroup/b/cpu.max", "600000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 3);
    put("/proc/self/cgroup", "0::/b\n");
    CHECK_INT(tdl_procs_cgroup(p), 6);
    put("/proc/self/cgroup", "0::/gone (deleted)\n");
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    end(p);
}

/* -- Version 1 ---------------------------------------------------------------- */

TEST(v1, "B24 v1: quota by period, of the cpu controller's mount, up to its root") {
    tdl_procs *p = begin("5:cpuset:/other\n4:cpu,cpuacct:/x/y\n0::/z\n", V1_MOUNT);
    put("/sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "175000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "50000\n");
    CHECK_INT(tdl_procs_cgroup(p), 4);
    put("/sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "300000\n");
    CHECK_INT(tdl_procs_cgroup(p), 3);
    end(p);
}

TEST(v1_other, "B24 v1: cpuset and cpuacct are not the cpu controller") {
    tdl_procs *p = begin("2:cpuacct:/x\n3:cpuset:/x\n", "33 31 0:30 / /cg rw - cgroup cgroup rw,cpuacct\n");
    put("/cg/x/cpu.cfs_quota_us", "100000\n");
    put("/cg/x/cpu.cfs_period_us", "100000\n");
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    end(p);
}

TEST(hybrid, "B24 where both versions are mounted the tighter limit holds") {
    tdl_procs *p = begin("4:cpu,cpuacct:/x\n0::/x\n",
                         V1_MOUNT "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "600000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 6);
    put("/sys/fs/cgroup/unified/x/cpu.max", "500000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 5);
    end(p);
}

/* -- Containers ------------------------------------------------------------------ */

TEST(bound, "B24 a container's mount shows its own cgroup at the top") {
    tdl_procs *p = begin("4:cpu,cpuacct:/docker/0123\n",
                         "33 31 0:30 /docker/0123 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 2);
    put("/proc/self/cgroup", "4:cpu,cpuacct:/docker/0123/inner\n");
    put("/sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 1);
    end(p);
}

TEST(namespaced, "B24 in a cgroup namespace the root is the container's cgroup") {
    tdl_procs *p = begin("0::/\n", V2_MOUNT);
    put("/sys/fs/cgroup/cpu.max", "350000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 4);
    put("/proc/self/cgroup", "0::/../elsewhere\n"); /* not to be seen from here: the mount's top counts */
    CHECK_INT(tdl_procs_cgroup(p), 4);
    end(p);
}

TEST(two_mounts, "B24 of several mounts of one hierarchy each counts") {
    tdl_procs *p = begin("0::/box/app\n", "36 25 0:30 /box /mnt/box rw - cgroup2 none rw\n"
                                          "37 25 0:30 / /mnt/all rw - cgroup2 none rw\n");
    put("/mnt/box/app/cpu.max", "max 100000\n");
    put("/mnt/all/cpu.max", "700000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 7);
    put("/mnt/box/cpu.max", "300000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 3);
    end(p);
}

/* -- Odd and broken files ------------------------------------------------------------ */

TEST(escaped, "B24 a mount point with a blank in it, and a long line before") {
    static char text[20000];
    int n = sprintf(text, "20 1 0:9 / /merged rw - overlay overlay rw,lowerdir=");
    memset(text + n, 'x', 9000);
    strcpy(text + n + 9000, "\n36 25 0:30 / /mnt/a\\040b rw - cgroup2 cgroup2 rw\n");
    tdl_procs *p = begin("0::/q\n", text);
    put("/mnt/a b/q/cpu.max", "600000 100000\n");
    CHECK_INT(tdl_procs_cgroup(p), 6);
    end(p);
}

TEST(broken, "B24 files that are missing or senseless mean no limit") {
    tdl_procs *p = begin(NULL, NULL);
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    put("/proc/self/cgroup", "0::/a\nnonsense\n\n::\n");
    CHECK_INT(tdl_procs_cgroup(p), PROCS_NO_LIMIT);
    put("/proc/self/mountinfo", "\n - \n1 2 3\n36 25 0:30 / /m rw - cgroup2\n36 25 0:30 / /m rw -\n");
    tdl_procs_forget(p);
    static const char *const texts[] = {"", "\n", "0 100000", "-5 100000", "100000", "100000 0", "one two",
                                        "9223372036854775807 1", "99999999999999999999 100000 7"};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("/m/a/cpu.max", texts[i]);
        CHECK_WITHIN(tdl_procs_cgroup(p), 1 << 20, PROCS_NO_LIMIT);
    }
    put("/m/a/cpu.max", "400000 100000");
    CHECK_INT(tdl_procs_cgroup(p), 4); /* the mount was understood all the same */
    end(p);
}

/* -- What follows --------------------------------------------------------------------- */

TEST(combined, "B24 the smaller of affinity and limit, which counts as 2 at least") {
    CHECK_INT(tdl_procs_combine(8, PROCS_NO_LIMIT), 8);
    CHECK_INT(tdl_procs_combine(8, 3), 3);
    CHECK_INT(tdl_procs_combine(8, 1), 2);
    CHECK_INT(tdl_procs_combine(1, 1), 1);
    CHECK_INT(tdl_procs_combine(1, 5), 1);
    CHECK_INT(tdl_procs_combine(5000, PROCS_NO_LIMIT), 1024);
}

TEST(real, "B24 the real system gives a number, the same twice") {
    tdl_procs *p = tdl_alloc_zeroed(sizeof *p);
    int n = tdl_procs_look(p);
    CHECK_WITHIN(n, 1, 1024);
    CHECK_INT(tdl_procs_look(p), n);
    CHECK_WITHIN(n, 1, tdl_procs_affinity());
    tdl_procs_forget(p);
    tdl_sys.release(p);
}

TEST(environment, "B24 TDL_MAXPROCS wins") {
    const char *env = getenv("TDL_MAXPROCS"); /* each test runs with it */
    REQUIRE(env != NULL);
    CHECK_INT(tdl_procs_fixed(), atoi(env));
    CHECK_INT(tdl_procs_default(), atoi(env));
    setenv("TDL_MAXPROCS", "7", 1);
    CHECK_INT(tdl_procs_default(), atoi(env) == 7 ? 7 : tdl_procs_fixed()); /* as it was at the first call */
}
