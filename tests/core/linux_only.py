# SPDX-License-Identifier: MIT
"""Nothing outside a few files of the core needs Linux.

Each file is compiled as on another system (-DTDL_PORTABLE), where the headers that only
Linux has are not there; no object may need a FUNCTION, and no source have a NAME, that
only Linux has (or Linux and some of the BSDs, but not macOS). Those of OURS are for
Linux alone; without -DTDL_PORTABLE each of them must fail this, or the check is worth
nothing. (That the portable files also work is shown by ./dev portable.)

linux_only.py CC CORE [INCLUDE…]
"""

import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

OURS = {"netpoll/epoll.c", "netpoll/uring.c", "netpoll/uring_accept.c", "netpoll/uring_recv.c", "netpoll/uring.h", "net/peer_linux.c", "os/exit_linux.c", "sys/sys_linux.c"}

HEADERS = """sys/epoll.h sys/eventfd.h sys/prctl.h sys/sendfile.h sys/timerfd.h sys/signalfd.h sys/inotify.h
sys/random.h sys/auxv.h sys/sysinfo.h sys/vfs.h sys/syscall.h syscall.h linux/futex.h linux/membarrier.h linux/io_uring.h
linux/time_types.h linux/errqueue.h linux/filter.h linux/seccomp.h linux/sockios.h linux/tcp.h
linux/openat2.h linux/fs.h linux/rseq.h""".split()

FUNCTIONS = set("""accept4 pipe2 dup3 splice tee vmsplice sendfile preadv2 pwritev2 ppoll recvmmsg sendmmsg
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd signalfd timerfd_create timerfd_settime
prctl getrandom gettid memfd_create syscall pidfd_open fallocate copy_file_range sync_file_range statx
sched_getaffinity sched_setaffinity sched_getcpu pthread_getaffinity_np pthread_setaffinity_np
sigtimedwait sigwaitinfo process_madvise inotify_init1 clock_nanosleep sem_timedwait pthread_mutex_timedlock
strchrnul mempcpy canonicalize_file_name execvpe secure_getenv""".split())

NAMES = """mmsghdr ucred cpu_set_t CPU_COUNT program_invocation_name program_invocation_short_name
SOCK_NONBLOCK SOCK_CLOEXEC MSG_CMSG_CLOEXEC MSG_MORE MSG_ZEROCOPY MSG_ERRQUEUE MSG_WAITFORONE
SO_DOMAIN SO_PROTOCOL SO_PEERCRED SO_PASSCRED SO_BUSY_POLL SO_INCOMING_CPU SCM_CREDENTIALS
MAP_NORESERVE MAP_POPULATE MADV_DONTFORK MADV_NOHUGEPAGE MADV_HUGEPAGE MADV_POPULATE_READ MADV_DONTNEED
O_PATH O_TMPFILE POLLRDHUP F_SETPIPE_SZ F_GETPIPE_SZ TCP_INFO TCP_QUICKACK TCP_CORK TCP_USER_TIMEOUT
SPLICE_F_MOVE RWF_NOWAIT CLONE_VM CLOCK_BOOTTIME CLOCK_MONOTONIC_COARSE PTHREAD_MUTEX_ADAPTIVE_NP
SYS_[a-z]\w* EPOLL[A-Z]\w* IORING_\w+ FUTEX_\w+ PR_SET_\w+""".split()
NAME = re.compile(r"\b(?:" + "|".join(NAMES) + r")\b")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def mentions(text: str) -> list[str]:
    plain = COMMENT.sub(lambda m: "\n" * m[0].count("\n"), text)
    return [f"line {n}: {line.strip()}" for n, line in enumerate(plain.splitlines(), 1) if NAME.search(line)]


def main() -> int:
    cc, core, *include = sys.argv[1:]
    names = [line.strip() for line in (pathlib.Path(core) / "sources.txt").read_text().splitlines()
             if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as stubs:
        for header in HEADERS:
            stub = pathlib.Path(stubs, header)
            stub.parent.mkdir(exist_ok=True)
            stub.write_text(f'#error "there is no {header}"\n')

        def needs(name: str, *options: str) -> list[str]:
            out = f"{stubs}/{name.replace('/', '-')}.o"
            command = [cc, "-std=gnu11", "-c", "-O0", "-w", "-o", out, *options, f"-I{stubs}", f"-I{core}/include",
                       f"-I{core}", *(f"-I{path}" for path in include), f"{core}/{name}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return [line for line in done.stderr.splitlines() if "error:" in line]
            undefined = subprocess.run(["nm", "-u", out], capture_output=True, text=True, check=True).stdout.split()
            return sorted(FUNCTIONS.intersection(undefined))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = dict(zip(names, pool.map(lambda name: needs(name, "-DTDL_PORTABLE"), names)))
            ours = sorted(name for name in OURS if name.endswith(".c"))
            blind = [name for name, why in zip(ours, pool.map(needs, ours)) if not why]
    for path in sorted(pathlib.Path(core).rglob("*.[ch]")):
        name = path.relative_to(core).as_posix()
        if name not in OURS:
            found[name] = found.get(name, []) + mentions(path.read_text())
    for name, why in found.items():
        for line in why:
            print(f"{name}: {line}")
    for name in blind:
        print(f"{name} does not need Linux: the check does not work, or the file is not for Linux alone")
    bad = sum(map(bool, found.values()))
    print(f"{len(found) - bad} of {len(found)} files do without Linux")
    return 1 if bad or blind else 0


if __name__ == "__main__":
    sys.exit(main())
