-- SPDX-License-Identifier: MIT
-- Listening and dialling.
--
-- Invariants: a listener's `ptr` is NULL once it is closed, and its handle is
-- freed exactly once.  What a cancelled or failed operation had opened is closed
-- by the core.

local ffi = require "ffi"
local library = require "treadle.library"
local errors = require "treadle.errors"
local conn = require "treadle.conn"
local park = require "treadle.park"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local adopt = conn.adopt

local EINVAL, ECLOSED = const.TDL_EINVAL, const.TDL_ECLOSED
local NO_LISTENER = ffi.cast("tdl_listener *", nil)
local BACK_OFF = 10 * const.TDL_MILLISECOND

--- A listening socket, from treadle.listen.
---@class treadle.Listener
---@field ptr ffi.cdata* tdl_listener, NULL when closed
local Listener = {}
Listener.__index = Listener

local function accept_slow(self, rc)
  rc = hold(rc)
  if rc == 0 then return adopt() end
  if rc == EINVAL and self.ptr == NO_LISTENER and state.id ~= park.NO_TASK then rc = ECLOSED end
  return nil, fail(rc)
end

--- Waits for a connection and takes it.
---@return treadle.Conn|nil conn
---@return string|nil err "closed", "cancelled", "timeout", "too many open files" (the listener can be used on), …
function Listener:accept()
  if self.seconds then C.tdl_listener_set_deadline(self.ptr, time.deadline(self.seconds)) end
  local rc = C.tdl_listener_accept_start(state.host, state.id, self.ptr)
  if rc == 0 then return adopt() end
  return accept_slow(self, rc)
end

local function next_conn(self)
  while true do
    local accepted, err = self:accept()
    if accepted then return accepted end
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

local function check_name(value, what)
  if type(value) ~= "string" then misuse(("%s must be a string, not %s"):format(what, type(value))) end
  return value
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

--- Opens a listening socket.  Does not wait, but works only in treadle.run.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"
---@param address string "127.0.0.1:7000", "[::1]:0", ":80" (all interfaces); port 0: the system picks one; a path or "@name" for unix
---@return treadle.Listener|nil listener
---@return string|nil err "bad address", "bad port", "unknown network", "address in use", "too many open files", …
---@return string|nil text with an error: the same with the address, for people
function M.listen(network, address)
  check_name(network, "the network")
  check_name(address, "the address")
  park.need_run()
  if cut_short(network, address) then return failed("listen", network, address, errors.text[const.TDL_EADDRESS]) end
  local out = ffi.new "tdl_listener *[1]"
  local rc = C.tdl_listen(network, address, out)
  if rc < 0 then return failed("listen", network, address, fail(rc)) end
  return setmetatable({ ptr = ffi.gc(out[0], C.tdl_listener_free) }, Listener)
end

---@class treadle.DialOptions
---@field timeout number|nil seconds; nil: as long as the system tries; 0 or less: nil, "timeout" at once

--- Connects; waits until that has succeeded or failed.
---@param network "tcp"|"tcp4"|"tcp6"|"unix"
---@param address string as for listen; without a host: the loopback
---@param options treadle.DialOptions|nil
---@return treadle.Conn|nil conn
---@return string|nil err "bad address", "bad port", "connection refused", "timeout", "cancelled", …
---@return string|nil text with an error: the same with the address, for people
function M.dial(network, address, options)
  check_name(network, "the network")
  check_name(address, "the address")
  if options ~= nil and type(options) ~= "table" then misuse "dial expects a table of options" end
  local ns, seconds = 0, options and options.timeout
  if seconds ~= nil then
    ns = time.nanoseconds(seconds)
    if ns < 1 then ns = -1 end
    if seconds == math.huge then ns = 0 end
  end
  if cut_short(network, address) then return failed("dial", network, address, errors.text[const.TDL_EADDRESS]) end
  local rc = hold(C.tdl_dial_start(state.host, state.id, network, address, ns))
  if rc < 0 then return failed("dial", network, address, fail(rc)) end
  return adopt()
end

return M
