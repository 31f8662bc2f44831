-- An echo server: one goroutine per connection.
-- Usage: luajit echo.lua [host:port]     default 127.0.0.1:7000
local serve = dofile((arg[0]:match "^.*/" or "./") .. "server.lua")

serve(arg[1] or "127.0.0.1:7000", function(conn)
  conn:settimeout(30) -- seconds, each operation
  local data = conn:read_some()
  while data and conn:write(data) do data = conn:read_some() end
end)
