-- Injected faults (TDL_FAULT, fault_set): each program is one of its own, since the
-- first text must come while nothing runs.
local helper = require "helper"
local treadle = require "treadle"

local ECHO = [[
  local treadle = require "treadle"
  local function echo()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      local c = assert(l:accept())
      for line in c:lines() do assert(c:write(line .. "\n")) end
      c:close()
    end)
    local c = assert(treadle.dial("tcp", l:address()))
    local sent, lines = {}, c:lines()
    for i = 1, 200 do
      sent[i] = ("x"):rep(i * 7 % 90) .. i
      assert(c:write(sent[i] .. "\n"))
      assert(lines() == sent[i], i)
    end
    c:close()
    l:close()
  end
]]

describe("injected faults", function()
  it("come from the environment, and a program that is ready for them does all its work", function()
    local out, status = helper.script(ECHO .. [[
      treadle.run(echo)
      for _, name in ipairs { "short", "eagain", "eintr" } do assert(treadle.fault_count(name) > 0, name) end
      assert(treadle.fault_count() >= treadle.fault_count "short")
      print "whole"
    ]], "TDL_FAULT=seed=3,short=0.5,eagain=0.3,eintr=0.3,delay=0.2,duplicate=0.2")
    assert.equal("whole\n", out)
    assert.equal(0, status)
  end)

  it("stop the program when the environment's text does not parse, and it says why", function()
    local out, status = helper.script("require('treadle').run(function() print 'runs' end)", "TDL_FAULT=shrt=0.5")
    assert.matches('treadle: TDL_FAULT: "shrt": no such fault; there are short eagain', out, 1, true)
    assert.is_nil(out:find("runs", 1, true))
    assert.is_true(status ~= 0)
  end)

  it("are set by the program, and changed while it runs", function()
    local out = helper.script(ECHO .. [[
      assert(treadle.fault_set "seed=5,short=0.5")
      treadle.run(echo)
      local n = treadle.fault_count "short"
      assert(n > 0)
      treadle.run(function()
        assert(treadle.fault_set "refused=1,most=1")
        local c, err = treadle.dial("tcp", "127.0.0.1:9")
        assert(not c and tostring(err):find "refused", err)
        assert(treadle.fault_count() == 1)
        assert(treadle.fault_set())
        echo()
        assert(treadle.fault_count() == 0)
      end)
      print "whole"
    ]])
    assert.equal("whole\n", out)
  end)

  it("refuse what does not parse, and what comes too late", helper.inside(function()
    helper.raises(function() treadle.fault_set "short=2" end, 'fault_spec.lua:%d+: .*"short=2": expected a rate')
    helper.raises(function() treadle.fault_set(7) end, "fault_set expects a string, got number")
    helper.raises(function() treadle.fault_count "shrt" end, "there is no fault shrt")
    local ok, err = treadle.fault_set "short=0.5"
    assert.is_nil(ok)
    assert.matches("in use", tostring(err))
  end))
end)
