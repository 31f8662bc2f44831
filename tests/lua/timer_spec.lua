-- Timers and tickers.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

--- Checks that one tick is a whole number of periods after another.
local function in_phase(first, later, period)
  local periods = (later - first) / period
  assert(periods > 0.5 and math.abs(periods - math.floor(periods + 0.5)) < 1e-3, periods .. " periods")
end

--- Checks that nothing comes for a while.
local function silent(t, seconds)
  assert.same({ nil, "timeout" }, { t:recv(seconds or 0.02) })
end

describe("a timer", function()
  it("C1: fires once, when it was due and never early", inside(function()
    for _, delay in ipairs { 0.0001, 0.001, 0.0123, 0.05 } do
      local begin = treadle.now()
      local t = treadle.timer(delay)
      local due = t:recv()
      local now = treadle.now()
      assert.is_true(due >= begin + delay and due < begin + delay + 2)
      assert.is_true(now >= due and now < due + 5)
      silent(t, 0.005)
    end
  end))

  it("of nothing or less fires at once; G4: later read, it tells when it was due", inside(function()
    for _, delay in ipairs { 0, -1, -math.huge } do
      local before = treadle.now()
      local t = treadle.timer(delay)
      local after = treadle.now()
      treadle.sleep(0.01)
      local due = t:recv(5)
      assert.is_true(due >= before and due <= after)
    end
  end))

  it("C7: of ages does not overflow", inside(function()
    for _, delay in ipairs { 9e9, 9.3e9, 1e300, math.huge } do
      local t = treadle.timer(delay, delay)
      silent(t, 0.002)
      assert.is_true(t:stop())
      assert.is_false(t:reset(delay))
      assert.is_true(t:reset(0, delay))
      assert.is_number(t:recv(5))
      silent(t, 0.002)
      t:close()
    end
  end))

  it("C4: that is stopped never fires", inside(function()
    local t = treadle.timer(0.01)
    assert.is_true(t:stop())
    assert.is_false(t:stop())
    silent(t)
    local done = treadle.timer(0)
    assert.is_number(done:recv())
    assert.is_false(done:stop())
  end))

  it("C6: leaves no stale value when stopped or reset", inside(function()
    for _ = 1, 20 do
      local t = treadle.timer(0)
      treadle.sleep(0.001) -- it has fired, and nobody has received
      assert.is_true(t:stop())
      assert.is_nil(treadle.try_select { t:recv_op() })
      silent(t, 0.001)
      assert.is_false(t:reset(0))
      treadle.sleep(0.001)
      assert.is_true(t:reset(100))
      silent(t, 0.001)
      local begin = treadle.now()
      assert.is_true(t:reset(0.001))
      assert.is_true(t:recv(5) >= begin + 0.001)
      assert.is_false(t:reset(0))
      assert.is_number(t:recv(5))
    end
  end))

  it("can be reset while one waits for it", inside(function()
    local t, begin = treadle.timer(100), treadle.now()
    local task = treadle.go(function() return t:recv() end)
    treadle.yield()
    assert.is_true(t:reset(0.01))
    assert.is_true(t:reset(0.005))
    assert.is_true(task:join(5) >= begin + 0.005)
    local kept = treadle.go(function() return t:recv() end)
    treadle.yield()
    assert.is_false(t:stop())
    assert.same({ nil, "timeout" }, { kept:join(0.01) }) -- waits on
    t:reset(0)
    assert.is_number(kept:join(5))
  end))

  it("C11: 100 that are moved about fire once each", inside(function()
    local timers, fired, wg = {}, 0, treadle.waitgroup()
    for i = 1, 100 do timers[i] = treadle.timer(50 + i) end
    for round = 1, 5 do
      wg:go(function()
        for i = 1, 100 do
          assert.is_true(timers[i]:reset(i * round % 7 + 20))
          if i % 10 == 0 then treadle.yield() end
        end
      end)
    end
    assert.is_true(wg:wait(20))
    for i = 1, 100 do timers[i]:reset(i % 5 * 0.002) end
    for i = 1, 100 do
      assert.is_number(timers[i]:recv(5))
      fired = fired + 1
    end
    for i = 1, 100 do assert.is_nil(treadle.try_select { timers[i]:recv_op() }) end
    assert.equal(100, fired)
  end))

  it("serves in a select, several times", inside(function()
    local t, ch = treadle.timer(100), treadle.chan()
    treadle.go(function() ch:send "first" end)
    local op = t:recv_op()
    assert.same({ 2, "first", true }, { treadle.select { op, ch:recv_op() } })
    local begin = treadle.now()
    assert.is_true(t:reset(0.01))
    local i, due, ok = treadle.select { op, ch:recv_op(), treadle.after_op(5) }
    assert.equal(1, i)
    assert.is_true(ok)
    assert.is_true(due >= begin + 0.01 and due <= treadle.now())
    assert.equal(2, (treadle.select { op, treadle.after_op(0.005) }))
    t:reset(0)
    assert.equal(1, (treadle.select { op }))
    t:reset(0)
    treadle.sleep(0.001)
    i, due, ok = treadle.try_select { op, ch:send_op(1) }
    assert.equal(1, i)
    assert.is_number(due)
    assert.is_true(ok)
  end))

  it("is waited for with a limit, and by who may be cancelled", inside(function()
    local t = treadle.timer(100)
    assert.same({ nil, "timeout" }, { t:recv(0.005) })
    assert.same({ nil, "timeout" }, { t:recv(0) })
    local task = treadle.go(function() return select(2, t:recv()) end)
    treadle.yield()
    task:cancel()
    assert.equal("cancelled", task:join())
    assert.same({ nil, "timeout" }, { treadle.timeout(0.005, t.recv, t) })
    assert.is_true(t:stop())
  end))

  it("that is closed says so to all that wait, and to later calls", inside(function()
    local t = treadle.timer(100)
    local task = treadle.go(function() return select(2, t:recv()) end)
    local op = t:recv_op()
    local selecting = treadle.go(function() return { treadle.select { op, treadle.after_op(5) } } end)
    treadle.yield()
    assert.is_true(t:close())
    assert.equal("closed", task:join())
    assert.same({ 1, nil, false }, (selecting:join()))
    assert.same({ nil, "closed" }, { t:recv() })
    assert.same({ 1, nil, false }, { treadle.select { op } })
    assert.is_false(t:stop())
    assert.same({ nil, "closed" }, { t:reset(0) })
    assert.same({ nil, "closed" }, { t:close() })
  end))

  it("is freed when it is dropped", inside(function()
    helper.collect()
    local channels = treadle.metric "channels"
    for _ = 1, 200 do
      treadle.timer(100)
      treadle.timer(0.001, 0.001)
    end
    for _ = 1, 200 do treadle.timer(100):close() end
    treadle.sleep(0.005)
    helper.collect()
    helper.collect()
    assert.is_true(treadle.metric "channels" <= channels + 2)
  end))

  it("is not collected while one waits for it", inside(function()
    local task = treadle.go(function()
      local t = treadle.timer(0.02)
      return t:recv()
    end)
    treadle.yield()
    helper.collect()
    assert.is_number(task:join(5))
  end))

  it("belongs to its run", function()
    local t
    raises(function() treadle.timer(1) end, "timer_spec.lua:%d+: treadle: this works only inside treadle.run")
    treadle.run(function() t = treadle.timer(0.001, 0.001) end)
    local ended = "timer_spec.lua:%d+: treadle: this timer belongs to a treadle.run that has ended"
    raises(function() t:reset(1) end, ended)
    raises(function() t:recv() end, ended)
    treadle.run(function()
      raises(function() t:reset(1) end, ended)
      raises(function() t:recv(1) end, ended)
      local other = treadle.timer(0.001)
      t:stop()
      assert.is_number(other:recv(5))
      t:close()
      treadle.timer(100)
    end)
    helper.collect() -- frees one whose run has ended
    treadle.run(function() assert.is_number(treadle.timer(0):recv(5)) end)
  end)

  it("refuses what is no time, at the caller's line", inside(function()
    local t = treadle.timer(100)
    local expected = "timer_spec.lua:%d+: treadle: seconds expected, got "
    for _, bad in ipairs { "1", {}, 0 / 0, true } do
      raises(function() treadle.timer(bad) end, expected)
      raises(function() treadle.timer(1, bad) end, expected)
      raises(function() t:reset(bad) end, expected)
      raises(function() t:reset(1, bad) end, expected)
      raises(function() t:recv(bad) end, expected)
    end
    raises(function() treadle.timer() end, "seconds expected, got nil")
    raises(function() t:reset() end, "seconds expected, got nil")
    assert.is_true(t:stop()) -- unchanged by all that
  end))

  it("C12: 20,000 of 0 seconds take less than 2 seconds", inside(function()
    local begin = os.clock() -- of this process alone
    for _ = 1, 20000 do
      local t = treadle.timer(0)
      assert(t:recv())
      t:close()
    end
    assert.is_true(os.clock() - begin < 2)
  end))
end)

describe("a ticker", function()
  it("C8: ticks in time, at another pace after a reset, and no more when stopped", inside(function()
    local n, period = 10, 0.01
    local took, expected = nil, n * period + n * 2 * period
    for _ = 1, 10 do -- a busy machine gets another chance
      local begin = treadle.now()
      local t = treadle.timer(period, period)
      for _ = 1, n do assert.is_number(t:recv(5)) end
      t:reset(2 * period, 2 * period)
      for _ = 1, n do assert.is_number(t:recv(5)) end
      took = treadle.now() - begin
      t:stop()
      silent(t, 4 * period)
      assert.is_true(took > 0.7 * expected, took .. " s")
      if took < 1.3 * expected then break end
    end
    assert.is_true(took < 1.3 * expected, took .. " s")
  end))

  it("C8: may begin otherwise than it goes on, and become a timer", inside(function()
    local begin = treadle.now()
    local t = treadle.timer(0, 0.01)
    local first = t:recv()
    assert.is_true(first >= begin)
    in_phase(first, t:recv(), 0.01)
    t:reset(0.001)
    assert.is_number(t:recv())
    silent(t, 0.03)
  end))

  it("C8: needs a period of more than 0", inside(function()
    local t = treadle.timer(100)
    for _, period in ipairs { 0, -1, -math.huge } do
      raises(function() treadle.timer(1, period) end, "timer_spec.lua:%d+: treadle: the period of a timer must be more than 0")
      raises(function() t:reset(1, period) end, "timer_spec.lua:%d+: treadle: the period of a timer must be more than 0")
    end
  end))

  it("C9: leaves ticks out for a slow receiver, and keeps its phase", inside(function()
    local period = 0.01
    local t = treadle.timer(period, period)
    local first = t:recv()
    local before = treadle.now()
    treadle.sleep(5.5 * period)
    local kept = t:recv(0) -- the first that was not received; the others are lost
    assert.is_true(kept <= before + period)
    assert.is_nil(treadle.try_select { t:recv_op() })
    local after = t:recv()
    assert.is_true(after - kept > 4 * period)
    for _, due in ipairs { kept, after, t:recv(), t:recv() } do in_phase(first, due, period) end
  end))

  it("C13: of next to nothing stops nobody", inside(function()
    local t, turns = treadle.timer(0, 1e-12), 0
    local busy = treadle.go(function() for _ = 1, 100 do turns = turns + 1 treadle.yield() end end)
    local last = 0
    for _ = 1, 100 do
      local due = t:recv(5)
      assert.is_true(due >= last)
      last = due
    end
    assert.is_true(busy:join(5) == nil)
    assert.equal(100, turns)
    t:stop()
  end))

  it("is not kept back by others that are busy", inside(function()
    local t, stop = treadle.timer(0.001, 0.001), false
    local busy = treadle.go(function() while not stop do treadle.yield() end end)
    for _ = 1, 20 do assert.is_number(t:recv(5)) end
    stop = true
    busy:join()
  end))
end)
