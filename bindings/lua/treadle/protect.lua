-- SPDX-License-Identifier: MIT
-- LuaSocket's protect and newtry, in Lua: a C function on the stack would keep a
-- goroutine from waiting.
--
--     local try = treadle.newtry(function() conn:close() end)
--     local fetch = treadle.protect(function(…) local c = try(treadle.dial(…)) … end)
--     local result, err = fetch(…)                     -- nil, err where a try failed
--
-- Invariant: only what a try raised becomes a result; every other error, that of a
-- cancelled goroutine included, goes on as it was.

local select, setmetatable, getmetatable, pcall, error = select, setmetatable, getmetatable, pcall, error

local Failure = { __tostring = function(self) return tostring(self[1]) end }

local M = {}

--- A function that returns its arguments, unless the first is nil or false: then it
--- calls the finalizer, and raises the second for protect.
---@param finalizer fun()|nil its errors are ignored
---@return fun(...): ...
function M.newtry(finalizer)
  return function(...)
    if ... then return ... end
    if finalizer then pcall(finalizer) end
    error(setmetatable({ (select(2, ...)) }, Failure), 0)
  end
end

local function outcome(ok, ...)
  if ok then return ... end
  local err = ...
  if getmetatable(err) == Failure then return nil, err[1] end
  error(err, 0)
end

--- A function like f that returns nil and the error where a try of it failed.
---@param f function
---@return function
function M.protect(f)
  return function(...) return outcome(pcall(f, ...)) end
end

return M
