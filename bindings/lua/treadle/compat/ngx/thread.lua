-- SPDX-License-Identifier: MIT
-- Light threads: ngx.thread, as goroutines.
--
-- As in nginx a thread begins at once, runs until it first waits, and only who
-- spawned it may wait for it or kill it; unlike there, it may outlive him.
--
-- Invariant: `known` has the threads nobody has waited for or killed yet.

local errors = require "treadle.errors"
local goroutine = require "treadle.goroutine"
local park = require "treadle.park"
local select_ = require "treadle.select"
local task = require "treadle.task"
local common = require "treadle.compat.common"

local state = park.state
local select = select

local known = setmetatable({}, { __mode = "k" }) -- thread: who spawned it

-- A thread's error belongs to who waits for it; nobody else hears of it.
local owner = { ended = function() return true end }

local M = {}

--- Starts f(...) at once; returns when it waits or has ended.
---@param f function
---@param ... any its arguments
---@return treadle.Task thread
function M.spawn(f, ...)
  if type(f) ~= "function" then errors.misuse("ngx.thread.spawn expects a function, got " .. type(f)) end
  park.need_run()
  local thread = task.spawn(owner, f, select("#", ...), ...)
  known[thread] = park.running_task()
  local ok, err = goroutine.yield()
  if not ok then common.text(err) end
  return thread
end

local function results(thread, ...)
  if thread.failed then return false, thread.err end
  return true, ...
end

--- Waits for the first of the threads to end.
---@param ... treadle.Task
---@return boolean|nil ok nil: bad thread
---@return any ... what it returned, or its error
function M.wait(...)
  local n = select("#", ...)
  if n == 0 then error("at least one coroutine should be specified", 2) end
  local me = park.running_task()
  local ops = {}
  for i = 1, n do
    local thread = select(i, ...)
    if getmetatable(thread) ~= task.Task then
      error(("bad argument #%d to 'wait' (coroutine expected)"):format(i), 2)
    end
    if not known[thread] then return nil, "already waited or killed" end
    if known[thread] ~= me then error("only the parent coroutine can wait on the thread", 2) end
    if thread.done then -- the first in the list goes first, as in nginx
      known[thread] = nil
      return results(thread, thread:join())
    end
    ops[i] = thread:join_op()
  end
  local i, _, err = select_.select(ops)
  if not i then return nil, common.text(err) end
  local thread = select(i, ...)
  known[thread] = nil
  return results(thread, thread:join())
end

--- Ends a thread where it waits.
---@param thread treadle.Task
---@return 1|nil ok
---@return string|nil err
function M.kill(thread)
  if getmetatable(thread) ~= task.Task then error("bad argument #1 to 'kill' (coroutine expected)", 2) end
  if not known[thread] then return nil, "already waited or killed" end
  if known[thread] ~= state.tasks[state.cur] then return nil, "killer not parent" end
  if thread.done then return nil, "already terminated" end
  known[thread] = nil
  thread:cancel()
  return 1
end

return M
