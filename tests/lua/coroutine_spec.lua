-- User coroutines inside goroutines.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

local plain_resume, plain_wrap = coroutine.resume, coroutine.wrap

describe("while run runs, a user coroutine", function()
  it("may wait, and its own values go their way", inside(function()
    local ch, others = treadle.chan(), 0
    treadle.go(function() for i = 1, 3 do treadle.sleep(0.002) ch:send(i) end ch:close() end)
    treadle.go(function() for _ = 1, 3 do treadle.yield() others = others + 1 end end)
    local generate = coroutine.wrap(function(...)
      assert.same({ "a", nil, "b" }, { ... })
      for value in ch:iter() do coroutine.yield(value, nil, value * 2) end
      return "end", nil
    end)
    assert.same({ 1, nil, 2 }, { generate("a", nil, "b") })
    assert.same({ 2, nil, 4 }, { generate() })
    assert.same({ 3, nil, 6 }, { generate() })
    assert.equal(2, select("#", generate()))
    assert.equal(3, others)
  end))

  it("may wait many levels down", inside(function()
    local function level(n)
      if n == 0 then treadle.sleep(0.001) return 0 end
      return 1 + coroutine.wrap(level)(n - 1)
    end
    assert.equal(50, level(50))
  end))

  it("may be resumed by one goroutine after the other", inside(function()
    local co = coroutine.create(function(x)
      while true do
        treadle.yield()
        x = coroutine.yield(x * 2)
      end
    end)
    for i = 1, 4 do
      assert.same({ true, i * 2 }, { treadle.go(coroutine.resume, co, i):join() })
    end
  end))

  it("that waits cannot be resumed by another", inside(function()
    local co = coroutine.create(function() treadle.sleep(0.02) return "whole" end)
    local first = treadle.go(coroutine.resume, co)
    treadle.yield()
    local ok, err = coroutine.resume(co, "wrong")
    assert.is_false(ok)
    assert.matches("cannot resume non%-suspended coroutine", err)
    assert.same({ true, "whole" }, { first:join() })
  end))

  it("fails as it would without treadle", inside(function()
    local object = {}
    local ok, err = coroutine.resume(coroutine.create(function() treadle.yield() error(object) end))
    assert.is_false(ok)
    assert.equal(object, err)
    ok, err = pcall(coroutine.wrap(function() treadle.yield() error "text" end))
    assert.is_false(ok)
    assert.matches("coroutine_spec.lua:%d+: text$", err)
    local done = coroutine.wrap(function() end)
    done()
    raises(done, "dead coroutine")
    ok, err = coroutine.resume(coroutine.create(function() coroutine.resume(coroutine.running()) end))
    assert(ok, err)
  end))

  it("is told of cancellation inside", inside(function()
    local task = treadle.go(function()
      return coroutine.wrap(function() return select(2, treadle.sleep(100)) end)()
    end)
    treadle.yield()
    task:cancel()
    assert.equal("cancelled", task:join())
  end))

  it("unwinds with the goroutine that ignores cancellation", inside(function()
    local inner
    local task = treadle.go(function()
      coroutine.wrap(function()
        inner = select(2, pcall(function()
          treadle.sleep(100)
          treadle.sleep(100)
        end))
      end)()
    end)
    treadle.yield()
    task:cancel()
    task:join()
    assert.equal("treadle: cancelled", tostring(inner))
  end))
end)

describe("waiting", function()
  it("works under pcall, xpcall, metamethods, iterators and loadstring", inside(function()
    local pause = function() return treadle.sleep(0.0005) and 1 end
    assert.same({ true, 1 }, { pcall(pause) })
    assert.same({ true, 1 }, { xpcall(pause, debug.traceback) })
    local object = setmetatable({}, { __index = pause, __lt = pause, __concat = pause, __call = pause, __add = pause })
    assert.equal(1, object.x)
    assert.is_true(object < object)
    assert.equal(1, object .. "")
    assert.equal(1, object())
    assert.equal(1, object + 1)
    local n = 0
    for _ in function() n = n + pause() return n < 4 or nil end do end -- luacheck: ignore 542
    assert.equal(4, n)
    assert.equal(1, loadstring("return (...)()")(pause))
    local ok, err = pcall(function() treadle.yield() error("after", 0) end)
    assert.same({ false, "after" }, { ok, err })
  end))

  it("inside a C function is refused in words, and loses nothing", inside(function()
    local ch = treadle.chan()
    local near, far = helper.pair()
    local waits = {
      function() treadle.sleep(0.01) end,
      function() ch:recv() end,
      function() ch:send(1) end,
      function() treadle.select { ch:recv_op(), treadle.after_op(1) } end,
      function() near:read(5) end,
      function() near:read_some() end,
      function() treadle.go(treadle.sleep, 0.01):join() end,
      function() treadle.scope(function(s) s:go(treadle.sleep, 0.01) end) end,
    }
    for i, wait in ipairs(waits) do
      local ok, err = pcall(table.sort, { 2, 1 }, function() wait() end)
      assert.is_false(ok, "wait " .. i)
      assert.matches("coroutine_spec.lua:%d+: treadle: cannot wait inside table.sort, which is a C function: treadle.sort", err,
        nil, nil, "wait " .. i)
      assert.is_true(treadle.sleep(0.0005)) -- the goroutine can wait as before
    end
    treadle.go(function() ch:send "kept" end)
    assert.equal("kept", (ch:recv()))
    far:write "hello"
    near:peek(5)
    assert.equal("he,llo", (("x"):gsub("x", function() return near:read(2) .. "," .. near:read(3) end))) -- what needs no wait works
  end))

  it("inside a C function within a coroutine of the program's own, too", inside(function()
    local ch = treadle.chan(1)
    local co = coroutine.wrap(function()
      treadle.sleep(0.0005)
      local ok, err = pcall(table.sort, { 2, 1 }, function() ch:recv() end)
      coroutine.yield(ok, err)
      return ch:recv()
    end)
    local ok, err = co()
    assert.is_false(ok)
    assert.matches("cannot wait inside table.sort", err)
    assert.is_true(treadle.sleep(0.0005))
    treadle.go(function() ch:send "kept" end)
    assert.equal("kept", (co()))
    local plain = coroutine.create(function() return treadle.sleep(0.0005) end)
    table.sort({ 2, 1 }, function() -- resumed below a C function: it cannot be left either
      if coroutine.status(plain) == "suspended" then ok = coroutine.resume(plain) end
      return false
    end)
    assert.is_false(ok)
    assert.is_true(treadle.sleep(0.0005))
  end))

  it("the cheap look at the lua_State is trusted on LuaJITs with 64-bit pointers", function()
    assert.equal(require("ffi").abi "gc64", require("treadle.frame").known)
  end)

  it("inside a C function keeps other goroutines' events in order", inside(function()
    local order, wg = {}, treadle.waitgroup()
    for i = 1, 5 do wg:go(function() treadle.yield() order[#order + 1] = i end) end
    treadle.yield()
    pcall(table.sort, { 2, 1 }, function() treadle.yield() end)
    wg:wait()
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end))

  it("under a coroutine.wrap taken before run is refused in words", function()
    local reported
    treadle.run(function()
      local task = treadle.go(function()
        local step = plain_wrap(function() treadle.sleep(0.005) end)
        step() -- the sentinel comes out here
        step()
      end)
      local _, err = task:join()
      reported = err
      assert.is_true(treadle.sleep(0.01))
    end)
    assert.matches("taken before treadle.run began", reported)
  end)
end)

describe("coroutine.resume and wrap", function()
  local function are_plain()
    assert.equal(plain_resume, coroutine.resume)
    assert.equal(plain_wrap, coroutine.wrap)
  end

  it("are treadle's while run runs, and restored afterwards", function()
    treadle.run(function()
      assert.not_equal(plain_resume, coroutine.resume)
      assert.not_equal(plain_wrap, coroutine.wrap)
    end)
    are_plain()
  end)

  it("are restored after an error too", function()
    pcall(treadle.run, function() error "main" end)
    are_plain()
    pcall(treadle.run, function() treadle.go(error, "other") treadle.yield() end, { on_error = error })
    are_plain()
    pcall(treadle.run, nil)
    are_plain()
  end)
end)
