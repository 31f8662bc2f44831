-- SPDX-License-Identifier: MIT
-- Timers and tickers: a channel on which the core sends the time it was due.
--
-- Invariants: `ptr` is the core timer's channel, and never freed or closed from
-- here; once the timer is closed, a channel that always was takes its place.  A
-- timer is freed when it is collected, which is not while one waits for it: the
-- slow path uses it once more after the wait.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local chan = require "treadle.chan"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local deadline, nanoseconds = time.deadline, time.nanoseconds
local misuse = errors.misuse
local tonumber = tonumber

local FOREVER, ENOMEM = const.TDL_FOREVER, const.TDL_ENOMEM

--- What fires after a delay, once or again and again; from treadle.timer.
---@class treadle.Timer
---@field ptr ffi.cdata* tdl_chan
---@field timer ffi.cdata*|nil tdl_timer; nil when closed
---@field run integer the run whose host keeps its time
local Timer = {}
Timer.__index = Timer
class.public(Timer, "timer")

--- When it fires first; nil is no time here.
local function first(delay)
  nanoseconds(delay)
  return deadline(delay)
end

--- The core's period: 0 for none.
local function every(period)
  if period == nil then return 0 end
  local ns = nanoseconds(period)
  if ns <= 0 then misuse("the period of a timer must be more than 0 seconds, not " .. period) end
  return ns < 1 and 1 or ns
end

--- Nothing counts the time of a run that has ended.
local function need_its_run(self)
  if self.run ~= state.runs or not state.running then
    misuse "this timer belongs to a treadle.run that has ended"
  end
end

--- The time it was due, of the value that came.
local function due(val)
  return tonumber(val.u.i) / 1e9
end

local function recv_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return due(state.outcomes[state.cur].val) end
  return nil, fail(rc, self)
end

--- Waits until it fires, or takes what has not been received since. While
--- nobody receives, a timer with a period fires in vain but for one time.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return number|nil due when it was due, on the clock of treadle.now
---@return string|nil err "closed", "cancelled", "timeout"
function Timer:recv(timeout)
  need_its_run(self)
  local rc = C.tdl_chan_recv_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return due(state.outcomes[state.cur].val) end
  return recv_slow(self, rc)
end

--- A receive for treadle.select: its value is what recv returns.
---@type fun(self: treadle.Timer): treadle.Op
Timer.recv_op = chan.Chan.recv_op

--- Keeps it from firing until a reset. Nothing from before can be received
--- afterwards; whoever waits for it goes on waiting.
---@return boolean pending it was still to fire, or to be received
function Timer:stop()
  if not self.timer then return false end
  local rc = C.tdl_timer_stop(self.timer)
  if rc < 0 then fail(rc) end
  return rc == 1
end

--- Starts it anew, as treadle.timer does. Nothing from before can be received.
---@param delay number seconds until it fires; 0 or less: at once
---@param period number|nil seconds between further times; nil: it fires once
---@return boolean|nil pending it was still to fire, or to be received
---@return string|nil err "closed"
function Timer:reset(delay, period)
  local when, ns = first(delay), every(period)
  if not self.timer then return nil, "closed" end
  need_its_run(self)
  local rc = C.tdl_timer_reset(self.timer, when, ns)
  if rc < 0 then return nil, fail(rc) end
  return rc == 1
end

--- Stops it for good and frees it; those that wait for it are told "closed".
--- What is not closed is when it is collected.
---@return true|nil done
---@return string|nil err "closed" the second time
function Timer:close()
  local timer = self.timer
  if not timer then return nil, "closed" end
  self.timer, self.ptr = nil, chan.FINAL
  C.tdl_timer_free(ffi.gc(timer, nil))
  return true
end

-- What select needs of what can be received from; see chan.lua.

function Timer:received(val) -- luacheck: ignore 212
  return due(val)
end

function Timer:drained() end -- luacheck: ignore 212

--- A function that is called after a delay; from treadle.after_func.
---@class treadle.AfterFunc
---@field timer treadle.Timer
---@field waiter treadle.Task|nil waits for the timer
local AfterFunc = {}
AfterFunc.__index = AfterFunc
class.public(AfterFunc, "timer")

local function await(self)
  self.waiter = task.spawn(nil, function()
    if self.timer:recv() then
      self.waiter = nil
      self.f(unpack(self.arguments, 1, self.n))
    end
  end, 0)
end

--- Keeps the function from being called until a reset. It does not wait for one that runs.
---@return boolean pending it was still to be called
function AfterFunc:stop()
  if not self.timer:stop() then return false end
  if self.waiter then self.waiter:cancel() end
  self.waiter = nil
  return true
end

--- Has it called so many seconds from now, in place of any call to come.
---@param delay number
---@return boolean pending it was still to be called
function AfterFunc:reset(delay)
  local pending = self.timer:reset(delay)
  if not self.waiter then await(self) end
  return pending
end

local M = {}

--- Calls f(...) after a delay, in a goroutine of its own.
---@param delay number seconds; 0 or less: soon
---@param f function
---@param ... any its arguments
---@return treadle.AfterFunc
function M.after_func(delay, f, ...)
  if type(f) ~= "function" then misuse("after_func expects a function, got " .. type(f)) end
  local self = setmetatable({ timer = M.timer(delay), f = f, n = select("#", ...), arguments = { ... } }, AfterFunc)
  await(self)
  return self
end

--- A timer that fires after a delay and, with a period, again every period after
--- that, as long as the run lasts. When nobody receives in time, times are left
--- out; the others do not shift.
---@param delay number seconds; 0 or less: at once
---@param period number|nil seconds, more than 0; nil: it fires once
---@return treadle.Timer
function M.timer(delay, period)
  local when, ns = first(delay), every(period)
  park.need_run()
  local ptr = C.tdl_timer_new(when, ns)
  if ptr == nil then error("treadle: " .. errors.text[ENOMEM], 0) end
  local timer = ffi.gc(ptr, C.tdl_timer_free)
  return setmetatable({ ptr = C.tdl_timer_chan(timer), timer = timer, run = state.runs }, Timer)
end

return M
