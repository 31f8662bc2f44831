-- SPDX-License-Identifier: MIT
-- Where LuaJIT's compiler gave a trace up, and why: what of a program stays interpreted.
--
--     local trace = require "treadle.trace"
--     trace.start()
--     …                                   -- what is to be looked at, for some seconds
--     print(trace.report(trace.stop()))
--
-- It needs LuaJIT's own Lua modules jit.util and jit.vmdef, which Debian installs with it.

local errors = require "treadle.errors"

local M = {}

local aborts, started -- by place and reason; traces begun
local watch ---@type function|nil attached now

local function modules()
  local ok, jutil, vmdef = pcall(function() return require "jit.util", require "jit.vmdef" end)
  if not ok then errors.misuse "the modules jit.util and jit.vmdef, which come with LuaJIT, are not on package.path" end
  return jutil, vmdef
end

--- A reason in words: some have the number of an instruction, or a function, in them.
local function words(jutil, vmdef, code, detail)
  local text = vmdef.traceerr[code] or tostring(code)
  if not text:find "%%" then return text end
  if type(detail) == "function" then
    local info = jutil.funcinfo(detail)
    detail = info.loc or info.ffid and vmdef.ffnames[info.ffid] or "?"
  elseif text:find "bytecode" and type(detail) == "number" then
    text = text:gsub("%%d", "%%s")
    detail = vmdef.bcnames:sub(detail * 6 + 1, detail * 6 + 6):gsub("%s+$", "")
  end
  return (text:format(detail))
end

--- A trace that was given up.
---@class treadle.Abort
---@field where string "file.lua:12"
---@field reason string "NYI: bytecode FNEW", …
---@field count integer how often

--- Begins to count.
---@return true
function M.start()
  if watch then errors.misuse "trace.start was called already" end
  local jutil, vmdef = modules()
  aborts, started = {}, 0
  watch = function(what, _, func, pc, code, detail)
    if what == "start" then started = started + 1 end
    if what ~= "abort" then return end
    local info = jutil.funcinfo(func, pc)
    local source = tostring(info.source or info.loc or "?"):gsub("^@", "")
    local where = ("%s:%d"):format(source, info.currentline or 0)
    local reason = words(jutil, vmdef, code, detail)
    local known = aborts[where .. reason]
    if known then
      known.count = known.count + 1
    else
      aborts[where .. reason] = { where = where, reason = reason, count = 1 }
    end
  end
  jit.off(watch, true)
  jit.attach(watch, "trace")
  return true
end

--- Ends it.
---@return treadle.Abort[] aborts the most frequent first
---@return integer started how many traces were begun, those that were given up among them
function M.stop()
  if not watch then errors.misuse "trace.stop without trace.start" end
  jit.attach(watch)
  watch = nil
  local list = {}
  for _, abort in pairs(aborts) do list[#list + 1] = abort end
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.where .. a.reason < b.where .. b.reason
  end)
  return list, started
end

--- The same as lines of text.
---@param list treadle.Abort[]
---@param begun integer|nil
---@return string
function M.report(list, begun)
  local lines = { ("%s traces begun, given up at %d places"):format(begun or "?", #list) }
  for _, abort in ipairs(list) do lines[#lines + 1] = ("%6d  %s: %s"):format(abort.count, abort.where, abort.reason) end
  return table.concat(lines, "\n")
end

return M
