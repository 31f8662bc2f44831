# SPDX-License-Identifier: MIT
"""python loopback.py USER PORT BESIDE COMMAND…: runs COMMAND where the network is loopback
and nothing else, as USER (-: as whoever we are), and beside it, unless it is "", the server
BESIDE from when it answers on PORT. Status 77: this system allows no such place."""

import ctypes
import fcntl
import os
import pwd
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import time

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
HOSTS = b"127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def alone():
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function, *args):
        if function(*args) != 0:
            raise OSError(ctypes.get_errno(), function.__name__)

    call(libc.unshare, CLONE_NEWNET | CLONE_NEWNS | (CLONE_NEWUSER if uid else 0))
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as f:
                f.write(text)
    call(libc.mount, None, b"/", None, MS_REC | MS_PRIVATE, None)
    with tempfile.NamedTemporaryFile() as hosts:  # localhost is both addresses, whatever this system says
        hosts.write(HOSTS)
        hosts.flush()
        os.chmod(hosts.name, 0o644)
        call(libc.mount, hosts.name.encode(), b"/etc/hosts", None, MS_BIND, None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def answers(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


user, port, beside, command = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
try:
    alone()
except OSError as error:
    print(f"no network of our own: {error}", file=sys.stderr)
    sys.exit(77)
if user != "-":
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
if beside:
    server = subprocess.Popen(shlex.split(beside), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not answers(port):
        if server.poll() is not None:
            sys.exit(f"{beside}: ended, status {server.returncode}")
        time.sleep(0.05)
os.execv(command[0], command)
