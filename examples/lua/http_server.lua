-- A small HTTP/1.1 server: keep-alive, pipelining, limits, an idle deadline.
-- Usage: luajit http_server.lua [host:port]     default 127.0.0.1:8080
local treadle = require "treadle"
local serve = dofile((arg[0]:match "^.*/" or "./") .. "server.lua")

local MAX_LINE, MAX_HEADERS, MAX_BODY = 8192, 100, 2 ^ 20
local IDLE = 30 -- seconds

local HELLO = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, World!\n"

local REASON = {
  [200] = "OK",
  [400] = "Bad Request",
  [404] = "Not Found",
  [405] = "Method Not Allowed",
  [413] = "Content Too Large",
  [431] = "Request Header Fields Too Large",
  [501] = "Not Implemented",
  [505] = "HTTP Version Not Supported",
}

local TOKEN = "^[!#$%%&'*+%-.^_`|~%w]+$"

-- Answers -----------------------------------------------------------------------

local function answer(conn, request)
  if request.status == 200 and request.keep_alive and not request.http_1_0 then
    return conn:write(HELLO)
  end
  local status, body = request.status, "Hello, World!\n"
  if status ~= 200 then body = ("%d %s\n"):format(status, REASON[status]) end
  local connection = ""
  if not request.keep_alive then
    connection = "Connection: close\r\n"
  elseif request.http_1_0 then
    connection = "Connection: keep-alive\r\n"
  end
  return conn:write("HTTP/1.1 ", status, " ", REASON[status], "\r\nContent-Type: text/plain\r\nContent-Length: ", #body,
    "\r\n", status == 405 and "Allow: GET\r\n" or "", connection, "\r\n", body)
end

-- Requests ----------------------------------------------------------------------

--- The connection ends after the answer: where the next request would begin is
--- not known any more.
local function reject(request, status)
  request.status, request.keep_alive, request.broken = status, false, true
end

--- "GET / HTTP/1.1"
local function parse_request_line(request, line)
  if line == "GET / HTTP/1.1" then return end
  local method, target, version = line:match "^([^ ]+) ([^ ]+) ([^ ]+)$"
  if not method or not method:find(TOKEN) then return reject(request, 400) end
  if version == "HTTP/1.0" then
    request.http_1_0, request.keep_alive = true, false -- unless it asks for it
  elseif version ~= "HTTP/1.1" then
    return reject(request, version:find "^HTTP/...$" and 505 or 400)
  end
  if method ~= "GET" then
    request.status = 405
  elseif target ~= "/" then
    request.status = 404
  end
end

local header = {} -- by lower-case name

header["connection"] = function(request, value)
  for word in value:lower():gmatch "[^%s,]+" do
    if word == "close" then
      request.keep_alive = false
    elseif word == "keep-alive" and request.http_1_0 then
      request.keep_alive = true
    end
  end
end

header["content-length"] = function(request, value)
  if not value:find "^%d+$" then return reject(request, 400) end
  local length = tonumber(value)
  if request.body and request.body ~= length then return reject(request, 400) end
  if length > MAX_BODY then return reject(request, 413) end
  request.body = length
end

header["transfer-encoding"] = function(request)
  reject(request, 501)
end

local function parse_header(request, line)
  local name, value = line:match "^([^:]*):[ \t]*(.-)[ \t]*$"
  if not name or not name:find(TOKEN) then return reject(request, 400) end
  local known = header[name:lower()]
  if known then known(request, value) end
end

--- Nobody here wants a body: it is passed over.
local function skip_body(conn, left)
  while left > 0 do
    local data = conn:read_some(math.min(left, 65536))
    if not data then return nil end
    left = left - #data
  end
  return true
end

--- The next request; nil when the connection has ended or failed.
local function read_request(conn)
  local request = { status = 200, keep_alive = true }
  local started = false
  for _ = 0, MAX_HEADERS do
    local line, err = conn:read("l", MAX_LINE)
    if not line then
      if err ~= "too long" then return nil end
      break
    end
    if line ~= "" then
      if started then
        parse_header(request, line)
      else -- empty lines before a request are passed over
        parse_request_line(request, line)
        started = true
      end
    elseif started then
      return skip_body(conn, request.body or 0) and request
    end
    if request.broken then return request end
  end
  reject(request, 431)
  return request
end

-- Connections --------------------------------------------------------------------

--- Ends the stream, and reads on for a moment: closing with unread bytes would
--- reset the connection and take the answer away from the client.
local function linger(conn)
  conn:shutdown "write"
  treadle.timeout(1, function()
    while conn:read_some() do end
  end)
end

serve(arg[1] or "127.0.0.1:8080", function(conn)
  conn:settimeout(IDLE)
  local request = read_request(conn)
  while request and answer(conn, request) do
    if not request.keep_alive then return linger(conn) end
    request = read_request(conn)
  end
end)
