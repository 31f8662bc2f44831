-- SPDX-License-Identifier: MIT
-- Reads and writes without Lua strings: a look at what is buffered, a skip, and
-- LuaJIT's string.buffer.  Mixed into connections.
--
-- Invariant: as in conn.lua, each fill that left bytes is followed by exactly one
-- skip before anything else can happen: so the pointer that peek returns is good until
-- somebody uses the connection, which nobody can before this goroutine waits.

local ffi = require "ffi"
local library = require "treadle.library"
local conn = require "treadle.conn"
local errors = require "treadle.errors"
local park = require "treadle.park"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse = errors.misuse
local cast, copy = ffi.cast, ffi.copy
local tonumber, type = tonumber, type

local SOME, EXACT = const.TDL_FILL_SOME, const.TDL_FILL_EXACT
local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local EBUSY, EHOST, EFORKED = const.TDL_EBUSY, const.TDL_EHOST, const.TDL_EFORKED
local NO_CONN = cast("tdl_conn *", nil)
local MAX = 2 ^ 30
local SOME_DEFAULT = 2 ^ 16

local bytes_type = ffi.typeof "const char *"
local Conn = conn.Conn

local function check_size(n, what)
  if type(n) ~= "number" or n % 1 ~= 0 or n < 1 or n > MAX then
    misuse(("%s is a whole number of bytes from 1 to 2^30, not %s"):format(what, tostring(n)))
  end
  return n
end

--- A failed fill: what is buffered stays there.
local function failed(self, rc)
  if self.ptr == NO_CONN then
    if rc == EINVAL and state.id ~= park.NO_TASK then rc = ECLOSED end
    return nil, fail(rc)
  end
  local held = rc ~= EINVAL and rc ~= ECLOSED and rc ~= EBUSY and rc ~= EHOST and rc ~= EFORKED
  if held and tonumber(state.outcomes[state.cur].extra) > 0 then C.tdl_conn_skip(self.ptr, 0) end
  return nil, fail(rc)
end

local function fill(self, how, limit)
  spend()
  local rc = C.tdl_conn_fill_start(state.host, state.id, self.ptr, how, limit)
  if rc > 0 then return rc end
  rc = hold(rc)
  if rc >= 0 and self.ptr == NO_CONN then return ECLOSED end
  return rc
end

--- Waits until n bytes are buffered, and shows all that are; they stay there.
--- The pointer is good until this goroutine waits, or anybody uses the connection.
---@param n integer|nil 1 when nil
---@return ffi.cdata*|nil bytes const char *
---@return integer|string available at least n; or the error, as for read
function Conn:peek(n)
  local rc = fill(self, EXACT, n == nil and 1 or check_size(n, "the number to peek at"))
  if rc <= 0 then return failed(self, rc) end
  local outcome = state.outcomes[state.cur]
  local bytes, available = cast(bytes_type, outcome.val.u.p), tonumber(outcome.extra)
  C.tdl_conn_skip(self.ptr, 0)
  return bytes, available
end

local function readable(self)
  local bytes, err = self:peek(1)
  if bytes or self.ptr ~= NO_CONN and err ~= "timeout" then return true end
  return nil, err
end

--- For treadle.select: fires when a read would not wait, since bytes are there, or the end, or an
--- error. It takes nothing.
---@return treadle.Op
function Conn:readable_op()
  return { kind = "wait", wait = readable, object = self }
end

--- Drops n bytes; waits until they are there. When the stream ends before, nothing is dropped.
---@param n integer
---@return true|nil done
---@return string|nil err as for read
function Conn:skip(n)
  if n == 0 then return true end
  local rc = fill(self, EXACT, check_size(n, "the number to skip"))
  if rc <= 0 then return failed(self, rc) end
  C.tdl_conn_skip(self.ptr, rc)
  return true
end

local function check_buffer(buffer)
  if type(buffer) ~= "userdata" then misuse("a string.buffer is expected, not a " .. type(buffer)) end
end

--- Appends to a string.buffer: exactly n bytes, or what is there.
---@param buffer table of require "string.buffer"
---@param n integer|nil nil: what is there, at most 64 KiB
---@return integer|nil read how many were appended
---@return string|nil err as for read; nothing was appended
function Conn:read_into(buffer, n)
  check_buffer(buffer)
  local rc
  if n == nil then
    rc = fill(self, SOME, SOME_DEFAULT)
    if rc == 0 then return nil, "closed" end
  else
    rc = fill(self, EXACT, check_size(n, "the length to read"))
  end
  if rc <= 0 then return failed(self, rc) end
  local room = buffer:reserve(rc)
  copy(room, state.outcomes[state.cur].val.u.p, rc)
  buffer:commit(rc)
  C.tdl_conn_skip(self.ptr, rc)
  return rc
end

--- Writes all that is in a string.buffer, and empties it of what went out.
---@param buffer table
---@return integer|nil n
---@return string|nil err as for write
---@return integer|nil written with an error: how many went out
function Conn:write_from(buffer)
  check_buffer(buffer)
  spend()
  local bytes, n = buffer:ref()
  if n > MAX then misuse "a buffer of more than 2^30 bytes" end
  local rc = hold(C.tdl_conn_write_start(state.host, state.id, self.ptr, bytes, n))
  if rc >= 0 then
    buffer:skip(rc)
    return rc
  end
  local written = 0
  if self.ptr == NO_CONN then
    if rc == EINVAL and state.id ~= park.NO_TASK then rc = ECLOSED end
  elseif rc ~= EINVAL and rc ~= ECLOSED and rc ~= EBUSY and rc ~= EHOST and rc ~= EFORKED then
    written = tonumber(state.outcomes[state.cur].extra)
    buffer:skip(written)
  end
  return nil, fail(rc), written
end
