-- SPDX-License-Identifier: MIT
-- Goroutines that end with the block that started them: scope and timeout.
--
-- Invariant: neither returns before all goroutines it started have ended, even
-- when its own goroutine is cancelled meanwhile (it cancels them then).

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local park = require "treadle.park"
local task = require "treadle.task"
local time = require "treadle.time"
local C, const = library.C, library.const

local state = park.state
local misuse = errors.misuse
local select, pcall = select, pcall
local ETIMEDOUT, ECANCELED, FOREVER = const.TDL_ETIMEDOUT, const.TDL_ECANCELED, const.TDL_FOREVER

---@class treadle.Scope: treadle.Owner
---@field body treadle.Task the goroutine the scope's block runs in
---@field children table<treadle.Task, true>
---@field living integer
---@field parked boolean the block has ended and waits
---@field over boolean
---@field broken boolean an error has cancelled everything in it
local Scope = {}
Scope.__index = Scope
class.public(Scope, "scope")

--- Starts f(...) as a goroutine of this scope.
---@param f function
---@param ... any its arguments
---@return treadle.Task
function Scope:go(f, ...)
  if type(f) ~= "function" then misuse("go expects a function, got " .. type(f)) end
  if self.over then misuse "go on a scope that has ended" end
  local child = task.spawn(self, f, select("#", ...), ...)
  self.children[child] = true
  self.living = self.living + 1
  if self.stopped then child:cancel() end
  return child
end

--- Cancels every goroutine of the scope, not its block.
function Scope:cancel()
  self.stopped = true
  for child in pairs(self.children) do child:cancel() end
end

function Scope:ended(child)
  self.children[child] = nil
  self.living = self.living - 1
  local mine = child.failed and not child.unwound and not child.joined
    and not (child.joiners and #child.joiners > 0) and not self.has_error
  if mine then
    self.has_error, self.err = true, child.err
    self:cancel()
    if not self.over and not self.parked then
      self.broken = true
      task.add_reason(self.body)
    end
  end
  if self.living == 0 and self.parked then
    C.tdl_task_ready(state.host, self.body.id, 0)
  end
  return mine
end

--- Waits until no child is left.
---@return boolean cancelled the block's goroutine was cancelled from outside
local function settle(self)
  local cancelled = false
  while self.living > 0 do
    if not cancelled and self.body.cancels > (self.broken and 1 or 0) then
      cancelled = true
      self:cancel()
    end
    self.parked = true
    local rc = park.park()
    self.parked = false
    if rc < 0 and rc ~= ECANCELED then -- this frame cannot wait: let go, and say so
      self.over = true
      self:cancel()
      if self.broken then task.drop_reason(self.body) end
      park.fail(rc)
    end
  end
  return cancelled
end

local function conclude(self, ok, ...)
  if not ok and not self.has_error and (...) ~= errors.CANCELLED then
    self.has_error, self.err = true, (...)
  end
  if not ok then self:cancel() end
  local cancelled = settle(self)
  self.over = true
  if self.broken then task.drop_reason(self.body) end
  if self.has_error then error(self.err, 0) end
  if not ok then error((...), 0) end -- the block itself is being unwound
  if cancelled then
    self.body.told = true
    return nil, "cancelled"
  end
  return ...
end

local M = {}

--- Calls f(scope) in this goroutine and waits for every goroutine that was
--- started with scope:go.  The first error, of a child or of f, cancels the
--- others and is raised; later ones are reported as errors nobody has joined.
--- When the caller is cancelled while it waits, so are they, and the result is
--- nil, "cancelled".
---@param f fun(scope: treadle.Scope): ...
---@return any ... results of f
function M.scope(f)
  if type(f) ~= "function" then misuse("scope expects a function, got " .. type(f)) end
  local self = setmetatable({
    body = park.running_task(), children = {}, living = 0,
    parked = false, over = false, broken = false, stopped = false, has_error = false,
  }, Scope)
  return conclude(self, pcall(f, self))
end

---@class treadle.Limit: treadle.Owner
local Limit = {}
Limit.__index = Limit

function Limit:ended()
  if self.parked then C.tdl_task_ready(state.host, self.id, 0) end
  return true
end

--- Calls f(...) in a goroutine of its own and returns its results; when it has
--- not ended in time it is cancelled, waited for, and the result is nil,
--- "timeout".  An error of f is raised here.  If the caller is cancelled, f is
--- too, and the result is nil, "cancelled".
---@param seconds number
---@param f function
---@param ... any its arguments
---@return any ... results of f; or nil, "timeout" or "cancelled"
function M.timeout(seconds, f, ...)
  if type(f) ~= "function" then misuse("timeout expects a function, got " .. type(f)) end
  local limit = time.deadline(seconds)
  local me = park.running_task()
  if me.cancels > 0 then return nil, park.refuse() end
  local owner = setmetatable({ id = me.id, parked = false }, Limit)
  local child = task.spawn(owner, f, select("#", ...), ...)
  local why
  while not child.done do
    owner.parked = true
    local rc = park.park(limit)
    owner.parked = false
    if rc == ETIMEDOUT or rc == ECANCELED then
      why = why or (rc == ETIMEDOUT and "timeout" or "cancelled")
      limit = FOREVER
      child:cancel()
    elseif rc < 0 then -- this frame cannot wait
      child:cancel()
      park.fail(rc)
    end
  end
  if child.failed and not child.unwound then error(child.err, 0) end
  if why and child.told then
    if why == "cancelled" then me.told = true end
    return nil, why
  end
  return task.give_results(child)
end

return M
