-- SPDX-License-Identifier: MIT
-- Seconds, as Lua programs give them, into the core's nanoseconds.
--
-- Invariant: no number of seconds overflows: what is too far away is for ever.

local library = require "treadle.library"
local errors = require "treadle.errors"
local C, const = library.C, library.const

local FOREVER = const.TDL_FOREVER
local ENDLESS = 9e9 -- seconds (285 years): from here on, for ever

local M = {}

---@param seconds any
local function check(seconds)
  if type(seconds) ~= "number" or seconds ~= seconds then
    errors.misuse("seconds expected, got " .. (type(seconds) == "number" and "nan" or type(seconds)))
  end
end

--- Nanoseconds to wait; seconds may be negative or huge, but not NaN.
---@param seconds number
---@return number
function M.nanoseconds(seconds)
  if not (type(seconds) == "number" and seconds == seconds) then check(seconds) end
  if seconds >= ENDLESS then return ENDLESS * 1e9 end
  if seconds <= 0 then return 0 end
  return seconds * 1e9
end

--- Nanoseconds for a tdl_…_set_timeout, where 0 means no limit.
---@param seconds number|nil nil or math.huge: no limit; 0 or less: the shortest there is
---@return number
function M.limit(seconds)
  if seconds == nil or seconds == math.huge then return 0 end
  return math.max(M.nanoseconds(seconds), 1)
end

--- The point in time that is so many seconds away; nil: never.
---@param seconds number|nil
---@return ffi.cdata* int64_t on the clock of tdl_now
function M.deadline(seconds)
  if seconds == nil then return FOREVER end
  if not (type(seconds) == "number" and seconds == seconds) then check(seconds) end
  if seconds >= ENDLESS then return FOREVER end
  if seconds <= 0 then return C.tdl_now() end
  return C.tdl_now() + seconds * 1e9
end

--- Seconds on a monotonic clock, always positive; only differences mean something.
---@return number
function M.now()
  return tonumber(C.tdl_now()) / 1e9
end

return M
