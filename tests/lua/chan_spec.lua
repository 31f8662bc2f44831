-- Channels of one lua_State.
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

--- Runs f for a moment: whether it was still blocked then.
local function blocks(f)
  local task = treadle.go(f)
  local _, err = task:join(0.01)
  task:cancel()
  task:join()
  return err == "timeout"
end

describe("a channel", function()
  it("A1: sieves primes, unbuffered and buffered", inside(function()
    local function filter(from, to, prime)
      for n in from:iter() do
        if n % prime ~= 0 and not to:send(n) then return end
      end
    end
    for cap = 0, 1 do
      local primes, first = {}, treadle.chan(cap)
      local ch = first
      local source = treadle.go(function()
        local n = 2
        while ch and first:send(n) do n = n + 1 end
      end)
      for i = 1, 25 do
        local prime = ch:recv()
        primes[i] = prime
        local out = treadle.chan(cap)
        treadle.go(filter, ch, out, prime)
        ch = out
      end
      source:cancel()
      assert.same({ 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97 }, primes)
    end
  end))

  it("A3: is first in, first out", inside(function()
    local ch = treadle.chan(10)
    for i = 0, 9 do ch:send(i) end
    for i = 0, 9 do assert.equal(i, (ch:recv())) end
    local rendezvous, got = treadle.chan(), {}
    for i = 1, 10 do treadle.go(function() got[i] = (rendezvous:recv()) end) end
    treadle.yield()
    for i = 0, 9 do rendezvous:send(i) end
    treadle.yield()
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }, got)
  end))

  it("A4: passes a value along a chain of 10,000 goroutines", inside(function()
    local right = treadle.chan()
    local first = right
    for _ = 1, 10000 do
      local left = treadle.chan()
      treadle.go(function(to, from) to:send(1 + (from:recv())) end, right, left)
      right = left
    end
    treadle.go(function() right:send(0) end)
    assert.equal(10000, (first:recv()))
  end))

  it("A14: blocks, drains and closes as it should for capacities to 60", inside(function()
    for cap = 0, 60, 3 do
      local ch = treadle.chan(cap)
      assert.equal(cap, ch:cap())
      assert.is_true(blocks(function() ch:recv() end))
      assert.is_nil(treadle.try_select { ch:recv_op() })
      for i = 1, cap do assert.is_true(ch:send(i)) end
      assert.equal(cap, ch:len())
      assert.is_true(blocks(function() ch:send(0) end))
      assert.is_nil(treadle.try_select { ch:send_op(0) })
      assert.is_true(ch:close())
      assert.is_true(ch:closed())
      for i = 1, cap do assert.same({ i, true }, { ch:recv() }) end
      for _ = 1, 3 do assert.same({ nil, false, nil }, { ch:recv() }) end
      assert.equal(cap, ch:cap())
      assert.equal(0, ch:len())
    end
  end))

  it("A14: carries each of 4 x 1000 values once from 4 producers to 4 consumers", inside(function()
    for cap = 0, 3 do
      local ch, counts = treadle.chan(cap), {}
      local producers, consumers = treadle.waitgroup(), treadle.waitgroup()
      for _ = 1, 4 do
        producers:go(function() for i = 1, 1000 do ch:send(i) end end)
        consumers:go(function() for i in ch:iter() do counts[i] = (counts[i] or 0) + 1 end end)
      end
      producers:wait()
      ch:close()
      consumers:wait()
      for i = 1, 1000 do assert.equal(4, counts[i]) end
    end
  end))

  it("carries any value, nil and false too, and the same object", inside(function()
    local ch = treadle.chan(1)
    local object = {}
    for _, value in ipairs { object, print, "text", 0, -0.5, false, coroutine.create(print) } do
      ch:send(value)
      assert.same({ value, true }, { ch:recv() })
    end
    ch:send(nil)
    local value, ok = ch:recv()
    assert.is_nil(value)
    assert.is_true(ok)
    ch:send(object)
    assert.equal(object, (ch:recv()))
  end))

  it("wakes all that wait when it is closed", inside(function()
    local ch, full, woken = treadle.chan(), treadle.chan(1), {}
    full:send "stays"
    for i = 1, 3 do
      treadle.go(function() woken[i] = { ch:recv() } end)
      treadle.go(function() woken[i + 3] = { full:send(i) } end)
    end
    treadle.yield()
    assert.is_true(ch:close())
    assert.is_true(full:close())
    treadle.yield()
    for i = 1, 3 do
      assert.same({ nil, false }, woken[i])
      assert.same({ nil, "closed" }, woken[i + 3])
    end
    assert.same({ "stays", true }, { full:recv() })
    assert.same({ nil, false }, { full:recv() })
  end))

  it("A24: tells closing twice and sending when closed apart", inside(function()
    for cap = 0, 1 do
      local ch = treadle.chan(cap)
      assert.is_true(ch:close())
      assert.same({ nil, "closed" }, { ch:close() })
      assert.same({ nil, "closed" }, { ch:send(1) })
      assert.same({ nil, "closed" }, { ch:close() })
      assert.same({ nil, "closed" }, { ch:send(1) })
    end
  end))

  it("ends iter when it is closed, and at a nil", inside(function()
    local ch, got = treadle.chan(4), {}
    for i = 1, 2 do ch:send(i) end
    ch:send(nil)
    ch:send(4)
    ch:close()
    for value in ch:iter() do got[#got + 1] = value end
    for value in ch:iter() do got[#got + 1] = value end
    for value in ch:iter() do got[#got + 1] = value end
    assert.same({ 1, 2, 4 }, got)
  end))

  it("takes timeouts", inside(function()
    local ch = treadle.chan()
    local begin = treadle.now()
    assert.same({ nil, nil, "timeout" }, { ch:recv(0.02) })
    assert.same({ nil, "timeout" }, { ch:send("x", 0.02) })
    assert.is_true(treadle.now() - begin >= 0.04)
    assert.same({ nil, nil, "timeout" }, { ch:recv(0) })
    assert.same({ nil, nil, "timeout" }, { ch:recv(-1) })
    treadle.go(function() ch:send "y" end)
    assert.equal("y", (ch:recv(5)))
    treadle.go(function() ch:send "z" end)
    assert.equal("z", (ch:recv(math.huge)))
    assert.has_error(function() ch:recv(0 / 0) end)
    assert.has_error(function() ch:recv "soon" end)
  end))

  it("does not keep a value whose send timed out or was cancelled", inside(function()
    local ch, weak = treadle.chan(), setmetatable({}, { __mode = "v" })
    weak[1], weak[2] = {}, {}
    ch:send(weak[1], 0.001)
    local task = treadle.go(function() ch:send(weak[2]) end)
    treadle.yield()
    task:cancel()
    task:join()
    task = nil
    helper.collect()
    assert.is_nil(weak[1])
    assert.is_nil(weak[2])
    assert(ch, task)
  end))

  it("does not keep a value that was received", inside(function()
    local ch, weak = treadle.chan(1), setmetatable({}, { __mode = "v" })
    weak[1] = {}
    ch:send(weak[1])
    helper.collect()
    assert.is_table(weak[1])
    ch:recv()
    helper.collect()
    assert.is_nil(weak[1])
  end))

  it("that is dropped takes its values with it, itself among them", inside(function()
    local weak = setmetatable({}, { __mode = "v" })
    helper.collect()
    local before = treadle.metric "channels"
    do
      local ch = treadle.chan(2)
      weak[1], weak[2] = ch, {}
      ch:send(ch)
      ch:send(weak[2])
    end
    helper.collect()
    helper.collect()
    assert.is_nil(weak[1])
    assert.is_nil(weak[2])
    assert.equal(before, treadle.metric "channels")
  end))

  it("frees its core channel when it is closed and drained", inside(function()
    collectgarbage "stop"
    local before = treadle.metric "channels"
    for _ = 1, 100 do
      local ch = treadle.chan(1)
      ch:send(1)
      ch:close()
      ch:recv()
      ch:recv()
    end
    assert.equal(before, treadle.metric "channels")
    collectgarbage "restart"
  end))

  it("may be made before run, and is ready inside", function()
    local ch = treadle.chan(1)
    raises(function() ch:len() end, "chan_spec.lua:%d+: .*only inside treadle.run")
    treadle.run(function()
      treadle.go(function() ch:send "early" end)
      assert.equal("early", (ch:recv()))
    end)
  end)

  it("outlives its run, with its values", function()
    local ch, object = nil, {}
    treadle.run(function()
      ch = treadle.chan(1)
      ch:send(object)
      treadle.go(function() ch:send "cancelled with the run" end)
      treadle.yield()
    end)
    assert.equal(1, ch:len())
    treadle.run(function()
      assert.equal(object, (ch:recv()))
      assert.is_nil(treadle.try_select { ch:recv_op() })
      treadle.go(function() ch:send "again" end)
      assert.equal("again", (ch:recv()))
    end)
    assert.is_true(ch:close())
  end)

  it("refuses a capacity that is none", function()
    for _, cap in ipairs { -1, 1.5, 2 ^ 26 + 1, "4", {}, 0 / 0, math.huge } do
      raises(function() treadle.chan(cap) end, "chan_spec.lua:%d+: treadle: the capacity of a channel")
      raises(function() treadle.shared_chan(cap) end, "chan_spec.lua:%d+: treadle: the capacity of a channel")
    end
  end)
end)
