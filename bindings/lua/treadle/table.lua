-- SPDX-License-Identifier: MIT
-- Tables through shared channels: MessagePack, and beside it what is no plain value.
--
-- A shared channel, connection, listener, socket, pointer or 64-bit integer somewhere in a
-- table is an extension value (tag 1) there, whose data are its number among those that the
-- tdl_val carries. The same object twice is the same object again at the other end.
--
-- Invariants: nothing is handed over before the whole table is packed; when one of the
-- objects cannot be, those before it are as they were (but for their time limits).  The
-- module MessagePack is loaded a second time, so that what a program sets there is
-- neither seen nor changed.

local ffi = require "ffi"
local jit = require "jit"
local library = require "treadle.library"
local class_ = require "treadle.class"
local errors = require "treadle.errors"
local C, const = library.C, library.const

local misuse, kind_of = errors.misuse, class_.kind_of
local getmetatable, tostring, tonumber = getmetatable, tostring, tonumber

local TAG = 1
local LOCAL = "a channel of treadle.chan cannot leave its lua_State: use treadle.shared_chan"

local function is_local(tbl) return rawget(tbl, "values") and rawget(tbl, "links") end

local pack, unpack
local carrying -- objects by number, and numbers by object: of the table that is being packed
local arrived -- objects by number: of the one that is being unpacked

--- Leaves a number in the place of an object.
local function refer(packers, buffer, object)
  local number = carrying[object]
  if not number then
    number = #carrying + 1
    carrying[number], carrying[object] = object, number
  end
  packers.ext(buffer, TAG, tostring(number))
end

local function load_module()
  local path = package.searchpath("MessagePack", package.path)
  local chunk = package.preload.MessagePack or path and loadfile(path)
  if not chunk then misuse "a table needs the module MessagePack to cross a shared channel (Debian: lua-messagepack)" end
  local module = chunk "MessagePack"
  local packers = module.packers
  local plain = packers.table
  -- Compiled, their loops over pairs have been seen to find nothing in a table that has something,
  -- with LuaJIT 2.1 of 2022 and a collector that never rests.
  jit.off(packers._table)
  jit.off(packers.map)
  return module, packers, plain
end

---@param value table the module treadle.value
local function prepare(value)
  local module, packers, plain = load_module()
  packers.table = function(buffer, tbl)
    local class = getmetatable(tbl)
    if class ~= nil and (class == value.shared_class or value.handed[class]) then return refer(packers, buffer, tbl) end
    if is_local(tbl) then error(LOCAL, 0) end
    if kind_of(tbl) ~= "table" then error("there is a " .. kind_of(tbl) .. " in it, which cannot leave its lua_State", 0) end
    return plain(buffer, tbl)
  end
  packers["function"] = function() error("there is a function in it: spawn takes one, as bytecode", 0) end
  packers.thread = function() error("there is a coroutine in it", 0) end
  packers.cdata = function(buffer, cdata) return refer(packers, buffer, cdata) end
  packers.userdata = packers.cdata
  function module.build_ext(_, data) return arrived[tonumber(data)] end
  pack, unpack = module.pack, module.unpack
end

return function(value)
  --- Gives up what was encoded already; those that are descriptors go back to their objects.
  local function restore(vals, objects, n)
    for i = n, 1, -1 do
      if value.openers[vals[i - 1].flags] then value.take_back(vals[i - 1], objects[i]) else C.tdl_val_clear(vals[i - 1]) end
    end
  end

  --- The objects as values; raises, with nothing changed, when one cannot go.
  local function encode_all(objects)
    local vals = ffi.new("tdl_val[?]", #objects)
    for i = 1, #objects do
      local ok, err = pcall(value.encode, vals[i - 1], objects[i])
      if not ok then
        restore(vals, objects, i - 1)
        error(err, 0)
      end
    end
    return vals
  end

  function value.encode_table(val, tbl)
    if is_local(tbl) then misuse(LOCAL) end
    if kind_of(tbl) ~= "table" then misuse(("a %s cannot leave its lua_State"):format(kind_of(tbl))) end
    if not pack then prepare(value) end
    local objects = {}
    carrying = objects
    local ok, packed = pcall(pack, tbl)
    carrying = nil
    if not ok then misuse("this table cannot cross a shared channel: " .. tostring(packed)) end
    if #objects == 0 then return value.set_bytes(val, packed, value.FLAG_MESSAGEPACK) end
    local vals
    ok, vals = pcall(encode_all, objects)
    if not ok then misuse("this table cannot cross a shared channel: " .. tostring(vals)) end
    if C.tdl_val_set_bundle(val, packed, #packed, vals, #objects) < 0 then
      restore(vals, objects, #objects)
      error("treadle: " .. errors.text[const.TDL_ENOMEM], 0)
    end
    val.flags = value.FLAG_TABLE
  end

  local function decode_all(val)
    local objects, one = {}, ffi.new "tdl_val"
    while C.tdl_val_carried(val, #objects, one) == 0 do
      objects[#objects + 1] = value.decode(one)
    end
    return objects
  end

  function value.decode_table(val, text)
    if not unpack then prepare(value) end
    local ok, objects = pcall(decode_all, val)
    C.tdl_val_clear(val)
    if not ok then error(objects, 0) end
    arrived = objects
    local tbl
    ok, tbl = pcall(unpack, text)
    arrived = nil
    if not ok then error(tbl, 0) end
    return tbl
  end
end
