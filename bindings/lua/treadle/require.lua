-- SPDX-License-Identifier: MIT
-- require and table.sort in Lua, so that a module's main chunk, or a comparison,
-- may wait: below the originals there is a C function, which cannot be left.
--
-- Invariant: a module is loaded by one goroutine; others that require it meanwhile
-- wait for that. `loading` has those that are on their way, and says who is at it
-- and, while he waits for another's, for which: so that a circle is an error.

local errors = require "treadle.errors"
local park = require "treadle.park"
local sync = require "treadle.sync"

local state = park.state
local type, error, pcall = type, error, pcall
local raw_require = require

local M = {}

---@class treadle.Loading
---@field by treadle.Task|false
---@field over treadle.WaitGroup|nil for those who wait
---@field waits treadle.Loading|nil
local loading = {} ---@type table<string, treadle.Loading>
local working = setmetatable({}, { __mode = "k" }) ---@type table<treadle.Task, treadle.Loading[]>

local function find(name)
  local tried = {}
  for _, loader in ipairs(package.loaders) do
    local found = loader(name)
    if type(found) == "function" then return found end
    if type(found) == "string" then tried[#tried + 1] = found end
  end
  error(("module '%s' not found:%s"):format(name, table.concat(tried)), 3)
end

--- Whether this goroutine would wait for itself.
local function circular(entry, me)
  while entry do
    if entry.by == me then return true end
    local his = working[entry.by]
    entry = his and #his > 0 and his[#his].waits or nil -- he waits in what he began last
  end
  return false
end

local function load_it(name, me)
  local loader = find(name)
  local entry = { by = me }
  loading[name] = entry
  local mine = working[me] or {}
  working[me] = mine
  mine[#mine + 1] = entry
  local ok, value = pcall(loader, name)
  mine[#mine] = nil
  loading[name] = nil
  if entry.over then entry.over:done() end
  if not ok then error(value, 0) end
  if value ~= nil then
    package.loaded[name] = value
  elseif package.loaded[name] == nil then
    package.loaded[name] = true
  end
  return package.loaded[name]
end

--- require, inside which a goroutine may wait. `require "treadle.require".install()` makes it
--- the global one.
---@param name string
---@return any module
function M.require(name)
  if type(name) ~= "string" then errors.misuse("require expects a string, not " .. type(name)) end
  if package.loaded[name] ~= nil then
    if not loading[name] then return raw_require(name) end
  end
  local me = state.tasks[state.cur] or false
  local entry = loading[name]
  if not entry then
    if not me then return raw_require(name) end
    return load_it(name, me)
  end
  if circular(entry, me) then error(("loop while loading module '%s'"):format(name), 2) end
  if not entry.over then
    entry.over = sync.waitgroup()
    entry.over:add(1)
  end
  local mine = working[me]
  local last = mine and mine[#mine]
  if last then last.waits = entry end
  local ok, err = entry.over:wait()
  if last then last.waits = nil end
  if not ok then error(err == "cancelled" and errors.CANCELLED or err, 0) end
  return M.require(name)
end

--- Makes it the global require.
function M.install() _G.require = M.require end

--- Puts the original back.
function M.restore() _G.require = raw_require end

local function less(a, b) return a < b end

--- One run of twice the width from two.
local function merge(from, to, low, middle, high, before)
  local i, j = low, middle
  for k = low, high - 1 do
    if i < middle and (j >= high or not before(from[j], from[i])) then
      to[k] = from[i]
      i = i + 1
    else
      to[k] = from[j]
      j = j + 1
    end
  end
end

--- Sorts list[1 … #list] in place. The comparison may wait, and equal elements
--- keep their order. Nothing is changed when the comparison raises an error.
---@param list any[]
---@param before (fun(a: any, b: any): boolean)|nil
function M.sort(list, before)
  if type(list) ~= "table" then errors.misuse("sort expects a table, not " .. type(list)) end
  if before ~= nil and type(before) ~= "function" then errors.misuse("sort expects a function, not " .. type(before)) end
  before = before or less
  local n = #list
  local from, to = {}, {}
  for i = 1, n do from[i] = list[i] end
  local width = 1
  while width < n do
    for low = 1, n, 2 * width do
      merge(from, to, low, math.min(low + width, n + 1), math.min(low + 2 * width, n + 1), before)
    end
    from, to = to, from
    width = width * 2
  end
  for i = 1, n do list[i] = from[i] end
end

return M
