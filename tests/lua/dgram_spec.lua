-- Datagram sockets.
local ffi = require "ffi"
local treadle = require "treadle"
local helper = require "helper"
local inside, raises = helper.inside, helper.raises

local function udp() return assert(treadle.listen_udp "127.0.0.1:0") end
local function unixgram() return assert(treadle.listen_unixgram "@") end

describe("a datagram socket", function()
  it("D2: answers to whom a datagram came from", inside(function()
    for _, make in ipairs { udp, unixgram } do
      local near, far = make(), make()
      treadle.go(function()
        while true do
          local data, from = far:recvfrom()
          if not data then break end
          far:sendto(data:upper(), from)
        end
      end)
      for i = 1, 50 do
        local text = "datagram " .. i
        assert.equal(#text, near:sendto(text, far:address()))
        assert.same({ text:upper(), far:address() }, { near:recvfrom() })
      end
      far:close()
      near:close()
    end
  end))

  it("D2: a dialled one needs no address", inside(function()
    for _, network in ipairs { "udp", "unixgram" } do
      local server = treadle["listen_" .. network](network == "udp" and "127.0.0.1:0" or "@")
      local client = assert(treadle["dial_" .. network](server:address(), network == "unixgram" and "@" or nil))
      assert.equal(server:address(), client:peername())
      client:send "question"
      local data, from = server:recvfrom()
      assert.same({ "question", client:address() }, { data, from })
      server:sendto("answer", from)
      assert.equal("answer", (client:recv()))
      client:close()
      server:close()
    end
    local bound = udp()
    assert.same({ nil, "no destination" }, { bound:send "x" })
    assert.same({ nil, "not connected" }, { bound:peername() })
    bound:close()
  end))

  it("D24: carries empty datagrams, and says which were cut", inside(function()
    for _, make in ipairs { udp, unixgram } do
      local near, far = make(), make()
      local to = far:address()
      near:sendto("", to)
      near:sendto("0123456789", to)
      near:sendto("exact", to)
      near:sendto("0123456789", to)
      assert.same({ "", near:address() }, { far:recvfrom() })
      assert.same({ nil, "truncated", "0123", near:address() }, { far:recvfrom(4) })
      assert.equal("exact", (far:recvfrom(5)))
      assert.same({ nil, "truncated", "" }, { far:recv(0) })
      near:close()
      far:close()
    end
    local one = udp()
    assert.same({ nil, "message too long", "sendto " .. one:address() .. ": message too long" },
      { one:sendto(("x"):rep(70000), one:address()) })
    one:close()
  end))

  it("D8, D17: ends waits by time-out, close and cancel", inside(function()
    local s = udp()
    s:settimeout(0.01)
    assert.same({ nil, "timeout" }, { s:recvfrom() })
    assert.same({ nil, "timeout" }, { s:recv() })
    s:settimeout(nil)
    local waiting = treadle.go(s.recvfrom, s)
    treadle.yield()
    waiting:cancel()
    assert.same({ nil, "cancelled" }, { waiting:join() })
    waiting = treadle.go(s.recvfrom, s)
    treadle.yield()
    assert.equal(true, s:close())
    assert.same({ nil, "closed" }, { waiting:join() })
    for _, call in ipairs { s.recv, s.recvfrom, s.address, s.port, s.fd, s.close, s.peername } do
      assert.same({ nil, "closed" }, { call(s) })
    end
    assert.same({ nil, "closed", "sendto 127.0.0.1:1: closed" }, { s:sendto("x", "127.0.0.1:1") })
    assert.same({ nil, "closed" }, { s:settimeout(1) })
    assert.equal("datagram socket (closed)", tostring(s))
  end))

  it("D22: hears that nobody is at the port it was dialled to", inside(function()
    local gone = udp()
    local address = gone:address()
    gone:close()
    local s = assert(treadle.dial_udp(address))
    s:settimeout(10)
    s:send "anybody?"
    assert.same({ nil, "connection refused" }, { s:recv() })
    s:close()
  end))

  it("moves many at once", inside(function()
    local near, far = udp(), udp()
    local list = {}
    for i = 1, 200 do list[i] = ("packet %d"):format(i) end
    local got, from = {}, nil
    local receiving = treadle.go(function()
      far:settimeout(10)
      while #got < 200 do
        local data, addresses = assert(far:recvmany(64))
        for i, text in ipairs(data) do
          got[#got + 1] = text
          from = addresses[i]
        end
      end
    end)
    for i = 1, 200, 50 do
      assert.equal(50, near:sendmany({ unpack(list, i, i + 49) }, far:address()))
      treadle.yield()
    end
    receiving:join()
    assert.same(list, got)
    assert.equal(near:address(), from)
    local client = treadle.dial_udp(far:address())
    assert.equal(2, client:sendmany { "a", "" })
    got = far:recvmany(2)
    if #got == 1 then got[2] = far:recvmany(1)[1] end -- one is enough for it to return
    assert.same({ "a", "" }, got)
    client:close()
    near:close()
    far:close()
  end))

  it("lets many goroutines share one socket, and keeps their datagrams apart", inside(function()
    local server, client = udp(), udp()
    local sum = 0
    local group = treadle.waitgroup()
    for _ = 1, 4 do
      group:go(function()
        for _ = 1, 50 do
          local n = tonumber((server:recvfrom()))
          sum = sum + n
        end
      end)
    end
    for i = 1, 200 do
      client:sendto(tostring(i), server:address())
      if i % 20 == 0 then treadle.sleep(0.001) end
    end
    group:wait()
    assert.equal(200 * 201 / 2, sum)
    server:close()
    client:close()
  end))

  it("F7: says what is wrong with an address", inside(function()
    for bad, err in pairs { ["127.0.0.1"] = "bad port", ["x y:1"] = "bad address", ["127.0.0.1:1\0"] = "bad address" } do
      assert.same({ nil, err, "listen udp " .. bad .. ": " .. err }, { treadle.listen_udp(bad) })
      assert.same({ nil, err, "dial udp " .. bad .. ": " .. err }, { treadle.dial_udp(bad) })
      local s = udp()
      assert.same({ nil, err, "sendto " .. bad .. ": " .. err }, { s:sendto("x", bad) })
      s:close()
    end
    local s = udp()
    assert.equal("address in use", select(2, treadle.listen_udp(s:address())))
    assert.is_true(s:setoption("broadcast", true))
    assert.is_true(s:option "broadcast")
    assert.is_true(s:option "read_buffer" > 0)
    assert.equal(s:port(), tonumber(s:address():match ":(%d+)$"))
    s:close()
  end))

  it("refuses wrong arguments at the caller's line", inside(function()
    local s = udp()
    raises(function() treadle.listen_udp(7) end, "dgram_spec.lua:%d+: treadle: an address is a string")
    raises(function() s:sendto({}, "127.0.0.1:1") end, "dgram_spec.lua:%d+: treadle: a datagram is a string")
    raises(function() s:sendto("x", 7) end, "dgram_spec.lua:%d+: treadle: an address is a string")
    raises(function() s:recvfrom(-1) end, "dgram_spec.lua:%d+: treadle: recvfrom expects")
    raises(function() s:recvmany(0) end, "dgram_spec.lua:%d+: treadle: recvmany expects")
    raises(function() s:sendmany {} end, "dgram_spec.lua:%d+: treadle: sendmany expects")
    raises(function() s:setoption("broadcast", 1) end, "dgram_spec.lua:%d+: treadle: broadcast is true or false")
    raises(function() s:option "speed" end, "dgram_spec.lua:%d+: treadle: there is no option speed")
    s:close()
  end))

  it("L: leaves nothing behind, dropped or closed, while a datagram is awaited", function()
    local before = helper.descriptors()
    inside(function()
      for _ = 1, 50 do
        local s = udp()
        treadle.go(s.recvfrom, s)
        udp()
      end
      treadle.yield()
    end)()
    helper.collect()
    assert.equal(before, (helper.descriptors()))
    assert.equal(0, treadle.metric "datagrams")
  end)

  it("survives the collector while it receives and sends", inside(function()
    local near, far = udp(), udp()
    local to = far:address()
    treadle.go(function()
      for i = 1, 2000 do
        near:sendto(("x"):rep(i % 50), to)
        if i % 10 == 0 then treadle.yield() end
      end
      while near:sendto("end", to) do treadle.sleep(0.001) end -- until it is closed: one may get lost, too
    end)
    local n = 0
    far:settimeout(10)
    while true do
      local data = assert(far:recvfrom(64))
      if data == "end" then break end
      n = n + 1
      if n % 100 == 0 then collectgarbage() end
      local _ = ffi.new("char[100]")
    end
    assert.is_true(n > 0)
    near:close()
    far:close()
  end))
end)
