-- SPDX-License-Identifier: MIT
-- Reads as cosockets and LuaSocket have them: a line without any carriage
-- return, of which an unfinished last one is an error; a number of bytes; what
-- comes before a pattern.  On the core's framed reads, like conn.lua.
--
-- A stream is any table with `conn` (a treadle.Conn), `left`, which is how many
-- bytes the core has buffered behind the last frame, and `received`, how many were
-- taken so far.
--
-- Invariant: when a fill ends and bytes are buffered, this goroutine holds the
-- read side, and skips exactly once before it does anything else.

local ffi = require "ffi"
local library = require "treadle.library"
local common = require "treadle.compat.common"
local park = require "treadle.park"
local C, const = library.C, library.const

pcall(ffi.cdef, [[void *tdl_compat_memmem(const void *haystack, size_t n, const void *needle, size_t m) __asm__("memmem");]])

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local text = common.text
local ffi_string, cast = ffi.string, ffi.cast
local tonumber = tonumber
local min = math.min

local SOME, EXACT, LINE, ALL = const.TDL_FILL_SOME, const.TDL_FILL_EXACT, const.TDL_FILL_LINE, const.TDL_FILL_ALL
local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local EBUSY, EHOST, EFORKED = const.TDL_EBUSY, const.TDL_EHOST, const.TDL_EFORKED
local NO_CONN = cast("tdl_conn *", nil)
local MAX = 2 ^ 30
local LF = 10

local bytes_type = ffi.typeof "const char *"

local M = {}

--- Takes n bytes as a string, and drops `used` of them.
local function take(stream, n, used)
  local outcome = state.outcomes[state.cur]
  local data = ffi_string(outcome.val.u.p, n)
  stream.left = tonumber(outcome.extra) - used
  stream.received = stream.received + used
  C.tdl_conn_skip(stream.conn.ptr, used)
  return data
end

local function failed(stream, rc)
  local ptr = stream.conn.ptr
  if ptr == NO_CONN then
    if rc == EINVAL and state.id ~= park.NO_TASK then rc = ECLOSED end
    return nil, text(fail(rc)), ""
  end
  local partial = ""
  if rc ~= EINVAL and rc ~= ECLOSED and rc ~= EBUSY and rc ~= EHOST and rc ~= EFORKED then
    local n = tonumber(state.outcomes[state.cur].extra)
    if n > 0 then partial = take(stream, n, n) end
  end
  return nil, text(fail(rc)), partial
end

local function fill(stream, how, limit)
  local conn = stream.conn
  spend()
  local rc = C.tdl_conn_fill_start(state.host, state.id, conn.ptr, how, limit)
  if rc <= 0 then rc = hold(rc) end
  if rc >= 0 and conn.ptr == NO_CONN then return ECLOSED end -- another goroutine closed it meanwhile
  return rc
end

--- Exactly n bytes, n > 0.
---@return string|nil data
---@return string|nil err
---@return string|nil partial
function M.exact(stream, n)
  local rc = fill(stream, EXACT, n)
  if rc > 0 then return take(stream, n, n) end
  return failed(stream, rc)
end

--- What is there, at most max bytes.
function M.some(stream, max)
  local rc = fill(stream, SOME, max)
  if rc > 0 then return take(stream, rc, rc) end
  if rc == 0 then return nil, "closed", "" end
  return failed(stream, rc)
end

--- Everything until the end; "" when nothing came.
function M.all(stream)
  local rc = fill(stream, ALL, MAX)
  if rc > 0 then return take(stream, rc, rc) end
  if rc == 0 then return "" end
  return failed(stream, rc)
end

local function without_returns(line)
  if line:find("\r", 1, true) then return (line:gsub("\r", "")) end
  return line
end

--- A line without its end and without any "\r"; one that has no end is a partial result.
function M.line(stream)
  local rc = fill(stream, LINE, MAX)
  if rc <= 0 then
    local _, err, partial = failed(stream, rc)
    return nil, err, without_returns(partial)
  end
  local p = cast(bytes_type, state.outcomes[state.cur].val.u.p)
  if p[rc - 1] ~= LF then return nil, "closed", without_returns(take(stream, rc, rc)) end
  return without_returns(take(stream, rc - 1, rc))
end

--- How many of the last bytes of p may be the beginning of the pattern.
local function overlap(p, n, pattern)
  for k = min(#pattern - 1, n), 1, -1 do
    if ffi_string(p + (n - k), k) == pattern:sub(1, k) then return k end
  end
  return 0
end

--- What comes before the pattern, or at most `size` bytes of it.
---@param pattern string not empty
---@param size integer|nil
---@param inclusive boolean|nil the pattern belongs to the result
---@return string|nil data
---@return boolean|string|nil ended true when the pattern was found; or the error
---@return string|nil partial
function M.before(stream, pattern, size, inclusive)
  local want, seen = 1, 0
  while true do
    local rc = fill(stream, EXACT, want)
    if rc <= 0 then return failed(stream, rc) end
    local outcome = state.outcomes[state.cur]
    local p, have = cast(bytes_type, outcome.val.u.p), tonumber(outcome.extra)
    local from = seen
    local at = ffi.C.tdl_compat_memmem(p + from, have - from, pattern, #pattern)
    if at ~= nil then
      local before = tonumber(cast(bytes_type, at) - p)
      local total = inclusive and before + #pattern or before
      if not size or total <= size or before == 0 then return take(stream, total, before + #pattern), true end
      if before < size then return take(stream, before, before), false end
    end
    local safe = at ~= nil and size or have - overlap(p, have, pattern)
    if size and safe >= size then return take(stream, size, size), false end
    seen, want = have - min(#pattern - 1, have), have + 1
    if want > MAX then return nil, "too long", take(stream, have, have) end
    C.tdl_conn_skip(stream.conn.ptr, 0)
  end
end

return M
