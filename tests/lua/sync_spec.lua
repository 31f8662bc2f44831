-- Mutexes, conditions, semaphores and wait groups.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

describe("a mutex", function()
  it("excludes", inside(function()
    local m, wg, inner, most = treadle.mutex(), treadle.waitgroup(), 0, 0
    for _ = 1, 10 do
      wg:go(function()
        for _ = 1, 20 do
          assert.is_true(m:lock())
          inner = inner + 1
          most = math.max(most, inner)
          treadle.yield()
          inner = inner - 1
          assert.is_true(m:unlock())
        end
      end)
    end
    wg:wait()
    assert.equal(1, most)
  end))

  it("can be tried, handed on, and waited for with a limit", inside(function()
    local m = treadle.mutex()
    assert.is_true(m:trylock())
    assert.is_false(m:trylock())
    assert.same({ nil, "timeout" }, { m:lock(0.005) })
    treadle.go(function() m:unlock() end) -- another may
    assert.is_true(m:lock(5))
    m:unlock()
  end))

  it("E1: is not kept from others by a hog", inside(function()
    local m, stop = treadle.mutex(), false
    local hog = treadle.go(function()
      while not stop do
        m:lock()
        treadle.sleep(0.0001)
        m:unlock()
      end
    end)
    treadle.yield()
    local begin = treadle.now()
    for _ = 1, 10 do
      treadle.sleep(0.0001)
      assert.is_true(m:lock(5))
      m:unlock()
    end
    stop = true
    hog:join()
    assert.is_true(treadle.now() - begin < 2)
  end))

  it("E2: that is not locked cannot be unlocked", inside(function()
    local m = treadle.mutex()
    raises(function() m:unlock() end, "sync_spec.lua:%d+: treadle: unlock of an unlocked mutex")
    m:lock()
    m:unlock()
    assert.has_error(function() m:unlock() end)
    assert.is_true(m:trylock())
  end))

  it("may be made and tried outside a run", function()
    local m = treadle.mutex()
    assert.is_true(m:trylock())
    treadle.run(function() assert.is_false(m:trylock()) end)
    m:unlock()
  end)

  it("that is dropped while locked does no harm", inside(function()
    treadle.mutex():lock()
    helper.collect()
    assert.is_true(treadle.mutex():lock())
  end))
end)

describe("a condition", function()
  --- A goroutine that waits for c; it returns the results, and whether the mutex was held then.
  local function waiter(m, c, timeout, woken)
    local task = treadle.go(function()
      m:lock()
      local ok, err = c:wait(timeout)
      local held = not m:trylock()
      m:unlock()
      if woken then woken() end
      return { ok, err, held = held }
    end)
    treadle.yield()
    return task
  end

  it("E5: wakes 100 first come, first woken", inside(function()
    local m, order, tasks = treadle.mutex(), {}, {}
    local c = treadle.cond(m)
    for i = 1, 100 do tasks[i] = waiter(m, c, nil, function() order[#order + 1] = i end) end
    for i = 1, 100 do
      assert.equal(i - 1, #order)
      assert.is_true(c:signal())
      assert.same({ true, held = true }, (tasks[i]:join()))
    end
    for i = 1, 100 do assert.equal(i, order[i]) end
  end))

  it("wakes all, in order, one at a time", inside(function()
    local m, order, tasks = treadle.mutex(), {}, {}
    local c = treadle.cond(m)
    for i = 1, 20 do tasks[i] = waiter(m, c, nil, function() order[#order + 1] = i end) end
    m:lock()
    assert.is_true(c:broadcast())
    treadle.sleep(0.005)
    assert.equal(0, #order) -- the mutex is ours
    m:unlock()
    for i = 1, 20 do assert.same({ true, held = true }, (tasks[i]:join())) end
    for i = 1, 20 do assert.equal(i, order[i]) end
    assert.is_true(c:signal()) -- nobody is there
    assert.is_true(c:broadcast())
  end))

  it("carries a queue of ten producers and consumers", inside(function()
    local m, queue, sum, wg = treadle.mutex(), {}, 0, treadle.waitgroup()
    local filled, room = treadle.cond(m), treadle.cond(m)
    for _ = 1, 10 do
      wg:go(function()
        for i = 1, 100 do
          m:lock()
          while #queue == 3 do room:wait() end
          queue[#queue + 1] = i
          filled:signal()
          m:unlock()
        end
      end)
      wg:go(function()
        for _ = 1, 100 do
          m:lock()
          while #queue == 0 do filled:wait() end
          sum = sum + table.remove(queue)
          room:signal()
          m:unlock()
        end
      end)
    end
    assert.is_true(wg:wait(20))
    assert.equal(10 * 5050, sum)
  end))

  it("holds the mutex again when time is up", inside(function()
    local m = treadle.mutex()
    local c = treadle.cond(m)
    assert.same({ nil, "timeout", held = true }, (waiter(m, c, 0.005):join()))
    m:lock()
    assert.same({ nil, "timeout" }, { c:wait(0) })
    assert.same({ nil, "timeout" }, { c:wait(-1) })
    assert.is_false(m:trylock())
    m:unlock()
    local late = waiter(m, c, 0.05)
    m:lock()
    assert.same({ nil, "timeout" }, { late:join(0.1) }) -- its time is up, but the mutex is ours
    m:unlock()
    assert.same({ nil, "timeout", held = true }, (late:join()))
    -- None of them takes a signal that is for another.
    local last = waiter(m, c)
    c:signal()
    assert.same({ true, held = true }, (last:join()))
  end))

  it("holds the mutex again when its goroutine is cancelled", inside(function()
    local m = treadle.mutex()
    local c = treadle.cond(m)
    local task = waiter(m, c)
    task:cancel()
    assert.same({ nil, "cancelled", held = true }, (task:join()))
    local held = waiter(m, c)
    m:lock()
    held:cancel()
    assert.same({ nil, "timeout" }, { held:join(0.01) }) -- not without the mutex
    m:unlock()
    assert.same({ nil, "cancelled", held = true }, (held:join()))
    -- One that was signalled before has been signalled.
    local signalled = waiter(m, c)
    m:lock()
    c:signal()
    treadle.sleep(0.005)
    signalled:cancel()
    m:unlock()
    assert.same({ true, held = true }, (signalled:join()))
  end))

  it("is not waited for by a goroutine that was cancelled before", inside(function()
    local m = treadle.mutex()
    local c, got, unwound = treadle.cond(m), nil, nil
    local task = treadle.go(function()
      m:trylock()
      got = { c:wait() }
      got.held = not m:trylock()
      unwound = not pcall(c.wait, c) and not m:trylock()
      m:unlock()
    end)
    task:cancel() -- before it has begun
    task:join()
    assert.same({ nil, "cancelled", held = true }, got)
    assert.is_true(unwound)
  end))

  it("is called off with its scope", inside(function()
    local m = treadle.mutex()
    local c = treadle.cond(m)
    assert.same({ nil, "timeout" }, { treadle.timeout(0.005, function()
      m:lock()
      local ok, err = c:wait()
      m:unlock()
      return ok, err
    end) })
    assert.is_true(m:trylock())
  end))

  it("needs its mutex locked, and a goroutine that can wait", function()
    local m = treadle.mutex()
    local c = treadle.cond(m)
    raises(function() c:wait() end, "sync_spec.lua:%d+: treadle: this works only inside treadle.run")
    treadle.run(function()
      raises(function() c:wait() end, "sync_spec.lua:%d+: treadle: wait for a condition whose mutex is not locked")
      raises(function() c:wait(0.01) end, "whose mutex is not locked")
      m:lock()
      raises(function() table.sort({ 1, 2 }, function() c:wait(0.01) end) end, "cannot wait inside table.sort, which is a C function")
      raises(function() c:wait "soon" end, "sync_spec.lua:%d+: treadle: seconds expected, got string")
      assert.is_false(m:trylock()) -- none of these has unlocked it
      m:unlock()
    end)
  end)

  it("refuses what is no mutex", inside(function()
    for _, bad in ipairs { 1, "m", {}, treadle.waitgroup(), true } do
      raises(function() treadle.cond(bad) end, "sync_spec.lua:%d+: treadle: cond expects a mutex, got ")
    end
    raises(function() treadle.cond() end, "cond expects a mutex, got nil")
  end))

  it("keeps its mutex", inside(function()
    local c = treadle.cond(treadle.mutex())
    helper.collect()
    for _ = 1, 100 do treadle.mutex():trylock() end
    assert.is_true(c.mutex:trylock())
    assert.same({ nil, "timeout" }, { c:wait(0.001) })
    c.mutex:unlock()
  end))
end)

describe("a semaphore", function()
  it("lets so many in", inside(function()
    local s, wg, inner, most = treadle.semaphore(3), treadle.waitgroup(), 0, 0
    for _ = 1, 10 do
      wg:go(function()
        for _ = 1, 20 do
          assert.is_true(s:acquire())
          inner = inner + 1
          most = math.max(most, inner)
          treadle.yield()
          inner = inner - 1
          assert.is_true(s:release())
        end
      end)
    end
    assert.is_true(wg:wait(20))
    assert.equal(3, most)
  end))

  it("serves first come, first served, whatever the weight", inside(function()
    local s, order, wg = treadle.semaphore(2), {}, treadle.waitgroup()
    assert.is_true(s:acquire(2))
    for i, weight in ipairs { 2, 1, 3, 1, 1 } do
      wg:go(function()
        assert.is_true(s:acquire(weight))
        order[#order + 1] = i
      end)
    end
    treadle.yield()
    s:release()
    treadle.yield()
    assert.same({}, order) -- the first wants 2, and the second does not overtake it
    assert.is_false(s:try_acquire())
    s:release()
    treadle.yield()
    assert.same({ 1 }, order)
    s:release(3)
    treadle.yield()
    assert.same({ 1, 2 }, order)
    s:release(3) -- more than were acquired
    assert.is_true(wg:wait(5))
    assert.same({ 1, 2, 3, 4, 5 }, order)
    assert.is_false(s:try_acquire())
  end))

  it("can be tried, and takes nothing then", inside(function()
    local s = treadle.semaphore(2)
    assert.is_false(s:try_acquire(3))
    assert.is_true(s:try_acquire(2))
    assert.is_false(s:try_acquire())
    assert.is_true(s:try_acquire(0))
    s:release()
    assert.is_true(s:try_acquire())
  end))

  it("times out, and lets those behind go ahead", inside(function()
    local s = treadle.semaphore(1)
    local large = treadle.go(function() return select(2, s:acquire(5, 0.02)) end)
    treadle.yield()
    local small = treadle.go(function() return s:acquire(1) end)
    assert.same({ nil, "timeout" }, { small:join(0.005) })
    assert.equal("timeout", large:join())
    assert.is_true(small:join())
    assert.same({ nil, "timeout" }, { s:acquire(1, 0) })
    assert.same({ nil, "timeout" }, { s:acquire(nil, 0.001) })
    s:release()
    assert.is_true(s:acquire(1, 0)) -- what is there comes first
  end))

  it("is left by who is cancelled, who keeps what had come", inside(function()
    local s = treadle.semaphore(1)
    local large = treadle.go(function() return select(2, s:acquire(2)) end)
    local small = treadle.go(function() return s:acquire() end)
    treadle.yield()
    large:cancel()
    assert.equal("cancelled", large:join())
    assert.is_true(small:join(5))
    local granted = treadle.go(function() return s:acquire() end)
    treadle.yield()
    s:release()
    granted:cancel()
    assert.is_true(granted:join())
  end))

  it("may be made and used outside a run, but not waited for", function()
    local s = treadle.semaphore(1)
    assert.is_true(s:try_acquire())
    assert.is_false(s:try_acquire())
    s:release()
    raises(function() s:acquire() end, "sync_spec.lua:%d+: treadle: this works only inside treadle.run")
    treadle.run(function() assert.is_true(s:acquire()) end)
    assert.is_false(s:try_acquire())
  end)

  it("refuses wrong arguments", inside(function()
    local s = treadle.semaphore(0)
    for _, n in ipairs { -1, 1.5, "1", 2 ^ 31, 0 / 0, {} } do
      for _, f in ipairs {
        function() treadle.semaphore(n) end, function() s:acquire(n) end,
        function() s:try_acquire(n) end, function() s:release(n) end,
      } do
        raises(f, "sync_spec.lua:%d+: treadle: a number of permits is a whole number from 0 to 2^31 %- 1, not ")
      end
    end
    raises(function() treadle.semaphore() end, "not nil")
    raises(function() s:acquire(1, "soon") end, "sync_spec.lua:%d+: treadle: seconds expected, got string")
    assert.is_false(s:try_acquire())
  end))
end)

describe("a wait group", function()
  it("waits for all, whoever ends last", inside(function()
    local wg, ended = treadle.waitgroup(), 0
    assert.is_true(wg:wait())
    for i = 1, 5 do wg:go(function(n) treadle.sleep(n * 0.002) ended = ended + 1 end, i) end
    assert.is_true(wg:wait())
    assert.equal(5, ended)
  end))

  it("counts down when a goroutine dies, and waits with a limit", function()
    treadle.run(function()
      local wg = treadle.waitgroup()
      wg:go(error, "boom")
      assert.is_true(wg:wait(5))
      wg:add(1)
      assert.same({ nil, "timeout" }, { wg:wait(0.005) })
      wg:done()
      assert.is_true(wg:wait())
    end, { on_error = function() end })
  end)

  it("gives handles that can be joined", inside(function()
    local wg = treadle.waitgroup()
    assert.equal(3, wg:go(function(a, b) return a + b end, 1, 2):join())
    assert.is_true(wg:wait())
  end))

  it("E7: refuses a negative counter and is unchanged then", inside(function()
    local wg = treadle.waitgroup()
    raises(function() wg:done() end, "sync_spec.lua:%d+: treadle: negative wait group counter")
    assert.has_error(function() wg:add(-1) end)
    wg:add(2)
    assert.has_error(function() wg:add(-3) end)
    wg:add(-2)
    assert.is_true(wg:wait())
  end))

  it("E7: serves 1000 rounds", inside(function()
    local wg = treadle.waitgroup()
    for round = 1, 1000 do
      local n = 0
      for _ = 1, 2 do wg:go(function() treadle.yield() n = n + 1 end) end
      wg:wait()
      assert.equal(2, n, "round " .. round)
    end
  end))

  it("wakes several who wait", inside(function()
    local wg, woken = treadle.waitgroup(), 0
    wg:add(1)
    local waiting = {}
    for i = 1, 4 do waiting[i] = treadle.go(function() wg:wait() woken = woken + 1 end) end
    treadle.yield()
    assert.equal(0, woken)
    wg:done()
    for i = 1, 4 do waiting[i]:join() end
    assert.equal(4, woken)
  end))

  it("refuses wrong arguments", inside(function()
    local wg = treadle.waitgroup()
    for _, n in ipairs { 1.5, "1", 2 ^ 31, 0 / 0 } do assert.has_error(function() wg:add(n) end) end
    raises(function() wg:go(1) end, "sync_spec.lua:%d+: treadle: go expects a function")
    assert.is_true(wg:wait())
  end))
end)

describe("an object that only a wait holds", function()
  -- Each function gives up its frame by a tail call.
  local function hangs(make)
    local task = treadle.go(function() return make() end)
    treadle.yield()
    helper.collect()
    for _ = 1, 100 do treadle.waitgroup() end -- would take the place of what was freed
    assert.same({ nil, "timeout" }, { task:join() })
  end

  it("is not collected before the wait is over", inside(function()
    hangs(function()
      local m = treadle.mutex()
      m:lock()
      return m:lock(0.01)
    end)
    hangs(function()
      local wg = treadle.waitgroup()
      wg:add(1)
      return wg:wait(0.01)
    end)
    hangs(function()
      local m = treadle.mutex()
      m:lock()
      local c = treadle.cond(m)
      return c:wait(0.01)
    end)
    hangs(function()
      local s = treadle.semaphore(0)
      return s:acquire(1, 0.01)
    end)
    hangs(function()
      local ch = treadle.shared_chan()
      return ch:send(1, 0.01)
    end)
    local task = treadle.go(function()
      local ch = treadle.shared_chan()
      return ch:recv(0.01)
    end)
    treadle.yield()
    helper.collect()
    assert.same({ nil, nil, "timeout" }, { task:join() })
  end))
end)
