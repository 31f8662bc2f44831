-- SPDX-License-Identifier: MIT
-- Buffered writers and readers, and scanners, over any reader or writer of
-- treadle.io.
--
-- Invariant: what is buffered by a reader is `text` from `at` on.

local class = require "treadle.class"
local errors = require "treadle.errors"
local io_ = require "treadle.io"

local misuse = errors.misuse
local check_count, at_end = io_.check_count, io_.at_end
local type, tostring, setmetatable, select = type, tostring, setmetatable, select
local min, concat = math.min, table.concat

local SIZE, CHUNK, MAX_LINE, MAX_FRAME, MOST = 4096, 65536, 65536, 2 ^ 20, 2 ^ 30

-- -- Writing -------------------------------------------------------------------------

---@class treadle.BufferedWriter: treadle.Writer
---@field buffered integer bytes that have not gone out
---@field err string|nil the first error, which stays
local Writer = {}
Writer.__index = Writer
class.public(Writer, "writer")

--- Sends what is buffered.
---@return true|nil done
---@return string|nil err the first error, now or earlier
function Writer:flush()
  if self.err then return nil, self.err end
  if self.buffered == 0 then return true end
  local data = concat(self.parts)
  local ok, err, part = self.to:write(data)
  if ok then
    self.parts, self.buffered = {}, 0
    return true
  end
  part = type(part) == "number" and part or 0
  self.parts, self.buffered = { data:sub(part + 1) }, #data - part
  self.err = err
  return nil, err
end

local function put(self, data)
  local parts = self.parts
  parts[#parts + 1] = data
  self.buffered = self.buffered + #data
  if self.buffered >= self.size then return self:flush() end
  return true
end

--- Buffers strings and numbers; what is there goes out when it is enough.
---@param text string|number
---@param ... string|number
---@return integer|nil n bytes
---@return string|nil err the first error, now or earlier
function Writer:write(text, ...)
  if select("#", ...) > 0 then text = concat { text, ... } end
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then misuse("write expects strings and numbers, got " .. type(text)) end
  if self.err then return nil, self.err, 0 end
  local ok, err = put(self, text)
  if not ok then return nil, err, math.max(0, #text - self.buffered) end
  return #text
end

--- Flushes; what it writes to stays open.
---@return true|nil done
---@return string|nil err
function Writer:close() return self:flush() end

-- -- Reading ---------------------------------------------------------------------------

---@class treadle.BufferedReader: treadle.Reader
local Reader = {}
Reader.__index = Reader
class.public(Reader, "reader")

local function buffered(self) return #self.text - self.at + 1 end

--- Takes the first n bytes, and drops `used`.
local function take(self, n, used)
  local data = self.text:sub(self.at, self.at + n - 1)
  self.at = self.at + used
  if self.at > #self.text then self.text, self.at = "", 1 end
  return data
end

--- Finds the delimiter: the length up to and with it; or nil and why not, and the length if it is
--- there, but too far.  Each byte is looked at once.
local function find(self, delim, max)
  local _, stop = self.text:find(delim, self.at, true)
  local length = stop and stop - self.at + 1
  if length then
    if length > max then return nil, "too long", length end
    return length
  end
  local parts, total = { self.text:sub(self.at) }, buffered(self)
  local tail, err, found = #delim > 1 and parts[1]:sub(1 - #delim) or "", "too long", nil
  while not found and total < max do
    local data
    data, err = self.from:read_some(CHUNK)
    if not data then break end
    err = "too long"
    parts[#parts + 1] = data
    local look = tail .. data
    _, stop = look:find(delim, 1, true)
    found = stop and total - #tail + stop
    total = total + #data
    tail = #delim > 1 and look:sub(1 - #delim) or ""
  end
  self.text, self.at = concat(parts), 1
  if found and found <= max then return found end
  return nil, err, found
end

--- Reads what is there, or waits for some.
---@param max integer|nil most bytes
---@return string|nil data
---@return string|nil err "closed" at the end
function Reader:read_some(max)
  max = max or CHUNK
  if self.text == "" then
    local data, err = self.from:read_some(CHUNK)
    if not data then return io_.over(self, self.from, err) end
    self.text, self.at = data, 1
  end
  local n = min(max, buffered(self))
  return take(self, n, n)
end

--- Without what is buffered the rest may have a better way.
function Reader:copy_to(to, n)
  local total = 0
  if self.text ~= "" then
    local m = min(n or MOST, buffered(self))
    local data = self.text:sub(self.at, self.at + m - 1)
    local ok, err, part = to:write(data)
    total = ok and m or type(part) == "number" and part or 0
    take(self, 0, total)
    if not ok then return nil, err, total end
  end
  local done, err, part = io_.copy(to, self.from, n and n - total)
  return done and total + done, err, part and total + part
end

--- The first n bytes, which stay buffered.
---@param n integer
---@return string|nil data
---@return string|nil err "closed": fewer came before the end; what did is still there
function Reader:peek(n)
  check_count(n, "the length to peek")
  while buffered(self) < n do
    local data, err = self.from:read_some(CHUNK)
    if not data then return nil, err end
    self.text, self.at = self.text:sub(self.at) .. data, 1
  end
  return self.text:sub(self.at, self.at + n - 1)
end

local function refused(self, err, max)
  local n = err == "too long" and max or buffered(self)
  return nil, err, take(self, n, n)
end

--- Reads up to and with the next delimiter.
---@param delimiter string
---@param max integer|nil most bytes; 2^20 when nil
---@return string|nil data
---@return string|nil err "closed" (the end came first), "too long", …
---@return string|nil partial with an error: what had come, up to max; it is consumed
function Reader:read_until(delimiter, max)
  if type(delimiter) ~= "string" or delimiter == "" then misuse "read_until expects a delimiter" end
  max = max == nil and MAX_FRAME or check_count(max, "the limit")
  local n, err = find(self, delimiter, max)
  if not n then return refused(self, err, max) end
  return take(self, n, n)
end

local function read_line(self, keep, max)
  local n, err = find(self, "\n", max)
  if n then
    local line = take(self, n, n)
    if keep then return line end
    return line:sub(-2) == "\r\n" and line:sub(1, -3) or line:sub(1, -2)
  end
  if at_end(self.from, err) and self.text ~= "" then return take(self, buffered(self), buffered(self)) end
  return refused(self, err, max)
end

--- Reads as a connection does: a number of bytes, "l", "L" or "a".
---@param what integer|"l"|"L"|"a"
---@param max integer|nil most bytes of a line (2^20) or of "a"
---@return string|nil data
---@return string|nil err
---@return string|nil partial with an error: what had come; it is consumed
function Reader:read(what, max)
  if type(what) == "number" then return io_.read_full(self, what) end
  if what == "a" then return io_.read_all(self, max) end
  if what ~= "l" and what ~= "L" then
    misuse('read expects a number of bytes, "l", "L" or "a", not ' .. tostring(what))
  end
  return read_line(self, what == "L", max == nil and MAX_FRAME or check_count(max, "the limit of a line"))
end

--- For a for loop: the lines, without their ends, until the end or an error.
---@param max integer|nil most bytes of a line
---@return fun(): string|nil
function Reader:lines(max)
  return function() return (self:read("l", max)) end
end

-- -- Scanning -----------------------------------------------------------------------------

---@class treadle.Scanner
---@field reader treadle.BufferedReader
---@field delimiter string|nil nil: lines
---@field limit integer most bytes of a piece with its delimiter
---@field over boolean the rest of a piece that was too long is to be passed over
local Scanner = {}
Scanner.__index = Scanner
class.public(Scanner, "scanner")

--- Passes over what is left of a piece. true, or nil and why it is not done.
local function pass_over(self, delim)
  local reader = self.reader
  while true do
    local n, err, far = find(reader, delim, self.limit)
    n = n or far
    if n then
      take(reader, 0, n)
      return true
    end
    if err ~= "too long" then return nil, err end
    take(reader, 0, math.max(1, buffered(reader) - #delim + 1))
  end
end

--- The next piece.
---@return string|nil piece
---@return string|nil err "closed": there are no more; "too long": it is longer than the limit, the rest of it is
---passed over, and the next call goes on behind it; "timeout", …: the next call goes on here
---@return string|nil beginning of one that is too long
function Scanner:next()
  local reader, delim = self.reader, self.delimiter or "\n"
  if self.over then
    local ok, err = pass_over(self, delim)
    if at_end(reader.from, err) then
      self.over = false
      take(reader, 0, buffered(reader))
    end
    if not ok then return nil, err end
    self.over = false
  end
  local n, err = find(reader, delim, self.limit)
  if n then
    local piece = take(reader, n - #delim, n)
    if not self.delimiter and piece:byte(-1) == 13 then return piece:sub(1, -2) end
    return piece
  end
  if err == "too long" then
    self.over = true
    return nil, err, take(reader, self.limit, self.limit - #delim + 1)
  end
  if at_end(reader.from, err) and reader.text ~= "" then return take(reader, buffered(reader), buffered(reader)) end
  return nil, err
end

--- For a for loop: each piece, or the beginning of one that is too long and "too long".
--- It ends with the reader, or with an error, which is then in `err`.
---@return fun(): string|nil, string|nil
function Scanner:iter()
  return function()
    local piece, err, beginning = self:next()
    if piece then return piece end
    if err == "too long" then return beginning, err end
    self.err = not at_end(self.reader.from, err) and err or nil
  end
end

-- -- Making them ----------------------------------------------------------------------------

local M = {}

local function check_size(n, default, what)
  if n == nil then return default end
  if type(n) ~= "number" or n % 1 ~= 0 or n < 1 or n > MOST then
    misuse(("%s is a number of bytes from 1 to 2^30, not %s"):format(what, tostring(n)))
  end
  return n
end

--- Gathers small writes, which go out together: when there are `size` bytes, by flush, by
--- close.  The first error stays: it is the result of every later call.
---@param to treadle.Writer
---@param size integer|nil 4096 when nil
---@return treadle.BufferedWriter
function M.writer(to, size)
  return setmetatable({
    to = io_.check_writer(to, "buffered_writer"), size = check_size(size, SIZE, "the size"), parts = {}, buffered = 0,
  }, Writer)
end

--- Reads ahead, and has the framed reads of a connection.
---@param from treadle.Reader
---@return treadle.BufferedReader
function M.reader(from)
  return setmetatable({ from = io_.check_reader(from, "buffered_reader"), text = "", at = 1 }, Reader)
end

---@class treadle.ScannerOptions
---@field limit integer|nil most bytes of a piece with its delimiter; 65536 when nil
---@field delimiter string|nil nil: lines, without "\n" or "\r\n"

--- Pieces between delimiters; what follows the last one is a piece if it is not empty.
---@param from treadle.Reader
---@param options treadle.ScannerOptions|nil
---@return treadle.Scanner
function M.scanner(from, options)
  errors.check_options(options, "scanner", "limit delimiter ")
  local delimiter = options and options.delimiter
  local limit = check_size(options and options.limit, MAX_LINE, "the limit")
  if delimiter ~= nil and (type(delimiter) ~= "string" or delimiter == "" or #delimiter > limit) then
    misuse "a scanner's delimiter is a string, no longer than the limit"
  end
  io_.check_reader(from, "scanner")
  return setmetatable({ reader = M.reader(from), delimiter = delimiter, limit = limit, over = false }, Scanner)
end

return M
