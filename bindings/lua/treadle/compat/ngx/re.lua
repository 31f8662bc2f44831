-- SPDX-License-Identifier: MIT
-- ngx.re: match, find, gmatch, sub, gsub.
--
-- Invariant: what a match found is copied into Lua strings before anything else
-- runs, for the next match of the same expression overwrites it.

local pcre = require "treadle.compat.ngx.pcre"

local tonumber, type, tostring = tonumber, type, tostring

local M = {}

local function piece(regex, subject, group)
  local from = tonumber(regex.offsets[2 * group])
  if from > #subject then return false end -- PCRE2_UNSET
  return subject:sub(from + 1, tonumber(regex.offsets[2 * group + 1]))
end

--- The captures of a match, in `into` or a new table; false for a group that is not set.
local function captures(regex, subject, n, into)
  local m = into or {}
  m[0] = piece(regex, subject, 0)
  for i = 1, regex.count do m[i] = i < n and piece(regex, subject, i) or false end
  for group, name in pairs(regex.names) do
    local value = m[group]
    if regex.dup then
      local list = type(m[name]) == "table" and m[name] or {}
      if value then list[#list + 1] = value end
      m[name] = list
    elseif m[name] == nil or value then
      m[name] = value
    end
  end
  return m
end

local function prepare(subject, pattern, options)
  subject, pattern = tostring(subject), tostring(pattern)
  local regex, err = pcre.compile(pattern, options or "")
  return regex, err, subject
end

--- Where to begin, 0-based, by a context table.
local function beginning(ctx)
  local pos = ctx and ctx.pos
  if pos == nil then return 0 end
  return pos > 1 and pos - 1 or 0
end

--- The first match: its captures by number and name.
---@param subject string|number
---@param pattern string
---@param options string|nil "a", "d", "i", "j", "m", "o", "s", "u", "x"
---@param ctx { pos: integer }|nil where to begin, and afterwards where to go on
---@param into table|nil for the captures
---@return table|nil m nil: none, or an error
---@return string|nil err
function M.match(subject, pattern, options, ctx, into)
  local regex, err
  regex, err, subject = prepare(subject, pattern, options)
  if not regex then return nil, err end
  local start = beginning(ctx)
  if start > #subject then return nil end
  local n
  n, err = regex:exec(subject, start)
  if not n or n == 0 then return nil, err end
  if ctx then ctx.pos = tonumber(regex.offsets[1]) + 1 end
  return captures(regex, subject, n, into)
end

--- Where the first match, or a group of it, is.
---@param subject string|number
---@param pattern string
---@param options string|nil "a", "d", "i", "j", "m", "o", "s", "u", "x"
---@param ctx { pos: integer }|nil where to begin, and afterwards where to go on
---@param nth integer|nil a group; nil: the whole
---@return integer|nil from
---@return integer|nil to
---@return string|nil err
function M.find(subject, pattern, options, ctx, nth)
  local regex, err
  regex, err, subject = prepare(subject, pattern, options)
  if not regex then return nil, nil, err end
  local start = beginning(ctx)
  if start > #subject then return nil end
  local n
  n, err = regex:exec(subject, start)
  if not n then return nil, nil, err end
  if n == 0 then return nil end
  if ctx then ctx.pos = tonumber(regex.offsets[1]) + 1 end
  nth = nth or 0
  if nth > regex.count then return nil, nil, "nth out of bound" end
  if nth >= n or tonumber(regex.offsets[2 * nth]) > #subject then return nil end
  return tonumber(regex.offsets[2 * nth]) + 1, tonumber(regex.offsets[2 * nth + 1])
end

--- The offsets of the next match from `at` on, and where to look after that.
local function step(regex, subject, at)
  if at > #subject then return 0 end
  local n, err = regex:exec(subject, at)
  if not n or n == 0 then return n, err end
  local from, to = tonumber(regex.offsets[0]), tonumber(regex.offsets[1])
  return n, nil, from, to, to == from and to + 1 or to
end

--- A function that gives the captures of one match after the other.
---@param subject string|number
---@param pattern string
---@param options string|nil "a", "d", "i", "j", "m", "o", "s", "u", "x"
---@return (fun(): table|nil, string|nil)|nil next
---@return string|nil err
function M.gmatch(subject, pattern, options)
  local regex, err
  regex, err, subject = prepare(subject, pattern, options)
  if not regex then return nil, err end
  local at = 0
  return function()
    local n, problem, _, _, next_at = step(regex, subject, at)
    if not n or n == 0 then
      at = #subject + 1
      return nil, problem
    end
    local m = captures(regex, subject, n)
    at = next_at
    return m
  end
end

--- A replacement text as a list of strings and numbers of groups.
local function template(text)
  local parts, at = {}, 1
  while true do
    local dollar = text:find("$", at, true)
    if not dollar then
      parts[#parts + 1] = text:sub(at)
      return parts
    end
    parts[#parts + 1] = text:sub(at, dollar - 1)
    local digits, after = text:match("^%{(%d+)%}()", dollar + 1)
    if not digits then digits, after = text:match("^(%d+)()", dollar + 1) end
    if digits then
      parts[#parts + 1] = tonumber(digits)
      at = after
    elseif text:sub(dollar + 1, dollar + 1) == "$" then
      parts[#parts + 1] = "$"
      at = dollar + 2
    else
      return nil, ('attempt to use invalid capturing name in "%s" at "%s"'):format(text, text:sub(dollar))
    end
  end
end

local function substitute(parts, m)
  local out = {}
  for i, part in ipairs(parts) do out[i] = type(part) == "number" and (m[part] or "") or part end
  return table.concat(out)
end

local function replace_all(subject, pattern, by, options, most)
  local regex, err
  regex, err, subject = prepare(subject, pattern, options)
  if not regex then return nil, nil, err end
  local parts
  if type(by) ~= "function" then
    parts, err = template(tostring(by))
    if not parts then return nil, nil, err end
  end
  local out, done, at, count = {}, 0, 0, 0
  while count < most do
    local n, problem, from, to, next_at = step(regex, subject, at)
    if not n then return nil, nil, problem end
    if n == 0 then break end
    local m = captures(regex, subject, n)
    out[#out + 1] = subject:sub(done + 1, from)
    out[#out + 1] = parts and substitute(parts, m) or tostring(by(m))
    done, at, count = to, next_at, count + 1
  end
  if count == 0 then return subject, 0 end
  out[#out + 1] = subject:sub(done + 1)
  return table.concat(out), count
end

--- Replaces the first match by a text with $0, $1, ${1}, $$, or by what a function of the captures returns.
---@param subject string|number
---@param pattern string
---@param by string|fun(m: table): string
---@param options string|nil "a", "d", "i", "j", "m", "o", "s", "u", "x"
---@return string|nil text
---@return integer|nil n how many were replaced
---@return string|nil err
function M.sub(subject, pattern, by, options) return replace_all(subject, pattern, by, options, 1) end

--- Replaces all matches.
---@param subject string|number
---@param pattern string
---@param by string|fun(m: table): string
---@param options string|nil "a", "d", "i", "j", "m", "o", "s", "u", "x"
---@return string|nil text
---@return integer|nil n how many were replaced
---@return string|nil err
function M.gsub(subject, pattern, by, options) return replace_all(subject, pattern, by, options, math.huge) end

return M
