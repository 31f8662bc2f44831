-- Client libraries for OpenResty, as Debian has them, unchanged: against real
-- servers where there are any.
local helper = require "helper"
local servers = require "servers"
local treadle = require "treadle"
local ngx = require("treadle.compat.ngx")
local inside = helper.inside

local missing = not servers.have_clients() or not servers.installed "redis-server" or not servers.installed "memcached"
local it = missing and function(name) pending(name .. " (./dev installs what it needs)") end or it -- luacheck: ignore 122

describe("lua-nginx-redis", function()
  local server, redis

  setup(function()
    if missing then return end
    ngx.install()
    redis = require "nginx.redis"
    server = servers.redis()
  end)
  teardown(function() if server then server:stop() end end)

  local function connect()
    local client = assert(redis:new())
    client:set_timeout(10000)
    assert(client:connect("unix:" .. server.path))
    return client
  end

  it("commands", inside(function()
    local c = connect()
    assert.equal("OK", c:set("dog", "an animal"))
    assert.equal("an animal", c:get "dog")
    assert.equal(ngx.null, c:get "no such key")
    assert.equal(1, c:incr "n")
    assert.same({ 1, 2 }, { c:rpush("list", "a"), c:rpush("list", "b\r\nc") })
    assert.same({ "a", "b\r\nc" }, c:lrange("list", 0, -1))
    assert.equal("OK", c:hmset("h", { one = "1", two = "2" }))
    local hash = c:array_to_hash(c:hgetall "h")
    assert.same({ one = "1", two = "2" }, hash)
    local res, err = c:incr "dog"
    assert.is_false(res)
    assert.matches("not an integer", err)
    assert.equal("", c:set("empty", "") and c:get "empty")
    local big = ("x"):rep(3 * 2 ^ 20)
    c:set("big", big)
    assert.equal(big, c:get "big")
    assert.equal(1, c:close())
    assert.same({ nil, "closed" }, { c:get "dog" })
  end))

  it("pipelines and transactions", inside(function()
    local c = connect()
    c:init_pipeline()
    for i = 1, 500 do
      c:set("k" .. i, i)
      c:get("k" .. i)
    end
    local results = assert(c:commit_pipeline())
    assert.equal(1000, #results)
    assert.equal("OK", results[999])
    assert.equal("500", results[1000])
    assert.equal("OK", c:multi())
    assert.equal("QUEUED", c:set("t", "1"))
    assert.equal("QUEUED", c:incr "t")
    assert.same({ "OK", 2 }, c:exec())
    c:close()
  end))

  it("publishes and subscribes", inside(function()
    local sub, pub = connect(), connect()
    assert.same({ "subscribe", "dog", 1 }, sub:subscribe "dog")
    assert.same({ nil, "subscribed state" }, { sub:set_keepalive() })
    local reader = treadle.go(function()
      local seen = {}
      for _ = 1, 3 do seen[#seen + 1] = assert(sub:read_reply())[3] end
      return seen
    end)
    for i = 1, 3 do assert.equal(1, pub:publish("dog", "message " .. i)) end
    assert.same({ "message 1", "message 2", "message 3" }, reader:join())
    sub:set_timeout(20) -- a subscriber may go on after a timeout
    assert.same({ nil, "timeout" }, { sub:read_reply() })
    pub:publish("dog", "late")
    sub:set_timeout(10000)
    assert.equal("late", sub:read_reply()[3])
    sub:close()
    pub:close()
  end))

  it("keeps connections in pools", inside(function()
    local c = connect()
    c:set("pooled", "yes")
    assert.equal(0, c:get_reused_times())
    assert.equal(1, c:set_keepalive(10000, 2))
    assert.same({ nil, "closed" }, { c:get "pooled" })
    c = connect()
    assert.equal(1, c:get_reused_times())
    assert.equal("yes", c:get "pooled")
    local id = c:client "id"
    c:set_keepalive(10000)
    c = connect()
    assert.equal(id, c:client "id")
    c:client("kill", "id", id, "skipme", "no") -- the server closes it: the pool must not hand it out
    c:set_keepalive(10000)
    c = connect()
    assert.not_equal(id, c:client "id")
    c:close()
  end))

  it("many at a time", inside(function()
    local wg = treadle.waitgroup()
    for i = 1, 50 do
      wg:go(function()
        local c = connect()
        for n = 1, 20 do
          assert(c:set("m" .. i, n))
          assert.equal(tostring(n), c:get("m" .. i))
        end
        c:set_keepalive(1000, 10)
      end)
    end
    wg:wait()
  end))

  it("times out, and says so", inside(function()
    local c = connect()
    c:set_timeout(20)
    assert.same({ nil, "timeout" }, { c:blpop("nothing", 0) })
    local sock = redis:new()
    assert.same({ nil, "connection refused" }, { sock:connect("127.0.0.1", 1) })
    assert.same({ nil, "no such file or directory" }, { sock:connect "unix:/nowhere/at/all" })
  end))
end)

describe("lua-nginx-memcached", function()
  local server, memcached

  setup(function()
    if missing then return end
    ngx.install()
    memcached = require "nginx.memcached"
    server = servers.memcached()
  end)
  teardown(function() if server then server:stop() end end)

  it("commands, and pools", inside(function()
    local c = assert(memcached:new())
    c:set_timeout(10000)
    assert(c:connect("unix:" .. server.path))
    assert.equal(1, c:set("a key", "value", 0, 7))
    assert.same({ "value", "7" }, { c:get "a key" })
    assert.is_nil((c:get "other"))
    assert.equal(1, c:add("n", 10))
    assert.same({ nil, "NOT_STORED" }, { c:add("n", 11) })
    assert.equal("12", c:incr("n", 2))
    assert.equal(1, c:append("a key", "!"))
    local found = assert(c:get { "a key", "n" })
    assert.equal("value!", found["a key"][1])
    local value, _, cas = c:gets "n"
    assert.equal("12", value)
    assert.equal(1, c:cas("n", "13", cas))
    assert.same({ nil, "EXISTS" }, { c:cas("n", "14", cas) })
    assert.equal(1, c:delete "n")
    assert.matches("^%d+%.%d+", c:version())
    assert(#c:stats() > 10)
    assert.equal(1, c:flush_all())
    assert.equal(1, c:set_keepalive(1000, 5))
    assert(c:connect("unix:" .. server.path))
    assert.equal(1, c:get_reused_times())
    c:close()
  end))
end)

describe("lua-nginx-websocket", function()
  it("client and server", inside(function()
    ngx.install()
    local client_of, server_of = require "nginx.websocket.client", require "nginx.websocket.server"
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local serving = treadle.go(function()
      return ngx.serve(assert(listener:accept()), function()
        local ws = assert(server_of:new { timeout = 10000, max_payload_len = 2 ^ 20 })
        while true do
          local data, kind, err = ws:recv_frame()
          if not data then error(err) end
          if kind == "close" then
            ws:send_close(1000, "bye")
            return
          elseif kind == "ping" then
            assert(ws:send_pong(data))
          elseif kind == "text" then
            assert(ws:send_text("echo: " .. data))
          else
            assert(ws:send_binary(data))
          end
        end
      end)
    end)
    local ws = assert(client_of:new { timeout = 10000, max_payload_len = 2 ^ 20 })
    assert(ws:connect("ws://127.0.0.1:" .. listener:port() .. "/chat"))
    assert(ws:send_text "hello")
    assert.same({ "echo: hello", "text" }, { ws:recv_frame() })
    assert(ws:send_ping "p")
    assert.same({ "p", "pong" }, { ws:recv_frame() })
    for _, n in ipairs { 0, 125, 126, 65535, 65536, 300000 } do
      local data = ("b"):rep(n)
      assert(ws:send_binary(data))
      local got, kind = ws:recv_frame()
      assert.equal("binary", kind)
      assert.is_true(got == data)
    end
    assert(ws:send_close())
    local _, kind = ws:recv_frame()
    assert.equal("close", kind)
    assert.is_true(serving:join())
    listener:close()
  end))
end)

-- A name server for one answer: the A record of every name is 10.0.0.<length of the first label>.
local function answer(query, truncated)
  local label = query:byte(13)
  local question = query:match("^.-%z....", 13)
  local header = query:sub(1, 2) .. (truncated and "\x87\x80" or "\x85\x80") .. "\0\1" .. (truncated and "\0\0" or "\0\1") .. "\0\0\0\0"
  if truncated then return header .. question end
  return header .. question .. "\xc0\x0c\0\1\0\1\0\0\0\60\0\4\10\0\0" .. string.char(label)
end

describe("lua-nginx-dns", function()
  it("asks by UDP, by TCP where that was truncated, and again where nobody answers", inside(function()
    ngx.install()
    local resolver = require "nginx.dns.resolver"
    local tcp = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local udp = assert(treadle.listen_udp("127.0.0.1:" .. tcp:port()))
    local asked, deaf = 0, 0
    treadle.go(function()
      while true do
        local query, from = udp:recvfrom()
        if not query then return end
        asked = asked + 1
        if deaf > 0 then
          deaf = deaf - 1
        else
          udp:sendto(answer(query, query:find("large", 1, true)), from)
        end
      end
    end)
    treadle.go(function()
      for conn in tcp:accepts() do
        local head = conn:read(2)
        local reply = answer(conn:read(head:byte(1) * 256 + head:byte(2)))
        conn:write(string.char(math.floor(#reply / 256), #reply % 256), reply)
        conn:close()
      end
    end)
    local r = assert(resolver:new { nameservers = { { "127.0.0.1", tcp:port() } }, retrans = 3, timeout = 5000 })
    local answers = assert(r:query "www.example.com")
    assert.equal("10.0.0.3", answers[1].address)
    assert.equal("www.example.com", answers[1].name)
    assert.equal(60, answers[1].ttl)
    assert.equal("10.0.0.5", assert(r:query "large.example.com")[1].address)
    r:set_timeout(400)
    asked, deaf = 0, 1
    assert.equal("10.0.0.5", assert(r:query "again.example.com")[1].address)
    assert.is_true(asked >= 2)
    deaf = 100
    r:set_timeout(50)
    local none, err = r:query "nobody.example.com"
    assert.is_nil(none)
    assert.matches("timeout", err)
    udp:close()
    tcp:close()
  end))
end)
