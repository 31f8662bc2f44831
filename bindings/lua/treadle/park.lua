-- SPDX-License-Identifier: MIT
-- The state of the run in progress, and how a goroutine waits.
--
-- Every operation of this library has one shape:
--
--     local rc = C.tdl_…_start(state.host, state.id, …)  -- done at once? return
--     rc = hold(rc)                                      -- else wait for the result
--     return nil, fail(rc)                               -- and if it is an error: its text
--
-- Invariants:
--   * `state.id` is what _start forms are given.  It is the running goroutine's
--     task, or NO_TASK when nothing may wait: outside a run, between two
--     goroutines, and in a goroutine that was cancelled.  The core refuses
--     NO_TASK, so that the fast path of an operation needs no check of its own.
--   * `state.cur` is the running goroutine's task even when it was cancelled; -1
--     for none.  Tasks, coroutines and ids to give are kept by task number.
--   * A goroutine leaves its coroutine by SENTINEL only, and with an operation
--     pending; it is resumed by the operation's event and nothing else.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local C, const = library.C, library.const

local frame = require "treadle.frame"

local yield = coroutine.yield
local isyieldable = coroutine.isyieldable
local band = require("bit").band
local type = type
local KNOWN, CFRAME, RESUMED = frame.known, frame.CFRAME, frame.RESUMED
local text, misuse, CANCELLED = errors.text, errors.misuse, errors.CANCELLED

local PENDING, FOREVER = const.TDL_PENDING, const.TDL_FOREVER
local EINVAL, ECANCELED, EBUSY = const.TDL_EINVAL, const.TDL_ECANCELED, const.TDL_EBUSY
local EHOST, EFORKED = const.TDL_EHOST, const.TDL_EFORKED
local EAGAIN, ENOMEM = const.TDL_EAGAIN, const.TDL_ENOMEM
local EDEADLOCK = const.TDL_EDEADLOCK
local EUNYIELDABLE = -0x10000 -- our own: the wait was called off, Lua cannot leave this frame

local NO_TASK = 0xffffffff
local NO_HOST = ffi.cast("tdl_host *", nil)
local SENTINEL = setmetatable({}, { __tostring = function() return "treadle: a goroutine waits" end })
local PATIENCE = 100 -- raised cancellations until a goroutine that ignores them is dropped

---@class treadle.state
---@field host ffi.cdata* tdl_host of the run, NULL outside
---@field id integer what a _start form is given
---@field cur integer the running goroutine, -1 for none
---@field running boolean
---@field ending boolean the main function has returned
---@field runs integer how many have begun
---@field left integer operations that need not wait until the others get their turn, see spend
---@field frame ffi.cdata*|false of the running coroutine, see frame.lua
---@field frames table<integer, ffi.cdata*|false> of each task's own
---@field turn integer counts the batches of events
---@field outcomes ffi.cdata*|nil tdl_outcome array of the host
---@field tasks table<integer, treadle.Task>
---@field coroutines table<integer, thread|false> false: nobody is left to resume
---@field ids table<integer, integer> `id` of each task while it runs
---@field backlog table[] events taken out of turn
---@field watchers table<integer, integer> the task that waits for each watcher's descriptor
local state = {
  host = NO_HOST,
  id = NO_TASK,
  cur = -1,
  running = false,
  ending = false,
  runs = 0,
  turn = 0,
  left = 0,
  frame = false,
  frames = {},
  outcomes = nil,
  tasks = {},
  coroutines = {},
  ids = {},
  backlog = {},
  watchers = {},
}

local event = ffi.new "tdl_event[1]"

--- Calls the pending operation off because the coroutine cannot be left here (a
--- C function such as table.sort is below).  What the operation had got already
--- is its result as usual.
---@return integer rc
local function call_off()
  C.tdl_task_cancel(state.host, state.cur)
  while true do
    local n = C.tdl_host_poll(state.host, event, 1, -1)
    if n < 0 then return n end
    if n == 1 then
      local task, result = event[0].task, event[0].result
      if task == state.cur then
        return result == ECANCELED and EUNYIELDABLE or result
      end
      local backlog = state.backlog
      backlog[#backlog + 1] = { task, result }
    end
  end
end

--- Waits for the result of an operation that is pending; other codes pass
--- through.  Never raises on account of the operation, so that the caller can
--- put things in order first.
---@param rc integer what the _start form returned
---@return integer rc
local function hold(rc)
  if rc ~= PENDING then return rc end
  if KNOWN then
    if band(state.frame[CFRAME], RESUMED) == 0 then return call_off() end
  elseif not isyieldable() then
    return call_off()
  end
  local result = yield(SENTINEL)
  if type(result) ~= "number" then
    misuse("this coroutine was resumed by a coroutine.resume or wrap taken before treadle.run began")
  end
  return result
end

--- The same for a coroutine inside, which has been left already: leaves the one
--- around it, too.
---@return any result
local function leave()
  if KNOWN then
    if band(state.frame[CFRAME], RESUMED) == 0 then return call_off() end
  elseif not isyieldable() then
    return call_off()
  end
  return yield(SENTINEL)
end

local function breathe()
  hold(C.tdl_yield_start(state.host, state.id)) -- a cancellation is told by the next call
end

--- After an operation on a descriptor that did not have to wait: lets the others run when it was the
--- last of many, so that a peer who always has data does not keep them waiting.
local function spend()
  local left = state.left - 1
  state.left = left
  if left < 0 then breathe() end
end

--- Leaves a goroutine for good that caught its cancellation again and again.
---@param task treadle.Task
local function abandon(task)
  task.abandoned = true
  state.coroutines[state.cur] = false
  C.tdl_yield_start(state.host, state.cur) -- its event brings the loop to bury it
  yield(SENTINEL)
end

local names -- of C functions that call back; made when first needed

local function name_of(f)
  if not names then
    names = { [require] = "require", [dofile] = "dofile", [load] = "load", [loadstring] = "loadstring" }
    for _, part in ipairs { "string", "table", "math", "io", "os", "debug" } do
      for name, value in pairs(_G[part]) do
        if type(value) == "function" then names[value] = part .. "." .. name end
      end
    end
  end
  return names[f]
end

local HELP = {
  require = ": treadle.require lets a module wait", ["table.sort"] = ": treadle.sort lets its comparison wait",
  ["string.gsub"] = ": collect with string.gmatch, and wait after",
}

-- Frames of C that can be left.
local PASSABLE = {
  [pcall] = true, [xpcall] = true, [coroutine.yield] = true, [error] = true, [debug.getinfo] = true, [debug.traceback] = true,
}

--- The C function, in this coroutine, that cannot be left, and what to do instead.
---@return string name
---@return string advice
local function c_frame()
  local level = 3
  while true do
    local info = debug.getinfo(level, "Snf")
    if not info then return "a metamethod, an iterator or a callback of C", "" end
    if info.what == "C" and not PASSABLE[info.func] then
      local name = name_of(info.func) or info.name and ("%q"):format(info.name) or tostring(info.func)
      return name, HELP[name] or ""
    end
    level = level + 1
  end
end

--- The running goroutine was cancelled and wants to wait: the first time it is
--- told so, then it is unwound.
---@return string
local function refuse()
  if state.cur < 0 then
    misuse(state.running and "only a goroutine can wait (this is an error handler or a finalizer)"
      or "this works only inside treadle.run")
  end
  local task = state.tasks[state.cur]
  if not task.told then
    task.told = true
    return text[ECANCELED]
  end
  task.ignored = task.ignored + 1
  if task.ignored > PATIENCE and isyieldable() then abandon(task) end
  error(CANCELLED, 0)
end

--- The text of an error code; raises where the code means misuse, and in a
--- goroutine that ignores its cancellation.
---@param rc integer a negative code
---@param _ any is not looked at: an object to keep until then
---@return string
local function fail(rc, _)
  if rc == ECANCELED then
    state.tasks[state.cur].told = true
  elseif rc == EINVAL and state.id == NO_TASK then
    return refuse()
  elseif rc == EUNYIELDABLE then
    misuse(("cannot wait inside %s, which is a C function%s"):format(c_frame()))
  elseif rc == EBUSY then
    misuse "this goroutine has an operation pending that was left by a foreign coroutine.resume"
  elseif rc == EHOST then
    misuse "this object belongs to another thread or to a treadle.run that has ended"
  elseif rc == EDEADLOCK then
    misuse "deadlock: this goroutine would wait for itself, or for one that waits for it"
  elseif rc == EFORKED then
    misuse "there is no runtime in the child of a fork"
  end
  return text[rc]
end

--- Raises where the coroutine cannot be left: before a wait that cannot be called
--- off either.
local function need_yield()
  if state.id ~= NO_TASK and not isyieldable() then fail(EUNYIELDABLE) end
end

--- Waits until tdl_task_ready, also in a goroutine that was cancelled: for
--- waits that must see the end of something.  A cancellation that arrives
--- meanwhile ends it with TDL_ECANCELED.
---@param deadline ffi.cdata*|nil int64_t; nil: none
---@return integer rc
local function park(deadline)
  return hold(C.tdl_task_park_start(state.host, state.cur, deadline or FOREVER))
end

--- The running goroutine; raises where there is none.
---@return treadle.Task
local function running_task()
  if state.cur < 0 then refuse() end
  return state.tasks[state.cur]
end

--- Raises outside treadle.run.
local function need_run()
  if not state.running then misuse "this works only inside treadle.run" end
end

--- Waits, for an operation that returns 0. A caller may have gone by a tail call,
--- and the wait be all that holds the object: it is used once more after the wait,
--- so that it lives as long.
---@return true|nil done
---@return string|nil err
local function wait_slow(object, rc)
  rc = hold(rc)
  if rc == 0 then return true end
  return nil, fail(rc, object)
end

--- The result of an operation that does not wait.
---@return boolean done
local function tried(rc)
  if rc == EAGAIN then return false end
  if rc < 0 then fail(rc) end
  return true
end

--- An object of the core's that goes with the Lua object which has it.
local function own(ptr, free)
  if ptr == nil then error("treadle: " .. text[ENOMEM], 0) end
  return ffi.gc(ptr, free)
end

return {
  state = state,
  hold = hold,
  leave = leave,
  spend = spend,
  fail = fail,
  wait_slow = wait_slow,
  tried = tried,
  own = own,
  refuse = refuse,
  park = park,
  running_task = running_task,
  need_run = need_run,
  need_yield = need_yield,
  SENTINEL = SENTINEL,
  NO_TASK = NO_TASK,
  NO_HOST = NO_HOST,
}
