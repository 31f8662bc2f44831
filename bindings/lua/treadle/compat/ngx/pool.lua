-- SPDX-License-Identifier: MIT
-- Pools of idle connections, as cosockets keep them: by name, of a limited size,
-- the one that was idle longest goes first; with a backlog also the number of
-- connections in use is limited, and who wants another one waits.
--
-- Each idle connection has a watcher, a goroutine that waits for what must not come: the end,
-- an error, bytes that nobody asked for, or the end of its time.  Then it leaves the pool and is closed.
--
-- Invariants: a connection in a pool belongs to nobody else, and nothing is
-- buffered in it.  Whoever takes an entry off its list owns it: the watcher, or one that first
-- cancels the watcher and waits until it has let go.  Pools are those of one run: the core
-- closes their connections at its end.  `permits`, of a pool with a backlog, counts those that
-- are not in use; each connection that was taken gives one back.

local ffi = require "ffi"
local library = require "treadle.library"
local common = require "treadle.compat.common"
local park = require "treadle.park"
local sync = require "treadle.sync"
local task = require "treadle.task"

pcall(ffi.cdef, [[ssize_t tdl_compat_recv(int fd, void *buffer, size_t n, int flags) __asm__("recv");]])

local C, const = library.C, library.const

local state = park.state
local MSG_PEEK_DONTWAIT = 0x42 -- MSG_PEEK | MSG_DONTWAIT
local EAGAIN = 11
local DEFAULT_SIZE = 30

---@class treadle.ngx.Idle
---@field conn treadle.Conn
---@field reused integer
---@field watcher treadle.Task
---@field free boolean|nil the watcher has let go of it

---@class treadle.ngx.Pool
---@field name string
---@field size integer idle connections at most
---@field idle treadle.ngx.Idle[] the last one is the youngest
---@field permits treadle.Semaphore|nil
---@field backlog integer|nil
---@field waiting integer
local Pool = {}
Pool.__index = Pool

local pools, run = {}, -1

local byte = ffi.new "char[1]"

--- Whether an idle connection is still what it was: open, and nothing came.
local function sound(conn)
  local unread = C.tdl_conn_tls_number(conn.ptr, const.TDL_TLS_UNREAD)
  if unread ~= const.TDL_EINVAL then return unread == 0 end -- it has TLS
  local fd = conn:fd()
  return fd ~= nil and ffi.C.tdl_compat_recv(fd, byte, 1, MSG_PEEK_DONTWAIT) < 0 and ffi.errno() == EAGAIN
end

local M = { sound = sound }

local function all()
  if run ~= state.runs then
    pools, run = {}, state.runs
  end
  return pools
end

--- The pool of that name, made with these limits when it is new.
---@param name string
---@param size integer|nil
---@param backlog integer|nil
---@return treadle.ngx.Pool
function M.get(name, size, backlog)
  local known = all()
  local pool = known[name]
  if not pool then
    pool = setmetatable({ name = name, size = size or DEFAULT_SIZE, idle = {}, waiting = 0 }, Pool)
    if backlog then
      pool.backlog, pool.permits = backlog, sync.semaphore(pool.size)
    end
    known[name] = pool
  end
  return pool
end

--- The pool of that name, if there is one.
---@param name string
---@return treadle.ngx.Pool|nil
function M.find(name) return all()[name] end

--- Asks for the right to have one more connection, where that is limited.
---@param timeout number|nil seconds
---@return true|nil granted
---@return string|nil err "too many waiting connect operations", "timeout"
function Pool:enter(timeout)
  local permits = self.permits
  if not permits or permits:try_acquire() then return true end
  if self.waiting >= self.backlog then return nil, "too many waiting connect operations" end
  self.waiting = self.waiting + 1
  local ok, err = permits:acquire(1, timeout)
  self.waiting = self.waiting - 1
  if ok then return true end
  return nil, common.text(err)
end

--- Gives it back.
function Pool:leave()
  if self.permits then self.permits:release() end
end

--- The idle connection that was used last, if one is fit.
---@return treadle.Conn|nil
---@return integer reused how often it has been
function Pool:take()
  local idle = self.idle
  while #idle > 0 do
    local entry = table.remove(idle)
    entry.watcher:cancel()
    entry.watcher:join()
    if entry.free and sound(entry.conn) then return entry.conn, entry.reused end
    entry.conn:close()
  end
  return nil, 0
end

--- What a watcher does.
local function watch(pool, entry)
  local _, err = entry.conn:peek(1)
  local idle = pool.idle
  for i = 1, #idle do
    if idle[i] == entry then
      if err == "cancelled" then return end -- the end of the run
      table.remove(idle, i)
      entry.conn:close()
      return
    end
  end
  entry.free = err == "cancelled"
end

--- Keeps a connection for the next one who asks.
---@param conn treadle.Conn
---@param reused integer
---@param timeout number seconds; math.huge: for ever
function Pool:put(conn, reused, timeout)
  local idle = self.idle
  if #idle >= self.size then table.remove(idle, 1).conn:close() end
  conn:settimeout(timeout)
  local entry = { conn = conn, reused = reused }
  idle[#idle + 1] = entry
  entry.watcher = task.spawn(nil, watch, 2, self, entry)
  entry.watcher:set_name "idle connection"
end

--- How many connections lie idle.
---@return integer
function Pool:count() return #self.idle end

return M
