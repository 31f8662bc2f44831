-- TLS: on connections of treadle's own, on cosockets, and with others' programs.
local ffi = require "ffi"
local helper = require "helper"
local servers = require "servers"
local treadle = require "treadle"
local ngx = require "treadle.compat.ngx"

pcall(ffi.cdef, "int shutdown(int fd, int how);")

local inside, raises, shell = helper.inside, helper.raises, helper.shell

describe("TLS", function()
  local certs, config

  setup(function()
    certs = servers.certs()
    config = assert(treadle.tls.config { server = true, cert = certs .. "/server.pem", key = certs .. "/server.key" })
  end)
  teardown(function() shell("rm -rf " .. certs) end)

  local function client(more)
    local options = { ca = certs .. "/ca.pem" }
    for name, value in pairs(more or {}) do options[name] = value end
    return assert(treadle.tls.config(options))
  end

  --- What a closing side says last is lost when it cannot go at once, as with injected faults: then the
  --- other side sees it cut off instead.
  local function told(err, expected)
    return err == "cut off" and os.getenv "TDL_FAULT" and expected or err
  end

  --- A server that answers each line with itself, and its address.
  local function echo(options)
    local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", options or config))
    treadle.go(function()
      for c in l:accepts() do
        treadle.go(function()
          for line in c:lines() do c:write(line, "\n") end
          c:close()
        end)
      end
    end)
    return l, "localhost:" .. l:port()
  end

  --- A listener of a child's: a free port.
  local function free_port()
    local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
    local port = l:port()
    l:close()
    return port
  end

  describe("on a connection", function()
    it("reads, writes, and tells about itself", inside(function()
      local l, address = echo()
      local c = assert(treadle.tls.connect("tcp", address, { config = client(), timeout = 10 }))
      assert.equal(6, c:write "hello\n")
      assert.equal("hello", c:read "l")
      assert.equal(200001, c:write(("x"):rep(200000), "\n"))
      assert.equal(200000, #c:read "l")
      local info = assert(c:tls_info())
      assert.equal("TLSv1.3", info.version)
      assert.equal("CN=localhost,O=treadle", info.subject)
      assert.equal("CN=tests,O=treadle", info.issuer)
      assert.same({ "ok", "", true, false }, { info.verify, info.alpn, info.done, info.resumed })
      assert.truthy(c:peer_cert():find "BEGIN CERTIFICATE")
      assert.equal("", c:tls_error())
      assert.equal(true, c:shutdown "write")
      local none, err, rest = c:read "l"
      assert.same({ nil, "closed", "" }, { none, told(err, "closed"), rest })
      c:close()
      assert.same({ nil, "closed" }, { c:tls_info() })
      l:close()
    end))

    it("begins behind a plain beginning", inside(function()
      local a, b
      do
        local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
        a = assert(treadle.dial("tcp", l:address()))
        b = assert(l:accept())
        l:close()
      end
      a:write "STARTTLS\nignored?"
      treadle.go(function()
        assert.equal("STARTTLS", b:read "l")
        assert.equal("ignored?", b:read(8)) -- else it would count as the peer's TLS
        assert.same({ nil, "no tls" }, { b:handshake() })
        assert.equal(true, b:starttls(config))
        b:write "over TLS\n"
      end)
      assert.equal(true, a:starttls(client(), "localhost"))
      assert.equal("over TLS", a:read "l")
      assert.same({ nil, "already done" }, { a:starttls(client(), "localhost") })
      assert.same({ nil, "not supported" }, { a:release() })
    end))

    --- A client's connection, and the server's end of it; `done`: after the handshake.
    local function both(done)
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      local accepting = treadle.go(function() return l:accept() end)
      local c = assert(treadle.dial("tcp", l:address()))
      local s = assert(accepting:join())
      l:close()
      local shaking = treadle.go(function() return c:starttls(client(), "localhost") end)
      if done then
        assert.is_true(s:handshake())
        assert(shaking:join())
      end
      return c, s
    end

    it("goes to another state and back, in the middle of a stream", inside(function()
      local c, s = both(true)
      c:write "first\n"
      assert.equal("first", s:read "l")
      c:write "one\n"
      local w = treadle.spawn(function(conn)
        conn:write(conn:read "l", " there\n")
        return conn, conn:tls_info().version
      end, s)
      assert.same({ nil, "closed", "" }, { s:read(1) })
      assert.same({ nil, "closed" }, { s:tls_info() })
      raises(function() treadle.shared_chan(1):send(s) end, "tls_spec.lua:%d+: .*cannot be handed over: closed")
      assert.equal("one there", c:read "l")
      local back, version = w:join()
      assert.equal("TLSv1.3", version)
      c:write "two\n"
      assert.equal("two", back:read "l")
      back:close()
      local _, ended = c:read(1)
      assert.equal("closed", told(ended, "closed"))
      c:close()
    end))

    it("is accepted here and served by workers, handshake and all, in tables, too", inside(function()
      local conns = treadle.shared_chan(4)
      local workers = treadle.workers(2, function(_, handed)
        for given in handed:iter() do
          local conn = given.conn
          for line in conn:lines() do conn:write(given.says, line, "\n") end
          conn:close()
        end
      end, conns)
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      treadle.go(function() for conn in l:accepts() do conns:send { conn = conn, says = "echo: " } end end)
      local wg = treadle.waitgroup()
      for i = 1, 8 do
        wg:go(function()
          local c = assert(treadle.tls.connect("tcp", "localhost:" .. l:port(), client()))
          for _ = 1, 20 do
            c:write("line ", i, "\n")
            assert.equal("echo: line " .. i, c:read "l")
          end
          c:close()
        end)
      end
      assert.is_true(wg:wait())
      l:close()
      conns:close()
      assert(workers:join())
    end))

    it("ends properly in a channel where nobody takes it, and stays where it is in use", inside(function()
      local c, s = both(true)
      local ch = treadle.shared_chan(1)
      ch:send(s)
      ch:close()
      ch = nil -- luacheck: ignore 311
      helper.collect()
      local data, err = c:read(1)
      assert.is_nil(data)
      assert.equal("closed", told(err, "closed")) -- and not "cut off"
      c, s = both(true)
      local other = select(2, both(false))
      local reading = treadle.go(function() return s:read "l" end)
      treadle.yield()
      raises(function() treadle.shared_chan(1):send { other, s } end, "cannot be handed over: busy: a goroutine waits in it")
      c:write "still here\n"
      assert.equal("still here", reading:join())
      assert.is_string(other:peername()) -- it was taken back
      other:close()
    end))

    it("and its listener stays in its state: the error says what to do", inside(function()
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      raises(function() treadle.shared_chan(1):send(l) end,
        "tls_spec.lua:%d+: treadle: listener with TLS on 127.0.0.1:%d+ cannot be handed over: it has TLS, .*treadle.tls.listen")
      assert.is_string(l:address())
      raises(function() treadle.shared_chan(1):send((treadle.pipe())) end, "it is a pipe in memory")
    end))

    it("refuses certificates, each with its reason", inside(function()
      local cases = {
        { "server", "other.example", nil, "certificate for another name", "hostname mismatch" },
        { "expired", "localhost", nil, "certificate not trusted", "certificate has expired" },
        { "alone", "localhost", nil, "certificate not trusted", "self%-signed certificate" },
        { "alone", "localhost", { verify = false } },
        { "server", "other.example", { verify = "chain" } },
      }
      for _, case in ipairs(cases) do
        local name, server_name, more, err, why = case[1], case[2], case[3], case[4], case[5]
        local l, address = echo { cert = certs .. "/" .. name .. ".pem", key = certs .. "/" .. name .. ".key" }
        local options = { ca = certs .. "/ca.pem", server_name = server_name, timeout = 10 }
        for k, v in pairs(more or {}) do options[k] = v end
        local c, said, text = treadle.tls.connect("tcp", address, options)
        assert.equal(err, said)
        if err then
          assert.truthy(text:find("^certificate verify failed: " .. why .. " %(127%.0%.0%.1:%d+%)$"), text)
        else
          c:write "hi\n"
          assert.equal("hi", c:read "l")
        end
        l:close()
      end
    end))

    it("does not wait for a server that says nothing, and finds out one that speaks no TLS", inside(function()
      local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
      local _, err = treadle.tls.connect("tcp", l:address(), { timeout = 0.05, verify = false })
      assert.equal("timeout", err)
      l:close()
      l = assert(treadle.listen("tcp", "127.0.0.1:0"))
      treadle.go(function()
        local c = l:accept()
        c:write "HTTP/1.1 400 Bad Request\r\n\r\n"
        c:read "a"
      end)
      local c, said, text = treadle.tls.connect("tcp", l:address(), { verify = false })
      assert.same({ nil, "tls failed" }, { c, said })
      assert.truthy(text:find "wrong version number")
    end))

    it("says when the stream was cut off", inside(function()
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      treadle.go(function()
        local c = l:accept()
        c:write "half a line"
        ffi.C.shutdown(c:fd(), 2)
        c:read "a"
      end)
      local c = assert(treadle.tls.connect("tcp", "localhost:" .. l:port(), client()))
      assert.same({ nil, "cut off", "half a line" }, { c:read "l" })
      assert.same({ nil, "cut off", "" }, { c:read "a" })
    end))

    it("has clients' certificates, protocols, names and versions", inside(function()
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", {
        cert = certs .. "/server.pem", key = certs .. "/server.key", ca = certs .. "/ca.pem", client_cert = "need",
        alpn = { "h2", "http/1.1" }, max_version = "1.2", backlog = 10,
        names = { ["*.wild.example"] = assert(treadle.tls.config {
          server = true, cert = certs .. "/other.pem", key = certs .. "/other.key",
        }) },
      }))
      local seen
      treadle.go(function()
        for c in l:accepts() do
          if c:handshake() then
            seen = c:tls_info()
            c:write "welcome\n"
          end
          c:close()
        end
      end)
      local with = { ca = certs .. "/ca.pem", cert = certs .. "/client.pem", key = certs .. "/client.key", alpn = { "http/1.1" } }
      with.server_name = "a.wild.example"
      local c = assert(treadle.tls.connect("tcp", l:address(), with))
      assert.equal("welcome", c:read "l")
      assert.same({ "a client", "http/1.1", "TLSv1.2", "a.wild.example" },
        { seen.subject:match "CN=([^,]*)", seen.alpn, seen.version, seen.server_name })
      assert.equal("CN=other.example,O=treadle", c:tls_info().subject)
      local none, err = treadle.tls.connect("tcp", l:address(), { ca = certs .. "/ca.pem", server_name = "localhost" })
      assert.is_nil(none)
      assert.equal("tls refused", told(err, "tls refused"))
    end))

    it("resumes a session", inside(function()
      local l, address = echo()
      local mine, session = client(), nil
      for i = 1, 2 do
        local c = assert(treadle.tls.connect("tcp", address, { ca = certs .. "/ca.pem", session = session }))
        c:write "x\n"
        c:read "l"
        assert.equal(i == 2, c:tls_info().resumed)
        session = assert(c:tls_session())
        c:close()
      end
      assert.truthy(mine)
      l:close()
    end))

    it("is served, and parked between requests", inside(function()
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      local address = "localhost:" .. l:port()
      local server = assert(treadle.serve(l, function(c)
        local line = c:read "l"
        if not line then return c:close() end
        c:write("you said ", line, "\n")
      end))
      local c = assert(treadle.tls.connect("tcp", address, client()))
      for i = 1, 3 do
        c:write(i, "\n")
        assert.equal("you said " .. i, c:read "l")
      end
      c:close()
      assert.equal(true, server:shutdown(10))
    end))

    it("refuses bad options", inside(function()
      raises(function() treadle.tls.config { nonsense = 1 } end, "there is no option nonsense")
      raises(function() treadle.tls.config { server = true } end, "a server needs a certificate")
      raises(function() treadle.tls.config { verify = 1 } end, "verify is true, false")
      raises(function() treadle.tls.config { min_version = "7" } end, "min_version is")
      raises(function() treadle.tls.config { cert = 5 } end, "cert is a string")
      raises(function() treadle.tls.listen("tcp", "127.0.0.1:0", client()) end, "the config of a server")
      raises(function() treadle.tls.config { cert = "x", names = { a = client() } } end, "configs of servers")
      local c = assert(treadle.dial("tcp", assert(treadle.listen("tcp", "127.0.0.1:0")):address()))
      raises(function() c:starttls() end, "the server's name is needed")
      assert.same({ nil, "no tls" }, { c:tls_info() })
      assert.same({ nil, "no such file or directory", "ca (/none/such): No such file or directory" },
        { treadle.tls.config { ca = "/none/such" } })
      local _, err, text = treadle.tls.config { cert = certs .. "/server.pem", key = certs .. "/client.key" }
      assert.equal("certificate not trusted", err)
      assert.truthy(text:find "key values mismatch")
      assert.truthy(treadle.tls.library():find "^OpenSSL 3")
    end))

    it("works with openssl's own server, and with curl", inside(function()
      local port = free_port()
      local child = assert(treadle.command({ "openssl", "s_server", "-quiet", "-rev", "-accept", "127.0.0.1:" .. port,
        "-cert", certs .. "/server.pem", "-key", certs .. "/server.key" },
        { stdin = "null", stdout = "null", stderr = "null", kill = true }))
      local c
      for _ = 1, 200 do -- until it listens
        c = treadle.tls.connect("tcp", "localhost:" .. port, client())
        if c then break end
        treadle.sleep(0.05)
      end
      assert(c)
      c:write "drawer\n"
      assert.equal("reward", c:read "l")
      c:close()
      child:kill()
      child:wait()
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      local url = "https://localhost:" .. l:port()
      local server = assert(treadle.serve(l, function(conn)
        if not conn:read_until "\r\n\r\n" then return conn:close() end
        conn:write "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
      end))
      local curl = assert(treadle.command({ "curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", certs .. "/ca.pem", url, url },
        { stdout = "pipe", kill = true }))
      assert.equal("hello\nhello\n", curl.stdout:read "a")
      curl:wait()
      server:close()
    end))
  end)

  describe("of cosockets", function()
    local function connect(port, options)
      local sock = ngx.socket.tcp()
      sock:settimeout(10000)
      assert(sock:connect("127.0.0.1", port, options))
      return sock
    end

    local function echo_port(options)
      local l = echo(options)
      return l:port(), l
    end

    before_each(function() ngx.ssl_settings { trusted_certificate = certs .. "/ca.pem" } end)
    teardown(function() ngx.ssl_settings(nil) end)

    it("is a handshake, once, and then what cosockets do", inside(function()
      local port, l = echo_port()
      local sock = connect(port)
      local session = assert(sock:sslhandshake(nil, "localhost", true))
      assert.is_not_boolean(session)
      assert.equal(6, sock:send "hello\n")
      assert.equal("hello", sock:receive())
      sock:send "a, b;c\n"
      assert.equal("a, b", sock:receiveuntil ";" ())
      assert.equal("c\n", sock:receive(2))
      assert.equal(session, sock:sslhandshake(session, "localhost", true)) -- has been done
      assert.equal(true, sock:sslhandshake(false, "localhost", true))
      assert.equal(1, sock:close())
      assert.same({ nil, "closed" }, { sock:sslhandshake() })
      assert.equal(true, connect(port):sslhandshake(false))
      raises(function() sock:sslhandshake(nil, nil, true, false, 1) end, "expecting 1 ~ 5 arguments .including the object., but seen 6")
      l:close()
    end))

    it("resumes the session of an earlier one", inside(function()
      local port = echo_port()
      local session
      for i = 1, 2 do
        local sock = connect(port)
        session = assert(sock:sslhandshake(session, "localhost", true))
        sock:send "x\n"
        assert.equal("x", sock:receive())
        assert.equal(i == 2, sock.conn:tls_info().resumed)
        sock:close()
      end
    end))

    it("fails with nginx's texts, and closes the socket", inside(function()
      local cases = {
        { "alone", "localhost", "18: self-signed certificate" },
        { "expired", "localhost", "10: certificate has expired" },
        { "server", "other.example", "certificate host mismatch" },
      }
      for _, case in ipairs(cases) do
        local sock = connect((echo_port { cert = certs .. "/" .. case[1] .. ".pem", key = certs .. "/" .. case[1] .. ".key" }))
        assert.same({ nil, case[3] }, { sock:sslhandshake(nil, case[2], true) })
        assert.same({ nil, "closed" }, { sock:send "x" })
        local lax = connect((echo_port { cert = certs .. "/" .. case[1] .. ".pem", key = certs .. "/" .. case[1] .. ".key" }))
        assert.truthy(lax:sslhandshake(nil, case[2])) -- nothing is verified unless it is asked for
        lax:close()
      end
      ngx.ssl_settings(nil) -- and nobody but whom the system trusts
      assert.same({ nil, "20: unable to get local issuer certificate" }, { connect((echo_port())):sslhandshake(nil, "localhost", true) })
    end))

    it("times out, finds out who speaks none, and knows no revocation", inside(function()
      local l = assert(treadle.listen("tcp", "127.0.0.1:0"))
      local sock = connect(l:port())
      sock:settimeout(30)
      assert.same({ nil, "timeout" }, { sock:sslhandshake() })
      assert.same({ nil, "closed" }, { sock:send "x" })
      sock = connect(l:port())
      sock:settimeouts(30, 10000, 10000)
      assert.same({ nil, "timeout" }, { sock:sslhandshake() })
      l:close()
      l = assert(treadle.listen("tcp", "127.0.0.1:0"))
      treadle.go(function()
        local c = l:accept()
        c:write "220 not TLS\r\n"
        c:read "a"
      end)
      assert.same({ nil, "handshake failed" }, { connect(l:port()):sslhandshake() })
      local port = echo_port()
      assert.same({ nil, "no OCSP support" }, { connect(port):sslhandshake(nil, nil, false, true) })
    end))

    it("keeps connections in pools, with what has been agreed on", inside(function()
      local port = echo_port()
      for i = 0, 3 do
        local sock = connect(port, { pool = "tls" })
        assert.equal(i, sock:getreusedtimes())
        assert.truthy(sock:sslhandshake(nil, "localhost", true))
        sock:send "x\n"
        assert.equal("x", sock:receive())
        assert.equal(1, sock:setkeepalive(10000))
      end
      local sock = connect(port, { pool = "tls" })
      sock:send "one\ntwo\n"
      assert.equal("one", sock:receive())
      assert.equal("t", sock:receive(1)) -- the second line has come
      local ok, err = sock:setkeepalive()
      assert.truthy(not ok and (err == "unread data in buffer" or err == "connection in dubious state"))
    end))

    it("serves Debian's redis client with a Redis", inside(function()
      if not servers.have_clients() or not servers.installed "redis-server" then return pending "./dev installs what it needs" end
      ngx.install()
      local redis = require "nginx.redis"
      local port = free_port()
      local server = servers.redis_tls(certs, port)
      for i = 0, 1 do
        local client_ = assert(redis:new())
        client_:set_timeout(10000)
        assert(client_:connect("127.0.0.1", port))
        assert.equal(i, client_:get_reused_times())
        if i == 0 then assert(rawget(client_, "_sock"):sslhandshake(nil, "localhost", true)) end
        assert.equal("OK", client_:set("dog", "an animal"))
        assert.equal("an animal", client_:get "dog")
        client_:init_pipeline()
        for n = 1, 100 do client_:set("key" .. n, ("v"):rep(n * 100)) end
        assert.equal(100, #assert(client_:commit_pipeline()))
        assert.equal(("v"):rep(10000), client_:get "key100")
        assert.equal(1, client_:set_keepalive(10000, 5))
      end
      server:stop()
    end))

    it("serves Debian's WebSocket client, wss and all", inside(function()
      if not servers.have_clients() then return pending "./dev installs what it needs" end
      ngx.install()
      package.loaded["ngx.ssl"] = package.loaded["ngx.ssl"] or {} -- its being there says that there is TLS
      local websocket_server, websocket_client = require "nginx.websocket.server", require "nginx.websocket.client"
      local l = assert(treadle.tls.listen("tcp", "127.0.0.1:0", config))
      treadle.go(function()
        for c in l:accepts() do
          treadle.go(function()
            ngx.serve(c, function()
              local ws = assert(websocket_server:new { timeout = 10000 })
              while true do
                local data, kind = ws:recv_frame()
                if not data or kind == "close" then return end
                ws:send_text("echo " .. data)
              end
            end)
          end)
        end
      end)
      local ws = websocket_client:new { timeout = 10000 }
      assert(ws:connect(("wss://localhost:%d/chat"):format(l:port()), { ssl_verify = true }))
      ws:send_text "hello"
      assert.equal("echo hello", ws:recv_frame())
      ws:close()
    end))
  end)
end)
