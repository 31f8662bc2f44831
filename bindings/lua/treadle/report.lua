-- SPDX-License-Identifier: MIT
-- Errors that nobody has joined: reported at once, the first ones remembered
-- until the end of the run, which raises the first that is still unjoined.
--
-- And the report of a run in which nothing can happen any more.
--
-- Invariant: a handler of the program never ends the loop.

local ffi = require "ffi"
local library = require "treadle.library"
local C = library.C

local M = {}

local KEEP = 64 -- a server may fail for months: later ones are reported, not kept

local handler ---@type fun(task: treadle.Task, err: any, trace: string)|nil
local unjoined = {}

--- Begins a run.
---@param on_error fun(task: treadle.Task, err: any, trace: string)|nil
function M.begin(on_error)
  handler, unjoined = on_error, {}
end

--- tostring that no __tostring can break.
---@param value any
---@return string
function M.tostring(value)
  local ok, text = pcall(tostring, value)
  return ok and text or "(error object whose __tostring failed)"
end

---@param task treadle.Task
---@param trace string
function M.now(task, trace)
  if not handler then
    if #unjoined < KEEP then unjoined[#unjoined + 1] = task end
    io.stderr:write("treadle: a goroutine died: ", trace, "\n")
    return
  end
  local ok, err = pcall(handler, task, task.err, trace)
  if not ok then
    io.stderr:write("treadle: on_error failed: ", M.tostring(err), "\n", trace, "\n")
  end
end

local line = ffi.new "char[384]"

--- Every goroutine waits, and nothing can wake one: says for what, and raises.
---@param state treadle.state
---@param ours integer how many goroutines the run has
function M.deadlock(state, ours)
  local message = "treadle: all goroutines are asleep - deadlock!"
  local ids = {}
  for id in pairs(state.tasks) do ids[#ids + 1] = id end
  table.sort(ids)
  io.stderr:write(message, "\n\n")
  for _, id in ipairs(ids) do
    local co = state.coroutines[id]
    C.tdl_task_describe(state.host, id, line, ffi.sizeof(line))
    io.stderr:write(ffi.string(line), co and debug.traceback(co):gsub("^stack traceback:", "") or "", "\n\n")
  end
  if C.tdl_num_goroutines() > ours then C.tdl_dump(2) end -- those of C, and of other hosts
  error(message, 0)
end

--- The first goroutine whose error nobody has joined, now that the run is over.
---@return treadle.Task|nil
function M.first_unjoined()
  for _, task in ipairs(unjoined) do
    if not task.joined then return task end
  end
end

return M
