-- SPDX-License-Identifier: MIT
-- The same on lua-http.
local server = require "http.server"
local headers = require "http.headers"

local s = assert(server.listen {
  host = "127.0.0.1", port = 0,
  onstream = function(_, stream)
    stream:get_headers()
    local answer = headers.new()
    answer:append(":status", "200")
    answer:append("content-type", "text/plain")
    answer:append("content-length", "13")
    stream:write_headers(answer, false)
    stream:write_chunk("Hello, World!", true)
  end,
  onerror = function() end,
})
assert(s:listen())
print("listening on 127.0.0.1:" .. select(3, s:localname()))
io.stdout:flush()
assert(s:loop())
