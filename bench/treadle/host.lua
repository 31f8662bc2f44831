-- SPDX-License-Identifier: MIT
-- A program of one Lua host, to be stepped (see trace/steps.c): N task switches
-- between two stops. Usage: host.lua WHAT N
local treadle = require "treadle"
local ffi = require "ffi"
ffi.cdef "int raise(int);"
local SIGSTOP = 19

local what, n = arg[1], tonumber(arg[2])
local warm, count = 1000, 0

local function step()
  count = count + 1
  if count == warm or count == warm + n then ffi.C.raise(SIGSTOP) end
  return count < warm + n
end

local function yields()
  while step() do treadle.yield() end
end

local function sleeps()
  while step() do treadle.sleep(1e-9) end
end

local function sends(chan)
  while step() do chan:send(1) end
end

local function receives(chan)
  while step() do chan:recv() end
end

local cases = { yield = { yields, yields }, chan = { sends, receives }, sleep = { sleeps, sleeps } }

treadle.run(function()
  local chan = treadle.chan()
  treadle.go(cases[what][1], chan)
  cases[what][2](chan)
  os.exit(0)
end)
