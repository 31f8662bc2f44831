-- SPDX-License-Identifier: MIT
-- escape_uri and its like, as ngx has them.

local M = {}

local function encode(c) return ("%%%02X"):format(c:byte()) end
local function decode(h) return string.char(tonumber(h, 16)) end

-- What has to be escaped in a component, and in a whole URI.
local COMPONENT, WHOLE = "[^%w%-%._~]", "[%z\1-\31\127-\255 #%%?]"

--- Escapes a component of a URI (kind 2, or nil), or a URI (kind 0).
---@param text string|number|nil
---@param kind integer|nil
---@return string
function M.escape_uri(text, kind)
  text = text == nil and "" or tostring(text)
  return (text:gsub(kind == 0 and WHOLE or COMPONENT, encode))
end

--- The opposite.
---@param text string|number|nil
---@return string
function M.unescape_uri(text)
  text = text == nil and "" or tostring(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", decode))
end

local function pair(into, key, value)
  if value == true then
    into[#into + 1] = M.escape_uri(key)
  elseif value ~= false then
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" then error("attempt to use " .. kind .. " as query arg value", 4) end
    into[#into + 1] = M.escape_uri(key) .. "=" .. M.escape_uri(value)
  end
end

--- A query of a table: { a = 1, b = true, c = { "x", "y" } }.
---@param args table
---@return string
function M.encode_args(args)
  if type(args) ~= "table" then error("bad argument #1 to 'encode_args' (table expected)", 2) end
  local parts = {}
  for key, value in pairs(args) do
    if type(key) ~= "string" and type(key) ~= "number" then error("attempt to use a non-string key in the args table", 2) end
    if type(value) == "table" then
      for _, one in ipairs(value) do pair(parts, key, one) end
    else
      pair(parts, key, value)
    end
  end
  return table.concat(parts, "&")
end

--- A table of a query; at most `max` arguments (100 when nil, 0: all), "truncated" when there are more.
---@param text string
---@param max integer|nil
---@return table args
---@return string|nil err "truncated"
function M.decode_args(text, max)
  local args, count = {}, 0
  max = max == nil and 100 or max
  for part in text:gmatch "[^&]+" do
    local key, value = part:match "^([^=]*)=(.*)$"
    key, value = M.unescape_uri(key or part), key and M.unescape_uri(value) or true
    if key ~= "" then
      count = count + 1
      if max > 0 and count > max then return args, "truncated" end
      local had = args[key]
      if had == nil then
        args[key] = value
      elseif type(had) == "table" then
        had[#had + 1] = value
      else
        args[key] = { had, value }
      end
    end
  end
  return args
end

--- As nginx quotes text for SQL.
---@param text string
---@return string
function M.quote_sql_str(text)
  local map = { ["\0"] = "\\0", ["\n"] = "\\n", ["\r"] = "\\r", ["\26"] = "\\Z", ["'"] = "\\'", ['"'] = '\\"', ["\\"] = "\\\\" }
  return "'" .. text:gsub("[%z\n\r\26'\"\\]", map) .. "'"
end

return M
