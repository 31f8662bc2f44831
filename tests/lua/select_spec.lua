-- select, try_select, after_op.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

describe("select", function()
  it("receives, sends and times out", inside(function()
    local a, b = treadle.chan(1), treadle.chan(1)
    a:send "x"
    assert.same({ 1, "x", true }, { treadle.select { a:recv_op(), treadle.after_op(1) } })
    assert.same({ 2, nil, true }, { treadle.select { a:recv_op(), b:send_op(42), treadle.after_op(1) } })
    assert.equal(42, (b:recv()))
    local begin = treadle.now()
    assert.same({ 2, nil, true }, { treadle.select { a:recv_op(), treadle.after_op(0.02) } })
    assert.is_true(treadle.now() - begin >= 0.02)
  end))

  it("waits until one can go ahead", inside(function()
    local a, b = treadle.chan(), treadle.chan()
    treadle.go(function() treadle.sleep(0.005) b:send { "late" } end)
    local i, value, ok = treadle.select { a:recv_op(), b:recv_op() }
    assert.same({ 2, { "late" }, true }, { i, value, ok })
    treadle.go(function() treadle.sleep(0.005) a:recv() end)
    assert.same({ 1, nil, true }, { treadle.select { a:send_op "v", b:recv_op() } })
  end))

  it("tells a closed channel by ok", inside(function()
    for cap = 0, 1 do
      local ch = treadle.chan(cap)
      treadle.go(function() treadle.sleep(0.002) ch:close() end)
      assert.same({ 1, nil, false }, { treadle.select { ch:recv_op() } })
      assert.same({ 1, nil, false }, { treadle.select { ch:recv_op() } })
      assert.same({ 1, nil, false }, { treadle.select { ch:send_op(1) } })
      assert.same({ 1, nil, false }, { treadle.try_select { ch:send_op(1) } })
      assert.same({ 1, nil, false }, { treadle.try_select { ch:recv_op() } })
    end
  end))

  it("tells a nil that was sent from a closed channel", inside(function()
    local ch = treadle.chan(1)
    ch:send(nil)
    assert.same({ 1, nil, true }, { treadle.select { ch:recv_op() } })
  end))

  it("A7: cannot talk to itself", inside(function()
    local ch = treadle.chan()
    assert.same({ 3, nil, true }, { treadle.select { ch:recv_op(), ch:send_op(1), treadle.after_op(0.01) } })
    assert.is_nil(treadle.try_select { ch:recv_op(), ch:send_op(1) })
  end))

  it("A7: without a case waits for ever", inside(function()
    local task = treadle.go(function() return select(3, treadle.select {}) end)
    assert.same({ nil, "timeout" }, { task:join(0.01) })
    task:cancel()
    assert.equal("cancelled", task:join())
  end))

  it("A6: try never blocks, and succeeds when the peer is parked", inside(function()
    local ch = treadle.chan()
    assert.equal(0, select("#", treadle.try_select {}) - 1)
    assert.is_nil((treadle.try_select { ch:recv_op() }))
    assert.is_nil((treadle.try_select { ch:send_op(1) }))
    treadle.go(function() ch:send "from the parked" end)
    treadle.yield()
    assert.same({ 1, "from the parked", true }, { treadle.try_select { ch:recv_op() } })
    local got
    treadle.go(function() got = (ch:recv()) end)
    treadle.yield()
    assert.same({ 1, nil, true }, { treadle.try_select { ch:send_op "to the parked" } })
    treadle.yield()
    assert.equal("to the parked", got)
  end))

  it("A8: sends to what has room, once each", inside(function()
    local a, b = treadle.chan(1), treadle.chan(1)
    local sent = 0
    while treadle.try_select { a:send_op(1), b:send_op(1) } do sent = sent + 1 end
    assert.equal(2, sent)
    assert.equal(1, a:len())
    assert.equal(1, b:len())
  end))

  it("A9: leaves nothing on a quiet channel", inside(function()
    local quiet, busy = treadle.chan(), treadle.chan()
    treadle.go(function() for i = 1, 5000 do busy:send(i) end end)
    local function memory()
      jit.flush() -- what the compiler makes of the loop may be much
      helper.collect()
      return collectgarbage "count"
    end
    local before = memory()
    for _ = 1, 5000 do treadle.select { quiet:recv_op(), busy:recv_op() } end
    local grown = memory() - before
    assert.is_true(grown < 27, grown)
    assert.is_nil(treadle.try_select { quiet:send_op(1) }) -- nobody waits there
  end))

  it("A11: meets every form of the other side", inside(function()
    local idle = treadle.chan()
    for cap = 0, 1 do
      local ch = treadle.chan(cap)
      local senders = {
        function() ch:send(1) end,
        function() treadle.select { ch:send_op(1) } end,
        function() treadle.select { idle:recv_op(), ch:send_op(1) } end,
      }
      local receivers = {
        function() return (ch:recv()) end,
        function() return select(2, treadle.select { ch:recv_op() }) end,
        function() return select(2, treadle.select { idle:recv_op(), ch:recv_op() }) end,
      }
      for _, send in ipairs(senders) do
        for _, recv in ipairs(receivers) do
          treadle.go(send)
          assert.equal(1, recv())
          treadle.go(function() treadle.yield() send() end)
          assert.equal(1, recv())
        end
      end
    end
  end))

  it("A18: stress of 4 channels ends with exact counts", inside(function()
    local chans = { treadle.chan(), treadle.chan(), treadle.chan(2), treadle.chan(3) }
    local N, wg, sum = 2000, treadle.waitgroup(), 0
    for _, ch in ipairs(chans) do
      wg:go(function() for _ = 1, N do ch:send(1) end end)
      wg:go(function() for _ = 1, N do
          local value = ch:recv()
          sum = sum + value
        end end)
    end
    wg:go(function()
      local left, ops = { N, N, N, N }, {}
      for i, ch in ipairs(chans) do ops[i] = ch:send_op(1) end
      for _ = 1, 4 * N do
        local live, index = {}, {}
        for i = 1, 4 do
          if left[i] > 0 then live[#live + 1], index[#index + 1] = ops[i], i end
        end
        local i = index[(treadle.select(live))]
        left[i] = left[i] - 1
      end
    end)
    wg:go(function()
      local left = { N, N, N, N }
      for _ = 1, 4 * N do
        local live, index = {}, {}
        for i = 1, 4 do
          if left[i] > 0 then live[#live + 1], index[#index + 1] = chans[i]:recv_op(), i end
        end
        local i, value = treadle.select(live)
        left[index[i]] = left[index[i]] - 1
        sum = sum + value
      end
    end)
    wg:wait()
    assert.equal(8 * N, sum)
    for _, ch in ipairs(chans) do assert.equal(0, ch:len()) end
  end))

  it("A19: chooses fairly among what is ready", inside(function()
    local a, b, never = treadle.chan(1), treadle.chan(1), treadle.chan()
    local counts, trials = { 0, 0, 0, 0 }, 10000
    for _ = 1, trials do
      if a:len() == 0 then a:send(1) end
      if b:len() == 0 then b:send(1) end
      local i = treadle.select { a:recv_op(), never:recv_op(), b:recv_op(), never:recv_op() }
      counts[i] = counts[i] + 1
    end
    assert.equal(trials, counts[1] + counts[3])
    assert.is_true(math.abs(counts[1] / trials - 0.5) <= 0.0245 * 1.5, counts[1] .. " of " .. trials)
  end))

  it("A20: sends either of two values at random", inside(function()
    local ch, ones = treadle.chan(1), 0
    for _ = 1, 200 do
      treadle.select { ch:send_op(1), ch:send_op(0) }
      ones = ones + (ch:recv())
    end
    assert.is_true(ones > 20 and ones < 180)
  end))

  it("B7: sees the clock although two senders never rest", inside(function()
    local ch = treadle.chan()
    local senders = { treadle.go(function() while ch:send(1) do end end), treadle.go(function() while ch:send(1) do end end) }
    local limit, n = treadle.now() + 0.02, 0
    repeat
      local i = treadle.select { ch:recv_op(), treadle.after_op(limit - treadle.now()) }
      n = n + 1
    until i == 2 or treadle.now() > limit + 1
    assert.is_true(treadle.now() < limit + 1)
    assert.is_true(n > 10)
    for _, sender in ipairs(senders) do sender:cancel() end
  end))

  it("takes the earliest of several after_ops, wherever it stands", inside(function()
    local ch = treadle.chan()
    assert.same({ 3, nil, true },
      { treadle.select { treadle.after_op(5), ch:recv_op(), treadle.after_op(0.005), treadle.after_op(math.huge) } })
    assert.same({ 1, nil, true }, { treadle.select { treadle.after_op(0), ch:recv_op() } })
    assert.same({ 1, nil, true }, { treadle.select { treadle.after_op(-3), ch:recv_op() } })
    assert.same({ 2, nil, true }, { treadle.try_select { ch:recv_op(), treadle.after_op(0) } })
    assert.is_nil(treadle.try_select { ch:recv_op(), treadle.after_op(1) })
    ch = treadle.chan(1)
    ch:send "wins"
    assert.same({ 2, "wins", true }, { treadle.select { treadle.after_op(0), ch:recv_op() } })
  end))

  it("takes many cases", inside(function()
    local chans, ops = {}, {}
    for i = 1, 500 do
      chans[i] = treadle.chan()
      ops[i] = chans[i]:recv_op()
    end
    treadle.go(function() chans[333]:send "here" end)
    assert.same({ 333, "here", true }, { treadle.select(ops) })
  end))

  it("gives back what it did not send", inside(function()
    local ch, other, weak = treadle.chan(), treadle.chan(1), setmetatable({}, { __mode = "v" })
    weak[1] = {}
    treadle.select { ch:send_op(weak[1]), other:send_op(1) }
    treadle.try_select { ch:send_op(weak[1]) }
    helper.collect()
    assert.is_nil(weak[1])
    for i = 1, 1000 do treadle.try_select { ch:send_op(i) } end
    treadle.go(function() ch:send "right" end)
    assert.equal("right", (ch:recv()))
  end))

  it("waits for connections, descriptors and processes beside channels, and takes nothing of them", inside(function()
    local near, far = helper.pair()
    local ch = treadle.chan()
    local ffi = require "ffi"
    pcall(ffi.cdef, "int pipe(int *fds);")
    local ends = ffi.new "int[2]"
    assert.equal(0, ffi.C.pipe(ends))
    local out, into = treadle.fd(ends[0]), treadle.fd(ends[1])
    local process = assert(treadle.command({ "sh", "-c", "read x; exit 7" }, { stdin = "pipe" }))
    local function select() return treadle.select {
      ch:recv_op(), near:readable_op(), out:readable_op(), process:wait_op(), treadle.after_op(30),
    } end
    local before = treadle.num_goroutines()
    for round = 1, 3 do
      treadle.go(function() treadle.sleep(0.001) ch:send(round) end)
      assert.same({ 1, round, true }, { select() })
      far:write("line ", round, "\n")
      assert.same({ 2, true, true }, { select() })
      assert.equal("line " .. round, near:read "l")
      into:write "x"
      assert.same({ 3, true, true }, { select() })
      assert.equal("x", out:read())
    end
    assert.same({ 2, true, true }, { treadle.select { out:readable_op(), into:writable_op() } })
    process.stdin:write "\n"
    assert.same({ 4, 7, true }, { select() })
    assert.equal(7, process:wait())
    far:close()
    assert.same({ 1, true, true }, { treadle.select { near:readable_op(), treadle.after_op(30) } }) -- the end counts
    local waiting = treadle.go(treadle.select, { near:readable_op(), out:readable_op() })
    near:close()
    assert.same({ 1, "closed", false }, { treadle.select { near:readable_op() } })
    waiting:join()
    waiting = treadle.go(treadle.select, { out:readable_op(), ch:recv_op() })
    treadle.yield()
    waiting:cancel()
    assert.same({ nil, nil, "cancelled" }, { waiting:join() })
    local limit = treadle.now() + 10
    while treadle.num_goroutines() ~= before and treadle.now() < limit do treadle.sleep(0.001) end
    assert.equal(before, treadle.num_goroutines())
    raises(function() treadle.try_select { out:readable_op() } end, "select_spec.lua:%d+: treadle: try_select takes channels")
    process:close()
    for _, one in ipairs { out, into } do one:close() end
    local ok, err = pcall(treadle.select, { near:readable_op(), 7 })
    assert.is_false(ok)
    assert.matches("operation 2 is a number", err)
  end))

  it("D27: takes connections from listeners beside channels, and none that it does not return", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local ch, here = treadle.chan(1), listener:address()
    local before = treadle.num_goroutines()
    local function select() return treadle.select { ch:recv_op(), listener:accept_op(), treadle.after_op(30) } end
    for round = 1, 3 do
      ch:send(round)
      assert.same({ 1, round, true }, { select() })
      local near = assert(treadle.dial("tcp", here))
      local i, far, ok = select()
      assert.equal(2, i)
      assert.is_true(ok)
      near:write "hello\n"
      assert.equal("hello", far:read "l")
      near:close()
      far:close()
    end
    assert.same({ 2, nil, true }, { treadle.select { listener:accept_op(), treadle.after_op(0.01) } })
    -- one is there, and so is a value: whichever it is, the other stays
    local first = {}
    for _ = 1, 40 do
      local near = assert(treadle.dial("tcp", here))
      ch:send "value"
      local got = {}
      for turn = 1, 2 do
        local i, value = select()
        got[i] = value
        if turn == 1 then first[i] = true end
      end
      assert.equal("value", got[1])
      near:write "x"
      assert.equal("x", got[2]:read(1))
      near:close()
      got[2]:close()
    end
    assert.same({ true, true }, first)
    local limit = treadle.now() + 10
    while treadle.num_goroutines() ~= before and treadle.now() < limit do treadle.sleep(0.001) end
    assert.equal(before, treadle.num_goroutines())
    listener:close()
    assert.same({ 1, "closed", false }, { treadle.select { listener:accept_op(), treadle.after_op(30) } })
  end))

  it("shares a listener with other accepts: each connection comes once", inside(function()
    local N, listener = 60, assert(treadle.listen("tcp", "127.0.0.1:0"))
    local stop, taken, wg = treadle.chan(), treadle.chan(N), treadle.waitgroup()
    for _ = 1, 3 do
      wg:go(function()
        while true do
          local i, conn, ok = treadle.select { listener:accept_op(), stop:recv_op() }
          if i == 2 or not ok then return end
          taken:send(conn)
        end
      end)
    end
    wg:go(function() for conn in listener:accepts() do taken:send(conn) end end)
    local near = {}
    for i = 1, N do
      near[i] = assert(treadle.dial("tcp", listener:address()))
      near[i]:write(i, "\n")
    end
    local seen = {}
    for _ = 1, N do
      local conn = assert((taken:recv(30)))
      local i = tonumber(conn:read "l")
      assert.is_nil(seen[i])
      seen[i] = true
      conn:close()
    end
    stop:close()
    listener:close()
    wg:wait()
    assert.equal(0, taken:len())
  end))

  it("heeds a listener's time limit, and is cancelled in a wait for it", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    listener:settimeout(0.01)
    assert.same({ 1, "timeout", false }, { treadle.select { listener:accept_op(), treadle.chan():recv_op() } })
    listener:settimeout(nil)
    local waiting = treadle.go(treadle.select, { listener:accept_op() })
    treadle.yield()
    waiting:cancel()
    assert.same({ nil, nil, "cancelled" }, { waiting:join() })
    raises(function() treadle.try_select { listener:accept_op() } end, "select_spec.lua:%d+: treadle: try_select takes channels")
    listener:close()
  end))

  it("refuses what is no operation, at the caller's line", inside(function()
    local ch = treadle.chan()
    raises(function() treadle.select() end, "select_spec.lua:%d+: treadle: select expects a table")
    raises(function() treadle.select { ch } end, "select_spec.lua:%d+: treadle: operation 1 is a chan")
    raises(function() treadle.select { ch:recv_op(), 3 } end, "operation 2 is a number")
    raises(function() treadle.try_select "x" end, "select expects a table")
    raises(function() treadle.after_op "x" end, "select_spec.lua:%d+: treadle: seconds expected, got string")
    raises(function() treadle.after_op(0 / 0) end, "nan")
  end))
end)
