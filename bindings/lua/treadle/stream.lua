-- SPDX-License-Identifier: MIT
-- More methods of connections: frames that end with a delimiter, copies.

local ffi = require "ffi"
local library = require "treadle.library"
local conn = require "treadle.conn"
local errors = require "treadle.errors"
local park = require "treadle.park"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local NO_CONN = ffi.cast("tdl_conn *", nil)
local Conn = conn.Conn
local MAX_FRAME, MOST = 2 ^ 20, 2 ^ 30

local function count(n, what)
  if type(n) ~= "number" or n % 1 ~= 0 or n < 0 or n > 2 ^ 53 then
    misuse(("%s is a whole number of bytes, not %s"):format(what, tostring(n)))
  end
  return n
end

--- Reads up to and with the next delimiter, of 1 to 255 bytes.
---@param delimiter string
---@param max integer|nil most bytes; 2^20 when nil
---@return string|nil data with the delimiter
---@return string|nil err "closed" (the stream ended first), "too long", "timeout", …
---@return string|nil partial with an error: what had arrived; it is consumed
function Conn:read_until(delimiter, max)
  if type(delimiter) ~= "string" or #delimiter < 1 or #delimiter > 255 then
    misuse "read_until expects a delimiter of 1 to 255 bytes"
  end
  max = max == nil and MAX_FRAME or count(max, "the limit")
  if max < #delimiter or max > MOST then misuse "read_until expects a limit from the delimiter's length to 2^30" end
  local rc = hold(C.tdl_conn_fill_until_start(state.host, state.id, self.ptr, delimiter, #delimiter, max))
  if rc > 0 and self.ptr ~= NO_CONN then return conn.take(self, rc, rc) end
  return conn.read_failed(self, rc < 0 and rc or ECLOSED)
end

--- What a copy has come to: the number of bytes, or nil, the error and the number.
local function copied(rc, gone)
  local n = tonumber(state.outcomes[state.cur].extra)
  if rc >= 0 then return n end
  if rc == EINVAL and gone and state.id ~= park.NO_TASK then rc = ECLOSED end
  return nil, fail(rc), n
end

--- Copies what arrives here to another connection, until the stream ends: within
--- the kernel where both are sockets.
---@param to treadle.Conn
---@param n integer|nil most bytes; nil: to the end
---@return integer|nil n bytes that went out
---@return string|nil err of either connection
---@return integer|nil n with an error: bytes that went out
function Conn:copy(to, n)
  if getmetatable(to) ~= Conn then misuse "copy expects a connection" end
  n = n == nil and -1 or count(n, "the number of bytes to copy")
  local rc = hold(C.tdl_conn_copy_start(state.host, state.id, to.ptr, self.ptr, n))
  return copied(rc, self.ptr == NO_CONN or to.ptr == NO_CONN)
end

--- Sends an open file, within the kernel where it allows that.
---@param file integer|{ fd: fun(self: any): integer|nil } a descriptor, or an object that has one
---@param offset integer|nil nil: from where the file stands, which moves
---@param n integer|nil most bytes; nil: to its end
---@return integer|nil n bytes that went out
---@return string|nil err "closed", "bad descriptor", …
---@return integer|nil n with an error: bytes that went out
function Conn:send_file(file, offset, n)
  local fd = file
  if type(file) ~= "number" then
    if type(file) ~= "table" or not file.fd then misuse "send_file expects a file or a descriptor" end
    local err
    fd, err = file:fd()
    if not fd then return nil, err, 0 end
  end
  offset = offset == nil and -1 or count(offset, "the offset")
  n = n == nil and -1 or count(n, "the number of bytes to send")
  local rc = hold(C.tdl_conn_send_file_start(state.host, state.id, self.ptr, fd, offset, n))
  return copied(rc, self.ptr == NO_CONN)
end

--- Closes one end of a pipe in memory, and tells the other why: its reads, once all is
--- read, and its writes return this error instead of "closed" and "broken pipe".
---@param err string|nil an error's text as treadle's calls have it: "timeout", "input/output error"; nil: none
---@return true|nil done
---@return string|nil err "closed" the second time; "not supported": it is no pipe in memory
function Conn:close_with(err)
  local code = 0
  if err ~= nil then
    code = errors.code_of(err)
    if not code then misuse("close_with expects an error's text, not " .. tostring(err)) end
  end
  local ptr = self.ptr
  if ptr == NO_CONN then return nil, "closed" end
  local rc = C.tdl_conn_close_with(ptr, code)
  if rc == EINVAL then misuse(("close_with cannot say %q"):format(tostring(err))) end
  if rc < 0 then return nil, fail(rc) end
  return self:close()
end

return Conn
