-- SPDX-License-Identifier: MIT
-- Seeing inside: counts, metrics and the dump of all goroutines.

local library = require "treadle.library"
local errors = require "treadle.errors"
local C, const = library.C, library.const

local M = {}

--- Goroutines that exist in the whole process, those of C and Python too.
---@return integer
function M.num_goroutines()
  return C.tdl_num_goroutines()
end

--- Writes every goroutine with its state, and what it waits on since when, to a
--- file descriptor.
---@param fd integer|nil standard error when nil
---@return true|nil done
---@return string|nil err
function M.dump(fd)
  if fd == nil then fd = 2 end
  if type(fd) ~= "number" then errors.misuse("dump expects a file descriptor, got " .. type(fd)) end
  local rc = C.tdl_dump(fd)
  if rc < 0 then return nil, errors.text[rc] end
  return true
end

--- A number by name: "goroutines", "tasks", "threads", "stacks", "channels",
--- "connections", "listeners", "timers".
---@param name string
---@return number
function M.metric(name)
  local value = type(name) == "string" and tonumber(C.tdl_metric(name)) or const.TDL_EINVAL
  if value == const.TDL_EINVAL then errors.misuse("there is no metric " .. tostring(name)) end
  return value
end

return M
