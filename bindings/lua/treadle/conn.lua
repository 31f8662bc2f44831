-- SPDX-License-Identifier: MIT
-- A connection: framed reads, writes, deadlines.
--
-- The core reads into its own buffer and finds the frame; Lua makes a string of
-- what was asked for and nothing else.
--
-- Invariants:
--   * `ptr` is NULL once the connection is closed: the core refuses that, so the
--     fast paths need no check.  The handle is freed exactly once, by close or by
--     the finalizer.
--   * When a fill ends and bytes are buffered, this goroutine holds the read
--     side; it skips exactly once, before anything else can happen.  If another
--     goroutine closed the connection meanwhile, the buffer is gone: it is not
--     touched.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local option = require "treadle.option"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse, wrong = errors.misuse, class.wrong
local ffi_string = ffi.string
local type, select, tonumber, tostring, concat = type, select, tonumber, tostring, table.concat
local getmetatable = getmetatable

local SOME, EXACT, LINE, ALL = const.TDL_FILL_SOME, const.TDL_FILL_EXACT, const.TDL_FILL_LINE, const.TDL_FILL_ALL
local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local EBUSY, EHOST, EFORKED = const.TDL_EBUSY, const.TDL_EHOST, const.TDL_EFORKED

local MAX = 2 ^ 30 -- most that one read or write of the core takes
local MAX_LINE = 2 ^ 20
local SOME_DEFAULT = 2 ^ 16
local NO_CONN = ffi.cast("tdl_conn *", nil)
local LF, CR = 10, 13

--- A connection, from treadle.dial or an accept.
---@class treadle.Conn
---@field ptr ffi.cdata* tdl_conn, NULL when closed
local Conn = {}
Conn.__index = Conn
class.public(Conn, "conn", "read read_some write")
option.mix_into(Conn, NO_CONN, C.tdl_conn_option, C.tdl_conn_set_option)

--- Makes a string of the first n buffered bytes and drops `used` of them.
local function take(self, n, used)
  local text = ffi_string(state.outcomes[state.cur].val.u.p, n)
  C.tdl_conn_skip(self.ptr, used)
  return text
end

--- Ends a read that failed: nil, the text, and what had arrived (consumed).
local function read_failed(self, rc)
  if self.ptr == NO_CONN then
    if rc == EINVAL and state.id ~= park.NO_TASK then rc = ECLOSED end
    return nil, fail(rc), ""
  end
  local partial = ""
  if rc ~= EINVAL and rc ~= ECLOSED and rc ~= EBUSY and rc ~= EHOST and rc ~= EFORKED then
    local n = tonumber(state.outcomes[state.cur].extra)
    if n > 0 then partial = take(self, n, n) end
  end
  return nil, fail(rc), partial
end

local function fill_slow(self, rc)
  rc = hold(rc)
  if rc < 0 or self.ptr == NO_CONN then
    return read_failed(self, rc < 0 and rc or ECLOSED)
  end
  if rc == 0 then return nil, "closed", "" end
  return take(self, rc, rc)
end

local function check_size(n, what)
  if type(n) ~= "number" or n % 1 ~= 0 or n < 0 or n > MAX then
    misuse(("%s is a whole number of bytes from 0 to 2^30, not %s"):format(what, tostring(n)))
  end
  return n
end

local function line_length(text_of, n)
  local p = ffi.cast("const char *", text_of)
  if p[n - 1] ~= LF then return n end
  if n > 1 and p[n - 2] == CR then return n - 2 end
  return n - 1
end

local function take_line(self, n, keep)
  if keep then return take(self, n, n) end
  return take(self, line_length(state.outcomes[state.cur].val.u.p, n), n)
end

local function line_slow(self, rc, keep)
  rc = hold(rc)
  if rc < 0 or self.ptr == NO_CONN then
    return read_failed(self, rc < 0 and rc or ECLOSED)
  end
  return take_line(self, rc, keep)
end

local function read_line(self, keep, max)
  local limit = max == nil and MAX_LINE or check_size(max, "the limit of a line")
  spend()
  local rc = C.tdl_conn_fill_start(state.host, state.id, self.ptr, LINE, limit)
  if rc > 0 then return take_line(self, rc, keep) end
  return line_slow(self, rc, keep)
end

local function read_all(self, max)
  local limit = max == nil and MAX or check_size(max, "the limit")
  local rc = hold(C.tdl_conn_fill_start(state.host, state.id, self.ptr, ALL, limit))
  if rc < 0 or self.ptr == NO_CONN then
    return read_failed(self, rc < 0 and rc or ECLOSED)
  end
  if rc == 0 then return "" end
  return take(self, rc, rc)
end

--- Reads a frame; waits until it is there.
---   a number: exactly so many bytes (0: at once, "")
---   "l": a line without its "\n" or "\r\n"; a last line without one counts
---   "L": the same with its end
---   "a": everything to the end of the stream, "" if nothing came
--- Several goroutines may read one connection: each call is served whole, in order.
---@param what integer|"l"|"L"|"a"
---@param max integer|nil most bytes of a line (2^20 when nil) or of "a" (2^30); more: nil, "too long"
---@return string|nil data
---@return string|nil err "closed" (end of the stream, or closed here), "timeout", "cancelled", "too long", "connection reset", …
---@return string|nil partial with an error: what had arrived; it is consumed
function Conn:read(what, max)
  if getmetatable(self) ~= Conn then wrong(Conn, "read", self) end
  if type(what) == "number" then
    check_size(what, "the length to read")
    if what == 0 then
      if self.ptr == NO_CONN then return nil, "closed", "" end
      return ""
    end
    spend()
    local rc = C.tdl_conn_fill_start(state.host, state.id, self.ptr, EXACT, what)
    if rc > 0 then return take(self, rc, rc) end
    return fill_slow(self, rc)
  end
  if what == "l" then return read_line(self, false, max) end
  if what == "L" then return read_line(self, true, max) end
  if what == "a" then return read_all(self, max) end
  misuse('read expects a number of bytes, "l", "L" or "a", not ' .. tostring(what))
end

--- Reads what is there, waiting for the first byte.
---@param max integer|nil most bytes to return; 64 KiB when nil
---@return string|nil data never empty
---@return string|nil err "closed" at the end of the stream; else as for read
---@return string|nil partial "" with an error
function Conn:read_some(max)
  if getmetatable(self) ~= Conn then wrong(Conn, "read_some", self) end
  local limit = max == nil and SOME_DEFAULT or check_size(max, "the limit")
  if limit == 0 then misuse "read_some expects a limit of at least one byte" end
  spend()
  local rc = C.tdl_conn_fill_start(state.host, state.id, self.ptr, SOME, limit)
  if rc > 0 then return take(self, rc, rc) end
  return fill_slow(self, rc)
end

--- For a for loop: the lines, without their ends, until the stream ends or a
--- read fails (use read to know why).
---@param max integer|nil most bytes of a line
---@return fun(): string|nil
function Conn:lines(max)
  if max ~= nil then check_size(max, "the limit of a line") end
  return function() return (read_line(self, false, max)) end
end

local function write_failed(self, rc, before)
  if self.ptr == NO_CONN then
    if rc == EINVAL and state.id ~= park.NO_TASK then rc = ECLOSED end
    return nil, fail(rc), before
  end
  local written = before
  if rc ~= EINVAL and rc ~= ECLOSED and rc ~= EBUSY and rc ~= EHOST and rc ~= EFORKED then
    written = before + tonumber(state.outcomes[state.cur].extra)
  end
  return nil, fail(rc), written
end

local function write_slow(self, rc)
  rc = hold(rc)
  if rc >= 0 then return rc end
  return write_failed(self, rc, 0)
end

--- A string of more than 2^30 bytes goes out in parts.
local function write_huge(self, text)
  local at, p = 0, ffi.cast("const char *", text)
  while at < #text do
    local n = math.min(MAX, #text - at)
    local rc = hold(C.tdl_conn_write_start(state.host, state.id, self.ptr, p + at, n))
    if rc < 0 then return write_failed(self, rc, at) end
    at = at + rc
  end
  return at
end

local function write_text(self, text)
  if #text > MAX then return write_huge(self, text) end
  spend()
  local rc = C.tdl_conn_write_start(state.host, state.id, self.ptr, text, #text)
  if rc >= 0 then return rc end
  return write_slow(self, rc)
end

local function flatten(into, value)
  local kind = type(value)
  if kind == "string" or kind == "number" then
    into[#into + 1] = value
  elseif kind == "table" then
    for i = 1, #value do flatten(into, value[i]) end
  else
    misuse("write expects strings, numbers and tables of them, got " .. kind)
  end
end

local function write_many(self, ...)
  local parts = {}
  for i = 1, select("#", ...) do flatten(parts, (select(i, ...))) end
  return write_text(self, concat(parts))
end

--- Writes strings, numbers and (nested) tables of them, all as one write.
--- Several goroutines may write to one connection: no write comes between the
--- bytes of another.
---@param text string|number|table
---@param ... string|number|table
---@return integer|nil n number of bytes
---@return string|nil err "closed", "timeout", "cancelled", "broken pipe", "connection reset", …
---@return integer|nil written with an error: bytes that went out
function Conn:write(text, ...)
  if getmetatable(self) ~= Conn then wrong(Conn, "write", self) end
  if type(text) ~= "string" or select("#", ...) > 0 then return write_many(self, text, ...) end
  return write_text(self, text)
end

--- Limits every later operation on its own; those in progress are not changed.
---@param seconds number|nil nil or math.huge: no limit; 0: the time is over when it begins, so reads and writes time out
---@return true|nil done
---@return string|nil err "closed"
function Conn:settimeout(seconds)
  if self.ptr == NO_CONN then return nil, "closed" end
  C.tdl_conn_set_timeout(self.ptr, time.limit(seconds))
  return true
end

--- Shuts one direction down, or both: the peer reads the end of the stream, or
--- our reads end.  Does not wait, but that with TLS the announcement of the end may have to.
---@param direction "read"|"write"|"both"|nil "both" when nil
---@return true|nil done
---@return string|nil err "closed", "not connected"
function Conn:shutdown(direction)
  direction = direction or "both"
  if direction ~= "read" and direction ~= "write" and direction ~= "both" then
    misuse('shutdown expects "read", "write" or "both", not ' .. tostring(direction))
  end
  if self.ptr == NO_CONN then return nil, "closed" end
  local rc = 0
  if direction ~= "read" then rc = C.tdl_conn_close_write(self.ptr) end
  if rc == const.TDL_EAGAIN then rc = hold(C.tdl_conn_end_tls_start(state.host, state.id, self.ptr)) end
  if rc >= 0 and direction ~= "write" then rc = C.tdl_conn_close_read(self.ptr) end
  if rc < 0 then return nil, fail(rc) end
  return true
end

local room = 256
local buffer = ffi.new("char[?]", room)

local function address(self, ask)
  if self.ptr == NO_CONN then return nil, "closed" end
  local n = ask(self.ptr, buffer, room)
  if n < 0 then return nil, fail(n) end
  return ffi_string(buffer)
end

--- The far address, "127.0.0.1:7000".
---@return string|nil address
---@return string|nil err
function Conn:peername() return address(self, C.tdl_conn_peername) end

--- The near address.
---@return string|nil address
---@return string|nil err
function Conn:sockname() return address(self, C.tdl_conn_sockname) end

--- The file descriptor, which still belongs to the connection.
---@return integer|nil fd
---@return string|nil err "closed"
function Conn:fd()
  if self.ptr == NO_CONN then return nil, "closed" end
  local fd = C.tdl_conn_fd(self.ptr)
  if fd < 0 then return nil, fail(fd) end
  return fd
end

---@class treadle.TcpInfo seconds, bytes, segments
---@field rtt number round trip, smoothed
---@field rtt_var number its variation
---@field rtt_min number the shortest; 0: unknown
---@field rto number after which a segment is sent again
---@field mss integer bytes of a segment
---@field cwnd integer congestion window, in segments
---@field ssthresh integer slow start's threshold, in segments
---@field unacked integer segments on their way
---@field lost integer segments thought lost
---@field retransmits integer segments sent again, ever
---@field bytes_acked integer
---@field bytes_received integer
---@field bytes_unsent integer
---@field delivery_rate integer bytes per second, lately
---@field state integer 1: established; others as in netinet/tcp.h

local TIMES = { "rtt", "rtt_var", "rtt_min", "rto" }
local COUNTS = {
  "mss", "cwnd", "ssthresh", "unacked", "lost", "retransmits", "bytes_acked", "bytes_received", "bytes_unsent",
  "delivery_rate", "state",
}

--- What the system knows about a TCP connection.
---@return treadle.TcpInfo|nil info
---@return string|nil err "closed", "not supported"
function Conn:tcp_info()
  if self.ptr == NO_CONN then return nil, "closed" end
  local info = ffi.new "tdl_tcp_info"
  info.size = ffi.sizeof(info)
  local rc = C.tdl_conn_tcp_info(self.ptr, info)
  if rc < 0 then return nil, fail(rc) end
  local out = {}
  for _, name in ipairs(TIMES) do out[name] = tonumber(info[name]) / 1e9 end
  for _, name in ipairs(COUNTS) do out[name] = tonumber(info[name]) end
  return out
end

--- Who the peer of a Unix connection was when it connected or listened.
---@return { pid: integer, uid: integer, gid: integer }|nil who
---@return string|nil err "closed", "not supported"
function Conn:peercred()
  if self.ptr == NO_CONN then return nil, "closed" end
  local who = ffi.new "int64_t[3]"
  local rc = C.tdl_conn_peercred(self.ptr, who, who + 1, who + 2)
  if rc < 0 then return nil, fail(rc) end
  return { pid = tonumber(who[0]), uid = tonumber(who[1]), gid = tonumber(who[2]) }
end

local MOST_FDS = 253

--- Sends descriptors over a Unix connection, together with bytes.  They stay the
--- sender's, and may be closed at once.
---@param data string at least one byte
---@param fds integer[] 1 to 253 descriptors
---@return integer|nil n bytes
---@return string|nil err as for write; "bad descriptor", "not supported"
function Conn:send_fds(data, fds)
  if type(data) ~= "string" or #data == 0 then misuse "send_fds expects at least one byte" end
  if type(fds) ~= "table" or #fds < 1 or #fds > MOST_FDS then misuse "send_fds expects a table of 1 to 253 descriptors" end
  local list = ffi.new("int[?]", #fds, fds)
  local rc = hold(C.tdl_conn_send_fds_start(state.host, state.id, self.ptr, data, #data, list, #fds))
  if rc >= 0 then return rc end
  return write_failed(self, rc, 0)
end

--- Reads bytes and the descriptors that came with them, which are then the
--- caller's.  A connection that carries descriptors is read by this alone.
---@param max integer|nil most bytes; 4096 when nil
---@param count integer|nil most descriptors; 253 when nil
---@return string|nil data
---@return integer[]|string fds perhaps none; or the error: "closed" (end of the stream, or closed here), "truncated"
---(more came: all are closed), "timeout", …
function Conn:recv_fds(max, count)
  max = max == nil and 4096 or check_size(max, "the limit")
  count = count == nil and MOST_FDS or check_size(count, "the number of descriptors")
  if max == 0 or count == 0 or count > MOST_FDS then misuse "recv_fds expects room for bytes and for 1 to 253 descriptors" end
  local bytes, fds, n = ffi.new("char[?]", max), ffi.new("int[?]", count), ffi.new("int[1]", count)
  local rc = hold(C.tdl_conn_recv_fds_start(state.host, state.id, self.ptr, bytes, max, fds, n))
  if rc == 0 then return nil, "closed" end
  if rc < 0 then
    if rc == EINVAL and self.ptr == NO_CONN and state.id ~= park.NO_TASK then rc = ECLOSED end
    return nil, fail(rc)
  end
  local list = {}
  for i = 0, n[0] - 1 do list[i + 1] = fds[i] end
  return ffi_string(bytes, rc), list
end

--- Gives the descriptor away: it is the caller's then, in the mode that it was
--- adopted in, and the connection is as closed.
---@return integer|nil fd
---@return string|nil err "closed", "busy" (a call is under way, or bytes are buffered), "not supported"
function Conn:release()
  local ptr = self.ptr
  if ptr == NO_CONN then return nil, "closed" end
  local fd = C.tdl_conn_release(ptr)
  if fd == EBUSY then return nil, "busy" end
  if fd < 0 then return nil, fail(fd) end
  self.ptr = NO_CONN
  C.tdl_conn_free(ffi.gc(ptr, nil))
  return fd
end

--- Closes the connection. Goroutines that wait on it, and every later call, get
--- nil, "closed". Does not wait.
---@return true|nil done
---@return string|nil err "closed" the second time
function Conn:close()
  local ptr = self.ptr
  if ptr == NO_CONN then return nil, "closed" end
  self.ptr = NO_CONN
  C.tdl_conn_free(ffi.gc(ptr, nil))
  return true
end

function Conn:__tostring()
  if self.ptr == NO_CONN then return "connection (closed)" end
  return "connection " .. (self:peername() or "(not connected)")
end

local M = { Conn = Conn, take = take, read_failed = read_failed }

--- A Conn that owns the core's connection.
---@param ptr ffi.cdata* tdl_conn
---@return treadle.Conn
function M.wrap(ptr)
  return setmetatable({ ptr = ffi.gc(ptr, C.tdl_conn_free) }, Conn)
end

--- A Conn for a connection that was accepted or dialled by the last operation.
---@return treadle.Conn
function M.adopt()
  return M.wrap(ffi.cast("tdl_conn *", state.outcomes[state.cur].val.u.p))
end

return M
