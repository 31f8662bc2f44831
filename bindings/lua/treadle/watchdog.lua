-- SPDX-License-Identifier: MIT
-- The watchdog of a run: reports a goroutine that holds the lua_State for long,
-- so that no other can run, with its traceback.
--
-- Interpreted code is seen while it runs, by a count hook.  Compiled loops call no
-- hook (LuaJIT is built without LUAJIT_ENABLE_CHECKHOOK), and C functions none
-- either: they are reported when they are over, with where the goroutine stands
-- then.
--
-- Invariant: `since` is set exactly while a goroutine runs; `told` says that this
-- stretch was reported.  Without a watchdog none of this is called.

local library = require "treadle.library"
local errors = require "treadle.errors"
local park = require "treadle.park"
local C = library.C

local state = park.state
local resume = coroutine.resume
local tonumber = tonumber

local COUNT = 100000 -- VM instructions between two looks: a millisecond or so

local M = {}

local limit, tell ---@type number|nil, fun(task: treadle.Task, seconds: number, trace: string)|nil
local since, told = nil, false
local old_hook, old_mask, old_count

local function now()
  return tonumber(C.tdl_now()) / 1e9
end

local function report(task, seconds, trace)
  told = true
  if not tell then
    io.stderr:write(("treadle: %s has held its lua_State for %.3f s: %s\n"):format(
      tostring(task), seconds, trace))
    return
  end
  local ok, err = pcall(tell, task, seconds, trace)
  if not ok then io.stderr:write("treadle: on_hog failed: ", tostring(err), "\n") end
end

local function hook()
  if not since or told then return end
  local seconds = now() - since
  if seconds >= limit then report(state.tasks[state.cur], seconds, debug.traceback("still running", 2)) end
end

local function stepped(co, task, ...)
  local seconds = now() - since
  since = nil
  if not told and seconds >= limit then report(task, seconds, debug.traceback(co, "by now at")) end
  return ...
end

--- Resumes a goroutine, and looks how long it takes.
local function step(co, value)
  since, told = now(), false
  return stepped(co, state.tasks[state.cur], resume(co, value))
end

--- The limit that the environment sets (TDL_DEBUG=watchdog=100, milliseconds).
local function from_environment()
  local ms = (os.getenv "TDL_DEBUG" or ""):match "watchdog=(%d+)"
  return ms and tonumber(ms) / 1000
end

--- Begins a run: what it resumes goroutines with.
---@param seconds number|nil
---@param on_hog fun(task: treadle.Task, seconds: number, trace: string)|nil
---@return fun(co: thread, value: integer): boolean, any
function M.begin(seconds, on_hog)
  limit, tell = seconds or from_environment(), on_hog
  if not limit then return resume end
  old_hook, old_mask, old_count = debug.gethook()
  debug.sethook(hook, "", COUNT)
  return step
end

--- Ends it.
function M.finish()
  if not limit then return end
  limit, tell, since = nil, nil, nil
  debug.sethook(old_hook, old_mask, old_count)
end

--- Checks the options of a run.
---@param options treadle.RunOptions|nil
function M.check(options)
  local seconds, on_hog = options and options.watchdog, options and options.on_hog
  if seconds ~= nil and not (type(seconds) == "number" and seconds > 0) then
    errors.misuse "watchdog must be a number of seconds, more than 0"
  end
  if on_hog ~= nil and type(on_hog) ~= "function" then errors.misuse "on_hog must be a function" end
  return seconds, on_hog
end

return M
