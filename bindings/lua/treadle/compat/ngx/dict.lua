-- SPDX-License-Identifier: MIT
-- ngx.shared: dictionaries with expiry, each made when first named.
--
-- They are tables of this lua_State: nothing is shared with other workers (a
-- treadle.shared_chan is), and no memory is limited.

local clock = require "treadle.time"

local TYPES = { string = true, number = true, boolean = true }

---@class treadle.ngx.Dict
---@field items table<string, { value: any, flags: integer|nil, expires: number|nil }>
local Dict = {}
Dict.__index = Dict

local function check_key(key)
  if key == nil then return nil, "nil key" end
  key = tostring(key)
  if key == "" then return nil, "empty key" end
  if #key > 65535 then return nil, "key too long" end
  return key
end

local function live(self, key)
  local item = self.items[key]
  if not item then return nil end
  if item.expires and item.expires <= clock.now() then return nil, item end
  return item
end

local function store(self, key, value, seconds, flags)
  local err
  key, err = check_key(key)
  if not key then return nil, err end
  if value == nil then
    self.items[key] = nil
  elseif TYPES[type(value)] then
    self.items[key] = { value = value, flags = flags, expires = seconds and seconds > 0 and clock.now() + seconds or nil }
  else
    return nil, "bad value type"
  end
  return true, nil, false
end

--- The value of a key.
---@param key string|number
---@return string|number|boolean|nil value
---@return integer|string|nil flags or the error
function Dict:get(key)
  local err
  key, err = check_key(key)
  if not key then return nil, err end
  local item = live(self, key)
  if not item then
    self.items[key] = nil
    return nil
  end
  return item.value, item.flags ~= 0 and item.flags or nil
end

--- The same, also of one that is over.
---@param key string|number
---@return string|number|boolean|nil value
---@return integer|nil flags
---@return boolean|nil stale
function Dict:get_stale(key)
  local item, old = live(self, tostring(key))
  local found = item or old
  if not found then return nil end
  return found.value, found.flags, item == nil
end

--- Sets the value of a key.
---@param key string|number
---@param value string|number|boolean|nil
---@param seconds number|nil until it is gone; nil or 0: never
---@param flags integer|nil
---@return boolean|nil ok
---@return string|nil err
---@return boolean|nil forcible always false
function Dict:set(key, value, seconds, flags) return store(self, key, value, seconds, flags) end

Dict.safe_set = Dict.set

--- Sets it if there is none: "exists" otherwise.
---@param key string|number
---@param value string|number|boolean|nil
---@param seconds number|nil until it is gone; nil or 0: never
---@param flags integer|nil
---@return boolean|nil ok
---@return string|nil err
---@return boolean|nil forcible always false
function Dict:add(key, value, seconds, flags)
  if key ~= nil and live(self, tostring(key)) then return false, "exists", false end
  return store(self, key, value, seconds, flags)
end

Dict.safe_add = Dict.add

--- Sets it if there is one: "not found" otherwise.
---@param key string|number
---@param value string|number|boolean|nil
---@param seconds number|nil until it is gone; nil or 0: never
---@param flags integer|nil
---@return boolean|nil ok
---@return string|nil err
---@return boolean|nil forcible always false
function Dict:replace(key, value, seconds, flags)
  if key ~= nil and not live(self, tostring(key)) then return false, "not found", false end
  return store(self, key, value, seconds, flags)
end

--- Takes a key away.
---@param key string|number
---@return boolean|nil ok
---@return string|nil err
---@return boolean|nil forcible always false
function Dict:delete(key) return store(self, key, nil) end

--- Adds to a number.
---@param key string|number
---@param by number
---@param init number|nil where it begins when it is not there
---@param seconds number|nil then
---@return number|nil sum
---@return string|nil err "not found", "not a number"
---@return boolean|nil forcible
function Dict:incr(key, by, init, seconds)
  local err
  key, err = check_key(key)
  if not key then return nil, err end
  local item = live(self, key)
  if not item then
    if init == nil then return nil, "not found" end
    store(self, key, init + by, seconds)
    return init + by, nil, false
  end
  if type(item.value) ~= "number" then return nil, "not a number" end
  item.value = item.value + by
  return item.value, nil, false
end

--- Seconds until a key is gone; 0: never.
---@param key string|number
---@return number|nil seconds
---@return string|nil err "not found"
function Dict:ttl(key)
  local item = live(self, tostring(key))
  if not item then return nil, "not found" end
  return item.expires and item.expires - clock.now() or 0
end

--- Sets when a key is gone.
---@param key string|number
---@param seconds number 0: never
---@return true|nil ok
---@return string|nil err "not found"
function Dict:expire(key, seconds)
  local item = live(self, tostring(key))
  if not item then return nil, "not found" end
  item.expires = seconds > 0 and clock.now() + seconds or nil
  return true
end

--- All keys are over, and can still be had by get_stale.
function Dict:flush_all()
  local now = clock.now()
  for _, item in pairs(self.items) do item.expires = now end
end

--- Frees what is over.
---@param max integer|nil at most so many
---@return integer n
function Dict:flush_expired(max)
  local gone = 0
  for key in pairs(self.items) do
    if not live(self, key) then
      self.items[key] = nil
      gone = gone + 1
      if max and max > 0 and gone >= max then break end
    end
  end
  return gone
end

--- Names of keys.
---@param max integer|nil at most so many: 1024 when nil, 0: all
---@return string[]
function Dict:get_keys(max)
  max = max or 1024
  local keys = {}
  for key in pairs(self.items) do
    if max > 0 and #keys >= max then break end
    if live(self, key) then keys[#keys + 1] = key end
  end
  return keys
end

return {
  shared = setmetatable({}, {
    __index = function(all, name)
      local dict = setmetatable({ items = {} }, Dict)
      rawset(all, name, dict)
      return dict
    end,
  }),
}
