-- SPDX-License-Identifier: MIT
-- LuaSocket's stream sockets.
--
-- Invariants: exactly one of `conn` and `listener` is there, or neither: then the
-- socket is new ("master") or closed.  Options that are set early are kept until
-- there is something to set them on.

local common = require "treadle.compat.common"
local net = require "treadle.net"
local stream = require "treadle.compat.stream"
local time = require "treadle.time"

local text = common.text
local type, tonumber, tostring = type, tonumber, tostring

---@class treadle.socket.Tcp
---@field conn treadle.Conn|nil
---@field listener treadle.Listener|nil
---@field left integer
---@field network "tcp"|"tcp4"|"tcp6"|"unix"
local Tcp = {}
Tcp.__index = Tcp

function Tcp:__tostring()
  local kind = self.conn and "client" or self.listener and "server" or self.closed and "closed" or "master"
  return ("tcp{%s}: %s"):format(kind, tostring(self.conn or self.listener or "none"))
end

local OPTIONS = {
  ["tcp-nodelay"] = function(s, on) return s:setoption("nodelay", on and true or false) end,
  keepalive = function(s, on) return s:setoption("keepalive", on and 7200 or false) end,
  ["tcp-keepidle"] = function(s, n) return s:setoption("keepalive", n) end,
  ["tcp-keepintvl"] = function(s, n) return s:setoption("keepalive_interval", n) end,
  ["tcp-keepcnt"] = function(s, n) return s:setoption("keepalive_count", n) end,
  ["recv-buffer-size"] = function(s, n) return s:setoption("read_buffer", n) end,
  ["send-buffer-size"] = function(s, n) return s:setoption("write_buffer", n) end,
  linger = function(s, o) return s:setoption("linger", o.on and o.timeout == 0 and "reset" or "flush") end,
  reuseaddr = function() return true end, -- always
  reuseport = function() return true end, -- when bound
  ["ipv6-v6only"] = function() return true end,
}

local function apply(self)
  local target = self.conn or self.listener
  target:settimeout(self.seconds)
  for name, value in pairs(self.options) do OPTIONS[name](target, value) end
end

--- What this becomes: a client's socket.
local function adopt(self, conn)
  self.conn, self.left, self.begun = conn, 0, time.now()
  apply(self)
  return 1
end

--- Connects. With a time limit of 0 this is "timeout" unless it succeeds at once.
---@param host string or the path of a Unix socket
---@param port integer|string|nil
---@return 1|nil ok
---@return string|nil err
function Tcp:connect(host, port)
  if self.closed then return nil, "closed" end
  if self.conn then return nil, "already connected" end
  if type(host) ~= "string" then error("bad argument #1 to 'connect' (string expected, got " .. type(host) .. ")", 2) end
  if self.listener then -- it was bound: that is where it comes from
    self.listener:close()
    self.listener = nil
  end
  local number
  if self.network ~= "unix" then
    number = common.port(port)
    if not number then return nil, "bad port" end
  end
  local conn, err = common.dial(host == "*" and "0.0.0.0" or host, number, self.seconds, self.from, self.network)
  if not conn then return nil, err end
  return adopt(self, conn)
end

--- Binds to an address, and listens there already.
---@param host string
---@param port integer|string
---@return 1|nil ok
---@return string|nil err
function Tcp:bind(host, port)
  if self.closed then return nil, "closed" end
  local address = host
  if self.network ~= "unix" then
    local number = common.port(port or 0)
    if not number then return nil, "bad port" end
    if host == "*" then
      address = ":" .. number
    else
      local found, err = common.resolve(host, number, self.seconds)
      if not found then return nil, err end
      address = type(found) == "table" and found[1] or found
    end
  end
  local listener, err = net.listen(self.network, address, { reuseport = self.options.reuseport or nil })
  if not listener then return nil, err == "address in use" and "address already in use" or text(err) end
  self.listener, self.from = listener, listener:address()
  apply(self)
  return 1
end

--- It listens from bind on.
---@return 1|nil ok
---@return string|nil err
function Tcp:listen()
  if not self.listener then return nil, self.closed and "closed" or "not bound" end
  return 1
end

local function new(network)
  return setmetatable({ network = network, left = 0, options = {}, received = 0, sent = 0, begun = time.now() }, Tcp)
end

--- Waits for a connection.
---@return treadle.socket.Tcp|nil client
---@return string|nil err
function Tcp:accept()
  if not self.listener then return nil, "closed" end
  local conn, err = self.listener:accept()
  if not conn then return nil, text(err) end
  local client = new(self.network)
  adopt(client, conn)
  return client
end

--- Sends data[i … j].
---@param data string|number
---@param i integer|nil
---@param j integer|nil
---@return integer|nil last index of the last byte that was sent
---@return string|nil err
---@return integer|nil partial the same with an error
function Tcp:send(data, i, j)
  if type(data) == "number" then data = tostring(data) end
  if type(data) ~= "string" then error("bad argument #1 to 'send' (string expected, got " .. type(data) .. ")", 2) end
  i, j = i or 1, j or #data
  if i < 0 then i = math.max(#data + i + 1, 1) end
  if j < 0 then j = #data + j + 1 end
  if not self.conn then return nil, "closed", i - 1 end
  if i ~= 1 or j ~= #data then data = data:sub(i, j) end
  local n, err, written = self.conn:write(data)
  if n then
    self.sent = self.sent + n
    return i + n - 1
  end
  self.sent = self.sent + (written or 0)
  err = text(err)
  if err == "broken pipe" or err == "connection reset by peer" then err = "closed" end
  return nil, err, i + (written or 0) - 1
end

local function finish(prefix, data, err, partial)
  if data then return prefix == "" and data or prefix .. data end
  if err == "connection reset by peer" then err = "closed" end
  return nil, err, prefix .. (partial or "")
end

--- Receives a line ("*l", also without a pattern), everything ("*a"), or a number of bytes.
---@param pattern "*l"|"*a"|integer|string|nil
---@param prefix string|nil what comes before the result, and counts
---@return string|nil data
---@return string|nil err "closed", "timeout", …
---@return string|nil partial
function Tcp:receive(pattern, prefix)
  prefix = prefix or ""
  if not self.conn then return nil, self.closed and "closed" or "not connected", prefix end
  if pattern == nil or pattern == "*l" or pattern == "l" then return finish(prefix, stream.line(self)) end
  local n = tonumber(pattern)
  if n then
    if n <= #prefix then return prefix end
    return finish(prefix, stream.exact(self, n - #prefix))
  end
  if pattern ~= "*a" and pattern ~= "a" then error("bad argument #1 to 'receive' (invalid receive pattern)", 2) end
  local data, err, partial = stream.all(self)
  if data == "" then data, err, partial = nil, "closed", "" end
  return finish(prefix, data, err, partial)
end

--- Limits what waits: seconds; nil or less than 0: no limit; 0: nothing waits.
---@param seconds number|nil
---@param mode "b"|"t"|nil both are for a call
---@return 1
function Tcp:settimeout(seconds, mode)
  if mode ~= nil and mode ~= "b" and mode ~= "t" and mode ~= "r" then
    error("bad argument #2 to 'settimeout' (invalid timeout mode)", 2)
  end
  if seconds ~= nil and type(seconds) ~= "number" then error("bad argument #1 to 'settimeout' (number expected)", 2) end
  self.seconds = seconds and seconds >= 0 and seconds or nil
  if self.conn or self.listener then apply(self) end
  return 1
end

--- The limits of settimeout; -1: none.
---@return number seconds
---@return number total always -1
function Tcp:gettimeout() return self.seconds or -1, -1 end

--- Sets an option by its name: "keepalive", "tcp-nodelay", …
---@param name string
---@param value any
---@return 1|nil ok
---@return string|nil err
function Tcp:setoption(name, value)
  if not OPTIONS[name] then error(("bad argument #1 to 'setoption' (unsupported option `%s')"):format(tostring(name)), 2) end
  if value == nil then value = true end
  self.options[name] = value
  local target = self.conn or self.listener
  if not target then return 1 end
  local ok, err = OPTIONS[name](target, value)
  if ok then return 1 end
  return nil, text(err)
end

--- Asks for an option.
---@param name string
---@return any value
---@return string|nil err
function Tcp:getoption(name)
  if not self.conn then return nil, "closed" end
  if name == "tcp-nodelay" then return self.conn:option "nodelay" end
  if name == "keepalive" then return self.conn:option "keepalive" ~= false end
  return self.options[name]
end

--- Shuts down "send", "receive" or "both".
---@param how "send"|"receive"|"both"|nil
---@return 1|nil ok
---@return string|nil err
function Tcp:shutdown(how)
  local names = { both = "both", send = "write", receive = "read" }
  local direction = names[how or "both"] or error("bad argument #1 to 'shutdown' (invalid shutdown method)", 2)
  if not self.conn then return nil, "closed" end
  self.conn:shutdown(direction)
  return 1
end

--- Closes the socket.
function Tcp:close()
  local target = self.conn or self.listener
  self.conn, self.listener, self.closed, self.left = nil, nil, true, 0
  if target then target:close() end
  return 1
end

local function place(address, err)
  if not address then return nil, text(err) end
  local host, port = common.split(address)
  if not port then return host end
  return host, tostring(port), host:find(":", 1, true) and "inet6" or "inet"
end

--- Who is at the other end.
---@return string|nil host
---@return string|nil port or the error
---@return "inet"|"inet6"|nil family
function Tcp:getpeername()
  if not self.conn then return nil, "not connected" end
  return place(self.conn:peername())
end

--- Where this end is.
---@return string|nil host
---@return string|nil port or the error
---@return "inet"|"inet6"|nil family
function Tcp:getsockname()
  if self.listener then return place(self.listener:address()) end
  if not self.conn then return nil, "closed" end
  return place(self.conn:sockname())
end

--- The family of its addresses.
---@return "inet4"|"inet6"
function Tcp:getfamily() return self.network == "tcp6" and "inet6" or "inet4" end

--- Bytes received and sent, and the socket's age in seconds.
---@return integer received
---@return integer sent
---@return number age
function Tcp:getstats() return self.received, self.sent, time.now() - self.begun end

--- Sets what getstats tells.
---@param received integer|nil
---@param sent integer|nil
---@param age number|nil
---@return 1
function Tcp:setstats(received, sent, age)
  self.received, self.sent = received or self.received, sent or self.sent
  if age then self.begun = time.now() - age end
  return 1
end

--- Whether bytes are here already that select would not see.
---@return boolean
function Tcp:dirty() return self.left > 0 end

--- The descriptor, or -1.
---@return integer
function Tcp:getfd()
  if self.conn then return self.conn:fd() or -1 end
  return self.listener and self.listener:fd() or -1
end

return { new = new }
