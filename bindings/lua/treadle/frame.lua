-- SPDX-License-Identifier: MIT
-- Whether the running coroutine can be left, asked for a nanosecond.
--
-- coroutine.isyieldable is right, but LuaJIT does not compile it: each call ends a
-- trace, in the middle of the hottest path there is.  What it looks at is one bit in
-- the lua_State: that its innermost C frame is one of a resume.  Where that word
-- is, is tried out here, on this very LuaJIT, in each case that matters; when any
-- answer differs from isyieldable's, that is asked for ever after.
--
-- Invariant: `words` of a coroutine are read only by code that runs in it, so that
-- they are there.

local ffi = require "ffi"
local bit = require "bit"

local band = bit.band
local isyieldable = coroutine.isyieldable
local tonumber = tonumber

local CFRAME = 20 -- in 32-bit words: lua_State.cframe, where pointers have 64 bits
local RESUMED = 1

local words_type = ffi.typeof "const int32_t *"

local M = {}

--- The coroutine's lua_State.
---@param co thread
---@return ffi.cdata* words
local function words_of(co)
  return ffi.cast(words_type, tonumber((("%p"):format(co))))
end

local function looks_yieldable(words)
  return band(words[CFRAME], RESUMED) ~= 0
end

--- Tries every case. Whether all answers were right.
local function tried()
  if not (ffi.abi "64bit" and ffi.abi "le" and ffi.abi "gc64" and isyieldable) then return false end
  local right, co = true, nil
  local function check(words) right = right and looks_yieldable(words) == isyieldable() end
  co = coroutine.create(function()
    local words = words_of(co)
    for _ = 1, 2 do
      check(words)
      table.sort({ 2, 1 }, function() check(words) return false end)
      string.gsub("x", "x", function() check(words) end)
      pcall(check, words)
      pcall(function() table.sort({ 2, 1 }, function() check(words) error() end) end)
      check(words)
      coroutine.wrap(function() right = right and looks_yieldable(words) end)()
      coroutine.yield()
    end
  end)
  for _ = 1, 3 do right = coroutine.resume(co) and right end
  return right and coroutine.status(co) == "dead"
end

jit.off(tried, true)

--- Whether looks can be trusted here.
---@type boolean
M.known = false
do
  local ok, right = pcall(tried)
  M.known = ok and right
end

local cache = setmetatable({}, { __mode = "k" })

--- The words of a coroutine, the same ones each time; false where they are of no use.
---@param co thread
---@return ffi.cdata*|false
function M.of(co)
  if not M.known then return false end
  local words = cache[co]
  if not words then
    words = words_of(co)
    cache[co] = words
  end
  return words
end

M.CFRAME, M.RESUMED = CFRAME, RESUMED

return M
