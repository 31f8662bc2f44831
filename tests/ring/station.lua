-- SPDX-License-Identifier: MIT
-- The Lua station: a coroutine between two shared channels. The program that
-- embeds this sets in_address, out_address, ready_address and mark.
local treadle = require "treadle"

local input, output = treadle.wrap_chan(in_address), treadle.wrap_chan(out_address)
local ready = treadle.wrap_chan(ready_address)

local function pass_on()
  local i = treadle.select { input:recv_op(), treadle.after_op(0.005) }
  assert(i == 2, "something came before the start")
  assert(ready:send(1))
  while true do
    local which, value, ok = treadle.select { input:recv_op(), treadle.after_op(30) }
    assert(which == 1, "nothing came for half a minute")
    if not ok then break end
    if type(value) == "number" then value = value + mark end
    if type(value) == "string" then
      assert(treadle.select { treadle.after_op(30), output:send_op(value) } == 2)
    else
      assert(output:send(value))
    end
  end
  assert(output:close())
end

treadle.run(function()
  local task = treadle.go(pass_on)
  task:join()
end)
