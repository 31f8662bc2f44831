-- treadle.compat.socket: LuaSocket's contract, and libraries that are on it.
local helper = require "helper"
local servers = require "servers"
local treadle = require "treadle"
local compat = require "treadle.compat.socket"
local inside, raises = helper.inside, helper.raises

local missing = not servers.have_clients() or not servers.installed "redis-server"

--- Runs f with LuaSocket's modules on treadle, and puts LuaSocket back.
local function installed(f)
  local saved = {}
  for name, module in pairs(package.loaded) do
    if name == "socket" or name == "ltn12" or name:find "^socket%." then saved[name] = module end
  end
  local socket = compat.install()
  local ok, err = pcall(f, socket)
  for name in pairs(package.loaded) do
    if name == "socket" or name == "ltn12" or name:find "^socket%." then package.loaded[name] = nil end
  end
  for name, module in pairs(saved) do package.loaded[name] = module end
  if not ok then error(err, 0) end
end

local function pair()
  local server = assert(compat.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  local client = assert(compat.connect("127.0.0.1", port))
  return client, assert(server:accept()), server
end

describe("LuaSocket's TCP", function()
  it("lines, bytes, everything, with prefixes", inside(function()
    local a, b = pair()
    assert.equal(19, a:send "one\r\ntwo\n12345rest!")
    assert.equal("one", b:receive())
    assert.is_true(b:dirty())
    assert.equal("> two", b:receive("*l", "> "))
    assert.equal("ab123", b:receive(5, "ab"))
    a:close()
    assert.equal("45rest!", b:receive "*a")
    assert.same({ nil, "closed", "" }, { b:receive "*a" })
    assert.same({ nil, "closed", "p" }, { b:receive(10, "p") })
    assert.same({ 19, 0 }, { (b:getstats()), (select(2, b:getstats())) })
    raises(function() b:receive "*x" end, "invalid receive pattern")
  end))

  it("sends a part, and says what its last byte was", inside(function()
    local a, b = pair()
    assert.equal(5, a:send("0123456", 3, 5))
    assert.equal(7, a:send("0123456", -2))
    assert.equal("23456", b:receive(5))
    b:close()
    a:close()
    assert.same({ nil, "closed", 0 }, { a:send "x" })
  end))

  it("time limits are of seconds, and keep what had come", inside(function()
    local a, b = pair()
    b:settimeout(0)
    assert.same({ nil, "timeout", "" }, { b:receive() })
    b:settimeout(0.02)
    a:send "abc"
    assert.same({ nil, "timeout", "abc" }, { b:receive(4) })
    b:settimeout()
    a:send "d\n"
    assert.equal("d", b:receive())
    local server = assert(compat.bind("*", 0))
    server:settimeout(0.01)
    assert.same({ nil, "timeout" }, { server:accept() })
    assert.same({ nil, "connection refused" }, { compat.connect("127.0.0.1", 1) })
    assert.same({ nil, "host not found" }, { compat.connect("not a host", 1) })
    local _, err = compat.bind("127.0.0.1", (select(2, server:getsockname())))
    assert.is_true(err == nil or err == "address already in use")
  end))

  it("names, options, shutdown", inside(function()
    local a, b = pair()
    local ip, port = b:getpeername()
    assert.same({ "127.0.0.1", (select(2, a:getsockname())) }, { ip, port })
    assert.equal(1, a:setoption("tcp-nodelay", true))
    assert.equal(1, a:setoption("keepalive", true))
    assert.is_true(a:getoption "keepalive")
    raises(function() a:setoption("nonsense", 1) end, "unsupported option")
    a:shutdown "send"
    assert.same({ nil, "closed", "" }, { b:receive() })
    b:send "still\n"
    assert.equal("still", a:receive())
  end))
end)

describe("select", function()
  it("says who can be read or written, and when nobody can", inside(function()
    local a, b, server = pair()
    local r, w, err = compat.select({ a, b }, nil, 0.01)
    assert.same({ 0, 0, "timeout" }, { #r, #w, err })
    r, w = compat.select({ a, b }, { a }, 10)
    assert.same({ 0, a, 1 }, { #r, w[1], w[a] })
    treadle.go(function() treadle.sleep(0.005) a:send "x\ny\n" end)
    r = compat.select({ a, b, server }, nil, 10)
    assert.same({ b, 1, nil }, { r[1], r[b], r[2] })
    b:receive()
    assert.equal(b, compat.select({ b }, nil, 0)[1])  -- what is buffered counts
    treadle.go(function() compat.connect("127.0.0.1", (select(2, server:getsockname()))) end)
    assert.equal(server, compat.select({ server }, nil, 10)[1])
  end))
end)

describe("LuaSocket's UDP", function()
  it("named and connected sockets", inside(function()
    local server, client = compat.udp(), compat.udp()
    assert.equal(1, server:setsockname("127.0.0.1", 0))
    local _, port = server:getsockname()
    assert.equal(1, client:sendto("hello", "127.0.0.1", port))
    local data, ip, from = server:receivefrom()
    assert.same({ "hello", "127.0.0.1" }, { data, ip })
    server:sendto("answer", ip, from)
    assert.equal("answ", client:receive(4))
    client:settimeout(0.01)
    assert.same({ nil, "timeout" }, { client:receive() })
    local connected = compat.udp()
    assert.equal(1, connected:setpeername("127.0.0.1", port))
    assert.equal(1, connected:send "again")
    assert.equal("again", server:receive())
    connected:close()
    assert.same({ nil, "closed" }, { connected:receive() })
  end))
end)

describe("protect and newtry", function()
  it("make results of failures, and of nothing else, and let their function wait", inside(function()
    local closed = 0
    local try = treadle.newtry(function() closed = closed + 1 end)
    local f = treadle.protect(function(how)
      treadle.sleep(0.001)
      if how == "error" then error("a real one", 0) end
      return try(how == "fine" or nil, "it failed"), "and more"
    end)
    assert.same({ true, "and more" }, { f "fine" })
    assert.same({ nil, "it failed" }, { f "not" })
    assert.equal(1, closed)
    raises(function() f "error" end, "^a real one$")
    local task = treadle.go(function()
      treadle.protect(function() treadle.sleep(10) treadle.sleep(10) end)()
      error "it went on"
    end)
    treadle.yield()
    task:cancel()
    assert.same({ nil, "cancelled" }, { task:join() })
  end))
end)

describe("libraries on LuaSocket", function()
  it("socket.http: plain, chunked, redirected, several at a time", inside(function()
    installed(function()
      local http, ltn12 = require "socket.http", require "ltn12"
      local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
      local base = "http://127.0.0.1:" .. listener:port()
      treadle.go(function()
        for conn in listener:accepts() do
          treadle.go(function()
            local path = conn:read "l":match "^%u+ (%S+)"
            for line in conn:lines() do if line == "" then break end end
            treadle.sleep(0.002)
            if path == "/chunked" then
              conn:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
            elseif path == "/moved" then
              conn:write("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ", base, "/plain\r\n\r\n")
            else
              conn:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"
            end
            conn:close()
          end)
        end
      end)
      for path, expected in pairs { plain = "plain", chunked = "hello, world", moved = "plain" } do
        local body, status = http.request(base .. "/" .. path)
        assert.same({ expected, 200 }, { body, status })
      end
      local wg, got = treadle.waitgroup(), {}
      for i = 1, 20 do
        wg:go(function()
          local parts = {}
          assert(http.request { url = base .. "/chunked", sink = ltn12.sink.table(parts) })
          got[i] = table.concat(parts)
        end)
      end
      wg:wait()
      assert.equal(20, #got)
      assert.equal("hello, world", got[20])
      assert.same({ nil, "connection refused" }, { http.request "http://127.0.0.1:1/" })
      listener:close()
    end)
  end))

  local it = missing and function(name) pending(name .. " (./dev installs what it needs)") end or it -- luacheck: ignore 431

  it("lua-redis: commands, pipelines, transactions, pub/sub", inside(function()
    local server = servers.redis()
    local ok, err = pcall(installed, function()
      package.loaded.redis = nil
      local redis = require "redis"
      local client = redis.connect("unix://" .. server.path)
      assert.is_true(client:ping())
      assert.is_true(client:set("usr:nrk", 10))
      assert.equal("10", client:get "usr:nrk")
      assert.is_nil(client:get "no such key")
      assert.equal(12, client:incrby("usr:nrk", 2))
      local replies = client:pipeline(function(p)
        for i = 1, 50 do p:set("k" .. i, i) end
        p:mget("k1", "k50")
      end)
      assert.same({ "1", "50" }, replies[51])
      local results = client:transaction(function(t)
        t:set("t", 1)
        t:incr "t"
      end)
      assert.equal(2, results[2])
      raises(function() client:lpush("usr:nrk", 1) end, "WRONGTYPE")
      local publisher = redis.connect("unix://" .. server.path)
      local seen = {}
      for message, abort in client:pubsub { subscribe = { "channel" } } do
        if message.kind == "subscribe" then
          treadle.go(function() for i = 1, 3 do publisher:publish("channel", "m" .. i) end end)
        else
          seen[#seen + 1] = message.payload
          if #seen == 3 then abort() end
        end
      end
      assert.same({ "m1", "m2", "m3" }, seen)
      client:quit()
    end)
    server:stop()
    if not ok then error(err, 0) end
  end))
end)
