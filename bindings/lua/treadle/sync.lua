-- SPDX-License-Identifier: MIT
-- Mutual exclusion, conditions, semaphores and wait groups.  All may be made
-- outside a run and outlive one; only their waiting needs a goroutine.
--
-- Invariant: the core's object lives as long as the Lua object, and that as long
-- as anybody waits for it (see wait_slow in park.lua).

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, fail = park.state, park.fail
local wait_slow, tried, own = park.wait_slow, park.tried, park.own
local need_yield = park.need_yield
local misuse = errors.misuse
local deadline = time.deadline
local select = select

local FOREVER = const.TDL_FOREVER
local ENOTLOCKED = const.TDL_ENOTLOCKED
local MAX_COUNT = 2 ^ 31 - 1

--- A lock for goroutines. It belongs to nobody: one may lock it and another unlock it.
---@class treadle.Mutex
---@field ptr ffi.cdata* tdl_mutex
local Mutex = {}
Mutex.__index = Mutex
class.public(Mutex, "mutex")

--- Waits until the lock is free and takes it. Goroutines (threads, …) that wait for each other's mutexes are
--- named on stderr after a second; for the one whose call closed the circle that is an error.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil locked
---@return string|nil err "cancelled", "timeout"
function Mutex:lock(timeout)
  local rc = C.tdl_mutex_lock_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return wait_slow(self, rc)
end

--- Takes the lock if it is free; never waits.
---@return boolean locked
function Mutex:trylock()
  return tried(C.tdl_mutex_trylock(self.ptr))
end

--- Gives the lock to the next. An error when it is not locked.
---@return true
function Mutex:unlock()
  if C.tdl_mutex_unlock(self.ptr) < 0 then misuse "unlock of an unlocked mutex" end
  return true
end

--- The mutex stays locked, but nobody's: for one that another goroutine is to unlock, so that who waits for that
--- is not taken for one who waits for himself. An error when it is not locked.
---@return true
function Mutex:disown()
  if C.tdl_mutex_disown(self.ptr) < 0 then misuse "disown of an unlocked mutex" end
  return true
end

--- A condition of what a mutex protects, which somebody else will bring about.
---@class treadle.Cond
---@field ptr ffi.cdata* tdl_cond
---@field mutex treadle.Mutex lives as long as the core's condition, which points to it
local Cond = {}
Cond.__index = Cond
class.public(Cond, "cond")

--- Unlocks the mutex, waits until it is signalled, and locks the mutex again: it
--- is held whatever is returned. First come, first woken. That it was signalled
--- says no more than that the condition is worth another look. An error when the
--- mutex is not locked.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil signalled
---@return string|nil err "cancelled", "timeout"
function Cond:wait(timeout)
  need_yield() -- once begun it can only end with the mutex, for which others may have to run
  local rc = C.tdl_cond_wait_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == ENOTLOCKED then misuse "wait for a condition whose mutex is not locked" end
  return wait_slow(self, rc)
end

--- Wakes the one that has waited longest. The mutex need not be held.
---@return true
function Cond:signal()
  local rc = C.tdl_cond_signal(self.ptr)
  if rc < 0 then fail(rc) end
  return true
end

--- Wakes all that wait. The mutex need not be held.
---@return true
function Cond:broadcast()
  local rc = C.tdl_cond_broadcast(self.ptr)
  if rc < 0 then fail(rc) end
  return true
end

--- So many permits, to be taken and given back.
---@class treadle.Semaphore
---@field ptr ffi.cdata* tdl_sema
local Semaphore = {}
Semaphore.__index = Semaphore
class.public(Semaphore, "semaphore")

--- Checks a number of permits.
local function permits(n)
  if type(n) ~= "number" or n % 1 ~= 0 or n < 0 or n > MAX_COUNT then
    misuse("a number of permits is a whole number from 0 to 2^31 - 1, not " .. tostring(n))
  end
  return n
end

--- Takes n permits; waits until there are so many. First come, first served: a
--- large request is not overtaken by small ones.
---@param n integer|nil 1 when nil
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil acquired
---@return string|nil err "cancelled", "timeout"
function Semaphore:acquire(n, timeout)
  n = n == nil and 1 or permits(n)
  local rc = C.tdl_sema_acquire_start(state.host, state.id, self.ptr, n, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return wait_slow(self, rc)
end

--- Takes n permits if they are there, and nobody waits for any; never waits.
---@param n integer|nil 1 when nil
---@return boolean acquired
function Semaphore:try_acquire(n)
  return tried(C.tdl_sema_try_acquire(self.ptr, n == nil and 1 or permits(n)))
end

--- Gives n permits back; more than were acquired is allowed.
---@param n integer|nil 1 when nil
---@return true
function Semaphore:release(n)
  local rc = C.tdl_sema_release(self.ptr, n == nil and 1 or permits(n))
  if rc < 0 then fail(rc) end
  return true
end

--- Counts things that have to end.
---@class treadle.WaitGroup: treadle.Owner
---@field ptr ffi.cdata* tdl_waitgroup
local WaitGroup = {}
WaitGroup.__index = WaitGroup
class.public(WaitGroup, "waitgroup")

--- Adds n (which may be negative) to the counter. An error when it would become negative.
---@param n integer|nil 1 when nil
---@return true
function WaitGroup:add(n)
  if n == nil then n = 1 end
  if type(n) ~= "number" or n % 1 ~= 0 or n < -MAX_COUNT or n > MAX_COUNT then
    misuse("add expects a whole number, got " .. tostring(n))
  end
  if C.tdl_waitgroup_add(self.ptr, n) < 0 then misuse "negative wait group counter" end
  return true
end

--- add(-1).
---@return true
function WaitGroup:done()
  if C.tdl_waitgroup_done(self.ptr) < 0 then misuse "negative wait group counter" end
  return true
end

--- Waits until the counter is 0.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil zero
---@return string|nil err "cancelled", "timeout"
function WaitGroup:wait(timeout)
  local rc = C.tdl_waitgroup_wait_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return wait_slow(self, rc)
end

--- Starts f(...) as a goroutine that is counted until it ends, by an error too.
---@param f function
---@param ... any its arguments
---@return treadle.Task
function WaitGroup:go(f, ...)
  if type(f) ~= "function" then misuse("go expects a function, got " .. type(f)) end
  park.need_run()
  self:add(1)
  return task.spawn(self, f, select("#", ...), ...)
end

function WaitGroup:ended()
  C.tdl_waitgroup_done(self.ptr)
end

local M = {}

--- A new mutex, unlocked.
---@return treadle.Mutex
function M.mutex()
  return setmetatable({ ptr = own(C.tdl_mutex_new(), C.tdl_mutex_free) }, Mutex)
end

--- A new condition for what the mutex protects.
---@param mutex treadle.Mutex
---@return treadle.Cond
function M.cond(mutex)
  if getmetatable(mutex) ~= Mutex then misuse("cond expects a mutex, got " .. type(mutex)) end
  return setmetatable({ ptr = own(C.tdl_cond_new(mutex.ptr), C.tdl_cond_free), mutex = mutex }, Cond)
end

--- A new semaphore with so many permits.
---@param n integer
---@return treadle.Semaphore
function M.semaphore(n)
  return setmetatable({ ptr = own(C.tdl_sema_new(permits(n)), C.tdl_sema_free) }, Semaphore)
end

--- A new wait group, its counter 0.
---@return treadle.WaitGroup
function M.waitgroup()
  return setmetatable({ ptr = own(C.tdl_waitgroup_new(), C.tdl_waitgroup_free) }, WaitGroup)
end

return M
