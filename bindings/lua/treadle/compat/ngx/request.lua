-- SPDX-License-Identifier: MIT
-- What a handler of ngx.serve sees of its request: ngx.req, ngx.header, ngx.var,
-- ngx.say and so on, so that server code of OpenResty's libraries runs (a
-- WebSocket's handshake, say).
--
-- A request belongs to the goroutine that serves it, and to the threads that it
-- spawns.  Not a web server: one request per connection, and a body is read by
-- its Content-Length only.
--
-- Invariant: the status line goes out exactly once, before the first byte of a body.

local park = require "treadle.park"
local tcp = require "treadle.compat.ngx.tcp"
local uri = require "treadle.compat.ngx.uri"

local state = park.state

local REASONS = {
  [101] = "Switching Protocols", [200] = "OK", [204] = "No Content", [301] = "Moved Permanently", [302] = "Moved Temporarily",
  [304] = "Not Modified", [400] = "Bad Request", [403] = "Forbidden", [404] = "Not Found", [405] = "Not Allowed",
  [413] = "Request Entity Too Large", [426] = "Upgrade Required", [500] = "Internal Server Error",
  [503] = "Service Temporarily Unavailable",
}
local MOST_HEADERS, LONGEST_LINE = 100, 8192

local current = setmetatable({}, { __mode = "k" }) -- task: request

local M = {}

--- The request of this goroutine, or nil.
function M.current()
  local task = state.tasks[state.cur]
  return task and current[task]
end

--- The same, where there has to be one.
local function need()
  return M.current() or error("no request found", 3)
end
M.need = need

--- Gives a goroutine the request of another.
---@param task treadle.Task
---@param request table
function M.inherit(task, request) current[task] = request end

local function parse_head(sock)
  local line, err = sock:receive()
  if not line then return nil, err end
  local method, target, version = line:match "^(%u+) (%S+) HTTP/1%.(%d)$"
  if not method or #line > LONGEST_LINE then return nil, "bad request" end
  local headers, count = {}, 0
  while true do
    line, err = sock:receive()
    if not line then return nil, err end
    if line == "" then break end
    local name, value = line:match "^([%w!#$%%&'*+.^_`|~-]+):%s*(.-)%s*$"
    count = count + 1
    if not name or count > MOST_HEADERS or #line > LONGEST_LINE then return nil, "bad request" end
    name = name:lower()
    local had = headers[name]
    if had == nil then
      headers[name] = value
    elseif type(had) == "table" then
      had[#had + 1] = value
    else
      headers[name] = { had, value }
    end
  end
  return { method = method, target = target, version = 1 + tonumber(version) / 10, headers = headers }
end

--- As a name is written in an answer: Content-Type.
local function header_name(name)
  return (name:gsub("_", "-"):gsub("%f[%w]%l", string.upper))
end

local function send_head(request)
  if request.sent then return true end
  request.sent = true
  local lines = { ("HTTP/1.1 %d %s"):format(request.status, REASONS[request.status] or "Unknown") }
  for name, value in pairs(request.out) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      lines[#lines + 1] = name .. ": " .. tostring(one):gsub("[\r\n]", " ")
    end
  end
  if request.status ~= 101 then lines[#lines + 1] = "Connection: close" end
  lines[#lines + 1] = "\r\n"
  return request.sock:send(table.concat(lines, "\r\n"))
end

local req = {}
M.req = req

--- The headers, by names in small letters; "_" may stand for "-".
---@return table<string, string|string[]>
function req.get_headers() return setmetatable(need().headers, {
  __index = function(headers, name)
    return type(name) == "string" and rawget(headers, (name:lower():gsub("_", "-"))) or nil
  end,
}) end

--- "GET", …
---@return string
function req.get_method() return need().method end

--- 1.0 or 1.1.
---@return number
function req.http_version() return need().version end

--- When the request began, in seconds since 1970.
---@return number
function req.start_time() return need().begun end

--- The head of the request as text; its headers in any order.
---@return string
function req.raw_header()
  local request = need()
  local lines = { ("%s %s HTTP/%.1f"):format(request.method, request.target, request.version) }
  for name, value in pairs(request.headers) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do lines[#lines + 1] = name .. ": " .. one end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

--- The arguments of the query.
---@param max integer|nil at most so many: 100 when nil, 0: all
---@return table args
---@return string|nil err "truncated"
function req.get_uri_args(max) return uri.decode_args(need().query or "", max) end

--- Reads the body, if the request says how long it is.
function req.read_body()
  local request = need()
  if request.body or request.raw then return end
  local n = tonumber(request.headers["content-length"])
  if n and n > 0 then request.body = request.sock:receive(n) end
end

--- What read_body has read.
---@return string|nil
function req.get_body_data() return need().body end

--- Reads the body, so that the connection may be used on.
function req.discard_body() req.read_body() end

--- The connection itself: raw, the server has nothing more to do with it.
---@param raw boolean|nil
---@return treadle.ngx.Socket|nil socket
---@return string|nil err "no body"
function req.socket(raw)
  local request = need()
  if not raw and request.method == "GET" and not request.headers["content-length"] then return nil, "no body" end
  request.raw = request.raw or raw
  return request.sock
end

--- What ngx.header is.
M.header = setmetatable({}, {
  __index = function(_, name) return need().out[header_name(name)] end,
  __newindex = function(_, name, value) need().out[header_name(name)] = value end,
})

--- What ngx.var is: what little there is of a request.
M.var = setmetatable({}, {
  __index = function(_, name)
    local request = M.current()
    if not request then return nil end
    local header = name:match "^http_(.*)"
    if header then return req.get_headers()[header] end
    if name == "uri" then return request.path end
    if name == "args" or name == "query_string" then return request.query end
    if name == "request_uri" then return request.target end
    if name == "request_method" then return request.method end
    if name == "remote_addr" then return request.peer end
    if name == "host" then return request.headers.host end
    return request.vars[name]
  end,
  __newindex = function(_, name, value) need().vars[name] = value end,
})

--- Sends the status and the headers, if they were not sent.
---@return 1|nil ok
---@return string|nil err
function M.send_headers()
  local ok, err = send_head(need())
  if ok then return 1 end
  return nil, err
end

--- Everything is sent as it is said.
---@return 1
function M.flush() return 1 end

local function flatten(into, value)
  if type(value) == "table" then
    for i = 1, #value do flatten(into, value[i]) end
  else
    into[#into + 1] = tostring(value)
  end
end

local function output(request, ending, ...)
  local parts = {}
  for i = 1, select("#", ...) do flatten(parts, (select(i, ...))) end
  parts[#parts + 1] = ending
  local ok, err = send_head(request)
  if ok then ok, err = request.sock:send(table.concat(parts)) end
  if ok then return 1 end
  return nil, err
end

--- Sends a part of the answer; before the first the headers.
---@param ... any strings, numbers, booleans, nil and nested tables of them
---@return 1|nil ok
---@return string|nil err
function M.print(...) return output(need(), "", ...) end

--- The same, and a newline.
---@param ... any
---@return 1|nil ok
---@return string|nil err
function M.say(...) return output(need(), "\n", ...) end

--- Does nothing: the end of the handler ends the answer.
---@return 1
function M.eof() return 1 end

M.EXIT = setmetatable({}, { __tostring = function() return "ngx.exit" end })

--- Ends the handler.
---@param status integer the answer's, when it is 200 or more and none was sent
function M.exit(status)
  local request = M.current()
  if request and type(status) == "number" and status >= 200 and not request.sent then request.status = status end
  error(M.EXIT, 0)
end

--- Serves one connection: reads a request, calls the handler, closes.
---@param conn treadle.Conn
---@param handler fun()
---@return true|nil ok
---@return any err
function M.serve(conn, handler)
  local sock = tcp.wrap(conn)
  local request, err = parse_head(sock)
  if not request then
    if err == "bad request" then sock:send "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" end
    sock:close()
    return nil, err
  end
  request.sock, request.out, request.status, request.sent, request.vars = sock, {}, 200, false, {}
  request.path, request.query = request.target:match "^([^?]*)%??(.*)$"
  request.peer = (conn:peername() or ""):match "^%[?(.-)%]?:%d+$"
  request.ctx = {}
  local task = park.running_task()
  current[task] = request
  local ok, failure = pcall(handler)
  current[task] = nil
  if not ok and failure ~= M.EXIT then
    if not request.sent then request.status = 500 end
    send_head(request)
    sock:close()
    error(failure, 0)
  end
  send_head(request)
  sock:close()
  return true
end

return M
