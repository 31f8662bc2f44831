-- SPDX-License-Identifier: MIT
-- Datagram sockets: UDP and Unix.
--
-- Invariants: `ptr` is NULL once the socket is closed, and its handle is freed
-- exactly once.  What an operation in progress receives into belongs to it
-- alone: it takes `spare`, if that is there, and puts it back.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local names = require "treadle.names"
local option = require "treadle.option"
local park = require "treadle.park"
local time = require "treadle.time"
local value = require "treadle.value"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse = errors.misuse
local ffi_string = ffi.string

local EINVAL, ECLOSED, ETRUNCATED = const.TDL_EINVAL, const.TDL_ECLOSED, const.TDL_ETRUNCATED
local NO_DGRAM = ffi.cast("tdl_dgram *", nil)
local NO_ADDR = ffi.cast("tdl_addr *", nil)
local LARGEST = 65536 -- no datagram of the internet is longer
local MOST = 2 ^ 30

local addr_type = ffi.typeof "tdl_addr"
local bytes_type = ffi.typeof "char[?]"
local packets_type = ffi.typeof "tdl_packet[?]"
local text = ffi.new("char[?]", 256)

--- A datagram socket, from treadle.listen_udp, dial_udp, listen_unixgram, dial_unixgram.
---@class treadle.Dgram
---@field ptr ffi.cdata* tdl_dgram, NULL when closed
---@field network string
local Dgram = {}
Dgram.__index = Dgram
class.public(Dgram, "socket")
option.mix_into(Dgram, NO_DGRAM, C.tdl_dgram_option, C.tdl_dgram_set_option)

local function failed(self, rc, _) -- _ is kept until now: what the operation pointed to
  if rc == EINVAL and self.ptr == NO_DGRAM and state.id ~= park.NO_TASK then rc = ECLOSED end
  return nil, fail(rc)
end

local function address_text(a)
  if a.length == 0 then return nil end
  C.tdl_addr_format(a, text, 256)
  return ffi_string(text)
end

--- The text of a sender's address; the same one often sends again.
local function sender(self, from)
  local last = self.last_from
  if last and from.length ~= 0 and C.tdl_addr_equal(last, from) == 1 then return self.last_text end
  self.last_from, self.last_text = addr_type(from), address_text(from)
  return self.last_text
end

local function check_max(max, what)
  if max == nil then return LARGEST end
  if type(max) ~= "number" or max % 1 ~= 0 or max < 0 or max > MOST then
    misuse(("%s expects a number of bytes from 0 to 2^30, not %s"):format(what, tostring(max)))
  end
  return max
end

local function receive(self, max, what)
  max = check_max(max, what)
  local room = self.spare
  if room and room.size >= max then
    self.spare = nil
  else
    room = { bytes = bytes_type(max), from = addr_type(), size = max }
  end
  spend()
  local rc = hold(C.tdl_dgram_recv_start(state.host, state.id, self.ptr, room.bytes, max, room.from))
  if rc >= 0 then
    local data, from = ffi_string(room.bytes, rc), sender(self, room.from)
    self.spare = room
    return data, from
  end
  if rc ~= ETRUNCATED then return failed(self, rc) end
  local data, from = ffi_string(room.bytes, max), sender(self, room.from)
  self.spare = room
  return nil, fail(rc), data, from
end

--- Receives one datagram, and who sent it.
---@param max integer|nil most bytes to take of it; 65536 when nil
---@return string|nil data "" for an empty datagram
---@return string|nil address of its sender, nil for a Unix socket without one; or the error: "truncated" (it was
---longer than max), "timeout", "closed", "cancelled", "connection refused" (nobody is at the peer's port), …
---@return string|nil partial with "truncated": the beginning
---@return string|nil from with "truncated": the sender
function Dgram:recvfrom(max)
  return receive(self, max, "recvfrom")
end

--- Receives one datagram.
---@param max integer|nil most bytes to take of it; 65536 when nil
---@return string|nil data
---@return string|nil err as for recvfrom
---@return string|nil partial with "truncated": the beginning
function Dgram:recv(max)
  local data, err, partial = receive(self, max, "recv")
  if data then return data end
  return nil, err, partial
end

--- The address to send to; the same one is often sent to again.
local function destination(self, address)
  if address == self.last_to then return self.to end
  if type(address) ~= "string" then misuse("an address is a string, not " .. type(address)) end
  local to = addr_type()
  local rc = address:find("\0", 1, true) and const.TDL_EADDRESS or C.tdl_addr_parse(to, self.network, address, 0)
  if rc == const.TDL_EADDRESS then
    local at
    at, rc = names.numeric(self.network, address, rc)
    if at then rc = C.tdl_addr_parse(to, self.network, at, 0) end
  end
  if rc < 0 then return nil, rc end
  self.last_to, self.to = address, to
  return to
end

local function send(self, data, to)
  if type(data) == "number" then data = tostring(data) end
  if type(data) ~= "string" then misuse("a datagram is a string, not " .. type(data)) end
  spend()
  local rc = hold(C.tdl_dgram_send_start(state.host, state.id, self.ptr, data, #data, to))
  if rc >= 0 then return rc end
  return failed(self, rc)
end

--- Sends one datagram to an address.
---@param data string
---@param address string "127.0.0.1:7000", "a.name:80" (looked up again when another address came between), a path, "@name"
---@return integer|nil n number of bytes
---@return string|nil err "message too long", "bad address", "timeout", "closed", "cancelled", …
---@return string|nil text the same with the address
function Dgram:sendto(data, address)
  local to, rc = destination(self, address)
  local n, err
  if to then
    n, err = send(self, data, to)
    if n then return n end
  else
    err = fail(rc)
  end
  return nil, err, ("sendto %s: %s"):format(tostring(address), err)
end

--- Sends one datagram to whom the socket was dialled.
---@param data string
---@return integer|nil n number of bytes
---@return string|nil err "no destination" (not dialled), else as for sendto
function Dgram:send(data)
  return send(self, data, NO_ADDR)
end

--- Receives what is there, waiting for the first datagram: one system call for many.
---@param count integer most datagrams
---@param max integer|nil most bytes of each; 2048 when nil. What is longer is cut, and its length then max
---@return string[]|nil data
---@return string[]|string addresses of the senders ("" for none); or the error
function Dgram:recvmany(count, max)
  if type(count) ~= "number" or count % 1 ~= 0 or count < 1 or count > 1024 then
    misuse("recvmany expects a number of datagrams from 1 to 1024, not " .. tostring(count))
  end
  max = max == nil and 2048 or check_max(max, "recvmany")
  local packets, bytes, from = packets_type(count), bytes_type(math.max(count * max, 1)), ffi.new("tdl_addr[?]", count)
  for i = 0, count - 1 do
    local p = packets[i]
    p.data, p.size, p.addr = bytes + i * max, max, from + i
  end
  local rc = hold(C.tdl_dgram_recv_batch_start(state.host, state.id, self.ptr, packets, count))
  if rc < 0 then return failed(self, rc) end
  local data, addresses = {}, {}
  for i = 0, rc - 1 do
    data[i + 1] = ffi_string(bytes + i * max, packets[i].n)
    addresses[i + 1] = sender(self, from[i]) or ""
  end
  return data, addresses
end

--- Sends several datagrams, in as few system calls as will do.
---@param data string[]
---@param address string|nil to whom all of them go; nil: to whom the socket was dialled
---@return integer|nil n how many went out; fewer than there are where the next one fails
---@return string|nil err of the first
function Dgram:sendmany(data, address)
  if type(data) ~= "table" or #data == 0 then misuse "sendmany expects a table of strings" end
  local to, code = NO_ADDR, 0
  if address ~= nil then to, code = destination(self, address) end
  if not to then return nil, fail(code) end
  local packets, strings = packets_type(#data), { to }
  for i = 1, #data do
    if type(data[i]) ~= "string" then misuse("sendmany expects strings, got " .. type(data[i])) end
    strings[i + 1] = data[i]
    local p = packets[i - 1]
    p.data, p.size, p.addr = ffi.cast("void *", ffi.cast("const char *", data[i])), #data[i], to
  end
  local rc = hold(C.tdl_dgram_send_batch_start(state.host, state.id, self.ptr, packets, #data))
  if rc < 0 then return failed(self, rc, strings) end
  return rc
end

--- Limits every later operation on its own; those in progress are not changed.
---@param seconds number|nil nil or math.huge: no limit; 0: the time is over when it begins, so it times out
---@return true|nil done
---@return string|nil err "closed"
function Dgram:settimeout(seconds)
  if self.ptr == NO_DGRAM then return nil, "closed" end
  C.tdl_dgram_set_timeout(self.ptr, time.limit(seconds))
  return true
end

local function ask(self, get)
  if self.ptr == NO_DGRAM then return nil, "closed" end
  local a = addr_type()
  local rc = get(self.ptr, a)
  if rc < 0 then return nil, fail(rc) end
  return address_text(a), nil, a
end

--- The address it receives at, "127.0.0.1:7000".
---@return string|nil address
---@return string|nil err "closed"
function Dgram:address()
  local address, err = ask(self, C.tdl_dgram_sockaddr)
  return address, err
end

--- The address it was dialled to.
---@return string|nil address
---@return string|nil err "closed", "not connected"
function Dgram:peername()
  local address, err = ask(self, C.tdl_dgram_peeraddr)
  return address, err
end

--- The port it receives at; 0 for a Unix socket.
---@return integer|nil port
---@return string|nil err "closed"
function Dgram:port()
  local _, err, a = ask(self, C.tdl_dgram_sockaddr)
  if not a then return nil, err end
  return C.tdl_addr_port(a)
end

--- The file descriptor, which still belongs to the socket.
---@return integer|nil fd
---@return string|nil err "closed"
function Dgram:fd()
  if self.ptr == NO_DGRAM then return nil, "closed" end
  local fd = C.tdl_dgram_fd(self.ptr)
  if fd < 0 then return nil, fail(fd) end
  return fd
end

--- Closes the socket. Goroutines that wait on it, and every later call, get nil,
--- "closed". Does not wait.
---@return true|nil done
---@return string|nil err "closed" the second time
function Dgram:close()
  local ptr = self.ptr
  if ptr == NO_DGRAM then return nil, "closed" end
  self.ptr = NO_DGRAM
  C.tdl_dgram_free(ffi.gc(ptr, nil))
  return true
end

--- Gives the descriptor away: it is the caller's then, and the socket is as closed.
---@return integer|nil fd
---@return string|nil err "closed", "busy" (a goroutine is in one of its calls)
function Dgram:release()
  local ptr = self.ptr
  if ptr == NO_DGRAM then return nil, "closed" end
  local fd = C.tdl_dgram_release(ptr)
  if fd == const.TDL_EBUSY then return nil, "busy" end
  if fd < 0 then return nil, fail(fd) end
  self.ptr = NO_DGRAM
  C.tdl_dgram_free(ffi.gc(ptr, nil))
  return fd
end

function Dgram:__tostring()
  if self.ptr == NO_DGRAM then return "datagram socket (closed)" end
  return "datagram socket " .. (self:address() or "(nameless)")
end

local M = {}

local function check_name(name)
  if type(name) ~= "string" then misuse("an address is a string, not " .. type(name)) end
  return name
end

local function made(verb, network, address, rc, out)
  if rc < 0 then
    local err = fail(rc)
    return nil, err, ("%s %s %s: %s"):format(verb, network, address, err)
  end
  return setmetatable({ ptr = ffi.gc(out[0], C.tdl_dgram_free), network = network }, Dgram)
end

local function listen(network, address)
  park.need_run()
  local out = ffi.new "tdl_dgram *[1]"
  local cut = check_name(address):find("\0", 1, true)
  local rc = cut and const.TDL_EADDRESS or C.tdl_dgram_listen(network, address, out)
  if rc == const.TDL_EADDRESS then
    local at
    at, rc = names.numeric(network, address, rc)
    if at then rc = C.tdl_dgram_listen(network, at, out) end
  end
  return made("listen", network, address, rc, out)
end

local function dial(network, address, from)
  park.need_run()
  local out = ffi.new "tdl_dgram *[1]"
  local cut = (check_name(address) .. (from and check_name(from) or "")):find("\0", 1, true)
  local rc = cut and const.TDL_EADDRESS or C.tdl_dgram_dial(network, address, from, out)
  if rc == const.TDL_EADDRESS then
    local at
    at, rc = names.numeric(network, address, rc)
    if at then rc = C.tdl_dgram_dial(network, at, from, out) end
  end
  return made("dial", network, address, rc, out)
end

--- A UDP socket that receives at an address. Waits only where the address has a host's name, for the lookup.
---@param address string "127.0.0.1:7000", "[::1]:0", "a.name:80", ":80" (all interfaces); port 0: the system picks one
---@return treadle.Dgram|nil socket
---@return string|nil err "bad address", "bad port", "address in use", …
---@return string|nil text with an error: the same with the address, for people
function M.listen_udp(address) return listen("udp", address) end

--- A UDP socket that sends to an address, and receives from there alone. Waits for the lookup of a name only.
---@param address string
---@param from string|nil the address to send from
---@return treadle.Dgram|nil socket
---@return string|nil err
---@return string|nil text
function M.dial_udp(address, from) return dial("udp", address, from) end

--- A Unix datagram socket at a path, which goes with it, or "@name"; "@": the system picks a name.
---@param address string
---@return treadle.Dgram|nil socket
---@return string|nil err
---@return string|nil text
function M.listen_unixgram(address) return listen("unixgram", address) end

--- A Unix datagram socket that sends to a path or "@name".
---@param address string
---@param from string|nil its own address ("@": any), without which nobody can answer
---@return treadle.Dgram|nil socket
---@return string|nil err
---@return string|nil text
function M.dial_unixgram(address, from) return dial("unixgram", address, from) end

local function opener(network)
  return value.opener(function(fd)
    local out = ffi.new "tdl_dgram *[1]"
    local rc = C.tdl_dgram_adopt(fd, out)
    if rc < 0 then return nil, fail(rc) end
    return setmetatable({ ptr = ffi.gc(out[0], C.tdl_dgram_free), network = network }, Dgram)
  end)
end

value.handed[Dgram] = {
  flags = function(socket) return socket.network == "unixgram" and value.FLAG_UNIXGRAM or value.FLAG_UDP end,
  release = Dgram.release,
}
value.openers[value.FLAG_UDP], value.openers[value.FLAG_UNIXGRAM] = opener "udp", opener "unixgram"

return M
