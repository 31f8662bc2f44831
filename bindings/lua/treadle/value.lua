-- SPDX-License-Identifier: MIT
-- Lua values to and from what a shared channel carries.
--
--     nil, boolean            TDL_NIL, TDL_BOOL
--     number                  TDL_INT when it is whole and exact, else TDL_DOUBLE
--     int64_t cdata           TDL_INT; one beyond 2^53 arrives as int64_t again
--     string                  TDL_BYTES, flags 0: bytes
--     shared channel          TDL_CHAN
--     pointer cdata           TDL_PTR; arrives as void *
--     table                   TDL_BYTES, flags 2: MessagePack; flags 6: MessagePack and what it carries, see table.lua
--     connection, listener,   TDL_BYTES, flags 4, 5, 7, 8: a descriptor that goes along; the object is closed here
--     datagram socket
--     connection with TLS     TDL_BYTES, flags 9: the core's own, see tdl_val_set_conn; the same
--
-- flags 1 marks text (a Python str, in UTF-8): a string here.
--
-- Invariant: encode leaves the tdl_val nil when it raises; decode gives up what
-- the tdl_val holds.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local C, const = library.C, library.const

local misuse = errors.misuse
local istype, ffi_string, ffi_cast = ffi.istype, ffi.string, ffi.cast
local tonumber, type = tonumber, type

local NIL, BOOL, INT, DOUBLE = const.TDL_NIL, const.TDL_BOOL, const.TDL_INT, const.TDL_DOUBLE
local PTR, BYTES, CHAN = const.TDL_PTR, const.TDL_BYTES, const.TDL_CHAN
local EXACT = 2 ^ 53

local M = {
  FLAG_BYTES = 0,
  FLAG_TEXT = 1,
  FLAG_MESSAGEPACK = 2,
  FLAG_CONN = 4,
  FLAG_LISTENER = 5,
  FLAG_TABLE = 6,
  FLAG_UDP = 7,
  FLAG_UNIXGRAM = 8,
  FLAG_TLS = 9,
}

--- Classes of objects that travel as descriptors: their flags and how they let
--- go, or are put into a value as a whole; and by flags how an object is made of the value. Set by net.lua and dgram.lua.
---@class treadle.value.Handed
---@field flags fun(object: any): integer
---@field release fun(object: any): integer|nil, string|nil
---@field give nil|fun(val: ffi.cdata*, object: any): boolean|nil, string|nil false: it is one that goes as a descriptor
---@field why table<string, string>|nil by error: more of it, and what to do
---@type table<table, treadle.value.Handed>
M.handed = {}
---@type table<integer, fun(val: ffi.cdata*): any, string|nil> nil and nil: it has been taken already
M.openers = {}

--- Of a function that makes an object of a descriptor.
---@param open fun(fd: integer): any, string|nil
function M.opener(open)
  return function(val)
    local fd = C.tdl_val_take_fd(val)
    if fd >= 0 then return open(fd) end
  end
end

local int64, uint64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"
local size = ffi.new "size_t[1]"

--- Class of shared channels and its constructor from a tdl_chan; set by shared.lua.
---@type table, fun(ptr: ffi.cdata*): treadle.SharedChan
M.shared_class, M.adopt_chan = nil, nil

--- Tables; set by table.lua.
---@type fun(val: ffi.cdata*, tbl: table), fun(val: ffi.cdata*, text: string): table
M.encode_table, M.decode_table = nil, nil

function M.set_bytes(val, text, flags)
  if C.tdl_val_set_bytes(val, text, #text) < 0 then
    error("treadle: " .. errors.text[const.TDL_ENOMEM], 0)
  end
  val.flags = flags
end
local set_bytes = M.set_bytes

local function encode_number(val, value)
  -- 1 / value tells -0 apart, which no integer can carry
  if value % 1 == 0 and value >= -EXACT and value <= EXACT and (value ~= 0 or 1 / value > 0) then
    val.type, val.flags, val.u.i = INT, 0, value
  else
    val.type, val.flags, val.u.d = DOUBLE, 0, value
  end
end

local BUSY = "busy: a goroutine waits in it, or it holds bytes that were read ahead"

local function refused(object, handed, err)
  local why = handed.why and handed.why[err] or err == "busy" and BUSY or err
  misuse(("%s cannot be handed over: %s"):format(tostring(object), why))
end

local function hand_over(val, object, handed)
  if handed.give then
    local given, err = handed.give(val, object)
    if given then return end
    if err then refused(object, handed, err) end
  end
  local fd, err = handed.release(object)
  if not fd then refused(object, handed, err) end
  local flags = handed.flags(object)
  if C.tdl_val_set_fd(val, fd) < 0 then error("treadle: " .. errors.text[const.TDL_ENOMEM], 0) end
  val.flags = flags
end

--- The opposite of hand_over: the object is open again.
---@param val ffi.cdata* tdl_val
---@param object any
function M.take_back(val, object)
  local again = M.openers[val.flags](val)
  C.tdl_val_clear(val)
  if again then object.ptr = again.ptr end -- its finalizer comes along
end

local function open_handed(val, open)
  local object, err = open(val)
  C.tdl_val_clear(val)
  if err then error("treadle: a connection that was handed over cannot be taken: " .. err, 0) end
  return object
end

local function encode_other(val, value, kind)
  val.type, val.flags = NIL, 0
  if kind == "table" then
    if getmetatable(value) == M.shared_class then
      C.tdl_val_set_chan(val, value.ptr)
      return
    end
    local handed = M.handed[getmetatable(value)]
    if handed then
      hand_over(val, value, handed)
      return
    end
    M.encode_table(val, value)
  elseif kind == "cdata" and (istype(int64, value) or istype(uint64, value)) then
    val.type, val.u.i = INT, ffi_cast(int64, value)
  elseif kind == "cdata" or kind == "userdata" then
    local ok, pointer = pcall(ffi_cast, "void *", value)
    if not ok then misuse("this cdata cannot cross a shared channel: " .. tostring(value)) end
    val.type, val.u.p = PTR, pointer
  else
    misuse("a " .. kind .. " cannot cross a shared channel")
  end
end

--- Writes a Lua value into a tdl_val that holds nothing.
---@param val ffi.cdata* tdl_val
---@param value any
function M.encode(val, value)
  local kind = type(value)
  if kind == "number" then
    encode_number(val, value)
  elseif kind == "string" then
    val.type = NIL
    set_bytes(val, value, M.FLAG_BYTES)
  elseif kind == "nil" then
    val.type, val.flags = NIL, 0
  elseif kind == "boolean" then
    val.type, val.flags, val.u.i = BOOL, 0, value and 1 or 0
  else
    encode_other(val, value, kind)
  end
end

local function decode_bytes(val)
  local open = M.openers[val.flags]
  if open then return open_handed(val, open) end
  local bytes = C.tdl_val_bytes(val, size)
  local text, flags = ffi_string(bytes, size[0]), val.flags
  if flags == M.FLAG_MESSAGEPACK or flags == M.FLAG_TABLE then return M.decode_table(val, text) end
  C.tdl_val_clear(val)
  return text
end

--- The Lua value in a tdl_val, which is nil afterwards.
---@param val ffi.cdata* tdl_val
---@return any
function M.decode(val)
  local kind = val.type
  if kind == INT then
    local exact = val.u.i
    local number = tonumber(exact)
    if number >= -EXACT and number <= EXACT then return number end
    return ffi_cast(int64, exact)
  elseif kind == DOUBLE then
    return tonumber(val.u.d)
  elseif kind == BYTES then
    return decode_bytes(val)
  elseif kind == BOOL then
    return val.u.i ~= 0
  elseif kind == PTR then
    return val.u.p
  elseif kind == CHAN then
    local chan = M.adopt_chan(C.tdl_val_chan(val))
    C.tdl_val_clear(val)
    return chan
  end
  return nil
end

require "treadle.table" (M)

return M
