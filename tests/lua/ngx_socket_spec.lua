-- The contract of cosockets: what each call returns, to the letter.
local helper = require "helper"
local treadle = require "treadle"
local ngx = require "treadle.compat.ngx"
local pool = require "treadle.compat.ngx.pool"
local inside, raises = helper.inside, helper.raises

--- A cosocket, and the treadle connection at its other end.
local function pair()
  local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
  local sock = ngx.socket.tcp()
  assert.equal(1, assert(sock:connect("127.0.0.1", listener:port())))
  local far = assert(listener:accept())
  sock:settimeout(10000)
  return sock, far, listener
end

describe("a cosocket receives", function()
  it("lines, without any carriage return", inside(function()
    local sock, far = pair()
    far:write "one\r\ntwo\nth\rree\r\r\n\nlast"
    far:shutdown "write"
    assert.equal("one", sock:receive())
    assert.equal("two", sock:receive "*l")
    assert.equal("three", sock:receive())
    assert.equal("", sock:receive())
    assert.same({ nil, "closed", "last" }, { sock:receive() })
    assert.same({ nil, "closed", "" }, { sock:receive() })
    assert.same({ nil, "closed" }, { sock:send "x" })
  end))

  it("numbers of bytes, also as strings, and none", inside(function()
    local sock, far = pair()
    far:write "abcdefgh"
    assert.equal("", sock:receive(0))
    assert.equal("abc", sock:receive(3))
    assert.equal("de", sock:receive "2")
    far:close()
    assert.same({ nil, "closed", "fgh" }, { sock:receive(10) })
    raises(function() pair():receive(-1) end, "bad argument #1 to 'receive'")
    raises(function() pair():receive "*x" end, "bad argument #1 to 'receive'")
  end))

  it("everything, and what is there", inside(function()
    local sock, far = pair()
    far:write "0123456789"
    assert.equal("0123", sock:receiveany(4))
    assert.equal("456789", sock:receiveany(100))
    far:write "rest"
    far:close()
    assert.equal("rest", sock:receive "*a")
    assert.equal("", sock:receive "*a")
    for _, bad in ipairs { 0, -1, "x", 1.5 } do
      raises(function() sock:receiveany(bad) end, "bad max argument")
    end
  end))

  it("what comes before a pattern", inside(function()
    local sock, far = pair()
    far:write "hello, world\r\n--abc rest --abcd--ab"
    local reader = sock:receiveuntil "\r\n--abc"
    assert.equal("hello, world", reader())
    assert.equal(" rest --abc", sock:receiveuntil("--abc", { inclusive = true })())
    assert.equal("d", sock:receiveuntil "--ab" ())
    far:write "!--"
    far:close()
    assert.same({ nil, "closed", "!--" }, { sock:receiveuntil "--ab" () })
    assert.same({ nil, "pattern is empty" }, { sock:receiveuntil "" })
    raises(function() sock:receiveuntil("x", { inclusive = 1 }) end, "inclusive")
  end))

  it("that in pieces", inside(function()
    for _, cut in ipairs { 1, 3, 7, 1000 } do
      local sock, far = pair()
      local text = "hello, world! -agentzh\r\n--abcedhb blah"
      treadle.go(function()
        for i = 1, #text, cut do far:write(text:sub(i, i + cut - 1)) treadle.yield() end
      end)
      local reader, pieces = sock:receiveuntil "\r\n--abcedhb", {}
      while true do
        local data, err = reader(4)
        if not data then
          assert.is_nil(err)
          break
        end
        assert.is_true(#data <= 4)
        pieces[#pieces + 1] = data
      end
      assert.equal("hello, world! -agentzh", table.concat(pieces))
      assert.equal(" blah", sock:receive(5))
    end
  end))

  it("a piece that may be the pattern's beginning only when it is known", inside(function()
    local sock, far = pair()
    far:write "ab--"
    local reader = sock:receiveuntil "--end"
    assert.equal("ab", reader(2))
    local waiting = treadle.go(function() return reader(2) end)
    treadle.yield()
    far:write "x--end"
    assert.equal("--", waiting:join())
    assert.equal("x", reader(2))
    assert.same({}, { reader(2) })
    sock:settimeout(10)
    assert.same({ nil, "timeout", "" }, { reader(2) })
  end))
end)

describe("a cosocket", function()
  it("stays open after a timeout, with what had come as partial", inside(function()
    local sock, far = pair()
    sock:settimeout(20)
    far:write "abc"
    assert.same({ nil, "timeout", "abc" }, { sock:receive(5) })
    assert.same({ nil, "timeout", "" }, { sock:receive() })
    far:write "de\n"
    assert.equal("de", sock:receive())
    sock:settimeouts(1000, 5000, 20)
    assert.same({ nil, "timeout", "" }, { sock:receive(1) })
    assert.equal(2, sock:send "ok")
    assert.equal("ok", far:read(2))
    raises(function() sock:settimeout(-1) end, "bad timeout value")
  end))

  it("sends nested tables, numbers, booleans and nil", inside(function()
    local sock, far = pair()
    assert.equal(12, sock:send { "a", { 1, { true, "b" } }, "", 2.5, "cd" })
    assert.equal("a1trueb2.5cd", far:read(12))
    raises(function() sock:send { function() end } end, "bad argument #1 to 'send'")
  end))

  it("serves a reader and a writer at a time, and no second of either", inside(function()
    local sock, far = pair()
    local reading = treadle.go(function() return sock:receive() end)
    treadle.yield()
    assert.same({ nil, "socket busy reading", "" }, { sock:receive() })
    assert.same({ nil, "socket busy reading" }, { sock:close() })
    assert.same({ nil, "socket busy reading" }, { sock:setkeepalive() })
    assert.equal(5, sock:send "full\n")
    assert.equal("full", far:read "l")
    far:write "duplex\n"
    assert.equal("duplex", reading:join())
    local writing = treadle.go(function() return sock:send(("x"):rep(2 ^ 24)) end)
    treadle.yield()
    assert.same({ nil, "socket busy writing" }, { sock:send "y" })
    assert.equal(2 ^ 24, #far:read(2 ^ 24))
    assert.equal(2 ^ 24, writing:join())
    assert.equal(1, sock:close())
    assert.same({ nil, "closed" }, { sock:close() })
  end))

  it("says how a connect failed, and can be used again", inside(function()
    local sock = ngx.socket.tcp()
    assert.same({ nil, "connection refused" }, { sock:connect("127.0.0.1", 1) })
    assert.same({ nil, "closed", "" }, { sock:receive() })
    local _, err = sock:connect("not a host", 80)
    assert.equal("not a host could not be resolved (3: Host not found)", err)
    assert.matches("bad port", (select(2, sock:connect("127.0.0.1", 70000))))
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    assert.equal(1, sock:connect("127.0.0.1", tostring(listener:port())))
    assert.equal(0, sock:getreusedtimes())
    assert.same({ nil, "not supported" }, { sock:setclientcert() })
    raises(function() sock:connect() end, "bad argument #1 to 'connect'")
    raises(function() sock:connect("127.0.0.1", 1, { pool = {} }) end, 'bad "pool" option type')
    raises(function() sock:connect("127.0.0.1", 1, { pool_size = 0 }) end, 'bad "pool_size" option')
  end))

  it("that is killed in a call leaves it, and the socket to others", inside(function()
    local sock, far = pair()
    local thread = ngx.thread.spawn(function() sock:receive() error "it went on" end)
    assert.equal(1, ngx.thread.kill(thread))
    treadle.yield()
    far:write "for others\n"
    assert.equal("for others", sock:receive())
  end))

  it("reads lines whatever the pieces", inside(function()
    local sock, far = pair()
    treadle.go(function()
      for c in ("\r\na\rb\r\r\n\n"):gmatch "." do far:write(c) treadle.sleep(0.001) end
    end)
    assert.same({ "", "ab", "" }, { sock:receive(), sock:receive(), (sock:receive()) })
  end))
end)

describe("a pool of connections", function()
  it("gives the youngest first, and drops the oldest beyond its size", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local socks, fars = {}, {}
    for i = 1, 3 do
      socks[i] = ngx.socket.tcp()
      socks[i]:connect("127.0.0.1", listener:port(), { pool = "lru", pool_size = 2 })
      fars[i] = listener:accept()
    end
    for i = 1, 3 do assert.equal(1, socks[i]:setkeepalive(0)) end
    assert.same({ nil, "closed", "" }, { fars[1]:read(1) })
    local again = ngx.socket.tcp()
    again:connect("127.0.0.1", listener:port(), { pool = "lru" })
    assert.equal(1, again:getreusedtimes())
    again:send "x"
    assert.equal("x", fars[3]:read(1))
    again:setkeepalive()
    again:connect("127.0.0.1", listener:port(), { pool = "lru" })
    assert.equal(2, again:getreusedtimes())
    again:close()
    local other = ngx.socket.tcp()
    other:connect("127.0.0.1", listener:port())
    assert.equal(0, other:getreusedtimes())
  end))

  it("closes what was idle for too long, and what the peer closed or wrote to", inside(function()
    local sock, far, listener = pair()
    assert.equal(1, sock:setkeepalive(20))
    assert.same({ nil, "closed", "" }, { far:read(1) })
    for _, act in ipairs { "close", "write" } do
      sock:connect("127.0.0.1", listener:port())
      far = listener:accept()
      assert.equal(0, sock:getreusedtimes())
      sock:setkeepalive(0)
      if act == "close" then far:close() else far:write "unasked" end
    end
    sock:connect("127.0.0.1", listener:port())
    assert.equal(0, sock:getreusedtimes())
  end))

  it("loses at once what the peer closes, resets or writes to, while it lies there", inside(function()
    local sock, far, listener = pair()
    local key = "127.0.0.1:" .. listener:port()
    local stays = ngx.socket.tcp()
    assert(stays:connect("127.0.0.1", listener:port()))
    assert(listener:accept())
    assert.equal(1, stays:setkeepalive(0))
    for _, act in ipairs { "close", "reset", "write" } do
      if not sock.conn then
        assert(sock:connect("127.0.0.1", listener:port(), { pool = "other" })) -- a new one
        sock.key = key
        far = assert(listener:accept())
      end
      local conn = sock.conn
      assert.equal(1, sock:setkeepalive(0))
      assert.equal(2, pool.find(key):count())
      assert.is_not_nil(conn:fd())
      if act == "write" then far:write "unasked" end
      if act == "reset" then far:setoption("linger", "reset") end
      if act ~= "write" then far:close() end
      local limit = treadle.now() + 20
      while pool.find(key):count() > 1 and treadle.now() < limit do treadle.sleep(0.001) end
      assert.equal(1, pool.find(key):count(), act)
      assert.same({ nil, "closed" }, { conn:fd() }) -- closed here, too
    end
    assert(sock:connect("127.0.0.1", listener:port()))
    assert.equal(1, sock:getreusedtimes()) -- the one that was sound
  end))

  it("hands one connection to one taker, however often it goes to and fro", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    treadle.go(function()
      for conn in listener:accepts() do
        treadle.go(function() for line in conn:lines() do conn:write(line, "\n") end conn:close() end)
      end
    end)
    local wg, opened = treadle.waitgroup(), 0
    for i = 1, 8 do
      wg:go(function()
        for n = 1, 40 do
          local sock = ngx.socket.tcp()
          assert(sock:connect("127.0.0.1", listener:port(), { pool = "busy", pool_size = 3, backlog = 100 }))
          if sock:getreusedtimes() == 0 then opened = opened + 1 end
          local said = i .. " " .. n
          sock:send(said .. "\n")
          assert.equal(said, sock:receive())
          if n % 10 == 0 then sock:close() else assert(sock:setkeepalive(10000)) end
        end
      end)
    end
    wg:wait()
    assert.is_true(opened >= 3 and opened <= 3 + 32, opened .. " connections")
    assert.is_true(pool.find "busy":count() <= 3)
  end))

  it("loses no connection when who takes it is cancelled meanwhile", inside(function()
    local sock, far, listener = pair()
    sock:setkeepalive(0)
    local taker = treadle.go(function() return sock:connect("127.0.0.1", listener:port()) end)
    treadle.yield() -- it waits for the watcher
    taker:cancel()
    if taker:join() then assert.equal(1, sock:close()) end -- it had it already, or it is closed
    assert.equal(0, pool.find("127.0.0.1:" .. listener:port()):count())
    far:settimeout(20)
    assert.same({ nil, "closed", "" }, { far:read(1) })
  end))

  it("takes no connection with data that nobody read", inside(function()
    local sock, far = pair()
    far:write "one\ntwo\n"
    sock:receive()
    assert.same({ nil, "unread data in buffer" }, { sock:setkeepalive() })
    assert.same({ nil, "closed" }, { sock:setkeepalive() })
    sock, far = pair()
    far:write "one\n"
    assert(treadle.fd(sock.conn:fd(), { dup = true })):wait_readable()
    assert.same({ nil, "connection in dubious state" }, { sock:setkeepalive() })
  end))

  it("limits those in use where it has a backlog", inside(function()
    local listener = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local options = { pool = "limited", pool_size = 1, backlog = 1 }
    local one, two, three = ngx.socket.tcp(), ngx.socket.tcp(), ngx.socket.tcp()
    assert.equal(1, one:connect("127.0.0.1", listener:port(), options))
    two:settimeout(20)
    assert.same({ nil, "timeout" }, { two:connect("127.0.0.1", listener:port(), options) })
    two:settimeout(10000)
    local waiting = treadle.go(function() return two:connect("127.0.0.1", listener:port(), options) end)
    treadle.yield()
    assert.same({ nil, "too many waiting connect operations" }, { three:connect("127.0.0.1", listener:port(), options) })
    assert.equal(1, one:setkeepalive())
    assert.equal(1, waiting:join())
    assert.equal(1, two:getreusedtimes())
    two:close()
    assert.equal(1, three:connect("127.0.0.1", listener:port(), options))
    assert.equal(0, three:getreusedtimes())
  end))
end)

describe("ngx.socket.udp", function()
  it("sends and receives datagrams", inside(function()
    local server = assert(treadle.listen_udp "127.0.0.1:0")
    local sock = ngx.socket.udp()
    assert.same({ nil, "closed" }, { sock:send "x" })
    assert.equal(1, sock:setpeername("127.0.0.1", tonumber(server:address():match ":(%d+)$")))
    assert.equal(1, sock:send { "a", 1, { "b" } })
    local data, from = server:recvfrom()
    assert.equal("a1b", data)
    server:sendto("an answer", from)
    assert.equal("an ", sock:receive(3))
    sock:settimeout(20)
    assert.same({ nil, "timeout" }, { sock:receive() })
    server:sendto("late", from)
    sock:settimeout(10000)
    assert.equal("late", sock:receive())
    assert.equal(1, sock:close())
    assert.same({ nil, "closed" }, { sock:receive() })
  end))
end)

describe("the rest of ngx", function()
  it("threads: wait, wait for any, errors, kill", inside(function()
    local order = {}
    local a = ngx.thread.spawn(function()
      order[#order + 1] = "thread"
      ngx.sleep(0.02)
      return "slow"
    end)
    order[#order + 1] = "parent"
    assert.same({ "thread", "parent" }, order)
    local b = ngx.thread.spawn(function() ngx.sleep(0.001) return "fast", 2 end)
    assert.same({ true, "fast", 2 }, { ngx.thread.wait(a, b) })
    assert.same({ true, "slow" }, { ngx.thread.wait(a) })
    assert.same({ nil, "already waited or killed" }, { ngx.thread.wait(a) })
    local failing = ngx.thread.spawn(function() error("boom", 0) end)
    assert.same({ false, "boom" }, { ngx.thread.wait(failing) })
    local sleeper = ngx.thread.spawn(function() ngx.sleep(100) order = "it went on" end)
    assert.equal(1, ngx.thread.kill(sleeper))
    assert.same({ nil, "already waited or killed" }, { ngx.thread.kill(sleeper) })
    treadle.yield()
    assert.same({ "thread", "parent" }, order)
    local done = ngx.thread.spawn(function() end)
    assert.same({ nil, "already terminated" }, { ngx.thread.kill(done) })
    local theirs = ngx.thread.spawn(function() ngx.sleep(0.001) end)
    raises(function() assert(treadle.go(function() ngx.thread.wait(theirs) end):join()) end, "only the parent")
  end))

  it("semaphores", inside(function()
    local s = require "treadle.compat.ngx.semaphore".new(1)
    assert.equal(1, s:count())
    assert.is_true(s:wait(0))
    assert.same({ nil, "timeout" }, { s:wait(0) })
    assert.same({ nil, "timeout" }, { s:wait(0.01) })
    local woken = 0
    for _ = 1, 3 do ngx.thread.spawn(function() assert(s:wait(10)) woken = woken + 1 end) end
    assert.equal(-3, s:count())
    s:post(2)
    treadle.sleep(0.005)
    assert.equal(2, woken)
    assert.equal(-1, s:count())
    s:post()
    treadle.sleep(0.005)
    assert.same({ 3, 0 }, { woken, s:count() })
  end))

  it("timers", inside(function()
    local ch = treadle.chan(100)
    assert.equal(1, ngx.timer.at(0.001, function(premature, a, b) ch:send { premature, a, b } end, 1, nil))
    assert.same({ false, 1 }, (ch:recv()))
    local n = 0
    ngx.timer.every(0.002, function(premature) n = n + 1 if n <= 3 then ch:send(premature) end if n == 2 then error "ignored" end end)
    local lines = {}
    ngx.log_to(ngx.ERR, function(line) lines[#lines + 1] = line end)
    for _ = 1, 3 do assert.is_false((ch:recv())) end
    ngx.log_to(ngx.ERR, function(line) io.stderr:write(line, "\n") end)
    assert.matches("%[error%].*ignored", lines[1])
    assert.equal(0, ngx.timer.running_count())
    assert.equal(1, ngx.timer.pending_count())
    raises(function() ngx.timer.at(-1, print) end, "delay cannot be < 0")
  end))

  it("a timer that is still to come is called when the run ends", function()
    local seen
    treadle.run(function() ngx.timer.at(1000, function(premature, a) seen = { premature, a } end, 7) end)
    assert.same({ true, 7 }, seen)
  end)

  it("regular expressions", function()
    local re = ngx.re
    local m = re.match("hello, 1234", "([0-9])(?<remaining>[0-9]+)(x)?", "jo")
    assert.same({ [0] = "1234", "1", "234", false, remaining = "234" }, m)
    assert.is_nil(re.match("hello", "[0-9]"))
    assert.matches("missing", (select(2, re.match("x", "(abc"))))
    local ctx = { pos = 2 }
    assert.equal("34", re.match("1234, 34", "34", "", ctx)[0])
    assert.equal(5, ctx.pos)
    assert.same({ 8, 11 }, { re.find("hello, 1234", "([0-9]+)", "jo") })
    assert.same({ 9, 11 }, { re.find("hello, 1234", "([0-9])([0-9]+)", "jo", nil, 2) })
    ctx = { pos = 1 }
    local words = {}
    while true do
      local word = re.match("a bc d", "\\w+", "", ctx)
      if not word then break end
      words[#words + 1] = word[0] .. ctx.pos
    end
    assert.same({ "a2", "bc5", "d7" }, words)
    local all = {}
    for match in re.gmatch("hello, world!", "([a-z]+)", "i") do all[#all + 1] = match[1] end
    assert.same({ "hello", "world" }, all)
    assert.same({ "hello, [12][1]34", 1 }, { re.sub("hello, 1234", "([0-9])[0-9]", "[$0][$1]") })
    assert.same({ "hello, 100234", 1 }, { re.sub("hello, 1234", "[0-9]", "${0}00") })
    assert.same({ "hello, $234", 1 }, { re.sub("hello, 1234", "[0-9]", "$$") })
    assert.same({ "h-e-llo", 2 }, { re.gsub("hello", "h|e", function(found) return found[0] .. "-" end) })
    assert.same({ "-a-b-", 3 }, { re.gsub("ab", "", "-") })
    assert.same({ { "hello", "world" } }, { re.match("hello, world", "(?<named>\\w+), (?<named>\\w+)", "D").named })
    assert.is_nil(re.match("Hello", "^hello$"))
    assert.equal("Hello", re.match("Hello", "^hello$", "i")[0])
    assert.equal("é", re.match("é", "^.$", "u")[0])
    raises(function() re.match("a", "a", "!") end, 'unknown flag "!"')
  end)

  it("codecs", function()
    local function hex(data) return (data:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
    assert.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", hex(ngx.sha1_bin ""))
    assert.equal("5d41402abc4b2a76b9719d911017c592", ngx.md5 "hello")
    assert.equal(907060870, ngx.crc32_long "hello")
    assert.equal("fbdb1d1b18aa6c08324b7d64b71fb76370690e1d", hex(ngx.hmac_sha1("", "")))
    for _, text in ipairs { "", "f", "fo", "foo", "foob", ("\0\255"):rep(100) } do
      assert.equal(text, ngx.decode_base64(ngx.encode_base64(text)))
      assert.equal(text, ngx.decode_base64(ngx.encode_base64(text, true)))
    end
    assert.is_nil(ngx.decode_base64 "a")
    assert.is_nil(ngx.decode_base64 "ab!d")
    assert.equal("a%20b%2Fc%3F~", ngx.escape_uri "a b/c?~")
    assert.equal("a b/c?", ngx.unescape_uri "a+b%2fc%3F")
    assert.same({ a = { "1", "2" }, b = true, c = "x y" }, ngx.decode_args "a=1&b&a=2&c=x+y")
    assert.same({ a = "1", b = true }, ngx.decode_args(ngx.encode_args { a = 1, b = true, c = false }))
    assert.equal("Tue, 10 Nov 2026 23:50:13 GMT", ngx.http_time(ngx.parse_http_time "Tue, 10 Nov 2026 23:50:13 GMT"))
  end)

  it("contexts, dictionaries, install", inside(function()
    ngx.ctx.a = 1
    assert.equal(1, ngx.ctx.a)
    assert.is_nil(treadle.go(function() return ngx.ctx.a end):join())
    local d = ngx.shared.things
    assert.is_true(d:set("k", "v", 60))
    assert.equal("v", d:get "k")
    d:set("k", "v", 0.001)
    assert.equal(3, d:incr("n", 1, 2))
    assert.same({ false, "exists", false }, { d:add("n", 1) })
    treadle.sleep(0.012)
    assert.is_nil(d:get "k")
    assert.equal("timer", ngx.get_phase())
    assert.equal(ngx, ngx.install())
    assert.equal(ngx.semaphore, require "ngx.semaphore")
  end))
end)

