# SPDX-License-Identifier: MIT
"""Which files of the core need Linux.

Each is preprocessed where the headers that only Linux has do not exist. Those of
OURS need them by their nature; LEFT is what else would have to change before the
core builds elsewhere, with libuv's back end. (That other systems lack a function or
a constant of a header that they have is not seen here.) A file that is on no list fails the
test, and so does one that no longer needs to be on LEFT.

linux_only.py CC CORE [INCLUDE…]
"""

import concurrent.futures
import pathlib
import subprocess
import sys
import tempfile

HEADERS = """sys/epoll.h sys/eventfd.h sys/prctl.h sys/sendfile.h sys/timerfd.h sys/signalfd.h sys/inotify.h
sys/random.h sys/auxv.h sys/sysinfo.h sys/vfs.h linux/futex.h linux/membarrier.h linux/io_uring.h
linux/time_types.h linux/errqueue.h linux/filter.h linux/seccomp.h linux/sockios.h linux/tcp.h
linux/openat2.h linux/fs.h linux/rseq.h""".split()

OURS = {"netpoll/epoll.c", "netpoll/uring.c", "netpoll/uring_recv.c", "sys/sys.c"}
LEFT = {
    "host/host.c",      # prctl: timer slack
    "net/sockopt.c",    # the layout of TCP_INFO
    "sched/sched.c",    # prctl: timer slack, a thread's name
    "sched/sysmon.c",   # the same
    "sim/system.c",     # a simulation's pollers are epoll's, virtually
    "sys/fault.c",      # injected faults of epoll
}


def main() -> int:
    cc, core, *include = sys.argv[1:]
    names = [line.strip() for line in (pathlib.Path(core) / "sources.txt").read_text().splitlines()
             if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as stubs:
        for header in HEADERS:
            stub = pathlib.Path(stubs, header)
            stub.parent.mkdir(exist_ok=True)
            stub.write_text(f'#error "LINUX {header}"\n')

        def needs(name: str) -> list[str]:
            command = [cc, "-std=gnu11", "-E", "-o", "/dev/null", f"-I{stubs}", f"-I{core}/include", f"-I{core}",
                       *(f"-I{path}" for path in include), f"{core}/{name}"]
            said = subprocess.run(command, capture_output=True, text=True).stderr
            return sorted({line.split("LINUX ")[1].split('"')[0] for line in said.splitlines() if "#error \"LINUX" in line})

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = {name: why for name, why in zip(names, pool.map(needs, names)) if why}
    for name, why in found.items():
        print(f"{name}: {' '.join(why)}{'' if name in OURS else ' (left)' if name in LEFT else ' (NEW)'}")
    new, over = set(found) - OURS - LEFT, LEFT - set(found)
    for name in sorted(over):
        print(f"{name} does not need Linux any more: take it off the list")
    if not OURS <= set(found):
        print("the check does not work: the files that must need Linux do not")
        return 1
    return 1 if new or over else 0


if __name__ == "__main__":
    sys.exit(main())
