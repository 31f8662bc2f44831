-- SPDX-License-Identifier: MIT
-- Servers: connections are parked in the core between requests, without a coroutine
-- or a buffer; a goroutine serves each request and ends with it.
--
-- Invariants: the server has its listeners' handles; `ptr` is NULL once it is
-- closed, and is freed exactly once.  A connection belongs to the goroutine
-- that serves its request: when the handler has returned, its Conn is closed,
-- and the core parks the connection or gives it up.  `handlers` has the goroutines
-- that serve, until each has ended.

local ffi = require "ffi"
local library = require "treadle.library"
local conn = require "treadle.conn"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local scope = require "treadle.scope"
local sync = require "treadle.sync"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local NO_SERVER = ffi.cast("tdl_server *", nil)
local NO_LISTENER = ffi.cast("tdl_listener *", nil)
local NO_CONN = ffi.cast("tdl_conn *", nil)

--- A server, from treadle.serve.
---@class treadle.Server
---@field ptr ffi.cdata* tdl_server, NULL when closed
---@field loop treadle.Task hands the connections out
---@field handlers treadle.Handlers
local Server = {}
Server.__index = Server
class.public(Server, "server")

--- The goroutines that serve, as their owner.
---@class treadle.Handlers
---@field tasks table<treadle.Task, true>
---@field wg treadle.WaitGroup counts them
local Handlers = {}
Handlers.__index = Handlers

function Handlers:ended(t)
  self.tasks[t] = nil
  self.wg:done()
end

--- Cancels them, but not the caller.
function Handlers:cancel()
  local me = park.running_task()
  for t in pairs(self.tasks) do
    if t ~= me then t:cancel() end
  end
end

local function give_back(c)
  local ptr = c.ptr
  if ptr == NO_CONN then return end -- the handler has closed it
  c.ptr = NO_CONN
  C.tdl_server_park(ffi.gc(ptr, nil))
end

--- One request: an error closes the connection, and is told as any goroutine's.
local function serve_one(c, handler)
  local ok, err = pcall(handler, c)
  if ok then return give_back(c) end
  c:close()
  error(err, 0)
end

local function hand_out(self, handler, tls)
  while self.ptr ~= NO_SERVER do
    local rc = hold(C.tdl_server_next_start(state.host, state.id, self.ptr, const.TDL_FOREVER))
    if rc < 0 then return end -- closed, or cancelled
    local c = conn.adopt()
    if tls and C.tdl_conn_has_tls(c.ptr) == 0 and C.tdl_conn_set_tls(c.ptr, tls.ptr, nil, nil) < 0 then
      c:close() -- no memory
    else
      local handlers = self.handlers
      handlers.wg:add(1)
      handlers.tasks[task.spawn(handlers, serve_one, 2, c, handler)] = true
    end
  end
end

---@class treadle.ServeOptions
---@field idle_timeout number|nil seconds that a connection may be parked; nil: for ever
---@field max_conns integer|nil connections at a time; more wait in the backlog; nil: any number

local function serve_options(options)
  local o = ffi.new "tdl_server_options"
  o.size = ffi.sizeof(o)
  if options == nil then return o end
  errors.check_options(options, "serve", "idle_timeout max_conns ")
  local idle, most = options.idle_timeout, options.max_conns or 0
  if idle ~= nil and idle ~= math.huge then
    local ns = time.nanoseconds(idle)
    if ns < 1 then misuse "the idle timeout must be positive" end
    o.idle_timeout = ns
  end
  if type(most) ~= "number" or most % 1 ~= 0 or most < 0 or most >= 2 ^ 32 then
    misuse("the number of connections is a whole number, not " .. tostring(most))
  end
  o.max_conns = most
  return o
end

--- The handles of the listeners; misuse for what is none.
local function handles(listeners)
  if type(listeners) == "table" and type(listeners.ptr) == "cdata" then listeners = { listeners } end
  if type(listeners) ~= "table" or #listeners < 1 or #listeners > 1024 then misuse "serve expects a listener" end
  local list = ffi.new("tdl_listener *[?]", #listeners)
  for i, l in ipairs(listeners) do
    if type(l) ~= "table" or not ffi.istype("tdl_listener *", l.ptr) then misuse "serve expects a listener" end
    list[i - 1] = l.ptr
    if l.tls ~= listeners[1].tls then misuse "the listeners of a server have the same TLS, or none" end
  end
  return list, listeners
end

local M = {}

--- Serves a listener, or several: for each request of each connection, when its
--- first byte has arrived, handler(conn) is called in a goroutine of its own.  When it
--- returns, the connection is parked until the next request; it may close it.
--- Between requests a connection takes fewer than 300 bytes.  The listeners are the server's
--- from then on.  Does not wait, but works only in treadle.run.
---@param listeners treadle.Listener|treadle.Listener[]
---@param handler fun(conn: treadle.Conn)
---@param options treadle.ServeOptions|nil
---@return treadle.Server|nil server
---@return string|nil err "closed" (a listener is), "busy"
function M.serve(listeners, handler, options)
  local list, all = handles(listeners)
  if type(handler) ~= "function" then misuse("serve expects a handler, got " .. type(handler)) end
  local o = serve_options(options)
  park.need_run()
  for _, l in ipairs(all) do
    if l.ptr == NO_LISTENER then return nil, "closed" end
  end
  local out = ffi.new "tdl_server *[1]"
  local rc = C.tdl_server_new(list, #all, o, out)
  if rc == const.TDL_EBUSY then return nil, "busy" end
  if rc < 0 then return nil, fail(rc) end
  for _, l in ipairs(all) do
    ffi.gc(l.ptr, nil)
    l.ptr, l.seconds = NO_LISTENER, nil
  end
  local handlers = setmetatable({ tasks = {}, wg = sync.waitgroup() }, Handlers)
  local self = setmetatable({ ptr = ffi.gc(out[0], C.tdl_server_free), handlers = handlers }, Server)
  self.loop = task.spawn(nil, hand_out, 3, self, handler, all[1].tls)
  return self
end

--- Until every connection is closed and every handler has returned.
local function drain(self)
  local rc = hold(C.tdl_server_shutdown_start(state.host, state.id, self.ptr, const.TDL_FOREVER))
  if rc < 0 then return nil, fail(rc) end
  return self.handlers.wg:wait()
end

--- Closes the listeners and the parked connections, and waits until every request
--- that is being served is done.  When the time is up the handlers' goroutines are
--- cancelled, whatever they wait in, and their connections closed; another shutdown
--- waits until they have ended.
---@param seconds number|nil nil: no limit
---@return true|nil done
---@return string|nil err "timeout" (some were cancelled), "cancelled" (the others are still served), "closed"
function Server:shutdown(seconds)
  if self.ptr == NO_SERVER then return nil, "closed" end
  if seconds == nil or seconds == math.huge then return drain(self) end
  local done, err = scope.timeout(seconds, drain, self)
  if err == "timeout" and self.ptr ~= NO_SERVER then
    self.handlers:cancel() -- first, so that this is what they are told
    C.tdl_server_close(self.ptr)
  end
  return done, err
end

--- The same at once: every connection is closed, the other handlers are cancelled,
--- nothing is waited for.
---@return true|nil done
---@return string|nil err "closed" the second time
function Server:close()
  local ptr = self.ptr
  if ptr == NO_SERVER then return nil, "closed" end
  self.ptr = NO_SERVER
  if state.running then self.handlers:cancel() end
  C.tdl_server_close(ptr) -- the loop's wait ends with it
  C.tdl_server_free(ffi.gc(ptr, nil))
  return true
end

local STATS = { "conns", "busy", "accepted", "timeouts", "starved" }

---@class treadle.ServerStats
---@field conns integer connections there are
---@field busy integer of these: those that are being served
---@field accepted integer ever
---@field timeouts integer closed because they were idle
---@field starved integer how often there was no descriptor, or memory, for one

--- What it has done, and is at.
---@return treadle.ServerStats|nil stats
---@return string|nil err "closed"
function Server:stats()
  if self.ptr == NO_SERVER then return nil, "closed" end
  local out = {}
  for i, name in ipairs(STATS) do out[name] = tonumber(C.tdl_server_stat(self.ptr, i - 1)) end
  return out
end

function Server:__tostring()
  if self.ptr == NO_SERVER then return "server (closed)" end
  return ("server of %d connections"):format(tonumber(C.tdl_server_stat(self.ptr, 0)))
end

return M
