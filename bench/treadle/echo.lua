-- SPDX-License-Identifier: MIT
-- The echo server that is measured, in Lua.
local treadle = require "treadle"

treadle.run(function()
  local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
  print("listening on 127.0.0.1:" .. listener:port())
  io.stdout:flush()
  for conn in listener:accepts() do
    treadle.go(function()
      while true do
        local data = conn:read_some(4096)
        if not data or data == "" or not conn:write(data) then break end
      end
      conn:close()
    end)
  end
end)
