-- SPDX-License-Identifier: MIT
-- What the compatibility modules share: the texts that other libraries have for
-- errors, how a cancelled goroutine leaves their calls, and where a host and a
-- port are.
--
-- Invariant: a call of theirs never returns "cancelled", which no client expects:
-- it unwinds the goroutine.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local net = require "treadle.net"
local park = require "treadle.park"
local time = require "treadle.time"
local C = library.C

local state, hold, fail = park.state, park.hold, park.fail
local CANCELLED = errors.CANCELLED
local tonumber = tonumber

-- Clients compare these, or show them.
local TEXT = {
  ["connection reset"] = "connection reset by peer",
  ["host unreachable"] = "no route to host",
  ["network unreachable"] = "network is unreachable",
  ["cut off"] = "closed",
  ["tls failed"] = "closed",
  ["tls refused"] = "closed",
}

local M = {}

--- The text that clients know for an error of treadle's.
---@param err string
---@return string
function M.text(err)
  if err == "cancelled" then error(CANCELLED, 0) end
  return TEXT[err] or err
end

--- Whether the host is an address already, or a name that the core knows.
---@param host string
---@return boolean
local function numeric(host)
  return host:find "^%d+%.%d+%.%d+%.%d+$" ~= nil or host:find(":", 1, true) ~= nil or host == "localhost"
end

---@param host string
---@param port integer
---@return string
local function join(host, port)
  if host:find(":", 1, true) and host:sub(1, 1) ~= "[" then return "[" .. host .. "]:" .. port end
  return host .. ":" .. port
end
M.join = join

local MOST = 32
local addresses_type, text_type = ffi.typeof "tdl_addr[?]", ffi.typeof "char[?]"

--- Addresses of a host, as treadle.dial takes them.
---@param host string
---@param port integer
---@param timeout number|nil seconds
---@return string|string[]|nil address
---@return string|nil err "host not found", "timeout"
function M.resolve(host, port, timeout)
  if numeric(host) then return join(host, port) end
  if host:find("\0", 1, true) then return nil, "host not found" end
  local found, room = addresses_type(MOST), text_type(256)
  local n = hold(C.tdl_lookup_start(state.host, state.id, "tcp", host, port, found, MOST, time.deadline(timeout)))
  if n < 0 then
    local err = fail(n, found)
    if err == "cancelled" or err == "timeout" then return nil, M.text(err) end
    return nil, "host not found"
  end
  local list = {}
  for i = 0, n - 1 do
    C.tdl_addr_format(found + i, room, 256)
    list[i + 1] = ffi.string(room)
  end
  return list
end

--- Connects to a host and a port, or to a Unix socket when port is nil.
---@param host string
---@param port integer|nil
---@param timeout number|nil seconds
---@param from string|nil
---@param network string|nil "tcp" when nil
---@return treadle.Conn|nil conn
---@return string|nil err
function M.dial(host, port, timeout, from, network)
  local address = host
  if port then
    local begun = time.now()
    local found, why = M.resolve(host, port, timeout)
    if not found then return nil, why end
    address = found
    if timeout then timeout = timeout - (time.now() - begun) end
  end
  local conn, err = net.dial(port and (network or "tcp") or "unix", address, { timeout = timeout, from = from })
  if conn then return conn end
  if err == "bad address" then return nil, "host not found" end
  return nil, M.text(err)
end

--- A port as a number; nil when it is none.
---@param port any
---@return integer|nil
function M.port(port)
  port = tonumber(port)
  if not port or port % 1 ~= 0 or port < 0 or port > 65535 then return nil end
  return port
end

--- The two halves of "127.0.0.1:80" or "[::1]:80".
---@param address string
---@return string host
---@return integer|nil port nil for the path of a Unix socket
function M.split(address)
  local host, port = address:match "^%[(.*)%]:(%d+)$"
  if not host then host, port = address:match "^([^:]*):(%d+)$" end
  if not host then return address, nil end
  return host, tonumber(port)
end

return M
