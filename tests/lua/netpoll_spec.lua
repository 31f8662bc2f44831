-- What tells descriptors' readiness: TDL_NETPOLL and treadle.netpoll.
local helper = require "helper"

local ECHO = [[
  local treadle = require "treadle"
  treadle.run(function()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      local c = assert(l:accept())
      for line in c:lines() do assert(c:write(line .. "\n")) end
      c:close()
    end)
    local c = assert(treadle.dial("tcp", l:address()))
    local lines = c:lines()
    for i = 1, 100 do
      assert(c:write(i .. "\n"))
      assert(lines() == tostring(i))
    end
    c:close()
    l:close()
    local name, reason = treadle.netpoll()
    print(name, reason)
  end)
]]

describe("the poller", function()
  for _, name in ipairs { "epoll", "uv" } do -- io_uring may be forbidden where the tests run
    it("is " .. name .. " when TDL_NETPOLL says so", function()
      local out, status = helper.script(ECHO, "TDL_NETPOLL=" .. name)
      assert.equal(name .. "\tasked for by TDL_NETPOLL\n", out)
      assert.equal(0, status)
    end)
  end

  it("is uring, or says why not", function()
    local out, status = helper.script(ECHO, "TDL_NETPOLL=uring")
    assert.equal(0, status)
    assert.is_truthy(out:find("^uring\tasked for") or out:find("epoll\t.*asks for uring, which does not work here: "))
  end)

  it("stops the program when TDL_NETPOLL is wrong, and says what it can be", function()
    local out, status = helper.script(ECHO, "TDL_NETPOLL=select")
    assert.is_truthy(out:find('treadle: TDL_NETPOLL is "select": it can be epoll, uring or uv', 1, true))
    assert.is_true(status ~= 0)
  end)
end)
