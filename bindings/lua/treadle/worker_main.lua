-- SPDX-License-Identifier: MIT
-- The worker's side of worker.lua: what its lua_State runs.
--
-- Invariants: the results are made ready within the run, where connections can be
-- given away, and sent after it, when it is known whether it failed.  What is
-- sent is: whether it went well, the number of values, the values.

local ffi = require "ffi"
local library = require "treadle.library"
local treadle = require "treadle" -- all of it: what is handed over may be of any kind
local park = require "treadle.park"
local report = require "treadle.report"
local task = require "treadle.task"
local value = require "treadle.value"
local worker = require "treadle.worker"
local C, const = library.C, library.const

local function adopt(address)
  return value.adopt_chan(ffi.cast("tdl_chan *", ffi.cast("uintptr_t", address)))
end

--- What the worker is to do.
local function work_of(kind, code)
  if kind == "code" then return assert(loadstring(code, "=worker")) end
  local module = require(code)
  if type(module) == "function" then return module end
  error(("treadle: the module %s returns no function for a worker, but a %s"):format(code, type(module)), 0)
end

local Outbox = {}
Outbox.__index = Outbox

--- Encodes values; what one holds is given up with all of them when another cannot be.
function Outbox:fill(...)
  local n = select("#", ...)
  if n > worker.MOST then error("treadle: a worker returns at most " .. worker.MOST .. " values", 0) end
  self.n, self.vals = n, ffi.new("tdl_val[?]", math.max(n, 1))
  for i = 1, n do value.encode(self.vals[i - 1], (select(i, ...))) end
end

function Outbox:clear()
  for i = 0, self.n - 1 do C.tdl_val_clear(self.vals[i]) end
  self.n = 0
end

local function send(results, val)
  C.tdl_chan_try_send(results.ptr, val)
  if val.type >= const.TDL_BYTES then C.tdl_val_clear(val) end
end

function Outbox:send(results, ok)
  local val = ffi.new "tdl_val"
  value.encode(val, ok)
  send(results, val)
  value.encode(val, self.n)
  send(results, val)
  for i = 0, self.n - 1 do send(results, self.vals[i]) end
end

--- The main function of the worker's run.
local function main(mail, outbox)
  local kind, code, n = mail:recv(), mail:recv(), mail:recv()
  local arguments = {}
  for i = 1, n do arguments[i] = mail:recv() end
  local me = park.running_task()
  local listener = task.spawn(nil, function()
    local _, ok = mail:recv() -- closed: the worker is to end
    if ok == false then me:cancel() end
  end, 0)
  listener:set_name "worker's mail"
  outbox:fill(work_of(kind, code)(unpack(arguments, 1, n)))
end

--- An error as the other state can have it.
local function portable(err)
  local val = ffi.new "tdl_val"
  if pcall(value.encode, val, err) then
    C.tdl_val_clear(val)
    return err
  end
  return report.tostring(err)
end

return function(mail_address, results_address)
  local mail, results = adopt(mail_address), adopt(results_address)
  local outbox = setmetatable({ n = 0 }, Outbox)
  local ok, err = pcall(treadle.run, function() main(mail, outbox) end)
  if not ok then
    outbox:clear()
    outbox:fill(portable(err))
  end
  outbox:send(results, ok)
end
