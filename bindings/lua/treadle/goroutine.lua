-- SPDX-License-Identifier: MIT
-- Starting goroutines, and letting time or others pass.

local library = require "treadle.library"
local errors = require "treadle.errors"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C = library.C

local state, hold, fail = park.state, park.hold, park.fail
local nanoseconds = time.nanoseconds
local spawn = task.spawn
local select, type = select, type

local M = {}

--- Starts f(...) as a goroutine; it runs when the caller next waits.
---@param f function
---@param ... any its arguments
---@return treadle.Task
function M.go(f, ...)
  if type(f) ~= "function" then errors.misuse("go expects a function, got " .. type(f)) end
  if not state.running then park.need_run() end
  return spawn(nil, f, select("#", ...), ...)
end

local function wait_slow(rc)
  rc = hold(rc)
  if rc >= 0 then return true end
  return nil, fail(rc)
end

--- Waits, never less than so many seconds; 0 or less returns at once.
---@param seconds number
---@return true|nil slept
---@return string|nil err "cancelled"
function M.sleep(seconds)
  return wait_slow(C.tdl_sleep_start(state.host, state.id, nanoseconds(seconds)))
end

--- Lets the other goroutines run that can.
---@return true|nil done
---@return string|nil err "cancelled"
function M.yield()
  return wait_slow(C.tdl_yield_start(state.host, state.id))
end

return M
