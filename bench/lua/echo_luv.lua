-- SPDX-License-Identifier: MIT
-- An echo server on luv, a coroutine for each connection.
local uv = require "luv"

local function serve(client)
  local co = coroutine.running()
  client:read_start(function(_, data) coroutine.resume(co, data) end)
  while true do
    local data = coroutine.yield()
    if not data then break end
    client:write(data)
  end
  client:close()
end

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", 0))
server:listen(1024, function()
  local client = uv.new_tcp()
  server:accept(client)
  client:nodelay(true)
  coroutine.wrap(serve)(client)
end)
print("listening on 127.0.0.1:" .. server:getsockname().port)
io.stdout:flush()
uv.run()
