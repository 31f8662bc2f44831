-- SPDX-License-Identifier: MIT
-- Listening and dialling.
--
-- Invariants: a listener's `ptr` is NULL once it is closed, and its handle is
-- freed exactly once.  What a cancelled or failed operation had opened is closed
-- by the core.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local conn = require "treadle.conn"
local names = require "treadle.names"
local option = require "treadle.option"
local park = require "treadle.park"
local time = require "treadle.time"
local value = require "treadle.value"
local C, const = library.C, library.const

local state, hold, fail, spend = park.state, park.hold, park.fail, park.spend
local misuse = errors.misuse
local adopt = conn.adopt

local EINVAL, ECLOSED, EAGAIN = const.TDL_EINVAL, const.TDL_ECLOSED, const.TDL_EAGAIN
local NO_LISTENER, NO_CONN = ffi.cast("tdl_listener *", nil), ffi.cast("tdl_conn *", nil)
local BACK_OFF = 10 * const.TDL_MILLISECOND

--- A listening socket, from treadle.listen.
---@class treadle.Listener
---@field ptr ffi.cdata* tdl_listener, NULL when closed
---@field tls treadle.TlsConfig|nil what it accepts is given this
local Listener = {}
Listener.__index = Listener
class.public(Listener, "listener")
option.mix_into(Listener, NO_LISTENER, C.tdl_listener_option, C.tdl_listener_set_option)

--- The connection that was accepted.
local function accepted(self, c)
  local tls = self.tls
  if not tls then return c end
  local rc = C.tdl_conn_set_tls(c.ptr, tls.ptr, nil, nil)
  if rc == 0 then return c end
  c:close()
  return nil, fail(rc)
end

local function failed_here(self, rc)
  if rc == EINVAL and self.ptr == NO_LISTENER and state.id ~= park.NO_TASK then rc = ECLOSED end
  return nil, fail(rc)
end

local function accept_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return accepted(self, adopt()) end
  return failed_here(self, rc)
end

--- Waits for a connection and takes it.
---@return treadle.Conn|nil conn
---@return string|nil err "closed", "cancelled", "timeout", "too many open files" (the listener can be used on), …
function Listener:accept()
  if self.seconds then C.tdl_listener_set_deadline(self.ptr, time.deadline(self.seconds)) end
  spend()
  local rc = C.tdl_listener_accept_start(state.host, state.id, self.ptr)
  if rc == 0 then return accepted(self, adopt()) end
  return accept_slow(self, rc)
end

local function acceptable(self)
  if self.seconds then C.tdl_listener_set_deadline(self.ptr, time.deadline(self.seconds)) end
  local rc = hold(C.tdl_listener_wait_start(state.host, state.id, self.ptr))
  if rc == 0 then return true end
  return failed_here(self, rc)
end

--- What select does when somebody is there; nil and nil: another goroutine was quicker.
local function take(self)
  local out = ffi.new "tdl_conn *[1]"
  local rc = C.tdl_listener_try_accept(self.ptr, out)
  if rc == 0 then return accepted(self, conn.wrap(out[0])) end
  if rc == EAGAIN then return nil end
  return failed_here(self, rc)
end

--- For treadle.select: fires when there is a connection, which is its value. When another case fires,
--- none has been taken.
---@return treadle.Op
function Listener:accept_op() return { kind = "wait", wait = acceptable, take = take, object = self } end

local function next_conn(self)
  while true do
    local c, err = self:accept()
    if c then return c end
    if err ~= "too many open files" then return nil end
    if hold(C.tdl_sleep_start(state.host, state.id, BACK_OFF)) < 0 then return nil end
  end
end

--- For a for loop: the connections, until the listener is closed, its time is up
--- or the goroutine is cancelled.  While the process is out of descriptors it
--- waits 10 ms between attempts.
---@return fun(self: treadle.Listener): treadle.Conn|nil
---@return treadle.Listener
function Listener:accepts()
  return next_conn, self
end

--- Limits every later accept.
---@param seconds number|nil nil: no limit
---@return true|nil done
---@return string|nil err "closed"
function Listener:settimeout(seconds)
  if self.ptr == NO_LISTENER then return nil, "closed" end
  if seconds ~= nil then time.nanoseconds(seconds) end
  self.seconds = seconds ~= math.huge and seconds or nil
  if not self.seconds then C.tdl_listener_set_deadline(self.ptr, 0) end
  return true
end

--- The port it listens on; 0 for a Unix socket.
---@return integer|nil port
---@return string|nil err "closed"
function Listener:port()
  if self.ptr == NO_LISTENER then return nil, "closed" end
  local port = C.tdl_listener_port(self.ptr)
  if port < 0 then return nil, fail(port) end
  return port
end

local room = 256
local buffer = ffi.new("char[?]", room)

--- The address it is bound to, "127.0.0.1:7000".
---@return string|nil address
---@return string|nil err "closed"
function Listener:address()
  if self.ptr == NO_LISTENER then return nil, "closed" end
  local n = C.tdl_listener_address(self.ptr, buffer, room)
  if n < 0 then return nil, fail(n) end
  return ffi.string(buffer)
end

--- The file descriptor, which still belongs to the listener.
---@return integer|nil fd
---@return string|nil err "closed"
function Listener:fd()
  if self.ptr == NO_LISTENER then return nil, "closed" end
  local fd = C.tdl_listener_fd(self.ptr)
  if fd < 0 then return nil, fail(fd) end
  return fd
end

--- Gives the descriptor away: it is the caller's then, and the listener is as closed.
---@return integer|nil fd
---@return string|nil err "closed", "busy" (a goroutine is in accept), "not supported" (it has TLS)
function Listener:release()
  local ptr = self.ptr
  if ptr == NO_LISTENER then return nil, "closed" end
  if self.tls then return nil, "not supported" end -- whoever takes it would accept without
  local fd = C.tdl_listener_release(ptr)
  if fd == const.TDL_EBUSY then return nil, "busy" end
  if fd < 0 then return nil, fail(fd) end
  self.ptr, self.seconds = NO_LISTENER, nil
  C.tdl_listener_free(ffi.gc(ptr, nil))
  return fd
end

--- Stops listening. Goroutines in accept, and every later call, get nil,
--- "closed". Does not wait.
---@return true|nil done
---@return string|nil err "closed" the second time
function Listener:close()
  local ptr = self.ptr
  if ptr == NO_LISTENER then return nil, "closed" end
  self.ptr, self.seconds = NO_LISTENER, nil
  C.tdl_listener_free(ffi.gc(ptr, nil))
  return true
end

function Listener:__tostring()
  if self.ptr == NO_LISTENER then return "listener (closed)" end
  return (self.tls and "listener with TLS on " or "listener on ") .. (self:address() or "?")
end

local function check_name(name, what)
  if type(name) ~= "string" then misuse(("%s must be a string, not %s"):format(what, type(name))) end
  return name
end

--- C would see such an address end early.
local function cut_short(network, address)
  return (network .. address):find("\0", 1, true) ~= nil
end

--- What an open that failed returns: nil, the text, and the text with the address.
local function failed(verb, network, address, err)
  return nil, err, ("%s %s %s: %s"):format(verb, network, address, err)
end

local M = {}

---@class treadle.ListenOptions
---@field backlog integer|nil connections that wait to be accepted; 4096 when nil
---@field reuseport boolean|nil several listeners at one address, each with its share of the connections
---@field keep_path boolean|nil the path of a Unix socket stays when the listener is closed

local function listen_options(options)
  if options == nil then return nil end
  errors.check_options(options, "listen", "backlog reuseport keep_path ")
  local backlog = options.backlog or 0
  if type(backlog) ~= "number" or backlog % 1 ~= 0 or backlog < 0 or backlog >= 2 ^ 31 then
    misuse("the backlog is a whole number, not " .. tostring(backlog))
  end
  local o = ffi.new "tdl_listen_options"
  o.size = ffi.sizeof(o)
  o.backlog = backlog
  o.flags = (options.reuseport and const.TDL_LISTEN_REUSEPORT or 0)
    + (options.keep_path and const.TDL_LISTEN_KEEP_PATH or 0)
  return o
end

--- Opens a listening socket.  Waits only where the address has a host's name, for the lookup.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"|"unixpacket"
---@param address string "127.0.0.1:7000", "[::1]:0", "a.name:80" (its first IPv4 address, or else its first), ":80" (all
---interfaces); port 0: the system picks one; a path or "@name" for unix
---@param options treadle.ListenOptions|nil
---@return treadle.Listener|nil listener
---@return string|nil err "bad address", "bad port", "unknown network", "address in use", "no such host", "too many open files", …
---@return string|nil text with an error: the same with the address, for people
function M.listen(network, address, options)
  check_name(network, "the network")
  check_name(address, "the address")
  local o = listen_options(options)
  park.need_run()
  if cut_short(network, address) then return failed("listen", network, address, errors.text[const.TDL_EADDRESS]) end
  local out = ffi.new "tdl_listener *[1]"
  local rc = C.tdl_listen_opts(network, address, o, out)
  if rc == const.TDL_EADDRESS then
    local at
    at, rc = names.numeric(network, address, rc)
    if at then rc = C.tdl_listen_opts(network, at, o, out) end
  end
  if rc < 0 then return failed("listen", network, address, fail(rc)) end
  return setmetatable({ ptr = ffi.gc(out[0], C.tdl_listener_free) }, Listener)
end

---@class treadle.DialOptions
---@field timeout number|nil seconds; nil: as long as the system tries; 0 or less: nil, "timeout" at once
---@field from string|nil the address to come from ("10.0.0.1:0": the system picks the port)
---@field fallback_delay number|nil seconds until the next of several addresses is tried beside; 0.25 when nil

local function dial_options(options)
  local o = ffi.new "tdl_dial_options"
  o.size = ffi.sizeof(o)
  if options == nil then return o end
  errors.check_options(options, "dial", "timeout from fallback_delay ")
  local seconds, delay = options.timeout, options.fallback_delay
  if seconds ~= nil then
    local ns = time.nanoseconds(seconds)
    if ns < 1 then ns = -1 end
    if seconds == math.huge then ns = 0 end
    o.timeout = ns
  end
  if delay ~= nil then o.fallback_delay = delay == math.huge and -1 or math.max(time.nanoseconds(delay), 1) end
  if options.from ~= nil then o["local"] = check_name(options.from, "the address to come from") end
  return o
end

--- Parses a list of addresses: the array and its length, or nil, the code and the bad one.
local function parse_list(network, list)
  if #list == 0 or #list > 256 then misuse "dial expects 1 to 256 addresses" end
  local addresses = ffi.new("tdl_addr[?]", #list)
  for i, address in ipairs(list) do
    local cut = cut_short(network, check_name(address, "an address"))
    local rc = cut and const.TDL_EADDRESS or C.tdl_addr_parse(addresses + (i - 1), network, address, 0)
    if rc < 0 then return nil, rc, address end
  end
  return addresses, #list
end

local function dial_list(network, list, o, from)
  local addresses, n, bad = parse_list(network, list)
  if not addresses then return failed("dial", network, bad, fail(n)) end
  local rc = hold(C.tdl_dial_list_start(state.host, state.id, network, addresses, n, o))
  if rc < 0 then return failed("dial", network, table.concat(list, ", "), fail(rc, from)) end -- o points to from
  return adopt()
end

--- Connects; waits until that has succeeded or failed.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"|"unixpacket"
---@param address string|string[] as for listen; without a host: the loopback. Of several the first that answers is
---taken: they are tried in their order, but the families alternating, the next one after a failure or a short delay
---@param options treadle.DialOptions|nil
---@return treadle.Conn|nil conn
---@return string|nil err "bad address", "bad port", "connection refused", "timeout", "cancelled", …
---@return string|nil text with an error: the same with the address, for people
function M.dial(network, address, options)
  check_name(network, "the network")
  if type(address) ~= "table" then check_name(address, "the address") end
  local from = type(options) == "table" and options.from
  local o = dial_options(options)
  if type(address) == "table" then return dial_list(network, address, o, from) end
  if cut_short(network, address) or from and from:find("\0", 1, true) then
    return failed("dial", network, address, errors.text[const.TDL_EADDRESS])
  end
  local rc = hold(C.tdl_dial_opts_start(state.host, state.id, network, address, o))
  if rc < 0 then return failed("dial", network, address, fail(rc, from)) end -- o points to from
  return adopt()
end

--- Two connections in memory, each the other's peer.  Does not wait, but works only in treadle.run.
---@param capacity integer|nil bytes that a direction holds; nil or 0: a write is over when all of it has been read
---@return treadle.Conn a
---@return treadle.Conn b
function M.pipe(capacity)
  capacity = capacity or 0
  if type(capacity) ~= "number" or capacity % 1 ~= 0 or capacity < 0 or capacity > 2 ^ 30 then
    misuse("the capacity is a number of bytes from 0 to 2^30, not " .. tostring(capacity))
  end
  park.need_run()
  local a, b = ffi.new "tdl_conn *[1]", ffi.new "tdl_conn *[1]"
  local rc = C.tdl_pipe_new(capacity, a, b)
  if rc < 0 then error("treadle: " .. fail(rc), 2) end
  return conn.wrap(a[0]), conn.wrap(b[0])
end

local function check_fd(fd)
  if type(fd) ~= "number" or fd % 1 ~= 0 or fd < 0 or fd >= 2 ^ 31 then
    misuse("a descriptor is a number, not " .. tostring(fd))
  end
  park.need_run()
  return fd
end

--- A connection of a descriptor that the program has: a connected socket, a pipe,
--- a FIFO, a terminal.  It belongs to the connection from then on.
---@param fd integer
---@return treadle.Conn|nil conn
---@return string|nil err "cannot be polled" (a regular file), "bad descriptor", "invalid argument" (another kind of socket)
function M.adopt(fd)
  local out = ffi.new "tdl_conn *[1]"
  local rc = C.tdl_conn_adopt(check_fd(fd), out)
  if rc < 0 then return nil, fail(rc) end
  return conn.wrap(out[0])
end

--- A listener of a socket that the program has, and that listens.
---@param fd integer
---@return treadle.Listener|nil listener
---@return string|nil err
function M.adopt_listener(fd)
  local out = ffi.new "tdl_listener *[1]"
  local rc = C.tdl_listener_adopt(check_fd(fd), out)
  if rc < 0 then return nil, fail(rc) end
  return setmetatable({ ptr = ffi.gc(out[0], C.tdl_listener_free) }, Listener)
end

--- One with TLS goes as a whole.
local function give_whole(val, c)
  local ptr = c.ptr
  if ptr == NO_CONN or C.tdl_conn_has_tls(ptr) == 0 then return false end
  local rc = C.tdl_val_set_conn(val, ptr)
  if rc == const.TDL_EBUSY then return nil, "busy" end
  if rc < 0 then return nil, fail(rc) end
  val.flags = value.FLAG_TLS
  c.ptr = NO_CONN
  C.tdl_conn_free(ffi.gc(ptr, nil))
  return true
end

local function take_whole(val)
  local out = ffi.new "tdl_conn *[1]"
  local rc = C.tdl_val_take_conn(val, out)
  if rc == 0 then return conn.wrap(out[0]) end
  if rc ~= EINVAL then return nil, fail(rc) end
end

value.handed[conn.Conn] = {
  flags = function() return value.FLAG_CONN end,
  release = conn.Conn.release,
  give = give_whole,
  why = { ["not supported"] = "it is a pipe in memory, of this lua_State: use a shared channel, or a socket" },
}
value.handed[Listener] = {
  flags = function() return value.FLAG_LISTENER end,
  release = Listener.release,
  why = { ["not supported"] = "it has TLS, which stays here: let each worker call treadle.tls.listen, with reuseport" },
}
value.openers[value.FLAG_CONN] = value.opener(M.adopt)
value.openers[value.FLAG_LISTENER] = value.opener(M.adopt_listener)
value.openers[value.FLAG_TLS] = take_whole

return M
