-- SPDX-License-Identifier: MIT
-- Goroutines: their start, their end, and the handle that joins and cancels one.
--
-- Invariants:
--   * A Task has its number in `id` until it is done; the number may then serve
--     another, so nothing keeps numbers of others but `joiners`, whose members
--     are parked and take themselves out before they go on.
--   * An error is told exactly once: to a joiner, to the owner (a scope, a
--     timeout), or through the report; `joined` says that somebody has it.
--   * Coroutines are pooled, boundedly, and only those whose function returned.

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local frame = require "treadle.frame"
local park = require "treadle.park"
local report = require "treadle.report"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local tasks, coroutines, ids, frames = state.tasks, state.coroutines, state.ids, state.frames
local misuse, CANCELLED = errors.misuse, errors.CANCELLED
local create, yield = coroutine.create, coroutine.yield
local deadline = time.deadline
local frame_of = frame.of
local select, unpack = select, unpack
local NO_TASK = park.NO_TASK
local PENDING, EBUSY, ENOMEM = const.TDL_PENDING, const.TDL_EBUSY, const.TDL_ENOMEM

local POOL = 1024
local DONE = {}

--- A goroutine, as treadle.go returns it.
---@class treadle.Task
---@field id integer|nil its number while it lives
---@field done boolean
---@field failed boolean an error ended it
---@field err any that error, or "cancelled"
---@field joined boolean somebody has been told the error
---@field told boolean a blocking call of it has returned "cancelled"
---@field ignored integer blocking calls after that
---@field cancels integer reasons for which it is cancelled now
---@field owner treadle.Owner|nil
local Task = {}
Task.__index = Task
class.public(Task, "task")

--- Whoever started a goroutine and wants to know of its end.
---@class treadle.Owner
---@field ended fun(self: treadle.Owner, task: treadle.Task): boolean|nil true: the error is taken care of

local pool, pooled = {}, 0
local live = 0
local main ---@type treadle.Task|nil

local function keep_results(task, ...)
  local n = select("#", ...)
  task.n = n
  if n == 1 then
    task.results = ...
  elseif n > 1 then
    task.results = { ... }
  end
end

--- What every coroutine runs: one goroutine after the other.
local function body()
  while true do
    local task = tasks[state.cur]
    local f, n = task.f, task.n
    task.f = nil
    if n == 0 then
      keep_results(task, f())
    elseif n == 1 then
      local argument = task.arguments
      task.arguments = nil
      keep_results(task, f(argument))
    else
      local arguments = task.arguments
      task.arguments = nil
      keep_results(task, f(unpack(arguments, 1, n)))
    end
    yield(DONE)
  end
end

--- Starts f(...) as a goroutine of the run in progress.
---@param owner treadle.Owner|nil
---@param f function
---@param n integer number of arguments
---@return treadle.Task
local function spawn(owner, f, n, ...)
  local id = C.tdl_task_new(state.host, 1)
  if id < 0 then
    if id == ENOMEM then misuse "too many goroutines" end
    error("treadle: " .. fail(id), 0)
  end
  local task = setmetatable({
    id = id, f = f, n = n, owner = owner,
    cancels = 0, ignored = 0, done = false, failed = false, joined = false, told = false,
  }, Task)
  if n == 1 then
    task.arguments = ...
  elseif n > 1 then
    task.arguments = { ... }
  end
  local co
  if pooled > 0 then
    co = pool[pooled]
    pool[pooled] = nil
    pooled = pooled - 1
  else
    co = create(body)
  end
  tasks[id], coroutines[id], ids[id], frames[id] = task, co, id, frame_of(co)
  live = live + 1
  if state.ending then task:cancel() end
  return task
end

local function add_reason(task)
  local reasons = task.cancels + 1
  task.cancels = reasons
  if reasons > 1 then return end
  ids[task.id] = NO_TASK
  if state.cur == task.id then
    state.id = NO_TASK
  else
    C.tdl_task_cancel(state.host, task.id)
  end
end

--- Takes back one reason for which the running goroutine is cancelled.
local function drop_reason(task)
  task.cancels = task.cancels - 1
  if task.cancels > 0 then return end
  task.told, task.ignored = false, 0
  ids[task.id], state.id = task.id, task.id
end

--- Cancels the goroutine: the blocking call it is in, and every later one,
--- returns nil, "cancelled"; from the second on they raise an error, so that its
--- frames unwind.  What had been handed to it before is kept.
---@return boolean live false when it was over already
function Task:cancel()
  if self.done then return false end
  if not self.cancelled then
    self.cancelled = true
    add_reason(self)
  end
  return true
end

local function give_results(task)
  task.joined = true
  if task.failed then return nil, task.err end
  if task.n == 1 then return task.results end
  if task.n > 1 then return unpack(task.results, 1, task.n) end
end

--- Waits for the goroutine's end and returns what its function returned, or nil
--- and the error that ended it ("cancelled" if cancelling did).  May be called
--- by several, and again.
---@param timeout number|nil seconds; when they are over: nil, "timeout"
---@return any ... the results; or nil, error, "timeout" or "cancelled" (the caller's)
function Task:join(timeout)
  if not self.done then
    if self.id == state.cur then misuse "a goroutine cannot join itself" end
    local rc = C.tdl_task_park_start(state.host, state.id, deadline(timeout))
    if rc == PENDING then
      local me = state.cur
      local joiners = self.joiners or {}
      self.joiners = joiners
      joiners[#joiners + 1] = me
      rc = hold(rc)
      for i = #joiners, 1, -1 do
        if joiners[i] == me then table.remove(joiners, i) end
      end
    end
    if rc < 0 then return nil, fail(rc) end
  end
  return give_results(self)
end

--- For treadle.select: fires when the goroutine has ended; the value is its
--- first result and ok true, or the error and false.
---@return treadle.Op
function Task:join_op()
  return { kind = "join", task = self }
end

--- Names the goroutine in dumps; the first 31 bytes count.
---@param name string
function Task:set_name(name)
  if type(name) ~= "string" then misuse("a name must be a string, not " .. type(name)) end
  if self.id then C.tdl_task_set_name(state.host, self.id, name) end
end

function Task:__tostring()
  return self.done and "goroutine (ended)" or "goroutine " .. self.id
end

--- Tells the error of a goroutine that has just died to whom it concerns.
local function deliver(task, trace)
  if task == main then return end
  local owner = task.owner
  if owner and owner:ended(task) then task.joined = true end
  if not task.failed or task.joined or task.unwound then return end
  local joiners = task.joiners
  if (joiners and #joiners > 0) or (task.selects or 0) > 0 then
    task.trace = trace -- somebody is about to be told; if not after all, see unclaimed()
    return
  end
  report.now(task, trace)
end

--- A select that also waited for this goroutine chose another case.
local function unclaimed(task)
  if task.failed and not task.joined and task.trace and (task.selects or 0) == 0 then
    local trace = task.trace
    task.trace = nil
    report.now(task, trace)
  end
end

local function bury(task, trace)
  local id = task.id
  tasks[id], coroutines[id], ids[id], frames[id] = nil, nil, nil, nil
  live = live - 1
  task.done, task.id = true, nil
  if C.tdl_task_free(state.host, id) == EBUSY then
    C.tdl_task_cancel(state.host, id)
    coroutines[id] = false -- its event frees the number
  end
  local joiners = task.joiners
  if joiners then
    for i = 1, #joiners do C.tdl_task_ready(state.host, joiners[i], 0) end
  end
  if task.ended_chan then C.tdl_chan_close(task.ended_chan) end
  deliver(task, trace)
end

local function die(task, err, trace)
  task.failed = true
  task.n = 0
  if err == CANCELLED then
    task.err, task.unwound = "cancelled", true
  else
    task.err = err
  end
  bury(task, trace)
end

local function cancel_all()
  state.ending = true
  for _, task in pairs(tasks) do task:cancel() end
end

--- A coroutine came back, and not to wait.
---@param id integer
---@param ok boolean
---@param what any DONE, another yielded value, or the error
---@param co thread
local function finished(id, ok, what, co)
  local task = tasks[id]
  state.cur, state.id = -1, NO_TASK
  if ok and what == DONE then
    if pooled < POOL then
      pooled = pooled + 1
      pool[pooled] = co
    end
    bury(task)
  else
    local err = what
    if ok then err = "treadle: coroutine.yield called by a goroutine, outside any coroutine of its own" end
    die(task, err, debug.traceback(co, report.tostring(err)))
    if type(err) == "string" and err:find("interrupted!$") then error(err, 0) end -- Ctrl-C in luajit's shell
  end
  if task == main then cancel_all() end
end

--- An event for a number whose goroutine is not to be resumed any more.
local function stray(id)
  local task = tasks[id]
  state.cur, state.id = -1, NO_TASK
  if task and task.abandoned then
    die(task, "treadle: the goroutine ignored its cancellation and was dropped",
      "treadle: the goroutine ignored its cancellation and was dropped")
  elseif coroutines[id] == false then
    coroutines[id] = nil
    C.tdl_task_free(state.host, id)
  end
end

return {
  spawn = spawn,
  finished = finished,
  stray = stray,
  cancel_all = cancel_all,
  add_reason = add_reason,
  drop_reason = drop_reason,
  give_results = give_results,
  unclaimed = unclaimed,
  live = function() return live end,
  set_main = function(task) main, live = task, 1 end,
  forget = function() main, live = nil, 0 end,
  Task = Task,
}
