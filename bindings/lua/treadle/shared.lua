-- SPDX-License-Identifier: MIT
-- Channels that any goroutine, thread and interpreter of the process may use.
--
-- Invariants: an object holds one reference to its core channel and gives it
-- back when it is collected, which is not while one waits: the slow paths use it
-- once more after the wait, for the callers may have gone by tail calls.  Values are converted as value.lua says and copied,
-- so that no Lua object is ever shared.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local chan = require "treadle.chan"
local park = require "treadle.park"
local time = require "treadle.time"
local value = require "treadle.value"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local encode, decode = value.encode, value.decode
local deadline = time.deadline
local misuse, wrong = errors.misuse, class.wrong
local getmetatable = getmetatable

local FOREVER, ECLOSED, BYTES = const.TDL_FOREVER, const.TDL_ECLOSED, const.TDL_BYTES

local scratch = ffi.new "tdl_val" -- dead after every start

--- A channel that crosses threads and languages, from treadle.shared_chan.
---@class treadle.SharedChan: treadle.Chan
local Shared = {}
Shared.__index = Shared
class.public(Shared, "chan", "send recv load sent settled received drained")

local function send_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return true end
  return nil, fail(rc, self)
end

--- Sends nil, a boolean, number, string, shared channel, pointer or (as
--- MessagePack) a table; another value is an error.
---@param item any
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil sent
---@return string|nil err "closed", "cancelled", "timeout"
function Shared:send(item, timeout)
  if getmetatable(self) ~= Shared then wrong(Shared, "send", self) end
  local limit = timeout and deadline(timeout) or FOREVER
  encode(scratch, item)
  local rc = C.tdl_chan_send_start(state.host, state.id, self.ptr, scratch, limit)
  if scratch.type >= BYTES then C.tdl_val_clear(scratch) end
  if rc == 0 then return true end
  return send_slow(self, rc)
end

local function recv_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return decode(state.outcomes[state.cur].val), true end
  if rc == ECLOSED then return nil, false end
  return nil, nil, fail(rc, self)
end

--- Receives the next value; waits for one.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return any value
---@return boolean|nil ok true: a value; false: the channel is closed and drained; nil: see err
---@return string|nil err "cancelled", "timeout"
function Shared:recv(timeout)
  if getmetatable(self) ~= Shared then wrong(Shared, "recv", self) end
  local rc = C.tdl_chan_recv_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER)
  if rc == 0 then return decode(state.outcomes[state.cur].val), true end
  return recv_slow(self, rc)
end

-- The rest is as for a channel of this lua_State.
local Chan = chan.Chan
for _, name in ipairs { "iter", "recv_op", "send_op", "len", "closed" } do
  Shared[name] = Chan[name]
end

--- Closes the channel for everybody.
---@return true|nil done
---@return string|nil err "closed" the second time
function Shared:close()
  local rc = C.tdl_chan_close(self.ptr)
  if rc == 0 then return true end
  return nil, errors.text[rc]
end

--- Size of the buffer.
---@return integer
function Shared:cap() return C.tdl_chan_cap(self.ptr) end

--- The core's channel, for C code: valid as long as somebody holds the channel.
---@return ffi.cdata* void *
function Shared:pointer()
  return ffi.cast("void *", self.ptr)
end

--- Two objects for one core channel are equal.
function Shared.__eq(a, b)
  return a.ptr == b.ptr
end

function Shared:load(val, item) -- luacheck: ignore 212
  encode(val, item)
end

function Shared:sent(val) -- luacheck: ignore 212
  if val.type >= BYTES then C.tdl_val_clear(val) end
end

function Shared:settled() end -- luacheck: ignore 212

function Shared:drained() end -- luacheck: ignore 212

function Shared:received(val) -- luacheck: ignore 212
  return decode(val)
end

---@param ptr ffi.cdata* tdl_chan, one holder of which becomes ours
---@return treadle.SharedChan
local function adopt(ptr)
  if ptr == nil then error("treadle: " .. errors.text[const.TDL_ENOMEM], 0) end
  return setmetatable({ ptr = ffi.gc(ptr, C.tdl_chan_free) }, Shared)
end

value.shared_class, value.adopt_chan = Shared, adopt

local M = {}

--- A channel object for a tdl_chan that came from C: a pointer cdata, a light
--- userdata, or its address as a number.  Takes a reference of its own.
---@param pointer ffi.cdata*|lightuserdata|integer
---@return treadle.SharedChan
function M.wrap_chan(pointer)
  local kind = type(pointer)
  if kind == "number" then
    pointer = ffi.cast("uintptr_t", pointer)
  elseif kind ~= "cdata" and kind ~= "userdata" then
    misuse("wrap_chan expects a pointer, got " .. kind)
  end
  local ok, ptr = pcall(ffi.cast, "tdl_chan *", pointer)
  if not ok or ptr == nil then misuse "wrap_chan expects the address of a channel" end
  return adopt(C.tdl_chan_ref(ptr))
end

--- A channel that other threads, languages and lua_States can use too.  May be
--- made and closed anywhere; sending and receiving wait, so only in a run.
---@param capacity integer|nil number of values it buffers; 0 when nil
---@param pointer ffi.cdata*|lightuserdata|integer|nil an existing channel to use instead, as for wrap_chan
---@return treadle.SharedChan
function M.shared_chan(capacity, pointer)
  if pointer ~= nil then return M.wrap_chan(pointer) end
  return adopt(C.tdl_chan_new(chan.check_capacity(capacity)))
end

return M
