-- SPDX-License-Identifier: MIT
-- ngx.log, ngx.print to the error log: levels and where the lines go.

local M = {
  STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
}

local NAMES = { [0] = "stderr", "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug" }

local level = M.ERR -- what nginx logs unless it is told otherwise
local write = function(line) io.stderr:write(line, "\n") end

local function text(value)
  local kind = type(value)
  if kind == "table" and not (getmetatable(value) or {}).__tostring then
    error("bad argument to log or print: a table", 4)
  end
  return tostring(value)
end

--- Logs what the arguments say, if the level is one that is logged.
---@param at integer ngx.ERR, …
---@param ... any
function M.log(at, ...)
  if type(at) ~= "number" or not NAMES[at] then error("bad log level: " .. tostring(at), 2) end
  if at > level then return end
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = text((select(i, ...))) end
  local info = debug.getinfo(2, "Sl")
  local where = info and info.currentline > 0 and ("%s:%d: "):format(info.short_src, info.currentline) or ""
  write(("%s [%s] %s%s"):format(os.date "%Y/%m/%d %H:%M:%S", NAMES[at], where, table.concat(parts)))
end

--- What is logged from now on, and by whom.
---@param to integer ngx.ERR, …
---@param writer (fun(line: string))|nil stderr when nil
function M.set(to, writer)
  level = to
  if writer then write = writer end
end

return M
