-- SPDX-License-Identifier: MIT
-- Guest mode: goroutines in a program whose loop is another's.  Not part of
-- `treadle`: require "treadle.guest".  For libuv there is treadle.luv, which
-- does all of it.
--
-- Between attach and close treadle.go and everything else work as inside
-- treadle.run; only goroutines may wait.  The loop calls step in each of its
-- turns, just before it waits, then waits for the descriptor to be readable and no
-- longer than step said.

local library = require "treadle.library"
local class = require "treadle.class"
local errors = require "treadle.errors"
local loop = require "treadle.loop"
local park = require "treadle.park"
local report = require "treadle.report"
local task = require "treadle.task"
local C = library.C

local state = park.state
local tonumber = tonumber

local M = {}

---@class treadle.Guest
local Guest = {}
Guest.__index = Guest
class.public(Guest, "guest")

---@class treadle.GuestOptions
---@field on_error fun(task: treadle.Task, err: any, trace: string)|nil told of each error that ends a goroutine
---  and that nobody waits for; it may not wait. Without it they go to stderr.

--- Makes this thread's loop one in which goroutines run.  One at a time in a
--- lua_State, and not inside treadle.run.
---@param options treadle.GuestOptions|nil
---@return treadle.Guest
function M.attach(options)
  errors.check_options(options, "attach", "on_error ")
  local on_error = options and options.on_error
  if on_error ~= nil and type(on_error) ~= "function" then errors.misuse "on_error must be a function" end
  if state.running then errors.misuse "attach while a run or another guest is there" end
  loop.open()
  report.begin(on_error)
  task.forget()
  return setmetatable({ open = true }, Guest)
end

local function check(self)
  if not self.open then errors.misuse "the guest is closed" end
end

--- The descriptor that is readable when step has something to do.
---@return integer fd
function Guest:fd()
  check(self)
  return C.tdl_host_fd(state.host)
end

--- Runs what can run, without waiting.
---@return number|nil seconds until the next step is due by time alone; nil: never
function Guest:step()
  check(self)
  if self.stepping then errors.misuse "step inside a goroutine" end
  self.stepping = true
  local fine, err = pcall(loop.turn)
  self.stepping = false
  if not fine then error(err, 0) end
  local ns = tonumber(C.tdl_host_timeout(state.host))
  if ns >= 0 then return ns / 1e9 end
end

--- Makes the descriptor readable: for what was started since the last step by a
--- loop that does not call step before it waits.
function Guest:wake()
  check(self)
  C.tdl_host_wake(state.host)
end

--- Goroutines that are there.
---@return integer
function Guest:live()
  check(self)
  return task.live()
end

--- Cancels the goroutines that are left, waits until they have unwound, and ends
--- it. Again: nothing.
function Guest:close()
  if not self.open then return end
  if self.stepping then errors.misuse "close inside a goroutine" end
  task.cancel_all()
  local fine, err = pcall(loop.loop)
  loop.close()
  self.open = false
  if not fine then error(err, 0) end
end

class.check()

return M
