-- scope and timeout.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

describe("scope", function()
  it("waits for its goroutines and returns its block's results", inside(function()
    local ended = 0
    local a, b = treadle.scope(function(s)
      for i = 1, 3 do s:go(function(n) treadle.sleep(n * 0.002) ended = ended + 1 end, i) end
      return 1, 2
    end)
    assert.same({ 1, 2, 3 }, { a, b, ended })
    assert.equal(0, select("#", treadle.scope(function() end)))
  end))

  it("cancels the siblings and the block at the first error, and raises it", inside(function()
    local told, body
    local ok, err = pcall(treadle.scope, function(s)
      s:go(function() told = select(2, treadle.sleep(100)) end)
      s:go(function() treadle.sleep(0.005) error({ first = true }) end)
      body = select(2, treadle.sleep(100))
    end)
    assert.is_false(ok)
    assert.is_true(err.first)
    assert.equal("cancelled", told)
    assert.equal("cancelled", body)
    assert.is_true(treadle.sleep(0.001)) -- the caller is not cancelled afterwards
    assert.is_true(treadle.yield())
  end))

  it("cancels its goroutines when its block fails", inside(function()
    local told
    local ok, err = pcall(treadle.scope, function(s)
      s:go(function() told = select(2, treadle.sleep(100)) end)
      treadle.yield()
      error("block", 0)
    end)
    assert.same({ false, "block", "cancelled" }, { ok, err, told })
  end))

  it("reports the second error, and run does not end for it", function()
    local reported = {}
    treadle.run(function()
      local _, err = pcall(treadle.scope, function(s)
        s:go(function() error("one", 0) end)
        s:go(function() treadle.sleep(100) error("two", 0) end)
      end)
      assert.equal("one", err)
    end, { on_error = function(_, err) reported[#reported + 1] = err end })
    assert.same({ "two" }, reported)
  end)

  it("hands a cancellation of its caller on, and waits all the same", inside(function()
    local told, after
    local task = treadle.go(function()
      local r, err = treadle.scope(function(s)
        s:go(function() told = select(2, treadle.sleep(100)) end)
      end)
      after = told
      return r, err
    end)
    treadle.sleep(0.005)
    task:cancel()
    assert.same({ nil, "cancelled" }, { task:join() })
    assert.equal("cancelled", told)
    assert.equal("cancelled", after)
  end))

  it("nests: an inner error stays inside when it is caught", inside(function()
    local result = treadle.scope(function(outer)
      local sibling = outer:go(function() return treadle.sleep(0.01) end)
      local ok = pcall(treadle.scope, function(s) s:go(error, "inner") end)
      return not ok and sibling:join()
    end)
    assert.is_true(result)
  end))

  it("nests: an outer error unwinds the inner one", inside(function()
    local told
    local ok, err = pcall(treadle.scope, function(outer)
      outer:go(function() treadle.sleep(0.005) error("outer", 0) end)
      treadle.scope(function(s) s:go(function() told = select(2, treadle.sleep(100)) end) end)
    end)
    assert.same({ false, "outer", "cancelled" }, { ok, err, told })
    assert.is_true(treadle.sleep(0.001))
  end))

  it("can be cancelled by hand, and used no more when it is over", inside(function()
    local told, scope
    treadle.scope(function(s)
      scope = s
      s:go(function() told = select(2, treadle.sleep(100)) end)
      treadle.yield()
      s:cancel()
    end)
    assert.equal("cancelled", told)
    raises(function() scope:go(print) end, "scope_spec.lua:%d+: treadle: go on a scope that has ended")
    raises(function() treadle.scope(1) end, "scope_spec.lua:%d+: treadle: scope expects a function")
  end))
end)

describe("timeout", function()
  it("returns what the function returned in time", inside(function()
    assert.same({ 1, nil, 3 }, { treadle.timeout(5, function(...) return ... end, 1, nil, 3) })
    assert.equal("slow", treadle.timeout(5, function() treadle.sleep(0.005) return "slow" end))
  end))

  it("cancels and waits when the time is over", inside(function()
    local unwound
    local begin = treadle.now()
    assert.same({ nil, "timeout" }, { treadle.timeout(0.02, function()
      local _, err = treadle.sleep(100)
      unwound = err
    end) })
    assert.is_true(treadle.now() - begin >= 0.02 and treadle.now() - begin < 2)
    assert.equal("cancelled", unwound)
    assert.same({ nil, "timeout" }, { treadle.timeout(0.005, function() while true do treadle.sleep(1) end end) })
    assert.same({ nil, "timeout" }, { treadle.timeout(0, treadle.sleep, 1) })
    assert.same({ nil, "timeout" }, { treadle.timeout(-1, treadle.sleep, 1) })
  end))

  it("raises the function's error, once", function()
    local reported = 0
    treadle.run(function()
      local ok, err = pcall(treadle.timeout, 5, error, "boom", 0)
      assert.same({ false, "boom" }, { ok, err })
      ok, err = pcall(treadle.timeout, 0.005, function() treadle.sleep(100) error("late", 0) end)
      assert.same({ false, "late" }, { ok, err })
    end, { on_error = function() reported = reported + 1 end })
    assert.equal(0, reported)
  end)

  it("loses no value that had come in time", inside(function()
    local ch = treadle.chan()
    local got
    local task = treadle.go(function()
      got = { treadle.timeout(100, function() return (ch:recv()) end) }
    end)
    treadle.sleep(0.002)
    ch:send "in time"
    task:join()
    assert.same({ "in time" }, got)
  end))

  it("hands a cancellation of its caller on", inside(function()
    local told
    local task = treadle.go(function()
      return treadle.timeout(100, function() told = select(2, treadle.sleep(100)) end)
    end)
    treadle.sleep(0.002)
    task:cancel()
    assert.same({ nil, "cancelled" }, { task:join() })
    assert.equal("cancelled", told)
  end))

  it("limits reads without harm to the connection", inside(function()
    local near, far = helper.pair()
    assert.same({ nil, "timeout" }, { treadle.timeout(0.01, near.read, near, 5) })
    far:write "after"
    assert.equal("after", near:read(5))
  end))
end)
