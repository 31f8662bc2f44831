-- SPDX-License-Identifier: MIT
-- treadle.run: opens a host, runs goroutines until all have ended, closes it.
--
-- The loop has two phases, so that LuaJIT can compile both: drain() asks the
-- core for a batch and copies it into two arrays of Lua numbers, and calls no
-- coroutine; dispatch() resumes coroutines and touches only Lua values.
--
-- Invariants: one run at a time in a lua_State.  However it ends, the host is
-- closed, coroutine.resume and wrap are restored and the state says that nothing
-- runs.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local interpose = require "treadle.interpose"
local park = require "treadle.park"
local report = require "treadle.report"
local task = require "treadle.task"
local watchdog = require "treadle.watchdog"
local C, const = library.C, library.const

local state, SENTINEL, NO_TASK = park.state, park.SENTINEL, park.NO_TASK
local coroutines, ids, frames, watchers = state.coroutines, state.ids, state.frames, state.watchers
local finished, stray, live = task.finished, task.stray, task.live
local misuse = errors.misuse
local resume = coroutine.resume -- or the watchdog's, in a run that has one
local tonumber = tonumber

local WATCHER, EDEADLOCK = const.TDL_WATCHER, const.TDL_EDEADLOCK
local TELL = const.TDL_POLL_DEADLOCK -- says so when nothing can end the wait
local BATCH = 256
local AT_ONCE = 64 -- operations that did not have to wait, see spend in park.lua

local events = ffi.new("tdl_event[?]", BATCH)
local who, result = {}, {}
for i = 1, BATCH do who[i], result[i] = 0, 0 end
local count, at = 0, 0 -- the batch, and the event that was dispatched last

local function drain(timeout, flags)
  local n = C.tdl_host_poll_opts(state.host, events, BATCH, timeout, flags)
  at = 0
  state.turn = state.turn + 1
  local from, whose, results = events, who, result -- as locals they are loaded once, and not for each event
  for i = 1, n do
    local event = from[i - 1]
    whose[i], results[i] = tonumber(event.task), event.result
  end
  count = n
  return n
end

local function dispatch()
  -- as locals: after each coroutine's turn a trace begins anew, and finds them cheaper than as upvalues
  local now, from, what_of, cos, own, of = state, who, result, coroutines, ids, frames
  local waits, go_on = SENTINEL, resume
  for i = at + 1, count do
    at = i
    local id = from[i]
    local co = cos[id]
    if co then
      now.cur, now.id, now.frame, now.left = id, own[id], of[id], AT_ONCE
      local ok, what = go_on(co, what_of[i])
      if what ~= waits then finished(id, ok, what, co) end
    elseif id >= WATCHER then
      local watching = watchers[id]
      if watching then C.tdl_task_ready(state.host, watching, result[i]) end
    else
      stray(id)
    end
  end
  state.cur, state.id = -1, NO_TASK
end

--- Events that came out of turn (see call_off in park.lua) go next.
local function take_backlog()
  local backlog = state.backlog
  local n = #backlog
  if n > BATCH then n = BATCH end
  for i = 1, n do who[i], result[i] = backlog[i][1], backlog[i][2] end
  local rest = {}
  for i = n + 1, #backlog do rest[#rest + 1] = backlog[i] end
  state.backlog = rest
  at, count = 0, n
end

local function loop()
  dispatch() -- what is left of a batch that an interrupt cut short
  while live() > 0 do
    if #state.backlog > 0 then
      take_backlog()
    else
      local n = drain(-1, TELL)
      if n < 0 then
        count = 0
        if n == EDEADLOCK then report.deadlock(state, live()) end
        error("treadle: the loop cannot go on: " .. errors.text[n], 0)
      end
    end
    dispatch()
  end
end

local ROUNDS = 32

--- What there is to do without waiting, for a host whose loop is another's; after
--- so many rounds that has its turn first.
local function turn()
  dispatch()
  for _ = 1, ROUNDS do
    if #state.backlog > 0 then
      take_backlog()
    else
      local n = drain(0, 0)
      if n < 0 then error("treadle: the loop cannot go on: " .. errors.text[n], 0) end
      if n == 0 then return end
    end
    dispatch()
  end
end

local function open()
  local host = ffi.new "tdl_host *[1]"
  local rc = C.tdl_host_open("lua", host)
  if rc == const.TDL_EBUSY then misuse "treadle.run inside a goroutine of C" end
  if rc < 0 then error("treadle: run cannot start: " .. errors.text[rc], 0) end
  state.host = host[0]
  state.outcomes = C.tdl_host_outcomes(host[0])
  state.running, state.ending = true, false
  state.runs = state.runs + 1
  state.backlog, count, at = {}, 0, 0
  interpose.install()
end

local function close()
  watchdog.finish()
  interpose.restore()
  C.tdl_host_close(state.host)
  state.host, state.outcomes = park.NO_HOST, nil
  state.cur, state.id = -1, NO_TASK
  state.running = false
  task.forget()
  for id in pairs(coroutines) do coroutines[id], ids[id], frames[id], state.tasks[id] = nil, nil, nil, nil end
end

local M = { open = open, close = close, loop = loop, turn = turn } -- for guest.lua

---@class treadle.RunOptions
---@field on_error fun(task: treadle.Task, err: any, trace: string)|nil told of each error that ends a goroutine
---  and that nobody waits for; it may not wait. Without it they go to stderr and run raises the first at its end.
---@field watchdog number|nil seconds; a goroutine that keeps the others waiting for longer is reported, with its
---  traceback: while it runs if it is interpreted, else when it next waits. TDL_DEBUG=watchdog=100 (ms) sets it, too.
---@field on_hog fun(task: treadle.Task, seconds: number, trace: string)|nil told instead of stderr; it may not wait

--- Runs f as the first goroutine and returns its results once it has returned.
--- Goroutines that are still there are cancelled then, and waited for until they
--- have unwound.  An error of f is raised; else the first error of a goroutine
--- that nobody has joined, unless on_error was given.  When every goroutine waits
--- and nothing in the process can wake one, the tracebacks of all go to stderr,
--- they are cancelled, and run raises an error.
---@param f fun(): ...
---@param options treadle.RunOptions|nil
---@return any ...
function M.run(f, options)
  if type(f) ~= "function" then misuse("run expects a function, got " .. type(f)) end
  errors.check_options(options, "run", "on_error watchdog on_hog ")
  local on_error = options and options.on_error
  if on_error ~= nil and type(on_error) ~= "function" then misuse "on_error must be a function" end
  local limit, on_hog = watchdog.check(options)
  if state.running then misuse "run inside run: treadle.go starts another goroutine in this one" end
  open()
  resume = watchdog.begin(limit, on_hog)
  report.begin(on_error)
  local main = task.spawn(nil, f, 0)
  task.set_main(main)
  local fine, failure = pcall(loop)
  if not fine then -- interrupted (Ctrl-C): unwind all, then say so
    state.cur, state.id = -1, NO_TASK
    task.cancel_all()
    pcall(loop)
  end
  close()
  if not fine then error(failure, 0) end
  if main.failed then error(main.err, 0) end
  local lost = report.first_unjoined()
  if lost then error(lost.err, 0) end
  return task.give_results(main)
end

return M
