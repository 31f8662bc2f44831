-- SPDX-License-Identifier: MIT
-- Workers: other lua_States on threads of their own, each with its own run.
--
-- Everything is done from here: the new state is made and loaded with a small
-- program on this thread, and the core, which knows no Lua, is handed lua_pcall
-- and lua_close to call on the new one.
--
-- What passes between the states are values of shared channels (value.lua): first
-- the function and its arguments, at the end the results; a closed channel means
-- that the worker is to end.
--
-- A worker is a goroutine here, its keeper, that waits for its end and then
-- returns its results or raises its error: so joining, selecting, cancelling and
-- the end of the run work as with any goroutine.
--
-- Invariant: the keeper does not end before the worker's thread has closed its
-- state, even when it was cancelled.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local shared = require "treadle.shared"
local task = require "treadle.task"
local value = require "treadle.value"
local C, const = library.C, library.const

pcall(ffi.cdef, [[
void *tdl_lua_newstate(void) __asm__("luaL_newstate");
void tdl_lua_openlibs(void *L) __asm__("luaL_openlibs");
int tdl_lua_loadbuffer(void *L, const char *text, size_t n, const char *name) __asm__("luaL_loadbuffer");
void tdl_lua_pushlstring(void *L, const char *text, size_t n) __asm__("lua_pushlstring");
void tdl_lua_pushnumber(void *L, double n) __asm__("lua_pushnumber");
int tdl_lua_pcall(void *L, int args, int results, int handler) __asm__("lua_pcall");
void tdl_lua_close(void *L) __asm__("lua_close");
]])

local state, hold = park.state, park.hold
local misuse = errors.misuse
local ECANCELED, FOREVER = const.TDL_ECANCELED, const.TDL_FOREVER

local MOST = 250 -- arguments, or results

local M = { MOST = MOST }

local BOOT = [[
local path, cpath, jitted, mail, results = ...
package.path, package.cpath = path, cpath
if jitted == 0 then jit.off() end
local ok, err = pcall(require, "treadle.worker_main")
if not ok then
  io.stderr:write("treadle: a worker could not start: ", tostring(err), "\n")
  error(err, 0)
end
err(mail, results)
]]

--- The functions of the Lua library that runs this.
local function lua()
  local ok = pcall(function() return ffi.C.tdl_lua_newstate, ffi.C.tdl_lua_pcall, ffi.C.tdl_lua_close end)
  if not ok then misuse "workers need the functions of Lua's library (luaL_newstate …), which this process does not show" end
  return ffi.C
end

--- What is sent for the work: a module's name, or a function's bytecode.
---@param work string|function
---@return "module"|"code"
---@return string
local function portable(work)
  if type(work) == "string" then return "module", work end
  if type(work) ~= "function" then misuse("spawn expects a function or the name of a module, got " .. type(work)) end
  if debug.getinfo(work, "S").what == "C" then misuse "a function of C cannot go to a worker" end
  local name = debug.getupvalue(work, 1)
  if name ~= nil then
    misuse(('a function for a worker can have no upvalues, and this one has "%s": require or pass what it needs'):format(
      name ~= "" and name or "?"))
  end
  return "code", string.dump(work)
end

--- Puts a value into a channel that has room for it.
local function post(chan, item)
  local val = ffi.new "tdl_val"
  value.encode(val, item)
  C.tdl_chan_try_send(chan.ptr, val)
  if val.type >= const.TDL_BYTES then C.tdl_val_clear(val) end
end

--- A new state with its program and the program's arguments on its stack.
local function prepare(mail, results)
  local L = lua().tdl_lua_newstate()
  if L == nil then error("treadle: " .. errors.text[const.TDL_ENOMEM], 0) end
  ffi.C.tdl_lua_openlibs(L)
  ffi.C.tdl_lua_loadbuffer(L, BOOT, #BOOT, "=treadle worker")
  ffi.C.tdl_lua_pushlstring(L, package.path, #package.path)
  ffi.C.tdl_lua_pushlstring(L, package.cpath, #package.cpath)
  ffi.C.tdl_lua_pushnumber(L, jit.status() and 1 or 0)
  for _, chan in ipairs { mail, results } do -- each pointer carries a hold, which the worker takes over
    ffi.C.tdl_lua_pushnumber(L, tonumber(ffi.cast("uintptr_t", C.tdl_chan_ref(chan.ptr))))
  end
  return L
end

jit.off(prepare) -- it runs another state inside

--- Starts the thread. The channel that tells its end.
local function start(mail, results, name)
  local L = prepare(mail, results)
  local o = ffi.new "tdl_worker_options"
  o.size = ffi.sizeof(o)
  o.entry = ffi.cast("int (*)(void *, int, int, int)", ffi.C.tdl_lua_pcall)
  o.state, o.a, o.b, o.c = L, 5, 0, 0
  o["end"] = ffi.cast("void (*)(void *)", ffi.C.tdl_lua_close)
  o.name = name
  local done = ffi.new "tdl_chan *[1]"
  local rc = C.tdl_worker_start(o, done)
  if rc < 0 then
    ffi.C.tdl_lua_close(L)
    C.tdl_chan_free(mail.ptr)
    C.tdl_chan_free(results.ptr)
    error("treadle: a worker cannot start: " .. errors.text[rc], 0)
  end
  return value.adopt_chan(done[0])
end

jit.off(start)

local function take(results)
  local val = ffi.new "tdl_val"
  if C.tdl_chan_try_recv(results.ptr, val) < 0 then return nil, false end
  return value.decode(val), true
end

--- The keeper.
local function keep(mail, results, done)
  local told_to_end = park.running_task().cancels > 0 -- before it began
  if told_to_end then C.tdl_chan_close(mail.ptr) end
  -- by `cur`, and not `id`: also when it was cancelled
  local rc = hold(C.tdl_chan_recv_start(state.host, state.cur, done.ptr, FOREVER))
  if rc == ECANCELED and not told_to_end then
    C.tdl_chan_close(mail.ptr)
    hold(C.tdl_chan_recv_start(state.host, state.cur, done.ptr, FOREVER))
  end
  local ok, given = take(results)
  if not given then error("treadle: the worker ended without a result (see stderr)", 0) end
  local n = take(results)
  local list = {}
  for i = 1, n do list[i] = take(results) end
  if ok then return unpack(list, 1, n) end
  if list[1] == "cancelled" then error(errors.CANCELLED, 0) end
  error(list[1], 0)
end

local function spawn(work, n, ...)
  local kind, code = portable(work)
  park.need_run()
  if n > MOST then misuse("a worker takes at most " .. MOST .. " arguments") end
  local mail, results = shared.shared_chan(n + 3), shared.shared_chan(MOST + 2)
  post(mail, kind)
  post(mail, code)
  post(mail, n)
  for i = 1, n do post(mail, (select(i, ...))) end
  local done = start(mail, results, kind == "module" and code or "treadle worker")
  local keeper = task.spawn(nil, keep, 3, mail, results, done)
  keeper:set_name "worker"
  return keeper
end

--- Starts a worker: another lua_State on a thread of its own, in which work(...)
--- is the main function of a treadle.run. Values, tables, shared channels and connections pass as
--- through a shared channel; errors and results arrive where it is joined. Cancelling it
--- cancels its main function. The end of this run cancels it, and waits for it.
---@param work function|string without upvalues; or a module that returns a function
---@param ... any its arguments
---@return treadle.Task
function M.spawn(work, ...)
  return spawn(work, select("#", ...), ...)
end

--- Several workers.
---@class treadle.Workers: { [integer]: treadle.Task }
local Workers = {}
Workers.__index = Workers
class.public(Workers, "workers")

--- Waits for all. When one fails the others are cancelled.
---@return true|nil ok
---@return any err of the first that failed; "cancelled"
function Workers:join()
  local failure, failed
  local waiting = {}
  for i = 1, #self do waiting[i] = self[i]:join_op() end
  while #waiting > 0 do
    local i, err, ok = require("treadle.select").select(waiting)
    if not i then
      self:cancel()
      return nil, ok
    end
    table.remove(waiting, i)
    if not ok and not failed then
      failure, failed = err, true
      self:cancel()
    end
  end
  if failed then return nil, failure end
  return true
end

--- Cancels all.
function Workers:cancel()
  for i = 1, #self do self[i]:cancel() end
end

--- Starts n workers, each of which calls work(i, ...), i from 1 to n.
---@param n integer|nil as many as goroutines may run at once when nil: the processors, as a rule
---@param work function|string
---@param ... any
---@return treadle.Workers
function M.workers(n, work, ...)
  if n == nil then n = C.tdl_gomaxprocs(0) end
  if type(n) ~= "number" or n % 1 ~= 0 or n < 1 or n > 1024 then
    misuse("the number of workers is a whole number from 1 to 1024, not " .. tostring(n))
  end
  local all = setmetatable({}, Workers)
  for i = 1, n do all[i] = spawn(work, select("#", ...) + 1, i, ...) end
  return all
end

return M
