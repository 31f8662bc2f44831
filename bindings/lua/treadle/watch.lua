-- SPDX-License-Identifier: MIT
-- Waiting for a file descriptor that is not treadle's: a signalfd, a pipe, the
-- socket of another library.  Not part of `treadle`: require "treadle.watch".
--
-- Invariant: a descriptor is watched only while its one goroutine waits.

local library = require "treadle.library"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local WATCHER = const.TDL_WATCHER
local DIRECTIONS = { read = const.TDL_READABLE, write = const.TDL_WRITABLE }

local M = {}

--- Waits until the descriptor can be read or written (or has failed, which the
--- next read or write will tell).  One goroutine at a time may wait for one.
---@param fd integer
---@param direction "read"|"write"
---@param timeout number|nil seconds; nil: no limit
---@return true|nil ready
---@return string|nil err "timeout", "cancelled", "permission denied" (not a pollable descriptor), …
function M.wait(fd, direction, timeout)
  local readiness = DIRECTIONS[direction]
  if type(fd) ~= "number" or not readiness then
    errors.misuse 'wait expects a file descriptor and "read" or "write"'
  end
  local limit = time.deadline(timeout)
  park.running_task()
  local watcher = C.tdl_host_watch(state.host, fd, readiness)
  if watcher < 0 then return nil, fail(watcher) end
  state.watchers[watcher + WATCHER] = state.cur
  local rc = hold(C.tdl_task_park_start(state.host, state.id, limit))
  state.watchers[watcher + WATCHER] = nil
  C.tdl_host_unwatch(state.host, watcher)
  if rc < 0 then return nil, fail(rc) end
  return true
end

return M
