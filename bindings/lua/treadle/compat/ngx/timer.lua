-- SPDX-License-Identifier: MIT
-- ngx.timer: functions that run later, each in a goroutine of its own.
--
-- A timer that is still to come when the main function of the run returns is
-- called at once, with premature = true; it may not wait then.
--
-- Invariant: an error of a timer's function is logged, and ends nothing else.

local goroutine = require "treadle.goroutine"
local log = require "treadle.compat.ngx.log"
local park = require "treadle.park"
local task = require "treadle.task"
local errors = require "treadle.errors"

local select, unpack = select, unpack

local pending, running = 0, 0

local function report(err)
  if err == errors.CANCELLED then error(err, 0) end
  log.log(log.ERR, "lua entry thread aborted: runtime error: ", debug.traceback(tostring(err), 2))
end

local function call(f, premature, arguments, n)
  running = running + 1
  local ok, err = xpcall(function() f(premature, unpack(arguments, 1, n)) end, report)
  running = running - 1
  if not ok and err == errors.CANCELLED then error(err, 0) end
end

local function check(delay, f, name, least)
  delay = tonumber(delay)
  if not delay or delay < 0 or delay == math.huge then error(("bad argument #1 to '%s' (delay cannot be < 0)"):format(name), 3) end
  if delay < least then error(("bad argument #1 to '%s' (delay cannot be 0)"):format(name), 3) end
  if type(f) ~= "function" then error(("bad argument #2 to '%s' (Lua function expected)"):format(name), 3) end
  park.need_run()
  return delay
end

local M = {}

local function once(delay, f, arguments, n)
  local ok = goroutine.sleep(delay)
  pending = pending - 1
  call(f, not ok, arguments, n)
end

--- Calls f(premature, ...) after the delay.
---@param delay number seconds
---@param f function
---@param ... any further arguments
---@return 1 ok
function M.at(delay, f, ...)
  delay = check(delay, f, "at", 0)
  pending = pending + 1
  task.spawn(nil, once, 4, delay, f, { ... }, select("#", ...))
  return 1
end

local function repeatedly(delay, f, arguments, n)
  while true do
    local ok = goroutine.sleep(delay)
    if not ok then
      pending = pending - 1
      call(f, true, arguments, n)
      return
    end
    task.spawn(nil, call, 4, f, false, arguments, n)
  end
end

--- Calls f(premature, ...) every so often.
---@param delay number seconds, more than 0
---@param f function
---@param ... any further arguments
---@return 1 ok
function M.every(delay, f, ...)
  delay = check(delay, f, "every", 0.001)
  pending = pending + 1
  task.spawn(nil, repeatedly, 4, delay, f, { ... }, select("#", ...))
  return 1
end

--- How many run now.
---@return integer
function M.running_count() return running end

--- How many are still to come.
---@return integer
function M.pending_count() return pending end

return M
