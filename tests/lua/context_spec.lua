-- Read-write mutexes, once, contexts, error groups, single flights, after_func.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

describe("a rwmutex", function()
  it("E4: lets readers in together and a writer alone, who keeps new readers out", inside(function()
    local rw, order = treadle.rwmutex(), {}
    assert.is_true(rw:rlock())
    assert.is_true(rw:tryrlock())
    assert.is_false(rw:trylock())
    local writer = treadle.go(function()
      assert.is_true(rw:lock())
      order[#order + 1] = "writer"
      rw:unlock()
    end)
    treadle.yield()
    assert.is_false(rw:tryrlock())
    local reader = treadle.go(function()
      assert.is_true(rw:rlock())
      order[#order + 1] = "reader"
      rw:runlock()
    end)
    treadle.yield()
    rw:runlock()
    rw:runlock()
    writer:join()
    reader:join()
    assert.same({ "writer", "reader" }, order)
  end))

  it("gives up waiting in time, and for a cancel", inside(function()
    local rw = treadle.rwmutex()
    rw:lock()
    assert.same({ nil, "timeout" }, { rw:rlock(0.005) })
    assert.same({ nil, "timeout" }, { rw:lock(0.005) })
    local waits = treadle.go(function() return rw:rlock() end)
    treadle.yield()
    waits:cancel()
    assert.same({ nil, "cancelled" }, { waits:join() })
    rw:unlock()
    assert.is_true(rw:trylock())
    rw:unlock()
  end))

  it("that is not held cannot be released", inside(function()
    local rw = treadle.rwmutex()
    raises(function() rw:unlock() end, "context_spec.lua:%d+: treadle: unlock of an unlocked rwmutex")
    raises(function() rw:runlock() end, "context_spec.lua:%d+: treadle: runlock of an rwmutex that nobody reads")
  end))
end)

describe("once", function()
  it("calls the first function only, and lets the others wait for its end", inside(function()
    local once, calls, seen = treadle.once(), 0, {}
    local function work()
      calls = calls + 1
      treadle.sleep(0.005)
      seen[#seen + 1] = "done"
    end
    local wg = treadle.waitgroup()
    for _ = 1, 5 do
      wg:go(function()
        assert.is_true(once:call(work))
        assert.same({ "done" }, seen)
      end)
    end
    wg:wait()
    assert.equal(1, calls)
    assert.is_true(once:done())
  end))

  it("E8: is done when the function raised", inside(function()
    local once = treadle.once()
    assert.is_false(once:done())
    raises(function() once:call(function() error("no", 0) end) end, "^no$")
    assert.is_true(once:done())
    assert.is_true(once:call(function() error "not again" end))
  end))

  it("cannot be waited for from within", inside(function()
    local once = treadle.once()
    raises(function() once:call(function() once:call(function() end) end) end, "deadlock")
  end))
end)

describe("a context", function()
  it("E9: ends its descendants with its cause, hundreds of them", inside(function()
    local root, all = treadle.background():with_cancel(), {}
    local c = root
    for i = 1, 300 do
      c = (i % 3 == 0 and root or c):with_cancel()
      all[i] = c
    end
    local waits = treadle.go(function() return all[300]:wait() end)
    treadle.yield()
    assert.is_nil(root:err())
    assert.is_nil(root:cause())
    assert.is_true(root:cancel "enough")
    assert.is_false(root:cancel "again")
    for i = 1, 300 do
      assert.equal("cancelled", all[i]:err())
      assert.equal("enough", all[i]:cause())
    end
    assert.is_true(waits:join())
    assert.equal("cancelled", root:with_cancel():err()) -- one that is born later
  end))

  it("ends at the earlier deadline", inside(function()
    local soon = treadle.background():with_timeout(0.01)
    local later = soon:with_timeout(60)
    assert.is_true(later:deadline() <= treadle.now() + 1)
    assert.is_true(later:wait(5))
    assert.equal("timeout", later:err())
    assert.equal("timeout", later:cause())
    assert.is_nil(treadle.background():deadline())
  end))

  it("carries values down", inside(function()
    local key = {}
    local a = treadle.background():with_value(key, 1)
    local b = a:with_value("name", "b"):with_cancel()
    assert.equal(1, b:value(key))
    assert.equal("b", b:value "name")
    assert.is_nil(a:value "name")
    a:cancel()
    local apart = b:without_cancel()
    assert.is_nil(apart:err())
    assert.equal(1, apart:value(key))
    raises(function() a:with_value(nil, 1) end, "context_spec.lua:%d+: treadle: a context's key must not be nil")
  end))

  it("is a case of select", inside(function()
    local c, ch = treadle.background():with_cancel(), treadle.chan()
    treadle.go(function() c:cancel() end)
    local i, _, ok = treadle.select { ch:recv_op(), c:done_op() }
    assert.equal(2, i)
    assert.is_false(ok)
    assert.is_nil(treadle.try_select { treadle.background():done_op() })
  end))

  it("calls functions at its end, unless they are stopped", inside(function()
    local c, called = treadle.background():with_cancel(), {}
    local a = c:after_func(function(x) called[#called + 1] = x end, "a")
    local b = c:after_func(function() called[#called + 1] = "b" end)
    treadle.yield()
    assert.is_true(b:stop())
    assert.is_false(b:stop())
    c:cancel()
    treadle.sleep(0.005)
    assert.same({ "a" }, called)
    assert.is_false(a:stop())
  end))

  it("that is the background cannot be ended", inside(function()
    raises(function() treadle.background():cancel() end, "the background context cannot be cancelled")
  end))

  it("leaves nothing behind", inside(function()
    collectgarbage()
    collectgarbage()
    local before = treadle.metric "contexts"
    local root = treadle.background():with_cancel()
    for _ = 1, 100 do root:with_cancel():cancel() end
    root:cancel()
    root = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_true(treadle.metric "contexts" <= before)
  end))
end)

describe("an error group", function()
  it("waits for all", inside(function()
    local group, sum = treadle.errgroup(), 0
    for i = 1, 10 do
      group:go(function()
        treadle.sleep(0.001)
        sum = sum + i
      end)
    end
    assert.is_true(group:wait())
    assert.equal(55, sum)
    assert.equal("cancelled", group.context:err())
  end))

  it("tells the first error, raised or returned, and ends the context with it", inside(function()
    for _, fails in ipairs { function() error("bad", 0) end, function() return nil, "bad" end } do
      local group = treadle.errgroup(treadle.background())
      local sibling = group:go(function() return group.context:wait() end)
      group:go(fails)
      assert.same({ nil, "bad" }, { group:wait() })
      assert.is_true(sibling:join())
      assert.equal("bad", group.context:cause())
    end
  end))

  it("lets no more work at a time than its limit", inside(function()
    local group, now, most = treadle.errgroup(nil, 3), 0, 0
    for _ = 1, 12 do
      group:go(function()
        now = now + 1
        most = math.max(most, now)
        treadle.sleep(0.001)
        now = now - 1
      end)
    end
    assert.is_true(group:wait())
    assert.equal(3, most)
    local one = treadle.errgroup(nil, 1)
    assert.truthy(one:try_go(function() treadle.sleep(0.001) end))
    assert.same({ nil, "not ready" }, { one:try_go(function() end) })
    one:wait()
  end))

  it("refuses nonsense", inside(function()
    raises(function() treadle.errgroup({}) end, "treadle: errgroup expects a context")
    raises(function() treadle.errgroup(nil, 0) end, "treadle: a limit is a whole number")
    raises(function() treadle.errgroup():go(1) end, "treadle: go expects a function")
  end))
end)

describe("a single flight", function()
  it("does the work once for all who want it", inside(function()
    local flight, calls, got = treadle.singleflight(), 0, {}
    local wg = treadle.waitgroup()
    for i = 1, 5 do
      wg:go(function()
        got[i] = { flight:call("key", function(x)
          calls = calls + 1
          treadle.sleep(0.005)
          return x, nil, "c"
        end, "a") }
      end)
    end
    wg:wait()
    assert.equal(1, calls)
    for i = 1, 5 do
      assert.equal("a", got[i][1])
      assert.equal("c", got[i][3])
    end
    assert.equal(2, flight:call("key", function() return 2 end)) -- a new one
  end))

  it("gives an error to all, and starts anew after forget", inside(function()
    local flight, failed = treadle.singleflight(), 0
    local wg = treadle.waitgroup()
    for _ = 1, 3 do
      wg:go(function()
        local ok, err = pcall(flight.call, flight, "k", function()
          treadle.sleep(0.005)
          error("broken", 0)
        end)
        if not ok and err == "broken" then failed = failed + 1 end
      end)
    end
    wg:wait()
    assert.equal(3, failed)
    local slow = treadle.go(function() return flight:call("k", function() treadle.sleep(0.01) return "old" end) end)
    treadle.yield()
    assert.is_true(flight:forget "k")
    assert.is_false(flight:forget "k")
    assert.equal("new", flight:call("k", function() return "new" end))
    assert.equal("old", slow:join())
  end))
end)

describe("after_func", function()
  it("C14: calls after the delay, not when it was stopped, and again after a reset", inside(function()
    local calls = 0
    local function count(n) calls = calls + n end
    local a = treadle.after_func(0.002, count, 1)
    treadle.sleep(0.02)
    assert.equal(1, calls)
    assert.is_false(a:stop())
    assert.is_false(a:reset(60))
    assert.is_true(a:reset(0.002))
    treadle.sleep(0.02)
    assert.equal(2, calls)
    for _ = 1, 100 do assert.is_true(treadle.after_func(60, count, 1):stop()) end
    treadle.sleep(0.001)
    assert.equal(2, calls)
    raises(function() treadle.after_func(1) end, "treadle: after_func expects a function, got nil")
  end))
end)
