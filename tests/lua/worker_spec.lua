-- Workers: other lua_States on threads of their own.
local helper = require "helper"
local treadle = require "treadle"
local inside, raises = helper.inside, helper.raises

describe("a worker", function()
  it("calls a function with arguments, and its results arrive where it is joined", inside(function()
    local ch = treadle.shared_chan()
    local w = treadle.spawn(function(...)
      local n = select("#", ...)
      local a, b, c, d, e, f = ...
      return n, a + 1, b .. "!", c, d == nil, e.list[3] .. e.key, f:cap(), jit and jit.version_num
    end, 1, "b", true, nil, { list = { "x", "y", "z" }, key = "v" }, ch)
    assert.same({ 6, 2, "b!", true, true, "zv", 0, jit.version_num }, { w:join() })
    assert.equal(6, (w:join())) -- again
    assert.same({}, { treadle.spawn(function() end):join() })
  end))

  it("has a state of its own, with this one's paths", inside(function()
    _G.here = "here"
    local w = treadle.spawn(function()
      _G.there = "there"
      return _G.here, package.path
    end)
    assert.same({ nil, package.path }, { w:join() })
    assert.is_nil(rawget(_G, "there"))
    _G.here = nil
  end))

  it("calls a module's function", inside(function()
    local place = os.tmpname()
    os.remove(place)
    helper.shell("mkdir " .. place)
    local file = assert(io.open(place .. "/a_worker.lua", "w"))
    file:write "local base = 10 return function(n) return base + n end"
    file:close()
    local saved = package.path
    package.path = place .. "/?.lua;" .. saved
    local ok, sum = pcall(function() return (assert(treadle.spawn("a_worker", 5):join())) end)
    local _, err = treadle.spawn "string":join()
    local _, missing = treadle.spawn "no.such.module":join()
    package.path = saved
    helper.shell("rm -r " .. place)
    assert.is_true(ok, sum)
    assert.equal(15, sum)
    assert.matches("the module string returns no function", err)
    assert.matches("module 'no.such.module' not found", missing)
  end))

  it("tells its error to who joins it, and its run's loose ones", inside(function()
    local _, err = treadle.spawn(function() error "it broke" end):join()
    assert.matches("worker_spec.lua:%d+: it broke", err)
    _, err = treadle.spawn(function() error { code = 7 } end):join()
    assert.same({ code = 7 }, err)
    _, err = treadle.spawn(function() error(print) end):join()
    assert.matches("^function", err)
    _, err = treadle.spawn(function() return print end):join()
    assert.matches("a function cannot cross a shared channel", err)
    local i, cause, ok = treadle.select { treadle.spawn(function() error("selected", 0) end):join_op() }
    assert.same({ 1, "selected", false }, { i, cause, ok })
  end))

  it("takes no function with upvalues, no C function, nothing else", inside(function()
    local up = 1
    raises(function() treadle.spawn(function() return up end) end, 'worker_spec.lua:%d+: treadle: .*no upvalues.*"up"')
    raises(function() treadle.spawn(print) end, "cannot go to a worker")
    raises(function() treadle.spawn(5) end, "expects a function or the name of a module")
    raises(function() treadle.spawn(function() end, print) end, "cannot cross a shared channel")
    raises(function() treadle.workers(0, function() end) end, "from 1 to 1024")
  end))

  it("that is cancelled is told so where it waits, and waited for", inside(function()
    local ready = treadle.shared_chan(1)
    local w = treadle.spawn(function(chan)
      chan:send "ready"
      local _, err = require "treadle".sleep(1000)
      return "was " .. err
    end, ready)
    ready:recv()
    assert.is_true(w:cancel())
    assert.equal("was cancelled", w:join())
    w = treadle.spawn(function() while true do require "treadle".sleep(1000) end end)
    w:cancel() -- before it began
    assert.same({ nil, "cancelled" }, { w:join() })
    assert.same({ nil, "timeout" }, { treadle.spawn(function() require "treadle".sleep(1000) end):join(0.001) })
    -- the last one is cancelled by the end of the run
  end))
end)

describe("workers", function()
  it("share channels: many producers, many consumers, four states", inside(function()
    local jobs, results = treadle.shared_chan(8), treadle.shared_chan(8)
    local consumers = treadle.workers(2, function(_, from, to)
      local lib = require "treadle"
      local wg = lib.waitgroup()
      for _ = 1, 4 do
        wg:go(function()
          for job in from:iter() do to:send { job = job, text = ("x"):rep(job.n % 50), sum = job.n + job.who } end
        end)
      end
      wg:wait()
    end, jobs, results)
    local producers = treadle.workers(2, function(i, to)
      for n = 1, 1000 do to:send { n = n, who = i * 1000000 } end
    end, jobs)
    treadle.go(function()
      assert(producers:join())
      jobs:close()
      assert(consumers:join())
      results:close()
    end)
    local sum, n = 0, 0
    for r in results:iter() do
      assert.equal(r.job.n % 50, #r.text)
      n, sum = n + 1, sum + r.sum
    end
    assert.equal(2000, n)
    assert.equal(2 * 500500 + 1000 * 3000000, sum)
  end))

  it("one that fails cancels the others, and nobody is left", inside(function()
    local ch = treadle.shared_chan()
    local all = treadle.workers(3, function(i, from)
      if i == 2 then error("the second", 0) end
      return from:recv() -- nobody sends
    end, ch)
    assert.same({ nil, "the second" }, { all:join() })
    for i = 1, 3 do assert.is_true(all[i].done) end
  end))

  it("come and go while others wait on the same channel", inside(function()
    local ch = treadle.shared_chan()
    local waiting = treadle.spawn(function(from) return from:recv() end, ch)
    for i = 1, 20 do
      local w = treadle.spawn(function(to, n)
        if n % 3 == 0 then error "leaves" end
        local lib = require "treadle"
        lib.go(function() to:send "too late" end) -- still waiting, or not, when its state goes
        return n
      end, treadle.shared_chan(), i)
      if i % 2 == 0 then w:join() else w:cancel() w:join() end
    end
    ch:send "at last"
    assert.equal("at last", waiting:join())
  end))

  it("accept at one address by SO_REUSEPORT", inside(function()
    local first = assert(treadle.listen("tcp", "127.0.0.1:0", { reuseport = true }))
    local ready = treadle.shared_chan(2)
    local all = treadle.workers(2, function(i, address, up)
      local lib = require "treadle"
      local listener = assert(lib.listen("tcp", address, { reuseport = true }))
      up:send(i)
      for conn in listener:accepts() do
        conn:write(tostring(i))
        conn:close()
      end
    end, first:address(), ready)
    ready:recv()
    ready:recv()
    local address, seen = first:address(), {}
    first:close()
    for _ = 1, 200 do
      local conn = assert(treadle.dial("tcp", address))
      local who = conn:read "a"
      conn:close()
      if who then seen[who] = true end
      if seen["1"] and seen["2"] then break end
    end
    assert.same({ ["1"] = true, ["2"] = true }, seen)
    all:cancel()
    assert(all:join())
  end))
end)

describe("a connection", function()
  it("is handed over by a channel, and lives on there", inside(function()
    local near, far = helper.pair()
    near:write "before\n"
    local w = treadle.spawn(function(conn)
      local line = conn:read "l"
      conn:write("got " .. line .. "\n")
      return conn
    end, far)
    assert.same({ nil, "closed", "" }, { far:read(1) })
    assert.equal("got before", near:read "l")
    local back = assert(w:join())
    back:write "and back\n"
    assert.equal("and back", near:read "l")
  end))

  it("so is a listener", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local address = listener:address()
    local w = treadle.spawn(function(l) return (l:accept()) end, listener)
    local conn = assert(treadle.dial("tcp", address))
    assert(w:join()):write "hello"
    assert.equal("hello", conn:read(5))
  end))

  it("is closed where nobody takes it, and stays where it is in use", inside(function()
    local near, far = helper.pair()
    local ch = treadle.shared_chan(1)
    ch:send(far)
    ch:close()
    ch = nil -- luacheck: ignore 311
    helper.collect()
    assert.same({ nil, "closed", "" }, { near:read(1) })
    near, far = helper.pair()
    local reading = treadle.go(function() return far:read "l" end)
    treadle.yield()
    raises(function() treadle.shared_chan(1):send(far) end, "cannot be handed over: busy")
    near:write "still here\n"
    assert.equal("still here", reading:join())
    raises(function() treadle.chan(1):send(far) treadle.shared_chan(1):send(near) treadle.shared_chan(1):send(near) end,
      "cannot be handed over: closed")
  end))
end)

describe("a table with objects in it", function()
  it("takes connections, listeners, sockets, channels, pointers and 64-bit integers along", inside(function()
    local near, far = helper.pair()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local address = listener:address()
    local udp = assert(treadle.listen_udp "127.0.0.1:0")
    local at = udp:address()
    local ch = treadle.shared_chan(1)
    local big = 2LL ^ 60 + 1
    local w = treadle.spawn(function(given)
      given.net.pair.conn:write "from the worker\n"
      given.channels[1]:send(given.channels[2] == given.channels[1])
      local conn = given.net.listener:accept()
      conn:write(given.net.udp:recv())
      return { conn = conn, big = given.big, pointer = given.pointer, same = given.net.pair.conn == given.again }
    end, {
      net = { pair = { conn = far }, listener = listener, udp = udp },
      channels = { ch, ch },
      big = big, pointer = ch:pointer(), again = far,
    })
    assert.same({ nil, "closed", "" }, { far:read(1) })
    assert.equal("from the worker", near:read "l")
    assert.is_true(ch:recv())
    local conn = assert(treadle.dial("tcp", address))
    local sender = assert(treadle.dial_udp(at))
    sender:send "datagram"
    assert.equal("datagram", conn:read(8))
    local back = assert(w:join())
    assert.is_true(back.big == big)
    assert.is_true(back.pointer == ch:pointer())
    assert.is_true(back.same)
    back.conn:write "still open"
    assert.equal("still open", conn:read(10))
    for _, one in ipairs { near, conn, back.conn, sender } do one:close() end
  end))

  it("that nobody takes closes them, in the channel and on the way", inside(function()
    helper.collect()
    local before = helper.descriptors()
    local near, far = helper.pair()
    local ch = treadle.shared_chan(4)
    ch:send { { far } }
    ch:send { ch }
    ch:recv()
    helper.collect()
    assert.same({ nil, "closed", "" }, { near:read(1) })
    near:close()
    near, far = helper.pair()
    treadle.spawn(function() end, { far }):join() -- given to one who does not look at it
    assert.same({ nil, "closed", "" }, { near:read(1) })
    near:close()
    assert.equal(before, (helper.descriptors()))
  end))

  it("is sent whole or not at all", inside(function()
    local a, b = helper.pair()
    local c, d = helper.pair()
    local ch = treadle.shared_chan(4)
    local reading = treadle.go(function() return d:read "l" end)
    treadle.yield()
    raises(function() ch:send { b, d } end,
      "worker_spec.lua:%d+: .*this table cannot cross a shared channel: .*cannot be handed over: busy")
    raises(function() ch:send { b, { print } } end, "there is a function in it")
    raises(function() ch:send { b, { treadle.chan(1) } } end, "a channel of treadle.chan cannot leave its lua_State")
    local around = { b }
    around[2] = around
    raises(function() ch:send(around) end, "this table cannot cross a shared channel")
    assert.equal(0, ch:len())
    a:write "b is open\n"
    assert.equal("b is open", b:read "l")
    c:write "d, too\n"
    assert.equal("d, too", reading:join())
    d:close()
    raises(function() ch:send { b, d } end, "cannot be handed over: closed")
    a:write "still\n"
    assert.equal("still", b:read "l")
    assert.is_true(ch:send { b, nothing = {}, n = 1.5, text = "x" })
    local got = ch:recv()
    a:write "and again\n"
    assert.equal("and again", got[1]:read "l")
    assert.same({ 1.5, "x", {} }, { got.n, got.text, got.nothing })
  end))

  it("needs nothing of the MessagePack that the program uses, and leaves it as it is", inside(function()
    local MessagePack = require "MessagePack"
    local build, table_packer = MessagePack.build_ext, MessagePack.packers.table
    local ch = treadle.shared_chan(1)
    ch:send { ch }
    assert.is_true(ch:recv()[1] == ch)
    assert.equal(build, MessagePack.build_ext)
    assert.equal(table_packer, MessagePack.packers.table)
  end))
end)

describe("the process", function()
  local function ends(program, options)
    return helper.script('local treadle = require "treadle" ' .. program, options)
  end

  it("ends while workers run, wait, or were forgotten", function()
    local spin = "treadle.spawn(function() local t = require 'treadle' while t.sleep(0.001) do end end) "
    local out, status = ends("treadle.run(function() " .. spin .. spin .. "treadle.sleep(0.02) os.exit(3) end)")
    assert.same({ "", 3 }, { out, status })
    out, status = ends("treadle.run(function() " .. spin .. "treadle.sleep(0.02) error('main', 0) end)")
    assert.equal(1, status)
    assert.matches("main", out)
    out, status = ends("treadle.run(function() " .. spin .. spin .. "end) print 'over'")
    assert.same({ "over\n", 0 }, { out, status })
    out, status = ends([[treadle.run(function() treadle.spawn(function() error("alone", 0) end) treadle.sleep(0.2) end)]])
    assert.equal(1, status)
    assert.matches("a goroutine died: alone", out)
  end)

  it("says so when all states wait for each other", function()
    local out = ends [[treadle.run(function()
      local ch = treadle.shared_chan()
      print(treadle.spawn(function(c) c:recv() end, ch):join())
    end)]]
    assert.matches("all goroutines are asleep", out)
  end)

  it("runs workers interpreted when it is itself", function()
    local out = ends("treadle.run(function() print(treadle.spawn(function() return (jit.status()) end):join()) end)", "-joff")
    assert.equal("false\n", out)
  end)
end)
