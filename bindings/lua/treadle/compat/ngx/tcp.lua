-- SPDX-License-Identifier: MIT
-- Stream cosockets: ngx.socket.tcp, stream, connect.
--
-- Unlike nginx's they belong to no request: any goroutine may use one.
--
-- Invariants: `conn` is nil unless connected.  `reader` and `writer` are the
-- goroutines in such a call: a second one is told "socket busy …" at once.  An
-- error other than a timeout closes the socket, as in nginx.  A socket whose pool
-- has a backlog holds one of its permits from connect to close or setkeepalive.

local library = require "treadle.library"
local common = require "treadle.compat.common"
local park = require "treadle.park"
local pool = require "treadle.compat.ngx.pool"
local ssl = require "treadle.compat.ngx.ssl"
local stream = require "treadle.compat.stream"
local C = library.C

local state, text = park.state, common.text
local select, type, tonumber, tostring, concat = select, type, tonumber, tostring, table.concat
local DEFAULT = 60000 -- ms: nginx's for connecting, sending, reading, and idle connections

---@class treadle.ngx.Socket
---@field conn treadle.Conn|nil
---@field left integer
---@field received integer
local Socket = {}
Socket.__index = Socket

--- Whether another goroutine that still lives is in such a call.
local function taken(by)
  return by and not by.done and by ~= state.tasks[state.cur]
end

local function bad(position, name, message)
  error(("bad argument #%d to '%s' (%s)"):format(position, name, message), 3)
end

--- Closes because of an error.
local function drop(self)
  local conn = self.conn
  self.conn, self.left = nil, 0
  if conn then
    if conn.ngx_session then ssl.leave(conn) end
    conn:close()
  end
  local permit = self.permit
  self.permit = nil
  if permit then permit:leave() end
end

--- Sets what the core is to do about time.
local function arm(self)
  local conn = self.conn
  if not conn then return end
  self.split = self.read_ms ~= self.send_ms
  C.tdl_conn_set_timeout(conn.ptr, self.split and 0 or self.read_ms * 1e6)
end

local function begin_read(self)
  if self.split then C.tdl_conn_set_read_deadline(self.conn.ptr, C.tdl_now() + self.read_ms * 1e6) end
  self.reader = state.tasks[state.cur]
end

--- Ends a read: what the stream said is what the client is told.
local function end_read(self, data, err, partial)
  self.reader = nil
  if data then return data end
  if err ~= "timeout" then drop(self) end
  return nil, err, partial
end

local function milliseconds(value, position, name)
  value = tonumber(value)
  if not value then bad(position, name, "number expected") end
  if value < 0 or value > 2 ^ 31 - 1 then error("bad timeout value", 3) end
  return value > 0 and math.ceil(value) or DEFAULT
end

--- All three limits, in milliseconds.
---@param ms number
function Socket:settimeout(ms)
  local value = milliseconds(ms, 1, "settimeout")
  self.connect_ms, self.send_ms, self.read_ms = value, value, value
  arm(self)
end

--- One limit each, in milliseconds.
---@param connect number
---@param send number
---@param read number
function Socket:settimeouts(connect, send, read)
  self.connect_ms = milliseconds(connect, 1, "settimeouts")
  self.send_ms = milliseconds(send, 2, "settimeouts")
  self.read_ms = milliseconds(read, 3, "settimeouts")
  arm(self)
end

local function connect_options(options)
  if options == nil then return nil end
  if type(options) ~= "table" then error("bad argument #3 to 'connect' (table expected)", 3) end
  local name, size, backlog = options.pool, options.pool_size, options.backlog
  if name ~= nil and type(name) ~= "string" and type(name) ~= "number" then
    error('bad "pool" option type: ' .. type(name), 3)
  end
  if size ~= nil and (type(size) ~= "number" or size < 1) then error('bad "pool_size" option value: ' .. tostring(size), 3) end
  if backlog ~= nil and (type(backlog) ~= "number" or backlog < 0) then
    error('bad "backlog" option value: ' .. tostring(backlog), 3)
  end
  return name and tostring(name), size, backlog
end

local function established(self, conn, reused)
  self.conn, self.reused, self.left = conn, reused, 0
  arm(self)
  return 1
end

local function open(self, host, port, size, backlog)
  local seconds = self.connect_ms / 1000
  local known = (size or backlog) and pool.get(self.key, size, backlog) or pool.find(self.key)
  if known then
    local ok, err = known:enter(seconds)
    if not ok then return nil, err end
    self.permit = known.permits and known or nil
    local conn, reused = known:take()
    if conn then return established(self, conn, reused + 1) end
  end
  local alive, conn, err = pcall(common.dial, host, port, seconds)
  if alive and conn then return established(self, conn, 0) end
  drop(self)
  if not alive then error(conn, 0) end -- unwinds
  if err == "host not found" then return nil, host .. " could not be resolved (3: Host not found)" end
  return nil, err
end

--- Connects, or takes a connection of the pool.
---@param host string a name, an address, or "unix:/path"
---@param port integer|string|nil
---@param options { pool: string|nil, pool_size: integer|nil, backlog: integer|nil }|nil
---@return 1|nil ok
---@return string|nil err "timeout", "connection refused", …
function Socket:connect(host, port, options)
  if taken(self.connecting) then return nil, "socket busy connecting" end
  if taken(self.reader) then return nil, "socket busy reading" end
  if taken(self.writer) then return nil, "socket busy writing" end
  if type(host) ~= "string" then bad(1, "connect", "string expected, got " .. type(host)) end
  local path = host:match "^unix:(.*)"
  if path then
    if type(port) == "table" then options = port end
    host, port = path, nil
  else
    local number = common.port(port)
    if not number then
      if port == nil or type(port) == "table" then bad(2, "connect", "number expected, got " .. (port and "table" or "no value")) end
      return nil, "bad port number: " .. tostring(port)
    end
    port = number
  end
  local name, size, backlog = connect_options(options)
  drop(self)
  self.key = name or (path and "unix:" .. path or host .. ":" .. port)
  self.connecting = state.tasks[state.cur]
  local ok, err = open(self, host, port, size, backlog)
  self.connecting = nil
  return ok, err
end

local function flatten(into, value)
  local kind = type(value)
  if kind == "table" then
    for i = 1, #value do flatten(into, value[i]) end
  elseif kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" then
    into[#into + 1] = tostring(value)
  else
    error(("bad argument #1 to 'send' (string, number, boolean, nil, or array table expected, got %s)"):format(kind), 0)
  end
end

--- Sends all of it.
---@param data string|number|boolean|table|nil tables may be nested
---@return integer|nil bytes
---@return string|nil err
function Socket:send(data)
  local conn = self.conn
  if not conn then return nil, "closed" end
  if taken(self.writer) then return nil, "socket busy writing" end
  if taken(self.connecting) then return nil, "socket busy connecting" end
  if type(data) ~= "string" then
    local parts = {}
    flatten(parts, data)
    data = concat(parts)
  end
  if self.split then C.tdl_conn_set_write_deadline(conn.ptr, C.tdl_now() + self.send_ms * 1e6) end
  self.writer = state.tasks[state.cur]
  local n, err = conn:write(data)
  self.writer = nil
  if n then return n end
  err = text(err)
  if err ~= "timeout" then drop(self) end
  return nil, err
end

--- Why a read cannot begin now; nil when it can.
local function unreadable(self)
  if not self.conn then return "closed" end
  if taken(self.reader) then return "socket busy reading" end
  if taken(self.connecting) then return "socket busy connecting" end
end

local function receive_bytes(self, n)
  if n == 0 then return "" end
  begin_read(self)
  return end_read(self, stream.exact(self, n))
end

--- Receives a line ("*l", also without a pattern), everything until the end
--- ("*a"), or so many bytes.
---@param pattern "*l"|"*a"|integer|string|nil
---@return string|nil data
---@return string|nil err "timeout", "closed", …
---@return string|nil partial
function Socket:receive(pattern)
  local err = unreadable(self)
  if err then return nil, err, "" end
  if pattern == nil or pattern == "*l" or pattern == "l" then
    begin_read(self)
    return end_read(self, stream.line(self))
  end
  local n = tonumber(pattern)
  if n then
    if n < 0 or n % 1 ~= 0 then bad(1, "receive", "bad number argument") end
    return receive_bytes(self, n)
  end
  if pattern == "*a" or pattern == "a" then
    begin_read(self)
    return end_read(self, stream.all(self))
  end
  bad(1, "receive", type(pattern) == "string" and "bad pattern argument" or "bad pattern argument: " .. type(pattern))
end

--- Receives what is there, at most max bytes.
---@param max integer|string
---@return string|nil data
---@return string|nil err "closed", "timeout", …
---@return string|nil partial
function Socket:receiveany(max)
  max = tonumber(max)
  if not max or max % 1 ~= 0 then bad(1, "receiveany", "bad max argument") end
  if max <= 0 then bad(1, "receiveany", "bad max argument") end
  local err = unreadable(self)
  if err then return nil, err, "" end
  begin_read(self)
  return end_read(self, stream.some(self, max))
end

--- A function that receives what comes before the pattern.
---@param pattern string
---@param options { inclusive: boolean|nil }|nil
---@return fun(size: integer|nil): string|nil, string|nil, string|nil
function Socket:receiveuntil(pattern, options)
  if type(pattern) ~= "string" then bad(1, "receiveuntil", "string expected, got " .. type(pattern)) end
  if pattern == "" then return nil, "pattern is empty" end
  local inclusive = false
  if options ~= nil then
    if type(options) ~= "table" then bad(2, "receiveuntil", "table expected") end
    inclusive = options.inclusive
    if inclusive ~= nil and type(inclusive) ~= "boolean" then
      error('bad "inclusive" option value type: ' .. type(inclusive), 2)
    end
  end
  local over = false
  return function(size)
    if over then -- a call with a size has found the pattern
      over = false
      return nil, nil, nil
    end
    local err = unreadable(self)
    if err then return nil, err, "" end
    if size ~= nil then
      size = tonumber(size)
      if not size or size < 0 or size % 1 ~= 0 then error("bad size argument", 2) end
      if size == 0 then return "" end
    end
    begin_read(self)
    local data, ended, partial = stream.before(self, pattern, size, inclusive)
    if data then over = size ~= nil and ended end
    return end_read(self, data, ended, partial)
  end
end

--- Closes the socket.
---@return 1|nil ok
---@return string|nil err
function Socket:close()
  if not self.conn then return nil, "closed" end
  if taken(self.reader) then return nil, "socket busy reading" end
  if taken(self.writer) then return nil, "socket busy writing" end
  drop(self)
  return 1
end

--- Keeps the connection for the next connect to the same place, or to the pool of
--- the same name; the socket is closed then.
---@param timeout number|nil milliseconds it may be idle; 0: any time
---@param size integer|nil of a pool that this makes
---@return 1|nil ok
---@return string|nil err
function Socket:setkeepalive(timeout, size)
  local conn = self.conn
  if not conn then return nil, "closed" end
  if taken(self.reader) then return nil, "socket busy reading" end
  if taken(self.writer) then return nil, "socket busy writing" end
  if timeout ~= nil and not tonumber(timeout) then bad(1, "setkeepalive", "number expected") end
  if size ~= nil and (not tonumber(size) or tonumber(size) < 1) then bad(2, "setkeepalive", "bad pool size") end
  if self.left > 0 then
    drop(self)
    return nil, "unread data in buffer"
  end
  if not pool.sound(conn) then
    drop(self)
    return nil, "connection in dubious state"
  end
  local ms = tonumber(timeout) or DEFAULT
  if self.split then
    C.tdl_conn_set_read_deadline(conn.ptr, 0)
    C.tdl_conn_set_write_deadline(conn.ptr, 0)
  end
  local permit = self.permit
  self.conn, self.permit = nil, nil
  pool.get(self.key, tonumber(size)):put(conn, self.reused, ms > 0 and ms / 1000 or math.huge)
  if permit then permit:leave() end
  return 1
end

--- How often the connection has been used before; 0 for a new one.
---@return integer|nil times
---@return string|nil err "closed"
function Socket:getreusedtimes()
  if not self.conn then return nil, "closed" end
  return self.reused
end

local OPTIONS = {
  keepalive = function(conn, value) return conn:setoption("keepalive", value and 7200 or false) end,
  reuseaddr = function() return true end,
  ["tcp-nodelay"] = function(conn, value) return conn:setoption("nodelay", value and true or false) end,
  sndbuf = function(conn, value) return conn:setoption("write_buffer", value) end,
  rcvbuf = function(conn, value) return conn:setoption("read_buffer", value) end,
}

--- Sets "keepalive", "reuseaddr", "tcp-nodelay", "sndbuf" or "rcvbuf".
---@param option string
---@param value any
---@return true|nil ok
---@return string|nil err
function Socket:setoption(option, value)
  if not self.conn then return nil, "closed" end
  local set = OPTIONS[option]
  if not set then return nil, "unsupported option " .. tostring(option) end
  if value ~= nil and type(value) == "number" and option ~= "sndbuf" and option ~= "rcvbuf" then value = value ~= 0 end
  local ok, err = set(self.conn, value)
  if ok then return true end
  return nil, text(err)
end

--- Does a TLS handshake. In a connection that has had it, of the pool say, nothing happens.
---@param reused treadle.ngx.Session|boolean|nil a session to resume; false: none is returned
---@param server_name string|nil that is asked for, and, with ssl_verify, that the certificate must be for
---@param ssl_verify boolean|nil whether the certificate must be trusted
---@param ... boolean|nil send_status_req: whether its state of revocation is asked for, which is not supported
---@return treadle.ngx.Session|true|nil session
---@return string|nil err "timeout", "handshake failed", "certificate host mismatch", "18: self-signed certificate", …
function Socket:sslhandshake(reused, server_name, ssl_verify, ...)
  local n = select("#", ...)
  if n > 1 then error(("ngx.socket sslhandshake: expecting 1 ~ 5 arguments (including the object), but seen %d"):format(n + 4), 2) end
  local conn = self.conn
  if not conn then return nil, "closed" end
  if taken(self.connecting) then return nil, "socket busy connecting" end
  if taken(self.reader) then return nil, "socket busy reading" end
  if taken(self.writer) then return nil, "socket busy writing" end
  if server_name ~= nil then server_name = tostring(server_name) end
  if ... then return nil, "no OCSP support" end
  self.reader, self.writer = state.tasks[state.cur], state.tasks[state.cur]
  C.tdl_conn_set_timeout(conn.ptr, 0)
  C.tdl_conn_set_read_deadline(conn.ptr, C.tdl_now() + self.connect_ms * 1e6) -- nginx's limit for handshakes
  local session, err = ssl.handshake(conn, reused, server_name, ssl_verify)
  self.reader, self.writer = nil, nil
  if not session then
    drop(self)
    return nil, err
  end
  C.tdl_conn_set_read_deadline(conn.ptr, 0)
  arm(self)
  return session
end

--- Certificates of clients are not there.
---@return nil
---@return string err "not supported"
function Socket:setclientcert() -- luacheck: ignore 212
  return nil, "not supported"
end

local M = { Socket = Socket }

--- A socket that is not connected.
---@return treadle.ngx.Socket
function M.tcp()
  return setmetatable({
    conn = nil, left = 0, received = 0, reused = 0, split = false,
    connect_ms = DEFAULT, send_ms = DEFAULT, read_ms = DEFAULT,
  }, Socket)
end

--- A socket around a connection that is there.
---@param conn treadle.Conn
---@return treadle.ngx.Socket
function M.wrap(conn)
  local sock = M.tcp()
  sock.key = "accepted"
  established(sock, conn, 0)
  return sock
end

--- ngx.socket.connect: a new socket, connected.
---@param host string a name, an address, or "unix:/path"
---@param port integer|string|nil
---@param options { pool: string|nil, pool_size: integer|nil, backlog: integer|nil }|nil
---@return treadle.ngx.Socket|nil socket
---@return string|nil err
function M.connect(host, port, options)
  local sock = M.tcp()
  local ok, err = sock:connect(host, port, options)
  if not ok then return nil, err end
  return sock
end

return M
