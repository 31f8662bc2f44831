-- What LuaJIT makes of the hot paths: no trace may be aborted in treadle's own
-- files, and everything works with the compiler off or overeager.
local helper = require "helper"

local watch = [[
  local trace = require "treadle.trace"
  trace.start()
  function report()
    local list, started = trace.stop()
    print(started > 0 and "traced" or "nothing was traced")
    for _, abort in ipairs(list) do
      local where = abort.where:match "/(treadle/%w+%.lua:%d+)$"
      if where then print(abort.count .. " x " .. where .. ": " .. abort.reason) end
    end
  end
]]

local ping_pong = [[
  local treadle = require "treadle"
  treadle.run(function()
    local ping, pong = treadle.chan(), treadle.chan()
    treadle.go(function() for v in ping:iter() do pong:send(v) end pong:close() end)
    for i = 1, 30000 do
      ping:send(i)
      assert(pong:recv() == i)
    end
    ping:close()
    local buffered = treadle.chan(64)
    local producer = treadle.go(function() for i = 1, 30000 do buffered:send(i) end end)
    for i = 1, 30000 do assert(buffered:recv() == i) end
    producer:join()
  end)
]]

local echo = [[
  local treadle = require "treadle"
  treadle.run(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      for conn in listener:accepts() do
        treadle.go(function()
          local data = conn:read_some()
          while data and conn:write(data) do data = conn:read_some() end
          conn:close()
        end)
      end
    end)
    local wg = treadle.waitgroup()
    for _ = 1, 16 do
      wg:go(function()
        local conn = assert(treadle.dial("tcp", listener:address()))
        for i = 1, 500 do
          assert(conn:write "0123456789\n")
          assert(conn:read "l" == "0123456789")
        end
        conn:close()
      end)
    end
    wg:wait()
  end)
]]

local sync = [[
  local treadle = require "treadle"
  treadle.run(function()
    local m, s, turn, wg = treadle.mutex(), treadle.semaphore(2), 0, treadle.waitgroup()
    local c, t = treadle.cond(m), treadle.timer(100)
    for me = 0, 2 do
      wg:go(function()
        for i = 1, 1000 do
          m:lock()
          while turn ~= me do c:wait() end
          turn = (turn + 1) % 3
          c:broadcast()
          m:unlock()
          s:acquire(1)
          treadle.yield()
          s:release(1)
        end
      end)
    end
    wg:wait()
    for i = 1, 3000 do
      t:reset(100)
      t:stop()
      t:reset(0)
      assert(t:recv())
      assert(s:try_acquire() and s:release())
    end
  end)
]]

local timers = [[
  local treadle = require "treadle"
  treadle.run(function()
    local wg = treadle.waitgroup()
    local t, ch = treadle.timer(100), treadle.chan()
    for me = 1, 8 do
      wg:go(function()
        for i = 1, 600 do
          treadle.sleep(i % 3 * 1e-5)
          local _, ok, err = ch:recv(1e-6)
          assert(ok == nil and err == "timeout")
          treadle.yield_if_due()
        end
      end)
    end
    wg:go(function()
      for i = 1, 3000 do
        t:reset(50)
        t:stop()
      end
    end)
    wg:wait()
  end)
]]

local bytes = [[
  local treadle = require "treadle"
  local found, buffer = pcall(require, "string.buffer")
  treadle.run(function()
    local a, b = treadle.pipe(4096)
    treadle.go(function() for i = 1, 5000 do a:write "0123456789\n" end a:close() end)
    local n, into = 0, found and buffer.new()
    while true do
      local p, have = b:peek(11)
      if not p then break end
      assert(have >= 11 and p[10] == 10)
      if found and n % 2 == 0 then into:reset() assert(b:read_into(into, 11)) else assert(b:skip(11)) end
      n = n + 1
    end
    assert(n == 5000)
  end)
]]

local yields = [[
  local treadle = require "treadle"
  treadle.run(function()
    local wg = treadle.waitgroup()
    for _ = 1, 50 do wg:go(function() for _ = 1, 1000 do treadle.yield() end end) end
    wg:wait()
  end)
]]

--- Aborts that have a reason, and do not end in the interpreter for good.
local function tolerated(line)
  return line:find "leaving loop in root trace" -- the recorder looks for a better start
    or line:find "inner loop in root trace"
    or line:find "loop unroll limit reached"
end

--- Runs the program: where and why traces were aborted, as a set; with `among`,
--- of those only.
local function aborts(program, among)
  local out, status = helper.script(watch .. program .. " report()")
  assert.equal(0, status, out)
  assert.matches("^traced\n", out)
  local found = {}
  for line in out:gmatch "[^\n]+" do
    local what = line:match "^%d+ x (.*)"
    if what and not tolerated(what) and (not among or among[what]) then found[what] = true end
  end
  return found
end

describe("the compiler", function()
  for name, program in pairs { ["channel ping-pong"] = ping_pong, echo = echo, yields = yields, sync = sync,
    ["timer churn"] = timers, ["reads without strings"] = bytes } do
    -- Where a trace begins depends on the addresses of the process, so a run may
    -- have an abort of its own. One that comes in each run is ours.
    it("aborts no trace in treadle's files: " .. name, function()
      local bad
      for _ = 1, 3 do
        bad = aborts(program, bad)
        if next(bad) == nil then break end
      end
      assert.same({}, bad)
    end)
  end

  it("says where it gave traces up, and why", function()
    local out = helper.script [[
      local trace = require "treadle.trace"
      print(pcall(trace.stop))
      trace.start()
      print(pcall(trace.start))
      local all = {}
      for i = 1, 1000 do all[i] = function() return i end end
      local list, started = trace.stop()
      assert(started > 0 and #list == 1 and list[1].count > 0, #list)
      print(trace.report(list, started))
      for i = 1, 1000 do all[i] = function() return i end end -- not counted any more
    ]]
    assert.matches("false\t[^\n]*trace.stop without trace.start\nfalse\t[^\n]*called already\n", out)
    assert.matches("%d+ traces begun, given up at 1 places\n +%d+  [^\n]*:6: NYI: bytecode FNEW\n$", out)
  end)

  it("off, overeager or with a strained collector, all works the same", function()
    local prefix = "collectgarbage('setpause', 0) collectgarbage('setstepmul', 1000) "
    for _, case in ipairs { { "-joff", "" }, { "-Ohotloop=1 -Ohotexit=1", "" }, { "-joff", prefix }, { "-O3", prefix } } do
      for name, program in pairs { ping_pong = ping_pong, echo = echo, yields = yields, sync = sync, timers = timers, bytes = bytes } do
        program = program:gsub("30000", "3000"):gsub("1000 do", "200 do")
        local out, status = helper.script(case[2] .. program, case[1])
        assert.equal("", out, name .. " " .. case[1])
        assert.equal(0, status, name .. " " .. case[1])
      end
    end
  end)
end)
