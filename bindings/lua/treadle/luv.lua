-- SPDX-License-Identifier: MIT
-- Goroutines in a libuv loop: luv's, or Neovim's.  Not part of `treadle`:
--
--     local guest = require("treadle.luv").attach(require "luv")   -- Neovim: vim.loop
--     treadle.go(function() … end)
--
-- The loop belongs to its program, goes on as before, and ends when it has nothing
-- left to do and no goroutine is there.  Goroutines run in it, between its own
-- callbacks.

local class = require "treadle.class"
local errors = require "treadle.errors"
local guest = require "treadle.guest"

local M = {}

---@class treadle.LuvGuest
---@field guest treadle.Guest
local LuvGuest = {}
LuvGuest.__index = LuvGuest
class.public(LuvGuest, "guest")

local function nothing() end

--- Attaches goroutines to the loop of this luv.  As treadle.guest's attach.
---@param uv table luv, or vim.loop
---@param options treadle.GuestOptions|nil
---@return treadle.LuvGuest
function M.attach(uv, options)
  if type(uv) ~= "table" or not uv.new_prepare then errors.misuse "attach expects luv" end
  local inner = guest.attach(options)
  local self = setmetatable({ guest = inner, uv = uv }, LuvGuest)
  local poll, prepare, timer = uv.new_poll(inner:fd()), uv.new_prepare(), uv.new_timer()
  self.handles = { poll, prepare, timer }
  local held = true
  -- prepare comes last before the loop waits; the poll and the timer only end its wait
  uv.prepare_start(prepare, function()
    local seconds = inner:step()
    if seconds then
      uv.timer_start(timer, math.ceil(seconds * 1000), 0, nothing)
    else
      uv.timer_stop(timer)
    end
    local hold = inner:live() > 0
    if hold ~= held then
      held = hold
      if hold then uv.ref(poll) else uv.unref(poll) end
    end
  end)
  uv.poll_start(poll, "r", nothing)
  uv.unref(prepare)
  uv.unref(timer)
  return self
end

--- Cancels the goroutines that are left, waits for them, and leaves the loop.
--- Again: nothing.
function LuvGuest:close()
  if not self.handles then return end
  for _, handle in ipairs(self.handles) do self.uv.close(handle) end
  self.handles = nil
  self.guest:close()
end

class.check()

return M
