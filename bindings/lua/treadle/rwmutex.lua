-- SPDX-License-Identifier: MIT
-- Read-write mutexes, and things that happen once.  Both may be made outside a
-- run and outlive one; only their waiting needs a goroutine.
--
-- Invariant: as in sync.lua, the core's object lives as long as the Lua object,
-- and that as long as anybody waits for it.

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local wait_slow, tried, own = park.wait_slow, park.tried, park.own
local misuse = errors.misuse
local deadline = time.deadline

local FOREVER = const.TDL_FOREVER

--- A lock for many readers or one writer. A writer that waits keeps new readers
--- out, so who reads must not read again inside.
---@class treadle.RWMutex
---@field ptr ffi.cdata* tdl_rwmutex
local RWMutex = {}
RWMutex.__index = RWMutex
class.public(RWMutex, "rwmutex")

--- Waits until nobody reads or writes, and takes the lock for writing.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil locked
---@return string|nil err "cancelled", "timeout"
function RWMutex:lock(timeout)
  local rc = C.tdl_rwmutex_lock_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return wait_slow(self, rc)
end

--- Takes the lock for writing if it is free; never waits.
---@return boolean locked
function RWMutex:trylock()
  return tried(C.tdl_rwmutex_trylock(self.ptr))
end

--- Ends writing. An error when nobody writes.
---@return true
function RWMutex:unlock()
  if C.tdl_rwmutex_unlock(self.ptr) < 0 then misuse "unlock of an unlocked rwmutex" end
  return true
end

--- Waits until nobody writes or waits to, and takes the lock for reading.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil locked
---@return string|nil err "cancelled", "timeout"
function RWMutex:rlock(timeout)
  local rc = C.tdl_rwmutex_rlock_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return wait_slow(self, rc)
end

--- Takes the lock for reading if that needs no wait.
---@return boolean locked
function RWMutex:tryrlock()
  return tried(C.tdl_rwmutex_tryrlock(self.ptr))
end

--- Ends reading. An error when nobody reads.
---@return true
function RWMutex:runlock()
  if C.tdl_rwmutex_runlock(self.ptr) < 0 then misuse "runlock of an rwmutex that nobody reads" end
  return true
end

--- Something that happens once.
---@class treadle.Once
---@field ptr ffi.cdata* tdl_once
local Once = {}
Once.__index = Once
class.public(Once, "once")

local function finish(self, ok, ...)
  C.tdl_once_end(self.ptr)
  if not ok then error((...), 0) end
  return true
end

--- Calls f(...) if nobody has before; else waits until that call has ended. It is
--- done however it ended: an error of f is raised here, and not again.
---@param f function
---@param ... any its arguments
---@return true|nil done
---@return string|nil err "cancelled"
function Once:call(f, ...)
  if type(f) ~= "function" then misuse("call expects a function, got " .. type(f)) end
  local rc = hold(C.tdl_once_begin_start(state.host, state.id, self.ptr, FOREVER))
  if rc == 1 then return finish(self, pcall(f, ...)) end
  if rc == 0 then return true end
  return nil, fail(rc, self)
end

--- Has it happened?
---@return boolean
function Once:done()
  return C.tdl_once_done(self.ptr) == 1
end

local M = {}

--- A new read-write mutex, unlocked.
---@return treadle.RWMutex
function M.rwmutex()
  return setmetatable({ ptr = own(C.tdl_rwmutex_new(), C.tdl_rwmutex_free) }, RWMutex)
end

--- Something that has not happened yet.
---@return treadle.Once
function M.once()
  return setmetatable({ ptr = own(C.tdl_once_new(), C.tdl_once_free) }, Once)
end

return M
