-- SPDX-License-Identifier: MIT
-- Options of sockets by name, and what each is in Lua: a boolean, seconds, a
-- number.  Mixed into connections, listeners and datagram sockets.

local library = require "treadle.library"
local errors = require "treadle.errors"
local park = require "treadle.park"
local time = require "treadle.time"
local const = library.const

local fail, misuse = park.fail, errors.misuse
local FOREVER = const.TDL_FOREVER

local function from_boolean(value, name)
  if type(value) ~= "boolean" then misuse(("%s is true or false, not %s"):format(name, tostring(value))) end
  return value and 1 or 0
end

local function from_number(value, name)
  if type(value) ~= "number" or value % 1 ~= 0 then misuse(("%s is a whole number, not %s"):format(name, tostring(value))) end
  return value
end

local function from_seconds(value)
  return value == false and 0 or time.nanoseconds(value)
end

-- "reset" or "flush": what a close does with bytes that were not sent yet
local LINGER = { reset = 0, flush = FOREVER }

local function from_linger(value)
  return LINGER[value] or misuse('linger is "reset" or "flush", not ' .. tostring(value))
end

local function to_boolean(value) return value ~= 0 end
local function to_number(value) return tonumber(value) end
local function to_seconds(value) return value ~= 0 and tonumber(value) / 1e9 end
local function to_linger(value) return value == FOREVER and "flush" or "reset" end

local OPTIONS = {
  nodelay = { const.TDL_NODELAY, from_boolean, to_boolean },
  keepalive = { const.TDL_KEEPALIVE, from_seconds, to_seconds },
  keepalive_interval = { const.TDL_KEEPALIVE_INTERVAL, from_seconds, to_seconds },
  keepalive_count = { const.TDL_KEEPALIVE_COUNT, from_number, to_number },
  linger = { const.TDL_LINGER, from_linger, to_linger },
  read_buffer = { const.TDL_READ_BUFFER, from_number, to_number },
  write_buffer = { const.TDL_WRITE_BUFFER, from_number, to_number },
  tos = { const.TDL_TOS, from_number, to_number },
  ttl = { const.TDL_TTL, from_number, to_number },
  broadcast = { const.TDL_BROADCAST, from_boolean, to_boolean },
}

---@alias treadle.option
---| "nodelay" # boolean: small writes go out at once (set from the start)
---| "keepalive" # seconds of silence after which the peer is asked whether it lives; false: it is not
---| "keepalive_interval" # seconds between such questions
---| "keepalive_count" # how many without an answer end the connection
---| "linger" # "reset": close drops what was not sent and resets; "flush": it goes out later
---| "read_buffer" # bytes; Linux doubles what is set
---| "write_buffer" # bytes
---| "tos" # type of service or traffic class, 0…255
---| "ttl" # hops, 1…255
---| "broadcast" # boolean: datagrams may go to broadcast addresses

local function find(name)
  return OPTIONS[name] or misuse("there is no option " .. tostring(name))
end

local M = {}

--- Gives a class the methods option and setoption.
---@param class table whose objects have a ptr
---@param none ffi.cdata* the ptr of a closed one
---@param get function tdl_…_option
---@param set function tdl_…_set_option
function M.mix_into(class, none, get, set)
  --- The value of an option of the socket.
  ---@param name treadle.option
  ---@return any value
  ---@return string|nil err "closed", "not supported", …
  function class:option(name)
    local option = find(name)
    if self.ptr == none then return nil, "closed" end
    local value = get(self.ptr, option[1])
    if value < 0 then return nil, fail(tonumber(value)) end
    return option[3](value)
  end

  --- Sets an option of the socket.
  ---@param name treadle.option
  ---@param value any
  ---@return true|nil done
  ---@return string|nil err "closed", "invalid argument" (out of range), "not supported", …
  function class:setoption(name, value)
    local option = find(name)
    local number = option[2](value, name)
    if self.ptr == none then return nil, "closed" end
    local rc = set(self.ptr, option[1], number)
    if rc < 0 then return nil, fail(rc) end
    return true
  end
end

return M
