-- treadle.run: its results, its errors, its end.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

local function quietly(f) return treadle.run(f, { on_error = function() end }) end

describe("run", function()
  it("returns the results of its function", function()
    assert.same({ 1, nil, "three" }, { treadle.run(function() return 1, nil, "three" end) })
    assert.equal(0, select("#", treadle.run(function() end)))
  end)

  it("may be called again", function()
    for i = 1, 20 do
      assert.equal(i, treadle.run(function()
        local ch = treadle.chan()
        treadle.go(function() ch:send(i) end)
        return (ch:recv())
      end))
    end
  end)

  it("raises the error of its function unchanged", function()
    local object = {}
    local ok, err = pcall(treadle.run, function() error(object) end)
    assert.is_false(ok)
    assert.equal(object, err)
    raises(function() treadle.run(function() error "boom" end) end, "run_spec.lua:%d+: boom")
  end)

  it("inside run is an error, and harms nothing", inside(function()
    local ok, err = pcall(function() treadle.run(function() end) end)
    assert.is_false(ok)
    assert.matches("run_spec.lua:%d+: treadle: run inside run", err)
    assert.is_true(treadle.sleep(0.001))
  end))

  it("inside run is an error in another goroutine too", inside(function()
    local _, err = treadle.go(function()
      local ok, err = pcall(treadle.run, function() end)
      return nil, not ok and err
    end):join()
    assert.matches("run inside run", err)
  end))

  it("refuses wrong arguments at the caller's line", function()
    raises(function() treadle.run() end, "run_spec.lua:%d+: treadle: run expects a function, got nil")
    raises(function() treadle.run(print, 1) end, "run_spec.lua:%d+: .*table of options")
    raises(function() treadle.run(print, { on_error = 1 }) end, "run_spec.lua:%d+: .*on_error")
    raises(function() treadle.run(function() treadle.go(7) end) end,
      "run_spec.lua:%d+: treadle: go expects a function, got number")
  end)

  it("is needed for all that waits", function()
    local ch = treadle.chan()
    local shared = treadle.shared_chan()
    local calls = {
      function() treadle.sleep(0.1) end,
      function() treadle.yield() end,
      function() treadle.go(print) end,
      function() ch:recv() end,
      function() ch:send(1) end,
      function() shared:recv() end,
      function() shared:send(1) end,
      function() treadle.select { shared:recv_op() } end,
      function() treadle.mutex():lock() end,
      function() local wg = treadle.waitgroup() wg:add(1) wg:wait() end,
      function() treadle.listen("tcp", "127.0.0.1:0") end,
      function() treadle.dial("tcp", "127.0.0.1:1") end,
      function() treadle.scope(print) end,
      function() treadle.timeout(1, print) end,
    }
    for i, call in ipairs(calls) do
      local ok, err = pcall(call)
      assert.is_false(ok, "call " .. i)
      assert.matches("run_spec.lua:%d+: treadle: this works only inside treadle.run", err, nil, nil, "call " .. i)
    end
  end)
end)

describe("in the child of a fork", function()
  it("every call says that there is no runtime", function()
    local out = helper.script [[
      local ffi = require "ffi"
      ffi.cdef "int fork(void); void _exit(int status); int waitpid(int pid, int *status, int options);"
      local treadle = require "treadle"
      treadle.run(function()
        local ch, shared, m = treadle.chan(1), treadle.shared_chan(1), treadle.mutex()
        local near = assert(treadle.listen("tcp", "127.0.0.1:0"))
        local pid = ffi.C.fork()
        if pid == 0 then
          local n = 0
          for _, call in ipairs {
            function() treadle.sleep(1) end, function() treadle.yield() end, function() ch:recv() end, function() ch:send(1) end,
            function() shared:recv() end, function() treadle.select { ch:recv_op() } end, function() m:lock() end,
            function() near:accept() end, function() treadle.dial("tcp", "127.0.0.1:1") end,
          } do
            local ok, err = pcall(call)
            if not ok and err:find "no runtime in the child of a fork" then n = n + 1 else print(_, ok, err) end
          end
          io.stdout:write(n, " refused\n")
          io.stdout:flush()
          ffi.C._exit(0)
        end
        ffi.C.waitpid(pid, nil, 0)
        print(treadle.sleep(0.001))
      end)]]
    assert.equal("9 refused\ntrue\n", out)
  end)
end)

describe("goroutines that are left when run ends", function()
  it("are told cancelled, in every kind of wait, and are waited for", function()
    local told, ended = {}, 0
    quietly(function()
      local ch, full = treadle.chan(), treadle.chan(1)
      full:send(1)
      local m, wg = treadle.mutex(), treadle.waitgroup()
      m:lock()
      wg:add(1)
      local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
      local conn = assert(treadle.dial("tcp", listener:address()))
      local other = treadle.go(function() treadle.sleep(100) end)
      local waits = {
        recv = function() return select(3, ch:recv()) end,
        send = function() return select(2, full:send(1)) end,
        select = function() return select(3, treadle.select { ch:recv_op(), treadle.after_op(100) }) end,
        sleep = function() return select(2, treadle.sleep(100)) end,
        lock = function() return select(2, m:lock()) end,
        wait = function() return select(2, wg:wait()) end,
        join = function() return select(2, other:join()) end,
        read = function() return select(2, conn:read(1)) end,
        some = function() return select(2, conn:read_some()) end,
        line = function() return select(2, conn:read "l") end,
        all = function() return select(2, conn:read "a") end,
        scope = function() return select(2, treadle.scope(function(s) s:go(treadle.sleep, 100) end)) end,
        timeout = function() return select(2, treadle.timeout(50, treadle.sleep, 100)) end,
      }
      for name, wait in pairs(waits) do
        treadle.go(function()
          told[name] = wait()
          ended = ended + 1
        end)
      end
      treadle.go(function()
        assert(listener:accept())
        told.accept = select(2, listener:accept())
        ended = ended + 1
      end)
      treadle.sleep(0.05)
      assert.same({}, told)
    end)
    local names = 0
    for name, err in pairs(told) do
      assert.equal("cancelled", err, name)
      names = names + 1
    end
    assert.equal(14, names)
    assert.equal(14, ended)
  end)

  it("that never ran are started and told", function()
    local told
    treadle.run(function()
      treadle.go(function() told = select(2, treadle.sleep(100)) end)
    end)
    assert.equal("cancelled", told)
  end)

  it("are unwound by an error when they go on waiting", function()
    local rounds, cleaned, err = 0, false, nil
    treadle.run(function()
      treadle.go(function()
        local ok
        ok, err = pcall(function()
          while true do
            treadle.sleep(100)
            rounds = rounds + 1
          end
        end)
        cleaned = not ok
      end)
      treadle.yield()
    end)
    assert.equal(1, rounds)
    assert.is_true(cleaned)
    assert.equal("treadle: cancelled", tostring(err))
  end)

  it("are dropped when they catch that for ever", function()
    local reported
    treadle.run(function()
      treadle.go(function()
        while true do pcall(treadle.sleep, 100) end
      end)
      treadle.yield()
    end, { on_error = function(_, err) reported = err end })
    assert.matches("ignored its cancellation", reported)
  end)

  it("may start others, which are cancelled from birth", function()
    local told
    treadle.run(function()
      treadle.go(function()
        treadle.sleep(100)
        treadle.go(function() told = select(2, treadle.sleep(100)) end)
      end)
      treadle.yield()
    end)
    assert.equal("cancelled", told)
  end)

  it("can still clean up without waiting", function()
    local closed, sent
    treadle.run(function()
      local near, far = helper.pair()
      local log = treadle.chan(1)
      treadle.go(function()
        far:read(1)
        closed = far:close()
        sent = treadle.try_select { log:send_op "bye" }
      end)
      treadle.yield()
      assert(near)
    end)
    assert.is_true(closed)
    assert.equal(1, sent)
  end)
end)

describe("an error that ends a goroutine", function()
  it("leaves the others running, and the first is raised by run when nobody joins it", function()
    local out, status = helper.script [[
      local treadle = require "treadle"
      local others, alive = 0, false
      local ok, err = pcall(treadle.run, function()
        for _ = 1, 3 do treadle.go(function() treadle.sleep(0.01) others = others + 1 end) end
        treadle.go(function() error({ code = 1 }) end)
        treadle.sleep(0.005)
        treadle.go(function() error({ code = 2 }) end)
        treadle.sleep(0.05)
        alive = true
      end)
      print(ok, err.code, alive, others)]]
    assert.equal(0, status)
    assert.matches("false\t1\ttrue\t3\n$", out)
    assert.equal(2, select(2, out:gsub("a goroutine died: table", "")))
  end)

  it("goes to on_error at once, and then run does not raise it", function()
    local got = {}
    local result = treadle.run(function()
      local task = treadle.go(function() error "boom" end)
      treadle.yield()
      assert.equal(task, got[1].task)
      return "fine"
    end, { on_error = function(task, err, trace) got[#got + 1] = { task = task, err = err, trace = trace } end })
    assert.equal("fine", result)
    assert.equal(1, #got)
    assert.matches("run_spec.lua:%d+: boom$", got[1].err)
    assert.matches("boom\nstack traceback:\n.*run_spec.lua", got[1].trace)
  end)

  it("goes to whoever waits in join, and to nobody else", function()
    local reported = 0
    treadle.run(function()
      local task = treadle.go(function() treadle.sleep(0.005) error("boom", 0) end)
      local r, err = task:join()
      assert.is_nil(r)
      assert.equal("boom", err)
      assert.same({ nil, "boom" }, { task:join() })
    end, { on_error = function() reported = reported + 1 end })
    assert.equal(0, reported)
  end)

  it("is not raised by run when it is joined later", function()
    local out, status = helper.script [[
      local treadle = require "treadle"
      treadle.run(function()
        local task = treadle.go(function() error("boom", 0) end)
        treadle.sleep(0.01)
        print("joined", select(2, task:join()))
      end)]]
    assert.equal(0, status)
    assert.matches("joined\tboom", out)
    assert.matches("a goroutine died: boom\nstack traceback:", out)
  end)

  it("is on stderr with the goroutine's traceback, and ends the program", function()
    local out, status = helper.script [[
      local treadle = require "treadle"
      local function inner() error "deep" end
      treadle.run(function()
        treadle.go(function() inner() end)
        treadle.sleep(0.01)
        print "others go on"
      end)]]
    assert.equal(1, status)
    assert.matches("a goroutine died: .-deep\nstack traceback:\n.-in function 'inner'", out)
    assert.matches("others go on", out)
    assert.matches("luajit: .-deep", out)
  end)

  it("may be any value", function()
    for _, value in ipairs { false, 0, "text", {}, setmetatable({}, { __tostring = function() error "no" end }) } do
      local got
      treadle.run(function()
        treadle.go(function() error(value, 0) end)
        treadle.yield()
      end, { on_error = function(_, err) got = { err } end })
      assert.equal(value, got[1])
    end
  end)

  it("in on_error itself ends nothing", function()
    local out, status = helper.script [[
      local treadle = require "treadle"
      treadle.run(function()
        treadle.go(function() error "first" end)
        treadle.sleep(0.01)
        print "fine"
      end, { on_error = function() treadle.sleep(1) end })]]
    assert.equal(0, status)
    assert.matches("on_error failed: .-only a goroutine can wait", out)
    assert.matches("fine", out)
  end)

  it("by a yield to nobody is a clear one", function()
    local got
    treadle.run(function()
      treadle.go(function() coroutine.yield(1) end)
      treadle.sleep(0.005)
    end, { on_error = function(_, err) got = err end })
    assert.matches("coroutine.yield called by a goroutine", got)
  end)

  it("of many goroutines does not pile up", function()
    local n = 0
    treadle.run(function()
      for _ = 1, 5000 do
        treadle.go(error, {})
        treadle.yield()
      end
    end, { on_error = function() n = n + 1 end })
    assert.equal(5000, n)
  end)
end)
