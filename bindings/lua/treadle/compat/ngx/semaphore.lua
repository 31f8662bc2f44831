-- SPDX-License-Identifier: MIT
-- ngx.semaphore, on treadle's.
--
-- Invariant: `resources` is what was posted less what was waited for, those that
-- wait now included: so it is negative while any do.

local common = require "treadle.compat.common"
local sync = require "treadle.sync"

---@class treadle.ngx.Semaphore
local Semaphore = {}
Semaphore.__index = Semaphore

--- Lets n more pass.
---@param n integer|nil 1 when nil
---@return true
function Semaphore:post(n)
  n = n == nil and 1 or tonumber(n)
  if not n or n < 1 or n % 1 ~= 0 then error("no negative number", 2) end
  self.resources = self.resources + n
  return self.sema:release(n)
end

--- Waits to pass.
---@param timeout number seconds; 0: does not wait
---@return true|nil ok
---@return string|nil err "timeout"
function Semaphore:wait(timeout)
  timeout = tonumber(timeout)
  if not timeout or timeout < 0 then error("bad timeout", 2) end
  if self.sema:try_acquire() then
    self.resources = self.resources - 1
    return true
  end
  if timeout == 0 then return nil, "timeout" end
  self.resources = self.resources - 1
  local ok, err = self.sema:acquire(1, timeout)
  if ok then return true end
  self.resources = self.resources + 1
  return nil, common.text(err)
end

--- How many may pass at once; how many wait, as a negative number.
---@return integer
function Semaphore:count() return self.resources end

local M = { version = "treadle" }

--- A semaphore that lets n pass.
---@param n integer|nil 0 when nil
---@return treadle.ngx.Semaphore
function M.new(n)
  n = n == nil and 0 or tonumber(n)
  if not n or n < 0 or n % 1 ~= 0 then error("no negative number", 2) end
  return setmetatable({ sema = sync.semaphore(n), resources = n }, Semaphore)
end

return M
