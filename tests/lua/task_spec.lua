-- Goroutine handles: join, cancel, join_op; yield; many of them.
local treadle = require "treadle"
local helper = require "helper"
local inside = helper.inside

describe("go", function()
  it("passes arguments and gives results, nils included", inside(function()
    for n = 0, 5 do
      local args = { 1, nil, 3, nil, nil }
      local task = treadle.go(function(...) return select("#", ...), ... end, unpack(args, 1, n))
      assert.same({ n, unpack(args, 1, n) }, { task:join() })
    end
    assert.equal(0, select("#", treadle.go(function() end):join()))
    assert.equal(1, select("#", treadle.go(function() return nil end):join()))
    assert.equal(3, select("#", treadle.go(function() return 1, nil, nil end):join()))
  end))

  it("runs the new goroutine when the caller waits, in the order of the calls", inside(function()
    local order = {}
    for i = 1, 5 do treadle.go(function() order[#order + 1] = i end) end
    assert.same({}, order)
    treadle.yield()
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end))

  it("nests", inside(function()
    local function fan(depth)
      if depth == 0 then return 1 end
      local a, b = treadle.go(fan, depth - 1), treadle.go(fan, depth - 1)
      return a:join() + b:join()
    end
    assert.equal(256, fan(8))
  end))
end)

describe("join", function()
  it("waits, and serves several callers and later ones", inside(function()
    local task = treadle.go(function() treadle.sleep(0.01) return "done" end)
    local got, wg = {}, treadle.waitgroup()
    for _ = 1, 5 do wg:go(function()
        local value = task:join()
        got[#got + 1] = value
      end) end
    wg:wait()
    assert.same({ "done", "done", "done", "done", "done" }, got)
    assert.equal("done", task:join())
  end))

  it("takes a timeout, which leaves the goroutine alone", inside(function()
    local task = treadle.go(function() treadle.sleep(0.03) return 1 end)
    assert.same({ nil, "timeout" }, { task:join(0.005) })
    assert.equal(1, task:join())
  end))

  it("that timed out does not wake its caller later, in another wait", inside(function()
    local first = treadle.go(function() treadle.sleep(0.02) end)
    local second = treadle.go(function() treadle.sleep(0.06) return 2 end)
    first:join(0.005)
    assert.equal(2, second:join())
  end))

  it("of itself is an error", inside(function()
    local task
    task = treadle.go(function() task:join() end)
    local _, err = task:join()
    assert.matches("cannot join itself", err)
  end))

  it("that is cancelled leaves no trace on the other", inside(function()
    local slow = treadle.go(function() treadle.sleep(0.03) return 7 end)
    local joiner = treadle.go(function()
      local _, err = slow:join()
      return err
    end)
    treadle.sleep(0.005)
    joiner:cancel()
    assert.equal("cancelled", joiner:join())
    assert.equal(7, slow:join())
  end))

  it("with join_op in a select tells value or error", inside(function()
    local good = treadle.go(function() treadle.sleep(0.005) return "v" end)
    local ch = treadle.chan()
    assert.same({ 2, "v", true }, { treadle.select { ch:recv_op(), good:join_op() } })
    assert.same({ 1, "v", true }, { treadle.select { good:join_op() } })
    local bad = treadle.go(function() error("no", 0) end)
    assert.same({ 1, "no", false }, { treadle.select { bad:join_op(), treadle.after_op(1) } })
    assert.same({ 1, nil, true }, { treadle.select { treadle.go(function() end):join_op() } })
    assert.is_nil(treadle.try_select { treadle.go(treadle.sleep, 0.01):join_op() })
  end))

  it("with join_op leaves an error that another case overtook to the report", function()
    local reported = {}
    treadle.run(function()
      local ch = treadle.chan()
      local gate = treadle.chan()
      local bad = treadle.go(function()
        gate:recv()
        error("late", 0)
      end)
      local waiting = treadle.go(function()
        return (treadle.select { bad:join_op(), ch:recv_op() })
      end)
      treadle.yield()
      treadle.try_select { ch:send_op(1) } -- the select has chosen this, and
      gate:close() -- the other dies before it has run
      assert.equal(2, waiting:join())
      treadle.yield()
      assert.same({ "late" }, reported)

      local worse = treadle.go(function() treadle.yield() error("told", 0) end)
      assert.same({ 1, "told", false }, { treadle.select { worse:join_op(), ch:recv_op() } })
      assert.equal(1, #reported)
    end, { on_error = function(_, err) reported[#reported + 1] = err end })
  end)
end)

describe("cancel", function()
  it("ends the blocking call in progress", inside(function()
    local task = treadle.go(function() return select(2, treadle.sleep(100)) end)
    treadle.yield()
    assert.is_true(task:cancel())
    assert.equal("cancelled", task:join())
    assert.is_false(task:cancel())
  end))

  it("that comes before the first step makes the first wait fail", inside(function()
    local task = treadle.go(function() return select(2, treadle.sleep(100)) end)
    task:cancel()
    task:cancel()
    assert.equal("cancelled", task:join())
  end))

  it("makes calls fail that would be done at once", inside(function()
    local ch = treadle.chan(1)
    ch:send "kept"
    local task = treadle.go(function() return select(3, ch:recv()) end)
    task:cancel()
    assert.equal("cancelled", task:join())
    assert.equal("kept", (ch:recv()))
  end))

  it("of oneself works", inside(function()
    local task
    task = treadle.go(function()
      task:cancel()
      return select(2, treadle.yield())
    end)
    assert.equal("cancelled", task:join())
  end))

  it("that is ignored unwinds, joins as cancelled and is no error", function()
    local reported = 0
    treadle.run(function()
      local task = treadle.go(function()
        treadle.sleep(100)
        treadle.sleep(100)
        error "never here"
      end)
      treadle.yield()
      task:cancel()
      assert.same({ nil, "cancelled" }, { task:join() })
    end, { on_error = function() reported = reported + 1 end })
    assert.equal(0, reported)
  end)

  it("keeps a value that was handed over before", inside(function()
    local ch = treadle.chan()
    local task = treadle.go(function()
      local value, ok = ch:recv()
      return value, ok, select(2, treadle.sleep(1))
    end)
    treadle.yield()
    ch:send "handed" -- the receiver has it, and has not run yet
    task:cancel()
    assert.same({ "handed", true, "cancelled" }, { task:join() })
  end))

  it("keeps a lock that was handed over before", inside(function()
    local m = treadle.mutex()
    m:lock()
    local task = treadle.go(function() return m:lock() end)
    treadle.yield()
    m:unlock()
    task:cancel()
    local locked = task:join()
    assert.equal(not locked, m:trylock()) -- it is his, or it is free: never lost
  end))

  it("while holding a mutex lets the cleanup unlock it", inside(function()
    local m = treadle.mutex()
    local task = treadle.go(function()
      m:lock()
      treadle.sleep(100)
      m:unlock()
    end)
    treadle.yield()
    task:cancel()
    task:join()
    assert.is_true(m:trylock())
  end))

  it("frees what the dead were parked in", inside(function()
    local before = treadle.metric "timers"
    local tasks = {}
    for i = 1, 100 do tasks[i] = treadle.go(treadle.sleep, 1000) end
    treadle.yield()
    for i = 1, 100 do tasks[i]:cancel() end
    for i = 1, 100 do tasks[i]:join() end
    assert.equal(before, treadle.metric "timers")
  end))
end)

describe("many goroutines", function()
  it("B1: a loop of tries and yields lets others go on", inside(function()
    local ch, ack = treadle.chan(), treadle.chan(1)
    treadle.go(function()
      while true do
        local i = treadle.try_select { ch:recv_op() }
        if i then return ack:send(true) end
        treadle.yield()
      end
    end)
    treadle.sleep(0.01)
    ch:send(1)
    assert.is_true((ack:recv(5)))
  end))

  it("B23: are counted", inside(function()
    local before = treadle.num_goroutines()
    local tasks = {}
    for i = 1, 50 do tasks[i] = treadle.go(treadle.sleep, 0.005) end
    assert.equal(before + 50, treadle.num_goroutines())
    for i = 1, 50 do tasks[i]:join() end
    assert.equal(before, treadle.num_goroutines())
  end))

  it("100,000 come and go without memory growing", inside(function()
    local function spawn_all()
      local wg = treadle.waitgroup()
      for _ = 1, 50 do
        for _ = 1, 400 do wg:go(treadle.yield) end
        wg:wait()
      end
      helper.collect()
      return helper.resident()
    end
    spawn_all()
    local first = spawn_all()
    for _ = 1, 3 do spawn_all() end
    assert.is_true(helper.resident() < first + 4096, "resident memory grew")
  end))

  it("take turns in pooled coroutines", inside(function()
    local seen, different = {}, 0
    for _ = 1, 100 do
      local co = treadle.go(coroutine.running):join()
      if not seen[co] then different = different + 1 end
      seen[co] = true
    end
    assert.is_true(different <= 2, different .. " coroutines for 100 goroutines, one after the other")
  end))

  it("10,000 live at once, and the pool of coroutines stays bounded", inside(function()
    helper.collect()
    local before = collectgarbage "count"
    local gate, wg = treadle.chan(), treadle.waitgroup()
    for _ = 1, 10000 do wg:go(gate.recv, gate) end
    treadle.yield()
    local full = collectgarbage "count" - before
    gate:close()
    wg:wait()
    helper.collect()
    local kept = collectgarbage "count" - before
    assert.is_true(kept < full / 2, ("%.0f of %.0f KiB"):format(kept, full))
  end))
end)
