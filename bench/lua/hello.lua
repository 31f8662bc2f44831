-- SPDX-License-Identifier: MIT
-- "Hello, World!" over HTTP with keep-alive: as little parsing as content_by_lua's
-- side of it, which is to say lines up to the empty one.
local treadle = require "treadle"

local answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\nHello, World!"

treadle.run(function()
  local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
  print("listening on 127.0.0.1:" .. listener:port())
  io.stdout:flush()
  for conn in listener:accepts() do
    treadle.go(function()
      while true do
        local line = conn:read "l"
        if not line or not line:find("GET ", 1, true) then break end
        repeat line = conn:read "l" until not line or line == ""
        if not line or not conn:write(answer) then break end
      end
      conn:close()
    end)
  end
end)
