-- SPDX-License-Identifier: MIT
-- What time it is, as ngx says it.  Nothing is cached: update_time has nothing
-- to do.

local ffi = require "ffi"

pcall(ffi.cdef, [[
typedef struct tdl_compat_time { int64_t seconds, nanoseconds; } tdl_compat_time;
int tdl_compat_gettime(int clock, tdl_compat_time *t) __asm__("clock_gettime");
]])

local clock = ffi.new "tdl_compat_time" -- a timespec, where long has 64 bits

local M = {}

--- Seconds since 1970, to the millisecond.
function M.now()
  ffi.C.tdl_compat_gettime(0, clock)
  return tonumber(clock.seconds) + math.floor(tonumber(clock.nanoseconds) / 1e6) / 1000
end

--- Seconds since 1970, a whole number.
---@return integer
function M.time()
  ffi.C.tdl_compat_gettime(0, clock)
  return tonumber(clock.seconds)
end

--- Does nothing: the clock is always read anew.
function M.update_time() end

--- The local date, "2010-11-18".
---@return string
function M.today() return os.date "%Y-%m-%d" end

--- The local date and time, "2010-11-18 11:27:35".
---@return string
function M.localtime() return os.date "%Y-%m-%d %H:%M:%S" end

--- The same in UTC.
---@return string
function M.utctime() return os.date "!%Y-%m-%d %H:%M:%S" end

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

local function stamp(seconds, format)
  local t = os.date("!*t", seconds)
  return (format:format(DAYS[t.wday], t.day, MONTHS[t.month], t.year, t.hour, t.min, t.sec))
end

--- "Thu, 18 Nov 2010 11:27:35 GMT", whatever the locale.
---@param seconds number since 1970
---@return string
function M.http_time(seconds) return stamp(seconds, "%s, %02d %s %04d %02d:%02d:%02d GMT") end

--- "Thu, 18-Nov-10 11:27:35 GMT".
---@param seconds number since 1970
---@return string
function M.cookie_time(seconds) return stamp(seconds, "%s, %02d-%s-%02d %02d:%02d:%02d GMT") end

--- Days from 1970-01-01 to a date.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

--- Seconds since 1970 of such a text; nil for another.
---@param text string
---@return integer|nil seconds
function M.parse_http_time(text)
  local day, name, year, hour, min, sec = text:match "^%a+, (%d%d)[ -](%a%a%a)[ -](%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"
  if not day then return nil end
  for month, known in ipairs(MONTHS) do
    if known == name then return ((days(tonumber(year), month, tonumber(day)) * 24 + hour) * 60 + min) * 60 + sec end
  end
end

return M
