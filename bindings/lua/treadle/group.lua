-- SPDX-License-Identifier: MIT
-- Goroutines that work on one thing: error groups and single flights.
--
-- The core counts, limits and waits; results and errors, which are Lua's, are
-- kept here.  A single flight joins the goroutines of one lua_State.

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local context = require "treadle.context"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local own, misuse = park.own, errors.misuse
local deadline = time.deadline
local select, pcall = select, pcall

local FOREVER, NOWAIT = const.TDL_FOREVER, const.TDL_NOWAIT
local EAGAIN, ECANCELED = const.TDL_EAGAIN, const.TDL_ECANCELED

--- Goroutines of which the first that fails ends the common context.
---@class treadle.ErrGroup: treadle.Owner
---@field ptr ffi.cdata* tdl_errgroup
---@field context treadle.Context ends when the first fails, and when wait returns
---@field failed boolean
---@field err any of the first that failed
local ErrGroup = {}
ErrGroup.__index = ErrGroup
class.public(ErrGroup, "group")

local function start(self, rc, f, n, ...)
  if rc == 0 then return task.spawn(self, f, n, ...) end
  return nil, fail(rc, self)
end

--- Starts f(...) as a goroutine of the group, once there is a place. It fails by
--- an error, or by returning nil and what went wrong.
---@param f function
---@param ... any its arguments
---@return treadle.Task|nil
---@return string|nil err "cancelled"
function ErrGroup:go(f, ...)
  if type(f) ~= "function" then misuse("go expects a function, got " .. type(f)) end
  local rc = hold(C.tdl_errgroup_begin_start(state.host, state.id, self.ptr, FOREVER))
  return start(self, rc, f, select("#", ...), ...)
end

--- The same, if there is a place at once.
---@param f function
---@param ... any its arguments
---@return treadle.Task|nil
---@return string|nil err "not ready"
function ErrGroup:try_go(f, ...)
  if type(f) ~= "function" then misuse("try_go expects a function, got " .. type(f)) end
  park.need_run()
  local rc = C.tdl_errgroup_begin_until(self.ptr, NOWAIT)
  if rc == EAGAIN then return nil, errors.text[EAGAIN] end
  return start(self, rc, f, select("#", ...), ...)
end

--- What a child that did not raise returned: nil and an error?
local function returned_error(child)
  if child.n < 2 then return nil end
  local results = child.results
  if results[1] == nil then return results[2] end
  return nil
end

function ErrGroup:ended(child)
  local failed, err = child.failed and not child.unwound, child.err
  if not child.failed then
    err = returned_error(child)
    failed = err ~= nil
  end
  if failed and not self.failed then
    self.failed, self.err = true, err
    self.context:cancel(err)
  end
  C.tdl_errgroup_done(self.ptr, 0)
  return true
end

--- Waits until nobody of the group works, and ends its context.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil all none has failed
---@return any err of the first that failed; "cancelled" or "timeout" of this call
function ErrGroup:wait(timeout)
  local rc = hold(C.tdl_errgroup_wait_start(state.host, state.id, self.ptr,
    timeout and deadline(timeout) or FOREVER))
  if rc ~= 0 then return nil, fail(rc, self) end
  self.context:cancel()
  if self.failed then return nil, self.err end
  return true
end

--- The work of one goroutine, whose result all get who want the same meanwhile.
---@class treadle.SingleFlight
---@field ptr ffi.cdata* tdl_singleflight
---@field flights table<string, table> by key: { n =, results =, ok = }, of work in progress
local SingleFlight = {}
SingleFlight.__index = SingleFlight
class.public(SingleFlight, "flight")

local function keep(flight, ok, ...)
  flight.ok, flight.n, flight.results = ok, select("#", ...), { ... }
end

local function give(flight)
  if not flight.ok then error(flight.results[1], 0) end
  return unpack(flight.results, 1, flight.n)
end

--- Returns the results of f(...): of this call, or of the one for the same key
--- that is in progress. An error of f is raised in all of them.
---@param key string
---@param f function
---@param ... any its arguments
---@return any ... or nil, "cancelled"
function SingleFlight:call(key, f, ...)
  if type(key) ~= "string" then misuse("call expects a string as key, got " .. type(key)) end
  if type(f) ~= "function" then misuse("call expects a function, got " .. type(f)) end
  local flight = self.flights[key]
  local rc = hold(C.tdl_singleflight_begin_start(state.host, state.id, self.ptr, key, #key, FOREVER))
  if rc == 1 then
    local ticket = state.outcomes[state.cur].extra
    flight = {}
    self.flights[key] = flight
    keep(flight, pcall(f, ...))
    if self.flights[key] == flight then self.flights[key] = nil end
    C.tdl_singleflight_end(self.ptr, ticket, flight.ok and 0 or ECANCELED, nil)
    return give(flight)
  end
  if flight and flight.n and (rc == 0 or rc == ECANCELED) then return give(flight) end
  return nil, fail(rc, self)
end

--- Who comes from now on does not join the work in progress, but starts anew.
---@param key string
---@return boolean was some was in progress
function SingleFlight:forget(key)
  if type(key) ~= "string" then misuse("forget expects a string as key, got " .. type(key)) end
  self.flights[key] = nil
  return C.tdl_singleflight_forget(self.ptr, key, #key) == 1
end

local M = {}

--- A group of goroutines, with a context derived from the parent.
---@param parent treadle.Context|nil nil: the background
---@param limit integer|nil how many work at a time; nil: any number
---@return treadle.ErrGroup
function M.errgroup(parent, limit)
  if parent ~= nil and getmetatable(parent) ~= context.Context then
    misuse("errgroup expects a context, got " .. type(parent))
  end
  if limit ~= nil and (type(limit) ~= "number" or limit % 1 ~= 0 or limit < 1 or limit >= 2 ^ 32) then
    misuse("a limit is a whole number of 1 or more, not " .. tostring(limit))
  end
  parent = parent or context.background()
  local own_context = parent:with_cancel()
  return setmetatable({
    ptr = own(C.tdl_errgroup_new(nil, limit or 0), C.tdl_errgroup_free),
    context = own_context, failed = false,
  }, ErrGroup)
end

--- A new single flight, with no work in progress.
---@return treadle.SingleFlight
function M.singleflight()
  return setmetatable({ ptr = own(C.tdl_singleflight_new(), C.tdl_singleflight_free), flights = {} }, SingleFlight)
end

return M
