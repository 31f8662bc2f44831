-- SPDX-License-Identifier: MIT
-- Jobs of some 50 microseconds for N workers, through shared channels: jobs in a second.
-- Usage: workers.lua N
local treadle = require "treadle"

local n, jobs = tonumber(arg[1]), 20000

treadle.run(function()
  local work, done = treadle.shared_chan(256), treadle.shared_chan(256)
  local all = treadle.workers(n, function(_, from, to)
    for job in from:iter() do
      local x = job
      for i = 1, 40000 do x = (x * 1103515245 + i) % 2147483648 end
      to:send(x)
    end
  end, work, done)
  for i = 1, 64 * n do work:send(i) end -- until all have begun
  for _ = 1, 64 * n do done:recv() end
  local begun = treadle.now()
  treadle.go(function() for i = 1, jobs do work:send(i) end work:close() end)
  for _ = 1, jobs do done:recv() end
  print(jobs / (treadle.now() - begun))
  assert(all:join())
end)
