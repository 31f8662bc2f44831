-- SPDX-License-Identifier: MIT
-- N idle connections, each with its goroutine: bytes of this process for each.
-- Usage: idle.lua N
local treadle = require "treadle"

local function resident()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^RssAnon:%s*(%d+)"
    if kib then return tonumber(kib) * 1024 end
  end
end

treadle.run(function()
  local n = tonumber(arg[1])
  local listener, kept = assert(treadle.listen("unix", "@treadle-bench-idle")), {} -- luacheck: ignore 241
  local helper = treadle.go(function()
    for i = 1, n do kept[i] = assert(treadle.dial("unix", "@treadle-bench-idle")) end
  end)
  local conns = {} -- luacheck: ignore 241
  collectgarbage()
  local before
  for i = 1, n do
    if i == 101 then
      collectgarbage()
      before = resident() -- what the first need is not theirs alone
    end
    local conn = assert(listener:accept())
    conns[i] = conn
    treadle.go(function() conn:read_some() end)
  end
  helper:join()
  collectgarbage()
  print((resident() - before) / (n - 100) / 2) -- both ends are here
  os.exit(0)
end)
