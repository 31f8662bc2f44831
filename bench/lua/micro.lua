-- SPDX-License-Identifier: MIT
-- One figure of treadle's, in nanoseconds of processor time for each operation.
-- Usage: micro.lua NAME
local treadle = require "treadle"

local clock = os.clock -- of the process: what others do on the machine counts less
local cases = {}

--- 100 goroutines that do nothing but yield.
function cases.switch(n)
  local wg = treadle.waitgroup()
  for _ = 1, 100 do wg:go(function() for _ = 1, n / 100 do treadle.yield() end end) end
  wg:wait()
end

--- Unbuffered channels, there and back: two hand-offs a round.
function cases.handoff(n)
  local ping, pong = treadle.chan(), treadle.chan()
  treadle.go(function() for v in ping:iter() do pong:send(v) end end)
  for i = 1, n / 2 do
    ping:send(i)
    pong:recv()
  end
  ping:close()
end

--- A channel with 64 places, one way.
function cases.buffered(n)
  local ch = treadle.chan(64)
  treadle.go(function() for i = 1, n do ch:send(i) end ch:close() end)
  for _ in ch:iter() do end -- luacheck: ignore 542
end

--- Goroutines that do nothing, a thousand at a time.
function cases.spawn(n)
  for _ = 1, n / 1000 do
    local wg = treadle.waitgroup()
    for _ = 1, 1000 do wg:go(function() end) end
    wg:wait()
  end
end

--- A timer that is set and stopped.
function cases.timer(n)
  local t = treadle.timer(100)
  for _ = 1, n do
    t:reset(50)
    t:stop()
  end
end

local run, n = assert(cases[arg[1]], "micro.lua: no such case"), 400000
treadle.run(function()
  run(n / 4) -- until it is compiled
  local best = math.huge
  for _ = 1, 5 do
    local begun = clock()
    run(n)
    best = math.min(best, (clock() - begun) / n * 1e9)
  end
  print(best)
end)
