-- SPDX-License-Identifier: MIT
-- Methods of public objects that are called with a dot instead of a colon: an error at the caller's
-- line says which, and what to write.
--
-- A method is put behind a function of the same arity that looks at what came first. It is a tail
-- call, so it is in no traceback; compiled, the look is the guard that finding the method has made
-- already. Each has source of its own, not just a closure: LuaJIT makes traces of prototypes, and
-- methods that shared one would share its traces, too. The few that are called most look for themselves.
--
-- Invariants: what a module keeps of a method before `check` (a class that takes over another's, say)
-- is the method itself, without the look. A method is wrapped once.

local errors = require "treadle.errors"

local getmetatable, setmetatable, type = getmetatable, setmetatable, type

local labels = {} -- by class
local unchecked = {} -- classes, with the names that are left alone
local looks = setmetatable({}, { __mode = "k" }) -- functions that look

local PATH = debug.getinfo(1, "S").source

local M = {}

--- What kind of thing this is: "chan", "number".
---@param got any
---@return string
function M.kind_of(got)
  local class = type(got) == "table" and getmetatable(got)
  return class and labels[class] or type(got)
end

--- The same in a sentence: "a chan", "nothing" for nil.
---@param got any
---@return string
function M.described(got) return got == nil and "nothing" or "a " .. M.kind_of(got) end

--- Raises: a method of this class was called with something else.
---@param class table
---@param name string
---@param got any
function M.wrong(class, name, got)
  local label = labels[class]
  errors.misuse(("use %s:%s, not %s.%s: the method got %s in place of the %s"):format(
    label, name, label, name, M.described(got), label))
end

local function parameters(method)
  local info, list = debug.getinfo(method, "u"), { "self" }
  for i = 2, info.nparams do list[i] = "p" .. i end
  if info.isvararg then list[#list + 1] = "..." end
  return table.concat(list, ", ")
end

local function look_first(class, name, method)
  local list = parameters(method)
  local source = ([[
    local class, name, method, getmetatable, wrong = ...
    return function(%s)
      if getmetatable(self) ~= class then wrong(class, name, self) end
      return method(%s)
    end]]):format(list, list)
  local look = assert(loadstring(source, PATH))(class, name, method, getmetatable, M.wrong)
  looks[look] = true
  return look
end

--- Notes a class whose objects programs have.
---@param class table
---@param label string how an object of it is called in messages: "conn"
---@param own string|nil names of methods that look for themselves, or are treadle's own
function M.public(class, label, own)
  local names = {}
  for name in (own or ""):gmatch "%S+" do names[name] = true end
  labels[class], unchecked[class] = label, names
end

--- Puts the look before the methods of the classes that were noted; when they have all of them. Their objects have at least
--- the label as text.
function M.check()
  for class, own in pairs(unchecked) do
    local label = labels[class]
    class.__tostring = class.__tostring or function(self) return ("%s: %p"):format(label, self) end
    for name, method in pairs(class) do
      if type(method) == "function" and not looks[method] and not own[name] and name:sub(1, 2) ~= "__" then
        class[name] = look_first(class, name, method)
      end
    end
  end
  unchecked = {}
end

jit.off(M.check, true) -- once is not worth a trace

return M
