-- SPDX-License-Identifier: MIT
-- Seeing inside: counts, metrics and the dump of all goroutines.

local ffi = require "ffi"
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

local why = ffi.new("char[400]")

--- By what the system tells which descriptors are ready, "epoll", "uring" or "uv",
--- and why that one. TDL_NETPOLL in the environment chooses it.
---@return string name
---@return string reason
function M.netpoll()
  C.tdl_netpoll_reason(why, ffi.sizeof(why))
  return ffi.string(C.tdl_netpoll_name()), ffi.string(why)
end

--- For tests: makes the system's calls under treadle fail as often as the text
--- says, "seed=7,short=0.3,eagain=0.1"; nil: no longer. The first must come while
--- nothing runs. A text that does not parse is misuse, and the error says what is
--- wrong with it.
---@param text string|nil
---@return true|nil done
---@return string|nil err
function M.fault_set(text)
  if text ~= nil and type(text) ~= "string" then
    errors.misuse("fault_set expects a string, got " .. type(text))
  end
  if C.tdl_fault_check(text, why, ffi.sizeof(why)) < 0 then errors.misuse(ffi.string(why)) end
  local rc = C.tdl_fault_set(text)
  if rc < 0 then return nil, errors.text[rc] end
  return true
end

--- How often the fault of that name was injected since the last fault_set; nil: all
--- of them together.
---@param what string|nil
---@return number
function M.fault_count(what)
  local n = (what == nil or type(what) == "string") and tonumber(C.tdl_fault_count(what)) or const.TDL_EINVAL
  if n < 0 then errors.misuse("there is no fault " .. tostring(what)) end
  return n
end

return M
