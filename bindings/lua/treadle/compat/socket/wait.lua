-- SPDX-License-Identifier: MIT
-- LuaSocket's select: waits until one of several sockets can be read or written.
--
-- The sockets' descriptors are put into an epoll of their own, which is watched
-- like any descriptor: so that a socket may at the same time be waited for elsewhere.
--
-- Invariant: that epoll is closed before select returns, whatever happens.

local ffi = require "ffi"
local common = require "treadle.compat.common"
local watch = require "treadle.watch"

pcall(ffi.cdef, [[
typedef struct tdl_compat_pollfd { int fd; short events, revents; } tdl_compat_pollfd;
int tdl_compat_poll(void *fds, unsigned long n, int timeout) __asm__("poll");
int tdl_compat_epoll_create1(int flags) __asm__("epoll_create1");
int tdl_compat_epoll_ctl(int epoll, int op, int fd, void *event) __asm__("epoll_ctl");
int tdl_compat_close(int fd) __asm__("close");
]])

local C = ffi.C
local IN, OUT, TROUBLE = 0x1, 0x4, 0x38 -- EPOLLERR, EPOLLHUP, EPOLLNVAL of poll
local CLOEXEC, ADD = 0x80000, 1

local event = ffi.new "uint32_t[4]" -- a struct epoll_event; nobody reads its data

--- The sockets by descriptor, and those that are ready without asking.
local function collect(list, bit_of, wanted, ready)
  for _, socket in ipairs(list or {}) do
    local fd = socket.getfd and socket:getfd() or -1
    if bit_of == IN and socket.dirty and socket:dirty() then
      ready[#ready + 1] = socket
    elseif type(fd) == "number" and fd >= 0 then
      wanted[#wanted + 1] = { socket = socket, fd = fd, events = bit_of }
    end
  end
end

--- Which can go ahead now.
local function look(wanted, readable, writable)
  local n = #wanted
  if n == 0 then return end
  local fds = ffi.new("tdl_compat_pollfd[?]", n)
  for i, one in ipairs(wanted) do fds[i - 1].fd, fds[i - 1].events = one.fd, one.events end
  if C.tdl_compat_poll(fds, n, 0) <= 0 then return end
  for i, one in ipairs(wanted) do
    if require("bit").band(fds[i - 1].revents, one.events + TROUBLE) ~= 0 then
      local list = one.events == IN and readable or writable
      list[#list + 1] = one.socket
    end
  end
end

local function wait(wanted, timeout)
  local epoll = C.tdl_compat_epoll_create1(CLOEXEC)
  if epoll < 0 then return nil, "too many open files" end
  local events = {}
  for _, one in ipairs(wanted) do events[one.fd] = (events[one.fd] or 0) + one.events end
  for fd, bits in pairs(events) do
    event[0] = bits
    C.tdl_compat_epoll_ctl(epoll, ADD, fd, event)
  end
  local alive, ok, err = pcall(watch.wait, epoll, "read", timeout)
  C.tdl_compat_close(epoll)
  if not alive then error(ok, 0) end
  return ok, err
end

local function index(list)
  for i = 1, #list do list[list[i]] = i end
  return list
end

--- Waits until a socket of the first list can be read, or one of the second written.
---@param recvt table|nil
---@param sendt table|nil
---@param timeout number|nil seconds; nil or less than 0: no limit
---@return table readable as a list, and socket -> its place in it
---@return table writable
---@return string|nil err "timeout"
return function(recvt, sendt, timeout)
  local readable, writable, wanted = {}, {}, {}
  collect(recvt, IN, wanted, readable)
  collect(sendt, OUT, wanted, writable)
  look(wanted, readable, writable)
  if #readable + #writable == 0 and timeout ~= 0 then
    local ok, err = wait(wanted, timeout and timeout > 0 and timeout or nil)
    if not ok and err ~= "timeout" then common.text(err) end
    look(wanted, readable, writable)
  end
  local err = #readable + #writable == 0 and "timeout" or nil
  return index(readable), index(writable), err
end
