-- SPDX-License-Identifier: MIT
-- Datagram cosockets: ngx.socket.udp.
--
-- Invariant: `dgram` is nil unless setpeername has succeeded.

local common = require "treadle.compat.common"
local dgram = require "treadle.dgram"
local park = require "treadle.park"

local state, text = park.state, common.text
local DEFAULT = 60 -- seconds
local LARGEST = 65536

---@class treadle.ngx.Udp
---@field dgram treadle.Dgram|nil
local Udp = {}
Udp.__index = Udp

local function drop(self)
  local socket = self.dgram
  self.dgram = nil
  if socket then socket:close() end
end

--- To whom this socket sends, and from whom it receives.
---@param host string a name, an address, or "unix:/path"
---@param port integer|nil
---@return 1|nil ok
---@return string|nil err
function Udp:setpeername(host, port)
  if type(host) ~= "string" then error("bad argument #1 to 'setpeername' (string expected, got " .. type(host) .. ")", 2) end
  drop(self)
  local path = host:match "^unix:(.*)"
  local socket, err
  if path then
    socket, err = dgram.dial_unixgram(path, self.from or "@")
  else
    local number = common.port(port)
    if not number then return nil, "bad port number: " .. tostring(port) end
    local address
    address, err = common.resolve(host, number, self.seconds)
    if not address then
      return nil, err == "timeout" and err or host .. " could not be resolved (3: Host not found)"
    end
    if type(address) == "table" then address = address[1] end
    socket, err = dgram.dial_udp(address, self.from)
  end
  if not socket then return nil, text(err) end
  socket:settimeout(self.seconds)
  self.dgram = socket
  return 1
end

--- The address to send from.
---@param address string
---@return 1
function Udp:bind(address)
  self.from = common.join(address, 0)
  return 1
end

local function flatten(into, value)
  if type(value) == "table" then
    for i = 1, #value do flatten(into, value[i]) end
  else
    into[#into + 1] = tostring(value)
  end
  return into
end

--- Sends one datagram.
---@param data string|number|boolean|table|nil
---@return 1|nil ok
---@return string|nil err
function Udp:send(data)
  if not self.dgram then return nil, "closed" end
  if type(data) ~= "string" then data = table.concat(flatten({}, data)) end
  local n, err = self.dgram:send(data)
  if n then return 1 end
  return nil, text(err)
end

--- Receives one datagram; of one that is longer than size, the beginning.
---@param size integer|nil
---@return string|nil data
---@return string|nil err "timeout", …
function Udp:receive(size)
  if not self.dgram then return nil, "closed" end
  local by = self.reader
  if by and not by.done and by ~= state.tasks[state.cur] then return nil, "socket busy reading" end
  if size ~= nil and (type(size) ~= "number" or size <= 0) then error("bad argument #1 to 'receive' (bad size)", 2) end
  self.reader = state.tasks[state.cur]
  local data, err, partial = self.dgram:recv(math.min(size or LARGEST, LARGEST))
  self.reader = nil
  if data then return data end
  if err == "truncated" then return partial end
  return nil, text(err)
end

--- Limits every later operation.
---@param ms number
function Udp:settimeout(ms)
  if type(ms) ~= "number" or ms < 0 then error("bad timeout value", 2) end
  self.seconds = ms > 0 and ms / 1000 or DEFAULT
  if self.dgram then self.dgram:settimeout(self.seconds) end
end

--- Closes the socket.
function Udp:close()
  if not self.dgram then return nil, "closed" end
  drop(self)
  return 1
end

local M = {}

--- A socket without a peer.
---@return treadle.ngx.Udp
function M.udp() return setmetatable({ seconds = DEFAULT }, Udp) end

return M
