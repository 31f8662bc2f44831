-- SPDX-License-Identifier: MIT
-- Goroutines in a program that owns a libuv loop (Debian's package lua-luv):
-- luv's timer ticks and luv's TCP server answers, while goroutines dial that server
-- and talk to it.  usage: luajit guest_luv.lua
local uv = require "luv"
local treadle = require "treadle"

local guest = require("treadle.luv").attach(uv)

-- the program's own: a server and a ticking timer, with callbacks
local server = uv.new_tcp()
server:bind("127.0.0.1", 0)
server:listen(128, function(err)
  assert(not err, err)
  local client = uv.new_tcp()
  server:accept(client)
  client:read_start(function(failed, chunk)
    assert(not failed, failed)
    if chunk then client:write(chunk:upper()) else client:close() end
  end)
end)
local ticks, ticker = 0, uv.new_timer()
ticker:start(5, 5, function() ticks = ticks + 1 end)

-- the guests: they wait, and the loop goes on
treadle.go(function()
  local address = "127.0.0.1:" .. server:getsockname().port
  local answers = treadle.chan()
  for i = 1, 3 do
    treadle.go(function()
      local conn = assert(treadle.dial("tcp", address))
      assert(conn:write(("goroutine %d\n"):format(i)))
      treadle.sleep(0.02 * i)
      answers:send(conn:lines()())
      conn:close()
    end)
  end
  for _ = 1, 3 do print((answers:recv())) end
  while ticks < 5 do treadle.sleep(0.005) end
  print "the loop ticked meanwhile"
  server:close()
  ticker:close()
end)

uv.run() -- ends when the loop has nothing left, and no goroutine is there
guest:close()
uv.run() -- what was closed is closed by the loop, which luv 1.44 does not survive without
print "over"
