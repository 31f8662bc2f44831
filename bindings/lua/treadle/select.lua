-- SPDX-License-Identifier: MIT
-- Waiting for the first of several operations: select, try_select, after_op.
--
-- Channel cases and ends of goroutines go to the core's select; the earliest
-- after_op is its deadline. For what else one may wait for (kind "wait": a connection, a descriptor,
-- a process, a listener) a goroutine waits meanwhile, in a way that takes nothing, and its end is the case;
-- what there is to take (`take`) is taken after that.
--
-- Invariants: the arrays are read by the core before a start returns, so one set
-- serves all.  What was loaded for a send case is released and settled exactly
-- once, on every path, before an error can be raised.
--
-- The first two operations are looked at outside of any loop: LuaJIT compiles no loop around one that goes
-- round twice or so, and then makes a trace for each round of the outer one, hundreds in the end.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local deadline, nanoseconds = time.deadline, time.nanoseconds
local unclaimed = task.unclaimed
local next, type, pcall = next, type, pcall

local RECV, SEND = const.TDL_RECV, const.TDL_SEND
local FOREVER, NOWAIT = const.TDL_FOREVER, const.TDL_NOWAIT
local ETIMEDOUT, EAGAIN, ENOMEM = const.TDL_ETIMEDOUT, const.TDL_EAGAIN, const.TDL_ENOMEM
local MAX_CASES = 65535

local room = 16
local cases, values = ffi.new("tdl_case[?]", room), ffi.new("tdl_val[?]", room)

local function grow(n)
  if n > MAX_CASES then misuse("select takes at most " .. MAX_CASES .. " operations") end
  while room < n do room = room * 2 end
  cases, values = ffi.new("tdl_case[?]", room), ffi.new("tdl_val[?]", room)
end

local function no_list(ops)
  local got = type(ops) == "table" and ops.kind and "an operation itself" or class.described(ops)
  if got == "a table" then got = "one whose first entry is nil" end
  misuse("select expects a table of operations, select { a, b }, got " .. got)
end

--- Calls f(ops, i, a, b) for the first n operations.
local function each(ops, n, f, a, b)
  if n > 0 then f(ops, 1, a, b) end
  if n > 1 then f(ops, 2, a, b) end
  for i = 3, n do f(ops, i, a, b) end
end

--- Looks at operation i: what survey returns, with that.
local function look(ops, i, plain, due, least, waits)
  local op = ops[i]
  local kind = type(op) == "table" and op.kind
  if kind == RECV then return plain, due, least, waits end
  if kind == "after" then
    if not due or op.seconds < least then due, least = i, op.seconds end
    return plain, due, least, waits
  end
  if not kind then
    misuse(("operation %d is %s: use recv_op, send_op, after_op, join_op and their like"):format(
      i, op == nil and "nil" or class.described(op)))
  end
  return false, due, least, waits or kind == "wait"
end

--- Checks the operations, and makes room for them.
---@return boolean plain nothing but receives and times: nothing to settle afterwards
---@return integer|nil due the after_op that is due first
---@return number|nil seconds until then
---@return boolean waits there are some that goroutines wait for
local function survey(ops)
  if type(ops) ~= "table" or #ops == 0 and next(ops) ~= nil then no_list(ops) end
  local n, plain, due, least, waits = #ops, true, nil, nil, false
  if n > 0 then plain, due, least, waits = look(ops, 1, plain, due, least, waits) end
  if n > 1 then plain, due, least, waits = look(ops, 2, plain, due, least, waits) end
  for i = 3, n do plain, due, least, waits = look(ops, i, plain, due, least, waits) end
  if n > room then grow(n) end
  return plain, due, least, waits
end

--- The channel that is closed when the goroutine ends, made when first asked for.
---@param goroutine treadle.Task
local function ended_chan(goroutine)
  local chan = goroutine.ended_chan
  if not chan then
    chan = C.tdl_chan_new_local(state.host, 0)
    if chan == nil then error("treadle: " .. errors.text[ENOMEM], 0) end
    goroutine.ended_chan = ffi.gc(chan, C.tdl_chan_free)
    if goroutine.done then C.tdl_chan_close(chan) end
  end
  return goroutine.ended_chan
end

--- Gives up the copy of the value of a send case once the core has read it.
local function release(ops, i)
  local op = ops[i]
  if op.kind == SEND then op.chan:sent(values[i - 1]) end
end

--- Settles operation i after the core is done with it.
---@param tickets table what load returned for send cases
---@param fired integer|nil the operation that was carried out
local function settle(ops, i, tickets, fired)
  local op = ops[i]
  if op.kind == SEND then
    op.chan:settled(tickets[i], i == fired)
  elseif op.kind == "join" then
    op.task.selects = op.task.selects - 1
    if i ~= fired then unclaimed(op.task) end
  end
end

--- Fills a send or join case.
local function load_other(ops, i, case, tickets)
  local op = ops[i]
  if op.kind == "join" then
    case.chan, case.op = ended_chan(op.task), RECV
    op.task.selects = (op.task.selects or 0) + 1
    return
  end
  case.chan, case.op = op.chan.ptr, SEND
  local ok, ticket = pcall(op.chan.load, op.chan, values[i - 1], op.value)
  if not ok then
    each(ops, i - 1, release)
    each(ops, i - 1, settle, tickets)
    error(ticket, 0)
  end
  tickets[i] = ticket
end

--- Fills case i - 1, of operation i; an after_op is a case that never fires.
---@param tickets table|nil of what there is to settle
local function load(ops, i, tickets)
  local op, case = ops[i], cases[i - 1]
  local kind = op.kind
  case.ok, case.val = 0, values + (i - 1)
  if kind == RECV then
    case.chan, case.op = op.chan.ptr, RECV
  elseif kind == "after" then
    case.chan, case.op = nil, RECV
  else
    load_other(ops, i, case, tickets)
  end
end

--- The results of select for the operation that fired.
local function outcome(ops, fired, val, ok)
  local op = ops[fired]
  local kind = op.kind
  if kind == RECV then
    if ok then return fired, op.chan:received(val), true end
    op.chan:drained()
    return fired, nil, false
  elseif kind == SEND then
    return fired, nil, ok
  end
  local ended = op.task
  ended.joined = true
  if ended.failed then return fired, ended.err, false end
  if ended.n > 1 then return fired, ended.results[1], true end
  return fired, ended.results, true
end

local M = {}

local function wait_for(op, told)
  told.value, told.err = op.wait(op.object)
end

--- The operations, with a goroutine for each that one has to wait for; an after_op counts from `begun`.
---@return table all
---@return table told what each goroutine will tell, by index
---@return treadle.Task[] waiters
local function with_waiters(ops, begun)
  local all, told, waiters = {}, {}, {}
  for i = 1, #ops do
    local op = ops[i]
    all[i] = op
    if op.kind == "wait" then
      told[i] = {}
      local waiter = task.spawn(nil, wait_for, 2, op, told[i])
      waiter:set_name "select"
      waiters[#waiters + 1] = waiter
      all[i] = waiter:join_op()
    elseif op.kind == "after" then
      all[i] = { kind = "after", seconds = op.seconds + begun - time.now() }
    end
  end
  return all, told, waiters
end

--- A select in which goroutines wait for some of the operations. What they wait for may be taken by others
--- before it is taken here: then all begins again.
local function select_waiting(ops)
  local begun = time.now()
  while true do
    local all, told, waiters = with_waiters(ops, begun)
    hold(C.tdl_yield_start(state.host, state.id)) -- they look: what is ready at once has its chance beside the channels
    local fine, i, value, ok = pcall(M.select, all)
    for _, waiter in ipairs(waiters) do waiter:cancel() end
    if not fine then error(i, 0) end
    local result = told[i]
    if not result then return i, value, ok end
    local err = result.err
    value = result.value
    if not err and ops[i].take then value, err = ops[i].take(ops[i].object) end
    if err then return i, err, false end
    if value then return i, value, true end
  end
end

--- Waits until one of the operations can go ahead, and carries it out; among
--- several that can, the choice is random.
---@param ops treadle.Op[] of recv_op, send_op, join_op, after_op, readable_op, …; none: waits for ever
---@return integer|nil i index of the operation; nil: see the third result
---@return any value received; of a join_op the first result or the error; of a wait_op the status; of an accept_op the connection
---@return boolean|string|nil ok false when the channel is closed (a join_op: the goroutine failed; one that is
---waited for: it failed, and the value is the error); "cancelled" with i nil
function M.select(ops)
  local plain, due, seconds, waits = survey(ops)
  if waits then return select_waiting(ops) end
  local tickets = not plain and {} or nil
  each(ops, #ops, load, tickets)
  local rc = C.tdl_select_start(state.host, state.id, cases, #ops, due and deadline(seconds) or FOREVER)
  if not plain then each(ops, #ops, release) end
  rc = hold(rc)
  local fired = rc >= 0 and rc + 1 or nil
  if not plain then each(ops, #ops, settle, tickets, fired) end
  if fired then
    local result = state.outcomes[state.cur]
    return outcome(ops, fired, result.val, result.extra == 1)
  end
  if rc == ETIMEDOUT then return due, nil, true end
  return nil, nil, fail(rc)
end

--- Carries out one of the operations if any can go ahead now; never waits.
---@param ops treadle.Op[] but none of a connection, listener, descriptor or process
---@return integer|nil i nil when nothing is ready
---@return any value
---@return boolean|nil ok as for select
function M.try_select(ops)
  local plain, due, seconds, waits = survey(ops)
  if waits then misuse "try_select takes channels, goroutines and times only" end
  park.need_run()
  local tickets = not plain and {} or nil
  each(ops, #ops, load, tickets)
  local rc = C.tdl_select(cases, #ops, NOWAIT)
  local fired = rc >= 0 and rc + 1 or nil
  if not plain then
    each(ops, #ops, release)
    each(ops, #ops, settle, tickets, fired)
  end
  if fired then
    return outcome(ops, fired, values[rc], cases[rc].ok == 1)
  end
  if rc ~= EAGAIN and rc ~= ETIMEDOUT then return nil, nil, fail(rc) end
  if due and seconds <= 0 then return due, nil, true end
  return nil
end

--- For select: fires so many seconds after the select began.
---@param seconds number 0 or less: at once, if nothing else is ready
---@return treadle.Op
function M.after_op(seconds)
  nanoseconds(seconds) -- checks the argument
  return { kind = "after", seconds = seconds }
end

return M
