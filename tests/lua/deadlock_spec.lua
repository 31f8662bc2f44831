-- A run in which nothing can happen any more ends with an error and the
-- tracebacks; one in which something may still happen does not.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises, script = helper.inside, helper.raises, helper.script

local MESSAGE = "treadle: all goroutines are asleep %- deadlock!"

--- Runs the body as the main function of a run in a process of its own.
local function run(body)
  return script(([[
    local ffi = require "ffi"
    local treadle = require "treadle"
    ffi.cdef "int usleep(unsigned int);"
    local ok, err = pcall(treadle.run, function() %s end)
    print(ok and "fine" or err)
  ]]):format(body))
end

local function stuck(body)
  local out, status = run(body)
  assert.equal(0, status)
  assert.matches("\n" .. MESSAGE .. "\n$", "\n" .. out) -- the error
  local _, times = out:gsub(MESSAGE .. "\n\n", "") -- the report
  assert.equal(1, times, out)
  return out
end

local function goes_on(body)
  local out = run(body)
  assert.equal("fine\n", out)
end

describe("a deadlock", function()
  it("ends a run whose function waits for nothing", function()
    local out = stuck [[
      local function forever(ch) local v = ch:recv() return v end
      forever(treadle.chan())
    ]]
    assert.matches("goroutine %d+ %[chan receive, 0x%x+, %d+ ms%].*in function 'forever'", out)
  end)

  it("is one of all goroutines together, each with its traceback", function()
    local out = stuck [[
      local a, b = treadle.chan(), treadle.chan()
      local m, wg = treadle.mutex(), treadle.waitgroup()
      m:lock()
      wg:add(1)
      local function first() b:recv() a:send(1) end
      local function second() a:recv() b:send(1) end
      local t = treadle.go(function() first() return 1 end)
      treadle.go(function() second() return 1 end)
      treadle.go(function() m:lock() end)
      treadle.go(function() wg:wait() end)
      t:join()
    ]]
    assert.matches("in function 'first'", out)
    assert.matches("in function 'second'", out)
    assert.matches("%[sync.Mutex.Lock, 0x%x+, %d+ m?s, held by goroutine %d+%]", out)
    assert.matches("%[sync.WaitGroup.Wait, 0x%x+", out)
    local _, tracebacks = out:gsub("%[C%]: in function 'yield'", "")
    assert.equal(5, tracebacks)
  end)

  it("may come late", function()
    stuck [[
      treadle.sleep(0.05)
      local ch = treadle.chan()
      treadle.go(function() treadle.sleep(0.05) end)
      ch:recv()
    ]]
  end)

  it("is raised, and the goroutines unwound, in the order of any cancellation", function()
    local out = stuck [[
      local ch = treadle.chan()
      treadle.go(function() print("told", select(2, ch:send(1))) end)
      treadle.chan():recv()
    ]]
    assert.matches("told\tcancelled", out)
  end)

  it("leaves the state fit for another run", function()
    local out = script [[
      local treadle = require "treadle"
      for _ = 1, 3 do print((pcall(treadle.run, function() treadle.chan():recv() end))) end
      print(treadle.run(function() return treadle.go(function() return 7 end):join() end))
    ]]
    local _, times = out:gsub("false\n", "")
    assert.equal(3, times)
    assert.matches("\n7\n", out)
  end)

  it("is none while a timer, a deadline or a descriptor may bring something", function()
    goes_on [[
      local ch = treadle.chan()
      treadle.go(function() treadle.sleep(0.2) ch:send(1) end)
      assert(ch:recv() == 1)
    ]]
    goes_on [[ assert(select(3, treadle.chan():recv(0.2)) == "timeout") ]]
    goes_on [[
      local listener = treadle.listen("tcp", "127.0.0.1:0")
      os.execute(("bash -c 'sleep 0.2; : > /dev/tcp/127.0.0.1/%s' &"):format(listener:address():match ":(%d+)$"))
      assert(listener:accept())
    ]]
  end)

  it("is none as long as there is a thread that might do something", function()
    local out = stuck [[
      ffi.cdef "int pthread_create(unsigned long *, void *, void *, void *);"
      local thread, begin = ffi.new "unsigned long[1]", treadle.now()
      local sleep, us = ffi.cast("void *", ffi.C.usleep), ffi.cast("void *", 200000)
      assert(ffi.C.pthread_create(thread, nil, sleep, us) == 0)
      treadle.chan():recv()
      print(treadle.now() - begin > 0.199 and "late enough" or "early")
    ]]
    assert.matches("late enough", out)
  end)
end)

describe("a circle of mutexes", function()
  it("is an error for the goroutine that closed it, and the others go on", inside(function()
    local a, b = treadle.mutex(), treadle.mutex()
    local function both(x, y)
      return function()
        x:lock()
        treadle.yield()
        local ok, err = pcall(y.lock, y)
        if ok then y:unlock() end
        x:unlock()
        return ok, err
      end
    end
    local t, u = treadle.go(both(a, b)), treadle.go(both(b, a))
    local ok, err = t:join()
    local ok2, err2 = u:join()
    assert.not_equal(ok, ok2)
    assert.matches("treadle: deadlock: ", ok and err2 or err)
  end))

  it("of one: who locks what he has locked", inside(function()
    local m = treadle.mutex()
    m:lock()
    raises(function() m:lock() end, "deadlock_spec.lua:%d+: treadle: deadlock")
    m:unlock()
  end))

  it("is none when another unlocks it, or it was disowned", inside(function()
    local m = treadle.mutex()
    m:lock()
    treadle.go(function() treadle.sleep(0.05) m:unlock() end)
    assert.is_true(m:lock())
    m:disown()
    treadle.go(function() treadle.sleep(1.3) m:unlock() end)
    assert.is_true(m:lock())
    m:unlock()
    raises(function() m:disown() end, "disown of an unlocked mutex")
  end))
end)
