-- SPDX-License-Identifier: MIT
-- An echo server by hand: LuaJIT's FFI on epoll, callbacks, nothing else.
local ffi = require "ffi"
local bit = require "bit"
ffi.cdef [[
struct sockaddr_in { uint16_t family, port; uint32_t address; char zero[8]; };
struct epoll_event { uint32_t events; int32_t fd; int32_t unused; } __attribute__((packed));
int socket(int domain, int type, int protocol);
int bind(int fd, const struct sockaddr_in *address, unsigned n);
int listen(int fd, int backlog);
int getsockname(int fd, struct sockaddr_in *address, unsigned *n);
int accept4(int fd, void *address, void *n, int flags);
int setsockopt(int fd, int level, int name, const int *value, unsigned n);
int epoll_create1(int flags);
int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout);
ssize_t recv(int fd, void *buffer, size_t n, int flags);
ssize_t send(int fd, const void *buffer, size_t n, int flags);
int close(int fd);
]]
local C = ffi.C
local NONBLOCK, IN, ADD = 0x800, 1, 1

local address, size = ffi.new "struct sockaddr_in", ffi.new("unsigned[1]", 16)
address.family, address.address = 2, 0x0100007f
local listener = C.socket(2, 1 + NONBLOCK, 0)
assert(C.bind(listener, address, 16) == 0 and C.listen(listener, 1024) == 0)
C.getsockname(listener, address, size)
print("listening on 127.0.0.1:" .. bit.bor(bit.lshift(bit.band(address.port, 255), 8), bit.rshift(address.port, 8)))
io.stdout:flush()

local epoll, event = C.epoll_create1(0), ffi.new "struct epoll_event"
local one = ffi.new("int[1]", 1)
local function watch(fd)
  event.events, event.fd = IN, fd
  C.epoll_ctl(epoll, ADD, fd, event)
end
watch(listener)

local events, buffer = ffi.new "struct epoll_event[128]", ffi.new "char[4096]"

local function take_all()
  while true do
    local fd = C.accept4(listener, nil, nil, NONBLOCK)
    if fd < 0 then return end
    C.setsockopt(fd, 6, 1, one, 4)
    watch(fd)
  end
end

while true do
  for i = 0, C.epoll_wait(epoll, events, 128, -1) - 1 do
    local fd = events[i].fd
    if fd == listener then
      take_all()
    else
      local n = C.recv(fd, buffer, 4096, 0)
      if n <= 0 then C.close(fd) else C.send(fd, buffer, n, 0x4000) end
    end
  end
end
