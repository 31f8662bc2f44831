-- SPDX-License-Identifier: MIT
-- Readers and writers: copies, and what puts them together.  The core's own
-- (treadle/io.h) wait in the middle of a callback, which a coroutine cannot; so
-- these are the same pieces in Lua, over anything with the two methods:
--   reader:read_some(max)  data, 1 to max bytes; nil, "closed" at the end; nil, err
--   writer:write(data)     #data; nil, err, and how many bytes went out
-- Connections, files and descriptors have them.  Where the core can copy from
-- one to the other, it does.

local ffi = require "ffi"
local library = require "treadle.library"
local conn = require "treadle.conn"
local class = require "treadle.class"
local errors = require "treadle.errors"
local fs = require "treadle.fs"
local park = require "treadle.park"
local C = library.C

local misuse = errors.misuse
local type, getmetatable, setmetatable, tostring = type, getmetatable, setmetatable, tostring
local min, concat = math.min, table.concat

local CHUNK, MOST = 65536, 2 ^ 53
local Conn, File = conn.Conn, fs.File

---@class treadle.Reader
---@field read_some fun(self: any, max: integer|nil): string|nil, string|nil

---@class treadle.Writer
---@field write fun(self: any, data: string): integer|nil, string|nil, any

local function check_reader(r, what)
  if type(r) ~= "table" or type(r.read_some) ~= "function" then misuse(what .. " expects a reader, got " .. type(r)) end
  return r
end

local function check_writer(w, what)
  if type(w) ~= "table" or type(w.write) ~= "function" then misuse(what .. " expects a writer, got " .. type(w)) end
  return w
end

local function check_count(n, what)
  if type(n) ~= "number" or n % 1 ~= 0 or n < 0 or n > MOST then
    misuse(("%s is a whole number of bytes, not %s"):format(what, tostring(n)))
  end
  return n
end

--- Was it closed here, so that its "closed" is no end of a stream?
local function gone(object)
  return type(object.ptr) == "cdata" and object.ptr == nil
end

--- Is this the end, and no error?
local function at_end(from, err)
  return err == "closed" and not gone(from)
end

--- What a reader of another one says when that has nothing more: as it is gone here, so is that one.
---@return nil
---@return string err
local function over(self, from, err)
  if err == "closed" and gone(from) then self.ptr = from.ptr end
  return nil, err
end

local M = { check_reader = check_reader, check_writer = check_writer, check_count = check_count, at_end = at_end, over = over }

-- -- Copying --------------------------------------------------------------------

local function plainly(to, from, n)
  local total = 0
  while not n or total < n do
    local data, err = from:read_some(n and min(CHUNK, n - total) or CHUNK)
    if not data then
      if at_end(from, err) then break end
      return nil, err, total
    end
    local ok, failure, part = to:write(data)
    if not ok then return nil, failure, total + (type(part) == "number" and part or 0) end
    total = total + #data
  end
  return total
end

--- Copies what a reader has to a writer, until its end or so many bytes: within the kernel
--- where both are sockets, or it is from a file to one.
---@param to treadle.Writer
---@param from treadle.Reader
---@param n integer|nil most bytes; nil: to the end
---@return integer|nil n bytes that went out
---@return string|nil err of either
---@return integer|nil n with an error: bytes that went out
function M.copy(to, from, n)
  check_writer(to, "copy")
  check_reader(from, "copy")
  if n ~= nil then check_count(n, "the number of bytes to copy") end
  local kind = getmetatable(from)
  if getmetatable(to) == Conn then
    if kind == Conn then return from:copy(to, n) end
    if kind == File then return to:send_file(from, nil, n) end
  elseif kind == File and to == from then
    misuse "copy cannot copy a file onto itself"
  end
  if from.copy_to then return from:copy_to(to, n) end
  return plainly(to, from, n)
end

-- -- Readers ----------------------------------------------------------------------

---@class treadle.Limit: treadle.Reader
---@field left integer bytes that may still come
local Limit = {}
Limit.__index = Limit
class.public(Limit, "reader")

--- Reads what is there, within the limit.
---@param max integer|nil most bytes
---@return string|nil data
---@return string|nil err "closed" at the end, and when nothing is left of the limit
function Limit:read_some(max)
  if self.left <= 0 then return nil, "closed" end
  local data, err = self.from:read_some(min(max or CHUNK, self.left))
  if not data then return over(self, self.from, err) end
  self.left = self.left - #data
  return data
end

function Limit:copy_to(to, n)
  local done, err, part = M.copy(to, self.from, n and min(n, self.left) or self.left)
  self.left = self.left - (done or part)
  return done, err, part
end

--- A reader that ends after n bytes.
---@param from treadle.Reader
---@param n integer
---@return treadle.Limit
function M.limit(from, n)
  return setmetatable({ from = check_reader(from, "limit"), left = check_count(n, "the limit") }, Limit)
end

local Tee = {}
Tee.__index = Tee
class.public(Tee, "reader")

function Tee:read_some(max)
  if self.err then return nil, self.err end
  local data, err = self.from:read_some(max or CHUNK)
  if not data then return over(self, self.from, err) end
  local ok, failure = self.to:write(data)
  if not ok then self.err = failure end
  return data
end

--- A reader: what is read from it has been written to `to` first.  When that
--- fails, the bytes are still read, and the error is what every later read says.
---@param from treadle.Reader
---@param to treadle.Writer
---@return treadle.Reader
function M.tee(from, to)
  return setmetatable({ from = check_reader(from, "tee"), to = check_writer(to, "tee") }, Tee)
end

local Readers = {}
Readers.__index = Readers
class.public(Readers, "reader")

function Readers:read_some(max)
  while self[self.at] do
    local from = self[self.at]
    local data, err = from:read_some(max or CHUNK)
    if data then return data end
    if not at_end(from, err) then return over(self, from, err) end
    self.at = self.at + 1
  end
  return nil, "closed"
end

function Readers:copy_to(to, n)
  local total = 0
  while self[self.at] and not (n and total >= n) do
    local done, err, part = M.copy(to, self[self.at], n and n - total)
    total = total + (done or part)
    if not done then return nil, err, total end
    if n and total >= n then break end
    self.at = self.at + 1
  end
  return total
end

--- A reader of several, one after the other.
---@param ... treadle.Reader
---@return treadle.Reader
function M.multi_reader(...)
  local list = { at = 1, ... }
  for i = 1, select("#", ...) do check_reader(list[i], "multi_reader") end
  return setmetatable(list, Readers)
end

local Text = {}
Text.__index = Text
class.public(Text, "reader")

function Text:read_some(max)
  if self.at > #self.text then return nil, "closed" end
  local data = self.text:sub(self.at, self.at + (max or CHUNK) - 1)
  self.at = self.at + #data
  return data
end

--- A reader of a string.
---@param text string
---@return treadle.Reader
function M.text(text)
  if type(text) ~= "string" then misuse("text expects a string, got " .. type(text)) end
  return setmetatable({ text = text, at = 1 }, Text)
end

-- -- Writers ----------------------------------------------------------------------

local Writers = {}
Writers.__index = Writers
class.public(Writers, "writer")

function Writers:write(data)
  for i = 1, #self do
    local ok, err, part = self[i]:write(data)
    if not ok then return nil, err, type(part) == "number" and part or 0 end
  end
  return #data
end

--- A writer to each of several, in order; the first error ends a write, and those
--- behind do not get it.
---@param ... treadle.Writer
---@return treadle.Writer
function M.multi_writer(...)
  local list = { ... }
  for i = 1, select("#", ...) do check_writer(list[i], "multi_writer") end
  return setmetatable(list, Writers)
end

---@class treadle.Collector: treadle.Writer
local Collector = {}
Collector.__index = Collector
class.public(Collector, "collector")

--- Keeps it.
---@param data string
---@return integer n
function Collector:write(data)
  self[#self + 1] = data
  return #data
end

--- All that was written.
---@return string
function Collector:text()
  local text = concat(self)
  for i = #self, 2, -1 do self[i] = nil end
  self[1] = text
  return text
end

--- A writer that keeps everything, for its text().
---@return treadle.Collector
function M.collector() return setmetatable({}, Collector) end

--- A writer that takes all and keeps nothing.
---@type treadle.Writer
M.discard = { write = function(_, data) return #data end }

-- -- Reading exactly ----------------------------------------------------------------

--- Reads exactly n bytes.
---@param from treadle.Reader
---@param n integer
---@return string|nil data
---@return string|nil err "closed": the reader ended first
---@return string|nil partial with an error: what had come; it is consumed
function M.read_full(from, n)
  check_reader(from, "read_full")
  local left, parts = check_count(n, "the length to read"), {}
  while left > 0 do
    local data, err = from:read_some(min(left, CHUNK))
    if not data then return nil, err, concat(parts) end
    parts[#parts + 1] = data
    left = left - #data
  end
  return concat(parts)
end

--- Reads all up to the end.
---@param from treadle.Reader
---@param max integer|nil most bytes; nil: any number
---@return string|nil data
---@return string|nil err "too long": there are more; or the reader's
---@return string|nil partial with an error: what had come
function M.read_all(from, max)
  check_reader(from, "read_all")
  if max ~= nil then check_count(max, "the limit") end
  local parts, total = {}, 0
  while true do
    local data, err = from:read_some(max and min(CHUNK, max - total + 1) or CHUNK)
    if not data then
      if at_end(from, err) then return concat(parts) end
      return nil, err, concat(parts)
    end
    parts[#parts + 1] = data
    total = total + #data
    if max and total > max then return nil, "too long", concat(parts) end
  end
end

-- -- The pipe -------------------------------------------------------------------------

--- Go's io.Pipe: two connections in memory; what is written to the second is read from
--- the first.  A write is over when all of it has been read.  Either is closed
--- with an error for the other by close_with.
---@return treadle.Conn reader
---@return treadle.Conn writer
function M.pipe()
  park.need_run()
  local r, w = ffi.new "tdl_conn *[1]", ffi.new "tdl_conn *[1]"
  local rc = C.tdl_io_pipe(r, w)
  if rc < 0 then error("treadle: " .. park.fail(rc), 2) end
  return conn.wrap(r[0]), conn.wrap(w[0])
end

return M
