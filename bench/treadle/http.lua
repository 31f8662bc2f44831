-- SPDX-License-Identifier: MIT
-- The HTTP server that is measured: a constant answer to each request.
local treadle = require "treadle"

local ANSWER = "HTTP/1.1 200 OK\r\nServer: treadle\r\nContent-Type: text/plain\r\n"
  .. "Content-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n"

treadle.run(function()
  local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
  print("listening on " .. l:address())
  io.stdout:flush()
  assert(treadle.serve(l, function(conn)
    if not conn:read_until "\r\n\r\n" or not conn:write(ANSWER) then conn:close() end
  end))
  treadle.sleep(3600)
end)
