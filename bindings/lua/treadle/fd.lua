-- SPDX-License-Identifier: MIT
-- Descriptors that the program brings: pipes, terminals, eventfd, timerfd,
-- signalfd, pidfd, netlink, TUN, sockets of other libraries.
--
-- Invariant: `ptr` is NULL once it is closed or released, and the handle is
-- freed exactly once.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse = errors.misuse

local EINVAL, ECLOSED, EBUSY = const.TDL_EINVAL, const.TDL_ECLOSED, const.TDL_EBUSY
local NO_FD = ffi.cast("tdl_fd *", nil)

--- A descriptor, from treadle.fd.
---@class treadle.Fd
---@field ptr ffi.cdata* tdl_fd, NULL when closed
local Fd = {}
Fd.__index = Fd
class.public(Fd, "fd")

local function failed(self, rc)
  if rc == EINVAL and self.ptr == NO_FD and state.id ~= park.NO_TASK then rc = ECLOSED end
  return nil, fail(rc)
end

local function wait(self, readiness)
  local rc = hold(C.tdl_fd_wait_start(state.host, state.id, self.ptr, readiness))
  if rc < 0 then return failed(self, rc) end
  return true
end

--- Waits until a read would not wait (or would fail: then that tells why), whoever does it.
---@return true|nil ready
---@return string|nil err "timeout", "closed", "cancelled", "bad descriptor" (closed by another hand)
function Fd:wait_readable() return wait(self, const.TDL_READABLE) end

--- Waits until a write would not wait (or would fail: then that tells why).
---@return true|nil ready
---@return string|nil err as for wait_readable
function Fd:wait_writable() return wait(self, const.TDL_WRITABLE) end

--- For treadle.select: fires when wait_readable would return.
---@return treadle.Op
function Fd:readable_op() return { kind = "wait", wait = self.wait_readable, object = self } end

--- For treadle.select: fires when wait_writable would return.
---@return treadle.Op
function Fd:writable_op() return { kind = "wait", wait = self.wait_writable, object = self } end

--- Reads what is there with one read(2), waiting for it.
---@param max integer|nil most bytes; 4096 when nil
---@return string|nil data never empty
---@return string|nil err "closed" at the end; "timeout", "cancelled", …
function Fd:read(max)
  max = max or 4096
  if type(max) ~= "number" or max % 1 ~= 0 or max < 1 or max > 2 ^ 30 then
    misuse("read expects a number of bytes from 1 to 2^30, not " .. tostring(max))
  end
  local bytes = ffi.new("char[?]", max)
  spend()
  local rc = hold(C.tdl_fd_read_start(state.host, state.id, self.ptr, bytes, max))
  if rc < 0 then return failed(self, rc) end
  if rc == 0 then return nil, "closed" end
  return ffi.string(bytes, rc)
end

--- The same, for treadle.io.
Fd.read_some = Fd.read

--- Writes all of a string.
---@param data string
---@return integer|nil n
---@return string|nil err "broken pipe", "timeout", "closed", "cancelled", …
function Fd:write(data)
  if type(data) ~= "string" then misuse("write expects a string, not " .. type(data)) end
  spend()
  local rc = hold(C.tdl_fd_write_start(state.host, state.id, self.ptr, data, #data))
  if rc < 0 then return failed(self, rc) end
  return rc
end

--- Limits every later operation on its own.
---@param seconds number|nil nil or math.huge: no limit
---@return true|nil done
---@return string|nil err "closed"
function Fd:settimeout(seconds)
  if self.ptr == NO_FD then return nil, "closed" end
  C.tdl_fd_set_timeout(self.ptr, time.limit(seconds))
  return true
end

--- The descriptor, which still belongs to this object.
---@return integer|nil fd
---@return string|nil err "closed"
function Fd:number()
  if self.ptr == NO_FD then return nil, "closed" end
  local fd = C.tdl_fd_number(self.ptr)
  if fd < 0 then return nil, fail(fd) end
  return fd
end

--- Gives the descriptor back: it is the program's again, in the mode it had.
---@return integer|nil fd
---@return string|nil err "closed", "busy" (a goroutine waits for it)
function Fd:release()
  local ptr = self.ptr
  if ptr == NO_FD then return nil, "closed" end
  local fd = C.tdl_fd_release(ptr)
  if fd == EBUSY then return nil, "busy" end
  if fd < 0 then return nil, fail(fd) end
  self.ptr = NO_FD
  C.tdl_fd_free(ffi.gc(ptr, nil))
  return fd
end

--- Closes it. Goroutines that wait for it, and every later call, get nil, "closed".
---@return true|nil done
---@return string|nil err "closed" the second time
function Fd:close()
  local ptr = self.ptr
  if ptr == NO_FD then return nil, "closed" end
  self.ptr = NO_FD
  C.tdl_fd_free(ffi.gc(ptr, nil))
  return true
end

function Fd:__tostring()
  local number = self.ptr ~= NO_FD and self:number()
  return number and "descriptor " .. number or "descriptor (closed)"
end

local M = {}

--- Takes a descriptor over, to be closed with the object.  Does not wait, but works only in treadle.run.
---@param fd integer
---@param options { dup: boolean|nil }|nil dup: a duplicate, and the original stays the program's
---@return treadle.Fd|nil object
---@return string|nil err "cannot be polled" (a regular file), "bad descriptor", …
function M.fd(fd, options)
  if type(fd) ~= "number" or fd % 1 ~= 0 or fd < 0 or fd >= 2 ^ 31 then
    misuse("a descriptor is a number, not " .. tostring(fd))
  end
  errors.check_options(options, "fd", "dup ")
  park.need_run()
  local out = ffi.new "tdl_fd *[1]"
  local rc = (options and options.dup and C.tdl_fd_dup or C.tdl_fd_adopt)(fd, out)
  if rc < 0 then return nil, fail(rc) end
  return setmetatable({ ptr = ffi.gc(out[0], C.tdl_fd_free) }, Fd)
end

return M
