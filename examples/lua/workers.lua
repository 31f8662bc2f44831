-- Four workers square the numbers 1 to 100; the sum of the squares is 338350.
local treadle = require "treadle"

treadle.run(function()
  local jobs, results = treadle.chan(16), treadle.chan()
  local workers = treadle.waitgroup()
  for _ = 1, 4 do
    workers:go(function()
      for n in jobs:iter() do results:send(n * n) end
    end)
  end
  treadle.go(function() workers:wait() results:close() end)
  treadle.go(function() for i = 1, 100 do jobs:send(i) end jobs:close() end)
  local sum = 0
  for n in results:iter() do sum = sum + n end
  print(sum)                                          -- 338350
end)
