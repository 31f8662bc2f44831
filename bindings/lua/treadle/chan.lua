-- SPDX-License-Identifier: MIT
-- Channels between the goroutines of one lua_State.
--
-- What travels through the core is a slot number; the value waits in `values`
-- of this channel's own table, so that any value goes through uncopied and a
-- dropped channel takes its values with it.
--
-- Invariants: a slot is taken by send and given back by whoever gets its number
-- last: the receiver, or the sender whose send failed.  Free slots form a list
-- through `links`, beginning at `free`; the last has no link: all numbers from it on
-- were never used.  A channel that is closed and empty stays
-- so: its core channel is freed at once, and FINAL stands in for it (which is
-- shared, and so takes no slot numbers).

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local deadline = time.deadline
local misuse, wrong = errors.misuse, class.wrong
local tonumber, getmetatable, setmetatable = tonumber, getmetatable, setmetatable

local FOREVER, ECLOSED, EINVAL = const.TDL_FOREVER, const.TDL_ECLOSED, const.TDL_EINVAL
local NO_TASK = park.NO_TASK
local RECV, SEND = const.TDL_RECV, const.TDL_SEND
local MAX_CAPACITY = 2 ^ 26

local ref = ffi.new "tdl_val"
ref.type = const.TDL_REF

local FINAL = ffi.gc(C.tdl_chan_new(0), C.tdl_chan_free)
C.tdl_chan_close(FINAL)

--- A case for treadle.select.
---@class treadle.Op
---@field kind integer|"after"|"join"|"wait"
---@field take nil|fun(object: any): any, string|nil of a "wait": takes what was waited for; nil: another has it

--- A channel of one lua_State, from treadle.chan.
---@class treadle.Chan
---@field ptr ffi.cdata* tdl_chan
local Chan = {}
Chan.__index = Chan
class.public(Chan, "chan", "send recv load sent settled received drained")

--- As many new slots as there are: so that a loop which is compiled early has seen slots come from the list.
local function grow(links, slot)
  for i = slot, 2 * slot - 1 do links[i] = i + 1 end
  return slot + 1
end

local function put(self, value)
  local slot = self.free
  self.free = self.links[slot] or grow(self.links, slot)
  self.values[slot] = value
  return slot
end

local function drop(self, slot)
  local value = self.values[slot]
  self.values[slot] = nil
  self.links[slot] = self.free
  self.free = slot
  return value
end

--- Frees the core channel of a channel that is closed and empty.
local function finalize(self)
  local ptr = self.ptr
  if ptr ~= FINAL then
    self.ptr = FINAL
    C.tdl_chan_free(ffi.gc(ptr, nil))
  end
end

local function taken(self)
  return drop(self, tonumber(state.outcomes[state.cur].val.u.i)), true
end

local function send_slow(self, slot, rc)
  rc = hold(rc)
  if rc == 0 then return true end
  drop(self, slot)
  if self.ptr == FINAL and rc == EINVAL and state.id ~= NO_TASK then rc = ECLOSED end
  return nil, fail(rc)
end

--- Sends a value (nil too); without a buffer, or with a full one, waits for a receiver.
---@param value any
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil sent
---@return string|nil err "closed", "cancelled", "timeout"
function Chan:send(value, timeout)
  if getmetatable(self) ~= Chan then wrong(Chan, "send", self) end
  local slot = put(self, value)
  ref.u.i = slot
  local rc = C.tdl_chan_send_start(state.host, state.id, self.ptr, ref, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return true end
  return send_slow(self, slot, rc)
end

local function recv_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return taken(self) end
  if rc == ECLOSED then
    finalize(self)
    return nil, false
  end
  return nil, nil, fail(rc)
end

--- Receives the next value; waits for one.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return any value
---@return boolean|nil ok true: a value; false: the channel is closed and drained; nil: see err
---@return string|nil err "cancelled", "timeout"
function Chan:recv(timeout)
  if getmetatable(self) ~= Chan then wrong(Chan, "recv", self) end
  local rc = C.tdl_chan_recv_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return taken(self) end
  return recv_slow(self, rc)
end

local function next_value(self)
  local value, ok = self:recv()
  if ok then return value end
end

--- For a for loop: the values until the channel is closed and drained, a nil
--- arrives, or the goroutine is cancelled.
---@return fun(self: treadle.Chan): any
---@return treadle.Chan
function Chan:iter()
  return next_value, self
end

--- Closes the channel: those that wait are told; buffered values can still be
--- received.  Does not wait.
---@return true|nil done
---@return string|nil err "closed" the second time
function Chan:close()
  local ptr = self.ptr
  local rc = C.tdl_chan_close(ptr)
  if rc < 0 then return nil, errors.text[rc] end
  if C.tdl_chan_len(ptr) == 0 then finalize(self) end
  return true
end

--- A receive for treadle.select.
---@return treadle.Op
function Chan:recv_op()
  local op = self.receive
  if not op then
    op = { kind = RECV, chan = self }
    self.receive = op
  end
  return op
end

--- A send for treadle.select.
---@param value any
---@return treadle.Op
function Chan:send_op(value)
  return { kind = SEND, chan = self, value = value }
end

--- Number of values in the buffer.
---@return integer
function Chan:len() return C.tdl_chan_len(self.ptr) end

--- Size of the buffer.
---@return integer
function Chan:cap() return self.capacity end

--- Whether it is closed; values may still be in its buffer.
---@return boolean
function Chan:closed() return C.tdl_chan_closed(self.ptr) == 1 end

-- What select needs of every kind of channel.  load writes the value of a send
-- case into a tdl_val and returns a ticket; sent follows when the core has read
-- the tdl_val, settled with the ticket when the select is over; received is the
-- value of a receive case that fired, drained follows one that found the channel
-- closed.

function Chan:load(val, value)
  local slot = put(self, value)
  if self.ptr == FINAL then
    val.type = const.TDL_NIL
  else
    val.type, val.u.i = const.TDL_REF, slot
  end
  return slot
end

function Chan:sent() end -- luacheck: ignore 212

function Chan:settled(slot, fired)
  if not fired then drop(self, slot) end
end

function Chan:received(val)
  return drop(self, tonumber(val.u.i))
end

Chan.drained = finalize

-- A channel that was made outside a run gets its core channel with the first
-- method that is looked up inside one.
local Unbound = {}

local function bind(self)
  local ptr = C.tdl_chan_new_local(state.host, self.capacity)
  if ptr == nil then error("treadle: " .. errors.text[const.TDL_ENOMEM], 0) end
  self.ptr = ffi.gc(ptr, C.tdl_chan_free)
  return setmetatable(self, Chan)
end

function Unbound:__index(name)
  if not Chan[name] then return nil end
  park.need_run()
  return bind(self)[name]
end

local M = { Chan = Chan, FINAL = FINAL }

--- Checks the capacity of a channel.
---@param capacity any
---@return integer
function M.check_capacity(capacity)
  if capacity == nil then return 0 end
  if type(capacity) ~= "number" or capacity < 0 or capacity > MAX_CAPACITY or capacity % 1 ~= 0 then
    misuse("the capacity of a channel is a whole number from 0 to 2^26, not " .. tostring(capacity))
  end
  return capacity
end

--- A channel for values of any kind between the goroutines of this lua_State.
--- One that is made outside treadle.run is ready inside; it outlives the run.
---@param capacity integer|nil number of values it buffers; 0 when nil
---@return treadle.Chan
function M.chan(capacity)
  local self = { capacity = M.check_capacity(capacity), values = {}, links = {}, free = 1, ptr = false }
  if not state.running then return setmetatable(self, Unbound) end
  return bind(self)
end

return M
