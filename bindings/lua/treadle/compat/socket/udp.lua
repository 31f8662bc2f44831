-- SPDX-License-Identifier: MIT
-- LuaSocket's datagram sockets.
--
-- Invariant: `dgram` is there as soon as it is needed: a socket that sends before
-- it was given a name gets one then.

local common = require "treadle.compat.common"
local dgram = require "treadle.dgram"

local text = common.text
local LARGEST = 8192 -- LuaSocket's

---@class treadle.socket.Udp
---@field dgram treadle.Dgram|nil
local Udp = {}
Udp.__index = Udp

function Udp:__tostring() return ("udp{%s}: %s"):format(self.peer and "connected" or "unconnected", tostring(self.dgram or "none")) end

local function address_of(self, host, port)
  local number = common.port(port)
  if not number then return nil, "bad port" end
  if host == "*" then return ":" .. number end
  local found, err = common.resolve(host, number, self.seconds)
  if not found then return nil, err end
  return type(found) == "table" and found[1] or found
end

local function adopt(self, socket, err)
  if not socket then return nil, err == "address in use" and "address already in use" or text(err) end
  if self.dgram then self.dgram:close() end
  self.dgram = socket
  socket:settimeout(self.seconds)
  if self.broadcast then socket:setoption("broadcast", true) end
  return 1
end

--- Where it receives.
---@param host string
---@param port integer|string
---@return 1|nil ok
---@return string|nil err
function Udp:setsockname(host, port)
  if self.closed then return nil, "closed" end
  local address, err = address_of(self, host, port)
  if not address then return nil, err end
  local ok
  ok, err = adopt(self, dgram.listen_udp(address))
  if ok then self.from = self.dgram:address() end
  return ok, err
end

--- To whom it sends, and from whom alone it receives; "*": from anybody again.
---@param host string
---@param port integer|string|nil
---@return 1|nil ok
---@return string|nil err
function Udp:setpeername(host, port)
  if self.closed then return nil, "closed" end
  if host == "*" then
    self.peer = nil
    return adopt(self, dgram.listen_udp(self.from or ":0"))
  end
  local address, err = address_of(self, host, port)
  if not address then return nil, err end
  if self.from and self.dgram then -- its port is to be free
    self.dgram:close()
    self.dgram = nil
  end
  local ok
  ok, err = adopt(self, dgram.dial_udp(address, self.from))
  self.peer = ok and address or nil
  return ok, err
end

local function ensure(self)
  if self.closed then return nil, "closed" end
  if self.dgram then return true end
  return adopt(self, dgram.listen_udp(self.six and "[::]:0" or "0.0.0.0:0"))
end

--- Sends a datagram to the peer.
---@param data string
---@return 1|nil ok
---@return string|nil err
function Udp:send(data)
  if not self.peer then return nil, self.closed and "closed" or "Destination address required" end
  local n, err = self.dgram:send(data)
  if n then return 1 end
  return nil, text(err)
end

--- Sends a datagram.
---@param data string
---@param host string
---@param port integer|string
---@return 1|nil ok
---@return string|nil err
function Udp:sendto(data, host, port)
  if self.peer then error("calling 'sendto' on a connected socket", 2) end
  local ok, err = ensure(self)
  if not ok then return nil, err end
  local address
  address, err = address_of(self, host, port)
  if not address then return nil, err end
  local n
  n, err = self.dgram:sendto(data, address)
  if n then return 1 end
  return nil, text(err)
end

--- Receives a datagram; what is longer than max is cut.
---@param max integer|nil
---@return string|nil data
---@return string|nil err
function Udp:receive(max)
  local ok, err = ensure(self)
  if not ok then return nil, err end
  local data, partial
  data, err, partial = self.dgram:recv(max or LARGEST)
  if data then return data end
  if err == "truncated" then return partial end
  return nil, text(err)
end

--- The same, and who sent it.
---@param max integer|nil
---@return string|nil data
---@return string|nil host or the error
---@return integer|nil port
function Udp:receivefrom(max)
  local ok, err = ensure(self)
  if not ok then return nil, err end
  local data, from, partial, who = self.dgram:recvfrom(max or LARGEST)
  if not data then
    if from ~= "truncated" then return nil, text(from) end
    data, from = partial, who
  end
  return data, common.split(from or "")
end

--- Limits what waits: seconds; nil or less than 0: no limit.
---@param seconds number|nil
---@return 1
function Udp:settimeout(seconds)
  self.seconds = seconds and seconds >= 0 and seconds or nil
  if self.dgram then self.dgram:settimeout(self.seconds) end
  return 1
end

--- Sets "broadcast"; "reuseaddr", "reuseport" and "dontroute" do nothing.
---@param name string
---@param value any
---@return 1
function Udp:setoption(name, value)
  if name == "broadcast" then
    self.broadcast = value ~= false
    if self.dgram then self.dgram:setoption("broadcast", self.broadcast) end
  elseif name ~= "reuseaddr" and name ~= "reuseport" and name ~= "dontroute" then
    error(("bad argument #1 to 'setoption' (unsupported option `%s')"):format(tostring(name)), 2)
  end
  return 1
end

local function place(address)
  if not address then return nil, "closed" end
  local host, port = common.split(address)
  return host, tostring(port), host:find(":", 1, true) and "inet6" or "inet"
end

--- Where it receives.
---@return string|nil host
---@return string|nil port or the error
---@return "inet"|"inet6"|nil family
function Udp:getsockname()
  local ok, err = ensure(self)
  if not ok then return nil, err end
  return place(self.dgram:address())
end

--- To whom it sends.
---@return string|nil host
---@return string|nil port or the error
---@return "inet"|"inet6"|nil family
function Udp:getpeername()
  if not self.peer then return nil, "not connected" end
  return place(self.peer)
end

--- Closes the socket.
---@return 1
function Udp:close()
  self.closed, self.peer = true, nil
  if self.dgram then self.dgram:close() end
  self.dgram = nil
  return 1
end

--- Whether bytes are here already that select would not see: never.
---@return boolean
function Udp:dirty() return false end -- luacheck: ignore 212

--- The descriptor, or -1.
---@return integer
function Udp:getfd() return self.dgram and self.dgram:fd() or -1 end

return {
  --- A datagram socket.
  ---@param six boolean|nil for IPv6 when it has no name
  new = function(six) return setmetatable({ six = six }, Udp) end,
}
