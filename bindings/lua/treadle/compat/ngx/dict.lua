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

function Dict:get_stale(key)
  local item, old = live(self, tostring(key))
  local found = item or old
  if not found then return nil end
  return found.value, found.flags, item == nil
end

function Dict:set(key, value, seconds, flags) return store(self, key, value, seconds, flags) end

Dict.safe_set = Dict.set

function Dict:add(key, value, seconds, flags)
  if key ~= nil and live(self, tostring(key)) then return false, "exists", false end
  return store(self, key, value, seconds, flags)
end

Dict.safe_add = Dict.add

function Dict:replace(key, value, seconds, flags)
  if key ~= nil and not live(self, tostring(key)) then return false, "not found", false end
  return store(self, key, value, seconds, flags)
end

function Dict:delete(key) return store(self, key, nil) end

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

function Dict:ttl(key)
  local item = live(self, tostring(key))
  if not item then return nil, "not found" end
  return item.expires and item.expires - clock.now() or 0
end

function Dict:expire(key, seconds)
  local item = live(self, tostring(key))
  if not item then return nil, "not found" end
  item.expires = seconds > 0 and clock.now() + seconds or nil
  return true
end

function Dict:flush_all()
  local now = clock.now()
  for _, item in pairs(self.items) do item.expires = now end
end

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
