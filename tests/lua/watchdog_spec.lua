-- The watchdog: goroutines that hold the lua_State for long.
local treadle = require "treadle"
local helper = require "helper"

--- Runs f with a watchdog of 20 ms, or as long as said; what it was told.
local function watched(f, limit)
  local told = {}
  treadle.run(function()
    treadle.go(function() treadle.sleep(0.001) end)
    f()
  end, {
    watchdog = limit or 0.02,
    on_hog = function(task, seconds, trace) told[#told + 1] = { task, seconds, trace } end,
  })
  return told
end

local function compute(seconds) -- interpreted: it calls what cannot be compiled
  local stop = treadle.now() + seconds
  local n = 0
  while treadle.now() < stop do
    n = n + select("#", string.byte(("x"):rep(64), 1, -1))
    if n % 7 == 0 then collectgarbage "count" end
  end
  return n
end
jit.off(compute)

describe("the watchdog", function()
  it("reports a goroutine that computes, once, where it is", function()
    local told = watched(function() compute(0.3) end)
    assert.equal(1, #told)
    assert.is_true(told[1][2] >= 0.02)
    assert.matches("still running", told[1][3])
    assert.matches("compute", told[1][3])
  end)

  it("reports afterwards what calls no hook", function()
    local told = watched(function()
      os.execute "sleep 0.1"
      treadle.sleep(0.001)
    end)
    assert.equal(1, #told)
    assert.is_true(told[1][2] >= 0.09)
    assert.matches("watchdog_spec.lua", told[1][3])
  end)

  it("says nothing of who waits, or yields in time", function()
    assert.same({}, watched(function()
      treadle.sleep(0.05)
      for _ = 1, 20 do
        compute(0.001)
        treadle.yield()
      end
    end, 2))
  end)

  it("leaves another's hook as it was", function()
    local function mine() end
    debug.sethook(mine, "", 12345)
    watched(function() end)
    local hook, mask, count = debug.gethook()
    debug.sethook()
    assert.same({ mine, "", 12345 }, { hook, mask, count })
  end)

  it("refuses nonsense", function()
    helper.raises(function() treadle.run(function() end, { watchdog = 0 }) end, "treadle: watchdog must be a number")
    helper.raises(function() treadle.run(function() end, { on_hog = 1 }) end, "treadle: on_hog must be a function")
  end)
end)
