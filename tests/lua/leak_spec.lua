-- Nothing is left behind: descriptors, tasks, channels, connections, memory.
local treadle = require "treadle"
local helper = require "helper"

local METRICS = { "goroutines", "tasks", "channels", "connections", "listeners", "timers" }

local function numbers()
  helper.collect()
  local count, list = helper.descriptors()
  local all = { descriptors = count }
  for _, name in ipairs(METRICS) do all[name] = treadle.metric(name) end
  return all, list
end

--- Checks that nothing is more than it was. (It may be less: what the last round
--- before left in a dead stack slot is collected later.)
local function no_more(before)
  local now, list = numbers()
  for name, n in pairs(now) do
    assert(n <= before[name], ("%d %s, %d before; open: %s"):format(n, name, before[name], list))
  end
end

--- A server and its clients, channels, selects and errors; all ends well or not.
local function one_round()
  treadle.run(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      for conn in listener:accepts() do
        treadle.go(function()
          for line in conn:lines() do
            if line == "die" then error "told to" end
            conn:write(line, "\n")
          end
          conn:close()
        end)
      end
    end)
    local wg, results, shared = treadle.waitgroup(), treadle.chan(4), treadle.shared_chan(4)
    for i = 1, 50 do
      wg:go(function()
        local conn = assert(treadle.dial("tcp", listener:address()))
        conn:write(i, "\n")
        results:send(conn:read "l")
        shared:send { i, ("x"):rep(100) }
        if i % 5 == 0 then conn:write "die\n" end
        if i % 3 == 0 then conn:read "a" end -- until the run's end
      end)
    end
    for _ = 1, 50 do
      results:recv()
      treadle.select { shared:recv_op(), treadle.after_op(5) }
    end
    local ticker, m = treadle.timer(0, 0.001), treadle.mutex()
    local c, sema = treadle.cond(m), treadle.semaphore(1)
    for _ = 1, 5 do
      treadle.go(function() -- until the run's end
        m:lock()
        c:wait()
        m:unlock()
      end)
      treadle.go(sema.acquire, sema)
      treadle.go(ticker.recv, ticker)
      treadle.timer(100)
    end
    treadle.timeout(0.001, treadle.sleep, 10)
    pcall(treadle.scope, function(s)
      s:go(treadle.sleep, 10)
      s:go(error, "scope")
    end)
  end, { on_error = function() end })
end

describe("rounds of everything", function()
  it("leave nothing behind", function()
    for _ = 1, 3 do one_round() end
    local before = numbers()
    local ok, why
    for _ = 1, 5 do -- a dead stack slot may keep the last round's for another
      for _ = 1, 10 do one_round() end
      ok, why = pcall(no_more, before)
      if ok then break end
    end
    assert.is_true(ok, why)
  end)

  it("reach a plateau of memory", function()
    for _ = 1, 15 do one_round() end
    local heap, memory
    for _ = 1, 3 do -- what leaks grows each time, what the compiler makes of the test does not
      helper.collect()
      local lua, resident = collectgarbage "count", helper.resident()
      for _ = 1, 40 do one_round() end
      helper.collect()
      heap, memory = collectgarbage "count" - lua, helper.resident() - resident
      if heap < 200 and memory < 4096 then break end
    end
    assert.is_true(heap < 200, "the Lua heap grew")
    assert.is_true(memory < 4096, "resident memory grew")
  end)

  it("that fail in every way leave nothing behind", function()
    local function fail()
      pcall(treadle.run, function()
        treadle.go(error, {})
        local ch = treadle.chan()
        for _ = 1, 10 do treadle.go(ch.recv, ch) end
        treadle.listen("tcp", "127.0.0.1:0")
        error "main"
      end, { on_error = function() end })
    end
    for _ = 1, 3 do fail() end
    local before = numbers()
    for _ = 1, 50 do fail() end
    no_more(before)
  end)
end)

describe("inside one run", function()
  it("goroutines and connections come and go without trace", helper.inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      for conn in listener:accepts() do treadle.go(function() conn:write(conn:read "l", "\n") conn:close() end) end
    end)
    local function round()
      local wg = treadle.waitgroup()
      for _ = 1, 100 do
        wg:go(function()
          local conn = assert(treadle.dial("tcp", listener:address()))
          conn:write "hello\n"
          assert(conn:read "a" == "hello\n")
          conn:close()
        end)
      end
      wg:wait()
      treadle.sleep(0.005)
    end
    for _ = 1, 3 do round() end
    local before = numbers()
    for _ = 1, 10 do round() end
    no_more(before)
  end))
end)

describe("the end of the process", function()
  it("with goroutines parked and objects alive is quiet", function()
    for _, ending in ipairs { "", "os.exit(0)", "os.exit(0, true)", "collectgarbage()" } do
      local out, status = helper.script([[
        local treadle = require "treadle"
        keep = { treadle.shared_chan(1), treadle.mutex(), treadle.waitgroup() }
        keep.semaphore, keep.cond = treadle.semaphore(1), treadle.cond(keep[2])
        treadle.run(function()
          keep.timer, keep.ticker = treadle.timer(100), treadle.timer(0, 0.001)
          local listener = treadle.listen("tcp", "127.0.0.1:0")
          keep[4], keep[5] = listener, treadle.dial("tcp", listener:address())
          keep[6] = treadle.chan(1)
          keep[6]:send(keep)
          treadle.go(function() keep[6]:send(1) end)
          treadle.yield()
        end)
        ]] .. ending)
      assert.equal("", out, ending)
      assert.equal(0, status, ending)
    end
  end)

  it("in the middle of a run is quiet too", function()
    local out, status = helper.script [[
      local treadle = require "treadle"
      treadle.run(function()
        for _ = 1, 10 do treadle.go(treadle.sleep, 100) end
        treadle.yield()
        os.exit(7, true)
      end)]]
    assert.equal("", out)
    assert.equal(7, status)
  end)

  it("by Ctrl-C unwinds the goroutines first", function()
    local out, status = helper.script [[
      local ffi = require "ffi"
      ffi.cdef "int getpid(void); int kill(int pid, int signal);"
      local treadle = require "treadle"
      local ok, err = pcall(treadle.run, function()
        treadle.go(function()
          treadle.sleep(100)
          print "unwound"
        end)
        os.execute("(sleep 0.1; kill -INT " .. ffi.C.getpid() .. ") &")
        treadle.sleep(100)
      end)
      print(ok, err)]]
    assert.matches("unwound\nfalse\t.*interrupted!", out)
    assert.equal(0, status)
  end)
end)

describe("seeing inside", function()
  it("counts and dumps", helper.inside(function()
    local task = treadle.go(treadle.sleep, 100)
    task:set_name "a sleeper"
    treadle.yield()
    local path = os.tmpname()
    local out = helper.script [[
      local treadle = require "treadle"
      treadle.run(function()
        treadle.go(treadle.sleep, 100):set_name "a sleeper"
        treadle.yield()
        treadle.dump(1)
      end)]]
    os.remove(path)
    assert.matches("a sleeper", out)
    assert.is_true(treadle.num_goroutines() >= 2)
    assert.is_true(treadle.metric "tasks" >= 2)
    helper.raises(function() treadle.metric "nonsense" end, "leak_spec.lua:%d+: treadle: there is no metric nonsense")
    helper.raises(function() treadle.metric() end, "there is no metric nil")
    helper.raises(function() treadle.dump "x" end, "leak_spec.lua:%d+: treadle: dump expects")
    assert.is_nil((treadle.dump(-1)))
    helper.raises(function() task:set_name(5) end, "leak_spec.lua:%d+: treadle: a name must be a string")
  end))
end)
