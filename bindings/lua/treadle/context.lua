-- SPDX-License-Identifier: MIT
-- Contexts: they say that work is to end, to all who work on the same thing.
--
-- Invariants: `ptr` is a holder of the core's context as long as the Lua object
-- lives.  Values and causes are Lua's, and kept here: `why` is set on the context
-- whose cancel was the first to end it.

local ffi = require "ffi"
local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local shared = require "treadle.shared"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state, hold, fail = park.state, park.hold, park.fail
local misuse = errors.misuse
local deadline = time.deadline
local tonumber, select = tonumber, select

local FOREVER, ENOMEM = const.TDL_FOREVER, const.TDL_ENOMEM

---@class treadle.Context
---@field ptr ffi.cdata* tdl_context
---@field parent treadle.Context|nil
---@field key any of the value it carries, and
---@field carried any
---@field why any the cause it was ended with
local Context = {}
Context.__index = Context
class.public(Context, "context")

local function derive(parent, ptr)
  if ptr == nil then error("treadle: " .. errors.text[ENOMEM], 0) end
  return setmetatable({ ptr = ffi.gc(ptr, C.tdl_context_free), parent = parent }, Context)
end

--- A context that ends with this one, or before by its own cancel.
---@return treadle.Context
function Context:with_cancel()
  return derive(self, C.tdl_context_with_cancel(self.ptr))
end

--- A context that ends with this one, or after so many seconds if that is earlier.
--- Its time is kept by the run, so it is made inside one.
---@param seconds number
---@return treadle.Context
function Context:with_timeout(seconds)
  park.need_run()
  return derive(self, C.tdl_context_with_deadline(self.ptr, deadline(seconds)))
end

--- A context that ends with this one and carries a value.
---@param key any not nil; compared as table keys are
---@param value any
---@return treadle.Context
function Context:with_value(key, value)
  if key == nil then misuse "a context's key must not be nil" end
  local c = derive(self, C.tdl_context_with_cancel(self.ptr))
  c.key, c.carried = key, value
  return c
end

--- A context with this one's values that does not end with it.
---@return treadle.Context
function Context:without_cancel()
  local c = derive(self, C.tdl_context_without_cancel(self.ptr))
  c.apart = true
  return c
end

--- The value of the nearest context, this one or an ancestor, that carries one for the key.
---@param key any
---@return any
function Context:value(key)
  local c = self
  while c do
    if c.key ~= nil and c.key == key then return c.carried end
    c = c.parent
  end
  return nil
end

--- Ends it, and all that were derived from it.
---@param cause any why; "cancelled" when nil
---@return boolean first it had not ended before
function Context:cancel(cause)
  local rc = C.tdl_context_cancel(self.ptr, 0, nil)
  if rc < 0 then misuse "the background context cannot be cancelled" end
  if rc == 1 then self.why = cause == nil and "cancelled" or cause end
  return rc == 1
end

--- nil until it ends; then "cancelled" or "timeout".
---@return string|nil
function Context:err()
  local rc = C.tdl_context_err(self.ptr)
  if rc == 0 then return nil end
  return errors.text[rc]
end

--- nil until it ends; then the cause given to the cancel that ended it or its
--- ancestor, or "timeout".
---@return any
function Context:cause()
  local err = self:err()
  local c = self
  while err and c and c.why == nil and not c.apart and c.parent and c.parent:err() == err do c = c.parent end
  if err and c.why ~= nil then return c.why end
  return err
end

--- When it ends at the latest, on the clock of treadle.now; nil: no such time.
---@return number|nil
function Context:deadline()
  local when = C.tdl_context_deadline(self.ptr)
  if when == FOREVER then return nil end
  return tonumber(when) / 1e9
end

--- Waits until it has ended.
---@param timeout number|nil seconds to wait at most; nil: no limit
---@return true|nil ended
---@return string|nil err "cancelled" (this goroutine was), "timeout"
function Context:wait(timeout)
  local rc = hold(C.tdl_context_wait_start(state.host, state.id, self.ptr, timeout and deadline(timeout) or FOREVER))
  if rc == 0 then return true end
  return nil, fail(rc, self)
end

--- For treadle.select: fires when it has ended; its ok is false then, as of a channel that is closed.
---@return treadle.Op
function Context:done_op()
  local ch = self.done
  if not ch then
    local ptr = C.tdl_context_done(self.ptr)
    ch = ptr == nil and shared.shared_chan() or shared.wrap_chan(ptr) -- the background: one that nobody closes
    self.done = ch
  end
  return ch:recv_op()
end

--- What waits for a context's end, to call a function then.
---@class treadle.After
---@field task treadle.Task
---@field started boolean
local After = {}
After.__index = After
class.public(After, "after")

--- Keeps the function from being called. True when it was not called and will not be.
---@return boolean stopped
function After:stop()
  if self.started or self.stopped then return false end
  self.stopped = true
  self.task:cancel()
  return true
end

--- Calls f(...) in a goroutine of its own when the context ends; soon when it has.
---@param f function
---@param ... any its arguments
---@return treadle.After
function Context:after_func(f, ...)
  if type(f) ~= "function" then misuse("after_func expects a function, got " .. type(f)) end
  park.need_run()
  local after = setmetatable({ started = false, stopped = false }, After)
  local n, arguments = select("#", ...), { ... }
  after.task = task.spawn(nil, function()
    if self:wait() and not after.stopped then
      after.started = true
      f(unpack(arguments, 1, n))
    end
  end, 0)
  return after
end

local M = {}

local background

--- The context that never ends, from which others are derived.
---@return treadle.Context
function M.background()
  background = background or setmetatable({ ptr = C.tdl_context_background() }, Context)
  return background
end

--- The class, for group.lua.
M.Context = Context

return M
