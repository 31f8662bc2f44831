-- SPDX-License-Identifier: MIT
-- Being fair and being fast: yield_if_due, and the compiler's limits.

local library = require "treadle.library"
local errors = require "treadle.errors"
local goroutine = require "treadle.goroutine"
local park = require "treadle.park"
local C = library.C

local state = park.state
local yield = goroutine.yield
local tonumber = tonumber

local EVERY = 32 -- calls between two looks at the clock

local M = {}

local turn, calls, since = -1, 0, 0

local function look(seconds)
  calls = 0
  local now = tonumber(C.tdl_now())
  if turn ~= state.turn then
    turn, since = state.turn, now
    return true
  end
  if now - since < (seconds or 0.001) * 1e9 then return true end
  turn = -1
  return yield()
end

--- Lets the others run, if none has for so long; cheap enough for an inner loop. (A
--- goroutine that neither waits nor calls this keeps all others of its lua_State waiting.)
---@param seconds number|nil a millisecond when nil
---@return true|nil done
---@return string|nil err "cancelled"
function M.yield_if_due(seconds)
  if turn == state.turn then
    calls = calls + 1
    if calls < EVERY then return true end
  end
  return look(seconds)
end

-- What OpenResty's LuaJIT has, where others have less: programs with many traces
-- otherwise lose them all again and again.
local LIMITS = { maxtrace = 8000, maxrecord = 16000, maxmcode = 40960, minstitch = 3 }

--- Sets limits of the compiler for programs with much code, as OpenResty does; nothing is
--- changed unless this is called. What this LuaJIT does not know is passed over.
---@param limits table<string, integer>|nil by LuaJIT's names, instead of or beside those
---@return table<string, integer> set
function M.tune(limits)
  if limits ~= nil and type(limits) ~= "table" then errors.misuse "tune expects a table of limits" end
  local set = {}
  local wanted = {}
  for name, value in pairs(LIMITS) do wanted[name] = value end
  for name, value in pairs(limits or {}) do wanted[name] = value end
  for name, value in pairs(wanted) do
    if pcall(require("jit.opt").start, ("%s=%d"):format(name, value)) then set[name] = value end
  end
  return set
end

return M
