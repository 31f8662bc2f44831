-- SPDX-License-Identifier: MIT
-- An echo server on cqueues, a coroutine for each connection.
local cqueues = require "cqueues"
local socket = require "cqueues.socket"

local loop = cqueues.new()
local server = socket.listen { host = "127.0.0.1", port = 0, nodelay = true }
server:listen()
print("listening on 127.0.0.1:" .. select(3, server:localname()))
io.stdout:flush()
loop:wrap(function()
  for conn in server:clients() do
    conn:setmode("bn", "bn")
    conn:onerror(function(_, _, code) return code end)
    loop:wrap(function()
      while true do
        local data = conn:read(-4096)
        if not data or not conn:write(data) then break end
      end
      conn:close()
    end)
  end
end)
assert(loop:loop())
