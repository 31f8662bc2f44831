-- Mutexes and wait groups.
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
