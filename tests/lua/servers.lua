-- Real servers for the specs: each a process of its own on loopback or a Unix
-- socket, in a directory of its own, and gone afterwards.
local ffi = require "ffi"
local helper = require "helper"

ffi.cdef [[
int kill(int pid, int signal);
char *mkdtemp(char *template);
]]

local M = {}

--- Debian's Lua libraries for OpenResty, unpacked by ./dev.
M.clients = helper.root .. "/.dev/lua-clients/usr/share/lua/5.1"

--- Makes the unpacked libraries findable. False where they are not there.
---@return boolean
function M.have_clients()
  local file = io.open(M.clients .. "/nginx/redis.lua")
  if not file then return false end
  file:close()
  if not package.path:find(M.clients, 1, true) then package.path = M.clients .. "/?.lua;" .. package.path end
  return true
end

---@param program string
---@return boolean
function M.installed(program)
  local _, status = helper.shell("command -v " .. program)
  return status == 0
end

local function directory()
  local template = ffi.new("char[64]", "/tmp/treadle-spec-XXXXXX")
  assert(ffi.C.mkdtemp(template) ~= nil)
  return ffi.string(template)
end

---@class spec.Server
---@field path string its Unix socket
---@field port integer|nil
local Server = {}
Server.__index = Server

--- Ends the process and removes its directory.
function Server:stop()
  ffi.C.kill(self.pid, 9)
  helper.shell("rm -rf " .. self.directory)
end

local function wait_for(path, log)
  for _ = 1, 400 do
    local _, status = helper.shell("test -S " .. path)
    if status == 0 then return end
    helper.shell "sleep 0.05"
  end
  error("the server did not start: " .. (helper.shell("cat " .. log)))
end

local function start(command)
  local self = setmetatable({ directory = directory() }, Server)
  self.path = self.directory .. "/socket"
  local log = self.directory .. "/log"
  local pipe = assert(io.popen(("%s >%s 2>&1 </dev/null & echo $!"):format(command:gsub("SOCKET", self.path), log)))
  self.pid = tonumber(pipe:read "*l")
  pipe:close()
  wait_for(self.path, log)
  return self
end

--- A Redis on a Unix socket.
---@return spec.Server
function M.redis()
  return start "redis-server --port 0 --unixsocket SOCKET --save '' --appendonly no"
end

--- A Redis on a Unix socket, and with TLS on a port.
---@param certs string the folder of the certificates
---@param port integer that is free
---@return spec.Server
function M.redis_tls(certs, port)
  return start(("redis-server --port 0 --unixsocket SOCKET --save '' --appendonly no --tls-port %d --tls-cert-file %s/server.pem "
    .. "--tls-key-file %s/server.key --tls-ca-cert-file %s/ca.pem --tls-auth-clients no"):format(port, certs, certs, certs))
end

--- The certificates of the tests of TLS, in a folder of their own: its path.
---@return string
function M.certs()
  local place = directory()
  local out, status = helper.shell(("sh %s/tests/tls/certs.sh %s"):format(helper.root, place))
  if status ~= 0 then error("no certificates: " .. out) end
  return place
end

--- A Memcached on a Unix socket.
---@return spec.Server
function M.memcached()
  return start "memcached -u root -s SOCKET -a 0777"
end

return M
