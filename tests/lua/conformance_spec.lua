-- Scenarios of the conformance list that no other file is about: see README.md.
local ffi = require "ffi"
local helper = require "helper"
local treadle = require "treadle"
local inside = helper.inside

ffi.cdef "int waitpid(int pid, int *status, int options);"

describe("select", function()
  it("A12: every form of a case gives the value, or its end", inside(function()
    for _, capacity in ipairs { 0, 1 } do
      local forms = {
        function(ch) return ch:recv() end,
        function(ch)
          local _, value, ok = treadle.select { ch:recv_op() }
          return value, ok
        end,
        function(ch)
          local _, value, ok = treadle.select { treadle.chan():recv_op(), ch:recv_op() }
          return value, ok
        end,
        function(ch)
          local i, value, ok = treadle.select { treadle.after_op(1000), ch:recv_op() }
          assert.equal(2, i)
          return value, ok
        end,
        function(ch) -- its value is not looked at
          treadle.select { ch:recv_op() }
          return "unseen", true
        end,
      }
      for n, receive in ipairs(forms) do
        local ch = treadle.chan(capacity)
        local sender = treadle.go(function()
          local evaluated = {}
          local function value(of)
            evaluated[#evaluated + 1] = of
            return of
          end
          local other = treadle.chan()
          treadle.select { other:send_op(value(1)), ch:send_op(value(2)), other:send_op(value(3)) }
          ch:close()
          return evaluated
        end)
        assert.same({ n == 5 and "unseen" or 2, true }, { receive(ch) })
        assert.same({ 1, 2, 3 }, sender:join()) -- each once, in their order
        if n < 5 then
          local value, ok = receive(ch)
          assert.is_nil(value)
          assert.is_false(ok)
        end
      end
    end
  end))

  it("A15: a try beside a close finds the item or the end", inside(function()
    local asked, said = treadle.shared_chan(), treadle.shared_chan()
    local worker = treadle.spawn(function(from, to)
      local lib = require "treadle"
      for ch in from:iter() do
        local i, value, ok = lib.try_select { ch:recv_op() }
        to:send(i == nil and "neither" or ok and "item " .. value or "end")
      end
    end, asked, said)
    local seen = {}
    for _ = 1, 200 do
      local ch = treadle.shared_chan(1)
      ch:send(7)
      asked:send(ch)
      ch:close()
      treadle.try_select { ch:recv_op() }
      local what = said:recv()
      seen[what] = (seen[what] or 0) + 1
    end
    asked:close()
    worker:join()
    assert.equal(200, (seen["item 7"] or 0) + (seen["end"] or 0), "some found neither")
  end))
end)

describe("what is written before a send", function()
  it("A23: is seen after the receive, in another state, by each way to wait", inside(function()
    local memory = ffi.new "volatile int64_t[2]"
    local there, back = treadle.shared_chan(), treadle.shared_chan(1)
    local worker = treadle.spawn(function(address, from, to)
      local lib = require "treadle"
      local words = require "ffi".cast("volatile int64_t *", address)
      local wrong = 0
      for i = 1, 400 do
        local n
        if i % 2 == 0 then n = from:recv() else n = select(2, lib.select { from:recv_op(), lib.after_op(1000) }) end
        if words[0] ~= n then wrong = wrong + 1 end
        words[1] = n
        to:send(n)
      end
      return wrong
    end, ffi.cast("void *", memory), there, back)
    for i = 1, 400 do
      memory[0] = i
      there:send(i)
      assert.equal(i, back:recv())
      assert.equal(i, tonumber(memory[1]))
    end
    assert.equal(0, worker:join())
  end))
end)

describe("a connection's time limit", function()
  it("D5: of nothing fails at once what would wait, and is taken back", inside(function()
    local near, far = helper.pair()
    near:settimeout(0)
    for _ = 1, 3 do assert.same({ nil, "timeout", "" }, { near:read(1) }) end
    near:settimeout()
    for i = 1, 10 do
      near:write(i, "\n")
      assert.equal(tostring(i), far:read "l")
      far:write(i * 2, "\n")
      assert.equal(tostring(i * 2), near:read "l")
    end
    near:close()
    far:close()
  end))

  it("D12, D13: of nothing is over before what is ready, and takes nothing", inside(function()
    local near, far = helper.pair()
    far:write "0123456789"
    assert.equal("01234", near:read(5)) -- it has all come
    near:settimeout(0)
    local got = ""
    for _ = 1, 5 do
      local data, err, part = near:read(2)
      assert.is_true(data ~= nil or err == "timeout")
      got = got .. (data or part)
    end
    local n, err, written = near:write "x"
    assert.is_true(n == 1 or err == "timeout" and written == 0)
    near:settimeout()
    assert.equal("56789", got .. near:read(5 - #got))
    near:close()
    far:close()
  end))

  it("D14, D17: again and again is never early, and long ones never come", inside(function()
    local near, far = helper.pair()
    near:settimeout(0.01)
    for _ = 1, 20 do
      local begun = treadle.now()
      assert.same({ nil, "timeout", "" }, { near:read(1) })
      assert.is_true(treadle.now() - begun >= 0.01)
    end
    for i = 1, 500 do
      near:settimeout(3600 + i)
      far:settimeout(3600 - i)
      near:write "ping"
      assert.equal("ping", far:read(4))
    end
    near:close()
    far:close()
  end))
end)

describe("dialling", function()
  --- A listener whose backlog is full: further dials wait. And those that fill it.
  local function full()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0", { backlog = 1 }))
    local held = {}
    for _ = 1, 64 do
      local conn, err = treadle.dial("tcp", listener:address(), { timeout = 0.05 })
      if not conn then return listener, held, err end
      held[#held + 1] = conn
    end
  end

  it("D18, D20: times out, and is cancelled, on its way", inside(function()
    local listener, held, err = full()
    if not listener then return pending "no backlog is ever full here" end
    assert.equal("timeout", err)
    local conn, why, text
    for _ = 1, 64 do -- on a slow machine it may not have been full yet
      local dialling = treadle.go(treadle.dial, "tcp", listener:address())
      treadle.sleep(0.01)
      dialling:cancel()
      conn, why, text = dialling:join()
      if not conn then break end
      held[#held + 1] = conn
    end
    assert.same({ nil, "cancelled", ("dial tcp %s: cancelled"):format(listener:address()) }, { conn, why, text })
    listener:close()
    for _, one in ipairs(held) do one:close() end
  end))

  it("D25: an accept passes over who has gone already", function()
    local out = helper.script [[
      local treadle = require "treadle"
      assert(treadle.fault_set "seed=2,aborted=0.5,eintr=0.5,most=40")
      treadle.run(function()
        local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
        local dialler = treadle.go(function()
          for _ = 1, 40 do assert(treadle.dial("tcp", listener:address())):close() end
        end)
        for _ = 1, 40 do assert(listener:accept()):close() end
        dialler:join()
        assert(treadle.fault_count "aborted" > 0)
        print "all"
      end)]]
    assert.equal("all\n", out)
  end)
end)

describe("streams", function()
  it("D28: two connections, 4,000 echoes of 512 bytes each", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      for conn in listener:accepts() do
        treadle.go(function()
          local data = conn:read(512)
          while data and conn:write(data) do data = conn:read(512) end
          conn:close()
        end)
      end
    end)
    local group = treadle.errgroup()
    for who = 1, 2 do
      group:go(function()
        local conn = assert(treadle.dial("tcp", listener:address()))
        for i = 1, 4000 do
          local sent = (("%d %d "):format(who, i)):rep(200):sub(1, 512)
          assert(conn:write(sent))
          if conn:read(512) ~= sent then error("not what was sent: " .. i) end
        end
        conn:close()
      end)
    end
    assert(group:wait())
    listener:close()
  end))

  it("D32: a table is written in its order, through full buffers, or fails once the peer has gone", inside(function()
    local near, far = helper.pair()
    near:setoption("write_buffer", 4096)
    local parts, whole = {}, {}
    for i = 1, 3000 do
      parts[i] = { i, ("x"):rep(i % 1000), { "\n" } }
      whole[i] = i .. ("x"):rep(i % 1000) .. "\n"
    end
    local text = table.concat(whole)
    local writing = treadle.go(function()
      local n = near:write(parts)
      near:shutdown "write"
      return n
    end)
    assert.is_true(far:read "a" == text)
    assert.equal(#text, writing:join())
    far:close()
    local n, err
    repeat n, err = near:write(parts) until not n
    assert.is_true(err == "broken pipe" or err == "connection reset", err)
    near:close()
  end))
end)

describe("a function called later", function()
  it("may set itself again, stop itself, and fail, without harm to the others", inside(function()
    local calls, again = 0, nil
    again = treadle.after_func(0.001, function()
      calls = calls + 1
      if calls < 5 then again:reset(0.001) end
    end)
    local failing = treadle.go(function()
      local beats = 0
      local ticker = treadle.timer(0.001, 0.001)
      while beats < 5 do
        assert(ticker:recv())
        beats = beats + 1
        pcall(error, "in its turn")
      end
      ticker:close()
      return beats
    end)
    local own
    own = treadle.after_func(0.001, function() return own:stop() end)
    assert.equal(5, failing:join())
    local limit = treadle.now() + 20
    while calls < 5 and treadle.now() < limit do treadle.sleep(0.001) end
    assert.equal(5, calls)
    for _ = 1, 100 do -- stopped, and at once set again
      again:stop()
      again:reset(1000)
    end
    again:stop()
  end))
end)

describe("processes", function()
  it("200 of them, and no zombie; what one reads slowly is written whole", inside(function()
    local group = treadle.errgroup(nil, 16)
    for i = 1, 200 do
      group:go(function()
        local p = assert(treadle.command { "sh", "-c", "exit " .. i % 5 })
        assert(p:wait() == i % 5)
        p:close()
      end)
    end
    assert(group:wait())
    assert.is_true(ffi.C.waitpid(-1, nil, 1) <= 0, "a zombie") -- WNOHANG
    local p = assert(treadle.command({ "sh", "-c", "sleep 0.02; wc -c" }, { stdin = "pipe", stdout = "pipe" }))
    local writing = treadle.go(function()
      local n = p.stdin:write(("x"):rep(2 ^ 20))
      p.stdin:close()
      return n
    end)
    assert.equal(2 ^ 20, tonumber(p.stdout:read "l"))
    assert.equal(2 ^ 20, writing:join())
    assert.equal(0, p:wait())
    p:close()
  end))
end)

describe("names", function()
  it("100 lookups at once, some of them called off", inside(function()
    local wg, found = treadle.waitgroup(), 0
    for i = 1, 100 do
      wg:go(function()
        local list = treadle.lookup(i % 2 == 0 and "localhost" or "127.0.0.1")
        if list then found = found + 1 end
      end)
    end
    local gone = treadle.go(treadle.lookup, "a.name.that.nobody.waits.for")
    treadle.yield()
    gone:cancel()
    local list, err = gone:join()
    assert.is_nil(list)
    assert.is_true(err == "cancelled" or err:find "^no " ~= nil, err) -- where it was over before that
    wg:wait()
    assert.equal(100, found)
  end))
end)

describe("a context's end", function()
  it("E9: from both sides at once, and of one whose parent has ended", inside(function()
    for _ = 1, 100 do
      local parent = treadle.background():with_cancel()
      local child = parent:with_cancel()
      local a = treadle.go(function() parent:cancel "from above" end)
      local b = treadle.go(function() child:cancel "from below" end)
      a:join()
      b:join()
      assert.equal("from above", parent:cause())
      assert.is_true(child:cause() == "from above" or child:cause() == "from below")
      assert.equal("cancelled", parent:with_cancel():err())
    end
  end))
end)
