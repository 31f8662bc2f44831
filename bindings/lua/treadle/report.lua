-- SPDX-License-Identifier: MIT
-- Errors that nobody has joined: reported at once, the first ones remembered
-- until the end of the run, which raises the first that is still unjoined.
--
-- Invariant: a handler of the program never ends the loop.

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

--- The first goroutine whose error nobody has joined, now that the run is over.
---@return treadle.Task|nil
function M.first_unjoined()
  for _, task in ipairs(unjoined) do
    if not task.joined then return task end
  end
end

return M
