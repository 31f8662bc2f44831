-- sleep, yield, now.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

describe("sleep", function()
  it("C1: never returns early", inside(function()
    for _, seconds in ipairs { 0.0001, 0.001, 0.0123, 0.1 } do
      local begin = treadle.now()
      assert.is_true(treadle.sleep(seconds))
      local took = treadle.now() - begin
      assert.is_true(took >= seconds, took .. " for " .. seconds)
      assert.is_true(took < seconds + 0.5)
    end
  end))

  it("C1: nor when signals come", function()
    local out, status = helper.script [[
      local ffi = require "ffi"
      ffi.cdef "typedef struct { long every_s, every_us, first_s, first_us; } itimer; int setitimer(int, const itimer *, itimer *);"
      ffi.cdef "typedef void (*handler)(int); handler signal(int, handler); int getpid(void);"
      local treadle = require "treadle"
      -- A handler that does nothing and is no Lua: getpid ignores its argument.
      ffi.C.signal(14, ffi.cast("handler", ffi.C.getpid))
      ffi.C.setitimer(0, ffi.new("itimer", 0, 20000, 0, 20000), nil) -- SIGALRM every 20 ms
      treadle.run(function()
        for _ = 1, 3 do
          local begin = treadle.now()
          assert(treadle.sleep(0.1))
          assert(treadle.now() - begin >= 0.1)
        end
        print "slept"
      end)]]
    assert.equal("slept\n", out)
    assert.equal(0, status)
  end)

  it("C2: of nothing or less returns at once, 100 times", inside(function()
    local begin = treadle.now()
    for _ = 1, 100 do
      assert.is_true(treadle.sleep(0))
      assert.is_true(treadle.sleep(-1))
      assert.is_true(treadle.sleep(-math.huge))
    end
    assert.is_true(treadle.now() - begin < 0.5)
  end))

  it("C7: of ages does not overflow", inside(function()
    for _, seconds in ipairs { 1e10, 9.3e9, 1e300, math.huge } do
      local task = treadle.go(treadle.sleep, seconds)
      assert.same({ nil, "timeout" }, { task:join(0.005) })
      task:cancel()
      task:join()
    end
    local ch = treadle.chan()
    for _, seconds in ipairs { 9.2e9, 9e18, 1e300 } do
      assert.equal(2, (treadle.select { treadle.after_op(seconds), treadle.after_op(0.001), ch:recv_op() }))
    end
  end))

  it("wakes in the order of the deadlines", inside(function()
    local order, wg = {}, treadle.waitgroup()
    for i = 5, 1, -1 do wg:go(function() treadle.sleep(i * 0.005) order[#order + 1] = i end) end
    wg:wait()
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end))

  it("does not busy-wait", inside(function()
    local cpu = os.clock()
    treadle.sleep(0.3)
    assert.is_true(os.clock() - cpu < 0.1)
  end))

  it("refuses what is no time, at the caller's line", inside(function()
    for _, seconds in ipairs { "1", {}, 0 / 0, true } do
      raises(function() treadle.sleep(seconds) end, "time_spec.lua:%d+: treadle: seconds expected")
    end
    raises(function() treadle.sleep() end, "seconds expected, got nil")
  end))
end)

describe("yield", function()
  it("lets the others run, in turn", inside(function()
    local order, wg = {}, treadle.waitgroup()
    for i = 1, 3 do
      wg:go(function()
        for _ = 1, 3 do
          order[#order + 1] = i
          assert.is_true(treadle.yield())
        end
      end)
    end
    wg:wait()
    assert.same({ 1, 2, 3, 1, 2, 3, 1, 2, 3 }, order)
  end))

  it("does not keep a timer from firing", inside(function()
    local done = false
    treadle.go(function() treadle.sleep(0.01) done = true end)
    local limit = treadle.now() + 5
    while not done and treadle.now() < limit do treadle.yield() end
    assert.is_true(done)
  end))
end)

describe("now", function()
  it("is positive and goes forward", function()
    local last = treadle.now()
    assert.is_true(last > 0)
    for _ = 1, 1000 do
      local now = treadle.now()
      assert.is_true(now >= last)
      last = now
    end
  end)
end)
