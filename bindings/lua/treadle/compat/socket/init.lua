-- SPDX-License-Identifier: MIT
-- LuaSocket, on treadle: what waits lets other goroutines run.
--
--     local socket = require "treadle.compat.socket"
--     socket.install()                    -- require "socket", "socket.http", … are on treadle from now on
--
-- This is LuaSocket's C part ("socket.core"), and connect and bind. The modules in
-- Lua that come with LuaSocket (http, ftp, smtp, ltn12) are its own, and run on top.
-- The sockets work in goroutines only.

local clock = require "treadle.compat.ngx.clock"
local common = require "treadle.compat.common"
local goroutine = require "treadle.goroutine"
local protect = require "treadle.protect"
local tcp = require "treadle.compat.socket.tcp"
local udp = require "treadle.compat.socket.udp"
local wait = require "treadle.compat.socket.wait"

local M = {
  _VERSION = "LuaSocket 3.0.0",
  _DEBUG = false,
  _SETSIZE = math.huge,
  _SOCKETINVALID = -1,
  BLOCKSIZE = 2048,
  select = wait,
  protect = protect.protect,
  newtry = protect.newtry,
}
M.try = M.newtry()

--- A stream socket, of IPv4 or IPv6 as its address will be.
---@return treadle.socket.Tcp
function M.tcp() return tcp.new "tcp" end

--- One of IPv4.
---@return treadle.socket.Tcp
function M.tcp4() return tcp.new "tcp4" end

--- One of IPv6.
---@return treadle.socket.Tcp
function M.tcp6() return tcp.new "tcp6" end

--- A datagram socket.
---@return treadle.socket.Udp
function M.udp() return udp.new(false) end
M.udp4 = M.udp

--- One of IPv6.
---@return treadle.socket.Udp
function M.udp6() return udp.new(true) end

--- Seconds since 1970.
---@return number
function M.gettime() return clock.now() end

--- Waits.
---@param seconds number
function M.sleep(seconds)
  local ok, err = goroutine.sleep(seconds)
  if not ok then common.text(err) end
end

--- All arguments but the first n.
---@param n integer
---@param ... any
---@return any ...
function M.skip(n, ...) return select(n + 1, ...) end

--- A connected socket.
---@param host string
---@param port integer|string
---@param from_host string|nil
---@param from_port integer|string|nil
---@param family "inet"|"inet6"|nil
---@return treadle.socket.Tcp|nil socket
---@return string|nil err
function M.connect(host, port, from_host, from_port, family)
  local socket = tcp.new(family == "inet" and "tcp4" or family == "inet6" and "tcp6" or "tcp")
  if from_host then socket.from = common.join(from_host, from_port or 0) end
  local ok, err = socket:connect(host, port)
  if ok then return socket end
  return nil, err
end

--- The same by IPv4.
---@param host string
---@param port integer|string
---@param from_host string|nil
---@param from_port integer|string|nil
---@return treadle.socket.Tcp|nil socket
---@return string|nil err
function M.connect4(host, port, from_host, from_port) return M.connect(host, port, from_host, from_port, "inet") end

--- The same by IPv6.
---@param host string
---@param port integer|string
---@param from_host string|nil
---@param from_port integer|string|nil
---@return treadle.socket.Tcp|nil socket
---@return string|nil err
function M.connect6(host, port, from_host, from_port) return M.connect(host, port, from_host, from_port, "inet6") end

--- A socket that listens.
---@param host string
---@param port integer|string
---@return treadle.socket.Tcp|nil socket
---@return string|nil err
function M.bind(host, port)
  local socket = tcp.new "tcp"
  local ok, err = socket:bind(host, port)
  if ok then return socket end
  return nil, err
end

M.dns = {}

--- The name of this machine.
function M.dns.gethostname()
  local file = io.open "/proc/sys/kernel/hostname"
  local name = file and file:read "*l"
  if file then file:close() end
  return name
end

--- Addresses of a name, as { family, addr }.
function M.dns.getaddrinfo(host)
  if host == "*" then host = "0.0.0.0" end
  if host == "localhost" then return { { family = "inet", addr = "127.0.0.1" } } end
  local found, err = common.resolve(host, 0)
  if not found then return nil, err end
  local list = {}
  for i, address in ipairs(type(found) == "table" and found or { found }) do
    local addr = common.split(address)
    list[i] = { family = addr:find(":", 1, true) and "inet6" or "inet", addr = addr }
  end
  return list
end

--- The first IPv4 address of a name.
function M.dns.toip(host)
  local found, err = M.dns.getaddrinfo(host)
  if not found then return nil, err end
  local ips = {}
  for _, one in ipairs(found) do
    if one.family == "inet" then ips[#ips + 1] = one.addr end
  end
  if #ips == 0 then return nil, "host not found" end
  return ips[1], { name = host, alias = {}, ip = ips }
end

function M.dns.tohostname() return nil, "host not found" end

local function unix_socket() return tcp.new "unix" end

--- From now on `require "socket"` and the modules on top of it are on treadle. To
--- be called before any of them is loaded: those that are, are loaded again.
---@return table socket
function M.install()
  for name in pairs(package.loaded) do
    if name == "socket" or name == "ltn12" or name:find "^socket%." then package.loaded[name] = nil end
  end
  package.loaded["socket.core"] = M
  package.loaded["socket.unix"] = setmetatable({ stream = unix_socket, tcp = unix_socket }, { __call = unix_socket })
  if not pcall(require, "socket") then package.loaded.socket = M end -- LuaSocket's own Lua part adds to M
  return M
end

return M
