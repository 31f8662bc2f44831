-- SPDX-License-Identifier: MIT
-- A server whose idle connections are parked in the core, without a goroutine.
local treadle = require "treadle"

treadle.run(function()
  local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
  print("listening on 127.0.0.1:" .. listener:port())
  io.stdout:flush()
  assert(treadle.serve(listener, function(conn)
    local data = conn:read_some(4096)
    if not data or not conn:write(data) then conn:close() end
  end))
  treadle.sleep(1e6)
end)
